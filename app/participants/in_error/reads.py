"""What may I see of those who were randomised in error? Every record of one participant, the oldest first."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Integer, bindparam, select
from sqlmodel import Session

from app.participants.in_error.rules import Reason
from app.participants.reads import IN_ERROR

_RECORDS = select(IN_ERROR).where(IN_ERROR.c.participant_id == bindparam("of", type_=Integer)).order_by(IN_ERROR.c.id)


@dataclass(frozen=True)
class InError:
    """One record; `corrects` is the number of the record before it, and `told` are the usernames that got a mail."""

    number: int
    corrects: int | None
    reason: Reason
    why: str
    found_on: date
    should_have_been: Mapping[str, str]
    told: tuple[str, ...]
    at: datetime
    by: str


def records_of(session: Session, participant_id: int) -> tuple[InError, ...]:
    """Every record of a participant whom the caller may know, the oldest first; the last one stands."""
    return tuple(
        InError(
            number=row.id,
            corrects=row.corrects,
            reason=Reason(row.reason),
            why=row.why,
            found_on=row.found_on,
            should_have_been=json.loads(row.should_have_been or "{}"),
            told=tuple(row.told.split()),
            at=row.recorded_at,
            by=row.recorded_by,
        )
        for row in session.execute(_RECORDS, {"of": participant_id})
    )
