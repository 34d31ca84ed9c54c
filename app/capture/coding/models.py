"""What do we keep of coded texts? The text, what each coder chose, what was settled; and a site's own dictionaries."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant


class CodedText(SQLModel, table=True):
    """One text of an entry, or the term of an adverse event, to be coded.

    A text that changes is another row; the old one stays, `outdated_at` set.

    `key` is the text without case and extra blanks, by which the very same text is found again. `code` and `label` are
    what it is coded as, once that is settled; the label as it read on that day.
    """

    __tablename__ = "coded_text"
    __table_args__ = (
        Index("ix_coded_text_queue", "study_id", "state", "id"),
        Index("ix_coded_text_same", "study_id", "dictionary", "key"),
        Index(
            "ux_coded_text_standing",
            "entry_id",
            "item",
            unique=True,
            sqlite_where=text("outdated_at IS NULL"),
            postgresql_where=text("outdated_at IS NULL"),
        ),
        Index(
            "ux_coded_text_event",
            "event_id",
            unique=True,
            sqlite_where=text("outdated_at IS NULL"),
            postgresql_where=text("outdated_at IS NULL"),
        ),
        CheckConstraint("(entry_id IS NULL) = (event_id IS NOT NULL)", name="of_one_thing"),
        CheckConstraint("(state = 'outdated') = (outdated_at IS NOT NULL)", name="outdated_state"),
        CheckConstraint("(reconciled_at IS NULL) = (reconciled_by IS NULL)", name="reconciled_pair"),
        CheckConstraint("(code IS NULL) = (label IS NULL)", name="coded_pair"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    participant_id: int = Field(foreign_key="participant.id")
    entry_id: int | None = Field(default=None, foreign_key="entry.id")
    event_id: int | None = Field(default=None, foreign_key="adverse_event.id")
    item: str
    dictionary: str
    dictionary_version: str
    text: str = Field(sa_type=Text)
    key: str = Field(sa_type=Text)
    coders: int
    state: str
    code: str | None = None
    label: str | None = None
    version: int = 1
    created_at: datetime = Field(sa_type=Instant)
    outdated_at: datetime | None = Field(default=None, sa_type=Instant)
    reconciled_by: str | None = None
    reconciled_at: datetime | None = Field(default=None, sa_type=Instant)
    why: str | None = Field(default=None, sa_type=Text)


class CodingChoice(SQLModel, table=True):
    """What one person coded a text as, without having seen what anybody else did. Never changed."""

    __tablename__ = "coding_choice"
    __table_args__ = (UniqueConstraint("text_id", "coder"),)

    id: int | None = Field(default=None, primary_key=True)
    text_id: int = Field(foreign_key="coded_text.id")
    coder: str
    code: str
    label: str
    at: datetime = Field(sa_type=Instant)


class DictionaryTerm(SQLModel, table=True):
    """A term of a dictionary that this installation loaded by itself; `words` is what it is found by."""

    __tablename__ = "dictionary_term"
    __table_args__ = (UniqueConstraint("study_id", "dictionary", "code"),)

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    dictionary: str
    code: str
    label: str
    parent: str | None = None
    words: str = Field(sa_type=Text)
