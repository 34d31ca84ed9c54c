"""Coding: every text by two people, each alone; settled by a third; coded again when it changes; dictionaries."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.audit.verify import verify
from app.capture.actions import save_entry
from app.capture.coding import reads
from app.capture.coding.actions import code_text, load_terms, reconcile_text
from app.capture.coding.reads import Queue, agreement_page, suggestions, term_of, terms_found, text_of
from app.capture.coding.rules import TRANSITIONS, State, Step, after, found_in, step_of, why_not_code
from app.exports.reads import open_export
from app.foundation.errors import Conflict, Invalid, NotAllowed, NotFound, Refused
from app.participants.models import Participant
from app.people.access import Actor
from app.studies.definition import Term
from app.studies.in_use import StudyInUse
from app.studies.loading import read_terms
from tests.capture.records import consented
from tests.capture.twice import twice
from tests.factories import NOW, mini_study, person

OWN = [Term(code="X1", label="Spasm 100% of the day"), Term(code="X2", label="Low back ache, chronic")]


class World:
    def __init__(self, session: Session, **settings: Any) -> None:
        self.session = session
        changes = twice(**settings)
        del changes["double_entry"]
        for form in changes["instruments"]:
            form.pop("double_entry", None)
        self.study: StudyInUse = mini_study(session, **changes)
        self.one, self.two, self.three = (
            person(session, self.study, "data_manager", username=f"coder{n}") for n in (1, 2, 3)
        )
        self.assessor = person(session, self.study, "assessor")
        self.people: dict[str, Participant] = {}
        self.versions: dict[str, int] = {}

    def note(self, text: str | None, code: str = "M-001") -> int:
        """Save a note; the number of what is to be coded."""
        if code not in self.people:
            self.people[code] = consented(self.session, self.study, code)
        values = {"pain_nrs": 5, "pain_days": 3} | ({"pain_note": text} if text else {})
        saved = save_entry(
            self.session,
            self.study,
            self.people[code],
            visit="week18",
            instrument="pain",
            values=values,
            reasons={},
            base_version=self.versions.get(code, 0),
            why="Read again" if code in self.versions else None,
            by=self.assessor,
            now=NOW,
        )
        self.versions[code] = saved.version
        page = reads.queue(self.session, self.study, Queue.TO_CODE, by=self.three, limit=500)
        return page.rows[-1].number if page.rows else 0

    def code(self, number: int, code: str, by: Actor) -> Any:
        return code_text(self.session, self.study, number, code=code, by=by, now=NOW)

    def settle(self, number: int, code: str, by: Actor, version: int = 3, why: str = "As the guide says") -> Any:
        return reconcile_text(self.session, self.study, number, code=code, why=why, version=version, by=by, now=NOW)

    def log(self, action: str) -> list[Any]:
        query = select(AUDIT_ENTRY.c.new).where(AUDIT_ENTRY.c.action == action).order_by(AUDIT_ENTRY.c.position)
        return [json.loads(row.new) for row in self.session.execute(query)]


@pytest.fixture
def world(session: Session) -> World:
    return World(session)


@given(st.integers(1, 2), st.lists(st.sampled_from("ab"), max_size=4), st.booleans())
def test_no_history_leaves_the_states(coders: int, codes: list[str], changes: bool):
    state, chosen = State.TO_CODE, list[str]()
    for number, code in enumerate(codes):
        if why_not_code(state, [f"coder{n}" for n in range(len(chosen))], f"coder{number}"):
            break
        following = after(state, step_of(state, coders, chosen, code))
        assert following is not None
        state, chosen = following, [*chosen, code]
    assert len(chosen) <= coders
    if state is State.TO_RECONCILE:
        assert len(set(chosen)) == 2
    if state is State.CODED:
        assert len(chosen) == coders
        assert len(set(chosen)) == 1
    if changes:
        assert after(state, Step.CHANGE) is State.OUTDATED
    assert all(set(steps) <= set(Step) for steps in TRANSITIONS.values())


def test_two_coders_agree_and_neither_sees_the_other_before(world: World):
    number = world.note("Sore lower back")
    assert world.code(number, "LBP", world.one).choices[0].code == "LBP"
    assert world.code(number, "LBP", world.one).state is State.HALF_CODED, "the answer did not arrive"
    with pytest.raises(Refused, match="You have coded this text"):
        world.code(number, "SCI", world.one)
    hidden = text_of(world.session, world.study, number, by=world.two)
    assert (hidden.choices, hidden.code, hidden.label) == ((), None, None)
    # Neither in the log nor in an export, which coders may read.
    assert world.log("coding.chosen") == [{"text": number}]
    (row,) = _rows(world, "coding")
    assert (row["state"], row["first_code"], row["code"]) == ("half_coded", None, None)
    with pytest.raises(Invalid):
        world.code(number, "NONE", world.two)
    with pytest.raises(NotAllowed):
        world.code(number, "LBP", world.assessor)
    done = world.code(number, "LBP", world.two)
    assert (done.state, done.code, done.label, len(done.choices)) == (State.CODED, "LBP", "Low back pain", 2)
    assert world.log("coding.coded")[0]["choices"] == {"coder1": "LBP", "coder2": "LBP"}
    with pytest.raises(Refused, match="coded already"):
        world.code(number, "LBP", world.three)
    assert verify(world.session, world.study.code).intact


def test_a_third_person_settles_what_two_see_differently(world: World):
    number = world.note("Sore lower back")
    world.code(number, "LBP", world.one)
    with pytest.raises(Refused, match="nothing to settle"):
        world.settle(number, "LBP", world.three, version=2)
    assert world.code(number, "SCI", world.two).state is State.TO_RECONCILE
    for coder in (world.one, world.two):
        with pytest.raises(Refused, match="third person"):
            world.settle(number, "LBP", coder)
    with pytest.raises(Invalid):
        world.settle(number, "LBP", world.three, why="")
    with pytest.raises(Conflict):
        world.settle(number, "LBP", world.three, version=2)
    assert [each.number for each in _queue(world, Queue.TO_RECONCILE, world.three)] == [number]
    assert not _queue(world, Queue.TO_RECONCILE, world.one)
    done = world.settle(number, "SLEEP", world.three)
    assert (done.state, done.code, done.reconciled_by) == (State.CODED, "SLEEP", "coder3")
    assert world.log("coding.reconciled") == [{"text": number, "code": "SLEEP"}]
    wide = _rows(world, "instrument_pain")
    assert (wide[0]["pain_note"], wide[0]["pain_note__code"], wide[0]["pain_note__term"]) == (
        "Sore lower back",
        "SLEEP",
        "Sleep disturbed by pain",
    )
    by_visit = _rows(world, "entries_by_visit")
    assert by_visit[0]["pain__pain_note__code"] == "SLEEP"


def test_a_changed_text_is_coded_again_and_the_old_coding_kept(world: World):
    number = world.note("Sore lower back")
    for coder in (world.one, world.two):
        world.code(number, "LBP", coder)
    again = world.note("Sore lower back and leg")
    assert again != number
    old = text_of(world.session, world.study, number, by=world.one)
    assert (old.state, old.code, len(old.choices)) == (State.OUTDATED, "LBP", 2)
    with pytest.raises(Refused, match="as it reads now"):
        world.code(number, "SCI", world.three)
    assert _rows(world, "instrument_pain")[0]["pain_note__code"] is None
    assert world.note(None) == 0, "a text that is gone is not coded"
    assert [each.number for each in _queue(world, Queue.OUTDATED, world.one)] == [number, again]
    assert _rows(world, "coding")[0]["outdated_at"] is not None


def test_suggestions_come_from_the_same_text_where_it_is_settled(world: World):
    first = world.note("Sore  lower BACK")
    for coder in (world.one, world.two):
        world.code(first, "LBP", coder)
    second = world.note("sore lower back", "M-002")
    third = world.note("Sore lower back!", "M-003")
    texts = [text_of(world.session, world.study, each, by=world.three) for each in (second, third)]
    assert [[each.code for each in suggestions(world.session, world.study, text)] for text in texts] == [["LBP"], []]


def test_one_coder_is_enough_where_the_study_says_so(session: Session):
    world = World(session, coders=1)
    number = world.note("Sore lower back")
    assert world.code(number, "LBP", world.one).state is State.CODED
    assert not agreement_page(session, world.study, by=world.one).rows


def test_agreement_of_coders(world: World):
    pairs = [("LBP", "LBP"), ("LBP", "LBP"), ("SCI", "SCI"), ("SLEEP", "LBP")]
    for place, (one, two) in enumerate(pairs):
        number = world.note(f"Text {place}", f"M-01{place}")
        world.code(number, one, world.one)
        world.code(number, two, world.two)
    (line,) = agreement_page(world.session, world.study, by=world.one).rows
    assert (line.instrument, line.item, line.compared, line.agreeing) == ("pain", "pain_note", 4, 3)
    # Observed 3/4; expected (2/4)(3/4) + (1/4)(1/4) = 7/16.
    assert line.kappa is not None
    assert line.kappa.value == pytest.approx((12 - 7) / (16 - 7))
    exported = [row for row in _rows(world, "agreement") if row["kind"] == "coding" and row["site"] is None]
    assert exported[0]["kappa"] == pytest.approx(5 / 9, abs=1e-6)


def test_a_dictionary_is_searched_by_words(world: World):
    def found(text: str) -> list[str]:
        return [term.code for term in terms_found(world.session, world.study, "complaints", text)]

    assert found("pain") == ["LBP", "SLEEP"]
    assert found("PAIN  back") == ["LBP"]
    assert found("sci") == ["SCI"]
    assert found("") == found("   ") == found("kidney") == []
    with pytest.raises(Refused):
        load_terms(world.session, world.study, "meddra", OWN, by=_operator(world), now=NOW)
    with pytest.raises(NotAllowed):
        load_terms(world.session, world.study, "complaints", OWN, by=world.one, now=NOW)
    for wrong in ([], [OWN[0], OWN[0]]):
        with pytest.raises(Invalid):
            load_terms(world.session, world.study, "complaints", wrong, by=_operator(world), now=NOW)
    for _ in range(2):  # a newer copy takes the place of the older
        assert load_terms(world.session, world.study, "complaints", OWN, by=_operator(world), now=NOW) == 2
    assert found("low back") == found("BACK low") == ["X2"]
    assert found("100%") == ["X1"]
    assert found("1_0%") == [], "what somebody types is no pattern"
    assert term_of(world.session, world.study, "complaints", "LBP") is None
    assert world.log("dictionary.loaded")[0]["terms"] == 2


@given(st.lists(st.text("ab c", max_size=9), max_size=20), st.text("abc ", max_size=5))
def test_what_is_found_holds_every_word(labels: list[str], text: str):
    terms = [Term.model_construct(code=f"T{n}", label=label, parent=None) for n, label in enumerate(labels)]
    found = found_in(terms, text)
    for term in terms:
        held = all(word in f"{term.label} {term.code}".casefold() for word in text.split())
        assert (term in found) == (held and bool(text.split()))


def test_a_dictionary_file_is_read_with_its_mistakes():
    terms, findings = read_terms("\ufeffcode,label,parent\r\nA,Ache,\r\n\r\nB,Back ache,A\r\n"[1:], "d.csv")
    assert [(term.code, term.label, term.parent) for term in terms] == [("A", "Ache", None), ("B", "Back ache", "A")]
    assert not findings
    assert [each.line for each in read_terms("code,label\nA,Ache\n,No code\nB,b,c\n", "d.csv")[1]] == [3, 4]
    assert "first line" in read_terms("A;B\n", "d.csv")[1][0].message
    assert "first line" in read_terms("A" * 300_000, "d.csv")[1][0].message
    terms, (found,) = read_terms(f"code,label\nA,Ache\nB,{'b' * 300_000}\n", "d.csv")
    assert ([each.code for each in terms], found.line) == (["A"], 3)
    assert "cannot be read" in found.message


def test_who_is_elsewhere_finds_no_text(world: World):
    number = world.note("Sore lower back")
    south = person(world.session, world.study, "investigator", site_code="south", username="south")
    with pytest.raises(NotFound):
        text_of(world.session, world.study, number, by=south)
    with pytest.raises(NotFound):
        world.code(number, "LBP", south)
    assert not _queue(world, Queue.TO_CODE, south)
    assert reads.counts(world.session, world.study, by=world.one)[Queue.TO_CODE] == 1


def _operator(world: World) -> Actor:
    return person(world.session, world.study, "administrator", username="operator")


def _queue(world: World, which: Queue, by: Actor) -> Any:
    return reads.queue(world.session, world.study, which, by=by).rows


def _rows(world: World, name: str) -> list[dict[str, Any]]:
    table = open_export(world.session, world.study, name, by=world.one)
    return [dict(zip([column.name for column in table.columns], row, strict=True)) for row in table.rows]


def test_a_text_that_changes_between_two_coders_shows_neither_what_the_first_chose(world: World):
    number = world.note("Sore lower back")
    world.code(number, "LBP", world.one)
    again = world.note("Sore lower back.")
    assert again != number
    assert text_of(world.session, world.study, number, by=world.two).choices == ()
    assert [each.code for each in text_of(world.session, world.study, number, by=world.one).choices] == ["LBP"]
    rows = _rows(world, "coding")
    assert [(row["state"], row["first_code"]) for row in rows] == [("outdated", None), ("to_code", None)]
    # What both have coded may be seen, also once it was changed.
    world.code(again, "LBP", world.one)
    world.code(again, "LBP", world.two)
    world.note("Sore")
    assert len(text_of(world.session, world.study, again, by=world.three).choices) == 2
