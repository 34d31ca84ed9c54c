"""Is this entry right, and is it whole? Skip logic, scores, ranges and edit checks of one filled instrument.

`judge` is pure and total: it answers for any definition and any values, and never raises. Order of things: an item
that is hidden by its skip logic has no value; calculated items follow from what is left, in the order in which they
need each other; then every item that is shown is checked.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from decimal import Context as Arithmetic
from types import MappingProxyType

from app.capture.typed import Unreadable, missing_code, named, read_stored, shortened, stored_number
from app.expressions import Column, Expression, ExpressionError, Missing, Reference, Value, from_stored, parse
from app.participants.rules.files import MEDIA_TYPES
from app.studies.definition import CheckKind, Instrument, Item, ItemType, Study, cell_name, cell_parts

SCREENING = "screening"  # the event of the answers of the pre-screen
NUMERIC = frozenset({ItemType.INTEGER, ItemType.NUMBER, ItemType.SCALE, ItemType.SLIDER, ItemType.CALCULATED})

Answers = Mapping[tuple[str, str], object]
"""Stored values by (event, item)."""


def instance_of(item: str, repeat: int) -> str:
    """Under which name an answer of a form that was filled in again is among `Answers`."""
    return item if repeat == 1 else f"{item}/{repeat}"


def instances_of(instrument: str) -> str:
    """Under which name `Answers` has the numbers of a form that was filled in again at a visit."""
    return f"/{instrument}"


@dataclass(frozen=True)
class Finding:
    """One check of one item that does not hold, and what to do about it."""

    item: str
    rule: str
    message: str
    kind: CheckKind

    @property
    def is_hard(self) -> bool:
        return self.kind is CheckKind.HARD

    @property
    def advice(self) -> str:
        """The message, and what to do when it does not say so itself."""
        return self.message if self.is_hard else f"{self.message} Correct it, or say why it is right."


@dataclass(frozen=True)
class Judgement:
    """What follows from what was answered.

    `values` are what is to be stored: without hidden items, with scores. `reasons` are those that answer a soft
    check; `unexplained` are the items whose soft check still waits for one.
    """

    values: dict[str, object]
    reasons: dict[str, str]
    hidden: frozenset[str]
    problems: tuple[Finding, ...]
    missing_required: tuple[str, ...]
    unexplained: tuple[str, ...]

    @property
    def hard(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.problems if finding.is_hard)

    @property
    def soft(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.problems if not finding.is_hard)

    @property
    def complete(self) -> bool:
        """Nothing hard stands against it, nothing required is blank, and every soft check has its reason."""
        return not (self.missing_required or self.unexplained or self.hard)


def judge(
    study: Study,
    instrument: Instrument,
    visit: str,
    values: Mapping[str, object],
    reasons: Mapping[str, str],
    *,
    answers: Answers,
    today: date,
    now: datetime,
    repeat: int = 1,
    blank: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> Judgement:
    """The judgement on these values of an instrument at a visit; `repeat`: where it is filled in for which time.

    `answers` are the participant's other answers (`capture.reads.answers_of`); `today` and `now` are the wall clock
    at the site. Calculated items among `values` are passed over: they are computed again. `blank` are rows of groups in
    which nothing is answered yet: what is hidden in them is said, and nothing is asked for.
    """
    plan = _plan_of(instrument, visit)
    stored, findings = _readable(plan, values)
    here = {code: from_stored(value) for code, value in stored.items()}
    record = _Record(study, visit, plan, answers, today, now, here, repeat)
    rows = instrument.rows([*stored, *(finding.item for finding in findings)])
    record.rows = {group: sorted({*rows.get(group, ()), *blank.get(group, ())}) for group in instrument.groups}
    hidden = _follow(plan, stored, record)
    record.rows = rows
    missing_codes = {missing.code for missing in study.missing_codes}
    unreadable = {finding.item for finding in findings}
    required, codes = [], []
    for part, row in plan.spots(rows):
        code, record.row = part.item.code, row
        codes.append(code)
        if code in hidden or code in unreadable:
            continue
        if code in stored:
            findings.extend(_allowed(part, stored[code], missing_codes))
        elif part.item.required and part.item.type is not ItemType.CALCULATED:
            required.append(code)
        findings.extend(_checked(part, record))
    soft = {finding.item for finding in findings if not finding.is_hard}
    kept = {code: reason for code in codes if code in soft and (reason := reasons.get(code, "").strip())}
    return Judgement(
        values={code: stored[code] for code in codes if code in stored},
        reasons=kept,
        hidden=frozenset(hidden),
        problems=tuple(sorted(findings, key=lambda finding: plan.place(finding.item))),
        missing_required=tuple(required),
        unexplained=tuple(code for code in codes if code in soft and code not in kept),
    )


def events_needed(instrument: Instrument, visit: str) -> frozenset[str]:
    """The events whose answers this instrument refers to at this visit, beside its own items."""
    return _plan_of(instrument, visit).events


def affected(study: Study, visit: str, items: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The other forms, as (visit, instrument), whose checks, scores or skip logic refer to these items of a visit."""
    ties = _ties_of(study)
    found = dict.fromkeys(spot for item in items for spot in ties.get((visit, item), ()))
    return tuple(found)


