"""Sites go over to a version on their day: nobody twice, nobody lost, and nothing before it was shown."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text, update
from sqlmodel import Session

from app.amendments.actions import begin, cancel, carry_on, carry_on_now, carry_out_due, plan
from app.amendments.reads import all_effects, effects, going, totals, version_named
from app.amendments.rules import SETTLES, Becomes, Verified, verified_anew
from app.amendments.status import State
from app.amendments.words import effect_in_words
from app.capture.actions import save_entry
from app.capture.locks.actions import close_data
from app.capture.locks.rules import Kind
from app.capture.reads import ENTRY, entry_of
from app.capture.verification.actions import verify_items
from app.capture.verification.rules import State as Verification
from app.consent.reads import CONSENT
from app.foundation.database import Database
from app.foundation.errors import Invalid, NotAllowed, NotFound, Refused
from app.people.permissions import Permission, Role, holders
from app.schedule.actions import record_visit
from app.schedule.reads import visits_of
from app.schedule.replanning import actions as replanning
from app.studies.in_use import StudyInUse, study_in_use
from tests.amendments.world import ADMINISTRATOR, amended, enrolled, first, loaded, site_row
from tests.factories import MINI, NOW, TODAY, mini_study, person
from tests.participants.acts import log_of, screened
from tests.schedule.rows import booked

LATER = NOW + SETTLES
ASKED: dict[str, Any] = {"version": "2", "sites": ["north"], "from_on": None, "why": "Ethics, 1 March 2026"}


@pytest.fixture
def study(session: Session) -> StudyInUse:
    return mini_study(session, **first())


def planned(session: Session, study: StudyInUse, **changes: Any) -> list[int]:
    return plan(session, study, **{**ASKED, "by": ADMINISTRATOR, "now": NOW, **changes})


def dates_of(session: Session, participant_id: int | None) -> dict[str, tuple[Any, ...]]:
    assert participant_id is not None
    return {
        each.code: (each.status, each.target_on, each.opens_on, each.closes_on)
        for each in visits_of(session, participant_id)
    }


@pytest.mark.requirement("CON-10", "SPI-18")
def test_a_loaded_version_waits_until_a_site_goes_over_to_it(session: Session, study: StudyInUse) -> None:
    one, other = enrolled(session, study), enrolled(session, study, "south")
    before = dates_of(session, one.id)
    now_in_use = loaded(session, study)
    assert now_in_use.version_id == study.version_id, "there are participants, so it waits"
    (number,) = planned(session, now_in_use)
    split = study_in_use(session, "mini")
    north, south = (site_row(session, study, code).id for code in ("north", "south"))
    assert split.definition.version == split.at(north).definition.version == "2"
    assert split.at(south).definition.version == "1"
    assert dates_of(session, one.id) == before, "visits follow when what was under way has settled"
    assert carry_on(session, split, number, by=ADMINISTRATOR, now=NOW) is None
    assert carry_on(session, split, number, by=ADMINISTRATOR, now=LATER) is True
    after = dates_of(session, one.id)
    day = timedelta(days=1)
    assert after["baseline"] == before["baseline"]
    week18 = TODAY + 119 * day
    assert after["week18"] == ("planned", week18, week18 - 7 * day, week18 + 21 * day)
    week26 = TODAY + 182 * day
    assert after["week26"] == ("planned", week26, week26 - 7 * day, week26 + 21 * day)
    assert after["tx01"][0] == "stopped"
    assert "week26" not in dates_of(session, other.id), "the other site has not gone over"
    done = going(session, split, number)
    assert (done.state, done.looked_at, done.changed, done.visits) == (State.DONE, 1, 1, 3)
    told = {
        (each.action, each.participant, each.subject)
        for each in log_of(session)
        if each.action[:6] in ("visit.", "amendm")
    }
    assert {
        ("amendment.planned", "", "site/north"),
        ("amendment.begun", "", "site/north"),
        ("amendment.carried_out", "", "site/north"),
        ("visit.moved", one.code, "visit/week18"),
        ("visit.opened", one.code, "visit/week26"),
        ("visit.stopped", one.code, "visit/tx01"),
    } <= told
    (moved,) = log_of(session, action="visit.moved")
    assert json.loads(moved.old)["target_on"] == before["week18"][1].isoformat()
    assert json.loads(moved.new)["target_on"] == week18.isoformat()
    assert "Version 2" in moved.why
    assert "Ethics, 1 March 2026" in moved.why
    newcomer = screened(session, split)
    assert version_of_screening(session, newcomer.id) == split.version_id
    assert version_of_screening(session, screened(session, split, code="south").id) == study.version_id


def version_of_screening(session: Session, participant_id: int | None) -> int:
    found: int = session.execute(
        text("SELECT study_version_id FROM screening WHERE participant_id = :id"), {"id": participant_id}
    ).scalar_one()
    return found


@pytest.mark.requirement("P11-k")
def test_entries_keep_their_version_until_they_are_saved_again(session: Session, study: StudyInUse) -> None:
    one = enrolled(session, study)
    now_in_use = loaded(session, study)
    (number,) = planned(session, now_in_use)
    carry_on(session, now_in_use, number, by=ADMINISTRATOR, now=LATER)
    assert one.id is not None
    entry = entry_of(session, one.id, "baseline", "pain")
    assert entry is not None
    assert (entry.study_version_id, entry.is_complete, entry.is_signed) == (study.version_id, True, True)
    split = study_in_use(session, "mini")
    by = person(session, study, "coordinator")
    asked: dict[str, Any] = {"visit": "baseline", "instrument": "pain", "reasons": {}, "base_version": 1}
    values = {"pain_nrs": 5, "pain_days": 3}
    with pytest.raises(Invalid, match="Worst pain"):
        save_entry(session, split, one, values=values, by=by, now=NOW, **asked)
    save_entry(session, split, one, values={**values, "pain_worst": 8}, by=by, now=NOW, **asked)
    entry = entry_of(session, one.id, "baseline", "pain")
    assert entry is not None
    assert (entry.study_version_id, entry.is_signed) == (split.version_id, False)


@pytest.mark.requirement("CON-10")
def test_what_it_would_mean_is_shown_and_nothing_is_written(session: Session, study: StudyInUse) -> None:
    one = enrolled(session, study)
    booked(session, study, one, "week18", starts_at=NOW + timedelta(days=146), ends_at=NOW + timedelta(days=147))
    now_in_use = loaded(session, study)
    before, entries = dates_of(session, one.id), len(log_of(session))
    place, wanted = site_row(session, study), version_named(session, now_in_use, "2", by=ADMINISTRATOR)
    (effect,) = effects(session, now_in_use, wanted, place, now=NOW).rows
    assert {(each.step, each.code) for each in effect.visits} == {
        ("moved", "week18"),
        ("added", "week26"),
        ("stopped", "tx01"),
    }
    (entry,) = effect.entries
    assert (entry.visit, entry.instrument, entry.becomes) == ("baseline", "pain", (Becomes.INCOMPLETE,))
    assert (entry.items, entry.breaks_signature) == (("pain_worst",), True)
    assert effect.owes == "2"
    nobody = update(CONSENT).values(refused_at=NOW, refused_by="noor")
    with session.begin_nested() as inside:
        session.execute(nobody)
        (other,) = effects(session, now_in_use, wanted, place, now=NOW).rows
        assert other.owes is None, "a refused consent is none that a newer one replaces"
        inside.rollback()
    assert effect.outside == ("week18",), "booked for a day that lies behind the new window"
    assert (dates_of(session, one.id), len(log_of(session))) == (before, entries)
    (number,) = planned(session, now_in_use)
    carry_on(session, now_in_use, number, by=ADMINISTRATOR, now=LATER)
    after = dates_of(session, one.id)
    for each in effect.visits:
        assert after[each.code][1:] == tuple(each.new or before[each.code][1:]), "what was shown is what came"
    split = study_in_use(session, "mini")
    (again,) = all_effects(session, split, wanted, place, now=NOW)
    assert again.is_nothing


def test_killed_in_the_middle_and_taken_up_again_is_the_same_as_done_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.writing() as session:
        study = mini_study(session, **first())
        people = [
            enrolled(session, study, code, entered=False) for code in ("north", "south", "north", "south", "north")
        ]
        (south,) = planned(session, loaded(session, study), sites=["south"])
    with database.writing() as session:
        assert carry_on(session, study, south, by=ADMINISTRATOR, now=LATER) is True
    with database.writing() as session:
        (north,) = planned(session, study_in_use(session, "mini"))
    died = 0
    replan = replanning.replan

    def dies(*args: Any, **options: Any) -> Any:
        nonlocal died
        outcome = replan(*args, **options)
        died += 1
        if died % 2:
            raise RuntimeError("the plug is pulled after the visits were written")
        return outcome

    monkeypatch.setattr("app.amendments.actions.replan", dies)
    finished: bool | None = False
    rounds = 0
    while finished is not True:
        rounds += 1
        assert rounds < 20
        try:
            with database.writing() as session:
                finished = carry_on(session, study_in_use(session, "mini"), north, by=ADMINISTRATOR, now=LATER, limit=1)
        except RuntimeError:
            continue
    with database.reading() as session:
        dates = [dates_of(session, each.id) for each in people]
        assert all(each == dates[0] for each in dates), "one at a time with crashes, or all at once: the same"
        done = going(session, study_in_use(session, "mini"), north)
        assert (done.looked_at, done.changed, done.visits, done.state) == (3, 3, 9, State.DONE)
        moved = [(each.participant, each.subject) for each in log_of(session, action="visit.moved")]
        assert sorted(moved) == sorted((each.code, "visit/week18") for each in people), "each once, none lost"
        assert study_in_use(session, "mini").others == {}, "both sites are at the newest version"


def test_carried_out_again_it_changes_nothing(session: Session, study: StudyInUse) -> None:
    one = enrolled(session, study)
    now_in_use = loaded(session, study)
    (number,) = planned(session, now_in_use)
    carry_on(session, now_in_use, number, by=ADMINISTRATOR, now=LATER)
    dates, entries = dates_of(session, one.id), len(log_of(session))
    assert carry_on(session, now_in_use, number, by=ADMINISTRATOR, now=LATER) is True
    session.execute(text("UPDATE site_version SET state = 'moving', moved_to = 0, ended_at = NULL"))
    assert carry_on(session, now_in_use, number, by=ADMINISTRATOR, now=LATER) is True
    assert dates_of(session, one.id) == dates
    assert [each.action for each in log_of(session)[entries:]] == ["amendment.carried_out"]


def test_what_was_held_or_is_locked_stays(session: Session, study: StudyInUse) -> None:
    held, locked = enrolled(session, study), enrolled(session, study)
    by = person(session, study, "coordinator")
    record_visit(session, study, held, "week18", held_on=TODAY, version=1, reason="Leaves", by=by, now=NOW)
    manager = person(session, study, "data_manager", site_code=None)
    close_data(
        session,
        study,
        kind=Kind.FROZEN,
        participants=[locked.code],
        visit=None,
        why="Clean",
        despite=True,
        by=manager,
        now=NOW,
    )
    before = [dates_of(session, each.id) for each in (held, locked)]
    now_in_use = loaded(session, study)
    (effect_held, effect_locked) = effects(
        session,
        now_in_use,
        version_named(session, now_in_use, "2", by=ADMINISTRATOR),
        site_row(session, study),
        now=NOW,
    ).rows
    assert "week18" not in {each.code for each in effect_held.visits}
    assert (effect_locked.visits, set(effect_locked.kept)) == ((), {"week18", "week26", "tx01"})
    (number,) = planned(session, now_in_use)
    carry_on(session, now_in_use, number, by=ADMINISTRATOR, now=LATER)
    after = [dates_of(session, each.id) for each in (held, locked)]
    assert after[0]["week18"] == before[0]["week18"]
    assert after[1] == before[1]
    assert going(session, now_in_use, number).kept == 3


def test_a_visit_nobody_can_come_to_any_more_is_not_added(session: Session, study: StudyInUse) -> None:
    one = enrolled(session, study)
    now_in_use = loaded(session, study)
    much_later = NOW + timedelta(days=400)
    planned(session, now_in_use, now=much_later)
    carry_out_due(One(session), now=much_later + SETTLES)  # type: ignore[arg-type]
    assert "week26" not in dates_of(session, one.id)


class One:
    """A database of one session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __enter__(self) -> Session:
        return self.session

    def __exit__(self, *_: object) -> None:
        self.session.flush()

    def reading(self) -> "One":
        return self

    writing = reading


