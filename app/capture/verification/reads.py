"""What is to be verified? A page of entries at my sites by where they stand, and how many there are in all."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Select, and_, exists, func, not_, select, tuple_, union, union_all
from sqlmodel import Session

from app.capture.double.reads import has_withheld, is_awaited
from app.capture.groups import cells_of
from app.capture.in_use import in_use, use_not_taken_back
from app.capture.locks.reads import LOCK
from app.capture.locks.rules import Kind
from app.capture.reads import ENTRY, PARTICIPANT, QUERY, SITE
from app.capture.rules import form_name
from app.capture.verification.rules import CHANGED, Counted, Entries, Place, State, is_wanted, since, state_of
from app.foundation import paging
from app.foundation.database import KINDS, among, document
from app.foundation.errors import FieldProblem, Invalid
from app.people.access import Actor, require, sites_for
from app.people.permissions import Permission
from app.studies.definition import Study
from app.studies.in_use import StudyInUse

MOST_SITES = 20
"""Of so many sites each is looked into by itself; of more all of the study is, and the others are passed over."""


@dataclass(frozen=True)
class Wanted:
    """Which entries somebody looks for; None means any. `standing`: what is to be verified, changed or never was."""

    state: State | None = None
    standing: bool = False
    visit: str | None = None
    instrument: str | None = None
    participant: str | None = None


@dataclass(frozen=True)
class Line:
    """One entry, and what is verified of it.

    Of `answers` answers that are to be verified so many are `verified`; `changed` were verified, and have changed or
    gone since. `is_locked`: nobody can verify it until somebody unlocks
    it.
    """

    id: int
    participant: str
    participant_id: int
    site: str
    site_id: int
    visit: str
    instrument: str
    repeat: int
    state: State
    status: str
    version: int
    answers: int
    verified: int
    changed: int
    has_query: bool
    is_locked: bool
    saved_at: datetime
    saved_by: str
    verified_at: datetime | None

    @property
    def name(self) -> str:
        """How the form is named at its visit."""
        return form_name(self.instrument, self.repeat)

    @property
    def after(self) -> str:
        """Where the list goes on behind it."""
        return paging.encode(self.state, self.participant_id, self.id)


# Built once: putting a SELECT together takes longer than running it.
_LINES = (
    select(
        *(
            ENTRY.c[name]
            for name in ("id", "participant_id", "visit", "instrument", "repeat", "status", "version", "verification")
        ),
        *(ENTRY.c[name] for name in ("saved_at", "saved_by", "verified_at", "values", "verified", "site_id")),
        PARTICIPANT.c.code.label("participant"),
        SITE.c.code.label("site"),
        exists()
        .where(
            QUERY.c.participant_id == ENTRY.c.participant_id,
            QUERY.c.visit == ENTRY.c.visit,
            QUERY.c.instrument == ENTRY.c.instrument,
            QUERY.c.repeat == ENTRY.c.repeat,
            QUERY.c.closed_at.is_(None),
        )
        .label("has_query"),
        exists()
        .where(
            LOCK.c.study_id == ENTRY.c.study_id,
            LOCK.c.participant_key.in_((0, ENTRY.c.participant_id)),
            LOCK.c.visit_key.in_(("", ENTRY.c.visit)),
            LOCK.c.kind == Kind.LOCKED,
            LOCK.c.lifted_at.is_(None),
        )
        .label("is_locked"),
    )
    .join(PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id)
    .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
)
_KEY = ("verification", "participant_id", "id")
_KEPT = ("id", "participant", "participant_id", "site", "site_id", "visit", "instrument", "repeat", "status", "version",
         "saved_at", "saved_by", "verified_at")  # fmt: skip


def verification_page(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    wanted: Wanted = Wanted(),
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[Line]:
    """One page of the entries with answers at the person's sites, in one statement: what has changed since it was
    verified first, and within each state participant by participant.

    Without those in error, those withdrawn from use, and those that wait for their second entry.
    """
    require(by, Permission.ENTRY_READ)
    size = paging.page_size(limit)
    place, backwards = _place(cursor) if cursor else (None, False)
    query = _LINES.where(*_standing(study), *_wanted(study, wanted))
    if place is not None:
        key, here = tuple_(*(ENTRY.c[name] for name in _KEY)), tuple_(*place)
        query = query.where(key < here if backwards else key > here)
    branches = [_ordered(query.where(at), ENTRY.c, backwards).limit(size + 1) for at in _places(study, by)]
    if not branches:
        return paging.Page([])
    if len(branches) == 1:
        (statement,) = branches
    else:
        rows = union_all(*(select(each.subquery()) for each in branches)).subquery()
        statement = _ordered(select(rows), rows.c, backwards).limit(size + 1)
    result = session.execute(statement)
    names = tuple(result.keys())
    # Plain ones, since a file reads all of a trial: of a row of the database each name is looked up anew.
    found = [dict(zip(names, row, strict=True)) for row in result]
    page = paging.page_of(found, size, _key_of, cursor=cursor, backwards=backwards)
    return page.made(lambda row: _line(study.at(row["site_id"]), row))


def count(session: Session, study: StudyInUse, *, now: datetime) -> Counted:
    """How many entries stand where, of all sites, in two statements; for nobody before it is narrowed to theirs.

    All of them are counted from one index, which has everything that is asked, and the few that do not count are taken
    away again: to look at each entry would take seconds where there are a million. One statement sees one state.
    """
    places = session.execute(select(SITE.c.id, SITE.c.code, SITE.c.name).where(SITE.c.study_id == study.id))
    sites = tuple(Place(*row) for row in places)
    keys = (ENTRY.c.site_id, ENTRY.c.visit, ENTRY.c.instrument, ENTRY.c.verification)
    at_sites = among(ENTRY.c.site_id, session.get_bind().dialect.name)
    every = select(*keys, func.count().label("number")).where(at_sites, ENTRY.c.verification.is_not(None))
    left_out = (
        select(*keys, -func.count())
        .where(ENTRY.c.id.in_(_left_out(study)), ENTRY.c.verification.is_not(None))
        .group_by(*keys)
    )
    found: Counter[tuple[int, str, str, str]] = Counter()
    asked = {"ids": [each.id for each in sites]}
    for row in session.execute(union_all(every.group_by(*keys), left_out), asked):
        found[row[0], row[1], row[2], row[3]] += row[4]
    return Counted(now, sites, tuple(Entries(*key[:3], State(key[3]), many) for key, many in found.items() if many))


def _left_out(study: StudyInUse) -> CompoundSelect[Any]:
    """The entries of the study that are not in use, or wait for their second entry: few, each kind by an index."""
    of_study = ENTRY.c.study_id == study.id
    parts: list[Select[Any]] = [select(ENTRY.c.id).where(of_study, ENTRY.c.in_error_at.is_not(None))]
    if kept := use_not_taken_back(study, ENTRY.c.visit):
        withdrew = (PARTICIPANT.c.study_id == study.id, PARTICIPANT.c.withdrawal_level.is_not(None))
        theirs = select(ENTRY.c.id).join(PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id)
        parts.append(theirs.where(*withdrew, not_(and_(*kept))))
    if has_withheld(study):
        parts.append(select(ENTRY.c.id).where(of_study, is_awaited(ENTRY.c.id)))
    return union(*parts)


def _standing(study: StudyInUse) -> tuple[ColumnElement[bool], ...]:
    """Neither in error nor withdrawn from use. Of two entries of one form the first is not looked at before the second
    is there: whoever verifies compares what both come to."""
    conditions = in_use(study)
    return (*conditions, not_(is_awaited(ENTRY.c.id))) if has_withheld(study) else conditions


def _wanted(study: StudyInUse, wanted: Wanted) -> list[ColumnElement[bool]]:
    state: Any = ENTRY.c.verification
    # A range, not a list of values: of a list PostgreSQL would sort what the index has in order.
    last = State.UNVERIFIED if wanted.standing else State.VERIFIED
    narrowed = [state == wanted.state if wanted.state else state <= last]
    if wanted.visit is not None:
        narrowed.append(ENTRY.c.visit == wanted.visit)
    if wanted.instrument is not None:
        narrowed.append(ENTRY.c.instrument == wanted.instrument)
    if wanted.participant is not None:
        theirs = select(PARTICIPANT.c.id).where(
            PARTICIPANT.c.study_id == study.id, PARTICIPANT.c.code == wanted.participant
        )
        narrowed.append(ENTRY.c.participant_id == theirs.correlate(None).scalar_subquery())
    return narrowed


def _places(study: StudyInUse, by: Actor) -> list[ColumnElement[bool]]:
    """Where to look, each place with an index of its own order: the whole study, or each of the person's sites."""
    mine = sites_for(by, Permission.ENTRY_READ)
    if mine is None:
        return [ENTRY.c.study_id == study.id]
    if len(mine) > MOST_SITES:
        return [and_(ENTRY.c.study_id == study.id, ENTRY.c.site_id.in_(sorted(mine)))]
    return [ENTRY.c.site_id == each for each in sorted(mine)]


