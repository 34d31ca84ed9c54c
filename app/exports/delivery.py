"""How does a file reach the person who asked? Streamed from a snapshot of its own, counted and hashed on its way."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlmodel import Session

from app.exports import actions, reads
from app.exports.formats import Format, encoded
from app.exports.tables import Row
from app.foundation.database import Database
from app.foundation.errors import NotFound
from app.people.access import Actor
from app.studies.in_use import StudyInUse

EXTENSIONS = tuple(dict.fromkeys(one.extension for one in Format))


@dataclass(frozen=True)
class Delivery:
    """One export on its way: what it is called, and its bytes. The bytes are read once, after the request's session."""

    file_name: str
    media_type: str
    headers: dict[str, str]
    body: Iterator[bytes]


def format_named(extension: str, *, spreadsheet: bool = False) -> Format:
    """The format behind a file's extension; NotFound when there is none."""
    if spreadsheet and extension == "csv":
        return Format.SPREADSHEET
    if spreadsheet or extension not in EXTENSIONS:
        raise NotFound
    return Format(extension)


def file_name(study: StudyInUse, table: str, format: Format, now: datetime) -> str:  # noqa: A002
    """Study, table and the date in UTC; letters, digits, underscores and hyphens only."""
    suffix = "_spreadsheet" if format is Format.SPREADSHEET else ""
    return f"{study.code}_{table}_{now.astimezone(UTC):%Y-%m-%d}{suffix}.{format.extension}"


def deliver(
    session: Session,
    database: Database,
    study: StudyInUse,
    table: str,
    format: Format,  # noqa: A002
    *,
    bom: bool = False,
    dummy: bool = False,
    by: Actor,
    clock: Callable[[], datetime],
) -> Delivery:
    """Write the export down in this (writing) session, and prepare the file, which is read after it has committed.

    With `dummy`, its arms are dummy ones (app.exports.dummy), and its name, a header and the log say so.
    """
    # Refuses here, while a refusal can still be answered.
    reads.open_export(session, study, table, by=by, dummy=dummy)
    now = clock()
    called = named(table, dummy=dummy)
    actions.record_export(session, study, table=called, format=_logged(format, bom), by=by, now=now)
    name = file_name(study, called, format, now)
    return Delivery(
        file_name=name,
        media_type=format.media_type,
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Equipoise-Study-Version": study.definition.version,
            **({"X-Equipoise-Arms": "dummy"} if dummy else {}),
        },
        body=_body(database, study, table, format, bom=bom, dummy=dummy, by=by, clock=clock),
    )


def named(table: str, *, dummy: bool) -> str:
    """What a table is called in the names of files and in the log."""
    return f"{table}_with_dummy_arms" if dummy else table


def _body(
    database: Database,
    study: StudyInUse,
    table: str,
    format: Format,  # noqa: A002
    *,
    bom: bool,
    dummy: bool,
    by: Actor,
    clock: Callable[[], datetime],
) -> Iterator[bytes]:
    rows = 0
    digest = hashlib.sha256()

    def counted(found: Iterator[Row]) -> Iterator[Row]:
        nonlocal rows
        for row in found:
            rows += 1
            yield row

    with database.reading() as session:
        opened = reads.open_export(session, study, table, by=by, dummy=dummy)
        for piece in encoded(replace(opened, rows=counted(opened.rows)), format, bom=bom):
            digest.update(piece)
            yield piece
    with database.writing() as session:
        actions.record_delivery(
            session,
            study,
            table=named(table, dummy=dummy),
            format=_logged(format, bom),
            rows=rows,
            sha256=digest.hexdigest(),
            by=by,
            now=clock(),
        )


def _logged(format: Format, bom: bool) -> str:  # noqa: A002
    return f"{format}+bom" if bom and format is Format.CSV else str(format)
