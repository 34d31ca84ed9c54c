"""What may I do with entries? Save and correct them, sign them, and keep drafts of what is not saved yet.

An entry is saved as a whole: the row, the log of every item that changed, and what becomes of its signature stand or
fall together. Who saves upon an older version than the stored one is told so, and nothing is overwritten.
"""

import hashlib
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Integer, Select, String, and_, bindparam, delete, exists, func, or_, select, true, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from app.audit.actions import ENTRY as LOG
from app.audit.actions import Change, record
from app.capture import verification
from app.capture.casebook import actions as casebook
from app.capture.checks import SCREENING, Finding, Judgement, affected, events_needed, is_tied, judge, stale
from app.capture.coding.following import follow_texts
from app.capture.double import held as double
from app.capture.double import rules as twice
from app.capture.groups import document_of
from app.capture.locks.reads import covering, lock_covering, refuse_locked
from app.capture.locks.rules import why_closed
from app.capture.queries import actions as queries
from app.capture.reads import (
    CASEBOOK,
    DRAFT,
    ENTRY,
    PARTICIPANT,
    QUERY,
    SIGNATURE,
    Answers,
    Filled,
    Place,
    answers_from,
    entries_with_values,
    entry_columns,
    entry_of,
    entry_state,
    history,
    place_of,
)
from app.capture.rules import (
    CLOCK_SET,
    IN_ERROR,
    MEANINGS,
    EntryState,
    ItemChange,
    canonical,
    changes,
    check_meaning,
    digest_of,
    form_name,
    judge_stored,
    label_of,
    signature_holds,
    still_asked,
    still_open,
    why_not_enter,
    why_not_mark_in_error,
    why_not_repeat,
    why_not_sign,
)
from app.capture.status import EntryStatus
from app.capture.typed import WHY, Unreadable, read_reason, shortened
from app.consent.reads import why_no_consent
from app.foundation.drawing import NotDrawn, drawing_svg, name_svg, read_strokes
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.participants import files
from app.participants.models import Participant
from app.participants.reads import held as hold_participant
from app.participants.rules.files import MEDIA_TYPES, file_name, kind_of, why_not_kept
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.schedule import actions as schedule
from app.schedule.models import ParticipantVisit
from app.studies.definition import FileKind, Instrument, Item, ItemType
from app.studies.in_use import StudyInUse

FILE_PURPOSE, SIGNATURE_PURPOSE = "entry file", "entry signature"
SEALED_AS = {ItemType.FILE: ("file", FILE_PURPOSE), ItemType.SIGNATURE: ("signature", SIGNATURE_PURPOSE)}
SIGNATURE_TYPE = "application/json"
SIGNATURE_STEPS = 4096
LONGEST_NAME = 160
MOST_BY_LINK = 5  # files or signatures that are ever kept for one question by links
INK = "#1b1b1f"  # it is shown as a picture of its own, on whatever paper
LARGEST_DRAFT = 200_000  # bytes of JSON

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
) -> SavedEntry:
    """Save all answers of one form; an item that is not among `values` is blank from now on.

    `source` is where the answers come from when nobody typed them here: the log says it where it gives no other reason.

    `repeat` counts, from 1 without gaps, how often a form that repeats is filled in at the visit. `settles`: this is
    what two entries of the form come to (`capture.double.actions`), which asks for its own `permission`.

    `typed_at`: when it was typed on a device that had no connection, by the clock of the device; `now` is when it was
    received, and both are kept. A device whose clock is ahead has typed it now; one whose clock was never set (it says
    something before `CLOCK_SET`) says nothing of when.

    `base_version` is the version the person saw, 0 for none. `problems` are what could not be read of the form: they
    are reported together with what the checks find. Invalid fields are item codes, CODE__why where a reason for a
    soft check is asked for, and `why` where saved answers would change without a reason.
    """
    study = study.at(participant.site_id)
    about = _About(study, participant, visit, instrument, repeat)
    require(by, permission, site_id=participant.site_id, action="entry.save", subject=about.refusal_subject)
    form, place = _open_form(session, about, by=by, hold=True, action="entry.save", now=now)
    held = _held_entry(session, about, form, place)
    _refuse_closed(session, about, held.lock, action="entry.save")
    entry, answers = held.entry, held.answers
    is_twice = study.definition.is_entered_twice(visit, instrument)
    stands = _stands(session, about, entry) if is_twice else None
    if stands is not None and not settles:
        # Before anything is said of the answers: nobody learns the first entry from what is wrong with their own.
        _refuse_if(about, twice.why_not_change(stands.state, stands.first_by, by=by), action="entry.save")
    _refuse_if(about, IN_ERROR if entry is not None and entry.is_in_error else None, action="entry.save")
    local = now.astimezone(ZoneInfo(place.timezone))

    def judged(values: Mapping[str, object], reasons: Mapping[str, str]) -> Judgement:
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

    reasons, unread = _read_reasons(form, reasons)
    problems = [*problems, *unread]
    judgement = judged(values, reasons)
    before: Mapping[str, object] = entry.values if entry else {}
    problems += _not_kept(session, about, form, judgement.values, before)
    # What an earlier version of the study asked is kept, although nobody is asked for it any more.
    after = {**judgement.values, **_retired(form, before)}
    if base_version != (entry.version if entry else 0):
        if not problems and _is_retry(entry, after, judgement):
            return _as_stored(entry, judgement)
        raise _conflict(about, entry)
    different = changes(before, after)
    why = _checked(form, judgement, different, problems, accept_partial=accept_partial, why=why)
    status = EntryStatus.COMPLETE if judgement.complete else EntryStatus.PARTIAL
    pending = twice.State.AWAITS_SECOND if is_twice and entry is None else stands.state if stands else None
    if not settles and twice.is_held_back(study.definition, pending):
        status = EntryStatus.PARTIAL
    if entry is None and not after and status is EntryStatus.PARTIAL:
        raise Invalid([_unanswered(form, still_open(judgement)[0])])
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
        raise _conflict(about, entry)
    if is_twice and entry is None and stored:
        double.begin(session, study.id, stored, by=by, now=now)
        log.append(Change("entry.awaits_second"))
    if stored and study.definition.has_coding:
        log += follow_texts(session, study, form, about.participant_id, stored, different, now=now)
    if place.has_draft:
        drop_draft(session, about.participant_id, visit=visit, instrument=instrument, by=by, repeat=repeat)
    told = about.changes(log)
    if different or held.has_queries or judgement.unexplained:
        told += _follow(session, about, held, place, judgement, after, moved, by=by, now=now)
    if log and held.is_signed:
        told += casebook.supersede(session, participant, why=why, by=by, now=now)
    record(session, study.code, told, by=by, now=now, why=source)
    version = (entry.version if entry else 0) + bool(log)
    return SavedEntry(version, status, judgement, tuple(change.item for change in different))


