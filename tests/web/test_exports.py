"""Can somebody who runs exports see what is in a table before they take it, and is each export written down?"""

import csv
import hashlib
import io
import json
import re
from datetime import timedelta
from typing import Any

import pytest

from app.audit.actions import ENTRY
from app.exports import reads
from app.exports.formats import Format
from app.foundation import clock
from app.foundation.database import Database
from app.people import actions
from app.people.access import Actor
from app.studies.in_use import StudyInUse
from tests.exports.world import as_bytes, entry, participant
from tests.factories import mini_study, person
from tests.web.browser import Browser, anonymous_client, signed_in_client

HOSTILE = "=1+1<script>alert(1)</script>"


@pytest.fixture
def study(database: Database) -> StudyInUse:
    with database.writing() as session:
        made = mini_study(session)
        for number in range(1, 13):
            row = participant(session, made, number, site_code="north" if number % 2 else "south")
            entry(session, made, row, "week18", "pain", {"pain_nrs": number % 10, "pain_note": HOSTILE})
    return made


@pytest.fixture
def manager(database: Database, study: StudyInUse) -> Actor:
    with database.writing() as session:
        return person(session, study, "data_manager")


@pytest.fixture
def browser(database: Database, manager: Actor) -> Browser:
    return signed_in_client(database, manager)


def test_the_page_shows_columns_and_first_rows_before_anything_runs(browser: Browser):
    page = browser.soup("/mini/exports?table=instrument_pain")
    tables: dict[str, Any] = {
        table.caption.get_text(" ", strip=True): table for table in page.find_all("table") if table.caption
    }
    preview = next(table for caption, table in tables.items() if caption.startswith("First rows"))
    assert [cell.get_text() for cell in preview.thead.find_all("th")][:3] == ["participant", "site", "visit"]
    assert len(preview.tbody.find_all("tr")) == 10
    assert "pain_note" in tables["Columns"].get_text()
    assert "UNK | ND" in tables["Columns"].get_text()
    assert "Nobody has exported anything yet" in page.get_text()
    assert "curl --fail --output mini_instrument_pain_" in page.get_text()
    assert "/api/v1/studies/mini/exports/instrument_pain.csv" in page.get_text()
    options = page.select("select[name=table] option")
    assert [option["value"] for option in options][:2] == ["participants", "visits"]


@pytest.mark.parametrize(
    "table",
    ["participants", "visits", "entries", "entries_by_visit", "entries_by_participant", "codebook", "screening"],
)
@pytest.mark.parametrize("written", ["csv", "spreadsheet", "json", "ndjson"])
def test_every_table_can_be_looked_at_in_every_format(browser: Browser, table: str, written: str):
    page = browser.get(f"/mini/exports?table={table}&format={written}")
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    for word in ("Zephyrine", "Placebex", "sham"):
        assert word not in page.text


def test_the_download_is_what_the_page_promised_and_is_written_down(
    browser: Browser, database: Database, study: StudyInUse, manager: Actor
):
    page = browser.soup("/mini/exports?table=entries&format=spreadsheet")
    link = page.find("a", attrs={"download": True})
    assert link is not None
    reply = browser.get(str(link["href"]))
    assert reply.status_code == 200
    assert reply.headers["content-disposition"] == f'attachment; filename="{link["download"]}"'
    assert re.fullmatch(r"mini_entries_\d{4}-\d\d-\d\d_spreadsheet\.csv", str(link["download"]))
    assert reply.headers["x-equipoise-study-version"] == "1"
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"
    rows = list(csv.DictReader(io.StringIO(reply.content.decode("utf-8-sig"), newline="")))
    assert {row["value"] for row in rows if row["item"] == "pain_note"} == {f"'{HOSTILE}"}
    with database.reading() as session:
        (run,) = reads.runs(session, study, by=manager)
    assert (run.table, run.format, run.rows, run.username) == ("entries", "spreadsheet", 24, manager.username)
    assert run.sha256 == hashlib.sha256(reply.content).hexdigest()
    assert run.sha256[:16] in browser.soup("/mini/exports").get_text()