def _ordered(query: Select[Any], columns: Any, backwards: bool) -> Select[Any]:
    keys = [columns[name] for name in _KEY]
    return query.order_by(*(each.desc() if backwards else each.asc() for each in keys))


def _key_of(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return row["verification"], row["participant_id"], row["id"]


def _place(cursor: str) -> tuple[tuple[str, int, int], bool]:
    (state, participant_id, number), backwards = paging.decode(cursor, 3, str, int, int)
    if state not in set(State):
        message = "This page link belongs to another list. Start again from the first page."
        raise Invalid([FieldProblem("cursor", "cursor", message)])
    return (state, participant_id, number), backwards


def _line(study: StudyInUse, row: Mapping[str, Any]) -> Line:
    wanted = study.definition.items_to_verify(row["visit"], row["instrument"])
    answered = [item for item in cells_of(document(row["values"])) if is_wanted(item, wanted)]
    said = {item: each for item, each in document(row["verified"]).items() if is_wanted(item, wanted)}
    return Line(
        **{name: row[name] for name in _KEPT},
        state=State(row["verification"]),
        answers=len(answered),
        verified=sum(1 for item in answered if item in said and CHANGED not in said[item]) if said else 0,
        changed=sum(1 for each in said.values() if CHANGED in each),
        has_query=bool(row["has_query"]),
        is_locked=bool(row["is_locked"]),
    )


# What an amendment moves


@dataclass(frozen=True)
class Moved:
    """An entry that stands elsewhere once another version says what is verified, and since when all of it is."""

    id: int
    participant_id: int
    before: State | None
    state: State | None
    since: datetime | None


_OF_MANY = {
    kind: select(
        *(ENTRY.c[name] for name in ("id", "participant_id", "visit", "instrument", "verified", "verification")),
        ENTRY.c["values"].label("answers"),
    )
    .where(among(ENTRY.c.participant_id, kind))
    .order_by(ENTRY.c.id)
    for kind in KINDS
}


def moved_by(
    session: Session, study: StudyInUse, old: Study, participants: Collection[int], *, hold: bool = False
) -> list[Moved]:
    """The entries of these participants that stand elsewhere by what `study` has verified, which comes after `old`.

    Those that the list has; with `hold` every one, and until the transaction ends nobody else changes them. No
    statement where both versions have the same verified.
    """
    new = study.definition
    if (old.oversight.verification, old.oversight.to_verify) == (new.oversight.verification, new.oversight.to_verify):
        return []
    query = _OF_MANY[session.get_bind().dialect.name]
    if hold:
        query = query.with_for_update()
    else:
        query = query.join(PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id).where(*_standing(study))
    moved = []
    for row in session.execute(query, {"ids": list(participants)}).all():
        values, verified = cells_of(document(row.answers)), document(row.verified)
        wanted = new.items_to_verify(row.visit, row.instrument)
        state = state_of(values, verified, wanted)
        if state != row.verification:
            before = State(row.verification) if row.verification else None
            moved.append(Moved(row.id, row.participant_id, before, state, since(values, verified, wanted)))
    return moved
