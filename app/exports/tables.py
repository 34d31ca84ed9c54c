"""What is in a table? Its columns, from every version of the study, and how stored values become cells. Pure."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from operator import itemgetter
from typing import Any

from app.audit.rules import SEALED, is_sealed
from app.capture.coding.rules import State as TextState
from app.capture.double.reads import Agreement
from app.capture.double.rules import Chosen
from app.capture.double.rules import State as PairState
from app.capture.queries.rules import Closing, Origin, State
from app.exports.dummy import dummy_codes
from app.exports.named import SAS, SPSS, STATA, names
from app.participants.in_error.rules import LABELS
from app.participants.status import Status
from app.safety.deviations.rules import GRADES, Rule
from app.safety.deviations.rules import State as DeviationState
from app.safety.events.rules import Action, Criterion, Outcome
from app.safety.events.rules import State as EventState
from app.safety.logs.rules import How, Result
from app.schedule.status import VisitStatus
from app.studies.definition import Choice, Instrument, Item, ItemType, Study, Visit, cell_parts

Cell = str | int | float | bool | date | datetime | None
Row = tuple[Cell, ...]
Pairs = tuple[tuple[str, str], ...]

MISSING = "missing"
CODE, TERM = " code", " term"  # after an item's code: what its text is coded as; no item code holds a blank
BETWEEN = "|"  # stands between the codes of one answer; no code can hold it


class ColumnType(StrEnum):
    """What stands in the cells of a column."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    YES_NO = "yes_no"  # true or false
    CHOICE = "choice"  # the code of one choice
    FLAG = "flag"  # 1 when this choice was ticked, 0 when others were
    DATE = "date"  # YYYY-MM-DD
    TIME = "time"  # HH:MM
    INSTANT = "instant"  # YYYY-MM-DDTHH:MM:SS.ffffffZ, in UTC
    CALCULATED = "calculated"  # computed by the server when the entry was saved
    PARTIAL_DATE = "partial_date"  # YYYY, YYYY-MM or YYYY-MM-DD
    MISSING = "missing_code"  # the code that says why there is no answer
    STORED = "as_stored"  # depends on the item of the row


@dataclass(frozen=True)
class Column:
    """One column: its name in the file, and what the codebook says of it.

    `is_dated`: text that is a day, of which a part may not be known, or a day with its time. `was_dated`: an item that
    an earlier version of the study asked as such, so that a text in it may be one.
    """

    name: str
    label: str
    type: ColumnType = ColumnType.TEXT
    unit: str | None = None
    minimum: int | float | None = None
    maximum: int | float | None = None
    choices: Pairs = ()
    calculation: str | None = None
    shown_if: str | None = None
    missing_codes: Pairs = ()
    source: str | None = None
    is_dated: bool = False
    was_dated: bool = False


@dataclass(frozen=True)
class Table:
    """A table: `row` says in words what one row is; `rows` can be read once, and reads only as it is asked.

    `reopened` gives the same table of the same snapshot anew, for what has to read it twice. `instrument` is the form
    whose entries its rows are of, where they are of one.
    """

    name: str
    label: str
    row: str
    columns: tuple[Column, ...]
    rows: Iterator[Row]
    reopened: Callable[[], "Table"] | None = None
    instrument: str | None = None

    def again(self) -> "Table":
        """The same table, unread."""
        assert self.reopened is not None, f"{self.name} can be read once"
        return self.reopened()


YES_NO: Pairs = (("true", "Yes"), ("false", "No"))
FLAG: Pairs = (("1", "Ticked"), ("0", "Not ticked"))

TYPES = {
    ItemType.CHOICE: ColumnType.CHOICE,
    ItemType.YES_NO: ColumnType.YES_NO,
    ItemType.INTEGER: ColumnType.INTEGER,
    ItemType.SCALE: ColumnType.INTEGER,
    ItemType.SLIDER: ColumnType.INTEGER,
    ItemType.NUMBER: ColumnType.NUMBER,
    ItemType.DATE: ColumnType.DATE,
    ItemType.TIME: ColumnType.TIME,
    ItemType.DATE_TIME: ColumnType.TEXT,
    ItemType.TEXT: ColumnType.TEXT,
    ItemType.FILE: ColumnType.TEXT,
    ItemType.SIGNATURE: ColumnType.TEXT,
    ItemType.CALCULATED: ColumnType.CALCULATED,
    ItemType.CHOICES: ColumnType.TEXT,
}


DAYS = frozenset({ItemType.DATE, ItemType.DATE_TIME})

# What the versions of a study have in common


@dataclass(frozen=True)
class Plan:
    """Everything any version of the study ever asked, the version in use first: so that no older entry is left out."""

    visits: tuple[Visit, ...]
    instruments: Mapping[str, Instrument]
    items: Mapping[str, tuple[Item, ...]]
    screening: tuple[str, ...]
    forms: Mapping[str, tuple[str, ...]]
    criteria: Pairs
    consents: Pairs
    missing_codes: Pairs
    failure_reasons: Pairs
    withdrawal_levels: Pairs
    terms: Pairs
    severities: Pairs
    relatedness: Pairs
    deviation_categories: Pairs
    repeating: frozenset[str]
    groups: Mapping[str, Mapping[str, tuple[str, tuple[Item, ...]]]]
    has_double_entry: bool = False
    has_coding: bool = False
    codes_events: bool = False
    dated: frozenset[tuple[str, str]] = frozenset()
    """Instrument and code of the items, also of groups, that are a day or a moment in any version."""

    def once(self) -> tuple[str, ...]:
        """Those of them that are filled in once at a visit, in every version of the study."""
        return tuple(code for code in self.entered() if code not in self.repeating)

    def entered(self) -> tuple[str, ...]:
        """The instruments that are filled in at visits."""
        planned = {code for codes in self.forms.values() for code in codes}
        return tuple(code for code in self.instruments if code in planned)


