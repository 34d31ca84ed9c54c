"""What may I do with webhooks? Make, change, pause, resume, end and test one, replace its secret, tell once more; and
for the clock: queue, claim, mark.

Any number of workers queue and send at once. A webhook's place in the log moves by one UPDATE that names the place it
was at, together with the events found on the way: either both stand or neither, and an event's id is unique.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from app.audit.actions import ENTRY, HEAD, Change, record
from app.foundation.crypto.envelopes import open_sealed, seal
from app.foundation.crypto.secrets import new_token
from app.foundation.database import Database, keys_of, table_of
from app.foundation.errors import FieldProblem, Invalid, Refused
from app.participants.models import Participant
from app.people.access import Actor, Grant, may, require
from app.people.models import Person, Site
from app.people.permissions import Permission
from app.people.reads import memberships_of
from app.studies.in_use import StudyInUse, study_in_use
from app.studies.models import StudyRecord
from app.webhooks.reads import DELIVERY, HOOK, HookRow, delivery_of, webhook_of
from app.webhooks.rules import (
    ACTIONS,
    BOTH_SIGN,
    EVENTS,
    MOST_ATTEMPTS,
    PING,
    WAITS,
    address_of,
    event_of,
    payload,
    why_not_url,
)

PARTICIPANT, PERSON, SITE, STUDY = table_of(Participant), table_of(Person), table_of(Site), table_of(StudyRecord)
SECRET_PURPOSE, EVENT_PURPOSE = "webhook secret", "webhook event"
SIZE = 128
MOST_HOOKS = 20  # of one person in one study
READ_AT_ONCE = 500  # lines of the log
CLAIM = timedelta(minutes=5)
SUBJECT = "/webhook"


def make_webhook(
    session: Session,
    study: StudyInUse,
    *,
    url: str,
    events: Collection[str],
    site: str | None = None,
    allowed: tuple[str, ...] = (),
    by: Actor,
    now: datetime,
) -> tuple[int, str]:
    """Have an address told of changes from now on; gives its number and its secret, which is shown this once."""
    require(by, Permission.WEBHOOK_MANAGE, action="webhook.make", subject=SUBJECT)
    wanted, site_id, site = _wanted(session, study, url=url, events=events, site=site, allowed=allowed, by=by)
    mine = HOOK.c.study_id == study.id, HOOK.c.person_id == by.person_id, HOOK.c.ended_at.is_(None)
    if len(session.execute(select(HOOK.c.id).where(*mine)).all()) >= MOST_HOOKS:
        raise Refused(
            "You have as many webhooks as one may have. End one first.", action="webhook.make", subject=SUBJECT
        )
    secret = f"whsec_{new_token()}"
    size = session.execute(select(HEAD.c.size).where(HEAD.c.log == study.code)).scalar() or 0
    number = session.execute(
        insert(HOOK)
        .values(
            study_id=study.id,
            person_id=by.person_id,
            site_id=site_id,
            url=url,
            events=" ".join(wanted),
            sealed=_sealed(session, secret, url),
            state="active",
            position=size,
            made_at=now,
        )
        .returning(HOOK.c.id)
    ).scalar_one()
    told = {"url": url, "events": wanted, "site": site}
    record(session, study.code, [Change("webhook.made", subject=f"webhook/{number}", new=told)], by=by, now=now)
    return int(number), secret


def _sealed(session: Session, secret: str, url: str) -> bytes:
    return seal(keys_of(session).derive(SECRET_PURPOSE), secret.encode(), bound_to=("webhook", url), size=SIZE)


def _opened(session: Session, sealed: bytes, url: str) -> str:
    key = keys_of(session).derive(SECRET_PURPOSE)
    return open_sealed(key, bytes(sealed), bound_to=("webhook", url)).decode()


def _wanted(
    session: Session,
    study: StudyInUse,
    *,
    url: str,
    events: Collection[str],
    site: str | None,
    allowed: tuple[str, ...],
    by: Actor,
) -> tuple[list[str], int | None, str | None]:
    """The events and the site (its id, its code) that were asked for, or that of a token of one site; Invalid, naming
    each field, where they cannot be told there.
    """
    problems = []
    if reason := why_not_url(url, allowed):
        problems.append(FieldProblem("url", "url", reason))
    wanted = sorted(set(events))
    if not wanted or set(wanted) - set(EVENTS):
        problems.append(FieldProblem("events", "choices", f"Choose among: {', '.join(EVENTS)}."))
    else:
        lacking = sorted({str(EVENTS[each][0]) for each in wanted if not may(by, EVENTS[each][0])})
        if lacking:
            problems.append(FieldProblem("events", "scope", f"You may not read these here ({', '.join(lacking)})."))
    site_id = None
    if site:
        wanted_site = SITE.c.study_id == study.id, SITE.c.code == site
        site_id = session.execute(select(SITE.c.id).where(*wanted_site)).scalar()
        if site_id is None or not may(by, Permission.WEBHOOK_MANAGE, site_id=site_id):
            problems.append(FieldProblem("site", "choices", "There is no such site that you work at."))
    elif by.token_sites is not None:
        # It is told as its owner, wherever they may read: of the sites of this token it must be one.
        site_id = next(iter(by.token_sites)) if len(by.token_sites) == 1 else None
        if site_id is None:
            problems.append(FieldProblem("site", "required", "This token is limited to sites. Name one of them."))
        else:
            site = session.execute(select(SITE.c.code).where(SITE.c.id == site_id)).scalar_one()
    if problems:
        raise Invalid(problems)
    return wanted, site_id, site or None


def change_webhook(
    session: Session,
    study: StudyInUse,
    number: int,
    *,
    url: str,
    events: Collection[str],
    site: str | None = None,
    allowed: tuple[str, ...] = (),
    by: Actor,
    now: datetime,
) -> None:
    """Have another address told, or of other events or another site, under the same secret. What waits goes there."""
    hook = _standing(session, study, number, by=by, action="webhook.change")
    wanted, site_id, site = _wanted(session, study, url=url, events=events, site=site, allowed=allowed, by=by)
    old = {"url": hook.url, "events": sorted(hook.events), "site": hook.site}
    new = {"url": url, "events": wanted, "site": site}
    if old == new:
        return
    values: dict[str, object] = {"url": url, "events": " ".join(wanted), "site_id": site_id}
    if url != hook.url:  # a secret is sealed for the address it signs for
        kept = session.execute(select(HOOK.c.sealed, HOOK.c.sealed_before).where(HOOK.c.id == number)).one()
        for name, sealed in kept._mapping.items():
            if sealed is not None:
                values[name] = _sealed(session, _opened(session, sealed, hook.url), url)
    session.execute(update(HOOK).where(HOOK.c.id == number).values(**values))
    change = Change("webhook.changed", subject=f"webhook/{number}", old=old, new=new)
    record(session, study.code, [change], by=by, now=now)


def replace_secret(session: Session, study: StudyInUse, number: int, *, by: Actor, now: datetime) -> str:
    """Another secret, which is shown this once; the one before signs beside it for a day (`BOTH_SIGN`)."""
    hook = _standing(session, study, number, by=by, action="webhook.replace_secret")
    secret = f"whsec_{new_token()}"
    values = {
        "sealed": _sealed(session, secret, hook.url),
        "sealed_before": HOOK.c.sealed,
        "before_until": now + BOTH_SIGN,
    }
    session.execute(update(HOOK).where(HOOK.c.id == number).values(**values))
    record(session, study.code, [Change("webhook.secret_replaced", subject=f"webhook/{number}")], by=by, now=now)
    return secret


def tell_again(session: Session, study: StudyInUse, number: int, delivery: int, *, by: Actor, now: datetime) -> None:
    """Have an event that has ended told once more, under the same id: with the next round, and as often as a new one.

    One that waits still is left as it is, so that asking twice tells once.
    """
    _standing(session, study, number, by=by, action="webhook.tell_again")
    found = delivery_of(session, study, number, delivery, by=by)
    if found.ended_at is None:
        return
    again = {"ended_at": None, "ended_as": None, "attempts": 0, "not_before": now}
    session.execute(update(DELIVERY).where(DELIVERY.c.id == delivery).values(**again))
    change = Change("webhook.told_again", subject=f"webhook/{number}", new={"event": found.event_id})
    record(session, study.code, [change], by=by, now=now)


def _standing(session: Session, study: StudyInUse, number: int, *, by: Actor, action: str) -> HookRow:
    """One of the person's own webhooks, which has not ended."""
    require(by, Permission.WEBHOOK_MANAGE, action=action, subject=SUBJECT)
    hook = webhook_of(session, study, number, by=by)
    if hook.state == "ended":
        raise Refused("This webhook has ended. Make another one.", action=action, subject=SUBJECT)
    return hook


