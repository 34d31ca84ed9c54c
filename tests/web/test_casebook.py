"""A participant's own copy: all that is kept of them, who they are, and nothing of the arm they are in."""

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlmodel import Session

from app import own_copy
from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.capture.reads import entries_with_values
from app.foundation.database import table_of
from app.participants.models import Identity
from tests.api.client import api_client
from tests.safety.world import SAFETY
from tests.web.test_participants import LIST
from tests.web.test_safety import reported
from tests.web.world import World


@pytest.fixture
def world(shared_database: Any) -> World:
    return World(shared_database)


def unpacked(body: bytes) -> tuple[bytes, dict[str, Any]]:
    with zipfile.ZipFile(io.BytesIO(body)) as files:
        assert files.namelist() == ["casebook.pdf", "data.json"]
        return files.read("casebook.pdf"), json.loads(files.read("data.json"))


@pytest.mark.requirement("GDPR-8", "P11-b")
def test_a_participant_gets_a_copy_of_everything_but_the_arm(world):
    participant = world.filled()
    coordinator = world.coordinator()
    page = f"{LIST}/{participant.code}/casebook"
    link = coordinator.soup(page).find("a", href=f"{LIST}/{participant.code}/own-copy.zip")
    reply = coordinator.get(str(link["href"]))
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/zip")
    book, data = unpacked(reply.content)
    assert book.startswith(b"%PDF")
    with world.database.reading() as session:
        stored = entries_with_values(session, participant.id)
        log = select(AUDIT_ENTRY.c.action).where(AUDIT_ENTRY.c.participant == participant.code)
        logged = list(session.execute(log.order_by(AUDIT_ENTRY.c.position)).scalars())
    assert stored
    assert {
        (each["visit"], each["form"], each["repeat"]): {one["item"]: one["value"] for one in each["answers"]}
        for each in data["entries"]
    } == {(each.visit, each.instrument, each.repeat): dict(each.values) for each in stored}
    assert data["personal_data"]["family_name"]
    assert data["status"] == participant.status
    assert {"visit", "label"} <= {"visit", *data["visits"][0]}
    assert logged[-2:] == ["identity.shown", "participant.copied"]
    said = json.dumps(data)
    assert not [arm for arm in world.study.definition.arms if arm.label in said or f'"{arm.code}"' in said]

    # The same over REST; nobody who must not know who it is gets it; what was erased is not there any more.
    again = api_client(world.database, coordinator.actor).get(f"/participants/{participant.code}/own-copy.zip")
    assert {**unpacked(again.content)[1], "made_at": ""} == {**data, "made_at": ""}
    for role in ("assessor", "data_manager", "monitor"):
        assert world.browser(role).get(f"{LIST}/{participant.code}/own-copy.zip").status_code == 403, role
        assert "own-copy" not in world.browser(role).get(page).text
    with world.database.writing() as session:
        session.execute(update(table_of(Identity)).values(wrapped_key=None))
    assert unpacked(coordinator.get(f"{LIST}/{participant.code}/own-copy.zip").content)[1]["personal_data"] is None


def test_nobody_who_writes_waits_while_a_copy_is_printed(world, monkeypatch):
    participant = world.filled()
    coordinator = world.coordinator()
    writers: list[Session] = []
    printed = []
    writing = world.database.writing

    @contextmanager
    def seen_writing() -> Iterator[Session]:
        with writing() as session:
            writers.append(session)
            yield session

    def printing(session: Session, *_: Any, **__: Any) -> bytes:
        printed.append((session in writers, any(each.in_transaction() for each in writers)))
        return b"%PDF"

    monkeypatch.setattr(world.database, "writing", seen_writing)
    monkeypatch.setattr(own_copy, "casebook_of", printing)
    address = f"/participants/{participant.code}/own-copy.zip"
    rest = api_client(world.database, coordinator.actor)
    for reply in (coordinator.get(f"{LIST}/{participant.code}/own-copy.zip"), rest.get(address)):
        assert unpacked(reply.content)[0] == b"%PDF"
    assert printed == [(False, False)] * 2
    assert len(writers) >= 2


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_copy_has_every_event_however_many_there_are(shared_database, monkeypatch):
    world = World(shared_database, safety=SAFETY)
    world.consented()
    coordinator = world.coordinator()
    for term in ("Fall", "Cough", "Fever"):
        reported(world, coordinator, term=term)
    monkeypatch.setattr(own_copy, "EVENTS", 2)
    _, data = unpacked(coordinator.get(f"{LIST}/M-001/own-copy.zip").content)
    assert [each["term"] for each in data["adverse_events"]] == ["Fall", "Cough", "Fever"]
