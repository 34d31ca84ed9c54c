"""Are labels the words of the study, intervals what they were, and other codes of no help in finding the first?"""

import json
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session

from app.exports import reads
from app.exports.batches import stored
from app.exports.choice import Choice
from app.exports.shaping import days_back, mapped_code, mapped_number
from app.exports.tables import Field, form_of, plan_of
from app.foundation.crypto.keys import Keyring
from app.foundation.errors import Invalid
from app.people.access import Actor
from app.studies.in_use import StudyInUse
from tests.conftest import KEYS
from tests.exports.world import as_csv, entry, of_safety, participant, query, screening, visit
from tests.factories import TODAY, definition, mini_study, person


@pytest.fixture
def study(session: Session) -> StudyInUse:
    return mini_study(session)


@pytest.fixture
def manager(session: Session, study: StudyInUse) -> Actor:
    for number in (1, 2, 3):
        row = participant(session, study, number)
        visit(session, study, row, "week18", 2, held_on=TODAY, status="held")
        entry(session, study, row, "baseline", "pain", {"pain_nrs": number, "pain_days": {"missing": "ND"}})
        entry(session, study, row, "week18", "disability", {"dis_on": f"2026-03-{number:02d}", "dis_weight": 70})
        screening(session, study, row)
    of_safety(session, study, row)
    return person(session, study, "data_manager")


def taken(session: Session, study: StudyInUse, by: Actor, table: str, **choice: Any) -> list[dict[str, str]]:
    return as_csv(session, study, table, by, choice=Choice(**choice))


@pytest.mark.requirement("GDPR-1")
def test_all_dates_of_a_participant_are_shifted_by_as_many_days(session: Session, study: StudyInUse, manager: Actor):
    dated = {
        "participants": ("screened_on", "consented_on", "randomised_on", "withdrawn_on"),
        "visits": ("target_on", "opens_on", "closes_on", "held_on"),
        "instrument_disability": ("dis_on",),
        "entries_by_participant": ("week18__disability__dis_on",),
        "deviations": ("occurred_on",),
    }
    for table, columns in dated.items():
        kept, moved = (taken(session, study, manager, table, dates=how) for how in ("kept", "shifted"))
        assert len(kept) == len(moved) > 0
        for one, other in zip(kept, moved, strict=True):
            days = timedelta(days=days_back(KEYS, "mini", one["participant"]))
            for column, value in one.items():
                if column in columns and value:
                    assert date.fromisoformat(value) - date.fromisoformat(other[column]) == days
                elif not column.endswith("_at"):
                    assert other[column] == value
    values = {row["item"]: row["value"] for row in taken(session, study, manager, "entries", dates="shifted")}
    assert values["dis_on"] == (date(2026, 3, 3) - timedelta(days=days_back(KEYS, "mini", "M-003"))).isoformat()
    (event,) = taken(session, study, manager, "adverse_events", dates="shifted")
    assert event["onset"] == ""  # of a month alone nobody can say where it falls
    shifts = {days_back(KEYS, "mini", f"M-{number:03d}") for number in range(1, 200)}
    assert len(shifts) > 100
    assert min(shifts) >= 1
    assert max(shifts) <= 365
    assert days_back(KEYS, "mini", "M-001") != days_back(Keyring(bytes(32)), "mini", "M-001")


@pytest.mark.requirement("GDPR-1", "GDPR-2")
def test_other_codes_are_the_same_everywhere_and_rows_stand_in_their_order(
    session: Session, study: StudyInUse, manager: Actor
):
    codes = {f"M-{number:03d}": mapped_code(KEYS, "mini", f"M-{number:03d}") for number in (1, 2, 3)}
    for table in ("participants", "visits", "entries", "instrument_pain", "entries_by_visit", "screening"):
        rows = taken(session, study, manager, table, ids="mapped")
        assert [row["participant"] for row in rows] == sorted(row["participant"] for row in rows)
        assert {row["participant"] for row in rows} == set(codes.values())
        plain = {(codes[row["participant"]], *list(row.values())[1:]) for row in taken(session, study, manager, table)}
        assert {tuple(row.values()) for row in rows} == plain
    assert len(set(codes.values())) == 3
    assert mapped_code(Keyring(bytes(32)), "mini", "M-001") not in codes.values()


@pytest.mark.requirement("ALC-L")
def test_labels_are_the_words_of_the_study(session: Session, study: StudyInUse, manager: Actor):
    row = taken(session, study, manager, "screening", values="labels")[0]
    assert (row["eligible"], row["surgery"]) == ("Yes", "No")
    row = taken(session, study, manager, "instrument_pain", values="labels")[0]
    assert (row["visit"], row["pain_days__missing"], row["entry_status"]) == ("Baseline", "Not done", "Complete")


