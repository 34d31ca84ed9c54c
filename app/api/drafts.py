"""Study folders in the making over REST: sent and fetched as JSON or ZIP, checked, and loaded as a version."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from fastapi.responses import Response
from pydantic import ConfigDict, Field, StringConstraints

from app.api.addressed import address_of
from app.api.operations import operations
from app.api.shapes import Body, Code, Cursor, Limit, Number, PageOf, Password, Reply, Version
from app.dependencies import LARGEST_UPLOAD, ApiChange, ApiPage, api_reauthenticate, read_body
from app.foundation.errors import FieldProblem, Invalid
from app.people.access import require
from app.people.permissions import Permission
from app.studies.drafts import actions, reads, rules
from app.studies.drafts.reads import Draft

router = operations("drafts")

PATH_OF_A_FILE = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")]
TEXT_OF_A_FILE = Annotated[str, StringConstraints(max_length=1_000_000, pattern=r"^[^\x00]*$")]
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
A_ZIP: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}, "example": "(the bytes of the ZIP)"}


class DraftLineReply(Reply):
    """A draft in the list. `version`: what it was loaded as."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "number": 1,
                "name": "After the pilot",
                "origin": "version 1",
                "made_at": "2026-03-01T09:00:00.000000Z",
                "made_by": "ada",
                "changed_at": "2026-03-01T09:30:00.000000Z",
                "version": "2",
            }
        },
    )

    number: int
    name: str
    origin: str
    made_at: datetime
    made_by: str
    changed_at: datetime
    version: str | None


class FileReply(Reply):
    """One file. `version` counts its changes: send it back with the next one."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "path": "study.yaml",
                "text": "code: resolve\n",
                "version": 3,
                "changed_at": "2026-03-01T09:30:00.000000Z",
                "changed_by": "ada",
            }
        },
    )

    path: str
    text: str
    version: int
    changed_at: datetime
    changed_by: str


class FindingReply(Reply):
    """What `equipoise study check` says of one place; line and column are 0 for a file as a whole."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "file": "study.yaml",
                "line": 2,
                "column": 1,
                "severity": "error",
                "message": "`target` is missing. Add `target:` here.",
            }
        },
    )

    file: str
    line: int
    column: int
    severity: Literal["error", "warning"]
    message: str


class DraftReply(Reply):
    """A draft with its files and every finding."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "number": 1,
                "name": "After the pilot",
                "origin": "version 1",
                "version": "2",
                "files": [FileReply.model_config["json_schema_extra"]["example"]],  # type: ignore[index]
                "findings": [FindingReply.model_config["json_schema_extra"]["example"]],  # type: ignore[index]
            }
        }
    )

    number: int
    name: str
    origin: str
    version: str | None
    files: list[FileReply]
    findings: list[FindingReply]


class MakeBody(Body):
    """A name, and the files by path; or, without files, the loaded version to begin with (none: the smallest study)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "After the pilot", "files": {"study.yaml": "code: resolve\n"}}},
    )

    name: Code
    files: Annotated[dict[PATH_OF_A_FILE, TEXT_OF_A_FILE] | None, Field(max_length=rules.MOST_FILES)] = None
    version: Code | None = None


class MadeReply(Reply):
    """The number of the draft."""

    model_config = ConfigDict(json_schema_extra={"example": {"number": 1}})

    number: int


class FileBody(Body):
    """The whole text of a file, and the version it was written upon (0: a new file)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"path": "study.yaml", "text": "code: resolve\n", "version": 3}},
    )

    path: PATH_OF_A_FILE
    text: TEXT_OF_A_FILE
    version: Version


class SavedReply(Reply):
    """The version of the file now."""

    model_config = ConfigDict(json_schema_extra={"example": {"version": 4}})

    version: int


class LoadBody(Body):
    """Your own password, beside the token."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"password": "correct horse battery"}})

    password: Password = None


class LoadedReply(Reply):
    """Which version it is. Where there are participants it waits until sites go over to it."""

    model_config = ConfigDict(json_schema_extra={"example": {"version": "2", "sha256": SHA256}})

    version: str
    sha256: str


