"""What can be taken, over REST? Each table in every format, all as a ZIP, and large ones in the background. No arms."""

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from app.api.addressed import address_of
from app.api.filters import OfPerson, Since, Until
from app.api.operations import operations
from app.api.shapes import KEPT, Body, Code, Cursor, Limit, Number, PageOf, Reply, file_contents
from app.dependencies import ApiChange, ApiLoggedPage, ApiPage, Here
from app.exports import actions, delivery, history, reads
from app.exports.choice import Choice
from app.exports.formats import KNOWN, Format
from app.exports.formats.standards import STANDARDS
from app.exports.history import Made
from app.foundation import paging
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.handover import Asked, ChangedSince, bundle_file, kept_file, manifest_of, table_file

router = operations("exports")


A_TABLE: dict[str, Any] = {
    "name": "participants",
    "label": "Participants",
    "row": "One row per participant.",
    "columns": 9,
    "files": {"csv": "/api/v1/studies/resolve/exports/participants.csv"},
}


class TableReply(Reply):
    """A table that can be taken: what one row is, how many columns it has, and where its files are."""

    model_config = ConfigDict(json_schema_extra={"example": A_TABLE})

    name: str
    label: str
    row: str
    columns: int
    files: dict[str, str]


A_ROW = {"participant": "R-0042", "site": "neura", "status": "randomised"}


