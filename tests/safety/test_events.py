"""Adverse events: reports add, judgements are signed without the arm, clocks run and tell, each step once."""

import json
import threading
from dataclasses import replace
from datetime import date, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.database import Database, table_of
from app.foundation.errors import Conflict, Invalid, NotAllowed, NotFound, Problem, Refused
from app.foundation.paging import Page
from app.foundation.partial_dates import days_of
from app.participants.reads import held
from app.people.models import Site
from app.people.permissions import Permission, Role, holders
from app.randomisation.actions import randomise
from app.safety.events import actions, clocks, reads
from app.safety.events.reads import CLOCK, EVENT, JUDGEMENT, REPORT, EventRow, Sort, Wanted
from app.safety.events.rules import (
    TRANSITIONS,
    Act,
    ClockState,
    Criterion,
    Details,
    Judged,
    Outcome,
    State,
    details_problems,
    runs,
    time_left,
    waits_for,
    why_not,
)
from app.safety.words import telling
from app.schedule.appointments.actions import Wish, book
from app.studies.definition import Safety, SafetyClock
from tests.capture.records import consented
from tests.factories import NOW, TODAY, definition, person
from tests.safety.world import AWARE, FALL, FATAL, HOSPITAL, SAFETY, Safe, fine, later, safe

STUDY = definition(safety=SAFETY)


@pytest.fixture
def trial(session: Session) -> Safe:
    return safe(session)


# What must be said


@pytest.mark.parametrize(
    ("typed", "first", "last"),
    [
        ("2026", "2026-01-01", "2026-12-31"),
        ("2024-02", "2024-02-01", "2024-02-29"),
        ("2026-03-14", "2026-03-14", "2026-03-14"),
    ],
)
def test_a_partial_date_means_its_days(typed: str, first: str, last: str):
    assert days_of(typed) == (date.fromisoformat(first), date.fromisoformat(last))


@pytest.mark.parametrize("typed", ["", "26", "2026-13", "2026-02-30", "2026-3", "0000", "٢٠٢٦", "2026-03-14 ", "2026-"])
def test_what_is_no_partial_date(typed: str):
    assert days_of(typed) is None


@pytest.mark.requirement("E6-6")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"ended": "2026-03"}, []),
        ({"onset": "2026"}, []),
        ({"criteria": ("death",), "outcome": "fatal"}, []),
        ({"term": " "}, ["term/required"]),
        ({"term": "x" * 201}, ["term/length"]),
        ({"term": "a\x00b"}, ["term/control"]),
        ({"code": "nonsense"}, ["code/choice"]),
        ({"onset": "yesterday"}, ["onset/date"]),
        ({"onset": "2026-03-03"}, ["onset/future"]),
        ({"ended": "2026-02-27"}, ["ended/early"]),
        ({"ended": "2026-04"}, ["ended/future"]),
        ({"ended": "soon"}, ["ended/date"]),
        ({"ended": "2026-03-02", "outcome": "not_recovered"}, ["ended/ongoing"]),
        ({"severity": "awful"}, ["severity/choice"]),
        ({"criteria": ("unpleasant",)}, ["criteria/choice"]),
        ({"action": "doubled"}, ["action/choice"]),
        ({"outcome": "fine"}, ["outcome/choice"]),
        ({"outcome": "fatal"}, ["criteria/death"]),
        ({"criteria": ("death",)}, ["outcome/death"]),
        ({"narrative": "x" * 8001}, ["narrative/length"]),
    ],
)
def test_what_is_asked_of_a_report(changes: dict[str, Any], expected: list[str]):
    said = replace(FALL, **changes)
    found = details_problems(STUDY, said, aware_at=AWARE, today=TODAY, now=NOW)
    assert [f"{each.field}/{each.rule}" for each in found] == expected


@pytest.mark.parametrize(
    ("hours", "onset", "expected"),
    [(1, "2026-03-01", ["aware_at/future"]), (-100, "2026-03-01", ["aware_at/early"]), (-100, "2026-02", [])],
)
def test_nobody_knows_of_it_before_it_began_or_tomorrow(hours: float, onset: str, expected: list[str]):
    said = replace(FALL, onset=onset)
    found = details_problems(STUDY, said, aware_at=later(hours), today=TODAY, now=NOW)
    assert [f"{each.field}/{each.rule}" for each in found] == expected


def test_which_step_may_follow_which():
    assert set(TRANSITIONS) == set(State)
    allowed = {(state, act) for state in State for act in Act if why_not(state, act) is None}
    assert allowed == {(state, act) for state, acts in TRANSITIONS.items() for act in acts}
    for state in set(State) - {State.VOID}:
        assert {TRANSITIONS[state][act] for act in (Act.FOLLOW_UP, Act.CORRECTION)} == {State.REPORTED}
        assert (Act.AGREE in TRANSITIONS[state]) == (state is State.JUDGED)
    assert not TRANSITIONS[State.VOID]


@pytest.mark.parametrize(
    ("review", "state", "serious", "expected"),
    [
        ("serious", State.REPORTED, False, "judgement"),
        ("serious", State.RETURNED, True, "judgement"),
        ("serious", State.JUDGED, True, "review"),
        ("serious", State.JUDGED, False, None),
        ("all", State.JUDGED, False, "review"),
        ("all", State.REVIEWED, True, None),
        ("all", State.VOID, True, None),
    ],
)
def test_whom_an_event_waits_for(review: Any, state: State, serious: bool, expected: str | None):
    assert waits_for(Safety(review=review), state, serious=serious) == expected


