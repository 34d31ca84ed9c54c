"""Can somebody who runs exports see what is in a table before they take it, and is each export written down?"""

import csv
import hashlib
import io
import json
import re
import zipfile
from base64 import b64encode
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas
import pytest
import time_machine
from sqlalchemy import text
from typer.testing import CliRunner

from app import cli
from app.audit import replacing
from app.audit.actions import ENTRY
from app.exports import reads
from app.exports.formats import Format, workbook
from app.exports.formats.standards import Standard
from app.exports.manifest import _signed
from app.exports.running import make_waiting
from app.foundation import clock
from app.foundation.database import Database
from app.people import actions
from app.people.access import Actor
from app.studies.in_use import StudyInUse
from tests.api.client import api_client
from tests.exports.world import as_bytes, entry, participant
from tests.factories import mini_study, person
from tests.web.browser import Browser, anonymous_client, counted_statements, form_in, signed_in_client

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


# Built, saved, made in the background


def test_the_page_builds_an_export_says_how_scripts_do_it_and_saves_it(
    browser: Browser, database: Database, study: StudyInUse, manager: Actor
):
    address = "/mini/exports?table=entries&format=parquet&visit=week18&instrument=pain&values=labels&ids=mapped"
    page = browser.soup(address)
    link = page.find("a", attrs={"download": True})
    assert link is not None
    assert "M-001" not in page.get_text()
    code = page.get_text()
    for words in ("pandas.read_parquet(name)", "arrow::read_parquet(name)", "curl --fail", "visit=week18"):
        assert words in code
    for setting in ("change=$(grep", "change = reply.headers", "change <- 0  # the change number stands on"):
        assert setting in code, "what a script uses is set in it"
    frame = pandas.read_parquet(io.BytesIO(browser.get(str(link["href"])).content))
    assert len(frame) == 24
    assert set(frame["visit"]) == {"Week 18"}
    assert all(code.startswith("ID-") for code in frame["participant"])
    asked = str(page.select_one("input[name=asked]")["value"])  # type: ignore[index]
    for typed in ("99999", "yesterday", "-1"):
        wrong = browser.get(f"{address}&since={typed}")
        assert wrong.status_code == 422
        assert f'value="{typed}"' in wrong.text
        assert "There is no such change yet" in wrong.text
    refused = browser.post("/mini/exports/history", {"asked": asked, "act": "define", "name": " "}, page=address)
    assert refused.status_code == 422
    assert "Give the definition a name" in refused.text
    assert "data-error-summary" in refused.text, "the field stands far below"
    saved = browser.post("/mini/exports/history", {"asked": asked, "act": "define", "name": "For them"}, page=address)
    assert saved.status_code == 303
    listed = browser.soup(saved.headers["location"])
    assert "Saved. It stands below" in listed.get_text()
    again = next(one for one in listed.find_all("a") if one.get_text() == "For them")
    assert str(browser.soup(str(again["href"])).select_one("input[name=asked]")["value"]) == asked  # type: ignore[index]
    made = browser.post("/mini/exports/history", {"asked": asked, "act": "make"}, page=address)
    where = made.headers["location"]
    assert "Waits its turn" in browser.soup(where).get_text()
    assert "being made" not in browser.soup(where).get_text(), "one thing at a time"
    assert "so far" not in browser.soup(where).get_text(), "nothing is counted before it begins"
    assert browser.get(f"{where}/file").status_code == 409
    assert browser.get(f"{where}/manifest.json").status_code == 409
    folder = browser.client.app.state.settings.exports  # type: ignore[attr-defined]
    assert make_waiting(database, folder, clock.now) == 1
    page = browser.soup(where)
    link = page.find("a", attrs={"download": True})
    assert link is not None
    whole = browser.get(str(link["href"]))
    assert (whole.status_code, whole.headers["accept-ranges"]) == (200, "bytes")
    assert pandas.read_parquet(io.BytesIO(whole.content)).equals(frame)
    manifest = browser.get(f"{where}/manifest.json").json()
    assert manifest["sha256"] == hashlib.sha256(whole.content).hexdigest()
    # What changed since is asked for from there, and made in the background as well.
    later = next(str(one["href"]) for one in page.find_all("a") if one.get_text(strip=True) == "What changed since")
    with counted_statements(database) as statements:
        listed = browser.soup(later)
    assert len(statements) <= 12, "\n".join(statements)
    assert f"since={manifest['change']}" in later
    assert "The first column says changed or removed" in listed.get_text()
    change = str(listed.select_one("input[name=since][type=hidden]")["value"])  # type: ignore[index]
    assert change == str(manifest["change"])
    made = browser.post("/mini/exports/history", {"asked": asked, "act": "make", "since": change}, page=later)
    assert make_waiting(database, folder, clock.now) == 1
    since = browser.get(f"{made.headers['location']}/manifest.json").json()
    assert (since["since"], since["rows"]) == (manifest["change"], 0)
    part = browser.get(f"{where}/file", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole.content)}"
    other = browser.get(f"{where}/file", headers={"Range": "bytes=10-19", "If-Range": '"another"'})
    assert (other.status_code, other.content) == (200, whole.content)
    assert browser.get(f"{where}/file", headers={"Range": f"bytes={len(whole.content)}-"}).status_code == 416
    table = browser.soup("/mini/exports/history").get_text(" ", strip=True)
    assert manifest["sha256"][:16] in table
    assert "3 exports, newest first" in table
    assert "Entries, long" in table, "a table is called as on the page that makes it"
    assert "Parquet" in table


