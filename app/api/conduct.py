"""Conduct over REST: deviations, contacts, care beside the trial, losses and deaths, and who was screened."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Annotated, Literal, TypeVar

from fastapi import Query
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from app.api.addressed import address_of, participant_of
from app.api.filters import AtSite, AtVisit, Since, Until, Whose, at
from app.api.operations import operations
from app.api.safety import Confirmed
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
from app.foundation import paging
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.participants.models import Participant
from app.people.access import require
from app.people.permissions import Permission
from app.safety.deviations import actions as deviation_actions
from app.safety.deviations import reads as deviation_reads
from app.safety.deviations.actions import Chosen
from app.safety.logs import actions, reads
from app.safety.logs.reads import ScreenedWanted
from app.safety.logs.rules import End

router = operations("safety")

Line = Annotated[int | None, Field(ge=1, lt=2**31, description="The line that is changed; none for a new one.")]
Why = Annotated[Text, Field(description="Why a line is changed; needed with `line`.")]


class DeviationBody(Body):
    """Something that went otherwise than the protocol says."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "category": "procedure",
                "grade": "minor",
                "occurred_on": "2026-03-14",
                "what": "The questionnaire was filled in at home, not at the clinic.",
            }
        },
    )

    category: Code = Field(description="A category of the study.")
    grade: Literal["minor", "major"]
    occurred_on: date
    what: Text
    confirmed: Confirmed = []


class ActionBody(Body):
    """What was done about a deviation. `version` is the one that was read."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"grade": "minor", "action": "Staff were trained again.", "version": 1}},
    )

    grade: Literal["minor", "major"]
    action: Text
    why: Text = Field(default="", description="Why the grade changes; needed when it does.")
    version: Version


class SignatureBody(Body):
    """An investigator signs a deviation off."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"version": 2, "password": "correct horse battery"}}
    )

    version: Version
    password: Password = None
    code: OneTimeCode = None


class ChosenDeviation(Body):
    """One of several deviations, as it was read."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"number": 4, "version": 1}})

    number: int = Field(ge=1, lt=2**31)
    version: Version


ChosenOnes = Annotated[list[ChosenDeviation], Field(min_length=1, max_length=deviation_actions.MOST)]


class ActionsBody(Body):
    """What was done about several deviations, in the same words."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "deviations": [{"number": 4, "version": 1}, {"number": 7, "version": 1}],
                "action": "None needed: the centre was closed for a week.",
            }
        },
    )

    deviations: ChosenOnes
    grade: Literal["minor", "major"] | None = Field(default=None, description="None: each as it is graded.")
    action: Text
    why: Text = Field(default="", description="Why a grade changes; needed when one does.")


class SignaturesBody(Body):
    """An investigator signs several deviations off, each by itself."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"deviations": [{"number": 4, "version": 2}], "password": "correct horse battery"}
        },
    )

    deviations: ChosenOnes
    password: Password = None
    code: OneTimeCode = None


class MistakeBody(Body):
    """That a deviation is none."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"why": "Another study's visit.", "version": 1}}
    )

    why: Text
    version: Version


class DeviationReply(Reply):
    """One deviation; `rule` says by which rule the system found it, if it did."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "number": 4,
                "participant": "R-0042",
                "site": "neura",
                "version": 3,
                "state": "signed",
                "rule": "window",
                "category": "visit_window",
                "grade": "minor",
                "occurred_on": "2026-03-14",
                "what": "Week 18 was held on 14 Mar 2026, outside its window (1 Mar 2026 to 10 Mar 2026).",
                "action": "None needed: the participant was abroad.",
                "reported_at": "2026-03-14T09:41:00.000000Z",
                "reported_by": "system",
                "signed_at": "2026-03-16T09:41:00.000000Z",
                "signed_by": "investigator",
            }
        },
    )

    number: int
    participant: str
    site: str
    version: int
    state: str
    rule: str | None
    category: str
    grade: str
    occurred_on: date
    what: str
    action: str | None
    reported_at: datetime
    reported_by: str
    signed_at: datetime | None
    signed_by: str | None


class FoundReply(Reply):
    """How many deviations the system found that were not written down yet."""

    model_config = ConfigDict(json_schema_extra={"example": {"found": 2}})

    found: int


class ContactBody(Body):
    """An attempt to be in touch; with `line`, the correction of one."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"at": "2026-03-14T09:30:00+00:00", "how": "call", "result": "no_answer", "note": "Rang twice"}
        },
    )

    at: Instant
    how: Code = Field(description="call, text_message, mail, letter, in_person.")
    result: Code = Field(description="reached, message_left, no_answer, not_valid, they_called.")
    note: Text = ""
    confirmed: Confirmed = []
    line: Line = None
    version: Version = 0
    why: Why = ""


