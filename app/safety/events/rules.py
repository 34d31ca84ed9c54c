"""What is true of an adverse event? What must be said of it, which step may follow which, and which clocks run."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, datetime, timedelta
from enum import StrEnum

from app.foundation.errors import FieldProblem
from app.foundation.partial_dates import days_of
from app.foundation.words import day_in_words, text_problems
from app.studies.definition import Safety, SafetyClock, Study

LONGEST = 8000  # characters of a narrative
LONGEST_REASON = 2000


class State(StrEnum):
    """Where an event stands."""

    REPORTED = "reported"  # not judged, or not since the newest report
    JUDGED = "judged"
    RETURNED = "returned"  # a second person asked for another judgement
    REVIEWED = "reviewed"
    VOID = "void"  # reported by mistake; kept


class Act(StrEnum):
    """What can be done about an event; the first three are reports, the next two are a second person's."""

    FOLLOW_UP = "follow_up"
    CORRECTION = "correction"
    VOID = "void"
    AGREE = "agreed"
    RETURN = "returned"
    JUDGE = "judgement"


INITIAL = "initial"  # the kind of an event's first report

S = State
_REPORTS = {Act.FOLLOW_UP: S.REPORTED, Act.CORRECTION: S.REPORTED, Act.VOID: S.VOID}
TRANSITIONS: Mapping[State, Mapping[Act, State]] = {
    # Whatever is reported anew is judged anew: a judgement is of the facts it was made from.
    S.REPORTED: {**_REPORTS, Act.JUDGE: S.JUDGED},
    S.JUDGED: {**_REPORTS, Act.JUDGE: S.JUDGED, Act.AGREE: S.REVIEWED, Act.RETURN: S.RETURNED},
    S.RETURNED: {**_REPORTS, Act.JUDGE: S.JUDGED},
    S.REVIEWED: {**_REPORTS, Act.JUDGE: S.JUDGED},
    S.VOID: {},
}


class Criterion(StrEnum):
    """Why an event is serious (ICH E2A II.B)."""

    DEATH = "death"
    LIFE_THREATENING = "life_threatening"
    HOSPITALISATION = "hospitalisation"
    DISABILITY = "disability"
    CONGENITAL_ANOMALY = "congenital_anomaly"
    OTHER_IMPORTANT = "other_important"


class Outcome(StrEnum):
    """What became of it (ICH E2B(R3) E.i.7)."""

    RECOVERED = "recovered"
    RECOVERING = "recovering"
    NOT_RECOVERED = "not_recovered"
    SEQUELAE = "sequelae"
    FATAL = "fatal"
    UNKNOWN = "unknown"


class Action(StrEnum):
    """What was done with the study treatment because of it."""

    NONE = "none"
    CHANGED = "changed"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped"
    NOT_APPLICABLE = "not_applicable"
    UNKNOWN = "unknown"


class ClockState(StrEnum):
    """Whether a deadline runs, was met by a report, or is not needed any more."""

    RUNNING = "running"
    REPORTED = "reported"
    CALLED_OFF = "called_off"


_FATAL = frozenset({Criterion.DEATH.value, Criterion.LIFE_THREATENING.value})
GOES_ON = frozenset({Outcome.RECOVERING, Outcome.NOT_RECOVERED})


@dataclass(frozen=True)
class Details:
    """What is said of an event. Dates may be partial; `criteria` says why it is serious, empty when it is not."""

    term: str
    onset: str
    severity: str
    criteria: tuple[str, ...] = ()
    code: str = ""
    ended: str = ""
    action: str = Action.UNKNOWN.value
    outcome: str = Outcome.UNKNOWN.value
    narrative: str = ""

    @property
    def serious(self) -> bool:
        """Whether it is serious: any criterion makes it so."""
        return bool(self.criteria)

    def tidy(self) -> "Details":
        """Without surrounding spaces, and with the criteria in their order, each once."""
        said = {name: value.strip() for name, value in asdict(self).items() if isinstance(value, str)}
        order = [each.value for each in Criterion]
        known = [each for each in order if each in self.criteria]
        odd = sorted({each for each in self.criteria if each not in order})
        return Details(**said, criteria=(*known, *odd))


NAMES = tuple(each.name for each in fields(Details))


@dataclass(frozen=True)
class Report:
    """One report of an event: what stood after it. `aware_at`: when the site learnt of what is new.

    Of a correction it is the moment as it should have been in version `corrects`.
    """

    version: int
    kind: str
    details: Details
    why: str | None
    aware_at: datetime
    corrects: int | None
    confirmed: bool
    at: datetime
    by: str


@dataclass(frozen=True)
class News:
    """What one report brought, as later corrections leave it: the whole event, and when the site learnt of it."""

    version: int
    details: Details
    aware_at: datetime


@dataclass(frozen=True)
class Judged:
    """A judgement that holds: whether related counts as so, and whether it was expected."""

    related: bool
    expected: bool


# What must be said


