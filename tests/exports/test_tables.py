"""Is every value in the file what the database holds, and nothing that must stay in the house?"""

import json
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import update
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT
from app.audit.actions import Change, record
from app.capture.models import Entry
from app.consent.models import OptionTakenBack
from app.exports import reads
from app.exports.actions import record_delivery, record_export
from app.exports.choice import Choice
from app.foundation.errors import NotAllowed, NotFound
from app.people.access import Actor, Grant
from app.people.permissions import Role
from app.randomisation.models import Allocation, AllocationSequence, Slot, Stratum
from app.safety.models import ConcomitantCare, Contact
from app.studies.in_use import StudyInUse
from app.studies.models import StudyRecord, StudyVersion
from app.studies.rules import canonical, fingerprint
from tests.exports.world import (
    PRESCREEN,
    as_bytes,
    as_csv,
    as_json,
    consent,
    entry,
    names,
    of_safety,
    participant,
    query,
    screening,
    visit,
)
from tests.factories import MINI, NOW, TODAY, definition, mini_study, person, site

TABLES = [
    "participants",
    "visits",
    "entries",
    "entries_by_visit",
    "entries_by_participant",
    "instrument_pain",
    "instrument_disability",
    "queries",
    "consents",
    "screening",
    "adverse_events",
    "deviations",
    "contacts",
    "concomitant_care",
    "audit",
    "codebook",
]
# Every column that any table may have beside the items of the study. A new one is a decision, made here.
ALLOWED = {
    "participants": "participant site status screened_on consented_on randomised_on withdrawn_on withdrawal_level "
    "withdrawal_reason treatment_stopped_on treatment_stopped_reason randomised_in_error stratum_should_be",
    "visits": "participant site visit kind target_on opens_on closes_on status held_on reason",
    "entries": "participant site visit instrument item value missing_code reason entry_status entry_version saved_at "
    "signed_at study_version",
    "entries_by_visit": "participant site visit",
    "entries_by_participant": "participant site status",
    "instrument_pain": "participant site visit entry_status entry_version saved_at signed_at study_version",
    "instrument_disability": "participant site visit entry_status entry_version saved_at signed_at study_version",
    "queries": "participant site query visit instrument item origin rule state question answer raised_at changed_at "
    "closed_at closing",
    "consents": "participant site document_version language document_sha256 method signed_on recorded_at "
    "countersigned_at withdrawn_on refused_at refused_why study_version",
    "screening": "participant site screened_at corrected_at study_version eligible failure_reason criterion__adult "
    "criterion__pain criterion__surgery",
    "adverse_events": "participant site number state term code onset ended severity serious serious__death "
    "serious__life_threatening serious__hospitalisation serious__disability serious__congenital_anomaly "
    "serious__other_important action outcome narrative relatedness expected version reported_at serious_since",
    "deviations": "participant site number category grade occurred_on what action state rule reported_at signed_at",
    "contacts": "participant site number at how result note",
    "concomitant_care": "participant site number treatment began ended indication",
    "audit": "participant site position at username role via action subject item old new why",
    "codebook": "table column label type unit minimum maximum choices calculation shown_if missing_codes source "
    "spss_name stata_name sas_name",
}

PAIN = {"pain_nrs": 7, "pain_days": {"missing": "UNK"}, "pain_where": ["back", "leg"], "pain_note": "Said “so-so”"}
LATER = {"pain_nrs": 0, "pain_days": 2}
DISABILITY = {"dis_items": ["3", "24"], "dis_weight": 71.5, "dis_on": "2026-07-06", "dis_score": 2}


@pytest.fixture
def study(session: Session) -> StudyInUse:
    return mini_study(session)


@pytest.fixture
def manager(session: Session, study: StudyInUse) -> Actor:
    return person(session, study, "data_manager")