RELATED, UNRELATED, EXPECTED = Judged(True, False), Judged(False, False), Judged(True, True)


@pytest.mark.parametrize(
    ("when", "said", "judged", "expected"),
    [
        ("serious", FALL, None, False),
        ("serious", HOSPITAL, None, True),
        ("related", HOSPITAL, None, False),
        ("related", HOSPITAL, EXPECTED, True),
        ("related", FALL, RELATED, False),
        ("unexpected", HOSPITAL, RELATED, True),
        ("unexpected", HOSPITAL, EXPECTED, False),
        ("unexpected", HOSPITAL, UNRELATED, False),
        ("unexpected_fatal", HOSPITAL, RELATED, False),
        ("unexpected_fatal", FATAL, RELATED, True),
        ("unexpected_fatal", replace(FALL, criteria=("life_threatening",)), RELATED, True),
    ],
)
def test_which_clock_runs(when: Any, said: Details, judged: Judged | None, expected: bool):
    assert runs(SafetyClock(code="c", label="C", when=when, hours=24), said, judged) is expected


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        (0, "0 minutes left"),
        (59, "59 minutes left"),
        (60, "1 hour left"),
        (24 * 60, "1 day left"),
        (51 * 60, "2 days 3 hours left"),
        (-1, "1 minute over"),
        (-120, "2 hours over"),
    ],
)
def test_time_left_in_words(minutes: int, words: str):
    assert time_left(NOW + timedelta(minutes=minutes), NOW) == words


# Words that tell an arm


@pytest.mark.requirement("E6-6", "CONC-11")
@pytest.mark.parametrize(
    ("words", "unblinded", "blinded"),
    [
        ("Burn where the laser stood", ("laser",), ()),
        ("After the sham laser session", ("sham", "Sham laser"), ("sham", "Sham laser")),
        ("She asked about EDUCATION", ("education",), ()),
        ("Placebex was mentioned", ("placebex",), ()),
        ("Fell on the stairs after training", (), ()),
    ],
)
def test_words_that_may_tell_an_arm(session: Session, words: str, unblinded: tuple[str, ...], blinded: tuple[str, ...]):
    trial = safe(session)

    def found(role: str) -> set[str]:
        by = telling(trial.study.definition, trial.by(role), {"narrative": words})
        return {word.casefold() for word in by.get("narrative", ())}

    assert {word.casefold() for word in unblinded} <= found("clinician")
    assert bool(unblinded) == bool(found("clinician"))
    assert {word.casefold() for word in blinded} <= found("assessor")
    assert bool(blinded) == bool(found("assessor"))


@pytest.mark.requirement("E6-6", "CONC-11")
def test_a_clinicians_words_are_confirmed_or_changed_before_they_are_kept(trial: Safe):
    said = replace(FALL, narrative="Stumbled over the laser while it was carried past")
    with pytest.raises(Invalid) as refused:
        trial.report(said, role="clinician")
    assert [(each.field, each.rule) for each in refused.value.problems] == [("narrative", "arm")]
    assert "laser" in refused.value.problems[0].message
    with pytest.raises(Invalid):
        trial.report(said, role="clinician", confirmed=["something else"])
    assert trial.session.execute(select(func.count()).select_from(EVENT)).scalar_one() == 0
    number = trial.report(said, role="clinician", confirmed=["Laser"])
    assert reads.reports_of(trial.session, number)[0].confirmed
    assert not reads.reports_of(trial.session, trial.report(FALL, role="clinician"))[0].confirmed
    with pytest.raises(Invalid):
        trial.again(number, replace(said, term="Sham laser fell"), role="clinician", confirmed=["laser"])


def test_an_open_study_hides_nothing(session: Session):
    trial = safe(session, blinded=False)
    trial.report(replace(FALL, term="Sham laser burn"), role="clinician")


# Reporting


@pytest.mark.requirement("P11-e1", "E6-6")
def test_a_report_is_kept_with_every_item_in_the_log(trial: Safe):
    number = trial.report(HOSPITAL)
    row = reads.event_of(trial.session, trial.study, number, by=trial.by("investigator"))
    assert (row.participant, row.state, row.version, row.serious_since) == ("M-001", State.REPORTED, 1, AWARE)
    (report,) = reads.reports_of(trial.session, number)
    assert (report.kind, report.details, report.by) == ("initial", HOSPITAL, "the_coordinator")
    said = {each.item: json.loads(each.new) for each in trial.log("adverse_event.reported")}
    assert said["term"] == FALL.term
    assert said["criteria"] == ["hospitalisation"]
    assert {each.subject for each in trial.log("adverse_event.reported")} == {f"adverse_event/{number}"}


@pytest.mark.requirement("REL-4")
def test_the_same_report_is_one_event(trial: Safe):
    first = trial.report(HOSPITAL)
    assert trial.report(replace(HOSPITAL, term=f" {FALL.term} ")) == first
    assert trial.report(HOSPITAL, role="investigator") != first
    assert len([each for each in trial.mails() if f"event {first} " in each.body]) == 1


