"""How often can somebody who knows all past arms guess the next one? Exact probabilities, as fractions.

The guesser of Blackwell and Hodges (1957) knows the ratio, the block sizes and every earlier arm, and names the arm
that is most likely next. Two numbers describe a method, both averaged over allocations:

- `correct`: the probability that the guess is right;
- `certain`: the probability that only one arm is possible, so that the guess cannot be wrong.

For two arms 1:1 the most likely arm is the one that is behind, in every method here: guessing it is the convergence
strategy of Blackwell and Hodges.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb, factorial, lcm, perm, prod

from app.randomisation.methods import (
    biased_coin,
    big_stick,
    cluster,
    maximal_procedure,
    simple,
    truncated_binomial,
    wei_urn,
)
from app.randomisation.methods import (
    permuted_blocks as blocks,
)

State = tuple[int, ...]
"""How many of each arm are still to come in the present block."""
Belief = tuple[tuple[State, Fraction], ...]
"""What the guesser knows: the states that are possible, and how likely each is."""

MOST_OF_SEVERAL_SIZES = 24
MOST_EXACT = 500  # allocations; beyond, a few methods would take seconds
MOST_STATES = 4000  # of what may be left of a block
MOST_URNS = 500  # of three or more arms
MOST_SIZES = 3
MOST_KNOWN = 10  # arms somebody learnt: beliefs multiply with each
MOST_WAYS = 60_000  # in which the sites so far can have their arms, counted

CERTAIN_IS_HIGH = Fraction(1, 5)
CERTAIN_IS_HIGH_IN_THE_OPEN = Fraction(1, 20)
CORRECT_IS_HIGH = Fraction(1, 5)


@dataclass(frozen=True)
class Predictability:
    """Two probabilities per allocation, as exact fractions between 0 and 1."""

    correct: Fraction
    certain: Fraction


def two_equal_arms(block_size: int) -> Predictability:
    """Blocks of one even size with two arms 1:1, in closed form, averaged over a whole block of size 2m:

        correct = 1/2 + (2^(2m-1) / C(2m, m) - 1/2) / 2m         Blackwell and Hodges 1957
        certain = 1 / (m + 1)                                    Zhao and others 2012 (PMC3399213)

    One block as long as the trial is the random allocation rule. `ValueError` unless the size is even and positive.
    """
    if block_size < 2 or block_size % 2:
        raise ValueError("A block with two equal arms has an even size of 2 or more.")
    m = block_size // 2
    half = Fraction(1, 2)
    return Predictability(
        correct=half + (Fraction(2 ** (block_size - 1), comb(block_size, m)) - half) / block_size,
        certain=Fraction(1, m + 1),
    )


def one_block(counts: Sequence[int]) -> Predictability:
    """A block with `counts[i]` of arm i, averaged over its allocations, by enumerating what may be left of it.

    With c_i of arm i left out of t, the guess is right with probability max(c_i) / t, and certain when one c_i is left.
    `ValueError` unless all counts are positive.
    """
    if not counts or min(counts) < 1:
        raise ValueError("Every arm occurs in a block at least once.")
    return permuted_blocks(counts, [sum(counts)], sum(counts))


def permuted_blocks(ratio: Sequence[int], block_sizes: Sequence[int], allocations: int) -> Predictability:
    """Blocks of one size, or of sizes drawn uniformly, averaged over the first `allocations` of a stratum.

    The guesser does not see where blocks end and updates what is possible by Bayes' rule after every arm. Exact, by
    enumerating the distinct beliefs that histories lead to: immediate for one size; for several sizes their number
    grows exponentially with `allocations`, so those are limited to `MOST_OF_SEVERAL_SIZES` (a second or two).

    `ValueError` unless every share is positive, every size a multiple of the sum of shares, and `allocations` positive
    and within that limit.
    """
    total = sum(ratio)
    if not ratio or min(ratio) < 1:
        raise ValueError("Every arm has a share of 1 or more in the ratio.")
    if not block_sizes or any(size < 1 or size % total for size in block_sizes):
        raise ValueError(f"Every block size must be a multiple of {total}.")
    if allocations < 1:
        raise ValueError("There is nothing to guess in less than one allocation.")
    if allocations > MOST_OF_SEVERAL_SIZES and len(set(block_sizes)) > 1:
        raise ValueError(f"Blocks of several sizes are computed for up to {MOST_OF_SEVERAL_SIZES} allocations.")
    fresh = [tuple(share * size // total for share in ratio) for size in sorted(set(block_sizes))]
    beliefs: dict[Belief, Fraction] = {_normalised(dict.fromkeys(fresh, Fraction(1))): Fraction(1)}
    correct = certain = Fraction(0)
    for _ in range(allocations):
        following: dict[Belief, Fraction] = {}
        for belief, weight in beliefs.items():
            after_each = [_after(belief, arm, fresh) for arm in range(len(ratio))]
            chances = [sum(after.values(), Fraction(0)) for after in after_each]
            best = max(chances)
            correct += weight * best
            if best == 1:
                certain += weight
            for after, chance in zip(after_each, chances, strict=True):
                if chance:
                    learnt = _normalised(after)
                    following[learnt] = following.get(learnt, Fraction(0)) + weight * chance
        beliefs = following
    return Predictability(correct / allocations, certain / allocations)


@dataclass(frozen=True)
class Guess:
    """What somebody can say of a stratum who knows some of its arms: of the next slot, and of all that remain.

    `correct` and `certain` are probabilities of the next slot, `slots` the expected number of remaining slots, the next
    one included, whose arm is certain already.
    """

    correct: Fraction
    certain: Fraction
    slots: Fraction


def knowing(ratio: Sequence[int], block_sizes: Sequence[int], used: int, known: Collection[int]) -> Guess | None:
    """Permuted blocks, for somebody who knows the arms at the positions `known` among the first `used`, and no others.

    Exact, by enumerating the beliefs that the known arms can lead to: which arms they are does not enter, so that no
    envelope is opened. Positions count from 1; sizes are drawn uniformly and not seen, as in `permuted_blocks`. None
    with more than `MOST_KNOWN` known arms or blocks too large to enumerate. `ValueError` for a position not used.
    """
    if any(not 1 <= position <= used for position in known):
        raise ValueError("An arm is known only of a slot that is used.")
    total, arms = sum(ratio), range(len(ratio))
    sizes = sorted(set(block_sizes))
    fresh = [tuple(share * size // total for share in ratio) for size in sizes]
    if len(known) > MOST_KNOWN or sum(prod(count + 1 for count in block) for block in fresh) > MOST_STATES:
        return None
    beliefs: dict[Belief, Fraction] = {_normalised(dict.fromkeys(fresh, Fraction(1))): Fraction(1)}
    # With one size, whole blocks that are over say nothing of what follows.
    over = used // sizes[0] * sizes[0] if len(sizes) == 1 else 0
    for position in range(over + 1, used + 1):
        following: dict[Belief, Fraction] = {}
        for belief, weight in beliefs.items():
            after_each = [_after(belief, arm, fresh) for arm in arms]
            for after in after_each if position in known else [_together(after_each)]:
                chance = sum(after.values(), Fraction(0))
                if chance:
                    learnt = _normalised(after)
                    following[learnt] = following.get(learnt, Fraction(0)) + weight * chance
        beliefs = following
    correct = certain = slots = Fraction(0)
    for belief, weight in beliefs.items():
        here = belief
        for ahead in range(sizes[-1]):  # nothing is known of a slot that lies a whole block ahead
            after_each = [_after(here, arm, fresh) for arm in arms]
            best = max(sum(after.values(), Fraction(0)) for after in after_each)
            slots += weight * (best == 1)
            if ahead == 0:
                correct += weight * best
                certain += weight * (best == 1)
            here = _normalised(_together(after_each))
    return Guess(correct, certain, slots)


def _together(after_each: Sequence[Mapping[State, Fraction]]) -> dict[State, Fraction]:
    """The states after an arm that nobody learns."""
    states: dict[State, Fraction] = {}
    for after in after_each:
        for state, chance in after.items():
            states[state] = states.get(state, Fraction(0)) + chance
    return states


def is_high(found: Predictability, ratio: Sequence[int], *, blinded: bool) -> bool:
    """Whether a statistician is to be warned of guessing (RND-15).

    Ours, since no guideline gives a number: one allocation in five is certain, or the best guess beats chance by a
    fifth. Where arms are not blinded everybody who enrols knows all earlier arms, and one certain allocation in twenty
    is enough (Schulz and Grimes, Lancet 2002;359:966-970, on blocks in trials that are not blinded).
    """
    limit = CERTAIN_IS_HIGH if blinded else CERTAIN_IS_HIGH_IN_THE_OPEN
    by_chance = Fraction(max(ratio), sum(ratio))
    return found.certain >= limit or found.correct - by_chance >= CORRECT_IS_HIGH


def exactly(
    method: str, ratio: Sequence[int], options: Mapping[str, object], length: int, allocations: int, *, strata: int = 1
) -> Predictability | None:
    """A method's probabilities, averaged over the first `allocations` of a stratum whose list has `length` slots.

    The options are those of a plan without problems. `strata` counts where they are drawn together, and is one batch.
    None where there is no exact answer in reasonable time; those are simulated (`simulation`). `ValueError` unless
    1 <= allocations, and, but for blocks, no more than the list is long.
    """
    if allocations < 1 or (allocations > length and method != blocks.NAME):
        raise ValueError("Guesses are averaged over one allocation or more, and no more than the list has.")
    if method == blocks.NAME:
        return _blocks(ratio, options["block_sizes"], allocations)
    if method == simple.NAME:
        return Predictability(Fraction(max(ratio), sum(ratio)), Fraction(0))
    if method == cluster.NAME:
        return clusters(ratio, strata, allocations)
    if method == maximal_procedure.NAME:
        return _maximal(_whole(options, "tolerance"), length, allocations)
    if allocations > MOST_EXACT:
        return None
    if method == wei_urn.NAME:
        return _urn(len(ratio), _whole(options, "alpha"), _whole(options, "beta"), allocations)
    if method == big_stick.NAME:
        tolerance = _whole(options, "tolerance")
        return _coin(lambda _slots, ahead: (1 + (ahead == -tolerance) - (ahead == tolerance), 2), allocations)
    if method == truncated_binomial.NAME:
        half = truncated_binomial.half_of(length)
        return _coin(
            lambda slots, ahead: (1 + (slots - ahead == 2 * half) - (slots + ahead == 2 * half), 2), allocations
        )
    if method == biased_coin.NAME:
        probability = biased_coin.probability_of(options["probability"])
        assert probability is not None
        of = lcm(2, probability.denominator)
        behind = probability.numerator * of // probability.denominator
        return _coin(
            lambda _slots, ahead: (of // 2 if not ahead else behind if ahead < 0 else of - behind, of), allocations
        )
    return None


def why_not_clusters(ratio: Sequence[int], sites: int) -> str | None:
    """Why so many sites of one batch are too many to say exactly how well they are guessed, or None."""
    if comb(sites + len(ratio), len(ratio)) <= MOST_WAYS:
        return None
    most = next(fewer for fewer in range(sites, 0, -1) if comb(fewer + len(ratio), len(ratio)) <= MOST_WAYS)
    return f"A batch of up to {most} sites is computed for {len(ratio)} arms. Ask for fewer sites."


def clusters(ratio: Sequence[int], sites: int, people: int) -> Predictability | None:
    """Whole sites drawn together, averaged over a batch of `sites` with `people` randomised at each.

    The guesser knows every earlier arm, and so that of everybody who follows at the same site: all but the first person
    of a site are certain. At the first person of a site they know the arms of the sites before, in whatever order sites
    begin. A sequence of sites' arms with h_a sites of arm a so far has the probability

        w(h) = sum over what may be left over of P(left over) × product of c_a (c_a - 1) ... / (n (n - 1) ...)

    where c_a of all n sites have arm a; the next site has arm a with w(h and one more of a) / w(h). Exact, by going
    through all counts h. None when those are too many (`why_not_clusters`).
    """
    if why_not_clusters(ratio, sites):
        return None
    shares = cluster.in_lowest_terms(ratio)
    whole, rest = cluster.whole_and_rest(ratio, sites)
    in_all = comb(sum(shares), rest)
    batches = [
        (tuple(whole * share + more for share, more in zip(shares, left, strict=True)), ways)
        for left in _vectors(rest, shares)
        if (ways := prod(comb(share, more) for share, more in zip(shares, left, strict=True)))
    ]

    def likely(had: Sequence[int]) -> int:
        return sum(ways * prod(map(perm, counts, had)) for counts, ways in batches)

    arms = range(len(shares))
    correct = certain = Fraction(0)
    for begun in range(sites):
        best = sure = 0
        for had in _vectors(begun, [sites] * len(shares)):
            orders = factorial(begun) // prod(map(factorial, had))
            after = [likely((*had[:arm], had[arm] + 1, *had[arm + 1 :])) for arm in arms]
            best += orders * max(after)
            sure += orders * max(after) * (sum(map(bool, after)) == 1)
        of = in_all * perm(sites, begun + 1)
        correct += Fraction(best, of)
        certain += Fraction(sure, of)
    known = sites * (people - 1)
    return Predictability((correct + known) / (sites * people), (certain + known) / (sites * people))


def _vectors(total: int, most: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every way of adding up to a total with one whole number for each place, none above its most."""
    if len(most) == 1:
        if total <= most[0]:
            yield (total,)
        return
    for first in range(min(total, most[0]) + 1):
        for others in _vectors(total - first, most[1:]):
            yield (first, *others)


