"""A pre-screen once it is kept, over REST: what stands, every value it had, and its correction."""

from datetime import datetime
from typing import Any

from fastapi.responses import Response
from pydantic import ConfigDict, Field

from app.api.addressed import participant_of
from app.api.operations import operations
from app.api.participants import VerdictReply
from app.api.randomisation import allotted
from app.api.shapes import Body, Cursor, Limit, PageOf, Reply, Text, Values, Version
from app.dependencies import ApiChange, ApiPage, Here
from app.foundation import paging
from app.foundation.errors import NotFound
from app.participants.corrections.actions import Asked
from app.participants.corrections.reads import history, screening_of
from app.participants.models import Participant
from app.people.access import require
from app.people.permissions import Permission
from app.safety.screening import correct_screening as correct
from app.studies.reads import definition

router = operations("participants", "/participants")

VERDICT: dict[str, Any] = {
    "code": "age",
    "label": "Aged 18 to 70",
    "kind": "inclusion",
    "met": True,
    "reason": "Age: 54 years.",
}


class MovedReply(Reply):
    """A factor of the stratum of which the answers, as corrected, say another level. The allocation stays as it is."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"factor": "pain", "randomised_as": "low", "should_have_been": "high"}}
    )

    factor: str
    randomised_as: str
    should_have_been: str | None = Field(description="The level by the answers now; null when it is none of the study.")


class ScreeningStandsReply(Reply):
    """A pre-screen as it stands. `version` is sent back with a correction; judged by `study_version`."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "participant": "R-0042",
                "status": "screened",
                "version": 2,
                "study_version": "1.0",
                "answers": {"age": 54, "english": True, "main_complaint": True, "pain_weeks": 40},
                "eligible": True,
                "failure_reason": "declined",
                "verdicts": [VERDICT],
                "screened_at": "2026-03-02T02:11:40.000000Z",
                "screened_by": "coordinator",
                "corrected_at": "2026-03-04T23:05:10.000000Z",
                "corrected_by": "coordinator",
                "moved": [{"factor": "pain", "randomised_as": "low", "should_have_been": "high"}],
            }
        }
    )

    participant: str
    status: str
    version: int
    study_version: str
    answers: dict[str, Any]
    eligible: bool
    failure_reason: str | None
    verdicts: list[VerdictReply]
    screened_at: datetime
    screened_by: str
    corrected_at: datetime | None
    corrected_by: str | None
    moved: list[MovedReply]


class CorrectionBody(Body):
    """All answers of the pre-screen as they should have been: one that is left out is blank. `version`: the one read.

    `failure_reason` is of a screen failure alone: why they do not take part beside what the answers say. Left out it
    stays as it is; empty, no other reason holds, and they take part if the answers let them.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "answers": {"age": 54, "english": True, "main_complaint": True, "pain_weeks": 40, "pain_past_week": 6},
                "version": 1,
                "why": "Read from the passport: the card of the clinic was wrong.",
            }
        },
    )

    answers: Values
    failure_reason: Text | None = None
    version: Version
    why: Text


class ScreeningLineReply(Reply):
    """One change of a pre-screen: of an answer by its code in `item`, or of how it was judged."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "at": "2026-03-04T23:05:10.000000Z",
                "username": "coordinator",
                "role": "coordinator",
                "action": "screening.corrected",
                "item": "age",
                "old": 45,
                "new": 54,
                "why": "Read from the passport: the card of the clinic was wrong.",
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


@router.get("/{code}/screening", name="api.screening")
def screening(here: ApiPage, code: str) -> ScreeningStandsReply:
    """The answers of a pre-screen as they stand, and what they say of each criterion."""
    return _stands(here, _readable(here, code))


@router.put("/{code}/screening", name="api.correct_screening", response_model=ScreeningStandsReply)
def correct_screening(here: ApiChange, code: str, asked: CorrectionBody) -> Response:
    """Correct the answers of a pre-screen, and say why. They are judged again by the version they were given to.

    Who is not randomised and not eligible becomes a screen failure; a screen failure who is eligible after all is
    screened again, unless more depends on it since. Whoever takes part stays, and is a deviation from then on. The
    allocation and its stratum never move. `If-Match` with the ETag of the GET, or `version`, keeps two from overwriting
    each other.
    """
    found, study = participant_of(here, code), here.the_study
    said = Asked(asked.answers, asked.failure_reason, asked.version, asked.why)
    correct(
        here.session,
        study,
        found,
        said,
        lot=lambda answers: allotted(here, found, answers),
        by=here.actor,
        now=here.now,
    )
    return here.answer(_stands(here, found).model_dump(mode="json"))


@router.get("/{code}/screening/history", name="api.screening_history")
def screening_history(here: ApiPage, code: str, cursor: Cursor = None, limit: Limit = 50) -> PageOf[ScreeningLineReply]:
    """Every value that the answers of a pre-screen had, and how they were judged again; the oldest first."""
    found = _readable(here, code)
    page = paging.page_in_place(history(here.session, here.the_study, found.code), limit, cursor=cursor)
    return PageOf(items=[ScreeningLineReply.model_validate(line) for line in page.rows], next=page.next)


def _readable(here: Here, code: str) -> Participant:
    found = participant_of(here, code)
    require(here.actor, Permission.ENTRY_READ, site_id=found.site_id, subject=f"{found.code}/screening")
    return found


def _stands(here: Here, found: Participant) -> ScreeningStandsReply:
    assert found.id is not None
    kept, _ = screening_of(here.session, found.id)
    if kept is None:
        raise NotFound
    return ScreeningStandsReply(
        participant=found.code,
        status=found.status,
        version=kept.version,
        study_version=definition(here.session, kept.study_version_id).version,
        answers=kept.answers,
        eligible=kept.eligible,
        failure_reason=kept.failure_reason,
        verdicts=[VerdictReply.model_validate(verdict) for verdict in kept.verdicts],
        screened_at=kept.screened_at,
        screened_by=kept.screened_by,
        corrected_at=kept.corrected_at,
        corrected_by=kept.corrected_by,
        moved=[
            MovedReply(factor=factor, randomised_as=was, should_have_been=now)
            for factor, (was, now) in kept.moved_levels.items()
        ],
    )
