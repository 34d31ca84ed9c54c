"""The statistician's flow by arm: the diagram, its tables and files, and that nobody else finds it."""

import csv
from collections import Counter
from io import StringIO
from typing import Any

import pikepdf
import pytest

from app.foundation import clock
from app.foundation.database import Database
from app.people.permissions import Role
from app.randomisation.actions import randomise
from app.randomisation.opening import open_envelopes
from tests.web.browser import counted_statements, words_of
from tests.web.test_randomisation import sealed
from tests.web.world import World

ADDRESS = "/mini/sequence/flow"
OTHERS = [role for role in Role if role is not Role.STATISTICIAN]
LABELS = {"active": "Zephyrine training", "sham": "Placebex device"}


def randomised(world: World, number: int) -> Counter[str]:
    """So many randomised; how many there are in each arm."""
    sealed(world)
    people: list[int] = []
    for _ in range(number):
        row = world.filled()
        with world.database.writing() as session:
            randomise(session, world.study, row, by=world.coordinators["north"], now=clock.now())
        assert row.id is not None
        people.append(row.id)
    by = world.person("statistician", site_code=None)
    with world.database.writing() as session:
        return Counter(open_envelopes(session, world.study, people, by=by, why="Test", now=clock.now()).values())


@pytest.mark.requirement("CON-F4", "CON-F5", "CON-26", "E6-1")
def test_the_page_and_its_files_have_every_arm(shared_database: Database, tmp_path: Any):
    world = World(shared_database)
    arms = randomised(world, 3)
    browser = world.browser("statistician", site_code=None)
    before = world.log()
    with counted_statements(world.database) as statements:
        page = browser.soup(ADDRESS)
    assert len(statements) <= 12, [each[:110] for each in statements]
    assert world.log()[len(before) :] == ["envelope.opened"] * 3 + ["flow.reported"]
    assert page.select_one(".arm-rule") is not None
    (everybody,) = page.select(".flow-all")
    assert everybody.get_text(" ", strip=True) == "Randomised n = 3"
    for column, (code, label) in zip(page.select(".flow-arm"), LABELS.items(), strict=True):
        assert [each.get_text(strip=True) for each in column.select("h2")] == [label]
        boxes = [each.get_text(" ", strip=True) for each in column.select("h3")]
        assert boxes == [
            f"Allocated n = {arms[code]}",
            "Received the treatment n = 0",
            "Week 18: followed up n = 0",
            "Analysed: Pain at week 18 n = 0",
        ]
    tables = {table.caption.get_text(strip=True): table for table in page.find_all("table") if table.caption}
    assert set(tables) == {
        "Treatment by arm",
        "Follow-up by visit and arm",
        "Analysed and available, by outcome and arm",
    }
    for row, code in zip(tables["Treatment by arm"].select("tbody tr"), LABELS, strict=True):
        numbers = [int(cell.get_text(strip=True)) for cell in row.find_all("td")]
        assert numbers[0] == sum(numbers[2:-1]) == arms[code]
    assert browser.soup("/mini/sequence").select_one(f"a[href='{ADDRESS}']") is not None

    lines = list(csv.DictReader(StringIO(browser.get(f"{ADDRESS}.csv").text.removeprefix("\ufeff"))))
    found = {(line["arm"], line["step"], line["of"], line["reason"]): int(line["number"]) for line in lines}
    assert len(found) == len(lines)
    for code in LABELS:
        assert found[code, "allocated", "", ""] == arms[code]
        of = "week18/pain/pain_nrs"
        assert found[code, "analysed", of, ""] + found[code, "excluded", of, ""] == arms[code]
    reply = browser.get(f"{ADDRESS}.pdf")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/pdf")
    (tmp_path / "flow.pdf").write_bytes(reply.content)
    with pikepdf.open(tmp_path / "flow.pdf") as document:
        assert len(document.pages) >= 1
    assert world.log()[len(before) :] == (["envelope.opened"] * 3 + ["flow.reported"]) * 3


def test_without_anybody_the_page_says_so(shared_database: Database):
    browser = World(shared_database).browser("statistician", site_code=None)
    assert "Nobody to count yet" in browser.soup(ADDRESS).get_text()
    assert browser.get(f"{ADDRESS}.csv").status_code == browser.get(f"{ADDRESS}.pdf").status_code == 200


def test_where_groups_are_observed_it_opens_nothing(shared_database: Database):
    world = World(shared_database, allocation={"method": "observed"}, treatment=[])
    world.consented()
    before = world.log()
    page = world.browser("statistician", site_code=None).soup(ADDRESS)
    assert [each.get_text(" ", strip=True) for each in page.select(".flow-all, .flow-arm h2")] == [
        "Enrolled n = 1",
        "Group not recorded",
    ]
    assert world.log()[len(before) :] == ["flow.reported"]


@pytest.mark.requirement("E6-1", "SEC-19", "CON-F8")
@pytest.mark.parametrize("role", OTHERS)
def test_nobody_else_finds_it(shared_database: Database, role: Role):
    world = World(shared_database)
    browser = world.browser(role)
    before = world.log()
    nonsense = browser.get("/mini/sequence/nonsense")
    for path in (ADDRESS, f"{ADDRESS}.pdf", f"{ADDRESS}.csv"):
        reply = browser.get(path)
        assert reply.status_code == nonsense.status_code == 404
        assert _words(reply) == _words(nonsense)
    assert world.log() == before


def _words(reply: Any) -> str:
    return words_of(reply.text)
