"""How does a message write a day, and can a text be kept? The same wherever it is asked, whatever the language."""

from collections.abc import Sequence
from datetime import date

from app.foundation.errors import FieldProblem

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def day_in_words(day: date) -> str:
    """`14 Mar 2026`."""
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def one_of(words: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def text_problems(field: str, text: str, message: str, longest: int) -> list[FieldProblem]:
    """What is wrong with a text of several lines that must be there: `message` says what to write."""
    if not text.strip():
        return [FieldProblem(field, "required", message)]
    if len(text) > longest:
        return [FieldProblem(field, "length", f"This is longer than {longest} characters. Shorten it.")]
    if any(not letter.isprintable() and letter not in "\r\n\t" for letter in text):
        return [FieldProblem(field, "control", "There is a character in it that cannot be kept. Type it again.")]
    return []