def test_the_calendar_begins_what_is_due_at_the_site(session: Session, study: StudyInUse) -> None:
    one = enrolled(session, study)
    now_in_use = loaded(session, study)
    before = dates_of(session, one.id)
    (number,) = planned(session, now_in_use, from_on=date(2026, 3, 4))
    assert going(session, now_in_use, number).state is State.PLANNED
    # It is the fourth of March in Sydney from 13:00 UTC of the third on.
    for at, state in (
        (datetime.fromisoformat("2026-03-03T12:59:00+00:00"), State.PLANNED),
        (datetime.fromisoformat("2026-03-03T13:00:00+00:00"), State.MOVING),
        (datetime.fromisoformat("2026-03-03T13:01:00+00:00"), State.DONE),
    ):
        assert carry_out_due(One(session), now=at) == (state is State.DONE)  # type: ignore[arg-type]
        assert going(session, now_in_use, number).state is state
    assert dates_of(session, one.id) != before
    begun = log_of(session, action="amendment.begun")
    assert [(each.username, each.via) for each in begun] == [("system", "jobs")]
    assert begin(session, now_in_use, number, by=ADMINISTRATOR, now=NOW) is False


def test_what_is_planned_is_cancelled_before_its_day(session: Session, study: StudyInUse) -> None:
    enrolled(session, study)
    now_in_use = loaded(session, study)
    (number,) = planned(session, now_in_use, from_on=TODAY + timedelta(days=3))
    with pytest.raises(Refused, match="planned for North clinic already"):
        planned(session, now_in_use)
    with pytest.raises(Refused, match="Its day has not come yet"):
        carry_on_now(session, now_in_use, number, by=ADMINISTRATOR, now=NOW)
    with pytest.raises(Invalid, match="Say why"):
        cancel(session, now_in_use, number, why=" ", by=ADMINISTRATOR, now=NOW)
    cancel(session, now_in_use, number, why="Not approved", by=ADMINISTRATOR, now=NOW)
    assert going(session, now_in_use, number).state is State.CANCELLED
    assert carry_out_due(One(session), now=NOW + timedelta(days=9)) == 0  # type: ignore[arg-type]
    with pytest.raises(Refused, match="cancelled already"):
        cancel(session, now_in_use, number, why="Again", by=ADMINISTRATOR, now=NOW)
    (number,) = planned(session, now_in_use)
    with pytest.raises(Refused, match="in force there"):
        cancel(session, now_in_use, number, why="Too late", by=ADMINISTRATOR, now=NOW)
    with pytest.raises(Refused, match="since a moment"):
        carry_on_now(session, now_in_use, number, by=ADMINISTRATOR, now=NOW)
    assert carry_on_now(session, now_in_use, number, by=ADMINISTRATOR, now=LATER).state is State.DONE
    with pytest.raises(Refused, match="carried out"):
        carry_on_now(session, now_in_use, number, by=ADMINISTRATOR, now=LATER)
    with pytest.raises(Refused, match="works under version 2 already"):
        planned(session, study_in_use(session, "mini"))
    with pytest.raises(Refused, match="later version than 1"):
        planned(session, study_in_use(session, "mini"), version="1")
    with pytest.raises(NotFound):
        cancel(session, now_in_use, 999, why="None", by=ADMINISTRATOR, now=NOW)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"version": "9"}, "version"),
        ({"sites": []}, "sites"),
        ({"sites": ["west"]}, "sites"),
        ({"from_on": TODAY - timedelta(days=1)}, "from_on"),
        ({"from_on": TODAY + timedelta(days=4000)}, "from_on"),
        ({"why": " "}, "why"),
        ({"why": "x" * 1001}, "why"),
    ],
)
def test_what_cannot_be_planned_says_what_to_do(
    session: Session, study: StudyInUse, changes: dict[str, Any], field: str
) -> None:
    now_in_use = loaded(session, study)
    before = len(log_of(session))
    with pytest.raises(Invalid) as caught:
        planned(session, now_in_use, **changes)
    assert {each.field for each in caught.value.problems} == {field}
    assert len(log_of(session)) == before


