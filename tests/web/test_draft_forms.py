"""Instruments on pages of fields: every field, each type its own, and forms added, copied, worded and taken out."""

from typing import Any

import pytest
from bs4 import BeautifulSoup, Tag
from pydantic import BaseModel

from app.foundation.database import Database
from app.foundation.errors import Invalid
from app.studies.definition import (
    Check,
    CheckText,
    Choice,
    Coding,
    FileKind,
    Instrument,
    InstrumentText,
    Item,
    ItemText,
    ItemType,
    Section,
)
from app.studies.drafts.copying import asked_at, can_be_copied, item_codes, with_consent, with_instrument
from app.studies.drafts.editing import data_of
from app.studies.drafts.folder import checked, smallest
from app.studies.rules.items import wrong_item
from app.web.draft_fields import CHECKS, CHOICES, Sheet, changed, drawn_rows
from app.web.draft_forms import KINDS, TYPES, instrument, score
from app.web.draft_words import with_words, worded
from tests.web.browser import Browser, Fields, form_in
from tests.web.test_queries import words
from tests.web.world import World

DRAFTS = "/mini/study/drafts"
AS_TEXT = {
    (Instrument, "code"): "It is the name of the file, and rules and visits name the instrument by it.",
    (Instrument, "sections"): "A list of the page.",
    (Instrument, "texts"): "Files of their own, with a page of their own.",
    (Section, "items"): "A list of the page.",
    (Item, "coding"): "Its parts are fields.",
}
"""What of an instrument is no field of its page, and why."""
LINES: dict[str, type[BaseModel]] = {CHOICES: Choice, CHECKS: Check}
"""What a line of such a field has the parts of."""


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


def _ways(sheet: Sheet) -> dict[type[BaseModel], set[str]]:
    (sections,) = sheet.lists
    (items,) = sections.inner
    asked = [*sheet.fields, *sections.fields, *items.fields]
    return {
        Instrument: {one.way for one in sheet.fields},
        Section: {one.way for one in sections.fields},
        Item: {one.way for one in items.fields},
        Coding: {one.way.removeprefix("coding.") for one in items.fields if one.way.startswith("coding.")},
        **{LINES[one.kind]: set(LINES[one.kind].model_fields) for one in asked if one.kind in LINES},
    }


@pytest.mark.requirement("CON-10")
def test_every_field_of_an_instrument_can_be_written_without_yaml():
    ways = _ways(instrument([("words", "Words")]))
    for model in (Instrument, Section, Item, Coding, Choice, Check):
        lacking = {name for name in set(model.model_fields) - ways[model] if (model, name) not in AS_TEXT}
        assert not lacking, f"{model.__name__}: give it a field in draft_forms, or say in AS_TEXT why it is text"
    known = {name for model in (Instrument, Section, Item, Coding, Choice, Check) for name in model.model_fields}
    assert {way.partition(".")[0] for each in ways.values() for way in each} <= known, "no field of nothing"
    assert {code for code, _ in TYPES} == set(ItemType)
    assert {code for code, _ in KINDS} == set(FileKind)


def test_every_word_of_an_instrument_has_a_field_beside_it():
    choice, check = {"code": "a", "label": "A"}, {"rule": "1 = 1", "message": "Look", "kind": "soft"}
    item = {**{name: name for name in ItemText.model_fields}, "code": "x", "choices": [choice], "checks": [check]}
    form = {name: name for name in InstrumentText.model_fields}
    lines = {
        ".".join(map(str, line.way))
        for group in worded({**form, "sections": [{"label": "One", "items": [item]}]}, {})
        for line in group.lines
    }
    of_form = {"section.0" if name == "sections" else name for name in InstrumentText.model_fields}
    of_item = {{"choices": "choice.a", "checks": "check.0"}.get(name, name) for name in ItemText.model_fields}
    assert lines == (of_form - {"language", "items"}) | {f"item.x.{name}" for name in of_item - {"code"}}
    assert set(CheckText.model_fields) == {"message"}


VALUES: dict[str, Any] = {
    "min": 1, "max": 3, "expected_min": 1, "expected_max": 3, "decimals": 1, "low_label": "Low", "high_label": "High",
    "choices": [{"code": "a", "label": "A"}], "multiline": True, "precision": "month", "show_value": True,
    "kinds": ["pdf"], "max_mb": 5, "calculation": "1 + 1", "checks": [{"rule": "1 = 1", "message": "Look"}],
}  # fmt: skip
BASE: dict[str, dict[str, Any]] = {
    "choice": {"choices": VALUES["choices"]}, "choices": {"choices": VALUES["choices"]},
    "scale": {"min": 1, "max": 3}, "calculated": {"calculation": "1 + 1"},
}  # fmt: skip


