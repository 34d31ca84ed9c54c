"""What each known client sends for its usual work, byte for byte as it encodes it; and whatever else somebody sends."""

import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st

from app.api.redcap.decoding import Call
from app.api.redcap.door import DOORS
from app.api.redcap.records import instant_of
from tests.api.redcap.test_records import EVENT, FORM, NUMBER, WEEK18, table
from tests.api.redcap.world import World


def urlencoded(world: World, body: list[tuple[str, str]]) -> Any:
    """One body as REDCapR, RedcapLite and REDCap.jl send it."""
    text = urlencode([("token", world["both"].token), *body])
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return world.http.post("/api/", content=text, headers=headers)


def multipart(world: World, body: list[tuple[str, str]]) -> Any:
    """One body as redcapAPI sends every call."""
    lines = []
    for name, value in [("token", world["both"].token), *body]:
        lines.append(f'--sep\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n')
    text = "".join([*lines, "--sep--\r\n"])
    headers = {"content-type": "multipart/form-data; boundary=sep"}
    return world.http.post("/api/", content=text.encode(), headers=headers)


def test_a_read_and_a_write_of_redcapr(world: World):
    """Lists with commas, options sent empty, metadata as JSON, everything else as CSV; only status 200 is good."""
    for content in ("exportFieldNames", "metadata", "instrument", "project", "dag"):
        shape = "json" if content == "metadata" else "csv"
        reply = urlencoded(world, [("content", content), ("format", shape)])
        assert reply.status_code == 200, content
    common = [
        ("content", "record"),
        ("format", "csv"),
        ("type", "flat"),
        ("rawOrLabel", "raw"),
        ("rawOrLabelHeaders", "raw"),
        ("exportSurveyFields", "false"),
        ("exportDataAccessGroups", "false"),
        ("filterLogic", ""),
        ("dateRangeBegin", ""),
        ("dateRangeEnd", ""),
        ("exportBlankForGrayFormStatus", "FALSE"),
    ]
    ids = table(
        urlencoded(world, [*common, ("records", ""), ("fields", "participant_id"), ("forms", ""), ("events", "")]).text
    )
    assert {row["participant_id"] for row in ids} == {"M-001", "M-002", "M-003"}
    body = [
        *common,
        ("records", "M-001,M-002,M-003"),
        ("fields", "participant_id,age"),
        ("forms", "pain"),
        ("events", ""),
    ]
    rows = table(urlencoded(world, body).text)
    assert len(rows) == 6
    assert rows[1]["pain_nrs"] == "5"
    data = f"participant_id,{EVENT},pain_nrs,pain_days,pain_complete\nM-002,baseline_arm_1,3,2,2\n"
    write = [
        ("content", "record"),
        ("format", "csv"),
        ("type", "flat"),
        ("data", data),
        ("overwriteBehavior", "overwrite"),
        ("returnContent", "ids"),
        ("returnFormat", "csv"),
    ]
    assert urlencoded(world, write).text == "id\nM-002\n"
    delete = [("content", "record"), ("action", "delete"), ("records[0]", "nobody"), ("returnFormat", "csv")]
    reply = urlencoded(world, delete)
    assert reply.status_code == 400
    assert reply.text.startswith("ERROR: One or more of the records provided cannot be deleted")


