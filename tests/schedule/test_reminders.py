"""Reminders: due by the local clock, never in quiet hours, once each whatever breaks, and never to who said no."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update
from sqlmodel import Session

from app import jobs
from app.foundation.clock import now as clock_now
from app.foundation.database import Database
from app.foundation.errors import Conflict, Invalid, NotAllowed, NotFound, Refused
from app.mail.actions import MAIL
from app.mail.channels import Message, TextFiles, Undelivered
from app.participants.actions import erase_identity, withdraw
from app.participants.models import Participant
from app.participants.rules import PersonalData
from app.participants.status import Status
from app.people.access import Actor
from app.schedule.actions import record_visit, stop_visits
from app.schedule.appointments.actions import Wish, book, cancel, move
from app.schedule.reminders import actions, rules
from app.schedule.reminders.actions import choose, queue_due, resend
from app.schedule.reminders.reads import choice_of, messages_page
from app.settings import Settings
from app.studies.definition import Reminder, Schedule
from app.studies.in_use import StudyInUse
from tests.consent.acts import study_with_consent
from tests.factories import NOW, TODAY, person
from tests.participants.acts import log_of
from tests.schedule.test_actions import enrolled

DAY = timedelta(days=1)
ZONE = "Australia/Sydney"
MORNING = NOW + timedelta(hours=12)  # 08:30 in Sydney; NOW is 20:30, in the quiet hours
RULES: dict[str, Any] = {
    "schedule": {
        "reminders": [
            {"code": "booked", "when": "booked"},
            {"code": "before", "when": "before_appointment", "days": 2, "at": "09:00"},
            {"code": "text", "when": "before_appointment", "days": 1, "at": "18:00", "by": "sms"},
            {"code": "opens", "when": "window_opens", "to": "participant", "visits": ["week18"]},
            {"code": "late", "when": "overdue", "days": 2, "to": "staff", "visits": ["week18"]},
        ]
    }
}


# When


def rule(**changes: Any) -> Reminder:
    return Reminder.model_validate({"code": "r", "when": "before_appointment", "days": 1, **changes})


@pytest.mark.parametrize(
    ("zone", "at", "expected"),
    [
        (ZONE, datetime(2026, 3, 2, 8, 59, tzinfo=UTC), datetime(2026, 3, 2, 8, 59, tzinfo=UTC)),  # 19:59
        (ZONE, datetime(2026, 3, 2, 9, 0, tzinfo=UTC), datetime(2026, 3, 2, 21, 0, tzinfo=UTC)),  # 20:00 -> 08:00
        (ZONE, datetime(2026, 3, 2, 20, 59, tzinfo=UTC), datetime(2026, 3, 2, 21, 0, tzinfo=UTC)),  # 07:59
        (ZONE, datetime(2026, 3, 2, 21, 0, tzinfo=UTC), datetime(2026, 3, 2, 21, 0, tzinfo=UTC)),
        # Over the night in which clocks go forward, and back: 08:00 by the clock all the same.
        ("Europe/Zurich", datetime(2026, 3, 28, 20, 0, tzinfo=UTC), datetime(2026, 3, 29, 6, 0, tzinfo=UTC)),
        ("Europe/Zurich", datetime(2026, 10, 24, 20, 0, tzinfo=UTC), datetime(2026, 10, 25, 7, 0, tzinfo=UTC)),
    ],
)
def test_nothing_leaves_in_quiet_hours(zone: str, at: datetime, expected: datetime) -> None:
    assert rules.after_quiet(at, Schedule(), zone) == expected


@given(
    st.integers(0, 366 * 24 * 60),
    st.sampled_from(("00:00", "02:30", "08:00", "12:00", "20:00", "23:59")),
    st.sampled_from(("00:00", "02:30", "08:00", "12:00", "20:00", "23:59")),
    st.sampled_from(("Europe/Zurich", "America/New_York", ZONE, "Australia/Lord_Howe")),
)
def test_the_end_of_the_quiet_hours_is_outside_them_and_never_before(
    minutes: int, quiet_from: str, quiet_until: str, zone: str
) -> None:
    schedule = Schedule(quiet_from=quiet_from, quiet_until=quiet_until)
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    after = rules.after_quiet(at, schedule, zone)
    assert at - timedelta(hours=1) <= after <= at + timedelta(hours=25)
    assert rules.after_quiet(after + timedelta(hours=0), schedule, zone) >= after


def test_a_reminder_is_counted_in_days_by_the_clock_and_not_sent_of_what_was_booked_later() -> None:
    starts_at = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)  # 14:00 in Zurich, on the day clocks went forward
    given_: dict[str, Any] = {"timezone": "Europe/Zurich", "theirs": "Europe/Zurich"}
    moment = rules.before_appointment(rule(), Schedule(), starts_at, changed_at=NOW, **given_)
    assert moment == rules.Moment(datetime(2026, 3, 28, 8, 0, tzinfo=UTC), starts_at)
    late = datetime(2026, 3, 28, 8, 0, tzinfo=UTC)
    assert rules.before_appointment(rule(), Schedule(), starts_at, changed_at=late, **given_) is None
    # Somebody elsewhere is reminded by their own clock, of the day it is at the site.
    theirs = {**given_, "theirs": "America/New_York"}
    moment = rules.before_appointment(rule(), Schedule(), starts_at, changed_at=NOW, **theirs)
    assert moment is not None
    assert moment.due_at == datetime(2026, 3, 28, 13, 0, tzinfo=UTC)
    # A rule of the same day, too late for an early appointment, says nothing rather than something of the past.
    same_day = rule(days=0, at="15:00")
    assert rules.before_appointment(same_day, Schedule(), starts_at, changed_at=NOW, **given_) is None


@pytest.mark.parametrize("language", ["en", "de", "es", "fr", "de-CH"])
@pytest.mark.parametrize("when", ["booked", "before_appointment", "window_opens", "overdue"])
def test_our_own_words_name_no_study_no_visit_and_leave_nothing_unfilled(language: str, when: str) -> None:
    subject, body, found = rules.words_of(rule(when=when), language, "en")
    values = rules.values_for(
        language=found, site="North clinic", timezone=ZONE, starts_at=NOW, opens_on=TODAY, closes_on=TODAY
    )
    text = rules.filled(subject, values) + rules.filled(body, values)
    assert "{" not in text
    assert "North clinic" in text
    assert found == (language.partition("-")[0] if language != "fr" else "en")


def test_the_words_of_the_study_come_before_ours_in_the_readers_language() -> None:
    texts = [{"language": code, "subject": f"S {code}", "body": "On {day}"} for code in ("de", "en")]
    said = rule(texts=texts)
    assert rules.words_of(said, "de", "en") == ("S de", "On {day}", "de")
    assert rules.words_of(said, "de-CH", "en")[0] == "S de"
    assert rules.words_of(said, "es", "en")[0] == "S en"
    assert rules.filled("{day} {room}", {"day": "Monday"}) == "Monday {room}"


# What is queued


class Site:
    """A randomised participant who is to come in five days, in a study with reminders."""

    def __init__(self, session: Session, **schedule: Any) -> None:
        self.session = session
        self.study: StudyInUse = study_with_consent(session, schedule={**RULES["schedule"], **schedule})
        self.one, self.by = enrolled(session, self.study)
        self.assessor = person(session, self.study, "assessor")
        reach(session, self.study, self.one)

    def book(self, days: int = 5, visit: str = "week18") -> Any:
        wish = Wish(TODAY + days * DAY, time(10), 60, "assessor_north", "Room 1")
        return book(self.session, self.study, self.one, wish, visit=visit, by=self.by, now=NOW)[0]

    def due(self, at: datetime) -> list[str]:
        queue_due(self.session, self.study, now=at)
        return self.rules()

    def rules(self) -> list[str]:
        return list(self.session.execute(select(MAIL.c.rule).order_by(MAIL.c.id)).scalars())

    def rows(self, **where: Any) -> list[Any]:
        wanted = [MAIL.c[name] == value for name, value in where.items()]
        return list(self.session.execute(select(MAIL).where(*wanted).order_by(MAIL.c.id)))

    def choose(self, version: int = 0, **changes: Any) -> Any:
        said = {"mail": True, "sms": True, "language": None, **changes}
        return choose(self.session, self.study, self.one, **said, version=version, by=self.by, now=NOW)


def reach(session: Session, study: StudyInUse, one: Participant, **changes: Any) -> None:
    """Give a participant an address and a telephone number."""
    from app.participants.identity import IDENTITY, participant_key, seal_personal

    assert one.id is not None
    key = participant_key(session, one.id)
    assert key is not None
    personal = PersonalData(**{"email": f"{one.code.lower()}@example.org", "phone": "+41 44 000 00 00", **changes})
    sealed = seal_personal(key, study.id, one.id, personal)
    session.execute(update(IDENTITY).where(IDENTITY.c.participant_id == one.id).values(sealed=sealed))


@pytest.fixture
def north(session: Session) -> Site:
    return Site(session)


@pytest.mark.requirement("REL-5", "GDPR-5")
def test_a_booking_tells_whom_it_is_with_and_the_participant_whose_address_stands_nowhere(north: Site) -> None:
    row = north.book()
    staff, theirs = north.rows()
    assert (staff.rule, staff.to_address, staff.to_participant) == ("appointment", "assessor_north@example.org", False)
    assert (theirs.rule, theirs.to_address, theirs.to_participant) == ("booked", "", True)
    assert theirs.body.endswith("\n\nIf you want no more messages of this kind, tell North clinic.")
    assert "If you want no more" not in staff.body
    assert "SEQUENCE:0" in staff.calendar
    assert f"UID:{row.uid}" in theirs.calendar
    assert "Saturday, 7 March 2026" in theirs.body
    assert not [word for word in ("Week 18", "MINI", north.one.code) if word in theirs.body + theirs.calendar]
    moved, _ = move(
        north.session,
        north.study,
        north.one,
        1,
        Wish(TODAY + 6 * DAY, time(11), 60, "assessor_north"),
        version=1,
        by=north.by,
        now=NOW,
    )
    cancel(north.session, north.study, north.one, 1, version=2, why="Ill", by=north.by, now=NOW)
    calendars = [each.calendar for each in north.rows(rule="booked")]
    assert [f"SEQUENCE:{number}" in text for number, text in enumerate(calendars)] == [True, True, True]
    assert "METHOD:CANCEL" in calendars[2]
    assert moved.uid in calendars[2]


def test_nothing_of_a_booking_is_told_when_the_booking_is_undone(north: Site) -> None:
    inside = north.session.begin_nested()
    north.book()
    inside.rollback()
    assert north.rows() == []


def test_reminders_are_queued_when_due_and_once(north: Site) -> None:
    north.book()
    before = north.rules()
    assert north.due(NOW) == before
    at = datetime(2026, 3, 4, 22, 0, tzinfo=UTC)  # 09:00 in Sydney, two days before
    assert north.due(at - timedelta(minutes=1)) == before
    assert north.due(at) == [*before, "before"]
    evening = datetime(2026, 3, 6, 7, 0, tzinfo=UTC)  # 18:00 in Sydney, the day before
    assert north.due(evening) == [*before, "before", "text"]
    assert north.due(evening) == [*before, "before", "text"]
    (entry, _) = log_of(north.session, action="reminder.queued")
    assert (entry.username, json.loads(entry.new)) == (
        "system:jobs",
        {"rule": "before", "by": "mail", "to": "participant"},
    )
    assert north.rows(rule="text")[0].calendar is None


def test_a_window_that_opens_and_a_visit_that_is_late_are_said_only_while_nothing_is_booked(north: Site) -> None:
    opens = datetime(2026, 6, 28, 23, 0, tzinfo=UTC)  # 09:00 on 29 June in Sydney
    assert north.due(opens) == ["opens"]
    late = datetime(2026, 7, 21, 23, 0, tzinfo=UTC)
    assert north.due(late) == ["opens", "late", "late"]
    told = north.rows(rule="late")
    assert {each.to_address for each in told} == {"coordinator_north@example.org", "assessor_north@example.org"}
    assert {each.subject for each in told} == {f"{north.one.code}: Week 18 is overdue"}
    assert north.due(late + 30 * DAY) == ["opens", "late", "late"]


def test_nothing_is_said_of_what_is_booked_held_or_of_somebody_who_left(north: Site) -> None:
    north.book(days=125)
    told = north.rules()
    assert north.due(datetime(2026, 6, 28, 23, 0, tzinfo=UTC)) == told
    withdraw(north.session, north.study, north.one, level="visits", reason="Moved", on=TODAY, by=north.by, now=NOW)
    stop_visits(north.session, north.study, north.one, why="Moved", by=north.by, now=NOW)
    after = north.rules()
    assert after == [*told, "appointment"]  # whom it was with is told that it is cancelled; the participant is not
    assert north.due(datetime(2026, 7, 21, 23, 0, tzinfo=UTC)) == after


# Who said no


def test_what_a_participant_wants_is_recorded_and_holds(north: Site) -> None:
    north.choose(mail=False, language="de")
    north.book()
    assert north.rules() == ["appointment"]
    at = datetime(2026, 3, 6, 7, 0, tzinfo=UTC)
    assert north.due(at) == ["appointment", "text"]
    assert "Sie haben einen Termin am Samstag, 7. März 2026" in north.rows(rule="text")[0].body
    (entry,) = log_of(north.session, action="reminders.chosen")
    assert (json.loads(entry.old)["mail"], json.loads(entry.new)["mail"]) == (True, False)
    with pytest.raises(Conflict):
        north.choose()
    assert north.choose(version=1, mail=False, language="de").version == 1
    for wrong in ({"language": "tlh"}, {"timezone": "Mars/Olympus"}, {"timezone": "../x"}):
        with pytest.raises(Invalid):
            north.choose(version=1, **wrong)
    with pytest.raises(NotAllowed):
        choose(
            north.session,
            north.study,
            north.one,
            mail=False,
            sms=False,
            language=None,
            version=1,
            by=person(north.session, north.study, "monitor"),
            now=NOW,
        )


# How it leaves


class Inbox:
    """A channel that keeps what it is given, and fails, or ends the worker, when told to."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.problem: Exception | None = None

    def deliver(self, message: Message) -> None:
        if self.problem is not None:
            raise self.problem
        self.got.append(message)


