"""Consent is recorded once, countersigned by those who may, withdrawn for good; and each step is written down."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlmodel import Session

from app.consent import actions
from app.consent.actions import DRAWN_SIZE, PURPOSE, countersign, reveal_signature, reveal_signed, withdraw_consent
from app.consent.reads import (
    CONSENT,
    consents_of,
    document_html,
    document_of,
    is_intact,
    reconsent_owed,
    reconsents_owed,
    valid_document,
    why_no_consent,
)
from app.foundation.database import Database
from app.foundation.errors import Invalid, NotAllowed, NotFound, Refused
from app.participants.actions import erase_identity, screen, withdraw
from app.participants.identity import seal_for
from app.participants.reads import participant_by_code
from app.participants.rules import PersonalData
from app.people.access import Actor
from app.studies.definition import ConsentDocument
from tests.consent.acts import DOCUMENTS, QUESTION, RULES, agreed, study_with_consent
from tests.factories import NOW, TODAY, person, site
from tests.participants.acts import ELIGIBLE, log_of, screened


@pytest.mark.requirement("SPI-32a", "EMA-15")
def test_consent_signed_by_both_is_complete_and_written_down(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    assert one.id is not None
    assert "no consent yet" in str(why_no_consent(session, study, one))
    consent = agreed(session, study, one)
    (kept,) = consents_of(session, one.id)
    assert kept.model_dump() == consent.model_dump()
    assert (kept.recorded_by, kept.countersigned_by, kept.countersigned_at) == (
        "investigator_north",
        "investigator_north",
        NOW,
    )
    assert is_intact(session, study, kept, one)
    assert why_no_consent(session, study, one) is None
    stored = participant_by_code(session, study, one.code, by=person(session, study, "coordinator"))
    assert (stored.status, stored.consented_on) == ("consented", TODAY)
    log = log_of(session)[-3:]
    assert [entry.action for entry in log] == ["consent.recorded", "consent.countersigned", "participant.consented"]
    told = json.loads(log[0].new)
    assert told["binding"] == kept.binding
    assert told["document_sha256"] == "3" * 64
    everything = json.dumps([dict(entry._mapping) for entry in log_of(session)], default=str)
    assert not any(name in everything for name in ("Annabella", "Muster"))


def test_until_it_is_countersigned_nothing_may_be_collected(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    recorder = person(session, study, "coordinator")
    consent = agreed(session, study, one, by=recorder, countersign=False)
    assert consent.id is not None
    assert one.status == "screened"
    assert "not countersigned" in str(why_no_consent(session, study, one))
    with pytest.raises(NotAllowed, match="countersigned by: investigator"):
        countersign(session, study, one, consent.id, by=recorder, now=NOW)
    elsewhere = person(session, study, "investigator", site_code="south")
    with pytest.raises(NotAllowed):
        countersign(session, study, one, consent.id, by=elsewhere, now=NOW)
    investigator = person(session, study, "investigator")
    with pytest.raises(Invalid):
        countersign(session, study, one, consent.id, meaning=" ", by=investigator, now=NOW)
    with pytest.raises(NotFound):
        countersign(session, study, one, consent.id + 1, by=investigator, now=NOW)
    countersign(session, study, one, consent.id, by=investigator, now=NOW)
    assert one.status == "consented"
    with pytest.raises(Refused, match="already"):
        countersign(session, study, one, consent.id, by=investigator, now=NOW)


@pytest.mark.parametrize("complete", [True, False])
def test_a_consent_posted_twice_is_kept_once(session: Session, complete: bool) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    assert one.id is not None
    agreed(session, study, one, countersign=complete)
    with pytest.raises(Refused, match="already"):
        agreed(session, study, one, countersign=complete)
    assert len(consents_of(session, one.id)) == 1
    assert len(log_of(session, action="consent.recorded")) == 1


@pytest.mark.both_databases
def test_a_consent_posted_twice_at_the_same_time_is_kept_once(database: Database) -> None:
    with database.writing() as session:
        study = study_with_consent(session)
        one = screened(session, study)
        by = person(session, study, "investigator")

    def post(_: int) -> bool:
        try:
            with database.writing() as session:
                mine = participant_by_code(session, study, one.code, by=by)
                agreed(session, study, mine, by=by)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(post, range(6))) == [False] * 5 + [True]
    with database.reading() as session:
        assert session.execute(select(func.count()).select_from(CONSENT)).scalar() == 1


@pytest.mark.requirement("P11-f")
def test_only_the_eligible_are_asked(session: Session) -> None:
    study = study_with_consent(session)
    by = person(session, study, "coordinator")
    failed, _ = screen(
        session,
        study,
        site=site(session, study),
        answers={**ELIGIBLE, "age": 12},
        failure_reason=None,
        personal=PersonalData(),
        by=by,
        now=NOW,
    )
    with pytest.raises(Refused, match="did not pass") as caught:
        agreed(session, study, failed)
    assert (caught.value.action, caught.value.subject) == ("consent.record", "M-001/consent/2")
    gone = screened(session, study)
    withdraw(session, study, gone, level="visits", reason="Moved", on=TODAY, by=by, now=NOW)
    with pytest.raises(Refused, match="withdrawn"):
        agreed(session, study, gone)


@pytest.mark.parametrize("role", ["assessor", "data_manager", "clinician"])
def test_who_may_not_record_consent_is_told_so(session: Session, role: str) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    with pytest.raises(NotAllowed):
        agreed(session, study, one, by=person(session, study, role))


def test_a_day_that_has_not_come_is_refused_by_the_calendar_of_the_site(session: Session) -> None:
    study = study_with_consent(session)
    by = person(session, study, "coordinator", "investigator", site_code="south")
    one = screened(session, study, by=by, code="south")
    late = NOW.replace(hour=22, minute=59)  # 2 March in Zurich, 3 March in Sydney
    with pytest.raises(Invalid) as caught:
        agreed(session, study, one, by=by, signed_on=TODAY + timedelta(days=1), now=late)
    assert caught.value.problems[0].field == "signed_on"
    there = screened(session, study)
    agreed(session, study, there, signed_on=TODAY + timedelta(days=1), now=late)


def test_a_newer_version_is_signed_without_a_change_of_status(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    assert one.id is not None
    before = TODAY - timedelta(days=5)
    agreed(session, study, one, version="1", signed_on=before)
    owed = reconsent_owed(study, consents_of(session, one.id), TODAY)
    assert owed is not None
    assert owed.version == "2"
    agreed(session, study, one, version="2", countersign=False)
    assert why_no_consent(session, study, one) is None  # the first still holds
    consent = consents_of(session, one.id)[1]
    assert consent.id is not None
    countersign(session, study, one, consent.id, by=person(session, study, "investigator"), now=NOW)
    assert (one.status, one.consented_on) == ("consented", before)
    assert reconsent_owed(study, consents_of(session, one.id), TODAY) is None
    assert len(log_of(session, action="participant.consented")) == 1


@pytest.mark.requirement("EMA-15")
@pytest.mark.parametrize(
    "change",
    [{"options": '{"contact":false}'}, {"signed_on": TODAY - timedelta(days=1)}, {"document_sha256": "0" * 64}],
)
def test_a_consent_that_was_changed_behind_our_back_is_not_countersigned(
    session: Session, change: dict[str, Any]
) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    consent = agreed(session, study, one, countersign=False)
    assert consent.id is not None
    session.execute(update(CONSENT).where(CONSENT.c.id == consent.id).values(**change))
    with pytest.raises(Refused, match="Do not sign"):
        countersign(session, study, one, consent.id, by=person(session, study, "investigator"), now=NOW)


@pytest.mark.requirement("GDPR-7", "E6-23")
def test_withdrawn_consent_keeps_what_was_and_allows_nothing_new(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    assert one.id is not None
    by = person(session, study, "coordinator")
    with pytest.raises(Refused, match="no consent to withdraw"):
        withdraw_consent(session, study, one, on=TODAY, why="x", by=by, now=NOW)
    consent = agreed(session, study, one)
    for wrong in ({"on": TODAY + timedelta(days=1)}, {"on": TODAY - timedelta(days=1)}, {"why": ""}):
        with pytest.raises(Invalid):
            withdraw_consent(session, study, one, **{"on": TODAY, "why": "x", **wrong}, by=by, now=NOW)  # type: ignore[arg-type]
    assessor = person(session, study, "assessor")
    with pytest.raises(NotAllowed):
        withdraw_consent(session, study, one, on=TODAY, why="x", by=assessor, now=NOW)
    withdraw_consent(session, study, one, on=TODAY, why="Changed their mind", by=by, now=NOW)
    (kept,) = consents_of(session, one.id)
    assert kept.withdrawn_on == TODAY
    assert kept.binding == consent.binding
    assert is_intact(session, study, kept, one)
    assert "withdrawn" in str(why_no_consent(session, study, one))
    (entry,) = log_of(session, action="consent.withdrawn")
    assert (entry.subject, entry.why) == ("consent/2", "Changed their mind")


@pytest.mark.requirement("GDPR-5")
def test_the_signature_is_sealed_shown_on_record_and_erasable(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    consent = agreed(session, study, one)
    assert consent.id is not None
    assert len(consent.participant_signature) == 12 + 4 + 1024 + 16
    by = person(session, study, "coordinator")
    assert reveal_signature(session, study, one, consent.id, by=by, now=NOW) == "Anna Muster"
    (entry,) = log_of(session, action="identity.shown")
    assert entry.subject == "consent/2"
    with pytest.raises(NotAllowed):
        reveal_signature(session, study, one, consent.id, by=person(session, study, "monitor"), now=NOW)
    withdraw(session, study, one, level="visits", reason="Moved", on=TODAY, by=by, now=NOW)
    erase_identity(session, study, one, why="Asked for it", by=by, now=NOW)
    assert reveal_signature(session, study, one, consent.id, by=by, now=NOW) is None
    assert is_intact(session, study, consents_of(session, consent.participant_id)[0], one)


@pytest.mark.requirement("P11-70", "EMA-15")
def test_a_drawn_signature_is_bound_with_the_name_and_shown_with_it(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    with pytest.raises(Invalid) as refused:
        agreed(session, study, one, strokes="[[1, 1]]")
    assert [(each.field, each.rule) for each in refused.value.problems] == [("strokes", "drawing")]
    with pytest.raises(Invalid):
        agreed(session, study, one, strokes=DRAWN, method="paper", paper_sha256="a" * 64)
    consent = agreed(session, study, one, strokes=DRAWN)
    assert consent.id is not None
    assert len(consent.participant_signature) == 12 + 4 + 52_000 + 16  # however much was drawn
    by = person(session, study, "coordinator")
    assert reveal_signed(session, study, one, consent.id, by=by, now=NOW) == ("Anna Muster", DRAWN)
    assert reveal_signature(session, study, one, consent.id, by=by, now=NOW) == "Anna Muster"
    assert is_intact(session, study, consent, one)
    # Another drawing under the same name is another signature.
    sealed = seal_for(session, consent.participant_id, b"Anna Muster\n[[0,0,200,0]]", PURPOSE, DRAWN_SIZE)
    consent.participant_signature = sealed
    assert not is_intact(session, study, consent, one)
    (entry,) = log_of(session, action="consent.recorded")
    assert DRAWN not in str(entry.new)


def test_nothing_is_stored_when_the_audit_entry_cannot_be(
    shared_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared_database.writing() as session:
        study = study_with_consent(session)
        one = screened(session, study)
        by: Actor = person(session, study, "investigator")

    def broken(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(actions, "record", broken)
    with pytest.raises(OSError, match="disk full"), shared_database.writing() as session:
        agreed(session, study, one, by=by)
    with shared_database.reading() as session:
        assert not session.execute(select(CONSENT)).all()
        assert participant_by_code(session, study, one.code, by=by).status == "screened"


def test_the_document_of_a_consent_is_the_one_of_its_study_version(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    consent = agreed(session, study, one)
    document = document_of(session, study, consent)
    assert document is not None
    assert document == valid_document(study, "en", TODAY)
    later = type(study)(study.id, study.code, study.version_id + 1, study.definition)
    assert document_of(session, later, consent) == document


def test_a_document_is_shown_as_text_and_never_as_script() -> None:
    text = "# Title\n\n<script>alert(1)</script> [x](javascript:alert(1)) ![y](https://example.org/y.png)\n\n|a|\n|-|\n|b|\n"
    html = document_html(ConsentDocument.model_validate({**DOCUMENTS[0], "text": text}))
    assert "<h1>Title</h1>" in html
    assert "<table>" in html
    for wrong in ("<script", "<img", 'href="javascript'):
        assert wrong not in html


def test_answers_to_the_questions_are_kept_bound_and_written_down(session: Session) -> None:
    study = study_with_consent(session, consent={**RULES, "questions": [QUESTION]})
    one = screened(session, study)
    with pytest.raises(Invalid) as caught:
        agreed(session, study, one, answers={"may_stop": "never"})
    assert [(problem.field, problem.rule) for problem in caught.value.problems] == [("questions.may_stop", "wrong")]
    consent = agreed(session, study, one, answers={"may_stop": "any_time"})
    assert json.loads(consent.answers) == {"may_stop": "any_time"}
    assert is_intact(session, study, consent, one)
    (told,) = log_of(session, action="consent.recorded")
    assert json.loads(told.new)["answers"] == {"may_stop": "any_time"}


DRAWN = "[[10,10,110,60],[50,50,50,90]]"
LONG_AGO = TODAY - timedelta(days=5)


def owing(session: Session, study: Any, by: Any, **options: Any) -> list[tuple[str, str, str]]:
    page = reconsents_owed(session, study, lambda _: TODAY, by=by, **options)
    return [(row.participant, row.signed_version, row.version) for row in page.rows]


@pytest.mark.requirement("SPI-32a")
def test_whoever_signed_an_older_version_owes_the_newer_one(session: Session) -> None:
    study = study_with_consent(session)
    by = person(session, study, "data_manager")
    people = [screened(session, study, code=code) for code in ("north", "north", "south", "north", "north")]
    for one in people[:2]:
        agreed(session, study, one, version="1", signed_on=LONG_AGO)
    southern = person(session, study, "investigator", site_code="south")
    agreed(session, study, people[2], version="1", signed_on=LONG_AGO, by=southern)
    # Not before the newer one is valid.
    assert reconsents_owed(session, study, lambda _: LONG_AGO, by=by).rows == []
    agreed(session, study, people[3])
    agreed(session, study, people[4], version="1", language="de", signed_on=LONG_AGO)  # German has but one version
    assert owing(session, study, by) == [("M-001", "1", "2"), ("M-002", "1", "2"), ("M-003", "1", "2")]
    assert owing(session, study, by, site="south") == [("M-003", "1", "2")]
    assert owing(session, study, person(session, study, "coordinator", site_code="south")) == [("M-003", "1", "2")]
    # Not of whoever has left.
    coordinator = person(session, study, "coordinator")
    withdraw(session, study, people[0], level="visits", reason="Moved", on=TODAY, by=coordinator, now=NOW)
    assert owing(session, study, by) == [("M-002", "1", "2"), ("M-003", "1", "2")]
    # Recorded and not countersigned is told as waiting, and not as owed.
    newer = agreed(session, study, people[1], countersign=False)
    assert newer.id is not None
    assert owing(session, study, by) == [("M-003", "1", "2")]
    assert owing(session, study, by, waiting=True) == [("M-002", "1", "2")]
    (waits,) = reconsents_owed(session, study, lambda _: TODAY, by=by, waiting=True).rows
    assert waits.waits == newer.id
    countersign(session, study, people[1], newer.id, by=person(session, study, "investigator"), now=NOW)
    assert owing(session, study, by, waiting=True) == []
    assert owing(session, study, by) == [("M-003", "1", "2")]


def test_the_list_of_owed_consents_is_paged_there_and_back(session: Session) -> None:
    study = study_with_consent(session)
    by = person(session, study, "data_manager")
    for _ in range(5):
        agreed(session, study, screened(session, study), version="1", signed_on=LONG_AGO)
    first = reconsents_owed(session, study, lambda _: TODAY, by=by, limit=2)
    second = reconsents_owed(session, study, lambda _: TODAY, by=by, limit=2, cursor=first.next)
    third = reconsents_owed(session, study, lambda _: TODAY, by=by, limit=2, cursor=second.next)
    back = reconsents_owed(session, study, lambda _: TODAY, by=by, limit=2, cursor=third.previous)
    assert [row.participant for page in (first, second, third) for row in page.rows] == [
        f"M-00{n}" for n in range(1, 6)
    ]
    assert (first.previous, third.next, back.rows) == (None, None, second.rows)


@pytest.mark.parametrize("blocked", ["randomisation", "visits", "entries"])
def test_what_waits_for_the_newer_version_is_what_the_study_says(session: Session, blocked: Any) -> None:
    study = study_with_consent(session, consent={**RULES, "blocked_until_reconsent": [blocked]})
    one = screened(session, study)
    agreed(session, study, one, version="1", signed_on=LONG_AGO)
    waits = {
        before: why_no_consent(session, study, one, before=before, now=NOW)
        for before in ("randomisation", "visits", "entries")
    }
    assert {before for before, reason in waits.items() if reason is not None} == {blocked}
    assert "Version 2 of the consent document is valid since" in str(waits[blocked])
    newer = agreed(session, study, one, countersign=False)
    reason = why_no_consent(session, study, one, before=blocked, now=NOW)
    assert reason == "The consent to version 2 is signed and not countersigned. Countersign it first."
    countersign(session, study, one, newer.id or 0, by=person(session, study, "investigator"), now=NOW)
    assert why_no_consent(session, study, one, before=blocked, now=NOW) is None
