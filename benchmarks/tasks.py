"""Count: python -m benchmarks.tasks.

Does the commonest tasks of a trial unit in a real browser on the demo with forty participants, once with a mouse and
once with the keyboard alone, and prints clicks, keys, characters typed, and the machine's seconds (not a person's).
"""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import sync_playwright

from app.demo import build
from app.foundation.database import Database
from tests.conftest import KEYS, migrate
from tests.journeys.conftest import QUIET, chromium, serving
from tests.journeys.hand import Hand
from tests.journeys.tasks import TASKS, done


def counted(*, keyboard: bool) -> dict[str, Hand]:
    """Every task by name, with the hand that did it, in a demo of its own."""
    with tempfile.TemporaryDirectory(prefix="equipoise-tasks-") as folder:
        database = Database(f"sqlite:///{folder}/equipoise.db", KEYS)
        migrate(database)
        list(build(database, as_of=datetime.now(UTC), participants=40))
        with serving(database, Path(folder)) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=QUIET)
            found = {}
            for task, hand in done(browser, address, keyboard=keyboard):
                hand.stop()
                found[task.name] = hand
            browser.close()
        database.dispose()
    return found


def main() -> None:
    """Do everything twice, and print a table."""
    by_mouse, by_keyboard = counted(keyboard=False), counted(keyboard=True)
    print("| task | role | clicks | keys, keyboard alone | characters typed | seconds |")
    print("|---|---|---|---|---|---|")
    for task in TASKS:
        mouse, keys = by_mouse[task.name], by_keyboard[task.name]
        print(f"| {task.name} | {task.who} | {mouse.acts} | {keys.acts} | {mouse.typed} | {mouse.seconds:.1f} |")


if __name__ == "__main__":
    main()
