"""Does the file of a whole study say what the database says, and is it valid by the schema of its standard?"""

import json
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from sqlalchemy import select
from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.groups import cells_of
from app.exports import casebooks, reads
from app.exports.choice import Choice
from app.exports.formats.standards import Standard, whole_file
from app.exports.formats.xml import as_it_was, held
from app.exports.whole import Whole
from app.foundation.errors import Invalid, NotAllowed
from app.people.access import Actor
from app.studies.in_use import StudyInUse
from tests.conformance import conformance_folder
from tests.exports.test_formats import HOSTILE
from tests.exports.world import consent, entry, of_safety, participant, screening, visit
from tests.factories import MINI, NOW, TODAY, mini_study, person

LATER = NOW + timedelta(hours=3)
CONTROL = "bell \x07, ]]> and <b>&amp;</b> \u202eetad\u202c _x0007_ \ufffe"
HIDDEN = "Groups-nobody-reads"
DIARY: dict[str, Any] = {
    "code": "diary",
    "label": "Diary",
    "source": "test",
    "repeats": True,
    "sections": [
        {"items": [{"code": "diary_at", "label": "When", "type": "date_time", "required": False}]},
        {
            "label": "Medicines",
            "code": "medicines",
            "repeats": True,
            "items": [
                {"code": "name", "label": "Name", "type": "text"},
                {"code": "since", "label": "Since", "type": "date", "precision": "year", "required": False},
                {"code": "dose", "label": "Dose", "type": "number", "unit": "mg", "decimals": 1, "min": 0},
            ],
        },
    ],
    "texts": [{"language": "de", "label": "Tagebuch", "items": [{"code": "diary_at", "label": "Wann"}]}],
}


@pytest.fixture
def study(session: Session) -> StudyInUse:
    visits: Any = MINI["visits"]
    arms: Any = MINI["arms"]
    return mini_study(
        session,
        visits=[*visits[:-1], {**visits[-1], "instruments": ["pain", "disability", "diary"]}],
        instruments=[*MINI["instruments"], DIARY],  # type: ignore[misc]
        arms=[{**each, "label": f"{HIDDEN} {each['code']}"} for each in arms],
        unscheduled={"instruments": ["pain"]},
    )


@pytest.fixture
def manager(session: Session, study: StudyInUse) -> Actor:
    return person(session, study, "data_manager", site_code=None)


def fill(session: Session, study: StudyInUse, by: Actor) -> None:
    """Four participants at two sites, with everything an entry can be."""
    first = participant(session, study, 1)
    screening(session, study, first)
    consent(session, study, first)
    visit(session, study, first, "week18", 2, status="done", held_on=TODAY)
    of_safety(session, study, first)
    values = {"pain_nrs": 7, "pain_days": {"missing": "ND"}, "pain_where": ["back", "leg"], "pain_note": CONTROL}
    entry(session, study, first, "baseline", "pain", {"pain_nrs": 4, "pain_days": 2, "pain_note": "x" * 20_000})
    entry(
        session,
        study,
        first,
        "week18",
        "pain",
        values,
        reasons=json.dumps({"pain_nrs": "Asked twice"}),
        signed_at=LATER,
        signed_by="assessor_north",
        signed_name="Alma Assessor",
        signed_meaning="I entered this.",
        version=2,
    )
    entry(
        session, study, first, "week18", "disability", {"dis_items": ["1", "24"], "dis_weight": "71.5", "dis_score": 2}
    )
    for repeat in (1, 2):
        rows = [{"name": f"Drug {repeat}", "since": "2019", "dose": "2.5"}, None, {"name": "]]>", "dose": "10"}]
        document = {"diary_at": "2026-03-02T09:30", "medicines[]": rows}
        entry(session, study, first, "week18", "diary", document, repeat=repeat)
    entry(session, study, first, "unscheduled_2", "pain", {"pain_nrs": 0})
    for number, text in enumerate(HOSTILE, start=2):
        row = participant(session, study, number, site_code="north" if number % 2 else "south")
        entry(session, study, row, "week18", "pain", {"pain_note": text})
    subject = "entry/week18/pain"
    changes = [
        Change("entry.corrected", "M-001", subject, "pain_nrs", 6, 7, "Misread"),
        Change("entry.corrected", "M-001", subject, "pain_nrs", 6, 7, "Misread the sheet; looked again"),
    ]
    record(session, study.code, changes, by=by, now=LATER)
    session.flush()


def opened(session: Session, study: StudyInUse, by: Actor, standard: Standard, **asked: Any) -> Whole:
    return casebooks.open_whole(session, study, Choice(format=standard, **asked), by=by)


def made(session: Session, study: StudyInUse, by: Actor, standard: Standard, **asked: Any) -> bytes:
    return b"".join(whole_file(opened(session, study, by, standard, **asked), standard))


