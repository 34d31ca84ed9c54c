"""What is a study in the words of these clients? Forms, fields, events and groups, named as they expect. Pure.

Instruments are forms, visits are events (before them stands the pre-screen as one), sites are data access groups, and
there is one arm, always: the arms of the trial are none of these, and stand nowhere here.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Protocol

from app.exports.tables import Pairs, Plan, missing_in, plan_of
from app.studies.definition import Item, ItemType, Study, cell_name, unscheduled_code

ARM_NAME = "Arm 1"
ARM = 1
SCREENING = "screening"
"""The event of the pre-screen, as expressions call it."""
OUTSIDE = "unscheduled"
"""What stands for all visits outside the plan: they are one event, which repeats."""
MOST = 1000
"""More than there are repeats of a form: how a repeat of a repeat is numbered."""
STATUSES = {"0": "Incomplete", "1": "Unverified", "2": "Complete"}
LONGEST_UNIQUE = 18

_reference = re.compile(r"'[^']*'|\"[^\"]*\"|\[[^\[\]]*\](?:\[[^\[\]]*\]){0,2}")
_part = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True)
class Option:
    """One column of a checkbox: the code that is ticked, and the name of the column."""

    code: str
    label: str
    column: str
    is_missing: bool = False


@dataclass(frozen=True)
class Field:
    """One item as a field."""

    name: str
    item: Item
    form: str
    section: str
    options: tuple[Option, ...] = ()

    @property
    def is_checkbox(self) -> bool:
        return self.item.type is ItemType.CHOICES

    @property
    def is_file(self) -> bool:
        return self.item.type.value in ("file", "signature")

    @property
    def is_partial_date(self) -> bool:
        """Whether it is a date of which the day or the month may be missing."""
        return self.item.type is ItemType.DATE and getattr(self.item, "precision", "day") != "day"

    @property
    def is_calculated(self) -> bool:
        return self.item.type is ItemType.CALCULATED

    @property
    def is_number(self) -> bool:
        return self.item.type in (ItemType.NUMBER, ItemType.CALCULATED)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of this field in a flat export."""
        return tuple(option.column for option in self.options) if self.is_checkbox else (self.name,)


@dataclass(frozen=True)
class Form:
    """One instrument as a form."""

    name: str
    label: str
    fields: tuple[Field, ...]
    is_survey: bool
    repeats: bool
    part_of: tuple[str, str] | None = None
    """The instrument and the group of rows that this form stands for; each row is a repeat of it."""

    @property
    def complete(self) -> str:
        """The field that says how far an entry is."""
        return f"{self.name}_complete"

    @property
    def timestamp(self) -> str:
        return f"{self.name}_timestamp"


@dataclass(frozen=True)
class Event:
    """One visit as an event; `visit` is its code, or that of the pre-screen, or of all visits outside the plan."""

    name: str
    label: str
    visit: str
    forms: tuple[str, ...]
    place: int
    repeats: bool = False


def event_id(study: int | str, event: Event) -> int:
    """The number of an event, which no other study has."""
    return int(study) * 1000 + event.place


@dataclass(frozen=True)
class Group:
    """One site as a data access group."""

    id: int
    name: str
    label: str


