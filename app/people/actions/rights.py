"""Giving and taking back roles, and opening sites."""

from datetime import datetime
from typing import Any

from sqlalchemy import Table, exists, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from app.audit.actions import Change, record
from app.audit.models import SYSTEM_LOG
from app.foundation.errors import FieldProblem, Invalid, NotAllowed, NotFound, Refused
from app.people.access import Actor, require
from app.people.permissions import Permission, Role, why_documented
from app.people.reads import MEMBERSHIP, PERSON, SITE, SiteRow
from app.people.rules import why_not_role, why_not_site_code, why_not_timezone

LONGEST_REASON = 500
INSTALLATION_ADMINISTRATOR = (
    MEMBERSHIP.c.study_id.is_(None),
    MEMBERSHIP.c.role == Role.ADMINISTRATOR.value,
    MEMBERSHIP.c.revoked_at.is_(None),
)


class ReasonNeeded(Refused):
    """Two roles that one person holds only for a reason that somebody gives."""


def require_manager(session: Session, by: Actor, study_id: int | None, *, action: str, subject: str = "") -> None:
    """Raise NotAllowed unless the actor may manage people in this study, or (None) on the whole installation.

    Somebody who administers one study only has no say in another, nor over a person's account.
    """
    require(by, Permission.PEOPLE_MANAGE, action=action, subject=subject)
    if by.study_id is None or by.study_id == study_id:
        return
    everywhere = exists().where(MEMBERSHIP.c.person_id == by.person_id, *INSTALLATION_ADMINISTRATOR)
    if not session.execute(select(everywhere)).scalar():
        raise NotAllowed(
            "This needs an administrator of the whole installation. Ask one to do it.", action=action, subject=subject
        )


def grant(
    session: Session,
    *,
    person_id: int,
    role: Role,
    study_id: int | None,
    site_id: int | None = None,
    log: str = SYSTEM_LOG,
    why: str | None = None,
    by: Actor,
    now: datetime,
) -> int:
    """Give somebody a role in a study, at one site or all; the number of the membership. It holds at once.

    `log` is the study's code. `study_id` None makes an administrator of the whole installation. `why` is needed where
    the table keeps duties apart and does not refuse it: ReasonNeeded without.
    """
    why = (why or "").strip() or None
    subject = f"/person/{person_id}"
    require_manager(session, by, study_id, action="role.grant", subject=subject)
    # Held, so that two administrators at once cannot give a blinded and an unblinded role past each other.
    person = session.execute(
        select(PERSON.c.username, PERSON.c.is_active).where(PERSON.c.id == person_id).with_for_update(key_share=True)
    ).first()
    if person is None:
        raise NotFound("There is no such person.")
    subject = f"/person/{person.username}"
    if not person.is_active:
        raise Refused(
            "This person is deactivated. Activate them first, or choose somebody else.",
            action="role.grant",
            subject=subject,
        )
    site_code = _site_code(session, site_id, study_id, subject)
    rows = session.execute(
        select(MEMBERSHIP.c.study_id, MEMBERSHIP.c.site_id, MEMBERSHIP.c.role, MEMBERSHIP.c.revoked_at).where(
            MEMBERSHIP.c.person_id == person_id
        )
    ).all()
    # An administrator of the installation is one in every study, so that role is weighed against each of them.
    studies = {study_id} if study_id is not None else {None, *(row.study_id for row in rows)}
    for study in studies:
        there = [row for row in rows if row.study_id in (study, None)]
        reason = why_not_role(
            role,
            in_study=study_id is not None,
            at_site=site_id is not None,
            held=frozenset(Role(row.role) for row in there if row.revoked_at is None),
            ended=frozenset(Role(row.role) for row in there if row.revoked_at is not None),
        )
        if reason is not None:
            raise Refused(reason, action="role.grant", subject=subject)
        beside = why_documented(frozenset(Role(row.role) for row in there if row.revoked_at is None), role)
        if beside is not None and why is None:
            words = f"{beside} Give one of the roles to somebody else, or say why this person holds both."
            raise ReasonNeeded(words, action="role.grant", subject=subject)
        if why is not None and (len(why) > LONGEST_REASON or not why.isprintable()):
            words = f"Say why in one line of at most {LONGEST_REASON} characters."
            raise ReasonNeeded(words, action="role.grant", subject=subject)
    same = (study_id, site_id, role.value)
    if any(row.revoked_at is None and (row.study_id, row.site_id, row.role) == same for row in rows):
        raise Refused("This person has this role already. Nothing was changed.", action="role.grant", subject=subject)
    membership_id = session.execute(
        insert(MEMBERSHIP)
        .values(
            person_id=person_id,
            study_id=study_id,
            site_id=site_id,
            role=role.value,
            granted_at=now,
            granted_by=by.username,
        )
        .returning(MEMBERSHIP.c.id)
    ).scalar_one()
    change = Change("role.granted", subject=subject[1:], item=role.value, new=_right(role.value, study_id, site_code))
    record(session, log, [change], by=by, now=now, why=why)
    return int(membership_id)


