"""How does a table become a workbook for a spreadsheet? Cells keep their kind, and no text is ever run or linked."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from app.exports.formats.text import text_of
from app.exports.formats.typed import Kind, chunks
from app.exports.tables import Table
from app.foundation.errors import Refused

# What a worksheet holds (Excel specifications and limits).
MOST_ROWS = 1_048_576
MOST_COLUMNS = 16_384
LONGEST = 32_767
FIRST_DAY = date(1900, 3, 1)
"""Before it, spreadsheets count days otherwise than the calendar does (they know a 29 February 1900)."""
MADE = datetime(1980, 1, 1)  # noqa: DTZ001 a workbook says when it was made, without a zone; the same bytes every time


def build(table: Table, kinds: Sequence[Kind], path: Path) -> None:
    """One sheet with the rows, one with what the codebook says of the columns. Instants are text, in UTC."""
    import xlsxwriter

    if len(table.columns) > MOST_COLUMNS:
        raise Refused(_too_large(f"{MOST_COLUMNS:,} columns"))
    options = {
        "constant_memory": True,
        "tmpdir": str(path.parent),
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
        "nan_inf_to_errors": False,
    }
    with xlsxwriter.Workbook(str(path), options) as book:
        book.set_properties({"created": MADE, "title": table.label})
        day, head = book.add_format({"num_format": "yyyy-mm-dd"}), book.add_format({"bold": True})
        sheet = book.add_worksheet("Rows")
        sheet.freeze_panes(1, 0)
        for place, column in enumerate(table.columns):
            sheet.write_string(0, place, column.name, head)
        write = _writers(sheet, day)
        line = 1
        for columns in chunks(table, kinds):
            if line + len(columns[0]) > MOST_ROWS:
                raise Refused(_too_large(f"{MOST_ROWS - 1:,} rows"))
            for row in zip(*columns, strict=True):
                for place, (kind, value) in enumerate(zip(kinds, row, strict=True)):
                    if value is not None:
                        write[kind](line, place, value)
                line += 1
        _columns(book.add_worksheet("Columns"), table, head)


def _too_large(what: str) -> str:
    return f"A worksheet holds at most {what}. Take the table as Parquet or CSV, or choose fewer visits or instruments."


def _writers(sheet: Any, day: Any) -> dict[Kind, Callable[[int, int, Any], None]]:
    def text(line: int, place: int, value: str) -> None:
        if len(value) > LONGEST:
            raise Refused(
                f"A cell of a worksheet holds at most {LONGEST:,} characters. Take the table as CSV or Parquet."
            )
        sheet.write_string(line, place, value)

    def on(line: int, place: int, value: date) -> None:
        if value < FIRST_DAY:
            sheet.write_string(line, place, value.isoformat())
        else:
            sheet.write_datetime(line, place, value, day)

    return {
        Kind.TEXT: text,
        Kind.CODE: text,
        Kind.WHOLE: sheet.write_number,
        Kind.REAL: sheet.write_number,
        Kind.TRUTH: sheet.write_boolean,
        Kind.DAY: on,
        Kind.INSTANT: lambda line, place, value: text(line, place, text_of(value)),
    }


def _columns(sheet: Any, table: Table, head: Any) -> None:
    for place, said in enumerate(("Column", "What it is", "Kind", "Unit", "Values")):
        sheet.write_string(0, place, said, head)
    for line, column in enumerate(table.columns, start=1):
        values = "; ".join(f"{code} = {label}" for code, label in column.choices)
        for place, text in enumerate((column.name, column.label, column.type.value, column.unit or "", values)):
            sheet.write_string(line, place, text[:LONGEST])
