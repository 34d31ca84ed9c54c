"""Which rows of which SDTM domains is a study: DM, DS, SV, QS, AE, IE, TS? What is derived, and how. Pure.

SDTM Implementation Guide 3.3. Nobody's arm is known here: ARM and ACTARM say BLINDED of everybody who was randomised
(the arm is withheld, not missing). EX, which tells it, is made of what an unblinded door hands over, and stands alone.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

from app.exports.formats.text import text_of
from app.exports.named import SAS, names
from app.exports.tables import BETWEEN, Row, missing_in, stored_cell
from app.exports.whole import Casebook, Filled, Whole
from app.expressions import parse
from app.studies.definition import Instrument, Item, ItemType, Study, cell_parts, unscheduled_number

Record = dict[str, Any]


@dataclass(frozen=True)
class Exposure:
    """What somebody received in one session: told by the unblinded door of the treatment room alone."""

    visit: str
    on: date | None
    treatment: str
    described: str | None


BLINDED = "BLINDED"
UNPLANNED_FROM = 900
"""VISITNUM of a visit outside the plan is this and its number."""
SEVERITY = {"mild": "MILD", "moderate": "MODERATE", "severe": "SEVERE"}
OUTCOME = {
    "recovered": "RECOVERED/RESOLVED",
    "recovering": "RECOVERING/RESOLVING",
    "not_recovered": "NOT RECOVERED/NOT RESOLVED",
    "sequelae": "RECOVERED/RESOLVED WITH SEQUELAE",
    "fatal": "FATAL",
    "unknown": "UNKNOWN",
}
ACTION = {
    "none": "DOSE NOT CHANGED",
    "interrupted": "DRUG INTERRUPTED",
    "stopped": "DRUG WITHDRAWN",
    "not_applicable": "NOT APPLICABLE",
    "unknown": "UNKNOWN",
}
SERIOUS = {
    "AESDTH": "serious__death",
    "AESLIFE": "serious__life_threatening",
    "AESHOSP": "serious__hospitalisation",
    "AESDISAB": "serious__disability",
    "AESCONG": "serious__congenital_anomaly",
    "AESMIE": "serious__other_important",
}
DISPOSITION = {
    "completed": "COMPLETED",
    "withdrawn": "WITHDRAWAL BY SUBJECT",
    "lost": "LOST TO FOLLOW-UP",
    "died": "DEATH",
    "screen_failed": "SCREEN FAILURE",
}
SEX = {"m": "M", "male": "M", "f": "F", "female": "F"}


@dataclass(frozen=True)
class Variable:
    """A variable of a domain. `derived` says how it comes about, when it is not simply what was entered."""

    name: str
    label: str
    type: str = "string"  # of Dataset-JSON: string, integer, decimal, date
    key: int | None = None
    derived: str | None = None
    partial: bool = False  # a date of which a part may be missing
    required: bool = False
    codes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Domain:
    """A dataset: its variables in order, and its records of one participant."""

    name: str
    label: str
    kind: str
    structure: str
    variables: tuple[Variable, ...]
    records: Callable[[Casebook], Iterator[Record]]
    repeats: bool = True
    is_ours: bool = False
    """It is none of SDTM's, and so has no class there: `kind` is blank."""
    closing: Callable[[], Iterator[Record]] | None = None
    """Its records that are about the study and no participant, once every casebook was read."""

    def rows(self, casebook: Casebook) -> Iterator[list[Any]]:
        """The records of a participant as rows, numbered where the domain has a sequence."""
        sequence = f"{self.name}SEQ"
        for number, record in enumerate(self.records(casebook), 1):
            yield self.row({**record, "DOMAIN": self.name, sequence: number})

    def last_rows(self) -> Iterator[list[Any]]:
        """The records of the study itself, as rows."""
        for record in self.closing() if self.closing is not None else ():
            yield self.row({**record, "DOMAIN": self.name})

    def row(self, record: Record) -> list[Any]:
        """A record as a row."""
        return [record.get(variable.name) for variable in self.variables]


def study_day(day: str | date | None, reference: str | date | None) -> int | None:
    """--DY: the day of reference is day 1, the one before it day -1, and there is no day 0 (SDTMIG 4.4.4)."""
    if day is None or reference is None:
        return None
    try:
        days = (_day(day) - _day(reference)).days
    except ValueError:  # a date of which a part is missing
        return None
    return days + 1 if days >= 0 else days


