"""Source verification on pages: what is to be verified, from Today to the list, to a form, and on to the next."""

import csv
import io
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from app.foundation.database import Database
from tests.capture.records import consented
from tests.web.browser import Browser, counted_statements, form_in
from tests.web.test_entries import FORM, PAIN, World, at_the_visit
from tests.web.test_queries import asked, words

__all__ = ["at_the_visit"]

LIST = "/mini/verification"


@pytest.fixture
def world(shared_database: Database) -> World:
    world = World(shared_database)
    with world.database.writing() as session:
        consented(session, world.study, "M-009")
    assessor = world.browser("assessor")
    for form in (FORM, FORM.replace("M-001", "M-009")):
        assert assessor.post(form, PAIN).status_code == 303
    return world


def rows(browser: Browser, **query: str) -> list[str]:
    """Each line of the list, as words."""
    where = "&".join(f"{name}={value}" for name, value in query.items())
    table = browser.soup(f"{LIST}?{where}").select_one("main section:not(#sites) table")
    return [] if table is None else [words(each) for each in table.select("tbody tr")]


def verify(browser: Browser, record: str) -> Any:
    """All of the form on this page agrees with its source."""
    fields = form_in(browser.soup(record), f"{urlsplit(record).path.removesuffix('/record')}/verified")
    return browser.send(f"{urlsplit(record).path.removesuffix('/record')}/verified", {**fields, "which": "everything"})


@pytest.mark.requirement("E6-9")
def test_a_monitor_goes_from_today_through_the_list_until_nothing_is_left(world: World):
    monitor = world.browser("monitor")
    today = monitor.soup("/mini/today")
    link = today.select_one(f'main a[href="{LIST}?state=unverified"]')
    assert link is not None
    assert words(link) == "2 forms are not yet verified"
    assert "Visits due" not in words(today), "who verifies holds no visits"
    assert "0 % verified" in words(today)
    first, second = monitor.soup(str(link["href"])).select("main tbody a[href*='/record']")
    page = monitor.soup(str(first["href"]))
    following = page.select_one("a[href*='M-009'][href*='verifying=']")
    assert following is not None
    assert "Next: M-009" in words(following)
    kept = verify(monitor, str(first["href"]))
    assert kept.status_code == 303
    after = kept.headers["location"]
    assert parse_qs(urlsplit(after).query)["done"] == ["verified"]
    onwards = monitor.soup(after).select_one("a.button-primary[href*='verifying=']")
    assert onwards is not None, "the way on stands out once this one is done"
    assert onwards["href"] == second["href"]
    last = verify(monitor, str(onwards["href"])).headers["location"]
    page = monitor.soup(last)
    assert page.select("a[href*='verifying=']") == [], "there is no next one"
    back = page.select_one(f'a[href="{LIST}?state=unverified"]')
    assert back is not None
    assert rows(monitor) == []
    assert "every form is verified" in words(monitor.soup(LIST))
    assert "Every form with answers is verified. 100 % verified" in words(monitor.soup("/mini/today"))
    world.browser("assessor", username="another").post(FORM, {"pain_nrs": "6", "form-why": "Misread"})
    changed = monitor.soup("/mini/today").select_one(f'main a[href="{LIST}?state=changed"]')
    assert changed is not None
    assert words(changed) == "One form has changed since it was verified"
    assert rows(monitor, state="changed") == rows(monitor)
    (line,) = rows(monitor)
    assert line.startswith("M-001")
    assert "Changed since it was verified" in line
    assert "one changed" in line
    assert [each[:5] for each in rows(monitor, state="all")] == ["M-001", "M-009"]
    assert [each[:5] for each in rows(monitor, state="verified")] == ["M-009"]


def test_without_the_list_an_entry_has_no_way_on_and_a_broken_one_leads_nowhere(world: World):
    monitor = world.browser("monitor")
    for query in ("", "?verifying=x", "?verifying=&state=all", "?verifying=WyJjb2RlIiwxLDFd"):
        page = monitor.get(f"{FORM}/record{query}")
        assert page.status_code == 200, query
        assert "To the list" not in page.text, query
    assert verify(monitor, f"{FORM}/record").headers["location"] == f"{FORM}/record?done=verified"


def test_an_answer_under_a_query_leaves_the_form_in_the_list(world: World):
    monitor = asked(world)
    verify(monitor, f"{FORM}/record")
    (line,) = rows(monitor, participant="M-001")
    assert "Not yet verified" in line
    assert "Query" in line
    assert "3 of 4" in line


