"""A statement that comes again is given to the driver as it was; whoever asks cannot tell, but for the time it took."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    bindparam,
    case,
    delete,
    event,
    func,
    insert,
    literal,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import Session

from app.audit.models import AuditHead
from app.foundation import repeated
from app.foundation.database import Database, Instant, table_of
from app.foundation.idempotency import IdempotentRequest

HEAD, KEPT = table_of(AuditHead), table_of(IdempotentRequest)
AT = datetime(2026, 3, 14, 9, 26, 53, 589793, tzinfo=UTC)
ELSEWHERE = AT.astimezone(timezone(timedelta(hours=5)))

ROW = {"log": "a", "size": 1, "frontier": b"\0", "root": b"\1", "at": ELSEWHERE}
_OF = HEAD.c.log == bindparam("of_log")
STATEMENTS: tuple[tuple[str, Callable[[str], Any], tuple[Mapping[str, Any] | None, ...]], ...] = (
    ("a row", lambda _: select(HEAD).where(_OF), ({"of_log": "a"}, {"of_log": "none"}, {"of_log": "b"})),
    (
        "names that come twice",
        lambda _: select(HEAD.c.log, HEAD.c.log, HEAD.c.at.label("newest"), func.count().over()),
        (None, None, {}),
    ),
    ("a value of its own", lambda _: select(HEAD.c.size, literal(7)).where(HEAD.c.size > 1).limit(1), (None,) * 3),
    (
        "a value of its own that is said again",
        lambda _: select(literal(3).label("it") + bindparam("more", 1, type_=Integer)),
        (None, None, {"more": 5}, {"more": 6}, {"more": 7}, None),
    ),
    (
        "any of several",
        lambda _: select(HEAD.c.log).where(HEAD.c.log.in_(bindparam("logs", expanding=True))).order_by(HEAD.c.log),
        ({"logs": ["a", "b"]}, {"logs": ["a"]}, {"logs": []}),
    ),
    (
        "any of those that stand in it",
        lambda _: (
            select(HEAD.c.log, bindparam("more", type_=Integer))
            .where(HEAD.c.log.in_(["a", "c", "b"]), HEAD.c.at.in_([AT + timedelta(days=1), ELSEWHERE]))
            .order_by(HEAD.c.log)
        ),
        tuple({"more": number} for number in range(4)),
    ),
    ("none of none", lambda _: select(HEAD.c.log).where(HEAD.c.log.not_in([])).order_by(HEAD.c.log), (None,) * 3),
    (
        "any of those that stand in it, or of others",
        lambda _: select(HEAD.c.log).where(HEAD.c.log.in_(bindparam("logs", ["a"], expanding=True))),
        (None, None, None, {"logs": ["b"]}, {"logs": ["a", "b"]}, None),
    ),
    (
        "of one kind and of another",
        lambda _: union_all(
            select(HEAD.c.log.label("name"), HEAD.c.at).where(_OF),
            select(literal("-"), HEAD.c.at).where(HEAD.c.size.in_([1, 2])),
        ),
        ({"of_log": "a"}, {"of_log": "none"}, {"of_log": "b"}),
    ),
    ("a number with decimals", lambda _: select((HEAD.c.size / 2).label("half"), literal(1.5)), (None,) * 4),
    ("what is counted out", lambda _: select(case((HEAD.c.size > 1, "many"), else_="one")), (None,) * 3),
    ("a text", lambda _: text("SELECT size FROM audit_head WHERE log = :log"), ({"log": "a"}, {"log": "b"}) * 2),
    (
        "a text that finds nothing",
        lambda _: text("UPDATE audit_head SET size = size + :more"),
        ({"more": 1}, {"more": 2}, {"more": 3}),
    ),
    (
        "an insert by the names of what is given",
        lambda _: insert(HEAD),
        (
            {**ROW, "log": "c"},
            {**ROW, "log": "d"},
            {**ROW, "log": "e"},
            {**ROW, "log": "f", "at": None},
            {name: value for name, value in ROW.items() if name != "at"} | {"log": "g"},
        ),
    ),
    (
        "what was stored",
        lambda kind: (
            (postgresql if kind == "postgresql" else sqlite)
            .insert(KEPT)
            .on_conflict_do_nothing()
            .returning(KEPT.c.key, KEPT.c.at)
        ),
        tuple({"person_id": 1, "key": key, "digest": b"", "at": ELSEWHERE} for key in "xyzxy"),
    ),
    (
        "a value in several places",
        lambda _: (
            insert(KEPT)
            .values(at=func.coalesce(bindparam("now", type_=Instant), bindparam("now", type_=Instant), type_=Instant))
            .returning(KEPT.c.at)
        ),
        tuple({"person_id": 2, "key": key, "digest": b"", "now": ELSEWHERE} for key in "pqrs"),
    ),
    (
        "what was changed",
        lambda _: update(HEAD).where(HEAD.c.size > bindparam("over")).values(size=bindparam("new")),
        ({"over": 100, "new": 1}, {"over": 0, "new": 4}, {"over": 0, "new": 5}, {"over": 100, "new": 1}),
    ),
    ("what was removed", lambda _: delete(HEAD).where(_OF), ({"of_log": "a"}, {"of_log": "none"}, {"of_log": "b"})),
)


def _filled(session: Session) -> None:
    session.execute(insert(HEAD), [ROW, {**ROW, "log": "b", "size": 2, "at": None}])


def _said(statement: Any, result: Any) -> list[Any]:
    if not result.returns_rows:
        return [] if statement.is_insert else [result.rowcount]  # of an insert SQLAlchemy does not always say it
    keys = list(result.keys())
    rows = result.all()
    return [keys, rows, [dict(row._mapping) for row in rows]]


@pytest.mark.parametrize(("make", "given"), [each[1:] for each in STATEMENTS], ids=[each[0] for each in STATEMENTS])
def test_it_finds_and_changes_the_same_as_ever(
    session: Session, make: Callable[[str], Any], given: tuple[Mapping[str, Any] | None, ...]
) -> None:
    statement = make(session.get_bind().dialect.name)
    outcomes: list[list[Any]] = []
    for execute in (lambda *said: session.connection().execute(*said), session.execute):
        with session.begin_nested() as savepoint:
            _filled(session)
            outcomes.append([_said(statement, execute(statement, params)) for params in given])
            for table in ("audit_head", "idempotent_request"):  # as it is stored, and not only as it is read
                stored = session.connection().exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1, 2")
                outcomes[-1].append(list(stored.all()))
            savepoint.rollback()
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("name", ["a row", "any of those that stand in it", "of one kind and of another"])
def test_what_is_plain_is_asked_of_the_driver_itself(session: Session, name: str) -> None:
    make, given = next(each[1:] for each in STATEMENTS if each[0] == name)
    statement = make(session.get_bind().dialect.name)
    _filled(session)
    for params in given[:2]:
        session.execute(statement, params).all()
    with mock.patch.object(Connection, "execute", side_effect=AssertionError("by way of SQLAlchemy")):
        assert session.execute(statement, given[0]).all()


def test_rows_are_used_as_those_of_any_statement(session: Session) -> None:
    _filled(session)
    statement = select(HEAD.c.log, HEAD.c.at.label("newest")).order_by(HEAD.c.log)
    for _ in range(4):
        row = session.execute(statement).first()
        assert row is not None
        assert (row.log, row.newest, row._mapping[HEAD.c.log]) == ("a", AT, "a")
        assert row.newest.tzinfo is UTC
        assert session.execute(statement).scalars().all() == ["a", "b"]
        assert [each["newest"] for each in session.execute(statement).mappings()] == [AT, None]
    assert type(session.execute(statement)) is repeated.Found


def test_a_value_that_a_table_has_for_all_rows_is_stored(session: Session) -> None:
    plain = Table("plain", MetaData(), Column("id", Integer, primary_key=True), Column("mark", Integer, default=7))
    plain.create(session.connection())
    statement = insert(plain)
    for number in range(4):
        session.execute(statement, {"id": number})
    assert type(session.execute(statement, {"id": 4})) is repeated.Found
    assert session.execute(select(plain.c.mark)).scalars().all() == [7] * 5


def test_a_refusal_of_the_database_is_the_one_that_any_statement_gets_and_tells_no_value(session: Session) -> None:
    statement = insert(HEAD)
    for number in range(4):
        session.execute(statement, {**ROW, "log": f"secret {number}"})
    assert type(session.execute(statement, {**ROW, "log": "one more"})) is repeated.Found
    with pytest.raises(IntegrityError) as refused, session.begin_nested():
        session.execute(statement, {**ROW, "log": "secret 1"})
    assert refused.value.hide_parameters
    assert refused.value.params is None
    assert session.execute(select(func.count()).select_from(HEAD)).scalar_one() == 5


def test_a_value_that_cannot_be_sent_is_told_as_ever(session: Session) -> None:
    statement = select(HEAD.c.size).where(_OF)
    for of_log in ("a", "b", "c"):
        session.execute(statement, {"of_log": of_log})
    for execute in (session.connection().execute, session.execute):
        with pytest.raises(UnicodeEncodeError):
            execute(statement, {"of_log": "\udc80"})
    assert session.execute(statement, {"of_log": "a"}).all() == []


def test_whoever_listens_to_statements_hears_of_each(session: Session) -> None:
    statement = select(HEAD.c.size)
    for _ in range(3):
        session.execute(statement)
    heard: list[str] = []

    def hear(_connection: object, _cursor: object, said: str, *_more: object) -> None:
        heard.append(said)

    engine = session.get_bind()
    for listened in (engine, session.connection()):
        event.listen(listened, "before_cursor_execute", hear)
        session.execute(statement)
        event.remove(listened, "before_cursor_execute", hear)
    assert len(heard) == 2


def test_a_lost_connection_is_replaced_for_the_next_who_asks(database: Database) -> None:
    """On SQLite there is none to lose: what is asked for there is a table that is not there."""
    statement = select(HEAD.c.size)
    for _ in range(3):
        with database.writing() as session:
            session.execute(statement)
    if database.is_sqlite:
        gone = text("SELECT * FROM none_of_ours WHERE 1 = :one")
        for _ in range(4):
            with pytest.raises(OperationalError), database.writing() as session:
                session.execute(gone, {"one": 1})
    else:
        with database.writing() as session, database.writing() as other:
            process = session.execute(select(func.pg_backend_pid())).scalar_one()
            other.execute(text("SELECT pg_terminate_backend(:process)"), {"process": process})
            with pytest.raises(OperationalError) as lost:
                session.execute(statement)
            assert lost.value.connection_invalidated
            session.rollback()
    for _ in range(2):
        with database.writing() as session:
            assert session.execute(statement).all() == []
