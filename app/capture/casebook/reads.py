"""What may I see of a casebook? Who signed it, and which entries it is made of now."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Integer, and_, bindparam, case, exists, false, func, not_, or_, select
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.capture.casebook.rules import Line, Signature, screening_line
from app.capture.models import CasebookSignature, Entry
from app.foundation import paging
from app.foundation.database import table_of
from app.participants.models import Participant
from app.participants.reads import SCREENING, at_each_site, at_their_sites
from app.people.access import Actor, require
from app.people.models import Site
from app.people.permissions import Permission
from app.schedule.models import ParticipantVisit
from app.schedule.status import VisitStatus
from app.studies.definition import Study, Visit
from app.studies.in_use import StudyInUse

CASEBOOK = table_of(CasebookSignature)
ENTRY = table_of(Entry)
PARTICIPANT = table_of(Participant)
SITE = table_of(Site)
CORRECTING = ("entry.corrected",)
CHANGING = (
    *("care.changed", "contact.changed", "deviation.acted"),
    *("visit.corrected", "visit.marked_in_error", "visit.moved", "visit.reopened", "visit.restored"),
)
VISIT = table_of(ParticipantVisit)

_CORRECTED = (
    select(SCREENING.c.version, SCREENING.c.answers, SCREENING.c.eligible)
    .where(SCREENING.c.participant_id == bindparam("of", type_=Integer), SCREENING.c.corrected_at.is_not(None))
    .order_by(SCREENING.c.id.desc())
    .limit(1)
)
_SIGNATURES = (
    select(CASEBOOK).where(CASEBOOK.c.participant_id == bindparam("of", type_=Integer)).order_by(CASEBOOK.c.id)
)


def corrected_screening(session: Session, participant_id: int) -> Line | None:
    """The line of the pre-screen in a casebook's manifest; None while it was not corrected."""
    row = session.execute(_CORRECTED, {"of": participant_id}).first()
    return screening_line(row.version, row.answers, row.eligible) if row else None


def signatures_of(session: Session, participant_id: int) -> tuple[Signature, ...]:
    """Every signature of a participant's casebook, the oldest first; only the last one may still stand."""
    return tuple(_signature(row) for row in session.execute(_SIGNATURES, {"of": participant_id}))


def standing_signature(session: Session, participant_id: int) -> Signature | None:
    """The signature that no change has superseded, or None."""
    return next((each for each in signatures_of(session, participant_id) if each.superseded_at is None), None)


def _signature(row: Any) -> Signature:
    return Signature(
        number=row.id,
        manifest=tuple((visit, instrument, version, digest) for visit, instrument, version, digest in _lines(row)),
        digest=row.digest,
        meaning=row.meaning,
        signed_at=row.signed_at,
        signed_by=row.signed_by,
        signed_name=row.signed_name,
        superseded_at=row.superseded_at,
        superseded_by=row.superseded_by,
        superseded_why=row.superseded_why,
    )


def _lines(row: Any) -> list[list[Any]]:
    lines: list[list[Any]] = json.loads(row.manifest)
    return lines


@dataclass(frozen=True)
class CasebookDue:
    """A casebook whose signature the study asks for, and the visit of the latest milestone that was reached."""

    participant: str
    site: str
    site_id: int
    visit: str


def milestone_reached(session: Session, study: StudyInUse, participant: Participant) -> str | None:
    """What the visit is called at which the study asks for a signature that this casebook lacks, or None.

    No statement where the study names no milestone.
    """
    own = study.at(participant.site_id).definition
    if not any(visit.casebook_signature for visit in own.visits):
        return None
    columns = [_is_due(own, visit).label(visit.code) for visit in own.visits if visit.casebook_signature]
    found = session.execute(select(*columns).where(PARTICIPANT.c.id == participant.id)).mappings().one()
    return next((visit.label for visit in reversed(own.visits) if found.get(visit.code)), None)


