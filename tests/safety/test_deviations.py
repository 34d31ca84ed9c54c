"""Deviations: reported by people, found once by the system, acted on and signed; gone when they do not hold."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from app.amendments.models import SiteVersion
from app.foundation.database import Database
from app.foundation.errors import Conflict, Invalid, NotAllowed, NotFound, Refused
from app.participants.reads import IN_ERROR
from app.people.permissions import Permission, Role, holders
from app.people.reads import SITE
from app.safety.deviations import actions, reads
from app.safety.deviations.consents import CONSENT, periods_of, unsigned_at_visits
from app.safety.deviations.finding import ENTRY, VISIT
from app.safety.deviations.reads import DEVIATION, Wanted
from app.safety.deviations.rules import TRANSITIONS, Act, Rule, State, category_of, settle, why_not
from app.safety.events.clocks import THE_CLOCK
from app.safety.watching import look_in_turn, watch
from app.studies.definition import Safety, Study
from app.studies.in_use import study_in_use
from tests.factories import MINI, NOW, TODAY, definition, mini_study_again, person, site
from tests.safety.world import HOSPITAL, Safe, fine, later, safe

WHAT = "The questionnaire was filled in at home; the protocol asks for the clinic."


@pytest.fixture
def trial(session: Session) -> Safe:
    return safe(session)


def report(trial: Safe, *, role: str = "coordinator", **changes: Any) -> int:
    asked: dict[str, Any] = {
        "category": "procedure",
        "grade": "minor",
        "occurred_on": TODAY,
        "what": WHAT,
        "by": trial.by(role),
        "now": NOW,
        **changes,
    }
    return actions.report(trial.session, trial.study, trial.someone, **asked)


def row(trial: Safe, number: int) -> Any:
    return trial.session.execute(select(DEVIATION).where(DEVIATION.c.id == number)).one()


def act(trial: Safe, number: int, version: int, **changes: Any) -> int:
    asked: dict[str, Any] = {
        "grade": "minor",
        "action": "Staff were told.",
        "why": "",
        "base_version": version,
        "by": trial.by("coordinator"),
        "now": NOW,
        **changes,
    }
    return actions.act(trial.session, trial.study, number, **asked)


# What people report


@pytest.mark.requirement("E6-6", "P11-e1")
def test_a_deviation_is_acted_on_and_signed_and_a_change_asks_for_a_new_signature(trial: Safe):
    number = report(trial)
    assert report(trial) == number
    assert (row(trial, number).state, row(trial, number).rule) == (State.OPEN, None)
    signing: dict[str, Any] = {"prove": fine, "by": trial.by("investigator"), "now": NOW}
    with pytest.raises(Refused, match="Nothing is written down yet"):
        actions.sign(trial.session, trial.study, number, base_version=1, **signing)
    with pytest.raises(Invalid, match="graded otherwise"):
        act(trial, number, 1, grade="major")
    assert act(trial, number, 1) == 2
    assert act(trial, number, 1) == 2
    with pytest.raises(Conflict):
        act(trial, number, 1, action="Nothing was done.")
    with pytest.raises(Conflict):
        actions.sign(trial.session, trial.study, number, base_version=1, **signing)
    proved: list[int] = []
    actions.sign(
        trial.session, trial.study, number, base_version=2, **{**signing, "prove": lambda: proved.append(number)}
    )
    assert proved == [number]
    assert (row(trial, number).state, row(trial, number).signed_by) == (State.SIGNED, "the_investigator")
    act(trial, number, 3, grade="major", why="The monitor graded it otherwise.")
    assert (row(trial, number).state, row(trial, number).signed_by, row(trial, number).grade) == (
        State.ACTED,
        None,
        "major",
    )
    assert [each.item for each in trial.log("deviation.reported")] == ["category", "grade", "occurred_on", "what"]
    assert {each.item for each in trial.log("deviation.acted")} == {"action", "grade", "signed_by"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"category": "nonsense"}, "category"),
        ({"grade": "grave"}, "grade"),
        ({"what": " "}, "what"),
        ({"what": "The sham device broke"}, "what"),
        ({"occurred_on": TODAY + timedelta(days=2)}, "occurred_on"),
        ({"occurred_on": TODAY - timedelta(days=2)}, "occurred_on"),
    ],
)
def test_what_is_asked_of_a_report(trial: Safe, changes: dict[str, Any], field: str):
    with pytest.raises(Invalid) as wrong:
        report(trial, **changes)
    assert [each.field for each in wrong.value.problems] == [field]


@pytest.mark.requirement("CONC-11")
def test_a_clinicians_words_are_confirmed_first(trial: Safe):
    words = "The laser was not calibrated"
    with pytest.raises(Invalid):
        report(trial, role="clinician", what=words)
    assert row(trial, report(trial, role="clinician", what=words, confirmed=["laser"])).confirmed


@pytest.mark.requirement("P11-g")
@pytest.mark.parametrize("role", Role)
def test_who_may_report_and_who_signs(trial: Safe, role: Role):
    if role not in holders(Permission.DEVIATION_REPORT):
        with pytest.raises(NotAllowed):
            report(trial, role=role)
        return
    number = report(trial, role=role)
    act(trial, number, 1)
    if role is Role.INVESTIGATOR:
        return
    with pytest.raises((NotAllowed, NotFound)):
        actions.sign(trial.session, trial.study, number, base_version=2, prove=fine, by=trial.by(role), now=NOW)


def test_only_what_people_reported_is_taken_back(trial: Safe):
    number = report(trial)
    asked: dict[str, Any] = {"by": trial.by("coordinator"), "now": NOW}
    with pytest.raises(Invalid):
        actions.take_back(trial.session, trial.study, number, why=" ", base_version=1, **asked)
    actions.take_back(trial.session, trial.study, number, why="Another study", base_version=1, **asked)
    assert row(trial, number).state == State.GONE
    with pytest.raises(Refused):
        act(trial, number, 2)
    missed(trial)
    look(trial)
    (found,) = the_systems(trial)
    with pytest.raises(Refused, match="The system found"):
        actions.take_back(trial.session, trial.study, found.id, why="No", base_version=1, **asked)


@pytest.mark.requirement("P11-e2")
def test_no_deviation_is_deleted(trial: Safe):
    report(trial)
    with pytest.raises(DBAPIError), trial.session.begin_nested():
        trial.session.execute(text("DELETE FROM deviation"))


def test_the_list_is_of_ones_sites_and_can_be_filtered(session: Session, trial: Safe):
    numbers = [report(trial, what=f"{WHAT} ({count})") for count in range(5)]
    other = report(trial, category="consent", grade="major")
    act(trial, other, 1, grade="major")
    actions.sign(session, trial.study, other, base_version=2, prove=fine, by=trial.by("investigator"), now=NOW)

    def found(by: str = "data_manager", cursor: str | None = None, limit: int | None = None, **wanted: Any) -> Any:
        return reads.deviations_page(
            session, trial.study, by=trial.by(by), wanted=Wanted(**wanted), cursor=cursor, limit=limit
        )

    assert [each.number for each in found().rows] == [other, *reversed(numbers)]
    assert [each.number for each in found(open=True).rows] == list(reversed(numbers))
    assert [each.number for each in found(grade="major").rows] == [other]
    assert [each.number for each in found(category="consent", site="north", participant="M-001").rows] == [other]
    assert found(visit="week18").rows == found(visit="\x00").rows == []
    assert found(site="south").rows == found(category="\x00").rows == []
    first = found(limit=4)
    then = found(limit=4, cursor=first.next)
    assert [*first.rows, *then.rows] == list(found().rows)
    assert found(limit=4, cursor=then.previous) == first
    far = person(session, trial.study, "coordinator", site_code="south")
    assert reads.deviations_page(session, trial.study, by=far).rows == []
    with pytest.raises(NotFound):
        reads.deviation_of(session, trial.study, other, by=far)


# Several at once


def chosen(trial: Safe, *numbers: int) -> list[actions.Chosen]:
    return [actions.Chosen(number, row(trial, number).version) for number in numbers]


def act_on(trial: Safe, these: list[actions.Chosen], **changes: Any) -> list[reads.DeviationRow]:
    asked: dict[str, Any] = {"grade": None, "action": "None needed.", "by": trial.by("coordinator"), "now": NOW}
    return actions.act_on_several(trial.session, trial.study, these, **{**asked, **changes})


def sign_all(trial: Safe, these: list[actions.Chosen], **changes: Any) -> list[reads.DeviationRow]:
    asked: dict[str, Any] = {"prove": fine, "by": trial.by("investigator"), "now": NOW}
    return actions.sign_several(trial.session, trial.study, these, **{**asked, **changes})


@pytest.mark.requirement("P11-e1", "P11-50a", "REL-4")
def test_several_are_acted_on_in_one_text_and_signed_each_by_itself(trial: Safe):
    numbers = [report(trial), report(trial, category="consent", grade="major", what="No copy was handed over")]
    these = chosen(trial, *numbers)
    found = act_on(trial, these)
    assert [(each.state, each.grade, each.action, each.version) for each in found] == [
        (State.ACTED, "minor", "None needed.", 2),
        (State.ACTED, "major", "None needed.", 2),
    ]
    assert act_on(trial, these) == found
    assert len(trial.log("deviation.acted")) == 2
    proved: list[int] = []
    signed = sign_all(trial, chosen(trial, *numbers), prove=lambda: proved.append(1))
    assert [(each.state, each.signed_by) for each in signed] == [(State.SIGNED, "the_investigator")] * 2
    assert sign_all(trial, [actions.Chosen(number, 2) for number in numbers]) == signed
    assert proved == [1]
    assert [each.subject for each in trial.log("deviation.signed")] == [f"deviation/{number}" for number in numbers]


@pytest.mark.requirement("REL-4")
def test_what_cannot_be_dealt_with_is_named_and_nothing_is_done(trial: Safe):
    one, two, three, four = (report(trial, what=f"{WHAT} ({count})") for count in range(4))
    read = chosen(trial, one, two, three, four)
    act(trial, two, 1)  # changed meanwhile
    act(trial, three, 1)
    sign_all(trial, chosen(trial, three))
    with pytest.raises(Invalid) as wrong:
        act_on(trial, read)
    assert [(each.field, each.rule) for each in wrong.value.problems] == [
        (f"deviations.{two}", "changed"),
        (f"deviations.{three}", "state"),
    ]
    assert row(trial, one).state == State.OPEN
    with pytest.raises(Invalid) as wrong:
        sign_all(trial, chosen(trial, one, two, three))
    assert [(each.field, each.rule) for each in wrong.value.problems] == [
        (f"deviations.{one}", "state"),
        (f"deviations.{three}", "state"),
    ]
    assert row(trial, two).state == State.ACTED
    with pytest.raises(Invalid, match="at least one"):
        act_on(trial, [])
    with pytest.raises(Invalid, match="at most"):
        act_on(trial, [actions.Chosen(number, 1) for number in range(actions.MOST + 1)])
    with pytest.raises(Invalid) as wrong:
        act_on(trial, chosen(trial, one), grade="major", action=" ")
    assert [each.field for each in wrong.value.problems] == ["action", "why"]
    act_on(trial, chosen(trial, one), grade="major", why="It happened twice.")
    assert (row(trial, one).grade, [each.item for each in trial.log("deviation.acted")][-1]) == ("major", "grade")


def test_nobody_deals_with_several_of_another_site_or_without_the_right(trial: Safe):
    number = report(trial)
    far = person(trial.session, trial.study, "coordinator", site_code="south")
    with pytest.raises(NotFound):
        act_on(trial, chosen(trial, number), by=far)
    act_on(trial, chosen(trial, number))
    with pytest.raises(NotAllowed):
        sign_all(trial, chosen(trial, number), by=trial.by("coordinator"))

    def wrong() -> None:
        raise Invalid([])

    with pytest.raises(Invalid):
        sign_all(trial, chosen(trial, number), prove=wrong)
    assert row(trial, number).state == State.ACTED


def test_many_take_as_few_statements_as_one(trial: Safe):
    few, many = [report(trial)], [report(trial, what=f"{WHAT} ({count})") for count in range(30)]
    sent: list[str] = []
    event.listen(trial.session.connection(), "before_cursor_execute", lambda *args: sent.append(args[2]))
    made = []
    for numbers in (few, many):
        for step in (act_on, sign_all):
            these = chosen(trial, *numbers)
            sent.clear()
            step(trial, these)
            made.append(len(sent))
    assert made[:2] == made[2:]


# What the system finds


def look(trial: Safe) -> int:
    return actions.look(trial.session, trial.study, by=THE_CLOCK, now=NOW)


def the_systems(trial: Safe) -> list[Any]:
    query = select(DEVIATION).where(DEVIATION.c.rule.is_not(None)).order_by(DEVIATION.c.id)
    return list(trial.session.execute(query))


def change_visit(trial: Safe, code: str = "week18", **values: Any) -> None:
    trial.session.execute(
        update(VISIT).where(VISIT.c.participant_id == trial.someone.id, VISIT.c.code == code).values(**values)
    )


def missed(trial: Safe) -> None:
    change_visit(trial, status="missed", reason="Ill")


def held(trial: Safe, on: date = TODAY) -> None:
    change_visit(trial, status="held", held_on=on)


@pytest.mark.requirement("E6-6", "REL-4")
def test_a_missed_visit_is_found_once_and_goes_when_it_is_corrected(trial: Safe):
    assert look(trial) == 0
    missed(trial)
    assert (look(trial), look(trial)) == (1, 0)
    (found,) = the_systems(trial)
    assert (found.rule, found.about, found.category, found.grade) == ("missed", "week18", "missed_visit", "minor")
    assert found.reported_by == "system"
    assert "Week 18 was missed" in found.what
    listed = reads.deviations_page(
        trial.session, trial.study, by=trial.by("data_manager"), wanted=Wanted(visit="week18")
    )
    assert [each.number for each in listed.rows] == [found.id]
    change_visit(trial, status="planned")
    assert look(trial) == 0
    assert row(trial, found.id).state == State.GONE
    missed(trial)
    look(trial)
    assert row(trial, found.id).state == State.OPEN
    assert [each.action for each in trial.log() if each.action.startswith("deviation.")] == [
        "deviation.found",
        "deviation.gone",
        "deviation.found_again",
    ]


@pytest.mark.requirement("E6-6")
def test_what_is_signed_stays_whatever_is_corrected_later(trial: Safe):
    missed(trial)
    look(trial)
    (found,) = the_systems(trial)
    act(trial, found.id, 1)
    actions.sign(trial.session, trial.study, found.id, base_version=2, prove=fine, by=trial.by("investigator"), now=NOW)
    change_visit(trial, status="planned")
    look(trial)
    assert row(trial, found.id).state == State.SIGNED


@pytest.mark.requirement("ALC-C")
def test_a_visit_outside_its_window_and_late_entries(trial: Safe):
    held(trial, on=TODAY)  # due 126 days later
    look(trial)
    (found,) = the_systems(trial)
    assert (found.rule, found.about, found.occurred_on) == ("window", "week18", TODAY)
    change_visit(trial, opens_on=TODAY, closes_on=TODAY)
    look(trial)
    assert row(trial, found.id).state == State.GONE
    for days, instrument in ((3, "pain"), (4, "disability")):
        trial.session.execute(
            insert(ENTRY).values(
                study_id=trial.study.id,
                participant_id=trial.someone.id,
                site_id=trial.someone.site_id,
                visit="week18",
                instrument=instrument,
                study_version_id=trial.study.version_id,
                status="complete",
                version=1,
                values="{}",
                reasons="{}",
                created_at=NOW + timedelta(days=days),
                created_by="test",
                saved_at=NOW + timedelta(days=days),
                saved_by="test",
            )
        )
        look(trial)
        late = [each for each in the_systems(trial) if each.rule == "late_entry"]
        assert len(late) == (1 if days == 4 else 0)
    assert late[0].occurred_on == TODAY + timedelta(days=4)


def test_late_entries_are_looked_for_only_where_the_study_says(session: Session):
    trial = safe(session, safety={})
    held(trial)
    change_visit(trial, opens_on=TODAY, closes_on=TODAY)
    assert look(trial) == 0


@pytest.mark.requirement("CONC-9", "E9-6")
def test_who_was_randomised_in_error_until_it_was_none(trial: Safe):
    for reason, state in (("ineligible", State.OPEN), ("no_error", State.GONE)):
        last = trial.session.execute(select(IN_ERROR.c.id)).scalar()
        trial.session.execute(
            insert(IN_ERROR).values(
                study_id=trial.study.id,
                participant_id=trial.someone.id,
                corrects=last,
                reason=reason,
                why="So",
                found_on=TODAY,
                told="",
                recorded_at=NOW,
                recorded_by="test",
            )
        )
        look(trial)
        (found,) = the_systems(trial)
        assert (found.rule, found.category, found.grade, found.state) == ("in_error", "randomisation", "major", state)


@pytest.mark.requirement("EMA-15")
def test_a_visit_without_consent_to_the_version_that_held(session: Session):
    documents: Any = MINI["consent_documents"]
    first = documents[0]
    newer = {**first, "version": "2", "valid_from": "2026-03-05"}
    trial = safe(session, consent_documents=[first, newer])
    held(trial, on=date(2026, 3, 4))
    change_visit(trial, opens_on=TODAY, closes_on=date(2026, 12, 31))

    def consents() -> list[Any]:
        actions.look(session, trial.study, by=THE_CLOCK, now=later(24 * 30))
        return [each for each in the_systems(trial) if each.rule == "consent"]

    assert consents() == []
    held(trial, on=date(2026, 3, 5))
    (found,) = consents()
    assert (found.about, found.occurred_on, found.grade) == ("2", date(2026, 3, 5), "major")
    session.execute(update(CONSENT).values(document_version="2", signed_on=date(2026, 3, 5)))
    assert consents()[0].state == State.GONE
    session.execute(update(CONSENT).values(refused_at=later(1), refused_by="noor"))
    assert consents()[0].state == State.OPEN
    session.execute(update(CONSENT).values(refused_at=None, refused_by=None))
    assert consents()[0].state == State.GONE
    session.execute(delete(CONSENT))
    assert consents()[0].state == State.OPEN


def documents(*given: tuple[str, str, str, tuple[str, ...]]) -> Study:
    """The small study with these documents: version, language, valid from, sites."""
    first: Any = MINI["consent_documents"]
    made = [
        {**first[0], "version": version, "language": language, "valid_from": day, "sites": list(sites)}
        for version, language, day, sites in given
    ]
    return definition(consent_documents=made)


NEVER = date.min
OLD, NEW = ("1", "en", "2025-01-01", ()), ("2", "en", "2026-03-05", ())


@pytest.mark.parametrize(
    ("worked", "site", "periods"),
    [
        ([(NEVER, [OLD])], "north", [("2025-01-01", "1")]),
        ([(NEVER, [OLD, NEW])], "north", [("2025-01-01", "1"), ("2026-03-05", "2")]),
        ([(NEVER, [OLD]), (date(2026, 4, 1), [OLD, NEW])], "north", [("2025-01-01", "1"), ("2026-04-01", "2")]),
        ([(NEVER, [OLD]), (date(2026, 1, 1), [NEW])], "north", [("2025-01-01", "1"), ("2026-03-05", "2")]),
        ([(NEVER, [OLD, ("2", "de", "2026-03-05", ())])], "north", [("2025-01-01", "1")]),
        ([(NEVER, [OLD, ("2", "en", "2026-03-05", ("south",))])], "north", [("2025-01-01", "1")]),
        (
            [(NEVER, [("s1", "en", "2025-01-01", ("south",)), OLD, NEW])],
            "south",
            [("2025-01-01", "s1")],
        ),
    ],
    ids=["one", "both", "after going over", "the old one taken out", "another language", "another site", "its own"],
)
def test_a_document_holds_at_a_site_once_it_works_with_it(worked: Any, site: str, periods: Any):
    given = [(day, documents(*some)) for day, some in worked]
    assert [(str(day), version) for day, version in periods_of(given, "en", site)] == periods


@pytest.mark.requirement("EMA-15")
@pytest.mark.parametrize(
    ("language", "moved_on", "seen"),
    [("en", None, False), ("en", 5, False), ("en", 4, True), ("de", 4, False)],
    ids=["not gone over", "on the day", "the day before", "in a language without a newer one"],
)
def test_who_cannot_sign_a_newer_document_yet_needs_no_consent_to_it(
    session: Session, language: str, moved_on: int | None, seen: bool
):
    both: Any = MINI["consent_documents"]
    old = [{**both[0], "language": each} for each in ("en", "de")]
    trial = safe(session, consent_documents=old)
    session.execute(update(CONSENT).values(language=language))
    held(trial, on=date(2026, 3, 5))
    newer = [*old, {**old[0], "version": "2", "valid_from": "2026-03-01"}]
    of, first, here = trial.study.id, trial.study.version_id, site(session, trial.study).id
    version = mini_study_again(session, of, consent_documents=newer, version="2")
    if moved_on is None:
        session.execute(update(SITE).where(SITE.c.id == here).values(version_id=first))
    else:
        begun = datetime(2026, 3, moved_on, 12, tzinfo=UTC)
        moved: dict[str, Any] = {"study_id": of, "site_id": here, "from_version_id": first, "version_id": version}
        done = SiteVersion(
            **moved, from_on=begun.date(), why="So", state="done", planned_at=begun, planned_by="noor",
            begun_at=begun, ended_at=begun,
        )  # fmt: skip
        session.add(done)
        session.flush()
    study = study_in_use(session, trial.study.code)
    found = list(unsigned_at_visits(session, study, later(24 * 30)))
    assert [(each.version, each.held_on) for each in found] == ([("2", date(2026, 3, 5))] if seen else [])


def test_a_study_with_its_own_categories_gets_its_last_one():
    safety = Safety.model_validate({"deviations": [{"code": "a", "label": "A"}, {"code": "b", "label": "B"}]})
    assert category_of(safety, Rule.MISSED).code == "b"
    assert category_of(Safety(), Rule.MISSED).code == "missed_visit"


def test_which_step_may_follow_which():
    assert {(state, act) for state in State for act in Act if why_not(state, act) is None} == {
        (state, act) for state, acts in TRANSITIONS.items() for act in acts
    }


KEYS = st.sets(st.tuples(st.integers(1, 3), st.sampled_from(["missed", "window"]), st.sampled_from(["a", "b"])))


@settings(deadline=None)
@given(rounds=st.lists(KEYS, max_size=6), signed=KEYS)
def test_however_often_it_looks_each_is_written_once(rounds: list[set[Any]], signed: set[Any]):
    kept: dict[Any, str] = {}
    for holds in rounds:
        added, again, gone = settle(holds, kept)
        assert not set(added) & set(kept)
        kept |= dict.fromkeys(added, State.OPEN.value)
        kept |= dict.fromkeys(again, State.OPEN.value)
        kept |= dict.fromkeys(gone, State.GONE.value)
        kept |= dict.fromkeys(signed & set(added), State.SIGNED.value)
        assert {key for key, state in kept.items() if state == State.OPEN} == {
            key for key in holds if kept[key] != State.SIGNED
        }
        assert settle(holds, kept) == ([], [], [])


@pytest.mark.requirement("REL-4", "E6-6")
def test_the_clock_looks_once_an_hour_and_takes_the_steps_of_clocks(database: Database):
    with database.writing() as session:
        trial = safe(session)
        missed(trial)
        trial.report(HOSPITAL)
        study = trial.study
    assert watch(database, now=later(11)) == 2
    with database.reading() as session:
        assert len(session.execute(select(DEVIATION)).all()) == 1
    assert look_in_turn(database, study, now=later(11.5)) is None
    assert look_in_turn(database, study, now=later(12)) == 0