@pytest.fixture
def trial(session: Session, study: StudyInUse) -> dict[str, Entry]:
    """Three participants at two sites, one of them without any entry."""
    first = participant(session, study, 1)
    second = participant(
        session,
        study,
        2,
        site_code="south",
        status="withdrawn",
        withdrawn_on=TODAY + timedelta(days=9),
        withdrawal_level="visits",
        withdrawal_reason="Moved away",
    )
    third = participant(
        session,
        study,
        3,
        status="screen_failed",
        consented_on=None,
        randomised_on=None,
        randomised_at=None,
        randomised_by=None,
    )
    for row in (first, second):
        visit(session, study, row, "week18", 2, status="held", held_on=TODAY)
        visit(session, study, row, "baseline", 0, kind="baseline")
        consent(session, study, row)
        screening(session, study, row)
    of_safety(session, study, first)
    screening(
        session,
        study,
        third,
        eligible=False,
        failure_reason="declined",
        answers=json.dumps({"age": 80, "pain_screen": {"missing": "ND"}}),
        verdicts=json.dumps([{"code": "adult", "met": False}, {"code": "pain", "met": None}]),
    )
    by, named = Actor(1, "somebody", "Somebody", "Ours"), 'said "so", twice'
    changes = [
        Change(
            "participant.corrected", "M-001", "participant", "screened_on", old=named, new="2026-03-02", why="Misread"
        ),
        Change("identity.changed", "M-001", "identity", "email", old="a@example.org", new="b@example.org"),
        Change("entry.saved", "M-002", "entry/week18/pain", "pain_days", old=None, new={"missing": "UNK"}),
        Change("sequence.drawn", subject="sequence/1", new={"digest": "00"}),
    ]
    record(session, study.code, changes, by=by, now=NOW)
    later = entry(session, study, first, "week18", "pain", LATER, reasons=json.dumps({"pain_days": "Asked twice"}))
    query(session, study, later, "pain_days")
    return {
        "later": later,
        "disability": entry(session, study, first, "week18", "disability", DISABILITY, status="partial"),
        "pain": entry(
            session,
            study,
            first,
            "baseline",
            "pain",
            PAIN,
            version=3,
            signed_at=NOW,
            signed_by="investigator_north",
            signed_name="Signing Name",
        ),
        "south": entry(session, study, second, "baseline", "pain", {"pain_nrs": 4}),
    }


def test_the_catalogue_lists_every_table_and_reads_no_row(session: Session, study: StudyInUse, manager: Actor):
    assert names(session, study, manager) == TABLES
    with pytest.raises(NotFound):
        reads.open_export(session, study, "instrument_prescreen", by=manager)
    with pytest.raises(NotFound):
        reads.open_export(session, study, "person", by=manager)


def test_participants_are_exported_as_they_stand(session: Session, study: StudyInUse, manager: Actor, trial: Any):
    assert as_json(session, study, "participants", manager)[1] == {
        "participant": "M-002",
        "site": "south",
        "status": "withdrawn",
        "screened_on": "2026-03-02",
        "consented_on": "2026-03-03",
        "randomised_on": "2026-03-04",
        "withdrawn_on": "2026-03-11",
        "withdrawal_level": "visits",
        "withdrawal_reason": "Moved away",
        "treatment_stopped_on": None,
        "treatment_stopped_reason": None,
        "randomised_in_error": None,
        "stratum_should_be": None,
    }
    assert [row["randomised_on"] for row in as_csv(session, study, "participants", manager)] == [
        "2026-03-04",
        "2026-03-04",
        "",
    ]


