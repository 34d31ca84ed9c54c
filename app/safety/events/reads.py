"""What may I see of adverse events? Lists, one event with every report and judgement, and the clocks that run."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Integer,
    String,
    and_,
    bindparam,
    false,
    func,
    or_,
    select,
    true,
    tuple_,
)
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT
from app.foundation import paging
from app.foundation.database import Instant, table_of, within
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.participants.identity import PARTICIPANT
from app.participants.reads import SITE
from app.people.access import Actor, may, sites_for
from app.people.permissions import Permission
from app.safety.events.rules import ClockState, Details, Report, State
from app.safety.models import AdverseEvent, AdverseEventReport, EventClock, EventJudgement
from app.studies.in_use import StudyInUse

EVENT = table_of(AdverseEvent)
REPORT = table_of(AdverseEventReport)
JUDGEMENT = table_of(EventJudgement)
CLOCK = table_of(EventClock)

# Built once: putting a SELECT together takes longer than running it.
_OF = bindparam("of_event", type_=Integer)
_EVENTS = (
    select(
        *EVENT.c,
        PARTICIPANT.c.code.label("participant"),
        PARTICIPANT.c.site_id,
        SITE.c.code.label("site"),
    )
    .join(PARTICIPANT, PARTICIPANT.c.id == EVENT.c.participant_id)
    .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
    .where(EVENT.c.study_id == bindparam("study_id", type_=Integer))
)
_REPORTS = select(REPORT).where(REPORT.c.event_id == _OF).order_by(REPORT.c.version)
_JUDGEMENTS = select(JUDGEMENT).where(JUDGEMENT.c.event_id == _OF).order_by(JUDGEMENT.c.id)
_CLOCKS = select(CLOCK).where(CLOCK.c.event_id == _OF).order_by(CLOCK.c.due_at, CLOCK.c.id)
_AMONG = bindparam("of_events", type_=Integer, expanding=True)
_MANY_REPORTS = select(REPORT).where(REPORT.c.event_id.in_(_AMONG)).order_by(REPORT.c.event_id, REPORT.c.version)
_MANY_JUDGEMENTS = select(JUDGEMENT).where(JUDGEMENT.c.event_id.in_(_AMONG)).order_by(JUDGEMENT.c.id)
_MANY_CLOCKS = select(CLOCK).where(CLOCK.c.event_id.in_(_AMONG)).order_by(CLOCK.c.due_at, CLOCK.c.id)
_KNEW = (
    select(AUDIT.c.position)
    .where(
        AUDIT.c.log == bindparam("log", type_=String),
        AUDIT.c.participant == bindparam("participant", type_=String),
        AUDIT.c.action == "allocation.unblinded",
        AUDIT.c.username == bindparam("username", type_=String),
    )
    .limit(1)
)


class Sort(StrEnum):
    """What the list of events can be sorted by."""

    NUMBER = "number"
    ONSET = "onset"
    PARTICIPANT = "participant"
    STATE = "state"


_COLUMNS: dict[Sort, ColumnElement[Any]] = {
    Sort.NUMBER: EVENT.c.id,
    Sort.ONSET: EVENT.c.onset_on,
    Sort.PARTICIPANT: PARTICIPANT.c.code,
    Sort.STATE: EVENT.c.state,
}


@dataclass(frozen=True)
class Wanted:
    """Which events somebody looks for; None means any. `waiting`: those that an investigator or a reviewer has.

    `since` and `until` are of when they were first reported.
    """

    site: str | None = None
    participant: str | None = None
    serious: bool | None = None
    waiting: str | None = None
    search: str | None = None
    state: State | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class EventRow:
    """One event as it stands. Judgement and review are None for who may not see them (`sees_all` of the reader)."""

    number: int
    participant_id: int
    participant: str
    site_id: int
    site: str
    version: int
    state: State
    term: str
    code: str | None
    onset: str
    severity: str
    outcome: str
    serious_since: datetime | None
    relatedness: str | None
    expected: bool | None
    reported_at: datetime
    reported_by: str

    @property
    def serious(self) -> bool:
        """Whether its newest report says that it is serious."""
        return self.serious_since is not None


@dataclass(frozen=True)
class Judgement:
    """A judgement, or what a second person said of one (`kind`), of the version it is about."""

    number: int
    version: int
    kind: str
    relatedness: str | None
    expected: bool | None
    words: str
    knew_arm: bool
    at: datetime
    by: str
    name: str


@dataclass(frozen=True)
class ClockRow:
    """A deadline of an event. `follows`: the version whose news it is for, 0 for the first report."""

    code: str
    follows: int
    state: ClockState
    started_at: datetime
    due_at: datetime
    steps_taken: int
    sent_at: datetime | None
    reference: str | None
    reported_at: datetime | None
    reported_by: str | None


@dataclass(frozen=True)
class Running:
    """A deadline that runs, and of which event."""

    number: int
    participant: str
    site: str
    site_id: int
    term: str
    code: str
    due_at: datetime


def sees_all(by: Actor, site_id: int) -> bool:
    """Whether somebody sees an event with its judgement; who treats sees what they reported themselves."""
    return may(by, Permission.SAFETY_READ, site_id=site_id)


def visible(by: Actor) -> ColumnElement[bool]:
    """The condition on events that leaves only those this person may know."""
    return visible_to(*known_at(by), by.username)


Known = tuple[frozenset[int] | None, frozenset[int] | None]


def known_at(by: Actor) -> Known:
    """The sites whose events this person may know, and those where they may know what they reported; None: all."""
    sites = sites_for(by, Permission.SAFETY_READ)
    return sites, frozenset() if by.blinded else sites_for(by, Permission.EVENT_REPORT)


def visible_to(
    sites: frozenset[int] | None, reporting: frozenset[int] | None, username: str | BindParameter[str]
) -> ColumnElement[bool]:
    """The same of whoever has this username, for a statement that is built once for many."""
    if sites is None:
        return true()
    everything = PARTICIPANT.c.site_id.in_(sorted(sites)) if sites else false()
    if reporting == frozenset():
        return everything
    own = EVENT.c.reported_by == username
    return or_(everything, own if reporting is None else and_(own, PARTICIPANT.c.site_id.in_(sorted(reporting))))


def events_page(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    wanted: Wanted = Wanted(),
    sort: Sort = Sort.NUMBER,
    descending: bool = True,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[EventRow]:
    """One page of the events this person may know, the newest first unless asked otherwise."""
    size = paging.page_size(limit)
    if not f"{wanted.site or ''}{wanted.participant or ''}{wanted.search or ''}".isprintable():
        return paging.Page([])  # PostgreSQL keeps no NUL
    query = _EVENTS.where(visible(by), *_conditions(study, wanted))
    here = tuple_(_COLUMNS[sort], EVENT.c.id)
    key, backwards = paging.decode(cursor, 3) if cursor else ([], False)
    falling = backwards != descending
    if key:
        place = tuple_(*_position(sort, key))
        query = query.where(here < place if falling else here > place)
    order = [one.desc() if falling else one.asc() for one in (_COLUMNS[sort], EVENT.c.id)]
    found = session.execute(query.order_by(*order).limit(size + 1), {"study_id": study.id}).all()
    page = paging.page_of(found, size, lambda row: (sort.value, *_key(sort, row)), cursor=cursor, backwards=backwards)
    return page.made(lambda row: _event(row, by))


def _conditions(study: StudyInUse, wanted: Wanted) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.site:
        found.append(SITE.c.code == wanted.site)
    if wanted.participant:
        found.append(PARTICIPANT.c.code == wanted.participant)
    if wanted.serious is not None:
        found.append(EVENT.c.serious_since.is_not(None) if wanted.serious else EVENT.c.serious_since.is_(None))
    if wanted.waiting == "judgement":
        found.append(EVENT.c.state.in_((State.REPORTED.value, State.RETURNED.value)))
    elif wanted.waiting == "review":
        found.append(EVENT.c.state == State.JUDGED.value)
        if study.definition.safety.review == "serious":
            found.append(EVENT.c.serious_since.is_not(None))
    if wanted.search:
        found.append(func.lower(EVENT.c.term).contains(wanted.search.casefold(), autoescape=True))
    if wanted.state is not None:
        found.append(EVENT.c.state == wanted.state)
    return [*found, *within(EVENT.c.reported_at, wanted.since, wanted.until)]


def _key(sort: Sort, row: Any) -> tuple[str | int, int]:
    if sort is Sort.NUMBER:
        return row.id, row.id
    said = {Sort.ONSET: row.onset_on.isoformat(), Sort.PARTICIPANT: row.participant, Sort.STATE: row.state}[sort]
    return str(said), row.id


def _position(sort: Sort, key: Sequence[Any]) -> tuple[Any, int]:
    name, value, number = key
    try:
        if name != sort or type(number) is not int or type(value) is not (int if sort is Sort.NUMBER else str):
            raise ValueError
        return (date.fromisoformat(str(value)) if sort is Sort.ONSET else value), number
    except ValueError:
        message = "This page link belongs to another list. Start again from the first page."
        raise Invalid([FieldProblem("cursor", "cursor", message)]) from None


def event_of(session: Session, study: StudyInUse, number: int, *, by: Actor) -> EventRow:
    """One event; NotFound when there is none of this number that the person may know."""
    if not 0 <= number < 2**31:  # no column holds more
        raise NotFound
    row = session.execute(_EVENTS.where(EVENT.c.id == number, visible(by)), {"study_id": study.id}).first()
    if row is None:
        raise NotFound
    return _event(row, by)


def _event(row: Any, by: Actor) -> EventRow:
    everything = sees_all(by, row.site_id)
    state = State(row.state)
    return EventRow(
        number=row.id,
        participant_id=row.participant_id,
        participant=row.participant,
        site_id=row.site_id,
        site=row.site,
        version=row.version,
        state=state if everything or state is State.VOID else State.REPORTED,
        term=row.term,
        code=row.code,
        onset=row.onset,
        severity=row.severity,
        outcome=row.outcome,
        serious_since=row.serious_since,
        relatedness=row.relatedness if everything else None,
        expected=row.expected if everything else None,
        reported_at=row.reported_at,
        reported_by=row.reported_by,
    )


def reports_of(session: Session, number: int) -> tuple[Report, ...]:
    """Every report of an event that the caller holds already, the oldest first; the last one stands."""
    return tuple(map(_report, session.execute(_REPORTS, {"of_event": number})))


def _report(row: Any) -> Report:
    return Report(
        version=row.version,
        kind=row.kind,
        details=details_in(row.details),
        why=row.why,
        aware_at=row.aware_at,
        corrects=row.corrects,
        confirmed=row.confirmed,
        at=row.reported_at,
        by=row.reported_by,
    )


def details_in(stored: str) -> Details:
    """What a report says, from its JSON."""
    said = json.loads(stored)
    return Details(**{**said, "criteria": tuple(said["criteria"])})


def judgements_of(session: Session, number: int) -> tuple[Judgement, ...]:
    """Every judgement and review of an event that the caller holds already, the oldest first."""
    return tuple(map(_judgement, session.execute(_JUDGEMENTS, {"of_event": number})))


def _judgement(row: Any) -> Judgement:
    return Judgement(
        number=row.id,
        version=row.version,
        kind=row.kind,
        relatedness=row.relatedness,
        expected=row.expected,
        words=row.words,
        knew_arm=row.knew_arm,
        at=row.judged_at,
        by=row.judged_by,
        name=row.judged_name,
    )


def clocks_of(session: Session, number: int) -> tuple[ClockRow, ...]:
    """The deadlines of an event that the caller holds already, the first to come first."""
    return tuple(_clock(row) for row in session.execute(_CLOCKS, {"of_event": number}))


@dataclass(frozen=True)
class History:
    """All that was reported and judged of one event, the oldest first, and its deadlines, the first to come first."""

    reports: tuple[Report, ...]
    judgements: tuple[Judgement, ...]
    clocks: tuple[ClockRow, ...]


def histories_of(session: Session, numbers: Collection[int]) -> dict[int, History]:
    """The same of many events that the caller holds already, by number: three statements, however many there are."""
    if not numbers:
        return {}
    reports: dict[int, list[Report]] = {}
    judgements: dict[int, list[Judgement]] = {}
    clocks: dict[int, list[ClockRow]] = {}
    asked = {"of_events": sorted(numbers)}
    for row in session.execute(_MANY_REPORTS, asked):
        reports.setdefault(row.event_id, []).append(_report(row))
    for row in session.execute(_MANY_JUDGEMENTS, asked):
        judgements.setdefault(row.event_id, []).append(_judgement(row))
    for row in session.execute(_MANY_CLOCKS, asked):
        clocks.setdefault(row.event_id, []).append(_clock(row))
    return {
        number: History(
            tuple(reports.get(number, ())), tuple(judgements.get(number, ())), tuple(clocks.get(number, ()))
        )
        for number in numbers
    }


def _clock(row: Any) -> ClockRow:
    return ClockRow(
        code=row.code,
        follows=row.follows,
        state=ClockState(row.state),
        started_at=row.started_at,
        due_at=row.due_at,
        steps_taken=row.steps_taken,
        sent_at=row.sent_at,
        reference=row.reference,
        reported_at=row.reported_at,
        reported_by=row.reported_by,
    )


def running_clocks(session: Session, study: StudyInUse, *, by: Actor, limit: int = 25) -> list[Running]:
    """The deadlines that run at the person's sites, the first to come first."""
    sites = sites_for(by, Permission.SAFETY_READ)
    query = (
        select(
            EVENT.c.id,
            EVENT.c.term,
            PARTICIPANT.c.code.label("participant"),
            PARTICIPANT.c.site_id,
            SITE.c.code.label("site"),
            CLOCK.c.code,
            CLOCK.c.due_at,
        )
        .select_from(CLOCK)
        .join(EVENT, EVENT.c.id == CLOCK.c.event_id)
        .join(PARTICIPANT, PARTICIPANT.c.id == EVENT.c.participant_id)
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .where(CLOCK.c.study_id == study.id, CLOCK.c.state == ClockState.RUNNING.value)
        .order_by(CLOCK.c.due_at, CLOCK.c.id)
        .limit(limit)
    )
    if sites is not None:
        query = query.where(PARTICIPANT.c.site_id.in_(sorted(sites)) if sites else false())
    return [
        Running(row.id, row.participant, row.site, row.site_id, row.term, row.code, row.due_at)
        for row in session.execute(query)
    ]


def due_of(session: Session, numbers: Iterable[int]) -> dict[int, datetime]:
    """Event -> the first deadline that runs for it; events without one are left out."""
    wanted = list(numbers)
    if not wanted:
        return {}
    query = (
        select(CLOCK.c.event_id, func.min(CLOCK.c.due_at, type_=Instant()).label("due_at"))
        .where(CLOCK.c.event_id.in_(wanted), CLOCK.c.state == ClockState.RUNNING.value)
        .group_by(CLOCK.c.event_id)
    )
    return {row.event_id: row.due_at for row in session.execute(query)}


def timezone_of(session: Session, site_id: int) -> str:
    """The time zone of a site."""
    return str(session.execute(select(SITE.c.timezone).where(SITE.c.id == site_id)).scalar_one())


def knew_arm(session: Session, study: StudyInUse, participant: str, *, by: Actor) -> bool:
    """Whether this person broke the blind of this participant before: the log knows, and never which arm it was."""
    asked = {"log": study.code, "participant": participant, "username": by.username}
    return session.execute(_KNEW, asked).first() is not None
