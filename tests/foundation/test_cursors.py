"""PostgreSQL is asked with no cursor around it, and ahead of time: whoever asks cannot tell, but for the time."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from unittest import mock

import psycopg
import pytest
from psycopg import Cursor
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import dict_row
from sqlalchemy import Integer, bindparam, event, func, insert, literal, select, text
from sqlalchemy.exc import DataError, InternalError, OperationalError
from sqlmodel import Session

from app.audit.models import AuditHead
from app.foundation import cursors
from app.foundation.cursors import Prepared, QuickCursor, numbered
from app.foundation.database import Database, end, leave, soon, table_of, undo

HEAD = table_of(AuditHead)
SIZE_OF = select(HEAD.c.size).where(HEAD.c.log == bindparam("of_log"))
PLUS_ONE = select(literal(1) + bindparam("number", type_=Integer))
SHARE = select(literal(60) // bindparam("parts", type_=Integer))
LONG = select(func.pg_sleep(bindparam("seconds", type_=Integer)))


@pytest.fixture
def kind() -> str:
    """SQLite has a driver of its own."""
    return "postgres"


@pytest.fixture
def driver(database: Database) -> Iterator[Any]:
    """A connection as the driver has it, of those the engine makes."""
    with database.engine.connect() as connection:
        yield connection.connection.driver_connection


def plus_one(session: Session, number: int) -> int:
    return int(session.execute(PLUS_ONE, {"number": number}).scalar_one())


def share(session: Session, parts: int) -> int:
    return int(session.execute(SHARE, {"parts": parts}).scalar_one())


def pipeline(session: Session) -> Any:
    driver: Any = session.connection().connection.driver_connection
    return driver.pgconn.pipeline_status


@pytest.fixture
def known(database: Database) -> Database:
    """A database with one connection that has been asked all of this often enough to know it."""
    for _ in range(4):
        with database.reading() as session:
            plus_one(session, 1)
            share(session, 1)
            session.execute(SIZE_OF, {"of_log": "a"}).all()
            session.execute(LONG, {"seconds": 0}).all()
    return database


# A cursor


@pytest.mark.parametrize(
    ("said", "text", "names"),
    [
        ("SELECT %(a)s, %(b)s, %(a)s", b"SELECT $1, $2, $1", ("a", "b")),
        ("SELECT 5 %% 3, '%%(a)s', %(a)s", b"SELECT 5 % 3, '%(a)s', $1", ("a",)),
        ("SELECT '%%%(a)s'", b"SELECT '%$1'", ("a",)),
        ("SELECT %(a b)s::text, 'ä'", "SELECT $1::text, 'ä'".encode(), ("a b",)),
    ],
)
def test_values_are_numbered_as_postgresql_wants_them(said: str, text: bytes, names: tuple[str, ...]) -> None:
    assert numbered(said)[:2] == (text, names)


VALUES = (
    7,
    2**40,
    -1,
    1.5,
    Decimal("1.25"),
    "it's 100 %",
    "",
    None,
    True,
    b"\0\1",
    date(2026, 3, 14),
    datetime(2026, 3, 14, 9, 26, 53, 589793, tzinfo=UTC),
    [1, 2],
    ["a", None],
)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_from_the_drivers_own_cursor(driver: Any, value: object) -> None:
    for _ in range(cursors.PREPARED_FROM + 1):  # sent with its statement, and when that is prepared
        quick = driver.cursor().execute("SELECT %(it)s AS it, 1 AS one", {"it": value})
        usual = Cursor(driver).execute("SELECT %(it)s AS it, 1 AS one", {"it": value})
        assert type(quick) is QuickCursor
        described = list(quick.description or ())
        assert [column.name for column in described] == ["it", "one"]
        assert list(map(repr, described)) == list(map(repr, usual.description or ()))
        assert quick.rowcount == usual.rowcount == 1
        found, expected = quick.fetchall(), usual.fetchall()
        assert found == expected
        assert type(found[0][0]) is type(expected[0][0])


def test_rows_are_fetched_one_by_one_some_at_once_and_all_that_are_left(driver: Any) -> None:
    asked = ("SELECT n FROM generate_series(1, %(last)s) AS n", {"last": 9})
    quick = driver.cursor().execute(*asked)
    assert quick.fetchone() == (1,)
    assert quick.fetchmany(3) == [(2,), (3,), (4,)]
    assert quick.fetchmany() == [(5,)]
    assert quick.fetchall() == [(6,), (7,), (8,), (9,)]
    assert (quick.fetchone(), quick.fetchmany(2), quick.fetchall()) == (None, [], [])


def test_without_names_and_for_rows_of_another_shape_it_is_a_cursor_of_the_drivers(driver: Any) -> None:
    quick = driver.cursor()
    quick.execute("SELECT %(a)s", {"a": 1})
    assert quick.execute("SELECT 2").fetchall() == [(2,)]
    assert quick.execute("SELECT %s::int", [3]).fetchone() == (3,)
    assert (quick.rowcount, quick.fetchmany(5)) == (1, [])
    assert quick.execute("SELECT %(a)s::int", {"a": 4}).fetchone() == (4,)
    with driver.cursor(row_factory=dict_row) as named:
        assert named.execute("SELECT %(a)s::int AS it", {"a": 5}).fetchone() == {"it": 5}
    with driver.cursor("streamed") as streamed:
        assert streamed.execute("SELECT %(a)s::int", {"a": 6}).fetchall() == [(6,)]


def test_what_is_changed_is_counted(driver: Any) -> None:
    quick = driver.cursor()
    quick.execute("CREATE TEMPORARY TABLE kept (n int)")
    assert quick.execute("INSERT INTO kept SELECT generate_series(1, %(last)s)", {"last": 5}).rowcount == 5
    assert quick.execute("UPDATE kept SET n = n WHERE n > %(over)s", {"over": 3}).rowcount == 2
    assert quick.description is None
    assert quick.execute("DELETE FROM kept WHERE n > %(over)s RETURNING n", {"over": 4}).fetchall() == [(5,)]


@pytest.mark.parametrize("before", range(5))
def test_a_refusal_is_that_of_the_drivers_cursor(driver: Any, before: int) -> None:
    said = "SELECT 60 / %(parts)s::int"
    for parts in range(1, before + 1):
        driver.cursor().execute(said, {"parts": parts})
    with pytest.raises(psycopg.errors.DivisionByZero, match="division by zero") as refused:
        driver.cursor().execute(said, {"parts": 0})
    assert refused.value.sqlstate == "22012"
    assert driver.info.transaction_status is TransactionStatus.INERROR
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        driver.cursor().execute(said, {"parts": 1})
    driver.rollback()
    assert driver.cursor().execute(said, {"parts": 2}).fetchone() == (30,)


def test_a_value_that_cannot_be_sent_is_refused_and_harms_nothing(driver: Any) -> None:
    for wrong, refusal in (
        ("a\0b", psycopg.DataError),
        ("\udc80", UnicodeEncodeError),
        (object(), psycopg.ProgrammingError),
    ):
        with pytest.raises(refusal):
            driver.cursor().execute("SELECT %(it)s", {"it": wrong})
        assert driver.info.transaction_status is TransactionStatus.IDLE
    assert driver.cursor().execute("SELECT %(it)s", {"it": "b"}).fetchall() == [("b",)]


@pytest.mark.parametrize(
    ("reading", "stands"),
    [(False, ("read committed", "off")), (True, ("repeatable read", "on"))],
    ids=["writes", "reads"],
)
def test_a_transaction_is_begun_as_the_session_wants_it(
    database: Database, reading: bool, stands: tuple[str, str]
) -> None:
    asked = text("SELECT current_setting(:level), current_setting(:only)")
    with (database.reading if reading else database.writing)() as session:
        for _ in range(2):
            found = session.execute(asked, {"level": "transaction_isolation", "only": "transaction_read_only"}).one()
            assert tuple(found) == stands


def test_what_is_prepared_stands_after_a_rollback_and_makes_room_for_what_comes(
    driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepared() -> set[str]:
        found = Cursor(driver).execute("SELECT statement FROM pg_prepared_statements").fetchall()
        return {statement for (statement,) in found}

    def ask(number: int) -> None:
        for _ in range(cursors.PREPARED_FROM):
            assert driver.cursor().execute(f"SELECT {number} + %(more)s", {"more": 1}).fetchone() == (number + 1,)

    monkeypatch.setattr(cursors, "MOST_PREPARED", 3)
    before = prepared()
    for number in range(3):
        ask(number)
    driver.rollback()
    assert prepared() - before == {"SELECT 0 + $1", "SELECT 1 + $1", "SELECT 2 + $1"}
    driver.cursor().execute("SELECT 9 + %(more)s", {"more": 1})  # once is not worth it
    ask(3)
    assert prepared() - before == {"SELECT 1 + $1", "SELECT 2 + $1", "SELECT 3 + $1"}
    ask(0)
    assert prepared() - before == {"SELECT 2 + $1", "SELECT 3 + $1", "SELECT 0 + $1"}


# Ahead


def test_reads_that_are_begun_together_find_what_each_finds_by_itself(known: Database) -> None:
    with known.writing() as session:
        session.execute(insert(HEAD), {"log": "a", "size": 4, "frontier": b"", "root": b""})
    with known.reading() as session:
        begun = soon(session)
        first, half = begun(plus_one, session, 1), begun(share, session, 2)
        size = begun(lambda: session.execute(SIZE_OF, {"of_log": "a"}).scalar_one())
        none = begun(lambda: session.execute(SIZE_OF, {"of_log": "b"}).scalar())
        assert pipeline(session) == PipelineStatus.ON
        assert (half(), first(), none(), size()) == (30, 2, None, 4)  # in any order
        assert first() == 2  # and again
        assert plus_one(session, 5) == 6
        assert pipeline(session) == PipelineStatus.OFF


def test_it_is_sent_at_once_and_asked_no_second_time(known: Database) -> None:
    with known.reading() as session:
        called: list[str] = []

        def both() -> tuple[int, int]:
            called.append("begun")
            first = plus_one(session, 1)
            called.append("goes on")
            return first, share(session, first)

        found = soon(session)(both)
        assert called == ["begun"]
        with mock.patch.object(Prepared, "ask", autospec=True, side_effect=Prepared.ask) as asked:
            assert found() == (2, 30)
        assert called == ["begun", "begun", "goes on"]
        assert asked.call_count == 1  # the second of its questions


def test_what_is_streamed_meanwhile_is_read_as_ever(known: Database) -> None:
    with known.reading() as session:
        found = [soon(session)(plus_one, session, number) for number in range(3)]
        assert pipeline(session) == PipelineStatus.ON
        driver: Any = session.connection().connection
        with driver.cursor("streamed") as streamed:
            assert streamed.execute("SELECT generate_series(1, 3)").fetchmany(2) == [(1,), (2,)]
            assert [each() for each in found] == [1, 2, 3]
            assert streamed.fetchall() == [(3,)]
        assert soon(session)(plus_one, session, 4)() == 5
        assert pipeline(session) == PipelineStatus.OFF  # nothing else is on its way


def test_a_page_leaves_while_it_is_put_together_and_may_still_ask(known: Database) -> None:
    with known.reading() as session:
        first, second = (soon(session)(plus_one, session, number) for number in (1, 2))
        assert first() == 2
        leave(session)
        assert second() == 3
        assert plus_one(session, 3) == 4
        leave(session)
        driver: Any = session.connection().connection.driver_connection
    assert driver.info.transaction_status is TransactionStatus.IDLE
    with known.writing() as session:
        session.execute(insert(HEAD), {"log": "a", "size": 4, "frontier": b"", "root": b""})
        leave(session)  # one that writes stays
    with known.reading() as session:
        assert session.execute(SIZE_OF, {"of_log": "a"}).scalar_one() == 4


def test_a_read_that_asks_nothing_is_done_with_and_one_that_raises_raises_at_once(known: Database) -> None:
    def refuses(session: Session) -> int:
        raise ZeroDivisionError("not you")

    with known.reading() as session:
        assert soon(session)(lambda: 7)() == 7
        with pytest.raises(ZeroDivisionError, match="not you"):
            soon(session)(refuses, session)
        assert plus_one(session, 1) == 2


@pytest.mark.parametrize("wanted", [True, False], ids=["wanted", "not wanted"])
def test_one_that_fails_fails_where_it_is_wanted(known: Database, wanted: bool) -> None:
    with known.reading() as session:
        before, wrong, after = (soon(session)(share, session, parts) for parts in (2, 0, 3))
        assert before() == 30
        if wanted:
            with pytest.raises(DataError, match="division by zero"):
                wrong()
        with pytest.raises(InternalError, match="current transaction is aborted"):
            after()
        session.rollback() if pipeline(session) == PipelineStatus.OFF else undo(session)
    with known.reading() as session:
        assert share(session, 2) == 30


@pytest.mark.parametrize("leave", [end, undo, lambda _: None], ids=["ended", "undone", "left"])
def test_what_nobody_wanted_in_the_end_is_read_before_the_connection_goes_back(
    known: Database, leave: Callable[[Session], None]
) -> None:
    with known.reading() as session:
        driver: Any = session.connection().connection.driver_connection
        for number in range(50):
            soon(session)(plus_one, session, number)
        leave(session)
    assert driver.pgconn.pipeline_status == PipelineStatus.OFF
    assert driver.info.transaction_status is TransactionStatus.IDLE
    with known.reading() as session:
        assert session.connection().connection.driver_connection is driver
        assert plus_one(session, 7) == 8


def test_the_same_when_a_page_ends_in_an_error(known: Database) -> None:
    with suppress(ZeroDivisionError), known.reading() as session:
        soon(session)(plus_one, session, 1)
        _ = 1 / 0
    with known.reading() as session:
        assert plus_one(session, 7) == 8


def test_a_connection_that_is_lost_on_the_way_is_replaced_for_the_next_who_asks(known: Database) -> None:
    def lose() -> None:
        with known.writing() as other, known.reading() as session:
            process = session.execute(select(func.pg_backend_pid())).scalar_one()
            begun = soon(session)
            slow, then = begun(session.execute, LONG, {"seconds": 60}), begun(plus_one, session, 1)
            assert pipeline(session) == PipelineStatus.ON
            other.execute(text("SELECT pg_terminate_backend(:process)"), {"process": process})
            slow()
            then()

    with pytest.raises(OperationalError) as lost:
        lose()
    assert lost.value.connection_invalidated
    for _ in range(2):
        with known.reading() as session:
            assert plus_one(session, 1) == 2


def test_nothing_is_begun_in_a_session_that_writes(known: Database) -> None:
    with known.writing() as session:
        session.execute(insert(HEAD), {"log": "a", "size": 4, "frontier": b"", "root": b""})
        size = soon(session)(lambda: session.execute(SIZE_OF, {"of_log": "a"}).scalar_one())
        session.execute(HEAD.update().values(size=5))
        assert size() == 5  # as it is when somebody wants it


def test_whoever_listens_to_statements_hears_of_each_when_it_is_wanted(known: Database) -> None:
    heard: list[str] = []

    def hear(_connection: object, _cursor: object, said: str, *_more: object) -> None:
        heard.append(said)

    event.listen(known.engine, "before_cursor_execute", hear)
    with known.reading() as session:
        found = soon(session)(plus_one, session, 1)
        assert heard == []
        assert found() == found() == 2
        assert len(heard) == 1
    event.remove(known.engine, "before_cursor_execute", hear)
