"""One fingerprint per content, changes in words, dates from the anchor."""

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from app.studies.definition import Study, Visit, VisitKind, Window
from app.studies.loading import read_folder
from app.studies.rules import canonical, diff, fingerprint, planned_dates, problems
from tests.studies.folders import CONSENT, WHOLE, broken, write

SICK = "      - {code: sick, label: Sick, type: yes_no}\n"


def small(tmp_path, *edits) -> Study:
    study, findings = read_folder(write(tmp_path, broken(*edits)))
    assert study is not None, findings
    return study


def test_the_fingerprint_is_stable(tmp_path):
    """Changed only on purpose: whoever changes it must know that loaded versions still compare as equal."""
    assert fingerprint(small(tmp_path)) == "bac226ae9317ab8036fe83bcbf37a69e4ab03f36e9a76b4d37aec8a92ddc7e90"


def test_comments_order_of_keys_and_quotes_do_not_change_the_fingerprint(tmp_path):
    first = small(tmp_path / "a")
    second = small(
        tmp_path / "b",
        ("study.yaml", "target: 40\n", ""),
        ("study.yaml", "code: small\n", "# a comment\ntarget: '40'\ncode: \"small\"\n"),
    )
    assert fingerprint(first) == fingerprint(second)


def test_every_change_of_content_changes_the_fingerprint(tmp_path):
    first = small(tmp_path / "a")
    second = small(tmp_path / "b", ("instruments/form.yaml", "label: Places", "label: Spots"))
    third, _ = read_folder(write(tmp_path / "c", {**WHOLE, "consent/v1.en.md": CONSENT + "More.\n"}))
    assert third is not None
    assert len({fingerprint(first), fingerprint(second), fingerprint(third)}) == 3


def test_the_canonical_form_is_read_back_as_the_same_study(tmp_path):
    study = small(tmp_path)
    again = Study.model_validate_json(canonical(study))
    assert again == Study.model_validate(study.model_dump())
    assert problems(again) == []


def test_a_study_does_not_differ_from_itself(tmp_path):
    assert diff(small(tmp_path), small(tmp_path)) == []


def test_an_amendment_is_told_in_words(tmp_path):
    old = small(tmp_path / "a")
    new = small(
        tmp_path / "b",
        ("study.yaml", "target: 40", "target: 60"),
        ("study.yaml", "Real stimulation, planned: 20", "Real stimulation, planned: 30"),
        ("study.yaml", "Pretended stimulation, planned: 20", "Pretended stimulation, planned: 30"),
        ("study.yaml", "{before: 7, after: 7}", "{before: 7, after: 14}"),
        ("instruments/form.yaml", "{code: nrs, label: Pain,", "{code: nrs, label: Pain now,"),
        ("instruments/screening_form.yaml", "      - {code: ill,", f"{SICK}      - {{code: ill,"),
    )
    assert diff(old, new) == [
        "target: was “40”, is now “60”.",
        "arms active, planned: was “20”, is now “30”.",
        "arms dummy, planned: was “20”, is now “30”.",
        "visits week6, window, after: was “7”, is now “14”.",
        "instruments form, sections Answers, items nrs, label: was “Pain”, is now “Pain now”.",
        "instruments screening_form, sections 1, items sick: added.",
    ]
    assert diff(new, old)[-1] == "instruments screening_form, sections 1, items sick: removed."


def test_moved_visits_and_emptied_values_are_told(tmp_path):
    old = small(tmp_path)
    moved = old.model_copy(update={"sites": tuple(reversed(old.sites)), "sponsor": "Us"})
    assert diff(old, moved) == [
        "sponsor: was empty, is now “Us”.",
        "sites: the order was north, south, is now south, north.",
    ]


@given(
    day=st.integers(-400, 4000),
    before=st.integers(0, 400),
    after=st.integers(0, 400),
    anchor=st.dates(date(1990, 1, 1), date(2100, 1, 1)),
)
def test_a_window_opens_before_and_closes_after_its_target(day, before, after, anchor):
    visit = Visit(code="v", label="V", kind=VisitKind.ASSESSMENT, day=day, window=Window(before=before, after=after))
    target, opens, closes = planned_dates(visit, anchor)
    assert (target - anchor).days == day
    assert (target - opens).days == before
    assert (closes - target).days == after


def test_week_18_is_126_days_after_randomisation():
    visit = Visit(code="w18", label="W18", kind=VisitKind.ASSESSMENT, day=126, window=Window(before=14, after=14))
    assert planned_dates(visit, date(2016, 2, 1)) == (date(2016, 6, 6), date(2016, 5, 23), date(2016, 6, 20))
