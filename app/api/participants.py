"""Who takes part, over REST? Screening, lists, withdrawal; personal data only by a route of its own."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import Query
from fastapi.responses import Response
from pydantic import ConfigDict, Field
from sqlmodel import select

from app.api.addressed import participant_of
from app.api.filters import AtSite, at, in_order
from app.api.operations import operations
from app.api.randomisation import refuse_staged
from app.api.shapes import (
    Body,
    Code,
    Cursor,
    Limit,
    OneTimeCode,
    PageOf,
    Password,
    Reply,
    Text,
    Values,
    Version,
    problem_of,
)
from app.capture.queries.reads import standing_by_participant, standing_of
from app.consent.actions import withdraw_consent
from app.dependencies import ApiChange, ApiLoggedPage, ApiPage, Here, api_reauthenticate, problem_json
from app.foundation.errors import FieldProblem, Invalid
from app.participants import actions, finding, reads
from app.participants.in_error.reads import records_of
from app.participants.models import Participant
from app.participants.rules import Eligibility, PersonalData
from app.participants.rules.status import withdrawal_level
from app.participants.status import Status
from app.people.access import may, require
from app.people.models import Site
from app.people.permissions import Permission
from app.schedule import actions as schedule

router = operations("participants", "/participants")

SOMEBODY: dict[str, Any] = {
    "code": "R-0042",
    "site": "neura",
    "status": "randomised",
    "screened_on": "2026-03-02",
    "given_name": "Kiri",
    "family_name": "Walker",
    "date_of_birth": "1980-05-17",
    "phone": "+61 2 9999 0000",
}
SHOWN = ("given_name", "family_name", "date_of_birth", "phone")  # of who is found: as on the page


class ParticipantReply(Reply):
    """A participant as blinded people know them."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "code": "R-0042",
                "site": "neura",
                "status": "randomised",
                "screened_on": "2026-03-02",
                "consented_on": "2026-03-04",
                "randomised_on": "2026-03-12",
                "withdrawn_on": "2026-05-01",
                "withdrawal_level": "stop_treatment",
                "treatment_stopped_on": "2026-05-01",
                "randomised_in_error": "wrong_stratum",
                "queries": 2,
            }
        },
    )

    code: str
    site: str
    status: str
    screened_on: date
    consented_on: date | None
    randomised_on: date | None
    withdrawn_on: date | None
    withdrawal_level: str | None
    treatment_stopped_on: date | None = Field(
        description="The day on which treatment was stopped; they stay in follow-up. Null while it goes on."
    )
    randomised_in_error: str | None = Field(
        description="The reason of the newest record that they were; null when nobody recorded one."
    )
    queries: int | None = Field(
        description="How many data queries stand, open or answered, as the list of queries shows them to you; null "
        "where you read no entries."
    )


class Personal(Body):
    """Who somebody is; kept sealed, and every part may be left out."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "given_name": "Kiri",
                "family_name": "Walker",
                "date_of_birth": "1980-05-17",
                "phone": "+61 2 9999 0000",
                "email": "kiri@example.org",
            }
        },
    )

    given_name: Text | None = None
    family_name: Text | None = None
    date_of_birth: Text | None = Field(default=None, examples=["1980-05-17"])
    phone: Text | None = None
    email: Text | None = None


class ScreeningBody(Body):
    """A pre-screen: the answers to the eligibility questions, by item code."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "site": "neura",
                "answers": {"age": 46, "english": True, "main_complaint": True, "pain_weeks": 40, "pain_past_week": 6},
                "personal": {"given_name": "Kiri", "family_name": "Walker"},
            }
        },
    )

    site: Code
    answers: Values
    failure_reason: Text | None = None
    personal: Personal = Personal()
    another: bool = Field(
        default=False, description="They are not who they look like: nobody at the site is compared with them."
    )


class VerdictReply(Reply):
    """What the answers say of one criterion; `met` is null when an answer is missing."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "code": "age",
                "label": "Aged 18 to 70",
                "kind": "inclusion",
                "met": True,
                "reason": "Aged 18 to 70: yes.",
            }
        },
    )

    code: str
    label: str
    kind: str
    met: bool | None
    reason: str


class ScreeningReply(Reply):
    """The new participant and the verdict of each criterion."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "code": "R-0042",
                "status": "screened",
                "eligible": True,
                "verdicts": [
                    {
                        "code": "age",
                        "label": "Aged 18 to 70",
                        "kind": "inclusion",
                        "met": True,
                        "reason": "Aged 18 to 70: yes.",
                    }
                ],
            }
        }
    )

    code: str
    status: str
    eligible: bool
    verdicts: list[VerdictReply]


