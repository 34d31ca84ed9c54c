"""Who did what, over REST? The log, paged, newest first."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import ConfigDict

from app.api.shapes import Cursor, Limit, PageOf, Reply
from app.audit import reads
from app.dependencies import ApiPage
from app.foundation import paging
from app.foundation.errors import FieldProblem, Invalid
from app.participants.reads import visible_codes
from app.people.access import require
from app.people.permissions import Permission

router = APIRouter(prefix="/audit", tags=["audit"])


class AuditReply(Reply):
    """One entry of the log. `old` and `new` are JSON text."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "position": 417,
                "at": "2026-07-16T10:02:11.000000Z",
                "username": "assessor",
                "role": "assessor",
                "organisation": "NeuRA",
                "via": "web",
                "action": "entry.corrected",
                "participant": "R-0042",
                "subject": "entry/week18/pain",
                "item": "pain_intensity",
                "old": "3",
                "new": "4",
                "why": "Read from the paper again.",
                "request_id": "9f2c6b1ad0e4f7a3",
            }
        },
    )

    position: int
    at: datetime
    username: str
    role: str
    organisation: str
    via: str
    action: str
    participant: str
    subject: str
    item: str
    old: str | None
    new: str | None
    why: str | None
    request_id: str


@router.get("", name="api.audit")
def audit(
    here: ApiPage,
    cursor: Cursor = None,
    limit: Limit = 50,
    participant: Annotated[str | None, Query(max_length=80)] = None,
    username: Annotated[str | None, Query(max_length=80)] = None,
    action: Annotated[str | None, Query(max_length=80, description="The beginning of an action's name.")] = None,
) -> PageOf[AuditReply]:
    """The log of this study, of the participants this person may know."""
    require(here.actor, Permission.AUDIT_READ)
    _refuse_bad(cursor)
    wanted = reads.AuditFilter(participant=participant, username=username, action=action)
    page: Any = reads.entries(
        here.session,
        here.the_study.code,
        wanted,
        participants=visible_codes(here.the_study, here.actor),
        cursor=cursor,
        limit=limit,
    )
    return PageOf(items=[AuditReply.model_validate(dict(row)) for row in page.rows], next=page.next)


def _refuse_bad(cursor: str | None) -> None:
    """The cursor of the log is a position in it; another would be an empty page, or more than a database counts."""
    if not cursor:
        return
    (position,), _ = paging.decode(cursor, 1)
    if not isinstance(position, int) or not 0 <= position < 2**63:
        words = "This page link belongs to another list. Start again from the first page."
        raise Invalid([FieldProblem("cursor", "cursor", words)])