def is_tied(study: Study, instrument: Instrument, visit: str) -> bool:
    """Whether this form at this visit and another one are judged together: either refers to the other."""
    if _plan_of(instrument, visit).events - {SCREENING}:
        return True
    ties = _ties_of(study)
    return bool(ties) and any((visit, item.code) in ties for item in instrument.items)


def stale(instrument: Instrument, visit: str, values: Mapping[str, object], judgement: Judgement) -> Iterator[Finding]:
    """What no longer follows, in an entry as it is stored, from the answers of other forms: scores, and skipped items.

    `judgement` is the one made now on these values.
    """
    for part, _ in _plan_of(instrument, visit).spots(instrument.rows(values)):
        code, item = part.item.code, part.item
        if code in judgement.hidden:
            if code in values:
                words = "is not asked any more, because an answer of another form changed. Open this form and save it."
                yield Finding(code, "no_longer_asked", f"{named(item)}: {words}", CheckKind.SOFT)
        elif item.type is ItemType.CALCULATED and values.get(code) != judgement.values.get(code):
            words = "follows from another form that changed, and is not the same any more. Open this form and save it."
            yield Finding(code, "computed", f"{named(item)}: {words}", CheckKind.SOFT)


# What an instrument means, worked out once


@dataclass(frozen=True)
class _Part:
    """An item with its expressions parsed; what cannot be parsed is left out (the study's own rules report it)."""

    item: Item
    shown: Expression | None
    calculation: Expression | None
    checks: tuple[tuple[str, Expression, str, CheckKind], ...]
    choices: frozenset[str]
    group: str | None = None  # the group of rows it is asked in

    def at(self, instrument: Instrument, row: int) -> "_Part":
        """This part in one row: its item has the cell's name."""
        cell = instrument.item(cell_name(self.group or "", row, self.item.code))
        return self if cell is None else replace(self, item=cell)


@dataclass(frozen=True)
class _Plan:
    instrument: Instrument
    parts: tuple[_Part, ...]
    codes: tuple[str, ...]
    by_code: dict[str, _Part]
    order: tuple[_Part, ...]  # the parts with a skip rule or a calculation, each after those that it needs
    places: dict[str, int]
    events: frozenset[str]

    def spots(self, rows: Mapping[str, Sequence[int]]) -> Iterator[tuple["_Part", "_Row"]]:
        """Every part in order, those of a group once for each of these rows."""
        done: set[str] = set()
        for part in self.parts:
            if part.group is None:
                yield part, None
            elif part.group not in done:
                done.add(part.group)
                inside = [each for each in self.parts if each.group == part.group]
                for row in rows.get(part.group, ()):
                    for each in inside:
                        yield each.at(self.instrument, row), (part.group, row)

    def place(self, code: str) -> tuple[int, int, int]:
        """Where an item or a cell stands in the form."""
        parts = cell_parts(code)
        if parts is None or parts[2] not in self.places:
            return self.places.get(code, -1), 0, 0
        first = next((self.places[each.item.code] for each in self.parts if each.group == parts[0]), -1)
        return first, parts[1], self.places[parts[2]]


_Row = tuple[str, int] | None
"""The group and the row an expression is evaluated in, or None."""


