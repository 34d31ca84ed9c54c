"""Reports over REST: how the trial goes at your sites, in numbers, never by arm."""

from datetime import date, datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import ConfigDict, Field

from app.api.operations import operations
from app.api.shapes import Reply
from app.capture.queries.rules import AGES
from app.dependencies import ApiPage
from app.reports import reads

router = operations("reports")


def _shown(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(from_attributes=True, json_schema_extra={"example": example})


MONTH = {"first": "2026-03-01", "entered": 9, "total": 41}
RECRUITMENT = {"months": [MONTH], "total": 41, "target": 276, "pace": 8.3, "reached_on": "2028-07-01"}
SITE = {"site": "neura", "entered": 41, "target": 60, "pace": 8.3, "reached_on": "2026-10-01"}
STANDING = {
    "site": "neura",
    "screened": 63,
    "failed": 14,
    "consented": 47,
    "entered": 41,
    "completed": 0,
    "withdrawn": 2,
    "lost": 1,
    "died": 0,
    "left": 1,
    "active": 38,
    "in_part": 1,
}
REASON = {"code": "declined", "number": 6}
FLOW = {
    "assessed": 63,
    "excluded": 14,
    "reasons": [REASON],
    "left": 1,
    "to_consent": 2,
    "to_enter": 5,
    "entered": 41,
    "in_error": 1,
    "completed": 0,
    "withdrawn": 2,
    "lost": 1,
    "died": 0,
    "active": 38,
    "in_part": 1,
}
VISIT = {
    "code": "week18",
    "label": "Week 18",
    "expected": 20,
    "held": 18,
    "in_window": 17,
    "out_of_window": 1,
    "missed": 1,
    "overdue": 1,
    "due": 0,
    "later": 19,
    "stopped": 2,
    "reached": 21,
}
FORMS = {
    "site": "neura",
    "visit": "week18",
    "instrument": "pain",
    "expected": 19,
    "complete": 16,
    "partial": 2,
    "lacking": 1,
}
QUERIES = {"site": "neura", "open": 4, "answered": 2, "ages": [3, 2, 0, 1]}
EVENTS = {"site": "neura", "to_judge": 1, "to_review": 0}
SHARE = {"number": 9, "of": 120, "p": 0.0021, "stands_out": False}
TYPING = {
    "site": "neura",
    "late": SHARE,
    "corrected": {"number": 14, "of": 2310, "p": 0.41, "stands_out": False},
    "alike": {"number": 1, "of": 98, "p": 0.36, "stands_out": False},
}
DIGITS = {
    "site": "neura",
    "instrument": "disability",
    "item": "weight",
    "number": 118,
    "difference": 0.31,
    "digit": 0,
    "share": 0.42,
    "elsewhere": 0.13,
    "p": 3.1e-9,
    "stands_out": True,
}
LEVEL = {
    "site": "neura",
    "instrument": "pain",
    "item": "pain_nrs",
    "number": 118,
    "distance": 0.2,
    "spread": 0.4,
    "is_far": False,
    "is_odd": True,
    "stands_out": True,
}
QUALITY = {"at": "2026-07-16T09:26:53.589793Z", "sites": [TYPING], "digits": [DIGITS], "levels": [LEVEL]}


class MonthReply(Reply):
    """How many were enrolled in a month, and how many had been at its end."""

    model_config = _shown(MONTH)

    first: date
    entered: int
    total: int


class RecruitmentReply(Reply):
    """How recruitment goes: everybody enrolled counts, whatever became of them. `pace` is people a month, over the
    last three whole months.

    `target` is the study's when you see every site, else the sum of those of your sites where each has one;
    `reached_on` says when it is reached if it goes on so.
    """

    model_config = _shown(RECRUITMENT)

    months: list[MonthReply]
    total: int
    target: int | None
    pace: float | None
    reached_on: date | None


class SiteRecruitmentReply(Reply):
    """How recruitment goes at one site; `target` is what the protocol agrees with it, null where it says nothing."""

    model_config = _shown(SITE)

    site: str = Field(description="Empty for all of them together.")
    entered: int
    target: int | None
    pace: float | None
    reached_on: date | None


class StandingReply(Reply):
    """How many stand where. `entered` are those enrolled: randomised, or consented where nobody is. Each of them is in
    one of `active` (still takes part), `completed`, `withdrawn` (from visits, or the use of data), `lost` and `died`;
    `left` are those who were gone before they were enrolled."""

    model_config = _shown(STANDING)

    site: str = Field(description="Empty for all of them together.")
    screened: int
    failed: int
    consented: int
    entered: int
    completed: int
    withdrawn: int
    lost: int
    died: int
    left: int
    active: int
    in_part: int = Field(description="Of those active, who withdrew from something and are followed up.")


class ReasonReply(Reply):
    """How many did not pass screening, and why: a reason of the study, or the criteria that were not met."""

    model_config = _shown(REASON)

    code: str
    number: int


class FlowReply(Reply):
    """The flow of participants: `assessed` is the sum of `excluded`, `left`, `to_consent`, `to_enter` and `entered`,
    and `entered` the sum of `active`, `completed`, `withdrawn`, `lost` and `died`."""

    model_config = _shown(FLOW)

    assessed: int
    excluded: int
    reasons: list[ReasonReply]
    left: int
    to_consent: int
    to_enter: int
    entered: int
    in_error: int = Field(description="Of them, whom it stands recorded of that they were randomised in error.")
    completed: int
    withdrawn: int
    lost: int
    died: int
    active: int
    in_part: int = Field(description="Of those active, who withdrew from something and are followed up.")


class VisitReply(Reply):
    """How many of one visit stand where; `expected` are those that were held, or whose target day has come. Nobody is
    expected once they withdrew or died: those visits are `stopped`, and `reached` counts them where their day has come.
    """

    model_config = _shown(VISIT)

    code: str
    label: str
    expected: int
    held: int
    in_window: int
    out_of_window: int
    missed: int
    overdue: int
    due: int
    later: int
    stopped: int
    reached: int = Field(description="Of everybody whose target day has come, what `held` is the retention of.")


class FormsReply(Reply):
    """How many of one form are expected by now at one visit, and how far they are; `lacking` are not begun."""

    model_config = _shown(FORMS)

    site: str
    visit: str
    instrument: str
    expected: int
    complete: int
    partial: int
    lacking: int


class StandingQueriesReply(Reply):
    """Queries that are not closed."""

    model_config = _shown(QUERIES)

    site: str = Field(description="Empty for all of them together.")
    open: int
    answered: int
    ages: list[int] = Field(description=f"How many by age: from 0, {', '.join(map(str, AGES))} days on.")


class WaitingEventsReply(Reply):
    """Serious adverse events that wait for a judgement, or for its review."""

    model_config = _shown(EVENTS)

    site: str = Field(description="Empty for all of them together.")
    to_judge: int
    to_review: int


class ShareReply(Reply):
    """So many of all. `p` is the chance of a difference from your other sites like this one; null: nothing is said."""

    model_config = _shown(SHARE)

    number: int
    of: int
    p: float | None
    stands_out: bool


class TypingReply(Reply):
    """How a site enters its data: entries begun over a week after the visit, answers that were ever corrected, and
    forms that are like another of the same visit, value for value."""

    model_config = _shown(TYPING)

    site: str = Field(description="Empty for all of them together.")
    late: ShareReply
    corrected: ShareReply
    alike: ShareReply


class DigitsReply(Reply):
    """The last digits of an item at a site beside those of your other sites: which share of them is elsewhere than
    there, and which digit is most in excess."""

    model_config = _shown(DIGITS)

    site: str
    instrument: str
    item: str
    number: int
    difference: float
    digit: int
    share: float
    elsewhere: float
    p: float
    stands_out: bool


class LevelReply(Reply):
    """The values of an item at a site beside those of your other sites, visit by visit: how many standard deviations
    above the median site, and how many times as spread."""

    model_config = _shown(LEVEL)

    site: str
    instrument: str
    item: str
    number: int
    distance: float
    spread: float
    is_far: bool
    is_odd: bool
    stands_out: bool


class QualityReply(Reply):
    """What the data of your sites look like beside each other, as they were at `at`: a reason to ask, no finding."""

    model_config = _shown(QUALITY)

    at: datetime
    sites: list[TypingReply]
    digits: list[DigitsReply]
    levels: list[LevelReply]


class ReportReply(Reply):
    """Everything that reports say of some sites, as it was counted at `at`."""

    model_config = _shown(
        {
            "at": "2026-07-16T09:26:53.589793Z",
            "sites": ["neura"],
            "recruitment": RECRUITMENT,
            "by_site": [SITE],
            "standing": [STANDING],
            "flow": FLOW,
            "visits": [VISIT],
            "forms": [FORMS],
            "queries": [QUERIES],
            "events": [EVENTS],
            "quality": QUALITY,
            "is_counting": False,
        }
    )

    at: datetime
    sites: list[str]
    recruitment: RecruitmentReply
    by_site: list[SiteRecruitmentReply]
    standing: list[StandingReply]
    flow: FlowReply
    visits: list[VisitReply]
    forms: list[FormsReply]
    queries: list[StandingQueriesReply]
    events: list[WaitingEventsReply]
    quality: QualityReply | None = Field(description="Null while it is worked out for the first time: ask in a minute.")
    is_counting: bool = Field(description="Whether a new count is being made, since this one is over a minute old.")


@router.get("/reports", name="api.reports")
def reports(
    here: ApiPage,
    site: Annotated[str | None, Query(max_length=80, description="One of your sites; none: all of them.")] = None,
    again: Annotated[bool, Query(description="Count now, instead of answering the last count.")] = False,
) -> ReportReply:
    """How the trial goes at your sites: recruitment, flow, visits, forms, queries, quality, events; never by arm."""
    kept = here.request.app.state.counts
    found = reads.report(here.session, here.the_study, kept, by=here.actor, now=here.now, site=site, again=again)
    return ReportReply.model_validate(found)
