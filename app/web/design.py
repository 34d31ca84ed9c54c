"""Door of the statistician, before anything is drawn: how would ways of randomising behave in a trial of this size?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd
from statistics import fmean
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fastapi.responses import Response

from app.dependencies import ChangeInStudy, Here, PageInStudy
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.people.access import may
from app.people.permissions import Permission
from app.randomisation.methods import DECIDING, DRAWN, METHODS, SEEDED, TOGETHER
from app.randomisation.predictability import Predictability, is_high
from app.rendering import axis_steps
from app.studies.definition import Study
from app.web.pages import pages
from app.web.sequence import (
    OPTIONS,
    described,
    problems_of,
    strata_of,
    typed_number,
    typed_options,
    usual_options,
)
from app.web.shell import show

if TYPE_CHECKING:
    from app.randomisation.simulation import Behaviour, Design, StagedBehaviour

POINTS = 46  # of a curve; with one for each person of a large trial it could not be read
LABEL_HEIGHT = 15  # pixels between the labels of two curves
CHART_HEIGHT = 180
MOST_BESIDE = 5
FIRST_BESIDE = ("fixed_blocks", "big_stick", "maximal_procedure", "biased_coin")
NUMBERS = ("people", "strata", "slots_per_stratum")
FIRST_SIZES = "first_block_sizes"

router = pages(hidden_without=Permission.SEQUENCE_DRAW)


@dataclass(frozen=True)
class Alternative:
    """A usual choice that the chosen one can be held against."""

    code: str
    method: str
    options: Mapping[str, object]


@dataclass(frozen=True)
class Line:
    """One design as the page shows it. Probabilities in per cent, imbalances in people per share."""

    method: str
    options: str
    short: str
    """The options where there is little room: `4, 6, 8`."""
    chosen: bool
    behaviour: "Behaviour"
    certain: float
    correct: float
    high: bool


@router.get("/{study}/sequence/design", name="design.design")
def design(here: PageInStudy) -> Response:
    """The study's own method with usual options, beside others."""
    _require(here)
    possible = _alternatives(here.the_study.definition)
    beside = [code for code in FIRST_BESIDE if code in possible]
    # Where the arms leave few methods, the others are worth a curve.
    others = [code for code, each in possible.items() if each.method not in TOGETHER]
    return _page(here, _usual(here), beside if len(beside) > 1 else others[:MOST_BESIDE])


@router.post("/{study}/sequence/design", name="design.compare")
def compare(here: ChangeInStudy) -> Response:
    """The chosen method and options beside others. Nothing is drawn; a form, so that no address holds the options."""
    _require(here)
    here.release_key()
    # Looking is no change: nobody waits for this transaction while trials are played.
    here.session.commit()
    typed = {name: here.value(name) for name in ("method", *OPTIONS, *NUMBERS, FIRST_SIZES)}
    beside = [code for code in here.form.get("beside", []) if code in _alternatives(here.the_study.definition)]
    here.shows()
    return _page(here, typed, beside)


def _require(here: Here) -> None:
    if not may(here.actor, Permission.SEQUENCE_DRAW) or not here.the_study.definition.is_allocated:
        raise NotFound


def _usual(here: Here) -> dict[str, str]:
    """What stands in the form at first."""
    definition = here.the_study.definition
    possible = _possible(definition)
    method = definition.allocation.method
    typed = {"method": method if method in possible else possible[0], "people": str(definition.target)}
    typed["strata"] = str(len(strata_of(here)))
    for each in possible:
        usual = usual_options(definition, each)
        for name, value in usual[min(1, len(usual) - 1)].items():
            if name not in typed:
                typed[name] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    typed["block_sizes"] = _usual_sizes(definition)
    if definition.allocation.first_stage is not None:
        typed[FIRST_SIZES] = _usual_sizes(definition.as_first_stage())
    return typed


def _usual_sizes(definition: Study) -> str:
    return ", ".join(str(sum(arm.ratio for arm in definition.arms) * times) for times in (2, 3, 4))


