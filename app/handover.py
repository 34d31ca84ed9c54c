"""What does a request ask of the exports, and how is a file handed over? Shared by the HTML and the JSON doors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from fastapi.responses import Response, StreamingResponse

from app.audit.signing import present
from app.dependencies import Here, database_of
from app.exports import actions, delivery, history
from app.exports.choice import Choice, Code
from app.exports.formats import Format
from app.exports.history import Made
from app.exports.keeping import Kept
from app.exports.manifest import manifest
from app.foundation import clock
from app.foundation.errors import Invalid, NotFound, Refused


def asked(
    instrument: Annotated[list[Code], Query(max_length=500, description="Only these instruments; repeat it.")] = [],  # noqa: B006
    visit: Annotated[list[Code], Query(max_length=500, description="Only these visits; repeat it.")] = [],  # noqa: B006
    site: Annotated[list[Code], Query(max_length=500, description="Only these sites; repeat it.")] = [],  # noqa: B006
    values: Annotated[Literal["codes", "labels"], Query(description="Codes as stored, or their labels.")] = "codes",
    dates: Annotated[
        Literal["kept", "shifted"], Query(description="Shifted: all dates of a participant by as many days.")
    ] = "kept",
    ids: Annotated[Literal["kept", "mapped"], Query(description="Mapped: another code for each participant.")] = "kept",
) -> Choice:
    """What is wanted of a table, and how it looks, as an address says it."""
    return Choice(
        instruments=tuple(dict.fromkeys(instrument)),
        visits=tuple(dict.fromkeys(visit)),
        sites=tuple(dict.fromkeys(site)),
        values=values,
        dates=dates,
        ids=ids,
    )


Asked = Annotated[Choice, Depends(asked)]
IN_ADDRESSES = {"instruments": "instrument", "visits": "visit", "sites": "site", "tables": "table"}
"""A field of a choice -> what an address calls it."""


@contextmanager
def as_sent() -> Iterator[None]:
    """Problems of a choice that came in an address name its parameters, not the fields that they become."""
    try:
        yield
    except Invalid as problem:
        raise Invalid(
            [replace(each, field=IN_ADDRESSES.get(each.field, each.field)) for each in problem.problems]
        ) from None


ChangedSince = Annotated[
    int | None,
    Query(ge=0, lt=2**31, description="Only what changed from this change number on, and what was removed."),
]


def streamed(here: Here, sent: delivery.Delivery) -> StreamingResponse:
    """An export on its way. That it is taken is committed first; what cannot be made is refused before it begins."""
    here.session.commit()
    sent = sent.begun()
    return StreamingResponse(sent.body, media_type=sent.media_type, headers=sent.headers)


def table_file(
    here: Here,
    table: str,
    extension: str,
    choice: Choice,
    *,
    spreadsheet: bool = False,
    bom: bool = False,
    dummy: bool = False,
    since: int | None = None,
) -> StreamingResponse:
    """One table as a file."""
    with as_sent():
        sent = delivery.deliver(
            here.session,
            database_of(here.request),
            here.the_study.own,
            table,
            delivery.any_named(extension, spreadsheet=spreadsheet),
            choice=choice,
            bom=bom,
            dummy=dummy,
            since=since,
            by=here.actor,
            clock=clock.now,
        )
    return streamed(here, sent)


def bundle_file(
    here: Here,
    choice: Choice,
    format: Format,  # noqa: A002
    tables: list[str],
    *,
    since: int | None = None,
) -> StreamingResponse:
    """Several tables, or all, as one ZIP."""
    wanted = choice.model_copy(update={"format": format, "tables": tuple(dict.fromkeys(tables))})
    if len(wanted.tables) == 1 and not wanted.is_whole:
        # One table in a ZIP is asked for by name with its codebook.
        wanted = wanted.model_copy(update={"tables": (*wanted.tables, "codebook")})
    with as_sent():
        sent = delivery.deliver_choice(
            here.session,
            database_of(here.request),
            here.the_study.own,
            wanted,
            since=since,
            by=here.actor,
            clock=clock.now,
        )
    return streamed(here, sent)


def kept_file(here: Here, made: Made) -> Response:
    """The file of an export that was made in the background; a part of it when the request asks for one (RFC 9110).

    The fingerprint is its entity tag, so that a download that broke off goes on only when it is the same file.
    """
    if reason := history.why_no_file(made, by=here.actor):
        raise Refused(reason, action="export.take", subject=f"/export/{made.number}")
    kept = Kept(here.settings.exports, database_of(here.request).keys, made.number, made.attempts)
    if not kept.is_there or made.bytes is None:
        raise NotFound
    tag = f'"{made.sha256}"'
    headers = {
        "Content-Disposition": f'attachment; filename="{made.file_name}"',
        "Accept-Ranges": "bytes",
        # As it lies there: packed on its way it would have no length, and no place to go on from.
        "Content-Encoding": "identity",
        "ETag": tag,
        "X-Equipoise-Study-Version": made.study_version,
        "X-Equipoise-Change": str(made.change),
    }
    asked_for = here.request.headers.get("Range", "")
    if here.request.headers.get("If-Range", tag) != tag:
        asked_for = ""
    part = part_of(asked_for, made.bytes)
    if part == ():
        return Response(status_code=416, headers={"Content-Range": f"bytes */{made.bytes}"})
    first, last = part or (0, made.bytes - 1)
    # Any part, not the first alone: what is behind the first byte is as good as the whole.
    actions.record_taking(here.session, here.the_study.own, made, first=first, by=here.actor, now=here.now)
    headers["Content-Length"] = str(max(last - first + 1, 0))
    if part:
        headers["Content-Range"] = f"bytes {first}-{last}/{made.bytes}"
    pieces: Iterator[bytes] = kept.read(first, last) if made.bytes else iter(())
    return StreamingResponse(
        pieces,
        status_code=206 if part else 200,
        media_type=delivery.media_type_of(made.choice),
        headers=headers,
    )


def manifest_of(here: Here, number: int) -> dict[str, Any]:
    """The signed manifest of a finished export; Refused while it is being made, or when it broke off."""
    made = history.made_numbered(here.session, here.the_study.own, number, by=here.actor)
    if not made.is_done:
        reason = "There is no manifest: its file was not made to the end. Wait for it, or ask for the export again."
        raise Refused(reason, action="export.run", subject=f"/export/{number}")
    return manifest(made, here.the_study.own.code, database_of(here.request).keys, present(here.session))


def part_of(asked_for: str, size: int) -> tuple[int, int] | tuple[()] | None:
    """The first and last byte that a Range header asks for; None for the whole, () when there are no such bytes.

    Several ranges, or another unit, are answered with the whole, as a server may (RFC 9110, 14.2).
    """
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", asked_for.replace(" ", ""))
    if not found or not (found[1] or found[2]):
        return None
    if not found[1]:
        length = min(int(found[2]), size)
        return (size - length, size - 1) if length else ()
    first = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if found[2] and int(found[2]) < first:
        return None
    return (first, last) if first < size else ()
