"""Is a soup that is made quickly the tree that Beautiful Soup makes?"""

from typing import Any

import pytest
from bs4 import BeautifulSoup

from app.foundation.database import Database
from tests.web import soup
from tests.web.world import World

LINKS = ("parent", "previous_element", "next_element", "previous_sibling", "next_sibling")
# What a tag keeps of itself, beside who is next to it and where it stood in the text.
BESIDE = (*LINKS, "attrs", "contents", "sourceline", "sourcepos")
# How it is written, and whether it is left to Beautiful Soup.
WRITTEN = {
    "": False,
    "only text": False,
    "<a>b<i>c</i></a> <b> </b>\n \n<br>d<br/>": False,
    '<p class="a  b" id=\'x"y\' hidden>t &amp; &#39;u&#34;</p>': False,
    "<pre> </pre><textarea>\n \n</textarea><p>\n \n</p>": False,
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>a &lt; b</title></head></html>\n': False,
    "<script>if (a && b) { c('&amp;') }</script><style>a { b: c }</style><template><p>x</p> y</template>": False,
    '<svg viewBox="0 0 1 1"><path d="M0 0"/></svg><!-- a -->': False,
    "<P>capitals</P>": False,
    "<p>never closed": True,
    "<tr><td>1<td>2</tr>": True,
    "</p>never opened": True,
    "<script>a < b</script>": True,
    "<input value=unquoted>": True,
    "a < b": True,
    "&hellip; & more": True,
    "<p>opened</p></p>": True,
}


def _tree(markup: str) -> list[Any]:
    """Everything that a tree is: each node with what it says, what it is, and which others it leads to."""
    root = BeautifulSoup(markup, "html.parser")
    nodes: list[Any] = [root, *root.descendants]
    numbers = {id(node): number for number, node in enumerate(nodes)}
    found: list[Any] = []
    for node in nodes:
        links = [numbers.get(id(getattr(node, link))) for link in LINKS]
        said: Any = str(node)
        if hasattr(node, "attrs"):
            of_a_kind = [(name, value, type(value)) for name, value in node.attrs.items()]
            said = node.name, type(node.attrs), of_a_kind, [numbers[id(each)] for each in node.contents]
        beside = {name: value for name, value in vars(node).items() if name not in BESIDE} if node is not root else {}
        found.append((type(node), said, links, beside))
    return found


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is left to Beautiful Soup."""
    said, fill = list[str](), soup._fill

    def noting(root: BeautifulSoup, markup: str) -> None:
        try:
            fill(root, markup)
        except soup._Otherwise:
            said.append(markup)
            raise

    monkeypatch.setattr(soup, "_fill", noting)
    return said


def _same(markup: str) -> None:
    quick = _tree(markup)
    with soup.made_slowly():
        assert quick == _tree(markup)


@pytest.mark.parametrize("markup", WRITTEN)
def test_a_soup_is_the_same_however_it_is_made(markup: str, left: list[str]):
    _same(markup)
    assert bool(left) is WRITTEN[markup]


@pytest.mark.parametrize("kind", ["sqlite"])
def test_our_pages_are_made_quickly_into_the_same(shared_database: Database, left: list[str]):
    world = World(shared_database)
    code, browser = world.consented().code, world.coordinator()
    at = f"/mini/participants/{code}"
    for path in ("/mini/today", "/mini/participants", at, f"{at}/visits/baseline/entries/pain", f"{at}/withdraw"):
        page = browser.get(path)
        assert page.status_code == 200, path
        _same(page.text)
    assert left == []
