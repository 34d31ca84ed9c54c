"""Every list over REST, and where one of its rows stands by itself. A list that says neither fails the tests."""

import re
from typing import Any, get_origin

from app.api import router
from app.api.operations import OF_STUDY, Operation
from app.api.shapes import PageOf


def is_page(model: Any) -> bool:
    """Whether an address answers with a page."""
    return isinstance(model, type) and issubclass(model, PageOf)


READ = {
    route.path.removeprefix(OF_STUDY): route.response_model
    for route in router.routes
    if isinstance(route, Operation) and route.methods == {"GET"} and route.path.startswith(OF_STUDY)
}
LISTS = [path for path, model in READ.items() if is_page(model)]
assert [path for path, model in READ.items() if get_origin(model) is list] == [], "each list is answered in pages"


def _one_of(path: str) -> str | None:
    """The address of one row: that of the list with one part more, or with two."""
    below = [other for other in READ if re.fullmatch(re.escape(path) + r"/\{\w+\}(/\{\w+\})?", other)]
    return min(below, key=len, default=None)


# Lists whose rows stand elsewhere: at an address that there is, or nowhere, and why.
ELSEWHERE = {
    "/versions/{later}/differences": "made when two versions are compared",
    "/versions/{later}/effect": "/participants/{code}",
    "/reconsents": "/participants/{code}/consents/{consent_id}",
    "/visits-due": "/participants/{code}/visits/{visit}",
    "/questionnaires": "/participants/{code}/links/{link_id}",
    "/appointments": "/participants/{code}/appointments/{number}",
    "/verification": "/participants/{code}/visits/{visit}/entries/{instrument}",
    "/casebooks-due": "/participants/{code}/casebook",
    "/entries": "/participants/{code}/visits/{visit}/entries/{instrument}",
    "/participants/{code}/entries": "/participants/{code}/visits/{visit}/entries/{instrument}",
    "/participants/{code}/visits/{visit}/entries/{instrument}/repeats": (
        "/participants/{code}/visits/{visit}/entries/{instrument}"
    ),
    "/participants/{code}/visits/{visit}/entries/{instrument}/history": "lines of the log",
    "/participants/{code}/screening/history": "lines of the log",
    "/participants/{code}/optional-consents": "how each choice of the study stands",
    "/participants/{code}/visits/{visit}/signatures": "/participants/{code}/visits/{visit}/entries/{instrument}",
    "/treatment/participants/{code}/sessions/{visit}/history": "lines of the log, sealed",
    "/datasets": "/datasets/{dataset}",
    "/agreement/double-entry": "figures",
    "/agreement/coding": "figures",
    "/dictionaries/{dictionary}/terms": "what a search finds",
    "/screening-log": "/participants/{code}",
    "/unblindings/openings": "figures",
    "/unblindings/{number}/arms": "shown to who asked, and in the log each time",
}
ONE_OF = {path: one for path in LISTS if path not in ELSEWHERE and (one := _one_of(path)) is not None}
