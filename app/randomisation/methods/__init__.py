"""Which ways of randomising are there? One file per method; every method has the same shape and is listed here.

A method that fixes its sequence before the first participant gives `problems` and `slots`; one that decides at each
allocation (minimisation) gives `decide` instead of slots.

Methods draw whole numbers from a `Stream` and compute with whole numbers and fractions only, never with floating point,
so that a seed gives one list on every platform.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.randomisation.drbg import Stream
from app.randomisation.methods import (
    biased_coin,
    big_stick,
    cluster,
    listed,
    maximal_procedure,
    minimisation,
    permuted_blocks,
    simple,
    truncated_binomial,
    wei_urn,
)
from app.randomisation.methods.minimisation import Counts
from app.randomisation.methods.plan import Option, Plan


@dataclass(frozen=True)
class Method:
    """One way of randomising."""

    name: str
    """As it stands in a study's definition."""
    uses_seed: bool
    """Whether it draws; a method that does not is given streams it cannot draw from."""
    problems: Callable[[Plan], tuple[str, ...]]
    """Every reason why this plan cannot be drawn, as sentences; empty when it can."""
    slots: Callable[[Plan, Callable[[str], Stream]], dict[str, tuple[str, ...]]]
    """For every stratum its arm codes in order, each from that stratum's own stream, which the second argument starts
    (once per stratum), or all from one stream; only for a plan without problems."""
    options: tuple[Option, ...] = ()
    """What the statistician chooses beside the number of slots."""
    why_not_arms: Callable[[Sequence[tuple[str, int]]], str | None] = lambda _arms: None
    """Why the method cannot serve these (arm code, share) pairs, or None."""
    decide: Callable[[Plan, Counts, Sequence[str], Stream], tuple[str, Counts]] | None = None
    """The arm of the next person, from what was counted of those before, their levels and this allocation's own stream;
    and the counts with them. None for a method that fixes its sequence ahead."""


METHODS: dict[str, Method] = {
    each.NAME: Method(
        each.NAME,
        each is not listed,
        each.problems,
        each.slots,
        each.OPTIONS,
        each.why_not_arms,
        getattr(each, "decide", None),
    )
    for each in (
        permuted_blocks,
        listed,
        simple,
        big_stick,
        maximal_procedure,
        wei_urn,
        truncated_binomial,
        biased_coin,
        cluster,
        minimisation,
    )
}
DECIDING = tuple(name for name, method in METHODS.items() if method.decide is not None)
"""The methods that decide at each allocation."""
SEEDED = tuple(name for name, method in METHODS.items() if method.uses_seed)
"""All methods that draw here, from a seed of ours, whether ahead or at each allocation."""
TOGETHER = (cluster.NAME,)
"""The methods that draw all strata of a list together, before the first participant: one arm for each."""
DRAWN = tuple(name for name in SEEDED if name not in (*DECIDING, *TOGETHER))
"""The methods that draw a list for each stratum here, before the first participant."""
