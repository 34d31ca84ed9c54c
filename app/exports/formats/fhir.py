"""How does a study become a bundle of FHIR R4? Questionnaires, who takes part and agreed to what, responses, changes.

A Patient is a stub with the code of the participant alone, because responses have to be about somebody. A
ResearchSubject has no arm: this file is never told any. References are UUIDs that follow from the study and the code,
so that the same thing has the same one in every export. What FHIR has no place for stands in extensions
`urn:equipoise:...`.

What changed is a transaction: whoever holds an earlier bundle PUTs what there is now and DELETEs what is not there any
more. It refers to nothing outside itself.
"""

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from app.exports.formats.odm import instant
from app.exports.formats.sdtm import as_number
from app.exports.formats.text import PIECE, text_of
from app.exports.formats.xml import held
from app.exports.tables import missing_in, stored_cell
from app.exports.whole import SIGNED, Casebook, Filled, Touched, Whole
from app.studies.definition import Instrument, Item, ItemType, cell_parts

Resource = dict[str, Any]
OURS = "urn:equipoise"
TRANSLATION = "http://hl7.org/fhir/StructureDefinition/translation"
SIGNATURE = "http://hl7.org/fhir/StructureDefinition/questionnaireresponse-signature"
UNIT = "http://hl7.org/fhir/StructureDefinition/questionnaire-unit"
CONSENT = {  # scope and category: to take part in research (FHIR R4, Consent; both are required)
    "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]},
    "category": [
        {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentcategorycodes", "code": "research"}]}
    ],
}
LIFECYCLE = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
AUTHOR = {"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1"}
SPACE = uuid.uuid5(uuid.NAMESPACE_URL, OURS)
STANDING = {
    "screened": "eligible",
    "screen_failed": "ineligible",
    "consented": "pending-on-study",
    "randomised": "on-study",
    "completed": "off-study",
    "withdrawn": "withdrawn",
    "lost": "off-study",
    "died": "off-study",
}
TYPES = {
    ItemType.CHOICE: "choice",
    ItemType.CHOICES: "choice",
    ItemType.YES_NO: "boolean",
    ItemType.INTEGER: "integer",
    ItemType.SCALE: "integer",
    ItemType.SLIDER: "integer",
    ItemType.NUMBER: "decimal",
    ItemType.CALCULATED: "decimal",
    ItemType.DATE: "date",
    ItemType.TIME: "time",
    ItemType.TEXT: "text",
}
"""Everything else is a string: a moment by the clock of the site has no place on the time line, of a file the name is
told."""


def written(whole: Whole) -> Iterator[bytes]:
    """The bundle in pieces."""
    made = _Bundle(whole)
    head = {
        "resourceType": "Bundle",
        "identifier": {"system": f"{OURS}:snapshot", "value": whole.file_oid},
        "type": "collection" if whole.since is None else "transaction",
        "timestamp": instant(whole.changed_at),
    }
    piece = bytearray(orjson.dumps(head)[:-1] + b',"entry":[')
    between = b"\n"
    for entry in made.entries():
        piece += between + orjson.dumps(entry)
        between = b",\n"
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece + b"\n]}\n")


def extension(name: str, **value: Any) -> Resource:
    """Something of ours that FHIR has no place for."""
    return {"url": f"{OURS}:{name}", **value}


