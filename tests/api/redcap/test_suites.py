"""What the suites of further clients ask for and read: PHPCap, tranpl's for .NET, babylab, id3c, curl."""

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.api.client import application_on
from tests.api.redcap.test_importing import SCREENING
from tests.api.redcap.test_records import EVENT, FORM, NUMBER, WEEK18
from tests.api.redcap.world import Caller, World, add_token
from tests.conftest import OneConnection
from tests.web.test_randomisation import sealed
from tests.web.world import World as Trial

PAIN = {"participant_id": "M-002", EVENT: "baseline_arm_1"}


def test_phpcap_reads_the_columns_it_asked_for_and_no_others(world: World):
    """Neither event nor repeat stands there without the name of the record; of type eav they always do."""
    both = world["both"]
    asked = {"forms[0]": "disability", "events[0]": WEEK18}
    (row,) = both.json("record", **asked)
    assert list(row)[-4:] == ["dis_weight", "dis_on", "dis_score", "disability_complete"]
    assert not {EVENT, FORM, NUMBER} & row.keys()
    assert both.csv("record", fields="pain_note", events="baseline_arm_1") == 'pain_note\n\n"Said ""no"", twice"\n'
    assert "<redcap_" not in both.send("record", fields="pain_nrs", format="xml").text
    one_by_one = both.csv("record", fields="pain_nrs", type="eav")
    assert one_by_one.startswith(f"record,{EVENT},{FORM},{NUMBER},field_name,value")


def test_phpcap_finds_what_a_program_did_in_the_log(world: World):
    both = world["both"]
    row = {"participant_id": "x", "redcap_data_access_group": "north_clinic", **SCREENING}
    assert both.imports([row], forceAutoNumber="true").status_code == 200
    assert both.imports([{**PAIN, "pain_nrs": "1"}]).status_code == 200
    both.csv("record")
    said = {line["action"] for line in both.json("log")}
    assert {"Create record (API) M-004", "Update record (API) M-002", "Data Export (API) "} <= said


def test_babylab_names_each_value_of_a_list_by_itself(world: World):
    both = world["both"]
    wrong = {"instrument": "falls", "event": WEEK18, "repeat_instance": 1, "records[M-999]": "M-999"}
    assert "The following records do not exist: M-999" in both.refused("record", action="delete", **wrong)
    right = {**wrong, "records[M-001]": "M-001"}
    del right["records[M-999]"]
    assert both.send("record", action="delete", returnFormat="json", **right).text == "1"


SIGNS = {"comma": ",", "semiColon": ";", "pipe": "|", "caret": "^", "tab": "\t"}


@pytest.mark.parametrize(("said", "sign"), SIGNS.items())
def test_the_client_for_net_calls_a_delimiter_by_its_name(world: World, said: str, sign: str):
    both = world["both"]
    text = both.csv("record", fields="participant_id,pain_nrs", csvDelimiter=said)
    assert text.startswith(sign.join(["participant_id", EVENT, FORM, NUMBER, "pain_nrs"]))
    data = f"participant_id{sign}{EVENT}{sign}pain_nrs\nM-002{sign}baseline_arm_1{sign}4\n"
    assert both.send("record", format="csv", data=data, csvDelimiter=said).text == "1"


def test_the_client_for_net_writes_an_instant_as_its_system_does(world: World):
    both = world["both"]
    assert both.imports([{**PAIN, "pain_nrs": "1"}]).status_code == 200
    for begin in ("1/2/2024 3:04:05 AM", "01/02/2024 15:04:05"):
        assert {row["participant_id"] for row in both.json("record", dateRangeBegin=begin)} == {"M-002"}
        assert both.json("record", dateRangeEnd=begin) == []


def test_rows_that_curl_sends_as_a_file_are_an_import(world: World):
    """Taken for no data at all, they would be answered with every record there is."""
    both = world["both"]
    rows = f"\ufeffparticipant_id,{EVENT},pain_note\nM-002,baseline_arm_1,Füße\n".encode()
    reply = both.send("record", format="csv", returnContent="ids", files={"data": ("rows.csv", rows, "text/csv")})
    assert reply.text == "id\nM-002\n"
    (row,) = both.json("record", records="M-002", fields="pain_note", events="baseline_arm_1")
    assert row["pain_note"] == "Füße"
    reply = both.send("record", format="csv", files={"data": ("rows.csv", b"\xff\xfe", "text/csv")})
    assert (reply.status_code, reply.json()["error"]) == (
        400,
        "The letters of this call are not in UTF-8. Send it in UTF-8.",
    )
    large = {"data": ("rows.csv", b"a" * 2_100_000, "text/csv")}
    assert both.send("record", format="csv", files=large).status_code == 413


@pytest.mark.parametrize("item", ["record", "row"])
def test_a_document_without_a_row_is_not_counted_as_none(world: World, item: str):
    """It says something, and nothing of it would be kept."""
    data = f"<records><{item}><participant_id>M-002</participant_id></{item}></records>"
    assert world["both"].refused("record", format="xml", data=data) == "The data is not in the specified format."
    assert "<count>0</count>" in world["both"].send("record", format="xml", data="<records></records>").text