def set_state(session: Session, study: StudyInUse, number: int, state: str, *, by: Actor, now: datetime) -> None:
    """Pause a webhook, let it go on (what happened meanwhile is told then), or end it for good."""
    require(by, Permission.WEBHOOK_MANAGE, action="webhook.change", subject=SUBJECT)
    hook = webhook_of(session, study, number, by=by)
    if hook.state == "ended" and state != "ended":
        raise Refused("This webhook has ended. Make another one.", action="webhook.change", subject=SUBJECT)
    if hook.state == state:
        return
    values: dict[str, object] = {"state": state}
    if state == "ended":
        values["ended_at"] = now
        waiting = DELIVERY.c.webhook_id == number, DELIVERY.c.ended_at.is_(None)
        session.execute(update(DELIVERY).where(*waiting).values(ended_at=now, ended_as="dropped"))
    session.execute(update(HOOK).where(HOOK.c.id == number).values(**values))
    change = Change(f"webhook.{state}", subject=f"webhook/{number}", old=hook.state, new=state)
    record(session, study.code, [change], by=by, now=now)


def ping(session: Session, study: StudyInUse, number: int, *, by: Actor, now: datetime) -> str:
    """Queue an event that tells nothing, to see whether it arrives; gives its id."""
    _standing(session, study, number, by=by, action="webhook.test")
    event_id = _event_id(session, number, PING, now.isoformat())
    said: dict[str, str | None] = {"study": study.code}
    _queue(session, number, [(event_id, PING, payload(event_id, PING, now, said))], now)
    record(session, study.code, [Change("webhook.tested", subject=f"webhook/{number}")], by=by, now=now)
    return event_id


