"""How far do two people agree? Percent agreement, Cohen's kappa and its weighted form, each with a confidence interval.

Pure. Formulas: kappa, Cohen (1960), Educational and Psychological Measurement 20:37-46; weighted kappa, Cohen (1968),
Psychological Bulletin 70:213-220, with linear weights after Cicchetti and Allison (1971); the standard error in large
samples, Fleiss, Cohen and Everitt (1969), Psychological Bulletin 72:323-327, as given by Fleiss, Levin and Paik (2003),
Statistical Methods for Rates and Proportions, 3rd edition, section 18.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isclose, sqrt

Z = 1.959963984540054  # the 97.5 % point of the standard normal distribution


@dataclass(frozen=True)
class Kappa:
    """An agreement beyond chance: -1 to 1, its standard error, and the ends of its 95 % confidence interval."""

    value: float
    error: float
    low: float
    high: float


def percent(agreeing: int, compared: int) -> float | None:
    """How many of a hundred comparisons agree; None without any."""
    return 100 * agreeing / compared if compared else None


def kappa(
    pairs: Mapping[tuple[str, str], int], order: Sequence[str] | None = None, places: Mapping[str, float] | None = None
) -> Kappa | None:
    """Cohen's kappa over pairs (what the first said, what the second said) -> how often; linear weights with `order`.

    `order` lists the categories of an ordered scale from one end to the other; `places` says where each stands when
    they are not evenly spaced. Categories that are not in the order (a reason why there is no answer) leave the
    weighted kappa out of their pairs. None where it is not defined or says nothing: nothing compared, or one of the two
    said the same every time, which makes it 0 (or undefined) whatever the other said, with no error to estimate.
    """
    if order is not None:
        known = set(order)
        pairs = {pair: number for pair, number in pairs.items() if pair[0] in known and pair[1] in known}
        stands = places or {each: float(place) for place, each in enumerate(order)}
        width = max(stands[each] for each in order) - min(stands[each] for each in order) if order else 0.0

        def weight(one: str, other: str) -> float:
            return 1 - abs(stands[one] - stands[other]) / width if width else float(one == other)
    else:

        def weight(one: str, other: str) -> float:
            return float(one == other)

    number = sum(pairs.values())
    if number == 0:
        return None
    rows: dict[str, float] = {}
    columns: dict[str, float] = {}
    for (one, other), count in pairs.items():
        rows[one] = rows.get(one, 0) + count / number
        columns[other] = columns.get(other, 0) + count / number
    observed = sum(count / number * weight(one, other) for (one, other), count in pairs.items())
    expected = sum(p * q * weight(one, other) for one, p in rows.items() for other, q in columns.items())
    if 1 in (len(rows), len(columns)) or isclose(expected, 1, abs_tol=1e-12):
        return None
    value = (observed - expected) / (1 - expected)
    of_row = {one: sum(q * weight(one, other) for other, q in columns.items()) for one in rows}
    of_column = {other: sum(p * weight(one, other) for one, p in rows.items()) for other in columns}
    spread = sum(
        count / number * (weight(one, other) - (of_row[one] + of_column[other]) * (1 - value)) ** 2
        for (one, other), count in pairs.items()
    )
    variance = (spread - (value - expected * (1 - value)) ** 2) / (number * (1 - expected) ** 2)
    error = sqrt(max(variance, 0.0))
    return Kappa(value, error, max(-1.0, value - Z * error), min(1.0, value + Z * error))
