"""One study behind the door for all tests of a file; whatever a test changes is undone after it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.redcap.world import World, build
from tests.conftest import OneConnection


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def built(request: pytest.FixtureRequest, shared: Any) -> Iterator[World]:
    with shared(request.param).engine.connect() as connection:
        outer = connection.begin()
        yield build(OneConnection(connection))
        outer.rollback()


@pytest.fixture
def world(built: World) -> Iterator[World]:
    assert isinstance(built.database, OneConnection)
    inside = built.database._connection.begin_nested()
    yield built
    inside.rollback()