def _follow(
    session: Session,
    about: "_About",
    held: "_Held",
    place: Place,
    judgement: Judgement,
    values: Mapping[str, object],
    moved: Collection[str],
    *,
    by: Actor,
    now: datetime,
) -> list[Change]:
    """What becomes of the queries of checks: of this entry, and of others whose checks refer to what has changed."""
    log = []
    waiting = _waiting(judgement)
    if held.has_queries or waiting:
        log += queries.follow(
            session,
            about.study,
            about.participant,
            visit=about.visit,
            instrument=about.instrument,
            repeat=about.repeat,
            findings=judgement.problems,
            reasons=judgement.reasons,
            values=judgement.values,
            may_stand=held.has_queries,
            by=by,
            now=now,
        )
    return log + _follow_elsewhere(session, about, place, moved, values, by=by, now=now)


def _follow_elsewhere(
    session: Session,
    about: "_About",
    place: Place,
    moved: Collection[str],
    values: Mapping[str, object] | None,
    *,
    by: Actor,
    now: datetime,
) -> list[Change]:
    """What becomes of the queries of other entries when these items of this one change; `values` are what it says now,
    None when it counts no more.
    """
    definition, log = about.study.definition, []
    here = (about.visit, about.instrument, about.repeat)
    spots = set(affected(definition, about.visit, moved))
    if not spots - {here[:2]} and (here[:2] not in spots or (about.repeat == 1 and place.begun <= 1)):
        return []
    entries = [each for each in entries_with_values(session, about.participant_id) if not each.is_in_error]
    places = {each.id: (each.visit, each.instrument, each.repeat) for each in entries}
    stored = [
        Filled(*places[each.id], values or {} if places[each.id] == here else each.values)
        for each in entries
        if values is not None or places[each.id] != here
    ]
    answers = answers_from(place.screening, stored)
    local = now.astimezone(ZoneInfo(place.timezone))
    for other in entries:
        visit, code, repeat = places[other.id]
        form = definition.instrument(code)
        if form is None or (visit, code) not in spots or places[other.id] == here:
            continue
        judged = judge_stored(definition, form, other, answers=answers, now=local)
        log += queries.follow(
            session,
            about.study,
            about.participant,
            visit=visit,
            instrument=code,
            repeat=repeat,
            findings=[*judged.problems, *stale(form, visit, still_asked(form, other.values), judged)],
            reasons=judged.reasons,
            values=other.values,
            by=by,
            now=now,
        )
    return log


def record_visit(
    session: Session, study: StudyInUse, participant: Participant, visit: str, **options: Any
) -> ParticipantVisit:
    """`schedule.actions.record_visit`, refused where the visit is frozen or locked."""
    _refuse_closed_visit(session, study, participant, visit, "visit.record", **options)
    return schedule.record_visit(session, study, participant, visit, **options)


def add_visit(session: Session, study: StudyInUse, participant: Participant, **options: Any) -> ParticipantVisit:
    """`schedule.actions.add_visit`, refused where the participant's data are frozen or locked."""
    _refuse_closed_visit(session, study, participant, "", "visit.add", **options)
    return schedule.add_visit(session, study, participant, **options)


def correct_visit(
    session: Session, study: StudyInUse, participant: Participant, visit: str, **options: Any
) -> ParticipantVisit:
    """`schedule.actions.correct_visit`, refused where the visit is frozen or locked."""
    _refuse_closed_visit(session, study, participant, visit, "visit.correct", **options)
    return schedule.correct_visit(session, study, participant, visit, **options)


