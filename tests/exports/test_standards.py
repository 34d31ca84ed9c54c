"""Does the file of a whole study say what the database says, and is it valid by the schema of its standard?"""

import io
import json
import re
import zipfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from lxml import etree
from sqlalchemy import select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.groups import cells_of
from app.exports import casebooks, changes, reads
from app.exports.choice import Choice
from app.exports.formats.fhir import LIFECYCLE
from app.exports.formats.sdtm import parameters, study_day
from app.exports.formats.standards import Standard, whole_file
from app.exports.formats.xml import as_it_was, held
from app.exports.whole import Whole
from app.foundation.errors import Invalid, NotAllowed
from app.participants.models import Participant
from app.people.access import Actor
from app.studies.in_use import StudyInUse
from app.studies.loading import LIBRARY, read_folder
from tests.conformance import conformance_folder
from tests.exports.test_formats import HOSTILE
from tests.exports.world import PRESCREEN, consent, entry, of_safety, participant, screening, visit
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


@pytest.mark.requirement("ODM-1", "ODM-2", "ODM-3", "ODM-5", "ODM-6", "FDA-3", "P11-50b")
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
    screened = root.xpath("//o:StudyEventData[@StudyEventOID='SE.SCREENING']//o:ItemData", namespaces=space)
    assert [(one.get("ItemOID")) for one in screened] == [f"IT.prescreen.{code}" for code in PRESCREEN]
    # Who corrected, why, and who signed with what meaning.
    answered = root.xpath(
        "//o:ItemData[not(starts-with(ancestor::o:StudyEventData/@StudyEventOID, 'SE.ST'))]", namespaces=space
    )
    assert all(one.find("o:AuditRecord", space) is not None for one in answered)
    (record_of,) = root.xpath("//o:ItemData/o:AuditRecord[o:ReasonForChange]", namespaces=space)
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


def fill_and_log(session: Session, study: StudyInUse, manager: Actor) -> None:
    """Everything an entry can be, as the log tells of it."""
    fill(session, study, manager)
    everybody = session.execute(select(reads.PARTICIPANT.c.code)).scalars().all()
    record(
        session,
        study.code,
        [Change("participant.screened", code, "participant") for code in everybody],
        by=manager,
        now=NOW,
    )
    forms = [
        f"entry/{v}/{f}"
        for v, f in (
            ("baseline", "pain"),
            ("week18", "disability"),
            ("week18", "diary"),
            ("week18", "diary/2"),
            ("unscheduled_2", "pain"),
        )
    ]
    record(session, study.code, [Change("entry.saved", "M-001", each, new=1) for each in forms], by=manager, now=NOW)
    more = [
        Change("entry.saved", "M-002", "entry/week18/pain", new=1),
        Change("entry.signed", "M-001", "entry/week18/pain"),
    ]
    record(session, study.code, more, by=manager, now=NOW)


def change_much(session: Session, study: StudyInUse, manager: Actor) -> None:
    """An answer goes and another comes, and a signature goes with it; a form and a repeat were begun by mistake, and of
    somebody the only form; one form is new, and so is somebody."""
    table = reads.ENTRY
    mine = (
        table.c.participant_id
        == session.execute(select(reads.PARTICIPANT.c.id).where(reads.PARTICIPANT.c.code == "M-001")).scalar_one()
    )
    unsigned = {"signed_at": None, "signed_by": None, "signed_name": None, "signed_meaning": None}
    pain = (mine, table.c.visit == "week18", table.c.instrument == "pain")
    session.execute(update(table).where(*pain).values(values='{"pain_nrs": 2, "pain_days": 1}', version=3, **unsigned))
    in_error = {"in_error_at": LATER, "in_error_by": "x", "in_error_why": "Wrong person"}
    session.execute(update(table).where(mine, table.c.visit == "unscheduled_2").values(**in_error))
    session.execute(update(table).where(mine, table.c.instrument == "diary", table.c.repeat == 2).values(**in_error))
    theirs = select(reads.PARTICIPANT.c.id).where(reads.PARTICIPANT.c.code == "M-002").scalar_subquery()
    session.execute(update(table).where(table.c.participant_id == theirs).values(**in_error))
    row = session.get(
        Participant,
        session.execute(select(reads.PARTICIPANT.c.id).where(reads.PARTICIPANT.c.code == "M-001")).scalar_one(),
    )
    assert row is not None
    entry(session, study, row, "baseline", "diary", {"diary_at": "2026-03-03T10:00"})
    new = participant(session, study, 77)
    entry(session, study, new, "week18", "pain", {"pain_nrs": 9})
    session.execute(update(reads.PARTICIPANT).where(reads.PARTICIPANT.c.code == "M-003").values(status="completed"))
    said = [
        ("entry.corrected", "M-001", each)
        for each in ("entry/week18/pain", "entry/unscheduled_2/pain", "entry/week18/diary/2", "entry/baseline/diary")
    ]
    said += [
        ("entry.marked_in_error", "M-002", "entry/week18/pain"),
        ("participant.screened", "M-077", "participant"),
        ("entry.saved", "M-077", "entry/week18/pain"),
        ("participant.completed", "M-003", "participant"),
    ]
    record(
        session, study.code, [Change(action, code, subject) for action, code, subject in said], by=manager, now=LATER
    )
    again = Change(
        "entry.saved", "M-001", "entry/week18/pain", "pain_nrs", 7, 2
    )  # for no reason: none is told any more
    record(session, study.code, [again], by=manager, now=LATER)


