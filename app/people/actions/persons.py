"""Adding persons, inviting them to choose a password, changing it, and deactivating them."""

from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.audit.models import SYSTEM_LOG
from app.foundation.crypto.secrets import hash_password, new_token, token_hash
from app.foundation.errors import FieldProblem, Invalid, NotFound, Refused
from app.foundation.languages import languages
from app.mail.actions import SECRET, queue
from app.people.access import Actor
from app.people.actions import challenges, proving
from app.people.actions.notices import notify
from app.people.actions.rights import active_memberships, insert_once, require_manager, revoked
from app.people.actions.sessions import ended
from app.people.reads import INVITATION, PERSON, SESSION, STUDY, TOKEN, PersonRow, has_been_in, person_by_id
from app.people.rules import (
    INVITATION_LASTS,
    INVITATION_OVER,
    WRONG_AGAIN,
    normal_password,
    normal_username,
    why_not_email,
    why_not_password,
    why_not_username,
)

LONGEST_NAME = 200


def add_person(
    session: Session,
    *,
    username: str,
    name: str,
    email: str,
    organisation: str,
    password: str | None = None,
    by: Actor,
    now: datetime,
) -> PersonRow:
    """Add somebody who can sign in once they have chosen a password. They hold no role yet.

    A password is given at the command line only, for the first administrator: over the web an administrator starts a
    password (`invite`) but never chooses it (21 CFR 11.200(a)(3)).
    """
    normal = normal_username(username)
    require_manager(session, by, None, action="person.add", subject="/person")
    if password is not None and by.via in ("web", "api"):
        raise Refused(
            "An administrator does not choose somebody's password. Leave it empty and send the invitation.",
            action="person.add",
            subject="/person",
        )
    name, email, organisation = name.strip(), email.strip(), organisation.strip()
    reasons = {
        "username": why_not_username(normal),
        "name": _why_not_text(name, f"Type the name on one line, at most {LONGEST_NAME} characters."),
        "email": why_not_email(email),
        "organisation": _why_not_text(
            organisation, f"Type the organisation on one line, at most {LONGEST_NAME} characters."
        ),
        "password": why_not_password(password, context=[normal, name, organisation]) if password is not None else None,
    }
    problems = [FieldProblem(field, "format", reason) for field, reason in reasons.items() if reason]
    if problems:
        raise Invalid(problems)
    values: dict[str, Any] = {
        "username": normal,
        "name": name,
        "email": email,
        "organisation": organisation,
        "password_hash": hash_password(normal_password(password)) if password is not None else None,
        "is_active": True,
        "created_at": now,
    }
    person_id = insert_once(session, PERSON, values)
    if person_id is None:
        raise Invalid(
            [
                FieldProblem(
                    "username",
                    "unique",
                    "This username is or was somebody's, and a username is never given again. Choose another one.",
                )
            ]
        )
    added = Change("person.added", subject=f"person/{normal}", new={"password": password is not None})
    record(session, SYSTEM_LOG, [added], by=by, now=now)
    return _person(session, person_id)


def _why_not_text(text: str, words: str) -> str | None:
    if not text or len(text) > LONGEST_NAME or not text.isprintable():
        return words
    return None


def _person(session: Session, person_id: int) -> PersonRow:
    person = person_by_id(session, person_id)
    if person is None:
        raise NotFound("There is no such person.")
    return person


def invite(session: Session, person_id: int, *, by: Actor, now: datetime) -> str:
    """The token of a link with which this person chooses their first password, once. Earlier links stop working.

    Somebody who was ever in gets a new link by `mail_invitation` only: with one that is shown, an administrator could
    sign in, and sign, as them (21 CFR 11.200(a)(3)). Whoever sits at the command line holds the database anyway.
    """
    person = _invitable(session, person_id, by)
    if by.via in ("web", "api") and has_been_in(session, person_id):
        raise Refused(
            "This person has chosen a password before. A new link goes to their own mail address, and is not shown.",
            action="invitation.create",
            subject=f"/person/{person.username}",
        )
    return _invitation(session, person, item="shown", by=by, now=now)


