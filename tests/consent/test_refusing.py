"""A consent that was recorded wrongly is refused, kept, and recorded again; an optional one is taken back alone."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlmodel import Session

from app.consent import actions
from app.consent.actions import (
    countersign,
    keep_scan,
    refuse_consent,
    restore_option,
    take_back_options,
    verify_scan,
    withdraw_consent,
)
from app.consent.reads import (
    consents_of,
    is_intact,
    options_now,
    reconsent_owed,
    reconsents_owed,
    taken_back_in,
    taken_back_of,
    taken_back_text,
    unsettled,
    why_no_consent,
)
from app.foundation.database import Database
from app.foundation.errors import Invalid, NotAllowed, NotFound, Refused
from app.participants.actions import withdraw
from app.participants.identity import PARTICIPANT
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.access import Actor
from app.schedule.actions import follow_refusal, miss_visit, open_visits
from app.schedule.reads import visits_of
from app.studies.in_use import StudyInUse
from tests.consent.acts import RULES, agreed, study_with_consent
from tests.factories import NOW, TODAY, person
from tests.participants.acts import log_of, screened

WHY = "Another day stands on the paper"
VISITS: list[dict[str, Any]] = [
    {
        "code": "start",
        "label": "Start",
        "kind": "baseline",
        "anchor": "consent",
        "day": 7,
        "window": {"before": 7, "after": 7},
    },
    {"code": "week18", "label": "Week 18", "kind": "assessment", "day": 126, "window": {"before": 14, "after": 28}},
]


def refused(session: Session, study: StudyInUse, one: Participant, number: int | None, **changes: Any) -> Any:
    """The investigator refuses a consent, and its visits follow, as at the doors."""
    assert number is not None
    asked = {"why": WHY, "by": person(session, study, "investigator"), "now": NOW, **changes}
    found = refuse_consent(session, study, one, number, **asked)
    follow_refusal(session, study, one, **asked)
    return found


def waiting(session: Session, study: StudyInUse) -> list[str]:
    by = person(session, study, "coordinator")
    found = unsettled(session, study, by=by, since=NOW - timedelta(days=28), most=25)
    return [each.participant for each in found if not each.first]


def first_waiting(session: Session, study: StudyInUse, by: Actor) -> list[int]:
    return [each.id for each in unsettled(session, study, by=by, since=NOW, most=9) if each.first]


@pytest.mark.requirement("EMA-15", "P11-70")
def test_a_refused_consent_is_kept_whole_counts_nowhere_and_is_recorded_again(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    assert one.id is not None
    recorder, investigator = person(session, study, "coordinator"), person(session, study, "investigator")
    consent = agreed(session, study, one, by=recorder, countersign=False)
    assert first_waiting(session, study, recorder) == [consent.id]
    refused(session, study, one, consent.id)
    (kept,) = consents_of(session, one.id)
    assert (kept.refused_at, kept.refused_by, kept.refused_why) == (NOW, "investigator_north", WHY)
    whole = ("participant_signature", "binding", "options", "answers", "signed_on", "document_sha256", "recorded_by")
    assert [getattr(kept, name) for name in whole] == [getattr(consent, name) for name in whole]
    assert is_intact(session, study, kept, one)
    (entry,) = log_of(session, action="consent.refused")
    assert (entry.subject, entry.why, entry.username) == ("consent/2", WHY, "investigator_north")
    assert json.loads(entry.new)["binding"] == kept.binding
    # It counts nowhere, and whoever recorded it is told.
    assert "Record it again" in str(why_no_consent(session, study, one))
    assert first_waiting(session, study, recorder) == []
    assert one.status == "screened"
    (told,) = unsettled(session, study, by=recorder, since=NOW, most=9)
    assert (told.participant, told.recorded_by, told.refused_by) == ("M-001", "coordinator_north", "investigator_north")
    assert unsettled(session, study, by=recorder, since=NOW + timedelta(seconds=1), most=9) == []
    elsewhere = person(session, study, "coordinator", site_code="south")
    assert unsettled(session, study, by=elsewhere, since=NOW, most=9) == []
    # Nothing more is done to it.
    for again in (
        lambda: refused(session, study, one, consent.id),
        lambda: countersign(session, study, one, consent.id or 0, by=investigator, now=NOW),
        lambda: withdraw_consent(session, study, one, on=TODAY, why="x", by=recorder, now=NOW),
    ):
        with pytest.raises(Refused):
            again()
    # The same version once more, and it is as if nothing had been.
    better = agreed(session, study, one, by=recorder, countersign=False, signed_on=TODAY - timedelta(days=1))
    assert waiting(session, study) == []
    assert first_waiting(session, study, recorder) == [better.id]
    assert better.id is not None
    countersign(session, study, one, better.id, by=investigator, now=NOW)
    assert (one.status, one.consented_on) == ("consented", TODAY - timedelta(days=1))
    assert why_no_consent(session, study, one) is None


def test_who_may_countersign_may_refuse_and_says_why(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    consent = agreed(session, study, one, countersign=False)
    for role, site in (("assessor", "north"), ("data_manager", "north"), ("investigator", "south")):
        with pytest.raises(NotAllowed) as caught:
            refused(session, study, one, consent.id, by=person(session, study, role, site_code=site))
        assert (caught.value.action, caught.value.subject) == ("consent.refuse", "M-001/consent/2")
    for why in (" ", "x" * 1001):
        with pytest.raises(Invalid) as bad:
            refused(session, study, one, consent.id, why=why)
        assert bad.value.problems[0].field == "why"
    with pytest.raises(NotFound):
        refused(session, study, one, 10_000)
    # Taking back what is countersigned is for those who countersign in this study.
    countersign(session, study, one, consent.id or 0, by=person(session, study, "investigator"), now=NOW)
    with pytest.raises(NotAllowed, match="countersigned by: investigator"):
        refused(session, study, one, consent.id, by=person(session, study, "coordinator"))
    assert log_of(session, action="consent.refused") == []


def test_the_scan_of_a_refused_consent_is_not_verified(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    recorder, other = person(session, study, "coordinator"), person(session, study, "investigator")
    scan = keep_scan(session, study, one, b"%PDF-1.4\n1\n%%EOF\n", by=recorder, now=NOW)
    paper: dict[str, Any] = {"method": "paper", "paper_sha256": scan, "signature": "Folder 3", "countersign": False}
    consent = agreed(session, study, one, by=recorder, **paper)
    refused(session, study, one, consent.id, why="The scan is another person's")
    assert consent.id is not None
    with pytest.raises(Refused, match="was refused"):
        verify_scan(session, study, one, consent.id, by=other, now=NOW)
    (kept,) = consents_of(session, consent.participant_id)
    assert kept.paper_sha256 == scan


@pytest.mark.requirement("SPI-32a")
def test_a_refused_reconsent_leaves_the_earlier_one_and_is_owed_again(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    assert one.id is not None
    by = person(session, study, "data_manager")
    before = TODAY - timedelta(days=5)
    agreed(session, study, one, version="1", signed_on=before)
    for complete in (False, True):  # refused at its countersignature, and taken back after it
        newer = agreed(session, study, one, countersign=complete)
        assert reconsents_owed(session, study, lambda _: TODAY, by=by).rows == []
        refused(session, study, one, newer.id)
        assert (one.status, one.consented_on) == ("consented", before)
        assert why_no_consent(session, study, one) is None
        owed = reconsent_owed(study, consents_of(session, one.id), TODAY)
        assert owed is not None
        assert owed.version == "2"
        (row,) = reconsents_owed(session, study, lambda _: TODAY, by=by).rows
        assert (row.participant, row.signed_version) == ("M-001", "1")
        assert reconsents_owed(session, study, lambda _: TODAY, by=by, waiting=True).rows == []
        assert waiting(session, study) == ["M-001"]
    assert log_of(session, action="participant.back_to_screened") == []


def test_the_only_consent_is_taken_back_while_nothing_was_recorded_under_it(session: Session) -> None:
    study = study_with_consent(session, visits=VISITS)
    one = screened(session, study)
    assert one.id is not None
    by = person(session, study, "investigator")
    consent = agreed(session, study, one)
    open_visits(session, study, one, anchor="consent", on=consent.signed_on, by=by, now=NOW)
    assert [visit.code for visit in visits_of(session, one.id)] == ["start"]
    refused(session, study, one, consent.id, why="It was another person who signed")
    stored = participant_by_code(session, study, one.code, by=by)
    assert (stored.status, stored.consented_on) == ("screened", None)
    assert visits_of(session, one.id) == []
    log = [entry.action for entry in log_of(session)][-3:]
    assert log == ["consent.refused", "participant.back_to_screened", "visit.closed"]
    # Signed again, they are counted from the right day; and now something was recorded.
    right = agreed(session, study, stored, signed_on=TODAY - timedelta(days=1))
    open_visits(session, study, stored, anchor="consent", on=right.signed_on, by=by, now=NOW)
    (visit,) = visits_of(session, one.id)
    assert visit.target_on == right.signed_on + timedelta(days=7)
    recorder = person(session, study, "coordinator")
    miss_visit(session, study, stored, "start", why="Ill", version=1, by=recorder, now=NOW)
    with pytest.raises(Refused, match="it stays"):
        refused(session, study, stored, right.id)
    assert participant_by_code(session, study, one.code, by=by).status == "consented"


def test_a_consent_of_somebody_who_left_can_still_be_refused_before_it_is_countersigned(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    consent = agreed(session, study, one, countersign=False)
    by = person(session, study, "coordinator")
    withdraw(session, study, one, level="visits", reason="Moved", on=TODAY, by=by, now=NOW)
    refused(session, study, one, consent.id, by=by)
    assert one.status == "withdrawn"
    assert waiting(session, study) == []  # there is nothing to record again


@pytest.mark.both_databases
def test_of_a_refusal_and_a_countersignature_at_the_same_time_one_comes_first(database: Database) -> None:
    with database.writing() as session:
        study = study_with_consent(session)
        one = screened(session, study)
        assert one.id is not None
        by = person(session, study, "investigator")
        consent = agreed(session, study, one, countersign=False)
        number = consent.id or 0

    def act(which: int) -> bool:
        try:
            with database.writing() as session:
                mine = participant_by_code(session, study, one.code, by=by)
                if which % 2:
                    countersign(session, study, mine, number, by=by, now=NOW)
                else:
                    refuse_consent(session, study, mine, number, why=WHY, by=by, now=NOW)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(act, range(6)))
    with database.reading() as session:
        (kept,) = consents_of(session, one.id)
        stands = participant_by_code(session, study, one.code, by=by).status
    # It may be countersigned first and taken back then; never countersigned once it is refused.
    assert kept.refused_at is not None
    assert stands == "screened"
    assert done.count(True) in (1, 2)


def test_nothing_is_refused_when_the_log_cannot_be_written(
    shared_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared_database.writing() as session:
        study = study_with_consent(session)
        one = screened(session, study)
        consent = agreed(session, study, one)
        by: Actor = person(session, study, "investigator")

    def broken(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(actions, "record", broken)
    with pytest.raises(OSError, match="disk full"), shared_database.writing() as session:
        refuse_consent(session, study, one, consent.id or 0, why=WHY, by=by, now=NOW)
    with pytest.raises(OSError, match="disk full"), shared_database.writing() as session:
        took_back(session, study, one, by=by)
    with shared_database.reading() as session:
        (kept,) = consents_of(session, consent.participant_id)
        assert kept.refused_at is None
        assert taken_back_of(session, consent.participant_id) == []


# Optional consents


def took_back(session: Session, study: StudyInUse, one: Participant, **changes: Any) -> Any:
    """The coordinator writes down that they do not want to be contacted any more."""
    asked: dict[str, Any] = {
        "on": TODAY,
        "told_by": "participant",
        "how": "by_phone",
        "by": person(session, study, "coordinator"),
        "now": NOW,
        **changes,
    }
    return take_back_options(session, study, one, asked.pop("codes", ["contact"]), **asked)


def stands(session: Session, one: Participant) -> tuple[bool, date]:
    assert one.id is not None
    option = options_now(session, consents_of(session, one.id))["contact"]
    return option.agreed, option.since


@pytest.mark.requirement("GDPR-7", "EMA-15")
def test_an_optional_consent_is_taken_back_alone_and_what_was_signed_stays(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    assert one.id is not None
    with pytest.raises(Refused, match="Nothing is left to take back"):
        took_back(session, study, one)
    signed_on = TODAY - timedelta(days=1)
    consent = agreed(session, study, one, signed_on=signed_on)
    assert stands(session, one) == (True, signed_on)
    (row,) = took_back(session, study, one, note="At the reminder call")
    assert stands(session, one) == (False, TODAY)
    assert (one.status, why_no_consent(session, study, one)) == ("consented", None)
    (kept,) = consents_of(session, one.id)
    assert kept.options == '{"contact":true}'
    assert kept.binding == consent.binding
    assert is_intact(session, study, kept, one)
    (stored,) = taken_back_of(session, one.id)
    assert stored.model_dump() == row.model_dump()
    (entry,) = log_of(session, action="consent.option_taken_back")
    assert (entry.subject, entry.item, entry.why) == ("consent/2", "contact", "At the reminder call")
    assert json.loads(entry.new) == {
        "agreed": False,
        "how": "by_phone",
        "since": TODAY.isoformat(),
        "told_by": "participant",
    }
    # Said twice it is still the same.
    assert took_back(session, study, one) == []
    assert len(taken_back_of(session, one.id)) == 1
    assert len(log_of(session, action="consent.option_taken_back")) == 1


@pytest.mark.parametrize("role", ["assessor", "data_manager", "monitor", "clinician"])
def test_who_records_consents_records_what_is_taken_back(session: Session, role: str) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    agreed(session, study, one)
    by = person(session, study, role)
    with pytest.raises(NotAllowed):
        took_back(session, study, one, by=by)
    (row,) = took_back(session, study, one)
    with pytest.raises(NotAllowed):
        restore_option(session, study, one, row.id, why="x", by=by, now=NOW)


def test_what_is_taken_back_is_judged_field_by_field(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    agreed(session, study, one)
    for changes, field in (
        ({"codes": []}, "options"),
        ({"codes": ["unheard_of"]}, "options"),
        ({"on": TODAY + timedelta(days=1)}, "on"),
        ({"on": TODAY - timedelta(days=1)}, "on"),
        ({"told_by": ""}, "told_by"),
        ({"how": ""}, "how"),
        ({"note": "x" * 1001}, "note"),
    ):
        with pytest.raises(Invalid) as caught:
            took_back(session, study, one, **changes)
        assert [each.field for each in caught.value.problems] == [field]


def test_who_left_the_study_can_still_take_an_optional_consent_back(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    agreed(session, study, one)
    by = person(session, study, "coordinator")
    withdraw(session, study, one, level="visits", reason="Moved", on=TODAY, by=by, now=NOW)
    assert len(took_back(session, study, one)) == 1


def test_what_was_recorded_as_taken_back_by_mistake_is_struck_and_kept(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    assert one.id is not None
    agreed(session, study, one)
    (row,) = took_back(session, study, one)
    by = person(session, study, "coordinator")
    with pytest.raises(Invalid):
        restore_option(session, study, one, row.id, why=" ", by=by, now=NOW)
    with pytest.raises(NotFound):
        restore_option(session, study, one, row.id + 1, why="x", by=by, now=NOW)
    restore_option(session, study, one, row.id, why="It was M-002", by=by, now=NOW)
    assert stands(session, one) == (True, TODAY)
    (kept,) = taken_back_of(session, one.id)
    assert (kept.struck_at, kept.struck_by, kept.struck_why) == (NOW, "coordinator_north", "It was M-002")
    (entry,) = log_of(session, action="consent.option_restored")
    assert (entry.item, entry.why) == ("contact", "It was M-002")
    with pytest.raises(Refused, match="already"):
        restore_option(session, study, one, row.id, why="x", by=by, now=NOW)
    took_back(session, study, one)
    assert stands(session, one) == (False, TODAY)


@pytest.mark.requirement("P11-50a", "EMA-15")
def test_giving_an_optional_consent_later_takes_a_signature_under_the_same_version(session: Session) -> None:
    study = study_with_consent(session)
    one = screened(session, study)
    assert one.id is not None
    first = agreed(session, study, one, options={"contact": False})
    with pytest.raises(Refused, match="complete already"):
        agreed(session, study, one, options={"contact": False})
    again = agreed(session, study, one, countersign=False, now=NOW + timedelta(minutes=1))
    assert stands(session, one) == (False, TODAY)  # not before it is countersigned
    assert waiting(session, study) == ["M-001"]
    with pytest.raises(Refused, match="Countersign it"):
        agreed(session, study, one)
    assert again.id is not None
    countersign(session, study, one, again.id, by=person(session, study, "investigator"), now=NOW)
    assert stands(session, one) == (True, TODAY)
    assert waiting(session, study) == []
    assert len(log_of(session, action="participant.consented")) == 1
    kept = consents_of(session, one.id)
    assert [json.loads(each.options)["contact"] for each in kept] == [False, True]
    # And it can be taken back, and be refused, like any other.
    took_back(session, study, one, now=NOW + timedelta(minutes=2))
    assert stands(session, one) == (False, TODAY)
    refused(session, study, one, again.id, now=NOW + timedelta(minutes=3))
    assert first.id is not None
    assert why_no_consent(session, study, one) is None


def test_a_study_that_asks_for_nothing_beside_taking_part_has_nothing_to_take_back(session: Session) -> None:
    study = study_with_consent(session, consent={**RULES, "optional": []})
    one = screened(session, study)
    agreed(session, study, one, options={})
    with pytest.raises(Refused, match="Nothing is left to take back"):
        took_back(session, study, one)


@pytest.mark.both_databases
def test_what_was_taken_back_is_told_beside_a_row_the_same_on_both_databases(database: Database) -> None:
    with database.writing() as session:
        study = study_with_consent(session)
        one, other = screened(session, study), screened(session, study)
        assert one.id is not None
        agreed(session, study, one)
        took_back(session, study, one)
        restore_option(session, study, one, 1, why="x", by=person(session, study, "coordinator"), now=NOW)
        took_back(session, study, one, now=NOW + timedelta(microseconds=5))
        query = select(taken_back_text(session.get_bind().dialect.name)).select_from(PARTICIPANT)
        told = session.execute(query.order_by(PARTICIPANT.c.code)).scalars().all()
        assert other.code == "M-002"
        assert taken_back_in(told[1]) == []
        (back,) = taken_back_in(told[0])
        kept = taken_back_of(session, one.id)[1]
        assert (back.id, back.code, back.taken_back_on) == (kept.id, kept.code, kept.taken_back_on)
        assert back.recorded_at == kept.recorded_at
