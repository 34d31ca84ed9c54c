"""What do we keep of an entry? One JSON document per entry, its version, its signature; and drafts of each person."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from app.capture.status import EntryStatus
from app.foundation.database import Instant

__all__ = ["Draft", "Entry", "EntryStatus"]


class Entry(SQLModel, table=True):
    """One participant's filled instrument at one visit. `values` holds item code -> stored value.

    A stored value is a string, number, true/false, list of codes, or {"missing": CODE}. `reasons` holds item code ->
    why a soft check was accepted. Scores stand among the values, computed by the server.
    """

    __tablename__ = "entry"
    __table_args__ = (
        UniqueConstraint("participant_id", "visit", "instrument"),
        Index("ix_entry_export", "study_id", "instrument", "id"),
        CheckConstraint("(signed_at IS NULL) = (signed_by IS NULL)", name="signed_pair"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    participant_id: int = Field(foreign_key="participant.id")
    visit: str
    instrument: str
    study_version_id: int = Field(foreign_key="study_version.id")
    status: str
    version: int = 1
    values: str = Field(sa_type=Text)
    reasons: str = Field(default="{}", sa_type=Text)
    created_at: datetime = Field(sa_type=Instant)
    created_by: str
    saved_at: datetime = Field(sa_type=Instant)
    saved_by: str
    signed_at: datetime | None = Field(default=None, sa_type=Instant)
    signed_by: str | None = None
    signed_name: str | None = None
    signed_meaning: str | None = None
    signed_digest: str | None = None


class Draft(SQLModel, table=True):
    """What one person typed into one form and has not saved yet. Theirs alone; gone when the entry is saved."""

    __tablename__ = "draft"
    __table_args__ = (UniqueConstraint("person_id", "participant_id", "visit", "instrument"),)

    id: int | None = Field(default=None, primary_key=True)
    person_id: int = Field(foreign_key="person.id")
    participant_id: int = Field(foreign_key="participant.id")
    visit: str
    instrument: str
    base_version: int
    typed: str = Field(sa_type=Text)
    saved_at: datetime = Field(sa_type=Instant)
