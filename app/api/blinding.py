"""How well was the arm guessed, over REST? For the statistician, once the trial is over; unknown to all others."""

from datetime import datetime
from typing import Any

from pydantic import ConfigDict

from app.api.operations import operations
from app.api.randomisation import ArmsPage
from app.api.shapes import Reply
from app.people.permissions import Permission
from app.randomisation.blinding import actions
from app.randomisation.blinding.rules import ArmGuessed, Assessed

router = operations("sequence", hidden_without=Permission.ALLOCATIONS_EXPORT)

JAMES: dict[str, Any] = {"value": 0.748, "standard_error": 0.022, "low": 0.705, "high": 0.791, "n": 416}
BANG: dict[str, Any] = {"value": 0.206, "standard_error": 0.035, "low": 0.137, "high": 0.275, "n": 277}
SURE: dict[str, Any] = {"value": 0.164, "standard_error": 0.026, "low": 0.114, "high": 0.215, "n": 277}
ARM: dict[str, Any] = {
    "arm": "retraining",
    "randomised": 280,
    "answers": {"active": 82, "inactive": 25},
    "do_not_know": 170,
    "no_answer": 3,
    "right": 82,
    "wrong": 25,
    "bang": BANG,
    "bang_by_certainty": SURE,
}
GUESS: dict[str, Any] = {
    "code": "participant",
    "label": "The participant's guess at week 52",
    "by": "participant",
    "visit": "week52",
    "item": "blind_guess",
    "randomised": 420,
    "answered": 416,
    "james": JAMES,
    "arms": [ARM],
}


class EstimateReply(Reply):
    """An index, its standard error, its two-sided 95 % interval, and of how many people it is."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": JAMES})

    value: float
    standard_error: float
    low: float
    high: float
    n: int


class ArmGuessedReply(Reply):
    """How one arm was guessed: counts by answer, and Bang's index; null where it is not defined or not asked."""

    model_config = ConfigDict(json_schema_extra={"example": ARM})

    arm: str
    randomised: int
    answers: dict[str, int]
    do_not_know: int
    no_answer: int
    right: int
    wrong: int
    bang: EstimateReply | None
    bang_by_certainty: EstimateReply | None


class GuessReply(Reply):
    """One guess held against the arms, with James' index of everybody; null where it is not defined."""

    model_config = ConfigDict(json_schema_extra={"example": GUESS})

    code: str
    label: str
    by: str
    visit: str
    item: str
    randomised: int
    answered: int
    james: EstimateReply | None
    arms: list[ArmGuessedReply]


class BlindingReply(Reply):
    """The closed report on the blind. Unblinded: every envelope opened for it is in the log."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"study": "resolve", "at": "2026-03-14T09:26:53.589793+00:00", "guesses": [GUESS]}
        }
    )

    study: str
    at: datetime
    guesses: list[GuessReply]


@router.get("/blinding-assessment", name="api.blinding")
def blinding(here: ArmsPage) -> BlindingReply:
    """Guesses of the arm held against the arms, with James' and Bang's indices. Refused while the trial goes on."""
    found = actions.open_report(here.session, here.the_study, by=here.actor, now=here.now)
    return BlindingReply(study=here.the_study.code, at=here.now, guesses=[_guess(each) for each in found])


def _guess(found: Assessed) -> GuessReply:
    guess = found.guess
    return GuessReply(
        code=guess.code,
        label=guess.label,
        by=guess.by,
        visit=guess.visit,
        item=guess.item,
        randomised=found.randomised,
        answered=found.answered,
        james=EstimateReply.model_validate(found.james) if found.james else None,
        arms=[_arm([answer.choice for answer in guess.answers], arm) for arm in found.arms],
    )


def _arm(choices: list[str], arm: ArmGuessed) -> ArmGuessedReply:
    return ArmGuessedReply(
        arm=arm.arm,
        randomised=arm.randomised,
        answers=dict(zip(choices, arm.answers, strict=True)),
        do_not_know=arm.unknown,
        no_answer=arm.randomised - arm.answered,
        right=arm.right,
        wrong=arm.wrong,
        bang=EstimateReply.model_validate(arm.bang) if arm.bang else None,
        bang_by_certainty=EstimateReply.model_validate(arm.bang_by_certainty) if arm.bang_by_certainty else None,
    )
