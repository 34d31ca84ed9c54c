"""Where is it kept? One engine for SQLite and PostgreSQL, and the two kinds of session: reading and writing."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import orjson
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Integer,
    Row,
    RowMapping,
    Select,
    String,
    Table,
    bindparam,
    case,
    create_engine,
    event,
    func,
    insert,
    literal_column,
    make_url,
    text,
    type_coerce,
)
from sqlalchemy.orm.attributes import manager_of_class
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.types import TypeDecorator
from sqlmodel import Session, SQLModel

from app.foundation import repeated
from app.foundation.ahead import Ahead, Soon, once
from app.foundation.crypto.keys import Keyring
from app.foundation.repeated import PREPARED
from app.foundation.turns import short_turns

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

Model = TypeVar("Model", bound=SQLModel)
OPEN = "results that are being read"
END = "how it ends"
SNAPSHOT = "whether all of it sees the same"
AFTER = "what is done once it has ended"


class Instant(TypeDecorator[datetime]):
    """An aware instant in UTC on both databases. SQLite forgets time zones, so it is told on the way in and out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("An instant needs a time zone; use app.foundation.clock.now().")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class UnsafeDatabase(Exception):
    """The database is set up so that an acknowledged write could be lost; Equipoise does not start on it."""


# PostgreSQL settings under which "committed" does not mean "kept" (PostgreSQL manual, WAL configuration; REL-12).
UNSAFE_POSTGRES = {"fsync": {"off"}, "full_page_writes": {"off"}, "synchronous_commit": {"off"}}


