"""When is what due, over REST? Visits, held or missed."""

from datetime import date, timedelta
from typing import Annotated, Literal

from fastapi import Query
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from app.api.addressed import address_of, participant_of
from app.api.filters import AtSite, at
from app.api.operations import operations
from app.api.shapes import Body, Cursor, Limit, PageOf, Reply, Text, Version
from app.capture import actions
from app.dependencies import ApiChange, ApiPage
from app.foundation import clock, paging
from app.foundation.errors import FieldProblem, Invalid
from app.people.access import require
from app.people.permissions import Permission
from app.people.reads import sites_of
from app.schedule import reads
from app.schedule.rules import days_left, visit_state
from app.studies.definition import VisitKind

router = operations("visits")

VISITS = "/participants/{code}/visits"
OfKind = Annotated[Literal["baseline", "treatment", "assessment"] | None, Query(description="Only of this kind.")]


class VisitReply(Reply):
    """One visit: when it is due, its window, what became of it."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "code": "week18",
                "kind": "assessment",
                "target_on": "2026-07-16",
                "opens_on": "2026-07-09",
                "closes_on": "2026-07-30",
                "status": "held",
                "held_on": "2026-08-03",
                "reason": "Away until the end of July.",
                "in_error_why": "Recorded for another participant.",
                "version": 2,
            }
        },
    )

    code: str
    kind: str
    target_on: date
    opens_on: date
    closes_on: date
    status: str
    held_on: date | None
    reason: str | None
    in_error_why: str | None
    version: int


class VisitBody(Body):
    """What became of a visit. `version` is the one you read; out of its window a `reason` is asked for."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"status": "held", "held_on": "2026-07-16", "version": 1}}
    )

    status: Literal["held", "missed"]
    held_on: date | None = Field(default=None, examples=["2026-07-16"])
    reason: Text | None = None
    version: Version


class CorrectionBody(Body):
    """The day on which a visit was really held, and why it changes. `version` is the one you read.

    `reason` says why the visit was held outside its window, and is needed where the new day lies outside.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"held_on": "2026-07-15", "version": 2, "why": "Read from the diary again."}},
    )

    held_on: date
    version: Version
    why: Text
    reason: Text | None = None


class ReopeningBody(Body):
    """Why a visit is planned again. `version` is the one you read."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"version": 2, "why": "Recorded for the wrong participant."}},
    )

    version: Version
    why: Text


class InErrorBody(Body):
    """Whether a visit outside the plan was entered in error, and why. `version` is the one you read."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"in_error": True, "version": 1, "why": "It belongs to another participant."}},
    )

    in_error: bool = True
    version: Version
    why: Text


@router.get(VISITS, name="api.visits")
def visits(
    here: ApiPage,
    code: str,
    status: Annotated[
        Literal["planned", "held", "missed", "stopped", "in_error"] | None, Query(description="Only of this status.")
    ] = None,
    kind: OfKind = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[VisitReply]:
    """The visits of a participant that have dates, in the order of the plan."""
    found = participant_of(here, code)
    assert found.id is not None
    rows = reads.visits_of(here.session, found.id)
    wanted = [row for row in rows if status in (None, row.status) and kind in (None, row.kind)]
    page = paging.page_of_all(wanted, limit, lambda row: (row.order, row.id or 0), int, int, cursor=cursor)
    return PageOf(items=[VisitReply.model_validate(row) for row in page.rows], next=page.next)


@router.get(VISITS + "/{visit}", name="api.visit")
def visit(here: ApiPage, code: str, visit: str) -> VisitReply:
    """One visit of a participant that has a date."""
    found = participant_of(here, code)
    assert found.id is not None
    return VisitReply.model_validate(reads.visit_of(here.session, found.id, visit))


class DueReply(Reply):
    """A visit that waits to be held. `state` is upcoming, due or overdue by the site's clock; `days_left` until its
    window closes, negative afterwards."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "participant": "R-0042",
                "site": "neura",
                "visit": "week18",
                "kind": "assessment",
                "target_on": "2026-07-16",
                "opens_on": "2026-07-09",
                "closes_on": "2026-07-30",
                "state": "due",
                "days_left": 14,
                "version": 1,
            }
        },
    )

    participant: str
    site: str
    visit: str
    kind: str
    target_on: date
    opens_on: date
    closes_on: date
    state: str
    days_left: int
    version: int


