"""What is recorded? Every record as rows, flat or one value a row, in the columns and the order that clients expect."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi.responses import Response

from app.api.redcap.answers import Cell, Listing, as_json, pieces, plain, streamed
from app.api.redcap.answers import Row as Line
from app.api.redcap.asked import Asked
from app.api.redcap.decoding import Call
from app.api.redcap.dictionary import (
    OUTSIDE,
    SCREENING,
    STATUSES,
    Encode,
    Event,
    Field,
    Form,
    Group,
    Project,
    Style,
    encoder,
    instance,
    ticked_in,
)
from app.api.redcap.errors import not_valid, not_valid_values
from app.api.redcap.filters import Row, Seen, Spot, logic_of
from app.api.redcap.metadata import RECORD_ID_LABEL
from app.api.redcap.projects import VERSION
from app.api.redcap.surveys import SURVEYS
from app.audit.reads import changed_between
from app.capture.status import EntryStatus
from app.dependencies import Here, database_of
from app.exports.actions import record_delivery, record_export
from app.exports.records import Filled, Recorded, recorded
from app.expressions import Expression
from app.foundation import clock
from app.foundation.errors import NotFound
from app.participants.reads import next_code, participant_by_code
from app.people.access import may, sites_for
from app.people.permissions import Permission
from app.people.reads import emails_of
from app.studies.definition import cell_parts, unscheduled_number

EVENT, REPEAT_FORM, REPEAT = "redcap_event_name", "redcap_repeat_instrument", "redcap_repeat_instance"
GROUP, IDENTIFIER = "redcap_data_access_group", "redcap_survey_identifier"
HEADERS = {
    EVENT: "Event Name",
    REPEAT_FORM: "Repeat Instrument",
    REPEAT: "Repeat Instance",
    GROUP: "Data Access Group",
    IDENTIFIER: "Survey Identifier",
}
TABLE = "redcap_records"
# What of a record counts as made or changed.
CHANGES = (
    "participant.screened",
    "screening.answered",
    "screening.corrected",
    "entry.saved",
    "entry.corrected",
    "entry.completed",
    "entry.reopened",
    "entry.reconciled",
    "entry.marked_in_error",
    "entry.restored",
)
INSTANTS = (
    *("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"),
    *("%m/%d/%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M", "%m/%d/%Y"),
)
# As releases of one client write every begin and every end: without the seconds, and without the minute.
NO_SECONDS, NO_MINUTE = "%Y-%m-%d %H:%M:S", "%Y-%m-%d %H:M%%:%S"
NOTHING: dict[str, object] = {}


@dataclass(frozen=True)
class Part:
    """The columns of one form that were asked for."""

    form: Form
    fields: tuple[Field, ...]
    timestamp: bool
    complete: bool

    @property
    def columns(self) -> list[str]:
        names = [self.form.timestamp] if self.timestamp else []
        for each in self.fields:
            names += each.columns
        return [*names, self.form.complete] if self.complete else names


@dataclass(frozen=True)
class Wanted:
    """What an export is to hold."""

    project: Project
    parts: tuple[Part, ...]
    record_id: bool
    events: tuple[Event, ...]
    records: frozenset[str] | None
    logic: Expression | None
    groups: bool
    surveys: bool
    style: Style
    blank_status: bool
    now: datetime
    group_of_site: dict[int, Group] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)
    """Who asks, and of which study: what a condition may name."""
    plain_text: bool = False
    """Whether line breaks in values become spaces."""

    def with_group(self, found: Recorded) -> Group | None:
        return self.group_of_site.get(found.site_id)


def export(asked: Asked) -> Response:
    """The records as rows; that they were taken is written down before the first byte leaves."""
    wanted = wanted_of(asked)
    if asked.call.format == "odm":
        from app.api.redcap.odm import snapshot  # which needs these rows

        return snapshot(asked, wanted)
    # One client sends the name of the parameter for its value, and knows nothing but flat rows.
    eav = asked.call.choice("type", "flat", "eav", "type") == "eav"
    return sent(asked, wanted, eav=eav)


def wanted_of(asked: Asked, *, forms: Sequence[str] = (), whole: bool = False) -> Wanted:
    """What was asked for; `forms` narrows it further, `whole` takes nothing from fields, forms and events."""
    call, project = asked.call, asked.project
    _ = asked.exporting
    fields, named = (() if whole else call.names(name) for name in ("fields", "forms"))
    events = () if whole else call.names("events")
    parts, record_id = _parts(call, project, fields, (*named, *forms))
    if unknown := [name for name in events if name not in project.event]:
        raise not_valid_values("events", unknown)
    records = asked.records
    chosen = frozenset(name for name in records if name.isprintable()) if records else None
    after, before = instant_of(call, "dateRangeBegin"), instant_of(call, "dateRangeEnd")
    if after or before:
        log = asked.here.the_study.code
        changed = changed_between(asked.here.session, log, CHANGES, after=after, before=before)
        chosen = frozenset(changed) if chosen is None else chosen & changed
    labels = call.choice("rawOrLabel", "raw", "label", "both") == "label"
    return Wanted(
        project=project,
        parts=parts,
        record_id=record_id,
        events=tuple(event for event in project.events if not events or event.name in events),
        records=chosen,
        logic=logic_of(call.text("filterLogic"), project),
        # Whoever works at some sites only sees those records, and the column would say nothing.
        groups=call.flag("exportDataAccessGroups") and not asked.is_in_group,
        surveys=call.flag("exportSurveyFields"),
        style=Style(
            labels,
            labels and call.flag("exportCheckboxLabel"),
            call.flag("combineCheckboxOptions"),
            _decimal(call),
        ),
        blank_status=call.flag("exportBlankForGrayFormStatus"),
        now=asked.here.now,
        group_of_site=asked.group_of_site,
        about=_about(asked),
    )


def _about(asked: Asked) -> dict[str, str]:
    """Who asks, and of which study; a person has a group where they see the records of one site alone."""
    actor, sites = asked.here.actor, sites_for(asked.here.actor, asked.exporting)
    address = asked.here.settings.address
    said = {
        "user-name": actor.username,
        "user-fullname": actor.name,
        "project-id": str(asked.here.the_study.id),
        "project-status": "Production",  # nobody is in a draft, of which no rows can be asked
        "redcap-version": VERSION,
        "project-irb-number": "",
        "redcap-base-url": f"{address}/",
        "survey-base-url": f"{address}{SURVEYS}",
        "study-address": f"{address}/{asked.here.the_study.code}",
    }
    if "user-email" in asked.call.text("filterLogic"):
        said["user-email"] = emails_of(asked.here.session, {actor.username}).get(actor.username, "")
    if sites is not None and len(sites) == 1:
        group = asked.group_of_site[next(iter(sites))]
        said |= {"user-dag-name": group.name, "user-dag-label": group.label, "user-dag-id": str(group.id)}
    return said


def _decimal(call: Call) -> str:
    said = call.text("decimalCharacter")
    if said in ("", ".", ","):
        return said
    if said in ("comma", "dot"):
        return "," if said == "comma" else "."
    raise not_valid("decimalCharacter")


def _parts(call: Call, project: Project, fields: Sequence[str], forms: Sequence[str]) -> tuple[tuple[Part, ...], bool]:
    """The columns of each form; fields and forms are joined. Whether the record's name is one of them."""
    surveys = call.flag("exportSurveyFields")
    if unknown := [name for name in forms if name not in project.form]:
        raise not_valid_values("forms", unknown)
    known = {project.record_id, *project.field, *project.complete, *project.option}
    if unknown := [name for name in fields if name not in known]:
        raise not_valid_values("fields", unknown)
    if not fields and not forms:
        every = tuple(Part(form, form.fields, surveys and form.is_survey, True) for form in project.forms)
        return every, True
    named = {project.option[name][0].name if name in project.option else name for name in fields}
    parts = []
    for form in project.forms:
        whole = form.name in forms
        chosen = form.fields if whole else tuple(each for each in form.fields if each.name in named)
        complete = whole or form.complete in named
        if chosen or complete:
            parts.append(Part(form, chosen, surveys and form.is_survey, complete))
    return tuple(parts), project.record_id in fields or project.first_form.name in forms