class _Bundle:
    def __init__(self, whole: Whole) -> None:
        self.whole = whole
        self.code = whole.study.code
        self.items = {
            (code, group, item.code): item
            for code in whole.plan.instruments
            for group, items in (
                ("", whole.plan.items[code]),
                *((name, items) for name, (_, items) in whole.plan.groups[code].items()),
            )
            for item in items
        }

    def entries(self) -> Iterator[Resource]:
        """The resources, each in its entry; of what changed, those that are not there any more come behind."""
        yield self.entry("", self.study())
        for code, instrument in self.whole.plan.instruments.items():
            yield self.entry(code, self.questionnaire(instrument))
        for casebook in self.whole.casebooks():
            there = set()
            for key, resource in self.of_somebody(casebook):
                there.add((resource["resourceType"], key))
                yield self.entry(key, resource)
            for kind, key in self.before(casebook):
                if (kind, key) not in there:
                    yield {"request": {"method": "DELETE", "url": f"{kind}/{self.id(kind, key)}"}}

    def entry(self, key: str, resource: Resource) -> Resource:
        """A resource under its address; of what changed, with what is to be done with it."""
        kind = resource["resourceType"]
        made = {"fullUrl": self.urn(kind, key), "resource": resource}
        if self.whole.since is not None:
            made["request"] = {"method": "PUT", "url": f"{kind}/{resource['id']}"}
        return made

    def of_somebody(self, casebook: Casebook) -> Iterator[tuple[str, Resource]]:
        """Each resource of a participant, with what tells it from others of its kind."""
        code = casebook.participant
        yield code, {"resourceType": "Patient", "id": self.id("Patient", code), **self.known_as("participant", code)}
        yield code, self.subject(casebook)
        yield from self.consents(casebook)
        for asked in casebook.screenings:
            yield from self.filled(casebook, asked, "screening")
        for entry in casebook.entries:
            yield from self.filled(casebook, entry, entry.visit)

    def before(self, casebook: Casebook) -> Iterator[tuple[str, str]]:
        """What an earlier bundle may have of the entries of a participant that changed: kind, and key."""
        if casebook.dropped is None:
            return
        for (visit, instrument, repeat), noted in casebook.dropped.forms.items():
            key = self.key(casebook, visit, instrument, repeat or 1)
            yield "QuestionnaireResponse", key
            for name in ("saved", *sorted(noted)):
                yield "AuditEvent", f"{key}/{name}"

    def key(self, casebook: Casebook, visit: str, instrument: str, repeat: int) -> str:
        return f"{casebook.participant}/{visit}/{instrument}/{repeat}"

    # What things are called

    def id(self, kind: str, key: str) -> str:
        return str(uuid.uuid5(SPACE, f"{self.code}/{kind}/{key}"))

    def urn(self, kind: str, key: str) -> str:
        return f"urn:uuid:{self.id(kind, key)}"

    def known_as(self, of: str, value: str) -> Resource:
        return {"identifier": [{"system": f"{OURS}:{self.code}:{of}", "value": value}]}

    def url(self, instrument: str) -> str:
        return f"{OURS}:{self.code}:questionnaire:{instrument}"

    def who(self, username: str) -> Resource:
        return {"type": "Practitioner", "identifier": {"system": f"{OURS}:user", "value": username}}

    # The study

    def study(self) -> Resource:
        study = self.whole.study
        return {
            "resourceType": "ResearchStudy",
            "id": self.id("ResearchStudy", ""),
            **self.known_as("study", study.code),
            "title": held(study.title),
            "status": "active",
            **({"sponsor": {"display": held(study.sponsor)}} if study.sponsor else {}),
            "site": [
                {"identifier": {"system": f"{OURS}:{self.code}:site", "value": site.code}, "display": held(site.name)}
                for site in self.whole.sites
            ],
        }

    def questionnaire(self, instrument: Instrument) -> Resource:
        plan, code = self.whole.plan, instrument.code
        groups = [
            {
                "linkId": group,
                "text": held(label),
                "type": "group",
                "repeats": True,
                "item": [self.item(instrument, item, f"{group}.") for item in items],
            }
            for group, (label, items) in plan.groups[code].items()
        ]
        return {
            "resourceType": "Questionnaire",
            "id": self.id("Questionnaire", code),
            "language": self.whole.study.language,
            "url": self.url(code),
            "version": self.whole.study.version,
            "name": code,
            "title": held(instrument.label),
            "status": "active",
            "subjectType": ["Patient"],
            **({"copyright": held(instrument.licence)} if instrument.licence else {}),
            "item": [*(self.item(instrument, item) for item in plan.items[code]), *groups],
        }

    def item(self, instrument: Instrument, item: Item, prefix: str = "") -> Resource:
        extensions: list[Resource] = []
        if item.unit:
            extensions.append({"url": UNIT, "valueCoding": {"display": held(item.unit)}})
        for name, limit in (("minValue", item.min), ("maxValue", item.max)):
            if limit is not None:
                is_whole = TYPES.get(item.type) == "integer"
                value: Resource = (
                    {"valueInteger": int(limit)} if is_whole else {"valueDecimal": number(format(limit, "f"))}
                )
                extensions.append({"url": f"http://hl7.org/fhir/StructureDefinition/{name}", **value})
        for name, text in (("shown-if", item.shown_if), ("calculation", item.calculation)):
            if text:
                extensions.append(extension(name, valueString=held(text)))
        words = {text.language: one.label for text in instrument.texts for one in text.items if one.code == item.code}
        translations = [
            {
                "url": TRANSLATION,
                "extension": [
                    {"url": "lang", "valueCode": language},
                    {"url": "content", "valueString": held(label)},
                ],
            }
            for language, label in words.items()
            if label
        ]
        return {
            **({"extension": extensions} if extensions else {}),
            "linkId": f"{prefix}{item.code}",
            "text": held(item.label),
            **({"_text": {"extension": translations}} if translations else {}),
            "type": TYPES.get(item.type, "string"),
            "required": item.required and not item.shown_if,
            **({"repeats": True} if item.type is ItemType.CHOICES else {}),
            **({"readOnly": True} if item.type is ItemType.CALCULATED else {}),
            **({"maxLength": item.max_length} if item.type is ItemType.TEXT else {}),
            **(
                {"answerOption": [self.option(choice.code, choice.label) for choice in item.choices]}
                if item.choices
                else {}
            ),
        }

    def option(self, code: str, label: str) -> Resource:
        return {"valueCoding": {"code": code, "display": held(label)}}

    # Participants

    def subject(self, casebook: Casebook) -> Resource:
        names = [column.name for column in self.whole.columns["participants"]]
        person: Mapping[str, Any] = dict(zip(names, casebook.rows["participants"][0], strict=True))
        period = {
            name: person[column].isoformat()
            for name, column in (("start", "randomised_on"), ("end", "withdrawn_on"))
            if person[column] is not None
        }
        if len(period) == 2 and period["end"] < period["start"]:
            del period["start"]
        return {
            "resourceType": "ResearchSubject",
            "id": self.id("ResearchSubject", casebook.participant),
            **self.known_as("participant", casebook.participant),
            "status": STANDING[person["status"]],
            **({"period": period} if period else {}),
            "study": {"reference": self.urn("ResearchStudy", "")},
            "individual": {"reference": self.urn("Patient", casebook.participant)},
        }

    def consents(self, casebook: Casebook) -> Iterator[tuple[str, Resource]]:
        """What they agreed to: a draft until it is countersigned, inactive once it is withdrawn; never taken away.

        One that was refused had been recorded wrongly: it is entered in error.
        """
        names = [column.name for column in self.whole.columns["consents"]]
        for number, row in enumerate(casebook.rows["consents"], start=1):
            one: Mapping[str, Any] = dict(zip(names, row, strict=True))
            countersigned, withdrawn = one["countersigned_at"], one["withdrawn_on"]
            status = "inactive" if withdrawn else "active" if countersigned else "draft"
            options = [
                extension(f"option:{name.removeprefix('option__')}", valueBoolean=one[name])
                for name in names
                if name.startswith("option__") and one[name] is not None
            ]
            options += [
                extension(f"option-now:{name.removeprefix('option_now__')}", valueBoolean=one[name])
                for name in names
                if name.startswith("option_now__") and one[name] is not None
            ]
            options += [
                extension(f"option-since:{name.removeprefix('option_since__')}", valueDate=one[name].isoformat())
                for name in names
                if name.startswith("option_since__") and one[name] is not None
            ]
            key = f"{casebook.participant}/{number}"
            yield (
                key,
                {
                    "resourceType": "Consent",
                    "id": self.id("Consent", key),
                    "language": one["language"],
                    "extension": [
                        extension("method", valueCode=one["method"]),
                        extension("document-sha256", valueString=one["document_sha256"]),
                        *options,
                    ],
                    "status": "entered-in-error" if one["refused_at"] else status,
                    **CONSENT,
                    "patient": {"reference": self.urn("Patient", casebook.participant)},
                    "dateTime": one["signed_on"].isoformat(),
                    "policy": [{"uri": f"{OURS}:{self.code}:consent:{one['document_version']}"}],
                    "verification": [
                        {
                            "verified": countersigned is not None,
                            **({"verificationDate": instant(countersigned)} if countersigned else {}),
                        }
                    ],
                    **({"provision": {"period": {"end": withdrawn.isoformat()}}} if withdrawn else {}),
                },
            )

    def filled(self, casebook: Casebook, entry: Filled, visit: str) -> Iterator[tuple[str, Resource]]:
        """A response, and what was done to it last."""
        key = self.key(casebook, visit, entry.instrument, entry.repeat)
        corrected = {name: touched for name, touched in entry.touched.items() if touched.why}
        yield key, self.response(casebook, entry, visit, key, is_amended=bool(corrected))
        yield f"{key}/saved", self.event(key, "saved", "originate", Touched(entry.saved_by, entry.saved_at, None))
        for name, touched in corrected.items():
            yield f"{key}/{name}", self.event(key, name, "amend", touched, item=name)
        if entry.signed_at is not None and entry.signed_by is not None:
            signed = Touched(entry.signed_by, entry.signed_at, entry.signed_meaning)
            yield f"{key}/{SIGNED}", self.event(key, SIGNED, "attest", signed)

    def response(self, casebook: Casebook, entry: Filled, visit: str, key: str, *, is_amended: bool) -> Resource:
        extensions = [
            extension("visit", valueCode=visit),
            extension("repeat", valuePositiveInt=entry.repeat),
            extension("site", valueCode=casebook.site),
        ]
        if entry.signed_at is not None and entry.signed_by is not None:
            signature = {
                "type": [{**AUTHOR, **({"display": held(entry.signed_meaning)} if entry.signed_meaning else {})}],
                "when": instant(entry.signed_at),
                "who": self.who(entry.signed_by),
            }
            extensions.append({"url": SIGNATURE, "valueSignature": signature})
        status = "in-progress" if entry.status != "complete" else "amended" if is_amended else "completed"
        items = self.answered(entry)
        return {
            "resourceType": "QuestionnaireResponse",
            "id": self.id("QuestionnaireResponse", key),
            "extension": extensions,
            "questionnaire": f"{self.url(entry.instrument)}|{entry.study_version}",
            "status": status,
            "subject": {"reference": self.urn("Patient", casebook.participant)},
            "authored": instant(entry.saved_at),
            "author": self.who(entry.saved_by),
            **({"item": items} if items else {}),
        }

    def answered(self, entry: Filled) -> list[Resource]:
        plain: list[Resource] = []
        rows: dict[tuple[str, int], list[Resource]] = {}
        for name, value in entry.values.items():
            if value is None:
                continue
            group, number_of_row, code = cell_parts(name) or ("", 0, name)
            item = self.items.get((entry.instrument, group, code))
            link = f"{group}.{code}" if group else code
            found = self.answer(item, link, value, entry.reasons.get(name))
            if group:
                rows.setdefault((group, number_of_row), []).append(found)
            else:
                plain.append(found)
        order = {code: place for place, (_, _, code) in enumerate(self.items)}
        plain.sort(key=lambda one: order.get(one["linkId"], len(order)))
        return [
            *plain,
            *(
                {"extension": [extension("row", valuePositiveInt=row)], "linkId": group, "item": cells}
                for (group, row), cells in sorted(rows.items(), key=lambda each: each[0])
            ),
        ]

    def answer(self, item: Item | None, link: str, value: object, reason: str | None) -> Resource:
        extensions = []
        if reason:
            extensions.append(extension("reason", valueString=held(reason)))
        missing = missing_in(value)
        if missing is not None:
            label = dict(self.whole.plan.missing_codes).get(missing, missing)
            extensions.append(extension("missing", valueCoding={"code": missing, "display": held(label)}))
        answers = [] if missing is not None else values_of(item, value)
        if value == "":  # no text of FHIR is empty
            extensions.append(extension("empty", valueBoolean=True))
        return {
            **({"extension": extensions} if extensions else {}),
            "linkId": link,
            **({"answer": answers} if answers else {}),
        }

    def event(self, key: str, name: str, kind: str, touched: Touched, *, item: str | None = None) -> Resource:
        details = [("item", item), ("why" if kind == "amend" else "meaning", touched.why)]
        detail = [{"type": of, "valueString": held(text)} for of, text in details if text]
        return {
            "resourceType": "AuditEvent",
            "id": self.id("AuditEvent", f"{key}/{name}"),
            "type": {"system": LIFECYCLE, "code": kind},
            "action": {"originate": "C", "amend": "U", "attest": "E"}[kind],
            "recorded": instant(touched.at),
            "agent": [{"who": self.who(touched.by), "requestor": True}],
            "source": {"observer": {"display": f"Equipoise {self.whole.software}"}},
            "entity": [
                {
                    "what": {"reference": self.urn("QuestionnaireResponse", key)},
                    **({"detail": detail} if detail else {}),
                }
            ],
        }


