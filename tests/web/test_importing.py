"""A file of another system on pages: what it became, what was not taken over, and the folder to download."""

import base64
import io
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from app.consent.actions import record_consent
from app.foundation import clock
from app.foundation.database import Database
from app.participants.actions import screen
from app.schedule.actions import open_visits
from app.studies.importing import convert
from app.studies.loading import read_folder
from tests.api.client import api_client
from tests.conformance import conformance_folder
from tests.factories import site
from tests.studies.test_importing_redcap import field, table
from tests.web.browser import counted_statements
from tests.web.world import NAMED, World

START = "/mini/study/import"


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


def sent(browser, data: bytes, name: str = "dictionary.csv"):
    """What the page answers to this file."""
    return browser.send(START, browser.form(START), files={"file": (name, data, "text/csv")})


@pytest.mark.requirement("ODM-8")
def test_a_dictionary_is_shown_as_a_folder_and_a_report(world: World, tmp_path: Path):
    browser = world.browser("administrator", site_code=None)
    assert START in browser.get("/mini/study").text
    before = versions(world)
    rows = [
        field("name", identifier="y"),
        field("a", branching="[nope] = 1", tags="@HIDDEN", label="<b>Pain</b> & <i>more"),
    ]
    reply = sent(browser, table(*rows))
    assert reply.status_code == 200
    for words in ("To be decided", "Personal data", "Not converted", "[nope] = 1", "@HIDDEN", "Only how it looked"):
        assert words in reply.text, words
    assert "<b>Pain" not in reply.text
    link = reply.text.split("data:application/zip;base64,")[1].split('"')[0]
    zipfile.ZipFile(io.BytesIO(base64.b64decode(link))).extractall(tmp_path)
    study, findings = read_folder(tmp_path / "dictionary")
    assert study is not None, findings
    assert versions(world) == before


@pytest.mark.requirement("ODM-8")
def test_a_dictionary_becomes_a_draft_on_the_page_and_over_rest(world: World):
    browser = world.browser("administrator", site_code=None)
    rows = [field("a", label="Pain", tags="@HIDDEN"), field("b", branching="[nope] = 1")]
    form = {**browser.form(START), "draft": "yes"}
    reply = browser.send(START, form, files={"file": ("dictionary.csv", table(*rows), "text/csv")})
    link = BeautifulSoup(reply.text, "html.parser").select_one('a[href^="/mini/study/drafts/"]')
    assert link is not None
    assert "README-import.md" in browser.get(str(link["href"])).text
    again = browser.send(START, form, files={"file": ("dictionary.csv", table(*rows), "text/csv")})
    assert (again.status_code, again.headers["location"]) == (303, link["href"])  # a double click makes one

    client = api_client(world.database, world.person("administrator", site_code=None), http=browser.client)

    def sent_once() -> Any:
        key, query = {"Idempotency-Key": "import-1"}, {"file": "dictionary.csv", "code": "elsewhere"}
        return client.request("POST", "/study-imports", content=table(*rows), params=query, headers=key)

    first = sent_once()
    assert first.status_code == 201, first.text
    said = first.json()
    assert (said["code"], said["instruments"], said["counts"]["lost"]) == ("elsewhere", 2, len(lost(said)))
    assert any("[nope] = 1" in note["what"] for note in lost(said))
    assert all(note["to_do"] and note["where"] for note in said["report"])
    assert sent_once().json() == {**said, "report": []}
    draft = client.done("GET", f"/drafts/{said['draft']}")
    assert (draft["name"], draft["origin"]) == (said["title"], "import")
    assert len(draft["findings"]) == said["warnings"] > 0
    assert not [each for each in draft["findings"] if each["severity"] == "error"]
    drafts = len(client.rows("/drafts"))
    looked = client.request("POST", "/study-imports", content=table(*rows), params={"draft": "false"}).json()
    assert (looked["draft"], len(client.rows("/drafts"))) == (None, drafts)
    wide = table(*rows) + b"\n" * 3_000_000  # as large as a page takes it, and larger than other requests may be
    assert client.request("POST", "/study-imports", content=wide, params={"draft": "false"}).status_code == 200
    problem = client.refused(422, "POST", "/study-imports", None, content=b"a,b\n1,2")
    assert "no REDCap data dictionary" in problem["errors"][0]["message"]
    asked = {"content": table(*rows), "params": {"code": "No code"}}
    named = client.refused(422, "POST", "/study-imports", None, **asked)
    assert [each["field"] for each in named["errors"]] == ["code"]
    coordinator = api_client(world.database, world.coordinators["north"], http=browser.client)
    assert coordinator.request("POST", "/study-imports", content=table(*rows)).status_code == 403


def lost(said):
    return [note for note in said["report"] if note["kind"] == "lost"]


def versions(world: World) -> list[str]:
    with world.database.reading() as session:
        from app.studies.reads import versions as loaded

        return [row.version for row in loaded(session, world.study.id)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "Choose a file."),
        (b"a,b\n1,2", "This is no REDCap data dictionary"),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><ODM>&a;</ODM>", "document type or entities"),
        (b"PK\x03\x04 a spreadsheet", "save the sheet as CSV"),
        ("é".encode("latin-1"), "not in UTF-8"),
    ],
)
def test_a_file_that_is_none_is_said_at_the_field(world: World, data: bytes, words: str):
    browser = world.browser("administrator", site_code=None)
    with counted_statements(world.database) as statements:
        reply = sent(browser, data)
    assert reply.status_code == 422
    assert words in reply.text
    assert len(statements) <= 24  # the page and its answer


@pytest.mark.parametrize("role", ["coordinator", "data_manager", "statistician"])
def test_others_neither_see_nor_use_it(world: World, role: str):
    browser = world.browser(role, site_code=None if role != "coordinator" else "north")
    assert "/study/import" not in browser.get("/mini/study").text
    assert browser.get(START).status_code == 403


@pytest.mark.requirement("ODM-8")
def test_pages_of_the_back_pain_example_open(database: Database):
    path = conformance_folder() / "odm-2.0" / "examples" / "Chronic_Low_Back_Pain_example.xml"
    study = convert(path.read_bytes(), name=path.name, on=date(2026, 3, 2), code="clbp").study
    world = World(database, **study.model_dump(mode="json"))
    coordinator, now = world.coordinators["site1"], clock.now()
    with database.writing() as session:
        participant, found = screen(
            session,
            world.study,
            site=site(session, world.study, "site1"),
            answers={"meets_all_criteria": True},
            failure_reason=None,
            personal=NAMED,
            by=coordinator,
            now=now,
        )
        assert found.eligible
        on = participant.screened_on
        record_consent(
            session,
            world.study,
            participant,
            version="0",
            language="en",
            method="on_screen",
            signed_on=on,
            signature="Ada Lovelace",
            paper_sha256=None,
            options={},
            countersign=True,
            by=coordinator,
            now=now,
        )
        open_visits(session, world.study, participant, anchor="consent", on=on, by=coordinator, now=now)
    browser = world.coordinator("site1")
    entry = f"/clbp/participants/{participant.code}/visits/clbp/entries/clbp"
    for page in ("/clbp/study", f"/clbp/participants/{participant.code}", "/clbp/participants", "/clbp/today"):
        assert browser.get(page).status_code == 200, page
    asked = browser.get(entry)
    assert asked.status_code == 200, asked.text[:500]
    for words in ("How much did pain interfere with your household chores?", "Somewhat", "Not at all"):
        assert words in asked.text
    assert "Nobody has decided them yet" in browser.get("/clbp/study").text
