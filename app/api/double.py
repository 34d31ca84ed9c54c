"""What is entered twice, over REST? Second entries, the queue, one pair and its settling, how far both agree."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from app.api.addressed import participant_of
from app.api.filters import AtSite, AtVisit, OfForm, Whose, at
from app.api.operations import operations
from app.api.shapes import Body, Code, Cursor, Limit, Number, PageOf, Reply, Text, Values, Version
from app.capture.double import actions, reads
from app.capture.double.actions import Decision
from app.capture.double.rules import Chosen, State
from app.capture.typed import check_stored
from app.dependencies import ApiChange, ApiPage
from app.people.access import require
from app.people.permissions import Permission

router = operations("double entry")

LINE: dict[str, Any] = {
    "number": 4,
    "participant": "R-0042",
    "site": "neura",
    "visit": "week18",
    "instrument": "pain",
    "state": "to_reconcile",
    "first_by": "assessor",
    "first_at": "2026-07-16T09:26:53.589793Z",
    "second_by": "coordinator",
    "second_at": "2026-07-17T08:02:11.000000Z",
    "differing": 1,
}
ANSWER: dict[str, Any] = {
    "item": "pain_intensity",
    "first": 7,
    "second": 1,
    "agrees": False,
    "chosen": "first",
    "settled": 7,
    "why": "The paper says 7.",
}


class SecondBody(Body):
    """All answers of the paper, entered by somebody who has not seen the first entry."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"values": {"pain_intensity": 1}, "reasons": {}, "accept_partial": False}},
    )

    values: Values
    reasons: dict[Code, Text] = Field(default={}, description="By item: why a soft check was accepted.")
    accept_partial: bool = Field(default=False, description="Save although required answers are missing.")


class EnteredReply(Reply):
    """What the two entries came to."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"number": 4, "state": "to_reconcile", "compared": 5, "differing": 1}}
    )

    number: int
    state: str
    compared: int
    differing: int


class LineReply(Reply):
    """One form that is entered twice."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": LINE})

    number: int
    participant: str
    site: str
    visit: str
    instrument: str
    state: str
    first_by: str
    first_at: datetime
    second_by: str | None
    second_at: datetime | None
    differing: int


class AnswerReply(Reply):
    """One answer as both entered it."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": ANSWER})

    item: str
    first: Any
    second: Any
    agrees: bool
    chosen: str | None
    settled: Any
    why: str | None


class PairReply(LineReply):
    """One form with its answers, once it was entered twice."""

    model_config = ConfigDict(
        from_attributes=True, json_schema_extra={"example": {**LINE, "version": 2, "answers": [ANSWER]}}
    )

    version: int
    answers: list[AnswerReply]


class SettledAnswerBody(Body):
    """What stands of one answer, and why; `value` is the right one where neither entry is."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"chosen": "other", "value": 6, "why": "The paper says 6."}},
    )

    chosen: Literal["first", "second", "other"]
    value: Any = None
    why: Text


class ReconcileBody(Body):
    """A decision for every answer that differs."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "decisions": {"pain_intensity": {"chosen": "first", "why": "The paper says 7."}},
                "version": 2,
            }
        },
    )

    decisions: dict[Code, SettledAnswerBody]
    version: Version


class AgreementReply(Reply):
    """How far two people agree on one item. Kappa stands there where it is defined; `weighted` for scales."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "instrument": "pain",
                "item": "pain_intensity",
                "site": "neura",
                "compared": 40,
                "agreeing": 38,
                "percent": 95.0,
                "kappa": 0.94,
                "kappa_low": 0.86,
                "kappa_high": 1.0,
                "weighted": 0.97,
                "weighted_low": 0.93,
                "weighted_high": 1.0,
            }
        }
    )

    instrument: str
    item: str
    site: str
    compared: int
    agreeing: int
    percent: float
    kappa: float | None
    kappa_low: float | None
    kappa_high: float | None
    weighted: float | None
    weighted_low: float | None
    weighted_high: float | None


