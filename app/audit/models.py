"""What do we keep of every change? One entry per item, and the head of each log's Merkle tree."""

from datetime import datetime

from sqlalchemy import Column, Index, LargeBinary, Text
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant

SYSTEM_LOG = "system"


class AuditEntry(SQLModel, table=True):
    """One change of one thing. Never updated, never deleted: triggers on both databases refuse it.

    No foreign keys: the log must outlive and never hinder what it describes. Values are JSON text; personal data
    stand here only sealed under the participant's key, so that erasing the key leaves the log verifiable (GDPR-5).
    """

    __tablename__ = "audit_entry"
    __table_args__ = (
        Index("ix_audit_entry_participant", "log", "participant", "position"),
        Index("ix_audit_entry_username", "log", "username", "position"),
        Index("ix_audit_entry_action", "log", "action", "position"),
    )

    log: str = Field(primary_key=True)
    position: int = Field(primary_key=True)
    at: datetime = Field(sa_type=Instant)
    username: str
    role: str
    organisation: str
    via: str
    action: str
    participant: str = ""
    subject: str = ""
    item: str = ""
    old: str | None = Field(default=None, sa_type=Text)
    new: str | None = Field(default=None, sa_type=Text)
    why: str | None = Field(default=None, sa_type=Text)
    request_id: str
    leaf_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    tag: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class AuditHead(SQLModel, table=True):
    """The right edge of one log's tree: enough to append to it, to know its root and the latest date in it."""

    __tablename__ = "audit_head"

    log: str = Field(primary_key=True)
    size: int
    frontier: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    root: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    at: datetime | None = Field(default=None, sa_type=Instant)
