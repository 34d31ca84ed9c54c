"""Instruments in other languages, and in the wording that an installation has a licence for."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from sqlalchemy import select
from sqlmodel import Session

from app.audit.actions import ENTRY as LOG
from app.foundation.errors import NotAllowed, Refused
from app.studies.actions import WORDED, load_wording
from app.studies.definition import Instrument, InstrumentText, Part, StudyFile, StudyText
from app.studies.drafts.folder import files_of
from app.studies.loading import library, read_folder, read_wording
from app.studies.reads import as_read
from app.studies.rules import canonical
from app.studies.rules.amending import differences
from app.studies.texts import consent_in, in_language, study_in
from tests.factories import NOW, mini_study, person
from tests.studies.folders import WHOLE, write
from tests.studies.marked import part_in, with_marked_words

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
    words = select(LOG.c.subject, LOG.c.old, LOG.c.new).where(LOG.c.action == WORDED)
    told = session.execute(words.order_by(LOG.c.position)).all()
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
    assert [each.label for each in study_in(study, "de").missing_codes] == ["Nicht erhoben"]
    assert consent_in(study, "fr") == study.consent
    assert study_in(study, "fr") is study
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


# Every word of a study


NOT_WORDED = {
    "short_title": "The name of the study, in files and mails as on pages.",
    "sponsor": "A name.",
    "language": "A code.",
    "registrations.*": "Names and numbers of a registry.",
    "sites.*": "Names of places.",
    "allocation.source": "Where something is documented.",
    "visits.*.source": "Where something is documented.",
    "safety.expected_source": "Where something is documented.",
    "blinding_assessment.*.source": "Where something is documented.",
    "dictionaries.*.source": "Where something is documented.",
    "dictionaries.*.licence": "Words of others.",
    "dictionaries.*.terms.*": "A dictionary is coded with in its own language: another one is another dictionary.",
    "amendments.*": "What was filed, as it was filed.",
    "sources": "Where something is documented.",
    "not_known": "For whoever sets the study up.",
    "placeholders.*": "For whoever sets the study up.",
    "schedule.reminders.*.texts.*": "They have a language of their own.",
    "source": "Where something is documented.",
    "licence": "Words of others.",
    "texts.*": "They are the words.",
}
"""What is text in a definition and has no words in other languages (`*`: whatever lies there), each with its reason."""
EXPRESSIONS = frozenset({"rule", "expression", "calculation", "shown_if"})


def _texts_of(kind: type[Part], prefix: str = "") -> Iterator[str]:
    """The ways to what is text in a part: no code, no expression, no choice among words of ours."""
    for name, field in kind.model_fields.items():
        part, many = part_in(field.annotation)
        way = f"{prefix}{name}"
        if part is not None:
            yield from _texts_of(part, f"{way}.*." if many else f"{way}.")
        elif name in EXPRESSIONS:
            continue
        elif _is_text(field.annotation) and not any(getattr(each, "pattern", None) for each in field.metadata):
            yield way


def _is_text(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        kind, *more = get_args(annotation)
        return kind is str and not any(getattr(each, "pattern", None) for each in more)
    inner = get_args(annotation)
    if get_origin(annotation) is Literal:
        return False
    return annotation is str or any(_is_text(each) for each in inner)


def _has_words(way: str, worded: Collection[str]) -> bool:
    return way in worded or any(
        way == each or (each.endswith(".*") and way.startswith(f"{each[:-1]}"))
        for each, why in NOT_WORDED.items()
        if why
    )


def test_every_word_of_a_definition_can_be_said_in_another_language_or_has_a_reason_not_to():
    of_study = {*_texts_of(StudyText)}
    lacking = [way for way in _texts_of(StudyFile) if not _has_words(way, of_study)]
    of_form = {way.replace("items.*", "sections.*.items.*") for way in _texts_of(InstrumentText)}
    of_form = (of_form - {"sections"}) | {"sections.*.label"}  # headings are told by their order
    lacking += [f"instrument: {way}" for way in _texts_of(Instrument) if not _has_words(way, of_form)]
    assert lacking == []
    said = {*_texts_of(StudyFile)}
    every = {*said, *_texts_of(Instrument)}
    assert [each for each in NOT_WORDED if not any(way.startswith(each.removesuffix("*")) for way in every)] == []
    assert [way for way in of_study - {"language"} if way not in said] == [], "words for what no study says"


def _leaves(value: Any, way: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{way}.{key}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{way}.{place}")
    else:
        yield way, value


WORDS_OF = frozenset({"title", "label", "short", "hint", "unit", "low_label", "high_label", "message", "procedure"})
WORDS_OF |= {"recall", "scoring", "repeat_label"}


@pytest.mark.parametrize("folder", library(), ids=lambda folder: folder.name)
def test_a_language_changes_labels_and_nothing_else(folder: Path):
    study, _ = read_folder(folder)
    assert study is not None
    for marked in (study, with_marked_words(study, "fr")):
        for language in ("de", "es", "fr"):
            worded = study_in(marked, language)
            assert worded is study_in(marked, language)
            own, said = (dict(_leaves(each.model_dump(mode="json"))) for each in (marked, worded))
            assert own.keys() == said.keys()
            changed = {way for way, value in own.items() if said[way] != value}
            assert {way.rpartition(".")[2] for way in changed} <= WORDS_OF
            assert not any(way.startswith(".texts") or ".texts." in way for way in changed)
            assert study_in(marked, "pt") is marked
    # In the words that mark everything, nothing of what is read is left as it was.
    whole = with_marked_words(study, "fr")
    left = [one for one, other in _compared(whole, study_in(whole, "fr")) if not other.startswith("«")]
    assert left == []


def _compared(own: Any, said: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The labels of a study and what they are in other words."""
    if isinstance(own, Part):
        for each in type(own).model_fields:
            if each not in ("texts", "sites", "dictionaries", "consent_documents", "amendments"):
                yield from _compared(getattr(own, each), getattr(said, each), each)
    elif isinstance(own, tuple):
        for one, other in zip(own, said, strict=True):
            yield from _compared(one, other, name)
    elif isinstance(own, str) and name in WORDS_OF:
        yield own, said