def test_nothing_is_collected_without_consent(trial: Safe):
    trial.someone.consented_on = None
    with pytest.raises(Refused, match="not consented"):
        trial.report()


@pytest.mark.requirement("P11-g")
@pytest.mark.parametrize("role", Role)
def test_who_may_report(trial: Safe, role: Role):
    if role in holders(Permission.EVENT_REPORT):
        assert trial.report(role=role)
        return
    with pytest.raises(NotAllowed):
        trial.report(role=role)


def test_only_at_ones_site_and_in_ones_study(session: Session, trial: Safe):
    far = person(session, trial.study, "investigator", site_code="south")
    with pytest.raises(NotAllowed):
        trial.report(by=far)
    number = trial.report()
    with pytest.raises(NotFound):
        trial.again(number, HOSPITAL, by=far)
    with pytest.raises(NotFound):
        reads.event_of(session, trial.study, number, by=far)
    assert reads.events_page(session, trial.study, by=far).rows == []
    with pytest.raises(NotFound):
        trial.judge(number + 1)


@pytest.mark.requirement("P11-e2", "E6-6")
def test_follow_ups_add_and_never_overwrite(trial: Safe):
    number = trial.report()
    trial.judge(number)
    assert trial.again(number, HOSPITAL, role="investigator") == 2
    assert trial.again(number, replace(HOSPITAL, outcome="recovered"), base_version=2) == 3
    first, second, third = reads.reports_of(trial.session, number)
    assert (first.details, second.details, third.details.outcome) == (FALL, HOSPITAL, "recovered")
    row = reads.event_of(trial.session, trial.study, number, by=trial.by("investigator"))
    assert (row.version, row.state, row.outcome, row.serious_since) == (3, State.REPORTED, "recovered", AWARE)
    log = trial.log("adverse_event.followed_up")
    changed = [(each.item, json.loads(each.old), json.loads(each.new)) for each in log if each.item != "aware_at"]
    assert changed == [("criteria", [], ["hospitalisation"]), ("outcome", "unknown", "recovered")]
    assert [each.item for each in log].count("aware_at") == 2  # when the site learnt of either


@pytest.mark.requirement("P11-e2", "REL-4")
def test_a_correction_says_why_and_nobody_overwrites_anybody(trial: Safe):
    number = trial.report(HOSPITAL)
    with pytest.raises(Invalid, match="what was wrong"):
        trial.again(number, FALL, kind=Act.CORRECTION)
    asked: dict[str, Any] = {"kind": Act.CORRECTION, "why": "It was the outpatient clinic."}
    assert trial.again(number, FALL, **asked) == 2
    assert trial.again(number, FALL, **asked) == 2  # the same once more
    with pytest.raises(Conflict):
        trial.again(number, replace(FALL, severity="mild"), **asked)
    with pytest.raises(Invalid, match="Nothing differs"):
        trial.again(number, FALL, base_version=2)
    with pytest.raises(Invalid):
        trial.again(number, HOSPITAL, kind=Act.JUDGE, base_version=2)
    row = reads.event_of(trial.session, trial.study, number, by=trial.by("investigator"))
    assert (row.version, row.serious) == (2, False)
    assert trial.log("adverse_event.corrected")[0].why == "It was the outpatient clinic."


def test_a_mistake_is_kept_and_stops_its_clocks(trial: Safe):
    number = trial.report(HOSPITAL)
    with pytest.raises(Conflict):
        actions.void(
            trial.session, trial.study, number, why="Twice", base_version=7, by=trial.by("coordinator"), now=NOW
        )
    actions.void(trial.session, trial.study, number, why="Twice", base_version=1, by=trial.by("coordinator"), now=NOW)
    assert reads.clocks_of(trial.session, number)[0].state is ClockState.CALLED_OFF
    with pytest.raises(Refused, match="void"):
        trial.judge(number, base_version=2)
    assert reads.reports_of(trial.session, number)[-1].why == "Twice"
    assert trial.report(HOSPITAL) != number


@pytest.mark.requirement("P11-e2")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE adverse_event_report SET details = '{}'",
        "DELETE FROM adverse_event_report",
        "UPDATE event_judgement SET relatedness = 'unrelated'",
        "DELETE FROM event_judgement",
        "DELETE FROM event_clock",
        "INSERT INTO adverse_event_report (event_id, version, kind, details, aware_at, confirmed, reported_at, "
        "reported_by) SELECT event_id, version, kind, details, aware_at, confirmed, reported_at, reported_by FROM "
        "adverse_event_report",
    ],
)
def test_the_database_itself_keeps_what_was_said(trial: Safe, statement: str):
    trial.judge(trial.report(HOSPITAL))
    with pytest.raises(DBAPIError), trial.session.begin_nested():
        trial.session.execute(text(statement))


