"""Can these answers of a pre-screen be kept, and what does an expression see of them?"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from app.expressions import Missing, Reference, Value, from_stored, parse
from app.foundation.errors import FieldProblem
from app.foundation.partial_dates import days_of
from app.studies.definition import CheckKind, Item, ItemType, MissingCode

SCREENING = "screening"
"""The event under which the answers of a pre-screen are known to expressions."""

_DAY = re.compile(r"[0-9]{4}(?:-[0-9]{2}(?:-[0-9]{2})?)?").fullmatch
_LENGTHS = {"day": (10,), "month": (10, 7), "year": (10, 7, 4)}
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]").fullmatch

Wrong = tuple[str, str] | None  # the rule that is broken, and what to do


class Answers:
    """The answers to one instrument as an expression sees them.

    A question that is not asked (its `shown_if` does not hold) has no answer, whatever was typed before; a calculated
    item has the value of its calculation.
    """

    def __init__(
        self, items: Iterable[Item], stored: Mapping[str, Any], *, today: date, event: str = SCREENING
    ) -> None:
        self._items = {item.code: item for item in items}
        self._stored = stored
        self._event = event
        self._today = today
        self._values: dict[str, Value] = {}
        self._shown: dict[str, bool] = {}

    @property
    def today(self) -> date:
        return self._today

    @property
    def now(self) -> datetime:
        return datetime.combine(self._today, time.min)

    def value(self, event: str | None, field: str, instance: str | None = None) -> Value:
        item = self._items.get(field)
        if event not in (None, self._event) or item is None or not self.shown(field):
            return None
        if field not in self._values:
            self._values[field] = None  # what a calculation that needs itself would find
            if item.type is ItemType.CALCULATED:
                calculation = item.calculation
                self._values[field] = parse(calculation).evaluate(self) if calculation else None
            else:
                self._values[field] = from_stored(self._stored.get(field))
        return self._values[field]

    def item(self, code: str) -> Item | None:
        """The question with this code."""
        return self._items.get(code)

    def shown(self, code: str) -> bool:
        """Whether the question is asked, given the other answers."""
        if code not in self._shown:
            self._shown[code] = True
            condition = self._items[code].shown_if
            self._shown[code] = condition is None or parse(condition).holds(self) is True
        return self._shown[code]

    def lacking(self, references: Iterable[Reference]) -> tuple[str, ...]:
        """The codes of the questions among these that are asked and not answered; a missing code is no answer."""
        return tuple(dict.fromkeys(code for name in sorted({r.field for r in references}) for code in self._lack(name)))

    def _lack(self, code: str, within: frozenset[str] = frozenset()) -> Sequence[str]:
        item = self._items.get(code)
        if item is None:
            return (code,)
        if code in within or not self.shown(code):
            return ()
        value = self.value(None, code)
        if value is not None and value != "" and not isinstance(value, Missing):
            return ()
        if item.type is not ItemType.CALCULATED:
            return (code,)
        names = sorted({r.field for r in parse(item.calculation).references}) if item.calculation else []
        return [found for name in names for found in self._lack(name, within | {code})] or (code,)

    def kept(self) -> dict[str, Any]:
        """The answers to the questions that are asked, as they are stored."""
        return {
            code: self._stored[code]
            for code, item in self._items.items()
            if item.type is not ItemType.CALCULATED and self._stored.get(code) not in (None, "") and self.shown(code)
        }


def as_stored(answers: Mapping[str, Any]) -> dict[str, Any]:
    """The answers as JSON keeps them: decimals as numbers, texts without surrounding spaces, blanks left out."""
    stored: dict[str, Any] = {}
    for code, value in answers.items():
        if isinstance(value, Decimal) and value.is_finite():
            stored[code] = int(value) if value == value.to_integral_value() else float(value)
        elif isinstance(value, str):
            stored[code] = value.strip()
        else:
            stored[code] = list(value) if isinstance(value, tuple) else value
    return {code: value for code, value in stored.items() if value is not None and value != ""}


def answer_problems(
    items: Sequence[Item], answers: Mapping[str, Any], missing_codes: Iterable[MissingCode] = (), *, today: date
) -> list[FieldProblem]:
    """What keeps these stored values from being kept, at most one problem per question, in the order of the form."""
    codes = [missing.code for missing in missing_codes]
    problems = []
    known = Answers(items, answers, today=today)
    for item in items:
        if item.code not in answers:
            continue
        wrong = _wrong(item, answers[item.code], codes)
        if wrong is None and known.shown(item.code):
            wrong = _check(item, known)
        if wrong is not None:
            problems.append(FieldProblem(item.code, *wrong))
    asked = {item.code for item in items}
    problems += [
        FieldProblem(code, "unknown", f"There is no question “{code}” in the pre-screen. Take it out.")
        for code in answers
        if code not in asked
    ]
    return problems


def _wrong(item: Item, value: Any, missing_codes: Sequence[str]) -> Wrong:
    if item.type is ItemType.CALCULATED:
        return "calculated", f"{item.label} is worked out from the other answers. Leave it out."
    if isinstance(value, dict):
        if set(value) == {"missing"} and value["missing"] in missing_codes:
            return None
        known = ", ".join(missing_codes) or "none in this study"
        return "missing_code", f"{item.label}: use one of the codes for a missing answer ({known})."
    return _BY_TYPE[item.type](item, value)


def _check(item: Item, known: Answers) -> Wrong:
    for check in item.checks:
        if check.kind is CheckKind.HARD and parse(check.rule).holds(known) is False:
            return "check", check.message
    return None


def _choice(item: Item, value: Any) -> Wrong:
    if isinstance(value, str) and value in {choice.code for choice in item.choices}:
        return None
    return "choice", f"{item.label}: choose one of the answers."


def _choices(item: Item, value: Any) -> Wrong:
    codes = {choice.code for choice in item.choices}
    if (
        isinstance(value, list)
        and all(isinstance(code, str) and code in codes for code in value)
        and len(set(value)) == len(value)
    ):
        return None
    return "choices", f"{item.label}: choose among the answers, each at most once."


def _yes_no(item: Item, value: Any) -> Wrong:
    return None if isinstance(value, bool) else ("yes_no", f"{item.label}: answer yes or no.")


def _whole(item: Item, value: Any) -> Wrong:
    if isinstance(value, bool) or not isinstance(value, int):
        return "integer", f"{item.label}: type a whole number."
    return _in_range(item, Decimal(value))


def _number(item: Item, value: Any) -> Wrong:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "number", f"{item.label}: type a number."
    number = Decimal(str(value))
    exponent = number.normalize().as_tuple().exponent
    if item.decimals is not None and isinstance(exponent, int) and -exponent > item.decimals:
        places = f"{item.decimals} decimal" + ("" if item.decimals == 1 else "s")
        return "decimals", f"{item.label}: round to {places if item.decimals else 'a whole number'}."
    return _in_range(item, number)


def _in_range(item: Item, number: Decimal) -> Wrong:
    unit = f" {item.unit}" if item.unit else ""
    if item.min is not None and number < item.min:
        return "min", f"{item.label}: at least {item.min:f}{unit}. Correct it."
    if item.max is not None and number > item.max:
        return "max", f"{item.label}: at most {item.max:f}{unit}. Correct it."
    return None


_WRITTEN = {"day": "YYYY-MM-DD", "month": "YYYY-MM-DD or YYYY-MM", "year": "YYYY-MM-DD, YYYY-MM or YYYY"}


def _date(item: Item, value: Any) -> Wrong:
    if isinstance(value, str) and _DAY(value) and len(value) in _LENGTHS[item.precision]:
        if days_of(value) is None:
            return "date", f"{item.label}: there is no such day. Correct the date."
        return None
    return "date", f"{item.label}: type a date as {_WRITTEN[item.precision]}."


def _date_time(item: Item, value: Any) -> Wrong:
    if isinstance(value, str) and len(value) == 16 and value[10] == "T" and days_of(value[:10]) and _TIME(value[11:]):
        return None
    return "date_time", f"{item.label}: type date and time as YYYY-MM-DDTHH:MM."


def _not_here(item: Item, _: Any) -> Wrong:
    return "type", f"{item.label}: this cannot be kept at screening. Leave it out."


def _time(item: Item, value: Any) -> Wrong:
    return None if isinstance(value, str) and _TIME(value) else ("time", f"{item.label}: type a time as HH:MM.")


def _text(item: Item, value: Any) -> Wrong:
    if not isinstance(value, str) or "\x00" in value:
        return "text", f"{item.label}: type text."
    if len(value) > item.max_length:
        return "max_length", f"{item.label}: shorten the text to {item.max_length} characters."
    return None


_BY_TYPE: dict[ItemType, Callable[[Item, Any], Wrong]] = {
    ItemType.CHOICE: _choice,
    ItemType.CHOICES: _choices,
    ItemType.YES_NO: _yes_no,
    ItemType.INTEGER: _whole,
    ItemType.SCALE: _whole,
    ItemType.NUMBER: _number,
    ItemType.SLIDER: _whole,
    ItemType.DATE: _date,
    ItemType.DATE_TIME: _date_time,
    ItemType.TIME: _time,
    ItemType.TEXT: _text,
    ItemType.FILE: _not_here,
    ItemType.SIGNATURE: _not_here,
}