def reopen_visit(
    session: Session, study: StudyInUse, participant: Participant, visit: str, **options: Any
) -> ParticipantVisit:
    """`schedule.actions.reopen_visit`, refused where the visit is frozen or locked."""
    _refuse_closed_visit(session, study, participant, visit, "visit.reopen", **options)
    return schedule.reopen_visit(session, study, participant, visit, **options)


def _refuse_closed_visit(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    visit: str,
    action: str,
    *,
    by: Actor,
    permission: Permission = Permission.VISIT_RECORD,
    **_: Any,
) -> None:
    subject = f"{participant.code}/visit/{shortened(visit)}"
    require(by, permission, site_id=participant.site_id, action=action, subject=subject)
    refuse_locked(session, study, participant, visit=visit, action=action, subject=subject, frozen_too=True)


def miss_visit(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    visit: str,
    *,
    version: int,
    why: str,
    by: Actor,
    now: datetime,
    permission: Permission = Permission.VISIT_RECORD,
) -> ParticipantVisit:
    """Record that a visit did not take place; refused while something is entered at it, or where it is closed."""
    subject = f"{participant.code}/visit/{visit}"
    _refuse_closed_visit(session, study, participant, visit, "visit.miss", by=by, permission=permission)
    # Whoever saves an entry holds the participant, and so waits for this or is waited for.
    held = select(PARTICIPANT.c.id).where(PARTICIPANT.c.id == participant.id).with_for_update(key_share=True)
    session.execute(held).all()
    missed = schedule.miss_visit(
        session, study, participant, visit, version=version, why=why, by=by, now=now, permission=permission
    )
    # Asked last, so that a page that is out of date hears first of what changed; a refusal takes all of it back.
    entered = (
        select(ENTRY.c.id)
        .where(ENTRY.c.participant_id == participant.id, ENTRY.c.visit == visit, ENTRY.c.in_error_at.is_(None))
        .limit(1)
    )
    if session.execute(entered).first() is not None:
        raise Refused(
            "Forms are filled in at this visit, so it took place. Record the day on which it was held.",
            action="visit.miss",
            subject=subject,
        )
    return missed


@dataclass(frozen=True)
class SecondEntry:
    """What a second person entered of a form, judged by itself, beside the first entry and where the two stand."""

    entry: EntryState
    pair: double.Pair
    form: Instrument
    judgement: Judgement


def judge_second(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    values: Mapping[str, object],
    reasons: Mapping[str, str],
    by: Actor,
    now: datetime,
    accept_partial: bool = False,
    problems: Sequence[FieldProblem] = (),
) -> SecondEntry:
    """Judge a second entry as the first was, and hold both; whatever is refused or invalid says nothing of the first.

    A second entry that the same person made already is handed over as it is, so that a retry can be told.
    """
    about = _About(study, participant, visit, instrument)
    action = "entry.enter_second"
    require(by, Permission.ENTRY_SAVE, site_id=participant.site_id, action=action, subject=about.refusal_subject)
    form, place = _open_form(session, about, by=by, hold=True, action=action, now=now)
    held = _held_entry(session, about, form, place)
    _refuse_closed(session, about, held.lock, action=action)
    stands = _stands(session, about, held.entry)
    if stands is None or stands.second_by != by.username:
        reason = twice.why_not_second(stands.state if stands else None, stands.first_by if stands else "", by=by)
        _refuse_if(about, reason, action=action)
    assert stands is not None
    assert held.entry is not None
    local = now.astimezone(ZoneInfo(place.timezone))
    reasons, unread = _read_reasons(form, reasons)
    judgement = judge(
        study.definition, form, visit, values, reasons, answers=held.answers, today=local.date(), now=local
    )
    _checked(form, judgement, [], [*problems, *unread], accept_partial=accept_partial, why=None)
    if place.has_draft:
        drop_draft(session, about.participant_id, visit=visit, instrument=instrument, by=by)
    return SecondEntry(held.entry, stands, form, judgement)


def sign_entry(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    version: int,
    meaning: str,
    by: Actor,
    now: datetime,
    repeat: int = 1,
) -> EntryState:
    """Sign a complete entry: printed name, time and meaning are bound to its bytes (21 CFR 11.50, 11.70).

    The door has made sure just before that it is this person (11.200). Signing again what one has signed changes
    nothing.
    """
    study = study.at(participant.site_id)
    about = _About(study, participant, visit, instrument, repeat)
    subject = about.refusal_subject
    require(by, Permission.ENTRY_SIGN, site_id=participant.site_id, action="entry.sign", subject=subject)
    check_meaning(meaning, MEANINGS)
    form = study.definition.instrument(instrument) if study.definition.visit(visit) else None
    entry, judgement = None, None
    if form is not None:
        place = place_of(session, about.participant_id, visit, instrument, by=by, hold="shared", repeat=repeat)
        held = _held_entry(session, about, form, place)
        _refuse_closed(session, about, held.lock, action="entry.sign", only_locked=True)
        entry, answers = held.entry, held.answers
        local = now.astimezone(ZoneInfo(place.timezone))
        if (stands := _stands(session, about, entry)) is not None:
            hidden = twice.why_withheld(stands.state, stands.first_by, participant.site_id, by=by)
            _refuse_if(about, hidden or twice.why_not_sign(study.definition, stands.state), action="entry.sign")
        if entry is not None:
            judgement = judge_stored(study.definition, form, entry, answers=answers, now=local)
    if entry is not None and entry.version != version:
        raise Conflict(
            "This form was changed after you opened it. Read it again, then sign.",
            current_version=entry.version,
            action="entry.sign",
            subject=subject,
        )
    if entry is not None and signed_so(entry, meaning, by):
        return entry
    reason = why_not_sign(entry, form, judgement)
    if reason is not None or entry is None:
        raise Refused(reason or "", action="entry.sign", subject=subject)
    signed = as_signed(entry, meaning=meaning, by=by, now=now)
    session.execute(
        update(ENTRY).where(ENTRY.c.id == entry.id).values({name: getattr(signed, name) for name in SIGNATURE})
    )
    old = signature_said(entry) if entry.is_signed else None
    change = Change("entry.signed", old=old, new=signature_said(signed))
    record(session, study.code, about.changes([change]), by=by, now=now)
    return signed


