"""Signing in, signing out, and proving again who one is before a signature."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.sql import ColumnElement
from sqlmodel import Session

from app.audit.actions import Change, record
from app.audit.models import SYSTEM_LOG
from app.foundation.crypto.passkeys import Place, options_to_use
from app.foundation.crypto.secrets import new_token, token_hash
from app.foundation.database import keys_of
from app.foundation.errors import NotFound
from app.people.access import Actor
from app.people.actions import challenges, proving
from app.people.actions.challenges import Purpose, Shown
from app.people.actions.proving import Weighed
from app.people.actions.rights import require_manager
from app.people.reads import PERSON, SESSION, PersonRow, person_by_id, throttle_state
from app.people.rules import (
    PASSKEY_MISSING,
    PASSKEY_NOT_HERE,
    PASSKEY_WRONG,
    SEEN_EVERY,
    WRONG,
    WRONG_AGAIN,
    normal_username,
)


@dataclass(frozen=True)
class Browser:
    """What somebody signs in with, and when: until when the session lasts, the cookie it came with, and where passkeys
    are good, if anywhere."""

    now: datetime
    absolute: timedelta
    address: str = ""
    name: str = ""
    earlier_token: str | None = field(default=None, repr=False)
    request_id: str = ""
    place: Place | None = None

    @property
    def kept_address(self) -> str:
        """As much of its address as is kept, and compared."""
        return self.address[:ADDRESS_KEPT]


@dataclass(frozen=True)
class PasskeyAsked:
    """What a browser uses a passkey with at a sign-in, and the secret of that sign-in, which comes back beside it."""

    options: dict[str, Any]
    attempt: str = field(repr=False)


@dataclass(frozen=True)
class SignInResult:
    """The token for the cookie, or the problem in words; `needs_code` and `passkey` when only that is missing."""

    token: str | None = None
    problem: str | None = None
    needs_code: bool = False
    passkey: PasskeyAsked | None = None
    person: PersonRow | None = None


ADDRESS_KEPT = 64


@dataclass(frozen=True)
class BeforeSignIn:
    """What can be known before anything is locked: the stored hash, and why an attempt must wait now, or None."""

    throttled: str | None
    stored: str | None


def before_sign_in(session: Session, *, username: str, address: str = "", now: datetime) -> BeforeSignIn:
    """Look whether an attempt would be heard, on a reading session; a door then weighs the password and signs in.

    An attempt that must wait is answered from this alone: it writes nothing and waits for no lock.
    """
    normal = normal_username(username)
    person = session.execute(
        select(PERSON.c.username, PERSON.c.password_hash).where(PERSON.c.username == normal)
    ).first()
    account = _account(session, person, normal)
    throttled = throttle_state(session, account=account, address=address[:ADDRESS_KEPT], now=now)
    return BeforeSignIn(throttled, person.password_hash if person is not None else None)


def _account(session: Session, person: Any | None, normal: str) -> str:
    if person is not None:
        return str(person.username)
    return "(unknown) " + keys_of(session).tag("sign-in attempt", normal.encode(errors="replace")).hex()


def sign_in(
    session: Session,
    *,
    username: str,
    password: str,
    code: str | None = None,
    browser: Browser,
    weighed: Weighed | None = None,
) -> SignInResult:
    """Sign somebody in with password and, where they have one, second factor.

    Whoever has passkeys is asked for one once the password was right, and `sign_in_with_passkey` goes on from there.
    Never raises for a wrong attempt: the attempt is written, so the door must commit. A new token each time, and the
    session ends that the browser came with. `weighed` is the password held against the hash of `before_sign_in`;
    without it the hashing is done here, while other writers wait.
    """
    normal, now = normal_username(username), browser.now
    person = proving.person_locked(session, PERSON.c.username == normal)
    by = proving.author(person, request_id=browser.request_id)
    proof = proving.prove(
        session,
        person,
        account=_account(session, person, normal),
        address=browser.kept_address,
        password=password,
        code=code,
        code_needed=True,
        wrong=WRONG,
        by=by,
        now=now,
        weighed=weighed,
    )
    if person is None or proof.problem is not None:
        if person is not None and proof.passkeys and browser.place is not None:
            attempt = new_token()
            bound_to = _attempt_of(attempt, person)
            challenge = challenges.ask(session, person.id, purpose=Purpose.SIGN_IN, bound_to=bound_to, now=now)
            asked = PasskeyAsked(options_to_use(browser.place, challenge, ids=proof.passkeys), attempt)
            return SignInResult(problem=proof.problem, needs_code=proof.codes, passkey=asked)
        problem = PASSKEY_NOT_HERE if proof.problem == PASSKEY_MISSING else proof.problem
        return SignInResult(problem=problem, needs_code=proof.codes)
    return _begun(session, person, proof, browser, by=by)


def sign_in_with_passkey(session: Session, *, attempt: str, answer: str, browser: Browser) -> SignInResult:
    """Go on with a sign-in whose password was right, with the passkey it asked for.

    `attempt` is its secret, and good while the password is the same. An answer to nothing that was asked at a sign-in
    writes nothing; every other attempt in vain is written, so the door must commit.
    """
    person_id = challenges.asked_of(session, answer)
    person = proving.person_locked(session, PERSON.c.id == person_id) if person_id is not None else None
    if person is None:
        return SignInResult(problem=PASSKEY_WRONG)
    by = proving.author(person, request_id=browser.request_id)
    shown = Shown(answer, browser.place, _attempt_of(attempt, person))
    account = str(person.username)
    proof = proving.prove_by_passkey(
        session, person, shown, account=account, address=browser.kept_address, by=by, now=browser.now
    )
    if proof.problem is not None:
        return SignInResult(problem=proof.problem)
    return _begun(session, person, proof, browser, by=by)


def asked_at_sign_in(session: Session, answer: str) -> bool:
    """Whether this answers what was asked at a sign-in: known on a reading session, before anything is locked."""
    return challenges.asked_of(session, answer) is not None


def _attempt_of(attempt: str, person: Any) -> bytes:
    # Over as soon as the password is another, or none.
    return token_hash(f"{attempt} {person.password_hash}")


def _begun(session: Session, person: Any, proof: proving.Proof, browser: Browser, *, by: Actor) -> SignInResult:
    now, earlier, changes = browser.now, browser.earlier_token, []
    if earlier:
        changes = ended(session, SESSION.c.token_hash == token_hash(earlier), now=now, why="Signed in again.")
    token = new_token()
    hashed = token_hash(token)
    session.execute(
        insert(SESSION).values(
            token_hash=hashed,
            person_id=person.id,
            csrf_token=new_token(),
            second_factor=proof.second_factor,
            created_at=now,
            seen_at=now,
            expires_at=now + browser.absolute,
            address=browser.kept_address,
            browser=browser.name[:200],
        )
    )
    started = Change(
        "session.started",
        subject=f"person/{person.username}",
        item=_name(hashed),
        new={"second_factor": proof.second_factor},
    )
    record(session, SYSTEM_LOG, [*changes, started], by=by, now=now)
    return SignInResult(token=token, person=person_by_id(session, person.id))


def reauthenticate(
    session: Session,
    person_id: int,
    password: str,
    code: str | None = None,
    *,
    code_needed: bool = False,
    now: datetime,
    request_id: str = "",
    weighed: Weighed | None = None,
    passkey: Shown | None = None,
) -> str | None:
    """Prove again who one is, before a signature or a randomisation; the reason it failed, or None.

    The password alone is enough within a session (21 CFR 11.200(a)(1)(i)); a code that is given must be right, and
    `code_needed` demands it of everybody who has a second factor. A passkey counts in its place. The attempt is
    written: the door commits.
    """
    _, proof = proving.again(
        session,
        person_id,
        password=password,
        code=code,
        code_needed=code_needed,
        now=now,
        request_id=request_id,
        wrong=WRONG_AGAIN,
        weighed=weighed,
        passkey=passkey,
    )
    return proof.problem


def touch(session: Session, hashed_token: bytes, *, now: datetime) -> bool:
    """Write that a session is in use, at most every SEEN_EVERY; never wakes one that ended. Whether it wrote."""
    written = session.execute(
        update(SESSION)
        .where(
            SESSION.c.token_hash == hashed_token, SESSION.c.ended_at.is_(None), SESSION.c.seen_at <= now - SEEN_EVERY
        )
        .values(seen_at=now)
    )
    return bool(written.rowcount)  # type: ignore[attr-defined]


def renew_session(session: Session, token: str) -> str | None:
    """The same session under a new token, after somebody proved again who they are (OWASP ASVS 7.2.4).

    Forms that are open keep working: the form token stays. None when the session is over.
    """
    renewed = new_token()
    changed = session.execute(
        update(SESSION)
        .where(SESSION.c.token_hash == token_hash(token), SESSION.c.ended_at.is_(None))
        .values(token_hash=token_hash(renewed))
    )
    return renewed if changed.rowcount else None  # type: ignore[attr-defined]


def sign_out(session: Session, token: str, *, now: datetime, request_id: str = "") -> None:
    """End the session of this cookie, on the server. Nothing happens when it is over already."""
    owner = SESSION.join(PERSON, PERSON.c.id == SESSION.c.person_id)
    person = session.execute(
        select(*PERSON.c).select_from(owner).where(SESSION.c.token_hash == token_hash(token))
    ).first()
    if person is not None:
        by = proving.author(person, request_id=request_id)
        _end(session, SESSION.c.token_hash == token_hash(token), by=by, now=now, why="Signed out.")


def end_session(session: Session, session_id: str, *, by: Actor, now: datetime) -> None:
    """End one session by its id in `reads.sessions_of`: one's own, or as administrator anybody's."""
    try:
        hashed = bytes.fromhex(session_id)
    except ValueError:
        raise NotFound from None
    owner = session.execute(
        select(SESSION.c.person_id).where(SESSION.c.token_hash == hashed, SESSION.c.ended_at.is_(None))
    ).scalar()
    if owner is None:
        raise NotFound("This session is over already.")
    if owner != by.person_id:
        require_manager(session, by, None, action="session.end", subject="/session")
    _end(session, SESSION.c.token_hash == hashed, by=by, now=now, why="Ended from the list of sessions.")


def end_other_sessions(session: Session, *, token: str, by: Actor, now: datetime) -> int:
    """End every session of one's own but this one; how many."""
    mine = (SESSION.c.person_id == by.person_id, SESSION.c.token_hash != token_hash(token))
    return _end(session, *mine, by=by, now=now, why="Ended by the person from another session.")