@pytest.mark.parametrize("kind", list(ItemType))
def test_a_type_of_question_has_the_fields_that_the_check_lets_it_have(kind: ItemType):
    (items,) = instrument().lists[0].inner
    for one in items.fields:
        if one.way not in VALUES or one.by != "type" or not one.only:
            continue
        said = {"code": "x", "label": "X", "type": kind, **BASE.get(kind, {}), one.way: VALUES[one.way]}
        found = [message for path, message, _ in wrong_item(Item.model_validate(said)) if path[:1] == (one.way,)]
        if kind in one.only:
            assert not found, f"{kind} has {one.way}: {found}"
        elif one.way != "checks":  # of what is calculated they are a warning elsewhere
            assert found, f"{kind} has no {one.way}, but nothing says so"


# Rows


FORM = """\
code: pain
label: Pain
source: This study
sections:
  - items:
      # the first
      - {code: pain_now, label: Pain now, type: scale, min: 0, max: 10}
      - {code: side, label: Side, type: choice, choices: [{code: "1", label: L}], shown_if: "[pain_now] > 0"}
      - {code: item1, label: New question, type: integer}
"""
LIST = "sections.0.items"


def _items(text: str) -> list[dict[str, Any]]:
    return [item for section in data_of(text)["sections"] for item in section["items"]]


@pytest.mark.parametrize(
    ("act", "codes", "at", "is_new"),
    [
        (f"add:{LIST}", ["pain_now", "side", "item1", "item2"], f"{LIST}.3", True),
        (f"after:{LIST}.0", ["pain_now", "item2", "side", "item1"], f"{LIST}.1", True),
        (f"copy:{LIST}.1", ["pain_now", "side", "side_2", "item1"], f"{LIST}.2", True),
        (f"up:{LIST}.1", ["side", "pain_now", "item1"], f"{LIST}.0", False),
        (f"down:{LIST}.0", ["side", "pain_now", "item1"], f"{LIST}.1", False),
        (f"up:{LIST}.0", ["pain_now", "side", "item1"], f"{LIST}.0", False),
        (f"remove:{LIST}.1", ["pain_now", "item1"], f"{LIST}.0", False),
        (f"keep:{LIST}.1", ["pain_now", "side", "item1"], f"{LIST}.1", False),
        (f"score:{LIST}", ["pain_now", "side", "item1", "score1"], f"{LIST}.3", True),
        ("copy:sections.0", ["pain_now", "side", "item1", "pain_now_2", "side_2", "item1_2"], "sections.1", True),
    ],
)
def test_a_question_is_added_copied_moved_and_taken_out_where_somebody_is(act, codes, at, is_new):
    made = changed(instrument(), FORM, {}, act, taken={"elsewhere"})
    assert [item["code"] for item in _items(made.text)] == codes
    assert (made.at, made.is_new) == (at, is_new)
    assert "# the first" in made.text


def test_a_code_is_made_from_the_question_once_and_never_one_that_is_taken_or_named():
    def code(typed: dict[str, str], *, taken: set[str] = frozenset(), elsewhere: str = "") -> str:  # type: ignore[assignment]
        form = {f"v.{LIST}.2.{name}": [text] for name, text in typed.items()}
        return str(_items(changed(instrument(), FORM, form, taken=taken, elsewhere=elsewhere).text)[2]["code"])

    assert code({"label": "How much did it hurt at night, all in all?"}) == "how_much_did_it_hurt_at"
    assert code({"label": "Side"}) == "side_2"
    assert code({"label": "Days"}, taken={"days"}) == "days_2"
    assert code({"label": "Days", "code": "d7"}) == "d7", "what somebody writes stays"
    assert code({"label": "Days"}, elsewhere="[baseline][item1] > 3") == "item1", "a rule names it"
    assert code({"type": "text"}) == "item1", "it is not called anything yet"
    assert code({"code": "", "label": "Days"}) == "days"
    rows = changed(instrument(), FORM, {"v.sections.0.label": ["Medicines"], "v.sections.0.repeats": ["true"]})
    assert data_of(rows.text)["sections"][0]["code"] == "medicines", "rows need a name"


def test_a_score_sums_what_is_asked_as_numbers():
    made = score(data_of(FORM)["sections"][0])
    assert made["calculation"] == "prorated_sum(3, [pain_now], [side], [item1])"
    assert score({"items": [{"code": "x", "type": "text"}]})["calculation"] == "prorated_sum(0)"


