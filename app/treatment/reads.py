"""What may I see of treatment? For those who treat: their participants with the arm, and every session's content.

Everything here shows an arm, so it opens envelopes, and each opening is written down: the session must be a writing
one, also for a page that only shows.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Date, func, literal, select, tuple_
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT
from app.foundation import paging
from app.foundation.database import keys_of, table_of
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.participants.models import Participant
from app.people.access import Actor, may, require, sites_for
from app.people.models import Site
from app.people.permissions import Permission
from app.randomisation.models import Allocation
from app.randomisation.opening import open_envelope, open_envelopes
from app.schedule.models import ParticipantVisit
from app.schedule.status import VisitStatus
from app.studies.definition import TreatmentModule, VisitKind
from app.studies.in_use import StudyInUse
from app.treatment.models import TreatmentSession
from app.treatment.rules import Adherence, modules_of, treatment_visits
from app.treatment.sealing import unseal_session

PARTICIPANT = table_of(Participant)
SITE = table_of(Site)
ALLOCATION = table_of(Allocation)
VISIT = table_of(ParticipantVisit)
SESSION = table_of(TreatmentSession)

RECORDED = "session.recorded"
CORRECTED = "session.corrected"

NEVER = date.max  # where those stand who have no session to come


@dataclass(frozen=True)
class Treated:
    """One participant whom this person treats, with their arm."""

    participant_id: int
    code: str
    site: str
    site_id: int
    status: str
    treatment_stopped_on: date | None
    number: int
    allocated_at: datetime
    arm: str
    arm_label: str
    adherence: Adherence
    next_visit: str | None
    next_on: date | None


@dataclass(frozen=True)
class SessionRow:
    """One planned session: its window, what became of the visit, and what was delivered (None: nothing recorded)."""

    visit: str
    label: str
    target_on: date | None
    opens_on: date | None
    closes_on: date | None
    status: str
    held_on: date | None
    version: int
    delivered: Mapping[str, Mapping[str, object] | bool] | None
    saved_at: datetime | None
    saved_by: str | None


@dataclass(frozen=True)
class Treatment:
    """All sessions of one participant, and what a session of their arm consists of."""

    arm: str
    arm_label: str
    modules: tuple[TreatmentModule, ...]
    sessions: tuple[SessionRow, ...]
    adherence: Adherence


@dataclass(frozen=True)
class SessionVersion:
    """One version of a session's record, as the log keeps it."""

    version: int
    delivered: Mapping[str, Mapping[str, object] | bool]
    why: str | None
    at: datetime
    username: str


