"""What can become of a visit? A file of its own, so that rules need no tables to speak of it."""

from enum import StrEnum


class VisitStatus(StrEnum):
    """What became of a visit. `stopped`: no longer due, because the participant withdrew from visits."""

    PLANNED = "planned"
    HELD = "held"
    MISSED = "missed"
    STOPPED = "stopped"