def plan_of(versions: Sequence[Study]) -> Plan:
    """What these versions ask; the first one is the version in use, whose labels and order come first."""
    instruments: dict[str, Instrument] = {}
    for version in versions:
        for instrument in version.instruments:
            instruments.setdefault(instrument.code, instrument)
    visits: dict[str, Visit] = {}
    forms: dict[str, list[str]] = {}
    for version in versions:
        for visit in version.visits:
            visits.setdefault(visit.code, visit)
            forms.setdefault(visit.code, []).extend(visit.instruments)
    places = {code: place for place, code in enumerate(instruments)}
    return Plan(
        visits=tuple(visits.values()),
        instruments=instruments,
        items={code: _items(versions, code) for code in instruments},
        screening=tuple(dict.fromkeys(version.eligibility.instrument for version in versions)),
        forms={
            code: tuple(sorted(dict.fromkeys(forms[code]), key=lambda one: places.get(one, len(places))))
            for code in forms
        },
        criteria=_first((one.code, one.label) for version in versions for one in version.eligibility.criteria),
        consents=_first((one.code, one.label) for version in versions for one in version.consent.optional),
        missing_codes=_first((one.code, one.label) for version in versions for one in version.missing_codes),
        failure_reasons=_first((one.code, one.label) for version in versions for one in version.screen_failure_reasons),
        withdrawal_levels=_first((one.code, one.label) for version in versions for one in version.withdrawal_levels),
        terms=_first((one.code, one.label) for version in versions for one in version.safety.terms),
        severities=_first((one.code, one.label) for version in versions for one in version.safety.severity),
        relatedness=_first((one.code, one.label) for version in versions for one in version.safety.relatedness),
        deviation_categories=_first((one.code, one.label) for version in versions for one in version.safety.deviations),
        has_double_entry=any(version.has_double_entry for version in versions),
        has_coding=any(version.has_coding for version in versions),
        codes_events=any(version.safety.coding is not None for version in versions),
        groups={code: _groups(versions, code) for code in instruments},
        repeating=frozenset(one.code for version in versions for one in version.instruments if one.repeats),
        dated=frozenset(
            (instrument.code, item.code)
            for version in versions
            for instrument in version.instruments
            for item in (*instrument.items, *(item for group in instrument.groups.values() for item in group.items))
            if item.type in DAYS
        ),
    )


def narrowed(plan: Plan, *, instruments: Sequence[str] = (), visits: Sequence[str] = ()) -> Plan:
    """The plan with these instruments and visits alone; none given: with all. What was asked at screening stays."""

    def kept(code: str) -> bool:
        return not instruments or code in instruments

    return replace(
        plan,
        visits=tuple(visit for visit in plan.visits if not visits or visit.code in visits),
        instruments={code: found for code, found in plan.instruments.items() if kept(code) or code in plan.screening},
        forms={
            visit: tuple(code for code in codes if kept(code))
            for visit, codes in plan.forms.items()
            if not visits or visit in visits
        },
    )


def _first(pairs: Iterable[tuple[str, str]]) -> Pairs:
    found: dict[str, str] = {}
    for code, label in pairs:
        found.setdefault(code, label)
    return tuple(found.items())


def _groups(versions: Sequence[Study], instrument: str) -> dict[str, tuple[str, tuple[Item, ...]]]:
    """The groups of rows of an instrument in every version: their label, and their items as `_items` has them."""
    defined = [found for version in versions if (found := version.instrument(instrument)) is not None]
    codes = dict.fromkeys(code for each in defined for code in each.groups)
    return {
        code: (
            next(each.groups[code].label or code for each in defined if code in each.groups),
            _merged(each.groups[code].items for each in defined if code in each.groups),
        )
        for code in codes
    }


def _items(versions: Sequence[Study], instrument: str) -> tuple[Item, ...]:
    """The items of an instrument in every version: as last defined, with every choice there ever was."""
    return _merged(form.items for version in versions if (form := version.instrument(instrument)) is not None)


def _merged(lists: Iterable[tuple[Item, ...]]) -> tuple[Item, ...]:
    found: dict[str, Item] = {}
    for items in lists:
        for item in items:
            known = found.setdefault(item.code, item)
            codes = {choice.code for choice in known.choices}
            added: tuple[Choice, ...] = tuple(choice for choice in item.choices if choice.code not in codes)
            if added:
                found[item.code] = known.model_copy(update={"choices": (*known.choices, *added)})
    return tuple(found.values())


# Items in wide tables


def missing_in(value: object) -> str | None:
    """The code of {"missing": CODE}; None for an answer."""
    return str(value[MISSING]) if isinstance(value, dict) and MISSING in value else None


def levels_cell(stored: str | None) -> str | None:
    """Levels by factor, kept as JSON, as one cell: site=SYD|pain=low."""
    return BETWEEN.join(f"{code}={level}" for code, level in json.loads(stored).items()) if stored else None


def stored_cell(value: object) -> Cell:
    """An answer as one cell: codes of a list with | between them, everything else as it is stored.

    Of a file its name, of a signature whether it was drawn or typed: what is sealed stays in the house.
    """
    if isinstance(value, list):
        return BETWEEN.join(map(str, value))
    if isinstance(value, dict):
        named = value.get("name") if "file" in value else value.get("how")
        return None if named is None else str(named)
    if value is None:
        return None
    assert isinstance(value, str | int | float)
    return value


