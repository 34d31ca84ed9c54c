"""What may I see of entries? One entry, the matrix of a participant, answers for expressions, drafts, what to sign."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Integer,
    Row,
    RowMapping,
    Select,
    String,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlmodel import Session

from app.audit.reads import HistoryLine, history_of
from app.capture.checks import SCREENING as SCREENING
from app.capture.checks import instance_of, instances_of
from app.capture.double.reads import is_pending
from app.capture.groups import cells_of
from app.capture.locks.reads import lock_covering
from app.capture.models import CasebookSignature, DataQuery, Draft, Entry
from app.capture.rules import EntryState, Stopped, form_name, why_stopped
from app.capture.status import EntryStatus
from app.consent.reads import CONSENTED
from app.foundation import paging
from app.foundation.database import among, table_of, within, written_out
from app.foundation.database import instance_of as made_of
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.participants.models import Participant, Screening
from app.participants.reads import at_each_site
from app.participants.status import Status
from app.people.access import Actor, require, sites_for
from app.people.models import Site
from app.people.permissions import Permission
from app.schedule.models import ParticipantVisit
from app.schedule.status import VisitStatus
from app.studies.definition import Study, VisitKind
from app.studies.in_use import StudyInUse

ENTRY = table_of(Entry)
DRAFT = table_of(Draft)
PARTICIPANT = table_of(Participant)
SCREENING_ROW = table_of(Screening)
SITE = table_of(Site)
VISIT = table_of(ParticipantVisit)
QUERY = table_of(DataQuery)
CASEBOOK = table_of(CasebookSignature)

NOTHING_TYPED = "{}"
SIGNATURE = ("signed_at", "signed_by", "signed_name", "signed_meaning", "signed_digest")

Answers = dict[tuple[str, str], object]

# Built once: putting a SELECT together takes longer than running it.
_ID = bindparam("participant_id", type_=Integer)
_MARKS = select(
    ENTRY.c.visit,
    ENTRY.c.instrument,
    ENTRY.c.repeat,
    ENTRY.c.status,
    ENTRY.c.version,
    ENTRY.c.signed_at,
    ENTRY.c.saved_at,
    ENTRY.c.saved_by,
    ENTRY.c.verified_at,
    ENTRY.c.in_error_at,
    exists()
    .where(
        QUERY.c.participant_id == ENTRY.c.participant_id,
        QUERY.c.visit == ENTRY.c.visit,
        QUERY.c.instrument == ENTRY.c.instrument,
        QUERY.c.repeat == ENTRY.c.repeat,
        QUERY.c.closed_at.is_(None),
    )
    .label("has_query"),
).where(ENTRY.c.participant_id == _ID)
_MARKS_AND_DRAFTS = union_all(
    _MARKS.add_columns(literal(False).label("is_draft")),
    select(
        DRAFT.c.visit,
        DRAFT.c.instrument,
        DRAFT.c.repeat,
        cast(null(), ENTRY.c.status.type),
        cast(null(), ENTRY.c.version.type),
        cast(null(), ENTRY.c.signed_at.type),
        cast(null(), ENTRY.c.saved_at.type),
        cast(null(), ENTRY.c.saved_by.type),
        cast(null(), ENTRY.c.verified_at.type),
        cast(null(), ENTRY.c.in_error_at.type),
        literal(False),
        literal(True),
    ).where(
        DRAFT.c.person_id == bindparam("person_id", type_=Integer),
        DRAFT.c.participant_id == _ID,
        DRAFT.c.typed != NOTHING_TYPED,
    ),
)
_SCREENED = (
    select(SCREENING_ROW.c.answers)
    .where(SCREENING_ROW.c.participant_id == _ID)
    .order_by(SCREENING_ROW.c.id.desc())
    .limit(1)
)
_ANSWERS = (
    select(ENTRY.c.visit, ENTRY.c.instrument, ENTRY.c.repeat, ENTRY.c["values"])
    .where(
        ENTRY.c.participant_id == _ID,
        ENTRY.c.study_id == bindparam("study_id", type_=Integer),
        ENTRY.c.in_error_at.is_(None),
    )
    .order_by(ENTRY.c.id)
)


@dataclass(frozen=True)
class EntryMark:
    """One cell of the matrix of visits and forms: how far an entry is, without what it says.

    Of a form that repeats the cell is how far all of them are together: complete once each that was begun is. Each of
    them stands in `repeats`, also those entered in error, which count nowhere.
    """

    status: str
    version: int
    is_signed: bool
    saved_at: datetime
    saved_by: str
    has_query: bool = False
    is_verified: bool = False
    repeat: int = 1
    is_in_error: bool = False
    repeats: tuple["EntryMark", ...] = ()


@dataclass(frozen=True)
class DraftState:
    """What somebody typed and has not saved: the form's fields, and the version of the entry it was typed upon."""

    typed: dict[str, list[str]]
    base_version: int
    saved_at: datetime
    page: str = ""


