"""What do participants answer themselves? A link for a visit's questions, and how far everybody is with a form."""

from fastapi.responses import Response

from app.api.redcap.answers import Listing, plain
from app.api.redcap.asked import Asked
from app.api.redcap.dictionary import Event, Form
from app.api.redcap.errors import Wrong, no_record, not_valid, shown
from app.capture.questionnaires.actions import give
from app.capture.status import EntryStatus
from app.exports.records import recorded
from app.foundation.errors import NotFound
from app.participants.links.rules import Purpose
from app.participants.reads import participant_by_code
from app.participants.status import Status
from app.people.access import require
from app.people.permissions import Permission

COLUMNS = (
    "email",
    "email_occurrence",
    "identifier",
    "invitation_sent_status",
    "invitation_send_time",
    "response_status",
    "survey_access_code",
    "survey_link",
)
SURVEYS = "/surveys/"
"""Where clients expect a survey; it leads to the participant's link."""
LETTERS = 43
"""So many has the secret of a link. Clients expect a word in its place, so that two of the signs are spelled out."""
NO_CODES = (
    "Participants answer by a link of their own (content=surveyLink), which asks for their date of birth and ends with "
    "their answers. Equipoise gives no {}: whoever held one could answer for somebody else."
)


def link(asked: Asked) -> Response:
    """A new link for the questions of a visit; an earlier one for it stops working, and it is answered this once."""
    here, call = asked.here, asked.call
    record = asked.record
    require(here.actor, Permission.PARTICIPANT_LINK, action="link.give", subject="/redcap")
    _, event = _survey(asked)
    try:
        found = participant_by_code(
            here.session, here.the_study, record, by=here.actor, permission=Permission.PARTICIPANT_LINK
        )
    except NotFound:
        raise no_record(call.text("record")) from None
    token = give(
        here.session,
        here.the_study.at(found.site_id),
        found,
        purpose=Purpose.QUESTIONS,
        about=event.visit,
        language=here.the_study.definition.language,
        by=here.actor,
        now=here.now,
    )
    return plain(f"{here.settings.address}{SURVEYS}?s={as_word(token)}")


def as_word(secret: str) -> str:
    """The secret of a link in letters, digits and underscores."""
    return secret.replace("_", "_1").replace("-", "_0")


def secret_of(word: str) -> str:
    """The secret that a word stands for; one that has no sign to spell out, or was given as it is, is as long."""
    return word if len(word) <= LETTERS else word.replace("_0", "-").replace("_1", "_")


def _survey(asked: Asked) -> tuple[Form, Event]:
    """The form that participants fill in, and the event at which they are asked; the first one when none is named."""
    project, call = asked.project, asked.call
    form = project.form.get(call.text("instrument"))
    if form is None:
        raise not_valid("instrument")
    if not form.is_survey:
        raise Wrong(f"The instrument {shown(form.name)} is not a survey: participants do not fill it in themselves.")
    return form, asked.event_for(form)


def access_code(asked: Asked) -> Response:
    """Never."""
    raise asked.refused(NO_CODES.format("access codes"), "link.give")


def return_code(asked: Asked) -> Response:
    """Never."""
    raise asked.refused(NO_CODES.format("return codes"), "link.give")


def queue_link(asked: Asked) -> Response:
    """Never."""
    raise asked.refused(NO_CODES.format("link to everything at once"), "link.give")


def participant_list(asked: Asked) -> Response:
    """Everybody of whom a form is asked, and how far they are: 0 nothing, 1 partial, 2 complete. Without addresses."""
    here = asked.here
    require(here.actor, Permission.PARTICIPANT_LINK, action="link.list", subject="/redcap")
    form, event = _survey(asked)
    rows = []
    for found in recorded(here.session, here.the_study, by=here.actor, permission=Permission.PARTICIPANT_LINK):
        if found.status == Status.SCREEN_FAILED:
            continue
        entry = next(
            (each for each in found.entries if (each.visit, each.instrument) == (event.visit, form.name)), None
        )
        status = 0 if entry is None else 2 if entry.status == EntryStatus.COMPLETE else 1
        rows.append(("", 1, found.code, 0, "", status, "", ""))
    return asked.answer(Listing(COLUMNS, rows))
