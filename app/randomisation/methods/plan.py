"""What is asked of a randomisation method, and can any method do it?"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal


@dataclass(frozen=True)
class Option:
    """Something a method must be told. Options are secret like the seed: people who enrol could guess with them."""

    name: str
    kind: Literal["whole", "wholes", "fraction", "text"]
    """A whole number; a list of them; a fraction as text of digits such as `2/3`; the text of a file."""
    default: object = None
    """What stands for it when it is left out; None when it must be given."""


@dataclass(frozen=True)
class Plan:
    """What a statistician decides before a sequence is drawn. Its options, like the seed, are secret until the end."""

    arms: tuple[tuple[str, int], ...]
    """Each arm's code and its share of the ratio: (("active", 2), ("sham", 1)) is 2:1."""
    strata: tuple[str, ...]
    """The code of every stratum; a study without strata has one."""
    length_per_stratum: int
    """The fewest slots every stratum gets."""
    options: Mapping[str, object]
    """What only this method needs, as it stands in the study's definition."""
    factors: tuple[str, ...] = ()
    """The codes of the factors that a method balances at each allocation, in the study's order."""

    @property
    def in_code_order(self) -> tuple[tuple[str, int], ...]:
        """The arms sorted by code (by Unicode code point), so that the order they were written in changes nothing."""
        return tuple(sorted(self.arms))


def common_problems(plan: Plan) -> tuple[str, ...]:
    """Everything that would stop any method, as sentences for the statistician; empty when nothing does."""
    problems: list[str] = []
    codes = [code for code, _ in plan.arms]
    if len(codes) < 2:
        problems.append("A randomised study has at least two arms.")
    problems += [f"The arm “{code}” is named twice." for code in _twice(codes)]
    if "" in codes:
        problems.append("An arm has no code.")
    problems += [
        f"The share of the arm “{code}” in the ratio must be a whole number of 1 or more."
        for code, share in plan.arms
        if not is_whole(share) or share < 1
    ]
    if not plan.strata:
        problems.append("There is no stratum; a study without strata has one.")
    problems += [f"The stratum “{stratum}” is named twice." for stratum in _twice(plan.strata)]
    if not is_whole(plan.length_per_stratum) or plan.length_per_stratum < 1:
        problems.append("The length per stratum must be a whole number of 1 or more.")
    return tuple(problems)


def unknown_options(plan: Plan, *known: str) -> tuple[str, ...]:
    """One sentence per option this method does not have: a misspelt option must not be a silently missing one."""
    return tuple(f"This method has no option “{name}”." for name in sorted(set(plan.options) - set(known)))


def why_not_two_equal_arms(arms: Sequence[tuple[str, int]]) -> str | None:
    """Why a method that balances one arm against the other cannot serve these arms, or None."""
    shares = [share for _, share in arms]
    if len(shares) == 2 and shares[0] == shares[1]:
        return None
    return (
        f"This method is defined for two arms with the ratio 1:1, not for {':'.join(map(str, shares))}. "
        "Choose permuted blocks or simple randomisation."
    )


def why_not_equal_arms(arms: Sequence[tuple[str, int]]) -> str | None:
    """Why a method that treats all arms alike cannot serve these arms, or None."""
    shares = [share for _, share in arms]
    if len(set(shares)) == 1:
        return None
    return (
        f"This method is defined for arms with equal shares, not for {':'.join(map(str, shares))}. "
        "Choose permuted blocks or simple randomisation."
    )


def why_not_whole(plan: Plan, name: str, *, least: int, most: int) -> str | None:
    """Why this option is not a whole number from `least` to `most`, or None."""
    value = plan.options.get(name)
    if isinstance(value, int) and is_whole(value) and least <= value <= most:
        return None
    return f"The option `{name}` is a whole number from {least} to {most:,}."


def whole(plan: Plan, name: str) -> int:
    """The value of an option that is a whole number; only for a plan without problems."""
    value = plan.options[name]
    assert isinstance(value, int)
    return value


_FRACTION = re.compile(r"([1-9][0-9]{0,3})/([1-9][0-9]{0,3})", re.ASCII)


def fraction_of(value: object) -> Fraction | None:
    """The fraction of two whole numbers up to 9,999 that a text such as `2/3` names, exactly; None for all else."""
    found = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    return Fraction(int(found[1]), int(found[2])) if found else None


def is_whole(value: object) -> bool:
    """Whether this is an integer; True and False are not, although Python counts them as such."""
    return isinstance(value, int) and not isinstance(value, bool)


def _twice(values: Sequence[str]) -> list[str]:
    return sorted({value for value in values if values.count(value) > 1})
