"""What are the SDTM datasets of a study, one by one? The shape of CDISC's Dataset-JSON API, blinded as every export."""

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Path, Query
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field

from app.api.operations import operations
from app.api.shapes import Cursor, Limit, PageOf, Reply
from app.dependencies import ApiLoggedPage, ApiPage, database_of
from app.exports.actions import record_export
from app.exports.casebooks import open_whole
from app.exports.choice import Choice
from app.exports.formats.dataset_json import Part, alone
from app.exports.formats.sdtm import Domain, domains
from app.exports.formats.standards import Standard
from app.exports.whole import Whole
from app.foundation import paging
from app.foundation.database import Database
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.people.access import Actor
from app.studies.in_use import StudyInUse

router = operations("exports")

ALL = Choice(format=Standard.DATASET_JSON)
JSON, LINES = "application/json", "application/x-ndjson"
A_DATASET: dict[str, Any] = {
    "datasetOID": "IG.DM",
    "itemGroupOID": "IG.DM",
    "standard": "sdtmig",
    "name": "DM",
    "label": "Demographics",
    "href": "/api/v1/studies/resolve/datasets/IG.DM",
}
WHOLE_DATASET = {"datasetJSONVersion": "1.1.0", "itemGroupOID": "IG.DM", "records": 0, "columns": [], "rows": []}


class DatasetReply(Reply):
    """A dataset that can be taken, and where."""

    model_config = ConfigDict(json_schema_extra={"example": A_DATASET})

    datasetOID: str = Field(description="What the dataset is called in its Define-XML.")  # noqa: N815 CDISC's name
    itemGroupOID: str = Field(description="The same, as the API calls it from 1.0 on.")  # noqa: N815
    standard: str
    name: str
    label: str
    href: str


@router.get("/datasets", name="api.datasets")
def datasets(here: ApiPage, cursor: Cursor = None, limit: Limit = 50) -> PageOf[DatasetReply]:
    """The SDTM datasets of this study, in the order of the Implementation Guide."""
    study = here.the_study
    found = list(domains(open_whole(here.session, study, ALL, by=here.actor)))
    page = paging.page_in_place(found, limit, cursor=cursor).made(
        lambda domain: DatasetReply(
            datasetOID=_oid(domain),
            itemGroupOID=_oid(domain),
            standard="sdtmig",
            name=domain.name,
            label=domain.label,
            href=f"/api/v1/studies/{study.code}/datasets/{_oid(domain)}",
        )
    )
    return PageOf(items=page.rows, next=page.next)


@router.get(
    "/datasets/{dataset}",
    name="api.dataset",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The dataset in Dataset-JSON 1.1.",
            "content": {
                JSON: {"schema": {"type": "object"}, "example": WHOLE_DATASET},
                LINES: {"schema": {"type": "string"}, "example": "{}"},
            },
        }
    },
)
def dataset(
    here: ApiLoggedPage,
    dataset: Annotated[str, Path(max_length=80, description="Its OID, or its name.", examples=["IG.DM"])],
    lines: Annotated[bool, Query(description="As NDJSON: its head on the first line, then a row on each.")] = False,
    offset: Annotated[int, Query(ge=0, lt=2**31, description="So many rows are left out at the beginning.")] = 0,
    limit: Annotated[int, Query(ge=0, lt=2**31, description="At most so many rows; 0: all.")] = 0,
    metadataonly: Annotated[bool, Query(description="Only what is said of the dataset, without its rows.")] = False,
    dataonly: Annotated[bool, Query(description="Only the rows.")] = False,
) -> StreamingResponse:
    """One dataset as `exports/all.dataset_json` has it, without the Define-XML. That it is taken is in the log.

    With `offset` and `limit` a part of its rows; `records` says how many there are in all. Each part is read anew: when
    the study goes on meanwhile, rows may move from one to the next, so take all at once where that matters.
    """
    if metadataonly and dataonly:
        raise Invalid([FieldProblem("dataonly", "one", "Ask for metadataonly or dataonly; without either both come.")])
    part = Part(offset, limit, head=not dataonly, rows=not metadataonly)
    study, actor = here.the_study, here.actor
    found = _named(open_whole(here.session, study, ALL, by=actor), dataset)
    kind = "ndjson" if lines else "json"
    record_export(here.session, study, table=f"dataset_{found.name}", format=kind, by=actor, now=here.now)
    return StreamingResponse(
        _written(database_of(here.request), study, found.name, part, lines=lines, by=actor),
        media_type=LINES if lines else JSON,
        headers={"X-Equipoise-Study-Version": study.definition.version},
    )


def _oid(domain: Domain) -> str:
    return f"IG.{domain.name}"


def _named(whole: Whole, called: str) -> Domain:
    """The dataset with this OID or name; NotFound when there is none."""
    for domain in domains(whole):
        if called in (_oid(domain), domain.name):
            return domain
    raise NotFound


def _written(
    database: Database, study: StudyInUse, name: str, part: Part, *, lines: bool, by: Actor
) -> Iterator[bytes]:
    """The dataset from a snapshot of its own, once it is written down that it is taken."""
    with database.reading() as session:
        whole = open_whole(session, study, ALL, by=by)
        yield from alone(whole, _named(whole, name), part, lines=lines)