def test_labels_stand_in_the_long_table_as_well(session: Session, study: StudyInUse, manager: Actor):
    row = participant(session, study, 9)
    entry(session, study, row, "week18", "pain", {"pain_nrs": 4, "pain_where": ["back", "leg"], "pain_note": "back"})
    found = [one for one in taken(session, study, manager, "entries", values="labels") if one["participant"] == "M-009"]
    assert {one["item"]: one["value"] for one in found} == {
        "pain_nrs": "4",
        "pain_where": "Back|Leg",
        "pain_note": "back",
    }
    assert {one["instrument"] for one in found} == {"Pain"}


@pytest.mark.requirement("GDPR-1")
def test_numbers_that_the_study_counts_are_mapped_with_the_codes(session: Session, study: StudyInUse, manager: Actor):
    of_safety(session, study, participant(session, study, 8))
    asked = entry(session, study, participant(session, study, 9), "week18", "pain", {"pain_nrs": 4})
    query(session, study, asked, "pain_nrs")
    numbered = {"adverse_events": "number", "deviations": "number", "contacts": "number", "queries": "query"}
    seen = set()
    for table, column in numbered.items():
        plain, mapped, again = (taken(session, study, manager, table, ids=ids) for ids in ("kept", "mapped", "mapped"))
        assert mapped == again
        assert len(plain) == len(mapped) > 0
        whose = {mapped_code(KEYS, "mini", one["participant"]): one[column] for one in plain}
        for one in mapped:
            of = {"adverse_events": "event", "queries": "query"}.get(table, table)
            assert int(one[column]) == mapped_number(KEYS, "mini", of, int(whose[one["participant"]])) < 2**50
        seen |= {one[column] for one in mapped}
        assert seen.isdisjoint(one[column] for one in plain)
    assert len(seen) == sum(len(taken(session, study, manager, table)) for table in numbered)
    assert mapped_number(Keyring(bytes(32)), "mini", "event", 1) != mapped_number(KEYS, "mini", "event", 1)


def test_a_choice_leaves_out_what_is_not_wanted_and_knows_what_there_is(
    session: Session, study: StudyInUse, manager: Actor
):
    rows = taken(session, study, manager, "entries", visits=("week18",), instruments=("disability",))
    assert {(row["visit"], row["instrument"]) for row in rows} == {("week18", "disability")}
    rows = taken(session, study, manager, "entries_by_participant", visits=("week18",), instruments=("disability",))
    assert len(rows) == 3  # everybody, also without an entry
    assert {column.partition("__")[0] for column in rows[0]} == {"participant", "site", "status", "week18"}
    assert {row["visit"] for row in taken(session, study, manager, "visits", visits=("week18",))} == {"week18"}
    assert taken(session, study, manager, "participants", sites=("south",)) == []
    names = [one.name for one in reads.catalogue(session, study, by=manager, choice=Choice(instruments=("pain",)))]
    assert "instrument_pain" in names
    assert "instrument_disability" not in names
    for wrong in ({"visits": ("week99",)}, {"instruments": ("nothing",)}, {"sites": ("west",)}):
        with pytest.raises(Invalid, match="Choose one of those"):
            taken(session, study, manager, "entries", **wrong)


ANSWER = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10),
    st.floats(-10, 10),
    st.text(max_size=3),
    st.lists(st.sampled_from(["back", "leg", "other"]), max_size=3),
    st.sampled_from([{"missing": "UNK"}, {"missing": "ND"}]),
)
PLAN = plan_of([definition()])
CODES = [item.code for instrument in PLAN.instruments for item in PLAN.items[instrument]]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(CODES), ANSWER))
def test_a_form_puts_into_place_what_each_of_its_fields_says(values: dict[str, Any]):
    for instrument in PLAN.instruments:
        form = form_of(PLAN, instrument)
        one_by_one = [cell for field in form.fields for cell in Field.cells(field, values.get(field.item.code))]
        assert list(form.cells(values)) == one_by_one
        assert len(one_by_one) == len(form.columns())


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 9223372036854775807, "b": -9223372036854775808, "c": 18446744073709551615}',
        '{"a": 123456789012345678901234567890, "b": 0.1, "c": [1, {"missing": "ND"}]}',
        '{"a": -123456789012345678901234567890}',
        '{"a": "\\ud800 alone", "b": 1e400, "c": 1E+5}',
        '{"a": 0.30000000000000004, "b": 1.0, "c": null, "d": true}',
    ],
)
def test_a_stored_document_is_read_exactly(text: str):
    assert stored(text) == json.loads(text)
    assert [type(value) for value in stored(text).values()] == [type(value) for value in json.loads(text).values()]
