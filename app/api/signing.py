"""Much signed at once over REST: what of a visit or a casebook waits for a signature, and all of it together."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi.responses import Response
from pydantic import ConfigDict, Field, StringConstraints

from app.api.addressed import participant_of
from app.api.entries import EntryReply
from app.api.operations import operations
from app.api.shapes import Body, Code, Cursor, Limit, PageOf, Password, Reply, Version
from app.capture.rules import form_name
from app.capture.signing import (
    MOST,
    AsShown,
    Signable,
    casebook_to_sign,
    sign_casebook_entries,
    sign_visit,
    what_to_sign,
)
from app.dependencies import ApiChange, ApiPage, require_password
from app.foundation import paging
from app.people.access import require
from app.people.permissions import Permission
from app.studies.definition import MOST_REPEATS

router = operations("entries", "/participants/{code}")

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
WAITING: dict[str, Any] = {
    "instrument": "pain",
    "repeat": 1,
    "version": 1,
    "digest": DIGEST,
    "saved_at": "2026-07-16T09:26:53.589793Z",
    "saved_by": "assessor",
}
READY: dict[str, Any] = {"visit": "week18", **WAITING, "changed": ["pain_intensity"]}


class ToSignReply(Reply):
    """A complete entry that this person may sign. Send what it is back to sign it."""

    model_config = ConfigDict(json_schema_extra={"example": WAITING})

    instrument: str
    repeat: int
    version: int
    digest: str
    saved_at: datetime
    saved_by: str


class EntryRead(Body):
    """An entry as it was read by whoever signs it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"instrument": "pain", "repeat": 1, "version": 1, "digest": DIGEST}},
    )

    instrument: Code
    repeat: int = Field(default=1, ge=1, le=MOST_REPEATS, description="Of a form that repeats: for which time.")
    version: Version
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class VisitSignatureBody(Body):
    """One meaning for several entries of a visit; each gets a signature of its own, or none does."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "entries": [{"instrument": "pain", "version": 1, "digest": DIGEST}],
                "meaning": "authorship",
                "password": "correct horse battery staple",
            }
        },
    )

    entries: list[EntryRead] = Field(min_length=1, max_length=200)
    meaning: Literal["authorship", "review", "approval"] = "authorship"
    password: Password = None


class ToSignOfReply(ToSignReply):
    """A complete entry of a casebook that this person may sign."""

    model_config = ConfigDict(json_schema_extra={"example": READY})

    visit: str
    changed: list[str] = Field(description="The items whose answer is not what was entered first.")


class LeftOutReply(Reply):
    """A form that cannot be signed with the others, and why."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "visit": "week18",
                "instrument": "disability",
                "repeat": 1,
                "reason": "One query stands at this form. Sign it once every question is settled.",
            }
        },
    )

    visit: str
    instrument: str
    repeat: int
    reason: str


class CasebookToSignReply(Reply):
    """What of a casebook can be signed together, and what is left out."""

    model_config = ConfigDict(json_schema_extra={"example": {"ready": [READY], "left_out": [], "more": 0}})

    ready: list[ToSignOfReply]
    left_out: list[LeftOutReply]
    more: int = Field(description="How many wait beside these: they follow once these are signed.")


class EntryOfRead(EntryRead):
    """An entry of a casebook as it was read by whoever signs it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"visit": "week18", "instrument": "pain", "version": 2, "digest": DIGEST}},
    )

    visit: Code


class CasebookEntriesBody(Body):
    """One meaning for entries of several visits; each gets a signature of its own, or none does."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "entries": [{"visit": "week18", "instrument": "pain", "version": 2, "digest": DIGEST}],
                "meaning": "review",
                "password": "correct horse battery staple",
            }
        },
    )

    entries: list[EntryOfRead] = Field(min_length=1, max_length=MOST)
    meaning: Literal["authorship", "review", "approval"] = "review"
    password: Password = None


@router.get("/signatures", name="api.casebook_to_sign")
def all_to_sign(here: ApiPage, code: str) -> CasebookToSignReply:
    """What of the whole casebook is complete and unsigned, with its digests; what is left out, with the reason."""
    found = casebook_to_sign(here.session, here.the_study, participant_of(here, code), by=here.actor, now=here.now)
    return CasebookToSignReply(
        ready=[
            ToSignOfReply(
                visit=each.entry.visit,
                **_waiting(each),
                changed=sorted(found.values_changed.get((each.entry.visit, each.entry.name), ())),
            )
            for each in found.ready
        ],
        left_out=[LeftOutReply.model_validate(each) for each in found.left_out],
        more=found.more,
    )


@router.post("/signatures", name="api.sign_casebook_entries", response_model=list[EntryReply])
def sign_all(here: ApiChange, code: str, asked: CasebookEntriesBody) -> Response:
    """Sign complete entries of many visits at once; needs the person's own password beside the token (21 CFR 11.200).

    One that has changed since it was read refuses all of them, and so does a query that was raised meanwhile.
    """
    found = participant_of(here, code)
    require(here.actor, Permission.ENTRY_SIGN, site_id=found.site_id, action="entries.sign", subject=found.code)
    require_password(here, asked.password or "")
    signed = sign_casebook_entries(
        here.session,
        here.the_study,
        found,
        shown=[
            AsShown(form_name(each.instrument, each.repeat), each.version, each.digest, each.visit)
            for each in asked.entries
        ],
        meaning=asked.meaning,
        by=here.actor,
        now=here.now,
    )
    return here.answer([EntryReply.model_validate(each).model_dump(mode="json") for each in signed])


def _waiting(each: Signable) -> dict[str, Any]:
    entry = each.entry
    names = ("instrument", "repeat", "version", "saved_at", "saved_by")
    return {name: getattr(entry, name) for name in names} | {"digest": each.digest}


@router.get("/visits/{visit}/signatures", name="api.to_sign")
def to_sign(here: ApiPage, code: str, visit: str, cursor: Cursor = None, limit: Limit = 50) -> PageOf[ToSignReply]:
    """What of this visit is complete and unsigned, with the digest that a signature would stand for; by instrument."""
    found = participant_of(here, code)
    signable = what_to_sign(here.session, here.the_study, found, visit, by=here.actor, now=here.now)
    ready = [ToSignReply(**_waiting(each)) for each in signable.ready]
    page = paging.page_of_all(ready, limit, lambda each: (each.instrument, each.repeat), str, int, cursor=cursor)
    return PageOf(items=page.rows, next=page.next)


@router.post("/visits/{visit}/signatures", name="api.sign_visit", response_model=list[EntryReply])
def sign(here: ApiChange, code: str, visit: str, asked: VisitSignatureBody) -> Response:
    """Sign several complete entries at once; needs the person's own password beside the token (21 CFR 11.200).

    One that has changed since it was read refuses all of them.
    """
    found = participant_of(here, code)
    require(here.actor, Permission.ENTRY_SIGN, site_id=found.site_id, action="visit.sign", subject=found.code)
    require_password(here, asked.password or "")
    signed = sign_visit(
        here.session,
        here.the_study,
        found,
        visit=visit,
        shown=[AsShown(form_name(each.instrument, each.repeat), each.version, each.digest) for each in asked.entries],
        meaning=asked.meaning,
        by=here.actor,
        now=here.now,
    )
    return here.answer([EntryReply.model_validate(each).model_dump(mode="json") for each in signed])
