"""Review of the log: seeded anomalies are found, and counted; a review is kept, and the next begins behind it."""

import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DatabaseError
from sqlmodel import Session

from app.audit.actions import ENTRY, Change, record
from app.audit.models import SYSTEM_LOG
from app.capture.actions import COMPUTED_AGAIN
from app.foundation.database import Database
from app.foundation.errors import Conflict, Invalid, NotAllowed, NotFound, Refused
from app.participants.identity import PARTICIPANT
from app.people.access import Actor
from app.reports.kept import KeptCounts
from app.reports.review import reads
from app.reports.review.actions import record_review
from app.reports.review.rules import FORMS_AT_ONCE, Found, Kind, Line, as_kept
from app.schedule.reads import VISIT
from app.studies.in_use import StudyInUse
from tests.capture.records import consented
from tests.factories import NOW, TODAY, mini_study, person, site

NOON = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
"""At the north site, in Sydney."""
MIDNIGHT = datetime(2026, 3, 1, 14, 0, tzinfo=UTC)


@dataclass
class Log:
    """The log of the small trial, written by hand: every call is a request of its own."""

    session: Session
    study: StudyInUse
    by: Actor
    requests: int = 0

    def write(self, *changes: Change, at: datetime = NOON, by: Actor | None = None, log: str = "", **who: Any) -> None:
        self.requests += 1
        author = replace(by or self.by, request_id=f"r{self.requests}", **who)
        record(self.session, log or self.study.code, changes, by=author, now=at)

    def saved(self, code: str, form: str, *values: Any, at: datetime = NOON, by: Actor | None = None) -> None:
        self.write(
            *(Change("entry.saved", code, f"entry/{form}", f"item{n}", new=value) for n, value in enumerate(values)),
            at=at,
            by=by,
        )


@pytest.fixture
def study(session: Session) -> StudyInUse:
    return mini_study(session)


@pytest.fixture
def log(session: Session, study: StudyInUse) -> Log:
    for code in ("M-001", "M-002"):
        consented(session, study, code)
    consented(session, study, "M-003", site_code="south")
    return Log(session, study, person(session, study, "coordinator"))


@pytest.fixture
def monitor(session: Session, study: StudyInUse) -> Actor:
    return person(session, study, "monitor")


def look(log: Log, by: Actor, **more: Any) -> tuple[reads.Stretch, Found]:
    stretch, found = reads.worth_a_look(log.session, log.study, KeptCounts(), by=by, now=NOW, **more)
    assert found is not None
    return stretch, found


def found_in(log: Log, by: Actor) -> dict[Kind, Any]:
    return {each.kind: each for each in look(log, by)[1].findings}


def at_night(log: Log) -> None:
    log.saved("M-001", "week18/pain", 4, at=MIDNIGHT)
    log.saved("M-003", "week18/pain", 4, at=MIDNIGHT)  # two in the afternoon there
    log.write(Change("entry.saved", "M-001", "entry/week18/pain", "a", new=1), at=MIDNIGHT, via="link")


def corrected_again(log: Log) -> None:
    for value in range(3):
        log.write(Change("entry.corrected", "M-001", "entry/week18/pain", "pain_nrs", value, value + 1, "Misread"))
        log.write(Change("entry.corrected", "M-001", "entry/week18/pain", "score", value, 1, COMPUTED_AGAIN))
    log.write(Change("entry.corrected", "M-002", "entry/week18/pain", "pain_nrs", 1, 2, "Misread"))


def corrected_much(log: Log) -> None:
    log.saved("M-001", "baseline/pain", *range(40))
    for n in range(10):
        log.write(Change("entry.corrected", "M-001", "entry/baseline/pain", f"item{n}", 1, 2, "Misread"))


def after_signing(log: Log) -> None:
    log.write(
        Change("entry.signature_superseded", "M-001", "entry/week18/pain"),
        Change("entry.verification_ended", "M-001", "entry/week18/pain", "pain_nrs"),
    )


def within_seconds(log: Log) -> None:
    for n in range(FORMS_AT_ONCE + 1):
        log.saved("M-001", f"visit{n}/pain", 1, at=NOON + timedelta(seconds=5 * n))
    for n in range(FORMS_AT_ONCE + 1):  # as quick, but with pauses as long as a form takes
        log.saved("M-002", f"visit{n}/pain", 1, at=NOON + timedelta(minutes=5 + n))
    forms = (Change("entry.saved", "M-002", f"entry/visit{n}/pain", "a", new=1) for n in range(9))
    log.write(*forms, at=NOON + timedelta(minutes=20))  # a file that was imported


