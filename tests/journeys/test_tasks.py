"""What each person does all week, on the demo's pages: every act is in reach of a hand that has only a keyboard.

Once with the keyboard alone, every key counted; once with a mouse, the participant's with a finger on a telephone.
"""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.audit.verify import verify
from app.demo import STUDY, build
from app.foundation.database import Database
from tests.conftest import KEYS
from tests.journeys.conftest import serving
from tests.journeys.tasks import TASKS, done

pytestmark = pytest.mark.browser

# Keys that are not text, at most: about a tenth more than it took when this was written. `python -m benchmarks.tasks`
# counts clicks as well.
MOST_KEYS = {
    "find a participant": 2,
    "screen somebody": 32,
    "record consent": 32,
    "randomise": 16,
    "book an appointment": 41,
    "move an appointment": 48,
    "write down a call": 55,
    "give a participant a link": 39,
    "answer a visit's questions by link": 45,
    "fill in a questionnaire": 47,
    "fill in, and open the next": 38,
    "sign an entry": 60,
    "sign a whole visit": 24,
    "enter and sign all ten forms of week 18": 333,
    "verify a form": 32,
    "verify the first of the list, and open the next": 53,
    "raise a query": 37,
    "close an answered query": 33,
    "answer a query": 33,
    "report a serious event": 60,
    "judge a serious event": 42,
    "code an event's term": 33,
    "sign a casebook": 62,
}
# The same by mouse, of what no other journey does so.
MOST_CLICKS = {
    "move an appointment": 6,
    "write down a call": 7,
    "give a participant a link": 5,
    "answer a visit's questions by link": 17,
    "enter and sign all ten forms of week 18": 126,
    "close an answered query": 4,
    "verify the first of the list, and open the next": 5,
    "sign a casebook": 7,
}


@pytest.fixture(scope="module")
def played(copied: Callable[..., Database], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with forty participants, as it is when it is first opened."""
    folder = tmp_path_factory.mktemp("demo")
    database = copied("sqlite", folder, "demo")
    list(build(database, as_of=datetime.now(UTC), participants=40))
    database.dispose()
    return folder / "equipoise.db"


@pytest.mark.parametrize(("keyboard", "most"), [(True, MOST_KEYS), (False, MOST_CLICKS)], ids=["keyboard", "mouse"])
def test_what_everybody_does_in_a_week(
    browser, played: Path, tmp_path: Path, keyboard: bool, most: dict[str, int]
) -> None:
    path = tmp_path / "equipoise.db"
    shutil.copy(played, path)
    database = Database(f"sqlite:///{path}", KEYS)
    tasks = [task for task in TASKS if task.name in most]
    with serving(database, tmp_path) as address:
        took = {task.name: hand.acts for task, hand in done(browser, address, tasks, keyboard=keyboard)}
    assert {name: acts for name, acts in took.items() if acts > most[name]} == {}
    assert took.keys() == most.keys()
    with database.reading() as session:
        assert verify(session, STUDY).intact
    database.dispose()