def test_a_study_that_was_loaded_with_words_before_is_what_it_was(tmp_path: Path):
    study, _ = read_folder(write(tmp_path, {**WHOLE, "study.yaml": ASKING, STUDY_DE: WORDS}))
    assert study is not None
    (text,) = json.loads(canonical(study))["texts"]
    assert text.keys() == {"language", "consent", "missing_codes"}


ARMED = (
    WORDS
    + """\
arms: [{code: active, label: Zephyrschulung}, {code: dummy, label: Scheingerät}]
"""
)
VISIT = "visits: [{code: baseline, label: %s}]\n"


@pytest.mark.parametrize(
    ("more", "said", "is_error"),
    [
        ("", "", False),
        (VISIT % "Vor der Zephyrschulung", "arm's label, “Zephyrschulung”", False),
        (VISIT % "Real stimulation", "arm's label, “Real stimulation”", False),
        (VISIT % "Besuch mit dummy", "names the arm “dummy”", True),
    ],
)
def test_words_in_another_language_tell_no_arm(tmp_path: Path, more: str, said: str, is_error: bool):
    _, findings = read_folder(write(tmp_path, {**WHOLE, "study.yaml": ASKING, STUDY_DE: ARMED + more}))
    told = [each for each in findings if "No words in this language" not in each.message]
    assert [said in each.message and each.file == STUDY_DE for each in told] == [True] * bool(said)
    assert any(each.is_error for each in told) is is_error


def test_what_an_arm_is_called_in_german_may_not_be_said_to_who_reads_english(tmp_path: Path):
    telling = ASKING.replace("title: ", "title: ", 1)
    telling = telling.replace("Not done", "Zephyrschulung ausgefallen", 1)
    assert telling != ASKING
    _, findings = read_folder(write(tmp_path, {**WHOLE, "study.yaml": telling, STUDY_DE: ARMED}))
    assert any("Zephyrschulung" in each.message for each in findings)


def test_what_an_arm_is_called_in_another_language_is_told_to_no_blinded_person(tmp_path: Path):
    """Of two versions, those who are blinded read that such words differ, and not how."""
    versions = []
    for name, text in (("one", ARMED), ("two", ARMED.replace("Scheingerät", "Attrappe").replace("Nie}", "Niemals}"))):
        study, findings = read_folder(write(tmp_path / name, {**WHOLE, "study.yaml": ASKING, STUDY_DE: text}))
        assert study is not None, findings
        versions.append(study)
    found = differences(*versions)
    assert [each.closed for each in found] == [False, True]
    assert "Attrappe" in found[1].text
    blinded = " ".join(each.for_blinded().text for each in found)
    assert "Niemals" in blinded
    assert "Attrappe" not in blinded
    assert "Scheingerät" not in blinded