@dataclass(frozen=True)
class Field:
    """An item in a wide table: one column (or one per choice), and one for the missing code when the study has any."""

    item: Item
    missing: bool
    was_dated: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        return tuple(choice.code for choice in self.item.choices) if self.item.type is ItemType.CHOICES else ()

    def columns(self, prefix: str, label: str, source: str, missing_codes: Pairs) -> list[Column]:
        """The columns of this item; `prefix` and `label` say where it stands."""
        item = self.item
        name = f"{prefix}{item.code}"
        words = f"{label}{item.label}"
        shared = {"shown_if": item.shown_if, "missing_codes": missing_codes, "source": source}
        if self.flags:
            columns = [
                Column(f"{name}__{choice.code}", f"{words}: {choice.label}", ColumnType.FLAG, choices=FLAG, **shared)  # type: ignore[arg-type]
                for choice in item.choices
            ]
        else:
            column = item_column(item, source, missing_codes)
            columns = [replace(column, name=name, label=f"{label}{column.label}", was_dated=self.was_dated)]
        columns += [
            Column(f"{name}__{part}", f"{words}: {what}", type_, shown_if=item.shown_if, source=source)
            for part, what, type_ in SEALED_PARTS.get(item.type, ())
        ]
        if item.coding is not None:
            columns.append(
                Column(f"{name}__code", f"{words}: what it is coded as, once that is settled", source=source)
            )
            columns.append(Column(f"{name}__term", f"{words}: the term of that code", source=source))
        if self.missing:
            why = f"{words}: why there is no answer"
            columns.append(Column(f"{name}__missing", why, ColumnType.MISSING, choices=missing_codes, source=source))
        return columns

    def cells(self, value: object, coded: Sequence[object] = (None, None)) -> list[Cell]:
        """What stands in those columns for a stored value, or None when nothing was answered."""
        code = missing_in(value)
        cells: list[Cell]
        if flags := self.flags:
            if value is None or code is not None or not _is_of(value, flags):
                cells = [None] * len(flags)
            else:
                ticked = set(map(str, value if isinstance(value, list) else [value]))
                cells = [int(choice in ticked) for choice in flags]
        else:
            cells = [stored_cell(value)]
        if self.item.coding is not None:
            cells += [stored_cell(each) for each in coded]
        for part, _, _ in SEALED_PARTS.get(self.item.type, ()):
            key = "file" if self.item.type is ItemType.FILE and part == "sha256" else part
            key = "signature" if self.item.type is ItemType.SIGNATURE else key
            cells.append(value.get(key) if isinstance(value, dict) else None)
        if self.missing:
            cells.append(code)
        return cells


def _is_of(value: object, flags: Sequence[str]) -> bool:
    """Whether an answer says which choices were ticked: one of a time when something else was asked does not."""
    return isinstance(value, list) or str(value) in flags


SEALED_PARTS: Mapping[ItemType, tuple[tuple[str, str, ColumnType], ...]] = {
    ItemType.FILE: (
        ("size", "bytes of the file", ColumnType.INTEGER),
        ("sha256", "SHA-256 of the file", ColumnType.TEXT),
    ),
    ItemType.SIGNATURE: (("sha256", "SHA-256 of what is kept sealed", ColumnType.TEXT),),
}
"""What an export says of something that is kept sealed, beside its name or how it was given."""
PARTIAL = "a date of which the month or the day may be missing: YYYY, YYYY-MM or YYYY-MM-DD"
WRITTEN = {
    (ItemType.DATE, "year"): PARTIAL,
    (ItemType.DATE, "month"): "a date of which the day may be missing: YYYY-MM or YYYY-MM-DD",
    (ItemType.DATE_TIME, "day"): "YYYY-MM-DDTHH:MM by the clock of the site",
}
"""How a value is written that is neither a whole date nor a time: as text, for nobody to guess the rest of it."""


def item_column(item: Item, source: str, missing_codes: Pairs) -> Column:
    """What the codebook says of one item."""
    choices: Pairs = tuple((choice.code, choice.label) for choice in item.choices)
    written = WRITTEN.get((item.type, item.precision))
    return Column(
        item.code,
        f"{item.label}; {written}" if written else item.label,
        ColumnType.TEXT if written else TYPES[item.type],
        unit=item.unit,
        minimum=_number(item.min),
        maximum=_number(item.max),
        choices=YES_NO if item.type is ItemType.YES_NO else choices,
        calculation=item.calculation,
        shown_if=item.shown_if,
        missing_codes=missing_codes,
        source=source,
        is_dated=written is not None,
    )


def _number(value: Decimal | None) -> int | float | None:
    if value is None:
        return None
    return int(value) if value == value.to_integral_value() else float(value)