class Office:
    """The site on a database, with workers."""

    def __init__(self, database: Database, **schedule: Any) -> None:
        self.database = database
        with database.writing() as session:
            self.site = Site(session, **schedule)
        self.site.session = None  # type: ignore[assignment]
        self.mail, self.sms = Inbox(), Inbox()

    def act(self, what: Any) -> Any:
        with self.database.writing() as session:
            self.site.session = session
            return what(self.site)

    def send(self) -> int:
        return jobs.send_due_mail(self.database, Settings(), channels={"mail": self.mail, "sms": self.sms})

    def states(self) -> list[tuple[str, str]]:
        with self.database.reading() as session:
            rows = messages_page(session, self.site.study, by=self.site.by).rows
            return [(row.rule, row.state) for row in reversed(rows)]


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(MORNING, tick=False) as traveller:
        yield traveller


@pytest.fixture
def office(shared_database: Database, clock: Any) -> Office:
    return Office(shared_database)


@pytest.mark.parametrize(
    ("language", "summary", "way_out"),
    [
        ("de", "Termin", "Wenn Sie keine solchen Nachrichten mehr möchten, sagen Sie es uns: "),
        ("es", "Cita", "Si no desea recibir más mensajes como este, avise a "),
        (None, "Appointment", "If you want no more messages of this kind, tell "),
    ],
)
def test_a_mail_says_in_its_readers_language_what_it_is_of_and_how_to_stop_more(
    north: Site, language: str | None, summary: str, way_out: str
) -> None:
    north.choose(language=language)
    north.book()
    north.due(datetime(2026, 3, 6, 7, 0, tzinfo=UTC))
    for rule in ("booked", "before"):
        (row,) = north.rows(rule=rule)
        assert f"\r\nSUMMARY:{summary}\r\n" in row.calendar
        assert way_out in row.body
    assert way_out not in north.rows(rule="text")[0].body  # a text message is short


