"""How far can an entry be? A file of its own, so that rules need no tables to speak of it."""

from enum import StrEnum


class EntryStatus(StrEnum):
    """How far an entry is: partial may lack answers, complete satisfies every check."""

    PARTIAL = "partial"
    COMPLETE = "complete"
