"""What study is this? Its facts, its settings, the version of the API, and why no token makes a study."""

from fastapi.responses import Response

from app.api.redcap.answers import Cell, one, plain
from app.api.redcap.asked import Asked
from app.api.redcap.data import rows_of
from app.api.redcap.errors import Wrong
from app.api.redcap.metadata import FIXED
from app.studies.reads import versions

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
    "Studies are not made by a token: a protocol is a folder that is checked as a whole and loaded by an administrator "
    "(equipoise study check, equipoise study load), with its hash in the log. Project XML becomes such a folder with "
    "equipoise study import."
)
PURPOSE_TEXT = "You must provide some text for 'purpose_other' since you specified 'purpose' as '1' (Other)."
TOKEN, SUPER = 32, 64


def info(asked: Asked) -> Response:
    """The facts of the study: one object."""
    asked.require_study()
    return one(_info(asked), asked.shape)


def _info(asked: Asked) -> dict[str, Cell]:
    study = asked.here.the_study
    definition, project = study.definition, asked.project
    loaded = versions(asked.here.session, study.id)[0].loaded_at
    at = f"{loaded:%Y-%m-%d %H:%M:%S}"
    return {
        "project_id": study.id,
        "project_title": definition.title,
        "creation_time": at,
        "production_time": at,
        "in_production": 1,
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
        "record_autonumbering_enabled": 1,
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
    present = _info(asked)
    named = [(name, value) for name, value in sent if name in EDITABLE]
    if named and all(value == str(present[name]) for name, value in named):
        asked.require_study()
        return plain(len(named))
    raise asked.refused(FIXED, "study.change")


def create(asked: Asked) -> Response:
    """Never by the token of a study."""
    raise asked.refused(NO_CREATION, "study.change")


def refuse_super(asked_data: list[dict[str, object]]) -> Wrong:
    """What the holder of a super token is told: which nobody is given here."""
    if any(str(row.get("purpose", "")) == "1" and not row.get("purpose_other") for row in asked_data):
        return Wrong(PURPOSE_TEXT)
    return Wrong(f"There are no super tokens here. {NO_CREATION}", 501)


def version(_: Asked) -> Response:
    """Which version of REDCap's API this is compatible with."""
    return plain(VERSION)
