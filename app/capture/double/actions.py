"""What may I do with forms that are entered twice? Enter one the second time, and settle where the two differ."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, bindparam, insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record, recorded_together
from app.capture.actions import judge_second, save_entry
from app.capture.double.held import PAIR
from app.capture.double.reads import ANSWER, Line, answers_in, line_of
from app.capture.double.rules import (
    Chosen,
    State,
    Step,
    after,
    compared,
    said_together,
    why_not_reconcile,
)
from app.capture.reads import ENTRY, entry_columns, entry_state
from app.capture.rules import canonical, label_of, same_value, still_asked
from app.capture.typed import shortened
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.foundation.words import text_problems
from app.participants.models import Participant
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse

LONGEST_WHY = 500  # characters of one reason
NOT_DIFFERENT = "Both entered the same."
SAY_WHY = "Say why: what the paper shows, or who was asked."

_MOVE = update(PAIR).where(PAIR.c.id == bindparam("number", type_=Integer))
_KEEP = insert(ANSWER)
_SETTLE = update(ANSWER).where(
    ANSWER.c.pair_id == bindparam("number", type_=Integer), ANSWER.c.item == bindparam("of_item")
)


@dataclass(frozen=True)
class Decision:
    """What stands of one answer, and why; `value` is what was typed when neither entry is right."""

    chosen: Chosen
    why: str
    value: object = None


@dataclass(frozen=True)
class Entered:
    """What a second entry came to."""

    number: int
    state: State
    compared: int
    differing: int


def enter_second(
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
) -> Entered:
    """Enter a form the second time, from the paper alone; then the two entries are compared item by item.

    Refused, with a reason that says nothing of the first entry, to whoever made it or could have read it.
    """
    with recorded_together(session):
        second = judge_second(
            session,
            study,
            participant,
            visit=visit,
            instrument=instrument,
            values=values,
            reasons=reasons,
            by=by,
            now=now,
            accept_partial=accept_partial,
            problems=problems,
        )
        pair, entry, judged = second.pair, second.entry, second.judgement
        text = canonical(judged.values)
        subject = f"double/{visit}/{instrument}"
        if pair.second_by == by.username:
            if pair.second_values == text:
                return _as_entered(session, pair.number, pair.state, pair.differing)
            raise Refused(
                "You have entered this form the second time already. What differs from the first entry is settled "
                "under Double entry.",
                action="entry.enter_second",
                subject=f"{participant.code}/{subject}",
            )
        found = compared(second.form, entry.values, judged.values)
        differing = [each for each in found if not each.agrees]
        state = after(pair.state, Step.DIFFER if differing else Step.MATCH)
        assert state is not None
        row = {
            "state": state,
            "version": pair.version + 1,
            "second_by": by.username,
            "second_at": now,
            "second_values": text,
            "second_reasons": canonical(judged.reasons),
            "differing": len(differing),
        }
        session.execute(_MOVE, {"number": pair.number, **row})
        if found:
            kept = [
                {
                    "pair_id": pair.number,
                    "item": each.item,
                    "first": _json(each.first),
                    "second": _json(each.second),
                    "agrees": each.agrees,
                }
                for each in found
            ]
            session.execute(_KEEP, kept)
        log = [
            Change("entry.second_saved", participant.code, subject, each.item, new=each.second)
            for each in found
            if each.second is not None
        ]
        new = {"compared": len(found), "differing": len(differing), "state": state}
        log.append(Change("entry.entered_twice", participant.code, subject, new=new))
        record(session, study.code, log, by=by, now=now)
        if state is State.AGREED and "completion" in study.definition.double_entry.before:
            # Nothing of it changes but that it is complete now, which had waited for this.
            save_entry(
                session,
                study,
                participant,
                visit=visit,
                instrument=instrument,
                values=still_asked(second.form, entry.values),
                reasons=entry.reasons,
                base_version=entry.version,
                by=by,
                now=now,
                accept_partial=True,
                settles=True,
            )
        return Entered(pair.number, state, len(found), len(differing))


def reconcile(
    session: Session,
    study: StudyInUse,
    number: int,
    *,
    decisions: Mapping[str, Decision],
    version: int,
    by: Actor,
    now: datetime,
    problems: Sequence[FieldProblem] = (),
) -> Line:
    """Settle every difference: one of the two values, or the right one typed, each with its reason.

    The entry changes through the ordinary saving of entries, with its checks and its log. Invalid fields are item
    codes, and CODE__settled for a reason that is missing.
    """
    line = line_of(session, study, number, by=by)
    about: dict[str, Any] = {
        "action": "entry.reconcile",
        "subject": f"{line.participant}/double/{line.visit}/{line.instrument}",
    }
    require(by, Permission.ENTRY_RECONCILE, site_id=line.site_id, **about)
    study = study.at(line.site_id)
    participant = session.get(Participant, _participant_id(session, number))
    form = study.definition.instrument(line.instrument)
    if participant is None or form is None:
        raise NotFound
    held = session.execute(select(PAIR).where(PAIR.c.id == number).with_for_update()).mappings().one()
    state = State(held["state"])
    if reason := why_not_reconcile(study.definition, state, held["second_by"], by=by):
        raise Refused(reason, **about)
    if held["version"] != version:
        words = "Somebody worked on these differences while you had them open. Read them again, then go on."
        raise Conflict(words, current_version=held["version"], **about)
    row = session.execute(entry_columns().where(ENTRY.c.id == held["entry_id"])).mappings().one()
    entry = entry_state(dict(row))
    differing = [each for each in answers_in(session, study, line, by=by) if not each.agrees]
    wrong = [*problems, *_undecided(form, differing, decisions, {each.field for each in problems})]
    if wrong:
        raise Invalid(wrong)
    values = still_asked(form, entry.values)
    settled: dict[str, object] = {}
    for each in differing:
        decision = decisions[each.item]
        settled[each.item] = {Chosen.FIRST: each.first, Chosen.SECOND: each.second}.get(decision.chosen, decision.value)
        if settled[each.item] is None:
            values.pop(each.item, None)
        else:
            values[each.item] = settled[each.item]
    reasons = {**json.loads(held["second_reasons"]), **entry.reasons}
    moved = after(state, Step.RECONCILE)
    assert moved is not None
    with recorded_together(session):
        session.execute(
            _MOVE,
            {
                "number": number,
                "state": moved,
                "version": version + 1,
                "reconciled_by": by.username,
                "reconciled_at": now,
            },
        )
        log = []
        for each in differing:
            decision = decisions[each.item]
            kept = {"chosen": decision.chosen, "settled": _json(settled[each.item]), "why": decision.why.strip()}
            session.execute(_SETTLE, {"number": number, "of_item": each.item, **kept})
            log.append(
                Change(
                    "entry.reconciled",
                    line.participant,
                    f"double/{line.visit}/{line.instrument}",
                    each.item,
                    old={"first": each.first, "second": each.second},
                    new=settled[each.item],
                    why=decision.why.strip(),
                )
            )
        record(session, study.code, log, by=by, now=now)
        changed = [each for each in differing if not same_value(entry.values.get(each.item), settled[each.item])]
        save_entry(
            session,
            study,
            participant,
            visit=line.visit,
            instrument=line.instrument,
            values=values,
            reasons=reasons,
            base_version=entry.version,
            why=said_together([decisions[each.item].why.strip() for each in changed]) or None,
            by=by,
            now=now,
            accept_partial=True,
            permission=Permission.ENTRY_RECONCILE,
            settles=True,
        )
    return line_of(session, study, number, by=by)


def _undecided(
    form: Any, differing: Sequence[Any], decisions: Mapping[str, Decision], unread: set[str]
) -> list[FieldProblem]:
    """What is not decided yet, has no reason, or is decided although nothing differs."""
    problems = []
    for each in differing:
        item, decision = form.item(each.item), decisions.get(each.item)
        label = shortened(label_of(item)) if item else shortened(each.item)
        if decision is None:
            problems.append(
                FieldProblem(each.item, "required", f"{label}: choose one of the two, or type what is right.")
            )
            continue
        if decision.chosen is Chosen.OTHER and decision.value is None and each.item not in unread:
            problems.append(FieldProblem(each.item, "required", f"{label}: type the value that is right."))
        said = text_problems(f"{each.item}__settled", decision.why, f"{label}: {SAY_WHY}", LONGEST_WHY)
        problems += said
    known = {each.item for each in differing}
    problems += [FieldProblem(shortened(code), "unknown", NOT_DIFFERENT) for code in decisions if code not in known]
    return problems


def _participant_id(session: Session, number: int) -> int:
    query = select(ENTRY.c.participant_id).join(PAIR, PAIR.c.entry_id == ENTRY.c.id).where(PAIR.c.id == number)
    return int(session.execute(query).scalar_one())


def _as_entered(session: Session, number: int, state: State, differing: int) -> Entered:
    counted = session.execute(select(ANSWER.c.id).where(ANSWER.c.pair_id == number)).all()
    return Entered(number, state, len(counted), differing)


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
