"""Source verification: which entries are to be compared with their source, how many there are, and on to the next."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi.responses import Response

from app.capture.verification import reads
from app.capture.verification.reads import Line, Wanted
from app.capture.verification.rules import State
from app.dependencies import Here, PageInStudy, database_of
from app.foundation.errors import Invalid
from app.foundation.paging import LARGEST_PAGE, every_page
from app.people.access import Actor, narrowed, require
from app.people.permissions import Permission
from app.reports.reads import verification_counted
from app.web.pages import pages
from app.web.places import Places, places_of, show_at
from app.web.queries import shortly
from app.web.tables import address, csv_file, typed_text
from app.web.visits import visit_url
from app.wording import title_of

router = pages()

ALL = "all"
FILTERS = ("site", "state", "visit", "instrument", "participant")
QUERY = (*FILTERS, "after")
FROM = "verifying"  # in the address of an entry: where it stands in the list that somebody works through
FILE = (
    "participant",
    "site",
    "visit",
    "instrument",
    "repeat",
    "state",
    "status",
    "answers",
    "verified",
    "changed",
    "has_query",
    "is_locked",
    "saved_at",
    "saved_by",
    "verified_at",
)


@router.get("/{study}/verification", name="verification.entries")
def entries(here: PageInStudy) -> Response:
    """The entries at my sites that are to be verified, unless somebody looks for others; and how many there are."""
    require(here.actor, Permission.ENTRY_READ)
    query, places = _query(here), places_of(here)
    path, definition = _path(here), here.the_study.definition
    if query["site"] is None and places.chosen is not None:
        query["site"] = places.chosen.code
    by = _at(here.actor, places, query["site"])
    found = reads.verification_page(here.session, here.the_study, by=by, wanted=_wanted(query), cursor=query["after"])
    counted = verification_counted(
        here.session,
        here.the_study,
        here.request.app.state.counts,
        by=by,
        now=here.now,
        visit=query["visit"],
        instrument=query["instrument"],
        again=here.request.query_params.get("again") == "yes",
    )
    by_site = counted.by_site()
    return show_at(
        here,
        places,
        "verification/entries.html",
        url=path,
        query=query,
        active=sum(1 for name in FILTERS if query[name]),
        sites=[(each.code, f"{each.code} {each.name}") for each in places.sites],
        site=query["site"] or ALL,
        rows=[_line(here, each, query) for each in found.rows],
        in_all=counted.in_all(),
        by_site=by_site if len(by_site) > 1 else (),
        site_urls={each.site: address(path, query, site=each.site, after=None) for each in by_site},
        counted_at=counted.at if counted.is_large else None,
        again_url=address(path, query, again="yes"),
        rule=definition.oversight.verification,
        named=[
            {
                "form": form.label if (form := definition.instrument(each.instrument)) else each.instrument,
                "items": [item.label if (item := form and form.item(code)) else code for code in each.items],
                "visits": [shortly(visit) if (visit := definition.visit(code)) else code for code in each.visits],
            }
            for each in definition.oversight.to_verify
        ],
        visits=[(visit.code, visit.label) for visit in definition.visits if visit.instruments],
        instruments=[
            (form.code, form.label)
            for form in definition.instruments
            if any(form.code in visit.instruments for visit in definition.visits)
        ],
        newer=address(path, query, after=found.previous) if found.previous else None,
        older=address(path, query, after=found.next) if found.next else None,
        csv_url=address(f"{path}.csv", query, after=None) if found.rows else None,
        timezone=places.timezone(),
    )


@router.get("/{study}/verification.csv", name="verification.file")
def file(here: PageInStudy) -> Response:
    """The filtered list as a file, read and sent a page at a time."""
    require(here.actor, Permission.ENTRY_READ)
    name = f"{here.the_study.code}-verification-{here.now:%Y-%m-%d}"
    query = _query(here)
    return csv_file(name, FILE, _file_rows(here, _at(here.actor, places_of(here), query["site"]), _wanted(query)))


def _file_rows(here: Here, by: Actor, wanted: Wanted) -> Iterator[Sequence[object]]:
    with database_of(here.request).reading() as session:
        for found in every_page(
            lambda cursor: reads.verification_page(
                session, here.the_study, by=by, wanted=wanted, cursor=cursor, limit=LARGEST_PAGE
            )
        ):
            for each in found.rows:
                yield [_cell(getattr(each, name)) for name in FILE]


def _cell(value: Any) -> object:
    return value.isoformat() if hasattr(value, "isoformat") else value


def _path(here: Here) -> str:
    return f"/{here.the_study.code}/verification"


def _query(here: Here) -> dict[str, str | None]:
    return {name: typed_text(here.request.query_params.get(name), 400) or None for name in QUERY}


def _wanted(query: Mapping[str, str | None]) -> Wanted:
    """What is to be verified, when nothing is said of the state: what is verified waits for nobody."""
    state = query["state"]
    return Wanted(
        state=State(state) if state in set(State) else None,
        standing=state not in {ALL, *State},
        visit=query["visit"],
        instrument=query["instrument"],
        participant=query["participant"],
    )


def _at(actor: Actor, places: Places, site: str | None) -> Actor:
    """The person at the site that is asked for; at none, when it is not one of theirs."""
    if site is None or site == ALL:
        return actor
    return narrowed(actor, next((each.id for each in places.sites if each.code == site), 0))


def _line(here: Here, line: Line, query: Mapping[str, str | None]) -> dict[str, Any]:
    """One entry as the list says it, and the page where it is compared, which then knows the way on."""
    definition = here.the_study.at(line.site_id).definition
    visit, form = definition.visit(line.visit), definition.instrument(line.instrument)
    filters = {name: value for name in FILTERS if (value := query[name]) is not None}
    return {
        "line": line,
        "visit": shortly(visit) if visit else line.visit,
        "form": title_of(form, line.repeat, short=True) if form else line.name,
        "url": f"{visit_url(here, line.participant, line.visit)}/entries/{line.name}/record?"
        + urlencode({FROM: line.after, **filters}),
    }


# From one entry to the next


@dataclass(frozen=True)
class Onwards:
    """Where somebody goes on who came to an entry from the list: back to it, or to the next of it (None: the last).

    `fields` are what the page of the entry sends along, so that it still knows once something was verified.
    """

    list_url: str
    next: Mapping[str, Any] | None
    fields: Mapping[str, str]


def fields_of(here: Here) -> dict[str, str]:
    """What an entry's page was told of the list one came from; nothing when one did not."""
    if here.request.method == "GET":
        asked: Mapping[str, str] = here.request.query_params
    else:
        asked = {name: here.value(name) for name in (FROM, *FILTERS)}
    found = {name: typed_text(asked.get(name), 400) for name in (FROM, *FILTERS)}
    return {name: said for name, said in found.items() if said} if found[FROM] else {}


def onwards(here: Here) -> Onwards | None:
    """The way on from this entry; None for who did not come from the list."""
    fields = fields_of(here)
    if not fields:
        return None
    query = {name: fields.get(name) for name in FILTERS}
    # A site may have been chosen in the header before: there the list is of that one.
    by = here.actor if query["site"] in (None, ALL) else _at(here.actor, places_of(here), query["site"])
    try:
        found = reads.verification_page(
            here.session, here.the_study, by=by, wanted=_wanted(query), cursor=fields[FROM], limit=1
        ).rows
    except Invalid:  # an address that was cut off on its way
        return None
    return Onwards(address(_path(here), query), _line(here, found[0], query) if found else None, fields)
