"""One value of a YAML file is changed: does the file say just that, and does everything around it stay?

And two who load studies of the same code at the same time: one of them makes it, the other is told.
"""

import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from app.foundation.database import Database
from app.foundation.errors import Conflict, Refused
from app.studies.actions import load_study
from app.studies.drafts import actions, reads
from app.studies.drafts.actions import Admitted, begin_study, load_draft
from app.studies.drafts.editing import REMOVED, CannotEdit, Way, data_of, edited, exchanged, inline, moved, with_value
from app.studies.loading import library
from app.studies.reads import all_studies
from tests.factories import NOW, mini_study, person

TEXT = """\
# Whose study
code: small  # short
title: "A title"
about: |
  Two
  lines
sites:
- {code: north, name: North}   # first
# the second site
- code: south
  name: South
  # inside
  rooms: [a, b]
visits: []
last: {one: 1}
"""


@pytest.mark.parametrize(
    ("way", "value", "wanted"),
    [
        (("code",), "large", {"code: large  # short"}),
        (("title",), 'He said "no": never', {'title: "He said \\"no\\": never"'}),
        (("title",), REMOVED, set()),
        (("about",), "One", {"about: One"}),
        (("sites", 0, "name"), "Nord", {"- {code: north, name: Nord}   # first"}),
        (("sites", 0, "name"), REMOVED, {"- {code: north}   # first"}),
        (("sites", 0, "code"), REMOVED, {"- {name: North}   # first"}),
        (("sites", 0, "zone"), "UTC", {"- {code: north, name: North, zone: UTC}   # first"}),
        (("sites", 1, "zone"), "Europe/Zurich", {"  zone: Europe/Zurich"}),
        (("sites", 1, "rooms"), ["a", "c d"], {"  rooms: [a, c d]"}),
        (("sites", 1, "code"), REMOVED, {"- name: South"}),
        (("sites", 1), REMOVED, set()),
        (("sites", 2), {"code": "east"}, {"- {code: east}"}),
        (("sites",), ["x"], {"sites: [x]"}),
        (("visits", 0), {"day": "1"}, {"visits: [{day: 1}]"}),
        (("new",), "10", {"new: 10"}),
        (("new",), "[age] >= 18", {'new: "[age] >= 18"'}),
        (("new",), "null", {'new: "null"'}),
    ],
)
def test_only_the_lines_that_must_change_do(way: Way, value: Any, wanted: set[str]):
    new = edited(TEXT, way, value)
    assert data_of(new) == with_value(data_of(TEXT), way, value)
    assert set(new.splitlines()) - set(TEXT.splitlines()) == wanted


def test_whoever_changes_what_a_text_says_changes_it_for_nobody_else():
    said, before = data_of(TEXT), repr(data_of(TEXT))
    said["sites"][0].clear()
    said["last"]["one"] = "2"
    assert repr(data_of(TEXT)) == before


def test_an_entry_moves_with_the_comment_above_it():
    new = exchanged(TEXT, ("sites", 1), -1)
    assert data_of(new) == moved(data_of(TEXT), ("sites", 1), -1)
    assert new.index("# the second site") < new.index("code: south") < new.index("# inside") < new.index("# first")
    assert exchanged(new, ("sites", 0), 1) == TEXT


@pytest.mark.parametrize(
    ("text", "way", "value"),
    [
        ("a: &x {b: 1}\nc: *x\n", ("a", "b"), "2"),
        ("a: &x [1]\nc: *x\n", ("a",), "2"),
        ("a: 1\n", ("b", "c"), "2"),
        ("\ufeffa: 1\n", ("a",), "2"),
    ],
)
def test_what_cannot_be_said_in_the_text_is_refused(text: str, way: Way, value: str):
    with pytest.raises(CannotEdit):
        edited(text, way, value)


LIBRARY = {folder.name: (folder / "study.yaml").read_text() for folder in library()}
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc"]), max_size=30)


@given(PRINTABLE)
def test_a_text_on_one_line_says_itself(said: str):
    assert data_of(f"k: {inline(said)}\n") == {"k": said}
    assert data_of(f"- [{inline(said)}, b]\n") == [[said, "b"]]


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_whatever_is_changed_in_a_study_says_just_that_and_keeps_its_comments(data: st.DataObject):
    text = LIBRARY[data.draw(st.sampled_from(sorted(LIBRARY)))]
    says = data_of(text)
    place = data.draw(st.integers(0, len(says["visits"]) - 1))
    key = data.draw(st.sampled_from(["label", "day", "short", "source", "anchor"]))
    value = data.draw(st.one_of(PRINTABLE, st.just(REMOVED)))
    way: Way = ("visits", place, key)
    if value is REMOVED and key not in says["visits"][place]:
        return
    new = edited(text, way, value)
    assert data_of(new) == with_value(says, way, value)
    assert [line for line in new.splitlines() if line.lstrip().startswith("#")] == [
        line for line in text.splitlines() if line.lstrip().startswith("#")
    ]


