"""What may I see of forms that are entered twice? What is withheld, the queue, one pair, how far both agree."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    String,
    bindparam,
    case,
    exists,
    false,
    func,
    literal,
    select,
    tuple_,
)
from sqlmodel import Session

from app.capture.agreement import Kappa, kappa
from app.capture.double.held import PAIR, Pair, pair_of_row
from app.capture.double.models import ComparedAnswer
from app.capture.double.rules import PENDING, State, could_enter, why_withheld
from app.capture.models import Entry
from app.capture.rules import EntryState
from app.foundation import paging
from app.foundation.database import streamed, table_of
from app.foundation.errors import NotFound, Refused
from app.participants.models import Participant
from app.participants.reads import at_their_sites
from app.people.access import Actor, require
from app.people.models import Site
from app.people.permissions import Permission
from app.studies.definition import Item, ItemType, Study
from app.studies.in_use import StudyInUse

ANSWER = table_of(ComparedAnswer)
ENTRY = table_of(Entry)
PARTICIPANT = table_of(Participant)
SITE = table_of(Site)

BATCH = 500
CATEGORICAL = frozenset({ItemType.CHOICE, ItemType.YES_NO, ItemType.SCALE})
BLANK = "(blank)"


@dataclass(frozen=True)
class Line:
    """One form that is entered twice, as the queue says it."""

    number: int
    participant: str
    site: str
    site_id: int
    visit: str
    instrument: str
    state: State
    first_by: str
    first_at: datetime
    second_by: str | None
    second_at: datetime | None
    differing: int


@dataclass(frozen=True)
class Answer:
    """One answer as both entered it, and what was settled where they differ."""

    item: str
    first: object
    second: object
    agrees: bool
    chosen: str | None
    settled: object
    why: str | None


@dataclass(frozen=True)
class Agreement:
    """How far two people agreed on one item: counts, percent, kappa. `site` is empty for all sites together."""

    instrument: str
    item: str
    site: str
    compared: int
    agreeing: int
    kappa: Kappa | None = None
    weighted: Kappa | None = None

    @property
    def percent(self) -> float:
        return 100 * self.agreeing / self.compared


# Built once: putting a SELECT together takes longer than running it.
_STATES = (
    select(ENTRY.c.visit, ENTRY.c.instrument, PAIR.c.state, PAIR.c.first_by)
    .join(ENTRY, ENTRY.c.id == PAIR.c.entry_id)
    .where(ENTRY.c.participant_id == bindparam("of", type_=Integer))
)
_PAIR = (
    select(*PAIR.c)
    .join(ENTRY, ENTRY.c.id == PAIR.c.entry_id)
    .where(
        ENTRY.c.participant_id == bindparam("of", type_=Integer),
        ENTRY.c.visit == bindparam("at_visit", type_=String),
        ENTRY.c.instrument == bindparam("in_form", type_=String),
    )
)
_LINES = (
    select(
        PAIR.c.id.label("number"),
        PARTICIPANT.c.code.label("participant"),
        SITE.c.code.label("site"),
        SITE.c.id.label("site_id"),
        ENTRY.c.visit,
        ENTRY.c.instrument,
        *(PAIR.c[name] for name in ("state", "first_by", "first_at", "second_by", "second_at", "differing")),
    )
    .select_from(PAIR)
    .join(ENTRY, ENTRY.c.id == PAIR.c.entry_id)
    .join(PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id)
    .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
    .where(PAIR.c.study_id == bindparam("study_id", type_=Integer))
)


# What is withheld


def states_of(session: Session, study: Study, participant_id: int) -> dict[tuple[str, str], tuple[State, str]]:
    """Where each form of a participant stands that is entered twice, and whose first entry it is; no statement else."""
    if not study.has_double_entry:
        return {}
    rows = session.execute(_STATES, {"of": participant_id})
    return {(row.visit, row.instrument): (State(row.state), row.first_by) for row in rows}


def withheld_from(
    session: Session, study: Study, participant_id: int, site_id: int, *, by: Actor
) -> frozenset[tuple[str, str]]:
    """The forms, as (visit, instrument), of which this person must not see what the first entered."""
    found = states_of(session, study, participant_id)
    return frozenset(place for place, (state, first) in found.items() if why_withheld(state, first, site_id, by=by))


def refuse_withheld(
    session: Session, study: Study, participant: Participant, visit: str, instrument: str, *, by: Actor, action: str
) -> None:
    """Refused while this person must not see what the first entered in this form."""
    if not study.is_entered_twice(visit, instrument):
        return
    assert participant.id is not None
    found = pair_at(session, participant.id, visit, instrument)
    reason = why_withheld(found.state, found.first_by, participant.site_id, by=by) if found else None
    if reason is not None:
        raise Refused(reason, action=action, subject=f"{participant.code}/entry/{visit}/{instrument}")


def without_withheld(
    session: Session, study: Study, participant: Participant, entries: Sequence[EntryState], *, by: Actor
) -> list[EntryState]:
    """Entries without those this person must not see; not even a digest of them, which could be tried out."""
    assert participant.id is not None
    hidden = withheld_from(session, study, participant.id, participant.site_id, by=by)
    return [each for each in entries if (each.visit, each.instrument) not in hidden]


def withheld_subjects(session: Session, study: Study, participant: Participant, *, by: Actor) -> frozenset[str]:
    """What the log calls the entries this person must not see, and the queries about them."""
    assert participant.id is not None
    hidden = withheld_from(session, study, participant.id, participant.site_id, by=by)
    return frozenset(f"{kind}/{visit}/{form}" for visit, form in hidden for kind in ("entry", "query"))


def has_withheld(study: StudyInUse) -> bool:
    """Whether a form is entered twice at any site, whichever version of the study it works under."""
    return any(each.has_double_entry for each in study.definitions)


def is_withheld(
    study: StudyInUse, by: Actor, participant_id: Any, visit: Any, instrument: Any, site_id: Any
) -> ColumnElement[bool]:
    """The same for a list: whether what these columns point at is withheld from this person, at any of their sites."""
    if not has_withheld(study):
        return false()
    sites = {grant.site_id for grant in by.grants if could_enter(by, grant.site_id or 0)}
    if not sites:
        return false()
    pair = PAIR.alias("withheld_pair")
    entry = ENTRY.alias("withheld_entry")
    found = exists().where(
        pair.c.entry_id == entry.c.id,
        entry.c.participant_id == participant_id,
        entry.c.visit == visit,
        entry.c.instrument == instrument,
        pair.c.state == State.AWAITS_SECOND,
        pair.c.first_by != by.username,
    )
    return found if None in sites else found & site_id.in_(sorted(each for each in sites if each is not None))


def is_awaited(entry_id: Any) -> ColumnElement[bool]:
    """Whether the entry of this column waits for its second entry, so that what it says is not told to everybody."""
    pair = PAIR.alias("awaited_pair")
    return exists().where(pair.c.entry_id == entry_id, pair.c.state == State.AWAITS_SECOND)


def is_pending(entry_id: Any) -> ColumnElement[bool]:
    """Whether the entry of this column waits for its second entry, or for its differences to be settled."""
    pair = PAIR.alias("pending_pair")
    return exists().where(pair.c.entry_id == entry_id, pair.c.state.in_(sorted(PENDING)))


# One pair


def pair_at(session: Session, participant_id: int, visit: str, instrument: str) -> Pair | None:
    """The pair of this form, or None."""
    wanted = {"of": participant_id, "at_visit": visit, "in_form": instrument}
    row = session.execute(_PAIR, wanted).mappings().first()
    return None if row is None else pair_of_row(row)


def version_of(session: Session, number: int) -> int:
    """The version of a pair, to be told when somebody else worked on it meanwhile."""
    return int(session.execute(select(PAIR.c.version).where(PAIR.c.id == number)).scalar_one())


def line_of(session: Session, study: StudyInUse, number: int, *, by: Actor) -> Line:
    """One pair at the person's sites; NotFound when it is not theirs to know."""
    require(by, Permission.ENTRY_READ)
    query = _LINES.where(PAIR.c.id == number, at_their_sites(by, Permission.ENTRY_READ))
    row = session.execute(query, {"study_id": study.id}).mappings().first()
    if row is None:
        raise NotFound
    return _line(row)