def test_nothing_is_kept_when_the_log_cannot_be(trial: Safe, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(actions, "record", broken)
    with pytest.raises(OSError), trial.session.begin_nested():
        trial.report(HOSPITAL)
    assert trial.session.execute(select(func.count()).select_from(EVENT)).scalar_one() == 0
    assert trial.mails() == []


# Judging


@pytest.mark.requirement("E6-6", "P11-50a")
def test_a_judgement_is_signed_and_a_second_person_reviews_it(trial: Safe):
    number = trial.report(HOSPITAL)
    proved: list[str] = []
    trial.judge(number, prove=lambda: proved.append("judged"))
    (made,) = reads.judgements_of(trial.session, number)
    assert (made.version, made.relatedness, made.expected, made.knew_arm) == (1, "possible", False, False)
    asked: dict[str, Any] = {"words": "", "judgement": made.number, "prove": fine, "now": NOW}
    with pytest.raises(Refused, match="second person"):
        actions.review(trial.session, trial.study, number, agree=True, by=trial.by("investigator"), **asked)
    with pytest.raises(Conflict):
        actions.review(
            trial.session,
            trial.study,
            number,
            agree=True,
            by=trial.by("data_manager"),
            **{**asked, "judgement": made.number + 1},
        )
    with pytest.raises(Invalid):
        actions.review(trial.session, trial.study, number, agree=False, by=trial.by("data_manager"), **asked)
    asked["words"] = "Why not probable?"
    actions.review(trial.session, trial.study, number, agree=False, by=trial.by("data_manager"), **asked)
    assert trial.session.execute(select(EVENT.c.state)).scalar_one() == State.RETURNED
    trial.judge(number, relatedness="probable", role="investigator2", prove=lambda: proved.append("again"))
    asked |= {"words": "", "judgement": reads.judgements_of(trial.session, number)[-1].number}
    actions.review(trial.session, trial.study, number, agree=True, by=trial.by("investigator"), **asked)
    assert trial.session.execute(select(EVENT.c.state, EVENT.c.relatedness)).one() == (State.REVIEWED, "probable")
    assert [each.kind for each in reads.judgements_of(trial.session, number)] == [
        "judgement",
        "returned",
        "judgement",
        "agreed",
    ]
    assert proved == ["judged", "again"]


@pytest.mark.requirement("P11-50a")
def test_nothing_is_judged_without_the_password_or_what_it_rests_on(trial: Safe):
    number = trial.report(HOSPITAL)
    asked: list[str] = []
    for wrong in (
        {"relatedness": "maybe"},
        {"expected": None},
        {"words": " "},
        {"words": "It was the Placebex device"},
    ):
        with pytest.raises(Invalid):
            trial.judge(number, prove=lambda: asked.append("too early"), **wrong)
    with pytest.raises(Conflict):
        trial.judge(number, base_version=2)

    def wrong_password() -> None:
        raise Invalid([])

    with pytest.raises(Invalid):
        trial.judge(number, prove=wrong_password)
    assert asked == []
    assert reads.judgements_of(trial.session, number) == ()


@pytest.mark.requirement("P11-g", "E6-6")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.INVESTIGATOR])
def test_nobody_else_judges(trial: Safe, role: Role):
    number = trial.report(HOSPITAL)
    with pytest.raises((NotAllowed, NotFound)):
        trial.judge(number, role=role)


@pytest.mark.requirement("E6-6", "CONC-11")
def test_it_is_kept_that_who_judges_had_broken_the_blind(trial: Safe):
    broke = Change("allocation.unblinded", "M-001", "unblinding/1")
    record(trial.session, trial.study.code, [broke], by=trial.by("investigator"), now=NOW)
    number = trial.report(HOSPITAL)
    trial.judge(number)
    trial.judge(number, role="investigator2")
    assert [each.knew_arm for each in reads.judgements_of(trial.session, number)] == [True, False]


@pytest.mark.requirement("E6-6", "CONC-7")
def test_who_treats_sees_what_they_reported_and_not_how_it_is_judged(trial: Safe):
    theirs, other = trial.report(HOSPITAL, role="clinician"), trial.report(FATAL)
    trial.judge(theirs)
    page: Page[EventRow] = reads.events_page(trial.session, trial.study, by=trial.by("clinician"))
    assert [row.number for row in page.rows] == [theirs]
    (row,) = page.rows
    assert (row.state, row.relatedness, row.expected) == (State.REPORTED, None, None)
    with pytest.raises(NotFound):
        reads.event_of(trial.session, trial.study, other, by=trial.by("clinician"))
    assert trial.again(theirs, FATAL, role="clinician") == 2
    with pytest.raises(NotFound):
        trial.again(other, HOSPITAL, role="clinician")
    with pytest.raises((NotAllowed, NotFound)):
        actions.stop_clock(
            trial.session,
            trial.study,
            theirs,
            "sponsor",
            sent_at=NOW,
            reference="Mail",
            by=trial.by("clinician"),
            now=NOW,
        )


# Lists


