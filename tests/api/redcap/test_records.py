"""Records as rows: columns and their order, rows and their order, labels, filters, formats; what a group may see."""

import csv
import io
import json
import re
from typing import Any

import pytest
from lxml import etree

from tests.api.redcap.world import World
from tests.conformance import conformance_folder

WEEK18 = "week_18_the_last_o_arm_1"
EVENT, FORM, NUMBER = "redcap_event_name", "redcap_repeat_instrument", "redcap_repeat_instance"


def table(text: str, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


def test_columns_stand_form_by_form_and_rows_by_record_event_and_repeat(world: World):
    rows = world["both"].json("record", type="flat")
    columns = list(rows[0])
    assert columns[:6] == ["participant_id", EVENT, FORM, NUMBER, "age", "pain_screen"]
    assert [name for name in columns if name.endswith("_complete")] == [
        "prescreen_complete",
        "pain_complete",
        "disability_complete",
        "diary_complete",
        "falls_complete",
    ]
    assert columns.index("pain_where___back") < columns.index("pain_where___leg") < columns.index("pain_note")
    assert [(row["participant_id"], row[EVENT], row[FORM], row[NUMBER]) for row in rows] == [
        ("M-001", "screening_arm_1", "", ""),
        ("M-001", "baseline_arm_1", "", ""),
        ("M-001", WEEK18, "", ""),
        ("M-001", WEEK18, "falls", 1),
        ("M-001", WEEK18, "falls", 2),
        ("M-002", "screening_arm_1", "", ""),
        ("M-003", "screening_arm_1", "", ""),
        ("M-003", "baseline_arm_1", "", ""),
    ]


def test_values_are_texts_and_blank_where_nothing_belongs(world: World):
    screening, baseline, week18, fall, *_ = world["both"].json("record")
    assert (screening["age"], screening["surgery"], screening["prescreen_complete"]) == ("44", "0", "2")
    assert (screening["pain_nrs"], screening["pain_where___back"], screening["pain_complete"]) == ("", "", "")
    assert (baseline["pain_where___back"], baseline["pain_where___leg"]) == ("1", "0")
    assert (week18["pain_days"], week18["pain_complete"]) == ("UNK", "0")
    assert (week18["dis_weight"], week18["dis_items___24"], week18["dis_items___2"]) == ("71.5", "1", "0")
    assert (week18["diary_complete"], week18["falls_complete"], week18["fall_where"]) == ("0", "", "")
    assert (fall["fall_where"], fall["falls_complete"], fall["pain_complete"]) == ("At home", "2", "")


@pytest.mark.requirement("SEC-3")
def test_csv_is_quoted_as_clients_expect(world: World):
    text = world["both"].csv("record", fields="participant_id,pain_note,fall_where,fall_hurt")
    assert text.startswith(
        "participant_id,redcap_event_name,redcap_repeat_instrument,redcap_repeat_instance,pain_note,"
    )
    assert f'M-001,{WEEK18},falls,2,,"In the street,\nat night",\n' in text
    assert 'M-003,baseline_arm_1,,,"Said ""no"", twice",,\n' in text
    assert "\r" not in text


@pytest.mark.parametrize(("said", "sign"), [(",", ","), ("tab", "\t"), (";", ";"), ("|", "|"), ("^", "^"), ("", ",")])
def test_each_delimiter(world: World, said: str, sign: str):
    text = world["both"].csv("record", fields="participant_id,pain_note", csvDelimiter=said)
    rows = table(text, sign)
    assert rows[-1]["pain_note"] == 'Said "no", twice'
    assert len(rows) == 6


def test_eav_has_one_row_for_each_value(world: World):
    rows = world["both"].json("record", type="eav", records="M-001")
    assert list(rows[0]) == ["record", EVENT, FORM, NUMBER, "field_name", "value"]
    at = [(row["field_name"], row["value"]) for row in rows if row[EVENT] == WEEK18 and not row[FORM]]
    assert at == [
        ("participant_id", "M-001"),
        ("pain_nrs", "2"),
        ("pain_days", "UNK"),
        ("pain_complete", "0"),
        ("dis_items", "1"),
        ("dis_items", "24"),
        ("dis_weight", "71.5"),
        ("dis_on", "2026-03-02"),
        ("disability_complete", "2"),
        ("dis_score", "2"),
    ]
    assert [row["value"] for row in rows if row["field_name"] == "fall_where"] == [
        "At home",
        "In the street,\nat night",
    ]


def test_eav_says_when_a_survey_was_answered_as_the_flat_rows_do(world: World):
    for row in ({"diary_slept": "1"}, {"diary_slept": "1", "diary_time": "07:10", "diary_complete": "2"}):
        assert world["both"].imports([{"participant_id": "M-002", EVENT: WEEK18, **row}]).status_code == 200
        asked = {"records": "M-002", "forms": "diary", "events": WEEK18, "exportSurveyFields": "true"}
        (flat,) = world["both"].json("record", **asked)
        assert flat["diary_timestamp"]
        rows = world["both"].json("record", type="eav", **asked)
        assert rows[0]["field_name"] == "diary_timestamp"
        assert rows[0]["value"] == flat["diary_timestamp"]
    assert re.fullmatch(r"20[0-9-]{8} [0-9:]{8}", flat["diary_timestamp"])
    rows = world["both"].json("record", type="eav", records="M-002", forms="diary")
    assert "diary_timestamp" not in {row["field_name"] for row in rows}


def test_labels(world: World):
    rows = world["both"].json("record", rawOrLabel="label", records="M-001")
    assert [rows[2][EVENT], rows[3][FORM]] == ["Week 18, the last one of all", "Falls"]
    assert [rows[0]["surgery"], rows[0]["prescreen_complete"], rows[2]["pain_complete"]] == [
        "No",
        "Complete",
        "Incomplete",
    ]
    assert [rows[1]["pain_where___back"], rows[1]["pain_where___leg"]] == ["Checked", "Unchecked"]
    assert [rows[2]["pain_days"], rows[3]["fall_hurt"]] == ["Unknown", "Badly, twice"]
    rows = world["both"].json("record", rawOrLabel="label", exportCheckboxLabel="True", records="M-001")
    assert [rows[1]["pain_where___back"], rows[1]["pain_where___leg"]] == ["Back", ""]


def test_label_headers(world: World):
    text = world["both"].csv("record", forms="pain", fields="participant_id", rawOrLabelHeaders="label")
    header = next(csv.reader(io.StringIO(text)))
    assert header[:2] == ["Participant ID", "Event Name"]
    assert "Where it hurts (choice=Back)" in header
    assert header[-1] == "Complete?"


@pytest.mark.parametrize(
    ("form", "columns"),
    [
        ({"fields": "pain_nrs"}, ["pain_nrs"]),
        ({"fields[0]": "participant_id", "fields[1]": "pain_nrs"}, ["participant_id", "pain_nrs"]),
        ({"fields[]": ["pain_complete"]}, ["pain_complete"]),
        ({"forms": "diary"}, ["diary_slept", "diary_time", "diary_complete"]),
        ({"forms": "prescreen"}, ["participant_id", "age", "pain_screen", "surgery", "prescreen_complete"]),
        ({"forms[1]": "diary", "fields[1]": "age"}, ["age", "diary_slept", "diary_time", "diary_complete"]),
        ({"fields": "pain_nrs", "exportDataAccessGroups": "true"}, ["redcap_data_access_group", "pain_nrs"]),
        (
            {"forms": "diary", "exportSurveyFields": "True"},
            ["redcap_survey_identifier", "diary_timestamp", "diary_slept", "diary_time", "diary_complete"],
        ),
        (
            {"fields[1]": "diary_time", "fields[2]": "pain_nrs", "exportSurveyFields": "true"},
            ["redcap_survey_identifier", "pain_nrs", "diary_timestamp", "diary_time"],
        ),
    ],
    ids=str,
)
def test_what_is_selected(world: World, form: dict[str, Any], columns: list[str]):
    rows = world["both"].json("record", **form)
    # Where a row belongs is said with the name of the record, and without it not at all.
    place = [EVENT, FORM, NUMBER] if columns[0] == "participant_id" else []
    assert list(rows[0]) == [*columns[:1], *place, *columns[1:]]
    headers = world["both"].csv("record", rawOrLabelHeaders="label", **form).partition("\n")[0]
    assert ("Event Name" in headers) is bool(place)


def test_records_and_events_are_selected_in_every_encoding(world: World):
    ways: list[dict[str, Any]] = [
        {"records": "M-001,M-003"},
        {"records[0]": "M-001", "records[1]": "M-003"},
        {"records[1]": "M-001", "records[2]": "M-003"},
        {"records[]": ["M-001", "M-003"]},
        {"records[M-001]": "M-001", "records[M-003]": "M-003"},  # as one client names each value by itself
        {"records": ["M-001", "M-003"]},
    ]
    for way in ways:
        rows = world["both"].json("record", events="baseline_arm_1", fields="participant_id", **way)
        assert [row["participant_id"] for row in rows] == ["M-001", "M-003"], way
    multipart = world["both"].send("record", format="json", files={"ignored": b""}, **ways[0])
    assert {row["participant_id"] for row in multipart.json()} == {"M-001", "M-003"}
    assert world["both"].json("record", records="nobody") == []
    assert world["both"].csv("record", records="nobody", fields="age") == "age\n"


@pytest.mark.parametrize(
    ("logic", "found"),
    [
        ("[pain_nrs] > 4", ["M-001 baseline_arm_1", "M-003 baseline_arm_1"]),
        ("[pain_nrs] > 4 and [pain_where(back)] = '1'", ["M-001 baseline_arm_1"]),
        ("[pain_where___back] = 1", ["M-001 baseline_arm_1"]),
        ("[participant_id] = 'M-002'", ["M-002 screening_arm_1"]),
        ("[baseline_arm_1][pain_nrs] = 9", ["M-003 screening_arm_1", "M-003 baseline_arm_1"]),
        ("[event-name] = 'baseline_arm_1' and [record-dag-name] = 'south_clinic'", ["M-003 baseline_arm_1"]),
        ("[disability_complete] = 2", [f"M-001 {WEEK18}"]),
        ("contains([pain_note], 'twice')", ["M-003 baseline_arm_1"]),
        ("[surgery] = '0' and [age] < 40", []),
    ],
)
def test_filter_logic(world: World, logic: str, found: list[str]):
    rows = world["both"].json("record", filterLogic=logic, fields="participant_id,pain_nrs")
    assert [f"{row['participant_id']} {row[EVENT]}" for row in rows] == found


def test_a_filter_sees_the_repeat_of_its_row(world: World):
    rows = world["both"].json("record", filterLogic="contains([fall_where], 'street')")
    assert [(row[FORM], row[NUMBER]) for row in rows] == [("falls", 2)]


FIRST, BASE, LAST = "screening_arm_1", "baseline_arm_1", WEEK18


@pytest.mark.parametrize(
    ("logic", "rows"),
    [
        # Events by where they stand, among those of the form: a pre-screen has no pain, and week 18 has no next one.
        ("[first-event-name][age] = 44", [FIRST, BASE, LAST, 1, 2]),
        ("[first-event-name][pain_nrs] = 5", [FIRST, BASE, LAST, 1, 2]),
        ("[last-event-name][pain_nrs] = 2", [FIRST, BASE, LAST, 1, 2]),
        ("[previous-event-name][pain_nrs] = 5", [LAST, 1, 2]),
        ("[next-event-name][pain_nrs] = 5", [FIRST]),
        ("[next-event-name][pain_nrs] = 2", [BASE]),
        ("[event-name][pain_nrs] = 2", [LAST, 1, 2]),
        # Repeats by where they stand, beside the one that is numbered.
        ("[fall_where][first-instance] = 'At home'", [LAST, 1, 2]),
        ("contains([fall_where][last-instance], 'street')", [LAST, 1, 2]),
        ("contains([fall_where][next-instance], 'street')", [LAST, 1]),
        ("[fall_where][previous-instance] = 'At home'", [2]),
        ("[fall_where][current-instance] = 'At home'", [LAST, 1]),
        ("[fall_where][2] <> ''", [LAST, 1, 2]),
        # What is asked of a row beside its fields.
        ("[event-label] = 'Baseline' and [event-number] = 2", [BASE]),
        ("[current-instance] = 2", [2]),
        ("[instrument-name] = 'falls' and [instrument-label] = 'Falls'", [1, 2]),
        ("[arm-number] = 1 and [arm-label] = 'Arm 1' and [user-name] = 'both'", [FIRST, BASE, LAST, 1, 2]),
        ("[record-dag-label] = 'North clinic' and [record-dag-id] > 0", [FIRST, BASE, LAST, 1, 2]),
        ("[record-dag-name] = 'north_clinic' and [record-name] = 'M-001'", [FIRST, BASE, LAST, 1, 2]),
        ("[user-name] = 'manager'", []),
        ("mod([event-id], 1000) = 2", [BASE]),
        ("[previous-event-label] = 'Screening' and [next-event-label] <> ''", [BASE]),
        ("[first-event-label] = 'Screening' and [last-event-label] = [event-label]", [LAST, 1, 2]),
        (
            "[user-fullname] <> '' and [user-dag-name] = '' and [project-status] = 'Production'",
            [FIRST, BASE, LAST, 1, 2],
        ),
        ("[redcap-version] = '16.0.8' and [project-status] = 'Production'", [FIRST, BASE, LAST, 1, 2]),
        # The words of a choice, and those of the choices that are ticked or not.
        ("[fall_hurt:label] = 'Badly, twice'", [LAST, 1]),
        ("[baseline_arm_1][pain_where:checked] = 'Back'", [FIRST, BASE, LAST, 1, 2]),
        ("contains([baseline_arm_1][pain_where:unchecked], 'Leg')", [FIRST, BASE, LAST, 1, 2]),
        ("[fall_hurt:value] = '2'", [LAST, 1]),
        # What comes next, who asks, and where things are.
        ("[new-instance] = 3", [1, 2]),
        ("[fall_where][new-instance] = '' and [fall_where][current-instance] <> ''", [LAST, 1, 2]),
        ("[user-email] = 'both@example.org' and [project-irb-number] = ''", [FIRST, BASE, LAST, 1, 2]),
        ("ends_with([redcap-base-url], '/') and ends_with([survey-base-url], '/surveys/')", [FIRST, BASE, LAST, 1, 2]),
        ("ends_with([form-url], '/mini/participants/M-001/visits/week18/entries/falls/2')", [2]),
        ("ends_with([form-url:pain], '/mini/participants/M-001/visits/baseline/entries/pain')", [BASE]),
        ("ends_with([form-url:prescreen], '/mini/participants/M-001')", [FIRST]),
        ("contains([form-link:falls], '>Falls</a>') and [current-instance] = 1", [1]),
        ("[survey-date-completed:diary] = '' and [survey-time-completed] = ''", [FIRST, BASE, LAST, 1, 2]),
    ],
)
def test_a_filter_finds_other_events_and_repeats_and_knows_its_row(world: World, logic: str, rows: list[Any]):
    found = world["both"].json("record", filterLogic=logic, records="M-001", fields="participant_id", forms="falls")
    assert [row[NUMBER] or row[EVENT] for row in found] == rows


@pytest.mark.parametrize(
    ("logic", "words"),
    [
        (
            "[rand-number] = 1",
            "[rand-number]: nothing of an allocation is in any answer, since blinded",
        ),
        ("[rand-time:1:value] <> ''", "[rand-time:1]: nothing of an allocation"),
        ("[aggregate-mean:pain_nrs] > 1", "[aggregate-mean:pain_nrs]: a condition is about one row."),
        ("[user-role-name] = 'x'", "[user-role-name]: people may hold several roles."),
        ("[survey-date-completed:pain] <> ''", "[survey-date-completed:pain]: participants do not fill in that form."),
        (
            "[survey-time-started:diary] <> ''",
            "[survey-time-started:diary]: when somebody began a form is in no export.",
        ),
        ("[survey-duration:diary] > 1", "[survey-duration:diary]: how long somebody took is not kept."),
        ("[survey-url:diary] <> ''", "[survey-url:diary]: a link is made for one person, is shown once"),
        ("[survey-queue-link] <> ''", "[survey-queue-link]: a link is made for one person"),
        ("[calendar-url] <> ''", "[calendar-url]: the address of a calendar"),
        ("[form-url:nothing] <> ''", "there is no field [form-url:nothing]"),
        ("[is-form] = 1", "[is-form]: an export is neither form nor survey."),
        ("[pain_nrs:checked] = ''", "there is no field [pain_nrs:checked]"),
        ("[nothing:label] = ''", "there is no field [nothing:label]"),
    ],
)
def test_a_filter_that_cannot_be_answered_says_why(world: World, logic: str, words: str):
    assert words in world["both"].refused("record", filterLogic=logic)


def test_a_filter_knows_when_participants_completed_a_form(world: World):
    rows = [{"participant_id": "M-001", EVENT: WEEK18, "diary_slept": "1", "diary_complete": "2"}]
    day = (
        "datediff([survey-date-completed:diary], 'today', 'd') = 0 and "
        "datediff([survey-time-completed:diary], 'now', 'h') < 1"
    )

    def found() -> list[str]:
        return [row[EVENT] for row in world["both"].json("record", filterLogic=day, fields="participant_id")]

    assert found() == []
    assert world["coordinator"].imports(rows).status_code == 200
    assert set(found()) == {WEEK18}


@pytest.mark.parametrize("logic", ["[pain_nrs] >", "[no_such] = 1", "[no_event][pain_nrs] = 1", "__import__('os')"])
def test_a_filter_that_means_nothing_says_why(world: World, logic: str):
    assert world["both"].refused("record", filterLogic=logic).startswith("The filterLogic is not valid: ")


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("fields", "x", "The following values in the parameter \"fields\" are not valid: 'x'"),
        ("forms", "x,pain", "The following values in the parameter \"forms\" are not valid: 'x'"),
        ("events", "x", "The following values in the parameter \"events\" are not valid: 'x'"),
        ("rawOrLabel", "x", 'The value of the parameter "rawOrLabel" is not valid'),
        ("csvDelimiter", "x", 'The value of the parameter "csvDelimiter" is not valid'),
        ("dateRangeBegin", "x", 'The value of the parameter "dateRangeBegin" is not valid'),
        ("exportSurveyFields", "perhaps", 'The value of the parameter "exportSurveyFields" is not valid'),
        ("format", "yaml", 'The value of the parameter "format" is not valid'),
    ],
)
def test_what_is_not_valid_is_named(world: World, parameter: str, value: str, message: str):
    assert world["both"].refused("record", **{parameter: value}) == message


