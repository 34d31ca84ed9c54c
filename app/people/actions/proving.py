"""Is this really the person? Password and second factor against what is kept, counted, throttled; whoever asks commits.

Hashing takes tens of milliseconds, and on SQLite whoever writes keeps every other writer waiting. A door therefore
weighs the password first (`weigh`), while nothing is held, and proves with what came of it.
"""

from dataclasses import dataclass, field
from datetime import datetime
from threading import BoundedSemaphore
from typing import Any

from sqlalchemy import insert, or_, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.audit.models import SYSTEM_LOG
from app.foundation.crypto.envelopes import open_sealed, seal
from app.foundation.crypto.secrets import (
    hash_password,
    needs_rehash,
    password_matches,
    recovery_code_as_read,
    totp_step,
)
from app.foundation.database import keys_of
from app.people.access import Actor
from app.people.actions.challenges import Purpose, Shown, passkey_ids, why_not_used
from app.people.actions.notices import notify
from app.people.actions.recovery import has_recovery_codes, use_recovery_code
from app.people.reads import ATTEMPT, PERSON, throttle_state
from app.people.rules import (
    CODE_MISSING,
    EITHER_MISSING,
    LONGEST_PASSWORD,
    PASSKEY_MISSING,
    PASSKEY_WRONG,
    code_digits,
    normal_password,
)

SECRET_PURPOSE = "second factor"  # noqa: S105 which key seals, not a secret
SECRET_SIZE = 64
HASHES_AT_ONCE = 2  # in one process: each takes a processor and 19 MiB, and pages need both

_hashing = BoundedSemaphore(HASHES_AT_ONCE)


@dataclass(frozen=True)
class Weighed:
    """A password held against one stored hash; `rehashed` when that hash was right and made with weaker parameters."""

    typed: str = field(repr=False)
    stored: str | None = field(repr=False)
    right: bool
    rehashed: str | None = field(default=None, repr=False)


def weigh(stored: str | None, password: str) -> Weighed:
    """Hold a password against a stored hash. As slow when there is none; so many at once, and the others wait."""
    typed = normal_password(password)
    with _hashing:
        # Longer than any password can be: hashing it would only cost time, yet the answer must not come sooner.
        right = password_matches(stored, typed) if len(typed) <= LONGEST_PASSWORD else password_matches(None, "")
        weaker = right and stored is not None and needs_rehash(stored)
        return Weighed(password, stored, right, hash_password(typed) if weaker else None)


@dataclass(frozen=True)
class Chosen:
    """A new password and its hash, made before anything was locked: it takes as long as a hundred statements."""

    typed: str = field(repr=False)
    hashed: str = field(repr=False)


def chosen(password: str) -> Chosen | None:
    """The hash of a new password; so many at once, and the others wait. None for one that is longer than any can be."""
    typed = normal_password(password)
    if len(typed) > LONGEST_PASSWORD:
        return None
    with _hashing:
        return Chosen(password, hash_password(typed))


