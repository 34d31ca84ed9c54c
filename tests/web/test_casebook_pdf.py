"""The casebook as PDF has all of a participant that its reader may read: each row is found in its text."""

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pikepdf
import pytest
from sqlalchemy import select, update
from sqlmodel import Session

from app.capture.actions import add_visit, miss_visit, record_visit, save_entry
from app.capture.queries.actions import answer_query, close_query, raise_query, requery
from app.capture.queries.reads import MESSAGE
from app.casebook import book, casebook_of
from app.consent.actions import record_consent
from app.consent.reads import CONSENT
from app.foundation.database import Database
from app.own_copy import Place, book_of_copy
from app.participants.actions import mark, resume_treatment, screen, stop_treatment, take_back_withdrawal, withdraw
from app.participants.in_error.actions import record_in_error
from app.participants.models import Participant
from app.participants.reads import SCREENING, participant_by_code
from app.participants.status import Status
from app.people.access import Actor
from app.people.permissions import Permission
from app.rendering import day
from app.safety.deviations import actions as deviations
from app.safety.deviations.reads import DEVIATION
from app.safety.events import actions as events
from app.safety.events.reads import CLOCK, JUDGEMENT, REPORT
from app.safety.events.rules import Act, Details
from app.safety.logs.actions import record_care, record_contact, record_end
from app.safety.logs.reads import CARE, CONTACT, END
from app.safety.logs.rules import End
from app.schedule.actions import follow_withdrawal, open_visits
from app.schedule.reads import VISIT, visit_of
from app.studies.in_use import StudyInUse
from tests.factories import MINI, mini_study, person, site
from tests.safety.world import SAFETY, fine
from tests.web.browser import counted_statements
from tests.web.pdf import packed, text_of
from tests.web.world import NAMED, STORED

BEGUN = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
ZONE = ZoneInfo("Australia/Sydney")
READERS = ("coordinator", "assessor", "investigator", "data_manager", "monitor")
CHANGES: dict[str, Any] = {
    "safety": SAFETY,
    "unscheduled": {"label": "Unscheduled visit", "instruments": ["pain"]},
    "consent": {
        "optional": [{"code": "sharing", "label": "Data may be shared"}],
        "questions": [
            {
                "code": "stop",
                "label": "May one stop at any time?",
                "choices": [{"code": "y", "label": "At any time"}, {"code": "n", "label": "Never"}],
                "right": "y",
            }
        ],
    },
    "withdrawal_levels": [
        {"code": "treatment", "label": "Stops the sessions", "stops_treatment": True},
        {"code": "use", "label": "Takes back the use", "stops_use": True},
        {"code": "visits", "label": "Comes to no visit", "stops_visits": True, "stops_use": True},
    ],
}


@dataclass
class Story:
    """One participant of whom everything happened that can happen."""

    database: Database
    study: StudyInUse
    participant: Participant
    people: dict[str, Actor]
    now: datetime

    def printed(self, role: str = "data_manager", *, by: Actor | None = None, **options: Any) -> str:
        """The text of the casebook, as this person gets it."""
        return "".join(text_of(self.pdf(by or self.people[role], **options)))

    def pdf(self, by: Actor, **options: Any) -> bytes:
        with self.database.reading() as session:
            where: dict[str, Any] = {"site": "north North clinic", "timezone": "Australia/Sydney"}
            participant = participant_by_code(session, self.study, "M-001", by=by, permission=Permission.ENTRY_READ)
            return casebook_of(session, self.study, participant, **where, by=by, now=self.now, **options)

    def rows(self, table: Any) -> list[Any]:
        with self.database.reading() as session:
            return list(session.execute(select(table)).all())


@pytest.fixture
def story(shared_database: Database) -> Story:
    with shared_database.writing() as session:
        study = mini_study(session, **CHANGES)
        people = {role: person(session, study, role) for role in (*READERS, "clinician")}
        people["second"] = person(session, study, "investigator", username="second")
        participant = _told(session, study, people)
    return Story(shared_database, study, participant, people, BEGUN + timedelta(days=200))


