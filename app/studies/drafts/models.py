"""What do we keep of a study folder that is being written? The draft, and the text of each of its files."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, Text
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant


class StudyDraft(SQLModel, table=True):
    """A folder in the making. One that is deleted is marked, not erased; one that is loaded never changes again.

    `study_id` is None for a study that is not here yet: only whoever administers the installation has such drafts.
    """

    __tablename__ = "study_draft"
    __table_args__ = (
        Index("ix_study_draft_study", "study_id", "id"),
        CheckConstraint("(removed_at IS NULL) = (removed_by IS NULL)", name="removed_pair"),
        CheckConstraint("(loaded_at IS NULL) = (loaded_version_id IS NULL)", name="loaded_pair"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int | None = Field(default=None, foreign_key="study.id")
    name: str
    origin: str
    made_at: datetime = Field(sa_type=Instant)
    made_by: str
    removed_at: datetime | None = Field(default=None, sa_type=Instant)
    removed_by: str | None = None
    loaded_at: datetime | None = Field(default=None, sa_type=Instant)
    loaded_version_id: int | None = Field(default=None, foreign_key="study_version.id")


class StudyDraftFile(SQLModel, table=True):
    """One file of a draft, by its path in the folder. `version` counts its changes; a deleted file is marked.

    `before` is what it said before its last change; None where it was not there then. Where nobody knows any more, it
    is what it says now, which no change leaves behind.
    """

    __tablename__ = "study_draft_file"
    __table_args__ = (
        Index("ux_study_draft_file", "draft_id", "path", unique=True),
        CheckConstraint("(removed_at IS NULL) = (removed_by IS NULL)", name="removed_pair"),
    )

    id: int | None = Field(default=None, primary_key=True)
    draft_id: int = Field(foreign_key="study_draft.id")
    path: str
    text: str = Field(sa_type=Text)
    before: str | None = Field(default=None, sa_type=Text)
    version: int = 1
    changed_at: datetime = Field(sa_type=Instant)
    changed_by: str
    removed_at: datetime | None = Field(default=None, sa_type=Instant)
    removed_by: str | None = None
