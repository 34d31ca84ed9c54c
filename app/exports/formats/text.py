"""How does a table become text? CSV (RFC 4180), JSON and NDJSON, a piece at a time, the same bytes every time."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

import orjson

from app.exports.batches import AHEAD, Batched
from app.exports.tables import Cell, ColumnType, Row, Table

PIECE = 128 * 1024
LARGE_PIECE = 256 * 1024
"""Each piece changes threads on its way to the socket: what is made as quickly as this leaves in larger ones."""
ENTRIES = 500
"""So many entries become text at once."""
BOM = "\ufeff".encode()
# Spreadsheets run a cell that begins with one of these as a formula (OWASP ASVS 5.0 1.2.10); the last four are the
# full-width forms that some of them fold into the plain ones.
FORMULA = frozenset("=+-@\t\r\n\0＝＋－＠")
PLAIN = frozenset({str, int, float, date, type(None)})
TOLD = frozenset({ColumnType.INSTANT, ColumnType.YES_NO})


def neutral(text: str) -> str:
    """A text that no spreadsheet takes for a formula: with an apostrophe before it when it looks like one."""
    return f"'{text}" if text.lstrip(" ")[:1] in FORMULA and text.strip(" ") else text


def text_of(value: Cell) -> str:
    """A cell as text: true and false, ISO 8601 dates, instants in UTC with a Z, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        if value.tzinfo is not UTC:
            value = value.astimezone(UTC)
        return f"{value.isoformat(timespec='microseconds')[:-6]}Z"
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def written_csv(table: Table, *, bom: bool = False, safe: bool = False) -> Iterator[bytes]:
    """CSV with lines that end in CR LF; `safe` so that no spreadsheet runs a cell, `bom` with a byte order mark."""
    buffer = io.StringIO(newline="")
    write = csv.writer(buffer, lineterminator="\r\n").writerow
    as_text = _safe if safe else _as_text
    # The writer writes texts, numbers, days and nothing as we would: it is told of what else such columns hold.
    told = [place for place, column in enumerate(table.columns) if column.type in TOLD]

    def write_row(row: Row) -> None:
        cells = list(row)
        for place in told:
            cell = cells[place]
            if cell is not None:
                cells[place] = text_of(cell)
        write(cells if not safe and PLAIN.issuperset(map(type, cells)) else [as_text(cell) for cell in cells])

    def line(row: Row) -> str:
        write_row(row)
        return _taken(buffer).removesuffix("\r\n")

    if bom:
        yield BOM
    write([column.name for column in table.columns])
    if isinstance(table.rows, Batched) and not safe:
        waiting, size, enough = [_taken(buffer)], 0, 1  # the first lines leave at once
        for text in table.rows.lines(line, size=ENTRIES):
            waiting.append(text)
            size += len(text)
            if size >= enough:
                yield "".join(waiting).encode()
                waiting, size, enough = [], 0, LARGE_PIECE
        if waiting:
            yield "".join(waiting).encode()
        return
    for row in table.rows:
        write_row(row)
        if buffer.tell() >= PIECE:
            yield _taken(buffer).encode()
    yield _taken(buffer).encode()


def _as_text(value: Cell) -> str:
    return value if isinstance(value, str) else text_of(value)


def _safe(value: Cell) -> str:
    return neutral(value) if isinstance(value, str) else text_of(value)


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text


def written_json(table: Table, *, lines: bool) -> Iterator[bytes]:
    names = [column.name for column in table.columns]
    piece = bytearray(b"" if lines else b"[")
    between = b"\n"
    for row in _rows(table):
        if not lines:
            piece += between
            between = b",\n"
        piece += _object(dict(zip(names, row, strict=True)))
        if lines:
            piece += b"\n"
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    if not lines:
        piece += b"\n]\n"
    yield bytes(piece)


def _rows(table: Table) -> Iterator[Row]:
    """The rows of a table; made by whole columns where they can be, which takes half as long."""
    if not isinstance(table.rows, Batched) or table.rows.columns_of is None:
        yield from table.rows
        return
    for columns in table.rows.columns(size=AHEAD * ENTRIES):
        nothing: list[Cell] = [None] * next(len(held[0]) for held in columns if held is not None)
        yield from zip(*(nothing if held is None else _told(*held) for held in columns), strict=True)


def _told(cells: Sequence[Cell], types: set[type]) -> Sequence[Cell]:
    """The cells of a column, instants as text: to be asked for one at a time takes longer."""
    return [text_of(cell) if type(cell) is datetime else cell for cell in cells] if datetime in types else cells


def _object(row: dict[str, Cell]) -> bytes:
    try:
        return orjson.dumps(row, default=_other, option=orjson.OPT_PASSTHROUGH_DATETIME)
    except TypeError:  # a whole number beyond 64 bits
        return json.dumps(row, default=_other, ensure_ascii=False, separators=(",", ":")).encode()


def _other(value: Any) -> str:
    return text_of(value)
