"""How did participants go through the trial by arm, over REST? For the statistician; unknown to all others."""

from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field

from app.api.operations import operations
from app.api.randomisation import ArmsPage
from app.api.shapes import Reply
from app.people.permissions import Permission
from app.treatment.flow.actions import open_flow
from app.treatment.flow.rules import Analysis, ArmFlow, Seen

router = operations("sequence", hidden_without=Permission.ALLOCATIONS_EXPORT)


def _shown(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(from_attributes=True, json_schema_extra={"example": example})


LEFT: dict[str, Any] = {"why": "missed", "of": "", "number": 10}
VISIT: dict[str, Any] = {
    "visit": "week18",
    "label": "Week 18",
    "followed": 128,
    "missed": 10,
    "withdrawn": 0,
    "lost": 0,
    "died": 0,
    "late": 0,
    "to_come": 0,
    "not_planned": 0,
}
ANALYSIS: dict[str, Any] = {
    "label": "Pain intensity at 18 weeks",
    "kind": "primary",
    "instrument": "pain",
    "item": "pain_intensity",
    "visit": "week18",
    "available": 128,
    "analysed": 128,
    "excluded": 10,
    "reasons": [LEFT],
}
ARM: dict[str, Any] = {
    "arm": "retraining",
    "sites": 1,
    "allocated": 138,
    "in_error": 0,
    "received": 136,
    "not_received": 2,
    "not_received_reasons": [{"why": "withdrawn", "of": "stop_visits", "number": 2}],
    "pending": 0,
    "not_known": 0,
    "stopped": 4,
    "stopped_reasons": [{"why": "withdrawn", "of": "stop_treatment", "number": 4}],
    "visits": [VISIT],
    "analyses": [ANALYSIS],
}
GROUP: dict[str, Any] = {"group": "open_label", "allocated": 60, "went_on": 58}


class ReasonReply(Reply):
    """A reason and how many it is true of; `of` is the withdrawal level or the missing code, where it has one."""

    model_config = _shown(LEFT)

    why: str
    of: str
    number: int


class VisitFlowReply(Reply):
    """What became of one visit in one arm: everybody allocated is in exactly one of these numbers."""

    model_config = _shown(VISIT)

    visit: str
    label: str
    followed: int
    missed: int
    withdrawn: int
    lost: int
    died: int
    late: int = Field(description="Its window is over and nothing is recorded.")
    to_come: int
    not_planned: int


class AnalysisReply(Reply):
    """One outcome at its time point. `available`: a value stands in the form; `analysed`: and it may be used."""

    model_config = _shown(ANALYSIS)

    label: str
    kind: str
    instrument: str
    item: str
    visit: str
    available: int
    analysed: int
    excluded: int
    reasons: list[ReasonReply]


class ArmFlowReply(Reply):
    """The flow of one arm: allocated = received + not received + pending + not known; = analysed + excluded."""

    model_config = _shown(ARM)

    arm: str = Field(description="Empty for those of whom no group is recorded, where groups are observed.")
    sites: int
    allocated: int
    in_error: int = Field(description="Randomised in error. They are counted in everything else as well.")
    received: int
    not_received: int
    not_received_reasons: list[ReasonReply]
    pending: int
    not_known: int = Field(description="The study records no sessions for this arm.")
    stopped: int = Field(description="Received it, and left before its end.")
    stopped_reasons: list[ReasonReply]
    visits: list[VisitFlowReply]
    analyses: list[AnalysisReply]


class GroupFlowReply(Reply):
    """A group of the first stage: how many are in it, and how many of them have an arm."""

    model_config = _shown(GROUP)

    group: str
    allocated: int
    went_on: int


class FlowByArmReply(Reply):
    """The closed report of the flow by arm. Unblinded: every envelope opened for it is in the log."""

    model_config = _shown(
        {
            "study": "resolve",
            "at": "2026-03-14T09:26:53.589793+00:00",
            "is_locked": True,
            "arms": [ARM],
            "groups": [GROUP],
        }
    )

    study: str
    at: datetime
    is_locked: bool | None = Field(description="Whether these numbers are final; null where nobody is allocated.")
    arms: list[ArmFlowReply]
    groups: list[GroupFlowReply]


@router.get("/flow-by-arm", name="api.flow_by_arm")
def flow_by_arm(here: ArmsPage) -> FlowByArmReply:
    """The flow of participants by arm, and who is analysed for each outcome, with the reasons of who is not."""
    found = open_flow(here.session, here.the_study, by=here.actor, now=here.now)
    return FlowByArmReply(
        study=here.the_study.code,
        at=here.now,
        is_locked=found.is_locked,
        arms=[_arm(arm) for arm in found.arms],
        groups=[GroupFlowReply.model_validate(group) for group in found.groups],
    )


def _arm(arm: ArmFlow) -> ArmFlowReply:
    names = ("arm", "sites", "allocated", "in_error", "received", "not_received", "pending", "not_known", "stopped")
    return ArmFlowReply(
        **{name: getattr(arm, name) for name in names},
        not_received_reasons=[ReasonReply.model_validate(reason) for reason in arm.not_received_reasons],
        stopped_reasons=[ReasonReply.model_validate(reason) for reason in arm.stopped_reasons],
        visits=[
            VisitFlowReply(visit=each.visit, label=each.label, **{seen.value: each.numbers[seen] for seen in Seen})
            for each in arm.visits
        ],
        analyses=[_analysis(each) for each in arm.analyses],
    )


def _analysis(each: Analysis) -> AnalysisReply:
    return AnalysisReply(
        **each.outcome.model_dump(),
        available=each.available,
        analysed=each.analysed,
        excluded=each.excluded,
        reasons=[ReasonReply.model_validate(reason) for reason in each.reasons],
    )
