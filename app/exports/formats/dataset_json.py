"""How does a study become CDISC Dataset-JSON 1.1? A ZIP with a dataset for each SDTM domain, and a Define-XML.

How many records a dataset has stands before them: the rows of all domains are written to private files first, in one
reading of the casebooks, and then behind their heads. Of what changed since, a dataset of its own says which records
are replaced and which are gone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from app.exports.formats.bundle import bundled
from app.exports.formats.define import define_xml, item_oid, version_oid
from app.exports.formats.odm import instant
from app.exports.formats.sdtm import Domain, changes, domains
from app.exports.formats.typed import scratch
from app.exports.whole import Whole

VERSION = "1.1.0"
TOGETHER = 500
"""Rows that leave in one piece."""


def written(whole: Whole, *, lines: bool) -> Iterator[bytes]:
    """The ZIP in pieces; `lines` for NDJSON, a row on each line."""
    found = domains(whole)
    there: dict[str, int] = {}
    if whole.since is not None:
        found.append(changes(whole, there))
    with scratch() as folder:
        counts = _kept(whole, found, folder, there)
        yield from bundled(_files(whole, found, counts, folder, lines=lines))


@dataclass(frozen=True)
class Part:
    """What is wanted of one dataset: how many of its rows (`limit` 0 for all), from which on; its head, its rows."""

    offset: int = 0
    limit: int = 0
    head: bool = True
    rows: bool = True

    def of(self, rows: BinaryIO) -> Iterator[bytes]:
        """The rows that are wanted, a line each."""
        if self.rows:
            yield from islice(rows, self.offset, self.offset + self.limit if self.limit else None)


ALL = Part()


def alone(whole: Whole, domain: Domain, part: Part = ALL, *, lines: bool) -> Iterator[bytes]:
    """One dataset, or a part of it, in pieces, with no Define-XML beside it. `records` counts all of its rows."""
    with scratch() as folder:
        counts = _kept(whole, [domain], folder, {})
        head = head_of(whole, domain, counts[domain.name])
        del head["metaDataRef"]
        path, said = folder / domain.name, orjson.dumps(head if part.head else {})
        if not part.rows:
            yield said + b"\n"
        else:
            yield from _lines(said, path, part) if lines else _document(said, path, part)


def _kept(whole: Whole, found: list[Domain], folder: Path, there: dict[str, int]) -> dict[str, int]:
    """Write the rows of each domain to its file, a row a line; gives how many there are.

    `there` is told how many there are of the casebook at hand.
    """
    counts = dict.fromkeys((domain.name for domain in found), 0)
    files: list[BinaryIO] = [(folder / domain.name).open("wb") for domain in found]
    try:
        for casebook in whole.casebooks():
            for domain, file in zip(found, files, strict=True):
                rows = [orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in domain.rows(casebook)]
                file.writelines(rows)
                counts[domain.name] += len(rows)
                if not domain.is_ours:
                    there[domain.name] = len(rows)
        for domain, file in zip(found, files, strict=True):
            rows = [orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in domain.last_rows()]
            file.writelines(rows)
            counts[domain.name] += len(rows)
    finally:
        for file in files:
            file.close()
    return counts


def _files(
    whole: Whole, found: list[Domain], counts: dict[str, int], folder: Path, *, lines: bool
) -> Iterator[tuple[str, Iterator[bytes]]]:
    for domain in found:
        name = f"{domain.name.lower()}.{'ndjson' if lines else 'json'}"
        head = orjson.dumps(head_of(whole, domain, counts[domain.name]))
        yield name, _lines(head, folder / domain.name) if lines else _document(head, folder / domain.name)
    yield "define.xml", iter([define_xml(whole, found, ending="ndjson" if lines else "json")])


def _lines(head: bytes, path: Path, part: Part = ALL) -> Iterator[bytes]:
    if part.head:
        yield head + b"\n"
    with path.open("rb") as file:
        wanted = part.of(file)
        while rows := list(islice(wanted, TOGETHER)):
            yield b"".join(rows)


def _document(head: bytes, path: Path, part: Part = ALL) -> Iterator[bytes]:
    yield head[:-1] + (b',"rows":[' if part.head else b'"rows":[')
    before = b"\n"
    with path.open("rb") as file:
        wanted = part.of(file)
        while rows := list(islice(wanted, TOGETHER)):
            yield before + b",\n".join(row[:-1] for row in rows)
            before = b",\n"
    yield b"\n]}\n"


def head_of(whole: Whole, domain: Domain, records: int) -> dict[str, Any]:
    """What is said of a dataset, in the order the standard recommends for those who read as it comes."""
    originator = {"originator": whole.study.sponsor} if whole.study.sponsor else {}
    return {
        "datasetJSONCreationDateTime": instant(whole.changed_at),
        "datasetJSONVersion": VERSION,
        "fileOID": f"{whole.file_oid}.{domain.name}",
        "dbLastModifiedDateTime": instant(whole.changed_at),
        **originator,
        "sourceSystem": {"name": "Equipoise", "version": whole.software},
        "studyOID": f"ST.{whole.study.code}",
        "metaDataVersionOID": version_oid(whole),
        "metaDataRef": "define.xml",
        "itemGroupOID": f"IG.{domain.name}",
        "records": records,
        "name": domain.name,
        "label": domain.label,
        "columns": [
            {
                "itemOID": item_oid(domain, variable),
                "name": variable.name,
                "label": variable.label,
                "dataType": variable.type,
                **({"targetDataType": "decimal"} if variable.type == "decimal" else {}),
                **({"keySequence": variable.key} if variable.key else {}),
            }
            for variable in domain.variables
        ],
    }