def as_signed(entry: EntryState, *, meaning: str, by: Actor, now: datetime) -> EntryState:
    """An entry as it stands once this person has signed it: name, time and meaning, over its bytes as they are."""
    return replace(
        entry,
        signed_at=now,
        signed_by=by.username,
        signed_name=by.name,
        signed_meaning=meaning,
        signed_digest=digest_of(entry),
    )


def signed_so(entry: EntryState, meaning: str, by: Actor) -> bool:
    """Whether this person has signed exactly this with this meaning already."""
    return entry.signed_by == by.username and entry.signed_meaning == meaning and signature_holds(entry)


def signature_said(entry: EntryState) -> dict[str, Any]:
    """A signature as the log has it."""
    return {
        "name": entry.signed_name,
        "username": entry.signed_by,
        "at": entry.signed_at.isoformat() if entry.signed_at else None,
        "meaning": entry.signed_meaning,
        "version": entry.version,
        "digest": entry.signed_digest,
    }


def keep_draft(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    typed: Mapping[str, list[str]],
    base_version: int,
    by: Actor,
    now: datetime,
    repeat: int = 1,
) -> None:
    """Keep what somebody has typed so far, for them alone. It is no entry: it is not logged, judged or exported."""
    study = study.at(participant.site_id)
    about = _About(study, participant, visit, instrument, repeat)
    require(by, Permission.ENTRY_SAVE, site_id=participant.site_id, action="entry.draft", subject=about.refusal_subject)
    text = json.dumps({name: list(texts) for name, texts in typed.items()}, separators=(",", ":"))
    if len(text) > LARGEST_DRAFT:
        raise Invalid(
            [FieldProblem("draft", "max_length", "This is too much to keep as a draft. Shorten the longest answer.")]
        )
    _open_form(session, about, by=by, hold=False, action="entry.draft", now=now)
    key = {
        "person_id": by.person_id,
        "participant_id": about.participant_id,
        "visit": visit,
        "instrument": instrument,
        "repeat": repeat,
    }
    kept = {"base_version": base_version, "typed": text, "saved_at": now}
    session.execute(
        _insert(session)(DRAFT).values(**key, **kept).on_conflict_do_update(index_elements=list(key), set_=kept)
    )


@dataclass(frozen=True)
class Shown:
    """Something that is kept sealed among the answers, in the clear; `name` is as it was sent."""

    data: bytes = field(repr=False)
    media_type: str
    name: str
    sha256: str


def keep_file(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    item: str,
    data: bytes,
    name: str,
    by: Actor,
    now: datetime,
) -> dict[str, object]:
    """Keep a file that answers a question, sealed under the participant's key; what stands for it among the answers.

    It answers nothing until the form is saved with it. The same file is kept once, so that it can be sent again.
    """
    about = _About(study, participant, visit, instrument)
    asked = _asked_sealed(session, about, item, ItemType.FILE, by=by, now=now)
    reason = why_not_kept(data, name, asked.file_kinds, asked.max_mb)
    kind = kind_of(data, name)
    if reason is not None or kind is None:
        raise Invalid([FieldProblem(item, "file", f"{_label_of(asked)}: {reason}")])
    if by.by_link is not None:
        _refuse_many(session, about, asked, hashlib.sha256(data).hexdigest())
    media_type = MEDIA_TYPES[kind]
    if kind is FileKind.CSV and kind not in asked.file_kinds:
        media_type = MEDIA_TYPES[FileKind.TEXT]
    kept = files.keep(session, about.participant_id, data, purpose=FILE_PURPOSE, media_type=media_type, by=by, now=now)
    value = {"file": kept.sha256, "name": file_name(name), "size": kept.size, "media_type": kept.media_type}
    if kept.is_new:
        record(session, study.code, about.changes([Change("entry.file_kept", item=item, new=value)]), by=by, now=now)
    return value


