"""Instruments in other languages, and in the wording that an installation has a licence for."""

import json
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlmodel import Session

from app.audit.actions import ENTRY as LOG
from app.foundation.errors import NotAllowed, Refused
from app.studies.actions import WORDED, load_wording
from app.studies.definition import InstrumentText
from app.studies.drafts.folder import files_of
from app.studies.loading import read_folder, read_wording
from app.studies.reads import as_read
from app.studies.rules import canonical
from app.studies.rules.amending import differences
from app.studies.texts import consent_in, in_language, missing_codes_in
from tests.factories import NOW, mini_study, person
from tests.studies.folders import WHOLE, write

GERMAN = """\
label: Fragebogen
sections: [Antworten, Werte]
items:
  - {code: nrs, label: Schmerz, low_label: keiner}
  - code: side
    label: Seite
    choices:
      - {code: left, label: links}
      - {code: right, label: rechts}
"""
DE = "instruments/form.de.yaml"
WRONG = [
    ("code: nrs", "code: nsr", [(4, 12, "error: form has no item “nsr”. Correct the code, or take it out.")]),
    ("code: left", "code: lift", [(8, 16, "error: side has no choice “lift”."), (8, 7, "warning: side: no words")]),
    ("sections: [Antworten, Werte]", "sections: [Antworten]", [(2, 11, "error: form has 2 sections.")]),
    ("label: Seite", "labels: Seite", [(6, 5, "error: `labels` is not a key here. Did you mean `label`?")]),
    ("label: Frage", "language: fr\nlabel: Frage", [(1, 1, "error: The name of the file says the language.")]),
    ("label: Seite", "label: Dummy", [(6, 12, "error: ")]),
]


def test_an_instrument_is_read_in_the_language_of_the_reader(tmp_path: Path):
    study, findings = read_folder(write(tmp_path, {**WHOLE, DE: GERMAN}))
    assert study is not None, findings
    assert findings == []
    form = study.instrument("form")
    assert form is not None
    german = in_language(form, "de-CH")
    assert [item.label for item in german.items][:4] == ["Schmerz", "Seite", "Places", "Why"]
    assert [section.label for section in german.sections] == ["Antworten", "Werte"]
    assert [choice.label for choice in german.items[1].choices] == ["links", "rechts"]
    assert german.items[1].choices[0].code == "left"
    assert german is in_language(form, "de-CH")
    assert in_language(form, "fr") is form
    assert form.items[0].label == "Pain"
    # Words are a part of what was loaded; without any, a study is what it was.
    plain, _ = read_folder(write(tmp_path / "plain", WHOLE))
    assert plain is not None
    assert "texts" not in canonical(plain)
    assert canonical(plain) != canonical(study)


@pytest.mark.parametrize(("old", "new", "expected"), WRONG)
def test_words_that_do_not_fit_are_said_with_file_and_line(tmp_path, old, new, expected):
    assert GERMAN.count(old) == 1
    _, findings = read_folder(write(tmp_path, {**WHOLE, DE: GERMAN.replace(old, new)}))
    found = [(each.line, each.column, f"{each.severity}: {each.message}") for each in findings]
    assert {each.file for each in findings} == {DE}
    assert len(found) == len(expected)
    for (line, column, message), (at_line, at_column, begins) in zip(sorted(found), sorted(expected), strict=True):
        assert ((line, column), message[: len(begins)]) == ((at_line, at_column), begins)


def test_words_of_no_instrument_or_in_the_studys_own_language_are_refused(tmp_path: Path):
    files = {**WHOLE, "instruments/other.de.yaml": "label: x\n", "instruments/form.en.yaml": "label: Same\n"}
    _, findings = read_folder(write(tmp_path, files))
    assert [(each.file, each.message.partition(".")[0]) for each in findings] == [
        ("instruments/form.en.yaml", "form has words in en already"),
        ("instruments/other.de.yaml", "There is no instrument other"),
    ]


