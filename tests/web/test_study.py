"""Study: the protocol in readable form, the table of roles, and nothing that blinded eyes should not meet."""

import pytest

from app.foundation.database import Database
from app.people.permissions import TABLE, Role
from app.studies.loading import library, read_folder
from tests.web.browser import counted_statements
from tests.web.world import World

STUDY = "/mini/study"
BLINDED = ("coordinator", "assessor", "investigator", "data_manager", "monitor", "administrator")
UNBLINDED = ("clinician", "statistician")


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


def words(browser, path: str = STUDY) -> str:
    return str(browser.soup(path).get_text(" ", strip=True))


def test_the_protocol_is_shown_as_a_person_reads_it(world):
    said = words(world.coordinator())
    for part in ("Aged 18 to 70", "Recent surgery", "Week 18", "−7 / +14", "Pain at week 18", "Whole number 0 to 120"):
        assert part in said.replace("\u00a0", " "), part
    assert "selected_count([dis_items])" in said
    assert "expected 1 to …, else a reason is asked for" in said
    assert "in force" in said
    assert "Stops visits" in said
    assert "Not done" in said


@pytest.mark.parametrize("title", ["Mini", "Pain & <sleep>"])
def test_a_study_says_its_name_once_in_the_title_of_its_page(database, title):
    world = World(database, short_title=title)
    browser = world.coordinator()
    titles = [browser.soup(path).select("head title")[0].get_text() for path in (STUDY, f"{STUDY}/roles")]
    assert titles == [f"{title} · Equipoise", f"Roles · {title} · Equipoise"]


@pytest.mark.parametrize("role", BLINDED)
def test_blinded_eyes_see_how_many_groups_and_no_names(world, role):
    reply = world.browser(role).get(STUDY)
    assert "2 groups, 1:1" in reply.text
    for arm in world.study.definition.arms:
        assert arm.label not in reply.text
    assert "Sham laser" not in reply.text
    assert "Education" not in reply.text


@pytest.mark.parametrize("role", UNBLINDED)
def test_unblinded_eyes_see_the_groups(world, role):
    assert "Zephyrine training" in world.browser(role).get(STUDY).text


@pytest.mark.parametrize("name", [folder.name for folder in library()])
def test_every_study_of_the_library_has_its_page(database, name):
    study, _ = read_folder(next(folder for folder in library() if folder.name == name))
    assert study is not None
    world = World(database, **study.model_dump(mode="json"))
    said = words(world.browser("data_manager"), f"/{name}/study")
    for part in (*study.not_known, *(each.title for each in study.amendments)):
        assert " ".join(part.split()) in said
    for arm in study.arms if study.is_allocated else ():
        assert arm.label not in said, arm.label


@pytest.mark.requirement("CON-20")
def test_the_table_of_roles_is_the_table_that_is_asked(world):
    page = world.coordinator().soup(f"{STUDY}/roles")
    rows = page.select("tbody tr")
    assert len(rows) == len(TABLE)
    for row, holders in zip(rows, TABLE.values(), strict=True):
        ticked = [bool(cell.select_one(".status")) for cell in row.select("td")]
        assert ticked == [role in holders for role in Role]
    assert "Coordinator (you)" in page.get_text(" ", strip=True)


def test_hostile_words_in_a_protocol_are_shown_as_text(database):
    hostile = "<script>alert(1)</script>"
    world = World(database, code="odd", title=hostile, not_known=[hostile], short_title=hostile)
    reply = world.coordinator().get("/odd/study")
    assert hostile not in reply.text
    assert "&lt;script&gt;" in reply.text


def test_no_page_asks_the_database_more_than_twelve_times(database: Database):
    browser = World(database).coordinator()
    for path in (STUDY, f"{STUDY}/roles"):
        with counted_statements(database) as statements:
            assert browser.get(path).status_code == 200
        assert 2 <= len(statements) <= 12, (path, statements)
