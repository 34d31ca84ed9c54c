"""Visits outside the plan: recorded with a reason, and filled in, asked about, signed and exported like any other."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from sqlalchemy import update
from starlette.testclient import TestClient

from app.foundation.database import Database
from app.safety.deviations.actions import look
from app.safety.deviations.finding import VISIT
from app.safety.events.clocks import THE_CLOCK
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


def test_one_that_was_recorded_by_mistake_counts_nowhere_and_stays(database: Database):
    world = World(database, **OUTSIDE)
    browser = world.browser("assessor", "coordinator")
    http = TestClient(application_on(database), base_url="http://trial.test")
    writer = api_client(database, world.person("assessor", username="writer"), http=http)
    reader = api_client(database, world.person("data_manager", username="reader"), http=http)
    visits, entry = "/participants/M-001/visits", f"{FIRST}/entries/pain"
    assert browser.post(ADD, {"held_on": "2026-07-01", "reason": "Pain came back"}).status_code == 303
    assert browser.post(entry, PAIN).status_code == 303
    assert not soup(browser.get(FIRST)).select(f'form[action="{FIRST}/reopened"], form[action="{FIRST}/missed"]')
    missed = {"status": "missed", "reason": "Another person's", "version": 1}
    assert "nobody waited for it" in writer.refused(409, "PUT", f"{visits}/unscheduled_1", missed)["detail"]
    opened = {"version": 1, "why": "Another person's"}
    assert "nobody waited for it" in writer.refused(409, "POST", f"{visits}/unscheduled_1/reopening", opened)["detail"]
    assert browser.post(f"{FIRST}/in-error", {"why": ""}, page=FIRST).status_code == 422
    mark = {"why": "Another person's"}
    refused = browser.post(f"{FIRST}/in-error", mark, page=FIRST)
    assert (refused.status_code, "Mark each of them as entered in error first" in refused.text) == (409, True)
    assert browser.post(f"{entry}/in-error", mark, page=f"{entry}/record").status_code == 303
    assert browser.post(f"{FIRST}/in-error", mark, page=FIRST).status_code == 303
    page = soup(browser.get(FIRST))
    assert "Entered in error" in part(page, ".entry-facts").get_text()
    assert "What went wrong Another person's" in page.get_text(" ", strip=True)
    assert not page.select(f'form[action="{FIRST}/corrected"], #appointments')
    held = {"status": "held", "held_on": "2026-07-01", "version": 2}
    assert "take the mark back" in writer.refused(409, "PUT", f"{visits}/unscheduled_1", held)["detail"]
    counts = browser.post(f"{entry}/in-error", {**mark, "which": "counts"}, page=f"{entry}/record")
    assert (counts.status_code, "take the mark back on the page of the visit first" in counts.text) == (409, True)
    # Nobody waits for it, and nothing went otherwise than the plan says.
    with database.writing() as session:
        assert look(session, world.study, by=THE_CLOCK, now=datetime.now(UTC)) == 0
        # As earlier versions left it to be done.
        one = update(VISIT).where(VISIT.c.code == "unscheduled_1")
        session.execute(one.values(status="missed"))
        assert look(session, world.study, by=THE_CLOCK, now=datetime.now(UTC)) == 0
        session.execute(one.values(status="in_error"))
    assert "Extra visit" not in soup(browser.get("/mini/today")).get_text()
    person = soup(browser.get(PARTICIPANT))
    assert "Extra visit 1 (Entered in error)" in part(person, ".timeline").get_text()
    assert "+1" not in part(person, ".matrix").get_text()
    assert "Entered in error: Extra visit 1" in person.get_text()
    assert browser.get(f"{PARTICIPANT}/casebook.pdf").content.startswith(b"%PDF")
    rows: Any = {row["visit"]: row for row in reader.get("/exports/visits.json").json()}
    told = [rows["unscheduled_1"][name] for name in ("status", "held_on", "target_on", "reason")]
    assert told == ["in_error", None, "2026-07-01", "Another person's"]
    # Its number is not given again; and the mark can be taken back.
    made = writer.done("POST", visits, {"held_on": "2026-07-05", "reason": "A call before"})
    assert made["code"] == "unscheduled_2"
    stands = writer.get(f"{visits}/unscheduled_1").json()
    assert (stands["status"], stands["in_error_why"]) == ("in_error", "Another person's")
    back = {"in_error": False, "version": stands["version"], "why": "It was theirs."}
    reader.refused(403, "PUT", f"{visits}/unscheduled_1/in-error", back)
    restored = writer.done("PUT", f"{visits}/unscheduled_1/in-error", back)
    told = [restored[name] for name in ("status", "held_on", "in_error_why", "reason")]
    assert told == ["held", "2026-07-01", None, "Pain came back"]
    writer.refused(409, "PUT", f"{visits}/unscheduled_1/in-error", {**back, "version": restored["version"]})
    for _ in range(2):  # the same again changes nothing
        asked = {"version": made["version"], "why": "Nobody called."}
        again = writer.done("PUT", f"{visits}/unscheduled_2/in-error", asked)
        assert (again["status"], again["version"]) == ("in_error", made["version"] + 1)
    planned = {"version": 1, "why": "Misread."}
    assert "in the plan" in writer.refused(409, "PUT", f"{visits}/baseline/in-error", planned)["detail"]


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
