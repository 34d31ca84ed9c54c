"""What was typed, and what is kept of it? Forms post texts and JSON brings values; both become stored values.

Here is asked only whether a value is of its item's kind. Whether it is in range, allowed and complete is asked of
`app.capture.checks`.
"""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from app.foundation.errors import FieldProblem
from app.foundation.languages import decimal_sign
from app.foundation.partial_dates import days_of, ways_to_read
from app.participants.rules.files import LONGEST_FILE_NAME, MEDIA_TYPES
from app.studies.definition import Instrument, Item, ItemType

MISSING = "__missing"
WHY = "__why"
LONGEST_REASON = 2000

# Whole numbers beyond this, and decimals with more digits than a double holds, would come back changed from JSON.
LARGEST_WHOLE = 2**53 - 1
_LONGEST_NUMBER = 40
_FINEST = 20  # places after the point: a finer number would not fit into that length when a form shows it again

_whole = re.compile(r"[+-]?[0-9]+").fullmatch
_decimal = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)").fullmatch
_comma = re.compile(r"[+-]?[0-9]*,[0-9]+").fullmatch
_in_thousands = re.compile(r"[+-]?[1-9][0-9]{0,2}\.[0-9]{3}").fullmatch
_parts = re.compile(r"([0-9]*)(m[0-9]{2})?(d[0-9]{2})?").fullmatch
_written = re.compile(r"[0-9]{4}(?:-[0-9]{2}(?:-[0-9]{2})?)?").fullmatch
_moment = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]((?:[01][0-9]|2[0-3]):[0-5][0-9])(?::00)?").fullmatch
_hash = re.compile(r"[0-9a-f]{64}").fullmatch
_clock = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]").fullmatch
_code = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}").fullmatch

_YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True)
class Typed:
    """What a form said: stored values by item, reasons for soft checks by item, and what cannot be read."""

    values: dict[str, object]
    reasons: dict[str, str]
    problems: list[FieldProblem]


class Unreadable(Exception):
    """A value that is not of its item's kind: the rule it breaks, and what to do next."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message


def parse_typed(instrument: Instrument, form: Mapping[str, list[str]], *, language: str | None = None) -> Typed:
    """What a web form posted: CODE is the answer, CODE__missing why there is none, CODE__why a reason for a check.

    Numbers and dates are read as people of the `language` write them, 70,5 and 3.4.2026 in German; without one only as
    they are stored. Blank answers are no answers. Fields that are not of this instrument, and calculated items, are
    passed over.
    """
    typed = Typed({}, {}, [])
    items = instrument.asked(form)
    codes = {item.code for item in items}
    for item in items:
        try:
            value = _answer(item, form, codes, language)
        except Unreadable as unreadable:
            typed.problems.append(_problem(item, unreadable))
        else:
            if value is not None:
                typed.values[item.code] = value
        try:
            reason = read_reason(_posted(form, item.code + WHY, codes))
        except Unreadable as unreadable:
            typed.problems.append(_problem(item, unreadable, item.code + WHY))
        else:
            if reason:
                typed.reasons[item.code] = reason
    return typed


def typed_form(
    instrument: Instrument,
    values: Mapping[str, object],
    reasons: Mapping[str, str] | None = None,
    *,
    language: str | None = None,
) -> dict[str, list[str]]:
    """The form fields that stand for stored values: what a page in this language shows, `parse_typed` reads back."""
    form: dict[str, list[str]] = {}
    for item in instrument.asked(values):
        value = values.get(item.code)
        if value is None or item.type is ItemType.CALCULATED:
            continue
        missing = missing_code(value)
        if missing is not None:
            form[item.code + MISSING] = [missing]
        elif isinstance(value, bool):
            form[item.code] = ["yes" if value else "no"]
        elif isinstance(value, dict):
            form[item.code] = [json.dumps(value, sort_keys=True, ensure_ascii=False)]
        elif isinstance(value, list):
            form[item.code] = [str(code) for code in value]
        elif isinstance(value, float):
            sign = decimal_sign(language) if language else "."
            form[item.code] = [format(Decimal(repr(value)), "f").replace(".", sign)]
        else:
            form[item.code] = [str(value)]
    for code, reason in (reasons or {}).items():
        form[code + WHY] = [reason]
    return form


def check_stored(instrument: Instrument, values: Mapping[str, object]) -> tuple[dict[str, object], list[FieldProblem]]:
    """The stored values of a JSON document, and what in it is not a value of its item. Nothing is guessed: numbers
    are numbers, and an item that is not asked here, or is calculated, is refused.
    """
    checked: dict[str, object] = {}
    problems: list[FieldProblem] = []
    items = {item.code: item for item in instrument.items}
    for code, value in values.items():
        item = items.get(code) or instrument.item(code)
        if item is None:
            message = f"{instrument.label} has no item “{shortened(code)}”. Take it out."
            problems.append(FieldProblem(shortened(code), "unknown", message))
        elif item.type is ItemType.CALCULATED:
            message = f"{named(item)} is calculated by the server. Take it out."
            problems.append(FieldProblem(code, "calculated", message))
        else:
            try:
                read = read_stored(item, value)
            except Unreadable as unreadable:
                problems.append(_problem(item, unreadable))
            else:
                if read is not None:
                    checked[code] = read
    return checked, problems


def read_stored(item: Item, value: object) -> object:
    """The stored value that a JSON value is, None when it is blank; Unreadable when it is not of the item's kind."""
    if value is None:
        return None
    if isinstance(value, dict):
        code = missing_code(value)
        if code is None and item.type in _SEALED:
            return _SEALED[item.type](value)
        if code is None:
            raise Unreadable("type", 'send a value, or {"missing": CODE} when there is none.')
        return {"missing": code}
    return _read_value(item, value)