@pytest.mark.parametrize("role", [role for role in Role if role not in holders(Permission.STUDY_AMEND)])
def test_nobody_else_amends(session: Session, study: StudyInUse, role: Role) -> None:
    now_in_use = loaded(session, study)
    by = person(
        session, study, role, site_code=None if role in ("data_manager", "monitor", "statistician") else "north"
    )
    for act in (
        lambda: planned(session, now_in_use, by=by),
        lambda: cancel(session, now_in_use, 1, why="x", by=by, now=NOW),
        lambda: carry_on_now(session, now_in_use, 1, by=by, now=NOW),
    ):
        with pytest.raises(NotAllowed):
            act()


INSTRUMENTS: Any = MINI["instruments"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": [{"code": "active", "label": "A"}, {"code": "third", "label": "B"}]}, "Which arms there are changed"),
        ({"allocation": {"method": "simple"}}, "There are participants"),
        ({"participant_prefix": "N-"}, "How participants' codes begin"),
    ],
)
def test_what_would_break_a_running_study_is_refused(
    session: Session, study: StudyInUse, changes: dict[str, Any], words: str
) -> None:
    enrolled(session, study, entered=False)
    treatment: list[Any] = []
    now_in_use = loaded(session, study, amended(treatment=treatment, **changes))
    with pytest.raises(Refused, match=words) as caught:
        planned(session, now_in_use)
    assert "Zephyrine" not in caught.value.reason, "an administrator does not read what an arm is"


