"""Two worlds: fresh databases of either kind, as many as a test asks for."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from app.foundation.database import Database
from tests.conftest import KEYS, _address, _new_postgres

NewWorld = Callable[[], Database]


def fresh_database(kind: str, template: Any, config: pytest.Config, worker: str, folder: Path, name: str) -> Database:
    """A migrated, empty database of its own."""
    template(kind).dispose()
    if kind != "sqlite":
        return Database(_new_postgres(_address(config), f"{name}_{worker}", f"template_{worker}"), KEYS)
    path = folder / name / "equipoise.db"
    path.parent.mkdir()
    shutil.copy(template(kind).url.database, path)
    database = Database(f"sqlite:///{path}", KEYS)
    # Thousands of requests; waiting for the disk at each would take most of the time and change no byte.
    event.listen(database.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF"))
    return database


@pytest.fixture
def new_world(
    kind: str, templates: Any, request: pytest.FixtureRequest, tmp_path: Path, worker: str
) -> Iterator[NewWorld]:
    """A migrated, empty database at each call."""
    made: list[Database] = []

    def make() -> Database:
        made.append(fresh_database(kind, templates, request.config, worker, tmp_path, f"world{len(made)}"))
        return made[-1]

    yield make
    for database in made:
        database.dispose()
