"""What may I write down? Contacts and care, corrected with a reason; that somebody was lost, found, or died."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Table, insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.foundation.words import text_problems
from app.participants.actions import mark, put_back
from app.participants.models import Participant
from app.participants.reads import held, hold, today_at_site
from app.participants.status import Status
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.safety.logs.reads import CARE, CONTACT, END, ends_of
from app.safety.logs.rules import (
    End,
    care_problems,
    contact_problems,
    end_problems,
    still_due,
    why_not_contact,
    why_not_end,
)
from app.safety.words import arm_problems
from app.schedule.actions import plan_again, stop_visits
from app.schedule.appointments import rules
from app.schedule.appointments.actions import cancel_ahead
from app.schedule.reads import planned_visits
from app.studies.in_use import StudyInUse

OVERTAKEN = "Somebody changed this line while you were typing. Read what stands now, then send yours again."
ENDING = "participant.record_end"
UNDOES = {End.FOUND: End.LOST, End.MISTAKE: End.DIED, End.REOPENED: End.COMPLETED}
ENDS = {End.LOST: Status.LOST, End.DIED: Status.DIED, End.COMPLETED: Status.COMPLETED}


@dataclass(frozen=True)
class Changing:
    """Which line is changed (None: a new one), the version that was read, and why."""

    line: int | None
    base_version: int
    why: str


def record_contact(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    at: datetime,
    how: str,
    result: str,
    note: str,
    confirmed: Collection[str] = (),
    line: int | None = None,
    base_version: int = 0,
    why: str = "",
    by: Actor,
    now: datetime,
) -> int:
    """Write down an attempt to be in touch; with `line`, correct one and say why. Gives the number of the line.

    From screening on: before consent it is kept what the site did, and a short note, and nothing else of anybody.
    """
    where = {"action": "contact.record", "subject": f"{participant.code}/contact"}
    require(by, Permission.CONTACT_RECORD, site_id=participant.site_id, **where)
    note = note.strip()
    if reason := why_not_contact(Status(participant.status), participant.consented_on):
        raise Refused(reason, **where)
    consented = participant.consented_on is not None
    problems = contact_problems(at=at, how=how, result=result, note=note, now=now, consented=consented)
    said = {"at": at, "how": how, "result": result, "note": note}
    texts = {"note": note}
    change = Changing(line, base_version, why)
    return _keep(session, study, participant, CONTACT, "contact", said, problems, texts, confirmed, change, by, now)


def record_care(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    treatment: str,
    began: str,
    ended: str,
    indication: str,
    confirmed: Collection[str] = (),
    line: int | None = None,
    base_version: int = 0,
    why: str = "",
    by: Actor,
    now: datetime,
) -> int:
    """Write down care beside the trial; with `line`, change a line (it ended, it was wrong) and say why."""
    where = {"action": "care.record", "subject": f"{participant.code}/care"}
    require(by, Permission.CARE_RECORD, site_id=participant.site_id, **where)
    if participant.consented_on is None:
        words = f"{participant.code} has not consented, so nothing is collected. Record their consent first."
        raise Refused(words, **where)
    said = {
        "treatment": treatment.strip(),
        "began": began.strip(),
        "ended": ended.strip(),
        "indication": indication.strip(),
    }
    problems = care_problems(**said, today=today_at_site(session, participant, now))
    texts = {name: said[name] for name in ("treatment", "indication")}
    change = Changing(line, base_version, why)
    return _keep(session, study, participant, CARE, "care", said, problems, texts, confirmed, change, by, now)


def _keep(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    table: Table,
    noun: str,
    said: Mapping[str, Any],
    problems: list[FieldProblem],
    texts: Mapping[str, str],
    confirmed: Collection[str],
    change: Changing,
    by: Actor,
    now: datetime,
) -> int:
    """Add a line, or change one: its version moves, and the log has what it was, item by item, and why."""
    where = {"action": f"{noun}.record", "subject": f"{participant.code}/{noun}"}
    if participant.study_id != study.id or participant.id is None:
        raise NotFound
    line, base_version, why = change.line, change.base_version, change.why.strip()
    if line is not None:
        problems = problems + text_problems("why", why, "Say why this line is changed.", 2000)
    if problems := problems or arm_problems(study.definition, by, {**texts, "why": why}, confirmed):
        raise Invalid(problems)
    hold(session, participant.id, "alone")
    of_them = table.c.participant_id == participant.id
    if line is None:
        same = [table.c[name] == value for name, value in said.items()]
        found = session.execute(select(table.c.id).where(of_them, table.c.recorded_by == by.username, *same)).scalar()
        if found is not None:
            return int(found)
        made = insert(table).values(
            study_id=study.id,
            participant_id=participant.id,
            version=1,
            recorded_at=now,
            recorded_by=by.username,
            **said,
        )
        number = int(session.execute(made.returning(table.c.id)).scalar_one())
        changes = [
            Change(f"{noun}.recorded", participant.code, f"{noun}/{number}", name, new=value)
            for name, value in said.items()
            if value != ""
        ]
        record(session, study.code, changes, by=by, now=now)
        return number
    row = session.execute(select(table).where(of_them, table.c.id == line)).mappings().first()
    if row is None:
        raise NotFound
    differs = {name: value for name, value in said.items() if row[name] != value}
    if not differs:
        return line
    if base_version != row["version"]:
        raise Conflict(OVERTAKEN, current_version=row["version"], **where)
    session.execute(update(table).where(table.c.id == line).values(version=row["version"] + 1, **differs))
    changes = [
        Change(f"{noun}.changed", participant.code, f"{noun}/{line}", name, old=row[name], new=value)
        for name, value in differs.items()
    ]
    record(session, study.code, changes, by=by, now=now, why=why)
    return line


def record_end(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    kind: End,
    *,
    on: date,
    words: str,
    cancel_booked: bool = False,
    prove: Callable[[], None],
    by: Actor,
    now: datetime,
) -> int:
    """Record that a participant was lost, found again, died or completed the study, or that this was not so.

    Gives the number of the record. Lost: their status says so, and nobody is reminded; what is due stays due. Died: no
    visit is due any more, and what is booked is cancelled. Completed: refused while one is. `cancel_booked`: with a
    loss or a completion the appointments that are still to come are cancelled. What takes one of them back has them
    stand where they stood before, and what had stopped is due again; what was cancelled stays so. `prove` asks who it
    is once more.
    """
    where = {"action": ENDING, "subject": f"{participant.code}/end"}
    if participant.study_id != study.id or participant.id is None:
        raise NotFound
    require(by, Permission.PARTICIPANT_WITHDRAW, site_id=participant.site_id, **where)
    before = held(session, participant.id).status
    ends = ends_of(session, participant.id)
    last = ends[-1] if ends else None
    words = words.strip()
    if last is not None and (last.kind, last.on, last.words, last.recorded_by) == (kind, on, words, by.username):
        return last.number
    due = planned_visits(session, participant.id) if kind is End.COMPLETED else []
    if reason := why_not_end(kind, before, is_allocated=study.definition.is_allocated, due=len(due)):
        raise Refused(" ".join(filter(None, (reason, still_due([each.code for each in due])))), **where)
    undone = next((each for each in reversed(ends) if each.kind == UNDOES.get(kind)), None)
    earliest = undone.on if undone is not None else participant.screened_on
    today = today_at_site(session, participant, now)
    problems = end_problems(kind, on=on, words=words, earliest=earliest, today=today)
    if cancel_booked and kind not in ENDS:
        problems.append(FieldProblem("cancel_booked", "not_here", "Nothing is cancelled with this. Leave it out."))
    if problems := problems or arm_problems(study.definition, by, {"words": words}):
        raise Invalid(problems)
    prove()
    stopped: list[str] = []
    permission = Permission.PARTICIPANT_WITHDRAW
    if new := ENDS.get(kind):
        why = words or None
        mark(session, study, participant, new, on=on, permission=permission, old=before, by=by, now=now, why=why)
        if kind is End.DIED:
            stopped = stop_visits(session, study, participant, why=rules.DIED, by=by, now=now)
        elif cancel_booked:
            said = rules.LOST if kind is End.LOST else rules.COMPLETED
            cancel_ahead(session, study, participant.id, why=said, by=by, now=now)
    else:
        assert undone is not None
        to = Status(undone.status_before)
        put_back(session, study, participant, to, permission=permission, by=by, now=now, why=words)
        if kind is End.MISTAKE:
            plan_again(session, study, participant, undone.stopped, why=words, by=by, now=now)
    number = int(
        session.execute(
            insert(END)
            .values(
                study_id=study.id,
                participant_id=participant.id,
                corrects=undone.number if undone is not None else None,
                kind=kind.value,
                on=on,
                words=words,
                status_before=before.value,
                stopped=" ".join(stopped),
                recorded_at=now,
                recorded_by=by.username,
            )
            .returning(END.c.id)
        ).scalar_one()
    )
    made = Change("participant.end_recorded", participant.code, f"end/{number}", new={"kind": kind, "on": on})
    record(session, study.code, [made], by=by, now=now, why=words or None)
    return number
