"""Forms that are filled in several times at a visit: each has its number, its own log, and those before to refer to."""

from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import select, text
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT
from app.capture import actions, reads
from app.capture.casebook.rules import manifest_of
from app.capture.checks import affected, is_tied
from app.capture.queries.actions import raise_query
from app.capture.queries.reads import queries_of
from app.capture.rules import form_name, named_form, signature_holds
from app.capture.verification.actions import verify_items
from app.foundation.database import Database
from app.foundation.errors import Conflict, Invalid, Refused
from app.randomisation.reads import EACH_COMPLETE
from app.studies.rules import canonical, problems
from tests.capture.records import consented
from tests.conftest import KEYS, ROOT
from tests.factories import MINI, NOW, definition, mini_study, person

FALL = {
    "code": "fall",
    "label": "Fall",
    "source": "test",
    "repeats": True,
    "max_repeats": 3,
    "repeat_label": "fall_on",
    "sections": [
        {
            "items": [
                {"code": "fall_on", "label": "Day of the fall", "type": "date"},
                {
                    "code": "fall_height",
                    "label": "Height",
                    "type": "integer",
                    "unit": "cm",
                    "checks": [
                        {
                            "rule": "[fall_height][previous-instance] = '' "
                            "or [fall_height] <> [fall_height][previous-instance]",
                            "message": "The fall before was from the same height.",
                        }
                    ],
                },
                {
                    "code": "fall_days",
                    "label": "Days since the fall before",
                    "type": "calculated",
                    "calculation": "datediff([fall_on][previous-instance], [fall_on], 'd')",
                },
            ]
        }
    ],
}
LAST = {
    "code": "summary",
    "label": "Summary",
    "source": "test",
    "sections": [
        {
            "items": [
                {"code": "s_note", "label": "Note", "type": "text"},
                {"code": "s_first", "label": "First", "type": "calculated", "calculation": "[week18][fall_height]"},
                {"code": "s_two", "label": "Second", "type": "calculated", "calculation": "[week18][fall_height][2]"},
                {
                    "code": "s_last",
                    "label": "Last",
                    "type": "calculated",
                    "calculation": "[week18][fall_height][last-instance]",
                },
            ]
        }
    ],
}


def changes(**fall: Any) -> dict[str, Any]:
    visits: Any = MINI["visits"]
    instruments: Any = MINI["instruments"]
    last = {**visits[-1], "instruments": ["fall", "summary", "pain", "disability"]}
    return {"visits": [*visits[:-1], last], "instruments": [*instruments, FALL | fall, LAST]}


class Trial:
    """The small trial with a form for falls at week 18, and one that refers to them."""

    def __init__(self, session: Session) -> None:
        self.session, self.study = session, mini_study(session, **changes())
        self.participant = consented(session, self.study)
        assert self.participant.id is not None
        self.id = self.participant.id
        self.assessor = person(session, self.study, "assessor")
        self.investigator = person(session, self.study, "investigator")

    def save(self, repeat: int, values: dict[str, Any], instrument: str = "fall", **options: Any) -> Any:
        entry = self.entry(repeat, instrument)
        given: Any = {"reasons": {}, "base_version": entry.version if entry else 0, "by": self.assessor, "now": NOW}
        given |= {"why": "Read again"} if entry else {}
        place: Any = {"visit": "week18", "instrument": instrument, "repeat": repeat, "values": values}
        return actions.save_entry(self.session, self.study, self.participant, **place, **(given | options))

    def fall(self, repeat: int, on: str, height: int, **options: Any) -> Any:
        return self.save(repeat, {"fall_on": on, "fall_height": height}, **options)

    def entry(self, repeat: int = 1, instrument: str = "fall") -> Any:
        return reads.entry_of(self.session, self.id, "week18", instrument, repeat)

    def mark(self, repeat: int, **options: Any) -> Any:
        given: Any = {"version": self.entry(repeat).version, "why": "Another participant's", "by": self.assessor}
        place: Any = {"visit": "week18", "instrument": "fall", "repeat": repeat, "now": NOW}
        return actions.mark_in_error(self.session, self.study, self.participant, **place, **(given | options))

    def log(self, subject: str) -> list[str]:
        query = select(AUDIT.c.action).where(AUDIT.c.subject == subject).order_by(AUDIT.c.position)
        return list(self.session.execute(query).scalars())

    def standing(self, instrument: str = "fall", repeat: int = 1) -> list[str | None]:
        found = queries_of(self.session, self.study, self.id, "week18", instrument, repeat)
        return [each.rule for each in found if not each.is_closed]

    def complete(self) -> list[tuple[str, str]]:
        """The forms that randomisation finds complete."""
        found = self.session.execute(select(EACH_COMPLETE), {"participant_id": self.id})
        return [(row.visit, row.instrument) for row in found]