@dataclass(frozen=True)
class Form:
    """An instrument in a wide table: its fields, in order."""

    instrument: str
    label: str
    source: str
    fields: tuple[Field, ...]
    missing_codes: Pairs

    def columns(self, prefix: str = "", label: str = "") -> list[Column]:
        """The columns of every field."""
        return [
            column for field in self.fields for column in field.columns(prefix, label, self.source, self.missing_codes)
        ]

    def cells(self, values: Mapping[str, object]) -> Sequence[Cell]:
        """The cells of every field, for the stored values of one entry (none: an empty mapping).

        A million entries go through here: plain values are found and put into place in one go, and only the others are
        looked at one by one. `Field.cells` says the same of one field.
        """
        if self.is_special:
            return self._one_by_one(values)
        codes, several, nothing, whys, pick = self._layout
        found: list[Any] = list(map(values.get, codes))
        beside = nothing
        for place, first, flags in several:
            value = found[place]
            if value is not None and missing_in(value) is None and _is_of(value, flags):
                if beside is nothing:
                    beside = nothing.copy()
                ticked = value if isinstance(value, list) else [str(value)]
                beside[first : first + len(flags)] = [int(flag in ticked) for flag in flags]
                found[place] = None
        if not PLAIN.issuperset(map(type, found)):
            if beside is nothing:
                beside = nothing.copy()
            for place, value in enumerate(found):
                if isinstance(value, dict | list):
                    found[place] = stored_cell(value)
                    if whys[place] is not None:
                        beside[whys[place]] = missing_in(value)
        cells: Sequence[Cell] = pick(found + beside)
        return cells

    def _one_by_one(self, values: Mapping[str, object]) -> list[Cell]:
        """The same, of each field alone: for forms with files, signatures or coded texts, which have cells beside."""
        return [
            cell
            for field in self.fields
            for cell in field.cells(
                values.get(field.item.code), (values.get(field.item.code + CODE), values.get(field.item.code + TERM))
            )
        ]

    @cached_property
    def is_special(self) -> bool:
        """Whether it has files, signatures or coded texts, which have cells beside their own."""
        return any(field.item.coding is not None or field.item.type in SEALED_PARTS for field in self.fields)

    @cached_property
    def _layout(self) -> tuple[Any, ...]:
        """What `cells` needs of the fields.

        Their codes; the fields with a cell per choice (place, where their cells begin, choices); as many empty cells as
        stand beside the values; of each field, which of those says why there is no answer; and how to pick from values
        and cells beside them what stands in the columns, in order.
        """
        several: list[tuple[int, int, tuple[str, ...]]] = []
        whys: list[int | None] = []
        order: list[int] = []
        count, wide = len(self.fields), 0
        for place, field in enumerate(self.fields):
            if flags := field.flags:
                several.append((place, wide, flags))
                order.extend(range(count + wide, count + wide + len(flags)))
                wide += len(flags)
            else:
                order.append(place)
            whys.append(wide if field.missing else None)
            if field.missing:
                order.append(count + wide)
                wide += 1
        codes = tuple(field.item.code for field in self.fields)
        return codes, tuple(several), [None] * wide, whys, _picker(order)


PLAIN = frozenset({str, int, float, bool, type(None)})


def _picker(order: Sequence[int]) -> Callable[[Sequence[Cell]], Sequence[Cell]]:
    """How to pick cells from these places; `itemgetter` alone gives no sequence for one place or none."""
    return itemgetter(*order) if len(order) > 1 else lambda cells: [cells[place] for place in order]


def form_of(plan: Plan, instrument: str) -> Form:
    """One instrument as wide columns."""
    defined = plan.instruments[instrument]
    return Form(
        instrument, defined.label, defined.source, _fields(plan, instrument, plan.items[instrument]), plan.missing_codes
    )


def _fields(plan: Plan, instrument: str, items: Iterable[Item]) -> tuple[Field, ...]:
    return tuple(
        Field(item, bool(plan.missing_codes), item.type not in DAYS and (instrument, item.code) in plan.dated)
        for item in items
    )


def named_once(columns: Iterable[Column]) -> tuple[Column, ...]:
    """The columns with names that differ: a second one of the same name becomes name_2."""
    taken: set[str] = set()
    kept = []
    for column in columns:
        name, count = column.name, 1
        while name in taken:
            count += 1
            name = f"{column.name}_{count}"
        taken.add(name)
        kept.append(column if name == column.name else replace(column, name=name))
    return tuple(kept)


# The columns that are not items

PARTICIPANT = Column("participant", "Participant code")
SITE = Column("site", "Site code")
STATUS = Column(
    "status",
    "Where the participant stands",
    ColumnType.CHOICE,
    choices=tuple((one.value, one.value.replace("_", " ").capitalize()) for one in Status),
)
ARM = Column("arm", "Arm")
# The same name, so that a programme runs on the unblinded file unchanged; its values say that they are none.
DUMMY_ARM = Column(
    "arm",
    "DUMMY arm, drawn by chance to write programmes with; says nothing of the arm a participant is in",
    ColumnType.CHOICE,
)


def dummy_arm_column(groups: int) -> Column:
    """The column of dummy arms, with as many of them as the study has groups."""
    return replace(
        DUMMY_ARM, choices=tuple((code, f"Dummy group {n}") for n, code in enumerate(dummy_codes(groups), start=1))
    )


RANDOMISED_IN_ERROR = Column(
    "randomised_in_error",
    "Why they should not have been randomised, or not so, as recorded last; the allocation stays as it is",
    ColumnType.CHOICE,
    choices=tuple((reason.value, label) for reason, label in LABELS.items()),
)
STUDY_VERSION = Column("study_version", "Version of the study it was entered under")
ENTRY = (
    Column(
        "entry_status",
        "How far the entry is",
        ColumnType.CHOICE,
        choices=(("partial", "Answers are missing"), ("complete", "Complete")),
    ),
    Column("entry_version", "How often the entry was saved", ColumnType.INTEGER),
    Column("saved_at", "When the entry was last saved", ColumnType.INSTANT),
    Column("signed_at", "When the entry was signed", ColumnType.INSTANT),
    STUDY_VERSION,
)


