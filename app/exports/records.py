"""What is recorded of each participant, one at a time: the pre-screen and every entry, as they are stored."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import and_, func, select
from sqlmodel import Session

from app.capture.double.reads import is_withheld
from app.capture.groups import cells_of
from app.capture.in_use import in_use
from app.capture.models import Entry
from app.foundation.database import streamed, table_of
from app.participants.models import Participant, Screening
from app.participants.reads import at_their_sites
from app.people.access import Actor
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse

ENTRY = table_of(Entry)
PARTICIPANT = table_of(Participant)
SCREENING = table_of(Screening)

BATCH = 500
MOST_NAMED = 500
"""As many participants are asked for by name; of more, those who were not asked for are passed over."""


@dataclass(frozen=True, slots=True)
class Filled:
    """One entry as it is stored; the rows of its groups by the names of their cells."""

    visit: str
    instrument: str
    repeat: int
    status: str
    saved_at: datetime
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One participant: the answers of the latest pre-screen, None without one, and every entry in use."""

    id: int
    code: str
    site_id: int
    status: str
    screening: Mapping[str, object] | None
    screened_at: datetime | None
    entries: tuple[Filled, ...]


def recorded(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    permission: Permission,
    codes: Collection[str] | None = None,
) -> Iterator[Recorded]:
    """Participants at the sites where the person holds this permission, by code; read as they are asked for.

    `codes` leaves those alone. What somebody withdrew from use is left out.
    """
    latest = (
        select(func.max(SCREENING.c.id))
        .where(SCREENING.c.participant_id == PARTICIPANT.c.id)
        .correlate(PARTICIPANT)
        .scalar_subquery()
    )
    # Whoever could still be the second to enter a form does not see what the first did.
    withheld = is_withheld(study, by, PARTICIPANT.c.id, ENTRY.c.visit, ENTRY.c.instrument, PARTICIPANT.c.site_id)
    query = (
        select(
            PARTICIPANT.c.id,
            PARTICIPANT.c.code,
            PARTICIPANT.c.site_id,
            PARTICIPANT.c.status.label("standing"),
            SCREENING.c.answers,
            SCREENING.c.screened_at,
            ENTRY.c.visit,
            ENTRY.c.instrument,
            ENTRY.c.repeat,
            ENTRY.c.status,
            ENTRY.c.saved_at,
            ENTRY.c["values"].label("said"),
        )
        .select_from(PARTICIPANT)
        .join(SCREENING, SCREENING.c.id == latest, isouter=True)
        .join(ENTRY, and_(ENTRY.c.participant_id == PARTICIPANT.c.id, *in_use(study), ~withheld), isouter=True)
        .where(PARTICIPANT.c.study_id == study.id, at_their_sites(by, permission))
        .order_by(func.length(PARTICIPANT.c.code), PARTICIPANT.c.code, ENTRY.c.id)
    )
    if codes is not None and len(codes) <= MOST_NAMED:
        query = query.where(PARTICIPANT.c.code.in_(sorted(codes)))
    scan = streamed(session, query, batch=BATCH)
    try:
        for code, group in groupby(scan, key=lambda row: row.code):
            if codes is None or code in codes:
                yield _recorded(list(group))
    finally:
        scan.close()  # type: ignore[attr-defined]


def _recorded(rows: list[Any]) -> Recorded:
    first = rows[0]
    return Recorded(
        first.id,
        first.code,
        first.site_id,
        first.standing,
        None if first.answers is None else json.loads(first.answers),
        first.screened_at,
        tuple(
            Filled(row.visit, row.instrument, row.repeat, row.status, row.saved_at, cells_of(json.loads(row.said)))
            for row in rows
            if row.visit is not None
        ),
    )
