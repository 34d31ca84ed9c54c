"""Whole parts of a folder are exchanged: it is a study still, and what was not exchanged says what it said."""

from pathlib import Path

import pytest

from app.studies.definition import Study
from app.studies.drafts import designing
from app.studies.drafts.designing import Planned
from app.studies.drafts.folder import checked
from app.studies.loading import library


def files_in(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.suffix in (".yaml", ".md", ".csv"))
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in found}


def study_of(files: dict[str, str]) -> Study:
    study, findings = checked(files)
    assert study is not None, [finding.message for finding in findings if finding.is_error]
    return study


@pytest.mark.parametrize("folder", library(), ids=lambda folder: folder.name)
def test_what_is_exchanged_for_itself_stays_the_same(folder: Path):
    files = files_in(folder)
    before = study_of(files)
    planned = [Planned(v.code, v.label, v.day, v.window.before, v.window.after) for v in before.visits]
    outside = before.unscheduled.instruments if before.unscheduled else ()
    repeating = [form.code for form in before.instruments if form.repeats]
    instruments = {path: text for path, text in files.items() if designing.code_of(path) is not None}
    for after in (
        designing.with_visits(files, planned, replace=True),
        designing.with_forms(files, {visit.code: visit.instruments for visit in before.visits}, outside),
        designing.with_repeats(files, repeating),
        designing.without_visits(files, []),
        designing.with_instruments(files, instruments),
        designing.with_said(files, title=before.title),
    ):
        again = study_of(after)
        assert (again.visits, again.instruments, again.unscheduled) == (
            before.visits,
            before.instruments,
            before.unscheduled,
        )
        assert again.arms == before.arms


@pytest.mark.parametrize(
    ("day", "place"),
    [(-5, "first"), (1, "second"), (40, "last"), (None, "last")],
    ids=["first", "second", "40", "none"],
)
def test_a_new_visit_stands_where_its_day_puts_it(day: int | None, place: str):
    kinds = "kind: assessment, anchor: consent, window: {before: 0, after: 0}"
    text = f"visits:\n- {{code: a, day: 0, {kinds}}}\n- {{code: b, day: 30, {kinds}}}\n"
    made = designing.with_visits({"study.yaml": text}, [Planned(None, "New one", day)], replace=False)
    codes = [visit["code"] for visit in designing.said(made)["visits"]]
    assert codes.index("new_one") == {"first": 0, "second": 1, "last": 2}[place]
    gone = designing.with_visits(made, [Planned("b", "Later")], replace=True)
    assert [visit["label"] for visit in designing.said(gone)["visits"]] == ["Later"]


def test_an_instrument_that_goes_is_asked_nowhere_and_a_new_one_at_the_first_visit():
    folder = next(folder for folder in library() if folder.name == "etmi")
    files = files_in(folder)
    before = study_of(files)
    gone = next(form.code for form in before.instruments if form.code in before.visits[-1].instruments)
    forms = {path: text for path, text in files.items() if designing.code_of(path) not in (None, gone)}
    new = (
        "code: added\nlabel: Added\nsource: test\nsections:\n- items:\n  - {code: added_one, label: One, type: text}\n"
    )
    made = designing.with_instruments(files, {**forms, "instruments/added.yaml": new}, record_id="subject_id")
    said = designing.said(made)
    assert all(gone not in visit["instruments"] for visit in said["visits"])
    assert "added" in said["visits"][0]["instruments"]
    assert (said["record_id"], f"instruments/{gone}.yaml" in made) == ("subject_id", False)
