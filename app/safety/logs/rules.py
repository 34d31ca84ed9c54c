"""What is true of contacts, of care beside the trial, and of the end of following somebody up?"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from enum import StrEnum

from app.foundation.errors import FieldProblem
from app.foundation.partial_dates import days_of
from app.foundation.words import day_in_words, text_problems
from app.participants.rules.status import why_not_transition
from app.participants.status import Status
from app.safety.events.rules import which_day

LONGEST = 2000
LONGEST_BEFORE_CONSENT = 200
"""Letters of a note on a contact with somebody who has not consented: what came of it, and no more."""


class How(StrEnum):
    """How somebody was reached for."""

    CALL = "call"
    TEXT_MESSAGE = "text_message"
    MAIL = "mail"
    LETTER = "letter"
    IN_PERSON = "in_person"


class Result(StrEnum):
    """What came of it."""

    REACHED = "reached"
    MESSAGE_LEFT = "message_left"
    NO_ANSWER = "no_answer"
    NOT_VALID = "not_valid"  # a wrong number, a letter that came back
    THEY_CALLED = "they_called"


IN_TOUCH = frozenset({Result.REACHED, Result.THEY_CALLED})


def attempts_since(results: Iterable[str]) -> int:
    """How many attempts in vain there were since somebody was last in touch; `results` are the newest first."""
    count = 0
    for result in results:
        if result in IN_TOUCH:
            break
        count += 1
    return count


def why_not_contact(status: Status, consented_on: date | None) -> str | None:
    """Why no contact with a participant is written down, or None.

    From screening on: who is not reached cannot consent, and what is written down is what the site did.
    """
    if status is Status.SCREEN_FAILED and consented_on is None:
        return "This participant did not pass screening and takes no part. Nothing is recorded of them any more."
    return None


def contact_problems(
    *, at: datetime, how: str, result: str, note: str, now: datetime, consented: bool = True
) -> list[FieldProblem]:
    """What is wrong with a contact; before consent its note is short."""
    found = []
    if how not in set(How):
        found.append(FieldProblem("how", "choice", "Choose how it was tried."))
    if result not in set(Result):
        found.append(FieldProblem("result", "choice", "Choose what came of it."))
    if at > now:
        found.append(FieldProblem("at", "future", "This has not come yet. Say when it was tried."))
    if not consented and len(note) > LONGEST_BEFORE_CONSENT:
        words = f"Before consent a note has at most {LONGEST_BEFORE_CONSENT} letters. Say only what came of it."
        return [*found, FieldProblem("note", "too_long", words)]
    return found + (text_problems("note", note, "", LONGEST) if note else [])


def care_problems(*, treatment: str, began: str, ended: str, indication: str, today: date) -> list[FieldProblem]:
    """What is wrong with a line of care beside the trial; dates may be partial, and the end empty while it goes on."""
    found = text_problems("treatment", treatment, "Say which treatment it is, with its dose where it has one.", 200)
    first, last = days_of(began), days_of(ended) if ended else None
    if first is None:
        found.append(FieldProblem("began", "date", which_day(today)))
    elif first[0] > today:
        found.append(FieldProblem("began", "future", "This day has not come yet. Record it once it has begun."))
    if ended and last is None:
        found.append(FieldProblem("ended", "date", which_day(today)))
    elif last is not None and last[0] > today:
        found.append(FieldProblem("ended", "future", "This day has not come yet. Leave it empty while it goes on."))
    elif last is not None and first is not None and last[1] < first[0]:
        found.append(FieldProblem("ended", "early", f"It began on {day_in_words(first[0])}, and cannot end before."))
    return found + text_problems("indication", indication, "Say what it is for.", 400)


class End(StrEnum):
    """What can be recorded of the end of following somebody up."""

    LOST = "lost"
    FOUND = "found"
    DIED = "died"
    MISTAKE = "mistake"  # somebody who was recorded as dead is not
    COMPLETED = "completed"  # everything the study wanted of them is done
    REOPENED = "reopened"  # something is left to do after all


def end_problems(kind: str, *, on: date, words: str, earliest: date, today: date) -> list[FieldProblem]:
    """What is wrong with such a record."""
    asked: Mapping[str, str] = {
        End.LOST: "Say what was tried, and until when.",
        End.FOUND: "Say how they were found.",
        End.DIED: "Say how it became known, as far as may stand here. Report it as an adverse event as well.",
        End.MISTAKE: "Say how the mistake came about.",
        End.REOPENED: "Say what is left to do.",
    }
    found = []
    if on > today:
        found.append(FieldProblem("on", "future", "This day has not come yet. Type the day on which it happened."))
    elif on < earliest:
        said = f"Choose {day_in_words(earliest)} or a later day."
        found.append(FieldProblem("on", "early", f"This day is too early. {said}"))
    if not words and kind == End.COMPLETED:
        return found
    return found + text_problems("words", words, asked.get(kind, ""), LONGEST)


MOST_NAMED = 5
"""Visits that a sentence names; of more it says how many."""


def still_due(visits: Sequence[str]) -> str | None:
    """Which visits are planned and not held, in words; None when there is none."""
    if not visits:
        return None
    named, more = ", ".join(visits[:MOST_NAMED]), len(visits) - MOST_NAMED
    return f"Still due: {named} and {more} more." if more > 0 else f"Still due: {named}."


def why_not_end(kind: str, status: Status, *, is_allocated: bool = True, due: int = 0) -> str | None:
    """Why this cannot be recorded of a participant who stands here, or None; `due` visits are planned and not held."""
    if kind == End.REOPENED:
        return None if status is Status.COMPLETED else "They have not completed the study. Nothing is left to do."
    if kind == End.COMPLETED:
        if reason := why_not_transition(status, Status.COMPLETED, is_allocated=is_allocated):
            return reason
        if status is Status.LOST:
            return "This participant is recorded as lost. Record that they were found first."
        if due == 1:
            return "One visit is still due. Record it as held, or as missed with the reason, before the completion."
        words = f"{due} visits are still due. Record each as held, or as missed with the reason, before the completion."
        return words if due else None
    if kind == End.FOUND:
        return None if status is Status.LOST else "This participant is not recorded as lost. Nothing is left to do."
    if kind == End.MISTAKE:
        return None if status is Status.DIED else "This participant is not recorded as dead. Nothing is left to do."
    if status is Status.DIED:
        return "This participant is recorded as dead already. If that is a mistake, say so below."
    if kind == End.DIED:
        if status is Status.SCREEN_FAILED:
            return "This participant did not pass screening and takes no part. Nothing is recorded of them any more."
        return None
    if status is Status.LOST:
        return "This participant is recorded as lost already. Once somebody reaches them, record that they were found."
    if status not in (Status.CONSENTED, Status.RANDOMISED):
        return "Only who takes part can be lost to follow-up."
    return None