@pytest.mark.parametrize("sort", Sort)
@pytest.mark.parametrize("descending", [True, False])
def test_the_list_goes_forwards_and_back(trial: Safe, sort: Sort, descending: bool):
    second = consented(trial.session, trial.study, "M-002")
    for day in (1, 2, 1):
        trial.report(replace(FALL, onset=f"2026-03-0{day}", term=f"Fall {day}"), role="coordinator")
    trial.someone = second
    for criteria in ((), ("disability",), ("other_important",)):
        trial.report(replace(FALL, criteria=criteria, onset="2026-02"), role="investigator")
    trial.judge(trial.report(FALL, role="assessor"))
    by = trial.by("investigator")

    def walk(**more: Any) -> Page[EventRow]:
        return reads.events_page(trial.session, trial.study, by=by, sort=sort, descending=descending, limit=4, **more)

    everything = reads.events_page(trial.session, trial.study, by=by, sort=sort, descending=descending).rows
    first = walk()
    then = walk(cursor=first.next)
    assert [*first.rows, *then.rows] == list(everything)
    assert then.next is None
    assert walk(cursor=then.previous) == first
    with pytest.raises(Invalid):
        reads.events_page(
            trial.session,
            trial.study,
            by=by,
            sort=Sort.ONSET if sort is not Sort.ONSET else Sort.STATE,
            cursor=first.next,
        )


def test_what_can_be_looked_for(trial: Safe):
    serious, mild = trial.report(HOSPITAL), trial.report(replace(FALL, term="A 100% flare"))
    trial.judge(serious)

    def found(**wanted: Any) -> list[int]:
        page = reads.events_page(trial.session, trial.study, by=trial.by("data_manager"), wanted=Wanted(**wanted))
        return [row.number for row in page.rows]

    assert found() == [mild, serious]
    assert found(serious=True) == found(waiting="review") == [serious]
    assert found(serious=False) == found(waiting="judgement") == found(search="100% FLARE") == [mild]
    assert found(search="0%5") == found(site="south") == found(participant="M-002") == found(search="\x00") == []
    assert found(site="north", participant="M-001") == [mild, serious]


# Clocks


@pytest.mark.requirement("E6-6")
def test_a_serious_event_starts_its_clock_from_awareness_and_tells_at_once(trial: Safe):
    number = trial.report(HOSPITAL)
    (clock,) = reads.clocks_of(trial.session, number)
    assert (clock.code, clock.state, clock.started_at) == ("sponsor", ClockState.RUNNING, AWARE)
    assert clock.due_at == AWARE + timedelta(hours=24)
    (mail,) = trial.mails()
    assert mail.to_address == "the_investigator@example.org"
    assert "M-001" in mail.body
    assert "22 hours left" in mail.subject
    for word in ("bruises", "sham", "active", "Placebex", "Zephyrine"):
        assert word not in f"{mail.subject} {mail.body}"
    running = reads.running_clocks(trial.session, trial.study, by=trial.by("coordinator"))
    assert [(each.number, each.code) for each in running] == [(number, "sponsor")]
    assert reads.due_of(trial.session, [number, number + 1]) == {number: clock.due_at}


def test_what_is_not_serious_has_no_clock_and_news_may_start_one(trial: Safe):
    number = trial.report()
    assert reads.clocks_of(trial.session, number) == ()
    trial.again(number, HOSPITAL, aware_at=NOW)
    assert [each.started_at for each in reads.clocks_of(trial.session, number)] == [NOW]
    trial.again(number, FALL, kind=Act.CORRECTION, why="Misread", base_version=2)
    assert reads.clocks_of(trial.session, number)[0].state is ClockState.CALLED_OFF
    trial.again(number, HOSPITAL, aware_at=NOW, base_version=3)
    (clock,) = reads.clocks_of(trial.session, number)
    assert (clock.state, clock.steps_taken) == (ClockState.RUNNING, 1)
    assert len(trial.mails()) == 1  # the first step was taken already


def test_a_judgement_starts_and_calls_off_what_depends_on_it(trial: Safe):
    number = trial.report(FATAL)
    trial.judge(number)
    assert {each.code: each.state for each in reads.clocks_of(trial.session, number)} == {
        "sponsor": ClockState.RUNNING,
        "authority": ClockState.RUNNING,
    }
    trial.again(number, replace(FATAL, narrative="More is known."))
    assert {each.state for each in reads.clocks_of(trial.session, number)} == {ClockState.RUNNING}
    trial.judge(number, relatedness="unrelated", base_version=2)
    assert {each.code: each.state for each in reads.clocks_of(trial.session, number)}["authority"] == "called_off"


@pytest.mark.requirement("REL-4")
def test_a_report_that_was_sent_stops_the_clock_for_good(trial: Safe):
    number = trial.report(HOSPITAL)
    asked: dict[str, Any] = {"sent_at": NOW, "reference": "Mail, SAE-7", "by": trial.by("coordinator"), "now": NOW}
    for wrong in (
        {"sent_at": later(1)},
        {"sent_at": AWARE - timedelta(hours=1)},
        {"reference": " "},
        {"reference": "Told them: sham"},
    ):
        with pytest.raises(Invalid):
            actions.stop_clock(trial.session, trial.study, number, "sponsor", **{**asked, **wrong})
    for _ in range(2):
        actions.stop_clock(trial.session, trial.study, number, "sponsor", **asked)
    with pytest.raises(Refused):
        actions.stop_clock(trial.session, trial.study, number, "sponsor", **{**asked, "reference": "Another"})
    with pytest.raises(NotFound):
        actions.stop_clock(trial.session, trial.study, number, "authority", **asked)
    assert len(trial.log("adverse_event.clock_stopped")) == 1
    trial.again(number, FALL, kind=Act.CORRECTION, why="Misread")
    assert reads.clocks_of(trial.session, number)[0].state is ClockState.REPORTED


