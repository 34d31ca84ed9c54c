"""Import: the definition of a study from elsewhere, as a study folder or a draft, and a report. Nothing is loaded."""

import base64
from typing import Any

from fastapi.responses import Response

from app.dependencies import LARGEST_UPLOAD, ChangeInStudy, Here, PageInStudy, Sent, SentFiles
from app.foundation.clock import today
from app.foundation.errors import FieldProblem, Invalid
from app.people.access import require
from app.people.permissions import Permission
from app.studies.definition import Study
from app.studies.drafts.actions import draft_from_files
from app.studies.drafts.rules import LONGEST_NAME
from app.studies.importing import LARGEST_SOURCE, Converted, Failed, Kind, convert, folder_zip
from app.studies.importing.report import in_order
from app.studies.rules import problems
from app.web.pages import pages
from app.web.shell import errors_of, show, status_of

router = pages()

ADDRESS = "/{study}/study/import"
MOST_SHOWN = 200  # notes of one kind on the page; all of them are in the folder

HEADINGS = {
    Kind.DEFAULT: ("To be decided", "The folder needs these, and the file does not say them."),
    Kind.PERSONAL: ("Personal data", "Who somebody is belongs to their identity, not into forms."),
    Kind.LOST: ("Not converted", "Nothing in the folder stands for these, or not all of it."),
    Kind.CHANGED: ("Converted in another way", "Check that they mean what they meant."),
    Kind.LOOKS: ("Only how it looked", "Nothing to do, unless the look matters."),
}


@router.get(ADDRESS, name="importing.start")
def start(here: PageInStudy) -> Response:
    """Which files can be converted, and where to give one."""
    require(here.actor, Permission.STUDY_LOAD)
    return _start_page(here)


@router.post(ADDRESS, name="importing.convert", max_body_size=LARGEST_UPLOAD)
def convert_file(here: ChangeInStudy, files: SentFiles) -> Response:
    """What becomes of the file: the report, and the folder to download, or to edit as a draft."""
    require(here.actor, Permission.STUDY_LOAD, action="study.convert")
    draft = None
    try:
        with here.nobody_waits():
            converted = converted_file(here, files.get("file"))
        if here.value("draft"):
            study, name = converted.study, converted.study.title[:LONGEST_NAME]
            number = draft_from_files(
                here.session,
                here.the_study,
                converted.texts,
                name=name or study.code,
                origin="import",
                by=here.actor,
                now=here.now,
            )
            draft = f"{_url(here)}/drafts/{number}"
            here.repeated_leads_to(draft)
        else:
            here.release_key()
    except Invalid as problem:
        here.refuse(problem)
        return _start_page(here, problem)
    again = f"{_url(here)}/import"
    return show(here, "importing/converted.html", url=_url(here), draft=draft, again=again, **shown(converted))


def _url(here: Here) -> str:
    return f"/{here.the_study.code}/study"


def converted_file(here: Here, file: Sent | None, *, code: str | None = None, title: str = "") -> Converted:
    """What becomes of a file that was sent, under this code and title where they are given; Invalid with the reason."""
    if file is None or not file.data:
        raise Invalid([FieldProblem("file", "missing", "Choose a file.")])
    try:
        return convert(file.data, name=file.name[:200], on=today("UTC", here.now), code=code, title=title)
    except Failed as reason:
        raise Invalid([FieldProblem("file", "unreadable", str(reason))]) from None


def _start_page(here: Here, problem: Invalid | None = None) -> Response:
    return show(
        here,
        "importing/start.html",
        status_code=status_of(problem),
        url=_url(here),
        errors=errors_of(problem),
        keep=bool(here.value("draft")),
        problems=[(each.field, each.message) for each in problem.problems] if problem else [],
        largest=LARGEST_SOURCE // 1_000_000,
    )


def shown(converted: Converted) -> dict[str, Any]:
    """What the page of the report says of a study that was converted."""
    study = converted.study
    return {
        "converted": study,
        "download": base64.b64encode(folder_zip(converted)).decode(),
        "forms": [(form, len(form.every_item), _visits_of(study, form.code)) for form in study.instruments],
        "warnings": len(problems(study)),
        "notes": [(*HEADINGS[kind], len(notes), notes[:MOST_SHOWN]) for kind, notes in in_order(converted.notes)],
    }


def _visits_of(study: Study, code: str) -> list[str]:
    """Where a form is filled in, as labels."""
    found = [visit.label for visit in study.visits if code in visit.instruments]
    if study.unscheduled is not None and code in study.unscheduled.instruments:
        found.append(study.unscheduled.label)
    return found