@pytest.mark.requirement("P11-b")
def test_the_long_table_holds_every_stored_value(
    session: Session, study: StudyInUse, manager: Actor, trial: dict[str, Entry]
):
    found = as_json(session, study, "entries", manager)
    assert [(row["participant"], row["visit"], row["instrument"], row["item"]) for row in found] == [
        ("M-001", "baseline", "pain", "pain_nrs"),
        ("M-001", "baseline", "pain", "pain_days"),
        ("M-001", "baseline", "pain", "pain_where"),
        ("M-001", "baseline", "pain", "pain_note"),
        ("M-001", "week18", "pain", "pain_nrs"),
        ("M-001", "week18", "pain", "pain_days"),
        ("M-001", "week18", "disability", "dis_items"),
        ("M-001", "week18", "disability", "dis_weight"),
        ("M-001", "week18", "disability", "dis_on"),
        ("M-001", "week18", "disability", "dis_score"),
        ("M-002", "baseline", "pain", "pain_nrs"),
    ]
    again: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in found:
        value: Any = {"missing": row["missing_code"]} if row["missing_code"] else row["value"]
        if row["item"] in ("pain_where", "dis_items"):
            value = value.split("|")
        again.setdefault((row["participant"], row["visit"], row["instrument"]), {})[row["item"]] = value
    assert again == {
        ("M-001", "baseline", "pain"): PAIN,
        ("M-001", "week18", "pain"): LATER,
        ("M-001", "week18", "disability"): DISABILITY,
        ("M-002", "baseline", "pain"): {"pain_nrs": 4},
    }
    assert found[0] == {
        "participant": "M-001",
        "site": "north",
        "visit": "baseline",
        "instrument": "pain",
        "item": "pain_nrs",
        "value": 7,
        "missing_code": None,
        "reason": None,
        "entry_status": "complete",
        "entry_version": 3,
        "saved_at": "2026-03-02T09:30:00.000000Z",
        "signed_at": "2026-03-02T09:30:00.000000Z",
        "study_version": "1",
    }
    assert found[5]["reason"] == "Asked twice"


def test_csv_and_json_say_the_same(session: Session, study: StudyInUse, manager: Actor, trial: Any):
    for table in TABLES:
        told = [
            {
                name: "" if value is None else json.dumps(value).strip('"') if isinstance(value, bool) else str(value)
                for name, value in row.items()
            }
            for row in as_json(session, study, table, manager)
        ]
        assert as_csv(session, study, table, manager) == told, table
        assert told


def test_wide_by_visit_has_a_column_per_item_choice_and_missing_code(
    session: Session, study: StudyInUse, manager: Actor, trial: Any
):
    found = as_json(session, study, "entries_by_visit", manager)
    assert [(row["participant"], row["visit"]) for row in found] == [
        ("M-001", "baseline"),
        ("M-001", "week18"),
        ("M-002", "baseline"),
    ]
    first, later, _ = found
    assert first["pain__pain_nrs"] == 7
    assert first["pain__pain_nrs__missing"] is None
    assert first["pain__pain_days"] is None
    assert first["pain__pain_days__missing"] == "UNK"
    assert (first["pain__pain_where__back"], first["pain__pain_where__leg"]) == (1, 1)
    assert first["pain__pain_note"] == "Said “so-so”"
    assert first["disability__dis_weight"] is None
    assert first["disability__dis_items__3"] is None  # not asked is not the same as not ticked
    assert later["pain__pain_where__back"] is None
    assert later["disability__dis_weight"] == 71.5
    ticked = {name for name, value in later.items() if name.startswith("disability__dis_items__") and value == 1}
    assert ticked == {"disability__dis_items__3", "disability__dis_items__24"}
    assert later["disability__dis_items__1"] == 0
    assert later["disability__dis_on"] == "2026-07-06"
    assert later["disability__dis_score"] == 2


def test_wide_by_participant_has_everybody_once(session: Session, study: StudyInUse, manager: Actor, trial: Any):
    found = as_json(session, study, "entries_by_participant", manager)
    assert [(row["participant"], row["status"]) for row in found] == [
        ("M-001", "randomised"),
        ("M-002", "withdrawn"),
        ("M-003", "screen_failed"),
    ]
    first, second, third = found
    assert first["baseline__pain__pain_nrs"] == 7
    assert first["week18__pain__pain_nrs"] == 0
    assert first["baseline__pain__pain_days__missing"] == "UNK"
    assert first["week18__disability__dis_items__24"] == 1
    assert second["baseline__pain__pain_nrs"] == 4
    assert {value for name, value in third.items() if "__" in name} == {None}
    assert not any(name.startswith("baseline__disability") for name in first)  # not planned at that visit


def test_an_instrument_has_a_table_of_its_own(session: Session, study: StudyInUse, manager: Actor, trial: Any):
    found = as_json(session, study, "instrument_disability", manager)
    assert len(found) == 1
    assert {name: found[0][name] for name in ("participant", "visit", "entry_status", "signed_at", "dis_weight")} == {
        "participant": "M-001",
        "visit": "week18",
        "entry_status": "partial",
        "signed_at": None,
        "dis_weight": 71.5,
    }
    assert len(as_json(session, study, "instrument_pain", manager)) == 3


