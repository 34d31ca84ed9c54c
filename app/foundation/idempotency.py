"""Was this very request answered before? A retried write gets the first answer again and changes nothing.

The row is written in the transaction of the change itself: either both stand or neither. A second request with the
same key waits for the first (unique constraint) and is then told its answer (REL-4).

A request is kept as a fingerprint under a key that is not in the database: what is sent can be a list of arms, and
somebody with the rows alone must not find it by trying lists until one fits (CONC-3).
"""

from datetime import datetime

from sqlalchemy import Column, Integer, LargeBinary, String, Text, bindparam, delete, select, update
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


_TABLE = table_of(IdempotentRequest)
# Built once: putting a statement together takes longer than running it. Asked for back, not counted: psycopg has no row
# count for such an insert.
_TAKE = {
    name: insert(_TABLE).on_conflict_do_nothing().returning(_TABLE.c.key)
    for name, insert in (("postgresql", postgresql.insert), ("sqlite", sqlite.insert))
}
_THE_ONE = (
    _TABLE.c.person_id == bindparam("of_person", type_=Integer),
    _TABLE.c.key == bindparam("of_key", type_=String),
)
_EARLIER = select(_TABLE.c.digest, _TABLE.c.status, _TABLE.c.location, _TABLE.c.body).where(*_THE_ONE)
_REMEMBER = (
    update(_TABLE)
    .where(*_THE_ONE)
    .values(
        status=bindparam("status", type_=Integer),
        location=bindparam("location", type_=String),
        body=bindparam("body", type_=Text),
    )
)


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
        words = "An Idempotency-Key has 1 to 200 printable characters. Send one of these, or none."
        raise Invalid([FieldProblem("Idempotency-Key", "length", words)])
    digest = fingerprint(session, request)
    taken = session.execute(
        _TAKE[session.get_bind().dialect.name], {"person_id": person_id, "key": key, "digest": digest, "at": now}
    )
    if taken.first() is not None:
        return None
    row = session.execute(_EARLIER, {"of_person": person_id, "of_key": key}).one()
    if row.digest != digest:
        raise Conflict("This Idempotency-Key was used for another request. Send a new key with a new request.")
    if row.status is None:
        raise Conflict("The first request with this key is still being answered. Ask again in a moment.")
    return Answer(row.status, row.location, row.body)


def remember_answer(
    session: Session, *, person_id: int, key: str, status: int, location: str | None, body: str | None
) -> None:
    """Keep the answer beside the change, in its transaction."""
    session.execute(
        _REMEMBER,
        {"of_person": person_id, "of_key": key, "status": status, "location": location, "body": body},
    )


def forget(session: Session, *, person_id: int, key: str) -> None:
    """Give a key back whose request was not carried out."""
    table = table_of(IdempotentRequest)
    session.execute(delete(table).where(table.c.person_id == person_id, table.c.key == key))
