"""Does "committed" mean "kept"? The settings of every SQLite connection, and of a PostgreSQL that would be refused."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Select, column, create_engine, event, select, table, text
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from app.foundation.database import Database, UnsafeDatabase, streamed
from app.main import create_app
from app.settings import Settings
from tests.conftest import KEYS, ROOT
from tests.postgres import server as postgres

WANTED = {
    "journal_mode": "wal",
    "synchronous": 2,
    "foreign_keys": 1,
    "busy_timeout": 20000,
    "secure_delete": 1,
    "recursive_triggers": 1,
}


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'equipoise.db'}", KEYS)
    yield database
    database.dispose()


@pytest.mark.requirement("REL-10")
def test_every_sqlite_connection_is_durable_and_guarded(embedded: Database):
    with ExitStack() as opened:  # all at once, so that the pool hands out a new connection for each
        sessions = [opened.enter_context(embedded.reading()) for _ in range(25)]
        sessions += [opened.enter_context(embedded.writing())]
        raw = {id(session.connection().connection.driver_connection) for session in sessions}
        assert len(raw) == 26
        for session in sessions:
            for pragma, value in WANTED.items():
                assert session.execute(text(f"PRAGMA {pragma}")).scalar_one() == value, pragma


@pytest.mark.requirement("REL-10")
def test_a_writing_session_takes_the_lock_before_it_reads(embedded: Database):
    said: list[str] = []
    event.listen(embedded.engine, "before_cursor_execute", lambda _c, _k, statement, *_: said.append(statement))
    with embedded.reading() as session:
        session.execute(text("SELECT 1"))
    assert said.pop(0) == "BEGIN"
    said.clear()
    with embedded.writing() as session:
        session.execute(text("SELECT 1"))
        assert said[0] == "BEGIN IMMEDIATE"
        other = Database(embedded.url.render_as_string(), KEYS)
        with other.engine.connect().execution_options(reading=True) as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout=50")
            connection.exec_driver_sql("CREATE TEMP TABLE mine (a)")
            with pytest.raises(OperationalError, match="locked"):
                connection.exec_driver_sql("CREATE TABLE yours (a)")
        other.dispose()


@pytest.mark.requirement("REL-10")
def test_two_who_read_and_then_write_lose_nothing(embedded: Database):
    with embedded.writing() as session:
        session.execute(text("CREATE TABLE counter (value INTEGER)"))
        session.execute(text("INSERT INTO counter VALUES (0)"))

    def count() -> None:
        for _ in range(25):
            with embedded.writing() as session:
                value = session.execute(text("SELECT value FROM counter")).scalar_one()
                session.execute(text("UPDATE counter SET value = :value"), {"value": value + 1})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with embedded.reading() as session:
        assert session.execute(text("SELECT value FROM counter")).scalar_one() == 100


@pytest.fixture(scope="module")
def durable() -> Iterator[str]:
    """The address of a PostgreSQL as it is installed."""
    with postgres(durable=True) as address:
        yield address.format(name="postgres")


@contextmanager
def setting(address: str, name: str, value: str) -> Iterator[None]:
    """One setting of the server, changed for a while."""
    engine = create_engine(address, isolation_level="AUTOCOMMIT")

    def say(*statements: str) -> None:
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    say(f"ALTER SYSTEM SET {name} = '{value}'", "SELECT pg_reload_conf()", "SELECT pg_sleep(0.3)")
    try:
        yield
    finally:
        say(f"ALTER SYSTEM RESET {name}", "SELECT pg_reload_conf()", "SELECT pg_sleep(0.3)")
        engine.dispose()


@pytest.mark.requirement("REL-12")
@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit"])
def test_nothing_starts_on_a_postgresql_that_may_lose_a_commit(durable: str, name: str, tmp_path: Path):
    with setting(durable, name, "off"):
        database = Database(durable, KEYS)
        application = create_app(Settings(data=tmp_path, secure_cookies=False), database)
        with pytest.raises(UnsafeDatabase, match=f"{name}=off.*Set {name}=on"), TestClient(application):
            pass
        database.dispose()


@pytest.mark.requirement("REL-12")
@pytest.mark.parametrize("value", ["on", "remote_write", "remote_apply", "local"])
def test_a_postgresql_that_keeps_what_it_commits_is_accepted(durable: str, value: str):
    with setting(durable, "synchronous_commit", value):
        database = Database(durable, KEYS)
        database.refuse_unsafe_settings()
        database.dispose()


@pytest.mark.requirement("REL-10")
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_reader_that_stopped_half_way_leaves_no_old_snapshot_behind(database: Database):
    """The preview of an export looks at ten rows of many; whoever gets its connection next must read the present."""
    with database.writing() as session:
        session.execute(text("CREATE TABLE thing (number INTEGER)"))
        session.execute(text("INSERT INTO thing VALUES (1), (2), (3)"))
    things: Select[Any] = select(column("number")).select_from(table("thing"))
    half_way = []
    with database.reading() as session:
        reading = streamed(session, things, batch=1)
        next(reading)
        half_way.append(reading)  # somebody still holds on to it, as a page that is being rendered does
    elsewhere = Database(database.url.render_as_string(hide_password=False), KEYS)
    with elsewhere.writing() as session:
        session.execute(text("INSERT INTO thing VALUES (4)"))
    elsewhere.dispose()
    for _ in range(3):
        with database.writing() as session:
            session.execute(text("INSERT INTO thing VALUES (5)"))
        with database.reading() as session:
            assert session.execute(text("SELECT max(number) FROM thing")).scalar_one() == 5
    assert half_way


def test_results_are_streamed_in_one_way_only():
    """`streamed` is what closes them in time."""
    elsewhere = [
        path for path in (ROOT / "app").rglob("*.py") if "yield_per" in path.read_text() and path.name != "database.py"
    ]
    assert elsewhere == []


@pytest.mark.requirement("SEC-40")
@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_nothing_is_said_in_the_clear_to_a_server_that_offers_no_tls(mode: str):
    """Where the address asks for TLS, as docs/operating.md says it should: no name, no password, no statement."""
    heard: list[bytes] = []

    def refuse() -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            heard.append(connection.recv(8))
            connection.sendall(b"N")  # no TLS here
            heard.append(connection.recv(1000))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=refuse)
        server.start()
        address = f"postgresql://user:secret@127.0.0.1:{listening.getsockname()[1]}/equipoise?sslmode={mode}"
        database = Database(address, KEYS)
        with pytest.raises(OperationalError, match=r"(?i)ssl|certificate"), database.reading() as session:
            session.execute(text("SELECT 1"))
        socket.create_connection(listening.getsockname()).close()  # whoever trusts nobody did not even call
        server.join()
    database.dispose()
    assert b"".join(heard) in (b"", bytes.fromhex("0000000804d2162f")), "it asks for TLS (SSLRequest), and goes"