# By identity: a definition never changes, and hashing one costs more than judging it. The plan keeps its instrument,
# so that an identity is not given again while it is a key here.
_plans: dict[tuple[int, str], _Plan] = {}
_MOST_PLANS = 1024


def _plan_of(instrument: Instrument, visit: str) -> _Plan:
    key = (id(instrument), visit)
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        plan = _plans[key] = _made_plan(instrument, visit)
    return plan


# By identity as well, and kept with the study for the same reason.
_Ties = dict[tuple[str, str], tuple[tuple[str, str], ...]]
_ties: dict[int, tuple[Study, _Ties]] = {}


def _ties_of(study: Study) -> _Ties:
    """(event, item) -> the forms elsewhere that refer to it, as (visit, instrument)."""
    kept = _ties.get(id(study))
    if kept is None:
        if len(_ties) >= _MOST_PLANS:
            _ties.clear()
        kept = _ties[id(study)] = (study, _made_ties(study))
    return kept[1]


def _made_ties(study: Study) -> _Ties:
    found: dict[tuple[str, str], dict[tuple[str, str], None]] = {}
    for visit in study.visits:
        for form in filter(None, map(study.instrument, visit.instruments)):
            plan = _plan_of(form, visit.code)
            for part in plan.parts:
                expressions = [part.shown, part.calculation, *(check[1] for check in part.checks)]
                for reference in (each for one in expressions if one is not None for each in one.references):
                    if not (_is_here(reference, visit.code) and reference.field in plan.by_code):
                        spot = (reference.event or visit.code, reference.field)
                        found.setdefault(spot, {})[visit.code, form.code] = None
    return {spot: tuple(forms) for spot, forms in found.items()}


def _made_plan(instrument: Instrument, visit: str) -> _Plan:
    parts = tuple(
        replace(_part(item), group=section.code) if section.repeats else _part(item)
        for section in instrument.sections
        for item in section.items
    )
    by_code = {part.item.code: part for part in parts}
    needs: dict[str, set[str]] = {}
    events: set[str] = set()
    for part in parts:
        own = needs.setdefault(part.item.code, set())
        deciding = [expression for expression in (part.shown, part.calculation) if expression is not None]
        for expression in (*deciding, *(check[1] for check in part.checks)):
            for reference in expression.references:
                if _is_here(reference, visit) and reference.field in by_code:
                    if expression in deciding:
                        own.add(reference.field)
                else:
                    events.add(reference.event or visit)
    order = tuple(by_code[code] for code in _sorted(needs) if by_code[code].shown or by_code[code].calculation)
    codes = tuple(by_code)
    places = {code: place for place, code in enumerate(codes)}
    return _Plan(instrument, parts, codes, by_code, order, places, frozenset(events))


def _part(item: Item) -> _Part:
    checks = []
    for position, check in enumerate(item.checks, 1):
        rule = _parsed(check.rule)
        if rule is not None:
            checks.append((f"check_{position}", rule, check.message, check.kind))
    return _Part(
        item=item,
        shown=_parsed(item.shown_if),
        calculation=_parsed(item.calculation) if item.type is ItemType.CALCULATED else None,
        checks=tuple(checks),
        choices=frozenset(choice.code for choice in item.choices),
    )


def _parsed(text: str | None) -> Expression | None:
    if text is None:
        return None
    try:
        return parse(text)
    except ExpressionError:
        return None


def _is_here(reference: Reference, visit: str) -> bool:
    return reference.instance in (None, "current-instance") and reference.event in (None, visit)


def _sorted(needs: Mapping[str, set[str]]) -> list[str]:
    """The codes, each after those it needs; a circle (which no study may have) is cut where it is first met."""
    order: list[str] = []
    met: set[str] = set()
    for first in needs:
        # Depth first without recursion: a code is placed when all it needs has been.
        stack: list[tuple[str, Iterator[str]]] = []
        if first not in met:
            met.add(first)
            stack.append((first, iter(sorted(needs[first]))))
        while stack:
            code, needed = stack[-1]
            following = next((other for other in needed if other not in met), None)
            if following is None:
                order.append(code)
                stack.pop()
            else:
                met.add(following)
                stack.append((following, iter(sorted(needs[following]))))
    return order


# The steps of a judgement


