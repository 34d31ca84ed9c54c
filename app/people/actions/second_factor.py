"""Setting up and removing an authenticator app (RFC 6238), and resetting every second factor."""

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.sql import ColumnElement
from sqlmodel import Session

from app.audit.actions import Change, record
from app.audit.models import SYSTEM_LOG
from app.foundation.crypto.envelopes import CannotOpen, open_sealed, seal
from app.foundation.crypto.secrets import new_totp_secret, token_hash, totp_address, totp_step
from app.foundation.database import keys_of
from app.foundation.errors import NotFound, Refused
from app.people.access import Actor
from app.people.actions import proving
from app.people.actions.challenges import Shown, has_second_factor, passkey_ids
from app.people.actions.notices import notify
from app.people.actions.passkeys import removed
from app.people.actions.recovery import removed_codes
from app.people.actions.rights import require_manager
from app.people.actions.sessions import ended
from app.people.reads import PERSON, SESSION, person_by_id
from app.people.rules import ENROLMENT_LASTS, ENROLMENT_OVER, TOO_WEAK_ALONE, WRONG_AGAIN, code_digits, why_not_password

ENROLMENT_PURPOSE = "second factor enrolment"
ENROLLED_ALREADY = "You have an authenticator app already. Remove it first."


@dataclass(frozen=True)
class Enrolment:
    """What the set-up page shows (secret, address for the QR code) and sends back unread (`pending`, sealed)."""

    secret: str
    address: str
    pending: str


def enrol_second_factor_start(session: Session, *, by: Actor, now: datetime) -> Enrolment:
    """A new secret for one's authenticator app. Nothing is kept until a code from it was right.

    The door asks for the password again first (`reauthenticate`).
    """
    person = person_by_id(session, by.person_id)
    if person is None:
        raise NotFound
    if person.has_codes:
        raise Refused(ENROLLED_ALREADY, action="second_factor.enrol", subject=f"/person/{person.username}")
    secret = new_totp_secret()
    last_step = session.execute(select(PERSON.c.totp_last_step).where(PERSON.c.id == by.person_id)).scalar() or 0
    sealed = seal(
        keys_of(session).derive(ENROLMENT_PURPOSE),
        f"{int(now.timestamp())} {last_step} {secret}".encode(),
        bound_to=(ENROLMENT_PURPOSE, by.person_id),
        size=96,
    )
    return Enrolment(secret, totp_address(secret, person.username), base64.urlsafe_b64encode(sealed).decode())


def enrol_second_factor_confirm(
    session: Session, pending: str, code: str, *, token: str | None = None, by: Actor, now: datetime
) -> str | None:
    """Keep the second factor once a code from it is right (21 CFR 11.300(e)); the reason it cannot be, or None.

    The code is thereby used, and so is `pending`: it names the last step that was used when it was made, and every step
    that is kept is later than the one before, also when a second factor was removed in between. Other sessions end; the
    one of `token` counts as signed in with the second factor.
    """
    key = keys_of(session).derive(ENROLMENT_PURPOSE)
    try:
        sealed = base64.urlsafe_b64decode(pending.encode())
        opened = open_sealed(key, sealed, bound_to=(ENROLMENT_PURPOSE, by.person_id)).decode()
        started, last_step, secret = opened.split(" ")
    except (CannotOpen, binascii.Error, ValueError):
        return ENROLMENT_OVER
    seconds = int(now.timestamp())
    if not 0 <= seconds - int(started) <= ENROLMENT_LASTS.total_seconds():
        return ENROLMENT_OVER
    digits = code_digits(code)
    step = totp_step(secret, digits, seconds, int(last_step)) if digits else None
    if step is None:
        return "The code is not right. Wait for the next one and type it; check that your device shows the right time."
    kept = session.execute(
        update(PERSON)
        .where(
            PERSON.c.id == by.person_id,
            PERSON.c.totp_secret.is_(None),
            func.coalesce(PERSON.c.totp_last_step, 0) == int(last_step),
            PERSON.c.is_active,
        )
        .values(totp_secret=proving.sealed_secret(session, by.person_id, secret), totp_last_step=step)
    )
    if kept.rowcount != 1:  # type: ignore[attr-defined]
        person = person_by_id(session, by.person_id)
        return ENROLLED_ALREADY if person is not None and person.has_codes else ENROLMENT_OVER
    enrolled = Change("second_factor.enrolled", subject=f"person/{by.username}")
    others = [SESSION.c.person_id == by.person_id]
    if token:
        session.execute(
            update(SESSION)
            .where(SESSION.c.token_hash == token_hash(token), SESSION.c.person_id == by.person_id)
            .values(second_factor=True)
        )
        others.append(SESSION.c.token_hash != token_hash(token))
    sessions = ended(session, *others, now=now, why="A second factor was set up.")
    notify(session, person_by_id(session, by.person_id), "second_factor.enrolled", now=now)
    record(session, SYSTEM_LOG, [enrolled, *sessions], by=by, now=now)
    return None