def test_what_a_new_type_does_not_have_is_kept_and_said_and_a_default_is_not_written():
    rows = drawn_rows(instrument().lists[0].inner[0], data_of(FORM), "sections.0.", {f"v.{LIST}.0.type": ["text"]})
    first = {each["asked"].way: each for each in rows.drawn[0].fields}
    assert (first["min"]["left"], first["min"]["hidden"]) == (True, False), "something stands in it"
    assert (first["unit"]["left"], first["unit"]["hidden"]) == (False, True)
    assert not first["max_length"]["hidden"]
    kept = changed(instrument(), FORM, {f"v.{LIST}.0.type": ["text"], f"v.{LIST}.0.min": ["0"]})
    assert _items(kept.text)[0]["min"] == "0"
    same = {f"v.{LIST}.0.required": ["true"], "v.respondent": ["assessor"], f"v.{LIST}.0.precision": ["day"]}
    assert changed(instrument(), FORM, same).text == FORM
    coded = {f"v.{LIST}.2.coding.dictionary": ["words"], f"v.{LIST}.2.coding.coders": ["1"]}
    with_coding = changed(instrument([("words", "Words")]), FORM, coded).text
    assert _items(with_coding)[2]["coding"] == {"dictionary": "words", "coders": "1"}
    emptied = {f"v.{LIST}.2.coding.dictionary": [""], f"v.{LIST}.2.coding.coders": [""]}
    assert "coding" not in _items(changed(instrument([("words", "Words")]), with_coding, emptied).text)[2]


# Forms


def _draft(administrator: Browser) -> str:
    reply = administrator.post(DRAFTS, {"name": "Pilot", "start": "smallest"})
    assert reply.status_code == 303, reply.text
    return str(reply.headers["location"]).partition("?")[0]


@pytest.mark.requirement("CON-10")
def test_an_instrument_is_added_written_and_taken_out_again(world: World):
    administrator = world.browser("administrator", site_code=None)
    draft = _draft(administrator)
    assert administrator.soup(draft).select_one(f'a[href="{draft}/add-instrument"]')
    add = f"{draft}/add-instrument"
    blank = administrator.post(add, {"label": "", "code": "Not So"})
    assert (blank.status_code, "Write what the form is called" in blank.text, "Not So" in blank.text) == (
        422,
        True,
        True,
    )
    added = administrator.post(add, {"label": "Pain diary", "visits": ["baseline"]})
    edit = f"{draft}/edit/form.pain_diary"
    assert str(added.headers["location"]).partition("?")[0] == edit
    assert administrator.post(add, {"label": "Again", "code": "pain_diary"}).status_code == 422
    page = administrator.soup(edit)
    assert not page.select("[autofocus]")
    # Without scripts: the fields of the type are there after saving, and the row that somebody is at is open.
    assert page.select_one('[data-by="v.sections.0.items.0.type"][data-only~="text"][hidden]')
    typed = {"v.sections.0.items.0.label": "What helps", "v.sections.0.items.0.type": "text"}
    kept = administrator.post(edit, {**typed, "act": "keep:sections.0.items.0"})
    page = administrator.soup(str(kept.headers["location"]))
    longest = page.find(id="v.sections.0.items.0.max_length")
    assert isinstance(longest, Tag)
    assert not longest.find_parent(hidden=True)
    assert "Words" in words(page)
    for _ in range(4):
        more = administrator.post(edit, {"act": "after:sections.0.items.0"})
    page = administrator.soup(str(more.headers["location"]))
    (focused,) = page.select("[autofocus]")
    assert focused["name"] == "v.sections.0.items.1.label"
    unfolded = [str(row["data-row"]) for row in page.select("details[data-row][open]")]
    assert unfolded == ["sections.0", "sections.0.items.1"]
    moved = administrator.post(edit, {"act": "down:sections.0.items.1"})
    (focused,) = administrator.soup(str(moved.headers["location"])).select("[autofocus]")
    assert focused.name == "summary"
    wrong = administrator.post(edit, {"v.sections.0.items.3.choices": "no code"})
    opened = BeautifulSoup(wrong.text, "html.parser").select_one('details[data-row="sections.0.items.3"]')
    assert opened is not None
    assert opened.has_attr("open"), "what is wrong is not folded away"
    form = data_of(str(administrator.form(f"{draft}/files/instruments/pain_diary.yaml")["text"][0]))
    assert form["sections"][0]["items"][0] == {"code": "what_helps", "label": "What helps", "type": "text"}
    seen = administrator.post(edit, {"act": "look"})
    assert seen.headers["location"] == f"{draft}/preview/pain_diary"
    wrong = administrator.post(edit, {"v.sections.0.items.2.shown_if": "[nope] = 1"})
    assert wrong.status_code == 303
    lead = administrator.soup(draft).select_one(f'a[href^="{edit}?line="]')
    assert lead is not None
    page = administrator.soup(str(lead["href"]))
    assert [str(row["data-row"]) for row in page.select("details[data-row][open]")] == [
        "sections.0",
        "sections.0.items.2",
    ]
    assert "nope" in words(page), "and says there what is wrong"
    assert administrator.post(edit, {"v.sections.0.items.2.shown_if": ""}).status_code == 303
    study = f"{draft}/files/study.yaml"
    text = str(administrator.form(study)["text"][0])
    assert data_of(text)["visits"][0]["instruments"] == ["outcome", "pain_diary"]

    outcome = "{label: Helps, kind: primary, instrument: pain_diary, item: what_helps, visit: baseline}"
    assert administrator.post(study, {"text": f"{text}outcomes: [{outcome}]\n"}).status_code == 303
    remove = f"{draft}/instrument/pain_diary/remove"
    page = administrator.soup(remove)
    assert "not asked any more at: Baseline" in words(page)
    assert "There is no instrument “pain_diary”" in words(page), "where it is still used"
    before = world.log()
    assert administrator.post(remove, {}).status_code == 303
    assert world.log()[len(before) :] == ["draft.changed", "draft.file_removed"]
    assert data_of(str(administrator.form(study)["text"][0]))["visits"][0]["instruments"] == ["outcome"]
    assert administrator.get(edit).status_code == 404
    assert administrator.get(remove).status_code == 404