def often_missing(log: Log) -> None:
    other = person(log.session, log.study, "assessor")
    log.saved("M-001", "week18/pain", *({"missing": "UNK"} for _ in range(20)), *range(30))
    log.saved("M-002", "week18/pain", {"missing": "UNK"}, {"missing": "ND"}, *range(98), by=other)


def entered_late(log: Log) -> None:
    for code, days in (("M-001", 9), ("M-002", 6)):
        theirs = select(PARTICIPANT.c.id).where(PARTICIPANT.c.code == code).scalar_subquery()
        held = update(VISIT).where(VISIT.c.participant_id == theirs, VISIT.c.code == "week18")
        log.session.execute(held.values(status="held", held_on=NOON.date() - timedelta(days=days)))
    log.saved("M-001", "week18/pain", 4)
    log.saved("M-002", "week18/pain", 4)


def with_gaps(log: Log) -> None:
    for number in (4, 5, 8, 10):
        log.write(Change("participant.screened", f"M-{number:03d}", "screening"))


def long_waits(log: Log) -> None:
    for number, days in enumerate((1, 2, 2, 3, 2, 29), 20):
        code = f"M-{number:03d}"
        consented(log.session, log.study, code)
        on = TODAY + timedelta(days=days)
        values = {"consented_on": TODAY, "randomised_on": on, "randomised_at": NOON, "randomised_by": "x"}
        log.session.execute(update(PARTICIPANT).where(PARTICIPANT.c.code == code).values(values))
        log.write(Change("participant.randomised", code, "status"))


def refused(log: Log) -> None:
    for _ in range(2):
        log.write(Change("participant.randomise_refused", "M-001", why="Consent is lacking."))
    log.write(Change("export.run_refused", why="This needs another role."))


def wrong_passwords(log: Log) -> None:
    for subject, times in ((f"person/{log.by.username}", 3), ("person/somebody_else", 9), ("", 9)):
        for _ in range(times):
            log.write(Change("sign_in.failed", subject=subject), log=SYSTEM_LOG)


def opened(log: Log) -> None:
    log.write(Change("identity.shown", "M-001", "identity"))
    log.write(Change("entry.file_shown", "M-002", "entry/week18/pain", "scan"))


def taken(log: Log) -> None:
    log.write(Change("export.run", subject="export/entries"))
    log.write(Change("export.delivered", subject="export/entries"))


def set_back(log: Log) -> None:
    log.saved("M-001", "baseline/pain", 1, at=NOON)
    log.saved("M-001", "baseline/pain", 1, at=NOON - timedelta(seconds=4))  # as much as two servers may differ
    log.saved("M-001", "baseline/pain", 1, at=NOON - timedelta(hours=2))
    log.saved("M-001", "baseline/pain", 1, at=NOON - timedelta(hours=1))


BY = "coordinator_north"
SEEDED: dict[Kind, tuple[Any, int, list[Line]]] = {
    Kind.NIGHT: (at_night, 1, [Line("north", BY, number=1)]),
    Kind.CORRECTED_ITEM: (
        corrected_again,
        1,
        [Line("north", "", "M-001", "entry/week18/pain", "pain_nrs", number=3)],
    ),
    Kind.CORRECTED_BY: (corrected_much, 10, [Line("north", BY, number=10, of=50)]),
    Kind.AFTER_SIGNATURE: (after_signing, 2, [Line("north", BY, "M-001", "entry/week18/pain", number=2)]),
    Kind.AT_ONCE: (within_seconds, 5, [Line("north", BY, number=5)]),
    Kind.MISSING: (often_missing, 20, [Line("north", BY, number=20, of=50)]),
    Kind.LATE: (entered_late, 1, [Line("north", BY, "M-001", "entry/week18/pain", number=9)]),
    Kind.GAPS: (with_gaps, 3, [Line(subject="M-006 – M-007", number=2), Line(subject="M-009", number=1)]),
    Kind.DELAYS: (long_waits, 1, [Line("north", "", "M-025", number=29, of=2)]),
    Kind.REFUSED: (
        refused,
        3,
        [
            Line("north", BY, action="participant.randomise_refused", number=2),
            Line("", BY, action="export.run_refused", number=1),
        ],
    ),
    Kind.SIGN_INS: (wrong_passwords, 3, [Line(who=BY, number=3)]),
    Kind.SHOWN: (opened, 2, [Line("north", BY, number=2)]),
    Kind.EXPORTS: (taken, 1, [Line(who=BY, number=1)]),
    Kind.CLOCK: (set_back, 1, [Line(number=1)]),
}


