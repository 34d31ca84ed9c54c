"""What is to be verified: where an entry stands, who sees it in the list, in which order, and how many there are."""

from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text, update
from sqlmodel import Session

from app.capture.locks.rules import Kind
from app.capture.reads import ENTRY, PARTICIPANT, VISIT, entry_of
from app.capture.verification import reads
from app.capture.verification.actions import follow_study
from app.capture.verification.reads import Wanted, count, verification_page
from app.capture.verification.rules import State, everything, is_verified, is_wanted, state_of, ticked
from app.foundation import paging
from app.foundation.errors import Invalid, NotAllowed
from app.people.access import Actor, Grant
from app.people.permissions import Role
from app.reports.kept import KeptCounts
from app.reports.reads import verification_counted
from app.studies.definition import Study
from tests.capture.records import consented
from tests.capture.test_locks import PAIN, WHERE, Trial
from tests.factories import MINI, NOW, definition, person, site

ALL: list[str] = ["pain_nrs", "pain_days"]
OTHER: Any = {**WHERE, "instrument": "disability"}
C = {"changed": 2}
V: dict[str, Any] = {}


@pytest.fixture
def trial(session: Session) -> Trial:
    return Trial(session)


# Where an entry stands


@pytest.mark.parametrize(
    ("values", "verified", "state"),
    [
        ([], {}, None),
        (["a"], {}, State.UNVERIFIED),
        (["a", "b"], {"a": V}, State.UNVERIFIED),
        (["a", "b"], {"a": V, "b": V}, State.VERIFIED),
        (["a"], {"a": V, "b": V}, State.VERIFIED),  # that b is blank was verified too
        ([], {"a": V}, State.VERIFIED),
        (["a", "b"], {"a": C, "b": V}, State.CHANGED),
        (["a", "b"], {"a": C}, State.CHANGED),
        (["b"], {"a": C, "b": V}, State.CHANGED),  # taken away since
        ([], {"a": C}, State.CHANGED),
    ],
)
def test_where_an_entry_stands(values: Any, verified: Any, state: Any):
    assert state_of(values, verified) is state


def stands(trial: Trial, **where: Any) -> tuple[str | None, bool]:
    """Where the entry stands by its column, and whether every answer of it is verified."""
    entry = entry_of(trial.session, trial.id, **{**WHERE, **where})
    assert entry is not None
    assert entry.verification == state_of(entry.values, entry.verified)
    assert (entry.verified_at is not None) is (entry.verification == State.VERIFIED)
    return entry.verification, entry.verified_at is not None


def listed(trial: Trial, by: str | Actor = "monitor", **wanted: Any) -> list[Any]:
    actor = by if isinstance(by, Actor) else trial.people[by]
    return list(verification_page(trial.session, trial.study, by=actor, wanted=Wanted(**wanted)).rows)


def names(trial: Trial, by: str | Actor = "monitor", **wanted: Any) -> list[tuple[str, str, str, State]]:
    rows = listed(trial, by, **wanted)
    return [(each.participant, each.visit, each.name, each.state) for each in rows]


@pytest.mark.requirement("E6-9")
def test_from_not_verified_to_verified_to_changed_and_verified_again(trial: Trial):
    trial.save()
    (line,) = listed(trial, standing=True)
    assert (line.state, line.answers, line.verified, line.changed) == (State.UNVERIFIED, 2, 0, 0)
    trial.verify(["pain_nrs"])
    (line,) = listed(trial, standing=True)
    assert (line.state, line.answers, line.verified, line.changed) == (State.UNVERIFIED, 2, 1, 0)
    trial.verify(ALL)
    assert stands(trial) == ("verified", True)
    assert listed(trial, standing=True) == []
    (line,) = listed(trial, state=State.VERIFIED)
    assert (line.verified, line.verified_at) == (2, NOW)
    trial.save({"pain_nrs": 6, "pain_days": 3}, 1, why="Misread")
    (line,) = listed(trial, standing=True)
    assert (line.state, line.answers, line.verified, line.changed) == (State.CHANGED, 2, 1, 1)
    trial.save(PAIN, 2, why="Right the first time")
    assert stands(trial) == ("changed", False), "also when it is changed back"
    trial.verify(["pain_days"], 3)
    assert stands(trial) == ("changed", False), "what was not looked at again"
    trial.verify(ALL, 3)
    assert stands(trial) == ("verified", True)
    trial.verify(["pain_days"], 3)
    assert stands(trial) == ("unverified", False), "taken back"


