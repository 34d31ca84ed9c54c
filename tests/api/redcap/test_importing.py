"""An import goes through the same doors as a form: consent, checks, locks, log; all of it or nothing."""

import json
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import func, select, text
from sqlmodel import Session

from app.api.redcap import importing
from app.api.redcap.importing import Problems, _Importing
from app.audit.actions import ENTRY as AUDIT
from app.capture.models import Entry
from app.foundation.database import table_of
from app.imports.actions import begin_whole
from tests.api.redcap.test_records import EVENT, FORM, NUMBER, WEEK18
from tests.api.redcap.world import World

BASE = {"participant_id": "M-002", EVENT: "baseline_arm_1"}
ENTRIES = table_of(Entry)


def stored(world: World, code: str, visit: str, instrument: str, repeat: int = 1) -> dict[str, Any] | None:
    with world.database.reading() as session:
        found = session.execute(
            select(ENTRIES.c["values"]).where(
                ENTRIES.c.participant_id.in_(text("(SELECT id FROM participant WHERE code = :code)")),
                ENTRIES.c.visit == visit,
                ENTRIES.c.instrument == instrument,
                ENTRIES.c.repeat == repeat,
            ),
            {"code": code},
        ).scalar()
    return None if found is None else dict(json.loads(found))


def logged(session: Session, action: str) -> list[Any]:
    return list(session.execute(select(AUDIT).where(AUDIT.c.action == action).order_by(AUDIT.c.position)).all())


ROWS: dict[str, tuple[str, str]] = {
    "json": ("json", json.dumps([{**BASE, "pain_nrs": 4, "pain_days": "2", "pain_where___leg": "1"}])),
    "one object": ("json", json.dumps({**BASE, "pain_nrs": 4, "pain_days": "2", "pain_where___leg": "1"})),
    "rows by number": (
        "json",
        json.dumps({"1": {**BASE, "pain_nrs": 4}, "3": {**BASE, "pain_days": "2", "pain_where___leg": "1"}}),
    ),
    "csv": ("csv", f"participant_id,{EVENT},pain_nrs,pain_days,pain_where___leg\nM-002,baseline_arm_1,4,2,1\n"),
    "csv, mark": (
        "csv",
        f"\ufeffparticipant_id,{EVENT},pain_nrs,pain_days,pain_where___leg\r\nM-002,baseline_arm_1,4,2,1",
    ),
    "csv, semicolons": (
        "csv",
        f"participant_id;{EVENT};pain_nrs;pain_days;pain_where___leg\nM-002;baseline_arm_1;4;2;1\n",
    ),
    "xml": (
        "xml",
        f'<?xml version="1.0" encoding="UTF-8" ?><records><item><participant_id>M-002</participant_id><{EVENT}>'
        f"baseline_arm_1</{EVENT}><pain_nrs>4</pain_nrs><pain_days><![CDATA[2]]></pain_days>"
        "<pain_where___leg>1</pain_where___leg></item></records>",
    ),
    "odm": (
        "odm",
        '<ODM xmlns="http://www.cdisc.org/ns/odm/v1.3"><ClinicalData><SubjectData SubjectKey="M-002"><StudyEventData '
        'StudyEventOID="Event.baseline_arm_1"><FormData FormOID="Form.pain" FormRepeatKey="1"><ItemGroupData>'
        '<ItemData ItemOID="pain_nrs" Value="4"/><ItemData ItemOID="pain_days" Value="2"/>'
        '<ItemData ItemOID="pain_where___leg" Value="1"/></ItemGroupData></FormData></StudyEventData></SubjectData>'
        "</ClinicalData></ODM>",
    ),
}


@pytest.mark.parametrize("way", ROWS)
@pytest.mark.parametrize("multipart", [False, True], ids=["urlencoded", "multipart"])
def test_each_format_and_encoding_is_read(world: World, way: str, multipart: bool):
    kind, data = ROWS[way]
    form = {"format": kind, "data": data, "returnFormat": "json", "type": "flat", "overwriteBehavior": "normal"}
    reply = world["coordinator"].send("record", **form, files={"x": b""} if multipart else None)
    assert (reply.status_code, reply.text) == (200, '{"count":1}')
    assert stored(world, "M-002", "baseline", "pain") == {"pain_nrs": 4, "pain_days": 2, "pain_where": ["leg"]}