@dataclass(frozen=True)
class UnsignedVisit:
    """A visit with complete entries that wait for a signature, by name, and when the latest of them was saved."""

    participant: str
    site_id: int
    visit: str
    instruments: tuple[str, ...]
    saved_at: datetime


@dataclass(frozen=True)
class Progress:
    """How many forms of one participant: expected at the visits in the schedule, begun, complete, signed."""

    expected: int = 0
    partial: int = 0
    complete: int = 0
    signed: int = 0


@dataclass(frozen=True)
class Place:
    """Where something is entered: the visit in the schedule, the site's time zone, the person's draft, screening.

    `draft_at` is when their draft was kept, if there is one. `lock` is the number of something that freezes or locks
    it. `begun`: how often the form was begun at the visit. `consented`: whether a consent holds.
    """

    screen_failed: bool
    is_scheduled: bool
    stopped: Stopped | None
    is_missed: bool
    timezone: str
    draft_at: datetime | None
    screening: Mapping[str, object]
    lock: int | None
    begun: int
    consented: bool


@cache
def _entry_query() -> Select[Any]:
    return entry_columns().where(
        ENTRY.c.participant_id == _ID,
        ENTRY.c.visit == bindparam("visit", type_=String),
        ENTRY.c.instrument == bindparam("instrument", type_=String),
        ENTRY.c.repeat == bindparam("repeat", type_=Integer),
    )


def entry_columns() -> Select[Any]:
    """The SELECT that `entry_state` reads: an entry and its participant's code."""
    return select(*ENTRY.c, PARTICIPANT.c.code.label("participant")).join(
        PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id
    )


STATE = tuple(entry_columns().selected_columns.keys())
"""The names of what `entry_state` reads."""


def entry_state(row: Mapping[str, Any]) -> EntryState:
    """The entry of a row that `entry_columns` selected."""
    read = {name: json.loads(row[name]) for name in ("values", "reasons", "verified")}
    read["values"] = cells_of(read["values"])
    return EntryState(**{**row, **read})


def entry_of(session: Session, participant_id: int, visit: str, instrument: str, repeat: int = 1) -> EntryState | None:
    """The entry of this participant in this instrument at this visit, or None; `repeat`: for the how-manieth time."""
    wanted = {"participant_id": participant_id, "visit": visit, "instrument": instrument, "repeat": repeat}
    row = session.execute(_entry_query(), wanted).mappings().first()
    return None if row is None else entry_state(dict(row))


def entries_with_values(session: Session, participant_id: int) -> list[EntryState]:
    """Every entry of a participant with its values, in the order in which they were begun."""
    rows = session.execute(_all_entries(), {"participant_id": participant_id}).mappings()
    return [entry_state(dict(row)) for row in rows]


@cache
def _all_entries() -> Select[Any]:
    return entry_columns().where(ENTRY.c.participant_id == _ID).order_by(ENTRY.c.id)


def entries_of(session: Session, participant_id: int) -> dict[tuple[str, str], EntryMark]:
    """How far every entry of a participant is, by (visit, instrument)."""
    return _marks(session.execute(_MARKS, {"participant_id": participant_id}).all())


def forms_begun(session: Session, participant_id: int, visit: str) -> dict[str, int | None]:
    """The instruments that are begun at a visit: the first time that is not complete, or None where all of it is.

    What was entered in error asks for nothing.
    """
    found: dict[str, int | None] = {}
    for instrument, repeat, is_whole in session.execute(
        _forms_begun(), {"participant_id": participant_id, "visit": visit}
    ):
        if found.get(instrument) is None:
            found[instrument] = None if is_whole else repeat
    return found


