"""What does a REDCap project XML say? ODM 1.3.1 with REDCap's own attributes: fields, events, repeats, settings."""

import re

from app.studies.importing.codes import plain, short
from app.studies.importing.draft import Draft
from app.studies.importing.leftovers import report_leftovers
from app.studies.importing.markup import Node, all_text
from app.studies.importing.redcap import Event, Project, Row
from app.studies.importing.redcap import read as read_project
from app.studies.importing.report import Failed
from app.studies.rules.references import SCREENING

_FIELD_TYPES = {"select": "dropdown", "textarea": "notes"}
_PSEUDO = frozenset({"redcap_data_access_group", "redcap_survey_identifier", "redcap_event_name"})

# Settings that a study says elsewhere, or not at all: (name, what one of them is, what to do, what of it is told).
_TEXTS = (
    "form_name title instructions acknowledgement stop_action_acknowledgement offline_instructions survey_expiration "
    "save_and_return question_by_section end_survey_redirect_url end_survey_redirect_next_survey_logic response_limit "
    "survey_time_limit_days survey_time_limit_hours confirmation_email_subject confirmation_email_content"
)
_SETTINGS = (
    ("SurveysGroup", "A survey", "Its form has `respondent: participant`; links are given on pages.", _TEXTS),
    ("SurveysQueueGroup", "Part of the survey queue", "Plan the form at a visit.", ""),
    ("SurveysSchedulerGroup", "An automatic invitation", "Write `schedule: reminders:`.", ""),
    ("FormDisplayLogicGroup", "When a form can be opened", "Write `shown_if` at its questions.", ""),
    ("EconsentGroup", "Electronic consent", "Write the consent document into consent/.", ""),
    ("EconsentFormsGroup", "A form of electronic consent", "Write the consent document into consent/.", ""),
    ("PdfSnapshotsGroup", "A PDF snapshot", "Nothing: records are printed from their pages.", ""),
    ("UserRolesGroup", "A user role", "Give people their roles: they are fixed, see Study, Roles.", "role_name"),
    ("ReportsGroup", "A report", "Build an export instead.", "title"),
    ("DataQualityRulesGroup", "A data quality rule", "Write it as a check of an item.", ""),
    ("OdmAttachmentGroup", "An attached file", "Keep it in the trial master file.", "DocName"),
    ("AlertsGroup", "An alert", "Write `schedule: reminders:`.", ""),
    ("DashboardsGroup", "A dashboard", "Nothing.", "title"),
    ("MultilanguageSettingsGroup", "Words in other languages", "Write them as instruments/CODE.LANGUAGE.yaml.", ""),
)
MOST_TOLD = 100  # of one group of settings
_READ = frozenset(
    {
        "StudyName",
        "ProtocolName",
        "redcap:MissingDataCodes",
        "redcap:DataAccessGroupsGroup",
        "redcap:RepeatingInstrumentsAndEvents",
        "redcap:RandomizationGroup",
    }
)
_GROUPS = frozenset(f"redcap:{name}" for name, *_ in _SETTINGS)
# What is read of each element; everything else in it is reported by its name.
_OF_ELEMENTS = {
    "ItemDef": "OID Name DataType Length SignificantDigits Question CodeListRef RangeCheck redcap:Variable "
    "redcap:Label redcap:FieldType redcap:SectionHeader redcap:FieldNote redcap:TextValidationType redcap:Identifier "
    "redcap:BranchingLogic redcap:RequiredField redcap:CustomAlignment redcap:QuestionNumber redcap:MatrixGroupName "
    "redcap:MatrixRanking redcap:FieldAnnotation redcap:Calculation redcap:SliderLabels redcap:CheckboxChoices",
    "FormDef": "OID Name Repeating redcap:FormName ItemGroupRef",
    "StudyEventDef": "OID Name Type Repeating redcap:EventName redcap:UniqueEventName redcap:ArmNum redcap:ArmName "
    "redcap:DayOffset redcap:OffsetMin redcap:OffsetMax redcap:CustomEventLabel FormRef",
}
_VALUES = {
    "redcap:CustomRecordLabel": "Nothing: participants are named by their code.",
    "redcap:SecondaryUniqueField": "Nothing: only the participant's code is unique.",
    "redcap:SurveyInvitationEmailField": "Nothing: the address is part of the participant's identity.",
    "redcap:PurposeOther": "Nothing.",
    "redcap:ProjectNotes": "Nothing.",
}