def mail_invitation(session: Session, person_id: int, *, welcome: str, by: Actor, now: datetime) -> None:
    """Send the link to this person's own address, and show it to nobody. `welcome` is what stands before its token.

    The old password and the second factor stay as they are until then: recovery goes around neither.
    """
    person = _invitable(session, person_id, by)
    token = _invitation(session, person, item="mailed", by=by, now=now)
    queue(
        session,
        key=f"invitation/{token_hash(token).hex()}",
        to_address=person.email,
        subject="Equipoise: Choose a new password",
        body=f"Choose a new password for your Equipoise account here, once, within three days:\n\n{welcome}{SECRET}\n\n"
        "If you did not ask for it, tell your administrator and do not use the link: your password is unchanged.",
        secret=token,
        now=now,
        language=person.language,
    )


def _invitable(session: Session, person_id: int, by: Actor) -> PersonRow:
    require_manager(session, by, None, action="invitation.create", subject="/person")
    person = _person(session, person_id)
    if not person.is_active:
        raise Refused(
            "This person is deactivated. Activate them first.",
            action="invitation.create",
            subject=f"/person/{person.username}",
        )
    return person


def _invitation(session: Session, person: PersonRow, *, item: str, by: Actor, now: datetime) -> str:
    _end_invitations(session, person.id, now)
    token = new_token()
    session.execute(
        insert(INVITATION).values(
            token_hash=token_hash(token), person_id=person.id, created_at=now, expires_at=now + INVITATION_LASTS
        )
    )
    created = Change("invitation.created", subject=f"person/{person.username}", item=item)
    record(session, SYSTEM_LOG, [created], by=by, now=now)
    return token


def accept_invitation(
    session: Session,
    token: str,
    password: str,
    *,
    now: datetime,
    request_id: str = "",
    chosen: proving.Chosen | None = None,
) -> str | None:
    """The person chooses a password with their link; the reason it cannot be, or None and they can sign in.

    It signs nobody in, so the second factor is still asked for. Every session of theirs ends. `chosen`: the same
    password, hashed before.
    """
    found = session.execute(
        select(INVITATION.c.person_id).where(
            INVITATION.c.token_hash == token_hash(token), INVITATION.c.used_at.is_(None), INVITATION.c.expires_at > now
        )
    ).scalar()
    person = proving.person_locked(session, PERSON.c.id == found, PERSON.c.is_active) if found is not None else None
    if person is None:
        return INVITATION_OVER
    reason = _why_not_theirs(session, person, password)
    if reason is not None:
        return reason
    used = session.execute(
        update(INVITATION)
        .where(
            INVITATION.c.token_hash == token_hash(token), INVITATION.c.used_at.is_(None), INVITATION.c.expires_at > now
        )
        .values(used_at=now)
    )
    if used.rowcount != 1:  # type: ignore[attr-defined]
        return INVITATION_OVER
    by = proving.author(person, request_id=request_id)
    _change_password(session, person, password, chosen, item="invitation", keep=None, by=by, now=now)
    return None


def choose_language(session: Session, language: str | None, *, by: Actor, now: datetime) -> None:
    """Choose the language of one's own pages and mails; None leaves it to the browser, and mails in English."""
    person = _person(session, by.person_id)
    if language is not None and language not in languages():
        raise Invalid([FieldProblem("language", "choice", "Choose one of the languages in the list.")])
    if language == person.language:
        return
    session.execute(update(PERSON).where(PERSON.c.id == person.id).values(language=language))
    changed = Change(
        "person.language_chosen",
        subject=f"person/{person.username}",
        item="language",
        old=person.language,
        new=language,
    )
    record(session, SYSTEM_LOG, [changed], by=by, now=now)


def set_password(
    session: Session,
    *,
    current: str,
    new: str,
    code: str | None = None,
    token: str | None = None,
    by: Actor,
    now: datetime,
    weighed: proving.Weighed | None = None,
    chosen: proving.Chosen | None = None,
) -> str | None:
    """Change one's own password, knowing the present one; the reason it cannot be, or None.

    Every other session ends; `token` is the one to keep. A wrong attempt is written: the door commits. `chosen`: the
    new one, hashed before.
    """
    person, proof = proving.again(
        session,
        by.person_id,
        password=current,
        code=code,
        code_needed=False,
        now=now,
        request_id=by.request_id,
        wrong=WRONG_AGAIN,
        weighed=weighed,
    )
    if person is None or proof.problem is not None:
        return proof.problem
    reason = _why_not_theirs(session, person, new)
    if reason is not None:
        return reason
    _change_password(session, person, new, chosen, item="", keep=token, by=by, now=now)
    return None


