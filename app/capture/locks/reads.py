"""What is frozen or locked? What covers one visit of a participant, everything that stands, what is in the way."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Integer, ScalarSelect, String, bindparam, case, literal, or_, select, tuple_
from sqlmodel import Session

from app.capture.locks.rules import Kind, Lock, strongest, why_closed
from app.capture.models import DataLock
from app.foundation import paging
from app.foundation.database import table_of
from app.foundation.errors import Refused
from app.participants.models import Participant
from app.participants.reads import hold
from app.people.access import Actor, require, sites_for
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse

LOCK = table_of(DataLock)
PARTICIPANT = table_of(Participant)

_LOCKS = (
    select(
        LOCK.c.id.label("number"),
        LOCK.c.kind,
        PARTICIPANT.c.code.label("participant"),
        LOCK.c.visit,
        LOCK.c.why,
        LOCK.c.at,
        LOCK.c.by,
        LOCK.c.asked_at,
        LOCK.c.asked_by,
        LOCK.c.asked_why,
    )
    .outerjoin(PARTICIPANT, PARTICIPANT.c.id == LOCK.c.participant_id)
    .where(LOCK.c.study_id == bindparam("study_id", type_=Integer), LOCK.c.lifted_at.is_(None))
)
_PARTICIPANTS = _LOCKS.where(
    LOCK.c.participant_key.in_((0, bindparam("participant_id", type_=Integer))),
).order_by(LOCK.c.id)
_COVERING = _PARTICIPANTS.where(LOCK.c.visit_key.in_(("", bindparam("visit", type_=String))))


def lock_covering(study_id: ColumnElement[int]) -> ScalarSelect[Any]:
    """The number of a lock or freezing over a visit of a participant, to be read with what is read anyway.

    Of the parameters `participant_id` and `visit`, in this study; NULL when nothing covers it.
    """
    return (
        select(LOCK.c.id)
        .where(
            LOCK.c.study_id == study_id,
            LOCK.c.participant_key.in_((0, bindparam("participant_id", type_=Integer))),
            LOCK.c.visit_key.in_(("", bindparam("visit", type_=String))),
            LOCK.c.lifted_at.is_(None),
        )
        .limit(1)
        .scalar_subquery()
    )


def covering(session: Session, study: StudyInUse, participant_id: int, visit: str) -> Lock | None:
    """What forbids changes at this visit of this participant, the strongest; None when nothing does."""
    wanted = {"study_id": study.id, "participant_id": participant_id, "visit": visit}
    return strongest([_lock(row) for row in session.execute(_COVERING, wanted).mappings()])


def covered(session: Session, study: StudyInUse) -> Callable[[int, str], bool]:
    """Whether something freezes or locks a visit of a participant: of the whole study, read once."""
    query = select(LOCK.c.participant_key, LOCK.c.visit_key)
    query = query.where(LOCK.c.study_id == study.id, LOCK.c.lifted_at.is_(None))
    standing = {(row.participant_key, row.visit_key) for row in session.execute(query)}
    return lambda participant_id, visit: bool(
        standing and standing & {(whose, at) for whose in (0, participant_id) for at in ("", visit)}
    )


def locks_of(session: Session, study: StudyInUse, participant_id: int) -> tuple[Lock, ...]:
    """Everything that covers a participant or a visit of theirs."""
    wanted = {"study_id": study.id, "participant_id": participant_id}
    return tuple(_lock(row) for row in session.execute(_PARTICIPANTS, wanted).mappings())


def lock_by_number(session: Session, study: StudyInUse, number: int) -> tuple[Lock, int | None] | None:
    """A lock or freezing that stands, and the site of its participant (None: of every site)."""
    query = _LOCKS.add_columns(PARTICIPANT.c.site_id).where(LOCK.c.id == bindparam("number", type_=Integer))
    row = session.execute(query, {"study_id": study.id, "number": number}).mappings().first()
    if row is None:
        return None
    found = dict(row)
    site_id = found.pop("site_id")
    return _lock(found), site_id


@dataclass(frozen=True)
class Wanted:
    """Which locks somebody looks for; None means any. `asked`: those that somebody asks to unlock, or all others."""

    kind: Kind | None = None
    participant: str | None = None
    visit: str | None = None
    asked: bool | None = None


def locks_page(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    wanted: Wanted = Wanted(),
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[Lock]:
    """One page of everything that is frozen or locked at the person's sites: what somebody asks to unlock first."""
    require(by, Permission.ENTRY_READ)
    size = paging.page_size(limit)
    sites = sites_for(by, Permission.ENTRY_READ)
    asked = case((LOCK.c.asked_at.is_not(None), 1), else_=0)
    query = _LOCKS
    if sites is not None:
        query = query.where(or_(LOCK.c.participant_id.is_(None), PARTICIPANT.c.site_id.in_(sorted(sites))))
    if wanted.kind is not None:
        query = query.where(LOCK.c.kind == wanted.kind)
    if wanted.participant is not None:
        query = query.where(PARTICIPANT.c.code == wanted.participant)
    if wanted.visit is not None:
        query = query.where(LOCK.c.visit == wanted.visit)
    if wanted.asked is not None:
        query = query.where(LOCK.c.asked_at.is_not(None) if wanted.asked else LOCK.c.asked_at.is_(None))
    backwards = False
    if cursor:
        (first, number), backwards = paging.decode(cursor, 2, int, int)
        here, place = tuple_(asked, LOCK.c.id), tuple_(literal(first), literal(number))
        query = query.where(here > place if backwards else here < place)
    order = [each.asc() if backwards else each.desc() for each in (asked, LOCK.c.id)]
    found = session.execute(query.order_by(*order).limit(size + 1), {"study_id": study.id}).mappings().all()
    return paging.page_of(
        [_lock(row) for row in found],
        size,
        lambda lock: (int(lock.is_asked), lock.number),
        cursor=cursor,
        backwards=backwards,
    )


def refuse_locked(
    session: Session,
    study: StudyInUse,
    participant: Participant | int,
    *,
    visit: str,
    action: str,
    subject: str,
    frozen_too: bool = False,
    alone: bool = False,
) -> None:
    """Refused when a lock covers this visit of the participant (`frozen_too`: or a freezing); none can come meanwhile.

    `alone`: nor can anybody save an entry of theirs until this transaction ends.
    """
    participant_id = participant if isinstance(participant, int) else participant.id
    assert participant_id is not None
    # Whoever locks holds the participant as well, and is either seen or waits.
    hold(session, participant_id, "alone" if alone else "shared")
    lock = covering(session, study, participant_id, visit)
    reason = why_closed(study.definition, lock, only_locked=not frozen_too)
    if reason is not None:
        raise Refused(reason, action=action, subject=subject)


def _lock(row: Any) -> Lock:
    return Lock(**{**row, "kind": Kind(row["kind"])})
