"""Adverse events over REST: listed, reported, followed up, judged, reviewed; and the clocks that run for them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from fastapi.responses import Response
from pydantic import ConfigDict, Field, StringConstraints

from app.api.addressed import address_of, participant_of
from app.api.filters import AtSite, Since, Until, Whose, at, in_order
from app.api.operations import operations
from app.api.shapes import (
    Body,
    Code,
    Cursor,
    Instant,
    Limit,
    Number,
    OneTimeCode,
    PageOf,
    Password,
    Reply,
    Text,
    Version,
)
from app.dependencies import ApiChange, ApiPage, Here, api_reauthenticate
from app.people.access import may, require
from app.people.permissions import Permission
from app.safety.events import actions, reads
from app.safety.events.reads import EventRow, Wanted
from app.safety.events.rules import Act, Details, State

router = operations("safety")

Long = Annotated[str, StringConstraints(strip_whitespace=True, max_length=8000, pattern=r"^[^\x00]*$")]
Confirmed = Annotated[
    list[Annotated[str, StringConstraints(max_length=400, pattern=r"^[^\x00]*$")]],
    Field(
        max_length=50,
        description="Words that could tell an arm and mean something else here; a 422 with the rule `arm` names them.",
    ),
]
DETAILS: dict[str, Any] = {
    "term": "Fall with bruises",
    "code": "fall",
    "onset": "2026-03-14",
    "ended": "2026-03",
    "severity": "moderate",
    "criteria": ["hospitalisation"],
    "action": "interrupted",
    "outcome": "recovering",
    "narrative": "Fell on the stairs at home; kept in hospital for one night.",
}


REPORT: dict[str, Any] = {
    "version": 1,
    "kind": "initial",
    "details": DETAILS,
    "why": "Misread",
    "aware_at": "2026-03-15T09:30:00.000000Z",
    "corrects": 1,
    "confirmed": False,
    "at": "2026-03-15T09:41:00.000000Z",
    "by": "coordinator",
}
JUDGEMENT: dict[str, Any] = {
    "number": 12,
    "version": 1,
    "kind": "judgement",
    "relatedness": "possible",
    "expected": False,
    "words": "It began an hour after the session.",
    "knew_arm": False,
    "at": "2026-03-15T15:00:00.000000Z",
    "by": "investigator",
}
CLOCK: dict[str, Any] = {
    "code": "sponsor",
    "follows": 0,
    "state": "reported",
    "started_at": "2026-03-15T09:30:00.000000Z",
    "due_at": "2026-03-16T09:30:00.000000Z",
    "sent_at": "2026-03-15T11:00:00.000000Z",
    "reference": "Mail, SAE-2026-7",
}
EVENT: dict[str, Any] = {
    "number": 7,
    "participant": "R-0042",
    "site": "neura",
    "version": 2,
    "state": "judged",
    "term": "Fall with bruises",
    "code": "fall",
    "onset": "2026-03-14",
    "severity": "moderate",
    "outcome": "recovering",
    "serious_since": "2026-03-15T09:30:00.000000Z",
    "relatedness": "possible",
    "expected": False,
    "reported_at": "2026-03-15T09:41:00.000000Z",
    "reported_by": "coordinator",
}


class DetailsBody(Body):
    """An event as it is known. Dates may be partial. Never a name, and nothing that tells an arm."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": DETAILS})

    term: Text
    code: Code = Field(default="", description="A term of the study's list; empty where it has none.")
    onset: Code = Field(description="YYYY-MM-DD, YYYY-MM or YYYY.")
    ended: Code = Field(default="", description="As `onset`; empty while it goes on.")
    severity: Code = Field(description="A grade of the study.")
    criteria: list[Code] = Field(
        default=[],
        max_length=6,
        description="Why it is serious: death, life_threatening, hospitalisation, disability, congenital_anomaly, "
        "other_important. Empty: it is not.",
    )
    action: Code = Field(default="unknown", description="none, changed, interrupted, stopped, not_applicable, unknown.")
    outcome: Code = Field(
        default="unknown", description="recovered, recovering, not_recovered, sequelae, fatal, unknown."
    )
    narrative: Long = ""

    def said(self) -> Details:
        """As the rules ask for it."""
        return Details(**{**self.model_dump(), "criteria": tuple(self.criteria)})


class EventBody(Body):
    """A first report. `aware_at` is when the site learnt of it: every clock counts from there."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"details": DETAILS, "aware_at": "2026-03-15T09:30:00+00:00"}}
    )

    details: DetailsBody
    aware_at: Instant
    confirmed: Confirmed = []


class ReportBody(Body):
    """A follow-up, or a correction that says why. `version` is the one that was read.

    `aware_at` of a follow-up is when the site learnt of the news. A correction says when it learnt of what version
    `corrects` told: clocks that run move with it.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "kind": "follow_up",
                "details": {**DETAILS, "outcome": "recovered"},
                "aware_at": "2026-03-20T09:30:00+00:00",
                "version": 1,
            }
        },
    )

    kind: Literal["follow_up", "correction"]
    details: DetailsBody
    aware_at: Instant
    corrects: Version | None = Field(
        default=None,
        description="Of a correction: the first report or follow-up whose moment `aware_at` says; else the newest.",
    )
    why: Text | None = Field(default=None, description="What was wrong before; needed in a correction.")
    version: Version
    confirmed: Confirmed = []