def read_reason(texts: list[str]) -> str:
    """A reason as it is kept: trimmed, '' when there is none."""
    reason = _clean_text(" ".join(texts), multiline=True)
    if len(reason) > LONGEST_REASON:
        raise Unreadable("max_length", f"the reason is too long. Use {LONGEST_REASON} characters or fewer.")
    return reason


def missing_code(value: object) -> str | None:
    """The code of a {"missing": CODE}, or None when it is another value."""
    if isinstance(value, dict) and len(value) == 1:
        code = value.get("missing")
        if isinstance(code, str) and _code(code):
            return code
    return None


def named(item: Item) -> str:
    """An item's label as a message begins with it."""
    return shortened(item.label.rstrip(" :?.")) or item.code


def shortened(text: str) -> str:
    """A text short enough to stand in a message."""
    if len(text) <= 80 and text.isprintable():
        return text
    text = "".join(character if character.isprintable() else " " for character in text[:81])
    return text if len(text) <= 80 else text[:79] + "…"


def _problem(item: Item, unreadable: Unreadable, field: str = "") -> FieldProblem:
    return FieldProblem(field or item.code, unreadable.rule, f"{named(item)}: {unreadable.message}")


def _posted(form: Mapping[str, list[str]], name: str, codes: set[str]) -> list[str]:
    # An item may itself be called x__why: then the field is that item's.
    return [] if name in codes else form.get(name, [])


def _answer(item: Item, form: Mapping[str, list[str]], codes: set[str], language: str | None) -> object:
    if item.type is ItemType.CALCULATED:
        return None
    texts = [text for text in form.get(item.code, []) if text.strip()]
    missing = [text.strip() for text in _posted(form, item.code + MISSING, codes) if text.strip()]
    if not missing and texts and _is_in_boxes(item, form.get(item.code, [])):
        return _boxed_date(texts, item.precision, language)
    if not missing:
        return _read_typed(item, texts, language)
    if texts:
        raise Unreadable("both", "there is an answer and a reason why there is none. Take one of them out.")
    if len(missing) > 1 or not _code(missing[0]):
        raise Unreadable("missing_code", "choose one of the reasons in the list.")
    return {"missing": missing[0]}


def _read_typed(item: Item, texts: list[str], language: str | None) -> object:
    if not texts:
        return None
    if item.type is ItemType.CHOICES:
        return _ticked(item, [_clean_text(text) for text in texts])
    if item.type is ItemType.DATE and item.precision != "day" and (parts := date_parts(texts)) is not None:
        return _chosen_date(parts, item.precision)
    if len(texts) > 1:
        raise Unreadable("one", "there are several answers. Give one.")
    text = _clean_text(texts[0], multiline=item.type is ItemType.TEXT and item.multiline)
    if item.type is ItemType.YES_NO:
        if text.lower() not in _YES_NO:
            raise Unreadable("yes_no", "choose yes or no.")
        return _YES_NO[text.lower()]
    if item.type in (ItemType.INTEGER, ItemType.SCALE, ItemType.SLIDER):
        return _typed_whole(text)
    if item.type is ItemType.NUMBER:
        return _typed_number(text, language)
    if item.type is ItemType.DATE and language is not None:
        return _date(_typed_date(text, language), item.precision)
    if item.type in _SEALED:
        return _typed_sealed(item, text)
    return _read_value(item, text)


