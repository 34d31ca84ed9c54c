"""What does a date mean of which only the year, or the month, is known?"""

import re
from calendar import monthrange
from datetime import date

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
