"""Whatever a study asks and whatever was answered: what is exported in any format comes in again as it was."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.foundation.database import Database
from tests.api.redcap.test_records import EVENT, FORM, NUMBER
from tests.api.redcap.world import Caller, build
from tests.conftest import OneConnection
from tests.factories import MINI

WEEK = "week_18_arm_1"
MISSING = ("UNK", "ND")
# What breaks formats: quotes, separators, line ends, formulae, tags, entities, letters of any script and direction.
HOSTILE = ["a", " ", '"', "'", ",", ";", "|", "^", "\n", "\t", "=1+1", "-", "@", "<b>", "&amp;", "]]>", "%", "\\"]
HOSTILE += ["é", "\u05d0", "\u202e", "\U0001f600", "e\u0301", "0", "1.0", ".", "#", "{", "}", "[age]", "null", "M-00"]
texts = st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=16).map("".join).map(str.strip).filter(bool)
codes = st.sampled_from(["0", "1", "2", "01", "a", "b_c", "x-1", "1.5", "99", "A1"])
TYPES = ("integer", "number", "text", "yes_no", "choice", "choices", "date", "date_time", "time", "scale", "slider")


@st.composite
def items(draw: Any, prefix: str) -> list[dict[str, Any]]:
    """Some questions of a form: a number, from which a score may follow, a text, and whatever else."""
    found: list[dict[str, Any]] = []
    for place, kind in enumerate(["integer", "text", *draw(st.lists(st.sampled_from(TYPES), max_size=5))]):
        code = f"{prefix}_{place}"
        item: dict[str, Any] = {"code": code, "label": draw(texts), "type": kind, "required": False}
        if kind in ("choice", "choices"):
            chosen = draw(st.lists(codes, min_size=1, max_size=4, unique_by=str.lower))
            item["choices"] = [{"code": each, "label": draw(texts)} for each in chosen]
        if kind in ("scale", "slider"):
            item |= {"min": 0, "max": 10}
        if kind == "number":
            item["decimals"] = 3
        if kind == "text":
            item["multiline"] = True
        found.append(item)
    return found


@st.composite
def studies(draw: Any) -> dict[str, Any]:
    """A form, with rows in it or not, and one that repeats; both at the last visit."""
    sections = [{"items": draw(items("once"))}]
    if draw(st.booleans()):
        sections[0]["items"].append(
            {"code": "score", "label": "Score", "type": "calculated", "calculation": "[once_0] * 2"}
        )
    if draw(st.booleans()):
        sections.append({"code": "lines", "label": "Lines", "repeats": True, "items": draw(items("line"))})
    again = {"code": "again", "label": "Again", "source": "test", "repeats": True}
    forms = [
        {"code": "once", "label": "Once", "source": "test", "sections": sections},
        {**again, "sections": [{"items": draw(items("again"))}]},
    ]
    visits, instruments = MINI["visits"], MINI["instruments"]
    assert isinstance(visits, list)
    assert isinstance(instruments, list)
    return {
        "visits": [*visits[:-1], {**visits[-1], "instruments": ["pain", "disability", "once", "again"]}],
        "instruments": [*instruments, *forms],
    }


def _cells(data: st.DataObject, item: dict[str, Any]) -> dict[str, str]:
    """What stands in the columns of a question, as it is exported; nothing where it was not answered."""
    name, kind = item["code"], item["type"]
    if kind == "calculated" or data.draw(st.integers(0, 3)) == 0:
        return {}
    is_missing = data.draw(st.integers(0, 9)) == 0
    if kind == "choices":
        chosen = [each["code"] for each in item["choices"]]
        ticked = ["UNK"] if is_missing else data.draw(st.lists(st.sampled_from(chosen), min_size=1, unique=True))
        return {f"{name}___{code}": "1" for code in ticked}
    if is_missing:
        return {name: data.draw(st.sampled_from(MISSING))}
    numbers = st.decimals(-999, 999, places=3).map(lambda each: format(Decimal(str(float(each))).normalize(), "f"))
    days = st.dates(date(1900, 1, 1), date(2100, 12, 31))
    times = st.times().map(lambda at: at.isoformat("minutes"))
    answers: dict[str, st.SearchStrategy[Any]] = {
        "integer": st.integers(-10_000, 10_000).map(str),
        "number": numbers.map(lambda each: "0" if each == "-0" else each),
        "text": texts,
        "yes_no": st.sampled_from(["0", "1"]),
        "date": days.map(date.isoformat),
        "date_time": st.tuples(days, times).map(lambda at: f"{at[0]} {at[1]}"),
        "time": times,
    }
    if kind == "choice":
        return {name: data.draw(st.sampled_from([each["code"] for each in item["choices"]]))}
    return {name: data.draw(answers.get(kind, st.integers(0, 10).map(str)))}


def _answered(data: st.DataObject, study: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of M-001 that say something of every form, of some rows of its group and of some repeats."""
    rows: list[dict[str, Any]] = []
    for form in study["instruments"][-2:]:
        for section in form["sections"]:
            repeats = form.get("repeats") or section.get("repeats")
            name = f"once_{section['code']}" if section.get("repeats") else form["code"]
            for number in range(1, 1 + (data.draw(st.integers(0, 3)) if repeats else 1)):
                place: dict[str, Any] = {"participant_id": "M-001", EVENT: WEEK}
                if repeats:
                    place |= {FORM: name, NUMBER: number}
                cells: dict[str, str] = {}
                for item in section["items"]:
                    cells |= _cells(data, item)
                # Each says something, so that it is there, and none is left out.
                first = section["items"][0]["code"]
                rows.append({**place, first: data.draw(st.integers(0, 9).map(str)), **cells})
    return rows


