"""A guess of the arm is declared as data: what is wrong with it is said at its line, and it gives no arm away."""

from pathlib import Path

import pytest

from app.studies.definition import Study
from app.studies.loading import LIBRARY, read_folder
from app.studies.rules import canonical, diff, fingerprint, problems
from tests.studies.folders import WHOLE, write

FORM = """\
code: belief
label: Belief
source: Ours.
sections:
  - items:
      - code: guess
        label: Which one
        type: choice
        choices:
          - {code: real, label: The one under test}
          - {code: other, label: The one for comparison}
          - {code: unsure, label: Does not know}
      - code: sure
        label: How sure
        type: choice
        choices:
          - {code: very, label: Very}
          - {code: rather, label: Rather}
      - {code: number, label: How sure in figures, type: scale, min: 0, max: 10}
      - {code: said, label: Why, type: text, required: false}
"""
DECLARED = """\
blinding_assessment:
  - code: own
    label: Own guess
    by: participant
    visit: week6
    item: guess
    answers:
      - {choice: real, arms: [active]}
      - {choice: other, arms: [dummy]}
    do_not_know: [unsure]
    confidence: {item: sure, certain: [very]}
"""


def folder(path: Path, *edits: tuple[str, str], form: str = FORM) -> Path:
    """The whole folder with a guess at week 6, and its declaration changed."""
    declared = DECLARED
    for old, new in edits:
        assert declared.count(old) == 1, old
        declared = declared.replace(old, new)
    study = WHOLE["study.yaml"]
    week6 = study.index("code: week6")
    study = study[:week6] + study[week6:].replace("instruments: [form]", "instruments: [form, belief]", 1)
    return write(path, {**WHOLE, "study.yaml": study + declared, "instruments/belief.yaml": form})


def test_a_guess_is_read_and_nothing_is_wrong_with_it(tmp_path):
    study, findings = read_folder(folder(tmp_path))
    assert findings == []
    assert study is not None
    (guess,) = study.blinding_assessment
    assert [(answer.choice, answer.arms) for answer in guess.answers] == [("real", ("active",)), ("other", ("dummy",))]
    found = study.asked_at("week6", "guess")
    assert found is not None
    assert (found[0].code, found[1].code) == ("belief", "guess")
    assert study.asked_at("baseline", "guess") is None
    assert study.asked_at("nowhere", "guess") is None


@pytest.mark.parametrize(
    ("old", "new", "at", "words"),
    [
        ("visit: week6", "visit: week7", "visit: week7", "There is no visit “week7”. Did you mean week6?"),
        ("visit: week6", "visit: baseline", "visit: baseline", "before randomisation"),
        ("item: guess\n", "item: gues\n", "item: gues", "Did you mean guess?"),
        ("item: guess\n", "item: said\n", "item: said", "A guess is of type `choice`"),
        ("choice: real", "choice: rael", "choice: rael", "no choice “rael”. Did you mean real?"),
        ("choice: other", "choice: real", "choice: real, arms: [dummy]", "named twice"),
        ("[unsure]", "[]", "answers:", "Nothing says what unsure means"),
        ("[unsure]", "[unsure, real]", "do_not_know:", "named twice"),
        ("arms: [active]", "arms: [activ]", "arms: [activ]", "There is no arm “activ”. Did you mean active?"),
        ("arms: [dummy]", "arms: [active]", "arms: [active]}\n    do", "the arm of “real” already"),
        ("arms: [active]", "arms: [dummy]", "answers:", "No answer is right for active"),
        ("item: sure", "item: shure", "confidence:", "Did you mean sure?"),
        ("item: sure", "item: guess", "confidence:", "is the guess itself"),
        ("certain: [very]", "certain: [vary]", "confidence:", "no choice “vary”"),
        ("certain: [very]", "certain: [very, rather]", "confidence:", "which of its choices mean certain"),
        (", certain: [very]", "", "confidence:", "which of its choices mean certain"),
        ("certain: [very]", "certain_from: 3", "confidence:", "list those that mean certain"),
        ("item: sure", "item: number", "confidence:", "write `certain_from:` instead"),
        ("item: sure, certain: [very]", "item: number", "confidence:", "from which on it means certain"),
        ("item: sure, certain: [very]", "item: said", "confidence:", "Use a choice, a scale or a number"),
    ],
)
def test_what_is_wrong_with_a_guess_is_said_at_its_line(tmp_path, old: str, new: str, at: str, words: str):
    path = folder(tmp_path, (old, new))
    study, findings = read_folder(path)
    text = (path / "study.yaml").read_text()
    beginning = text.index(at, text.index("blinding_assessment:"))
    line = text[:beginning].count("\n") + 1
    found = [finding for finding in findings if words in finding.message]
    assert found, [str(finding) for finding in findings]
    assert found[0].file == "study.yaml"
    assert abs(found[0].line - line) <= 1  # a list that is lacking something has its place at its first entry
    assert (study is None) == any(finding.is_error for finding in findings)