class CandidateReply(Reply):
    """Somebody at the site who looks like the person who was to be screened: which fields they share."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "code": "R-0017",
                "status": "randomised",
                "screened_on": "2026-01-20",
                "shared": ["given_name", "family_name", "date_of_birth"],
            }
        },
    )

    code: str
    status: str
    screened_on: date
    shared: list[str]


class FindBody(Body):
    """Whom somebody looks for. It is sent in a body, so that it stands in no address, and is kept nowhere."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"text": "kiri wal"}})

    text: Text = Field(
        description="The beginning of each name, a date of birth, a telephone number or part of it, or an address."
    )


class FoundReply(Reply):
    """Somebody who may be meant."""

    model_config = ConfigDict(json_schema_extra={"example": SOMEBODY})

    code: str
    site: str
    status: str
    screened_on: date
    given_name: str | None
    family_name: str | None
    date_of_birth: str | None
    phone: str | None


class FoundPeopleReply(Reply):
    """Who may be meant, the newest first, at most 20; `more`: there are others, so say more of the name."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [SOMEBODY], "more": False}})

    items: list[FoundReply]
    more: bool


class NotTakingPartBody(Body):
    """Why somebody who passed the pre-screen does not take part: a reason of the study, and more about it for the log.

    In a study that has no such reasons, `reason` is in words.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"reason": "declined", "why": "Found a job in another city."}},
    )

    reason: Text
    why: Text = ""


class WithdrawalBody(Body):
    """How far somebody withdraws, from when and why. What was recorded before is kept."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"level": "stop_visits", "on": "2026-05-01", "reason": "Moved to another country."}
        },
    )

    level: Code
    on: date
    reason: Text
    withdraw_consent: bool = Field(default=False, description="Withdraw the consent too, from the same day.")
    # Asked for where who they are is destroyed for good; otherwise left out.
    password: Password = None
    code: OneTimeCode = None


class TakingBackBody(Body):
    """How a withdrawal came to be recorded by mistake."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"why": "Recorded for the wrong participant."}}
    )

    why: Text


class ErasureBody(Body):
    """Why who somebody is shall be erased, and the proof of who asks for it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"why": "Asked for it in writing on 3 May.", "password": "correct horse battery staple"}
        },
    )

    why: Text
    password: Password = None
    code: OneTimeCode = None


class PersonalReply(Reply):
    """Who a participant is. `version` is sent back with a change."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "participant": "R-0042",
                "personal": {
                    "given_name": "Kiri",
                    "family_name": "Walker",
                    "date_of_birth": "1980-05-17",
                    "phone": "+61 2 9999 0000",
                    "email": "kiri@example.org",
                },
                "version": 1,
            }
        }
    )

    participant: str
    personal: Personal
    version: int