def _asked(code: str, study: dict[str, Any]) -> dict[str, str]:
    """What is exported: the forms of this study, with the record's name."""
    forms = ["once", *(["once_lines"] if len(study["instruments"][-2]["sections"]) > 1 else []), "again"]
    return {"records": code, "events": WEEK, "fields": "participant_id", "forms": ",".join(forms)}


def _of(caller: Caller, code: str, study: dict[str, Any]) -> list[dict[str, Any]]:
    rows = caller.json("record", **_asked(code, study))
    return [{name: value for name, value in row.items() if name != "participant_id"} for row in rows]


@contextmanager
def undone(database: Database) -> Iterator[None]:
    """Whatever is done within, nothing of it stays."""
    assert isinstance(database, OneConnection)
    inside = database._connection.begin_nested()
    try:
        yield
    finally:
        inside.rollback()


FORMATS = [(shape, way) for shape in ("json", "csv", "xml") for way in ("flat", "eav")] + [("odm", "flat")]


@pytest.mark.parametrize("kind", ["sqlite"])
@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
@given(study=studies(), data=st.data())
def test_records_of_any_study_come_in_again_from_every_format(
    shared_database: Database, study: dict[str, Any], data: st.DataObject
):
    with undone(shared_database):
        both = build(shared_database, repeats=False, **study)["both"]
        rows = _answered(data, study)
        reply = both.imports(rows, returnFormat="csv")
        assert (reply.status_code, reply.text) == (200, "1"), (rows, reply.text)
        there = _of(both, "M-001", study)
        for row in rows:
            place = (row.get(FORM, ""), row.get(NUMBER, ""))
            (found,) = [each for each in there if (each[FORM], each[NUMBER]) == place]
            for name, value in row.items():
                column = re.sub("[^a-z0-9_]", "_", name.lower())
                assert name == "participant_id" or found[column] == value, (name, value, found[column])
        for shape, way in FORMATS:
            sent = both.send("record", format=shape, type=way, **_asked("M-001", study)).text
            with undone(shared_database):
                for behaviour in ("normal", "overwrite"):
                    other = sent.replace("M-001", "M-002")
                    asked = {"format": shape, "type": way, "data": other, "overwriteBehavior": behaviour}
                    reply = both.send("record", returnFormat="csv", **asked)
                    assert (reply.status_code, reply.text) == (200, "1"), (shape, way, other, reply.text)
                    assert _of(both, "M-002", study) == there, (shape, way, behaviour)