@cache
def _forms_begun() -> Select[Any]:
    return (
        select(
            ENTRY.c.instrument,
            ENTRY.c.repeat,
            or_(ENTRY.c.status == EntryStatus.COMPLETE, ENTRY.c.in_error_at.is_not(None)),
        )
        .where(ENTRY.c.participant_id == _ID, ENTRY.c.visit == bindparam("visit", type_=String))
        .order_by(ENTRY.c.repeat)
    )


def entries_and_drafts(
    session: Session, participant_id: int, *, by: Actor
) -> tuple[dict[tuple[str, str], EntryMark], frozenset[tuple[str, str]]]:
    """`entries_of` and, in the same statement, where this person has typed something that is not saved, by the visit
    and the name of the form (`capture.rules.form_name`).

    Nobody sees another's drafts.
    """
    rows = session.execute(_MARKS_AND_DRAFTS, {"participant_id": participant_id, "person_id": by.person_id}).all()
    drafts = frozenset((row.visit, form_name(row.instrument, row.repeat)) for row in rows if row.is_draft)
    return _marks([row for row in rows if not row.is_draft]), drafts


def _marks(rows: Iterable[Row[Any]]) -> dict[tuple[str, str], EntryMark]:
    found: dict[tuple[str, str], list[EntryMark]] = {}
    for row in rows:
        found.setdefault((row.visit, row.instrument), []).append(_mark(row))
    return {place: together(marks) for place, marks in found.items()}


