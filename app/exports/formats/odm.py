"""How does a study become CDISC ODM, 1.3.2 or 2.0? Metadata, data, audit records and signatures, in one document.

The two versions differ in how things are called and in what order they stand; what is said is the same, so one writer
knows both. `odm-1.3.2`: a form is a FormDef with groups of items. `odm-2.0`: a form is an ItemGroupDef of type Form.

Our own words for what the standard has no place for (how an item is asked, the layout of a form, windows of visits)
stand as JSON in an Alias with a context that begins with `equipoise`, so that the definition can be read back
(`app.studies.importing.odm_ours`): what no blinded person may read of a study is in none.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

from app.exports.formats.text import text_of
from app.exports.formats.xml import Document, Parts, document, said
from app.exports.tables import BETWEEN, YES_NO, Column, ColumnType, missing_in, stored_cell
from app.exports.whole import COMMON, Casebook, Dropped, Filled, Touched, Whole
from app.studies.definition import Instrument, Item, ItemType, Visit, cell_parts, unscheduled_number

LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
OURS = "equipoise"
EXPRESSION = "equipoise expression"
LEGAL = "21 CFR 11.50: the printed name, when it was signed, and what the signature means"
SCREENED, UNPLANNED, OVERALL = "SE.SCREENING", "SE.UNSCHEDULED", "SE.STUDY"
MISSING_LIST, YES_NO_LIST = "CL.MISSING", "CL.YES_NO"
TYPES = {
    ItemType.INTEGER: "integer",
    ItemType.SCALE: "integer",
    ItemType.SLIDER: "integer",
    ItemType.NUMBER: "float",
    ItemType.CALCULATED: "float",
    ItemType.YES_NO: "boolean",
    ItemType.DATE: "date",
    ItemType.TIME: "partialTime",
    ItemType.DATE_TIME: "partialDatetime",
}
COLUMN_TYPES = {
    ColumnType.INTEGER: "integer",
    ColumnType.FLAG: "integer",
    ColumnType.NUMBER: "float",
    ColumnType.YES_NO: "boolean",
    ColumnType.DATE: "date",
    ColumnType.INSTANT: "datetime",
    ColumnType.PARTIAL_DATE: "partialDate",
}
LONGEST = 2_000
OF_STUDY = {
    *("title", "short_title", "sponsor", "registrations", "blinded", "target", "language", "participant_prefix"),
    *("participant_digits", "record_id", "second_factor", "eligibility", "consent", "unscheduled", "outcomes"),
    *("missing_codes", "withdrawal_levels", "screen_failure_reasons", "unblinding", "schedule", "safety", "oversight"),
    *("double_entry", "dictionaries"),
}
"""Keys of study.yaml that stand in an alias. Arms, how they are allocated, treatment and guesses are none of them."""


@dataclass(frozen=True)
class Listed:
    """A code list: how its codes are called, in every language the study has words for."""

    oid: str
    name: str
    kind: str
    entries: Sequence[tuple[str, Mapping[str, str]]]


def written(whole: Whole, *, second: bool, definition: bool = False) -> Iterator[bytes]:
    """The document in pieces; `second` for ODM 2.0, `definition` for one that says nothing of anybody."""
    return (_Second if second else _First)(whole, definition=definition).pieces()


def instant(value: datetime) -> str:
    """A moment, in UTC."""
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def value_texts(value: object) -> list[str]:
    """What an answer says, as texts: one, or one for each choice that was ticked."""
    if isinstance(value, list):
        return [text_of(each) for each in value]
    cell = stored_cell(value)
    return [] if cell is None else [text_of(cell)]


class _Writer:
    """What both versions have in common."""

    namespace = ""
    version = ""
    user_name = ""
    form_tag = "FormData"

    def __init__(self, whole: Whole, *, definition: bool) -> None:
        self.whole, self.definition = whole, definition
        self.common = () if definition else COMMON
        self.parts = Parts(self.namespace)
        self.language = whole.study.language
        self.study_oid = f"ST.{whole.study.code}"
        self.version_oid = f"MDV.{whole.study.version}"
        self.meanings = {meaning: f"SD.{number}" for number, meaning in enumerate(whole.meanings, 1)}
        self.lists: list[Listed] = []
        self.conditions: list[tuple[str, str, str]] = []
        self.methods: list[tuple[str, str, str]] = []
        self.units: dict[str, str] = {}
        for instrument in whole.plan.instruments:
            for item in self.every_item(instrument):
                if item.unit:
                    self.units.setdefault(item.unit, f"MU.{len(self.units) + 1}")

    # The document

    def pieces(self) -> Iterator[bytes]:
        whole, sink = self.whole, BytesIO()
        attributes: dict[str, str | None] = {
            "FileType": "Snapshot" if whole.since is None else "Transactional",
            "Granularity": "Metadata" if self.definition else "All",
            "FileOID": f"{whole.study.code}.version.{whole.study.version}" if self.definition else whole.file_oid,
            "CreationDateTime": instant(whole.changed_at),
            "AsOfDateTime": instant(whole.changed_at) if whole.since is None else None,
            "ODMVersion": self.version,
            "Originator": whole.study.sponsor,
            "SourceSystem": "Equipoise",
            "SourceSystemVersion": whole.software,
        }
        with document(sink) as made:
            file = made.file
            with file.element(self.parts.name("ODM"), said(attributes), nsmap={None: self.namespace}):
                file.write(self.study(), pretty_print=True)
                file.write(self.people(), pretty_print=True)
                yield from made.pieces(all_of_it=True)
                if not self.definition:
                    yield from self.clinical_data(made)
        yield sink.getvalue()

    def clinical_data(self, made: Document) -> Iterator[bytes]:
        whole, file = self.whole, made.file
        of = {"StudyOID": self.study_oid, "MetaDataVersionOID": self.version_oid}
        with file.element(self.parts.name("ClinicalData"), said(dict(of))):
            for casebook in whole.casebooks():
                if casebook.dropped is not None:
                    file.write(self.removal(casebook, casebook.dropped), pretty_print=True)
                file.write(self.subject(casebook), pretty_print=True)
                yield from made.pieces()

    def translated(self, parent: Any, words: Mapping[str, str]) -> None:
        """A text in each of its languages."""
        for language, text in words.items():
            self.parts.add(parent, "TranslatedText", text, **{LANGUAGE: language, **self.kind_of_text()})

    def kind_of_text(self) -> dict[str, str]:
        return {}

    def described(self, parent: Any, text: str, tag: str = "Description") -> None:
        self.translated(self.parts.add(parent, tag), {self.language: text})

    def alias(self, parent: Any, about: str, said_of_it: object) -> None:
        text = said_of_it if isinstance(said_of_it, str) else json.dumps(said_of_it, ensure_ascii=False, sort_keys=True)
        self.parts.add(parent, "Alias", Context=f"{OURS}:{about}", Name=text)

    # Metadata

    def study(self) -> Any:
        raise NotImplementedError

    def every_item(self, instrument: str) -> Iterator[Item]:
        yield from self.whole.plan.items[instrument]
        for _, items in self.whole.plan.groups[instrument].values():
            yield from items

    def events(self) -> Iterator[tuple[str, str, str, Sequence[str], dict[str, object] | None]]:
        """OID, name, type, forms, and what we say of it, of each kind of visit."""
        whole = self.whole
        if self.common:
            yield OVERALL, "Whole study", "Common", [f"FO.{name.upper()}" for name in self.common], None
        yield SCREENED, "Screening", "Common", [f"FO.{code}" for code in whole.plan.screening], None
        for visit in whole.plan.visits:
            forms = [f"FO.{code}" for code in whole.plan.forms[visit.code] if code in whole.plan.instruments]
            yield f"SE.{visit.code}", visit.label, "Scheduled", forms, self.about_visit(visit)
        if (unscheduled := whole.study.unscheduled) is not None:
            forms = [f"FO.{code}" for code in unscheduled.instruments if code in whole.plan.instruments]
            yield UNPLANNED, unscheduled.label, "Unscheduled", forms, None

    def about_visit(self, visit: Visit) -> dict[str, object]:
        """What we say of a visit; its forms in the order of the version in use, where that plans it."""
        about = visit.model_dump(mode="json", exclude={"code", "label", "instruments"}, exclude_defaults=True)
        in_use = {each.code: each for each in self.whole.study.visits}.get(visit.code)
        return about if in_use is None else {**about, "instruments": list(in_use.instruments)}

    def about_study(self, protocol: Any) -> None:
        """What study.yaml says of anything but arms, and of which sites, beside what the standard has a place for."""
        study = self.whole.study
        about = study.model_dump(mode="json", include=OF_STUDY, exclude_defaults=True)
        zones = {site.code: site.timezone for site in study.sites}
        sites = {site.code: zones[site.code] for site in self.whole.sites if site.code in zones}
        self.alias(protocol, "study", {**about, "sites": sites, "arms": len(study.arms) if study.is_allocated else 0})
        for text in study.texts:
            said = text.model_dump(mode="json", include={"language", "visits", *OF_STUDY}, exclude_defaults=True)
            self.alias(protocol, f"study:{text.language}", said)

    def event_defs(self, parent: Any, tag: str, key: str) -> None:
        for oid, name, kind, forms, about in self.events():
            repeats = "Yes" if oid == UNPLANNED else "No"
            made = self.parts.add(parent, "StudyEventDef", OID=oid, Name=name, Repeating=repeats, Type=kind)
            for place, form in enumerate(forms, 1):
                self.parts.add(made, tag, **{key: form}, OrderNumber=str(place), Mandatory="No")
            if about is not None:
                self.alias(made, "visit", about)

    def form_alias(self, made: Any, instrument: Instrument) -> None:
        about = instrument.model_dump(
            mode="json", exclude={"code", "label", "sections", "texts"}, exclude_defaults=True
        )
        about["sections"] = [
            {
                **section.model_dump(mode="json", exclude={"items"}, exclude_defaults=True),
                "items": [item.code for item in section.items],
            }
            for section in instrument.sections
        ]
        for text in instrument.texts:
            words = text.model_dump(mode="json", exclude={"items"}, exclude_defaults=True)
            beside = {"code", "unit", "low_label", "high_label"}
            words["items"] = [item.model_dump(mode="json", include=beside, exclude_none=True) for item in text.items]
            self.alias(made, f"form:{text.language}", words)
        self.alias(made, "form", about)

    def item_refs(self, group: Any, items: Sequence[Item], prefix: str) -> None:
        for place, item in enumerate(items, 1):
            oid = f"{prefix}.{item.code}"
            condition = method = None
            if item.shown_if:
                condition = f"CD.{oid}"
                self.conditions.append((condition, item.code, item.shown_if))
            if item.calculation:
                method = f"MD.{oid}"
                self.methods.append((method, item.code, item.calculation))
            self.parts.add(
                group,
                "ItemRef",
                ItemOID=f"IT.{oid}",
                OrderNumber=str(place),
                Mandatory="Yes" if item.required and not item.shown_if else "No",
                MethodOID=method,
                CollectionExceptionConditionOID=condition,
                **self.unit_of(item),
            )

    def unit_of(self, _item: Item) -> dict[str, str]:
        return {}

    def column_refs(self, group: Any, table: str) -> None:
        for place, column in enumerate(self.beside(table), 1):
            oid = f"IT.{table.upper()}.{column.name}"
            self.parts.add(group, "ItemRef", ItemOID=oid, OrderNumber=str(place), Mandatory="No")

    def beside(self, table: str) -> list[Column]:
        """The columns of a table beside the entries that say something of their own."""
        return [column for _, column in self.places(table)]

    def places(self, table: str) -> list[tuple[int, Column]]:
        answers = {
            name
            for code in self.whole.plan.screening
            for item in self.whole.plan.items.get(code, ())
            for name in (item.code, f"{item.code}__missing", *(f"{item.code}__{one.code}" for one in item.choices))
        }
        return [
            (place, column)
            for place, column in enumerate(self.whole.columns[table])
            if column.name not in ("participant", "site") and not (table == "screening" and column.name in answers)
        ]

    def words(self, instrument: Instrument | None, item: Item, field: str) -> dict[str, str]:
        """A text of an item in every language there is."""
        found = {self.language: str(getattr(item, field))}
        for text in instrument.texts if instrument else ():
            other = next((one for one in text.items if one.code == item.code), None)
            if other is not None and getattr(other, field):
                found[text.language] = str(getattr(other, field))
        return found

    def choices_of(self, instrument: Instrument | None, item: Item) -> list[tuple[str, dict[str, str]]]:
        found = [(choice.code, {self.language: choice.label}) for choice in item.choices]
        for text in instrument.texts if instrument else ():
            other = next((one for one in text.items if one.code == item.code), None)
            words = {choice.code: choice.label for choice in other.choices} if other else {}
            for code, said_as in found:
                if code in words:
                    said_as[text.language] = words[code]
        return found

    def item_defs(self, parent: Any) -> None:
        for code, instrument in self.whole.plan.instruments.items():
            for item in self.whole.plan.items[code]:
                self.item_def(parent, f"{code}.{item.code}", instrument, item)
            for group, (_, items) in self.whole.plan.groups[code].items():
                for item in items:
                    self.item_def(parent, f"{code}.{group}.{item.code}", instrument, item)
        for table in self.common:
            for column in self.beside(table):
                self.column_def(parent, f"{table.upper()}.{column.name}", column)
        if self.whole.plan.missing_codes:
            words = [(code, {self.language: label}) for code, label in self.whole.plan.missing_codes]
            self.lists.append(Listed(MISSING_LIST, "Why there is no answer", "text", words))
        yes_no = [(code, {self.language: label}) for code, label in YES_NO]
        self.lists.append(Listed(YES_NO_LIST, "Yes or no", "text", yes_no))

    def item_def(self, parent: Any, oid: str, instrument: Instrument, item: Item) -> None:
        kind = TYPES.get(item.type, "text")
        if item.type is ItemType.DATE and item.precision != "day":
            kind = "partialDate"
        length = {"integer": "10", "float": "18", "text": str(max(item.max_length, 1))}.get(kind)
        digits = str(item.decimals) if kind == "float" and item.decimals is not None else None
        made = self.parts.add(
            parent,
            "ItemDef",
            OID=f"IT.{oid}",
            Name=item.code,
            DataType=kind,
            Length=length,
            **self.digits(digits),
        )
        if item.hint:
            self.translated(self.parts.add(made, "Description"), self.words(instrument, item, "hint"))
        self.translated(self.parts.add(made, "Question"), self.words(instrument, item, "label"))
        self.unit_ref(made, item)
        self.ranges(made, instrument, item)
        if item.choices:
            self.lists.append(Listed(f"CL.{oid}", item.label[:400], "text", self.choices_of(instrument, item)))
            if item.type is not ItemType.CHOICES or self.several():
                self.parts.add(made, "CodeListRef", CodeListOID=f"CL.{oid}")
            else:
                self.alias(made, "choices", f"CL.{oid}")
        self.alias(made, "item", item.model_dump(mode="json", exclude_defaults=True, exclude={"code"}))

    def digits(self, digits: str | None) -> dict[str, str | None]:
        return {"SignificantDigits": digits}

    def several(self) -> bool:
        """Whether an item can have several values."""
        return False

    def unit_ref(self, made: Any, item: Item) -> None:
        """Where the unit of an item stands."""

    def ranges(self, made: Any, instrument: Instrument, item: Item) -> None:
        limits = (
            ("GE", "Hard", item.min),
            ("LE", "Hard", item.max),
            ("GE", "Soft", item.expected_min),
            ("LE", "Soft", item.expected_max),
        )
        for comparator, kind, limit in limits:
            if limit is not None:
                check = self.parts.add(made, "RangeCheck", Comparator=comparator, SoftHard=kind)
                self.parts.add(check, "CheckValue", format(limit, "f"))
        for place, each in enumerate(item.checks):
            check = self.parts.add(made, "RangeCheck", SoftHard=each.kind.value.capitalize())
            self.expression(check, each.rule)
            words = {self.language: each.message}
            for text in instrument.texts:
                other = next((one for one in text.items if one.code == item.code), None)
                if other is not None and place < len(other.checks):
                    words[text.language] = other.checks[place].message
            self.translated(self.parts.add(check, "ErrorMessage"), words)

    def expression(self, parent: Any, text: str) -> None:
        raise NotImplementedError

    def column_def(self, parent: Any, oid: str, column: Column) -> None:
        kind = COLUMN_TYPES.get(column.type, "text")
        length = {"integer": "10", "float": "18", "text": str(LONGEST)}.get(kind)
        made = self.parts.add(parent, "ItemDef", OID=f"IT.{oid}", Name=column.name, DataType=kind, Length=length)
        self.described(made, column.label, "Question")
        if column.choices and column.type is ColumnType.CHOICE:
            words = [(code, {self.language: label}) for code, label in column.choices]
            self.lists.append(Listed(f"CL.{oid}", column.label[:400], "text", words))
            self.parts.add(made, "CodeListRef", CodeListOID=f"CL.{oid}")

    def code_lists(self, parent: Any) -> None:
        for each in self.lists:
            made = self.parts.add(parent, "CodeList", OID=each.oid, Name=each.name, DataType=each.kind)
            for place, (code, words) in enumerate(each.entries, 1):
                entry = self.parts.add(made, "CodeListItem", CodedValue=code, OrderNumber=str(place))
                self.translated(self.parts.add(entry, "Decode"), words)

    def formal(self, parent: Any) -> None:
        """Conditions and methods. A condition of ODM says when an item is *not* asked, ours when it is."""
        for oid, name, shown_if in self.conditions:
            made = self.parts.add(parent, "ConditionDef", OID=oid, Name=name)
            self.described(made, f"Not asked unless: {shown_if}")
            self.signature_of_method(made)
            self.expression(made, f"not ({shown_if})")
        for oid, name, calculation in self.methods:
            made = self.parts.add(parent, "MethodDef", OID=oid, Name=name, Type="Computation")
            self.described(made, f"Computed when the entry is saved: {calculation}")
            self.signature_of_method(made)
            self.expression(made, calculation)

    def signature_of_method(self, made: Any) -> None:
        """Where a version wants to know what goes in and comes out."""

    # People and places

    def people(self) -> Any:
        parts, whole = self.parts, self.whole
        made = parts.root("AdminData", StudyOID=self.study_oid)
        for each in whole.people:
            user = parts.add(made, "User", OID=f"USR.{each.username}", UserType="Other")
            parts.add(user, self.user_name, each.username)
            if each.name:
                parts.add(user, "FullName", each.name)
        for site in whole.sites:
            place = parts.add(made, "Location", OID=f"LOC.{site.code}", Name=site.name, **self.is_site())
            parts.add(
                place,
                "MetaDataVersionRef",
                StudyOID=self.study_oid,
                MetaDataVersionOID=self.version_oid,
                EffectiveDate=whole.loaded_at.astimezone(UTC).date().isoformat(),
            )
        for meaning, oid in self.meanings.items():
            signature = parts.add(made, "SignatureDef", OID=oid, Methodology="Electronic")
            parts.add(signature, "Meaning", meaning)
            parts.add(signature, "LegalReason", LEGAL)
        return made

    def is_site(self) -> dict[str, str]:
        raise NotImplementedError

    # Data

    def removal(self, casebook: Casebook, dropped: Dropped) -> Any:
        """What goes of a participant, before what there is now is inserted."""
        parts = self.parts
        how = "Remove" if dropped.everything else "Context"
        made = parts.root("SubjectData", SubjectKey=casebook.participant, TransactionType=how)
        parts.add(made, "SiteRef", LocationOID=f"LOC.{casebook.site}")
        if dropped.everything:
            return made
        for beside in (OVERALL, SCREENED):
            parts.add(made, "StudyEventData", StudyEventOID=beside, TransactionType="Remove")
        before = event = None
        for visit, instrument, repeat in dropped.forms:
            if visit != before:
                before, event = visit, self.event(made, visit, "Context")
            key = None if repeat is None else str(repeat)
            parts.add(event, self.form_tag, TransactionType="Remove", **self.form_key(instrument, key))
        return made

    def event(self, subject: Any, visit: str, transaction: str | None) -> Any:
        """A visit, of the plan or outside it."""
        outside = unscheduled_number(visit)
        return self.parts.add(
            subject,
            "StudyEventData",
            StudyEventOID=f"SE.{visit}" if outside is None else UNPLANNED,
            StudyEventRepeatKey=None if outside is None else str(outside),
            TransactionType=transaction,
        )

    def form_key(self, form: str, repeat: str | None) -> dict[str, str | None]:
        """What names a form."""
        return {"FormOID": f"FO.{form}", "FormRepeatKey": repeat}

    def subject(self, casebook: Casebook) -> Any:
        """Everything of a participant; of a file of what changed, said to be inserted where it stands alone."""
        parts = self.parts
        known = casebook.dropped is not None and not casebook.dropped.everything
        whole, insert = (None, None) if self.whole.since is None else ("Context" if known else "Insert", "Insert")
        made = parts.root("SubjectData", SubjectKey=casebook.participant, TransactionType=whole)
        parts.add(made, "SiteRef", LocationOID=f"LOC.{casebook.site}")
        event = parts.add(made, "StudyEventData", StudyEventOID=OVERALL, TransactionType=insert)
        for table in COMMON:
            for number, row in enumerate(casebook.rows[table], 1):
                values = {
                    f"{table.upper()}.{column.name}": row[place]
                    for place, column in self.places(table)
                    if row[place] is not None
                }
                repeat = None if table == "participants" else str(number)
                self.row(event, table.upper(), repeat, values)
        if casebook.screenings:
            event = parts.add(made, "StudyEventData", StudyEventOID=SCREENED, TransactionType=insert)
            for asked in casebook.screenings:
                self.form(event, casebook, asked, repeat=str(asked.repeat))
        before = None
        for entry in casebook.entries:
            if entry.visit != before:
                before, event = entry.visit, self.event(made, entry.visit, "Upsert" if known else insert)
            self.form(event, casebook, entry)
            if known:
                event[-1].set("TransactionType", "Insert")
        return made

    def row(self, event: Any, form: str, repeat: str | None, values: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def form(self, event: Any, casebook: Casebook, entry: Filled, *, repeat: str | None = None) -> None:
        raise NotImplementedError

    def repeat_of(self, entry: Filled) -> str | None:
        return str(entry.repeat) if entry.instrument in self.whole.plan.repeating else None

    def by_group(self, entry: Filled) -> tuple[list[tuple[str, str, Any]], dict[tuple[str, int], list[Any]]]:
        """(name, OID, value) of the answers outside groups, and of each row of a group, in the order of the form."""
        order = {item.code: place for place, item in enumerate(self.whole.plan.items.get(entry.instrument, ()))}
        plain: list[tuple[str, str, Any]] = []
        rows: dict[tuple[str, int], list[Any]] = {}
        for name, value in entry.values.items():
            if value is None:
                continue
            cell = cell_parts(name)
            if cell is None:
                plain.append((name, f"IT.{entry.instrument}.{name}", value))
            else:
                group, number, item = cell
                found = (name, f"IT.{entry.instrument}.{group}.{item}", value)
                rows.setdefault((group, number), []).append(found)
        plain.sort(key=lambda each: (order.get(each[0], len(order)), each[0]))
        return plain, dict(sorted(rows.items()))

    def groups(self, made: Any, casebook: Casebook, entry: Filled, rows: Mapping[tuple[str, int], list[Any]]) -> None:
        """The rows of groups, each under its number."""
        for (code, number), cells in rows.items():
            oid = f"IG.{entry.instrument}.{code}"
            group = self.parts.add(made, "ItemGroupData", ItemGroupOID=oid, ItemGroupRepeatKey=str(number))
            for name, cell, value in cells:
                self.answer(group, casebook, entry, name, cell, value)

    def answer(self, group: Any, casebook: Casebook, entry: Filled, name: str, oid: str, value: object) -> None:
        raise NotImplementedError

    def audit(self, parent: Any, site: str, by: str, at: datetime, why: str | None, source: str | None) -> None:
        made = self.parts.add(parent, "AuditRecord")
        self.parts.add(made, "UserRef", UserOID=f"USR.{by}")
        self.parts.add(made, "LocationRef", LocationOID=f"LOC.{site}")
        self.parts.add(made, "DateTimeStamp", instant(at))
        if why:
            self.parts.add(made, "ReasonForChange", why)
        if source:
            self.parts.add(made, "SourceID", source)

    def audit_of_form(self, parent: Any, casebook: Casebook, entry: Filled) -> None:
        source = f"study version {entry.study_version}, entry version {entry.version}, {entry.status}"
        self.audit(parent, casebook.site, entry.saved_by, entry.saved_at, None, source)
        if entry.signed_at is None or entry.signed_by is None:
            return
        made = self.parts.add(parent, "Signature")
        self.parts.add(made, "UserRef", UserOID=f"USR.{entry.signed_by}")
        self.parts.add(made, "LocationRef", LocationOID=f"LOC.{casebook.site}")
        self.parts.add(made, "SignatureRef", SignatureOID=self.meanings[entry.signed_meaning or ""])
        self.parts.add(made, "DateTimeStamp", instant(entry.signed_at))

    def about_answer(self, made: Any, casebook: Casebook, entry: Filled, name: str, value: object) -> None:
        """Who changed an answer last, and why; why a check was accepted, and why there is no answer."""
        touched = entry.touched.get(name) or Touched(entry.saved_by, entry.saved_at, None)
        self.audit(made, casebook.site, touched.by, touched.at, touched.why, None)
        missing, reason = missing_in(value), entry.reasons.get(name)
        if missing is None and not reason:
            return
        note = self.parts.add(made, "Annotation", SeqNum="1")
        if reason:
            self.comment(note, reason)
        if missing is not None:
            flag = self.parts.add(note, "Flag")
            self.parts.add(flag, "FlagValue", missing, CodeListOID=MISSING_LIST)

    def comment(self, note: Any, text: str) -> None:
        self.parts.add(note, "Comment", text, SponsorOrSite="Site")


class _First(_Writer):
    """ODM 1.3.2."""

    namespace = "http://www.cdisc.org/ns/odm/v1.3"
    version = "1.3.2"
    user_name = "LoginName"

    def study(self) -> Any:
        parts, study = self.parts, self.whole.study
        made = parts.root("Study", OID=self.study_oid)
        names = parts.add(made, "GlobalVariables")
        parts.add(names, "StudyName", study.short_title)
        parts.add(names, "StudyDescription", study.title)
        parts.add(names, "ProtocolName", study.code)
        if self.units:
            basic = parts.add(made, "BasicDefinitions")
            for unit, oid in self.units.items():
                measure = parts.add(basic, "MeasurementUnit", OID=oid, Name=unit)
                self.described(measure, unit, "Symbol")
        version = parts.add(made, "MetaDataVersion", OID=self.version_oid, Name=f"Version {study.version}")
        protocol = parts.add(version, "Protocol")
        for place, (oid, *_) in enumerate(self.events(), 1):
            parts.add(protocol, "StudyEventRef", StudyEventOID=oid, OrderNumber=str(place), Mandatory="No")
        self.about_study(protocol)
        self.event_defs(version, "FormRef", "FormOID")
        self.form_defs(version)
        self.group_defs(version)
        self.item_defs(version)
        self.code_lists(version)
        self.formal(version)
        return made

    def form_defs(self, version: Any) -> None:
        parts, plan = self.parts, self.whole.plan
        for code, instrument in plan.instruments.items():
            repeats = "Yes" if code in plan.repeating or code in plan.screening else "No"
            made = parts.add(version, "FormDef", OID=f"FO.{code}", Name=instrument.label, Repeating=repeats)
            for place, group in enumerate([code, *(f"{code}.{group}" for group in plan.groups[code])], 1):
                parts.add(made, "ItemGroupRef", ItemGroupOID=f"IG.{group}", OrderNumber=str(place), Mandatory="No")
            self.form_alias(made, instrument)
        for table in self.common:
            oid, repeats = table.upper(), "No" if table == "participants" else "Yes"
            name = self.whole.labels[table]
            made = parts.add(version, "FormDef", OID=f"FO.{oid}", Name=name, Repeating=repeats)
            parts.add(made, "ItemGroupRef", ItemGroupOID=f"IG.{oid}", OrderNumber="1", Mandatory="No")

    def group_defs(self, version: Any) -> None:
        parts, plan = self.parts, self.whole.plan
        for code, instrument in plan.instruments.items():
            made = parts.add(version, "ItemGroupDef", OID=f"IG.{code}", Name=instrument.label, Repeating="No")
            self.item_refs(made, plan.items[code], code)
            for group, (label, items) in plan.groups[code].items():
                made = parts.add(version, "ItemGroupDef", OID=f"IG.{code}.{group}", Name=label, Repeating="Yes")
                self.item_refs(made, items, f"{code}.{group}")
        for table in self.common:
            name = self.whole.labels[table]
            made = parts.add(version, "ItemGroupDef", OID=f"IG.{table.upper()}", Name=name, Repeating="No")
            self.column_refs(made, table)

    def unit_ref(self, made: Any, item: Item) -> None:
        if item.unit:
            self.parts.add(made, "MeasurementUnitRef", MeasurementUnitOID=self.units[item.unit])

    def expression(self, parent: Any, text: str) -> None:
        self.parts.add(parent, "FormalExpression", text, Context=EXPRESSION)

    def is_site(self) -> dict[str, str]:
        return {"LocationType": "Site"}

    def row(self, event: Any, form: str, repeat: str | None, values: Mapping[str, Any]) -> None:
        made = self.parts.add(event, self.form_tag, **self.form_key(form, repeat))
        group = self.parts.add(made, "ItemGroupData", ItemGroupOID=f"IG.{form}")
        for oid, value in values.items():
            self.parts.add(group, "ItemData", ItemOID=f"IT.{oid}", Value=text_of(value))

    def form(self, event: Any, casebook: Casebook, entry: Filled, *, repeat: str | None = None) -> None:
        key = repeat or self.repeat_of(entry)
        made = self.parts.add(event, self.form_tag, **self.form_key(entry.instrument, key))
        self.audit_of_form(made, casebook, entry)
        plain, rows = self.by_group(entry)
        group = self.parts.add(made, "ItemGroupData", ItemGroupOID=f"IG.{entry.instrument}")
        for name, oid, value in plain:
            self.answer(group, casebook, entry, name, oid, value)
        self.groups(made, casebook, entry, rows)

    def answer(self, group: Any, casebook: Casebook, entry: Filled, name: str, oid: str, value: object) -> None:
        texts = [] if missing_in(value) is not None else value_texts(value)
        is_null = "Yes" if missing_in(value) is not None else None
        said_as = BETWEEN.join(texts) if is_null is None else None
        made = self.parts.add(group, "ItemData", ItemOID=oid, Value=said_as, IsNull=is_null)
        self.about_answer(made, casebook, entry, name, value)


class _Second(_Writer):
    """ODM 2.0."""

    namespace = "http://www.cdisc.org/ns/odm/v2.0"
    version = "2.0"
    user_name = "UserName"
    form_tag = "ItemGroupData"

    def form_key(self, form: str, repeat: str | None) -> dict[str, str | None]:
        return {"ItemGroupOID": f"FO.{form}", "ItemGroupRepeatKey": repeat}

    def kind_of_text(self) -> dict[str, str]:
        return {"Type": "text/plain"}

    def several(self) -> bool:
        return True

    def comment(self, note: Any, text: str) -> None:
        self.described(note, text, "Comment")

    def digits(self, digits: str | None) -> dict[str, str | None]:
        return {}

    def study(self) -> Any:
        parts, study = self.parts, self.whole.study
        made = parts.root("Study", OID=self.study_oid, StudyName=study.short_title, ProtocolName=study.code)
        self.described(made, study.title)
        version = parts.add(made, "MetaDataVersion", OID=self.version_oid, Name=f"Version {study.version}")
        protocol = parts.add(version, "Protocol")
        parts.add(protocol, "StudyEventGroupRef", StudyEventGroupOID="SEG.1", OrderNumber="1", Mandatory="Yes")
        self.about_study(protocol)
        events = parts.add(version, "StudyEventGroupDef", OID="SEG.1", Name="Visits")
        for place, (oid, *_) in enumerate(self.events(), 1):
            parts.add(events, "StudyEventRef", StudyEventOID=oid, OrderNumber=str(place), Mandatory="No")
        self.event_defs(version, "ItemGroupRef", "ItemGroupOID")
        self.group_defs(version)
        self.item_defs(version)
        for unit, oid in self.units.items():
            item = parts.add(version, "ItemDef", OID=f"IT.{oid}", Name=unit, DataType="text", Length=str(len(unit)))
            self.described(item, unit, "Question")
            parts.add(item, "CodeListRef", CodeListOID=f"CL.{oid}")
            self.lists.append(Listed(f"CL.{oid}", unit, "text", [(unit, {self.language: unit})]))
        self.code_lists(version)
        self.formal(version)
        return made

    def group_defs(self, version: Any) -> None:
        parts, plan = self.parts, self.whole.plan

        def defined(oid: str, name: str, kind: str, repeats: bool) -> Any:
            repeating = "Simple" if repeats else "No"
            return parts.add(version, "ItemGroupDef", OID=oid, Name=name, Repeating=repeating, Type=kind)

        for code, instrument in plan.instruments.items():
            repeats = code in plan.repeating or code in plan.screening
            made = defined(f"FO.{code}", instrument.label, "Form", repeats)
            self.item_refs(made, plan.items[code], code)
            for place, group in enumerate(plan.groups[code], len(plan.items[code]) + 1):
                oid = f"IG.{code}.{group}"
                parts.add(made, "ItemGroupRef", ItemGroupOID=oid, OrderNumber=str(place), Mandatory="No")
            self.form_alias(made, instrument)
            for group, (label, items) in plan.groups[code].items():
                self.item_refs(defined(f"IG.{code}.{group}", label, "Section", True), items, f"{code}.{group}")
        for table in self.common:
            made = defined(f"FO.{table.upper()}", self.whole.labels[table], "Form", table != "participants")
            self.column_refs(made, table)

    def unit_of(self, item: Item) -> dict[str, str]:
        return {"UnitsItemOID": f"IT.{self.units[item.unit]}"} if item.unit else {}

    def signature_of_method(self, made: Any) -> None:
        self.parts.add(made, "MethodSignature")

    def expression(self, parent: Any, text: str) -> None:
        made = self.parts.add(parent, "FormalExpression", Context=EXPRESSION)
        self.parts.add(made, "Code", text)

    def is_site(self) -> dict[str, str]:
        return {"Role": "Site"}

    def row(self, event: Any, form: str, repeat: str | None, values: Mapping[str, Any]) -> None:
        made = self.parts.add(event, self.form_tag, **self.form_key(form, repeat))
        for oid, value in values.items():
            self.parts.add(self.parts.add(made, "ItemData", ItemOID=f"IT.{oid}"), "Value", text_of(value))

    def form(self, event: Any, casebook: Casebook, entry: Filled, *, repeat: str | None = None) -> None:
        key = repeat or self.repeat_of(entry)
        made = self.parts.add(event, self.form_tag, **self.form_key(entry.instrument, key))
        plain, rows = self.by_group(entry)
        for name, oid, value in plain:
            self.answer(made, casebook, entry, name, oid, value)
        self.groups(made, casebook, entry, rows)
        self.audit_of_form(made, casebook, entry)

    def answer(self, group: Any, casebook: Casebook, entry: Filled, name: str, oid: str, value: object) -> None:
        is_null = missing_in(value) is not None
        made = self.parts.add(group, "ItemData", ItemOID=oid, IsNull="Yes" if is_null else None)
        for place, text in enumerate([] if is_null else value_texts(value), 1):
            self.parts.add(made, "Value", text, SeqNum=str(place))
        self.about_answer(made, casebook, entry, name, value)
