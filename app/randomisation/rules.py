"""May this participant be randomised now, and in which stratum?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import product
from typing import Any

from app.expressions import Value, from_stored, parse
from app.expressions.values import blank, same
from app.participants.rules import why_not_after_death
from app.participants.status import Status
from app.randomisation.methods import DECIDING
from app.randomisation.methods.listed import NAME as LISTED
from app.studies.definition import Study, VisitKind

ONLY_STRATUM = "all"
"""The code of the one stratum of a study without strata."""
SEPARATOR = "/"
"""Stands between the levels of a stratum's code; no code of a site or a choice may contain it."""

BEHIND = (
    "This database was put back from a backup, and somebody may have been randomised since. Nobody is randomised until "
    "that is reconciled. Call the administrator."
)
NOT_OPEN = "Randomisation is not open for this participant. Call the trial statistician."
"""One sentence whether there is no list, no such stratum or no slot left: which of them it is would say something."""


@dataclass(frozen=True)
class Recorded:
    """The recorded answers as an expression asks for them: `{(event, item): stored value}`, and the site's clock."""

    answers: Mapping[tuple[str, str], object]
    today: date
    now: datetime

    def value(self, event: str | None, field: str, instance: str | None = None) -> Value:
        """The recorded value; a stratum's expression always names its event, and events do not repeat."""
        if event is None or instance is not None:
            return None
        return from_stored(self.answers.get((event, field)))


@dataclass(frozen=True)
class StratumFound:
    """The code of a participant's stratum, or why there is none yet."""

    code: str | None
    reason: str | None = None


def needs_answers(study: Study) -> bool:
    """Whether a stratum follows from what was entered, and not from the site alone."""
    return any(factor.by == "expression" for factor in study.allocation.strata)


def stratum_code(study: Study, site_code: str, recorded: Recorded | None) -> StratumFound:
    """The stratum of a participant at this site: the level of each factor in the study's order."""
    parts: list[str] = []
    for factor in study.allocation.strata:
        if factor.by == "site":
            parts.append(site_code)
            continue
        value = parse(factor.expression).evaluate(recorded) if factor.expression and recorded else None
        if blank(value):
            return StratumFound(None, f"“{factor.label}” is not known yet. Complete the entries it is taken from.")
        level = next((level.code for level in factor.levels if same(value, level.code)), None)
        if level is None:
            return StratumFound(
                None,
                f"“{factor.label}” is not one of the values this study foresees. "
                "Check the entries it is taken from, or call the trial statistician.",
            )
        parts.append(level)
    return StratumFound(SEPARATOR.join(parts) or ONLY_STRATUM)


def moved_levels(
    study: Study, randomised_by: str, recorded: Recorded, *, event: str
) -> dict[str, tuple[str, str | None]]:
    """Which factors that rest on answers of this event have another level by what is recorded than the stratum of a
    participant says: (as they were randomised, now); None where it is no level of the study.

    A stratum of other factors than the study has now cannot be compared.
    """
    levels, factors = randomised_by.split(SEPARATOR), study.allocation.strata
    moved: dict[str, tuple[str, str | None]] = {}
    if len(levels) != len(factors):
        return moved
    for factor, was in zip(factors, levels, strict=True):
        if factor.by != "expression" or not factor.expression:
            continue
        rule = parse(factor.expression)
        if event not in {reference.event for reference in rule.references}:
            continue
        value = rule.evaluate(recorded)
        now = next((level.code for level in factor.levels if not blank(value) and same(value, level.code)), None)
        if now != was:
            moved[factor.code] = (was, now)
    return moved


def all_strata(study: Study, site_codes: Sequence[str]) -> tuple[str, ...]:
    """Every stratum a participant of these sites can be in, sorted by code."""
    levels = [
        list(site_codes) if factor.by == "site" else [level.code for level in factor.levels]
        for factor in study.allocation.strata
    ]
    return tuple(sorted(SEPARATOR.join(combination) or ONLY_STRATUM for combination in product(*levels)))


def is_of_plan(study: Study, method: str | None, drawn_from: Mapping[str, Any]) -> bool:
    """Whether a sealed list gives what the study as it is now says; it may have been sealed before an amendment.

    `drawn_from` are the secrets of the list. Arms and the groups within which they are given are the study's; where
    `method` decides at each allocation its factors are, too, in the same order: a level would be taken for one of
    another factor. A ratio is held against nothing where the list was handed in.
    """
    allocation = study.allocation
    stage = allocation.first_stage
    arms = {arm.code: arm.ratio for arm in study.arms}
    groups = {group.code: {each.arm: each.ratio for each in group.arms} for group in stage.groups} if stage else {}
    known = dict(drawn_from.get("arms", ()))
    if drawn_from.get("method") == LISTED:
        arms, known = dict.fromkeys(arms, 1), dict.fromkeys(known, 1)
    decides = method in DECIDING
    return (
        known == arms
        and {code: dict(each) for code, each in drawn_from.get("groups", {}).items()} == groups
        and (not decides or [*drawn_from["factors"]] == [factor.code for factor in allocation.strata])
    )


