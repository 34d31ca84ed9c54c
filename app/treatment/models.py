"""What do we keep of a treatment session? What was delivered in it, sealed from blinded eyes by being in this room."""

from datetime import datetime

from sqlalchemy import Column, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant


class TreatmentSession(SQLModel, table=True):
    """What one participant received at one treatment visit, sealed: its content tells the arm.

    The envelope has one size for every session, so that neither a row nor a dump tells active from sham.
    """

    __tablename__ = "treatment_session"
    __table_args__ = (UniqueConstraint("participant_id", "visit"),)

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    participant_id: int = Field(foreign_key="participant.id")
    visit: str
    version: int = 1
    delivered: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    saved_at: datetime = Field(sa_type=Instant)
    saved_by: str