class Direct(Session):
    """A session that hands a statement about tables to the connection as it is; one about models goes through the ORM.

    What a session does for the sake of models took a tenth of every statement.
    """

    ahead: Ahead | None = None

    def execute(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """As that of any session: what waits to be stored is stored first."""
        if self.ahead is not None and (found := self.ahead.execute(statement, params)) is not None:
            return found
        # By the same mark a session knows them; a table, a function and a text have none.
        if options or statement._propagate_attrs:
            return super().execute(statement, params, **options)
        if self.autoflush:
            self.flush()
        return repeated.execute(self.connection(), statement, params)


class Database:
    """The engine and its two kinds of session.

    `writing()` commits at the end and rolls back on any exception; on SQLite it begins IMMEDIATE, because a deferred
    read-then-write loses updates. `reading()` never writes; it sees one snapshot on SQLite and PostgreSQL alike.
    """

    def __init__(self, url: str, keys: Keyring) -> None:
        self.url = make_url(url)
        if self.url.get_backend_name() == "postgresql":
            self.url = self.url.set(drivername="postgresql+psycopg")
        self.keys = keys
        self.engine = _engine(self.address)
        self._reader = self.engine.execution_options(reading=True)
        if not self.is_sqlite:
            self._reader = self._reader.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @property
    def address(self) -> str:
        """Where it is, with the password: for another program of ours, and for no log."""
        return self.url.render_as_string(hide_password=False)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that commits when the block ends well."""
        info = {"keys": self.keys, END: Session.commit}
        with Direct(self.engine, expire_on_commit=False, info=info) as session, _nothing_open(session):
            yield session
            end(session)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that is rolled back at the end."""
        info = {"keys": self.keys, END: self._end_reading, SNAPSHOT: True}
        with (
            Direct(self._reader, expire_on_commit=False, autoflush=False, info=info) as session,
            _nothing_open(session),
        ):
            yield session
            self._end_reading(session)

    def _end_reading(self, session: Session) -> None:
        _close_open(session)
        session.expunge_all()  # nothing is to be stored, whatever was done to what was read
        session.rollback()

    def refuse_unsafe_settings(self) -> None:
        """Raise UnsafeDatabase when PostgreSQL may lose a committed transaction (REL-12)."""
        if self.is_sqlite:
            return
        with self.engine.connect() as connection:
            for setting, unsafe in UNSAFE_POSTGRES.items():
                value = connection.exec_driver_sql(f"SHOW {setting}").scalar_one()
                if value in unsafe:
                    raise UnsafeDatabase(
                        f"PostgreSQL runs with {setting}={value}: a saved entry could be lost in a power cut. "
                        f"Set {setting}=on and start again."
                    )

    def dispose(self) -> None:
        self.engine.dispose()


def _engine(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        from app.foundation.cursors import Prepared  # the driver is needed for nothing else

        # Errors must not carry what somebody typed into the server's log: hide_parameters.
        # More connections than Starlette has threads (40), so that no request waits for one (libraries.md, finding 10).
        # What a request asks is the same each time but for its values: one plan serves, and making it takes longer than
        # what most of them ask.
        given = make_url(url).query.get("options", "")
        options = f"{given} -c plan_cache_mode=force_generic_plan".strip()
        engine = create_engine(
            url,
            pool_size=20,
            max_overflow=30,
            pool_pre_ping=False,
            hide_parameters=True,
            connect_args={"options": options},
        )

        @event.listens_for(engine, "connect")
        def _on_connect(dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
            prepared = record.info[PREPARED] = Prepared(dbapi_connection)
            dbapi_connection.prepare_threshold = None  # the driver would drop what it did not prepare itself
            dbapi_connection.cursor_factory = prepared.cursor
            dbapi_connection.server_cursor_factory = prepared.server_cursor

        return engine
    engine = create_engine(
        url, connect_args={"check_same_thread": False}, pool_size=20, max_overflow=30, hide_parameters=True
    )
    prepare_sqlite(engine)
    return engine


# secure_delete: what is erased (a participant's key) leaves no bytes in free pages. recursive_triggers: a REPLACE
# deletes as well, and the triggers that keep rows for good must hear of it.
PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "busy_timeout=20000",
    "secure_delete=ON",
    "recursive_triggers=ON",
)


def prepare_sqlite(engine: Engine) -> None:
    """Make SQLite durable and serial for writers: WAL, synchronous=FULL, BEGIN IMMEDIATE (REL-10)."""

    @event.listens_for(engine, "connect")
    def _on_connect(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None
        for pragma in PRAGMAS:
            dbapi_connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get("reading")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    @event.listens_for(engine, "checkin")
    def _on_checkin(dbapi_connection: Any, _record: object) -> None:
        # A COMMIT that failed leaves the transaction open, and with it the lock that every other writer waits for.
        if dbapi_connection is not None and dbapi_connection.in_transaction:
            dbapi_connection.rollback()


def end(session: Session) -> None:
    """End a session of a `Database` before its block does, where it was used: what it changed is committed."""
    _close_open(session)
    if session.in_transaction() or session.new or session.dirty or session.deleted:  # else it has ended already
        session.info[END](session)
    for act in session.info.pop(AFTER, ()):
        act()


def afterwards(session: Session, act: Callable[[], None]) -> None:
    """Done as soon as what the session changed is committed, by whoever commits it; not when that is undone."""
    session.info.setdefault(AFTER, []).append(act)


def undo(session: Session) -> None:
    """The same when something went wrong: what it changed is taken back."""
    _close_open(session)
    session.info.pop(AFTER, None)
    session.close()


@contextmanager
def _nothing_open(session: Session) -> Iterator[None]:
    """Close what `streamed` has open before the connection goes back, also when its reader stopped half way.

    On SQLite a cursor that is still open keeps its old snapshot through a rollback: whoever got the connection next
    would read the past, and could not begin to write.
    """
    try:
        yield
    finally:
        _close_open(session)


def _close_open(session: Session) -> None:
    if isinstance(session, Direct) and session.ahead is not None:
        session.ahead.settle()
        session.ahead = None
    for result in session.info.pop(OPEN, ()):
        result.close()


def streamed(session: Session, query: Select[Any], *, batch: int) -> Iterator[Row[Any]]:
    """The rows of a query, `batch` at a time: a cursor on the server, never the whole result here."""
    result = session.execute(query, execution_options={"yield_per": batch})
    opened = session.info.setdefault(OPEN, [])
    opened.append(result)
    try:
        with short_turns():
            yield from result
    finally:
        result.close()
        if result in opened:
            opened.remove(result)


def soon(session: Session) -> Soon:
    """How a read is begun ahead of time: not at all in a session that writes, on SQLite, and while somebody listens."""
    if not isinstance(session, Direct) or SNAPSHOT not in session.info:
        return partial
    if session.ahead is None:
        connection = session.connection()
        prepared = connection.info.get(PREPARED)
        if prepared is None or connection.dispatch.before_cursor_execute:
            return once
        session.ahead = Ahead(connection, settle=prepared.settle, leave=prepared.leave)
    return session.ahead.soon


def leave(session: Session) -> None:
    """All is read: PostgreSQL may end the snapshot of a reading session meanwhile. Nothing elsewhere."""
    if isinstance(session, Direct) and session.ahead is not None and only_reads(session):
        session.ahead.leave()


def plan_by_value(session: Session) -> None:
    """Have each further statement of this transaction planned for the very values it asks about.

    Otherwise one plan serves all values (`_engine`), which cannot know that of a long log only its end is asked for.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(_PLAN_BY_VALUE)


_PLAN_BY_VALUE = text("SET LOCAL plan_cache_mode = force_custom_plan")


def document(text: str) -> dict[str, Any]:
    """A stored JSON document as `batches` gives it, read quickly; by the slow reader where the quick one refuses to."""
    try:
        found: dict[str, Any] = orjson.loads(text)
    except orjson.JSONDecodeError:  # half a surrogate pair, as an escape
        found = json.loads(text)
    return found


def batches(session: Session, query: Select[Any], *, size: int) -> Iterator[Sequence[Sequence[Any]]]:
    """The rows of a query as the driver gives them, `size` at a time, for what is read a hundred thousand at a time.

    Nothing is converted: ask for texts and whole numbers alone (`as_text`).
    """
    connection = session.connection()
    said = query.compile(connection, compile_kwargs={"render_postcompile": True})
    values: Any = said.params if said.positiontup is None else [said.params[name] for name in said.positiontup]
    driver: Any = connection.connection.driver_connection
    cursor = driver.cursor() if connection.dialect.name == "sqlite" else driver.cursor("batches")
    opened = session.info.setdefault(OPEN, [])
    opened.append(cursor)
    try:
        with short_turns():
            cursor.execute(said.string, values)
            found = cursor.fetchmany(size)
            if not found or len(found) < size or connection.dialect.name == "sqlite":
                while found:
                    yield found
                    found = cursor.fetchmany(size)
                return
            with ThreadPoolExecutor(1) as ahead:  # the next rows are made there while these are worked with here
                while found:
                    coming = ahead.submit(cursor.fetchmany, size)
                    time.sleep(0)  # the other thread asks first; by itself this one would go on for a while
                    yield found
                    found = coming.result()
    finally:
        cursor.close()
        if cursor in opened:
            opened.remove(cursor)


def as_text(instant: ColumnElement[Any], kind: str) -> ColumnElement[str]:
    """An instant as YYYY-MM-DDTHH:MM:SS.ffffffZ in UTC, made by the database; an empty text for none."""
    if kind == "postgresql":
        said: ColumnElement[Any] = func.to_char(func.timezone("UTC", instant), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    else:
        said = func.replace(type_coerce(instant, String), " ", "T").concat("Z")
    return func.coalesce(said, "")


def in_order(column: ColumnElement[str], known: Sequence[str], kind: str) -> tuple[ColumnElement[Any], ...]:
    """What to order by so that texts come in the order of `known`, and others behind them, by their characters."""
    alone = column.collate("C") if kind == "postgresql" else column
    places = {code: place for place, code in enumerate(known)}
    return (case(places, value=column, else_=len(places)), alone) if places else (alone,)


def table_of(model: type[SQLModel]) -> Table:
    """The table of a model, for Core statements: hot paths do not go through the ORM (performance.md section 3)."""
    table = model.__table__  # type: ignore[attr-defined]
    assert isinstance(table, Table)
    return table


KINDS = ("postgresql", "sqlite")


def among(column: ColumnElement[int], kind: str) -> ColumnElement[bool]:
    """Whether a number is among those in the parameter `ids`, for a statement that is built once for each kind.

    PostgreSQL takes them as one array, so that the statement is the same however many there are and is parsed once.
    """
    if kind == "postgresql":
        return column == func.any(bindparam("ids", type_=ARRAY(Integer)))
    return column.in_(bindparam("ids", type_=Integer, expanding=True))


def joined_texts(each: ColumnElement[str], between: str) -> ColumnElement[str]:
    """The texts of all rows as one. `between` is written out: a value would be put into the statement at each run."""
    apart: Any = literal_column(f"'{between}'")
    return func.aggregate_strings(each, apart)


def written_out(word: str) -> ColumnElement[str]:
    """A word of ours as part of the statement: PostgreSQL plans by how many rows have it, which one plan for all values
    (`_engine`) cannot know. For what few rows have among many.
    """
    assert word.replace("_", "").replace(".", "").isalpha()  # nothing that somebody typed
    said: ColumnElement[str] = literal_column(f"'{word}'")
    return said


def at_most(number: int) -> ColumnElement[int]:
    """A LIMIT as part of the statement, for what is sorted as an index has it: of one that it does not know PostgreSQL
    expects a tenth of all rows, and then sorts them all.
    """
    most: ColumnElement[int] = literal_column(str(int(number)))
    return most


def within(
    column: ColumnElement[Any], since: datetime | None, until: datetime | None = None
) -> tuple[ColumnElement[bool], ...]:
    """That an instant is not before `since` and before `until`, as far as these are given."""
    return (
        *([column >= since] if since is not None else []),
        *([column < until] if until is not None else []),
    )


def transaction_of(session: Session) -> tuple[object, object]:
    """The transaction and the savepoint in it: what is rolled back to a savepoint takes along what was done within."""
    return session.get_transaction(), session.get_nested_transaction()


def store_many(session: Session, into: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Insert thousands of rows, each with the values of these columns in order: by COPY where there is one (a third).

    Triggers and constraints hold as for any INSERT; what they refuse on PostgreSQL is psycopg's own error.
    """
    if session.get_bind().dialect.name != "postgresql":
        session.execute(insert(into), [dict(zip(columns, row, strict=True)) for row in rows])
        return
    named = ", ".join(f'"{into.c[name].name}"' for name in columns)
    driver: Any = session.connection().connection
    with (
        driver.cursor() as cursor,
        cursor.copy(f'COPY "{into.name}" ({named}) FROM STDIN') as copied,
    ):
        for row in rows:
            copied.write_row(row)


def only_reads(session: Session) -> bool:
    """Whether this is a reading session."""
    bind = session.get_bind()
    return bool(bind.get_execution_options().get("reading"))


def instance_of(model: type[Model], row: RowMapping | Mapping[str, Any]) -> Model:
    """What `model(**row)` makes of a whole row that was read, without weighing every value on its way in (a tenth)."""
    made: Model = model.__new__(model)
    manager_of_class(model).setup_instance(made)
    values = dict(row)
    made.__dict__.update(values)
    object.__setattr__(made, "__pydantic_fields_set__", set(values))
    return made


def keys_of(session: Session) -> Keyring:
    """The keyring this session's database was opened with."""
    keys = session.info["keys"]
    assert isinstance(keys, Keyring)
    return keys
