"""What is frozen or locked, over REST? Locking many at once, and unlocking by two people."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Query
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from app.api.filters import AtSite, AtVisit, Whose, at
from app.api.operations import operations
from app.api.shapes import Body, Code, Cursor, Limit, Number, PageOf, Password, Reply, Text
from app.capture.locks import actions, reads
from app.capture.locks.rules import Kind
from app.dependencies import ApiChange, ApiPage, require_password
from app.foundation.errors import NotFound
from app.people.access import may, require
from app.people.permissions import Permission

router = operations("locks", "/locks")


class LockReply(Reply):
    """One freezing or locking that stands. No participant: everybody; no visit: every visit."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "number": 3,
                "kind": "locked",
                "participant": "R-0042",
                "visit": "week18",
                "why": "Clean, signed and verified.",
                "at": "2026-09-01T09:00:00.000000Z",
                "by": "manager",
                "asked_at": "2026-09-02T09:00:00.000000Z",
                "asked_by": "investigator",
                "asked_why": "A page was found.",
            }
        },
    )

    number: int
    kind: str
    participant: str | None
    visit: str | None
    why: str
    at: datetime
    by: str
    asked_at: datetime | None
    asked_by: str | None
    asked_why: str | None


class CloseBody(Body):
    """What to freeze or lock: these participants, or without any the whole study; at one visit or at all of them."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "kind": "locked",
                "participants": ["R-0042"],
                "visit": "week18",
                "why": "Clean, signed and verified.",
                "despite": False,
            }
        },
    )

    kind: Literal["frozen", "locked"]
    participants: Annotated[list[Code], Field(max_length=actions.MOST)] | None = None
    visit: Code | None = None
    why: Text
    despite: bool = Field(default=False, description="Lock what is partial or unsigned all the same.")


class ClosedReply(Reply):
    """How many new locks there are; what was closed so already is not counted."""

    model_config = ConfigDict(json_schema_extra={"example": {"closed": 1}})

    closed: int


class LockedReply(Reply):
    """Which lock it was."""

    model_config = ConfigDict(json_schema_extra={"example": {"number": 3}})

    number: int


class WhyBody(Body):
    """Why."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"why": "A page was found."}})

    why: Text


class DecisionBody(Body):
    """Approve with your own password, or decline with a reason."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"approve": True, "password": "correct horse battery staple"},
                {"approve": False, "why": "The page belongs to another visit."},
            ]
        },
    )

    approve: bool
    why: Text = ""
    password: Password = None


@router.get("", name="api.locks")
def locks(
    here: ApiPage,
    kind: Literal["frozen", "locked"] | None = None,
    site: AtSite = None,
    participant: Whose = None,
    visit: AtVisit = None,
    asked: Annotated[bool | None, Query(description="Only those that somebody asks to unlock, or only others.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[LockReply]:
    """What is frozen or locked; what somebody asks to unlock comes first, then the newest.

    `site` answers with those of the whole study as well, since they hold there.
    """
    require(here.actor, Permission.ENTRY_READ)
    wanted = reads.Wanted(Kind(kind) if kind else None, participant, visit, asked)
    page = reads.locks_page(here.session, here.the_study, by=at(here, site), wanted=wanted, cursor=cursor, limit=limit)
    return PageOf[LockReply](items=[LockReply.model_validate(each) for each in page.rows], next=page.next)


@router.get("/{number}", name="api.lock")
def lock(here: ApiPage, number: Number) -> LockReply:
    """One freezing or locking that stands."""
    require(here.actor, Permission.ENTRY_READ)
    found = reads.lock_by_number(here.session, here.the_study, number)
    if found is None or (found[1] is not None and not may(here.actor, Permission.ENTRY_READ, site_id=found[1])):
        raise NotFound
    return LockReply.model_validate(found[0])


@router.post("", name="api.close_data", response_model=ClosedReply)
def close_data(here: ApiChange, asked: CloseBody) -> Response:
    """Freeze or lock, all of it or nothing. Refused where a query stands, or something is partial or unsigned."""
    closed = actions.close_data(
        here.session,
        here.the_study,
        kind=Kind(asked.kind),
        participants=asked.participants,
        visit=asked.visit,
        why=asked.why,
        despite=asked.despite,
        by=here.actor,
        now=here.now,
    )
    return here.answer({"closed": closed})


@router.post("/{number}/lifting", name="api.lift_freezing", response_model=LockedReply)
def lift_freezing(here: ApiChange, number: Number, asked: WhyBody) -> Response:
    """Let data be entered again where they were frozen."""
    actions.lift_freezing(here.session, here.the_study, number, why=asked.why, by=here.actor, now=here.now)
    return here.answer({"number": number})


@router.post("/{number}/unlock-request", name="api.ask_to_unlock", response_model=LockedReply)
def ask_to_unlock(here: ApiChange, number: Number, asked: WhyBody) -> Response:
    """Ask to unlock; somebody else approves or declines."""
    actions.ask_to_unlock(here.session, here.the_study, number, why=asked.why, by=here.actor, now=here.now)
    return here.answer({"number": number})


@router.post("/{number}/unlock-decision", name="api.decide_unlock", response_model=LockedReply)
def decide_unlock(here: ApiChange, number: Number, asked: DecisionBody) -> Response:
    """Approve or decline what another person asked to unlock."""
    require(here.actor, Permission.DATA_UNLOCK, action="data.unlock", subject="/lock")
    if asked.approve:
        require_password(here, asked.password or "")
        actions.approve_unlock(here.session, here.the_study, number, by=here.actor, now=here.now)
    else:
        actions.decline_unlock(here.session, here.the_study, number, why=asked.why, by=here.actor, now=here.now)
    return here.answer({"number": number})