REPEAT = Column(
    "repeat",
    "The how-manieth time the form was filled in at the visit; entered in error is left out, so it may skip",
    ColumnType.INTEGER,
)


def repeat_columns(plan: Plan) -> tuple[Column, ...]:
    """The number of a repeat, in tables of all forms: only where the study has forms that repeat."""
    return (REPEAT,) if plan.repeating else ()


def visit_column(plan: Plan) -> Column:
    """The visit, with the visits of the plan as its choices."""
    return Column(
        "visit", "Visit", ColumnType.CHOICE, choices=tuple((visit.code, visit.label) for visit in plan.visits)
    )


def instrument_column(plan: Plan) -> Column:
    """The instrument, with those that are filled in at visits as its choices."""
    choices = tuple((code, plan.instruments[code].label) for code in plan.entered())
    return Column("instrument", "Instrument", ColumnType.CHOICE, choices=choices)


def participant_columns(plan: Plan, *, arm: Column | None = None) -> tuple[Column, ...]:
    """One row per participant."""
    return (
        PARTICIPANT,
        SITE,
        *((arm,) if arm else ()),
        STATUS,
        Column("screened_on", "Date of screening", ColumnType.DATE),
        Column("consented_on", "Date of complete consent", ColumnType.DATE),
        Column("randomised_on", "Date of randomisation", ColumnType.DATE),
        Column("withdrawn_on", "Date of withdrawal", ColumnType.DATE),
        Column("withdrawal_level", "How far they withdrew", ColumnType.CHOICE, choices=plan.withdrawal_levels),
        Column("withdrawal_reason", "Why they withdrew"),
        Column("treatment_stopped_on", "Date on which treatment was stopped", ColumnType.DATE),
        Column("treatment_stopped_reason", "Why treatment was stopped"),
        RANDOMISED_IN_ERROR,
        Column("stratum_should_be", "The stratum as it should have been, by factor; the allocation stays as it is"),
    )


def visit_columns(plan: Plan) -> tuple[Column, ...]:
    """One row per visit that has dates."""
    kinds = tuple((kind, kind.capitalize()) for kind in dict.fromkeys(visit.kind.value for visit in plan.visits))
    return (
        PARTICIPANT,
        SITE,
        visit_column(plan),
        Column("kind", "Kind of visit", ColumnType.CHOICE, choices=kinds),
        Column("target_on", "When it is due", ColumnType.DATE),
        Column("opens_on", "First day of its window", ColumnType.DATE),
        Column("closes_on", "Last day of its window", ColumnType.DATE),
        Column(
            "status",
            "What became of it",
            ColumnType.CHOICE,
            choices=tuple((one.value, one.value.replace("_", " ").capitalize()) for one in VisitStatus),
        ),
        Column("held_on", "When it was held", ColumnType.DATE),
        Column("reason", "Why it was missed, outside its window or the plan, or entered in error"),
    )


def long_columns(plan: Plan) -> tuple[Column, ...]:
    """One row per answer."""
    return (
        PARTICIPANT,
        SITE,
        visit_column(plan),
        instrument_column(plan),
        *repeat_columns(plan),
        Column("item", "Item; look it up under its instrument"),
        Column("value", f"The answer as stored; codes of a list with {BETWEEN} between them", ColumnType.STORED),
        Column("missing_code", "Why there is no answer", ColumnType.MISSING, choices=plan.missing_codes),
        Column("reason", "Why an unusual answer was accepted"),
        *ENTRY,
    )


def query_columns(plan: Plan) -> tuple[Column, ...]:
    """One row per query."""
    return (
        PARTICIPANT,
        SITE,
        Column("query", "Number of the query", ColumnType.INTEGER),
        visit_column(plan),
        instrument_column(plan),
        *repeat_columns(plan),
        Column("item", "Item; look it up under its instrument"),
        Column(
            "origin",
            "Who raised it",
            ColumnType.CHOICE,
            choices=tuple((one.value, one.value.replace("_", " ").capitalize()) for one in Origin),
        ),
        Column("rule", "The check that raised it"),
        Column(
            "state",
            "Where it stands",
            ColumnType.CHOICE,
            choices=tuple((one.value, one.value.capitalize()) for one in State),
        ),
        Column("question", "What was asked"),
        Column("answer", "What was answered last"),
        Column("raised_at", "When it was raised", ColumnType.INSTANT),
        Column("changed_at", "When something was last said or done", ColumnType.INSTANT),
        Column("closed_at", "When it was closed", ColumnType.INSTANT),
        Column(
            "closing",
            "How it was closed",
            ColumnType.CHOICE,
            choices=((Closing.CLOSED.value, "By a person"), (Closing.CORRECTED.value, "By a correction")),
        ),
    )


def _entered_where(plan: Plan) -> tuple[Column, ...]:
    return (
        PARTICIPANT,
        SITE,
        visit_column(plan),
        instrument_column(plan),
        Column("item", "Item; look it up under its instrument"),
    )


def answer_cells(value: object) -> tuple[Cell, Cell]:
    """An answer, and the code that says why there is none."""
    return stored_cell(value), missing_in(value)