def answers(session: Session, study: StudyInUse) -> dict[tuple[str, str, str, int, str], Any]:
    """(participant, visit, instrument, repeat, item) -> the answer, as the database has it."""
    query = select(reads.PARTICIPANT.c.code, reads.ENTRY).join(
        reads.ENTRY, reads.ENTRY.c.participant_id == reads.PARTICIPANT.c.id
    )
    return {
        (row.code, row.visit, row.instrument, row.repeat, item): value
        for row in session.execute(query.where(reads.ENTRY.c.study_id == study.id))
        for item, value in cells_of(json.loads(row.values)).items()
    }


# ODM

ODM = {
    Standard.ODM: ("http://www.cdisc.org/ns/odm/v1.3", "odm-1.3.2/ODM1-3-2.xsd"),
    Standard.ODM_2: ("http://www.cdisc.org/ns/odm/v2.0", "odm-2.0/ODM.xsd"),
}


@cache
def schema(path: Path) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(path))


def odm_answers(root: Any, standard: Standard) -> dict[tuple[str, str, str, int, str], Any]:
    """What the document says, in the words of the database."""
    space = f"{{{ODM[standard][0]}}}"
    first = standard is Standard.ODM
    form_tag, form_key = (("FormData", "Form"), ("ItemGroupData", "ItemGroup"))[not first]
    found: dict[tuple[str, str, str, int, str], Any] = {}
    for item in root.iter(f"{space}ItemData"):
        above = list(item.iterancestors())
        event = next(one for one in above if one.tag == f"{space}StudyEventData")
        subject = next(one for one in above if one.tag == f"{space}SubjectData").get("SubjectKey")
        form = next(one for one in above if one.tag == space + form_tag and one.get(f"{form_key}OID").startswith("FO."))
        code = event.get("StudyEventOID").removeprefix("SE.")
        if code in ("STUDY", "SCREENING"):
            continue
        if code == "UNSCHEDULED":
            code = f"unscheduled_{event.get('StudyEventRepeatKey')}"
        instrument = form.get(f"{form_key}OID").removeprefix("FO.")
        repeat = int(form.get(f"{form_key}RepeatKey") or 1)
        name = item.get("ItemOID").removeprefix(f"IT.{instrument}.")
        group, _, cell = name.partition(".")
        if cell:
            name = f"{group}[{item.getparent().get('ItemGroupRepeatKey')}].{cell}"
        flags = [flag.text for flag in item.iter(f"{space}FlagValue")]
        values = [item.get("Value")] if first else [one.text or "" for one in item.findall(f"{space}Value")]
        said = [as_it_was(one) for one in values if one is not None]
        assert (item.get("IsNull") == "Yes") == bool(flags) == (not said)
        found[(subject, code, instrument, repeat, name)] = {"missing": flags[0]} if flags else said
    return found


def as_texts(value: Any, standard: Standard) -> Any:
    if isinstance(value, dict):
        return value
    if isinstance(value, list):
        return ["|".join(value)] if standard is Standard.ODM else value
    return [str(value)]


@pytest.mark.requirement("STD-1")
@pytest.mark.parametrize("standard", list(ODM))
def test_odm_is_valid_and_says_what_the_database_says(
    session: Session, study: StudyInUse, manager: Actor, standard: Standard
):
    fill(session, study, manager)
    data = made(session, study, manager, standard)
    root: Any = etree.fromstring(data, etree.XMLParser(huge_tree=True))
    expected = {key: as_texts(value, standard) for key, value in answers(session, study).items()}
    assert odm_answers(root, standard) == expected
    assert made(session, study, manager, standard) == data
    space = {"o": ODM[standard][0]}
    # References lead somewhere.
    defined = {one.get("OID") for one in root.iter("{*}*") if one.get("OID")}
    for one in root.iter("{*}*"):
        for name, value in one.attrib.items():
            if name.endswith("OID") and name not in ("OID", "FileOID"):
                assert value in defined, (one.tag, name, value)
    # Who corrected, why, and who signed with what meaning.
    (record_of,) = root.xpath("//o:ItemData/o:AuditRecord", namespaces=space)
    assert record_of.getparent().get("ItemOID") == "IT.pain.pain_nrs"
    assert record_of.findtext("o:ReasonForChange", namespaces=space) == "Misread the sheet; looked again"
    (signature,) = root.xpath("//o:ClinicalData//o:Signature", namespaces=space)
    oid = signature.find("o:SignatureRef", space).get("SignatureOID")
    assert root.xpath(f"string(//o:SignatureDef[@OID='{oid}']/o:Meaning)", namespaces=space) == "I entered this."
    assert root.xpath("string(//o:User[@OID='USR.assessor_north']/o:FullName)", namespaces=space) == "Alma Assessor"
    comments = root.xpath("//o:Comment", namespaces=space)
    assert ["".join(one.itertext()).strip() for one in comments] == ["Asked twice"]
    assert HIDDEN.encode() not in data
    assert datetime.fromisoformat(root.get("CreationDateTime")) == LATER.astimezone(UTC)
    schema(conformance_folder() / ODM[standard][1]).assertValid(root)