def test_a_copy_has_codes_of_its_own_and_its_rules_name_them():
    files = {**smallest("small", "Small"), "instruments/pain.yaml": FORM, "instruments/pain.de.yaml": "label: Schmerz\n"
             "items:\n  - {code: pain_now, label: Jetzt}\n"}  # fmt: skip
    code, made = with_instrument(files, label="Pain again", copy_of="here:pain", visits=["baseline"])
    assert code == "pain_again"
    assert set(made) == {"study.yaml", "instruments/pain_again.yaml", "instruments/pain_again.de.yaml"}
    assert [item["code"] for item in _items(made["instruments/pain_again.yaml"])] == ["pain_now_2", "side_2", "item1_2"]
    assert _items(made["instruments/pain_again.yaml"])[1]["shown_if"] == "[pain_now_2] > 0"
    before = FORM.replace("[pain_now] > 0", "[pain_now] > [baseline][pain_now]")
    _, other = with_instrument({**files, "instruments/pain.yaml": before}, label="Other", copy_of="here:pain")
    of_other = _items(other["instruments/other.yaml"])[1]["shown_if"]
    assert of_other == "[pain_now_2] > [baseline][pain_now]", "what was answered in the form that was copied"
    assert data_of(made["instruments/pain_again.de.yaml"])["items"][0]["code"] == "pain_now_2"
    files |= {"study.yaml": asked_at(made["study.yaml"], "pain", ["baseline"])}
    study, findings = checked({**files, **made})
    assert study is not None, findings

    names = [name for name, _, study in can_be_copied(files) if study]
    assert "resolve:pain" in names
    for name in names:
        _, each = with_instrument(smallest("small", "Small"), label="Copied", copy_of=name)
        assert item_codes(each)
    _, library = with_instrument(smallest("small", "Small"), label="Mine", copy_of="resolve:pain")
    assert "source: >-" in library["instruments/mine.yaml"], "its text stays where no code has to be another"
    for wrong in ("here:nothing", "nowhere:pain", "resolve:nothing", "../../etc:pain"):
        with pytest.raises(Invalid, match="list"):
            with_instrument(files, label="X", copy_of=wrong)


