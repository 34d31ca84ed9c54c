"""Adding, asking for and removing passkeys: a second factor that only its owner's finger, face or PIN sets free."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from app.audit.actions import Change, record
from app.audit.models import SYSTEM_LOG
from app.foundation.crypto import passkeys
from app.foundation.crypto.passkeys import NotRight, Place
from app.foundation.database import keys_of
from app.foundation.errors import FieldProblem, Invalid, NotFound, Refused
from app.people.access import Actor
from app.people.actions import challenges, proving
from app.people.actions.challenges import Purpose, Shown
from app.people.actions.notices import notify
from app.people.actions.recovery import removed_codes
from app.people.actions.sessions import ended
from app.people.reads import PASSKEY, PERSON, SESSION
from app.people.rules import (
    PASSKEY_NOT_HERE,
    PASSKEY_OVER,
    PASSKEY_TAKEN,
    TOO_WEAK_ALONE,
    WRONG_AGAIN,
    why_not_passkey_name,
    why_not_password,
)

_ADD = {
    name: insert(PASSKEY).on_conflict_do_nothing().returning(PASSKEY.c.id)
    for name, insert in (("postgresql", postgresql.insert), ("sqlite", sqlite.insert))
}


@dataclass(frozen=True)
class PasskeyToMake:
    """What a browser makes a passkey with (`options`), and the name it will have."""

    options: dict[str, Any]
    name: str


def begin_passkey(
    session: Session, name: str, *, place: Place | None, bound_to: bytes, by: Actor, now: datetime
) -> PasskeyToMake:
    """Ask a browser to make a passkey. Nothing is kept of it until it was made.

    The door asks for the password again first (`reauthenticate`). `bound_to` is the hash of the session's token.
    """
    person = proving.person_locked(session, PERSON.c.id == by.person_id)
    if person is None:
        raise NotFound
    if place is None:
        raise Refused(PASSKEY_NOT_HERE, action="passkey.add", subject=f"/person/{person.username}")
    ids, name = challenges.passkey_ids(session, person.id), name.strip()
    reason = why_not_passkey_name(name, kept=len(ids))
    if reason is not None:
        raise Invalid([FieldProblem("passkey_name", "name", reason)])
    challenge = challenges.ask(session, person.id, purpose=Purpose.ADD, bound_to=bound_to, name=name, now=now)
    # Says nothing of the person to whoever finds the device.
    user = keys_of(session).tag("passkey", str(person.id).encode())
    options = passkeys.options_to_create(
        place, challenge, user=user, username=person.username, name=person.name, others=ids
    )
    return PasskeyToMake(options, name)


def add_passkey(session: Session, shown: Shown, *, by: Actor, now: datetime) -> str | None:
    """Keep a passkey that was made as asked (21 CFR 11.300(e)); the reason it cannot be, or None.

    An attempt in vain is written: the door commits. Other sessions end; the one it was asked in counts as signed in
    with the second factor, since the device has just seen its owner.
    """
    person = proving.person_locked(session, PERSON.c.id == by.person_id, PERSON.c.is_active)
    if person is None:
        raise NotFound
    claimed = challenges.claim(session, person.id, shown, purpose=Purpose.ADD, now=now)
    if claimed is None or shown.place is None:
        return _not_added(session, person, PASSKEY_OVER, by=by, now=now)
    try:
        made = passkeys.made(shown.place, claimed.challenge, shown.answer)
    except NotRight:
        return _not_added(session, person, PASSKEY_OVER, by=by, now=now)
    reason = why_not_passkey_name(claimed.name, kept=len(challenges.passkey_ids(session, person.id)))
    if reason is not None:
        return _not_added(session, person, reason, by=by, now=now)
    kept = session.execute(
        _ADD[session.get_bind().dialect.name].values(
            person_id=person.id,
            credential_id=made.id,
            public_key=made.public,
            count=made.count,
            name=claimed.name,
            created_at=now,
        )
    ).first()
    if kept is None:
        return _not_added(session, person, PASSKEY_TAKEN, by=by, now=now)
    session.execute(
        update(SESSION)
        .where(SESSION.c.token_hash == shown.bound_to, SESSION.c.person_id == person.id)
        .values(second_factor=True)
    )
    others = (SESSION.c.person_id == person.id, SESSION.c.token_hash != shown.bound_to)
    sessions = ended(session, *others, now=now, why="A passkey was added.")
    notify(session, person, "passkey.added", now=now)
    added = Change(
        "passkey.added", subject=f"person/{person.username}", item=_item(kept.id), new={"name": claimed.name}
    )
    record(session, SYSTEM_LOG, [added, *sessions], by=by, now=now)
    return None


def _not_added(session: Session, person: Any, why: str, *, by: Actor, now: datetime) -> str:
    refused = Change("passkey.add_refused", subject=f"person/{person.username}", why=why)
    record(session, SYSTEM_LOG, [refused], by=by, now=now)
    return why


def ask_for_passkey(
    session: Session, *, place: Place | None, bound_to: bytes, by: Actor, now: datetime
) -> dict[str, Any]:
    """What a browser uses a passkey with, within a session, before a signature that asks for the second factor."""
    ids = challenges.passkey_ids(session, by.person_id)
    if place is None or not ids:
        reason = PASSKEY_NOT_HERE if ids else "You have no passkey. Add one on your account page."
        raise Refused(reason, action="passkey.use", subject=f"/person/{by.username}")
    challenge = challenges.ask(session, by.person_id, purpose=Purpose.AGAIN, bound_to=bound_to, now=now)
    return passkeys.options_to_use(place, challenge, ids=ids)


def remove_passkey(
    session: Session,
    passkey_id: int,
    *,
    password: str,
    bound_to: bytes,
    by: Actor,
    now: datetime,
    weighed: proving.Weighed | None = None,
) -> str | None:
    """Remove one of one's own passkeys, with the password; the reason it cannot be, or None.

    When it was the last second factor, the password must be one that protects alone. Other sessions end. A wrong
    attempt is written: the door commits.
    """
    person, proof = proving.again(
        session,
        by.person_id,
        password=password,
        code=None,
        code_needed=False,
        now=now,
        request_id=by.request_id,
        wrong=WRONG_AGAIN,
        weighed=weighed,
    )
    if person is None or proof.problem is not None:
        return proof.problem
    theirs = (PASSKEY.c.id == passkey_id, PASSKEY.c.person_id == person.id)
    if session.execute(select(PASSKEY.c.id).where(*theirs)).first() is None:
        return "This passkey was removed already. Nothing was changed."
    last = person.totp_secret is None and len(challenges.passkey_ids(session, person.id)) == 1
    if last and why_not_password(password) is not None:
        return TOO_WEAK_ALONE
    changes = removed(session, person, *theirs, why="Removed by the person.")
    if last:
        session.execute(update(SESSION).where(SESSION.c.person_id == person.id).values(second_factor=False))
        changes = [*changes, *removed_codes(session, person, why="The last second factor was removed.")]
    others = (SESSION.c.person_id == person.id, SESSION.c.token_hash != bound_to)
    sessions = ended(session, *others, now=now, why="A passkey was removed.")
    notify(session, person, "passkey.removed", now=now)
    record(session, SYSTEM_LOG, [*changes, *sessions], by=by, now=now)
    return None


def removed(session: Session, person: Any, *which: Any, why: str) -> Sequence[Change]:
    """Remove passkeys of a person; what to write down. Permission, and the sessions, are the caller's."""
    gone = session.execute(
        delete(PASSKEY).where(PASSKEY.c.person_id == person.id, *which).returning(PASSKEY.c.id, PASSKEY.c.name)
    ).all()
    subject = f"person/{person.username}"
    return [
        Change("passkey.removed", subject=subject, item=_item(row.id), old={"name": row.name}, why=why)
        for row in sorted(gone, key=lambda row: int(row.id))
    ]


def _item(passkey_id: int) -> str:
    return f"passkey/{passkey_id}"
