"""What do the data of a site look like beside those of the others? Last digits, levels and spreads, forms that are
alike, entries that come late, answers that are corrected: for central monitoring (ICH E6(R3), 3.11.4.2).

Each site is held against the other sites that are shown, never against an idea of what data should be: a scale with two
ends has no even digits. That a site stands out is a reason to ask, and no finding; see Buyse et al., Stat Med
1999;18:3435-51 and Venet et al., Clin Trials 2012;9:705-13 for what such comparisons have found. Nothing here knows an
arm.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from math import erfc, exp, gamma, log, sqrt
from operator import mul
from statistics import median
from typing import Any, NamedTuple

from app.studies.definition import Item, ItemType

LATE_AFTER = 7
"""Days after the visit: an entry that was begun later than this is late."""
HANDFUL = 5
"""Answers: a form with fewer of them is alike by chance."""
LEAST_AT_VISIT = 5
"""Values of an item, of a site at one visit: of fewer not even their mean is kept."""
LEAST_VALUES = 20
"""Values of an item: of a site with fewer nothing is said of their level and spread."""
LEAST_DIGITS = 50
"""Values of an item, at the site as at the others: of fewer nothing is said of their last digits."""
STEPS = 20
"""Of a scale with fewer steps the last digit is the answer itself."""
LARGE = 50_000
"""Entries: so many take about a second."""

FALSE_SHARE = 0.01
"""Of what is shown to stand out so large a share, at most, is expected to do so by chance."""
UNLIKELY = 0.001
"""A larger p-value never stands out, however few comparisons there are."""
DIFFERENT_DIGITS, DIFFERENT_SHARE = 0.15, 0.05
"""Of many values the smallest difference is no chance; one that is smaller than this is nothing to ask about."""
FAR = 3.5
"""Robust standard deviations (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993)."""
DISTANT = 0.5
"""Standard deviations within a site: a medium difference (Cohen 1988)."""
NARROW, WIDE = 2 / 3, 3 / 2

NUMERIC = frozenset({ItemType.INTEGER, ItemType.NUMBER, ItemType.SCALE, ItemType.SLIDER})


# What is counted


class Typing(NamedTuple):
    """How a site types. `entries` at visits that were held, `late` of them begun over a week after; `answers`, and
    `corrected`, how many answers were ever changed; `compared` forms with a handful of answers that are not all the
    same, and how many of them are `alike` another of the same form and visit, value for value.
    """

    site_id: int
    entries: int = 0
    late: int = 0
    answers: int = 0
    corrected: int = 0
    compared: int = 0
    alike: int = 0


class Digits(NamedTuple):
    """So many values of an item at a site end in this digit."""

    site_id: int
    instrument: str
    item: str
    digit: int
    number: int


class Level(NamedTuple):
    """So many values of an item at a site and visit; `squares` is the sum of their squared distances from the mean."""

    site_id: int
    visit: str
    instrument: str
    item: str
    number: int
    mean: float
    squares: float


@dataclass(frozen=True)
class Measured:
    """What the data of all sites look like, as they were at one moment: numbers of many values, and no value."""

    at: datetime
    entries: int = 0
    """How many were read."""
    typing: tuple[Typing, ...] = ()
    digits: tuple[Digits, ...] = ()
    levels: tuple[Level, ...] = ()
    said: dict[tuple[int, ...], "Quality"] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_large(self) -> bool:
        """Whether it takes so long that nobody should wait for it."""
        return self.entries >= LARGE

    def quality(self, sites: Mapping[int, str]) -> "Quality":
        """What it says of these sites (id and code), each beside the others of them; worked out once."""
        key = tuple(sites)
        found = self.said.get(key)
        if found is None:
            found = self.said[key] = quality(self, sites)
        return found


class Moments(NamedTuple):
    """Number, mean and sum of squared distances from it, of any number of values."""

    number: int
    mean: float
    squares: float

    def and_(self, more: "Moments") -> "Moments":
        """Those of both together (Chan, Golub and LeVeque, Am Stat 1983;37:242-7)."""
        number = self.number + more.number
        apart = more.mean - self.mean
        return Moments(
            number,
            self.mean + apart * more.number / number,
            self.squares + more.squares + apart * apart * self.number * more.number / number,
        )


def moments(values: Sequence[float]) -> Moments:
    """Of some values, at least one. Of whole numbers the sums are exact, and quicker."""
    number, total = len(values), sum(values)
    mean = total / number
    if type(total) is int:
        squares = (number * sum(map(mul, values, values)) - total * total) / number
    else:
        squares = sum((each - mean) * (each - mean) for each in values)
    return Moments(number, mean, squares)


def has_last_digit(item: Item) -> bool:
    """Whether the last digit of its values is something else than the answer: a scale of 0 to 10 has none."""
    if item.type not in NUMERIC:
        return False
    if item.min is None or item.max is None:
        return item.type is not ItemType.SCALE
    return (item.max - item.min) * Decimal(10) ** (item.decimals or 0) >= STEPS


def last_digit(value: float, decimals: int | None) -> int | None:
    """The last digit as the item is written; without a number of decimals the last that was written, if any."""
    if isinstance(value, int):
        return 0 if decimals else abs(value) % 10
    if decimals is not None:
        return int(round(abs(value) * 10.0**decimals) % 10)
    said = repr(value).removesuffix(".0")[-1:]
    return int(said) if said.isdigit() and "e" not in repr(value) else None


# What it says


@dataclass(frozen=True)
class Share:
    """So many `of` all at a site; `p` is the chance of a difference from the other sites like this one, None where it
    is not said."""

    number: int
    of: int
    p: float | None = None
    stands_out: bool = False


@dataclass(frozen=True)
class QualityLine:
    """How a site types (see `Typing`); `site` is empty for all that are shown."""

    site: str
    late: Share
    corrected: Share
    alike: Share

    @property
    def stands_out(self) -> bool:
        """Whether it does by any of them."""
        return self.late.stands_out or self.corrected.stands_out or self.alike.stands_out


@dataclass(frozen=True)
class DigitLine:
    """The last digits of an item at a site beside the other sites (without those of them that are far apart).
    `difference`: the share of them that is elsewhere than there; `digit` is most in excess: its `share` here and
    `elsewhere`. Shares in whole per cents."""

    site: str
    instrument: str
    item: str
    number: int
    difference: float
    digit: int
    share: float
    elsewhere: float
    p: float
    stands_out: bool


@dataclass(frozen=True)
class LevelLine:
    """The values of an item at a site beside the other sites, visit by visit: how many standard deviations (of one
    site) they are above the median site, and how many times as spread as there. One decimal, so that no two looks tell
    a value."""

    site: str
    instrument: str
    item: str
    number: int
    distance: float
    spread: float
    is_far: bool
    is_odd: bool
    """Whether it is spread much less or more than at the other sites."""

    @property
    def stands_out(self) -> bool:
        """Whether it does by its level or its spread."""
        return self.is_far or self.is_odd


@dataclass(frozen=True)
class Quality:
    """What the data of some sites look like beside each other; of one site alone there is nothing to compare."""

    at: datetime
    sites: tuple[QualityLine, ...]
    digits: tuple[DigitLine, ...]
    levels: tuple[LevelLine, ...]

    @property
    def standing_out(self) -> tuple[str, ...]:
        """The sites that do by anything, in order."""
        found = {each.site for lines in (self.sites, self.digits, self.levels) for each in lines if each.stands_out}
        return tuple(each.site for each in self.sites if each.site in found)


def quality(measured: Measured, codes: Mapping[int, str]) -> Quality:
    """Each of these sites beside the others of them."""
    return Quality(
        at=measured.at,
        sites=_typing_lines(codes, measured.typing),
        digits=_digit_lines(codes, measured.digits),
        levels=_level_lines(codes, measured.levels),
    )


# Chance


def chance(chi_square: float, freedom: int) -> float:
    """How likely chi-square is this large or larger by chance (Abramowitz and Stegun 1964, 26.4.4 and 26.4.5)."""
    half = chi_square / 2
    if freedom % 2:
        return erfc(sqrt(half)) + exp(-half) * sum(
            float(half ** (i - 0.5)) / gamma(i + 0.5) for i in range(1, freedom // 2 + 1)
        )
    return exp(-half) * sum(float(half**i) / gamma(i + 1) for i in range(freedom // 2))


def homogeneity(here: Sequence[int], there: Sequence[int]) -> float | None:
    """Whether two rows of counts are of one kind: the p-value of Pearson's chi-square test of homogeneity.

    None where it does not hold: between two kinds with an expected count below 5, between more with one below 1
    (Cochran, Biometrics 1954;10:417-51) or with fewer than 6 on average (Roscoe and Byars, J Am Stat Assoc
    1971;66:755-9); and when there is but one kind.
    """
    both = [(one, other) for one, other in zip(here, there, strict=True) if one + other]
    rows = sum(here), sum(there)
    total = sum(rows)
    if len(both) < 2 or not all(rows):
        return None
    expected = [row * (one + other) / total for one, other in both for row in rows]
    found = [count for pair in both for count in pair]
    if min(expected) < (5 if len(both) == 2 else 1) or total < 6 * len(expected):
        return None
    statistic = sum((count - each) ** 2 / each for count, each in zip(found, expected, strict=True))
    return min(1.0, chance(statistic, len(both) - 1))


def least_likely(chances: Iterable[float | None], rate: float = FALSE_SHARE) -> float:
    """The largest p-value that still stands out among so many (Benjamini and Hochberg, J R Stat Soc B 1995;57:289-300);
    below nought when none does."""
    ordered = sorted(each for each in chances if each is not None)
    standing = [each for rank, each in enumerate(ordered, 1) if each <= rate * rank / len(ordered)]
    return standing[-1] if standing else -1.0


def told(p: float | None) -> float | None:
    """A p-value as it is told: to two figures."""
    return None if p is None else float(f"{p:.2g}")


# Site by site

Counts = Sequence[int]
Apart = Callable[[Counts, Counts], float | None]
"""How far counts at a site are from those at the others, None where that is nothing to ask about."""


def compared_with(rows: Mapping[int, Counts], apart: Apart) -> dict[int, Counts]:
    """The counts at the other sites that each site is held against, without those of sites that are far apart.

    One odd site would make all others look odd, who are held against it. So the furthest is taken out, time and again,
    while there are three or more: of two nobody can say which is the odd one.
    """
    found: dict[int, Counts] = {}
    rest = dict(rows)
    total = [sum(column) for column in zip(*rest.values(), strict=True)]

    def others(here: Counts) -> Counts:
        return [every - one for every, one in zip(total, here, strict=True)]

    while len(rest) > 2:
        far = {site: by for site, here in rest.items() if (by := apart(here, others(here))) is not None}
        if not far:
            break
        site = max(far, key=far.__getitem__)
        found[site] = others(rest[site])
        total = list(found[site])
        del rest[site]
    return {**found, **{site: others(here) for site, here in rest.items()}}


def _typing_lines(codes: Mapping[int, str], typing: Iterable[Typing]) -> tuple[QualityLine, ...]:
    found = {each.site_id: each for each in typing}
    lines = [found.get(site, Typing(site)) for site in codes]
    every = Typing(0, *(sum(column) for column in zip(*(each[1:] for each in lines), strict=True)))
    parts = [
        _shares([(getattr(each, number), getattr(each, of)) for each in lines])
        for number, of in (("late", "entries"), ("corrected", "answers"), ("alike", "compared"))
    ]
    made = [QualityLine(code, *shares) for code, *shares in zip(codes.values(), *parts, strict=True)]
    if len(made) != 1:
        made.append(
            QualityLine(
                "",
                Share(every.late, every.entries),
                Share(every.corrected, every.answers),
                Share(every.alike, every.compared),
            )
        )
    return tuple(made)


def _shares(counts: Sequence[tuple[int, int]]) -> list[Share]:
    """What stands out is more than elsewhere: fewer are nothing to ask about."""
    rows = {}
    for site, (number, of) in enumerate(counts):
        most = min(number, of)  # an answer that was corrected may be gone since
        rows[site] = most, of - most
    others = compared_with(rows, _more)
    chances = [homogeneity(rows[site], others[site]) for site in rows]
    least = least_likely(chances)
    return [
        Share(*said, told(p), p is not None and p <= least and _more(rows[site], others[site]) is not None)
        for site, (said, p) in enumerate(zip(counts, chances, strict=True))
    ]


def _more(here: Counts, there: Counts) -> float | None:
    """How much larger the share of the first count is at a site than at the others."""
    p = homogeneity(here, there)
    if p is None or p > UNLIKELY:
        return None
    more = here[0] / sum(here) - there[0] / sum(there)
    return more if more >= DIFFERENT_SHARE else None


def _digits_apart(here: Counts, there: Counts) -> float | None:
    """Which share of the last digits is elsewhere than there: half the sum of the differences."""
    p = homogeneity(here, there) if min(sum(here), sum(there)) >= LEAST_DIGITS else None
    by = sum(abs(each) for each in _differences(here, there)) / 2 if p is not None and p <= UNLIKELY else 0
    return by if by >= DIFFERENT_DIGITS else None


def _differences(here: Counts, there: Counts) -> list[float]:
    one, other = sum(here), sum(there)
    return [each / one - elsewhere / other for each, elsewhere in zip(here, there, strict=True)]


def _digit_lines(codes: Mapping[int, str], digits: Iterable[Digits]) -> tuple[DigitLine, ...]:
    items: dict[tuple[str, str], dict[int, list[int]]] = {}
    for each in digits:
        if each.site_id in codes:
            at = items.setdefault((each.instrument, each.item), {}).setdefault(each.site_id, [0] * 10)
            at[each.digit] += each.number
    made: list[DigitLine] = []
    for (instrument, item), sites in items.items():
        others = compared_with(sites, _digits_apart)
        for site in codes:
            if site not in sites or min(sum(sites[site]), sum(others[site])) < LEAST_DIGITS:
                continue
            here, there = sites[site], others[site]
            p = homogeneity(here, there)
            if p is None:
                continue
            apart = _differences(here, there)
            digit = max(range(10), key=apart.__getitem__)
            made.append(
                DigitLine(
                    site=codes[site],
                    instrument=instrument,
                    item=item,
                    number=sum(here),
                    difference=sum(abs(each) for each in apart) / 2,
                    digit=digit,
                    share=here[digit] / sum(here),
                    elsewhere=there[digit] / sum(there),
                    p=p,
                    stands_out=_digits_apart(here, there) is not None,
                )
            )
    least = least_likely(each.p for each in made)
    return tuple(
        replace(
            each,
            difference=round(each.difference, 2),
            share=round(each.share, 2),
            elsewhere=round(each.elsewhere, 2),
            p=told(each.p) or 0.0,
            stands_out=each.stands_out and each.p <= least,
        )
        for each in made
    )


def _level_lines(codes: Mapping[int, str], levels: Iterable[Level]) -> tuple[LevelLine, ...]:
    items: dict[tuple[str, str], dict[str, list[Level]]] = defaultdict(lambda: defaultdict(list))
    for each in levels:
        if each.site_id in codes:
            items[each.instrument, each.item][each.visit].append(each)
    order = {site: place for place, site in enumerate(codes)}
    made: list[LevelLine] = []
    for (instrument, item), visits in items.items():
        for site, *numbers in sorted(_placed(visits), key=lambda each: order[each[0]]):
            made.append(LevelLine(codes[site], instrument, item, *numbers))
    return tuple(made)


def _placed(visits: Mapping[str, Sequence[Level]]) -> list[tuple[Any, ...]]:
    """Of each site with enough values of an item: site, number, distance, spread, and whether they stand out.

    Values are measured from the mean of their visit, since a site that opened late has other visits behind it. Their
    place is told from the median site and in the spread of the median site, so that one site moves neither. What is far
    is judged by the spread between sites (the median absolute deviation, where there are three or more), to which the
    error of the sampling is added: between two sites there is nothing else to go by.
    """
    number: Counter[int] = Counter()
    above: dict[int, float] = defaultdict(float)
    squares: dict[int, float] = defaultdict(float)
    at: Counter[int] = Counter()
    for levels in visits.values():
        if len(levels) < 2:
            continue
        total = sum(each.number for each in levels)
        mean = sum(each.number * each.mean for each in levels) / total
        for each in levels:
            number[each.site_id] += each.number
            above[each.site_id] += each.number * (each.mean - mean)
            squares[each.site_id] += each.squares
            at[each.site_id] += 1
    sites = [site for site, count in number.items() if count >= LEAST_VALUES]
    if len(sites) < 2:
        return []
    offsets = {site: above[site] / number[site] for site in sites}
    spreads = {site: sqrt(squares[site] / (number[site] - at[site])) for site in sites}
    every, wide = sorted(offsets.values()), sorted(spreads.values())
    between = _deviation(every)
    between_spreads = _deviation([log(each) for each in wide if each])
    total = sum(number[site] for site in sites)
    found = []
    for site in sites:
        usual = _middle(wide, spreads[site])
        if not usual:
            continue
        others = total - number[site]
        apart = offsets[site] - _middle(every, offsets[site])
        distance, spread = apart / usual, spreads[site] / usual
        error = sqrt(between**2 + usual**2 * (1 / number[site] + 1 / others))
        far = abs(apart) > FAR * error and abs(distance) >= DISTANT
        odd = not spread
        if spread and not NARROW < spread < WIDE:
            # the standard error of the logarithm of a standard deviation (Ahn and Fessler 2003, for normal values)
            sampling = 1 / (2 * (number[site] - 1)) + 1 / (2 * (others - 1))
            odd = abs(log(spread)) > FAR * sqrt(between_spreads**2 + sampling)
        found.append((site, number[site], round(distance, 1) + 0.0, round(spread, 1), far, odd))
    return found


def _middle(ordered: Sequence[float], value: float) -> float:
    """The median of all; of two the other one, since nobody can say which is the odd one."""
    return median(ordered) if len(ordered) != 2 else sum(ordered) - value


def _deviation(values: Sequence[float]) -> float:
    """How far values are from their median, as a standard deviation of normal values; nought for fewer than three."""
    if len(values) < 3:
        return 0.0
    middle = median(values)
    return 1.4826 * median(abs(each - middle) for each in values)
