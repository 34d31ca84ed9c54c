"""Which stratum is a participant in, and which gate is closed?"""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from app.randomisation.rules import (
    NOT_OPEN,
    Facts,
    Recorded,
    all_strata,
    baseline_entries,
    gates,
    needs_answers,
    stratum_code,
    why_not_ready,
)
from tests.randomisation.small import BY_PAIN, definition

STRATIFIED = definition(
    allocation={"method": "permuted_blocks", "strata": [{"code": "site", "label": "Site"}, BY_PAIN]}
)
READY = Facts(
    participant="P-0001",
    status="consented",
    eligible=True,
    why_no_consent=None,
    complete=frozenset({("baseline", "pain")}),
    why_no_stratum=None,
    site_name="Sydney",
    site_open=True,
    allocated=False,
    slot_waiting=True,
)


def recorded(value: object) -> Recorded:
    return Recorded({("baseline", "nrs"): value}, date(2026, 3, 1), datetime(2026, 3, 1, 9, tzinfo=UTC))


def test_strata_are_every_combination_of_levels_in_the_order_of_their_codes():
    assert all_strata(STRATIFIED, ["SYD", "PER"]) == ("PER/high", "PER/low", "SYD/high", "SYD/low")
    assert all_strata(definition(), ["SYD", "PER"]) == ("PER", "SYD")


def test_a_study_without_strata_has_one():
    plain = definition(allocation={"method": "permuted_blocks"})
    assert all_strata(plain, ["SYD", "PER"]) == ("all",)
    assert stratum_code(plain, "SYD", None).code == "all"
    assert not needs_answers(plain)


@pytest.mark.parametrize(("nrs", "code"), [(7, "SYD/high"), (10, "SYD/high"), (6, "SYD/low"), (4, "SYD/low")])
def test_a_stratum_follows_from_the_site_and_the_answers(nrs: int, code: str):
    assert needs_answers(STRATIFIED)
    assert stratum_code(STRATIFIED, "SYD", recorded(nrs)).code == code
    assert code in all_strata(STRATIFIED, ["SYD", "PER"])


@pytest.mark.parametrize("value", [None, "", {"missing": "UNK"}])
def test_a_blank_answer_gives_no_stratum(value: object):
    blank = {**BY_PAIN, "expression": "[baseline][nrs]"}
    found = stratum_code(definition(allocation={"method": "list", "strata": [blank]}), "SYD", recorded(value))
    assert found.code is None
    assert found.reason == "“Severity” is not known yet. Complete the entries it is taken from."


def test_a_value_outside_the_levels_gives_no_stratum():
    found = stratum_code(STRATIFIED, "SYD", recorded(2))
    assert found.code is None
    assert found.reason
    assert "not one of the values" in found.reason


def test_baseline_instruments_are_what_must_be_complete():
    assert baseline_entries(STRATIFIED) == (("baseline", "pain"),)


@pytest.mark.requirement("P11-f")
def test_a_participant_who_passed_every_gate_is_ready():
    passed = gates(STRATIFIED, READY)
    assert [gate.code for gate in passed] == [
        "eligible",
        "consented",
        "baseline",
        "site_open",
        "not_randomised",
        "list_ready",
    ]
    assert why_not_ready(passed) is None


@pytest.mark.requirement("P11-f")
@pytest.mark.parametrize(
    ("facts", "gate", "words"),
    [
        (replace(READY, eligible=None), "eligible", "no pre-screen"),
        (replace(READY, eligible=False), "eligible", "not eligible"),
        (replace(READY, status="screen_failed"), "eligible", "not eligible"),
        (replace(READY, why_no_consent="Record consent first."), "consented", "Record consent first."),
        (replace(READY, status="withdrawn"), "consented", "has withdrawn"),
        (replace(READY, complete=frozenset()), "baseline", "Complete Pain today (Baseline) first."),
        (replace(READY, why_no_stratum="Not known."), "baseline", "Not known."),
        (replace(READY, site_open=False), "site_open", "Sydney is not open."),
        (replace(READY, allocated=True), "not_randomised", "already randomised"),
        (replace(READY, status="randomised"), "not_randomised", "already randomised"),
        (replace(READY, slot_waiting=False), "list_ready", NOT_OPEN),
    ],
)
def test_each_gate_says_why_it_is_closed(facts: Facts, gate: str, words: str):
    closed = [one for one in gates(STRATIFIED, facts) if not one.open]
    assert [one.code for one in closed] == [gate]
    assert words in (closed[0].reason or "")
    assert why_not_ready(gates(STRATIFIED, facts)) == closed[0].reason


def test_the_first_closed_gate_is_the_reason():
    facts = replace(READY, eligible=False, site_open=False, slot_waiting=False)
    assert "not eligible" in (why_not_ready(gates(STRATIFIED, facts)) or "")


@pytest.mark.requirement("CONC-4")
def test_no_reason_speaks_of_lists_blocks_or_slots():
    for reason in (gate.reason or "" for gate in gates(STRATIFIED, replace(READY, slot_waiting=False))):
        assert not {"slot", "block", "left", "list", "sequence", "stratum"} & set(reason.lower().split())