def test_parameters_that_are_sent_empty_were_not_sent(world: World):
    names = ("records", "fields", "forms", "events", "filterLogic", "dateRangeBegin", "dateRangeEnd", "csvDelimiter")
    assert world["both"].csv("record", **dict.fromkeys(names, "")) == world["both"].csv("record")


def test_blank_status_and_decimal_character(world: World):
    rows = world["both"].json("record", exportBlankForGrayFormStatus="TRUE", records="M-001", decimalCharacter=",")
    assert (rows[2]["diary_complete"], rows[2]["pain_complete"], rows[2]["dis_weight"]) == ("", "0", "71,5")
    rows = world["both"].json("record", exportBlankForGrayFormStatus="FALSE", records="M-001", decimalCharacter=".")
    assert (rows[2]["diary_complete"], rows[2]["dis_weight"]) == ("0", "71.5")


def test_choices_of_one_field_can_stand_in_one_column(world: World):
    rows = world["both"].json("record", combineCheckboxOptions="true", records="M-001")
    assert (rows[1]["pain_where"], rows[2]["dis_items"]) == ("back", "1,24")


def test_only_what_changed_between_two_instants(world: World):
    saved = world["both"].imports(
        [{"participant_id": "M-002", EVENT: "baseline_arm_1", "pain_nrs": "1", "pain_days": "1"}]
    )
    assert saved.status_code == 200, saved.text
    rows = world["both"].json("record", dateRangeBegin="2020-01-01 00:00:00", fields="participant_id")
    assert {row["participant_id"] for row in rows} == {"M-002"}
    assert world["both"].json("record", dateRangeEnd="2020-01-01 00:00:00") == []
    assert world["both"].json("record", dateRangeBegin="2999-01-01 00:00:00") == []


