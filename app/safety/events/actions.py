"""What may I do about adverse events? Report, follow up, correct, judge, review, and say that a report was sent."""

import json
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.coding.following import follow_term
from app.foundation.clock import today as date_in
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotAllowed, NotFound, Refused
from app.foundation.partial_dates import days_of
from app.foundation.words import text_problems
from app.participants.identity import PARTICIPANT
from app.participants.models import Participant
from app.participants.reads import hold, today_at_site
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.safety.events.clocks import settle
from app.safety.events.reads import (
    CLOCK,
    EVENT,
    JUDGEMENT,
    REPORT,
    EventRow,
    event_of,
    judgements_of,
    knew_arm,
    reports_of,
    timezone_of,
)
from app.safety.events.rules import (
    INITIAL,
    LONGEST_REASON,
    TRANSITIONS,
    Act,
    ClockState,
    Details,
    Judged,
    Outcome,
    State,
    changed,
    details_problems,
    is_related,
    judgement_problems,
    news_of,
    serious_since,
    why_not,
    why_not_second,
)
from app.safety.words import arm_problems, telling
from app.studies.in_use import StudyInUse

REPORTING = "adverse_event.report"
OVERTAKEN = "Somebody reported on this event while you were typing. Read what they wrote, then send yours again."
DONE = {Act.FOLLOW_UP: "followed_up", Act.CORRECTION: "corrected", Act.AGREE: "reviewed", Act.RETURN: "returned"}


def report(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    said: Details,
    *,
    aware_at: datetime,
    confirmed: Collection[str] = (),
    by: Actor,
    now: datetime,
) -> int:
    """Report an adverse event of a participant; its number. The same report again is the same event.

    `aware_at` is when the site learnt of it, from which every clock counts. `confirmed` are words that could tell an
    arm and that whoever reports says mean something else.
    """
    where = {"action": REPORTING, "subject": f"{participant.code}/adverse_event"}
    if participant.study_id != study.id or participant.id is None:
        raise NotFound
    require(by, Permission.EVENT_REPORT, site_id=participant.site_id, **where)
    if participant.consented_on is None:
        words = f"{participant.code} has not consented, so nothing is collected. Record their consent first."
        raise Refused(words, **where)
    said = said.tidy()
    today = today_at_site(session, participant, now)
    problems = details_problems(study.definition, said, aware_at=aware_at, today=today, now=now)
    problems = problems or arm_problems(study.definition, by, _texts(said), confirmed)
    if problems:
        raise Invalid(problems)
    hold(session, participant.id, "alone")
    stored = _stored(said)
    earlier = session.execute(
        select(EVENT.c.id)
        .join(REPORT, REPORT.c.event_id == EVENT.c.id)
        .where(
            EVENT.c.participant_id == participant.id,
            REPORT.c.version == 1,
            REPORT.c.details == stored,
            REPORT.c.aware_at == aware_at,
            REPORT.c.reported_by == by.username,
            EVENT.c.state != State.VOID.value,
        )
        .limit(1)
    ).scalar()
    if earlier is not None:
        return int(earlier)
    since = aware_at if said.serious else None
    number = int(
        session.execute(
            insert(EVENT)
            .values(
                study_id=study.id,
                participant_id=participant.id,
                version=1,
                state=State.REPORTED.value,
                serious_since=since,
                reported_at=now,
                reported_by=by.username,
                **_listed(said),
            )
            .returning(EVENT.c.id)
        ).scalar_one()
    )
    _follow_death(session, participant.id)
    sure = bool(telling(study.definition, by, _texts(said)))
    _add_report(session, number, 1, INITIAL, stored, None, aware_at, confirmed=sure, by=by, now=now)
    changes = [
        Change("adverse_event.reported", participant.code, f"adverse_event/{number}", name, new=value)
        for name, value in {**_for_log(said), "aware_at": aware_at}.items()
        if value
    ]
    changes += _coded(session, study, participant.code, participant.id, number, said.term, now=now)
    record(session, study.code, changes, by=by, now=now)
    settle(session, study, number, participant.code, participant.site_id, judged=None, by=by, now=now)
    return number


