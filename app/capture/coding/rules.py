"""How does a text come to its code? The states, who may do what in each, and how a dictionary is searched."""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum

from app.studies.definition import Term

MOST_FOUND = 30  # terms that a search shows
MOST_WORDS = 8  # of a text that are looked for


class State(StrEnum):
    """Where a text stands."""

    TO_CODE = "to_code"
    HALF_CODED = "half_coded"  # one of two coders has chosen
    TO_RECONCILE = "to_reconcile"  # the two chose differently
    CODED = "coded"
    OUTDATED = "outdated"  # the text was changed later


class Step(StrEnum):
    """What happens to a text."""

    CODE_ALONE = "code_alone"  # the study asks for one coder
    CODE_FIRST = "code_first"
    AGREE = "agree"
    DIFFER = "differ"
    RECONCILE = "reconcile"
    CHANGE = "change"  # the text itself changed


TRANSITIONS: Mapping[State, Mapping[Step, State]] = {
    State.TO_CODE: {
        Step.CODE_ALONE: State.CODED,
        Step.CODE_FIRST: State.HALF_CODED,
        Step.CHANGE: State.OUTDATED,
    },
    State.HALF_CODED: {
        Step.AGREE: State.CODED,
        Step.DIFFER: State.TO_RECONCILE,
        Step.CHANGE: State.OUTDATED,
    },
    State.TO_RECONCILE: {Step.RECONCILE: State.CODED, Step.CHANGE: State.OUTDATED},
    State.CODED: {Step.CHANGE: State.OUTDATED},
    State.OUTDATED: {},
}
"""What each step makes of each state; a step that is not here cannot be taken."""

WAITING = frozenset({State.TO_CODE, State.HALF_CODED})


def after(state: State, step: Step) -> State | None:
    """The state after a step, or None when the step cannot be taken there."""
    return TRANSITIONS[state].get(step)


def step_of(state: State, coders: int, earlier: Collection[str], code: str) -> Step:
    """Which step a choice is: `earlier` are the codes that were chosen before it."""
    if coders == 1:
        return Step.CODE_ALONE
    if state is not State.HALF_CODED:
        return Step.CODE_FIRST
    return Step.AGREE if code in earlier else Step.DIFFER


def why_not_code(state: State, coders: Collection[str], username: str) -> str | None:
    """Why this person cannot code this text, or None; `coders` are those who have."""
    if state is State.OUTDATED:
        return "This text was changed, and this is how it read before. Code the text as it reads now."
    if state not in WAITING:
        return "This text is coded already by as many people as the study asks for."
    if username in coders:
        return "You have coded this text. It is for somebody else now, who does not see what you chose."
    return None


def why_not_reconcile(state: State, coders: Collection[str], username: str) -> str | None:
    """Why this person cannot settle what this text is coded as, or None."""
    if after(state, Step.RECONCILE) is None:
        return "There is nothing to settle here: either it is not coded twice yet, or both agree, or it is settled."
    if username in coders:
        return "You are one of the two who coded this text. A third person settles it."
    return None


def shows_choices(state: State, coders: int, chosen: int) -> bool:
    """Whether what the coders chose may be seen by others: not while somebody is still to choose alone.

    Nor of a text that was changed before all had chosen: how it reads now is coded by the same people, each alone.
    """
    return state not in WAITING and chosen >= coders


def key_of(text: str) -> str:
    """A text without case and extra blanks: by it the very same text is found again."""
    return " ".join(text.casefold().split())


def words_of(code: str, label: str) -> str:
    """What a term is found by."""
    return key_of(f"{label} {code}")


def found_in(terms: Iterable[Term], text: str, most: int = MOST_FOUND) -> list[Term]:
    """The terms that hold every word of a text, in whatever order; those that begin with it, and the short, first."""
    wanted = key_of(text).split()
    if not wanted:
        return []
    found = [term for term in terms if all(word in words_of(term.code, term.label) for word in wanted)]
    return sorted(found, key=lambda term: rank(term, text))[:most]


def nearest(terms: Iterable[Term], text: str, most: int = MOST_FOUND) -> list[Term]:
    """Where no term holds every word of a text: those that hold most of its longer words, the nearest first."""
    wanted = long_words(text)
    held = [(sum(word in words_of(term.code, term.label) for word in wanted), term) for term in terms]
    found = sorted((-number, rank(term, text), term.code, term) for number, term in held if number)
    return [term for *_, term in found[:most]]


def long_words(text: str) -> list[str]:
    """The words of a text by which a term may be found alone."""
    return [word for word in dict.fromkeys(key_of(text).split()) if len(word) > 3][:MOST_WORDS]


def rank(term: Term, text: str) -> tuple[bool, bool, int, str]:
    """How near a term is to what somebody looks for; the smallest is nearest."""
    label, wanted = key_of(term.label), key_of(text)
    return (label != wanted, not label.startswith(wanted), len(label), label)