Kept = dict[str, dict[Any, dict[Any, str]]]


def brought_up_to_date(kept: Kept, root: Any, standard: Standard) -> Kept:
    """What a receiver holds (participant, visit, form) once a file was taken in, transaction by transaction."""
    space = f"{{{ODM[standard][0]}}}"
    form_tag, key = ("FormData", "Form") if standard is Standard.ODM else ("ItemGroupData", "ItemGroup")
    for subject in root.iter(f"{space}SubjectData"):
        code, how = subject.get("SubjectKey"), subject.get("TransactionType", "Insert")
        assert (code in kept) == (how != "Insert"), (code, how)
        if how == "Remove":
            del kept[code]
            continue
        visits = kept.setdefault(code, {})
        for event in subject.iter(f"{space}StudyEventData"):
            visit = (event.get("StudyEventOID"), event.get("StudyEventRepeatKey"))
            how = event.get("TransactionType", "Insert")
            if how == "Remove":
                visits.pop(visit, None)
                continue
            assert how != "Insert" or visit not in visits
            forms = visits.setdefault(visit, {})
            for made in event.findall(f"{space}{form_tag}"):
                form = (made.get(f"{key}OID"), made.get(f"{key}RepeatKey"))
                if made.get("TransactionType", "Insert") == "Remove":
                    forms.pop(form, None)
                    continue
                assert form not in forms
                made.attrib.pop("TransactionType", None)
                made.tail = None
                forms[form] = re.sub(r"\s+", " ", etree.tostring(made, method="c14n").decode())
    return {code: {visit: forms for visit, forms in visits.items() if forms} for code, visits in kept.items()}


@pytest.mark.requirement("ODM-1", "ODM-4")
@pytest.mark.parametrize("standard", list(ODM))
@pytest.mark.parametrize("many", [False, True])
def test_a_transactional_odm_brings_an_earlier_one_up_to_date(
    session: Session,
    study: StudyInUse,
    manager: Actor,
    standard: Standard,
    many: bool,
    monkeypatch: pytest.MonkeyPatch,
):
    fill_and_log(session, study, manager)
    kept = brought_up_to_date({}, etree.fromstring(made(session, study, manager, standard)), standard)
    since = changes.head_of(session, study).size
    nothing: Any = etree.fromstring(changed_since(session, study, manager, standard, since))
    assert nothing.get("FileType") == "Transactional"
    assert not list(nothing.iter("{*}SubjectData"))
    change_much(session, study, manager)
    if many:
        monkeypatch.setattr(changes, "MOST", 1)
    data = changed_since(session, study, manager, standard, since)
    root: Any = etree.fromstring(data, etree.XMLParser(huge_tree=True))
    schema(conformance_folder() / ODM[standard][1]).assertValid(root)
    assert {each.get("SubjectKey") for each in root.iter("{*}SubjectData")} == {"M-001", "M-002", "M-003", "M-077"}
    assert data == changed_since(session, study, manager, standard, since)
    now = brought_up_to_date({}, etree.fromstring(made(session, study, manager, standard)), standard)
    assert brought_up_to_date(kept, root, standard) == now


def changed_since(
    session: Session, study: StudyInUse, by: Actor, standard: Standard, since: int, **asked: Any
) -> bytes:
    choice = Choice(format=standard, **asked)
    return b"".join(whole_file(casebooks.open_whole(session, study, choice, since=since, by=by), standard))


@pytest.mark.parametrize("text", [*HOSTILE, CONTROL, "_x005F_x0007_", "_x0041_", "\ud800", "x" * 50_000, "\r\n\t"])
def test_any_text_can_be_held_by_xml_and_comes_back(text: str):
    element = etree.Element("a", b=held(text))
    element.text = held(text)
    back: Any = etree.fromstring(etree.tostring(element), etree.XMLParser(huge_tree=True))
    assert as_it_was(back.text or "") == text == as_it_was(back.get("b"))


