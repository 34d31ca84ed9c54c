"""What may I see of webhooks? My own, and what they were told."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, select, true
from sqlmodel import Session

from app.foundation import paging
from app.foundation.database import table_of, within
from app.foundation.errors import NotFound
from app.people.access import Actor, require
from app.people.models import Site
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse
from app.webhooks.models import Webhook, WebhookDelivery

HOOK, DELIVERY, SITE = table_of(Webhook), table_of(WebhookDelivery), table_of(Site)


@dataclass(frozen=True)
class HookRow:
    """A webhook of one's own; never its secret. `state` is active, paused or ended."""

    number: int
    url: str
    events: tuple[str, ...]
    site: str | None
    state: str
    made_at: datetime


@dataclass(frozen=True)
class DeliveryRow:
    """One event, and what became of telling it. `ended_as` is delivered, failed or dropped."""

    number: int
    event_id: str
    event: str
    queued_at: datetime
    attempts: int
    status: int | None
    last_error: str | None
    ended_at: datetime | None
    ended_as: str | None


def webhooks_of(session: Session, study: StudyInUse, *, by: Actor) -> list[HookRow]:
    """The person's newest webhooks in a study, the last one first; by a token of some sites, those of these sites."""
    return list(webhooks_page(session, study, by=by, limit=100).rows)


def webhooks_page(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    state: str | None = None,
    site: str | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[HookRow]:
    """One page of `webhooks_of`; `state` is active, paused or ended, `site` the code of the one it is limited to."""
    query = _own(study, by)
    wanted = (HOOK.c.state, state), (SITE.c.code, site)
    query = query.where(*(column == value for column, value in wanted if value is not None))
    return paging.page_by_number(session, query, HOOK.c.id, cursor=cursor, limit=limit).made(_hook)


def webhook_of(session: Session, study: StudyInUse, number: int, *, by: Actor) -> HookRow:
    """One of the person's own; NotFound for anybody else's."""
    found = session.execute(_own(study, by).where(HOOK.c.id == number)).first()
    if found is None:
        raise NotFound
    return _hook(found)


def _own(study: StudyInUse, by: Actor) -> Select[Any]:
    require(by, Permission.WEBHOOK_MANAGE)
    here = HOOK.c.site_id.in_(sorted(by.token_sites)) if by.token_sites is not None else true()
    return (
        select(HOOK, SITE.c.code.label("site"))
        .select_from(HOOK.outerjoin(SITE, SITE.c.id == HOOK.c.site_id))
        .where(HOOK.c.study_id == study.id, HOOK.c.person_id == by.person_id, here)
    )


def _hook(row: Row[Any]) -> HookRow:
    return HookRow(row.id, row.url, tuple(row.events.split()), row.site, row.state, row.made_at)


def deliveries(
    session: Session,
    study: StudyInUse,
    number: int,
    *,
    by: Actor,
    event: str | None = None,
    ended_as: str | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[DeliveryRow]:
    """What one of the person's webhooks was told, or waits to be, the newest first; `ended_as` may be `waiting`."""
    webhook_of(session, study, number, by=by)
    query = select(DELIVERY).where(DELIVERY.c.webhook_id == number)
    if event is not None:
        query = query.where(DELIVERY.c.event == event)
    if ended_as == "waiting":
        query = query.where(DELIVERY.c.ended_as.is_(None))
    elif ended_as is not None:
        query = query.where(DELIVERY.c.ended_as == ended_as)
    return paging.page_by_number(session, query, DELIVERY.c.id, cursor=cursor, limit=limit).made(_delivery)


def delivery_of(session: Session, study: StudyInUse, number: int, delivery: int, *, by: Actor) -> DeliveryRow:
    """One event of one of the person's webhooks; NotFound when it is of another."""
    webhook_of(session, study, number, by=by)
    found = session.execute(select(DELIVERY).where(DELIVERY.c.webhook_id == number, DELIVERY.c.id == delivery)).first()
    if found is None:
        raise NotFound
    return _delivery(found)


def _delivery(row: Row[Any]) -> DeliveryRow:
    return DeliveryRow(
        row.id,
        row.event_id,
        row.event,
        row.queued_at,
        row.attempts,
        row.status,
        row.last_error,
        row.ended_at,
        row.ended_as,
    )


def failed_between(session: Session, study_id: int, since: datetime, until: datetime) -> int:
    """How many events of this time could not be told to a webhook of the study."""
    query = (
        select(func.count())
        .select_from(DELIVERY.join(HOOK, HOOK.c.id == DELIVERY.c.webhook_id))
        .where(
            HOOK.c.study_id == study_id, DELIVERY.c.ended_as == "failed", *within(DELIVERY.c.queued_at, since, until)
        )
    )
    return int(session.execute(query).scalar_one())
