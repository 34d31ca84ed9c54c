"""Is "saved" said only once it is? A commit that fails, and a log that cannot be written, leave nothing and say so."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from anyio import CancelScope
from anyio.from_thread import start_blocking_portal
from anyio.lowlevel import checkpoint
from sqlalchemy import select, text
from sqlmodel import SQLModel
from starlette.testclient import TestClient

from app import dependencies
from app.foundation.database import Database
from tests.durability.world import ANSWERS, History, World, build, check
from tests.factories import person
from tests.web.browser import anonymous_client, form_in, signed_in_client

pytestmark = pytest.mark.both_databases

API = "/api/v1/studies/mini/participants"
PAIN = {"pain_nrs": 5, "pain_days": 3, "pain_note": "Came late."}

# Both fail on the insert of an audit entry: at once, or only when the transaction is committed.
SQLITE = {
    "at once": ["CREATE TRIGGER broken AFTER INSERT ON audit_entry BEGIN SELECT RAISE(ABORT, 'broken'); END"],
    "at the commit": [
        "CREATE TABLE broken_row (entry INTEGER REFERENCES entry (id) DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TRIGGER broken AFTER INSERT ON audit_entry BEGIN INSERT INTO broken_row VALUES (-1); END",
    ],
}
FUNCTION = "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$"
POSTGRES = {
    "at once": [
        FUNCTION,
        "CREATE TRIGGER broken AFTER INSERT ON audit_entry FOR EACH ROW EXECUTE FUNCTION broken()",
    ],
    "at the commit": [
        FUNCTION,
        "CREATE CONSTRAINT TRIGGER broken AFTER INSERT ON audit_entry DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION broken()",
    ],
}


@contextmanager
def broken(database: Database, when: str) -> Iterator[None]:
    """A database whose log cannot be written, and that says so at once or only at the commit."""
    statements = (SQLITE if database.is_sqlite else POSTGRES)[when]
    with database.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    try:
        yield
    finally:
        mended = "DROP TRIGGER broken" + ("" if database.is_sqlite else " ON audit_entry")
        with database.engine.begin() as connection:
            connection.exec_driver_sql(mended)


def everything(database: Database) -> dict[str, tuple[int, str]]:
    """The number of rows of every table, and the hash of what they say."""
    found = {}
    with database.reading() as session:
        for table in SQLModel.metadata.sorted_tables:
            rows = session.execute(select(table).order_by(*table.primary_key.columns)).all()
            found[table.name] = (len(rows), hashlib.sha256(repr(rows).encode()).hexdigest())
    return found


Act = Callable[[TestClient, World], Any]


def save(client: TestClient, world: World) -> Any:
    return client.put(
        f"{API}/{world.filled[0]}/visits/week18/entries/pain", json={"values": PAIN}, headers=key(world, "assessor")
    )


def screen(client: TestClient, world: World) -> Any:
    return client.post(API, json={"site": "north", "answers": ANSWERS}, headers=key(world, "screener"))


def randomise(client: TestClient, world: World) -> Any:
    return client.post(f"{API}/{world.ready[0]}/randomise", headers=key(world, "first"))


def key(world: World, who: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {world.tokens[who]}", "Idempotency-Key": f"once by {who}"}


ACTS = {"save": save, "screen": screen, "randomise": randomise}


@pytest.mark.requirement("REL-3", "REL-5", "LOG-4")
@pytest.mark.parametrize("when", ["at once", "at the commit"])
@pytest.mark.parametrize("act", ACTS)
def test_nobody_is_told_saved_when_it_is_not(database: Database, act: str, when: str):
    world = build(database, filled=1, ready=2)
    client = anonymous_client(database)
    client = TestClient(client.app, base_url="http://trial.test", raise_server_exceptions=False)
    before = everything(database)
    with broken(database, when):
        reply = ACTS[act](client, world)
    assert reply.status_code == 500, reply.text
    assert "nothing was saved" in reply.json()["detail"]
    assert everything(database) == before
    # Mended, the same request with the same key is carried out, once.
    history = History()
    assert ACTS[act](client, world).status_code in (200, 201)
    again = ACTS[act](client, world)
    assert again.headers["idempotent-replay"] == "true"
    match act:
        case "save":
            history.saved[world.filled[0]].append(PAIN)
        case "screen":
            history.screened.append(again.json()["code"])
        case "randomise":
            history.allocated[world.ready[0]] = again.json()["allocation"]
    check(database, world, history)


@pytest.mark.requirement("REL-3", "REL-5", "LOG-4")
@pytest.mark.parametrize("when", ["at once", "at the commit"])
def test_a_form_is_not_answered_with_saved_when_it_is_not(database: Database, when: str):
    world = build(database, filled=1, ready=2)
    with database.writing() as session:
        assessor = person(session, world.study, "assessor", site_code="south", username="asha")
    browser = signed_in_client(database, assessor)
    browser.client = TestClient(
        browser.client.app, base_url="http://trial.test", raise_server_exceptions=False, cookies=browser.client.cookies
    )
    url = f"/mini/participants/{world.filled[0]}/visits/week18/entries/pain"
    fields = {**form_in(browser.soup(url), url), **{name: str(value) for name, value in PAIN.items()}}
    fields |= {"visit-held-on": "2026-07-06", "visit-reason": ""}
    before = everything(database)
    with broken(database, when):
        reply = browser.send(url, fields)
    assert reply.status_code == 500, reply.text
    assert "location" not in reply.headers
    assert everything(database) == before
    assert browser.send(url, fields).status_code == 303
    history = History()
    history.saved[world.filled[0]].append(PAIN)
    check(database, world, history)


@pytest.mark.requirement("REL-3")
@pytest.mark.parametrize("act", ACTS)
def test_a_change_is_committed_where_it_was_made(database: Database, act: str, monkeypatch: pytest.MonkeyPatch):
    """Whoever waits for its rows does not wait for the event loop's next turn: nothing is left for another thread."""
    world = build(database, filled=1, ready=2)
    monkeypatch.setattr(dependencies, "run_in_threadpool", mock.Mock(side_effect=AssertionError("left to the end")))
    assert ACTS[act](anonymous_client(database), world).is_success


@pytest.mark.requirement("REL-3")
def test_whoever_goes_away_leaves_nothing_open(database: Database):
    """The transaction of a request that was given up is rolled back at once: nobody waits for what it held."""

    async def given_up() -> None:
        with CancelScope() as scope:
            async with dependencies._lent(database.writing()) as session:
                session.execute(text("SELECT 1"))
                scope.cancel()
                await checkpoint()
        assert scope.cancelled_caught

    with start_blocking_portal() as thread:  # a browser of another test may have a loop of its own in this one
        thread.call(given_up)
    assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
