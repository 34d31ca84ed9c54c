"""Unblinding over REST: in an emergency, as planned, by accident; and who knew what when."""

from datetime import date, datetime
from typing import Annotated, Literal

from fastapi import Query
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from app.api.addressed import participant_of
from app.api.filters import AtSite, Since, Until, Whose, at
from app.api.operations import operations
from app.api.shapes import KEPT, Body, Code, Cursor, Limit, Number, OneTimeCode, PageOf, Reply, Text
from app.dependencies import ApiChange, ApiLoggedPage, ApiPage, Here, api_reauthenticate
from app.foundation import paging
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.access import may, require
from app.people.permissions import Permission
from app.randomisation.unblinding import actions, reads
from app.randomisation.unblinding.reads import Case, ReleasedArm, Wanted
from app.randomisation.unblinding.rules import Kind

router = operations("unblinding")

ONCE = "The arm was shown once, in the first answer. If it is needed again, unblind again under a new key, and say why."


class UnblindBody(Body):
    """An emergency: its reason (a code of the study), what happened, who asked; and the password, as at a signature."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "reason": "serious_adverse_event",
                "why": "Admitted with seizures; treatment depends on the study treatment.",
                "asked_by": "Emergency department",
                "password": "correct horse battery",
            }
        },
    )

    reason: Code
    why: Text
    asked_by: Text
    password: str = Field(max_length=1024, pattern=KEPT)
    code: OneTimeCode = None


class UnblindedReply(Reply):
    """The arm, in the first answer only; the same request again is answered without it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "unblinding": 7,
                "participant": "R-0042",
                "arm": "sham",
                "arm_label": "Sham",
                "note": "Shown once.",
            }
        }
    )

    unblinding: int
    participant: str
    arm: str | None
    arm_label: str | None
    note: str | None


class UnblindingReply(Reply):
    """One unblinding. Never an arm. No participant: the whole study."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "number": 7,
                "kind": "emergency",
                "state": "done",
                "participant": "R-0042",
                "site": "neura",
                "at": "2026-07-16T02:11:40.000000Z",
                "by": "investigator",
                "reason": "serious_adverse_event",
                "why": "Admitted with seizures; treatment depends on the study treatment.",
                "asked_by": "Emergency department",
                "learnt_by": "The assessor of week 18",
                "learnt_on": "2026-07-16",
                "told": ["manager", "statistician"],
                "expires_at": "2026-07-30T02:11:40.000000Z",
                "opens_until": "2026-07-30T02:11:40.000000Z",
                "decided_at": "2026-07-17T02:11:40.000000Z",
                "decided_by": "statistician",
                "decision": "The last visit is closed.",
                "impact": "Week 18 was entered before.",
                "assessed_at": "2026-07-18T02:11:40.000000Z",
                "assessed_by": "manager",
            }
        },
    )

    number: int
    kind: str
    state: str
    participant: str | None
    site: str | None
    at: datetime
    by: str
    reason: str | None
    why: str
    asked_by: str | None
    learnt_by: str | None
    learnt_on: date | None
    told: list[str]
    expires_at: datetime | None
    opens_until: datetime | None
    decided_at: datetime | None
    decided_by: str | None
    decision: str | None
    impact: str | None
    assessed_at: datetime | None
    assessed_by: str | None


class OpeningsReply(Reply):
    """How many envelopes were opened for one person in an unblinded role."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "username": "clinician",
                "role": "clinician",
                "count": 112,
                "last_at": "2026-07-16T02:11:40.000000Z",
            }
        },
    )

    username: str
    role: str
    count: int
    last_at: datetime


class AccidentalBody(Body):
    """Somebody learnt an arm: who, when, how. Never which arm."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "participant": "R-0042",
                "learnt_by": "The assessor of week 18",
                "on": "2026-07-16",
                "how": "The participant spoke of a session.",
            }
        },
    )

    participant: Code
    learnt_by: Text
    on: date
    how: Text


class RequestBody(Body):
    """A planned unblinding of one participant, or without one of the whole study."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"participant": "R-0042", "why": "The primary analysis"}}
    )

    participant: Code | None = None
    why: Text


