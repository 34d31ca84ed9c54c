"""What is the casebook of a participant as a file? Its parts in their order, and the log of it all, as PDF."""

from collections.abc import Sequence
from datetime import datetime

from sqlmodel import Session

from app.capture.casebook.reads import changed_of, corrected_screening, log_of, signatures_of
from app.capture.casebook.rules import MEANINGS, Signature, holds, manifest_of
from app.capture.double.reads import withheld_subjects, without_withheld
from app.capture.reads import entries_with_values
from app.capture.rules import EntryState
from app.casebook.conduct import care_part, contacts_part, deviations_part, events_part
from app.casebook.course import (
    LEAVING,
    LEAVING_TREATMENT,
    consent_part,
    facts_of,
    leaving_part,
    screening_part,
    visits_part,
)
from app.casebook.forms import entries_part, queries_of_all, queries_part
from app.casebook.log import JUDGING, KINDS, KINDS_OF_LEAVING, KINDS_OF_SAFETY, line_of
from app.casebook.telling import Telling
from app.participants.models import Participant
from app.people.access import Actor, may, require
from app.people.permissions import Permission
from app.printing import Casebook, Part, casebook_pdf
from app.schedule.reads import visits_of
from app.studies.in_use import StudyInUse

MOST_LINES = 5000
"""Lines of the log that are printed: what is older is left out, and it is said so."""


def casebook_of(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    site: str,
    timezone: str,
    by: Actor,
    now: datetime,
    judged: bool = True,
) -> bytes:
    """The casebook as PDF/A, blinded: all that this person may read of the participant on pages, and what the log says
    of it; never an arm, what was delivered in a session, or a name.

    Contacts, care, deviations and events are for who reads of safety at the site. `judged`: with the judgements of
    events and their deadlines, which a copy for the participant leaves out. At most `MOST_LINES` lines of the log, so
    that it is bounded; one participant at a time.
    """
    require(by, Permission.ENTRY_READ, site_id=participant.site_id, action="casebook.print", subject=participant.code)
    assert participant.id is not None
    telling = Telling(study.definition, timezone)
    gettext, code = telling.gettext, participant.code
    reads_safety = may(by, Permission.SAFETY_READ, site_id=participant.site_id)
    every = entries_with_values(session, participant.id)
    entries = without_withheld(session, study.definition, participant, every, by=by)
    signatures = signatures_of(session, participant.id)
    standing = next((each for each in signatures if each.superseded_at is None), None)
    stands = standing is not None and holds(
        standing, code, manifest_of(entries, corrected_screening(session, participant.id))
    )
    note, log = _log(session, study, participant, telling, by=by, reads_safety=reads_safety, judged=judged)
    book = Casebook(
        title=gettext("Casebook %s") % code,
        subtitle=f"{study.definition.title} · {site}",
        facts=[
            (gettext("Participant"), code),
            (gettext("Site"), site),
            *facts_of(telling, participant),
            (gettext("Protocol version"), study.definition.version),
            (gettext("Printed"), f"{telling.moment(now)} ({timezone}), {by.name}"),
        ],
        signature=_signed(telling, standing, stands),
        legend=gettext(
            "A bar and “changed” mark what is not what was written first; every value it had is in the appendix. "
            "Answers in brackets are reasons for having none."
        ),
        parts=_parts(session, study, participant, telling, entries, by=by, now=now, judged=judged),
        changed=gettext("changed"),
        appendix=gettext("Appendix: what the log says of all this"),
        appendix_note=note,
        columns=[
            gettext("When"),
            gettext("Who"),
            gettext("What"),
            gettext("Where"),
            gettext("Was"),
            gettext("Is"),
            gettext("Why"),
        ],
        log=log,
        footer=f"{study.definition.short_title} · {code} · {telling.moment(now)}",
    )
    return casebook_pdf(book, at=now, language=telling.language)


def _parts(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    telling: Telling,
    entries: Sequence[EntryState],
    *,
    by: Actor,
    now: datetime,
    judged: bool,
) -> list[Part]:
    assert participant.id is not None
    code = participant.code
    reads_safety = may(by, Permission.SAFETY_READ, site_id=participant.site_id)
    visits = visits_of(session, participant.id)
    changed = changed_of(session, study, code)
    queries = queries_of_all(session, study, participant, by=by, now=now)
    left, _ = log_of(session, study, code, kinds=(*LEAVING, *LEAVING_TREATMENT), limit=MOST_LINES)
    parts = [
        leaving_part(session, study, participant, telling, left, reads_safety=reads_safety),
        screening_part(session, study, participant, telling),
        consent_part(session, study, participant, telling),
        visits_part(telling, visits, changed, telling.on(now)),
        entries_part(telling, entries, {visit.code: visit for visit in visits}, changed, queries),
        queries_part(telling, queries),
    ]
    if reads_safety:
        parts += [
            events_part(session, study, participant, telling, by=by, judged=judged),
            deviations_part(session, study, participant, telling, changed, by=by),
            care_part(session, participant, telling),
            contacts_part(session, participant, telling),
        ]
    return parts


def _log(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    telling: Telling,
    *,
    by: Actor,
    reads_safety: bool,
    judged: bool,
) -> tuple[str, list[list[str]]]:
    """What is said above the log, and its lines: of what stands in front of it, and of nothing else."""
    kinds = (*KINDS, *KINDS_OF_LEAVING, *(KINDS_OF_SAFETY if reads_safety else ()))
    but = () if judged else JUDGING
    found, more = log_of(session, study, participant.code, kinds=kinds, but=but, limit=MOST_LINES)
    hidden = withheld_subjects(session, study.definition, participant, by=by)
    lines = [line_of(telling, line) for line in found if line["subject"] not in hidden]
    note = telling.gettext("Times are those at the site (%s), the oldest first.") % telling.timezone
    if more:
        words = telling.gettext("Only the newest %s lines are printed; the whole log is in Equipoise.")
        note = f"{note} {words % len(lines)}"
    return note, lines


def _signed(telling: Telling, signature: Signature | None, stands: bool) -> list[str]:
    gettext = telling.gettext
    if signature is None:
        return [gettext("This casebook is not signed as it stands.")]
    words = [
        f"{signature.signed_name}, {telling.moment(signature.signed_at)} ({telling.timezone})",
        gettext(MEANINGS.get(signature.meaning, signature.meaning)),
        f"SHA-256 {signature.digest}",
    ]
    if not stands:
        words.append(gettext("What is stored is not what was signed. Tell your data manager."))
    return words
