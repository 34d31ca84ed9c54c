"""What does a CDISC ODM file define? Versions 1.3.2 and 2.0: events, forms, groups, items, code lists, checks.

Sources: ODM 1.3.2 (2013) sections 3.1.3 to 3.1.5; ODM 2.0 (2023) with its schema. Metadata alone is read; what the file
says of participants, users and other systems is reported.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import pairwise

from app.studies.importing import items as said
from app.studies.importing.building import typed_instead
from app.studies.importing.codes import Codes, plain, short
from app.studies.importing.draft import Data, Draft, Form, Section, planned_visit
from app.studies.importing.leftovers import report_leftovers
from app.studies.importing.logic import Names, Target, Untranslatable, translated
from app.studies.importing.markup import Node, all_text
from app.studies.importing.report import Failed
from app.studies.rules.items import WIDEST_MATRIX

_TYPES = {
    "text": "text",
    "string": "text",
    "integer": "integer",
    "float": "number",
    "double": "number",
    "decimal": "number",
    "date": "date",
    "time": "time",
    "datetime": "date_time",
    "boolean": "yes_no",
    "partialDate": "date",
    "incompleteDate": "date",
    "hexBinary": "file",
    "base64Binary": "file",
}
# What is read of each element; everything else in it is reported by its name.
READ = {
    "GlobalVariables": "StudyName ProtocolName",
    "Study": "OID StudyName ProtocolName GlobalVariables BasicDefinitions MetaDataVersion AdminData",
    "StudyEventDef": "OID Name Repeating Type FormRef ItemGroupRef",
    "FormRef": "FormOID OrderNumber Mandatory CollectionExceptionConditionOID",
    "FormDef": "OID Name Repeating ItemGroupRef",
    "ItemGroupRef": "ItemGroupOID OrderNumber Mandatory CollectionExceptionConditionOID",
    "ItemGroupDef": "OID Name Repeating Type ItemRef ItemGroupRef",
    "ItemRef": "ItemOID OrderNumber Mandatory MethodOID CollectionExceptionConditionOID Repeat Other PreSpecifiedValue "
    "Role UnitsItemOID",
    "ItemDef": "OID Name DataType Length SignificantDigits Question Prompt Description CodeListRef RangeCheck "
    "MeasurementUnitRef CRFCompletionInstructions ExternalQuestion ValueListRef Coding",
    "RangeCheck": "Comparator SoftHard ItemOID CheckValue FormalExpression ErrorMessage",
    "CodeList": "OID Name DataType CodeListItem EnumeratedItem ExternalCodeList",
    "CodeListItem": "CodedValue OrderNumber Decode",
    "EnumeratedItem": "CodedValue OrderNumber",
    "ConditionDef": "OID Name Description FormalExpression MethodSignature",
    "MethodDef": "OID Name Type Description FormalExpression MethodSignature",
    "Arm": "OID Name",
}
_SIGNS = {"LT": "<", "LE": "<=", "GT": ">", "GE": ">=", "EQ": "=", "NE": "<>"}
_DEEPEST_GROUP = 12

# What a definition may hold and a study folder does not: tag -> (what it is, what to do).
_ELSEWHERE = {
    "ClinicalData": ("Data of participants", "Bring data in once the study is loaded: this is its definition."),
    "ReferenceData": ("Reference data", "Nothing, unless a form needs it as choices."),
    "Association": ("An association", "Nothing."),
    "Presentation": ("A presentation", "Nothing: forms have one look."),
    "ImputationMethod": ("An imputation method", "Write it in the analysis plan."),
    "WorkflowDef": ("A workflow", "Plan visits in their order; write conditions as `shown_if`."),
    "TranslationDef": ("A translation", "Write instruments/CODE.LANGUAGE.yaml."),
    "ValueListDef": ("A value list", "Write `shown_if`, or items of their own."),
    "WhereClauseDef": ("A where clause", "Write `shown_if`."),
    "CommentDef": ("A comment", "Nothing."),
    "Leaf": ("A linked document", "Keep it in the trial master file."),
    "leaf": ("A linked document", "Keep it in the trial master file."),
    "AnnotatedCRF": ("An annotated form", "Keep it in the trial master file."),
    "Standards": ("Standards", "Nothing."),
    "SupplementalDoc": ("A supplemental document", "Keep it in the trial master file."),
}
_OF_PROTOCOL = {
    "StudySummary": ("A summary of parameters", "Write target, blinding and sponsor in study.yaml."),
    "StudyIndications": ("Indications", "Nothing."),
    "StudyInterventions": ("Interventions", "Write `treatment:`, for unblinded eyes."),
    "StudyObjectives": ("Objectives", "Nothing."),
    "StudyEndPoints": ("End points", "Write `outcomes:`."),
    "StudyTargetPopulation": ("A target population", "Write the criteria of `eligibility:`."),
    "StudyEstimands": ("Estimands", "Write them in the analysis plan."),
    "TrialPhase": ("A trial phase", "Nothing."),
    "WorkflowRef": ("A workflow", "Plan visits in their order."),
    "Alias": ("An alias", "Nothing."),
}


def reading(root: Node, name: str) -> "Reading":
    """The reading of a file; `Failed` when it defines no study."""
    study, version = _where(root)
    odm = root.get("ODMVersion") or ("1.3" if version.all("FormDef") else "2.0")
    draft = Draft(f"the ODM {odm} file {name}")
    return Reading(root, study, version, draft)


def _where(root: Node) -> tuple[Node, Node]:
    if root.tag == "MetaDataVersion":
        return Node("Study", root.line), root
    if root.tag != "ODM":
        raise Failed(
            f"This XML is no ODM: its first element is <{root.tag.removeprefix('other:')[:40]}>. Export the study's "
            "definition as CDISC ODM 1.3.2 or 2.0, or as REDCap project XML."
        )
    for study in root.all("Study"):
        versions = study.all("MetaDataVersion")
        if versions:
            return study, versions[-1]
    raise Failed("The file has no Study with a MetaDataVersion. Export the study's definition, not its data alone.")


def by_oid(nodes: list[Node]) -> dict[str, Node]:
    return {node.get("OID"): node for node in nodes}


class Reading:
    """One reading of one file."""

    def __init__(self, root: Node, study: Node, version: Node, draft: Draft) -> None:
        self.root, self.study, self.version, self.draft = root, study, version, draft
        self.report = draft.report
        self.names = Names()
        self.events = by_oid(version.all("StudyEventDef"))
        self.forms = by_oid(version.all("FormDef"))
        self.groups = by_oid(version.all("ItemGroupDef"))
        self.items = by_oid(version.all("ItemDef"))
        self.lists = by_oid(version.all("CodeList"))
        self.methods = by_oid(version.all("MethodDef"))
        self.conditions = by_oid(version.all("ConditionDef"))
        basics = study.first("BasicDefinitions")
        self.units = by_oid(basics.all("MeasurementUnit")) if basics else {}
        self.others: list[str] = []  # languages beside the study's
        self.draft.language = self.language()
        self.made: dict[str, Form] = {}  # by the OID of the form
        self.used: set[str] = set()  # OIDs of groups and items that stand in a form
        self.pending: list[tuple[Node, Node, Data, str, list[str]]] = []
        self.depth = 0

    def language(self) -> str:
        """The language in which most is worded."""
        tags = Counter(
            node.get("xml:lang")[:2].lower() for node in self.version.within("TranslatedText") if node.get("xml:lang")
        )
        best = tags.most_common(1)
        language = best[0][0] if best else "en"
        for other, count in sorted(tags.items()):
            if other == language:
                continue
            words = f"{count} texts in the language {other}."
            if re.fullmatch(r"[a-z]{2}", other):
                self.others.append(other)
                instead = f"Questions and choices stand in instruments/CODE.{other}.yaml; all else is in {language}."
                self.report.changed("TranslatedText", words, instead, "Add what is missing there.")
            else:
                self.report.lost("TranslatedText", words, "Name the language by its two letters.")
        return language if re.fullmatch(r"[a-z]{2}", language) else "en"

    def words_in(self, language: str, node: Node | None) -> str:
        """The text of a Question or Decode in another language; '' where there is none."""
        found = (
            text
            for text in (node.all("TranslatedText") if node else ())
            if text.get("xml:lang")[:2].lower() == language
        )
        return plain(all_text(next(found, None)))

    def other_words(
        self, node: Node, item: Data, renamed: Mapping[str, str], form: Form, term: Node | None, *, alone: bool
    ) -> None:
        """The words of an item in other languages."""
        for language in self.others:
            label = self.words_in(language, node.first("Question"))
            if term is not None:
                row = self.words_in(language, term.first("Decode"))
                label = row if alone else f"{row}: {label}" if row and label else ""
            choices = [
                {"code": renamed[each.get("CodedValue")], "label": short(words)}
                for each in self.listed(node)
                if each.get("CodedValue") in renamed and (words := self.words_in(language, each.first("Decode")))
            ]
            said: Data = {"code": item["code"]}
            said |= {"label": short(label)} if label else {}
            said |= {"choices": choices} if choices else {}
            if len(said) > 1:
                form.texts.setdefault(language, []).append(said)

    def words(self, node: Node | None) -> str:
        """The text of a Description, Question or Decode in the study's language, else in the first there is."""
        if node is None:
            return ""
        texts = node.all("TranslatedText")
        if not texts:
            return all_text(node)
        for text in texts:
            if text.get("xml:lang")[:2].lower() in (self.draft.language, ""):
                return all_text(text)
        return all_text(texts[0])

    def run(self) -> Draft:
        self.about()
        order = self.ordered_events()
        at_events = {oid: list(self.forms_of(event)) for oid, event in order}
        oids = [form for forms in at_events.values() for form in forms] or list(self.top_forms())
        for oid in dict.fromkeys(oids):
            self.form(oid)
        self.draft.forms = [form for form in self.made.values() if form.items]
        self.visits(order, at_events)
        for ref, node, item, instrument, conditions in self.pending:
            self.logic(ref, node, item, instrument, conditions)
        self.criteria()
        self.unused()
        self.names_alone()
        report_leftovers(self.report, self.study, READ)
        if self.version not in self.study.children:
            report_leftovers(self.report, self.version, READ)
        return self.draft

    # Around the definition

    def about(self) -> None:
        settings = self.study.first("GlobalVariables")
        title = all_text(settings.first("StudyName")) if settings else self.study.get("StudyName")
        self.draft.title = plain(title) or plain(self.version.get("Name"))
        protocol_name = all_text(settings.first("ProtocolName")) if settings else self.study.get("ProtocolName")
        self.draft.short_title = plain(protocol_name)
        for node in self.study.all("MetaDataVersion"):
            if node is not self.version:
                self.report.lost(_at(node), f"The MetaDataVersion {node.get('OID')}.", "Convert it by itself.",
                                 "The last one was taken.")  # fmt: skip
        for study in self.root.all("Study"):
            if study is not self.study:
                self.report.lost(_at(study), f"The study {study.get('OID')}.", "Convert it by itself.")
        if self.version.first("Include") is not None:
            self.report.lost(_at(self.version), "It includes another MetaDataVersion.", "Export both as one.")
        counted = Counter(node.tag for node in (*self.root.children, *self.version.children))
        for tag, (what, to_do) in _ELSEWHERE.items():
            if counted[tag]:
                self.report.lost(tag, f"{what} ({counted[tag]}).", to_do)
        others = Counter(node.tag for node in self.version.children if node.tag.startswith("other:"))
        for tag, count in others.items():
            self.report.lost(tag.removeprefix("other:"), f"An extension of another maker ({count}).", "Nothing.")
        for node in self.root.all("AdminData"):
            self.sites(node)
        protocol = self.version.first("Protocol")
        if protocol is not None:
            self.protocol(protocol)

    def sites(self, node: Node) -> None:
        codes = Codes()
        for location in node.all("Location"):
            kind = location.get("LocationType") or location.get("Type")
            if kind in ("Site", "Other", "") and location.get("Name"):
                code = codes.take_any(location.get("OID").rpartition(".")[2] or location.get("Name"), "site")
                self.draft.sites.append({"code": code, "name": short(plain(location.get("Name"))), "timezone": "UTC"})
        people = len(node.all("User"))
        if people:
            self.report.lost("AdminData", f"Users ({people}).", "Add people and their roles on People.")

    def protocol(self, protocol: Node) -> None:
        counted = Counter(node.tag for node in protocol.children)
        for tag, (what, to_do) in _OF_PROTOCOL.items():
            if counted[tag]:
                self.report.lost(f"Protocol/{tag}", f"{what} ({counted[tag]}).", to_do)
        codes = Codes()
        labels: set[str] = set()
        for arm in protocol.within("Arm"):
            label = short(plain(arm.get("Name"))) or arm.get("OID")
            code = codes.take_any(arm.get("OID"), "arm")
            label = label if label.casefold() not in labels else f"{short(label, 350)} ({code})"
            labels.add(label.casefold())
            self.draft.arms.append({"code": code, "label": label})
        epochs = list(protocol.within("Epoch"))
        if epochs:
            self.report.lost(
                "Protocol/StudyStructure",
                f"Epochs: {', '.join(epoch.get('Name') for epoch in epochs)}.",
                "Write `kind: baseline`, `treatment` or `assessment` at visits.",
            )

    # Events and what is filled in at them

    def ordered_events(self) -> list[tuple[str, Node]]:
        """The events in the order of the protocol, then the others."""
        protocol = self.version.first("Protocol")
        refs = list(protocol.within("StudyEventRef")) if protocol else []
        refs += [ref for group in self.version.all("StudyEventGroupDef") for ref in group.all("StudyEventRef")]
        self.groups_of_events()
        refs.sort(key=lambda ref: int(ref.get("OrderNumber")) if ref.get("OrderNumber").isdecimal() else 10**9)
        oids = dict.fromkeys([ref.get("StudyEventOID") for ref in refs] + list(self.events))
        for oid in oids:
            if oid not in self.events:
                self.report.lost("Protocol", f"There is no StudyEventDef {oid}.", "Export again, or plan it by hand.")
        for ref in refs:
            self.refused_condition(ref, f"the event {ref.get('StudyEventOID')}")
        return [(oid, self.events[oid]) for oid in oids if oid in self.events]

    def groups_of_events(self) -> None:
        """Say what becomes of groups of events."""
        for group in self.version.all("StudyEventGroupDef"):
            words = f"The group of events {group.get('Name') or group.get('OID')}."
            if group.first("StudyEventRef") is not None:
                self.report.changed(_at(group), words, "Its events are visits one by one.")
            else:
                self.report.lost(_at(group), words, "Plan its events as visits.")

    def refused_condition(self, ref: Node, what: str) -> None:
        condition = ref.get("CollectionExceptionConditionOID")
        if condition:
            self.report.lost(
                _at(ref),
                f"The condition {condition} of {what}: {self.said_of(self.conditions.get(condition))}",
                "Write `shown_if` at its items.",
                "It is filled in always.",
            )

    def forms_of(self, event: Node) -> Iterator[str]:
        """The OIDs of the forms at an event; in ODM 2.0 groups are forms."""
        for ref in in_order(event.all("FormRef", "ItemGroupRef")):
            oid = ref.get("FormOID") or ref.get("ItemGroupOID")
            if oid in self.forms or oid in self.groups:
                self.refused_condition(ref, f"the form {oid} at {event.get('Name')}")
                if ref.get("Mandatory") == "No":
                    words = f"The form {oid} may be left out at {event.get('Name')}."
                    self.report.changed(
                        _at(ref), words, "It is due there like the others.", "Plan it unscheduled, if need be."
                    )
                yield oid
            else:
                self.report.lost(_at(ref), f"There is no form {oid}.", "Export again, or write the form.")

    def top_forms(self) -> Iterator[str]:
        """Where no event names a form: every form, or every group that stands in no other."""
        if self.forms:
            yield from self.forms
            return
        inner = {ref.get("ItemGroupOID") for group in self.groups.values() for ref in group.all("ItemGroupRef")}
        outer = [oid for oid in self.groups if oid not in inner]
        forms = [oid for oid in outer if self.groups[oid].get("Type") == "Form"]
        yield from forms or outer

    def visits(self, order: list[tuple[str, Node]], at_events: dict[str, list[str]]) -> None:
        times = self.times()
        kept = {oid for oid, form in self.made.items() if form.items}
        for oid, event in order:
            forms = [self.made[form].code for form in dict.fromkeys(at_events[oid]) if form in kept]
            kind = event.get("Type")
            if kind == "Unscheduled" or (kind == "Common" and event.get("Repeating") == "Yes"):
                self.draft.unscheduled += [form for form in forms if form not in self.draft.unscheduled]
                self.report.changed(
                    _at(event),
                    f"{event.get('Name')} is {kind.lower()}.",
                    "Its forms are filled in at unscheduled visits.",
                    "Write `unscheduled:` otherwise, or plan it as a visit.",
                )
                continue
            if event.get("Repeating") == "Yes":
                self.report.changed(
                    _at(event),
                    f"The event {event.get('Name')} repeats.",
                    "It is one visit.",
                    "Write one visit for each time, or let its forms repeat (`repeats: true`).",
                )
            code = self.draft.visit_codes.take(oid.rpartition(".")[2] or oid, "visit")
            label = self.draft.visit_labels.take(short(plain(event.get("Name"))) or code)
            day, before, after = times.get(oid, (0, 0, 0))
            self.draft.visits.append(self.draft.visit(_at(event), code, label, forms, (day, before, after)))
        planned = [oid for oid, event in order if oid in times]
        self.draft.times_known = bool(planned) and len(planned) >= len(self.draft.visits)
        if planned and not self.draft.times_known:
            self.report.changed(
                "Protocol/StudyTimings",
                "Only some visits have a time.",
                "The others are due on day 0.",
                "Write their days.",
            )
        self.draft.visits.sort(key=lambda visit: visit["day"])
        if not self.draft.visits and (self.draft.forms or self.draft.arms):
            unplanned = [form.code for form in self.draft.forms if form.code not in self.draft.unscheduled]
            code = self.draft.visit_codes.take("visit1")
            self.draft.visits.append(planned_visit(code, "Visit 1", unplanned))
            self.report.default(
                "study.yaml, visits",
                "The source plans no visit.",
                "There is one, with every form that is not filled in at unscheduled visits.",
                "Write the visits.",
            )
        for visit in self.draft.visits:
            for form in visit["instruments"]:
                self.names.visits.setdefault(form, []).append(visit["code"])
            self.names.events[visit["code"]] = visit["code"]

    def times(self) -> dict[str, tuple[int, int, int]]:
        """OID of an event -> day from the first, days before and after, as ODM 2.0 says in its timings."""
        found: dict[str, tuple[int, int, int]] = {}
        relative = list(self.version.within("RelativeTimingConstraint"))
        for node in self.version.within("AbsoluteTimingConstraint"):
            self.report.lost(_at(node), f"{node.get('Name')}: {node.get('TimepointTarget')}.", "Write day and window.")
        for tag in ("TransitionTimingConstraint", "DurationTimingConstraint"):
            for node in self.version.within(tag):
                self.report.lost(_at(node), f"{tag} {node.get('Name')}.", "Write day and window.")
        waiting = relative
        while waiting:
            later = []
            for node in waiting:
                before, after = node.get("PredecessorOID"), node.get("SuccessorOID")
                days = _days(node.get("TimepointRelativeTarget"))
                if after not in self.events or before not in self.events or days is None:
                    self.report.lost(
                        _at(node),
                        f"{node.get('Name')}: {node.get('TimepointRelativeTarget')} from {before} to {after}.",
                        "Write day and window.",
                    )
                elif before not in found and any(other.get("SuccessorOID") == before for other in waiting):
                    later.append(node)
                else:
                    start = found.setdefault(before, (0, 0, 0))[0]
                    window = [_days(node.get(key)) or 0 for key in ("TimepointPreWindow", "TimepointPostWindow")]
                    found[after] = (start + days, abs(window[0]), abs(window[1]))
            if len(later) == len(waiting):
                for node in later:
                    self.report.lost(_at(node), f"{node.get('Name')} follows itself.", "Write day and window.")
                break
            waiting = later
        return found

    # Forms

    def form(self, oid: str) -> None:
        node = self.forms.get(oid) or self.groups[oid]
        code = self.draft.instruments.take(_short_oid(oid), "form")
        form = self.made[oid] = Form(code, short(plain(node.get("Name"))) or code)
        form.repeats = node.get("Repeating") in ("Yes", "Simple", "Dynamic")
        self.used.add(oid)
        if oid in self.groups and node.all("ItemRef"):
            self.section(node, form, None, [])
        else:
            for ref in in_order(node.all("ItemGroupRef")):
                self.group(ref, form, [])
        if not form.items:
            self.report.lost(_at(node), f"The form {form.label} has no items.", "Nothing, unless items are missing.")

    def group(self, ref: Node, form: Form, conditions: list[str]) -> None:
        node = self.groups.get(ref.get("ItemGroupOID"))
        if node is None:
            self.report.lost(_at(ref), f"There is no ItemGroupDef {ref.get('ItemGroupOID')}.", "Export again.")
            return
        if self.depth >= _DEEPEST_GROUP:
            raise Failed(f"Item groups are nested more than {_DEEPEST_GROUP} deep at {node.get('OID')}. Flatten them.")
        condition = ref.get("CollectionExceptionConditionOID")
        self.depth += 1
        self.section(
            node, form, short(plain(node.get("Name"))) or None, [*conditions, *([condition] if condition else [])]
        )
        self.depth -= 1

    def section(self, node: Node, form: Form, label: str | None, conditions: list[str]) -> None:
        self.used.add(node.get("OID"))
        repeating = node.get("Repeating")
        section = Section(label)
        form.sections.append(section)
        static = [ref for ref in node.all("ItemRef") if ref.get("Repeat") == "Yes"]
        if repeating == "Static" and static:
            self.rows_of_a_list(node, static[0], section, form, conditions)
            return
        nested = node.all("ItemGroupRef")
        if repeating in ("Yes", "Simple", "Dynamic") and label is not None:
            section.code = self.draft.items.take(_short_oid(node.get("OID")), "group")
        elif repeating == "Static":
            self.report.changed(
                _at(node), f"The group {label} repeats by a list that it does not name.", "It is asked once."
            )
        for ref in in_order([*node.all("ItemRef"), *nested]):
            if ref.tag == "ItemRef":
                self.item(ref, section, form, conditions)
                continue
            self.group(ref, form, conditions)
            if ref is not nested[-1] or node.all("ItemRef"):
                section = Section()  # what follows stands below what was nested
                form.sections.append(section)

    def rows_of_a_list(self, node: Node, ref: Node, section: Section, form: Form, conditions: list[str]) -> None:
        """A group that is asked once for each term of a code list: an item for each term and question."""
        over = self.items.get(ref.get("ItemOID"))
        terms = self.listed(over) if over else []
        if over is None or not terms:
            self.report.lost(_at(ref), f"The group {node.get('OID')} repeats over no list.", "Write its items.")
            return
        self.used.add(over.get("OID"))
        asked = [each for each in node.all("ItemRef") if each is not ref]
        plain_ones = [each for each in asked if each.get("Other") != "Yes"]
        for term in terms:
            for each in plain_ones:
                self.item(each, section, form, conditions, term=term, alone=len(plain_ones) == 1)
        if section.items and self.is_matrix(section.items):
            section.layout = "matrix"
        question = self.words(over.first("Question"))
        if question:
            section.label = short(f"{section.label}: {plain(question)}" if section.label else plain(question))
        for each in asked:
            if each.get("Other") == "Yes":
                others = Section()
                form.sections.append(others)
                self.item(each, others, form, conditions)
        self.report.changed(
            _at(node),
            f"The group {node.get('Name')} is asked once for each of {len(terms)} terms.",
            "There is an item for each term.",
            "Data are kept by item here, not in rows.",
        )

    @staticmethod
    def is_matrix(items: list[Data]) -> bool:
        first = items[0]
        return (
            len(items) > 1
            and all(item["type"] == first["type"] and item.get("choices") == first.get("choices") for item in items)
            and (first["type"] == "yes_no" or (first["type"] == "choice" and len(first["choices"]) <= WIDEST_MATRIX))
        )

    # Items

    def item(
        self,
        ref: Node,
        section: Section,
        form: Form,
        conditions: list[str],
        *,
        term: Node | None = None,
        alone: bool = True,
    ) -> None:
        oid = ref.get("ItemOID")
        node = self.items.get(oid)
        if node is None:
            self.report.lost(_at(ref), f"There is no ItemDef {oid}.", "Export again, or write the item.")
            return
        where = f"Line {node.line}, {oid}"
        again = oid in self.used and term is None
        self.used.add(oid)
        wanted = _short_oid(oid) + (f"_{term.get('CodedValue')}" if term else "")
        code = self.draft.items.take(wanted, "item")
        self.draft.where[code] = where
        if again:
            self.report.changed(
                where, f"{oid} stands in several forms or groups.", f"In {form.label} it is the item {code}.",
                "Each item has one code in the study: change scripts that know the OID.",
            )  # fmt: skip
        text = (
            self.words(node.first("Question"))
            or self.words(node.first("Prompt"))
            or self.words(node.first("Description"))
        )
        text = text or node.get("Name")
        if node.first("Question") is not None and (more := self.words(node.first("Description"))):
            self.report.lost(
                where, f"The description “{short(plain(more), 200)}”.", "Write it as the hint, if need be."
            )
        if term is not None:
            row = self.words(term.first("Decode")) or term.get("CodedValue")
            text = row if alone else f"{row}: {text}"
        label, whole = self.draft.label(text, where, code)
        item: Data = {"code": code, "label": label, "type": "text"}
        hints = [whole or "", *(plain(self.words(node.first(tag))) for tag in ("CRFCompletionInstructions",))]
        if hint := "\n".join(each for each in hints if each):
            item["hint"] = hint
        renamed = self.type(node, item, where)
        self.other_words(node, item, renamed, form, term, alone=alone)
        item["required"] = ref.get("Mandatory") != "No"
        target = Target(form.code, code, renamed)
        if not again:
            for name in {oid, node.get("Name"), code, _short_oid(oid)} if term is None else {code}:
                self.names.fields.setdefault(name, target)
        section.items.append(item)
        self.unit(ref, node, item, section, where)
        condition = ref.get("CollectionExceptionConditionOID")
        self.pending.append((ref, node, item, form.code, [*conditions, *([condition] if condition else [])]))
        for tag in ("ExternalQuestion", "ValueListRef", "Coding"):
            if node.first(tag) is not None:
                self.report.lost(where, f"{tag} of {oid}.", "Nothing, unless the item needs it.")
        for key in ("PreSpecifiedValue", "Role", "UnitsItemOID"):
            if value := ref.get(key):
                self.report.lost(where, f"{key} {short(value, 80)}.", "Nothing, unless the item needs it.")

    def terms(self, node: Node) -> list[tuple[str, str]]:
        """Code and words of each term of an item's code list."""
        return [
            (each.get("CodedValue"), self.words(each.first("Decode")) or each.get("CodedValue"))
            for each in self.listed(node)
        ]

    def listed(self, node: Node) -> list[Node]:
        """The terms of an item's code list, in the order in which they are shown."""
        ref = node.first("CodeListRef")
        coded = self.lists.get(ref.get("CodeListOID")) if ref else None
        if coded is None:
            return []
        listed = coded.all("CodeListItem", "EnumeratedItem")
        if all(each.get("OrderNumber").isdecimal() for each in listed):
            listed.sort(key=lambda each: int(each.get("OrderNumber")))
        return listed

    def type(self, node: Node, item: Data, where: str) -> dict[str, str]:
        """Set the type of an item; the codes of its choices there and here."""
        kind, length = node.get("DataType"), node.get("Length")
        ref = node.first("CodeListRef")
        if ref is not None:
            terms = self.terms(node)
            if terms:
                item["type"] = "choice"
                item["choices"], renamed = said.choices(self.draft, terms, where)
                return renamed
            self.report.lost(
                where,
                f"The code list {ref.get('CodeListOID')} is kept elsewhere or has no terms.",
                "Write its terms as `choices`.",
                "The item is typed.",
            )
        item["type"] = _TYPES.get(kind, "text")
        if kind not in _TYPES:
            self.report.changed(
                where, f"The data type {kind or '(none)'}.", "It is a text.", "Write checks of its format."
            )
        if kind in ("partialDate", "incompleteDate"):
            item["precision"] = "year"
        if kind == "incompleteDate":
            self.report.changed(where, "A date of which any part may be missing.", "The day, or day and month, may be.")
        if kind == "time":
            self.report.changed(where, "A time with its seconds.", "It is kept to the minute.")
        if kind == "datetime":
            self.report.changed(
                where, "A moment with its seconds and zone.", "It is kept to the minute, by the site's clock."
            )
        if item["type"] == "number" and node.get("SignificantDigits").isdecimal():
            digits = int(node.get("SignificantDigits")[:4])
            item["decimals"] = min(digits, 6)
            if digits > 6:
                self.report.changed(where, f"{digits} digits after the point.", "Six are kept.")
        if item["type"] == "text" and length.isdecimal():
            item["max_length"] = min(max(int(length[:9]), 1), 20000)
            if int(length[:9]) > 20000:
                self.report.changed(where, f"A text of {length} characters.", "At most 20,000 are taken.")
            if item["max_length"] > 255:
                item["multiline"] = True
        if item["type"] == "integer" and length.isdecimal() and 0 < int(length[:4]) <= 15:
            item["max"] = str(10 ** int(length) - 1)
        return {}

    def unit(self, ref: Node, node: Node, item: Data, section: Section, where: str) -> None:
        """One unit stands beside the item; of several, one is chosen in an item of its own."""
        names = []
        for each in node.all("MeasurementUnitRef"):
            unit = self.units.get(each.get("MeasurementUnitOID"))
            if unit is None:
                self.report.lost(where, f"There is no unit {each.get('MeasurementUnitOID')}.", "Write `unit:`.")
                continue
            names.append(plain(self.words(unit.first("Symbol"))) or unit.get("Name"))
        if len(names) == 1:
            item["unit"] = short(names[0], 60)
        elif names:
            code = self.draft.items.take(f"{item['code'][:34]}_unit")
            self.draft.where[code] = where
            made, _ = said.choices(self.draft, [(name, name) for name in names], where)
            asked = f"{short(item['label'], 380)}: unit"
            section.items.append(
                {"code": code, "label": asked, "type": "choice", "required": item["required"], "choices": made}
            )
            self.report.changed(where, f"One of {len(names)} units.", f"It is chosen in the item {code}.")

    # Checks, conditions, methods

    def logic(self, ref: Node, node: Node, item: Data, instrument: str, conditions: list[str]) -> None:
        where = self.draft.where[item["code"]]
        if ref.get("MethodOID"):
            self.method(ref.get("MethodOID"), item, instrument, where)
        for check in node.all("RangeCheck"):
            self.range(check, item, instrument, where)
        rules = [rule for oid in conditions if (rule := self.condition(oid, instrument, where)) is not None]
        if rules:
            item["shown_if"] = " and ".join(f"not ({rule})" for rule in rules)

    def said_of(self, node: Node | None) -> str:
        """What a condition or a method says, in words and formally."""
        if node is None:
            return "it is not defined."
        formal = " ".join(self.formal(each) for each in node.all("FormalExpression"))
        return " ".join(part for part in (self.words(node.first("Description")), formal) if part) or node.get("Name")

    @staticmethod
    def formal(node: Node) -> str:
        """The text of a FormalExpression; ODM 2.0 puts it into Code."""
        code = node.first("Code")
        return (code.text if code is not None else node.text).strip()

    def expression(self, node: Node, instrument: str) -> str:
        """The first formal expression that is in our language; `Untranslatable` when none is."""
        why = "it has no formal expression"
        for each in node.all("FormalExpression"):
            text = self.formal(each)
            try:
                if not re.search(r"\[[^\[\]@]+\]", text):
                    raise Untranslatable("it names no item in square brackets")
                return translated(text, self.names, instrument)
            except Untranslatable as reason:
                why = f"{each.get('Context') or 'its language'}: {reason}"
        raise Untranslatable(why)

    def condition(self, oid: str, instrument: str, where: str) -> str | None:
        node = self.conditions.get(oid)
        try:
            if node is None:
                raise Untranslatable("it is not defined")
            return self.expression(node, instrument)
        except Untranslatable as reason:
            self.report.lost(
                where,
                f"The condition {oid}, under which nothing is asked: {self.said_of(node)} ({reason})",
                "Write `shown_if`.",
                "The item is always shown.",
            )
            return None

    def method(self, oid: str, item: Data, instrument: str, where: str) -> None:
        node = self.methods.get(oid)
        try:
            if node is None:
                raise Untranslatable("it is not defined")
            calculation = self.expression(node, instrument)
        except Untranslatable as reason:
            self.report.lost(
                where,
                f"The method {oid}: {self.said_of(node)} ({reason})",
                "Write it as a calculation.",
                "The item is typed.",
            )
            return
        unit = item.get("unit")
        for key in ("choices", "max_length", "multiline", "precision", "required", "max"):
            item.pop(key, None)
        item |= {"type": "calculated", "calculation": calculation, **({"unit": unit} if unit else {})}

    def range(self, node: Node, item: Data, instrument: str, where: str) -> None:
        hard = node.get("SoftHard") != "Soft"
        message = plain(self.words(node.first("ErrorMessage")))
        values = [all_text(each).strip() for each in node.all("CheckValue")]
        sign = node.get("Comparator")
        if node.get("ItemOID") and self.names.fields.get(node.get("ItemOID")) != Target(instrument, item["code"], {}):
            self.report.lost(where, f"A check of another item, {node.get('ItemOID')}.", "Write it as a check.")
            return
        if node.all("FormalExpression"):
            try:
                rule = self.expression(node, instrument)
            except Untranslatable as reason:
                self.report.lost(where, f"A check: {self.said_of(node)} ({reason})", "Write it as a check.")
                return
            said.check(item, rule, message or "Check this answer: a rule of the protocol does not hold.", hard=hard)
            return
        if not values or not sign:
            self.report.lost(where, "A check without a comparison.", "Write it as a check.")
            return
        self.comparison(item, sign, values, message, hard=hard, where=where)

    def comparison(self, item: Data, sign: str, values: list[str], message: str, *, hard: bool, where: str) -> None:
        """A comparison with values: a range where it is one, else a check."""
        numeric = item["type"] in ("integer", "number", "calculated")
        number = said.number(values[0]) if numeric else None
        if number is not None and item["type"] == "integer" and sign in ("GT", "LT") and number == int(number):
            number, sign = (number + 1, "GE") if sign == "GT" else (number - 1, "LE")
        if number is not None and sign in ("GE", "LE") and len(values) == 1:
            key = ("min" if hard else "expected_min") if sign == "GE" else ("max" if hard else "expected_max")
            other = Decimal(str(item[key])) if key in item else None
            narrower = other is None or (number > other if sign == "GE" else number < other)
            if narrower and self.fits(item, key, number):
                item[key] = said.digits(number)
                if message:
                    self.report.looks(where, f"The message “{short(message, 160)}”.", "The range says it in our words.")
                return
        self.as_rule(item, sign, values, message, hard=hard, where=where)

    @staticmethod
    def fits(item: Data, key: str, number: Decimal) -> bool:
        """Whether the item's ranges still go together with this bound."""
        if item["type"] == "integer" and number != number.to_integral_value():
            return False
        bounds: dict[str, Decimal] = {
            name: Decimal(str(item[name])) for name in ("min", "expected_min", "expected_max", "max") if name in item
        }
        bounds[key] = number
        in_order = [bounds[name] for name in ("min", "expected_min", "expected_max", "max") if name in bounds]
        return all(low <= high for low, high in pairwise(in_order))

    def as_rule(self, item: Data, sign: str, values: list[str], message: str, *, hard: bool, where: str) -> None:
        code, literals = item["code"], [said.literal(value) for value in values]
        if item["type"] == "calculated" or None in literals or (sign not in _SIGNS and sign not in ("IN", "NOTIN")):
            self.report.lost(where, f"A check: {sign} {', '.join(values)}.", "Write it as a check.")
            return
        if sign in ("IN", "NOTIN"):
            rule = " or ".join(f"[{code}] = {each}" for each in literals)
            rule = f"not ({rule})" if sign == "NOTIN" else f"[{code}] = '' or {rule}"
            words = f"{'one of' if sign == 'IN' else 'none of'} {', '.join(values)}"
        else:
            rule, words = f"[{code}] {_SIGNS[sign]} {literals[0]}", f"{_SIGNS[sign]} {values[0]}"
            rule = f"[{code}] = '' or {rule}" if sign == "EQ" else rule
        said.check(item, rule, message or f"Check this: {words} is expected.", hard=hard)

    # What is left

    def criteria(self) -> None:
        """Inclusion and exclusion criteria of ODM 2.0 become questions of the pre-screen."""
        for kind, tag in (("inclusion", "InclusionCriteria"), ("exclusion", "ExclusionCriteria")):
            for group in self.version.within(tag):
                for node in group.all("Criterion"):
                    words = plain(self.words(node.first("Description"))) or plain(node.get("Name")) or node.get("OID")
                    self.draft.criteria.append((_short_oid(node.get("OID")), short(words), kind))
                    if condition := node.get("ConditionOID"):
                        self.report.lost(
                            _at(node),
                            f"The condition {condition}: {self.said_of(self.conditions.get(condition))}",
                            "Write the rule of the criterion with the answers it is judged from.",
                            "The pre-screen asks whether it is met.",
                        )

    def names_alone(self) -> None:
        """Names that the source has beside what is shown: they stand in no definition here."""
        named = Counter[str]()
        for tag, nodes in (("ItemDef", self.items), ("CodeList", self.lists), ("MethodDef", self.methods)):
            for oid, node in nodes.items():
                name = plain(node.get("Name"))
                shown = plain(self.words(node.first("Question"))) if tag == "ItemDef" else ""
                named[tag] += bool(name and name not in (oid, _short_oid(oid)) and (shown or tag != "ItemDef"))
        if self.draft.title != plain(self.version.get("Name")) and self.version.get("Name"):
            named["MetaDataVersion"] += 1
        for tag, count in named.items():
            if count:
                self.report.looks(tag, f"Names beside what is shown ({count}).")

    def unused(self) -> None:
        for oid, node in (*self.forms.items(), *self.groups.items(), *self.items.items()):
            if oid not in self.used:
                self.report.lost(
                    _at(node),
                    f"{node.tag} {oid}, “{short(plain(node.get('Name')), 80)}”, stands in no form that is filled in.",
                    "Nothing, unless it should be asked.",
                )
        for form in self.draft.forms:
            planned = self.names.visits.get(form.code) or form.code in self.draft.unscheduled
            if not planned:
                self.report.lost(form.label, "It is filled in at no visit.", "Add it to a visit.", "The form is there.")
            for item in form.items:
                if item["type"] == "calculated" and not item.get("calculation"):
                    typed_instead(item)


