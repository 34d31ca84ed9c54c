"""What can be signed of a visit, and all of it at once? One meaning, one proof of who signs, a signature per entry.

Several signings in one go are one continuous period of controlled access: who signs has proved it just before with
everything it takes (21 CFR 11.200(a)(1)(i)). Each entry is bound by itself, over its own bytes (11.70).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Integer, String, bindparam, select, update
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.audit.actions import Change, record
from app.capture.actions import as_signed, signature_said, signed_so
from app.capture.double import rules as twice
from app.capture.double.reads import states_of
from app.capture.locks.reads import locks_of, refuse_locked
from app.capture.locks.rules import covering_visit, why_closed
from app.capture.queries.reads import standing_at as queries_at
from app.capture.reads import ENTRY, SIGNATURE, Filled, answers_from, entries_with_values, place_of
from app.capture.rules import (
    MEANINGS,
    EntryState,
    check_meaning,
    digest_of,
    form_name,
    judge_stored,
    named_form,
    why_asked,
    why_not_sign,
)
from app.capture.typed import shortened
from app.foundation.errors import Conflict, FieldProblem, Invalid, Refused
from app.participants.models import Participant
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.schedule.reads import visits_of
from app.schedule.status import VisitStatus
from app.studies.definition import Instrument, Study
from app.studies.in_use import StudyInUse

NOTHING: tuple[EntryState | None, ...] = (None,)
MOST = 500
"""Entries of a participant that are shown, and signed, at once; the next ones wait for the next time."""
NOT_AS_SHOWN = "This form is not what was shown to you. Read it again, then sign."
NOT_ASKED = (
    "An earlier version of the protocol asked this, so nothing says any more when it is complete. The signature of the "
    "whole casebook covers it."
)

# Built once: putting a statement together takes longer than running it.
_SIGN = (
    update(ENTRY)
    .where(ENTRY.c.id == bindparam("entry_id", type_=Integer))
    .values({name: bindparam(f"new_{name}", type_=ENTRY.c[name].type) for name in SIGNATURE})
)
_CORRECTED = (
    select(AUDIT_ENTRY.c.subject, AUDIT_ENTRY.c.item)
    .where(
        AUDIT_ENTRY.c.log == bindparam("log", type_=String),
        AUDIT_ENTRY.c.participant == bindparam("participant", type_=String),
        AUDIT_ENTRY.c.action == "entry.corrected",
    )
    .distinct()
)


@dataclass(frozen=True)
class Signable:
    """A complete entry without a signature, as it is shown to whoever signs. `digest` is what would be signed."""

    form: Instrument
    entry: EntryState
    digest: str


@dataclass(frozen=True)
class AsShown:
    """What somebody read before they sign: which form by its name (`rules.form_name`), which version and digest.

    `visit` where forms of several visits are signed together; of one visit it is known already.
    """

    name: str
    version: int
    digest: str
    visit: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A form that cannot be signed with the others, and why; `form` is None where no plan asks it now. Signed ones are
    none of them.
    """

    visit: str
    instrument: str
    repeat: int
    form: Instrument | None
    reason: str


@dataclass(frozen=True)
class ToSign:
    """What of a visit or of a whole casebook can be signed, in the order of the plan, and what is left out.

    `more`: how many wait beside these, because one page shows `MOST` entries. `values_changed` holds, by visit and
    name of the form, the items whose answer is not what was entered first; of a casebook.
    """

    ready: tuple[Signable, ...]
    left_out: tuple[LeftOut, ...]
    values_changed: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    more: int = 0


def what_to_sign(
    session: Session, study: StudyInUse, participant: Participant, visit: str, *, by: Actor, now: datetime
) -> ToSign:
    """What this person can sign of a visit now, and what is left out, with why: also what nobody has begun.

    A form of which they must not see the first of two entries says only that it waits.
    """
    _require_signing(participant, visit, by=by)
    study = study.at(participant.site_id)
    return _sorted_out(_Book(session, study, participant, by, now), {visit}, visit=visit)