def _told(session: Session, study: StudyInUse, people: dict[str, Actor]) -> Participant:
    now = BEGUN
    coordinator = people["coordinator"]
    mine: dict[str, Any] = {"by": coordinator, "now": now}
    one, _ = screen(
        session,
        study,
        site=site(session, study, "north"),
        answers=STORED,
        failure_reason=None,
        personal=NAMED,
        **mine,
    )
    on = one.screened_on
    consent: dict[str, Any] = {"version": "1", "language": "en", "method": "on_screen", "signature": "Ada Lovelace"}
    record_consent(
        session,
        study,
        one,
        **consent,
        signed_on=on,
        paper_sha256=None,
        options={"sharing": False},
        answers={"stop": "y"},
        countersign=True,
        **mine,
    )
    open_visits(session, study, one, anchor="consent", on=on, **mine)
    whole: dict[str, Any] = {"instrument": "pain", "reasons": {}}
    save_entry(
        session, study, one, visit="baseline", **whole, values={"pain_nrs": 5, "pain_days": 3}, base_version=0, **mine
    )
    mark(session, study, one, Status.RANDOMISED, on=on, permission=Permission.PARTICIPANT_RANDOMISE, **mine)
    open_visits(session, study, one, anchor="randomisation", on=on, **mine)
    _visits(session, study, one, people)
    _safety(session, study, one, people)
    _leaves(session, study, one, people)
    return one


def _visits(session: Session, study: StudyInUse, one: Participant, people: dict[str, Actor]) -> None:
    assert one.id is not None
    coordinator = people["coordinator"]
    later = BEGUN + timedelta(days=20)
    miss_visit(
        session,
        study,
        one,
        "tx01",
        version=visit_of(session, one.id, "tx01").version,
        why="Was ill that week",
        by=people["clinician"],
        now=later,
        permission=Permission.TREATMENT_RECORD,
    )
    extra = add_visit(
        session, study, one, held_on=date(2026, 3, 20), reason="Came by herself", by=coordinator, now=later
    )
    answers: dict[str, Any] = {"instrument": "pain", "reasons": {}, "by": people["assessor"]}
    save_entry(
        session,
        study,
        one,
        visit=extra.code,
        values={"pain_nrs": 2, "pain_days": 2},
        base_version=0,
        now=later,
        **answers,
    )
    late = BEGUN + timedelta(days=150)
    record_visit(
        session,
        study,
        one,
        "week18",
        held_on=date(2026, 7, 28),
        version=visit_of(session, one.id, "week18").version,
        reason="The line was down",
        by=people["assessor"],
        now=late,
    )
    place: dict[str, Any] = {"visit": "week18", "now": late}
    save_entry(session, study, one, values={"pain_nrs": 4, "pain_days": 6}, base_version=0, **place, **answers)
    disability: dict[str, Any] = {
        "instrument": "disability",
        "reasons": {},
        "by": people["assessor"],
        "base_version": 0,
    }
    save_entry(session, study, one, values={"dis_items": ["1"], "dis_weight": 70.5}, **place, **disability)
    asked = raise_query(
        session,
        study,
        one,
        visit="week18",
        instrument="pain",
        item="pain_nrs",
        text="The diary says 3?",
        by=people["monitor"],
        now=late,
    )
    steps: list[tuple[Any, str, str]] = [
        (answer_query, "The diary is right", "coordinator"),
        (requery, "Which page was it?", "data_manager"),
        (answer_query, "Page nine", "assessor"),
        (close_query, "Settled so", "data_manager"),
    ]
    for version, (step, text, who) in enumerate(steps, start=1):
        step(session, study, asked.number, text=text, version=version, by=people[who], now=late)
    corrected: dict[str, Any] = {
        "values": {"pain_nrs": 3, "pain_days": 6},
        "base_version": 1,
        "why": "Read off the wrong line",
    }
    save_entry(session, study, one, **place, **answers, **corrected)


