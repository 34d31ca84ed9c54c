"""How far is a site on its way to a version? A file of its own, so that rules need no tables to speak of it."""

from enum import StrEnum


class State(StrEnum):
    """`planned`: its day has not come. `moving`: in force there; planned visits follow, batch by batch."""

    PLANNED = "planned"
    MOVING = "moving"
    DONE = "done"
    CANCELLED = "cancelled"


OPEN = (State.PLANNED, State.MOVING)