def details_problems(
    study: Study, said: Details, *, aware_at: datetime, today: date, now: datetime
) -> list[FieldProblem]:
    """What is wrong with a report. `today` is the date at the site; `said` is tidy."""
    safety, found = study.safety, []
    found += text_problems("term", said.term, "Say in a few words what happened, such as: fall with bruises.", 200)
    if said.code and said.code not in {term.code for term in safety.terms}:
        found.append(FieldProblem("code", "choice", "Choose a term of the list, or leave it empty."))
    found += _date_problems(said, aware_at=aware_at, today=today)
    if said.severity not in {grade.code for grade in safety.severity}:
        found.append(FieldProblem("severity", "choice", "Choose how severe it is."))
    if set(said.criteria) - set(Criterion):
        found.append(FieldProblem("criteria", "choice", "Choose from the criteria of seriousness."))
    if said.action not in set(Action):
        found.append(FieldProblem("action", "choice", "Choose what was done with the study treatment."))
    found += _outcome_problems(said)
    if said.narrative:
        found += text_problems("narrative", said.narrative, "", LONGEST)
    if aware_at > now:
        found.append(FieldProblem("aware_at", "future", "This has not come yet. Say when the site learnt of it."))
    return found


def which_day(today: date) -> str:
    """How a day is written of which only the month or the year may be known, beside what it looks like in words."""
    return (
        f"Write the date as year-month-day, such as {today} for {day_in_words(today)}, or as much of it as is known: "
        "the month and the year, or the year."
    )


def _date_problems(said: Details, *, aware_at: datetime, today: date) -> list[FieldProblem]:
    onset, ended = days_of(said.onset), days_of(said.ended) if said.ended else None
    found = []
    if onset is None:
        found.append(FieldProblem("onset", "date", which_day(today)))
    elif onset[0] > today:
        found.append(FieldProblem("onset", "future", "This day has not come yet. Type the day on which it began."))
    elif onset[0] > aware_at.date() + timedelta(days=1):  # a day's leeway: the site's date may be ahead of UTC's
        found.append(FieldProblem("aware_at", "early", "Nobody knew of it before it began. Check both."))
    if not said.ended:
        return found
    if ended is None:
        found.append(FieldProblem("ended", "date", which_day(today)))
    elif ended[0] > today:
        found.append(FieldProblem("ended", "future", "This day has not come yet. Leave it empty while it goes on."))
    elif onset is not None and ended[1] < onset[0]:
        found.append(FieldProblem("ended", "early", f"It began on {day_in_words(onset[0])}, and cannot end before."))
    return found


def _outcome_problems(said: Details) -> list[FieldProblem]:
    if said.outcome not in set(Outcome):
        return [FieldProblem("outcome", "choice", "Choose what became of it.")]
    found = []
    if said.outcome == Outcome.FATAL and Criterion.DEATH not in said.criteria:
        found.append(FieldProblem("criteria", "death", "The outcome is fatal, so death is a criterion: tick it."))
    if Criterion.DEATH in said.criteria and said.outcome != Outcome.FATAL:
        found.append(FieldProblem("outcome", "death", "Death is ticked, so the outcome is fatal: choose it."))
    if said.ended and said.outcome in GOES_ON:
        found.append(
            FieldProblem("ended", "ongoing", "By its outcome it goes on. Leave the end empty, or change that.")
        )
    return found


def judgement_problems(safety: Safety, *, relatedness: str, expected: bool | None, words: str) -> list[FieldProblem]:
    """What is missing in a judgement."""
    found = []
    if relatedness not in {each.code for each in safety.relatedness}:
        found.append(FieldProblem("relatedness", "choice", "Choose whether it is related to the study treatment."))
    if expected is None:
        found.append(FieldProblem("expected", "choice", "Say whether it was expected, by the reference information."))
    return found + text_problems("words", words, "Say what the judgement rests on.", LONGEST_REASON)


# What may be done


def why_not(state: State, act: Act) -> str | None:
    """Why this cannot be done with an event in this state, or None."""
    if act in TRANSITIONS[state]:
        return None
    if state is State.VOID:
        return "This event was reported by mistake and is void. Report anew what happened."
    if state is State.REPORTED:
        return "Nobody has judged this event since its newest report. An investigator judges it first."
    if state is State.RETURNED:
        return "The judgement was returned. An investigator judges the event again first."
    return "This judgement was reviewed already. Nothing is left to do until there is a new report."


def why_not_second(judged_by: str | None, username: str) -> str | None:
    """Why this person cannot review a judgement, or None: never one's own."""
    if judged_by == username:
        return "A second person reviews a judgement. Ask somebody else who may review it."
    return None


def waits_for(safety: Safety, state: State, *, serious: bool) -> str | None:
    """What an event waits for: `judgement`, `review`, or None when nobody has to do anything."""
    if state in (State.REPORTED, State.RETURNED):
        return "judgement"
    if state is State.JUDGED and (serious or safety.review == "all"):
        return "review"
    return None


# Clocks


def runs(clock: SafetyClock, said: Details, judged: Judged | None) -> bool:
    """Whether a clock of the study runs for an event as it stands (ICH E2A III)."""
    if not said.serious:
        return False
    if clock.when == "serious":
        return True
    if judged is None or not judged.related:
        return False
    if clock.when == "related":
        return True
    return not judged.expected and (clock.when == "unexpected" or bool(_FATAL & set(said.criteria)))


