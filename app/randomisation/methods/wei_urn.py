"""Which arm is next, when balls of the other arms go into an urn after every draw?

Wei's urn UD(alpha, beta), for two or more arms with equal shares. The urn begins with `alpha` balls of each arm; the
ball that is drawn goes back, and `beta` balls of every other arm go in. After i slots, of which an arm has had m, the
urn therefore holds alpha + beta × (i - m) balls of that arm:

    for every slot: n = below(number of balls in the urn); the arm is the first one, in order of its code, for which
    the balls up to and including it add up to more than n            (an empty urn counts as one ball of each arm)

It balances strongly at first and comes ever closer to simple randomisation. Source: Wei, An application of an urn model
to the design of sequential controlled clinical trials, Journal of the American Statistical Association
1978;73:559-563. A longer list begins with the shorter one.

Options `alpha`, a whole number from 0 to 1,000, and `beta`, from 1 to 1,000.
"""

from collections.abc import Callable, Iterator, Sequence

from app.randomisation.drbg import Stream
from app.randomisation.methods.plan import Option, Plan, unknown_options, whole, why_not_equal_arms, why_not_whole

NAME = "wei_urn"
OPTIONS = (Option("alpha", "whole"), Option("beta", "whole"))
MOST_BALLS = 1000

why_not_arms = why_not_equal_arms


def problems(plan: Plan) -> tuple[str, ...]:
    """Everything that stops this plan, as sentences; the plan has already passed `common_problems`."""
    found = (
        why_not_arms(plan.arms),
        why_not_whole(plan, "alpha", least=0, most=MOST_BALLS),
        why_not_whole(plan, "beta", least=1, most=MOST_BALLS),
    )
    return (*unknown_options(plan, "alpha", "beta"), *filter(None, found))


def slots(plan: Plan, streams: Callable[[str], Stream]) -> dict[str, tuple[str, ...]]:
    """For every stratum its arm codes in order, exactly `plan.length_per_stratum` of them."""
    codes = [code for code, _ in plan.in_code_order]
    alpha, beta = whole(plan, "alpha"), whole(plan, "beta")
    return {
        stratum: tuple(_arms(streams(stratum), codes, alpha, beta, plan.length_per_stratum)) for stratum in plan.strata
    }


def balls(had: Sequence[int], alpha: int, beta: int) -> list[int]:
    """How many balls of each arm are in the urn once the arms have had so many slots."""
    drawn = sum(had)
    held = [alpha + beta * (drawn - slots_of_arm) for slots_of_arm in had]
    return held if any(held) else [1] * len(had)


def _arms(stream: Stream, codes: Sequence[str], alpha: int, beta: int, length: int) -> Iterator[str]:
    had = [0] * len(codes)
    for _ in range(length):
        held = balls(had, alpha, beta)
        ball = stream.below(sum(held))
        arm = 0
        while ball >= held[arm]:
            ball -= held[arm]
            arm += 1
        had[arm] += 1
        yield codes[arm]