def test_of_two_who_load_the_same_code_at_once_one_makes_the_study_and_the_other_is_told(
    database: Database, kind: str, monkeypatch: pytest.MonkeyPatch
):
    with database.writing() as session:
        by = person(session, None, "administrator", username="ada")
        who: dict[str, Any] = {"by": by, "now": NOW}
        person(session, None, username="cora")
        first, second = (
            begin_study(session, None, code="same", title=title, origin="smallest", **who) for title in ("One", "Two")
        )
    comes = Event()

    def loading(*given: Any, **more: Any) -> Any:  # by now nothing was known of the first one
        comes.set()
        return load_study(*given, **more)

    def late() -> str:
        if kind == "sqlite":  # where nobody writes beside somebody else
            comes.set()
        try:
            with database.writing() as session:
                load_draft(session, None, second, admitted=[Admitted("cora", "coordinator", "site1")], **who)
        except Refused as problem:
            return problem.reason
        return ""

    with ThreadPoolExecutor(1) as pool, database.writing() as session:
        load_draft(session, None, first, **who)
        monkeypatch.setattr(actions, "load_study", loading)
        told = pool.submit(late)
        assert comes.wait(20)
        session.commit()
        reason = told.result(timeout=60)
    assert ("Somebody loaded a study same" if kind == "postgres" else "is a study same here already") in reason
    with database.reading() as session:
        assert [(each.code, each.title) for each in all_studies(session)] == [("same", "One")]


@pytest.mark.requirement("CON-10")
def test_the_last_change_of_a_draft_is_taken_back_whatever_it_was_and_once(session):
    study = mini_study(session)
    ada, later = person(session, study, "administrator", site_code=None), NOW
    number = actions.make_draft(session, study, name="Undone", version=None, by=ada, now=NOW)

    def texts() -> dict[str, str]:
        return reads.draft(session, study, number, by=ada).texts

    def last() -> reads.LastChange | None:
        return reads.last_change(session, reads.draft(session, study, number, by=ada))

    def undo(state: int | None = None) -> None:
        nonlocal later
        later += timedelta(minutes=1)
        meant = last()
        assert meant is not None
        actions.undo_change(session, study, number, state=state or meant.state, by=ada, now=later)

    def then(do: Any, **more: Any) -> dict[str, str]:
        """What there was before it."""
        nonlocal later
        later += timedelta(minutes=1)
        before = texts()
        do(session, study, number, **more, by=ada, now=later)
        assert texts() != before
        return before

    assert last() is None, "what it was made with is no change"
    begun = texts()
    code = reads.draft(session, study, number, by=ada).file("study.yaml")
    then(actions.save_file, path="study.yaml", text=f"# Ours\n{code.text}", version=code.version)
    once = last()
    assert once is not None
    assert (once.by, list(once.files)) == (ada.username, ["study.yaml"])
    undo()
    assert texts() == begun
    with pytest.raises(Conflict, match="Nothing was taken back"):
        undo(once.state)
    assert texts() == begun, "sent twice it takes nothing else back"
    undo()
    assert texts()["study.yaml"].startswith("# Ours\n"), "taking it back can be taken back"

    # Several files at once: one that is new, and one that is out of the draft again.
    before = then(actions.add_instrument, label="Sleep", visits=["baseline"])
    undo()
    assert texts() == before
    undo()
    assert "instruments/sleep.yaml" in texts()
    before = then(actions.remove_instrument, code="sleep")
    removed = texts()
    for _ in range(2):
        undo()
        assert texts() == before
        undo()
        assert texts() == removed, "what brought a file back can be taken back"

    # Of what was changed by an earlier version of the software nobody knows what it said.
    undo()
    session.execute(update(reads.FILE).values(before=reads.FILE.c.text))
    assert last() is None


def test_what_was_last_done_to_a_large_draft_is_told_without_reading_the_rest_of_it(session):
    study = mini_study(session)
    ada = person(session, study, "administrator", site_code=None)
    size = 150_000
    files = {f"consent/v{number}.md": "x" * size for number in range(10)}
    number = actions.draft_from_files(session, study, files, name="Large", by=ada, now=NOW)
    more: dict[str, Any] = {"by": ada, "now": NOW + timedelta(minutes=1)}
    actions.save_file(session, study, number, path="consent/v3.md", text="y", version=1, **more)
    kept = reads.draft(session, study, number, by=ada)
    reads.last_change(session, kept)  # what is made once is made
    tracemalloc.start()
    try:
        last = reads.last_change(session, kept)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert last is not None
    assert last.files == {"consent/v3.md": "x" * size}
    assert peak < 6 * size  # the one text, also as bytes, and whatever else it takes


def test_a_loaded_draft_has_nothing_to_take_back(session):
    study = mini_study(session)
    ada = person(session, study, "administrator", site_code=None)
    number = actions.make_draft(session, study, name="Loaded", version=None, by=ada, now=NOW)
    kept = reads.draft(session, study, number, by=ada).file("study.yaml")
    text = re.sub(r"(?m)^version: .*$", 'version: "9"', kept.text)
    more: dict[str, Any] = {"by": ada, "now": NOW + timedelta(minutes=1)}
    actions.save_file(session, study, number, path="study.yaml", text=text, version=kept.version, **more)
    state = reads.last_change(session, reads.draft(session, study, number, by=ada))
    assert state is not None
    session.execute(update(reads.DRAFT).values(loaded_at=NOW, loaded_version_id=study.version_id))
    with pytest.raises(Refused):
        actions.undo_change(session, study, number, state=state.state, **more)
