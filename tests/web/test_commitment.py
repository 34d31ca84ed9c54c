"""The statistician's certificate: to read, to print, to check with; and that nobody else finds it."""

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from sqlalchemy import insert, select

from app.audit.actions import ENTRY
from app.foundation import clock
from app.foundation.database import Database
from app.people.permissions import Role
from app.people.reads import MEMBERSHIP
from tests.conftest import ROOT
from tests.web.browser import PASSWORD, Browser, counted_statements, words_of
from tests.web.test_randomisation import sealed
from tests.web.world import World

PAGE = "/mini/sequence/1/certificate"
OTHERS = [role for role in Role if role is not Role.STATISTICIAN]
FILES = (f"{PAGE}.json", f"{PAGE}.pdf", "/mini/sequence/1/proofs.ndjson", "/mini/sequence/1/plan.json")


@pytest.fixture
def world(shared_database: Database) -> World:
    world = World(shared_database)
    sealed(world, slots=8)
    for _ in range(2):
        participant = world.filled()
        world.coordinator().post(f"/mini/participants/{participant.code}/randomise", {"password": PASSWORD})
    return world


@pytest.fixture
def browser(world: World) -> Browser:
    return world.browser("statistician", site_code=None)


def said(reply: Any) -> str:
    return words_of(reply.text)


def logged(world: World, action: str) -> list[Any]:
    with world.database.reading() as session:
        return list(session.execute(select(ENTRY).where(ENTRY.c.action == action)).all())


def test_the_certificate_leads_to_everything_that_is_checked_with_it(world: World, browser: Browser):
    review = browser.soup("/mini/sequence/1")
    assert review.select_one(f"a[href='{PAGE}']") is not None
    with counted_statements(world.database) as statements:
        page = browser.soup(PAGE)
    assert len(statements) <= 12
    assert {str(link["href"]) for link in page.select("main a.button")} >= set(FILES[:3])
    assert not page.select(f"a[href='{FILES[3]}']")  # the plan only once the list is closed
    assert "Proofs (2 allocations)" in page.get_text()


def test_the_certificate_names_its_method_as_other_pages_do(browser: Browser):
    assert "Methode Permutierte Blöcke" in said(browser.get(PAGE, headers={"Accept-Language": "de"}))


def test_the_file_is_the_document_whose_hash_is_in_the_log(world: World, browser: Browser):
    reply = browser.get(f"{PAGE}.json")
    (entry,) = logged(world, "sequence.sealed")
    assert hashlib.sha256(reply.content).hexdigest() == json.loads(entry.new)["certificate"]
    assert reply.headers["cache-control"] == "no-store"


def test_the_certificate_prints_the_same_bytes_each_time(browser: Browser):
    first, second = browser.get(f"{PAGE}.pdf"), browser.get(f"{PAGE}.pdf")
    assert first.headers["content-type"] == "application/pdf"
    assert first.content == second.content
    with pikepdf.open(io.BytesIO(first.content)) as document:
        assert len(document.pages) == 1
        assert document.docinfo["/Title"] == "Sealing certificate"
        assert document.open_metadata()["pdfaid:part"] == "2"


def test_closing_needs_a_reason_and_the_password_and_then_everything_is_checked(
    world: World, browser: Browser, tmp_path: Path
):
    early = browser.get(FILES[3])
    assert early.status_code == 409
    assert "Close the list first" in said(early)
    for values, words in (
        ({"why": "", "password": PASSWORD}, "Say why nobody is randomised"),
        ({"why": "Reached", "password": "no"}, "password"),
    ):
        reply = browser.post("/mini/sequence/1/close", values, page=PAGE)
        assert reply.status_code == 422
        assert words in said(reply)
    assert "Reached" in reply.text  # what was typed stays
    done = browser.post("/mini/sequence/1/close", {"why": "Reached", "password": PASSWORD}, page=PAGE)
    assert done.headers["location"] == f"{PAGE}?done=closed"
    assert "Closed" in browser.soup(PAGE).get_text()
    gates = world.coordinator().soup(f"/mini/participants/{world.filled().code}/randomise").get_text()
    assert "Randomisation is not open for this participant." in gates
    names = ("certificate", "proofs", "plan")
    for name, address in zip(names, (FILES[0], FILES[2], FILES[3]), strict=True):
        (tmp_path / name).write_bytes(browser.get(address).content)
    command = [
        sys.executable,
        "-I",
        str(ROOT / "scripts" / "verify_allocation.py"),
        *(str(tmp_path / n) for n in names),
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "2 allocations, each the committed next one" in found.stdout


@pytest.mark.requirement("CONC-4", "E9-1")
@pytest.mark.parametrize("role", OTHERS)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_for_everybody_else_it_was_never_there(world: World, role: Role):
    other = world.browser(role)
    nonsense = other.get("/mini/sequence/1/nonsense")
    for path in (PAGE, *FILES):
        reply = other.get(path)
        assert reply.status_code == 404
        assert reply.text == nonsense.text


@pytest.mark.requirement("CON-18", "CON-19", "CONC-1")
def test_the_statement_of_concealment_is_a_page_a_print_and_a_file(world: World, browser: Browser):
    path = "/mini/concealment"
    with counted_statements(world.database) as statements:
        page = browser.soup(path)
    assert len(statements) <= 12, statements
    assert "Nobody who enrolled or randomised had to do with the sequence" in page.get_text(" ")
    file = json.loads(browser.get(f"{path}.json").content)
    assert file["holds"] is True
    assert {each["action"] for each in file["enrolling"]} >= {"participant.screened", "participant.randomised"}
    text = browser.get(f"{path}.pdf").content
    with pikepdf.open(io.BytesIO(text)) as pdf:
        assert len(pdf.pages) == 1
    manager = world.browser("data_manager", site_code=None)
    early = manager.get(path)
    assert early.status_code == 409
    assert "once every list is closed" in said(early)
    assert world.coordinator().get(path).status_code == 403
    # Somebody who enrolled is given the statistician's role: it falls, and says who it was.
    with world.database.writing() as session:
        coordinator = world.coordinators["north"]
        session.execute(
            insert(MEMBERSHIP).values(
                person_id=coordinator.person_id,
                study_id=world.study.id,
                role="statistician",
                granted_at=clock.now(),
                granted_by="test",
            )
        )
    page = browser.soup(path)
    assert "The statement does not hold" in page.get_text(" ")
    assert f"{coordinator.username}: coordinator" in page.get_text(" ")
    browser.post("/mini/sequence/1/close", {"why": "Reached", "password": PASSWORD}, page=PAGE)
    assert "The statement does not hold" in said(manager.get(path))
