"""What does an expression come to depend on? Chains to the treatment room or into the future, at their line."""

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.studies.definition import Study
from app.studies.loading import read_folder
from app.studies.rules import problems
from app.studies.rules.reaching import reaches_treatment
from tests.factories import definition as mini
from tests.studies.folders import WHOLE, broken, write

S, F, SCR = "study.yaml", "instruments/form.yaml", "instruments/screening_form.yaml"
DOSE = "      - {code: dose, label: Dose, type: calculated, calculation: "
END = "  - items:\n"


def items(*lines: str) -> tuple[str, str, str]:
    return (F, END, END + "".join(f"      - {{{line}}}\n" for line in lines))


def calculated(code: str, calculation: str) -> str:
    return f'code: {code}, label: {code.capitalize()}, type: calculated, calculation: "{calculation}"'


def told(tmp_path: Any, *edits: tuple[str, str, str]) -> list[tuple[str, int, str]]:
    """(file, line, chain) of every error that names one; there must be no other finding but warnings."""
    _, findings = read_folder(write(tmp_path, broken(*edits)))
    errors = [finding for finding in findings if finding.is_error]
    found = []
    for finding in errors:
        chain = re.search(r": (\S+ -> .*?)\. ", finding.message)
        assert chain is not None, finding
        found.append((finding.file, finding.line, chain[1]))
    return found


def line_of(edits: tuple[tuple[str, str, str], ...], file: str, text: str) -> int:
    lines = broken(*edits)[file].splitlines()
    (number,) = [number for number, line in enumerate(lines, start=1) if text in line]
    return number


ROOM = "treatment/stim.minutes"
CASES: list[tuple[str, tuple[tuple[str, str, str], ...], list[tuple[str, str, str]]]] = [
    ("nothing", (), []),
    (
        "a calculation, directly",
        (items(calculated("dose", "[tx1][minutes] * 2")),),
        [(F, "code: dose", f"dose -> {ROOM}")],
    ),
    ("by the module", (items(calculated("dose", "[stim][minutes]")),), [(F, "code: dose", f"dose -> {ROOM}")]),
    ("without a visit", (items(calculated("dose", "[minutes]")),), [(F, "code: dose", f"dose -> {ROOM}")]),
    ("a skip rule", ((F, '"[nrs] > 8"', '"[tx1][minutes] > 8"'),), [(F, "code: why", f"why -> {ROOM}")]),
    (
        "a check",
        ((F, "max: 10}", 'max: 10, checks: [{rule: "[tx1][minutes] > 1", message: Look again}]}'),),
        [(F, "code: nrs", f"nrs -> {ROOM}")],
    ),
    (
        "two steps, and a check at the end",
        (
            items(calculated("dose", "[tx1][minutes]"), calculated("score", "[dose] + 1")),
            (F, "max: 10}", 'max: 10, checks: [{rule: "[score] > 1", message: Look again}]}'),
        ),
        [
            (F, "code: nrs", f"nrs -> score -> dose -> {ROOM}"),
            (F, "code: dose", f"dose -> {ROOM}"),
            (F, "code: score", f"score -> dose -> {ROOM}"),
        ],
    ),
    (
        "through being shown",
        (
            items(calculated("after", "[why] = 'x'")),
            (F, '"[nrs] > 8"', '"[tx1][minutes] > 8"'),
        ),
        [(F, "code: why", f"why -> {ROOM}"), (F, "code: after", f"after -> why -> {ROOM}")],
    ),
    (
        "from another instrument and another visit",
        (
            items(calculated("dose", "[minutes]")),
            (
                SCR,
                "type: yes_no}",
                'type: yes_no}\n      - {code: late, label: Late, type: yes_no, shown_if: "[week6][dose] > 1"}',
            ),
        ),
        [(F, "code: dose", f"dose -> {ROOM}"), (SCR, "code: late", f"late -> dose -> {ROOM}")],
    ),
    ("a criterion", ((S, '"[age] >= 18"', '"[minutes] >= 18"'),), [(S, "code: age,", f"age -> {ROOM}")]),
    ("a stratum", ((S, "[baseline][nrs] >= 7", "[tx1][minutes] >= 7"),), [(S, "expression: ", f"severity -> {ROOM}")]),
    (
        "a stratum, over a step into the future",
        (
            items(calculated("ahead", "[week6][nrs]")),
            (S, "[baseline][nrs] >= 7", "[baseline][ahead] >= 7"),
        ),
        [(S, "expression: ", "severity -> [baseline][ahead] -> [week6][nrs]")],
    ),
    (
        "a stratum, over two steps into the future",
        (
            items(calculated("ahead", "[week6][nrs]"), calculated("twice", "[ahead] * 2")),
            (S, "[baseline][nrs] >= 7", "[baseline][twice] >= 7"),
        ),
        [(S, "expression: ", "severity -> [baseline][twice] -> [baseline][ahead] -> [week6][nrs]")],
    ),
]


