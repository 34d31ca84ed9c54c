"""Double entry: two people, the second blind to the first; compared, settled, signed only then; agreement."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.audit.verify import verify
from app.capture.actions import mark_in_error, save_entry, sign_entry
from app.capture.double.actions import Decision, enter_second, reconcile
from app.capture.double.held import PAIR
from app.capture.double.reads import agreement_page, answers_in, counts, line_of, pair_at, queue, without_withheld
from app.capture.double.rules import (
    PENDING,
    TRANSITIONS,
    Chosen,
    State,
    Step,
    after,
    compared,
    why_not_change,
    why_not_second,
)
from app.capture.queries.reads import queries_page, standing_of, waiting
from app.capture.reads import entries_with_values, entry_of, unsigned_visits
from app.exports.reads import catalogue, open_export
from app.foundation.errors import Conflict, Invalid, NotAllowed, Refused
from app.participants.models import Participant
from app.people.access import Actor
from app.studies.in_use import StudyInUse
from tests.capture.records import consented, instrument
from tests.capture.twice import twice
from tests.factories import NOW, mini_study, person

PAIN = {"pain_nrs": 5, "pain_days": 3, "pain_where": ["back"], "pain_note": "Sore at night"}
WHERE: dict[str, Any] = {"visit": "week18", "instrument": "pain"}


class World:
    def __init__(self, session: Session, **settings: Any) -> None:
        self.session = session
        self.study: StudyInUse = mini_study(session, **twice(**settings))
        self.participant: Participant = consented(session, self.study)
        self.first = person(session, self.study, "assessor", username="first")
        self.second = person(session, self.study, "coordinator", username="second")
        self.manager = person(session, self.study, "data_manager", username="manager")

    @property
    def id(self) -> int:
        assert self.participant.id is not None
        return self.participant.id

    def save(self, values: dict[str, Any] = PAIN, by: Actor | None = None, base: int = 0, **more: Any) -> Any:
        return save_entry(
            self.session,
            self.study,
            self.participant,
            **WHERE,
            values=values,
            reasons={},
            base_version=base,
            by=by or self.first,
            now=NOW,
            **more,
        )

    def again(self, values: dict[str, Any] = PAIN, by: Actor | None = None, **more: Any) -> Any:
        return enter_second(
            self.session,
            self.study,
            self.participant,
            **WHERE,
            values=values,
            reasons={},
            by=by or self.second,
            now=NOW,
            **more,
        )

    def settle(self, number: int, decisions: dict[str, Decision], by: Actor | None = None, version: int = 2) -> Any:
        return reconcile(
            self.session,
            self.study,
            number,
            decisions=decisions,
            version=version,
            by=by or self.manager,
            now=NOW,
        )

    def sign(self, by: Actor | None = None, version: int = 1) -> Any:
        return sign_entry(
            self.session,
            self.study,
            self.participant,
            **WHERE,
            version=version,
            meaning="authorship",
            by=by or self.first,
            now=NOW,
        )

    def entry(self) -> Any:
        return entry_of(self.session, self.id, "week18", "pain")

    def state(self) -> State | None:
        pair = pair_at(self.session, self.id, "week18", "pain")
        return pair.state if pair else None

    def log(self) -> list[tuple[str, str]]:
        query = select(AUDIT_ENTRY.c.action, AUDIT_ENTRY.c.item).order_by(AUDIT_ENTRY.c.position)
        return [(row.action, row.item) for row in self.session.execute(query)]


@pytest.fixture
def world(session: Session) -> World:
    return World(session)


# Rules


@given(st.lists(st.sampled_from(list(Step)), max_size=12))
def test_no_history_leaves_the_states(steps: list[Step]):
    state: State | None = None
    for step in steps:
        following = after(state, step)
        assert (following is not None) == (step in TRANSITIONS[state])
        assert following is None or (state in PENDING or step is Step.BEGIN)
        state = following or state
    assert state is None or state in TRANSITIONS


VALUES = st.dictionaries(
    st.sampled_from(["one", "two", "three", "score"]),
    st.sampled_from([0, 1, True, False, "1", ["a"], {"missing": "ND"}]),
)


@given(VALUES, VALUES)
def test_every_answer_of_either_is_compared_once_and_scores_are_not(first, second):
    form = instrument(
        {"code": "one", "type": "text"},
        {"code": "two", "type": "text"},
        {"code": "three", "type": "text"},
        {"code": "score", "type": "calculated", "calculation": "1"},
    )
    found = compared(form, first, second)
    assert [each.item for each in found] == [
        code for code in ("one", "two", "three") if code in first or code in second
    ]
    assert [each.agrees for each in compared(form, first, first)] == [True] * len(compared(form, first, first))
    swapped = compared(form, second, first)
    assert [each.agrees for each in swapped] == [each.agrees for each in found]


# What happens


@pytest.mark.requirement("E6-9", "SPI-26", "ALC-Ac")
def test_two_people_enter_the_same(world: World):
    assert world.save().version == 1
    assert world.state() is State.AWAITS_SECOND
    with pytest.raises(Refused, match="waits for its second entry"):
        world.sign()
    assert unsigned_visits(world.session, world.study, by=world.first).total == 0
    entered = world.again()
    assert (entered.state, entered.compared, entered.differing) == (State.AGREED, 4, 0)
    assert world.again() == entered, "the answer to the first did not arrive"
    with pytest.raises(Refused, match="second time already"):
        world.again({**PAIN, "pain_nrs": 4})
    assert world.entry().version == 1
    assert world.sign().is_signed
    assert ("entry.entered_twice", "") in world.log()
    assert verify(world.session, world.study.code).intact


@pytest.mark.requirement("E6-9", "AX11-6")
def test_the_first_person_and_who_reads_elsewhere_cannot_be_the_second(world: World):
    with pytest.raises(Refused, match="Nobody has entered this form yet"):
        world.again()
    world.save()
    with pytest.raises(Refused, match="You made the first entry"):
        world.again(by=world.first)
    both = person(world.session, world.study, "coordinator", "investigator", username="both")
    with pytest.raises(Refused, match="audit log or in an export"):
        world.again(by=both)
    with pytest.raises(NotAllowed):
        world.again(by=world.manager)
    assert world.state() is State.AWAITS_SECOND
    world.again()
    # Kept by the database, too.
    with pytest.raises(IntegrityError), world.session.begin_nested():
        world.session.execute(update(PAIR).values(second_by="first"))


def test_what_is_refused_or_invalid_says_nothing_of_the_first_entry(world: World):
    """The very same words, whatever the first entry says."""
    said = []
    for values in (PAIN, {"pain_nrs": 0, "pain_days": 0, "pain_note": "Zygote"}):
        point = world.session.begin_nested()
        world.save(values, accept_partial=True)
        words: list[Any] = []
        for attempt in ({}, {"pain_nrs": 11}, {"pain_nrs": 3, "pain_days": 0}):
            with pytest.raises(Invalid) as found:
                world.again(attempt)
            words.append([(each.field, each.rule, each.message) for each in found.value.problems])
        with pytest.raises(Refused) as refused:
            world.save(values, by=world.second, base=1)
        words.append(refused.value.reason)
        with pytest.raises(Refused) as unsigned:
            world.sign(by=person(world.session, world.study, "assessor", username="other"))
        words.append(unsigned.value.reason)
        shown = without_withheld(
            world.session,
            world.study.definition,
            world.participant,
            entries_with_values(world.session, world.id),
            by=world.second,
        )
        words.append(len(shown))
        words.append(len(queries_page(world.session, world.study, by=world.second, now=NOW).rows))
        words.append(waiting(world.session, world.study, by=world.second).open)
        said.append(words)
        point.rollback()
    assert said[0] == said[1]
    assert said[0][-3:] == [0, 0, 0]


def test_a_query_of_the_first_entry_is_seen_by_others(world: World):
    world.save({"pain_nrs": 0, "pain_days": 5}, accept_partial=True)
    at_work = {
        name: queries_page(world.session, world.study, by=who, now=NOW).rows
        for name, who in (("first", world.first), ("second", world.second), ("manager", world.manager))
    }
    assert {name: bool(rows) for name, rows in at_work.items()} == {"first": True, "second": False, "manager": True}
    for name, who in (("first", world.first), ("second", world.second), ("manager", world.manager)):
        standing = standing_of(world.session, world.study, [world.id], by=who)
        assert standing == ({world.id: len(at_work[name])} if at_work[name] else {}), "counted as they are listed"
    world.again({"pain_nrs": 0, "pain_days": 5}, accept_partial=True)
    assert queries_page(world.session, world.study, by=world.second, now=NOW).rows


def test_what_is_entered_twice_is_marked_as_in_error_once_it_is_settled(world: World):
    world.save()
    here: dict[str, Any] = {"session": world.session, "study": world.study, "participant": world.participant, **WHERE}
    here |= {"repeat": 1, "why": "Another participant's", "by": world.first, "now": NOW}
    with pytest.raises(Refused, match="not settled yet"):
        mark_in_error(**here, version=1)
    world.again()
    assert mark_in_error(**here, version=world.entry().version).is_in_error


@pytest.mark.requirement("E6-9", "AX11-8")
def test_differences_are_settled_one_by_one_with_their_reasons(world: World):
    world.save()
    entered = world.again({**PAIN, "pain_nrs": 7, "pain_days": 4, "pain_note": "Sore"})
    assert (entered.state, entered.differing) == (State.TO_RECONCILE, 3)
    with pytest.raises(Refused, match="two entries differ"):
        world.save({**PAIN, "pain_nrs": 6}, base=1, why="Misread")
    with pytest.raises(Refused, match="differ"):
        world.sign()
    right = {
        "pain_nrs": Decision(Chosen.SECOND, "The paper says 7."),
        "pain_days": Decision(Chosen.OTHER, "The paper says 6.", 6),
        "pain_note": Decision(Chosen.FIRST, "Read in full."),
    }
    with pytest.raises(Refused, match="data manager settles"):
        world.settle(entered.number, right, by=world.second)
    for wrong, fields in (
        ({}, {"pain_nrs", "pain_days", "pain_note"}),
        ({**right, "pain_nrs": Decision(Chosen.FIRST, " ")}, {"pain_nrs__settled"}),
        ({**right, "pain_days": Decision(Chosen.OTHER, "So it is.")}, {"pain_days"}),
        ({**right, "pain_days": Decision(Chosen.OTHER, "So it is.", 99)}, {"pain_days"}),
        ({**right, "pain_where": Decision(Chosen.FIRST, "Why not")}, {"pain_where"}),
    ):
        with pytest.raises(Invalid) as found, world.session.begin_nested():
            world.settle(entered.number, wrong)
        assert {each.field for each in found.value.problems} == fields
    with pytest.raises(Conflict):
        world.settle(entered.number, right, version=1)
    line = world.settle(entered.number, right)
    assert line.state is State.RECONCILED
    entry = world.entry()
    assert entry.version == 2
    assert entry.values == {**PAIN, "pain_nrs": 7, "pain_days": 6}
    assert entry.saved_by == "manager"
    log = world.log()
    assert [item for action, item in log if action == "entry.reconciled"] == ["pain_nrs", "pain_days", "pain_note"]
    assert {item for action, item in log if action == "entry.corrected"} == {"pain_nrs", "pain_days"}
    answers = {each.item: each for each in answers_in(world.session, world.study, line, by=world.manager)}
    assert (answers["pain_days"].first, answers["pain_days"].second, answers["pain_days"].settled) == (3, 4, 6)
    assert answers["pain_where"].agrees
    with pytest.raises(Refused, match="nothing to settle"):
        world.settle(entered.number, right, version=3)
    assert world.sign(version=2).is_signed
    world.save({**PAIN, "pain_nrs": 7, "pain_days": 6, "pain_note": "More"}, base=2, why="Asked again")
    assert verify(world.session, world.study.code).intact


def test_the_second_person_settles_where_the_study_says_so_and_completion_waits(session: Session):
    world = World(session, reconciled_by="second", before=["completion"], per_visit=True)
    assert not world.study.definition.is_entered_twice("baseline", "pain")
    assert world.save().status == "partial"
    entered = world.again({**PAIN, "pain_nrs": 6})
    assert world.entry().status == "partial"
    decided = {"pain_nrs": Decision(Chosen.SECOND, "Clearly a 6.")}
    with pytest.raises(Refused, match="second entry settles"):
        world.settle(entered.number, decided)
    world.settle(entered.number, decided, by=world.second)
    assert (world.entry().status, world.entry().values["pain_nrs"]) == ("complete", 6)
    other = World.__new__(World)
    other.__dict__ |= {**world.__dict__, "participant": consented(session, world.study, "M-002")}
    other.save()
    assert other.again().state is State.AGREED
    assert (other.entry().status, other.entry().version) == ("complete", 2)


def test_a_form_from_before_it_was_entered_twice_goes_on_as_it_is(session: Session):
    world = World(session)
    world.save()
    session.execute(PAIR.delete())
    assert world.save({**PAIN, "pain_nrs": 6}, by=world.second, base=1, why="Misread").version == 2
    assert world.state() is None
    assert why_not_change(None, "", by=world.second) is None
    assert why_not_second(State.AGREED, "first", by=world.second) is not None


def test_queue_agreement_and_exports(session: Session):
    world = World(session)
    south = person(session, world.study, "assessor", site_code="south", username="southerner")
    for number, second in enumerate((5, 5, 7, 3, 9)):
        world.participant = consented(session, world.study, f"M-01{number}", site_code="north")
        world.save({**PAIN, "pain_nrs": (5, 5, 7, 2, 9)[number]})
        world.again({**PAIN, "pain_nrs": second})
    world.participant = consented(session, world.study, "M-020")
    world.save()
    assert counts(session, world.study, by=world.manager) == {
        State.AWAITS_SECOND: 1,
        State.TO_RECONCILE: 1,
        State.AGREED: 4,
        State.RECONCILED: 0,
    }
    assert sum(counts(session, world.study, by=south).values()) == 0
    seen, cursor = [], None
    while True:
        page = queue(session, world.study, by=world.manager, cursor=cursor, limit=2)
        seen += [each.participant for each in page.rows]
        cursor = page.next
        if cursor is None:
            break
    assert seen == ["M-010", "M-011", "M-012", "M-013", "M-014", "M-020"]
    assert (
        answers_in(
            session, world.study, line_of(session, world.study, page.rows[-1].number, by=world.second), by=world.second
        )
        == ()
    )
    lines = {each.item: each for each in agreement_page(session, world.study, by=world.manager).rows}
    nrs = lines["pain_nrs"]
    assert (nrs.compared, nrs.agreeing, nrs.percent) == (5, 4, 80)
    # Five pairs: 5-5, 5-5, 7-7, 2-3, 9-9. Observed 0.8, expected 0.04 * (4 + 1 + 1) = 0.24.
    assert nrs.kappa is not None
    assert nrs.kappa.value == pytest.approx((0.8 - 0.24) / 0.76)
    assert nrs.weighted is not None
    assert nrs.weighted.value > nrs.kappa.value
    assert lines["pain_note"].kappa is None
    (only,) = agreement_page(session, world.study, by=world.manager, by_site=True, limit=1).rows
    assert only.site == "north"
    with pytest.raises(NotAllowed):
        agreement_page(session, world.study, by=world.second)
    names = [each.name for each in catalogue(session, world.study, by=world.manager)]
    assert {"double_entry", "coding", "agreement"} <= set(names)
    rows = {name: _rows(session, world, name) for name in ("double_entry", "agreement")}
    differing = [row for row in rows["double_entry"] if row["agrees"] is False]
    assert [(row["participant"], row["item"], row["first"], row["second"]) for row in differing] == [
        ("M-013", "pain_nrs", 2, 3)
    ]
    figures = {(row["item"], row["site"]): row["kappa"] for row in rows["agreement"] if row["kind"] == "double_entry"}
    assert figures["pain_nrs", None] == figures["pain_nrs", "north"] == pytest.approx(0.736842)


def _rows(session: Session, world: World, name: str) -> list[dict[str, Any]]:
    table = open_export(session, world.study, name, by=world.manager)
    return [dict(zip([column.name for column in table.columns], row, strict=True)) for row in table.rows]