def test_a_number_may_say_how_sure(tmp_path):
    _, findings = read_folder(folder(tmp_path, ("item: sure, certain: [very]", "item: number, certain_from: 8")))
    assert findings == []


def test_everybody_may_decline_to_guess(tmp_path):
    form = FORM.replace("          - {code: unsure, label: Does not know}\n", "")
    study, findings = read_folder(folder(tmp_path, ("    do_not_know: [unsure]\n", ""), form=form))
    assert study is not None
    assert [finding.message for finding in findings if "do not know" in finding.message]
    assert not [finding for finding in findings if finding.is_error]


def test_two_guesses_have_two_codes(tmp_path):
    path = folder(tmp_path)
    again = DECLARED.partition("\n")[2]
    (path / "study.yaml").write_text((path / "study.yaml").read_text() + again)
    assert any("There are two guesses “own”" in finding.message for finding in read_folder(path)[1])


def test_where_nobody_is_allocated_or_blinded_there_is_nothing_to_guess(tmp_path):
    study, _ = read_folder(folder(tmp_path))
    assert study is not None
    open_label = study.model_copy(update={"blinded": False})
    assert [finding.message for finding in problems(open_label) if "not blinded" in finding.message]
    observed = study.model_copy(
        update={"allocation": study.allocation.model_copy(update={"method": "observed", "strata": ()})}
    )
    assert [finding.message for finding in problems(observed) if "no arm to guess" in finding.message]


# Blinding


@pytest.mark.requirement("E6-1", "E6-3")
def test_a_guess_may_offer_the_arms_by_their_labels_and_nothing_else_may(tmp_path):
    offered = FORM.replace("The one under test", "Real stimulation").replace(
        "The one for comparison", "Pretended stimulation"
    )
    _, findings = read_folder(folder(tmp_path / "a", form=offered))
    assert findings == []
    _, findings = read_folder(
        folder(tmp_path / "b", form=offered.replace("label: How sure\n", "label: Real stimulation\n"))
    )
    assert ["Real stimulation" in finding.message for finding in findings] == [True]


@pytest.mark.requirement("E6-1", "E6-3")
def test_no_code_of_an_arm_stands_in_the_form_that_everybody_fills_in(tmp_path):
    leaking = FORM.replace("code: other", "code: dummy")
    _, findings = read_folder(folder(tmp_path, ("choice: other", "choice: dummy"), form=leaking))
    assert any("contains the arm code “dummy”" in finding.message and finding.is_error for finding in findings)


@pytest.mark.requirement("CONC-16")
def test_resolve_asks_everybody_the_same_and_says_that_it_is_our_choice():
    study, findings = read_folder(LIBRARY / "resolve")
    assert findings == []
    assert study is not None
    assert [(guess.by, guess.visit) for guess in study.blinding_assessment] == [
        ("participant", "week52"),
        ("assessor", "week52"),
    ]
    assert any("How blinding was assessed" in words for words in study.not_known)


# Versions that were loaded before


def test_a_study_that_says_nothing_of_guesses_keeps_its_fingerprint(tmp_path):
    plain, _ = read_folder(write(tmp_path / "plain", WHOLE))
    asking, _ = read_folder(folder(tmp_path / "asking"))
    assert plain is not None
    assert asking is not None
    assert "blinding_assessment" not in canonical(plain)
    assert '"timezone":"UTC"}' in canonical(plain), "nor of targets of sites"
    assert fingerprint(plain) == "bac226ae9317ab8036fe83bcbf37a69e4ab03f36e9a76b4d37aec8a92ddc7e90"
    assert "blinding_assessment" in canonical(asking)
    assert fingerprint(asking) != fingerprint(plain)
    assert Study.model_validate_json(canonical(asking)).blinding_assessment == asking.blinding_assessment
    assert "blinding_assessment own: added." in diff(plain, asking)