@pytest.mark.parametrize("path", ["participants.csv", "entries.json", "entries_by_visit.ndjson", "codebook.csv"])
def test_the_file_has_the_bytes_of_the_table(
    browser: Browser, database: Database, study: StudyInUse, manager: Actor, path: str
):
    table, _, extension = path.partition(".")
    with database.reading() as session:
        expected = as_bytes(session, study, table, manager, Format(extension))
    assert browser.get(f"/mini/exports/{path}").content == expected


@pytest.mark.parametrize(
    "path",
    [
        "exports?table=person",
        "exports?table=allocations",
        "exports?format=ods",
        "exports/allocations.csv",
        "exports/entries.ods",
        "exports/entries.json?spreadsheet=true",
        "exports/entries%00.csv",
        "exports/..%2fentries.csv",
    ],
)
def test_what_is_not_a_table_is_not_found(
    browser: Browser, database: Database, study: StudyInUse, manager: Actor, path: str
):
    assert browser.get(f"/mini/{path}").status_code == 404
    with database.reading() as session:
        assert reads.runs(session, study, by=manager) == []


@pytest.mark.parametrize("role", ["coordinator", "clinician", "investigator"])
@pytest.mark.parametrize("path", ["exports", "exports/entries.csv", "exports/nothing.csv"])
def test_others_are_refused_and_the_attempt_is_written_down(
    database: Database, study: StudyInUse, role: str, path: str
):
    with database.writing() as session:
        other = person(session, study, role)
    reply = signed_in_client(database, other).get(f"/mini/{path}")
    assert reply.status_code == 403
    assert "M-001" not in reply.text
    with database.reading() as session:
        actions_logged = [row.action for row in session.execute(ENTRY.select().where(ENTRY.c.log == "mini"))]
    assert actions_logged == ["export.run_refused"]


def test_nobody_signed_in_gets_no_file(database: Database, study: StudyInUse):
    reply = anonymous_client(database).get("/mini/exports/entries.csv", follow_redirects=False)
    assert b"M-001" not in reply.content
    assert "attachment" not in reply.headers.get("content-disposition", "")


# Over REST


def _token(database: Database, study: StudyInUse, actor: Actor, *scopes: str) -> dict[str, str]:
    with database.writing() as session:
        now = clock.now()
        _, text = actions.create_token(
            session,
            person_id=actor.person_id,
            study_id=study.id,
            name="script",
            scopes=scopes,
            expires_at=now + timedelta(days=1),
            by=actor,
            now=now,
        )
    return {"Authorization": f"Bearer {text}"}


def test_a_script_lists_and_takes_tables(database: Database, study: StudyInUse, manager: Actor):
    client = anonymous_client(database)
    headers = _token(database, study, manager, "export.run")
    listed = client.get("/api/v1/studies/mini/exports", headers=headers).json()
    assert (listed["study"], listed["version"]) == ("mini", "1")
    for table in listed["tables"]:
        reply = client.get(table["files"]["json"], headers=headers)
        assert reply.status_code == 200
        assert reply.headers["x-equipoise-study-version"] == "1"
        rows = json.loads(reply.content)
        assert all(len(row) == table["columns"] for row in rows)
    with_mark = client.get("/api/v1/studies/mini/exports/entries.csv?bom=true", headers=headers)
    assert with_mark.content.startswith(b"\xef\xbb\xbfparticipant,")
    with database.reading() as session:
        found = reads.runs(session, study, by=manager)
    assert (found[0].format, found[0].via) == ("csv+bom", "api")
    assert len(found) == len(listed["tables"]) + 1


def test_a_token_without_the_scope_is_refused(database: Database, study: StudyInUse, manager: Actor):
    client = anonymous_client(database)
    headers = _token(database, study, manager, "participant.read")
    for path in ("exports", "exports/entries.csv"):
        reply = client.get(f"/api/v1/studies/mini/{path}", headers=headers)
        assert reply.status_code == 403
        assert reply.headers["content-type"] == "application/problem+json"
    assert client.get("/api/v1/studies/mini/exports/entries.csv").status_code == 401
