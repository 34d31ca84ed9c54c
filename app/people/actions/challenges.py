"""What is a passkey asked to sign, and was it signed? Once, for one person, one purpose and one session."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from secrets import token_bytes
from typing import Any

from sqlalchemy import delete, false, insert, or_, select, update
from sqlmodel import Session

from app.foundation.crypto import passkeys
from app.foundation.crypto.passkeys import NotRight, Place
from app.people.reads import CHALLENGE, PASSKEY
from app.people.rules import PASSKEY_LASTS

KEPT_FOR = timedelta(days=1)
"""So long it is still known of an answer that comes again, or too late, whose it was."""


class Purpose(StrEnum):
    """What an answer is good for, and nothing else."""

    ADD = "add"
    SIGN_IN = "sign_in"
    AGAIN = "again"


@dataclass(frozen=True)
class Shown:
    """The answer of a passkey as a browser sent it, where it must come from, and in which session it was asked."""

    answer: str = field(repr=False)
    place: Place | None
    bound_to: bytes = field(repr=False)


def ask(session: Session, person_id: int, *, purpose: Purpose, bound_to: bytes, name: str = "", now: datetime) -> bytes:
    """A challenge nobody could foresee, kept until it is answered or too old."""
    challenge = token_bytes(32)
    session.execute(delete(CHALLENGE).where(CHALLENGE.c.expires_at < now - KEPT_FOR))
    session.execute(
        insert(CHALLENGE).values(
            challenge=challenge,
            person_id=person_id,
            purpose=purpose,
            bound_to=bound_to,
            name=name,
            expires_at=now + PASSKEY_LASTS,
        )
    )
    return challenge


@dataclass(frozen=True)
class Claimed:
    """A challenge that was asked here and is thereby used; what a passkey that is being added is to be called."""

    challenge: bytes
    name: str


def claim(session: Session, person_id: int, shown: Shown, *, purpose: Purpose, now: datetime) -> Claimed | None:
    """Take the challenge that an answer is to: once, in time, by whom and where it was asked; None otherwise."""
    challenge = passkeys.challenge_in(shown.answer)
    if challenge is None:
        return None
    taken = session.execute(
        update(CHALLENGE)
        .where(
            CHALLENGE.c.challenge == challenge,
            CHALLENGE.c.person_id == person_id,
            CHALLENGE.c.purpose == purpose,
            CHALLENGE.c.bound_to == shown.bound_to,
            CHALLENGE.c.used_at.is_(None),
            CHALLENGE.c.expires_at > now,
        )
        .values(used_at=now)
        .returning(CHALLENGE.c.name)
    ).first()
    return Claimed(challenge, taken.name) if taken is not None else None


def asked_of(session: Session, answer: str) -> int | None:
    """Who was asked at a sign-in what this answers, also when it is used or too old; None when nobody was."""
    challenge = passkeys.challenge_in(answer)
    if challenge is None:
        return None
    found = select(CHALLENGE.c.person_id).where(
        CHALLENGE.c.challenge == challenge, CHALLENGE.c.purpose == Purpose.SIGN_IN
    )
    return session.execute(found).scalar()


def why_not_used(session: Session, person: Any, shown: Shown, *, purpose: Purpose, now: datetime) -> str | None:
    """Use a passkey of this person's, whose row is held; why it does not count, for the log, or None.

    A counter that does not go forward says that two devices have the same passkey: one of them is a copy.
    """
    claimed = claim(session, person.id, shown, purpose=purpose, now=now)
    if claimed is None or shown.place is None:
        return "What the passkey signed was used before, was too old, or was asked elsewhere."
    theirs = session.execute(
        select(PASSKEY.c.credential_id, PASSKEY.c.public_key).where(PASSKEY.c.person_id == person.id)
    )
    publics = {row.credential_id: row.public_key for row in theirs}
    try:
        credential_id, count = passkeys.used(shown.place, claimed.challenge, shown.answer, publics)
    except NotRight:
        return "The passkey was not right."
    forward = or_(PASSKEY.c.count < count, PASSKEY.c.count == 0 if count == 0 else false())
    counted = session.execute(
        update(PASSKEY)
        .where(PASSKEY.c.credential_id == credential_id, PASSKEY.c.person_id == person.id, forward)
        .values(count=count, last_used_at=now)
    )
    if counted.rowcount != 1:  # type: ignore[attr-defined]
        return "The counter of the passkey did not go forward: there may be a copy of it."
    return None


def has_second_factor(session: Session, person: Any) -> bool:
    """Whether this person, whose row it is, has a second factor of whichever kind."""
    return person.totp_secret is not None or bool(passkey_ids(session, person.id))


def passkey_ids(session: Session, person_id: int) -> list[bytes]:
    """What a browser is told to choose among: the ids of this person's passkeys, the oldest first."""
    found = select(PASSKEY.c.credential_id).where(PASSKEY.c.person_id == person_id).order_by(PASSKEY.c.id)
    return list(session.execute(found).scalars())
