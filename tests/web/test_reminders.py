"""Messages: a real mail server gets them, the page says how each went, and a participant's no is recorded."""

import email
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from ical.calendar_stream import IcsCalendarStream
from sqlalchemy import select

from app import jobs
from app.foundation.database import Database
from app.mail.actions import MAIL
from app.settings import Settings
from tests.mail.test_mail import Inbox, inbox  # noqa: F401 a fixture
from tests.schedule.test_reminders import RULES
from tests.web.browser import Browser, counted_statements
from tests.web.test_visits import part, soup, text_of
from tests.web.world import World

ROOT = "/mini/participants/M-001"
NEW = f"{ROOT}/appointments/new"


@pytest.fixture
def at() -> Iterator[Any]:
    with time_machine.travel(datetime(2026, 3, 2, 1, 0, tzinfo=UTC), tick=False) as traveller:  # Monday noon in Sydney
        yield traveller


@pytest.fixture
def world(shared_database: Database, at: Any) -> World:
    world = World(shared_database, **RULES)
    world.consented()
    return world


def book(browser: Browser, **changes: str) -> Any:
    return browser.post(NEW, {"visit": "baseline", "day": "2026-03-09", "time": "10:00", **changes}, page=NEW)


def arrived(box: Inbox) -> list[Any]:
    return [email.message_from_bytes(envelope.content) for envelope in box.mails]


def event_in(mail: Any) -> Any:
    (attached,) = [each for each in mail.walk() if each.get_content_type() == "text/calendar"]
    (event,) = IcsCalendarStream.calendar_from_ics(attached.get_payload(decode=True).decode()).events
    return event, attached.get_param("method")


@pytest.mark.requirement("ICS-2", "CONC-11", "E6-3")
@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_real_mail_server_gets_what_is_booked_moved_reminded_of_and_cancelled(
    world: World,
    at: Any,
    inbox: tuple[Inbox, Settings],  # noqa: F811
) -> None:
    box, settings = inbox
    coordinator = world.coordinator()
    person = world.person("assessor").username
    booking = book(coordinator, person=person, room="Room 1")
    one = booking.headers["location"].partition("?")[0]
    assert jobs.send_due_mail(world.database, settings) == 2
    at.move_to(datetime(2026, 3, 6, 22, 0, tzinfo=UTC))  # 09:00, two days before
    assert jobs.queue_due_reminders(world.database) == 1
    assert jobs.send_due_mail(world.database, settings) == 1
    coordinator = world.coordinator()
    assert coordinator.post(f"{one}/moved", {"time": "14:00"}, page=one).status_code == 303
    assert coordinator.post(f"{one}/cancelled", {"why": "Ill"}, page=one).status_code == 303
    jobs.send_due_mail(world.database, settings)
    mails = arrived(box)
    theirs = [mail for mail in mails if mail["To"] == "ada@example.org"]
    assert [mail["Subject"] for mail in theirs] == [
        "Your appointment",
        "A reminder of your appointment",
        "Your appointment is cancelled",
    ]
    events = [event_in(mail) for mail in theirs]
    assert [(event.sequence, event.status, method) for event, method in events] == [
        (0, "CONFIRMED", "PUBLISH"),
        (0, "CONFIRMED", "PUBLISH"),
        (2, "CANCELLED", "CANCEL"),
    ]
    assert len({event.uid for event, _ in events}) == 1
    assert str(events[0][0].organizer.uri) == f"mailto:{settings.smtp_from}"
    for mail in theirs:
        said = mail.as_string() + "".join(str(each.get_payload(decode=True)) for each in mail.walk())
        assert not [word for word in ("Lovelace", "MINI", "Baseline", "M-001", "Zephyrine", "pain") if word in said]
    staff = [mail for mail in mails if mail["To"] == f"{person}@example.org"]
    assert [event_in(mail)[0].summary for mail in staff] == ["M-001 Baseline"] * 2  # what was moved is told cancelled
    assert len({mail["Message-ID"] for mail in mails}) == len(mails) == 5


def test_the_page_says_how_each_message_went_and_sends_a_failed_one_again(world: World) -> None:
    coordinator = world.coordinator()
    assert "No message" in text_of(coordinator.soup("/mini/messages"))
    book(coordinator)
    jobs.send_due_mail(world.database, Settings())
    words = text_of(coordinator.soup("/mini/messages?state=waiting"))
    assert "Appointment booked, moved or cancelled" in words
    assert "No mail server is set" in words
    assert "ada@example.org" not in words
    with world.database.writing() as session:
        session.execute(MAIL.update().values(ended_at=MAIL.c.queued_at, ended_as="failed"))
        number = session.execute(select(MAIL.c.id)).scalar_one()
    path = f"/mini/messages/{number}/resent"
    assert coordinator.get(path).headers["location"] == "/mini/messages?state=failed"
    refused = coordinator.post(path, {"why": ""}, page="/mini/messages")
    assert refused.status_code == 422
    assert part(soup(refused), "details[open] form")["action"] == path
    assert coordinator.post(path, {"why": "Mended"}, page="/mini/messages").status_code == 303
    assert "Waiting" in text_of(coordinator.soup("/mini/messages"))
    assert coordinator.send(path, {**coordinator.form("/mini/today", "/sign-out"), "why": "x"}).status_code == 409
    for state in ("failed", "dropped", "sent", "nonsense"):
        assert coordinator.get(f"/mini/messages?state={state}").status_code == 200
    assert "M-001" not in world.browser("coordinator", site_code="south").soup("/mini/messages").get_text()
    monitor = world.browser("monitor", site_code=None).soup("/mini/messages")
    assert monitor.select_one("form[action$=resent]") is None


def test_a_participants_no_is_recorded(world: World) -> None:
    coordinator, page = world.coordinator(), f"{ROOT}/reminders"
    fields = coordinator.form(page)
    assert (fields["mail"], fields["sms"], fields["version"]) == (["yes"], ["yes"], ["0"])
    wrong = coordinator.post(page, {"timezone": "Nowhere", "sms": None})
    assert wrong.status_code == 422
    assert "such as Europe/Zurich" in part(soup(wrong), "#timezone-error").get_text()
    assert (
        coordinator.post(page, {"mail": None, "language": "de"}).headers["location"] == f"{ROOT}?done=reminders_chosen"
    )
    again = coordinator.form(page)
    assert "mail" not in again
    assert again["language"] == ["de"]
    stale = coordinator.post(page, {"version": "0"})
    assert stale.status_code == 409
    book(coordinator)
    with world.database.reading() as session:
        assert session.execute(select(MAIL.c.id)).all() == []


def test_no_page_asks_the_database_more_than_twelve_times(world: World) -> None:
    coordinator = world.coordinator()
    book(coordinator)
    for path in ("/mini/messages", f"{ROOT}/reminders"):
        with counted_statements(world.database) as statements:
            coordinator.soup(path)
        assert len(statements) <= 12, (path, len(statements))
