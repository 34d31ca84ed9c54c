"""What does the log say of all that stands in a casebook? Its lines, in the order in which they were written."""

import json
import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from app.audit.rules import SEALED as KEPT_BACK
from app.audit.rules import is_sealed
from app.casebook.conduct import GRADES, RESULTS, SAID_OF, STANDING, STATES, WAYS, detail
from app.casebook.course import ENDS, STATUSES
from app.casebook.course import STATES as VISITS
from app.casebook.telling import Telling
from app.participants.in_error.rules import LABELS
from app.safety.events.rules import NAMES
from app.studies.definition import Instrument, Item
from app.studies.rules.items import SEALED

KINDS = ("entry.", "query.", "casebook.", "data.", "screening.", "consent.", "visit.", "treatment.")
"""The beginnings of the actions that are told of to everybody who reads a casebook."""
KINDS_OF_LEAVING = (
    "participant.screen_failed",
    "participant.withdrawn",
    "participant.withdrawal_taken_back",
    "participant.randomised_in_error",
    "identity.erased",
)
KINDS_OF_SAFETY = (
    "adverse_event.",
    "deviation.",
    "care.",
    "contact.",
    "participant.lost",
    "participant.died",
    "participant.completed",
    "participant.put_back",
    "participant.end_recorded",
)
"""What is told of to who reads of safety: with how somebody was lost or died."""
JUDGING = (
    "adverse_event.judged",
    "adverse_event.returned",
    "adverse_event.reviewed",
    "adverse_event.clock_called_off",
    "adverse_event.clock_moved",
    "adverse_event.clock_started",
    "adverse_event.clock_stopped",
    "adverse_event.escalated",
)
"""What a copy for the participant leaves out: how somebody judged an event, and by when it was to be reported."""

