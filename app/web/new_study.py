"""How does a study begin in the browser? What it can begin with, what to do next, and who gets in once it is loaded."""

from collections.abc import Collection, Sequence
from typing import Any

from fastapi.responses import Response
from sqlmodel import Session

from app.dependencies import NEW_STUDY, Here, Sent
from app.foundation.errors import FieldProblem, Invalid
from app.people import reads as people
from app.people.access import Actor
from app.people.permissions import NOT_AT_A_SITE, WHOLE_STUDY, Role
from app.studies.definition import Study
from app.studies.drafts import actions, new_study, reads, rules
from app.studies.drafts.actions import Admitted
from app.studies.importing import LARGEST_SOURCE
from app.web.importing import converted_file, shown
from app.web.places import Places, show_at
from app.web.shell import errors_of, show, status_of

URL = f"/{NEW_STUDY}/study/drafts"
ROWS = 3
"""So many rows of who gets in are there at first, and come at once."""
LIBRARY = "library:"


def begin_page(here: Here, *, problem: Invalid | None = None) -> Response:
    """What a new study can begin with, and the drafts of those that are not here yet."""
    return show_at(
        here,
        Places(()),
        "drafts/begin.html",
        status_code=status_of(problem),
        url=URL,
        drafts=reads.drafts(here.session, None, by=here.actor),
        in_library=[(LIBRARY + name, title) for name, title in new_study.in_library()],
        start=here.value("start", "smallest"),
        typed={name: here.value(name) for name in ("code", "title")},
        errors=errors_of(problem),
        problems=[(each.field, each.message) for each in problem.problems] if problem else [],
        largest=LARGEST_SOURCE // 1_000_000,
    )


def begin(here: Here, sent: Sent | None) -> Response:
    """A draft of a new study, which opens; of a file of another system the report comes first."""
    start = here.value("start", "smallest")
    code, title = here.value("code"), here.value("title")
    who: dict[str, Any] = {"code": code, "title": title, "by": here.actor, "now": here.now}
    try:
        if start == "import":
            with here.nobody_waits():
                converted = converted_file(here, sent, code=code or None, title=title)
            name = converted.study.title
            number = actions.begin_study(here.session, converted.texts, origin="import", name=name, **who)
            draft = f"{URL}/{number}"
            here.repeated_leads_to(draft)
            return show(here, "importing/converted.html", url=None, draft=draft, again=f"{URL}#new", **shown(converted))
        if start == "folder":
            name = sent.name.rpartition(".")[0] if sent is not None else ""
            files = folder_sent(sent, "file")
            number = actions.begin_study(here.session, files, origin="upload", name=name, **who)
        elif start.startswith(LIBRARY):
            files = new_study.library_files(start.removeprefix(LIBRARY))
            number = actions.begin_study(here.session, files, origin=start.replace(":", " "), **who)
        else:
            number = actions.begin_study(here.session, None, origin="smallest", **who)
    except Invalid as problem:
        here.refuse(problem)
        return begin_page(here, problem=problem)
    return here.redirect(f"{URL}/{number}", done="study_draft_made")


def folder_sent(sent: Sent | None, field: str) -> dict[str, str]:
    """The files of a ZIP that was sent with a form; Invalid at its field when it is no folder."""
    if sent is None:
        raise Invalid([FieldProblem(field, "required", "Choose the ZIP of the folder.")])
    try:
        return rules.unzipped(sent.data)
    except rules.NotAFolder as problem:
        raise Invalid([FieldProblem(field, "folder", str(problem))]) from problem


def admitted_in(here: Here) -> list[Admitted]:
    """Who gets in, as typed: the rows in which anything stands."""
    columns = [[value.strip() for value in here.form.get(name, ())] for name in ("person", "role", "at")]
    return [Admitted(*row) for row in zip(*columns, strict=False) if any(row)]


def with_more_rows(here: Here, rows: Sequence[Admitted]) -> list[Admitted]:
    """The rows of who gets in as they stand, with empty ones behind them."""
    return [*rows, *_empty(len(here.form.get("person", ())) - len(rows) + ROWS)]


def _empty(count: int) -> list[Admitted]:
    return [Admitted("", "")] * count


def to_admit(here: Here, study: Study | None, rows: Sequence[Admitted]) -> dict[str, Any]:
    """What the page that loads a new study needs to ask who gets in."""
    found = people.people_page(here.session, limit=500)
    return {
        "rows": list(enumerate(rows or _empty(ROWS))),
        "persons": [(each.username, f"{each.name} ({each.username})") for each in found.rows if each.is_active],
        "more_persons": found.next is not None,
        "roles": [
            {"label": "At one site, or at each of them", "options": _named(set(Role) - WHOLE_STUDY)},
            {"label": "For the whole study, or at one site", "options": _named(WHOLE_STUDY - NOT_AT_A_SITE)},
            {"label": "For the whole study", "options": _named(NOT_AT_A_SITE - {Role.ADMINISTRATOR})},
        ],
        "sites": [(site.code, site.name) for site in study.sites] if study else [],
    }


def _named(roles: Collection[Role]) -> list[tuple[str, str]]:
    """Roles to choose from, in the order of the table of permissions."""
    return [(role.value, role.replace("_", " ").capitalize()) for role in Role if role in roles]


def next_steps(session: Session, *, by: Actor) -> list[dict[str, str]]:
    """What to do on an installation without any study, for whoever administers it."""
    waiting = [each for each in reads.drafts(session, None, by=by) if each.version is None]
    draft = f"{URL}/{waiting[0].number}" if waiting else ""
    return [
        {
            "label": "Begin the study",
            "note": "As an empty draft, from the library, or from a file of yours",
            "action": "Begin the study",
            "url": URL,
            "state": "done" if draft else "current",
        },
        {
            "label": "Add the people who work in it",
            "note": "Each of them chooses a password by a link",
            "url": "/people",
            "state": "done" if len(people.people_page(session, limit=2).rows) > 1 else "todo",
        },
        {
            "label": "Mend the draft, look at it, load it",
            "note": "Loading makes the study, and says who gets in",
            "action": "Open the draft",
            "url": draft,
            "state": "current" if draft else "todo",
        },
    ]