@pytest.mark.requirement("GDPR-3", "GDPR-5")
def test_the_address_is_looked_up_when_it_is_sent(office: Office) -> None:
    office.act(Site.book)
    assert office.send() == 2
    assert [message.to for message in office.mail.got] == ["assessor_north@example.org", "m-001@example.org"]


def _opted_out(site: Site) -> None:
    site.choose(mail=False)


def _left(site: Site) -> None:
    withdraw(site.session, site.study, site.one, level="visits", reason="Moved", on=TODAY, by=site.by, now=NOW)


def _erased(site: Site) -> None:
    _left(site)
    erase_identity(site.session, site.study, site.one, why="Asked", by=site.by, now=NOW)


def _moved(site: Site) -> None:
    wish = Wish(TODAY + 7 * DAY, time(9), 30)
    move(site.session, site.study, site.one, 1, wish, version=1, by=site.by, now=NOW)


def _no_address(site: Site) -> None:
    reach(site.session, site.study, site.one, email=None)


@pytest.mark.requirement("GDPR-3", "GDPR-7")
@pytest.mark.parametrize(
    ("happens", "words"),
    [
        (_opted_out, "wants no reminders"),
        (_left, "has withdrawn"),
        (_erased, "has withdrawn"),
        (_moved, "changed since"),
        (_no_address, "No mail address"),
    ],
)
def test_what_does_not_hold_any_more_is_not_sent(office: Office, happens: Any, words: str) -> None:
    office.act(Site.book)
    office.act(happens)
    office.send()
    first = next(message for message in office.act(lambda site: site.rows(rule="booked")))
    assert first.ended_as == "dropped"
    assert words in first.last_error
    assert not [message for message in office.mail.got if message.key == first.key]


