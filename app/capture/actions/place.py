"""Where is something entered, and may it be? The form and its place, and the entry as it is held until it is saved."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Integer, Select, String, and_, bindparam, exists, or_, select, true
from sqlmodel import Session

from app.audit.actions import Change
from app.capture.checks import SCREENING, events_needed, is_tied
from app.capture.double import held as double
from app.capture.locks.reads import covering
from app.capture.locks.rules import why_closed
from app.capture.reads import (
    AT_PLACE,
    CASEBOOK,
    ENTRY,
    OF_THEM,
    PLACE,
    QUERY,
    STATE,
    Answers,
    Filled,
    Place,
    answers_from,
    entry_columns,
    entry_state,
    place_from,
    place_of,
    place_wanted,
)
from app.capture.rules import EntryState, form_name, label_of, why_not_enter, why_not_repeat
from app.capture.typed import shortened
from app.consent.reads import why_no_consent
from app.foundation.errors import NotFound, Refused
from app.participants.models import Participant
from app.participants.reads import Hold, hold
from app.people.access import Actor
from app.studies.definition import Instrument, Item, Study
from app.studies.in_use import StudyInUse


@dataclass(frozen=True)
class About:
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


def planned_form(session: Session, about: About, *, by: Actor, action: str) -> tuple[Instrument, Place]:
    """The form and where it is filled in; Refused when this participant has no such form there."""
    form = _known_form(about, action=action)
    place = place_of(session, about.participant_id, about.visit, about.instrument, by=by, repeat=about.repeat)
    _refuse_unplanned(about, form, place, action=action)
    return form, place


def open_form(session: Session, about: About, *, by: Actor, action: str, now: datetime) -> tuple[Instrument, Place]:
    """The form and where it is filled in; Refused when nothing may be entered there."""
    form, place = planned_form(session, about, by=by, action=action)
    _refuse_not_open(session, about, place, action=action, now=now)
    return form, place


def held_form(session: Session, about: About, *, by: Actor, action: str, now: datetime) -> tuple[Instrument, "Held"]:
    """The form and what is saved upon there, held; Refused when nothing may be entered there."""
    form = _known_form(about, action=action)
    held = held_entry(session, about, form, by=by)
    _refuse_unplanned(about, form, held.place, action=action)
    _refuse_not_open(session, about, held.place, action=action, now=now)
    return form, held


def _known_form(about: About, *, action: str) -> Instrument:
    """What the protocol says alone: a name it does not know is not even looked up."""
    definition = about.study.definition
    refuse_if(about, why_not_enter(definition, about.visit, about.instrument), action=action)
    form = definition.instrument(about.instrument)
    assert form is not None
    return form


def _refuse_unplanned(about: About, form: Instrument, place: Place, *, action: str) -> None:
    reason = why_not_enter(
        about.study.definition,
        about.visit,
        about.instrument,
        screen_failed=place.screen_failed,
        is_scheduled=place.is_scheduled,
    )
    refuse_if(about, reason or why_not_repeat(form, about.repeat, place.begun), action=action)


def _refuse_not_open(session: Session, about: About, place: Place, *, action: str, now: datetime) -> None:
    closed = why_not_enter(
        about.study.definition, about.visit, about.instrument, stopped=place.stopped, is_missed=place.is_missed
    )
    refuse_if(about, closed, action=action)
    unasked = why_no_consent(
        session, about.study, about.participant, before="entries", now=now, consented=place.consented
    )
    refuse_if(about, unasked, action=action)
    refuse_closed(session, about, place.lock, action=action)


def refuse_if(about: About, reason: str | None, *, action: str) -> None:
    if reason is not None:
        raise Refused(reason, action=action, subject=about.refusal_subject)


def pair_of(session: Session, about: About, entry: EntryState | None) -> double.Pair | None:
    """Where a form that is entered twice stands, held; None before its first entry."""
    if entry is None or not about.study.definition.is_entered_twice(about.visit, about.instrument):
        return None
    return double.held_pair(session, entry.id)


def refuse_closed(session: Session, about: About, lock: int | None, *, action: str, only_locked: bool = False) -> None:
    """Refused when something freezes or locks this visit; `lock` says whether anything does at all."""
    if lock is None:
        return
    found = covering(session, about.study, about.participant_id, about.visit)
    reason = why_closed(about.study.definition, found, only_locked=only_locked)
    if reason is not None:
        raise Refused(reason, action=action, subject=about.refusal_subject)


@dataclass(frozen=True)
class Held:
    """The entry, held until the transaction ends, its place, and the other answers that its expressions refer to.

    `has_queries`: queries of its checks stand; `is_signed`: so does a signature of the participant's casebook.
    """

    place: Place
    entry: EntryState | None
    answers: Answers
    has_queries: bool
    is_signed: bool


def how_held(form: Instrument, definition: Study, visit: str) -> Hold:
    """How the participant is held while this form is saved at this visit.

    Two forms that are judged together are saved one after the other, or neither would see what the other says. So are
    two that repeat: the one that is begun first is the one before.
    """
    return "alone" if form.repeats or is_tied(definition, form, visit) else "shared"


def held_entry(session: Session, about: About, form: Instrument, *, by: Actor) -> Held:
    """What is saved upon, in one statement, once the participant is held: nothing of it changes any more.

    Entries that are referred to are held as well, in one order everywhere: a check across visits is made on answers
    that stand when this one is saved.
    """
    hold(session, about.participant_id, how_held(form, about.study.definition, about.visit))
    events = events_needed(form, about.visit) - {SCREENING}
    wanted = place_wanted(about.participant_id, about.visit, about.instrument, by=by, repeat=about.repeat)
    rows = session.execute(_held_query(events), wanted).mappings().all()
    if not rows:
        raise NotFound
    entry, others = None, []
    for row in rows:
        if row["id"] is None:
            continue
        state = entry_state({name: row[name] for name in STATE})
        if (state.visit, state.instrument, state.repeat) == (about.visit, about.instrument, about.repeat):
            entry = state
        elif not state.is_in_error:
            others.append(Filled(state.visit, state.instrument, state.repeat, state.values))
    place = place_from(rows[0])
    answers = answers_from(place.screening, others)
    return Held(place, entry, answers, bool(rows[0]["has_queries"]), bool(rows[0]["is_signed"]))


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
    return (
        select(*PLACE, asked.label("has_queries"), signed.label("is_signed"), held)
        .select_from(AT_PLACE.outerjoin(held, true()))
        .where(OF_THEM)
        .order_by(held.c.id)
    )


def label_in(form: Instrument, code: str) -> str:
    item = form.item(code)
    return short_label(item) if item else shortened(code)


def short_label(item: Item) -> str:
    return shortened(label_of(item))
