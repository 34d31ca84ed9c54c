"""The file of the PRT trial comes in with one call, and comes out as it was, value for value.

The days are those of the call: the file holds none, so every T2 is outside its window, and says why.
"""

import csv
import hashlib

import pytest
import time_machine

from tests.api.client import PASSWORD
from tests.api.test_prt_replay import (
    ENROLLED,
    FILE,
    KEYS,
    _arms,
    _compare_long,
    _compare_means,
    _compare_wide,
    _compare_wide_by_participant,
    listing,
    patients,
    table,
    trial,
)
from tests.conformance import REPOSITORY

SHARED = REPOSITORY.parent / "shared" / "data" / "prt"
DAY = ENROLLED.date().isoformat()
NO = (
    "leg_worse inflammatory cancer weight_loss bowel_bladder psychiatric iv_drugs litigation mri brain "
    "device_no_increase logistics"
)


def mapping(header):
    """Every column of scores is an item of the same name; what the file does not hold is said once for all."""
    return {
        "participant": "id",
        "source": "NCT03294148",
        "visit": {"column": "time", "values": {"1": "t1", "2": "t2"}},
        "held_on": {"value": DAY},
        "late": "The public file holds no days.",
        "columns": [{"column": name, "item": name} for name in header if name not in KEYS],
        "blank": ["NaN", "<undefined>"],
        "missing": "UNK",
        "only": {"group": ["1", "2", "3"]},
        "new": {
            "site": {"value": "boulder"},
            "answers": {
                "ps_age": {"column": "age"},
                "ps_half_the_days": {"value": True},
                "backpain_intensity": {"value": 4},
                **{f"ps_{name}": {"value": False} for name in NO.split()},
            },
            "consent": {
                "version": "1",
                "method": "on_screen",
                "signed_on": {"value": DAY},
                "signature": {"column": "id"},
            },
        },
        "randomise_after": "t1",
    }


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_the_whole_file_comes_in_with_one_call(database):
    everybody = patients()
    assert len(everybody) == 151
    text = FILE.read_text()
    header = next(csv.reader([text.splitlines()[0]]))
    with (
        time_machine.travel(ENROLLED, tick=False),
        trial(database, lambda study: {"method": "list", "csv": listing(study, everybody)}) as here,
    ):
        coordinator, manager = here.client("coordinator"), here.client("data_manager")
        asked = {"csv": text, "file": FILE.name, "mapping": mapping(header), "password": PASSWORD}
        report = coordinator.done("POST", "/entries/import", asked)
        assert report["imported"]
        assert report["counts"]["refused"] == report["counts"]["left"] == 0
        forms = sum(1 for row in report["rows"] if row["instrument"])
        planned = {visit.code: len(visit.instruments) for visit in here.study.definition.visits}
        assert forms == sum(planned[visit] for patient in everybody for visit in patient.rows)
        codes = {row["row"]: row["participant"] for row in report["rows"]}
        rows = list(csv.DictReader(text.splitlines()))
        for patient in everybody:
            (patient.code,) = {codes[n] for n, row in enumerate(rows, 1) if row["id"] == patient.number and n in codes}
        again = coordinator.done("POST", "/entries/import", {**asked, "dry_run": True})
        assert again["counts"]["unchanged"] == forms
        assert again["counts"]["created"] == again["counts"]["changed"] == again["counts"]["refused"] == 0
        _compare_wide(here.study, table(manager, "entries_by_visit"), everybody)
        _compare_wide_by_participant(here.study, table(manager, "entries_by_participant"), everybody)
        _compare_long(table(manager, "entries"), everybody)
        arms = _arms(here.client("statistician"))
        assert arms == {patient.code: patient.arm for patient in everybody}
        _compare_means(table(manager, "entries"), arms, everybody)


def test_the_file_is_the_published_one():
    if not SHARED.is_dir():
        pytest.skip(f"There is no folder {SHARED}.")
    published = (SHARED / FILE.name).read_bytes()
    assert hashlib.sha256(published).digest() == hashlib.sha256(FILE.read_bytes()).digest()