@pytest.mark.parametrize("asked_at", ["entry", "screening", "nowhere"])
def test_an_item_with_answers_keeps_its_type(session: Session, study: StudyInUse, asked_at: str) -> None:
    """Whether it is refused follows from what was answered, not from what is defined."""
    screened(session, study)
    if asked_at == "entry":
        enrolled(session, study)
    prescreen, pain, disability = json.loads(json.dumps(INSTRUMENTS))
    if asked_at == "screening":
        prescreen["sections"][0]["items"][2] = {"code": "surgery", "label": "Surgery", "type": "text"}
    elif asked_at == "entry":
        pain["sections"][0]["items"][0] = {"code": "pain_nrs", "label": "Pain", "type": "number"}
    else:
        pain["sections"][0]["items"][3]["type"] = "date"  # a note that nobody has written
    new = amended(instruments=[prescreen, pain, disability])
    now_in_use = loaded(session, study, new)
    if asked_at == "nowhere":
        assert planned(session, now_in_use)
        return
    with pytest.raises(Refused, match="Such answers were given already"):
        planned(session, now_in_use)


@pytest.mark.parametrize(("answer", "refused"), [(["leg"], True), (["back"], False), (["back", "leg"], True)])
def test_a_choice_that_stands_is_not_taken_out(
    session: Session, study: StudyInUse, answer: list[str], refused: bool
) -> None:
    one = enrolled(session, study, entered=False)
    by = person(session, study, "coordinator")
    save_entry(
        session,
        study,
        one,
        visit="week18",
        instrument="pain",
        values={"pain_nrs": 5, "pain_days": 3, "pain_where": answer},
        reasons={},
        base_version=0,
        by=by,
        now=NOW,
    )
    prescreen, pain, disability = json.loads(json.dumps(INSTRUMENTS))
    del pain["sections"][0]["items"][2]["choices"][1]
    now_in_use = loaded(session, study, amended(instruments=[prescreen, pain, disability]))
    if not refused:
        assert planned(session, now_in_use)
        return
    with pytest.raises(Refused, match="choice leg"):
        planned(session, now_in_use)


