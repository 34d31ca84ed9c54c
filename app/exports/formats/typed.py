"""What kind of value does a typed file keep for a column, and does each cell fit? One answer for all of them.

Text files write cells as they are; typed files need one kind for each column. A cell that does not fit (an item that
was a number in one version of the study and text in another) is never bent: the column is written as text then, every
cell as CSV would write it. Nothing has left the house before that is known, because typed files are built first.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from app.exports.batches import Batched, Held
from app.exports.formats.text import PIECE, text_of
from app.exports.tables import Cell, Column, ColumnType, Row, Table

CHUNK = 5_000
EXACT = 2**53
"""A whole number beyond it has no double of its own."""


class Kind(StrEnum):
    """What a typed file keeps in a column."""

    TEXT = "text"
    WHOLE = "whole"
    REAL = "real"
    TRUTH = "truth"
    DAY = "day"
    INSTANT = "instant"
    CODE = "code"  # of a choice whose codes are all whole numbers


KINDS = {
    ColumnType.INTEGER: Kind.WHOLE,
    ColumnType.FLAG: Kind.WHOLE,
    ColumnType.NUMBER: Kind.REAL,
    ColumnType.CALCULATED: Kind.REAL,
    ColumnType.YES_NO: Kind.TRUTH,
    ColumnType.DATE: Kind.DAY,
    ColumnType.INSTANT: Kind.INSTANT,
}


class Misfit(Exception):
    """A cell is not of the kind of its column."""

    def __init__(self, column: str) -> None:
        super().__init__(f"{column} holds values of several kinds")
        self.column = column


def kind_of(column: Column, as_text: frozenset[str] = frozenset()) -> Kind:
    """The kind of a column; those named in `as_text` are written as text because a cell did not fit."""
    if column.name in as_text:
        return Kind.TEXT
    if column.type is ColumnType.CHOICE and column.choices and all(is_whole(code) for code, _ in column.choices):
        return Kind.CODE
    return KINDS.get(column.type, Kind.TEXT)


def is_whole(code: str) -> bool:
    """Whether a code is a whole number as one writes it: the number then says all that the code does."""
    return code.lstrip("-").isdecimal() and code.isascii() and len(code) < 10 and str(int(code)) == code


def _whole(value: Cell) -> int:
    if type(value) is int and abs(value) <= EXACT:
        return value
    raise ValueError


def _real(value: Cell) -> float:
    if type(value) is float or (type(value) is int and abs(value) <= EXACT):
        return float(value)
    raise ValueError


def _truth(value: Cell) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError


def _day(value: Cell) -> date:
    if isinstance(value, str) and len(value) == len("YYYY-MM-DD"):
        return date.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError


def _instant(value: Cell) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo is UTC else value.astimezone(UTC)
    raise ValueError


def _text(value: Cell) -> str:
    return value if isinstance(value, str) else text_of(value)


FITS: dict[Kind, Callable[[Cell], Any]] = {
    Kind.TEXT: _text,
    Kind.CODE: _text,
    Kind.WHOLE: _whole,
    Kind.REAL: _real,
    Kind.TRUTH: _truth,
    Kind.DAY: _day,
    Kind.INSTANT: _instant,
}
# What already is what a column of this kind keeps, so that most columns are not looked at cell by cell.
ALREADY: dict[Kind, frozenset[type]] = {
    Kind.TEXT: frozenset({str, type(None)}),
    Kind.CODE: frozenset({str, type(None)}),
    Kind.REAL: frozenset({float, type(None)}),
    Kind.TRUTH: frozenset({bool, type(None)}),
}


WHOLE = frozenset({int, type(None)})
TEXTS = frozenset({str, type(None)})
INSTANTS = frozenset({datetime, type(None)})


def fitted(column: Column, kind: Kind, cells: Sequence[Cell], types: set[type]) -> Sequence[Any]:
    """The cells of a column, of these types, as values of its kind, None where there is none; Misfit if one is not."""
    if kind in ALREADY and ALREADY[kind].issuperset(types):
        return cells
    if kind in (Kind.WHOLE, Kind.REAL) and WHOLE.issuperset(types):
        numbers: Any = cells if type(None) not in types else [cell for cell in cells if cell is not None]
        if not numbers or (max(numbers) <= EXACT and min(numbers) >= -EXACT):
            return cells
    if kind is Kind.INSTANT and types <= INSTANTS and {cell.tzinfo for cell in cells if cell is not None} <= {UTC}:  # type: ignore[union-attr]
        return cells
    fit = FITS[kind]
    try:
        if types <= TEXTS and kind in (Kind.DAY, Kind.INSTANT):  # many were on the same day
            known = {cell: None if cell is None else fit(cell) for cell in set(cells)}
            return [known[cell] for cell in cells]
        return [None if cell is None else fit(cell) for cell in cells]
    except ValueError:
        raise Misfit(column.name) from None


class Nothing(list[None]):
    """The cells of a column in which there is nothing, so that nobody has to look."""


def fitted_all(table: Table, kinds: Sequence[Kind], columns: Sequence[Held | None]) -> list[Sequence[Any]]:
    """All columns of some rows, each as values of its kind; Misfit when a cell does not fit."""
    nothing = Nothing([None] * (len(columns[0][0]) if columns[0] else 0))
    return [
        nothing if found is None else fitted(column, kind, *found)
        for column, kind, found in zip(table.columns, kinds, columns, strict=True)
    ]


def chunks(table: Table, kinds: Sequence[Kind], *, rows: int = CHUNK) -> Iterator[list[Sequence[Any]]]:
    """The table column by column, so many rows at a time."""
    if isinstance(table.rows, Batched) and table.rows.columns_of is not None:
        for columns in table.rows.columns(size=rows):
            yield fitted_all(table, kinds, columns)
        return
    source: Iterator[Row] = iter(table.rows)
    while batch := list(islice(source, rows)):
        each = zip(table.columns, kinds, zip(*batch, strict=True), strict=True)
        yield [fitted(column, kind, cells, set(map(type, cells))) for column, kind, cells in each]


Build = Callable[[Table, Sequence[Kind], Path], None]


def built(table: Table, build: Build, *, again: Callable[[], Table]) -> Iterator[bytes]:
    """The pieces of a file that has to be whole before its first byte leaves: built in a file of its own, then sent.

    `again` opens the same table of the same snapshot anew, when a column turns out to hold values of several kinds.
    """
    with scratch() as folder:
        as_text: frozenset[str] = frozenset()
        while True:
            # A file of its own for every attempt: one that failed may still be closing its own.
            path = folder / f"table{len(as_text)}"
            try:
                build(table, [kind_of(column, as_text) for column in table.columns], path)
                break
            except Misfit as misfit:
                as_text |= {misfit.column}
                table = again()
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that nobody else may look into, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="equipoise-export-") as folder:
        path = Path(folder)
        os.chmod(path, 0o700)
        yield path
