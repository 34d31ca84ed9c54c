"""What does a Define-XML 2.1 say of the datasets of a study? Every variable, its codes, and how it was derived.

It is ODM 1.3.2 with the elements of the namespace `def`; the same names as in the datasets stand for the same things.
"""

from collections.abc import Sequence
from typing import Any

from app.exports.formats.odm import LANGUAGE, instant
from app.exports.formats.sdtm import Domain, Variable
from app.exports.formats.xml import Parts, said
from app.exports.whole import Whole

ODM = "http://www.cdisc.org/ns/odm/v1.3"
DEF = "{http://www.cdisc.org/ns/def/v2.1}"
XLINK = "{http://www.w3.org/1999/xlink}"
TYPES = {"string": "text", "integer": "integer", "decimal": "float", "date": "date"}
LENGTHS = {"text": "200", "integer": "8", "float": "16"}


def version_oid(whole: Whole) -> str:
    """What the metadata of the datasets are called."""
    return f"MDV.{whole.study.version}.SDTMIG.3.3"


def item_oid(domain: Domain, variable: Variable) -> str:
    """What a variable is called in a Define-XML and in its dataset."""
    return f"IT.{domain.name}.{variable.name}"


def define_xml(whole: Whole, found: Sequence[Domain], *, ending: str) -> bytes:
    """The document; datasets are files with this ending, beside it."""
    from lxml import etree

    parts, study = Parts(ODM), whole.study
    spaces: Any = {None: ODM, "def": DEF.strip("{}"), "xlink": XLINK.strip("{}")}
    root: Any = etree.Element(
        parts.name("ODM"),
        said(
            {
                "FileType": "Snapshot",
                "FileOID": f"{whole.file_oid}.define",
                "CreationDateTime": instant(whole.changed_at),
                "ODMVersion": "1.3.2",
                "Originator": study.sponsor,
                "SourceSystem": "Equipoise",
                "SourceSystemVersion": whole.software,
                f"{DEF}Context": "Other",
            }
        ),
        nsmap=spaces,
    )
    made = parts.add(root, "Study", OID=f"ST.{study.code}")
    names = parts.add(made, "GlobalVariables")
    parts.add(names, "StudyName", study.short_title)
    parts.add(names, "StudyDescription", study.title)
    parts.add(names, "ProtocolName", study.code)
    version = parts.add(
        made,
        "MetaDataVersion",
        **{
            "OID": version_oid(whole),
            "Name": f"SDTM datasets of version {study.version}",
            "Description": "Blinded: arms are withheld, EX is left out"
            + ("" if whole.since is None else f". Only subjects of whom anything may have changed since {whole.since}"),
            f"{DEF}DefineVersion": "2.1.0",
        },
    )
    standards = parts.add(version, f"{DEF}Standards")
    standard = {"OID": "STD.1", "Name": "SDTMIG", "Type": "IG", "Version": "3.3", "Status": "Final"}
    parts.add(standards, f"{DEF}Standard", **standard)
    for domain in found:
        _dataset(parts, version, domain, ending)
    for domain in found:
        for variable in domain.variables:
            _variable(parts, version, domain, variable)
    for domain in found:
        for variable in domain.variables:
            if variable.codes:
                oid, name = f"CL.{domain.name}.{variable.name}", f"{variable.label} ({domain.name})"
                codes = {"OID": oid, "Name": name, "DataType": "text", f"{DEF}IsNonStandard": "Yes"}
                listed = parts.add(version, "CodeList", **codes)
                for place, (code, label) in enumerate(variable.codes, 1):
                    entry = parts.add(listed, "CodeListItem", CodedValue=code, OrderNumber=str(place))
                    _text(parts, parts.add(entry, "Decode"), label, study.language)
    for domain in found:
        for variable in domain.variables:
            if variable.derived:
                oid = f"MT.{domain.name}.{variable.name}"
                name = f"How {variable.name} comes about"
                method = parts.add(version, "MethodDef", OID=oid, Name=name, Type="Computation")
                _text(parts, parts.add(method, "Description"), variable.derived, "en")
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True))


def _text(parts: Parts, parent: Any, text: str, language: str) -> None:
    parts.add(parent, "TranslatedText", text, **{LANGUAGE: language})


def _dataset(parts: Parts, version: Any, domain: Domain, ending: str) -> None:
    leaf, href = f"LF.{domain.name}", f"{domain.name.lower()}.{ending}"
    made = parts.add(
        version,
        "ItemGroupDef",
        **{
            "OID": f"IG.{domain.name}",
            "Name": domain.name,
            "Repeating": "Yes" if domain.repeats else "No",
            "IsReferenceData": "No" if domain.closing is None else "Yes",
            "SASDatasetName": domain.name,
            "Domain": None if domain.is_ours else domain.name,
            "Purpose": "Tabulation",
            f"{DEF}Structure": domain.structure,
            f"{DEF}StandardOID": None if domain.is_ours else "STD.1",
            f"{DEF}IsNonStandard": "Yes" if domain.is_ours else None,
            f"{DEF}ArchiveLocationID": leaf,
        },
    )
    _text(parts, parts.add(made, "Description"), domain.label, "en")
    for place, variable in enumerate(domain.variables, 1):
        parts.add(
            made,
            "ItemRef",
            ItemOID=item_oid(domain, variable),
            OrderNumber=str(place),
            Mandatory="Yes" if variable.required else "No",
            KeySequence=str(variable.key) if variable.key else None,
            MethodOID=f"MT.{domain.name}.{variable.name}" if variable.derived else None,
        )
    if not domain.is_ours:
        parts.add(made, f"{DEF}Class", Name=domain.kind)
    file = parts.add(made, f"{DEF}leaf", **{"ID": leaf, f"{XLINK}href": href})
    parts.add(file, f"{DEF}title", href)


def _variable(parts: Parts, version: Any, domain: Domain, variable: Variable) -> None:
    kind = "partialDate" if variable.partial else TYPES[variable.type]
    made = parts.add(
        version,
        "ItemDef",
        OID=item_oid(domain, variable),
        Name=variable.name,
        DataType=kind,
        Length=LENGTHS.get(kind),
        SASFieldName=variable.name,
    )
    _text(parts, parts.add(made, "Description"), variable.label, "en")
    if variable.codes:
        parts.add(made, "CodeListRef", CodeListOID=f"CL.{domain.name}.{variable.name}")
    origin = {"Type": "Derived" if variable.derived else "Collected", "Source": "Sponsor"}
    parts.add(made, f"{DEF}Origin", **origin)
