"""Rows in a form: added and taken out without script, judged, corrected, read and exported."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import time_machine
from starlette.testclient import TestClient

from app.foundation.database import Database
from tests.api.client import api_client, application_on
from tests.capture.test_groups import KEPT, changes
from tests.web.browser import form_in
from tests.web.test_entries import VISIT, World, part, soup

FORM = f"{VISIT}/entries/care"
FIRST = {"care_limit": "500", "medicines[1].med_name": "Aspirin", "medicines[1].med_dose": "100"}


@pytest.fixture(autouse=True)
def at_the_visit() -> Iterator[None]:
    with time_machine.travel(datetime(2026, 7, 6, 1, 0, tzinfo=UTC), tick=True):
        yield


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database, **changes())


def test_rows_are_added_and_taken_out_without_script_and_nothing_typed_is_lost(world: World):
    assessor = world.browser("assessor", "coordinator")
    page = soup(assessor.get(FORM))
    assert [row["id"] for row in page.select(".group-row")] == ["row-medicines-1"]
    assert part(page, '[data-item="medicines[1].med_why"]').has_attr("data-hidden"), "not asked in a blank row"
    assert part(page, "form#entry button").get_text() == "Save", "Enter does not take a row out"
    again = assessor.post(FORM, {**FIRST, "save-as": "add-row:medicines"})
    assert again.status_code == 200
    assert world.entry() is None
    shown = form_in(soup(again), FORM)
    assert shown["medicines[1].med_name"] == ["Aspirin"]
    assert shown["rows-medicines"] == ["1", "2"]
    fields = {**shown, "medicines[2].med_name": "Iron", "save-as": "add-row:medicines"}
    shown = form_in(soup(assessor.send(FORM, fields)), FORM)
    shown = form_in(soup(assessor.send(FORM, {**shown, "save-as": "drop-row:medicines:3"})), FORM)
    assert shown["rows-medicines"] == ["1", "2"]
    refused = assessor.send(FORM, shown)
    assert refused.status_code == 422
    assert "Dose (2): answer this" in part(soup(refused), "[data-error-summary]").get_text(" ")
    assert part(soup(refused), '[data-error-summary] a[href="#item-medicines[2].med_dose"]')
    saved = assessor.send(FORM, {**form_in(soup(refused), FORM), "medicines[2].med_dose": "20"})
    assert saved.status_code == 303, saved.text[:500]
    assert world.entry()["values"]["medicines[]"][1] == {"med_name": "Iron", "med_dose": 20}
    record = soup(assessor.get(f"{FORM}/record")).get_text(" ", strip=True)
    assert "Name (2) Iron" in record
    assert assessor.get(f"{FORM}/history/medicines[2].med_dose").status_code == 200
    left = form_in(soup(assessor.post(FORM, {"save-as": "drop-row:medicines:1"})), FORM)
    done = assessor.send(FORM, {**left, "form-why": "Not theirs"})
    assert done.status_code == 303
    assert world.entry()["values"]["medicines[]"] == [None, {"med_name": "Iron", "med_dose": 20}]
    history = soup(assessor.get(f"{FORM}/history/medicines[1].med_name")).get_text(" ", strip=True)
    assert "Not theirs" in history
    monitor = world.browser("monitor")
    asked = monitor.post(f"{FORM}/queries/medicines[2].med_dose", {"text": "Is it 20?"})
    assert asked.status_code == 303
    assert "Is it 20?" in assessor.get(FORM).text
    looked = assessor.client.post(f"{FORM}/look", data={**assessor.form(FORM), "medicines[2].med_times": "4"})
    assert looked.json()["computed"]["care_sum"] == "80"
    assert looked.json()["computed"]["medicines[2].med_total"] == "80"
    assert "medicines[2].med_why" not in looked.json()["hidden"]
    assert assessor.get("/mini/participants/M-001/casebook.pdf").content.startswith(b"%PDF")


@pytest.mark.requirement("AX11-8")
def test_over_rest_rows_are_lists_and_a_table_of_their_own(world: World):
    http = TestClient(application_on(world.database), base_url="http://trial.test")
    writer = api_client(world.database, world.person("assessor"), http=http)
    reader = api_client(world.database, world.person("data_manager"), http=http)
    entry = "/participants/M-001/visits/week18/entries/care"
    saved = writer.done("PUT", entry, {"values": KEPT})
    assert saved["values"]["medicines"][1] is None
    assert saved["values"]["medicines"][2]["med_total"] == 1600
    assert writer.done("GET", entry)["values"]["medicines"][0]["med_name"] == "Aspirin"
    wrong = {"values": {**KEPT, "medicines": [{"med_dose": "much"}]}, "base_version": 1}
    problem = writer.refused(422, "PUT", entry, wrong)
    assert problem["errors"][0]["field"] == "medicines[1].med_dose"
    rows = reader.get("/exports/instrument_care__medicines.json").json()
    assert [(row["row"], row["med_name"], row["med_total"]) for row in rows] == [
        (1, "Aspirin", 200),
        (3, "Paracetamol", 1600),
    ]
    assert [row["participant"] for row in rows] == ["M-001", "M-001"]
    (whole,) = reader.get("/exports/instrument_care.json").json()
    assert whole["care_sum"] == 1800
    assert not any("med_" in name for name in whole)
    long = {row["item"]: row["value"] for row in reader.get("/exports/entries.json").json()}
    assert long["medicines[3].med_dose"] == 400
    book = reader.get("/exports/codebook.json").json()
    described = [row["column"] for row in book if row["table"] == "instrument_care__medicines"]
    assert {"row", "visit", "med_dose", "med_dose__missing"} <= set(described)
