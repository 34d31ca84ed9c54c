"""What was delivered, over REST? For those who treat; every other token finds no such address."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from app.api.randomisation import hidden_without
from app.api.shapes import Body, Code, Cursor, Limit, PageOf, Reply, Text
from app.dependencies import ApiChange, ApiLoggedPage, Here
from app.foundation.errors import NotFound
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.access import may
from app.people.permissions import Permission
from app.treatment import actions, reads
from app.treatment.reads import SessionRow, Treated, Treatment


def _clinician(here: Here) -> Here:
    if not may(here.actor, Permission.ARM_READ):
        raise NotFound
    return here


def treatment_page(here: ApiLoggedPage) -> Here:
    """A GET of somebody who treats; it shows arms, and is written down."""
    return _clinician(here)


def treatment_change(here: ApiChange) -> Here:
    """A write of somebody who treats."""
    return _clinician(here)


TreatmentPage = Annotated[Here, Depends(treatment_page, scope="function")]
TreatmentChange = Annotated[Here, Depends(treatment_change, scope="function")]

router = APIRouter(
    prefix="/treatment/participants", tags=["treatment"], route_class=hidden_without(Permission.ARM_READ)
)


class TreatedReply(Reply):
    """Somebody to treat, with their arm."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "participant": "R-0042",
                "site": "neura",
                "status": "randomised",
                "allocation": 42,
                "allocated_at": "2026-03-14T09:26:53.589793+00:00",
                "arm": "sham",
                "held": 3,
                "planned": 12,
                "next_session": "tx04",
                "next_on": "2026-04-11",
            }
        }
    )

    participant: str
    site: str
    status: str
    allocation: int
    allocated_at: datetime
    arm: str
    held: int
    planned: int
    next_session: str | None
    next_on: date | None


class ModuleReply(Reply):
    """Something that is delivered in a session of this arm, and what is recorded of it."""

    code: str
    label: str
    items: list[str]


class SessionReply(Reply):
    """One session. `delivered` says of each module what was recorded, or false; null while nothing is."""

    session: str
    status: str
    target_on: date | None
    opens_on: date | None
    closes_on: date | None
    held_on: date | None
    version: int
    delivered: dict[str, Any] | None
    saved_at: datetime | None
    saved_by: str | None


class TreatmentReply(Reply):
    """All sessions of one participant, and what a session of their arm consists of."""

    participant: str
    arm: str
    modules: list[ModuleReply]
    held: int
    planned: int
    sessions: list[SessionReply]


class SessionBody(Body):
    """What was delivered: by module its items, true (nothing more to say), or false.

    `version` is the one you read, 0 for none. A correction needs `why`; a day outside the window needs `reason`, which
    blinded people read.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "held_on": "2026-03-21",
                "delivered": {"laser": {"device": "Device A", "minutes": 20}, "home": False},
                "version": 0,
            }
        },
    )

    held_on: date
    delivered: dict[Code, bool | dict[Code, Any]]
    version: int = Field(ge=0, lt=2**31)
    why: Text | None = None
    reason: Text | None = None


class SavedReply(Reply):
    """The version that is saved now."""

    session: str
    version: int


@router.get("", name="api.treated")
def treated(here: TreatmentPage, cursor: Cursor = None, limit: Limit = 50) -> PageOf[TreatedReply]:
    """The randomised participants of one's own sites, by code, with their arms."""
    page = reads.my_participants(here.session, here.the_study, by=here.actor, now=here.now, cursor=cursor, limit=limit)
    return PageOf(items=[_treated_reply(row) for row in page.rows], next=page.next)


def _treated_reply(row: Treated) -> TreatedReply:
    return TreatedReply(
        participant=row.code,
        site=row.site,
        status=row.status,
        allocation=row.number,
        allocated_at=row.allocated_at,
        arm=row.arm,
        held=row.adherence.held,
        planned=row.adherence.planned,
        next_session=row.next_visit,
        next_on=row.next_on,
    )


@router.get("/{code}", name="api.treatment")
def treatment(here: TreatmentPage, code: str) -> TreatmentReply:
    """The sessions of one participant."""
    found = _participant(here, code)
    return _treatment_reply(found, reads.sessions_of(here.session, here.the_study, found, by=here.actor, now=here.now))


def _participant(here: Here, code: str) -> Participant:
    return participant_by_code(here.session, here.the_study, code, by=here.actor, permission=Permission.ARM_READ)


def _treatment_reply(participant: Participant, found: Treatment) -> TreatmentReply:
    return TreatmentReply(
        participant=participant.code,
        arm=found.arm,
        modules=[
            ModuleReply(code=module.code, label=module.label, items=[item.code for item in module.items])
            for module in found.modules
        ],
        held=found.adherence.held,
        planned=found.adherence.planned,
        sessions=[_session_reply(row) for row in found.sessions],
    )


def _session_reply(row: SessionRow) -> SessionReply:
    delivered: Mapping[str, Any] | None = row.delivered
    return SessionReply(
        session=row.visit,
        status=row.status,
        target_on=row.target_on,
        opens_on=row.opens_on,
        closes_on=row.closes_on,
        held_on=row.held_on,
        version=row.version,
        delivered=dict(delivered) if delivered is not None else None,
        saved_at=row.saved_at,
        saved_by=row.saved_by,
    )


@router.put("/{code}/sessions/{visit}", name="api.record_session", response_model=SavedReply)
def record_session(here: TreatmentChange, code: str, visit: str, asked: SessionBody) -> Response:
    """Record what was delivered in a session, or correct it."""
    version = actions.record_session(
        here.session,
        here.the_study,
        _participant(here, code),
        visit=visit,
        held_on=asked.held_on,
        delivered=asked.delivered,
        base_version=asked.version,
        why=asked.why,
        reason=asked.reason,
        by=here.actor,
        now=here.now,
    )
    return here.answer(SavedReply(session=visit, version=version).model_dump(mode="json"))
