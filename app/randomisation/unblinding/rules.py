"""May the blind be broken, and what must be said of it? In an emergency, as planned, and after an accident."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from app.foundation.errors import FieldProblem
from app.studies.definition import Study
from app.studies.rules import names_an_arm

LONGEST = 2000  # characters of a reason, an account of what happened, or an assessment
LONGEST_NAME = 200

NAMES_AN_ARM = "Blinded people read this, and it names an arm. Say it without: nobody needs to know which arm it was."
SAME_WORDS = (
    "You broke the blind of this participant before, in these very words, and the arm was shown then. "
    "If it has to be shown once more, say why."
)


class Kind(StrEnum):
    """How it came about (ICH E6(R3) 4.1.4)."""

    EMERGENCY = "emergency"  # by the investigator, at once
    PLANNED = "planned"  # asked for by one person and approved by another
    ACCIDENTAL = "accidental"  # somebody learnt an arm who should not have


class State(StrEnum):
    """Where an unblinding stands."""

    DONE = "done"  # an emergency: the arm was shown
    REQUESTED = "requested"
    APPROVED = "approved"  # and open until a moment
    CLOSED = "closed"  # approved, and that moment has passed
    REFUSED = "refused"
    EXPIRED = "expired"  # nobody decided in time
    OPEN = "open"  # by accident, its impact not yet assessed
    ASSESSED = "assessed"


WAITING = frozenset({State.REQUESTED, State.OPEN})


def state_of(
    kind: str,
    *,
    approved: bool | None,
    expires_at: datetime | None,
    opens_until: datetime | None,
    assessed_at: datetime | None,
    now: datetime,
) -> State:
    """Where an unblinding stands at this moment."""
    if kind == Kind.EMERGENCY:
        return State.DONE
    if kind == Kind.ACCIDENTAL:
        return State.ASSESSED if assessed_at else State.OPEN
    if approved is None:
        return State.EXPIRED if expires_at is not None and expires_at <= now else State.REQUESTED
    if not approved:
        return State.REFUSED
    return State.APPROVED if opens_until is not None and now <= opens_until else State.CLOSED


# What must be said


@dataclass(frozen=True)
class Earlier:
    """An emergency that stands: of which participant, when, by whom, in which words."""

    number: int
    participant_id: int
    at: datetime
    by: str
    why: str


def emergency_problems(
    study: Study, *, reason: str, why: str, asked_by: str, earlier: Sequence[Earlier], by: str
) -> list[FieldProblem]:
    """What is missing before the blind of one participant is broken; `earlier` are emergencies of that participant.

    The words are searched for an arm only when somebody has seen the arm before: who has not cannot give it away, and
    an everyday word must not cost time at night.
    """
    found = []
    if reason not in {each.code for each in study.unblinding.reasons}:
        found.append(FieldProblem("reason", "choice", "Choose the reason that is nearest."))
    found += _text("why", why, "Say what happened, in a sentence: without names, and without an arm.")
    found += _text("asked_by", asked_by, "Say who asked for it; write your own name if it was you.", LONGEST_NAME)
    if earlier and not found:
        found += naming_an_arm(study, why=why, asked_by=asked_by)
    if not found and any(each.by == by and _plain(each.why) == _plain(why) for each in earlier):
        found.append(FieldProblem("why", "repeated", SAME_WORDS))
    return found


def accidental_problems(
    study: Study, *, learnt_by: str, how: str, learnt_on: date, randomised_on: date | None, today: date
) -> list[FieldProblem]:
    """What is wrong with the account of an arm that somebody learnt; it never says which arm."""
    found = _text("learnt_by", learnt_by, "Say who learnt it: a name, or a role when it was several.", LONGEST_NAME)
    found += _text("how", how, "Say how it happened, without saying which arm it was.")
    if learnt_on > today:
        found.append(FieldProblem("on", "future", "This day has not come yet. Type the day on which it happened."))
    elif randomised_on is not None and learnt_on < randomised_on:
        found.append(
            FieldProblem("on", "early", "There was no arm to learn before this participant was randomised. Check it.")
        )
    return found + naming_an_arm(study, learnt_by=learnt_by, how=how)


def text_problems(study: Study, field: str, text: str, message: str) -> list[FieldProblem]:
    """What is wrong with one text that blinded people read."""
    return _text(field, text, message) or naming_an_arm(study, **{field: text})


def _text(field: str, text: str, message: str, longest: int = LONGEST) -> list[FieldProblem]:
    if not text.strip():
        return [FieldProblem(field, "required", message)]
    if len(text) > longest:
        return [FieldProblem(field, "length", f"This is longer than {longest} characters. Shorten it.")]
    if any(not letter.isprintable() and letter not in "\r\n\t" for letter in text):
        return [FieldProblem(field, "control", "There is a character in it that cannot be kept.")]
    return []


def naming_an_arm(study: Study, **texts: str) -> list[FieldProblem]:
    """Which of these texts, by field, cannot be kept because they name an arm and blinded people read them."""
    return [FieldProblem(field, "arm", NAMES_AN_ARM) for field, text in texts.items() if names_an_arm(study, text)]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


# Planned


@dataclass(frozen=True)
class Closing:
    """How far the study is: participants with an arm, sites that are open, visits of theirs without an outcome; and how
    many of them have data that are not locked.
    """

    randomised: int
    open_sites: int
    open_visits: int
    not_locked: int = 0


def why_not_yet(study: Study, closing: Closing, today: date) -> str | None:
    """Why no planned unblinding can be approved yet, or None: the study's day, or its end and locked data."""
    first = study.unblinding.planned_from
    if first is not None:
        return None if today >= first else f"The study allows it from {first.isoformat()}. Wait until then."
    if not closing.randomised:
        return "Nobody is randomised yet, so there is no arm."
    if closing.open_sites and closing.randomised < study.target:
        return (
            "Recruitment is still open. It can be approved once the planned number is reached or every site is closed."
        )
    if closing.open_visits:
        few = "One visit is" if closing.open_visits == 1 else f"{closing.open_visits} visits are"
        return f"{few} still planned. Record every visit as held or missed first."
    if closing.not_locked:
        few = (
            "The data of one participant are"
            if closing.not_locked == 1
            else (f"The data of {closing.not_locked} participants are")
        )
        return f"{few} not locked, and could still be changed by somebody who knows an arm. Lock them first."
    return None


def why_not_decide(state: State, *, requested_by: str, by: str) -> str | None:
    """Why this person cannot approve or refuse this request, or None: never one's own (ICH E6(R3) 4.1.4)."""
    if state is State.EXPIRED:
        return "Nobody decided on this request in time. It needs a new request."
    if state is not State.REQUESTED:
        return "This request was decided already. Read the decision on its page."
    if requested_by == by:
        return "A second person decides on a request. Ask somebody else who may approve it."
    return None


# How often


def unusual_sites(study: Study, counts: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """The sites (code, emergencies within `alert_days`) with as many as the study calls unusual (CONC-14)."""
    return [(site, count) for site, count in counts if count >= study.unblinding.alert_count]


def counted_since(study: Study, now: datetime) -> datetime:
    """The moment from which emergencies count towards an unusual number."""
    return now - timedelta(days=study.unblinding.alert_days)
