"""What do we keep of a protocol? The study, and each loaded version of its definition, immutable and hashed."""

from datetime import datetime

from sqlalchemy import Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant


class StudyRecord(SQLModel, table=True):
    """A study of this installation. `last_participant` numbers its participants without gaps."""

    __tablename__ = "study"

    id: int | None = Field(default=None, primary_key=True)
    code: str = Field(unique=True)
    title: str
    version_id: int | None = None
    last_participant: int = 0
    last_allocation: int = 0


class StudyVersion(SQLModel, table=True):
    """One loaded definition: canonical JSON and its SHA-256. Never updated, never deleted (trigger)."""

    __tablename__ = "study_version"
    __table_args__ = (UniqueConstraint("study_id", "version"),)

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    version: str
    sha256: str
    definition: str = Field(sa_type=Text)
    loaded_at: datetime = Field(sa_type=Instant)
    loaded_by: str