@pytest.fixture
def trial(session: Session) -> Trial:
    trial = Trial(session)
    trial.fall(1, "2026-02-01", 40)
    trial.fall(2, "2026-02-11", 55)
    return trial


@pytest.mark.parametrize(
    ("name", "parts"), [("fall", ("fall", 1)), ("fall/2", ("fall", 2)), ("fall/999", ("fall", 999))]
)
def test_a_name_says_the_form_and_its_number(name: str, parts: tuple[str, int]):
    assert named_form(name) == parts
    assert form_name(*parts) == name


@pytest.mark.parametrize("name", ["fall/", "fall/x", "fall/1000", "fall/-1", "fall/٢x"])
def test_what_is_no_number_names_nothing(name: str):
    assert named_form(name)[1] in (0, 1)
    assert form_name(*named_form(name)) != name


def test_each_time_is_an_entry_of_its_own(trial: Trial):
    assert (trial.entry(1).values["fall_height"], trial.entry(2).values["fall_height"]) == (40, 55)
    assert trial.entry(2).values["fall_days"] == 10, "an expression reads the one before"
    assert "fall_days" not in trial.entry(1).values
    assert trial.entry(3) is None
    trial.fall(2, "2026-02-12", 55)
    assert (trial.entry(1).version, trial.entry(2).version) == (1, 2)
    assert trial.log("entry/week18/fall")[-1] == "entry.completed"
    assert "entry.corrected" in trial.log("entry/week18/fall/2")
    history = reads.history(trial.session, trial.study, "M-001", "week18", "fall", "fall_on", repeat=2)
    assert [line.new for line in history] == ["2026-02-11", "2026-02-12"]


@pytest.mark.parametrize(
    ("instrument", "repeat", "reason"),
    [("fall", 4, "3 times at most"), ("summary", 2, "once at a visit"), ("fall", 0, "2 times at this visit")],
)
def test_one_is_added_behind_the_others(trial: Trial, instrument: str, repeat: int, reason: str):
    if repeat == 4:
        trial.fall(3, "2026-02-20", 10)
    with pytest.raises(Refused, match=reason):
        trial.save(repeat, {}, instrument, base_version=0, why=None)


def test_none_is_skipped(session: Session):
    trial = Trial(session)
    with pytest.raises(Refused, match="0 times at this visit"):
        trial.fall(2, "2026-02-11", 55)


def test_two_who_add_one_at_once_do_not_overwrite_each_other(trial: Trial):
    trial.fall(3, "2026-02-20", 10)
    with pytest.raises(Conflict):
        trial.fall(3, "2026-02-21", 20, base_version=0, why=None)


@pytest.mark.requirement("AX11-6")
def test_other_forms_read_the_first_a_named_and_the_last_one(trial: Trial):
    trial.save(1, {"s_note": "Three falls"}, "summary")
    found = trial.entry(1, "summary").values
    assert (found["s_first"], found["s_two"], found["s_last"]) == (40, 55, 55)
    trial.fall(3, "2026-02-20", 10)
    assert trial.standing("summary") == ["computed"], "the last one is another: the summary is to be saved again"
    trial.save(1, {"s_note": "Three falls"}, "summary")
    assert trial.entry(1, "summary").values["s_last"] == 10
    assert trial.standing("summary") == []


def test_a_change_of_one_asks_at_the_next(trial: Trial):
    assert affected(trial.study.definition, "week18", ["fall_height"]) == (("week18", "fall"), ("week18", "summary"))
    form = trial.study.definition.instrument("fall")
    assert form is not None
    assert is_tied(trial.study.definition, form, "week18")
    trial.fall(1, "2026-02-01", 55)
    assert trial.standing(repeat=1) == []
    assert trial.standing(repeat=2) == ["check_1"]
    trial.fall(1, "2026-02-03", 40)
    assert trial.standing(repeat=2) == ["computed"], "eight days now, not ten"