def test_an_answer_that_is_taken_away_has_to_be_looked_at_too(trial: Trial):
    trial.save({**PAIN, "pain_note": "worse"})
    trial.verify([*ALL, "pain_note"])
    trial.save(PAIN, 1, why="Of somebody else")
    (line,) = listed(trial, standing=True)
    assert (line.state, line.answers, line.verified, line.changed) == (State.CHANGED, 2, 2, 1)
    entry = entry_of(trial.session, trial.id, **WHERE)
    assert entry is not None
    assert sorted(everything(entry)) == ["pain_days", "pain_note", "pain_nrs"]
    assert ticked(entry, ALL, [*ALL, "pain_note"]) == ALL, "a box that was not ticked"
    assert ticked(entry, ALL, ALL) == [*ALL, "pain_note"], "no box: it goes with the rest"
    assert ticked(entry, ["pain_nrs"], ALL) == ["pain_nrs"]
    trial.verify(everything(entry), 2)
    assert stands(trial) == ("verified", True)
    before = trial.log("entry.verif")
    trial.verify(everything(entry), 2)
    assert trial.log("entry.verif") == before, "the same again changes nothing"
    trial.save({**PAIN, "pain_note": "worse"}, 2, why="It was theirs")
    assert stands(trial) == ("changed", False)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("save"), st.fixed_dictionaries({"pain_nrs": st.integers(1, 3), "pain_days": st.integers(1, 2)})
        ),
        st.tuples(st.just("note"), st.sampled_from(["", "worse"])),
        st.tuples(st.just("verify"), st.sets(st.sampled_from([*ALL, "pain_note"]))),
        st.tuples(st.just("all"), st.none()),
    ),
    max_size=8,
)