ACTS: Mapping[str, str] = {
    "entry.saved": "Entered",
    "entry.corrected": "Corrected",
    "entry.check_accepted": "Unexpected, and explained",
    "entry.check_fired": "Unexpected",
    "entry.check_ceased": "No longer unexpected",
    "entry.file_kept": "File kept",
    "entry.file_shown": "File shown",
    "entry.signature_kept": "Signature kept",
    "entry.completed": "Complete",
    "entry.reopened": "Not complete any more",
    "entry.awaits_second": "Waits for its second entry",
    "entry.second_saved": "Entered the second time",
    "entry.entered_twice": "Entered twice, and compared",
    "entry.reconciled": "Difference settled",
    "entry.signed": "Signed",
    "entry.signature_superseded": "Signature superseded",
    "entry.marked_in_error": "Marked as entered in error",
    "entry.restored": "Not in error after all",
    "entry.typed_offline": "Typed without a connection",
    "entry.verified": "Verified against the source",
    "entry.verification_ended": "Not verified any more",
    "entry.verification_withdrawn": "Verification withdrawn",
    "query.raised": "Query raised",
    "query.answered": "Query answered",
    "query.requeried": "Query asked again",
    "query.closed": "Query closed",
    "query.corrected": "Query closed by a correction",
    "casebook.signed": "Casebook signed",
    "casebook.signature_superseded": "Signature of the casebook superseded",
    "data.frozen": "Frozen",
    "data.imported": "Data imported",
    "data.unfrozen": "Freezing lifted",
    "data.locked": "Locked",
    "data.unlock_requested": "Unlocking asked for",
    "data.unlock_declined": "Unlocking declined",
    "data.unlocked": "Unlocked",
    "screening.answered": "Screening answered",
    "consent.recorded": "Consent recorded",
    "consent.countersigned": "Consent countersigned",
    "consent.copy_handed_out": "Copy of the consent handed out",
    "consent.copy_taken": "Copy of the consent taken by link",
    "consent.copy_mailed": "Copy of the consent mailed",
    "consent.scan_kept": "Scan of a consent kept",
    "consent.scan_verified": "Scan of a consent verified",
    "consent.withdrawn": "Consent withdrawn",
    "visit.opened": "Visit opened",
    "visit.added": "Visit added",
    "visit.held": "Visit held",
    "visit.corrected": "Visit corrected",
    "visit.missed": "Visit missed",
    "visit.moved": "Visit moved",
    "visit.marked_in_error": "Visit marked as entered in error",
    "visit.restored": "Visit restored",
    "visit.reopened": "Visit reopened",
    "visit.stopped": "Visit stopped",
    "visit.planned_again": "Visit planned again",
    "treatment.stopped": "Treatment stopped",
    "treatment.resumed": "Treatment goes on",
    "participant.screen_failed": "Participant failed screening",
    "participant.withdrawn": "Participant withdrawn",
    "participant.withdrawal_taken_back": "Withdrawal taken back",
    "participant.lost": "Participant lost to follow-up",
    "participant.died": "Participant died",
    "participant.completed": "Participant completed the study",
    "participant.put_back": "Participant put back into the study",
    "participant.randomised_in_error": "Participant randomised in error",
    "participant.end_recorded": "End of participation recorded",
    "identity.erased": "Personal data erased",
    "adverse_event.reported": "Adverse event reported",
    "adverse_event.followed_up": "Adverse event followed up",
    "adverse_event.corrected": "Adverse event corrected",
    "adverse_event.voided": "Adverse event voided",
    "adverse_event.judged": "Adverse event judged",
    "adverse_event.returned": "Adverse event returned",
    "adverse_event.reviewed": "Adverse event reviewed",
    "adverse_event.clock_called_off": "Deadline of an adverse event called off",
    "adverse_event.clock_moved": "Deadline of an adverse event moved",
    "adverse_event.clock_started": "Deadline of an adverse event started",
    "adverse_event.clock_stopped": "Deadline of an adverse event stopped",
    "adverse_event.escalated": "Adverse event escalated",
    "deviation.reported": "Deviation reported",
    "deviation.found": "Deviation found by the system",
    "deviation.found_again": "Deviation found again",
    "deviation.gone": "Deviation does not hold any more",
    "deviation.acted": "Measure for a deviation recorded",
    "deviation.signed": "Deviation signed",
    "deviation.taken_back": "Deviation taken back",
    "care.recorded": "Concomitant care recorded",
    "care.changed": "Concomitant care changed",
    "contact.recorded": "Contact recorded",
    "contact.changed": "Contact changed",
}
NUMBERED: Mapping[str, str] = {
    "adverse_event": "Adverse event",
    "deviation": "Deviation",
    "care": "Care beside the trial",
    "contact": "Contact",
    "consent": "Consent",
}
METHODS: Mapping[str, str] = {"on_screen": "On screen", "paper": "On paper", "by_link": "By link"}
PURPOSES: Mapping[str, str] = {"questions": "Questions of a visit", "consent": "Consent document"}
BOOKED: Mapping[str, str] = {
    "booked": "Booked",
    "held": "Took place",
    "no_show": "Nobody came",
    "cancelled": "Cancelled",
}
TWICE: Mapping[str, str] = {
    "awaits_second": "Second entry due",
    "to_reconcile": "To reconcile",
    "agreed": "Both the same",
    "reconciled": "Reconciled",
}
RULES: Mapping[str, str] = {
    "window": "Visit outside its window",
    "missed": "Missed visit",
    "late_entry": "Late entry",
    "in_error": "Randomised in error",
    "consent": "Consent",
    "ineligible": "Not eligible after all",
    "stratum": "Stratum",
}
CODES: Mapping[str, Mapping[str, str]] = {
    "adverse_event": STATES,
    "appointment": BOOKED,
    "consent": METHODS,
    "deviation": {**STANDING, **GRADES},
    "double": TWICE,
    "contact": {**WAYS, **RESULTS},
    "end": ENDS,
    "link": PURPOSES,
    "randomised_in_error": {reason.value: label for reason, label in LABELS.items()},
    "screening": STATUSES,
    "status": STATUSES,
    "visit": VISITS,
    "withdrawal": STATUSES,
}
"""What the codes among the values of a line are called, by what it is about."""
CODES_OF: Mapping[str, Mapping[str, str]] = {"rule": RULES}
"""The same by the name of the value, where a study may use the same code for something of its own."""
OF_VISITS = ("visit", "about")
"""The names of values that are codes of visits, or may be."""
NAMES_OF: Mapping[str, str] = {
    "about": "About",
    "action": "What was done about it",
    "agreed": "Agreed",
    "allocation": "Allocation",
    "answers": "Answered about the document",
    "arms": "Arms",
    "asked_by": "Asked for by",
    "at": "When",
    "aware_at": "Known at the site",
    "before_window": "May be answered before the window",
    "began": "From",
    "binding": "SHA-256 of it all",
    "bits": "Length of the key in bits",
    "bom": "With a byte order mark",
    "by": "By",
    "category": "Kind",
    "certificate": "SHA-256 of the certificate",
    "changed": "Changed",
    "changes": "Changes",
    "choices": "Choices",
    "clock": "Deadline",
    "closes_on": "Window closes",
    "code": "Code",
    "compared": "Compared",
    "completed": "Completed",
    "confirmed": "Confirmed",
    "consent": "Consent",
    "copy_asked": "Wants a copy",
    "corrects": "Corrects number",
    "dates": "Dates",
    "despite": "Locked despite",
    "dictionary": "Dictionary",
    "differing": "Differing",
    "digest": "Fingerprint",
    "document_sha256": "SHA-256 of the document",
    "drawn": "Signed by hand",
    "due_at": "Due by",
    "eligible": "Eligible",
    "ended": "To",
    "entries": "Entries",
    "entries_remembered": "Entries that were remembered",
    "event": "Event",
    "events": "Told of",
    "expected": "Expected",
    "expires_at": "Works until",
    "export": "Export",
    "failure_reason": "Does not take part",
    "file": "File",
    "findings": "Findings",
    "first": "First entry",
    "folder": "Folder",
    "follows": "For the news of version",
    "format": "Format",
    "found_on": "Found",
    "from": "From",
    "from_byte": "From byte",
    "from_on": "From",
    "further": "Stands behind the list in use",
    "generation": "Number of the key",
    "grade": "Grade",
    "guesses": "Guesses",
    "held_on": "Held on",
    "how": "How",
    "ids": "Participants",
    "impact": "What it means for the data",
    "in_force": "In force",
    "in_time": "In time",
    "in_window": "Within its window",
    "indication": "What it is for",
    "instruments": "Instruments",
    "invalid": "Not valid",
    "kept": "Under a lock",
    "key": "Key",
    "kind": "What",
    "knew_arm": "Had broken the blind before",
    "language": "Language",
    "learnt_by": "Who learnt it",
    "learnt_on": "When",
    "left": "Codes left",
    "level": "How far",
    "looked_at": "Participants",
    "mail": "May be reminded by mail",
    "meaning": "Meaning",
    "media_type": "Kind of file",
    "method": "How",
    "minutes": "Minutes",
    "name": "Name",
    "note": "Note",
    "number": "Number",
    "occurred_on": "When",
    "on": "Day",
    "opens_on": "Window opens",
    "options": "Beside that",
    "origin": "Made from",
    "paper_sha256": "SHA-256 of the scan",
    "password": "Password",
    "person": "With",
    "plan": "Commitment to the plan",
    "purpose": "What it is for",
    "query": "Query",
    "reason": "Reason",
    "received_at": "Received",
    "reference": "To whom, and its reference",
    "relatedness": "Related",
    "replaced_by": "Replaced by",
    "result": "Result",
    "role": "Role",
    "room": "Room",
    "root": "Root of the tree",
    "rows": "Rows",
    "rule": "Rule",
    "salt": "Salt",
    "scan": "SHA-256 of the scan",
    "scopes": "It may",
    "sealed": "Kept sealed",
    "second": "Second entry",
    "second_factor": "Second factor",
    "sent_at": "When it was sent",
    "sha256": "SHA-256",
    "should_have_been": "Should have been",
    "signature": "Signature",
    "signed_by": "Signed",
    "signed_on": "Signed on",
    "since": "Since",
    "site": "Site",
    "sites": "Sites",
    "size": "Size",
    "sms": "May be reminded by text message",
    "stage": "Stage",
    "starts_at": "Begins",
    "state": "State",
    "status": "Status",
    "step": "Step",
    "strata": "Strata",
    "stratum": "Stratum",
    "study": "Study",
    "study_version": "Version of the study",
    "table": "Table",
    "tables": "Tables",
    "target_on": "Due",
    "terms": "Terms",
    "text": "Text",
    "timezone": "Time zone",
    "to": "To",
    "told": "Told",
    "told_by": "Told by",
    "treatment": "Treatment",
    "treatment_stopped_on": "Treatment stopped on",
    "typed_at": "Typed",
    "url": "Address",
    "username": "Username",
    "values": "Values",
    "verdicts": "Criteria",
    "version": "Version",
    "visit": "Visit",
    "visits": "Visits",
    "was_countersigned": "Had been countersigned",
    "what": "What happened",
    "whose": "Whose",
    "why": "Why",
    "withdrawn_on": "Withdrawn on",
    "words_sha256": "SHA-256 of what was asked",
}
"""What the values of a line are called."""