def keep_signature(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    item: str,
    strokes: str = "",
    name: str = "",
    by: Actor,
    now: datetime,
) -> dict[str, object]:
    """Keep a signature that answers a question, drawn or a name typed instead; what stands for it among the answers.

    What is kept is salted, so that its SHA-256 among the answers cannot be held against names.
    """
    about = _About(study, participant, visit, instrument)
    asked = _asked_sealed(session, about, item, ItemType.SIGNATURE, by=by, now=now)
    try:
        drawn = read_strokes(strokes) if strokes else ""
    except NotDrawn as problem:
        raise Invalid([FieldProblem(item, "signature", f"{_label_of(asked)}: {problem}")]) from None
    name = name.strip()
    if not drawn and (not name or not name.isprintable() or len(name) > LONGEST_NAME):
        message = f"{_label_of(asked)}: draw a signature, or type the full name on one line."
        raise Invalid([FieldProblem(item, "signature", message)])
    if by.by_link is not None:
        _refuse_many(session, about, asked)
    signed = {"strokes": json.loads(drawn)} if drawn else {"name": name}
    data = json.dumps({**signed, "salt": secrets.token_hex(16)}, ensure_ascii=False, separators=(",", ":")).encode()
    kept = files.keep(
        session,
        about.participant_id,
        data,
        purpose=SIGNATURE_PURPOSE,
        media_type=SIGNATURE_TYPE,
        by=by,
        now=now,
        steps=SIGNATURE_STEPS,
    )
    value: dict[str, object] = {"signature": kept.sha256, "how": "drawn" if drawn else "typed"}
    record(session, study.code, about.changes([Change("entry.signature_kept", item=item, new=value)]), by=by, now=now)
    return value


def show_sealed(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    item: str,
    sha256: str | None = None,
    seen: str | None = None,
    by: Actor,
    now: datetime,
) -> Shown | None:
    """Show a file or a signature of an entry, the one that stands or (`sha256`) one that was replaced; in the log.

    NotFound when there is none, or once it was erased. A signature says who somebody is, and is for those who may know.
    None when whoever asks has it already (`seen`).
    """
    about = _About(study, participant, visit, instrument)
    refused = {"action": "entry.show_file", "subject": about.refusal_subject}
    require(by, Permission.ENTRY_READ, site_id=participant.site_id, **refused)
    form = study.definition.instrument(instrument)
    asked = form.item(item) if form is not None else None
    if asked is None or asked.type not in (ItemType.FILE, ItemType.SIGNATURE):
        raise NotFound
    is_file = asked.type is ItemType.FILE
    if not is_file:
        require(by, Permission.IDENTITY_READ, site_id=participant.site_id, **refused)
    entry = entry_of(session, about.participant_id, visit, instrument)
    key = "file" if is_file else "signature"
    values: list[object] = [entry.values.get(item)] if entry is not None else []
    if sha256 is not None and values and not (isinstance(values[0], dict) and values[0].get(key) == sha256):
        values = [line.old for line in history(session, study, participant.code, visit, instrument, item)]
    value = next(
        (one for one in values if isinstance(one, dict) and key in one and sha256 in (None, one[key])),
        None,
    )
    if value is None:
        raise NotFound
    if seen is not None and seen == value[key]:
        return None
    purpose = FILE_PURPOSE if is_file else SIGNATURE_PURPOSE
    opened = files.opened(session, about.participant_id, purpose, value[key])
    if opened is None:
        raise NotFound
    shown = Change("entry.file_shown", item=item, new={key: value[key]})
    record(session, study.code, about.changes([shown]), by=by, now=now)
    data, media_type = opened
    if is_file:
        return Shown(data, media_type, value["name"], value[key])
    signed = json.loads(data)
    label = _label_of(asked)
    drawn = json.dumps(signed["strokes"]) if "strokes" in signed else ""
    svg = drawing_svg(drawn, label, INK) if drawn else name_svg(signed["name"], label, INK)
    return Shown(svg.encode(), "image/svg+xml", f"{item}.svg", value[key])


def _asked_sealed(session: Session, about: "_About", item: str, kind: ItemType, *, by: Actor, now: datetime) -> Item:
    """The question that is to be answered with something sealed; refused where nothing may be entered."""
    action = "entry.keep_file"
    require(by, Permission.ENTRY_SAVE, site_id=about.participant.site_id, action=action, subject=about.refusal_subject)
    form, _ = _open_form(session, about, by=by, hold=False, action=action, now=now)
    asked = form.item(item)
    if asked is None or asked.type is not kind:
        raise NotFound
    return asked


def _refuse_many(session: Session, about: "_About", asked: Item, sha256: str | None = None) -> None:
    """By a link so much is kept for a question and no more: who holds one is known to nobody but by the link.

    What stands cannot be taken away again, so the limit is on what was ever kept; the very same file is no other.
    """
    hold_participant(session, about.participant_id)  # many at once are counted one after the other
    if sha256 and files.kept(session, about.participant_id, FILE_PURPOSE, [sha256]):
        return
    kept = select(func.count()).where(
        LOG.c.log == about.study.code,
        LOG.c.participant == about.participant.code,
        LOG.c.subject == about.subject,
        LOG.c.item == asked.code,
        LOG.c.action.in_(("entry.file_kept", "entry.signature_kept")),
        LOG.c.via == "link",
    )
    if session.execute(kept).scalar_one() >= MOST_BY_LINK:
        words = (
            f"{_label_of(asked)}: {MOST_BY_LINK} were sent for this question already, and no more are kept by a link. "
            "Send the form with the last one, or ask your study site."
        )
        raise Invalid([FieldProblem(asked.code, "many", words)])


