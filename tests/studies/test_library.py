"""The three studies of the library are whole, say where they come from, and score as their sources say."""

import csv
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from app.expressions import parse
from app.studies.definition import Instrument, Item, ItemType, ObservedGroup, Study, Visit
from app.studies.loading import LIBRARY, SCHEMA_FILE, library, read_folder
from app.studies.rules import canonical, fingerprint, problems
from tests.studies.folders import broken, write

PUBLIC_DATA = Path(__file__).parent / "data" / "Ashar2022_outcomes_demographics.csv"


def study_of(code: str) -> Study:
    study, findings = read_folder(LIBRARY / code)
    assert study is not None, "\n".join(map(str, findings))
    return study


def item_of(study: Study, code: str) -> Item:
    return next(item for instrument in study.instruments for item in instrument.items if item.code == code)


class Answers:
    """What one person answered, and nothing else."""

    today = date(2026, 3, 2)
    now = datetime(2026, 3, 2, tzinfo=UTC)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def value(self, event: str | None, field: str, instance: str | None = None) -> Any:
        return self.values.get(f"{event}.{field}" if event else field)


def score(study: Study, code: str, **answers: Any) -> Any:
    calculation = item_of(study, code).calculation
    assert calculation is not None
    return parse(calculation).evaluate(Answers(answers))


def filled(prefix: str, count: int, value: int) -> dict[str, Decimal]:
    return {f"{prefix}_{number:02d}": Decimal(value) for number in range(1, count + 1)}


@pytest.mark.parametrize("folder", library(), ids=lambda folder: folder.name)
def test_a_study_of_the_library_has_no_finding(folder):
    study, findings = read_folder(folder)
    assert findings == []
    assert study is not None
    assert study.code == folder.name
    assert study.sources
    assert study.not_known
    assert all(instrument.source for instrument in study.instruments)


@pytest.mark.parametrize("folder", library(), ids=lambda folder: folder.name)
def test_a_study_survives_its_canonical_form(folder):
    study = study_of(folder.name)
    again = Study.model_validate_json(canonical(study))
    assert fingerprint(again) == fingerprint(study)
    assert canonical(again) == canonical(study)


class _Yaml12(yaml.SafeLoader):
    """YAML as an editor that follows YAML 1.2 reads it: no dates, and yes, no, on, off are words."""


_Yaml12.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if not tag.endswith(("timestamp", "merge")) and not (tag.endswith("bool") and first not in "tTfF")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@pytest.mark.parametrize("folder", library(), ids=lambda folder: folder.name)
def test_files_of_the_library_follow_the_published_schema(folder):
    schema = json.loads(SCHEMA_FILE.read_text())
    for file in sorted([*folder.glob("study*.yaml"), *folder.glob("instruments/*.yaml")]):
        kinds = ("StudyFile", "StudyText") if file.parent == folder else ("Instrument", "InstrumentText")
        kind = kinds["." in file.stem]  # words in another language
        validator = jsonschema.Draft202012Validator({**schema, "anyOf": [{"$ref": f"#/$defs/{kind}"}]})
        data = yaml.load(file.read_text(), Loader=_Yaml12)
        assert [error.message for error in validator.iter_errors(data)] == [], file


def test_the_arm_can_stand_nowhere_in_what_is_asked_and_planned():
    """Every arm has the same visits and questions, because nothing of them can name an arm at all."""
    for part in (Visit, Instrument, Item):
        assert not {"arm", "arms"} & set(part.model_fields)


def test_resolve_is_as_published():
    study = study_of("resolve")
    assert (study.target, [arm.planned for arm in study.arms], study.allocation.method) == (
        276,
        [138, 138],
        "permuted_blocks",
    )
    assert [visit.code for visit in study.visits if visit.kind == "treatment"] == [f"tx{n:02d}" for n in range(1, 13)]
    weeks = {visit.code: visit.day for visit in study.visits if visit.kind == "assessment"}
    assert weeks == {"week12": 84, "week18": 126, "week26": 182, "week52": 364}
    primary = [outcome for outcome in study.outcomes if outcome.kind == "primary"]
    assert [(outcome.item, outcome.visit) for outcome in primary] == [("pain_intensity", "week18")]
    assert "block" not in json.dumps(study.model_dump(mode="json", include={"allocation"})["allocation"]["strata"])


def test_etmi_allocates_nobody():
    study = study_of("etmi")
    assert not study.is_allocated
    assert len(study.sites) == 13
    assert [visit.code for visit in study.visits] == ["baseline", "discharge"]