def test_groups(world: World):
    rows = world["both"].json("record", exportDataAccessGroups="true", fields="participant_id")
    assert {row["participant_id"]: row["redcap_data_access_group"] for row in rows} == {
        "M-001": "north_clinic",
        "M-002": "north_clinic",
        "M-003": "south_clinic",
    }
    labelled = world["both"].json("record", exportDataAccessGroups="true", rawOrLabel="label", fields="participant_id")
    assert labelled[-1]["redcap_data_access_group"] == "South clinic"
    # Whoever works at one site sees its records alone, and no column.
    mine = world["southern"].json("record", exportDataAccessGroups="true", fields="participant_id")
    assert mine == [
        {"participant_id": "M-003", EVENT: "screening_arm_1", FORM: "", NUMBER: ""},
        {"participant_id": "M-003", EVENT: "baseline_arm_1", FORM: "", NUMBER: ""},
    ]


def test_xml(world: World):
    reply = world["both"].send("record", forms="pain")
    assert reply.headers["content-type"] == "text/xml; charset=utf-8"
    root = etree.fromstring(reply.content)
    assert root.tag == "records"
    assert {each.tag for each in root} == {"item"}
    assert root[-1].findtext("pain_note") == 'Said "no", twice'


def test_odm_holds_the_study_and_every_value(world: World):
    root = etree.fromstring(world["both"].send("record", format="odm").content)
    odm = {"o": "http://www.cdisc.org/ns/odm/v1.3"}
    assert root.get("ODMVersion") == "1.3.1"
    defined = {each.get("OID") for each in root.iterfind(".//o:ItemDef", odm)}
    data = root.findall(".//o:ItemData", odm)
    assert {each.get("ItemOID") for each in data} <= defined
    falls = root.findall(".//o:FormData[@FormOID='Form.falls']", odm)
    assert [each.get("FormRepeatKey") for each in falls] == ["1", "2"]
    assert "In the street,\nat night" in {each.get("Value") for each in data}
    xml = world["both"].send("project_xml", returnMetadataOnly="true").text
    assert "ClinicalData" not in xml
    assert 'redcap:RecordIdField="participant_id"' in xml


