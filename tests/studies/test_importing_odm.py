"""CDISC ODM 1.3.2 and 2.0 become study folders; what cannot is said with its OID, and hostile XML is refused."""

import re
from datetime import date
from itertools import chain, repeat
from pathlib import Path
from resource import getpagesize

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.studies.importing import Converted, Failed, convert, source, write_folder
from app.studies.importing.markup import with_lines
from app.studies.loading import read_folder
from app.studies.rules import problems
from tests.conformance import conformance_folder
from tests.studies.test_importing_redcap import item, said

ON = date(2026, 3, 2)
DATA = Path(__file__).parent / "data"

ODM13 = (DATA / "odm13.xml").read_text()

SEX = '<ItemDef OID="I.SEX" Name="Sex" DataType="text" Length="1"><CodeListRef CodeListOID="CL.SEX"/></ItemDef>'
WEIGHT = '<ItemDef OID="I.WEIGHT" Name="Weight" DataType="float" SignificantDigits="1"/>'


def odm(inside: str = "", kind: str = "text", attributes: str = "", ref: str = "") -> Converted:
    """A study with one item of interest, I.A, beside sex and weight."""
    refs = (
        '<ItemRef ItemOID="I.SEX" Mandatory="Yes"/><ItemRef ItemOID="I.WEIGHT" Mandatory="Yes"/>'
        f'<ItemRef ItemOID="I.A" Mandatory="No" {ref}/>'
    )
    definition = f'<ItemDef OID="I.A" Name="A" DataType="{kind}" {attributes}>{inside}</ItemDef>'
    text = ODM13.replace("{refs}", refs).replace("{items}", SEX + WEIGHT + definition)
    return convert(text.encode(), name="study.xml", on=ON)


def check_of(sign: str, *values: str, soft: str = "Hard") -> str:
    listed = "".join(f"<CheckValue>{value}</CheckValue>" for value in values)
    return f'<RangeCheck Comparator="{sign}" SoftHard="{soft}">{listed}</RangeCheck>'


@pytest.mark.parametrize(
    ("kind", "attributes", "kept"),
    [
        ("text", 'Length="40"', {"type": "text", "max_length": 40, "multiline": False}),
        ("string", 'Length="900"', {"type": "text", "max_length": 900, "multiline": True}),
        ("integer", 'Length="3"', {"type": "integer", "max": 999}),
        ("float", 'Length="5" SignificantDigits="2"', {"type": "number", "decimals": 2}),
        ("double", "", {"type": "number"}),
        ("date", "", {"type": "date", "precision": "day"}),
        ("partialDate", "", {"type": "date", "precision": "year"}),
        ("time", "", {"type": "time"}),
        ("datetime", "", {"type": "date_time"}),
        ("boolean", "", {"type": "yes_no"}),
        ("base64Binary", "", {"type": "file"}),
        ("URI", "", {"type": "text"}),
        ("durationDatetime", "", {"type": "text"}),
    ],
)
def test_each_data_type_is_a_type_of_item(kind, attributes, kept):
    made = item(odm(kind=kind, attributes=attributes), "a")
    assert {key: getattr(made, key) for key in kept} == kept
    assert made.required is False


@pytest.mark.parametrize(
    ("kind", "checks", "kept"),
    [
        ("integer", check_of("GE", "1") + check_of("LE", "9"), {"min": 1, "max": 9}),
        ("integer", check_of("GT", "1") + check_of("LT", "9", soft="Soft"), {"min": 2, "expected_max": 8}),
        ("float", check_of("GE", "1.5", soft="Soft"), {"expected_min": 1.5}),
        ("integer", check_of("GE", "9") + check_of("LE", "1"), {"min": 9, "max": None}),
    ],
)
def test_range_checks_are_ranges(kind, checks, kept):
    made = item(odm(checks, kind), "a")
    assert {key: None if getattr(made, key) is None else float(getattr(made, key)) for key in kept} == kept


