"""How do ways of randomising behave over many trials? Simulated before a list is drawn, to choose between them.

The randomness here is numpy's (PCG64, with a seed that anybody may know) and is never used for a real list: those are
drawn by `sequence` from the generator of `drbg`, and an import rule keeps numpy out of it. Nor is floating point: here
probabilities are rounded, there they are exact. What is simulated follows the recipes of `methods` in law, not in its
numbers.

People come one after the other, each from a stratum that is drawn uniformly. A stratum that has used up its list gets
another one drawn in the same way, as a trial would. Where whole sites are drawn, each stratum is a site of one batch.

Imbalance is the largest difference between two arms in people per share of the ratio: with two arms 1:1 it is the
difference in people, and with 2:1 ten people against four count as 10/2 - 4/1 = 1. A ratio is
reduced first: 2:2 is 1:1.

A design of two stages is played whole (`simulated_stages`): people get a group as they come, and within it an arm,
decided from those of their group alone. The k-th person of a group has the arm that the k-th of a trial of that group
alone would have, so that each group is played once, and read at the places its people have among all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import gcd, lcm

import numpy as np
import numpy.typing as npt

from app.foundation.turns import short_turns
from app.randomisation.methods import (
    biased_coin,
    big_stick,
    cluster,
    maximal_procedure,
    minimisation,
    permuted_blocks,
    simple,
    truncated_binomial,
    wei_urn,
)
from app.randomisation.predictability import exactly, why_not_clusters

TRIALS = 10_000
SEED = 20_030_315
MOST_PEOPLE = 5_000
MOST_STRATA = 200
MOST_ALLOCATIONS = 2_800_000  # of all trials together: ten thousand trials of 276
FEWEST_TRIALS = 500
LARGEST_BLOCK = 60
MOST_SIZES = 6
STAGED_TRIALS = 2_000
GUESSING_TRIALS = 2_000  # lists over which a guesser is simulated; what is averaged varies little from list to list

Arms = npt.NDArray[np.int8]
"""Arm numbers, in the order of the arms' codes; one row per slot and one column per list."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """One way of randomising a trial of some size. Printing it shows no options, which are secret."""

    method: str
    shares: tuple[int, ...]
    """Of the arms in the order of their codes."""
    options: Mapping[str, object] = field(repr=False)
    people: int
    strata: int
    slots: int
    """The length of each stratum's list."""
    factors: tuple[int, ...] = ()
    """How many levels each factor has that minimisation balances; a stratum is one combination of them."""


@dataclass(frozen=True)
class Behaviour:
    """What came of it. Imbalances in people per share; probabilities per allocation, from 0 to 1."""

    trials: int
    mean: tuple[float, ...]
    """Of the imbalance of the whole trial after each person, the first one first."""
    percentile_95: tuple[float, ...]
    final_mean: float
    final_95: float
    stratum_mean: float
    """Of the imbalance of one stratum at the end."""
    stratum_95: float
    correct: float
    """How often the best guess is right, averaged over the people whom a stratum expects."""
    certain: float
    exact: bool
    """Whether the two probabilities are computed exactly (`predictability`) and not simulated."""


@dataclass(frozen=True)
class Staged:
    """A design of two stages: a group first, and later an arm within it. Printing it shows no options."""

    first: Design
    """How people get their group; its shares are those of the groups, in the order of their codes."""
    within: tuple[Design, ...]
    """How the people of each group get their arm, by minimisation; its shares are those of the group's arms."""
    arms: tuple[tuple[int, ...], ...]
    """Of each group the numbers, among all arms of the trial, of its arms in the order of `within`."""

    @property
    def shares(self) -> tuple[int, ...]:
        """Of all arms of the trial, in whole numbers: over the groups, its share times that of the arm within it."""
        found = [Fraction(0)] * (1 + max(max(numbers) for numbers in self.arms))
        for share, design, numbers in zip(self.first.shares, self.within, self.arms, strict=True):
            for number, of_arm in zip(numbers, design.shares, strict=True):
                found[number] += Fraction(share, sum(self.first.shares)) * Fraction(of_arm, sum(design.shares))
        whole = lcm(*(share.denominator for share in found))
        return tuple(int(share * whole) for share in found)


