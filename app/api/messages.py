"""What did the study send, over REST? Messages about participants, and what a participant wants of them."""

from datetime import datetime
from typing import Literal

from fastapi.responses import Response
from pydantic import ConfigDict

from app.api.addressed import participant_of
from app.api.filters import AtSite, Since, Until, Whose, at
from app.api.operations import operations
from app.api.shapes import Body, Code, Cursor, Limit, Number, PageOf, Reply, Text, Version
from app.dependencies import ApiChange, ApiPage
from app.foundation import paging
from app.people.access import require
from app.people.permissions import Permission
from app.schedule.reminders import actions, reads

router = operations("messages")


class MessageReply(Reply):
    """One message: whom it is about, why it was written, and how it went. Never an address, never what it says."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "id": 12,
                "participant": "R-0042",
                "rule": "before",
                "visit": "week18",
                "channel": "mail",
                "to_participant": True,
                "queued_at": "2026-07-14T23:00:00+00:00",
                "sent_at": "2026-07-14T23:00:30+00:00",
                "state": "sent",
                "attempts": 1,
                "last_error": "451 Try again later",
            }
        },
    )

    id: int
    participant: str
    rule: str
    visit: str | None
    channel: str
    to_participant: bool
    queued_at: datetime
    sent_at: datetime | None
    state: str
    attempts: int
    last_error: str | None


class ResendBody(Body):
    """Why a message that was given up can be sent now."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"why": "The address was mended."}})

    why: Text


class ResentReply(Reply):
    """A message that goes out with the next round."""

    model_config = ConfigDict(json_schema_extra={"example": {"id": 12, "state": "waiting"}})

    id: int
    state: str


class ChoiceReply(Reply):
    """What a participant said about reminders."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {"mail": True, "sms": False, "language": "de", "timezone": "Europe/Zurich", "version": 1}
        },
    )

    mail: bool
    sms: bool
    language: str | None
    timezone: str | None
    version: int


class ChoiceBody(Body):
    """By which ways a participant may be reminded. `version` is the one you read, 0 when they said nothing yet."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"mail": True, "sms": False, "language": "de", "version": 0}}
    )

    mail: bool
    sms: bool
    language: Code | None = None
    timezone: Code | None = None
    version: Version


@router.get("/messages", name="api.messages", response_model=PageOf[MessageReply])
def messages(
    here: ApiPage,
    state: Literal["waiting", "sent", "failed", "dropped"] | None = None,
    site: AtSite = None,
    participant: Whose = None,
    since: Since = None,
    until: Until = None,
    cursor: Cursor = None,
    limit: Limit = paging.PAGE,
) -> PageOf[MessageReply]:
    """The messages about participants at one's sites, newest first; `since` is of when they were queued."""
    require(here.actor, Permission.MESSAGE_READ)
    page = reads.messages_page(
        here.session,
        here.the_study,
        by=at(here, site),
        state=state,
        participant=participant,
        since=since,
        until=until,
        cursor=cursor,
        limit=limit,
    )
    return PageOf(items=[MessageReply.model_validate(row) for row in page.rows], next=page.next)


@router.get("/messages/{number}", name="api.message")
def message(here: ApiPage, number: Number) -> MessageReply:
    """One message about a participant at one's sites."""
    require(here.actor, Permission.MESSAGE_READ)
    return MessageReply.model_validate(reads.message_of(here.session, here.the_study, number, by=here.actor))


@router.post("/messages/{number}/resending", name="api.resend_message", response_model=ResentReply)
def resend(here: ApiChange, number: Number, asked: ResendBody) -> Response:
    """Send a message again that was given up."""
    require(here.actor, Permission.MESSAGE_RESEND, action="message.resend", subject=f"/message/{number}")
    actions.resend(here.session, here.the_study, number, why=asked.why, by=here.actor, now=here.now)
    return here.answer({"id": number, "state": "waiting"})


@router.get("/participants/{code}/reminders", name="api.reminders", response_model=ChoiceReply)
def choice(here: ApiPage, code: str) -> ChoiceReply:
    """What a participant said about reminders; everything, when they said nothing."""
    found = participant_of(here, code)
    require(here.actor, Permission.APPOINTMENT_BOOK, site_id=found.site_id)
    assert found.id is not None
    return ChoiceReply.model_validate(reads.choice_of(here.session, found.id))


@router.put("/participants/{code}/reminders", name="api.choose_reminders", response_model=ChoiceReply)
def choose(here: ApiChange, code: str, asked: ChoiceBody) -> Response:
    """Record what a participant said about reminders."""
    kept = actions.choose(
        here.session,
        here.the_study,
        participant_of(here, code),
        mail=asked.mail,
        sms=asked.sms,
        language=asked.language,
        timezone=asked.timezone,
        version=asked.version,
        by=here.actor,
        now=here.now,
    )
    return here.answer(ChoiceReply.model_validate(kept).model_dump(mode="json"))