def test_an_answer_that_was_taken_away_has_a_box(world: World):
    monitor = world.browser("monitor")
    verify(monitor, f"{FORM}/record")
    assessor = world.browser("assessor", username="another")
    assert assessor.post(FORM, {"pain_note": "", "form-why": "Of somebody else"}).status_code == 303
    page = monitor.soup(f"{FORM}/record")
    ticks = {str(each["value"]): each.has_attr("checked") for each in page.select("input[name=item]")}
    assert [item for item, checked in ticks.items() if not checked] == ["pain_note"]
    fields = form_in(page, f"{FORM}/verified")
    monitor.send(f"{FORM}/verified", {**fields, "item": list(ticks)})
    assert rows(monitor, participant="M-001") == []


def test_the_list_is_narrowed_and_taken_as_a_file(world: World):
    monitor = world.browser("monitor")
    assert len(rows(monitor)) == 2
    for narrow, left in (
        ({"participant": "M-009"}, 1),
        ({"visit": "week18"}, 2),
        ({"visit": "baseline"}, 0),
        ({"instrument": "disability"}, 0),
        ({"site": "north"}, 2),
        ({"site": "nowhere"}, 0),
        ({"state": "verified"}, 0),
        ({"state": "made-up"}, 2),
    ):
        assert len(rows(monitor, **narrow)) == left, narrow
        assert len(taken(monitor, **narrow)) == left, narrow
    verify(monitor, f"{FORM}/record")
    (line,) = taken(monitor, state="verified")
    assert (line["participant"], line["state"], line["answers"], line["verified"]) == ("M-001", "verified", "4", "4")


def taken(browser: Browser, **query: str) -> list[dict[str, str]]:
    """The lines of the file."""
    where = "&".join(f"{name}={value}" for name, value in query.items())
    text = browser.get(f"{LIST}.csv?{where}").text.removeprefix("\ufeff")
    return list(csv.DictReader(io.StringIO(text)))


def test_the_pages_ask_the_database_little(world: World):
    monitor = world.browser("monitor")
    for path in (LIST, "/mini/today"):
        with counted_statements(world.database) as said:
            assert monitor.get(path).status_code == 200
        assert len(said) <= 12, path
    link = monitor.soup(LIST).select_one("main tbody a[href*='/record']")
    assert link is not None
    with counted_statements(world.database) as said:
        assert monitor.get(str(link["href"])).status_code == 200
    assert len(said) <= 12


def test_others_have_it_in_no_navigation_and_who_reads_no_entries_not_at_all(world: World):
    assert world.browser("monitor").soup("/mini/today").select(f'.rail a[href="{LIST}"]')
    manager = world.browser("data_manager")
    assert len(rows(manager)) == 2
    assert not manager.soup("/mini/participants").select(f'.rail a[href="{LIST}"]')
    assert world.browser("clinician").get(LIST).status_code == 403
    assert world.browser("statistician").get(LIST).status_code == 403


def test_it_is_said_in_german_and_in_spanish(world: World):
    monitor = world.browser("monitor")
    for language, said in (("de", "Noch nicht abgeglichen"), ("es", "Sin verificar todavía")):
        page = monitor.get(LIST, headers={"accept-language": language})
        assert said in page.text, language


# Of a study that names what is to be compared


def test_the_form_marks_what_is_to_be_compared_and_all_of_it_is_that(shared_database: Database):
    named = [{"instrument": "pain", "items": ["pain_nrs"], "visits": ["week18"]}]
    world = World(shared_database, oversight={"verification": "named", "to_verify": named})
    world.browser("assessor").post(FORM, PAIN)
    monitor = world.browser("monitor")
    page = monitor.soup(LIST)
    assert "Pain : Pain, past week (Week 18)" in words(page)
    (line,) = rows(monitor)
    assert "0 of 1" in line
    record = monitor.soup(f"{FORM}/record")
    marked = [words(each) for each in record.select("main tbody tr") if "To be compared" in words(each)]
    assert [each.startswith("Pain, past week") for each in marked] == [True]
    assert "has the marked answers of this form compared" in words(record)
    assert "All that is marked agrees with the source" in words(record)
    verify(monitor, f"{FORM}/record")
    assert rows(monitor) == []
    assert words(monitor.soup(f"{FORM}/record")).count("by monitor") == 1, "the others were not looked at"
    assert "To be compared" not in world.browser("assessor", username="another").get(f"{FORM}/record").text


def test_a_study_that_has_nothing_verified_asks_nobody(shared_database: Database):
    world = World(shared_database, oversight={"verification": "none"})
    world.browser("assessor").post(FORM, PAIN)
    monitor = world.browser("monitor")
    today = monitor.soup("/mini/today")
    assert today.select("#verification, .nav a[href$='/verification']") == []
    assert "The study has no answers compared with their source." in words(monitor.soup(LIST))
    record = monitor.soup(f"{FORM}/record")
    assert "has no answer of this form compared with its source" in words(record)
    assert record.select("button[value='everything']") == []