def double_columns(plan: Plan) -> tuple[Column, ...]:
    """One row per answer that two people entered."""

    def answer(name: str, label: str) -> tuple[Column, Column]:
        return (
            Column(name, f"{label}, as stored", ColumnType.STORED),
            Column(
                f"{name}__missing",
                f"{label}: why there is no answer",
                ColumnType.MISSING,
                choices=plan.missing_codes,
            ),
        )

    return (
        *_entered_where(plan),
        Column("state", "Where the form stands", ColumnType.CHOICE, choices=_said(PairState)),
        *answer("first", "What the first person entered"),
        *answer("second", "What the second person entered"),
        Column("agrees", "Whether both entered the same", ColumnType.YES_NO, choices=YES_NO),
        Column("chosen", "Which of them stands", ColumnType.CHOICE, choices=_said(Chosen)),
        *answer("settled", "What was settled"),
        Column("why", "Why it was settled so"),
        Column("first_at", "When it was first entered", ColumnType.INSTANT),
        Column("second_at", "When it was entered the second time", ColumnType.INSTANT),
    )


def coding_columns(plan: Plan) -> tuple[Column, ...]:
    """One row per text that is coded."""
    event = (Column("event", "Number of the adverse event whose term it is", ColumnType.INTEGER),)
    return (
        *_entered_where(plan),
        *(event if plan.codes_events else ()),
        Column("text", "The text"),
        Column("dictionary", "What it is coded with"),
        Column("dictionary_version", "Version of the dictionary"),
        Column("state", "Where it stands", ColumnType.CHOICE, choices=_said(TextState)),
        Column("first_code", "What the first coder chose; empty until every coder has chosen"),
        Column("second_code", "What the second coder chose"),
        Column("code", "What it is coded as"),
        Column("term", "The term of that code, as it read on that day"),
        Column("why", "Why it was settled so, where the coders differed"),
        Column("created_at", "When the text was saved", ColumnType.INSTANT),
        Column("reconciled_at", "When it was settled", ColumnType.INSTANT),
        Column("outdated_at", "When the text was changed, so that this does not stand any more", ColumnType.INSTANT),
    )


def agreement_columns(plan: Plan) -> tuple[Column, ...]:
    """One row per item that two people entered or coded."""
    kinds = (("double_entry", "Two entries of a form"), ("coding", "Two codings of a text"))
    figures = [
        Column(name, label, ColumnType.NUMBER, minimum=-1, maximum=1)
        for of, words in (("kappa", "Cohen's kappa"), ("weighted_kappa", "Kappa with linear weights"))
        for name, label in (
            (of, words),
            (f"{of}_low", f"{words}: lower end of its 95 % confidence interval"),
            (f"{of}_high", f"{words}: upper end of its 95 % confidence interval"),
        )
    ]
    return (
        Column("kind", "What was done twice", ColumnType.CHOICE, choices=kinds),
        instrument_column(plan),
        Column("item", "Item; look it up under its instrument"),
        Column("site", "Site code; empty for all sites together"),
        Column("compared", "How often it was done twice", ColumnType.INTEGER),
        Column("agreeing", "How often both were the same", ColumnType.INTEGER),
        Column("percent", "Agreement", ColumnType.NUMBER, unit="%", minimum=0, maximum=100),
        *figures,
    )


def agreement_row(kind: str, each: Agreement) -> Row:
    """How far two people agree on one item; six decimals say more than is known."""
    figures: list[Cell] = []
    for found in (each.kappa, each.weighted):
        figures += [round(one, 6) for one in (found.value, found.low, found.high)] if found else [None] * 3
    percent = round(each.percent, 6)
    return (
        kind,
        each.instrument or None,
        each.item,
        each.site or None,
        each.compared,
        each.agreeing,
        percent,
        *figures,
    )


def consent_columns(plan: Plan) -> tuple[Column, ...]:
    """One row per consent. Signatures and names stay in the house.

    `option__X` is what was signed. `option_now__X` and `option_since__X` are how it stands for the participant today,
    as signed last or taken back since, beside every consent that holds; beside others they are empty.
    """
    return named_once(
        (
            PARTICIPANT,
            SITE,
            Column("document_version", "Version of the consent document"),
            Column("language", "Language of the document"),
            Column("document_sha256", "SHA-256 of the document, byte for byte"),
            Column(
                "method",
                "How it was signed",
                ColumnType.CHOICE,
                choices=(("on_screen", "On screen"), ("paper", "On paper"), ("by_link", "By link")),
            ),
            Column("signed_on", "When the participant signed", ColumnType.DATE),
            Column("recorded_at", "When it was recorded", ColumnType.INSTANT),
            Column("countersigned_at", "When it was countersigned", ColumnType.INSTANT),
            Column("withdrawn_on", "When it was withdrawn", ColumnType.DATE),
            Column("refused_at", "When it was refused: recorded wrongly, and no consent", ColumnType.INSTANT),
            Column("refused_why", "Why it was refused"),
            STUDY_VERSION,
            *(Column(f"option__{code}", label, ColumnType.YES_NO, choices=YES_NO) for code, label in plan.consents),
            *(
                column
                for code, label in plan.consents
                for column in (
                    Column(f"option_now__{code}", f"{label}: today", ColumnType.YES_NO, choices=YES_NO),
                    Column(f"option_since__{code}", f"{label}: since", ColumnType.DATE),
                )
            ),
        )
    )


def _said(codes: Iterable[str]) -> Pairs:
    """Our own codes, with the words they are made of as labels."""
    return tuple((code, code.replace("_", " ").capitalize()) for code in map(str, codes))


