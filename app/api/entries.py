"""What was answered, over REST? Entries with their checks and scores, history, signatures."""

from dataclasses import replace
from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Header, Query
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from app.api.addressed import participant_of
from app.api.filters import AtSite, AtVisit, OfForm, Since, Until, Whose, at
from app.api.operations import operations
from app.api.shapes import Body, Code, Cursor, Limit, PageOf, Password, Repeat, Reply, Text, Values, Version
from app.capture import actions, reads
from app.capture.double.reads import refuse_withheld
from app.capture.groups import by_name, document_of
from app.capture.rules import EntryState
from app.capture.typed import check_stored
from app.capture.verification.actions import verify_items
from app.capture.verification.rules import everything
from app.dependencies import (
    LARGEST_UPLOAD,
    ApiChange,
    ApiChangeInTurn,
    ApiLoggedPage,
    ApiPage,
    Here,
    kept_file,
    read_body,
    require_password,
)
from app.foundation import paging
from app.foundation.errors import FieldProblem, NotFound
from app.participants.models import Participant
from app.people.access import require
from app.people.permissions import Permission
from app.schedule.reads import visit_of
from app.schedule.status import VisitStatus

router = operations("entries", "/participants/{code}")
everywhere = operations("entries", "/entries")


class EntryBody(Body):
    """All answers of one form. An item that is left out is blank from now on; scores are computed, never sent.

    A value is text, a number, true/false, a list of codes, or {"missing": CODE}; of a file what its upload replied. A
    group of rows is a list of such objects under its code; null leaves a row out without moving those behind it.
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
                "held_on": "2026-07-16",
            }
        },
    )

    values: Values
    reasons: dict[Code, Text] = Field(default={}, description="By item: why a soft check was accepted.")
    base_version: Version = Field(default=0, description="The version you read; 0 for a new entry.")
    why: Text | None = Field(default=None, description="Why saved answers change.")
    accept_partial: bool = Field(default=False, description="Save although required answers are missing.")
    held_on: date | None = Field(
        default=None,
        description="The day on which the visit was held, where it is still planned: it is recorded with the entry.",
        examples=["2026-07-16"],
    )
    held_reason: Text | None = Field(default=None, description="Why that day is outside the window of the visit.")


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
                "repeat": 1,
                "in_error_at": "2026-07-17T08:02:11.000000Z",
                "in_error_why": "It belongs to another participant.",
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
    repeat: int
    in_error_at: datetime | None
    in_error_why: str | None


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
                "repeat": 1,
                "in_error": False,
            }
        }
    )

    visit: str
    instrument: str
    status: str
    version: int
    signed: bool
    saved_at: datetime
    repeat: int
    in_error: bool


class EntryLineReply(MarkReply):
    """How far one entry is, of whom, and where."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "participant": "R-0042",
                "site": "neura",
                "visit": "week18",
                "instrument": "pain",
                "status": "complete",
                "version": 1,
                "signed": False,
                "saved_at": "2026-07-16T09:26:53.589793Z",
                "saved_by": "assessor",
                "repeat": 1,
                "in_error": False,
            }
        },
    )

    participant: str
    site: str
    saved_by: str


