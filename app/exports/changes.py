"""What changed since a change number, and what is not there any more? Read from the log, entry by entry.

The change number of a study is the size of its log: entries stand there in the order in which their transactions
committed, so that nothing that commits later can have a smaller number. Whoever has the rows of one number asks for
`since` that number, first drops the rows with the keys that are said to be removed or changed, and adds the changed
ones. Too much may be said to have changed, never too little.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, not_, or_, select
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.audit.actions import HEAD
from app.exports.choice import Choice
from app.exports.tables import Cell, Column, ColumnType, Row, Table
from app.foundation.database import plan_by_value, table_of
from app.foundation.errors import FieldProblem, Invalid
from app.participants.models import Participant
from app.participants.reads import at_their_sites
from app.people.access import Actor
from app.people.models import Site
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse

PARTICIPANT = table_of(Participant)
SITE = table_of(Site)
MOST = 20_000
"""So many participants are told by number; more are nearly everybody, and everybody's rows are looked at."""

# Of these nothing stands in any table: who was shown a name, who got a letter.
UNSEEN = ("envelope.%", "identity.%", "link.%", "reminder%", "message.%", "feed.%", "%_refused")
_TOUCHED = (
    select(AUDIT_ENTRY.c.participant, AUDIT_ENTRY.c.subject)
    .where(
        AUDIT_ENTRY.c.log == bindparam("of_log"),
        AUDIT_ENTRY.c.position >= bindparam("since"),
        AUDIT_ENTRY.c.participant != "",
        not_(or_(*(AUDIT_ENTRY.c.action.like(pattern, escape="\\") for pattern in UNSEEN))),
    )
    .distinct()
)
# Of these nothing came to be otherwise: who took or saw what, and what was refused.
READING = ("export.%", "%.shown", "%\\_shown", "participant.copied", "log.reviewed", "%\\_refused")
_LAST = (
    select(AUDIT_ENTRY.c.position, AUDIT_ENTRY.c.at, AUDIT_ENTRY.c.leaf_hash)
    .where(
        AUDIT_ENTRY.c.log == bindparam("of_log"),
        not_(or_(*(AUDIT_ENTRY.c.action.like(pattern, escape="\\") for pattern in READING))),
    )
    .order_by(AUDIT_ENTRY.c.position.desc())
    .limit(1)
)
_HEAD = select(HEAD.c.size, HEAD.c.root).where(HEAD.c.log == bindparam("of_log"))

Key = tuple[str, ...]
WHOLE = ("codebook", "agreement")
"""Of these every row is given each time: none of them is about one participant."""
CHANGE = Column(
    "change",
    "Whether the row is as it is now, or what has its key is not there any more",
    ColumnType.CHOICE,
    choices=(("changed", "As it is now"), ("removed", "Not there any more")),
)
# Which columns tell the rows that belong together: they are replaced as one.
KEYS: dict[str, Key] = {
    "entries": ("participant", "visit", "instrument"),
    "entries_by_visit": ("participant", "visit"),
    "audit": ("position",),
}


@dataclass(frozen=True)
class Head:
    """How far the log of a study is: the change number, and the root of its tree in hexadecimal."""

    size: int
    root: str


def head_of(session: Session, study: StudyInUse) -> Head:
    """Where the log stands in this very snapshot."""
    row = session.execute(_HEAD, {"of_log": study.code}).first()
    return Head(row.size, row.root.hex()) if row else Head(0, "")


@dataclass(frozen=True)
class State:
    """The last change of a study: how many entries its log had with it, when it was, and its leaf hash in hexadecimal.

    Whoever takes an export, looks at something, or is refused, is written down as well, and changes nothing: the state
    is the same before and after, which the head of the log is not.
    """

    size: int
    at: datetime | None
    leaf: str


def state_of(session: Session, study: StudyInUse) -> State:
    """How the study stands in this very snapshot."""
    row = session.execute(_LAST, {"of_log": study.code}).first()
    return State(row.position + 1, row.at, row.leaf_hash.hex()) if row else State(0, None, "")


@dataclass(frozen=True)
class Changed:
    """Who was touched since, by code: (id, the entries that were touched, or None when all of theirs may be)."""

    people: dict[str, tuple[int, frozenset[tuple[str, str]] | None]]
    since: int
    """The change number it was asked with: how many entries the log had."""

    @property
    def ids(self) -> list[int]:
        return [number for number, _ in self.people.values()]

    def has(self, participant: str, visit: str, instrument: str | None) -> bool:
        """Whether this entry (any entry of this visit) may have changed."""
        entries = self.people[participant][1]
        if entries is None:
            return True
        return any(v == visit and instrument in (None, i) for v, i in entries)


