"""What do we keep of a form that is entered twice? The pair of entries, and every answer the two were compared by."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, Text
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant


class EntryPair(SQLModel, table=True):
    """An entry and what a second person entered from the same paper. `differing`: answers in which the two differ."""

    __tablename__ = "entry_pair"
    __table_args__ = (
        Index("ix_entry_pair_queue", "study_id", "state", "id"),
        CheckConstraint("(second_at IS NULL) = (second_by IS NULL)", name="second_pair"),
        CheckConstraint("(reconciled_at IS NULL) = (reconciled_by IS NULL)", name="reconciled_pair"),
        # The whole point of it, kept where nothing gets past it.
        CheckConstraint("second_by IS NULL OR second_by <> first_by", name="two_people"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    entry_id: int = Field(foreign_key="entry.id", unique=True)
    state: str
    version: int = 1
    first_by: str
    first_at: datetime = Field(sa_type=Instant)
    second_by: str | None = None
    second_at: datetime | None = Field(default=None, sa_type=Instant)
    second_values: str | None = Field(default=None, sa_type=Text)
    second_reasons: str = Field(default="{}", sa_type=Text)
    differing: int = 0
    reconciled_by: str | None = None
    reconciled_at: datetime | None = Field(default=None, sa_type=Instant)


class ComparedAnswer(SQLModel, table=True):
    """One answer as both entered it (JSON, None when blank), and, where they differ, what was settled and why."""

    __tablename__ = "compared_answer"
    __table_args__ = (Index("ux_compared_answer", "pair_id", "item", unique=True),)

    id: int | None = Field(default=None, primary_key=True)
    pair_id: int = Field(foreign_key="entry_pair.id")
    item: str
    first: str | None = Field(default=None, sa_type=Text)
    second: str | None = Field(default=None, sa_type=Text)
    agrees: bool
    chosen: str | None = None
    settled: str | None = Field(default=None, sa_type=Text)
    why: str | None = Field(default=None, sa_type=Text)
