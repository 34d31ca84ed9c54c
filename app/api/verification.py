"""Source verification over REST: which entries are to be compared with their source, and how many there are."""

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict

from app.api.filters import AtSite, AtVisit, OfForm, Whose, at
from app.api.operations import operations
from app.api.shapes import Cursor, Limit, PageOf, Reply
from app.capture.verification.reads import Wanted, verification_page
from app.capture.verification.rules import State
from app.dependencies import ApiPage
from app.people.access import require
from app.people.permissions import Permission
from app.reports.reads import verification_counted

router = operations("entries")

EXAMPLE: dict[str, Any] = {
    "participant": "R-0042",
    "site": "neura",
    "visit": "week18",
    "instrument": "pain",
    "repeat": 1,
    "state": "changed",
    "status": "complete",
    "version": 2,
    "answers": 9,
    "verified": 8,
    "changed": 1,
    "has_query": False,
    "is_locked": False,
    "saved_at": "2026-07-16T09:26:53.589793Z",
    "saved_by": "assessor",
    "verified_at": "2026-07-16T10:00:00Z",
}
FIGURES: dict[str, Any] = {
    "site": "neura",
    "name": "NeuRA, Sydney",
    "total": 412,
    "to_verify": 92,
    "changed": 4,
    "unverified": 88,
    "verified": 320,
    "percent": 77,
}


class ToVerifyReply(Reply):
    """One entry with answers that are to be verified. Of `answers` so many are `verified`; `changed` were, and have
    changed or gone since."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": EXAMPLE})

    participant: str
    site: str
    visit: str
    instrument: str
    repeat: int
    state: str
    status: str
    version: int
    answers: int
    verified: int
    changed: int
    has_query: bool
    is_locked: bool
    saved_at: datetime
    saved_by: str
    verified_at: datetime | None


class FiguresReply(Reply):
    """How many entries stand where: at one site, or (without a site) at all of yours."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": FIGURES})

    site: str
    name: str
    total: int
    to_verify: int
    changed: int
    unverified: int
    verified: int
    percent: int | None


class CountedReply(Reply):
    """How much is verified at your sites, as it was at one moment."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "at": "2026-07-16T09:26:53.589793Z",
                "in_all": {**FIGURES, "site": "", "name": ""},
                "sites": [FIGURES],
            }
        }
    )

    at: datetime
    in_all: FiguresReply
    sites: list[FiguresReply]


@router.get("/verification", name="api.verification")
def verification(
    here: ApiPage,
    site: AtSite = None,
    state: Literal["to_verify", "changed", "unverified", "verified"] | None = None,
    visit: AtVisit = None,
    instrument: OfForm = None,
    participant: Whose = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[ToVerifyReply]:
    """Entries with answers at your sites: what has changed since it was verified first, then what never was.

    Where the study names what is compared with its source, only that counts. `to_verify` are both of these. Those in
    error are left out, those withdrawn from use, and those that wait for their second entry.
    """
    require(here.actor, Permission.ENTRY_READ)
    wanted = Wanted(
        state=State(state) if state is not None and state != "to_verify" else None,
        standing=state == "to_verify",
        visit=visit,
        instrument=instrument,
        participant=participant,
    )
    page = verification_page(here.session, here.the_study, by=at(here, site), wanted=wanted, cursor=cursor, limit=limit)
    return PageOf[ToVerifyReply](items=[ToVerifyReply.model_validate(each) for each in page.rows], next=page.next)


@router.get("/verification/counts", name="api.verification_counts")
def verification_counts(
    here: ApiPage, site: AtSite = None, visit: AtVisit = None, instrument: OfForm = None
) -> CountedReply:
    """How many entries stand where, by site and in all; of a large trial as it was when `at` says."""
    require(here.actor, Permission.ENTRY_READ)
    counted = verification_counted(
        here.session,
        here.the_study,
        here.request.app.state.counts,
        by=at(here, site),
        now=here.now,
        visit=visit,
        instrument=instrument,
    )
    return CountedReply(
        at=counted.at,
        in_all=FiguresReply.model_validate(counted.in_all()),
        sites=[FiguresReply.model_validate(each) for each in counted.by_site()],
    )