_instant = re.compile(r"[0-9-]{10}[T ][0-9:.]{8,15}(Z|[+-][0-9]{2}:[0-9]{2})").fullmatch
_fingerprint = re.compile(r"[0-9a-f]{64}").fullmatch
_day = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch


def line_of(telling: Telling, line: Mapping[str, Any]) -> list[str]:
    """When, who, what, where, what it was and is, and why."""
    kind, *parts = line["subject"].split("/")
    about_form = kind in ("entry", "query", "double") and len(parts) > 1
    screening = telling.definition.eligibility.instrument if kind == "screening" else ""
    form = telling.definition.instrument(parts[1] if about_form else screening) if about_form or screening else None
    item = form.item(line["item"]) if form else None
    old, new = (_value(telling, line, side, item, form) for side in ("old", "new"))
    return [
        telling.moment(line["at"]),
        ", ".join(filter(None, (line["username"], line["role"].replace("_", " ")))),
        telling.word(ACTS, line["action"]),
        ", ".join(filter(None, _place(telling, kind, parts, form, item, line["item"]))),
        old,
        new,
        line["why"] or "",
    ]


def _place(
    telling: Telling, kind: str, parts: list[str], form: Instrument | None, item: Item | None, name: str
) -> list[str]:
    said = item.label if item else name
    if item is None and name:
        said = telling.word(SAID_OF if kind == "adverse_event" and name in SAID_OF else NAMES_OF, name)
    if kind in ("entry", "query", "double", "visit") and parts:
        numbered = f" {parts[2]}" if form and len(parts) > 2 else ""
        return [telling.visit(parts[0]), f"{form.short or form.label}{numbered}" if form else "", said]
    if kind in NUMBERED:
        return [" ".join([telling.word(NUMBERED, kind), *parts]), said]
    return [said]