class ImpactBody(Body):
    """What an arm that somebody learnt means for the data, and what is done about it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"impact": "Week 18 was entered before; week 26 is assessed by somebody else."}},
    )

    impact: Text


class DecisionBody(Body):
    """Approve with the password, or refuse with a reason."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"approve": True, "password": "correct horse battery"},
                {"approve": False, "why": "Not before the last visit."},
            ]
        },
    )

    approve: bool
    why: Text = ""
    password: str = Field(default="", max_length=1024, pattern=KEPT)
    code: OneTimeCode = None


class NumberReply(Reply):
    """The number of an unblinding."""

    model_config = ConfigDict(json_schema_extra={"example": {"number": 7}})

    number: int


class ArmReply(Reply):
    """One line of what an approved request opened."""

    model_config = ConfigDict(
        from_attributes=True, json_schema_extra={"example": {"number": 42, "participant": "R-0042", "arm": "sham"}}
    )

    number: int = Field(description="Of the allocation.")
    participant: str
    arm: str


@router.post("/participants/{code}/unblinding", name="api.unblind", response_model=UnblindedReply)
def unblind(here: ApiChange, code: str, asked: UnblindBody) -> Response:
    """Break the blind of one participant in an emergency. The arm is in this answer, once.

    The same request under the same Idempotency-Key is answered without the arm, and opens nothing again.
    """
    _require_arms(here)
    participant = participant_of(here, code)
    made = actions.unblind(
        here.session,
        here.the_study,
        participant,
        reason=asked.reason,
        why=asked.why,
        asked_by=asked.asked_by,
        prove=lambda: api_reauthenticate(here, asked.password, asked.code, code_needed=True),
        by=here.actor,
        now=here.now,
    )
    known = {"unblinding": made.number, "participant": participant.code}
    shown = UnblindedReply(**known, arm=made.arm, arm_label=made.label, note=None)
    without = UnblindedReply(**known, arm=None, arm_label=None, note=ONCE)
    return here.answer_once(shown.model_dump(mode="json"), repeated=without.model_dump(mode="json"))


@router.get("/unblindings", name="api.unblindings")
def unblindings(
    here: ApiPage,
    cursor: Cursor = None,
    limit: Limit = 50,
    kind: Literal["emergency", "planned", "accidental"] | None = None,
    waiting: Annotated[bool, Query(description="Only those that wait for a decision or an assessment.")] = False,
    site: AtSite = None,
    participant: Whose = None,
    since: Since = None,
    until: Until = None,
) -> PageOf[UnblindingReply]:
    """Every unblinding this person may know of, newest first: who, when, why, who was told; never an arm.

    `site` answers with those of the whole study as well; `since` is of when they were recorded.
    """
    _require_arms(here)
    require(here.actor, Permission.UNBLINDING_READ)
    wanted = Wanted(Kind(kind) if kind else None, waiting=waiting, participant=participant, since=since, until=until)
    page = reads.cases(
        here.session, here.the_study, by=at(here, site), now=here.now, wanted=wanted, cursor=cursor, limit=limit
    )
    return PageOf(items=[UnblindingReply.model_validate(each) for each in page.rows], next=page.next)


@router.get("/unblindings/openings", name="api.openings")
def openings(here: ApiPage, cursor: Cursor = None, limit: Limit = 50) -> PageOf[OpeningsReply]:
    """How many envelopes were opened for those in unblinded roles, as counts; by username."""
    _require_arms(here)
    found = reads.openings(here.session, here.the_study, by=here.actor)
    page = paging.page_of_all(found, limit, lambda each: (each.username, each.role), str, str, cursor=cursor)
    return PageOf(items=[OpeningsReply.model_validate(each) for each in page.rows], next=page.next)


@router.post("/unblindings/accidental", name="api.record_accidental", status_code=201, response_model=NumberReply)
def record_accidental(here: ApiChange, asked: AccidentalBody) -> Response:
    """Write down that somebody learnt an arm who should not have; a text that names an arm is refused."""
    _require_arms(here)
    require(here.actor, Permission.UNBLINDING_RECORD, action="unblinding.record")
    number = actions.record_accidental(
        here.session,
        here.the_study,
        _named(here, asked.participant, Permission.UNBLINDING_RECORD),
        learnt_by=asked.learnt_by,
        how=asked.how,
        on=asked.on,
        by=here.actor,
        now=here.now,
    )
    return _made(here, number)


