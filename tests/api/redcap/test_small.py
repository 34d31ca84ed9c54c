"""A study without repeats, whose record field has another name; and how many statements a call makes."""

from typing import Any

import pytest
from sqlmodel import select

from app.foundation.database import Database
from app.participants.models import Participant
from tests.api.redcap.test_records import EVENT, FORM, NUMBER
from tests.api.redcap.world import add_entry, build, changes
from tests.capture.records import plan_visit
from tests.factories import MINI
from tests.web.browser import counted_statements


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_study_without_repeats_says_so_and_has_no_columns_for_them(shared_database: Database):
    both = build(shared_database, repeats=False, record_id="subject", participant_prefix="")["both"]
    assert both.refused("repeatingFormsEvents") == (
        "You cannot export repeating instruments and events because the project does not contain any repeating "
        "instruments and events"
    )
    rows = both.json("record")
    assert list(rows[0])[:3] == ["subject", "redcap_event_name", "age"]
    assert both.json("metadata")[0]["field_name"] == "subject"
    about = both.json("project")
    assert about["has_repeating_instruments_or_events"] == 0
    # Their codes are numbers alone: the one case in which clients may read the names as whole numbers.
    assert about["record_autonumbering_enabled"] == 1
    assert "<redcap:RecordAutonumberingEnabled>1<" in both.send("project_xml", returnMetadataOnly="true").text
    assert both.send("generateNextRecordName").text == "004"
    assert (
        both.imports([{"subject": "M-002", "redcap_event_name": "baseline_arm_1", "pain_nrs": 1}]).text == '{"count":1}'
    )


MEDICINES: dict[str, Any] = {
    "code": "medicines",
    "label": "Medicines",
    "source": "test",
    "sections": [
        {"items": [{"code": "takes_any", "label": "Takes any", "type": "yes_no"}]},
        {
            "code": "medicine",
            "label": "Medicine",
            "repeats": True,
            "items": [
                {"code": "dose", "label": "Dose", "type": "number"},
                {
                    "code": "kind",
                    "label": "Kind",
                    "type": "choices",
                    "required": False,
                    "choices": [{"code": "a", "label": "A"}, {"code": "b", "label": "B"}],
                },
            ],
        },
    ],
}


@pytest.mark.parametrize("kind", ["sqlite"])
def test_rows_of_a_group_and_visits_outside_the_plan_are_repeats(shared_database: Database):
    last = {**MINI["visits"][-1], "instruments": ["pain", "disability", "diary", "medicines"]}  # type: ignore[index]
    more: dict[str, Any] = {
        "visits": [*MINI["visits"][:-1], last],  # type: ignore[index]
        "instruments": [*changes(repeats=False)["instruments"], MEDICINES],
        "unscheduled": {"label": "Extra visit", "instruments": ["pain", "medicines"]},
    }
    world = build(shared_database, repeats=False, **more)
    both = world["both"]
    with shared_database.writing() as session:
        two = session.exec(select(Participant).where(Participant.code == "M-002")).one()
        rows = {"medicine[1].dose": 2.5, "medicine[1].kind": ["b"], "medicine[3].dose": 1}
        add_entry(session, world.study, two, "week18", "medicines", takes_any=True, **rows)
        for number in (1, 2):
            code = f"unscheduled_{number}"
            plan_visit(session, world.study, two, code, order=9, day=0)
            add_entry(session, world.study, two, code, "pain", pain_nrs=number, pain_days=1)
    found = both.json("record", records="2", fields="participant_id", forms="pain,medicines,medicines_medicine")
    seen = [(row[EVENT], row[FORM], row[NUMBER], row["takes_any"], row["dose"], row["pain_nrs"]) for row in found]
    week = "week_18_arm_1"
    assert seen == [
        ("screening_arm_1", "", "", "", "", ""),
        (week, "", "", "1", "", ""),
        (week, "medicines_medicine", 1, "", "2.5", ""),
        (week, "medicines_medicine", 3, "", "1", ""),
        ("extra_visit_arm_1", "", 1, "", "", "1"),
        ("extra_visit_arm_1", "", 2, "", "", "2"),
    ]
    assert both.json("repeatingFormsEvents") == [
        {"event_name": week, "form_name": "medicines_medicine", "custom_form_label": ""},
        {"event_name": "extra_visit_arm_1", "form_name": "", "custom_form_label": ""},
        {"event_name": "extra_visit_arm_1", "form_name": "medicines_medicine", "custom_form_label": ""},
    ]
    for kind in ("json", "csv", "xml", "odm"):
        sent = both.send("record", format=kind).text
        reply = both.send("record", format=kind, data=sent, returnFormat="csv")
        assert (reply.status_code, reply.text) == (200, "3"), (kind, reply.text)
    row = {"participant_id": "M-002", EVENT: "extra_visit_arm_1", NUMBER: "2", "pain_nrs": "7"}
    assert both.imports([row]).status_code == 200
    found = both.json("record", records="2", fields="participant_id,pain_nrs", events="extra_visit_arm_1")
    assert [each["pain_nrs"] for each in found] == ["1", "7"]
    _rows_are_imported(both, week)


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_form_that_asks_in_rows_alone_is_in_every_format(shared_database: Database):
    rows_alone = {**MEDICINES, "sections": MEDICINES["sections"][1:]}
    more = changes(repeats=False)
    last = more["visits"][-1]
    more["visits"] = [*more["visits"][:-1], {**last, "label": "Week 18", "instruments": ["medicines"]}]
    both = build(shared_database, repeats=False, **{**more, "instruments": [*more["instruments"], rows_alone]})["both"]
    place = {"participant_id": "M-002", EVENT: "week_18_arm_1"}
    rows = [{**place, FORM: "medicines_medicine", NUMBER: number, "dose": str(number)} for number in (1, 2)]
    assert both.imports([*rows, {**place, "medicines_complete": "2"}]).status_code == 200
    there = both.json("record", records="M-002")
    for kind in ("json", "csv", "xml", "odm"):
        reply = both.send("record", format=kind, records="M-002")
        assert reply.status_code == 200, kind
        again = both.send("record", format=kind, data=reply.text.replace("M-002", "M-003"), returnFormat="csv")
        assert (again.status_code, again.text) == (200, "1"), (kind, again.text)
        assert [row["dose"] for row in both.json("record", records="M-003", fields="dose")][-2:] == ["1", "2"]
    assert both.json("record", records="M-002") == there
    text = both.send("project_xml", returnMetadataOnly="true").text
    assert '<ItemGroupDef OID="medicines.medicines_complete"' in text
    assert '<ItemGroupDef OID="medicines_medicine.dose"' in text


