"""Is the document of the JSON doors there before somebody asks, and does nobody wait while it is made?"""

import threading
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from app import main
from app.foundation.database import Database
from tests.api.client import application_on
from tests.api.test_docs import served


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_it_is_made_a_while_after_the_start_and_no_more_once_the_server_ends(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    made = threading.Event()
    monkeypatch.setattr(main.Guarded, "openapi", lambda _self: made.set())
    monkeypatch.setattr(main, "DESCRIBED_AFTER", 0.0)
    with TestClient(application_on(database)):
        assert made.wait(20)
    made.clear()
    monkeypatch.setattr(main, "DESCRIBED_AFTER", 3600.0)
    with TestClient(application_on(database)):
        waiting = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
    assert waiting
    for each in waiting:
        each.join(20)
        assert not each.is_alive()
    assert not made.is_set()


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_pages_are_answered_while_it_is_made(database: Database, monkeypatch: pytest.MonkeyPatch):
    asked, may_end = threading.Event(), threading.Event()

    def slowly(_self: Any) -> dict[str, Any]:
        asked.set()
        assert may_end.wait(20)
        return {"openapi": "3.1.0"}

    monkeypatch.setattr(main.Guarded, "openapi", slowly)
    replies: list[Any] = []
    with served(application_on(database)) as address, httpx2.Client(timeout=20) as client:
        asking = threading.Thread(target=lambda: replies.append(client.get(f"{address}/api/v1/openapi.json")))
        asking.start()
        assert asked.wait(20)
        assert client.get(f"{address}/healthz").text == "ok"
        assert not replies
        may_end.set()
        asking.join(20)
    assert replies[0].json() == {"openapi": "3.1.0"}