@pytest.mark.requirement("CON-10")
def test_an_instrument_is_worded_in_another_language_beside_its_own(world: World):
    administrator = world.browser("administrator", site_code=None)
    draft = _draft(administrator)
    at = f"{draft}/instrument/outcome/words"
    assert administrator.soup(f"{draft}/edit/form.outcome").select_one(f'a[href="{at}"]')
    assert "Nothing is missing" not in words(administrator.soup(at)), "no language is chosen yet"
    assert "Write the code of the language" in administrator.get(f"{at}?language=german").text
    german = f"{at}?language=de"
    page = administrator.soup(german)
    assert "3 of 4 texts have no words" in words(page)
    fields = _written(page, at)
    item = "w.item.pain_nrs.label"
    saved = administrator.send(at, {**fields, "w.label": "Ergebnis", item: "Schmerz", "w.section.0": "Stärke"})
    assert saved.status_code == 303, saved.text
    assert "Nothing is missing" in words(administrator.soup(str(saved.headers["location"])))
    file = f"{draft}/files/instruments/outcome.de.yaml"
    text = str(administrator.form(file)["text"][0])
    assert data_of(text)["items"] == [{"code": "pain_nrs", "label": "Schmerz"}]
    late = administrator.send(at, {**fields, "w.label": "Anders"})
    assert (late.status_code, "Nothing was overwritten" in late.text, "Anders" in late.text) == (409, True, True)
    assert "No error" in words(administrator.soup(draft)) or "Nothing is wrong" in words(administrator.soup(draft))
    emptied = {name: "" for name in fields if name.startswith("w.")}
    nothing = administrator.send(at, {**_written(administrator.soup(german), at), **emptied})
    assert nothing.status_code == 303
    assert administrator.get(file).status_code == 200
    files = [link["href"] for link in administrator.soup(draft).select("a[href*='/files/']")]
    assert f"{draft}/files/instruments/outcome.yaml" in files
    assert file not in files, "without words there is no file"


def _written(page: BeautifulSoup, at: str) -> Fields:
    """The fields of the words, and not of the choice of a language above them."""
    for form in page.select("form[method=get]"):
        form.decompose()
    return form_in(page, at)


def test_words_are_changed_one_by_one_and_comments_stay():
    form = data_of(
        FORM.replace("items:", "label: Now\n    items:").replace(
            "Side,", "Side, checks: [{rule: a, message: One}, {rule: b, message: Two}],"
        )
    )
    said = "# Ours\nlabel: Schmerz\nitems:\n  # the second\n  - {code: side, label: Seite}\n"
    typed = {"w.item.pain_now.label": ["Jetzt"], "w.item.side.check.1": ["Zwei"], "w.item.side.choice.1": ["Links"]}
    made = with_words(form, said, typed)
    assert "# Ours\nlabel: Schmerz\n" in made
    assert "# the second" in made
    side = {"code": "side", "label": "Seite", "choices": [{"code": "1", "label": "Links"}]}
    # Checks are told by their order, so the one before says what the study says.
    assert data_of(made)["items"] == [
        {**side, "checks": [{"message": "One"}, {"message": "Zwei"}]},
        {"code": "pain_now", "label": "Jetzt"},
    ]
    assert data_of(with_words(form, made, {"w.item.pain_now.label": [""]}))["items"][0]["label"] == "Seite"
    assert with_words(form, said, {}) == said
    assert with_words(form, "", {}) == ""


def test_a_heading_that_is_left_out_stays_as_the_study_words_it():
    files = smallest("small", "Small")
    one = "sections:\n- items: [{code: a, label: A, type: text}]\n"
    two = one + "- {label: Later, items: [{code: b, label: B, type: date}]}\n"
    form = f"code: outcome\nlabel: Outcome\nsource: This study\n{two}"
    made = with_words(data_of(form), "", {"w.section.1": ["Später"]})
    assert data_of(made)["sections"] == ["", "Später"]
    study, findings = checked({**files, "instruments/outcome.yaml": form, "instruments/outcome.de.yaml": made})
    assert study is not None, findings


def test_a_consent_document_is_added_with_the_text_of_another(world: World):
    administrator = world.browser("administrator", site_code=None)
    draft = _draft(administrator)
    add = f"{draft}/add-consent"
    typed = {"title": "Information", "version": "2", "language": "en", "copy_of": "consent/v1.en.md"}
    wrong = administrator.post(add, {**typed, "version": "two words", "language": "english"})
    assert (wrong.status_code, "two words" in wrong.text) == (422, True)
    assert administrator.post(add, {**typed, "version": "1"}).status_code == 422
    added = administrator.post(add, typed)
    assert str(added.headers["location"]).partition("?")[0] == f"{draft}/files/consent/v2.en.md"
    text = str(administrator.form(f"{draft}/files/consent/v2.en.md")["text"][0])
    assert 'version: "2"' in text
    assert "ethics committee" in text
    files = smallest("small", "Small")
    path, begun = with_consent(files, version="1", language="de", title='"Ja": nein', valid_from="2026-01-01")
    assert checked({**files, path: begun})[0] is not None