@pytest.mark.parametrize(
    ("kind", "checks", "rule", "hard"),
    [
        ("float", check_of("GT", "2"), "[a] > '2'", True),
        ("date", check_of("GE", "2020-01-01", soft="Soft"), "[a] >= '2020-01-01'", False),
        ("text", check_of("IN", "x", "y"), "[a] = '' or [a] = 'x' or [a] = 'y'", True),
        ("text", check_of("NOTIN", "x", "y"), "not ([a] = 'x' or [a] = 'y')", True),
        ("text", check_of("NE", "it's"), '[a] <> "it\'s"', True),
        (
            "float",
            '<RangeCheck SoftHard="Soft"><FormalExpression Context="Equipoise">[I.A] &lt; [I.WEIGHT]</FormalExpression>'
            '<ErrorMessage><TranslatedText xml:lang="en">Too much</TranslatedText></ErrorMessage></RangeCheck>',
            "[a] < [weight]",
            False,
        ),
    ],
)
def test_other_checks_are_rules(kind, checks, rule, hard):
    made = item(odm(checks, kind), "a").checks
    assert [(each.rule, each.kind == "hard") for each in made] == [(rule, hard)]
    assert made[0].message == "Too much" or "ErrorMessage" not in checks


def test_events_forms_and_groups_are_visits_instruments_and_sections(tmp_path):
    made = odm('<Question><TranslatedText xml:lang="en">What is it?</TranslatedText></Question>')
    assert [(visit.code, visit.label, visit.instruments) for visit in made.study.visits] == [
        ("base", "Baseline", ("ae", "vitals")),
        ("week6", "Week 6", ("vitals",)),
    ]
    assert made.study.unscheduled is not None
    assert made.study.unscheduled.instruments == ("vitals",)
    vitals, events = made.study.instrument("vitals"), made.study.instrument("ae")
    assert vitals is not None
    assert events is not None
    assert [section.label for section in vitals.sections] == ["Measured"]
    assert (events.repeats, events.sections[0].repeats, events.sections[0].code) == (True, True, "ae")
    assert item(made, "a").label == "What is it?"
    assert [(choice.code, choice.label) for choice in item(made, "sex").choices] == [("M", "Male"), ("F", "Female")]
    assert said(made, "1 texts in the language fr.")
    assert [(text.language, text.items[0].code, text.items[0].choices[0].label) for text in vitals.texts] == [
        ("fr", "sex", "Femme")
    ]
    assert "instruments/vitals.fr.yaml" in made.files
    write_folder(made, tmp_path / "out")
    study, findings = read_folder(tmp_path / "out")
    assert study == made.study, findings


def test_units_conditions_and_methods(tmp_path):
    units = '<MeasurementUnitRef MeasurementUnitOID="MU.KG"/>'
    assert item(odm(units, "float"), "a").unit == "kg"
    two = odm(units + '<MeasurementUnitRef MeasurementUnitOID="MU.LB"/>', "float")
    assert [choice.code for choice in item(two, "a_unit").choices] == ["kg", "lb"]
    assert item(odm(ref='CollectionExceptionConditionOID="C.MALE"'), "a").shown_if == "not ([sex] = 'M')"
    elsewhere = odm(ref='CollectionExceptionConditionOID="C.XPATH"')
    assert item(elsewhere, "a").shown_if is None
    assert said(elsewhere, "The condition C.XPATH, under which nothing is asked: Elsewhere")
    double = item(odm(kind="float", ref='MethodOID="MT.DOUBLE"'), "a")
    assert (double.type, double.calculation) == ("calculated", "[weight] * 2")
    assert said(odm(kind="float", ref='MethodOID="MT.NONE"'), "The method MT.NONE")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: odm('<CodeListRef CodeListOID="CL.FAR"/>'), "The code list CL.FAR is kept elsewhere"),
        (lambda: odm('<ExternalQuestion Dictionary="D"/>'), "ExternalQuestion of I.A."),
        (lambda: odm(kind="durationDatetime"), "The data type durationDatetime."),
        (lambda: odm(kind="datetime"), "A moment with its seconds and zone."),
        (lambda: odm('<MeasurementUnitRef MeasurementUnitOID="MU.X"/>'), "There is no unit MU.X."),
        (lambda: odm(ref='Role="key"'), "Role key."),
        (lambda: odm(attributes='SDSVarName="AGE" Comment="x"'), "SDSVarName “AGE”."),
        (lambda: odm('<Alias Context="SDTM" Name="VS.X"/>'), "<Alias>."),
        (lambda: odm(), "StudyDescription"),
        (lambda: odm(), "The form F.VITALS may be left out at Extra."),
    ],
)
def test_what_is_not_taken_over_is_reported(made, words):
    assert said(made(), words)


@pytest.mark.parametrize(
    "name",
    [
        "Chronic_Low_Back_Pain_example",
        "Demographics_RACE_check_all_that_apply",
        "Inclusion_Exclusion_Simple_Workflow",
        "Crossover_Studydesign",
    ],
)
def test_every_example_of_the_standard_becomes_a_study(tmp_path, name):
    path = conformance_folder() / "odm-2.0" / "examples" / f"{name}.xml"
    made = convert(path.read_bytes(), name=path.name, on=ON)
    write_folder(made, tmp_path / "out")
    study, findings = read_folder(tmp_path / "out")
    assert study is not None, findings