def casebook_to_sign(
    session: Session, study: StudyInUse, participant: Participant, *, by: Actor, now: datetime
) -> ToSign:
    """What this person can sign of everything that was entered for a participant, and what is left out, with why.

    An answer that somebody asks about is left out: who signs stands for what is still open otherwise. A form that
    nobody has begun is left out where its visit was held, and not spoken of elsewhere.
    """
    _require_signing(participant, None, by=by)
    study = study.at(participant.site_id)
    held = {each.code for each in visits_of(session, _id_of(participant)) if each.status == VisitStatus.HELD}
    found = _sorted_out(_Book(session, study, participant, by, now), held)
    changed: dict[tuple[str, str], set[str]] = {}
    if found.ready:
        wanted = {"log": study.code, "participant": participant.code}
        for subject, item in session.execute(_CORRECTED, wanted):
            _, visit, name = (*subject.split("/", 2), "")[:3]
            changed.setdefault((visit, name), set()).add(item)
    return replace(found, values_changed={place: frozenset(items) for place, items in changed.items()})


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
    """Sign every entry of a visit that was shown, each by itself, or none: see `_sign_shown`.

    An entry that became complete after the page was opened was not read, and stays unsigned. Conflict and Refused name
    the form.
    """
    if not shown:
        _require_signing(participant, visit, by=by)
        message = "Nothing of this visit can be signed yet. Complete its forms first, then sign."
        raise Invalid([FieldProblem("entries", "required", message)])
    theirs = [replace(each, visit=visit) for each in shown]
    return _sign_shown(session, study, participant, theirs, visit=visit, meaning=meaning, by=by, now=now)


def sign_casebook_entries(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    shown: Sequence[AsShown],
    meaning: str,
    by: Actor,
    now: datetime,
) -> list[EntryState]:
    """Sign entries of as many visits as were shown, each by itself, or none: see `_sign_shown`.

    Conflict and Refused name the visit and the form.
    """
    if not shown:
        _require_signing(participant, None, by=by)
        raise Invalid([FieldProblem("entries", "required", "Choose at least one visit to sign.")])
    return _sign_shown(session, study, participant, shown, visit=None, meaning=meaning, by=by, now=now)


def _sign_shown(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    shown: Sequence[AsShown],
    *,
    visit: str | None,
    meaning: str,
    by: Actor,
    now: datetime,
) -> list[EntryState]:
    """Sign what was shown of a visit, or of the whole casebook (None): what changed meanwhile refuses all of it.

    The door has made sure just before that it is this person (21 CFR 11.200). The same again changes nothing.
    """
    study = study.at(participant.site_id)
    about = _require_signing(participant, visit, by=by)
    check_meaning(meaning, MEANINGS)
    # Whoever saves an entry, asks about an answer, or locks, holds the participant: first, or after this.
    refuse_locked(session, study, participant, visit="", **about, alone=True)
    book = _Book(session, study, participant, by, now)
    found = _sorted_out(book, frozenset(), visit=visit, most=None)
    ready = {(each.entry.visit, each.entry.name): each for each in found.ready}
    kept = {(each.visit, form_name(each.instrument, each.repeat)): each.reason for each in found.left_out}
    entries = {(each.visit, each.name): each for each in book.entries}
    signed: dict[tuple[str, str], EntryState] = {}
    asked: list[EntryState] = []
    for each in shown:
        place = (each.visit, each.name)
        entry, signable = entries.get(place), ready.get(place)
        label = _label(study.definition, each, with_visit=visit is None)
        if entry is not None and _signed_as_shown(entry, each, meaning, by):
            asked.append(entry)
            continue
        if place in kept:  # before anything is said of a digest: the form may be one that this person must not read
            reason = kept[place]
            raise Refused(f"{label}: {reason} Nothing was signed.", **about)
        if entry is not None and (entry.version, digest_of(entry)) != (each.version, each.digest):
            reason = NOT_AS_SHOWN
            raise Conflict(f"{label}: {reason} Nothing was signed.", current_version=entry.version, **about)
        if signable is None:
            reason = why_not_sign(entry, book.form(each.name), None) or ""
            if entry is not None and entry.is_signed:
                reason = f"{entry.signed_name} has signed this version already. Open the page again to see what waits."
            raise Refused(f"{label}: {reason} Nothing was signed.", **about)
        signed[place] = as_signed(signable.entry, meaning=meaning, by=by, now=now)
        asked.append(signed[place])
    if signed:
        rows = [
            {"entry_id": each.id, **{f"new_{name}": getattr(each, name) for name in SIGNATURE}}
            for each in signed.values()
        ]
        session.execute(_SIGN, rows)
        log = [
            Change("entry.signed", participant.code, f"entry/{at}/{name}", new=signature_said(each))
            for (at, name), each in signed.items()
        ]
        record(session, study.code, log, by=by, now=now)
    return asked


def _signed_as_shown(entry: EntryState, shown: AsShown, meaning: str, by: Actor) -> bool:
    """Whether this is a retry: this person has signed exactly what was shown, and meant the same."""
    same = (entry.version, entry.signed_digest) == (shown.version, shown.digest)
    return same and signed_so(entry, meaning, by)


