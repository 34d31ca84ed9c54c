"""The pages of a study in the making: each field of a definition has one, and a save changes what was typed alone."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from app.studies.definition import Choice, ConsentDocument, Part, Study, StudyFile, StudyText
from app.studies.drafts.editing import data_of
from app.studies.drafts.folder import checked
from app.studies.importing import convert
from app.studies.loading import library
from app.web.draft_fields import (
    CHECKS,
    CHOICES,
    CODES,
    LINES,
    NAME,
    SELECT,
    Asked,
    Drawn,
    DrawnRows,
    Rows,
    Sheet,
    Together,
    changed,
    changed_text,
    drawn_fields,
    drawn_rows,
    marks,
    together,
)
from app.web.draft_findings import pages_of, split
from app.web.draft_sheets import OF_THE_STUDY, Known, document, parts_of, sheet_of, words
from tests.factories import NOW

NOBODY = Known({})
AS_TEXT = {
    "code": "A field while the study is new; afterwards another code would be another study.",
    "visits.*.source": "Where a visit comes from is a remark for those who read the file.",
    "treatment.*.modules.*.items.*": "A question has the fields that it has on the page of an instrument.",
    "double_entry.before": "Where nothing is to wait, the file says so with an empty list.",
}
"""What study.yaml may hold and no page has a field for (`*` is any entry of a list), each with the reason."""


def _files(folder: Path) -> dict[str, str]:
    found = sorted(each for each in folder.rglob("*") if each.is_file())
    return {each.relative_to(folder).as_posix(): each.read_bytes().decode() for each in found}


TRIALS = {folder.name: _files(folder) for folder in library()}


# Every field of the definition


def _part_in(annotation: Any) -> tuple[type[Part] | None, bool]:
    """The part that a field holds, and whether it is a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return annotation, False
    for inner in get_args(annotation):
        found, many = _part_in(inner)
        if found is not None:
            return found, many or getattr(annotation, "__origin__", None) is tuple
    return None, False


def _ways(model: type[Part], prefix: str = "") -> Iterator[str]:
    """The way to every value that a file of this model may hold; `*` is any entry of a list. Choices are one field."""
    for name, field in model.model_fields.items():
        part, many = _part_in(field.annotation)
        way = f"{prefix}{name}"
        if part is None or (part is Choice and name in ("choices", "levels")):
            yield way
        else:
            yield from _ways(part, f"{way}.*." if many else f"{way}.")


def _asked(sheet: Sheet) -> Iterator[str]:
    yield from (one.way for one in sheet.fields)
    for rows in sheet.lists:
        yield from _asked_in(rows, "")


def _asked_in(rows: Rows, prefix: str) -> Iterator[str]:
    way = f"{prefix}{rows.way}.*."
    yield from (f"{way}{one.way}" for one in rows.fields)
    for each in rows.inner:
        yield from _asked_in(each, way)


def _covers(reasoned: str, way: str) -> bool:
    return way == reasoned or (reasoned.endswith(".*") and way.startswith(f"{reasoned}."))


@pytest.mark.requirement("CON-10")
def test_every_value_of_study_yaml_has_a_field_or_a_reason_to_have_none():
    fields = [way for make in OF_THE_STUDY.values() for way in _asked(make(NOBODY))]
    assert len(fields) == len(set(fields)), "no value is on two pages"
    ways = set(_ways(StudyFile))
    own = set(fields) - {each for each in fields if each.startswith("treatment.*.modules.*.items.*.")}
    assert own <= ways, "a field of a value that no study has"
    lacking = {way for way in ways - set(fields) if not any(_covers(each, way) for each in AS_TEXT)}
    assert lacking == set(), "give it a field in app/web/draft_sheets.py, or a reason above"
    for reasoned, why in AS_TEXT.items():
        assert any(_covers(reasoned, way) for way in ways), f"{reasoned}: no study has it any more"
        assert reasoned not in fields
        assert why.endswith(".")