@pytest.mark.parametrize("kind", ["sqlite"])
def test_another_document_is_not_one_without_participants(shared_database: Database):
    both = build(shared_database, repeats=False)["both"]
    for data in ("<hash></hash>", "<records><item><participant_id>M-002</participant_id></item></records>"):
        assert both.refused("record", format="odm", data=data) == "The data is not in the specified format."
    empty = both.send("record", format="odm", records="nobody").text
    assert "<count>0</count>" in both.send("record", format="odm", data=empty).text


def _rows_are_imported(both: Any, week: str) -> None:
    """Rows of a group come in as repeats: by number or new, in every format, with their form or alone."""
    row = {"participant_id": "M-002", EVENT: week, FORM: "medicines_medicine"}

    def rows(event: str = week) -> list[tuple[int, str, str, str]]:
        found = both.json("record", records="2", fields="participant_id", forms="medicines_medicine", events=event)
        return [(each[NUMBER], each["dose"], each["kind___a"], each["kind___b"]) for each in found if each[FORM]]

    assert rows() == [(1, "2.5", "0", "1"), (3, "1", "0", "0")]
    sent: list[dict[str, Any]] = [
        {"participant_id": "M-002", EVENT: week, "takes_any": "1"},
        {**row, NUMBER: 1, "dose": "9", "kind___a": "1"},
        {**row, NUMBER: "new", "dose": "4"},
        {**row, NUMBER: "new", "dose": "5", "kind___b": "1"},
    ]
    assert both.imports(sent).text == '{"count":1}'
    changed = [(1, "9", "1", "1"), (3, "1", "0", "0"), (4, "4", "0", "0"), (5, "5", "0", "1")]
    assert rows() == changed
    for kind in ("json", "csv", "xml"):
        for way in ("flat", "eav"):
            exported = both.send("record", format=kind, type=way, records="2").text
            reply = both.send("record", format=kind, type=way, data=exported, overwriteBehavior="overwrite")
            assert reply.status_code == 200, (kind, way, reply.text)
            assert rows() == changed
    # A blank takes a cell out with overwrite only; a whole row goes by its number, and the others keep theirs.
    assert both.imports([{**row, NUMBER: 1, "kind___a": "", "dose": "8"}]).status_code == 200
    blank = [{**row, NUMBER: 5, "kind___a": "", "kind___b": "", "dose": "6"}]
    assert both.imports(blank, overwriteBehavior="overwrite").status_code == 200
    assert rows() == [(1, "8", "1", "1"), (3, "1", "0", "0"), (4, "4", "0", "0"), (5, "6", "0", "0")]
    place = {"records[0]": "M-002", "instrument": "medicines_medicine", "event": week}
    assert both.send("record", action="delete", repeat_instance="3", **place).text == "1"
    assert [number for number, *_ in rows()] == [1, 4, 5]
    gone = both.refused("record", action="delete", repeat_instance="3", **place)
    assert gone == "There is no instance 3 of medicines_medicine to delete."
    # Where the form is asked at another event as well, which one is meant has to be said.
    less = {name: value for name, value in place.items() if name != "event"}
    said = both.refused("record", action="delete", repeat_instance="1", **less)
    assert said.endswith(f'Name one in the parameter "event": {week}, extra_visit_arm_1.')
    for number in ("0", "1001", "x"):
        message = both.refused("record", action="delete", repeat_instance=number, **place)
        assert message == 'The value of the parameter "repeat_instance" is not valid'
    # At a visit outside the plan the number says which one, and which row of it.
    extra = {**row, EVENT: "extra_visit_arm_1"}
    assert both.imports([{**extra, NUMBER: 1002, "dose": "7"}]).status_code == 200
    assert rows("extra_visit_arm_1") == [(1002, "7", "0", "0")]
    for wrong, words in (
        ({**extra, NUMBER: "new", "dose": "1"}, "Send it instead of new"),
        ({**row, EVENT: "extra_visit_arm_1", FORM: "", NUMBER: "new", "pain_nrs": "1"}, "Send it instead of new"),
        ({**row, NUMBER: 1001, "dose": "1"}, "There is no such instance"),
        ({**row, NUMBER: 201, "dose": "1"}, "there is room for 200 rows"),
        ({**row, NUMBER: 4, "dose": "a lot"}, '"M-002","dose","a lot","The value you provided could not be validated'),
        ({**row, NUMBER: 4, "medicines_medicine_complete": "7"}, "not a valid category for medicines_"),
        ({**row, FORM: "", NUMBER: "", "dose": "1"}, "The form medicines_medicine repeats"),
    ):
        assert words in both.imports([wrong], returnFormat="json").json()["error"], wrong
    assert [number for number, *_ in rows()] == [1, 4, 5]


