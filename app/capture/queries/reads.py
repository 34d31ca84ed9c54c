"""What may I see of queries? Those of one entry with all that was said, a page of many, how many wait for whom."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, String, bindparam, func, literal, not_, select, tuple_
from sqlmodel import Session

from app.capture.double.reads import has_withheld, is_withheld
from app.capture.models import DataQuery, QueryMessage
from app.capture.queries.rules import Closing, Origin, Raised, State, Step, raised_before
from app.capture.rules import form_name
from app.foundation import paging
from app.foundation.database import KINDS, Instant, among, streamed, table_of, within, written_out
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.participants.models import Participant
from app.participants.reads import at_their_sites, narrowed_to
from app.people.access import Actor, require, sites_for
from app.people.models import Site
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse

QUERY = table_of(DataQuery)
MESSAGE = table_of(QueryMessage)
PARTICIPANT = table_of(Participant)
SITE = table_of(Site)

BATCH = 500
_WAITING = (
    select(QUERY.c.state, func.count(), func.min(QUERY.c.raised_at, type_=Instant))
    .join(PARTICIPANT, PARTICIPANT.c.id == QUERY.c.participant_id)
    .where(
        QUERY.c.study_id == bindparam("study_id", type_=Integer),
        QUERY.c.state.in_(map(written_out, (State.OPEN, State.ANSWERED))),
    )
    .group_by(QUERY.c.state)
)


_STANDING = (
    select(QUERY.c.participant_id, func.count().label("number"))
    .join(PARTICIPANT, PARTICIPANT.c.id == QUERY.c.participant_id)
    .where(QUERY.c.study_id == bindparam("study_id", type_=Integer), QUERY.c.closed_at.is_(None))
    .group_by(QUERY.c.participant_id)
)
_STANDING_AMONG = {kind: _STANDING.where(among(QUERY.c.participant_id, kind)) for kind in KINDS}


@dataclass(frozen=True)
class Message:
    """One step of a query, and what was said."""

    step: Step
    text: str
    at: datetime
    by: str
    role: str


@dataclass(frozen=True)
class Query:
    """One query. `rule` is the check that raised it, None when a person did; `thread` is empty in lists."""

    number: int
    participant: str
    site: str
    site_id: int
    visit: str
    instrument: str
    item: str
    origin: Origin
    rule: str | None
    state: State
    text: str
    answer: str | None
    version: int
    raised_at: datetime
    raised_by: str
    changed_at: datetime
    changed_by: str
    closed_at: datetime | None
    closing: Closing | None
    repeat: int = 1
    thread: tuple[Message, ...] = field(default=(), compare=False)

    @property
    def is_closed(self) -> bool:
        return self.state is State.CLOSED

    @property
    def name(self) -> str:
        """How the form it is about is named at its visit."""
        return form_name(self.instrument, self.repeat)


class Sort(StrEnum):
    """What the list of queries can be sorted by."""

    RAISED = "raised"
    CHANGED = "changed"
    PARTICIPANT = "participant"
    SITE = "site"


_COLUMNS: dict[Sort, ColumnElement[Any]] = {
    Sort.RAISED: QUERY.c.raised_at,
    Sort.CHANGED: QUERY.c.changed_at,
    Sort.PARTICIPANT: PARTICIPANT.c.code,
    Sort.SITE: SITE.c.code,
}
_INSTANTS = frozenset({Sort.RAISED, Sort.CHANGED})


@dataclass(frozen=True)
class Wanted:
    """Which queries somebody looks for; None means any. `standing`: open or answered; `age`: at least so many days.

    `since` and `until` are of when they were raised.
    """

    site: str | None = None
    state: State | None = None
    standing: bool = False
    age: int | None = None
    instrument: str | None = None
    participant: str | None = None
    visit: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Waiting:
    """How many queries wait for the site, and how many for whoever closes them; and since when the oldest."""

    open: int = 0
    answered: int = 0
    oldest_open: datetime | None = None
    oldest_answered: datetime | None = None


# Built once: putting a SELECT together takes longer than running it.
_QUERIES = (
    select(
        *(column for column in QUERY.c if column.name not in ("study_id", "participant_id", "id")),
        QUERY.c.id.label("number"),
        PARTICIPANT.c.code.label("participant"),
        SITE.c.code.label("site"),
        SITE.c.id.label("site_id"),
    )
    .join(PARTICIPANT, PARTICIPANT.c.id == QUERY.c.participant_id)
    .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
    .where(QUERY.c.study_id == bindparam("study_id", type_=Integer))
)
_STANDING_AT = (
    select(QUERY.c.visit, QUERY.c.instrument, QUERY.c.repeat, func.count().label("number"))
    .where(QUERY.c.participant_id == bindparam("participant_id", type_=Integer), QUERY.c.closed_at.is_(None))
    .group_by(QUERY.c.visit, QUERY.c.instrument, QUERY.c.repeat)
)
_ENTRY = _QUERIES.where(
    QUERY.c.participant_id == bindparam("participant_id", type_=Integer),
    QUERY.c.visit == bindparam("visit", type_=String),
    QUERY.c.instrument == bindparam("instrument", type_=String),
    QUERY.c.repeat == bindparam("repeat", type_=Integer),
).order_by(QUERY.c.id)
_RAISED = (
    select(QUERY.c.id, QUERY.c.item, QUERY.c.rule, QUERY.c.state, QUERY.c.version)
    .where(
        QUERY.c.participant_id == bindparam("participant_id", type_=Integer),
        QUERY.c.visit == bindparam("visit", type_=String),
        QUERY.c.instrument == bindparam("instrument", type_=String),
        QUERY.c.repeat == bindparam("repeat", type_=Integer),
        QUERY.c.closed_at.is_(None),
        QUERY.c.rule.is_not(None),
    )
    .order_by(QUERY.c.id)
    .with_for_update()
)


def queries_of(
    session: Session, study: StudyInUse, participant_id: int, visit: str, instrument: str, repeat: int = 1
) -> tuple[Query, ...]:
    """Every query of one entry with all that was said, the oldest first; in one statement when there is none."""
    wanted: dict[str, int | str] = {"study_id": study.id, "participant_id": participant_id, "visit": visit}
    wanted |= {"instrument": instrument, "repeat": repeat}
    return _with_threads(session, session.execute(_ENTRY, wanted).mappings().all())


_NUMBERED = _QUERIES.where(QUERY.c.id == bindparam("number", type_=Integer))


def query_of(session: Session, study: StudyInUse, number: int, *, by: Actor) -> Query:
    """One query with all that was said; NotFound when there is none, or it is not this person's to know."""
    require(by, Permission.ENTRY_READ)
    query = _theirs(_NUMBERED, study, by)
    rows = session.execute(query, {"study_id": study.id, "number": number}).mappings().all()
    if not rows:
        raise NotFound
    return _with_threads(session, rows)[0]