def test_words_in_another_language_and_the_head_of_a_consent_document_have_their_fields():
    of_words = set(_ways(StudyText)) - {
        "language",  # which the name of the file says
        "treatment.*.modules.*.items.*.checks.*.message",  # told by their order: edited as text
    }
    assert of_words == set(_asked(words(NOBODY)))
    assert set(_ways(ConsentDocument)) - {"text", "sha256"} == set(_asked(document(NOBODY)))
    assert set(Study.model_fields) - set(StudyFile.model_fields) == {"instruments", "consent_documents", "texts"}


def test_only_a_study_that_is_not_here_yet_has_its_code_as_a_field():
    assert "code" not in set(_asked(sheet_of("general", NOBODY)))
    assert "code" in set(_asked(sheet_of("general", Known({}, is_new=True))))


# Saving


def _form(sheet: Sheet, data: Any) -> dict[str, list[str]]:
    """What a browser sends of a page nobody has touched: boxes in the order of the page, lines ended its own way."""
    sent: dict[str, list[str]] = {}
    for line in _drawn(sheet, data):
        one, name = line["asked"], line["name"]
        if one.kind == CODES:
            sent[f"{NAME}there.{name.removeprefix(NAME)}"] = ["1"]
            offered = [code for code, _ in one.options]
            chosen = set(line["chosen"])
            sent[name] = [code for code in offered if code in chosen] + sorted(chosen - set(offered))
        elif one.kind in ("text", SELECT):
            assert "\n" not in line["text"], f"{name} would lose its lines"
            sent[name] = [line["text"]]
        else:
            sent[name] = [line["text"].replace("\n", "\r\n")]
    return sent


def _drawn(sheet: Sheet, data: Any) -> Iterator[dict[str, Any]]:
    yield from drawn_fields(sheet.fields, data, "", {})
    for rows in sheet.lists:
        yield from _drawn_in(drawn_rows(rows, data, "", {}))


def _drawn_in(made: DrawnRows) -> Iterator[dict[str, Any]]:
    for row in made.drawn:
        assert isinstance(row, Drawn)
        yield from row.fields
        for each in row.inner:
            yield from _drawn_in(each)


PAGES = [(trial, part) for trial, files in TRIALS.items() for part in parts_of(files)]


@pytest.mark.parametrize(("trial", "part"), PAGES)
def test_a_page_that_is_saved_as_it_is_changes_no_byte(trial: str, part: str):
    files = TRIALS[trial]
    path = parts_of(files)[part]
    before, head, behind = split(path, files[path])
    assert before + head + behind == files[path]
    data = data_of(head)
    assert data is not None
    sheet = sheet_of(part, Known(files))
    assert changed_text(sheet, head, _form(sheet, data)) == head


def _typed(one: Asked, text: str) -> list[str]:
    """Something else for a field."""
    if one.kind == SELECT:
        return [next(code for code, _ in one.options if code not in ("", text))]
    if one.kind == CODES:
        offered = [code for code, _ in one.options]
        chosen = text.split("\n") if text else []
        return chosen[:-1] if chosen and set(offered) <= set(chosen) else [*chosen, *(set(offered) - set(chosen))][:9]
    if one.kind == CHOICES:
        return [f"{text}\nother = Something else".strip()]
    if one.kind == CHECKS:
        return [f"{text}\nsoft | 1 = 1 | Look again".strip()]
    return [f"{text}\nAnother line".strip() if one.kind == LINES else f"{text} 7".strip()]


