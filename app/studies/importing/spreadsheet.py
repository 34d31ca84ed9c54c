"""What do the sheets of a spreadsheet (XLSX) say? Rows of texts, read with nothing but a ZIP and the XML in it."""

import io
import re
import zipfile
import zlib

from app.studies.importing.markup import Node, all_text, root_of
from app.studies.importing.report import Failed

MOST_CELLS = 200_000
LARGEST_PART = 20_000_000  # bytes of one part, unpacked
LARGEST_WHOLE = 40_000_000  # bytes of all parts together, and characters of all cells: both may be said many times
MOST_SHEETS = 100
MOST_COLUMNS = 1000
NOT_READ = (
    "This is a ZIP or a spreadsheet (XLSX) that cannot be read. Unpack it, or save the sheet as CSV in UTF-8. An "
    "XLSForm is read as it is: a spreadsheet with the sheets survey, choices and settings."
)
TOO_MUCH = f"The spreadsheet unpacks to more than {LARGEST_WHOLE // 1_000_000} MB. Keep the form in it alone."
_ADDRESS = re.compile(r"([A-Z]{1,3})[0-9]{1,7}").fullmatch
_WHOLE = re.compile(r"(-?[0-9]+)\.0+").fullmatch


def sheets_of(data: bytes) -> dict[str, list[list[str]]]:
    """The rows of each sheet, by its name in small letters; `Failed` when it is no spreadsheet. Nothing is computed."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _sheets(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, OSError, RuntimeError) as problem:
        raise Failed(NOT_READ) from problem


def _sheets(archive: zipfile.ZipFile) -> dict[str, list[list[str]]]:
    parts = _Parts(archive)
    workbook, links = parts.read("xl/workbook.xml"), parts.read("xl/_rels/workbook.xml.rels")
    targets = {_of(link, "Id"): _of(link, "Target") for link in links.children}
    shared: list[str] = []
    if "xl/sharedStrings.xml" in archive.namelist():
        shared = [_words(each).strip() for each in parts.read("xl/sharedStrings.xml").children]
    found: dict[str, list[list[str]]] = {}
    left, letters = MOST_CELLS, LARGEST_WHOLE
    for place, sheet in enumerate(workbook.within("other:sheet")):
        if place >= MOST_SHEETS:
            raise Failed(f"The spreadsheet has more than {MOST_SHEETS} sheets. Keep the form in it alone.")
        target = targets.get(_of(sheet, "id"), "")
        if not target.endswith(".xml"):
            continue
        path = target.removeprefix("/") if target.startswith("/") else f"xl/{target}"
        rows, cells = _rows(parts.read(path), shared)
        left -= cells
        letters -= sum(len(cell) for row in rows for cell in row)
        if left < 0:
            raise Failed(f"The spreadsheet has more than {MOST_CELLS:,} cells. Keep the form in it alone.")
        if letters < 0:
            raise Failed(TOO_MUCH)
        found.setdefault(_of(sheet, "name").strip().lower(), rows)
    return found


class _Parts:
    """The parts of one spreadsheet, each unpacked when it is asked for; never more than the limits."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.left = LARGEST_WHOLE

    def read(self, path: str) -> Node:
        """One part; a program that writes spreadsheets packs them in one way only."""
        packed = self.archive.getinfo(path)
        if packed.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Failed(NOT_READ)
        with self.archive.open(packed) as stream:
            data = stream.read(LARGEST_PART + 1)
        if len(data) > LARGEST_PART:
            raise Failed(f"A part of the spreadsheet unpacks to more than {LARGEST_PART // 1_000_000} MB.")
        self.left -= len(data)
        if self.left < 0:
            raise Failed(TOO_MUCH)
        try:
            return root_of(data.decode("utf-8-sig"))
        except UnicodeDecodeError as problem:
            raise Failed(NOT_READ) from problem


def _of(node: Node, name: str) -> str:
    """An attribute, in whatever space it stands."""
    return next((value for key, value in node.attributes.items() if key.rpartition(":")[2] == name), "")


def _rows(sheet: Node, shared: list[str]) -> tuple[list[list[str]], int]:
    rows: list[list[str]] = []
    count = 0
    for row in sheet.within("other:row"):
        number = _of(row, "r")
        at = int(number) if number.isdecimal() and len(number) < 8 else len(rows) + 1
        if at > MOST_CELLS:
            break
        rows += [[] for _ in range(len(rows), at - 1)]  # rows that are blank are left out of the file
        cells: list[str] = []
        for cell in row.all("other:c"):
            count += 1
            place = _column(_of(cell, "r"))
            if place is None or place < len(cells):
                place = len(cells)
            if place >= MOST_COLUMNS:
                break
            cells += [""] * (place - len(cells))
            cells.append(_text(cell, shared))
        rows.append(cells)
    return rows, count


def _column(address: str) -> int | None:
    found = _ADDRESS(address)
    if found is None:
        return None
    number = 0
    for letter in found[1]:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _text(cell: Node, shared: list[str]) -> str:
    kind, value = _of(cell, "t"), all_text(cell.first("other:v"))
    if kind == "s":
        return shared[int(value)] if value.isdecimal() and int(value) < len(shared) else ""
    if kind == "inlineStr":
        return "".join(_words(each) for each in cell.all("other:is"))
    if kind == "b":
        return {"1": "TRUE", "0": "FALSE"}.get(value, value)
    whole = _WHOLE(value) if kind in ("", "n") else None
    return whole[1] if whole else value


def _words(node: Node) -> str:
    """The text of a string, in whatever runs it is written; how it is read aloud (rPh) is none of it."""
    if node.tag in ("other:t",):
        return node.text
    return "".join(_words(child) for child in node.children if child.tag in ("other:t", "other:r", "other:is"))
