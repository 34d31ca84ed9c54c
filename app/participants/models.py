"""What do we keep of participants? Status, screenings, who was randomised in error; personal data sealed, apart."""

from datetime import date, datetime

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant
from app.participants.status import Status

__all__ = ["Identity", "Participant", "ParticipantFile", "ParticipantLink", "RandomisedInError", "Screening", "Status"]


class Participant(SQLModel, table=True):
    """One person in one study, known by a code that says nothing about them or their arm.

    `fatal_event` is the first adverse event of theirs whose outcome is fatal as it stands; safety sees to it.
    """

    __tablename__ = "participant"
    __table_args__ = (
        UniqueConstraint("study_id", "code"),
        Index("ix_participant_study_status", "study_id", "status", "code"),
        Index("ix_participant_study_site", "study_id", "site_id", "code"),
        Index("ix_participant_study_screened", "study_id", "screened_on", "code"),
        Index(
            "ix_participant_fatal",
            "study_id",
            "code",
            sqlite_where=text("fatal_event IS NOT NULL"),
            postgresql_where=text("fatal_event IS NOT NULL"),
        ),
        CheckConstraint("(randomised_at IS NULL) = (randomised_by IS NULL)", name="randomised_pair"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    site_id: int = Field(foreign_key="site.id")
    code: str
    status: str
    screened_on: date
    consented_on: date | None = None
    randomised_on: date | None = None
    randomised_at: datetime | None = Field(default=None, sa_type=Instant)
    randomised_by: str | None = None
    withdrawn_on: date | None = None
    withdrawal_level: str | None = None
    withdrawal_reason: str | None = None
    left_on: date | None = None
    """The day on which they left the study: withdrew from visits, or died. What was held until then can be recorded."""
    treatment_stopped_on: date | None = None
    treatment_stopped_reason: str | None = Field(default=None, sa_type=Text)
    fatal_event: int | None = None
    created_at: datetime = Field(sa_type=Instant)
    created_by: str


class Identity(SQLModel, table=True):
    """Name, date of birth and contact of one participant, sealed under a key of their own.

    `wrapped_key` is that key sealed under the installation's root key; emptying it erases the person for good while
    every row and the log stay as they are (GDPR Art. 17).
    """

    __tablename__ = "identity"

    participant_id: int = Field(sa_column=Column(Integer, ForeignKey("participant.id"), primary_key=True))
    wrapped_key: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    version: int = 1


class ParticipantFile(SQLModel, table=True):
    """A file of one participant, sealed under their key; what refers to it does so by its SHA-256.

    `purpose` says what it is for and is bound into its envelope: the scan of a consent, a file or a signature among
    the answers. It is only ever added to: what replaces a file stands beside it.
    """

    __tablename__ = "participant_file"
    __table_args__ = (UniqueConstraint("participant_id", "purpose", "sha256"),)

    id: int | None = Field(default=None, primary_key=True)
    participant_id: int = Field(foreign_key="participant.id")
    purpose: str
    sha256: str
    media_type: str
    size: int
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    kept_at: datetime = Field(sa_type=Instant)
    kept_by: str


class Screening(SQLModel, table=True):
    """One pre-screen: answers, the verdict of each criterion, and the outcome. Kept whether eligible or not.

    It stands as it was corrected last; each change raises `version` by one, and the log has what was before.
    """

    __tablename__ = "screening"
    __table_args__ = (
        Index("ix_screening_participant_id", "participant_id"),
        Index(
            "ix_screening_corrected",
            "participant_id",
            sqlite_where=text("corrected_at IS NOT NULL"),
            postgresql_where=text("corrected_at IS NOT NULL"),
        ),
        CheckConstraint("(corrected_at IS NULL) = (corrected_by IS NULL)", name="corrected_pair"),
    )

    id: int | None = Field(default=None, primary_key=True)
    participant_id: int = Field(foreign_key="participant.id")
    study_version_id: int = Field(foreign_key="study_version.id")
    answers: str = Field(sa_type=Text)
    verdicts: str = Field(sa_type=Text)
    eligible: bool
    failure_reason: str | None = None
    screened_at: datetime = Field(sa_type=Instant)
    screened_by: str
    version: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    corrected_at: datetime | None = Field(default=None, sa_type=Instant)
    corrected_by: str | None = None
    moved_levels: str | None = Field(default=None, sa_type=Text)
    """Where the answers as corrected say another stratum: [level as randomised, level now] by factor, as JSON."""


class ParticipantLink(SQLModel, table=True):
    """A link that one participant was given, for one purpose: to sign the consent document, or to answer a visit's
    questions. Only the hash of its secret is kept, and the seed from which the key of the installation makes it again:
    so a reminder carries the same link, and whoever has the database alone cannot open it.

    `about` is the visit of the questions, or the version of the document. `tries` counts wrong answers to who they are.
    `before_window`: whoever gave it allowed answers before the window of the visit opens.
    """

    __tablename__ = "participant_link"
    __table_args__ = (
        Index("ix_participant_link_participant_id", "participant_id", "id"),
        # What waits for answers, by when it has to be.
        Index(
            "ix_participant_link_waiting",
            "expires_at",
            "id",
            sqlite_where=text("purpose = 'questions' AND done_at IS NULL AND ended_at IS NULL"),
            postgresql_where=text("purpose = 'questions' AND done_at IS NULL AND ended_at IS NULL"),
        ),
        CheckConstraint("purpose IN ('consent', 'questions')", name="purpose"),
        CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL)", name="ended_pair"),
    )

    id: int | None = Field(default=None, primary_key=True)
    participant_id: int = Field(foreign_key="participant.id")
    purpose: str
    about: str
    language: str
    token_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    made_at: datetime = Field(sa_type=Instant)
    made_by: str
    expires_at: datetime = Field(sa_type=Instant)
    opened_at: datetime | None = Field(default=None, sa_type=Instant)
    tries: int = 0
    done_at: datetime | None = Field(default=None, sa_type=Instant)
    ended_at: datetime | None = Field(default=None, sa_type=Instant)
    ended_by: str | None = None
    seed: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    before_window: bool = Field(default=False, sa_column_kwargs={"server_default": false()})


class RandomisedInError(SQLModel, table=True):
    """That somebody should not have been randomised, or not so: never changed, never removed; a later record corrects.

    The chain of one participant has no forks: one record corrects nothing, every other corrects the one before it.
    """

    __tablename__ = "randomised_in_error"
    __table_args__ = (
        UniqueConstraint("corrects"),
        Index(
            "ux_randomised_in_error_first",
            "participant_id",
            unique=True,
            sqlite_where=text("corrects IS NULL"),
            postgresql_where=text("corrects IS NULL"),
        ),
        Index("ix_randomised_in_error_participant_id", "participant_id", "id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    participant_id: int = Field(foreign_key="participant.id")
    corrects: int | None = Field(default=None, foreign_key="randomised_in_error.id")
    reason: str
    why: str = Field(sa_type=Text)
    found_on: date
    should_have_been: str | None = Field(default=None, sa_type=Text)
    """The level of each factor of the stratum as it should have been, as JSON."""
    told: str = Field(sa_type=Text)
    recorded_at: datetime = Field(sa_type=Instant)
    recorded_by: str
