"""Sessions: a statement about tables goes to the connection as it is; what comes after comes once it is kept."""

from contextlib import suppress

from psycopg import Cursor
from sqlalchemy import literal, select
from sqlmodel import Session

from app.audit.models import AuditHead
from app.foundation.cursors import QuickCursor
from app.foundation.database import Database, afterwards, end, soon, table_of, undo

HEAD = table_of(AuditHead)


def test_a_statement_about_tables_sees_what_waits_to_be_stored(session: Session) -> None:
    session.add(AuditHead(log="waiting", size=7, frontier=b"", root=b""))
    assert session.execute(select(HEAD.c.size).where(HEAD.c.log == "waiting")).scalar_one() == 7


def test_a_statement_about_models_gives_the_very_ones_the_session_has(session: Session) -> None:
    waiting = AuditHead(log="waiting", size=7, frontier=b"", root=b"")
    session.add(waiting)
    assert session.execute(select(AuditHead).where(HEAD.c.log == "waiting")).scalar_one() is waiting


def test_what_comes_afterwards_comes_once_and_when_others_see_what_was_changed(database: Database) -> None:
    seen: list[int] = []

    def look() -> None:
        with database.reading() as other:
            seen.append(len(other.execute(select(HEAD.c.log)).all()))

    with database.writing() as session:
        session.add(AuditHead(log="kept", size=7, frontier=b"", root=b""))
        afterwards(session, look)
        assert seen == []
        end(session)  # where it was used, and again when its block ends
        assert seen == [1]
    assert seen == [1]
    with database.writing() as session:
        afterwards(session, look)
    assert seen == [1, 1]


def test_nothing_comes_after_what_is_undone(database: Database) -> None:
    seen: list[str] = []
    with database.writing() as session:
        afterwards(session, lambda: seen.append("undone"))
        undo(session)
    with suppress(ZeroDivisionError), database.writing() as session:
        afterwards(session, lambda: seen.append("failed"))
        _ = 1 / 0
    assert seen == []


def test_a_read_that_is_begun_finds_what_it_would_find_by_itself(database: Database) -> None:
    called: list[int] = []

    def plus_one(number: int) -> int:
        called.append(number)
        return int(session.execute(select(literal(number) + 1)).scalar_one())

    with database.reading() as session:
        found = soon(session)(plus_one, 1)
        assert found() == found() == 2
    assert called in ([1], [1, 1])
    with database.writing() as session:
        assert soon(session)(plus_one, 2)() == 3


def test_columns_are_described_as_the_driver_does(database: Database) -> None:
    if database.is_sqlite:
        database.dispose()
        return
    with database.engine.connect() as connection:
        found = connection.connection.driver_connection
        assert found is not None
        quick, usual = found.cursor(), Cursor(found)
        assert type(quick) is QuickCursor
        assert quick.description is None
        for statement, names in (
            ("SELECT 7 AS seven, 'x' AS letter, NULL::timestamptz AS never", ["seven", "letter", "never"]),
            ("SELECT", []),
            ("SET LOCAL work_mem = '5MB'", []),
        ):
            described, as_usual = [cursor.execute(statement).description for cursor in (quick, usual)]
            assert [column.name for column in described or ()] == names
            assert list(map(repr, described or ())) == list(map(repr, as_usual or ()))
            assert bool(described) == bool(as_usual)
        assert connection.execute(select(literal(7).label("seven"))).mappings().one() == {"seven": 7}