class _Book:
    """Everything that is filled in for a participant, read once, and what keeps each form from being signed."""

    def __init__(self, session: Session, study: StudyInUse, participant: Participant, by: Actor, now: datetime) -> None:
        self.definition, self.participant, self.by = study.definition, participant, by
        number = _id_of(participant)
        place = place_of(session, number, "", "", by=by)
        self.entries = [each for each in entries_with_values(session, number) if not each.is_in_error]
        self.filled: dict[tuple[str, str], list[EntryState]] = {}
        for each in sorted(self.entries, key=lambda entry: entry.repeat):
            self.filled.setdefault((each.visit, each.instrument), []).append(each)
        self.answers = answers_from(
            place.screening, [Filled(each.visit, each.instrument, each.repeat, each.values) for each in self.entries]
        )
        self.pairs = states_of(session, study.definition, number)
        self.local = now.astimezone(ZoneInfo(place.timezone))
        self.locks = locks_of(session, study, number)
        self._asked: dict[tuple[str, str], int] | None = None
        self._session = session

    def form(self, name: str) -> Instrument | None:
        """The instrument of a form's name, as the participant's site asks it now."""
        return self.definition.instrument(named_form(name)[0])

    @property
    def asked(self) -> dict[tuple[str, str], int]:
        """How many queries stand at each form."""
        if self._asked is None:
            self._asked = queries_at(self._session, _id_of(self.participant))
        return self._asked

    def why_not(self, visit: str, form: Instrument, entry: EntryState | None) -> str | None:
        """Why this form cannot be signed as it stands, or None."""
        state, first = self.pairs.get((visit, form.code), (None, ""))
        judgement = None
        if entry is not None:
            judgement = judge_stored(self.definition, form, entry, answers=self.answers, now=self.local)
        return (
            twice.why_withheld(state, first, self.participant.site_id, by=self.by)
            or twice.why_not_sign(self.definition, state)
            or why_closed(self.definition, covering_visit(self.locks, visit), only_locked=True)
            or why_not_sign(entry, form, judgement)
        )


def _sorted_out(book: _Book, held: Collection[str], *, visit: str | None = None, most: int | None = MOST) -> ToSign:
    """What can be signed of a visit or of all (None), and what is left out; `held` are the visits of which also the
    lacking forms are named. A form that somebody asks about is signed where its visit alone is, and not among many.
    """
    definition, ready, left_out = book.definition, [], []
    for at, code in _in_order(definition, book.filled):
        if visit not in (None, at):
            continue
        form = definition.instrument(code)
        if form is not None and not form.signable:
            continue
        nothing = NOTHING if at in held and form is not None else ()
        for entry in book.filled.get((at, code)) or nothing:
            if entry is not None and entry.is_signed:
                continue
            if form is None or definition.visit(at) is None:
                reason: str | None = NOT_ASKED
            else:
                reason = book.why_not(at, form, entry)
            if reason is None and entry is not None and visit is None:
                reason = why_asked(book.asked.get((at, entry.name), 0))
            if reason is None and entry is not None and form is not None:
                ready.append(Signable(form, entry, digest_of(entry)))
            else:
                left_out.append(LeftOut(at, code, entry.repeat if entry else 1, form, reason or ""))
    shown = ready if most is None else ready[:most]
    return ToSign(tuple(shown), tuple(left_out), more=len(ready) - len(shown))


def _in_order(definition: Study, filled: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
    """Every form of the plan by visit, then what is filled in and not planned: added visits, forms of old versions."""
    planned = dict.fromkeys((visit.code, code) for visit in definition.visits for code in visit.instruments)
    return [*planned, *(place for place in filled if place not in planned)]


def _label(definition: Study, each: AsShown, *, with_visit: bool) -> str:
    """A form as a refusal names it, with its visit where there are several."""
    visit, form = definition.visit(each.visit), definition.instrument(named_form(each.name)[0])
    label = form.label if form is not None else shortened(each.name)
    at = visit.label if visit is not None else shortened(each.visit)
    return f"{at}, {label}" if with_visit else label


def _require_signing(participant: Participant, visit: str | None, *, by: Actor) -> dict[str, Any]:
    """How the log names the signing of a visit, or of a casebook, by somebody who may."""
    about: dict[str, Any] = {"action": "entries.sign", "subject": f"{participant.code}/casebook"}
    if visit is not None:
        about = {"action": "visit.sign", "subject": f"{participant.code}/visit/{visit}"}
    require(by, Permission.ENTRY_SIGN, site_id=participant.site_id, **about)
    return about


def _id_of(participant: Participant) -> int:
    assert participant.id is not None
    return participant.id
