"""What may have become of a slot that is reserved for downtime?"""

from enum import StrEnum


class SlotState(StrEnum):
    """Reserved: in a pack, nobody knows yet. Used: somebody was randomised with it. Void: never used, by nobody."""

    RESERVED = "reserved"
    USED = "used"
    VOID = "void"