def _not_kept(
    session: Session, about: "_About", form: Instrument, values: Mapping[str, object], before: Mapping[str, object]
) -> list[FieldProblem]:
    """What is said to be kept sealed, and is not: only what `keep_file` and `keep_signature` gave is an answer."""
    problems = []
    for item in form.items:
        value = values.get(item.code)
        if item.type not in SEALED_AS or not isinstance(value, dict) or value == before.get(item.code):
            continue
        key, purpose = SEALED_AS[item.type]
        sha256 = value.get(key)
        if not isinstance(sha256, str):
            continue  # a reason why there is none; or nothing that could be read, which is said elsewhere
        kept = files.kept(session, about.participant_id, purpose, [sha256]).get(sha256)
        if kept is None or (key == "file" and (kept.size, kept.media_type) != (value["size"], value["media_type"])):
            problems.append(FieldProblem(item.code, key, f"{_label_of(item)}: this is not kept here. Send it again."))
    return problems


def drop_draft(
    session: Session, participant_id: int, *, visit: str, instrument: str, by: Actor, repeat: int = 1
) -> None:
    """Throw away this person's draft of this form; nothing happens when there is none."""
    session.execute(
        delete(DRAFT).where(
            DRAFT.c.person_id == by.person_id,
            DRAFT.c.participant_id == participant_id,
            DRAFT.c.visit == visit,
            DRAFT.c.instrument == instrument,
            DRAFT.c.repeat == repeat,
        )
    )


def mark_in_error(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    repeat: int,
    version: int,
    why: str,
    by: Actor,
    now: datetime,
    undo: bool = False,
) -> EntryState:
    """Mark an entry of a form that repeats as entered in error, with the reason; `undo` takes the mark back.

    Nothing is deleted: the answers and their history stay, but count in no score, no export and no signature. The same
    again changes nothing.
    """
    action = "entry.restore" if undo else "entry.mark_in_error"
    about = _About(study, participant, visit, instrument, repeat)
    require(by, Permission.ENTRY_SAVE, site_id=participant.site_id, action=action, subject=about.refusal_subject)
    form, place = _open_form(session, about, by=by, hold=True, action=action, now=now)
    held = _held_entry(session, about, form, place)
    _refuse_closed(session, about, held.lock, action=action)
    entry = held.entry
    why = _needed_reason(why, "Say why it counts after all." if undo else "Say what went wrong.")
    if entry is not None and form.repeats and entry.is_in_error is not undo:
        return entry
    _refuse_if(about, None if undo and entry is not None else why_not_mark_in_error(entry, form), action=action)
    assert entry is not None
    if entry.version != version:
        raise _conflict(about, entry)
    marked = replace(
        entry,
        in_error_at=None if undo else now,
        in_error_by=None if undo else by.username,
        in_error_why=None if undo else why,
        version=version + 1,
        signed_at=None,
        signed_by=None,
        signed_name=None,
        signed_meaning=None,
        signed_digest=None,
    )
    names = ("in_error_at", "in_error_by", "in_error_why", "version", *SIGNATURE)
    session.execute(update(ENTRY).where(ENTRY.c.id == entry.id).values({name: getattr(marked, name) for name in names}))
    log = [Change("entry.restored" if undo else "entry.marked_in_error", why=why)]
    if entry.is_signed:
        log.append(Change("entry.signature_superseded", old=signature_said(entry), why=why))
    told = about.changes(log)
    values = entry.values if undo else None
    if not undo and held.has_queries:
        told += queries.follow(
            session,
            study,
            participant,
            visit=visit,
            instrument=instrument,
            repeat=repeat,
            findings=(),
            reasons={},
            values=entry.values,
            by=by,
            now=now,
        )
    told += _follow_elsewhere(session, about, place, set(entry.values), values, by=by, now=now)
    if held.is_signed:
        told += casebook.supersede(session, participant, why=why, by=by, now=now)
    record(session, study.code, told, by=by, now=now)
    return marked


def _needed_reason(why: str, needed: str) -> str:
    try:
        read = read_reason([why])
    except Unreadable as unreadable:
        raise Invalid([FieldProblem("why", unreadable.rule, f"Reason: {unreadable.message}")]) from None
    if not read:
        raise Invalid([FieldProblem("why", "required", needed)])
    return read


@dataclass(frozen=True)
class _About:
    """Which form of whom, and how the log names it."""

    study: StudyInUse
    participant: Participant
    visit: str
    instrument: str
    repeat: int = 1

    @property
    def participant_id(self) -> int:
        assert self.participant.id is not None
        return self.participant.id

    @property
    def subject(self) -> str:
        return f"entry/{shortened(self.visit)}/{form_name(shortened(self.instrument), self.repeat)}"

    @property
    def refusal_subject(self) -> str:
        return f"{self.participant.code}/{self.subject}"

    def changes(self, log: Sequence[Change]) -> list[Change]:
        code, subject = self.participant.code, self.subject
        return [Change(each.action, code, subject, each.item, each.old, each.new, each.why) for each in log]


