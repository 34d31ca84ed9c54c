"""How does a message write a day, can a text be kept, and which Unicode is a file in? The same wherever it is asked,
whatever the language."""

from collections.abc import Sequence
from datetime import date

from app.foundation.errors import FieldProblem

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),  # before that of UTF-16, which it begins with
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def marked_unicode(data: bytes) -> str | None:
    """The encoding that a byte order mark at the beginning of a file tells; None where there is no mark."""
    return next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)


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
