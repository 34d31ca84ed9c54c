"""What is the copy of a signed consent? The document and the signatures under it as PDF, to print or to go by mail."""

from sqlalchemy import select
from sqlmodel import Session

from app.consent import actions, reads, rules
from app.consent.models import Consent
from app.foundation.database import instance_of
from app.foundation.drawing import drawing_svg
from app.foundation.errors import Refused
from app.foundation.languages import Gettext, translations
from app.mail.channels import Attachment, Undelivered
from app.participants import files
from app.participants.identity import PARTICIPANT
from app.participants.models import Participant
from app.participants.reads import SITE
from app.printing import Row, SignedDocument, signed_pdf
from app.rendering import day, moment
from app.studies.in_use import StudyInUse

NOT_THERE = "The document is not in the protocol any more. Ask your administrator for the version signed."


def signed_copy(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    consent: Consent,
    *,
    signature: str | None,
    strokes: str | None,
    timezone: str,
) -> bytes:
    """The document and the signatures under it as PDF, in the language in which it was signed.

    `signature` and `strokes` are what stands under it, None once erased; whoever calls this has asked who may see them.
    Refused where the document is in no version of the study any more.
    """
    document = reads.document_of(session, study, consent)
    if document is None:
        raise Refused(NOT_THERE)
    gettext = translations(consent.language).gettext
    intact = reads.is_intact(session, study, consent, participant)
    rows = _signature_rows(
        session, study, consent, signature or gettext("Erased on request."), timezone, intact, gettext
    )
    if strokes:
        label = gettext("Participant's signature")
        rows.insert(3, (label, drawing_svg(strokes, label, "black"), "drawing"))
    version = gettext("version %(version)s") % {"version": document.version}
    signed = SignedDocument(
        document.title,
        f"{study.definition.short_title}, {version}",
        reads.document_blocks(document),
        gettext("Signatures"),
        rows,
        f"{participant.code}, {document.title}, {version}",
    )
    return signed_pdf(signed, at=consent.countersigned_at or consent.recorded_at, language=consent.language)


def copy_of_consent(session: Session, study: StudyInUse, consent_id: int) -> list[Attachment]:
    """What goes with the mail of a copy: the PDF, and the scan of what was signed on paper, where one is kept.

    Made when the mail is sent, so that none of it waits anywhere. Undelivered for good where it cannot be made, or
    is too large.
    """
    consent = reads.consent_with(session, consent_id)
    row = session.execute(select(PARTICIPANT).where(PARTICIPANT.c.id == consent.participant_id)).mappings().one()
    participant = instance_of(Participant, row)
    zone = session.execute(select(SITE.c.timezone).where(SITE.c.id == participant.site_id)).scalar_one()
    signature, strokes = actions.signed_under(session, consent)
    try:
        made = signed_copy(
            session,
            study.at(participant.site_id),
            participant,
            consent,
            signature=signature,
            strokes=strokes,
            timezone=zone,
        )
    except Refused as problem:
        raise Undelivered(problem.reason, for_good=True) from None
    found = [Attachment("copy.pdf", "application/pdf", made)]
    scan = files.opened(session, consent.participant_id, reads.SCAN_PURPOSE, consent.paper_sha256)
    if scan is not None:
        data, media_type = scan
        found.append(Attachment(f"signed-paper.{media_type.rpartition('/')[2]}", media_type, data))
    if sum(len(each.data) for each in found) > rules.LARGEST_COPY:
        raise Undelivered(rules.TOO_LARGE, for_good=True)
    return found


def _signature_rows(
    session: Session,
    study: StudyInUse,
    consent: Consent,
    signature: str,
    timezone: str,
    intact: bool,
    gettext: Gettext,
) -> list[Row]:
    """What was signed, as label, value and kind of value."""
    said, language = reads.said_with(session, study, consent), consent.language
    ways = {"paper": gettext("On paper"), "by_link": gettext("By link, after they gave their date of birth")}
    whole = gettext("Document and signatures are byte for byte what was signed.")
    broken = gettext("This is not what was signed: something was changed since. Do not rely on it.")
    rows: list[Row] = [
        (gettext("Signed on"), day(consent.signed_on, language), "text"),
        (gettext("How"), ways.get(consent.method, gettext("On screen")), "text"),
        (gettext("Paper kept at") if consent.method == "paper" else gettext("Participant's name"), signature, "text"),
        *((label, gettext("yes") if agreed else gettext("no"), "text") for label, agreed in said.options),
        *((question, answer, "text") for question, answer in said.answers),
    ]
    if consent.countersigned_at is not None:
        at = moment(consent.countersigned_at, timezone, language).striptags()
        who = f"{consent.countersigned_name} ({consent.countersigned_by}), {at}"
        rows += [
            (gettext("Countersigned by"), who, "text"),
            (gettext("Meaning"), consent.countersigned_meaning or "", "text"),
        ]
    if consent.withdrawn_on is not None:
        rows.append((gettext("Withdrawn on"), day(consent.withdrawn_on, language), "text"))
    if consent.refused_at is not None:
        at = moment(consent.refused_at, timezone, language).striptags()
        why = gettext("%(at)s: recorded wrongly, so it counts as no consent") % {"at": at}
        rows.append((gettext("Refused"), why, "text"))
    if consent.paper_sha256:
        rows.append((gettext("SHA-256 of the scan"), consent.paper_sha256, "code"))
    return [
        *rows,
        (gettext("SHA-256 of the document"), consent.document_sha256, "code"),
        (gettext("SHA-256 of it all"), consent.binding, "code"),
        (gettext("Intact"), whole if intact else broken, "text"),
    ]
