"""What may I do about deviations? Report one, say what was done about it, sign it; and have the system look for its."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from app.audit.actions import Author, Change, record
from app.foundation.database import among
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.foundation.words import text_problems
from app.participants.identity import PARTICIPANT
from app.participants.models import Participant
from app.participants.reads import today_at_site
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.safety.deviations.finding import OF_SCREENINGS, Found, found_in, of_screenings
from app.safety.deviations.reads import DEVIATION, DeviationRow, deviation_of, deviations_of
from app.safety.deviations.rules import (
    GRADES,
    TRANSITIONS,
    Act,
    Rule,
    State,
    action_problems,
    category_of,
    report_problems,
    settle,
    why_not,
    why_not_take_back,
    why_not_with_others,
)
from app.safety.words import arm_problems, telling
from app.studies.in_use import StudyInUse

REPORTING = "deviation.report"
SYSTEM = "system"  # who found what the system found
MOST = 200
"""Deviations that are dealt with at once, each as it was shown."""
OVERTAKEN_ONE = "Somebody changed it after it was shown to you. Read what stands now."
OVERTAKEN = "Somebody changed this deviation while you were typing. Read what stands now, then send yours again."


@dataclass(frozen=True)
class Chosen:
    """A deviation as somebody read it before they chose it: its number and version."""

    number: int
    version: int


def report(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    category: str,
    grade: str,
    occurred_on: date,
    what: str,
    confirmed: Collection[str] = (),
    by: Actor,
    now: datetime,
) -> int:
    """Report that something went otherwise than the protocol says; its number. The same again is the same deviation."""
    where = {"action": REPORTING, "subject": f"{participant.code}/deviation"}
    if participant.study_id != study.id or participant.id is None:
        raise NotFound
    require(by, Permission.DEVIATION_REPORT, site_id=participant.site_id, **where)
    safety, what = study.definition.safety, what.strip()
    problems = report_problems(
        safety,
        category=category,
        grade=grade,
        what=what,
        occurred_on=occurred_on,
        today=today_at_site(session, participant, now),
        screened_on=participant.screened_on,
    )
    if problems := problems or arm_problems(study.definition, by, {"what": what}, confirmed):
        raise Invalid(problems)
    said = {"category": category, "grade": grade, "occurred_on": occurred_on, "what": what}
    mine = [DEVIATION.c[name] == value for name, value in said.items()]
    earlier = session.execute(
        select(DEVIATION.c.id).where(
            DEVIATION.c.participant_id == participant.id, DEVIATION.c.reported_by == by.username, *mine
        )
    ).scalar()
    if earlier is not None:
        return int(earlier)
    made = insert(DEVIATION).values(
        study_id=study.id,
        participant_id=participant.id,
        version=1,
        state=State.OPEN.value,
        confirmed=bool(telling(study.definition, by, {"what": what})),
        reported_at=now,
        reported_by=by.username,
        **said,
    )
    number = int(session.execute(made.returning(DEVIATION.c.id)).scalar_one())
    changes = [
        Change("deviation.reported", participant.code, _about(number), name, new=value) for name, value in said.items()
    ]
    record(session, study.code, changes, by=by, now=now)
    return number


def act(
    session: Session,
    study: StudyInUse,
    number: int,
    *,
    grade: str,
    action: str,
    why: str,
    base_version: int,
    by: Actor,
    now: datetime,
) -> int:
    """Write down what was done about a deviation, and grade it; the new version. A signature from before is void."""
    row, where = _held(session, study, number, "deviation.act", by=by)
    require(by, Permission.DEVIATION_REPORT, site_id=row.site_id, **where)
    action, why = action.strip(), why.strip()
    if reason := why_not(row.state, Act.ACT):
        raise Refused(reason, **where)
    if (row.grade, row.action) == (grade, action) and row.state is State.ACTED and base_version < row.version:
        return row.version
    if base_version != row.version:
        raise Conflict(OVERTAKEN, current_version=row.version, **where)
    problems = action_problems(grade, action, why, grade_before=row.grade)
    if problems := problems or arm_problems(study.definition, by, {"action": action, "why": why}):
        raise Invalid(problems)
    _change(
        session,
        number,
        version=row.version + 1,
        state=TRANSITIONS[row.state][Act.ACT].value,
        grade=grade,
        action=action,
        signed_at=None,
        signed_by=None,
        signed_name=None,
    )
    changes = [
        Change("deviation.acted", row.participant, _about(number), name, old=old, new=new)
        for name, old, new in (
            ("action", row.action, action),
            ("grade", row.grade, grade),
            ("signed_by", row.signed_by, None),
        )
        if old != new
    ] or [Change("deviation.acted", row.participant, _about(number), "action", old=action, new=action)]
    record(session, study.code, changes, by=by, now=now, why=why or None)
    return row.version + 1


def sign(
    session: Session,
    study: StudyInUse,
    number: int,
    *,
    base_version: int,
    prove: Callable[[], None],
    by: Actor,
    now: datetime,
) -> None:
    """Sign a deviation off as an investigator: as it is graded, and what was done about it."""
    row, where = _held(session, study, number, "deviation.sign", by=by)
    require(by, Permission.DEVIATION_SIGN, site_id=row.site_id, **where)
    if reason := why_not(row.state, Act.SIGN):
        raise Refused(reason, **where)
    if base_version != row.version:
        raise Conflict(OVERTAKEN, current_version=row.version, **where)
    prove()
    _change(
        session,
        number,
        version=row.version + 1,
        state=State.SIGNED.value,
        signed_at=now,
        signed_by=by.username,
        signed_name=by.name,
    )
    made = Change(
        "deviation.signed", row.participant, _about(number), old={"state": row.state}, new={"state": "signed"}
    )
    record(session, study.code, [made], by=by, now=now)


def act_on_several(
    session: Session,
    study: StudyInUse,
    chosen: Sequence[Chosen],
    *,
    grade: str | None,
    action: str,
    why: str = "",
    by: Actor,
    now: datetime,
) -> list[DeviationRow]:
    """Write down what was done about each of these in the same words, or about none; they stand as before otherwise.

    `grade` None leaves each as it is graded. Invalid names each that cannot be acted on, by its number. The same again
    changes nothing.
    """
    action, why = action.strip(), why.strip()
    where = {"action": "deviation.act"}
    rows = _held_together(session, study, chosen, Permission.DEVIATION_REPORT, by=by, **where)

    def said_already(row: DeviationRow, version: int) -> bool:
        same = row.state is State.ACTED and row.action == action and grade in (None, row.grade)
        return same and row.version == version + 1

    left = _to_do(rows, chosen, Act.ACT, said_already)
    said = grade or GRADES[0]
    before = next((row.grade for row in left if grade and row.grade != grade), said)
    problems = action_problems(said, action, why, grade_before=before)
    if problems := problems or arm_problems(study.definition, by, {"action": action, "why": why}):
        raise Invalid(problems)
    graded = {} if grade is None else {"grade": grade}
    _change_together(session, left, state=State.ACTED.value, action=action, **graded)
    changes = [
        Change("deviation.acted", row.participant, _about(row.number), name, old=old, new=new)
        for row in left
        for name, old, new in (("action", row.action, action), ("grade", row.grade, grade or row.grade))
        if old != new or name == "action"
    ]
    record(session, study.code, changes, by=by, now=now, why=why or None)
    return deviations_of(session, study, list(rows), by=by)


def sign_several(
    session: Session,
    study: StudyInUse,
    chosen: Sequence[Chosen],
    *,
    prove: Callable[[], None],
    by: Actor,
    now: datetime,
) -> list[DeviationRow]:
    """Sign these off, each by itself and as it was shown, or none, after one proof of who signs; they stand as signed.

    As several entries are (`capture.signing`): one continuous period of controlled access (21 CFR 11.200(a)(1)(i)).
    Invalid names each that cannot be signed, by its number. The same again changes nothing.
    """
    where = {"action": "deviation.sign"}
    rows = _held_together(session, study, chosen, Permission.DEVIATION_SIGN, by=by, **where)

    def signed_already(row: DeviationRow, version: int) -> bool:
        return row.state is State.SIGNED and row.signed_by == by.username and row.version == version + 1

    left = _to_do(rows, chosen, Act.SIGN, signed_already)
    prove()
    _change_together(session, left, state=State.SIGNED.value, signed_at=now, signed_by=by.username, signed_name=by.name)
    changes = [
        Change(
            "deviation.signed", row.participant, _about(row.number), old={"state": row.state}, new={"state": "signed"}
        )
        for row in left
    ]
    record(session, study.code, changes, by=by, now=now)
    return deviations_of(session, study, list(rows), by=by)


def take_back(
    session: Session, study: StudyInUse, number: int, *, why: str, base_version: int, by: Actor, now: datetime
) -> None:
    """Say that a deviation was reported by mistake. It is kept, and marked."""
    row, where = _held(session, study, number, "deviation.take_back", by=by)
    require(by, Permission.DEVIATION_REPORT, site_id=row.site_id, **where)
    if reason := why_not_take_back(row.rule) or why_not(row.state, Act.TAKE_BACK):
        raise Refused(reason, **where)
    if base_version != row.version:
        raise Conflict(OVERTAKEN, current_version=row.version, **where)
    problems = text_problems("why", why, "Say why it is no deviation.", 2000)
    if problems := problems or arm_problems(study.definition, by, {"why": why}):
        raise Invalid(problems)
    _change(session, number, version=row.version + 1, state=State.GONE.value)
    made = Change(
        "deviation.taken_back", row.participant, _about(number), old={"state": row.state}, new={"state": State.GONE}
    )
    record(session, study.code, [made], by=by, now=now, why=why.strip())


def look(session: Session, study: StudyInUse, *, by: Author, now: datetime) -> int:
    """Write down every deviation the system sees that is not written down yet, once; gives how many are new.

    What does not hold any more is marked as gone, unless somebody signed it; what holds again is open again.
    """
    return _settle(session, study, found_in(session, study, now=now), DEVIATION.c.rule.is_not(None), by=by, now=now)


def look_at_screening(
    session: Session, study: StudyInUse, participant: Participant, *, by: Author, now: datetime
) -> int:
    """The same at once, of one participant and of what rests on their pre-screen; for who has just corrected it."""
    assert participant.id is not None
    found = {each.key: each for each in of_screenings(session, study, participant.id)}
    theirs = and_(
        DEVIATION.c.participant_id == participant.id, DEVIATION.c.rule.in_([each.value for each in OF_SCREENINGS])
    )
    return _settle(session, study, found, theirs, by=by, now=now)


def _settle(
    session: Session,
    study: StudyInUse,
    found: Mapping[tuple[int, str, str], Found],
    among: ColumnElement[bool],
    *,
    by: Author,
    now: datetime,
) -> int:
    """Write what was found, held against what is kept among these."""
    kept = {
        (row.participant_id, row.rule, row.about): row
        for row in session.execute(
            select(DEVIATION.c.id, *(DEVIATION.c[name] for name in ("participant_id", "rule", "about", "state")))
            .add_columns(PARTICIPANT.c.code)
            .join(PARTICIPANT, PARTICIPANT.c.id == DEVIATION.c.participant_id)
            .where(DEVIATION.c.study_id == study.id, among)
        )
    }
    added, again, gone = settle(found, {key: row.state for key, row in kept.items()})
    changes: list[Change] = []
    codes = _codes(session, sorted({key[0] for key in added}))
    for key in added:
        each = found[key]
        category = category_of(study.definition.safety, each.rule)
        number = _add(session, study, each.participant_id, each.rule, each.about, now, **_said(each, category))
        if number is not None:  # else another process was quicker
            new = {"rule": each.rule, "category": category.code, "grade": category.grade, "what": each.what}
            changes.append(Change("deviation.found", codes[each.participant_id], _about(number), new=new))
    new_ones = len(changes)
    for keys, act_, state in ((again, "found_again", State.OPEN), (gone, "gone", State.GONE)):
        for key in keys:
            row = kept[key]
            text = {"what": found[key].what, "occurred_on": found[key].occurred_on} if key in found else {}
            moved = session.execute(
                update(DEVIATION)
                .where(DEVIATION.c.id == row.id, DEVIATION.c.state == row.state)
                .values(state=state.value, version=DEVIATION.c.version + 1, **text)
                .returning(DEVIATION.c.id)
            ).first()
            if moved is not None:
                old, new_state = {"state": row.state}, {"state": state}
                changes.append(Change(f"deviation.{act_}", row.code, _about(row.id), old=old, new=new_state))
    record(session, study.code, changes, by=by, now=now)
    return new_ones


def _said(each: Any, category: Any) -> dict[str, Any]:
    return {"category": category.code, "grade": category.grade, "occurred_on": each.occurred_on, "what": each.what}


def _add(
    session: Session, study: StudyInUse, participant_id: int, rule: Rule, about: str, now: datetime, **said: Any
) -> int | None:
    dialect_insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    made = (
        dialect_insert(DEVIATION)
        .values(
            study_id=study.id,
            participant_id=participant_id,
            version=1,
            state=State.OPEN.value,
            rule=rule.value,
            about=about,
            confirmed=False,
            reported_at=now,
            reported_by=SYSTEM,
            **said,
        )
        .on_conflict_do_nothing()
        .returning(DEVIATION.c.id)
    )
    number = session.execute(made).scalar()
    return None if number is None else int(number)


def _codes(session: Session, ids: list[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for start in range(0, len(ids), 500):
        wanted = select(PARTICIPANT.c.id, PARTICIPANT.c.code).where(PARTICIPANT.c.id.in_(ids[start : start + 500]))
        found |= {row.id: row.code for row in session.execute(wanted)}
    return found


def _held(
    session: Session, study: StudyInUse, number: int, action: str, *, by: Actor
) -> tuple[DeviationRow, dict[str, str]]:
    """The deviation, its row held until the transaction ends; and what a refusal is written down with."""
    if 0 <= number < 2**31:
        mine = select(DEVIATION.c.id).where(DEVIATION.c.id == number, DEVIATION.c.study_id == study.id)
        session.execute(mine.with_for_update(key_share=True)).first()
    row = deviation_of(session, study, number, by=by)
    return row, {"action": action, "subject": f"{row.participant}/deviation/{number}"}


def _held_together(
    session: Session, study: StudyInUse, chosen: Sequence[Chosen], permission: Permission, *, by: Actor, action: str
) -> dict[int, DeviationRow]:
    """These deviations by number, their rows held until the transaction ends."""
    require(by, permission, action=action)
    if not chosen:
        raise Invalid([FieldProblem("deviations", "required", "Choose at least one deviation.")])
    if len({each.number for each in chosen}) > MOST:
        words = f"Choose at most {MOST} deviations at once."
        raise Invalid([FieldProblem("deviations", "too_many", words)])
    rows = {
        row.number: row for row in deviations_of(session, study, [each.number for each in chosen], by=by, held=True)
    }
    if any(each.number not in rows for each in chosen):
        raise NotFound
    for site_id, row in {row.site_id: row for row in rows.values()}.items():
        require(by, permission, site_id=site_id, action=action, subject=f"{row.participant}/deviation/{row.number}")
    return rows


def _to_do(
    rows: dict[int, DeviationRow],
    chosen: Sequence[Chosen],
    act: Act,
    done_already: Callable[[DeviationRow, int], bool],
) -> list[DeviationRow]:
    """What is left to do of what was chosen; Invalid names each that cannot be dealt with, and nothing is done."""
    left, problems = {}, {}
    for each in chosen:
        row = rows[each.number]
        if done_already(row, each.version):
            continue
        if reason := why_not_with_others(row.state, act):
            problems[each.number] = FieldProblem(f"deviations.{each.number}", "state", reason)
        elif row.version != each.version:
            problems[each.number] = FieldProblem(f"deviations.{each.number}", "changed", OVERTAKEN_ONE)
        left[each.number] = row
    if problems:
        raise Invalid([problems[number] for number in sorted(problems)])
    return [left[number] for number in sorted(left)]


def _change_together(session: Session, rows: Sequence[DeviationRow], **values: Any) -> None:
    if rows:
        these = among(DEVIATION.c.id, session.get_bind().dialect.name)
        changed = update(DEVIATION).where(these).values(version=DEVIATION.c.version + 1, **values)
        session.execute(changed, {"ids": [row.number for row in rows]})


def _change(session: Session, number: int, **values: Any) -> None:
    session.execute(update(DEVIATION).where(DEVIATION.c.id == number).values(**values))


def _about(number: int) -> str:
    return f"deviation/{number}"