def _open_form(
    session: Session, about: _About, *, by: Actor, hold: bool, action: str, now: datetime
) -> tuple[Instrument, Place]:
    """The form and where it is filled in; Refused when nothing may be entered there."""
    definition = about.study.definition

    def refuse_if(reason: str | None) -> None:
        _refuse_if(about, reason, action=action)

    # First what the protocol says alone: a name it does not know is not even looked up.
    refuse_if(why_not_enter(definition, about.visit, about.instrument))
    form = definition.instrument(about.instrument)
    assert form is not None
    # Two forms that are judged together are saved one after the other, or neither would see what the other says.
    # So are two that repeat: the one that is begun first is the one before.
    alone = hold and (form.repeats or is_tied(definition, form, about.visit))
    place = place_of(
        session,
        about.participant_id,
        about.visit,
        about.instrument,
        by=by,
        hold="alone" if alone else "shared" if hold else "",
        repeat=about.repeat,
    )
    refuse_if(
        why_not_enter(
            definition,
            about.visit,
            about.instrument,
            screen_failed=place.screen_failed,
            is_scheduled=place.is_scheduled,
            is_stopped=place.is_stopped,
            is_missed=place.is_missed,
        )
    )
    refuse_if(why_not_repeat(form, about.repeat, place.begun))
    refuse_if(why_no_consent(session, about.study, about.participant, before="entries", now=now))
    _refuse_closed(session, about, place.lock, action=action)
    return form, place


def _refuse_if(about: _About, reason: str | None, *, action: str) -> None:
    if reason is not None:
        raise Refused(reason, action=action, subject=about.refusal_subject)


def _stands(session: Session, about: _About, entry: EntryState | None) -> double.Pair | None:
    """Where a form that is entered twice stands, held; None before its first entry."""
    if entry is None or not about.study.definition.is_entered_twice(about.visit, about.instrument):
        return None
    return double.held_pair(session, entry.id)


def _refuse_closed(
    session: Session, about: _About, lock: int | None, *, action: str, only_locked: bool = False
) -> None:
    """Refused when something freezes or locks this visit; `lock` says whether anything does at all."""
    if lock is None:
        return
    found = covering(session, about.study, about.participant_id, about.visit)
    reason = why_closed(about.study.definition, found, only_locked=only_locked)
    if reason is not None:
        raise Refused(reason, action=action, subject=about.refusal_subject)


@dataclass(frozen=True)
class _Held:
    """The entry, held until the transaction ends, the other answers that its expressions refer to, what covers it.

    `has_queries`: queries of its checks stand; `is_signed`: so does a signature of the participant's casebook.
    """

    entry: EntryState | None
    answers: Answers
    lock: int | None
    has_queries: bool
    is_signed: bool


def _held_entry(session: Session, about: _About, form: Instrument, place: Place) -> _Held:
    """What is saved upon, in one statement.

    Entries that are referred to are held as well, in one order everywhere: a check across visits is made on answers
    that stand when this one is saved. Locks are read here, where the participant is held already: none can come now.
    """
    events = events_needed(form, about.visit) - {SCREENING}
    wanted = {
        "participant_id": about.participant_id,
        "visit": about.visit,
        "instrument": about.instrument,
        "repeat": about.repeat,
        "study_id": about.study.id,
    }
    entry, others = None, []
    lock, has_queries, is_signed = None, False, False
    for row in session.execute(_held_query(events), wanted).mappings():
        found = dict(row)
        lock, has_queries, is_signed = (found.pop(name) for name in STANDING)
        if found["id"] is None:
            continue
        state = entry_state(found)
        if (state.visit, state.instrument, state.repeat) == (about.visit, about.instrument, about.repeat):
            entry = state
        elif not state.is_in_error:
            others.append(Filled(state.visit, state.instrument, state.repeat, state.values))
    return _Held(entry, answers_from(place.screening, others), lock, bool(has_queries), bool(is_signed))


STANDING = ("lock", "has_queries", "is_signed")


@lru_cache(maxsize=256)
def _held_query(events: frozenset[str]) -> Select[Any]:
    participant_id = bindparam("participant_id", type_=Integer)
    visit, instrument = bindparam("visit", type_=String), bindparam("instrument", type_=String)
    repeat = bindparam("repeat", type_=Integer)
    own = and_(ENTRY.c.visit == visit, ENTRY.c.instrument == instrument, ENTRY.c.repeat == repeat)
    held = (
        entry_columns()
        .where(
            ENTRY.c.participant_id == participant_id,
            or_(own, ENTRY.c.visit.in_(sorted(events))) if events else own,
        )
        .order_by(ENTRY.c.id)
        .with_for_update(of=ENTRY)
        .subquery("held")
    )
    asked = exists().where(
        QUERY.c.participant_id == participant_id,
        QUERY.c.visit == visit,
        QUERY.c.instrument == instrument,
        QUERY.c.repeat == repeat,
        QUERY.c.closed_at.is_(None),
        QUERY.c.rule.is_not(None),
    )
    signed = exists().where(CASEBOOK.c.participant_id == participant_id, CASEBOOK.c.superseded_at.is_(None))
    standing = select(
        lock_covering(bindparam("study_id", type_=Integer)).label("lock"),
        asked.label("has_queries"),
        signed.label("is_signed"),
    ).subquery("standing")
    return select(standing, held).select_from(standing.outerjoin(held, true())).order_by(held.c.id)


def _retired(form: Instrument, values: Mapping[str, object]) -> dict[str, object]:
    return {code: value for code, value in values.items() if form.item(code) is None}


def _is_retry(entry: EntryState | None, after: Mapping[str, object], judgement: Judgement) -> bool:
    """Whether exactly this is stored already: the answer to the first attempt did not arrive."""
    return entry is not None and not changes(entry.values, after) and entry.reasons == judgement.reasons


