"""Recovery codes: ten on paper for somebody who loses their device; each is good once, where a code is asked for."""

from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.audit.models import SYSTEM_LOG
from app.foundation.crypto.secrets import new_recovery_code, recovery_code_as_read, recovery_code_hash
from app.foundation.errors import NotFound, Refused
from app.people.access import Actor
from app.people.actions.challenges import has_second_factor
from app.people.actions.notices import notify
from app.people.reads import PERSON, RECOVERY
from app.people.rules import RECOVERY_CODES


def make_recovery_codes(session: Session, *, by: Actor, now: datetime) -> list[str]:
    """Ten new recovery codes of one's own, in clear this once; those made before open nothing any more.

    The door asks for password and second factor again first (`reauthenticate`). Refused without a second factor.
    """
    person = session.execute(
        select(*PERSON.c).where(PERSON.c.id == by.person_id).with_for_update(key_share=True)
    ).first()
    if person is None:
        raise NotFound
    subject = f"person/{person.username}"
    if not has_second_factor(session, person):
        reason = "Set up a second factor first: recovery codes stand in for it."
        raise Refused(reason, action="recovery_codes.make", subject=f"/{subject}")
    session.execute(delete(RECOVERY).where(RECOVERY.c.person_id == person.id))
    codes = [new_recovery_code() for _ in range(RECOVERY_CODES)]
    hashes = [recovery_code_hash(person.id, recovery_code_as_read(code) or "") for code in codes]
    rows = [{"person_id": person.id, "code_hash": hashed, "made_at": now} for hashed in hashes]
    session.execute(insert(RECOVERY), rows)
    notify(session, person, "recovery_codes.made", now=now)
    record(session, SYSTEM_LOG, [Change("recovery_codes.made", subject, new={"number": len(codes)})], by=by, now=now)
    return codes


def has_recovery_codes(session: Session, person_id: int) -> bool:
    """Whether somebody has a recovery code that was not used yet."""
    return session.execute(select(RECOVERY.c.id).where(*_unused(person_id)).limit(1)).first() is not None


def use_recovery_code(session: Session, person: Any, typed: str | None, *, now: datetime) -> Change | None:
    """Use up a recovery code; what to write down, or None when it is none of theirs, or was used before."""
    code = recovery_code_as_read(typed)
    if code is None:
        return None
    used = session.execute(
        update(RECOVERY)
        .where(*_unused(person.id), RECOVERY.c.code_hash == recovery_code_hash(person.id, code))
        .values(used_at=now)
    )
    if used.rowcount != 1:  # type: ignore[attr-defined]
        return None
    left = session.execute(select(func.count()).where(*_unused(person.id))).scalar_one()
    notify(session, person, "recovery_code.used", now=now)
    return Change("recovery_code.used", subject=f"person/{person.username}", new={"left": int(left)})


def removed_codes(session: Session, person: Any, *, why: str) -> list[Change]:
    """Take the recovery codes of somebody away whose last second factor goes; what to write down."""
    gone = session.execute(delete(RECOVERY).where(RECOVERY.c.person_id == person.id))
    if not gone.rowcount:  # type: ignore[attr-defined]
        return []
    return [Change("recovery_codes.removed", subject=f"person/{person.username}", why=why)]


def _unused(person_id: int) -> tuple[Any, ...]:
    return RECOVERY.c.person_id == person_id, RECOVERY.c.used_at.is_(None)