def _safety(session: Session, study: StudyInUse, one: Participant, people: dict[str, Actor]) -> None:
    day_50 = BEGUN + timedelta(days=50)
    fall = Details(
        term="Fall on the stairs",
        code="fall",
        onset="2026-04",
        severity="moderate",
        criteria=("hospitalisation",),
        outcome="recovering",
        narrative="Slipped on wet leaves.",
    )
    about: dict[str, Any] = {"by": people["coordinator"], "now": day_50}
    number = events.report(session, study, one, fall, aware_at=day_50 - timedelta(hours=3), **about)
    better = replace(fall, severity="severe", outcome="recovered", ended="2026-04-25")
    again: dict[str, Any] = {"kind": Act.FOLLOW_UP, "why": "The letter came", "base_version": 1}
    then = day_50 + timedelta(days=9)
    events.report_again(session, study, number, better, aware_at=then, by=people["assessor"], now=then, **again)
    judgement: dict[str, Any] = {"relatedness": "possible", "expected": False, "words": "Weak legs are known"}
    events.judge(session, study, number, base_version=2, prove=fine, by=people["investigator"], now=then, **judgement)
    judged = session.execute(select(JUDGEMENT.c.id)).scalar_one()
    review: dict[str, Any] = {"agree": True, "words": "I see it likewise", "judgement": judged, "prove": fine}
    events.review(session, study, number, by=people["second"], now=then, **review)
    sent: dict[str, Any] = {"sent_at": then, "reference": "SAE-7 by mail", "follows": 0}
    events.stop_clock(session, study, number, "sponsor", by=people["coordinator"], now=then, **sent)
    wrong = replace(fall, term="Another's fall", criteria=(), outcome="recovered")
    taken = events.report(session, study, one, wrong, aware_at=then, by=people["coordinator"], now=then)
    events.void(session, study, taken, why="Another participant", base_version=1, by=people["coordinator"], now=then)
    told: dict[str, Any] = {"category": "procedure", "grade": "minor", "occurred_on": date(2026, 4, 2)}
    deviation = deviations.report(session, study, one, **told, what="Seen at home", by=people["assessor"], now=then)
    acted: dict[str, Any] = {"grade": "major", "action": "Everybody was told again", "why": "It was graver"}
    version = deviations.act(session, study, deviation, base_version=1, by=people["assessor"], now=then, **acted)
    signing: dict[str, Any] = {"base_version": version, "prove": fine, "by": people["investigator"], "now": then}
    deviations.sign(session, study, deviation, **signing)
    care: dict[str, Any] = {"treatment": "Ibuprofen 400 mg", "began": "2026-02", "indication": "Headache"}
    line = record_care(session, study, one, **care, ended="", **about)
    ended: dict[str, Any] = {"ended": "2026-04-20", "line": line, "base_version": 1, "why": "It was stopped"}
    record_care(session, study, one, **care, **ended, **about)
    for result, note in (("no_answer", "Rang for long"), ("reached", "Comes on Monday")):
        record_contact(session, study, one, at=day_50, how="call", result=result, note=note, **about)


def _leaves(session: Session, study: StudyInUse, one: Participant, people: dict[str, Actor]) -> None:
    later = BEGUN + timedelta(days=160)
    by: dict[str, Any] = {"by": people["coordinator"], "now": later}
    record_in_error(
        session,
        study,
        one,
        reason="wrong_stratum",
        why="The other clinic was meant",
        found_on=date(2026, 5, 5),
        should_have_been={"site": "south"},
        corrects=None,
        **by,
    )
    treating: dict[str, Any] = {"permission": Permission.TREATMENT_RECORD, "by": people["clinician"], "now": later}
    stop_treatment(session, study, one, on=date(2026, 7, 1), reason="Too far to travel", **treating)
    resume_treatment(session, study, one, why="It was another one", **treating)
    stop_treatment(session, study, one, on=date(2026, 7, 2), reason="Has no time", **treating)
    record_end(session, study, one, End.LOST, on=date(2026, 7, 30), words="Nobody answers", prove=fine, **by)
    record_end(session, study, one, End.FOUND, on=date(2026, 8, 2), words="Was abroad", prove=fine, **by)
    withdraw(session, study, one, level="use", reason="My data are mine", on=date(2026, 8, 3), **by)
    take_back_withdrawal(session, study, one, why="Asked for another thing", **by)
    withdraw(session, study, one, level="use", reason="After all they are", on=date(2026, 8, 4), **by)
    withdraw(session, study, one, level="visits", reason="Moves away", on=date(2026, 8, 5), **by)
    follow_withdrawal(session, study, one, study.definition.withdrawal_levels[-1], why="Moves away", **by)
    record_end(session, study, one, End.DIED, on=date(2026, 8, 6), words="The family wrote", prove=fine, **by)
    deviations.look(session, study, by=people["data_manager"], now=later)


