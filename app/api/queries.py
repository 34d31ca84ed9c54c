"""What is in question, over REST? Queries at answers: raised, answered, asked again, closed."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from fastapi.responses import Response
from pydantic import ConfigDict

from app.api.addressed import participant_of
from app.api.filters import AtSite, AtVisit, OfForm, Since, Until, Whose, at, in_order
from app.api.operations import operations
from app.api.shapes import Body, Code, Cursor, Limit, Number, PageOf, Repeat, Reply, Text, Version
from app.capture.queries import actions, reads
from app.capture.queries import rules as query_rules
from app.capture.queries.reads import Sort, Wanted
from app.dependencies import ApiChange, ApiPage
from app.people.access import require
from app.people.permissions import Permission

router = operations("queries")

EXAMPLE: dict[str, Any] = {
    "number": 12,
    "participant": "R-0042",
    "site": "neura",
    "visit": "week18",
    "instrument": "pain",
    "item": "pain_intensity",
    "origin": "check",
    "rule": "expected",
    "state": "answered",
    "text": "Pain intensity: 10 is higher than expected (up to 9).",
    "answer": "The source says 10.",
    "version": 2,
    "raised_at": "2026-07-16T09:26:53.589793Z",
    "raised_by": "assessor",
    "changed_at": "2026-07-17T08:02:11.000000Z",
    "changed_by": "coordinator",
    "closed_at": "2026-07-18T08:02:11.000000Z",
    "closing": "closed",
    "repeat": 1,
}
SAID: dict[str, Any] = {
    "step": "answer",
    "text": "The source says 10.",
    "at": "2026-07-17T08:02:11.000000Z",
    "by": "coordinator",
    "role": "coordinator",
}


class QueryReply(Reply):
    """One query. `rule` is the check that raised it; nobody's when a person did."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": EXAMPLE})

    number: int
    participant: str
    site: str
    visit: str
    instrument: str
    item: str
    origin: str
    rule: str | None
    state: str
    text: str
    answer: str | None
    version: int
    raised_at: datetime
    raised_by: str
    changed_at: datetime
    changed_by: str
    closed_at: datetime | None
    closing: str | None
    repeat: int


class MessageReply(Reply):
    """One step of a query, and what was said."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": SAID})

    step: str
    text: str
    at: datetime
    by: str
    role: str


class ThreadReply(QueryReply):
    """One query with all that was said."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": {**EXAMPLE, "thread": [SAID]}})

    thread: list[MessageReply]


class RaiseBody(Body):
    """A question about one answer, in words that name no arm."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"item": "pain_intensity", "text": "The diary says 8. Which is right?"}},
    )

    item: Code
    text: Text


class SayBody(Body):
    """What is said to a query; `version` is the version of the query that was read."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"text": "The source says 8.", "version": 1}}
    )

    text: Text = ""
    version: Version


SortWord = Literal["raised", "-raised", "changed", "-changed", "participant", "-participant", "site", "-site"]


@router.get("/queries", name="api.queries")
def queries(
    here: ApiPage,
    site: AtSite = None,
    state: Literal["open", "answered", "closed", "standing"] | None = None,
    age: Annotated[int | None, Query(ge=0, le=9999, description="At least so many days old.", examples=[14])] = None,
    visit: AtVisit = None,
    instrument: OfForm = None,
    participant: Whose = None,
    since: Since = None,
    until: Until = None,
    sort: Annotated[SortWord | None, Query(description="By what, with - downwards; by when raised without it.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[QueryReply]:
    """Queries at your sites, the oldest first. `standing` are the open and the answered.

    `since` and `until` are of when they were raised.
    """
    require(here.actor, Permission.ENTRY_READ)
    by, falling = in_order(sort, Sort, Sort.RAISED)
    wanted = Wanted(
        state=query_rules.State(state) if state is not None and state != "standing" else None,
        standing=state == "standing",
        age=age,
        instrument=instrument,
        participant=participant,
        visit=visit,
        since=since,
        until=until,
    )
    page = reads.queries_page(
        here.session,
        here.the_study,
        by=at(here, site),
        now=here.now,
        wanted=wanted,
        sort=by,
        descending=falling,
        cursor=cursor,
        limit=limit,
    )
    return PageOf[QueryReply](items=[QueryReply.model_validate(each) for each in page.rows], next=page.next)


@router.get("/queries/{number}", name="api.query")
def query(here: ApiPage, number: Number) -> ThreadReply:
    """One query with all that was said."""
    return ThreadReply.model_validate(reads.query_of(here.session, here.the_study, number, by=here.actor))


@router.post(
    "/participants/{code}/visits/{visit}/entries/{instrument}/queries",
    name="api.raise_query",
    response_model=ThreadReply,
    status_code=201,
)
def raise_query(
    here: ApiChange, code: str, visit: str, instrument: str, asked: RaiseBody, repeat: Repeat = 1
) -> Response:
    """Ask the site about one answer of an entry."""
    made = actions.raise_query(
        here.session,
        here.the_study,
        participant_of(here, code),
        visit=visit,
        instrument=instrument,
        repeat=repeat,
        item=asked.item,
        text=asked.text,
        by=here.actor,
        now=here.now,
    )
    location = f"/api/v1/studies/{here.the_study.code}/queries/{made.number}"
    return here.answer(_said(made), status=201, location=location)


@router.post("/queries/{number}/answer", name="api.answer_query", response_model=ThreadReply)
def answer_query(here: ApiChange, number: Number, asked: SayBody) -> Response:
    """Answer a query."""
    made = actions.answer_query(
        here.session, here.the_study, number, text=asked.text, version=asked.version, by=here.actor, now=here.now
    )
    return here.answer(_said(made))


@router.post("/queries/{number}/requery", name="api.requery", response_model=ThreadReply)
def requery(here: ApiChange, number: Number, asked: SayBody) -> Response:
    """Ask again, when the answer does not settle it."""
    made = actions.requery(
        here.session, here.the_study, number, text=asked.text, version=asked.version, by=here.actor, now=here.now
    )
    return here.answer(_said(made))


@router.post("/queries/{number}/closing", name="api.close_query", response_model=ThreadReply)
def close_query(here: ApiChange, number: Number, asked: SayBody) -> Response:
    """Close a query. A closed one stays closed; raise another if something is still to be asked."""
    made = actions.close_query(
        here.session, here.the_study, number, text=asked.text, version=asked.version, by=here.actor, now=here.now
    )
    return here.answer(_said(made))


def _said(made: reads.Query) -> dict[str, object]:
    return ThreadReply.model_validate(made).model_dump(mode="json")
