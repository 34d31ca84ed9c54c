"""Coding on pages: a queue of one's own, a search, a choice that nobody else sees yet, and settling by a third."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import time_machine
from sqlalchemy import insert, select

from app.capture.coding.models import CodedText
from app.foundation.database import Database, table_of
from tests.capture.twice import twice
from tests.web.browser import Browser, counted_statements, form_in
from tests.web.test_entries import FORM, PAIN, World

NOTE = {**PAIN, "pain_note": "Sore lower back"}


@pytest.fixture(autouse=True)
def at_the_visit() -> Iterator[None]:
    with time_machine.travel(datetime(2026, 7, 6, 1, 0, tzinfo=UTC), tick=True):
        yield


def the_world(database: Database, suggestions: str = "after") -> World:
    changes = twice(suggestions=suggestions)
    world = World(
        database, **{**changes, "instruments": [{**f, "double_entry": False} for f in changes["instruments"]]}
    )
    assert world.browser("assessor").post(FORM, NOTE).status_code == 303
    return world


@pytest.fixture
def world(shared_database: Database) -> World:
    return the_world(shared_database)


def text_url(browser: Browser, queue: str = "to_code") -> str:
    link = browser.soup(f"/mini/coding?queue={queue}").select_one("tbody a")
    assert link is not None
    return str(link["href"])


def test_from_a_text_that_was_coded_one_goes_on_to_the_next(world: World):
    with world.database.writing() as session:
        text = table_of(CodedText)
        row = dict(session.execute(select(text)).mappings().one())
        del row["id"]
        session.execute(insert(text), [{**row, "item": "a"}, {**row, "item": "b"}])
    one = world.browser("data_manager", username="coder1")
    links = [str(link["href"]) for link in one.soup("/mini/coding").select("tbody a")]
    assert len(links) == 3
    for at, (url, then) in enumerate(zip(links, [*links[1:], None], strict=True)):
        fields = form_in(one.soup(f"{url}?q=back"), f"{url}/code")
        done = one.send(f"{url}/code", {**fields, "code": "LBP"}).headers["location"]
        with counted_statements(world.database) as said:
            page = one.soup(done)
        assert len(said) <= 12
        found = [link for link in page.select("a") if "Code the next" in link.get_text()]
        assert [link["href"] for link in found] == ([then] if then else [])
        assert not found or f"({2 - at} left)" in found[0].get_text()


def test_two_code_and_a_third_settles(world: World):
    one, two, three = (world.browser("data_manager", username=f"coder{n}") for n in (1, 2, 3))
    with counted_statements(world.database) as said:
        url = text_url(one)
    assert len(said) <= 12
    with counted_statements(world.database) as said:
        near = one.soup(url)
    assert len(said) <= 12
    assert "No term holds all of these words" in near.get_text(" "), "at first the text itself is looked for"
    assert [each["value"] for each in near.select("input[name=code]")] == ["LBP", "BACK"], "most words first"
    nothing = one.soup(f"{url}?q=knee")
    assert "No term holds these words" in nothing.get_text(" ")
    assert not nothing.select("input[name=code]")
    with counted_statements(world.database) as said:
        page = one.soup(f"{url}?q=back")
    assert len(said) <= 12
    assert [each["value"] for each in page.select("input[name=code]")] == ["BACK", "LBP"]
    fields = form_in(page, f"{url}/code")
    none = one.send(f"{url}/code", fields)
    assert (none.status_code, "Choose a term" in none.text) == (422, True)
    assert one.send(f"{url}/code", {**fields, "code": "LBP"}).headers["location"] == f"{url}?done=text_coded"
    assert "Code the next" not in one.soup(f"{url}?done=text_coded").get_text(" "), "none is left"
    mine = one.soup(url).get_text(" ")
    assert "Low back pain" in mine
    assert "It is for somebody else now" in mine
    assert not one.soup("/mini/coding").select("tbody tr")

    assert text_url(two) == url
    theirs = two.get(f"{url}?q=sciatica")
    assert "LBP" not in theirs.text
    assert "coder1" not in theirs.text
    assert "coder1" not in two.get("/mini/coding").text
    assert (
        two.send(f"{url}/code", {**form_in(two.soup(f"{url}?q=sci"), f"{url}/code"), "code": "SCI"}).status_code == 303
    )

    csrf = form_in(two.soup("/mini/coding"), "/sign-out")["csrf_token"]
    both = two.send(f"{url}/reconcile", {**fields, "csrf_token": csrf, "code": "SCI", "why": "I say so"})
    assert (both.status_code, "third person" in both.text) == (409, True)
    settling = three.soup(text_url(three, "to_reconcile"))
    assert [each["value"] for each in settling.select("input[name=code]")] == ["LBP", "SCI"]
    fields = form_in(settling, f"{url}/reconcile")
    assert three.send(f"{url}/reconcile", {**fields, "code": "LBP"}).status_code == 422
    done = three.send(f"{url}/reconcile", {**fields, "code": "LBP", "why": "No leg pain"})
    assert done.headers["location"] == f"{url}?done=text_settled"
    assert "No leg pain" in one.soup(url).get_text(" ")
    assert "Low back pain" in one.soup("/mini/coding?queue=coded").get_text(" ")
    for path in ("code", "reconcile"):
        assert one.get(f"{url}/{path}").headers["location"] == url
    figures = world.browser("monitor").soup("/mini/coding/agreement")
    assert "0.0" in figures.select("tbody tr")[0].get_text()
    assert world.browser("monitor").get("/mini/coding").status_code == 403


@pytest.mark.parametrize(("when", "before"), [("after", False), ("before", True), ("never", False)])
def test_how_the_same_text_was_coded_is_shown_when_the_study_says(shared_database: Database, when: str, before: bool):
    world = the_world(shared_database, suggestions=when)
    one, two = (world.browser("data_manager", username=f"coder{n}") for n in (1, 2))
    for coder in (one, two):
        url = text_url(coder)
        coder.send(f"{url}/code", {**form_in(coder.soup(f"{url}?q=low"), f"{url}/code"), "code": "LBP"})
    south = FORM.replace("M-001", "M-002")
    assert world.browser("assessor", site_code="south", username="south").post(south, NOTE).status_code == 303
    url = text_url(one)
    said = "The same text, coded before"
    assert (said in one.get(url).text) is before
    one.send(f"{url}/code", {**form_in(one.soup(f"{url}?q=sci"), f"{url}/code"), "code": "SCI"})
    assert (said in one.get(url).text) is (when != "never")
    assert (said in two.get(url).text) is before
