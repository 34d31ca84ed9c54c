"""The small trial with people in it at both sites, and a second version of it to go over to."""

from copy import deepcopy
from typing import Any

from sqlmodel import Session

from app.capture.actions import save_entry, sign_entry
from app.participants.actions import mark
from app.participants.models import Participant
from app.participants.status import Status
from app.people.access import Actor, Grant
from app.people.permissions import Permission, Role
from app.people.reads import SiteRow, sites_of
from app.schedule.actions import open_visits
from app.studies.actions import load_study
from app.studies.definition import Study
from app.studies.in_use import StudyInUse, study_in_use
from tests.consent.acts import agreed
from tests.factories import MINI, NOW, TODAY, definition, person
from tests.participants.acts import screened

ADMINISTRATOR = Actor(1, "ada", "Ada", "Institute", grants=(Grant(Role.ADMINISTRATOR),), request_id="r1")
DOCUMENT = {**MINI["consent_documents"][0], "sha256": "0" * 64}  # type: ignore[index]
NEWER = {**DOCUMENT, "version": "2", "valid_from": "2026-02-01", "sha256": "1" * 64}


def amended(**changes: Any) -> Study:
    """Version 2: week 18 is due earlier, week 26 is new, the first session is gone, a question of the form is new."""
    whole: dict[str, Any] = deepcopy({**MINI, "consent_documents": [DOCUMENT, NEWER]})
    baseline, _, week18 = whole["visits"]
    week18 |= {"day": 119, "window": {"before": 7, "after": 21}}
    week26 = {**week18, "code": "week26", "label": "Week 26", "day": 182, "instruments": ["pain"]}
    whole["visits"] = [baseline, week18, week26]
    items = whole["instruments"][1]["sections"][0]["items"]
    items.append({"code": "pain_worst", "label": "Worst pain", "type": "scale", "min": 0, "max": 10})
    return Study.model_validate({**whole, "version": "2", **changes})


def first(**changes: Any) -> dict[str, Any]:
    """What to change in the small trial so that its first version fits `amended`."""
    return {"consent_documents": [DOCUMENT], **changes}


def enrolled(session: Session, study: StudyInUse, code: str = "north", *, entered: bool = True) -> Participant:
    """Somebody randomised today, with their visits, and a signed entry at baseline."""
    by = person(session, study, "coordinator", site_code=code)
    one = screened(session, study, by=by, code=code)
    agreed(session, study, one, version="1", options={}, by=person(session, study, "investigator", site_code=code))
    open_visits(session, study, one, anchor="consent", on=TODAY, by=by, now=NOW)
    if entered:
        saved = save_entry(
            session,
            study,
            one,
            visit="baseline",
            instrument="pain",
            values={"pain_nrs": 5, "pain_days": 3},
            reasons={},
            base_version=0,
            by=by,
            now=NOW,
        )
        sign_entry(
            session,
            study,
            one,
            visit="baseline",
            instrument="pain",
            version=saved.version,
            meaning="review",
            by=person(session, study, "investigator", site_code=code),
            now=NOW,
        )
    mark(session, study, one, Status.RANDOMISED, on=TODAY, permission=Permission.PARTICIPANT_RANDOMISE, by=by, now=NOW)
    open_visits(session, study, one, anchor="randomisation", on=TODAY, by=by, now=NOW)
    return one


def loaded(session: Session, study: StudyInUse, new: Study | None = None) -> StudyInUse:
    """Version 2 loaded; the study as it stands then."""
    load_study(session, new or amended(), by=ADMINISTRATOR, now=NOW)
    return study_in_use(session, study.code)


def site_row(session: Session, study: StudyInUse, code: str = "north") -> SiteRow:
    return next(site for site in sites_of(session, study.id) if site.code == code)


__all__ = ["ADMINISTRATOR", "amended", "definition", "enrolled", "first", "loaded", "site_row"]
