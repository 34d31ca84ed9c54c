"""How does a table look to whom it is given? Labels for codes; dates shifted and codes of participants mapped.

De-identification takes what the study alone knows: the shift of a participant, 1 to 365 days back, and their other code
come from the installation's key by HMAC, so they are the same in every table and every export, and nobody without the
key can undo them. Intervals between the dates of a participant stay as they are; of a day with its time the day is
shifted. A date of which a part is unknown cannot be shifted and is left out. Free text is not looked into: leave it out
where it may name days or people.
"""

import base64
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

from app.exports.choice import Choice
from app.exports.tables import BETWEEN, YES_NO, Cell, Column, ColumnType, Plan, Row, Table, form_of, group_form
from app.foundation.crypto.keys import Keyring
from app.studies.definition import Item, ItemType, cell_parts

LABELLED = frozenset({ColumnType.CHOICE, ColumnType.YES_NO, ColumnType.MISSING})
LONGEST_SHIFT = 365
SHIFT = "export date shift"
MAPPING = "export participant mapping"
NUMBERS = "export number mapping"
NUMBERED = {("queries", "query"): "query", ("adverse_events", "number"): "event", ("coding", "event"): "event"}
"""Beside `number`, which columns number what there is of a participant, and what: it is counted over the study."""
WRITTEN = re.compile(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2}(T[0-9:]+)?)?)?")
YES, NO = (label for _, label in YES_NO)
WORDS_OF_ITEMS = Mapping[tuple[str, str], Mapping[Cell, str]]
DATES_OF_ITEMS = Mapping[tuple[str, str], Callable[[Cell, int], Cell]]


def shaped(
    table: Table, choice: Choice, *, keys: Keyring, study: str, dates: DATES_OF_ITEMS, words: WORDS_OF_ITEMS
) -> Table:
    """The table as it is asked for.

    `dates` and `words` are what `dates_of` and `words_of` give, for tables with a row for each answer.
    """
    if table.name == "codebook":
        return table
    if choice.dates == "shifted":
        table = _shifted(table, keys, study, dates)
    if choice.ids == "mapped":
        table = _mapped(table, keys, study)
    if choice.values == "labels":
        table = _labelled(table, words)
    return table


def _labelled(table: Table, of_items: WORDS_OF_ITEMS) -> Table:
    words: dict[int, dict[Cell, str]] = {}
    stored = _stored(table)
    columns = []
    for place, column in enumerate(table.columns):
        if column.type in LABELLED and column.choices:
            known: dict[Cell, str] = dict(column.choices)
            if column.type is ColumnType.YES_NO:
                known = {True: known["true"], False: known["false"]}
            words[place] = known
            column = replace(column, type=ColumnType.TEXT)
        columns.append(column)

    def rows() -> Iterator[Row]:
        for row in table.rows:
            cells = list(row)
            for place, known in words.items():
                if cells[place] is not None:
                    cells[place] = known.get(cells[place], cells[place])
            if stored is not None and (said := of_items.get((str(row[stored[0]]), _item_of(str(row[stored[1]]))))):
                for place in stored[2]:
                    cells[place] = _worded(cells[place], said)
            yield tuple(cells)

    return replace(table, columns=tuple(columns), rows=rows())


def _worded(value: Cell, words: Mapping[Cell, str]) -> Cell:
    """An answer in words; of several choices each of them."""
    if isinstance(value, str) and BETWEEN in value:
        return BETWEEN.join(words.get(each, each) for each in value.split(BETWEEN))
    return words.get(value, value)


def days_back(keys: Keyring, study: str, participant: str) -> int:
    """By how many days the dates of a participant are shifted back, 1 to 365."""
    tag = keys.tag(SHIFT, f"{study}|{participant}".encode())
    return 1 + int.from_bytes(tag[:8], "big") % LONGEST_SHIFT


def mapped_code(keys: Keyring, study: str, participant: str) -> str:
    """The other code of a participant: the same in every export, and no help in finding the first."""
    tag = keys.tag(MAPPING, f"{study}|{participant}".encode())
    return f"ID-{base64.b32encode(tag[:10]).decode()}"


def _shifted(table: Table, keys: Keyring, study: str, dates: DATES_OF_ITEMS) -> Table:
    whose = _place(table, "participant")
    if whose is None:
        return table
    moved = [(place, move) for place, column in enumerate(table.columns) if (move := _move_of(column)) is not None]
    stored = _stored(table)
    back = lru_cache(maxsize=100_000)(lambda code: days_back(keys, study, code))

    def rows() -> Iterator[Row]:
        for row in table.rows:
            cells, days = list(row), back(row[whose])
            for place, move in moved:
                if cells[place] is not None:
                    cells[place] = move(cells[place], days)
            if stored is not None and (back_of := dates.get((str(row[stored[0]]), _item_of(str(row[stored[1]]))))):
                for place in stored[2]:
                    cells[place] = None if cells[place] is None else back_of(cells[place], days)
            yield tuple(cells)

    return replace(table, rows=rows())


def _move_of(column: Column) -> Callable[[Cell, int], Cell] | None:
    """How a cell of this column is shifted, or None when it is no date."""
    if column.is_dated:
        return _written_back
    if column.was_dated:
        return _told_back
    by_type: dict[ColumnType, Callable[[Cell, int], Cell]] = {
        ColumnType.DATE: _day_back,
        ColumnType.INSTANT: _instant_back,
        ColumnType.PARTIAL_DATE: _written_back,
    }
    return by_type.get(column.type)


