"""What does an ODM file that Equipoise wrote define? The standard's elements, and what our aliases say beside them.

Where the standard has a place for something (words, choices, ranges, checks, conditions, calculations, units), that is
what counts, so that a file may be changed elsewhere; our aliases say the rest. What was asked in earlier versions alone
stands in files with data; it is reported. Arms, allocation, treatment and consent documents are in no export.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from app.studies.importing import items as said
from app.studies.importing.draft import Data, Draft, Form, Section
from app.studies.importing.leftovers import report_leftovers
from app.studies.importing.markup import Node, all_text
from app.studies.importing.odm import READ, Reading, in_order, reading

OURS = "equipoise:"
EXPRESSION = "equipoise expression"
SCREENED, UNPLANNED, OVERALL = "SE.SCREENING", "SE.UNSCHEDULED", "SE.STUDY"
_BESIDE_WORDS = ("type", "required", "decimals", "low_label", "high_label", "max_length", "multiline", "precision")
_BESIDE = (*_BESIDE_WORDS, "show_value", "kinds", "max_mb", "coding")
_LIMITS = {("GE", True): "min", ("LE", True): "max", ("GE", False): "expected_min", ("LE", False): "expected_max"}
_NOT_ASKED = re.compile(r"not \((.*)\)", re.DOTALL).fullmatch
_escaped = re.compile("_x([0-9A-Fa-f]{4})_")
Cell = tuple[str | None, str]
"""The group of rows that an item stands in, and its code."""


def read(root: Node, name: str) -> Draft:
    """The draft of a file, whoever wrote it; `Failed` when it defines no study."""
    read = reading(root, name)
    if _is_ours(root, read.version):
        read = OurReading(root, read.study, read.version, Draft(read.draft.source))
    return read.run()


def _is_ours(root: Node, version: Node) -> bool:
    """Whether forms say what they are in our words too."""
    return root.get("SourceSystem") == "Equipoise" and any(
        alias.get("Context") == f"{OURS}form" for alias in version.within("Alias")
    )


class OurReading(Reading):
    """One reading of a file of ours."""

    def __init__(self, root: Node, study: Node, version: Node, draft: Draft) -> None:
        self.told: dict[tuple[int, str], str] = {}
        # ODM 2.0 has our forms among its groups.
        for node in (version, *_all_within(version)):
            for alias in node.all("Alias"):
                if alias.get("Context").startswith(OURS):
                    self.told[id(node), alias.get("Context").removeprefix(OURS)] = alias.attributes.get("Name", "")
            node.children = [each for each in node.children if not each.get("Context").startswith(OURS)]
        self.protocol_node = version.first("Protocol") or Node("Protocol", version.line)
        self.report = draft.report
        self.about_study = self.alias(self.protocol_node, "study") or {}
        super().__init__(root, study, version, draft)

    def alias(self, node: Node, about: str) -> Data | None:
        """What we say of an element; None where there is nothing, or nothing that can be read."""
        text = self.told.get((id(node), about))
        if text is None:
            return None
        try:
            found = json.loads(as_it_was(text))
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            return found
        where = f"Line {node.line}, {node.tag} {node.get('OID')}".strip()
        self.report.lost(where, f"The alias {OURS}{about} cannot be read.", "Export the definition again.")
        return None

    def language(self) -> str:
        language = self.about_study.get("language", "en") if self.about_study else super().language()
        return language if isinstance(language, str) else "en"

    def words_in(self, language: str, node: Node | None) -> str:
        texts = node.all("TranslatedText") if node is not None else []
        return next((as_it_was(all_text(each)) for each in texts if each.get("xml:lang") == language), "")

    def groups_of_events(self) -> None:
        """There is one, of all visits: nothing is lost with it."""

    def sites(self, node: Node) -> None:
        """The sites under their codes; nobody of the people who are named is taken over."""
        for location in node.all("Location"):
            site = {"code": location.get("OID").removeprefix("LOC."), "name": as_it_was(location.get("Name"))}
            self.draft.sites.append({**site, "timezone": "UTC"})
        if people := len(node.all("User")):
            self.report.lost("AdminData", f"Users ({people}).", "Add people and their roles on People.")

    def run(self) -> Draft:
        self.about()
        for oid, node in (*self.forms.items(), *self.groups.items()):
            told = self.alias(node, "form")
            if told is not None:
                self.our_form(oid, node, told)
        self.draft.forms = list(self.made.values())
        self.our_visits()
        self.our_study()
        self.left_out()
        described = {tag: f"{READ[tag]} Description StudyDescription" for tag in ("Study", "GlobalVariables")}
        report_leftovers(self.report, self.study, {**READ, **described})
        return self.draft

    # Forms

    def our_form(self, oid: str, node: Node, told: Data) -> None:
        code = oid.removeprefix("FO.")
        form = self.made[oid] = Form(code, as_it_was(node.get("Name")))
        form.repeats = told.get("repeats") is True
        form.respondent = str(told.get("respondent", ""))
        form.said = {key: value for key, value in told.items() if key not in ("sections", "repeats", "respondent")}
        placed = {cell: self.our_item(ref, item) for cell, ref, item in self.cells(node, code)}
        sections = told.get("sections")
        for each in sections if isinstance(sections, list) else []:
            if not isinstance(each, dict) or not isinstance(each.get("items"), list):
                continue
            beside = {key: value for key, value in each.items() if key not in ("items", "label")}
            section = Section(each.get("label"), said=beside)
            group = each.get("code") if each.get("repeats") else None
            for name in each["items"]:
                item = placed.pop((group, str(name)), None)
                if item is None:
                    self.report.lost(form.label, f"There is no ItemDef of {name}.", "Export again, or write the item.")
                else:
                    section.items.append(item)
            form.sections.append(section)
        for _, name in placed:
            self.report.lost(form.label, f"{name} is in no section: an earlier version asked it.", "Nothing.")
        form.said["texts"] = list(self.our_texts(node, form, {c for _, c in placed}))

    def cells(self, form: Node, code: str) -> Iterator[tuple[Cell, Node, Node]]:
        """Group and code, reference and definition of each item of a form."""
        waiting: list[tuple[str | None, Node]] = [(None, form)]
        while waiting:
            group, node = waiting.pop(0)
            for ref in in_order(node.all("ItemGroupRef")):
                oid = ref.get("ItemGroupOID")
                inner = oid.removeprefix(f"IG.{code}").removeprefix(".") or None
                if oid in self.groups and (node is form):
                    waiting.append((inner, self.groups[oid]))
            for ref in in_order(node.all("ItemRef")):
                item = self.items.get(ref.get("ItemOID"))
                if item is not None:
                    self.used.add(ref.get("ItemOID"))
                    yield (group, as_it_was(item.get("Name"))), ref, item
            self.used.add(node.get("OID"))

    def our_item(self, ref: Node, node: Node) -> Data:
        told = self.alias(node, "item") or {}
        code = as_it_was(node.get("Name"))
        self.draft.where[code] = f"Line {node.line}, {node.get('OID')}"
        item: Data = {"code": code, "label": self.exact(node.first("Question")) or code}
        item |= {key: told[key] for key in _BESIDE if key in told}
        item.setdefault("type", "text")
        if hint := self.exact(node.first("Description")):
            item["hint"] = hint
        if unit := self.unit_named(ref, node):
            item["unit"] = unit
        if terms := self.listed(node):
            item["choices"] = [
                {"code": each.get("CodedValue"), "label": self.exact(each.first("Decode")) or each.get("CodedValue")}
                for each in terms
            ]
        for check in node.all("RangeCheck"):
            self.our_check(check, item)
        if oid := ref.get("CollectionExceptionConditionOID"):
            found = _NOT_ASKED(self.ours_of(self.conditions.get(oid)))
            if found:
                item["shown_if"] = found[1]
            else:
                self.lost_rule(item, f"The condition {oid}", "Write `shown_if`.")
        if oid := ref.get("MethodOID"):
            if rule := self.ours_of(self.methods.get(oid)):
                item["calculation"] = rule
            else:
                self.lost_rule(item, f"The method {oid}", "Write it as a calculation.")
        return item

    def lost_rule(self, item: Data, what: str, to_do: str) -> None:
        where = self.draft.where[item["code"]]
        self.report.lost(where, f"{what} has no formal expression in our language.", to_do)

    def exact(self, node: Node | None) -> str:
        """Words in the study's language as they are, else in the first there is."""
        return self.words_in(self.draft.language, node) or (as_it_was(self.words(node)) if node is not None else "")

    def unit_named(self, ref: Node, node: Node) -> str:
        one = node.first("MeasurementUnitRef")
        unit = self.units.get(one.get("MeasurementUnitOID")) if one is not None else None
        if unit is not None:
            return self.exact(unit.first("Symbol"))
        other = self.items.get(ref.get("UnitsItemOID"))
        if other is None:
            return ""
        self.used.add(other.get("OID"))
        return self.exact(other.first("Question"))

    def listed(self, node: Node) -> list[Node]:
        """ODM 1.3.2 has no item with several values: its list is named in an alias."""
        oid = self.told.get((id(node), "choices"))
        if oid is not None and oid in self.lists and node.first("CodeListRef") is None:
            node.children.append(Node("CodeListRef", node.line, {"CodeListOID": oid}))
        return super().listed(node)

    def ours_of(self, node: Node | None) -> str:
        found = (each for each in (node.all("FormalExpression") if node else ()) if each.get("Context") == EXPRESSION)
        return next((as_it_was(self.formal(each)) for each in found), "")

    def our_check(self, check: Node, item: Data) -> None:
        hard = check.get("SoftHard") != "Soft"
        if check.all("FormalExpression"):
            rule = self.ours_of(check)
            if not rule:
                self.lost_rule(item, "A check", "Write it as a check.")
                return
            message = self.exact(check.first("ErrorMessage")) or "Check this answer."
            item.setdefault("checks", []).append({"rule": rule, "message": message, "kind": "hard" if hard else "soft"})
            return
        key = _LIMITS.get((check.get("Comparator"), hard))
        number = said.number(all_text(check.first("CheckValue")))
        if key is None or number is None:
            self.lost_rule(item, "A comparison that is no range", "Write it as a check.")
            return
        item[key] = format(number, "f")

    # Words in other languages

    def our_texts(self, node: Node, form: Form, left_out: set[str]) -> Iterator[Data]:
        """The words of a form in each other language, in the order in which their file has them."""
        nodes = {as_it_was(item.get("Name")): item for _, _, item in self.cells(node, form.code)}
        for about in sorted(about for of, about in self.told if of == id(node) and about.startswith("form:")):
            told = self.alias(node, about)
            if told is None:
                continue
            language = about.removeprefix("form:")
            worded = told.get("items")
            items = [each for each in worded if isinstance(each, dict)] if isinstance(worded, list) else []
            yield {
                **told,
                "language": language,
                "items": [
                    self.our_words(language, nodes[each["code"]], each)
                    for each in items
                    if each.get("code") in nodes and each["code"] not in left_out
                ],
            }

    def our_words(self, language: str, node: Node, told: Data) -> Data:
        found: Data = {**told}
        for key, tag in (("label", "Question"), ("hint", "Description")):
            if words := self.words_in(language, node.first(tag)):
                found[key] = words
        choices = [
            {"code": each.get("CodedValue"), "label": words}
            for each in self.listed(node)
            if (words := self.words_in(language, each.first("Decode")))
        ]
        messages = [
            words
            for each in node.all("RangeCheck")
            if each.all("FormalExpression") and (words := self.words_in(language, each.first("ErrorMessage")))
        ]
        found |= {"choices": choices} if choices else {}
        found |= {"checks": [{"message": words} for words in messages]} if messages else {}
        return found

    # Visits and the rest of the study

    def our_visits(self) -> None:
        draft, codes = self.draft, {form.code for form in self.draft.forms}
        for oid, event in self.ordered_events():
            refs = in_order(event.all("FormRef", "ItemGroupRef"))
            forms = [(ref.get("FormOID") or ref.get("ItemGroupOID")).removeprefix("FO.") for ref in refs]
            forms = [code for code in forms if code in codes]
            label = as_it_was(event.get("Name"))
            if oid == SCREENED:
                draft.screening = forms[0] if forms else ""
            elif oid == UNPLANNED:
                draft.unscheduled = forms
            elif (told := self.alias(event, "visit")) is not None:
                if self.about_study and "instruments" not in told:
                    self.report.lost(label, "A visit of an earlier version alone.", "Nothing.")
                    continue
                planned = told.pop("instruments", forms)
                planned = [code for code in planned if code in codes] if isinstance(planned, list) else forms
                planned += [code for code in forms if code not in planned and not self.about_study]
                if isinstance(told.get("double_entry"), list):
                    told["double_entry"] = [code for code in told["double_entry"] if code in planned]
                draft.visits.append({"code": oid.removeprefix("SE."), "label": label, **told, "instruments": planned})
            elif oid != OVERALL:
                self.report.lost(f"Line {event.line}", f"{label} is no visit of ours.", "Plan it as a visit.")
        draft.times_known = draft.anchors_known = True

    def our_study(self) -> None:
        draft, told = self.draft, dict(self.about_study)
        settings = self.study.first("GlobalVariables")
        name = all_text(settings.first("ProtocolName")) if settings else self.study.get("ProtocolName")
        draft.code = draft.code or name
        draft.version = self.version.get("OID").removeprefix("MDV.") or draft.version
        zones, arms = told.pop("sites", None), told.pop("arms", 0)
        for site in draft.sites if isinstance(zones, dict) else ():
            site["timezone"] = zones.get(site["code"], "UTC")
            draft.zones_known = True
        draft.is_randomised = isinstance(arms, int) and 1 < arms < 100
        if draft.is_randomised:
            draft.arms = [{"code": f"arm{number}", "label": f"Arm {number}"} for number in range(1, arms + 1)]
        told.pop("language", None)
        draft.title, draft.short_title = str(told.pop("title", "")), ""  # whoever converts it may call it otherwise
        draft.said, draft.is_ours = told, bool(told)
        if told and not _names(told.get("eligibility"), draft):
            draft.said.pop("eligibility", None)
        if not told:
            draft.title = draft.title or self.study.get("StudyName")
            missing = self.lists.get("CL.MISSING")
            terms = missing.all("CodeListItem") if missing else []
            draft.missing_codes = [(each.get("CodedValue"), self.exact(each.first("Decode"))) for each in terms]
        for of, about in self.told:
            if of == id(self.protocol_node) and about.startswith("study:"):
                text = self.alias(self.protocol_node, about)
                if text is not None:
                    draft.texts.append({**text, "language": about.removeprefix("study:")})

    def left_out(self) -> None:
        beside = [node for oid, node in (*self.forms.items(), *self.groups.items()) if oid not in self.made]
        beside = [node for node in beside if node.get("OID").startswith("FO.")]
        if beside:
            names = ", ".join(node.get("Name") for node in beside)
            self.report.lost(OVERALL, f"Tables beside the entries: {names}.", "Nothing: every study has them.")
        self.report.lost(
            "The whole file",
            "What no export says: the names of arms, how they are allocated, treatment, guesses of the arm, consent "
            "documents, amendments, sources, and what is not known.",
            "Write `arms:`, `allocation:`, `treatment:` and `blinding_assessment:`, and add the consent documents.",
        )


def _names(eligibility: Any, draft: Draft) -> bool:
    """Whether the pre-screen of these criteria is in the file."""
    code = eligibility.get("instrument") if isinstance(eligibility, dict) else None
    return any(form.code == code for form in draft.forms)


def _all_within(version: Node) -> Iterator[Node]:
    waiting = list(version.children)
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(node.children)


def as_it_was(text: str) -> str:
    """A text with the characters that XML cannot hold, which our files write as `_xHHHH_`."""
    return _escaped.sub(lambda found: chr(int(found[1], 16)), text)
