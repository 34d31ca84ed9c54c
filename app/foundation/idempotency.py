"""Was this very request answered before? A retried write gets the first answer again and changes nothing.

The row is written in the transaction of the change itself: either both stand or neither. A second request with the
same key waits for the first (unique constraint) and is then told its answer (REL-4).

A request is kept as a fingerprint under a key that is not in the database: what is sent can be a list of arms, and
somebody with the rows alone must not find it by trying lists until one fits (CONC-3).
"""

from datetime import datetime

from sqlalchemy import Column, LargeBinary, Text, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Field, Session, SQLModel

from app.foundation.database import Instant, keys_of, table_of
from app.foundation.errors import Conflict, FieldProblem, Invalid


class IdempotentRequest(SQLModel, table=True):
    """One write request by one person under one key, and what was answered."""

    __tablename__ = "idempotent_request"

    person_id: int = Field(primary_key=True)
    key: str = Field(primary_key=True)
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    status: int | None = None
    location: str | None = None
    body: str | None = Field(default=None, sa_type=Text)
    at: datetime = Field(sa_type=Instant)


class Answer:
    """What the first request was answered: status, Location header, body text."""

    def __init__(self, status: int, location: str | None, body: str | None) -> None:
        self.status = status
        self.location = location
        self.body = body


def fingerprint(session: Session, request: bytes) -> bytes:
    """32 bytes that are the same for the same request only; nothing can be learnt from them without the key."""
    return keys_of(session).tag("idempotent request", request)


def earlier_answer(session: Session, *, person_id: int, key: str, request: bytes, now: datetime) -> Answer | None:
    """The answer this key already got, or None and the key is now taken by this transaction.

    `request` is method, path and body; the same key with another request is a Conflict.
    """
    if not 1 <= len(key) <= 200 or not key.isprintable():
        raise Invalid(
            [FieldProblem("Idempotency-Key", "length", "An Idempotency-Key has 1 to 200 printable characters.")]
        )
    digest = fingerprint(session, request)
    table = table_of(IdempotentRequest)
    dialect_insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    # Asked for back, not counted: psycopg has no row count for such an insert.
    taken = session.execute(
        dialect_insert(table)
        .values(person_id=person_id, key=key, digest=digest, at=now)
        .on_conflict_do_nothing()
        .returning(table.c.key)
    )
    if taken.first() is not None:
        return None
    row = session.execute(
        select(table.c.digest, table.c.status, table.c.location, table.c.body).where(
            table.c.person_id == person_id, table.c.key == key
        )
    ).one()
    if row.digest != digest:
        raise Conflict("This Idempotency-Key was used for another request. Send a new key with a new request.")
    if row.status is None:
        raise Conflict("The first request with this key is still being answered. Ask again in a moment.")
    return Answer(row.status, row.location, row.body)


def remember_answer(
    session: Session, *, person_id: int, key: str, status: int, location: str | None, body: str | None
) -> None:
    """Keep the answer beside the change, in its transaction."""
    table = table_of(IdempotentRequest)
    session.execute(
        update(table)
        .where(table.c.person_id == person_id, table.c.key == key)
        .values(status=status, location=location, body=body)
    )


def forget(session: Session, *, person_id: int, key: str) -> None:
    """Give a key back whose request was not carried out."""
    table = table_of(IdempotentRequest)
    session.execute(delete(table).where(table.c.person_id == person_id, table.c.key == key))