def test_eav_is_read_as_it_is_exported_and_as_columns_of_checkboxes(world: World):
    rows = [
        {"record": "M-002", EVENT: "baseline_arm_1", "field_name": name, "value": value}
        for name, value in (
            ("participant_id", "M-002"),
            ("pain_nrs", "4"),
            ("pain_days", "2"),
            ("pain_where", "back"),
            ("pain_where___leg", "1"),
        )
    ]
    reply = world["coordinator"].imports(rows, type="eav")
    assert reply.text == '{"count":1}', reply.text
    assert stored(world, "M-002", "baseline", "pain") == {"pain_nrs": 4, "pain_days": 2, "pain_where": ["back", "leg"]}


class Looked(dict[str, Any]):
    """A row that counts how often it is looked into."""

    times = 0

    def __contains__(self, name: object) -> bool:
        Looked.times += 1
        return super().__contains__(name)


@pytest.mark.requirement("SEC-23")
def test_boxes_that_are_none_are_named_without_looking_through_all_rows_for_each():
    """Two megabytes of them kept a processor, and the database, for hours."""
    project = SimpleNamespace(
        record_id="id", forms=(), complete={}, option={}, event={}, field={"where": SimpleNamespace(is_checkbox=True)}
    )
    made = object.__new__(_Importing)
    made.project, made.problems = project, Problems()  # type: ignore[assignment]
    made.asked = SimpleNamespace(call=SimpleNamespace(text=lambda _: "eav"))  # type: ignore[assignment]
    rows = [Looked({"id": f"X-{number}", f"where___c{number % 40}": "1"}) for number in range(80)]
    made._refuse_unknown(rows)  # type: ignore[arg-type]
    assert sorted(made.problems.lines)[0] == '"X-0","where","c0","The value is not a valid category for where"'
    assert (len(made.problems.lines), {len(row) for row in rows}) == (80, {1})
    assert Looked.times < 200, "each row is looked at for the boxes it has"


@pytest.mark.parametrize(
    ("form", "body", "kind"),
    [
        ({"returnFormat": "json"}, '{"count":1}', "application/json"),
        ({"returnFormat": "csv"}, "1", "text/csv"),
        ({"returnFormat": "xml"}, '<?xml version="1.0" encoding="UTF-8" ?><count>1</count>', "text/xml"),
        ({"returnContent": "ids", "returnFormat": "json"}, '["M-002"]', "application/json"),
        ({"returnContent": "ids", "returnFormat": "csv"}, "id\nM-002\n", "text/csv"),
        ({"returnContent": "nothing", "returnFormat": "csv"}, "", "text/csv"),
        ({"backgroundProcess": "true", "returnFormat": "json"}, '{"success":true}', "application/json"),
    ],
    ids=str,
)
def test_what_an_import_answers(world: World, form: dict[str, str], body: str, kind: str):
    # Two rows of one record are one record.
    rows = [{**BASE, "pain_nrs": 1, "pain_days": 1}, {**BASE, EVENT: WEEK18, "pain_nrs": 1, "pain_days": 1}]
    reply = world["coordinator"].imports(rows, **form)
    assert (reply.status_code, reply.text) == (200, body)
    assert reply.headers["content-type"] == f"{kind}; charset=utf-8"


def test_what_was_exported_can_be_imported_and_changes_nothing(world: World):
    caller = world["both"]
    before = caller.csv("record")
    for kind in ("csv", "json", "xml", "odm"):
        for way in ("flat", "eav") if kind != "odm" else ("flat",):
            text_ = caller.send("record", format=kind, type=way).text
            reply = caller.send(
                "record", format=kind, type=way, data=text_, overwriteBehavior="normal", returnFormat="csv"
            )
            assert (reply.status_code, reply.text) == (200, "3"), (kind, way, reply.text)
    assert caller.csv("record") == before
    with world.database.reading() as session:
        assert logged(session, "entry.saved") == logged(session, "entry.corrected") == []


