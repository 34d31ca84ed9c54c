"""Which arms does a stratum get, when every block holds the exact ratio and the order inside a block is random?

    while the stratum has fewer slots than asked for:
        size = one of the block sizes, all equally likely        (no draw when there is one size)
        block = each arm, in order of its code, size / sum(ratio) × its share times
        append the block in a shuffled order

The last block is always whole. A stratum therefore may get up to max(block sizes) - 1 more slots than asked for, and is
never cut short: a cut block would break the ratio, and its missing arms could be guessed.

Option `block_sizes`: a list of one or more sizes, each a multiple of the sum of the ratio. Several sizes make certain
guesses rarer; `app.randomisation.predictability` computes by how much.
"""

from collections.abc import Callable, Iterator, Sequence

from app.randomisation.drbg import Stream
from app.randomisation.methods.plan import Option, Plan, is_whole, unknown_options

NAME = "permuted_blocks"
OPTIONS = (Option("block_sizes", "wholes"),)


def why_not_arms(_arms: Sequence[tuple[str, int]]) -> str | None:
    """None: every number of arms and every whole-number ratio fits a block."""
    return None


def problems(plan: Plan) -> tuple[str, ...]:
    """Everything that stops this plan, as sentences; the plan has already passed `common_problems`."""
    found = list(unknown_options(plan, "block_sizes"))
    given = plan.options.get("block_sizes")
    if not isinstance(given, list | tuple) or not given:
        return (*found, "Permuted blocks need `block_sizes`, a list of one or more block sizes.")
    shares = [share for _, share in plan.arms]
    ratio, total = ":".join(map(str, shares)), sum(shares)
    for size in given:
        if not is_whole(size) or size < 1:
            found.append(f"A block size is a whole number of 1 or more, not {size!r}.")
        elif size % total:
            found.append(
                f"A block of {size} cannot hold the ratio {ratio}: a block size must be a multiple of {total}."
            )
    if not found and len(set(given)) != len(given):
        found.append("A block size is named twice; all sizes are equally likely.")
    return tuple(found)


def slots(plan: Plan, streams: Callable[[str], Stream]) -> dict[str, tuple[str, ...]]:
    """For every stratum its arm codes in order, `plan.length_per_stratum` of them or a few more."""
    sizes = plan.options["block_sizes"]
    assert isinstance(sizes, list | tuple)
    drawn: dict[str, tuple[str, ...]] = {}
    for stratum in plan.strata:
        filled: list[str] = []
        endless = blocks(plan.in_code_order, sizes, streams(stratum))
        while len(filled) < plan.length_per_stratum:
            filled += next(endless)
        drawn[stratum] = tuple(filled)
    return drawn


def blocks(arms: Sequence[tuple[str, int]], sizes: Sequence[int], stream: Stream) -> Iterator[tuple[str, ...]]:
    """Whole blocks without end, each a tuple of arm codes. Sizes are tried in ascending order, arms as given."""
    ordered = sorted(sizes)
    total = sum(share for _, share in arms)
    while True:
        times = stream.choose(ordered) // total
        yield stream.shuffle([code for code, share in arms for _ in range(times * share)])