def _stored(table: Table) -> tuple[int, int, list[int]] | None:
    """Where the instrument, the item and the answers stand in a table with a row for each answer."""
    instrument, item = (_place(table, name) for name in ("instrument", "item"))
    values = [place for place, column in enumerate(table.columns) if column.type is ColumnType.STORED]
    return None if instrument is None or item is None or not values else (instrument, item, values)


def _item_of(name: str) -> str:
    """The item that an answer's name means: of a cell of a group, `group.item`."""
    parts = cell_parts(name) if "[" in name else None
    return name if parts is None else f"{parts[0]}.{parts[2]}"


def _place(table: Table, name: str) -> int | None:
    return next((place for place, column in enumerate(table.columns) if column.name == name), None)


def _day_back(value: Cell, days: int) -> Cell:
    """A day as it is kept: a date, or its text. What is neither cannot be shifted, and is left out."""
    try:
        day = date.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(day, date):  # of a time when the item was no day
            return None
        moved = day - timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return moved.isoformat() if isinstance(value, str) else moved


def _instant_back(value: Cell, days: int) -> Cell:
    assert isinstance(value, datetime)
    return value - timedelta(days=days)


def _written_back(value: Cell, days: int) -> Cell:
    """A day, or a day and a time, as it is written; what is less than a day is left out."""
    day, mark, time = str(value).partition("T")
    moved = _day_back(day, days) if len(day) == len("YYYY-MM-DD") else None
    return None if moved is None else f"{moved}{mark}{time}"


def _told_back(value: Cell, days: int) -> Cell:
    """An answer that may be a day of the time when one was asked for: shifted when it is written like one."""
    return _written_back(value, days) if isinstance(value, str) and WRITTEN.fullmatch(value) else value


def mapped_number(keys: Keyring, study: str, of: str, number: int) -> int:
    """Another number for an event, a query and so on: the study counts them in the order in which they came."""
    tag = keys.tag(NUMBERS, f"{study}|{of}|{number}".encode())
    return int.from_bytes(tag[:8], "big") >> 14  # of 15 digits or fewer, so that every programme holds it


def _mapped(table: Table, keys: Keyring, study: str) -> Table:
    whose = _place(table, "participant")
    if whose is None:
        return table
    other = lru_cache(maxsize=100_000)(lambda code: mapped_code(keys, study, code))
    columns = tuple(
        replace(column, label="Participant, by another code") if place == whose else column
        for place, column in enumerate(table.columns)
    )

    numbered = [
        (place, NUMBERED.get((table.name, column.name), table.name))
        for place, column in enumerate(table.columns)
        if column.name == "number" or (table.name, column.name) in NUMBERED
    ]

    def rows() -> Iterator[Row]:
        for row in table.rows:
            cells = [*row[:whose], other(row[whose]), *row[whose + 1 :]]
            for place, of in numbered:
                number = cells[place]
                if number is not None:
                    cells[place] = mapped_number(keys, study, of, int(str(number)))
            yield tuple(cells)

    return replace(table, columns=columns, rows=_in_order_of(rows(), whose))


def _in_order_of(rows: Iterator[Row], place: int) -> Iterator[Row]:
    """The rows in the order of one column: the order of the old codes would tell who was screened when.

    Kept meanwhile in a database of its own without a name, so that memory does not grow; it is gone once closed.
    """
    import pickle  # what is read back is what was written a moment ago, in a file without a name

    kept: Any = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    try:
        kept.execute(
            "CREATE TABLE kept (whose TEXT, number INTEGER, row BLOB, PRIMARY KEY (whose, number)) WITHOUT ROWID"
        )
        kept.execute("BEGIN")
        kept.executemany(
            "INSERT INTO kept VALUES (?, ?, ?)",
            ((row[place], number, pickle.dumps(row, pickle.HIGHEST_PROTOCOL)) for number, row in enumerate(rows)),
        )
        for (found,) in kept.execute("SELECT row FROM kept ORDER BY whose, number"):
            yield pickle.loads(found)  # noqa: S301
    finally:
        kept.close()


def words_of(plan: Plan) -> WORDS_OF_ITEMS:
    """(instrument, item) -> what each answer is called, of the items with choices and of yes and no."""
    return {
        (code, name): {True: YES, False: NO}
        if item.type is ItemType.YES_NO
        else {choice.code: choice.label for choice in item.choices}
        for code in plan.instruments
        for name, item in _named(plan, code)
        if item.type is ItemType.YES_NO or item.choices
    }


def _named(plan: Plan, code: str) -> Iterator[tuple[str, Item]]:
    """The items of a form by name, of groups `group.item`."""
    for item in plan.items[code]:
        yield item.code, item
    for group, (_, items) in plan.groups[code].items():
        for item in items:
            yield f"{group}.{item.code}", item


def dates_of(plan: Plan) -> DATES_OF_ITEMS:
    """(instrument, item) -> how an answer to it is shifted, of the items that are dates; of groups `group.item`."""
    forms = [(code, "", form_of(plan, code)) for code in plan.instruments]
    forms += [
        (code, f"{group}.", group_form(plan, code, group))
        for code, groups in plan.groups.items()
        for group in groups
        if code in plan.instruments
    ]
    found = {
        (code, f"{before}{column.name}"): move
        for code, before, form in forms
        for column in form.columns()
        if (move := _move_of(column)) is not None
    }
    for code in plan.instruments:  # what has several columns has none of this name
        for name, item in _named(plan, code):
            if (code, item.code) in plan.dated:
                found.setdefault((code, name), _told_back)
    return found
