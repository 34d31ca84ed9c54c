"""How is an answer written? Rows as CSV, JSON or XML a piece at a time, single values as text, as clients read them."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import orjson
from fastapi.responses import Response, StreamingResponse

Shape = Literal["csv", "json", "xml"]
Cell = str | int | Mapping[str, int]
Row = Sequence[Cell]

CONTENT_TYPES: dict[str, str] = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json; charset=utf-8",
    "xml": "text/xml; charset=utf-8",
    "text": "text/html; charset=utf-8",
}
PIECE = 64 * 1024
XML_HEAD = '<?xml version="1.0" encoding="UTF-8" ?>'
ROOTS = {
    "record": "records",
    "arm": "arms",
    "event": "events",
    "dag": "dags",
    "user": "users",
    "folder": "folders",
}
"""The root of an answer in XML by its kind; every other one is called items."""
EACH = {"folder": "folder"}
"""What stands below it; item, but for these."""

# A cell with one of these stands in quotes, as PHP's fputcsv does it; the delimiter is one of them whatever it is.
_QUOTED = {
    delimiter: re.compile(f'[{re.escape(delimiter)}" \t\r\n]').search for delimiter in (",", "\t", ";", "|", "^")
}
# XML 1.0 has no way to write these. No answer holds one, and what is quoted in a message is cleaned before.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Listing:
    """A list of things: the columns and one row for each. `kind` names the root in XML."""

    columns: Sequence[str]
    rows: Iterable[Row]
    kind: str = ""
    headers: Sequence[str] | None = None
    """What stands above the columns in CSV, when it is not their names."""


def json_text(value: object) -> str:
    """A value as JSON."""
    return orjson.dumps(value).decode()


def xml_text(text: str) -> str:
    """A text between two tags."""
    return escape(_NO_XML.sub(" ", text), quote=False).replace("\r", "&#13;")


def listing(found: Listing, shape: Shape, delimiter: str = ",") -> Response:
    """The whole list at once."""
    body = b"".join(pieces(found, shape, delimiter))
    return Response(body, headers={"Content-Type": CONTENT_TYPES[shape]})


def streamed(body: Iterator[bytes], shape: str) -> Response:
    """A list that is read while it leaves."""
    return StreamingResponse(body, headers={"Content-Type": CONTENT_TYPES[shape]})


def pieces(found: Listing, shape: Shape, delimiter: str = ",") -> Iterator[bytes]:
    """The list as bytes, a piece at a time."""
    write = {"csv": _csv, "json": _json, "xml": _xml}[shape]
    return in_pieces(write(found, delimiter))


def in_pieces(lines: Iterable[str]) -> Iterator[bytes]:
    """Lines as bytes, so many together that each piece is worth sending."""
    waiting: list[str] = []
    size = 0
    for line in lines:
        waiting.append(line)
        size += len(line)
        if size >= PIECE:
            yield "".join(waiting).encode()
            waiting.clear()
            size = 0
    yield "".join(waiting).encode()


def plain(text: object) -> Response:
    """One value as it is: a count, a name, a version."""
    return Response(str(text).encode(), headers={"Content-Type": CONTENT_TYPES["text"]})


def as_json(value: object) -> Response:
    """One value as JSON."""
    return Response(orjson.dumps(value), headers={"Content-Type": CONTENT_TYPES["json"]})


def download(data: bytes, media_type: str, name: str) -> Response:
    """A file, with its name where these clients look for it; the letters are named of text alone."""
    plain_name = "".join(each if each.isascii() and each not in '"\\;' else "_" for each in name)
    letters = ";charset=UTF-8" if media_type.startswith("text/") else ""
    return Response(data, headers={"Content-Type": f'{media_type}; name="{plain_name}"{letters}'})


def one(found: Mapping[str, Cell], shape: Shape) -> Response:
    """A single thing: an object in JSON, one row in CSV."""
    if shape == "json":
        return as_json(dict(found))
    return listing(Listing(tuple(found), [tuple(found.values())]), shape)


def csv_line(cells: Iterable[str], delimiter: str = ",") -> str:
    """One line of CSV; quotes are doubled."""
    quoted = _QUOTED[delimiter]
    return delimiter.join(['"' + cell.replace('"', '""') + '"' if quoted(cell) else cell for cell in cells]) + "\n"


def _csv(found: Listing, delimiter: str) -> Iterator[str]:
    yield csv_line(found.headers or found.columns, delimiter)
    for row in found.rows:
        yield csv_line([cell if isinstance(cell, str) else _flat(cell) for cell in row], delimiter)


def _flat(cell: int | Mapping[str, int]) -> str:
    """Rights by form stand in one cell as form:right,form:right."""
    if isinstance(cell, Mapping):
        return ",".join(f"{name}:{value}" for name, value in cell.items())
    return str(cell)


def _json(found: Listing, _: str) -> Iterator[str]:
    columns = found.columns
    before = "["
    for row in found.rows:
        yield before + orjson.dumps(dict(zip(columns, row, strict=True)), default=_mapping).decode()
        before = ","
    yield "]" if before == "," else "[]"


def _mapping(cell: Any) -> Any:
    return dict(cell)


def _xml(found: Listing, _: str) -> Iterator[str]:
    root, each = ROOTS.get(found.kind, "items"), EACH.get(found.kind, "item")
    yield f"{XML_HEAD}\n<{root}>"
    inside = _elements(found.columns)
    for row in found.rows:
        yield f"<{each}>{inside(row)}</{each}>"
    yield f"</{root}>"


def _elements(columns: Sequence[str]) -> Callable[[Row], str]:
    tags = [(f"<{name}>", f"</{name}>") for name in columns]

    def written(row: Row) -> str:
        return "".join(f"{begin}{_xml_cell(cell)}{end}" for (begin, end), cell in zip(tags, row, strict=True))

    return written


def _xml_cell(cell: Cell) -> str:
    if isinstance(cell, Mapping):
        return "".join(f"<{name}>{value}</{name}>" for name, value in cell.items())
    return xml_text(str(cell))