def test_a_read_and_a_write_of_redcapapi(world: World):
    """Multipart for every call, lists from 1, a charset in every answer."""
    for content in ("version", "metadata", "exportFieldNames", "project", "user", "event", "arm", "formEventMapping"):
        reply = multipart(
            world, [("content", content), ("format", "csv"), ("returnFormat", "csv"), ("csvDelimiter", ",")]
        )
        assert reply.status_code == 200, reply.text
        assert "charset=utf-8" in reply.headers["content-type"].lower()
        assert "<html" not in reply.text
    ids = multipart(world, [("content", "record"), ("fields[1]", "participant_id"), ("outputFormat", "csv")])
    assert ids.text.startswith(f"participant_id,{EVENT}")
    body = [
        ("content", "record"),
        ("format", "csv"),
        ("type", "eav"),
        ("records[1]", "M-001"),
        ("fields[1]", "pain_nrs"),
    ]
    assert [row["value"] for row in table(multipart(world, body).text)] == ["5", "2"]
    data = f"participant_id,{EVENT},pain_nrs\nM-002,{WEEK18},3\n"
    write = [
        ("content", "record"),
        ("format", "csv"),
        ("type", "flat"),
        ("overwriteBehavior", "normal"),
        ("forceAutoNumber", "false"),
        ("returnContent", "count"),
        ("returnFormat", "csv"),
        ("data", data),
    ]
    assert multipart(world, write).text == "1"
    wrong = multipart(world, [*write[:-1], ("data", data.replace(",3", ",31"))])
    assert wrong.status_code == 400


def test_calls_of_redcaplite_and_of_redcap_jl(world: World):
    """The one names the action and wants errors as JSON; the other names no format at all, which is XML."""
    body = [
        ("content", "record"),
        ("action", "export"),
        ("format", "json"),
        ("returnFormat", "json"),
        ("records[0]", "M-003"),
    ]
    assert [row["participant_id"] for row in urlencoded(world, body).json()] == ["M-003", "M-003"]
    data = f"participant_id,{EVENT},pain_nrs\nM-002,{WEEK18},3\n"
    body = [
        ("content", "record"),
        ("action", "import"),
        ("format", "csv"),
        ("returnFormat", "json"),
        ("returnContent", "ids"),
        ("data", data),
    ]
    assert urlencoded(world, body).json() == ["M-002"]
    assert urlencoded(world, [("content", "record"), ("action", "rename"), ("format", "json"), ("record", "x")]).json()[
        "error"
    ]
    assert urlencoded(world, [("content", "arm")]).text.startswith(
        '<?xml version="1.0" encoding="UTF-8" ?>\n<arms><item>'
    )
    assert urlencoded(world, [("content", "log"), ("beginTime", "2999-01-01"), ("format", "json")]).text == "[]"
    assert urlencoded(world, [("content", "generateNextRecordName")]).text == "M-004"


def curl(world: World, body: bytes, *, charset: str = "") -> Any:
    """A body as `curl -d` sends it: its bytes as they are."""
    headers = {"content-type": "application/x-www-form-urlencoded" + charset}
    return world.http.post("/api/", content=b"token=" + world["both"].token.encode() + b"&" + body, headers=headers)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Zu Hause, Tür; auf=zu", "Zu Hause, Tür; auf=zu"),  # nothing encoded but the signs of a form
        ("Zu+Hause%2C T%C3%BCr 50%", "Zu Hause, Tür 50%"),  # encoded here and there, and a sign that encodes nothing
        ("家で", "家で"),
    ],
)
def test_letters_come_in_as_they_were_sent(world: World, text: str, kept: str):
    data = f'[{{"participant_id":"M-002","{EVENT}":"{WEEK18}","{FORM}":"falls","{NUMBER}":1,"fall_where":"{text}"}}]'
    reply = curl(world, f"content=record&format=json&returnFormat=csv&data={data}".encode())
    assert (reply.status_code, reply.text) == (200, "1")
    rows = world["both"].json("record", records="M-002", fields="participant_id", forms="falls", events=WEEK18)
    assert [row["fall_where"] for row in rows if row[FORM] == "falls"] == [kept]


def test_letters_of_another_encoding_are_read_where_it_is_named_and_refused_where_not(world: World):
    """A guess would be kept as an answer; a sign in its place, too."""
    wanted = "The following values in the parameter \"fields\" are not valid: 'Tür'"
    for sent in (b"T%FCr", b"T\xfcr"):
        body = b"content=record&format=csv&fields=" + sent
        for charset in ("; charset=ISO-8859-1", ';charset="windows-1252"'):
            assert curl(world, body, charset=charset).text == f"ERROR: {wanted}"
        for charset in ("", "; charset=utf-8", "; charset=idna", "; charset=unicode_escape"):
            reply = curl(world, body, charset=charset)
            assert reply.status_code == 400
            assert reply.json()["error"] == "The letters of this call are not in UTF-8. Send it in UTF-8."
    body = "content=record&format=csv&fields=Tür".encode()
    assert curl(world, body, charset="; charset=UTF-8").text == f"ERROR: {wanted}"


