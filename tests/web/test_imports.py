"""The pages of imports: upload a file, match its columns, try it, import it; nothing is saved before."""

import pytest
from bs4 import BeautifulSoup

from app.foundation import clock
from app.foundation.database import Database
from app.imports.actions import save_mapping
from app.imports.rules import read_mapping
from app.people.permissions import Role
from tests.api.client import api_client
from tests.capture.records import consented
from tests.web.world import World

PAGE = "/mini/import"
CSV = b"participant,when,pain,pain_days\nM-001,late,4,2\nM-002,late,77,2\n"


@pytest.fixture
def world(shared_database: Database) -> World:
    made = World(shared_database)
    with shared_database.writing() as session:
        for code in ("M-001", "M-002"):
            consented(session, made.study, code)
    return made


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_file_is_matched_tried_and_imported(world: World):
    browser = world.coordinator()
    fields = browser.form(PAGE)
    files = {"file": ("pain.csv", CSV, "text/csv")}
    refused = browser.send(PAGE, fields)
    assert refused.status_code == 422
    assert "Choose a CSV file" in refused.text
    broken = browser.send(PAGE, fields, files={"file": ("pain.csv", CSV + b"M-001,late\n", "text/csv")})
    assert (broken.status_code, "Line 4 is not CSV" in broken.text) == (422, True)
    assert "You have no files here yet" in broken.text
    sent = browser.send(PAGE, fields, files=files)
    assert sent.status_code == 303, sent.text
    where = sent.headers["location"]
    page = browser.soup(where)
    matched_already = page.select_one('[name="column.3"] option[selected]')
    assert matched_already is not None
    assert matched_already["value"] == "pain.pain_days"
    chosen = {"participant": "participant", "visit_column": "when", "column.2": "pain.pain_nrs", "partial": "yes"}
    matched = browser.post(where, {**chosen, "do": "try"})
    assert matched.status_code == 200
    assert "There is no visit “late”" in matched.text
    chosen |= {"visit.0": "week18"}
    tried = browser.post(where, {**chosen, "do": "try"})
    assert "What the import would do" in tried.text
    assert "pain_nrs" in tried.text
    assert "– → 4" in " ".join(tried.text.split())
    report = BeautifulSoup(tried.text, "html.parser")
    lines = [row.get_text(" ", strip=True) for row in report.select("#report tbody tr")]
    assert lines[0].startswith("3 M-002 "), "the row as a spreadsheet counts, those that are refused first"
    assert "pain_nrs" not in lines[0] + lines[1], "items have the words of the form"
    assert report.select_one("#report tbody a") is None, "nothing is there yet"
    whole = browser.post(where, {**chosen, "do": "import"})
    assert "Nothing was imported" in whole.text
    assert browser.get("/mini/participants/M-001/visits/week18/pain/record").status_code == 404
    done = browser.post(where, {**chosen, "whole": None, "do": "import", "name": "diaries"})
    assert "What was imported" in done.text
    link = BeautifulSoup(done.text, "html.parser").select_one("#report tbody a")
    assert link is not None
    assert link["href"] == "/mini/participants/M-001"
    assert browser.soup(f"{PAGE}").select_one('[name="mapping"] option[value="diaries"]')
    assert browser.soup(where).select_one("form.stack-wide") is None
    assert world.browser(Role.DATA_MANAGER, site_code=None).get(where).status_code == 404


WHO = {
    "participant": "id",
    "source": "list",
    "visit": {"value": ""},
    "new": {
        "site": {"value": "north"},
        "answers": {"age": {"value": 44}, "pain_screen": {"value": 6}, "surgery": {"value": False}},
        "personal": {"given_name": {"column": "given"}, "family_name": {"column": "family"}},
    },
}
TWICE = "id,given,family\np1,Ada,Lovelace\np2,Eve,Adams\np3,eve,adams\n"


def test_whom_a_row_looks_like_is_named_on_the_page_and_in_the_log(shared_database: Database):
    world = World(shared_database)
    known = world.screened()
    browser = world.coordinator()
    with shared_database.writing() as session:
        save_mapping(session, world.study, "people", read_mapping(WHO), by=world.coordinators["north"], now=clock.now())
    fields = {**browser.form(PAGE), "mapping": "people"}
    where = browser.send(PAGE, fields, files={"file": ("people.csv", TWICE, "text/csv")}).headers["location"]
    browser.client.headers["Accept-Language"] = "de"
    before = world.log().count("identity.shown")
    report = BeautifulSoup(browser.post(where, {"do": "try"}).text, "html.parser").select("#report tbody tr")
    first, second = (row.get_text(" ", strip=True) for row in report[:2])
    assert f"Ähnelt jemandem an diesem Prüfzentrum: {known.code}, übereinstimmend in Vorname, Nachname" in first
    assert [link["href"] for link in report[0].select("li a")] == [f"/mini/participants/{known.code}"]
    assert "Zeile 3 dieser Datei: Vorname, Nachname" in second
    assert not report[1].select("li a")
    assert world.log().count("identity.shown") == before + 1


def test_whom_a_row_looks_like_is_named_over_rest_and_in_the_log(shared_database: Database):
    """In the answer of a trial, and in the problem of a file of which nothing is imported: each time in the log."""
    world = World(shared_database)
    known = world.screened()
    client = api_client(shared_database, world.coordinators["north"])
    rows = [dict(zip(("id", "given", "family"), line.split(","), strict=True)) for line in TWICE.split()[1:]]
    body = {"rows": rows, "mapping": WHO}
    shared = ["given_name", "family_name"]
    day = known.screened_on.isoformat()
    somebody = {"code": known.code, "status": "screened", "screened_on": day, "shared": shared, "like_row": None}
    earlier = {**dict.fromkeys(somebody), "shared": shared, "like_row": 2}
    tried = client.done("POST", "/entries/import", {**body, "dry_run": True})
    assert [each["candidates"] for each in tried["rows"] if each["errors"]] == [[somebody], [earlier]]
    assert world.log().count("identity.shown") == 1
    for path, sent in (
        ("/entries/import", {"json": body}),
        ("/entries/import.csv?mapping=people", {"content": TWICE, "headers": {"Content-Type": "text/csv"}}),
    ):
        client.done("PUT", "/import-mappings/people", WHO)
        reply = client.request("POST", path, **sent)
        assert reply.status_code == 422
        assert reply.json()["candidates"] == [{"row": 1, **somebody}, {"row": 3, **earlier}]
        assert [each["rule"] for each in reply.json()["errors"]] == ["another", "another"]
    assert world.log().count("identity.shown") == 3
    assert len(client.done("GET", "/participants")["items"]) == 1, "nothing else stays"