@pytest.mark.requirement("P11-e2", "EMA-5")
def test_a_correction_says_who_imported_it_and_blanks_are_passed_over_or_erase(world: World):
    caller, row = world["coordinator"], {"participant_id": "M-001", EVENT: "baseline_arm_1"}
    assert caller.imports([{**row, "pain_nrs": "6", "pain_days": "", "pain_where___leg": "1"}]).status_code == 200
    assert stored(world, "M-001", "baseline", "pain") == {"pain_nrs": 6, "pain_days": 3, "pain_where": ["back", "leg"]}
    with world.database.reading() as session:
        changed = logged(session, "entry.corrected")
    assert {line.item for line in changed} == {"pain_nrs", "pain_where"}
    assert {line.why for line in changed} == {"imported through the REDCap-compatible API by coordinator"}
    erasing = [{**row, "pain_days": "", "pain_where___back": "0", "pain_where___leg": ""}]
    assert caller.imports(erasing, overwriteBehavior="overwrite").status_code == 200
    assert stored(world, "M-001", "baseline", "pain") == {"pain_nrs": 6}
    assert caller.imports(erasing, overwriteBehavior="overwrite").text == '{"count":1}'
    with world.database.reading() as session:
        assert len(logged(session, "entry.corrected")) == 4


def test_missing_codes_and_dates_of_every_order(world: World):
    caller, row = world["coordinator"], {**BASE, EVENT: WEEK18}
    rows = [{**row, "pain_nrs": "UNK", "pain_where___nd": "1", "dis_weight": "70.5"}]
    assert caller.imports(rows).status_code == 200
    assert stored(world, "M-002", "week18", "pain") == {"pain_nrs": {"missing": "UNK"}}
    for order, text_ in (("YMD", "2026-03-02"), ("MDY", "03/02/2026"), ("DMY", "02/03/2026")):
        assert caller.imports([{**row, "dis_on": text_}], dateFormat=order).status_code == 200, order
        found = stored(world, "M-002", "week18", "disability")
        assert found is not None
        assert found["dis_on"] == "2026-03-02"


FORMAT = (
    "The value you provided could not be validated because it does not follow the expected format. Please try again."
)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"pain_nrs": "2x"}, f'"M-002","pain_nrs","2x","{FORMAT}"'),
        ({"pain_days": "1,5"}, f'"M-002","pain_days","1,5","{FORMAT}"'),
        (
            {"pain_where___back": "2"},
            '"M-002","pain_where___back","2","The value is not a valid category for pain_where___back"',
        ),
        ({"pain_complete": "3"}, '"M-002","pain_complete","3","The value is not a valid category for pain_complete"'),
        ({"foo": "1", "baz": "2"}, "The following fields were not found in the project as real data fields: foo, baz"),
        ({"pain_where": "1"}, "The following fields were not found in the project as real data fields: pain_where"),
        ({EVENT: "a_arm_1"}, "The following values of redcap_event_name are invalid: a_arm_1"),
        (
            {"dis_weight": "70"},
            "This field ('dis_weight') exists on an instrument that is not designated for the event named 'Baseline "
            "(Arm 1: Arm 1)'. You are not allowed to import data for this field into this event.",
        ),
        ({"participant_id": ""}, "Every row needs the record's name in the field participant_id."),
        ({"redcap_data_access_group": "south_clinic", "pain_nrs": "1"}, "stays at the site where they were screened"),
        ({"pain_nrs": "11"}, "above the highest possible value"),
        ({"pain_note": "a\x00b"}, "there is a character in it that cannot be kept"),
        ({"pain_complete": "2", "pain_nrs": "1"}, "To save the form as it is, send 0 for pain_complete."),
    ],
    ids=str,
)
def test_what_cannot_be_taken_is_said_cell_by_cell_and_nothing_is_kept(
    world: World, cells: dict[str, str], message: str
):
    good = {"participant_id": "M-001", EVENT: "baseline_arm_1", "pain_nrs": "7"}
    reply = world["coordinator"].imports([good, {**BASE, **cells}], returnFormat="json")
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error == message or message in error
    assert stored(world, "M-001", "baseline", "pain") == {"pain_nrs": 5, "pain_days": 3, "pain_where": ["back"]}
    assert stored(world, "M-002", "baseline", "pain") is None


