"""Files in fields of type file: kept sealed, shown again with their name, taken out; by each client's encoding."""

import io
from typing import Any

import pytest
from sqlmodel import select

from app.foundation.database import Database
from app.participants.identity import new_identity
from app.participants.models import Participant
from app.participants.rules import PersonalData
from tests.api.redcap.world import World, build, changes
from tests.capture.records import plan_visit

WEEK = "week_18_arm_1"
SCAN: dict[str, Any] = {
    "code": "scan",
    "label": "Scan",
    "source": "test",
    "sections": [
        {
            "items": [
                {"code": "scan_note", "label": "Note", "type": "text", "required": False},
                {"code": "scan_file", "label": "File", "type": "file", "required": False, "kinds": ["text", "pdf"]},
                {"code": "scan_at", "label": "When", "type": "date_time", "required": False},
            ]
        }
    ],
}


def build_with_files(database: Database, *, repeats: bool, unscheduled: Any = ()) -> World:
    """The study with a form that asks for a file, and somebody whose files can be sealed."""
    more = changes(repeats=repeats)
    more["visits"] = [*more["visits"][:-1], {**more["visits"][-1], "label": "Week 18"}]
    more["visits"][-1]["instruments"] = [*more["visits"][-1]["instruments"], "scan"]
    more["instruments"] = [*more["instruments"], SCAN]
    if unscheduled:
        more["unscheduled"] = {"label": "Extra visit", "instruments": unscheduled}
    built = build(database, repeats=repeats, **more)
    with database.writing() as session:
        two = session.exec(select(Participant).where(Participant.code == "M-002")).one()
        assert two.id is not None
        new_identity(session, built.study.id, two.id, PersonalData())  # whose key seals the file
        for number in (1, 2) if unscheduled else ():
            plan_visit(session, built.study, two, f"unscheduled_{number}", order=9, day=0)
    return built


@pytest.fixture
def world(shared_database: Database) -> World:
    return build_with_files(shared_database, repeats=False)


def test_a_file_is_kept_shown_and_taken_out(world: World):
    both, place = world["both"], {"record": "M-002", "field": "scan_file", "event": WEEK}
    assert "There is no file" in both.refused("file", action="export", **place)
    sent = {"file": ("note.txt", io.BytesIO("Füße, all well\n".encode()), "text/plain")}
    reply = both.send("file", action="import", files=sent, **place)
    assert (reply.status_code, reply.content) == (200, b""), reply.text
    reply = both.send("file", action="export", **place)
    assert (reply.status_code, reply.content.decode()) == (200, "Füße, all well\n")
    assert reply.headers["content-type"] == 'text/plain; name="note.txt";charset=UTF-8'
    (row,) = both.json("record", records="M-002", fields="participant_id", forms="scan", events=WEEK)
    assert row["scan_file"] == "note.txt"
    assert "scan_file" not in {each["export_field_name"] for each in both.json("exportFieldNames")}
    kinds = {each["field_name"]: each["field_type"] for each in both.json("metadata", forms="scan")}
    assert kinds["scan_file"] == "file"
    # What was exported may be imported: the name of a file changes nothing.
    row = {**row, "participant_id": "M-002", "scan_note": "seen", "scan_at": "2026-03-02 09:30"}
    assert both.imports([row]).text == '{"count":1}'
    assert both.send("file", action="export", **place).status_code == 200
    (row,) = both.json("record", records="M-002", fields="participant_id", forms="scan", events=WEEK)
    assert (row["scan_at"], row["scan_note"]) == ("2026-03-02 09:30", "seen")
    reply = both.send("file", action="delete", **place)
    assert (reply.status_code, reply.content) == (200, b""), reply.text
    assert both.send("file", action="export", **place).status_code == 400
    # A client that asks for JSON reads JSON, though there is nothing to say.
    again = {"file": ("note.txt", io.BytesIO(b"a note"), "text/plain")}
    assert both.send("file", action="import", files=again, **place).content == b""
    assert both.send("file", action="delete", format="json", **place).json() == []


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_file_that_cannot_be_kept_says_why(world: World):
    both, place = world["both"], {"record": "M-002", "field": "scan_file", "event": WEEK}
    sent = {"file": ("x.exe", io.BytesIO(b"MZ\x00\x01"), "application/octet-stream")}
    reply = both.send("file", action="import", files=sent, returnFormat="json", **place)
    assert reply.status_code == 400
    assert "File" in reply.json()["error"]
    assert "No file was sent" in both.refused("file", action="import", **place)
    nothing = {"file": ("note.txt", io.BytesIO(b""), "text/plain")}
    assert "empty" in both.refused("file", action="import", files=nothing, **place)
    assert both.refused("file", action="import", **{**place, "event": "baseline_arm_1"}) == (
        'The value of the parameter "event" is not valid'
    )
    for name in ("manager", "monitor", "statistician"):
        again = {"file": ("note.txt", io.BytesIO(b"a"), "text/plain")}
        assert world[name].send("file", action="import", files=again, **place).status_code == 403


@pytest.fixture
def outside(shared_database: Database) -> World:
    """The same study, whose form is filled in at visits outside the plan as well; two of them were held."""
    return build_with_files(shared_database, repeats=False, unscheduled=["scan"])


def test_a_file_of_a_visit_outside_the_plan_is_that_of_its_number(outside: World):
    both = outside["both"]
    place = {"record": "M-002", "field": "scan_file", "event": "extra_visit_arm_1"}
    for number, text in (("1", b"first"), ("2", b"second")):
        sent = {"file": (f"{number}.txt", io.BytesIO(text), "text/plain")}
        reply = both.send("file", action="import", files=sent, repeat_instance=number, **place)
        assert (reply.status_code, reply.content) == (200, b""), reply.text
    shown = [both.send("file", action="export", repeat_instance=number, **place).content for number in ("1", "2", "")]
    assert shown == [b"first", b"second", b"first"]
    rows = both.json("record", records="M-002", fields="participant_id,scan_file", events="extra_visit_arm_1")
    assert [(row["redcap_repeat_instance"], row["scan_file"]) for row in rows] == [(1, "1.txt"), (2, "2.txt")]
    assert both.send("file", action="delete", repeat_instance="1", **place).status_code == 200
    assert "There is no file" in both.refused("file", action="export", repeat_instance="1", **place)
    assert both.send("file", action="export", repeat_instance="2", **place).content == b"second"
    assert "no visit" in both.refused("file", action="delete", repeat_instance="3", **place)
    # Asked there and at a visit of the plan: what is changed without a name of either would be a guess.
    less = {name: value for name, value in place.items() if name != "event"}
    sent = {"file": ("3.txt", io.BytesIO(b"third"), "text/plain")}
    for action, files in (("import", sent), ("delete", None)):
        said = both.refused("file", action=action, files=files, **less)
        assert said.endswith(f'Name one in the parameter "event": {WEEK}, extra_visit_arm_1.'), action
    wrong = 'The value of the parameter "repeat_instance" is not valid'
    for number in ("0", "x", "-1", "9999999999"):
        assert both.refused("file", action="export", repeat_instance=number, **place) == wrong
    assert both.refused("file", action="export", repeat_instance="2", **{**place, "event": WEEK}) == wrong
