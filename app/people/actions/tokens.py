"""Making and revoking API tokens."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.audit.models import SYSTEM_LOG
from app.foundation.crypto.secrets import new_hexadecimal_token, new_super_token, new_token, token_hash
from app.foundation.errors import FieldProblem, Invalid, NotAllowed, NotFound, Refused
from app.people.access import Actor, may, require, token_grants
from app.people.actions.rights import require_manager
from app.people.models import ApiToken
from app.people.permissions import Permission
from app.people.reads import PERSON, TOKEN, TOKEN_PREFIX, person_by_id, sites_of
from app.people.rules import SECOND_FACTOR_NEEDED, SEEN_EVERY, why_not_scopes, why_not_until

LONGEST_NAME = 100
SIGN_IN_INSTEAD = "A token cannot make tokens. Sign in and create it."


def create_token(
    session: Session,
    *,
    person_id: int,
    study_id: int,
    log: str = SYSTEM_LOG,
    name: str,
    scopes: Iterable[str],
    sites: Iterable[str] = (),
    expires_at: datetime,
    second_factor_needed: bool = False,
    hexadecimal: bool = False,
    by: Actor,
    now: datetime,
) -> tuple[ApiToken, str]:
    """A token for a program that acts as oneself in one study, and its text, which is shown once and never kept.

    It may do what its scopes say and its owner still may; nobody makes one for somebody else (21 CFR 11.200(a)(2)).
    `sites`, by code, limits it to some at which its owner works; without any it acts wherever its owner does.
    `second_factor_needed`: the study asks for a second factor, so its owner must have one. `hexadecimal`: 32 digits, as
    the clients of the REDCap-compatible API want it; else it begins with what says that it is a token of ours.
    """
    require(by, Permission.TOKEN_CREATE, action="token.create", subject="/token")
    text = new_hexadecimal_token() if hexadecimal else TOKEN_PREFIX + new_token()
    _refuse_for_others(session, person_id, study_id, second_factor_needed=second_factor_needed, by=by)
    wanted, codes = sorted(set(scopes)), sorted(set(sites))
    places = {site.code: site.id for site in sites_of(session, study_id)} if codes else {}
    chosen = frozenset(places[code] for code in codes if code in places)
    limited = replace(by, grants=token_grants(by.grants, chosen if codes else None))
    held = [permission for permission in Permission if may(limited, permission)]
    no_site = codes and (len(chosen) < len(codes) or chosen - {grant.site_id for grant in limited.grants})
    why_not = {
        "sites": "Choose among the sites at which you work." if no_site else None,
        "scopes": None if no_site else why_not_scopes(wanted, held, at_sites=bool(codes)),
    }
    _refuse_wrong(name, why_not, expires_at, now=now)
    values = {
        "study_id": study_id,
        "name": name,
        "scopes": wanted,
        "sites": " ".join(map(str, sorted(chosen))),
        "expires_at": expires_at,
    }
    return _made(session, text, values, codes, log=log, by=by, now=now), text


SUPER_SCOPES = (Permission.STUDY_LOAD, Permission.STUDY_READ)


def create_super_token(
    session: Session,
    *,
    person_id: int,
    study_id: int,
    log: str,
    name: str,
    expires_at: datetime,
    second_factor_needed: bool = False,
    by: Actor,
    now: datetime,
) -> tuple[ApiToken, str]:
    """A token with which one's program makes drafts of studies among those of this study, and does nothing else.

    For who may load a study. Nothing is loaded by it: that takes a person, and their password.
    """
    require(by, Permission.STUDY_LOAD, action="token.create", subject="/token")
    _refuse_for_others(session, person_id, study_id, second_factor_needed=second_factor_needed, by=by)
    _refuse_wrong(name, {}, expires_at, now=now)
    text = new_super_token()
    values = {"study_id": study_id, "name": name, "scopes": SUPER_SCOPES, "expires_at": expires_at}
    return _made(session, text, values, log=log, by=by, now=now), text


def create_token_of_draft(
    session: Session, parent: str, *, draft_id: int, name: str, log: str, by: Actor, now: datetime
) -> str:
    """The token of a draft that a super token (`parent`) made: of the same owner, for no more, and until the same day.

    The one token that a token makes, since it lends nothing that was not there: it ends with the super token, too.
    """
    require(by, Permission.STUDY_LOAD, action="token.create", subject="/token")
    row = session.execute(select(*TOKEN.c).where(TOKEN.c.token_hash == token_hash(parent))).one()
    if row.person_id != by.person_id or row.draft_id is not None or row.parent_id is not None:
        raise NotAllowed(SIGN_IN_INSTEAD, action="token.create", subject="/token")
    text = new_hexadecimal_token()
    values = {
        "study_id": row.study_id,
        "name": name[:LONGEST_NAME],
        "scopes": row.scopes.split(),
        "expires_at": row.expires_at,
        "draft_id": draft_id,
        "parent_id": row.id,
    }
    _made(session, text, values, log=log, by=by, now=now)
    return text


def lead_on(session: Session, draft_id: int, *, study_id: int) -> list[Change]:
    """The tokens of a draft act in the study that it was loaded as, from now on; what the log is to say of it."""
    moved = (
        update(TOKEN)
        .where(TOKEN.c.draft_id == draft_id, TOKEN.c.revoked_at.is_(None))
        .values(study_id=study_id, draft_id=None)
        .returning(TOKEN.c.id)
    )
    return [Change("token.led_on", subject=f"token/{number}") for number in sorted(session.execute(moved).scalars())]


def _refuse_for_others(
    session: Session, person_id: int, study_id: int, *, second_factor_needed: bool, by: Actor
) -> None:
    """Nobody makes a token for somebody else, or with a token, or without the second factor that a study asks for."""
    if person_id != by.person_id or study_id != by.study_id:
        raise NotAllowed(
            "A token acts as its owner in one study. Create it in that study, for yourself.",
            action="token.create",
            subject="/token",
        )
    if by.via == "api":
        raise NotAllowed(SIGN_IN_INSTEAD, action="token.create", subject="/token")
    owner = person_by_id(session, person_id)
    if second_factor_needed and not (owner is not None and owner.has_second_factor):
        raise NotAllowed(SECOND_FACTOR_NEEDED, action="token.create", subject="/token")


def _refuse_wrong(name: str, why_not: Mapping[str, str | None], expires_at: datetime, *, now: datetime) -> None:
    name = name.strip()
    reasons = {
        "name": None
        if 0 < len(name) <= LONGEST_NAME and name.isprintable()
        else "Name the program or device that will use it, in at most 100 characters.",
        **why_not,
        "expires_at": why_not_until(expires_at, now=now),
    }
    problems = [FieldProblem(field, "format", reason) for field, reason in reasons.items() if reason]
    if problems:
        raise Invalid(problems)


def _made(
    session: Session,
    text: str,
    values: dict[str, Any],
    sites: Sequence[str] = (),
    *,
    log: str,
    by: Actor,
    now: datetime,
) -> ApiToken:
    scopes, expires_at = [str(scope) for scope in values["scopes"]], values["expires_at"]
    token = ApiToken(
        **{**values, "name": values["name"].strip(), "scopes": " ".join(scopes)},
        token_hash=token_hash(text),
        person_id=by.person_id,
        created_at=now,
    )
    session.add(token)
    session.flush()
    created = Change(
        "token.created",
        subject=f"token/{token.id}",
        item=f"person/{by.username}",
        new={"scopes": scopes, **({"sites": sites} if sites else {}), "expires_at": expires_at.isoformat()},
    )
    record(session, log, [created], by=by, now=now)
    return token


def revoke_token(session: Session, token_id: int, *, log: str = SYSTEM_LOG, by: Actor, now: datetime) -> None:
    """End a token at once: one's own, or as administrator anybody's."""
    row = session.execute(
        select(TOKEN.c.person_id, TOKEN.c.study_id, TOKEN.c.revoked_at, PERSON.c.username)
        .select_from(TOKEN.join(PERSON, PERSON.c.id == TOKEN.c.person_id))
        .where(TOKEN.c.id == token_id)
        .with_for_update(of=TOKEN)
    ).first()
    if row is None:
        raise NotFound("There is no such token.")
    subject = f"token/{token_id}"
    if row.person_id != by.person_id:
        require_manager(session, by, row.study_id, action="token.revoke", subject=f"/{subject}")
    if row.revoked_at is not None:
        raise Refused(
            "This token was revoked already. Nothing was changed.", action="token.revoke", subject=f"/{subject}"
        )
    # What a super token made ends with it.
    these = or_(TOKEN.c.id == token_id, TOKEN.c.parent_id == token_id)
    session.execute(update(TOKEN).where(these, TOKEN.c.revoked_at.is_(None)).values(revoked_at=now))
    record(session, log, [Change("token.revoked", subject=subject, item=f"person/{row.username}")], by=by, now=now)


def touch_token(session: Session, token: str, *, now: datetime) -> bool:
    """Write that a token is in use, at most every SEEN_EVERY. Whether it wrote."""
    written = session.execute(
        update(TOKEN)
        .where(
            TOKEN.c.token_hash == token_hash(token),
            TOKEN.c.revoked_at.is_(None),
            or_(TOKEN.c.last_used_at.is_(None), TOKEN.c.last_used_at <= now - SEEN_EVERY),
        )
        .values(last_used_at=now)
    )
    return bool(written.rowcount)  # type: ignore[attr-defined]
