"""What does a document of CDISC's Unified Study Definitions Model plan? Arms, criteria, its main timeline as visits.

Read as USDM 4.0 says it (CDISC DDF-RA); 3.0 writes these parts alike. A timeline says of each of its instances when it
is due, seen from another one, down to one that is a fixed reference: the days are added up on the way there. What the
model plans and a study folder has no place for (objectives, estimands, products, concepts) is reported.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from app.studies.definition import RESERVED_CODES
from app.studies.importing.codes import Codes, Labels, plain, short
from app.studies.importing.draft import Data, Draft, Form, Section
from app.studies.importing.report import Failed

Part = Mapping[str, Any]

NO_STUDY = (
    "This JSON file is no study of USDM: it has no “study” with a version and a study design. Choose another file."
)
_DURATION = re.compile(
    r"(?P<sign>[+-]?)P(?:(?P<Y>\d{1,9})Y)?(?:(?P<M>\d{1,9})M)?(?:(?P<W>\d{1,9})W)?(?:(?P<D>\d{1,9})D)?(?P<time>T[0-9.HMS]+)?"
).fullmatch
_LONG = {"Y": 365, "M": 30, "W": 7, "D": 1}  # days
BEFORE, FIXED = "C201357", "C201358"
SCREENING, RANDOMISED = "C48262", "C46079"
EXCLUSION = "C25370"
OFFICIAL, BRIEF, ACRONYM = "C207616", "C207615", "C94108"
# A word of what an instance is called -> what visits are counted from here.
_ANCHORS = {"random": "randomisation", "consent": "consent", "screen": "screening"}
_ORDER = ("screening", "consent", "randomisation")
_NOT_HERE = {
    "objectives": "Name the outcomes under `outcomes` of study.yaml: which item, at which visit.",
    "estimands": "Keep them in the protocol.",
    "indications": "Keep them in the protocol.",
    "studyInterventionIds": "Say under `treatment` of study.yaml what is delivered in a session.",
    "biospecimenRetentions": "Keep them in the protocol.",
    "analysisPopulations": "Keep them in the analysis plan.",
}
TO_WRITE = "This form has no questions yet. Write them, and take this one out."


def is_one(text: str) -> bool:
    """Whether a text may be such a document: JSON, and not a table."""
    return text.lstrip()[:1] == "{"


def read(text: str, name: str) -> Draft:
    """The draft of a document; `Failed` when it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise Failed("This file begins like JSON, and cannot be read as such. Export it again.") from None
    study = _part(_part(found).get("study"))
    versions = [each for each in _parts(study.get("versions")) if _parts(each.get("studyDesigns"))]
    if not versions:
        raise Failed(NO_STUDY)
    return _Reading(study, versions, name).draft


def _part(value: object) -> Part:
    return value if isinstance(value, Mapping) else {}


def _parts(value: object) -> list[Part]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _text(part: Part, *keys: str) -> str:
    """The first of these that says something."""
    return next((said for key in keys if isinstance(said := part.get(key), str) and plain(said)), "")


def _words(part: Part, *keys: str) -> str:
    """The same as words, without markup."""
    return plain(_text(part, *keys))


def _ids(part: Part, key: str) -> list[str]:
    found = part.get(key)
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _concept(part: Part, key: str) -> str:
    return _text(_part(part.get(key)), "code")


def days_of(duration: str) -> int | None:
    """The days of an ISO 8601 duration, a year as 365, a month as 30, hours as nothing; None when it is none."""
    said = _DURATION(duration.strip())
    if said is None or not any(said[unit] for unit in (*_LONG, "time")):
        return None
    days = sum(int(said[unit] or 0) * long for unit, long in _LONG.items())
    return -days if said["sign"] == "-" else days