def test_no_call_has_parameters_without_end(world: World):
    reply = curl(world, b"content=version&" + b"a=1&" * 100_001)
    assert (reply.status_code, "error" in reply.json()) == (413, True)
    assert curl(world, b"content=version&" + b"a&=&&" * 1_000).text == "16.0.8"


def test_what_asks_for_json_by_name_is_answered_so(world: World):
    """RedcapLite reads the answer of every call that has a format as JSON, with nothing in it or not."""
    body = [("content", "generateNextRecordName"), ("format", "json"), ("returnFormat", "json")]
    assert urlencoded(world, body).json() == "M-004"
    assert urlencoded(world, [("content", "generateNextRecordName"), ("format", "csv")]).text == "M-004"
    assert urlencoded(world, [("content", "generateNextRecordName"), ("returnFormat", "json")]).text == "M-004"


def test_names_that_are_no_numbers_are_not_called_so(world: World):
    """REDCapR makes whole numbers of the names where records are numbered, which would leave none of them."""
    body = [("content", "project"), ("format", "csv")]
    (about,) = table(urlencoded(world, body).text)
    assert about["record_autonumbering_enabled"] == "0"
    xml = urlencoded(world, [("content", "project_xml"), ("returnMetadataOnly", "true")]).text
    assert "<redcap:RecordAutonumberingEnabled>0<" in xml


def test_a_table_that_was_read_as_numbers_says_the_same(world: World):
    """pandas writes 1.0 for 1 where a column has blanks: the groups of users, and the repeats of records."""
    users = world["both"].csv("user")
    (first, *_) = table(users)
    group = first["data_access_group_id"]
    assert group
    written = users.replace(f",{group},", f",{group}.0,")
    assert written != users
    assert world["both"].send("user", format="csv", data=written, returnFormat="json").text == str(len(table(users)))
    wrong = users.replace(f",{group},", f",{group}.5,")
    assert world["both"].send("user", format="csv", data=wrong, returnFormat="json").status_code == 400
    row = f"participant_id,{EVENT},{FORM},{NUMBER},fall_where\nM-001,{WEEK18},falls,2.0,On the stairs\n"
    assert world["both"].send("record", format="csv", data=row).text == "1"
    rows = world["both"].json("record", records="M-001", fields="participant_id,fall_where", events=WEEK18)
    assert [each["fall_where"] for each in rows if each[FORM]] == ["At home", "On the stairs"]
    assert world["both"].send("record", format="csv", data=row.replace("2.0", "2.5")).status_code == 400


def test_records_that_were_read_as_numbers_come_back(world: World):
    """What pandas makes of an export, and of each kind of answer: a number is the same with .0, a text is not."""
    both = world["both"]
    sent = both.csv("record", records="M-001")
    numbers = "\n".join(re.sub(r"(?<=,)([0-9]+)(?=,|$)", r"\1.0", line) for line in sent.splitlines())
    assert numbers.count(".0") > 30
    for kind in ("normal", "overwrite"):
        reply = both.send("record", format="csv", data=numbers, overwriteBehavior=kind, returnFormat="csv")
        assert (reply.status_code, reply.text) == (200, "1"), kind
    assert both.csv("record", records="M-001") == sent
    row = {"participant_id": "M-002", EVENT: WEEK18, "pain_nrs": 3.0, "pain_where___back": "1.0", "pain_note": "4.0"}
    assert both.imports([{**row, "dis_weight": "70.0", "dis_items___2": 0.0, "pain_complete": "0.0"}]).text
    (found,) = both.json("record", records="M-002", events=WEEK18, forms="pain,disability")
    kept = ("3", "1", "4.0", "70", "0")
    names = ("pain_nrs", "pain_where___back", "pain_note", "dis_weight", "pain_complete")
    assert tuple(found[name] for name in names) == kept
    for name, value in (("pain_nrs", "3.5"), ("pain_where___back", "1.5"), ("pain_complete", "1.5")):
        assert both.imports([{**row, name: value}]).status_code == 400, name


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2026-03-02 09:30:15", (9, 30, 15, 0)),
        ("2026-03-02 09:30", (9, 30, 0, 0)),
        ("2026-03-02", (0, 0, 0, 0)),
        ("2026-03-02 24:00", (23, 59, 59, 999_999)),
        # As releases of redcapAPI write a begin and an end: `%H:%M:S`, and `%H:M%:%S`.
        ("2026-03-02 09:30:S", (9, 30, 0, 0)),
        ("2026-03-02 09:M%:15", (9, 59, 59, 0)),
    ],
)
def test_a_time_as_any_client_writes_it(said: str, meant: tuple[int, int, int, int]):
    found = instant_of(Call({"dateRangeEnd": [said]}), "dateRangeEnd")
    assert found == datetime(2026, 3, 2, *meant, tzinfo=UTC)