@pytest.mark.both_databases
@pytest.mark.requirement("EMA-10", "E6-11", "CONC-13", "LOG-14")
def test_every_seeded_anomaly_is_found_and_nothing_else(log: Log, monitor: Actor):
    assert set(SEEDED) == set(Kind)
    for kind, (seed, number, lines) in SEEDED.items():
        with log.session.begin_nested() as undone:
            since = look(log, monitor)[0].head_size
            seed(log)
            stretch = replace(look(log, monitor)[0], since=since)
            found = reads.looked_through(log.session, study=log.study, stretch=stretch, now=NOW)
            undone.rollback()
        told = {each.kind: each for each in found.findings}
        assert kind in told, kind
        assert told[kind].number == number, kind
        assert [line._replace(first=0, last=0) for line in told[kind].lines] == lines, kind
        assert set(told) == {kind}, kind


@pytest.mark.both_databases
@pytest.mark.requirement("EMA-10", "AX11-9", "E6-11")
def test_a_review_is_kept_with_a_word_on_each_finding_and_the_next_begins_behind_it(log: Log, monitor: Actor):
    at_night(log)
    refused(log)
    stretch, found = look(log, monitor)
    words = {each.kind.value: f"Asked about {each.kind}." for each in found.findings}
    told: dict[str, Any] = {"words": words, "follows": "Nothing.", "by": monitor, "now": NOW}
    for lacking in ({**told, "follows": " "}, {**told, "words": {}}, {**told, "follows": "x" * 2001}):
        with pytest.raises(Invalid):
            record_review(log.session, log.study, stretch, found, **lacking)
    with pytest.raises(Invalid, match="may tell an arm"):
        record_review(log.session, log.study, stretch, found, **{**told, "follows": "Zephyrine training it was"})
    number = record_review(log.session, log.study, stretch, found, **told)
    kept = reads.review_of(log.session, log.study, number, by=monitor)
    assert (kept.log_from, kept.log_to, kept.head_size) == (0, found.upto, stretch.head_size)
    assert kept.head_root == stretch.head_root.hex()
    assert kept.findings == tuple((each, words[each.kind]) for each in found.findings)
    last = log.session.execute(select(ENTRY).where(ENTRY.c.log == "mini").order_by(ENTRY.c.position.desc())).first()
    assert last is not None
    assert (last.action, last.subject, last.username) == ("log.reviewed", f"review/{number}", monitor.username)
    # Nobody reviews the same entries again, and what was found is found no more.
    with pytest.raises(Conflict):
        record_review(log.session, log.study, stretch, found, **told)
    after, again = look(log, monitor)
    assert (after.since, after.last_number, after.last_by) == (found.upto, number, monitor.username)
    assert [each.kind for each in again.findings] == []
    with pytest.raises(Refused):
        record_review(log.session, log.study, after, replace(again, upto=again.since), **told)
    assert [each.number for each in reads.reviews_page(log.session, log.study, by=monitor).rows] == [number]
    for statement in ("UPDATE log_review SET follows = ''", "DELETE FROM log_review"):
        with pytest.raises(DatabaseError, match="never changed or removed"), log.session.begin_nested():
            log.session.execute(text(statement))


@pytest.mark.requirement("SEC-3")
@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_who_reviews_one_site_sees_and_reviews_that_site_alone(log: Log, monitor: Actor):
    here = log.by.grants[0].site_id
    south = site(log.session, log.study, "south").id
    there = replace(monitor, grants=tuple(replace(grant, site_id=south) for grant in monitor.grants))
    assert here != south
    at_night(log)
    opened(log)
    taken(log)
    wrong_passwords(log)
    log.write(Change("identity.shown", "M-003", "identity"))
    theirs = found_in(log, there)
    assert set(theirs) == {Kind.SHOWN}
    assert {line.site for line in theirs[Kind.SHOWN].lines} == {"south"}
    stretch, found = look(log, there)
    told: dict[str, Any] = {"words": {"shown": "Their own."}, "follows": "Nothing.", "now": NOW}
    mine = record_review(log.session, log.study, stretch, found, by=there, **told)
    whole, every = look(log, monitor)
    assert whole.since == 0
    with pytest.raises(Conflict):
        record_review(log.session, log.study, stretch, found, by=monitor, **told)
    words = {each.kind.value: "Seen." for each in every.findings}
    all_of_it = record_review(log.session, log.study, whole, every, by=monitor, **{**told, "words": words})
    assert look(log, there)[0].since == every.upto
    assert [each.number for each in reads.reviews_page(log.session, log.study, by=there).rows] == [mine]
    with pytest.raises(NotFound):
        reads.review_of(log.session, log.study, all_of_it, by=there)


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("role", ["coordinator", "assessor", "clinician", "investigator", "statistician"])
def test_only_those_who_review_the_log_may(log: Log, role: str):
    other = person(log.session, log.study, role, username="other")
    for read in (reads.next_stretch, reads.reviews_page, reads.all_reviews):
        with pytest.raises(NotAllowed):
            read(log.session, log.study, by=other)


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_long_stretch_is_gone_through_behind_the_page_and_one_review_takes_so_much_at_most(
    log: Log, monitor: Actor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reads, "MOST", 3)
    refused(log)
    opened(log)
    stretch, found = look(log, monitor)
    assert (stretch.entries, stretch.more) == (3, stretch.head_size - 3)
    assert found.entries == 3
    again = look(log, monitor, since=0, upto=2)[1]
    assert (again.upto, again.entries) == (2, 2)
    with pytest.raises(Invalid, match="does not go so far"):
        look(log, monitor, upto=4)
    with pytest.raises(Conflict, match="a review of these entries"):
        look(log, monitor, since=1, upto=2)


