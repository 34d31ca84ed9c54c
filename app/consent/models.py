"""What do we keep of a consent? Which document, byte for byte, who signed it, when, and for what."""

from datetime import date, datetime

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary, Text
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant


class Consent(SQLModel, table=True):
    """A participant's consent to one version of the document. Complete once it is countersigned.

    `participant_signature` is the typed name or the scan's reference, sealed under the participant's key; `binding` is
    SHA-256 over document hash, options, answers, signature and date: one changed byte anywhere and it no longer fits.
    """

    __tablename__ = "consent"
    __table_args__ = (
        Index("ix_consent_participant_id", "participant_id"),
        CheckConstraint("(countersigned_at IS NULL) = (countersigned_by IS NULL)", name="countersigned_pair"),
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
