"""How does a table stand in its address? Filters, order and place in it as a query; and its rows as a CSV file."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from urllib.parse import urlencode

from fastapi.responses import StreamingResponse

from app.exports.formats import PIECE
from app.foundation.turns import short_turns

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def address(path: str, query: Mapping[str, str | None], **changes: str | None) -> str:
    """The path with what is set in the query, some of it changed; a change to None leaves it out."""
    kept = {name: value for name, value in {**query, **changes}.items() if value}
    return f"{path}?{urlencode(kept)}" if kept else path


def column(
    label: str,
    key: str,
    path: str,
    query: Mapping[str, str | None],
    *,
    align: str = "",
    default: str = "",
    most_first: bool = False,
) -> dict[str, str]:
    """A heading that sorts by its column, and by it downwards when it does already: ?sort=key, ?sort=-key.

    `most_first`: downwards to begin with, of what is counted.
    """
    sort = query.get("sort") or default
    ascending = sort == key
    falls = sort != f"-{key}" if most_first else ascending
    said = {"label": label, "align": align}
    said["sort"] = address(path, {**query, "after": None, "sort": f"-{key}" if falls else key})
    if sort.lstrip("-") == key:
        said["sorted"] = "ascending" if ascending else "descending"
    return said


def typed_text(text: str | None, longest: int = 100) -> str:
    """What was typed into a filter, without what no database keeps."""
    return "".join(letter for letter in (text or "")[:longest] if letter.isprintable()).strip()


def kept_as(name: str) -> dict[str, str]:
    """The headers with which an answer is a file of this name, and is kept by no cache."""
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}


def csv_file(name: str, heading: Sequence[str], rows: Iterable[Sequence[object]]) -> StreamingResponse:
    """Rows as a CSV file that is sent while they are read. It begins with a byte order mark, for spreadsheets.

    In pieces of many lines: each changes threads on its way to the socket, which takes longer than a line.
    """

    lines = chain([heading], rows)

    @short_turns()  # not while whoever reads it is waited for
    def piece() -> str:
        written = io.StringIO()
        write = csv.writer(written).writerow
        for row in lines:
            write(["" if value is None else _harmless(str(value)) for value in row])
            if written.tell() >= PIECE:
                break
        return written.getvalue()

    def pieces() -> Iterator[str]:
        yield "\ufeff" + piece()
        yield from iter(piece, "")

    return StreamingResponse(pieces(), media_type="text/csv; charset=utf-8", headers=kept_as(f"{name}.csv"))


def _harmless(cell: str) -> str:
    """A cell that a spreadsheet takes for text: what somebody typed must not run as a formula there."""
    if not cell.startswith(FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
