"""A study that asks for optional consents, and somebody who consents to it."""

from typing import Any

from sqlmodel import Session

from app.consent.actions import record_consent
from app.consent.models import Consent
from app.participants.models import Participant
from app.studies.in_use import StudyInUse
from tests.factories import NOW, TODAY, mini_study, person

DOCUMENTS: list[dict[str, Any]] = [
    {
        "version": version,
        "language": language,
        "title": f"Taking part ({version})",
        "valid_from": valid_from,
        "text": f"# Taking part\n\nVersion {version}. You may stop at any time.\n",
        "sha256": f"{number}" * 64,
    }
    for number, (version, language, valid_from) in enumerate(
        [("1", "en", "2025-01-01"), ("1", "de", "2025-01-01"), ("2", "en", "2026-03-01")], start=1
    )
]
RULES = {"countersigned_by": ["investigator"], "optional": [{"code": "contact", "label": "Later contact"}]}


def study_with_consent(session: Session, **changes: Any) -> StudyInUse:
    """The small trial with two versions of the document, and one optional consent."""
    return mini_study(session, **{"consent_documents": DOCUMENTS, "consent": RULES, **changes})


QUESTION = {
    "code": "may_stop",
    "label": "When may you stop taking part?",
    "choices": [{"code": "never", "label": "Never"}, {"code": "any_time", "label": "At any time"}],
    "right": "any_time",
    "hint": "Read “Taking part” once more.",
}


def agreed(session: Session, study: StudyInUse, participant: Participant, **changes: Any) -> Consent:
    """Anna agrees, on screen; the investigator signs at once unless told otherwise."""
    asked: dict[str, Any] = {
        "version": "2",
        "language": "en",
        "method": "on_screen",
        "signed_on": TODAY,
        "signature": "Anna Muster",
        "paper_sha256": None,
        "options": {"contact": True},
        "by": person(session, study, "investigator"),
        "now": NOW,
        "countersign": True,
    }
    return record_consent(session, study, participant, **{**asked, **changes})