MOST_STATEMENTS = 16


@pytest.mark.parametrize("kind", ["sqlite"])
def test_no_call_makes_many_statements(shared_database: Database):
    """However many participants and people there are: the statements of a call do not grow with them."""
    world = build(shared_database)
    counted = {}
    for content in ("record", "metadata", "user", "userRoleMapping", "log", "project", "report", "participantList"):
        with counted_statements(shared_database) as made:
            assert world["both"].send(content, format="csv", report_id="1", instrument="diary").status_code == 200
        counted[content] = len(made)
    assert all(counted.values())
    assert {content: count for content, count in counted.items() if count > MOST_STATEMENTS} == {}


@pytest.mark.parametrize("kind", ["sqlite"])
def test_who_could_enter_a_form_the_second_time_learns_nothing_of_the_first(shared_database: Database):
    visits = MINI["visits"]
    assert isinstance(visits, list)
    twice = {"visits": [{**visits[0], "double_entry": ["pain"]}, *visits[1:]], "instruments": MINI["instruments"]}
    world = build(shared_database, repeats=False, **twice)
    row = {"participant_id": "M-002", EVENT: "baseline_arm_1", "pain_nrs": "4", "pain_days": "2"}
    assert world["assessor"].imports([{**row, "pain_complete": "2"}]).status_code == 200
    for name, seen in (("coordinator", ""), ("assessor", "4"), ("manager", "4")):
        found = world[name].json("record", records="M-002", forms="pain", fields="participant_id")
        assert {each["pain_nrs"] for each in found} - {""} == ({seen} if seen else set()), name
    # The same answer or another one: what is said is the same.
    told = {world["coordinator"].imports([{**row, "pain_nrs": each}], returnFormat="json").text for each in ("4", "5")}
    assert len(told) == 1
    assert "entered twice" in told.pop()


@pytest.mark.parametrize("kind", ["sqlite"])
def test_forms_stand_in_the_order_of_the_plan(shared_database: Database):
    more = changes()
    first, last = more["visits"][0], more["visits"][-1]
    last["instruments"] = ["falls", "diary", "pain", "disability"]
    more["visits"] = [{**first, "instruments": ["pain"]}, *more["visits"][1:-1], last]
    more["instruments"] = sorted(more["instruments"], key=lambda form: form["code"])  # as a folder is read
    both = build(shared_database, **more)["both"]
    wanted = ["prescreen", "pain", "falls", "diary", "disability"]
    assert [row["instrument_name"] for row in both.json("instrument")] == wanted
    assert list(dict.fromkeys(row["form_name"] for row in both.json("metadata"))) == wanted
    columns = list(both.json("record", records="M-001")[0])
    assert [name for name in columns if name.endswith("_complete")] == [f"{name}_complete" for name in wanted]
    at = [row["form"] for row in both.json("formEventMapping") if row["unique_event_name"].startswith("week_18")]
    assert at == ["pain", "falls", "diary", "disability"]


