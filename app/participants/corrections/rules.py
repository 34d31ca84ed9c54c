"""May the answers of a pre-screen be corrected, and what follows for the participant when they are?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from app.foundation.errors import FieldProblem
from app.participants.rules import Eligibility, why_not_transition
from app.participants.status import Status
from app.studies.definition import Study
from app.studies.rules import names_an_arm

LONGEST = 1000  # characters of a reason

NAMES_AN_ARM = "Blinded people read this, and it names an arm. Say it without: a pre-screen comes before any arm."
NOTHING_DIFFERS = "Nothing of this differs from what stands. Correct an answer first."
OVERTAKEN = "Somebody corrected this pre-screen while you were typing. Read what stands now, then send yours again."
STAYS_A_FAILURE = (
    "By these answers they would be eligible, but they have been a screen failure since after their consent. "
    "Screen them again: they get a new code."
)
WAS_ELIGIBLE = (
    "They were eligible before, and did not take part for another reason. Keep a reason; if they take part after all, "
    "screen them again: they get a new code."
)
ERASED_SINCE = (
    "By these answers they would be eligible, but their personal data were erased since. Screen them again: they get "
    "a new code."
)


@dataclass(frozen=True)
class AnswerChange:
    """One answer as it was and as it is to be; None where there is none."""

    code: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Allotted:
    """What a participant was given by chance, as far as a correction is concerned; never which arm or group.

    `has_place`: they have an arm, or a group of a first stage, and so are analysed. `moved` says of which factors of
    their stratum the answers, as corrected, say another level: (as they were randomised, now), None where it is none.
    """

    has_place: bool = False
    moved: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Correction:
    """What a correction changes and what follows from it, before anything is kept.

    `status` is where the participant stands afterwards. `is_deviation`: not eligible, and has taken part.
    """

    answers: Mapping[str, Any]
    changes: tuple[AnswerChange, ...]
    eligibility: Eligibility
    failure_reason: str | None
    status_before: Status
    status: Status
    is_deviation: bool
    moved: Mapping[str, tuple[str, str | None]]

    @property
    def follows(self) -> str:
        """What follows, as one word for a page that asks before it is kept; empty where nothing but answers change."""
        parts = [self.status.value] if self.status is not self.status_before else []
        parts += ["deviation"] if self.is_deviation else []
        parts += [f"{factor}:{now}" for factor, (_, now) in sorted(self.moved.items())]
        return " ".join(parts)


def answer_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[AnswerChange, ...]:
    """Every answer that is not the same, those of the new ones in their order first."""
    codes = [*new, *(code for code in old if code not in new)]
    return tuple(
        AnswerChange(code, old.get(code), new.get(code)) for code in codes if not _same(old.get(code), new.get(code))
    )


def _same(one: Any, other: Any) -> bool:
    """Whether two stored answers say the same: choices in whatever order; a number is neither yes nor no."""
    if isinstance(one, list) and isinstance(other, list):
        return sorted(one) == sorted(other)
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


def chosen_reason(study: Study, standing: str | None, said: str | None) -> str | None:
    """Why a screen failure does not take part, beside what the answers say of the criteria; None where nothing is.

    `said` is what a correction says of it (None: as it stands). Criteria that were not met are no such reason: they
    follow from the answers.
    """
    given = standing if said is None else said.strip() or None
    criteria = {criterion.code for criterion in study.eligibility.criteria}
    chosen = {choice.code for choice in study.screen_failure_reasons}
    follows = given is not None and given == standing and given not in chosen and set(given.split(",")) <= criteria
    return None if follows else given


def why_problems(study: Study, why: str) -> list[FieldProblem]:
    """Whether it is said why the answers change, in words that everybody blinded may read."""
    if not why.strip() or "\x00" in why:
        return [FieldProblem("why", "required", "Say why the answers change: what stood there, and how it was found.")]
    if len(why) > LONGEST:
        return [FieldProblem("why", "max_length", f"Shorten the reason to {LONGEST} characters.")]
    if names_an_arm(study, why):
        return [FieldProblem("why", "arm", NAMES_AN_ARM)]
    return []


def unknown_problems(study: Study, eligibility: Eligibility, *, is_failure: bool) -> list[FieldProblem]:
    """The questions whose answer a criterion needs, when nothing rules the person out; none once it is known."""
    if eligibility.eligible or eligibility.failed:
        return []
    instrument = study.instrument(study.eligibility.instrument)
    labels = {item.code: item.label for item in instrument.items} if instrument else {}
    named = [(code, labels.get(code, code)) for code in eligibility.lacking]
    problems = [
        FieldProblem(
            code,
            "required",
            f"{label}: answer this, or choose why they do not take part."
            if is_failure
            else f"{label}: answer this, because a criterion rests on it.",
        )
        for code, label in named
    ]
    return problems or [
        FieldProblem("why", "undecided", "A criterion cannot be decided from these answers. Check them.")
    ]


def status_after(status: Status, *, eligible: bool, stays_out: bool, has_place: bool, is_allocated: bool) -> Status:
    """Where a participant stands once their answers are corrected.

    Whoever is ruled out and has no place yet becomes a screen failure where the order of a trial lets them. Whoever is
    a screen failure and is ruled out no more is screened, eligible, unless they stay out for another reason
    (`stays_out`). Everybody else stays where they are.
    """
    if status is Status.SCREEN_FAILED:
        return Status.SCREENED if eligible and not stays_out else status
    may_fail = why_not_transition(status, Status.SCREEN_FAILED, is_allocated=is_allocated) is None
    return Status.SCREEN_FAILED if not eligible and may_fail and not has_place else status


def why_not_pass(*, consented_on: date | None, erased: bool) -> str | None:
    """Why a screen failure cannot stand as screened and eligible by a correction, or None: nothing may depend on it."""
    if consented_on is not None:
        return STAYS_A_FAILURE
    return ERASED_SINCE if erased else None


def has_taken_part(study: Study, status: str, *, consented_on: date | None, randomised_on: date | None) -> bool:
    """Whether somebody took part, which is a deviation when they were not eligible.

    They were randomised; or, where a study allocates nobody, consented; or a group may have come before their arm.
    """
    if status == Status.SCREEN_FAILED:
        return False
    stage = study.allocation.first_stage
    if randomised_on is not None or (stage is not None and stage.after == "screening"):
        return True
    return consented_on is not None and (stage is not None or not study.is_allocated)
