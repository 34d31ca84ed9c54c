"""The real participants of the PRT trial are entered over REST and come out again, value for value.

The file (CC0, see tests/studies/data/README.md) holds T1 and T2 of the 151 who were randomised: scores, and the group.
What it does not hold is made up here: days, consent, and the answers to the eligibility questions, which are chosen so
that everybody meets the criteria (31 of the real 151 had an average pain below 4 at the eligibility session, so the
trial cannot have gone by the number in this file).
"""

import csv
import io
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import time_machine
from starlette.testclient import TestClient

from app.foundation import clock
from app.foundation.database import Database
from app.people.access import Actor
from app.people.permissions import Role
from app.randomisation.rules import all_strata
from app.studies.actions import load_study
from app.studies.definition import ItemType
from app.studies.in_use import StudyInUse, study_in_use
from app.studies.loading import LIBRARY, read_folder
from tests.api.client import PASSWORD, ApiClient, api_client, application_on
from tests.conftest import ROOT
from tests.factories import person

FILE = Path(__file__).parents[1] / "studies" / "data" / "Ashar2022_outcomes_demographics.csv"
ARMS = {"1": "prt", "2": "placebo", "3": "usual_care"}
BLANK = ("NaN", "<undefined>")
KEYS = ("id", "time", "group")
VISITS = {"1": "t1", "2": "t2"}

ENROLLED = datetime(2018, 1, 8, 17, 0, tzinfo=UTC)  # 10 o'clock in Boulder
BASELINE = ENROLLED + timedelta(days=10)
FOLLOWED = BASELINE + timedelta(days=32)

PUBLISHED = {"prt": 1.18, "placebo": 2.84, "usual_care": 3.13}  # pain after treatment (JAMA Psychiatry 2022, Table 2)


@dataclass
class Patient:
    """One randomised participant of the file: the rows of T1 and (of most) T2, and the code they get here."""

    number: str
    arm: str
    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    code: str = ""

    @property
    def stratum(self) -> str:
        """Written down here a second time, apart from the study's own expressions."""
        row = self.rows["t1"]
        pain, age = float(row["pain_avg"]), float(row["age"])
        bands = [(4, "0_3"), (6, "4_5"), (8, "6_7"), (11, "8_10")]
        decades = [(30, "20s"), (40, "30s"), (50, "40s"), (60, "50s"), (200, "60s_70s")]
        return "/".join(
            [
                next(code for below, code in bands if pain < below),
                next(code for below, code in decades if age < below),
                {"1": "male", "2": "female"}[row["gender"]],
                {"1": "yes", "2": "no", "<undefined>": "unknown"}[row["current_opioid_use"]],
            ]
        )


@cache
def _rows() -> tuple[dict[str, str], ...]:
    with FILE.open(newline="") as file:
        return tuple(row for row in csv.DictReader(file) if row["group"] in ARMS)


def patients(count: int | None = None) -> list[Patient]:
    """The randomised, in the order of the file, without the healthy controls and one patient who was not randomised."""
    found: dict[str, Patient] = {}
    for row in _rows():
        patient = found.setdefault(row["id"], Patient(row["id"], ARMS[row["group"]]))
        patient.rows[VISITS[row["time"]]] = row
    return list(found.values())[:count]


def listing(study: StudyInUse, everybody: list[Patient]) -> str:
    """The trial's allocations as an uploaded list: the order of the file is the order of randomisation.

    A list has at least one slot in each of the 120 strata; those of strata that nobody is in are never used.
    """
    arms = defaultdict(list)
    for patient in everybody:
        arms[patient.stratum].append(patient.arm)
    lines = ["stratum,position,arm"]
    for stratum in all_strata(study.definition, ["boulder"]):
        for position, arm in enumerate(arms[stratum] or ["prt"], start=1):
            lines.append(f"{stratum},{position},{arm}")
    return "\n".join(lines)


@dataclass
class Trial:
    """The study, the people who run it, and the one application they all talk to."""

    database: Database
    study: StudyInUse
    http: TestClient
    people: dict[str, Actor]

    def client(self, role: str) -> ApiClient:
        return api_client(self.database, self.people[role], http=self.http)