@router.get("/drafts", name="api.drafts")
def drafts(here: ApiPage, cursor: Cursor = None, limit: Limit = 50) -> PageOf[DraftLineReply]:
    """The drafts of the study, the newest first."""
    require(here.actor, Permission.STUDY_LOAD)
    page = reads.drafts_page(here.session, here.the_study, by=here.actor, cursor=cursor, limit=limit)
    return PageOf(items=[DraftLineReply.model_validate(each) for each in page.rows], next=page.next)


@router.post("/drafts", name="api.make_draft", status_code=201, response_model=MadeReply)
def make(here: ApiChange, body: MakeBody) -> Response:
    """Make a draft, of files or of a loaded version."""
    require(here.actor, Permission.STUDY_LOAD, action="draft.make", subject="/draft")
    who: dict[str, Any] = {"name": body.name, "by": here.actor, "now": here.now}
    if body.files is not None:
        number = actions.draft_from_files(here.session, here.the_study, body.files, origin="REST", **who)
    else:
        number = actions.make_draft(here.session, here.the_study, version=body.version, **who)
    return _made(here, number)


@router.post(
    "/draft-folders",
    name="api.send_folder",
    status_code=201,
    response_model=MadeReply,
    max_body_size=LARGEST_UPLOAD,
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": A_ZIP}}},
)
def send_folder(
    here: ApiChange,
    data: Annotated[bytes, Depends(read_body)],
    name: Annotated[str, Query(max_length=120, description="The name of the draft.", examples=["Pilot"])] = "Folder",
) -> Response:
    """Make a draft of a ZIP of a study folder. What leads out of the folder, or unpacks to too much, is refused."""
    require(here.actor, Permission.STUDY_LOAD, action="draft.make", subject="/draft")
    try:
        files = rules.unzipped(data)
    except rules.NotAFolder as problem:
        raise Invalid([FieldProblem("folder", "folder", str(problem))]) from problem
    who: dict[str, Any] = {"name": name, "by": here.actor, "now": here.now}
    return _made(here, actions.draft_from_files(here.session, here.the_study, files, origin="upload", **who))


@router.get("/drafts/{number}", name="api.draft")
def draft(here: ApiPage, number: Number) -> DraftReply:
    """One draft: its files, and every finding of `equipoise study check`."""
    found = _draft(here, number)
    return DraftReply(
        number=found.number,
        name=found.name,
        origin=found.origin,
        version=found.version,
        files=[FileReply.model_validate(each) for each in found.files.values()],
        findings=[FindingReply.model_validate(each) for each in found.findings],
    )


@router.get(
    "/drafts/{number}/folder.zip",
    name="api.draft_folder",
    response_class=Response,
    responses={200: {"description": "The folder, byte for byte.", "content": {"application/zip": A_ZIP}}},
)
def folder(here: ApiPage, number: Number) -> Response:
    """The folder as a ZIP. The same files give the same ZIP."""
    return Response(rules.zipped(_draft(here, number).texts), media_type="application/zip")


@router.put("/drafts/{number}/files", name="api.save_draft_file", response_model=SavedReply)
def save_file(here: ApiChange, number: Number, body: FileBody) -> Response:
    """Save one file as a whole. When somebody saved it meanwhile nothing is overwritten."""
    version = actions.save_file(
        here.session,
        here.the_study,
        number,
        path=body.path,
        text=body.text,
        version=body.version,
        by=here.actor,
        now=here.now,
    )
    return here.answer({"version": version})


@router.post("/drafts/{number}/load", name="api.load_draft", response_model=LoadedReply)
def load(here: ApiChange, number: Number, body: LoadBody) -> Response:
    """Load the draft as a version, as `equipoise study load` does with a folder."""
    _draft(here, number)
    api_reauthenticate(here, body.password or "", None)
    version = actions.load_draft(here.session, here.the_study, number, by=here.actor, now=here.now)
    return here.answer({"version": version.version, "sha256": version.sha256})


@router.delete("/drafts/{number}", name="api.remove_draft", response_model=MadeReply)
def remove(here: ApiChange, number: Number) -> Response:
    """Delete a draft. It is marked, not erased; one that was loaded stays."""
    actions.remove_draft(here.session, here.the_study, number, by=here.actor, now=here.now)
    return here.answer({"number": number})


def _draft(here: ApiPage, number: int) -> Draft:
    return reads.draft(here.session, here.the_study, number, by=here.actor)


def _made(here: ApiChange, number: int) -> Response:
    return here.answer({"number": number}, status=201, location=address_of(here, "drafts", number))