def end_sessions_of(session: Session, person_id: int, *, why: str = "", by: Actor, now: datetime) -> int:
    """End every session of somebody, as administrator; how many."""
    require_manager(session, by, None, action="session.end", subject="/session")
    return _end(session, SESSION.c.person_id == person_id, by=by, now=now, why=why or "Ended by an administrator.")


def _end(session: Session, *where: ColumnElement[bool], by: Actor, now: datetime, why: str) -> int:
    changes = ended(session, *where, now=now, why=why)
    record(session, SYSTEM_LOG, changes, by=by, now=now)
    return len(changes)


def ended(session: Session, *where: ColumnElement[bool], now: datetime, why: str) -> list[Change]:
    """End the running sessions that match; what to write down. Permission is the caller's to ask."""
    rows = session.execute(
        update(SESSION)
        .where(SESSION.c.ended_at.is_(None), *where)
        .values(ended_at=now)
        .returning(SESSION.c.token_hash, SESSION.c.person_id)
    ).all()
    if not rows:
        return []
    owners = select(PERSON.c.id, PERSON.c.username).where(PERSON.c.id.in_({row.person_id for row in rows}))
    usernames = {row.id: row.username for row in session.execute(owners)}
    return [
        Change("session.ended", subject=f"person/{usernames[row.person_id]}", item=_name(row.token_hash), why=why)
        for row in rows
    ]


def _name(hashed: bytes) -> str:
    # Enough of the hash to tell one session from another in the log; nothing that signs in.
    return f"session/{hashed.hex()[:8]}"