GROUP: dict[str, Any] = {
    "visit": "discharge",
    "item": "received_etmi",
    "answers": [{"choice": "yes", "arm": "etmi"}, {"choice": "no", "arm": "other_care"}],
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"visit": "week9"}, ["There is no visit “week9”. Name one of the plan."]),
        (
            {"visit": "baseline"},
            ["No instrument of baseline has an item “received_etmi”. Name one that is asked there."],
        ),
        ({"item": "pain"}, ["pain is of type number. Name an item of type choice or yes_no."]),
        (
            {"answers": [{"choice": "yes", "arm": "etmi"}, {"choice": "yes", "arm": "other_care"}]},
            ["“yes” stands here twice. An answer means one group."],
        ),
        (
            {"answers": [{"choice": "maybe", "arm": "etmi"}, {"choice": "no", "arm": "none"}]},
            [
                "received_etmi has no choice “maybe”. It has: yes, no.",
                "There is no arm “none”. There are: etmi, other_care.",
                "No answer means other_care, so nobody is counted in it. Add one.",
            ],
        ),
    ],
)
def test_where_a_group_is_recorded_is_checked(changes: dict[str, Any], words: list[str]):
    study = study_of("etmi")
    said = ObservedGroup.model_validate({**GROUP, **changes})
    other = study.model_copy(update={"allocation": study.allocation.model_copy(update={"group": said})})
    before = {each.message for each in problems(study)}
    assert sorted({each.message for each in problems(other)} - before) == sorted(words)


def test_who_allocates_observes_no_group():
    study = study_of("resolve")
    said = ObservedGroup.model_validate(GROUP)
    other = study.model_copy(update={"allocation": study.allocation.model_copy(update={"group": said})})
    (found,) = {each.message for each in problems(other)} - {each.message for each in problems(study)}
    assert found == "Arms are allocated in this study, so no group is observed. Take this out."


def test_roland_morris_counts_what_is_ticked_and_knows_none_from_unanswered():
    study = study_of("resolve")
    assert score(study, "rmdq_score", rmdq_any=True, rmdq_ticked=("1", "5", "24")) == 3
    assert score(study, "rmdq_score", rmdq_any=False) == 0
    assert score(study, "rmdq_score") is None
    assert score(study, "rmdq_score", rmdq_any=True) is None
    assert len(item_of(study, "rmdq_ticked").choices) == 24


@pytest.mark.parametrize(
    ("code", "prefix", "count", "low", "high", "lowest", "highest"),
    [
        ("dass_depression", "dass", 21, 0, 3, 0, 42),
        ("dass_anxiety", "dass", 21, 0, 3, 0, 42),
        ("dass_stress", "dass", 21, 0, 3, 0, 42),
        ("dass_total", "dass", 21, 0, 3, 0, 63),
        ("pcs_score", "pcs", 13, 0, 4, 0, 52),
        ("pseq_score", "pseq", 10, 0, 6, 0, 60),
        ("frebaq_score", "frebaq", 9, 0, 4, 0, 36),
        ("isi_score", "isi", 7, 0, 4, 0, 28),
    ],
)
def test_a_sum_score_spans_its_published_range_and_needs_every_item(code, prefix, count, low, high, lowest, highest):
    study = study_of("resolve")
    assert score(study, code, **filled(prefix, count, low)) == lowest
    assert score(study, code, **filled(prefix, count, high)) == highest
    one_missing = {key: value for key, value in filled(prefix, count, high).items() if not key.endswith("_03")}
    if code != "dass_anxiety" and code != "dass_stress":
        assert score(study, code, **one_missing) is None
    assert (item_of(study, code).min, item_of(study, code).max) == (lowest, highest)


def test_every_dass_item_counts_in_one_subscale():
    study = study_of("resolve")
    counted: list[str] = []
    for code in ("dass_depression", "dass_anxiety", "dass_stress"):
        calculation = item_of(study, code).calculation
        assert calculation is not None
        counted += [reference.field for reference in parse(calculation).references]
    assert sorted(counted) == [f"dass_{number:02d}" for number in range(1, 22)]


