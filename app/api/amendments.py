"""Versions and amendments over REST: what differs, what it would mean, and sites that go over on their day."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Literal

from fastapi import Query
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from app.amendments import actions, reads
from app.amendments.reads import Effect, VersionRow
from app.amendments.status import State
from app.api.addressed import address_of
from app.api.filters import AtSite
from app.api.operations import operations
from app.api.shapes import Body, Code, Cursor, Limit, Number, PageOf, Reply, Text
from app.dependencies import ApiChange, ApiPage, Here
from app.foundation import paging
from app.foundation.errors import NotFound
from app.people import reads as people
from app.people.access import may, require
from app.people.permissions import Permission

router = operations("amendments")


class VersionReply(Reply):
    """One loaded version, and the sites that work under it now."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "version": "2",
                "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "loaded_at": "2026-03-01T09:00:00.000000Z",
                "loaded_by": "ada",
                "sites": ["neura"],
            }
        }
    )

    version: str
    sha256: str
    loaded_at: datetime
    loaded_by: str
    sites: list[str]


class DifferenceReply(Reply):
    """One difference of two versions. `why_not`: why it may not be while there are participants."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "topic": "arms",
                "text": "The arms and their ratio were retraining 1, sham 1, and are retraining 2, sham 1.",
                "concern": "fixed",
                "why_not": "There are participants, so this cannot change.",
            }
        },
    )

    topic: str
    text: str
    concern: Literal["text", "capture", "schedule", "conduct", "fixed"]
    why_not: str | None


class DatesReply(Reply):
    """When a visit is due, and the first and last day of its window."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={"example": {"target_on": "2026-07-06", "opens_on": "2026-06-29", "closes_on": "2026-07-20"}},
    )

    target_on: date
    opens_on: date
    closes_on: date


class VisitEffectReply(Reply):
    """What becomes of one visit."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "code": "week18",
                "step": "moved",
                "old": {"target_on": "2026-07-06", "opens_on": "2026-06-29", "closes_on": "2026-07-20"},
                "new": {"target_on": "2026-06-29", "opens_on": "2026-06-22", "closes_on": "2026-07-20"},
            }
        },
    )

    code: str
    step: Literal["moved", "added", "stopped"]
    old: DatesReply | None
    new: DatesReply | None


class EntryEffectReply(Reply):
    """What becomes of one entry once it is opened and saved again."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "visit": "baseline",
                "instrument": "pain",
                "becomes": ["incomplete"],
                "items": ["pain_worst"],
                "breaks_signature": True,
            }
        },
    )

    visit: str
    instrument: str
    becomes: list[Literal["incomplete", "complete", "check", "score", "hidden", "not_asked"]]
    items: list[str]
    breaks_signature: bool


class EffectReply(Reply):
    """What going over would mean for one participant. `outside`: booked visits that would lie outside their window;
    `verified`: how many entries stand elsewhere by what is compared with its source.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "participant": "R-0042",
                "visits": [VisitEffectReply.model_config["json_schema_extra"]["example"]],  # type: ignore[index]
                "kept": [],
                "outside": [],
                "entries": [EntryEffectReply.model_config["json_schema_extra"]["example"]],  # type: ignore[index]
                "owes": "2",
                "breaks_casebook": False,
                "verified": {"to_verify": 2},
            }
        }
    )

    participant: str
    visits: list[VisitEffectReply]
    kept: list[str]
    outside: list[str]
    entries: list[EntryEffectReply]
    owes: str | None
    breaks_casebook: bool
    verified: dict[Literal["to_verify", "verified", "not_asked"], int]


class GoingReply(Reply):
    """One site going over to a version, as far as it is."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "number": 1,
                "site": "neura",
                "from_version": "1",
                "version": "2",
                "from_on": "2026-03-02",
                "why": "Ethics committee, 1 March 2026",
                "state": "done",
                "planned_at": "2026-03-01T09:00:00.000000Z",
                "planned_by": "ada",
                "begun_at": "2026-03-02T00:00:10.000000Z",
                "ended_at": "2026-03-02T00:01:00.000000Z",
                "participants": 276,
                "looked_at": 276,
                "changed": 180,
                "visits": 412,
                "kept": 0,
            }
        },
    )

    number: int
    site: str
    from_version: str
    version: str
    from_on: date
    why: str
    state: Literal["planned", "moving", "done", "cancelled"]
    planned_at: datetime
    planned_by: str
    begun_at: datetime | None
    ended_at: datetime | None
    participants: int
    looked_at: int
    changed: int
    visits: int
    kept: int


class PlanBody(Body):
    """Which sites work under which version, from which day (none: today at each site)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "version": "2",
                "sites": ["neura"],
                "from_on": "2026-03-02",
                "why": "Ethics committee, 1 March 2026",
            }
        },
    )

    version: Code
    sites: Annotated[list[Code], Field(min_length=1, max_length=1000)]
    from_on: date | None = None
    why: Text


class PlannedReply(Reply):
    """One number for each site, in the order they were given."""

    model_config = ConfigDict(json_schema_extra={"example": {"numbers": [1]}})

    numbers: list[int]


class CancelBody(Body):
    """Why."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"why": "Not approved yet."}})

    why: Text


class CancelledReply(Reply):
    """Which one it was."""

    model_config = ConfigDict(json_schema_extra={"example": {"number": 1}})

    number: int


@router.get("/versions", name="api.versions")
def versions(here: ApiPage, cursor: Cursor = None, limit: Limit = 50) -> PageOf[VersionReply]:
    """Every loaded version, the newest first, and where it is in force."""
    require(here.actor, Permission.STUDY_READ)
    found = reads.loaded_versions(here.session, here.the_study, by=here.actor)
    page = paging.page_of_all(found, limit, lambda one: (one.id,), int, cursor=cursor, falling=True)
    return PageOf(items=_versions(here, page.rows), next=page.next)