class Place(Protocol):
    """A site: `people.reads.SiteRow`."""

    @property
    def id(self) -> int: ...
    @property
    def code(self) -> str: ...
    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Project:
    """Everything that has a name for these clients. A code stands in `plan` whatever version of the study had it."""

    plan: Plan
    record_id: str
    forms: tuple[Form, ...]
    events: tuple[Event, ...]
    missing: Pairs

    @cached_property
    def form(self) -> Mapping[str, Form]:
        return {form.name: form for form in self.forms}

    @cached_property
    def place(self) -> Mapping[str, int]:
        """In which place a form stands among all."""
        return {form.name: place for place, form in enumerate(self.forms)}

    @cached_property
    def event(self) -> Mapping[str, Event]:
        """Events by their unique name."""
        return {event.name: event for event in self.events}

    @cached_property
    def event_of_visit(self) -> Mapping[str, Event]:
        return {event.visit: event for event in self.events}

    @cached_property
    def field(self) -> Mapping[str, Field]:
        return {field.name: field for form in self.forms for field in form.fields}

    @cached_property
    def complete(self) -> Mapping[str, Form]:
        """Forms by the name of the field that says how far an entry is."""
        return {form.complete: form for form in self.forms}

    @cached_property
    def option(self) -> Mapping[str, tuple[Field, Option]]:
        """Columns of checkboxes; also under the code as it is written in the study."""
        found: dict[str, tuple[Field, Option]] = {}
        for field in self.field.values():
            for option in field.options:
                found.setdefault(f"{field.name}___{option.code}", (field, option))
        for field in self.field.values():
            found.update({option.column: (field, option) for option in field.options})
        return found

    def form_of(self, name: str) -> str | None:
        """The form that a field stands in, its choice, or its status; None for what is none of these."""
        if name in self.complete:
            return self.complete[name].name
        known = self.option[name][0] if name in self.option else self.field.get(name)
        return known.form if known is not None else None

    @property
    def repeats(self) -> bool:
        """Whether anything repeats."""
        return any(form.repeats for form in self.forms) or any(event.repeats for event in self.events)

    @cached_property
    def screening(self) -> tuple[Form, ...]:
        """The form of the pre-screen, in every version."""
        return tuple(self.form[name] for name in self.events[0].forms)

    @property
    def first_form(self) -> Form:
        """The form that begins with the record's name."""
        return self.forms[0]


_kept: dict[tuple[int, ...], tuple[Sequence[Study], Project]] = {}  # the last number: whether every form is in it
_MOST_KEPT = 64


def project_of(versions: Sequence[Study], *, every_form: bool = False) -> Project:
    """The names of a study, the version in use first. By identity: a definition never changes.

    `every_form` has those as well that are asked nowhere yet: whoever designs a study asks them later.
    """
    key = (*map(id, versions), int(every_form))
    if key not in _kept:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[key] = (tuple(versions), _project(versions, every_form=every_form))
    return _kept[key][1]


def _project(versions: Sequence[Study], *, every_form: bool) -> Project:
    plan = plan_of(versions)
    # In the order of the plan, in which they were designed: instruments stand by their code in a study.
    planned = (code for version in versions for visit in version.visits for code in visit.instruments)
    asked = dict.fromkeys((*plan.screening, *planned))
    outside = (code for version in versions if version.unscheduled for code in version.unscheduled.instruments)
    nowhere = plan.instruments if every_form else ()
    codes = [code for code in dict.fromkeys((*asked, *outside, *nowhere)) if code in plan.instruments]
    record_id = versions[0].record_id
    taken = {record_id, *(f"{code}_complete" for code in codes)}
    forms = []
    for code in codes:
        instrument = plan.instruments[code]
        sections = {section.items[0].code: section.label or "" for section in instrument.sections}
        fields = [_field(item, code, sections.get(item.code, ""), taken, plan) for item in plan.items[code]]
        is_survey = instrument.respondent == "participant"
        forms.append(Form(code, instrument.label, tuple(fields), is_survey, instrument.repeats))
        for group, (label, items) in plan.groups.get(code, {}).items():
            name = _free(f"{code}_{group}", code, taken)
            rows = tuple(_field(item, name, "", taken, plan) for item in items)
            forms.append(Form(name, f"{instrument.label}: {label}", rows, False, True, (code, group)))
    return Project(plan, record_id, tuple(forms), _events(plan, forms, versions), plan.missing_codes)


def _field(item: Item, form: str, section: str, taken: set[str], plan: Plan) -> Field:
    name = _free(item.code, form, taken)
    options = _options(name, item, plan.missing_codes) if item.type is ItemType.CHOICES else ()
    return Field(name, item, form, section, options)


