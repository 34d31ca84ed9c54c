"""Is everything that is asked proven or accounted for, and is nothing proven that nobody asks?"""

import os
import re
import sys
from difflib import get_close_matches
from pathlib import Path

import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from requirements import PAGE, Asked, families, marked, page, proofs

ASKED = [each for _, those in families() for each in those]
WITHOUT_TEST = ("organisation", "not_done", "until_proven")
# What the list was made from; it is beside the repository where it is written, and nowhere else.
SHARED = Path(os.environ.get("EQUIPOISE_CONFORMANCE") or ROOT.parent / "shared" / "conformance").parent
SOURCE = SHARED / "facts" / "standards.md"


def gaps(asked: list[Asked], proven: dict[str, list[str]]) -> list[str]:
    """What is wrong with a list and the tests that name its ids, in words."""
    known = [each.id for each in asked]
    found = [f"{id} stands in the list twice." for id in sorted({id for id in known if known.count(id) > 1})]
    for each in asked:
        accounted = [name for name in WITHOUT_TEST if getattr(each, name)]
        if each.id not in proven and not accounted:
            found.append(f"{each.id} has no test. Write one, or say in docs/requirements.yaml why there is none.")
        if len(accounted) > 1 or (each.id in proven and each.not_done):
            found.append(f"{each.id} is said to be several things at once.")
    for id in sorted(set(proven) - set(known)):
        near = ", ".join([each for each in known if each.startswith(id)] or get_close_matches(id, known))
        found.append(f"{proven[id][0]} names {id}, which nobody asks." + (f" Perhaps: {near}." if near else ""))
    return found


@pytest.mark.requirement("P11-a", "AX11-4", "E6-16")
def test_everything_that_is_asked_is_proven_or_accounted_for() -> None:
    assert gaps(ASKED, proofs()) == []


@pytest.mark.requirement("P11-a", "E6-16")
def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(proofs()), "Run python scripts/requirements.py"
    assert not re.search(r"\n\| [^|]*\|[^|]*\|  *\|\n", PAGE.read_text())


@pytest.mark.parametrize(
    ("asked", "proven", "said"),
    [
        (Asked("A-1", "x"), {}, "A-1 has no test"),
        (Asked("A-1", "x", not_done="y"), {"A-1": ["t"]}, "several things"),
        (Asked("A-1", "x", not_done="y", organisation="z"), {}, "several things"),
        (Asked("A-1a", "x", not_done="y"), {"A-1": ["t"]}, "names A-1, which nobody asks. Perhaps: A-1a."),
    ],
)
def test_what_is_missing_or_too_much_is_said(asked: Asked, proven: dict[str, list[str]], said: str) -> None:
    (found,) = gaps([asked], proven)
    assert said in found


def test_every_marker_that_is_collected_is_on_the_page(request: pytest.FixtureRequest) -> None:
    """However a marker is written: what pytest sees of it, the page has."""
    proven, seen = proofs(), 0
    for item in request.session.items:
        for mark in item.iter_markers("requirement"):
            name = f"{Path(item.path).relative_to(ROOT / 'tests').as_posix()}::{item.name.partition('[')[0]}"
            for id in mark.args:
                assert name in proven.get(id, ()), (
                    f"{name} says {id} in a way that scripts/requirements.py does not read"
                )
                seen += 1
    assert seen


def test_a_marker_is_read_however_it_is_written() -> None:
    text = (
        'pytestmark = pytest.MARK("W-1")\n@pytest.MARK(\n    "A-1",\n    "A-2",\n)\n'
        '@pytest.mark.parametrize("x", [1])\ndef test_one(x):\n    pass\n\n\ndef test_two():\n    pass\n'
    ).replace("MARK", "mark.requirement")  # or these would be markers of this file
    assert sorted(marked(text)) == [
        ("A-1", "test_one"),
        ("A-2", "test_one"),
        ("W-1", "test_one"),
        ("W-1", "test_two"),
    ]


@pytest.mark.skipif(not SOURCE.exists(), reason="what the list was made from is not here")
def test_the_list_lacks_nothing_of_what_it_was_made_from() -> None:
    wanted = set(re.findall(r"^\| ([A-Z][A-Z0-9a-z]*-[A-Za-z0-9+]+) \|", SOURCE.read_text(), re.M))
    assert wanted
    assert wanted - {each.id for each in ASKED} == set()
