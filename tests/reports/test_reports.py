"""The database counts what one gets by counting; a kept count is good for a minute, and for one's own sites."""

import random
import threading
from collections import Counter
from datetime import date, timedelta
from typing import Any

import pytest
from sqlmodel import Session, select

from app.capture.double.models import EntryPair
from app.capture.models import DataQuery, Entry
from app.foundation import clock
from app.foundation.errors import NotAllowed
from app.participants.models import Participant, RandomisedInError, Screening
from app.participants.status import Status
from app.people.models import Site
from app.people.permissions import Role
from app.reports import reads
from app.reports.kept import AGAIN_AFTER, KEPT_FOR, KeptCounts
from app.reports.rules import Counted, Phase, Place, Report
from app.safety.models import AdverseEvent, ParticipantEnd
from app.schedule.models import ParticipantVisit
from app.studies.in_use import StudyInUse
from tests.capture.records import consented
from tests.factories import NOW, TODAY, definition, mini_study, person

HISTORIES = 30
PARTS = ("people", "failures", "in_error", "visits", "entries", "queries", "events")
# The small trial with a form that repeats, and one that two people enter.
FORMS = [
    {**form, "repeats": form["code"] == "disability", "double_entry": form["code"] == "pain"}
    for form in definition().model_dump(mode="json")["instruments"]
]
LEVELS = [
    {"code": "treatment", "label": "Stops treatment"},
    {"code": "visits", "label": "Stops visits", "stops_visits": True},
    {"code": "use", "label": "Stops the use of what is collected", "stops_use": True},
]


def history(session: Session, study: StudyInUse, chance: random.Random, number: int) -> None:
    """Somebody to whom anything has happened."""
    status = chance.choice(list(Status))
    entered = status not in (Status.SCREENED, Status.SCREEN_FAILED, Status.CONSENTED) and chance.random() < 0.9
    site_code = chance.choice(["north", "south"])
    why = chance.choice(["declined", "not_eligible", "adult,pain"]) if status == Status.SCREEN_FAILED else None
    code = f"M-{number:03}"
    someone = consented(session, study, code, site_code=site_code, status=status, consent=False, failure_reason=why)
    someone.consented_on = None if status in (Status.SCREENED, Status.SCREEN_FAILED) else TODAY
    if entered:
        someone.randomised_on = TODAY - timedelta(days=chance.randrange(400))
        someone.randomised_at, someone.randomised_by = NOW, "test"
    left(session, study, someone, chance)
    session.add(someone)
    for visit in session.exec(select(ParticipantVisit).where(ParticipantVisit.participant_id == someone.id)):
        visit.target_on = TODAY + timedelta(days=chance.randrange(-20, 8))
        visit.opens_on, visit.closes_on = visit.target_on - timedelta(days=3), visit.target_on + timedelta(days=3)
        visit.status = chance.choice(["planned", "planned", "held", "held", "missed", "stopped"])
        if visit.status == "held":
            visit.held_on = visit.target_on + timedelta(days=chance.randrange(-5, 6))
        session.add(visit)
        for form in ("pain", "disability"):
            repeats = 3 if form == "disability" else 1
            for repeat in range(1, chance.randrange(repeats + 1) + 1):
                entry(session, study, someone, visit.code, form, chance, repeat)
    if entered and chance.random() < 0.8:
        in_error(session, study, someone, chance)
    if chance.random() < 0.5:
        asked(session, study, someone, chance)
        event(session, study, someone, chance)


def left(session: Session, study: StudyInUse, of: Participant, chance: random.Random) -> None:
    """When and how far they withdrew, or when they died (and were not, at first)."""
    day = TODAY - timedelta(days=chance.randrange(12))
    if of.status == Status.WITHDRAWN:
        of.withdrawn_on, of.withdrawal_level = day, chance.choice(["visits", "visits", "use"])
    elif of.status in (Status.RANDOMISED, Status.LOST) and chance.random() < 0.7:
        of.withdrawn_on, of.withdrawal_level = day, chance.choice(["treatment", "use"])
    kinds = ["died", "mistake", "died"] if of.status == Status.DIED else ["lost"] if of.status == Status.LOST else []
    before: int | None = None
    for number, kind in enumerate(kinds):
        end = ParticipantEnd(
            study_id=study.id,
            participant_id=of.id or 0,
            corrects=before if kind == "mistake" else None,
            kind=kind,
            on=day - timedelta(days=9 if number == 0 else 0),
            recorded_by="test",
            recorded_at=NOW,
            status_before="randomised",
            stopped="",
            words="So",
        )
        session.add(end)
        session.flush()
        before = end.id


