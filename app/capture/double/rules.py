"""When are two entries of one form one? The states of a pair, who may do what in each, and what is compared."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.capture.rules import same_value
from app.people.access import Actor
from app.people.permissions import Permission, Role, holders
from app.studies.definition import Instrument, ItemType, Study


class State(StrEnum):
    """Where a form that is entered twice stands. A form without any entry has no pair yet."""

    AWAITS_SECOND = "awaits_second"
    TO_RECONCILE = "to_reconcile"
    AGREED = "agreed"  # both entered the same
    RECONCILED = "reconciled"


class Step(StrEnum):
    """What happens to it."""

    BEGIN = "begin"  # somebody saves the form for the first time
    MATCH = "match"  # somebody else enters the same
    DIFFER = "differ"  # somebody else enters something else
    RECONCILE = "reconcile"


TRANSITIONS: Mapping[State | None, Mapping[Step, State]] = {
    None: {Step.BEGIN: State.AWAITS_SECOND},
    State.AWAITS_SECOND: {Step.MATCH: State.AGREED, Step.DIFFER: State.TO_RECONCILE},
    State.TO_RECONCILE: {Step.RECONCILE: State.RECONCILED},
    State.AGREED: {},
    State.RECONCILED: {},
}
"""What each step makes of each state; a step that is not here cannot be taken."""

PENDING = frozenset({State.AWAITS_SECOND, State.TO_RECONCILE})


class Chosen(StrEnum):
    """Which of two answers stands."""

    FIRST = "first"
    SECOND = "second"
    OTHER = "other"  # neither: the right one is typed


@dataclass(frozen=True)
class Compared:
    """One answer as both entered it; None is blank."""

    item: str
    first: object
    second: object

    @property
    def agrees(self) -> bool:
        return same_value(self.first, self.second)


def compared(form: Instrument, first: Mapping[str, object], second: Mapping[str, object]) -> tuple[Compared, ...]:
    """The answers two entries are compared by: all that a person typed, where at least one of them has something.

    Scores follow from the answers, so that a difference in them would count one mistake twice.
    """
    typed = [item.code for item in form.items if item.type is not ItemType.CALCULATED]
    return tuple(
        Compared(code, first.get(code), second.get(code))
        for code in typed
        if first.get(code) is not None or second.get(code) is not None
    )


def after(state: State | None, step: Step) -> State | None:
    """The state after a step, or None when the step cannot be taken there."""
    return TRANSITIONS[state].get(step)


def could_enter(by: Actor, site_id: int) -> bool:
    """Whether this person could be the second: they enter forms at this site, and neither read the log nor export.

    Asked of their roles, not of what a token may do: who holds a token with less could still come back without it.
    """
    entering = any(g.role in holders(Permission.ENTRY_SAVE) and g.site_id in (None, site_id) for g in by.grants)
    return entering and not reads_elsewhere(by)


def reads_elsewhere(by: Actor) -> bool:
    """Whether this person could read the first entry in the log or in an export."""
    return any(by.roles & holders(each) for each in (Permission.AUDIT_READ, Permission.EXPORT_RUN))


def why_withheld(state: State | None, first_by: str, site_id: int, *, by: Actor) -> str | None:
    """Why this person is not shown what the first entered, or None when they may see it."""
    if state is not State.AWAITS_SECOND or by.username == first_by or not could_enter(by, site_id):
        return None
    return (
        "This form is entered twice, and a second entry is still to come: until then nobody who could make it sees the "
        "first. Open the second entry and enter it from the paper."
    )


def why_not_change(state: State | None, first_by: str, *, by: Actor) -> str | None:
    """Why the first entry cannot be saved again by this person, or None."""
    if state is State.AWAITS_SECOND and by.username != first_by:
        return (
            f"{first_by} entered this form, and it is entered twice. Only they can still correct it; enter it a second "
            "time from the paper."
        )
    if state is State.TO_RECONCILE:
        return (
            "This form was entered twice, and the two entries differ. It is changed by settling the differences: see "
            "Double entry."
        )
    return None


def why_not_second(state: State | None, first_by: str, *, by: Actor) -> str | None:
    """Why this person cannot make the second entry, or None."""
    if state is None:
        return "Nobody has entered this form yet, so there is no second entry to make. Enter it as usual first."
    if by.username == first_by:
        return "You made the first entry. The second one is made by somebody else, who has not seen yours."
    if reads_elsewhere(by):
        return (
            "You can read the first entry in the audit log or in an export. Somebody makes the second entry who can "
            "read neither."
        )
    if after(state, Step.MATCH) is None:
        return "This form has been entered twice already. Open it to see what is saved."
    return None


def why_not_reconcile(study: Study, state: State, second_by: str | None, *, by: Actor) -> str | None:
    """Why this person cannot settle the differences, or None."""
    if after(state, Step.RECONCILE) is None:
        if state is State.AWAITS_SECOND:
            return "The second entry is still to come. There is nothing to settle yet."
        return "There is nothing to settle here any more. Open the form to see what is saved."
    if study.double_entry.reconciled_by == "second":
        if by.username != second_by:
            return f"In this study the person who made the second entry settles the differences: {second_by}."
    elif Role.DATA_MANAGER not in by.roles:
        return "In this study a data manager settles the differences. Tell yours what the paper says."
    return None


def why_not_sign(study: Study, state: State | None) -> str | None:
    """Why a form that is entered twice cannot be signed yet, or None."""
    if state not in PENDING or "signature" not in study.double_entry.before:
        return None
    if state is State.AWAITS_SECOND:
        return "This form waits for its second entry. It can be signed once two people have entered the same."
    return "The two entries of this form differ. It can be signed once the differences are settled."


def is_held_back(study: Study, state: State | None) -> bool:
    """Whether a form counts as incomplete because it was not entered twice yet, or the differences are not settled."""
    return state in PENDING and "completion" in study.double_entry.before


def said_together(reasons: Collection[str], longest: int = 1900) -> str:
    """Several reasons as one, each once."""
    return "; ".join(dict.fromkeys(reasons))[:longest]
