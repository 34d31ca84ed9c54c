"""Groups of rows inside a form: judged row by row, summed up over all, logged cell by cell, kept as lists."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT
from app.capture import actions, reads
from app.capture.checks import judge
from app.capture.groups import by_name, cells_of, document_of
from app.capture.typed import check_stored, parse_typed, typed_form
from app.foundation.errors import Invalid
from app.studies.definition import Instrument, cell_name, cell_parts
from app.studies.rules import canonical, problems
from app.web.items import rows_shown, with_other_rows
from tests.capture.records import consented
from tests.factories import MINI, NOW, definition, mini_study, person

GROUP: dict[str, Any] = {
    "label": "Medicines",
    "code": "medicines",
    "repeats": True,
    "max_rows": 4,
    "items": [
        {"code": "med_name", "label": "Name", "type": "text"},
        {
            "code": "med_dose",
            "label": "Dose",
            "type": "number",
            "unit": "mg",
            "max": 5000,
            "expected_max": 1000,
            "checks": [
                {"rule": "[med_dose] <> 13", "message": "13 mg is no dose.", "kind": "hard"},
                {"rule": "[med_dose] <= [care_limit]", "message": "Above the limit of this form.", "kind": "soft"},
            ],
        },
        {"code": "med_times", "label": "Times a day", "type": "integer", "required": False},
        {
            "code": "med_total",
            "label": "A day",
            "type": "calculated",
            "calculation": "[med_dose] * [med_times]",
        },
        {
            "code": "med_why",
            "label": "Why so often",
            "type": "text",
            "shown_if": "[med_times] > 3",
        },
    ],
}
CARE: dict[str, Any] = {
    "code": "care",
    "label": "Care",
    "source": "test",
    "sections": [
        {"items": [{"code": "care_limit", "label": "Limit", "type": "integer"}]},
        GROUP,
        {
            "items": [
                {"code": "care_sum", "label": "Sum", "type": "calculated", "calculation": "sum([med_total])"},
                {"code": "care_most", "label": "Most", "type": "calculated", "calculation": "max([med_dose], 1)"},
                {"code": "care_count", "label": "How many", "type": "calculated", "calculation": "count([med_name])"},
            ]
        },
    ],
}


def changes(**group: Any) -> dict[str, Any]:
    visits: Any = MINI["visits"]
    instruments: Any = MINI["instruments"]
    last = {**visits[-1], "instruments": ["care", "pain", "disability"]}
    sections = [CARE["sections"][0], GROUP | group, CARE["sections"][2]]
    return {"visits": [*visits[:-1], last], "instruments": [*instruments, {**CARE, "sections": sections}]}


FORM = Instrument.model_validate(CARE)
ROWS = {
    "care_limit": 500,
    "medicines[1].med_name": "Aspirin",
    "medicines[1].med_dose": 100,
    "medicines[1].med_times": 2,
    "medicines[3].med_name": "Paracetamol",
    "medicines[3].med_dose": 400,
    "medicines[3].med_times": 4,
    "medicines[3].med_why": "Fever",
}
KEPT = {
    "care_limit": 500,
    "medicines": [
        {"med_name": "Aspirin", "med_dose": 100, "med_times": 2},
        None,
        {"med_name": "Paracetamol", "med_dose": 400, "med_times": 4, "med_why": "Fever"},
    ],
}


def judged(values: dict[str, Any], reasons: dict[str, str] | None = None) -> Any:
    study = definition(**changes())
    local = NOW.replace(tzinfo=None)
    return judge(study, FORM, "week18", values, reasons or {}, answers={}, today=local.date(), now=local)


def test_each_row_is_computed_and_all_are_summed_up():
    found = judged(ROWS)
    assert found.complete
    assert found.values["medicines[1].med_total"] == 200
    assert found.values["medicines[3].med_total"] == 1600
    assert (found.values["care_sum"], found.values["care_most"], found.values["care_count"]) == (1800, 400, 2)
    assert list(found.values)[:3] == ["care_limit", "medicines[1].med_name", "medicines[1].med_dose"]
    assert found.hidden == {"medicines[1].med_why"}


def test_without_rows_there_is_nothing_to_sum_up_and_nothing_required_in_them():
    found = judged({"care_limit": 5})
    assert found.complete
    assert ("care_sum" in found.values, found.values["care_most"], found.values["care_count"]) == (False, 1, 0)


@pytest.mark.parametrize(
    ("cells", "finding"),
    [
        ({"med_dose": 13}, ("medicines[2].med_dose", "check_1", True)),
        ({"med_dose": 600}, ("medicines[2].med_dose", "check_2", False)),
        ({"med_dose": 9000}, ("medicines[2].med_dose", "max", True)),
        ({"med_dose": "much"}, ("medicines[2].med_dose", "type", True)),
    ],
)
def test_a_check_is_of_its_row(cells: dict[str, Any], finding: tuple[str, str, bool]):
    row = {cell_name("medicines", 2, code): value for code, value in {"med_name": "X", **cells}.items()}
    found = judged({"care_limit": 500, **row})
    assert finding in [(each.item, each.rule, each.is_hard) for each in found.problems]
    assert not found.complete
    assert all(each.item.startswith("medicines[2].") for each in found.problems)


def test_what_is_missing_in_a_row_is_asked_there_and_a_reason_explains_its_own_row():
    found = judged({"care_limit": 500, "medicines[2].med_name": "X"})
    assert found.missing_required == ("medicines[2].med_dose",)
    rows = {"care_limit": 50, "medicines[1].med_name": "A", "medicines[1].med_dose": 60}
    rows |= {"medicines[2].med_name": "B", "medicines[2].med_dose": 70}
    found = judged(rows, {"medicines[1].med_dose": "As written"})
    assert found.unexplained == ("medicines[2].med_dose",)


def test_in_a_blank_row_nothing_is_missing_and_what_is_not_asked_is_hidden():
    study, local = definition(**changes()), NOW.replace(tzinfo=None)
    given: Any = {"answers": {}, "today": local.date(), "now": local, "blank": {"medicines": [1, 2]}}
    found = judge(study, FORM, "week18", {"care_limit": 5}, {}, **given)
    assert found.complete
    assert found.hidden == {"medicines[1].med_why", "medicines[2].med_why"}
    assert found.values["care_count"] == 0


@pytest.mark.parametrize("name", ["medicines[5].med_name", "medicines[1].unknown", "others[1].med_name", "med_name"])
def test_what_is_no_cell_is_refused(name: str):
    found = judged({"care_limit": 5, name: "X"})
    assert [each.is_hard for each in found.problems if each.item == name] == [True]


names = st.dictionaries(
    st.integers(1, 4), st.fixed_dictionaries({"med_name": st.just("x"), "med_dose": st.integers(0, 99)})
)


@given(names)
def test_rows_come_back_as_they_were_kept(rows: dict[int, dict[str, Any]]):
    flat = {cell_name("medicines", row, item): value for row, cells in rows.items() for item, value in cells.items()}
    document = document_of({"care_limit": 1, **flat})
    assert cells_of(json.loads(json.dumps(document))) == {"care_limit": 1, **flat}
    assert by_name(FORM, document_of(flat, mark="")) == flat
    assert parse_typed(FORM, typed_form(FORM, flat)).values.keys() == flat.keys()


def test_rows_are_sent_as_a_list_and_what_is_none_is_refused():
    assert by_name(FORM, KEPT) == ROWS
    values, wrong = check_stored(FORM, by_name(FORM, KEPT))
    assert (values, wrong) == (ROWS, [])
    for sent in ("x", [1], {"med_name": "x"}):
        _, wrong = check_stored(FORM, by_name(FORM, {"medicines": sent}))
        assert [each.field for each in wrong] == ["medicines"]
    _, wrong = check_stored(FORM, by_name(FORM, {"medicines": [{"nope": 1}]}))
    assert [each.rule for each in wrong] == ["unknown"]


@pytest.mark.parametrize("name", ["medicines[0].x", "medicines[1]x", "Medicines[1].x", "medicines[1000].x"])
def test_what_names_no_cell(name: str):
    assert cell_parts(name) is None


def test_a_row_is_added_behind_the_others_and_taken_out_with_its_answers():
    form = typed_form(FORM, ROWS)
    assert rows_shown(FORM, form) == {"medicines": [1, 3]}
    added = with_other_rows(FORM, form, "add-row:medicines")
    assert added is not None
    assert rows_shown(FORM, added) == {"medicines": [1, 3, 4]}
    full = with_other_rows(FORM, added, "add-row:medicines")
    assert full is not None
    assert rows_shown(FORM, full) == {"medicines": [1, 3, 4]}, "there is room for four"
    left = with_other_rows(FORM, form, "drop-row:medicines:1")
    assert left is not None
    assert rows_shown(FORM, left) == {"medicines": [3]}
    assert set(parse_typed(FORM, left).values) == {name for name in ROWS if "[1]" not in name}
    assert rows_shown(FORM, {}) == {"medicines": [1]}
    for act in ("", "partial", "add-row:nothing", "drop-row:", "another"):
        assert with_other_rows(FORM, form, act) is None
    shown = {**form, "rows-medicines": ["1", "3"]}
    for row in ("", "0", "x", "9" * 5_000, "²"):
        assert with_other_rows(FORM, form, f"drop-row:medicines:{row}") == shown, row[:9]


@pytest.mark.requirement("EMA-5")
def test_the_log_says_what_became_of_each_cell(session: Session):
    study = mini_study(session, **changes())
    participant = consented(session, study)
    assert participant.id is not None
    by = person(session, study, "assessor")

    def save(values: dict[str, Any], version: int, **options: Any) -> Any:
        place: Any = {"visit": "week18", "instrument": "care", "by": by, "now": NOW, "reasons": {}}
        return actions.save_entry(session, study, participant, values=values, base_version=version, **(place | options))

    save(ROWS, 0)
    raw = json.loads(session.execute(select(reads.ENTRY.c["values"])).scalar_one())
    assert raw["medicines[]"][1] is None
    assert raw["medicines[]"][2]["med_total"] == 1600
    less = {name: value for name, value in ROWS.items() if "[1]" not in name}
    with pytest.raises(Invalid, match="Say why"):
        save(less, 1)
    save(less, 1, why="Given to somebody else")
    entry = reads.entry_of(session, participant.id, "week18", "care")
    assert entry is not None
    assert entry.values["medicines[3].med_name"] == "Paracetamol", "the rows behind keep their number"
    assert entry.values["care_count"] == 1
    query = select(AUDIT.c.item, AUDIT.c.old, AUDIT.c.new).where(AUDIT.c.action == "entry.corrected")
    log = {row.item: (row.old, row.new) for row in session.execute(query)}
    assert log["medicines[1].med_name"] == ('"Aspirin"', None)
    assert log["care_sum"] == ("1800", "1600")
    assert "medicines[3].med_name" not in log
    lines = reads.history(session, study, "M-001", "week18", "care", "medicines[1].med_name")
    assert [(line.action, line.new) for line in lines] == [("entry.saved", "Aspirin"), ("entry.corrected", None)]


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({}, None),
        ({"repeats": False}, "does not repeat"),
        ({"code": None}, "Give the section a `code:`"),
        ({"code": "care_limit"}, "another code"),
    ],
)
def test_what_a_study_may_say_of_rows(group: dict[str, Any], message: str | None):
    found = [each.message for each in problems(definition(**changes(**group)))]
    assert (found == []) if message is None else any(message in each for each in found), found


@pytest.mark.parametrize("rule", ["[med_dose] > 3", "[med_dose] + sum([med_dose])", "if([med_dose] > 1, 1, 2)"])
def test_an_answer_of_many_rows_is_only_counted_or_summed_up(rule: str):
    last = {"items": [{"code": "care_x", "label": "X", "type": "calculated", "calculation": rule}]}
    form = {**CARE, "sections": [*CARE["sections"], last]}
    made = changes()
    found = problems(definition(**{**made, "instruments": [*made["instruments"][:-1], form]}))
    assert ["in each row of medicines" in each.message for each in found] == [True]


def test_a_study_without_groups_is_what_it_was():
    assert "max_rows" not in canonical(definition())