class _Reading:
    """One reading of the first version of a study that has a design."""

    def __init__(self, study: Part, versions: list[Part], name: str) -> None:
        version = versions[0]
        designs = _parts(version["studyDesigns"])
        self.version, self.design = version, designs[0]
        self.draft = Draft(f"the USDM document {name}")
        self.report = self.draft.report
        for what, number in (("version", len(versions)), ("study design", len(designs))):
            if number > 1:
                self.report.lost("study", f"{number - 1} more: another {what}.", "Import a file with that one alone.")
        titles = {_concept(each, "type"): _text(each, "text") for each in _parts(version.get("titles"))}
        self.draft.title = plain(titles.get(OFFICIAL) or next(iter(titles.values()), "") or _text(study, "description"))
        self.draft.short_title = plain(titles.get(BRIEF) or titles.get(ACRONYM) or _text(study, "label"))
        self.draft.code = Codes(*RESERVED_CODES).take(_text(study, "name"), "imported") if _text(study, "name") else ""
        numbered = _text(version, "versionIdentifier")
        self.draft.version = re.sub(r"[^A-Za-z0-9._-]", "_", numbered).strip("_.-")[:40] or "1"
        self.forms: dict[str, str] = {}
        self._arms()
        self._criteria()
        self._timelines()
        for key, to_do in _NOT_HERE.items():
            if count := len(_parts(self.design.get(key)) or _ids(self.design, key)):
                self.report.lost(key, f"{count} of them.", to_do)

    def _arms(self) -> None:
        codes, labels = Codes(), Labels()
        for number, arm in enumerate(_parts(self.design.get("arms")), 1):
            name = _text(arm, "name")
            label = labels.take(short(_words(arm, "label", "description") or plain(name) or f"Arm {number}"))
            self.draft.arms.append({"code": codes.take_any(name, f"arm{number}"), "label": label})

    def _criteria(self) -> None:
        items = {_text(each, "id"): each for each in _parts(self.version.get("eligibilityCriterionItems"))}
        codes, labels = Codes(), Labels()
        for each in _parts(self.design.get("eligibilityCriteria")):
            item = items.get(_text(each, "criterionItemId"), {})
            where = _text(each, "identifier", "name") or "criterion"
            label, _ = self.draft.label(_text(item, "text") or _text(each, "label", "description"), where, where)
            kind = "exclusion" if _concept(each, "category") == EXCLUSION else "inclusion"
            self.draft.criteria.append((codes.take(_text(each, "name") or where, kind), labels.take(label), kind))

    def _timelines(self) -> None:
        timelines = _parts(self.design.get("scheduleTimelines"))
        main = next((each for each in timelines if each.get("mainTimeline") is True), timelines[0] if timelines else {})
        for other in timelines:
            if other is not main:
                self.report.lost(
                    _text(other, "label", "name") or "timeline",
                    "A timeline beside the main one.",
                    "Make it a form that repeats, or unscheduled visits.",
                )
        self.instances = {_text(each, "id"): each for each in _parts(main.get("instances"))}
        self.timings = {_text(each, "relativeFromScheduledInstanceId"): each for each in _parts(main.get("timings"))}
        self.activities = {_text(each, "id"): each for each in _parts(self.design.get("activities"))}
        self.encounters = {_text(each, "id"): each for each in _parts(self.design.get("encounters"))}
        # An instance -> the fixed reference that it leads to, and the days; None where it goes round in a circle.
        self.due: dict[str, tuple[str, int] | None] = {}
        self.epochs = {_text(each, "id"): each for each in _parts(self.design.get("epochs"))}
        planned = list(self._visits(main))
        self.draft.times_known = self.draft.anchors_known = bool(planned)
        randomised = {_text(each, "code") for each in _parts(self.design.get("characteristics"))} & {RANDOMISED}
        from_it = [visit for visit in planned if visit["anchor"] == "randomisation"]
        # Nothing can be counted from it otherwise; and nobody is randomised to one arm.
        self.draft.is_randomised = bool(randomised or from_it) and len(self.draft.arms) > 1
        for visit in () if self.draft.is_randomised else from_it:
            visit["anchor"] = "consent"
            what = "It is counted from randomisation, and there are not two arms."
            self.report.changed(visit["label"], what, "It is counted from consent.")
        self.draft.visits = sorted(planned, key=lambda visit: (_ORDER.index(visit["anchor"]), visit["day"]))

    def _in_order(self, main: Part) -> list[Part]:
        """The instances in the order of the timeline, then those that nothing leads to."""
        ordered: dict[str, Part] = {}
        at = _text(main, "entryId")
        while at in self.instances and at not in ordered:
            ordered[at] = self.instances[at]
            at = _text(self.instances[at], "defaultConditionId")
        return list({**ordered, **self.instances}.values())

    def _visits(self, main: Part) -> Iterator[Data]:
        # Of several instances at one encounter the first says when it is; all say what happens there.
        by_encounter: dict[str, Data] = {}
        for instance in self._in_order(main):
            label = _words(instance, "label", "name") or "An instance"
            if instance.get("instanceType") == "ScheduledDecisionInstance":
                self.report.lost(label, "A decision in the timeline.", "Visits go on as if it were not there.")
                continue
            at = _text(instance, "encounterId")
            if at not in self.encounters:
                if not self._is_reference(instance):
                    self.report.lost(label, "Something that happens at no encounter.", "Make a visit of it.")
                continue
            forms = self._forms(instance)
            if at in by_encounter:
                known = by_encounter[at]["instruments"]
                known += [form for form in forms if form not in known]
                continue
            by_encounter[at] = self._visit(instance, self.encounters[at], forms)
        for at, encounter in self.encounters.items():
            if at not in by_encounter:
                what = f"{_words(encounter, 'label', 'name') or 'An encounter'} is in no timeline."
                self.report.lost("encounters", what, "Add the visit, or one that is unscheduled.")
        yield from by_encounter.values()

    def _visit(self, instance: Part, encounter: Part, forms: list[str]) -> Data:
        name = _text(encounter, "name")
        label = short(_words(encounter, "label", "description") or plain(name) or "Visit")
        anchor, day = self._due(instance, label)
        timing = self.timings.get(_text(instance, "id"), {})
        early, late = (
            abs(self._days(_text(timing, key), label)) if _text(timing, key) else 0
            for key in ("windowLower", "windowUpper")
        )
        code = self.draft.visit_codes.take(name, "visit")
        visit = self.draft.visit(label, code, self.draft.visit_labels.take(label), forms, (day, early, late))
        visit["anchor"] = anchor
        epoch = self.epochs.get(_text(instance, "epochId"), {})
        if _concept(epoch, "type") == SCREENING and not (anchor == "randomisation" and visit["day"] > 0):
            visit["kind"] = "baseline"
        return visit

    def _is_reference(self, instance: Part) -> bool:
        """Whether it only says what others are counted from."""
        return _concept(self.timings.get(_text(instance, "id"), {}), "type") == FIXED

    def _due(self, instance: Part, label: str) -> tuple[str, int]:
        """What a visit is counted from, and on which day it is due."""
        at, path = _text(instance, "id"), dict[str, int]()
        while at not in self.due and at not in path:
            timing = self.timings.get(at)
            if timing is None or _concept(timing, "type") == FIXED:
                self.due[at] = at, 0
                break
            days = self._days(_text(timing, "value"), label)
            path[at] = -days if _concept(timing, "type") == BEFORE else days
            at = _text(timing, "relativeToScheduledInstanceId")
        found = self.due.get(at)
        if found is None:
            self.due |= dict.fromkeys(path)
            self.report.lost(label, "When it is due goes round in a circle.", "Write its day.", "It has day 0.")
            return "consent", 0
        reference, day = found
        for each in reversed(path):
            day += path[each]
            self.due[each] = reference, day
        return self._anchor(self.instances.get(reference, {}), label), day

    def _anchor(self, reference: Part, label: str) -> str:
        encounter = self.encounters.get(_text(reference, "encounterId"), {})
        happens = [self.activities[each] for each in _ids(reference, "activityIds") if each in self.activities]
        called = [_text(each, key) for each in (reference, encounter, *happens) for key in ("name", "label")]
        said = " ".join(called).lower()
        for word, anchor in _ANCHORS.items():
            if word in said:
                return anchor
        self.report.default(
            label,
            f"It is counted from {_words(reference, 'label', 'name') or 'nothing that has a name'}.",
            "It is counted from consent.",
            "Say what it is counted from: screening, consent or randomisation.",
        )
        return "consent"

    def _days(self, duration: str, label: str) -> int:
        days = days_of(duration)
        if days is None:
            self.report.lost(label, f"The duration “{short(plain(duration), 40)}”.", "Write its days.", "No days.")
            return 0
        if re.search("[YMT]", duration):
            what = f"The duration {short(plain(duration), 40)}."
            self.report.changed(label, what, f"{days} days: a year as 365, a month as 30, hours as none.")
        return days

    def _forms(self, instance: Part) -> list[str]:
        """The forms of what happens there: each activity is one, and its questions are to be written."""
        return [self._form(each) for each in dict.fromkeys(_ids(instance, "activityIds")) if each in self.activities]

    def _form(self, activity: str) -> str:
        if activity not in self.forms:
            found = self.activities[activity]
            label = short(_words(found, "label", "description") or _words(found, "name") or "Form")
            code = self.draft.instruments.take(_text(found, "name"), "form")
            item = {"code": self.draft.item_code(f"{code}_to_write", label), "label": TO_WRITE, "type": "text"}
            self.draft.forms.append(Form(code, label, [Section(items=[item])]))
            self.report.default(
                label, "The model has no questions.", "One says so.", "Write the questions of the form."
            )
            self.forms[activity] = code
        return self.forms[activity]
