"""What does the protocol plan, in the words of CDISC's Unified Study Definitions Model 4.0? One document of JSON. Pure.

The plan of visits is its main timeline: what visits are counted from (screening, consent, randomisation) are its fixed
references, and each visit is timed from one of them, with its window as ISO 8601 durations. Codes of concepts are those
of CDISC's terminology for it (USDM CT of 2024-09-27, and the NCI Thesaurus where that has none); what a study folder
does not say, and the model asks for, has a code of ours that says so. Of who takes part there is nothing here.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from app.studies.definition import Study, Visit, VisitKind

VERSION = "4.0.0"
CDISC, OURS = "http://www.cdisc.org", "https://equipoise.example/terms"
CT_VERSION = "2024-09-27"
NOT_SAID = "The study folder does not say it."
ANCHORS = {"screening": "Screening", "consent": "Consent", "randomisation": "Randomisation"}
# Kind of visit -> the epoch it belongs to, in their order: name, concept, and what the concept is called.
EPOCHS = {
    VisitKind.BASELINE: ("Before randomisation", "C48262", "Trial Screening"),
    VisitKind.TREATMENT: ("Treatment", "C101526", "Treatment Epoch"),
    VisitKind.ASSESSMENT: ("Assessments", "C99158", "Clinical Study Follow-up"),
}
AFTER, BEFORE, FIXED = ("C201356", "After"), ("C201357", "Before"), ("C201358", "Fixed Reference")
LEVELS = {
    "primary": ("C85826", "Primary Objective", "C94496", "Primary Endpoint"),
    "secondary": ("C85827", "Secondary Objective", "C139173", "Secondary Endpoint"),
    "mediator": ("C163559", "Exploratory Objective", "C170559", "Exploratory Endpoint"),
}
CRITERIA = {"inclusion": ("C25532", "Inclusion", "I"), "exclusion": ("C25370", "Exclusion", "E")}

Part = dict[str, Any]


def protocol(study: Study, *, software: str, named: bool) -> Part:
    """The study as a USDM document. `named`: arms have their names, for whoever may read them, and not a number."""
    made = _Making(study)
    version = made.part(
        "StudyVersion",
        "1",
        versionIdentifier=study.version,
        rationale=NOT_SAID,
        titles=[
            made.part("StudyTitle", "official", text=study.title, type=made.code("C207616", "Official Study Title")),
            made.part("StudyTitle", "brief", text=study.short_title, type=made.code("C207615", "Brief Study Title")),
        ],
        **made.identifiers(),
        studyDesigns=[made.design(named=named)],
        eligibilityCriterionItems=made.items,
    )
    # The one id that the model wants as a UUID, and may be missing, is missing.
    whole = {"name": study.code, "label": study.short_title, "description": study.title, "versions": [version]}
    return {
        "study": {**whole, "instanceType": "Study"},
        "usdmVersion": VERSION,
        "systemName": "Equipoise",
        "systemVersion": software,
    }


class _Making:
    """One document as it is put together: codes are counted, everything else is named after what it stands for."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.codes = 0
        self.items: list[Part] = []

    def part(self, kind: str, called: str, /, **fields: Any) -> Part:
        return {"id": f"{kind}_{called}", **fields, "instanceType": kind}

    def code(self, code: str, decode: str, *, ours: bool = False) -> Part:
        self.codes += 1
        system = {"codeSystem": OURS, "codeSystemVersion": "1"} if ours else {}
        said = {"code": code, "codeSystem": CDISC, "codeSystemVersion": CT_VERSION, "decode": decode, **system}
        return self.part("Code", str(self.codes), **said)

    def alias(self, name: str, code: str, decode: str) -> Part:
        return self.part("AliasCode", name, standardCode=self.code(code, decode), standardCodeAliases=[])

    def identifiers(self) -> Part:
        """What the study is called by its sponsor and in registries, and who these are."""
        sponsor = self.part(
            "Organization",
            "sponsor",
            name=self.study.sponsor or NOT_SAID,
            type=self.code("sponsor", "Sponsor", ours=True),
            identifierScheme=OURS,
            identifier="sponsor",
        )
        organizations, said = [sponsor], [(self.study.code, sponsor)]
        for number, each in enumerate(self.study.registrations, 1):
            registry = self.part(
                "Organization",
                f"registry{number}",
                name=each.registry,
                type=self.code("C93453", "Clinical Study Registry"),
                identifierScheme=OURS,
                identifier=each.registry,
            )
            organizations.append(registry)
            said.append((each.number, registry))
        identifiers = [
            self.part("StudyIdentifier", str(number), text=text, scopeId=scope["id"])
            for number, (text, scope) in enumerate(said, 1)
        ]
        return {"studyIdentifiers": identifiers, "organizations": organizations}

    def design(self, *, named: bool) -> Part:
        study = self.study
        kinds = [kind for kind in EPOCHS if any(visit.kind is kind for visit in study.visits)]
        epochs = _chained(
            self.part("StudyEpoch", kind, name=EPOCHS[kind][0], type=self.code(*EPOCHS[kind][1:])) for kind in kinds
        )
        elements = [self.part("StudyElement", kind, name=EPOCHS[kind][0]) for kind in kinds]
        arms = [self.arm(number, named=named) for number in range(len(study.arms))]
        fields: Part = {
            "name": study.short_title,
            "description": study.title,
            "rationale": NOT_SAID,
            "arms": arms,
            "epochs": epochs,
            "elements": elements,
            "studyCells": [
                self.part(
                    "StudyCell",
                    f"{number}_{kind}",
                    armId=arm["id"],
                    epochId=f"StudyEpoch_{kind}",
                    elementIds=[f"StudyElement_{kind}"],
                )
                for number, arm in enumerate(arms, 1)
                for kind in kinds
            ],
            "eligibilityCriteria": self.criteria(),
            "population": self.population(),
            "objectives": self.objectives(),
            "activities": self.activities(),
            "encounters": _chained(
                self.part(
                    "Encounter",
                    visit.code,
                    name=visit.code,
                    label=visit.label,
                    type=self.code("C25716", "Visit"),
                    scheduledAtId=f"Timing_visit_{visit.code}",
                )
                for visit in study.visits
            ),
            "scheduleTimelines": [self.timeline()],
            "characteristics": self.characteristics(),
        }
        if not study.is_allocated:
            return self.part(
                "ObservationalStudyDesign",
                "1",
                studyType=self.code("C142615", "Observational Study"),
                model=self.code("observed", "Groups are observed and not allocated", ours=True),
                timePerspective=self.code("prospective", "Prospective", ours=True),
                **fields,
            )
        blinding = ("C15228", "Double Blind Study") if study.blinded else ("C49659", "Open Label Study")
        return self.part(
            "InterventionalStudyDesign",
            "1",
            studyType=self.code("C98388", "Interventional Study"),
            model=self.model(),
            blindingSchema=self.alias("blinding", *blinding),
            **fields,
        )

    def model(self) -> Part:
        if self.study.allocation.first_stage is not None:
            return self.code("stages", "Allocated in two stages", ours=True)
        if len(self.study.arms) > 1:
            return self.code("C82639", "Parallel Study")
        return self.code("C82640", "Single Group Study")

    def arm(self, place: int, *, named: bool) -> Part:
        """One arm. Which one is the control no study folder says, and so no type of CDISC's fits."""
        found = self.study.arms[place]
        called = {"name": found.code, "label": found.label} if named else {"name": f"Arm {place + 1}"}
        return self.part(
            "StudyArm",
            str(place + 1),
            **called,
            type=self.code("arm", "Arm of which no more is said", ours=True),
            dataOriginDescription="Data collected in this study.",
            dataOriginType=self.code("C188866", "Data Generated Within Study"),
        )

    def characteristics(self) -> list[Part]:
        study, found = self.study, []
        if study.is_allocated:
            found.append(self.code("C46079", "Randomized"))
            if study.allocation.strata:
                found.append(self.code("C147145", "Stratified Randomisation"))
        several = len(study.sites) > 1
        found.append(self.code(*(("C217005", "Multicentre") if several else ("C217004", "Single-Centre"))))
        return found

    def criteria(self) -> list[Part]:
        counted = dict.fromkeys(CRITERIA, 0)
        criteria = []
        for each in self.study.eligibility.criteria:
            concept, decode, letter = CRITERIA[each.kind]
            counted[each.kind] += 1
            item = self.part("EligibilityCriterionItem", each.code, name=each.code, text=each.label)
            self.items.append(item)
            criteria.append(
                self.part(
                    "EligibilityCriterion",
                    each.code,
                    name=each.code,
                    description=each.rule,
                    category=self.code(concept, decode),
                    identifier=f"{letter}{counted[each.kind]}",
                    criterionItemId=item["id"],
                )
            )
        return _chained(criteria)

    def population(self) -> Part:
        planned = self.part("Quantity", "target", value=self.study.target)
        return self.part(
            "StudyDesignPopulation",
            "1",
            name="Participants",
            description="Whether healthy people take part: see the criteria. " + NOT_SAID,
            includesHealthySubjects=False,
            plannedEnrollmentNumber=planned,
            criterionIds=[f"EligibilityCriterion_{each.code}" for each in self.study.eligibility.criteria],
        )

    def objectives(self) -> list[Part]:
        """One for each kind of outcome, with the outcomes as its endpoints."""
        found = []
        for kind, (concept, decode, of_endpoint, endpoint) in LEVELS.items():
            ours = [outcome for outcome in self.study.outcomes if outcome.kind == kind]
            if ours:
                endpoints = [
                    self.part(
                        "Endpoint",
                        f"{kind}{number}",
                        name=outcome.label,
                        text=outcome.label,
                        description=f"[{outcome.visit}][{outcome.item}]",
                        purpose=kind,
                        level=self.code(of_endpoint, endpoint),
                    )
                    for number, outcome in enumerate(ours, 1)
                ]
                text = f"To compare or describe the {kind} outcomes."
                level = self.code(concept, decode)
                found.append(
                    self.part("Objective", kind, name=f"{kind} outcomes", text=text, level=level, endpoints=endpoints)
                )
        return found

    def activities(self) -> list[Part]:
        """What happens at visits: their forms; and what visits are counted from."""
        wanted = dict.fromkeys(code for visit in self.study.visits for code in visit.instruments)
        forms = [
            self.part("Activity", f"form_{code}", name=code, label=form.label)
            for code in wanted
            if (form := self.study.instrument(code)) is not None
        ]
        anchors = [self.part("Activity", f"from_{anchor}", name=ANCHORS[anchor]) for anchor in self.anchors]
        return _chained([*anchors, *forms])

    @property
    def anchors(self) -> list[str]:
        """What visits of this study are counted from, in their order."""
        return [anchor for anchor in ANCHORS if any(visit.anchor == anchor for visit in self.study.visits)]

    def timeline(self) -> Part:
        visits = sorted(self.study.visits, key=lambda visit: (self.anchors.index(visit.anchor), visit.day))
        instances, timings = [], []
        for anchor in self.anchors:
            start, label = f"from_{anchor}", ANCHORS[anchor]
            instances.append(self.instance(start, label, name=label, activityIds=[f"Activity_{start}"]))
            timings.append(self.timing(start, label, FIXED, 0, of=start, name=label))
            for visit in visits:
                if visit.anchor == anchor:
                    instances.append(self.visit_instance(visit))
                    timings.append(self.visit_timing(visit))
        ends = self.part("ScheduleTimelineExit", "1")
        for before, behind in pairwise(instances):
            before["defaultConditionId"] = behind["id"]
        instances[-1]["timelineExitId"] = ends["id"]
        return self.part(
            "ScheduleTimeline",
            "main",
            name="Visits",
            mainTimeline=True,
            entryCondition=f"{ANCHORS[self.anchors[0]]}.",
            entryId=instances[0]["id"],
            exits=[ends],
            timings=timings,
            instances=instances,
        )

    def instance(self, called: str, label: str, /, **fields: Any) -> Part:
        return self.part("ScheduledActivityInstance", called, label=label, **fields)

    def visit_instance(self, visit: Visit) -> Part:
        return self.instance(
            f"visit_{visit.code}",
            visit.label,
            name=visit.code,
            epochId=f"StudyEpoch_{visit.kind}",
            encounterId=f"Encounter_{visit.code}",
            activityIds=[f"Activity_form_{code}" for code in visit.instruments],
        )

    def visit_timing(self, visit: Visit) -> Part:
        early, late = visit.window.before, visit.window.after
        return self.timing(
            f"visit_{visit.code}",
            visit.label,
            AFTER if visit.day >= 0 else BEFORE,
            abs(visit.day),
            of=f"from_{visit.anchor}",
            name=visit.code,
            windowLower=_days(early),
            windowUpper=_days(late),
            windowLabel=f"-{early}..+{late} days",
        )

    def timing(self, called: str, label: str, kind: tuple[str, str], days: int, /, *, of: str, **fields: str) -> Part:
        """When an instance is due, seen from the instance `of`."""
        return self.part(
            "Timing",
            called,
            label=label,
            type=self.code(*kind),
            value=_days(days),
            valueLabel=f"{days} days",
            relativeToFrom=self.code("C201355", "Start to Start"),
            relativeFromScheduledInstanceId=f"ScheduledActivityInstance_{called}",
            relativeToScheduledInstanceId=f"ScheduledActivityInstance_{of}",
            **fields,
        )


def _days(days: int) -> str:
    """An ISO 8601 duration."""
    return f"P{days}D"


def _chained(parts: Iterable[Part]) -> list[Part]:
    """The same, each with the id of the one before it and of the one behind it."""
    chained = list(parts)
    for before, behind in pairwise(chained):
        before["nextId"], behind["previousId"] = behind["id"], before["id"]
    return chained
