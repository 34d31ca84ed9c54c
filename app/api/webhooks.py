"""Programs that are told of changes, over REST: make, change, pause and end a webhook, and what it was told."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from app.api.addressed import address_of
from app.api.filters import AtSite, at
from app.api.operations import operations
from app.api.shapes import Body, Code, Cursor, Limit, Number, PageOf, Reply, Text
from app.dependencies import ApiChange, ApiPage
from app.webhooks import actions, reads
from app.webhooks.rules import EVENTS

router = operations("webhooks", "/webhooks")

A_HOOK: dict[str, Any] = {
    "number": 1,
    "url": "https://example.org/equipoise",
    "events": ["entry.changed"],
    "site": "neura",
    "state": "active",
    "made_at": "2026-03-14T09:26:53.589793+00:00",
}


class WebhookBody(Body):
    """Where changes are told, and which; of one site, or of all that you may see."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"url": "https://example.org/equipoise", "events": ["entry.changed"]}},
    )

    url: Text
    events: list[Annotated[Code, Field(json_schema_extra={"enum": list(EVENTS)})]] = Field(max_length=50)
    site: Code | None = None


class WebhookReply(Reply):
    """A webhook of yours."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": A_HOOK})

    number: int
    url: str
    events: list[str]
    site: str | None
    state: str
    made_at: datetime


class MadeReply(WebhookReply):
    """A new webhook. `secret` is shown this once: with it the signature of each event is checked."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": {**A_HOOK, "secret": "whsec_..."}})

    secret: str | None


class StateBody(Body):
    """Whether it is told: `paused` keeps what happens until it is `active` again; `ended` is for good."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"state": "paused"}})

    state: Literal["active", "paused", "ended"]


class PingReply(Reply):
    """The id of an event that tells nothing, sent with the next round of `equipoise jobs`."""

    model_config = ConfigDict(json_schema_extra={"example": {"event_id": "9f86d081884c7d659a2feaa0c55ad015"}})

    event_id: str


class DeliveryReply(Reply):
    """One event and what became of telling it: `ended_as` is delivered, failed (after ten attempts) or dropped."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "number": 7,
                "event_id": "9f86d081884c7d659a2feaa0c55ad015",
                "event": "entry.changed",
                "queued_at": "2026-03-14T09:26:53.589793+00:00",
                "attempts": 1,
                "status": 204,
                "last_error": "It was not taken.",
                "ended_at": "2026-03-14T09:27:01.000000+00:00",
                "ended_as": "delivered",
            }
        },
    )

    number: int
    event_id: str
    event: str
    queued_at: datetime
    attempts: int
    status: int | None
    last_error: str | None
    ended_at: datetime | None
    ended_as: str | None


