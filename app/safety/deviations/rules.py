"""What is true of a deviation? What must be said of it, which step may follow which, and the words of the system."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from enum import StrEnum

from app.foundation.errors import FieldProblem
from app.foundation.words import day_in_words, text_problems
from app.participants.in_error.rules import Reason
from app.studies.definition import DeviationCategory, Safety

LONGEST = 2000
GRADES = ("minor", "major")


class State(StrEnum):
    """Where a deviation stands."""

    OPEN = "open"
    ACTED = "acted"  # what was done about it is written down
    SIGNED = "signed"
    GONE = "gone"  # does not hold any more, or was recorded by mistake; kept


class Act(StrEnum):
    """What can be done about a deviation."""

    ACT = "act"
    SIGN = "sign"
    TAKE_BACK = "take_back"
    FIND = "find"  # the system finds it again


S = State
TRANSITIONS: Mapping[State, Mapping[Act, State]] = {
    S.OPEN: {Act.ACT: S.ACTED, Act.TAKE_BACK: S.GONE},
    S.ACTED: {Act.ACT: S.ACTED, Act.SIGN: S.SIGNED, Act.TAKE_BACK: S.GONE},
    S.SIGNED: {Act.ACT: S.ACTED},  # a later change supersedes the signature and asks again
    S.GONE: {Act.FIND: S.OPEN},
}


class Rule(StrEnum):
    """What the system finds by itself."""

    WINDOW = "window"
    MISSED = "missed"
    LATE_ENTRY = "late_entry"
    IN_ERROR = "in_error"
    CONSENT = "consent"
    INELIGIBLE = "ineligible"
    STRATUM = "stratum"


# The categories that studies have by default; a study with others gets its last one.
CATEGORY_OF: Mapping[Rule, str] = {
    Rule.WINDOW: "visit_window",
    Rule.MISSED: "missed_visit",
    Rule.LATE_ENTRY: "late_entry",
    Rule.IN_ERROR: "randomisation",
    Rule.CONSENT: "consent",
    Rule.INELIGIBLE: "eligibility",
    Rule.STRATUM: "randomisation",
}


def category_of(safety: Safety, rule: Rule) -> DeviationCategory:
    """The category of the study under which the system files what it found."""
    wanted = (CATEGORY_OF[rule], "other")
    return next((each for code in wanted for each in safety.deviations if each.code == code), safety.deviations[-1])


def outside_words(visit: str, held_on: date, opens_on: date, closes_on: date) -> str:
    """What the system says of a visit outside its window."""
    held, opens, closes = map(day_in_words, (held_on, opens_on, closes_on))
    return f"{visit} was held on {held}, outside its window ({opens} to {closes})."


def missed_words(visit: str, opens_on: date, closes_on: date) -> str:
    """What it says of a visit that was missed."""
    return f"{visit} was missed; it was due from {day_in_words(opens_on)} to {day_in_words(closes_on)}."


def late_words(visit: str, held_on: date, days: int) -> str:
    """What it says of answers that were typed long after the visit."""
    return f"{visit} was held on {day_in_words(held_on)}; answers were first saved more than {days} days later."


# Whole sentences: a reason in lower case within one would be found in no catalogue.
IN_ERROR_WORDS: Mapping[Reason, str] = {
    Reason.INELIGIBLE: "Randomised in error: not eligible after all.",
    Reason.WRONG_STRATUM: "Randomised in error: randomised in the wrong stratum.",
    Reason.NO_VALID_CONSENT: "Randomised in error: no valid consent.",
    Reason.TWICE: "Randomised in error: randomised twice, under two codes.",
    Reason.OTHER: "Randomised in error: other, as described.",
}
"""What it says of somebody who was randomised in error, by the reason."""


def consent_words(version: str, valid_from: date) -> str:
    """What it says of visits without consent to the version that held."""
    return (
        f"Version {version} of the consent document holds since {day_in_words(valid_from)}; a visit was held before "
        "this participant had signed it."
    )


def ineligible_words(criteria: Sequence[str]) -> str:
    """What it says of somebody who takes part and, by the answers of the pre-screen as corrected, is not eligible."""
    return f"Takes part, and was not eligible by the answers of the pre-screen as corrected: {', '.join(criteria)}."


def stratum_words(factor: str, was: str, now: str) -> str:
    """What it says of a level of the stratum that is another one by the answers as corrected."""
    return (
        f"{factor}: randomised as “{was}”, and by the answers of the pre-screen as corrected it is “{now}”. The "
        "allocation stays as it is."
    )


def report_problems(
    safety: Safety, *, category: str, grade: str, what: str, occurred_on: date, today: date, screened_on: date
) -> list[FieldProblem]:
    """What is wrong with a deviation as somebody reports it."""
    found = []
    if category not in {each.code for each in safety.deviations}:
        found.append(FieldProblem("category", "choice", "Choose what kind of deviation it is."))
    if grade not in GRADES:
        found.append(FieldProblem("grade", "choice", "Choose whether it is minor or major."))
    if occurred_on > today:
        found.append(FieldProblem("occurred_on", "future", "This day has not come yet. Type the day it happened."))
    elif occurred_on < screened_on:
        words = f"The participant was screened on {day_in_words(screened_on)}. Choose that day or a later one."
        found.append(FieldProblem("occurred_on", "early", words))
    return found + text_problems("what", what, "Say what happened and what the protocol says.", LONGEST)


def action_problems(grade: str, action: str, why: str, *, grade_before: str) -> list[FieldProblem]:
    """What is wrong with what was done about it; a change of the grade says why."""
    found = []
    if grade not in GRADES:
        found.append(FieldProblem("grade", "choice", "Choose whether it is minor or major."))
    words = "Say what was done about it, and so that it does not happen again; or why nothing is needed."
    found += text_problems("action", action, words, LONGEST)
    if grade != grade_before or why:
        found += text_problems("why", why, "Say why it is graded otherwise.", LONGEST)
    return found


def why_not(state: State, act: Act) -> str | None:
    """Why this cannot be done with a deviation in this state, or None."""
    if act in TRANSITIONS[state]:
        return None
    if state is State.GONE:
        return "This deviation does not stand any more. Read its history in the log."
    if state is State.SIGNED:
        return "This deviation is signed. If something has to change, write down what is done about it anew."
    if act is Act.SIGN:
        return "Nothing is written down yet of what was done about it. Do that first, then it can be signed."
    return "This deviation stands already. Nothing is left to do."


def why_not_with_others(state: State, act: Act) -> str | None:
    """The same where several are dealt with at once: there no signature is voided, which nobody would notice."""
    if state is State.SIGNED and act is Act.ACT:
        return "This deviation is signed. Open it by itself if something has to change: its signature is void then."
    return why_not(state, act)


def why_not_take_back(rule: str | None) -> str | None:
    """Why a deviation cannot be taken back, or None: what the system found goes when it does not hold any more."""
    if rule is not None:
        return "The system found this one. It goes by itself when what it rests on is corrected."
    return None


AT_A_VISIT = (Rule.WINDOW, Rule.MISSED, Rule.LATE_ENTRY)
"""Of these what they are about is a visit, by its code."""

Key = tuple[int, str, str]


def settle(found: Collection[Key], kept: Mapping[Key, str]) -> tuple[list[Key], list[Key], list[Key]]:
    """What to write for what the system found: keys to add, to find again, and to let go, each in a fixed order.

    `kept` says in which state each deviation of the system stands. What is signed stays, whatever holds now.
    """
    holds = set(found)
    added = sorted(holds - set(kept))
    again = sorted(key for key in holds & set(kept) if kept[key] == State.GONE)
    gone = sorted(key for key in set(kept) - holds if kept[key] in (State.OPEN, State.ACTED))
    return added, again, gone
