"""Who reads appointments in a calendar of their own? Secret addresses: made, read and revoked; kept only as hashes.

Whoever has the address reads what its owner may still see: it ends with their access, and shows no more to an
unblinded person than to a blinded one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import case, insert, or_, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.crypto.secrets import new_token, token_hash
from app.foundation.database import table_of
from app.foundation.errors import FieldProblem, Invalid, NotFound, Refused
from app.people.access import Actor, Grant, require
from app.people.permissions import Permission, Role
from app.people.reads import MEMBERSHIP, PERSON, STUDY
from app.schedule.appointments.reads import AppointmentRow, appointments_between
from app.schedule.models import CalendarFeed
from app.studies.in_use import StudyInUse, study_in_use

FEED = table_of(CalendarFeed)
Whose = Literal["mine", "sites"]

BACK, AHEAD = timedelta(days=60), timedelta(days=400)
"""How far a feed reaches: what was cancelled is told for a while, so that a calendar takes it out."""
MOST_FEEDS, MOST_READS, COUNTED = 10, 60, timedelta(hours=1)


@dataclass(frozen=True)
class FeedRow:
    """One feed of a person, as they see it."""

    id: int
    whose: str
    created_at: datetime
    last_read_at: datetime | None


@dataclass(frozen=True)
class Feed:
    """What a feed shows to whoever has its address, with the study in the words of its owner."""

    study: StudyInUse
    whose: str
    rows: Sequence[AppointmentRow]


class TooOften(Exception):
    """This address was read too often within the hour."""


def feeds_of(session: Session, study: StudyInUse, *, by: Actor) -> list[FeedRow]:
    """The feeds that the person has in this study."""
    rows = session.execute(
        select(FEED.c.id, FEED.c.whose, FEED.c.created_at, FEED.c.last_read_at)
        .where(FEED.c.person_id == by.person_id, FEED.c.study_id == study.id, FEED.c.revoked_at.is_(None))
        .order_by(FEED.c.id)
    )
    return [FeedRow(**row._mapping) for row in rows]


def make_feed(session: Session, study: StudyInUse, *, whose: str, by: Actor, now: datetime) -> str:
    """A new secret address (its token, shown once): of the appointments with oneself, or of all at one's sites."""
    where: dict[str, str] = {"action": "feed.make", "subject": "/feed"}
    require(by, Permission.PARTICIPANT_READ, action="feed.make", subject="/feed")
    if whose not in ("mine", "sites"):
        raise Invalid([FieldProblem("whose", "choice", "Choose whose appointments the feed shows.")])
    if len(feeds_of(session, study, by=by)) >= MOST_FEEDS:
        raise Refused(f"You have {MOST_FEEDS} feeds. Revoke one that you do not use any more.", **where)
    token = new_token()
    made = session.execute(
        insert(FEED)
        .values(
            token_hash=token_hash(token),
            person_id=by.person_id,
            study_id=study.id,
            whose=whose,
            created_at=now,
            reads=0,
        )
        .returning(FEED.c.id)
    ).scalar_one()
    change = Change("feed.made", subject=f"feed/{made}", item=f"person/{by.username}", new={"whose": whose})
    record(session, study.code, [change], by=by, now=now)
    return token


def revoke_feed(session: Session, study: StudyInUse, feed_id: int, *, by: Actor, now: datetime) -> None:
    """End one of one's own feeds, now: its address leads nowhere any more."""
    require(by, Permission.PARTICIPANT_READ, action="feed.revoke", subject="/feed")
    ended = session.execute(
        update(FEED)
        .where(
            FEED.c.id == feed_id,
            FEED.c.person_id == by.person_id,
            FEED.c.study_id == study.id,
            FEED.c.revoked_at.is_(None),
        )
        .values(revoked_at=now)
        .returning(FEED.c.id)
    ).first()
    if ended is None:
        raise NotFound
    change = Change("feed.revoked", subject=f"feed/{feed_id}", item=f"person/{by.username}")
    record(session, study.code, [change], by=by, now=now)


def read_feed(session: Session, token: str, *, now: datetime) -> Feed:
    """What stands in the feed of this token; NotFound for every other, also of somebody who has no access any more.

    TooOften after 60 times within an hour.
    """
    fresh = or_(FEED.c.counted_from.is_(None), FEED.c.counted_from <= now - COUNTED)
    found = session.execute(
        update(FEED)
        .where(FEED.c.token_hash == token_hash(token), FEED.c.revoked_at.is_(None))
        .values(
            last_read_at=now,
            counted_from=case((fresh, now), else_=FEED.c.counted_from),
            reads=case((fresh, 1), else_=FEED.c.reads + 1),
        )
        .returning(FEED.c.person_id, FEED.c.study_id, FEED.c.whose, FEED.c.reads)
    ).first()
    if found is None:
        raise NotFound
    if found.reads > MOST_READS:
        raise TooOften
    owner = _owner(session, found.person_id, found.study_id)
    if owner is None:
        raise NotFound
    code = session.execute(select(STUDY.c.code).where(STUDY.c.id == found.study_id)).scalar_one()
    study = study_in_use(session, code)
    rows = appointments_between(
        session,
        study,
        by=owner,
        begins=now - BACK,
        ends=now + AHEAD,
        person_id=owner.person_id if found.whose == "mine" else None,
    )
    language = session.execute(select(PERSON.c.language).where(PERSON.c.id == found.person_id)).scalar_one()
    return Feed(study.read_in(language or study.definition.language), found.whose, rows)


def _owner(session: Session, person_id: int, study_id: int) -> Actor | None:
    """The person with what they may do in the study now; None without any access to its participants."""
    rows = session.execute(
        select(PERSON.c.username, PERSON.c.name, PERSON.c.organisation, MEMBERSHIP.c.role, MEMBERSHIP.c.site_id)
        .join(MEMBERSHIP, MEMBERSHIP.c.person_id == PERSON.c.id)
        .where(
            PERSON.c.id == person_id,
            PERSON.c.is_active,
            MEMBERSHIP.c.study_id == study_id,
            MEMBERSHIP.c.revoked_at.is_(None),
        )
    ).all()
    if not rows:
        return None
    grants = tuple(Grant(Role(row.role), row.site_id) for row in rows)
    return Actor(person_id, rows[0].username, rows[0].name, rows[0].organisation, grants, study_id, via="feed")
