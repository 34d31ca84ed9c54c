"""How is a record randomised? As by the button: once, with its gates. Nobody who is blinded is told an arm.

`randomization_id` 1 is the allocation to an arm; where the study has a first stage, 1 is that and 2 the arm.
"""

from fastapi.responses import Response

from app.api.redcap.answers import CONTENT_TYPES, XML_HEAD, Cell, one, xml_text
from app.api.redcap.asked import Asked
from app.api.redcap.errors import Wrong, no_record, not_valid
from app.dependencies import newest_entry, remembering
from app.foundation.errors import NotFound
from app.participants.reads import participant_by_code
from app.people.access import require
from app.people.permissions import Permission
from app.randomisation import actions

CONCEALED = "*"


def randomise(asked: Asked) -> Response:
    """The number of the allocation; it says nothing of the arm, which treating clinicians see on their page."""
    here, call = asked.here, asked.call
    # Before anything is looked for: that somebody is not there is no answer to who may not randomise anybody.
    require(here.actor, Permission.PARTICIPANT_RANDOMISE, subject="/redcap")
    record, number = asked.record, call.number("randomization_id")
    staged = here.the_study.definition.allocation.first_stage is not None
    if not here.the_study.definition.is_allocated:
        raise Wrong("Nobody is randomised in this study: its groups are observed.")
    if number is None or not 1 <= number <= 1 + staged:
        raise not_valid("randomization_id")
    try:
        found = participant_by_code(
            here.session, here.the_study, record, by=here.actor, permission=Permission.PARTICIPANT_RANDOMISE
        )
    except NotFound:
        raise no_record(call.text("record")) from None
    newest, study = newest_entry(here), here.the_study.at(found.site_id)
    if staged and number == 1:
        actions.randomise_first(here.session, study, found, newest=newest, by=here.actor, now=here.now)
        target = CONCEALED
    else:
        made = actions.randomise(here.session, study, found, newest=newest, by=here.actor, now=here.now)
        target = str(made.number)
    body: dict[str, Cell] = {"randomization_id": number, "record": found.code, "target_field": target}
    if call.flag("returnAlt"):
        body["target_field_alt"] = CONCEALED
    return remembering(here, _answer(asked, body))


def _answer(asked: Asked, body: dict[str, Cell]) -> Response:
    shape = asked.call.result_shape
    if shape != "xml":
        return one(body, shape)
    inside = "".join(f"<{name}>{xml_text(str(value))}</{name}>" for name, value in body.items())
    return Response(f"{XML_HEAD}<item>{inside}</item>".encode(), headers={"Content-Type": CONTENT_TYPES["xml"]})