SMOKING: dict[str, Any] = {
    "code": "smoking",
    "label": "Smoking",
    "source": "test",
    "sections": [
        {
            "items": [
                {"code": "smokes", "label": "Smokes", "type": "yes_no", "required": False},
                {
                    "code": "packs",
                    "label": "Packs",
                    "type": "integer",
                    "required": False,
                    "shown_if": "[smokes] = true",
                },
                {
                    "code": "brands",
                    "label": "Brands",
                    "type": "choices",
                    "required": False,
                    "shown_if": "[baseline][pain_nrs] > 3",
                    "choices": [{"code": "a", "label": "A"}, {"code": "b", "label": "B"}],
                },
                {"code": "at", "label": "First at", "type": "time", "required": False},
                {"code": "since", "label": "Since", "type": "date_time", "required": False},
            ]
        }
    ],
}


@pytest.fixture
def smokers(shared_database: Database) -> Any:
    more = changes(repeats=False)
    last = more["visits"][-1]
    more["visits"] = [*more["visits"][:-1], {**last, "label": "Week 18", "instruments": ["smoking"]}]
    return build(shared_database, repeats=False, **{**more, "instruments": [*more["instruments"], SMOKING]})["both"]


@pytest.mark.parametrize("kind", ["sqlite"])
def test_an_answer_to_a_question_that_is_not_asked_is_refused_and_never_lost_unsaid(smokers: Any):
    row = {"participant_id": "M-002", EVENT: "week_18_arm_1"}
    words = "This is not asked after the other answers, and would not be kept. Leave it out, or correct them."
    for cells, refused in (
        ({"smokes": "0", "packs": "3"}, ("packs", "3")),
        ({"packs": "3"}, ("packs", "3")),
        ({"smokes": "1", "packs": "3", "brands___a": "1"}, ("brands___a", "1")),
    ):
        reply = smokers.imports([{**row, **cells}], returnFormat="csv")
        assert reply.text == f'ERROR: "M-002","{refused[0]}","{refused[1]}","{words}"'
    assert [each[EVENT] for each in smokers.json("record", records="M-002")] == ["screening_arm_1"]
    # Blank, or no tick, is no answer; and what is sent after the question it follows from may stand before it.
    asked = {**row, "smokes": "1", "packs": "3", "brands___b": "1"}
    nothing = {"packs": "UNK", "brands___a": "0", "brands___unk": "1"}  # and neither is that there is none
    assert smokers.imports([{**row, "smokes": "0", **nothing}]).text == '{"count":1}'
    assert smokers.imports([{**row, "smokes": "0", "packs": "", "brands___a": "0"}]).text == '{"count":1}'
    baseline = {"participant_id": "M-002", EVENT: "baseline_arm_1", "pain_nrs": "7"}
    assert smokers.imports([asked, baseline]).text == '{"count":1}'
    (found,) = smokers.json("record", records="M-002", forms="smoking", events="week_18_arm_1")
    assert (found["packs"], found["brands___a"], found["brands___b"]) == ("3", "0", "1")


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"at": "9:05"}, "09:05"),
        ({"at": "09:05:00"}, "09:05"),  # as R writes a time that it read
        ({"at": "23:59"}, "23:59"),
        ({"at": "09:05:30"}, None),
        ({"at": "24:00"}, None),
        ({"at": "9:5"}, None),
        ({"since": "2026-03-02 9:05"}, "2026-03-02 09:05"),
        ({"since": "2026-03-02T09:05:00"}, "2026-03-02 09:05"),
        ({"since": "2026-03-02 09:05:00.000"}, "2026-03-02 09:05"),
        ({"since": "2026-03-02 09:05:01"}, None),
        ({"since": "2026-03-02T09:05:00Z"}, None),
    ],
    ids=str,
)
def test_a_time_may_be_written_as_others_write_it(smokers: Any, sent: dict[str, str], kept: str | None):
    reply = smokers.imports([{"participant_id": "M-002", EVENT: "week_18_arm_1", **sent}])
    assert reply.status_code == (400 if kept is None else 200), reply.text
    if kept is not None:
        (found,) = smokers.json("record", records="M-002", forms="smoking", events="week_18_arm_1")
        assert found[next(iter(sent))] == kept
    else:
        assert "does not follow the expected format" in reply.text