@contextmanager
def trial(database: Database, plan: dict[str, Any] | Callable[[StudyInUse], dict[str, Any]]) -> Iterator[Trial]:
    """The PRT study of the library, with a sequence sealed that is asked for with these words."""
    definition, findings = read_folder(LIBRARY / "prt")
    assert definition is not None, findings
    if callable(plan):  # a finished list of arms leaves nothing for two stages to decide
        one_stage = definition.allocation.model_copy(update={"first_stage": None})
        definition = definition.model_copy(update={"allocation": one_stage, "texts": ()})  # nor words for them
    with database.writing() as session:
        administrator = person(session, None, Role.ADMINISTRATOR)
        load_study(session, definition, by=administrator, now=clock.now())
        study = study_in_use(session, "prt")
        people = {
            role: person(session, study, role, site_code="boulder")
            for role in (Role.COORDINATOR, Role.ASSESSOR, Role.DATA_MANAGER, Role.STATISTICIAN)
        }
    here = Trial(
        database,
        study,
        TestClient(application_on(database), base_url="http://trial.test"),
        {str(role): actor for role, actor in people.items()},
    )
    statistician = here.client("statistician")
    drawn = statistician.done("POST", "/sequences", plan(study) if callable(plan) else plan)
    sealed = statistician.done("POST", f"/sequences/{drawn['version']}/seal", {"password": PASSWORD})
    assert sealed["status"] == "sealed"
    if definition.allocation.first_stage:
        groups = {"method": "permuted_blocks", "block_sizes": [4], "slots_per_stratum": 160, "first_stage": True}
        version = statistician.done("POST", "/sequences", groups)["version"]
        statistician.done("POST", f"/sequences/{version}/seal", {"password": PASSWORD})
    with here.http:  # one event loop for all requests
        yield here


def value_of(kind: ItemType, text: str) -> Any:
    """A cell of the file as the value of an item."""
    if kind is ItemType.CHOICE:
        return text
    return int(text) if float(text).is_integer() else float(text)


def answers(study: StudyInUse, instrument: str, row: dict[str, str]) -> dict[str, Any]:
    """What is entered of a row: a cell without a value is left blank, or UNK where an answer is required."""
    form = study.definition.instrument(instrument)
    assert form is not None
    entered: dict[str, Any] = {}
    for item in form.items:
        text = row[item.code]
        if text not in BLANK:
            entered[item.code] = value_of(item.type, text)
        elif item.required:
            entered[item.code] = {"missing": "UNK"}
    return entered


def enter(client: ApiClient, study: StudyInUse, patient: Patient, visit: str, on: date) -> None:
    """Hold the visit and save each of its forms, complete."""
    where = f"/participants/{patient.code}/visits/{visit}"
    planned = study.definition.visit(visit)
    assert planned is not None
    client.done("PUT", where, {"status": "held", "held_on": on.isoformat(), "version": 1})
    for instrument in planned.instruments:
        saved = client.done(
            "PUT",
            f"{where}/entries/{instrument}",
            {"values": answers(study, instrument, patient.rows[visit]), "base_version": 0},
        )
        assert (saved["status"], saved["version"], saved["findings"]) == ("complete", 1, []), (patient, saved)


def enrol(client: ApiClient, patient: Patient) -> None:
    """Screen with answers that meet every criterion, and record the consent."""
    row = patient.rows["t1"]
    questions = (
        "leg_worse inflammatory cancer weight_loss bowel_bladder psychiatric iv_drugs litigation mri brain "
        "device_no_increase logistics"
    )
    screened = client.done(
        "POST",
        "/participants",
        {
            "site": "boulder",
            "answers": {
                "ps_age": value_of(ItemType.NUMBER, row["age"]),
                "ps_half_the_days": True,
                "backpain_intensity": max(4, value_of(ItemType.NUMBER, row["pain_avg"])),
                **{f"ps_{name}": False for name in questions.split()},
            },
        },
    )
    assert screened["eligible"], screened
    patient.code = screened["code"]
    consent = client.done(
        "POST",
        f"/participants/{patient.code}/consents",
        {
            "version": "1",
            "signed_on": ENROLLED.date().isoformat(),
            "signature": f"Participant {patient.number}",
            "password": PASSWORD,
        },
    )
    assert consent["countersigned_at"]


def table(client: ApiClient, name: str) -> list[dict[str, str]]:
    """An export as its CSV says."""
    reply = client.get(f"/exports/{name}.csv")
    assert reply.status_code == 200, reply.text
    return list(csv.DictReader(io.StringIO(reply.text, newline=""), strict=True))


