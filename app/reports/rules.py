"""What do the counts of a trial say? Who is where, how recruitment goes, what was held, entered and asked.

The counts are of every site, each line with its own, so that what somebody sees is a sum over the sites that are
theirs. Nothing here knows an arm.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from math import ceil
from typing import NamedTuple

from app.capture.queries.rules import AGES
from app.capture.status import EntryStatus
from app.participants.status import Status
from app.reports.quality import Quality
from app.safety.events.rules import State as EventState
from app.studies.definition import Study, Visit, VisitKind

LARGE = 100_000
"""Visits and entries: so many take a quarter of a second to count."""
PACE_MONTHS = 3
FURTHEST = 240
"""Months: a target that is further away than this is not given a date."""


class Phase(StrEnum):
    """Where a visit stands on the day of the count. The first two were held."""

    IN_WINDOW = "in_window"
    OUT_OF_WINDOW = "out_of_window"
    MISSED = "missed"
    OVERDUE = "overdue"  # its window is over, and nothing is recorded
    DUE = "due"  # its target day has come
    LATER = "later"
    LEFT = "left"  # its target day came after they had withdrawn or died
    STOPPED = "stopped"  # not due any more, and its target day has not come; or it is not in the plan any more


HELD = frozenset({Phase.IN_WINDOW, Phase.OUT_OF_WINDOW})
EXPECTED = HELD | {Phase.MISSED, Phase.OVERDUE, Phase.DUE}
WITH_FORMS = EXPECTED - {Phase.MISSED}
"""Visits whose forms are expected: nothing is entered at one that was missed."""


IN_PART = "in_part"
"""Where somebody stands who takes part, and has withdrawn from something that ends neither visits nor use of data."""


# What is counted


class People(NamedTuple):
    """So many participants of a site. `month` is the first day of the month in which they were enrolled: randomised,
    or consented where nobody is; None for those who are not (yet). `status` is `withdrawn` also for those who come to
    visits and withdrew the use of what is collected; `IN_PART` for those who withdrew from less."""

    site_id: int
    status: str
    consented: bool
    month: date | None
    number: int


class Failures(NamedTuple):
    """So many who did not pass screening; `reason` is one of the study, or the criteria that were not met."""

    site_id: int
    reason: str
    number: int


class InError(NamedTuple):
    """So many of whom it stands recorded that they were randomised in error."""

    site_id: int
    number: int


class Visits(NamedTuple):
    """So many visits with this code."""

    site_id: int
    code: str
    phase: str
    number: int


class Entries(NamedTuple):
    """So many entries of a form, at visits whose forms are expected."""

    site_id: int
    visit: str
    instrument: str
    status: str
    number: int


class Queries(NamedTuple):
    """So many queries that are not closed; `age` counts the steps of `AGES` they have reached."""

    site_id: int
    state: str
    age: int
    number: int


class Events(NamedTuple):
    """So many serious events that are not reviewed yet."""

    site_id: int
    state: str
    number: int


class Place(NamedTuple):
    """A site, and the day there at the time of the count."""

    id: int
    code: str
    today: date


@dataclass(frozen=True)
class Counted:
    """Everything a report is made of, of all sites of a study, as it was at one moment."""

    at: datetime
    sites: tuple[Place, ...]
    people: tuple[People, ...] = ()
    failures: tuple[Failures, ...] = ()
    in_error: tuple[InError, ...] = ()
    visits: tuple[Visits, ...] = ()
    entries: tuple[Entries, ...] = ()
    queries: tuple[Queries, ...] = ()
    events: tuple[Events, ...] = ()

    @property
    def is_large(self) -> bool:
        """Whether counting takes so long that people would rather see the last count at once."""
        return sum(each.number for part in (self.visits, self.entries) for each in part) >= LARGE

    def only(self, sites: Iterable[int]) -> "Counted":
        """The same of these sites alone."""
        wanted = frozenset(sites)
        return replace(
            self,
            sites=tuple(each for each in self.sites if each.id in wanted),
            people=tuple(each for each in self.people if each.site_id in wanted),
            failures=tuple(each for each in self.failures if each.site_id in wanted),
            in_error=tuple(each for each in self.in_error if each.site_id in wanted),
            visits=tuple(each for each in self.visits if each.site_id in wanted),
            entries=tuple(each for each in self.entries if each.site_id in wanted),
            queries=tuple(each for each in self.queries if each.site_id in wanted),
            events=tuple(each for each in self.events if each.site_id in wanted),
        )


# What it says


@dataclass(frozen=True)
class Month:
    """How many were enrolled in one month, and how many had been at its end."""

    first: date
    entered: int
    total: int


@dataclass(frozen=True)
class Recruitment:
    """How recruitment goes: everybody who was enrolled counts, whatever became of them since.

    `target` is the study's where every site is shown; otherwise the sum of what the protocol plans for those shown,
    None where it plans nothing for one of them. `pace` is people a month over the last three whole months, None while
    there are not so many; `reached_on` the first day of the month in which the target is reached if it goes on so.
    """

    months: tuple[Month, ...]
    total: int
    target: int | None
    pace: float | None = None
    reached_on: date | None = None


@dataclass(frozen=True)
class SiteRecruitment:
    """How recruitment goes at one site (see `Recruitment`); `site` is empty for all that are shown."""

    site: str
    entered: int
    target: int | None
    pace: float | None
    reached_on: date | None


@dataclass(frozen=True)
class Standing:
    """How many of a site stand where; `site` is empty for all that are shown.

    `left` had passed screening and withdrew, were lost or died before they were enrolled. Of those `entered`, everybody
    is in one of `active`, `completed`, `withdrawn`, `lost` and `died`; `in_part` of the active withdrew from something.
    """

    site: str
    screened: int
    failed: int
    consented: int
    entered: int
    completed: int
    withdrawn: int
    lost: int
    died: int
    left: int
    active: int
    in_part: int


@dataclass(frozen=True)
class Reason:
    """How many did not pass screening for one reason (see `Failures`)."""

    code: str
    number: int


@dataclass(frozen=True)
class Flow:
    """The flow of participants (CONSORT 2025, item 22), while it goes on: everybody who was assessed is in one part.

    `left` had passed screening and withdrew, were lost or died before they were enrolled; `to_consent` and `to_enter`
    are on the way. `in_error` are of those enrolled (`entered`), each of whom is in one of `active`, `completed`,
    `withdrawn`, `lost` and `died`; `in_part` of the active withdrew from something and are followed up.
    """

    assessed: int
    excluded: int
    reasons: tuple[Reason, ...]
    left: int
    to_consent: int
    to_enter: int
    entered: int
    in_error: int
    completed: int
    withdrawn: int
    lost: int
    died: int
    active: int
    in_part: int


@dataclass(frozen=True)
class VisitLine:
    """How many of one visit stand where, of everybody who is shown. `left` are of those `stopped`."""

    code: str
    label: str
    short: str
    follows: bool
    """Whether it follows randomisation, or the beginning where nobody is randomised; else it is a baseline visit."""
    in_window: int
    out_of_window: int
    missed: int
    overdue: int
    due: int
    later: int
    left: int
    stopped: int

    @property
    def held(self) -> int:
        """Those that were held, in their window or not."""
        return self.in_window + self.out_of_window

    @property
    def expected(self) -> int:
        """Those that were held, or whose day has come; without those that are not due any more."""
        return self.held + self.missed + self.overdue + self.due

    @property
    def reached(self) -> int:
        """Those whose day has come, also after somebody withdrew or died: what retention is a share of."""
        return self.expected + self.left


@dataclass(frozen=True)
class Forms:
    """How many forms are expected by now, and how far they are. What is left empty stands for all of them."""

    site: str
    visit: str
    instrument: str
    expected: int
    complete: int
    partial: int

    @property
    def lacking(self) -> int:
        """Those that nobody has begun."""
        return self.expected - self.complete - self.partial


@dataclass(frozen=True)
class QueryLine:
    """The queries of a site that are not closed: by how old they are, and whether they are answered."""

    site: str
    ages: tuple[int, ...]
    open: int
    answered: int

    @property
    def standing(self) -> int:
        """All of them."""
        return self.open + self.answered


@dataclass(frozen=True)
class EventLine:
    """The serious events of a site that wait: for an investigator's judgement, or for its review."""

    site: str
    to_judge: int
    to_review: int


