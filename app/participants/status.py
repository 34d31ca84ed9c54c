"""Where can a participant stand in the trial? A file of its own, so that rules need no tables to speak of it."""

from enum import StrEnum


class Status(StrEnum):
    """Where a participant stands in the trial."""

    SCREENED = "screened"  # eligible, not yet consented
    SCREEN_FAILED = "screen_failed"
    CONSENTED = "consented"
    RANDOMISED = "randomised"
    COMPLETED = "completed"
    WITHDRAWN = "withdrawn"
    LOST = "lost"  # nobody reaches them; what is due stays due, should they be found again
    DIED = "died"
