"""What each person does all week, on the demo's pages, with the keyboard alone: every act is in reach and counted."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.audit.verify import verify
from app.demo import STUDY, build
from app.foundation.database import Database
from tests.conftest import KEYS, migrate
from tests.journeys.conftest import serving
from tests.journeys.tasks import done

pytestmark = pytest.mark.browser

# Keys that are not text, at most: about a tenth more than it took when this was written. `python -m benchmarks.tasks`
# counts clicks as well.
MOST_KEYS = {
    "find a participant": 2,
    "screen somebody": 54,
    "record consent": 43,
    "randomise": 42,
    "book an appointment": 74,
    "fill in a questionnaire": 69,
    "fill in, and open the next": 70,
    "sign an entry": 82,
    "sign a whole visit": 35,
    "verify a form": 54,
    "raise a query": 69,
    "answer a query": 66,
    "report a serious event": 81,
    "judge a serious event": 54,
}


def test_the_commonest_tasks_are_done_with_the_keyboard_alone(browser, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'equipoise.db'}", KEYS)
    migrate(database)
    list(build(database, as_of=datetime.now(UTC), participants=40))
    with serving(database, tmp_path) as address:
        took = {task.name: hand.acts for task, hand in done(browser, address, keyboard=True)}
    assert {name: acts for name, acts in took.items() if acts > MOST_KEYS[name]} == {}
    assert took.keys() == MOST_KEYS.keys()
    with database.reading() as session:
        assert verify(session, STUDY).intact
    database.dispose()