@dataclass(frozen=True)
class Report:
    """Everything that the reports of some sites say. Where there are several, the last line of each is of all."""

    at: datetime
    sites: tuple[str, ...]
    recruitment: Recruitment
    by_site: tuple[SiteRecruitment, ...]
    standing: tuple[Standing, ...]
    flow: Flow
    visits: tuple[VisitLine, ...]
    forms: tuple[Forms, ...]
    """By site, visit and form."""
    queries: tuple[QueryLine, ...]
    events: tuple[EventLine, ...]
    quality: Quality | None = None
    """None while it is measured for the first time, in a large trial."""
    is_counting: bool = False
    """Whether a new count is being made: this one is older than others would be."""

    def forms_by(self, *keys: str) -> tuple[Forms, ...]:
        """The forms added up, apart by some of site, visit and instrument only."""
        found: dict[tuple[str, ...], Counter[str]] = {}
        for each in self.forms:
            counts = found.setdefault(tuple(getattr(each, key) for key in keys), Counter())
            counts.update(expected=each.expected, complete=each.complete, partial=each.partial)
        every = {"site": "", "visit": "", "instrument": ""}
        return tuple(
            Forms(
                **{**every, **dict(zip(keys, apart, strict=True))},
                expected=counts["expected"],
                complete=counts["complete"],
                partial=counts["partial"],
            )
            for apart, counts in found.items()
        )