def test_what_changed_between_times_as_redcapapi_writes_them(world: World):
    row = {"participant_id": "M-002", EVENT: "baseline_arm_1", "pain_nrs": "1", "pain_days": "1"}
    assert world["both"].imports([row]).status_code == 200
    body = [("content", "record"), ("format", "csv"), ("fields[1]", "participant_id")]
    for name, said, changed in (
        ("dateRangeBegin", "2999-01-02 03:04:S", set()),
        ("dateRangeBegin", "2020-01-02 03:04:S", {"M-002"}),
        ("dateRangeEnd", "2999-01-02 03:M%:05", {"M-002"}),
        ("dateRangeEnd", "2020-01-02 03:M%:05", set()),
    ):
        reply = multipart(world, [*body, (name, said)])
        assert (reply.status_code, {line["participant_id"] for line in table(reply.text)}) == (200, changed), said
    assert multipart(world, [*body, ("dateRangeEnd", "2999-01-02 03:M%:XX")]).status_code == 400


def test_records_for_redcapy(world: World):
    """It sends no more than this, and `type` for the type."""
    body = [("content", "record"), ("format", "json"), ("type", "type")]
    assert urlencoded(world, body).json() == world["both"].json("record")
    assert urlencoded(world, [*body[:-1], ("type", "wide")]).status_code == 400


NAMES = ("records", "fields", "forms", "events", "record", "field", "event", "instrument", "repeat_instance", "type")
MORE = ("filterLogic", "data", "format", "returnFormat", "returnContent", "csvDelimiter", "report_id", "logtype", "dag")
ANYTHING = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["M-001", "pain", "pain_nrs", "baseline_arm_1", "1", "0", "true", "new", "json", "csv", "odm", "eav"]
    ),
    st.just(json.dumps([{"participant_id": "M-001", EVENT: "baseline_arm_1", "pain_nrs": "x"}])),
    st.just("<a><item><participant_id>M-001</participant_id></item></a>"),
)


@pytest.mark.requirement("SEC-6")
@hypothesis.settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@hypothesis.given(
    call=st.sampled_from(sorted(DOORS)),
    form=st.dictionaries(st.sampled_from([*NAMES, *MORE, "records[0]", "fields[]", "action", "dateFormat"]), ANYTHING),
)
def test_nothing_that_is_sent_breaks_the_door(world: World, call: tuple[str, str], form: dict[str, str]):
    content, action = call
    hypothesis.assume(content != "pdf")  # slow, and takes the same parameters as the others
    reply = world["both"].send(content, **{"action": action, **form})
    assert reply.status_code < 500, reply.text
    kinds = ("text/html", "text/csv", "text/xml", "application/json", "application/pdf")
    assert reply.headers["content-type"].startswith(kinds)
    if reply.status_code >= 400:
        bare = "The data is not in the specified format."
        assert reply.text == bare or reply.text.startswith(("ERROR: ", '{"error":', "<?xml "))