def instant_of(call: Call, name: str) -> datetime | None:
    """An instant in UTC, as this server says the time: to the second, the minute or the day; 24:00 ends a day.

    What an end does not say is as late as it can be, so that nothing is missing that was asked for.
    """
    said = call.text(name)
    if not said:
        return None
    midnight = said.endswith(" 24:00") or said.endswith(" 24:00:00")
    text = said.partition(" ")[0] if midnight else said
    for form in (*INSTANTS, NO_SECONDS, NO_MINUTE):
        try:
            found = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        if form == NO_MINUTE:
            found = found.replace(minute=59, second=59)
        return found.replace(hour=23, minute=59, second=59, microsecond=999_999) if midnight else found
    raise not_valid(name)


# Rows


@dataclass(frozen=True)
class Written:
    """How the cells of one part are made: where nothing is entered they are always the same."""

    part: Part
    encoders: tuple[tuple[str, Encode], ...]
    away: list[Cell]
    nothing: list[Cell]


def sent(asked: Asked, wanted: Wanted, *, eav: bool = False) -> Response:
    """The rows on their way, counted and hashed."""
    here, shape, delimiter, permission = asked.here, asked.shape, asked.call.delimiter, asked.exporting
    headers = None
    if not eav and shape == "csv" and asked.call.choice("rawOrLabelHeaders", "raw", "label") == "label":
        headers = _labels(wanted)
    columns = _eav_columns(wanted) if eav else _columns(wanted)
    record_export(
        here.session, here.the_study, table=TABLE, format=shape, permission=permission, by=here.actor, now=here.now
    )
    database = database_of(here.request)

    def body() -> Iterator[bytes]:
        rows = 0
        digest = hashlib.sha256()

        def counted(found: Iterable[Line]) -> Iterator[Line]:
            nonlocal rows
            for line in found:
                rows += 1
                yield line

        with database.reading() as session:
            found = recorded(session, here.the_study, by=here.actor, permission=permission, codes=wanted.records)
            lines = (eav_lines if eav else flat_lines)(wanted, found)
            for piece in pieces(Listing(columns, counted(lines), "record", headers), shape, delimiter):
                digest.update(piece)
                yield piece
        with database.writing() as session:
            record_delivery(
                session,
                here.the_study,
                table=TABLE,
                format=shape,
                rows=rows,
                sha256=digest.hexdigest(),
                permission=permission,
                by=here.actor,
                now=clock.now(),
            )

    return streamed(body(), shape)


