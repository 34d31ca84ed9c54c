"""Appointments: at the right instant whatever the clock does, with warnings and without refusals, and never twice."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update
from sqlmodel import Session

from app.foundation.database import table_of
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotAllowed, Refused
from app.mail.models import OutboxMail
from app.participants.actions import withdraw
from app.participants.models import Participant
from app.people.access import Actor
from app.schedule.actions import miss_visit, record_visit, reopen_visit, stop_visits
from app.schedule.appointments import actions, rules
from app.schedule.appointments.actions import Wish, book, cancel, move, record_held, record_no_show
from app.schedule.appointments.reads import (
    AppointmentRow,
    appointment_of,
    appointments_between,
    appointments_of,
    unbooked_between,
)
from app.schedule.appointments.rules import ELSEWHEN
from app.schedule.reads import visit_of
from app.schedule.status import AppointmentStatus
from app.studies.in_use import StudyInUse
from tests.consent.acts import agreed, study_with_consent
from tests.factories import NOW, TODAY, person
from tests.participants.acts import log_of, screened
from tests.plans import plans
from tests.schedule.test_actions import enrolled

DAY = timedelta(days=1)
SOON = Wish(TODAY + DAY, time(10, 0), 60, "assessor_north", "Room 1")

ZONES = ("Europe/Zurich", "Australia/Sydney", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kolkata")


# The clock on the wall


@pytest.mark.requirement("ICS-5", "SPI-18")
@pytest.mark.parametrize(
    ("zone", "day", "at", "clock", "expected"),
    [
        ("Europe/Zurich", date(2026, 3, 2), time(10), "", datetime(2026, 3, 2, 9, tzinfo=UTC)),
        ("Europe/Zurich", date(2026, 3, 30), time(10), "", datetime(2026, 3, 30, 8, tzinfo=UTC)),
        ("Europe/Zurich", date(2026, 3, 29), time(2, 30), "", "skipped"),
        ("Europe/Zurich", date(2026, 3, 29), time(3), "", datetime(2026, 3, 29, 1, tzinfo=UTC)),
        ("Europe/Zurich", date(2026, 10, 25), time(2, 30), "", "twice"),
        ("Europe/Zurich", date(2026, 10, 25), time(2, 30), "earlier", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ("Europe/Zurich", date(2026, 10, 25), time(2, 30), "later", datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
        ("America/New_York", date(2026, 3, 8), time(2, 15), "", "skipped"),
        ("America/New_York", date(2026, 11, 1), time(1, 15), "later", datetime(2026, 11, 1, 6, 15, tzinfo=UTC)),
        # Half an hour is skipped, and comes twice.
        ("Australia/Lord_Howe", date(2026, 10, 4), time(2, 15), "", "skipped"),
        ("Australia/Lord_Howe", date(2026, 4, 5), time(1, 45), "", "twice"),
        ("Africa/Cairo", date(2026, 4, 24), time(0, 30), "", "skipped"),  # midnight itself
    ],
)
def test_a_time_is_the_instant_at_which_the_sites_clock_shows_it(zone, day, at, clock, expected) -> None:
    found = rules.instant(day, at, zone, clock)
    assert (found.rule if isinstance(found, FieldProblem) else found) == expected


@given(st.integers(0, 12 * 366 * 24 * 60), st.sampled_from(ZONES))
def test_every_instant_has_a_clock_time_that_leads_back_to_it(minutes: int, zone: str) -> None:
    at = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    here = at.astimezone(ZoneInfo(zone))
    assert at in rules.instants(here.date(), here.time().replace(fold=0), zone)
    begins, ends = rules.day_span(here.date(), zone)
    assert begins <= at < ends
    assert ends - begins in (timedelta(hours=hours) for hours in (23, 23.5, 24, 24.5, 25))


def test_an_hour_that_comes_twice_is_said_with_its_offset() -> None:
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    words = rules.time_words(first, first + timedelta(hours=1), "Europe/Zurich")
    assert words == "02:30 (UTC+02:00)–02:30 (UTC+01:00)"
    assert rules.time_words(NOW, NOW + timedelta(minutes=90), "Europe/Zurich") == "10:30–12:00"


# Booking


@pytest.fixture
def study(session: Session) -> StudyInUse:
    return study_with_consent(session)


class Site:
    """A randomised participant and everybody who works at their site."""

    def __init__(self, session: Session, study: StudyInUse) -> None:
        self.session, self.study = session, study
        self.one, self.by = enrolled(session, study)
        self.assessor = person(session, study, "assessor")
        self.clinician = person(session, study, "clinician")

    def book(self, wish: Wish = SOON, visit: str | None = "week18", **more: Any) -> AppointmentRow:
        return self.warned(wish, visit, **more)[0]

    def warned(
        self, wish: Wish = SOON, visit: str | None = "week18", *, one: Participant | None = None, **more: Any
    ) -> tuple[AppointmentRow, tuple[str, ...]]:
        given = {"by": self.by, "now": NOW, **more}
        return book(self.session, self.study, one or self.one, wish, visit=visit, **given)

    def another(self) -> Participant:
        found = screened(self.session, self.study, by=self.by)
        agreed(self.session, self.study, found, by=person(self.session, self.study, "investigator"))
        return found

    def seen(self, number: int = 1, by: Actor | None = None) -> AppointmentRow:
        assert self.one.id is not None
        return appointment_of(self.session, self.one.id, number, by=by or self.by)

    def mails(self) -> int:
        return int(self.session.execute(select(func.count()).select_from(table_of(OutboxMail))).scalar_one())

    def act(self, what: Any, number: int = 1, **more: Any) -> Any:
        return what(self.session, self.study, self.one, number, **{"version": 1, "by": self.by, "now": NOW, **more})


@pytest.fixture
def north(session: Session, study: StudyInUse) -> Site:
    return Site(session, study)


def test_a_visit_is_booked_with_time_person_and_room(north: Site) -> None:
    row, warnings = north.warned()
    assert (row.number, row.visit, row.when, row.person, row.room) == (
        1,
        "week18",
        "10:00–11:00",
        "Assessor_North",
        "Room 1",
    )
    assert row.starts_at == datetime(2026, 3, 2, 23, tzinfo=UTC)  # Sydney, in summer
    assert warnings == ("3 Mar 2026 is outside the window of this visit, 29 Jun 2026 to 20 Jul 2026.",)
    (entry,) = log_of(north.session, action="appointment.booked")
    assert json.loads(entry.new)["person"] == "assessor_north"
    assert entry.subject == "appointment/1"
    with pytest.raises(Refused, match="booked already"):
        north.book(replace(SOON, at=time(15)))
    assert len(appointments_of(north.session, row.participant_id, by=north.by)) == 1


def test_a_visit_that_is_not_in_the_plan_is_booked_with_its_purpose_and_held(north: Site) -> None:
    with pytest.raises(Invalid) as caught:
        north.book(visit=None)
    assert [problem.field for problem in caught.value.problems] == ["purpose"]
    row = north.book(visit=None, purpose=" Rash after a session ")
    assert (row.kind, row.visit, row.purpose) == ("unscheduled", None, "Rash after a session")
    with pytest.raises(Refused, match="still to come"):
        north.act(record_held)
    assert north.act(record_held, now=NOW + 2 * DAY).status is AppointmentStatus.HELD
    with pytest.raises(Refused, match="took place"):
        north.act(cancel, version=2, why="x")


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"minutes": 4}, ["minutes"]),
        ({"minutes": 721}, ["minutes"]),
        ({"room": "x" * 61}, ["room"]),
        ({"room": "a\nb"}, ["room"]),
        ({"person": "coordinator_south"}, ["person"]),
        ({"day": date(2062, 3, 1), "minutes": 0}, ["minutes", "day"]),
        ({"day": date(2026, 10, 4), "at": time(2, 30)}, ["time"]),
        ({"day": date(2026, 4, 5), "at": time(2, 30)}, ["clock"]),
    ],
)
def test_what_cannot_be_kept_is_said_field_by_field(north: Site, change: dict[str, Any], fields: list[str]) -> None:
    person(north.session, north.study, "coordinator", site_code="south")
    with pytest.raises(Invalid) as caught:
        north.book(replace(SOON, **change))
    assert [problem.field for problem in caught.value.problems] == fields
    assert not log_of(north.session, action="appointment.booked")


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (SOON, ["Assessor_North sees M-001", "Room 1 is taken"]),
        (replace(SOON, person=None, room="ROOM  1"), ["Room 1 is taken"]),
        (replace(SOON, at=time(10, 59), room="Room 2"), ["Assessor_North sees M-001"]),
        (replace(SOON, at=time(11)), []),
        (replace(SOON, at=time(9)), []),
        (replace(SOON, at=time(9), minutes=61, person=None), ["Room 1 is taken"]),
        (replace(SOON, person=None, room=None), []),
        (replace(SOON, day=TODAY - DAY), ["1 Mar 2026 is over"]),
    ],
)
def test_a_clash_is_said_and_never_refused(north: Site, wish: Wish, expected: list[str]) -> None:
    north.book()
    _, warnings = north.warned(wish, None, one=north.another(), purpose="Questions")
    assert [said for said, words in zip(warnings, expected, strict=True) if words in said] == list(warnings)


def test_a_participant_cannot_be_in_two_places_unnoticed(north: Site) -> None:
    north.book()
    _, warnings = north.warned(replace(SOON, person=None, room=None), None, purpose="Questions")
    assert warnings == ("M-001 has another appointment at that time, 10:00–11:00.",)


@pytest.mark.requirement("ICS-2")
def test_a_change_grows_the_sequence_and_keeps_the_uid(north: Site) -> None:
    row = north.book()
    moved, _ = north.act(move, wish=replace(SOON, at=time(14), person=None), why="The tram")
    assert (moved.uid, moved.sequence, moved.version, moved.when) == (row.uid, 1, 2, "14:00–15:00")
    same, _ = north.act(move, wish=replace(SOON, at=time(14), person=None), version=2)
    assert same.sequence == 1
    with pytest.raises(Conflict):
        north.act(cancel, why="Ill")
    cancelled = north.act(cancel, version=2, why="Ill")
    assert (cancelled.status, cancelled.sequence, cancelled.reason) == ("cancelled", 2, "Ill")
    with pytest.raises(Refused, match="Book another"):
        north.act(move, wish=SOON, version=3)
    again = north.book()
    assert (again.number, again.uid != row.uid) == (2, True)
    assert [entry.action for entry in log_of(north.session) if entry.action.startswith("appointment.")] == [
        "appointment.booked",
        "appointment.moved",
        "appointment.cancelled",
        "appointment.booked",
    ]


def test_nobody_came_and_the_visit_can_be_booked_again(north: Site) -> None:
    north.book()
    with pytest.raises(Refused, match="still to come"):
        north.act(record_no_show)
    assert north.act(record_no_show, now=NOW + 2 * DAY, why="No answer").status == "no_show"
    assert north.book(replace(SOON, day=TODAY + 3 * DAY)).number == 2


def test_cancelling_needs_its_reason(north: Site) -> None:
    north.book()
    with pytest.raises(Invalid):
        north.act(cancel, why=" ")
    assert north.seen().status == "booked"


def test_an_appointment_follows_its_visit(north: Site) -> None:
    for day, code in ((0, "baseline"), (1, "week18")):
        north.book(replace(SOON, day=TODAY + day * DAY, at=time(8)), code)
    acting: dict[str, Any] = {"by": north.by, "now": NOW}
    record_visit(north.session, north.study, north.one, "baseline", held_on=TODAY, version=1, **acting)
    miss_visit(north.session, north.study, north.one, "week18", version=1, why="Abroad", **acting)
    assert (north.seen(1).status, north.seen(2).status, north.seen(2).reason) == ("held", "cancelled", "Abroad")
    with pytest.raises(Refused, match="missed"):
        north.book()


def test_an_appointment_of_a_later_day_is_cancelled_when_its_visit_was_held_before(north: Site) -> None:
    north.book(replace(SOON, day=TODAY + 9 * DAY, person=north.assessor.username))
    mails = north.mails()
    acting: dict[str, Any] = {"by": north.by, "now": NOW}
    here: dict[str, Any] = {"session": north.session, "study": north.study, "participant": north.one}
    here |= {"visit_code": "week18"}
    record_visit(**here, held_on=TODAY, version=1, reason="They were here anyway", **acting)
    assert (north.seen().status, north.seen().reason) == ("cancelled", ELSEWHEN)
    assert north.mails() == mails + 1
    reopen_visit(**here, version=2, why="Another participant", **acting)
    assert (north.seen().status, north.seen().reason) == ("booked", None)


def test_what_became_of_an_appointment_is_open_again_with_its_visit(north: Site) -> None:
    north.book()
    acting: dict[str, Any] = {"by": north.by, "now": NOW + 2 * DAY}
    here: dict[str, Any] = {"session": north.session, "study": north.study, "participant": north.one}
    here |= {"visit_code": "week18"}
    acts: Any = ((record_visit, {"held_on": TODAY + DAY, "reason": "Early"}), (miss_visit, {"why": "Abroad"}))
    for record, how in acts:
        version = visit_of(north.session, north.one.id or 0, "week18").version
        record(**here, version=version, **how, **acting)
        assert north.seen().status in ("held", "no_show")
        mails = north.mails()
        reopen_visit(**here, version=version + 1, why="Another participant", **acting)
        assert (north.seen().status, north.seen().reason, north.mails()) == ("booked", None, mails)
    assert [entry.action for entry in log_of(north.session) if entry.action.startswith("appointment.")] == [
        "appointment.booked",
        "appointment.held",
        "appointment.reopened",
        "appointment.not_kept",
        "appointment.reopened",
    ]
    north.act(record_no_show, version=north.seen().version, why="No answer", now=NOW + 2 * DAY)
    version = visit_of(north.session, north.one.id or 0, "week18").version
    miss_visit(**here, version=version, why="Abroad", **acting)
    reopen_visit(**here, version=version + 1, why="Another participant", **acting)
    assert north.seen().status == "no_show", "that nobody came was said of the appointment itself"


def test_what_was_cancelled_with_its_visit_is_booked_again_while_it_is_to_come(north: Site) -> None:
    acting: dict[str, Any] = {"by": north.by, "now": NOW}
    here: dict[str, Any] = {"session": north.session, "study": north.study, "participant": north.one}
    here |= {"visit_code": "week18"}

    def missed_and_open(why: str, number: int, then: Any = NOW) -> tuple[str, int]:
        version = visit_of(north.session, north.one.id or 0, "week18").version
        miss_visit(**here, version=version, why=why, **acting)
        mails = north.mails()
        reopen_visit(**here, version=version + 1, why="Another participant", by=north.by, now=then)
        return north.seen(number).status, north.mails() - mails

    north.book(replace(SOON, person=north.assessor.username))
    sequence = north.seen().sequence
    assert missed_and_open("Abroad", 1) == ("booked", 1)
    assert (north.seen().sequence, north.seen().reason) == (sequence + 2, None)
    # Its time is over, and nobody could have come.
    assert missed_and_open("Abroad", 1, NOW + 2 * DAY) == ("cancelled", 0)
    north.book()
    north.act(cancel, number=2, why="Ill")
    # That it was cancelled was said of the appointment itself.
    assert missed_and_open("Abroad", 2) == ("cancelled", 0)
    north.book()
    north.session.execute(update(table_of(Participant)).values(fatal_event=7))
    assert missed_and_open("Abroad", 3) == ("cancelled", 0)


def test_who_withdraws_from_visits_has_nothing_booked(north: Site) -> None:
    north.book()
    north.book(replace(SOON, at=time(15)), None, purpose="Questions")
    acting: dict[str, Any] = {"by": north.by, "now": NOW}
    withdraw(north.session, north.study, north.one, level="visits", reason="Moved", on=TODAY, **acting)
    stop_visits(north.session, north.study, north.one, why="Moved", **acting)
    assert {north.seen(number).status for number in (1, 2)} == {AppointmentStatus.CANCELLED}
    with pytest.raises(Refused, match="withdrawn"):
        north.book(visit=None, purpose="Questions")


# Who may


def test_another_site_another_role_and_another_kind_are_refused(north: Site) -> None:
    south = person(north.session, north.study, "coordinator", site_code="south")
    with pytest.raises(NotAllowed):
        north.book(by=south)
    with pytest.raises(NotAllowed):
        north.book(by=person(north.session, north.study, "investigator"))
    with pytest.raises(Refused, match="clinician who treats"):
        north.book(visit="tx01")
    with pytest.raises(Refused, match="not a treatment session"):
        north.book(by=north.clinician)


@pytest.mark.requirement("CONC-15", "E6-1")
def test_of_a_session_blinded_people_learn_only_that_it_is_and_when_it_begins(north: Site) -> None:
    wish = Wish(TODAY + DAY, time(10), 45, "clinician_north", "Laser room")
    row = north.book(wish, "tx01", by=north.clinician)
    assert (row.room, row.minutes, row.hidden) == ("Laser room", 45, False)
    blind = north.seen(by=north.assessor)
    assert (blind.room, blind.person, blind.username, blind.person_id, blind.ends_at) == (None,) * 5
    assert (blind.hidden, blind.when, blind.starts_at) == (True, "10:00", row.starts_at)
    # Neither the log, nor a clash, nor the calendar of one person says more.
    (entry,) = log_of(north.session, action="appointment.booked")
    assert set(json.loads(entry.new)) == {"status", "starts_at", "visit", "sealed"}
    assert "Laser room" not in entry.new
    _, warnings = north.warned(replace(SOON, room="Laser room"), None, one=north.another(), purpose="Questions")
    assert warnings == ()
    span: dict[str, Any] = {"begins": NOW, "ends": NOW + 3 * DAY, "person_id": north.clinician.person_id}
    assert appointments_between(north.session, north.study, by=north.by, **span) == []
    assert len(appointments_between(north.session, north.study, by=north.clinician, **span)) == 1
    # And what is sealed is as long for a short name as for a long one.
    north.act(move, wish=replace(wish, room="R", minutes=5, person=None), by=north.clinician)
    moved = log_of(north.session, action="appointment.moved")[0]
    assert len(json.loads(moved.new)["sealed"]) == len(json.loads(entry.new)["sealed"])


def test_nothing_is_booked_when_the_log_cannot_be_written(north: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(actions, "record", broken)
    inside = north.session.begin_nested()
    with pytest.raises(RuntimeError):
        north.book()
    inside.rollback()
    assert north.one.id is not None
    assert appointments_of(north.session, north.one.id, by=north.by) == []
    assert visit_of(north.session, north.one.id, "week18").status == "planned"


# What is still to be booked


def test_what_is_to_be_booked_is_found_as_windows_close_and_no_further_than_it_is_shown(session: Session) -> None:
    study = study_with_consent(session)
    someone, coordinator = enrolled(session, study)
    far, _ = enrolled(session, study, "south")
    week18 = TODAY + 126 * DAY
    asked: dict[str, Any] = {
        "first": week18 + 14 * DAY,
        "last": week18 + 20 * DAY,
        "kinds": ["assessment"],
        "limit": 40,
    }
    with plans(session, "FROM visit") as found:
        (last_day,) = unbooked_between(session, study, by=coordinator, **asked)
    assert (last_day.participant, last_day.code, last_day.closes_on) == (someone.code, "week18", week18 + 14 * DAY)
    manager = person(session, study, "data_manager", site_code=None)
    both = unbooked_between(
        session, study, by=manager, **{**asked, "first": week18 - 20 * DAY, "last": week18 - 7 * DAY}
    )
    assert [each.participant for each in both] == [someone.code, far.code]  # its window opens on the last day
    assert len(unbooked_between(session, study, by=manager, **{**asked, "limit": 0})) == 1
    (plan,) = found
    assert "ix_visit_to_book" in plan
    assert "TEMP B-TREE" not in plan
    assert "Sort" not in plan
