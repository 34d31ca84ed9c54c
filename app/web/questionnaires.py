"""Which questions were sent to participants by link, which of them are opened, answered, or ran out?"""

from fastapi.responses import Response

from app.capture.questionnaires.reads import STATES, questionnaires_page
from app.dependencies import PageInStudy
from app.people.access import require
from app.people.permissions import Permission
from app.web.pages import pages
from app.web.places import narrowed, places_of, show_at
from app.web.tables import address

router = pages()


@router.get("/{study}/questionnaires", name="questionnaires.questionnaires")
def questionnaires(here: PageInStudy) -> Response:
    """The links to questions at my sites (or the chosen one), newest first, by what became of them."""
    require(here.actor, Permission.PARTICIPANT_LINK)
    asked, places, study = here.request.query_params, places_of(here), here.the_study
    state = next((each for each in STATES if each == asked.get("state")), "")
    path = f"/{study.code}/questionnaires"
    query: dict[str, str | None] = {"state": state or None}
    found = questionnaires_page(
        here.session,
        study,
        by=narrowed(here.actor, places.chosen),
        now=here.now,
        state=state or None,
        cursor=asked.get("after") or None,
    )
    rows = []
    for row in found.rows:
        planned = study.at(row.site_id).definition.visit(row.visit)
        rows.append({"row": row, "visit": planned.label if planned else row.visit})
    return show_at(
        here,
        places,
        "questionnaires/questionnaires.html",
        rows=rows,
        state=state,
        states=[(each, address(path, query, state=each or None)) for each in ("", *STATES)],
        root=f"/{study.code}",
        several=len(places.sites) > 1 and places.chosen is None,
        newer=address(path, query, after=found.previous) if found.previous else None,
        older=address(path, query, after=found.next) if found.next else None,
    )
