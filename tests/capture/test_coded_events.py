"""Terms of adverse events are coded as texts are: by two people, each alone, and again when they change."""

from dataclasses import replace
from typing import Any

import pytest
from sqlmodel import Session

from app.capture.coding import reads
from app.capture.coding.actions import code_text, load_terms, reconcile_text
from app.capture.coding.following import TERM_OF_EVENT
from app.capture.coding.reads import Queue, agreement_page, codes_of_events
from app.capture.coding.rules import State
from app.exports.reads import open_export
from app.foundation.errors import Refused
from app.people.access import Actor
from app.safety.events import actions as events
from app.studies.definition import Term
from app.studies.rules import canonical, problems
from tests.capture.twice import TERMS, twice
from tests.factories import NOW, definition, person
from tests.safety.world import FALL, SAFETY, Safe, safe

DICTIONARY = {"code": "complaints", "label": "Complaints", "version": "1", "terms": TERMS}
CODED: dict[str, Any] = {
    "safety": {**SAFETY, "coding": {"dictionary": "complaints"}},
    "dictionaries": [DICTIONARY],
}


@pytest.fixture
def trial(session: Session) -> Safe:
    return safe(session, **CODED)


def coders(trial: Safe) -> list[Actor]:
    return [person(trial.session, trial.study, "data_manager", username=f"coder{n}") for n in (1, 2, 3)]


def waiting(trial: Safe, by: Actor, which: Queue = Queue.TO_CODE) -> list[reads.Text]:
    return list(reads.queue(trial.session, trial.study, which, by=by).rows)


def rows(trial: Safe, name: str) -> list[dict[str, Any]]:
    by = person(trial.session, trial.study, "data_manager", username=f"exporter_{name}")
    table = open_export(trial.session, trial.study, name, by=by)
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def test_two_code_a_term_each_alone_and_a_third_settles_it(trial: Safe):
    one, two, three = coders(trial)
    event = trial.report()
    (text,) = waiting(trial, one)
    assert (text.text, text.event, text.item) == (FALL.term, event, TERM_OF_EVENT)
    assert (text.visit, text.instrument, text.participant, text.entry_id) == ("", "", "M-001", None)
    code_text(trial.session, trial.study, text.number, code="LBP", by=one, now=NOW)
    assert reads.text_of(trial.session, trial.study, text.number, by=two).choices == ()
    assert codes_of_events(trial.session, trial.study) == {}
    code_text(trial.session, trial.study, text.number, code="SCI", by=two, now=NOW)
    with pytest.raises(Refused, match="third person"):
        reconcile_text(trial.session, trial.study, text.number, code="SCI", why="So", version=3, by=two, now=NOW)
    settled = reconcile_text(
        trial.session, trial.study, text.number, code="SCI", why="By the guide", version=3, by=three, now=NOW
    )
    assert settled.state is State.CODED
    assert codes_of_events(trial.session, trial.study, event) == {event: ("SCI", "Sciatica")}
    assert codes_of_events(trial.session, trial.study, event + 1) == {}
    (line,) = rows(trial, "adverse_events")
    assert (line["term"], line["term__code"], line["term__term"]) == (FALL.term, "SCI", "Sciatica")
    (line,) = rows(trial, "coding")
    assert (line["event"], line["visit"], line["instrument"], line["item"]) == (event, None, None, TERM_OF_EVENT)
    (line,) = [each for each in rows(trial, "agreement") if each["site"] is None]
    assert (line["instrument"], line["item"], line["compared"], line["agreeing"]) == (None, TERM_OF_EVENT, 1, 0)
    (told,) = trial.log("coding.reconciled")
    assert (told.participant, told.subject) == ("M-001", f"coding/adverse_event/{event}")


def test_a_changed_term_is_coded_again_and_news_of_anything_else_is_not(trial: Safe):
    one, two, _ = coders(trial)
    event = trial.report()
    (text,) = waiting(trial, one)
    for by in (one, two):
        code_text(trial.session, trial.study, text.number, code="LBP", by=by, now=NOW)
    trial.again(event, replace(FALL, outcome="recovered", ended="2026-03-02"))
    assert waiting(trial, one) == []
    trial.again(event, replace(FALL, term="Fall, wrist broken"), base_version=2)
    (again,) = waiting(trial, one)
    assert again.text == "Fall, wrist broken"
    (before,) = waiting(trial, one, Queue.OUTDATED)
    assert (before.number, before.code) == (text.number, "LBP")
    assert codes_of_events(trial.session, trial.study) == {}
    assert agreement_page(trial.session, trial.study, by=one).rows[0].compared == 1
    events.void(trial.session, trial.study, event, why="Twice", base_version=3, by=trial.by("coordinator"), now=NOW)
    assert waiting(trial, one) == []
    assert len(trial.log("coding.outdated")) == 2


def test_a_study_that_codes_no_terms_is_as_it_was(session: Session):
    trial = safe(session)
    trial.report()
    assert waiting(trial, trial.by("data_manager")) == []
    assert "term__code" not in rows(trial, "adverse_events")[0]
    assert '"coding"' not in canonical(trial.study.definition)


def test_texts_of_entries_and_terms_stand_in_one_queue(session: Session):
    from tests.capture.test_coding import World

    world = World(session)
    number = world.note("Sore lower back")
    assert reads.text_of(session, world.study, number, by=world.one).event is None
    changes = {**twice(), **CODED}
    assert definition(**changes).has_coding


def test_where_no_term_holds_every_word_those_that_hold_most_are_near(trial: Safe):
    by = trial.by("data_manager")
    for own in (False, True):
        if own:
            operator = person(trial.session, None, "administrator", username="operator")
            terms = [Term.model_validate(each) for each in TERMS]
            load_terms(trial.session, trial.study, "complaints", terms, by=operator, now=NOW)
        found = reads.terms_near(trial.session, trial.study, "complaints", "Woke with pain in the lower back")
        assert [each.code for each in found] == ["LBP", "BACK", "SLEEP"]
        assert reads.terms_near(trial.session, trial.study, "complaints", "an itch, %%%%") == []
    assert waiting(trial, by) == []


def test_a_dictionary_that_is_not_there_is_a_problem():
    study = definition(**{**CODED, "dictionaries": []})
    (found,) = [each for each in problems(study) if "dictionary" in each.message]
    assert "There is no dictionary “complaints”" in found.message
