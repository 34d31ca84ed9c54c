"""Which ways of randomising are there? One file per method; every method has the same shape and is listed here.

A method that fixes its sequence before the first participant gives `problems` and `slots`. A method that decides at
each allocation (minimisation) will join as a further optional function of `Method` beside `slots`; the table stays one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from app.randomisation.drbg import Stream
from app.randomisation.methods import listed, permuted_blocks
from app.randomisation.methods.plan import Plan


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
    (once per stratum); only for a plan without problems."""


METHODS: dict[str, Method] = {
    permuted_blocks.NAME: Method(permuted_blocks.NAME, True, permuted_blocks.problems, permuted_blocks.slots),
    listed.NAME: Method(listed.NAME, False, listed.problems, listed.slots),
}