class PersonalBody(Body):
    """All personal data as they are from now on: a part that is left out is blank. `version` is the one you read."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "personal": {"given_name": "Kiri", "family_name": "Walker-Ngata", "date_of_birth": "1980-05-17"},
                "version": 1,
                "why": "She married and told us her new name.",
            }
        },
    )

    personal: Personal
    version: Version
    why: Text


class PersonalSavedReply(Reply):
    """The version of the personal data that is kept now."""

    model_config = ConfigDict(json_schema_extra={"example": {"participant": "R-0042", "version": 2}})

    participant: str
    version: int


SortWord = Literal[
    "code", "-code", "status", "-status", "site", "-site", "screened_on", "-screened_on", "queries", "-queries"
]


@router.get("", name="api.participants")
def participants(
    here: ApiPage,
    cursor: Cursor = None,
    limit: Limit = 50,
    site: AtSite = None,
    status: Annotated[
        str | None, Query(max_length=40, description="Only of this status.", examples=["randomised"])
    ] = None,
    find: Annotated[
        str | None, Query(max_length=80, description="The beginning of a code, or its number.", examples=["42"])
    ] = None,
    queries: Annotated[
        Literal["standing"] | None, Query(description="Only those of whom a data query stands, open or answered.")
    ] = None,
    sort: Annotated[SortWord | None, Query(description="By what, with - downwards; by code without it.")] = None,
) -> PageOf[ParticipantReply]:
    """Participants by code, of the sites this person works at.

    How many queries stand, and whoever sorts or narrows by it, is for those who read entries.
    """
    require(here.actor, Permission.PARTICIPANT_READ)
    wanted = reads.ParticipantFilter(status=_status(status), search=find or "", asked=queries is not None)
    by, falling = in_order(sort, reads.Sort, reads.Sort.CODE)
    if wanted.asked or by is reads.Sort.QUERIES:
        require(here.actor, Permission.ENTRY_READ)
    whose = at(here, site)
    may_ask = may(whose, Permission.ENTRY_READ)
    page = reads.participants_page(
        here.session,
        here.the_study,
        by=whose,
        wanted=wanted,
        sort=by,
        descending=falling,
        cursor=cursor,
        limit=limit,
        questions=standing_by_participant(here.the_study, by=whose) if may_ask else None,
    )
    numbers = [row.id for row in page.rows]
    standing = standing_of(here.session, here.the_study, numbers, by=whose) if may_ask else None
    return PageOf(items=[_reply(row, standing) for row in page.rows], next=page.next)


def _status(text: str | None) -> Status | None:
    if not text:
        return None
    try:
        return Status(text)
    except ValueError:
        known = ", ".join(Status)
        raise Invalid([FieldProblem("status", "choices", f"Choose one of: {known}.")]) from None


def _reply(row: reads.ParticipantRow, standing: Mapping[int, int] | None) -> ParticipantReply:
    queries = None if standing is None else standing.get(row.id, 0)
    return ParticipantReply.model_validate({**vars(row), "site": row.site_code, "queries": queries})


@router.post("/find", name="api.find_people", response_model=FoundPeopleReply)
def find_people(here: ApiChange, asked: FindBody) -> Response:
    """Find somebody by name, date of birth, telephone number or address, at the sites where you may know who they are.

    That they were shown, and to whom, is in the log; no answer is kept, so that the same again looks again.
    """
    found, more = finding.find_people(here.session, here.the_study, text=asked.text, by=here.actor, now=here.now)
    people = [
        FoundReply(
            code=each.code,
            site=each.site,
            status=each.status,
            screened_on=each.screened_on,
            **{name: each.personal.items()[name] for name in SHOWN},
        )
        for each in found
    ]
    body = FoundPeopleReply(items=people, more=more).model_dump_json()
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


@router.post(
    "",
    name="api.screen",
    status_code=201,
    response_model=ScreeningReply,
    responses={
        409: problem_of(
            "The state of the trial forbids it; or `candidates` look like this person: where it is somebody else, send "
            "the same again with `another`.",
            candidates=CandidateReply,
        )
    },
)
def screen(here: ApiChange, asked: ScreeningBody) -> Response:
    """Screen somebody. Not eligible is an answer, not an error: they are kept as a screen failure, with the reason.

    Where somebody at the site looks like them, nobody is screened: 409 with the `candidates`, until the same is sent
    with `another`.
    """
    found = here.session.exec(
        select(Site).where(Site.study_id == here.the_study.id, Site.code == asked.site)
    ).one_or_none()
    if found is None:
        raise Invalid([FieldProblem("site", "choices", "There is no such site in this study.")])
    try:
        participant, eligibility = actions.screen(
            here.session,
            here.the_study,
            site=found,
            answers=asked.answers,
            failure_reason=asked.failure_reason,
            personal=PersonalData(**asked.personal.model_dump()),
            another=asked.another,
            by=here.actor,
            now=here.now,
        )
    except finding.LooksLike as problem:  # an answer, and not undone: who was shown stays in the log
        shown = [CandidateReply.model_validate(each).model_dump(mode="json") for each in problem.found]
        return problem_json(409, problem, "Refused", candidates=shown)
    if eligibility.eligible:
        schedule.open_visits(
            here.session,
            here.the_study,
            participant,
            anchor="screening",
            on=participant.screened_on,
            by=here.actor,
            now=here.now,
        )
    body = {"code": participant.code, "status": participant.status, **_verdicts(eligibility)}
    return here.answer(body, status=201, location=f"{here.request.url.path}/{participant.code}")


def _verdicts(eligibility: Eligibility) -> dict[str, Any]:
    return {
        "eligible": eligibility.eligible,
        "verdicts": [
            VerdictReply.model_validate(verdict, from_attributes=True).model_dump() for verdict in eligibility.verdicts
        ],
    }


@router.get("/{code}", name="api.participant")
def participant(here: ApiPage, code: str) -> ParticipantReply:
    """One participant."""
    found = participant_of(here, code)
    return _one(here, found)


def _one(here: Here, found: Participant) -> ParticipantReply:
    assert found.id is not None
    site = here.session.get_one(Site, found.site_id)
    records = records_of(here.session, found.id)
    in_error = records[-1].reason.value if records else None
    queries = None
    if may(here.actor, Permission.ENTRY_READ, site_id=found.site_id):
        queries = standing_of(here.session, here.the_study, [found.id], by=here.actor).get(found.id, 0)
    more = {"site": site.code, "randomised_in_error": in_error, "queries": queries}
    return ParticipantReply.model_validate({**found.model_dump(), **more})


@router.get("/{code}/personal-data", name="api.personal_data")
def personal_data(here: ApiLoggedPage, code: str) -> PersonalReply:
    """Who a participant is. That it was shown, and to whom, is in the log."""
    found = participant_of(here, code)
    shown = actions.reveal_identity(here.session, here.the_study, found, by=here.actor, now=here.now)
    return PersonalReply(participant=found.code, personal=Personal(**shown.personal.items()), version=shown.version)


@router.put("/{code}/personal-data", name="api.change_personal_data", response_model=PersonalSavedReply)
def change_personal_data(here: ApiChange, code: str, asked: PersonalBody) -> Response:
    """Correct who a participant is, and say why. The log keeps what it was and what it is, sealed."""
    found = participant_of(here, code)
    version = actions.change_identity(
        here.session,
        here.the_study,
        found,
        personal=PersonalData(**asked.personal.model_dump()),
        version=asked.version,
        why=asked.why,
        by=here.actor,
        now=here.now,
    )
    return here.answer(PersonalSavedReply(participant=found.code, version=version).model_dump(mode="json"))


@router.post("/{code}/screen-failure", name="api.fail_screening", response_model=ParticipantReply)
def fail_screening(here: ApiChange, code: str, asked: NotTakingPartBody) -> Response:
    """Record that somebody who passed the pre-screen, and is not randomised, does not take part after all.

    They count as a screen failure with this reason; no visit is due any more. It cannot be undone.
    """
    found, study, by, now = participant_of(here, code), here.the_study, here.actor, here.now
    found = actions.fail_screening(here.session, study, found, reason=asked.reason, why=asked.why, by=by, now=now)
    refuse_staged(here, found, action=actions.FAIL_SCREENING)
    labels = {choice.code: choice.label for choice in study.definition.screen_failure_reasons}
    why = asked.why.strip() or labels.get(asked.reason.strip(), asked.reason)
    schedule.stop_visits(here.session, study, found, why=why, by=by, now=now)
    return here.answer(_one(here, found).model_dump(mode="json"))


@router.post("/{code}/withdrawal", name="api.withdraw", response_model=ParticipantReply)
def withdraw(here: ApiChange, code: str, asked: WithdrawalBody) -> Response:
    """Record a withdrawal; who leaves the study, or the visits, has no visit due any more.

    A level that destroys who they are cannot be undone, and asks for the password.
    """
    found = participant_of(here, code)
    wanted = withdrawal_level(here.the_study.definition, asked.level)
    if wanted is not None and wanted.erases_identity:
        api_reauthenticate(here, asked.password or "", asked.code, code_needed=True)
    found = actions.withdraw(
        here.session,
        here.the_study,
        found,
        level=asked.level,
        reason=asked.reason,
        on=asked.on,
        by=here.actor,
        now=here.now,
    )
    level = next(each for each in here.the_study.definition.withdrawal_levels if each.code == asked.level)
    schedule.follow_withdrawal(
        here.session, here.the_study, found, level, why=asked.reason, by=here.actor, now=here.now
    )
    if asked.withdraw_consent:
        withdraw_consent(
            here.session, here.the_study, found, on=asked.on, why=asked.reason, by=here.actor, now=here.now
        )
    return here.answer(_one(here, found).model_dump(mode="json"))


@router.post("/{code}/withdrawal/taking-back", name="api.take_back_withdrawal", response_model=ParticipantReply)
def take_back_withdrawal(here: ApiChange, code: str, asked: TakingBackBody) -> Response:
    """Take back a withdrawal that was recorded by mistake; the visits that it had stopped are due again.

    Appointments that were cancelled, and a consent that was withdrawn with it, stay so.
    """
    found, study, by, now = participant_of(here, code), here.the_study, here.actor, here.now
    found = actions.take_back_withdrawal(here.session, study, found, why=asked.why, by=by, now=now)
    schedule.plan_stopped_again(here.session, study, found, why=asked.why, by=by, now=now)
    return here.answer(_one(here, found).model_dump(mode="json"))


@router.post("/{code}/erasure", name="api.erase", response_model=ParticipantReply)
def erase(here: ApiChange, code: str, asked: ErasureBody) -> Response:
    """Destroy who a participant is, once they take part no more. This cannot be undone, and asks for the password.

    What was collected for the study is kept under the code.
    """
    found = participant_of(here, code)
    subject = f"{found.code}/identity"
    may_erase = Permission.PARTICIPANT_WITHDRAW
    require(here.actor, may_erase, site_id=found.site_id, action="identity.erase", subject=subject)
    api_reauthenticate(here, asked.password or "", asked.code, code_needed=True)
    actions.erase_identity(here.session, here.the_study, found, why=asked.why, by=here.actor, now=here.now)
    return here.answer(_one(here, found).model_dump(mode="json"))