def repeats_page(
    session: Session,
    participant_id: int,
    visit: str,
    instrument: str,
    *,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[EntryMark]:
    """One page of how often a form was filled in at a visit, in the order of their numbers."""
    query = _MARKS.where(ENTRY.c.visit == visit, ENTRY.c.instrument == instrument)
    values = {"participant_id": participant_id}
    page = paging.page_by_number(
        session, query, ENTRY.c.repeat, cursor=cursor, limit=limit, values=values, falling=False
    )
    return page.made(_mark)


@dataclass(frozen=True)
class EntryLine:
    """One entry of a study, without what it says, and of whom it is."""

    participant: str
    site: str
    visit: str
    instrument: str
    repeat: int
    status: str
    version: int
    is_signed: bool
    saved_at: datetime
    saved_by: str
    is_in_error: bool


def entries_page(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    participant: str | None = None,
    visit: str | None = None,
    instrument: str | None = None,
    status: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[EntryLine]:
    """One page of the entries at the person's sites, in one statement: the one that was begun last first.

    `since` and `until` are of when an entry was saved last.
    """
    require(by, Permission.ENTRY_READ)
    query = (
        select(
            *(ENTRY.c[name] for name in ("id", "visit", "instrument", "repeat", "status", "version")),
            *(ENTRY.c[name] for name in ("saved_at", "saved_by", "signed_at", "in_error_at")),
            PARTICIPANT.c.code.label("participant"),
            SITE.c.code.label("site"),
        )
        .join(PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id)
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .where(ENTRY.c.study_id == study.id, *within(ENTRY.c.saved_at, since, until))
    )
    mine = sites_for(by, Permission.ENTRY_READ)
    if mine is not None:
        query = query.where(ENTRY.c.site_id.in_(sorted(mine)))
    wanted = (
        (PARTICIPANT.c.code, participant),
        (ENTRY.c.visit, visit),
        (ENTRY.c.instrument, instrument),
        (ENTRY.c.status, status),
    )
    query = query.where(*(column == value for column, value in wanted if value is not None))
    page = paging.page_by_number(session, query, ENTRY.c.id, cursor=cursor, limit=limit)
    return page.made(_line)


def _line(row: Row[Any]) -> EntryLine:
    same = ("participant", "site", "visit", "instrument", "repeat", "status", "version", "saved_at", "saved_by")
    said = {name: row._mapping[name] for name in same}
    return EntryLine(**said, is_signed=row.signed_at is not None, is_in_error=row.in_error_at is not None)


def repeat_labels(session: Session, study: StudyInUse, participant_id: int) -> dict[tuple[str, str], object]:
    """(visit, name of the form) -> the answer that a repeat is called by in lists; no statement where none is."""
    named = {}
    for form in study.definition.instruments:
        if form.repeats and form.repeat_label is not None and form.item(form.repeat_label) is not None:
            named[form.code] = form.repeat_label
    if not named:
        return {}
    query = select(ENTRY.c.visit, ENTRY.c.instrument, ENTRY.c.repeat, ENTRY.c["values"]).where(
        ENTRY.c.participant_id == participant_id, ENTRY.c.instrument.in_(sorted(named))
    )
    return {
        (visit, form_name(code, repeat)): json.loads(values).get(named[code])
        for visit, code, repeat, values in session.execute(query)
    }


def together(marks: Sequence[EntryMark]) -> EntryMark:
    """How far all entries of one form at one visit are; where every one of them is in error, nothing is complete."""
    if len(marks) == 1 and not marks[0].is_in_error:
        return replace(marks[0], repeats=(marks[0],))
    marks = sorted(marks, key=lambda mark: mark.repeat)
    standing = [mark for mark in marks if not mark.is_in_error]
    last = max(standing or marks, key=lambda mark: mark.saved_at)
    whole = bool(standing) and all(mark.status == EntryStatus.COMPLETE for mark in standing)
    return replace(
        last,
        status=EntryStatus.COMPLETE if whole else EntryStatus.PARTIAL,
        version=marks[0].version,
        is_signed=bool(standing) and all(mark.is_signed for mark in standing),
        has_query=any(mark.has_query for mark in marks),
        is_verified=bool(standing) and all(mark.is_verified for mark in standing),
        repeat=1,
        is_in_error=not standing,
        repeats=tuple(marks),
    )


def _mark(row: Row[Any]) -> EntryMark:
    return EntryMark(
        row.status,
        row.version,
        row.signed_at is not None,
        row.saved_at,
        row.saved_by,
        bool(row.has_query),
        row.verified_at is not None,
        row.repeat,
        row.in_error_at is not None,
    )


def answers_of(session: Session, study: StudyInUse, participant_id: int) -> Answers:
    """Every stored value of a participant by (event, item); the answers of the pre-screen are event "screening".

    What was entered in error is none of it. Of forms that repeat see `answers_from`.
    """
    screening = session.execute(_SCREENED, {"participant_id": participant_id}).scalar()
    rows = session.execute(_ANSWERS, {"participant_id": participant_id, "study_id": study.id})
    return answers_from(
        json.loads(screening or "{}"), [Filled(row[0], row[1], row[2], json.loads(row[3])) for row in rows]
    )


@dataclass(frozen=True)
class Filled:
    """What one entry says, as far as expressions of others refer to it."""

    visit: str
    instrument: str
    repeat: int
    values: Mapping[str, object]


def answers_from(screening: Mapping[str, object], entries: Iterable[Filled]) -> dict[tuple[str, str], object]:
    """Values by (event, item): of the pre-screen, and of entries.

    An answer given when a form was filled in again stands under `checks.instance_of(item, repeat)`, and the numbers of
    a form that was filled in under `checks.instances_of(instrument)`.
    """
    answers: Answers = {(SCREENING, item): value for item, value in screening.items()}
    numbers: dict[tuple[str, str], list[int]] = {}
    for each in entries:
        answers.update({(each.visit, instance_of(item, each.repeat)): value for item, value in each.values.items()})
        numbers.setdefault((each.visit, instances_of(each.instrument)), []).append(each.repeat)
    # A form that is filled in once has no numbers worth keeping.
    return answers | {place: sorted(found) for place, found in numbers.items() if found != [1]}


def place_of(
    session: Session, participant_id: int, visit: str, instrument: str, *, by: Actor, repeat: int = 1
) -> Place:
    """What saving an entry must know beside the entry itself, in one statement."""
    wanted = place_wanted(participant_id, visit, instrument, by=by, repeat=repeat)
    row = session.execute(_PLACE, wanted).mappings().first()
    if row is None:
        raise NotFound
    return place_from(row)


def place_wanted(participant_id: int, visit: str, instrument: str, *, by: Actor, repeat: int) -> dict[str, object]:
    """The parameters of a query for the columns `PLACE`."""
    return {
        "participant_id": participant_id,
        "visit": visit,
        "instrument": instrument,
        "repeat": repeat,
        "person_id": by.person_id,
    }


def place_from(row: RowMapping) -> Place:
    """What a row with the columns `PLACE` says."""
    status, visit_status = row["at_status"], row["at_visit_status"]
    stopped: Stopped | None = None
    if visit_status == VisitStatus.STOPPED:
        left = row["at_left_on"] is not None or status == Status.WITHDRAWN
        treatment = row["at_visit_kind"] == VisitKind.TREATMENT and row["at_treatment_stopped_on"] is not None
        stopped = why_stopped(Status(status), left=left, treatment=treatment)
    elif visit_status == VisitStatus.IN_ERROR:
        stopped = Stopped.IN_ERROR
    return Place(
        screen_failed=status == Status.SCREEN_FAILED,
        is_scheduled=visit_status is not None,
        stopped=stopped,
        is_missed=visit_status == VisitStatus.MISSED,
        timezone=row["at_timezone"],
        draft_at=row["at_draft"],
        screening=json.loads(row["at_screening"] or "{}"),
        lock=row["at_lock"],
        begun=row["at_begun"],
        consented=bool(row["at_consented"]),
    )


_AT_VISIT, _AT_INSTRUMENT = bindparam("visit", type_=String), bindparam("instrument", type_=String)
PLACE = (
    PARTICIPANT.c.status.label("at_status"),
    PARTICIPANT.c.left_on.label("at_left_on"),
    PARTICIPANT.c.treatment_stopped_on.label("at_treatment_stopped_on"),
    SITE.c.timezone.label("at_timezone"),
    VISIT.c.status.label("at_visit_status"),
    VISIT.c.kind.label("at_visit_kind"),
    DRAFT.c.saved_at.label("at_draft"),
    _SCREENED.scalar_subquery().label("at_screening"),
    lock_covering(PARTICIPANT.c.study_id).label("at_lock"),
    select(func.count())
    .where(ENTRY.c.participant_id == _ID, ENTRY.c.visit == _AT_VISIT, ENTRY.c.instrument == _AT_INSTRUMENT)
    .scalar_subquery()
    .label("at_begun"),
    CONSENTED.label("at_consented"),
)
"""What `place_from` reads, of the parameters that `place_wanted` gives, from `AT_PLACE`."""
AT_PLACE = (
    PARTICIPANT.join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
    .outerjoin(VISIT, and_(VISIT.c.participant_id == PARTICIPANT.c.id, VISIT.c.code == _AT_VISIT))
    .outerjoin(
        DRAFT,
        and_(
            DRAFT.c.person_id == bindparam("person_id", type_=Integer),
            DRAFT.c.participant_id == PARTICIPANT.c.id,
            DRAFT.c.visit == _AT_VISIT,
            DRAFT.c.instrument == _AT_INSTRUMENT,
            DRAFT.c.repeat == bindparam("repeat", type_=Integer),
        ),
    )
)
OF_THEM = PARTICIPANT.c.id == _ID
# Built once: putting a SELECT together takes longer than running it.
_PLACE = select(*PLACE).select_from(AT_PLACE).where(OF_THEM)


@dataclass(frozen=True)
class Stored:
    """Where something is entered, what is saved there, and its visit with its dates; None of what is not there."""

    place: Place
    entry: EntryState | None
    visit: ParticipantVisit | None


def stored_at(
    session: Session, participant_id: int, visit: str, instrument: str, *, by: Actor, repeat: int = 1
) -> Stored:
    """`place_of`, `entry_of` and the visit, in one statement: what every page of a form must know."""
    wanted = place_wanted(participant_id, visit, instrument, by=by, repeat=repeat)
    row = session.execute(_stored(), wanted).mappings().first()
    if row is None:
        raise NotFound
    dates = {column.name: row[f"visit_{column.name}"] for column in VISIT.c}
    return Stored(
        place_from(row),
        entry_state({name: row[name] for name in STATE}) if row["id"] is not None else None,
        made_of(ParticipantVisit, dates) if dates["id"] is not None else None,
    )


@cache
def _stored() -> Select[Any]:
    entry = _entry_query().subquery("entry_there")
    dates = (column.label(f"visit_{column.name}") for column in VISIT.c)
    return select(*PLACE, *dates, entry).select_from(AT_PLACE.outerjoin(entry, true())).where(OF_THEM)


def draft_of(
    session: Session, participant_id: int, visit: str, instrument: str, *, by: Actor, repeat: int = 1
) -> DraftState | None:
    """What this person typed into this form and has not saved, or None. Nobody sees another person's draft."""
    row = session.execute(
        select(DRAFT.c.typed, DRAFT.c.base_version, DRAFT.c.saved_at, DRAFT.c.page).where(
            DRAFT.c.person_id == by.person_id,
            DRAFT.c.participant_id == participant_id,
            DRAFT.c.visit == visit,
            DRAFT.c.instrument == instrument,
            DRAFT.c.repeat == repeat,
        )
    ).first()
    return None if row is None else DraftState(json.loads(row.typed), row.base_version, row.saved_at, row.page)


def history(
    session: Session,
    study: StudyInUse,
    participant_code: str,
    visit: str,
    instrument: str,
    item: str | None = None,
    *,
    repeat: int = 1,
) -> list[HistoryLine]:
    """Every change of one item, oldest first; without an item, of the whole entry with its signatures (EMA-5)."""
    subject = f"entry/{visit}/{form_name(instrument, repeat)}"
    return history_of(session, study.code, participant_code, subject, item=item)


def unsigned_visits(
    session: Session, study: StudyInUse, *, by: Actor, cursor: str | None = None, limit: int | None = None
) -> paging.Page[UnsignedVisit]:
    """One page of the visits with complete entries that this person may sign and nobody has, and how many there are.

    The visit of the primary endpoint comes first, then what was saved last: what is still fresh in mind.
    """
    size = paging.page_size(limit)
    sites = sites_for(by, Permission.ENTRY_SIGN)
    if sites is not None and not sites:
        return paging.Page([], total=0)
    waiting = _unsigned(study, sites)
    primary = {outcome.visit for each in study.definitions for outcome in each.outcomes if outcome.kind == "primary"}
    lines = (
        waiting.with_only_columns(
            case((ENTRY.c.visit.in_(primary), 1), else_=0).label("is_primary"),
            func.max(ENTRY.c.saved_at, type_=ENTRY.c.saved_at.type).label("saved_at"),
            ENTRY.c.participant_id,
            ENTRY.c.visit,
            PARTICIPANT.c.code.label("participant"),
            PARTICIPANT.c.site_id,
        )
        .group_by(ENTRY.c.participant_id, ENTRY.c.visit, PARTICIPANT.c.code, PARTICIPANT.c.site_id)
        .subquery()
    )
    keys = (lines.c.is_primary, lines.c.saved_at, lines.c.participant_id, lines.c.visit)
    order, backwards = [each.desc() for each in keys], False
    if cursor:
        total = session.execute(select(func.count()).select_from(lines)).scalar_one()
        place, backwards = _unsigned_place(cursor)
        query = select(lines).where(tuple_(*keys) > place if backwards else tuple_(*keys) < place)
        found = session.execute(
            query.order_by(*([each.asc() for each in keys] if backwards else order)).limit(size + 1)
        ).all()
    else:  # the first page is on Today, with much else
        query = select(lines, func.count().over().label("total"))
        found = session.execute(query.order_by(*order).limit(size + 1)).all()
        total = found[0].total if found else 0

    def key_of(row: Any) -> tuple[str | int, ...]:
        return row.is_primary, row.saved_at.isoformat(), row.participant_id, row.visit

    page = paging.page_of(found, size, key_of, cursor=cursor, backwards=backwards, total=total)
    forms: dict[tuple[int, str], list[str]] = {}
    if page.rows:
        ids = {row.participant_id for row in page.rows}
        wanted = waiting.with_only_columns(ENTRY.c.participant_id, ENTRY.c.visit, ENTRY.c.instrument, ENTRY.c.repeat)
        for row in session.execute(wanted.where(ENTRY.c.participant_id.in_(ids)).order_by(ENTRY.c.id)):
            forms.setdefault((row.participant_id, row.visit), []).append(form_name(row.instrument, row.repeat))
    return page.made(
        lambda row: UnsignedVisit(
            row.participant, row.site_id, row.visit, tuple(forms[row.participant_id, row.visit]), row.saved_at
        )
    )


def _unsigned(study: StudyInUse, sites: Collection[int] | None) -> Select[Any]:
    query = (
        select(ENTRY.c.id)
        .join(PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id)
        .where(
            ENTRY.c.study_id == study.id,
            _signable(study),
            ENTRY.c.status == EntryStatus.COMPLETE,
            ENTRY.c.signed_at.is_(None),
            ENTRY.c.in_error_at.is_(None),
        )
    )
    if any(each.has_double_entry and "signature" in each.double_entry.before for each in study.definitions):
        query = query.where(not_(is_pending(ENTRY.c.id)))
    return query if sites is None else query.where(PARTICIPANT.c.site_id.in_(sites))


def _signable(study: StudyInUse) -> ColumnElement[bool]:
    """The forms that are signed, as each site's version of the study says."""

    def signed(own: Study) -> ColumnElement[bool]:
        return ENTRY.c.instrument.in_([instrument.code for instrument in own.instruments if instrument.signable])

    return at_each_site(study, signed)


def _unsigned_place(cursor: str) -> tuple[Any, bool]:
    (is_primary, saved_at, participant_id, visit), backwards = paging.decode(cursor, 4)
    try:
        at = datetime.fromisoformat(str(saved_at))
        if at.tzinfo is None:
            raise ValueError
        numbers = int(str(is_primary)), int(str(participant_id))
    except ValueError:
        message = "This page link belongs to another list. Start again from the first page."
        raise Invalid([FieldProblem("cursor", "cursor", message)]) from None
    return tuple_(numbers[0], literal(at, ENTRY.c.saved_at.type), numbers[1], str(visit)), backwards


def _forms_at(definition: Study, code: str) -> int:
    planned = next((visit for visit in definition.visits if visit.code == code), None)
    return len(planned.instruments) if planned else 0


def progress(session: Session, study: StudyInUse, participant_ids: Collection[int]) -> dict[int, Progress]:
    """How far the forms of these participants are, in one statement; every id is answered."""
    if not participant_ids:
        return {}
    ids = list(participant_ids)
    expected = dict.fromkeys(ids, 0)
    counts: dict[tuple[int, str], tuple[int, int]] = {}
    query, wanted = _progress(session.get_bind().dialect.name), {"ids": ids, "study_id": study.id}
    for is_due, participant_id, said, number, signed in session.execute(query, wanted):
        if is_due:
            expected[participant_id] += _forms_at(study.at(number).definition, said)
        else:
            counts[participant_id, said] = (number, signed)
    return {
        each: Progress(
            expected=expected[each],
            partial=counts.get((each, EntryStatus.PARTIAL), (0, 0))[0],
            complete=counts.get((each, EntryStatus.COMPLETE), (0, 0))[0],
            signed=counts.get((each, EntryStatus.COMPLETE), (0, 0))[1],
        )
        for each in ids
    }


@cache
def _progress(kind: str) -> CompoundSelect[Any]:
    planned_or_held = VISIT.c.status.in_(map(written_out, (VisitStatus.PLANNED, VisitStatus.HELD)))
    due = (
        select(literal(True), VISIT.c.participant_id, VISIT.c.code, PARTICIPANT.c.site_id, literal(0))
        .join(PARTICIPANT, PARTICIPANT.c.id == VISIT.c.participant_id)
        .where(among(VISIT.c.participant_id, kind), planned_or_held)
        .where(among(PARTICIPANT.c.id, kind))  # said of both, or PostgreSQL reads every participant to find these
    )
    counted = (
        select(literal(False), ENTRY.c.participant_id, ENTRY.c.status, func.count(), func.count(ENTRY.c.signed_at))
        .where(
            ENTRY.c.study_id == bindparam("study_id", type_=Integer),
            among(ENTRY.c.participant_id, kind),
            ENTRY.c.in_error_at.is_(None),
        )
        .group_by(ENTRY.c.participant_id, ENTRY.c.status)
    )
    return union_all(due, counted)
