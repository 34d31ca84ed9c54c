"""How is PostgreSQL asked? By the name of what the connection holds ready, and without saying what each column is.

The driver's own cursor sees to much that never comes here: rows of another shape, several results, what it might
prepare and must drop again. That took more than half of the processor time it spends on a statement (decision 0037).
What is converted on the way in and out, and what goes over the wire, is the driver's work as before.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final, Self, overload

from psycopg import Column, Connection, Cursor, IsolationLevel, ServerCursor
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.generators import execute, fetch_many, send
from psycopg.pq import ExecStatus, PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import RowFactory, tuple_row

# What a connection holds ready: a day's pages ask a few hundred different statements.
MOST_PREPARED = 400
# Often enough to be worth it: some statements are put together for one question and never come again.
PREPARED_FROM = 3
_PLACE = re.compile(r"%(?:%|\(([^)]+)\)s)")
_TEXT: Final = 0


class Described(Sequence[Column]):
    """The columns of a result, put together when somebody looks at one.

    SQLAlchemy looks once at each kind of statement, and then only whether there are any; to describe them took a fifth
    of every SELECT.
    """

    def __init__(self, columns: int, cursor: Cursor[Any]) -> None:
        self._columns, self._cursor = columns, cursor

    def __len__(self) -> int:
        return self._columns

    @overload
    def __getitem__(self, place: int) -> Column: ...
    @overload
    def __getitem__(self, place: slice) -> list[Column]: ...
    def __getitem__(self, place: int | slice) -> Column | list[Column]:
        return [Column(self._cursor, number) for number in range(self._columns)][place]


@lru_cache(maxsize=2 * MOST_PREPARED)
def numbered(said: str) -> tuple[bytes, tuple[str, ...], tuple[PyFormat, ...]]:
    """A statement with `%(name)s` as PostgreSQL takes it, with `$1`; the name of each number; and how each is sent."""
    names: list[str] = []

    def number(place: re.Match[str]) -> str:
        name = place[1]
        if name is None:
            return "%"
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    text = _PLACE.sub(number, said).encode()
    return text, tuple(names), (PyFormat.AUTO,) * len(names)


Rows = Sequence[tuple[Any, ...]]


class Coming:
    """The answer to something that was asked ahead: it may still be on its way."""

    def __init__(self) -> None:
        self.result: PGresult | None = None


class Prepared:
    """What one connection holds ready, and the way to ask it. Nobody else may drop what is prepared there."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection, self._pgconn = connection, connection.pgconn
        self._values = Transformer(connection)
        self._begun: dict[tuple[IsolationLevel | None, bool | None], bytes] = {}
        self._seen: dict[tuple[bytes, tuple[int, ...]], int] = {}
        self._names: dict[tuple[bytes, tuple[int, ...]], bytes] = {}
        self._number = 0
        self._coming: deque[Coming] = deque()

    def cursor(self, connection: Connection[Any], *, row_factory: RowFactory[Any]) -> Cursor[Any]:
        """The connection's `cursor_factory`."""
        self.settle()
        if row_factory is tuple_row:
            return QuickCursor(connection, self)
        return Cursor(connection, row_factory=row_factory)

    def server_cursor(self, connection: Connection[Any], name: str, **how: Any) -> ServerCursor[Any]:
        """The connection's `server_cursor_factory`: what is read so is not asked ahead."""
        self.settle()
        return ServerCursor(connection, name, **how)

    def ask(self, said: str, values: Mapping[str, Any]) -> tuple[PGresult, Rows]:
        """Execute a statement with `%(name)s` in it: the result, and its rows as Python has them.

        A transaction is begun where there is none. Errors are those of a cursor of the driver's.
        """
        text, sent, of = self._dumped(said, values)
        types, formats = self._values.types, self._values.formats
        name = self._names.get(of) or self._prepare(of)
        begins = self._begin_ahead()
        if name:
            self._pgconn.send_query_prepared(name, sent, formats, result_format=_TEXT)
        else:
            self._pgconn.send_query_params(text, sent, types, formats, result_format=_TEXT)
        if not begins:
            return self._read(self._answered())
        return self.answer(self._synced())

    def ask_ahead(self, said: str, values: Mapping[str, Any]) -> Coming | None:
        """Send what is prepared already and do not wait for the answer; None where that cannot be.

        Whoever asks so within a transaction sees to it that `settle` is called before that ends.
        """
        _, sent, of = self._dumped(said, values)
        name = self._names.get(of)
        if name is None:
            return None
        if self._pgconn.pipeline_status == PipelineStatus.OFF and not self._begin_ahead():
            if self._pgconn.transaction_status != TransactionStatus.INTRANS:
                return None
            self._pgconn.enter_pipeline_mode()
        self._pgconn.send_query_prepared(name, sent, self._values.formats, result_format=_TEXT)
        return self._synced()

    def leave(self) -> None:
        """Send how a transaction that changed nothing ends, where there is one, and do not wait for it.

        Whoever asks something nevertheless begins another.
        """
        if self._pgconn.pipeline_status == PipelineStatus.OFF:
            if self._pgconn.transaction_status != TransactionStatus.INTRANS:
                return
            self._pgconn.enter_pipeline_mode()
        self._pgconn.send_query_params(b"ROLLBACK", None)
        self._synced()

    def answer(self, coming: Coming) -> tuple[PGresult, Rows]:
        """Wait for what was asked ahead; as `ask` gives it."""
        while coming.result is None:
            self._hear()
        if self._coming and self._coming[-1] is coming:
            self.settle()
        return self._read(self._checked(coming.result))

    def settle(self) -> None:
        """Wait for all that was asked ahead, so that the connection is as any other."""
        if self._pgconn.pipeline_status == PipelineStatus.OFF:
            return
        try:
            while self._coming:
                self._hear()
            self._pgconn.exit_pipeline_mode()
        except BaseException:
            self._pgconn.finish()  # nobody else may read what is still on its way
            raise

    def _hear(self) -> None:
        """Wait for what comes next; an answer is followed by the sign that it was the whole one."""
        found = self._connection.wait(fetch_many(self._pgconn))[-1]
        if found.status == ExecStatus.PIPELINE_SYNC:
            self._coming.popleft()
        else:
            self._coming[0].result = found

    def _dumped(self, said: str, values: Mapping[str, Any]) -> tuple[bytes, Any, tuple[bytes, tuple[int, ...]]]:
        text, names, formats = numbered(said)
        sent = self._values.dump_sequence([values[name] for name in names], formats)
        return text, sent, (text, self._values.types or ())

    def _read(self, result: PGresult) -> tuple[PGresult, Rows]:
        if result.status != ExecStatus.TUPLES_OK:
            return result, ()
        self._values.set_pgresult(result)
        rows = self._values.load_rows(0, result.ntuples, tuple)
        self._values.set_pgresult(None)
        return result, rows

    def _synced(self) -> Coming:
        """What was just sent is something by itself, and answered at once."""
        self._pgconn.pipeline_sync()
        if self._pgconn.flush():  # more than the network takes at once
            self._connection.wait(send(self._pgconn))
        coming = Coming()
        self._coming.append(coming)
        return coming

    def _begin_ahead(self) -> bool:
        """Send how a transaction begins, where there is none, and do not wait for it."""
        if self._pgconn.transaction_status != TransactionStatus.IDLE or self._connection.autocommit:
            return False
        self._pgconn.enter_pipeline_mode()
        self._pgconn.send_query_params(self._how_to_begin(), None)
        self._synced()
        return True

    def _how_to_begin(self) -> bytes:
        asked = self._connection.isolation_level, self._connection.read_only
        if asked not in self._begun:
            level, reading = asked
            parts = ["BEGIN"]
            if level is not None:
                parts += ["ISOLATION LEVEL", level.name.replace("_", " ")]
            if reading is not None:
                parts.append("READ ONLY" if reading else "READ WRITE")
            self._begun[asked] = " ".join(parts).encode()
        return self._begun[asked]

    def _prepare(self, of: tuple[bytes, tuple[int, ...]]) -> bytes:
        """The name of a statement that came often enough, as the database now knows it; else none."""
        seen = self._seen[of] = self._seen.pop(of, 0) + 1
        if seen < PREPARED_FROM:
            if len(self._seen) > 2 * MOST_PREPARED:
                del self._seen[next(iter(self._seen))]
            return b""
        if len(self._names) >= MOST_PREPARED:
            oldest = next(iter(self._names))
            self._pgconn.send_query(b"DEALLOCATE " + self._names[oldest])
            self._answered()
            del self._names[oldest]
        text, types = of
        name = b"ready_%d" % self._number
        self._number += 1
        self._pgconn.send_prepare(name, text, types)
        self._answered()
        del self._seen[of]
        self._names[of] = name
        return name

    def _answered(self) -> PGresult:
        return self._checked(self._connection.wait(execute(self._pgconn))[-1])

    def _checked(self, result: PGresult) -> PGresult:
        if result.status == ExecStatus.FATAL_ERROR:
            raise error_from_result(result, self._values.encoding)
        return result


