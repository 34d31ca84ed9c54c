"""Which functions can an expression call, and what does each answer?

Every function takes values and gives a value, never raises, and reads neither clock nor record: 'today' and 'now' are
filled in before the call, in the arguments that `Function.dates` names.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal

from app.expressions.values import (
    LONGEST_TEXT,
    ONE,
    WIDE,
    ZERO,
    Missing,
    Value,
    blank,
    instant_of,
    moment_of,
    number_of,
    result,
    span_of,
    text_of,
    truth,
)

UNITS = {
    "y": Decimal("31556952"),  # 365.2425 days
    "M": Decimal("2630016"),  # 30.44 days
    "d": Decimal(86400),
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": ONE,
}
"""Seconds in each unit of datediff."""

DATE_ORDERS = frozenset({"ymd", "mdy", "dmy"})
_SPACES = " \t\r\n\u00a0"
_PLACES = 27


@dataclass(frozen=True, slots=True)
class Function:
    """A function by what it computes, how many arguments it takes (`most` None: any), and which of them are dates."""

    call: Callable[..., Value]
    least: int
    most: int | None
    dates: tuple[int, ...] = ()


def _whole(value: Value) -> int | None:
    """A small whole number, cut off at the point, or None."""
    number = number_of(value)
    return None if number is None or number.copy_abs() > LONGEST_TEXT else int(number)


def _numbers(values: Iterable[Value]) -> list[Decimal] | None:
    """The numbers among the answered values; None when an answer is no number."""
    numbers: list[Decimal] = []
    for value in values:
        if not blank(value):
            number = number_of(value)
            if number is None:
                return None
            numbers.append(number)
    return numbers


def _total(numbers: Iterable[Decimal]) -> Decimal:
    total = ZERO
    for number in numbers:
        total = WIDE.add(total, number)
    return total


def choose(condition: Value, when_true: Value, when_false: Value) -> Value:
    known = truth(condition)
    return None if known is None else when_true if known else when_false


# Dates


def datediff(first: Value, second: Value, unit: Value, *options: Value) -> Value:
    """Time between two dates (a year is 365.2425 d, a month 30.44 d); unsigned unless the last option is true."""
    written = "ymd"
    if options and isinstance(options[0], str) and options[0].lower() in DATE_ORDERS:
        written, options = options[0].lower(), options[1:]
    seconds = UNITS.get(unit) if isinstance(unit, str) else None
    start, end = moment_of(first, written), moment_of(second, written)
    if seconds is None or start is None or end is None:
        return None
    apart = instant_of(end) - instant_of(start)
    difference = WIDE.divide(Decimal(apart // timedelta(microseconds=1)), Decimal(1_000_000))
    if not (options and truth(options[0])):
        difference = difference.copy_abs()
    return result(WIDE.divide(difference, seconds))


def _birthday(born: date, year: int) -> date:
    """The birthday in a year; who was born on 29 February has it on 1 March in other years."""
    try:
        return born.replace(year=year)
    except ValueError:
        return date(year, 3, 1)


def age_at_date(born: Value, on: Value, decimal: Value = None) -> Value:
    """Completed years by the calendar, or with the part of the current year of life; blank before birth."""
    birth, day = moment_of(born), moment_of(on)
    if birth is None or day is None:
        return None
    start, end = instant_of(birth).date(), instant_of(day).date()
    if end < start:
        return None
    years = end.year - start.year - (end < _birthday(start, end.year))
    if not truth(decimal) or start.year + years + 1 > date.max.year:
        return Decimal(years)
    last, following = _birthday(start, start.year + years), _birthday(start, start.year + years + 1)
    return result(WIDE.add(Decimal(years), WIDE.divide(Decimal((end - last).days), Decimal((following - last).days))))


def _part_of_date(part: Callable[[date], int]) -> Callable[[Value], Value]:
    def answer(value: Value) -> Value:
        moment = moment_of(value)
        return None if moment is None else Decimal(part(moment))

    return answer


def _known_part(part: Callable[[date], int]) -> Callable[[Value], Value]:
    """As `_part_of_date`, also of a date known in part: the year of 2024-03, but not its day."""

    def answer(value: Value) -> Value:
        span = span_of(value)
        return None if span is None or part(span[0]) != part(span[1]) else Decimal(part(span[0]))

    return answer


# Numbers


def _rounded(rounding: str) -> Callable[..., Value]:
    def answer(value: Value, places: Value = ZERO) -> Value:
        number, digits = number_of(value), _whole(places)
        if number is None or digits is None or abs(digits) > _PLACES:
            return None
        return result(number.quantize(ONE.scaleb(-digits, context=WIDE), rounding=rounding, context=WIDE))

    return answer


def _of_one_number(compute: Callable[[Decimal], Decimal]) -> Callable[[Value], Value]:
    def answer(value: Value) -> Value:
        number = number_of(value)
        return None if number is None else result(compute(number))

    return answer


def log(value: Value, *base: Value) -> Value:
    """Logarithm to a base, natural without one; blank where there is none."""
    number = number_of(value)
    if number is None or number <= 0:
        return None
    if not base:
        return result(WIDE.ln(number))
    to = number_of(base[0])
    if to is None or to <= 0 or to == 1:
        return None
    return result(WIDE.divide(WIDE.ln(number), WIDE.ln(to)))


def mod(value: Value, divisor: Value) -> Value:
    """Remainder with the sign of the first number."""
    number, by = number_of(value), number_of(divisor)
    return None if number is None or by is None else result(WIDE.remainder(number, by))


def _of_answered(compute: Callable[[list[Decimal]], Decimal]) -> Callable[..., Value]:
    def answer(*values: Value) -> Value:
        numbers = _numbers(values)
        return result(compute(numbers)) if numbers else None

    return answer


def _mean(numbers: list[Decimal]) -> Decimal:
    return WIDE.divide(_total(numbers), Decimal(len(numbers)))


def _median(numbers: list[Decimal]) -> Decimal:
    ordered, middle = sorted(numbers), len(numbers) // 2
    return ordered[middle] if len(numbers) % 2 else _mean(ordered[middle - 1 : middle + 1])


def stdev(*values: Value) -> Value:
    """Sample standard deviation (n - 1); blank with fewer than two answers."""
    numbers = _numbers(values)
    if numbers is None or len(numbers) < 2:
        return None
    mean = _mean(numbers)
    squares = _total(WIDE.multiply(apart, apart) for apart in (WIDE.subtract(number, mean) for number in numbers))
    return result(WIDE.sqrt(WIDE.divide(squares, Decimal(len(numbers) - 1))))


def answered(*values: Value) -> Value:
    """How many are neither blank nor a missing-data code."""
    return Decimal(sum(not blank(value) for value in values))


def prorated_sum(least: Value, *values: Value) -> Value:
    """Sum scaled up by items / answered when at least `least` are answered, else blank."""
    needed, numbers = number_of(least), _numbers(values)
    if needed is None or not numbers or len(numbers) < needed:
        return None
    return result(WIDE.divide(WIDE.multiply(_total(numbers), Decimal(len(values))), Decimal(len(numbers))))


def selected_count(value: Value) -> Value:
    """Number of ticked codes; 0 when the question was answered with none, blank when it was not answered."""
    if isinstance(value, tuple):
        return Decimal(len(value))
    return None if blank(value) else ONE


# Blank, missing, kinds


def isinteger(value: Value) -> Value:
    number = number_of(value)
    return number is not None and number == number.to_integral_value(context=WIDE)


def hasmissingcode(value: Value, *codes: Value) -> Value:
    """Whether the value is one of the missing-data codes, listed with commas or as further arguments."""
    listed = {code.strip(_SPACES) for argument in codes for code in text_of(argument).split(",")}
    return isinstance(value, Missing) and value.code in listed


# Text


def contains(value: Value, part: Value) -> Value:
    """Whether a text holds another, whatever the case; of a multiple choice, whether that code is ticked."""
    wanted = text_of(part).lower()
    if isinstance(value, tuple):
        return any(code.lower() == wanted for code in value)
    return wanted in text_of(value).lower()


def left(value: Value, count: Value) -> Value:
    length = _whole(count)
    return None if length is None or length < 0 else text_of(value)[:length]


def right(value: Value, count: Value) -> Value:
    length, text = _whole(count), text_of(value)
    return None if length is None or length < 0 else text[max(len(text) - length, 0) :]


def mid(value: Value, start: Value, count: Value) -> Value:
    """`count` characters from the `start`-th (the first is 1); blank for a start below 1."""
    first, length = _whole(start), _whole(count)
    if first is None or length is None or first < 1 or length < 0:
        return None
    return text_of(value)[first - 1 : first - 1 + length]


def replace_text(value: Value, old: Value, new: Value) -> Value:
    text, was, becomes = text_of(value), text_of(old), text_of(new)
    if not was:
        return text
    if len(text) + text.count(was) * (len(becomes) - len(was)) > LONGEST_TEXT:
        return None
    return text.replace(was, becomes)


def concat(*values: Value) -> Value:
    return _joined("", [text_of(value) for value in values])


def concat_ws(separator: Value, *values: Value) -> Value:
    return _joined(text_of(separator), [text for text in map(text_of, values) if text])


def _joined(separator: str, texts: list[str]) -> Value:
    if sum(map(len, texts)) + len(separator) * len(texts) > LONGEST_TEXT:
        return None
    return separator.join(texts)


FUNCTIONS: dict[str, Function] = {
    "if": Function(choose, 3, 3),
    "datediff": Function(datediff, 3, 5, dates=(0, 1)),
    "age_at_date": Function(age_at_date, 2, 3, dates=(0, 1)),
    "dayoftheweek": Function(_part_of_date(lambda day: day.isoweekday()), 1, 1, dates=(0,)),
    "year": Function(_known_part(lambda day: day.year), 1, 1, dates=(0,)),
    "month": Function(_known_part(lambda day: day.month), 1, 1, dates=(0,)),
    "day": Function(_part_of_date(lambda day: day.day), 1, 1, dates=(0,)),
    "round": Function(_rounded(ROUND_HALF_UP), 1, 2),
    "roundup": Function(_rounded(ROUND_CEILING), 1, 2),
    "rounddown": Function(_rounded(ROUND_FLOOR), 1, 2),
    "sqrt": Function(_of_one_number(WIDE.sqrt), 1, 1),
    "abs": Function(_of_one_number(WIDE.abs), 1, 1),
    "exponential": Function(_of_one_number(WIDE.exp), 1, 1),
    "log": Function(log, 1, 2),
    "mod": Function(mod, 2, 2),
    "min": Function(_of_answered(min), 1, None),
    "max": Function(_of_answered(max), 1, None),
    "mean": Function(_of_answered(_mean), 1, None),
    "median": Function(_of_answered(_median), 1, None),
    "sum": Function(_of_answered(_total), 1, None),
    "stdev": Function(stdev, 1, None),
    "answered": Function(answered, 1, None),
    "count": Function(answered, 1, None),
    "prorated_sum": Function(prorated_sum, 2, None),
    "selected_count": Function(selected_count, 1, 1),
    "isnumber": Function(lambda value: number_of(value) is not None, 1, 1),
    "isinteger": Function(isinteger, 1, 1),
    "isblankormissingcode": Function(blank, 1, 1),
    "isblanknotmissingcode": Function(lambda value: blank(value) and not isinstance(value, Missing), 1, 1),
    "ismissingcode": Function(lambda value: isinstance(value, Missing), 1, 1),
    "hasmissingcode": Function(hasmissingcode, 2, None),
    "contains": Function(contains, 2, 2),
    "not_contain": Function(lambda value, part: not contains(value, part), 2, 2),
    "starts_with": Function(lambda value, part: text_of(value).lower().startswith(text_of(part).lower()), 2, 2),
    "ends_with": Function(lambda value, part: text_of(value).lower().endswith(text_of(part).lower()), 2, 2),
    "find": Function(lambda part, value: Decimal(text_of(value).lower().find(text_of(part).lower()) + 1), 2, 2),
    "left": Function(left, 2, 2),
    "right": Function(right, 2, 2),
    "mid": Function(mid, 3, 3),
    "length": Function(lambda value: Decimal(len(text_of(value))), 1, 1),
    "trim": Function(lambda value: text_of(value).strip(_SPACES), 1, 1),
    "upper": Function(lambda value: text_of(value).upper(), 1, 1),
    "lower": Function(lambda value: text_of(value).lower(), 1, 1),
    "replace_text": Function(replace_text, 3, 3),
    "concat": Function(concat, 1, None),
    "concat_ws": Function(concat_ws, 2, None),
}

OF_MANY = frozenset({"min", "max", "mean", "median", "sum", "stdev", "answered", "count"})
"""Functions that take the answers of every row of a group, where they are given an item of one."""
