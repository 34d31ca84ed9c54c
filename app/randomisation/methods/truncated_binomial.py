"""Which arm is next, when a fair coin decides until one arm has all its slots?

The truncated binomial design, for two arms with the ratio 1:1. The length of the list is the number of slots asked for,
rounded up to an even number, and half of it is each arm's:

    for every slot:
        one arm has half of the length:  the other arm                 (no draw)
        otherwise:                       the first arm, in order of its code, if below(2) = 0, else the second

The list ends in exact balance; before that the arms may differ much, and its end can be foretold by whoever counts.
Source: Blackwell and Hodges, Design for the control of selection bias, Annals of Mathematical Statistics
1957;28:449-460. It has no options. A longer list is not a continuation of a shorter one.
"""

from collections.abc import Callable, Iterator

from app.randomisation.drbg import Stream
from app.randomisation.methods.plan import Option, Plan, unknown_options, why_not_two_equal_arms

NAME = "truncated_binomial"
OPTIONS: tuple[Option, ...] = ()

why_not_arms = why_not_two_equal_arms


def problems(plan: Plan) -> tuple[str, ...]:
    """Everything that stops this plan, as sentences; the plan has already passed `common_problems`."""
    return (*unknown_options(plan), *filter(None, (why_not_arms(plan.arms),)))


def slots(plan: Plan, streams: Callable[[str], Stream]) -> dict[str, tuple[str, ...]]:
    """For every stratum its arm codes in order, `plan.length_per_stratum` of them or one more."""
    codes = [code for code, _ in plan.in_code_order]
    half = half_of(plan.length_per_stratum)
    return {stratum: tuple(codes[arm] for arm in _arms(streams(stratum), half)) for stratum in plan.strata}


def half_of(length: int) -> int:
    """How many slots each arm gets when this many are asked for."""
    return (length + 1) // 2


def _arms(stream: Stream, half: int) -> Iterator[int]:
    had = [0, 0]
    while sum(had) < 2 * half:
        arm = had.index(half) ^ 1 if half in had else stream.below(2)
        had[arm] += 1
        yield arm