@pytest.mark.parametrize("file", ["entries.csv", "all.zip", "all.odm"])
def test_a_direct_download_says_that_it_cannot_go_on_and_is_the_same_anew(browser: Browser, file: str):
    first = browser.get(f"/mini/exports/{file}")
    assert first.headers["accept-ranges"] == "none"
    again = browser.get(f"/mini/exports/{file}", headers={"Range": "bytes=100-199"})
    assert (again.status_code, again.content) == (200, first.content)


ASKS = {"HX-Request": "true", "HX-Target": "div#how-far", "X-Unattended": "true"}


def test_the_page_of_an_export_in_the_background_moves_on_by_itself_and_keeps_no_session_alive(
    browser: Browser, database: Database, study: StudyInUse, manager: Actor
):
    asked = str(browser.soup("/mini/exports").select_one("input[name=asked]")["value"])  # type: ignore[index]
    where = browser.post("/mini/exports/history", {"asked": asked, "act": "make"}, page="/mini/exports").headers[
        "location"
    ]
    shown = browser.soup(where).select_one("#how-far")
    assert shown is not None
    assert (shown["hx-get"], shown["hx-trigger"], shown["hx-target"]) == (where, "every 2s", "#how-far")
    assert json.loads(str(shown["hx-headers"])) == {"X-Unattended": "true"}

    def asks() -> Any:
        return browser.get(where, headers=ASKS)

    def seen() -> Any:
        with database.reading() as session:
            return session.execute(text("SELECT max(seen_at) FROM sign_in_session")).scalar()

    before = seen()
    with time_machine.travel(clock.now() + timedelta(minutes=5), tick=False):
        waiting = asks()
        assert seen() == before, "nobody may be there any more"
        assert "Waits its turn" in waiting.text
        assert waiting.text.startswith('<div class="stack" id="how-far"')
        assert "hx-refresh" not in waiting.headers
        browser.get(where)
        assert seen() != before
    with database.writing() as session:
        session.execute(text("UPDATE export_run SET state = 'running', rows = 7"))
    assert "7 rows so far" in asks().text
    with database.writing() as session:
        session.execute(text("UPDATE export_run SET state = 'waiting'"))
    folder = browser.client.app.state.settings.exports  # type: ignore[attr-defined]
    assert make_waiting(database, folder, clock.now) == 1
    done = asks()
    assert (done.status_code, done.headers["hx-refresh"], done.content) == (200, "true", b"")
    shown = browser.soup(where).select_one("#how-far")
    assert shown is not None
    assert "hx-get" not in shown.attrs
    with time_machine.travel(clock.now() + timedelta(hours=13), tick=False):
        assert asks().headers["hx-refresh"] == "true", "the page itself leads to the sign-in"


