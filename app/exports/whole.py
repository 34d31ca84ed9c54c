"""What is a whole study, for a file that holds all of it? Its definition, everybody's casebook, who did what. Pure.

Nothing here has room for an arm, a name of a participant, or a place in the sequence: formats cannot give away what
they are never given (app.exports.casebooks reads it).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.exports.tables import Column, Plan, Row
from app.studies.definition import Study

COMMON = ("participants", "visits", "consents", "screening", "adverse_events", "deviations", "concomitant_care")
"""The tables that stand beside the entries: each row is about one participant."""


SIGNED = "signed"
"""What stands among the items of an entry that were changed for a reason, for its signature."""


@dataclass(frozen=True)
class Touched:
    """Who changed one answer last, when, and why, where it was a correction."""

    by: str
    at: datetime
    why: str | None


@dataclass(frozen=True)
class Filled:
    """One entry as it stands. `values` by name, cells of groups as group[row].item; `touched` likewise."""

    visit: str
    instrument: str
    repeat: int
    status: str
    version: int
    study_version: str
    saved_at: datetime
    saved_by: str
    values: Mapping[str, Any]
    signed_at: datetime | None = None
    signed_by: str | None = None
    signed_meaning: str | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    touched: Mapping[str, Touched] = field(default_factory=dict)


@dataclass(frozen=True)
class Dropped:
    """What whoever keeps an earlier file takes away of a participant before they add what stands in the casebook.

    `everything` they have of them; otherwise what stands beside the entries, and of the entries `forms`. Those are what
    the log spoke of before, in use or not, in their order: visit, instrument and the number of the repeat (None for one
    that does not repeat) -> the items that were changed for a reason, and `SIGNED` where it was.
    """

    everything: bool
    forms: Mapping[tuple[str, str, int | None], frozenset[str]]


@dataclass(frozen=True)
class Casebook:
    """All there is of one participant: `rows` are theirs in each of the tables beside the entries.

    `screenings` are pre-screens in the form of entries: at no visit, counted from 1. Of a file of what changed: the
    entries that may have changed alone (all of theirs for a standard that numbers records within a participant), and
    what is `dropped` first, None for somebody who is new.
    """

    participant: str
    site: str
    entries: tuple[Filled, ...]
    screenings: tuple[Filled, ...]
    rows: Mapping[str, tuple[Row, ...]]
    dropped: Dropped | None = None


@dataclass(frozen=True)
class Place:
    """A site."""

    code: str
    name: str


@dataclass(frozen=True)
class Somebody:
    """Who saved, corrected or signed something: the name they signed with, where they signed."""

    username: str
    name: str | None


@dataclass(frozen=True)
class Whole:
    """A study in one snapshot. `casebooks` reads as it is asked, participant by participant, in the order of codes.

    `changed_at` is when anything was changed last: it stands where a format wants to know when the file was made, so
    that the same state is the same file; `change` and `leaf` say which entry of the log that was, the number of entries
    with it and its hash. An export is no change (app.exports.changes.State). `people` and `meanings` are there for a
    standard that lists them. `columns` are those of the tables in `COMMON`. With `since`, the casebooks are those that
    may have changed from that change number on.
    """

    study: Study
    plan: Plan
    change: int
    leaf: str
    changed_at: datetime
    loaded_at: datetime
    software: str
    sites: tuple[Place, ...]
    people: tuple[Somebody, ...]
    meanings: tuple[str, ...]
    columns: Mapping[str, tuple[Column, ...]]
    labels: Mapping[str, str]
    casebooks: Callable[[], Iterator[Casebook]]
    since: int | None = None

    @property
    def file_oid(self) -> str:
        """What names the state that was read: study, the last change in its log, and since which change."""
        state = f"{self.study.code}.{self.change}.{self.leaf or 'empty'}"
        return state if self.since is None else f"{state}.since.{self.since}"