def test_every_problem_is_listed(world: World):
    rows = [
        {**BASE, "pain_nrs": "x", "pain_days": "y"},
        {"participant_id": "M-001", EVENT: "baseline_arm_1", "pain_nrs": "z"},
    ]
    error = world["coordinator"].imports(rows, returnFormat="json").json()["error"]
    assert error.split("\n") == [
        f'"M-001","pain_nrs","z","{FORMAT}"',
        f'"M-002","pain_nrs","x","{FORMAT}"',
        f'"M-002","pain_days","y","{FORMAT}"',
    ]


def test_several_values_in_one_are_no_answer(world: World):
    nested = {**BASE, "pain_nrs": 1, "pain_note": {"a": 1}}
    xml = (
        f"<records><item><participant_id>M-002</participant_id><{EVENT}>baseline_arm_1</{EVENT}>"
        "<pain_note><a>1</a></pain_note></item></records>"
    )
    eav = {"record": "M-002", EVENT: "baseline_arm_1", "field_name": "pain_note", "value": {"a": 1}}
    for reply, name in (
        (world["coordinator"].imports([nested], returnFormat="json"), "pain_note"),
        (world["coordinator"].send("record", format="xml", data=xml, returnFormat="json"), "pain_note"),
        (world["coordinator"].imports([eav], type="eav", returnFormat="json"), "value"),
    ):
        assert reply.status_code == 400, reply.text
        assert reply.json()["error"].endswith(f"The following fields hold several: {name}")
    assert stored(world, "M-002", "baseline", "pain") is None


def test_choices_are_codes(world: World):
    row = {"participant_id": "M-001", EVENT: WEEK18, FORM: "falls", NUMBER: "1", "fall_hurt": "Not at all"}
    error = world["coordinator"].imports([row], returnFormat="json").json()["error"]
    assert error == '"M-001","fall_hurt","Not at all","The value is not a valid category for fall_hurt"'


@pytest.mark.requirement("SEC-3", "SEC-6")
def test_hostile_cells_survive(world: World):
    hostile = "=cmd|\"/c calc\"!A1, <b>&amp;</b> \u202eabc\u202c; a,b | 'x' ]]>"
    caller = world["both"]
    assert caller.imports([{**BASE, "pain_nrs": 1, "pain_days": 1, "pain_note": hostile}]).status_code == 200
    for kind in ("json", "csv", "xml", "odm"):
        exported = caller.send("record", format=kind, records="M-002").text
        again = caller.send("record", format=kind, data=exported, returnFormat="csv")
        assert (again.status_code, again.text) == (200, "1"), kind
    (row,) = caller.json("record", records="M-002", events="baseline_arm_1")
    assert row["pain_note"] == hostile
    fall = {"participant_id": "M-001", EVENT: WEEK18, FORM: "falls", NUMBER: 1, "fall_where": 'one\ntwo\t"three"'}
    assert caller.imports([fall]).status_code == 200
    rows = caller.json("record", fields="participant_id", forms="falls")
    found = [row["fall_where"] for row in rows if row[NUMBER] == 1]
    assert found == ['one\ntwo\t"three"']


def test_repeats_are_numbered_and_new_ones_added(world: World):
    caller, row = world["coordinator"], {"participant_id": "M-001", EVENT: WEEK18, FORM: "falls"}
    reply = caller.imports(
        [
            {**row, NUMBER: "new", "fall_where": "A"},
            {**row, NUMBER: "new", "fall_where": "B"},
            {**row, NUMBER: 2, "fall_hurt": "1"},
        ]
    )
    assert reply.text == '{"count":1}', reply.text
    found = [stored(world, "M-001", "week18", "falls", number) for number in (2, 3, 4)]
    assert [each and each["fall_where"] for each in found] == ["In the street,\nat night", "A", "B"]
    assert found[0] is not None
    assert found[0]["fall_hurt"] == "1"
    wrong = [{"participant_id": "M-001", EVENT: WEEK18, "fall_where": "C"}]
    assert "The form falls repeats" in caller.imports(wrong, returnFormat="json").json()["error"]
    assert (
        "whole number" in caller.imports([{**row, NUMBER: "x", "fall_where": "C"}], returnFormat="json").json()["error"]
    )