def people_expected(study: Study) -> int:
    """How many people each site has, one or more, when all that are planned come from all sites equally."""
    return -(-study.target // max(1, len(study.sites)))


@dataclass(frozen=True)
class SiteDrawn:
    """A site, and the newest list that gives it an arm; `is_final` when that stands, and it is never drawn again."""

    code: str
    name: str
    version: int | None = None
    is_final: bool = False


def batch_by_default(sites: Sequence[SiteDrawn]) -> tuple[str, ...]:
    """The sites that are drawn together unless others are chosen: those without a list, or whose list is unused."""
    without = [site.code for site in sites if site.version is None]
    return tuple(sorted(without or [site.code for site in sites if not site.is_final]))


def baseline_entries(study: Study) -> tuple[tuple[str, str], ...]:
    """The (visit, instrument) pairs that must be complete before randomisation, in the order of the plan."""
    return tuple(
        (visit.code, instrument)
        for visit in study.visits
        if visit.kind is VisitKind.BASELINE
        for instrument in visit.instruments
    )


@dataclass(frozen=True)
class Facts:
    """What is known of a participant at this moment; all the gates are judged from it."""

    participant: str
    status: str
    eligible: bool | None
    why_no_consent: str | None
    complete: frozenset[tuple[str, str]]
    why_no_stratum: str | None
    site_name: str
    site_open: bool
    allocated: bool
    slot_waiting: bool
    behind: bool = False
    """Whether the database is older than what was done on it (REL-17)."""
    staged: bool = False
    """Whether they have their group of the first stage; in a study without one nobody has."""
    fatal_event: int | None = None
    """The adverse event of theirs that was fatal."""


@dataclass(frozen=True)
class Gate:
    """One condition for randomisation; `reason` says what to do while it is closed."""

    code: str
    label: str
    reason: str | None = None

    @property
    def open(self) -> bool:
        return self.reason is None


def gates(study: Study, facts: Facts) -> tuple[Gate, ...]:
    """Every condition in the order of the walk from screening to randomisation (21 CFR 11.10(f))."""
    stage = study.allocation.first_stage
    return (
        Gate("eligible", "Eligible", _why_not_eligible(facts)),
        Gate("consented", "Consent complete", _why_not_consented(facts)),
        *([Gate("stage", stage.label, _why_not_staged(study, facts))] if stage else []),
        Gate("baseline", "Baseline entries complete", _why_not_baseline(study, facts)),
        _site_open(facts),
        Gate("not_randomised", "Not yet randomised", _why_already(facts)),
        Gate("list_ready", "Randomisation open", _why_not_open(facts)),
    )


def first_stage_gates(study: Study, facts: Facts) -> tuple[Gate, ...]:
    """Every condition for the first stage, in the order of the walk; `facts` are judged with its own list and strata.

    Empty in a study without a first stage.
    """
    stage = study.allocation.first_stage
    if stage is None:
        return ()
    done = f"{facts.participant} has this step behind them: “{stage.label}” is done once. Go on with the next step."
    return (
        Gate("eligible", "Eligible", _why_not_eligible(facts)),
        Gate("consented", "Consent complete", _why_not_consented(facts))
        if stage.after == "consent"
        else Gate("taking_part", "Still taking part", _why_withdrawn(facts)),
        *([Gate("stratum", "Answers it is taken from", facts.why_no_stratum)] if stage.strata else []),
        _site_open(facts),
        Gate("not_staged", "Not yet done", done if facts.staged or facts.allocated else None),
        Gate("list_ready", "Randomisation open", None if facts.staged else _why_not_open(facts)),
    )


def _site_open(facts: Facts) -> Gate:
    closed = f"{facts.site_name} is not open. Ask your administrator to open the site."
    return Gate("site_open", "Site open", None if facts.site_open else closed)


def _why_not_staged(study: Study, facts: Facts) -> str | None:
    if facts.staged or facts.allocated or study.allocation.first_stage is None:
        return None
    return f"“{study.allocation.first_stage.label}” comes before it, and is not done yet. Do that step first."


def _why_withdrawn(facts: Facts) -> str | None:
    if facts.status == Status.WITHDRAWN:
        return f"{facts.participant} has withdrawn. A participant who has withdrawn is not randomised."
    return why_not_after_death(facts.participant, Status(facts.status), facts.fatal_event)


def _why_not_open(facts: Facts) -> str | None:
    if facts.allocated:
        return None
    return BEHIND if facts.behind else None if facts.slot_waiting else NOT_OPEN


def why_not_ready(passed: Sequence[Gate]) -> str | None:
    """The reason of the first gate that is closed, or None when all are open."""
    return next((gate.reason for gate in passed if gate.reason is not None), None)


def _why_not_eligible(facts: Facts) -> str | None:
    if facts.eligible is None:
        return f"{facts.participant} has no pre-screen. Complete the pre-screen first."
    if not facts.eligible or facts.status == Status.SCREEN_FAILED:
        return f"{facts.participant} is not eligible. A participant who is not eligible is not randomised."
    return None


def _why_not_consented(facts: Facts) -> str | None:
    return _why_withdrawn(facts) or facts.why_no_consent


def _why_not_baseline(study: Study, facts: Facts) -> str | None:
    lacking = [pair for pair in baseline_entries(study) if pair not in facts.complete]
    if not lacking:
        return facts.why_no_stratum
    names = []
    for visit_code, instrument_code in lacking:
        visit, instrument = study.visit(visit_code), study.instrument(instrument_code)
        names.append(f"{instrument.label if instrument else instrument_code} ({visit.label if visit else visit_code})")
    return f"Complete {_listed(names)} first."


def _why_already(facts: Facts) -> str | None:
    if facts.allocated or facts.status in (Status.RANDOMISED, Status.COMPLETED):
        return f"{facts.participant} is already randomised. Open the participant to see the allocation number."
    return None


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:5])
    if len(names) > 5:
        return ", ".join(shown) + f" and {len(names) - 5} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]
