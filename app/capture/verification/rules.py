"""What is verified of an entry? Each answer that was compared with its source, until it changes; and what that makes
of the whole.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from app.capture.rules import EntryState
from app.studies.definition import cell_parts

CHANGED = "changed"  # the version in which a verified answer changed
LARGE = 20_000
"""From so many entries on people would rather see the last count at once: below it takes some milliseconds."""

Wanted = Collection[str] | None
"""The items that the study has verified at a visit (`Study.items_to_verify`), without rows; None: all of them."""

Said = Mapping[str, Mapping[str, Any]]
"""Item code -> who compared it with its source, when, in which version; and in which version it has changed since."""


class State(StrEnum):
    """Where an entry stands. In alphabetical order, which is the order of the list: what was verified once comes first,
    and what is to be verified stands before what is."""

    CHANGED = "changed"
    UNVERIFIED = "unverified"
    VERIFIED = "verified"


def is_verified(entry: EntryState, item: str) -> bool:
    """Whether this answer was compared with its source, and is what it was then."""
    return _holds(entry.verified, item)


def was_verified(entry: EntryState, item: str) -> bool:
    """Whether this answer was verified once and has changed since."""
    return item in entry.verified and CHANGED in entry.verified[item]


def is_wanted(item: str, wanted: Wanted) -> bool:
    """Whether the study has this answer verified; of a row of a group the item decides, whichever row it is."""
    if wanted is None:
        return True
    cell = cell_parts(item)
    return (cell[2] if cell else item) in wanted


def state_of(values: Collection[str], verified: Said, wanted: Wanted = None) -> State | None:
    """Where an entry with these answers stands; None when there is nothing to verify, because nothing was answered
    that is `wanted`.

    An answer that was verified and then taken away is a change like any other: the source may still have it.
    """
    if wanted is not None:
        values = [item for item in values if is_wanted(item, wanted)]
        verified = {item: said for item, said in verified.items() if is_wanted(item, wanted)}
    if any(CHANGED in each for each in verified.values()):
        return State.CHANGED
    if not values and not verified:
        return None
    return State.VERIFIED if all(item in verified for item in values) else State.UNVERIFIED


def since(values: Collection[str], verified: Said, wanted: Wanted = None) -> datetime | None:
    """When the last answer that is wanted was verified; None unless all of them are."""
    if state_of(values, verified, wanted) is not State.VERIFIED:
        return None
    return max(datetime.fromisoformat(said["at"]) for item, said in verified.items() if is_wanted(item, wanted))


def everything(entry: EntryState, wanted: Wanted = None) -> list[str]:
    """The items that a monitor says of when all that is `wanted` of an entry agrees with its source: each that is
    answered, and each that was verified and is blank now; with what was verified beside that, which stays so."""
    every = [*entry.values, *(item for item in entry.verified if item not in entry.values)]
    return [item for item in every if is_wanted(item, wanted) or is_verified(entry, item)]


def ticked(entry: EntryState, items: Collection[str], shown: Collection[str], wanted: Wanted = None) -> list[str]:
    """The items that are verified when these are ticked on a page that shows those with a box each.

    What it cannot show (a row that was taken out, a question that a newer version does not ask) goes with the rest:
    it is verified once everything else is, and stays what it is before.
    """
    every = everything(entry, wanted)
    rest = [item for item in every if item not in shown]
    if all(item in items for item in every if item in shown and is_wanted(item, wanted)):
        return [*items, *rest]
    return [*items, *(item for item in rest if is_verified(entry, item))]


def _holds(verified: Said, item: str) -> bool:
    return item in verified and CHANGED not in verified[item]


# How much there is


@dataclass(frozen=True)
class Place:
    """A site of the study."""

    id: int
    code: str
    name: str


@dataclass(frozen=True)
class Entries:
    """How many entries of one form at one visit stand so at one site."""

    site_id: int
    visit: str
    instrument: str
    state: State
    number: int


@dataclass(frozen=True)
class Figures:
    """How many entries stand where, at one site or (`site` is empty) at all that are shown."""

    site: str
    name: str
    changed: int
    unverified: int
    verified: int

    @property
    def total(self) -> int:
        return self.changed + self.unverified + self.verified

    @property
    def to_verify(self) -> int:
        return self.changed + self.unverified

    @property
    def percent(self) -> int | None:
        """How much of it is verified, in whole per cent: 100 only when all is. None when there is nothing."""
        return 100 * self.verified // self.total if self.total else None


@dataclass(frozen=True)
class Counted:
    """How much of a study is verified, of all its sites, as it was at one moment."""

    at: datetime
    sites: tuple[Place, ...]
    entries: tuple[Entries, ...]

    @property
    def is_large(self) -> bool:
        """Whether counting takes so long that people would rather see the last count at once."""
        return sum(each.number for each in self.entries) >= LARGE

    def only(self, sites: Iterable[int], *, visit: str | None = None, instrument: str | None = None) -> "Counted":
        """The same of these sites alone, and of one visit or form where one is named."""
        wanted = frozenset(sites)
        return replace(
            self,
            sites=tuple(each for each in self.sites if each.id in wanted),
            entries=tuple(
                each
                for each in self.entries
                if each.site_id in wanted and visit in (None, each.visit) and instrument in (None, each.instrument)
            ),
        )

    def by_site(self) -> tuple[Figures, ...]:
        """Of each site, in the order of their codes, also where there is nothing."""
        found: Counter[tuple[int, State]] = Counter()
        for each in self.entries:
            found[each.site_id, each.state] += each.number
        return tuple(
            Figures(place.code, place.name, **{state: found[place.id, state] for state in State})
            for place in sorted(self.sites, key=lambda each: each.code)
        )

    def in_all(self) -> Figures:
        """Of all sites together."""
        every = self.by_site()
        return Figures("", "", **{state: sum(getattr(each, state) for each in every) for state in State})
