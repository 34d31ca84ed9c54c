"""The sign-in page: strangers never hold up those who work, whatever they send."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy import func, select, text

from app.audit.actions import ENTRY
from app.foundation.crypto import secrets
from app.foundation.database import Database
from app.people.actions import proving
from app.people.reads import ATTEMPT, PERSON
from tests.api.client import api_client
from tests.web.browser import PASSWORD, anonymous_client, signed_in_client
from tests.web.world import World

SIGN_IN = "/sign-in"


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def _nobody_waits(database: Database) -> None:
    """Every row of people can be taken by somebody else at this moment, without waiting."""
    if database.is_sqlite:
        other = sqlite3.connect(str(database.url.database), timeout=0, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.close()
    else:
        with database.engine.begin() as connection:
            connection.execute(text("SELECT id FROM person FOR UPDATE NOWAIT"))


@contextmanager
def weighing(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]) -> Iterator[list[str | None]]:
    """What is weighed while the block runs; `meanwhile` is done during the first."""
    weighed: list[str | None] = []
    matches = secrets.password_matches

    def watched(stored: str | None, password: str) -> bool:
        weighed.append(stored)
        if len(weighed) == 1:
            meanwhile()
        return matches(stored, password)

    with monkeypatch.context() as patch:
        patch.setattr(proving, "password_matches", watched)
        yield weighed


@pytest.mark.parametrize("study", ["mini", "no_such_study"])
def test_whoever_is_not_signed_in_is_not_told_that_an_address_is_not_valid(world, study):
    stranger, page = anonymous_client(world.database), f"/{study}/queries/no-number"
    asked = stranger.get(page, follow_redirects=False)
    assert (asked.status_code, asked.headers["location"].split("?")[0]) == (303, SIGN_IN)
    sent = stranger.post(f"{page}/answer", data={"text": "Typed."}, follow_redirects=False)
    assert (sent.status_code, sent.headers["location"].split("?")[0]) == (303, SIGN_IN)
    known = signed_in_client(world.database, world.person("data_manager"))
    assert known.get(page).status_code == 404


@pytest.mark.requirement("SEC-25", "SEC-31")
@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
@pytest.mark.parametrize("username", ["known", "nobody", "\x00"])
def test_nothing_is_held_while_a_sign_in_is_weighed(world, monkeypatch, username, password):
    actor = world.person("coordinator")
    signed_in_client(world.database, actor)  # gives them PASSWORD
    username = actor.username if username == "known" else username
    client = anonymous_client(world.database)
    with weighing(monkeypatch, lambda: _nobody_waits(world.database)) as weighed:
        reply = client.post(SIGN_IN, data={"username": username, "password": password}, follow_redirects=False)
    right = username == actor.username and password == PASSWORD
    assert (reply.status_code, len(weighed)) == (303 if right else 401, 1)


@pytest.mark.requirement("SEC-35", "P11-200i")
@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("/account/second-factor", {}),
        ("/account/second-factor/remove", {"code": "123456"}),
        ("/account/password", {"new_password": "short", "new_password_again": "short"}),
    ],
)
@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
def test_nothing_is_held_while_a_password_is_weighed_again(world, monkeypatch, action, fields, password):
    browser = world.browser("assessor")
    sent = {**browser.form("/account", "/account/second-factor"), **fields, "password": password}
    with weighing(monkeypatch, lambda: _nobody_waits(world.database)) as weighed:
        reply = browser.send(action, sent)
    assert (reply.status_code < 500, len(weighed)) == (True, 1)


@pytest.mark.requirement("SEC-35", "P11-200i")
@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
def test_nothing_is_held_while_a_signature_over_rest_is_weighed(world, monkeypatch, password):
    participant = world.filled()
    client = api_client(world.database, world.person("assessor"))
    path = f"/participants/{participant.code}/visits/baseline/entries/pain/signature"
    with weighing(monkeypatch, lambda: _nobody_waits(world.database)) as weighed:
        reply = client.post(path, {"version": 1, "password": password})
    assert (reply.status_code, len(weighed)) == (200 if password == PASSWORD else 422, 1), reply.text


@pytest.mark.requirement("SEC-25", "P11-300d")
def test_what_was_weighed_before_counts_only_while_the_password_stays_and_nobody_waits(world, monkeypatch):
    """Between the two looks somebody changes the password, or guesses it away: the second look decides."""
    actor = world.person("coordinator")
    signed_in_client(world.database, actor)
    client = anonymous_client(world.database)

    def changed() -> None:
        with world.database.writing() as session:
            session.execute(PERSON.update().where(PERSON.c.id == actor.person_id).values(password_hash=None))

    with weighing(monkeypatch, changed) as weighed:
        reply = client.post(SIGN_IN, data={"username": actor.username, "password": PASSWORD}, follow_redirects=False)
    assert (reply.status_code, len(weighed)) == (401, 2)

    signed_in_client(world.database, actor)

    def guessed() -> None:
        from app.foundation import clock

        row = {"username": actor.username, "address": "", "at": clock.now(), "succeeded": False}
        with world.database.writing() as session:
            session.execute(ATTEMPT.insert(), [row] * 5)

    with weighing(monkeypatch, guessed) as weighed:
        reply = client.post(SIGN_IN, data={"username": actor.username, "password": PASSWORD}, follow_redirects=False)
    assert (reply.status_code, len(weighed)) == (401, 1)
    assert "Too many attempts" in reply.text


@pytest.mark.requirement("SEC-25")
def test_only_so_many_passwords_are_weighed_at_once(monkeypatch):
    begun, go_on, done = [Event() for _ in range(proving.HASHES_AT_ONCE)], Event(), []
    waiting = iter(begun)

    def held(*_: Any) -> bool:
        next(waiting).set()
        assert go_on.wait(20)
        return False

    monkeypatch.setattr(proving, "password_matches", held)
    threads = [Thread(target=lambda: done.append(proving.weigh(None, "guess"))) for _ in begun]
    for thread in threads:
        thread.start()
    assert all(event.wait(20) for event in begun)
    assert not proving._hashing.acquire(blocking=False)  # one more waits
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert len(done) == proving.HASHES_AT_ONCE
    assert proving._hashing.acquire(blocking=False)  # and now need not
    proving._hashing.release()


@pytest.mark.requirement("SEC-25", "FDA-10")
@pytest.mark.parametrize("username", ["known", "nobody"])
def test_an_attempt_that_must_wait_writes_nothing_and_waits_for_no_lock(world, username):
    actor = world.person("coordinator")
    signed_in_client(world.database, actor)
    client = anonymous_client(world.database)
    sent = {"username": actor.username if username == "known" else username, "password": "wrong"}

    def kept() -> list[Any]:
        with world.database.reading() as session:
            rows = [session.execute(select(func.count()).select_from(table)).scalar() for table in (ATTEMPT, ENTRY)]
            throttled = session.execute(select(ENTRY.c.action).where(ENTRY.c.action == "sign_in.throttled")).all()
            return [*rows, len(throttled)]

    for _ in range(5):
        assert "is not right" in client.post(SIGN_IN, data=sent).text
    before = kept()
    assert before[-1] == 1  # the wait, written down when it began
    with world.database.writing() as session:  # somebody works, and takes their time
        session.execute(PERSON.update().values(organisation=PERSON.c.organisation))
        replies = [client.post(SIGN_IN, data={**sent, "password": password}) for password in ("wrong", PASSWORD)]
    assert [("Too many attempts" in reply.text, reply.status_code) for reply in replies] == [(True, 401)] * 2
    assert kept() == before