def test_a_field_may_be_called_as_the_rows_of_a_document_are(world: World):
    data: Any = f"<x><records><item><participant_id>M-002</participant_id><{EVENT}>baseline_arm_1</{EVENT}>"
    data += "<pain_nrs>4</pain_nrs><item></item></item></records></x>"
    wrong = world["both"].refused("record", format="xml", data=data)
    assert wrong == "The following fields were not found in the project as real data fields: item"
    right = data.replace("<item></item></item>", "</item>")
    assert "<count>1</count>" in world["both"].send("record", format="xml", data=right).text
    assert json.loads(world["both"].imports([PAIN]).text) == {"count": 1}


# What is sent again as it was exported, or meant for one thing among several


@pytest.mark.parametrize("shape", ["json", "csv", "xml"])
def test_a_dictionary_that_says_what_is_there_is_counted(world: World, shape: str):
    both = world["both"]
    sent = both.send("metadata", format=shape).text
    reply = both.send("metadata", format=shape, data=sent)
    assert (reply.status_code, reply.text) == (200, str(len(both.json("metadata"))))
    other = sent.replace("Pain, past week", "Pain, this week")
    assert "never changed" in both.refused("metadata", format=shape, data=other)
    rows = both.json("metadata")
    for wrong in (rows[:-1], [*rows[:-1], rows[0]], [*rows, {**rows[-1], "field_name": "x"}]):
        assert "never changed" in both.refused("metadata", format="json", data=json.dumps(wrong))


def test_paper_of_several_forms_and_events_and_a_blank_one_without_its_choices(world: World):
    both = world["both"]

    def pages(**form: Any) -> bytes:
        reply = both.send("pdf", returnFormat="csv", **form)
        assert reply.content[:5] == b"%PDF-", reply.text
        return bytes(reply.content)

    one = pages(record="M-001", instrument="pain")
    assert len(one) < len(pages(record="M-001", instrument="pain,disability"))
    assert len(pages(record="M-001", instrument="pain", event=f"baseline_arm_1,{WEEK18}")) == len(one)
    assert len(pages(record="M-001", instrument="pain", event=WEEK18)) < len(one)
    assert len(pages(instrument="disability", compactDisplay="1")) < len(pages(instrument="disability"))
    wrong = both.refused("pdf", instrument="pain,x", event=WEEK18)
    assert wrong == "The following values in the parameter \"instrument\" are not valid: 'x'"
    wrong = both.refused("pdf", record="M-001", event="baseline_arm_1,x")
    assert wrong == "The following values in the parameter \"event\" are not valid: 'x'"


def test_an_instance_that_is_not_there_is_neither_deleted_nor_left_out(world: World):
    both, place = world["both"], {"instrument": "falls", "event": WEEK18, "records[0]": "M-001"}
    said = both.refused("record", action="delete", repeat_instance=9, **place)
    assert said == "There is no instance 9 of falls to delete."
    fall = {"participant_id": "M-001", EVENT: WEEK18, FORM: "falls", "fall_where": "Here"}
    reply = both.imports([{**fall, NUMBER: 7}], returnFormat="csv")
    words = "The next instance of falls is 3: none is left out. Send that number, or new."
    assert reply.text == f'ERROR: "M-001","{NUMBER}","7","{words}"'
    assert both.imports([{**fall, NUMBER: 3}, {**fall, NUMBER: 4}]).status_code == 200


def test_files_shared_are_listed_where_none_is_named(world: World):
    assert world["both"].csv("fileRepository") == "folder_id,doc_id,name,role,dag\n"


@pytest.mark.parametrize(
    ("said", "body", "kind"),
    [
        (
            {"format": "json"},
            '{"randomization_id":1,"record":"M-001","target_field":"1","target_field_alt":"*"}',
            "json",
        ),
        (
            {"format": "csv", "returnFormat": "json"},
            "randomization_id,record,target_field,target_field_alt\n1,M-001,1,*\n",
            "csv",
        ),
        (
            {"returnFormat": "xml"},
            '<?xml version="1.0" encoding="UTF-8" ?><item><randomization_id>1</randomization_id><record>M-001</record>'
            "<target_field>1</target_field><target_field_alt>*</target_field_alt></item>",
            "xml",
        ),
    ],
    ids=["json", "csv", "xml"],
)
def test_the_client_for_net_randomises_and_is_answered_in_the_format_it_names(
    shared: Any, said: dict[str, str], body: str, kind: str
):
    """`returnFormat` is that of errors; and the same key is given the same answer again."""
    with shared("sqlite").engine.connect() as connection:
        outer = connection.begin()
        trial = Trial(OneConnection(connection))
        sealed(trial)
        trial.filled()
        actor = trial.coordinators["north"]
        with trial.database.writing() as session:
            token = add_token(session, actor)
        caller = Caller(TestClient(application_on(trial.database), base_url="http://trial.test"), token, actor)
        form = {"action": "randomize", "record": "M-001", "randomization_id": "1", "returnAlt": "True", **said}
        for _ in range(2):
            reply = caller.send("record", headers={"Idempotency-Key": "one"}, **form)
            assert (reply.status_code, reply.text) == (200, body)
            assert f"/{kind};" in reply.headers["content-type"]
        again = caller.send("record", **form)
        assert (again.status_code, "already randomised" in again.text) == (400, True)
        assert f"/{said.get('returnFormat', kind)};" in again.headers["content-type"]
        outer.rollback()