def test_what_could_not_be_sent_in_time_is_not_sent(office: Office, clock: Any) -> None:
    office.act(Site.book)
    clock.move_to(MORNING + 10 * DAY)
    assert office.send() == 0
    assert {state for _, state in office.states()} == {"dropped"}


def test_a_failure_waits_longer_each_time_is_given_up_and_sent_again_by_hand(office: Office, clock: Any) -> None:
    office.act(Site.book)
    office.mail.problem = Undelivered("451 later")
    waited = []
    for _ in range(5):
        assert office.send() == 0
        row = office.act(lambda site: site.rows(rule="booked"))[0]
        waited.append(round((row.not_before - clock_now()).total_seconds() / 60))
        clock.move_to(row.not_before)
    assert waited == [1, 5, 15, 60, 240]
    office.mail.problem = Undelivered("550 unknown", for_good=True)
    office.send()
    assert [state for _, state in office.states()] == ["failed", "failed"]
    office.mail.problem = None
    assert office.send() == 0

    def again(site: Site) -> None:
        message = site.rows(rule="booked")[0]
        with pytest.raises(Invalid):
            resend(site.session, site.study, message.id, why="", by=site.by, now=NOW)
        with pytest.raises(NotAllowed):
            resend(site.session, site.study, message.id, why="x", by=site.assessor, now=NOW)
        with pytest.raises(NotFound):
            resend(site.session, site.study, 10**6, why="x", by=site.by, now=NOW)
        resend(site.session, site.study, message.id, why="The address was mended", by=site.by, now=NOW)
        with pytest.raises(Refused):
            resend(site.session, site.study, message.id, why="Twice", by=site.by, now=NOW)

    office.act(again)
    assert office.send() == 1
    assert office.states() == [("appointment", "failed"), ("booked", "sent")]


