"""Which tables can be taken, over REST? The list, and each as CSV, JSON or NDJSON. No arm is in any, but dummy ones."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict

from app.api.shapes import Reply, file_contents
from app.dependencies import ApiLoggedPage, ApiPage, Here, database_of
from app.exports import delivery, reads
from app.foundation import clock

router = APIRouter(tags=["exports"])


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
    """The tables of a study. What each column means stands in the table `codebook`."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "study": "resolve",
                "version": "1",
                "tables": [A_TABLE],
            }
        }
    )

    study: str
    version: str
    tables: list[TableReply]


@router.get("/exports", name="api.exports")
def exports(here: ApiPage) -> ExportsReply:
    """Every table this token may take."""
    study = here.the_study
    place = f"/api/v1/studies/{study.code}/exports"
    return ExportsReply(
        study=study.code,
        version=study.definition.version,
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


@router.get(
    "/exports/{table}.{extension}",
    name="api.export",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The file. Its study version is in the header X-Equipoise-Study-Version.",
            "content": file_contents(A_ROW),
        }
    },
)
def export(
    here: ApiLoggedPage, table: str, extension: str, spreadsheet: Spreadsheet = False, bom: Mark = False
) -> StreamingResponse:
    """One table as a file. That you took it is written down before the first byte leaves."""
    return _sent(here, table, extension, spreadsheet, bom, dummy=False)


@router.get(
    "/exports-dummy/{table}.{extension}",
    name="api.dummy_export",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The file, with a column `arm` of dummy arms; X-Equipoise-Arms is `dummy`.",
            "content": file_contents({**A_ROW, "arm": "dummy_1"}),
        }
    },
)
def dummy_export(
    here: ApiLoggedPage, table: str, extension: str, spreadsheet: Spreadsheet = False, bom: Mark = False
) -> StreamingResponse:
    """A table in the shape of the unblinded export, with dummy arms: to write a programme before the blind is broken.

    `participants`, `entries_wide`, `entries_by_visit`, each `instrument_...`, and their `codebook`. The dummy arms are
    drawn from the study's code in the ratio of its groups: they say nothing of the arm anybody is in, and the same data
    gives the same file.
    """
    return _sent(here, AS_UNBLINDED.get(table, table), extension, spreadsheet, bom, dummy=True)


def _sent(here: Here, table: str, extension: str, spreadsheet: bool, bom: bool, *, dummy: bool) -> StreamingResponse:
    sent = delivery.deliver(
        here.session,
        database_of(here.request),
        here.the_study,
        table,
        delivery.format_named(extension, spreadsheet=spreadsheet),
        bom=bom,
        dummy=dummy,
        by=here.actor,
        clock=clock.now,
    )
    return StreamingResponse(sent.body, media_type=sent.media_type, headers=sent.headers)
