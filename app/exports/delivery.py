"""How does a file reach the person who asked? Streamed from a snapshot of its own, counted and hashed on its way."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import chain

from sqlmodel import Session

from app.exports import actions, casebooks, reads
from app.exports.batches import Batched
from app.exports.changes import Head, head_of
from app.exports.choice import EVERYTHING, Choice
from app.exports.formats import Format, encoded
from app.exports.formats.bundle import MEDIA_TYPE, bundled
from app.exports.formats.standards import Standard, whole_file
from app.exports.tables import Row, Table
from app.exports.whole import Casebook
from app.foundation.clock import today
from app.foundation.database import Database
from app.foundation.errors import NotFound
from app.people.access import Actor
from app.studies.in_use import StudyInUse

EXTENSIONS = tuple(dict.fromkeys(one.extension for one in Format))
STANDARD_EXTENSIONS = tuple(one.extension for one in Standard)
WHOLE = "all"
"""What stands in an address in place of a table, for a file of the whole study."""


@dataclass(frozen=True)
class Delivery:
    """One export on its way: what it is called, and its bytes. The bytes are read once, after the request's session."""

    file_name: str
    media_type: str
    headers: dict[str, str]
    body: Iterator[bytes]

    def begun(self) -> "Delivery":
        """The same with its first piece made, so that what cannot be made is refused before an answer has begun.

        For after the request's session has committed: that the file is taken is written down before its first byte.
        """
        body = iter(self.body)
        return replace(self, body=chain([next(body, b"")], body))


@dataclass
class Tally:
    """What was delivered so far: rows; of each finished file its name, rows, bytes and SHA-256.

    `bytes` and `sha256` are of the file that was finished last: at the end, of the whole.
    """

    rows: int = 0
    head: Head | None = None
    files: list[dict[str, str | int]] = field(default_factory=list)
    bytes: int = 0
    sha256: str = ""


def format_named(extension: str, *, spreadsheet: bool = False) -> Format:
    """The format of tables behind a file's extension; NotFound when there is none."""
    if spreadsheet and extension == "csv":
        return Format.SPREADSHEET
    if spreadsheet or extension not in EXTENSIONS:
        raise NotFound
    return Format(extension)


def any_named(extension: str, *, spreadsheet: bool = False) -> Format | Standard:
    """The format behind a file's extension, of tables or of whole studies; NotFound when there is none."""
    if extension in STANDARD_EXTENSIONS and not spreadsheet:
        return Standard(extension)
    return format_named(extension, spreadsheet=spreadsheet)


def file_name(study: StudyInUse, table: str, format: Format, now: datetime) -> str:  # noqa: A002
    """Study, table and date; letters, digits, underscores and hyphens only."""
    suffix = "_spreadsheet" if format is Format.SPREADSHEET else ""
    return f"{study.code}_{table}_{_day(study, now)}{suffix}.{format.extension}"


def _day(study: StudyInUse, now: datetime) -> date:
    """The date at the sites of a study; where they have not all the same clock, in UTC."""
    zones = {site.timezone for site in study.definition.sites}
    return today(zones.pop() if len(zones) == 1 else "UTC", now)


def named(table: str, *, dummy: bool) -> str:
    """What a table is called in the names of files and in the log."""
    return f"{table}_with_dummy_arms" if dummy else table


def name_of(study: StudyInUse, choice: Choice, now: datetime, since: int | None = None) -> str:
    """What the file of a choice is called: as that of its table, or as a ZIP of this format; and since which change."""
    called = choice.called if since is None else f"{choice.called}_since_{since}"
    if isinstance(choice.format, Standard):
        return f"{study.code}_{called}_{_day(study, now)}.{choice.format.ending}"
    if not choice.is_bundle:
        return file_name(study, called, choice.format, now)
    return f"{study.code}_{called}_{_day(study, now)}_{choice.format.value}.zip"


def media_type_of(choice: Choice) -> str:
    """The media type of the file of a choice."""
    return MEDIA_TYPE if choice.is_bundle else choice.format.media_type


def deliver(
    session: Session,
    database: Database,
    study: StudyInUse,
    table: str,
    format: Format | Standard,  # noqa: A002
    *,
    choice: Choice = EVERYTHING,
    bom: bool = False,
    dummy: bool = False,
    since: int | None = None,
    by: Actor,
    clock: Callable[[], datetime],
) -> Delivery:
    """One table: write the export down in this (writing) session, and prepare the file, read after it has committed.

    With `dummy`, its arms are dummy ones (app.exports.dummy), and its name, a header and the log say so. `choice` says
    which instruments, visits and sites are in it, and how it looks. A standard holds the whole study: its table is
    `all`.
    """
    if isinstance(format, Standard):
        if table != WHOLE or dummy:
            raise NotFound
        whole = choice.model_copy(update={"tables": (), "format": format})
        return deliver_choice(session, database, study, whole, since=since, by=by, clock=clock)
    # Refuses here, while a refusal can still be answered; and knows no other table than those there are.
    reads.open_export(session, study, table, by=by, dummy=dummy, choice=choice)
    arms = "dummy" if dummy else "none"
    wanted = choice.model_copy(update={"tables": (table,), "format": format, "bom": bom, "arms": arms})
    return deliver_choice(session, database, study, wanted, since=since, by=by, clock=clock)