def _free(name: str, form: str, taken: set[str]) -> str:
    """A name that is nobody else's yet: with its form before it where two versions called two things alike."""
    found, number = name, 1
    while found in taken:
        found = f"{form}_{name}" if number == 1 else f"{form}_{name}_{number}"
        number += 1
    taken.add(found)
    return found


def _options(name: str, item: Item, missing: Pairs) -> tuple[Option, ...]:
    taken: set[str] = set()
    options = []
    every = [(choice.code, choice.label, False) for choice in item.choices]
    for code, label, is_missing in [*every, *((code, label, True) for code, label in missing)]:
        column, number = f"{name}___{re.sub('[^a-z0-9]', '_', code.lower())}", 1
        plain = column
        while column in taken:
            number += 1
            column = f"{plain}_{number}"
        taken.add(column)
        options.append(Option(code, label, column, is_missing))
    return tuple(options)


def _events(plan: Plan, forms: Sequence[Form], versions: Sequence[Study]) -> tuple[Event, ...]:
    """The pre-screen, the visits of the plan, and one event for all visits outside it, which repeats."""

    def at(instruments: Iterable[str]) -> tuple[str, ...]:
        asked = set(instruments)
        return tuple(form.name for form in forms if (form.part_of[0] if form.part_of else form.name) in asked)

    found = [("Screening", SCREENING, at(plan.screening))]
    found += [(visit.label, visit.code, at(plan.forms[visit.code])) for visit in plan.visits]
    outside = [version.unscheduled for version in versions if version.unscheduled is not None]
    if outside:
        found.append((outside[0].label, OUTSIDE, at(code for each in outside for code in each.instruments)))
    names = unique_names([label for label, _, _ in found], f"_arm_{ARM}")
    return tuple(
        Event(name, label, visit, at_visit, place, visit == OUTSIDE)
        for place, (name, (label, visit, at_visit)) in enumerate(zip(names, found, strict=True), start=1)
    )


@dataclass(frozen=True)
class Sheet:
    """What an instance is, as the rooms name it: an entry of an instrument at a visit, and a row of a group on it.

    `row` is None where the form is an instrument itself.
    """

    visit: str
    instrument: str
    repeat: int
    group: str = ""
    row: int | None = None

    def code(self, item: str) -> str:
        """The name of an item there: of a group that of the cell in its row."""
        return item if self.row is None else cell_name(self.group, self.row, item)


def instance(repeat: int, row: int | None = None) -> int:
    """The number of an instance: of a row that of its form, and its own behind it."""
    return repeat if row is None else (repeat - 1) * MOST + row


def sheet_of(project: Project, event: Event, form: Form, number: int) -> Sheet | None:
    """Which sheet the instance with this number is; None when there can be none. What `instance` says, read back."""
    whole, row, group = form, None, ""
    if form.part_of is not None:
        whole, group = project.form[form.part_of[0]], form.part_of[1]
        before, behind = divmod(number - 1, MOST)
        number, row = before + 1, behind + 1
    if not event.repeats:
        return Sheet(event.visit, whole.name, number, group, row) if whole.repeats or number == 1 else None
    before, behind = divmod(number - 1, MOST if whole.repeats else 1)
    return Sheet(unscheduled_code(before + 1), whole.name, behind + 1, group, row)


def groups_of(sites: Iterable[Place]) -> tuple[Group, ...]:
    """Sites as groups, by code."""
    listed = list(sites)
    names = unique_names([site.name for site in listed])
    return tuple(Group(site.id, name, site.name) for site, name in zip(listed, names, strict=True))


