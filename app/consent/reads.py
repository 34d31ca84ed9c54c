"""What may I see of consents? Those of one participant, the documents, and whether consent holds.

A caller holds the participant already, and so was allowed to see them (`participants.reads.participant_by_code`).
"""

from datetime import date

from markdown_it import MarkdownIt
from sqlalchemy import Integer, bindparam, select
from sqlmodel import Session

from app.consent import rules
from app.consent.models import Consent
from app.foundation.database import instance_of, table_of
from app.participants.models import Participant
from app.studies.definition import ConsentDocument
from app.studies.in_use import StudyInUse
from app.studies.reads import definition

CONSENT = table_of(Consent)

_CONSENTS = (
    select(*CONSENT.c)
    .where(CONSENT.c.participant_id == bindparam("participant_id", type_=Integer))
    .order_by(CONSENT.c.id)
)

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def consents_of(session: Session, participant_id: int) -> list[Consent]:
    """The consents of one participant, oldest first, withdrawn ones too."""
    rows = session.execute(_CONSENTS, {"participant_id": participant_id}).mappings()
    return [instance_of(Consent, row) for row in rows]


def valid_document(study: StudyInUse, language: str, on: date) -> ConsentDocument | None:
    """The document to sign in this language on a day; None when the study has none."""
    return rules.valid_document(study.definition.consent_documents, language, on)


def document_of(session: Session, study: StudyInUse, consent: Consent) -> ConsentDocument | None:
    """The document that was signed, from the version of the study it was signed under."""
    version = consent.study_version_id
    signed_under = study.definition if version == study.version_id else definition(session, version)
    return rules.document_with(signed_under.consent_documents, consent.document_version, consent.language)


def is_intact(session: Session, study: StudyInUse, consent: Consent, participant: Participant) -> bool:
    """Whether consent and document are byte for byte what was signed."""
    return rules.is_intact(consent, document_of(session, study, consent), participant_code=participant.code)


def why_no_consent(
    session: Session, study: StudyInUse, participant: Participant, *, on: date | None = None
) -> str | None:
    """Why nothing may be collected from this participant (on a day, when one is given), or None."""
    assert participant.id is not None
    if participant.study_id != study.id:
        return "There is no consent yet. Record the participant's consent first."
    return rules.why_no_consent(consents_of(session, participant.id), on=on)


def reconsent_owed(study: StudyInUse, consents: list[Consent], language: str, on: date) -> ConsentDocument | None:
    """The newer document a participant who consented has not signed yet, or None."""
    active = [consent for consent in consents if rules.is_active(consent)]
    document = valid_document(study, language, on)
    if not active or document is None or any(one.document_version == document.version for one in active):
        return None
    return document


def document_html(document: ConsentDocument) -> str:
    """The document as HTML: Markdown only; HTML inside it is shown as text, pictures are left out."""
    return str(_MARKDOWN.render(document.text))