def replay(database: Database, everybody: list[Patient]) -> None:
    """The whole trial: enrolment, T1, randomisation and T2 of everybody, and every value compared with the file."""

    def as_it_was(study: StudyInUse) -> dict[str, Any]:
        return {"method": "list", "csv": listing(study, everybody)}

    with time_machine.travel(ENROLLED) as clock_of_test, trial(database, as_it_was) as here:
        coordinator, assessor = here.client("coordinator"), here.client("assessor")
        manager, statistician = here.client("data_manager"), here.client("statistician")
        for patient in everybody:
            enrol(coordinator, patient)
        clock_of_test.move_to(BASELINE)
        for number, patient in enumerate(everybody, start=1):
            enter(assessor, here.study, patient, "t1", BASELINE.date())
            randomised = coordinator.done("POST", f"/participants/{patient.code}/randomise")
            assert randomised["allocation"] == number
        clock_of_test.move_to(FOLLOWED)
        for patient in everybody:
            if "t2" in patient.rows:
                enter(assessor, here.study, patient, "t2", FOLLOWED.date())
        _compare_wide(here.study, table(manager, "entries_by_visit"), everybody)
        _compare_wide_by_participant(here.study, table(manager, "entries_by_participant"), everybody)
        _compare_long(table(manager, "entries"), everybody)
        arms = _arms(statistician)
        assert arms == {patient.code: patient.arm for patient in everybody}
        _compare_means(table(manager, "entries"), arms, everybody)


def _arms(statistician: ApiClient) -> dict[str, str]:
    page = statistician.done("GET", "/allocations", params={"limit": 500})
    assert page["next"] is None
    return {row["participant"]: row["arm"] for row in page["items"]}


def _same(cell: str, text: str) -> bool:
    """Whether an exported cell is this value of the file; nothing in the file is nothing in the export."""
    return cell == "" if text in BLANK else cell != "" and float(cell) == float(text)


def _items(row: dict[str, str]) -> list[str]:
    return [name for name in row if name not in KEYS]


def _form_of_item(study: StudyInUse, visit: str) -> dict[str, str]:
    """Item -> the instrument it belongs to, of those planned at this visit."""
    planned = study.definition.visit(visit)
    assert planned is not None
    forms = [study.definition.instrument(code) for code in planned.instruments]
    return {item.code: form.code for form in forms if form is not None for item in form.items}


def _compare_wide(study: StudyInUse, exported: list[dict[str, str]], everybody: list[Patient]) -> None:
    rows = {(row["participant"], row["visit"]): row for row in exported}
    assert set(rows) == {(patient.code, visit) for patient in everybody for visit in patient.rows}
    forms = _form_of_item(study, "t2")
    assert set(forms) == set(_items(everybody[0].rows["t1"]))  # every column of the file is an item
    compared = 0
    for patient in everybody:
        for visit, row in patient.rows.items():
            for item in _items(row):
                cell = rows[patient.code, visit][f"{forms[item]}__{item}"]
                assert _same(cell, row[item]), (patient.number, visit, item)
                compared += 1
    assert compared == 32 * sum(len(patient.rows) for patient in everybody)


def _compare_wide_by_participant(study: StudyInUse, exported: list[dict[str, str]], everybody: list[Patient]) -> None:
    rows = {row["participant"]: row for row in exported}
    assert set(rows) == {patient.code for patient in everybody}
    for patient in everybody:
        for visit in VISITS.values():
            for item, form in _form_of_item(study, visit).items():
                text = patient.rows[visit][item] if visit in patient.rows else "NaN"
                assert _same(rows[patient.code][f"{visit}__{form}__{item}"], text), (patient.number, visit, item)


def _compare_long(exported: list[dict[str, str]], everybody: list[Patient]) -> None:
    values = {(row["participant"], row["visit"], row["item"]): row for row in exported}
    assert len(values) == len(exported)
    expected = {
        (patient.code, visit, item): row[item]
        for patient in everybody
        for visit, row in patient.rows.items()
        for item in _items(row)
    }
    for place, text in expected.items():
        if text not in BLANK:
            assert _same(values[place]["value"], text), place
        elif place in values:
            assert (values[place]["value"], values[place]["missing_code"]) == ("", "UNK"), place
    assert set(values) <= set(expected)


