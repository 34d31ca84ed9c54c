"""Making and revoking API tokens."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from sqlalchemy import or_, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.audit.models import SYSTEM_LOG
from app.foundation.crypto.secrets import new_hexadecimal_token, new_token, token_hash
from app.foundation.errors import FieldProblem, Invalid, NotAllowed, NotFound, Refused
from app.people.access import Actor, may, require, token_grants
from app.people.actions.rights import require_manager
from app.people.models import ApiToken
from app.people.permissions import Permission
from app.people.reads import PERSON, TOKEN, TOKEN_PREFIX, person_by_id, sites_of
from app.people.rules import SECOND_FACTOR_NEEDED, SEEN_EVERY, why_not_scopes, why_not_until


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
    if person_id != by.person_id or study_id != by.study_id:
        raise NotAllowed(
            "A token acts as its owner in one study. Create it in that study, for yourself.",
            action="token.create",
            subject="/token",
        )
    if by.via == "api":
        raise NotAllowed("A token cannot make tokens. Sign in and create it.", action="token.create", subject="/token")
    owner = person_by_id(session, person_id)
    if second_factor_needed and not (owner is not None and owner.has_second_factor):
        raise NotAllowed(SECOND_FACTOR_NEEDED, action="token.create", subject="/token")
    wanted = sorted(set(scopes))
    name = name.strip()
    codes = sorted(set(sites))
    places = {site.code: site.id for site in sites_of(session, study_id)} if codes else {}
    chosen = frozenset(places[code] for code in codes if code in places)
    limited = replace(by, grants=token_grants(by.grants, chosen if codes else None))
    held = [permission for permission in Permission if may(limited, permission)]
    no_site = codes and (len(chosen) < len(codes) or chosen - {grant.site_id for grant in limited.grants})
    reasons = {
        "name": None
        if 0 < len(name) <= 100 and name.isprintable()
        else "Name the program or device that will use it, in at most 100 characters.",
        "sites": "Choose among the sites at which you work." if no_site else None,
        "scopes": None if no_site else why_not_scopes(wanted, held, at_sites=bool(codes)),
        "expires_at": why_not_until(expires_at, now=now),
    }
    problems = [FieldProblem(field, "format", reason) for field, reason in reasons.items() if reason]
    if problems:
        raise Invalid(problems)
    text = new_hexadecimal_token() if hexadecimal else TOKEN_PREFIX + new_token()
    token = ApiToken(
        token_hash=token_hash(text),
        person_id=person_id,
        study_id=study_id,
        name=name,
        scopes=" ".join(wanted),
        sites=" ".join(map(str, sorted(chosen))),
        created_at=now,
        expires_at=expires_at,
    )
    session.add(token)
    session.flush()
    created = Change(
        "token.created",
        subject=f"token/{token.id}",
        item=f"person/{by.username}",
        new={"scopes": wanted, **({"sites": codes} if codes else {}), "expires_at": expires_at.isoformat()},
    )
    record(session, log, [created], by=by, now=now)
    return token, text


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
    session.execute(update(TOKEN).where(TOKEN.c.id == token_id).values(revoked_at=now))
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
