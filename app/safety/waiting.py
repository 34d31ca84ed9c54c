"""What of safety, and of what is locked, waits for this very person? Counted, in one statement."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Integer,
    ScalarSelect,
    String,
    bindparam,
    func,
    literal,
    select,
    union_all,
)
from sqlmodel import Session

from app.capture.models import DataLock
from app.foundation.database import table_of, written_out
from app.participants.identity import PARTICIPANT
from app.participants.reads import at_sites
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
Sites = frozenset[int] | None
_STUDY, _USERNAME = bindparam("study_id", type_=Integer), bindparam("username", type_=String)


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
    query = _waiting(
        read=sites_for(by, Permission.SAFETY_READ),
        judge=sites_for(by, Permission.EVENT_JUDGE) if by.blinded else frozenset(),
        review=sites_for(by, Permission.EVENT_REVIEW),
        sign=sites_for(by, Permission.DEVIATION_SIGN),
        unlock=sites_for(by, Permission.DATA_UNLOCK),
        only_serious=study.definition.safety.review == "serious",
    )
    found = session.execute(query, {"study_id": study.id, "username": by.username}).all()
    numbers = {kind: int(count) for kind, _, count in found if kind}
    return Waiting(
        tuple(sorted((code, number) for kind, code, number in found if not kind)),
        *(numbers[kind] for kind in range(1, 5)),
    )


@lru_cache(maxsize=64)  # putting it together takes longer than running it
def _waiting(
    *, read: Sites, judge: Sites, review: Sites, sign: Sites, unlock: Sites, only_serious: bool
) -> CompoundSelect[Any]:
    """The deaths, then the numbers of what is to judge, review, sign and unlock, each at these sites."""
    mine = (
        select(JUDGEMENT.c.judged_by).where(JUDGEMENT.c.event_id == EVENT.c.id).order_by(JUDGEMENT.c.id.desc()).limit(1)
    )
    second = [EVENT.c.state == written_out(State.JUDGED), mine.scalar_subquery() != _USERNAME]
    if only_serious:
        second.append(EVENT.c.serious_since.is_not(None))
    reported = EVENT.c.state.in_([written_out(State.REPORTED), written_out(State.RETURNED)])
    asked = [LOCK.c.asked_at.is_not(None), LOCK.c.lifted_at.is_(None), LOCK.c.asked_by != _USERNAME]
    deaths = (
        select(literal(0).label("kind"), PARTICIPANT.c.code, PARTICIPANT.c.fatal_event)
        .where(
            PARTICIPANT.c.study_id == _STUDY,
            PARTICIPANT.c.fatal_event.is_not(None),
            PARTICIPANT.c.status != written_out(Status.DIED),
            at_sites(read),
        )
        .order_by(PARTICIPANT.c.code)
        .limit(SHOWN)
        .subquery()
    )
    counts = (
        _count(EVENT, judge, reported),
        _count(EVENT, review, *second),
        _count(DEVIATION, sign, DEVIATION.c.state == written_out(DeviationState.ACTED)),
        _count(LOCK, unlock, *asked),
    )
    each = [select(literal(kind), literal(""), count) for kind, count in enumerate(counts, 1)]
    return union_all(select(*deaths.c), *each)


def _count(table: Any, sites: Sites, *conditions: ColumnElement[bool]) -> ScalarSelect[Any] | ColumnElement[int]:
    """How many rows of participants at these sites; None: at all of them, and of none as well."""
    if sites == frozenset():
        return literal(0)
    query = select(func.count()).select_from(table).where(table.c.study_id == _STUDY, *conditions)
    if sites is not None:
        there = select(PARTICIPANT.c.id).where(PARTICIPANT.c.site_id.in_(sorted(sites)))
        query = query.where(table.c.participant_id.in_(there))
    return query.scalar_subquery()