def test_visits_follow_the_plan(session: Session, study: StudyInUse, manager: Actor, trial: Any):
    found = as_json(session, study, "visits", manager)
    assert [(row["participant"], row["visit"], row["status"], row["held_on"]) for row in found] == [
        ("M-001", "baseline", "planned", None),
        ("M-001", "week18", "held", "2026-03-02"),
        ("M-002", "baseline", "planned", None),
        ("M-002", "week18", "held", "2026-03-02"),
    ]


def test_screening_keeps_answers_verdicts_and_failures(session: Session, study: StudyInUse, manager: Actor, trial: Any):
    passed, _, failed = as_json(session, study, "screening", manager)
    assert {name: passed[name] for name in PRESCREEN} == PRESCREEN
    assert passed["eligible"] is True
    assert passed["criterion__surgery"] is True
    assert failed["failure_reason"] == "declined"
    assert (failed["eligible"], failed["criterion__adult"], failed["criterion__pain"]) == (False, False, None)
    assert (failed["age"], failed["pain_screen"], failed["pain_screen__missing"]) == (80, None, "ND")


def test_consents_have_dates_and_versions_but_no_names(session: Session, study: StudyInUse, manager: Actor, trial: Any):
    found = as_json(session, study, "consents", manager)
    assert len(found) == 2
    assert found[0]["document_version"] == "1"
    assert found[0]["signed_on"] == "2026-03-02"
    assert found[0]["document_sha256"] == "ab" * 32
    everything = b"".join(as_bytes(session, study, table, manager) for table in TABLES)
    for kept in (b"Wilhelmina", b"Countersigning", b"Signing Name", b"assessor_north", b"coordinator_north"):
        assert kept not in everything


def test_optional_consents_have_a_column_each(session: Session):
    study = mini_study(session, consent={"optional": [{"code": "samples", "label": "Keep samples"}]})
    manager = person(session, study, "data_manager")
    consent(session, study, participant(session, study, 1), options=json.dumps({"samples": False}))
    assert as_json(session, study, "consents", manager)[0]["option__samples"] is False


@pytest.mark.requirement("GDPR-7")
def test_what_was_taken_back_stands_beside_what_was_signed(session: Session):
    study = mini_study(session, consent={"optional": [{"code": "samples", "label": "Keep samples"}]})
    manager, then = person(session, study, "data_manager"), NOW + timedelta(days=1)
    yes = json.dumps({"samples": True})
    one, other = participant(session, study, 1), participant(session, study, 2)
    wrong: dict[str, Any] = {"refused_at": NOW, "refused_by": "noor", "refused_why": "Another day"}
    for row, more in ((one, wrong), (one, {}), (one, {"document_version": "2"}), (other, {})):
        consent(session, study, row, options=yes, **more)
    back: dict[str, Any] = {"code": "samples", "told_by": "participant", "how": "by_phone", "recorded_by": "noor"}
    gone: dict[str, Any] = {"struck_at": then, "struck_by": "noor"}
    for row, more in ((one, {}), (other, gone)):
        when: dict[str, Any] = {"taken_back_on": then.date(), "recorded_at": then}
        assert row.id is not None
        session.add(OptionTakenBack(participant_id=row.id, **back, **when, **more))
    session.flush()
    names = ("refused_why", "option__samples", "option_now__samples", "option_since__samples")
    found = [tuple(row[name] for name in names) for row in as_json(session, study, "consents", manager)]
    late, signed = then.date().isoformat(), TODAY.isoformat()
    assert found == [
        ("Another day", True, None, None),
        (None, True, False, late),
        (None, True, False, late),
        (None, True, True, signed),
    ]