def _flat(data: Any, way: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(data, dict | list):
        for key, each in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _flat(each, f"{way}{key}.")
    else:
        yield way, str(data)


@pytest.mark.parametrize(("trial", "part"), PAGES)
def test_what_is_typed_into_one_field_changes_that_alone(trial: str, part: str):
    files = TRIALS[trial]
    path = parts_of(files)[part]
    _, head, _ = split(path, files[path])
    data = data_of(head)
    sheet = sheet_of(part, Known(files))
    untouched = _form(sheet, data)
    tried: set[str] = set()
    for line in _drawn(sheet, data):
        one, name = line["asked"], line["name"]
        way = name.removeprefix(NAME)
        kind = re.sub(r"\.\d+(?=\.)", "", way)
        if kind in tried or (one.kind in (SELECT, CODES) and not [code for code, _ in one.options if code]):
            continue
        tried.add(kind)
        text = changed_text(sheet, head, {**untouched, name: _typed(one, line["text"])})
        changed = set(_flat(data)) ^ set(_flat(data_of(text)))
        assert changed, f"{name} was not changed"
        assert all(each.startswith(f"{way}.") for each, _ in changed), (name, changed)
        comments = [each for each in head.splitlines() if each.lstrip().startswith("#")]
        assert [each for each in text.splitlines() if each.lstrip().startswith("#")] == comments


def _lists(made: DrawnRows) -> Iterator[DrawnRows]:
    """A list, and those within its first row."""
    yield made
    for row in made.drawn[:1]:
        for each in row.inner:
            yield from _lists(each)


@pytest.mark.parametrize("trial", ["resolve", "etmi"])
def test_a_row_that_is_added_to_a_list_reads_and_is_taken_out_again(trial: str):
    files = TRIALS[trial]
    study = [part for part, path in parts_of(files).items() if path == "study.yaml"]
    for part in study:
        text, sheet = files["study.yaml"], sheet_of(part, Known(files))
        for made in [each for rows in sheet.lists for each in _lists(drawn_rows(rows, data_of(text), "", {}))]:
            added = changed(sheet, text, {}, f"add:{made.way}")
            assert added.at == f"{made.way}.{len(made.drawn or made.rows.usual)}"
            _, findings = checked({**files, "study.yaml": added.text})
            # What stands beside a list of rows, and not in them, is said to be missing at its field.
            wrong = ("is not a key here", "is missing") if part not in ("stage", "groups") else ("is not a key here",)
            assert not [each for each in findings if any(said in each.message for said in wrong)], made.way
            out = changed(sheet, added.text, {}, f"remove:{added.at}").text
            if not made.rows.usual or made.drawn:
                assert out == text if made.drawn else data_of(out) == data_of(text), made.way


def test_what_holds_unless_said_otherwise_is_written_down_before_one_is_added():
    files = TRIALS["resolve"]
    sheet = sheet_of("safety", Known(files))
    for way in ("safety.severity", "safety.relatedness", "safety.deviations"):
        text = changed_text(sheet, files["study.yaml"], {}, f"add:{way}")
        study, findings = checked({**files, "study.yaml": text})
        assert study is not None, findings
        told = getattr(study.safety, way.partition(".")[2])
        usual = type(study.safety).model_fields[way.partition(".")[2]].default
        assert told[:-1] == usual
        assert len(told) == len(usual) + 1


def test_an_entry_of_a_list_keeps_how_the_others_are_written():
    sheet = Sheet("Mine", (Asked("choices", "Choices", CHOICES), Asked("sources", "Sources", LINES)))
    choices = "choices:\n  # the first\n  - code: a\n    label: A\n  - {code: b, label: B}\n"
    text = f"{choices}sources:\n  - One\n  - Two # why\n"
    form = {f"{NAME}choices": ["a = A\nb = Other\nc = C"], f"{NAME}sources": ["Two"]}
    assert changed_text(sheet, text, form) == (
        "choices:\n  # the first\n  - code: a\n    label: A\n  - {code: b, label: Other}\n  - {code: c, label: C}\n"
        "sources:\n  - Two # why\n"
    )
    ticked = Sheet("Mine", (Asked("forms", "Forms", CODES, (("a", "A"), ("b", "B"), ("c", "C"))),))
    sent = {f"{NAME}there.forms": ["1"], f"{NAME}forms": ["a", "b", "c"]}
    assert changed_text(ticked, "forms: [c, a] # ours\n", sent) == "forms: [c, a, b] # ours\n"


# Findings


def _at(files: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Message -> the page and the field that it leads to."""
    known = Known(files)
    sheets = [(part, path, sheet_of(part, known)) for part, path in parts_of(files).items()]
    _, findings = checked(files)
    return {each.message: (at.part, at.name) for each, at in pages_of(sheets, files, findings).items()}


@pytest.mark.parametrize(
    ("path", "old", "new", "at"),
    [
        ("study.yaml", "target: 276", "target: none", ("general", "v.target")),
        ("study.yaml", "target: 276\n", "", ("general", "v.target")),
        ("study.yaml", "planned: 138}", "planned: many}", ("arms", "v.arms.0.planned")),
        ("study.yaml", "label: Sham procedure, ", "", ("arms", "v.arms.1.label")),
        ("study.yaml", "  instrument: screening_form\n", "", ("eligibility", "v.eligibility.instrument")),
        ("study.yaml", "window: {before: 0, after: 28}", "window: {after: 28}", ("visits", "v.visits.0.window.before")),
        ("study.yaml", "[age] >= 18 and", "[agee] >= 18 and", ("eligibility", "v.eligibility.criteria.0.rule")),
        ("study.yaml", "item: blind_guess", "item: nope", ("guesses", "v.blinding_assessment.0.item")),
        ("study.yaml", "stops_treatment: true", "stops_treatment: often", ("missing", "")),
        ("study.de.yaml", "code: ND", "code: XX", ("words.de", "")),
    ],
)
def test_a_finding_leads_to_its_field(path: str, old: str, new: str, at: tuple[str, str]):
    files = TRIALS["resolve"]
    assert old in files[path]
    found = _at({**files, path: files[path].replace(old, new, 1)})
    assert any(part == at[0] and name.startswith(at[1]) for part, name in found.values()), found


def test_a_finding_in_the_head_of_a_consent_document_leads_to_its_field():
    path = next(each for each in TRIALS["resolve"] if each.startswith("consent/"))
    text = re.sub(r"valid_from: .*", "valid_from: soon", TRIALS["resolve"][path], count=1)
    found = _at({**TRIALS["resolve"], path: text})
    assert (f"document.{path[8:-3]}", "v.valid_from") in found.values()


def test_whatever_is_to_be_decided_after_an_import_leads_to_a_page_of_fields():
    """Nobody who has no YAML is sent to the text for what a page has fields for."""
    made = convert(
        b"field_name,form_name,field_type,field_label\nid,a,text,ID\nb,a,text,B\n", name="d.csv", on=NOW.date()
    )
    found = _at(made.texts)
    pages = {message: part for message, (part, _) in found.items()}
    for said, part in (
        ("how participants get an arm", "arms"),
        ("no eligibility criteria", "eligibility"),
        ("when visits are due", "visits"),
        ("names no site", "general"),
        ("`withdrawal_levels:`", "missing"),
    ):
        assert [pages[each] for each in pages if said in each] == [part], (said, pages)


def test_a_time_that_is_none_is_said_in_words():
    files = TRIALS["resolve"]
    said = "schedule: {quiet_from: nine}\n"
    _, findings = checked({**files, "study.yaml": files["study.yaml"] + said})
    assert [each.message for each in findings if each.is_error] == [
        "`quiet_from` cannot be “nine”. Write a time of day such as 09:00."
    ]


@pytest.mark.parametrize(("trial", "part"), PAGES)
def test_of_two_who_save_a_page_each_keeps_what_they_alone_changed(trial: str, part: str):
    files = TRIALS[trial]
    path = parts_of(files)[part]
    _, head, _ = split(path, files[path])
    sheet = sheet_of(part, Known(files))
    data = data_of(head)
    untouched, opened = _form(sheet, data), marks(sheet, data)
    assert together(sheet, head, untouched, opened) == Together({}, {}, fits=True)
    names = re.compile(r".*\.(?:code|name|label|title)$")
    lines = [line for line in _drawn(sheet, data) if line["asked"].kind == "text" and not names.match(line["name"])]
    if len(lines) < 2:
        return
    first, last = lines[0], lines[-1]
    theirs = changed_text(sheet, head, {**untouched, first["name"]: _typed(first["asked"], first["text"])})
    mine = {**untouched, last["name"]: _typed(last["asked"], last["text"])}
    found = together(sheet, theirs, mine, opened)
    assert (found.fits, found.both, list(found.form)) == (True, {}, [last["name"]])
    both = changed_text(sheet, theirs, found.form)
    assert both == changed_text(sheet, head, {**mine, first["name"]: _typed(first["asked"], first["text"])})
    same = {**untouched, first["name"]: ["Mine"]}
    assert list(together(sheet, theirs, same, opened).both) == [first["name"]]