def test_a_repeat_is_marked_in_error_when_it_is_deleted(world: World):
    reply = world["coordinator"].send(
        "record", action="delete", records="M-001", instrument="falls", event=WEEK18, repeat_instance="1"
    )
    assert (reply.status_code, reply.text) == (200, "1")
    rows = world["both"].json("record", fields="participant_id", forms="falls", records="M-001")
    left = [row[NUMBER] for row in rows if row[FORM]]
    assert left == [2]
    changed = world["both"].json("record", dateRangeBegin="2020-01-01 00:00:00", fields="participant_id")
    assert {row["participant_id"] for row in changed} == {"M-001"}
    assert world["coordinator"].refused("record", action="delete", records="M-001", arm="2") == (
        'The value of the parameter "arm" is not valid'
    )
    assert stored(world, "M-001", "week18", "falls", 1) is not None


# New participants


SCREENING = {"age": "44", "pain_screen": "6", "surgery": "0"}


@pytest.mark.requirement("E6-14", "P11-f")
def test_a_new_record_is_screened_under_the_next_code(world: World):
    caller = world["coordinator"]
    assert caller.send("generateNextRecordName").text == "M-004"
    reply = caller.imports([{"participant_id": "M-004", EVENT: "screening_arm_1", **SCREENING}], returnContent="ids")
    assert (reply.status_code, reply.json()) == (200, ["M-004"])
    assert caller.send("generateNextRecordName").text == "M-005"
    (row,) = caller.json("record", records="M-004", forms="prescreen")
    assert (row["age"], row["surgery"], row["prescreen_complete"]) == ("44", "0", "2")
    # No consent, no data.
    reply = caller.imports([{"participant_id": "M-004", EVENT: "baseline_arm_1", "pain_nrs": "1"}], returnFormat="json")
    assert reply.status_code == 400
    assert stored(world, "M-004", "baseline", "pain") is None
    with world.database.reading() as session:
        assert [line.participant for line in logged(session, "participant.screened")] == ["M-004"]
        assert [line.participant for line in logged(session, "entry.save_refused")] == ["M-004"]


@pytest.mark.requirement("E6-14", "REL-13")
def test_a_record_is_never_somebody_elses_who_came_in_between(world: World, monkeypatch: pytest.MonkeyPatch):
    """The name was free when it was looked for; what is sent of it next would be kept of another participant."""
    caller, row = world["coordinator"], {EVENT: "screening_arm_1", **SCREENING}
    with monkeypatch.context() as late:
        late.setattr(importing, "next_code", lambda *_: "M-009")
        reply = caller.imports([{"participant_id": "M-009", **row}])
    assert (reply.status_code, "Somebody else has become M-009" in reply.text) == (400, True)
    assert caller.send("generateNextRecordName").text == "M-004", "nobody was screened"
    # Of several, whoever screens at the same time waits before the first and not between two.
    held = mock.Mock(side_effect=begin_whole)
    monkeypatch.setattr(importing, "begin_whole", held)
    for names in (["M-004"], ["M-005", "M-006"]):
        assert caller.imports([{"participant_id": name, **row} for name in names]).text == f'{{"count":{len(names)}}}'
    assert held.call_count == 1


def test_a_number_alone_means_the_participant_with_that_number(world: World):
    caller = world["coordinator"]
    rows = [{"participant_id": name, **SCREENING} for name in ("5", "4", "6")]
    assert sorted(caller.imports(rows, returnContent="ids").json()) == ["4", "5", "6"]
    found = caller.json("record", records="4,005,M-006", fields="participant_id")
    assert [row["participant_id"] for row in found] == ["M-004", "M-005", "M-006"]
    for name in ("2", 2, "2.0", 2.0):  # as a table with blanks among them is written
        assert (
            caller.imports([{"participant_id": name, EVENT: "baseline_arm_1", "pain_nrs": "1"}]).text == '{"count":1}'
        )
    assert stored(world, "M-002", "baseline", "pain") == {"pain_nrs": 1}
    assert "do not exist: 77" in caller.refused("record", action="delete", records="77")


