"""What happens when there is no room, nothing may be written, or nothing more can be opened? An error, and no loss."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import create_engine, event
from starlette.testclient import TestClient

from app.foundation.database import Database
from tests.durability.test_commit import API, PAIN, everything, key
from tests.durability.world import History, World, build, check
from tests.web.browser import anonymous_client

FULL = (
    "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$",
    "CREATE TRIGGER full_disk AFTER INSERT ON audit_entry FOR EACH ROW EXECUTE FUNCTION full_disk()",
)


@contextmanager
def limited(which: int, most: int) -> Iterator[None]:
    """This process may have no more of something."""
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (soft, hard))


@contextmanager
def said(database: Database, before: tuple[str, ...], after: tuple[str, ...]) -> Iterator[None]:
    """Statements to a server, from outside of the database, or in it."""
    engine = create_engine(database.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    inside = create_engine(database.url, isolation_level="AUTOCOMMIT")

    def say(statements: tuple[str, ...]) -> None:
        for each in statements:
            with (engine if each.startswith("ALTER DATABASE") else inside).connect() as connection:
                connection.exec_driver_sql(each)

    say(before)
    try:
        yield
    finally:
        say(after)
        engine.dispose()
        inside.dispose()


@contextmanager
def no_room(database: Database) -> Iterator[None]:
    """The disk is full: the log of the database cannot grow."""
    if database.is_sqlite:
        with database.engine.connect() as connection:
            connection.rollback()
            connection.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with limited(resource.RLIMIT_FSIZE, 20_000):  # four pages
            yield
    else:
        with said(database, FULL, ("DROP TRIGGER full_disk ON audit_entry", "DROP FUNCTION full_disk")):
            yield


@contextmanager
def only_to_read(database: Database) -> Iterator[None]:
    """The file system, or the server, lets nobody write."""

    def read_only(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    name = database.url.database
    setting = "default_transaction_read_only"
    database.dispose()
    if database.is_sqlite:
        event.listen(database.engine, "connect", read_only)
        try:
            yield
        finally:
            event.remove(database.engine, "connect", read_only)
    else:
        to = (f'ALTER DATABASE "{name}" SET {setting} = on',)
        with said(database, to, (f'ALTER DATABASE "{name}" RESET {setting}',)):
            yield
    database.dispose()


@contextmanager
def nothing_more_to_open(database: Database) -> Iterator[None]:
    """Every file descriptor of the process is taken, and no connection is open."""
    database.dispose()
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    with limited(resource.RLIMIT_NOFILE, free):
        yield


WAYS: tuple[Callable[[Database], Any], ...] = (no_room, only_to_read, nothing_more_to_open)


def randomise(client: TestClient, world: World, number: int) -> Any:
    sent = {**key(world, "first"), "Idempotency-Key": f"the {number}th"}
    return client.post(f"{API}/{world.ready[number]}/randomise", headers=sent)


def save(client: TestClient, world: World, number: int) -> Any:
    sent = {**key(world, "assessor"), "Idempotency-Key": f"the {number}th"}
    path = f"{API}/{world.filled[number]}/visits/week18/entries/pain"
    return client.put(path, json={"values": PAIN}, headers=sent)


@pytest.mark.requirement("REL-15", "REL-3", "REL-5", "SEC-47")
def test_whatever_runs_out_is_an_error_in_words_and_nothing_is_lost(database: Database) -> None:
    world, history = build(database, filled=len(WAYS), ready=len(WAYS)), History()
    client = anonymous_client(database)
    client = TestClient(client.app, base_url="http://trial.test", raise_server_exceptions=False)
    for number, way in enumerate(WAYS):
        before = everything(database)
        with way(database):
            replies = [randomise(client, world, number), save(client, world, number)]
        for reply in replies:
            assert reply.status_code == 500, (way.__name__, reply.text)
            assert "nothing was saved" in reply.json()["detail"]
        assert everything(database) == before, way.__name__
        # It is mended, and the same requests are carried out once, in the order in which they come.
        done = randomise(client, world, number)
        assert done.status_code == 201, (way.__name__, done.text)
        assert save(client, world, number).is_success
        assert randomise(client, world, number).json() == done.json()
        history.allocated[world.ready[number]] = done.json()["allocation"]
        history.saved[world.filled[number]].append(PAIN)
    assert list(history.allocated.values()) == [1, 2, 3]
    check(database, world, history)