@pytest.mark.requirement("E6-6", "REL-4")
def test_every_step_is_told_exactly_once_by_however_many_workers(database: Database):
    with database.writing() as session:
        trial = safe(session)
        number = trial.report(HOSPITAL)
        study = trial.study
    for hours, mails in ((1, 1), (11, 3), (11, 3), (30, 4)):
        together = threading.Barrier(3)

        def work(at: Any = later(hours), together: threading.Barrier = together) -> None:
            together.wait()
            clocks.escalate(database, study, now=at)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        with database.reading() as session:
            trial.session = session
            assert len(trial.mails()) == mails
            assert len({each.key for each in trial.mails()}) == mails
            assert len(trial.log("adverse_event.escalated")) == {1: 1, 3: 2, 4: 3}[mails]
    with database.writing() as session:
        asked: dict[str, Any] = {"sent_at": NOW, "reference": "SAE-7", "by": trial.by("coordinator"), "now": later(31)}
        actions.stop_clock(session, study, number, "sponsor", **asked)
    assert clocks.escalate(database, study, now=later(1000)) == 0


def test_the_moment_the_site_learnt_of_it_is_corrected_and_what_runs_moves_with_it(trial: Safe):
    number = trial.report(HOSPITAL)
    earlier = AWARE - timedelta(hours=23)
    asked: dict[str, Any] = {"kind": Act.CORRECTION, "why": "The ward rang the day before."}
    with pytest.raises(Invalid, match="Nothing differs"):
        trial.again(number, HOSPITAL, **asked)
    for _ in range(2):  # the same once more is the same version
        assert trial.again(number, HOSPITAL, aware_at=earlier, **asked) == 2
    (clock,) = reads.clocks_of(trial.session, number)
    assert (clock.state, clock.started_at) == (ClockState.RUNNING, earlier)
    assert clock.due_at == earlier + timedelta(hours=24)
    assert clock.steps_taken == 3, "whose turn came by the earlier moment is told at once"
    assert reads.event_of(trial.session, trial.study, number, by=trial.by("coordinator")).serious_since == earlier
    (said,) = trial.log("adverse_event.corrected")
    assert (said.item, said.why) == ("aware_at", "The ward rang the day before.")
    assert (json.loads(said.old)["version"], json.loads(said.new)["version"]) == (1, 1)
    assert json.loads(said.old) != json.loads(said.new)
    (moved,) = trial.log("adverse_event.clock_moved")
    assert json.loads(moved.new)["due_at"] < json.loads(moved.old)["due_at"]
    again = {**asked, "base_version": 2, "aware_at": AWARE}
    assert trial.again(number, HOSPITAL, **again) == 3  # and back: nobody is told twice
    (clock,) = reads.clocks_of(trial.session, number)
    assert (clock.started_at, clock.steps_taken) == (AWARE, 3)


def test_a_correction_says_whose_moment_it_corrects(trial: Safe):
    number = trial.report(HOSPITAL)
    trial.again(number, replace(HOSPITAL, narrative="Seen again."), aware_at=NOW)
    asked: dict[str, Any] = {"kind": Act.CORRECTION, "why": "Misread", "base_version": 2}
    said = replace(HOSPITAL, narrative="Seen again.")
    with pytest.raises(Invalid) as wrong:
        trial.again(number, said, corrects=7, aware_at=AWARE, **asked)
    assert [each.field for each in wrong.value.problems] == ["corrects"]
    trial.again(number, said, aware_at=later(-1), **asked)  # of the newest, unless said
    assert reads.clocks_of(trial.session, number)[0].started_at == AWARE
    trial.again(number, said, corrects=1, aware_at=later(-5), **{**asked, "base_version": 3})
    assert reads.clocks_of(trial.session, number)[0].started_at == later(-5)
    assert [each.corrects for each in reads.reports_of(trial.session, number)] == [None, None, 2, 1]


def _sent(trial: Safe, number: int, code: str = "sponsor", **more: Any) -> None:
    asked = {"sent_at": NOW, "reference": "Mail, SAE-7", "by": trial.by("coordinator"), "now": NOW, **more}
    actions.stop_clock(trial.session, trial.study, number, code, **asked)


def _clocks(trial: Safe, number: int) -> list[tuple[str, int, str, Any]]:
    found = sorted(reads.clocks_of(trial.session, number), key=lambda each: (each.code, each.follows))
    return [(each.code, each.follows, each.state.value, each.started_at) for each in found]


def test_what_was_reported_keeps_what_was_told(trial: Safe):
    number = trial.report(HOSPITAL)
    _sent(trial, number)
    trial.again(number, HOSPITAL, kind=Act.CORRECTION, why="The day before", aware_at=AWARE - timedelta(hours=23))
    assert _clocks(trial, number) == [("sponsor", 0, "reported", AWARE)]