def agreement_reply(each: reads.Agreement) -> AgreementReply:
    """One line of agreement as it is sent."""
    plain, weighted = each.kappa, each.weighted
    return AgreementReply(
        instrument=each.instrument,
        item=each.item,
        site=each.site,
        compared=each.compared,
        agreeing=each.agreeing,
        percent=each.percent,
        kappa=plain.value if plain else None,
        kappa_low=plain.low if plain else None,
        kappa_high=plain.high if plain else None,
        weighted=weighted.value if weighted else None,
        weighted_low=weighted.low if weighted else None,
        weighted_high=weighted.high if weighted else None,
    )


BySite = Annotated[bool, Query(description="One line for each site; otherwise all your sites together.")]


@router.put(
    "/participants/{code}/visits/{visit}/entries/{instrument}/second",
    name="api.enter_second",
    response_model=EnteredReply,
)
def enter_second(here: ApiChange, code: str, visit: str, instrument: str, asked: SecondBody) -> Response:
    """Enter a form the second time. Sending the same again changes nothing."""
    found = participant_of(here, code)
    form = here.the_study.definition.instrument(instrument)
    values, problems = check_stored(form, asked.values) if form else (dict(asked.values), [])
    entered = actions.enter_second(
        here.session,
        here.the_study,
        found,
        visit=visit,
        instrument=instrument,
        values=values,
        reasons=asked.reasons,
        by=here.actor,
        now=here.now,
        accept_partial=asked.accept_partial,
        problems=problems,
    )
    return here.answer(
        {
            "number": entered.number,
            "state": entered.state,
            "compared": entered.compared,
            "differing": entered.differing,
        }
    )


@router.get("/double-entries", name="api.double_entries")
def double_entries(
    here: ApiPage,
    state: Literal["awaits_second", "to_reconcile", "agreed", "reconciled"] | None = None,
    site: AtSite = None,
    participant: Whose = None,
    visit: AtVisit = None,
    instrument: OfForm = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[LineReply]:
    """Forms that are entered twice, at your sites, the oldest first."""
    require(here.actor, Permission.ENTRY_READ)
    page = reads.queue(
        here.session,
        here.the_study,
        by=at(here, site),
        state=State(state) if state else None,
        participant=participant,
        visit=visit,
        instrument=instrument,
        cursor=cursor,
        limit=limit,
    )
    return PageOf[LineReply](items=[LineReply.model_validate(each) for each in page.rows], next=page.next)


@router.get("/double-entries/{number}", name="api.double_entry")
def double_entry(here: ApiPage, number: Number) -> PairReply:
    """One form with what both entered; no answers before it was entered twice."""
    return _reply(here, number)


@router.post("/double-entries/{number}/reconciliation", name="api.reconcile", response_model=PairReply)
def reconcile(here: ApiChange, number: Number, asked: ReconcileBody) -> Response:
    """Settle every difference, each with its reason."""
    actions.reconcile(
        here.session,
        here.the_study,
        number,
        decisions={item: Decision(Chosen(each.chosen), each.why, each.value) for item, each in asked.decisions.items()},
        version=asked.version,
        by=here.actor,
        now=here.now,
    )
    return here.answer(_reply(here, number).model_dump(mode="json"))


@router.get("/agreement/double-entry", name="api.entry_agreement")
def entry_agreement(
    here: ApiPage,
    by_site: BySite = False,
    instrument: OfForm = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[AgreementReply]:
    """How far first and second entries agree, by instrument and item."""
    page = reads.agreement_page(
        here.session,
        here.the_study,
        by=here.actor,
        by_site=by_site,
        instrument=instrument,
        cursor=cursor,
        limit=limit,
    )
    return PageOf[AgreementReply](items=[agreement_reply(each) for each in page.rows], next=page.next)


def _reply(here: Any, number: int) -> PairReply:
    line = reads.line_of(here.session, here.the_study, number, by=here.actor)
    answers = reads.answers_in(here.session, here.the_study, line, by=here.actor)
    said = LineReply.model_validate(line).model_dump()
    version = reads.version_of(here.session, number)
    return PairReply(**said, version=version, answers=[AnswerReply.model_validate(each) for each in answers])
