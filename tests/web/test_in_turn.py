"""Short changes of one study go one after the other in a process: whoever waits holds nothing, not even a thread."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from app.capture import actions
from app.foundation.database import Database
from tests.api.client import ApiClient, api_client
from tests.web.world import World

MANY = 60
"""More than there are threads for the requests of a process."""


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(MANY) as pool:
        yield pool


def waiting(client: ApiClient) -> int:
    """How many changes of the study wait for their turn."""
    lock = client.http.app.state.changes._locks.get(client.study)  # type: ignore[attr-defined]
    return 0 if lock is None else lock.statistics().tasks_waiting


def test_whoever_waits_is_in_line_and_pages_are_answered_meanwhile(world, clients, monkeypatch):
    people = [world.consented() for _ in range(3)]
    client = api_client(world.database, world.person("assessor"))
    client.get("/participants")  # when a token was last used is written down once in a while
    save, order = actions.save_entry, []
    inside, go_on = Event(), Event()

    def watched(session: Any, study: Any, participant: Any, **asked: Any) -> Any:
        order.append(participant.code)
        inside.set()
        assert go_on.wait(20)
        return save(session, study, participant, **asked)

    monkeypatch.setattr(actions, "save_entry", watched)

    def change(code: str) -> Future[Any]:
        path = f"/participants/{code}/visits/baseline/entries/pain"
        body = {"values": {"pain_nrs": 4, "pain_days": 3}}
        sent: Future[Any] = clients.submit(lambda: client.put(path, body))
        return sent

    first = change(people[0].code)
    assert inside.wait(20)
    others = []
    for number in range(1, MANY):
        others.append(change(people[number % 3].code))
        while waiting(client) < number:
            assert not others[-1].done(), others[-1].result().text
    assert client.get("/participants").status_code == 200
    go_on.set()
    assert {each.result().status_code for each in [first, *others]} == {200}
    assert order == [people[number % 3].code for number in range(MANY)]
