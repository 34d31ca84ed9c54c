"""What do we keep of a consent? Which document, byte for byte, signed by whom, when, for what; what was taken back."""

from datetime import date, datetime

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary, Text, false, text
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant

UNSETTLED = "countersigned_at IS NULL OR refused_at IS NOT NULL"
"""Of which consents somebody may have something left to do: few, however many there are."""
SCAN_UNVERIFIED = "paper_sha256 IS NOT NULL AND scan_verified_at IS NULL"
"""Whose scan, where it is kept, nobody has held against what was signed."""


class Consent(SQLModel, table=True):
    """A participant's consent to one version of the document. Complete once it is countersigned.

    One that was refused is kept, and counts nowhere: it was recorded wrongly. It may have been countersigned before.

    `participant_signature` is the typed name or the scan's reference, sealed under the participant's key; `binding` is
    SHA-256 over document hash, options, answers, signature and date: one changed byte anywhere and it no longer fits.
    """

    __tablename__ = "consent"
    __table_args__ = (
        Index("ix_consent_participant_id", "participant_id"),
        Index(
            "ix_consent_unsettled",
            "participant_id",
            sqlite_where=text(UNSETTLED),
            postgresql_where=text(UNSETTLED),
        ),
        Index(
            "ix_consent_scan_unverified",
            "participant_id",
            sqlite_where=text(SCAN_UNVERIFIED),
            postgresql_where=text(SCAN_UNVERIFIED),
        ),
        CheckConstraint("(countersigned_at IS NULL) = (countersigned_by IS NULL)", name="countersigned_pair"),
        CheckConstraint("(refused_at IS NULL) = (refused_by IS NULL)", name="refused_pair"),
        CheckConstraint("(scan_verified_at IS NULL) = (scan_verified_by IS NULL)", name="scan_verified_pair"),
        CheckConstraint("scan_verified_by <> recorded_by", name="scan_verified_by_another"),
    )

    id: int | None = Field(default=None, primary_key=True)
    participant_id: int = Field(foreign_key="participant.id")
    study_version_id: int = Field(foreign_key="study_version.id")
    document_version: str
    language: str
    document_sha256: str
    method: str  # on_screen, paper or by_link
    signed_on: date
    participant_signature: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    paper_sha256: str | None = None
    scan_verified_at: datetime | None = Field(default=None, sa_type=Instant)
    scan_verified_by: str | None = None
    options: str = Field(sa_type=Text)
    answers: str = Field(default="{}", sa_type=Text)
    binding: str
    recorded_at: datetime = Field(sa_type=Instant)
    recorded_by: str
    countersigned_at: datetime | None = Field(default=None, sa_type=Instant)
    countersigned_by: str | None = None
    countersigned_name: str | None = None
    countersigned_meaning: str | None = None
    withdrawn_on: date | None = None
    refused_at: datetime | None = Field(default=None, sa_type=Instant)
    refused_by: str | None = None
    refused_why: str | None = Field(default=None, sa_type=Text)
    copy_asked: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    """Whether whoever signed asked for their copy by mail; it is queued once the consent is complete."""
    copy_given_at: datetime | None = Field(default=None, sa_type=Instant)
    copy_given_by: str | None = None
    """Who handed the copy out on paper, and when."""


class OptionTakenBack(SQLModel, table=True):
    """That a participant took back one optional consent and stays in the study; what they signed stays as signed.

    `told_by` says who told the site, `how` in which way. `struck_at`: it was recorded by mistake, and counts nowhere.
    """

    __tablename__ = "option_taken_back"
    __table_args__ = (
        Index("ix_option_taken_back_participant_id", "participant_id", "id"),
        CheckConstraint("(struck_at IS NULL) = (struck_by IS NULL)", name="struck_pair"),
    )

    id: int | None = Field(default=None, primary_key=True)
    participant_id: int = Field(foreign_key="participant.id")
    code: str
    taken_back_on: date
    told_by: str
    how: str
    note: str | None = Field(default=None, sa_type=Text)
    recorded_at: datetime = Field(sa_type=Instant)
    recorded_by: str
    struck_at: datetime | None = Field(default=None, sa_type=Instant)
    struck_by: str | None = None
    struck_why: str | None = Field(default=None, sa_type=Text)
