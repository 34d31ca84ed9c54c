"""What do we keep of webhooks? Where they lead and how far they have read, and what was told or waits to be."""

from datetime import datetime

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant


class Webhook(SQLModel, table=True):
    """An address that a person has told of changes they may see. `position` is how far it has read the study's log.

    `sealed` is its secret; the one before, which signs beside it `before_until`, stands in `sealed_before`.
    """

    __tablename__ = "webhook"
    __table_args__ = (Index("ix_webhook_study", "study_id", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    person_id: int = Field(sa_column=Column(Integer, ForeignKey("person.id"), nullable=False))
    site_id: int | None = Field(default=None, foreign_key="site.id")
    url: str
    events: str
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    sealed_before: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    before_until: datetime | None = Field(default=None, sa_type=Instant)
    state: str = "active"
    position: int
    made_at: datetime = Field(sa_type=Instant)
    ended_at: datetime | None = Field(default=None, sa_type=Instant)


class WebhookDelivery(SQLModel, table=True):
    """One event for one webhook. Its id is the same however often it is found, so it is queued once."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        UniqueConstraint("webhook_id", "event_id"),
        Index("ix_webhook_delivery_due", "ended_at", "not_before"),
    )

    id: int | None = Field(default=None, primary_key=True)
    webhook_id: int = Field(sa_column=Column(Integer, ForeignKey("webhook.id"), nullable=False))
    event_id: str
    event: str
    payload: str = Field(sa_type=Text)
    queued_at: datetime = Field(sa_type=Instant)
    not_before: datetime = Field(sa_type=Instant)
    attempts: int = 0
    status: int | None = None
    last_error: str | None = None
    ended_at: datetime | None = Field(default=None, sa_type=Instant)
    ended_as: str | None = None