def entry(
    session: Session, study: StudyInUse, of: Participant, visit: str, form: str, chance: random.Random, repeat: int
) -> None:
    wrong = chance.random() < 0.3
    made = Entry(
        study_id=study.id,
        participant_id=of.id or 0,
        site_id=of.site_id,
        visit=visit,
        instrument=form,
        study_version_id=study.version_id,
        status=chance.choice(["partial", "complete"]),
        values="{}",
        repeat=repeat,
        in_error_at=NOW if wrong else None,
        in_error_by="test" if wrong else None,
        created_at=NOW,
        created_by="test",
        saved_at=NOW,
        saved_by="test",
    )
    session.add(made)
    session.flush()
    if form == "pain":
        state = chance.choice(["awaits_second", "agreed", "to_reconcile"])
        session.add(EntryPair(study_id=study.id, entry_id=made.id or 0, state=state, first_by="test", first_at=NOW))


def in_error(session: Session, study: StudyInUse, of: Participant, chance: random.Random) -> None:
    before = None
    for reason in chance.choice([["ineligible"], ["ineligible", "no_error"], ["other", "no_error", "twice"]]):
        record = RandomisedInError(
            study_id=study.id,
            participant_id=of.id or 0,
            corrects=before,
            reason=reason,
            why="So",
            found_on=TODAY,
            told="",
            recorded_at=NOW,
            recorded_by="test",
        )
        session.add(record)
        session.flush()
        before = record.id


def asked(session: Session, study: StudyInUse, of: Participant, chance: random.Random) -> None:
    for item in range(chance.randrange(4)):
        state = chance.choice(["open", "answered", "closed"])
        raised = NOW - timedelta(days=chance.choice([0, 6, 7, 13, 14, 29, 30, 300]), hours=chance.choice([0, 1]))
        query = DataQuery(
            study_id=study.id,
            participant_id=of.id or 0,
            visit=chance.choice(["baseline", "week18"]),
            instrument="pain",
            item=f"item{item}",
            origin="monitor",
            state=state,
            text="Which?",
            raised_at=raised,
            raised_by="test",
            changed_at=raised,
            changed_by="test",
            closed_at=NOW if state == "closed" else None,
            closing="closed" if state == "closed" else None,
        )
        session.add(query)


def event(session: Session, study: StudyInUse, of: Participant, chance: random.Random) -> None:
    session.add(
        AdverseEvent(
            study_id=study.id,
            participant_id=of.id or 0,
            state=chance.choice(["reported", "judged", "returned", "reviewed", "void"]),
            term="A fall",
            onset="2026-03",
            onset_on=date(2026, 3, 1),
            severity="mild",
            outcome="unknown",
            serious_since=chance.choice([None, NOW]),
            reported_at=NOW,
            reported_by="test",
        )
    )


@pytest.fixture
def study(session: Session) -> StudyInUse:
    made = mini_study(session, instruments=FORMS, withdrawal_levels=LEVELS)
    chance = random.Random(20)
    for number in range(1, HISTORIES + 1):
        history(session, made, chance, number)
    session.flush()
    other = mini_study(session, code="other")  # of which nothing may be counted
    history(session, other, chance, 1)
    session.flush()
    return made


