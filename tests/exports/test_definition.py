"""The definition of a study as ODM, without anybody: valid, the same for one version, and back again as it was."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from lxml import etree
from sqlmodel import Session

from app.exports.formats.standards import Standard, whole_file
from app.exports.tables import narrowed, plan_of
from app.exports.whole import Place, Whole
from app.people.access import Actor
from app.studies.definition import Study, StudyText, UnscheduledText
from app.studies.importing import Converted, Failed, convert, write_folder
from app.studies.importing.report import Kind
from app.studies.in_use import StudyInUse
from app.studies.loading import library, read_folder
from tests.conformance import conformance_folder
from tests.exports.test_standards import ODM, changed_since, fill, made, manager, schema, study
from tests.factories import definition
from tests.properties.studies import studies

__all__ = ["manager", "study"]

pytestmark = pytest.mark.requirement("ODM-9")
LIBRARY = [found for folder in library() if (found := read_folder(folder)[0]) is not None]
STUDIES = {found.code: found for found in (*LIBRARY, definition())}
DEFINITIONS = {Standard.ODM_DEFINITION: Standard.ODM, Standard.ODM_2_DEFINITION: Standard.ODM_2}
WHEN = datetime(2026, 1, 5, tzinfo=UTC)
NEVER_SAID = {
    *("arms", "allocation", "treatment", "blinding_assessment", "consent_documents"),
    *("amendments", "sources", "placeholders", "not_known"),
}


def written(of: Study, standard: Standard, **only: Any) -> bytes:
    """The file, of a plan that may be narrowed."""
    plan = narrowed(plan_of((of,)), **only)
    whole = Whole(
        study=of,
        plan=plan,
        change=0,
        leaf="",
        changed_at=WHEN,
        loaded_at=WHEN,
        software="1",
        sites=tuple(Place(site.code, site.name) for site in of.sites),
        people=(),
        meanings=(),
        columns={},
        labels={},
        casebooks=lambda: iter(()),
    )
    return b"".join(whole_file(whole, standard))


def back(data: bytes) -> Converted:
    return convert(data, name="study.xml", on=date(2026, 1, 5))


def told(of: Study) -> dict[str, Any]:
    """What an export says of a study. Forms stand in the order of their codes, as a folder is read."""
    found = {name: getattr(of, name) for name in Study.model_fields if name not in NEVER_SAID}
    found["texts"] = [text.model_dump(exclude=NEVER_SAID) for text in of.texts]
    found["instruments"] = {form.code: form for form in of.instruments}
    found["sites"] = [(site.code, site.name, site.timezone) for site in of.sites]
    return found


def differences(one: Study, other: Study) -> list[str]:
    """In what two studies differ, of what an export says."""
    there, here = told(one), told(other)
    return [name for name in there if there[name] != here[name]]


@pytest.mark.parametrize("standard", DEFINITIONS)
@pytest.mark.parametrize("of", STUDIES.values(), ids=STUDIES)
def test_a_definition_comes_back_as_it_was_and_loads(of: Study, standard: Standard, tmp_path: Path):
    data = written(of, standard)
    schema(conformance_folder() / ODM[DEFINITIONS[standard]][1]).assertValid(etree.fromstring(data))
    converted = back(data)
    assert differences(of, converted.study) == []
    lost = [note.what for note in converted.notes if note.kind is Kind.LOST]
    assert len(lost) == 1
    assert "the names of arms, how they are allocated" in lost[0]
    assert not [note for note in converted.notes if note.kind in (Kind.CHANGED, Kind.LOOKS)]
    assert len(converted.study.arms) == len(of.arms) or not of.is_allocated
    write_folder(converted, tmp_path / "out")
    read, findings = read_folder(tmp_path / "out")
    assert read == converted.study, findings


@settings(max_examples=40, deadline=None)
@given(studies())
def test_the_definition_of_any_study_comes_back(of: Study):
    for standard in DEFINITIONS:
        assert differences(of, back(written(of, standard)).study) == []


@pytest.mark.parametrize("standard", DEFINITIONS)
def test_nothing_of_an_arm_or_of_a_person_is_in_it(
    standard: Standard, session: Session, study: StudyInUse, manager: Actor
):
    before = made(session, study, manager, standard)
    fill(session, study, manager)
    data = made(session, study, manager, standard)
    assert data == before == changed_since(session, study, manager, standard, 0)  # one version is one file
    assert b"ClinicalData" not in data
    assert b"M-0" not in data
    assert b"User" not in data
    for arm in study.definition.arms:
        assert arm.label.encode() not in data


@pytest.mark.parametrize("standard", DEFINITIONS.values())
def test_a_file_with_everybody_gives_the_same_definition(
    standard: Standard, session: Session, study: StudyInUse, manager: Actor
):
    fill(session, study, manager)
    converted = back(made(session, study, manager, standard))
    assert differences(study.definition, converted.study) == []
    lost = [note.what for note in converted.notes if note.kind is Kind.LOST]
    assert [words.split(" (")[0].split(":")[0] for words in lost] == [
        "Data of participants",
        "Users",
        "Tables beside the entries",
        "What no export says",
    ]


def test_it_may_be_called_otherwise():
    data = written(STUDIES["mini"], Standard.ODM_2_DEFINITION)
    again = convert(data, name="study.xml", on=date(2026, 1, 5), code="another", title="Another trial").study
    assert (again.code, again.title, again.short_title) == ("another", "Another trial", "Another trial")
    assert [visit.code for visit in again.visits] == [visit.code for visit in STUDIES["mini"].visits]


def test_a_part_of_a_study_is_a_study_and_what_referred_to_the_rest_is_named():
    resolve = STUDIES["resolve"]
    converted = back(written(resolve, Standard.ODM_DEFINITION, visits=("baseline",)))
    assert [visit.code for visit in converted.study.visits] == ["baseline"]
    assert converted.study.outcomes == ()
    assert "study.yaml, outcomes" in {note.where for note in converted.notes if note.kind is Kind.LOST}
    assert [text.language for text in converted.study.texts] == ["de", "es"]
    assert all(text.outcomes == () and text.withdrawal_levels for text in converted.study.texts)
    for form in resolve.instruments:  # any form alone, with the pre-screen
        study = back(written(resolve, Standard.ODM_2_DEFINITION, instruments=(form.code,))).study
        assert {each.code for each in study.instruments} == {form.code, resolve.eligibility.instrument}


def test_words_for_what_is_not_there_are_left_out_and_named():
    mini = STUDIES["mini"].model_copy(update={"unscheduled": None})
    german = StudyText.model_validate(
        {
            "language": "de",
            "title": "Probe",
            "unscheduled": {"label": "Zusätzliche Visite"},
            "visits": [{"code": "baseline", "label": "Beginn"}, {"code": "gone", "label": "Fort"}],
        }
    )
    twice = StudyText(language=mini.language, title="Twice")
    converted = back(written(mini.model_copy(update={"texts": (german, twice)}), Standard.ODM_DEFINITION))
    (said,) = converted.study.texts
    assert (said.language, said.title, said.unscheduled) == ("de", "Probe", UnscheduledText())
    assert [visit.code for visit in said.visits] == ["baseline"]
    lost = [note.where for note in converted.notes if note.kind is Kind.LOST]
    assert (lost.count("study.de.yaml"), lost.count(f"study.{mini.language}.yaml")) == (2, 1)


def test_a_form_that_is_left_out_is_entered_twice_nowhere():
    twice = [
        visit.model_copy(update={"double_entry": visit.instruments[:1]}) if visit.instruments else visit
        for visit in STUDIES["mini"].visits
    ]
    study = STUDIES["mini"].model_copy(update={"visits": tuple(twice)})
    assert differences(study, back(written(study, Standard.ODM_DEFINITION)).study) == []
    again = back(written(study, Standard.ODM_DEFINITION, instruments=("disability",))).study
    assert all(set(visit.double_entry) <= {"disability"} for visit in again.visits)


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("Baseline", "Beginning"),  # the name of a visit
        ("not ([pain_nrs] &gt; 0)", "not ([pain_nrs] &gt; 3)"),
    ],
)
def test_what_the_standard_says_counts_before_our_aliases(there: str, here: str):
    data = written(STUDIES["mini"], Standard.ODM_DEFINITION).decode()
    assert there in data
    again = back(data.replace(there, here).encode()).study
    texts = [visit.label for visit in again.visits]
    texts += [item.shown_if or "" for form in again.instruments for item in form.every_item]
    assert here.removeprefix("not (").removesuffix(")").replace("&gt;", ">") in texts


@pytest.mark.parametrize("broken", ["[", "[]", "1", '{"sections": 3}', '{"sections": [{"items": [1]}]}', "[" * 5000])
def test_an_alias_that_cannot_be_read_is_said_and_nothing_breaks(broken: str):
    data = written(STUDIES["mini"], Standard.ODM_2_DEFINITION)
    root: Any = etree.fromstring(data)
    aliases = [each for each in root.iter("{*}Alias") if each.get("Context").startswith("equipoise:")]
    for alias in aliases[::7]:
        was = alias.get("Name")
        alias.set("Name", broken)
        try:
            said = [note.what for note in back(etree.tostring(root)).notes]
        except Failed as reason:
            said = [str(reason)]
        assert all(said)
        alias.set("Name", was)
