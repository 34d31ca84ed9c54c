"""How does a row become an entry? Through the same doors as a form: consent, checks, locks, log; all rows or none.

A row is read into what somebody would have typed into the forms of that event. A form in which nothing is different is
left alone, so that an import of what was exported changes nothing, and so does the same import once more.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from fastapi.responses import Response
from sqlmodel import select

from app.api.redcap.answers import CONTENT_TYPES, XML_HEAD, csv_line, json_text, xml_text
from app.api.redcap.asked import Asked
from app.api.redcap.data import Sent, columns_of, rows_of, whole_number
from app.api.redcap.dictionary import (
    ARM,
    ARM_NAME,
    MOST,
    SCREENING,
    STATUSES,
    Event,
    Field,
    Form,
    Option,
    Sheet,
    raw_text,
    sheet_of,
    ticked_in,
)
from app.api.redcap.errors import NO_FORMAT, Wrong, not_valid, shown
from app.api.redcap.odm import rows_in_document
from app.api.redcap.records import EVENT, GROUP, IDENTIFIER, REPEAT, REPEAT_FORM
from app.capture import actions as capture
from app.capture.double.reads import refuse_withheld
from app.capture.reads import entries_of, entry_of
from app.capture.rules import EntryState, same_value
from app.capture.typed import MISSING, parse_typed, typed_form
from app.foundation.errors import FieldProblem, Invalid, NotAllowed, NotFound, Problem, Refused
from app.imports.actions import begin_whole
from app.participants import actions as participants
from app.participants.models import Participant
from app.participants.reads import next_code, participant_by_code, screening_and_initials
from app.participants.rules import PersonalData
from app.people.access import sites_for
from app.people.models import Site
from app.people.permissions import Permission
from app.schedule import actions as schedule
from app.studies.definition import Instrument, Item, ItemType

PSEUDO = frozenset({EVENT, REPEAT_FORM, REPEAT, GROUP, IDENTIFIER})
EAV = ("record", "field_name", "value")
# Rules of our own checks, by what these clients call them.
FORMAT_RULES = frozenset({"integer", "number", "digits", "date", "date_time", "time", "type", "decimals"})
CHOICE_RULES = frozenset({"choices", "choice", "yes_no"})
# Of these a whole number is the same answer with .0 behind it.
WHOLE = frozenset(
    {ItemType.INTEGER, ItemType.SCALE, ItemType.SLIDER, ItemType.CHOICE, ItemType.CHOICES, ItemType.YES_NO}
)
MOMENTS = frozenset({ItemType.DATE, ItemType.DATE_TIME, ItemType.TIME})
MOST_PROBLEMS = 500
SCREENED = (
    "An import does not change a pre-screen, because it is judged again and more may follow. Correct it on the page of "
    "the participant, under Screening, or over the REST interface, and say why."
)

# A time of day to the minute, as others write it: with one digit for the hour, or with seconds of which there are none.
_time = re.compile(r"(?P<before>.*[ T])?(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::00(?:\.0+)?)?").fullmatch
_american = re.compile(r"([0-9]{1,2})[/.-]([0-9]{1,2})[/.-]([0-9]{4})([T ].*)?").fullmatch


@dataclass
class Problems:
    """Everything that must be put right first: one line each, and what was refused by a rule of the trial."""

    lines: list[str] = field(default_factory=list)
    refusals: list[Problem] = field(default_factory=list)

    def cell(self, record: str, name: str, value: str, message: str) -> None:
        """One cell that cannot be taken, as a line of CSV."""
        cells = (shown(each, 2000).replace('"', '""') for each in (record, name, value, message))
        self.lines.append(",".join(f'"{cell}"' for cell in cells))

    def say(self, message: str) -> None:
        """What concerns no single cell."""
        if message not in self.lines:
            self.lines.append(message)


class ImportRefused(Wrong):
    """An import of which nothing was kept; `refusals` are written down."""

    def __init__(self, problems: Problems) -> None:
        lines = problems.lines[:MOST_PROBLEMS]
        if more := len(problems.lines) - len(lines):
            lines.append(f"... and {more} more problems")
        status = 403 if problems.refusals and all(isinstance(one, NotAllowed) for one in problems.refusals) else 400
        super().__init__("\n".join(lines), status)
        self.refusals = problems.refusals


@dataclass
class Target:
    """What is to be saved of one form: what would be typed, and the cells that it came from."""

    record: str
    event: Event
    form: Form
    number: int | str
    cells: dict[str, str] = field(default_factory=dict)
    """Columns of this form, and what was sent for them."""
    rows: dict[str, int] = field(default_factory=dict)
    """The row that said it, counted from 1."""
    sheet: Sheet | None = None
    """Where it is to be saved; of what is new its number is known last."""

    @property
    def status(self) -> str:
        """What was sent for the status of this form."""
        return whole_number(self.cells.get(self.form.complete, "").strip())

    def code(self, item: str) -> str:
        """What an item is called in the entry: in a row of a group the name of its cell."""
        return self.sheet.code(item) if self.sheet is not None else item


def import_records(asked: Asked) -> Response:
    """Save everything that was sent, or nothing."""
    asked.require_import(Permission.ENTRY_SAVE, Permission.PARTICIPANT_SCREEN)
    return _Importing(asked).answer()


def _refuse_nested(rows: Sequence[Sent]) -> None:
    """Only rights by form are several values in one; written as text such a thing would be nobody's answer."""
    if nested := sorted({name for row in rows for name, value in row.items() if isinstance(value, dict)}):
        listed = ", ".join(map(shown, nested))
        raise Wrong(f"A value is one text or one number. The following fields hold several: {listed}")