class ExportsReply(Reply):
    """The tables of a study, and the standards that hold all of it. The table `codebook` describes every column."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "study": "resolve",
                "version": "1",
                "standards": {"odm": "/api/v1/studies/resolve/exports/all.odm"},
                "tables": [A_TABLE],
            }
        }
    )

    study: str
    version: str
    standards: dict[str, str]
    tables: list[TableReply]


@router.get("/exports", name="api.exports")
def exports(here: ApiPage) -> ExportsReply:
    """Every table this token may take."""
    study = here.the_study
    place = f"/api/v1/studies/{study.code}/exports"
    return ExportsReply(
        study=study.code,
        version=study.definition.version,
        standards={extension: f"{place}/{delivery.WHOLE}.{extension}" for extension in delivery.STANDARD_EXTENSIONS},
        tables=[
            TableReply(
                name=table.name,
                label=table.label,
                row=table.row,
                columns=len(table.columns),
                files={extension: f"{place}/{table.name}.{extension}" for extension in delivery.EXTENSIONS},
            )
            for table in reads.catalogue(here.session, study, by=here.actor)
        ],
    )


Spreadsheet = Annotated[
    bool, Query(description="Only CSV: an apostrophe before each text that a spreadsheet would run as a formula.")
]
Mark = Annotated[bool, Query(description="Only CSV: a byte order mark first.")]
AS_UNBLINDED = {"entries_wide": "entries_by_participant"}
"""What a table of the unblinded exports is called there, where it is called otherwise here."""
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}, "example": "(the bytes of the file)"}
BUILT = {known.media_type: BINARY for known in KNOWN.values() if known.build is not None}
OF_STUDIES = {known.media_type: BINARY for known in STANDARDS.values()}
SAYS = "The study version is in X-Equipoise-Study-Version, the change number to go on from in X-Equipoise-Change."


@router.get(
    "/exports/all.zip",
    name="api.export_bundle",
    response_class=StreamingResponse,
    responses={200: {"description": f"A ZIP of the tables. {SAYS}", "content": {"application/zip": BINARY}}},
)
def export_bundle(
    here: ApiLoggedPage,
    asked: Asked,
    format: Annotated[Format, Query(description="What each table is written as.")] = Format.CSV,  # noqa: A002
    table: Annotated[list[Code], Query(max_length=500, description="Only these tables; repeat it.")] = [],  # noqa: B006
    since: ChangedSince = None,
) -> StreamingResponse:
    """All tables (or some) as one ZIP, with the codebook, and a script for R beside each CSV."""
    return bundle_file(here, asked, format, table, since=since)


@router.get(
    "/exports/{table}.{extension}",
    name="api.export",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": f"The file. {SAYS}",
            "content": {**file_contents(A_ROW), **BUILT, **OF_STUDIES},
        }
    },
)
def export(
    here: ApiLoggedPage,
    table: str,
    extension: str,
    asked: Asked,
    spreadsheet: Spreadsheet = False,
    bom: Mark = False,
    since: ChangedSince = None,
) -> StreamingResponse:
    """One table as a file: csv, json, ndjson, xlsx, parquet, sav, dta, xpt, or R for a script that loads the CSV.

    The whole study in a standard format is the table `all`: all.odm, all.odm2, all.dataset_json,
    all.dataset_ndjson, all.fhir; all.odm_definition and all.odm2_definition are its definition without anybody.

    With `since`, a first column `change` says `changed` or `removed`: drop the rows of each key that is named, then add
    the changed ones. Of the whole study, ODM is transactional, the Dataset-JSON beside `CHANGES` replaces records of
    the subjects that are named there, and the FHIR bundle is a transaction of PUT and DELETE. That you took the file
    is written down before the first byte leaves.
    """
    return table_file(here, table, extension, asked, spreadsheet=spreadsheet, bom=bom, since=since)


@router.get(
    "/exports-dummy/{table}.{extension}",
    name="api.dummy_export",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The file, with a column `arm` of dummy arms; X-Equipoise-Arms is `dummy`.",
            "content": {**file_contents({**A_ROW, "arm": "dummy_1"}), **BUILT},
        }
    },
)
def dummy_export(
    here: ApiLoggedPage,
    table: str,
    extension: str,
    asked: Asked,
    spreadsheet: Spreadsheet = False,
    bom: Mark = False,
) -> StreamingResponse:
    """A table in the shape of the unblinded export, with dummy arms: to write a programme before the blind is broken.

    `participants`, `entries_wide`, `entries_by_visit`, each `instrument_...`, and their `codebook`. The dummy arms are
    drawn from the study's code in the ratio of its groups: they say nothing of the arm anybody is in, and the same data
    gives the same file.
    """
    name = AS_UNBLINDED.get(table, table)
    return table_file(here, name, extension, asked, spreadsheet=spreadsheet, bom=bom, dummy=True)


# Made in the background, and kept for a while

A_CHOICE: dict[str, Any] = {"tables": ["entries_by_visit"], "format": "parquet", "visits": ["week18"]}
AN_EXPORT: dict[str, Any] = {
    "number": 12,
    "state": "done",
    "requested_by": "manager",
    "requested_at": "2026-03-15T09:30:00.000000Z",
    "definition": "For the statistician",
    "asked": A_CHOICE,
    "since": 4012,
    "file_name": "resolve_entries_by_visit_chosen_2026-03-15.parquet",
    "study_version": "1",
    "rows": 552,
    "bytes": 48213,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "change": 4711,
    "tree_head": "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9",
    "finished_at": "2026-03-15T09:30:04.000000Z",
    "expires_at": "2026-03-22T09:30:04.000000Z",
    "problem": "It could not be made in several attempts.",
}


class ExportReply(Reply):
    """An export: what was asked for and how far it is; `rows` grows while it is `running`. Its file is kept for a week.

    `state`: `waiting`, `running`, `done`, `failed` (`problem` says why), `expired`; `begun` is one that was streamed
    and broke off.
    """

    model_config = ConfigDict(json_schema_extra={"example": AN_EXPORT})

    number: int
    state: str
    requested_by: str
    requested_at: AwareDatetime
    definition: str | None = None
    asked: Choice
    since: int | None = None
    file_name: str
    study_version: str
    rows: int
    bytes: int | None = None
    sha256: str | None = None
    change: int | None = None
    tree_head: str | None = None
    finished_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    problem: str | None = None


def _reply(made: Made) -> ExportReply:
    values = {name: getattr(made, name) for name in ExportReply.model_fields if name != "asked"}
    return ExportReply(asked=made.choice, **values)


class ExportBody(Body):
    """What is to be exported: a choice, or the name of a definition; `since` a change number for what changed alone."""

    model_config = ConfigDict(json_schema_extra={"example": {"asked": A_CHOICE}})

    asked: Choice | None = None
    definition: Code | None = None
    since: Annotated[int, Field(ge=0, lt=2**31)] | None = None


@router.get("/export-runs", name="api.export_runs")
def export_runs(
    here: ApiPage,
    state: Literal["begun", "waiting", "running", "done", "failed", "expired"] | None = None,
    person: OfPerson = None,
    since: Since = None,
    until: Until = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[ExportReply]:
    """Every export of the study, newest first; `since` is of when it was asked for."""
    page = history.made(
        here.session,
        here.the_study,
        by=here.actor,
        state=state,
        person=person,
        since=since,
        until=until,
        cursor=cursor,
        limit=limit,
    )
    return PageOf(items=[_reply(made) for made in page.rows], next=page.next)


@router.post("/export-runs", name="api.make_export", status_code=202, response_model=ExportReply)
def make_export(here: ApiChange, body: ExportBody) -> Response:
    """Ask for an export that is made in the background: for what is large, and for downloads that can be resumed."""
    if (body.asked is None) == (body.definition is None):
        message = "Say either what is asked for, or the name of a definition."
        raise Invalid([FieldProblem("asked", "required", message)])
    study, choice = here.the_study, body.asked
    if choice is None:
        choice = history.definition_named(here.session, study, body.definition or "", by=here.actor).choice
    made = actions.ask(
        here.session,
        study,
        choice,
        since=body.since,
        definition=body.definition,
        file_name=delivery.name_of(study, choice, here.now, body.since),
        by=here.actor,
        now=here.now,
    )
    where = f"/api/v1/studies/{study.code}/export-runs/{made.number}"
    return here.answer(_reply(made).model_dump(mode="json"), status=202, location=where)


@router.get("/export-runs/{number}", name="api.export_run")
def export_run(here: ApiPage, number: Number) -> ExportReply:
    """One export, and how far it is."""
    return _reply(history.made_numbered(here.session, here.the_study, number, by=here.actor))


@router.get(
    "/export-runs/{number}/file",
    name="api.export_run_file",
    response_class=StreamingResponse,
    responses={
        200: {"description": "The file; its SHA-256 is the ETag.", "content": {"application/octet-stream": BINARY}},
        206: {"description": "The part that Range asked for.", "content": {"application/octet-stream": BINARY}},
        416: {"description": "The file has no such part; Content-Range says how long it is."},
    },
)
def export_run_file(here: ApiLoggedPage, number: Number) -> Response:
    """The file of an export that was made in the background; with Range, from where a download broke off."""
    return kept_file(here, history.made_numbered(here.session, here.the_study, number, by=here.actor))


A_MANIFEST: dict[str, Any] = {"format": "equipoise-export-manifest-1", "study": "resolve", "rows": 552, "change": 4711}


@router.get(
    "/export-runs/{number}/manifest",
    name="api.export_manifest",
    responses={200: {"description": "The manifest, signed.", "content": {"application/json": {"example": A_MANIFEST}}}},
)
def export_manifest(here: ApiPage, number: Number) -> dict[str, Any]:
    """Who took what, when, of which study and software, and what the file was; for `equipoise export verify`."""
    return manifest_of(here, number)


A_DEFINITION: dict[str, Any] = {
    "name": "For the statistician",
    "version": 2,
    "asked": A_CHOICE,
    "defined_at": "2026-03-15T09:30:00.000000Z",
    "defined_by": "manager",
}


class DefinitionReply(Reply):
    """A choice with a name, as it was defined last."""

    model_config = ConfigDict(json_schema_extra={"example": A_DEFINITION})

    name: str
    version: int
    asked: Choice
    defined_at: AwareDatetime
    defined_by: str


class DefinitionBody(Body):
    """A name, and the choice it stands for; under a name there is, as its next version."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "For the statistician", "asked": A_CHOICE}})

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80, pattern=r"^[^\x00]*$")]
    asked: Choice