def test_the_back_pain_example_is_a_table_of_four_questions():
    path = conformance_folder() / "odm-2.0" / "examples" / "Chronic_Low_Back_Pain_example.xml"
    form = convert(path.read_bytes(), name=path.name, on=ON).study.instrument("clbp")
    assert form is not None
    assert (form.label, form.sections[0].layout, len(form.items)) == ("Chronic Low Back Pain Form", "matrix", 4)
    assert form.items[3].label == "How much did pain interfere with your household chores?"
    assert [choice.label for choice in form.items[0].choices][::4] == ["Not at all", "Very much"]


def test_the_report_on_the_back_pain_example_names_whatever_is_not_converted():
    path = conformance_folder() / "odm-2.0" / "examples" / "Chronic_Low_Back_Pain_example.xml"
    made = convert(path.read_bytes(), name=path.name, on=ON)
    for words in (
        "Data of participants (1).",
        "The event Chronic Low Back Pain Visit repeats.",
        "asked once for each of 4 terms",
        "ItemGroupDef IG.QUESTIONNAIRE_CLASSIC",
        "ItemDef IT.INTERFERE_DAY_TO_DAY",
        "ItemDef IT.INTERFERE_WORK_AROUND_HOME",
        "ItemDef IT.INTERFERE_SOCIAL_ACTIVITIES",
        "ItemDef IT.INTERFERE_HOUSEHOLD_CHORES",
        "Rank “1”, 5 times.",
        "Names beside what is shown (5).",  # of the items with a question of their own
        "Names beside what is shown (2).",  # of the code lists
    ):
        assert said(made, words), words


def test_times_and_criteria_of_odm_2_are_taken_over():
    events = "".join(
        f'<StudyEventDef OID="SE.{n}" Name="Visit {n}" Repeating="No" Type="Scheduled">'
        '<ItemGroupRef ItemGroupOID="IG.F" Mandatory="Yes"/></StudyEventDef>'
        for n in (1, 2, 3)
    )
    timing = "".join(
        f'<RelativeTimingConstraint OID="T{a}" Name="t" PredecessorOID="SE.{a}" SuccessorOID="SE.{b}" '
        f'TimepointRelativeTarget="{target}" TimepointPreWindow="P2D" TimepointPostWindow="P1W"/>'
        for a, b, target in ((2, 3, "P2W"), (1, 2, "P7D"))
    )
    text = (
        '<ODM xmlns="http://www.cdisc.org/ns/odm/v2.0" ODMVersion="2.0"><Study OID="S" StudyName="Two">'
        '<MetaDataVersion OID="M" Name="m">'
        f"<Protocol><StudyTimings><StudyTiming OID='ST' Name='s'>{timing}</StudyTiming></StudyTimings>"
        "<InclusionExclusionCriteria><ExclusionCriteria>"
        '<Criterion OID="CR.ILL" Name="Seriously ill" ConditionOID="C.1"/>'
        f"</ExclusionCriteria></InclusionExclusionCriteria></Protocol>{events}"
        '<ItemGroupDef OID="IG.F" Name="Form" Repeating="No" Type="Form">'
        '<ItemRef ItemOID="IT.X" Mandatory="Yes"/></ItemGroupDef>'
        '<ItemDef OID="IT.X" Name="X" DataType="decimal"/></MetaDataVersion></Study></ODM>'
    )
    study = convert(text.encode(), name="two.xml", on=ON).study
    assert [(visit.day, visit.window.before, visit.window.after) for visit in study.visits] == [
        (0, 0, 0),
        (7, 2, 7),
        (21, 2, 7),
    ]
    assert [(each.label, each.kind, each.rule) for each in study.eligibility.criteria] == [
        ("Seriously ill", "exclusion", "[ill] = '1'")
    ]


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]><ODM>&b;</ODM>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><ODM><Study>&a;</Study></ODM>'
RING = (
    '<ODM xmlns="http://www.cdisc.org/ns/odm/v2.0"><Study OID="s" StudyName="s"><MetaDataVersion OID="m" Name="m">'
    '<ItemGroupDef OID="A" Name="a" Repeating="No" Type="Form"><ItemGroupRef ItemGroupOID="B"/></ItemGroupDef>'
    '<ItemGroupDef OID="B" Name="b" Repeating="No" Type="Section"><ItemGroupRef ItemGroupOID="C"/></ItemGroupDef>'
    '<ItemGroupDef OID="C" Name="c" Repeating="No" Type="Section"><ItemGroupRef ItemGroupOID="B"/></ItemGroupDef>'
    "</MetaDataVersion></Study></ODM>"
)