def test_the_codebook_describes_every_column(session: Session, study: StudyInUse, manager: Actor):
    told: dict[str, list[str]] = {}
    for row in as_json(session, study, "codebook", manager):
        told.setdefault(row["table"], []).append(row["column"])
    assert told == {
        table.name: [column.name for column in table.columns]
        for table in reads.catalogue(session, study, by=manager)
        if table.name != "codebook"
    }
    rows = {(row["table"], row["column"]): row for row in as_json(session, study, "codebook", manager)}
    assert rows["instrument_disability", "dis_weight"] == {
        "table": "instrument_disability",
        "column": "dis_weight",
        "label": "Weight",
        "type": "number",
        "unit": "kg",
        "minimum": 30,
        "maximum": 250,
        "choices": None,
        "calculation": None,
        "shown_if": None,
        "missing_codes": "UNK=Unknown | ND=Not done",
        "source": "test",
        "spss_name": "dis_weight",
        "stata_name": "dis_weight",
        "sas_name": "DIS_WEIG",
    }
    assert rows["instrument_disability", "dis_score"]["calculation"] == "selected_count([dis_items])"
    assert rows["instrument_pain", "pain_where__leg"]["choices"] == "1=Ticked | 0=Not ticked"
    assert rows["instrument_pain", "pain_where__leg"]["shown_if"] == "[pain_nrs] > 0"
    assert rows["instrument_pain", "pain_nrs__missing"]["choices"] == "UNK=Unknown | ND=Not done"
    assert rows["screening", "surgery"]["choices"] == "true=Yes | false=No"


def test_a_study_without_missing_codes_has_no_columns_for_them(session: Session):
    study = mini_study(session, missing_codes=[])
    manager = person(session, study, "data_manager")
    for table in reads.catalogue(session, study, by=manager):
        assert not [column.name for column in table.columns if column.name.endswith("__missing")]


def test_no_name_stands_twice_in_a_table(session: Session):
    pain = json.loads(json.dumps(MINI["instruments"]))[1]
    pain["sections"][0]["items"] += [
        {"code": "site", "label": "Site of pain", "type": "text"},
        {"code": "pain_nrs__missing", "label": "Oddly named", "type": "text"},
    ]
    others = [one for one in definition().model_dump(mode="json")["instruments"] if one["code"] != "pain"]
    study = mini_study(session, instruments=[*others, pain])
    manager = person(session, study, "data_manager")
    entry(
        session, study, participant(session, study, 1), "week18", "pain", {"site": "Knee", "pain_nrs__missing": "odd"}
    )
    for table in reads.catalogue(session, study, by=manager):
        found = [column.name for column in table.columns]
        assert len(found) == len(set(found))
    row = as_json(session, study, "instrument_pain", manager)[0]
    assert (row["site"], row["site_2"], row["pain_nrs__missing"], row["pain_nrs__missing_2"]) == (
        "north",
        "Knee",
        None,
        "odd",
    )


def test_answers_to_an_older_version_of_the_study_are_not_left_out(session: Session):
    old = definition()
    study = mini_study(session)
    row = participant(session, study, 1)
    entry(session, study, row, "week18", "pain", {"pain_nrs": 3, "pain_where": ["leg"], "pain_note": "from version 1"})
    instruments = json.loads(json.dumps(old.model_dump(mode="json")["instruments"]))
    items = instruments[1]["sections"][0]["items"]
    instruments[1]["sections"][0]["items"] = [item for item in items if item["code"] != "pain_note"]
    items[2]["choices"] = [{"code": "back", "label": "Back"}, {"code": "arm_", "label": "Upper limb"}]
    new = definition(version="2", instruments=instruments)
    version = StudyVersion(
        study_id=study.id,
        version="2",
        sha256=fingerprint(new),
        definition=canonical(new),
        loaded_at=NOW,
        loaded_by="test",
    )
    session.add(version)
    session.flush()
    assert version.id is not None
    session.info["study versions of this transaction"] = {study.version_id, version.id}
    now = StudyInUse(study.id, study.code, version.id, new)
    manager = person(session, now, "data_manager")
    found = as_json(session, now, "entries_by_visit", manager)[0]
    assert found["pain__pain_note"] == "from version 1"
    assert (found["pain__pain_where__back"], found["pain__pain_where__arm_"], found["pain__pain_where__leg"]) == (
        0,
        0,
        1,
    )
    assert {one["study_version"] for one in as_json(session, now, "entries", manager)} == {"1"}


