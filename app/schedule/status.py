"""What can become of a visit or an appointment? A file of its own, so that rules need no tables to speak of it."""

from enum import StrEnum


class VisitStatus(StrEnum):
    """What became of a visit. `stopped`: no longer due, since the participant withdrew or the plan changed.

    `in_error`: one outside the plan that never was. It counts nowhere, and its number is not given again.
    """

    PLANNED = "planned"
    HELD = "held"
    MISSED = "missed"
    STOPPED = "stopped"
    IN_ERROR = "in_error"


class AppointmentStatus(StrEnum):
    """What became of an appointment. `no_show`: nobody came; the visit itself may still be held another day."""

    BOOKED = "booked"
    HELD = "held"
    NO_SHOW = "no_show"
    CANCELLED = "cancelled"


UNSCHEDULED = "unscheduled"
"""The kind of an appointment for a visit that is not in the plan."""