@pytest.mark.requirement("E6-1", "CONC-11")
def test_the_page_of_messages_shows_no_address_and_no_reminder_of_those_who_treat(office: Office) -> None:
    def sessions(site: Site) -> None:
        clinician = person(site.session, site.study, "clinician")
        other = Actor(**{**vars(clinician), "person_id": clinician.person_id + 1000})
        wish = Wish(TODAY + DAY, time(10), 45, clinician.username, "Laser room")
        book(site.session, site.study, site.one, wish, visit="tx01", by=other, now=NOW)
        assert [row.rule for row in site.rows()] == ["appointment", "booked"]
        for by, wanted in ((site.by, ["booked"]), (person(site.session, site.study, "data_manager"), ["booked"])):
            page = messages_page(site.session, site.study, by=by)
            assert [row.rule for row in page.rows] == wanted
            assert "example.org" not in repr(page.rows)
        south = person(site.session, site.study, "coordinator", site_code="south")
        assert messages_page(site.session, site.study, by=south).rows == []

    office.act(sessions)


# Quiet hours


@pytest.mark.requirement("REL-5")
def test_what_is_booked_at_night_tells_the_participant_in_the_morning_of_where_they_live(office: Office) -> None:
    office.act(Site.book)
    at_once, later = office.act(Site.rows)
    assert (at_once.rule, at_once.not_before) == ("appointment", NOW)  # whom it is with works at night
    assert later.not_before == datetime(2026, 3, 2, 21, 0, tzinfo=UTC)  # 08:00 in Sydney
    office.act(lambda site: site.choose(timezone="Europe/Zurich"))  # 22:30 there by MORNING
    assert office.send() == 1
    assert [message.to for message in office.mail.got] == ["assessor_north@example.org"]
    held = office.act(lambda site: site.rows(rule="booked"))[0]
    assert (held.not_before, held.attempts) == (datetime(2026, 3, 3, 7, 0, tzinfo=UTC), 0)
    assert office.states() == [("appointment", "sent"), ("booked", "waiting")]


