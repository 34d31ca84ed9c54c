"""What of a statement can be kept for the next time? Its text, and how values go in and come out.

SQLAlchemy puts the text together once, but sets up parameters, a context and a result for each execution: as much
processor time again as the driver takes. A statement that is built once, as those of hot paths are, skips that from its
third execution on (decision 0035). Whatever is not plain goes through SQLAlchemy, and so does every statement while
somebody listens to statements.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn
from weakref import WeakKeyDictionary

from sqlalchemy import (
    CompoundSelect,
    Connection,
    CursorResult,
    Delete,
    Dialect,
    Insert,
    Numeric,
    Select,
    TextClause,
    Update,
)
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.schema import ScalarElementColumnDefault

PREPARED = "what the connection holds ready"
_PLAIN = (Select, CompoundSelect, Insert, Update, Delete, TextClause)


class Found(IteratorResult[Any]):
    """The rows of one execution, which have all come; used as any other result."""

    def __init__(self, columns: SimpleResultMetaData, rows: Iterator[Any], rowcount: int) -> None:
        super().__init__(columns, rows)
        self.rowcount = rowcount
        """The rows that were found or changed."""
        self.returns_rows = columns is not _NO_COLUMNS


class Repeated:
    """One statement for one kind of database, as the driver takes it."""

    __slots__ = ("_binds", "_columns", "_given", "_names", "_order", "_text")

    def __init__(
        self,
        compiled: SQLCompiler,
        columns: SimpleResultMetaData | None,
        names: frozenset[str],
        defaults: Mapping[str, Any],
    ) -> None:
        dialect = compiled.dialect
        converting = {  # once, also where a value stands in several places
            name: bound.type.dialect_impl(dialect).bind_processor(dialect)
            for bound, name in compiled.bind_names.items()
        }
        given = {**compiled.construct_params(_check=False), **defaults}
        self._text = compiled.string
        self._order: Sequence[str] | None = compiled.positiontup
        """The values in their order, where the driver knows no names."""
        if compiled.post_compile_params:  # lists of values, of which each has its place now
            whole = compiled.construct_expanded_state(given)
            self._text, self._order, given = whole.statement, whole.positiontup, dict(whole.parameters)
            converting.update(whole.processors)
        self._names: Final = names
        self._given: Final = {
            name: converts(value) if name not in names and (converts := converting.get(name)) is not None else value
            for name, value in given.items()
        }
        """Values that stand in the statement itself, or in its table."""
        self._binds: Final = tuple(
            (name, converts) for name, converts in converting.items() if name in names and converts is not None
        )
        self._columns: Final = columns

    def run(self, connection: Connection, params: Mapping[str, Any]) -> Found | None:
        """Execute it; None where it was made for other parameters. The database's errors come as from a connection."""
        if params.keys() != self._names:
            return None
        values = self._values(params)
        driver: Any = connection.connection.dbapi_connection
        cursor: Any = None
        try:
            cursor = driver.cursor()
            cursor.execute(self._text, values)
            if self._columns is None:
                found = Found(_NO_COLUMNS, iter(()), cursor.rowcount)
            else:
                rows = cursor.fetchall()
                found = Found(self._columns, iter(rows), len(rows))
            cursor.close()
        except BaseException as error:
            self._failed(connection, error, cursor)
        return found

    def ask_ahead(self, connection: Connection, params: Mapping[str, Any]) -> Callable[[], Found] | None:
        """Have PostgreSQL begin with it; what is given waits for the rows. None where that cannot be."""
        if params.keys() != self._names or self._columns is None:
            return None
        columns, prepared = self._columns, connection.info.get(PREPARED)
        if prepared is None:
            return None
        try:
            coming = prepared.ask_ahead(self._text, self._values(params))
        except BaseException as error:
            self._failed(connection, error, None)
        if coming is None:
            return None

        def answer() -> Found:
            try:
                _, rows = prepared.answer(coming)
            except BaseException as error:
                self._failed(connection, error, None)
            return Found(columns, iter(rows), len(rows))

        return answer

    def _values(self, params: Mapping[str, Any]) -> Any:
        values = {**self._given, **params}
        for name, converts in self._binds:
            values[name] = converts(values[name])
        return values if self._order is None else [values[name] for name in self._order]

    def _failed(self, connection: Connection, error: BaseException, cursor: Any) -> NoReturn:
        if isinstance(error, Exception) and not isinstance(error, connection.dialect.loaded_dbapi.Error):
            raise error  # the database was not asked: a value is none that the driver can send
        # It knows which error means what, and which connections are of no use any more.
        connection._handle_dbapi_exception(error, self._text, None, cursor, None)


