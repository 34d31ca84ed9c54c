"""At which sites is this person, which one did they choose, and what day is it there?"""

from dataclasses import dataclass
from datetime import date
from typing import Any

from fastapi.responses import HTMLResponse

from app.dependencies import Here
from app.foundation import clock
from app.foundation.errors import FieldProblem, Invalid
from app.foundation.partial_dates import ways_to_read
from app.people import access
from app.people.access import Actor
from app.people.reads import SiteRow
from app.rendering import page
from app.web.shell import viewer_of


@dataclass(frozen=True)
class Places:
    """The sites of one person in the study, by code, and the one chosen in the header (None: all of them)."""

    sites: tuple[SiteRow, ...]
    chosen: SiteRow | None = None

    def site(self, site_id: int) -> SiteRow | None:
        """One of the person's sites."""
        return next((site for site in self.sites if site.id == site_id), None)

    def timezone(self, site_id: int | None = None) -> str:
        """The zone of a site; without one, of the chosen or else the first."""
        found = self.chosen if site_id is None else self.site(site_id)
        return (found or self.sites[0]).timezone if self.sites else "UTC"

    def code(self, site_id: int) -> str:
        """The code of one of the person's sites."""
        found = self.site(site_id)
        return found.code if found else ""

    def today(self, here: Here, site_id: int | None = None) -> date:
        """The date at a site; without one, at the chosen or else the first."""
        return clock.today(self.timezone(site_id), here.now)


def places_of(here: Here) -> Places:
    """The sites this person works at, in one statement; a cookie that names another site chooses nothing."""
    mine = here.my_sites()
    return Places(mine, next((site for site in mine if site.code == here.request.cookies.get("site")), None))


def narrowed(actor: Actor, site: SiteRow | None) -> Actor:
    """The same person at one site only, for lists; never more than they may see anyway."""
    return actor if site is None else access.narrowed(actor, site.id)


def show_at(here: Here, places: Places, template: str, *, status_code: int = 200, **values: Any) -> HTMLResponse:
    """A page with its shell, for a page that has read the sites already."""
    sites = [(site.code, site.name, site.timezone) for site in places.sites]
    viewer = viewer_of(here, sites=sites)
    given = {"here_": here, "places": places, **values}
    here.has_read()
    return page(here.request, template, viewer=viewer, status_code=status_code, names=here.names, **given)


DAY_WANTED = "Write the date as year-month-day, such as 2026-03-14."


def typed_day(text: str, field: str, message: str = DAY_WANTED) -> date:
    """A day as a form posts it; Invalid, naming the field, when it is none."""
    try:
        if len(text) != 10:
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise Invalid([FieldProblem(field, "date", message)]) from None


def date_said(here: Here, name: str) -> str:
    """A date as far as it is known, typed as the reader's language writes it, as year-month-day; else what was typed,
    which the room then refuses with what to type.
    """
    text = here.value(name)
    ways = ways_to_read(text, here.language)
    return ways[0] if len(ways) == 1 else text