def remove_second_factor(
    session: Session,
    *,
    password: str,
    code: str,
    token: str | None = None,
    by: Actor,
    now: datetime,
    weighed: proving.Weighed | None = None,
    passkey: Shown | None = None,
) -> str | None:
    """Remove one's own authenticator app, with password and a code (or a passkey); the reason it cannot be, or None.

    Without any second factor the password must be one that protects alone. A wrong attempt is written: the door
    commits.
    """
    person, proof = proving.again(
        session,
        by.person_id,
        password=password,
        code=code,
        code_needed=True,
        now=now,
        request_id=by.request_id,
        wrong=WRONG_AGAIN,
        weighed=weighed,
        passkey=passkey,
    )
    if person is None or proof.problem is not None:
        return proof.problem
    if person.totp_secret is None:
        return "You have no authenticator app. Nothing was changed."
    if why_not_password(password) is not None and not passkey_ids(session, person.id):
        return TOO_WEAK_ALONE
    others = [SESSION.c.person_id == person.id]
    if token:
        others.append(SESSION.c.token_hash != token_hash(token))
    _remove(session, person, *others, why="Removed by the person.", by=by, now=now)
    return None


def reset_second_factor(session: Session, person_id: int, *, why: str, by: Actor, now: datetime) -> None:
    """A person lost the device: an administrator removes app, passkeys, password and every session.

    The person then chooses a password with an invitation and sets up the new device, so that nobody can sign in
    as them with what they knew or had before (21 CFR 11.300(c)).
    """
    require_manager(session, by, None, action="second_factor.reset", subject="/person")
    person = proving.person_locked(session, PERSON.c.id == person_id)
    if person is None:
        raise NotFound("There is no such person.")
    subject = f"/person/{person.username}"
    if person_id == by.person_id:
        raise Refused(
            "You cannot reset your own second factor. Ask another administrator.",
            action="second_factor.reset",
            subject=subject,
        )
    if not why.strip():
        raise Refused("Say why, and how you made sure who asked.", action="second_factor.reset", subject=subject)
    if not has_second_factor(session, person):
        raise Refused(
            "This person has no second factor. Nothing was changed.", action="second_factor.reset", subject=subject
        )
    session.execute(update(PERSON).where(PERSON.c.id == person_id).values(password_hash=None))
    record(session, SYSTEM_LOG, removed(session, person, why=why.strip()), by=by, now=now)
    _remove(session, person, SESSION.c.person_id == person_id, why=why.strip(), by=by, now=now)


def _remove(session: Session, person: Any, *sessions: ColumnElement[bool], why: str, by: Actor, now: datetime) -> None:
    # The last step stays: a set-up that was begun before is over with it.
    session.execute(update(PERSON).where(PERSON.c.id == person.id).values(totp_secret=None))
    codes: list[Change] = []
    if not passkey_ids(session, person.id):
        session.execute(update(SESSION).where(SESSION.c.person_id == person.id).values(second_factor=False))
        codes = removed_codes(session, person, why=why)
    gone = Change("second_factor.removed", subject=f"person/{person.username}", why=why)
    changes = ended(session, *sessions, now=now, why="The second factor was removed.")
    notify(session, person, "second_factor.removed", now=now)
    record(session, SYSTEM_LOG, [gone, *codes, *changes], by=by, now=now)
