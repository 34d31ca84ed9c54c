"""The plan of a study as USDM 4.0: valid by its published schema, whole in its references, and back again."""

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings

from app.exports.formats.usdm import protocol
from app.studies.definition import Study
from app.studies.importing import convert
from app.studies.loading import library, read_folder
from tests.conformance import conformance_folder
from tests.factories import definition
from tests.properties.studies import studies

pytestmark = pytest.mark.requirement("USDM-1")
REFERENCES = ("armId", "epochId", "encounterId", "scopeId", "entryId", "timelineExitId", "scheduledAtId")


STUDIES = {**{folder.name: read_folder(folder)[0] for folder in library()}, "mini": definition()}


def said(study: Study, *, named: bool = True) -> dict[str, Any]:
    return json.loads(json.dumps(protocol(study, software="0.1", named=named)))  # type: ignore[no-any-return]


def parts(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict):
        yield document
        for value in document.values():
            yield from parts(value)
    elif isinstance(document, list):
        for value in document:
            yield from parts(value)


def plan(study: Study) -> list[tuple[Any, ...]]:
    """The visits, and what is filled in at them."""
    return [
        (each.code, each.label, each.anchor, each.day, each.window.before, each.window.after, each.instruments)
        for each in study.visits
    ]


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_it_is_valid_by_the_published_schema(study: Study):
    schema = json.loads((conformance_folder() / "usdm-4.0" / "USDM_API.json").read_text(encoding="utf-8"))
    schema["$ref"] = "#/components/schemas/Wrapper-Input"
    problems = list(jsonschema.Draft202012Validator(schema).iter_errors(said(study)))
    assert [(list(each.absolute_path), each.message[:200]) for each in problems] == []


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_whatever_it_refers_to_is_there_once(study: Study):
    document = said(study)
    ids = [each["id"] for each in parts(document) if "id" in each]
    assert len(ids) == len(set(ids))
    for each in parts(document):
        for name, value in each.items():
            if name in REFERENCES or name.endswith(("Ids", "InstanceId", "ItemId", "nextId", "previousId")):
                wanted = value if isinstance(value, list) else [value]
                assert set(wanted) <= set(ids), (each["id"], name)


def back(study: Study) -> Study:
    return convert(json.dumps(said(study)).encode(), name="protocol.json", on=date(2026, 1, 5)).study


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_the_plan_of_visits_goes_there_and_back(study: Study):
    again = back(study)
    assert plan(again) == plan(study)
    assert [(each.code, each.label) for each in again.arms] == [(each.code, each.label) for each in study.arms]
    assert (again.code, again.version, again.title) == (study.code, study.version, study.title)
    criteria = [(each.label, each.kind) for each in again.eligibility.criteria]
    assert criteria == [(each.label, each.kind) for each in study.eligibility.criteria]
    assert again.is_allocated == study.is_allocated


@settings(max_examples=25)
@given(studies())
def test_the_plan_of_any_study_goes_there_and_back(study: Study):
    assert plan(back(study)) == plan(study)


def test_whoever_may_not_read_the_names_of_arms_reads_numbers():
    study = definition()
    hidden = json.dumps(protocol(study, software="0.1", named=False))
    arms = [each for each in parts(json.loads(hidden)) if each.get("instanceType") == "StudyArm"]
    assert [each["name"] for each in arms] == [f"Arm {number}" for number in range(1, len(study.arms) + 1)]
    assert not [each for each in arms if "label" in each]
    assert len(arms) == len(study.arms)
    for arm in study.arms:
        assert json.dumps(arm.label) not in hidden
        assert json.dumps(arm.code) not in hidden