def event_columns(plan: Plan) -> tuple[Column, ...]:
    """One row per adverse event, as its newest report and judgement say; blinded, whoever reported it."""
    criteria = tuple(
        Column(f"serious__{code}", f"Serious because of: {label.casefold()}", ColumnType.FLAG, choices=FLAG)
        for code, label in _said(Criterion)
    )
    coded = (
        Column("term__code", "What the term is coded as, once that is settled and while it reads so"),
        Column("term__term", "The term of that code, as it read on that day"),
    )
    return (
        PARTICIPANT,
        SITE,
        Column("number", "Number of the event", ColumnType.INTEGER),
        Column("state", "How far it is judged and reviewed", ColumnType.CHOICE, choices=_said(EventState)),
        Column("term", "What happened, in words"),
        *(coded if plan.codes_events else ()),
        Column("code", "Term of the study's list", ColumnType.CHOICE, choices=plan.terms),
        Column("onset", f"When it began, {PARTIAL}", ColumnType.PARTIAL_DATE),
        Column("ended", f"When it ended, {PARTIAL}; empty while it goes on", ColumnType.PARTIAL_DATE),
        Column("severity", "How severe it is", ColumnType.CHOICE, choices=plan.severities),
        Column("serious", "Whether it is serious (ICH E2A)", ColumnType.YES_NO, choices=YES_NO),
        *criteria,
        Column("action", "What was done with the study treatment", ColumnType.CHOICE, choices=_said(Action)),
        Column("outcome", "What became of it", ColumnType.CHOICE, choices=_said(Outcome)),
        Column("narrative", "What happened, in order"),
        Column("relatedness", "Whether it is related, judged blinded", ColumnType.CHOICE, choices=plan.relatedness),
        Column("expected", "Whether it was expected, as judged", ColumnType.YES_NO, choices=YES_NO),
        Column("version", "How many reports there are of it", ColumnType.INTEGER),
        Column("reported_at", "When it was first reported", ColumnType.INSTANT),
        Column("serious_since", "Since when the site knew that it is serious", ColumnType.INSTANT),
    )


def deviation_columns(plan: Plan) -> tuple[Column, ...]:
    """One row per deviation, of those too that do not stand any more."""
    return (
        PARTICIPANT,
        SITE,
        Column("number", "Number of the deviation", ColumnType.INTEGER),
        Column("category", "Kind of deviation", ColumnType.CHOICE, choices=plan.deviation_categories),
        Column("grade", "How grave it is", ColumnType.CHOICE, choices=_said(GRADES)),
        Column("occurred_on", "When it happened", ColumnType.DATE),
        Column("what", "What happened"),
        Column("action", "What was done about it"),
        Column("state", "Where it stands", ColumnType.CHOICE, choices=_said(DeviationState)),
        Column(
            "rule", "By which rule the system found it; empty when a person did", ColumnType.CHOICE, choices=_said(Rule)
        ),
        Column("reported_at", "When it was written down", ColumnType.INSTANT),
        Column("signed_at", "When an investigator signed it off", ColumnType.INSTANT),
    )


def contact_columns() -> tuple[Column, ...]:
    """One row per attempt to be in touch."""
    return (
        PARTICIPANT,
        SITE,
        Column("number", "Number of the contact", ColumnType.INTEGER),
        Column("at", "When it was tried", ColumnType.INSTANT),
        Column("how", "How", ColumnType.CHOICE, choices=_said(How)),
        Column("result", "What came of it", ColumnType.CHOICE, choices=_said(Result)),
        Column("note", "Note"),
    )


def care_columns() -> tuple[Column, ...]:
    """One row per line of care beside the trial."""
    return (
        PARTICIPANT,
        SITE,
        Column("number", "Number of the line", ColumnType.INTEGER),
        Column("treatment", "Which treatment"),
        Column("began", f"From when, {PARTIAL}", ColumnType.PARTIAL_DATE),
        Column("ended", f"To when, {PARTIAL}; empty while it goes on", ColumnType.PARTIAL_DATE),
        Column("indication", "What it is for"),
    )


def audit_columns() -> tuple[Column, ...]:
    """One row per entry of the log that is about a participant; `position` is its place there, from 0."""
    return (
        PARTICIPANT,
        SITE,
        Column("position", "Place of the entry in the log", ColumnType.INTEGER),
        Column("at", "When it was done", ColumnType.INSTANT),
        Column("username", "Who did it"),
        Column("role", "As what"),
        Column("via", "By which way"),
        Column("action", "What was done"),
        Column("subject", "To what"),
        Column("item", "To which item or property"),
        Column("old", f"What stood there before; {SEALED} where the log itself does not say it"),
        Column("new", f"What stands there since; {SEALED} where the log itself does not say it"),
        Column("why", "The reason that was given"),
    )


def audit_cell(action: str, text: str | None) -> Cell:
    """A value of the log as a cell: a text as it is, anything else as JSON."""
    if text is None or is_sealed(action, text):
        return None if text is None else SEALED
    said = json.loads(text)
    return said if isinstance(said, str) else text


def screening_columns(plan: Plan) -> tuple[Column, ...]:
    """One row per pre-screen, of the eligible and of the failures."""
    return named_once(
        (
            PARTICIPANT,
            SITE,
            Column("screened_at", "When the participant was screened", ColumnType.INSTANT),
            Column("corrected_at", "When the answers were corrected last", ColumnType.INSTANT),
            STUDY_VERSION,
            Column("eligible", "Whether every criterion was met", ColumnType.YES_NO, choices=YES_NO),
            Column(
                "failure_reason",
                "Why not: a reason of the study, or the criteria that were not met with commas between them",
                choices=plan.failure_reasons,
            ),
            *(
                Column(f"criterion__{code}", f"Criterion met: {label}", ColumnType.YES_NO, choices=YES_NO)
                for code, label in plan.criteria
            ),
            *(
                column
                for code in plan.screening
                if code in plan.instruments
                for column in form_of(plan, code).columns()
            ),
        )
    )


