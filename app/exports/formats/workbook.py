"""How does a table become a workbook for a spreadsheet? Cells keep their kind, and no text is ever run or linked."""

import re
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
BEFORE_FIRST = date(1899, 12, 30).toordinal()
"""From `FIRST_DAY` on, a day is a number: how many days it is behind this one."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]")
"""What XML cannot hold, and what it would not give back; written `_xHHHH_` (ECMA-376, 22.9.2.19)."""
ESCAPE = re.compile("(_x[0-9a-fA-F]{4}_)")
ODD = re.compile(f"[&<>]|{CONTROL.pattern}|{ESCAPE.pattern}")
MADE = datetime(1980, 1, 1)  # noqa: DTZ001 a workbook says when it was made, without a zone; the same bytes every time


def build(table: Table, kinds: Sequence[Kind], path: Path) -> None:
    """One sheet with the rows, one with what the codebook says of the columns. Instants are text, in UTC."""
    import xlsxwriter
    from xlsxwriter.utility import xl_col_to_name

    if len(table.columns) > MOST_COLUMNS:
        raise Refused(_too_large(f"{MOST_COLUMNS:,} columns"))
    with xlsxwriter.Workbook(str(path), {"constant_memory": True, "tmpdir": str(path.parent)}) as book:
        book.set_properties({"created": MADE, "title": table.label})
        day, head = book.add_format({"num_format": "yyyy-mm-dd"}), book.add_format({"bold": True})
        sheet = book.add_worksheet("Rows")
        sheet.freeze_panes(1, 0)
        # The library takes six times as long cell by cell, so the rows are put straight into the file that it keeps
        # them in until the end (tests compare them with what it writes itself). It asks what is used of the sheet.
        letters = [xl_col_to_name(place) for place in range(len(table.columns))]
        bold = f' s="{head._get_xf_index()}"'
        titles = [
            _text_cell(f"{letter}1", bold, column.name) for letter, column in zip(letters, table.columns, strict=True)
        ]
        sheet.row_data_fh.write(f'<row r="1">{"".join(titles)}</row>')
        styles = {Kind.DAY: f' s="{day._get_xf_index()}"'}
        made = [_Cells(letter, kind, styles.get(kind, "")) for letter, kind in zip(letters, kinds, strict=True)]
        line = 2
        for columns in chunks(table, kinds):
            behind = line + len(columns[0])
            if behind > MOST_ROWS + 1:
                raise Refused(_too_large(f"{MOST_ROWS - 1:,} rows"))
            lines = list(map(str, range(line, behind)))
            written = [cells.written(lines, values) for cells, values in zip(made, columns, strict=True)]
            rows = map("".join, zip(*written, strict=True))
            sheet.row_data_fh.writelines(
                f'<row r="{number}">{row}</row>' for number, row in zip(lines, rows, strict=True)
            )
            line = behind
        sheet.dim_rowmin, sheet.dim_rowmax, sheet.dim_colmin, sheet.dim_colmax = 0, line - 2, 0, len(letters) - 1
        _columns(book.add_worksheet("Columns"), table, head)


def _too_large(what: str) -> str:
    return f"A worksheet holds at most {what}. Take the table as Parquet or CSV, or choose fewer visits or instruments."


class _Cells:
    """The cells of a column, as a worksheet says them (ECMA-376, 18.3.1.4): nothing at all where there is no value."""

    def __init__(self, letter: str, kind: Kind, style: str) -> None:
        self.before, self.kind, self.style = f'<c r="{letter}', kind, style

    def written(self, lines: Sequence[str], values: Sequence[Any]) -> list[str]:
        """One for each of these lines."""
        said: Any
        match self.kind:
            case Kind.WHOLE | Kind.REAL:
                said = map('"><v>{:.16G}</v></c>'.format, (0 if value is None else value for value in values))
            case Kind.TRUTH:
                said = (f'" t="b"><v>{value:d}</v></c>' if value is not None else "" for value in values)
            case Kind.DAY:
                said = map(self._known(values, self._day).get, values)
            case Kind.INSTANT:
                said = map(self._known(values, lambda value: _said(text_of(value))).get, values)
            case _:
                said = map(self._known(values, _said).get, values)
        before = self.before
        return [
            "" if value is None else f"{before}{line}{text}"
            for line, value, text in zip(lines, values, said, strict=True)
        ]

    def _known(self, values: Sequence[Any], say: Callable[[Any], str]) -> dict[Any, str]:
        """What is said of each value; most stand in many rows."""
        return {value: say(value) for value in set(values) if value is not None}

    def _day(self, value: date) -> str:
        if value < FIRST_DAY:
            return _said(value.isoformat())
        return f'"{self.style}><v>{value.toordinal() - BEFORE_FIRST}</v></c>'


def _text_cell(where: str, style: str, text: str) -> str:
    return f'<c r="{where}{_said(text, style)}'


def _said(text: str, style: str = "") -> str:
    """A text within its cell, so that it is never run, linked or read as something else; Refused if it is too long."""
    if len(text) > LONGEST // 2 and len(text.encode("utf-16-le", "surrogatepass")) > 2 * LONGEST:
        raise Refused(f"A cell of a worksheet holds at most {LONGEST:,} characters. Take the table as CSV or Parquet.")
    if ODD.search(text):
        text = ESCAPE.sub(r"_x005F\1", text)
        text = CONTROL.sub(lambda found: f"_x{ord(found[0]):04X}_", text)
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    kept = ' xml:space="preserve"' if text[:1].isspace() or text[-1:].isspace() else ""
    return f'"{style} t="inlineStr"><is><t{kept}>{text}</t></is></c>'


def _columns(sheet: Any, table: Table, head: Any) -> None:
    for place, said in enumerate(("Column", "What it is", "Kind", "Unit", "Values")):
        sheet.write_string(0, place, said, head)
    for line, column in enumerate(table.columns, start=1):
        values = "; ".join(f"{code} = {label}" for code, label in column.choices)
        for place, text in enumerate((column.name, column.label, column.type.value, column.unit or "", values)):
            sheet.write_string(line, place, text[:LONGEST])
