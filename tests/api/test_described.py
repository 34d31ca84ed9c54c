"""Is the document of the JSON doors there before somebody asks, and does nobody wait while it is made?"""

import json
import shutil
import subprocess
import sys
import threading
from typing import Any, cast
from unittest import mock
from unittest.mock import Mock

import httpx2
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app import installation, main
from app.foundation.database import Database
from app.settings import Settings
from tests.api.client import application_on
from tests.api.test_docs import served


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_it_is_made_a_while_after_the_start_and_no_more_once_the_server_ends(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    made = threading.Event()
    monkeypatch.setattr(main.Guarded, "describe_elsewhere", lambda _self: made.set())
    settings = Settings(secure_cookies=False)
    with TestClient(main.create_app(settings, database, described_after=0.0)):
        assert made.wait(20)
    made.clear()
    with TestClient(main.create_app(settings, database, described_after=3600.0)):
        waiting = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
    assert waiting
    for each in waiting:
        each.join(20)
        assert not each.is_alive()
    assert not made.is_set()


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_another_process_makes_the_same(database: Database, monkeypatch: pytest.MonkeyPatch):
    application = cast(main.Guarded, application_on(database))
    here = application.openapi()
    monkeypatch.setattr(main, "DOCUMENT", {})
    application.describe_elsewhere()
    assert json.loads(json.dumps(here)) == main.DOCUMENT
    with mock.patch.object(FastAPI, "openapi", side_effect=AssertionError("made once more")):
        assert application.openapi() is main.DOCUMENT


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_one_that_does_not_come_to_its_end_leaves_it_to_whoever_asks(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    application = cast(main.Guarded, application_on(database))
    monkeypatch.setattr(main, "DOCUMENT", {})
    monkeypatch.setattr(sys, "executable", shutil.which("sleep"))  # it refuses what it is told
    application.describe_elsewhere()
    assert not main.DOCUMENT
    monkeypatch.setattr(FastAPI, "openapi", lambda _self: {"openapi": "3.1.0"})
    assert application.openapi() == {"openapi": "3.1.0"}


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_one_that_is_still_at_it_ends_with_the_server(database: Database, monkeypatch: pytest.MonkeyPatch):
    begun, ended = threading.Event(), threading.Event()
    start = subprocess.Popen

    def started(_command: list[str], **options: Any) -> Any:
        process = start(["sleep", "600"], **options)
        begun.set()
        return process

    describe = main.Guarded.describe_elsewhere

    def described(self: main.Guarded) -> None:
        describe(self)
        ended.set()

    monkeypatch.setattr(main, "DOCUMENT", {})
    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(main.Guarded, "describe_elsewhere", described)
    with TestClient(main.create_app(Settings(secure_cookies=False), database, described_after=0.0)):
        assert begun.wait(20)
        assert not ended.is_set()
    assert ended.wait(20)
    assert not main.DOCUMENT


def test_a_server_makes_it_by_itself(monkeypatch: pytest.MonkeyPatch):
    given: dict[str, Any] = {}
    monkeypatch.setattr(main, "create_app", lambda *_, **options: given.update(options))
    monkeypatch.setattr(installation, "open_database", lambda _: None)
    monkeypatch.setattr(installation, "gc", Mock())  # that of the tests stays as it is
    installation.application()
    assert given == {"described_after": installation.DESCRIBED_AFTER}


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
