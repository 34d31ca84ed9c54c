"""What may I do with queries? Raise, answer, ask again, close; and what saving an entry does to those of its checks."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, bindparam, insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.checks import Finding
from app.capture.locks.reads import refuse_locked
from app.capture.queries.reads import MESSAGE, QUERY, Query, query_of, raised_by_checks
from app.capture.queries.rules import (
    CORRECTED,
    NEEDED,
    NOTHING_ENTERED,
    SAID,
    Closing,
    Origin,
    Raised,
    State,
    Step,
    after,
    followed,
    message_problems,
    why_not_step,
)
from app.capture.reads import ENTRY
from app.capture.rules import form_name
from app.capture.typed import shortened
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.participants.models import Participant
from app.people.access import Actor, require
from app.people.permissions import Permission, Role
from app.studies.in_use import StudyInUse

WRITE_ANSWER = "Say what you found: what the source says, and whether the value stands."
WRITE_QUESTION = "Say what is in question, in a sentence."

_INSERT = insert(QUERY).returning(QUERY.c.id)
_SAY = insert(MESSAGE)
_MOVE = update(QUERY).where(QUERY.c.id == bindparam("number", type_=Integer))


def raise_query(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    item: str,
    text: str,
    by: Actor,
    now: datetime,
    repeat: int = 1,
) -> Query:
    """Ask the site about one answer of an entry; it is asked in words that name no arm."""
    about: dict[str, Any] = {
        "action": "query.raise",
        "subject": f"{participant.code}/query/{shortened(visit)}/{form_name(shortened(instrument), repeat)}",
    }
    require(by, Permission.QUERY_RAISE, site_id=participant.site_id, **about)
    planned, form = study.definition.visit(visit), study.definition.instrument(instrument)
    if planned is None or form is None or instrument not in planned.instruments or participant.id is None:
        raise NotFound
    problems = message_problems(study.definition, text, needed=WRITE_QUESTION)
    if form.item(item) is None:
        words = f"{form.label} does not ask for this. Choose one of its items."
        problems.append(FieldProblem("item", "unknown", words))
    if problems:
        raise Invalid(problems)
    refuse_locked(session, study, participant, visit=visit, **about)
    # Held, so that whoever corrects the entry and whoever asks about it do so one after the other.
    entered = (
        select(ENTRY.c.id)
        .where(
            ENTRY.c.participant_id == participant.id,
            ENTRY.c.visit == visit,
            ENTRY.c.instrument == instrument,
            ENTRY.c.repeat == repeat,
        )
        .with_for_update()
    )
    if session.execute(entered).first() is None:
        raise Refused(NOTHING_ENTERED, **about)
    origin = Origin.DATA_MANAGER if Role.DATA_MANAGER in by.roles else Origin.MONITOR
    number = _raise(
        session,
        study,
        participant.id,
        visit,
        instrument,
        item,
        text.strip(),
        origin=origin,
        rule=None,
        by=by,
        now=now,
        repeat=repeat,
    )
    made = query_of(session, study, number, by=by)
    record(session, study.code, [_change(made, Step.RAISE, text.strip())], by=by, now=now)
    return made


def answer_query(
    session: Session, study: StudyInUse, number: int, *, text: str, version: int, by: Actor, now: datetime
) -> Query:
    """Answer a query: what the source says."""
    return _step(session, study, number, Step.ANSWER, text, version=version, by=by, now=now)


def requery(
    session: Session, study: StudyInUse, number: int, *, text: str, version: int, by: Actor, now: datetime
) -> Query:
    """Ask again: the answer does not settle it."""
    return _step(session, study, number, Step.REQUERY, text, version=version, by=by, now=now)


def close_query(
    session: Session, study: StudyInUse, number: int, *, text: str = "", version: int, by: Actor, now: datetime
) -> Query:
    """Close a query, answered or not; what is said with it is kept."""
    return _step(session, study, number, Step.CLOSE, text, version=version, by=by, now=now)


def follow(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    visit: str,
    instrument: str,
    findings: Iterable[Finding],
    reasons: Mapping[str, str],
    values: Mapping[str, object],
    may_stand: bool = True,
    by: Actor,
    now: datetime,
    repeat: int = 1,
) -> list[Change]:
    """Raise queries for the findings that nobody has explained, answer those a reason explains, close the settled.

    Called by whoever saves the entry, who has its row; answers what the log is to say of it. `may_stand` is False when
    it is known that no query of a check stands.
    """
    assert participant.id is not None
    standing = raised_by_checks(session, participant.id, visit, instrument, repeat) if may_stand else ()
    found, name = followed(standing, findings, reasons), form_name(instrument, repeat)
    log = []
    for finding in found.fresh:
        number = _raise(
            session,
            study,
            participant.id,
            visit,
            instrument,
            finding.item,
            finding.message,
            origin=Origin.CHECK,
            rule=finding.rule,
            by=by,
            now=now,
            repeat=repeat,
        )
        new = {"query": number, "text": finding.message, "rule": finding.rule, "value": values.get(finding.item)}
        log.append(_of_check(participant, visit, name, finding.item, SAID[Step.RAISE], new=new))
    moves = [(each, Step.ANSWER, reason) for each, reason in found.explained]
    moves += [(each, Step.CORRECT, CORRECTED) for each in found.settled]
    for each, step, text in moves:
        _move(session, each, step, text, by=by, now=now)
        old, new = {"query": each.number, "state": each.state}, {"query": each.number, "text": text}
        log.append(_of_check(participant, visit, name, each.item, SAID[step], old=old, new=new))
    return log


def _of_check(
    participant: Participant, visit: str, name: str, item: str, action: str, *, old: Any = None, new: Any = None
) -> Change:
    return Change(action, participant.code, f"query/{visit}/{name}", item, old, new)


def _step(
    session: Session,
    study: StudyInUse,
    number: int,
    step: Step,
    text: str,
    *,
    version: int,
    by: Actor,
    now: datetime,
) -> Query:
    found = query_of(session, study, number, by=by)
    about: dict[str, Any] = {
        "action": f"query.{step}",
        "subject": f"{found.participant}/query/{found.visit}/{found.name}",
    }
    require(by, NEEDED[step], site_id=found.site_id, **about)
    needed = {Step.ANSWER: WRITE_ANSWER, Step.REQUERY: WRITE_QUESTION}.get(step)
    if problems := message_problems(study.definition, text, needed=needed):
        raise Invalid(problems)
    held = session.execute(
        select(QUERY.c.state, QUERY.c.version, QUERY.c.participant_id).where(QUERY.c.id == number).with_for_update()
    ).one()
    text = text.strip()
    # The same words again are the same step: the answer to the first did not arrive.
    last = found.thread[-1] if found.thread else None
    if last is not None and (last.step, last.text, last.by) == (step, text, by.username):
        return found
    if held.version != version:
        raise Conflict(
            "Somebody wrote to this query while you had it open. Read what they wrote, then go on.",
            current_version=held.version,
            **about,
        )
    state = State(held.state)
    if reason := why_not_step(state, step):
        raise Refused(reason, **about)
    refuse_locked(session, study, held.participant_id, visit=found.visit, **about)
    _move(session, Raised(number, found.item, found.rule or "", state, version), step, text, by=by, now=now)
    record(session, study.code, [_change(found, step, text, state)], by=by, now=now)
    return query_of(session, study, number, by=by)


def _change(query: Query, step: Step, text: str, state: State | None = None) -> Change:
    old = {"query": query.number, "state": state} if state else None
    new = {"query": query.number, "text": text}
    return Change(SAID[step], query.participant, f"query/{query.visit}/{query.name}", query.item, old, new)


def _raise(
    session: Session,
    study: StudyInUse,
    participant_id: int,
    visit: str,
    instrument: str,
    item: str,
    text: str,
    *,
    origin: Origin,
    rule: str | None,
    by: Actor,
    now: datetime,
    repeat: int,
) -> int:
    row = {
        "study_id": study.id,
        "participant_id": participant_id,
        "visit": visit,
        "instrument": instrument,
        "repeat": repeat,
        "item": item,
        "origin": origin,
        "rule": rule,
        "state": State.OPEN,
        "text": text,
        "version": 1,
        "raised_at": now,
        "raised_by": by.username,
        "changed_at": now,
        "changed_by": by.username,
    }
    number = int(session.execute(_INSERT, row).scalar_one())
    _say(session, number, Step.RAISE, text, by=by, now=now)
    return number


def _move(session: Session, query: Raised, step: Step, text: str, *, by: Actor, now: datetime) -> None:
    state = after(query.state, step)
    assert state is not None
    row: dict[str, Any] = {
        "state": state,
        "version": query.version + 1,
        "changed_at": now,
        "changed_by": by.username,
    }
    if step is Step.ANSWER:
        row["answer"] = text
    if state is State.CLOSED:
        row |= {"closed_at": now, "closing": Closing.CORRECTED if step is Step.CORRECT else Closing.CLOSED}
    session.execute(_MOVE.values(row), {"number": query.number})
    _say(session, query.number, step, text, by=by, now=now)


def _say(session: Session, number: int, step: Step, text: str, *, by: Actor, now: datetime) -> None:
    said = {"query_id": number, "step": step, "text": text, "at": now, "by": by.username, "role": by.role}
    session.execute(_SAY, said)