class ContactReply(Reply):
    """One attempt to be in touch."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "number": 9,
                "version": 1,
                "at": "2026-03-14T09:30:00.000000Z",
                "how": "call",
                "result": "no_answer",
                "note": "Rang twice",
                "recorded_at": "2026-03-14T09:41:00.000000Z",
                "recorded_by": "coordinator",
            }
        },
    )

    number: int
    version: int
    at: datetime
    how: str
    result: str
    note: str
    recorded_at: datetime
    recorded_by: str


class CareBody(Body):
    """Care beside the trial; dates may be partial, and the end is empty while it goes on."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"treatment": "Ibuprofen 400 mg", "began": "2026-02", "ended": "", "indication": "Headache"}
        },
    )

    treatment: Text
    began: Code
    ended: Code = ""
    indication: Text
    confirmed: Confirmed = []
    line: Line = None
    version: Version = 0
    why: Why = ""


class CareReply(Reply):
    """One line of care."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "number": 5,
                "version": 1,
                "treatment": "Ibuprofen 400 mg",
                "began": "2026-02",
                "ended": "",
                "indication": "Headache",
                "recorded_at": "2026-03-14T09:41:00.000000Z",
                "recorded_by": "coordinator",
            }
        },
    )

    number: int
    version: int
    treatment: str
    began: str
    ended: str
    indication: str
    recorded_at: datetime
    recorded_by: str


EndKind = Literal["lost", "found", "died", "mistake", "completed", "reopened"]


class EndBody(Body):
    """That a participant was lost, found again, or died; or that the death was a mistake."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "kind": "lost",
                "on": "2026-03-14",
                "words": "Five calls and a letter since February.",
                "password": "correct horse battery",
            }
        },
    )

    kind: EndKind = Field(
        description="mistake: recorded as dead, and is not; reopened: completed the study, and something is left to do."
    )
    on: date
    words: Text
    cancel_booked: bool = Field(
        default=False,
        description="Of a loss or a completion: cancel what is booked and still to come. A death cancels all of it.",
    )
    password: Password = None
    code: OneTimeCode = None


class EndReply(Reply):
    """One such record; `stopped` are the visits that were due until then."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "number": 2,
                "corrects": 1,
                "kind": "found",
                "on": "2026-04-01",
                "words": "They called from a new number.",
                "status_before": "lost",
                "stopped": ["week18"],
                "recorded_at": "2026-04-01T09:41:00.000000Z",
                "recorded_by": "coordinator",
            }
        },
    )

    number: int
    corrects: int | None
    kind: str
    on: date
    words: str
    status_before: str
    stopped: list[str]
    recorded_at: datetime
    recorded_by: str


class ScreenedReply(Reply):
    """Somebody who was screened: never a name."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "participant": "R-0042",
                "site": "neura",
                "screened_on": "2026-03-01",
                "eligible": False,
                "failure_reason": "declined",
                "status": "screen_failed",
                "consented_on": "2026-03-02",
                "randomised_on": "2026-03-09",
            }
        },
    )

    participant: str
    site: str
    screened_on: date
    eligible: bool
    failure_reason: str | None
    status: str
    consented_on: date | None
    randomised_on: date | None


# Deviations