_NO_COLUMNS = SimpleResultMetaData(())
_KNOWN: Mapping[str, WeakKeyDictionary[Any, Repeated | bool]] = {
    "postgresql": WeakKeyDictionary(),
    "sqlite": WeakKeyDictionary(),
}
"""False of a statement that came once, True of one that is not plain."""


def execute(connection: Connection, statement: Any, params: Any) -> Any:
    """As `Connection.execute`; quicker for a plain statement that came before, whose rows then come all at once."""
    listening = connection.dispatch.before_cursor_execute
    if params.__class__ is list or listening:
        return connection.execute(statement, params)
    known = _KNOWN[connection.dialect.name]
    kept = known.get(statement)
    if kept.__class__ is Repeated:
        found = kept.run(connection, params or {})
        if found is not None:
            return found
    result = connection.execute(statement, params)
    if kept is None:
        known[statement] = False
    elif kept is False:
        known[statement] = _kept(connection.dialect, statement, params or {}, result) or True
    return result


def _kept(dialect: Dialect, statement: Any, params: Mapping[str, Any], result: CursorResult[Any]) -> Repeated | None:
    """What of this statement can be kept, seeing a result of it; None where it is not plain."""
    if not isinstance(statement, _PLAIN) or statement.get_execution_options():
        return None
    compiled = statement.compile(dialect=dialect, column_keys=list(params))
    if not isinstance(compiled, SQLCompiler) or compiled.literal_execute_params:
        return None
    if any(bound.key in params for bound in compiled.post_compile_params):
        return None  # a list that is of another length the next time
    defaults = {
        column.key: column.default.arg
        for column in compiled.insert_prefetch
        if isinstance(column.default, ScalarElementColumnDefault)
    }
    if compiled.update_prefetch or compiled.implicit_returning or len(defaults) < len(compiled.insert_prefetch):
        return None  # values that SQLAlchemy makes for each execution, or asks for
    if any(
        bound.callable or (bound.key in params and bound.key != name) for bound, name in compiled.bind_names.items()
    ):
        return None
    if not result.returns_rows:
        return Repeated(compiled, None, frozenset(params), defaults)
    if not isinstance(statement, (Select, CompoundSelect, UpdateBase)):
        return None  # only its author knows what a text finds
    columns = list(statement.exported_columns)
    keys = list(result.keys())
    if len(columns) != len(keys) or any(isinstance(column.type, Numeric) for column in columns):
        return None  # how a number with decimals is read depends on what the driver makes of it
    converts = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns]
    return Repeated(
        compiled,
        SimpleResultMetaData(keys, [(column,) for column in columns], _processors=converts if any(converts) else None),
        frozenset(params),
        defaults,
    )


def ask_ahead(connection: Connection, statement: Any, params: Any) -> Callable[[], Found] | None:
    """Have PostgreSQL begin with a statement that came before; None where that cannot be, and `execute` is the way."""
    kept = _KNOWN[connection.dialect.name].get(statement)
    if kept.__class__ is not Repeated or connection.dispatch.before_cursor_execute:
        return None
    return kept.ask_ahead(connection, params or {})
