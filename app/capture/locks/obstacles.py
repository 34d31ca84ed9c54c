"""What stands in the way of locking? Open queries, partial and unsigned entries, of one participant or of many."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, select
from sqlmodel import Session

from app.capture.locks.reads import LOCK, PARTICIPANT
from app.capture.locks.rules import Kind, Standing
from app.capture.models import DataQuery, Entry
from app.capture.status import EntryStatus
from app.capture.verification.rules import State
from app.foundation import paging
from app.foundation.database import table_of
from app.participants.reads import at_their_sites
from app.people.access import Actor, require
from app.people.models import Site
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse

ENTRY = table_of(Entry)
QUERY = table_of(DataQuery)
SITE = table_of(Site)


def standings_page(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    visit: str | None = None,
    site: str | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[Standing]:
    """One page of the participants with something entered (at this visit), by code, and what stands in their way."""
    require(by, Permission.DATA_LOCK)
    size = paging.page_size(limit)
    begun = select(ENTRY.c.participant_id).where(ENTRY.c.participant_id == PARTICIPANT.c.id)
    if visit is not None:
        begun = begun.where(ENTRY.c.visit == visit)
    some = begun.correlate(PARTICIPANT).exists()
    query = (
        select(PARTICIPANT.c.id, PARTICIPANT.c.code, SITE.c.code.label("site"))
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .where(
            PARTICIPANT.c.study_id == study.id,
            at_their_sites(by, Permission.DATA_LOCK),
            some,
        )
    )
    if site is not None:
        query = query.where(SITE.c.code == site)
    backwards = False
    if cursor:
        (code,), backwards = paging.decode(cursor, 1, str)
        query = query.where(PARTICIPANT.c.code < code if backwards else PARTICIPANT.c.code > code)
    order = PARTICIPANT.c.code.desc() if backwards else PARTICIPANT.c.code.asc()
    found = session.execute(query.order_by(order).limit(size + 1)).all()
    page = paging.page_of(found, size, lambda row: (row.code,), cursor=cursor, backwards=backwards)
    if not page.rows:
        return paging.Page([])
    ids = [row.id for row in page.rows]
    counted = obstacles_of(session, study, ids, visit)
    closed = _closed(session, study, ids, visit)
    return page.made(
        lambda row: Standing(
            **{
                **counted[row.id].__dict__,
                "site": row.site,
                "locked": (row.id, Kind.LOCKED) in closed,
                "frozen": (row.id, Kind.FROZEN) in closed,
            }
        )
    )


def obstacles_of(
    session: Session, study: StudyInUse, participants: Sequence[int] | None, visit: str | None
) -> dict[int, Standing]:
    """What stands in the way, by participant's id; of everybody together (None) as one, under 0. In two statements."""
    signable = [form.code for form in study.definition.instruments if form.signable]
    partial = case((ENTRY.c.status == EntryStatus.PARTIAL, 1), else_=0)
    unsigned = case(
        (
            and_(
                ENTRY.c.status == EntryStatus.COMPLETE,
                ENTRY.c.signed_at.is_(None),
                ENTRY.c.instrument.in_(signable),
            ),
            1,
        ),
        else_=0,
    )
    unverified = case((ENTRY.c.verification != State.VERIFIED, 1), else_=0)
    counts = [func.count(), *(func.coalesce(func.sum(each), 0) for each in (partial, unsigned, unverified))]
    standing = [ENTRY.c.in_error_at.is_(None)]
    entries = _by_participant(session, study, ENTRY, counts, participants, visit, standing)
    queries = _by_participant(session, study, QUERY, [func.count()], participants, visit, [QUERY.c.closed_at.is_(None)])
    codes = {0: ""}
    if participants is not None:
        named = select(PARTICIPANT.c.id, PARTICIPANT.c.code).where(PARTICIPANT.c.id.in_(participants))
        codes = {row.id: row.code for row in session.execute(named)}
    return {
        each: Standing(
            participant=code,
            site="",
            entries=int(entries.get(each, (0, 0, 0, 0))[0]),
            partial=int(entries.get(each, (0, 0, 0, 0))[1]),
            unsigned=int(entries.get(each, (0, 0, 0, 0))[2]),
            unverified=int(entries.get(each, (0, 0, 0, 0))[3]),
            queries=int(queries.get(each, (0,))[0]),
        )
        for each, code in codes.items()
    }


def _by_participant(
    session: Session,
    study: StudyInUse,
    table: Any,
    counts: Sequence[ColumnElement[Any]],
    participants: Sequence[int] | None,
    visit: str | None,
    conditions: Sequence[ColumnElement[bool]],
) -> dict[int, tuple[Any, ...]]:
    query = select(*counts).select_from(table).where(table.c.study_id == study.id, *conditions)
    if visit is not None:
        query = query.where(table.c.visit == visit)
    if participants is None:
        return {0: tuple(session.execute(query).one())}
    query = query.add_columns(table.c.participant_id).where(table.c.participant_id.in_(participants))
    rows = session.execute(query.group_by(table.c.participant_id))
    return {row[-1]: tuple(row[:-1]) for row in rows}


def _closed(
    session: Session, study: StudyInUse, participants: Collection[int], visit: str | None
) -> set[tuple[int, Kind]]:
    """Which of these are frozen or locked already, as wholly as is asked."""
    key = LOCK.c.participant_key.in_([0, *participants])
    visits = LOCK.c.visit_key.in_({"", visit or ""})
    rows = session.execute(
        select(LOCK.c.participant_key, LOCK.c.kind).where(
            LOCK.c.study_id == study.id, LOCK.c.lifted_at.is_(None), key, visits
        )
    ).all()
    found = set()
    for row in rows:
        for each in participants if row.participant_key == 0 else [row.participant_key]:
            found.add((each, Kind(row.kind)))
    return found