def test_numbers_are_given_to_new_records_in_the_order_of_their_names(world: World):
    rows = [{"participant_id": name, **SCREENING} for name in ("10", "9")]
    reply = world["coordinator"].imports(rows, forceAutoNumber="true", returnContent="auto_ids")
    assert reply.json() == ["M-004,9", "M-005,10"] or reply.json() == ["M-005,10", "M-004,9"]
    reply = world["coordinator"].imports(rows, forceAutoNumber="True", returnContent="auto_ids", returnFormat="csv")
    assert reply.text.splitlines()[0] == "id"
    assert set(reply.text.splitlines()[1:]) == {"M-006,9", "M-007,10"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"participant_id": "77", **SCREENING}], "the next one is M-004"),
        ([{"participant_id": "M-004", EVENT: "baseline_arm_1", "pain_nrs": "1"}], "begins with the pre-screen"),
        ([{"participant_id": "M-004", **SCREENING, "age": "old"}], FORMAT),
        ([{"participant_id": "M-004", **SCREENING, "age": "999"}], "at most 120"),
        ([{"participant_id": "M-001", **SCREENING, "age": "45"}], "does not change a pre-screen"),
        ([{"participant_id": "M-004", "redcap_data_access_group": "x", **SCREENING}], "not a valid category"),
    ],
    ids=str,
)
def test_a_record_that_cannot_begin_so_says_what_to_do(world: World, rows: list[dict[str, str]], message: str):
    assert message in world["coordinator"].imports(rows, returnFormat="json").json()["error"]
    assert world["coordinator"].send("generateNextRecordName").text == "M-004"


def test_whoever_works_at_several_sites_says_at_which(world: World):
    row = {"participant_id": "M-004", **SCREENING}
    assert "Say at which site" in world["both"].imports([row], returnFormat="json").json()["error"]
    assert world["both"].imports([{**row, "redcap_data_access_group": "south_clinic"}]).status_code == 200
    (found,) = world["southern"].json("record", records="M-004", fields="participant_id")
    assert found["participant_id"] == "M-004"
    # Not at a site where they do not work; and nobody learns that somebody else's record is there.
    other = world["coordinator"].imports([{**BASE, "participant_id": "M-003", "pain_nrs": 1}], returnFormat="json")
    unknown = world["coordinator"].imports([{**BASE, "participant_id": "M-999", "pain_nrs": 1}], returnFormat="json")
    assert other.text.replace("M-003", "M-999") == unknown.text


# Retries, locks, rights


@pytest.mark.requirement("REL-4")
def test_the_same_import_once_more_changes_nothing(world: World):
    rows = [{**BASE, "pain_nrs": 4, "pain_days": 2}]
    for _ in range(3):
        assert world["coordinator"].imports(rows).text == '{"count":1}'
    with world.database.reading() as session:
        assert (
            session.execute(select(func.count()).select_from(AUDIT).where(AUDIT.c.action == "entry.saved")).scalar()
            == 2
        )


@pytest.mark.requirement("REL-4")
def test_a_new_record_is_made_once_under_one_key(world: World):
    row, key = {"participant_id": "1", **SCREENING}, {"Idempotency-Key": "import-17"}
    form = {"forceAutoNumber": "true", "returnContent": "auto_ids"}
    first, second = (world["coordinator"].imports([row], headers=key, **form) for _ in range(2))
    assert first.json() == second.json() == ["M-004,1"]
    assert (second.headers["idempotent-replay"], second.headers["content-type"]) == (
        "true",
        "application/json; charset=utf-8",
    )
    assert world["coordinator"].send("generateNextRecordName").text == "M-005"


def test_closed_data_are_refused_unless_nothing_would_change(world: World):
    body = {"kind": "frozen", "participants": ["M-001"], "why": "Clean"}
    token = {"Authorization": f"Bearer {world['manager'].token}"}
    assert world.http.post("/api/v1/studies/mini/locks", json=body, headers=token).status_code in (200, 201)
    row = {"participant_id": "M-001", EVENT: "baseline_arm_1"}
    assert world["coordinator"].imports([{**row, "pain_nrs": "5"}]).status_code == 200
    reply = world["coordinator"].imports([{**row, "pain_nrs": "6"}], returnFormat="json")
    assert reply.status_code == 400
    assert "frozen" in reply.json()["error"]


@pytest.mark.parametrize("name", ["clinician", "manager", "monitor", "statistician", "administrator"])
def test_who_may_not_enter_may_not_import(world: World, name: str):
    reply = world[name].imports([{**BASE, "pain_nrs": 1}], returnFormat="csv")
    assert (reply.status_code, reply.text) == (403, "ERROR: You do not have API Import/Update privileges")
    with world.database.reading() as session:
        assert len(logged(session, "record.import_refused")) == 1