def test_what_is_moved_or_cancelled_at_night_waits_too(office: Office) -> None:
    office.act(Site.book)
    office.act(_moved)
    office.act(lambda site: cancel(site.session, site.study, site.one, 1, version=2, why="Ill", by=site.by, now=NOW))
    rows = office.act(lambda site: site.rows(rule="booked"))
    assert {row.not_before for row in rows} == {datetime(2026, 3, 2, 21, 0, tzinfo=UTC)}
    assert len(rows) == 3


def test_a_failure_is_not_tried_again_in_the_night_nor_counted_there(office: Office, clock: Any) -> None:
    office.act(Site.book)
    office.mail.problem = Undelivered("451 later")
    clock.move_to(datetime(2026, 3, 3, 8, 59, tzinfo=UTC))  # 19:59 in Sydney
    office.send()
    office.mail.problem = None
    clock.move_to(datetime(2026, 3, 3, 9, 1, tzinfo=UTC))
    assert office.send() == 1  # to the staff
    assert [message.to for message in office.mail.got] == ["assessor_north@example.org"]
    waits = office.act(lambda site: site.rows(rule="booked"))[0]
    assert (waits.attempts, waits.not_before) == (1, datetime(2026, 3, 3, 21, 0, tzinfo=UTC))
    clock.move_to(waits.not_before)
    assert office.send() == 1
    assert office.mail.got[-1].to == "m-001@example.org"


def test_what_waited_while_nobody_sent_leaves_after_the_night_and_a_reminder_to_staff_too(
    office: Office, clock: Any
) -> None:
    late = datetime(2026, 7, 21, 23, 0, tzinfo=UTC)  # 09:00 in Sydney: overdue by two days
    office.act(lambda site: site.due(late))
    clock.move_to(late + timedelta(hours=12))  # 21:00
    assert office.send() == 0
    clock.move_to(late + timedelta(hours=23))
    assert office.send() == 2
    assert {message.to for message in office.mail.got} == {
        "coordinator_north@example.org",
        "assessor_north@example.org",
    }


# Whatever breaks


class Crash(BaseException):
    """A worker ends on the spot."""


