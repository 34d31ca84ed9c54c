"""Data that others collected, over REST: rows of a file are tried or imported, and what columns mean is kept."""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import date
from itertools import chain, islice
from json import JSONDecodeError
from typing import Annotated, Any

from fastapi import Depends, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from pydantic import ConfigDict, Field, ValidationError

from app.api.operations import operations
from app.api.shapes import KEPT, Body, Code, Cursor, Limit, PageOf, Password, Reply, Text, problem_of
from app.dependencies import (
    LARGEST_UPLOAD,
    ApiChange,
    ApiPage,
    Here,
    newest_entry,
    problem_json,
    read_body,
    remembering,
    require_password,
)
from app.foundation import paging
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.foundation.json_parts import Items, members, text_of
from app.importing import Report, carry_out
from app.imports import reads
from app.imports.actions import ACTION, REFUSED, SUBJECT, origin, save_mapping
from app.imports.rules import Cells, FileMapping, can_be_kept, guessed, read_csv, require_who
from app.imports.rules import text_of as csv_text
from app.people.access import require
from app.people.permissions import Permission

router = operations("imports")

A_MAPPING: dict[str, Any] = {
    "participant": "id",
    "visit": {"column": "time", "values": {"1": "baseline", "2": "week18"}},
    "columns": [{"column": "pain_avg", "item": "pain_intensity", "instrument": "pain"}],
    "blank": ["NaN"],
    "missing": "UNK",
}
A_ROW: dict[str, Any] = {"id": "R-0042", "time": 2, "pain_avg": 3}
AN_OUTCOME: dict[str, Any] = {
    "row": 1,
    "participant": "R-0042",
    "visit": "week18",
    "instrument": "pain",
    "outcome": "changed",
    "changes": [{"item": "pain_intensity", "old": 4, "new": 3}],
    "errors": [],
    "candidates": [],
}
A_CANDIDATE: dict[str, Any] = {
    "code": "R-0017",
    "status": "randomised",
    "screened_on": "2026-01-20",
    "shared": ["given_name", "family_name", "date_of_birth"],
    "like_row": None,
}
COUNTS: dict[str, Any] = {"rows": 1, "created": 0, "changed": 1, "unchanged": 0, "left": 0, "refused": 0}
AN_ANSWER: dict[str, Any] = {
    "dry_run": True,
    "imported": False,
    "file": "pain.csv",
    "counts": COUNTS,
    "rows": [AN_OUTCOME],
}


class ImportBody(Body):
    """Rows of a file, or the `csv` itself. `mapping` is the name of one that is kept, or a mapping; None: guessed
    from the names of the columns, which may be those of an export."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"file": "pain.csv", "mapping": A_MAPPING, "rows": [A_ROW], "dry_run": True}},
    )

    rows: list[dict[str, Any]] | None = Field(default=None, description="A row by the names of its columns.")
    csv: str | None = Field(default=None, pattern=KEPT, description="The file itself, in the place of rows.")
    mapping: FileMapping | Code | None = None
    file: Text = Field(default="rows", description="The name of the file; the log says it of every change.")
    dry_run: bool = Field(default=False, description="Try all of it, and take it back.")
    all_or_nothing: bool = Field(default=True, description="False: each row stands by itself.")
    why: Text | None = Field(default=None, description="Why saved answers change; else what the mapping says.")
    password: Password = None


A_BODY = ImportBody.model_json_schema(ref_template="#/components/schemas/{model}")
"""What is sent, for the OpenAPI document; what it is made of stands there for the mappings that are kept."""
A_BODY.pop("$defs", None)


class LikeReply(Reply):
    """Somebody who looks like the person of a row: which fields they share. Whoever comes with the same file has the
    number of their row in `like_row`, and no code: it may be taken back."""

    model_config = ConfigDict(json_schema_extra={"example": A_CANDIDATE})

    code: str | None
    status: str | None
    screened_on: date | None
    shared: list[str]
    like_row: int | None = None


class RefusedLikeReply(LikeReply):
    """The same, with the row that is refused for it."""

    model_config = ConfigDict(json_schema_extra={"example": {"row": 3, **A_CANDIDATE}})

    row: int


class OutcomeReply(Reply):
    """What came of one form of one row: `created`, `changed`, `unchanged`, `refused`; `left` when another form of its
    row is refused. Without an `instrument` it is about the person or the visit. `candidates`: who at the site looks
    like the person it would screen, for whoever may know who they are; that they were shown is in the log."""

    model_config = ConfigDict(json_schema_extra={"example": AN_OUTCOME})

    row: int
    participant: str
    visit: str
    instrument: str
    outcome: str
    changes: list[dict[str, Any]]
    errors: list[dict[str, str]]
    candidates: list[LikeReply]


class ImportReply(Reply):
    """What came of a file, in the order of its rows."""

    model_config = ConfigDict(json_schema_extra={"example": AN_ANSWER})

    dry_run: bool
    imported: bool
    file: str
    counts: dict[str, int]
    rows: list[OutcomeReply]


class MappingReply(Reply):
    """What the columns of a kind of file mean, under a name."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={"example": {"name": "pain diaries", "version": 1, "mapping": A_MAPPING}},
    )

    name: str
    version: int
    mapping: dict[str, Any]