def _lacking(text: str, said: Iterable[object]) -> list[object]:
    return [each for each in said if each not in (None, "") and packed(str(each)) not in text]


def _moment(at: datetime) -> str:
    return f"{day(at.astimezone(ZONE).date())} {at.astimezone(ZONE):%H:%M}"


@pytest.mark.requirement("AX11-8", "P11-b", "FDA-2", "ALC-L", "ALC-C")
def test_every_row_of_a_participant_stands_in_the_casebook_of_each_reader(story: Story):
    for role in READERS:
        _has_everything(story, story.printed(role))


def _has_everything(story: Story, text: str) -> None:
    body, _, log = text.partition(packed("Appendix: what the log says of all this"))

    for row in story.rows(SCREENING):
        verdicts = [each["label"] for each in json.loads(row.verdicts)]
        assert not _lacking(body, ["Eligible", "Age 44 years", "Surgery in the last year No", *verdicts])
        assert not _lacking(body, ["Fulfilled.", "Does not apply.", row.screened_by, _moment(row.screened_at)])
    for row in story.rows(CONSENT):
        signed = f"{row.countersigned_name} ({row.countersigned_by}), {_moment(row.countersigned_at)}"
        digests = (row.document_sha256, row.binding)
        assert not _lacking(body, ["Taking part in MINI", "Data may be shared no", signed, day(row.signed_on)])
        assert not _lacking(body.replace("\u200b", ""), digests)
        assert not _lacking(body, ["May one stop at any time? At any time", row.countersigned_meaning, row.recorded_by])
        assert not _lacking(body, ["Intact Document and signatures are byte for byte what was signed."])
    for row in story.rows(VISIT):
        held = "" if row.held_on is None else day(row.held_on)
        assert not _lacking(body, [row.reason, held, day(row.target_on) if row.status != "held" else ""]), row.code
    assert not _lacking(body, ["Held after its window", "Missed", "Unscheduled visit", "not in the plan"])
    for row in story.rows(MESSAGE):
        assert not _lacking(body, [row.text, f"{row.by}, {_moment(row.at)}"]), row
    for row in story.rows(REPORT):
        said = json.loads(row.details)
        assert not _lacking(
            body, [said["term"], said["narrative"], row.why, f"{row.reported_by}, {_moment(row.reported_at)}"]
        )
        assert not _lacking(body, [f"Known at the site {_moment(row.aware_at)}"])
    assert not _lacking(
        body, ["Severity: Moderate → Severe", "Outcome: Recovering → Recovered", "Severity Severe changed"]
    )
    for row in story.rows(JUDGEMENT):
        assert not _lacking(body, [row.words, f"{row.judged_name} ({row.judged_by}), {_moment(row.judged_at)}"])
    assert not _lacking(
        body, ["Possibly related; Unexpected", "Hospital admission, or a longer stay", "25 Apr 2026", "Void"]
    )
    clocks = story.rows(CLOCK)
    assert clocks
    for row in clocks:
        assert not _lacking(body, [f"Due by {_moment(row.due_at)}", row.reference])
    found = story.rows(DEVIATION)
    assert {row.rule for row in found} >= {None, "window", "missed"}
    for row in found:
        signed = f"{row.signed_name} ({row.signed_by}), {_moment(row.signed_at)}" if row.signed_at else ""
        assert not _lacking(body, [row.what, row.action, day(row.occurred_on), signed])
    assert not _lacking(body, ["Grade Major changed"])
    for row in story.rows(CARE):
        assert not _lacking(
            body, [row.treatment, row.indication, "Feb 2026", "20 Apr 2026", f"{row.treatment} changed"]
        )
    for row in story.rows(CONTACT):
        assert not _lacking(body, [row.note, _moment(row.at), "No answer", "Reached"])
    for row in story.rows(END):
        assert not _lacking(body, [f"{day(row.on)}: {row.words}", f"{row.recorded_by}, {_moment(row.recorded_at)}"])
    assert not _lacking(
        body,
        (
            "Status Died",
            "Lost to follow-up",
            "Found again",
            "Treatment stopped 1 Jul 2026: Too far to travel",
            "Treatment goes on It was another one",
            "Treatment stopped 2 Jul 2026: Has no time",
            "Withdrew 3 Aug 2026, Takes back the use My data are mine",
            "Withdrawal taken back Asked for another thing",
            "Withdrew 4 Aug 2026, Takes back the use After all they are",
            "Withdrew 5 Aug 2026, Comes to no visit Moves away",
            "What is collected from 4 Aug 2026 on is in no export",
            "Randomised in the wrong stratum. The other clinic was meant",
            "Site should have been south",
            "Week 18: Disability",
            "Weight 70.5 kg",
            "Pain, past week 3 changed",
        ),
    )
    # Each of it has its log behind.
    for act in (
        "Screening answered", "Consent recorded", "Consent countersigned", "Visit missed", "Visit added", "Visit held",
        "Query asked again", "Adverse event reported", "Adverse event followed up", "Adverse event judged",
        "Deadline of an adverse event stopped", "Deviation reported", "Measure for a deviation recorded",
        "Concomitant care changed", "Contact recorded", "Treatment goes on", "Participant withdrawn",
        "Withdrawal taken back", "End of participation recorded", "Participant randomised in error",
    ):  # fmt: skip
        assert packed(act) in log, act
    # And nothing of what nobody gets who is blinded, or of who it is.
    for word in ("Lovelace", "Ada", str(NAMED.email), "Zephyrine", "Placebex", "laser_minutes", "Education"):
        assert packed(word) not in text, word