def report_again(
    session: Session,
    study: StudyInUse,
    number: int,
    said: Details,
    *,
    kind: Act,
    aware_at: datetime,
    corrects: int | None = None,
    why: str | None,
    base_version: int,
    confirmed: Collection[str] = (),
    by: Actor,
    now: datetime,
) -> int:
    """Add a follow-up, or a correction that says why; the new version. What was reported before stays as it was.

    `aware_at` is when the site learnt of the news. A correction says instead when it learnt of what the first report or
    the follow-up of version `corrects` told (the newest of them unless said): clocks that run move with it, and what
    was reported already keeps what was told. `base_version` is the version the person read; the same report again is
    the same version.
    """
    event = _held(session, study, number, by=by)
    where = {"action": REPORTING, "subject": _subject(event)}
    require(by, Permission.EVENT_REPORT, site_id=event.site_id, **where)
    if kind not in (Act.FOLLOW_UP, Act.CORRECTION):
        raise Invalid([FieldProblem("kind", "choice", "Choose whether it is news, or a correction.")])
    standing = _standing(session, number)
    if reason := why_not(State(standing.state), kind):
        raise Refused(reason, **where)
    said, why = said.tidy(), (why or "").strip() or None
    reports = reports_of(session, number)
    news, last = news_of(reports), reports[-1]
    if corrects is None:
        corrects = news[-1].version
    sent = (said, kind, by.username, why, aware_at)
    if (last.details, last.kind, last.by, last.why, last.aware_at) == sent and last.version > base_version:
        return last.version
    if base_version != standing.version:
        raise Conflict(OVERTAKEN, current_version=standing.version, **where)
    today = date_in(timezone_of(session, event.site_id), now)
    problems = details_problems(study.definition, said, aware_at=aware_at, today=today, now=now)
    if kind is Act.CORRECTION:
        problems += text_problems("why", why or "", "Say what was wrong in the report before.", LONGEST_REASON)
    learnt = next((each.aware_at for each in news if each.version == corrects), None)
    if learnt is None:
        words = "This is no first report and no follow-up. Choose one of those, whose moment was wrong."
        problems.append(FieldProblem("corrects", "choice", words))
    if not problems and said == last.details and (kind is Act.FOLLOW_UP or aware_at == learnt):
        problems.append(FieldProblem("term", "same", "Nothing differs from what stands. Change what is new."))
    texts = {**_texts(said), "why": why or ""}
    problems = problems or arm_problems(study.definition, by, texts, confirmed)
    if problems:
        raise Invalid(problems)
    version = int(standing.version) + 1
    sure = bool(telling(study.definition, by, texts))
    of = corrects if kind is Act.CORRECTION else None
    _add_report(
        session, number, version, kind.value, _stored(said), why, aware_at, corrects=of, confirmed=sure, by=by, now=now
    )
    since = serious_since(reports_of(session, number))
    after = TRANSITIONS[State(standing.state)][kind]
    _change(session, number, version=version, state=after.value, serious_since=since, **_listed(said))
    _follow_death(session, event.participant_id)
    changes = [
        Change(f"adverse_event.{DONE[kind]}", event.participant, _about(number), name, old=old, new=new)
        for name, old, new in changed(last.details, said)
    ]
    if kind is Act.FOLLOW_UP:
        changes.append(Change("adverse_event.followed_up", event.participant, _about(number), "aware_at", new=aware_at))
    elif aware_at != learnt:
        moment = {"version": corrects, "aware_at": aware_at}
        before = {"version": corrects, "aware_at": learnt}
        done = "adverse_event.corrected"
        changes.append(Change(done, event.participant, _about(number), "aware_at", old=before, new=moment))
    changes += _coded(session, study, event.participant, event.participant_id, number, said.term, now=now)
    record(session, study.code, changes, by=by, now=now, why=why)
    settle(session, study, number, event.participant, event.site_id, judged=_judged(study, standing), by=by, now=now)
    return version