@pytest.mark.requirement("E6-6")
def test_news_after_a_report_has_a_clock_of_its_own(trial: Safe):
    number = trial.report(HOSPITAL)
    _sent(trial, number)
    mails = len(trial.mails())
    dead = later(30)
    trial.again(number, FATAL, aware_at=dead, now=later(31))
    first = ("sponsor", 0, "reported", AWARE)
    assert _clocks(trial, number) == [first, ("sponsor", 2, "running", dead)]
    assert len(trial.mails()) == mails + 1, "its own first step is told"
    more = replace(FATAL, narrative="The report of the ward came.")
    trial.again(number, more, base_version=2, aware_at=later(32), now=later(33))
    assert _clocks(trial, number) == [first, ("sponsor", 2, "running", dead)], "one report tells both"
    trial.judge(number, base_version=3, now=later(34))
    assert _clocks(trial, number)[0] == ("authority", 0, "running", dead), "since the site knew that it was fatal"
    _sent(trial, number, sent_at=later(35), now=later(35), reference="Follow-up 1")
    assert _clocks(trial, number)[2] == ("sponsor", 2, "reported", dead)
    with pytest.raises(NotFound):
        _sent(trial, number, follows=3, sent_at=later(36), now=later(36))
    trial.again(number, replace(more, ended="2026-03-03"), base_version=3, aware_at=later(40), now=later(40))
    assert _clocks(trial, number)[3] == ("sponsor", 4, "running", later(40))
    wrong: dict[str, Any] = {"kind": Act.CORRECTION, "why": "The day before", "base_version": 4, "now": later(41)}
    trial.again(number, replace(more, ended="2026-03-03"), aware_at=later(20), **wrong)
    assert _clocks(trial, number)[3] == ("sponsor", 4, "running", later(20)), "it moves as the first does"
    actions.void(
        trial.session, trial.study, number, why="Twice", base_version=5, by=trial.by("coordinator"), now=later(42)
    )
    assert [each[2] for each in _clocks(trial, number)] == ["called_off", "reported", "reported", "called_off"]


def test_what_a_report_cannot_have_told_is_due_when_it_is_written_down_late(trial: Safe):
    number = trial.report(HOSPITAL)
    trial.again(number, FATAL, aware_at=later(3), now=later(4))
    _sent(trial, number, sent_at=later(2), now=later(5))  # sent before the site knew of the death
    assert _clocks(trial, number)[1] == ("sponsor", 2, "running", later(3))


def test_a_correction_after_a_report_follows_it_only_when_it_adds_why_it_is_serious(trial: Safe):
    number = trial.report(HOSPITAL)
    _sent(trial, number)
    asked: dict[str, Any] = {"kind": Act.CORRECTION, "why": "Misread", "aware_at": AWARE}
    trial.again(number, replace(HOSPITAL, narrative="On Monday."), now=later(1), **asked)
    assert [each[1] for each in _clocks(trial, number)] == [0]
    both = replace(HOSPITAL, criteria=("life_threatening", "hospitalisation"))
    trial.again(number, both, base_version=2, now=later(2), **asked)
    assert _clocks(trial, number)[1] == ("sponsor", 3, "running", later(2)), "since somebody saw that it was missing"


def test_a_mail_says_the_deadline_as_the_clock_at_the_site_says_it(trial: Safe):
    site = table_of(Site)
    trial.session.execute(update(site).where(site.c.id == trial.someone.site_id).values(timezone="Pacific/Auckland"))
    trial.report(HOSPITAL)
    (mail,) = trial.mails()
    local = (AWARE + timedelta(hours=24)).astimezone(ZoneInfo("Pacific/Auckland"))
    assert f"at {local:%H:%M}, Pacific/Auckland (22 hours left)" in mail.body
    assert "UTC" not in mail.body


def test_nobody_is_randomised_or_booked_after_a_fatal_event(trial: Safe):
    someone, session, study = trial.someone, trial.session, trial.study
    asked: dict[str, Any] = {"visit": None, "purpose": "A talk", "by": trial.by("coordinator"), "now": NOW}
    wish = Wish(TODAY + timedelta(days=7), time(10), 60)
    number = trial.report(FATAL)
    assert held(session, someone.id or 0).fatal_event == number
    with pytest.raises(Refused, match="Record the death"):
        book(session, study, someone, wish, **asked)
    with pytest.raises(Refused, match="Record the death"):
        randomise(session, study, someone, by=trial.by("coordinator"), now=NOW)
    another = trial.report(replace(FATAL, term="Stroke"))
    actions.void(session, study, number, why="Twice", base_version=1, by=trial.by("coordinator"), now=NOW)
    assert held(session, someone.id or 0).fatal_event == another
    actions.void(session, study, another, why="Misread", base_version=1, by=trial.by("coordinator"), now=NOW)
    book(session, study, someone, wish, **asked)


# Whatever happens, in whatever order

CHOICES = st.fixed_dictionaries(
    {
        "act": st.sampled_from([*Act, "stop"]),
        "who": st.sampled_from(["coordinator", "clinician", "investigator", "investigator2", "data_manager"]),
        "criteria": st.sampled_from([(), ("hospitalisation",), ("death",), ("life_threatening", "disability")]),
        "term": st.sampled_from(["Fall", "Faint"]),
        "version": st.integers(min_value=-1, max_value=0),
        "related": st.sampled_from(["unrelated", "definite"]),
        "expected": st.booleans(),
        "hours": st.integers(min_value=0, max_value=40),
    }
)


