"""What can be signed of a visit, and all of it at once? One meaning, one proof of who signs, a signature per entry.

Several signings in one go are one continuous period of controlled access: who signs has proved it just before with
everything it takes (21 CFR 11.200(a)(1)(i)). Each entry is bound by itself, over its own bytes (11.70).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlmodel import Session

from app.audit.actions import recorded_together
from app.capture.actions import sign_entry
from app.capture.double import rules as twice
from app.capture.double.reads import states_of
from app.capture.locks.reads import covering
from app.capture.locks.rules import why_closed
from app.capture.reads import Filled, answers_from, entries_with_values, place_of
from app.capture.rules import EntryState, digest_of, judge_stored, named_form, why_not_sign
from app.capture.typed import shortened
from app.foundation.errors import Conflict, FieldProblem, Invalid, Refused
from app.participants.models import Participant
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.definition import Instrument
from app.studies.in_use import StudyInUse

NOTHING: tuple[EntryState | None, ...] = (None,)


@dataclass(frozen=True)
class Signable:
    """A complete entry without a signature, as it is shown to whoever signs. `digest` is what would be signed."""

    form: Instrument
    entry: EntryState
    digest: str


@dataclass(frozen=True)
class NotYet:
    """A form of the visit that cannot be signed with the others, and why; signed ones are none of them."""

    form: Instrument
    repeat: int
    reason: str


@dataclass(frozen=True)
class AsShown:
    """What somebody read before they sign: which form by its name (`rules.form_name`), which version and digest."""

    name: str
    version: int
    digest: str


def what_to_sign(
    session: Session, study: StudyInUse, participant: Participant, visit: str, *, by: Actor, now: datetime
) -> tuple[list[Signable], list[NotYet]]:
    """What this person can sign of a visit now, in the order of the plan, and what keeps its other forms from it.

    A form of which they must not see the first of two entries says only that it waits.
    """
    definition = study.definition
    subject = f"{participant.code}/visit/{visit}"
    require(by, Permission.ENTRY_SIGN, site_id=participant.site_id, action="visit.sign", subject=subject)
    planned = definition.visit(visit)
    assert participant.id is not None
    if planned is None:
        return [], []
    place = place_of(session, participant.id, visit, "", by=by)
    entries = [each for each in entries_with_values(session, participant.id) if not each.is_in_error]
    answers = answers_from(
        place.screening, [Filled(each.visit, each.instrument, each.repeat, each.values) for each in entries]
    )
    pairs = states_of(session, definition, participant.id)
    local = now.astimezone(ZoneInfo(place.timezone))
    closed = None
    if place.lock is not None:
        closed = why_closed(definition, covering(session, study, participant.id, visit), only_locked=True)
    ready, waiting = [], []
    for code in planned.instruments:
        form = definition.instrument(code)
        if form is None or not form.signable:
            continue
        state, first = pairs.get((visit, code), (None, ""))
        kept = (
            twice.why_withheld(state, first, participant.site_id, by=by)
            or twice.why_not_sign(definition, state)
            or closed
        )
        here = sorted(
            (each for each in entries if (each.visit, each.instrument) == (visit, code)), key=lambda each: each.repeat
        )
        for entry in here or NOTHING:
            if entry is not None and entry.is_signed:
                continue
            judgement = None
            if entry is not None:
                judgement = judge_stored(definition, form, entry, answers=answers, now=local)
            reason = kept or why_not_sign(entry, form, judgement)
            if reason is not None or entry is None:
                waiting.append(NotYet(form, entry.repeat if entry else 1, reason or ""))
            else:
                ready.append(Signable(form, entry, digest_of(entry)))
    return ready, waiting


def sign_visit(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    shown: Sequence[AsShown],
    meaning: str,
    by: Actor,
    now: datetime,
) -> list[EntryState]:
    """Sign every entry that was shown, each by itself, or none: whatever changed meanwhile refuses all of them.

    An entry that became complete after the page was opened was not read, and stays unsigned. The same again changes
    nothing. Conflict and Refused name the form.
    """
    study = study.at(participant.site_id)
    subject = f"{participant.code}/visit/{visit}"
    require(by, Permission.ENTRY_SIGN, site_id=participant.site_id, action="visit.sign", subject=subject)
    if not shown:
        message = "Nothing of this visit can be signed yet. Complete its forms first, then sign."
        raise Invalid([FieldProblem("entries", "required", message)])
    signed = []
    with recorded_together(session):
        for each in shown:
            instrument, repeat = named_form(each.name)
            form = study.definition.instrument(instrument)
            label = form.label if form is not None else shortened(each.name)
            try:
                entry = sign_entry(
                    session,
                    study,
                    participant,
                    visit=visit,
                    instrument=instrument,
                    repeat=repeat,
                    version=each.version,
                    meaning=meaning,
                    by=by,
                    now=now,
                )
                if entry.signed_digest != each.digest:
                    raise Conflict(
                        "This form is not what was shown to you. Read it again, then sign.",
                        current_version=entry.version,
                    )
            except Conflict as problem:
                raise Conflict(
                    f"{label}: {problem.reason} Nothing was signed.",
                    current_version=problem.current_version,
                    action="visit.sign",
                    subject=subject,
                ) from problem
            except Refused as problem:
                raise Refused(
                    f"{label}: {problem.reason} Nothing was signed.", action="visit.sign", subject=subject
                ) from problem
            signed.append(entry)
    return signed