def _as_stored(entry: EntryState | None, judgement: Judgement) -> SavedEntry:
    assert entry is not None
    return SavedEntry(entry.version, EntryStatus(entry.status), judgement)


def _conflict(about: _About, entry: EntryState | None) -> Conflict:
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


# What stands against saving


def _read_reasons(form: Instrument, reasons: Mapping[str, object]) -> tuple[dict[str, str], list[FieldProblem]]:
    """The reasons for items of this form as they are kept, and those that cannot be."""
    read: dict[str, str] = {}
    problems = []
    for item in form.asked(reasons):
        reason = reasons.get(item.code, "")
        try:
            if not isinstance(reason, str):
                raise Unreadable("type", "send the reason as a text.")
            read[item.code] = read_reason([reason])
        except Unreadable as unreadable:
            message = f"{_label(form, item.code)}: {unreadable.message}"
            problems.append(FieldProblem(item.code + WHY, unreadable.rule, message))
    return read, problems


def _checked(
    form: Instrument,
    judgement: Judgement,
    different: list[ItemChange],
    unread: Sequence[FieldProblem],
    *,
    accept_partial: bool,
    why: str | None,
) -> str | None:
    """The reason for changing saved answers, trimmed; Invalid with everything that must be put right first."""
    problems = list(unread)
    fields = {problem.field for problem in unread}
    # A field that could not be read is not also called blank, or changed.
    problems += [
        FieldProblem(finding.item, finding.rule, finding.advice)
        for finding in judgement.hard
        if finding.item not in fields
    ]
    if not accept_partial:
        problems += [_unanswered(form, code) for code in judgement.missing_required if code not in fields]
        problems += [
            FieldProblem(finding.item + WHY, finding.rule, finding.advice)
            for finding in judgement.soft
            if finding.item in judgement.unexplained and finding.item + WHY not in fields
        ]
    try:
        why = read_reason([why or ""]) or None
    except Unreadable as unreadable:
        problems.append(FieldProblem("why", unreadable.rule, f"Reason for the change: {unreadable.message}"))
    else:
        corrected = [
            change for change in different if change.item not in fields and _is_deliberate(form, change, judgement)
        ]
        if corrected and why is None:
            problems.append(_unexplained(form, corrected))
    if problems:
        raise Invalid(problems)
    return why


def _is_deliberate(form: Instrument, change: ItemChange, judgement: Judgement) -> bool:
    """Whether a person changed what was saved, rather than a score or a question following from it."""
    item = form.item(change.item)
    return (
        change.is_correction
        and change.item not in judgement.hidden
        and item is not None
        and item.type is not ItemType.CALCULATED
    )


def _unanswered(form: Instrument, code: str) -> FieldProblem:
    return FieldProblem(code, "required", f"{_label(form, code)}: answer this, or say why there is no answer.")


def _unexplained(form: Instrument, corrected: list[ItemChange]) -> FieldProblem:
    labels = ", ".join(_label(form, change.item) for change in corrected[:5])
    more = ", …" if len(corrected) > 5 else ""
    return FieldProblem("why", "required", f"You are changing what was saved ({labels}{more}). Say why.")


def _label(form: Instrument, code: str) -> str:
    item = form.item(code)
    return _label_of(item) if item else shortened(code)


def _label_of(item: Item) -> str:
    return shortened(label_of(item))


# What the log says


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
    waited = {(each.item, each.rule) for each in _waiting(before)}
    for finding in _waiting(judgement):
        if finding.item in moved or (finding.item, finding.rule) not in waited:
            fired = judgement.values.get(finding.item)
            log.append(Change("entry.check_fired", item=finding.item, new=fired, why=finding.message))
    return log


def _waiting(judgement: Judgement | None) -> list[Finding]:
    return [each for each in judgement.soft if each.item in judgement.unexplained] if judgement else []


def _log_of_status(entry: EntryState | None, status: EntryStatus, why: str | None) -> list[Change]:
    log = []
    before = entry.status if entry else EntryStatus.PARTIAL
    if before != status:
        action = "entry.completed" if status is EntryStatus.COMPLETE else "entry.reopened"
        log.append(Change(action, why=why))
    return log


# What is written


def _store(
    session: Session,
    about: _About,
    entry: EntryState | None,
    values: Mapping[str, object],
    judgement: Judgement,
    status: EntryStatus,
    verified: Mapping[str, object],
    *,
    by: Actor,
    now: datetime,
    typed_at: datetime | None,
) -> int | None:
    """Write the row; its id, or None when somebody else's first version is there meanwhile."""
    row: dict[str, Any] = {
        "study_version_id": about.study.version_id,
        "status": status,
        "values": canonical(document_of(values)),
        "reasons": canonical(judgement.reasons),
        "saved_at": now,
        "saved_by": by.username,
        "typed_at": typed_at,
    }
    if entry is not None:
        row |= {"version": entry.version + 1, **dict.fromkeys(SIGNATURE)}
        if entry.verified:
            row |= {"verified": canonical(verified), "verified_at": None}
        session.execute(_UPDATE, {"entry_id": entry.id, **row})
        return entry.id
    row |= {
        "study_id": about.study.id,
        "participant_id": about.participant_id,
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


def _insert(session: Session) -> Any:
    return postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