# Blinding


@pytest.mark.requirement("CONC-11", "SEC-21", "SEC-43")
def test_every_column_is_on_the_list_of_what_may_leave(session: Session, study: StudyInUse, manager: Actor):
    items = {item.code for instrument in study.definition.instruments for item in instrument.items}
    for table in reads.catalogue(session, study, by=manager):
        for column in table.columns:
            known = ALLOWED[table.name].split()
            parts = set(column.name.split("__"))
            assert column.name in known or parts & items, (table.name, column.name)


@pytest.mark.requirement("CONC-8", "CONC-11")
def test_no_arm_and_no_allocation_number_is_in_any_table(
    session: Session, study: StudyInUse, manager: Actor, trial: dict[str, Entry]
):
    _allocate(session, study, trial["pain"].participant_id, number=987654)
    for table in TABLES:
        for word in ("active", "sham", "Zephyrine", "Placebex", "laser", "education", "987654", "stratum-north-x"):
            assert word.encode() not in as_bytes(session, study, table, manager), (table, word)
        assert "arm" not in [column.name for column in reads.open_export(session, study, table, by=manager).columns]


def _allocate(session: Session, study: StudyInUse, participant_id: int, *, number: int) -> None:
    sequence = AllocationSequence(
        study_id=study.id,
        version=1,
        method="permuted_blocks",
        status="sealed",
        secrets=b"x",
        key_fingerprint="x",
        slots=1,
        digest="x",
        drawn_at=NOW,
        drawn_by="statistician_all",
        sealed_at=NOW,
        sealed_by="statistician_all",
    )
    session.add(sequence)
    session.flush()
    assert sequence.id is not None
    stratum = Stratum(sequence_id=sequence.id, code="stratum-north-x", slots=1, used=1)
    session.add(stratum)
    session.flush()
    assert stratum.id is not None
    slot = Slot(stratum_id=stratum.id, position=1, envelope=b"active")
    session.add(slot)
    session.flush()
    assert slot.id is not None
    session.add(
        Allocation(
            study_id=study.id,
            number=number,
            participant_id=participant_id,
            slot_id=slot.id,
            stratum_id=stratum.id,
            allocated_at=NOW,
            allocated_by="coordinator_north",
        )
    )
    session.flush()


def test_the_arm_is_there_only_when_it_was_handed_over(
    session: Session, study: StudyInUse, manager: Actor, trial: dict[str, Entry]
):
    arms = {trial["pain"].participant_id: "active"}
    for table in ("participants", "entries_by_visit", "entries_by_participant", "instrument_pain"):
        found = as_json(session, study, table, manager, arms=arms)
        assert {row["participant"]: row["arm"] for row in found}["M-001"] == "active"
        assert {row["participant"]: row["arm"] for row in found}["M-002"] is None
        assert as_json(session, study, table, manager, arms=arms.get) == found
        blinded = as_json(session, study, table, manager)
        assert blinded == [{name: value for name, value in row.items() if name != "arm"} for row in found]
    for table in ("visits", "entries", "consents", "screening", "adverse_events", "deviations"):
        assert as_json(session, study, table, manager, arms=arms) == as_json(session, study, table, manager)


# Who may


def test_somebody_at_one_site_takes_only_that_site(session: Session, study: StudyInUse, trial: Any):
    there = person(session, study, "data_manager", username="south_only")
    here = Actor(**{**vars(there), "grants": (Grant(Role.DATA_MANAGER, site(session, study, "south").id),)})
    for table in TABLES[:-1]:
        rows = as_json(session, study, table, here)
        assert {row["participant"] for row in rows} <= {"M-002"}, table
        assert all(row["site"] == "south" for row in rows), table
    assert [row["participant"] for row in as_json(session, study, "entries", here)] == ["M-002"]


def test_another_study_stays_out(session: Session, study: StudyInUse, manager: Actor, trial: Any):
    session.add(StudyRecord(code="other", title="Another"))
    other = mini_study(session, code="mini2")
    row = participant(session, other, 77)
    entry(session, other, row, "week18", "pain", {"pain_nrs": 1})
    for table in TABLES:
        assert b"M-077" not in as_bytes(session, study, table, manager)