def _typed_whole(text: str) -> int:
    if not _whole(text):
        raise Unreadable("integer", "write a whole number in digits, such as 12.")
    if len(text) > _LONGEST_NUMBER or abs(int(text)) > LARGEST_WHOLE:
        raise Unreadable("digits", "this number has too many digits. Check it.")
    return int(text)


def _typed_number(text: str, language: str | None) -> int | float:
    if language is not None and decimal_sign(language) == ",":
        if _in_thousands(text):  # a thousand and more to one, one and a bit to another
            whole, with_comma = text.replace(".", ""), text.replace(".", ",")
            raise Unreadable("number", f"this can be read in two ways. Write {whole}, or {with_comma}.")
        text = text.replace(",", ".") if _comma(text) else text
    elif _comma(text):
        raise Unreadable("number", f"write it with a point, {shortened(text).replace(',', '.')}.")
    if not _decimal(text):
        raise Unreadable("number", "write a number in digits, such as 12 or 3.5.")
    number = stored_number(Decimal(text)) if len(text) <= _LONGEST_NUMBER else None
    if number is None:
        raise Unreadable("digits", "this number has too many digits to be kept exactly. Use 15 digits or fewer.")
    return number


def stored_number(number: Decimal) -> int | float | None:
    """The JSON number that is exactly this decimal, or None when there is none."""
    if not number.is_finite() or (number and not -_FINEST <= number.adjusted() <= 16):
        return None
    if number == number.to_integral_value():
        return int(number) if abs(number) <= LARGEST_WHOLE else None
    double = float(number)
    return double if Decimal(repr(double)) == number else None


def _clean_text(text: str, *, multiline: bool = False) -> str:
    """A text trimmed, with plain line ends; control characters are refused (NUL cannot even be kept everywhere)."""
    text = text.strip()
    if text.isprintable():
        return text
    if multiline:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and not (multiline and character in "\n\t"):
            raise Unreadable(
                "control", "there is a character in it that cannot be kept. Type it again instead of pasting it."
            )
    return text


def _read_value(item: Item, value: object) -> object:
    match item.type:
        case ItemType.TEXT:
            return _clean_text(_text(value), multiline=item.multiline) or None
        case ItemType.CHOICE:
            return _clean_text(_text(value)) or None
        case ItemType.CHOICES:
            if not isinstance(value, list | tuple):
                raise Unreadable("type", "send a list of codes.")
            return _ticked(item, [_clean_text(_text(code)) for code in value])
        case ItemType.YES_NO:
            if not isinstance(value, bool):
                raise Unreadable("type", "send true or false.")
            return value
        case ItemType.NUMBER:
            return _number(value)
        case ItemType.INTEGER | ItemType.SCALE | ItemType.SLIDER:
            number = _number(value)
            if not isinstance(number, int):
                raise Unreadable("integer", "send a whole number, such as 12.")
            return number
        case ItemType.FILE:
            raise Unreadable("file", "send the file itself first, then what was answered to it.")
        case ItemType.SIGNATURE:
            raise Unreadable("signature", "send the signature itself first, then what was answered to it.")
        case ItemType.DATE:
            return _date(_text(value), item.precision)
        case ItemType.DATE_TIME:
            return _date_time(_text(value))
        case ItemType.TIME:
            return _time(_text(value))
        case _:
            raise Unreadable("calculated", "this is calculated by the server. Take it out.")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Unreadable("type", "send a text.")
    return value


def _ticked(item: Item, codes: list[str]) -> list[str] | None:
    """Each code once, in the order of the choices; what is not a choice stays behind them, for the checks to name."""
    given = dict.fromkeys(code for code in codes if code)
    known = [choice.code for choice in item.choices if choice.code in given]
    return known + [code for code in given if code not in known] or None


def _number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise Unreadable("type", "send a number.")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unreadable("number", "send a number in digits, such as 12 or 3.5.")
        value = Decimal(repr(value))
    if isinstance(value, int):
        number: int | float | None = value if abs(value) <= LARGEST_WHOLE else None
    else:
        number = stored_number(value)
    if number is None:
        raise Unreadable("digits", "this number has too many digits to be kept exactly. Use 15 digits or fewer.")
    return number


_AS_FAR_AS_KNOWN = {
    "day": "write the date as year-month-day, such as 2026-03-14.",
    "month": "write the date as year-month-day, or as year-month while the day is not known, such as 2026-03.",
    "year": "write the date as year-month-day, or as much of it as is known: 2026-03 or 2026.",
}
_SHORTEST_DATE = {"day": 10, "month": 7, "year": 4}


