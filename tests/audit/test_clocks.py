"""Clocks that are wrong: the log keeps its order, nobody is refused, and it is said where those look who mend it."""

import logging
from datetime import timedelta

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlmodel import Session
from starlette.testclient import TestClient

from app.audit.actions import ENTRY, Change, record
from app.audit.clocks import Clocks, read_clocks
from app.audit.rules import LEVELLED, dated
from app.audit.verify import verify
from app.foundation import clock
from app.foundation.database import Database
from app.main import create_app
from app.settings import Settings
from tests.factories import NOW, mini_study, person
from tests.web.test_safety import said
from tests.web.world import World

pytestmark = pytest.mark.both_databases
SECOND = timedelta(seconds=1)
ALLOWED = 5 * SECOND


@pytest.mark.requirement("LOG-14", "REL-9")
@given(st.lists(st.integers(-200, 200), max_size=30))
def test_entries_are_dated_in_order_unless_a_clock_was_set_back(steps: list[int]):
    newest, now = NOW, NOW
    for step in steps:
        now += step * SECOND
        at = dated(now, newest)
        assert at in (now, newest)
        assert at >= newest or newest - now > LEVELLED
        newest = max(newest, at)


@pytest.mark.requirement("LOG-14", "REL-9")
def test_the_log_keeps_its_order_by_position_and_its_dates_where_servers_differ(session: Session):
    study = mini_study(session)
    by = person(session, study, "coordinator")
    for number, seconds in enumerate((0, -3, 10, -7200, -7201)):
        changes = [Change("entry.saved", "M-001", "entry/week18/pain", each, new=number) for each in ("a", "b")]
        record(session, study.code, changes, by=by, now=NOW + seconds * SECOND)
    rows = session.execute(
        select(ENTRY.c.new, ENTRY.c.at).where(ENTRY.c.log == "mini").order_by(ENTRY.c.position)
    ).all()
    assert [row.new for row in rows] == [each for number in "01234" for each in (number, number)]
    # Three seconds back is another server's clock; two hours back is this one's, set right or wrong: it is kept.
    expected = [0, 0, 10, -7200, -7201]
    assert [row.at for row in rows] == [NOW + each * SECOND for each in expected for _ in "ab"]
    assert verify(session, "mini").intact


@pytest.mark.requirement("FDA-15", "LOG-14")
def test_a_difference_is_found_and_said_with_what_to_do(session: Session, kind: str):
    study = mini_study(session)
    record(session, study.code, [Change("site.added")], by=person(session, study, "coordinator"), now=clock.now())
    assert read_clocks(session, clock.now).problems(ALLOWED) == []
    (back,) = read_clocks(session, lambda: clock.now() - timedelta(hours=2)).problems(ALLOWED)[:1]
    assert "set back" in back
    assert "Set the clocks of every server by the network" in back
    apart = read_clocks(session, lambda: clock.now() + timedelta(hours=2)).problems(ALLOWED)
    assert len(apart) == (kind == "postgres")
    assert all("differs by 7200 seconds" in each for each in apart)
    almost = Clocks(NOW, NOW, ahead=ALLOWED, apart=-ALLOWED)
    assert almost.problems(ALLOWED) == []
    assert len(almost.problems(ALLOWED - SECOND)) == 2


@pytest.mark.requirement("FDA-15", "REL-9")
@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_nothing_is_refused_and_it_is_said_at_the_start_on_the_page_and_in_the_review(
    shared_database: Database, caplog: pytest.LogCaptureFixture
):
    with time_machine.travel(NOW, tick=False) as time:
        world = World(shared_database)
        world.filled()
        time.shift(-timedelta(hours=2))
        second = world.filled()  # screened, consented and entered, two hours before the first
        assert second.code == "M-002"
        administrator = world.browser("administrator")
        assert "it was set back, or was wrong before" in said(administrator.get("/people/installation"))
        review = said(world.browser("monitor", site_code=None).get("/mini/audit/review"))
        assert "A clock of this installation is wrong" in review
        assert "Entries dated earlier than the one before" in review
        application = create_app(Settings(_env_file=None, demo=False), shared_database)
        with caplog.at_level(logging.WARNING, "equipoise"), TestClient(application):
            assert any("it was set back" in each.getMessage() for each in caplog.records)
        time.shift(timedelta(hours=3))
        assert "The clocks agree." in said(world.browser("administrator").get("/people/installation"))
