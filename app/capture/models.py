"""What do we keep of an entry? One JSON document per entry, its signature, what was verified of it; drafts of each
person; queries and what was said to them; what is frozen or locked; the signatures of whole casebooks.
"""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from app.capture.coding.models import CodedText, CodingChoice, DictionaryTerm
from app.capture.double.models import ComparedAnswer, EntryPair
from app.capture.status import EntryStatus
from app.foundation.database import Instant

__all__ = [
    "CasebookSignature",
    "CodedText",
    "CodingChoice",
    "ComparedAnswer",
    "DataLock",
    "DataQuery",
    "DictionaryTerm",
    "Draft",
    "Entry",
    "EntryPair",
    "EntryStatus",
    "QueryMessage",
]


IN_ERROR = "in_error_at IS NOT NULL"


class Entry(SQLModel, table=True):
    """One participant's filled instrument at one visit. `values` holds item code -> stored value.

    An instrument that repeats is filled several times at a visit: `repeat` counts them from 1, without gaps. One that
    was begun by mistake is marked with `in_error_at` and stays.

    A stored value is a string, number, true/false, list of codes, or {"missing": CODE}. `reasons` holds item code ->
    why a soft check was accepted. Scores stand among the values, computed by the server. `verified` holds item code ->
    who compared it with its source and when; `verified_at` is set while every answer is verified. `verification` says
    where the whole stands (`capture.verification.rules.State`), NULL while there is nothing to verify; with the site,
    which a participant never changes, it is what the list of what is to be verified is looked up by.
    """

    __tablename__ = "entry"
    __table_args__ = (
        UniqueConstraint("participant_id", "visit", "instrument", "repeat"),
        Index("ix_entry_export", "study_id", "instrument", "id"),
        # Each page of the list of what is to be verified is a few rows of one of these, in its order: of one site, or
        # of the study. Visit and form stand behind, so that those of other visits are passed over unread.
        Index("ix_entry_verification_site", "site_id", "verification", "participant_id", "id", "visit", "instrument"),
        Index("ix_entry_verification", "study_id", "verification", "participant_id", "id", "visit", "instrument"),
        # Those that count nowhere: few, and taken away from what is counted of all.
        Index("ix_entry_in_error", "study_id", "id", sqlite_where=text(IN_ERROR), postgresql_where=text(IN_ERROR)),
        CheckConstraint("(signed_at IS NULL) = (signed_by IS NULL)", name="signed_pair"),
        CheckConstraint("(in_error_at IS NULL) = (in_error_by IS NULL)", name="in_error_pair"),
        CheckConstraint("repeat >= 1", name="repeat_from_one"),
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
    verified: str = Field(default="{}", sa_type=Text, sa_column_kwargs={"server_default": "{}"})
    verified_at: datetime | None = Field(default=None, sa_type=Instant)
    repeat: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    in_error_at: datetime | None = Field(default=None, sa_type=Instant)
    in_error_by: str | None = None
    in_error_why: str | None = Field(default=None, sa_type=Text)
    typed_at: datetime | None = Field(default=None, sa_type=Instant)
    site_id: int = Field(sa_column_kwargs={"server_default": "0"})  # as the participant's, whom the database knows
    verification: str | None = None


class Draft(SQLModel, table=True):
    """What one person typed into one form and has not saved yet. Theirs alone; gone when the entry is saved.

    `page` is the page of theirs that kept it last. With `saved_at` it tells another window, or another device, that it
    is not the only one.
    """

    __tablename__ = "draft"
    __table_args__ = (UniqueConstraint("person_id", "participant_id", "visit", "instrument", "repeat"),)

    id: int | None = Field(default=None, primary_key=True)
    person_id: int = Field(foreign_key="person.id")
    participant_id: int = Field(foreign_key="participant.id")
    visit: str
    instrument: str
    base_version: int
    typed: str = Field(sa_type=Text)
    saved_at: datetime = Field(sa_type=Instant)
    repeat: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    page: str = Field(default="", sa_column_kwargs={"server_default": ""})


class DataQuery(SQLModel, table=True):
    """A question about one answer of an entry, raised by a check, a monitor or a data manager.

    `rule` is the check that raised it, None when a person did. `text` is the question, `answer` what was said last by
    the site; the whole thread stands in `query_message`.
    """

    __tablename__ = "query"
    __table_args__ = (
        Index("ix_query_entry", "participant_id", "visit", "instrument", "closed_at"),
        Index("ix_query_state", "study_id", "state", "raised_at"),
        Index(
            "ux_query_standing",
            "participant_id",
            "visit",
            "instrument",
            "repeat",
            "item",
            "rule",
            unique=True,
            sqlite_where=text("closed_at IS NULL AND rule IS NOT NULL"),
            postgresql_where=text("closed_at IS NULL AND rule IS NOT NULL"),
        ),
        CheckConstraint("(closed_at IS NULL) = (closing IS NULL)", name="closed_pair"),
        CheckConstraint("(state = 'closed') = (closed_at IS NOT NULL)", name="closed_state"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    participant_id: int = Field(foreign_key="participant.id")
    visit: str
    instrument: str
    item: str
    origin: str
    rule: str | None = None
    state: str
    text: str = Field(sa_type=Text)
    answer: str | None = Field(default=None, sa_type=Text)
    version: int = 1
    raised_at: datetime = Field(sa_type=Instant)
    raised_by: str
    changed_at: datetime = Field(sa_type=Instant)
    changed_by: str
    closed_at: datetime | None = Field(default=None, sa_type=Instant)
    closing: str | None = None
    repeat: int = Field(default=1, sa_column_kwargs={"server_default": "1"})


class QueryMessage(SQLModel, table=True):
    """One step of a query, with what was said; only ever added to."""

    __tablename__ = "query_message"
    __table_args__ = (Index("ix_query_message_query_id", "query_id", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    query_id: int = Field(foreign_key="query.id")
    step: str
    text: str = Field(sa_type=Text)
    at: datetime = Field(sa_type=Instant)
    by: str
    role: str


class DataLock(SQLModel, table=True):
    """What is frozen or locked: one participant or (None) all of them, at one visit or (None) at all of them.

    It stands until it is lifted. A lock is lifted by two people: one asks, another approves.
    """

    __tablename__ = "data_lock"
    __table_args__ = (
        Index(
            "ux_data_lock_standing",
            "study_id",
            "participant_key",
            "visit_key",
            "kind",
            unique=True,
            sqlite_where=text("lifted_at IS NULL"),
            postgresql_where=text("lifted_at IS NULL"),
        ),
        Index(
            "ix_data_lock_asked",
            "study_id",
            sqlite_where=text("asked_at IS NOT NULL AND lifted_at IS NULL"),
            postgresql_where=text("asked_at IS NOT NULL AND lifted_at IS NULL"),
        ),
        CheckConstraint("(lifted_at IS NULL) = (lifted_by IS NULL)", name="lifted_pair"),
        CheckConstraint("(asked_at IS NULL) = (asked_by IS NULL)", name="asked_pair"),
        # 21 CFR 11.10(g): nobody opens alone what was locked, not even past the application.
        CheckConstraint(
            "kind <> 'locked' OR lifted_at IS NULL OR (asked_by IS NOT NULL AND asked_by <> lifted_by)",
            name="lifted_by_two",
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    participant_id: int | None = Field(default=None, foreign_key="participant.id")
    participant_key: int  # the participant's id, or 0: NULLs are never equal
    visit: str | None = None
    visit_key: str
    kind: str
    why: str = Field(sa_type=Text)
    despite: bool = False
    at: datetime = Field(sa_type=Instant)
    by: str
    asked_at: datetime | None = Field(default=None, sa_type=Instant)
    asked_by: str | None = None
    asked_why: str | None = Field(default=None, sa_type=Text)
    lifted_at: datetime | None = Field(default=None, sa_type=Instant)
    lifted_by: str | None = None


class CasebookSignature(SQLModel, table=True):
    """The investigator's signature of a participant's whole casebook: of exactly the entries in its manifest."""

    __tablename__ = "casebook_signature"
    __table_args__ = (
        Index(
            "ux_casebook_signature_standing",
            "participant_id",
            unique=True,
            sqlite_where=text("superseded_at IS NULL"),
            postgresql_where=text("superseded_at IS NULL"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    participant_id: int = Field(foreign_key="participant.id")
    manifest: str = Field(sa_type=Text)
    digest: str
    meaning: str
    signed_at: datetime = Field(sa_type=Instant)
    signed_by: str
    signed_name: str
    superseded_at: datetime | None = Field(default=None, sa_type=Instant)
    superseded_by: str | None = None
    superseded_why: str | None = Field(default=None, sa_type=Text)
