"""Forms that repeat, on the pages of a participant, a visit and an entry; and over REST."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from starlette.testclient import TestClient

from app.foundation.database import Database
from tests.api.client import api_client, application_on
from tests.capture.test_repeats import changes
from tests.web.browser import Browser, counted_statements
from tests.web.test_entries import World, part, soup

PARTICIPANT = "/mini/participants/M-001"
VISIT = f"{PARTICIPANT}/visits/week18"
FALL = f"{VISIT}/entries/fall"
FIRST = {"fall_on": "2026-06-01", "fall_height": "40"}
SECOND = {"fall_on": "2026-06-11", "fall_height": "55"}


@pytest.fixture(autouse=True)
def at_the_visit() -> Iterator[None]:
    with time_machine.travel(datetime(2026, 7, 6, 1, 0, tzinfo=UTC), tick=True):
        yield


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database, **changes())


@pytest.fixture
def assessor(world: World) -> Browser:
    browser = world.browser("assessor", "coordinator")
    assert browser.post(FALL, {**FIRST, "save-as": "another"}).headers["location"] == f"{FALL}/2?done=saved"
    assert browser.post(f"{FALL}/2", SECOND).headers["location"] == f"{VISIT}?done=saved"
    return browser


def test_each_time_is_listed_with_what_it_is_called_and_another_is_added(world: World, assessor: Browser):
    with counted_statements(world.database) as statements:
        visit = soup(assessor.get(VISIT))
    assert len(statements) <= 14
    rows = [row.get_text(" ", strip=True) for row in visit.select("#forms tbody tr")]
    assert rows[0].startswith("Fall 1 1 Jun 2026 Complete")
    assert rows[1].startswith("Fall 2 11 Jun 2026 Complete")
    assert rows[2].startswith("Add another")
    assert part(visit, f'#forms a[href="{FALL}/3"]')
    page = soup(assessor.get(PARTICIPANT))
    cell = part(page, ".matrix .repeats")
    assert [link["href"] for link in cell.select("a")] == [FALL, f"{FALL}/2", f"{FALL}/3"]
    assert soup(assessor.get(f"{FALL}/2")).title is not None
    assert part(soup(assessor.get(f"{FALL}/2")), "h1").get_text(strip=True) == "Fall 2, M-001"
    assert assessor.get(f"{FALL}/4").status_code == 404, "the third comes first"
    assert assessor.get(f"{VISIT}/entries/pain/2").status_code == 404, "pain is asked once"
    assert assessor.get(f"{FALL}/0").status_code == 404
    assert "10" in part(soup(assessor.get(f"{FALL}/2/record")), ".record").get_text()
    history = soup(assessor.get(f"{FALL}/2/history/fall_height")).get_text()
    assert "55" in history
    assert "40" not in history


def test_the_last_one_has_no_next(assessor: Browser):
    assert "Save and add another" in assessor.get(f"{FALL}/2").text
    third = {"fall_on": "2026-06-21", "fall_height": "9", "save-as": "another"}
    assert "Save and add another" not in assessor.get(f"{FALL}/3").text
    assert assessor.post(f"{FALL}/3", third).headers["location"] == f"{VISIT}?done=saved"
    assert f"{FALL}/4" not in assessor.get(VISIT).text


def test_one_by_mistake_is_marked_with_a_reason_and_the_mark_taken_back(world: World, assessor: Browser):
    marking = f"{FALL}/2/in-error"
    refused = assessor.post(marking, {"version": "1", "why": " "}, page=f"{FALL}/2/record")
    assert (refused.status_code, "Say what went wrong." in refused.text) == (422, True)
    done = assessor.post(marking, {"version": "1", "why": "Of another participant"}, page=f"{FALL}/2/record")
    assert done.headers["location"] == f"{FALL}/2/record?done=in_error"
    record = soup(assessor.get(f"{FALL}/2")).get_text(" ", strip=True)
    assert "Entered in error, marked by" in record
    assert "Of another participant" in record
    casebook = soup(assessor.get(f"{PARTICIPANT}/casebook")).get_text(" ", strip=True)
    assert "Entered in error Of another participant" in casebook
    fields = assessor.form(f"{FALL}/2/record", marking) | SECOND
    assert assessor.send(f"{FALL}/2", fields).status_code == 409
    back = {"version": "2", "why": "It was theirs", "which": "counts"}
    assert assessor.post(marking, back, page=f"{FALL}/2/record").status_code == 303
    assert "Entered in error" not in soup(assessor.get(VISIT)).get_text()
    world.browser("data_manager").get(f"{FALL}/2")


def test_a_query_is_asked_at_one_of_them(world: World, assessor: Browser):
    monitor = world.browser("monitor")
    asked = monitor.post(f"{FALL}/2/queries/fall_on", {"text": "Which day does the diary say?"})
    assert asked.headers["location"].startswith(f"{FALL}/2")
    listed = soup(monitor.get("/mini/queries"))
    assert part(listed, f'a[href="{FALL}/2/queries/fall_on"]')
    assert "Which day" in assessor.get(f"{FALL}/2").text
    assert "Which day" not in assessor.get(FALL).text
    marks = soup(assessor.get(PARTICIPANT)).select(".matrix .repeats .status")
    assert [mark.get_text(strip=True) for mark in marks] == ["Complete", "Query"]


@pytest.mark.requirement("AX11-8")
def test_over_rest(world: World, assessor: Browser):
    http = TestClient(application_on(world.database), base_url="http://trial.test")
    writer = api_client(world.database, world.person("assessor", username="writer"), http=http)
    reader = api_client(world.database, world.person("data_manager", username="reader"), http=http)
    entry = "/participants/M-001/visits/week18/entries/fall"
    saved = writer.done("PUT", entry, {"values": {"fall_on": "2026-06-21", "fall_height": 9}}, params={"repeat": 3})
    assert saved["values"]["fall_days"] == 10
    writer.refused(409, "PUT", entry, {"values": {}}, params={"repeat": 5})
    writer.refused(422, "PUT", entry, {"values": {}}, params={"repeat": 0})
    assert writer.done("GET", entry)["values"]["fall_height"] == 40
    assert writer.done("GET", entry, params={"repeat": 2})["repeat"] == 2
    page = reader.done("GET", f"{entry}/repeats", params={"limit": 2})
    assert [each["repeat"] for each in page["items"]] == [1, 2]
    rest = reader.done("GET", f"{entry}/repeats", params={"limit": 2, "cursor": page["next"]})
    assert [(each["repeat"], each["in_error"]) for each in rest["items"]] == [(3, False)]
    body = {"version": 1, "why": "Typed twice"}
    assert writer.done("PUT", f"{entry}/in-error", body, params={"repeat": 2})["in_error_why"] == "Typed twice"
    every = reader.rows("/participants/M-001/entries")
    assert [(each["repeat"], each["in_error"]) for each in every] == [(1, False), (2, True), (3, False)]
    rows: Any = reader.get("/exports/instrument_fall.json").json()
    assert [(row["repeat"], row["fall_height"]) for row in rows] == [(1, 40), (3, 9)]
    long = reader.get("/exports/entries.json").json()
    assert {(row["instrument"], row["repeat"]) for row in long} == {("fall", 1), ("fall", 3)}
    wide = reader.get("/exports/entries_by_visit.json").json()
    assert not any("fall" in name for row in wide for name in row)
    book = reader.done("GET", "/participants/M-001/casebook")
    assert [(line["instrument"], line["repeat"]) for line in book["entries"]] == [("fall", 1), ("fall", 3)]
    printed = assessor.get(f"{PARTICIPANT}/casebook.pdf")
    assert printed.content.startswith(b"%PDF")
