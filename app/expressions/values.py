"""What is a value, when is it blank, and how do two values compare?"""

import re
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from app.foundation.partial_dates import days_of

LONGEST_TEXT = 100_000
"""A text that a function would build longer than this becomes blank, so that no expression can fill the memory."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A missing-data code, such as UNK: somebody said why there is no value."""

    code: str


Value = None | bool | Decimal | str | date | datetime | tuple[str, ...] | Missing


class Column(tuple[Any, ...]):
    """The answers to one item in every row of a group: for functions that take many, and blank to everything else."""

    __slots__ = ()


ZERO = Decimal(0)
ONE = Decimal(1)

# Emin 0 and Emax 27 hold every result to 28 digits before and 27 after the point; no traps, so that nothing raises.
NUMBERS = Context(prec=28, rounding=ROUND_HALF_EVEN, Emin=0, Emax=27, clamp=0, flags=[], traps=[])
# Steps inside one function or one chain of operators are taken wider, so that only the result is rounded.
WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN, Emin=-999, Emax=999, clamp=0, flags=[], traps=[])

_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,28}(?:\.[0-9]{0,27})?|\.[0-9]{1,27})").fullmatch
_MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[ T]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6})[0-9]*)?)?)?"
).fullmatch
_DAY_FIRST = re.compile(r"([0-9]{1,2})[-/.]([0-9]{1,2})[-/.]([0-9]{4})").fullmatch
_PLAIN = frozenset({str, type(None), bool, Missing, tuple})


def from_stored(value: object) -> Value:
    """The value that a JSON document keeps: numbers exactly, ISO dates as text, {"missing": code} as a missing code.

    A file is its name, a signature is true.
    A shape that is no value (NaN, another object) is blank.
    """
    if value is None or isinstance(value, bool | Missing):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, float):
        value = Decimal(str(value))
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, date):
        return value
    if isinstance(value, list | tuple):
        return tuple(text_of(from_stored(item)) for item in value if not isinstance(item, list | tuple | dict))
    if isinstance(value, dict) and isinstance(value.get("missing"), str):
        return Missing(value["missing"])
    if isinstance(value, dict) and isinstance(value.get("file"), str):
        return str(value.get("name", ""))
    return (isinstance(value, dict) and isinstance(value.get("signature"), str)) or None


def clean(value: Value) -> Value:
    """A value as a context gave it, made safe to compute with: finite, without a time zone."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is Decimal:
        return value if value.is_finite() else None  # type: ignore[union-attr]
    return from_stored(value)


def result(number: Decimal) -> Value:
    """A computed number within the limits, or blank; without trailing zeros, exponent or minus zero."""
    number = number.normalize(NUMBERS)
    if not number.is_finite():
        return None
    if number == number.to_integral_value():
        return number.quantize(ONE, context=WIDE) if number else ZERO
    return number


def blank(value: Value) -> bool:
    """Whether nothing was answered: no value, empty text, nothing ticked, or a missing-data code."""
    return value is None or (not value and type(value) in (str, tuple)) or type(value) is Missing


def truth(value: Value) -> bool | None:
    """True, false, or None for a blank. Zero and the word false are false; any other value is true."""
    if value is True or value is False:
        return value
    if blank(value):
        return None
    number = number_of(value)
    if number is not None:
        return bool(number)
    return not (isinstance(value, str) and value.lower() == "false")


def number_of(value: Value) -> Decimal | None:
    """The number a value is or looks like (plain digits, no exponent), or None."""
    if type(value) is Decimal:
        return value
    if type(value) is str:
        return Decimal(value) if _NUMBER(value) else None
    if type(value) is bool:
        return ONE if value else ZERO
    return None


def moment_of(value: Value, order: str = "ymd") -> date | datetime | None:
    """The date or date and time a value is or looks like (ISO; or, when `order` says so, 31-12-2026 or 12/31/2026)."""
    if isinstance(value, date):
        return value
    if type(value) is not str:
        return None
    if found := _MOMENT(value):
        year, month, day, hour, minute, second, fraction = found.groups()
    elif order != "ymd" and (found := _DAY_FIRST(value)):
        day, month, year = found.groups() if order == "dmy" else (found[2], found[1], found[3])
        hour = minute = second = fraction = None
    else:
        return None
    try:
        if hour is None:
            return date(int(year), int(month), int(day))
        micro = int((fraction or "0").ljust(6, "0"))
        return datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), micro)  # noqa: DTZ001
    except ValueError:
        return None


def instant_of(moment: date | datetime) -> datetime:
    """A date as its midnight, so that dates and times can be compared."""
    if isinstance(moment, datetime):
        return moment
    return datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001


def span_of(value: Value) -> tuple[datetime, datetime] | None:
    """The first and the last instant a date can mean: of YYYY and YYYY-MM any day within; None for what is no date."""
    moment = moment_of(value)
    if moment is not None:
        at = instant_of(moment)
        return at, at
    days = days_of(value) if type(value) is str else None
    return None if days is None else (instant_of(days[0]), datetime.combine(days[1], time.max))


def text_of(value: Value) -> str:
    """The text of a value: numbers plain without trailing zeros, true as 1, ticked codes with commas, blank as ''."""
    if type(value) is str:
        return value
    if type(value) is Decimal:
        number = NUMBERS.plus(value) or ZERO
        if not number.is_finite():
            return ""
        text = format(number, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if type(value) is bool:
        return "1" if value else "0"
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple):
        return ",".join(value)
    return ""


def same(left: Value, right: Value) -> bool:
    """Whether two values are equal: blanks only to blanks, then as numbers, as dates, as text."""
    if blank(left) or blank(right):
        return blank(left) and blank(right)
    kind = type(left)
    if kind is type(right):
        if left == right:
            return True
        if kind is Decimal:
            return False
    if (a := number_of(left)) is not None and (b := number_of(right)) is not None:
        return a == b
    if (c := moment_of(left)) is not None and (d := moment_of(right)) is not None:
        return instant_of(c) == instant_of(d)
    return text_of(left) == text_of(right)


def order(left: Value, right: Value) -> int | None:
    """-1, 0 or 1 for two numbers, two dates or two texts; None when one is blank or they are of different kinds.

    Of dates that are known in part: only when every day they can mean says the same.
    """
    if type(left) is Decimal and type(right) is Decimal:
        return (left > right) - (left < right)
    if blank(left) or blank(right):
        return None
    a, b = number_of(left), number_of(right)
    if a is not None and b is not None:
        return (a > b) - (a < b)
    c, d = span_of(left), span_of(right)
    if c is not None and d is not None:
        if c == d and c[0] == c[1]:
            return 0
        return -1 if c[1] < d[0] else 1 if c[0] > d[1] else None
    if a is None and b is None and c is None and d is None and isinstance(left, str) and isinstance(right, str):
        return (left > right) - (left < right)
    return None