@pytest.mark.requirement("CONC-16", "CONC-1")
@pytest.mark.parametrize(("edits", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_chain_is_named_at_its_line(tmp_path: Any, edits: Any, expected: list[tuple[str, str, str]]):
    assert sorted(told(tmp_path, *edits)) == sorted(
        (file, line_of(edits, file, text), chain) for file, text, chain in expected
    )


def test_an_item_of_the_same_code_that_blinded_people_fill_in_is_theirs(tmp_path: Any):
    typed = "code: minutes, label: Minutes walked, type: integer"
    assert told(tmp_path, items(typed, calculated("score", "[minutes] + [week6][minutes]"))) == []


def test_what_comes_after_a_rule_that_names_the_arm_is_told_too(tmp_path: Any):
    edits = (items(calculated("dose", "[arm] = 'x'"), calculated("score", "[dose] + 1")),)
    _, findings = read_folder(write(tmp_path, broken(*edits)))
    assert ["means the arm" in findings[0].message, "score -> dose -> arm." in findings[1].message] == [True, True]
    assert len(findings) == 2


def test_a_study_that_blinds_nobody_may_look_into_the_treatment_room_no_more_than_before(tmp_path: Any):
    files = broken((S, "target: 40\n", "target: 40\nblinded: false\n"), items(calculated("dose", "[tx1][minutes]")))
    _, findings = read_folder(write(tmp_path, files))
    assert ["minutes is not an item" in each.message or "no item minutes" in each.message for each in findings] == [
        True
    ]


def test_the_whole_folder_has_no_chain():
    assert set(WHOLE) >= {S, F, SCR}
    assert list(reaches_treatment(mini())) == []


# Chains of any depth


@st.composite
def chains(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, set[str]], set[str]]:
    """A study of calculated and skipped items that refer to each other, acyclic or not, across forms and visits.

    With what each item refers to, and the items that look into the treatment room themselves.
    """
    count = draw(st.integers(1, 14))
    codes = [f"x{number}" for number in range(count)]
    home = {code: draw(st.sampled_from(("one", "two", "three"))) for code in codes}
    edges: dict[str, set[str]] = {}
    telling: set[str] = set()
    forms: dict[str, list[dict[str, Any]]] = {
        name: [{"code": f"typed_{name}", "label": "Typed", "type": "integer"}] for name in ("one", "two", "three")
    }
    for code in codes:
        edges[code] = set(draw(st.lists(st.sampled_from(codes), max_size=3))) - {code}
        parts = [f"[typed_{home[code]}]"]
        for other in sorted(edges[code]):
            beside = home[other] == home[code] and draw(st.booleans())
            parts.append(f"[{other}]" if beside else f"[{draw(st.sampled_from(('baseline', 'week18')))}][{other}]")
        if draw(st.integers(0, 5)) == 0:
            telling.add(code)
            parts.append(draw(st.sampled_from(("[tx01][laser_minutes]", "[laser_minutes]", "[laser][laser_minutes]"))))
        text = " + ".join(draw(st.permutations(parts)))
        item: dict[str, Any] = {"code": code, "label": code}
        if draw(st.booleans()):
            item |= {"type": "calculated", "calculation": text}
        else:
            item |= {"type": "integer", "shown_if": f"{text} > 1"}
        forms[home[code]].append(item)
    base = mini().model_dump(mode="json")
    base["instruments"] += [
        {"code": name, "label": name.capitalize(), "source": "test", "sections": [{"items": forms[name]}]}
        for name in forms
    ]
    for visit in base["visits"]:
        if visit["kind"] != "treatment":
            visit["instruments"] += list(forms)
    return base, edges, telling


def reachable(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """Warshall's closure: what each item comes to, itself included."""
    closure = {code: {code, *out} for code, out in edges.items()}
    for middle in edges:
        for code in edges:
            if middle in closure[code]:
                closure[code] |= closure[middle]
    return closure


@pytest.mark.requirement("CONC-16", "CONC-1")
@settings(max_examples=150, deadline=None)
@given(chains())
def test_the_lint_agrees_with_a_reachability_of_its_own(made: tuple[dict[str, Any], dict[str, set[str]], set[str]]):
    base, edges, telling = made
    study = Study.model_validate(base)
    closure = reachable(edges)
    expected = {code for code in edges if closure[code] & telling}
    named: dict[str, list[str]] = {}
    for path, message, severity in reaches_treatment(study):
        assert severity == "error"
        number, place, position = (int(path[at]) for at in (1, 3, 5))
        owner = study.instruments[number].sections[place].items[position].code
        found = re.search(r": (\S+(?: -> \S+)+)\. ", message)
        assert found is not None, message
        named[owner] = found[1].split(" -> ")
    assert set(named) == expected
    for owner, (first, *middle, end) in named.items():
        assert first == owner
        assert end == "treatment/laser.laser_minutes"
        way = [first, *middle]
        assert all(after in edges[before] for before, after in pairwise(way))
        assert way[-1] in telling
        assert not set(way[:-1]) & telling  # no longer than it has to be
    said = {finding.message for finding in problems(study) if "comes to depend on the arm" in finding.message}
    assert len(said) == len(expected)