@pytest.mark.requirement("P11-e1", "P11-f", "E6-6")
@settings(deadline=None, max_examples=8, derandomize=True, suppress_health_check=list(HealthCheck))
@given(history=st.lists(CHOICES, min_size=1, max_size=9))
def test_random_histories_keep_the_order_of_safety(session: Session, history: list[dict[str, Any]]):
    inside = session.begin_nested()
    trial = safe(session)
    number = trial.report(HOSPITAL, role="clinician")
    now = NOW
    before: tuple[Any, ...] = ()
    for step in history:
        now += timedelta(hours=step["hours"])
        try:
            with session.begin_nested():
                _do(trial, number, step, now)
        except Problem:
            pass
        before = _invariants(trial, number, before)
    inside.rollback()


def _do(trial: Safe, number: int, step: dict[str, Any], now: Any) -> None:
    standing = trial.session.execute(select(EVENT).where(EVENT.c.id == number)).one()
    base = standing.version + step["version"]
    fatal = "death" in step["criteria"]
    outcome = Outcome.FATAL if fatal else Outcome.UNKNOWN
    said = replace(FALL, term=step["term"], criteria=step["criteria"], outcome=outcome.value)
    more: dict[str, Any] = {"by": trial.by(step["who"]), "now": now}
    match step["act"]:
        case Act.FOLLOW_UP | Act.CORRECTION:
            trial.again(number, said, kind=step["act"], why="Misread", base_version=base, aware_at=now, **more)
        case Act.VOID:
            actions.void(trial.session, trial.study, number, why="Twice", base_version=base, **more)
        case Act.JUDGE:
            trial.judge(number, relatedness=step["related"], expected=step["expected"], base_version=base, **more)
        case Act.AGREE | Act.RETURN:
            last = [each.number for each in reads.judgements_of(trial.session, number)] or [0]
            agree = step["act"] is Act.AGREE
            actions.review(
                trial.session, trial.study, number, agree=agree, words="So", judgement=last[-1], prove=fine, **more
            )
        case _:
            actions.stop_clock(trial.session, trial.study, number, "sponsor", sent_at=now, reference="Mail", **more)


def _invariants(trial: Safe, number: int, before: tuple[Any, ...]) -> tuple[Any, ...]:
    """What is true after every step: nothing said before is gone, and the event is what its newest words make it."""
    session = trial.session
    event = session.execute(select(EVENT).where(EVENT.c.id == number)).one()
    said = tuple(
        tuple(row)
        for table in (REPORT, JUDGEMENT)
        for row in session.execute(select(table).where(table.c.event_id == number).order_by(table.c.id))
    )
    assert set(before) <= set(said)
    reports, judgements = reads.reports_of(session, number), reads.judgements_of(session, number)
    assert [each.version for each in reports] == list(range(1, event.version + 1))
    assert (event.term, event.outcome) == (reports[-1].details.term, reports[-1].details.outcome)
    assert (event.serious_since is not None) == reports[-1].details.serious
    fresh = [each for each in judgements if each.version == event.version]
    expected = {Act.JUDGE: State.JUDGED, Act.AGREE: State.REVIEWED, Act.RETURN: State.RETURNED}
    if reports[-1].kind == Act.VOID:
        assert event.state == State.VOID
        assert not fresh
    else:
        assert event.state == (expected[Act(fresh[-1].kind)] if fresh else State.REPORTED)
    for each, earlier in zip(judgements[1:], judgements, strict=False):
        if each.kind in (Act.AGREE, Act.RETURN):
            assert (earlier.kind, earlier.version) == (Act.JUDGE, each.version)
            assert earlier.by != each.by
    assert {each.by for each in judgements if each.kind == Act.JUDGE} <= {"the_investigator", "the_investigator2"}
    last = next((each for each in reversed(judgements) if each.kind == Act.JUDGE), None)
    judged = Judged(last.relatedness == "definite", bool(last.expected)) if last else None
    every = reads.clocks_of(session, number)
    kept = {each.code: each for each in sorted(every, key=lambda each: each.follows)}  # the newest of each
    assert all(row.follows == kept[row.code].follows for row in every if row.state is ClockState.RUNNING)
    for clock in trial.study.definition.safety.clocks:
        wanted = event.state != State.VOID and runs(clock, reports[-1].details, judged)
        row = kept.get(clock.code)
        if row is None:
            assert not wanted
        elif row.state is not ClockState.REPORTED:
            assert (row.state is ClockState.RUNNING) == wanted
            assert row.due_at - row.started_at == timedelta(hours=clock.hours)
    assert len({each.key for each in trial.mails()}) == len(trial.mails())
    return said


def test_a_study_that_says_nothing_has_grades_answers_and_categories_and_no_deadlines():
    said = definition().safety
    assert said == Safety()
    assert len(Criterion) == 6
    for lists in (said.clocks, said.expected, said.terms):
        assert not lists
    assert said.late_entry_days is None


def test_clocks_of_an_older_version_stay_as_they_are(trial: Safe):
    number = trial.report(HOSPITAL)
    trial.session.execute(
        insert(CLOCK).values(
            study_id=trial.study.id,
            event_id=number,
            code="gone",
            state=ClockState.RUNNING.value,
            started_at=AWARE,
            due_at=NOW,
            steps_taken=0,
        )
    )
    assert [each.code for each in reads.clocks_of(trial.session, number)] == ["gone", "sponsor"]
