"""What may I see of corrections? The pre-screen as it stands, and every value its answers had."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, String, bindparam, select
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.participants.identity import IDENTITY
from app.participants.reads import SCREENING, ScreeningResult, screening_of_row
from app.studies.in_use import StudyInUse

ANSWERED, CORRECTED, JUDGED = "screening.answered", "screening.corrected", "screening.judged_again"

_STANDING = (
    select(SCREENING, IDENTITY.c.wrapped_key)
    .join(IDENTITY, IDENTITY.c.participant_id == SCREENING.c.participant_id, isouter=True)
    .where(SCREENING.c.participant_id == bindparam("participant_id", type_=Integer))
    .order_by(SCREENING.c.id.desc())
    .limit(1)
)
_LINES = ("at", "username", "role", "action", "item", "old", "new", "why")
_HISTORY = (
    select(*(AUDIT_ENTRY.c[name] for name in _LINES))
    .where(
        AUDIT_ENTRY.c.log == bindparam("log", type_=String),
        AUDIT_ENTRY.c.participant == bindparam("participant", type_=String),
        AUDIT_ENTRY.c.subject == "screening",
        AUDIT_ENTRY.c.action.in_((ANSWERED, CORRECTED, JUDGED)),
    )
    .order_by(AUDIT_ENTRY.c.position)
)


@dataclass(frozen=True)
class HistoryLine:
    """One change: of an answer by its code in `item`, or without one of what the answers say of the criteria."""

    at: datetime
    username: str
    role: str
    action: str
    item: str
    old: Any
    new: Any
    why: str | None


def screening_of(session: Session, participant_id: int) -> tuple[ScreeningResult | None, bool]:
    """The pre-screen of a participant whom the caller may know, and whether their personal data were erased."""
    row = session.execute(_STANDING, {"participant_id": participant_id}).first()
    return (None, False) if row is None else (screening_of_row(row), row.wrapped_key is None)


def history(session: Session, study: StudyInUse, participant_code: str) -> list[HistoryLine]:
    """Every value that the answers of a pre-screen had, and how they were judged again; the oldest first (EMA-5)."""
    rows = session.execute(_HISTORY, {"log": study.code, "participant": participant_code}).mappings()
    return [HistoryLine(**{**row, "old": _parsed(row["old"]), "new": _parsed(row["new"])}) for row in rows]


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)
