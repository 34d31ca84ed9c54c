"""What do we keep of imports? Mappings by name, files that wait for a decision, and whose number in a file is whose."""

from datetime import datetime

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant


class ImportMapping(SQLModel, table=True):
    """What the columns of a kind of file mean, kept under a name. A newer one of the same name takes its place."""

    __tablename__ = "import_mapping"
    __table_args__ = (UniqueConstraint("study_id", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    name: str
    mapping: str = Field(sa_type=Text)
    version: int
    saved_at: datetime = Field(sa_type=Instant)
    saved_by: str


class ImportFile(SQLModel, table=True):
    """A file that somebody uploaded on the page. It is sealed, is theirs alone, and goes once it is imported."""

    __tablename__ = "import_file"
    __table_args__ = (Index("ix_import_file_person", "study_id", "person_id", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    person_id: int = Field(sa_column=Column(Integer, ForeignKey("person.id"), nullable=False))
    name: str
    sha256: str
    sealed: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    mapping: str = Field(sa_type=Text)
    counts: str | None = Field(default=None, sa_type=Text)
    uploaded_at: datetime = Field(sa_type=Instant)
    imported_at: datetime | None = Field(default=None, sa_type=Instant)


class ImportedParticipant(SQLModel, table=True):
    """Who a number in somebody else's files is here. The number may be a patient's: only a keyed fingerprint stays."""

    __tablename__ = "imported_participant"
    __table_args__ = (UniqueConstraint("study_id", "tag"),)

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    participant_id: int = Field(sa_column=Column(Integer, ForeignKey("participant.id"), nullable=False))
    tag: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
