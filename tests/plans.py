"""How does a database find what a statement asks for? For tests that say: by an index, and no further than needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlmodel import Session


@contextmanager
def plans(session: Session, about: str) -> Iterator[list[str]]:
    """The plan, as one text, of every statement with these words in it that is asked while the block runs.

    PostgreSQL is told that reading a table whole or sorting it costs much, since it would do so for a few rows.
    """
    asked: list[tuple[str, Any]] = []
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if about in statement:
            asked.append((statement, values))

    connection = session.connection()
    event.listen(connection, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(connection, "before_cursor_execute", note)
    sqlite = connection.dialect.name == "sqlite"
    if not sqlite:
        for costly in ("seqscan", "sort", "hashjoin", "hashagg", "bitmapscan"):
            connection.exec_driver_sql(f"SET LOCAL enable_{costly} = off")
    for statement, values in asked:
        explained = connection.exec_driver_sql(f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{statement}", values)
        found.append("\n".join(str(row[-1]) for row in explained))