class QuickCursor(Cursor[Any]):
    """A cursor of the driver's that is quicker for whoever asks with names, as SQLAlchemy does."""

    def __init__(self, connection: Connection[Any], prepared: Prepared) -> None:
        super().__init__(connection)
        self._prepared = prepared
        self._found: Iterator[tuple[Any, ...]] | None = None
        self._count = -1

    def execute(self, query: Any, params: Any = None, **how: Any) -> Self:
        """As that of the driver: values by name go the quick way."""
        self._prepared.settle()
        if params.__class__ is not dict or not params or how:
            self._found = None
            return super().execute(query, params, **how)
        self.pgresult, rows = self._prepared.ask(query, params)
        self._count = len(rows) if self.pgresult.nfields else self.pgresult.command_tuples or 0
        self._found = iter(rows)
        return self

    @property
    def rowcount(self) -> int:
        """The rows that were found or changed."""
        return super().rowcount if self._found is None else self._count

    @property
    def description(self) -> Sequence[Column] | None:  # type: ignore[override]
        """The columns of the result; None without any."""
        columns = self.pgresult.nfields if self.pgresult else 0
        return Described(columns, self) if columns else None

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row; None after the last."""
        return super().fetchone() if self._found is None else next(self._found, None)

    def fetchmany(self, size: int = 0) -> list[tuple[Any, ...]]:
        """The next rows, at most so many."""
        return super().fetchmany(size) if self._found is None else list(islice(self._found, size or self.arraysize))

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows that are left."""
        return super().fetchall() if self._found is None else list(self._found)