@pytest.mark.requirement("REL-5")
def test_workers_at_the_same_time_meet_everybody_once(database: Database) -> None:
    with database.writing() as session:
        study = mini_study(session, **first())
        people = [enrolled(session, study, entered=False) for _ in range(6)]
        now_in_use = loaded(session, study)
        (number,) = planned(session, now_in_use)
    with ThreadPoolExecutor(3) as pool:
        met = list(pool.map(lambda _: carry_out_due(database, now=LATER, limit=2), range(3)))
    with database.reading() as session:
        done = going(session, study_in_use(session, "mini"), number)
        assert (done.state, done.looked_at, done.visits) == (State.DONE, 6, 18)
        assert sum(met) == 6, met
        moved = [each.participant for each in log_of(session, action="visit.moved")]
        assert sorted(moved) == sorted(each.code for each in people)
        assert len(log_of(session, action="amendment.carried_out")) == 1


@pytest.mark.requirement("CON-10", "E6-9")
def test_what_is_to_be_verified_follows_site_by_site(session: Session, study: StudyInUse) -> None:
    people = {code: enrolled(session, study, code) for code in ("north", "south")}
    now_in_use = loaded(session, study, amended(oversight={"verification": "none"}))
    (number,) = planned(session, now_in_use)

    def stands() -> dict[str, str | None]:
        found = {code: entry_of(session, one.id or 0, "baseline", "pain") for code, one in people.items()}
        return {code: entry.verification if entry else "" for code, entry in found.items()}

    assert stands() == {"north": "unverified", "south": "unverified"}
    assert carry_on(session, study_in_use(session, study.code), number, by=ADMINISTRATOR, now=LATER)
    assert stands() == {"north": None, "south": "unverified"}, "the other site works under the first version"