@pytest.mark.parametrize("standard", list(ODM))
def test_the_definition_can_be_read_back_from_odm(
    session: Session, study: StudyInUse, manager: Actor, standard: Standard
):
    root: Any = etree.fromstring(made(session, study, manager, standard))
    space = {"o": ODM[standard][0]}
    for instrument in study.definition.instruments:
        (form,) = root.xpath(f"//*[@OID='FO.{instrument.code}']")
        (about,) = form.xpath("o:Alias[@Context='equipoise:form']/@Name", namespaces=space)
        told = json.loads(about)
        items = {}
        for item in instrument.every_item:
            group = next((code for code, one in instrument.groups.items() if item in one.items), None)
            oid = ".".join(filter(None, ("IT", instrument.code, group, item.code)))
            (found,) = root.xpath(f"//o:ItemDef[@OID='{oid}']", namespaces=space)
            (alias,) = found.xpath("o:Alias[@Context='equipoise:item']/@Name", namespaces=space)
            items[item.code] = {"code": item.code, **json.loads(as_it_was(alias))}
            assert found.findtext("o:Question/o:TranslatedText", namespaces=space) == item.label
        for section in told["sections"]:
            section["items"] = [items[code] for code in section["items"]]
        back = type(instrument).model_validate({"code": instrument.code, "label": instrument.label, **told})
        assert back == instrument.model_copy(update={"texts": ()})
    wann = root.xpath("//o:ItemDef[@OID='IT.diary.diary_at']/o:Question/o:TranslatedText", namespaces=space)
    assert {one.get("{http://www.w3.org/XML/1998/namespace}lang"): one.text for one in wann} == {
        "en": "When",
        "de": "Wann",
    }
    condition = "string(//o:ConditionDef[@OID='CD.pain.pain_where'])"
    assert "not ([pain_nrs] > 0)" in root.xpath(condition, namespaces=space)


@pytest.mark.parametrize("text", [*HOSTILE, CONTROL, "_x005F_x0007_", "_x0041_", "\ud800", "x" * 50_000, "\r\n\t"])
def test_any_text_can_be_held_by_xml_and_comes_back(text: str):
    element = etree.Element("a", b=held(text))
    element.text = held(text)
    back: Any = etree.fromstring(etree.tostring(element), etree.XMLParser(huge_tree=True))
    assert as_it_was(back.text or "") == text == as_it_was(back.get("b"))


# What holds for all of them


@pytest.mark.parametrize("standard", list(Standard))
def test_a_study_without_anybody_is_a_file_too(session: Session, study: StudyInUse, manager: Actor, standard: Standard):
    data = made(session, study, manager, standard)
    assert data
    if standard in ODM:
        schema(conformance_folder() / ODM[standard][1]).assertValid(etree.fromstring(data))


@pytest.mark.requirement("BLI-1")
@pytest.mark.parametrize("standard", list(Standard))
def test_nothing_of_another_site_and_no_arm_is_in_it(
    session: Session, study: StudyInUse, manager: Actor, standard: Standard
):
    fill(session, study, manager)
    here = made(session, study, manager, standard, sites=("north",))
    assert b"M-001" in here
    assert b"M-002" not in here
    assert HIDDEN.encode() not in made(session, study, manager, standard)


@pytest.mark.parametrize(
    "asked",
    [{"values": "labels"}, {"dates": "shifted"}, {"ids": "mapped"}, {"arms": "dummy"}, {"tables": ("entries",)}],
)
def test_what_a_standard_cannot_do_is_refused_with_the_reason(
    session: Session, study: StudyInUse, manager: Actor, asked: dict[str, Any]
):
    with pytest.raises(Invalid) as problem:
        opened(session, study, manager, Standard.ODM, **asked)
    assert [each.field for each in problem.value.problems] == list(asked)
    assert "Leave this out" in problem.value.problems[0].message
    with pytest.raises(Invalid):
        casebooks.open_whole(session, study, Choice(format=Standard.ODM), since=0, by=manager)
    with pytest.raises(Invalid):
        opened(session, study, manager, Standard.ODM, visits=("nowhere",))


def test_only_who_may_export_gets_it(session: Session, study: StudyInUse):
    with pytest.raises(NotAllowed):
        opened(session, study, person(session, study, "assessor"), Standard.ODM)
