"""Which arm is next, when a fair coin decides until one arm is too far ahead?

The big stick design, for two arms with the ratio 1:1; `ahead` is the number of slots of the first arm, in order of the
codes, less those of the second:

    for every slot:
        ahead =  tolerance:  the second arm                       (no draw)
        ahead = -tolerance:  the first arm                        (no draw)
        otherwise:           the first arm if below(2) = 0, else the second

The arms never differ by more than the tolerance, and the next arm is certain only while they differ by it. Source:
Soares and Wu, Some restricted randomization rules in sequential designs, Communications in Statistics: Theory and
Methods 1983;12:2017-2034. A longer list begins with the shorter one.

Option `tolerance`: the largest imbalance that is tolerated, a whole number from 1 to 100.
"""

from collections.abc import Callable, Iterator

from app.randomisation.drbg import Stream
from app.randomisation.methods.plan import (
    Option,
    Plan,
    unknown_options,
    whole,
    why_not_two_equal_arms,
    why_not_whole,
)

NAME = "big_stick"
OPTIONS = (Option("tolerance", "whole"),)
MOST_TOLERANCE = 100

why_not_arms = why_not_two_equal_arms


def problems(plan: Plan) -> tuple[str, ...]:
    """Everything that stops this plan, as sentences; the plan has already passed `common_problems`."""
    found = (why_not_arms(plan.arms), why_not_whole(plan, "tolerance", least=1, most=MOST_TOLERANCE))
    return (*unknown_options(plan, "tolerance"), *filter(None, found))


def slots(plan: Plan, streams: Callable[[str], Stream]) -> dict[str, tuple[str, ...]]:
    """For every stratum its arm codes in order, exactly `plan.length_per_stratum` of them."""
    codes = [code for code, _ in plan.in_code_order]
    tolerance = whole(plan, "tolerance")
    return {
        stratum: tuple(codes[arm] for arm in _arms(streams(stratum), tolerance, plan.length_per_stratum))
        for stratum in plan.strata
    }


def _arms(stream: Stream, tolerance: int, length: int) -> Iterator[int]:
    ahead = 0
    for _ in range(length):
        arm = int(ahead > 0) if abs(ahead) == tolerance else stream.below(2)
        ahead += -1 if arm else 1
        yield arm