def _columns(wanted: Wanted) -> list[str]:
    head = _place_columns(wanted)
    if wanted.groups:
        head.append(GROUP)
    if wanted.surveys:
        head.append(IDENTIFIER)
    if wanted.style.combined:
        return [*head, *(name for part in wanted.parts for name in _combined(part))]
    return [*head, *(name for part in wanted.parts for name in part.columns)]


def _place_columns(wanted: Wanted) -> list[str]:
    """Where a row belongs: with the name of the record its event and its repeat, and without it none of them."""
    if not wanted.record_id:
        return []
    return [wanted.project.record_id, EVENT, *([REPEAT_FORM, REPEAT] if wanted.project.repeats else [])]


def _combined(part: Part) -> list[str]:
    names = [part.form.timestamp] if part.timestamp else []
    names += [each.name for each in part.fields]
    return [*names, part.form.complete] if part.complete else names


def _labels(wanted: Wanted) -> list[str]:
    """What people read above the columns."""
    labels = [RECORD_ID_LABEL] if wanted.record_id else []
    labels += [HEADERS[name] for name in _columns(wanted) if name in HEADERS]
    for part in wanted.parts:
        if part.timestamp:
            labels.append("Survey Timestamp")
        for each in part.fields:
            if each.is_checkbox and not wanted.style.combined:
                labels += [f"{each.item.label} (choice={option.label})" for option in each.options]
            else:
                labels.append(each.item.label)
        if part.complete:
            labels.append("Complete?")
    return labels