def test_a_zip_of_everything_is_one_download(browser: Browser):
    page = browser.soup("/mini/exports?table=all&format=xlsx")
    link = page.find("a", attrs={"download": True})
    assert link is not None
    assert str(link["download"]).endswith("_xlsx.zip")
    with zipfile.ZipFile(io.BytesIO(browser.get(str(link["href"])).content)) as archive:
        assert "instrument_pain.xlsx" in archive.namelist()
        assert "codebook.csv" in archive.namelist()


def test_every_file_that_was_taken_is_named_on_the_page(
    database: Database, study: StudyInUse, manager: Actor, browser: Browser
):
    headers = _token(database, study, manager, "export.run")
    client, api = anonymous_client(database), "/api/v1/studies/mini/exports"
    taken = {
        f"{api}/entries.csv?bom=true": "Entries, long CSV, as stored, BOM by a program",
        "/mini/exports/all.zip?format=xlsx": "All tables Excel workbook, ZIP",
        "/mini/exports/all.zip?table=visits&table=entries": "Visits, Entries, long CSV, as stored, ZIP",
        "/mini/exports/dummy/participants.json": "Participants with dummy arms JSON",
    }
    for path, said in taken.items():
        reply = client.get(path, headers=headers) if path.startswith(api) else browser.get(path)
        assert reply.status_code == 200, path
        tables = browser.soup("/mini/exports").find_all("table")
        latest = next(table for table in tables if "Latest exports" in table.get_text())
        assert said in latest.select("tbody tr")[0].get_text(" ", strip=True)


def test_what_a_file_cannot_hold_is_refused_before_it_begins(browser: Browser, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workbook, "MOST_ROWS", 5)
    reply = browser.get("/mini/exports/entries.xlsx")
    assert reply.status_code == 409
    assert "Take the table as Parquet or CSV" in reply.text


def test_a_script_follows_changes_runs_a_definition_and_resumes(database: Database, study: StudyInUse, manager: Actor):
    client = anonymous_client(database)
    headers = _token(database, study, manager, "export.run")
    api = "/api/v1/studies/mini"
    first = client.get(f"{api}/exports/entries.csv", headers=headers)
    since = first.headers["x-equipoise-change"]
    later = client.get(f"{api}/exports/entries.json?since={since}", headers=headers)
    assert later.json() == []
    assert client.get(f"{api}/exports/entries.json?since=99999", headers=headers).status_code == 422
    assert client.get(f"{api}/exports/entries.json?visit=week99", headers=headers).status_code == 422
    bundle = client.get(f"{api}/exports/all.zip?format=ndjson&table=visits&visit=week18", headers=headers)
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        assert archive.namelist() == ["visits.ndjson", "codebook.csv", "contents.json"]
    asked = {"tables": ["entries"], "format": "csv"}
    saved = client.post(f"{api}/export-definitions", json={"name": "All entries", "asked": asked}, headers=headers)
    assert (saved.status_code, saved.json()["version"]) == (201, 1)
    names = client.get(f"{api}/export-definitions", headers=headers).json()["items"]
    assert [(one["name"], one["asked"]["tables"]) for one in names] == [("All entries", ["entries"])]
    assert client.post(f"{api}/export-runs", json={}, headers=headers).status_code == 422
    made = client.post(f"{api}/export-runs", json={"definition": "All entries"}, headers=headers)
    assert made.status_code == 202
    where = made.headers["location"]
    assert client.get(f"{where}/file", headers=headers).status_code == 409
    folder = client.app.state.settings.exports  # type: ignore[attr-defined]
    assert make_waiting(database, folder, clock.now) == 1
    run = client.get(where, headers=headers).json()
    assert (run["state"], run["rows"], run["definition"]) == ("done", 24, "All entries")
    tag = f'"{run["sha256"]}"'
    parts = [
        client.get(f"{where}/file", headers={**headers, "Range": f"bytes={begin}", "If-Range": tag}).content
        for begin in ("0-99", "100-")
    ]
    assert b"".join(parts) == first.content
    signed = client.get(f"{where}/manifest", headers=headers).json()
    assert signed["sha256"] == hashlib.sha256(first.content).hexdigest() == run["sha256"]
    listed = client.get(f"{api}/export-runs?limit=2", headers=headers).json()
    assert [one["number"] for one in listed["items"]] == [run["number"], run["number"] - 1]
    assert listed["next"]