def instrument_columns(plan: Plan, instrument: str, *, arm: Column | None = None) -> tuple[Column, ...]:
    """One row per entry of one instrument."""
    repeat = (REPEAT,) if instrument in plan.repeating else ()
    head = (PARTICIPANT, SITE, *((arm,) if arm else ()), visit_column(plan), *repeat, *ENTRY)
    return named_once((*head, *form_of(plan, instrument).columns()))


ROW = Column("row", "The number of the row; one that was taken out is left out, so it may skip", ColumnType.INTEGER)


def group_form(plan: Plan, instrument: str, group: str) -> Form:
    """The items of a group as wide columns."""
    label, items = plan.groups[instrument][group]
    fields = _fields(plan, instrument, items)
    return Form(instrument, label, plan.instruments[instrument].source, fields, plan.missing_codes)


def group_columns(plan: Plan, instrument: str, group: str, *, arm: Column | None = None) -> tuple[Column, ...]:
    """One row per row of a group of one instrument."""
    repeat = (REPEAT,) if instrument in plan.repeating else ()
    head = (PARTICIPANT, SITE, *((arm,) if arm else ()), visit_column(plan), *repeat, ROW, *ENTRY)
    return named_once((*head, *group_form(plan, instrument, group).columns()))


def by_visit_columns(plan: Plan, *, arm: Column | None = None) -> tuple[Column, ...]:
    """One row per participant and visit: `instrument__item`, of forms that are filled in once at a visit."""
    head = (PARTICIPANT, SITE, *((arm,) if arm else ()), visit_column(plan))
    forms = [form_of(plan, code) for code in plan.once()]
    return named_once((*head, *(one for form in forms for one in form.columns(f"{form.instrument}__"))))


def by_participant_columns(plan: Plan, *, arm: Column | None = None) -> tuple[Column, ...]:
    """One row per participant: `visit__instrument__item`, of forms that are filled in once at a visit."""
    head = (PARTICIPANT, SITE, *((arm,) if arm else ()), STATUS)
    wide = (
        column
        for visit in plan.visits
        for code in plan.forms[visit.code]
        if code in plan.instruments and code not in plan.repeating
        for column in form_of(plan, code).columns(f"{visit.code}__{code}__", f"{visit.label}: ")
    )
    return named_once((*head, *wide))


CODEBOOK = (
    Column("table", "Table"),
    Column("column", "Column"),
    Column("label", "What it is"),
    Column(
        "type",
        "What stands in its cells",
        ColumnType.CHOICE,
        choices=tuple((one.value, one.value) for one in ColumnType),
    ),
    Column("unit", "Unit"),
    Column("minimum", "Lowest possible value", ColumnType.NUMBER),
    Column("maximum", "Highest possible value", ColumnType.NUMBER),
    Column("choices", f"Its values, as code=label with {BETWEEN} between them"),
    Column("calculation", "How it is computed"),
    Column("shown_if", "When it is asked"),
    Column("missing_codes", f"Reasons why it may be empty, as code=label with {BETWEEN} between them"),
    Column("source", "Where items and scoring come from"),
    Column("spss_name", "Name of the variable in .sav files"),
    Column("stata_name", "Name of the variable in .dta files"),
    Column("sas_name", "Name of the variable in .xpt files"),
)


def codebook_rows(table: str, columns: Sequence[Column]) -> Iterator[Row]:
    """The columns of one table, described."""
    asked = [column.name for column in columns]
    called = zip(*(names(asked, rules) for rules in (SPSS, STATA, SAS)), strict=True)
    for column, known in zip(columns, called, strict=True):
        yield (*_codebook_row(table, column), *known)


def _codebook_row(table: str, column: Column) -> Row:
    return (
        table,
        column.name,
        column.label,
        column.type.value,
        column.unit,
        column.minimum,
        column.maximum,
        _listed(column.choices),
        column.calculation,
        column.shown_if,
        _listed(column.missing_codes),
        column.source,
    )


def _listed(pairs: Pairs) -> str | None:
    return f" {BETWEEN} ".join(f"{code}={label}" for code, label in pairs) or None


ArmOf = Callable[[int], str | None]
Arms = Mapping[int, str] | ArmOf


def arm_of(arms: Arms | None) -> ArmOf | None:
    """How to look up an arm by participant id, when somebody who may know handed over the arms."""
    return arms.get if isinstance(arms, Mapping) else arms


def item_order(plan: Plan, instrument: str) -> dict[str, int]:
    """Item code -> its place in the instrument."""
    return {item.code: place for place, item in enumerate(plan.items.get(instrument, ()))}


def long_rows(
    head: Row, values: Mapping[str, Any], reasons: Mapping[str, str], tail: Row, order: Mapping[str, int]
) -> Iterator[Row]:
    """The answers of one entry, in the order of its instrument. Items without an answer have no row."""
    for item in sorted(values, key=lambda code: _in_form(code, order)):
        value = values[item]
        yield (*head, item, stored_cell(value), missing_in(value), reasons.get(item), *tail)


def _in_form(code: str, order: Mapping[str, int]) -> tuple[int, str, int, str]:
    """Where an answer stands: an item in its place, the cells of groups behind, row by row."""
    parts = cell_parts(code)
    return (len(order), *parts) if parts else (order.get(code, len(order)), code, 0, "")
