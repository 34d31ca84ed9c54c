"""Which arm is next, when a coin favours the arm that is behind?

Efron's biased coin, for two arms with the ratio 1:1, with the probability p = a/b in lowest terms; `ahead` is the
number of slots of the first arm, in order of the codes, less those of the second:

    for every slot:
        ahead = 0:  the first arm if below(2) = 0, else the second
        otherwise:  the arm that is behind if below(b) < a, else the one that is ahead

No next arm is ever certain, and no imbalance is impossible, but large ones are rare. Source: Efron, Forcing a
sequential experiment to be balanced, Biometrika 1971;58:403-417, who suggests 2/3. A longer list begins with the
shorter one.

Option `probability`: that of the arm that is behind, as text of a fraction such as `2/3`, more than 1/2 and less than
1.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction

from app.randomisation.drbg import Stream
from app.randomisation.methods.plan import Option, Plan, fraction_of, unknown_options, why_not_two_equal_arms

NAME = "biased_coin"
OPTIONS = (Option("probability", "fraction"),)
WRONG = "The option `probability` is a fraction of whole numbers such as 2/3, more than 1/2 and less than 1."

why_not_arms = why_not_two_equal_arms


def probability_of(value: object) -> Fraction | None:
    """The exact probability that a text such as `2/3` names; None unless it is more than 1/2 and less than 1."""
    probability = fraction_of(value)
    return probability if probability is not None and Fraction(1, 2) < probability < 1 else None


def problems(plan: Plan) -> tuple[str, ...]:
    """Everything that stops this plan, as sentences; the plan has already passed `common_problems`."""
    wrong = None if probability_of(plan.options.get("probability")) else WRONG
    return (*unknown_options(plan, "probability"), *filter(None, (why_not_arms(plan.arms), wrong)))


def slots(plan: Plan, streams: Callable[[str], Stream]) -> dict[str, tuple[str, ...]]:
    """For every stratum its arm codes in order, exactly `plan.length_per_stratum` of them."""
    codes = [code for code, _ in plan.in_code_order]
    probability = probability_of(plan.options["probability"])
    assert probability is not None
    return {
        stratum: tuple(codes[arm] for arm in _arms(streams(stratum), probability, plan.length_per_stratum))
        for stratum in plan.strata
    }


def _arms(stream: Stream, probability: Fraction, length: int) -> Iterator[int]:
    ahead = 0
    for _ in range(length):
        if ahead == 0:
            arm = stream.below(2)
        else:
            behind = int(ahead > 0)
            arm = behind if stream.below(probability.denominator) < probability.numerator else 1 - behind
        ahead += -1 if arm else 1
        yield arm