@pytest.mark.requirement("ODM-1")
def test_odm_follows_the_published_schema_but_for_the_attributes_of_these_clients(world: World):
    """The schema of 1.3.2, which says the same of these parts as that of 1.3.1 and names another version."""
    root = etree.fromstring(world["both"].send("record", format="odm").content)
    foreign = "{https://projectredcap.org}"
    for each in list(root.iter()):
        if isinstance(each.tag, str) and each.tag.startswith(foreign):
            each.getparent().remove(each)  # type: ignore[union-attr]
        for name in [name for name in each.attrib if str(name).startswith(foreign)]:
            del each.attrib[name]
    root.set("ODMVersion", "1.3.2")
    schema = etree.XMLSchema(file=str(next(conformance_folder().glob("odm-1.3.2/**/ODM1-3-2.xsd"))))
    assert schema.validate(root), str(schema.error_log)


def test_that_records_were_taken_is_in_the_log(world: World):
    assert world["manager"].json("record", records="M-001")
    log = world["manager"].json("log", logtype="export")
    assert [(line["username"], line["action"], line["details"]) for line in log] == [
        ("manager", "Data Export (API) ", "export.delivered export/redcap_records"),
        ("manager", "Data Export (API) ", "export.run export/redcap_records"),
    ]


@pytest.mark.requirement("SEC-19", "E6-6")
def test_everybody_exports_what_their_role_lets_them_read(world: World):
    seen = {}
    for name, caller in world.callers.items():
        reply = caller.send("record", format="json", fields="participant_id")
        seen[name] = {row["participant_id"] for row in reply.json()} if reply.status_code == 200 else reply.status_code
    north = {"M-001", "M-002"}
    every = {*north, "M-003"}
    assert seen == {
        "coordinator": north,
        "southern": {"M-003"},
        "assessor": north,
        "clinician": 403,
        "investigator": north,
        "manager": every,
        "monitor": every,
        "statistician": every,
        "administrator": 403,
        "both": every,
    }