NOTHING_IMPORTED: dict[int | str, dict[str, Any]] = {
    422: problem_of(
        "What was sent is not valid; `errors` names each field and rule, of refused rows `rows.NUMBER` and the field, "
        "and `candidates` who looks like the person of a row.",
        candidates=RefusedLikeReply,
    )
}
A_FILE = "participant,visit,pain_intensity\r\nR-0042,week18,3\r\n"


@router.post(
    "/entries/import",
    name="api.import_entries",
    response_model=ImportReply,
    max_body_size=LARGEST_UPLOAD,
    responses=NOTHING_IMPORTED,
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": A_BODY}}}},
)
def import_entries(here: ApiChange, data: Annotated[bytes, Depends(read_body)]) -> Response:
    """Import the rows of a file by the same acts as on the pages: consent first, checks, locks, reasons, the log.

    The same file again changes nothing. All or nothing (the default) answers 422 when a row is refused, and nothing
    stays; else every good row does. A dry run says what would be created, changed, left or refused.
    """
    require(here.actor, Permission.DATA_IMPORT, action=ACTION, subject=SUBJECT)
    asked, rows = _read(data)
    return _import(here, asked, rows)


MOST_TOLD = 50  # rows that are none


def _read(data: bytes) -> tuple[ImportBody, Items | None]:
    """The body, whose rows are read as they are asked for: as a whole they would take some twenty times its size."""
    try:
        said = members(text_of(data))
    except UnicodeDecodeError:
        raise Invalid([FieldProblem("body", "encoding", "This is not in UTF-8. Send JSON in UTF-8.")]) from None
    except JSONDecodeError as error:
        message = f"This is no JSON ({error.msg}). Mend it at this character, and send it again."
        raise Invalid([FieldProblem(str(error.pos), "json_invalid", message)]) from None
    except RecursionError:
        raise Invalid([FieldProblem("body", "json_invalid", "Something in it stands too deep. Send rows.")]) from None
    except ValueError:
        raise Invalid([FieldProblem("body", "object", "Send an object, with the rows in `rows`.")]) from None
    rows = said.pop("rows") if isinstance(said.get("rows"), Items) else None
    if problems := list(islice(_wrong(rows or ()), MOST_TOLD)):
        raise Invalid(problems)
    try:
        # Nothing else that is asked for is a list.
        asked = ImportBody.model_validate({name: () if isinstance(one, Items) else one for name, one in said.items()})
    except ValidationError as error:
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from None
    return asked, rows


def _wrong(rows: Iterable[Any]) -> Iterator[FieldProblem]:
    """What is no row, or holds what neither database can."""
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            message = "A row is an object, by the names of its columns. Send it as one."
            yield FieldProblem(f"rows.{number}", "dict_type", message)
        elif not all(map(_is_kept_whole, chain(row, row.values()))):
            yield FieldProblem(f"rows.{number}", "control", "There is a character in it that cannot be kept. Mend it.")


def _is_kept_whole(value: object) -> bool:
    if isinstance(value, str):
        return can_be_kept(value)
    if isinstance(value, list | dict):  # no cell is one; what is wrong with that is said where it is read
        parts = deque([value])
        while parts:
            part = parts.pop()
            if isinstance(part, dict):
                parts.extend(chain(part, part.values()))
            elif isinstance(part, list):
                parts.extend(part)
            elif not _is_kept_whole(part):
                return False
    return True


@router.post(
    "/entries/import.csv",
    name="api.import_csv",
    response_model=ImportReply,
    max_body_size=LARGEST_UPLOAD,
    responses=NOTHING_IMPORTED,
    openapi_extra={
        "requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}, "example": A_FILE}}}
    },
)
def import_csv(
    here: ApiChange,
    data: Annotated[bytes, Depends(read_body)],
    mapping: Annotated[str | None, Query(max_length=80, description="A mapping by its name.")] = None,
    file: Annotated[str, Query(max_length=400, examples=["pain.csv"])] = "rows.csv",
    dry_run: Annotated[bool, Query(description="Try all of it, and take it back.")] = False,
    all_or_nothing: Annotated[bool, Query(description="False: each row stands by itself.")] = True,
    why: Annotated[str | None, Query(max_length=1000)] = None,
) -> Response:
    """Import a CSV file as it is: the same as the import of rows, with a mapping that is kept under a name or none."""
    require(here.actor, Permission.DATA_IMPORT, action=ACTION, subject=SUBJECT)
    asked = ImportBody(
        csv=csv_text(data), mapping=mapping, file=file, dry_run=dry_run, all_or_nothing=all_or_nothing, why=why or None
    )
    return _import(here, asked, None, data)


