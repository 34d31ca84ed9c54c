"""What does the statement of concealment say, and may I read it? From the log, the roles and the certificates."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlmodel import Session

from app.audit.actions import ENTRY, HEAD
from app.foundation.database import keys_of, plan_by_value, written_out
from app.foundation.errors import NotFound, Refused
from app.people.access import Actor, may, require_whole_log
from app.people.permissions import Permission, holders
from app.people.reads import MEMBERSHIP, PERSON
from app.randomisation.concealment.rules import (
    ACCESS,
    ENROLLING,
    MOST_TOLD,
    Act,
    Listed,
    Opening,
    Right,
    statement,
    together,
)
from app.randomisation.models import SequenceStatus
from app.randomisation.reads import SEQUENCE
from app.studies.in_use import StudyInUse

DRAWING = holders(Permission.SEQUENCE_DRAW) | holders(Permission.SEQUENCE_SEAL)
ENROLS = holders(Permission.PARTICIPANT_SCREEN) | holders(Permission.PARTICIPANT_RANDOMISE)
MADE = ("drawn_by", "drawn_at", "sealed_by", "sealed_at")
RUNNING = (SequenceStatus.DRAWN, SequenceStatus.SEALED)


@dataclass(frozen=True)
class SoFar:
    """What a log says before the place `size`, whose last entry there has this leaf; of its envelopes, none that was
    opened before the place `fair` came too early.
    """

    size: int = 0
    leaf: bytes = b""
    acts: tuple[Act, ...] = ()
    fair: int = 0


class KeptActs:
    """How far each log was read in this process, so that the next statement reads only what came since.

    What an entry says never changes and none goes, so that nothing of this can become wrong; a log that is another one
    at that place (a backup was put back) is read anew from its beginning.
    """

    def __init__(self) -> None:
        self._logs: dict[str, SoFar] = {}

    def of(self, log: str) -> SoFar:
        """How far a log was read; from its beginning on, if it was not."""
        return self._logs.get(log, SoFar())

    def keep(self, log: str, so_far: SoFar) -> None:
        """A log was read further."""
        self._logs[log] = so_far


def concealment(
    session: Session, study: StudyInUse, *, by: Actor, now: datetime, kept: KeptActs | None = None
) -> dict[str, Any]:
    """The statement of concealment, in seven statements: for who draws; once every list is closed, for who reviews the
    log of the whole study as well.

    It names no arm and no number of slots. NotFound where nobody is allocated, Refused before the end for who reviews.
    The log is read from where it was read the last time, if that was `kept`.
    """
    if not study.definition.is_allocated:
        raise NotFound
    columns = [SEQUENCE.c[name] for name in ("version", "status", "certificate", *MADE)]
    lists = session.execute(select(*columns).where(SEQUENCE.c.study_id == study.id).order_by(SEQUENCE.c.version)).all()
    _require(lists, by)
    size, root, so_far, leaf = _head(session, study.code, kept.of(study.code) if kept is not None else SoFar())
    plan_by_value(session)  # of the log only the end may be asked for
    sealed = {
        (row.subject, json.loads(row.new or "{}").get("certificate")): row.position
        for row in session.execute(
            select(ENTRY.c.subject, ENTRY.c.new, ENTRY.c.position).where(
                ENTRY.c.log == study.code, ENTRY.c.action == written_out("sequence.sealed")
            )
        )
    }
    acts = together(so_far.acts, _acts(session, study, since=so_far.size))
    openings = _early(session, study, since=so_far.fair)
    if kept is not None:
        kept.keep(study.code, SoFar(size, leaf, tuple(acts), openings[0].position if openings else size))
    definition = study.definition
    return statement(
        study={"study": study.code, "title": definition.title, "protocol_version": definition.version},
        log={"name": study.code, "size": size, "root": root.hex()},
        lists=[_listed(row, sealed) for row in lists],
        acts=acts,
        rights=_rights(session, study),
        drawing=frozenset(role.value for role in DRAWING),
        openings=openings,
        key=keys_of(session).fingerprint,
        now=now,
    )


def _head(session: Session, log: str, so_far: SoFar) -> tuple[int, bytes, SoFar, bytes]:
    """Size, root and last leaf of a log; and how far it was read, if it is the same up to there."""

    def leaf_at(position: ColumnElement[int] | int) -> ColumnElement[bytes]:
        return select(ENTRY.c.leaf_hash).where(ENTRY.c.log == log, ENTRY.c.position == position).scalar_subquery()

    columns = (
        HEAD.c.size,
        HEAD.c.root,
        leaf_at(HEAD.c.size - 1).label("last"),
        leaf_at(so_far.size - 1).label("known"),
    )
    head = session.execute(select(*columns).where(HEAD.c.log == log)).first()
    if head is None:
        return 0, b"", SoFar(), b""
    is_same = head.known is not None and bytes(head.known) == so_far.leaf and head.size >= so_far.size
    return head.size, head.root, so_far if is_same else SoFar(), bytes(head.last or b"")


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


def _acts(session: Session, study: StudyInUse, *, since: int) -> list[Act]:
    """What each person did with lists, one by one; how often they enrolled, and opened envelopes; from here on."""
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
            ENTRY.c.log == study.code,
            ENTRY.c.action.in_(map(written_out, (*ACCESS, *ENROLLING, "envelope.opened"))),
            ENTRY.c.position >= since,
        )
        .group_by(ENTRY.c.action, ENTRY.c.username)  # the other way round SQLite goes through the log by name
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


def _early(session: Session, study: StudyInUse, *, since: int) -> list[Opening]:
    """Envelopes of participants, or their groups of the first stage, that were opened from this place of the log on and
    before these had them.

    Slots that are reserved for downtime are nobody's when the pack is made; that somebody made it is an act.
    """
    when = ENTRY.alias("allocated")
    of_stage = and_(ENTRY.c.subject == "stage", when.c.action == "participant.staged")
    of_arm = and_(ENTRY.c.subject != "stage", when.c.action == "participant.randomised")
    theirs = and_(when.c.log == study.code, when.c.participant == ENTRY.c.participant, or_(of_stage, of_arm))
    had = select(func.min(when.c.position)).where(theirs).correlate(ENTRY).scalar_subquery()
    before = select(when.c.position).where(theirs, when.c.position < ENTRY.c.position).correlate(ENTRY).exists()
    query = (
        select(ENTRY.c.participant, ENTRY.c.username, ENTRY.c.position, ENTRY.c.at, had.label("allocated"))
        .where(
            ENTRY.c.log == study.code,
            ENTRY.c.action == written_out("envelope.opened"),
            ENTRY.c.position >= since,
            ENTRY.c.participant != "",
            ~before,
        )
        .order_by(ENTRY.c.position)
        .limit(MOST_TOLD)
    )
    return [
        Opening(row.participant, row.username, row.position, row.at, row.allocated) for row in session.execute(query)
    ]