class _Importing:
    """One import."""

    def __init__(self, asked: Asked) -> None:
        self.asked, self.here, self.project = asked, asked.here, asked.project
        call = asked.call
        self.overwrite = call.choice("overwriteBehavior", "normal", "overwrite") == "overwrite"
        self.order = call.choice("dateFormat", "YMD", "MDY", "DMY")
        self.numbering = call.flag("forceAutoNumber")
        self.returning = call.choice("returnContent", "count", "ids", "auto_ids", "nothing")
        if self.returning == "auto_ids" and not self.numbering:
            raise not_valid("returnContent")
        self.problems = Problems()
        self.origin: list[dict[str, int]] = []
        """Of type eav, for each row that was made of several: the row that each of its columns was said in."""
        self.definition = self.here.the_study.definition
        self.missing = {code for code, _ in self.project.missing}
        self.new: set[str] = set()
        self.renamed: dict[str, str] = {}
        self.codes: set[str] = set()
        self.why = f"imported through the REDCap-compatible API by {self.here.actor.username}"

    def answer(self) -> Response:
        rows = rows_of(self.asked.call, lambda text: rows_in_document(text, self.project))
        _refuse_nested(rows)
        # Without a row its columns are looked at all the same: what is no table of this study is not taken for one.
        columns = [] if rows else columns_of(self.asked.call)
        # A document is neither: its values stand by record, event, form and repeat.
        if self.asked.call.choice("type", "flat", "eav") == "eav" and self.asked.call.format != "odm":
            rows, columns = self._from_eav(rows, columns), []
        self._refuse_unknown(rows, columns)
        by_record: dict[str, list[tuple[int, Sent]]] = {}
        names: dict[str, str] = {}  # somebody who is named in two ways, as 7 and R-0007, is one record
        for place, row in enumerate(rows):
            name = str(row.get(self.project.record_id, "")).strip()
            if not name:
                message = f"Every row needs the record's name in the field {self.project.record_id}."
                raise Wrong(message)
            name = names.setdefault(name if self.numbering else self.asked.code(name), name)
            by_record.setdefault(name, []).append((place, row))
        if len(by_record) > 1:
            begin_whole(self.here.session, self.here.the_study)
        for name, theirs in sorted(by_record.items(), key=lambda each: _natural(each[0])):
            self._record(name, theirs)
        if self.problems.lines:
            raise ImportRefused(self.problems)
        return self._returned(list(by_record))

    # What was sent

    def _from_eav(self, rows: list[Sent], columns: list[str]) -> list[Sent]:
        """One value a row becomes one row for each record, event and repeat."""
        whole: dict[tuple[str, ...], Sent] = {}
        if not all({"record", "field_name"} <= set(each) for each in (*rows, *([columns] if columns else []))):
            raise Wrong(f"Rows of type eav need the columns {', '.join(EAV)}.")
        said_in: dict[tuple[str, ...], dict[str, int]] = {}
        for number, row in enumerate(rows, 1):
            place = tuple(str(row.get(name, "")).strip() for name in ("record", EVENT, REPEAT_FORM, REPEAT))
            into = whole.setdefault(
                place, dict(zip((self.project.record_id, EVENT, REPEAT_FORM, REPEAT), place, strict=True))
            )
            said = said_in.setdefault(place, {})
            name, value = str(row["field_name"]).strip(), str(row.get("value", ""))
            known = self.project.field.get(name)
            if known is not None and known.is_checkbox:
                # As it is exported: the name of the field, and a code that is ticked.
                if not value.strip():
                    continue
                # Only what is named is ticked; the others are as they are, unless they are named as well.
                name, value = f"{name}___{value.strip()}", "1"
            if name != self.project.record_id and (name not in said or value.strip() or self.overwrite):
                if name in said and not self._same(name, str(into[name]), value):
                    self._contradiction(place[0], name, value, said[name], number)
                into[name], said[name] = value, number
        self.origin = list(said_in.values())
        return list(whole.values())

    def _same(self, column: str, one: str, other: str) -> bool:
        """Whether two texts are the same answer; in normal mode one that is blank is none."""
        one, other = one.strip(), other.strip()
        if one == other or (not self.overwrite and not (one and other)):
            return True
        known = self._field_of(column)
        is_whole = known is None or known.is_checkbox or known.item.type in WHOLE
        return is_whole and whole_number(one) == whole_number(other)

    def _contradiction(self, record: str, column: str, value: str, first: int, second: int) -> None:
        """Two rows say different things of one field: neither is taken, since nobody would see which was lost."""
        words = (
            f"Rows {first} and {second} give different values for this field of the same record, event and instance. "
            "Send one of them."
        )
        self.problems.cell(record, column, value, words)

    def _join(self, into: Target, more: Target) -> None:
        """What further rows say of the same form."""
        for column, text in more.cells.items():
            if column in into.cells and not self._same(column, into.cells[column], text):
                self._contradiction(into.record, column, text, into.rows[column], more.rows[column])
            into.cells[column], into.rows[column] = text, more.rows[column]

    def _refuse_unknown(self, rows: list[Sent], present: Sequence[str] = ()) -> None:
        """Columns and events that are none here."""
        project = self.project
        times = {form.timestamp for form in project.forms}
        boxes = {name for name, each in project.field.items() if each.is_checkbox}
        names = {project.record_id, *project.field, *project.complete, *project.option, *PSEUDO, *times} - boxes
        columns: dict[str, list[Sent]] = {name: [] for name in present}
        for row in rows:
            for name in row:
                columns.setdefault(name, []).append(row)
        having = {name: those for name, those in columns.items() if name not in names}
        if unknown := [name for name, those in having.items() if not self._is_bad_choice(name, those)]:
            listed = ", ".join(map(shown, unknown))
            raise Wrong(f"The following fields were not found in the project as real data fields: {listed}")
        events = dict.fromkeys(str(row.get(EVENT, "")).strip() for row in rows)
        if unknown := [name for name in events if name and name not in project.event]:
            listed = ", ".join(map(shown, unknown))
            raise Wrong(f"The following values of redcap_event_name are invalid: {listed}")

    def _is_bad_choice(self, name: str, having: list[Sent]) -> bool:
        """Whether it is a checkbox, with a code that is none of its choices, which is said for each row that has it."""
        base, sign, code = name.partition("___")
        known = self.project.field.get(base)
        if not sign or known is None or not known.is_checkbox or self.asked.call.text("type") != "eav":
            return False
        for row in having:
            record = str(row.get(self.project.record_id, ""))
            self.problems.cell(record, base, code, f"The value is not a valid category for {base}")
            del row[name]
        return True

    # One record

    def _record(self, name: str, rows: list[tuple[int, Sent]]) -> None:
        participant = None if self.numbering else self._participant(self.asked.code(name))
        if participant is None:
            participant = self._screened(name, rows)
            if participant is None:
                return
            self.new.add(name)
        # Who chose the name hears it as they sent it: a number alone is the participant with that number.
        self.codes.add(participant.code)
        self.renamed[name] = participant.code if self.numbering else name
        targets: dict[tuple[str, str, int | str], Target] = {}
        for place, row in rows:
            event = self._event(row)
            self._check_group(name, participant, row)
            for target in self._targets(name, event, place, row):
                if target.number == "new":
                    target.number = f"new {place}"  # each is one of its own
                key = (event.visit, target.form.name, target.number)
                self._join(targets.setdefault(key, target), target)
        entries: dict[tuple[str, str, int | str], list[Target]] = {}
        for target in targets.values():
            if target.event.visit == SCREENING:
                self._compare_screening(participant, target)
            elif (entry := self._entry_of(target)) is not None:
                entries.setdefault(entry, []).append(target)
        # In the order of the plan, whatever the order of the rows: what is asked may follow from an earlier form.
        for (visit, instrument, repeat), parts in sorted(entries.items(), key=self._planned):
            self._save(participant, visit, instrument, repeat, parts)

    def _planned(self, each: tuple[tuple[str, str, int | str], list[Target]]) -> tuple[int, int, int]:
        """Where an entry stands in the plan; new repeats behind those with a number, as they were sent."""
        (_, instrument, repeat), parts = each
        return parts[0].event.place, self.project.place[instrument], repeat if isinstance(repeat, int) else MOST

    def _participant(self, name: str) -> Participant | None:
        try:
            return participant_by_code(
                self.here.session, self.here.the_study, name, by=self.here.actor, permission=Permission.ENTRY_SAVE
            )
        except NotFound:
            pass
        try:
            return participant_by_code(
                self.here.session,
                self.here.the_study,
                name,
                by=self.here.actor,
                permission=Permission.PARTICIPANT_SCREEN,
            )
        except NotFound:
            return None

    def _event(self, row: Sent) -> Event:
        """The event of a row: the first one when it names none."""
        said = str(row.get(EVENT, "")).strip()
        return self.project.event[said] if said else self.project.events[0]

    def _check_group(self, name: str, participant: Participant, row: Sent) -> None:
        said = str(row.get(GROUP, "")).strip()
        group = self.asked.group_of_site[participant.site_id]
        if said and said != group.name:
            message = "A participant stays at the site where they were screened. Take this column out."
            self.problems.cell(name, GROUP, said, message)

    def _targets(self, name: str, event: Event, place: int, row: Sent) -> Iterator[Target]:
        """The forms that a row holds cells of."""
        project = self.project
        repeats, said = str(row.get(REPEAT_FORM, "")).strip(), whole_number(str(row.get(REPEAT, "")).strip())
        if repeats and repeats not in project.form:
            self.problems.cell(name, REPEAT_FORM, repeats, f"There is no form {shown(repeats)}.")
            return
        number: int | str = 1
        if said == "new":
            number = "new"
        elif said:
            if not (said.isascii() and said.isdigit() and int(said[:9]) > 0 and len(said) < 9):
                self.problems.cell(name, REPEAT, said, "The instance of a repeat is a whole number from 1, or new.")
                return
            number = int(said)
        found: dict[str, Target] = {}
        for column, value in row.items():
            form = self._form_of(column)
            text = str(value)
            if form is None or (not text.strip() and (not self.overwrite or form.name not in event.forms)):
                continue
            if form.name not in event.forms:
                self.problems.say(
                    f"This field ('{column}') exists on an instrument that is not designated for the event named "
                    f"'{event.label} (Arm {ARM}: {ARM_NAME})'. You are not allowed to import data for this field into "
                    "this event."
                )
                continue
            if form.repeats != bool(repeats) or (repeats and repeats != form.name):
                if text.strip():
                    words = (
                        f"The form {form.name} repeats: name it in {REPEAT_FORM}, and the number in {REPEAT}."
                        if form.repeats
                        else f"The form {form.name} does not repeat. Leave {REPEAT_FORM} and {REPEAT} blank for it."
                    )
                    self.problems.cell(name, column, text, words)
                continue
            target = found.setdefault(
                form.name, Target(name, event, form, number if form.repeats or event.repeats else 1)
            )
            target.cells[column] = text
            target.rows[column] = self.origin[place].get(column, 0) if self.origin else place + 1
        yield from found.values()

    def _form_of(self, column: str) -> Form | None:
        project = self.project
        if column in project.complete:
            return project.complete[column]
        if column in project.option:
            return project.form[project.option[column][0].form]
        known = project.field.get(column)
        return project.form[known.form] if known is not None and not known.is_calculated else None

    # Cells

    def _typed(self, target: Target, typed: dict[str, list[str]]) -> dict[str, list[str]]:
        """What would stand in the form after the cells were typed into it."""
        for column, text in target.cells.items():
            if column in self.project.option:
                known, option = self.project.option[column]
                value = whole_number(text.strip())
                if value not in ("", "0", "1"):
                    self.problems.cell(target.record, column, text, f"The value is not a valid category for {column}")
                elif value or self.overwrite:
                    _tick(typed, target.code(known.item.code), option, is_ticked=value == "1")
            elif column in self.project.field:
                known = self.project.field[column]
                self._type(typed, target.code(known.item.code), known, text)
        return typed

    def _type(self, typed: dict[str, list[str]], code: str, known: Field, text: str) -> None:
        item, value, why = known.item, text.strip(), code + MISSING
        if (item.type in WHOLE and value not in self._codes(item)) or whole_number(value) in self.missing:
            text = value = whole_number(value)
        if known.is_file:
            return  # a file is sent by a call of its own
        if not value:
            typed.pop(code, None)
            typed.pop(why, None)
        elif value in self.missing and value not in self._codes(item):
            typed.pop(code, None)
            typed[why] = [value]
        else:
            typed.pop(why, None)
            typed[code] = [self._moment(item, value) if item.type in MOMENTS else text]
            if item.type is ItemType.YES_NO:
                typed[code] = [{"1": "yes", "0": "no"}.get(value, value)]

    @staticmethod
    def _codes(item: Item) -> set[str]:
        return {choice.code for choice in item.choices}

    def _moment(self, item: Item, text: str) -> str:
        """A date, a time or both as they are kept; other texts stay, and are refused where they are read."""
        text = text if item.type is ItemType.TIME else self._date(text)
        found = None if item.type is ItemType.DATE else _time(text)
        if found is None:
            return text
        return f"{found['before'] or ''}{int(found['hour']):02}:{found['minute']}"

    def _date(self, text: str) -> str:
        """A date in the order that was said, as it is kept; other texts stay, and are refused where they are read."""
        found = _american(text)
        if self.order == "YMD" or found is None:
            return text.replace("/", "-") if self.order == "YMD" else text
        first, second, year, rest = found.groups("")
        month, day = (first, second) if self.order == "MDY" else (second, first)
        try:
            return date(int(year), int(month), int(day)).isoformat() + rest
        except ValueError:
            return text

    # Saving

    def _entry_of(self, target: Target) -> tuple[str, str, int | str] | None:
        """Visit, instrument and repeat of the entry that this is a part of; what is new stands for itself."""
        project, event, form = self.project, target.event, target.form
        if isinstance(target.number, int):
            target.sheet = sheet_of(project, event, form, target.number)
            if target.sheet is None:
                words = f"There is no such instance: {form.name} has at most {MOST - 1} at this event."
                self.problems.cell(target.record, REPEAT, str(target.number), words)
                return None
            return target.sheet.visit, target.sheet.instrument, target.sheet.repeat
        instrument, group = form.part_of or (form.name, "")
        if event.repeats or (group and project.form[instrument].repeats):
            words = "The number of the instance says here which visit or form it belongs to. Send it instead of new."
            self.problems.cell(target.record, REPEAT, "new", words)
            return None
        if group:
            target.sheet = Sheet(event.visit, instrument, 1, group, 0)
        return event.visit, instrument, 1 if group else target.number

    def _save(
        self, participant: Participant, visit: str, instrument: str, repeat: int | str, parts: list[Target]
    ) -> None:
        """One entry: what was sent for its form, and for the rows of its groups, together."""
        study = self.here.the_study.at(participant.site_id)
        form, first = study.definition.instrument(instrument), parts[0]
        if form is None:
            words = f"{first.form.label} is not asked any more: what was recorded stays as it is. Leave it out."
            self.problems.cell(first.record, first.form.name, "", words)
            return
        assert participant.id is not None
        try:
            # Before anything is compared: that nothing differs would say what the first person entered.
            refuse_withheld(
                self.here.session,
                study.definition,
                participant,
                visit,
                form.code,
                by=self.here.actor,
                action="entry.save",
            )
        except Refused as refused:
            self.problems.refusals.append(refused)
            self.problems.cell(first.record, first.form.name, "", refused.reason)
            return
        number = repeat if isinstance(repeat, int) else self._next_number(participant, visit, form.code)
        entry = entry_of(self.here.session, participant.id, visit, form.code, number)
        if entry is None and form.repeats and first.number == number:
            following = self._next_number(participant, visit, form.code)
            if number > following:
                words = f"The next instance of {form.code} is {following}: none is left out. Send that number, or new."
                self.problems.cell(first.record, REPEAT, str(number), words)
                return
        before = typed_form(form, entry.values, entry.reasons) if entry else {}
        after = {name: list(texts) for name, texts in before.items()}
        whole = False
        for part in parts:
            if part.sheet is not None and part.sheet.row == 0:
                last = max(form.rows([*before, *after]).get(part.sheet.group, [0]))
                part.sheet = replace(part.sheet, row=last + 1)
            if not self._refuse_part(form, entry, part):
                return
            after = self._typed(part, after)
            whole = whole or (part.form.part_of is None and part.status == "2")
        if _same_form(before, after) and not (whole and (entry is None or not entry.is_complete)):
            return
        if not after and entry is None and not whole:
            return  # a status alone begins no form
        typed = parse_typed(form, after)
        try:
            saved = capture.save_entry(
                self.here.session,
                study,
                participant,
                visit=visit,
                instrument=form.code,
                repeat=number,
                values=typed.values,
                reasons=typed.reasons,
                base_version=entry.version if entry else 0,
                why=self.why,
                by=self.here.actor,
                now=self.here.now,
                accept_partial=not whole,
                problems=typed.problems,
            )
        except Invalid as invalid:
            self._explain(parts, invalid, whole=whole)
        except Problem as problem:
            self.problems.refusals.append(problem)
            self.problems.cell(first.record, first.form.name, "", problem.reason)
        else:
            for part in parts:
                self._refuse_hidden(part, saved.judgement.hidden)

    def _refuse_hidden(self, part: Target, hidden: frozenset[str]) -> None:
        """What was sent for a question that is not asked after these answers is not kept: nobody loses it unawares.

        That there is no answer, and why, is no answer.
        """
        for column, text in part.cells.items():
            known, value = self._field_of(column), whole_number(text.strip())
            if known is None or part.code(known.item.code) not in hidden:
                continue
            if known.is_checkbox:
                is_answer = value == "1" and not self.project.option[column][1].is_missing
            else:
                is_answer = value not in ("", *self.missing)
            if is_answer:
                words = (
                    "This is not asked after the other answers, and would not be kept. Leave it out, or correct them."
                )
                self.problems.cell(part.record, column, text, words)

    def _refuse_part(self, form: Instrument, entry: EntryState | None, part: Target) -> bool:
        """Whether a part can be typed at all: what is no longer asked is left alone, and a status is one of three."""
        for column, text in part.cells.items():
            known = self._field_of(column)
            if known is None or form.item(part.code(known.item.code)) is not None:
                continue
            stored = entry.values.get(part.code(known.item.code)) if entry else None
            if self._differs(column, known, text, stored):
                words = "is not asked any more: what was recorded stays as it is. Leave it out."
                self.problems.cell(part.record, column, text, words)
        status = part.status
        if status and status not in STATUSES:
            words = f"The value is not a valid category for {part.form.complete}"
            self.problems.cell(part.record, part.form.complete, status, words)
            return False
        return True

    def _next_number(self, participant: Participant, visit: str, instrument: str) -> int:
        """The number of a new repeat: behind all that were ever begun."""
        marks = entries_of(self.here.session, participant.id or 0).get((visit, instrument))
        return len(marks.repeats) + 1 if marks else 1

    def _field_of(self, column: str) -> Field | None:
        """The field that a column belongs to, or None: the status of a form."""
        found = self.project.option.get(column)
        return found[0] if found else self.project.field.get(column)

    def _differs(self, column: str, known: Field, text: str, stored: object) -> bool:
        said = whole_number(text.strip()) if known.is_checkbox or known.item.type in WHOLE else text.strip()
        if known.is_checkbox:
            return said not in ("", "1" if self.project.option[column][1].code in ticked_in(stored) else "0")
        return said not in ("", raw_text(stored))

    def _explain(self, parts: Sequence[Target], invalid: Invalid, *, whole: bool) -> None:
        """What is wrong with a form, cell by cell, in the words that these clients know where there are any."""
        for problem in invalid.problems:
            code = problem.field.removesuffix("__why")
            part, known = next(
                ((part, each) for part in parts for each in part.form.fields if part.code(each.item.code) == code),
                (parts[0], None),
            )
            name, value, message = self._cell_of(part, known, problem)
            if whole and problem.rule == "required":
                complete = next(part.form.complete for part in parts if part.form.part_of is None)
                message += f" To save the form as it is, send 0 for {complete}."
            self.problems.cell(part.record, name, value, message)

    def _cell_of(self, part: Target, known: Field | None, problem: FieldProblem) -> tuple[str, str, str]:
        if known is None:
            return part.form.name, "", problem.message
        sent = [name for name in part.cells if name == known.name or name in known.columns]
        value = part.cells[sent[0]] if sent else ""
        if problem.rule in CHOICE_RULES:
            return known.name, value, f"The value is not a valid category for {known.name}"
        return known.name, value, NO_FORMAT if problem.rule in FORMAT_RULES else problem.message

    # New participants

    def _screened(self, name: str, rows: list[tuple[int, Sent]]) -> Participant | None:
        """Screen somebody who is not there yet: the house gives the code, and judges the answers as on the page."""
        code = next_code(self.here.session, self.here.the_study)
        if not self.numbering and self.asked.code(name) != code:
            self.problems.cell(
                name,
                self.project.record_id,
                name,
                f"There is no participant {shown(name)} whom you may know, and the next one is {code}: participants "
                "are "
                "numbered by the study, without gaps. Send that name (generateNextRecordName says it), or "
                "forceAutoNumber=true to have numbers given.",
            )
            return None
        target = Target(name, self.project.events[0], self.project.first_form, 1)
        for place, row in rows:
            event = self._event(row)
            if event.visit == SCREENING:
                for each in self._targets(name, event, place, row):
                    self._join(target, each)
        target.cells.pop(target.form.complete, None)
        instrument = self.definition.instrument(self.definition.eligibility.instrument)
        if instrument is None or not any(text.strip() for text in target.cells.values()):
            self.problems.cell(
                name,
                self.project.record_id,
                name,
                f"A new participant begins with the pre-screen: send the answers of {self.project.first_form.name} at "
                f"{self.project.events[0].name} in the same import.",
            )
            return None
        site = self._site(name, [row for _, row in rows])
        if site is None:
            return None
        typed = parse_typed(instrument, self._typed(target, {}))
        try:
            if typed.problems:
                raise Invalid(typed.problems)
            participant, eligibility = participants.screen(
                self.here.session,
                self.here.the_study,
                site=site,
                answers=typed.values,
                failure_reason=None,
                personal=PersonalData(),
                by=self.here.actor,
                now=self.here.now,
            )
        except Invalid as invalid:
            self._explain([target], invalid, whole=False)
            return None
        except Problem as problem:
            self.problems.refusals.append(problem)
            self.problems.cell(name, target.form.name, "", problem.reason)
            return None
        if not self.numbering and participant.code != code:
            words = f"Somebody else has become {code} in this moment. Send the import again, under the next name."
            self.problems.cell(name, self.project.record_id, name, words)
            return None
        if eligibility.eligible:
            schedule.open_visits(
                self.here.session,
                self.here.the_study,
                participant,
                anchor="screening",
                on=participant.screened_on,
                by=self.here.actor,
                now=self.here.now,
            )
        return participant

    def _site(self, name: str, rows: list[Sent]) -> Site | None:
        """Where a new participant is screened: the group that is named, or the one site of whoever imports."""
        named = list(dict.fromkeys(text for row in rows if (text := str(row.get(GROUP, "")).strip())))
        if len(named) > 1:
            listed = ", ".join(map(shown, named))
            self.problems.cell(name, GROUP, named[1], f"Somebody is screened at one site, and not at {listed}.")
            return None
        said = named[0] if named else ""
        mine = sites_for(self.here.actor, Permission.PARTICIPANT_SCREEN)
        group = next((each for each in self.asked.groups if each.name == said), None)
        if said and group is None:
            self.problems.cell(name, GROUP, said, f"The value is not a valid category for {GROUP}")
            return None
        if group is None:
            at = [each for each in self.asked.groups if mine is None or each.id in mine]
            if len(at) != 1:
                listed = ", ".join(each.name for each in at) or "none of yours"
                words = f"Say at which site: send one of these in {GROUP}: {listed}."
                self.problems.cell(name, GROUP, "", words)
                return None
            group = at[0]
        return self.here.session.exec(select(Site).where(Site.id == group.id)).one()

    def _compare_screening(self, participant: Participant, target: Target) -> None:
        """The pre-screen was judged as it was: the same again is passed over, anything else refused."""
        instrument = self.definition.instrument(target.form.name)
        if instrument is None or target.record in self.new:
            return
        found, *_ = screening_and_initials(self.here.session, participant, by=self.here.actor)
        answers = found.answers if found else {}
        typed = parse_typed(instrument, self._typed(target, typed_form(instrument, answers)))
        problems = [
            FieldProblem(code, "fixed", SCREENED)
            for code in typed.values.keys() | answers.keys()
            if not same_value(typed.values.get(code), answers.get(code)) and not self._is_calculated(code)
        ]
        self._explain([target], Invalid([*typed.problems, *sorted(problems, key=lambda each: each.field)]), whole=False)

    def _is_calculated(self, code: str) -> bool:
        known = self.project.field.get(code)
        return known is not None and known.is_calculated

    # The answer

    def _returned(self, names: list[str]) -> Response:
        call, shape = self.asked.call, self.asked.call.return_shape
        if call.flag("backgroundProcess"):
            said = {"json": json_text({"success": True}), "csv": "true", "xml": f"{XML_HEAD}<success>true</success>"}
            return _of(shape, said[shape])
        if self.returning == "nothing":
            return _of(shape, "")
        ids = [self.renamed[name] for name in names]
        if self.returning == "count":
            count = len(self.codes)
            said = {"json": json_text({"count": count}), "csv": str(count), "xml": f"{XML_HEAD}<count>{count}</count>"}
            return _of(shape, said[shape])
        if self.returning == "auto_ids":
            ids = [f"{self.renamed[name]},{name}" for name in names]
        if shape == "json":
            return _of(shape, json_text(ids))
        if shape == "csv":
            lines = ids if self.returning == "auto_ids" else [csv_line([each]).rstrip("\n") for each in ids]
            return _of(shape, "\n".join(["id", *lines]) + "\n")
        return _of(shape, f"{XML_HEAD}<ids>{''.join(f'<id>{xml_text(each)}</id>' for each in ids)}</ids>")


