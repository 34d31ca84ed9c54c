"""The calendar: four views of the same appointments, what is still to be booked, and feeds; never more than codes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from ical.calendar_stream import IcsCalendarStream

from app.foundation.database import Database
from tests.capture.records import consented
from tests.schedule.rows import booked
from tests.web.browser import Browser, counted_statements
from tests.web.test_visits import World, part, soup, text_of

ROOT = "/mini/calendar"
AT = datetime(2026, 7, 6, 4, 0, tzinfo=UTC)  # Monday 14:00 in Sydney


@pytest.fixture(autouse=True)
def a_monday() -> Iterator[None]:
    with time_machine.travel(datetime(2026, 7, 6, 1, 0, tzinfo=UTC), tick=False):
        yield


class Booked(World):
    """M-001 comes for week 18 at 14:00, and M-002 (whose week 18 is not booked) for a session in the next room."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.assessor = self.browser("assessor")
        self.clinician = self.browser("clinician")
        hour = timedelta(hours=1)
        with database.writing() as session:
            at = {"starts_at": AT, "ends_at": AT + hour}
            who = self.assessor.actor.person_id
            booked(session, self.study, self.participant, "week18", person_id=who, room="Room 1", **at)
            other = consented(session, self.study, "M-002")
            booked(session, self.study, other, "tx01", person_id=self.clinician.actor.person_id, room="Laser", **at)
            later = {"starts_at": AT + hour / 2, "ends_at": AT + hour}
            booked(session, self.study, other, "baseline", number=2, room="room 1", **later)


@pytest.fixture
def world(shared_database: Database) -> Booked:
    return Booked(shared_database)


@pytest.fixture
def coordinator(world: Booked) -> Browser:
    return world.browser("coordinator")


@pytest.mark.parametrize("view", ["day", "week", "month", "agenda", "nonsense"])
def test_every_view_shows_the_same_appointments_and_what_clashes(world, coordinator, view):
    page = coordinator.soup(f"{ROOT}?view={view}&on=2026-07-06")
    slots = [" ".join(slot.get_text(" ").split()) for slot in page.select(".slot:not(.slot-due)")]
    assert len(slots) == 3
    assert sum("Clashes" in slot for slot in slots) == 2
    wanted = "14:00" if view == "month" else "14:00–15:00"
    assert any(wanted in slot and "M-001" in slot for slot in slots)
    session = next(slot for slot in slots if "Session 1" in slot)
    assert session.startswith("14:00 ")
    assert not [word for word in ("Laser", "Clinician_North") if word in page.get_text()]
    assert "M-002" in part(page, "#to-book").get_text()
    assert f"{ROOT.removesuffix('calendar')}participants/M-002/appointments/new?visit=week18" in str(page)
    if view == "month":
        assert len(page.select(".cal-month td")) == 35
    assert part(page, ".cal-bar nav + nav [aria-current=true]").get_text().strip()


def test_one_turns_the_pages_and_comes_back_to_today(world, coordinator):
    for view, later in (
        ("day", "2026-07-07"),
        ("week", "2026-07-13"),
        ("month", "2026-08-01"),
        ("agenda", "2026-07-20"),
    ):
        page = coordinator.soup(f"{ROOT}?view={view}&on=2026-07-06")
        earlier, today, next_ = (str(link["href"]) for link in page.select(".cal-bar nav:first-child a"))
        assert f"on={later}" in next_
        assert "on=" not in today
        assert coordinator.get(earlier).status_code == 200
    for odd in ("1999-01-01", "2026-02-30", "x", "9999-12-31", ""):
        page = coordinator.soup(f"{ROOT}?view=week&on={odd}")
        assert "6 Jul 2026 – 12 Jul 2026" in part(page, ".page-head p").get_text()


def test_one_persons_calendar_and_a_clinicians_sessions(world, coordinator):
    mine = world.assessor.soup(f"{ROOT}?view=day&who=me")
    assert len(mine.select(".slot")) == 1
    assert mine.select_one("#to-book") is None
    theirs = coordinator.soup(f"{ROOT}?view=week&who=assessor_north")
    assert len(theirs.select(".slot")) == 1
    assert coordinator.soup(f"{ROOT}?view=week&who=clinician_north").select_one("option[value=clinician_north]") is None
    clinician = world.clinician.soup(f"{ROOT}?view=day&who=me")
    assert "14:00–15:00" in part(clinician, ".slot").get_text()
    assert "Laser" in clinician.get_text()


def test_another_site_sees_nothing_of_it_and_some_see_no_calendar(world, coordinator):
    south = world.browser("coordinator", site_code="south").soup(f"{ROOT}?view=month")
    assert south.select(".slot") == []
    assert "M-00" not in south.get_text()
    for role in ("statistician", "administrator"):
        assert world.browser(role).get(ROOT).status_code in (403, 404)
    reader = world.browser("monitor", site_code=None).soup(f"{ROOT}?view=week")
    assert "appointments/new" not in str(reader)


def test_nothing_booked_says_what_to_do_next(world, coordinator):
    for view in ("day", "agenda"):
        assert "Book a visit from the list below" in text_of(coordinator.soup(f"{ROOT}?view={view}&on=2027-02-03"))


@pytest.mark.requirement("ICS-6", "ICS-1")
def test_a_feed_is_made_shown_once_read_without_a_session_and_revoked(world, coordinator):
    page = f"{ROOT}/feeds"
    reply = world.assessor.post(page, {"whose": "mine"}, page=page)
    address = part(soup(reply), ".code code").get_text()
    path = "/feeds/" + address.rpartition("/")[2]
    assert path.removesuffix(".ics").rpartition("/")[2] not in world.assessor.get(page).text
    coordinator.client.cookies.clear()
    fed = coordinator.get(path)
    assert (fed.status_code, fed.headers["content-type"]) == (200, "text/calendar; charset=utf-8")
    assert fed.headers["referrer-policy"] == "no-referrer"
    (event,) = IcsCalendarStream.calendar_from_ics(fed.text).events
    assert event.summary == "M-001 Week 18"
    revoke = str(part(world.assessor.soup(page), "form[action$=revoked]")["action"])
    assert world.assessor.post(revoke, {}, page=page).status_code == 303
    assert coordinator.get(path).status_code == 404
    assert coordinator.get("/feeds/x%00y.ics").status_code == 404
    assert world.assessor.post(page, {"whose": None}, page=page).status_code == 422


def test_no_page_asks_the_database_more_than_twelve_times(world, coordinator):
    for path in (*(f"{ROOT}?view={view}" for view in ("day", "week", "month", "agenda")), f"{ROOT}/feeds"):
        with counted_statements(world.database) as statements:
            coordinator.soup(path)
        assert len(statements) <= 12, (path, len(statements))
