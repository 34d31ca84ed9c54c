"""Which questions were sent to participants by link, and what became of them, over REST."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Query
from pydantic import ConfigDict

from app.api.filters import AtSite, AtVisit, Whose, at
from app.api.operations import operations
from app.api.shapes import Cursor, Limit, PageOf, Reply
from app.capture.questionnaires.reads import questionnaires_page
from app.dependencies import ApiPage
from app.foundation import paging
from app.people.access import require
from app.people.permissions import Permission

router = operations("participants")


class QuestionnaireReply(Reply):
    """A link to the questions of a visit. `state`: sent, opened, expired, answered, or over (not asked any more)."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "id": 12,
                "participant": "R-0042",
                "site": "neura",
                "visit": "week18",
                "language": "en",
                "state": "answered",
                "made_at": "2026-07-06T02:00:00.000000Z",
                "made_by": "system:jobs",
                "opened_at": "2026-07-06T09:12:00.000000Z",
                "expires_at": "2026-07-20T02:00:00.000000Z",
                "done_at": "2026-07-07T09:12:00.000000Z",
            }
        },
    )

    id: int
    participant: str
    site: str
    visit: str
    language: str
    state: str
    made_at: datetime
    made_by: str
    opened_at: datetime | None
    expires_at: datetime
    done_at: datetime | None


@router.get("/questionnaires", name="api.questionnaires", response_model=PageOf[QuestionnaireReply])
def questionnaires(
    here: ApiPage,
    state: Annotated[
        Literal["unanswered", "sent", "opened", "expired", "answered"] | None,
        Query(description="`unanswered`: sent, opened or expired, and a form is not complete."),
    ] = None,
    site: AtSite = None,
    participant: Whose = None,
    visit: AtVisit = None,
    cursor: Cursor = None,
    limit: Limit = paging.PAGE,
) -> PageOf[QuestionnaireReply]:
    """The links to questions at one's sites, newest first, without those taken back or replaced by a newer one."""
    require(here.actor, Permission.PARTICIPANT_LINK)
    page = questionnaires_page(
        here.session,
        here.the_study,
        by=at(here, site),
        now=here.now,
        state=state,
        participant=participant,
        visit=visit,
        cursor=cursor,
        limit=limit,
    )
    return PageOf(items=[QuestionnaireReply.model_validate(row) for row in page.rows], next=page.next)
