"""Visits outside the plan: recorded with a reason, and filled in, asked about, signed and exported like any other."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from starlette.testclient import TestClient

from app.foundation.database import Database
from app.studies.definition import unscheduled_number
from app.studies.rules import canonical, problems
from tests.api.client import api_client, application_on
from tests.factories import definition
from tests.web.test_entries import PAIN, World, part, soup

PARTICIPANT = "/mini/participants/M-001"
OUTSIDE = {"unscheduled": {"label": "Extra visit", "instruments": ["pain"]}}
ADD = f"{PARTICIPANT}/unscheduled-visit"
FIRST = f"{PARTICIPANT}/visits/unscheduled_1"


@pytest.fixture(autouse=True)
def at_the_visit() -> Iterator[None]:
    with time_machine.travel(datetime(2026, 7, 6, 1, 0, tzinfo=UTC), tick=True):
        yield


@pytest.mark.requirement("AX11-6")
def test_one_is_recorded_filled_in_and_found_everywhere(shared_database: Database):
    world = World(shared_database, **OUTSIDE)
    assessor = world.browser("assessor", "coordinator")
    page = soup(assessor.get(PARTICIPANT))
    assert part(page, f'a[href="{ADD}"]')
    assert "Pain" in soup(assessor.get(ADD)).get_text()
    refused = assessor.post(ADD, {"held_on": "2026-07-20", "reason": ""})
    assert refused.status_code == 422
    assert "has not come yet" in refused.text
    assert "Say why they came" in refused.text
    for day in ("2026-07-01", "2026-07-03"):
        added = assessor.post(ADD, {"held_on": day, "reason": "Pain came back"})
    assert added.headers["location"].startswith(f"{PARTICIPANT}/visits/unscheduled_2")
    visit = soup(assessor.get(FIRST))
    assert part(visit, "h1").get_text(strip=True) == "Extra visit 1, M-001"
    assert "Why they came Pain came back" in visit.get_text(" ", strip=True)
    assert "Late" not in part(visit, "#forms").get_text(), "nothing was due"
    assert assessor.post(f"{FIRST}/entries/pain", PAIN).status_code == 303
    heads = [head.get_text(" ", strip=True) for head in soup(assessor.get(PARTICIPANT)).select(".matrix thead th")]
    assert heads[-2:] == ["+1 1 Jul 2026", "+2 3 Jul 2026"]
    assert assessor.get(f"{PARTICIPANT}/visits/unscheduled_3").status_code == 404
    assert assessor.get(f"{PARTICIPANT}/visits/unscheduled_3/entries/pain").status_code == 404
    assert assessor.get(f"{FIRST}/entries/disability").status_code == 404, "the study does not name it"
    moved = {"held_on": "2026-07-02", "why": "Read from the diary"}
    assert assessor.post(f"{FIRST}/corrected", moved, page=FIRST).status_code == 303
    monitor = world.browser("monitor")
    assert monitor.post(f"{FIRST}/entries/pain/queries/pain_nrs", {"text": "Is it 5?"}).status_code == 303
    assert "Extra visit 1" in soup(monitor.get("/mini/queries")).get_text()
    assert "Extra visit 1" in soup(assessor.get(f"{PARTICIPANT}/casebook")).get_text()
    assert assessor.get(f"{PARTICIPANT}/casebook.pdf").content.startswith(b"%PDF")
    http = TestClient(application_on(world.database), base_url="http://trial.test")
    writer = api_client(world.database, world.person("assessor", username="writer"), http=http)
    reader = api_client(world.database, world.person("data_manager", username="reader"), http=http)
    body = {"held_on": "2026-07-05", "reason": "A call before"}
    made = writer.request("POST", "/participants/M-001/visits", json=body)
    assert (made.status_code, made.json()["code"], made.json()["status"]) == (201, "unscheduled_3", "held")
    writer.refused(422, "POST", "/participants/M-001/visits", {**body, "reason": " "})
    reader.refused(403, "POST", "/participants/M-001/visits", body)
    entry = "/participants/M-001/visits/unscheduled_3/entries/pain"
    writer.done("PUT", entry, {"values": {"pain_nrs": 2, "pain_days": 1}})
    rows: Any = reader.get("/exports/instrument_pain.json").json()
    assert [(row["visit"], row["pain_nrs"]) for row in rows] == [("unscheduled_1", 5), ("unscheduled_3", 2)]
    dated = {row["visit"]: (row["held_on"], row["opens_on"]) for row in reader.get("/exports/visits.json").json()}
    assert dated["unscheduled_1"] == ("2026-07-02", "2026-07-02"), "it is never outside its window"


def test_a_study_without_them_has_no_such_page(shared_database: Database):
    world = World(shared_database)
    assessor = world.browser("assessor", "coordinator")
    assert assessor.get(ADD).status_code == 404
    assert "unscheduled-visit" not in assessor.get(PARTICIPANT).text
    assert assessor.get(FIRST).status_code == 404


@pytest.mark.parametrize("code", ["unscheduled_0", "unscheduled_", "unscheduled_1000", "week18", "unscheduled_01"])
def test_what_is_no_number_of_one(code: str):
    assert unscheduled_number(code) is None


@pytest.mark.parametrize(
    ("said", "message"),
    [({"instruments": ["pain"]}, None), ({"instruments": ["prescreen"]}, "pre-screen"), ({"instruments": ["x"]}, "x")],
)
def test_what_a_study_may_say_of_them(said: dict[str, Any], message: str | None):
    found = [each.message for each in problems(definition(unscheduled=said))]
    assert (found == []) if message is None else any(message in each for each in found), found
    assert "unscheduled" not in canonical(definition())