def answers_in(project: Project, found: Recorded) -> tuple[dict[Spot, Any], dict[Spot, str], dict[Spot, datetime]]:
    """The stored values, the status (0 or 2) and the time of every entry and of the pre-screen."""
    answers: dict[Spot, Any] = {}
    statuses: dict[Spot, str] = {}
    times: dict[Spot, datetime] = {}
    if found.screening is not None:
        for form in project.screening:
            spot = (SCREENING, form.name, 1)
            answers[spot], statuses[spot] = found.screening, "2"
            if found.screened_at is not None:
                times[spot] = found.screened_at
    for entry in found.entries:
        outside = unscheduled_number(entry.visit)
        visit, before = (entry.visit, 0) if outside is None else (OUTSIDE, outside - 1)
        known = project.form.get(entry.instrument)
        number = instance(before + 1, entry.repeat) if known is not None and known.repeats else entry.repeat + before
        status = "2" if entry.status == EntryStatus.COMPLETE else "0"
        spots = {(visit, entry.instrument, number): entry.values}
        if project.plan.groups.get(entry.instrument):
            spots |= _rows_of_groups(project, entry, (visit, number))
        for spot, values in spots.items():
            answers[spot], times[spot], statuses[spot] = values, entry.saved_at, status
    return answers, statuses, times


def _rows_of_groups(project: Project, entry: Filled, at: tuple[str, int]) -> dict[Spot, dict[str, object]]:
    """The rows of each group of an entry: each is a repeat of the form that stands for the group."""
    visit, number = at
    forms = {
        form.part_of[1]: form.name for form in project.forms if form.part_of and form.part_of[0] == entry.instrument
    }
    found: dict[Spot, dict[str, object]] = {}
    for code, value in entry.values.items():
        parts = cell_parts(code)
        if parts is not None and parts[0] in forms:
            row = (visit, forms[parts[0]], instance(number, parts[1]))
            found.setdefault(row, {})[parts[2]] = value
    return found


def rows_in(wanted: Wanted, found: Recorded) -> Iterator[tuple[Row, dict[Spot, datetime]]]:
    """The rows of one record: by event; there first what does not repeat, then each repeat of each form."""
    project = wanted.project
    answers, statuses, times = answers_in(project, found)
    group = wanted.with_group(found)
    present: dict[str, list[Spot]] = {}
    for spot in answers:
        present.setdefault(spot[0], []).append(spot)
    for event in wanted.events:
        spots = present.get(event.visit)
        if not spots:
            continue
        once = {number for _, form, number in spots if form in project.form and not project.form[form].repeats}
        rows = [Row(found.code, event, group, answers, statuses, times, None, number) for number in sorted(once)]
        if project.repeats:
            # A repeat of a form that was not asked for would say nothing.
            chosen = {part.form.name for part in wanted.parts}
            repeats = sorted(
                (event.forms.index(form), number, form)
                for _, form, number in spots
                if form in event.forms and form in chosen and project.form[form].repeats
            )
            rows += [
                Row(found.code, event, group, answers, statuses, times, form, number) for _, number, form in repeats
            ]
        for row in rows:
            if wanted.logic is None or wanted.logic.holds(Seen(project, row, wanted.now, wanted.about)) is True:
                yield row, times


def flat_lines(wanted: Wanted, found: Iterable[Recorded]) -> Iterator[Line]:
    """One line for each record, event and repeat."""
    written = [_written(wanted, part) for part in wanted.parts]
    for one in found:
        for row, times in rows_in(wanted, one):
            line = _head(wanted, row)
            for each in written:
                line += _cells(wanted, each, row, times)
            yield line


def _head(wanted: Wanted, row: Row) -> list[Cell]:
    labels = wanted.style.labels
    line: list[Cell] = []
    if wanted.record_id:
        line = [row.code, row.event.label if labels else row.event.name]
        line += _repeat(wanted, row) if wanted.project.repeats else []
    if wanted.groups:
        line.append("" if row.group is None else row.group.label if labels else row.group.name)
    if wanted.surveys:
        line.append("")  # who somebody is stands in no export
    return line


def _repeat(wanted: Wanted, row: Row) -> list[Cell]:
    if row.form is None:
        return ["", row.number if row.event.repeats else ""]
    return [wanted.project.form[row.form].label if wanted.style.labels else row.form, row.number]


def _written(wanted: Wanted, part: Part) -> Written:
    encoders = tuple((each.item.code, encoder(each, wanted.style, wanted.project.missing)) for each in part.fields)
    nothing: list[Cell] = [""] if part.timestamp else []
    for _, encode in encoders:
        nothing += encode(None)
    if part.complete:
        nothing.append("" if wanted.blank_status else _status(wanted, "0"))
    return Written(part, encoders, [""] * len(nothing), nothing)