def _day(value: str | date) -> date:
    return date.fromisoformat(value) if isinstance(value, str) else value


def iso(value: object) -> str | None:
    """A date as SDTM writes it; of an instant its day in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).date().isoformat()
    return value.isoformat() if isinstance(value, date) else None if value is None else str(value)


STUDYID = Variable("STUDYID", "Study Identifier", key=1, derived="Code of the study, in capitals", required=True)
DOMAIN = Variable("DOMAIN", "Domain Abbreviation", derived="Name of the dataset", required=True)
USUBJID = Variable("USUBJID", "Unique Subject Identifier", key=2, derived="STUDYID and SUBJID", required=True)
HEAD = (STUDYID, DOMAIN, USUBJID)
NO_YES = (("N", "No"), ("Y", "Yes"))


def sequence(domain: str) -> Variable:
    """--SEQ."""
    how = "Counts the records of a subject"
    return Variable(f"{domain}SEQ", "Sequence Number", "integer", key=3, derived=how, required=True)


def day_of(name: str, label: str) -> Variable:
    """--DY."""
    return Variable(name, label, "integer", derived="Days from RFSTDTC, which is day 1; there is no day 0")


VISITNUM = Variable(
    "VISITNUM", "Visit Number", "integer", derived="Place in the visit plan; outside the plan 900 and the number"
)
VISIT = Variable("VISIT", "Visit Name")


class Subjects:
    """How the tables and forms of one study become domains."""

    def __init__(self, whole: Whole) -> None:
        self.whole = whole
        self.study = whole.study.code.upper()
        self.places = {visit.code: place for place, visit in enumerate(whole.plan.visits, 1)}
        self.visits = {visit.code: visit.label for visit in whole.plan.visits}
        self.columns = {name: [column.name for column in columns] for name, columns in whole.columns.items()}
        asked = list(self._asked())
        short = names([item.code for *_, item in asked], SAS)
        self.tests = {
            (instrument.code, group, item.code): (code.upper(), instrument, item)
            for code, (instrument, group, item) in zip(short, asked, strict=True)
        }
        self.scored = frozenset(self._scored())
        criteria = whole.plan.criteria
        self.criteria = dict(
            zip((code for code, _ in criteria), names([code for code, _ in criteria], SAS), strict=True)
        )
        self.kinds = {one.code: one.kind for one in whole.study.eligibility.criteria}

    def _asked(self) -> Iterator[tuple[Instrument, str, Item]]:
        plan = self.whole.plan
        for code, instrument in plan.instruments.items():
            for item in plan.items[code]:
                yield instrument, "", item
            for group, (_, items) in plan.groups[code].items():
                for item in items:
                    yield instrument, group, item

    def _scored(self) -> Iterator[tuple[str, str, str]]:
        """The items that their form calculates with: instrument, group (empty for none), item."""
        plan = self.whole.plan
        for code in plan.instruments:
            groups = [("", plan.items[code]), *((group, items) for group, (_, items) in plan.groups[code].items())]
            for group, items in groups:
                for item in items:
                    if item.calculation:
                        for each in parse(item.calculation).references:
                            within, _, name = each.field.rpartition(".")
                            if each.event is None:  # of a group by its name; within a group also by itself
                                yield from ((code, at, name) for at in {within, group})
                                yield code, "", name

    # What is known of a participant

    def rows(self, casebook: Casebook, table: str) -> Iterator[Mapping[str, Any]]:
        """The rows of a table by the names of its columns."""
        for row in casebook.rows[table]:
            yield self._named(table, row)

    def _named(self, table: str, row: Row) -> Mapping[str, Any]:
        return dict(zip(self.columns[table], row, strict=True))

    def person(self, casebook: Casebook) -> Mapping[str, Any]:
        """Status and dates."""
        return next(self.rows(casebook, "participants"))

    def head(self, casebook: Casebook) -> Record:
        return {"STUDYID": self.study, "USUBJID": f"{self.study}-{casebook.participant}"}

    def held(self, casebook: Casebook) -> dict[str, date]:
        """When each visit was held."""
        return {row["visit"]: row["held_on"] for row in self.rows(casebook, "visits") if row["held_on"] is not None}

    def visit_number(self, visit: str) -> int | None:
        outside = unscheduled_number(visit)
        return self.places.get(visit) if outside is None else UNPLANNED_FROM + outside

    def visit_name(self, visit: str) -> str:
        outside = unscheduled_number(visit)
        label = self.whole.study.unscheduled.label if self.whole.study.unscheduled else "Unscheduled visit"
        return f"{label} {outside}" if outside is not None else self.visits.get(visit, visit)

    # Domains

    def demographics(self, casebook: Casebook) -> Iterator[Record]:
        person = self.person(casebook)
        answers = casebook.screenings[-1].values if casebook.screenings else {}
        age, sex = answers.get("age"), answers.get("sex")
        randomised, status = person["randomised_on"] is not None, person["status"]
        held = sorted(self.held(casebook).values())
        arm = BLINDED if randomised else None
        none = "SCREEN FAILURE" if status == "screen_failed" else "NOT ASSIGNED"
        is_age = isinstance(age, int) and not isinstance(age, bool)
        yield {
            **self.head(casebook),
            "SUBJID": casebook.participant,
            "RFSTDTC": iso(person["randomised_on"]),
            "RFENDTC": iso(held[-1]) if randomised and held else None,
            "RFICDTC": iso(person["consented_on"]),
            "DTHFL": "Y" if status == "died" else None,
            "SITEID": casebook.site,
            "AGE": age if is_age else None,
            "AGEU": "YEARS" if is_age else None,
            "SEX": SEX.get(str(sex).casefold(), "U"),
            "ARMCD": arm,
            "ARM": arm,
            "ACTARMCD": arm,
            "ACTARM": arm,
            "ARMNRS": None if randomised else none,
        }

    def disposition(self, casebook: Casebook) -> Iterator[Record]:
        person = self.person(casebook)
        status, start = person["status"], person["randomised_on"]
        held = sorted(self.held(casebook).values())

        def record(term: str, decoded: str, category: str, on: date | None) -> Record:
            return {
                **self.head(casebook),
                "DSTERM": term,
                "DSDECOD": decoded,
                "DSCAT": category,
                "DSSTDTC": iso(on),
                "DSSTDY": study_day(on, start),
            }

        milestones = ((person["consented_on"], "INFORMED CONSENT OBTAINED"), (start, "RANDOMIZED"))
        for on, milestone in milestones:
            if on is not None:
                yield record(milestone, milestone, "PROTOCOL MILESTONE", on)
        if status not in DISPOSITION:
            return
        term, on = DISPOSITION[status], None
        if status == "screen_failed":
            why = next((row["failure_reason"] for row in self.rows(casebook, "screening")), None)
            term, on = dict(self.whole.plan.failure_reasons).get(str(why), why or term), person["screened_on"]
        elif status == "withdrawn":
            level = dict(self.whole.plan.withdrawal_levels).get(str(person["withdrawal_level"]))
            term, on = person["withdrawal_reason"] or level or term, person["withdrawn_on"]
        elif status == "completed":
            on = held[-1] if held else None
        yield record(term, DISPOSITION[status], "DISPOSITION EVENT", on)

    def subject_visits(self, casebook: Casebook) -> Iterator[Record]:
        start, held = self.person(casebook)["randomised_on"], self.held(casebook)
        days: dict[str, list[str]] = {visit: [on.isoformat()] for visit, on in held.items()}
        for entry in casebook.entries:  # nobody said when the visit was, and there are data of it
            if entry.visit not in held and (on := iso(entry.saved_at)) is not None:
                days.setdefault(entry.visit, []).append(on)
        for visit, on_days in days.items():
            first, last = min(on_days), max(on_days)
            outside = unscheduled_number(visit) is not None
            yield {
                **self.head(casebook),
                "VISITNUM": self.visit_number(visit),
                "VISIT": self.visit_name(visit),
                "SVSTDTC": first,
                "SVENDTC": last,
                "SVSTDY": study_day(first, start),
                "SVENDY": study_day(last, start),
                "SVUPDES": self.visit_name(visit) if outside else None,
            }

    def questionnaires(self, casebook: Casebook) -> Iterator[Record]:
        start, held = self.person(casebook)["randomised_on"], self.held(casebook)
        for entry in casebook.entries:
            on = iso(held.get(entry.visit) or entry.saved_at)
            about = {
                **self.head(casebook),
                "VISITNUM": self.visit_number(entry.visit),
                "VISIT": self.visit_name(entry.visit),
                "QSDTC": on,
                "QSDY": study_day(on, start),
            }
            for name, value in entry.values.items():
                if value is not None and (found := self._answer(entry, name, value)) is not None:
                    yield {**about, **found}

    def _answer(self, entry: Filled, name: str, value: Any) -> Record | None:
        group, number, code = cell_parts(name) or ("", 0, name)
        known = self.tests.get((entry.instrument, group, code))
        if known is None:
            return None
        short, instrument, item = known
        repeat = [f"{entry.instrument} {entry.repeat}"] if entry.instrument in self.whole.plan.repeating else []
        row = [f"{group} {number}"] if group else []
        found: Record = {
            "QSTESTCD": short,
            "QSTEST": item.label,
            "QSCAT": instrument.label,
            "QSSPID": f"{entry.instrument}.{f'{group}.' if group else ''}{code}",
            "QSGRPID": ", ".join([*repeat, *row]) or None,
        }
        if (missing := missing_in(value)) is not None:
            return {
                **found,
                "QSSTAT": "NOT DONE",
                "QSREASND": dict(self.whole.plan.missing_codes).get(missing, missing),
            }
        original, standard = said_by(item, value)
        return {
            **found,
            "QSORRES": original,
            "QSORRESU": item.unit,
            "QSSTRESC": standard,
            "QSSTRESN": as_number(item, standard, scored=(entry.instrument, group, code) in self.scored),
            "QSSTRESU": item.unit,
        }

    def adverse_events(self, casebook: Casebook) -> Iterator[Record]:
        start = self.person(casebook)["randomised_on"]
        terms, relatedness = dict(self.whole.plan.terms), dict(self.whole.plan.relatedness)
        for row in self.rows(casebook, "adverse_events"):
            action = row["action"]
            yield {
                **self.head(casebook),
                "AESPID": str(row["number"]),
                "AETERM": row["term"],
                "AEDECOD": row.get("term__term") or (terms.get(row["code"]) if row["code"] else None),
                "AESEV": SEVERITY.get(row["severity"], str(row["severity"]).upper()),
                "AESER": _no_yes(row["serious"]),
                "AEACN": ACTION.get(action),
                "AEACNOTH": "TREATMENT CHANGED" if action == "changed" else None,
                "AEREL": relatedness.get(row["relatedness"], "").upper() or None,
                "AEOUT": OUTCOME.get(row["outcome"]),
                **{name: _no_yes(row[column]) for name, column in SERIOUS.items()},
                "AESTDTC": row["onset"],
                "AEENDTC": row["ended"],
                "AESTDY": study_day(row["onset"], start),
                "AEENDY": study_day(row["ended"], start),
            }

    def exposure(self, casebook: Casebook, received: Iterable[Exposure]) -> Iterator[Record]:
        start = self.person(casebook)["randomised_on"]
        for each in received:
            yield {
                **self.head(casebook),
                "EXTRT": each.treatment,
                "EXDOSTXT": each.described,
                "VISITNUM": self.visit_number(each.visit),
                "VISIT": self.visit_name(each.visit),
                "EXSTDTC": iso(each.on),
                "EXENDTC": iso(each.on),
                "EXSTDY": study_day(each.on, start),
                "EXENDY": study_day(each.on, start),
            }

    def criteria_not_met(self, casebook: Casebook) -> Iterator[Record]:
        labels = dict(self.whole.plan.criteria)
        for row in self.rows(casebook, "screening"):
            for code, short in self.criteria.items():
                if row[f"criterion__{code}"] is not False:
                    continue
                inclusion = self.kinds.get(code) != "exclusion"
                yield {
                    **self.head(casebook),
                    "IETESTCD": short.upper(),
                    "IETEST": labels[code],
                    "IECAT": "INCLUSION" if inclusion else "EXCLUSION",
                    "IEORRES": "N" if inclusion else "Y",
                    "IESTRESC": "N" if inclusion else "Y",
                    "IEDTC": iso(row["screened_at"]),
                    "IEDY": study_day(iso(row["screened_at"]), self.person(casebook)["randomised_on"]),
                }


def _no_yes(value: object) -> str:
    return "Y" if value else "N"


def said_by(item: Item, value: Any) -> tuple[str, str]:
    """An answer as it was given, and in standard terms: a label and its code; Yes and Y; the same for all others."""
    if item.type is ItemType.YES_NO and isinstance(value, bool):
        return ("Yes", "Y") if value else ("No", "N")
    if item.choices:
        labels = {choice.code: choice.label for choice in item.choices}
        codes = [str(each) for each in (value if isinstance(value, list) else [value])]
        return "; ".join(labels.get(code, code) for code in codes), BETWEEN.join(codes)
    text = text_of(stored_cell(value))
    return text, text


SCORE = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?")
NUMBERS = (ItemType.INTEGER, ItemType.NUMBER, ItemType.SCALE, ItemType.SLIDER, ItemType.CALCULATED)


def as_number(item: Item, standard: str, *, scored: bool = False) -> str | None:
    """The standard result as a decimal, written as text so that nothing goes through a binary fraction.

    The code of a choice is a number where it is `scored` (its form calculates with it), and written as numbers are.
    """
    if item.type is ItemType.CHOICE:
        return standard if scored and SCORE.fullmatch(standard) else None
    plain = standard.removeprefix("-")
    whole, _, fraction = plain.partition(".")
    is_number = plain.isascii() and whole.isdecimal() and (fraction.isdecimal() or "." not in plain)
    return standard if item.type in NUMBERS and is_number else None


def exposure(whole: Whole, received: Callable[[str], Iterable[Exposure]]) -> Domain:
    """EX, for unblinded eyes alone: `received` says of a participant, by code, what they were given."""
    made = Subjects(whole)
    return Domain(
        "EX",
        "Exposure",
        "INTERVENTIONS",
        "One record per part of a session that was delivered per subject",
        (
            *HEAD,
            sequence("EX"),
            Variable("EXTRT", "Name of Treatment", derived="Label of the part of the session", required=True),
            Variable("EXDOSTXT", "Dose Description", derived="What was recorded of it: labels, values and units"),
            VISITNUM,
            VISIT,
            Variable("EXSTDTC", "Start Date/Time of Treatment", "date", derived="The day of the session"),
            Variable("EXENDTC", "End Date/Time of Treatment", "date", derived="The day of the session"),
            day_of("EXSTDY", "Study Day of Start of Treatment"),
            day_of("EXENDY", "Study Day of End of Treatment"),
        ),
        lambda casebook: made.exposure(casebook, received(casebook.participant)),
    )


NOTHING_KNOWN, DOES_NOT_APPLY = "NI", "NA"
"""Why a value is empty (ISO 21090): nothing is known of it here; it does not apply to this study."""
Parameter = tuple[str, str, tuple[str, ...], str]


def trial_summary(whole: Whole) -> Domain:
    """TS: what the definition of the study says of the trial, and nothing that it does not say.

    Which arm is the control, and so the kind of control and the quotient, is no part of a definition: they are empty,
    with the reason. How many are in the trial is counted while casebooks are read. Nothing depends on anybody's arm.
    """
    study, entered = whole.study, [0]
    counted = "randomised_on" if study.is_allocated else "consented_on"
    place = [column.name for column in whole.columns["participants"]].index(counted)

    def count(casebook: Casebook) -> Iterator[Record]:
        entered[0] += sum(row[place] is not None for row in casebook.rows["participants"])
        yield from ()

    def records() -> Iterator[Record]:
        for code, name, values, empty in parameters(study, entered[0]):
            for number, value in enumerate(values or (None,), 1):
                yield {
                    "STUDYID": study.code.upper(),
                    "TSSEQ": number,
                    "TSPARMCD": code,
                    "TSPARM": name,
                    "TSVAL": value,
                    "TSVALNF": empty if value is None else None,
                }

    nothing = "Why TSVAL is empty (ISO 21090): NI, the definition of the study does not say it; NA, it does not apply"
    return Domain(
        "TS",
        "Trial Summary",
        "TRIAL DESIGN",
        "One record per trial summary parameter value",
        (
            STUDYID,
            DOMAIN,
            Variable("TSSEQ", "Sequence Number", "integer", key=3, derived="Counts the values of one", required=True),
            Variable("TSPARMCD", "Trial Summary Parameter Short Name", key=2, required=True, codes=PARAMETERS),
            Variable("TSPARM", "Trial Summary Parameter", required=True),
            Variable("TSVAL", "Parameter Value", derived=SUMMARISED),
            Variable("TSVALNF", "Parameter Null Flavor", derived=nothing, codes=FLAVOURS),
        ),
        count,
        closing=records,
    )


PARAMETERS = (
    ("TITLE", "Trial Title"),
    ("SPONSOR", "Clinical Study Sponsor"),
    ("REGID", "Registry Identifier"),
    ("STYPE", "Study Type"),
    ("RANDOM", "Trial is Randomized"),
    ("TBLIND", "Trial Blinding Schema"),
    ("TCNTRL", "Control Type"),
    ("NARMS", "Planned Number of Arms"),
    ("INTMODEL", "Intervention Model"),
    ("RANDQT", "Randomization Quotient"),
    ("STRATFCT", "Stratification Factor"),
    ("PLANSUB", "Planned Number of Subjects"),
    ("ACTSUB", "Actual Number of Subjects"),
    ("OUTMSPRI", "Primary Outcome Measure"),
    ("OUTMSSEC", "Secondary Outcome Measure"),
)
FLAVOURS = ((NOTHING_KNOWN, "No information"), (DOES_NOT_APPLY, "Not applicable"))
SUMMARISED = (
    "As the definition of the study says it. TBLIND: DOUBLE BLIND where participants and assessors must not learn the "
    "arm, whoever treats may know it; else OPEN LABEL. INTMODEL: PARALLEL where everybody is allocated once to one of "
    "several arms. ACTSUB: who was randomised, or consented where nobody is, at the sites of this export"
)


def parameters(study: Study, entered: int) -> Iterator[Parameter]:
    """What is said of a trial: code, name, values, and why there are none."""
    allocated = study.is_allocated
    once = allocated and study.allocation.first_stage is None
    model = ("PARALLEL" if len(study.arms) > 1 else "SINGLE GROUP",) if once else ()
    if not allocated:
        blinding: tuple[str, ...] = ()
    else:
        blinding = ("DOUBLE BLIND" if study.blinded else "OPEN LABEL",)
    outcomes = {kind: tuple(one.label for one in study.outcomes if one.kind == kind) for kind in KINDS_OF_OUTCOMES}
    said: dict[str, tuple[str, ...]] = {
        "TITLE": (study.title,),
        "SPONSOR": (study.sponsor,) if study.sponsor else (),
        "REGID": tuple(one.number for one in study.registrations),
        "STYPE": ("INTERVENTIONAL" if allocated else "OBSERVATIONAL",),
        "RANDOM": ("Y" if allocated else "N",),
        "TBLIND": blinding,
        "TCNTRL": (),
        "NARMS": (str(len(study.arms)),) if allocated else (),
        "INTMODEL": model,
        "RANDQT": (),
        "STRATFCT": tuple(factor.label for factor in study.allocation.strata),
        "PLANSUB": (str(study.target),),
        "ACTSUB": (str(entered),),
        "OUTMSPRI": outcomes["primary"],
        "OUTMSSEC": outcomes["secondary"],
    }
    of_trials = {"TBLIND", "TCNTRL", "NARMS", "INTMODEL", "RANDQT", "STRATFCT"}
    for code, name in PARAMETERS:
        empty = DOES_NOT_APPLY if not allocated and code in of_trials else NOTHING_KNOWN
        if code == "STRATFCT" and allocated:
            empty = DOES_NOT_APPLY
        yield code, name, said[code], empty


KINDS_OF_OUTCOMES = ("primary", "secondary")

CHANGED, REMOVED = "changed", "removed"


def changes(whole: Whole, there: Mapping[str, int]) -> Domain:
    """Which records of an earlier export are replaced by those that stand beside this dataset, and which are gone.

    `there` is how many records each dataset has of the casebook at hand: whoever writes those keeps it, and comes to
    this one last.
    Dataset-JSON has no room for that in a dataset itself: its schema knows every attribute. What is replaced together
    is what the numbers of records (--SEQ) count through: all that a subject has in a dataset.
    """
    made = Subjects(whole)

    def records(casebook: Casebook) -> Iterator[Record]:
        for name, number in there.items():
            if number or casebook.dropped is not None:  # of somebody who is new nothing can be gone
                change = CHANGED if number else REMOVED
                yield {**made.head(casebook), "RDOMAIN": name, "CHANGE": change, "RECORDS": number}

    return Domain(
        "CHANGES",
        "Records Replaced Since an Earlier Export",
        "",
        "One record per dataset and subject of whom anything may have changed",
        (
            STUDYID,
            Variable("RDOMAIN", "Related Domain Abbreviation", key=2, derived="Name of the dataset", required=True),
            replace(USUBJID, key=3),
            Variable(
                "CHANGE",
                "What Has Changed",
                derived=f"Since change {whole.since} of the log: drop what an earlier export has of this subject in "
                "that dataset, then add what stands in it here; nothing, when it was removed",
                required=True,
                codes=((CHANGED, "As they are now"), (REMOVED, "Not there any more")),
            ),
            Variable("RECORDS", "Number of Records", "integer", derived="Counts what stands here", required=True),
        ),
        records,
        is_ours=True,
    )


def domains(whole: Whole) -> list[Domain]:
    """The domains of a study, in the order of the Implementation Guide.

    TS, which is about no subject, is none of a file of what changed: it stands in a whole export.
    """
    made = Subjects(whole)
    tests = tuple((code, item.label) for code, _, item in made.tests.values())
    criteria = dict(whole.plan.criteria)
    summary = [] if whole.since is not None else [trial_summary(whole)]
    withheld = "BLINDED when randomised: the arm is withheld. Empty when not randomised"
    return [
        Domain(
            "DM",
            "Demographics",
            "SPECIAL PURPOSE",
            "One record per subject",
            (
                *HEAD,
                Variable("SUBJID", "Subject Identifier for the Study", required=True),
                Variable("RFSTDTC", "Subject Reference Start Date/Time", "date", derived="Day of randomisation"),
                Variable(
                    "RFENDTC", "Subject Reference End Date/Time", "date", derived="Last visit held, when randomised"
                ),
                Variable("RFICDTC", "Date/Time of Informed Consent", "date"),
                Variable("DTHFL", "Subject Death Flag", derived="Y when the participant died", codes=(("Y", "Yes"),)),
                Variable("SITEID", "Study Site Identifier", required=True),
                Variable("AGE", "Age", "integer", derived="Item age of the last pre-screen, a whole number"),
                Variable("AGEU", "Age Units", derived="YEARS when there is an age", codes=(("YEARS", "Years"),)),
                Variable(
                    "SEX",
                    "Sex",
                    derived="Item sex of the last pre-screen: M or F; else U",
                    required=True,
                    codes=(("F", "Female"), ("M", "Male"), ("U", "Unknown")),
                ),
                Variable("ARMCD", "Planned Arm Code", derived=withheld),
                Variable("ARM", "Description of Planned Arm", derived=withheld),
                Variable("ACTARMCD", "Actual Arm Code", derived=withheld),
                Variable("ACTARM", "Description of Actual Arm", derived=withheld),
                Variable(
                    "ARMNRS",
                    "Reason Arm and/or Actual Arm is Null",
                    derived="When not randomised: SCREEN FAILURE or NOT ASSIGNED",
                ),
            ),
            made.demographics,
            repeats=False,
        ),
        Domain(
            "DS",
            "Disposition",
            "EVENTS",
            "One record per disposition status or protocol milestone per subject",
            (
                *HEAD,
                sequence("DS"),
                Variable("DSTERM", "Reported Term for the Disposition Event", required=True),
                Variable("DSDECOD", "Standardized Disposition Term", derived="By status and dates", required=True),
                Variable("DSCAT", "Category for Disposition Event", derived="Milestone, or disposition event"),
                Variable("DSSTDTC", "Start Date/Time of Disposition Event", "date"),
                day_of("DSSTDY", "Study Day of Start of Disposition Event"),
            ),
            made.disposition,
        ),
        Domain(
            "SV",
            "Subject Visits",
            "SPECIAL PURPOSE",
            "One record per subject per visit that was held, or of which there are data",
            (
                *HEAD,
                Variable("VISITNUM", VISITNUM.label, VISITNUM.type, key=3, derived=VISITNUM.derived, required=True),
                VISIT,
                Variable(
                    "SVSTDTC",
                    "Start Date/Time of Visit",
                    "date",
                    derived="Day of the visit; where it has none, the first day (UTC) on which an entry was saved",
                ),
                Variable(
                    "SVENDTC",
                    "End Date/Time of Visit",
                    "date",
                    derived="Day of the visit; where it has none, the last day (UTC) on which an entry was saved",
                ),
                day_of("SVSTDY", "Study Day of Start of Visit"),
                day_of("SVENDY", "Study Day of End of Visit"),
                Variable("SVUPDES", "Description of Unplanned Visit", derived="Name of a visit outside the plan"),
            ),
            made.subject_visits,
        ),
        Domain(
            "QS",
            "Questionnaires",
            "FINDINGS",
            "One record per answer per visit per subject",
            (
                *HEAD,
                sequence("QS"),
                Variable("QSGRPID", "Group ID", derived="Number of a form that repeats, and of the row of a group"),
                Variable("QSSPID", "Sponsor-Defined Identifier", derived="Instrument, group and item of the study"),
                Variable(
                    "QSTESTCD",
                    "Question Short Name",
                    derived="Code of the item, shortened to 8 characters and told apart by numbers",
                    required=True,
                    codes=tests,
                ),
                Variable("QSTEST", "Question Name", derived="Label of the item", required=True),
                Variable("QSCAT", "Category of Question", derived="Label of the instrument"),
                Variable("QSORRES", "Finding in Original Units"),
                Variable("QSORRESU", "Original Units"),
                Variable(
                    "QSSTRESC",
                    "Character Result/Finding in Std Format",
                    derived="Code of a choice, Y or N, else as entered",
                ),
                Variable(
                    "QSSTRESN",
                    "Numeric Finding in Standard Units",
                    "decimal",
                    derived="QSSTRESC where it is a number; of a choice, where its form calculates with it",
                ),
                Variable("QSSTRESU", "Standard Units", derived="As QSORRESU"),
                Variable(
                    "QSSTAT",
                    "Completion Status",
                    derived="NOT DONE when a reason stands in place of the answer",
                    codes=(("NOT DONE", "Not done"),),
                ),
                Variable("QSREASND", "Reason Not Performed", derived="Label of the reason"),
                VISITNUM,
                VISIT,
                Variable(
                    "QSDTC",
                    "Date/Time of Finding",
                    "date",
                    derived="Day of the visit; where it has none, the day (UTC) on which the entry was saved",
                ),
                day_of("QSDY", "Study Day of Finding"),
            ),
            made.questionnaires,
        ),
        Domain(
            "AE",
            "Adverse Events",
            "EVENTS",
            "One record per adverse event per subject",
            (
                *HEAD,
                sequence("AE"),
                Variable("AESPID", "Sponsor-Defined Identifier", derived="Number of the event"),
                Variable("AETERM", "Reported Term for the Adverse Event", required=True),
                Variable(
                    "AEDECOD",
                    "Dictionary-Derived Term",
                    derived="Term of the study's own list, when the event is coded; else empty",
                ),
                Variable("AESEV", "Severity/Intensity", derived="Code of the severity, in capitals"),
                Variable("AESER", "Serious Event", codes=NO_YES),
                Variable("AEACN", "Action Taken with Study Treatment", derived="CDISC term; empty when it was changed"),
                Variable("AEACNOTH", "Other Action Taken", derived="TREATMENT CHANGED, where it was"),
                Variable("AEREL", "Causality", derived="Label of the blinded judgement, in capitals"),
                Variable("AEOUT", "Outcome of Adverse Event", derived="CDISC term"),
                Variable("AESDTH", "Results in Death", codes=NO_YES),
                Variable("AESLIFE", "Is Life Threatening", codes=NO_YES),
                Variable("AESHOSP", "Requires or Prolongs Hospitalization", codes=NO_YES),
                Variable("AESDISAB", "Persist or Signif Disability/Incapacity", codes=NO_YES),
                Variable("AESCONG", "Congenital Anomaly or Birth Defect", codes=NO_YES),
                Variable("AESMIE", "Other Medically Important Serious Event", codes=NO_YES),
                Variable("AESTDTC", "Start Date/Time of Adverse Event", partial=True),
                Variable("AEENDTC", "End Date/Time of Adverse Event", partial=True),
                day_of("AESTDY", "Study Day of Start of Adverse Event"),
                day_of("AEENDY", "Study Day of End of Adverse Event"),
            ),
            made.adverse_events,
        ),
        Domain(
            "IE",
            "Inclusion/Exclusion Criteria Not Met",
            "FINDINGS",
            "One record per criterion not met per subject",
            (
                *HEAD,
                sequence("IE"),
                Variable(
                    "IETESTCD",
                    "Inclusion/Exclusion Criterion Short Name",
                    derived="Code of the criterion, shortened to 8 characters and told apart by numbers",
                    required=True,
                    codes=tuple((short.upper(), criteria[code]) for code, short in made.criteria.items()),
                ),
                Variable("IETEST", "Inclusion/Exclusion Criterion", required=True),
                Variable("IECAT", "Inclusion/Exclusion Category", required=True),
                Variable("IEORRES", "I/E Criterion Original Result", derived="N: did not hold; Y: held", codes=NO_YES),
                Variable("IESTRESC", "I/E Criterion Result in Std Format", derived="As IEORRES", codes=NO_YES),
                Variable("IEDTC", "Date/Time of Collection", "date", derived="Day (UTC) of the pre-screen"),
                day_of("IEDY", "Study Day of Collection"),
            ),
            made.criteria_not_met,
        ),
        *summary,
    ]
