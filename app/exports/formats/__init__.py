"""What can a table be written as? One file per format behind this registry; each gives the same bytes every time.

A format is text, and leaves as the rows are read, or is built in a file of its own first. A new one is a member of
`Format`, an entry in `KNOWN`, and a file beside this one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import GetJsonSchemaHandler

from app.exports.formats import parquet, scripts, statistics, workbook
from app.exports.formats.text import BOM, FORMULA, PIECE, neutral, text_of, written_csv, written_json
from app.exports.formats.typed import Build, built
from app.exports.tables import Table

__all__ = ["BOM", "FORMULA", "KNOWN", "PIECE", "Format", "encoded", "neutral", "text_of"]


class Format(StrEnum):
    """What a table can be written as. `spreadsheet` is CSV that no spreadsheet runs; the others are unaltered."""

    CSV = "csv"
    SPREADSHEET = "spreadsheet"
    JSON = "json"
    NDJSON = "ndjson"
    XLSX = "xlsx"
    PARQUET = "parquet"
    SPSS = "sav"
    STATA = "dta"
    SAS = "xpt"
    R = "R"

    @property
    def extension(self) -> str:
        return "csv" if self is Format.SPREADSHEET else self.value

    @property
    def media_type(self) -> str:
        return KNOWN[self].media_type

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """As every enumeration, with an example."""
        schema: dict[str, Any] = handler(core)
        handler.resolve_ref_schema(schema)["examples"] = [Format.CSV.value]
        return schema


@dataclass(frozen=True)
class Known:
    """How a format is written: as pieces of text from a table, or by building a file."""

    media_type: str
    write: Callable[[Table, bool], Iterator[bytes]] | None = None
    build: Build | None = None


KNOWN: dict[Format, Known] = {
    Format.CSV: Known("text/csv; charset=utf-8", lambda table, bom: written_csv(table, bom=bom)),
    Format.SPREADSHEET: Known("text/csv; charset=utf-8", lambda table, _bom: written_csv(table, bom=True, safe=True)),
    Format.JSON: Known("application/json", lambda table, _bom: written_json(table, lines=False)),
    Format.NDJSON: Known("application/x-ndjson", lambda table, _bom: written_json(table, lines=True)),
    Format.XLSX: Known("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", build=workbook.build),
    Format.PARQUET: Known("application/vnd.apache.parquet", build=parquet.build),
    Format.SPSS: Known("application/x-spss-sav", build=statistics.build_spss),
    Format.STATA: Known("application/x-stata-dta", build=statistics.build_stata),
    Format.SAS: Known("application/x-sas-xport", build=statistics.build_sas),
    Format.R: Known("text/plain; charset=utf-8", lambda table, _bom: scripts.r_script(table)),
}


def encoded(
    table: Table,
    format: Format,  # noqa: A002
    *,
    bom: bool = False,
    again: Callable[[], Table] | None = None,
) -> Iterator[bytes]:
    """The file in pieces. `bom` puts a byte order mark before CSV, which the spreadsheet form always has.

    Formats that are built read the table anew by `again` when a column holds values of several kinds.
    """
    known = KNOWN[format]
    if known.write is not None:
        return known.write(table, bom)
    assert known.build is not None
    return built(table, known.build, again=again or table.again)
