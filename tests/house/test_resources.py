"""Has everything over REST an address of its own: each row of each list, and what is made? docs/api.md says it too."""

import re

from app.api import router
from app.api.operations import Operation
from tests.conftest import ROOT
from tests.house.resources import ELSEWHERE, LISTS, ONE_OF, READ, is_page


def test_each_row_of_each_list_has_an_address():
    assert [path for path in LISTS if path not in ONE_OF and path not in ELSEWHERE] == []
    assert [path for path in ELSEWHERE if path not in LISTS] == [], "told of lists that are not there"
    assert [place for place in ELSEWHERE.values() if place.startswith("/") and place not in READ] == []
    assert [one for one in ONE_OF.values() if is_page(READ[one])] == [], "what one is, is no list"
    assert len(ONE_OF) > 30


def test_each_list_is_a_page_that_is_gone_through_in_one_way():
    for route in router.routes:
        if isinstance(route, Operation) and is_page(route.response_model):
            assert {"cursor", "limit"} <= set(route.known), route.path


def test_what_is_changed_or_deleted_under_its_own_address_is_read_there():
    """Else nobody could send If-Match, or see what they would change."""
    settings = {  # parts of what is read at the address above
        "/webhooks/{number}/state",
        "/drafts/{number}/files",
        "/participants/{code}/visits/{visit}/in-error",
        "/participants/{code}/visits/{visit}/entries/{instrument}/in-error",
        "/participants/{code}/visits/{visit}/entries/{instrument}/verification",
        "/participants/{code}/visits/{visit}/entries/{instrument}/second",
    }
    changed = {
        route.path.partition("{study}")[2]
        for route in router.routes
        if isinstance(route, Operation) and not {"PUT", "DELETE"}.isdisjoint(route.methods or ())
    }
    assert changed - set(READ) == settings


def test_the_page_names_every_list_and_where_its_rows_are():
    page = (ROOT / "docs" / "api.md").read_text()
    written = dict(re.findall(r"^\| `(/[^`]*)` \| one: (.*) \|$", page, re.M))
    said = {path: f"`{ONE_OF[path]}`" for path in ONE_OF}
    said |= {path: f"`{place}`" if place.startswith("/") else place for path, place in ELSEWHERE.items()}
    assert written == said