def test_who_may_not_read_of_safety_gets_none_of_it(story: Story):
    token = replace(
        story.people["data_manager"], scopes=frozenset({Permission.ENTRY_READ, Permission.PARTICIPANT_READ})
    )
    text = story.printed(by=token)
    for said in ("Adverse event", "Fall on the stairs", "Seen at home", "Ibuprofen", "Rang for long", "Nobody answers"):
        assert packed(said) not in text, said
    for said in ("Week 18: Pain", "Came by herself", "Moves away", "Data may be shared", "Status Died"):
        assert packed(said) in text, said


def test_a_copy_for_the_participant_has_no_judgement(story: Story):
    place = Place("north North clinic", "Australia/Sydney")
    made = book_of_copy(
        story.database, story.study, "M-001", place=place, by=story.people["coordinator"], now=story.now
    )
    text = "".join(text_of(made))
    for said in (
        "Weak legs are known",
        "Possibly related; Unexpected",
        "SAE-7 by mail",
        "Due by",
        "Deadline of an adverse event",
    ):
        assert packed(said) not in text, said
    assert packed("Slipped on wet leaves.") in text


@pytest.mark.requirement("P11-70", "EMA-15")
def test_a_consent_that_was_changed_is_said_to_be_broken(story: Story):
    with story.database.writing() as session:
        session.execute(update(CONSENT).values(options='{"sharing": true}'))
    text = story.printed()
    assert packed("This is not what was signed: something was changed since. Do not rely on it.") in text
    assert packed("Document and signatures are byte for byte") not in text
    with story.database.writing() as session:
        session.execute(update(CONSENT).values(options="no JSON any more"))
    assert packed("This is not what was signed") in story.printed()


