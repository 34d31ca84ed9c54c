"""What does a date mean of which only the year, or the month, is known?"""

import re
from calendar import monthrange
from datetime import date
from functools import lru_cache

from babel import Locale, UnknownLocaleError

_BETWEEN = re.compile(r"\s*([./-])\s*")
_YEAR_FIRST = re.compile(r"(\d{4})[./-](\d{1,2})(?:[./-](\d{1,2}))?")
_YEAR_LAST = re.compile(r"(?:(\d{1,2})[./-])?(\d{1,2})[./-](\d{4})")
_NAMED = re.compile(r"(?:(\d{1,2})[. ](?:de )?)?([^\W\d]+)[. ](?:de |del )?(\d{4})")
_LONGEST = 40
_PARTIAL = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")


def days_of(text: str) -> tuple[date, date] | None:
    """The first and the last day that `2026`, `2026-03` or `2026-03-14` can mean; None for anything else."""
    found = _PARTIAL.fullmatch(text) if text.isascii() else None
    if found is None:
        return None
    year, month, day = (int(part) if part else None for part in found.groups())
    try:
        first = date(year or 0, month or 1, day or 1)
    except ValueError:
        return None
    if day is not None:
        return first, first
    if month is not None:
        return first, first.replace(day=monthrange(first.year, first.month)[1])
    return first, date(first.year, 12, 31)


def ways_to_read(text: str, language: str) -> tuple[str, ...]:
    """What a date, typed as people of this language write one, can mean: each as year-month-day, as far as it is known.

    Nothing when it is no date; two where day and month may be either, as 03/04/2026 in English, whose readers differ.

    >>> ways_to_read("3.4.2026", "de"), ways_to_read("03/2026", "en")
    (('2026-04-03',), ('2026-03',))
    """
    text = _BETWEEN.sub(r"\1", " ".join(text.split()))
    if len(text) > _LONGEST:
        return ()
    if days_of(text):
        return (text,)
    found: list[tuple[str, str, str | None]] = []
    if text.isascii() and (said := _YEAR_FIRST.fullmatch(text)):
        found = [(said[1], said[2], said[3])]
    elif text.isascii() and (said := _YEAR_LAST.fullmatch(text)):
        first, second, year = said.groups()
        found = [(year, second, first)]
        if first is not None and not _day_first(language):
            found.append((year, first, second))
    elif said := _NAMED.fullmatch(text.lower()):
        month = _months(language).get(said[2])
        found = [(said[3], str(month), said[1])] if month else []
    ways = ("-".join((year, *(part.zfill(2) for part in (month, day) if part))) for year, month, day in found)
    return tuple(dict.fromkeys(way for way in ways if days_of(way)))


def _locale(language: str) -> Locale:
    try:
        return Locale.parse(language.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        return Locale("en")


def month_names(language: str) -> list[str]:
    """The twelve months as a list of this language names them."""
    known = _locale(language).months["stand-alone"]["wide"]
    return [str(known[number]) for number in range(1, 13)]


@lru_cache(maxsize=32)
def _day_first(language: str) -> bool:
    """Whether everybody who writes this language puts the day before the month; in English they differ."""
    locale = _locale(language)
    return locale.language != "en" and locale.date_formats["short"].pattern.lower().lstrip(". ").startswith("d")


@lru_cache(maxsize=32)
def _months(language: str) -> dict[str, int]:
    """The months by their names, whole and short, in lower case and without a point behind."""
    known = _locale(language).months
    return {
        name.lower().rstrip("."): number
        for kind in ("format", "stand-alone")
        for width in ("abbreviated", "wide")
        for number, name in known[kind][width].items()
    }
