"""What does a stored value say? In the words of the study: labels instead of codes, days as a language writes them."""

from collections.abc import Iterable
from datetime import date
from decimal import Decimal

from app.capture.typed import missing_code
from app.rendering import day, translations
from app.studies.definition import Instrument, Item, ItemType, MissingCode


def said(item: Item, value: object, missing_codes: Iterable[MissingCode] = (), language: str = "en") -> str:
    """A stored value in words: labels instead of codes, dates as this language writes them, '' when blank."""
    gettext = translations(language).gettext
    if value is None:
        return ""
    missing = missing_code(value)
    if missing is not None:
        return next((each.label for each in missing_codes if each.code == missing), missing)
    if isinstance(value, bool):
        return str(gettext("Yes") if value else gettext("No"))
    choices = {choice.code: choice.label for choice in item.choices}
    if isinstance(value, list):
        return ", ".join(choices.get(str(code), str(code)) for code in value)
    if item.type is ItemType.DATE:
        try:
            return day(date.fromisoformat(str(value)), language)
        except ValueError:
            return str(value)
    if isinstance(value, float):
        return _plain(Decimal(repr(value)))
    return choices.get(str(value), str(value)) if item.type is ItemType.CHOICE else str(value)


def _plain(number: Decimal) -> str:
    return format(number, "f")


def title_of(form: Instrument, repeat: int, *, short: bool = False) -> str:
    """What a form is called on a page: with its number where it repeats."""
    label = (form.short or form.label) if short else form.label
    return f"{label} {repeat}" if form.repeats or repeat > 1 else label
