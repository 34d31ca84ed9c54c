"""Databases that keep what they are told, as an installation's would: with fsync on."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from app.foundation.database import Database
from tests.conftest import KEYS, migrate
from tests.durability.world import write_key
from tests.postgres import server as postgres

_numbers = count()


@pytest.fixture(scope="session")
def durable_postgres() -> Iterator[str]:
    """A PostgreSQL with fsync on, started only when a test asks for it."""
    with postgres(durable=True) as address:
        yield address


def new_database(address: str, name: str) -> Database:
    engine = create_engine(address.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return Database(address.format(name=name), KEYS)


@pytest.fixture
def kept(
    kind: str, copied: Callable[..., Database], request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Database]:
    """A migrated database that keeps what it is told, as an installation's would."""
    if kind == "sqlite":
        database = copied(kind, tmp_path, "kept")
    else:
        database = new_database(request.getfixturevalue("durable_postgres"), f"kept_{next(_numbers)}")
        migrate(database)
    database.refuse_unsafe_settings()
    write_key(tmp_path)
    yield database
    database.dispose()
