"""How often can somebody who knows all past arms guess the next one? Exact probabilities, as fractions.

The guesser of Blackwell and Hodges (1957) knows the ratio, the block sizes and every earlier arm, and names the arm
that is most likely next. Two numbers describe a method, both averaged over allocations:

- `correct`: the probability that the guess is right;
- `certain`: the probability that only one arm is possible, so that the guess cannot be wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb

State = tuple[int, ...]
"""How many of each arm are still to come in the present block."""
Belief = tuple[tuple[State, Fraction], ...]
"""What the guesser knows: the states that are possible, and how likely each is."""

MOST_OF_SEVERAL_SIZES = 24


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
