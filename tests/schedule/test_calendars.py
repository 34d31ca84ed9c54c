"""iCalendar: read by a library that did not write it; discreet, escaped, folded, and the same event after a change."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ical.calendar_stream import IcsCalendarStream
from ical.event import Event
from sqlalchemy import select
from sqlmodel import Session

from app.foundation.crypto.secrets import token_hash
from app.foundation.errors import Invalid, NotFound, Refused
from app.people.actions import revoke
from app.people.reads import memberships_of
from app.schedule.appointments import feeds
from app.schedule.appointments.calendars import calendar_text
from app.schedule.appointments.feeds import FEED, make_feed, read_feed, revoke_feed
from app.schedule.appointments.reads import AppointmentRow
from app.schedule.status import AppointmentStatus
from app.studies.in_use import StudyInUse
from tests.consent.acts import study_with_consent
from tests.factories import NOW, person
from tests.schedule.test_appointments import SOON, Site

ROW = AppointmentRow(
    id=1,
    number=1,
    participant_id=1,
    participant="M-001",
    site_id=1,
    site="north",
    site_name="North clinic",
    timezone="Australia/Sydney",
    visit_id=1,
    visit="week18",
    kind="assessment",
    purpose=None,
    starts_at=datetime(2026, 3, 2, 23, tzinfo=UTC),
    ends_at=datetime(2026, 3, 3, 0, tzinfo=UTC),
    person_id=1,
    person="Amir Haddad",
    username="amir",
    room="Room 1",
    status=AppointmentStatus.BOOKED,
    reason=None,
    uid="abc@equipoise",
    sequence=0,
    version=1,
    changed_at=NOW,
)


def events(text: str) -> list[Event]:
    return IcsCalendarStream.calendar_from_ics(text).events


def written(*rows: AppointmentRow, label: str = "Week 18", **more: Any) -> str:
    return calendar_text(rows, label=lambda _: label, **more)


@pytest.mark.requirement("ICS-1", "ICS-5")
def test_another_library_reads_what_was_written() -> None:
    text = written(ROW, name="MINI: my appointments")
    assert "VERSION:2.0\r\n" in text
    assert "PRODID:" in text
    (event,) = events(text)
    assert (event.uid, event.sequence, event.status) == ("abc@equipoise", 0, "CONFIRMED")
    assert (event.dtstart, event.dtend, event.dtstamp) == (ROW.starts_at, ROW.ends_at, NOW)
    assert (event.summary, event.location) == ("M-001 Week 18", "Room 1")
    assert "DTSTART:20260302T230000Z" in text
    assert "Haddad" not in text
    assert events(written()) == []


@pytest.mark.requirement("ICS-2")
def test_one_that_is_cancelled_stays_under_its_uid() -> None:
    cancelled = replace(ROW, status=AppointmentStatus.CANCELLED, sequence=2)
    text = written(cancelled, method="CANCEL")
    (event,) = events(text)
    assert (event.uid, event.sequence, event.status) == (ROW.uid, 2, "CANCELLED")
    assert "METHOD:CANCEL\r\n" in text


@pytest.mark.requirement("ICS-6", "CONC-15")
def test_a_session_says_only_that_it_is_and_when_it_begins_and_a_participant_reads_no_more_than_when_and_where() -> (
    None
):
    (session,) = events(written(replace(ROW, kind="treatment", room="Laser room")))
    assert (session.location, session.dtstart, session.dtend) == (None, ROW.starts_at, None)
    said = calendar_text([replace(ROW, kind="treatment")], label=lambda _: "Termin", to_participant=True)
    (theirs,) = events(said)
    assert (theirs.summary, theirs.location, theirs.dtend) == ("Termin", "North clinic", ROW.ends_at)


@pytest.mark.requirement("ICS-3", "ICS-4")
@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=200))
def test_whatever_is_written_down_comes_back_and_never_becomes_a_line_of_its_own(text: str) -> None:
    made = written(replace(ROW, room=text), label=text)
    lines = made.encode().split(b"\r\n")
    assert all(len(line) <= 75 and b"\n" not in line and b"\r" not in line for line in lines)
    assert sum(line.startswith(b"BEGIN:") for line in lines) == 2
    (event,) = events(made)
    assert (event.summary or "").split() == f"M-001 {text}".split()


# Feeds


@pytest.fixture
def study(session: Session) -> StudyInUse:
    return study_with_consent(session)


@pytest.fixture
def north(session: Session, study: StudyInUse) -> Site:
    return Site(session, study)


@pytest.mark.requirement("ICS-6", "ICS-2")
def test_a_feed_shows_its_owners_appointments_until_it_is_revoked(north: Site) -> None:
    session, study = north.session, north.study
    north.book()
    north.book(replace(SOON, person=None), None, purpose="Questions")
    mine = make_feed(session, study, whose="mine", by=north.assessor, now=NOW)
    all_ = make_feed(session, study, whose="sites", by=north.assessor, now=NOW)
    assert len(mine) >= 43  # 256 bits
    assert not session.execute(select(FEED).where(FEED.c.token_hash == mine.encode())).first()
    assert session.execute(select(FEED.c.id).where(FEED.c.token_hash == token_hash(mine))).first()
    assert [row.visit for row in read_feed(session, mine, now=NOW).rows] == ["week18"]
    assert len(read_feed(session, all_, now=NOW).rows) == 2
    first, second = feeds.feeds_of(session, study, by=north.assessor)
    assert (first.whose, second.last_read_at) == ("mine", NOW)
    with pytest.raises(NotFound):
        revoke_feed(session, study, first.id, by=north.by, now=NOW)
    revoke_feed(session, study, first.id, by=north.assessor, now=NOW)
    for dead in (mine, "guessed", ""):
        with pytest.raises(NotFound):
            read_feed(session, dead, now=NOW)


def test_a_feed_ends_with_its_owners_access(north: Site) -> None:
    token = make_feed(north.session, north.study, whose="sites", by=north.assessor, now=NOW)
    read_feed(north.session, token, now=NOW)
    administrator = person(north.session, north.study, "administrator")
    (right,) = memberships_of(north.session, north.assessor.person_id)
    revoke(north.session, right.id, why="Left", by=administrator, now=NOW, log=north.study.code)
    with pytest.raises(NotFound):
        read_feed(north.session, token, now=NOW)


@pytest.mark.requirement("ICS-6")
def test_a_feed_is_read_so_often_and_no_more(north: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "MOST_READS", 3)
    token = make_feed(north.session, north.study, whose="mine", by=north.assessor, now=NOW)
    for _ in range(3):
        read_feed(north.session, token, now=NOW)
    with pytest.raises(feeds.TooOften):
        read_feed(north.session, token, now=NOW + timedelta(minutes=59))
    assert read_feed(north.session, token, now=NOW + timedelta(minutes=60)).rows == []


def test_a_feed_of_nobody_s_and_too_many_are_refused(north: Site) -> None:
    with pytest.raises(Invalid):
        make_feed(north.session, north.study, whose="theirs", by=north.by, now=NOW)
    for _ in range(feeds.MOST_FEEDS):
        make_feed(north.session, north.study, whose="mine", by=north.by, now=NOW)
    with pytest.raises(Refused, match="Revoke one"):
        make_feed(north.session, north.study, whose="mine", by=north.by, now=NOW)