class VoidBody(Body):
    """That an event was reported by mistake."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"why": "Another participant's event.", "version": 1}}
    )

    why: Text
    version: Version


class JudgementBody(Body):
    """A judgement, made without knowing the arm, and signed with the password."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "relatedness": "possible",
                "expected": False,
                "words": "It began an hour after the session.",
                "version": 1,
                "password": "correct horse battery",
            }
        },
    )

    relatedness: Code = Field(description="An answer of the study.")
    expected: bool
    words: Text
    version: Version
    password: Password = None
    code: OneTimeCode = None


class ReviewBody(Body):
    """What a second person says of a judgement; `judgement` is the number of the one that was read."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"agree": True, "judgement": 12, "password": "correct horse battery"}},
    )

    agree: bool
    words: Text = ""
    judgement: int = Field(ge=0, lt=2**31)
    password: Password = None
    code: OneTimeCode = None


class SentBody(Body):
    """That an event was reported where a clock asks for it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"clock": "sponsor", "sent_at": "2026-03-15T11:00:00+00:00", "reference": "Mail, SAE-2026-7"}
        },
    )

    clock: Code
    follows: Version | None = Field(
        default=None, description="Which clock of this code, by the version whose news it is for; else the newest."
    )
    sent_at: Instant
    reference: Text


class EventReply(Reply):
    """One event as it stands. Relatedness and expectedness are left empty for who treats: they are judged blinded."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": EVENT})

    number: int
    participant: str
    site: str
    version: int
    state: str
    term: str
    code: str | None
    onset: str
    severity: str
    outcome: str
    serious_since: datetime | None
    relatedness: str | None
    expected: bool | None
    reported_at: datetime
    reported_by: str


class DetailsReply(Reply):
    """What a report says."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": DETAILS})

    term: str
    code: str
    onset: str
    ended: str
    severity: str
    criteria: list[str]
    action: str
    outcome: str
    narrative: str


class ReportReply(Reply):
    """One report: what stood after it."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": REPORT})

    version: int
    kind: str
    details: DetailsReply
    why: str | None
    aware_at: datetime
    corrects: int | None
    confirmed: bool
    at: datetime
    by: str


class JudgementReply(Reply):
    """A judgement, or what a second person said of one."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": JUDGEMENT})

    number: int
    version: int
    kind: str
    relatedness: str | None
    expected: bool | None
    words: str
    knew_arm: bool
    at: datetime
    by: str


class ClockReply(Reply):
    """A deadline of an event. `follows`: the version whose news it is for, 0 for the first report."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": CLOCK})

    code: str
    follows: int
    state: str
    started_at: datetime
    due_at: datetime
    sent_at: datetime | None
    reference: str | None


class WholeEventReply(Reply):
    """An event with every report; judgements and clocks for those who may see them."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"event": EVENT, "reports": [REPORT], "judgements": [JUDGEMENT], "clocks": [CLOCK]}
        }
    )

    event: EventReply
    reports: list[ReportReply]
    judgements: list[JudgementReply]
    clocks: list[ClockReply]


StateWord = Literal["reported", "judged", "returned", "reviewed", "void"]
SortWord = Literal["number", "-number", "onset", "-onset", "participant", "-participant", "state", "-state"]


@router.get("/adverse-events", name="api.adverse_events")
def adverse_events(
    here: ApiPage,
    cursor: Cursor = None,
    limit: Limit = 50,
    site: AtSite = None,
    participant: Whose = None,
    serious: Annotated[bool | None, Query(description="Only the serious, or only the others.")] = None,
    waiting: Annotated[Literal["judgement", "review"] | None, Query(description="What somebody has to do.")] = None,
    state: Annotated[StateWord | None, Query(description="Where they stand.")] = None,
    find: Annotated[str | None, Query(max_length=80, description="A part of the term.", examples=["fall"])] = None,
    since: Since = None,
    until: Until = None,
    sort: Annotated[
        SortWord | None, Query(description="By what, with - downwards; the newest first without it.")
    ] = None,
) -> PageOf[EventReply]:
    """The adverse events at the sites of the token's owner, newest first; of who treats, those they reported.

    `since` and `until` are of when they were first reported.
    """
    _require_reading(here)
    order, falling = in_order(sort, reads.Sort, reads.Sort.NUMBER, falling=True)
    wanted = Wanted(
        participant=participant,
        serious=serious,
        waiting=waiting,
        state=State(state) if state else None,
        search=find,
        since=since,
        until=until,
    )
    found = reads.events_page(
        here.session,
        here.the_study,
        by=at(here, site),
        wanted=wanted,
        sort=order,
        descending=falling,
        cursor=cursor,
        limit=limit,
    )
    return PageOf[EventReply](items=[EventReply.model_validate(row) for row in found.rows], next=found.next)