@dataclass(frozen=True)
class StagedBehaviour:
    """What came of both stages: `first` of the groups, `last` of all arms of the trial together.

    `within` is, for each group, the imbalance of its arms at the end: mean and 95th percentile. It is what
    `last.stratum_mean` and `last.stratum_95` are of, over all groups.
    """

    first: Behaviour
    within: tuple[tuple[float, float], ...]
    last: Behaviour


def why_not_simulated(design: Design) -> str | None:
    """Why this design is too large to play in a moment, as a sentence for the statistician, or None."""
    if not 1 <= design.people <= MOST_PEOPLE or not 1 <= design.strata <= MOST_STRATA or design.slots < 1:
        return (
            f"Trials of 1 to {MOST_PEOPLE:,} people in 1 to {MOST_STRATA} strata are simulated, with lists of one slot "
            "or more. Ask for a trial of such a size."
        )
    sizes = _sizes(design) if design.method == permuted_blocks.NAME else []
    if len(sizes) > MOST_SIZES or (sizes and sizes[-1] > LARGEST_BLOCK):
        return f"Up to {MOST_SIZES} block sizes of up to {LARGEST_BLOCK} are simulated. Compare fewer or smaller ones."
    return why_not_clusters(design.shares, design.strata) if design.method == cluster.NAME else None


