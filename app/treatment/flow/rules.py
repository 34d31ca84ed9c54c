"""Where does each participant stand in the flow of CONSORT 2025 (items 22 and 26), and what adds up by arm?

Everybody with an arm is in exactly one box at every level, so that of each arm, whatever was recorded:
allocated = received + not received + pending + not known, and allocated = analysed + excluded for every outcome.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import NamedTuple

from app.capture.groups import cells_of
from app.participants.status import Status
from app.schedule.status import VisitStatus
from app.studies.definition import ItemType, Outcome, Study, Visit, VisitKind
from app.treatment.rules import modules_of, treatment_visits


class Delivery(StrEnum):
    """What became of the treatment somebody was allocated to."""

    RECEIVED = "received"  # at least one session was held
    NOT_RECEIVED = "not_received"
    PENDING = "pending"  # nothing is recorded yet, and it still can be
    NOT_KNOWN = "not_known"  # the study records no sessions for this arm


class Seen(StrEnum):
    """What became of one visit of one participant."""

    FOLLOWED = "followed"
    MISSED = "missed"
    WITHDRAWN = "withdrawn"
    LOST = "lost"
    DIED = "died"
    LATE = "late"  # the window is over, and nothing is recorded
    TO_COME = "to_come"
    NOT_PLANNED = "not_planned"  # not in their plan, or taken out of it


class Why(StrEnum):
    """Why treatment was not received or not gone on with, or why somebody is not in an analysis."""

    WITHDRAWN = "withdrawn"  # `of` is the level
    TREATMENT_STOPPED = "treatment_stopped"  # by who treats, and they are followed up
    LOST = "lost"
    DIED = "died"
    RANDOMISED_IN_ERROR = "randomised_in_error"
    SESSIONS_MISSED = "sessions_missed"
    MISSED = "missed"
    LATE = "late"
    TO_COME = "to_come"
    NOT_PLANNED = "not_planned"
    NO_FORM = "no_form"  # the visit was held
    NO_VALUE = "no_value"  # the form is there
    MISSING_CODE = "missing_code"  # `of` is the code
    ENTERED_IN_ERROR = "entered_in_error"
    USE_WITHDRAWN = "use_withdrawn"


@dataclass(frozen=True)
class Reason:
    """A reason and how many it is true of; `of` is a code of the study where the reason has one, else empty."""

    why: Why
    of: str
    number: int


@dataclass(frozen=True)
class VisitRow:
    """A visit as it is kept; `recorded` says whether it is recorded what was delivered."""

    status: str
    closes_on: date
    held_on: date | None
    recorded: bool = False


@dataclass(frozen=True)
class Form:
    """An entry as it is kept: its document, whether it was entered in error, and whether it may be used."""

    values: Mapping[str, object]
    in_error: bool = False
    used: bool = True


@dataclass(frozen=True)
class Person:
    """One participant with an arm, or with a group that was observed (empty: not recorded).

    `left_on` is the day on which they withdrew, were lost or died; `today` the day at their site. Forms are by visit
    and instrument, those that repeat in their order.
    """

    arm: str
    site: int
    status: str
    today: date
    study: Study
    level: str | None = None
    left_on: date | None = None
    withdrawn_on: date | None = None
    treatment_stopped: bool = False
    in_error: bool = False
    visits: Mapping[str, VisitRow] = field(default_factory=dict)
    forms: Mapping[tuple[str, str], Sequence[Form]] = field(default_factory=dict)

    @property
    def gone(self) -> Why | None:
        """Whether they died, are lost, or withdrew so far that they come to no visit or nothing of it may be used."""
        if self.status == Status.DIED:
            return Why.DIED
        if self.status == Status.LOST:
            return Why.LOST
        return Why.WITHDRAWN if self.status == Status.WITHDRAWN or self.uses_no_more else None

    @property
    def uses_no_more(self) -> bool:
        """Whether they withdrew the use of what is collected."""
        return any(each.code == self.level and each.stops_use for each in self.study.withdrawal_levels)


@dataclass(frozen=True)
class VisitCounts:
    """What became of one visit in one arm."""

    visit: str
    label: str
    numbers: Mapping[Seen, int]


@dataclass(frozen=True)
class Analysis:
    """One outcome at its time point in one arm.

    `available`: a value stands in the form. `analysed`: and it may be used. No value is put in for one that lacks
    (intention to treat, by the arm allocated). `excluded` are all others of the arm.
    """

    outcome: Outcome
    visit_label: str
    available: int
    analysed: int
    excluded: int
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class ArmFlow:
    """The flow of one arm. `sites` is how many sites its participants are at."""

    arm: str
    label: str
    sites: int
    allocated: int
    in_error: int
    received: int
    not_received: int
    pending: int
    not_known: int
    not_received_reasons: tuple[Reason, ...]
    stopped: int
    stopped_reasons: tuple[Reason, ...]
    visits: tuple[VisitCounts, ...]
    analyses: tuple[Analysis, ...]

    @property
    def primary(self) -> tuple[Analysis, ...]:
        """Those of the primary outcome, or outcomes."""
        return tuple(each for each in self.analyses if each.outcome.kind == "primary")


def sessions_of(study: Study, arm: str) -> tuple[Visit, ...]:
    """The visits that can show that somebody of this arm was treated.

    A visit of the treatment period with questionnaires of its own is held also where nothing is delivered, as in an
    arm of usual care: it is a session only where the study says what its sessions consist of.
    """
    has_modules = bool(modules_of(study, arm))
    return tuple(visit for visit in treatment_visits(study) if has_modules or not visit.instruments)


def delivery_of(person: Person) -> tuple[Delivery, Why | None]:
    """What became of the treatment, and why where it was not received."""
    sessions = sessions_of(person.study, person.arm)
    if not sessions:
        return Delivery.NOT_KNOWN, None
    if _held(person, sessions):
        return Delivery.RECEIVED, None
    if why := _stopped_by(person):
        return Delivery.NOT_RECEIVED, why
    standing = {row.status for visit in sessions if (row := person.visits.get(visit.code))}
    if not standing or standing & {VisitStatus.PLANNED, VisitStatus.HELD}:  # held, but not recorded what was delivered
        return Delivery.PENDING, None
    if person.in_error:
        return Delivery.NOT_RECEIVED, Why.RANDOMISED_IN_ERROR
    missed = VisitStatus.MISSED in standing
    return Delivery.NOT_RECEIVED, Why.SESSIONS_MISSED if missed else Why.NOT_PLANNED


def _held(person: Person, sessions: Iterable[Visit]) -> int:
    rows = [(visit, row) for visit in sessions if (row := person.visits.get(visit.code))]
    return sum(row.status == VisitStatus.HELD and (row.recorded or not visit.instruments) for visit, row in rows)


def _stopped_by(person: Person) -> Why | None:
    """Why nothing more is delivered: after any withdrawal no session can be recorded."""
    if person.gone is not None or person.level is not None:
        return person.gone or Why.WITHDRAWN
    return Why.TREATMENT_STOPPED if person.treatment_stopped else None


def why_stopped(person: Person) -> Why | None:
    """Why somebody who was treated did not go on to the end of the sessions, or None."""
    sessions = sessions_of(person.study, person.arm)
    return _stopped_by(person) if 0 < _held(person, sessions) < len(sessions) else None


def seen_at(person: Person, visit: str) -> Seen:
    """What became of a visit; what is recorded of it comes before what became of the participant."""
    row = person.visits.get(visit)
    if row is not None and row.status == VisitStatus.HELD:
        after = person.uses_no_more and row.held_on and person.withdrawn_on and row.held_on >= person.withdrawn_on
        return Seen.WITHDRAWN if after else Seen.FOLLOWED
    if row is not None and row.status == VisitStatus.MISSED:
        return Seen.MISSED
    if person.gone is not None:
        # It was expected, and can still be recorded.
        is_late = row is not None and person.left_on is not None and row.closes_on < person.left_on
        return Seen.LATE if is_late else Seen(person.gone.value)
    if row is None or row.status == VisitStatus.STOPPED:
        return Seen.NOT_PLANNED
    return Seen.LATE if row.closes_on < person.today else Seen.TO_COME


def value_of(person: Person, outcome: Outcome) -> tuple[bool, Why | None, str]:
    """Whether a value is there; why it is not analysed, or None; and the code behind that reason.

    Of a form that repeats, the first that stands counts.
    """
    forms = person.forms.get((outcome.visit, outcome.instrument), ())
    standing = next((form for form in forms if not form.in_error), None)
    if standing is None:
        if forms:
            return False, Why.ENTERED_IN_ERROR, ""
        seen = seen_at(person, outcome.visit)
        if seen is Seen.FOLLOWED:
            return False, Why.NO_FORM, ""
        return False, Why(seen.value), _level(person, Why(seen.value))
    value = cells_of(standing.values).get(outcome.item)
    if value is None or value == "":
        return False, Why.NO_VALUE, ""
    if isinstance(value, Mapping) and "missing" in value:
        return False, Why.MISSING_CODE, str(value["missing"])
    return True, None if standing.used else Why.USE_WITHDRAWN, ""


def _level(person: Person, why: Why | None) -> str:
    return person.level or "" if why is Why.WITHDRAWN else ""


def follow_up(study: Study) -> tuple[Visit, ...]:
    """The visits at which the primary outcome is asked; where the study names none, those of any of its outcomes."""
    primary = [each for each in study.outcomes if each.kind == "primary"]
    forms = {each.instrument for each in primary or study.outcomes}
    named = {each.visit for each in primary or study.outcomes}
    return tuple(
        visit
        for visit in study.visits
        if visit.code in named or (visit.kind is VisitKind.ASSESSMENT and forms & {*visit.instruments})
    )


class Observed(NamedTuple):
    """Where a study that only observes records the group, and the arm that each answer means."""

    visit: str
    instrument: str
    item: str
    arms: Mapping[str, str]


def observed_at(study: Study) -> Observed | None:
    """Where a study that only observes records the group: as it says, or the first item whose choices are its arms."""
    said, arms = study.allocation.group, {arm.code: arm.code for arm in study.arms}
    for visit in study.visits:
        for form in study.instruments:
            for item in form.items if form.code in visit.instruments else ():
                if said is not None and (visit.code, item.code) == (said.visit, said.item):
                    meant = {answer.choice: answer.arm for answer in said.answers}
                    return Observed(visit.code, form.code, item.code, meant)
                choices = {choice.code for choice in item.choices}
                if said is None and item.type is ItemType.CHOICE and choices == arms.keys():
                    return Observed(visit.code, form.code, item.code, arms)
    return None


def group_of(person: Person) -> str:
    """The group that was recorded of somebody in a study that only observes; empty where none is."""
    found = observed_at(person.study)
    if found is None:
        return ""
    standing = (
        form for form in person.forms.get((found.visit, found.instrument), ()) if not form.in_error and form.used
    )
    value = next((form.values.get(found.item) for form in standing), None)
    if isinstance(value, bool):
        value = "yes" if value else "no"
    return found.arms.get(value, "") if isinstance(value, str) else ""


def flow(study: Study, people: Sequence[Person]) -> tuple[ArmFlow, ...]:
    """The flow of every arm in the order of the study, those that it has no more behind, then who has no group."""
    labels = {arm.code: arm.label for arm in study.arms}
    other = sorted({person.arm for person in people} - labels.keys(), key=lambda arm: (not arm, arm))
    planned = [] if not study.is_allocated and observed_at(study) is None else list(labels)
    return tuple(
        _arm(study, arm, labels.get(arm, arm), [person for person in people if person.arm == arm])
        for arm in (*planned, *other)
    )


def _arm(study: Study, arm: str, label: str, people: Sequence[Person]) -> ArmFlow:
    delivered = [(person, *delivery_of(person)) for person in people]
    counts = Counter(delivery for _, delivery, _ in delivered)
    stopped = [(person, why) for person in people if (why := why_stopped(person))]
    return ArmFlow(
        arm=arm,
        label=label,
        sites=len({person.site for person in people}),
        allocated=len(people),
        in_error=sum(person.in_error for person in people),
        received=counts[Delivery.RECEIVED],
        not_received=counts[Delivery.NOT_RECEIVED],
        pending=counts[Delivery.PENDING],
        not_known=counts[Delivery.NOT_KNOWN],
        not_received_reasons=_reasons((why, _level(person, why)) for person, _, why in delivered if why),
        stopped=len(stopped),
        stopped_reasons=_reasons((why, _level(person, why)) for person, why in stopped),
        visits=tuple(
            VisitCounts(visit.code, visit.label, _numbers(seen_at(person, visit.code) for person in people))
            for visit in follow_up(study)
        ),
        analyses=tuple(_analysis(study, outcome, people) for outcome in study.outcomes),
    )


def _numbers(seen: Iterable[Seen]) -> dict[Seen, int]:
    counted = Counter(seen)
    return {each: counted[each] for each in Seen}


def _analysis(study: Study, outcome: Outcome, people: Sequence[Person]) -> Analysis:
    values = [value_of(person, outcome) for person in people]
    visit = study.visit(outcome.visit)
    excluded = [(why, of) for _, why, of in values if why]
    return Analysis(
        outcome=outcome,
        visit_label=visit.label if visit else outcome.visit,
        available=sum(there for there, _, _ in values),
        analysed=sum(why is None for _, why, _ in values),
        excluded=len(excluded),
        reasons=_reasons(excluded),
    )


def _reasons(given: Iterable[tuple[Why, str]]) -> tuple[Reason, ...]:
    """Counted, in the order of `Why`."""
    order = list(Why)
    counted = sorted(Counter(given).items(), key=lambda each: (order.index(each[0][0]), each[0][1]))
    return tuple(Reason(why, of, number) for (why, of), number in counted)


@dataclass(frozen=True)
class GroupFlow:
    """A group of the first stage: how many are in it, and how many of them have an arm by now."""

    group: str
    label: str
    allocated: int
    went_on: int


def groups(study: Study, given: Mapping[int, str], went_on: Iterable[int]) -> tuple[GroupFlow, ...]:
    """The groups of the first stage by participant id, in the order of the study; nothing where there is one stage."""
    stage = study.allocation.first_stage
    if stage is None:
        return ()
    all_of, on = Counter(given.values()), Counter(given[each] for each in went_on if each in given)
    return tuple(GroupFlow(each.code, each.label, all_of[each.code], on[each.code]) for each in stage.groups)
