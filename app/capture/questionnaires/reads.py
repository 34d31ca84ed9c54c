"""Which questions are asked by link, of whom, from which day, and what became of them?"""

from dataclasses import dataclass
from datetime import date

from sqlalchemy import bindparam, select
from sqlmodel import Session

from app.participants.identity import PARTICIPANT
from app.participants.reads import SITE
from app.schedule.reads import VISIT


@dataclass(frozen=True)
class Window:
    """The window of one visit, how the visit stands, and the zone of the site."""

    status: str
    opens_on: date
    closes_on: date
    timezone: str


_WINDOW = (
    select(VISIT.c.status, VISIT.c.opens_on, VISIT.c.closes_on, SITE.c.timezone)
    .join(PARTICIPANT, PARTICIPANT.c.id == VISIT.c.participant_id)
    .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
    .where(VISIT.c.participant_id == bindparam("participant_id"), VISIT.c.code == bindparam("visit"))
)


def window_of(session: Session, participant_id: int, visit: str) -> Window | None:
    """The window of a visit; None while it has no date. A caller was allowed to see the participant already."""
    row = session.execute(_WINDOW, {"participant_id": participant_id, "visit": visit}).first()
    return Window(*row) if row is not None else None