def revoke(
    session: Session,
    membership_id: int,
    *,
    log: str = SYSTEM_LOG,
    by: Actor,
    now: datetime,
    why: str | None = None,
) -> None:
    """Take a role back; from the next request on the person does not hold it. The row stays (FDA-8)."""
    row = _memberships(session, MEMBERSHIP.c.id == membership_id)
    if not row:
        raise NotFound("There is no such role. It may have been taken back already.")
    found = row[0]
    subject = f"/person/{found.username}"
    require_manager(session, by, found.study_id, action="role.revoke", subject=subject)
    changes = revoked(session, row, by=by, now=now, action="role.revoke")
    record(session, log, changes, by=by, now=now, why=why)


def active_memberships(session: Session, person_id: int) -> list[Any]:
    """The roles somebody holds, held until the transaction ends."""
    return _memberships(session, MEMBERSHIP.c.person_id == person_id)


def memberships_held(session: Session, study_id: int) -> list[Any]:
    """The roles that are held in a study, held until the transaction ends."""
    return _memberships(session, MEMBERSHIP.c.study_id == study_id)


def revoked(session: Session, rows: list[Any], *, by: Actor, now: datetime, action: str) -> list[Change]:
    """Take these roles back; what to write down. Permission is the caller's to ask; a last administrator stays."""
    for found in rows:
        if found.study_id is None and found.role == Role.ADMINISTRATOR.value:
            _keep_an_administrator(session, found, action)
    session.execute(
        update(MEMBERSHIP)
        .where(MEMBERSHIP.c.id.in_([found.id for found in rows]))
        .values(revoked_at=now, revoked_by=by.username)
    )
    return [
        Change(
            "role.revoked",
            subject=f"person/{found.username}",
            item=found.role,
            old=_right(found.role, found.study_id, found.site_code),
        )
        for found in rows
    ]


def _memberships(session: Session, *where: Any) -> list[Any]:
    site_code = select(SITE.c.code).where(SITE.c.id == MEMBERSHIP.c.site_id).scalar_subquery()
    query = (
        select(
            MEMBERSHIP.c.id, MEMBERSHIP.c.study_id, MEMBERSHIP.c.role, PERSON.c.username, site_code.label("site_code")
        )
        .select_from(MEMBERSHIP.join(PERSON, PERSON.c.id == MEMBERSHIP.c.person_id))
        .where(MEMBERSHIP.c.revoked_at.is_(None), *where)
        .order_by(MEMBERSHIP.c.id)
        .with_for_update(of=MEMBERSHIP)
    )
    return list(session.execute(query).all())


def _keep_an_administrator(session: Session, leaving: Any, action: str) -> None:
    # All of them are held, so that two cannot leave at the same moment.
    staying = session.execute(
        select(MEMBERSHIP.c.id, PERSON.c.is_active)
        .select_from(MEMBERSHIP.join(PERSON, PERSON.c.id == MEMBERSHIP.c.person_id))
        .where(*INSTALLATION_ADMINISTRATOR)
        .order_by(MEMBERSHIP.c.id)
        .with_for_update(of=MEMBERSHIP)
    ).all()
    if not any(row.is_active and row.id != leaving.id for row in staying):
        raise Refused(
            "This is the last administrator. Make somebody else an administrator first.",
            action=action,
            subject=f"/person/{leaving.username}",
        )


def _site_code(session: Session, site_id: int | None, study_id: int | None, subject: str) -> str | None:
    if site_id is None:
        return None
    site = session.execute(select(SITE.c.code, SITE.c.study_id).where(SITE.c.id == site_id)).first()
    if site is None or site.study_id != study_id:
        raise Refused("This site is not in this study. Choose one from the list.", action="role.grant", subject=subject)
    return str(site.code)


def _right(role: str, study_id: int | None, site_code: str | None) -> dict[str, Any]:
    return {"role": role, "study": study_id, "site": site_code}


def add_site(
    session: Session,
    study_id: int,
    *,
    code: str,
    name: str,
    timezone: str,
    log: str = SYSTEM_LOG,
    by: Actor,
    now: datetime,
) -> SiteRow:
    """Open a site of a study. Its time zone decides what today is there."""
    require_manager(session, by, study_id, action="site.add", subject=f"/site/{code[:32]}")
    name = name.strip()
    reasons = {
        "code": why_not_site_code(code),
        "name": None if 0 < len(name) <= 200 else "Type the name of the site, at most 200 characters.",
        "timezone": why_not_timezone(timezone),
    }
    problems = [FieldProblem(field, "format", reason) for field, reason in reasons.items() if reason]
    if problems:
        raise Invalid(problems)
    values = {"study_id": study_id, "code": code, "name": name, "timezone": timezone, "is_open": True}
    site_id = insert_once(session, SITE, values)
    if site_id is None:
        raise Invalid([FieldProblem("code", "unique", "This study has a site with this code. Choose another code.")])
    opened = Change("site.added", subject=f"site/{code}", new={"name": name, "timezone": timezone})
    record(session, log, [opened], by=by, now=now)
    return SiteRow(id=site_id, study_id=study_id, code=code, name=name, timezone=timezone, is_open=True)


def insert_once(session: Session, table: Table, values: dict[str, Any]) -> int | None:
    """The number of the new row; None when one like it is there already, also when it came a moment ago."""
    dialect_insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = dialect_insert(table).values(**values).on_conflict_do_nothing().returning(table.c.id)
    return session.execute(statement).scalar()