@router.get("/versions/{version}", name="api.version")
def version(here: ApiPage, version: str) -> VersionReply:
    """One loaded version."""
    require(here.actor, Permission.STUDY_READ)
    found = reads.loaded_versions(here.session, here.the_study, by=here.actor)
    for said in _versions(here, [one for one in found if one.version == version]):
        return said
    raise NotFound


def _versions(here: Here, rows: Sequence[VersionRow]) -> list[VersionReply]:
    sites = reads.at_sites(here.the_study, people.sites_of(here.session, here.the_study.id))
    return [
        VersionReply(
            version=one.version,
            sha256=one.sha256,
            loaded_at=one.loaded_at,
            loaded_by=one.loaded_by,
            sites=[there.site.code for there in sites if there.version_id == one.id],
        )
        for one in rows
    ]


@router.get("/versions/{later}/differences", name="api.differences")
def differences(
    here: ApiPage,
    later: str,
    since: Annotated[Code | None, Query(description="The version to compare with; else the one in force.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[DifferenceReply]:
    """What differs between two versions, in words of the trial, by topic."""
    require(here.actor, Permission.STUDY_READ)
    new = reads.version_named(here.session, here.the_study, later, by=here.actor)
    old = reads.version_named(here.session, here.the_study, since, by=here.actor) if since else here.the_study
    page = paging.page_in_place(reads.differences_of(old, new, by=here.actor), limit, cursor=cursor)
    return PageOf(items=[DifferenceReply.model_validate(each) for each in page.rows], next=page.next)


@router.get("/versions/{later}/effect", name="api.effect")
def effect(
    here: ApiPage,
    later: str,
    site: Annotated[Code | None, Query(description="The site that would go over; else the first of yours.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[EffectReply]:
    """What going over to a version would mean for the participants of a site; writes nothing.

    Entries only for those who may read them.
    """
    require(here.actor, Permission.PARTICIPANT_READ)
    mine = [
        one
        for one in people.sites_of(here.session, here.the_study.id)
        if may(here.actor, Permission.PARTICIPANT_READ, site_id=one.id) and site in (None, one.code)
    ]
    if not mine:
        raise NotFound
    place = mine[0]
    new = reads.version_named(here.session, here.the_study, later, by=here.actor)
    page = reads.effects(
        here.session, here.the_study, new, place, cursor=cursor, limit=limit, by=here.actor, now=here.now
    )
    entries = may(here.actor, Permission.ENTRY_READ, site_id=place.id)
    return PageOf[EffectReply](items=[_effect(each, entries=entries) for each in page.rows], next=page.next)


def _effect(each: Effect, *, entries: bool) -> EffectReply:
    return EffectReply(
        participant=each.participant,
        visits=[VisitEffectReply.model_validate(one) for one in each.visits],
        kept=list(each.kept),
        outside=list(each.outside),
        entries=[EntryEffectReply.model_validate(one) for one in each.entries] if entries else [],
        owes=each.owes,
        breaks_casebook=each.breaks_casebook,
        verified={what.value: count for what, count in each.verified.items()} if entries else {},
    )


StateWord = Literal["planned", "moving", "done", "cancelled"]


@router.get("/amendments", name="api.amendments")
def amendments(
    here: ApiPage,
    site: AtSite = None,
    state: Annotated[StateWord | None, Query(description="How far they are.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[GoingReply]:
    """Sites that went, go or will go over to a version; the newest first."""
    require(here.actor, Permission.STUDY_READ)
    page = reads.going_over(
        here.session,
        here.the_study,
        by=here.actor,
        site=site,
        state=State(state) if state else None,
        cursor=cursor,
        limit=limit,
    )
    return PageOf[GoingReply](items=[GoingReply.model_validate(each) for each in page.rows], next=page.next)


@router.get("/amendments/{number}", name="api.amendment")
def amendment(here: ApiPage, number: Number) -> GoingReply:
    """One site that went, goes or will go over to a version."""
    require(here.actor, Permission.STUDY_READ)
    return GoingReply.model_validate(reads.going(here.session, here.the_study, number))


@router.post("/amendments", name="api.plan_amendment", response_model=PlannedReply, status_code=201)
def plan_amendment(here: ApiChange, asked: PlanBody) -> Response:
    """Set the day from which sites work under a version: all of them or none. Of several, Location is their list."""
    numbers = actions.plan(
        here.session,
        here.the_study,
        version=asked.version,
        sites=asked.sites,
        from_on=asked.from_on,
        why=asked.why,
        by=here.actor,
        now=here.now,
    )
    where = address_of(here, "amendments", *(numbers if len(numbers) == 1 else ()))
    return here.answer({"numbers": numbers}, status=201, location=where)


@router.post("/amendments/{number}/cancellation", name="api.cancel_amendment", response_model=CancelledReply)
def cancel_amendment(here: ApiChange, number: Number, asked: CancelBody) -> Response:
    """Take back that a site goes over to a version, as long as its day has not come."""
    actions.cancel(here.session, here.the_study, number, why=asked.why, by=here.actor, now=here.now)
    return here.answer({"number": number})


@router.post("/amendments/{number}/continuation", name="api.carry_on_amendment", response_model=GoingReply)
def carry_on_amendment(here: ApiChange, number: Number) -> Response:
    """Let the next participants' visits follow at once, without waiting for the calendar."""
    going = actions.carry_on_now(here.session, here.the_study, number, by=here.actor, now=here.now)
    return here.answer(GoingReply.model_validate(going).model_dump(mode="json"))