def _possible(definition: Study) -> list[str]:
    """The methods that are defined for the study's arms."""
    arms = [(arm.code, arm.ratio) for arm in definition.arms]
    drawn = [name for name in DRAWN if METHODS[name].why_not_arms(arms) is None]
    factors = [factor.by for factor in definition.allocation.strata]
    return [*drawn, *(TOGETHER if factors == ["site"] else ()), *(DECIDING if factors else ())]


def _alternatives(definition: Study) -> dict[str, Alternative]:
    total = sum(arm.ratio for arm in definition.arms)
    usual: tuple[tuple[str, str, dict[str, object]], ...] = (
        ("fixed_blocks", "permuted_blocks", {"block_sizes": [2 * total]}),
        ("random_blocks", "permuted_blocks", {"block_sizes": [2 * total, 3 * total, 4 * total]}),
        ("big_stick", "big_stick", {"tolerance": 3}),
        ("maximal_procedure", "maximal_procedure", {"tolerance": 3}),
        ("biased_coin", "biased_coin", {"probability": "2/3"}),
        ("wei_urn", "wei_urn", {"alpha": 0, "beta": 1}),
        ("truncated_binomial", "truncated_binomial", {}),
        ("simple", "simple", {}),
        ("cluster", "cluster", {}),
        ("minimisation", "minimisation", usual_options(definition, "minimisation")[1]),
    )
    possible = _possible(definition)
    return {code: Alternative(code, method, options) for code, method, options in usual if method in possible}


def _page(here: Here, typed: Mapping[str, str], beside: Sequence[str]) -> Response:
    definition = here.the_study.definition
    alternatives = _alternatives(definition)
    lines: list[Line] = []
    staged: Stages | None = None
    problem: Invalid | None = None
    try:
        lines = _lines(definition, typed, [alternatives[code] for code in beside if code in alternatives])
        staged = _stages(here, definition, typed)
    except Invalid as wrong:
        problem = wrong
    problems = [(each.field, each.message) for each in problem.problems] if problem else []
    shares = _shares(definition)
    method = definition.allocation.method
    return show(
        here,
        "design/design.html",
        status_code=422 if problem else 200,
        url=f"/{here.the_study.code}/sequence",
        typed=typed,
        beside=beside,
        problems=problems,
        errors=dict(problems),
        possible=_possible(definition),
        alternatives=[(each.code, each.method, described(each.options)) for each in alternatives.values()],
        most_beside=MOST_BESIDE,
        arms=definition.arms,
        ratio=":".join(str(arm.ratio) for arm in definition.arms),
        total=sum(arm.ratio for arm in definition.arms),
        planned=method,
        drawn_here=method in SEEDED,
        blinded=definition.blinded,
        equal=len(set(shares)) == 1,
        by_chance=100 * max(shares) / sum(shares),
        lines=lines,
        chosen=next((line for line in lines if line.chosen), None),
        other=next((line for line in lines if not line.chosen and line.method == "simple"), None)
        or next((line for line in lines if not line.chosen), None),
        charts=_charts(lines),
        staged=staged,
        first_stage=definition.allocation.first_stage,
        with_sites=any(line.method in TOGETHER for line in lines),
    )


