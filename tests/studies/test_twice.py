"""A study folder with forms that are entered twice and texts that are coded: what is read, and what is wrong."""

from pathlib import Path

import pytest

from app.studies.definition import Study
from app.studies.loading import read_folder
from app.studies.rules import canonical, fingerprint, problems
from tests.capture.twice import twice
from tests.factories import MINI, definition
from tests.studies.folders import broken, write


def test_a_version_from_before_is_what_it_was():
    plain = definition()
    for word in ("double_entry", "dictionaries", "coding"):
        assert word not in canonical(plain)
    assert fingerprint(definition(**twice())) != fingerprint(plain)
    assert Study.model_validate_json(canonical(definition(**twice()))) == definition(**twice())


def found(**changes: object) -> list[str]:
    return [f"{each.file}: {each.message}" for each in problems(definition(**changes)) if each.is_error]


def test_what_does_not_fit_together_is_said_at_its_place():
    assert not found(**twice())
    instruments = twice()["instruments"]
    wrong = {**twice(), "dictionaries": []}
    assert ["There is no dictionary “complaints”" in each for each in found(**wrong)] == [True]
    pain = next(form for form in instruments if form["code"] == "pain")
    items = [{**pain["sections"][0]["items"][0], "coding": {"dictionary": "complaints"}}]
    coded_scale = {
        **twice(),
        "instruments": [*instruments[:1], {**pain, "sections": [{"items": items}]}, instruments[2]],
    }
    assert any("only texts are coded" in each for each in found(**coded_scale))
    prescreen = {**instruments[0], "double_entry": True}
    assert any("entered once" in each for each in found(**{**twice(), "instruments": [prescreen, *instruments[1:]]}))
    visits: object = MINI["visits"]
    assert isinstance(visits, list)
    elsewhere = [{**visits[0], "double_entry": ["disability"]}, *visits[1:]]
    assert any("has no instrument “disability”" in each for each in found(visits=elsewhere))
    terms = [
        {"code": "A", "label": "Ache"},
        {"code": "A", "label": "Again"},
        {"code": "B", "label": "C", "parent": "Z"},
    ]
    dictionaries = [{"code": "complaints", "label": "C", "version": "1", "terms": terms}] * 2
    said = " ".join(found(**{**twice(), "dictionaries": dictionaries}))
    for words in ("stands here twice", "There is no term “Z”", "There are two dictionaries"):
        assert words in said


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("complaints.csv", 'code,label,parent\nBACK,Back disorders,\nLBP,"Low back pain, acute",BACK\n'),
        (
            "complaints.yaml",
            "terms:\n- {code: BACK, label: Back disorders}\n"
            "- {code: LBP, parent: BACK, label: 'Low back pain, acute'}\n",
        ),
    ],
)
def test_terms_are_read_from_a_file(tmp_path: Path, name: str, text: str):
    named = "dictionaries:\n  - {code: complaints, label: Complaints, version: '1'}\noutcomes:\n"
    files = broken(("study.yaml", "outcomes:\n", named))
    folder = write(tmp_path, {**files, f"dictionaries/{name}": text})
    study, findings = read_folder(folder)
    assert study is not None, findings
    dictionary = study.dictionary("complaints")
    assert dictionary is not None
    assert [(term.code, term.label, term.parent) for term in dictionary.terms] == [
        ("BACK", "Back disorders", None),
        ("LBP", "Low back pain, acute", "BACK"),
    ]
    (folder / "dictionaries" / "other.csv").write_text("code,label\nA,Ache\n", encoding="utf-8")
    study, findings = read_folder(folder)
    assert study is None
    assert [(each.file, each.line) for each in findings if each.is_error] == [("dictionaries/other.csv", 1)]


@pytest.mark.parametrize("coders", [1, 2])
def test_how_many_people_code_a_text_is_read_from_a_folder(tmp_path: Path, coders: int):
    named = "dictionaries:\n  - {code: complaints, label: Complaints, version: '1'}\noutcomes:\n"
    why = "{code: why, label: Why, type: text, "
    coded = f"{why}coding: {{dictionary: complaints, coders: {coders}}}, "
    files = broken(("study.yaml", "outcomes:\n", named), ("instruments/form.yaml", why, coded))
    study, findings = read_folder(
        write(tmp_path, {**files, "dictionaries/complaints.csv": "code,label\nBACK,Back disorders\n"})
    )
    assert study is not None, findings
    item = next(each for form in study.instruments for each in form.items if each.code == "why")
    assert item.coding is not None
    assert item.coding.coders == coders