def _compare_means(exported: list[dict[str, str]], arms: dict[str, str], everybody: list[Patient]) -> None:
    pain = defaultdict(list)
    for row in exported:
        if (row["visit"], row["item"]) == ("t2", "pain_avg"):
            pain[arms[row["participant"]]].append(float(row["value"]))
    from_file = defaultdict(list)
    for patient in everybody:
        if "t2" in patient.rows:
            from_file[patient.arm].append(float(patient.rows["t2"]["pain_avg"]))
    assert {arm: sorted(values) for arm, values in pain.items()} == {
        arm: sorted(values) for arm, values in from_file.items()
    }
    if len(everybody) == len(patients()):
        assert Counter(arms.values()) == {"prt": 50, "placebo": 51, "usual_care": 50}
        assert {arm: round(fmean(values), 2) for arm, values in pain.items()} == PUBLISHED


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_every_value_of_the_151_real_participants_comes_out_as_it_went_in(database):
    everybody = patients()
    assert len(everybody) == 151
    replay(database, everybody)


@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
def test_every_value_of_30_real_participants_comes_out_of_postgresql_as_it_went_in(database, monkeypatch):
    monkeypatch.setattr(database, "refuse_unsafe_settings", lambda: None)  # the test's server is fast, not safe
    replay(database, patients(30))


@pytest.mark.requirement("RND-12", "RND-14")
def test_real_participants_are_randomised_by_the_studys_own_method_and_it_is_proven(database, monkeypatch, tmp_path):
    """PRT in two stages: 1:1 to one of two trials, then minimisation over pain, age, gender and opioid use within it;
    closed, and drawn again by a program of its own.
    """
    monkeypatch.setattr(database, "refuse_unsafe_settings", lambda: None)
    # How alike the groups come out is chance as well: one seed, so that it is the same chance each time (RND-3).
    monkeypatch.setattr("app.randomisation.actions.new_seed", lambda: bytes(range(48)))
    everybody = patients(24)
    plan = {"method": "minimisation", "measure": "range", "probability": "4/5", "size_weight": 1}
    with time_machine.travel(ENROLLED) as clock_of_test, trial(database, plan) as here:
        coordinator, assessor, statistician = map(here.client, ("coordinator", "assessor", "statistician"))
        for patient in everybody:
            enrol(coordinator, patient)
            assert coordinator.done("POST", f"/participants/{patient.code}/randomise-first").keys() == {"randomised_at"}
        clock_of_test.move_to(BASELINE)
        for number, patient in enumerate(everybody, start=1):
            enter(assessor, here.study, patient, "t1", BASELINE.date())
            done = coordinator.done("POST", f"/participants/{patient.code}/randomise")
            assert done.keys() == {"allocation", "randomised_at"}
            assert done["allocation"] == number
        arms = _arms(statistician)
        assert arms.keys() == {patient.code for patient in everybody}
        assert max(Counter(arms.values()).values()) - min(Counter(arms.values()).values()) <= 3
        of_levels = Counter((patient.stratum.split("/")[2], arms[patient.code]) for patient in everybody)
        for gender in ("male", "female"):
            assert max(of_levels[gender, arm] for arm in set(arms.values())) <= 3 + min(
                of_levels[gender, arm] for arm in set(arms.values())
            )
        statistician.done("POST", "/sequences/1/close", {"why": "The target is reached.", "password": PASSWORD})
        files = {
            "certificate.json": json.dumps(statistician.done("GET", "/sequences/1/certificate")),
            "proofs.ndjson": statistician.get("/sequences/1/proofs").text,
            "plan.json": json.dumps(statistician.done("GET", "/sequences/1/plan")),
            "first.ndjson": statistician.get("/sequences/2/proofs").text,
        }
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    asked = [sys.executable, "-I", str(ROOT / "scripts" / "verify_draws.py"), *(str(tmp_path / name) for name in files)]
    said = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "24 allocations" in said.stdout
    first = [json.loads(line) for line in files["first.ndjson"].splitlines()[:-1]]
    assert Counter(each["arm"] for each in first) == {"psychotherapy_trial": 12, "placebo_trial": 12}
    proofs = [json.loads(line) for line in files["proofs.ndjson"].splitlines()[:-1]]
    within = Counter((each["group"], each["arm"]) for each in proofs)
    assert within.keys() == {
        ("psychotherapy_trial", "prt"),
        ("psychotherapy_trial", "usual_care"),
        ("placebo_trial", "placebo"),
        ("placebo_trial", "usual_care"),
    }
    levels = [each["levels"] for each in proofs]
    assert ["/".join(each) for each in levels] == [patient.stratum for patient in everybody]
