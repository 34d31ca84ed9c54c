"""How did it go for a participant? Screening, consents, visits; and what stopped, who withdrew, was lost, died or is
through.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

from sqlmodel import Session

from app.casebook.telling import Telling
from app.consent.models import Consent
from app.consent.reads import consents_of, document_of, is_intact, options_now, said_with
from app.participants.in_error.reads import InError, records_of
from app.participants.in_error.rules import LABELS
from app.participants.models import Participant
from app.participants.reads import ScreeningResult, screenings_of
from app.participants.rules.status import withdrawal_level
from app.printing import Block, Listed, Part, Told
from app.safety.logs.reads import ends_of
from app.schedule.models import ParticipantVisit
from app.schedule.rules import VisitState, visit_state
from app.studies.definition import StratumFactor, Study, unscheduled_number
from app.studies.in_use import StudyInUse
from app.studies.reads import definition
from app.wording import why_not_taking_part

STATUSES: Mapping[str, str] = {
    "screened": "Screened, eligible",
    "screen_failed": "Screen failure",
    "consented": "Consented",
    "randomised": "Randomised",
    "completed": "Completed",
    "withdrawn": "Withdrawn",
    "lost": "Lost to follow-up",
    "died": "Died",
}
STATES: Mapping[str, str] = {
    "upcoming": "Planned",
    "planned": "Planned",
    "due": "Due",
    "overdue": "Overdue",
    "held": "Held",
    "held_early": "Held before its window",
    "held_late": "Held after its window",
    "missed": "Missed",
    "stopped": "Not due any more",
    "in_error": "Entered in error",
}
ENDS: Mapping[str, str] = {
    "lost": "Lost to follow-up",
    "found": "Found again",
    "died": "Died",
    "mistake": "Recorded as dead by mistake",
    "completed": "Completed the study",
    "reopened": "Something was left to do",
}
LEAVING = ("participant.withdrawn", "participant.withdrawal_taken_back", "identity.erased")
LEAVING_TREATMENT = ("treatment.stopped", "treatment.resumed")


def facts_of(telling: Telling, participant: Participant) -> list[tuple[str, str]]:
    """Where somebody stands, and since when."""
    gettext = telling.gettext
    dates = [
        (gettext("Screened"), participant.screened_on),
        (gettext("Consent"), participant.consented_on),
        (gettext("Randomised"), participant.randomised_on),
        (gettext("Treatment stopped"), participant.treatment_stopped_on),
        (gettext("Withdrew"), participant.withdrawn_on),
    ]
    standing = (gettext("Status"), telling.word(STATUSES, participant.status))
    return [standing, *((label, telling.day(on)) for label, on in dates if on is not None)]


def screening_part(session: Session, study: StudyInUse, participant: Participant, telling: Telling) -> Part:
    """Every pre-screen: what was answered, the verdict of each criterion, and why somebody does not take part."""
    assert participant.id is not None
    return Part(
        telling.gettext("Screening"),
        nothing=telling.gettext("Nothing was asked at screening."),
        blocks=[_screening(session, study, telling, each) for each in screenings_of(session, participant.id)],
    )


def _screening(session: Session, study: StudyInUse, telling: Telling, screened: ScreeningResult) -> Block:
    gettext, version = telling.gettext, screened.study_version_id
    asked: Study = study.definition if version == study.version_id else definition(session, version)
    form = asked.instrument(asked.eligibility.instrument)
    items = form.asked(screened.answers) if form is not None else ()
    rows = [Told(item.label, telling.with_unit(item, screened.answers.get(item.code))) for item in items]
    known = {item.code for item in items}
    rows += [Told(code, str(value)) for code, value in screened.answers.items() if code not in known]
    for verdict in screened.verdicts:
        if verdict.met is None:
            words = gettext("Not known yet.")
        elif verdict.kind == "inclusion":
            words = gettext("Fulfilled.") if verdict.met else gettext("Not fulfilled.")
        else:
            words = gettext("Does not apply.") if verdict.met else gettext("Applies.")
        reason = telling.sentence(verdict.reason) if verdict.reason else ""
        rows.append(Told(verdict.label, words, notes=[reason] if reason else []))
    if screened.failure_reason:
        reason = why_not_taking_part(study.definition, screened.failure_reason)
        rows.append(Told(gettext("Does not take part"), reason))
    facts = gettext("version %(version)s of the protocol, %(at)s by %(who)s") % {
        "version": asked.version,
        "at": telling.moment(screened.screened_at),
        "who": screened.screened_by,
    }
    title = gettext("Eligible") if screened.eligible else gettext("Not eligible")
    return Block(title, facts, rows)


# Consents


def consent_part(session: Session, study: StudyInUse, participant: Participant, telling: Telling) -> Part:
    """Every consent, and whether it is still what was signed. The name under it stays sealed: whoever may know it asks
    for it, and that is written down.
    """
    assert participant.id is not None
    consents = consents_of(session, participant.id)
    blocks = [_consent(session, study, participant, telling, each) for each in consents]
    if options := _options(session, consents, telling):
        blocks.append(Block(telling.gettext("Optional consents as they stand"), "", telling.told(options)))
    return Part(telling.gettext("Consents"), nothing=telling.gettext("No consent is recorded."), blocks=blocks)


def _options(session: Session, consents: Sequence[Consent], telling: Telling) -> list[tuple[str, str | None]]:
    """How each optional consent stands: what was signed last, unless it was taken back since."""
    words = {True: telling.gettext("yes, since %s"), False: telling.gettext("no, since %s")}
    return [
        (telling.label(telling.definition.consent.optional, code), words[each.agreed] % telling.day(each.since))
        for code, each in options_now(session, consents).items()
    ]


def _consent(
    session: Session, study: StudyInUse, participant: Participant, telling: Telling, consent: Consent
) -> Block:
    gettext, moment = telling.gettext, telling.moment
    document = document_of(session, study, consent)
    said = said_with(session, study, consent)
    intact = is_intact(session, study, consent, participant)
    if consent.refused_at is not None:
        state = gettext("Refused")
    elif consent.withdrawn_on is not None:
        state = gettext("Withdrawn")
    elif consent.countersigned_at is not None:
        state = gettext("Complete")
    else:
        state = gettext("Waits for a countersignature")
    ways = {"paper": gettext("On paper"), "by_link": gettext("By link, after they gave their date of birth")}
    whole = gettext("Document and signatures are byte for byte what was signed.")
    broken = gettext("This is not what was signed: something was changed since. Do not rely on it.")
    named = gettext("version %(version)s, language %(language)s") % {
        "version": consent.document_version,
        "language": consent.language,
    }
    verified = f"{consent.scan_verified_by}, {moment(consent.scan_verified_at)}" if consent.scan_verified_at else None
    signed = (
        f"{consent.countersigned_name} ({consent.countersigned_by}), {moment(consent.countersigned_at)}"
        if consent.countersigned_at
        else None
    )
    refused = f"{consent.refused_by}, {moment(consent.refused_at)}" if consent.refused_at else None
    rows: list[tuple[str, str | None]] = [
        (gettext("Document"), f"{document.title}, {named}" if document else named),
        (gettext("Signed on"), telling.day(consent.signed_on)),
        (gettext("How"), ways.get(consent.method, gettext("On screen"))),
        *((label, telling.yes_no(agreed)) for label, agreed in said.options),
        *said.answers,
        (gettext("Recorded by"), f"{consent.recorded_by}, {moment(consent.recorded_at)}"),
        (gettext("Countersigned by"), signed),
        (gettext("Meaning"), telling.sentence(consent.countersigned_meaning or "")),
        (gettext("Scan verified by"), verified),
        (gettext("Withdrawn on"), telling.day(consent.withdrawn_on)),
        (gettext("Refused by"), refused),
        (gettext("Why it was refused"), consent.refused_why),
        (gettext("SHA-256 of the scan"), telling.code(consent.paper_sha256 or "")),
        (gettext("SHA-256 of the document"), telling.code(consent.document_sha256)),
        (gettext("SHA-256 of it all"), telling.code(consent.binding)),
        (gettext("Intact"), whole if intact else broken),
    ]
    return Block(gettext("Version %(version)s") % {"version": consent.document_version}, state, telling.told(rows))


# Visits


def visits_part(
    telling: Telling, visits: Sequence[ParticipantVisit], changed: Collection[tuple[str, str]], today: date
) -> Part:
    """Every visit that has dates, of the plan and outside it: when, and why it was missed or outside its window.

    Of a session of treatment it says what blinded people see everywhere: its dates, and a reason that tells no arm.
    """
    gettext = telling.gettext
    moved = {subject for subject, _ in changed}
    lines = []
    for visit in visits:
        state = visit_state(visit, today)
        is_planned = unscheduled_number(visit.code) is None
        words = telling.word(STATES, state.value)
        if state in (VisitState.HELD_EARLY, VisitState.HELD_LATE) and not is_planned:
            words = telling.word(STATES, VisitState.HELD.value)
        window = f"{telling.day(visit.opens_on)} – {telling.day(visit.closes_on)}"
        lines.append(
            Listed(
                [
                    telling.visit(visit.code),
                    telling.day(visit.target_on) if is_planned else gettext("not in the plan"),
                    window if is_planned else "",
                    words,
                    telling.day(visit.held_on),
                    visit.in_error_why or visit.reason or "",
                ],
                changed=f"visit/{visit.code}" in moved,
            )
        )
    return Part(
        gettext("Visits"),
        nothing=gettext("No visit has a date yet."),
        columns=[
            gettext("Visit"),
            gettext("Due"),
            gettext("Window"),
            gettext("State"),
            gettext("Held on"),
            gettext("Reason"),
        ],
        widths=[1.4, 1, 2, 1.3, 1, 1.8],
        lines=lines,
    )


# How it ended


def leaving_part(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    telling: Telling,
    log: Sequence[Mapping[str, Any]],
    *,
    reads_safety: bool,
) -> Part:
    """Treatment stopped, withdrawals and how far each went, randomised in error; and, for who reads of safety, loss,
    death and completion. `log` are the lines of `LEAVING` and `LEAVING_TREATMENT`, the oldest first.
    """
    assert participant.id is not None
    gettext = telling.gettext
    rows = [_left(study.definition, telling, line) for line in log]
    if participant.withdrawal_level and participant.withdrawn_on is not None:
        level = withdrawal_level(study.definition, participant.withdrawal_level)
        if level is not None and level.stops_use:
            words = gettext("What is collected from %s on is in no export, but adverse events and deviations.")
            rows.append(Told(gettext("Use taken back"), words % telling.day(participant.withdrawn_on)))
    if reads_safety:
        for end in ends_of(session, participant.id):
            by = f"{end.recorded_by}, {telling.moment(end.recorded_at)}"
            words = f"{telling.day(end.on)}: {end.words}" if end.words else telling.day(end.on)
            rows.append(Told(telling.word(ENDS, end.kind), words, notes=[by]))
    if participant.randomised_on is not None:
        factors = study.definition.allocation.strata if study.definition.is_allocated else ()
        rows += [_in_error(telling, each, factors) for each in records_of(session, participant.id)]
    return Part(
        gettext("Treatment stopped, withdrawal, loss, death, completion"),
        nothing=gettext("Nothing was stopped, and nobody left."),
        blocks=[Block("", "", rows)] if rows else [],
    )


def _left(study: Study, telling: Telling, line: Mapping[str, Any]) -> Told:
    gettext, action = telling.gettext, line["action"]
    by = f"{line['username']}, {telling.moment(line['at'])}"
    new = json.loads(line["new"]) if line["new"] else {}
    on = telling.known_day(str(new.get("on") or ""))
    words = ": ".join(filter(None, (on, line["why"])))
    if action == "identity.erased":
        return Told(gettext("Personal data erased"), line["why"] or "", notes=[by])
    if action == "treatment.stopped":
        return Told(gettext("Treatment stopped"), words, notes=[by])
    if action == "treatment.resumed":
        return Told(gettext("Treatment goes on"), words, notes=[by])
    if action == "participant.withdrawal_taken_back":
        return Told(gettext("Withdrawal taken back"), words, notes=[by])
    level = withdrawal_level(study, str(new.get("level") or ""))
    far = level.label if level is not None else str(new.get("level") or "")
    return Told(gettext("Withdrew"), ", ".join(filter(None, (on, far))), notes=[line["why"] or "", by])


def _in_error(telling: Telling, record: InError, factors: Sequence[StratumFactor]) -> Told:
    gettext = telling.gettext
    found = f"{telling.sentence(LABELS[record.reason])}. {record.why}"
    notes = [f"{gettext('Found')} {telling.day(record.found_on)} · {record.by}, {telling.moment(record.at)}"]
    for factor in factors:
        if (level := record.should_have_been.get(factor.code)) is not None:
            labels = {each.code: each.label for each in factor.levels}
            words = gettext("%(factor)s should have been %(level)s")
            notes.append(words % {"factor": factor.label, "level": labels.get(level, level)})
    return Told(gettext("Randomised in error"), found, notes=notes)
