"""What may I freeze, lock and unlock? Many at once; and a lock is opened by two people only."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.locks.obstacles import obstacles_of
from app.capture.locks.reads import LOCK, PARTICIPANT, lock_by_number
from app.capture.locks.rules import Kind, Lock, Standing, why_not_ask, why_not_decide, why_not_lock, why_problems
from app.foundation.errors import FieldProblem, Invalid, NotFound, Refused
from app.participants.reads import at_their_sites
from app.people.access import Actor, require, require_everywhere
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse

MOST = 500  # participants in one go
EVERYWHERE = "This is about every site, and you work at some. Ask a data manager of the whole study."
SAID = {Kind.FROZEN: "data.frozen", Kind.LOCKED: "data.locked"}

_HELD = select(LOCK.c.id).where(LOCK.c.id == bindparam("number", type_=Integer)).with_for_update()
_CHANGE = update(LOCK).where(LOCK.c.id == bindparam("number", type_=Integer))


def close_data(
    session: Session,
    study: StudyInUse,
    *,
    kind: Kind,
    participants: Collection[str] | None,
    visit: str | None,
    why: str,
    despite: bool = False,
    by: Actor,
    now: datetime,
) -> int:
    """Freeze or lock these participants (None: everybody), at one visit or (None) at every one; how many are new.

    All or none: a lock is Refused when a query stands in any of them, and unless `despite` when something is partial or
    waits for a signature. Whoever saves an entry of theirs at this moment is waited for.
    """
    about: dict[str, Any] = {"action": "data.lock" if kind is Kind.LOCKED else "data.freeze", "subject": "/lock"}
    require(by, Permission.DATA_LOCK, **about)
    if participants is None:
        require_everywhere(by, Permission.DATA_LOCK, EVERYWHERE, **about)
    problems = why_problems(study.definition, why)
    if visit is not None and study.definition.visit(visit) is None:
        problems.append(FieldProblem("visit", "choice", "Choose one of the visits of the study."))
    if participants is not None and not 0 < len(set(participants)) <= MOST:
        problems.append(FieldProblem("participants", "choice", f"Choose between one and {MOST} participants."))
    if problems:
        raise Invalid(problems)
    held = _held(session, study, participants, by=by)
    if participants is not None and len(held) < len(set(participants)):
        missing = sorted(set(participants) - {code for _, code in held})
        words = f"There is no participant {missing[0][:80]} at your sites. Take the code out."
        raise Invalid([FieldProblem("participants", "choice", words)])
    if kind is Kind.LOCKED:
        found = obstacles_of(
            session, study, [number for number, _ in held] if participants is not None else None, visit
        )
        _refuse_obstacles(list(found.values()), despite=despite, about=about)
    scopes: Sequence[tuple[int | None, str]] = held if participants is not None else [(None, "")]
    made = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    log = []
    for participant_id, code in scopes:
        row = {
            "study_id": study.id,
            "participant_id": participant_id,
            "participant_key": participant_id or 0,
            "visit": visit,
            "visit_key": visit or "",
            "kind": kind,
            "why": why.strip(),
            "despite": despite,
            "at": now,
            "by": by.username,
        }
        number = session.execute(made(LOCK).values(row).on_conflict_do_nothing().returning(LOCK.c.id)).scalar()
        if number is not None:  # else it is closed so already
            new = {"visit": visit, "despite": despite}
            log.append(Change(SAID[kind], code, f"lock/{number}", new=new, why=why.strip()))
    record(session, study.code, log, by=by, now=now)
    return len(log)


def lift_freezing(session: Session, study: StudyInUse, number: int, *, why: str, by: Actor, now: datetime) -> None:
    """Let data be entered again where they were frozen."""
    lock = _locked(session, study, number, Permission.DATA_LOCK, "data.unfreeze", by=by)
    if problems := why_problems(study.definition, why):
        raise Invalid(problems)
    if lock.kind is not Kind.FROZEN:
        raise Refused(
            "This is locked, not frozen: one person asks to unlock it, and another approves.",
            action="data.unfreeze",
            subject=f"{lock.participant or ''}/lock/{number}",
        )
    _lift(session, study, lock, "data.unfrozen", why.strip(), by=by, now=now)


def ask_to_unlock(session: Session, study: StudyInUse, number: int, *, why: str, by: Actor, now: datetime) -> None:
    """Ask to unlock, and say why; somebody else approves. The same request again is the same."""
    lock = _locked(session, study, number, Permission.DATA_UNLOCK, "data.unlock", by=by)
    if problems := why_problems(study.definition, why):
        raise Invalid(problems)
    if (lock.asked_by, lock.asked_why) == (by.username, why.strip()):
        return
    if reason := why_not_ask(lock):
        raise Refused(reason, action="data.unlock", subject=f"{lock.participant or ''}/lock/{number}")
    asked = {"asked_at": now, "asked_by": by.username, "asked_why": why.strip()}
    session.execute(_CHANGE.values(asked), {"number": number})
    change = Change("data.unlock_requested", lock.participant or "", f"lock/{number}", why=why.strip())
    record(session, study.code, [change], by=by, now=now)


def approve_unlock(session: Session, study: StudyInUse, number: int, *, by: Actor, now: datetime) -> None:
    """Unlock what another person asked to unlock (SEC-10). The door has made sure who it is."""
    lock = _decided(session, study, number, by=by)
    _lift(session, study, lock, "data.unlocked", lock.asked_why or "", by=by, now=now)


def decline_unlock(session: Session, study: StudyInUse, number: int, *, why: str, by: Actor, now: datetime) -> None:
    """Leave it locked, and say why; it can be asked again."""
    lock = _decided(session, study, number, by=by)
    if problems := why_problems(study.definition, why):
        raise Invalid(problems)
    session.execute(_CHANGE.values(asked_at=None, asked_by=None, asked_why=None), {"number": number})
    old = {"asked_by": lock.asked_by, "why": lock.asked_why}
    change = Change("data.unlock_declined", lock.participant or "", f"lock/{number}", old=old, why=why.strip())
    record(session, study.code, [change], by=by, now=now)


def _decided(session: Session, study: StudyInUse, number: int, *, by: Actor) -> Lock:
    lock = _locked(session, study, number, Permission.DATA_UNLOCK, "data.unlock", by=by)
    if reason := why_not_decide(lock, by=by.username):
        raise Refused(reason, action="data.unlock", subject=f"{lock.participant or ''}/lock/{number}")
    return lock


def _locked(
    session: Session, study: StudyInUse, number: int, permission: Permission, action: str, *, by: Actor
) -> Lock:
    """A lock that stands, held until the transaction ends; what concerns every site needs everybody's right."""
    require(by, permission, action=action, subject="/lock")
    session.execute(_HELD, {"number": number})
    found = lock_by_number(session, study, number)
    if found is None:
        raise NotFound
    lock, site_id = found
    if site_id is None:
        require_everywhere(by, permission, EVERYWHERE, action=action, subject=f"/lock/{number}")
    else:
        require(by, permission, site_id=site_id, action=action, subject=f"{lock.participant}/lock/{number}")
    return lock