def _why_not_theirs(session: Session, person: Any, password: str) -> str | None:
    has_second = challenges.has_second_factor(session, person)
    context = [person.username, person.name, person.organisation, *person.email.split("@")]
    return why_not_password(password, second_factor=has_second, context=context)


def _change_password(
    session: Session,
    person: Any,
    password: str,
    chosen: proving.Chosen | None,
    *,
    item: str,
    keep: str | None,
    by: Actor,
    now: datetime,
) -> None:
    is_it = chosen is not None and chosen.typed == password
    hashed = chosen.hashed if chosen and is_it else hash_password(normal_password(password))
    session.execute(update(PERSON).where(PERSON.c.id == person.id).values(password_hash=hashed))
    _end_invitations(session, person.id, now)
    changed = Change("password.changed", subject=f"person/{person.username}", item=item)
    others = [SESSION.c.person_id == person.id]
    if keep:
        others.append(SESSION.c.token_hash != token_hash(keep))
    sessions = ended(session, *others, now=now, why="The password was changed.")
    notify(session, person, "password.changed", now=now)
    record(session, SYSTEM_LOG, [changed, *sessions], by=by, now=now)


def _end_invitations(session: Session, person_id: int, now: datetime) -> None:
    session.execute(
        update(INVITATION)
        .where(INVITATION.c.person_id == person_id, INVITATION.c.used_at.is_(None), INVITATION.c.expires_at > now)
        .values(expires_at=now)
    )


def deactivate(session: Session, person_id: int, *, by: Actor, now: datetime, why: str | None = None) -> None:
    """End somebody's access at once: sessions, tokens, links and every role. The person stays, and so does the name."""
    require_manager(session, by, None, action="person.deactivate", subject="/person")
    person = proving.person_locked(session, PERSON.c.id == person_id)
    if person is None:
        raise NotFound("There is no such person.")
    subject = f"/person/{person.username}"
    if not person.is_active:
        raise Refused(
            "This person is deactivated already. Nothing was changed.", action="person.deactivate", subject=subject
        )
    if person_id == by.person_id:
        raise Refused(
            "You cannot deactivate yourself. Ask another administrator.", action="person.deactivate", subject=subject
        )
    held = active_memberships(session, person_id)
    codes = {row.id: row.code for row in session.execute(select(STUDY.c.id, STUDY.c.code))}
    changes: dict[str, list[Change]] = {}
    for row in held:
        log = codes.get(row.study_id, SYSTEM_LOG)
        changes.setdefault(log, []).extend(revoked(session, [row], by=by, now=now, action="person.deactivate"))
    session.execute(update(PERSON).where(PERSON.c.id == person_id).values(is_active=False))
    _end_invitations(session, person_id, now)
    tokens = session.execute(
        update(TOKEN)
        .where(TOKEN.c.person_id == person_id, TOKEN.c.revoked_at.is_(None))
        .values(revoked_at=now)
        .returning(TOKEN.c.id, TOKEN.c.study_id)
    ).all()
    for token in tokens:
        change = Change("token.revoked", subject=f"token/{token.id}", item=subject[1:])
        changes.setdefault(codes.get(token.study_id, SYSTEM_LOG), []).append(change)
    changes.setdefault(SYSTEM_LOG, []).extend(
        [
            *ended(session, SESSION.c.person_id == person_id, now=now, why="The person was deactivated."),
            Change("person.deactivated", subject=subject[1:]),
        ]
    )
    for log in sorted(changes):  # always in the same order, so that two of these never wait for each other
        record(session, log, changes[log], by=by, now=now, why=why)


def activate(session: Session, person_id: int, *, by: Actor, now: datetime, why: str | None = None) -> None:
    """Let somebody sign in again who was deactivated. They choose a new password and are given their roles anew."""
    require_manager(session, by, None, action="person.activate", subject="/person")
    person = proving.person_locked(session, PERSON.c.id == person_id)
    if person is None:
        raise NotFound("There is no such person.")
    if person.is_active:
        raise Refused(
            "This person is active. Nothing was changed.",
            action="person.activate",
            subject=f"/person/{person.username}",
        )
    session.execute(update(PERSON).where(PERSON.c.id == person_id).values(is_active=True, password_hash=None))
    activated = Change("person.activated", subject=f"person/{person.username}", why=why)
    record(session, SYSTEM_LOG, [activated], by=by, now=now)
