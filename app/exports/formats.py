"""How does a table become a file? CSV (RFC 4180), JSON and NDJSON, a piece at a time, the same bytes every time."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

import orjson

from app.exports.tables import Cell, Row, Table

PIECE = 64 * 1024
BOM = "\ufeff".encode()
# Spreadsheets run a cell that begins with one of these as a formula (OWASP ASVS 5.0 1.2.10); the last four are the
# full-width forms that some of them fold into the plain ones.
FORMULA = frozenset("=+-@\t\r\n\0＝＋－＠")


class Format(StrEnum):
    """What a table can be written as. `spreadsheet` is CSV that no spreadsheet runs; the others are unaltered."""

    CSV = "csv"
    SPREADSHEET = "spreadsheet"
    JSON = "json"
    NDJSON = "ndjson"

    @property
    def extension(self) -> str:
        return "csv" if self is Format.SPREADSHEET else self.value

    @property
    def media_type(self) -> str:
        return {"csv": "text/csv; charset=utf-8", "json": "application/json", "ndjson": "application/x-ndjson"}[
            self.extension
        ]


def encoded(table: Table, format: Format, *, bom: bool = False) -> Iterator[bytes]:  # noqa: A002
    """The file in pieces. `bom` puts a byte order mark before CSV, which the spreadsheet form always has."""
    if format is Format.CSV:
        return _csv(table, bom=bom, safe=False)
    if format is Format.SPREADSHEET:
        return _csv(table, bom=True, safe=True)
    return _json(table, lines=format is Format.NDJSON)


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
        return f"{value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def _csv(table: Table, *, bom: bool, safe: bool) -> Iterator[bytes]:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")

    def cells(row: Row) -> list[str]:
        if safe:
            return [neutral(value) if isinstance(value, str) else text_of(value) for value in row]
        return [value if isinstance(value, str) else text_of(value) for value in row]

    if bom:
        yield BOM
    writer.writerow([column.name for column in table.columns])
    for row in table.rows:
        writer.writerow(cells(row))
        if buffer.tell() >= PIECE:
            yield _taken(buffer)
    yield _taken(buffer)


def _taken(buffer: io.StringIO) -> bytes:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text.encode()


def _json(table: Table, *, lines: bool) -> Iterator[bytes]:
    names = [column.name for column in table.columns]
    piece = bytearray(b"" if lines else b"[")
    between = b"\n"
    for row in table.rows:
        if not lines:
            piece += between
            between = b",\n"
        piece += orjson.dumps(
            dict(zip(names, row, strict=True)), default=_other, option=orjson.OPT_PASSTHROUGH_DATETIME
        )
        if lines:
            piece += b"\n"
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    if not lines:
        piece += b"\n]\n"
    yield bytes(piece)


def _other(value: Any) -> str:
    return text_of(value)
