"""What does the statement of concealment say, and may I read it? From the log, the roles and the certificates."""

import hashlib
import json
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select
from sqlmodel import Session

from app.audit.actions import ENTRY, HEAD
from app.foundation.database import keys_of, written_out
from app.foundation.errors import NotFound, Refused
from app.people.access import Actor, may, require_whole_log
from app.people.permissions import Permission, holders
from app.people.reads import MEMBERSHIP, PERSON
from app.randomisation.concealment.rules import ACCESS, ENROLLING, MOST_TOLD, Act, Listed, Opening, Right, statement
from app.randomisation.models import SequenceStatus
from app.randomisation.reads import SEQUENCE
from app.studies.in_use import StudyInUse

DRAWING = holders(Permission.SEQUENCE_DRAW) | holders(Permission.SEQUENCE_SEAL)
ENROLS = holders(Permission.PARTICIPANT_SCREEN) | holders(Permission.PARTICIPANT_RANDOMISE)
MADE = ("drawn_by", "drawn_at", "sealed_by", "sealed_at")
RUNNING = (SequenceStatus.DRAWN, SequenceStatus.SEALED)


def concealment(session: Session, study: StudyInUse, *, by: Actor, now: datetime) -> dict[str, Any]:
    """The statement of concealment, in six statements: for who draws; once every list is closed, for who reviews the
    log of the whole study as well.

    It names no arm and no number of slots. NotFound where nobody is allocated, Refused before the end for who reviews.
    """
    if not study.definition.is_allocated:
        raise NotFound
    columns = [SEQUENCE.c[name] for name in ("version", "status", "certificate", *MADE)]
    lists = session.execute(select(*columns).where(SEQUENCE.c.study_id == study.id).order_by(SEQUENCE.c.version)).all()
    _require(lists, by)
    head = session.execute(select(HEAD.c.size, HEAD.c.root).where(HEAD.c.log == study.code)).first()
    sealed = {
        (row.subject, json.loads(row.new or "{}").get("certificate")): row.position
        for row in session.execute(
            select(ENTRY.c.subject, ENTRY.c.new, ENTRY.c.position).where(
                ENTRY.c.log == study.code, ENTRY.c.action == written_out("sequence.sealed")
            )
        )
    }
    definition = study.definition
    return statement(
        study={"study": study.code, "title": definition.title, "protocol_version": definition.version},
        log={"name": study.code, "size": head.size if head else 0, "root": head.root.hex() if head else ""},
        lists=[_listed(row, sealed) for row in lists],
        acts=_acts(session, study),
        rights=_rights(session, study),
        drawing=frozenset(role.value for role in DRAWING),
        openings=_early(session, study),
        key=keys_of(session).fingerprint,
        now=now,
    )


def _require(lists: Any, by: Actor) -> None:
    if may(by, Permission.SEQUENCE_DRAW):
        return
    require_whole_log(by, action="concealment.read")
    status = {row.status for row in lists}
    if SequenceStatus.CLOSED not in status or status & set(RUNNING):
        raise Refused(
            "The statistician reads this while people are randomised. You do once every list is closed.",
            action="concealment.read",
        )


def _listed(row: Any, sealed: dict[tuple[str, str], int]) -> Listed:
    # The text of a certificate is its one form, so that its hash is that of the text.
    fingerprint = hashlib.sha256(row.certificate.encode()).hexdigest() if row.certificate else None
    return Listed(
        version=row.version,
        status=row.status,
        drawn_by=row.drawn_by,
        drawn_at=row.drawn_at,
        sealed_by=row.sealed_by,
        sealed_at=row.sealed_at,
        certificate=json.loads(row.certificate) if row.certificate else None,
        fingerprint=fingerprint,
        in_log=sealed.get((f"sequence/{row.version}", fingerprint or "")),
    )


def _acts(session: Session, study: StudyInUse) -> list[Act]:
    """What each person did with lists, one by one; how often they enrolled, and opened envelopes."""
    grouped = (
        select(
            ENTRY.c.username,
            ENTRY.c.action,
            func.count().label("number"),
            func.min(ENTRY.c.position).label("first"),
            func.max(ENTRY.c.position).label("last"),
            func.min(ENTRY.c.at).label("first_at"),
            func.max(ENTRY.c.at).label("last_at"),
            func.min(ENTRY.c.subject).label("subject"),
        )
        .where(
            ENTRY.c.log == study.code, ENTRY.c.action.in_(map(written_out, (*ACCESS, *ENROLLING, "envelope.opened")))
        )
        .group_by(ENTRY.c.username, ENTRY.c.action)
        .order_by(func.min(ENTRY.c.position))
    )
    return [
        Act(
            who=row.username,
            action=row.action,
            number=row.number,
            first=row.first,
            last=row.last,
            first_at=row.first_at,
            last_at=row.last_at,
            subject=row.subject if row.action in ACCESS and row.number == 1 else "",
        )
        for row in session.execute(grouped)
    ]


def _rights(session: Session, study: StudyInUse) -> list[Right]:
    """Every role that ever gave access to lists or enrolled, by whom it was held and when; ended ones too."""
    roles = sorted(role.value for role in DRAWING | ENROLS)
    query = (
        select(PERSON.c.username, MEMBERSHIP.c.role, MEMBERSHIP.c.granted_at, MEMBERSHIP.c.revoked_at)
        .join(PERSON, PERSON.c.id == MEMBERSHIP.c.person_id)
        .where(MEMBERSHIP.c.study_id == study.id, MEMBERSHIP.c.role.in_(roles))
        .order_by(PERSON.c.username, MEMBERSHIP.c.id)
    )
    return [Right(row.username, row.role, row.granted_at, row.revoked_at) for row in session.execute(query)]


def _early(session: Session, study: StudyInUse) -> list[Opening]:
    """Envelopes of participants, or their groups of the first stage, that were opened before these had them.

    Slots that are reserved for downtime are nobody's when the pack is made; that somebody made it is an act.
    """
    when = ENTRY.alias("allocated")
    had = (
        select(when.c.participant, when.c.action, func.min(when.c.position).label("position"))
        .where(when.c.log == study.code, when.c.action.in_(("participant.randomised", "participant.staged")))
        .group_by(when.c.participant, when.c.action)
        .subquery()
    )
    of_stage = (ENTRY.c.subject == "stage") & (had.c.action == "participant.staged")
    of_arm = (ENTRY.c.subject != "stage") & (had.c.action == "participant.randomised")
    query = (
        select(ENTRY.c.participant, ENTRY.c.username, ENTRY.c.position, ENTRY.c.at, had.c.position.label("allocated"))
        .select_from(ENTRY.outerjoin(had, (had.c.participant == ENTRY.c.participant) & or_(of_stage, of_arm)))
        .where(
            ENTRY.c.log == study.code,
            ENTRY.c.action == written_out("envelope.opened"),
            ENTRY.c.participant != "",
            or_(had.c.position.is_(None), ENTRY.c.position < had.c.position),
        )
        .order_by(ENTRY.c.position)
        .limit(MOST_TOLD)
    )
    return [
        Opening(row.participant, row.username, row.position, row.at, row.allocated) for row in session.execute(query)
    ]
