"""Visit pages: the day it was held, in its window or out of it; and nothing more of a session for blinded eyes."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
import time_machine
from bs4 import BeautifulSoup, Tag
from sqlalchemy import select, update

from app.foundation.database import Database
from app.rendering import day
from app.schedule.reads import VISIT as VISIT_TABLE
from tests.capture.records import consented
from tests.factories import mini_study, person
from tests.web.browser import Browser, counted_statements, form_in, signed_in_client

VISIT = "/mini/participants/M-001/visits/week18"
SESSION = "/mini/participants/M-001/visits/tx01"
TODAY = date(2026, 7, 6)


@pytest.fixture(autouse=True)
def at_the_visit() -> Iterator[None]:
    with time_machine.travel(datetime(2026, 7, 6, 1, 0, tzinfo=UTC), tick=True):
        yield


class World:
    """The small trial with one consented participant whose week 18 is due from 29 June to 20 July."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.writing() as session:
            self.study = mini_study(session)
            self.participant = consented(session, self.study)
            self.change("week18", opens_on=date(2026, 6, 29), closes_on=date(2026, 7, 20), session=session)
            self.change("tx01", kind="treatment", session=session)

    def change(self, code: str, session: Any = None, **values: Any) -> None:
        query = update(VISIT_TABLE).where(VISIT_TABLE.c.code == code).values(**values)
        if session is not None:
            session.execute(query)
        else:
            with self.database.writing() as own:
                own.execute(query)

    def browser(self, *roles: str, **options: Any) -> Browser:
        with self.database.writing() as session:
            actor = person(session, self.study, *roles, **options)
        return signed_in_client(self.database, actor)

    def visit(self, code: str = "week18") -> Any:
        with self.database.reading() as session:
            return session.execute(select(VISIT_TABLE).where(VISIT_TABLE.c.code == code)).one()


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


@pytest.fixture
def coordinator(world: World) -> Browser:
    return world.browser("coordinator")


def soup(reply: Any) -> BeautifulSoup:
    return BeautifulSoup(reply.text, "html.parser")


def part(page: BeautifulSoup, selector: str) -> Tag:
    """The first element that the selector finds; there must be one."""
    found = page.select_one(selector)
    assert found is not None, selector
    return found


def text_of(page: BeautifulSoup) -> str:
    return " ".join(part(page, "main").get_text(" ").split())


def test_a_visit_shows_its_window_and_what_is_left_to_fill_in(world, coordinator):
    page = coordinator.soup(VISIT)
    assert "Due 14 days left Window 29 Jun 2026 to 20 Jul 2026, target 6 Jul 2026" in text_of(page)
    links = [str(link["href"]) for link in page.select("#forms tbody th a")]
    assert links == [f"{VISIT}/entries/pain", f"{VISIT}/entries/disability"]
    assert "0 of 2" in text_of(page)


def test_a_visit_is_recorded_on_its_day(world, coordinator):
    fields = coordinator.form(VISIT, f"{VISIT}/held")
    assert fields["held_on"] == ["2026-07-06"]
    reply = coordinator.send(f"{VISIT}/held", fields)
    assert (reply.status_code, reply.headers["location"]) == (303, f"{VISIT}?done=visit_held")
    assert (world.visit().status, world.visit().held_on) == ("held", TODAY)
    assert "Held on 6 Jul 2026" in text_of(coordinator.soup(VISIT))


def test_a_visit_outside_its_window_is_kept_with_the_reason(world, coordinator):
    reply = coordinator.post(f"{VISIT}/held", {"held_on": "2026-06-28"}, page=VISIT)
    assert reply.status_code == 422
    assert "Say why the visit was held outside it." in part(soup(reply), "#held-reason-error").get_text()
    fields = form_in(soup(reply), f"{VISIT}/held")
    assert fields["held_on"] == ["2026-06-28"]
    assert coordinator.send(f"{VISIT}/held", {**fields, "reason": "On holiday later"}).status_code == 303
    text = text_of(coordinator.soup(VISIT))
    assert "Held before its window" in text
    assert "On holiday later" in text


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("6.7.2026", "Write the date as year-month-day"),
        ("", "Say on which day it was held."),
        ("2026-02-30", "Write the date as year-month-day"),
        ("2026-07-08", "choose 6 Jul 2026 or earlier"),
        ("<script>", "Write the date as year-month-day"),
        ("2026\x00", "Write the date as year-month-day"),
    ],
)
def test_a_day_that_cannot_be_is_said_and_stays_typed(world, coordinator, typed, words):
    reply = coordinator.post(f"{VISIT}/held", {"held_on": typed, "reason": "Because"}, page=VISIT)
    assert reply.status_code == 422
    assert words in part(soup(reply), "#held-held_on-error").get_text()
    assert "<script>" not in reply.text
    kept = form_in(soup(reply), f"{VISIT}/held")
    assert kept["reason"] == ["Because"]
    if typed.isprintable():
        assert kept["held_on"] == [typed]
    assert world.visit().status == "planned"


def test_a_window_in_a_message_is_written_as_on_the_page(world, coordinator):
    reply = coordinator.post(f"{VISIT}/held", {"held_on": "2026-05-01", "reason": ""}, page=VISIT)
    page = soup(reply)
    window = world.visit()
    said = part(page, "#field-held-reason .error").get_text()
    assert day(window.opens_on) in said
    assert str(window.opens_on) not in said
    assert page.select_one("#field-held-reason .optional") is None


