"""The statistician's closed report on the blind: what it says, when it is there, and that nobody else finds it."""

import json
import re
from typing import Any

import pikepdf
import pytest
from sqlalchemy import insert

from app.capture.models import Entry
from app.foundation import clock
from app.foundation.database import Database, table_of
from app.people.permissions import Role
from app.randomisation.actions import randomise
from app.randomisation.blinding.rules import bang, james
from app.randomisation.opening import open_envelopes
from tests.factories import asking_for_a_guess
from tests.web.browser import words_of
from tests.web.test_randomisation import sealed
from tests.web.world import World

ADDRESS = "/mini/sequence/blinding"
OTHERS = [role for role in Role if role is not Role.STATISTICIAN]


def guessed(world: World, answers: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """As many randomised participants, who answered this at week 18; what was answered, by arm."""
    sealed(world)
    people: list[int] = []
    with world.database.writing() as session:
        for values in answers:
            session.commit()
            row = world.filled()
            randomise(session, world.study, row, by=world.coordinators["north"], now=clock.now())
            assert row.id is not None
            people.append(row.id)
            common = {"study_id": world.study.id, "study_version_id": world.study.version_id, "reasons": "{}"}
            saved = {"created_at": clock.now(), "created_by": "x", "saved_at": clock.now(), "saved_by": "x"}
            form = {"visit": "week18", "instrument": "belief", "status": "complete", "version": 1}
            stored = {"participant_id": row.id, "values": json.dumps(values)}
            session.execute(insert(table_of(Entry)).values(**common, **saved, **form, **stored))
    by = world.person("statistician", site_code=None)
    with world.database.writing() as session:
        arms = open_envelopes(session, world.study, people, by=by, why="Test", now=clock.now())
    found: dict[str, list[dict[str, Any]]] = {"active": [], "sham": []}
    for participant, values in zip(people, answers, strict=True):
        found[arms[participant]].append(values)
    return found


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database, **asking_for_a_guess("active", "sham"))


ANSWERS: list[dict[str, Any]] = [
    {"guess": "tested", "guess_sure": "very"},
    {"guess": "tested", "guess_sure": "rather"},
    {"guess": "other"},
    {"guess": "unsure"},
    {"guess": "tested", "guess_sure": "very"},
    {"guess": {"missing": "UNK"}},
]


def counts(by_arm: dict[str, list[dict[str, Any]]], arm: str) -> tuple[int, int, int]:
    said = [values["guess"] for values in by_arm[arm]]
    return said.count("tested"), said.count("other"), said.count("unsure")


def figures(number: float) -> str:
    return f"{number:.2f}"


@pytest.mark.requirement("E6-1", "E6-12")
def test_the_report_shows_counts_and_indices_with_their_people(world: World):
    by_arm = guessed(world, ANSWERS)
    browser = world.browser("statistician", site_code=None)
    before = world.log()
    page = browser.soup(ADDRESS)
    since = world.log()[len(before) :]
    assert since == ["envelope.opened"] * 6 + ["blinding.reported"]
    tables = {table.caption.get_text(strip=True): table for table in page.find_all("table") if table.caption}
    first = tables["What was guessed"].select("tbody tr")
    active, sham = counts(by_arm, "active"), counts(by_arm, "sham")
    for row, arm, said in zip(first, ("active", "sham"), (active, sham), strict=True):
        shown = [int(cell.get_text(strip=True)) for cell in row.find_all("td")]
        assert shown == [len(by_arm[arm]), *said, len(by_arm[arm]) - sum(said)]
    lines = [
        [cell.get_text(strip=True) for cell in row.find_all(["th", "td"])]
        for row in tables["Indices"].select("tbody tr")
    ]
    overall = james([active[:2], sham[:2]], [active[2], sham[2]], [0, 1])
    assert overall is not None
    assert lines[0][:4] == ["James' index", "everybody", "5", figures(overall.value)]
    expected = (
        ("Zephyrine training", bang(active[0], active[1], active[2])),
        ("Placebex device", bang(sham[1], sham[0], sham[2])),
    )
    for line, (label, index) in zip(lines[1:3], expected, strict=True):
        assert line[:2] == ["Bang's index", label]
        if index is None:
            assert line[2] == "–"
        else:
            assert line[2:4] == [str(index.n), figures(index.value)]
            said_interval = f"{figures(index.low)} to {figures(index.high)}"
            assert line[4] == (said_interval if index.has_interval else "none: all answered alike")
    assert [line[0] for line in lines[3:]] == ["Bang's index by certainty"] * 2
    assert "fewer than 30 people" in page.get_text()
    assert page.select_one(".arm-rule") is not None


def test_the_report_is_there_to_file(world: World, tmp_path):
    guessed(world, ANSWERS[:3])
    reply = world.browser("statistician", site_code=None).get(f"{ADDRESS}.pdf")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/pdf"
    assert re.search(r'filename="mini-blinding-\d{4}-\d\d-\d\d\.pdf"', reply.headers["content-disposition"])
    path = tmp_path / "report.pdf"
    path.write_bytes(reply.content)
    with pikepdf.open(path) as document:
        assert len(document.pages) >= 1


@pytest.mark.requirement("E6-1", "E6-12")
def test_before_the_end_the_page_says_why_and_opens_nothing(shared_database: Database):
    changes = {**asking_for_a_guess("active", "sham"), "unblinding": {}}
    world = World(shared_database, **changes)
    guessed(world, ANSWERS[:2])
    browser = world.browser("statistician", site_code=None)
    before = world.log()
    page = browser.soup(ADDRESS)
    assert "Recruitment is still open" in page.get_text()
    assert page.select_one(".arm-rule") is None
    assert world.log() == before
    reply = browser.get(f"{ADDRESS}.pdf")
    assert reply.status_code == 409
    assert world.log()[len(before) :] == ["blinding.report_refused"]
    browser.client.headers.update({"Accept-Language": "de"})
    german = browser.soup(ADDRESS).get_text()
    assert "Recruitment is still open" not in german
    assert "Rekrutierung" in german


def test_a_study_that_asks_for_no_guess_says_how_to_ask(shared_database: Database):
    world = World(shared_database)
    browser = world.browser("statistician", site_code=None)
    assert "asks nobody for a guess" in browser.soup(ADDRESS).get_text()
    assert browser.soup("/mini/sequence").select_one(f"a[href='{ADDRESS}']") is None


def test_the_way_there_is_on_the_page_of_sequences(world: World):
    browser = world.browser("statistician", site_code=None)
    assert browser.soup("/mini/sequence").select_one(f"a[href='{ADDRESS}']") is not None


@pytest.mark.requirement("E6-1", "SEC-19")
@pytest.mark.parametrize("role", OTHERS)
def test_nobody_else_finds_the_report(world: World, role: Role):
    browser = world.browser(role)
    before = world.log()
    for path in (ADDRESS, f"{ADDRESS}.pdf"):
        reply, nonsense = browser.get(path), browser.get("/mini/sequence/nonsense")
        assert reply.status_code == nonsense.status_code == 404
        assert _words(reply) == _words(nonsense)
    assert world.log() == before


def _words(reply: Any) -> str:
    return words_of(reply.text)