def _of(shape: str, body: str) -> Response:
    return Response(body.encode(), headers={"Content-Type": CONTENT_TYPES[shape]})


def _natural(name: str) -> tuple[Any, ...]:
    """Names in the order of their numbers, so that new ones are numbered in the order of their names."""
    return tuple(
        (0, int(part[:18]), "") if part[0] in "0123456789" else (1, 0, part)
        for part in re.findall(r"[0-9]+|[^0-9]+", name)
    )


def _tick(typed: dict[str, list[str]], code: str, option: Option, *, is_ticked: bool) -> None:
    """Tick one choice of a checkbox, or take the tick away; a reason for no answer is a choice of its own."""
    why = code + MISSING
    if option.is_missing:
        if is_ticked:
            typed.pop(code, None)
            typed[why] = [option.code]
        elif typed.get(why) == [option.code]:
            typed.pop(why)
        return
    chosen = [each for each in typed.get(code, []) if each != option.code]
    if is_ticked:
        typed.pop(why, None)
        chosen.append(option.code)
    if chosen:
        typed[code] = chosen
    else:
        typed.pop(code, None)


def _same_form(before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> bool:
    def kept(form: Mapping[str, list[str]]) -> dict[str, list[str]]:
        return {name: sorted(texts) if len(texts) > 1 else texts for name, texts in form.items() if texts}

    return kept(before) == kept(after)
