"""How is a study, and what is recorded, one XML document? CDISC ODM 1.3.1 with REDCap's own attributes."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC
from itertools import chain

from fastapi.responses import Response

from app.api.redcap.answers import CONTENT_TYPES, XML_HEAD, in_pieces, streamed, xml_text
from app.api.redcap.asked import Asked
from app.api.redcap.data import Sent, each_once, xml_root
from app.api.redcap.dictionary import (
    ARM,
    ARM_NAME,
    STATUSES,
    Event,
    Field,
    Form,
    Option,
    Project,
    Style,
    encoder,
    translated,
)
from app.api.redcap.errors import Wrong
from app.api.redcap.events import repeating_rows
from app.api.redcap.metadata import RECORD_ID_LABEL, bound, bounds_of, choices_of, is_hard, kind_of, note_of
from app.api.redcap.records import EVENT, REPEAT, REPEAT_FORM, TABLE, Wanted, rows_in, wanted_of
from app.dependencies import database_of
from app.exports.actions import record_export
from app.exports.records import Recorded, recorded
from app.studies.definition import ItemType, Study

NAMESPACES = (
    'xmlns="http://www.cdisc.org/ns/odm/v1.3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xmlns:redcap="https://projectredcap.org"'
)
KINDS = {"radio": "radio", "notes": "textarea"}
VALIDATIONS = {"integer": "int", "number": "float"}
DATA_TYPES = {
    ItemType.INTEGER: "integer",
    ItemType.SCALE: "integer",
    ItemType.NUMBER: "float",
    ItemType.DATE: "date",
    ItemType.TIME: "partialTime",
    ItemType.YES_NO: "boolean",
}
PLAIN = Style()


def project_xml(asked: Asked) -> Response:
    """The study, and what is recorded unless returnMetadataOnly says otherwise."""
    only = asked.call.flag("returnMetadataOnly") or asked.call.flag("returnMetaDataOnly")
    asked.require_study()
    if only or asked.draft is not None:  # nobody is in a draft
        text = "".join([*_begun(asked), "</ODM>"])
        return Response(text.encode(), headers={"Content-Type": CONTENT_TYPES["xml"]})
    if asked.call.flag("exportFiles"):
        raise Wrong("Files are taken one by one (content=file), so that the log says who was shown which.")
    return snapshot(asked, wanted_of(asked))


def snapshot(asked: Asked, wanted: Wanted) -> Response:
    """Study and data, read while they leave; that they were taken is written down first."""
    here, permission = asked.here, asked.exporting
    begun = list(_begun(asked))
    record_export(
        here.session, here.the_study, table=TABLE, format="odm", permission=permission, by=here.actor, now=here.now
    )
    database = database_of(here.request)

    def body() -> Iterator[bytes]:
        with database.reading() as session:
            found = recorded(session, here.the_study, by=here.actor, permission=permission, codes=wanted.records)
            yield from in_pieces(chain(begun, _data(asked, wanted, found)))

    return streamed(body(), "xml")


def _attributes(values: Mapping[str, object]) -> str:
    """Attributes in the order given; blank ones of our own are left out."""
    return "".join(
        f' {name}="{_quoted(str(value))}"' for name, value in values.items() if value != "" or ":" not in name
    )


def _quoted(text: str) -> str:
    """A text as the value of an attribute: line breaks survive a parser that way."""
    return xml_text(text).replace('"', "&quot;").replace("\n", "&#10;").replace("\t", "&#9;")


def _oid(study: Study) -> str:
    return f"Project.{study.code}"


def _begun(asked: Asked) -> Iterator[str]:
    here, project = asked.here, asked.project
    study = here.the_study.definition
    at = f"{here.now.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"
    head = {
        "Description": study.title,
        "FileOID": f"{study.code}.{at}",
        "FileType": "Snapshot",
        "ODMVersion": "1.3.1",
        "AsOfDateTime": at,
        "CreationDateTime": at,
        "SourceSystem": "Equipoise",
    }
    yield f"{XML_HEAD}\n<ODM {NAMESPACES}{_attributes(head)}>\n"
    yield f'<Study OID="{_oid(study)}"><GlobalVariables><StudyName>{xml_text(study.title)}</StudyName>'
    yield f"<StudyDescription>{xml_text(study.short_title)}</StudyDescription>"
    yield f"<ProtocolName>{xml_text(study.short_title)}</ProtocolName>"
    yield from _settings(asked)
    yield "</GlobalVariables>\n"
    version = {
        "OID": f"Metadata.{study.code}.{study.version}",
        "Name": study.title,
        "redcap:RecordIdField": project.record_id,
    }
    yield f"<MetaDataVersion{_attributes(version)}>\n<Protocol>"
    for event in project.events:
        yield f'<StudyEventRef StudyEventOID="Event.{event.name}" OrderNumber="{event.place}" Mandatory="No"/>'
    yield "</Protocol>\n"
    for event in project.events:
        about = {
            "OID": f"Event.{event.name}",
            "Name": event.label,
            "Type": "Common",
            "Repeating": "Yes" if event.repeats else "No",
            "redcap:EventName": event.label,
            "redcap:UniqueEventName": event.name,
            "redcap:ArmNum": ARM,
            "redcap:ArmName": ARM_NAME,
            **_when(study, event),
        }
        yield f"<StudyEventDef{_attributes(about)}>"
        for place, form in enumerate(event.forms, start=1):
            yield f'<FormRef FormOID="Form.{form}" OrderNumber="{place}" Mandatory="No" redcap:FormName="{form}"/>'
        yield "</StudyEventDef>\n"
    yield from _forms(project)
    yield "</MetaDataVersion></Study>\n"


def _settings(asked: Asked) -> Iterator[str]:
    """What these clients set for a project: facts that hold here, the sites, and what repeats."""
    study, project = asked.here.the_study.definition, asked.project
    facts = {
        "RecordAutonumberingEnabled": int(asked.is_numbered),
        "SchedulingEnabled": 1,
        "SurveysEnabled": int(any(form.is_survey for form in project.forms)),
        "RandomizationEnabled": int(study.is_allocated),
        "Purpose": 2,
        "MissingDataCodes": " | ".join(f"{code}, {label}" for code, label in project.missing),
    }
    for name, value in facts.items():
        yield f"<redcap:{name}>{xml_text(str(value))}</redcap:{name}>"
    sites = [group.label for group in asked.groups] if asked.draft is None else [site.name for site in study.sites]
    groups = "".join(f'<redcap:DataAccessGroups group_name="{_quoted(name)}"/>' for name in sites)
    yield f"<redcap:DataAccessGroupsGroup>{groups}</redcap:DataAccessGroupsGroup>"
    rows = repeating_rows(asked)
    if not rows:
        return
    forms, events = [], []
    for event, form, _ in rows:
        about = {"redcap:UniqueEventName": event}
        if form:
            about |= {"redcap:RepeatInstrument": form}
            forms.append(f"<redcap:RepeatingInstrument{_attributes(about)}/>")
        else:
            events.append(f"<redcap:RepeatingEvent{_attributes(about)}/>")
    yield "<redcap:RepeatingInstrumentsAndEvents>"
    yield f"<redcap:RepeatingInstruments>{''.join(forms)}</redcap:RepeatingInstruments>" if forms else ""
    yield f"{''.join(events)}</redcap:RepeatingInstrumentsAndEvents>"


def _when(study: Study, event: Event) -> dict[str, object]:
    """The day of a visit, whatever it is counted from, and its window; 0 of what is in no plan."""
    visit = study.visit(event.visit)
    if visit is None:
        return {"redcap:DayOffset": 0, "redcap:OffsetMin": 0, "redcap:OffsetMax": 0}
    window = visit.window
    return {"redcap:DayOffset": visit.day, "redcap:OffsetMin": window.before, "redcap:OffsetMax": window.after}


def _group(project: Project, form: Form) -> str:
    # A form whose questions are all asked row by row has its status alone; its rows are a form of their own.
    first = form.fields[0].name if form.fields else form.complete
    return f"{form.name}.{project.record_id if form is project.first_form else first}"


def _columns(project: Project, form: Form) -> Iterator[tuple[str, str, bool]]:
    """The OID of each item of a form, the field that it belongs to, and whether it must be answered."""
    if form is project.first_form:
        yield project.record_id, project.record_id, True
    for field in form.fields:
        for column in field.columns:
            yield column, field.name, field.item.required and not field.is_calculated
    yield form.complete, form.complete, False


def _forms(project: Project) -> Iterator[str]:
    for form in project.forms:
        named = {
            "OID": f"Form.{form.name}",
            "Name": form.label,
            "Repeating": "Yes" if form.repeats else "No",
            "redcap:FormName": form.name,
        }
        group = _group(project, form)
        yield f'<FormDef{_attributes(named)}><ItemGroupRef ItemGroupOID="{group}" Mandatory="No"/></FormDef>\n'
    for form in project.forms:
        yield f'<ItemGroupDef OID="{_group(project, form)}"{_attributes({"Name": form.label})} Repeating="No">'
        for oid, name, required in _columns(project, form):
            mandatory = "Yes" if required else "No"
            yield f'<ItemRef ItemOID="{oid}" Mandatory="{mandatory}" redcap:Variable="{name}"/>'
        yield "</ItemGroupDef>\n"
    lists: list[str] = []
    yield _item(
        {"OID": project.record_id, "Name": project.record_id, "DataType": "text", "Length": 999}, RECORD_ID_LABEL
    )
    for form in project.forms:
        for field in form.fields:
            yield from _items(project, field, lists)
        about: dict[str, object] = {"OID": form.complete, "Name": form.complete, "DataType": "text", "Length": 1}
        more = {"redcap:Variable": form.complete, "redcap:FieldType": "select", "redcap:SectionHeader": "Form Status"}
        yield _item({**about, **more}, "Complete?", code_list=f"{form.complete}.choices")
        lists.append(_list(form.complete, form.complete, STATUSES.items()))
    yield from lists


def _items(project: Project, field: Field, lists: list[str]) -> Iterator[str]:
    item = field.item
    kind, validation = kind_of(field)
    about = {
        "redcap:Variable": field.name,
        "redcap:FieldType": KINDS.get(kind, kind),
        "redcap:TextValidationType": VALIDATIONS.get(validation, validation) if kind == "text" else "",
        "redcap:SectionHeader": field.section,
        "redcap:FieldNote": note_of(item),
        "redcap:FieldAnnotation": "@FORCE-MINMAX" if is_hard(item) else "",
        "redcap:RequiredField": "y" if item.required and not field.is_calculated else "",
        "redcap:BranchingLogic": translated(item.shown_if, project),
        "redcap:Calculation": choices_of(project, field) if field.is_calculated else "",
        "redcap:SliderLabels": choices_of(project, field) if kind == "slider" else "",
    }
    if field.is_checkbox:
        for option in field.options:
            yield _item(
                {"OID": option.column, "Name": option.column, "DataType": "boolean", **about},
                item.label,
                code_list=f"{option.column}.choices",
            )
            lists.append(_box(field, option))
        return
    data_type = DATA_TYPES.get(item.type, "text")
    size = (
        {"Length": item.max_length if item.type is ItemType.TEXT else 999}
        if data_type in ("text", "integer", "float")
        else {}
    )
    digits = {"SignificantDigits": item.decimals or 6} if data_type == "float" else {}
    checks = [
        f'<RangeCheck Comparator="{comparator}" SoftHard="Soft"><CheckValue>{bound(number)}</CheckValue></RangeCheck>'
        for comparator, number in zip(("GE", "LE"), bounds_of(item), strict=True)
        if number is not None
    ]
    listed = f"{field.name}.choices" if item.choices else ""
    yield _item(
        {"OID": field.name, "Name": field.name, "DataType": data_type, **size, **digits, **about},
        item.label,
        checks=checks,
        code_list=listed,
    )
    if listed:
        lists.append(_list(field.name, field.name, ((choice.code, choice.label) for choice in item.choices)))


def _item(about: Mapping[str, object], label: str, *, checks: Iterable[str] = (), code_list: str = "") -> str:
    listed = f'<CodeListRef CodeListOID="{code_list}"/>' if code_list else ""
    words = f"<Question><TranslatedText>{xml_text(label)}</TranslatedText></Question>"
    return f"<ItemDef{_attributes(about)}>{words}{''.join(checks)}{listed}</ItemDef>\n"


def _list(oid: str, variable: str, pairs: Iterable[tuple[str, str]], more: Mapping[str, str] | None = None) -> str:
    about = {"OID": f"{oid}.choices", "Name": oid, "DataType": "text", "redcap:Variable": variable, **(more or {})}
    items = "".join(
        f'<CodeListItem CodedValue="{_quoted(code)}"><Decode>'
        f"<TranslatedText>{xml_text(label)}</TranslatedText></Decode></CodeListItem>"
        for code, label in pairs
    )
    return f"<CodeList{_attributes(about)}>{items}</CodeList>\n"


def _box(field: Field, option: Option) -> str:
    choices = " | ".join(f"{each.code}, {each.label}" for each in field.options if not each.is_missing)
    pairs = (("1", "Checked"), ("0", "Unchecked"))
    return _list(option.column, field.name, pairs, {"redcap:CheckboxChoices": choices})


# Data


def _data(asked: Asked, wanted: Wanted, found: Iterable[Recorded]) -> Iterator[str]:
    project, study = wanted.project, asked.here.the_study.definition
    encoders = {field.name: encoder(field, PLAIN, project.missing) for field in project.field.values()}
    yield f'<ClinicalData StudyOID="{_oid(study)}" MetaDataVersionOID="Metadata.{study.code}.{study.version}">\n'
    for one in found:
        rows = [row for row, _ in rows_in(wanted, one)]
        if not rows:
            continue
        code = rows[0].code
        yield f'<SubjectData SubjectKey="{_quoted(code)}" redcap:RecordIdField="{project.record_id}">\n'
        for row in rows:
            event, again = row.event.name, row.number if row.event.repeats else 1
            yield f'<StudyEventData StudyEventOID="Event.{event}" StudyEventRepeatKey="{again}"'
            yield f' redcap:UniqueEventName="{event}">'
            for part in wanted.parts:
                form = part.form
                spot = (row.event.visit, form.name, row.number)
                values = row.answers.get(spot)
                if values is None or (row.form or "") != (form.name if form.repeats else ""):
                    continue
                yield f'<FormData FormOID="Form.{form.name}" FormRepeatKey="{row.number if form.repeats else 1}">'
                yield f'<ItemGroupData ItemGroupOID="{_group(project, form)}" ItemGroupRepeatKey="1">'
                if form is project.first_form:
                    yield f'<ItemData ItemOID="{project.record_id}" Value="{_quoted(code)}"/>'
                for field in part.fields:
                    value = values.get(field.item.code)
                    if value is None:
                        continue
                    for column, text in zip(field.columns, encoders[field.name](value), strict=True):
                        yield f'<ItemData ItemOID="{column}" Value="{_quoted(text)}"/>'
                if part.complete:
                    yield f'<ItemData ItemOID="{form.complete}" Value="{row.statuses[spot]}"/>'
                yield "</ItemGroupData></FormData>"
            yield "</StudyEventData>\n"
        yield "</SubjectData>\n"
    yield "</ClinicalData>\n</ODM>"


def rows_in_document(text: str, project: Project) -> list[Sent]:
    """The rows that the ClinicalData of a document holds; ValueError when it is none."""
    rows: list[Sent] = []
    root, record_id = xml_root(text), project.record_id
    if str(root.tag).rpartition("}")[2] != "ODM":
        raise ValueError
    for subject in root.iter("{*}SubjectData"):
        for event in subject.iter("{*}StudyEventData"):
            name = str(event.get("StudyEventOID", "")).removeprefix("Event.")
            once: Sent = {record_id: subject.get("SubjectKey", ""), EVENT: name}
            if name in project.event and project.event[name].repeats:
                once[REPEAT] = event.get("StudyEventRepeatKey", "1")
            rows.append(once)
            for form in event.iter("{*}FormData"):
                code, into = str(form.get("FormOID", "")).removeprefix("Form."), once
                if code in project.form and project.form[code].repeats:
                    place = {record_id: once[record_id], EVENT: name}
                    into = {**place, REPEAT_FORM: code, REPEAT: form.get("FormRepeatKey", "1")}
                    rows.append(into)
                said = [(str(item.get("ItemOID", "")), item.get("Value", "")) for item in form.iter("{*}ItemData")]
                found = each_once((oid, value) for oid, value in said if oid != record_id)
                if found.keys() & into.keys():  # the same form once more: a row of its own, as in other formats
                    into = {
                        name: value for name, value in into.items() if name in (record_id, EVENT, REPEAT_FORM, REPEAT)
                    }
                    rows.append(into)
                into |= found
    return rows