def _whole(options: Mapping[str, object], name: str) -> int:
    value = options[name]
    assert isinstance(value, int)
    return value


def _blocks(ratio: Sequence[int], sizes: object, allocations: int) -> Predictability | None:
    assert isinstance(sizes, list | tuple)
    if len(sizes) > 1:
        # Beliefs of several sizes multiply with every arm and every allocation.
        few = len(ratio) == 2 and len(sizes) <= MOST_SIZES and allocations <= MOST_OF_SEVERAL_SIZES
        return permuted_blocks(ratio, sizes, allocations) if few else None
    if prod(share * sizes[0] // sum(ratio) + 1 for share in ratio) > MOST_STATES:
        return None
    whole, rest = divmod(allocations, sizes[0])
    correct = certain = Fraction(0)
    for part, weight in ((sizes[0], whole * sizes[0]), (rest, rest)):
        if weight:
            found = permuted_blocks(ratio, sizes, part)
            correct += found.correct * weight
            certain += found.certain * weight
    return Predictability(correct / allocations, certain / allocations)


def _coin(chance: Callable[[int, int], tuple[int, int]], allocations: int) -> Predictability:
    """Two arms, when what is next depends on the number of slots so far and on how far the first arm is ahead.

    `chance(slots, ahead)` is the probability that the first arm is next, as numerator and denominator; the denominator
    may not depend on `ahead`, so that whole numbers are enough.
    """
    weights, whole = {0: 1}, 1
    correct = certain = Fraction(0)
    for slots in range(allocations):
        following: dict[int, int] = {}
        best = sure = 0
        of = 1
        for ahead, weight in weights.items():
            first, of = chance(slots, ahead)
            best += weight * max(first, of - first)
            sure += weight if first in (0, of) else 0
            for step, part in ((1, first), (-1, of - first)):
                if part:
                    following[ahead + step] = following.get(ahead + step, 0) + weight * part
        correct += Fraction(best, whole * of)
        certain += Fraction(sure, whole)
        weights, whole = following, whole * of
    return Predictability(correct / allocations, certain / allocations)


def _urn(arms: int, alpha: int, beta: int, allocations: int) -> Predictability | None:
    # Arms are alike, so the counts of an urn are kept in descending order.
    if arms > 2 and comb(allocations + arms - 1, arms - 1) // factorial(arms) > MOST_URNS:
        return None
    weights, whole = {(0,) * arms: 1}, 1
    correct = certain = Fraction(0)
    for _ in range(allocations):
        following: dict[tuple[int, ...], int] = {}
        best = sure = 0
        of = 1
        for had, weight in weights.items():
            held = wei_urn.balls(had, alpha, beta)
            of = sum(held)
            best += weight * max(held)
            sure += weight if max(held) == of else 0
            for arm, part in enumerate(held):
                if part:
                    after = tuple(sorted((*had[:arm], had[arm] + 1, *had[arm + 1 :]), reverse=True))
                    following[after] = following.get(after, 0) + weight * part
        correct += Fraction(best, whole * of)
        certain += Fraction(sure, whole)
        weights, whole = following, whole * of
    return Predictability(correct / allocations, certain / allocations)


def _maximal(tolerance: int, length: int, allocations: int) -> Predictability:
    # Of the sequences that begin in one of `before` ways, those that go on with one arm are `ways` after it.
    rows = maximal_procedure.counts(tolerance, length)
    before = [int(place == tolerance + 1) for place in range(2 * tolerance + 3)]
    best = sure = 0
    for slots in range(allocations):
        after = rows[length - slots - 1]
        for place in range(1, 2 * tolerance + 2):
            up, down = after[place + 1], after[place - 1]
            best += before[place] * max(up, down)
            sure += before[place] * (up + down) * (not up or not down)
        before = [0, *(before[at - 1] + before[at + 1] for at in range(1, 2 * tolerance + 2)), 0]
    total = rows[length][tolerance + 1] * allocations
    return Predictability(Fraction(best, total), Fraction(sure, total))


def _after(belief: Belief, arm: int, fresh: Sequence[State]) -> dict[State, Fraction]:
    # The joint probability of "the next arm is `arm`" and each state after it.
    after: dict[State, Fraction] = {}
    for state, likely in belief:
        if not state[arm]:
            continue
        chance = likely * Fraction(state[arm], sum(state))
        left = (*state[:arm], state[arm] - 1, *state[arm + 1 :])
        if any(left):
            after[left] = after.get(left, Fraction(0)) + chance
        else:
            for begun in fresh:
                after[begun] = after.get(begun, Fraction(0)) + chance / len(fresh)
    return after


def _normalised(weights: dict[State, Fraction]) -> Belief:
    total = sum(weights.values(), Fraction(0))
    return tuple(sorted((state, weight / total) for state, weight in weights.items()))
