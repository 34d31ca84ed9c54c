"""Both databases for every test: SQLite in a file, and a real PostgreSQL, both built by the migrations."""

import gc
import hashlib
import marshal
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import pytest
from alembic import command
from alembic.config import Config
from anyio.from_thread import start_blocking_portal
from argon2 import PasswordHasher
from hypothesis import settings
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine.default import DefaultDialect
from sqlmodel import Session
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient

from app import api, main, web
from app.foundation import database as databases
from app.foundation.crypto import secrets as passwords
from app.foundation.crypto.keys import Keyring
from app.foundation.crypto.packs import COST
from app.foundation.database import END, SNAPSHOT, Database, Direct
from app.signposts import Signposts
from app.templating import Quick
from tests import memory
from tests.postgres import server
from tests.web.soup import made_quickly

ROOT = Path(__file__).parent.parent
# A machine that others use as well is no reason to fail.
settings.register_profile("patient", parent=settings(), deadline=None)
settings.load_profile("patient")
# --hypothesis-profile=deep: tests/properties look much further, and differently each time.
settings.register_profile("deep", derandomize=False)
KEYS = Keyring(bytes(range(32)))
_running = ExitStack()


# What is imported and collected stays to the end: looking through it for waste again and again is in vain.
gc.disable()


def pytest_collection(session: pytest.Session) -> None:
    """Import the tests, each worker from another place on: a file is compiled by whoever is the first to come to it.

    All in the same order would compile everything at the same time, in a new copy of the repository, as often as there
    are workers: that takes each of them longer than all else that they do before the first test.
    """
    own: dict[str, Any] | None = getattr(session.config, "workerinput", None)
    if own is None:
        return
    places = [ROOT / place for place in session.config.args]
    files = [file for place in places if place.is_dir() for file in sorted(place.rglob("test_*.py"))]
    begins = len(files) * int(str(own["workerid"]).removeprefix("gw")) // int(own["workercount"])
    for file in (*files[begins:], *files[:begins]):
        with suppress(Exception):  # said when it is collected
            import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))


def pytest_collection_finish() -> None:
    """From here on waste is looked for, in what the tests themselves make."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 50)


# What takes longest, dealt to two workers in turns so that each has about as much of it.
LONGEST = (
    "journeys",
    "blinding/test_two_worlds.py",
    "demo",
    "house/test_routes.py",
    "order",
    "durability",
    "imports/test_prt.py",
    "api/test_openapi.py",
    "blinding/test_other_designs.py",
    "api/test_prt_replay.py",
    "web/test_read_in_language.py",
    "concealment/test_search.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest first: when a worker has nothing left at the end, another should not be in the middle of one.

    Each worker begins with its share of the list, and others take over from the end of it.
    """
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    if workers == 1:
        return
    share, others = len(items) // workers, list[pytest.Item]()
    long: list[list[pytest.Item]] = [[] for _ in LONGEST]
    for item in items:
        path = item.path.relative_to(ROOT / "tests")
        number = next((number for number, place in enumerate(LONGEST) if path.is_relative_to(place)), None)
        (others if number is None else long[number]).append(item)
    items.clear()
    for worker in range(workers):
        begins = [item for part in long[worker::workers] for item in part]
        left = max(0, share - len(begins))
        items += [*begins, *others[:left]]
        del others[:left]
    items += others


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """One PostgreSQL and one folder for the whole run: the controller begins both, the workers are told where."""
    if hasattr(config, "workerinput"):
        config.stash[ADDRESS] = str(config.workerinput["postgres"])
    elif config.option.basetemp is None:
        config.option.basetemp = str(_running.enter_context(memory.folder()) / "run")


ADDRESS = pytest.StashKey[str]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["postgres"] = _address(node.config)


def pytest_unconfigure(config: pytest.Config) -> None:
    _running.close()


def _address(config: pytest.Config) -> str:
    if ADDRESS not in config.stash:
        config.stash[ADDRESS] = _running.enter_context(server())
    return str(config.stash[ADDRESS])


@pytest.fixture(autouse=True, scope="session")
def _data_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    memory.RUN = tmp_path_factory.mktemp("applications")


@pytest.fixture(autouse=True, scope="session")
def _compiled_once() -> Iterator[None]:
    """A statement is compiled once for each kind of database, and not anew for every database of a test.

    Databases of one kind share the dialect of their template, and what was compiled for it.
    """
    make, compiled = databases._engine, dict[str, dict[Any, Any]]()

    def engine(url: str) -> Engine:
        made = make(url)
        first = TEMPLATES.get("sqlite" if made.dialect.name == "sqlite" else "postgres")
        if first is not None:
            made.dialect = first.engine.dialect
        made.update_execution_options(compiled_cache=compiled.setdefault(made.dialect.name, {}))
        return made

    with mock.patch.object(databases, "_engine", engine):
        yield


