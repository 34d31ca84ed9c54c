"""What is true of a visit? When it is due, whether a day is in its window, and what may become of it.

Windows are counted in whole calendar days, so neither daylight saving nor the time of day matters.
"""

from datetime import date
from enum import StrEnum
from typing import NamedTuple, Protocol

from app.participants.rules import why_not_after_death
from app.participants.status import Status
from app.people.permissions import Permission
from app.schedule.status import VisitStatus
from app.studies.definition import Visit, VisitKind, unscheduled_number
from app.studies.rules import planned_dates


class VisitState(StrEnum):
    """How a visit stands on a day, as pages show it."""

    UPCOMING = "upcoming"
    DUE = "due"
    OVERDUE = "overdue"
    HELD = "held"
    HELD_EARLY = "held_early"
    HELD_LATE = "held_late"
    MISSED = "missed"
    STOPPED = "stopped"
    IN_ERROR = "in_error"


class Planned(NamedTuple):
    """When a visit is due, and the first and last day of its window."""

    target_on: date
    opens_on: date
    closes_on: date


class Windowed(Protocol):
    """Anything with a window: a visit's row, or a planned visit."""

    @property
    def opens_on(self) -> date: ...
    @property
    def closes_on(self) -> date: ...


class Kept(Windowed, Protocol):
    """A visit as far as its rules go; `app.schedule.models.ParticipantVisit` is one."""

    @property
    def status(self) -> str: ...
    @property
    def held_on(self) -> date | None: ...


TRANSITIONS: dict[VisitStatus, frozenset[VisitStatus]] = {
    VisitStatus.PLANNED: frozenset({VisitStatus.HELD, VisitStatus.MISSED, VisitStatus.STOPPED}),
    VisitStatus.HELD: frozenset({VisitStatus.HELD, VisitStatus.PLANNED}),  # its day corrected; or recorded by mistake
    VisitStatus.MISSED: frozenset({VisitStatus.PLANNED}),
    VisitStatus.STOPPED: frozenset(),  # but see why_not_record
    VisitStatus.IN_ERROR: frozenset(),
}
_OUTSIDE: dict[VisitStatus, frozenset[VisitStatus]] = {
    # Earlier versions let one be opened again, recorded as missed, and stopped with the others.
    VisitStatus.PLANNED: frozenset({VisitStatus.HELD, VisitStatus.IN_ERROR}),
    VisitStatus.HELD: frozenset({VisitStatus.HELD, VisitStatus.IN_ERROR}),
    VisitStatus.MISSED: frozenset({VisitStatus.IN_ERROR}),
    VisitStatus.STOPPED: frozenset({VisitStatus.IN_ERROR}),
    VisitStatus.IN_ERROR: frozenset({VisitStatus.HELD}),
}
"""The same of a visit outside the plan: nobody waited for it, so that it was held, or it never was."""

_AS_IT_IS = {
    VisitStatus.PLANNED: "This visit is planned. Record that it was held, or that it was missed.",
    VisitStatus.HELD: "This visit is recorded as held. Correct its date, or reopen it, and say why.",
    VisitStatus.MISSED: "This visit is recorded as missed. Reopen it first, and say why.",
    VisitStatus.STOPPED: "This visit is not due any more: the participant left, treatment was stopped, or the plan "
    "changed.",
    VisitStatus.IN_ERROR: "This visit is marked as entered in error. If it took place, take the mark back first.",
}
_IS_OUTSIDE = (
    "This visit is not in the plan, so nobody waited for it. If it was recorded by mistake, mark it as entered in "
    "error."
)

RECORDED_WITH = {
    VisitKind.BASELINE: Permission.VISIT_RECORD,
    VisitKind.ASSESSMENT: Permission.VISIT_RECORD,
    VisitKind.TREATMENT: Permission.TREATMENT_RECORD,
}
"""Treatment sessions belong to those who treat: whoever assesses must not learn from them (ICH E6(R3) 4.1.2)."""


def planned(visit: Visit, anchor_on: date) -> Planned:
    """When a visit is due, counted from the day of its anchor."""
    return Planned(*planned_dates(visit, anchor_on))


def in_window(visit: Windowed, on: date) -> bool:
    """Whether a day lies in the window; its first and last day do."""
    return visit.opens_on <= on <= visit.closes_on


def days_left(visit: Windowed, today: date) -> int:
    """Days until the window closes: 0 on its last day, negative afterwards."""
    return (visit.closes_on - today).days