def raised_by_checks(
    session: Session, participant_id: int, visit: str, instrument: str, repeat: int = 1
) -> tuple[Raised, ...]:
    """The queries of this entry's checks that stand, held until the transaction ends."""
    wanted = {"participant_id": participant_id, "visit": visit, "instrument": instrument, "repeat": repeat}
    return tuple(
        Raised(row.id, row.item, row.rule, State(row.state), row.version) for row in session.execute(_RAISED, wanted)
    )


def queries_page(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    now: datetime,
    wanted: Wanted = Wanted(),
    sort: Sort = Sort.RAISED,
    descending: bool = False,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[Query]:
    """One page of the queries at the person's sites, in one statement."""
    require(by, Permission.ENTRY_READ)
    size = paging.page_size(limit)
    key, backwards = paging.decode(cursor, 3, str, str, int) if cursor else ([], False)
    falling = backwards != descending
    query = _narrowed(study, by, wanted, now)
    column = _COLUMNS[sort]
    if key:
        position, here = tuple_(*_position(sort, key)), tuple_(column, QUERY.c.id)
        query = query.where(here < position if falling else here > position)
    order = [one.desc() if falling else one.asc() for one in (column, QUERY.c.id)]
    found = session.execute(query.order_by(*order).limit(size + 1), {"study_id": study.id}).mappings().all()
    page = paging.page_of(found, size, lambda row: _key(sort, row), cursor=cursor, backwards=backwards)
    return page.made(_query)


def every_query(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    permission: Permission,
    only: Collection[ColumnElement[bool]] = (),
) -> Iterator[Query]:
    """Every query at the sites where the person holds the permission, by participant, in bounded memory.

    `only` are further conditions, on queries and participants.
    """
    query = (
        _QUERIES.where(at_their_sites(by, permission), *only)
        .order_by(PARTICIPANT.c.code, QUERY.c.id)
        .params(study_id=study.id)
    )
    for row in streamed(session, query, batch=BATCH):
        yield _query(row._mapping)


def waiting(session: Session, study: StudyInUse, *, by: Actor) -> Waiting:
    """How many queries at the person's sites wait for the site and for whoever closes them, in one statement."""
    query = _theirs(_WAITING, study, by)
    found = {state: (number, oldest) for state, number, oldest in session.execute(query, {"study_id": study.id})}
    open_, answered = found.get(State.OPEN, (0, None)), found.get(State.ANSWERED, (0, None))
    return Waiting(open_[0], answered[0], open_[1], answered[1])


def standing_by_participant(study: StudyInUse, *, by: Actor) -> Select[tuple[int, int]]:
    """Of whom something is asked that stands, open or answered, with how often: as the list of queries shows it to this
    person, and nobody else's. Columns: participant_id, number. To be asked with the `study_id`.
    """
    return _theirs(_STANDING, study, by)


def standing_of(session: Session, study: StudyInUse, participants: Collection[int], *, by: Actor) -> dict[int, int]:
    """The same for some participants by id, in one statement; those of whom nothing is asked are left out."""
    if not participants:
        return {}
    query = _theirs(_STANDING_AMONG[session.get_bind().dialect.name], study, by)
    wanted = {"study_id": study.id, "ids": sorted(participants)}
    return {row.participant_id: row.number for row in session.execute(query, wanted)}


def _theirs(query: Select[Any], study: StudyInUse, by: Actor) -> Select[Any]:
    """A query that is built once, at the person's sites, without what is asked of an entry that they are not to see
    (`capture.double`).
    """
    query = narrowed_to(query, sites_for(by, Permission.ENTRY_READ))
    if not has_withheld(study):
        return query
    place = (QUERY.c.participant_id, QUERY.c.visit, QUERY.c.instrument, PARTICIPANT.c.site_id)
    return query.where(not_(is_withheld(study, by, *place)))


def _narrowed(study: StudyInUse, by: Actor, wanted: Wanted, now: datetime) -> Select[Any]:
    query = _theirs(_QUERIES, study, by)
    if wanted.site is not None:
        query = query.where(SITE.c.code == wanted.site)
    if wanted.state is not None:
        query = query.where(QUERY.c.state == wanted.state)
    if wanted.standing:
        query = query.where(QUERY.c.state.in_((State.OPEN, State.ANSWERED)))
    if wanted.age is not None:
        query = query.where(QUERY.c.raised_at <= raised_before(wanted.age, now))
    if wanted.instrument is not None:
        query = query.where(QUERY.c.instrument == wanted.instrument)
    if wanted.participant is not None:
        query = query.where(PARTICIPANT.c.code == wanted.participant)
    if wanted.visit is not None:
        query = query.where(QUERY.c.visit == wanted.visit)
    return query.where(*within(QUERY.c.raised_at, wanted.since, wanted.until))


def with_threads(session: Session, queries: Collection[Query]) -> tuple[Query, ...]:
    """The same queries, which the caller may know, each with all that was said; in one statement."""
    said = _said(session, [query.number for query in queries])
    return tuple(replace(query, thread=said.get(query.number, ())) for query in queries)


def _with_threads(session: Session, rows: Collection[Any]) -> tuple[Query, ...]:
    said = _said(session, [row["number"] for row in rows])
    return tuple(_query(row, said.get(row["number"], ())) for row in rows)


def _said(session: Session, numbers: list[int]) -> dict[int, tuple[Message, ...]]:
    """Query -> all that was said, in order; no statement where there is no query."""
    found: dict[int, tuple[Message, ...]] = {}
    if not numbers:
        return found
    messages = (
        select(*MESSAGE.c)
        .where(MESSAGE.c.query_id.in_(bindparam("ids", type_=Integer, expanding=True)))
        .order_by(MESSAGE.c.id)
    )
    for row in session.execute(messages, {"ids": numbers}):
        message = Message(Step(row.step), row.text, row.at, row.by, row.role)
        found[row.query_id] = (*found.get(row.query_id, ()), message)
    return found


def _query(row: Any, thread: tuple[Message, ...] = ()) -> Query:
    return Query(
        **{
            **row,
            "origin": Origin(row["origin"]),
            "state": State(row["state"]),
            "closing": Closing(row["closing"]) if row["closing"] else None,
            "thread": thread,
        }
    )


def _key(sort: Sort, row: Any) -> tuple[str, str, int]:
    value = {
        Sort.RAISED: row["raised_at"].isoformat(),
        Sort.CHANGED: row["changed_at"].isoformat(),
        Sort.PARTICIPANT: row["participant"],
        Sort.SITE: row["site"],
    }[sort]
    return sort.value, value, row["number"]


def _position(sort: Sort, key: list[Any]) -> tuple[Any, int]:
    name, value, number = key
    try:
        if name != sort or not value.isprintable():
            raise ValueError
        if sort in _INSTANTS:
            at = datetime.fromisoformat(value)
            if at.tzinfo is None:
                raise ValueError
            return literal(at, Instant), number
        return value, number
    except ValueError:
        message = "This page link belongs to another list. Start again from the first page."
        raise Invalid([FieldProblem("cursor", "cursor", message)]) from None


def standing_at(session: Session, participant_id: int) -> dict[tuple[str, str], int]:
    """How many queries of a participant stand, open or answered, by the visit and the name of the form."""
    found = session.execute(_STANDING_AT, {"participant_id": participant_id})
    return {(row.visit, form_name(row.instrument, row.repeat)): int(row.number) for row in found}