def by_hand(session: Session, study: StudyInUse, sites: dict[int, Site]) -> dict[str, Counter[Any]]:
    """The same, one row after another."""
    found: dict[str, Counter[Any]] = {name: Counter() for name in PARTS}
    for one in session.exec(select(Participant).where(Participant.study_id == study.id)):
        if one.site_id not in sites:
            continue
        today = clock.today(sites[one.site_id].timezone, NOW)
        month = one.randomised_on.replace(day=1) if one.randomised_on else None
        status = str(one.status)
        if one.status == "randomised" and one.withdrawal_level is not None:
            status = "withdrawn" if one.withdrawal_level == "use" else "in_part"
        found["people"][one.site_id, status, one.consented_on is not None, month] += 1
        ends = list(session.exec(select(ParticipantEnd).where(ParticipantEnd.participant_id == one.id)))
        died_on = max(ends, key=lambda each: each.id or 0).on if one.status == "died" else None
        if one.status == "screen_failed":
            why = session.exec(select(Screening.failure_reason).where(Screening.participant_id == one.id)).one()
            found["failures"][one.site_id, why] += 1
        errors = list(session.exec(select(RandomisedInError).where(RandomisedInError.participant_id == one.id)))
        if errors and max(errors, key=lambda each: each.id or 0).reason != "no_error":
            found["in_error"][(one.site_id,)] += 1
        due = set()
        for visit in session.exec(select(ParticipantVisit).where(ParticipantVisit.participant_id == one.id)):
            phase = _phase(one, visit, today, died_on)
            if visit.code != "tx01":
                found["visits"][one.site_id, visit.code, phase] += 1
                if phase in ("in_window", "out_of_window", "overdue", "due"):
                    due.add(visit.code)
        pairs = {pair.entry_id: pair.state for pair in session.exec(select(EntryPair))}
        entries = list(session.exec(select(Entry).where(Entry.participant_id == one.id)))
        sound = sorted((each for each in entries if each.in_error_at is None), key=lambda each: each.repeat)
        seen = set()
        for each in sound:
            place = (each.visit, each.instrument)
            if place not in seen and each.visit in due:
                status = "partial" if pairs.get(each.id or 0) == "awaits_second" else each.status
                found["entries"][one.site_id, *place, status] += 1
            seen.add(place)
        hidden = {(each.visit, each.instrument) for each in entries if pairs.get(each.id or 0) == "awaits_second"}
        for query in session.exec(select(DataQuery).where(DataQuery.participant_id == one.id)):
            if query.state != "closed" and (query.visit, query.instrument) not in hidden:
                old = (NOW - query.raised_at).days
                age = sum(old >= days for days in (7, 14, 30))
                found["queries"][one.site_id, query.state, age] += 1
        for event in session.exec(select(AdverseEvent).where(AdverseEvent.participant_id == one.id)):
            if event.serious_since is not None and event.state in ("reported", "judged", "returned"):
                found["events"][one.site_id, event.state] += 1
    return found


def _phase(one: Participant, visit: ParticipantVisit, today: date, died_on: date | None) -> str:
    withdrew = one.status == "withdrawn" or one.withdrawal_level == "use"
    gone_on = one.withdrawn_on if withdrew else died_on
    if visit.status == "held":
        assert visit.held_on is not None
        if one.withdrawal_level == "use" and one.withdrawn_on and visit.held_on >= one.withdrawn_on:
            return "left"
        return "in_window" if visit.opens_on <= visit.held_on <= visit.closes_on else "out_of_window"
    if visit.status == "missed":
        return "missed"
    if one.status == "screen_failed":
        return "stopped"
    if gone_on is not None:
        return "overdue" if visit.closes_on < gone_on else "left" if visit.target_on <= today else "stopped"
    if visit.status == "stopped":
        return "stopped"
    return "overdue" if today > visit.closes_on else "due" if today >= visit.target_on else "later"


def rows(counted: Counted) -> dict[str, Counter[Any]]:
    """What was counted, as `by_hand` says it."""
    return {name: Counter({tuple(row)[:-1]: row.number for row in getattr(counted, name)}) for name in PARTS}


@pytest.mark.requirement("SPI-29", "E6-4")
def test_the_database_counts_what_counting_one_by_one_gives(session: Session, study: StudyInUse):
    sites = {each.id or 0: each for each in session.exec(select(Site).where(Site.study_id == study.id))}
    counted = reads.count(session, study, now=NOW)
    expected = by_hand(session, study, sites)
    assert rows(counted) == expected
    assert all(expected.values()), "every part has something in it, or nothing is proved"
    assert {"withdrawn", "in_part", "died"} <= {status for _, status, _, _ in expected["people"]}
    assert {phase for _, _, phase in expected["visits"]} == {each.value for each in Phase}
    assert {each.code: each.today for each in counted.sites} == {
        each.code: clock.today(each.timezone, NOW) for each in sites.values()
    }


def test_each_site_has_its_own_day(session: Session):
    """When it is ten at night in Zurich, it is the next morning in Sydney, and the visit of that day is due there."""
    study = mini_study(session)
    for number, place in enumerate(("north", "south"), start=1):
        consented(session, study, f"M-00{number}", site_code=place)
    late = NOW.replace(hour=21) + timedelta(days=125)  # the day before week 18
    counted = reads.count(session, study, now=late)
    at = {each.id: each.code for each in counted.sites}
    found = {at[each.site_id]: each.phase for each in counted.visits if each.code == "week18"}
    assert found == {"north": "due", "south": "later"}