@pytest.mark.parametrize("role", ["coordinator", "assessor", "clinician", "investigator", "monitor", "administrator"])
def test_only_those_who_run_exports_may(session: Session, study: StudyInUse, role: str):
    other = person(session, study, role)
    for attempt in (
        lambda: reads.catalogue(session, study, by=other),
        lambda: reads.open_export(session, study, "participants", by=other),
        lambda: reads.runs(session, study, by=other),
        lambda: record_export(session, study, table="participants", format="csv", by=other, now=NOW),
    ):
        with pytest.raises(NotAllowed) as refused:
            attempt()
        assert refused.value.action == "export.run"


def test_the_log_has_every_export_and_the_history_shows_it(session: Session, study: StudyInUse, manager: Actor):
    record_export(session, study, table="entries", format="csv", by=manager, now=NOW)
    record_delivery(session, study, table="entries", format="csv", rows=9, sha256="ab" * 32, by=manager, now=NOW)
    record_export(session, study, table="visits", format="json", rows=4, by=manager, now=NOW + timedelta(minutes=1))
    logged = session.execute(AUDIT.select().where(AUDIT.c.log == study.code).order_by(AUDIT.c.position)).all()
    assert [(row.action, row.subject, row.username) for row in logged] == [
        ("export.run", "export/entries", manager.username),
        ("export.delivered", "export/entries", manager.username),
        ("export.run", "export/visits", manager.username),
    ]
    assert json.loads(str(logged[0].new)) == {"table": "entries", "format": "csv", "study_version": "1"}
    latest, first = reads.runs(session, study, by=manager)
    assert (latest.table, latest.rows, latest.sha256) == ("visits", 4, None)
    assert (first.table, first.rows, first.sha256, first.username) == ("entries", 9, "ab" * 32, manager.username)


@pytest.mark.requirement("GDPR-7", "E6-23")
def test_what_was_collected_after_its_use_was_withdrawn_is_in_no_table(session: Session):
    levels = [{"code": "use", "label": "Stops the use of data to come", "stops_use": True}]
    study = mini_study(session, withdrawal_levels=levels)
    manager = person(session, study, "data_manager")
    withdrawn: list[dict[str, Any]] = [{"withdrawal_level": "use", "withdrawn_on": TODAY}, {}]
    for number, changes in enumerate(withdrawn, start=1):
        one = participant(session, study, number, **changes)
        visit(session, study, one, "baseline", 0, kind="baseline", status="held", held_on=TODAY - timedelta(days=1))
        visit(session, study, one, "week18", 2, status="held", held_on=TODAY)
        for code in ("baseline", "week18"):
            entry(session, study, one, code, "pain", PAIN)
    long = {(row["participant"], row["visit"]) for row in as_csv(session, study, "entries", manager)}
    assert long == {("M-001", "baseline"), ("M-002", "baseline"), ("M-002", "week18")}
    assert len(as_csv(session, study, "entries_by_participant", manager)) == 2  # nobody is left out