def _at(node: Node) -> str:
    name = node.get("OID") or node.get("ItemOID") or node.get("ItemGroupOID") or node.get("FormOID") or node.get("Name")
    return f"Line {node.line}, {node.tag} {name}".strip()


def _short_oid(oid: str) -> str:
    """An OID without the letters before it that say what it is: IT.AGE is age, but I_1 stays."""
    head, point, rest = oid.partition(".")
    return (rest if point and rest and len(head) <= 6 else oid).lower()


def in_order(refs: list[Node]) -> list[Node]:
    """References by their OrderNumber, where all have one."""
    if refs and all(ref.get("OrderNumber").isdecimal() for ref in refs):
        return sorted(refs, key=lambda ref: int(ref.get("OrderNumber")))
    return refs


def _days(duration: str) -> int | None:
    """Whole days of an ISO 8601 duration; None when it has months or years, whose days are not known."""
    found = re.fullmatch(
        r"([+-])?P(?:(\d{1,5})W)?(?:(\d{1,5})D)?(?:T(?:(\d{1,5})H)?(?:\d{1,5}M)?(?:\d{1,5}(?:\.\d+)?S)?)?", duration
    )
    if found is None or duration.endswith("P"):
        return None
    days = int(found[2] or 0) * 7 + int(found[3] or 0) + int(found[4] or 0) // 24
    return -days if found[1] == "-" else days