def void(
    session: Session, study: StudyInUse, number: int, *, why: str, base_version: int, by: Actor, now: datetime
) -> None:
    """Say that an event was reported by mistake (another participant's, or twice). It is kept; its clocks stop."""
    event = _held(session, study, number, by=by)
    where = {"action": "adverse_event.void", "subject": _subject(event)}
    require(by, Permission.EVENT_REPORT, site_id=event.site_id, **where)
    standing = _standing(session, number)
    if reason := why_not(State(standing.state), Act.VOID):
        raise Refused(reason, **where)
    if base_version != standing.version:
        raise Conflict(OVERTAKEN, current_version=standing.version, **where)
    problems = text_problems("why", why, "Say why it should not have been reported.", LONGEST_REASON)
    if problems := problems or arm_problems(study.definition, by, {"why": why}):
        raise Invalid(problems)
    last = reports_of(session, number)[-1]
    version = standing.version + 1
    _add_report(
        session,
        number,
        version,
        Act.VOID.value,
        _stored(last.details),
        why.strip(),
        last.aware_at,
        confirmed=False,
        by=by,
        now=now,
    )
    _change(session, number, version=version, state=State.VOID.value)
    _follow_death(session, event.participant_id)
    made = Change(
        "adverse_event.voided",
        event.participant,
        _about(number),
        old={"state": standing.state},
        new={"state": State.VOID},
    )
    coded = _coded(session, study, event.participant, event.participant_id, number, None, now=now)
    record(session, study.code, [made, *coded], by=by, now=now, why=why.strip())
    settle(session, study, number, event.participant, event.site_id, judged=None, by=by, now=now)


def judge(
    session: Session,
    study: StudyInUse,
    number: int,
    *,
    relatedness: str,
    expected: bool | None,
    words: str,
    base_version: int,
    prove: Callable[[], None],
    by: Actor,
    now: datetime,
) -> None:
    """Judge whether an event is related to the treatment and was expected: by an investigator, without the arm.

    `prove` asks who it is once more, after everything else is in order. Who had to break the blind of this very
    participant judges as well (there may be nobody else), and it is kept that they knew.
    """
    event = _held(session, study, number, by=by)
    where = {"action": "adverse_event.judge", "subject": _subject(event)}
    require(by, Permission.EVENT_JUDGE, site_id=event.site_id, **where)
    if not by.blinded:
        raise NotAllowed("Relatedness is judged without knowing arms. Ask an investigator.", **where)
    standing = _standing(session, number)
    if reason := why_not(State(standing.state), Act.JUDGE):
        raise Refused(reason, **where)
    if base_version != standing.version:
        raise Conflict(OVERTAKEN, current_version=standing.version, **where)
    safety = study.definition.safety
    problems = judgement_problems(safety, relatedness=relatedness, expected=expected, words=words)
    if problems := problems or arm_problems(study.definition, by, {"words": words}):
        raise Invalid(problems)
    assert expected is not None
    prove()
    knew = knew_arm(session, study, event.participant, by=by)
    session.execute(
        insert(JUDGEMENT).values(
            event_id=number,
            version=standing.version,
            kind=Act.JUDGE.value,
            relatedness=relatedness,
            expected=expected,
            words=words.strip(),
            knew_arm=knew,
            judged_at=now,
            judged_by=by.username,
            judged_name=by.name,
        )
    )
    after = TRANSITIONS[State(standing.state)][Act.JUDGE]
    _change(session, number, state=after.value, relatedness=relatedness, expected=expected)
    made = Change(
        "adverse_event.judged",
        event.participant,
        _about(number),
        old={"state": standing.state, "relatedness": standing.relatedness, "expected": standing.expected},
        new={"state": after, "relatedness": relatedness, "expected": expected, "knew_arm": knew},
    )
    record(session, study.code, [made], by=by, now=now, why=words.strip())
    settle(
        session,
        study,
        number,
        event.participant,
        event.site_id,
        judged=Judged(is_related(safety, relatedness), expected),
        by=by,
        now=now,
    )