def report(
    definitions: Mapping[int, Study], counted: Counted, *, target: int | None, today: date | None = None
) -> Report:
    """What the counts of these sites say; `definitions` is the study as it holds at each of them, by site."""
    today = today or max((each.today for each in counted.sites), default=counted.at.date())
    codes = tuple(each.code for each in counted.sites)
    apart = [(each.code, counted.only([each.id])) for each in counted.sites]
    targets: dict[str, int | None] = {each.code: _target_of(definitions[each.id], each.code) for each in counted.sites}
    if target is None and targets and None not in targets.values():
        target = sum(each for each in targets.values() if each is not None)
    if len(apart) != 1:
        apart.append(("", counted))
        targets[""] = target
    else:
        targets[codes[0]] = target
    return Report(
        at=counted.at,
        sites=codes,
        recruitment=recruitment(counted.people, target=target, today=today),
        by_site=tuple(_site_line(site, each.people, targets[site], today) for site, each in apart),
        standing=tuple(_standing(site, each.people) for site, each in apart),
        flow=_flow(counted),
        visits=_visit_lines(definitions, counted.visits),
        forms=_forms(definitions, counted),
        queries=tuple(_query_line(site, each.queries) for site, each in apart),
        events=tuple(_event_line(site, each.events) for site, each in apart),
    )


# Recruitment


def month_after(first: date, months: int = 1) -> date:
    """The first day of the month so many months after another's, or before it."""
    number = first.year * 12 + first.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


def recruitment(people: Iterable[People], *, target: int | None, today: date) -> Recruitment:
    """Who was enrolled by month, from the month before the first of them on."""
    entered: Counter[date] = Counter()
    for each in people:
        if each.month is not None:
            entered[each.month] += each.number
    total = sum(entered.values())
    if not entered:
        return Recruitment((), 0, target)
    this = today.replace(day=1)
    first, last = min(entered), max(entered)
    reached = target is not None and total >= target
    end = last if reached else max(last, this)
    months, month, so_far = [Month(month_after(first, -1), 0, 0)], first, 0
    while month <= end:
        so_far += entered[month]
        months.append(Month(month, entered[month], so_far))
        month = month_after(month)
    pace, reached_on = None, None
    if first <= month_after(this, -PACE_MONTHS):
        pace = sum(entered[month_after(this, -back)] for back in range(1, PACE_MONTHS + 1)) / PACE_MONTHS
    if pace and target is not None and not reached:
        lacks = ceil((target - total) / pace)
        reached_on = month_after(this, lacks) if lacks <= FURTHEST else None
    return Recruitment(tuple(months), total, target, pace, reached_on)


def _target_of(definition: Study, site: str) -> int | None:
    return next((each.target for each in definition.sites if each.code == site), None)


def _site_line(site: str, people: Iterable[People], target: int | None, today: date) -> SiteRecruitment:
    going = recruitment(people, target=target, today=today)
    return SiteRecruitment(site, going.total, target, going.pace, going.reached_on)


# Who is where


def _standing(site: str, people: Iterable[People]) -> Standing:
    inside, outside, consented = _inside_and_outside(people)
    return Standing(
        site=site,
        screened=sum(inside.values()) + sum(outside.values()),
        failed=inside[Status.SCREEN_FAILED] + outside[Status.SCREEN_FAILED],
        consented=consented,
        left=sum(outside[status] for status in GONE),
        **_of_those_enrolled(inside),
    )


