"""What was answered, over REST? Entries with their checks and scores, history, signatures."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from app.api.participants import participant_of
from app.api.shapes import Body, Code, Password, Reply, Text, Values, Version
from app.capture import actions, reads
from app.capture.double.reads import refuse_withheld
from app.capture.typed import check_stored
from app.capture.verification import verify_items
from app.dependencies import (
    LARGEST_UPLOAD,
    ApiChange,
    ApiLoggedPage,
    ApiPage,
    Here,
    kept_file,
    read_body,
    require_password,
)
from app.foundation.errors import NotFound
from app.participants.models import Participant
from app.people.access import require
from app.people.permissions import Permission

router = APIRouter(prefix="/participants/{code}", tags=["entries"])


class EntryBody(Body):
    """All answers of one form. An item that is left out is blank from now on; scores are computed, never sent.

    A value is text, a number, true/false, a list of codes, or {"missing": CODE}; of a file what its upload replied.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "values": {"pain_intensity": 3, "pain_bothersomeness": {"missing": "REF"}},
                "reasons": {},
                "base_version": 0,
                "why": None,
                "accept_partial": False,
            }
        },
    )

    values: Values
    reasons: dict[Code, Text] = Field(default={}, description="By item: why a soft check was accepted.")
    base_version: Version = Field(default=0, description="The version you read; 0 for a new entry.")
    why: Text | None = Field(default=None, description="Why saved answers change.")
    accept_partial: bool = Field(default=False, description="Save although required answers are missing.")


class SavedReply(Reply):
    """The entry as it stands after saving."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "version": 1,
                "status": "complete",
                "values": {"pain_intensity": 3, "pain_bothersomeness": {"missing": "REF"}},
                "changed": ["pain_intensity", "pain_bothersomeness"],
                "missing": [],
                "findings": [],
            }
        }
    )

    version: int
    status: str
    values: dict[str, Any]
    changed: list[str]
    missing: list[str]
    findings: list[dict[str, str]]


class EntryReply(Reply):
    """An entry: answers and scores, how far it is, who saved and who signed it."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "participant": "R-0042",
                "visit": "week18",
                "instrument": "pain",
                "status": "complete",
                "version": 1,
                "values": {"pain_intensity": 3},
                "reasons": {},
                "saved_at": "2026-07-16T09:26:53.589793Z",
                "saved_by": "assessor",
                "signed_at": "2026-07-16T10:02:11.000000Z",
                "signed_name": "Mo Lindqvist",
                "signed_meaning": "authorship",
            }
        },
    )

    participant: str
    visit: str
    instrument: str
    status: str
    version: int
    values: dict[str, Any]
    reasons: dict[str, str]
    saved_at: datetime
    saved_by: str
    signed_at: datetime | None
    signed_name: str | None
    signed_meaning: str | None


class SignatureBody(Body):
    """A signature on a complete entry."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"version": 1, "meaning": "authorship", "password": "correct horse battery staple"}
        },
    )

    version: Version
    meaning: Literal["authorship", "review", "approval"] = "authorship"
    password: Password = None


class HistoryReply(Reply):
    """One change of one item."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "at": "2026-07-16T10:02:11.000000Z",
                "username": "assessor",
                "role": "assessor",
                "action": "entry.corrected",
                "item": "pain_intensity",
                "old": 3,
                "new": 4,
                "why": "Read from the paper again.",
            }
        },
    )

    at: datetime
    username: str
    role: str
    action: str
    item: str
    old: Any
    new: Any
    why: str | None


