"""Links to questions that a study sends by rule: once, in time, to whoever may be asked, until they are answered."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from typing import Any, cast

import pytest
import time_machine
from sqlalchemy import select, update
from sqlmodel import Session

from app import jobs
from app.capture.actions import save_entry
from app.capture.questionnaires import actions, rules
from app.foundation import clock
from app.foundation.database import Database
from app.mail.actions import MAIL
from app.participants.actions import withdraw
from app.participants.links.actions import finish_link, open_link
from app.participants.links.reads import LINK, link_of
from app.participants.models import Participant
from app.schedule.actions import stop_visits
from app.schedule.reads import VISIT, visit_of
from app.schedule.reminders.actions import choose
from app.settings import Settings
from app.studies.in_use import StudyInUse
from tests.consent.acts import study_with_consent
from tests.factories import MINI, NOW, TODAY, person
from tests.mail.test_mail import Inbox
from tests.mail.test_mail import inbox as inbox
from tests.participants.acts import log_of
from tests.schedule.test_actions import enrolled
from tests.schedule.test_reminders import reach

DAY = timedelta(days=1)
OPENS = datetime(2026, 6, 28, 23, 0, tzinfo=UTC)  # 09:00 in Sydney on 29 June, the first day of the window of week 18
ANSWERED = [
    {**form, "respondent": "participant"} if form["code"] == "pain" else form
    for form in cast("list[dict[str, Any]]", MINI["instruments"])
]
RULES = (
    {"code": "asked", "when": "link_due", "visits": ["week18"]},
    {"code": "again", "when": "link_unanswered", "days": 3, "visits": ["week18"]},
    {"code": "call", "when": "link_unanswered", "days": 5, "to": "staff", "visits": ["week18"]},
)


class Site:
    """A randomised participant whose questions of week 18 are sent by rule, and the jobs of the installation."""

    def __init__(self, database: Database, settings: Settings, reminders: Any = RULES, instruments: Any = ANSWERED):
        self.database, self.settings = database, settings
        with database.writing() as session:
            schedule = {"reminders": [*reminders]}
            self.study: StudyInUse = study_with_consent(session, instruments=instruments, schedule=schedule)
            self.one, self.by = enrolled(session, self.study)
            reach(session, self.study, self.one)

    def act(self, what: Any) -> Any:
        with self.database.writing() as session:
            return what(session)

    def round(self) -> tuple[int, int]:
        """One round of the jobs: how many messages were queued, and how many left."""
        queued = jobs.queue_due_reminders(self.database, self.settings)
        return queued, jobs.send_due_mail(self.database, self.settings)

    def links(self) -> list[Any]:
        with self.database.reading() as session:
            return list(session.execute(select(LINK).order_by(LINK.c.id)))

    def messages(self, **where: Any) -> list[Any]:
        with self.database.reading() as session:
            return list(session.execute(select(MAIL).filter_by(**where).order_by(MAIL.c.id)))

    def save(self, session: Session, values: dict[str, Any], **options: Any) -> Any:
        asked = {"reasons": {}, "base_version": 0, "by": person(session, self.study, "assessor"), "now": clock.now()}
        return save_entry(
            session, self.study, self.one, visit="week18", instrument="pain", values=values, **{**asked, **options}
        )


PAIN = {"pain_nrs": 4, "pain_days": 3, "pain_where": ["back"]}


@pytest.fixture
def at() -> Iterator[Any]:
    with time_machine.travel(OPENS, tick=False) as traveller:
        yield traveller


@pytest.fixture
def site(shared_database: Database, inbox: tuple[Inbox, Settings], at: Any) -> Site:
    return Site(shared_database, inbox[1])


def token_in(text: str) -> str:
    (token,) = re.findall(r"/link/([\w-]{43})\b", text)
    return str(token)


def read(envelope: Any) -> tuple[str, str]:
    mail = message_from_bytes(envelope.content, policy=policy.default)
    return str(mail["Subject"]), cast("Any", mail).get_content()


@pytest.mark.requirement("EMA-7", "REL-5")
def test_a_link_is_made_and_sent_when_the_window_opens_and_reminded_of_until_it_is_answered(
    site: Site, inbox: tuple[Inbox, Settings], at: Any
) -> None:
    box = inbox[0]
    at.move_to(OPENS - timedelta(minutes=1))
    assert site.round() == (0, 0)
    at.move_to(OPENS)
    assert site.round() == (1, 1)
    assert site.round() == (0, 0)
    (link,) = site.links()
    assert (link.about, link.made_by, link.purpose) == ("week18", "system:jobs", "questions")
    visit = site.act(lambda session: visit_of(session, site.one.id or 0, "week18"))
    assert clock.today("Australia/Sydney", link.expires_at - timedelta(seconds=1)) == visit.closes_on
    subject, body = read(box.mails[0])
    assert (subject, box.mails[0].rcpt_tos) == ("Questions for you", ["m-001@example.org"])
    assert not [word for word in ("Week 18", "MINI", site.one.code) if word in body]
    assert "If you want no more messages of this kind, tell North clinic." in body.replace("\n", " ")
    token = token_in(body)
    with site.database.reading() as session:
        opened = link_of(session, token, now=OPENS)
        assert opened is not None
        assert token not in str([tuple(row) for row in session.execute(select(MAIL))])
        assert token not in str([tuple(row) for row in log_of(session)])
    # Three days later nothing is answered, and then half of it is: reminded all the same, by the same link.
    site.act(lambda session: open_link(session, opened, by=opened.actor("x"), now=OPENS))
    site.act(lambda session: site.save(session, {"pain_nrs": 4}, accept_partial=True))
    at.move_to(OPENS + 3 * DAY)
    assert site.round() == (1, 1)
    assert site.round() == (0, 0)
    subject, body = read(box.mails[1])
    assert (subject, token_in(body)) == ("Your questions wait", token)
    # Two days later those who give links are told.
    at.move_to(OPENS + 5 * DAY)
    assert site.round()[0] == len(site.messages(rule="call")) > 0
    said = site.messages(rule="call")[0]
    assert said.subject == f"{site.one.code}: Week 18 is not answered"
    assert "/link/" not in said.body
    assert len(site.links()) == 1
    assert [entry.username for entry in site.act(lambda s: log_of(s, action="link.given"))] == ["system:jobs"]


def test_nothing_is_reminded_of_what_is_answered_by_link_or_at_the_site(site: Site, at: Any) -> None:
    site.round()
    site.act(lambda session: site.save(session, PAIN))
    at.move_to(OPENS + 3 * DAY)
    assert site.round() == (0, 0)


def test_a_link_that_is_done_is_not_reminded_of(site: Site, inbox: tuple[Inbox, Settings], at: Any) -> None:
    site.round()
    token = token_in(read(inbox[0].mails[0])[1])

    def done(session: Session) -> None:
        opened = link_of(session, token, now=OPENS)
        assert opened is not None
        finish_link(session, opened, by=opened.actor("x"), now=OPENS)

    site.act(done)
    at.move_to(OPENS + 3 * DAY)
    assert site.round() == (0, 0)


def _opted_out(site: Site, session: Session) -> None:
    said = {"mail": False, "sms": True, "language": None, "version": 0}
    choose(session, site.study, site.one, **cast("Any", said), by=site.by, now=NOW)


def _left(site: Site, session: Session) -> None:
    withdraw(session, site.study, site.one, level="visits", reason="Moved", on=TODAY, by=site.by, now=NOW)
    stop_visits(session, site.study, site.one, why="Moved", by=site.by, now=NOW)


def _lost(_: Site, session: Session) -> None:
    session.execute(update(Participant).values(status="lost"))


def _dead(_: Site, session: Session) -> None:
    session.execute(update(Participant).values(status="died"))


def _no_address(site: Site, session: Session) -> None:
    reach(session, site.study, site.one, email=None)


def _held(_: Site, session: Session) -> None:
    session.execute(update(VISIT).where(VISIT.c.code == "week18").values(status="missed"))


def _complete(site: Site, session: Session) -> None:
    site.save(session, PAIN)


@pytest.mark.requirement("GDPR-7")
@pytest.mark.parametrize("happens", [_opted_out, _left, _lost, _dead, _no_address, _held, _complete])
def test_nobody_is_sent_a_link_who_may_not_be_or_in_vain(site: Site, happens: Any) -> None:
    site.act(lambda session: happens(site, session))
    assert site.round() == (0, 0)
    assert site.links() == []


@pytest.mark.parametrize("happens", [_opted_out, _left, _lost, _dead, _held])
def test_nobody_is_reminded_who_may_not_be(site: Site, at: Any, happens: Any) -> None:
    site.round()
    site.act(lambda session: happens(site, session))
    at.move_to(OPENS + 3 * DAY)
    site.round()
    assert site.messages(rule="again") == []


def test_a_link_that_reached_nobody_does_not_count_as_sent(site: Site) -> None:
    jobs.queue_due_reminders(site.database, site.settings)
    site.act(lambda session: _opted_out(site, session))
    assert jobs.send_due_mail(site.database, site.settings) == 0
    (link,) = site.links()
    assert (link.ended_by, site.messages()[0].ended_as) == ("system:jobs", "dropped")
    assert site.round() == (0, 0)


def test_in_the_readers_language_by_text_message_and_in_the_morning_where_they_live(
    shared_database: Database, inbox: tuple[Inbox, Settings], at: Any, tmp_path: Any
) -> None:
    settings = Settings(**{**inbox[1].model_dump(), "sms_folder": tmp_path})
    site = Site(shared_database, settings, [{**RULES[0], "by": "sms"}])
    said = {"mail": True, "sms": True, "language": "de", "timezone": "Europe/Zurich", "version": 0}
    site.act(lambda session: choose(session, site.study, site.one, **cast("Any", said), by=site.by, now=NOW))
    assert site.round() == (0, 0)  # it is one in the night in Zurich
    at.move_to(datetime(2026, 6, 29, 7, 0, tzinfo=UTC))
    assert site.round() == (1, 1)
    (message,) = tmp_path.glob("*.json")
    assert "Er gilt bis " in message.read_text()
    assert [link.language for link in site.links()] == ["de"]


def test_four_workers_send_each_link_once(database: Database, inbox: tuple[Inbox, Settings]) -> None:
    site = Site(database, inbox[1])
    for _ in range(5):
        site.act(lambda session: reach(session, site.study, enrolled(session, site.study)[0]))
    with time_machine.travel(OPENS, tick=True), ThreadPoolExecutor(4) as pool:
        assert sum(queued for queued, _ in pool.map(lambda _: site.round(), range(4))) == 6
        site.round()
    assert len(site.links()) == 6
    assert len({mail.rcpt_tos[0] for mail in inbox[0].mails}) == len(inbox[0].mails) == 6


def test_a_link_given_by_hand_is_reminded_of_and_no_other_is_made(site: Site, at: Any) -> None:
    def by_hand(session: Session) -> Any:
        asked: dict[str, Any] = {"purpose": "questions", "about": "week18", "language": "en", "by": site.by}
        from app.participants.links.rules import Purpose

        return actions.give(session, site.study, site.one, **{**asked, "purpose": Purpose.QUESTIONS}, now=NOW)

    site.act(by_hand)
    assert site.round() == (0, 0)
    at.move_to(OPENS + 3 * DAY)  # counted from the window, from which on it can be answered
    assert site.round() == (1, 1)
    assert len(site.links()) == 1


def test_before_its_window_a_visit_waits_unless_somebody_said_yes() -> None:
    class Visit:
        status, opens_on = "planned", TODAY

    assert rules.waits_until(Visit(), TODAY - DAY, before_window=False) == TODAY
    assert rules.waits_until(Visit(), TODAY - DAY, before_window=True) is None
    assert rules.waits_until(Visit(), TODAY, before_window=False) is None
    Visit.status = "held"
    assert rules.waits_until(Visit(), TODAY - DAY, before_window=False) is None
