"""Which sequence is it, when all that stay within the tolerated imbalance are equally likely?

The maximal procedure, for two arms with the ratio 1:1. A sequence of the length asked for is allowed when the arms
differ by no more than the tolerance after every one of its slots; it need not end in balance. N(i, d) is the number of
ways to fill i more slots when the first arm, in order of the codes, is ahead by d:

    N(i, d) = 0 when |d| > tolerance;   N(0, d) = 1;   N(i, d) = N(i - 1, d + 1) + N(i - 1, d - 1)

    rank = below(N(length, 0)), drawn once; then for every slot, with i slots to come after it:
        ways = N(i, d + 1)
        rank < ways:  the first arm
        otherwise:    the second arm, and rank = rank - ways

so that the sequence is the one with this rank in alphabetical order. Counts are exact whole numbers, and none is thrown
away. Source: Berger, Ivanova and Knoll, Minimizing predictability while retaining balance through the use of less
restrictive randomization procedures, Statistics in Medicine 2003;22:3017-3028. A longer list is not a continuation of a
shorter one, because what may follow decides what is likely now.

Option `tolerance`: the largest imbalance that is tolerated, a whole number from 1 to 50. A list has at most 2,000 slots
in a stratum, since the counts grow with the length.
"""

from collections.abc import Callable, Iterator, Sequence

from app.randomisation.drbg import Stream
from app.randomisation.methods.plan import (
    Option,
    Plan,
    unknown_options,
    whole,
    why_not_two_equal_arms,
    why_not_whole,
)

NAME = "maximal_procedure"
OPTIONS = (Option("tolerance", "whole"),)
MOST_TOLERANCE = 50
MOST_SLOTS = 2000

why_not_arms = why_not_two_equal_arms


def problems(plan: Plan) -> tuple[str, ...]:
    """Everything that stops this plan, as sentences; the plan has already passed `common_problems`."""
    too_long = (
        f"The maximal procedure counts every allowed sequence, up to {MOST_SLOTS:,} slots in a stratum. Ask for fewer."
        if plan.length_per_stratum > MOST_SLOTS
        else None
    )
    found = (why_not_arms(plan.arms), why_not_whole(plan, "tolerance", least=1, most=MOST_TOLERANCE), too_long)
    return (*unknown_options(plan, "tolerance"), *filter(None, found))


def slots(plan: Plan, streams: Callable[[str], Stream]) -> dict[str, tuple[str, ...]]:
    """For every stratum its arm codes in order, exactly `plan.length_per_stratum` of them."""
    codes = [code for code, _ in plan.in_code_order]
    ways = counts(whole(plan, "tolerance"), plan.length_per_stratum)
    return {stratum: tuple(codes[arm] for arm in _arms(streams(stratum), ways)) for stratum in plan.strata}


def counts(tolerance: int, length: int) -> list[list[int]]:
    """N(i, d) as said above, as row i for i = 0 to `length`, at place d + tolerance + 1: both ends of a row are 0."""
    rows = [[0, *[1] * (2 * tolerance + 1), 0]]
    for _ in range(length):
        before = rows[-1]
        rows.append([0, *(before[at - 1] + before[at + 1] for at in range(1, 2 * tolerance + 2)), 0])
    return rows


def _arms(stream: Stream, ways: Sequence[Sequence[int]]) -> Iterator[int]:
    ahead = len(ways[0]) // 2
    rank = stream.below(ways[-1][ahead])
    for row in reversed(ways[:-1]):
        if rank < row[ahead + 1]:
            ahead += 1
            yield 0
        else:
            rank -= row[ahead + 1]
            ahead -= 1
            yield 1