class MarkReply(Reply):
    """How far one entry is."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "visit": "week18",
                "instrument": "pain",
                "status": "complete",
                "version": 1,
                "signed": False,
                "saved_at": "2026-07-16T09:26:53.589793Z",
            }
        }
    )

    visit: str
    instrument: str
    status: str
    version: int
    signed: bool
    saved_at: datetime


@router.get("/entries", name="api.entries")
def entries(here: ApiPage, code: str) -> list[MarkReply]:
    """Which entries there are, without their answers."""
    found = participant_of(here, code)
    require(here.actor, Permission.ENTRY_READ, site_id=found.site_id)
    assert found.id is not None
    return [
        MarkReply(
            visit=visit,
            instrument=instrument,
            status=mark.status,
            version=mark.version,
            signed=mark.is_signed,
            saved_at=mark.saved_at,
        )
        for (visit, instrument), mark in reads.entries_of(here.session, found.id).items()
    ]


@router.get("/visits/{visit}/entries/{instrument}", name="api.entry")
def entry(here: ApiPage, code: str, visit: str, instrument: str) -> EntryReply:
    """One entry with its answers and scores."""
    found = participant_of(here, code)
    require(here.actor, Permission.ENTRY_READ, site_id=found.site_id)
    assert found.id is not None
    _refuse_withheld(here, found, visit, instrument)
    state = reads.entry_of(here.session, found.id, visit, instrument)
    if state is None:
        raise NotFound("Nothing is entered here yet.")
    return EntryReply.model_validate(state)


def _refuse_withheld(here: Here, found: Participant, visit: str, instrument: str) -> None:
    definition = here.the_study.definition
    refuse_withheld(here.session, definition, found, visit, instrument, by=here.actor, action="entry.read")


@router.put("/visits/{visit}/entries/{instrument}", name="api.save_entry", response_model=SavedReply)
def save_entry(here: ApiChange, code: str, visit: str, instrument: str, asked: EntryBody) -> Response:
    """Save an entry. Sending the same again changes nothing; an outdated `base_version` is refused."""
    found = participant_of(here, code)
    form = here.the_study.definition.instrument(instrument)
    values, problems = check_stored(form, asked.values) if form else (dict(asked.values), [])
    saved = actions.save_entry(
        here.session,
        here.the_study,
        found,
        visit=visit,
        instrument=instrument,
        values=values,
        reasons=asked.reasons,
        base_version=asked.base_version,
        why=asked.why,
        by=here.actor,
        now=here.now,
        accept_partial=asked.accept_partial,
        problems=problems,
    )
    judged = saved.judgement
    return here.answer(
        {
            "version": saved.version,
            "status": saved.status,
            "values": judged.values,
            "changed": list(saved.changed),
            "missing": list(judged.missing_required),
            "findings": [
                {"item": each.item, "rule": each.rule, "message": each.message, "kind": each.kind}
                for each in judged.problems
            ],
        }
    )


A_FILE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}, "example": "%PDF-1.7 ..."}


class FileReply(Reply):
    """A file that is kept. Send this whole as the answer to its item when you save the entry."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "file": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "name": "report.pdf",
                "size": 48213,
                "media_type": "application/pdf",
            }
        }
    )

    file: str
    name: str
    size: int
    media_type: str


@router.put(
    "/visits/{visit}/entries/{instrument}/files/{item}",
    name="api.keep_file",
    response_model=FileReply,
    max_body_size=LARGEST_UPLOAD,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": A_FILE},
        }
    },
)
def keep_file(
    here: ApiChange,
    code: str,
    visit: str,
    instrument: str,
    item: str,
    data: Annotated[bytes, Depends(read_body)],
    name: Annotated[str, Query(max_length=400, description="The name of the file.", examples=["report.pdf"])] = "file",
) -> Response:
    """Keep a file that answers an item, sealed. Its kind is told by its content; sent again, it is kept once.

    It answers nothing until the entry is saved with what this replies. The `ETag` is its SHA-256.
    """
    found = participant_of(here, code)
    value = actions.keep_file(
        here.session,
        here.the_study,
        found,
        visit=visit,
        instrument=instrument,
        item=item,
        data=data,
        name=name,
        by=here.actor,
        now=here.now,
    )
    reply = here.answer(value)
    reply.headers["ETag"] = f'"{value["file"]}"'
    return reply