def test_an_assessor_imports_entries_and_screens_nobody(world: World):
    assert world["assessor"].imports([{**BASE, "pain_nrs": 1, "pain_days": 1}]).status_code == 200
    reply = world["assessor"].imports([{"participant_id": "M-004", **SCREENING}], returnFormat="json")
    assert reply.status_code in (400, 403)
    assert world["assessor"].send("generateNextRecordName").text == "M-004"


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ({"data": "a,b\n1,2\n"}, "The data is not in the specified format."),
        ({"data": "a,b\n1,2\n", "format": "json"}, '{"error":"The data is not in the specified format."}'),
        ({"data": "[1", "format": "csv"}, "ERROR: The data is not in the specified format."),
        ({"data": '[{"a": [1]}]', "format": "json"}, '{"error":"The data is not in the specified format."}'),
        (
            {"data": '<!DOCTYPE a [<!ENTITY b "c">]><a><item>&b;</item></a>', "format": "xml"},
            "The data is not in the specified format.",
        ),
        ({"data": 'a,b\n"1,2\n', "format": "csv"}, "ERROR: The data is not in the specified format."),
    ],
    ids=str,
)
def test_data_in_another_format(world: World, form: dict[str, str], body: str):
    reply = world["coordinator"].send("record", **form)
    assert (reply.status_code, reply.text) == (400, body)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("csv", "participant_id,redcap_event_name,pain_nrs,pain_nrs\nM-001,baseline_arm_1,7,8\n"),
        ("csv", "participant_id,redcap_event_name,pain_nrs, pain_nrs \nM-001,baseline_arm_1,7,\n"),
        (
            "json",
            '[{"participant_id":"M-001","redcap_event_name":"baseline_arm_1","pain_nrs":"7","pain_nrs":"8"}]',
        ),
        (
            "xml",
            "<records><item><participant_id>M-001</participant_id><redcap_event_name>baseline_arm_1</redcap_event_name>"
            "<pain_nrs>7</pain_nrs><pain_nrs>8</pain_nrs></item></records>",
        ),
        (
            "odm",
            ROWS["odm"][1]
            .replace("M-002", "M-001")
            .replace('<ItemData ItemOID="pain_days" Value="2"/>', '<ItemData ItemOID="pain_nrs" Value="2"/>'),
        ),
    ],
    ids=["csv", "csv with blanks", "json", "xml", "odm"],
)
@pytest.mark.parametrize("overwrite", ["normal", "overwrite"])
def test_a_field_that_stands_twice_is_never_guessed(world: World, kind: str, data: str, overwrite: str):
    before = stored(world, "M-001", "baseline", "pain")
    form = {"data": data, "format": kind, "overwriteBehavior": overwrite}
    assert world["coordinator"].refused("record", **form) == (
        "The following fields stand there twice, so that nobody could tell which is meant: pain_nrs. Send each once."
    )
    assert stored(world, "M-001", "baseline", "pain") == before


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"data": "not csv"}, "The following fields were not found in the project as real data fields: not csv"),
        ({"data": "nope,foo\n"}, "The following fields were not found in the project as real data fields: nope, foo"),
        ({"data": "nope,foo\n", "type": "eav"}, "Rows of type eav need the columns record, field_name, value."),
    ],
    ids=str,
)
def test_columns_without_a_row_are_looked_at_all_the_same(world: World, form: dict[str, str], message: str):
    assert world["coordinator"].refused("record", format="csv", **form) == message
    nothing = {"data": "participant_id,redcap_event_name,pain_nrs\n", "format": "csv"}
    assert world["coordinator"].send("record", **nothing).text == "0"
    rows = {"data": "record,redcap_event_name,field_name,value\n", "format": "csv", "type": "eav"}
    assert world["coordinator"].send("record", **rows).text == "0"


