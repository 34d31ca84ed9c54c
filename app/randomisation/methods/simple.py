"""Which arm is next, when every allocation is a draw of its own that knows nothing of the ones before?

Simple (complete) randomisation, for any number of arms and any whole-number ratio:

    for every slot: n = below(sum of the shares); the arm is the first one, in order of its code, for which the
    shares up to and including it add up to more than n

Nobody can guess better than by naming the arm with the largest share, and nothing keeps the arms balanced. Source:
Rosenberger and Lachin, Randomization in Clinical Trials, 2nd edition 2016, section 3.2. It has no options, and a longer
list begins with the shorter one.
"""

from collections.abc import Callable, Sequence

from app.randomisation.drbg import Stream
from app.randomisation.methods.plan import Option, Plan, unknown_options

NAME = "simple"
OPTIONS: tuple[Option, ...] = ()


def why_not_arms(_arms: Sequence[tuple[str, int]]) -> str | None:
    """None: every number of arms and every whole-number ratio can be drawn."""
    return None


def problems(plan: Plan) -> tuple[str, ...]:
    """Everything that stops this plan, as sentences; the plan has already passed `common_problems`."""
    return unknown_options(plan)


def slots(plan: Plan, streams: Callable[[str], Stream]) -> dict[str, tuple[str, ...]]:
    """For every stratum its arm codes in order, exactly `plan.length_per_stratum` of them."""
    tickets = [code for code, share in plan.in_code_order for _ in range(share)]
    drawn: dict[str, tuple[str, ...]] = {}
    for stratum in plan.strata:
        stream = streams(stratum)
        drawn[stratum] = tuple(stream.choose(tickets) for _ in range(plan.length_per_stratum))
    return drawn
