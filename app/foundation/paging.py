"""Which page of a long list is this? Keyset cursors: opaque text that says where to go on, never an offset."""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnClause, Select
from sqlalchemy.orm import Session

from app.foundation.errors import FieldProblem, Invalid

Row = TypeVar("Row")
Other = TypeVar("Other")

PAGE = 50
LARGEST_PAGE = 500


@dataclass(frozen=True)
class Page(Generic[Row]):
    """One page of rows, and the cursors of its neighbours (None at the ends)."""

    rows: Sequence[Row]
    next: str | None = None
    previous: str | None = None
    total: int | None = None

    def with_rows(self, rows: Sequence[Other]) -> "Page[Other]":
        """The same place in the list, with these rows."""
        return Page(rows, self.next, self.previous, self.total)

    def made(self, make: Callable[[Row], Other]) -> "Page[Other]":
        """The same place in the list, with what is made of each row."""
        return self.with_rows([make(row) for row in self.rows])


def page_of(
    found: Sequence[Row],
    size: int,
    key: Callable[[Row], Sequence[str | int | None]],
    *,
    cursor: str | None,
    backwards: bool,
    total: int | None = None,
) -> Page[Row]:
    """The page of what was found by a query for one row more than `size`, in the order it asked for.

    `key` gives the sort key of a row, as `encode` takes it. The one row more says whether there is a page beyond;
    towards where one came from there always is.
    """
    more, rows = len(found) > size, list(found[:size])
    if backwards:
        rows.reverse()
    if not rows:
        return Page(rows, total=total)
    return Page(
        rows,
        next=encode(*key(rows[-1])) if more or backwards else None,
        previous=encode(*key(rows[0]), backwards=True) if (more if backwards else bool(cursor)) else None,
        total=total,
    )


def page_by_number(
    session: Session,
    query: Select[Any],
    number: ColumnClause[Any],
    *,
    cursor: str | None,
    limit: int | None,
    values: Mapping[str, object] | None = None,
    falling: bool = True,
    named: str = "",
) -> Page[Any]:
    """One page of a query's rows in the order of a number that no two share, in one statement: the newest first.

    `number` is one of the columns that the query asks for, `named` what it is called there when it has a label, and
    `values` are the query's parameters; not `falling`: the oldest first.
    """
    size, name = page_size(limit), named or number.name
    place, backwards = decode(cursor, 1, int) if cursor else ([], False)
    downwards = falling != backwards
    if place:
        query = query.where(number < place[0] if downwards else number > place[0])
    ordered = query.order_by(number.desc() if downwards else number.asc())
    found = session.execute(ordered.limit(size + 1), values).all()
    return page_of(found, size, lambda row: (row._mapping[name],), cursor=cursor, backwards=backwards)


def page_of_all(
    rows: Iterable[Row],
    size: int,
    key: Callable[[Row], tuple[str | int, ...]],
    *kinds: type,
    cursor: str | None = None,
    falling: bool = False,
) -> Page[Row]:
    """One page of a list that is short by nature, and so was read whole; of a long one the database gives the page.

    They stand in the order of `key`, which no two rows share and whose parts are of these `kinds`, each `str` or `int`;
    `falling`, with the highest first. A row that comes or goes meanwhile neither repeats another nor pushes it out.
    """
    place, backwards = decode(cursor, len(kinds), *kinds) if cursor else ([], False)
    downwards = falling != backwards
    ordered = sorted(rows, key=key, reverse=downwards)
    if place:
        after = tuple(place)
        ordered = [row for row in ordered if (key(row) < after if downwards else key(row) > after)]
    return page_of(ordered[: size + 1], size, key, cursor=cursor, backwards=backwards)


def page_in_place(rows: Sequence[Row], size: int, *, cursor: str | None = None) -> Page[Row]:
    """The same of rows that stand where they stand: parts of one version of a study, or what is only added to."""
    numbered = enumerate(rows)
    page = page_of_all(numbered, size, lambda each: (each[0],), int, cursor=cursor)
    return page.made(lambda each: each[1])


def every_page(page_after: Callable[[str | None], Page[Row]]) -> Iterator[Page[Row]]:
    """Each page of a list from its first to its last, one in memory; `page_after` reads the one behind a cursor."""
    cursor: str | None = None
    while True:
        page = page_after(cursor)
        yield page
        cursor = page.next
        if cursor is None:
            return


def encode(*key: str | int | None, backwards: bool = False) -> str:
    """A cursor for the position after (or before) the row with this sort key."""
    raw = json.dumps([int(backwards), *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


def decode(cursor: str, width: int, *kinds: type) -> tuple[list[Any], bool]:
    """The sort key and direction in a cursor; Invalid when it was tampered with or belongs to another list.

    `kinds` says of each part what it is, `str` or `int`; without them a part is text, a whole number or null.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        backwards, *key = json.loads(base64.urlsafe_b64decode(padded.encode()))
        if len(key) != width or type(backwards) is not int or backwards not in (0, 1):  # true and 0.0 equal them
            raise ValueError
        if any(not isinstance(part, str | int | None) or isinstance(part, bool) for part in key):
            raise ValueError
        if kinds and [type(part) for part in key] != list(kinds):
            raise ValueError
        if any(isinstance(part, int) and not 0 <= part < 2**31 for part in key):  # no column holds more
            raise ValueError
        if any("\x00" in part for part in key if isinstance(part, str)):
            raise ValueError
        for part in key:
            str(part).encode()  # half a surrogate pair is text that no database takes
    except (ValueError, TypeError, RecursionError, binascii.Error, UnicodeError):
        raise _not_valid() from None
    return key, bool(backwards)


def instant_in(part: str) -> datetime:
    """The instant that a part of a cursor is, as `isoformat` wrote it; Invalid when it is none."""
    try:
        found = datetime.fromisoformat(part)
        if found.tzinfo is None:
            raise ValueError
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _not_valid() from None


def _not_valid() -> Invalid:
    words = "This page link is not valid any more. Start again from the first page."
    return Invalid([FieldProblem("cursor", "cursor", words)])


def page_size(limit: int | None) -> int:
    """The number of rows asked for, within 1 and LARGEST_PAGE."""
    return PAGE if limit is None else max(1, min(limit, LARGEST_PAGE))
