"""How does PostgreSQL's driver hand over what it found? Without saying of each column what it is, unless asked."""

from collections.abc import Sequence
from typing import Any, overload

from psycopg import Column, Cursor


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


class QuickCursor(Cursor[Any]):
    """A cursor as the driver has it; its `description` is read as that is."""

    @property
    def description(self) -> Sequence[Column] | None:  # type: ignore[override]
        """The columns of the result; None without any."""
        columns = self.pgresult.nfields if self.pgresult else 0
        return Described(columns, self) if columns else None
