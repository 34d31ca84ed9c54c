"""Where does a query stand, and what may be done to it? Its states and steps, and what may be said in it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from app.capture.checks import Finding
from app.foundation.errors import FieldProblem
from app.foundation.words import text_problems
from app.people.permissions import Permission
from app.studies.definition import Study
from app.studies.rules import names_an_arm

LONGEST = 2000  # characters of one message

NOTHING_ENTERED = "Nothing is entered here yet, so there is nothing to ask about. Wait until it is saved."
CORRECTED = "The check does not fire any more."
NAMES_AN_ARM = "Blinded people read this, and it names an arm. Say it without: no query needs to know which arm it is."


class State(StrEnum):
    """Where a query stands."""

    OPEN = "open"  # the site is asked
    ANSWERED = "answered"  # whoever may close it is asked
    CLOSED = "closed"


class Step(StrEnum):
    """What happens to a query. `correct` is nobody's: the value changed so that the check holds again."""

    RAISE = "raise"
    ANSWER = "answer"
    REQUERY = "requery"
    CLOSE = "close"
    CORRECT = "correct"


class Origin(StrEnum):
    """Who raised it."""

    CHECK = "check"
    MONITOR = "monitor"
    DATA_MANAGER = "data_manager"


class Closing(StrEnum):
    """How it came to be closed."""

    CLOSED = "closed"  # by a person
    CORRECTED = "corrected"  # by a correction


TRANSITIONS: Mapping[State | None, Mapping[Step, State]] = {
    None: {Step.RAISE: State.OPEN},
    State.OPEN: {Step.ANSWER: State.ANSWERED, Step.CLOSE: State.CLOSED, Step.CORRECT: State.CLOSED},
    State.ANSWERED: {Step.REQUERY: State.OPEN, Step.CLOSE: State.CLOSED, Step.CORRECT: State.CLOSED},
    State.CLOSED: {},
}
"""What each step makes of each state; a step that is not here cannot be taken. Closed is closed: raise another."""

NEEDED: Mapping[Step, Permission] = {
    Step.RAISE: Permission.QUERY_RAISE,
    Step.ANSWER: Permission.QUERY_ANSWER,
    Step.REQUERY: Permission.QUERY_CLOSE,
    Step.CLOSE: Permission.QUERY_CLOSE,
}
"""Which permission a person needs for a step."""

SAID: Mapping[Step, str] = {
    Step.RAISE: "query.raised",
    Step.ANSWER: "query.answered",
    Step.REQUERY: "query.requeried",
    Step.CLOSE: "query.closed",
    Step.CORRECT: "query.corrected",
}
"""How the log names a step."""

AGES = (7, 14, 30)
"""Days from which on a query counts as old, old and very old: what lists can be narrowed to."""


@dataclass(frozen=True)
class Raised:
    """A query of a check that stands: which, at which item, of which rule, and where it stands."""

    number: int
    item: str
    rule: str
    state: State
    version: int


@dataclass(frozen=True)
class Followed:
    """What a saved entry means for the queries of its checks.

    `fresh` are findings to ask about, `explained` queries whose question a reason answers, `settled` queries whose
    check does not fire any more.
    """

    fresh: tuple[Finding, ...]
    explained: tuple[tuple[Raised, str], ...]
    settled: tuple[Raised, ...]


def after(state: State | None, step: Step) -> State | None:
    """The state after a step, or None when the step cannot be taken there."""
    return TRANSITIONS[state].get(step)


def why_not_step(state: State, step: Step) -> str | None:
    """Why this cannot be done to a query that stands so, in words that say what to do; None when it can."""
    if after(state, step) is not None:
        return None
    if state is State.CLOSED:
        return "This query is closed already. Raise another one if something is still to be asked."
    if state is State.ANSWERED:
        return "This query is answered already. It waits for whoever may close it or ask again."
    return "This query waits for its answer. Close it if nothing is to be asked any more."


def message_problems(study: Study, text: str, *, needed: str | None) -> list[FieldProblem]:
    """What is wrong with what is said in a query; `needed` says what to write when nothing was, None when it need not.

    Blinded people read queries, so that none may name an arm (ICH E6(R3) 4.1.3).
    """
    if not text.strip() and not needed:
        return []
    if problems := text_problems("text", text, needed or "", LONGEST):
        return problems
    if names_an_arm(study, text):
        return [FieldProblem("text", "arm", NAMES_AN_ARM)]
    return []


def followed(standing: Iterable[Raised], findings: Iterable[Finding], reasons: Mapping[str, str]) -> Followed:
    """What becomes of the queries of checks, by what fires now and which of it has a reason.

    A finding with a reason raises nothing, and its reason is the answer to a query that still waits for one.
    """
    firing = {(finding.item, finding.rule): finding for finding in findings}
    asked = {}
    explained, settled = [], []
    for each in standing:
        asked[each.item, each.rule] = each
        if (each.item, each.rule) not in firing:
            settled.append(each)
        elif each.item in reasons and each.state is State.OPEN and not firing[each.item, each.rule].is_hard:
            explained.append((each, reasons[each.item]))
    fresh = tuple(
        finding for key, finding in firing.items() if key not in asked and (finding.is_hard or key[0] not in reasons)
    )
    return Followed(fresh, tuple(explained), tuple(settled))


def days_old(raised_at: datetime, until: datetime) -> int:
    """Whole days since a query was raised."""
    return max(0, (until - raised_at).days)


def raised_before(days: int, now: datetime) -> datetime:
    """The moment up to which queries were raised that are at least so many days old."""
    return now - timedelta(days=days)