def answers_in(session: Session, study: StudyInUse, line: Line, *, by: Actor) -> tuple[Answer, ...]:
    """What both entered, answer by answer, in the order of the form: nothing before there is a second entry."""
    require(by, Permission.ENTRY_READ, site_id=line.site_id)
    rows = session.execute(select(ANSWER).where(ANSWER.c.pair_id == line.number)).all()
    form = study.definition.instrument(line.instrument)
    order = {item.code: place for place, item in enumerate(form.items if form else ())}
    made = [
        Answer(row.item, _read(row.first), _read(row.second), row.agrees, row.chosen, _read(row.settled), row.why)
        for row in rows
    ]
    return tuple(sorted(made, key=lambda each: (order.get(each.item, len(order)), each.item)))


# The queue


def queue(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    state: State | None = None,
    site: str | None = None,
    participant: str | None = None,
    visit: str | None = None,
    instrument: str | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[Line]:
    """One page of the forms that are entered twice, at the person's sites, the oldest first."""
    require(by, Permission.ENTRY_READ)
    query = _LINES.where(at_their_sites(by, Permission.ENTRY_READ))
    if state is not None:
        query = query.where(PAIR.c.state == state)
    if site is not None:
        query = query.where(SITE.c.code == site)
    wanted = (PARTICIPANT.c.code, participant), (ENTRY.c.visit, visit), (ENTRY.c.instrument, instrument)
    query = query.where(*(column == value for column, value in wanted if value is not None))
    values = {"study_id": study.id}
    page = paging.page_by_number(
        session, query, PAIR.c.id, cursor=cursor, limit=limit, values=values, falling=False, named="number"
    )
    return page.made(lambda row: _line(row._mapping))


def counts(session: Session, study: StudyInUse, *, by: Actor) -> dict[State, int]:
    """How many forms stand where, at the person's sites."""
    require(by, Permission.ENTRY_READ)
    query = (
        select(PAIR.c.state, func.count())
        .select_from(PAIR)
        .join(ENTRY, ENTRY.c.id == PAIR.c.entry_id)
        .join(PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id)
        .where(PAIR.c.study_id == study.id, at_their_sites(by, Permission.ENTRY_READ))
        .group_by(PAIR.c.state)
    )
    found = {State(state): int(number) for state, number in session.execute(query)}
    return {state: found.get(state, 0) for state in State}


def every_answer(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    permission: Permission,
    only: Sequence[ColumnElement[bool]] = (),
) -> Iterator[tuple[Line, Answer]]:
    """Every answer that was compared, by participant, in bounded memory; `only` says of which entries."""
    query = (
        _LINES.add_columns(*(ANSWER.c[name] for name in ("item", "first", "second", "agrees", "chosen", "settled")))
        .add_columns(ANSWER.c.why)
        .join(ANSWER, ANSWER.c.pair_id == PAIR.c.id)
        .where(at_their_sites(by, permission), *only)
        .order_by(PARTICIPANT.c.code, PAIR.c.id, ANSWER.c.id)
        .params(study_id=study.id)
    )
    names = tuple(Line.__dataclass_fields__)
    for row in streamed(session, query, batch=BATCH):
        read = row._mapping
        line = _line({name: read[name] for name in names})
        first, second, settled = (_read(read[name]) for name in ("first", "second", "settled"))
        yield line, Answer(read["item"], first, second, read["agrees"], read["chosen"], settled, read["why"])


# Agreement


def agreement_page(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    by_site: bool = False,
    instrument: str | None = None,
    cursor: str | None = None,
    limit: int | None = None,
    permission: Permission = Permission.AGREEMENT_READ,
    only: Sequence[ColumnElement[bool]] = (),
) -> paging.Page[Agreement]:
    """One page of how far first and second entries agree: by instrument and item, and by site when it is asked.

    `only` says of which entries, everybody's when not given.

    Kappa is given for items with categories (choices, yes or no, scales), weighted as well for scales; of numbers,
    dates and texts the percentage says what there is to say.
    """
    require(by, permission)
    size = paging.page_size(limit)
    site = SITE.c.code if by_site else literal("")
    keys: tuple[ColumnElement[Any], ...] = (ENTRY.c.instrument, ANSWER.c.item, site)
    grouped = keys if by_site else keys[:2]
    agreeing = func.sum(case((ANSWER.c.agrees, 1), else_=0))
    among = _compared(study, by, permission).where(*only)
    query = among.add_columns(*keys, func.count(), agreeing)
    if instrument is not None:
        query = query.where(ENTRY.c.instrument == instrument)
    page = items_page(session, query, keys, grouped, cursor=cursor, size=size)
    definition = study.definition
    asked: dict[tuple[str, str], Item] = {}
    for row in page.rows:
        form = definition.instrument(row[0])
        item = form.item(row[1]) if form else None
        if item is not None and item.type in CATEGORICAL:
            asked[row[0], row[1]] = item
    pairs: dict[tuple[str, str, str], dict[tuple[str, str], int]] = {}
    if asked:
        query = (
            among.add_columns(*keys, ANSWER.c.first, ANSWER.c.second, func.count())
            .where(tuple_(ENTRY.c.instrument, ANSWER.c.item).in_(sorted(asked)))
            .group_by(*grouped, ANSWER.c.first, ANSWER.c.second)
        )
        for form, item, at, first, second, number in session.execute(query):
            pairs.setdefault((form, item, at), {})[first or BLANK, second or BLANK] = int(number)

    def made(row: Any) -> Agreement:
        key = (row[0], row[1], row[2])
        counted, item = pairs.get(key), asked.get(key[:2])
        order, places = scale_of(item) if item is not None else (None, None)
        return Agreement(
            *key,
            compared=int(row[3]),
            agreeing=int(row[4]),
            kappa=kappa(counted) if counted else None,
            weighted=kappa(counted, order, places) if counted and order else None,
        )

    return page.made(made)


def items_page(
    session: Session,
    query: Select[Any],
    keys: Sequence[ColumnElement[Any]],
    grouped: Sequence[ColumnElement[Any]],
    *,
    cursor: str | None,
    size: int,
) -> paging.Page[Any]:
    """One page of a query that begins with these keys: instrument, item and site; `grouped` are those that vary."""
    backwards = False
    if cursor:
        place, backwards = paging.decode(cursor, 3, str, str, str)
        here = tuple_(*keys)
        query = query.where(here < tuple_(*place) if backwards else here > tuple_(*place))
    order = [key.desc() if backwards else key.asc() for key in grouped]
    found = session.execute(query.group_by(*grouped).order_by(*order).limit(size + 1)).all()
    return paging.page_of(found, size, lambda row: tuple(row[:3]), cursor=cursor, backwards=backwards)


def scale_of(item: Item) -> tuple[Sequence[str] | None, Mapping[str, float] | None]:
    """The points of an ordered scale as they are stored, and where they stand; None for what has no order."""
    if item.type is not ItemType.SCALE or item.min is None or item.max is None:
        return None, None
    points = [str(number) for number in range(int(item.min), int(item.max) + 1)]
    return points, {each: float(each) for each in points}


def _compared(study: StudyInUse, by: Actor, permission: Permission) -> Select[Any]:
    return (
        select()
        .select_from(ANSWER)
        .join(PAIR, PAIR.c.id == ANSWER.c.pair_id)
        .join(ENTRY, ENTRY.c.id == PAIR.c.entry_id)
        .join(PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id)
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .where(PAIR.c.study_id == study.id, at_their_sites(by, permission))
    )


def _line(row: Mapping[Any, Any]) -> Line:
    return Line(**{**row, "state": State(row["state"])})


def _read(text: str | None) -> object:
    return None if text is None else json.loads(text)