# As R4 has them; of a date a part may not be known.
DAY = re.compile(r"[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?)?")
TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?")


def number(text: str) -> Any:
    """A decimal as JSON writes it, digit for digit: FHIR keeps its precision."""
    return orjson.Fragment(text.encode())


def values_of(item: Item | None, value: object) -> Sequence[Resource]:
    """The answers of FHIR for a stored value; a text where it does not fit the item, as after a change of its type."""
    kind = TYPES.get(item.type, "string") if item else "string"
    if item is not None and kind == "choice":
        labels = {choice.code: choice.label for choice in item.choices}
        codes = [str(each) for each in (value if isinstance(value, list) else [value])]
        if labels.keys() >= set(codes):
            return [{"valueCoding": {"code": code, "display": held(labels[code])}} for code in codes]
    if isinstance(value, bool) and kind == "boolean":
        return [{"valueBoolean": value}]
    text = text_of(stored_cell(value))
    if not text:
        return []
    if item is not None and kind == "integer" and isinstance(value, int) and -(2**31) <= value < 2**31:
        return [{"valueInteger": value}]
    if item is not None and kind == "decimal" and as_number(item, text) is not None:
        return [{"valueDecimal": number(text)}]
    if kind == "date" and isinstance(value, str) and DAY.fullmatch(text):
        return [{"valueDate": text}]
    if kind == "time" and isinstance(value, str) and TIME.fullmatch(text):
        return [{"valueTime": f"{text}:00" if len(text) == len("HH:MM") else text}]
    return [{"valueString": held(text)}]
