"""Appointments and reminders over REST: booked with warnings, moved under a version, and what a participant wants."""

from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine

from app.foundation.database import Database
from tests.api.client import ApiClient, api_client
from tests.capture.records import consented
from tests.factories import mini_study, person

PATH = "/participants/M-001/appointments"
WISH = {"visit": "week18", "day": "2026-07-06", "time": "14:00", "person": "assessor_north", "room": "Room 1"}


@pytest.fixture
def programs(shared_database: Database) -> Any:
    with time_machine.travel(datetime(2026, 7, 6, 1, 0, tzinfo=UTC), tick=False):
        with shared_database.writing() as session:
            study = mini_study(session)
            consented(session, study)
            consented(session, study, "M-002")
            actors = {
                role: person(session, study, role) for role in ("coordinator", "assessor", "clinician", "monitor")
            }
        yield lambda role="coordinator": api_client(shared_database, actors[role])


def test_an_appointment_is_booked_with_its_warnings_moved_and_cancelled(programs: Any) -> None:
    client: ApiClient = programs()
    made = client.post(PATH, WISH)
    assert made.status_code == 201
    body = made.json()
    assert (body["starts_at"], body["ends_at"]) == ("2026-07-06T04:00:00Z", "2026-07-06T05:00:00Z")
    assert (body["person"], body["sequence"], body["warnings"]) == ("assessor_north", 0, [])
    other = client.post("/participants/M-002/appointments", {**WISH, "visit": None, "purpose": "A rash"}).json()
    assert [warning.partition(" at that time")[0] for warning in other["warnings"]] == [
        "Assessor_North sees M-001",
        "Room 1 is taken",
    ]
    assert client.post(PATH, WISH).status_code == 409
    moved = client.put(f"{PATH}/1", {"day": "2026-07-07", "time": "09:30", "minutes": 30, "version": 1}).json()
    assert (moved["uid"], moved["sequence"], moved["version"]) == (body["uid"], 1, 2)
    assert client.post(f"{PATH}/1/cancellation", {"version": 1, "why": "Ill"}).status_code == 409
    assert client.post(f"{PATH}/1/outcome", {"version": 2, "status": "no_show"}).status_code == 409  # still to come
    assert client.post(f"{PATH}/1/cancellation", {"version": 2, "why": "Ill"}).json()["status"] == "cancelled"
    assert [row["status"] for row in client.rows(PATH)] == ["cancelled"]
    listed = client.rows("/appointments", params={"begins_at": "2026-07-01T00:00:00Z", "days": 10})
    assert [row["participant"] for row in listed] == ["M-002", "M-001"]


@pytest.mark.parametrize(
    "change",
    [
        {"time": "25:00"},
        {"time": "10:00:30"},
        {"day": "2026-10-04", "time": "02:30"},
        {"minutes": 2},
        {"visit": None},
        {"person": "nobody"},
        {"sort": "of"},
    ],
)
def test_what_cannot_be_booked_is_not_valid(programs: Any, change: dict[str, Any]) -> None:
    assert programs().post(PATH, {**WISH, **change}).status_code == 422


def test_a_blinded_program_learns_of_a_session_only_when_it_begins(programs: Any) -> None:
    session = {**WISH, "visit": "tx01", "person": "clinician_north", "room": "Laser room"}
    assert programs().post(PATH, session).status_code == 409
    assert programs("clinician").post(PATH, session).status_code == 201
    (row,) = programs("monitor").rows(PATH)
    assert (row["ends_at"], row["person"], row["room"]) == (None, None, None)
    assert row["starts_at"] == "2026-07-06T04:00:00Z"
    assert programs("monitor").post(PATH, WISH).status_code == 403


def test_what_a_participant_wants_and_what_was_sent(programs: Any) -> None:
    client, path = programs(), "/participants/M-001/reminders"
    assert client.get(path).json() == {"mail": True, "sms": True, "language": None, "timezone": None, "version": 0}
    said = {"mail": False, "sms": True, "language": "de", "version": 0}
    assert client.put(path, said).json()["version"] == 1
    assert client.put(path, {**said, "mail": True}).status_code == 409
    assert client.put(path, {**said, "version": 1, "timezone": "Mars"}).status_code == 422
    client.post(PATH, WISH)
    (message,) = client.get("/messages?state=waiting").json()["items"]
    assert (message["rule"], message["to_participant"], message["visit"]) == ("appointment", False, "week18")
    assert client.post(f"/messages/{message['id']}/resending", {"why": "x"}).status_code == 409
    assert programs("assessor").post(f"/messages/{message['id']}/resending", {"why": "x"}).status_code == 403
