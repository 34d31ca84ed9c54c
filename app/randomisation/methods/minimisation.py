"""Which arm keeps the groups most alike, given who was randomised before?

Minimisation decides at each allocation. For every arm it asks how unlike the groups would be, at the levels this person
has, were they put into it; the arm that leaves them most alike is preferred and is given with a probability, so that
nobody can be certain of it.

Unequal shares are made of equal ones: an arm with share 2 is two groups that only count apart. Groups stand in the
order of the arms' codes, as many of each arm as its share of the ratio in lowest terms; n[group] are the people before
at a level, and R is the number of groups:

    had[group]   n[group], counting the new person as well in the group that is tried
    unlike       for each factor, at this person's level, by the option `measure`:
                   range           max(had) - min(had)
                   variance        sum((had - mean(had))^2) / (R - 1)
                   marginal_total  had of the group that is tried (Taves: the group with the fewest so far)
    tried[group] the sum over the factors of weight x unlike, and the same of the groups' sizes with `size_weight`
    best         the groups whose tried is the least

    if `most_apart` is not 0 and max - min of the groups' sizes, before this person, is `most_apart` or more:
        best = the smallest groups, and the probability is `catch_up`

    preferred = best[below(number of best)]
    with the probability a/b in lowest terms: preferred if below(b) < a,
    else one of the other groups, in their order: others[below(R - 1)]

Everything is a whole number or a fraction, never a float, and each allocation has a generator of its own (`dynamic`).

Sources: Taves, Minimization, Clin Pharmacol Ther 1974;15:443-453. Pocock and Simon, Sequential treatment assignment
with balancing for prognostic factors, Biometrics 1975;31:103-115 (range, variance, weights, probability). That dividing
counts by unequal shares bends the ratio is shown by Han, Enas and McEntegart, Stat Med 2009;28:3329-3346; the
probabilities here are those of their biased coin, 1 - (1 - p)(R - r)/(R - 1) for a preferred arm with share r. That
groups of equal shares keep it at every single allocation, because nothing tells one from another, is from Kuznetsova
and Tymofyeyev, Stat Med 2012;31:701-723. The limit on the groups' sizes with a probability of its own is that of Xiao,
Yank and Ma, Comput Methods Programs Biomed 2012;108:1185-1190; their measure for continuous factors is not here:
factors have levels.

Options: `measure`; `probability`, that of the preferred group, as text of a fraction, more than 1/R and at most 1;
`weights`, one whole number for each factor in the study's order, or none for 1 each; `size_weight`, a whole number;
`most_apart`, in people, 0 for no limit; `catch_up`, a fraction like `probability`.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from app.randomisation.drbg import Stream
from app.randomisation.methods.plan import Option, Plan, fraction_of, is_whole, unknown_options, why_not_whole

NAME = "minimisation"
OPTIONS = (
    Option("measure", "text"),
    Option("probability", "fraction"),
    Option("weights", "wholes", ()),
    Option("size_weight", "whole", 0),
    Option("most_apart", "whole", 0),
    Option("catch_up", "fraction", ""),
)
MEASURES = ("range", "variance", "marginal_total")
LARGEST_WEIGHT = 100
FURTHEST_APART = 1_000

SIZE = ""
"""The key of the groups' sizes among the counts; every other key is `key_of` a factor's level."""
Counts = Mapping[str, Sequence[int]]
"""How many were randomised before: by key, one number for each group in order."""


def why_not_arms(_arms: Sequence[tuple[str, int]]) -> str | None:
    """Every number of arms, with any shares, can be minimised."""
    return None


def key_of(factor: int, level: str) -> str:
    """The key of one level of the factor with this number, counted from 0 in the study's order."""
    return f"{factor}:{level}"


