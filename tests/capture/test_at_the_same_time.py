"""Two people, one form: one of them saves, the other is told; nothing is lost and nothing is saved twice."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from sqlalchemy import func, select

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.audit.verify import verify
from app.capture import reads
from app.capture.actions import SavedEntry, save_entry, sign_entry
from app.foundation.database import Database
from app.foundation.errors import Conflict, Problem
from app.participants.models import Participant
from app.people.access import Actor
from app.studies.in_use import StudyInUse
from tests.capture.records import consented
from tests.factories import NOW, mini_study, person

pytestmark = pytest.mark.both_databases

PAIN = {"pain_nrs": 5, "pain_days": 3}


@pytest.fixture
def trial(database: Database) -> tuple[Database, StudyInUse, Participant, Actor]:
    with database.writing() as session:
        study = mini_study(session)
        participant = consented(session, study)
        assessor = person(session, study, "assessor")
    return database, study, participant, assessor


def together(acts: list[Callable[[], Any]]) -> list[Any]:
    """What each act answered, or the problem it raised; all begin at once."""
    answers: list[Any] = [None] * len(acts)
    start = threading.Barrier(len(acts))

    def run(place: int) -> None:
        start.wait()
        try:
            answers[place] = acts[place]()
        except Problem as problem:
            answers[place] = problem

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def saver(trial: Any, values: Mapping[str, object], base: int, why: str | None = None) -> Callable[[], SavedEntry]:
    database, study, participant, assessor = trial

    def save() -> SavedEntry:
        with database.writing() as session:
            return save_entry(
                session, study, participant, visit="week18", instrument="pain", values=values, reasons={},
                base_version=base, why=why, by=assessor, now=NOW,
            )  # fmt: skip

    return save


def stored(trial: Any) -> Any:
    database, _, participant, _ = trial
    with database.reading() as session:
        return reads.entry_of(session, participant.id, "week18", "pain")


def test_of_first_saves_with_different_answers_one_stands(trial):
    answers = together([saver(trial, {**PAIN, "pain_nrs": n}, 0) for n in range(1, 7)])
    saved = [answer for answer in answers if isinstance(answer, SavedEntry)]
    conflicts = [answer for answer in answers if isinstance(answer, Conflict)]
    assert (len(saved), len(conflicts)) == (1, 5)
    assert {conflict.current_version for conflict in conflicts} == {1}
    assert stored(trial).values["pain_nrs"] == saved[0].judgement.values["pain_nrs"]


def test_the_same_save_sent_six_times_is_stored_once(trial):
    answers = together([saver(trial, PAIN, 0) for _ in range(6)])
    assert [answer.version for answer in answers] == [1] * 6
    with trial[0].reading() as session:
        count = session.execute(select(func.count()).select_from(AUDIT_ENTRY)).scalar_one()
        assert verify(session, "mini").intact
    assert count == 3


@pytest.mark.requirement("P11-e2")
def test_of_corrections_at_the_same_time_one_stands_and_the_log_agrees(trial):
    saver(trial, PAIN, 0)()
    for version in range(1, 4):
        base = stored(trial).values["pain_nrs"]
        values = [n for n in range(1, 10) if n != base][:5]
        answers = together([saver(trial, {**PAIN, "pain_nrs": n}, version, why="Typo") for n in values])
        assert [isinstance(answer, SavedEntry) for answer in answers].count(True) == 1
        assert [isinstance(answer, Conflict) for answer in answers].count(True) == 4
        assert stored(trial).version == version + 1
    with trial[0].reading() as session:
        lines = reads.history(session, trial[1], "M-001", "week18", "pain", "pain_nrs")
        assert verify(session, "mini").intact
    assert [line.old for line in lines] == [None, *(line.new for line in lines[:-1])]
    assert lines[-1].new == stored(trial).values["pain_nrs"]


@pytest.mark.requirement("P11-70")
def test_a_signature_and_a_correction_at_the_same_time_never_leave_changed_bytes_signed(trial):
    database, study, participant, assessor = trial
    saver(trial, PAIN, 0)()
    for version in range(1, 5):

        def sign(version: int = version) -> Any:
            with database.writing() as session:
                return sign_entry(
                    session, study, participant, visit="week18", instrument="pain", version=version,
                    meaning="authorship", by=assessor, now=NOW,
                )  # fmt: skip

        together([sign, saver(trial, {**PAIN, "pain_nrs": version + 5}, version, why="Typo")])
        entry = stored(trial)
        assert not entry.is_signed
        assert entry.version == version + 1