def review(
    session: Session,
    study: StudyInUse,
    number: int,
    *,
    agree: bool,
    words: str,
    judgement: int,
    prove: Callable[[], None],
    by: Actor,
    now: datetime,
) -> None:
    """Agree with a judgement as a second person, or return it and say why; never one's own.

    `judgement` is the number of the judgement that was read.
    """
    event = _held(session, study, number, by=by)
    act = Act.AGREE if agree else Act.RETURN
    where = {"action": "adverse_event.review", "subject": _subject(event)}
    require(by, Permission.EVENT_REVIEW, site_id=event.site_id, **where)
    standing = _standing(session, number)
    last = next((one for one in reversed(judgements_of(session, number)) if one.kind == Act.JUDGE), None)
    reason = why_not(State(standing.state), act) or why_not_second(last.by if last else None, by.username)
    if reason:
        raise Refused(reason, **where)
    assert last is not None
    if last.number != judgement:
        words = "Somebody judged this event anew. Read the new judgement, then review that."
        raise Conflict(words, current_version=last.number, **where)
    problems = []
    if not agree or words.strip():
        problems = text_problems("words", words, "Say what should be judged otherwise.", LONGEST_REASON)
    if problems := problems or arm_problems(study.definition, by, {"words": words}):
        raise Invalid(problems)
    prove()
    session.execute(
        insert(JUDGEMENT).values(
            event_id=number,
            version=standing.version,
            kind=act.value,
            words=words.strip(),
            knew_arm=knew_arm(session, study, event.participant, by=by),
            judged_at=now,
            judged_by=by.username,
            judged_name=by.name,
        )
    )
    after = TRANSITIONS[State(standing.state)][act]
    _change(session, number, state=after.value)
    made = Change(
        f"adverse_event.{DONE[act]}",
        event.participant,
        _about(number),
        old={"state": standing.state},
        new={"state": after},
    )
    record(session, study.code, [made], by=by, now=now, why=words.strip() or None)


def stop_clock(
    session: Session,
    study: StudyInUse,
    number: int,
    clock: str,
    *,
    follows: int | None = None,
    sent_at: datetime,
    reference: str,
    by: Actor,
    now: datetime,
) -> None:
    """Write down that an event was reported where a clock asks for it: when, and under which reference.

    `follows` says which clock of this code, by the version whose news it is for; the newest unless said.
    """
    event = _held(session, study, number, by=by)
    where = {"action": "adverse_event.stop_clock", "subject": _subject(event)}
    require(by, Permission.SAFETY_READ, site_id=event.site_id, **where)
    require(by, Permission.EVENT_REPORT, site_id=event.site_id, **where)
    said = reference.strip()
    rows = [
        row
        for row in session.execute(select(CLOCK).where(CLOCK.c.event_id == number, CLOCK.c.code == clock))
        if follows is None or row.follows == follows
    ]
    if not rows:
        raise NotFound
    if any(row.state == ClockState.REPORTED and (row.sent_at, row.reference) == (sent_at, said) for row in rows):
        return
    row = max(rows, key=lambda each: each.follows)
    if row.state != ClockState.RUNNING:
        raise Refused("This clock does not run any more. Read on the event's page what was reported.", **where)
    problems = text_problems("reference", said, "Write how it was reported: to whom, and under which number.", 200)
    if sent_at > now:
        problems.append(FieldProblem("sent_at", "future", "This has not come yet. Say when it was sent."))
    elif sent_at < row.started_at:
        problems.append(FieldProblem("sent_at", "early", "Nothing was sent before the site knew of it. Check both."))
    if problems := problems or arm_problems(study.definition, by, {"reference": said}):
        raise Invalid(problems)
    session.execute(
        update(CLOCK)
        .where(CLOCK.c.id == row.id)
        .values(
            state=ClockState.REPORTED.value,
            sent_at=sent_at,
            reference=said,
            reported_at=now,
            reported_by=by.username,
        )
    )
    made = Change(
        "adverse_event.clock_stopped",
        event.participant,
        _about(number),
        new={"clock": clock, "sent_at": sent_at, "reference": said, "in_time": sent_at <= row.due_at}
        | ({"follows": row.follows} if row.follows else {}),
    )
    record(session, study.code, [made], by=by, now=now)
    settle(
        session,
        study,
        number,
        event.participant,
        event.site_id,
        judged=_judged(study, _standing(session, number)),
        by=by,
        now=now,
    )


