"""What may I see of visits? Those of one participant, the next one of each, and what is due at my sites."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import Date, Integer, Select, String, bindparam, func, select, tuple_
from sqlmodel import Session

from app.foundation import paging
from app.foundation.database import KINDS, among, instance_of, table_of
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.participants.identity import PARTICIPANT
from app.participants.reads import SITE, narrowed_to
from app.people.access import Actor, sites_for
from app.people.permissions import Permission
from app.schedule import rules
from app.schedule.models import ParticipantVisit
from app.schedule.rules import VisitState
from app.schedule.status import VisitStatus
from app.studies.definition import VisitKind
from app.studies.in_use import StudyInUse

VISIT = table_of(ParticipantVisit)

# Built once: putting a SELECT together takes longer than running it.
_ID = bindparam("participant_id", type_=Integer)
_VISITS = select(*VISIT.c).where(VISIT.c.participant_id == _ID).order_by(VISIT.c.order, VISIT.c.id)
_VISIT = select(*VISIT.c).where(VISIT.c.participant_id == _ID, VISIT.c.code == bindparam("code", type_=String))
_OF_NEXT = ("participant_id", "code", "kind", "target_on", "opens_on", "closes_on", "status", "held_on")


def _next(kind: str) -> Select[Any]:
    planned = (
        select(
            *(VISIT.c[name] for name in _OF_NEXT),
            func.row_number()
            .over(partition_by=VISIT.c.participant_id, order_by=(VISIT.c.target_on, VISIT.c.order, VISIT.c.id))
            .label("position"),
        )
        .where(among(VISIT.c.participant_id, kind), VISIT.c.status == VisitStatus.PLANNED)
        .subquery()
    )
    return select(*(planned.c[name] for name in _OF_NEXT)).where(planned.c.position == 1)


_NEXT = {kind: _next(kind) for kind in KINDS}


@dataclass(frozen=True)
class NextVisit:
    """The visit a participant has to come to next, or is late for."""

    participant_id: int
    code: str
    kind: str
    target_on: date
    opens_on: date
    closes_on: date
    state: VisitState
    days_left: int


@dataclass(frozen=True)
class DueVisit:
    """One visit that is due or overdue, and whose it is."""

    id: int
    participant_id: int
    participant_code: str
    participant_status: str
    site_id: int
    site_code: str
    code: str
    kind: str
    target_on: date
    opens_on: date
    closes_on: date
    version: int
    status: str
    held_on: date | None
    state: VisitState
    days_left: int


def visits_of(session: Session, participant_id: int) -> list[ParticipantVisit]:
    """The visits of one participant that have dates, in the order of the plan.

    A caller holds the participant already, and so was allowed to see them (`participants.reads.participant_by_code`).
    """
    rows = session.execute(_VISITS, {"participant_id": participant_id}).mappings()
    return [instance_of(ParticipantVisit, row) for row in rows]


def visit_of(session: Session, participant_id: int, code: str) -> ParticipantVisit:
    """One visit of one participant; NotFound when it has no dates (yet) or is not in the plan."""
    row = session.execute(_VISIT, {"participant_id": participant_id, "code": code}).mappings().first()
    if row is None:
        raise NotFound
    return instance_of(ParticipantVisit, row)


def next_visits(session: Session, participant_ids: Iterable[int], today: date) -> dict[int, NextVisit]:
    """Participant id -> their first visit that is planned and not held yet, in one statement."""
    wanted = list(participant_ids)
    if not wanted:
        return {}
    rows = session.execute(_NEXT[session.get_bind().dialect.name], {"ids": wanted})
    return {
        row.participant_id: NextVisit(
            participant_id=row.participant_id,
            code=row.code,
            kind=row.kind,
            target_on=row.target_on,
            opens_on=row.opens_on,
            closes_on=row.closes_on,
            state=rules.visit_state(row, today),
            days_left=rules.days_left(row, today),
        )
        for row in rows
    }


def planned_visits(session: Session, participant_id: int) -> list[ParticipantVisit]:
    """The visits of a participant that are planned and neither held nor missed, in the order of the plan."""
    return [visit for visit in visits_of(session, participant_id) if visit.status == VisitStatus.PLANNED]


# Built once: putting a SELECT together takes longer than running it.
_OPEN = (
    select(
        VISIT.c.id,
        VISIT.c.participant_id,
        PARTICIPANT.c.code.label("participant_code"),
        PARTICIPANT.c.status.label("participant_status"),
        PARTICIPANT.c.site_id,
        SITE.c.code.label("site_code"),
        VISIT.c.code,
        VISIT.c.kind,
        VISIT.c.target_on,
        VISIT.c.opens_on,
        VISIT.c.closes_on,
        VISIT.c.version,
        VISIT.c.status,
        VISIT.c.held_on,
    )
    .join(PARTICIPANT, PARTICIPANT.c.id == VISIT.c.participant_id)
    .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
    .where(
        VISIT.c.study_id == bindparam("study_id", type_=Integer),
        VISIT.c.status == VisitStatus.PLANNED,
        VISIT.c.target_on <= bindparam("latest", type_=Date),
        VISIT.c.opens_on <= bindparam("until", type_=Date),
    )
)


def visits_due(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    today: date,
    until: date | None = None,
    permission: Permission = Permission.PARTICIPANT_READ,
    kinds: Collection[VisitKind] | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[DueVisit]:
    """Visits not held yet whose window is open, over, or opens by `until` (today when not given), earliest first."""
    size = paging.page_size(limit)
    until = until or today
    # A window opens at most this long before its target: a bound that lets the index end the search early.
    longest = max((visit.window.before for plan in study.definitions for visit in plan.visits), default=0)
    query = narrowed_to(_open_of(None if kinds is None else tuple(kinds)), sites_for(by, permission))
    wanted: dict[str, object] = {"study_id": study.id, "until": until, "latest": until + timedelta(days=longest)}
    wanted["size"] = size + 1
    key, backwards = paging.decode(cursor, 2, str, int) if cursor else ([], False)
    if key:
        wanted["on"], wanted["number"] = _position(key)
    found = session.execute(_in_turn(query, backwards, bool(key)), wanted).all()
    page = paging.page_of(
        found, size, lambda row: (row.target_on.isoformat(), row.id), cursor=cursor, backwards=backwards
    )
    return page.made(lambda row: _due(row, today))


@lru_cache(maxsize=16)
def _open_of(kinds: tuple[VisitKind, ...] | None) -> Select[Any]:
    return _OPEN if kinds is None else _OPEN.where(VISIT.c.kind.in_([kind.value for kind in kinds]))


@lru_cache(maxsize=256)
def _in_turn(query: Select[Any], backwards: bool, goes_on: bool) -> Select[Any]:
    here, there = tuple_(VISIT.c.target_on, VISIT.c.id), tuple_(_ON, _NUMBER)
    if goes_on:
        query = query.where(here < there if backwards else here > there)
    order = [one.desc() if backwards else one.asc() for one in (VISIT.c.target_on, VISIT.c.id)]
    return query.order_by(*order).limit(bindparam("size", type_=Integer))


_ON, _NUMBER = bindparam("on", type_=Date), bindparam("number", type_=Integer)


def _due(row: Any, today: date) -> DueVisit:
    return DueVisit(**row._asdict(), state=rules.visit_state(row, today), days_left=rules.days_left(row, today))


def _position(key: list[Any]) -> tuple[date, int]:
    on, visit_id = key
    try:
        return date.fromisoformat(on), visit_id
    except ValueError:
        message = "This page link belongs to another list. Start again from the first page."
        raise Invalid([FieldProblem("cursor", "cursor", message)]) from None
