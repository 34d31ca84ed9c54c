"""What do we keep of reports? Nothing of what they count; but who reviewed the log, and what they said of it."""

from datetime import datetime

from sqlalchemy import Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant


class LogReview(SQLModel, table=True):
    """One review of a stretch of a study's log. Never updated, never deleted: triggers on both databases refuse it.

    The entries from `log_from` up to, and without, `log_to` were looked at, with those of the system's log beside them;
    `head_size` and `head_root` are the head of the study's tree at that moment. `sites` are the ids of those it is
    limited to, with spaces; empty: of the whole study. `findings` holds, as JSON, what was found and the word on each.
    """

    __tablename__ = "log_review"
    __table_args__ = (UniqueConstraint("study_id", "sites", "log_from"),)

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    sites: str
    log_from: int
    log_to: int
    system_from: int
    system_to: int
    head_size: int
    head_root: str
    findings: str = Field(sa_type=Text)
    follows: str = Field(sa_type=Text)
    reviewed_at: datetime = Field(sa_type=Instant)
    reviewed_by: str