# Dataset-JSON and Define-XML

ARM_COLUMNS = ("ARMCD", "ARM", "ACTARMCD", "ACTARM")
KINDS: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "decimal": (str,), "date": (str,)}
DEF, XLINK = "{http://www.cdisc.org/ns/def/v2.1}", "{http://www.w3.org/1999/xlink}"


def unpacked(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def records(files: dict[str, bytes], domain: str) -> list[dict[str, Any]]:
    found = json.loads(files[f"{domain}.json"])
    names = [column["name"] for column in found["columns"]]
    return [dict(zip(names, row, strict=True)) for row in found["rows"]]


def are_valid(files: dict[str, bytes]) -> None:
    """Every dataset by the schema of Dataset-JSON, and their define.xml: without what Define-XML adds it is ODM."""
    validator = jsonschema.Draft201909Validator(
        json.loads((conformance_folder() / "dataset-json-1.1" / "dataset.schema.json").read_text())
    )
    for name, text in files.items():
        if name.endswith(".json"):
            validator.validate(json.loads(text))
    define: Any = etree.fromstring(files["define.xml"])
    for one in list(define.iter("{*}*")):
        for name in [name for name in one.attrib if name.startswith("{http://www.cdisc.org")]:
            del one.attrib[name]
        if one.tag.startswith(DEF):
            one.getparent().remove(one)
    schema(conformance_folder() / ODM[Standard.ODM][1]).assertValid(define)


@pytest.mark.requirement("DSJ-1", "DSJ-2", "DSJ-3", "DSJ-4", "DSJ-6", "DSJ-7", "DEF-1")
def test_datasets_are_valid_and_described_by_their_define_xml(session: Session, study: StudyInUse, manager: Actor):
    fill(session, study, manager)
    as_json, as_lines = (
        unpacked(made(session, study, manager, kind)) for kind in (Standard.DATASET_JSON, Standard.DATASET_NDJSON)
    )
    assert list(as_json) == ["dm.json", "ds.json", "sv.json", "qs.json", "ae.json", "ie.json", "ts.json", "define.xml"]
    order = list(json.loads(as_json["dm.json"]))
    assert order[-6:] == ["itemGroupOID", "records", "name", "label", "columns", "rows"]
    define: Any = etree.fromstring(as_json["define.xml"])
    space = {"o": ODM[Standard.ODM][0]}
    for domain in ("dm", "ds", "sv", "qs", "ae", "ie", "ts"):
        found = json.loads(as_json[f"{domain}.json"])
        head, *rows = [json.loads(line) for line in as_lines[f"{domain}.ndjson"].splitlines()]
        assert {**head, "rows": rows} == found
        assert found["records"] == len(rows)
        assert rows or domain == "ie"
        assert found["dbLastModifiedDateTime"] <= found["datasetJSONCreationDateTime"]
        keys = [place for place, column in enumerate(found["columns"]) if "keySequence" in column]
        assert len({tuple(row[place] for place in keys) for row in rows}) == len(rows)
        for row in rows:
            for column, value in zip(found["columns"], row, strict=True):
                assert value is None or isinstance(value, KINDS[column["dataType"]]), (column, value)
        (dataset,) = define.xpath(f"//o:ItemGroupDef[@OID='{found['itemGroupOID']}']", namespaces=space)
        refs = [one.get("ItemOID") for one in dataset.findall("o:ItemRef", space)]
        assert refs == [column["itemOID"] for column in found["columns"]]
        assert dataset.find(f"{DEF}leaf").get(f"{XLINK}href") == f"{domain}.json"
        assert dataset.get(f"{DEF}ArchiveLocationID") == dataset.find(f"{DEF}leaf").get("ID")
        assert [one.tag.rpartition("}")[2] for one in dataset][-2:] == ["Class", "leaf"]
    version = define.find(".//o:MetaDataVersion", space)
    kinds = [one.tag.rpartition("}")[2] for one in version]
    assert list(dict.fromkeys(kinds)) == ["Standards", "ItemGroupDef", "ItemDef", "CodeList", "MethodDef"]
    defined = {one.get("OID") for one in define.iter("{*}*") if one.get("OID")}
    for one in define.iter("{*}*"):
        for name, value in one.attrib.items():
            if name.endswith("OID") and name not in ("OID", "FileOID"):
                assert value in defined, (one.tag, name, value)
    are_valid(as_json)


@pytest.mark.requirement("SDTM-1", "SDTM-2", "SDTM-3", "SDTM-4", "SDTM-5", "DSJ-5")
def test_sdtm_says_what_the_database_says(session: Session, study: StudyInUse, manager: Actor):
    fill(session, study, manager)
    failed = participant(
        session, study, 90, status="screen_failed", randomised_on=None, randomised_at=None, randomised_by=None,
        consented_on=None,
    )  # fmt: skip
    verdicts = [{"code": code, "met": code != "surgery"} for code in ("adult", "pain", "surgery")]
    screening(session, study, failed, verdicts=json.dumps(verdicts), eligible=False, failure_reason="not_eligible")
    files = unpacked(made(session, study, manager, Standard.DATASET_JSON))
    dm = {row["SUBJID"]: row for row in records(files, "dm")}
    assert {dm["M-001"][name] for name in ARM_COLUMNS} == {"BLINDED"}
    assert {dm["M-090"][name] for name in ARM_COLUMNS} == {None}
    assert (dm["M-001"]["ARMNRS"], dm["M-090"]["ARMNRS"]) == (None, "SCREEN FAILURE")
    assert (dm["M-001"]["AGE"], dm["M-001"]["USUBJID"]) == (44, "MINI-M-001")
    assert len({row["USUBJID"] for row in dm.values()}) == len(dm)
    ds = [(row["DSDECOD"], row["DSSTDY"]) for row in records(files, "ds") if row["USUBJID"] == "MINI-M-001"]
    assert ds == [("INFORMED CONSENT OBTAINED", -1), ("RANDOMIZED", 1)]
    (end,) = [row for row in records(files, "ds") if row["USUBJID"] == "MINI-M-090"]
    assert (end["DSDECOD"], end["DSTERM"]) == ("SCREEN FAILURE", "Does not meet the criteria")
    (not_met,) = records(files, "ie")
    assert (not_met["IETESTCD"], not_met["IECAT"], not_met["IEORRES"]) == ("SURGERY", "EXCLUSION", "Y")
    (event,) = records(files, "ae")
    assert (event["AESTDTC"], event["AESER"], event["AESDISAB"], event["AEDECOD"]) == ("2026-03", "Y", "Y", None)
    assert event["AEOUT"] == "RECOVERED/RESOLVED"
    held, *others = [row for row in records(files, "sv") if row["USUBJID"] == "MINI-M-001"]
    assert (held["VISIT"], held["SVSTDTC"], held["SVSTDY"]) == ("Week 18", TODAY.isoformat(), -2)
    # Nobody said when the others were: they are dated by what was entered, and none that has answers is without.
    assert {row["VISIT"]: row["SVSTDTC"] for row in others} == {
        "Baseline": NOW.date().isoformat(), "Unscheduled visit 2": NOW.date().isoformat()
    }  # fmt: skip
    visits_of = {name: {(row["USUBJID"], row["VISITNUM"]) for row in records(files, name)} for name in ("sv", "qs")}
    assert visits_of["sv"] == visits_of["qs"]
    assert len(records(files, "sv")) == len(visits_of["sv"])
    # Every answer, value for value.
    visits = {each.code: each.label for each in study.definition.visits} | {"unscheduled_2": "Unscheduled visit 2"}
    said = {}
    for row in records(files, "qs"):
        numbers = dict(re.findall(r"(\w+) (\d+)", row["QSGRPID"] or ""))
        instrument, *group, item = row["QSSPID"].split(".")
        name = f"{group[0]}[{numbers[group[0]]}].{item}" if group else item
        said[(row["USUBJID"][5:], row["VISIT"], instrument, int(numbers.get(instrument, 1)), name)] = row
        assert len(row["QSTESTCD"]) <= 8
    stored = answers(session, study)
    reasons = {code.code: code.label for code in study.definition.missing_codes}
    assert len(said) == len(stored) == len(records(files, "qs"))
    for (code, where, instrument, repeat, name), value in stored.items():
        row = said[(code, visits[where], instrument, repeat, name)]
        if isinstance(value, dict):
            assert (row["QSSTAT"], row["QSREASND"], row["QSORRES"]) == ("NOT DONE", reasons[value["missing"]], None)
        else:
            assert row["QSSTRESC"] == ("|".join(value) if isinstance(value, list) else str(value))
            is_number = name in ("pain_nrs", "pain_days", "dis_weight", "dis_score") or name.endswith(".dose")
            assert row["QSSTRESN"] == (str(value) if is_number else None)


def test_the_code_of_a_choice_is_a_number_only_where_its_form_calculates_with_it(session: Session):
    choices = [{"code": code, "label": f"Answer {code}"} for code in ("2", "010", "1.5", "yes")]
    scored = {"code": "scored", "label": "Scored", "type": "choice", "choices": choices}
    form: dict[str, Any] = {
        "code": "scale",
        "label": "Scale",
        "source": "test",
        "sections": [
            {
                "items": [
                    scored,
                    {**scored, "code": "nominal", "label": "Nominal"},
                    {"code": "total", "label": "Total", "type": "calculated", "calculation": "[scored] * 1"},
                ]
            }
        ],
    }
    visits: Any = MINI["visits"]
    study = mini_study(
        session,
        visits=[*visits[:-1], {**visits[-1], "instruments": ["pain", "disability", "scale"]}],
        instruments=[*MINI["instruments"], form],  # type: ignore[misc]
    )
    manager = person(session, study, "data_manager", site_code=None)
    for number, code in enumerate(("2", "010", "1.5", "yes"), start=1):
        values = {"scored": code, "nominal": code}
        entry(session, study, participant(session, study, number), "week18", "scale", values)
    found = records(unpacked(made(session, study, manager, Standard.DATASET_JSON)), "qs")
    numbers = {(row["QSSPID"], row["QSSTRESC"]): row["QSSTRESN"] for row in found}
    assert {code: numbers[("scale.scored", code)] for code in ("2", "010", "1.5", "yes")} == {
        "2": "2", "010": None, "1.5": "1.5", "yes": None
    }  # fmt: skip
    assert {numbers[("scale.nominal", code)] for code in ("2", "010", "1.5", "yes")} == {None}


def datasets(files: dict[str, bytes]) -> dict[str, dict[str, list[Any]]]:
    """Subject -> records, of each dataset that is about subjects."""
    found: dict[str, dict[str, list[Any]]] = {}
    for name in files:
        if name.endswith(".json") and name != "ts.json":
            domain = found.setdefault(name.removesuffix(".json").upper(), {})
            for row in records(files, name.removesuffix(".json")):
                domain.setdefault(row["USUBJID"], []).append(row)
    return found


@pytest.fixture(params=["everything", "many", "a visit"])
def asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What an export of the whole study is narrowed to; of `many` everybody is read, and not told by number."""
    if request.param == "many":
        monkeypatch.setattr(changes, "MOST", 1)
    return {"visits": ("week18",)} if request.param == "a visit" else {}


@pytest.mark.requirement("DSJ-1", "DSJ-2", "DSJ-6", "DEF-1")
def test_datasets_of_what_changed_bring_earlier_ones_up_to_date(
    session: Session, study: StudyInUse, manager: Actor, asked: dict[str, Any]
):
    fill_and_log(session, study, manager)
    kept = datasets(unpacked(made(session, study, manager, Standard.DATASET_JSON, **asked)))
    since = changes.head_of(session, study).size
    nothing = datasets(unpacked(changed_since(session, study, manager, Standard.DATASET_JSON, since, **asked)))
    assert {name for name, rows in nothing.items() if not rows} == {*kept, "CHANGES"}
    change_much(session, study, manager)
    data = changed_since(session, study, manager, Standard.DATASET_JSON, since, **asked)
    assert data == changed_since(session, study, manager, Standard.DATASET_JSON, since, **asked)
    files, now = unpacked(data), datasets(unpacked(made(session, study, manager, Standard.DATASET_JSON, **asked)))
    came = datasets(files)
    told = {(row["RDOMAIN"], who): row for who, rows in came.pop("CHANGES").items() for row in rows}
    assert {who for _, who in told} == {f"MINI-M-{number}" for number in ("001", "002", "003", "077")}
    assert {key for key, row in told.items() if row["CHANGE"] == "removed"} >= {("QS", "MINI-M-002")}
    assert "removed" not in {row["CHANGE"] for (_, who), row in told.items() if who == "MINI-M-077"}, "they are new"
    for (domain, who), row in told.items():
        kept[domain].pop(who, None)
        assert len(came[domain].get(who, ())) == row["RECORDS"]
        assert (row["CHANGE"] == "removed") == (not row["RECORDS"])
        if row["RECORDS"]:
            kept[domain][who] = came[domain].pop(who)
    assert not any(came.values()), "nothing stands there that was not said to have changed"
    assert kept == now
    # It is valid, and described by its define.xml, as everything is.
    are_valid(files)
    define: Any = etree.fromstring(files["define.xml"])
    for name, text in files.items():
        if name.endswith(".json"):
            found = json.loads(text)
            (dataset,) = define.xpath(f"//*[@OID='{found['itemGroupOID']}']")
            refs = [one.get("ItemOID") for one in dataset.findall("{*}ItemRef")]
            assert refs == [column["itemOID"] for column in found["columns"]]
            assert found["fileOID"].endswith(f".since.{since}.{found['name']}")
    lines = unpacked(changed_since(session, study, manager, Standard.DATASET_NDJSON, since, **asked))
    head, *rows = [json.loads(line) for line in lines["changes.ndjson"].splitlines()]
    assert {**head, "rows": rows} == json.loads(files["changes.json"])


@pytest.mark.requirement("SDTM-5", "SDTM-6")
def test_the_trial_summary_says_what_the_definition_says_and_nothing_else(
    session: Session, study: StudyInUse, manager: Actor
):
    fill(session, study, manager)
    files = unpacked(made(session, study, manager, Standard.DATASET_JSON))
    rows = records(files, "ts")
    said = {(row["TSPARMCD"], row["TSSEQ"]): row["TSVAL"] or f"({row['TSVALNF']})" for row in rows}
    randomised = sum(row["DSDECOD"] == "RANDOMIZED" for row in records(files, "ds"))
    assert randomised > 1
    assert said == {
        ("TITLE", 1): study.definition.title,
        ("SPONSOR", 1): "(NI)",
        ("REGID", 1): "(NI)",
        ("STYPE", 1): "INTERVENTIONAL",
        ("RANDOM", 1): "Y",
        ("TBLIND", 1): "DOUBLE BLIND",
        ("TCNTRL", 1): "(NI)",
        ("NARMS", 1): "2",
        ("INTMODEL", 1): "PARALLEL",
        ("RANDQT", 1): "(NI)",
        ("STRATFCT", 1): "Site",
        ("PLANSUB", 1): str(study.definition.target),
        ("ACTSUB", 1): str(randomised),
        ("OUTMSPRI", 1): "Pain at week 18",
        ("OUTMSSEC", 1): "(NI)",
    }
    assert all((row["TSVAL"] is None) != (row["TSVALNF"] is None) for row in rows)
    text = files["ts.json"].decode() + files["define.xml"].decode()
    assert not [arm.label for arm in study.definition.arms if arm.label in text]
    define: Any = etree.fromstring(files["define.xml"])
    (dataset,) = define.xpath("//*[@OID='IG.TS']")
    assert (dataset.get("IsReferenceData"), dataset.find(f"{DEF}Class").get("Name")) == ("Yes", "TRIAL DESIGN")


@pytest.mark.requirement("SDTM-6")
def test_of_a_study_that_allocates_nobody_no_trial_is_summarised():
    etmi, _ = read_folder(LIBRARY / "etmi")
    assert etmi is not None
    said = {code: values or empty for code, _, values, empty in parameters(etmi, 3)}
    assert (said["STYPE"], said["RANDOM"], said["ACTSUB"]) == (("OBSERVATIONAL",), ("N",), ("3",))
    assert {said[code] for code in ("TBLIND", "TCNTRL", "NARMS", "INTMODEL", "RANDQT")} == {"NA"}


@pytest.mark.requirement("SDTM-3")
@pytest.mark.parametrize(
    ("day", "expected"),
    [("2026-03-04", 1), ("2026-03-05", 2), ("2026-03-03", -1), ("2026-03", None), (None, None)],
)
def test_there_is_no_day_zero(day: str | None, expected: int | None):
    assert study_day(day, "2026-03-04") == expected
    assert study_day(day, None) is None


# FHIR


@pytest.mark.requirement("FHIR-1", "FHIR-2", "FHIR-4", "FHIR-5")
def test_fhir_resources_are_valid_and_say_what_the_database_says(session: Session, study: StudyInUse, manager: Actor):
    from fhir.resources.R4B import get_fhir_model_class

    fill(session, study, manager)
    bundle = json.loads(made(session, study, manager, Standard.FHIR), parse_float=Decimal)
    get_fhir_model_class("Bundle").model_validate({**bundle, "entry": bundle["entry"][:1]})
    entries = {one["fullUrl"]: one["resource"] for one in bundle["entry"]}
    assert len(entries) == len(bundle["entry"])
    for url, resource in entries.items():
        assert url == f"urn:uuid:{resource['id']}"
        read = get_fhir_model_class(resource["resourceType"]).model_validate(resource)
        back = json.loads(read.model_dump_json(exclude_none=True), parse_float=Decimal)
        assert told(back) == told(resource)
    text = json.dumps(bundle, default=str)
    assert set(re.findall(r'"reference": "(urn:uuid:[^"]*)"', text)) <= set(entries)
    assert "Arm" not in text
    kinds = [one["resourceType"] for one in entries.values()]
    assert kinds.count("Patient") == kinds.count("ResearchSubject") == len(HOSTILE) + 1
    assert {tuple(one) for one in entries.values() if one["resourceType"] == "Patient"} == {
        ("resourceType", "id", "identifier")
    }
    said: dict[Any, Any] = {}
    statuses = {}
    for one in entries.values():
        if one["resourceType"] != "QuestionnaireResponse":
            continue
        about = {each["url"].rpartition(":")[2]: each for each in one["extension"]}
        visit = about["visit"]["valueCode"]
        if visit == "screening":
            continue
        code = entries[one["subject"]["reference"]]["identifier"][0]["value"]
        instrument = one["questionnaire"].split(":")[-1].split("|")[0]
        key = (code, visit, instrument, about["repeat"]["valuePositiveInt"])
        statuses[key] = one["status"]
        for item in one["item"]:
            row = next((each["valuePositiveInt"] for each in item.get("extension", ()) if "row" in each["url"]), None)
            for cell in item.get("item", [item]):
                name = cell["linkId"].replace(".", f"[{row}].")
                missing = [each for each in cell.get("extension", ()) if each["url"].endswith(":missing")]
                values = [next(iter(each.values())) for each in cell.get("answer", ())]
                values = [each["code"] if isinstance(each, dict) else as_it_was(str(each)) for each in values]
                if any(each["url"].endswith(":empty") for each in cell.get("extension", ())):
                    values = [""]
                said[(*key, name)] = {"missing": missing[0]["valueCoding"]["code"]} if missing else values
    expected = {key: as_texts(value, Standard.ODM_2) for key, value in answers(session, study).items()}
    assert said == expected
    assert statuses.pop(("M-001", "week18", "pain", 1)) == "amended"
    assert set(statuses.values()) == {"completed"}
    (amended,) = [one for one in entries.values() if one.get("type") == {"system": LIFECYCLE, "code": "amend"}]
    assert amended["entity"][0]["detail"] == [
        {"type": "item", "valueString": "pain_nrs"},
        {"type": "why", "valueString": "Misread the sheet; looked again"},
    ]


@pytest.mark.requirement("FHIR-3", "FHIR-1")
def test_a_consent_is_a_draft_until_it_is_countersigned_and_inactive_once_withdrawn(session: Session):
    from fhir.resources.R4B import get_fhir_model_class

    study = mini_study(session, consent={"optional": [{"code": "samples", "label": "Keep samples"}]})
    manager = person(session, study, "data_manager", site_code=None)
    by = ("countersigned_at", "countersigned_by", "countersigned_name", "countersigned_meaning")
    row = participant(session, study, 1)
    consent(session, study, row, withdrawn_on=LATER.date())
    consent(session, study, row, document_version="2", method="paper", options='{"samples": true}')
    consent(session, study, participant(session, study, 2), **dict.fromkeys(by))
    wrong = {"refused_at": LATER, "refused_by": "noor", "refused_why": "Another person"}
    consent(session, study, participant(session, study, 3), options='{"samples": true}', **wrong)
    data = made(session, study, manager, Standard.FHIR)
    found = [one["resource"] for one in json.loads(data)["entry"] if one["resource"]["resourceType"] == "Consent"]
    for one in found:
        get_fhir_model_class("Consent").model_validate(one)
    assert [one["status"] for one in found] == ["inactive", "active", "draft", "entered-in-error"]
    assert [one["verification"][0] for one in found] == [
        {"verified": True, "verificationDate": "2026-03-02T09:30:00.000000Z"},
        {"verified": True, "verificationDate": "2026-03-02T09:30:00.000000Z"},
        {"verified": False},
        {"verified": True, "verificationDate": "2026-03-02T09:30:00.000000Z"},
    ]
    assert found[0]["provision"] == {"period": {"end": LATER.date().isoformat()}}
    assert [one["policy"][0]["uri"] for one in found] == [
        f"urn:equipoise:mini:consent:{v}" for v in ("1", "2", "1", "1")
    ]
    options = [[each["valueBoolean"] for each in one["extension"] if ":option:" in each["url"]] for one in found]
    assert options == [[], [True], [], [True]]
    now = [[each["valueBoolean"] for each in one["extension"] if ":option-now:" in each["url"]] for one in found]
    assert now == [[], [True], [], []]  # as it stands of consents that hold
    assert len({one["id"] for one in found}) == 4
    assert len({one["patient"]["reference"] for one in found}) == 3
    for word in (b"Wilhelmina", b"Countersigning"):
        assert word not in data


@pytest.mark.requirement("FHIR-1", "FHIR-2")
def test_a_transaction_of_fhir_brings_an_earlier_bundle_up_to_date(
    session: Session, study: StudyInUse, manager: Actor, asked: dict[str, Any]
):
    from fhir.resources.R4B import get_fhir_model_class

    def held_of(data: bytes) -> dict[str, Any]:
        return {
            f"{each['resource']['resourceType']}/{each['resource']['id']}": each["resource"] for each in all_of(data)
        }

    def all_of(data: bytes) -> list[Any]:
        return list(json.loads(data, parse_float=Decimal)["entry"])

    fill_and_log(session, study, manager)
    kept = held_of(made(session, study, manager, Standard.FHIR, **asked))
    since = changes.head_of(session, study).size
    nothing = all_of(changed_since(session, study, manager, Standard.FHIR, since, **asked))
    assert {each["resource"]["resourceType"] for each in nothing} == {"ResearchStudy", "Questionnaire"}
    change_much(session, study, manager)
    data = changed_since(session, study, manager, Standard.FHIR, since, **asked)
    assert data == changed_since(session, study, manager, Standard.FHIR, since, **asked)
    now = held_of(made(session, study, manager, Standard.FHIR, **asked))
    bundle = json.loads(data, parse_float=Decimal)
    assert bundle["type"] == "transaction"
    get_fhir_model_class("Bundle").model_validate(bundle)
    done: dict[str, str] = {}
    for each in bundle["entry"]:
        how, where = each["request"]["method"], each["request"]["url"]
        assert where not in done, "a transaction does one thing to a resource"
        done[where] = how
        if how == "DELETE":
            assert set(each) == {"request"}
            del kept[where]
            continue
        kind, _, key = where.partition("/")
        assert (how, each["fullUrl"]) == ("PUT", f"urn:uuid:{key}")
        assert (each["resource"]["resourceType"], each["resource"]["id"]) == (kind, key)
        kept[where] = each["resource"]
    assert kept == now
    gone = [where.partition("/")[0] for where, how in done.items() if how == "DELETE"]
    assert gone.count("QuestionnaireResponse") == (2 if asked else 3)
    assert gone.count("AuditEvent") == gone.count("QuestionnaireResponse") + 2, "who signed, and why it was corrected"
    # Nothing outside is needed to take it in.
    assert set(re.findall(r'"reference":"urn:uuid:([^"]*)"', data.decode())) <= {
        where.partition("/")[2] for where, how in done.items() if how == "PUT"
    }
    patients = [each["resource"] for each in bundle["entry"] if each["request"]["url"].startswith("Patient/")]
    assert {each["identifier"][0]["value"] for each in patients} == {"M-001", "M-002", "M-003", "M-077"}


def told(value: Any) -> Any:
    """With moments as moments: the reader writes them with fewer digits."""
    if isinstance(value, dict):
        return {name: told(each) for name, each in value.items()}
    if isinstance(value, list):
        return [told(each) for each in value]
    is_moment = isinstance(value, str) and re.fullmatch(r"[0-9-]{10}T[0-9:.]+Z", value)
    return datetime.fromisoformat(value) if is_moment else value


# What holds for all of them


def opened_up(data: bytes) -> bytes:
    """What a file says, whether it is a ZIP or not."""
    return b"".join(unpacked(data).values()) if data.startswith(b"PK") else data


@pytest.mark.parametrize("standard", list(Standard))
def test_a_study_without_anybody_is_a_file_too(session: Session, study: StudyInUse, manager: Actor, standard: Standard):
    data = made(session, study, manager, standard)
    assert data
    if standard in ODM:
        schema(conformance_folder() / ODM[standard][1]).assertValid(etree.fromstring(data))


@pytest.mark.requirement("ODM-7")
@pytest.mark.parametrize("standard", [one for one in Standard if not one.is_definition])
def test_nothing_of_another_site_and_no_arm_is_in_it(
    session: Session, study: StudyInUse, manager: Actor, standard: Standard
):
    fill(session, study, manager)
    assert made(session, study, manager, standard) == made(session, study, manager, standard)
    here = opened_up(made(session, study, manager, standard, sites=("north",)))
    assert b"M-001" in here
    assert b"M-002" not in here
    everything = opened_up(made(session, study, manager, standard))
    assert b"M-002" in everything
    assert HIDDEN.encode() not in everything


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
    for standard in Standard:  # what changed since is told by all of them, of a number that there was
        assert changed_since(session, study, manager, standard, 0)
        with pytest.raises(Invalid) as problem:
            changed_since(session, study, manager, standard, 1_000_000)
        assert [each.field for each in problem.value.problems] == ["since"]
    with pytest.raises(Invalid):
        opened(session, study, manager, Standard.ODM, visits=("nowhere",))


def test_only_who_may_export_gets_it(session: Session, study: StudyInUse):
    with pytest.raises(NotAllowed):
        opened(session, study, person(session, study, "assessor"), Standard.ODM)
