"""How does a message write a day? As the pages do, whatever language the process runs in."""

from datetime import date

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def day_in_words(day: date) -> str:
    """`14 Mar 2026`."""
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"