@pytest.mark.requirement("ODM-8", "SEC-4")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "document type or entities"),
        (OUTSIDE, "document type or entities"),
        ("<ODM><Study></ODM>", "not well-formed XML at line 1"),
        ("<ODM>" + "<a>" * 150 + "</a>" * 150 + "</ODM>", "nested more than 100 deep"),
        ("<ODM>" + "<a>" * 3000 + "</a>" * 3000 + "</ODM>", "nested"),
        ("<html><body/></html>", "This XML is no ODM"),
        ("<ODM><Study OID='x'/></ODM>", "no Study with a MetaDataVersion"),
        (ODM13.split("<StudyEventDef")[0] + "</MetaDataVersion></Study></ODM>", "no form with a question"),
        (RING, "nested more than 12 deep"),
        ("<ODM>&nothing;</ODM>", "not well-formed"),
        # In an encoding of its own, a document type would not look like one to us.
        (f"<?xml version='1.0' encoding='UTF-7'{' ' * 300}?>+ADwAIQ-DOCTYPE ODM+AD4-<ODM/>", "not well-formed"),
    ],
)
def test_hostile_and_foreign_xml_is_refused_with_what_to_do(text, words):
    with pytest.raises(Failed) as failed:
        convert(text.encode(), name="x.xml", on=ON)
    assert words in str(failed.value)


# Files with data, of any size