def as_eav(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows, a value each."""
    return [
        {"record": row["participant_id"], EVENT: row[EVENT], "field_name": name, "value": value}
        for row in rows
        for name, value in row.items()
        if name not in ("participant_id", EVENT)
    ]


@pytest.mark.parametrize("kind", ["json", "csv", "xml", "eav", "odm"])
@pytest.mark.parametrize("name", ["M-002", "2"], ids=["by one name", "by two names"])
def test_rows_that_contradict_each_other_are_refused_by_their_numbers(world: World, kind: str, name: str):
    rows = [
        {**BASE, "pain_nrs": "4", "pain_days": "2"},
        {"participant_id": "M-001", EVENT: "baseline_arm_1", "pain_nrs": "5"},
        {**BASE, "participant_id": name, "pain_nrs": "6", "pain_days": "2"},
    ]
    form: dict[str, Any] = {"format": "json", "data": json.dumps(rows)}
    first, second = 1, 3
    if kind == "csv":
        lines = [[row.get(each, "") for each in rows[0]] for row in rows]
        form = {"format": "csv", "data": "\n".join([",".join(rows[0]), *(",".join(line) for line in lines)])}
    elif kind == "xml":
        items = "".join(f"<item>{''.join(f'<{k}>{v}</{k}>' for k, v in row.items())}</item>" for row in rows)
        form = {"format": "xml", "data": f"<records>{items}</records>"}
    elif kind == "eav":
        form, second = {"format": "json", "type": "eav", "data": json.dumps(as_eav(rows))}, 4
    elif kind == "odm":
        subjects = "".join(
            f'<SubjectData SubjectKey="{row["participant_id"]}"><StudyEventData StudyEventOID="Event.baseline_arm_1">'
            f'<FormData FormOID="Form.pain"><ItemGroupData><ItemData ItemOID="pain_nrs" Value="{row["pain_nrs"]}"/>'
            "</ItemGroupData></FormData></StudyEventData></SubjectData>"
            for row in rows
        )
        form = {"format": "odm", "data": f"<ODM><ClinicalData>{subjects}</ClinicalData></ODM>"}
    message = world["coordinator"].refused("record", **form)
    words = f"Rows {first} and {second} give different values for this field of the same record, event and instance."
    assert message == f'"M-002","pain_nrs","6","{words} Send one of them."'
    assert stored(world, "M-002", "baseline", "pain") is None


@pytest.mark.parametrize("kind", ["flat", "eav"])
def test_rows_that_complete_each_other_are_one_form(world: World, kind: str):
    """As tables that were put together are: the same again, or a blank, contradicts nothing."""
    rows = [
        {**BASE, "pain_nrs": "4", "pain_where___leg": "1"},
        {**BASE, "pain_nrs": "4.0", "pain_days": "2"},
        {**BASE, "pain_nrs": "", "pain_days": " "},
    ]
    sent = as_eav(rows) if kind == "eav" else rows
    assert world["coordinator"].imports(sent, type=kind).text == '{"count":1}'
    assert stored(world, "M-002", "baseline", "pain") == {"pain_nrs": 4, "pain_days": 2, "pain_where": ["leg"]}
    # Where a blank erases, it contradicts.
    message = world["coordinator"].imports(sent, type=kind, overwriteBehavior="overwrite", returnFormat="csv").text
    assert "give different values for this field" in message
    assert stored(world, "M-002", "baseline", "pain") == {"pain_nrs": 4, "pain_days": 2, "pain_where": ["leg"]}


def test_the_same_form_twice_in_a_document_is_two_rows(world: World):
    once = ROWS["odm"][1].partition("<FormData")[2].partition("</FormData>")[0]
    twice = f"<FormData{once}</FormData><FormData{once}</FormData>".replace('Value="4"', 'Value="5"', 1)
    data = ROWS["odm"][1].replace(f"<FormData{once}</FormData>", twice)
    assert "Rows 1 and 2 give different values" in world["coordinator"].refused("record", format="odm", data=data)


def test_the_first_event_is_the_one_that_is_not_named(world: World):
    """A row without an event, and one that names the first: the same place."""
    said = {"participant_id": "M-004", "age": "44", "pain_screen": "6", "surgery": "0"}
    rows = [said, {**said, EVENT: "screening_arm_1", "age": "45"}]
    assert "Rows 1 and 2 give different values" in world["coordinator"].imports(rows).text
    at = [{**said, "redcap_data_access_group": group} for group in ("north_clinic", "south_clinic")]
    assert "Somebody is screened at one site" in world["both"].imports(at).text