class Worker:
    """One round of a worker in its steps, so that it can be stopped between any two of them."""

    def __init__(self, office: Office, folder: Path, chance: random.Random) -> None:
        self.office, self.ways, self.chance = office, {"sms": TextFiles(folder), "mail": TextFiles(folder)}, chance
        self.steps = self._steps()

    def _steps(self) -> Iterator[None]:
        database = self.office.database
        while True:
            if self.chance.random() < 0.5:
                with database.writing() as session:
                    queue_due(session, self.office.site.study, now=clock_now())
                    if self.chance.random() < 0.3:
                        raise Crash  # before it commits: what was queued is gone, and due again
                yield
            mail = jobs.claim(database, clock_now())
            yield
            if mail is not None:
                problem = jobs.deliver(database, mail, self.ways)
                yield
                jobs.mark(database, mail, problem, clock_now())
            yield

    def step(self) -> None:
        """Do one thing; sometimes end, and begin anew without a memory."""
        if self.chance.random() < 0.15:
            self.steps = self._steps()
            return
        try:
            next(self.steps)
        except Crash:
            self.steps = self._steps()


@pytest.mark.requirement("REL-5", "REL-7")
@pytest.mark.parametrize("seed", range(3))
def test_two_workers_that_crash_anywhere_send_each_reminder_once_and_lose_none(
    shared_database: Database, clock: Any, tmp_path: Path, seed: int
) -> None:
    """The order of everything is drawn from a seed: which of two workers goes on, where it ends, when time passes."""
    chance = random.Random(seed)
    office = Office(shared_database, quiet_from="00:00", quiet_until="00:00")  # a round may be long after the last one
    office.act(lambda site: [site.book(days=4), site.book(days=6, visit="baseline")])
    workers = [Worker(office, tmp_path, chance) for _ in range(2)]
    ends = NOW + 7 * DAY
    while clock_now() < ends:
        for _ in range(chance.randint(1, 9)):
            chance.choice(workers).step()
        clock.shift(timedelta(minutes=chance.choice((1, 6, 240, 480))))
    with office.database.reading() as session:
        rows = session.execute(select(MAIL.c.key, MAIL.c.rule, MAIL.c.ended_as, MAIL.c.sent_at)).all()
    sent = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    keys = [each["key"] for each in sent]
    assert len(keys) == len(set(keys))
    assert not list(tmp_path.glob(".*"))
    # Both appointments were booked, told, reminded of by mail two days before, and by a text the day before.
    assert sorted(row.rule for row in rows) == sorted(["appointment", "booked", "before", "text"] * 2)
    assert {row.ended_as for row in rows} == {None}
    assert sorted(keys) == sorted(row.key for row in rows if row.sent_at)
    assert len(sent) == 8


def test_a_text_message_is_written_once_whole_and_for_its_reader_only(tmp_path: Path) -> None:
    way = TextFiles(tmp_path / "sms")
    message = Message("reminder/text/1", "+41 44 000 00 00", "Subject", "Come on Monday — Grüße", NOW)
    for _ in range(2):
        way.deliver(message)
    (path,) = (tmp_path / "sms").iterdir()
    assert json.loads(path.read_text()) == {"key": message.key, "to": message.to, "text": message.text}
    assert path.stat().st_mode & 0o077 == 0
    assert message.to not in repr(message)
    with pytest.raises(Undelivered, match="EQUIPOISE_SMS_FOLDER"):
        TextFiles(None).deliver(message)
    (tmp_path / "file").touch()
    with pytest.raises(Undelivered, match="cannot be written"):
        TextFiles(tmp_path / "file").deliver(message)


def test_held_visits_need_no_reminder(north: Site) -> None:
    record_visit(
        north.session,
        north.study,
        north.one,
        "week18",
        held_on=TODAY,
        version=1,
        reason="Leaves",
        by=north.by,
        now=NOW,
    )
    assert north.due(datetime(2026, 7, 21, 23, 0, tzinfo=UTC)) == []
    assert choice_of(north.session, north.one.id or 0).mail is True
    assert Status(north.one.status) is Status.RANDOMISED
    assert actions.CLOCKWORK.username == "system:jobs"
    assert date(2026, 3, 2) == TODAY


@pytest.mark.parametrize(
    ("status", "told"),
    [(status, status in (Status.SCREENED, Status.CONSENTED, Status.RANDOMISED, Status.COMPLETED)) for status in Status],
)
def test_only_who_can_be_reached_and_takes_part_is_written_to(status: Status, told: bool) -> None:
    assert (rules.why_not_contact(status, None) is None) is told
