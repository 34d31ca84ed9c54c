"""Save and correct an entry.

An entry is saved as a whole: the row, the log of every item that changed, and what becomes of its signature stand or
fall together. Who saves upon an older version than the stored one is told so, and nothing is overwritten.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Integer, bindparam, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.actions.drafts import drop_draft
from app.capture.actions.following import follow, unexplained_findings
from app.capture.actions.place import About, held_form, pair_of, refuse_if
from app.capture.actions.sealed import not_kept
from app.capture.actions.signatures import signature_said
from app.capture.actions.weighing import checked, read_reasons, unanswered
from app.capture.casebook import actions as casebook
from app.capture.checks import Judgement, judge
from app.capture.coding.following import follow_texts
from app.capture.double import held as double
from app.capture.double import rules as twice
from app.capture.groups import document_of
from app.capture.queries.actions import answer_query
from app.capture.reads import ENTRY, SIGNATURE, entry_of
from app.capture.rules import CLOCK_SET, IN_ERROR, EntryState, ItemChange, canonical, changes, still_open
from app.capture.status import EntryStatus
from app.capture.verification import actions as verification
from app.capture.verification.rules import Said, State, state_of
from app.foundation.errors import Conflict, FieldProblem, Invalid, Refused
from app.participants.models import Participant
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.definition import Instrument
from app.studies.in_use import StudyInUse

NO_LONGER_ASKED = "No longer asked, because another answer changed."
COMPUTED_AGAIN = "Computed again from the answers."


@dataclass(frozen=True)
class SavedEntry:
    """An entry as it stands after saving. `changed` names the items that are not what they were: none on a retry."""

    version: int
    status: EntryStatus
    judgement: Judgement
    changed: tuple[str, ...] = ()


def save_entry(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    values: Mapping[str, object],
    reasons: Mapping[str, str],
    base_version: int,
    why: str | None = None,
    by: Actor,
    now: datetime,
    accept_partial: bool = False,
    problems: Sequence[FieldProblem] = (),
    repeat: int = 1,
    permission: Permission = Permission.ENTRY_SAVE,
    settles: bool = False,
    source: str | None = None,
    typed_at: datetime | None = None,
    worded: Instrument | None = None,
    replies: Mapping[int, tuple[str, int]] = MappingProxyType({}),
) -> SavedEntry:
    """Save all answers of one form; an item that is not among `values` is blank from now on.

    `source` is where the answers come from when nobody typed them here: the log says it where it gives no other reason.

    `repeat` counts, from 1 without gaps, how often a form that repeats is filled in at the visit. `settles`: this is
    what two entries of the form come to (`capture.double.actions`), which asks for its own `permission`.

    `typed_at`: when it was typed on a device that had no connection, by the clock of the device; `now` is when it was
    received, and both are kept. A device whose clock is ahead has typed it now; one whose clock was never set (it says
    something before `CLOCK_SET`) says nothing of when.

    `worded` is the form in the words that were read, where they are not the study's: what must be put right is said
    in them. The log stays in the words of the study.

    `replies` are answers to queries that were typed in the form: the number of a query of this entry -> the text, and
    the version of the query that the person saw. They are given with the save, or nothing is saved; what stands
    against one is told of the field `query-NUMBER-text`.

    `base_version` is the version the person saw, 0 for none. `problems` are what could not be read of the form: they
    are reported together with what the checks find. Invalid fields are item codes, CODE__why where a reason for a
    soft check is asked for, and `why` where saved answers would change without a reason.
    """
    study = study.at(participant.site_id)
    about = About(study, participant, visit, instrument, repeat)
    require(by, permission, site_id=participant.site_id, action="entry.save", subject=about.refusal_subject)
    form, held = held_form(session, about, by=by, action="entry.save", now=now)
    place, entry, answers = held.place, held.entry, held.answers
    is_twice = study.definition.is_entered_twice(visit, instrument)
    stands = pair_of(session, about, entry) if is_twice else None
    if stands is not None and not settles:
        # Before anything is said of the answers: nobody learns the first entry from what is wrong with their own.
        refuse_if(about, twice.why_not_change(stands.state, stands.first_by, by=by), action="entry.save")
    refuse_if(about, IN_ERROR if entry is not None and entry.is_in_error else None, action="entry.save")
    # While the entry is held: whoever corrects it holds it first, and then the queries that this settles.
    problems = [*problems, *_answered(session, study, replies, by=by, now=now)]
    local = now.astimezone(ZoneInfo(place.timezone))

    read_as = worded or form

    def judged(values: Mapping[str, object], reasons: Mapping[str, str], form: Instrument = form) -> Judgement:
        return judge(
            study.definition,
            form,
            visit,
            values,
            reasons,
            answers=answers,
            today=local.date(),
            now=local,
            repeat=repeat,
        )

    reasons, unread = read_reasons(read_as, reasons)
    problems = [*problems, *unread]
    judgement = judged(values, reasons)
    before: Mapping[str, object] = entry.values if entry else {}
    problems += not_kept(session, about, read_as, judgement.values, before)
    # What an earlier version of the study asked is kept, although nobody is asked for it any more.
    after = {**judgement.values, **_retired(form, before)}
    if base_version != (entry.version if entry else 0):
        if not problems and _is_retry(entry, after, judgement):
            return _as_stored(entry, judgement)
        raise conflict(about, entry)
    different = changes(before, after)
    said = judgement if read_as is form else judged(values, reasons, read_as)
    why = checked(read_as, said, different, problems, accept_partial=accept_partial, why=why)
    status = EntryStatus.COMPLETE if judgement.complete else EntryStatus.PARTIAL
    pending = twice.State.AWAITS_SECOND if is_twice and entry is None else stands.state if stands else None
    if not settles and twice.is_held_back(study.definition, pending):
        status = EntryStatus.PARTIAL
    if entry is None and not after and status is EntryStatus.PARTIAL:
        raise Invalid([unanswered(read_as, still_open(judgement)[0])])
    log = _log_of_items(different, judgement, why)
    earlier = judged(before, entry.reasons) if entry and judgement.unexplained else None
    log += _log_of_checks(entry, judgement, different, earlier)
    log += _log_of_status(entry, status, why)
    if log and entry is not None and entry.is_signed:
        log.append(Change("entry.signature_superseded", old=signature_said(entry), why=why))
    moved = {change.item for change in different}
    verified, ended = verification.after_change(entry, moved) if entry else ({}, [])
    log += ended
    typed_at = typed_at if typed_at is not None and typed_at >= CLOCK_SET else None
    if log and typed_at is not None:
        typed_at = min(typed_at, now)
        log.append(
            Change("entry.typed_offline", new={"typed_at": typed_at.isoformat(), "received_at": now.isoformat()})
        )
    stored = (
        _store(session, about, entry, after, judgement, status, verified, by=by, now=now, typed_at=typed_at)
        if log
        else 0
    )
    if stored is None:
        # Somebody saved the very first version between our reading and our writing.
        entry = entry_of(session, about.participant_id, visit, instrument, repeat)
        if _is_retry(entry, after, judgement):
            return _as_stored(entry, judgement)
        raise conflict(about, entry)
    if is_twice and entry is None and stored:
        double.begin(session, study.id, stored, by=by, now=now)
        log.append(Change("entry.awaits_second"))
    if stored and study.definition.has_coding:
        log += follow_texts(session, study, form, about.participant_id, stored, different, now=now)
    if place.draft_at is not None:
        drop_draft(session, about.participant_id, visit=visit, instrument=instrument, by=by, repeat=repeat)
    told = about.changes(log)
    if different or held.has_queries or judgement.unexplained:
        told += follow(session, about, held, judgement, after, moved, by=by, now=now)
    if log and held.is_signed:
        told += casebook.supersede(session, participant, why=why, by=by, now=now)
    record(session, study.code, told, by=by, now=now, why=source)
    version = (entry.version if entry else 0) + bool(log)
    return SavedEntry(version, status, judgement, tuple(change.item for change in different))


def _answered(
    session: Session, study: StudyInUse, replies: Mapping[int, tuple[str, int]], *, by: Actor, now: datetime
) -> list[FieldProblem]:
    """Give these answers to queries; what stands against them."""
    problems = []
    for number, (text, version) in sorted(replies.items()):
        field = f"query-{number}-text"
        try:
            answer_query(session, study, number, text=text, version=version, by=by, now=now)
        except Invalid as problem:
            problems += [replace(each, field=field) for each in problem.problems]
        except (Conflict, Refused) as problem:
            problems.append(FieldProblem(field, "state", problem.reason))
    return problems


def _retired(form: Instrument, values: Mapping[str, object]) -> dict[str, object]:
    return {code: value for code, value in values.items() if form.item(code) is None}


def _is_retry(entry: EntryState | None, after: Mapping[str, object], judgement: Judgement) -> bool:
    """Whether exactly this is stored already: the answer to the first attempt did not arrive."""
    return entry is not None and not changes(entry.values, after) and entry.reasons == judgement.reasons


def _as_stored(entry: EntryState | None, judgement: Judgement) -> SavedEntry:
    assert entry is not None
    return SavedEntry(entry.version, EntryStatus(entry.status), judgement)


def conflict(about: About, entry: EntryState | None) -> Conflict:
    reason = "There is no saved version of this form yet. Open it again, then save."
    if entry is not None:
        reason = (
            f"{entry.saved_by} saved this form while you had it open, and nothing of it was overwritten. "
            "Compare both versions, then save again."
        )
    return Conflict(
        reason,
        current_version=entry.version if entry else 0,
        action="entry.save",
        subject=about.refusal_subject,
    )


def _log_of_items(different: list[ItemChange], judgement: Judgement, why: str | None) -> list[Change]:
    log = []
    for change in different:
        if not change.is_correction:
            log.append(Change("entry.saved", item=change.item, new=change.new))
            continue
        reason = why
        if reason is None and change.item in judgement.hidden:
            reason = NO_LONGER_ASKED
        elif reason is None:
            reason = COMPUTED_AGAIN
        log.append(Change("entry.corrected", item=change.item, old=change.old, new=change.new, why=reason))
    return log


def _log_of_checks(
    entry: EntryState | None, judgement: Judgement, different: list[ItemChange], before: Judgement | None
) -> list[Change]:
    """Soft checks that fire and wait for a reason, those accepted with one, and those that ceased (FDA-14)."""
    moved = {change.item for change in different}
    old_reasons = entry.reasons if entry else {}
    log = []
    for item, reason in judgement.reasons.items():
        if item in moved or old_reasons.get(item) != reason:
            log.append(Change("entry.check_accepted", item=item, new=judgement.values.get(item), why=reason))
    for item, reason in old_reasons.items():
        if item not in judgement.reasons and item not in moved:
            log.append(Change("entry.check_ceased", item=item, old=reason))
    waited = {(each.item, each.rule) for each in unexplained_findings(before)}
    for finding in unexplained_findings(judgement):
        if finding.item in moved or (finding.item, finding.rule) not in waited:
            fired = judgement.values.get(finding.item)
            log.append(Change("entry.check_fired", item=finding.item, new=fired, why=finding.message))
    return log


def _log_of_status(entry: EntryState | None, status: EntryStatus, why: str | None) -> list[Change]:
    log = []
    before = entry.status if entry else EntryStatus.PARTIAL
    if before != status:
        action = "entry.completed" if status is EntryStatus.COMPLETE else "entry.reopened"
        log.append(Change(action, why=why))
    return log


def _store(
    session: Session,
    about: About,
    entry: EntryState | None,
    values: Mapping[str, object],
    judgement: Judgement,
    status: EntryStatus,
    verified: Said,
    *,
    by: Actor,
    now: datetime,
    typed_at: datetime | None,
) -> int | None:
    """Write the row; its id, or None when somebody else's first version is there meanwhile."""
    state = state_of(values, verified, about.study.definition.items_to_verify(about.visit, about.instrument))
    row: dict[str, Any] = {
        "study_version_id": about.study.version_id,
        "status": status,
        "values": canonical(document_of(values)),
        "reasons": canonical(judgement.reasons),
        "saved_at": now,
        "saved_by": by.username,
        "typed_at": typed_at,
        "verification": state,
    }
    if entry is not None:
        row |= {"version": entry.version + 1, **dict.fromkeys(SIGNATURE)}
        if entry.verified:
            # What is left is verified still, when all that changed is a reason, or an answer that never was.
            whole = entry.verified_at or now if state is State.VERIFIED else None
            row |= {"verified": canonical(verified), "verified_at": whole}
        session.execute(_UPDATE, {"entry_id": entry.id, **row})
        return entry.id
    row |= {
        "study_id": about.study.id,
        "participant_id": about.participant_id,
        "site_id": about.participant.site_id,
        "visit": about.visit,
        "instrument": about.instrument,
        "repeat": about.repeat,
        "version": 1,
        "created_at": now,
        "created_by": by.username,
    }
    statement = _FIRST_VERSION[session.get_bind().dialect.name]
    made = session.execute(statement, row).scalar()
    return None if made is None else int(made)


_UPDATE = update(ENTRY).where(ENTRY.c.id == bindparam("entry_id", type_=Integer))


_FIRST_VERSION = {
    "postgresql": postgresql.insert(ENTRY).on_conflict_do_nothing().returning(ENTRY.c.id),
    "sqlite": sqlite.insert(ENTRY).on_conflict_do_nothing().returning(ENTRY.c.id),
}