GONE = (Status.WITHDRAWN, Status.LOST, Status.DIED)


def _inside_and_outside(people: Iterable[People]) -> tuple[Counter[str], Counter[str], int]:
    """Where those who were enrolled stand, where the others do, and how many consented."""
    inside: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    consented = 0
    for each in people:
        (outside if each.month is None else inside)[each.status] += each.number
        consented += each.number if each.consented else 0
    return inside, outside, consented


def _of_those_enrolled(inside: Counter[str]) -> dict[str, int]:
    """What became of those who were enrolled: everybody is in one of the last five (CONSORT 2025, item 22)."""
    ends = {status.value: inside[status] for status in (Status.COMPLETED, *GONE)}
    entered = sum(inside.values())
    return {"entered": entered, "in_part": inside[IN_PART], "active": entered - sum(ends.values()), **ends}


def _flow(counted: Counted) -> Flow:
    inside, outside, _ = _inside_and_outside(counted.people)
    why: Counter[str] = Counter()
    for each in counted.failures:
        why[each.reason] += each.number
    excluded, to_consent = outside[Status.SCREEN_FAILED], outside[Status.SCREENED]
    left = sum(outside[status] for status in GONE)
    return Flow(
        assessed=sum(inside.values()) + sum(outside.values()),
        excluded=excluded,
        reasons=tuple(Reason(*each) for each in sorted(why.items(), key=lambda each: (-each[1], each[0]))),
        left=left,
        to_consent=to_consent,
        to_enter=sum(outside.values()) - excluded - to_consent - left,
        in_error=sum(each.number for each in counted.in_error),
        **_of_those_enrolled(inside),
    )


# Visits and forms


def plan_of(definitions: Iterable[Study]) -> tuple[Visit, ...]:
    """The visits of a study at several sites, in order: those of the first, then what only others have."""
    found: dict[str, Visit] = {}
    for study in definitions:
        for visit in study.visits:
            found.setdefault(visit.code, visit)
    return tuple(found.values())


def _visit_lines(definitions: Mapping[int, Study], visits: Iterable[Visits]) -> tuple[VisitLine, ...]:
    """Without sessions of treatment: those are the treatment room's."""
    at: Counter[tuple[str, str]] = Counter()
    for each in visits:
        at[each.code, each.phase] += each.number

    def line(visit: Visit) -> VisitLine:
        numbers = {phase.value: at[visit.code, phase.value] for phase in Phase}
        numbers[Phase.STOPPED] += numbers[Phase.LEFT]
        follows = visit.kind is VisitKind.ASSESSMENT
        return VisitLine(visit.code, visit.label, visit.short or visit.label, follows, **numbers)

    return tuple(line(each) for each in plan_of(definitions.values()) if each.kind is not VisitKind.TREATMENT)


def _forms(definitions: Mapping[int, Study], counted: Counted) -> tuple[Forms, ...]:
    due: Counter[tuple[int, str]] = Counter()
    for visits in counted.visits:
        if visits.phase in WITH_FORMS:
            due[visits.site_id, visits.code] += visits.number
    begun: Counter[tuple[int, str, str, str]] = Counter()
    for entries in counted.entries:
        begun[entries.site_id, entries.visit, entries.instrument, entries.status] += entries.number
    return tuple(
        Forms(
            site=site.code,
            visit=visit.code,
            instrument=form,
            expected=due[site.id, visit.code],
            complete=begun[site.id, visit.code, form, EntryStatus.COMPLETE],
            partial=begun[site.id, visit.code, form, EntryStatus.PARTIAL],
        )
        for site in counted.sites
        for visit in definitions[site.id].visits
        for form in visit.instruments
    )


# Queries and events


def _query_line(site: str, queries: Sequence[Queries]) -> QueryLine:
    ages = [0] * (len(AGES) + 1)
    for each in queries:
        ages[each.age] += each.number
    answered = sum(each.number for each in queries if each.state == "answered")
    return QueryLine(site, tuple(ages), sum(ages) - answered, answered)


def _event_line(site: str, events: Iterable[Events]) -> EventLine:
    at: Counter[str] = Counter()
    for each in events:
        at[each.state] += each.number
    return EventLine(site, at[EventState.REPORTED] + at[EventState.RETURNED], at[EventState.JUDGED])
