"""What study is this? Its facts, its settings, the version of the API; and a new one, as a draft, by a super token."""

from dataclasses import replace
from datetime import datetime

from fastapi.responses import Response

from app.api.redcap.answers import Cell, one, plain
from app.api.redcap.asked import Asked
from app.api.redcap.data import Sent, rows_of
from app.api.redcap.errors import Wrong, shown
from app.api.redcap.metadata import FIXED
from app.dependencies import Here
from app.foundation.clock import today
from app.foundation.database import only_reads
from app.foundation.errors import NotFound
from app.people.actions import create_token_of_draft
from app.studies.definition import RESERVED_CODES
from app.studies.drafts.actions import draft_from_files
from app.studies.drafts.folder import checked, smallest
from app.studies.drafts.reads import Draft, draft
from app.studies.drafts.rules import LONGEST_NAME
from app.studies.importing import Failed, convert
from app.studies.importing.codes import Codes
from app.studies.reads import all_studies, versions

VERSION = "16.0.8"
"""Of the API that this one is compatible with: clients choose by it which columns they expect."""
EDITABLE = (
    "project_title",
    "project_language",
    "purpose",
    "purpose_other",
    "project_notes",
    "custom_record_label",
    "secondary_unique_field",
    "is_longitudinal",
    "surveys_enabled",
    "scheduling_enabled",
    "record_autonumbering_enabled",
    "randomization_enabled",
    "project_irb_number",
    "project_grant_number",
    "project_pi_firstname",
    "project_pi_lastname",
    "project_pi_email",
    "display_today_now_button",
    "bypass_branching_erase_field_prompt",
)
NO_CREATION = (
    "The token of a study makes no other study. A super token does (equipoise token create --super), and what it makes "
    "is a draft: a protocol is loaded by a person, once it is checked as a whole."
)
PURPOSE_TEXT = "You must provide some text for 'purpose_other' since you specified 'purpose' as '1' (Other)."
PURPOSES = ("0", "1", "2", "3", "4")
LONGEST_TITLE = 200


def info(asked: Asked) -> Response:
    """The facts of the study: one object."""
    asked.require_study()
    return one(facts(asked), asked.shape)


def facts(asked: Asked) -> dict[str, Cell]:
    """What this study is, under the names of these clients."""
    study, kept, project = asked.here.the_study, asked.draft, asked.project
    definition = study.definition
    begun = kept.made_at if kept is not None else versions(asked.here.session, study.id)[0].loaded_at
    at = f"{begun:%Y-%m-%d %H:%M:%S}"
    return {
        "project_id": study.id if kept is None else kept.number,
        "project_title": definition.title,
        "creation_time": at,
        "production_time": at if kept is None else "",
        "in_production": int(kept is None),
        "project_language": "English" if definition.language.startswith("en") else definition.language,
        "purpose": 2,
        "purpose_other": "",
        "project_notes": "",
        "custom_record_label": "",
        "secondary_unique_field": "",
        "is_longitudinal": 1,
        "has_repeating_instruments_or_events": int(project.repeats),
        "surveys_enabled": int(any(form.is_survey for form in project.forms)),
        "scheduling_enabled": 1,
        "record_autonumbering_enabled": int(asked.is_numbered),
        "randomization_enabled": int(definition.is_allocated),
        "ddp_enabled": 0,
        "project_irb_number": "",
        "project_grant_number": "",
        "project_pi_firstname": "",
        "project_pi_lastname": "",
        "project_pi_email": "",
        "display_today_now_button": 0,
        "missing_data_codes": " | ".join(f"{code}, {label}" for code, label in project.missing),
        "external_modules": "",
        "bypass_branching_erase_field_prompt": 0,
    }


def import_settings(asked: Asked) -> Response:
    """What is so already is counted; nothing else is taken."""
    sent = [(name, str(value).strip()) for row in rows_of(asked.call) for name, value in row.items()]
    present = facts(asked)
    named = [(name, value) for name, value in sent if name in EDITABLE]
    if named and all(value == str(present[name]) for name, value in named):
        asked.require_study()
        return plain(len(named))
    raise asked.refused(FIXED, "study.change")


def create(asked: Asked) -> Response:
    """A draft of a new study, of project XML where there is some; its token, as text. Only by a super token."""
    if not asked.call.is_super:
        raise asked.refused(NO_CREATION, "study.change")
    here, call = asked.here, asked.call
    title = _title(rows_of(call))
    here.session.commit()  # that the token was used stays; nobody waits while a large file is read
    taken = Codes(*RESERVED_CODES, *(each.code for each in all_studies(here.session)))
    code, xml = taken.take(title, "project"), call.raw("odm")
    try:
        files = _files(xml, code, title, here.now) if xml.strip() else smallest(code, title)
    except Failed as reason:
        raise Wrong(f"The ODM could not become a study. {reason}") from None
    by, now, name = here.actor, here.now, title[:LONGEST_NAME]
    number = draft_from_files(here.session, here.the_study, files, name=name, origin="super token", by=by, now=now)
    log = here.the_study.code
    return plain(create_token_of_draft(here.session, call.token, draft_id=number, name=name, log=log, by=by, now=now))


def enter(here: Here, number: int, *, may_be_asked: bool) -> Draft:
    """The draft that a token is for: what it says is then the study. Nothing else is there, and nobody."""
    address = f"{here.settings.address}/{here.the_study.code}/study/drafts"
    try:
        found = draft(here.session, here.the_study, number, by=here.actor)
    except NotFound:
        raise Wrong(f"The draft that this token was for was deleted. Make another one: {address}") from None
    if not only_reads(here.session):
        here.session.commit()  # that the token was used stays; nobody waits while the folder is read
    study, _ = checked(found.texts)
    if study is None:
        raise Wrong(f"This study is a draft, and has {found.errors} errors. Mend them first: {address}/{number}")
    if not may_be_asked:
        raise Wrong(
            "This study is a draft still: nobody is in it. Decide what is marked in it and load it, with your own "
            f"password: {address}/{number} - from then on this token is for the study that was loaded."
        )
    here.study = replace(here.the_study, definition=study, others={})
    return found


def _title(sent: list[Sent]) -> str:
    """The title of the one project that was sent; what is wrong with it otherwise."""
    if len(sent) != 1:
        raise Wrong("Send one project at a time, as one item of data.")
    said = {name: str(value).strip() for name, value in sent[0].items()}
    if not said.get("project_title"):
        raise Wrong("You must provide some text for 'project_title'.")
    if said.get("purpose", "0") not in PURPOSES:
        raise Wrong(f"The value of 'purpose' is one of {', '.join(PURPOSES)}.")
    if said.get("purpose") == "1" and not said.get("purpose_other"):
        raise Wrong(PURPOSE_TEXT)
    return " ".join(shown(said["project_title"], LONGEST_TITLE).split())


def _files(xml: str, code: str, title: str, now: datetime) -> dict[str, str]:
    converted = convert(xml.encode("utf-8", "replace"), name="odm", on=today("UTC", now), code=code, title=title)
    return {path: data.decode() for path, data in converted.files.items()}


def version(_: Asked) -> Response:
    """Which version of REDCap's API this is compatible with."""
    return plain(VERSION)