def require_known(session: Session, study: StudyInUse, since: int) -> None:
    """Invalid when the log is not as long as that: a number of another study, or of a database put back since."""
    if not 0 <= since <= head_of(session, study).size:
        message = "There is no such change yet. Take everything, without `since`."
        raise Invalid([FieldProblem("since", "since", message)])


def changed_since(session: Session, study: StudyInUse, since: int, choice: Choice, *, by: Actor) -> Changed:
    """Whom a change from this number on may have touched, at the sites where they may export."""
    require_known(session, study, since)
    plan_by_value(session)
    touched: dict[str, set[tuple[str, str]] | None] = {}
    for code, subject in session.execute(_TOUCHED, {"of_log": study.code, "since": since}):
        kind, *parts = subject.split("/")
        if kind == "entry" and len(parts) >= 2:
            known = touched.setdefault(code, set())
            if known is not None:
                known.add((parts[0], parts[1]))
        else:
            touched[code] = None
    codes = sorted(touched)
    found: dict[str, tuple[int, frozenset[tuple[str, str]] | None]] = {}
    for start in range(0, len(codes), 1_000):
        query = (
            select(PARTICIPANT.c.id, PARTICIPANT.c.code)
            .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
            .where(
                PARTICIPANT.c.study_id == study.id,
                PARTICIPANT.c.code.in_(codes[start : start + 1_000]),
                at_their_sites(by, Permission.EXPORT_RUN),
                *([SITE.c.code.in_(choice.sites)] if choice.sites else []),
            )
        )
        for row in session.execute(query):
            entries = touched[row.code]
            found[row.code] = (row.id, None if entries is None else frozenset(entries))
    return Changed(found, since)


def key_of(name: str) -> Key:
    """The columns by which rows of a table are replaced."""
    return KEYS.get(name, ("participant", "visit") if name.startswith("instrument_") else ("participant",))


def only_changed(table: Table, changed: Changed, there_were: Iterator[tuple[str, str, str]]) -> Table:
    """The rows that may have changed, each said to be `changed`; then, as `removed`, the keys of which none is left.

    `there_were` are the entries (participant, visit, instrument) that those people have or had, for tables of entries.
    """
    if table.name == "audit":  # which only grows
        new = (("changed", *row) for row in table.rows)
        return replace(table, columns=(CHANGE, *table.columns), rows=new)
    key = key_of(table.name)
    places = [next(n for n, column in enumerate(table.columns) if column.name == name) for name in key]
    instrument = table.instrument

    def wanted(found: Key) -> bool:
        if found[0] not in changed.people:
            return False
        if len(key) == 1:
            return True
        return changed.has(found[0], found[1], found[2] if len(key) == 3 else instrument)

    def touched() -> set[Key]:
        if len(key) == 1:
            return {(code,) for code in changed.people}
        return {
            (participant, visit, form)[: len(key)]
            for participant, visit, form in there_were
            if instrument in (None, form) and wanted((participant, visit, form)[: len(key)])
        }

    def rows() -> Iterator[Row]:
        left = touched()
        for row in table.rows:
            found = tuple(str(row[place]) for place in places)
            if wanted(found):
                left.discard(found)
                yield ("changed", *row)
        for gone in sorted(left):
            cells: list[Cell] = [None] * len(table.columns)
            for place, part in zip(places, gone, strict=True):
                cells[place] = part
            yield ("removed", *cells)

    return replace(table, columns=(CHANGE, *table.columns), rows=rows())


def entries_of(session: Session, entry: Any, changed: Changed) -> Iterator[tuple[str, str, str]]:
    """Every entry of the people who were touched, in use or not: `entry` is the table of entries."""
    ids = sorted(changed.ids)
    for start in range(0, len(ids), 1_000):
        query = (
            select(PARTICIPANT.c.code, entry.c.visit, entry.c.instrument)
            .select_from(PARTICIPANT)
            .join(entry, and_(entry.c.participant_id == PARTICIPANT.c.id))
            .where(PARTICIPANT.c.id.in_(ids[start : start + 1_000]))
        )
        for row in session.execute(query):
            yield row.code, row.visit, row.instrument