def _definitions(here: Here, name: str | None = None) -> list[DefinitionReply]:
    found = history.definitions(here.session, here.the_study, by=here.actor, name=name)
    return [
        DefinitionReply(
            name=one.name, version=one.version, asked=one.choice, defined_at=one.defined_at, defined_by=one.defined_by
        )
        for one in found
    ]


@router.get("/export-definitions", name="api.export_definitions")
def export_definitions(here: ApiPage, cursor: Cursor = None, limit: Limit = 50) -> PageOf[DefinitionReply]:
    """What can be run again by its name, as it was defined last."""
    page = paging.page_of_all(_definitions(here), limit, lambda each: (each.name,), str, cursor=cursor)
    return PageOf(items=page.rows, next=page.next)


@router.get("/export-definitions/{name}", name="api.export_definition")
def export_definition(here: ApiPage, name: Annotated[str, Path(max_length=80, pattern=KEPT)]) -> DefinitionReply:
    """One definition, as it was defined last."""
    for each in _definitions(here, name):
        return each
    raise NotFound


@router.post("/export-definitions", name="api.define_export", status_code=201, response_model=DefinitionReply)
def define_export(here: ApiChange, body: DefinitionBody) -> Response:
    """Give a choice a name, to run it again."""
    actions.define(here.session, here.the_study, body.name, body.asked, by=here.actor, now=here.now)
    (found,) = _definitions(here, " ".join(body.name.split()))
    where = address_of(here, "export-definitions", found.name)
    return here.answer(found.model_dump(mode="json"), status=201, location=where)
