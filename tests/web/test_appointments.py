"""Pages of appointments: booked with one form, warned of before, moved and cancelled; and what blinded eyes see."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine

from app.foundation.database import Database
from tests.schedule.rows import booked
from tests.web.browser import Browser, counted_statements, form_in
from tests.web.test_visits import World, part, soup, text_of

ROOT = "/mini/participants/M-001"
NEW = f"{ROOT}/appointments/new"
ONE = f"{ROOT}/appointments/1"


@pytest.fixture(autouse=True)
def a_monday() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(datetime(2026, 7, 6, 1, 0, tzinfo=UTC), tick=False) as time:  # 11:00 in Sydney
        yield time


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


@pytest.fixture
def coordinator(world: World) -> Browser:
    return world.browser("coordinator")


def fields(browser: Browser, page: str = f"{NEW}?visit=week18", action: str = NEW, **changes: str) -> dict[str, Any]:
    return {**browser.form(page, action), **changes}


def test_a_visit_is_booked_from_its_own_page_and_stands_on_three(world, coordinator):
    page = coordinator.soup(f"{ROOT}/visits/week18")
    assert part(page, "#appointments a.button")["href"] == f"{NEW}?visit=week18"
    form = fields(coordinator)
    assert (form["visit"], form["day"], form["minutes"], form["person"]) == (
        ["week18"],
        ["2026-07-06"],
        ["60"],
        ["coordinator_north"],
    )
    reply = coordinator.send(NEW, {**form, "time": "14:30", "room": "Room 1"})
    assert (reply.status_code, reply.headers["location"]) == (303, f"{ONE}?done=booked")
    shown = text_of(coordinator.soup(ONE))
    assert "Mon 6 Jul 2026, 14:30–15:30" in shown
    assert "Window 29 Jun 2026 – 20 Jul 2026" in shown
    for path in (ROOT, f"{ROOT}/visits/week18", "/mini/today"):
        assert "14:30–15:30" in part(coordinator.soup(path), "#appointments, #booked").get_text(), path
    assert coordinator.soup(f"{ROOT}/visits/week18").select_one("#appointments a.button") is None


@pytest.mark.parametrize(
    ("changes", "where", "words"),
    [
        ({"time": "25:00"}, "#time-error", "such as 09:30"),
        ({"time": ""}, "#time-error", "such as 09:30"),
        ({"day": "6.7.2026"}, "#day-error", "year-month-day"),
        ({"minutes": "long"}, "#minutes-error", "how many minutes"),
        ({"minutes": "9999"}, "#minutes-error", "5 to 720"),
        ({"day": "2026-10-04", "time": "02:30"}, "#time-error", "clocks go forward"),
        ({"day": "2027-04-04", "time": "02:30"}, "#clock-error", "comes twice"),
        ({"visit": "unscheduled", "purpose": ""}, "#purpose-error", "what the unscheduled visit is for"),
    ],
)
def test_what_cannot_be_booked_is_said_at_its_field_and_stays_typed(world, coordinator, changes, where, words):
    typed = {"time": "10:00", "room": "Room 7", **changes}
    reply = coordinator.send(NEW, {**fields(coordinator), **typed})
    assert reply.status_code == 422
    page = soup(reply)
    assert words in part(page, where).get_text()
    kept = form_in(page, NEW)
    assert kept["room"] == ["Room 7"]
    if "clock" in where:
        again = coordinator.send(NEW, {**kept, "clock": "later", "warned": ""})
        assert "outside the window" in text_of(soup(again))


def test_what_speaks_against_it_is_said_once_and_then_it_is_booked(world, coordinator):
    booked_at = {"day": "2026-07-06", "time": "14:00", "room": "Room 1"}
    assert coordinator.send(NEW, fields(coordinator, **booked_at)).status_code == 303
    other = {"visit": "unscheduled", "purpose": "A rash", "day": "2026-07-06", "time": "14:30", "room": "room 1"}
    reply = coordinator.send(NEW, {**fields(coordinator), **other})
    assert reply.status_code == 200
    said = text_of(soup(reply))
    assert "M-001 has another appointment at that time, 14:00–15:00." in said
    assert "Room 1 is taken at that time, 14:00–15:00, by M-001." in said
    assert coordinator.get(f"{ROOT}/appointments/2").status_code == 404
    form = form_in(soup(reply), NEW)
    assert "Book it all the same" in said
    assert coordinator.send(NEW, form).headers["location"] == f"{ROOT}/appointments/2?done=booked"
    assert "Room 1 is taken" in text_of(coordinator.soup(f"{ROOT}/appointments/2"))


def test_it_is_moved_cancelled_and_booked_again(world, coordinator, a_monday):
    coordinator.send(NEW, fields(coordinator, time="14:00"))
    moved = {**coordinator.form(ONE, f"{ONE}/moved"), "day": "2026-08-03", "why": "Abroad"}
    warned = coordinator.send(f"{ONE}/moved", moved)
    assert "outside the window" in text_of(soup(warned))
    again = form_in(soup(warned), f"{ONE}/moved")
    assert coordinator.send(f"{ONE}/moved", again).headers["location"] == f"{ONE}?done=moved"
    assert "Mon 3 Aug 2026, 14:00–15:00" in text_of(coordinator.soup(ONE))
    assert coordinator.post(f"{ONE}/cancelled", {}, page=ONE).status_code == 422
    stale = {**coordinator.form(ONE, f"{ONE}/cancelled"), "version": "1", "why": "Ill"}
    assert coordinator.send(f"{ONE}/cancelled", stale).status_code == 409
    assert coordinator.post(f"{ONE}/cancelled", {"why": "<i>Ill</i>"}, page=ONE).status_code == 303
    page = coordinator.get(ONE)
    assert "&lt;i&gt;Ill" in page.text
    assert soup(page).select_one("form[action$=moved]") is None
    assert coordinator.send(NEW, fields(coordinator, time="09:00")).headers["location"].startswith(f"{ROOT}/appo")
    for act in ("moved", "cancelled", "no-show", "held"):
        assert coordinator.get(f"{ONE}/{act}").headers["location"] == ONE


def test_who_came_is_recorded_once_it_has_begun(world, coordinator, a_monday):
    coordinator.send(NEW, fields(coordinator, time="11:05"))
    assert coordinator.soup(ONE).select_one("form[action$=no-show]") is None
    a_monday.shift(600)
    page = coordinator.soup(ONE)
    assert page.select_one(f"a.button[href='{ROOT}/visits/week18']") is not None
    assert page.select_one("form[action$=held]") is None  # that is recorded with the visit
    assert coordinator.post(f"{ONE}/no-show", {"why": "No answer"}, page=ONE).status_code == 303
    assert "Nobody came" in text_of(coordinator.soup(ONE))


@pytest.mark.requirement("CONC-15", "E6-1")
def test_blinded_eyes_see_of_a_session_that_it_is_and_when_it_begins(world, coordinator):
    with world.database.writing() as session:
        clinician = world.browser("clinician")
        at = datetime(2026, 7, 6, 4, 0, tzinfo=UTC)
        given = {"starts_at": at, "ends_at": at.replace(hour=5), "person_id": clinician.actor.person_id}
        booked(session, world.study, world.participant, "tx01", room="Laser room", **given)
    for path in (ONE, ROOT, f"{ROOT}/visits/tx01", "/mini/today"):
        page = coordinator.get(path)
        assert "14:00" in page.text
        assert not [word for word in ("Laser", "15:00", "Clinician_North") if word in page.text], path
    assert coordinator.soup(ONE).select_one("form[action$=moved]") is None
    shown = text_of(clinician.soup(ONE))
    assert "14:00–15:00" in shown
    assert "Laser room" in shown
    assert [option["value"] for option in clinician.soup(NEW).select("select[name=visit] option")] == ["tx01"]


def test_another_site_and_another_role_are_kept_out(world, coordinator):
    form = fields(coordinator, time="14:00")
    coordinator.send(NEW, form)
    south = world.browser("coordinator", site_code="south")
    assert south.get(ONE).status_code == south.get(NEW).status_code == 404
    monitor = world.browser("monitor", site_code=None)
    assert monitor.get(NEW).status_code == 403
    assert monitor.soup(ONE).select_one("form[action$=cancelled]") is None
    for path in (f"{ROOT}/appointments/2", f"{ROOT}/appointments/99999999999", f"{ROOT}/appointments/x"):
        assert coordinator.get(path).status_code == 404


def test_no_page_asks_the_database_more_than_twelve_times(world, coordinator):
    coordinator.send(NEW, fields(coordinator, time="14:00"))
    for path in (NEW, ONE, ROOT, f"{ROOT}/visits/week18", "/mini/today"):
        with counted_statements(world.database) as statements:
            coordinator.soup(path)
        assert len(statements) <= 12, (path, len(statements))