@router.post("/unblindings/requests", name="api.request_unblinding", status_code=201, response_model=NumberReply)
def request(here: ApiChange, asked: RequestBody) -> Response:
    """Ask for a planned unblinding, which another person decides on."""
    _require_arms(here)
    require(here.actor, Permission.UNBLINDING_REQUEST, action="unblinding.request")
    participant = _named(here, asked.participant, Permission.UNBLINDING_REQUEST) if asked.participant else None
    number = actions.request(here.session, here.the_study, participant, why=asked.why, by=here.actor, now=here.now)
    return _made(here, number)


@router.get("/unblindings/{number}", name="api.unblinding")
def unblinding(here: ApiPage, number: Number) -> UnblindingReply:
    """One unblinding."""
    _require_arms(here)
    return UnblindingReply.model_validate(_case(here, number))


@router.post("/unblindings/{number}/impact", name="api.assess_unblinding", response_model=UnblindingReply)
def assess(here: ApiChange, number: Number, asked: ImpactBody) -> Response:
    """Say what an arm that somebody learnt means for the data, once."""
    _require_arms(here)
    require(here.actor, Permission.UNBLINDING_ASSESS, action="unblinding.assess")
    actions.assess(here.session, here.the_study, number, impact=asked.impact, by=here.actor, now=here.now)
    return _as_it_stands(here, number)


@router.post("/unblindings/{number}/decision", name="api.decide_unblinding", response_model=UnblindingReply)
def decide(here: ApiChange, number: Number, asked: DecisionBody) -> Response:
    """Approve a request that somebody else made, with your own password; or refuse it, with the reason."""
    _require_arms(here)
    require(here.actor, Permission.UNBLINDING_APPROVE, action="unblinding.approve")
    if asked.approve:
        actions.approve(
            here.session,
            here.the_study,
            number,
            prove=lambda: api_reauthenticate(here, asked.password, asked.code, code_needed=True),
            by=here.actor,
            now=here.now,
        )
    else:
        actions.refuse(here.session, here.the_study, number, why=asked.why, by=here.actor, now=here.now)
    return _as_it_stands(here, number)


@router.get("/unblindings/{number}/arms", name="api.unblinded_arms")
def arms(here: ApiLoggedPage, number: Number, cursor: Cursor = None, limit: Limit = 50) -> PageOf[ArmReply]:
    """What an approved request opened, for whoever made it; for everybody else there is no such thing."""
    _require_arms(here)
    if not may(here.actor, Permission.UNBLINDING_REQUEST):
        raise NotFound
    case = _case(here, number)
    page = reads.released_arms(
        here.session, here.the_study, case, by=here.actor, now=here.now, cursor=cursor, limit=limit
    )
    return PageOf(items=[_arm(each) for each in page.rows], next=page.next)


def _arm(row: ReleasedArm) -> ArmReply:
    return ArmReply.model_validate(row)


def _require_arms(here: Here) -> None:
    """There is no blind to break in a study that only observes."""
    if not here.the_study.definition.is_allocated:
        raise NotFound


def _case(here: Here, number: int) -> Case:
    return reads.case_of(here.session, here.the_study, number, by=here.actor, now=here.now)


def _named(here: Here, code: str, permission: Permission) -> Participant:
    try:
        return participant_by_code(here.session, here.the_study, code, by=here.actor, permission=permission)
    except NotFound:
        words = "There is no participant with this code at your sites. Check the code."
        raise Invalid([FieldProblem("participant", "unknown", words)]) from None


def _made(here: Here, number: int) -> Response:
    place = f"/api/v1/studies/{here.the_study.code}/unblindings/{number}"
    return here.answer(NumberReply(number=number).model_dump(mode="json"), status=201, location=place)


def _as_it_stands(here: Here, number: int) -> Response:
    return here.answer(UnblindingReply.model_validate(_case(here, number)).model_dump(mode="json"))
