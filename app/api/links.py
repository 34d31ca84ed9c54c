"""Links for participants, over REST: given once, listed, taken back."""

from datetime import date, datetime
from typing import Annotated, Literal

from fastapi import Query
from fastapi.responses import Response
from pydantic import ConfigDict, Field
from sqlalchemy import select

from app.api.addressed import address_of, participant_of
from app.api.operations import operations
from app.api.shapes import Body, Code, Cursor, Limit, Number, PageOf, Reply
from app.capture.questionnaires.actions import give
from app.capture.questionnaires.rules import waits_until
from app.dependencies import ApiChange, ApiPage, Here
from app.foundation import clock, paging
from app.foundation.errors import NotFound
from app.participants.links import actions, reads, rules
from app.participants.links.rules import Purpose
from app.participants.models import Participant
from app.participants.reads import SITE
from app.people.access import require
from app.people.permissions import Permission
from app.schedule.reads import visits_of

router = operations("participants", "/participants")


class LinkBody(Body):
    """What the participant is to do: answer the questions of a visit, or sign the consent document."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"purpose": "questions", "about": "week18", "language": "en", "days": 14}},
    )

    purpose: Literal["consent", "questions"]
    about: Code = Field(description="The visit, or the version of the consent document.")
    language: Code = "en"
    days: int = Field(
        default=rules.DAYS,
        ge=1,
        le=rules.MOST_DAYS,
        description="How long the link works, from the day on which it can be answered.",
    )
    before_window: bool = Field(
        default=False,
        description="Whether the questions may be answered before the window of their visit opens. Without it the link "
        "opens them on the first day of the window; with the first answers the visit is held.",
    )


class LinkReply(Reply):
    """A link that was given; its address is not kept. `state`: open, done, ended, locked or expired.

    `waits_until` is the first day on which its questions can be answered, while that is still to come.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": 12,
                "purpose": "questions",
                "about": "week18",
                "language": "en",
                "state": "open",
                "made_at": "2026-07-06T02:00:00.000000Z",
                "made_by": "coordinator",
                "opened_at": "2026-07-06T09:12:00.000000Z",
                "expires_at": "2026-07-20T02:00:00.000000Z",
                "before_window": False,
                "waits_until": "2026-07-08",
            }
        }
    )

    id: int
    purpose: str
    about: str
    language: str
    state: str
    made_at: datetime
    made_by: str
    opened_at: datetime | None
    expires_at: datetime
    before_window: bool
    waits_until: date | None


class LinkMadeReply(Reply):
    """The address of a new link. It is answered once: the same request again gets `address` null."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": 12,
                "address": "https://trials.example.org/link/0mX3v7K1nq2d5sT8bWyZ4aRfGhJkLpQcVeUiOoPx9N0",
            }
        }
    )

    id: int
    address: str | None


@router.get("/{code}/links", name="api.links")
def links(
    here: ApiPage,
    code: str,
    state: Annotated[
        Literal["open", "done", "ended", "locked", "expired"] | None, Query(description="Only those that are so.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[LinkReply]:
    """The links a participant was given, the newest first."""
    found = [each for each in _links(here, _participant(here, code)) if state in (None, each.state)]
    page = paging.page_of_all(found, limit, lambda each: (each.id,), int, cursor=cursor, falling=True)
    return PageOf(items=page.rows, next=page.next)


@router.get("/{code}/links/{link_id}", name="api.link")
def link(here: ApiPage, code: str, link_id: Number) -> LinkReply:
    """One link, never its address."""
    for each in _links(here, _participant(here, code)):
        if each.id == link_id:
            return each
    raise NotFound


@router.post("/{code}/links", name="api.give_link", status_code=201, response_model=LinkMadeReply)
def give_link(here: ApiChange, code: str, asked: LinkBody) -> Response:
    """Make a link; an earlier one for the same thing stops working. Its address is answered once and kept nowhere."""
    found = _participant(here, code)
    token = give(
        here.session,
        here.the_study,
        found,
        purpose=Purpose(asked.purpose),
        about=asked.about,
        language=asked.language,
        days=asked.days,
        before_window=asked.before_window,
        by=here.actor,
        now=here.now,
    )
    made = reads.links_of(here.session, found.id or 0)[0].id
    body = {"id": made, "address": f"{here.settings.address}/link/{token}"}
    where = address_of(here, "participants", found.code, "links", made or 0)
    return here.answer_once(body, repeated={"id": made, "address": None}, status=201, location=where)


@router.post("/{code}/links/{link_id}/end", name="api.end_link", response_model=LinkReply)
def end_link(here: ApiChange, code: str, link_id: Number) -> Response:
    """Take a link back: it opens nothing any more."""
    found = _participant(here, code)
    actions.end_link(here.session, here.the_study, found, link_id, by=here.actor, now=here.now)
    ended = next(each for each in _links(here, found) if each.id == link_id)
    return here.answer(ended.model_dump(mode="json"))


def _participant(here: Here, code: str) -> Participant:
    """Who may not give links is not told of them."""
    found = participant_of(here, code)
    require(here.actor, Permission.PARTICIPANT_LINK, site_id=found.site_id, subject=f"{found.code}/link")
    return found


def _links(here: Here, participant: Participant) -> list[LinkReply]:
    visits = {each.code: each for each in visits_of(here.session, participant.id or 0)}
    timezone = here.session.execute(select(SITE.c.timezone).where(SITE.c.id == participant.site_id)).scalar_one()
    today = clock.today(timezone, here.now)
    return [
        LinkReply(
            id=link.id or 0,
            purpose=link.purpose,
            about=link.about,
            language=link.language,
            state=rules.state_of(link, here.now),
            made_at=link.made_at,
            made_by=link.made_by,
            opened_at=link.opened_at,
            expires_at=link.expires_at,
            before_window=link.before_window,
            waits_until=waits_until(visits[link.about], today, before_window=link.before_window)
            if link.purpose == Purpose.QUESTIONS and link.about in visits
            else None,
        )
        for link in reads.links_of(here.session, participant.id or 0)
    ]