def test_tampa_reverses_items_4_8_12_and_16():
    study = study_of("resolve")
    assert score(study, "tsk_score", **filled("tsk", 17, 1)) == 13 * 1 + 4 * 4
    least = {**filled("tsk", 17, 1), **{f"tsk_{n:02d}": Decimal(4) for n in (4, 8, 12, 16)}}
    most = {**filled("tsk", 17, 4), **{f"tsk_{n:02d}": Decimal(1) for n in (4, 8, 12, 16)}}
    assert (score(study, "tsk_score", **least), score(study, "tsk_score", **most)) == (17, 68)


def test_what_cannot_be_scored_from_its_sources_is_not_scored():
    study = study_of("resolve")
    for code in ("bbq", "ceq", "qol_vas", "pain"):
        instrument = study.instrument(code)
        assert instrument is not None
        assert all(item.type is not ItemType.CALCULATED for item in instrument.items)
        assert instrument.scoring is not None
        assert "not" in instrument.scoring


@pytest.mark.parametrize(
    ("code", "prefix", "count", "low", "high", "lowest", "highest"),
    [
        ("odi_total", "odi", 10, 1, 6, 0, 100),
        ("pcs_sum", "pcs", 13, 0, 4, 0, 52),
        ("tsk11_sum", "tsk11", 11, 1, 4, 11, 44),
        ("promis_dep_sum", "promis_dep", 8, 1, 5, 8, 40),
        ("promis_anger_sum", "promis_anger", 5, 1, 5, 5, 25),
    ],
)
def test_prt_scores_span_their_ranges(code, prefix, count, low, high, lowest, highest):
    study = study_of("prt")
    assert score(study, code, **filled(prefix, count, low)) == lowest
    assert score(study, code, **filled(prefix, count, high)) == highest


def test_prt_strata_follow_from_t1():
    study = study_of("prt")

    def level(code: str, **answers: Any) -> Any:
        factor = next(factor for factor in study.allocation.strata if factor.code == code)
        assert factor.expression is not None
        found = parse(factor.expression).evaluate(Answers({f"t1.{key}": value for key, value in answers.items()}))
        assert found is None or found in {choice.code for choice in factor.levels}
        return found

    assert [level("pain", pain_avg=Decimal(n)) for n in (0, 3, 4, 5, 6, 8)] == [
        "0_3", "0_3", "4_5", "4_5", "6_7", "8_10",
    ]  # fmt: skip
    assert level("age", age=Decimal("29.18")) == "20s"
    assert level("age", age=Decimal(70)) == "60s_70s"
    assert level("age") is None
    assert level("gender", gender="2") == "female"
    assert level("opioid") == "unknown"


def test_every_value_of_the_public_prt_data_fits_an_item_of_its_visit():
    study = study_of("prt")
    at: dict[str, dict[str, Item]] = {"1": {}, "2": {}}
    for time, visit_code in (("1", "t1"), ("2", "t2")):
        visit = study.visit(visit_code)
        assert visit is not None
        for code in visit.instruments:
            instrument = study.instrument(code)
            assert instrument is not None
            at[time].update({item.code: item for item in instrument.items})
    checked = 0
    with PUBLIC_DATA.open(newline="") as file:
        for row in csv.DictReader(file):
            for column, value in row.items():
                if column in ("id", "time", "group") or value in ("NaN", "<undefined>"):
                    continue
                item = at[row["time"]][column]
                if item.type is ItemType.CHOICE:
                    assert value in {choice.code for choice in item.choices}
                else:
                    number = Decimal(value)
                    assert item.min is not None
                    assert item.max is not None
                    assert item.min <= number <= item.max, (column, value)
                    assert item.decimals is None
                    assert item.type is ItemType.NUMBER or number == number.to_integral_value()
                checked += 1
    assert checked > 10_000


def test_the_examples_of_the_manual_are_right(tmp_path):
    manual = (SCHEMA_FILE.parent / "study-folder.md").read_text()
    example = manual.split("## instruments/*.yaml")[1].split("```yaml\n")[1].split("```")[0]
    visits = manual.split("```yaml\nvisits:\n")[1].split("```")[0].replace("[pain, rmdq]", "[pain]")
    consent = manual.split("## consent/*.md")[1].split("```\n")[1]
    files = broken(("study.yaml", "outcomes:\n", f"{visits}outcomes:\n"))
    baseline = "after: 14}\n    instruments: [form"
    files["study.yaml"] = files["study.yaml"].replace(f"{baseline}]", f"{baseline}, pain]")
    files |= {"instruments/pain.yaml": example, "consent/v1.en.md": consent}
    study, findings = read_folder(write(tmp_path, files))
    assert findings == []
    assert study is not None