def _import(here: Here, asked: ImportBody, given: Items | None, sent: bytes | None = None) -> Response:
    if (given is None) == (asked.csv is None):
        raise Invalid([FieldProblem("rows", "one", "Send either rows or csv.")])
    rows, columns = _rows(asked.csv, given)
    mapping = _mapping(here, asked, columns, rows)
    if asked.csv is not None:
        require_who(mapping, columns)
    if asked.password:
        require_password(here, asked.password)
    if not asked.all_or_nothing:
        here.release_key()  # a part may stand when the connection breaks; the same file again does the rest
    report = carry_out(
        here.session,
        here.the_study,
        rows,
        mapping,
        origin=origin(asked.file, sent or (rows if asked.csv is None else asked.csv)),
        dry_run=asked.dry_run,
        all_or_nothing=asked.all_or_nothing,
        signs=bool(asked.password),
        newest=newest_entry(here) if mapping.randomise_after else None,
        by=here.actor,
        now=here.now,
    )
    if asked.all_or_nothing and report.is_refused and not asked.dry_run and not report.imported:
        return problem_json(422, _refused(report), "Not valid", candidates=_candidates(report))
    head = {"dry_run": asked.dry_run, "imported": report.imported, "file": asked.file, "counts": dict(report.counts)}
    if report.imported and here.idempotency_key:
        here.answer({**head, "rows": []})  # the same request again gets the counts; a report can be very long
    answer = StreamingResponse(_written(head, report), media_type="application/json")
    return remembering(here, answer) if report.imported and mapping.randomise_after else answer


def _rows(text: str | None, given: Items | None) -> tuple[Iterable[Cells], list[str]]:
    if text is not None:
        header, rows = read_csv(text)
        return rows, header
    assert given is not None
    return given, list(dict.fromkeys(name for row in islice(given, 100) for name in row))


def _mapping(here: Here, asked: ImportBody, columns: list[str], rows: Iterable[Cells]) -> FileMapping:
    if isinstance(asked.mapping, FileMapping):
        mapping = asked.mapping
    elif asked.mapping is not None:
        mapping = reads.mapping_named(here.session, here.the_study, asked.mapping, by=here.actor)
    else:
        mapping = guessed(here.the_study.definition, columns, rows)
    return mapping.model_copy(update={"why": asked.why}) if asked.why else mapping


def _refused(report: Report) -> Invalid:
    """The refusals as a problem: the field is row, form and item."""
    problem = Invalid(
        [
            FieldProblem(
                ".".join(filter(None, [f"rows.{each.row}", each.instrument, error["field"]])),
                error["rule"],
                error["message"],
            )
            for each in report.refusals
            for error in each.errors
        ]
    )
    problem.reason = (
        f"{report.counts[REFUSED]} of what {report.counts['rows']} rows hold is refused, so nothing was imported. "
        "Mend the rows that `errors` names, or send all_or_nothing: false."
    )
    return problem


def _candidates(report: Report) -> list[dict[str, Any]]:
    """Who looks like the person of a row that was refused; the log says already that they were shown."""
    return [
        RefusedLikeReply.model_validate({"row": each.row, **asdict(one)}).model_dump(mode="json")
        for each in report.refusals
        for one in each.candidates
    ]


def _written(head: dict[str, Any], report: Report) -> Iterator[str]:
    yield json.dumps(head, ensure_ascii=False)[:-1] + ', "rows": ['
    for number, line in enumerate(report.lines()):
        yield (", " if number else "") + line
    yield "]}"


@router.get("/import-mappings", name="api.import_mappings")
def import_mappings(here: ApiPage, cursor: Cursor = None, limit: Limit = 50) -> PageOf[MappingReply]:
    """What the columns of files mean, by name."""
    page = paging.page_of_all(_mappings(here), limit, lambda each: (each.name,), str, cursor=cursor)
    return PageOf(items=page.rows, next=page.next)


@router.get("/import-mappings/{name}", name="api.import_mapping")
def import_mapping(here: ApiPage, name: str) -> MappingReply:
    """What the columns of one kind of file mean."""
    for each in _mappings(here):
        if each.name == name:
            return each
    raise NotFound


def _mappings(here: Here) -> list[MappingReply]:
    return [
        MappingReply(name=each.name, version=each.version, mapping=_shown(each.mapping))
        for each in reads.mappings(here.session, here.the_study, by=here.actor)
    ]


def _shown(mapping: FileMapping) -> dict[str, Any]:
    return mapping.model_dump(mode="json", exclude_defaults=True)


@router.put("/import-mappings/{name}", name="api.save_import_mapping", response_model=MappingReply)
def save_import_mapping(here: ApiChange, name: str, asked: FileMapping) -> Response:
    """Keep a mapping under a name; a newer one takes the place of the one before."""
    version = save_mapping(here.session, here.the_study, name, asked, by=here.actor, now=here.now)
    return here.answer({"name": name, "version": version, "mapping": _shown(asked)})