@router.get("/adverse-events/{number}", name="api.adverse_event")
def adverse_event(here: ApiPage, number: Number) -> WholeEventReply:
    """One adverse event with everything that was ever reported of it."""
    _require_reading(here)
    return _whole(here, number)


@router.post(
    "/participants/{code}/adverse-events",
    name="api.report_adverse_event",
    status_code=201,
    response_model=WholeEventReply,
)
def report_adverse_event(here: ApiChange, code: str, asked: EventBody) -> Response:
    """Report an adverse event of a participant. The same report again is the same event."""
    number = actions.report(
        here.session,
        here.the_study,
        participant_of(here, code),
        asked.details.said(),
        aware_at=asked.aware_at,
        confirmed=asked.confirmed,
        by=here.actor,
        now=here.now,
    )
    where = address_of(here, "adverse-events", number)
    return here.answer(_whole(here, number).model_dump(mode="json"), status=201, location=where)


@router.post("/adverse-events/{number}/reports", name="api.follow_up_adverse_event", response_model=WholeEventReply)
def follow_up_adverse_event(here: ApiChange, number: Number, asked: ReportBody) -> Response:
    """Add a follow-up or a correction; nothing before is overwritten. 409 when somebody reported since `version`."""
    require(here.actor, Permission.EVENT_REPORT, action=actions.REPORTING)
    actions.report_again(
        here.session,
        here.the_study,
        number,
        asked.details.said(),
        kind=Act(asked.kind),
        aware_at=asked.aware_at,
        corrects=asked.corrects,
        why=asked.why,
        base_version=asked.version,
        confirmed=asked.confirmed,
        by=here.actor,
        now=here.now,
    )
    return here.answer(_whole(here, number).model_dump(mode="json"))


@router.post("/adverse-events/{number}/void", name="api.void_adverse_event", response_model=WholeEventReply)
def void_adverse_event(here: ApiChange, number: Number, asked: VoidBody) -> Response:
    """Say that an event was reported by mistake. It is kept, and its clocks stop."""
    require(here.actor, Permission.EVENT_REPORT, action="adverse_event.void")
    actions.void(
        here.session,
        here.the_study,
        number,
        why=asked.why,
        base_version=asked.version,
        by=here.actor,
        now=here.now,
    )
    return here.answer(_whole(here, number).model_dump(mode="json"))


@router.post("/adverse-events/{number}/judgements", name="api.judge_adverse_event", response_model=WholeEventReply)
def judge_adverse_event(here: ApiChange, number: Number, asked: JudgementBody) -> Response:
    """Judge whether an event is related and was expected: an investigator, blinded, with their password."""
    require(here.actor, Permission.EVENT_JUDGE, action="adverse_event.judge")
    actions.judge(
        here.session,
        here.the_study,
        number,
        relatedness=asked.relatedness,
        expected=asked.expected,
        words=asked.words,
        base_version=asked.version,
        prove=lambda: api_reauthenticate(here, asked.password or "", asked.code, code_needed=True),
        by=here.actor,
        now=here.now,
    )
    return here.answer(_whole(here, number).model_dump(mode="json"))


@router.post("/adverse-events/{number}/reviews", name="api.review_adverse_event", response_model=WholeEventReply)
def review_adverse_event(here: ApiChange, number: Number, asked: ReviewBody) -> Response:
    """Agree with somebody else's judgement, or return it and say why."""
    require(here.actor, Permission.EVENT_REVIEW, action="adverse_event.review")
    actions.review(
        here.session,
        here.the_study,
        number,
        agree=asked.agree,
        words=asked.words,
        judgement=asked.judgement,
        prove=lambda: api_reauthenticate(here, asked.password or "", asked.code, code_needed=True),
        by=here.actor,
        now=here.now,
    )
    return here.answer(_whole(here, number).model_dump(mode="json"))


@router.post("/adverse-events/{number}/clocks", name="api.stop_clock", response_model=WholeEventReply)
def stop_clock(here: ApiChange, number: Number, asked: SentBody) -> Response:
    """Write down that an event was reported where a clock asks for it."""
    require(here.actor, Permission.EVENT_REPORT, action="adverse_event.stop_clock")
    actions.stop_clock(
        here.session,
        here.the_study,
        number,
        asked.clock,
        follows=asked.follows,
        sent_at=asked.sent_at,
        reference=asked.reference,
        by=here.actor,
        now=here.now,
    )
    return here.answer(_whole(here, number).model_dump(mode="json"))


def _require_reading(here: Here) -> None:
    if not may(here.actor, Permission.EVENT_REPORT):
        require(here.actor, Permission.SAFETY_READ)


def _whole(here: Here, number: int) -> WholeEventReply:
    row: EventRow = reads.event_of(here.session, here.the_study, number, by=here.actor)
    seen = reads.sees_all(here.actor, row.site_id)
    return WholeEventReply(
        event=EventReply.model_validate(row),
        reports=[ReportReply.model_validate(each) for each in reads.reports_of(here.session, number)],
        judgements=[JudgementReply.model_validate(each) for each in reads.judgements_of(here.session, number)]
        if seen
        else [],
        clocks=[ClockReply.model_validate(each) for each in reads.clocks_of(here.session, number)] if seen else [],
    )