def _lift(session: Session, study: StudyInUse, lock: Lock, action: str, why: str, *, by: Actor, now: datetime) -> None:
    session.execute(_CHANGE.values(lifted_at=now, lifted_by=by.username), {"number": lock.number})
    old = {"visit": lock.visit, "by": lock.by, "asked_by": lock.asked_by}
    change = Change(action, lock.participant or "", f"lock/{lock.number}", old=old, why=why)
    record(session, study.code, [change], by=by, now=now)


def _held(
    session: Session, study: StudyInUse, participants: Collection[str] | None, *, by: Actor
) -> list[tuple[int, str]]:
    """The participants, held in one order everywhere: whoever saves an entry of theirs is waited for, or waits."""
    query = select(PARTICIPANT.c.id, PARTICIPANT.c.code).where(
        PARTICIPANT.c.study_id == study.id, at_their_sites(by, Permission.DATA_LOCK)
    )
    if participants is not None:
        query = query.where(PARTICIPANT.c.code.in_(sorted(set(participants))))
    rows = session.execute(query.order_by(PARTICIPANT.c.id).with_for_update(key_share=True))
    return [(row.id, row.code) for row in rows]


def _refuse_obstacles(found: Sequence[Standing], *, despite: bool, about: dict[str, Any]) -> None:
    reasons = [(each.participant, reason) for each in found if (reason := why_not_lock(each, despite=despite))]
    if not reasons:
        return
    words = " ".join(f"{code}: {reason}" if code else reason for code, reason in reasons[:5])
    more = f" And {len(reasons) - 5} more." if len(reasons) > 5 else ""
    raise Refused(words + more, **about)
