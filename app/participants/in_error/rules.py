"""May it be recorded that somebody was randomised in error, and what must be said of it?"""

from collections.abc import Collection, Mapping
from datetime import date
from enum import StrEnum

from app.foundation.errors import FieldProblem
from app.foundation.words import text_problems
from app.studies.definition import StratumFactor, Study
from app.studies.rules import names_an_arm

LONGEST = 2000  # characters of the account

NAMES_AN_ARM = "Blinded people read this, and it names an arm. Say it without: which arm it was changes nothing here."
OVERTAKEN = (
    "Somebody recorded this while you were typing. Read what they wrote; if something is wrong with it, correct that."
)


class Reason(StrEnum):
    """Why somebody should not have been randomised, or not so; the last one takes an earlier record back."""

    INELIGIBLE = "ineligible"
    WRONG_STRATUM = "wrong_stratum"
    NO_VALID_CONSENT = "no_valid_consent"
    TWICE = "twice"
    OTHER = "other"
    NO_ERROR = "no_error"


LABELS: Mapping[Reason, str] = {
    Reason.INELIGIBLE: "Not eligible after all",
    Reason.WRONG_STRATUM: "Randomised in the wrong stratum",
    Reason.NO_VALID_CONSENT: "No valid consent",
    Reason.TWICE: "Randomised twice, under two codes",
    Reason.OTHER: "Other, as described",
    Reason.NO_ERROR: "Recorded as an error at first, and was none",
}


def why_not_record(code: str, randomised_on: date | None) -> str | None:
    """Why there is no error to record, or None: only who is randomised can have been randomised in error."""
    if randomised_on is None:
        return f"{code} is not randomised. Before that nothing needs this: correct the entry, or record a withdrawal."
    return None


def is_error(reason: str | None) -> bool:
    """Whether the newest record of a participant says that they were randomised in error."""
    return reason is not None and reason != Reason.NO_ERROR


def reasons_to_choose(standing: str | None) -> tuple[Reason, ...]:
    """The reasons that can be chosen; that it was no error can be said only of what was recorded as one."""
    return tuple(each for each in Reason if each is not Reason.NO_ERROR or is_error(standing))


def levels_of(factor: StratumFactor, sites: Collection[str]) -> tuple[str, ...]:
    """The codes of the levels a factor can have; of the site they are the sites."""
    return tuple(sites) if factor.by == "site" else tuple(level.code for level in factor.levels)


def record_problems(
    study: Study,
    *,
    reason: str,
    why: str,
    found_on: date,
    should_have_been: Mapping[str, str],
    standing: str | None,
    sites: Collection[str],
    randomised_on: date,
    today: date,
) -> list[FieldProblem]:
    """What is wrong with a record; `standing` is the reason of the newest one until now, `sites` their codes."""
    found = []
    if reason not in reasons_to_choose(standing):
        found.append(FieldProblem("reason", "choice", "Choose what was wrong."))
    found += _stratum_problems(study, reason, should_have_been, sites)
    if found_on > today:
        found.append(FieldProblem("found_on", "future", "This day has not come yet. Type the day it was found."))
    elif found_on < randomised_on:
        words = "Nobody was randomised in error before they were randomised. Type the day on which it was found."
        found.append(FieldProblem("found_on", "early", words))
    return found + _words(study, why)


def _stratum_problems(
    study: Study, reason: str, should_have_been: Mapping[str, str], sites: Collection[str]
) -> list[FieldProblem]:
    if not should_have_been:
        return []
    if reason != Reason.WRONG_STRATUM:
        words = "Leave this empty, or choose that the stratum was wrong."
        return [FieldProblem("should_have_been", "reason", words)]
    factors = {factor.code: factor for factor in study.allocation.strata}
    found = []
    for code, level in should_have_been.items():
        if code not in factors:
            words = f"This study is not stratified by “{code}”. Take it out."
            found.append(FieldProblem("should_have_been", "unknown", words))
        elif level not in levels_of(factors[code], sites):
            words = f"Choose what “{factors[code].label}” should have been, or leave it empty."
            found.append(FieldProblem(f"should_have_been.{code}", "choice", words))
    return found


def _words(study: Study, why: str) -> list[FieldProblem]:
    if problems := text_problems("why", why, "Say what happened and how it was found.", LONGEST):
        return problems
    if names_an_arm(study, why):
        return [FieldProblem("why", "arm", NAMES_AN_ARM)]
    return []