def test_the_cell_of_the_matrix_is_complete_once_each_is(trial: Trial):
    def mark() -> Any:
        return reads.entries_of(trial.session, trial.id)["week18", "fall"]

    assert (mark().status, [each.repeat for each in mark().repeats]) == ("complete", [1, 2])
    assert trial.complete() == [("week18", "fall")]
    trial.save(3, {"fall_height": 3}, accept_partial=True)
    assert (mark().status, [each.status for each in mark().repeats]) == ("partial", ["complete", "complete", "partial"])
    assert trial.complete() == []
    trial.mark(3)
    assert mark().status == "complete"


@pytest.mark.requirement("EMA-5")
def test_one_entered_by_mistake_stays_and_counts_nowhere(trial: Trial):
    trial.save(1, {"s_note": "Two falls"}, "summary")
    trial.mark(2)
    entry = trial.entry(2)
    assert (entry.is_in_error, entry.in_error_by, entry.in_error_why) == (
        True,
        trial.assessor.username,
        "Another participant's",
    )
    assert entry.values["fall_height"] == 55, "nothing is deleted"
    assert trial.log("entry/week18/fall/2")[-1] == "entry.marked_in_error"
    answers = reads.answers_of(trial.session, trial.study, trial.id)
    assert answers["week18", "fall_height"] == 40
    assert ("week18", "fall_height/2") not in answers
    assert trial.standing("summary") == ["computed", "computed"], "what was computed from it is to be saved again"
    with pytest.raises(Refused, match="entered in error"):
        trial.fall(2, "2026-02-11", 56)
    entries = reads.entries_with_values(trial.session, trial.id)
    assert [line[:2] for line in manifest_of(entries, None)] == [("week18", "fall"), ("week18", "summary")]
    trial.fall(3, "2026-02-20", 10)
    assert trial.entry(3).values["fall_days"] == 19, "the one before is the first: the second does not count"
    again = trial.mark(2, version=1)
    assert again.version == entry.version, "the same again changes nothing"
    trial.mark(2, undo=True, why="It was theirs after all")
    assert not trial.entry(2).is_in_error
    assert trial.log("entry/week18/fall/2")[-1] == "entry.restored"


def test_each_waits_for_its_own_signature_but_one_in_error_for_none(trial: Trial):
    def unsigned() -> list[tuple[str, ...]]:
        return [each.instruments for each in reads.unsigned_visits(trial.session, trial.study, by=trial.assessor).rows]

    assert unsigned() == [("fall", "fall/2")]
    trial.mark(2)
    assert unsigned() == [("fall",)]


def test_marking_asks_for_a_reason_and_the_version_that_was_seen(trial: Trial):
    with pytest.raises(Invalid, match="what went wrong"):
        trial.mark(2, why=" ")
    with pytest.raises(Conflict):
        trial.mark(2, version=7)


def test_a_form_that_is_filled_in_once_is_marked_and_its_visit_can_then_be_missed(trial: Trial):
    here: dict[str, Any] = {"session": trial.session, "study": trial.study, "participant": trial.participant}
    place: dict[str, Any] = {"visit": "week18", "instrument": "pain", "repeat": 1, "now": NOW}
    who: dict[str, Any] = {"by": trial.assessor}
    saved = actions.save_entry(
        **here, **place, **who, values={"pain_nrs": 3}, reasons={}, base_version=0, accept_partial=True
    )
    trial.mark(1)
    trial.mark(2)
    missing: dict[str, Any] = {"visit": "week18", "version": 1, "why": "Never came", "by": trial.assessor, "now": NOW}
    with pytest.raises(Refused, match="Forms are filled in"), trial.session.begin_nested():
        actions.miss_visit(**here, **missing)
    marked = actions.mark_in_error(**here, **place, **who, version=saved.version, why="Another participant's")
    assert marked.is_in_error
    assert ("week18", "pain_nrs") not in reads.answers_of(trial.session, trial.study, trial.id)
    assert reads.forms_begun(trial.session, trial.id, "week18")["pain"] is None, "it asks for nothing"
    mark = reads.entries_of(trial.session, trial.id)["week18", "pain"]
    assert (mark.is_in_error, mark.status) == (True, "partial")
    with pytest.raises(Refused, match="entered in error"):
        actions.save_entry(
            **here, **place, **who, values={"pain_nrs": 4}, reasons={}, base_version=marked.version, why="Read again"
        )
    restored = actions.mark_in_error(**here, **place, **who, version=marked.version, why="It was theirs", undo=True)
    assert not restored.is_in_error
    assert reads.answers_of(trial.session, trial.study, trial.id)["week18", "pain_nrs"] == 3
    actions.mark_in_error(**here, **place, **who, version=restored.version, why="Another participant's")
    assert actions.miss_visit(**here, **missing).status == "missed"
    with pytest.raises(Refused, match="recorded as missed"):
        actions.mark_in_error(**here, **place, **who, version=restored.version + 1, why="It was theirs", undo=True)


