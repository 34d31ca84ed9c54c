"""What each known client sends for its usual work, byte for byte as it encodes it; and whatever else somebody sends."""

import json
from typing import Any
from urllib.parse import urlencode

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st

from app.api.redcap.door import DOORS
from tests.api.redcap.test_records import EVENT, WEEK18, table
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
