"""What may I see of what is reserved for downtime? The statistician every slip and what became of it, nobody else.

Never an arm, a position or a code: those are in the file and on the paper alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select
from sqlmodel import Session

from app.foundation.database import table_of
from app.foundation.errors import NotFound
from app.people.access import Actor
from app.people.permissions import Permission
from app.randomisation.downtime.rules import Settled, slip_name
from app.randomisation.downtime.status import SlotState
from app.randomisation.opening import PACK, PARTICIPANT, RESERVED, SEQUENCE, STRATUM
from app.randomisation.reads import SITE, require_statistician
from app.studies.in_use import StudyInUse
from app.studies.models import StudyRecord

STUDY = table_of(StudyRecord)


@dataclass(frozen=True)
class PackCounts:
    """One pack: for whom, and how many of its slips are still open, used and void."""

    number: int
    site_code: str
    site_name: str
    timezone: str
    version: int
    salt: str
    made_at: datetime
    made_by: str
    closed_at: datetime | None
    closed_by: str | None
    reserved: int
    used: int
    void: int


@dataclass(frozen=True)
class Slip:
    """One slip and what became of its slot."""

    name: str
    number: int
    stratum: str
    state: str
    participant: str | None
    used_at: datetime | None
    used_by: str | None
    settled_at: datetime | None
    settled_by: str | None
    reason: str | None


def packs(session: Session, study: StudyInUse, *, by: Actor) -> tuple[PackCounts, ...]:
    """Every pack of the study, newest first; `NotFound` for all but the statistician."""
    require_statistician(study, by, Permission.SEQUENCE_DRAW)
    counts = [func.count().filter(RESERVED.c.state == state).label(state.value) for state in SlotState]
    rows = session.execute(
        select(
            PACK,
            SITE.c.code.label("site_code"),
            SITE.c.name.label("site_name"),
            SITE.c.timezone,
            SEQUENCE.c.version,
            *counts,
        )
        .join(SITE, SITE.c.id == PACK.c.site_id)
        .join(SEQUENCE, SEQUENCE.c.id == PACK.c.sequence_id)
        .join(RESERVED, RESERVED.c.pack_id == PACK.c.id)
        .where(PACK.c.study_id == study.id)
        .group_by(PACK.c.id, SITE.c.id, SEQUENCE.c.id)
        .order_by(PACK.c.number.desc())
    ).all()
    names = PackCounts.__dataclass_fields__
    return tuple(PackCounts(**{name: getattr(row, name) for name in names}) for row in rows)


def pack_of(session: Session, study: StudyInUse, number: int, *, by: Actor) -> PackCounts:
    """One pack; `NotFound` when there is none, and for all but the statistician."""
    for each in packs(session, study, by=by):
        if each.number == number:
            return each
    raise NotFound


def slips(session: Session, study: StudyInUse, number: int, *, by: Actor) -> tuple[Slip, ...]:
    """Every slip of one pack, in order; `NotFound` for all but the statistician."""
    require_statistician(study, by, Permission.SEQUENCE_DRAW)
    rows = session.execute(
        select(RESERVED, STRATUM.c.code.label("stratum"), PARTICIPANT.c.code.label("participant"))
        .join(PACK, PACK.c.id == RESERVED.c.pack_id)
        .join(STRATUM, STRATUM.c.id == RESERVED.c.stratum_id)
        .outerjoin(PARTICIPANT, PARTICIPANT.c.id == RESERVED.c.participant_id)
        .where(PACK.c.study_id == study.id, PACK.c.number == number)
        .order_by(RESERVED.c.number)
    ).all()
    if not rows:
        raise NotFound
    return tuple(
        Slip(
            slip_name(number, row.number),
            row.number,
            row.stratum,
            row.state,
            row.participant,
            row.used_at,
            row.used_by,
            row.settled_at,
            row.settled_by,
            row.reason,
        )
        for row in rows
    )


def open_slot(
    session: Session, study: StudyInUse, pack: int, number: int, *, site_id: int | None = None
) -> Row[Any] | None:
    """One slot of a pack that is not closed, for the actions that settle it; `site_id` narrows to its packs."""
    query = (
        select(
            RESERVED.c.id,
            RESERVED.c.pack_id,
            RESERVED.c.stratum_id,
            RESERVED.c.slot_id,
            PACK.c.made_at,
            STRATUM.c.code.label("stratum"),
        )
        .join(PACK, PACK.c.id == RESERVED.c.pack_id)
        .join(STRATUM, STRATUM.c.id == RESERVED.c.stratum_id)
        .where(
            PACK.c.study_id == study.id,
            PACK.c.number == pack,
            PACK.c.closed_at.is_(None),
            RESERVED.c.number == number,
        )
    )
    return session.execute(query if site_id is None else query.where(PACK.c.site_id == site_id)).first()


def order_of(session: Session, pack_id: int, stratum_id: int) -> Sequence[Settled]:
    """How the slips of one stratum stand, in their order; read after the stratum is locked."""
    rows = session.execute(
        select(RESERVED.c.number, RESERVED.c.state, RESERVED.c.used_at)
        .where(RESERVED.c.pack_id == pack_id, RESERVED.c.stratum_id == stratum_id)
        .order_by(RESERVED.c.number)
    )
    return [Settled(row.number, row.state, row.used_at) for row in rows]


def open_packs(session: Session, *, sequence_id: int | None = None, site_id: int | None = None) -> list[int]:
    """The numbers of the packs of a list or a site that are not closed."""
    query = select(PACK.c.number).where(PACK.c.closed_at.is_(None)).order_by(PACK.c.number)
    if sequence_id is not None:
        # Not by the pack's own list: with further slots the strata of a site may stand at several.
        of_list = RESERVED.join(STRATUM, STRATUM.c.id == RESERVED.c.stratum_id)
        theirs = select(RESERVED.c.id).select_from(of_list).where(STRATUM.c.sequence_id == sequence_id)
        query = query.where(theirs.where(RESERVED.c.pack_id == PACK.c.id).exists())
    if site_id is not None:
        query = query.where(PACK.c.site_id == site_id)
    return list(session.execute(query).scalars())