def resident() -> float:
    """The megabytes of memory that this process holds; a tree of lxml is none of Python's."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize() / 1_000_000


class Endless:
    """A file that is made as it is read: what comes before, the same row so many times, what comes after."""

    def __init__(self, before: str, row: str, times: int, after: str) -> None:
        self._parts = chain([before.encode()], repeat(row.encode(), times), [after.encode()])
        self._waiting = b""
        self.begun, self.most = resident(), 0.0  # megabytes of the process, while it is read

    def read(self, size: int, /) -> bytes:
        self.most = max(self.most, resident())
        while len(self._waiting) < size and (part := next(self._parts, None)) is not None:
            self._waiting += part
        given, self._waiting = self._waiting[:size], self._waiting[size:]
        return given


WHOLE = ODM13.replace("{refs}", '<ItemRef ItemOID="I.SEX" Mandatory="Yes"/>').replace("{items}", SEX)
BEFORE, AFTER = WHOLE.rsplit("</ODM>", 1)[0] + "<ClinicalData>", "</ClinicalData></ODM>"
SUBJECT = "<ItemData Value='8'><Words>words</Words></ItemData>" * 400


@pytest.mark.requirement("ODM-8", "ODM-9")
def test_what_was_entered_is_passed_over_whatever_its_size():
    times = 21_000_000 // len(SUBJECT)  # more than may be kept, in bytes and in elements
    file = Endless(BEFORE, SUBJECT, times, AFTER)
    made = convert(file, name="all.xml", on=ON)
    assert file.most - file.begun < 20
    assert item(made, "sex").label
    assert said(made, "Data of participants (1).")
    assert made.study == convert(f"{BEFORE}{AFTER}".encode(), name="all.xml", on=ON).study


@pytest.mark.requirement("ODM-8", "SEC-4")
@pytest.mark.parametrize(
    ("before", "row", "after", "words"),
    [
        (BEFORE, "<!DOCTYPE x>", AFTER, "document type or entities"),
        (f"{BEFORE}<!DOC", "", f"TYPE x [<!ENTITY a 'b'>]>{AFTER}", "document type or entities"),
        (BEFORE, "&bomb;", AFTER, "not well-formed"),
        (BEFORE, "<a>" * 200 + "</a>" * 200, AFTER, "nested more than 100 deep"),
        (BEFORE, "<a>", AFTER, "nested more than 100 deep"),
        (BEFORE, "<a/>\x00", AFTER, "NUL character"),
        (BEFORE, SUBJECT, "", "not well-formed"),
        (WHOLE.rsplit("</ODM>", 1)[0], "<ClinicalData/>", "</ODM>", "more than 400,000 elements"),
        (WHOLE.rsplit("</ODM>", 1)[0], f"<Other Name='{'x' * 1000}'/>", "</ODM>", "larger than 20 MB"),
    ],
)
def test_what_is_passed_over_cannot_do_harm(before, row, after, words):
    with pytest.raises(Failed) as failed:
        convert(Endless(before, row, 420_000 if len(row) < 1_100 else 50, after), name="x.xml", on=ON)
    assert words in str(failed.value)


def test_a_document_type_is_found_wherever_a_piece_ends():
    for place in range(12):
        filled = BEFORE + " " * (65_536 - len(BEFORE) - place)
        with pytest.raises(Failed) as failed:
            convert(Endless(filled, "<!DOCTYPE x>", 1, AFTER), name="x.xml", on=ON)
        assert "document type" in str(failed.value)


def test_a_file_beyond_all_bounds_is_refused(monkeypatch):
    monkeypatch.setattr(source, "LARGEST_FILE", 200_000)
    with pytest.raises(Failed) as failed:
        convert(Endless(BEFORE, SUBJECT, 50, AFTER), name="x.xml", on=ON)
    assert "Export the definition alone" in str(failed.value)


# REDCap's own ODM

REDCAP = (DATA / "redcap_project.xml").read_text()


def test_a_redcap_project_brings_events_groups_and_repeats(tmp_path: Path):
    made = convert(REDCAP.encode(), name="project.xml", on=ON)
    study = made.study
    assert (study.title, study.short_title, study.record_id) == ("Back trial", "Back", "record_id")
    assert [(v.code, v.label, v.day, v.window.before, v.window.after, v.instruments) for v in study.visits] == [
        ("base", "Baseline", 0, 0, 0, ("base", "ae")),
        ("week_6", "Week 6", 42, 7, 14, ("base", "ae")),
    ]
    assert [site.name for site in study.sites] == ["North", "South"]
    assert [(arm.code, arm.label) for arm in study.arms] == [("1", "Training"), ("2", "Sham")]
    assert [(code.code, code.label) for code in study.missing_codes] == [("M99", "Not done"), ("UNK", "Unknown")]
    base, adverse = study.instrument("base"), study.instrument("ae")
    assert base is not None
    assert adverse is not None
    assert [each.code for each in base.items] == ["sex", "meds", "pain", "change"]
    assert (adverse.repeats, adverse.respondent) == (True, "participant")
    assert [choice.code for choice in item(made, "meds").choices] == ["1", "2"]
    assert (item(made, "pain").hint, item(made, "pain").expected_max) == ("first\nsecond", 10)
    assert item(made, "change").calculation == "[week_6][pain] - [base][pain]"
    assert item(made, "pain").shown_if is None
    assert adverse.repeat_label == "ae_term"
    for words in (
        "held the arm of the randomisation module",
        "[sex] = '1' and [group] = '1'",
        "Events stand in 2 arms",
        "The whole event repeats.",
        "A report: title All.",
        "A survey: form_name ae, title x.",
        "SurveysEnabled 1.",
        "redcap:VideoUrl “x”.",
        "Its code is M99",
    ):
        assert said(made, words), words
    write_folder(made, tmp_path / "out")
    read, findings = read_folder(tmp_path / "out")
    assert read is not None, findings


SETTINGS = """
<redcap:DataQualityRulesGroup>
<redcap:DataQualityRules rule_name="Old" rule_logic="[age] &gt; 100"/></redcap:DataQualityRulesGroup>
<redcap:AlertsGroup><redcap:Alerts alert_title="Pain" alert_condition="[pain] &gt; 8"/></redcap:AlertsGroup>
<redcap:SurveysSchedulerGroup>
<redcap:SurveysScheduler survey_id="ae" email_subject="Please"/></redcap:SurveysSchedulerGroup>
<redcap:SomethingNewGroup><redcap:SomethingNew logic="[sex] = '1'" order="0"/></redcap:SomethingNewGroup>
</GlobalVariables>"""


def test_each_setting_is_told_with_what_it_says():
    made = convert(REDCAP.replace("</GlobalVariables>", SETTINGS).encode(), name="p.xml", on=ON)
    for words in (
        "A data quality rule: rule_name Old, rule_logic [age] > 100.",
        "An alert: alert_title Pain, alert_condition [pain] > 8.",
        "An automatic invitation: survey_id ae, email_subject Please.",
        "SomethingNewGroup: logic [sex] = '1'.",
    ):
        assert said(made, words), words


def test_a_day_that_differs_between_arms_and_a_form_at_no_event_are_told():
    in_second = 'redcap:ArmNum="2" redcap:ArmName="Two" redcap:DayOffset="'
    text = REDCAP.replace(f'{in_second}0"', f'{in_second}7"')
    assert text != REDCAP
    made = convert(text.encode(), name="p.xml", on=ON)
    assert said(made, "Baseline is due on day 7 in Two, 0 before to 0 after.")
    text = REDCAP.replace('<FormRef FormOID="Form.ae"/>', "")
    made = convert(text.encode(), name="p.xml", on=ON)
    assert said(made, "“Adverse events” is filled in at no event.")
    assert made.study.instrument("ae") is not None


@pytest.mark.requirement("ODM-8")
def test_a_project_is_read_whatever_was_entered_or_attached():
    """Twenty-one megabytes of answers with line ends in them, and a file of twelve."""
    row = "<ItemData ItemOID='pain' Value=\"one\ntwo > three's\"/>\n" * 400
    attached = f"<redcap:OdmAttachmentGroup><redcap:OdmAttachment DocName='a.pdf'><![CDATA[{'<x>' * 4_000_000}]]>"
    before = REDCAP.replace(
        "</GlobalVariables>", f"{attached}</redcap:OdmAttachment></redcap:OdmAttachmentGroup></GlobalVariables>"
    )
    file = Endless(before.rsplit("</Study>", 1)[0] + "</Study><ClinicalData>", row, 21_000_000 // len(row), AFTER)
    made = convert(file, name="p.xml", on=ON)
    assert made.study == convert(REDCAP.encode(), name="p.xml", on=ON).study
    assert said(made, "Records of participants.")
    assert said(made, "An attached file: DocName a.pdf.")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 10_000])
def test_line_ends_are_mended_in_attributes_alone_wherever_a_piece_ends(size: int):
    text = (
        "<a b=\"1\r\n2\n3\" c='x>\n\"y\"'>\n<!-- it's \"\n\" --><d\n e='f'/>it's\n"
        '<![CDATA[\n<z q="\n">]]>\n<g h=""/></a>'
    )
    kept = '<a b="1&#10;2&#10;3" c=\'x>&#10;"y"\'>\n<d\n e=\'f\'/>it\'s\n<![CDATA[\n<z q="\n">]]>\n<g h=""/></a>'
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert "".join(with_lines(iter(pieces))) == kept


def test_days_of_some_events_alone_are_none():
    made = convert(REDCAP.replace('redcap:DayOffset="0"', 'redcap:DayOffset=""', 1).encode(), name="p.xml", on=ON)
    assert {visit.day for visit in made.study.visits} == {0}
    assert said(made, "Only some of them have a day.")


def test_an_encoding_that_xml_declares_is_believed():
    text = REDCAP.replace('encoding="UTF-8"', 'encoding="ISO-8859-1"').replace("Back trial", "R\u00fccken")
    assert convert(text.encode("latin-1"), name="p.xml", on=ON).study.title == "R\u00fccken"


VALUES = [
    "",
    "-1",
    "Yes",
    "9" * 30,
    "[a]",
    "\u00e9",
    "1e400",
    "NaN",
    "Static",
    "Dynamic",
    "boolean",
    "calc",
    "P1Y",
    "\u0663",
    "'",
]
SOURCES = [
    REDCAP,
    ODM13.replace("{refs}", '<ItemRef ItemOID="I.SEX" Mandatory="Yes"/>').replace("{items}", SEX + WEIGHT),
]
PLACES = [list(re.finditer(r'="([^"]*)"|>([^<>]+)<', text)) for text in SOURCES]


@pytest.mark.requirement("ODM-8")
@settings(deadline=None, max_examples=80, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_stands_in_a_definition_it_becomes_a_study_or_is_refused_in_words(data):
    which = data.draw(st.integers(0, 1))
    text, shift = SOURCES[which], 0
    places = data.draw(
        st.lists(st.integers(0, len(PLACES[which]) - 1), min_size=1, max_size=5, unique=True).map(sorted)
    )
    for number in places:
        found = PLACES[which][number]
        group = 1 if found.group(1) is not None else 2
        value = data.draw(st.sampled_from(VALUES))
        text = text[: found.start(group) + shift] + value + text[found.end(group) + shift :]
        shift += len(value) - len(found.group(group))
    try:
        study = convert(text.encode(), name="x.xml", on=ON).study
    except Failed as reason:
        refused = str(reason)
        assert "cannot become a study" not in refused
        return
    assert [finding for finding in problems(study) if finding.is_error] == []
