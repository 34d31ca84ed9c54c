"""A whole casebook signed: what a lock leaves out, what is no retry, and when a study asks for the signature of all."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import Session

from app.audit.verify import verify
from app.capture.casebook.reads import (
    casebooks_due,
    corrected_screening,
    milestone_reached,
    signatures_of,
    standing_signature,
)
from app.capture.casebook.rules import casebook_digest, holds, manifest_of, screening_line, why_not_sign
from app.capture.queries.actions import close_query
from app.capture.reads import ENTRY, entries_with_values
from app.capture.rules import signature_holds
from app.capture.signing import AsShown, ToSign, casebook_to_sign, sign_casebook_entries, sign_visit, what_to_sign
from app.foundation.errors import Conflict, Invalid, NotAllowed, Refused
from app.participants.corrections.actions import Asked
from app.participants.corrections.reads import screening_of
from app.participants.corrections.rules import Allotted
from app.participants.reads import SCREENING, participant_by_code
from app.safety.screening import correct_screening
from app.schedule.actions import record_visit
from tests.capture.test_locks import LATER, Trial
from tests.factories import NOW


@pytest.fixture
def trial(session: Session) -> Trial:
    trial = Trial(session)
    trial.save(visit="baseline")
    trial.save()
    return trial


def waiting(trial: Trial) -> ToSign:
    by = trial.people["investigator"]
    return casebook_to_sign(trial.session, trial.study, trial.participant, by=by, now=NOW)


def lines(found: ToSign) -> list[AsShown]:
    return [AsShown(each.entry.name, each.entry.version, each.digest, each.entry.visit) for each in found.ready]


def sign(trial: Trial, shown: list[AsShown], **options: Any) -> Any:
    given: Any = {"meaning": "review", "by": trial.people["investigator"], "now": NOW, **options}
    return sign_casebook_entries(trial.session, trial.study, trial.participant, shown=shown, **given)


def signatures(trial: Trial) -> dict[str, bool]:
    return {each.visit: signature_holds(each) for each in entries_with_values(trial.session, trial.id)}


@pytest.mark.requirement("P11-70", "E6-12", "E6-21")
def test_what_is_locked_is_left_out_and_a_lock_of_everything_refuses(trial: Trial):
    shown = lines(waiting(trial))
    assert [each.visit for each in shown] == ["baseline", "week18"]
    trial.close(visit="week18", despite=True)
    found = waiting(trial)
    assert [each.entry.visit for each in found.ready] == ["baseline"]
    assert "is locked since" in found.left_out[0].reason
    with pytest.raises(Refused, match=r"^Week 18, Pain: Week 18 of M-001 is locked.* Nothing was signed\.$"):
        sign(trial, shown)
    assert not any(signatures(trial).values()), "none of them"
    sign(trial, lines(found))
    assert signatures(trial) == {"baseline": True, "week18": False}
    trial.close(despite=True)
    with pytest.raises(Refused, match="is locked since"):
        sign(trial, shown)
    assert trial.log("entry.signed") == ["entry.signed"]
    assert verify(trial.session, trial.study.code).intact


def test_what_is_no_retry_is_refused(trial: Trial):
    shown = lines(waiting(trial))
    first = sign(trial, shown)
    assert sign(trial, shown) == first
    assert trial.log("entry.signed") == ["entry.signed"] * 2, "the same again is in no log"
    with pytest.raises(Refused, match="has signed this version already"):
        sign(trial, shown, meaning="approval")
    with pytest.raises(Refused, match="has signed this version already"):
        sign(trial, shown, by=trial.people["assessor"])
    with pytest.raises(Invalid):
        sign(trial, [])
    with pytest.raises(Invalid):
        sign(trial, shown, meaning="admiration")
    with pytest.raises(NotAllowed):
        sign(trial, shown, by=trial.people["coordinator"])
    trial.save(LATER, 1, why="Misheard")
    assert signatures(trial) == {"baseline": True, "week18": False}, "a later change ends one signature alone"
    with pytest.raises(Conflict, match="not what was shown to you"):
        sign(trial, shown)
    # A signature that does not fit what is stored is none, and is not made good by signing over it.
    trial.session.execute(
        update(ENTRY).where(ENTRY.c.visit == "baseline").values(values='{"pain_nrs":1,"pain_days":3}')
    )
    assert [each.visit for each in lines(waiting(trial))] == ["week18"]


@pytest.mark.requirement("E6-21")
def test_a_signature_of_the_casebook_is_asked_for_at_the_milestones_the_study_names(session: Session):
    trial = Trial(session)
    coordinator, investigator = trial.people["coordinator"], trial.people["investigator"]

    def due() -> list[tuple[str, str]]:
        page = casebooks_due(session, trial.study, by=investigator)
        assert page.total == len(page.rows)
        return [(each.participant, each.visit) for each in page.rows]

    def hold(visit: str) -> None:
        record_visit(
            session,
            trial.study,
            trial.participant,
            visit,
            held_on=NOW.date(),
            version=1,
            by=coordinator,
            now=NOW,
            reason="Early",
        )

    trial.save(visit="baseline")
    hold("baseline")
    assert due() == [], "this study names none"
    plan = trial.study.definition.visits
    named = tuple(visit.model_copy(update={"casebook_signature": visit.code != "tx01"}) for visit in plan)
    trial.study = replace(trial.study, definition=trial.study.definition.model_copy(update={"visits": named}))
    assert due() == [("M-001", "baseline")]
    assert milestone_reached(session, trial.study, trial.participant) == "Baseline"
    assert milestone_reached(session, trial.study, trial.other) is None
    trial.casebook(now=NOW + timedelta(hours=1))
    assert due() == []
    # What is entered later ends that signature; the milestone was kept all the same, until the next one is reached.
    trial.save(now=NOW + timedelta(hours=2))
    assert due() == []
    hold("week18")
    assert due() == [("M-001", "week18")]
    assert milestone_reached(session, trial.study, trial.participant) == "Week 18"
    trial.casebook(now=NOW + timedelta(hours=3))
    assert due() == []
    trial.save(LATER, 1, visit="baseline", why="Misheard", now=NOW + timedelta(hours=4))
    assert due() == [("M-001", "week18")], "what was signed has changed"
    trial.casebook(now=NOW + timedelta(hours=5))
    assert due() == []
    session.execute(
        update(ENTRY)
        .where(ENTRY.c.participant_id == trial.participant.id, ENTRY.c.visit == "baseline")
        .values(in_error_at=NOW + timedelta(hours=6), in_error_by="coordinator", in_error_why="Another participant")
    )
    assert due() == [("M-001", "week18")], "what was signed is not there any more"
    trial.casebook(now=NOW + timedelta(hours=7))
    assert due() == []
    corrected = {"version": 2, "corrected_at": NOW + timedelta(hours=8), "corrected_by": "coordinator"}
    session.execute(update(SCREENING).values(corrected))
    assert due() == [("M-001", "week18")], "what they answered at screening has changed"
    with pytest.raises(NotAllowed):
        casebooks_due(session, trial.study, by=coordinator)


@pytest.mark.requirement("P11-70")
def test_a_visit_is_signed_as_a_casebook_is_but_for_what_somebody_asks_about(trial: Trial):
    investigator = trial.people["investigator"]
    of: Any = {"by": investigator, "now": NOW}

    def found() -> ToSign:
        return what_to_sign(trial.session, trial.study, trial.participant, "week18", **of)

    def sign_it(shown: list[AsShown], **options: Any) -> Any:
        given = {"meaning": "review", **of, **options}
        return sign_visit(trial.session, trial.study, trial.participant, visit="week18", shown=shown, **given)

    shown = [replace(each, visit="") for each in lines(found())]
    assert [each.name for each in shown] == ["pain"]
    number = trial.ask().number
    assert [each.entry.visit for each in waiting(trial).ready] == ["baseline"], "among many, it waits for the answer"
    first = sign_it(shown)
    assert [(each.visit, each.signed_by) for each in first] == [("week18", investigator.username)]
    assert sign_it(shown) == first
    assert trial.log("entry.signed") == ["entry.signed"], "the same again is in no log"
    with pytest.raises(Refused, match="has signed this version already"):
        sign_it(shown, by=trial.people["assessor"])
    with pytest.raises(Conflict, match=r"^Pain: This form is not what was shown to you"):
        sign_it([replace(each, digest="0" * 64) for each in shown])
    trial.save(LATER, 1, why="Misheard")
    assert not signatures(trial)["week18"], "a later change ends the signature"
    assert [each.entry.name for each in found().ready] == ["pain"], "and asks again"
    with pytest.raises(Conflict, match="not what was shown to you"):
        sign_it(shown)
    close_query(trial.session, trial.study, number, text="Seen", version=1, by=trial.people["monitor"], now=NOW)
    again = found()
    trial.close(visit="week18", despite=True)
    assert "is locked since" in next(each.reason for each in found().left_out if each.instrument == "pain")
    with pytest.raises(Refused, match=r"^Pain: Week 18 of M-001 is locked.* Nothing was signed\.$"):
        sign_it(lines(again))


@pytest.mark.requirement("FDA-19", "E6-21")
def test_a_corrected_pre_screen_ends_the_signature_and_is_bound_by_the_next_one(session: Session):
    trial = Trial(session)
    trial.save()
    before = trial.casebook()
    assert [line[0] for line in before.manifest] == ["week18"], "what was not corrected is no line of it"

    def correct(age: int, **options: Any) -> None:
        screening, _ = screening_of(session, trial.id)
        assert screening is not None
        asked = Asked({**screening.answers, "age": age}, None, screening.version, "Read from the passport")
        one = participant_by_code(session, trial.study, "M-001", by=trial.people["coordinator"])
        told: dict[str, Any] = {"lot": lambda _: Allotted(), "by": trial.people["coordinator"], "now": NOW, **options}
        correct_screening(session, trial.study, one, asked, **told)

    shown = casebook_digest("M-001", before.manifest, "approval")
    correct(47)
    (ended,) = signatures_of(session, trial.id)
    assert (ended.superseded_by, ended.superseded_why) == ("coordinator_north", "Read from the passport")
    assert trial.log("casebook.") == ["casebook.signed", "casebook.signature_superseded"]
    with pytest.raises(Conflict, match="changed after you opened it"):
        trial.casebook(digest=shown)
    again = trial.casebook()
    assert [line[:3] for line in again.manifest] == [("screening", "screening", 2), ("week18", "pain", 1)]
    # A pre-screen that was changed behind our back is not what was signed.
    assert standing_signature(session, trial.id) is not None
    entries = entries_with_values(session, trial.id)
    assert holds(again, "M-001", manifest_of(entries, corrected_screening(session, trial.id)))
    session.execute(update(SCREENING).values(answers='{"age": 48}', version=SCREENING.c.version + 1))
    assert not holds(again, "M-001", manifest_of(entries, corrected_screening(session, trial.id)))


def test_nothing_is_signed_where_only_the_pre_screen_was_corrected():
    line = screening_line(2, "{}", True)
    assert why_not_sign([line], None, "M-001", partial=0, queries=0) == why_not_sign(
        [], None, "M-001", partial=0, queries=0
    )
    assert why_not_sign([line, ("week18", "pain", 1, "0" * 64)], None, "M-001", partial=0, queries=0) is None
