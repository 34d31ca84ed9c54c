"""What does a stored value say? In the words of the study: labels instead of codes, days as a language writes them."""

from collections.abc import Iterable
from decimal import Decimal

from app.capture.typed import missing_code
from app.foundation.languages import Gettext, decimal_sign, translations
from app.foundation.partial_dates import days_of
from app.rendering import known_day
from app.studies.definition import Instrument, Item, ItemType, MissingCode, Study


def said(item: Item, value: object, missing_codes: Iterable[MissingCode] = (), language: str = "en") -> str:
    """A stored value in words: labels instead of codes, dates and decimals as the language has them, '' when blank."""
    gettext = translations(language).gettext
    if value is None:
        return ""
    missing = missing_code(value)
    if missing is not None:
        return next((each.label for each in missing_codes if each.code == missing), missing)
    if isinstance(value, bool):
        return str(gettext("Yes") if value else gettext("No"))
    if isinstance(value, dict):
        return _said_sealed(value, gettext)
    choices = {choice.code: choice.label for choice in item.choices}
    if isinstance(value, list):
        return ", ".join(choices.get(str(code), str(code)) for code in value)
    if item.type in (ItemType.DATE, ItemType.DATE_TIME):
        return _said_date(str(value), language)
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f").replace(".", decimal_sign(language))
    return choices.get(str(value), str(value)) if item.type is ItemType.CHOICE else str(value)


def _said_date(text: str, language: str) -> str:
    """A date as far as it is known, with its time where it has one, as this language writes it."""
    on, _, at = text.partition("T")
    return f"{known_day(on, language)} {at}".strip() if days_of(on) else text


def _said_sealed(value: dict[str, object], gettext: Gettext) -> str:
    """A file by its name, size and SHA-256; a signature by how it was given and its SHA-256."""
    if "file" in value:
        size = int(str(value.get("size", 0)))
        much = f"{size / 1_000_000:.1f} MB" if size >= 1_000_000 else f"{max(round(size / 1000), 1)} kB"
        return f"{value.get('name')} ({much}, SHA-256 {str(value['file'])[:12]}…)"
    how = gettext("Drawn") if value.get("how") == "drawn" else gettext("Typed")
    return f"{how} (SHA-256 {str(value.get('signature'))[:12]}…)"


def title_of(form: Instrument, repeat: int, *, short: bool = False) -> str:
    """What a form is called on a page: with its number where it repeats."""
    label = (form.short or form.label) if short else form.label
    return f"{label} {repeat}" if form.repeats or repeat > 1 else label


def why_not_taking_part(definition: Study, failure_reason: str | None) -> str:
    """Why somebody does not take part: a reason of the study, or the criteria that were not met."""
    labels = {each.code: each.label for each in definition.screen_failure_reasons}
    labels |= {each.code: each.label for each in definition.eligibility.criteria}
    return ", ".join(labels.get(code.strip(), code.strip()) for code in (failure_reason or "").split(","))