@pytest.fixture(autouse=True, scope="session")
def _templates_of_the_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Workers compile a template once for each language between them, and read from each other what is compiled."""
    if not hasattr(request.config, "workerinput"):
        yield
        return
    folder, compiled = tmp_path_factory.getbasetemp().parent / "templates", Quick.compile
    folder.mkdir(exist_ok=True)

    def compile_(environment: Quick, source: Any, name: str | None = None, filename: str | None = None) -> Any:
        # By language: what a filter makes of something that is always the same is part of what is compiled.
        of = "\0".join((str(environment.globals["language"]), str(name), str(filename), source))
        path = folder / hashlib.sha256(of.encode()).hexdigest()
        if not path.exists():
            own = path.with_suffix(f".{os.getpid()}")
            own.write_bytes(marshal.dumps(compiled(environment, source, name, filename)))
            own.replace(path)
        return marshal.loads(path.read_bytes())

    with mock.patch.object(Quick, "compile", compile_):
        yield


def migrate(database: Database) -> None:
    """Build the schema as an installation would."""
    with database.engine.begin() as connection:
        config = Config(ROOT / "alembic.ini")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


TEMPLATES: dict[str, Database] = {}
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture(autouse=True, scope="session")
def _quick_hashes() -> Iterator[None]:
    """Passwords and passphrases are hashed at next to no cost: minutes of the run would else go into slowness.

    Servers that a test starts as programs hash as they always do, and so does a test that asks for `real_hashes`.
    """
    # In place: whoever opens a pack for downtime without the server reads the cost from its file.
    with _hashing(QUICK, QUICK.hash("nobody's")), mock.patch.dict(COST, {"n": 16}):
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_event_loop() -> Iterator[None]:
    """Test clients share an event loop: each request would else begin one of its own, with its threads, and half of
    what a request takes goes into that. Most are asked without even that.
    """
    from tests.web.browser import asked_here

    with start_blocking_portal() as portal, mock.patch.object(TestClient, "portal", portal), asked_here():
        yield


@pytest.fixture(autouse=True, scope="session")
def _soups_made_quickly() -> Iterator[None]:
    """The same trees of pages in a quarter of the time."""
    with made_quickly():
        yield


@pytest.fixture(autouse=True, scope="session")
def _signposts_once() -> Iterator[None]:
    """Where addresses lead is put together once for those that all applications have, and each adds its own few.

    For hundreds of addresses that takes longer than all else of an application, and tests make thousands of those.
    """
    everywhere = [*api.redcap.router.routes, *api.router.routes, *web.router.routes]
    there = Signposts(everywhere)

    class Added(Signposts):
        def __init__(self, routes: Iterable[BaseRoute]) -> None:
            whole = list(routes)
            self._own = len(whole) - len(everywhere)
            assert whole[self._own :] == everywhere
            super().__init__(whole[: self._own])

        def _fitting(self, path: str) -> Iterator[tuple[int, Route | Mount]]:
            yield from super()._fitting(path)
            yield from ((self._own + place, route) for place, route in there._fitting(path))

    with mock.patch.object(main, "Signposts", Added):
        yield


@pytest.fixture(autouse=True, scope="session")
def _savepoints_as_they_are() -> Iterator[None]:
    """Where a test rolls back, each session of it is a savepoint: said as it is, and not compiled every time anew."""

    def saying(words: str) -> Callable[..., None]:
        def say(_: Any, connection: Connection, name: str) -> None:
            connection.exec_driver_sql(f"{words} {name}")

        return say

    with mock.patch.multiple(
        DefaultDialect,
        do_savepoint=saying("SAVEPOINT"),
        do_release_savepoint=saying("RELEASE SAVEPOINT"),
        do_rollback_to_savepoint=saying("ROLLBACK TO SAVEPOINT"),
    ):
        yield


@pytest.fixture
def real_hashes(_quick_hashes: None) -> Iterator[None]:
    """The hashes that an installation makes."""
    with _hashing(*REAL), mock.patch.dict(COST, REAL_COST):
        yield


REAL_COST = dict(COST)
REAL = (passwords._hasher, passwords._nobody)


@contextmanager
def _hashing(hasher: PasswordHasher, nobodys: str) -> Iterator[None]:
    with mock.patch.multiple(passwords, _hasher=hasher, _nobody=nobodys):
        yield


class OneConnection(Database):
    """A database whose sessions all live in one outer transaction, which the test rolls back."""

    def __init__(self, connection: Connection) -> None:
        self.url = connection.engine.url
        self.keys = KEYS
        self.engine = connection.engine
        self._connection = connection

    @contextmanager
    def writing(self) -> Iterator[Session]:
        with self._session(Session.commit) as session:
            yield session
            session.commit()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with self._session(Session.rollback, {SNAPSHOT: True}) as session:
            yield session

    def _session(self, end: Callable[[Session], None], more: Mapping[str, Any] = MappingProxyType({})) -> Session:
        return Direct(
            self._connection,
            join_transaction_mode="create_savepoint",
            expire_on_commit=False,
            info={"keys": KEYS, END: end, **more},
        )


@pytest.fixture(scope="session")
def worker(request: pytest.FixtureRequest) -> str:
    return str(getattr(request.config, "workerinput", {}).get("workerid", "main"))


@pytest.fixture(scope="session")
def templates(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, worker: str) -> Any:
    """A migrated database of each kind, made when first asked for, and copied for tests that commit."""
    made = TEMPLATES

    def template(kind: str) -> Database:
        if kind not in made:
            if kind == "sqlite":
                url = f"sqlite:///{tmp_path_factory.mktemp('template') / 'equipoise.db'}"
            else:
                url = _new_postgres(_address(request.config), f"template_{worker}")
            made[kind] = Database(url, KEYS)
            migrate(made[kind])
            made[kind].dispose()
        return made[kind]

    yield template
    for database in made.values():
        database.dispose()


def _new_postgres(address: str, name: str, template: str = "template0") -> str:
    engine = create_engine(address.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
        # Its files are copied, where the server knows how: writing them to its log first takes twice as long.
        strategy = "STRATEGY file_copy" if (engine.dialect.server_version_info or (0,)) >= (15,) else ""
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {strategy}'))
    engine.dispose()
    return address.format(name=name)


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of database; a test that asks for one runs on both."""
    return str(request.param)