def casebooks_due(
    session: Session, study: StudyInUse, *, by: Actor, cursor: str | None = None, limit: int | None = None
) -> paging.Page[CasebookDue]:
    """One page, by code, of the casebooks that this person is asked to sign, because a milestone of the study was
    reached (ICH E6(R3) 3.16.1(o)); with the first page, how many there are.

    A milestone is a visit that says so. It is reached once the visit is held, and answered by a signature of the whole
    casebook that is later than everything entered up to that visit.
    """
    require(by, Permission.CASEBOOK_SIGN)
    size = paging.page_size(limit)
    (after,), backwards = paging.decode(cursor, 1, str) if cursor else ([None], False)
    milestones = {visit.code for each in study.definitions for visit in each.visits if visit.casebook_signature}
    if not milestones:
        return paging.Page([], total=0)

    def due(own: Study) -> ColumnElement[bool]:
        return or_(false(), *(_is_due(own, visit) for visit in own.visits if visit.casebook_signature))

    latest = (
        select(VISIT.c.code)
        .where(
            VISIT.c.participant_id == PARTICIPANT.c.id,
            VISIT.c.code.in_(milestones),
            VISIT.c.status == VisitStatus.HELD,
        )
        .order_by(VISIT.c.order.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(
            PARTICIPANT.c.code,
            PARTICIPANT.c.site_id,
            SITE.c.code.label("site"),
            latest.label("visit"),
            func.count().over().label("total"),
        )
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .where(
            PARTICIPANT.c.study_id == study.id,
            at_their_sites(by, Permission.CASEBOOK_SIGN),
            at_each_site(study, due),
        )
    )
    if after is not None:
        query = query.where(PARTICIPANT.c.code < after if backwards else PARTICIPANT.c.code > after)
    order = PARTICIPANT.c.code.desc() if backwards else PARTICIPANT.c.code
    rows = session.execute(query.order_by(order).limit(size + 1)).all()
    total = None if cursor else rows[0].total if rows else 0
    page = paging.page_of(rows, size, lambda row: (row.code,), cursor=cursor, backwards=backwards, total=total)
    return page.made(lambda row: CasebookDue(row.code, row.site, row.site_id, row.visit))


def _is_due(own: Study, milestone: Visit) -> ColumnElement[bool]:
    """Whether a participant's milestone was reached, and no signature is later than what changed up to it."""
    codes = [visit.code for visit in own.visits]
    covered = codes[: codes.index(milestone.code) + 1]
    theirs = (ENTRY.c.participant_id == PARTICIPANT.c.id, ENTRY.c.visit.in_(covered))
    # What is marked as entered in error changes what was signed as much as what is saved does; so does, at every
    # milestone, a correction of the pre-screen.
    changed = case((ENTRY.c.in_error_at > ENTRY.c.saved_at, ENTRY.c.in_error_at), else_=ENTRY.c.saved_at)
    last = select(func.max(changed, type_=ENTRY.c.saved_at.type)).where(*theirs).scalar_subquery()
    return and_(
        exists().where(
            VISIT.c.participant_id == PARTICIPANT.c.id,
            VISIT.c.code == milestone.code,
            VISIT.c.status == VisitStatus.HELD,
        ),
        exists().where(*theirs, ENTRY.c.in_error_at.is_(None)),
        not_(
            exists().where(
                CASEBOOK.c.participant_id == PARTICIPANT.c.id,
                CASEBOOK.c.signed_at >= last,
                not_(
                    exists().where(
                        SCREENING.c.participant_id == PARTICIPANT.c.id,
                        SCREENING.c.corrected_at > CASEBOOK.c.signed_at,
                    )
                ),
            )
        ),
    )


def log_of(
    session: Session,
    study: StudyInUse,
    participant: str,
    *,
    kinds: Collection[str],
    but: Collection[str] = (),
    limit: int,
) -> tuple[list[Mapping[str, Any]], bool]:
    """What the log says of a participant in these kinds of actions (their beginnings), `but` for some; the oldest
    first, and whether there is more: the newest `limit` lines.

    Of nothing else: what was delivered, and who somebody is, stands in the log as well (ICH E6(R3) 4.1.3).
    """
    wanted = [AUDIT_ENTRY.c.action.startswith(kind, autoescape=True) for kind in kinds]
    columns = ("at", "username", "role", "action", "subject", "item", "old", "new", "why")
    query = (
        select(*(AUDIT_ENTRY.c[name] for name in columns))
        .where(
            AUDIT_ENTRY.c.log == study.code,
            AUDIT_ENTRY.c.participant == participant,
            or_(false(), *wanted),
            AUDIT_ENTRY.c.action.not_in(sorted(but)),
            AUDIT_ENTRY.c.action.not_like("%\\_refused", escape="\\"),
        )
        .order_by(AUDIT_ENTRY.c.position.desc())
        .limit(limit + 1)
    )
    rows: list[Mapping[str, Any]] = [dict(row) for row in session.execute(query).mappings()]
    return rows[:limit][::-1], len(rows) > limit


def changed_of(session: Session, study: StudyInUse, participant: str) -> frozenset[tuple[str, str]]:
    """What of a participant is not what was written first, as (subject of the log, item).

    However long the log is: one line for each thing. What is added to something that was blank is a change only where
    an answer is corrected.
    """
    query = (
        select(AUDIT_ENTRY.c.subject, AUDIT_ENTRY.c.item)
        .where(
            AUDIT_ENTRY.c.log == study.code,
            AUDIT_ENTRY.c.participant == participant,
            or_(
                AUDIT_ENTRY.c.action.in_(CORRECTING),
                and_(AUDIT_ENTRY.c.action.in_(CHANGING), AUDIT_ENTRY.c.old.is_not(None)),
            ),
        )
        .distinct()
    )
    return frozenset((row.subject, row.item) for row in session.execute(query))
