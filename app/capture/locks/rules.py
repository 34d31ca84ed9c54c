"""What do freezing and locking forbid, who may lift them, and what stands in the way of locking?"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.foundation.errors import FieldProblem
from app.foundation.words import day_in_words, text_problems
from app.studies.definition import Study
from app.studies.rules import names_an_arm

LONGEST = 2000  # characters of a reason


class Kind(StrEnum):
    """How far it is closed, the further one last."""

    FROZEN = "frozen"  # no more entry; queries go on
    LOCKED = "locked"  # nothing changes any more


NAMES_AN_ARM = "Blinded people read this, and it names an arm. Say it without: no lock needs to know which arm it is."
UNLOCKS = (
    "A data manager or an investigator can ask to unlock it, and another of them approves, on the page Locks "
    "under Study."
)
UNFREEZES = "A data manager can lift that, on the page Locks under Study."


@dataclass(frozen=True)
class Lock:
    """One freezing or locking that stands. No participant: everybody; no visit: every visit."""

    number: int
    kind: Kind
    participant: str | None
    visit: str | None
    why: str
    at: datetime
    by: str
    asked_at: datetime | None = None
    asked_by: str | None = None
    asked_why: str | None = None

    @property
    def is_asked(self) -> bool:
        return self.asked_at is not None


@dataclass(frozen=True)
class Standing:
    """What there is of one participant, and what of it stands in the way of locking."""

    participant: str
    site: str
    entries: int
    partial: int
    queries: int
    unsigned: int
    unverified: int
    locked: bool = False
    frozen: bool = False


def what_of(study: Study, participant: str | None, visit: str | None) -> str:
    """What a lock covers, in words."""
    planned = study.visit(visit) if visit else None
    at = planned.label if planned else visit
    if participant is None:
        return f"{at} of every participant" if at else "the whole study"
    return f"{at} of {participant}" if at else f"everything of {participant}"


def strongest(locks: Sequence[Lock]) -> Lock | None:
    """The one of these that forbids most: a lock before a freezing."""
    return max(locks, key=lambda lock: (lock.kind is Kind.LOCKED, -lock.number), default=None)


def covering_visit(locks: Sequence[Lock], visit: str) -> Lock | None:
    """What forbids most at this visit, among everything that covers one participant."""
    return strongest([lock for lock in locks if lock.visit in (None, visit)])


def is_locked(locks: Sequence[Lock], visit: str) -> bool:
    """Whether nothing changes any more at this visit, among everything that covers one participant."""
    found = covering_visit(locks, visit)
    return found is not None and found.kind is Kind.LOCKED


def why_closed(study: Study, lock: Lock | None, *, only_locked: bool = False) -> str | None:
    """Why nothing can be changed there, and who can lift it; None when it can. `only_locked`: freezing allows it."""
    if lock is None or (only_locked and lock.kind is not Kind.LOCKED):
        return None
    what = what_of(study, lock.participant, lock.visit)
    what = what[0].upper() + what[1:]
    since = day_in_words(lock.at.date())
    if lock.kind is Kind.LOCKED:
        return f"{what} is locked since {since}, by {lock.by}, so nothing of it changes. {UNLOCKS}"
    return f"{what} is frozen since {since}, by {lock.by}, so nothing more is entered. {UNFREEZES}"


def why_not_lock(standing: Standing, *, despite: bool) -> str | None:
    """Why the data of this participant cannot be locked, or None.

    A query could not be answered any more, so none may stand. What is unsigned or partial can be locked all the same,
    which is said in the log.
    """
    if standing.queries:
        if standing.queries == 1:
            return "One query stands: close it first, because a lock stops the answer."
        return f"{standing.queries} queries stand: close them first, because a lock stops the answer."
    if despite:
        return None
    lacking = []
    if standing.partial:
        lacking.append("one entry is partial" if standing.partial == 1 else f"{standing.partial} entries are partial")
    if standing.unsigned:
        few = "one entry waits" if standing.unsigned == 1 else f"{standing.unsigned} entries wait"
        lacking.append(f"{few} for a signature")
    if lacking:
        said = " and ".join(lacking)
        return f"{said[0].upper()}{said[1:]}: settle that first, or lock it all the same and say why."
    return None


def why_not_ask(lock: Lock) -> str | None:
    """Why nobody can ask to unlock this, or None."""
    if lock.kind is not Kind.LOCKED:
        return "This is frozen, not locked: a data manager lifts it alone."
    if lock.is_asked:
        return f"{lock.asked_by} asked already to unlock this. Somebody else approves or declines it."
    return None


def why_not_decide(lock: Lock, *, by: str) -> str | None:
    """Why this person cannot approve or decline the unlocking, or None: never of one's own request (SEC-10)."""
    if not lock.is_asked:
        return "Nobody has asked to unlock this. Ask first, and say why; another person then approves."
    if lock.asked_by == by:
        return "You asked for this yourself, so a second person approves or declines it. Tell them that it waits."
    return None


def why_problems(study: Study, why: str) -> list[FieldProblem]:
    """What is wrong with a reason; blinded people read it (ICH E6(R3) 4.1.3)."""
    if problems := text_problems("why", why, "Say why.", LONGEST):
        return problems
    if names_an_arm(study, why):
        return [FieldProblem("why", "arm", NAMES_AN_ARM)]
    return []
