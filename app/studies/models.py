"""What do we keep of a protocol? The study, and each loaded version of its definition, immutable and hashed."""

from datetime import datetime

from sqlalchemy import Index, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant
from app.studies.drafts.models import StudyDraft, StudyDraftFile

__all__ = ["StudyDraft", "StudyDraftFile", "StudyRecord", "StudyVersion", "StudyWording"]


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


class StudyWording(SQLModel, table=True):
    """The wording of an instrument, in one language, that this installation has a licence for; laid over the study's.

    It stands until another is loaded. It is no part of the study: neither its hash nor a codebook knows it.
    """

    __tablename__ = "study_wording"
    __table_args__ = (
        Index(
            "ux_study_wording_standing",
            "study_id",
            "instrument",
            "language",
            unique=True,
            sqlite_where=text("replaced_at IS NULL"),
            postgresql_where=text("replaced_at IS NULL"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    instrument: str
    language: str
    sha256: str
    words: str = Field(sa_type=Text)
    loaded_at: datetime = Field(sa_type=Instant)
    loaded_by: str
    replaced_at: datetime | None = Field(default=None, sa_type=Instant)