@pytest.mark.requirement("P11-e1")
def test_a_licensed_wording_lies_over_the_study_and_is_no_part_of_it(session: Session, tmp_path: Path):
    study = mini_study(session)
    by = person(session, study, "administrator")
    form = study.definition.instrument("pain")
    assert form is not None
    folder = write(tmp_path, {"pain.en.yaml": "items: [{code: pain_nrs, label: How bad was it?}]\n"})
    found, findings = read_wording(folder, study.definition)
    assert findings == []
    with pytest.raises(NotAllowed):
        load_wording(session, study, found, by=person(session, study, "data_manager"), now=NOW)
    assert load_wording(session, study, found, by=by, now=NOW) == 1
    assert load_wording(session, study, found, by=by, now=NOW) == 0
    assert as_read(session, study.id, form, "en", own="en").items[0].label == "How bad was it?"
    assert as_read(session, study.id, form, "de", own="en").items[0].label == "How bad was it?"  # there is no other
    assert form.items[0].label == "Pain, past week"  # what the codebook says
    assert load_wording(session, study, [], by=by, now=NOW) == 1
    assert as_read(session, study.id, form, "en", own="en") is form
    told = session.execute(select(LOG.c.subject, LOG.c.old, LOG.c.new).where(LOG.c.action == WORDED)).all()
    assert [(row.subject, row.old is None, row.new is None) for row in told] == [
        ("wording/pain/en", True, False),
        ("wording/pain/en", False, True),
    ]
    telling = InstrumentText.model_validate({"language": "en", "items": [{"code": "pain_nrs", "label": "The sham"}]})
    with pytest.raises(Refused, match="name an arm"):
        load_wording(session, study, [("pain", telling, "0" * 64)], by=by, now=NOW)
    stray = write(tmp_path / "stray", {"nothing.en.yaml": "label: x\n", "pain.yaml": "label: x\n"})
    _, findings = read_wording(stray, study.definition)
    assert [each.file for each in findings] == ["nothing.en.yaml", "pain.yaml"]


STUDY_DE = "study.de.yaml"
ASKING = (
    WHOLE["study.yaml"]
    + """\
consent:
  optional: [{code: contact, label: Later contact}]
  questions:
    - code: stop
      label: When may you stop?
      choices: [{code: never, label: Never}, {code: now, label: Now}]
      right: now
"""
)
WORDS = """\
consent:
  optional: [{code: contact, label: Späterer Kontakt}]
  questions:
    - code: stop
      label: Wann dürfen Sie aufhören?
      choices: [{code: never, label: Nie}, {code: now, label: Jetzt}]
missing_codes: [{code: ND, label: Nicht erhoben}]
"""


def test_what_a_participant_reads_of_the_study_is_read_in_their_language(tmp_path: Path):
    study, findings = read_folder(write(tmp_path, {**WHOLE, "study.yaml": ASKING, STUDY_DE: WORDS}))
    assert study is not None, findings
    assert findings == []
    german = consent_in(study, "de-CH")
    assert [choice.label for choice in german.optional] == ["Späterer Kontakt"]
    (question,) = german.questions
    assert (question.label, question.right) == ("Wann dürfen Sie aufhören?", "now")
    assert [choice.label for choice in question.choices] == ["Nie", "Jetzt"]
    assert [each.label for each in missing_codes_in(study, "de")] == ["Nicht erhoben"]
    assert consent_in(study, "fr") == study.consent
    assert missing_codes_in(study, "fr") == study.missing_codes
    # A draft of it is the very same study; without such words a study is what it was.
    again, _ = read_folder(write(tmp_path / "again", files_of(study)))
    assert again == study
    plain, _ = read_folder(write(tmp_path / "plain", {**WHOLE, "study.yaml": ASKING}))
    assert plain is not None
    assert json.loads(canonical(plain)).keys() == json.loads(canonical(study)).keys() - {"texts"}
    (changed,) = differences(plain, study)
    assert changed.text.startswith("Words in another language")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("code: stop", "code: stap", "There is no question about the consent document “stap”. There are: stop."),
        ("code: never", "code: nver", "There is no stop: choice “nver”. There are: never, now."),
        ("code: contact", "code: contract", "There is no optional consent “contract”. There are: contact."),
        ("code: ND", "code: XX", "There is no missing code “XX”. There are: ND."),
        ("label: Nie}", "label: dummy}", "Blinded people read"),
    ],
)
def test_words_of_the_study_that_do_not_fit_are_errors_with_their_line(tmp_path: Path, old: str, new: str, said: str):
    assert WORDS.count(old) == 1
    _, findings = read_folder(write(tmp_path, {**WHOLE, "study.yaml": ASKING, STUDY_DE: WORDS.replace(old, new)}))
    lines = [n for n, line in enumerate(WORDS.replace(old, new).splitlines(), 1) if new in line]
    assert {each.file for each in findings} == {STUDY_DE}
    assert [(each.line, each.message[: len(said)]) for each in findings if each.is_error] == [(lines[0], said)]