def _held(session: Session, study: StudyInUse, number: int, *, by: Actor) -> EventRow:
    """The event, its row held until the transaction ends: two people never add the same version."""
    if 0 <= number < 2**31:
        mine = select(EVENT.c.id).where(EVENT.c.id == number, EVENT.c.study_id == study.id)
        session.execute(mine.with_for_update(key_share=True)).first()
    return event_of(session, study, number, by=by)


def _standing(session: Session, number: int) -> Any:
    """The event's own row, also for who may not see all of it."""
    return session.execute(select(EVENT).where(EVENT.c.id == number)).one()


def _judged(study: StudyInUse, standing: Any) -> Judged | None:
    """The newest judgement: it counts for the clocks until there is another, also when there is news."""
    if standing.relatedness is None:
        return None
    return Judged(is_related(study.definition.safety, standing.relatedness), bool(standing.expected))


def _add_report(
    session: Session,
    number: int,
    version: int,
    kind: str,
    details: str,
    why: str | None,
    aware_at: datetime,
    *,
    corrects: int | None = None,
    confirmed: bool,
    by: Actor,
    now: datetime,
) -> None:
    session.execute(
        insert(REPORT).values(
            event_id=number,
            version=version,
            kind=kind,
            details=details,
            why=why,
            aware_at=aware_at,
            corrects=corrects,
            confirmed=confirmed,
            reported_at=now,
            reported_by=by.username,
        )
    )


def _change(session: Session, number: int, **values: Any) -> None:
    session.execute(update(EVENT).where(EVENT.c.id == number).values(**values))


def _follow_death(session: Session, participant_id: int) -> None:
    """Let the participant say which of their events was fatal: nobody is randomised or booked after it."""
    fatal = select(func.min(EVENT.c.id)).where(
        EVENT.c.participant_id == participant_id,
        EVENT.c.outcome == Outcome.FATAL.value,
        EVENT.c.state != State.VOID.value,
    )
    changed_to = update(PARTICIPANT).where(PARTICIPANT.c.id == participant_id)
    session.execute(changed_to.values(fatal_event=fatal.scalar_subquery()))


def _listed(said: Details) -> dict[str, Any]:
    """What the list shows, as columns."""
    onset = days_of(said.onset)
    assert onset is not None
    return {
        "term": said.term,
        "code": said.code or None,
        "onset": said.onset,
        "onset_on": onset[0],
        "severity": said.severity,
        "outcome": said.outcome,
    }


def _stored(said: Details) -> str:
    return json.dumps(asdict(said), ensure_ascii=False, separators=(",", ":"))


def _for_log(said: Details) -> dict[str, Any]:
    return asdict(said)


def _texts(said: Details) -> dict[str, str]:
    return {"term": said.term, "narrative": said.narrative}


def _coded(
    session: Session, study: StudyInUse, code: str, participant_id: int, number: int, term: str | None, *, now: datetime
) -> list[Change]:
    """What the term of an event means for its coding, as the log says it."""
    found = follow_term(session, study, participant_id, number, term, now=now)
    return [replace(each, participant=code, subject=_about(number)) for each in found]


def _about(number: int) -> str:
    return f"adverse_event/{number}"


def _subject(event: EventRow) -> str:
    return f"{event.participant}/adverse_event/{event.number}"
