"""What do we keep of exports? Each that was asked for, with what its file was; and named definitions, by version."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant


class ExportRun(SQLModel, table=True):
    """One export. `asked` is the choice as JSON; `since` the change number it starts from, None for everything.

    `change` and `tree_head` say how far the log was in the snapshot that was read. `rows`, `bytes`, `sha256` and
    `files` (of each table: name, rows, bytes, hash) are set when the last byte was made. `scope` are the sites it was
    made for (ids with commas; empty: all). A job is claimed until `claimed_until`, for the `attempts`-th time; its
    file is kept, sealed, until `expires_at`.
    """

    __tablename__ = "export_run"
    __table_args__ = (
        Index("ix_export_run_study_id", "study_id", "id"),
        Index("ix_export_run_state", "state", "id"),
        CheckConstraint("(sha256 IS NULL) = (finished_at IS NULL)", name="finished_pair"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    person_id: int = Field(foreign_key="person.id")
    requested_by: str
    requested_at: datetime = Field(sa_type=Instant)
    via: str
    request_id: str
    definition: str | None = None
    asked: str = Field(sa_type=Text)
    since: int | None = None
    scope: str = ""
    file_name: str
    state: str
    study_version: str
    software: str
    change: int | None = None
    tree_head: str | None = None
    rows: int = 0
    bytes: int | None = Field(default=None, sa_type=BigInteger)
    sha256: str | None = None
    files: str = Field(default="[]", sa_type=Text)
    finished_at: datetime | None = Field(default=None, sa_type=Instant)
    expires_at: datetime | None = Field(default=None, sa_type=Instant)
    claimed_until: datetime | None = Field(default=None, sa_type=Instant)
    attempts: int = 0
    problem: str | None = Field(default=None, sa_type=Text)


class ExportDefinition(SQLModel, table=True):
    """A choice with a name, to be run again. A change of it is a new version; none is changed or removed."""

    __tablename__ = "export_definition"
    __table_args__ = (UniqueConstraint("study_id", "name", "version"),)

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    name: str
    version: int
    asked: str = Field(sa_type=Text)
    defined_at: datetime = Field(sa_type=Instant)
    defined_by: str
