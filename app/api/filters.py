"""What may be looked for in a list? The same word for the same thing at every address, and nothing that is not known.

A misspelt filter that is passed over would answer with everything: it is refused, with the names there are (SEC-23).
"""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Annotated, TypeVar, get_origin

from fastapi import Query
from fastapi.dependencies.models import Dependant
from pydantic import AfterValidator

from app.api.shapes import Instant
from app.dependencies import Here
from app.foundation.errors import FieldProblem, Invalid
from app.people.access import Actor, narrowed
from app.people.reads import sites_worked_at

Kind = TypeVar("Kind", bound=StrEnum)


def _kept_by_a_column(said: datetime) -> datetime:
    if not 1970 <= said.year < 2200:
        raise ValueError("say an instant between 1970 and 2200")
    return said


AtSite = Annotated[str | None, Query(max_length=80, description="Only of this site, by its code.", examples=["neura"])]
Whose = Annotated[
    str | None, Query(max_length=80, description="Only of this participant, by the whole code.", examples=["R-0042"])
]
AtVisit = Annotated[str | None, Query(max_length=80, description="Only at this visit.", examples=["week18"])]
OfForm = Annotated[str | None, Query(max_length=80, description="Only of this instrument.", examples=["pain"])]
OfPerson = Annotated[
    str | None, Query(max_length=80, description="Only of this person, by username.", examples=["ada"])
]


Moment = Annotated[Instant, AfterValidator(_kept_by_a_column)]
Since = Annotated[
    Moment | None,
    Query(description="From this instant on, with its offset from UTC.", examples=["2026-03-01T00:00:00Z"]),
]
Until = Annotated[Moment | None, Query(description="Before this instant.", examples=["2026-04-01T00:00:00Z"])]


def names_of(dependant: Dependant, *, lists_only: bool = False) -> Iterator[str]:
    """The names of the parameters that an address takes in its query; or of those that may stand there repeatedly."""
    for one in dependant.query_params:
        if not lists_only or get_origin(one.field_info.annotation) is list:
            yield one.alias
    for each in dependant.dependencies:
        yield from names_of(each, lists_only=lists_only)


def at(here: Here, site: str | None) -> Actor:
    """Whoever asks, at this site alone; Invalid, with the codes of theirs, when they do not work there."""
    if site is None:
        return here.actor
    mine = {each.code: each.id for each in sites_worked_at(here.session, here.the_study.id, by=here.actor)}
    if site not in mine:
        words = f"You work at no site of this code. Choose among: {', '.join(mine) or 'none'}."
        raise Invalid([FieldProblem("site", "choices", words)])
    return narrowed(here.actor, mine[site])


def in_order(sort: str | None, kinds: type[Kind], usual: Kind, *, falling: bool = False) -> tuple[Kind, bool]:
    """By what a list is sorted, and whether downwards: `code`, `-code`; without a wish as it usually is."""
    if sort is None:
        return usual, falling
    return kinds(sort.removeprefix("-")), sort.startswith("-")
