"""What was sent to be imported? Rows of names and texts, from JSON, CSV, XML or ODM."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from app.api.redcap.decoding import Call
from app.api.redcap.errors import NOT_IN_FORMAT, Wrong, shown
from app.foundation.json_parts import items

_point = re.compile(r"(?<=[0-9])\.0+$")
Sent = dict[str, Any]
"""One row: column -> text; rights by form stay a mapping."""


def each_once(pairs: Iterable[tuple[str, Any]]) -> Sent:
    """Names and what was sent for them, as a row. Wrong where a name stands twice: nobody could tell which is meant."""
    found = list(pairs)
    refuse_twice(name for name, _ in found)
    return dict(found)


def refuse_twice(names: Iterable[str]) -> None:
    """Wrong where one of these names stands twice."""
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        listed = ", ".join(map(shown, twice))
        raise Wrong(
            f"The following fields stand there twice, so that nobody could tell which is meant: {listed}. Send each "
            "once."
        )


NUMBERS_AS_SENT = json.JSONDecoder(parse_float=str, parse_constant=str, object_pairs_hook=each_once).raw_decode


def rows_of(call: Call, odm: Callable[[str], list[Sent]] | None = None) -> list[Sent]:
    """The rows of `data` in the format that was said; `odm` reads that format, where it is taken."""
    text, kind = call.raw("data"), call.format
    try:
        if kind == "json":
            return list(_json(text))
        if kind == "csv":
            return list(_csv(text, call))
        if kind == "odm" and odm is not None:
            return odm(text)
        return list(_xml(text))
    except (ValueError, RecursionError, csv.Error):
        # Posted as the format that is XML when nothing is said, this one text goes out as it is.
        raise Wrong(NOT_IN_FORMAT, bare=kind == "xml" and call.return_shape == "xml") from None


def _json(text: str) -> Iterator[Sent]:
    sent: Iterable[Any] = items(text.removeprefix("\ufeff"), NUMBERS_AS_SENT)
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        # PHP writes a list as an object once a row of it was taken out: {"1": {...}, "3": {...}}.
        sent = (row for one in sent for row in (one.values() if _is_list(one) else (one,)))
    for row in sent:
        if not isinstance(row, dict):
            raise ValueError  # noqa: TRY004  # as for everything else that is not in the format
        yield {name: value if isinstance(value, dict) else _text(value) for name, value in row.items()}


def _is_list(found: dict[str, Any]) -> bool:
    return bool(found) and all(name.isdigit() and isinstance(row, dict) for name, row in found.items())


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, str | int):
        return str(value)
    raise ValueError


def columns_of(call: Call) -> list[str]:
    """The names of the columns that CSV was sent with, which stand there though no row may follow; else none."""
    if call.format != "csv":
        return []
    header, _ = _table(call.raw("data"), call)
    return [name for name in header if name]


def _csv(text: str, call: Call) -> Iterator[Sent]:
    header, rows = _table(text, call)
    refuse_twice(name for name in header if name)
    for cells in rows:
        if not any(cells):
            continue
        if any(cell.strip() for cell in cells[len(header) :]):
            raise ValueError
        yield {name: cell for name, cell in zip(header, cells, strict=False) if name}


def _table(text: str, call: Call) -> tuple[list[str], Iterator[list[str]]]:
    """The names in the first line, and the lines after it; ValueError when it is no table."""
    text = text.removeprefix("\ufeff").lstrip("\r\n")
    first = text.partition("\n")[0]
    delimiter = call.delimiter
    if not call.text("csvDelimiter") and "," not in first:
        # A file with other separators, as spreadsheets of some countries write it.
        delimiter = next((each for each in ("\t", ";", "|", "^") if each in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header = [name.strip() for name in next(reader, [])]
    if not header or "" in header[:1] or text.lstrip()[:1] in ("[", "{", "<"):
        raise ValueError
    return header, reader


def _xml(text: str) -> Iterator[Sent]:
    root = xml_root(text)
    # Whatever stands around them, the outermost items are the rows: an item within one is a field of that name.
    found = [item for item in root.iter("item") if next(item.iterancestors("item"), None) is None]
    if not found and len(root):
        raise ValueError  # another thing than rows, of which nothing would be taken without a word
    for item in found:
        yield each_once((cell.tag, _cell(cell)) for cell in item if isinstance(cell.tag, str))


def _cell(cell: Any) -> Any:
    """The text of an element; of one that holds others, each by its name."""
    if not len(cell):
        return cell.text or ""
    return each_once((str(each.tag), (each.text or "").strip()) for each in cell)


def xml_root(text: str) -> Any:
    """The root of an XML document; ValueError when it is none. Nothing outside it is read, and no entity of its own."""
    from lxml import etree  # heavy, and only XML needs it

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
    try:
        root = etree.fromstring(text.removeprefix("\ufeff").strip().encode("utf-8", "surrogatepass"), parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(str(error)) from None
    about: Any = root.getroottree().docinfo
    if about.doctype:
        raise ValueError
    return root


def whole_number(text: str) -> str:
    """A whole number that was read as one with decimals, as a whole number again; anything else as it is.

    A table with blanks in a column of whole numbers is written with 1.0 for 1 by those who read it as numbers.
    """
    return _point.sub("", text)


def same_rows(sent: Sequence[Sent], present: Sequence[Mapping[str, Any]], key: str) -> bool:
    """Whether every row that was sent says what is there: an import of what was exported changes nothing."""
    known = {str(row[key]): row for row in present}
    for row in sent:
        found = known.get(str(row.get(key, "")))
        if found is None:
            return False
        for name, value in row.items():
            if name in found and not _same(value, found[name]):
                return False
    return True


def _same(sent: Any, present: Any) -> bool:
    if isinstance(present, Mapping):
        if isinstance(sent, str):
            sent = dict(part.split(":", 1) for part in sent.split(",") if ":" in part)
        return {name: str(value) for name, value in sent.items()} == {
            name: str(value) for name, value in present.items()
        }
    said, kept = str(sent).strip(), str(present).strip()
    return kept in (said, whole_number(said))
