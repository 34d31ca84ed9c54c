"""Which slip comes next, what does it say, and what of a randomisation on paper was not as it should be?"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import product

from app.foundation.errors import FieldProblem
from app.foundation.words import day_in_words
from app.randomisation.downtime.status import SlotState
from app.randomisation.rules import ONLY_STRATUM, SEPARATOR, Gate
from app.randomisation.unblinding.rules import naming_an_arm
from app.studies.definition import Study

FORMAT = "equipoise-downtime-1"
MOST_SLOTS = 50
MOST_SLIPS = 500
LONGEST = 2000
LONGEST_NAME = 120

SLIP = re.compile(r"\s*(\d{1,6})\s*[-–/]\s*(\d{1,6})\s*")
NO_SUCH_SLIP = "There is no open slip with this number for this site. Check the number on the slip."
NOT_GATES_OF_PAPER = frozenset({"not_randomised", "list_ready"})
"""A second randomisation is refused, and whether a slot is free was settled when the slip was printed."""


@dataclass(frozen=True)
class Settled:
    """One reserved slot as its order is judged: its number, and what became of it."""

    number: int
    state: str
    used_at: datetime | None = None


def bound_to(study: str, pack: int, stratum: str, number: int) -> tuple[str | int, ...]:
    """What a sealed slot of a pack is tied to."""
    return (FORMAT, study, pack, stratum, number)


def slip_name(pack: int, number: int) -> str:
    """How a slip is called on paper and in the log: pack and number, as `2-07`."""
    return f"{pack}-{number:02d}"


def slip_of(typed: str) -> tuple[int, int] | None:
    """Pack and number of a slip as it was typed; None when that is no number of a slip."""
    found = SLIP.fullmatch(typed)
    return (int(found[1]), int(found[2])) if found else None


def stratum_words(study: Study, site_code: str, site_name: str) -> dict[str, str]:
    """The strata of one site, by code, in words that stand on paper: `Severity: high`."""
    levels: list[list[tuple[str, str]]] = [
        [(site_code, site_name)]
        if factor.by == "site"
        else [(level.code, f"{factor.label}: {level.label}") for level in factor.levels]
        for factor in study.allocation.strata
    ]
    words = {
        SEPARATOR.join(code for code, _ in each) or ONLY_STRATUM: ", ".join(word for _, word in each) or site_name
        for each in product(*levels)
    }
    return dict(sorted(words.items()))


def pack_problems(slots: int, strata: int, left: Mapping[str, int], words: Mapping[str, str]) -> list[FieldProblem]:
    """What is wrong with the number of slots that are to be reserved in each stratum; for the statistician alone."""
    if not 1 <= slots <= MOST_SLOTS:
        return [FieldProblem("slots", "range", f"Reserve 1 to {MOST_SLOTS} slots in each stratum.")]
    if slots * strata > MOST_SLIPS:
        return [FieldProblem("slots", "range", f"A pack has at most {MOST_SLIPS} slips. Reserve fewer.")]
    return [
        FieldProblem("slots", "left", f"{words[code]} has only {count} slots left. Reserve fewer.")
        for code, count in left.items()
        if count < slots
    ]


def why_not_next(slots: Sequence[Settled], number: int, name: str) -> str | None:
    """Why this slot of a stratum's slips cannot be settled now, or None: slips are settled in their order (E9-3)."""
    found = next((slot for slot in slots if slot.number == number), None)
    if found is None:
        return NO_SUCH_SLIP
    if found.state == SlotState.USED:
        return f"Slip {name} is entered already. Nothing is left to do for it."
    if found.state == SlotState.VOID:
        return f"Slip {name} is void. A slip that is void is never used; call the trial statistician."
    if any(slot.state == SlotState.RESERVED and slot.number < number for slot in slots):
        return (
            "Slips of a stratum are entered in their order, and an earlier one is not yet entered. Enter that one "
            "first; if it was not used, ask the trial statistician to void it."
        )
    return None


def paper_problems(
    *,
    at: datetime,
    used_by: str,
    day: date,
    screened_on: date,
    made_at: datetime,
    before: datetime | None,
    now: datetime,
) -> list[FieldProblem]:
    """What cannot be as it was typed of a randomisation on paper; `before` is when the slip in front was used."""
    found = []
    if at > now:
        found.append(FieldProblem("at", "future", "This moment has not come yet. Check the day and the time."))
    elif at < made_at:
        found.append(FieldProblem("at", "too_early", "This is before the slips were printed. Check the day and time."))
    elif day < screened_on:
        words = f"This is before {day_in_words(screened_on)}, the day of the pre-screen. Check the day."
        found.append(FieldProblem("at", "too_early", words))
    elif before is not None and at < before:
        words = "This is before the slip in front of it was used. Check the day and the time on both slips."
        found.append(FieldProblem("at", "order", words))
    return found + text_problems("used_by", used_by, "Say who took the slip.", LONGEST_NAME)


def text_problems(field: str, text: str, message: str, longest: int = LONGEST) -> list[FieldProblem]:
    """Whether something was written, and can be kept."""
    if not text.strip() or "\x00" in text:
        return [FieldProblem(field, "required", message)]
    return [FieldProblem(field, "max_length", f"Shorten it to {longest} characters.")] if len(text) > longest else []


def told_problems(study: Study, field: str, text: str, message: str) -> list[FieldProblem]:
    """The same of a text that blinded people read in the log."""
    return text_problems(field, text, message) + naming_an_arm(study, **{field: text})


def not_met(passed: Sequence[Gate], stratum: str | None, printed: str) -> dict[str, str]:
    """The conditions for randomisation that do not hold, by code, with what each says: it happened all the same."""
    found = {gate.code: gate.reason for gate in passed if gate.reason and gate.code not in NOT_GATES_OF_PAPER}
    if stratum is not None and stratum != printed:
        found["stratum"] = "The slip is of another stratum than the entries say."
    return found