@pytest.mark.requirement("SEC-3")
def test_a_kept_count_is_a_full_count_and_shows_nobody_the_sites_of_others(session: Session, study: StudyInUse):
    kept = KeptCounts()

    def asked(role: str, site_code: str | None, **options: Any) -> Report:
        by = person(session, study, role, site_code=site_code, username=f"{role}_{site_code}")
        return reads.report(session, study, kept, by=by, now=NOW, **options)

    manager = asked("data_manager", None)
    assert manager.sites == ("north", "south")
    assert manager.recruitment.target == 40
    for code in ("north", "south"):
        mine, chosen = asked("coordinator", code), asked("data_manager", None, site=code)
        assert mine == chosen
        assert mine.sites == (code,)
        assert mine.recruitment.target is None
        fresh = reads.report(
            session, study, KeptCounts(), by=person(session, study, "assessor", site_code=code), now=NOW
        )
        assert mine == fresh
        assert len(mine.standing) == 1
    elsewhere = asked("coordinator", "north", site="south")
    assert (elsewhere.sites, elsewhere.flow.assessed, elsewhere.recruitment.total) == ((), 0, 0)


def test_nobody_else_may_read_them(session: Session):
    study = mini_study(session)
    for role in (Role.CLINICIAN, Role.STATISTICIAN, Role.ADMINISTRATOR):
        with pytest.raises(NotAllowed):
            reads.report(session, study, KeptCounts(), by=person(session, study, role), now=NOW)


class Counting:
    """Counts how often it is asked to count."""

    def __init__(self) -> None:
        self.times = 0
        self.at = NOW

    def __call__(self) -> Counted:
        self.times += 1
        return Counted(self.at, (Place(1, "north", TODAY),))


@pytest.mark.parametrize(
    ("later", "again", "times"),
    [
        (timedelta(0), False, 1),
        (KEPT_FOR - timedelta(seconds=1), False, 1),
        (KEPT_FOR, False, 2),
        (-timedelta(seconds=2), False, 1),  # asked before, and waited
        (AGAIN_AFTER - timedelta(seconds=1), True, 1),
        (AGAIN_AFTER, True, 2),
    ],
)
def test_a_count_is_good_for_a_minute(later: timedelta, again: bool, times: int):
    kept, count = KeptCounts(), Counting()
    study = StudyInUse(1, "mini", 1, definition())
    kept.counts.waited_for(study, count, now=NOW)
    count.at = NOW + later
    found = kept.counts.waited_for(study, count, now=NOW + later, again=again)
    assert count.times == times
    assert found.at == (NOW + later if times == 2 else NOW)


def test_another_study_or_another_version_of_it_is_counted_anew():
    kept, count, mini = KeptCounts(), Counting(), definition()
    one = StudyInUse(1, "mini", 1, mini)
    amended = StudyInUse(1, "mini", 2, mini, {7: one})
    for number, study in enumerate((one, StudyInUse(2, "other", 1, mini), amended, one), start=1):
        kept.counts.waited_for(study, count, now=NOW)
        kept.counts.waited_for(study, count, now=NOW)
        assert count.times == number


def test_of_several_who_ask_at_once_one_counts():
    kept, counting, may_end = KeptCounts(), Counting(), threading.Event()
    study = StudyInUse(1, "mini", 1, definition())

    def slow() -> Counted:
        assert may_end.wait(20)
        return counting()

    found: list[Counted] = []
    threads = [
        threading.Thread(target=lambda: found.append(kept.counts.waited_for(study, slow, now=NOW))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    may_end.set()
    for thread in threads:
        thread.join(20)
    assert (len(found), counting.times) == (4, 1)


def test_a_count_that_fails_keeps_nobody_waiting():
    kept, study = KeptCounts(), StudyInUse(1, "mini", 1, definition())

    def broken() -> Counted:
        raise RuntimeError("the database is away")

    with pytest.raises(RuntimeError):
        kept.counts.waited_for(study, broken, now=NOW)
    assert kept.counts.waited_for(study, Counting(), now=NOW).at == NOW
