"""What do we keep of shared files? Folders and files; their names and contents sealed, a removed file marked."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant


class RepositoryFolder(SQLModel, table=True):
    """A folder, for everybody or for some: one site, one role, those who may know an arm. Never changed."""

    __tablename__ = "repository_folder"
    __table_args__ = (Index("ix_repository_folder_study", "study_id", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    parent_id: int | None = Field(default=None, foreign_key="repository_folder.id")
    sealed_name: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    site_id: int | None = Field(default=None, foreign_key="site.id")
    role: str | None = None
    is_unblinded: bool
    made_at: datetime = Field(sa_type=Instant)
    made_by: str


class RepositoryFile(SQLModel, table=True):
    """A file in a folder, or beside them. Only ever marked as removed: what was shared can be asked for later."""

    __tablename__ = "repository_file"
    __table_args__ = (
        Index("ix_repository_file_study", "study_id", "folder_id", "id"),
        CheckConstraint("(removed_at IS NULL) = (removed_by IS NULL)", name="removed_pair"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    folder_id: int | None = Field(default=None, foreign_key="repository_folder.id")
    sealed_about: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    is_unblinded: bool
    kept_at: datetime = Field(sa_type=Instant)
    kept_by: str
    removed_at: datetime | None = Field(default=None, sa_type=Instant)
    removed_by: str | None = None