def test_a_signature_a_query_and_a_verification_are_of_one_of_them(trial: Trial):
    place: dict[str, Any] = {"visit": "week18", "instrument": "fall", "repeat": 2, "now": NOW}
    here = (trial.session, trial.study, trial.participant)
    signed = actions.sign_entry(*here, **place, version=1, meaning="authorship", by=trial.assessor)
    assert signature_holds(signed)
    assert not trial.entry(1).is_signed
    moved = trial.entry(2)
    object.__setattr__(moved, "repeat", 1)
    assert not signature_holds(moved), "the signature fits no other repeat"
    monitor = person(trial.session, trial.study, "monitor")
    raise_query(*here, **place, item="fall_on", text="Which day does the diary say?", by=monitor)
    assert trial.standing(repeat=1) == []
    assert trial.standing(repeat=2) == [None]
    mark = reads.entries_of(trial.session, trial.id)["week18", "fall"]
    assert [each.has_query for each in mark.repeats] == [False, True]
    verify_items(*here, **place, items=["fall_on", "fall_height", "fall_days"], version=1, by=monitor)
    assert trial.entry(2).verified_at is not None
    assert trial.entry(1).verified_at is None


def test_a_draft_is_of_one_of_them(trial: Trial):
    place: dict[str, Any] = {"visit": "week18", "instrument": "fall", "by": trial.assessor}
    for repeat in (2, 3):
        actions.keep_draft(
            trial.session,
            trial.study,
            trial.participant,
            **place,
            repeat=repeat,
            typed={"fall_height": [str(repeat)]},
            base_version=0,
            now=NOW,
        )
    _, drafts = reads.entries_and_drafts(trial.session, trial.id, by=trial.assessor)
    assert drafts == {("week18", "fall/2"), ("week18", "fall/3")}
    trial.fall(3, "2026-02-20", 10)
    assert reads.draft_of(trial.session, trial.id, "week18", "fall", by=trial.assessor, repeat=3) is None
    assert reads.draft_of(trial.session, trial.id, "week18", "fall", by=trial.assessor, repeat=2) is not None


@pytest.mark.parametrize(
    ("fall", "message"),
    [
        ({"repeats": False, "max_repeats": 3}, "Write `repeats: true`"),
        ({"repeats": False, "max_repeats": None, "repeat_label": None}, "nor does the form"),
        ({}, None),
    ],
)
def test_what_a_study_may_say_of_repeats(fall: dict[str, Any], message: str | None):
    found = [each.message for each in problems(definition(**changes(**fall)))]
    if message is None:
        assert found == []
    else:
        assert any(message in each for each in found), found


def test_a_study_without_repeats_is_what_it_was():
    assert "repeat" not in canonical(definition())
    assert '"repeats":true' in canonical(definition(**changes()))


def test_what_was_entered_before_repeats_is_the_first_one(tmp_path: Path):
    """The migration keeps every row, and gives 1 to what was entered before it."""
    database = Database(f"sqlite:///{tmp_path / 'before.db'}", KEYS)
    config = Config(str(ROOT / "alembic.ini"))
    config.set_main_option("script_location", str(ROOT / "migrations"))
    instant = "'2026-01-01 00:00:00'"
    entry = f"1, 1, 1, 'week18', 'pain', 1, 'complete', 3, '{{}}', '{{}}', {instant}, 'a', {instant}, 'a', '{{}}'"
    columns = 'id, study_id, participant_id, visit, instrument, study_version_id, status, version, "values", reasons, '
    columns += "created_at, created_by, saved_at, saved_by, verified"
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0011_first_stage")
        connection.execute(text("PRAGMA defer_foreign_keys = ON"))
        connection.execute(text(f"INSERT INTO entry ({columns}) VALUES ({entry})"))
        connection.execute(text(f"INSERT INTO draft VALUES (1, 1, 1, 'week18', 'pain', 2, '{{}}', {instant})"))
        command.upgrade(config, "0020_repeats")
        found = connection.execute(text("SELECT id, version, repeat, in_error_at FROM entry")).all()
        assert found == [(1, 3, 1, None)]
        assert connection.execute(text("SELECT base_version, repeat FROM draft")).all() == [(2, 1)]
    database.dispose()