def test_a_missed_visit_needs_its_reason(world, coordinator):
    reply = coordinator.post(f"{VISIT}/missed", {}, page=VISIT)
    assert reply.status_code == 422
    assert soup(reply).select_one("details[open] #missed-why") is not None
    fields = {**form_in(soup(reply), f"{VISIT}/missed"), "why": "<b>Ill</b>"}
    assert coordinator.send(f"{VISIT}/missed", fields).headers["location"] == f"{VISIT}?done=visit_missed"
    page = coordinator.get(VISIT)
    assert "Fill in" not in page.text, "nothing is entered of a visit that was missed"
    assert "&lt;b&gt;Ill&lt;/b&gt;" in page.text
    assert "<b>Ill" not in page.text


def test_a_day_corrected_to_outside_the_window_asks_why_it_was_outside(world, coordinator):
    coordinator.post(f"{VISIT}/held", {}, page=VISIT)
    fields = {"held_on": "2026-05-04", "why": "Typing error"}
    asked = coordinator.post(f"{VISIT}/corrected", fields, page=VISIT)
    assert (asked.status_code, "Say why the visit was held outside it" in asked.text) == (422, True)
    assert part(soup(asked), "#corrected-reason")["aria-invalid"] == "true"
    again = {**form_in(soup(asked), f"{VISIT}/corrected"), "reason": "They were abroad"}
    assert (again["held_on"], again["why"]) == (["2026-05-04"], ["Typing error"])
    assert coordinator.send(f"{VISIT}/corrected", again).status_code == 303
    assert (world.visit().held_on, world.visit().reason) == (date(2026, 5, 4), "They were abroad")


def test_a_day_is_corrected_and_a_mistake_undone_with_a_reason(world, coordinator):
    coordinator.post(f"{VISIT}/held", {}, page=VISIT)
    assert coordinator.post(f"{VISIT}/corrected", {"held_on": "2026-07-05"}, page=VISIT).status_code == 422
    fields = {"held_on": "2026-07-05", "why": "Misread the calendar"}
    assert coordinator.post(f"{VISIT}/corrected", fields, page=VISIT).status_code == 303
    assert world.visit().held_on == date(2026, 7, 5)
    assert coordinator.post(f"{VISIT}/reopened", {}, page=VISIT).status_code == 422
    reply = coordinator.post(f"{VISIT}/reopened", {"why": "Another participant"}, page=VISIT)
    assert reply.status_code == 303
    assert "Planned again." in part(coordinator.soup(reply.headers["location"]), ".flash-done").get_text()
    assert world.visit().status == "planned"


def test_who_records_second_is_told_and_keeps_what_was_typed(world, coordinator):
    fields = {**coordinator.form(VISIT, f"{VISIT}/missed"), "why": "Did not come"}
    world.browser("assessor").post(f"{VISIT}/held", {}, page=VISIT)
    reply = coordinator.send(f"{VISIT}/missed", fields)
    assert reply.status_code == 409
    assert "Somebody changed this visit" in part(soup(reply), ".flash-problem").get_text()
    assert world.visit().status == "held"


def test_a_double_click_records_once(world, coordinator):
    fields = coordinator.form(VISIT, f"{VISIT}/held")
    first, second = (coordinator.send(f"{VISIT}/held", fields) for _ in range(2))
    assert first.headers["location"] == second.headers["location"]
    assert world.visit().version == 2


def test_going_on_without_a_form_leads_back_to_the_visit(world, coordinator):
    for act in ("held", "missed", "corrected", "reopened"):
        assert coordinator.get(f"{VISIT}/{act}").headers["location"] == VISIT


def test_blinded_people_learn_of_a_session_only_that_it_took_place(world, coordinator):
    assert "No session is recorded yet" in text_of(coordinator.soup(SESSION))
    world.change("tx01", status="held", held_on=date(2026, 3, 9), reason="The laser was broken")
    page = coordinator.soup(SESSION)
    assert "A session took place on 9 Mar 2026." in text_of(page)
    assert "laser" not in page.get_text()
    assert page.select_one("form[action$=held]") is None
    world.change("tx01", status="missed", held_on=None, reason="No device")
    text = text_of(coordinator.soup(SESSION))
    assert "No session took place." in text
    assert "device" not in text
    clinician = world.browser("clinician")
    assert "No device" in text_of(clinician.soup(SESSION))


def test_a_clinician_sees_no_forms_and_records_no_assessment(world):
    page = world.browser("clinician").soup(VISIT)
    assert page.select_one("#forms") is None
    assert page.select_one("form[action$=held]") is None
    assert "This needs the role" in text_of(page)


def test_another_site_and_another_role_are_kept_out(world, coordinator):
    fields = coordinator.form(VISIT, f"{VISIT}/held")
    south = world.browser("coordinator", site_code="south")
    assert south.get(VISIT).status_code == 404
    monitor = world.browser("monitor", site_code=None)
    token = str(part(monitor.soup(VISIT), "meta[name=csrf-token]")["content"])
    assert monitor.send(f"{VISIT}/held", {**fields, "csrf_token": token}).status_code == 403
    for place in ("week%00", "week19", "constructor"):
        assert coordinator.get(f"/mini/participants/M-001/visits/{place}").status_code == 404
    assert world.visit().status == "planned"


def test_a_visit_asks_the_database_at_most_twelve_times(world, coordinator):
    with counted_statements(world.database) as statements:
        coordinator.soup(VISIT)
    assert len(statements) <= 12, statements


def test_after_a_form_is_saved_the_focus_is_on_the_next_one(world, coordinator):
    """Whoever works by keyboard does not begin at the top of the page again."""
    coordinator.post(f"{VISIT}/entries/pain", {"pain_nrs": "5", "pain_days": "3"})
    following = [f"{VISIT}/entries/disability"]
    assert [each["href"] for each in coordinator.soup(f"{VISIT}?done=saved").select("[autofocus]")] == following
    assert coordinator.soup(VISIT).select("[autofocus]") == []