@router.get("/deviations", name="api.deviations")
def deviations(
    here: ApiPage,
    cursor: Cursor = None,
    limit: Limit = 50,
    site: AtSite = None,
    participant: Whose = None,
    category: Annotated[
        str | None, Query(max_length=80, description="Only of this category of the study.", examples=["visit"])
    ] = None,
    visit: AtVisit = None,
    grade: Literal["minor", "major"] | None = None,
    unsigned: Annotated[bool, Query(description="Only those that nobody signed yet and that hold.")] = False,
    since: Since = None,
    until: Until = None,
) -> PageOf[DeviationReply]:
    """The deviations at the sites of the token's owner, newest first; `since` is of when they were reported."""
    require(here.actor, Permission.SAFETY_READ)
    wanted = deviation_reads.Wanted(
        participant=participant,
        category=category,
        visit=visit,
        grade=grade,
        open=unsigned,
        since=since,
        until=until,
    )
    found = deviation_reads.deviations_page(
        here.session, here.the_study, by=at(here, site), wanted=wanted, cursor=cursor, limit=limit
    )
    return PageOf[DeviationReply](items=[DeviationReply.model_validate(row) for row in found.rows], next=found.next)


@router.get("/deviations/{number}", name="api.deviation")
def deviation(here: ApiPage, number: Number) -> DeviationReply:
    """One deviation."""
    require(here.actor, Permission.SAFETY_READ)
    return _deviation(here, number)


@router.post(
    "/participants/{code}/deviations", name="api.report_deviation", status_code=201, response_model=DeviationReply
)
def report_deviation(here: ApiChange, code: str, asked: DeviationBody) -> Response:
    """Report a deviation. The same report again is the same deviation."""
    participant = participant_of(here, code)
    number = deviation_actions.report(
        here.session,
        here.the_study,
        participant,
        **asked.model_dump(),
        by=here.actor,
        now=here.now,
    )
    row = deviation_reads.deviation_of(here.session, here.the_study, number, by=here.actor, reported=True)
    where = address_of(here, "deviations", number)
    return here.answer(DeviationReply.model_validate(row).model_dump(mode="json"), status=201, location=where)


@router.post("/deviations/{number}/action", name="api.act_on_deviation", response_model=DeviationReply)
def act_on_deviation(here: ApiChange, number: Number, asked: ActionBody) -> Response:
    """Write down what was done about a deviation, and grade it. A signature from before is void."""
    require(here.actor, Permission.DEVIATION_REPORT, action="deviation.act")
    deviation_actions.act(
        here.session,
        here.the_study,
        number,
        grade=asked.grade,
        action=asked.action,
        why=asked.why,
        base_version=asked.version,
        by=here.actor,
        now=here.now,
    )
    return here.answer(_deviation(here, number).model_dump(mode="json"))


@router.post("/deviations/{number}/signature", name="api.sign_deviation", response_model=DeviationReply)
def sign_deviation(here: ApiChange, number: Number, asked: SignatureBody) -> Response:
    """Sign a deviation off, with the password."""
    require(here.actor, Permission.DEVIATION_SIGN, action="deviation.sign")
    deviation_actions.sign(
        here.session,
        here.the_study,
        number,
        base_version=asked.version,
        prove=lambda: api_reauthenticate(here, asked.password or "", asked.code, code_needed=True),
        by=here.actor,
        now=here.now,
    )
    return here.answer(_deviation(here, number).model_dump(mode="json"))


@router.post("/deviations/actions", name="api.act_on_deviations", response_model=list[DeviationReply])
def act_on_deviations(here: ApiChange, asked: ActionsBody) -> Response:
    """Write down what was done about several deviations in the same words, or about none.

    422 names in `errors` each that cannot be acted on (`deviations.4`): with the rule `state` because of how it stands,
    with `changed` because somebody changed it. Signed ones are acted on one at a time.
    """
    require(here.actor, Permission.DEVIATION_REPORT, action="deviation.act")
    rows = deviation_actions.act_on_several(
        here.session,
        here.the_study,
        _chosen(asked.deviations),
        grade=asked.grade,
        action=asked.action,
        why=asked.why,
        by=here.actor,
        now=here.now,
    )
    return here.answer([DeviationReply.model_validate(row).model_dump(mode="json") for row in rows])