@pytest.fixture(scope="session")
def copied(templates: Any, request: pytest.FixtureRequest, worker: str) -> Callable[..., Database]:
    """Makes a migrated database of a kind: a file in a folder, or on the server under a name."""

    def copy(kind: str, folder: Path, name: str) -> Database:
        if kind == "sqlite":
            path = folder / "equipoise.db"
            shutil.copy(templates(kind).url.database, path)
            return Database(f"sqlite:///{path}", KEYS)
        templates(kind).dispose()
        return Database(_new_postgres(_address(request.config), f"{name}_{worker}", f"template_{worker}"), KEYS)

    return copy


@pytest.fixture
def database(kind: str, copied: Callable[..., Database], tmp_path: Path) -> Iterator[Database]:
    """A migrated database of the test's own, with real commits: for concurrency, crashes, servers."""
    own = copied(kind, tmp_path, "test")
    yield own
    own.dispose()


@pytest.fixture(scope="session")
def shared(templates: Any, request: pytest.FixtureRequest, worker: str) -> Iterator[Any]:
    """A database of each kind for all tests that roll back. Not the template: PostgreSQL's sequences do not roll back,
    and a copy would begin to number where some other test ended."""
    made: dict[str, Database] = {}

    def one(kind: str) -> Database:
        if kind not in made:
            template = templates(kind)
            if kind == "sqlite":
                made[kind] = template
            else:
                template.dispose()
                url = _new_postgres(_address(request.config), f"shared_{worker}", f"template_{worker}")
                made[kind] = Database(url, KEYS)
        return made[kind]

    yield one
    for database in made.values():
        database.dispose()


@pytest.fixture
def shared_database(kind: str, shared: Any) -> Iterator[Database]:
    """One database inside one transaction that is rolled back: quick, for a single thread of work."""
    engine = shared(kind).engine
    with engine.connect() as connection:
        outer = connection.begin()
        yield OneConnection(connection)
        outer.rollback()
    assert not engine.dispatch.before_cursor_execute, "A listener is left, and hears what the tests to come do."


@pytest.fixture
def session(shared_database: Database) -> Iterator[Session]:
    """A writing session; nothing of it stays."""
    with shared_database.writing() as session:
        yield session


@pytest.fixture(scope="module")
def begun(copied: Callable[..., Database], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What the tests of a file begin with: played once for each kind of database, and put back after each test.

    `begun(kind, play)` hands over what `play(database)` made, by its `on(database)`: as if it had just been made.
    """
    made: dict[Any, tuple[Connection, Any]] = {}
    with ExitStack() as stack:

        @contextmanager
        def begin(kind: str, play: Any) -> Iterator[Any]:
            if (kind, play) not in made:
                own = copied(kind, tmp_path_factory.mktemp("begun"), f"begun{len(made)}")
                stack.callback(own.dispose)
                connection = stack.enter_context(own.engine.connect())
                connection.begin()
                made[kind, play] = connection, play(OneConnection(connection))
            connection, played = made[kind, play]
            inside = connection.begin_nested()
            try:
                yield played.on(OneConnection(connection))
            finally:
                inside.rollback()

        yield begin


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The equipoise command line, as a person would call it."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments], capture_output=True, text=True, check=False, **options
    )
