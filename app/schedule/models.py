"""What do we keep of a visit? When it is due, its window, and what became of it."""

from datetime import date, datetime

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant
from app.schedule.status import VisitStatus

__all__ = ["ParticipantVisit", "VisitStatus"]


class ParticipantVisit(SQLModel, table=True):
    """One visit of one participant."""

    __tablename__ = "visit"
    __table_args__ = (
        UniqueConstraint("participant_id", "code"),
        Index("ix_visit_due", "study_id", "status", "target_on"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    participant_id: int = Field(foreign_key="participant.id")
    code: str
    kind: str
    order: int = 0
    target_on: date
    opens_on: date
    closes_on: date
    status: str = VisitStatus.PLANNED
    held_on: date | None = None
    reason: str | None = None
    version: int = 1
    created_at: datetime = Field(sa_type=Instant)