@router.post("/deviations/signatures", name="api.sign_deviations", response_model=list[DeviationReply])
def sign_deviations(here: ApiChange, asked: SignaturesBody) -> Response:
    """Sign several deviations off, each by itself and with one password, or none; `errors` as for their actions."""
    require(here.actor, Permission.DEVIATION_SIGN, action="deviation.sign")
    rows = deviation_actions.sign_several(
        here.session,
        here.the_study,
        _chosen(asked.deviations),
        prove=lambda: api_reauthenticate(here, asked.password or "", asked.code, code_needed=True),
        by=here.actor,
        now=here.now,
    )
    return here.answer([DeviationReply.model_validate(row).model_dump(mode="json") for row in rows])


def _chosen(asked: list[ChosenDeviation]) -> list[Chosen]:
    return [Chosen(each.number, each.version) for each in asked]


@router.post("/deviations/{number}/mistake", name="api.take_deviation_back", response_model=DeviationReply)
def take_deviation_back(here: ApiChange, number: Number, asked: MistakeBody) -> Response:
    """Say that a deviation was reported by mistake."""
    require(here.actor, Permission.DEVIATION_REPORT, action="deviation.take_back")
    deviation_actions.take_back(
        here.session,
        here.the_study,
        number,
        why=asked.why,
        base_version=asked.version,
        by=here.actor,
        now=here.now,
    )
    return here.answer(_deviation(here, number).model_dump(mode="json"))


@router.post("/deviations", name="api.look_for_deviations", response_model=FoundReply)
def look_for_deviations(here: ApiChange) -> Response:
    """Have the system look for deviations now, instead of at its next turn."""
    require(here.actor, Permission.SAFETY_READ, action="deviation.look")
    found = deviation_actions.look(here.session, here.the_study, by=here.actor, now=here.now)
    return here.answer(FoundReply(found=found).model_dump(mode="json"))


def _deviation(here: Here, number: int) -> DeviationReply:
    return DeviationReply.model_validate(
        deviation_reads.deviation_of(here.session, here.the_study, number, by=here.actor)
    )


# Contacts and care