class _Record:
    """What the expressions of one judgement see: this form as it stands, and the participant's other answers."""

    __slots__ = ("_answers", "_plan", "_repeat", "_study", "_visit", "here", "now", "row", "rows", "today")

    def __init__(
        self,
        study: Study,
        visit: str,
        plan: _Plan,
        answers: Answers,
        today: date,
        now: datetime,
        here: dict[str, Value],
        repeat: int,
    ) -> None:
        self._study, self._visit, self._plan, self._answers = study, visit, plan, answers
        self.today, self.now, self.here, self._repeat = today, now, here, repeat
        self.row: _Row = None
        self.rows: Mapping[str, Sequence[int]] = {}

    def value(self, event: str | None, field: str, instance: str | None = None) -> Value:
        event = event or self._visit
        is_here = event == self._visit and field in self._plan.by_code
        number: int | None = self._repeat if is_here else 1
        if instance is not None:
            number = self._number(event, field, instance, is_here=is_here)
        if number is None:
            return None
        if is_here and number == self._repeat:
            group = self._plan.by_code[field].group
            if group is None:
                return self.here.get(field)
            if self.row is not None and self.row[0] == group:
                return self.here.get(cell_name(*self.row, field))
            return Column(self.here.get(cell_name(group, row, field)) for row in self.rows.get(group, ()))
        return from_stored(self._answers.get((event, instance_of(field, number))))

    def _number(self, event: str, field: str, instance: str, *, is_here: bool) -> int | None:
        """Which time is meant, of those that stand; None when there is no such."""
        if instance.isdecimal():
            return int(instance)
        asked = self._plan.instrument if is_here else (self._study.asked_at(event, field) or (None,))[0]
        if asked is None:
            return None
        known = self._answers.get((event, instances_of(asked.code)))
        numbers = set(known) if isinstance(known, list) else {1}
        if is_here:
            numbers.add(self._repeat)
        before = [number for number in numbers if number < self._repeat]
        behind = [number for number in numbers if number > self._repeat]
        match instance:
            case "current-instance":
                return self._repeat
            case "first-instance":
                return min(numbers)
            case "last-instance":
                return max(numbers)
            case "previous-instance":
                return max(before, default=None)
            case "next-instance":
                return min(behind, default=None)
        return None


def _readable(plan: _Plan, values: Mapping[str, object]) -> tuple[dict[str, object], list[Finding]]:
    stored: dict[str, object] = {}
    findings = []
    for code, value in values.items():
        part = _cell_part(plan, code) if "[" in code else plan.by_code.get(code)
        if part is None or (part.group is not None and "[" not in code):
            message = f"{plan.instrument.label} does not ask for this. Take it out."
            findings.append(Finding(shortened(code), "unknown", message, CheckKind.HARD))
            continue
        if part.item.type is ItemType.CALCULATED:
            continue
        if part.group is not None and (too_many := _beyond(plan, code)):
            findings.append(Finding(code, "max_rows", too_many, CheckKind.HARD))
            continue
        try:
            read = read_stored(part.item, value)
        except Unreadable as unreadable:
            message = f"{named(part.item)}: {unreadable.message}"
            findings.append(Finding(code, unreadable.rule, message, CheckKind.HARD))
        else:
            if read is not None:
                stored[code] = read
    return stored, findings


def _cell_part(plan: _Plan, code: str) -> _Part | None:
    parts = cell_parts(code)
    part = plan.by_code.get(parts[2]) if parts is not None and plan.instrument.item(code) is not None else None
    return part.at(plan.instrument, parts[1]) if part is not None and parts is not None else None


def _beyond(plan: _Plan, code: str) -> str | None:
    """Why this row is one too many, or None."""
    group, row, _ = cell_parts(code) or ("", 0, "")
    section = plan.instrument.groups[group]
    if row <= section.most_rows:
        return None
    return f"{section.label or group}: there is room for {section.most_rows} rows. Take this one out."


def _follow(plan: _Plan, stored: dict[str, object], record: _Record) -> set[str]:
    """Hide what is not asked and compute what follows, in `stored` and `record`; answers the hidden items."""
    hidden = set()
    for part, row in _in_order(plan, record.rows):
        code, record.row = part.item.code, row
        if part.shown is not None and not part.shown.holds(record):
            hidden.add(code)
            stored.pop(code, None)
            record.here.pop(code, None)
        elif part.calculation is not None:
            computed = _computed(part.calculation.evaluate(record), part.item.decimals)
            if computed is not None:
                stored[code] = computed
                record.here[code] = from_stored(computed)
    return hidden


