"""Which arm does each slot hold? Drawn once, before the first participant, from one secret seed.

Every stratum has a generator of its own, whose personalisation string is, with each part preceded by its length in
bytes as 4 bytes big-endian and text in UTF-8:

    "equipoise.sequence.1" | study | stratum | list version (decimal)

so no two strata, studies or versions share or shift a list, although there is one seed, and a stratum's list does not
depend on which other strata there are. How draws follow from the generator is written in `drbg`, and how slots follow
from draws in each method. Together these are the recipe by which anybody draws a published seed again after the trial;
a change to any of it is a new recipe with a new number, never an edit.

A sequence is filled to the end of its last block and never truncated. When a stratum runs out, there is no allocation
until a further list version, drawn in the same way, is sealed; nothing weaker steps in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from app.randomisation.drbg import Stream
from app.randomisation.methods import METHODS
from app.randomisation.methods.plan import Plan, common_problems

RECIPE = "equipoise.sequence.1"


@dataclass(frozen=True)
class Sequence_:  # noqa: N801 `Sequence` is taken by the standard library
    """What was drawn. Printing it shows no arms: it must not reach a log or a traceback."""

    study: str
    list_version: int
    method: str
    arms: tuple[str, ...]
    """The study's arm codes, sorted; says nothing about the order of slots."""
    slots: Mapping[str, tuple[str, ...]] = field(repr=False)
    """For each stratum, in the order given, the arm codes of its slots, position 1 first."""


@dataclass(frozen=True)
class BalanceSummary:
    """All that a statistician needs to see of a sequence before sealing it, and nothing about its order."""

    slots: int
    slots_per_arm: Mapping[str, int]
    """Over all strata together: the counts of one short stratum of a list would come close to its order."""
    slots_per_stratum: Mapping[str, int]


def problems(
    method: str,
    arms_with_ratio: Sequence[tuple[str, int]],
    strata: Sequence[str],
    length_per_stratum: int,
    options: Mapping[str, object],
    factors: Sequence[str] = (),
) -> tuple[str, ...]:
    """Every reason why this cannot be drawn, as sentences for the statistician; empty when it can."""
    if method not in METHODS:
        return (f"There is no randomisation method “{method}”; there are {', '.join(sorted(METHODS))}.",)
    plan = Plan(tuple(arms_with_ratio), tuple(strata), length_per_stratum, options, tuple(factors))
    return common_problems(plan) or METHODS[method].problems(plan)


def draw(
    method: str,
    arms_with_ratio: Sequence[tuple[str, int]],
    strata: Sequence[str],
    length_per_stratum: int,
    options: Mapping[str, object],
    seed: bytes,
    *,
    study: str,
    list_version: int,
    factors: Sequence[str] = (),
) -> Sequence_:
    """The sequence of every stratum, at least `length_per_stratum` slots each; none of a method that decides later.

    `arms_with_ratio` holds (arm code, whole-number share); neither its order nor that of `strata` changes any list.
    `seed` is `drbg.SEED_BYTES` random bytes, used by no other draw; a method that draws nothing ignores it.
    `ValueError` with every one of `problems(...)`, or when the seed has another length or the version is below 1.
    """
    found = problems(method, arms_with_ratio, strata, length_per_stratum, options, factors)
    if found:
        raise ValueError(" ".join(found))
    if list_version < 1:
        raise ValueError("List versions count from 1.")
    chosen = METHODS[method]
    plan = Plan(tuple(arms_with_ratio), tuple(strata), length_per_stratum, options, tuple(factors))

    def streams(stratum: str) -> Stream:
        if not chosen.uses_seed:
            return Stream(_nothing_to_draw)
        return Stream.from_seed(seed, personalisation=personalisation(study, stratum, list_version))

    return Sequence_(
        study=study,
        list_version=list_version,
        method=method,
        arms=tuple(code for code, _ in plan.in_code_order),
        slots=MappingProxyType(chosen.slots(plan, streams)),
    )


def personalisation(study: str, stratum: str, list_version: int) -> bytes:
    """The personalisation string of one stratum's generator (SP 800-90A section 8.7.1), encoded as said above.

    The lengths make it injective: study “a”, stratum “bc” and study “ab”, stratum “c” have different strings.
    """
    return encoded(RECIPE, study, stratum, str(list_version))


def encoded(*parts: str | bytes) -> bytes:
    """Each part, text in UTF-8, preceded by its length in bytes as 4 bytes big-endian: no two lists look alike."""
    raw = (part.encode() if isinstance(part, str) else part for part in parts)
    return b"".join(len(part).to_bytes(4, "big") + part for part in raw)


def balance_summary(sequence: Sequence_) -> BalanceSummary:
    """Counts of slots, per arm over all strata and per stratum over all arms."""
    per_arm = dict.fromkeys(sequence.arms, 0)
    for slots in sequence.slots.values():
        for arm in slots:
            per_arm[arm] += 1
    per_stratum = {stratum: len(slots) for stratum, slots in sequence.slots.items()}
    return BalanceSummary(
        slots=sum(per_stratum.values()),
        slots_per_arm=MappingProxyType(per_arm),
        slots_per_stratum=MappingProxyType(per_stratum),
    )


def _nothing_to_draw(length: int) -> bytes:
    raise RuntimeError(f"A method that uses no seed asked for {length} random bytes.")