@everywhere.get("", name="api.all_entries")
def all_entries(
    here: ApiPage,
    site: AtSite = None,
    participant: Whose = None,
    visit: AtVisit = None,
    instrument: OfForm = None,
    status: Annotated[
        Literal["partial", "complete"] | None, Query(description="Only those that are so far.", examples=["partial"])
    ] = None,
    since: Since = None,
    until: Until = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[EntryLineReply]:
    """The entries at your sites, without their answers: the one that was begun last first.

    `since` and `until` are of when an entry was saved last. For all answers at once take `exports/entries.ndjson`.
    """
    page = reads.entries_page(
        here.session,
        here.the_study,
        by=at(here, site),
        participant=participant,
        visit=visit,
        instrument=instrument,
        status=status,
        since=since,
        until=until,
        cursor=cursor,
        limit=limit,
    )
    items = [
        EntryLineReply.model_validate({**vars(row), "signed": row.is_signed, "in_error": row.is_in_error})
        for row in page.rows
    ]
    return PageOf(items=items, next=page.next)


def _reply(state: EntryState) -> EntryReply:
    """The rows of its groups as lists, as they are sent."""
    return EntryReply.model_validate(replace(state, values=document_of(state.values, mark="")))


@router.get("/entries", name="api.entries")
def entries(
    here: ApiPage,
    code: str,
    visit: AtVisit = None,
    instrument: OfForm = None,
    status: Annotated[
        Literal["partial", "complete"] | None, Query(description="Only those that are so far.", examples=["partial"])
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[MarkReply]:
    """Which entries there are, without their answers; visits in the order of the plan."""
    found = participant_of(here, code)
    require(here.actor, Permission.ENTRY_READ, site_id=found.site_id)
    assert found.id is not None
    wanted = [
        _mark_reply(at_visit, form, each)
        for (at_visit, form), mark in reads.entries_of(here.session, found.id).items()
        for each in mark.repeats
        if visit in (None, at_visit) and instrument in (None, form) and status in (None, each.status)
    ]
    planned = {each.code: place for place, each in enumerate(here.the_study.definition.visits)}

    def place_of(mark: MarkReply) -> tuple[int, str, str, int]:
        return planned.get(mark.visit, len(planned)), mark.visit, mark.instrument, mark.repeat

    page = paging.page_of_all(wanted, limit, place_of, int, str, str, int, cursor=cursor)
    return PageOf(items=page.rows, next=page.next)


def _mark_reply(visit: str, instrument: str, mark: reads.EntryMark) -> MarkReply:
    return MarkReply(
        visit=visit,
        instrument=instrument,
        repeat=mark.repeat,
        status=mark.status,
        version=mark.version,
        signed=mark.is_signed,
        saved_at=mark.saved_at,
        in_error=mark.is_in_error,
    )


@router.get("/visits/{visit}/entries/{instrument}/repeats", name="api.repeats")
def repeats(
    here: ApiPage, code: str, visit: str, instrument: str, cursor: Cursor = None, limit: Limit = 50
) -> PageOf[MarkReply]:
    """How often a form was filled in at a visit, and how far each time is, without the answers."""
    found = participant_of(here, code)
    require(here.actor, Permission.ENTRY_READ, site_id=found.site_id)
    assert found.id is not None
    page = reads.repeats_page(here.session, found.id, visit, instrument, cursor=cursor, limit=limit)
    return PageOf[MarkReply](items=[_mark_reply(visit, instrument, each) for each in page.rows], next=page.next)


@router.get("/visits/{visit}/entries/{instrument}", name="api.entry")
def entry(here: ApiPage, code: str, visit: str, instrument: str, repeat: Repeat = 1) -> EntryReply:
    """One entry with its answers and scores; of a form that repeats the first, or the one that `repeat` says."""
    found = participant_of(here, code)
    require(here.actor, Permission.ENTRY_READ, site_id=found.site_id)
    assert found.id is not None
    _refuse_withheld(here, found, visit, instrument)
    state = reads.entry_of(here.session, found.id, visit, instrument, repeat)
    if state is None:
        raise NotFound("Nothing is entered here yet.")
    return _reply(state)


def _refuse_withheld(here: Here, found: Participant, visit: str, instrument: str) -> None:
    definition = here.the_study.definition
    refuse_withheld(here.session, definition, found, visit, instrument, by=here.actor, action="entry.read")


@router.put("/visits/{visit}/entries/{instrument}", name="api.save_entry", response_model=SavedReply)
def save_entry(
    here: ApiChangeInTurn, code: str, visit: str, instrument: str, asked: EntryBody, repeat: Repeat = 1
) -> Response:
    """Save an entry. Sending the same again changes nothing; an outdated `base_version` is refused.

    With `held_on` the visit is recorded as held too, where it is planned: both are kept, or neither.
    """
    definition = here.the_study.definition
    form = definition.instrument(instrument)
    # Held as it is looked up: whoever saves holds them anyway, and a statement less is a twentieth of a save.
    found = participant_of(here, code, hold=actions.how_held(form, definition, visit) if form else None)
    values, problems = check_stored(form, by_name(form, asked.values)) if form else (dict(asked.values), [])
    problems = [*problems, *_hold_with_it(here, found, visit, asked)]
    saved = actions.save_entry(
        here.session,
        here.the_study,
        found,
        visit=visit,
        instrument=instrument,
        repeat=repeat,
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
            "values": document_of(judged.values, mark=""),
            "changed": list(saved.changed),
            "missing": list(judged.missing_required),
            "findings": [
                {"item": each.item, "rule": each.rule, "message": each.message, "kind": each.kind}
                for each in judged.problems
            ],
        }
    )


def _hold_with_it(here: Here, participant: Participant, visit: str, asked: EntryBody) -> list[FieldProblem]:
    """Record the day of the visit with an entry that says it; what stands against that."""
    if asked.held_on is None:
        return []
    assert participant.id is not None
    try:
        found = visit_of(here.session, participant.id, visit)
    except NotFound:
        return []  # nothing is entered there either, and that says why
    if found.status != VisitStatus.PLANNED:
        if found.held_on == asked.held_on:
            return []
        words = "The visit is not planned any more. Leave this out, or correct the visit itself first."
        return [FieldProblem("held_on", "state", words)]
    return actions.record_with_entry(
        here.session,
        here.the_study,
        participant,
        found,
        held_on=asked.held_on,
        reason=asked.held_reason,
        named={"reason": "held_reason"},
        by=here.actor,
        now=here.now,
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
def sign_entry(
    here: ApiChange, code: str, visit: str, instrument: str, asked: SignatureBody, repeat: Repeat = 1
) -> Response:
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
        repeat=repeat,
        version=asked.version,
        meaning=asked.meaning,
        by=here.actor,
        now=here.now,
    )
    return here.answer(_reply(state).model_dump(mode="json"))


class InErrorBody(Body):
    """Whether an entry was made by mistake, and why (or why it counts after all)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"in_error": True, "version": 1, "why": "It belongs to another participant."}},
    )

    in_error: bool = True
    version: Version
    why: Text


@router.put("/visits/{visit}/entries/{instrument}/in-error", name="api.mark_in_error", response_model=EntryReply)
def mark_in_error(
    here: ApiChange, code: str, visit: str, instrument: str, asked: InErrorBody, repeat: Repeat = 1
) -> Response:
    """Mark an entry that was made by mistake, or take the mark back. It stays, and counts nowhere."""
    state = actions.mark_in_error(
        here.session,
        here.the_study,
        participant_of(here, code),
        visit=visit,
        instrument=instrument,
        repeat=repeat,
        version=asked.version,
        why=asked.why,
        by=here.actor,
        now=here.now,
        undo=not asked.in_error,
    )
    return here.answer(_reply(state).model_dump(mode="json"))


class VerificationBody(Body):
    """Which answers agree with their source; without any list all that the study has verified. Others are not verified
    (any more)."""

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
def verify_entry(
    here: ApiChange, code: str, visit: str, instrument: str, asked: VerificationBody, repeat: Repeat = 1
) -> Response:
    """Say of exactly these answers that they agree with their source."""
    found = participant_of(here, code)
    require(here.actor, Permission.ENTRY_VERIFY, site_id=found.site_id, action="entry.verify", subject=found.code)
    assert found.id is not None
    items = asked.items
    if items is None:
        state = reads.entry_of(here.session, found.id, visit, instrument, repeat)
        wanted = here.the_study.definition.items_to_verify(visit, instrument)
        items = everything(state, wanted) if state else []
    state = verify_items(
        here.session,
        here.the_study,
        found,
        visit=visit,
        instrument=instrument,
        repeat=repeat,
        items=items,
        version=asked.version,
        by=here.actor,
        now=here.now,
    )
    return here.answer({"items": state.verified, "whole": state.verified_at is not None})


@router.get("/visits/{visit}/entries/{instrument}/history", name="api.entry_history")
def entry_history(
    here: ApiPage,
    code: str,
    visit: str,
    instrument: str,
    item: str | None = None,
    repeat: Repeat = 1,
    since: Since = None,
    until: Until = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[HistoryReply]:
    """Every change of an entry, or of one of its items, the oldest first: who, when, old, new, why."""
    found = participant_of(here, code)
    require(here.actor, Permission.ENTRY_READ, site_id=found.site_id)
    _refuse_withheld(here, found, visit, instrument)
    lines = reads.history(here.session, here.the_study, found.code, visit, instrument, item, repeat=repeat)
    wanted = [each for each in lines if (since is None or each.at >= since) and (until is None or each.at < until)]
    page = paging.page_in_place(wanted, limit, cursor=cursor)
    return PageOf(items=[HistoryReply.model_validate(line) for line in page.rows], next=page.next)