@router.get("/participants/{code}/contacts", name="api.contacts")
def contacts(
    here: ApiPage,
    code: str,
    since: Since = None,
    until: Until = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[ContactReply]:
    """Every attempt to be in touch with a participant, the newest first; `since` is of when it was."""
    every = _contacts(here, _readable(here, code))
    found = [each for each in every if (since is None or each.at >= since) and (until is None or each.at < until)]
    page = paging.page_of_all(found, limit, _at_and_number, str, int, cursor=cursor, falling=True)
    return PageOf(items=page.rows, next=page.next)


def _at_and_number(each: ContactReply) -> tuple[str, int]:
    return each.at.isoformat(timespec="microseconds"), each.number


@router.get("/participants/{code}/contacts/{number}", name="api.contact")
def contact(here: ApiPage, code: str, number: Number) -> ContactReply:
    """One attempt to be in touch."""
    return _numbered(_contacts(here, _readable(here, code)), number)


@router.post("/participants/{code}/contacts", name="api.record_contact", response_model=list[ContactReply])
def record_contact(here: ApiChange, code: str, asked: ContactBody) -> Response:
    """Write down an attempt to be in touch, or correct one; the answer has every one."""
    participant = participant_of(here, code)
    said = asked.model_dump(exclude={"version"})
    actions.record_contact(
        here.session,
        here.the_study,
        participant,
        **said,
        base_version=asked.version,
        by=here.actor,
        now=here.now,
    )
    return here.answer([each.model_dump(mode="json") for each in _contacts(here, participant)])


@router.get("/participants/{code}/care", name="api.care")
def care(here: ApiPage, code: str, cursor: Cursor = None, limit: Limit = 50) -> PageOf[CareReply]:
    """Every line of care beside the trial, what began last first."""
    found = _care(here, _readable(here, code))
    page = paging.page_of_all(
        found, limit, lambda each: (each.began, each.number), str, int, cursor=cursor, falling=True
    )
    return PageOf(items=page.rows, next=page.next)


@router.get("/participants/{code}/care/{number}", name="api.one_care")
def one_care(here: ApiPage, code: str, number: Number) -> CareReply:
    """One line of care beside the trial."""
    return _numbered(_care(here, _readable(here, code)), number)


@router.post("/participants/{code}/care", name="api.record_care", response_model=list[CareReply])
def record_care(here: ApiChange, code: str, asked: CareBody) -> Response:
    """Write down care beside the trial, or change a line; the answer has every line."""
    participant = participant_of(here, code)
    said = asked.model_dump(exclude={"version"})
    actions.record_care(
        here.session,
        here.the_study,
        participant,
        **said,
        base_version=asked.version,
        by=here.actor,
        now=here.now,
    )
    return here.answer([each.model_dump(mode="json") for each in _care(here, participant)])


def _readable(here: Here, code: str) -> Participant:
    participant = participant_of(here, code)
    require(here.actor, Permission.SAFETY_READ, site_id=participant.site_id)
    return participant


Recorded = TypeVar("Recorded", ContactReply, CareReply, EndReply)


def _numbered(found: Iterable[Recorded], number: int) -> Recorded:
    for each in found:
        if each.number == number:
            return each
    raise NotFound


def _contacts(here: Here, participant: Participant) -> list[ContactReply]:
    assert participant.id is not None
    return [ContactReply.model_validate(each) for each in reads.contacts_of(here.session, participant.id)]


def _care(here: Here, participant: Participant) -> list[CareReply]:
    assert participant.id is not None
    return [CareReply.model_validate(each) for each in reads.care_of(here.session, participant.id)]


# Ends


@router.get("/participants/{code}/ends", name="api.ends")
def ends(
    here: ApiPage,
    code: str,
    kind: Annotated[EndKind | None, Query(description="Only of this kind.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[EndReply]:
    """Whether a participant was lost, found, died or completed the study: every record, the oldest first."""
    found = [each for each in _ends(here, _readable(here, code)) if kind in (None, each.kind)]
    page = paging.page_of_all(found, limit, lambda each: (each.number,), int, cursor=cursor)
    return PageOf(items=page.rows, next=page.next)


@router.get("/participants/{code}/ends/{number}", name="api.end")
def end(here: ApiPage, code: str, number: Number) -> EndReply:
    """One such record."""
    return _numbered(_ends(here, _readable(here, code)), number)


def _ends(here: Here, participant: Participant) -> list[EndReply]:
    assert participant.id is not None
    return [EndReply.model_validate(each) for each in reads.ends_of(here.session, participant.id)]


@router.post("/participants/{code}/ends", name="api.record_end", response_model=list[EndReply])
def record_end(here: ApiChange, code: str, asked: EndBody) -> Response:
    """Record that a participant was lost, found again, died or completed the study, with the password.

    The answer has every record.
    """
    participant = participant_of(here, code)
    actions.record_end(
        here.session,
        here.the_study,
        participant,
        End(asked.kind),
        on=asked.on,
        words=asked.words,
        cancel_booked=asked.cancel_booked,
        prove=lambda: api_reauthenticate(here, asked.password or "", asked.code, code_needed=True),
        by=here.actor,
        now=here.now,
    )
    return here.answer([each.model_dump(mode="json") for each in _ends(here, participant)])


# Everybody who was screened


@router.get("/screening-log", name="api.screening_log")
def screening_log(
    here: ApiPage,
    cursor: Cursor = None,
    limit: Limit = 50,
    site: AtSite = None,
    month: Annotated[str | None, Query(pattern=r"^\d{4}-\d{2}$", description="YYYY-MM.", examples=["2026-03"])] = None,
    outcome: Literal["passed", "failed"] | None = None,
    reason: Annotated[
        str | None, Query(max_length=80, description="Only of this reason of the study.", examples=["declined"])
    ] = None,
) -> PageOf[ScreenedReply]:
    """Everybody who was screened at the sites of the token's owner, the last first; no names."""
    require(here.actor, Permission.SAFETY_READ)
    if month is not None and reads.month_of(month) is None:  # passed over, it would answer with every month
        raise Invalid([FieldProblem("month", "format", "There is no such month. Write it as 2026-03.")])
    wanted = ScreenedWanted(month=month, outcome=outcome, reason=reason)
    found = reads.screened_page(
        here.session, here.the_study, by=at(here, site), wanted=wanted, cursor=cursor, limit=limit
    )
    return PageOf[ScreenedReply](items=[ScreenedReply.model_validate(row) for row in found.rows], next=found.next)