@router.get("/visits-due", name="api.visits_due")
def visits_due(
    here: ApiPage,
    site: AtSite = None,
    kind: OfKind = None,
    days: Annotated[int, Query(ge=0, le=366, description="Also those whose window opens in so many days.")] = 0,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[DueReply]:
    """The visits at your sites that are due or overdue, by target day: what the page Today shows."""
    require(here.actor, Permission.PARTICIPANT_READ)
    zones = {each.id: each.timezone for each in sites_of(here.session, here.the_study.id)}
    latest = max(clock.today(zone, here.now) for zone in zones.values())
    page = reads.visits_due(
        here.session,
        here.the_study,
        by=at(here, site),
        today=latest,
        until=latest + timedelta(days=days),
        kinds=[VisitKind(kind)] if kind else None,
        cursor=cursor,
        limit=limit,
    )
    return PageOf(items=[_due(row, clock.today(zones[row.site_id], here.now)) for row in page.rows], next=page.next)


def _due(row: reads.DueVisit, today: date) -> DueReply:
    kept = {name: getattr(row, name) for name in ("kind", "target_on", "opens_on", "closes_on", "version")}
    return DueReply(
        participant=row.participant_code,
        site=row.site_code,
        visit=row.code,
        state=visit_state(row, today),
        days_left=days_left(row, today),
        **kept,
    )


class AddedBody(Body):
    """A visit outside the plan: the day on which it was held, and why they came."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"held_on": "2026-07-20", "reason": "Pain came back."}}
    )

    held_on: date
    reason: Text


@router.post(VISITS, name="api.add_visit", response_model=VisitReply, status_code=201)
def add_visit(here: ApiChange, code: str, asked: AddedBody) -> Response:
    """Record a visit outside the plan; its code is in the reply, and its forms are entered under it."""
    found = participant_of(here, code)
    row = actions.add_visit(
        here.session,
        here.the_study,
        found,
        held_on=asked.held_on,
        reason=asked.reason,
        by=here.actor,
        now=here.now,
    )
    where = address_of(here, "participants", found.code, "visits", row.code)
    return here.answer(VisitReply.model_validate(row).model_dump(mode="json"), status=201, location=where)


@router.put(VISITS + "/{visit}", name="api.record_visit", response_model=VisitReply)
def record_visit(here: ApiChange, code: str, visit: str, asked: VisitBody) -> Response:
    """Record that a visit was held or missed. A visit out of its window is recorded as such, never refused."""
    found = participant_of(here, code)
    where = f"{found.code}/visit/{visit}"
    require(here.actor, Permission.VISIT_RECORD, site_id=found.site_id, action="visit.record", subject=where)
    if asked.status == "missed":
        row = actions.miss_visit(
            here.session,
            here.the_study,
            found,
            visit,
            version=asked.version,
            why=asked.reason or "",
            by=here.actor,
            now=here.now,
        )
    else:
        if asked.held_on is None:
            raise Invalid([FieldProblem("held_on", "required", "Say on which day the visit was held.")])
        row = actions.record_visit(
            here.session,
            here.the_study,
            found,
            visit,
            held_on=asked.held_on,
            version=asked.version,
            reason=asked.reason,
            by=here.actor,
            now=here.now,
        )
    return here.answer(VisitReply.model_validate(row).model_dump(mode="json"))


@router.post(VISITS + "/{visit}/correction", name="api.correct_visit", response_model=VisitReply)
def correct_visit(here: ApiChange, code: str, visit: str, asked: CorrectionBody) -> Response:
    """Correct the day on which a visit was held. The log keeps the day it was before, and why."""
    row = actions.correct_visit(
        here.session,
        here.the_study,
        participant_of(here, code),
        visit,
        held_on=asked.held_on,
        version=asked.version,
        why=asked.why,
        reason=asked.reason,
        by=here.actor,
        now=here.now,
    )
    return here.answer(VisitReply.model_validate(row).model_dump(mode="json"))


@router.post(VISITS + "/{visit}/reopening", name="api.reopen_visit", response_model=VisitReply)
def reopen_visit(here: ApiChange, code: str, visit: str, asked: ReopeningBody) -> Response:
    """Make a visit planned again that was recorded by mistake. Its entries are not touched."""
    row = actions.reopen_visit(
        here.session,
        here.the_study,
        participant_of(here, code),
        visit,
        version=asked.version,
        why=asked.why,
        by=here.actor,
        now=here.now,
    )
    return here.answer(VisitReply.model_validate(row).model_dump(mode="json"))


@router.put(VISITS + "/{visit}/in-error", name="api.mark_visit_in_error", response_model=VisitReply)
def mark_visit_in_error(here: ApiChange, code: str, visit: str, asked: InErrorBody) -> Response:
    """Mark a visit outside the plan as entered in error, or take the mark back. Its row stays, and counts nowhere."""
    row = actions.mark_visit_in_error(
        here.session,
        here.the_study,
        participant_of(here, code),
        visit,
        version=asked.version,
        why=asked.why,
        by=here.actor,
        now=here.now,
        undo=not asked.in_error,
    )
    return here.answer(VisitReply.model_validate(row).model_dump(mode="json"))