def read(root: Node, name: str) -> Draft:
    """The draft of a project; `Failed` when the file defines none."""
    study = root.first("Study")
    version = study.first("MetaDataVersion") if study else None
    if study is None or version is None:
        raise Failed("The file has no Study with a MetaDataVersion. Export the project's metadata as XML again.")
    project = Project(f"the REDCap project XML {name}", is_ours=root.get("SourceSystem") == "Equipoise")
    _settings(project, study)
    _fields(project, version)
    _events(project, version)
    if root.first("ClinicalData") is not None:
        project.notes.append(
            (
                "ClinicalData",
                "Records of participants.",
                "Bring data in once the study is loaded: this is its definition.",
            )
        )
    draft = read_project(project)
    report_leftovers(draft.report, version, _OF_ELEMENTS)
    return draft


def _settings(project: Project, study: Node) -> None:
    settings = study.first("GlobalVariables") or Node("GlobalVariables", study.line)
    project.title = all_text(settings.first("StudyName"))
    project.short_title = all_text(settings.first("ProtocolName"))
    project.surveys = [form for survey in settings.within("redcap:Surveys") if (form := survey.get("form_name"))]
    others: list[str] = []
    for child in settings.children:
        if child.tag not in _READ and child.tag not in _VALUES and child.tag not in _GROUPS:
            words = child.text.strip()
            _tell(project, child, f"{child.tag.removeprefix('redcap:')}", "Nothing, unless the study needs it.", "")
            others += [f"{child.tag.removeprefix('redcap:')} {words[:100]}"] if words not in ("", "0") else []
        if child.tag == "redcap:MissingDataCodes":
            project.missing_codes = child.text
        elif child.tag in _VALUES and child.text.strip():
            words = f"{child.tag.removeprefix('redcap:')}: {child.text.strip()[:300]}"
            project.notes.append(("Project settings", words, _VALUES[child.tag]))
    if others:
        project.notes.append(("Project settings", f"{'; '.join(others)}.", "Nothing, unless the study needs it."))
    for group in settings.within("redcap:DataAccessGroups"):
        project.groups.append(group.get("group_name"))
    for repeating in settings.within("redcap:RepeatingInstrument"):
        form = repeating.get("redcap:RepeatInstrument")
        project.repeating.append((repeating.get("redcap:UniqueEventName"), form))
        if label := repeating.get("redcap:CustomLabel"):
            project.repeat_labels[form] = label
    for repeating in settings.within("redcap:RepeatingEvent"):
        project.repeating.append((repeating.get("redcap:UniqueEventName"), ""))
    for randomisation in settings.within("redcap:Randomization"):
        _randomisation(project, randomisation)
    for group_name, what, to_do, told in _SETTINGS:
        for group in settings.within(f"redcap:{group_name}"):
            _tell(project, group, what, to_do, told)


def _tell(project: Project, group: Node, what: str, to_do: str, told: str) -> None:
    """A note for each setting of a group, with what it says (`told`: that alone), so that it can be written anew."""
    for place, each in enumerate(group.children):
        if place == MOST_TOLD:
            project.notes.append(("Project settings", f"{what}: {len(group.children) - place} more.", to_do))
            return
        said = [
            f"{name.removeprefix('redcap:')} {short(plain(value), 300)}"
            for name, value in each.attributes.items()
            if plain(value) not in ("", "0") and (not told or name.removeprefix("redcap:") in told.split())
        ]
        project.notes.append(("Project settings", f"{what}: {', '.join(said) or short(plain(each.text), 80)}.", to_do))


def _randomisation(project: Project, node: Node) -> None:
    target = node.get("target_field")
    if target:
        project.allocated_by = (*project.allocated_by, target)
    said = [f"{name} {value}" for name, value in node.attributes.items() if value.strip()]
    project.notes.append(
        (
            "Randomisation module",
            f"{', '.join(said) or 'settings'}.",
            "Write `allocation:` with its method and strata; the list is uploaded by the statistician, on Sequence.",
        )
    )