def test_nothing_of_a_participant_of_whom_there_is_nothing_is_cut_or_missing(shared_database: Database):
    answers = {"age": 17, "pain_screen": 6, "surgery": {"missing": "UNK"}}
    with shared_database.writing() as session:
        study = mini_study(session)
        by = person(session, study, "coordinator")
        told: dict[str, Any] = {"failure_reason": "not_eligible", "personal": NAMED, "by": by, "now": BEGUN}
        one, _ = screen(session, study, site=site(session, study), answers=answers, **told)
    text = Story(shared_database, study, one, {"data_manager": by}, BEGUN).printed()
    said = (
        "Not eligible",
        "Does not take part Does not meet the criteria",
        "Not fulfilled.",
        "[Unknown]",
        "Not known yet.",
        "No consent is recorded.",
        "No visit has a date yet.",
        "Nothing was asked.",
        "No adverse event is reported.",
        "No deviation is recorded.",
        "No care beside the trial is written down.",
        "No contact is written down.",
        "Nothing was stopped, and nobody left.",
    )
    assert not _lacking(text, said)


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_much_takes_as_many_statements_as_little(story: Story, monkeypatch: pytest.MonkeyPatch):
    by = story.people["data_manager"]
    with counted_statements(story.database) as few:
        story.pdf(by)
    with story.database.writing() as session:
        one = participant_by_code(session, story.study, "M-001", by=by)
        for number in range(30):
            then = BEGUN + timedelta(days=60, minutes=number)
            about: dict[str, Any] = {"by": story.people["coordinator"], "now": then}
            said = Details(term=f"Cough {number}", onset="2026-04-02", severity="mild")
            events.report(session, story.study, one, said, aware_at=then, **about)
            record_contact(session, story.study, one, at=then, how="call", result="reached", note=f"N{number}", **about)
    with counted_statements(story.database) as many:
        pages = text_of(story.pdf(by))
    assert len(many) == len(few) <= 32
    assert not _lacking("".join(pages), [f"Cough {number}" for number in range(30)])
    # Of a log that is longer than what is printed, the newest lines are, and it is said so; changes stay marked.
    monkeypatch.setattr(book, "MOST_LINES", 20)
    cut = story.printed()
    assert packed("Only the newest 20 lines are printed; the whole log is in Equipoise.") in cut
    assert packed("Pain, past week 3 changed") in cut
    assert packed("Withdrew 4 Aug 2026, Takes back the use") in cut


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_it_is_tagged_and_an_archive_and_the_same_twice(story: Story):
    first, second = (story.pdf(story.people["monitor"]) for _ in range(2))
    assert first == second
    with pikepdf.open(io.BytesIO(first)) as document:
        assert document.open_metadata()["pdfaid:part"] == "2"
        assert document.Root.MarkInfo.Marked
        assert document.Root.Lang
        kinds = {str(each) for each in _kinds_of(document.Root.StructTreeRoot)}
    assert {"/H1", "/H2", "/H3", "/Table", "/TH", "/TD"} <= kinds


def _kinds_of(node: Any) -> Iterable[Any]:
    if isinstance(node, pikepdf.Dictionary):
        if "/S" in node:
            yield node.S
        if "/K" in node:
            yield from _kinds_of(node.K)
    elif isinstance(node, pikepdf.Array):
        for each in node:
            yield from _kinds_of(each)


def test_in_german_it_says_everything_in_german(shared_database: Database):
    with shared_database.writing() as session:
        study = mini_study(session, **CHANGES, language="de", consent_documents=_german())
        people = {role: person(session, study, role) for role in (*READERS, "clinician")}
        people["second"] = person(session, study, "investigator", username="second")
        one = _told(session, study, people)
    text = Story(shared_database, study, one, people, BEGUN + timedelta(days=200)).printed()
    for said in ("70,5 kg", "Unerwünschtes Ereignis", "Abweichung", "5. Aug. 2026", "Anhang", "Vorher Jetzt Warum"):
        assert packed(said) in text, said
    for said in ("Adverse event", "Deviation", "Treatment stopped", "Held after", "Visit held", "Countersigned by"):
        assert packed(said) not in text, said


def _german() -> list[dict[str, Any]]:
    documents: Any = MINI["consent_documents"]
    return [*documents, {**documents[0], "language": "de"}]