def _status(wanted: Wanted, status: str) -> str:
    return STATUSES[status] if wanted.style.labels else status


def _cells(wanted: Wanted, written: Written, row: Row, times: dict[Spot, datetime]) -> list[Cell]:
    part, form = written.part, written.part.form
    if form.name not in row.event.forms or (row.form or "") != (form.name if form.repeats else ""):
        return written.away
    spot = (row.event.visit, form.name, row.number)
    values = row.answers.get(spot)
    if values is None:
        return written.nothing
    status = row.statuses[spot]
    cells: list[Cell] = []
    if part.timestamp:
        cells.append(_answered_at(spot, status, times))
    for code, encode in written.encoders:
        cells += encode(values.get(code))
    if part.complete:
        cells.append(_status(wanted, status))
    if wanted.plain_text:
        return [" ".join(cell.splitlines()) if isinstance(cell, str) and "\n" in cell else cell for cell in cells]
    return cells


def _answered_at(spot: Spot, status: str, times: Mapping[Spot, datetime]) -> str:
    """When a survey was answered."""
    return f"{times[spot].astimezone(UTC):%Y-%m-%d %H:%M:%S}" if status == "2" else "[not completed]"


def _eav_columns(wanted: Wanted) -> list[str]:
    repeats = [REPEAT_FORM, REPEAT] if wanted.project.repeats else []
    return ["record", EVENT, *repeats, "field_name", "value"]


def eav_lines(wanted: Wanted, found: Iterable[Recorded]) -> Iterator[Line]:
    """One line for each value that is not blank; of a checkbox one for each choice that is ticked; scores last."""
    writers: list[tuple[Part, list[tuple[Field, Callable[[object], list[str]]]]]] = [
        (part, [(each, _one_by_one(wanted, each)) for each in part.fields]) for part in wanted.parts
    ]
    for one in found:
        for row, times in rows_in(wanted, one):
            head: list[Cell] = [row.code, row.event.label if wanted.style.labels else row.event.name]
            if wanted.project.repeats:
                head += _repeat(wanted, row)
            if wanted.record_id:
                yield [*head, wanted.project.record_id, row.code]
            if wanted.groups and row.group is not None:
                yield [*head, GROUP, row.group.label if wanted.style.labels else row.group.name]
            last: list[Line] = []
            for part, fields in writers:
                form = part.form
                spot = (row.event.visit, form.name, row.number)
                values = row.answers.get(spot)
                if values is None or (row.form or "") != (form.name if form.repeats else ""):
                    continue
                if part.timestamp:
                    yield [*head, form.timestamp, _answered_at(spot, row.statuses[spot], times)]
                for each, write in fields:
                    lines: list[Line] = [[*head, each.name, text] for text in write(values.get(each.item.code))]
                    if each.is_calculated:
                        last += lines
                    else:
                        yield from lines
                if part.complete:
                    yield [*head, form.complete, _status(wanted, row.statuses[spot])]
            yield from last


def _one_by_one(wanted: Wanted, each: Field) -> Callable[[object], list[str]]:
    if not each.is_checkbox:
        encode = encoder(each, wanted.style, wanted.project.missing)
        return lambda value: [text for text in encode(value) if text]
    words = {option.code: option.label if wanted.style.labels else option.code for option in each.options}
    return lambda value: [words.get(code, code) for code in ticked_in(value)]


# Which records are there


def is_there(here: Here, code: str) -> bool:
    """Whether this is a participant whom the person may know."""
    permissions = (Permission.PARTICIPANT_READ, Permission.EXPORT_RUN, Permission.ENTRY_SAVE)
    for permission in (each for each in permissions if may(here.actor, each)):
        try:
            participant_by_code(here.session, here.the_study, code, by=here.actor, permission=permission)
        except NotFound:
            continue
        return True
    return False


def next_name(asked: Asked) -> Response:
    """The code that the next participant gets."""
    actor = asked.here.actor
    if not any(may(actor, each) for each in (Permission.PARTICIPANT_READ, Permission.PARTICIPANT_SCREEN)):
        _ = asked.exporting
    code = next_code(asked.here.session, asked.here.the_study)
    return as_json(code) if asked.wants_json else plain(code)