def trials_for(people: int) -> int:
    """How many trials are played: ten thousand, or fewer of large ones, so that it takes no longer."""
    return max(FEWEST_TRIALS, min(TRIALS, MOST_ALLOCATIONS // people))


@short_turns()
def simulated(design: Design, *, trials: int | None = None, seed: int = SEED) -> Behaviour:
    """Play the trial many times. The same arguments give the same answer with the same version of numpy.

    `trials` is as many as `trials_for` says unless it is given. `ValueError` with `why_not_simulated(...)`.
    """
    why_not = why_not_simulated(design)
    if why_not:
        raise ValueError(why_not)
    trials = trials or trials_for(design.people)
    random = np.random.default_rng(seed)
    if design.method == minimisation.NAME:
        return _as_behaviour(design, _minimised(design, trials, random))
    if design.method == cluster.NAME:
        return _clustered(design, trials, random)
    arms, in_strata = _drawn(design, trials, random)
    return _behaviour(trials, _imbalances(arms, design.shares), in_strata, _guesses(design, random))


@short_turns()
def simulated_stages(design: Staged, *, trials: int | None = None, seed: int = SEED) -> StagedBehaviour:
    """Play a trial of two stages many times, otherwise as `simulated`; by default fewer times, as it is two of them."""
    first = design.first
    if why_not := why_not_simulated(first):
        raise ValueError(why_not)
    trials = trials or min(STAGED_TRIALS, trials_for(first.people))
    random = np.random.default_rng(seed)
    groups, in_strata = _drawn(first, trials, random)
    trial = np.arange(trials)
    arms = np.empty_like(groups)
    ends: list[Floats] = []
    right = sure = 0.0
    for number, (within, of_trial) in enumerate(zip(design.within, design.arms, strict=True)):
        theirs = groups == number
        place = np.cumsum(theirs, axis=0) - 1
        people = theirs.sum(axis=0)
        rows = max(1, int(people.max()))
        played = _minimised(replace(within, people=rows), trials, random)
        arms = np.where(theirs, np.array(of_trial, np.int8)[played.arms[np.maximum(place, 0), trial]], arms)
        came = np.arange(rows)[:, None] < people
        right += float(played.right @ came.sum(axis=1))
        sure += float(played.sure @ came.sum(axis=1))
        had = [
            ((played.arms == arm) & came).sum(axis=0) / share for arm, share in enumerate(_lowest_terms(within.shares))
        ]
        ends.append(np.max(had, axis=0) - np.min(had, axis=0))
    everybody = groups.size
    return StagedBehaviour(
        first=_behaviour(trials, _imbalances(groups, first.shares), in_strata, _guesses(first, random)),
        within=tuple((float(end.mean()), float(np.percentile(end, 95, method="inverted_cdf"))) for end in ends),
        last=_behaviour(
            trials,
            _imbalances(arms, design.shares),
            np.concatenate(ends),
            (right / everybody, sure / everybody, False),
        ),
    )


def _drawn(design: Design, trials: int, random: np.random.Generator) -> tuple[Arms, Floats]:
    """The arm of every person (one row each) in every trial, from lists; and how far every stratum ends apart."""
    if design.strata == 1:
        arms = draw_lists(design, design.people, trials, random)
        in_strata = _imbalances(arms, design.shares)[-1]
    else:
        comes_from = random.integers(0, design.strata, (design.people, trials), dtype=np.int16)
        people_in = np.zeros((trials, design.strata), np.int16)
        trial = np.arange(trials)
        place = np.empty((design.people, trials), np.int16)
        for person, stratum in enumerate(comes_from):
            place[person] = people_in[trial, stratum]
            people_in[trial, stratum] += 1
        rows = int(people_in.max())
        lists = draw_lists(design, rows, trials * design.strata, random)
        arms = lists.reshape(rows, trials, design.strata)[place, trial, comes_from]
        used = np.arange(rows)[:, None] < people_in.reshape(-1)
        had = [((lists == arm) & used).sum(0) / share for arm, share in enumerate(_lowest_terms(design.shares))]
        in_strata = np.max(had, axis=0) - np.min(had, axis=0)
    return arms, in_strata


def _behaviour(trials: int, overall: Floats, in_strata: Floats, guesses: tuple[float, float, bool]) -> Behaviour:
    correct, certain, exact = guesses
    percentile = np.percentile(overall, 95, axis=1, method="inverted_cdf")
    return Behaviour(
        trials=trials,
        mean=tuple(overall.mean(axis=1).tolist()),
        percentile_95=tuple(percentile.tolist()),
        final_mean=float(overall[-1].mean()),
        final_95=float(percentile[-1]),
        stratum_mean=float(in_strata.mean()),
        stratum_95=float(np.percentile(in_strata, 95, method="inverted_cdf")),
        correct=correct,
        certain=certain,
        exact=exact,
    )


def draw_lists(design: Design, rows: int, lists: int, random: np.random.Generator) -> Arms:
    """So many lists of the design's method, each of `rows` slots, made of lists of its length one after the other."""
    parts: list[Arms] = []
    missing = rows
    while missing > 0:
        # Only these two look ahead to the end of their list; of others no more is drawn than is needed.
        ahead = design.method in (maximal_procedure.NAME, truncated_binomial.NAME)
        length = design.slots if ahead else min(design.slots, missing)
        part = _METHODS[design.method](design, length, lists, random)
        parts.append(part[:missing])
        missing -= len(parts[-1])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@dataclass(frozen=True)
class Minimised:
    """What was decided: arms and strata with one row per person, and how well each person's was guessed, on average."""

    arms: Arms
    comes_from: npt.NDArray[np.int32]
    right: Floats
    sure: Floats


def _minimised(design: Design, trials: int, random: np.random.Generator) -> Minimised:
    """Minimisation decides from who came before: people's levels are drawn, and every trial is played person by person.

    A guesser knows the rule, all earlier arms and all levels.
    """
    levels = design.factors if np.prod(design.factors, dtype=np.int64) == design.strata else (design.strata,)
    comes_from = random.integers(0, design.strata, (design.people, trials), dtype=np.int32)
    of_factor, rest = [], comes_from
    for count in levels:
        rest, level = np.divmod(rest, count)
        of_factor.append(level)
    shares = _lowest_terms(design.shares)
    arm_of = np.repeat(np.arange(len(shares), dtype=np.int8), shares)
    groups, trial = len(arm_of), np.arange(trials)
    weights = _weights(design, len(levels))
    measure, size_weight = str(design.options["measure"]), _option(design, "size_weight")
    limit, chance, catching_up = _limits(design, groups)
    had = [np.zeros((trials, count, groups), np.int32) for count in levels]
    sizes = np.zeros((trials, groups), np.int32)
    arms = np.empty((design.people, trials), np.int8)
    right, sure = np.empty(design.people), np.empty(design.people)
    for person in range(design.people):
        tried = size_weight * _unlike(measure, sizes)
        for factor, weight in enumerate(weights):
            tried = tried + weight * _unlike(measure, had[factor][trial, of_factor[factor][person]])
        p = np.full(trials, chance)
        if limit:
            behind = sizes.max(axis=1) - sizes.min(axis=1) >= limit
            tried = np.where(behind[:, None], sizes, tried)
            p[behind] = catching_up
        best = tried == tried.min(axis=1, keepdims=True)
        chosen = np.where(best, random.random((trials, groups)), -1).argmax(axis=1)
        others = (chosen + random.integers(1, groups, trials)) % groups
        among = best.sum(axis=1)
        other = (1 - p) / (groups - 1)
        each = np.where(best, ((p + (among - 1) * other) / among)[:, None], other[:, None])
        likeliest = np.stack([each[:, arm_of == arm].sum(axis=1) for arm in range(len(shares))]).max(axis=0)
        right[person], sure[person] = likeliest.mean(), (likeliest > 1 - 1e-12).mean()
        chosen = np.where(random.random(trials) < p, chosen, others)
        for factor, counts in enumerate(had):
            counts[trial, of_factor[factor][person], chosen] += 1
        sizes[trial, chosen] += 1
        arms[person] = arm_of[chosen]
    return Minimised(arms, comes_from, right, sure)


def _as_behaviour(design: Design, played: Minimised) -> Behaviour:
    arms, trials, shares = played.arms, played.arms.shape[1], _lowest_terms(design.shares)
    in_stratum = np.zeros((trials, design.strata, len(shares)), np.int32)
    np.add.at(in_stratum, (np.arange(trials)[None, :], played.comes_from, arms), 1)
    per_share = in_stratum / np.array(shares)
    apart = (per_share.max(axis=2) - per_share.min(axis=2)).reshape(-1)
    guesses = (float(played.right.mean()), float(played.sure.mean()), False)
    return _behaviour(trials, _imbalances(arms, design.shares), apart, guesses)


def _clustered(design: Design, trials: int, random: np.random.Generator) -> Behaviour:
    """Whole sites drawn together: a person has the arm of the site they come from."""
    arms = np.arange(len(design.shares), dtype=np.int8)
    shares = _lowest_terms(design.shares)
    whole, rest = cluster.whole_and_rest(design.shares, design.strata)
    block = np.repeat(arms, shares)
    last = random.permuted(np.broadcast_to(block, (trials, len(block))), axis=1)[:, :rest]
    batch = np.concatenate([np.broadcast_to(np.tile(block, whole), (trials, whole * len(block))), last], axis=1)
    of_site = random.permuted(batch, axis=1)
    comes_from = random.integers(0, design.strata, (design.people, trials), dtype=np.int32)
    trial = np.arange(trials)
    had = np.zeros((trials, design.strata), np.int32)
    np.add.at(had, (trial[None, :], comes_from), 1)
    # Everybody of a site has one arm, so a site is as unbalanced as it has people, each counted per share of the arm.
    apart = (had / np.array(shares)[of_site]).reshape(-1)
    overall = _imbalances(of_site[trial[None, :], comes_from], design.shares)
    return _behaviour(trials, overall, apart, _guesses(design, random))


def _unlike(measure: str, had: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """For every trial and each group tried, how unlike the groups would be; whole numbers in the measure's order."""
    groups = had.shape[1]
    if measure == "marginal_total":
        return had.astype(np.int64)
    tried = had[:, None, :] + np.eye(groups, dtype=np.int64)
    if measure == "range":
        return np.asarray(tried.max(axis=2) - tried.min(axis=2))
    # The sum of squares about the mean, times the number of groups and so still whole.
    return np.asarray(groups * (tried**2).sum(axis=2) - tried.sum(axis=2) ** 2)


def _weights(design: Design, factors: int) -> list[int]:
    weights = design.options["weights"]
    assert isinstance(weights, list | tuple)
    return list(weights) if len(weights) == factors else [1] * factors


def _limits(design: Design, groups: int) -> tuple[int, float, float]:
    found = [minimisation.probability_of(design.options[name], groups) for name in ("probability", "catch_up")]
    return _option(design, "most_apart"), float(found[0] or 1), float(found[1] or 1)


def _imbalances(arms: Arms, shares: Sequence[int]) -> Floats:
    """After each row, the imbalance of each column."""
    had = [np.cumsum(arms == arm, axis=0, dtype=np.int16) for arm in range(len(shares))]
    if len(shares) == 2 and shares[0] == shares[1]:
        apart: Floats = np.abs(had[0] - had[1]).astype(np.float64)
        return apart
    per_share = [count / share for count, share in zip(had, _lowest_terms(shares), strict=True)]
    highest, lowest = per_share[0], per_share[0]
    for other in per_share[1:]:
        highest, lowest = np.maximum(highest, other), np.minimum(lowest, other)
    difference: Floats = highest - lowest
    return difference


def _lowest_terms(shares: Sequence[int]) -> list[int]:
    return [share // gcd(*shares) for share in shares]


# Lists by method


def _simple(design: Design, rows: int, lists: int, random: np.random.Generator) -> Arms:
    tickets = np.repeat(np.arange(len(design.shares), dtype=np.int8), design.shares)
    return tickets[random.integers(0, len(tickets), (rows, lists), dtype=np.int16)]


def _blocks(design: Design, rows: int, lists: int, random: np.random.Generator) -> Arms:
    sizes = _sizes(design)
    blocks = {size: np.repeat(np.arange(len(design.shares), dtype=np.int8), _counts(design, size)) for size in sizes}
    if len(sizes) == 1:
        size = sizes[0]
        each = -(-rows // size)
        shuffled = random.permuted(np.broadcast_to(blocks[size], (lists * each, size)), axis=1)
        return np.ascontiguousarray(shuffled.reshape(lists, each * size).T[:rows])
    filled = np.empty((lists, rows + sizes[-1]), np.int8)
    starts = np.zeros(lists, np.int64)
    unfilled = np.arange(lists)
    while len(unfilled):
        chosen = random.integers(0, len(sizes), len(unfilled))
        for number, size in enumerate(sizes):
            these = unfilled[chosen == number]
            places = starts[these, None] + np.arange(size)
            filled[these[:, None], places] = random.permuted(np.broadcast_to(blocks[size], places.shape), axis=1)
            starts[these] += size
        unfilled = unfilled[starts[unfilled] < rows]
    return np.ascontiguousarray(filled.T[:rows])


def _coin(design: Design, rows: int, lists: int, random: np.random.Generator) -> Arms:
    """The methods of two arms, in which the next arm depends on the slots so far and on how far one arm is ahead."""
    drawn = np.empty((rows, lists), np.int8)
    ahead = np.zeros(lists, np.int16)
    chances = _chances(design, rows)
    middle = chances.shape[1] // 2
    for slot in range(rows):
        second = random.random(lists) >= chances[slot][ahead + middle]
        drawn[slot] = second
        ahead += 1
        ahead -= 2 * second.astype(np.int16)
    return drawn


def _chances(design: Design, rows: int) -> Floats:
    """The probability of the first arm: one row per slot, and the middle column for two arms that are level."""
    if design.method == maximal_procedure.NAME:
        ways = maximal_procedure.counts(_option(design, "tolerance"), rows)
        return np.array(
            [
                [0.5, *(row[at + 1] / (row[at - 1] + row[at + 1] or 1) for at in range(1, len(row) - 1)), 0.5]
                for row in reversed(ways[:-1])
            ]
        )
    if design.method == truncated_binomial.NAME:
        half = truncated_binomial.half_of(rows)
        slots, ahead = np.arange(rows)[:, None], np.arange(-half, half + 1)[None, :]
        first_full, second_full = slots + ahead >= 2 * half, slots - ahead >= 2 * half
        return np.where(first_full, 0.0, np.where(second_full, 1.0, 0.5))
    if design.method == big_stick.NAME:
        tolerance = _option(design, "tolerance")
        row = np.full(2 * tolerance + 1, 0.5)
        row[0], row[-1] = 1.0, 0.0
        return np.broadcast_to(row, (rows, len(row)))
    probability = biased_coin.probability_of(design.options["probability"])
    assert probability is not None
    row = np.repeat([float(probability), 0.5, float(1 - probability)], [rows, 1, rows])
    return np.broadcast_to(row, (rows, len(row)))


def _urn(design: Design, rows: int, lists: int, random: np.random.Generator) -> Arms:
    alpha, beta = _option(design, "alpha"), _option(design, "beta")
    arms = len(design.shares)
    drawn = np.empty((rows, lists), np.int8)
    had = np.zeros((arms, lists), np.int32)
    for slot in range(rows):
        balls = alpha + beta * (slot - had)
        if alpha == 0 and slot == 0:
            balls += 1
        ball = random.random(lists) * balls[:, :1].sum()  # every urn holds the same number
        arm = np.zeros(lists, np.int8)
        below = np.zeros(lists)
        for of_arm in balls[:-1]:
            below = below + of_arm
            arm += ball >= below
        drawn[slot] = arm
        for number in range(arms):
            had[number] += arm == number
    return drawn


_METHODS = {
    simple.NAME: _simple,
    permuted_blocks.NAME: _blocks,
    big_stick.NAME: _coin,
    biased_coin.NAME: _coin,
    truncated_binomial.NAME: _coin,
    maximal_procedure.NAME: _coin,
    wei_urn.NAME: _urn,
}
SIMULATED = (*_METHODS, cluster.NAME, minimisation.NAME)
"""The methods that can be simulated: all that draw here."""


# Guessing


def _guesses(design: Design, random: np.random.Generator) -> tuple[float, float, bool]:
    allocations = min(-(-design.people // design.strata), design.slots)
    found = exactly(design.method, design.shares, design.options, design.slots, allocations, strata=design.strata)
    if found is not None:
        return float(found.correct), float(found.certain), True
    return (*guessed(design, allocations, random), False)


def guessed(design: Design, allocations: int, random: np.random.Generator) -> tuple[float, float]:
    """How often the best guess is right, and certain, simulated over the first `allocations` of a stratum.

    Averaged is the probability of the likeliest arm at each step of each list, not whether it came: that has the same
    mean and varies less.
    """
    lists = draw_lists(design, allocations, GUESSING_TRIALS, random)
    if design.method == permuted_blocks.NAME:
        likeliest = _likeliest_of_blocks(design, lists)
    elif design.method == wei_urn.NAME:
        likeliest = _likeliest_of_urn(design, lists)
    elif design.method == simple.NAME:
        likeliest = np.full(lists.shape, max(design.shares) / sum(design.shares))
    else:
        ahead_looking = design.method in (maximal_procedure.NAME, truncated_binomial.NAME)
        chances = _chances(design, design.slots if ahead_looking else allocations)
        ahead = np.cumsum(1 - 2 * lists.astype(np.int16), axis=0) - (1 - 2 * lists)
        slots = np.arange(allocations)[:, None]
        first = chances[slots, ahead + chances.shape[1] // 2]
        likeliest = np.maximum(first, 1 - first)
    return float(likeliest.mean()), float((likeliest > 1 - 1e-12).mean())


def _likeliest_of_urn(design: Design, lists: Arms) -> Floats:
    alpha, beta = _option(design, "alpha"), _option(design, "beta")
    slots = np.arange(len(lists))[:, None]
    had = [np.cumsum(lists == arm, axis=0) - (lists == arm) for arm in range(len(design.shares))]
    balls = np.stack([alpha + beta * (slots - count) for count in had]).astype(np.float64)
    if alpha == 0:
        balls[:, 0] = 1
    likeliest: Floats = balls.max(axis=0) / balls.sum(axis=0)
    return likeliest


def _likeliest_of_blocks(design: Design, lists: Arms) -> Floats:
    """By Bayes' rule over where in which block a stratum may stand: (size, slots of the block already filled)."""
    sizes = _sizes(design)
    arms, columns = len(design.shares), lists.shape[1]
    fresh = np.cumsum([0, *sizes[:-1]])
    last = np.cumsum(sizes) - 1
    left = np.concatenate([np.arange(size, 0, -1) for size in sizes])[:, None]
    of_fresh = np.stack([_counts(design, size) for size in sizes], axis=1)
    remaining = np.zeros((arms, sum(sizes), columns), np.float32)
    remaining[:, fresh] = of_fresh[:, :, None]
    belief = np.zeros((sum(sizes), columns))
    belief[fresh] = 1 / len(sizes)
    column = np.arange(columns)
    likeliest = np.empty(lists.shape)
    for slot, drawn in enumerate(lists):
        chances = np.empty((arms, columns))
        parts = belief / left
        for arm in range(arms):
            chances[arm] = np.einsum("sc,sc->c", parts, remaining[arm])
        likeliest[slot] = chances.max(axis=0) / chances.sum(axis=0)
        parts *= np.take_along_axis(remaining, drawn[None, None, :].astype(np.intp), axis=0)[0]
        remaining[drawn, :, column] -= 1
        done = parts[last].sum(axis=0)
        belief[1:] = parts[:-1]
        belief[fresh] = done / len(sizes)
        belief /= belief.sum(axis=0)
        remaining[:, 1:] = np.maximum(remaining[:, :-1], 0)
        remaining[:, fresh] = of_fresh[:, :, None]
    return likeliest


def _sizes(design: Design) -> list[int]:
    sizes = design.options["block_sizes"]
    assert isinstance(sizes, list | tuple)
    return sorted(sizes)


def _counts(design: Design, size: int) -> npt.NDArray[np.int64]:
    return np.array(design.shares, np.int64) * (size // sum(design.shares))


def _option(design: Design, name: str) -> int:
    value = design.options[name]
    assert isinstance(value, int)
    return value