def test_another_program_finds_the_same(database: Database, monkeypatch: pytest.MonkeyPatch):
    with database.writing() as session:
        study = mini_study(session)
        log = Log(session, study, person(session, study, "coordinator"))
        refused(log)
        opened(log)
        monitor = person(session, study, "monitor")
    kept = KeptCounts(database)
    with database.reading() as session:
        found = reads.worth_a_look(session, study, KeptCounts(), by=monitor, now=NOW)[1]
    monkeypatch.setattr(reads, "LARGE", 0)
    with database.reading() as session:
        assert reads.worth_a_look(session, study, kept, by=monitor, now=NOW)[1] is None
    for thread in threading.enumerate():
        if thread.name == f"reports-{study.code}":
            thread.join(60)
    with database.reading() as session:
        assert reads.worth_a_look(session, study, kept, by=monitor, now=NOW)[1] == found
    assert found is not None
    assert found.findings


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_what_a_device_without_a_clock_said_keeps_nobody_from_reviewing(log: Log, monitor: Actor):
    day = NOON.date() - timedelta(days=20)
    person_of = select(PARTICIPANT.c.id).where(PARTICIPANT.c.code == "M-001")
    log.session.execute(update(VISIT).where(VISIT.c.participant_id == person_of.scalar_subquery()).values(held_on=day))
    log.write(
        Change("entry.saved", "M-001", "entry/baseline/pain", "a", new=1),
        Change("entry.typed_offline", "M-001", "entry/baseline/pain", new={"typed_at": "0001-01-01T00:00:00+10:00"}),
    )
    assert [line.number for line in found_in(log, monitor)[Kind.LATE].lines] == [20]


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("came", "typed", "nights"),
    [
        (MIDNIGHT, MIDNIGHT - timedelta(hours=11), 1),  # the device says that it was by day
        (NOON, NOON - timedelta(hours=11), 1),
        (NOON, NOON - timedelta(hours=1), 0),
        (NOON, datetime(9999, 1, 1, tzinfo=UTC), 0),  # older entries may name any year
    ],
)
def test_a_time_that_a_device_says_hides_no_night(
    log: Log, monitor: Actor, came: datetime, typed: datetime, nights: int
):
    log.write(
        Change("entry.saved", "M-001", "entry/week18/pain", "a", new=1),
        Change("entry.typed_offline", "M-001", "entry/week18/pain", new={"typed_at": typed.isoformat()}),
        at=came,
    )
    found = found_in(log, monitor).get(Kind.NIGHT)
    assert ([line.number for line in found.lines] if found else []) == [1] * nights


@pytest.mark.both_databases
def test_of_two_who_review_at_the_same_moment_one_is_told(log: Log, monitor: Actor, monkeypatch: pytest.MonkeyPatch):
    log.saved("M-001", "baseline/pain", 1)
    stretch, found = look(log, monitor)
    said = "app.reports.review.actions.as_kept"

    def review() -> int:
        words = {kind.value: "Looked at." for kind in Kind}
        return record_review(
            log.session, log.study, stretch, found, words=words, follows="Nothing.", by=monitor, now=NOW
        )

    def other_first(*about: Any) -> Any:
        monkeypatch.setattr(said, as_kept)
        review()  # behind the look at whether there is one already
        return as_kept(*about)

    monkeypatch.setattr(said, other_first)
    with pytest.raises(Conflict, match="meanwhile"), log.session.begin_nested():
        review()