def unique_names(labels: Sequence[str], ending: str = "") -> list[str]:
    """Unique names made from labels: lower case, spaces as _, other signs dropped, cut to 18; then the ending.

    Of two that would be the same the second gets a b behind it, the third a c.
    """
    names: list[str] = []
    for label in labels:
        kept = re.sub(r"[^a-z0-9_]", "", re.sub(r"\s+", "_", label.strip().lower()))
        stem = kept[:LONGEST_UNIQUE].strip("_") or "x"
        name, number = f"{stem}{ending}", 0
        while name in names:
            number += 1
            name = f"{stem}{ending}{_letters(number)}"
        names.append(name)
    return names


def _letters(number: int) -> str:
    """b, c ... z, then 27, 28 ..."""
    return "abcdefghijklmnopqrstuvwxyz"[number] if number < 26 else str(number + 1)


# Values


def number_text(value: int | float) -> str:
    """A number in plain digits."""
    return str(value) if isinstance(value, int) else format(Decimal(repr(value)), "f")


def raw_text(value: object) -> str:
    """A stored value as a cell: 1 and 0 for yes and no, the code where there is no answer."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        # Of a file its name stands here, and of a signature that there is one; both are kept sealed.
        return missing_in(value) or str(value.get("name", "signature.svg" if "signature" in value else ""))
    return ""


@dataclass(frozen=True)
class Style:
    """How values are written."""

    labels: bool = False
    checkbox_labels: bool = False
    combined: bool = False
    decimal: str = ""


Encode = Callable[[object], list[str]]


def encoder(field: Field, style: Style, missing: Pairs) -> Encode:
    """What writes a stored value (None: nothing answered) into the columns of a field."""
    if field.is_checkbox:
        return _checkbox(field, style)
    item = field.item
    words = dict(missing) if style.labels else {}
    if style.labels and item.type is ItemType.CHOICE:
        words |= {choice.code: choice.label for choice in item.choices}
    if style.labels and item.type is ItemType.YES_NO:
        words |= {"1": "Yes", "0": "No"}
    comma = style.decimal == "," and field.is_number
    with_time = item.type.value == "date_time"

    def encode(value: object) -> list[str]:
        text = raw_text(value)
        if comma and isinstance(value, float):
            text = text.replace(".", ",")
        if with_time:
            text = text.replace("T", " ")
        return [words.get(text, text)] if words else [text]

    return encode


def _checkbox(field: Field, style: Style) -> Encode:
    options = field.options
    if style.combined:
        words = {option.code: option.label if style.labels else option.code for option in options}

        def together(value: object) -> list[str]:
            return [",".join(words.get(code, code) for code in ticked_in(value))]

        return together
    if not style.labels:
        yes, no = [("1", "0")] * len(options), "0"
    elif style.checkbox_labels:
        yes, no = [(option.label, "") for option in options], ""
    else:
        yes, no = [("Checked", "Unchecked")] * len(options), "Unchecked"
    nothing = [no] * len(options)

    def encode(value: object) -> list[str]:
        if value is None:
            return nothing
        codes, missing = set(ticked_in(value)), isinstance(value, dict)
        return [
            ticked if option.code in codes and option.is_missing is missing else not_ticked
            for option, (ticked, not_ticked) in zip(options, yes, strict=True)
        ]

    return encode


def ticked_in(value: object) -> list[str]:
    """The codes that a stored value of a checkbox ticks; a reason for no answer is one of them."""
    if isinstance(value, list):
        return [str(code) for code in value]
    code = missing_in(value)
    return [code] if code else []


# Expressions


def translated(text: str | None, project: Project) -> str:
    """An expression of the study with the names of these clients: unique names of events, names of fields."""
    if not text:
        return ""

    def renamed(found: re.Match[str]) -> str:
        if found[0][0] != "[":
            return found[0]
        parts = _part.findall(found[0])
        if len(parts) > 1 and parts[0].strip() in project.event_of_visit:
            parts[0] = project.event_of_visit[parts[0].strip()].name
        return "".join(f"[{part}]" for part in parts)

    return _reference.sub(renamed, text)
