"""Which arm does a whole site get, when the sites of a batch are drawn together?

In a cluster-randomised trial everybody of one site is in one arm, and the stratum is the site. The sites of one list
are a batch: their arms are one permutation in the ratio, drawn from one stream (that of the stratum `*`, which no site
can be called), and each site's slots are all of its arm:

    block = each arm, in order of its code, its share of the ratio in lowest terms times
    whole, rest = number of sites divided by the length of the block
    last = the first `rest` arms of the block in a shuffled order                    (no draw when nothing is left over)
    arms = the block `whole` times, then `last`, in a shuffled order
    the sites, in order of their codes, get these arms in order

So every way of giving the arms in the ratio to the sites is equally likely. What is left over when the ratio does not
divide the number of sites is a random incomplete block: each site still has an arm with the probability of its share,
and no arm has more sites than one more whole block would give it. Sites that join later are another list, and another
permutation.

Once one person of a site is known to be in an arm, so is everybody who follows there. No option changes that.
"""

from collections.abc import Callable, Sequence

from app.randomisation.drbg import Stream
from app.randomisation.methods.plan import Option, Plan, unknown_options

NAME = "cluster"
OPTIONS: tuple[Option, ...] = ()
BATCH = "*"
"""What the one stream of a batch is called, where others are called after their stratum."""


def why_not_arms(_arms: Sequence[tuple[str, int]]) -> str | None:
    """None: any arms in any whole-number ratio can be given to sites."""
    return None


def problems(plan: Plan) -> tuple[str, ...]:
    """Everything that stops this plan, as sentences; the plan has already passed `common_problems`."""
    return unknown_options(plan)


def slots(plan: Plan, streams: Callable[[str], Stream]) -> dict[str, tuple[str, ...]]:
    """For every site (stratum) its one arm, `plan.length_per_stratum` times."""
    stream = streams(BATCH)
    whole, rest = whole_and_rest([share for _, share in plan.arms], len(plan.strata))
    block = block_of(plan.in_code_order)
    last = stream.shuffle(block)[:rest] if rest else ()
    arms = stream.shuffle([*block * whole, *last])
    length = plan.length_per_stratum
    return {site: (arm,) * length for site, arm in zip(sorted(plan.strata), arms, strict=True)}


def block_of(arms: Sequence[tuple[str, int]]) -> list[str]:
    """Each arm as often as its share in lowest terms: 2:2 is 1:1."""
    lowest = in_lowest_terms([share for _, share in arms])
    return [code for (code, _), share in zip(arms, lowest, strict=True) for _ in range(share)]


def whole_and_rest(shares: Sequence[int], sites: int) -> tuple[int, int]:
    """How many whole blocks of the ratio in lowest terms so many sites hold, and how many sites are left over."""
    return divmod(sites, sum(in_lowest_terms(shares)))


def in_lowest_terms(shares: Sequence[int]) -> list[int]:
    """The same ratio in the smallest whole numbers."""
    common = next(n for n in range(min(shares), 0, -1) if not any(share % n for share in shares))
    return [share // common for share in shares]