def _fields(project: Project, version: Node) -> None:
    items = {node.get("OID"): node for node in version.all("ItemDef")}
    groups = {node.get("OID"): node for node in version.all("ItemGroupDef")}
    lists = {node.get("OID"): node for node in version.all("CodeList")}
    rows: dict[str, Row] = {}
    for form in version.all("FormDef"):
        name = form.get("redcap:FormName") or form.get("OID").removeprefix("Form.")
        project.form_labels[name] = form.get("Name")
        if form.get("Repeating") == "Yes" and name not in {each for _, each in project.repeating}:
            project.repeating.append(("", name))
        for group_ref in form.all("ItemGroupRef"):
            group = groups.get(group_ref.get("ItemGroupOID"))
            for ref in group.all("ItemRef") if group else ():
                item = items.get(ref.get("ItemOID"))
                if item is None:
                    project.notes.append(
                        (f"Form {name}", f"There is no ItemDef {ref.get('ItemOID')}.", "Export again.")
                    )
                    continue
                variable = item.get("redcap:Variable") or ref.get("redcap:Variable") or item.get("OID")
                if variable in _PSEUDO or variable == f"{name}_complete" or variable == f"{name}_timestamp":
                    continue
                coded = lists.get((item.first("CodeListRef") or item).get("CodeListOID"))
                if variable in rows:
                    _another_choice(rows[variable], item)
                    continue
                row = rows[variable] = _row(item, variable, name, coded)
                if ref.get("Mandatory") == "Yes":
                    row.required = "y"
                project.rows.append(row)


def _row(item: Node, variable: str, form: str, coded: Node | None) -> Row:
    kind = item.get("redcap:FieldType") or "text"
    row = Row(
        name=variable,
        form=form,
        section=item.get("redcap:SectionHeader"),
        type=_FIELD_TYPES.get(kind, kind),
        label=item.attributes.get("redcap:Label") or all_text(item.first("Question")),
        note=item.get("redcap:FieldNote"),
        validation=item.get("redcap:TextValidationType"),
        identifier=item.get("redcap:Identifier"),
        branching=item.get("redcap:BranchingLogic"),
        required=item.get("redcap:RequiredField"),
        alignment=item.get("redcap:CustomAlignment"),
        number=item.get("redcap:QuestionNumber"),
        matrix=item.get("redcap:MatrixGroupName"),
        ranking=item.get("redcap:MatrixRanking"),
        annotation=item.get("redcap:FieldAnnotation"),
        where=f"Line {item.line}, [{variable[:60]}]",
    )
    if kind == "calc":
        row.choices = item.get("redcap:Calculation")
    elif kind == "slider":
        row.choices = item.get("redcap:SliderLabels")
    elif kind == "checkbox":
        row.choices = (coded.get("redcap:CheckboxChoices") if coded else "") or item.get("redcap:CheckboxChoices")
        if not row.choices:
            row.options = []
            _another_choice(row, item)
    elif coded is not None and kind in ("radio", "select", "dropdown"):
        row.options = [(each.get("CodedValue"), all_text(each.first("Decode"))) for each in coded.all("CodeListItem")]
    for check in item.all("RangeCheck"):
        value = all_text(check.first("CheckValue"))
        if check.get("Comparator") in ("GE", "GT"):
            row.low = value
        elif check.get("Comparator") in ("LE", "LT"):
            row.high = value
    return row


def _another_choice(row: Row, item: Node) -> None:
    """A choice of a checkbox that has an ItemDef of its own, named field___code."""
    if row.options is not None and "___" in item.get("OID"):
        code = re.sub(r"^.*?___", "", item.get("OID"))
        row.options.append((code, all_text(item.first("Question"))))


def _events(project: Project, version: Node) -> None:
    order = [ref.get("StudyEventOID") for ref in (version.first("Protocol") or version).all("StudyEventRef")]
    events = {node.get("OID"): node for node in version.all("StudyEventDef")}
    named = [events[oid] for oid in order if oid in events] + [e for oid, e in events.items() if oid not in order]
    for node in named:
        unique = node.get("redcap:UniqueEventName") or node.get("OID").removeprefix("Event.")
        project.events.append(
            Event(
                unique=unique,
                name=node.get("redcap:EventName") or node.get("Name") or unique,
                arm=node.get("redcap:ArmNum") or "1",
                arm_name=node.get("redcap:ArmName"),
                forms=[ref.get("FormOID").removeprefix("Form.") for ref in node.all("FormRef")],
                day=node.get("redcap:DayOffset"),
                before=node.get("redcap:OffsetMin"),
                after=node.get("redcap:OffsetMax"),
                where=f"Line {node.line}, event {unique}",
                code=SCREENING if project.is_ours and unique == f"{SCREENING}_arm_1" else "",
            )
        )
        if label := node.get("redcap:CustomEventLabel"):
            project.notes.append(
                (f"Event {unique}", f"The label {label}.", "Nothing: visits are named by their label.")
            )