@pytest.mark.requirement("GDPR-7", "E6-23")
def test_lines_of_after_the_use_was_taken_back_are_in_no_table_and_safety_stays(session: Session):
    levels = [
        {"code": "use", "label": "Stops the use of data to come", "stops_use": True},
        {"code": "no", "label": "No"},
    ]
    study = mini_study(session, withdrawal_levels=levels)
    manager = person(session, study, "data_manager")
    # The first minute of the day at a site in Sydney is one of the day before in UTC.
    began = datetime.combine(TODAY, time(), ZoneInfo("Australia/Sydney")).astimezone(UTC)
    for number, level in enumerate(("use", "no", None), start=1):
        one = participant(session, study, number, withdrawal_level=level, withdrawn_on=TODAY if level else None)
        whose: dict[str, Any] = {"study_id": study.id, "participant_id": one.id}
        for minutes in (-1, 1):
            at = began + timedelta(minutes=minutes)
            said = "before" if minutes < 0 else "after"
            # A contact of before may be written down afterwards, as an entry of a visit may.
            later: dict[str, Any] = {"recorded_at": began + timedelta(days=2), "recorded_by": "assessor"}
            session.add(Contact(**whose, at=at, how="call", result="reached", note=said, **later))
            written: dict[str, Any] = {"recorded_at": at, "recorded_by": "assessor"}
            session.add(ConcomitantCare(**whose, treatment=said, began="2026", ended="", indication="Pain", **written))
        of_safety(session, study, one)
        for code, day in (("baseline", TODAY - timedelta(days=1)), ("week18", TODAY)):
            visit(session, study, one, code, 0, status="held", held_on=day)
            query(session, study, entry(session, study, one, code, "pain", PAIN), "pain_nrs", text=f"{code}?")
    session.flush()

    def told(of: str, table: str, column: str) -> set[str]:
        return {row[column] for row in as_csv(session, study, table, manager) if row["participant"] == of}

    assert told("M-001", "contacts", "note") == {"before"}
    assert told("M-001", "concomitant_care", "treatment") == {"before"}
    assert told("M-001", "queries", "question") == {"baseline?"}
    for table in ("adverse_events", "deviations"):
        assert told("M-001", table, "participant") == {"M-001"}, table
    assert told("M-001", "visits", "visit") == {"baseline", "week18"}
    for of in ("M-002", "M-003"):
        assert told(of, "contacts", "note") == {"before", "after", ""}
        assert told(of, "concomitant_care", "treatment") == {"before", "after", "Ibuprofen"}
        assert told(of, "queries", "question") == {"baseline?", "week18?"}


@pytest.mark.requirement("E9R1-1")
def test_that_treatment_was_stopped_stands_beside_the_withdrawal_and_is_none(session: Session, study: StudyInUse):
    manager = person(session, study, "data_manager", username="manages")
    participant(session, study, 8, treatment_stopped_on=TODAY, treatment_stopped_reason="Moved away")
    rows = {row["participant"]: row for row in as_json(session, study, "participants", manager)}
    stopped = rows["M-008"]
    assert (stopped["treatment_stopped_on"], stopped["treatment_stopped_reason"]) == (TODAY.isoformat(), "Moved away")
    assert (stopped["withdrawn_on"], stopped["status"]) == (None, "randomised")


def test_the_log_of_participants_is_a_table_for_whoever_reads_the_log(
    session: Session, study: StudyInUse, manager: Actor, trial: Any
):
    rows = as_json(session, study, "audit", manager)
    assert [(row["participant"], row["site"], row["position"], row["item"]) for row in rows] == [
        ("M-001", "north", 0, "screened_on"),
        ("M-001", "north", 1, "email"),
        ("M-002", "south", 2, "pain_days"),
    ]
    assert [(row["old"], row["new"], row["why"]) for row in rows] == [
        ('said "so", twice', "2026-03-02", "Misread"),
        ("sealed", "sealed", None),
        (None, '{"missing":"UNK"}', None),
    ]
    statistician = person(session, study, "statistician")
    assert "audit" not in {table.name for table in reads.catalogue(session, study, by=statistician)}
    for kept_back in (Choice(dates="shifted"), Choice(ids="mapped")):
        assert "audit" not in {table.name for table in reads.catalogue(session, study, by=manager, choice=kept_back)}


def test_nothing_is_told_of_what_was_said_once_its_use_was_withdrawn(
    session: Session, study: StudyInUse, manager: Actor, trial: Any
):
    level = study.definition.withdrawal_levels[0].model_copy(update={"code": "visits", "stops_use": True})
    takes_back = replace(study, definition=study.definition.model_copy(update={"withdrawal_levels": (level,)}))
    told = {row["participant"]: row["new"] for row in as_json(session, takes_back, "audit", manager)}
    assert told["M-002"] is not None  # typed before
    session.execute(
        update(reads.PARTICIPANT).values(withdrawn_on=NOW.date()).where(reads.PARTICIPANT.c.code == "M-002")
    )
    told = {row["participant"]: row["new"] for row in as_json(session, takes_back, "audit", manager)}
    assert told == {"M-001": "sealed", "M-002": None}