ONE_ITEM = {"verification": "named", "to_verify": [{"instrument": "pain", "items": ["pain_nrs"]}]}


@pytest.mark.requirement("CON-10", "E6-9")
@pytest.mark.parametrize(
    ("before", "after", "verified", "becomes", "said"),
    [
        ("none", "all", [], Verified.TO_VERIFY, "One entry is to be compared with its source that was not."),
        (
            ONE_ITEM,
            "all",
            ["pain_nrs"],
            Verified.TO_VERIFY,
            "One entry is to be compared with its source that was not.",
        ),
        ("all", ONE_ITEM, ["pain_nrs"], Verified.VERIFIED, "One entry counts as verified that did not."),
        ("all", "none", ["pain_nrs"], Verified.NOT_ASKED, "One entry is no longer compared with its source."),
        ("all", ONE_ITEM, ["pain_days"], None, ""),
    ],
)
def test_how_many_entries_move_in_source_verification_is_counted_before(
    session: Session, before: Any, after: Any, verified: list[str], becomes: Verified | None, said: str
) -> None:
    first_says, then_says = (each if isinstance(each, dict) else {"verification": each} for each in (before, after))
    study = mini_study(session, **first(oversight=first_says))
    one, in_error = enrolled(session, study), enrolled(session, study)
    monitor = person(session, study, "monitor", site_code="north")
    for each in (one, in_error) if verified else ():
        verify_items(
            session, study, each, visit="baseline", instrument="pain", items=verified, version=1, by=monitor, now=NOW
        )
    session.execute(
        update(ENTRY).where(ENTRY.c.participant_id == in_error.id).values(in_error_at=NOW, in_error_by="noor")
    )
    now_in_use = loaded(session, study, amended(oversight=then_says))
    place, wanted = site_row(session, study), version_named(session, now_in_use, "2", by=ADMINISTRATOR)
    shown = totals(session, now_in_use, wanted, place, by=ADMINISTRATOR, now=NOW)
    assert shown.verified == ({becomes: 1} if becomes else {}), "what is in error counts nowhere"
    words = effect_in_words(shown, study.definition, wanted.definition)
    assert [each for each in words if "source" in each or "verified" in each] == ([said] if said else [])
    (number,) = planned(session, now_in_use)
    assert carry_on(session, study_in_use(session, study.code), number, by=ADMINISTRATOR, now=LATER)
    again = totals(session, study_in_use(session, study.code), wanted, place, by=ADMINISTRATOR, now=NOW)
    assert not again.verified, "what was shown has come"


def test_what_is_to_be_verified_either_way_does_not_move() -> None:
    assert verified_anew(Verification.CHANGED, Verification.UNVERIFIED) is None
    assert verified_anew(Verification.UNVERIFIED, Verification.CHANGED) is None
    assert verified_anew(Verification.VERIFIED, Verification.UNVERIFIED) is Verified.TO_VERIFY