def groups_of(arms: Sequence[tuple[str, int]]) -> list[str]:
    """The arm code of every group: each arm, in order of codes, as often as its share in lowest terms."""
    shares = [share for _, share in arms]
    divisor = next(by for by in range(min(shares), 0, -1) if not any(share % by for share in shares))
    return [code for code, share in sorted(arms) for _ in range(share // divisor)]


def probability_of(value: object, groups: int) -> Fraction | None:
    """The probability that a text such as `4/5` names; None unless it favours the preferred group and is at most 1."""
    probability = fraction_of(value)
    return probability if probability is not None and Fraction(1, groups) < probability <= 1 else None


def problems(plan: Plan) -> tuple[str, ...]:
    """Everything that stops this plan, as sentences; the plan has already passed `common_problems`."""
    groups = len(groups_of(plan.arms))
    found = list(unknown_options(plan, *(option.name for option in OPTIONS)))
    if not plan.factors:
        found.append("There is nothing to balance: the study names no factors. Choose another method.")
    if plan.options.get("measure") not in MEASURES:
        found.append(f"The option `measure` is one of {', '.join(MEASURES)}.")
    fractions = ["probability"]
    whole = (("size_weight", LARGEST_WEIGHT), ("most_apart", FURTHEST_APART))
    found += filter(None, (why_not_whole(plan, name, least=0, most=most) for name, most in whole))
    if plan.options.get("most_apart"):
        fractions.append("catch_up")
    elif plan.options.get("catch_up"):
        found.append("The option `catch_up` belongs to a limit: say how far the groups may be apart in `most_apart`.")
    found += [
        f"The option `{name}` is a fraction of whole numbers such as 4/5, more than 1/{groups} and at most 1/1."
        for name in fractions
        if probability_of(plan.options.get(name), groups) is None
    ]
    weights = plan.options.get("weights")
    if not isinstance(weights, list | tuple) or not all(
        is_whole(each) and 0 <= each <= LARGEST_WEIGHT for each in weights
    ):
        found.append(f"The option `weights` is a list of whole numbers from 0 to {LARGEST_WEIGHT}, or empty.")
    elif weights and len(weights) != len(plan.factors):
        found.append(f"The option `weights` has {len(weights)} numbers for {len(plan.factors)} factors. Give one each.")
    elif weights and not any(weights) and not plan.options.get("size_weight"):
        found.append("With every one of the `weights` 0 nothing is balanced. Choose simple randomisation instead.")
    return tuple(found)


def slots(_plan: Plan, _streams: Callable[[str], Stream]) -> dict[str, tuple[str, ...]]:
    """Nothing is drawn ahead."""
    return {}


def decide(plan: Plan, counts: Counts, levels: Sequence[str], stream: Stream) -> tuple[str, dict[str, list[int]]]:
    """The arm of the next person, whose level of each factor is given in the study's order, and the counts with them.

    Only for a sound plan, and with counts that come from here; none before the first person.
    """
    groups = groups_of(plan.arms)
    sizes = _at(counts, SIZE, groups)
    limit = plan.options["most_apart"]
    assert isinstance(limit, int)
    if limit and max(sizes) - min(sizes) >= limit:
        best = [group for group, size in enumerate(sizes) if size == min(sizes)]
        probability = probability_of(plan.options["catch_up"], len(groups))
    else:
        tried = unlikeness(plan, counts, levels)
        best = [group for group, unlike in enumerate(tried) if unlike == min(tried)]
        probability = probability_of(plan.options["probability"], len(groups))
    assert probability is not None
    chosen = best[stream.below(len(best))]
    if stream.below(probability.denominator) >= probability.numerator:
        others = [group for group in range(len(groups)) if group != chosen]
        chosen = others[stream.below(len(others))]
    more = {key: list(had) for key, had in counts.items()}
    for key in (SIZE, *map(key_of, range(len(levels)), levels)):
        more.setdefault(key, [0] * len(groups))[chosen] += 1
    return groups[chosen], more


def unlikeness(plan: Plan, counts: Counts, levels: Sequence[str]) -> list[Fraction]:
    """For each group in order, how unlike they would be with this person in it."""
    groups = groups_of(plan.arms)
    weights, size_weight = plan.options["weights"], plan.options["size_weight"]
    assert isinstance(weights, list | tuple)
    assert isinstance(size_weight, int)
    weighed = dict(zip(map(key_of, range(len(levels)), levels), weights or [1] * len(levels), strict=True))
    weighed[SIZE] = size_weight
    tried = []
    for candidate in range(len(groups)):
        total = Fraction(0)
        for key, weight in weighed.items():
            had = [number + (group == candidate) for group, number in enumerate(_at(counts, key, groups))]
            total += weight * _unlike(str(plan.options["measure"]), had, candidate)
        tried.append(total)
    return tried


def _unlike(measure: str, had: Sequence[int], candidate: int) -> Fraction:
    if measure == "range":
        return Fraction(max(had) - min(had))
    if measure == "marginal_total":
        return Fraction(had[candidate])
    mean = Fraction(sum(had), len(had))
    return sum(((each - mean) ** 2 for each in had), Fraction(0)) * Fraction(1, len(had) - 1)


def _at(counts: Counts, key: str, groups: Sequence[str]) -> Sequence[int]:
    return counts.get(key) or [0] * len(groups)
