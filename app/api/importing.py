"""A study from elsewhere over REST: a file of REDCap, CDISC ODM or USDM, or an XLSForm becomes a draft and a report."""

from typing import Annotated, Any

from fastapi import Depends, Query
from fastapi.responses import Response
from pydantic import ConfigDict

from app.api.addressed import address_of
from app.api.operations import operations
from app.api.shapes import Reply
from app.dependencies import LARGEST_UPLOAD, ApiChange, read_body
from app.foundation.clock import today
from app.foundation.errors import FieldProblem, Invalid
from app.people.access import require
from app.people.permissions import Permission
from app.studies.drafts.actions import draft_from_files
from app.studies.drafts.rules import LONGEST_NAME
from app.studies.importing import Failed, convert
from app.studies.importing.report import in_order
from app.studies.rules import problems

router = operations("drafts")

A_NOTE: dict[str, Any] = {
    "kind": "lost",
    "where": "line 12, pain",
    "what": "Action tag @HIDDEN.",
    "instead": "Left out.",
    "to_do": "Take the question out if nobody is to see it.",
}
A_STUDY: dict[str, Any] = {
    "draft": 3,
    "code": "back_pain",
    "title": "Back pain",
    "visits": 4,
    "instruments": 12,
    "warnings": 5,
    "counts": {"default": 6, "lost": 1},
    "report": [A_NOTE],
}


class NoteReply(Reply):
    """One construct: `where` it stands in the file, `what` it is, what was done `instead`, and what is `to_do`.

    `kind`: `default` is to be decided, `personal` may say who somebody is, `lost` has nothing that stands for it,
    `changed` is said in another way, `looks` is only how it looked.
    """

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": A_NOTE})

    kind: str
    where: str
    what: str
    instead: str
    to_do: str


class ImportedStudyReply(Reply):
    """What became of the file: the number of the draft (none when it was only looked at), and everything that was not
    taken over as it was, what has to be decided first. `warnings` are those of `equipoise study check`."""

    model_config = ConfigDict(json_schema_extra={"example": A_STUDY})

    draft: int | None
    code: str
    title: str
    visits: int
    instruments: int
    warnings: int
    counts: dict[str, int]
    report: list[NoteReply]


@router.post(
    "/study-imports",
    name="api.import_study",
    status_code=201,
    response_model=ImportedStudyReply,
    max_body_size=LARGEST_UPLOAD,
    responses={
        200: {"description": "Only the report.", "model": ImportedStudyReply},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {
                    "schema": {"type": "string", "format": "binary"},
                    "example": "(the bytes of the CSV or XML)",
                }
            },
        }
    },
)
def import_study(
    here: ApiChange,
    data: Annotated[bytes, Depends(read_body)],
    file: Annotated[
        str, Query(max_length=200, description="What the file is called.", examples=["project.xml"])
    ] = "file",
    code: Annotated[
        str | None,
        Query(max_length=60, description="The study's code; else made of its title.", examples=["back_pain"]),
    ] = None,
    draft: Annotated[bool, Query(description="False: only the report, and nothing is kept.")] = True,
) -> Response:
    """Convert a REDCap dictionary (CSV) or project (XML), CDISC ODM (XML), USDM (JSON) or XLSForm (XLSX) into a draft.

    What kind of file it is follows from its content. Nothing is loaded: see what is still to be decided with
    `GET /drafts/{number}`, mend it, then load the draft. The same request again is answered without the report.
    """
    require(here.actor, Permission.STUDY_LOAD, action="study.convert", subject="/draft")
    with here.nobody_waits():
        try:
            converted = convert(data, name=file, on=today("UTC", here.now), code=code)
        except Failed as reason:
            raise Invalid([FieldProblem(reason.about, "unreadable", str(reason))]) from None
    study, number = converted.study, None
    if draft:
        number = draft_from_files(
            here.session,
            here.the_study,
            converted.texts,
            name=study.title[:LONGEST_NAME] or study.code,
            origin="import",
            by=here.actor,
            now=here.now,
        )
    notes = in_order(converted.notes)
    said = {
        "draft": number,
        "code": study.code,
        "title": study.title,
        "visits": len(study.visits),
        "instruments": len(study.instruments),
        "warnings": len(problems(study)),
        "counts": {kind: len(each) for kind, each in notes},
    }
    report = [NoteReply.model_validate(note).model_dump() for _, each in notes for note in each]
    made = 201 if number is not None else 200
    where = address_of(here, "drafts", number) if number is not None else None
    return here.answer_once({**said, "report": report}, repeated={**said, "report": []}, status=made, location=where)