def my_participants(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    now: datetime,
    next_first: bool = False,
    to_come: bool = False,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[Treated]:
    """One page of the randomised participants at the person's sites, with their arms.

    By code; or with `next_first` by the day of their next planned session, those without one last. `to_come` leaves
    out those without one.
    """
    require(by, Permission.ARM_READ, action="arm.read")
    size = paging.page_size(limit)
    treated = _treated(study, by).subquery()
    query = select(*treated.c)
    if to_come:
        query = query.where(treated.c.next_on < NEVER)
    keys = (treated.c.next_on, treated.c.code) if next_first else (treated.c.code,)
    backwards = False
    if cursor:
        key, backwards = paging.decode(cursor, len(keys), *[str] * len(keys))
        place = tuple_(*((_day(key[0]), str(key[1])) if next_first else (str(key[0]),)))
        query = query.where(tuple_(*keys) < place if backwards else tuple_(*keys) > place)
    order = [each.desc() if backwards else each.asc() for each in keys]
    found = session.execute(query.order_by(*order).limit(size + 1)).all()

    def key_of(row: Any) -> tuple[str, ...]:
        return (row.next_on.isoformat(), row.code) if next_first else (row.code,)

    page = paging.page_of(found, size, key_of, cursor=cursor, backwards=backwards)
    ids = [row.id for row in page.rows]
    arms = open_envelopes(session, study, ids, by=by, why="List of participants to treat", now=now)
    upcoming = _next_sessions(session, ids)
    return page.made(lambda row: _shown(study.at(row.site_id), row, arms[row.id], upcoming.get(row.id)))


def _day(text: object) -> date:
    try:
        return date.fromisoformat(str(text))
    except ValueError:
        message = "This page link belongs to another list. Start again from the first page."
        raise Invalid([FieldProblem("cursor", "cursor", message)]) from None


def sessions_of(
    session: Session, study: StudyInUse, participant: Participant, *, by: Actor, now: datetime
) -> Treatment:
    """Every planned session of a participant with what was delivered, in the order of the plan."""
    _require_treats(study, participant, by)
    arm = open_envelope(session, study, participant, by=by, why="Treatment sessions", now=now)
    assert participant.id is not None
    visits = {row.code: row for row in session.execute(select(VISIT).where(VISIT.c.participant_id == participant.id))}
    saved = {
        row.visit: row for row in session.execute(select(SESSION).where(SESSION.c.participant_id == participant.id))
    }
    planned = treatment_visits(study.definition)
    rows = tuple(
        _row(session, study, participant.id, visit.code, visit.label, visits.get(visit.code), saved.get(visit.code))
        for visit in planned
    )
    definition = study.definition.arm(arm)
    return Treatment(
        arm=arm,
        arm_label=definition.label if definition else arm,
        modules=modules_of(study.definition, arm),
        sessions=rows,
        adherence=Adherence(sum(row.status == VisitStatus.HELD for row in rows), len(planned)),
    )


def session_of(
    session: Session, study: StudyInUse, participant: Participant, visit: str, *, by: Actor, now: datetime
) -> tuple[Treatment, SessionRow]:
    """One session beside the whole treatment it belongs to; NotFound when there is no such session."""
    treatment = sessions_of(session, study, participant, by=by, now=now)
    found = next((row for row in treatment.sessions if row.visit == visit), None)
    if found is None:
        raise NotFound
    return treatment, found


def history_of(
    session: Session, study: StudyInUse, participant: Participant, visit: str, *, by: Actor, now: datetime
) -> tuple[SessionVersion, ...]:
    """Every version of one session's record, oldest first: the log keeps each sealed, and it is opened here."""
    _require_treats(study, participant, by)
    open_envelope(session, study, participant, by=by, why=f"History of the session {visit}", now=now)
    assert participant.id is not None
    entries = session.execute(
        select(AUDIT.c.new, AUDIT.c.at, AUDIT.c.username)
        .where(
            AUDIT.c.log == study.code,
            AUDIT.c.participant == participant.code,
            AUDIT.c.subject == f"visit/{visit}",
            AUDIT.c.action.in_((RECORDED, CORRECTED)),
        )
        .order_by(AUDIT.c.position)
    ).all()
    return tuple(
        SessionVersion(
            version,
            *unseal_session(
                keys_of(session), study.id, participant.id, visit, version, base64.b64decode(json.loads(entry.new))
            ),
            entry.at,
            entry.username,
        )
        for version, entry in enumerate(entries, start=1)
    )


@dataclass(frozen=True)
class Received:
    """A module that somebody received in a session that was held: its label, and what was recorded of it.

    `said` are the label, stored value and unit of each of its items.
    """

    visit: str
    on: date | None
    module: str
    said: tuple[tuple[str, object, str | None], ...]


def received(
    session: Session, study: StudyInUse, participant: str, arms: Mapping[int, str], *, by: Actor
) -> list[Received]:
    """What one participant received, session by session in the order of the plan, for whoever draws and analyses.

    `arms` are envelopes that were opened for it, and so stand in the log; of nobody else anything is read.
    """
    require(by, Permission.ALLOCATIONS_EXPORT, action="arm.read", subject=participant)
    rows = session.execute(
        select(SESSION, VISIT.c.held_on)
        .join(PARTICIPANT, PARTICIPANT.c.id == SESSION.c.participant_id)
        .join(
            VISIT,
            (VISIT.c.participant_id == SESSION.c.participant_id) & (VISIT.c.code == SESSION.c.visit),
            isouter=True,
        )
        .where(PARTICIPANT.c.study_id == study.id, PARTICIPANT.c.code == participant)
    ).all()
    saved = {row.visit: row for row in rows if row.participant_id in arms}
    found = []
    for visit in treatment_visits(study.definition):
        if (row := saved.get(visit.code)) is None:
            continue
        delivered, _ = unseal_session(
            keys_of(session), study.id, row.participant_id, row.visit, row.version, bytes(row.delivered)
        )
        for module in modules_of(study.definition, arms[row.participant_id]):
            if (values := delivered.get(module.code, False)) is False:
                continue
            given = values if isinstance(values, Mapping) else {}
            said = tuple((item.label, given[item.code], item.unit) for item in module.items if item.code in given)
            found.append(Received(visit.code, row.held_on, module.label, said))
    return found


def _require_treats(study: StudyInUse, participant: Participant, by: Actor) -> None:
    if participant.study_id != study.id or not may(by, Permission.PARTICIPANT_READ, site_id=participant.site_id):
        raise NotFound
    require(by, Permission.ARM_READ, site_id=participant.site_id, subject=participant.code, action="arm.read")


def _treated(study: StudyInUse, by: Actor) -> Any:
    sites = sites_for(by, Permission.ARM_READ)
    held = (
        select(func.count())
        .select_from(VISIT)
        .where(
            VISIT.c.participant_id == PARTICIPANT.c.id,
            VISIT.c.kind == VisitKind.TREATMENT,
            VISIT.c.status == VisitStatus.HELD,
        )
        .scalar_subquery()
    )
    next_on = (
        select(func.min(VISIT.c.target_on))
        .where(
            VISIT.c.participant_id == PARTICIPANT.c.id,
            VISIT.c.kind == VisitKind.TREATMENT,
            VISIT.c.status == VisitStatus.PLANNED,
        )
        .scalar_subquery()
    )
    query = (
        select(
            PARTICIPANT.c.id,
            PARTICIPANT.c.code,
            PARTICIPANT.c.status,
            PARTICIPANT.c.treatment_stopped_on,
            SITE.c.code.label("site"),
            SITE.c.id.label("site_id"),
            ALLOCATION.c.number,
            ALLOCATION.c.allocated_at,
            held.label("held"),
            func.coalesce(next_on, literal(NEVER, Date)).label("next_on"),
        )
        .join(ALLOCATION, ALLOCATION.c.participant_id == PARTICIPANT.c.id)
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .where(PARTICIPANT.c.study_id == study.id)
    )
    return query if sites is None else query.where(PARTICIPANT.c.site_id.in_(sites))


def _next_sessions(session: Session, participant_ids: list[int]) -> dict[int, tuple[str, date]]:
    """The earliest session still planned, per participant."""
    rows = session.execute(
        select(VISIT.c.participant_id, VISIT.c.code, VISIT.c.target_on)
        .where(
            VISIT.c.participant_id.in_(participant_ids),
            VISIT.c.kind == VisitKind.TREATMENT,
            VISIT.c.status == VisitStatus.PLANNED,
        )
        .order_by(VISIT.c.participant_id, VISIT.c.target_on.desc(), VISIT.c.order.desc())
    )
    return {row.participant_id: (row.code, row.target_on) for row in rows}


def _shown(study: StudyInUse, row: Any, arm: str, upcoming: tuple[str, date] | None) -> Treated:
    definition = study.definition.arm(arm)
    return Treated(
        participant_id=row.id,
        code=row.code,
        site=row.site,
        site_id=row.site_id,
        status=row.status,
        treatment_stopped_on=row.treatment_stopped_on,
        number=row.number,
        allocated_at=row.allocated_at,
        arm=arm,
        arm_label=definition.label if definition else arm,
        adherence=Adherence(row.held, len(treatment_visits(study.definition))),
        next_visit=upcoming[0] if upcoming else None,
        next_on=upcoming[1] if upcoming else None,
    )


def _row(
    session: Session, study: StudyInUse, participant_id: int, code: str, label: str, visit: Any, saved: Any
) -> SessionRow:
    delivered = None
    if saved is not None:
        delivered, _ = unseal_session(
            keys_of(session), study.id, participant_id, code, saved.version, bytes(saved.delivered)
        )
    return SessionRow(
        visit=code,
        label=label,
        target_on=visit.target_on if visit else None,
        opens_on=visit.opens_on if visit else None,
        closes_on=visit.closes_on if visit else None,
        status=visit.status if visit else VisitStatus.PLANNED,
        held_on=visit.held_on if visit else None,
        version=saved.version if saved else 0,
        delivered=delivered,
        saved_at=saved.saved_at if saved else None,
        saved_by=saved.saved_by if saved else None,
    )