def _value(telling: Telling, line: Mapping[str, Any], side: str, item: Item | None, form: Instrument | None) -> str:
    text = line[side]
    if text is None:
        return ""
    if is_sealed(line["action"], text):
        return KEPT_BACK
    value, kind = json.loads(text), line["subject"].partition("/")[0]
    if item is not None and form is not None:
        sealed = item.type in SEALED
        if isinstance(value, dict) and set(value) != {"missing"} and not sealed:
            return str(value.get("text") or value.get("name") or value.get("visit") or "")
        return telling.answer(item, value)
    if kind in ("entry", "query", "casebook", "double"):
        if isinstance(value, dict):
            return str(value.get("text") or value.get("name") or value.get("visit") or "")
        return str(value)
    if kind == "adverse_event" and line["item"] in NAMES:
        return detail(telling, line["item"], value)
    other = _read(line["new" if side == "old" else "old"])
    if isinstance(value, dict) and line["action"] == "deviation.found":
        value["what"] = telling.sentence(str(value.get("what", "")))  # the system's own words
    if isinstance(value, dict):
        same = {name for name in value if isinstance(other, dict) and name in other and other[name] == value[name]}
        return "; ".join(
            f"{telling.word(NAMES_OF, name)}: {_said(telling, kind, name, part)}"
            for name, part in value.items()
            if part not in (None, "", [], {}) and name not in same
        )
    return _said(telling, kind, line["item"], value)


def _read(text: str | None) -> Any:
    return json.loads(text) if text is not None else None


def _said(telling: Telling, kind: str, name: str, value: Any) -> str:
    """One value: a code in words, a day and a moment as the language writes them."""
    if isinstance(value, bool):
        return telling.yes_no(value)
    if isinstance(value, dict):
        return ", ".join(f"{each}: {_said(telling, kind, each, part)}" for each, part in value.items())
    if isinstance(value, list):
        return ", ".join(_said(telling, kind, name, each) for each in value)
    text = str(value)
    if name == "relatedness":
        return detail(telling, name, text)
    if name == "category":
        return telling.label(telling.definition.safety.deviations, text)
    if name == "level":
        return telling.label(telling.definition.withdrawal_levels, text)
    if name == "meaning" and kind == "consent":
        return telling.sentence(text)
    if name in ("began", "ended"):
        return telling.known_day(text)
    if text in (codes := CODES_OF.get(name, CODES.get(kind, {}))):
        return telling.word(codes, text)
    if name in OF_VISITS:
        return telling.visit(text)
    if _fingerprint(text):
        return telling.code(text)
    try:
        if _day(text):
            return telling.day(date.fromisoformat(text))
        if _instant(text):
            return telling.moment(datetime.fromisoformat(text))
    except ValueError:
        return text
    return text