@given(STEPS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_is_done_an_entry_is_verified_when_each_answer_is_as_it_was_seen(trial: Trial, steps: list[Any]):
    """Held against the plainest account of it: what the monitor last saw of each item, if they still vouch for it."""
    with trial.session.begin_nested() as inside:
        _play(trial, steps)
        inside.rollback()


def _play(trial: Trial, steps: list[Any]) -> None:
    version, values = 1, dict(PAIN)
    trial.save()
    seen: dict[str, object] = {}  # item -> what it was when it was verified, None for blank
    moved: set[str] = set()
    for step, said in steps:
        if step in ("save", "note"):
            after = {**values, **said} if step == "save" else {**values, "pain_note": said}
            after = {item: value for item, value in after.items() if value != ""}
            different = {item for item in {*values, *after} if values.get(item) != after.get(item)}
            trial.save(after, version, why="So")
            version, values = version + bool(different), after
            moved |= different & set(seen)
        else:
            wanted = {*values, *seen} if step == "all" else said
            trial.verify(sorted(wanted), version)
            seen = {item: values.get(item) for item in wanted} | {
                item: seen[item] for item in moved if item not in wanted
            }
            moved -= wanted
        right = not moved and all(item in seen and seen[item] == value for item, value in values.items())
        expected = State.CHANGED if moved else State.VERIFIED if right else State.UNVERIFIED
        assert stands(trial) == (expected, expected is State.VERIFIED), (step, said)
        assert [each.state for each in listed(trial)] == [expected]


def monitor(trial: Trial, *sites: str | None) -> Actor:
    """A monitor of these sites; of all of them for None."""
    grants = [None if each is None else site(trial.session, trial.study, each).id for each in sites]
    return Actor(1, "somebody", "Somebody", "", tuple(Grant(Role.MONITOR, each) for each in grants))


def southern(trial: Trial) -> Actor:
    """Who assesses at the other site."""
    return person(trial.session, trial.study, "assessor", site_code="south", username="southern")


# Who sees what


def test_what_asks_for_nothing_is_not_in_the_list(trial: Trial):
    trial.save({**PAIN})
    trial.save({"pain_nrs": 5}, participant=trial.other, accept_partial=True)
    assert [(each.participant, each.status) for each in listed(trial)] == [("M-001", "complete"), ("M-002", "partial")]
    trial.session.execute(
        update(ENTRY).where(ENTRY.c.participant_id != trial.id).values(in_error_at=NOW, in_error_by="x")
    )
    assert [each.participant for each in listed(trial)] == ["M-001"]
    trial.save({}, 1, why="All of it belongs to somebody else", accept_partial=True)
    assert listed(trial) == [], "there is nothing to compare"


def test_a_query_and_a_lock_are_said_and_freezing_is_not_in_the_way(trial: Trial):
    trial.save()
    number = trial.ask().number
    assert [(each.has_query, each.is_locked) for each in listed(trial)] == [(True, False)]
    trial.session.execute(
        text(f"UPDATE query SET state = 'closed', closed_at = raised_at, closing = 'closed' WHERE id = {number}")
    )
    trial.close(Kind.FROZEN)
    assert [(each.has_query, each.is_locked) for each in listed(trial)] == [(False, False)]
    trial.verify(ALL)
    trial.close(Kind.LOCKED, despite=True, participants=None, visit="week18")
    assert [(each.state, each.is_locked) for each in listed(trial)] == [(State.VERIFIED, True)]


def test_what_is_withdrawn_from_use_is_not_verified(trial: Trial, monkeypatch: Any):
    trial.save()
    trial.save(participant=trial.other)
    level = "visits"
    monkeypatch.setattr("app.capture.in_use.levels_that_stop_use", lambda _: [level])
    row = update(PARTICIPANT).where(PARTICIPANT.c.id == trial.id)
    trial.session.execute(row.values(withdrawal_level=level, withdrawn_on=NOW.date()))
    trial.session.execute(update(VISIT).values(status="held", held_on=NOW.date()))
    assert [each.participant for each in listed(trial)] == ["M-002"]
    assert count(trial.session, trial.study, now=NOW).in_all().total == 1
    error = {"in_error_at": NOW, "in_error_by": "x", "in_error_why": "Of somebody else"}
    trial.session.execute(update(ENTRY).values(**error))
    assert count(trial.session, trial.study, now=NOW).entries == (), "each is taken away once, for whatever reasons"


def test_what_waits_for_its_second_entry_is_not_counted_and_what_is_settled_is(session: Session):
    trial = Trial(session)
    form = [{**each, "double_entry": each["code"] == "pain"} for each in cast("list[Any]", MINI["instruments"])]
    trial.study = replace(trial.study, definition=definition(instruments=form))
    trial.save()
    assert listed(trial) == []
    assert count(session, trial.study, now=NOW).in_all().total == 0
    session.execute(text("UPDATE entry_pair SET state = 'agreed'"))
    assert len(listed(trial)) == count(session, trial.study, now=NOW).in_all().total == 1


def test_the_list_is_of_my_sites_alone_and_narrowed_by_what_i_ask(trial: Trial):
    south = consented(trial.session, trial.study, "M-003", site_code="south")
    trial.save()
    trial.save({"dis_weight": 70}, instrument="disability", accept_partial=True)
    trial.save(visit="baseline")
    trial.save(participant=south, by=southern(trial))
    trial.verify(ALL)
    trial.save({"pain_nrs": 1, "pain_days": 3}, 1, why="Misread")
    changed, never = State.CHANGED, State.UNVERIFIED
    whole = [
        ("M-001", "week18", "pain", changed),
        ("M-001", "week18", "disability", never),
        ("M-001", "baseline", "pain", never),
        ("M-003", "week18", "pain", never),
    ]
    everywhere = monitor(trial, None)
    two = monitor(trial, "north", "south")
    for who in (everywhere, two):
        assert names(trial, who) == whole
        assert names(trial, who, participant="M-003") == whole[3:]
    northern = monitor(trial, "north")
    assert names(trial, northern) == whole[:3]
    assert names(trial, northern, participant="M-003") == []
    assert names(trial, northern, state=changed) == whole[:1]
    assert names(trial, northern, visit="baseline") == whole[2:3]
    assert names(trial, northern, instrument="disability") == whole[1:2]
    assert names(trial, northern, participant="nobody") == []
    counted = count(trial.session, trial.study, now=NOW)
    there = site(trial.session, trial.study, "south").id or 0
    mine = counted.only([there])
    assert [(each.site, each.unverified, each.total) for each in mine.by_site()] == [("south", 1, 1)]
    assert {each.site_id for each in mine.entries} == {there}
    statistician = person(trial.session, trial.study, "statistician", site_code=None)
    with pytest.raises(NotAllowed):
        listed(trial, statistician)


def test_of_more_sites_than_are_looked_into_one_by_one_it_is_the_same_list(trial: Trial, monkeypatch: Any):
    trial.save()
    south = consented(trial.session, trial.study, "M-003", site_code="south")
    trial.save(participant=south, by=southern(trial))
    two = monitor(trial, "north", "south")
    whole = names(trial, two)
    assert len(whole) == 2
    monkeypatch.setattr(reads, "MOST_SITES", 1)
    assert names(trial, two) == whole


@pytest.mark.parametrize("sites", [("north",), ("north", "south"), None])
def test_pages_forth_and_back_give_each_once_in_order(trial: Trial, sites: Any):
    places = [trial.participant, trial.other, consented(trial.session, trial.study, "M-003", site_code="south")]
    for each, by in zip(places, [trial.people["assessor"], trial.people["assessor"], southern(trial)], strict=True):
        trial.save(participant=each, by=by)
        trial.save(participant=each, visit="baseline", by=by)
    trial.verify(ALL)
    trial.save({"pain_nrs": 1, "pain_days": 3}, 1, why="Misread")
    by = monitor(trial, *(sites or (None,)))
    whole = names(trial, by)
    assert len(whole) == (4 if sites == ("north",) else 6)
    assert whole[0][3] is State.CHANGED
    forth, cursor, pages = [], None, []
    while True:
        page = verification_page(trial.session, trial.study, by=by, cursor=cursor, limit=2)
        pages.append(page)
        forth += [(each.participant, each.visit, each.name, each.state) for each in page.rows]
        if page.next is None:
            break
        cursor = page.next
    assert forth == whole
    back = verification_page(trial.session, trial.study, by=by, cursor=pages[1].previous, limit=2)
    assert back.rows == pages[0].rows
    after = verification_page(trial.session, trial.study, by=by, cursor=pages[0].rows[0].after, limit=1)
    assert after.rows == pages[0].rows[1:2], "each row knows where the list goes on behind it"
    with pytest.raises(Invalid, match="belongs to another list"):
        verification_page(trial.session, trial.study, by=by, cursor=paging.encode("waiting", 1, 1))


def test_the_counts_are_those_of_the_list_and_follow_it_at_once(trial: Trial):
    kept, by = KeptCounts(), trial.people["monitor"]

    def counted(**only: Any) -> tuple[int, int, int, int | None]:
        made = verification_counted(trial.session, trial.study, kept, by=by, now=NOW, **only).in_all()
        return made.unverified, made.changed, made.verified, made.percent

    assert counted() == (0, 0, 0, None)
    trial.save()
    trial.save(visit="baseline")
    trial.save(participant=trial.other)
    assert counted() == (3, 0, 0, 0)
    trial.verify(ALL)
    assert counted() == (2, 0, 1, 33)
    assert counted(visit="week18") == (1, 0, 1, 50)
    assert counted(visit="baseline", instrument="pain") == (1, 0, 0, 0)
    trial.save({"pain_nrs": 1, "pain_days": 3}, 1, why="Misread")
    assert counted() == (2, 1, 0, 0)
    assert len(listed(trial, standing=True)) == 3


def test_a_count_of_a_large_trial_is_kept_for_a_minute(trial: Trial, monkeypatch: Any):
    monkeypatch.setattr("app.capture.verification.rules.LARGE", 1)
    kept, by = KeptCounts(), trial.people["monitor"]
    trial.save()

    def unverified(later: int = 0, **options: Any) -> int:
        at = NOW.replace(second=later)
        found = verification_counted(trial.session, trial.study, kept, by=by, now=at, **options)
        return found.in_all().unverified

    assert unverified() == 1
    trial.save(participant=trial.other)
    assert unverified(20) == 1
    assert unverified(20, again=True) == 2
    site(trial.session, trial.study, "south")
    found = verification_counted(trial.session, trial.study, kept, by=monitor(trial, "south"), now=NOW)
    assert found.in_all().total == 0, "what is kept of all sites is told to nobody of another"


def test_a_page_is_one_statement(trial: Trial):
    trial.save()
    trial.save(participant=trial.other)
    assert trial.session.execute(select(ENTRY.c.site_id).distinct()).scalars().all() == [trial.participant.site_id]
    bind: Any = trial.session.get_bind()
    said: list[str] = []
    from sqlalchemy import event

    event.listen(bind, "before_cursor_execute", lambda _c, _u, statement, *_: said.append(statement))
    assert len(listed(trial)) == 2
    assert len(said) == 1


# What the study has verified


def having(trial: Trial, *named: dict[str, Any], rule: str = "named") -> None:
    """From now on the study has only these verified."""
    told = {"verification": rule, "to_verify": list(named)}
    whole = trial.study.definition.model_dump(mode="json")
    changed = Study.model_validate({**whole, "oversight": told})
    trial.study = replace(trial.study, definition=changed)


NRS: Any = {"instrument": "pain", "items": ["pain_nrs"], "visits": ["week18"]}


@pytest.mark.requirement("E6-9")
def test_only_what_the_study_names_is_to_be_verified(trial: Trial):
    having(trial, NRS)
    trial.save()
    trial.save(visit="baseline")
    assert names(trial, standing=True) == [("M-001", "week18", "pain", State.UNVERIFIED)]
    (line,) = listed(trial, standing=True)
    assert (line.answers, line.verified) == (1, 0), "one of two answers"
    trial.verify(["pain_days"])
    assert names(trial, standing=True) == [("M-001", "week18", "pain", State.UNVERIFIED)]
    entry = trial.verify(["pain_nrs"])
    assert (entry.verification, entry.verified_at) == (State.VERIFIED, NOW)
    trial.save({**PAIN, "pain_days": 7}, 1, why="Misread")
    assert names(trial, standing=True) == [], "what was not to be compared has changed"
    trial.save({**PAIN, "pain_nrs": 8}, 2, why="Misread")
    assert names(trial, standing=True) == [("M-001", "week18", "pain", State.CHANGED)]


def test_of_a_study_that_has_nothing_verified_nothing_waits(trial: Trial):
    having(trial, rule="none")
    trial.save()
    assert names(trial) == []
    assert count(trial.session, trial.study, now=NOW).in_all().total == 0
    entry = trial.verify(ALL)
    assert (entry.verification, entry.verified_at) == (None, None)
    assert is_verified(entry, "pain_nrs"), "whoever compares it all the same can say so"


@pytest.mark.parametrize(
    ("item", "wanted", "yes"),
    [("a", None, True), ("a", {"a"}, True), ("b", {"a"}, False), ("g[2].a", {"a"}, True), ("a[2].b", {"a"}, False)],
)
def test_of_a_row_the_item_decides(item: str, wanted: Any, yes: bool):
    assert is_wanted(item, wanted) is yes


def test_all_that_is_asked_is_all_of_it_and_what_was_verified_beside_it_stays(trial: Trial):
    trial.save()
    entry = entry_of(trial.session, trial.id, **WHERE)
    assert entry is not None
    assert everything(entry, {"pain_nrs"}) == ["pain_nrs"]
    assert ticked(entry, ["pain_nrs"], ALL, {"pain_nrs"}) == ["pain_nrs"]
    entry = trial.verify(["pain_days"])
    assert sorted(everything(entry, {"pain_nrs"})) == ["pain_days", "pain_nrs"]


@pytest.mark.requirement("CON-10", "E6-9")
def test_an_amendment_puts_every_entry_where_it_stands_now(trial: Trial):
    trial.save()
    trial.save(visit="baseline")
    trial.save(participant=trial.other)
    trial.verify(["pain_nrs"])
    before, log = trial.study.definition, trial.log("entry.")
    having(trial, NRS)
    follow_study(trial.session, trial.study, before, [trial.id])
    assert stands_now(trial) == {("M-001", "week18"): ("verified", NOW), ("M-001", "baseline"): (None, None)} | {
        ("M-002", "week18"): ("unverified", None)
    }, "the other one follows in their turn"
    narrow = trial.study.definition
    trial.study = replace(trial.study, definition=before)
    follow_study(trial.session, trial.study, narrow, [trial.id])
    assert stands_now(trial) == dict.fromkeys(
        [("M-001", "week18"), ("M-001", "baseline"), ("M-002", "week18")], ("unverified", None)
    )
    assert trial.log("entry.") == log, "nobody verified anything"


def stands_now(trial: Trial) -> dict[tuple[str, str], tuple[Any, Any]]:
    columns = (PARTICIPANT.c.code, ENTRY.c.visit, ENTRY.c.verification, ENTRY.c.verified_at)
    rows = trial.session.execute(select(*columns).join(PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id))
    return {(row[0], row[1]): (row[2], row[3]) for row in rows}