def date_parts(texts: list[str] | tuple[str, ...]) -> tuple[str, str, str] | None:
    """Year, month and day of a date in the fields of a page that asks for each, '' where it is blank; else None.

    Month and day say which they are, m03 and d14, so that one alone is never taken for the other.
    """
    found = _parts("".join(text.strip() for text in texts))
    if found is None or not (found[2] or found[3]):
        return None
    return found[1], (found[2] or "")[1:], (found[3] or "")[1:]


def _is_in_boxes(item: Item, posted: Sequence[str]) -> bool:
    """Whether a page asked for year, month and day of a date, each in a field of its own."""
    return item.type is ItemType.DATE and item.precision != "day" and len(posted) == len(("year", "month", "day"))


def _boxed_date(texts: list[str], precision: str, language: str | None) -> str | None:
    """A date out of such fields, of which those that are blank are left out; whatever is wrong is said of them."""
    if (parts := date_parts(texts)) is not None:
        return _chosen_date(parts, precision)
    text = _clean_text(texts[0])
    ways = ways_to_read(text, language) if language is not None and len(texts) == 1 and not text.isdecimal() else ()
    return _date(ways[0], precision) if len(ways) == 1 else _chosen_date((text, "", ""), precision)


def _chosen_date(parts: tuple[str, str, str], precision: str) -> str | None:
    year, month, day = parts
    if len(year) != 4 or not (year.isascii() and year.isdecimal()):
        raise Unreadable("date", "write the year in four digits, such as 2026.")
    if day and not month:
        raise Unreadable("date", "choose the month as well, or take the day out.")
    if precision == "month" and not month:
        raise Unreadable("date", "choose the month as well. The day may stay open.")
    date = "-".join(part for part in parts if part)
    if days_of(date) is None:
        raise Unreadable("date", "there is no such day in the calendar. Check the day and the month.")
    return date


def _typed_date(text: str, language: str) -> str:
    """A date as people of the language write it, as it is stored; the text itself where it is none."""
    ways = ways_to_read(text, language)
    if len(ways) > 1:
        raise Unreadable("date", f"this can be read in two ways. Write {ways[0]}, or {ways[1]}: year-month-day.")
    return ways[0] if ways else text


def _date(text: str, precision: str = "day") -> str | None:
    if not text:
        return None
    if not _written(text) or len(text) < _SHORTEST_DATE[precision]:
        raise Unreadable("date", _AS_FAR_AS_KNOWN[precision])
    if days_of(text) is None:
        raise Unreadable("date", f"there is no {text} in the calendar. Check the day and the month.")
    return text


def _date_time(text: str) -> str | None:
    if not text:
        return None
    found = _moment(text)
    if not found:
        raise Unreadable("date_time", "write date and time as year-month-day hours:minutes, such as 2026-03-14 09:30.")
    _date(found[1])
    return f"{found[1]}T{found[2]}"


def _typed_sealed(item: Item, text: str) -> object:
    """What stands in a form for something that is kept sealed: the answer that was given when it was kept, as JSON."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    return _SEALED[item.type](value) if isinstance(value, dict) else _read_value(item, text)


def _file(value: dict[str, object]) -> dict[str, object]:
    name, size = value.get("name"), value.get("size")
    if (
        set(value) != {"file", "name", "size", "media_type"}
        or not _is_hash(value["file"])
        or not (isinstance(name, str) and 0 < len(name) <= LONGEST_FILE_NAME and name.isprintable())
        or not (isinstance(size, int) and not isinstance(size, bool) and size > 0)
        or value["media_type"] not in MEDIA_TYPES.values()
    ):
        raise Unreadable("file", "this is no file that was kept here. Send the file again.")
    return dict(value)


def _signature(value: dict[str, object]) -> dict[str, object]:
    if set(value) != {"signature", "how"} or not _is_hash(value["signature"]) or value["how"] not in ("drawn", "typed"):
        raise Unreadable("signature", "this is no signature that was kept here. Sign again.")
    return dict(value)


_SEALED: dict[ItemType, Callable[[dict[str, object]], dict[str, object]]] = {
    ItemType.FILE: _file,
    ItemType.SIGNATURE: _signature,
}


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and bool(_hash(value))


def _time(text: str) -> str | None:
    if not text:
        return None
    if not _clock(text):
        raise Unreadable("time", "write the time as hours:minutes, such as 09:30 or 14:05.")
    return text
