"""Which script loads a table with its labels? R, with nothing but what comes with it; it reads the CSV beside it."""

import json
import re
from collections.abc import Iterator

from app.exports.formats.typed import Kind, kind_of
from app.exports.tables import Column, ColumnType, Table


def r_script(table: Table) -> Iterator[bytes]:
    """An R script that reads the table's CSV, gives columns their types and labels, and factors their levels.

    A factor keeps the codes in the attribute `codes`. The script reads no row of the table.
    """
    name = table.name
    beside, downloaded = _text(f"{name}.csv"), _text(f"*_{name}_[0-9]*[0-9].csv")
    # R has a function `file`, so that exists("file") alone is always true.
    lines = [
        f"# {_comment(table.label)}: {_comment(table.row)}",
        f"# Loads {name}.csv or the newest download (CSV, as stored) in the folder R works in, or the path in `file`.",
        f"{name} <- read.csv(",
        '  if (exists("file", mode = "character")) file',
        f"  else c(Sys.glob({beside}), rev(Sys.glob({downloaded})), {beside})[1],",
        '  colClasses = "character", na.strings = "", check.names = FALSE, encoding = "UTF-8"',
        ")",
        "",
    ]
    for column in table.columns:
        place = f"{name}[[{_text(column.name)}]]"
        lines += [f"{place} <- {_typed(column, place)}"]
        if column.type in (ColumnType.CHOICE, ColumnType.MISSING) and column.choices:
            lines.append(f'attr({place}, "codes") <- {_vector([code for code, _ in column.choices])}')
        lines.append(f'attr({place}, "label") <- {_text(column.label)}')
        if column.unit:
            lines.append(f'attr({place}, "unit") <- {_text(column.unit)}')
    yield ("\n".join(lines) + "\n").encode()


def _typed(column: Column, place: str) -> str:
    if column.type in (ColumnType.CHOICE, ColumnType.MISSING) and column.choices:
        codes, labels = zip(*column.choices, strict=True)
        return f"factor({place}, levels = {_vector(codes)}, labels = make.unique({_vector(labels)}))"
    match kind_of(column):
        case Kind.WHOLE | Kind.REAL:
            return f"type.convert({place}, as.is = TRUE)"
        case Kind.TRUTH:
            return f'{place} == "true"'
        case Kind.DAY:
            return f"as.Date({place})"
        case Kind.INSTANT:
            return f'as.POSIXct({place}, format = "%Y-%m-%dT%H:%M:%OSZ", tz = "UTC")'
        case _:
            return place


def _vector(texts: object) -> str:
    assert isinstance(texts, list | tuple)
    return f"c({', '.join(map(_text, texts))})"


UNSEEN = re.compile(r"[\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""What nobody sees, such as marks that turn the direction of a text: R refuses a script in which they stand."""


def _text(text: str) -> str:
    r"""A string of R: what JSON writes is one, with \uXXXX and without the two that R does not know."""
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def _comment(text: str) -> str:
    return " ".join(UNSEEN.sub("", text).split())
