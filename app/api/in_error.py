"""Randomised in error, over REST: recorded, corrected by adding, never erased."""

from datetime import date, datetime

from fastapi.responses import Response
from pydantic import ConfigDict, Field

from app.api.addressed import address_of, participant_of
from app.api.operations import operations
from app.api.shapes import Body, Code, Cursor, Limit, Number, PageOf, Reply, Text
from app.dependencies import ApiChange, ApiPage, Here
from app.foundation import paging
from app.foundation.errors import NotFound
from app.participants.in_error import actions
from app.participants.in_error.reads import InError, records_of
from app.participants.models import Participant

router = operations("participants", "/participants")


class InErrorBody(Body):
    """What was wrong with a randomisation. Never an arm: blinded people read it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "reason": "wrong_stratum",
                "why": "The pain score was typed as 3 instead of 8; found at monitoring.",
                "found_on": "2026-03-20",
                "should_have_been": {"pain": "high"},
                "corrects": 7,
            }
        },
    )

    reason: Code = Field(
        description="ineligible, wrong_stratum, no_valid_consent, twice, other; no_error takes an earlier one back."
    )
    why: Text
    found_on: date
    should_have_been: dict[Code, Code] = Field(
        default={}, max_length=20, description="With wrong_stratum: the level by factor, as far as it is known."
    )
    corrects: int | None = Field(
        default=None, ge=1, le=2**31 - 1, description="The number of the newest record until now, which this corrects."
    )


class InErrorReply(Reply):
    """One record; the newest one stands."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "number": 8,
                "corrects": 7,
                "reason": "wrong_stratum",
                "why": "The pain score was typed as 3 instead of 8; found at monitoring.",
                "found_on": "2026-03-20",
                "should_have_been": {"pain": "high"},
                "told": ["investigator", "statistician"],
                "at": "2026-03-20T02:11:40.000000Z",
                "by": "coordinator",
            }
        },
    )

    number: int
    corrects: int | None
    reason: str
    why: str
    found_on: date
    should_have_been: dict[str, str]
    told: list[str]
    at: datetime
    by: str


@router.get("/{code}/randomised-in-error", name="api.randomised_in_error")
def randomised_in_error(here: ApiPage, code: str, cursor: Cursor = None, limit: Limit = 50) -> PageOf[InErrorReply]:
    """Every record that a participant was randomised in error, the oldest first; the last one stands."""
    found = _records(here, _participant(here, code))
    page = paging.page_of_all(found, limit, lambda each: (each.number,), int, cursor=cursor)
    return PageOf(items=[InErrorReply.model_validate(each) for each in page.rows], next=page.next)


@router.get("/{code}/randomised-in-error/{number}", name="api.one_randomised_in_error")
def one_randomised_in_error(here: ApiPage, code: str, number: Number) -> InErrorReply:
    """One such record."""
    for each in _records(here, _participant(here, code)):
        if each.number == number:
            return InErrorReply.model_validate(each)
    raise NotFound


@router.post(
    "/{code}/randomised-in-error",
    name="api.record_randomised_in_error",
    status_code=201,
    response_model=InErrorReply,
)
def record_randomised_in_error(here: ApiChange, code: str, asked: InErrorBody) -> Response:
    """Record that a participant was randomised in error. The allocation stays exactly as it is.

    `corrects` names the newest record there is; when somebody added one since, 409 says so. The same content as the
    newest record is that record, and no second one.
    """
    found = _participant(here, code)
    number = actions.record_in_error(
        here.session,
        here.the_study,
        found,
        reason=asked.reason,
        why=asked.why,
        found_on=asked.found_on,
        should_have_been=asked.should_have_been,
        corrects=asked.corrects,
        by=here.actor,
        now=here.now,
    )
    made = next(each for each in _records(here, found) if each.number == number)
    where = address_of(here, "participants", found.code, "randomised-in-error", number)
    return here.answer(InErrorReply.model_validate(made).model_dump(mode="json"), status=201, location=where)


def _participant(here: Here, code: str) -> Participant:
    if not here.the_study.definition.is_allocated:
        raise NotFound
    return participant_of(here, code)


def _records(here: Here, participant: Participant) -> tuple[InError, ...]:
    assert participant.id is not None
    return records_of(here.session, participant.id)