def _event_id(session: Session, number: int, *parts: str) -> str:
    return keys_of(session).tag(EVENT_PURPOSE, json.dumps([number, *parts]).encode()).hex()[:32]


def _queue(session: Session, number: int, events: list[tuple[str, str, str]], now: datetime) -> int:
    if not events:
        return 0
    dialect_insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    rows = [
        {
            "webhook_id": number,
            "event_id": event_id,
            "event": event,
            "payload": text,
            "queued_at": now,
            "not_before": now,
            "attempts": 0,
        }
        for event_id, event, text in events
    ]
    added = session.execute(dialect_insert(DELIVERY).values(rows).on_conflict_do_nothing().returning(DELIVERY.c.id))
    return len(added.all())


def queue_events(database: Database, *, now: datetime) -> int:
    """Read every active webhook's log a piece on, and queue what its owner may see now; gives how many are new."""
    with database.reading() as session:
        behind = session.execute(
            select(HOOK.c.id)
            .select_from(HOOK.join(STUDY, STUDY.c.id == HOOK.c.study_id).join(HEAD, HEAD.c.log == STUDY.c.code))
            .where(HOOK.c.state == "active", HOOK.c.position < HEAD.c.size)
        ).scalars()
        numbers = list(behind)
    queued = 0
    for number in numbers:
        with database.writing() as session:
            queued += _read_on(session, number, now=now)
    return queued