def _shares(definition: Study) -> tuple[int, ...]:
    """The shares of the arms in the order of their codes, in lowest terms."""
    ratio = [arm.ratio for arm in sorted(definition.arms, key=lambda arm: arm.code)]
    return tuple(share // gcd(*ratio) for share in ratio)


def _lines(definition: Study, typed: Mapping[str, str], beside: Sequence[Alternative]) -> list[Line]:
    """The chosen design and those beside it; Invalid says what cannot be compared, and where."""
    method = typed.get("method", "")
    if method not in _possible(definition):
        raise Invalid([FieldProblem("method", "method", "Choose one of the methods.")])
    if len(beside) > MOST_BESIDE:
        words = f"Choose at most {MOST_BESIDE} to compare with: more curves cannot be told apart."
        raise Invalid([FieldProblem("beside", "length", words)])
    options = typed_options(definition, method, typed)
    people, strata = typed_number("people", typed.get("people", "")), typed_number("strata", typed.get("strata", ""))
    if not people or not strata:
        name = "strata" if people else "people"
        raise Invalid([FieldProblem(name, "least", "There is one or more. Write the number in digits.")])
    slots_typed = typed.get("slots_per_stratum", "")
    slots = typed_number("slots_per_stratum", slots_typed) if slots_typed else _usual_slots(people, strata)
    wrong = problems_of(definition, method, options, slots)
    if wrong:
        raise Invalid(wrong)
    factors = _levels(definition)
    wanted = [(method, options)]
    wanted += [(each.method, dict(each.options)) for each in beside if (each.method, each.options) != wanted[0]]
    lines = []
    for number, (name, chosen) in enumerate(wanted):
        asked = _simulation().Design(name, _shares(definition), chosen, people, strata, slots, factors)
        if number and problems_of(definition, name, chosen, slots):
            continue  # a list too long for one of the others is no fault of the chosen one
        why_not = _simulation().why_not_simulated(asked)
        if why_not:
            size = "people" if "people" in why_not else "strata" if "sites" in why_not else "block_sizes"
            raise Invalid([FieldProblem(size, "size", why_not)])
        lines.append(_line(definition, asked, chosen=number == 0))
    return lines


@dataclass(frozen=True)
class Stages:
    """A first stage and what comes after it, played together. Imbalances are in people per share."""

    options: str
    behaviour: "StagedBehaviour"
    groups: list[tuple[str, float, float]]
    """Each group with the imbalance of its arms at the end: mean, and 95th percentile."""
    labels: list[int]
    of_groups: list[float]
    of_arms: list[float]
    equal: bool
    """Whether all arms of the trial have one share, so that imbalances are in people."""


def _stages(here: Here, definition: Study, typed: Mapping[str, str]) -> Stages | None:
    """Both stages together, of the chosen method; None of one stage, or where one of them cannot be simulated here.

    Invalid says which field stops it.
    """
    stage, method = definition.allocation.first_stage, typed["method"]
    if stage is None or method not in DECIDING or stage.method not in DRAWN:
        return None
    view = definition.as_first_stage()
    usual = usual_options(view, stage.method)
    options = usual[min(1, len(usual) - 1)]
    try:
        if "block_sizes" in options:
            options = typed_options(view, stage.method, {"block_sizes": typed.get(FIRST_SIZES, "")})
        wrong = problems_of(view, stage.method, options, int(typed["people"]))
    except Invalid as problem:
        wrong = [*problem.problems]
    if wrong:
        raise Invalid([FieldProblem(FIRST_SIZES, each.rule, each.message) for each in wrong])
    simulation, people = _simulation(), int(typed["people"])
    strata = len(strata_of(here, view))
    decided = typed_options(definition, method, typed)
    groups = sorted(stage.groups, key=lambda group: group.code)
    within = [sorted(group.arms, key=lambda each: each.arm) for group in groups]
    codes = [arm.code for arm in sorted(definition.arms, key=lambda arm: arm.code)]
    first = simulation.Design(stage.method, _shares(view), options, people, strata, _usual_slots(people, strata))
    if why_not := simulation.why_not_simulated(first):
        raise Invalid([FieldProblem(FIRST_SIZES, "size", why_not)])
    asked = simulation.Staged(
        first,
        tuple(
            simulation.Design(
                method,
                tuple(each.ratio for each in arms),
                decided,
                people,
                int(typed["strata"]),
                people,
                _levels(definition),
            )
            for arms in within
        ),
        tuple(tuple(codes.index(each.arm) for each in arms) for arms in within),
    )
    found: StagedBehaviour = simulation.simulated_stages(asked)
    ends = _ends(people)
    return Stages(
        described(options),
        found,
        [(group.label, *apart) for group, apart in zip(groups, found.within, strict=True)],
        ends,
        _in_parts(found.first.mean, ends, fmean),
        _in_parts(found.last.mean, ends, fmean),
        len({*asked.shares}) == 1,
    )


def _levels(definition: Study) -> tuple[int, ...]:
    """How many levels each factor of the study has."""
    return tuple(
        len(definition.sites) if factor.by == "site" else len(factor.levels) for factor in definition.allocation.strata
    )


def _usual_slots(people: int, strata: int) -> int:
    """As many slots as people in one stratum; with several, half as many again as a stratum expects."""
    return people if strata == 1 else -(-3 * people // (2 * strata))


@lru_cache(maxsize=64)
def _played(
    method: str,
    shares: tuple[int, ...],
    options: tuple[tuple[str, Any], ...],
    people: int,
    strata: int,
    slots: int,
    factors: tuple[int, ...],
) -> "Behaviour":
    told = {name: list(value) if isinstance(value, tuple) else value for name, value in options}
    simulation = _simulation()
    behaviour: Behaviour = simulation.simulated(simulation.Design(method, shares, told, people, strata, slots, factors))
    return behaviour


def _simulation() -> ModuleType:
    """Loaded when somebody compares: numpy takes a fifth of a second, and no other page needs it."""
    from app.randomisation import simulation

    return simulation


def _line(definition: Study, asked: "Design", *, chosen: bool) -> Line:
    key = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in asked.options.items())
    found = _played(asked.method, asked.shares, key, asked.people, asked.strata, asked.slots, asked.factors)
    guess = Predictability(Fraction(found.correct), Fraction(found.certain))
    return Line(
        asked.method,
        described(asked.options),
        described(asked.options).replace(" and ", ", "),
        chosen,
        found,
        100 * found.certain,
        100 * found.correct,
        is_high(guess, asked.shares, blinded=definition.blinded),
    )


@dataclass(frozen=True)
class Curve:
    """One line of a chart, and how far its label stands from its end so that labels do not meet (in pixels)."""

    line: Line
    values: list[float]
    shift: float


@dataclass(frozen=True)
class Chart:
    """Curves over the number of people randomised."""

    labels: list[int]
    curves: list[Curve]


def _charts(lines: Sequence[Line]) -> dict[str, Chart]:
    """The mean imbalance and its 95th percentile; empty when nothing was compared."""
    if not lines:
        return {}
    ends = _ends(len(lines[0].behaviour.mean))
    # Averages over a few people each: one value out of six would show blocks of six as if they were always balanced.
    means = [_in_parts(line.behaviour.mean, ends, fmean) for line in lines]
    highest = [_in_parts(line.behaviour.percentile_95, ends, max) for line in lines]
    return {"mean": _chart(lines, ends, means), "percentile_95": _chart(lines, ends, highest)}


def _ends(people: int) -> list[int]:
    points = min(POINTS, people)
    return [round(point * people / points) for point in range(1, points + 1)]


def _in_parts(values: Sequence[float], ends: Sequence[int], of: Callable[[Sequence[float]], float]) -> list[float]:
    return [of(values[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def _chart(lines: Sequence[Line], ends: list[int], values: list[list[float]]) -> Chart:
    high = axis_steps(max(map(max, values)))[-1]
    at = [CHART_HEIGHT * (1 - each[-1] / high) for each in values]
    order = sorted(range(len(lines)), key=lambda number: at[number])
    placed: dict[int, float] = {}
    lowest = -float(LABEL_HEIGHT)
    for number in order:
        lowest = placed[number] = max(at[number], lowest + LABEL_HEIGHT)
    floor = float(CHART_HEIGHT)
    for number in reversed(order):
        placed[number] = min(placed[number], floor)
        floor = placed[number] - LABEL_HEIGHT
    curves = [Curve(line, values[number], round(placed[number] - at[number], 1)) for number, line in enumerate(lines)]
    return Chart(ends, curves)
