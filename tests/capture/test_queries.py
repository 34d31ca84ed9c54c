"""Queries: their states over any history, who may take which step, and what saving an entry does to those of checks."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.audit.verify import verify
from app.capture.actions import save_entry
from app.capture.checks import Finding
from app.capture.queries import reads
from app.capture.queries.actions import answer_query, close_query, raise_query, requery
from app.capture.queries.reads import QUERY, Query, Sort, Wanted
from app.capture.queries.rules import (
    NEEDED,
    TRANSITIONS,
    Closing,
    Origin,
    Raised,
    State,
    Step,
    after,
    days_old,
    followed,
    message_problems,
    why_not_step,
)
from app.foundation.errors import Conflict, Invalid, NotAllowed, NotFound, Refused
from app.participants.models import Participant
from app.people.access import Actor
from app.people.permissions import UNBLINDED, Permission, holders
from app.studies.definition import CheckKind
from app.studies.in_use import StudyInUse
from tests.capture.records import consented
from tests.factories import NOW, definition, mini_study, person

PAIN = {"pain_nrs": 5, "pain_days": 3}
ODD = {"pain_nrs": 0, "pain_days": 5}  # no pain, but days with pain: soft
WHERE: dict[str, Any] = {"visit": "week18", "instrument": "pain"}


# Rules


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("step", list(Step))
def test_a_step_is_possible_or_the_reason_says_what_to_do(state: State, step: Step):
    reason = why_not_step(state, step)
    assert (reason is None) == (after(state, step) is not None)
    assert reason is None or any(word in reason for word in ("Raise", "waits", "Close"))


@given(st.lists(st.sampled_from(list(Step)), max_size=30))
def test_no_history_leaves_the_states_or_comes_back_from_the_end(steps: list[Step]):
    state: State | None = None
    for step in steps:
        following = after(state, step)
        if state is State.CLOSED:
            assert following is None
        if following is not None:
            assert (state is None) == (step is Step.RAISE)
            assert (following is State.CLOSED) == (step in (Step.CLOSE, Step.CORRECT))
            state = following
    assert state is None or state in TRANSITIONS


def test_every_step_of_a_person_is_blinded_peoples_only():
    assert set(NEEDED) == set(Step) - {Step.CORRECT}
    for needed in NEEDED.values():
        assert not holders(needed) & UNBLINDED


FINDINGS = st.lists(
    st.builds(
        Finding,
        item=st.sampled_from("abc"),
        rule=st.sampled_from(["check_1", "expected"]),
        message=st.just("Check it."),
        kind=st.sampled_from(list(CheckKind)),
    ),
    max_size=5,
)


@given(st.lists(FINDINGS, min_size=1, max_size=6), st.dictionaries(st.sampled_from("abc"), st.just("Asked again")))
def test_whatever_is_saved_exactly_what_fires_unexplained_is_in_question(saves: list[list[Finding]], reasons: Any):
    standing: dict[int, Raised] = {}
    number = 0
    for findings in saves:
        found = followed(standing.values(), findings, reasons)
        for each, _ in found.explained:
            assert each.state is State.OPEN
            standing[each.number] = Raised(each.number, each.item, each.rule, State.ANSWERED, each.version + 1)
        for each in found.settled:
            del standing[each.number]
        for finding in found.fresh:
            number += 1
            standing[number] = Raised(number, finding.item, finding.rule, State.OPEN, 1)
        firing = {(one.item, one.rule) for one in findings}
        asked = [(one.item, one.rule) for one in standing.values()]
        assert len(asked) == len(set(asked))  # never twice for one check
        assert set(asked) <= firing
        assert {key for key in firing if key[0] not in reasons} <= set(asked)
        again = followed(standing.values(), findings, reasons)
        assert not again.fresh
        assert not again.settled
        assert not again.explained


@pytest.mark.requirement("CONC-8")
@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("", "required"),
        (" \n", "required"),
        ("x" * 2001, "length"),
        ("a\x07b", "control"),
        ("Is it the sham?", "arm"),
        ("Had Zephyrine training", "arm"),
        ("She says placebex-device", "arm"),
    ],
)
def test_what_cannot_be_said_in_a_query(words: str, rule: str):
    assert [each.rule for each in message_problems(definition(), words, needed="Say it.")] == [rule]


def test_age_is_counted_in_whole_days():
    assert days_old(NOW, NOW + timedelta(hours=47)) == 1
    assert days_old(NOW, NOW - timedelta(hours=1)) == 0


# Actions


@pytest.fixture
def study(session: Session) -> StudyInUse:
    return mini_study(session)


@pytest.fixture
def participant(session: Session, study: StudyInUse) -> Participant:
    return consented(session, study)


@pytest.fixture
def people(session: Session, study: StudyInUse) -> dict[str, Actor]:
    return {role: person(session, study, role) for role in ("assessor", "monitor", "data_manager", "investigator")}


@pytest.fixture
def save(session: Session, study: StudyInUse, participant: Participant, people: dict[str, Actor]) -> Any:
    def saved(values: dict[str, object], base: int = 0, **options: Any) -> Any:
        given = {"reasons": {}, "by": people["assessor"], "now": NOW, "accept_partial": True, **WHERE, **options}
        return save_entry(session, study, participant, values=values, base_version=base, **given)

    return saved


@pytest.fixture
def ask(session: Session, study: StudyInUse, participant: Participant, people: dict[str, Actor]) -> Any:
    def asked(words: str = "Is it 5?", item: str = "pain_nrs", by: str = "monitor", **options: Any) -> Query:
        given = {**WHERE, "item": item, "text": words, "by": people[by], "now": NOW, **options}
        return raise_query(session, study, participant, **given)

    return asked


def queries(session: Session, study: StudyInUse, participant: Participant) -> tuple[Query, ...]:
    assert participant.id is not None
    return reads.queries_of(session, study, participant.id, "week18", "pain")


def logged(session: Session) -> list[str]:
    return list(
        session.execute(
            select(AUDIT_ENTRY.c.action).where(AUDIT_ENTRY.c.action.like("query%")).order_by(AUDIT_ENTRY.c.position)
        ).scalars()
    )


@pytest.mark.requirement("E6-9", "E6-20")
def test_a_query_from_its_question_to_its_end(session, study, participant, people, save, ask):
    save(PAIN)
    asked = ask()
    assert (asked.state, asked.origin, asked.site, asked.text) == (State.OPEN, Origin.MONITOR, "north", "Is it 5?")
    site, manager = people["assessor"], people["data_manager"]
    answered = answer_query(session, study, asked.number, text="It is.", version=1, by=site, now=NOW)
    assert (answered.state, answered.answer) == (State.ANSWERED, "It is.")
    again = requery(session, study, asked.number, text="Where does it say so?", version=2, by=manager, now=NOW)
    assert again.state is State.OPEN
    answer_query(session, study, asked.number, text="In the diary.", version=3, by=site, now=NOW)
    closed = close_query(session, study, asked.number, version=4, by=manager, now=NOW + timedelta(days=2))
    assert (closed.state, closed.closing, closed.answer) == (State.CLOSED, Closing.CLOSED, "In the diary.")
    assert [each.step for each in closed.thread] == ["raise", "answer", "requery", "answer", "close"]
    assert logged(session) == [
        "query.raised",
        "query.answered",
        "query.requeried",
        "query.answered",
        "query.closed",
    ]
    with pytest.raises(Refused, match="Raise another"):
        answer_query(session, study, asked.number, text="Late", version=5, by=site, now=NOW)
    assert verify(session, study.code).intact


def test_the_same_step_again_is_the_same_step_and_another_meanwhile_is_a_conflict(session, study, people, save, ask):
    save(PAIN)
    number = ask().number
    first = answer_query(session, study, number, text="It is.", version=1, by=people["assessor"], now=NOW)
    assert answer_query(session, study, number, text="It is.", version=1, by=people["assessor"], now=NOW) == first
    with pytest.raises(Conflict) as conflict:
        close_query(session, study, number, version=1, by=people["monitor"], now=NOW)
    assert conflict.value.current_version == 2
    assert logged(session) == ["query.raised", "query.answered"]


@pytest.mark.requirement("E6-20", "SEC-19")
def test_only_who_may_takes_a_step(session, study, participant, people, save, ask):
    save(PAIN)
    with pytest.raises(NotAllowed):
        ask(by="assessor")
    number = ask().number
    with pytest.raises(NotAllowed):
        answer_query(session, study, number, text="It is.", version=1, by=people["monitor"], now=NOW)
    for act in (requery, close_query):
        with pytest.raises(NotAllowed):
            act(session, study, number, text="So", version=1, by=people["investigator"], now=NOW)
    elsewhere = person(session, study, "assessor", site_code="south")
    with pytest.raises(NotFound):
        answer_query(session, study, number, text="It is.", version=1, by=elsewhere, now=NOW)
    treats = person(session, study, "clinician")
    with pytest.raises(NotAllowed):
        reads.query_of(session, study, number, by=treats)


def test_nothing_is_asked_of_what_is_not_there(save, ask):
    with pytest.raises(Refused, match="Nothing is entered"):
        ask()
    save(PAIN)
    with pytest.raises(Invalid):
        ask(item="dis_weight")
    with pytest.raises(NotFound):
        ask(visit="tx01")
    with pytest.raises(Invalid, match="names an arm"):
        ask("Is it the sham?")


@pytest.mark.requirement("FDA-14", "AX11-6")
def test_a_check_asks_and_a_correction_settles_it(session, study, participant, save):
    save(ODD)
    (query,) = queries(session, study, participant)
    assert (query.origin, query.rule, query.item, query.state) == (Origin.CHECK, "check_1", "pain_days", State.OPEN)
    assert query.text == "No pain, but days with pain: check both."
    save({**ODD, "pain_note": "Asked"}, 1)
    assert len(queries(session, study, participant)) == 1
    save(PAIN, 2, why="Misheard")
    (query,) = queries(session, study, participant)
    assert (query.state, query.closing) == (State.CLOSED, Closing.CORRECTED)
    save(ODD, 3, why="Misheard again")
    assert [each.state for each in queries(session, study, participant)] == [State.CLOSED, State.OPEN]
    assert logged(session) == ["query.raised", "query.corrected", "query.raised"]


def test_the_reason_for_an_unusual_value_answers_the_check(session, study, participant, save):
    save(ODD)
    save(ODD, 1, reasons={"pain_days": "Days with discomfort"})
    (query,) = queries(session, study, participant)
    assert (query.state, query.answer) == (State.ANSWERED, "Days with discomfort")
    save(ODD, 2, reasons={"pain_days": "Days with discomfort"})
    assert len(queries(session, study, participant)) == 1


def test_who_explains_at_once_is_not_asked(session, study, participant, save):
    save(ODD, reasons={"pain_days": "Days with discomfort"})
    assert queries(session, study, participant) == ()


def test_a_persons_query_is_not_closed_by_a_correction(session, study, participant, save, ask):
    save(ODD)
    ask()
    save(PAIN, 1, why="Misheard")
    assert [each.state for each in queries(session, study, participant)] == [State.CLOSED, State.OPEN]


def test_saving_asks_nothing_more_of_the_database_than_before(session, save):
    save(PAIN)
    said: list[str] = []
    event.listen(session.connection(), "before_cursor_execute", lambda *args: said.append(args[2]))
    save({**PAIN, "pain_nrs": 6}, 1, why="Misheard")
    # What is saved upon with its place, the row, the log and its head, which PostgreSQL takes together. The participant
    # is held, and the end of the log read, only once a transaction.
    assert len(said) == (3 if session.get_bind().dialect.name == "postgresql" else 4), "\n".join(said)


@pytest.mark.requirement("E6-10")
def test_what_was_said_stays(session, save, ask):
    save(PAIN)
    ask()
    for statement in ("UPDATE query_message SET text = 'no'", "DELETE FROM query_message"):
        with pytest.raises(DBAPIError, match="never changed"), session.begin_nested():
            session.execute(text(statement))


# Lists


@pytest.fixture
def many(session: Session, study: StudyInUse, participant: Participant, people: dict[str, Actor], save: Any) -> None:
    save(PAIN)
    south = consented(session, study, "M-002", site_code="south")
    there = person(session, study, "assessor", site_code="south")
    given: Any = {**WHERE, "values": PAIN, "reasons": {}, "base_version": 0, "by": there, "now": NOW}
    save_entry(session, study, south, **given)
    for days in range(7):
        one = participant if days % 2 else south
        made = raise_query(
            session, study, one, **WHERE, item="pain_nrs", text=f"Question {days}", by=people["monitor"],
            now=NOW - timedelta(days=10 * days),
        )  # fmt: skip
        if days in (0, 3):
            close_query(session, study, made.number, version=1, by=people["monitor"], now=NOW)


@pytest.mark.parametrize("sort", list(Sort))
@pytest.mark.parametrize("descending", [False, True])
def test_a_list_of_pages_shows_each_once_in_order(session, study, people, many, sort, descending):
    def page(cursor: str | None = None) -> Any:
        return reads.queries_page(
            session, study, by=people["monitor"], now=NOW, sort=sort, descending=descending, cursor=cursor, limit=3
        )

    pages = [page()]
    while pages[-1].next:
        pages.append(page(pages[-1].next))
    rows = [row for each in pages for row in each.rows]
    assert len({row.number for row in rows}) == len(rows) == 7
    key = {Sort.RAISED: "raised_at", Sort.CHANGED: "changed_at"}.get(sort, sort.value)
    values = [(getattr(row, key), row.number) for row in rows]
    assert values == sorted(values, reverse=descending)
    assert page(pages[-1].previous).rows == pages[-2].rows


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Wanted(), 7),
        (Wanted(standing=True), 5),
        (Wanted(state=State.CLOSED), 2),
        (Wanted(age=30), 4),
        (Wanted(age=30, standing=True), 3),
        (Wanted(site="south"), 4),
        (Wanted(participant="M-001"), 3),
        (Wanted(instrument="disability"), 0),
    ],
)
def test_a_list_is_narrowed(session, study, people, many, wanted, count):
    assert len(reads.queries_page(session, study, by=people["data_manager"], now=NOW, wanted=wanted).rows) == count


def test_nobody_counts_or_lists_the_queries_of_other_sites(session, study, people, many):
    here = people["assessor"]
    rows = reads.queries_page(session, study, by=here, now=NOW).rows
    assert {row.site for row in rows} == {"north"}
    waiting = reads.waiting(session, study, by=here)
    assert (waiting.open, waiting.answered, waiting.oldest_open) == (2, 0, NOW - timedelta(days=50))
    exported = list(reads.every_query(session, study, by=people["data_manager"], permission=Permission.EXPORT_RUN))
    assert [each.participant for each in exported] == ["M-001"] * 3 + ["M-002"] * 4
    assert session.execute(select(func.count()).select_from(QUERY)).scalar_one() == 7
