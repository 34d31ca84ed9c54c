"""Is this really the person? Password and code against what is kept, counted and throttled; whoever asks commits."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, or_, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.audit.models import SYSTEM_LOG
from app.foundation.crypto.envelopes import open_sealed, seal
from app.foundation.crypto.secrets import hash_password, needs_rehash, password_matches, totp_step
from app.foundation.database import keys_of
from app.people.access import Actor
from app.people.actions.notices import notify
from app.people.reads import ATTEMPT, PERSON, throttle_state
from app.people.rules import CODE_MISSING, LONGEST_PASSWORD, code_digits, normal_password

SECRET_PURPOSE = "second factor"  # noqa: S105 which key seals, not a secret
SECRET_SIZE = 64


@dataclass(frozen=True)
class Proof:
    """How it went: the problem in words for the person, or None; `needs_code` when only the code is missing."""

    problem: str | None = None
    needs_code: bool = False
    with_code: bool = False


def person_locked(session: Session, *where: Any) -> Any | None:
    """A person's row, held until the transaction ends: two attempts at once are counted one after the other."""
    return session.execute(select(*PERSON.c).where(*where).with_for_update(key_share=True)).first()


def prove(
    session: Session,
    person: Any | None,
    *,
    account: str,
    address: str,
    password: str,
    code: str | None,
    code_needed: bool,
    wrong: str,
    by: Actor,
    now: datetime,
) -> Proof:
    """Check a password, and the code when one is given or needed, as one counted attempt.

    It takes as long, and reads the same, when there is no such person. A throttled attempt checks nothing. A right
    password without the code that it needs is neither a failure nor a success.
    """
    throttled = throttle_state(session, account=account, address=address, now=now)
    if throttled is not None:
        if person is not None and person.is_active:
            notify(session, person, "sign_in.throttled", now=now, once=now.date().isoformat())
        _write_down(session, "sign_in.throttled", person, by=by, now=now, why=None)
        return Proof(throttled)
    typed = normal_password(password)
    stored = person.password_hash if person is not None else None
    # Longer than any password can be: hashing it would only cost time, yet the answer must not come sooner.
    right = password_matches(stored, typed) if len(typed) <= LONGEST_PASSWORD else password_matches(None, "")
    if person is None or not right or not person.is_active:
        return _failed(session, person, account, address, "The password was not right.", wrong, by, now)
    given = bool(code and code.strip())
    enrolled = person.totp_secret is not None
    if enrolled and code_needed and not given:
        return Proof(CODE_MISSING, needs_code=True)
    with_code = enrolled and given
    if with_code and not _use_code(session, person, code, now):
        return _failed(session, person, account, address, "The code was not right.", wrong, by, now)
    session.execute(insert(ATTEMPT).values(username=account, address=address, at=now, succeeded=True))
    if stored is not None and needs_rehash(stored):
        session.execute(update(PERSON).where(PERSON.c.id == person.id).values(password_hash=hash_password(typed)))
    return Proof(with_code=with_code)


def _failed(
    session: Session,
    person: Any | None,
    account: str,
    address: str,
    why: str,
    wrong: str,
    by: Actor,
    now: datetime,
) -> Proof:
    session.execute(insert(ATTEMPT).values(username=account, address=address, at=now, succeeded=False))
    if person is not None and not person.is_active:
        why = "The person is deactivated."
    _write_down(session, "sign_in.failed", person, by=by, now=now, why=why if person is not None else None)
    return Proof(wrong)


def _write_down(
    session: Session, action: str, person: Any | None, *, by: Actor, now: datetime, why: str | None
) -> None:
    subject = f"person/{person.username}" if person is not None else ""
    record(session, SYSTEM_LOG, [Change(action, subject=subject, why=why)], by=by, now=now)


def _use_code(session: Session, person: Any, code: str | None, now: datetime) -> bool:
    # A code is good once (OWASP ASVS 6.5.1): the step is taken only if nobody took it, or a later one, before.
    digits = code_digits(code)
    if digits is None:
        return False
    secret = open_secret(session, person.id, person.totp_secret)
    step = totp_step(secret, digits, int(now.timestamp()), person.totp_last_step)
    if step is None:
        return False
    unused = or_(PERSON.c.totp_last_step.is_(None), PERSON.c.totp_last_step < step)
    taken = session.execute(update(PERSON).where(PERSON.c.id == person.id, unused).values(totp_last_step=step))
    return bool(taken.rowcount == 1)  # type: ignore[attr-defined]


def sealed_secret(session: Session, person_id: int, secret: str) -> bytes:
    """A second factor's secret as the database keeps it: of use to this person's row only."""
    key = keys_of(session).derive(SECRET_PURPOSE)
    return seal(key, secret.encode(), bound_to=(SECRET_PURPOSE, person_id), size=SECRET_SIZE)


def open_secret(session: Session, person_id: int, sealed: bytes) -> str:
    """The secret; CannotOpen when the row was tampered with."""
    key = keys_of(session).derive(SECRET_PURPOSE)
    return open_sealed(key, sealed, bound_to=(SECRET_PURPOSE, person_id)).decode()


def again(
    session: Session,
    person_id: int,
    *,
    password: str,
    code: str | None,
    code_needed: bool,
    now: datetime,
    request_id: str = "",
    wrong: str,
) -> tuple[Any | None, Proof]:
    """Somebody who is signed in proves it again; their row (held) and the proof.

    Counted apart from sign-in and not by address, so that a stranger who guesses at the sign-in page can never keep a
    signed-in person from an emergency.
    """
    person = person_locked(session, PERSON.c.id == person_id)
    by = author(person, request_id=request_id)
    account = f"{by.username}/again"
    proof = prove(
        session,
        person,
        account=account,
        address="",
        password=password,
        code=code,
        code_needed=code_needed,
        wrong=wrong,
        by=by,
        now=now,
    )
    return person, proof


def author(person: Any | None, *, request_id: str = "", via: str = "web") -> Actor:
    """Who the log names before anybody is signed in. What was typed is not kept: it may be a password."""
    if person is None:
        return Actor(0, "(unknown)", "", "", request_id=request_id, via=via)
    return Actor(person.id, person.username, person.name, person.organisation, request_id=request_id, via=via)
