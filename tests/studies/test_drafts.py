"""One value of a YAML file is changed: does the file say just that, and does everything around it stay?

And two who load studies of the same code at the same time: one of them makes it, the other is told.
"""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.foundation.database import Database
from app.foundation.errors import Refused
from app.studies.actions import load_study
from app.studies.drafts import actions
from app.studies.drafts.actions import Admitted, begin_study, load_draft
from app.studies.drafts.editing import REMOVED, CannotEdit, Way, data_of, edited, exchanged, inline, moved, with_value
from app.studies.loading import library
from app.studies.reads import all_studies
from tests.factories import NOW, person

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