def _read_on(session: Session, number: int, *, now: datetime) -> int:
    hook = session.execute(select(HOOK).where(HOOK.c.id == number, HOOK.c.state == "active")).first()
    if hook is None:
        return 0
    code = session.execute(select(STUDY.c.code).where(STUDY.c.id == hook.study_id)).scalar_one()
    study = study_in_use(session, code)
    size = session.execute(select(HEAD.c.size).where(HEAD.c.log == code)).scalar_one()
    until = min(size, hook.position + READ_AT_ONCE)
    moved = update(HOOK).where(HOOK.c.id == number, HOOK.c.position == hook.position, HOOK.c.state == "active")
    if session.execute(moved.values(position=until).returning(HOOK.c.id)).first() is None:
        return 0  # another worker read the same piece
    owner = _owner(session, hook.person_id, study.id)
    if owner is None or not may(owner, Permission.WEBHOOK_MANAGE):
        return 0  # who may see nothing any more is told nothing
    lines = session.execute(
        select(ENTRY.c.at, ENTRY.c.action, ENTRY.c.participant, ENTRY.c.subject, ENTRY.c.role, ENTRY.c.request_id)
        .where(
            ENTRY.c.log == code,
            ENTRY.c.position >= hook.position,
            ENTRY.c.position < until,
            ENTRY.c.action.in_(ACTIONS),
            ENTRY.c.participant != "",
        )
        .order_by(ENTRY.c.position)
    ).all()
    codes = sorted({line.participant for line in lines})
    where = PARTICIPANT.join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
    sites = {
        row.code: (row.site_id, row.site)
        for row in session.execute(
            select(PARTICIPANT.c.code, PARTICIPANT.c.site_id, SITE.c.code.label("site"))
            .select_from(where)
            .where(PARTICIPANT.c.study_id == study.id, PARTICIPANT.c.code.in_(codes))
        )
    }
    wanted, events = hook.events.split(), []
    seen = set()
    for line in lines:
        site_id, site = sites.get(line.participant, (None, None))
        if site_id is None or hook.site_id not in (None, site_id):
            continue
        event = event_of(study.at(site_id).definition, line.action, line.subject, line.role)
        if event is None or event not in wanted or not may(owner, EVENTS[event][0], site_id=site_id):
            continue
        parts = (event, line.at.isoformat(), line.request_id, line.participant, line.subject)
        if parts in seen:
            continue
        seen.add(parts)
        event_id = _event_id(session, number, *parts)
        said = {
            "study": code,
            "site": site,
            "participant": line.participant,
            "address": address_of(code, line.participant, line.subject, event),
        }
        events.append((event_id, event, payload(event_id, event, line.at, said)))
    return _queue(session, number, events, now)


def _owner(session: Session, person_id: int, study_id: int) -> Actor | None:
    person = session.execute(select(PERSON).where(PERSON.c.id == person_id)).first()
    if person is None or not person.is_active:
        return None
    rights = [right for right in memberships_of(session, person_id) if right.study_id == study_id]
    grants = tuple(Grant(right.role, right.site_id) for right in rights)
    return Actor(person.id, person.username, person.name, person.organisation, grants, study_id, via="webhook")


@dataclass(frozen=True)
class Claimed:
    """An event that this worker sends now, and with what."""

    id: int
    url: str
    secrets: tuple[str, ...]
    event_id: str
    event: str
    payload: str
    attempts: int


def claim(database: Database, *, now: datetime) -> Claimed | None:
    """The next event that is due and nobody else sends: its time moves on, so that a crash only delays it."""
    with database.writing() as session:
        row = session.execute(
            select(DELIVERY, HOOK.c.url, HOOK.c.sealed, HOOK.c.sealed_before, HOOK.c.before_until)
            .join(HOOK, HOOK.c.id == DELIVERY.c.webhook_id)
            .where(DELIVERY.c.ended_at.is_(None), DELIVERY.c.not_before <= now, HOOK.c.state == "active")
            .order_by(DELIVERY.c.not_before, DELIVERY.c.id)
            .limit(1)
            .with_for_update(skip_locked=True, of=DELIVERY)
        ).first()
        if row is None:
            return None
        session.execute(
            update(DELIVERY).where(DELIVERY.c.id == row.id).values(not_before=now + CLAIM, attempts=row.attempts + 1)
        )
        hold = [row.sealed, *([row.sealed_before] if row.before_until and now < row.before_until else [])]
        secrets = tuple(_opened(session, each, row.url) for each in hold)
        return Claimed(row.id, row.url, secrets, row.event_id, row.event, row.payload, row.attempts + 1)


def mark(database: Database, event: Claimed, *, status: int | None, error: str | None, now: datetime) -> bool:
    """Write down what became of it; an error is tried again later, ten times in all. Gives whether it arrived."""
    values: dict[str, object] = {"status": status, "last_error": error}
    if error is None:
        values |= {"ended_at": now, "ended_as": "delivered"}
    elif event.attempts >= MOST_ATTEMPTS:
        values |= {"ended_at": now, "ended_as": "failed"}
    else:
        values["not_before"] = now + timedelta(minutes=WAITS[min(event.attempts, len(WAITS)) - 1])
    standing = DELIVERY.c.id == event.id, DELIVERY.c.ended_at.is_(None), DELIVERY.c.attempts == event.attempts
    with database.writing() as session:
        session.execute(update(DELIVERY).where(*standing).values(**values))
    return error is None