def news_of(reports: Iterable[Report]) -> list[News]:
    """The first report and every follow-up in their order, as corrections leave them."""
    found: list[News] = []
    for each in reports:
        if each.kind in (INITIAL, Act.FOLLOW_UP):
            found.append(News(each.version, each.details, each.aware_at))
        elif each.kind == Act.CORRECTION:
            last = found[-1]
            # Before a correction said whose moment it corrects, its own counted where it made an event serious.
            later = each.corrects is None and each.details.serious and not last.details.serious
            found[-1] = replace(last, details=each.details, aware_at=each.aware_at if later else last.aware_at)
            found = [replace(one, aware_at=each.aware_at) if one.version == each.corrects else one for one in found]
    return found


def serious_since(reports: Sequence[Report]) -> datetime | None:
    """When the site learnt that the event is serious, as it stands; None when it is not, or void."""
    return _since(reports, lambda said: said.serious)


def follow_ups(reports: Sequence[Report]) -> list[tuple[News, datetime]]:
    """What has to follow a report that was sent before, with when it was written down.

    It is every follow-up that says the event is serious, and every correction that adds a criterion of seriousness,
    which nobody knew to be missing before it was written.
    """
    learnt = {each.version: each.aware_at for each in news_of(reports)}
    found, before = [], set[str]()
    for each in reports:
        gained = set(each.details.criteria) - before
        if each.kind == Act.FOLLOW_UP and each.details.serious:
            found.append((News(each.version, each.details, learnt[each.version]), each.at))
        elif each.kind == Act.CORRECTION and gained:
            found.append((News(each.version, each.details, each.at), each.at))
        before = set(each.details.criteria)
    return found


def untold(reports: Sequence[Report], *, recorded_at: datetime, sent_at: datetime) -> News | None:
    """The first news that a report which was sent cannot have told, or None.

    `recorded_at` is when somebody wrote down that it was sent, `sent_at` when it was: what was written down after the
    first, or learnt after the second, was not in it.
    """
    later = (news for news, at in follow_ups(reports) if at > recorded_at or news.aware_at > sent_at)
    return next(later, None)


def clock_begins(clock: SafetyClock, follows: int, reports: Sequence[Report]) -> datetime | None:
    """From when a clock of the study counts: when the site learnt that the event is of its kind, or of the news.

    `follows` is the version that brought the news, 0 for the first report. None when there is nothing to count from.
    """
    if follows:
        return next((news.aware_at for news, _ in follow_ups(reports) if news.version == follows), None)
    if clock.when == "unexpected_fatal":
        return _since(reports, lambda said: bool(_FATAL & set(said.criteria)))
    return serious_since(reports)


def _since(reports: Sequence[Report], holds: Callable[[Details], bool]) -> datetime | None:
    """When the site learnt of what holds now, and has held without a break since."""
    if not reports or reports[-1].kind == Act.VOID:
        return None
    since = None
    for each in reversed(news_of(reports)):
        if not holds(each.details):
            break
        since = each.aware_at
    return since


def due_at(clock: SafetyClock, started_at: datetime) -> datetime:
    """The deadline."""
    return started_at + timedelta(hours=clock.hours)


def steps_due(clock: SafetyClock, started_at: datetime, taken: int, now: datetime) -> int:
    """How many steps in all have had their turn by now."""
    passed = sum(started_at + timedelta(hours=step.after_hours) <= now for step in clock.steps)
    return max(taken, passed)


def time_left(due: datetime, now: datetime) -> str:
    """`3 days 4 hours left`, `50 minutes left`, `2 hours over`."""
    seconds = int((due - now).total_seconds())
    words = "left" if seconds >= 0 else "over"
    minutes = abs(seconds) // 60
    days, hours = divmod(minutes // 60, 24)
    if days:
        said = [_number(days, "day")] + ([_number(hours, "hour")] if hours else [])
    elif hours:
        said = [_number(hours, "hour")]
    else:
        said = [_number(minutes, "minute")]
    return f"{' '.join(said)} {words}"


def _number(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def changed(before: Details, after: Details) -> list[tuple[str, object, object]]:
    """What differs between two reports: (name, before, after)."""
    old, new = asdict(before), asdict(after)
    return [(name, old[name], new[name]) for name in NAMES if old[name] != new[name]]


def is_related(safety: Safety, relatedness: str) -> bool:
    """Whether an answer counts as a reasonable possibility."""
    return any(each.code == relatedness and each.related for each in safety.relatedness)


def expected_by_list(safety: Safety, code: str) -> bool | None:
    """Whether the study's list calls this term expected; None where there is no list, or nothing is coded."""
    return code in safety.expected if safety.expected and code else None


def labels(choices: Iterable[object], codes: Collection[str]) -> list[str]:
    """The labels of codes, in the order of the list."""
    return [each.label for each in choices if each.code in codes]  # type: ignore[attr-defined]