@router.get("", name="api.webhooks")
def webhooks(
    here: ApiPage,
    state: Literal["active", "paused", "ended"] | None = None,
    site: AtSite = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[WebhookReply]:
    """Your webhooks in this study, the newest first."""
    page = reads.webhooks_page(
        here.session, here.the_study, by=at(here, site), state=state, site=site, cursor=cursor, limit=limit
    )
    return PageOf(items=[WebhookReply.model_validate(each) for each in page.rows], next=page.next)


@router.get("/{number}", name="api.webhook")
def webhook(here: ApiPage, number: Number) -> WebhookReply:
    """One of your webhooks; never its secret."""
    return WebhookReply.model_validate(reads.webhook_of(here.session, here.the_study, number, by=here.actor))


@router.post("", name="api.make_webhook", status_code=201, response_model=MadeReply)
def make_webhook(here: ApiChange, asked: WebhookBody) -> Response:
    """Have an address told of changes from now on, as long as you may see them. No value and no name is ever sent."""
    number, secret = actions.make_webhook(
        here.session,
        here.the_study,
        url=asked.url,
        events=asked.events,
        site=asked.site or None,
        allowed=here.settings.webhooks_allowed,
        by=here.actor,
        now=here.now,
    )
    made = WebhookReply.model_validate(reads.webhook_of(here.session, here.the_study, number, by=here.actor))
    body = made.model_dump(mode="json")
    where = address_of(here, "webhooks", number)
    return here.answer_once({**body, "secret": secret}, repeated={**body, "secret": None}, status=201, location=where)


@router.put("/{number}", name="api.edit_webhook", response_model=WebhookReply)
def edit_webhook(here: ApiChange, number: Number, asked: WebhookBody) -> Response:
    """Have another address told, other events, or another site: what is left out is not told. The secret stays."""
    actions.change_webhook(
        here.session,
        here.the_study,
        number,
        url=asked.url,
        events=asked.events,
        site=asked.site or None,
        allowed=here.settings.webhooks_allowed,
        by=here.actor,
        now=here.now,
    )
    changed = reads.webhook_of(here.session, here.the_study, number, by=here.actor)
    return here.answer(WebhookReply.model_validate(changed).model_dump(mode="json"))


@router.post("/{number}/secret", name="api.replace_secret", response_model=MadeReply)
def replace_secret(here: ApiChange, number: Number) -> Response:
    """Replace the secret of a webhook; the new one is shown this once, and the one before signs beside it for a day."""
    secret = actions.replace_secret(here.session, here.the_study, number, by=here.actor, now=here.now)
    hook = WebhookReply.model_validate(reads.webhook_of(here.session, here.the_study, number, by=here.actor))
    body = hook.model_dump(mode="json")
    return here.answer_once({**body, "secret": secret}, repeated={**body, "secret": None})


@router.put("/{number}/state", name="api.change_webhook", response_model=WebhookReply)
def change_webhook(here: ApiChange, number: Number, asked: StateBody) -> Response:
    """Pause a webhook, let it go on, or end it."""
    actions.set_state(here.session, here.the_study, number, asked.state, by=here.actor, now=here.now)
    changed = reads.webhook_of(here.session, here.the_study, number, by=here.actor)
    return here.answer(WebhookReply.model_validate(changed).model_dump(mode="json"))


@router.delete("/{number}", name="api.end_webhook", response_model=WebhookReply)
def end_webhook(here: ApiChange, number: Number) -> Response:
    """End a webhook for good, as the state `ended` does. What it was told can still be read."""
    actions.set_state(here.session, here.the_study, number, "ended", by=here.actor, now=here.now)
    ended = reads.webhook_of(here.session, here.the_study, number, by=here.actor)
    return here.answer(WebhookReply.model_validate(ended).model_dump(mode="json"))


@router.post("/{number}/test", name="api.test_webhook", status_code=202, response_model=PingReply)
def test_webhook(here: ApiChange, number: Number) -> Response:
    """Send an event that tells nothing, to see whether it arrives."""
    event_id = actions.ping(here.session, here.the_study, number, by=here.actor, now=here.now)
    return here.answer({"event_id": event_id}, status=202)


@router.get("/{number}/deliveries", name="api.webhook_deliveries")
def webhook_deliveries(
    here: ApiPage,
    number: Number,
    event: Annotated[
        str | None, Query(max_length=80, description="Only this event.", examples=["entry.changed"])
    ] = None,
    ended_as: Literal["waiting", "delivered", "failed", "dropped"] | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[DeliveryReply]:
    """What a webhook was told, or waits to be, the newest first."""
    page = reads.deliveries(
        here.session,
        here.the_study,
        number,
        by=here.actor,
        event=event,
        ended_as=ended_as,
        cursor=cursor,
        limit=limit,
    )
    return PageOf(items=[DeliveryReply.model_validate(each) for each in page.rows], next=page.next)


@router.get("/{number}/deliveries/{delivery}", name="api.webhook_delivery")
def webhook_delivery(here: ApiPage, number: Number, delivery: Number) -> DeliveryReply:
    """One event, and what became of telling it."""
    found = reads.delivery_of(here.session, here.the_study, number, delivery, by=here.actor)
    return DeliveryReply.model_validate(found)


@router.post(
    "/{number}/deliveries/{delivery}/redelivery", name="api.tell_again", status_code=202, response_model=DeliveryReply
)
def tell_again(here: ApiChange, number: Number, delivery: Number) -> Response:
    """Tell an event once more that failed, was dropped or got lost behind the address: under the same id."""
    actions.tell_again(here.session, here.the_study, number, delivery, by=here.actor, now=here.now)
    found = reads.delivery_of(here.session, here.the_study, number, delivery, by=here.actor)
    return here.answer(DeliveryReply.model_validate(found).model_dump(mode="json"), status=202)
