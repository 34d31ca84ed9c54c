"""What of safety, and of what is locked, waits for this very person? Counted, in one statement."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, func, literal, select, union_all
from sqlmodel import Session

from app.capture.models import DataLock
from app.foundation.database import table_of, written_out
from app.participants.identity import PARTICIPANT
from app.participants.reads import at_their_sites
from app.participants.status import Status
from app.people.access import Actor, sites_for
from app.people.permissions import Permission
from app.safety.deviations.reads import DEVIATION
from app.safety.deviations.rules import State as DeviationState
from app.safety.events.reads import EVENT, JUDGEMENT
from app.safety.events.rules import State
from app.studies.in_use import StudyInUse

LOCK = table_of(DataLock)
SHOWN = 25


@dataclass(frozen=True)
class Waiting:
    """How many events wait for a judgement or a second person, deviations for a signature, and locks for a second.

    0 of what this person may not do, or did themselves. `deaths`: who is not recorded as dead though an adverse event
    of theirs was fatal, by code, with the number of the event; the first of them.
    """

    deaths: tuple[tuple[str, int], ...]
    to_judge: int
    to_review: int
    to_sign: int
    to_unlock: int


def waiting_for(session: Session, study: StudyInUse, *, by: Actor) -> Waiting:
    """What waits for this person at their sites."""
    to_judge = _count(
        EVENT,
        study,
        sites_for(by, Permission.EVENT_JUDGE) if by.blinded else frozenset(),
        EVENT.c.state.in_([written_out(State.REPORTED), written_out(State.RETURNED)]),
    )
    mine = (
        select(JUDGEMENT.c.judged_by).where(JUDGEMENT.c.event_id == EVENT.c.id).order_by(JUDGEMENT.c.id.desc()).limit(1)
    )
    second = [EVENT.c.state == written_out(State.JUDGED), mine.scalar_subquery() != by.username]
    if study.definition.safety.review == "serious":
        second.append(EVENT.c.serious_since.is_not(None))
    to_review = _count(EVENT, study, sites_for(by, Permission.EVENT_REVIEW), *second)
    acted = DEVIATION.c.state == written_out(DeviationState.ACTED)
    to_sign = _count(DEVIATION, study, sites_for(by, Permission.DEVIATION_SIGN), acted)
    asked = [LOCK.c.asked_at.is_not(None), LOCK.c.lifted_at.is_(None), LOCK.c.asked_by != by.username]
    to_unlock = _count(LOCK, study, sites_for(by, Permission.DATA_UNLOCK), *asked)
    deaths = (
        select(literal(0).label("kind"), PARTICIPANT.c.code, PARTICIPANT.c.fatal_event)
        .where(
            PARTICIPANT.c.study_id == study.id,
            PARTICIPANT.c.fatal_event.is_not(None),
            PARTICIPANT.c.status != written_out(Status.DIED),
            at_their_sites(by, Permission.SAFETY_READ),
        )
        .order_by(PARTICIPANT.c.code)
        .limit(SHOWN)
        .subquery()
    )
    counts = [to_judge, to_review, to_sign, to_unlock]
    each = [select(literal(kind), literal(""), count) for kind, count in enumerate(counts, 1)]
    found = session.execute(union_all(select(*deaths.c), *each)).all()
    numbers = {kind: int(count) for kind, _, count in found if kind}
    return Waiting(
        tuple(sorted((code, number) for kind, code, number in found if not kind)),
        *(numbers[kind] for kind in range(1, 5)),
    )


def _count(
    table: Any, study: StudyInUse, sites: frozenset[int] | None, *conditions: ColumnElement[bool]
) -> ScalarSelect[Any] | ColumnElement[int]:
    """How many rows of participants at these sites; None: at all of them, and of none as well."""
    if sites == frozenset():
        return literal(0)
    query = select(func.count()).select_from(table).where(table.c.study_id == study.id, *conditions)
    if sites is not None:
        there = select(PARTICIPANT.c.id).where(PARTICIPANT.c.site_id.in_(sorted(sites)))
        query = query.where(table.c.participant_id.in_(there))
    return query.scalar_subquery()