def _in_order(plan: _Plan, rows: Mapping[str, Sequence[int]]) -> Iterator[tuple[_Part, _Row]]:
    """The parts that are shown or computed by an expression, each after those it needs, in each row of its group."""
    for part in plan.order:
        if part.group is None:
            yield part, None
            continue
        for number in rows.get(part.group, ()):
            yield part.at(plan.instrument, number), (part.group, number)


def _computed(value: Value, decimals: int | None) -> object:
    """A computed value as it is stored: numbers rounded half away from zero to `decimals`, at most 15 digits."""
    if isinstance(value, Decimal):
        if decimals is not None:
            value = value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP, context=Arithmetic(prec=60))
        exact = stored_number(value)
        return exact if exact is not None else float(format(value, ".15g"))
    if isinstance(value, Missing):
        return {"missing": value.code}
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple):
        return list(value) or None
    return None if value == "" else value


def _allowed(part: _Part, value: object, missing_codes: set[str]) -> Iterator[Finding]:
    item = part.item
    missing = missing_code(value)
    if missing is not None:
        if missing not in missing_codes and item.type is not ItemType.CALCULATED:
            listed = ", ".join(sorted(missing_codes))
            instead = f"Choose one of {listed}." if listed else "Give an answer instead."
            yield _hard(item, "missing_code", f"{missing} is not a reason of this study. {instead}")
    elif item.type in NUMERIC:
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield from _in_range(item, Decimal(repr(value)))
    elif item.type is ItemType.CHOICE:
        if value not in part.choices:
            yield _hard(item, "choices", "choose one of the answers in the list.")
    elif item.type is ItemType.CHOICES:
        if isinstance(value, list) and not part.choices.issuperset(value):
            yield _hard(item, "choices", "choose among the answers in the list.")
    elif item.type is ItemType.FILE and isinstance(value, dict):
        if value["media_type"] not in {MEDIA_TYPES[kind] for kind in item.file_kinds}:
            yield _hard(item, "file", "a file of this kind is not asked for here. Send another one.")
    elif item.type is ItemType.TEXT and isinstance(value, str) and len(value) > item.max_length:
        yield _hard(
            item, "max_length", f"this is {len(value)} characters long. Shorten it to {item.max_length} or fewer."
        )


def _in_range(item: Item, number: Decimal) -> Iterator[Finding]:
    unit = f" {item.unit}" if item.unit else ""
    if item.min is not None and number < item.min:
        yield _hard(
            item, "min", f"{_plain(number)} is below the lowest possible value, {_plain(item.min)}{unit}. Check it."
        )
    elif item.max is not None and number > item.max:
        yield _hard(
            item, "max", f"{_plain(number)} is above the highest possible value, {_plain(item.max)}{unit}. Check it."
        )
    elif item.expected_min is not None and number < item.expected_min:
        yield _soft(item, f"{_plain(number)} is lower than expected (from {_plain(item.expected_min)}{unit}).")
    elif item.expected_max is not None and number > item.expected_max:
        yield _soft(item, f"{_plain(number)} is higher than expected (up to {_plain(item.expected_max)}{unit}).")
    if item.decimals is not None and item.type is ItemType.NUMBER and number != round(number, item.decimals):
        few = {0: "write it with no decimals.", 1: "write it with one decimal at most."}
        yield _hard(item, "decimals", few.get(item.decimals, f"write it with {item.decimals} decimals at most."))


def _checked(part: _Part, record: _Record) -> Iterator[Finding]:
    for rule, expression, message, kind in part.checks:
        if expression.holds(record) is False:
            yield Finding(part.item.code, rule, message, kind)


def _hard(item: Item, rule: str, message: str) -> Finding:
    return Finding(item.code, rule, f"{named(item)}: {message}", CheckKind.HARD)


def _soft(item: Item, message: str) -> Finding:
    return Finding(item.code, "expected", f"{named(item)}: {message}", CheckKind.SOFT)


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