@pytest.mark.requirement("AX11-5")
def test_the_command_line_checks_a_file_against_its_manifest(
    database: Database, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    reply = browser.get("/mini/exports/entries.csv")
    number = reply.headers["x-equipoise-export"]
    file, manifest = tmp_path / "entries.csv", tmp_path / "manifest.json"
    file.write_bytes(reply.content)
    manifest.write_bytes(browser.get(f"/mini/exports/history/{number}/manifest.json").content)
    monkeypatch.setattr(cli, "open_database", lambda _settings: database)
    runner = CliRunner()
    assert runner.invoke(cli.app, ["export", "verify", str(file), str(manifest)]).exit_code == 0
    assert runner.invoke(cli.app, ["export", "verify", "--anywhere", str(file), str(manifest)]).exit_code == 0
    file.write_bytes(reply.content + b" ")
    assert runner.invoke(cli.app, ["export", "verify", str(file), str(manifest)]).exit_code == 1
    file.write_bytes(reply.content)
    with database.writing() as session:  # a log that never was like this
        session.execute(text("UPDATE export_run SET tree_head = 'ab'"))
    manifest.write_bytes(browser.get(f"/mini/exports/history/{number}/manifest.json").content)
    refused = runner.invoke(cli.app, ["export", "verify", str(file), str(manifest)])
    assert refused.exit_code == 1


@pytest.mark.requirement("LOG-11", "AX11-5")
def test_what_an_earlier_key_signed_is_still_proven_and_no_later_export(
    database: Database, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cli, "open_database", lambda _settings: database)
    runner, keys, file = CliRunner(), database.keys, tmp_path / "entries.csv"

    def exported() -> tuple[bytes, dict[str, Any], str]:
        reply = browser.get("/mini/exports/entries.csv")
        where = f"/mini/exports/history/{reply.headers['x-equipoise-export']}/manifest.json"
        return reply.content, browser.get(where).json(), where

    def checked(content: bytes, said: dict[str, Any]) -> tuple[int, str]:
        file.write_bytes(content)
        (tmp_path / "manifest.json").write_text(json.dumps(said), encoding="utf-8")
        done = runner.invoke(cli.app, ["export", "verify", str(file), str(tmp_path / "manifest.json")])
        return done.exit_code, done.output.replace("\n", " ")

    def signed(said: dict[str, Any], generation: int) -> dict[str, Any]:
        rest = {name: value for name, value in said.items() if name != "signature"}
        rest["signed_by"] = b64encode(keys.public_key(generation)).decode()
        return {**rest, "signature": b64encode(keys.sign(_signed(rest), generation)).decode()}

    before, first, where = exported()
    with database.writing() as session:
        by = person(session, None, "administrator", username="admin")
        replacing.replace_key(session, tmp_path / "checkpoints", by=by, why="A new year", now=clock.now())
    after, second, _ = exported()
    assert [said["signed_by"] for said in (first, second)] == [b64encode(keys.public_key(n)).decode() for n in (0, 1)]
    code, words = checked(before, first)
    assert (code, "signed with a key that was replaced later: " + first["signed_by"] in words) == (0, True)
    # Asked for again it is signed with the present key, and says the same of an export from before.
    again = browser.get(where).json()
    assert again == signed(first, 1)
    for content, said in ((before, again), (after, second)):
        code, words = checked(content, said)
        assert (code, "replaced" in words) == (0, False), words
    # Whoever has the old key makes a manifest of what was exported with the new one, or has one that never was one.
    code, words = checked(after, signed(second, 0))
    assert (code, "replaced before the export was made: it proves nothing" in words) == (1, True)
    code, words = checked(after, signed(second, 2))
    assert (code, "never announced" in words) == (1, True)
    for name in ("", "!", b64encode(bytes(32)).decode(), None, first["signed_by"]):
        code, words = checked(after, {**second, "signed_by": name})
        assert (code, "is not signed by this installation, or was changed" in words) == (1, True)


@pytest.mark.requirement("ODM-7")
@pytest.mark.parametrize("standard", list(Standard))
def test_a_whole_study_is_taken_from_the_page_and_has_a_manifest(
    browser: Browser, database: Database, study: StudyInUse, manager: Actor, standard: Standard
):
    page = browser.soup(f"/mini/exports?table=visits&format={standard}&values=labels")
    link = page.find("a", attrs={"download": True})
    assert link is not None
    assert str(link["href"]) == f"/mini/exports/all.{standard}"
    assert str(link["download"]).endswith(f".{standard.ending}")
    assert f"/api/v1/studies/mini/exports/all.{standard}" in page.get_text()
    reply = browser.get(str(link["href"]))
    assert reply.status_code == 200
    assert reply.headers["content-type"].partition(";")[0] == standard.media_type
    with database.reading() as session:
        (run,) = reads.runs(session, study, by=manager)
    assert (run.table, run.format) == ("all", standard.value)
    assert run.sha256 == hashlib.sha256(reply.content).hexdigest()
    manifest = browser.get("/mini/exports/history/1/manifest.json").json()
    assert (manifest["sha256"], manifest["rows"]) == (run.sha256, run.rows)
    assert bool(manifest["rows"]) is not standard.is_definition  # nobody is in a definition
    for refused in (f"participants.{standard}", f"dummy/participants.{standard}", f"dummy/all.{standard}"):
        assert browser.get(f"/mini/exports/{refused}").status_code == 404
    # What changed since a number.
    assert "since=" not in str(link["href"])
    page = browser.soup(f"/mini/exports?table=all&format={standard}&since=0")
    link = page.find("a", attrs={"download": True})
    assert link is not None
    assert "_since_0_" in str(link["download"])
    assert page.select_one("details[open] input[name=since]")["value"] == "0"  # type: ignore[index]
    changed = browser.get(str(link["href"]))
    assert changed.status_code == 200
    assert browser.get(f"/mini/exports/all.{standard}?since=99999").status_code == 422
    manifest = browser.get(f"/mini/exports/history/{changed.headers['x-equipoise-export']}/manifest.json").json()
    assert (manifest["since"], manifest["sha256"]) == (0, hashlib.sha256(changed.content).hexdigest())
    assert manifest["change"] >= int(changed.headers["x-equipoise-change"]) > 0


@pytest.mark.requirement("DSJ-8", "SDTM-5")
def test_each_dataset_is_at_an_address_of_its_own(database: Database, study: StudyInUse, manager: Actor):
    client = api_client(database, manager)
    with zipfile.ZipFile(io.BytesIO(client.get("/exports/all.dataset_json").content)) as archive:
        whole = {name: json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json")}
    listed = client.rows("/datasets", params={"limit": 2})
    assert [f"{each['name'].lower()}.json" for each in listed] == list(whole)
    for each in listed:
        for address in (each["datasetOID"], each["name"]):
            reply = client.get(f"/datasets/{address}")
            assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json"), reply.text
            del (expected := {**whole[f"{each['name'].lower()}.json"]})["metaDataRef"]
            # Taking one is in the log, which names the state that a file was made of.
            moving = {"fileOID", "datasetJSONCreationDateTime", "dbLastModifiedDateTime"}
            assert {k: v for k, v in reply.json().items() if k not in moving} == {
                k: v for k, v in expected.items() if k not in moving
            }
        head, *rows = map(json.loads, client.get(f"/datasets/{each['name']}?lines=true").text.splitlines())
        assert rows == whole[f"{each['name'].lower()}.json"]["rows"]
        assert head["records"] == len(rows)
    assert client.get("/datasets/IG.EX").status_code == 404
    with database.reading() as session:
        taken = session.execute(text("select count(*) from audit_entry where subject like 'export/dataset_%'")).scalar()
    assert taken == 3 * len(listed)
    with database.writing() as session:
        coordinator = person(session, study, "coordinator")
    assert api_client(database, coordinator).get("/datasets/IG.DM").status_code == 403


def test_a_part_of_a_dataset_is_what_the_whole_has_there(database: Database, manager: Actor):
    client = api_client(database, manager)
    whole = client.get("/datasets/IG.QS").json()
    rows = whole["rows"]
    assert len(rows) > 5
    for query, expected in (
        ("offset=2&limit=3", rows[2:5]),
        ("limit=1", rows[:1]),
        ("offset=4", rows[4:]),
        (f"offset={len(rows) - 1}&limit=9", rows[-1:]),
        (f"offset={len(rows)}", []),
        ("offset=0&limit=0", rows),  # what a generated client sends that was told the defaults
    ):
        part = client.get(f"/datasets/IG.QS?{query}").json()
        assert (part["rows"], part["records"], part["columns"]) == (expected, len(rows), whole["columns"])
        assert client.get(f"/datasets/IG.QS?{query}&dataonly=true").json() == {"rows": expected}
        lines = client.get(f"/datasets/IG.QS?{query}&dataonly=True&lines=true").text.splitlines()
        assert [json.loads(line) for line in lines] == expected
    said = client.get("/datasets/IG.QS?metadataonly=True").json()
    assert (said.keys(), said["records"]) == (whole.keys() - {"rows"}, len(rows))
    both = client.refused(422, "GET", "/datasets/IG.QS?metadataonly=true&dataonly=true")
    assert [each["field"] for each in both["errors"]] == ["dataonly"]
    for wrong in ("offset=-1", "limit=x", "limit=99999999999"):
        assert client.get(f"/datasets/IG.QS?{wrong}").status_code == 422


def test_a_large_study_is_offered_in_the_background_first(browser: Browser, monkeypatch: pytest.MonkeyPatch):
    page = "/mini/exports?table=all&format=odm"
    primary = browser.soup(page).select(".page-actions .button-primary")
    assert [each.get_text(strip=True) for each in primary] == ["Download"], "twelve entries are not large"
    monkeypatch.setattr("app.web.exports.LARGE", 11)
    large = browser.soup(page)
    (button,) = large.select(".page-actions .button-primary")
    assert button.get_text(strip=True) == "Make it in the background"
    assert "shows how far it is" in large.get_text()
    assert [each.get_text(strip=True) for each in large.select(".page-actions a[download]")] == ["Download"]
    assert [each["id"] for each in large.select('form[action="/mini/exports/history"]')] == [button["form"]]
    fields = form_in(large, "/mini/exports/history")
    asked = browser.send("/mini/exports/history", {**fields, str(button["name"]): str(button["value"])})
    assert (asked.status_code, asked.headers["location"]) == (303, "/mini/exports/history/1")
    for other in ("/mini/exports?table=all&format=csv", f"{page}&since=1"):
        kinds = [each.get_text(strip=True) for each in browser.soup(other).select(".page-actions .button-primary")]
        assert kinds == ["Download"], other
