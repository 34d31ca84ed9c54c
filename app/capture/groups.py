"""How are rows kept? Lists of rows in the document of an entry, one name for each cell wherever it is worked with.

A row that was taken out leaves its place empty, so that the rows behind keep their numbers, and with them their log,
queries and verification.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from app.studies.definition import Instrument, cell_name, cell_parts

ROWS = "[]"  # behind the code of a group in a stored document: no item can be called so


def cells_of(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a stored document by name: item, or group[row].item."""
    values: dict[str, Any] = {}
    for code, value in stored.items():
        if code.endswith(ROWS):
            values.update(_cells(code.removesuffix(ROWS), value))
        else:
            values[code] = value
    return values


def _cells(group: str, rows: Any) -> Iterator[tuple[str, Any]]:
    for number, row in enumerate(rows, 1):
        for item, value in (row or {}).items():
            yield cell_name(group, number, item), value


def document_of(values: Mapping[str, Any], *, mark: str = ROWS) -> dict[str, Any]:
    """Values by name as a document: each group a list of its rows under its code, None where a row was taken out."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        parts = cell_parts(name) if "[" in name else None
        if parts is None:
            found[name] = value
            continue
        group, row, item = parts
        rows = found.setdefault(group + mark, [])
        rows.extend([None] * (row - len(rows)))
        rows[row - 1] = {**(rows[row - 1] or {}), item: value}
    return found


def by_name(form: Instrument | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a client sent, with the rows of its groups by the names of their cells; what is no list of rows is left."""
    named: dict[str, Any] = {}
    for code, value in values.items():
        is_group = form is not None and code in form.groups
        if is_group and isinstance(value, list) and all(isinstance(row, dict | None) for row in value):
            named.update(_cells(code, value))
        else:
            named[code] = value
    return named