def deliver_choice(
    session: Session,
    database: Database,
    study: StudyInUse,
    choice: Choice,
    *,
    since: int | None = None,
    by: Actor,
    clock: Callable[[], datetime],
) -> Delivery:
    """Everything that is chosen, as one file: a table, or a ZIP of several with their codebook."""
    casebooks.require_possible(session, study, choice, since=since, by=by)
    now = clock()
    name = name_of(study, choice, now, since)
    run = actions.begin(session, study, choice, since=since, file_name=name, state="begun", by=by, now=now)
    return Delivery(
        file_name=name,
        media_type=media_type_of(choice),
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Equipoise-Study-Version": study.definition.version,
            # Read before the snapshot is, so never too large: whoever asks for what changed since misses nothing.
            "X-Equipoise-Change": str(head_of(session, study).size),
            "X-Equipoise-Export": str(run),
            # It is made as it leaves, and how long it will be is not known: only a kept file goes on in the middle.
            "Accept-Ranges": "none",
            **({"X-Equipoise-Arms": "dummy"} if choice.dummy else {}),
        },
        body=_body(database, study, choice, run, since=since, by=by, clock=clock),
    )


def _body(
    database: Database,
    study: StudyInUse,
    choice: Choice,
    run: int,
    *,
    since: int | None,
    by: Actor,
    clock: Callable[[], datetime],
) -> Iterator[bytes]:
    tally = Tally()
    with database.reading() as session:
        yield from pieces(session, study, choice, tally, since=since, by=by)
    with database.writing() as session:
        actions.finish(session, study, choice, run, tally, by=by, now=clock())


def pieces(
    session: Session, study: StudyInUse, choice: Choice, tally: Tally, *, since: int | None = None, by: Actor
) -> Iterator[bytes]:
    """The file of a choice, from this session's snapshot; `tally` is told how far it is."""
    tally.head = head_of(session, study)
    if isinstance(choice.format, Standard):
        yield from _whole(session, study, choice, choice.format, tally, since=since, by=by)
        return
    names = reads.tables_of(session, study, choice, by=by)
    if not choice.is_bundle:
        yield from _table(session, study, names[0], choice, tally, since=since, by=by)
        return
    yield from _measured(bundled(_files(session, study, names, choice, tally, since=since, by=by)), tally)


def _measured(made: Iterator[bytes], tally: Tally) -> Iterator[bytes]:
    """The pieces of a file; once it is whole, the tally has its bytes and SHA-256."""
    digest, size = hashlib.sha256(), 0
    for piece in made:
        digest.update(piece)
        size += len(piece)
        yield piece
    tally.bytes, tally.sha256 = size, digest.hexdigest()


def _whole(
    session: Session,
    study: StudyInUse,
    choice: Choice,
    standard: Standard,
    tally: Tally,
    *,
    since: int | None,
    by: Actor,
) -> Iterator[bytes]:
    """The whole study in a standard format; a row is a participant."""
    whole = casebooks.open_whole(session, study, choice, since=since, by=by)

    def counted() -> Iterator[Casebook]:
        tally.rows = 0
        for casebook in whole.casebooks():
            tally.rows += 1
            yield casebook

    yield from _measured(whole_file(replace(whole, casebooks=counted), standard), tally)
    name = f"{WHOLE}.{standard.ending}"
    said: dict[str, str | int] = {
        "name": name,
        "rows": tally.rows,
        "bytes": tally.bytes,
        "sha256": tally.sha256,
    }
    tally.files.append(said)


def _files(
    session: Session,
    study: StudyInUse,
    names: list[str],
    choice: Choice,
    tally: Tally,
    *,
    since: int | None,
    by: Actor,
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The files of a ZIP: each table, with CSV a script for R beside it; the codebook; at last what is in it."""
    for name in names:
        written = choice.model_copy(update={"format": Format.CSV}) if name == "codebook" else choice
        yield f"{name}.{written.format.extension}", _table(session, study, name, written, tally, since=since, by=by)
        if written.format is Format.CSV and name != "codebook":
            script = choice.model_copy(update={"format": Format.R})
            opened = reads.open_export(session, study, name, by=by, dummy=choice.dummy, choice=script, since=since)
            yield f"{name}.R", encoded(opened, Format.R)
    said = {
        "study": study.code,
        "study_version": study.definition.version,
        "asked": choice.said(),
        "since": since,
        "files": tally.files,
    }
    yield "contents.json", iter([json.dumps(said, ensure_ascii=False, indent=1).encode()])


def _table(
    session: Session,
    study: StudyInUse,
    name: str,
    choice: Choice,
    tally: Tally,
    *,
    since: int | None,
    by: Actor,
) -> Iterator[bytes]:
    assert isinstance(choice.format, Format)
    before = tally.rows

    def told(rows: int) -> None:
        tally.rows += rows

    def counted(found: Iterator[Row]) -> Iterator[Row]:
        return found.counted(told) if isinstance(found, Batched) else one_by_one(found)

    def one_by_one(found: Iterator[Row]) -> Iterator[Row]:
        for row in found:
            tally.rows += 1
            yield row

    def opened() -> Table:
        tally.rows = before
        table = reads.open_export(session, study, name, by=by, dummy=choice.dummy, choice=choice, since=since)
        return replace(table, rows=counted(table.rows), reopened=opened)

    yield from _measured(encoded(opened(), choice.format, bom=choice.bom), tally)
    tally.files.append(
        {
            "name": f"{name}.{choice.format.extension}",
            "rows": tally.rows - before,
            "bytes": tally.bytes,
            "sha256": tally.sha256,
        }
    )