def visit_state(visit: Kept, today: date) -> VisitState:
    """How a visit stands on a day."""
    if visit.status == VisitStatus.HELD and visit.held_on is not None:
        if visit.held_on < visit.opens_on:
            return VisitState.HELD_EARLY
        return VisitState.HELD_LATE if visit.held_on > visit.closes_on else VisitState.HELD
    if visit.status == VisitStatus.PLANNED:
        if today < visit.opens_on:
            return VisitState.UPCOMING
        return VisitState.OVERDUE if today > visit.closes_on else VisitState.DUE
    return VisitState(visit.status)


def why_not_change(status: VisitStatus, new: VisitStatus, *, code: str = "") -> str | None:
    """Why the visit with this code cannot become held, missed, stopped or planned again, or None."""
    is_outside = unscheduled_number(code) is not None
    transitions = _OUTSIDE if is_outside else TRANSITIONS
    if new in transitions[status] and not (status is new is VisitStatus.HELD):
        return None
    if is_outside and new in (VisitStatus.MISSED, VisitStatus.PLANNED) and status is not VisitStatus.IN_ERROR:
        return _IS_OUTSIDE
    return _AS_IT_IS[status]


def why_not_mark_in_error(status: VisitStatus, code: str) -> str | None:
    """Why the visit with this code cannot be marked as entered in error, or None."""
    if unscheduled_number(code) is None:
        return "This visit is in the plan. If it was recorded by mistake, reopen it, and say why."
    return why_not_change(status, VisitStatus.IN_ERROR, code=code)


def why_not_restore(status: VisitStatus) -> str | None:
    """Why no mark can be taken back from a visit, or None."""
    return None if status is VisitStatus.IN_ERROR else "This visit is not marked as entered in error."


def why_not_record(status: VisitStatus, *, held_on: date, stopped_on: date | None) -> str | None:
    """Why a visit cannot be recorded as held on this day, or None.

    `stopped_on` is the day on which the participant left (for a session, also: stopped treatment). What was held until
    then may still be recorded afterwards (CTR Art. 28(3)).
    """
    if status is VisitStatus.STOPPED and stopped_on is not None and held_on <= stopped_on:
        return None
    return why_not_change(status, VisitStatus.HELD)


def why_not_correct(status: VisitStatus) -> str | None:
    """Why the day of a visit cannot be corrected, or None."""
    return None if status is VisitStatus.HELD else _AS_IT_IS[status]


def why_not_with(kind: VisitKind, permission: Permission) -> str | None:
    """Why this kind of visit cannot be recorded by somebody acting with this permission, or None."""
    if RECORDED_WITH[kind] is permission:
        return None
    if kind is VisitKind.TREATMENT:
        return "Treatment sessions are recorded by the clinician who treats. Leave this one to them."
    return "This is not a treatment session. A coordinator or assessor records it."


def why_not_add(
    status: Status,
    consented_on: date | None,
    *,
    participant: str = "",
    fatal_event: int | None = None,
    held_on: date | None = None,
    left_on: date | None = None,
) -> str | None:
    """Why no visit outside the plan is recorded for a participant (their code), or None.

    One that was held until the day on which they left may still be recorded (`held_on`; None: not said yet). While a
    fatal event stands and the death is not recorded, nobody knows until when: the death is recorded first.
    """
    if status is Status.SCREEN_FAILED:
        return "This participant did not pass screening, so there are no visits. Check the participant's code."
    if consented_on is None:
        return "Consent is not complete, so nothing is recorded at a visit yet. Complete consent first."
    if status is not Status.DIED and (reason := why_not_after_death(participant, status, fatal_event)):
        return reason
    if left_on is None or held_on is None or held_on <= left_on:
        return None
    if status is Status.DIED:
        return (
            "This participant died before that day, so no visit was held. Choose the day of the visit, or correct the "
            "record of the death."
        )
    if status is Status.WITHDRAWN:
        return (
            "This participant withdrew from visits before that day, so nothing is recorded at a visit. Write down a "
            "contact instead; report what concerns their safety as an adverse event."
        )
    return None


def why_not_open(status: Status) -> str | None:
    """Why no visit becomes due for a participant, or None."""
    if status is Status.SCREEN_FAILED:
        return "This participant did not pass screening, so no visit is due."
    if status is Status.WITHDRAWN:
        return "This participant has withdrawn, so no visit is due."
    return None
