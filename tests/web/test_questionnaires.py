"""What was sent by link, opened, and left unanswered: on Today, as a list, and over REST."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from app.capture.actions import save_entry
from app.capture.questionnaires.reads import counts, links_unanswered, visits_to_ask
from app.foundation import clock
from app.foundation.database import Database
from app.participants.links.reads import LINK
from app.schedule.reads import VISIT
from app.studies.definition import Reminder
from tests.api.client import api_client
from tests.plans import plans
from tests.web.browser import counted_statements, words_of
from tests.web.test_links import ANSWERED, given, stranger
from tests.web.world import World

PAGE = "/mini/questionnaires"


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database, instruments=ANSWERED)


def _change(world: World, **values: Any) -> None:
    with world.database.writing() as session:
        session.execute(update(LINK).values(**values))


def _states(world: World, **asked: str) -> list[str]:
    program = api_client(world.database, world.person("coordinator"))
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    return [row["state"] for row in program.rows(f"/questionnaires?{query}")]


@pytest.mark.requirement("EMA-7")
def test_today_counts_what_is_sent_opened_and_ran_out_and_leads_to_it(world: World):
    world.consented()
    browser = world.coordinator()
    assert "No link waits for answers." in words_of(browser.get("/mini/today").text)
    path = given(world, "questions:baseline")
    for state, said, words in (
        ("sent", "One is sent and not opened", "Sent, not opened"),
        ("opened", "One is opened and not finished", "Opened, not finished"),
        ("expired", "One ran out unanswered within four weeks", "Too old, not answered"),
    ):
        if state == "opened":
            stranger(world).get(path)
        if state == "expired":
            _change(world, expires_at=clock.now() - timedelta(days=1))
        browser = world.coordinator()
        block = browser.soup("/mini/today").select_one("#questionnaires")
        assert block is not None
        assert said in block.get_text()
        (link,) = block.select("a")
        assert link["href"] == f"{PAGE}?state={state}"
        listed = browser.get(str(link["href"]))
        assert words in words_of(listed.text)
        assert "/mini/participants/M-001/links" in listed.text
        assert _states(world, state=state) == _states(world, state="unanswered") == _states(world) == [state]
        assert _states(world, state="answered") == []
    _change(world, expires_at=clock.now() - timedelta(weeks=5))
    assert "No link waits for answers." in words_of(world.coordinator().get("/mini/today").text)


def test_what_is_complete_by_whomever_or_not_asked_any_more_does_not_wait(world: World):
    participant = world.consented()
    given(world, "questions:baseline")
    with world.database.writing() as session:
        session.execute(update(VISIT).where(VISIT.c.code == "baseline").values(status="missed"))
    assert (_states(world, state="unanswered"), _states(world)) == ([], ["over"])
    with world.database.writing() as session:
        session.execute(update(VISIT).where(VISIT.c.code == "baseline").values(status="planned"))
    assert _states(world, state="sent") == ["sent"]
    for instrument, values in (("pain", {"pain_nrs": 4, "pain_days": 3, "pain_where": ["back"]}),):
        with world.database.writing() as session:
            save_entry(
                session,
                world.study,
                participant,
                visit="baseline",
                instrument=instrument,
                values=values,
                reasons={},
                base_version=0,
                by=world.person("assessor"),
                now=clock.now(),
            )
    assert (_states(world, state="unanswered"), _states(world)) == ([], ["answered"])
    browser = world.coordinator()
    token = str(browser.soup("/mini/participants/M-001/links").select_one("form[action$='/end'] input")["value"])  # type: ignore[index]
    with world.database.reading() as session:
        number = session.execute(select(LINK.c.id)).scalar_one()
    assert browser.send(f"/mini/participants/M-001/links/{number}/end", {"csrf_token": token}).status_code == 303
    assert _states(world) == []


def test_the_pages_are_few_statements_and_nobody_else_sees_them(world: World):
    world.consented()
    given(world, "questions:baseline")
    browser = world.coordinator()
    for path in (PAGE, "/mini/today"):
        with counted_statements(world.database) as statements:
            assert browser.get(path).status_code == 200
        assert len(statements) <= 12, (path, len(statements))
    south = api_client(world.database, world.person("coordinator", site_code="south"))
    assert south.rows("/questionnaires") == []
    api_client(world.database, world.person("monitor")).refused(403, "GET", "/questionnaires")


def test_what_waits_and_what_is_to_be_sent_are_found_by_indexes_of_their_own(database: Database):
    world = World(database, instruments=ANSWERED)
    now, by = clock.now(), world.person("coordinator")
    rule = Reminder(code="asked", when="link_due")
    with database.reading() as session, plans(session, "participant_link") as found:
        counts(session, world.study, by=by, since=now - timedelta(weeks=4), now=now)
        links_unanswered(session, world.study, rule, now=now)
        visits_to_ask(session, world.study, rule, now=now)
    assert len(found) == 3
    assert ["ix_participant_link_waiting" in each for each in found] == [True, True, False]
    assert "ix_visit_to_book" in found[2]