@dataclass(frozen=True)
class Proof:
    """How it went: the problem in words for the person, or None; `needs_second` when only the second factor is missing.

    Then `passkeys` are the ids of those that will do, and `codes` says whether a code will.
    """

    problem: str | None = None
    needs_second: bool = False
    second_factor: bool = False
    codes: bool = False
    passkeys: tuple[bytes, ...] = ()


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
    weighed: Weighed | None = None,
    passkey: Shown | None = None,
) -> Proof:
    """Check a password, and the code or the passkey when one is given or needed, as one counted attempt.

    It takes as long, and reads the same, when there is no such person. A throttled attempt checks nothing and leaves
    nothing behind: the wait was written down when it began. A right password without the code or the passkey that it
    needs is neither a failure nor a success. `weighed` counts only for this very password and the hash stored now.
    """
    throttled = throttle_state(session, account=account, address=address, now=now)
    if throttled is not None:
        return Proof(throttled)
    stored = person.password_hash if person is not None else None
    if weighed is None or weighed.typed != password or weighed.stored != stored:
        weighed = weigh(stored, password)
    if person is None or not weighed.right or not person.is_active:
        return _failed(session, person, account, address, "The password was not right.", wrong, by, now)
    enrolled = person.totp_secret is not None
    recovers = recovery_code_as_read(code) is not None and has_recovery_codes(session, person.id)
    with_code = recovers or (enrolled and bool(code and code.strip()))
    if code_needed and passkey is None and not with_code:
        ids = tuple(passkey_ids(session, person.id))
        if enrolled or ids:
            missing = (EITHER_MISSING if ids else CODE_MISSING) if enrolled else PASSKEY_MISSING
            codes = enrolled or has_recovery_codes(session, person.id)
            return Proof(missing, needs_second=True, codes=codes, passkeys=ids)
    if passkey is not None:
        why = why_not_used(session, person, passkey, purpose=Purpose.AGAIN, now=now)
        if why is not None:
            return _failed(session, person, account, address, why, PASSKEY_WRONG, by, now)
    elif recovers:
        used = use_recovery_code(session, person, code, now=now)
        if used is None:
            return _failed(session, person, account, address, "The recovery code was not right.", wrong, by, now)
        record(session, SYSTEM_LOG, [used], by=by, now=now)
    elif with_code and not _use_code(session, person, code, now):
        return _failed(session, person, account, address, "The code was not right.", wrong, by, now)
    session.execute(insert(ATTEMPT).values(username=account, address=address, at=now, succeeded=True))
    if weighed.rehashed is not None:
        session.execute(update(PERSON).where(PERSON.c.id == person.id).values(password_hash=weighed.rehashed))
    return Proof(second_factor=with_code or passkey is not None)


def prove_by_passkey(
    session: Session, person: Any, passkey: Shown, *, account: str, address: str, by: Actor, now: datetime
) -> Proof:
    """Check the passkey of somebody whose password was right when it was asked for, as one counted attempt."""
    throttled = throttle_state(session, account=account, address=address, now=now)
    if throttled is not None:
        return Proof(throttled)
    why = why_not_used(session, person, passkey, purpose=Purpose.SIGN_IN, now=now)
    if why is not None or not person.is_active:
        return _failed(session, person, account, address, why or "", PASSKEY_WRONG, by, now)
    session.execute(insert(ATTEMPT).values(username=account, address=address, at=now, succeeded=True))
    return Proof(second_factor=True)


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
    subject = f"person/{person.username}" if person is not None else ""
    if person is not None and not person.is_active:
        why = "The person is deactivated."
    changes = [Change("sign_in.failed", subject=subject, why=why if person is not None else None)]
    if throttle_state(session, account=account, address=address, now=now) is not None:
        # Once for each wait, at its beginning: attempts within it would fill the log, and take its lock, at will.
        changes.append(Change("sign_in.throttled", subject=subject))
        if person is not None and person.is_active:
            notify(session, person, "sign_in.throttled", now=now, once=now.date().isoformat())
    record(session, SYSTEM_LOG, changes, by=by, now=now)
    return Proof(wrong)


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
    weighed: Weighed | None = None,
    passkey: Shown | None = None,
) -> tuple[Any | None, Proof]:
    """Somebody who is signed in proves it again; their row (held) and the proof.

    Counted apart from sign-in and not by address, so that a stranger who guesses at the sign-in page can never keep a
    signed-in person from an emergency.
    """
    person = person_locked(session, PERSON.c.id == person_id)
    by = author(person, request_id=request_id)
    account = again_account(by.username)
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
        weighed=weighed,
        passkey=passkey,
    )
    return person, proof


def again_account(username: str) -> str:
    """What attempts to prove it again are counted under."""
    return f"{username}/again"


def weighed_again(session: Session, person: Any, password: str, *, now: datetime) -> Weighed | None:
    """What `again` will need for this password, weighed on a reading session; None while attempts are throttled.

    `person` has username and password_hash, as `reads.owner_of_cookie` and `reads.owner_of_token` give it.
    """
    if throttle_state(session, account=again_account(person.username), address="", now=now) is not None:
        return None
    return weigh(person.password_hash, password)


def author(person: Any | None, *, request_id: str = "", via: str = "web") -> Actor:
    """Who the log names before anybody is signed in. What was typed is not kept: it may be a password."""
    if person is None:
        return Actor(0, "(unknown)", "", "", request_id=request_id, via=via)
    return Actor(person.id, person.username, person.name, person.organisation, request_id=request_id, via=via)