@router.get(
    "/visits/{visit}/entries/{instrument}/files/{item}",
    name="api.entry_file",
    response_class=Response,
    responses={
        200: {
            "description": "The file as it was sent; a signature as SVG.",
            "content": {"application/octet-stream": A_FILE},
        },
        304: {"description": "You have this one already."},
    },
)
def entry_file(
    here: ApiLoggedPage,
    code: str,
    visit: str,
    instrument: str,
    item: str,
    sha256: Annotated[str | None, Query(max_length=64, description="One that was replaced.")] = None,
    if_none_match: Annotated[str, Header(max_length=200)] = "",
) -> Response:
    """The file or the signature that answers an item. That it was shown, and to whom, is in the log."""
    found = participant_of(here, code)
    shown = actions.show_sealed(
        here.session,
        here.the_study,
        found,
        visit=visit,
        instrument=instrument,
        item=item,
        sha256=sha256,
        seen=if_none_match.removeprefix("W/").strip('"') or None,
        by=here.actor,
        now=here.now,
    )
    if shown is None:
        return Response(status_code=304, headers={"ETag": if_none_match})
    return kept_file(shown.data, shown.media_type, shown.name, shown.sha256)


@router.post("/visits/{visit}/entries/{instrument}/signature", name="api.sign_entry", response_model=EntryReply)
def sign_entry(here: ApiChange, code: str, visit: str, instrument: str, asked: SignatureBody) -> Response:
    """Sign a complete entry; needs the person's own password beside the token (21 CFR 11.200)."""
    found = participant_of(here, code)
    require(here.actor, Permission.ENTRY_SIGN, site_id=found.site_id, action="entry.sign", subject=found.code)
    require_password(here, asked.password or "")
    state = actions.sign_entry(
        here.session,
        here.the_study,
        found,
        visit=visit,
        instrument=instrument,
        version=asked.version,
        meaning=asked.meaning,
        by=here.actor,
        now=here.now,
    )
    return here.answer(EntryReply.model_validate(state).model_dump(mode="json"))


class VerificationBody(Body):
    """Which answers agree with their source; without any list all of them. Others are not verified (any more)."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"items": ["pain_intensity"], "version": 2}}
    )

    items: list[Code] | None = Field(default=None, max_length=1000)
    version: Version


class VerificationReply(Reply):
    """What is verified of an entry. `changed` stands by an answer that changed since it was."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "items": {"pain_intensity": {"by": "monitor", "at": "2026-07-20T08:00:00+00:00", "version": 2}},
                "whole": False,
            }
        }
    )

    items: dict[str, Any]
    whole: bool


@router.put(
    "/visits/{visit}/entries/{instrument}/verification", name="api.verify_entry", response_model=VerificationReply
)
def verify_entry(here: ApiChange, code: str, visit: str, instrument: str, asked: VerificationBody) -> Response:
    """Say of exactly these answers that they agree with their source."""
    found = participant_of(here, code)
    require(here.actor, Permission.ENTRY_VERIFY, site_id=found.site_id, action="entry.verify", subject=found.code)
    assert found.id is not None
    items = asked.items
    if items is None:
        state = reads.entry_of(here.session, found.id, visit, instrument)
        items = list(state.values) if state else []
    state = verify_items(
        here.session,
        here.the_study,
        found,
        visit=visit,
        instrument=instrument,
        items=items,
        version=asked.version,
        by=here.actor,
        now=here.now,
    )
    return here.answer({"items": state.verified, "whole": state.verified_at is not None})


@router.get("/visits/{visit}/entries/{instrument}/history", name="api.entry_history")
def entry_history(here: ApiPage, code: str, visit: str, instrument: str, item: str | None = None) -> list[HistoryReply]:
    """Every change of an entry, or of one of its items: who, when, old, new, why."""
    found = participant_of(here, code)
    require(here.actor, Permission.ENTRY_READ, site_id=found.site_id)
    _refuse_withheld(here, found, visit, instrument)
    lines = reads.history(here.session, here.the_study, found.code, visit, instrument, item)
    return [HistoryReply.model_validate(line) for line in lines]