def test_a_report_is_rows_without_line_breaks(world: World):
    rows = world["both"].json("report", report_id="6", rawOrLabel="raw", csvDelimiter=",")
    assert [row["fall_where"] for row in rows if row[FORM]] == ["At home", "In the street, at night"]
    assert len(world["both"].json("report", report_id="1")) == 8
    assert world["both"].refused("report", report_id="99") == (
        "The report with report_id=99 does not exist in this project."
    )


def test_an_empty_body_is_refused_in_the_shape_that_was_asked_for(world: World):
    for shape, begins in (
        ("csv", "ERROR: "),
        ("json", '{"error":"'),
        ("xml", '<?xml version="1.0" encoding="UTF-8" ?>'),
    ):
        reply = world["both"].send("record", fields="x", returnFormat=shape, format="json")
        assert reply.text.startswith(begins)
    assert json.loads(world["both"].send("record", fields="x", format="json").text)["error"]
    assert world["both"].send("record", fields="x").text.endswith("</error></hash>")


def test_whoever_works_at_one_site_has_its_group_in_a_condition(world: World):
    for name, group in (("coordinator", "North clinic"), ("southern", "South clinic")):
        logic = f"[user-dag-label] = '{group}' and [user-dag-id] = [record-dag-id]"
        assert world[name].json("record", filterLogic=logic), name
        assert not world["manager"].json("record", filterLogic=logic)
