"""What may I do with participants? Screen, show and change who they are, withdraw, erase; each one written down."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime
from typing import Any

from sqlalchemy import Integer, String, Text, bindparam, insert, select, update
from sqlmodel import Session

from app.audit.actions import ENTRY, Change, record
from app.foundation import clock
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.foundation.words import day_in_words
from app.participants.finding import LooksLike, find_like
from app.participants.identity import (
    ERASED,
    IDENTITY,
    PARTICIPANT,
    Revealed,
    new_identity,
    open_identity,
    participant_key,
    seal_personal,
    sealed_for_log,
)
from app.participants.models import Participant
from app.participants.reads import SCREENING, STUDY, code_of, held, today_at_site
from app.participants.rules import (
    Answers,
    Eligibility,
    PersonalData,
    answer_problems,
    as_stored,
    judge_eligibility,
    personal_problems,
    status_after_paper,
    why_not_back,
    why_not_erase,
    why_not_known,
    why_not_randomised_on_paper,
    why_not_transition,
    why_not_withdraw,
)
from app.participants.rules.status import (
    status_after_withdrawal,
    status_before_withdrawal,
    why_not_resume_treatment,
    why_not_stop_treatment,
    why_not_take_back,
    withdrawal_level,
)
from app.participants.status import Status
from app.people.access import Actor, require
from app.people.models import Site
from app.people.permissions import Permission
from app.studies.definition import Study
from app.studies.in_use import StudyInUse

# Built once: putting a statement together takes longer than running it.
_ADD = insert(PARTICIPANT).returning(PARTICIPANT.c.id)
_CHANGE = update(PARTICIPANT).where(PARTICIPANT.c.id == bindparam("of_participant", type_=Integer))
_NUMBER = (
    update(STUDY)
    .where(STUDY.c.id == bindparam("of_study", type_=Integer))
    .values(last_participant=STUDY.c.last_participant + 1)
    .returning(STUDY.c.last_participant)
)
_SCREENING = insert(SCREENING)
_TREATMENT = (
    select(ENTRY.c.action)
    .where(
        ENTRY.c.log == bindparam("log", type_=String),
        ENTRY.c.participant == bindparam("code", type_=String),
        ENTRY.c.action.in_(("treatment.stopped", "treatment.resumed")),
    )
    .order_by(ENTRY.c.position.desc())
    .limit(1)
)
_FAILED = (
    update(SCREENING)
    .where(SCREENING.c.participant_id == bindparam("of_participant", type_=Integer))
    .values(failure_reason=bindparam("reason", type_=Text), version=SCREENING.c.version + 1)
)

LONGEST_REASON = 1000
FAIL_SCREENING = "participant.fail_screening"


def screen(
    session: Session,
    study: StudyInUse,
    *,
    site: Site,
    answers: Mapping[str, Any],
    failure_reason: str | None,
    personal: PersonalData,
    another: bool = True,
    by: Actor,
    now: datetime,
) -> tuple[Participant, Eligibility]:
    """Screen a person: judge every criterion, give them a code, and keep it all, eligible or not.

    Unless somebody has said that it is `another` person: LooksLike where one at the site looks like them.
    """
    here = {"action": "participant.screen", "subject": "/screening"}
    assert site.id is not None
    require(by, Permission.PARTICIPANT_SCREEN, site_id=site.id, **here)
    if site.study_id != study.id:
        raise NotFound
    if not site.is_open:  # ICH E6(R3) 4.3.5: a site starts once it is approved
        raise Refused(
            f"{site.name} is not open, so nobody is screened there. Ask your administrator to open the site.", **here
        )
    study = study.at(site.id)
    today = clock.today(site.timezone, now)
    definition = study.definition
    stored = as_stored(answers)
    failure_reason = (failure_reason or "").strip() or None
    instrument = definition.instrument(definition.eligibility.instrument)
    items = instrument.items if instrument else ()
    problems = answer_problems(items, stored, definition.missing_codes, today=today)
    problems += reason_for_failure_problems(definition, failure_reason)
    problems += personal_problems(personal, today=today)
    if problems:
        raise Invalid(problems)
    stored = Answers(items, stored, today=today).kept()
    eligibility = judge_eligibility(definition, stored, today=today)
    if failure_reason is None:
        if unknown := why_not_known(definition, eligibility):
            raise Invalid(unknown)
        failure_reason = ",".join(eligibility.failed) or None
    if not another and (like := find_like(session, study, personal, site_id=site.id, by=by, now=now)):
        raise LooksLike(like, **here)
    status = Status.SCREENED if failure_reason is None else Status.SCREEN_FAILED
    participant = _new_participant(session, study, site.id, status, today, by=by, now=now)
    assert participant.id is not None
    verdicts = [asdict(verdict) for verdict in eligibility.verdicts]
    session.execute(
        _SCREENING,
        {
            "participant_id": participant.id,
            "study_version_id": study.version_id,
            "answers": _json(stored),
            "verdicts": _json(verdicts),
            "eligible": eligibility.eligible,
            "failure_reason": failure_reason,
            "screened_at": now,
            "screened_by": by.username,
        },
    )
    personal = personal.tidy()
    key = new_identity(session, study.id, participant.id, personal)
    screened = {
        "status": status,
        "site": site.code,
        "eligible": eligibility.eligible,
        "failure_reason": failure_reason,
        "verdicts": {verdict.code: verdict.met for verdict in eligibility.verdicts},
    }
    changes = [Change("participant.screened", participant.code, "screening", new=screened)]
    changes += [
        Change("screening.answered", participant.code, "screening", item=code, new=value)
        for code, value in stored.items()
    ]
    changes += [
        Change("identity.recorded", participant.code, "identity", item=name, new=_sealed(key, participant, name, value))
        for name, value in personal.items().items()
        if value is not None
    ]
    record(session, study.code, changes, by=by, now=now)
    return participant, eligibility


def reveal_identity(
    session: Session, study: StudyInUse, participant: Participant, *, by: Actor, now: datetime
) -> Revealed:
    """Show who a participant is; that it was shown, and to whom, is written down."""
    where = {"action": "identity.show", "subject": f"{participant.code}/identity"}
    require(by, Permission.IDENTITY_READ, site_id=participant.site_id, **where)
    _, revealed = _opened(session, participant, where)
    record(session, study.code, [Change("identity.shown", participant.code, "identity")], by=by, now=now)
    return revealed


def change_identity(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    personal: PersonalData,
    version: int,
    why: str,
    by: Actor,
    now: datetime,
) -> int:
    """Correct who a participant is; gives the new version. The log keeps old and new, sealed under the person's key."""
    where = {"action": "identity.change", "subject": f"{participant.code}/identity"}
    require(by, Permission.IDENTITY_CHANGE, site_id=participant.site_id, **where)
    personal = personal.tidy()
    problems = personal_problems(personal, today=today_at_site(session, participant, now))
    problems += reason_problems("why", why, "Say why the details change.")
    if problems:
        raise Invalid(problems)
    key, revealed = _opened(session, participant, where)
    old, new = revealed.personal.items(), personal.items()
    changed = [name for name in new if old[name] != new[name]]
    if revealed.version == version and not changed:
        return version
    assert participant.id is not None
    saved = session.execute(
        update(IDENTITY)
        .where(
            IDENTITY.c.participant_id == participant.id,
            IDENTITY.c.version == version,
            IDENTITY.c.wrapped_key.is_not(None),
        )
        .values(sealed=seal_personal(key, study.id, participant.id, personal), version=version + 1)
        .returning(IDENTITY.c.version)
    ).scalar()
    if saved is None:
        raise Conflict(
            "Somebody changed these details while you were typing. Show them again, then make your change.",
            current_version=revealed.version,
            **where,
        )
    changes = [
        Change(
            "identity.changed",
            participant.code,
            "identity",
            item=name,
            old=_sealed(key, participant, name, old[name]),
            new=_sealed(key, participant, name, new[name]),
        )
        for name in changed
    ]
    record(session, study.code, changes, by=by, now=now, why=why.strip())
    return version + 1


def erase_identity(
    session: Session, study: StudyInUse, participant: Participant, *, why: str, by: Actor, now: datetime
) -> None:
    """Destroy the participant's key: nobody can read who they were, and the trial's data stay (GDPR Art. 17)."""
    where = {"action": "identity.erase", "subject": f"{participant.code}/identity"}
    require(by, Permission.PARTICIPANT_WITHDRAW, site_id=participant.site_id, **where)
    if problems := reason_problems("why", why, "Say why the personal data are erased."):
        raise Invalid(problems)
    assert participant.id is not None
    if reason := why_not_erase(held(session, participant.id).status, erased=False):
        raise Refused(reason, **where)
    erased = session.execute(
        update(IDENTITY)
        .where(IDENTITY.c.participant_id == participant.id, IDENTITY.c.wrapped_key.is_not(None))
        .values(wrapped_key=None, version=IDENTITY.c.version + 1)
        .returning(IDENTITY.c.version)
    ).scalar()
    if erased is None:
        raise Refused(why_not_erase(Status.WITHDRAWN, erased=True) or ERASED, **where)
    record(
        session, study.code, [Change("identity.erased", participant.code, "identity")], by=by, now=now, why=why.strip()
    )


def withdraw(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    level: str,
    reason: str,
    on: date,
    by: Actor,
    now: datetime,
) -> Participant:
    """Record that a participant withdraws, how far, and why. Nothing collected before is touched.

    Whoever has withdrawn, or completed the study, may go further. A level that erases who they are destroys their key
    at once. One that does not stop visits leaves a randomised participant in the study. Whoever calls this also calls
    `schedule.actions.follow_withdrawal`, which stops what the level stops.
    """
    where = {"action": "participant.withdraw", "subject": f"{participant.code}/withdrawal"}
    require(by, Permission.PARTICIPANT_WITHDRAW, site_id=participant.site_id, **where)
    chosen = withdrawal_level(study.definition, level)
    problems = reason_problems("reason", reason, "Write the reason, or that none was given.")
    problems += day_problems("on", on, earliest=participant.screened_on, today=today_at_site(session, participant, now))
    if chosen is None:
        problems.insert(0, FieldProblem("level", "choice", "Choose how far the participant withdraws."))
    if problems or chosen is None:
        raise Invalid(problems)
    assert participant.id is not None
    before = held(session, participant.id)
    current = withdrawal_level(study.definition, before.withdrawal_level or "")
    if why_not := why_not_withdraw(before.status, current, chosen):
        raise Refused(why_not, **where)
    since = on
    if current is not None and current.stops_use and before.withdrawn_on is not None:
        since = min(on, before.withdrawn_on)  # going further gives back the use of nothing that was collected meanwhile
    has_left = before.status in (Status.WITHDRAWN, Status.COMPLETED)
    new = before.status if has_left else status_after_withdrawal(before.status, chosen)
    further: dict[str, Any] = {}
    if new is Status.WITHDRAWN and not has_left:
        further["left_on"] = on
    if chosen.stops_treatment and before.treatment_stopped_on is None and not has_left:
        further |= {"treatment_stopped_on": on, "treatment_stopped_reason": reason.strip()}
    _change(
        session,
        participant,
        status=new.value,
        withdrawn_on=since,
        withdrawal_level=level,
        withdrawal_reason=reason.strip(),
        **further,
    )
    change = Change(
        "participant.withdrawn",
        participant.code,
        "withdrawal",
        old={"status": before.status, "level": before.withdrawal_level, "on": before.withdrawn_on},
        new={"status": new, "level": level, "on": on},
    )
    record(session, study.code, [change], by=by, now=now, why=reason.strip())
    if chosen.erases_identity and participant_key(session, participant.id) is not None:
        erase_identity(session, study, participant, why=reason, by=by, now=now)
    return participant


def take_back_withdrawal(
    session: Session, study: StudyInUse, participant: Participant, *, why: str, by: Actor, now: datetime
) -> Participant:
    """Take back a withdrawal that was recorded by mistake: they stand where they stood, and the log keeps both.

    Whoever withdrew further takes back all of it, the first one too; the less far one that was right is recorded again.
    Treatment that was stopped with any of it goes on, not what those who treat stopped by itself; a consent that was
    withdrawn with it stays so. Whoever calls this also
    calls `schedule.actions.plan_stopped_again`.
    """
    where = {"action": "participant.take_back_withdrawal", "subject": f"{participant.code}/withdrawal"}
    require(by, Permission.PARTICIPANT_WITHDRAW, site_id=participant.site_id, **where)
    if problems := reason_problems("why", why, "Say how the mistake came about."):
        raise Invalid(problems)
    assert participant.id is not None
    before = held(session, participant.id)
    erased = participant_key(session, participant.id) is None
    if why_not := why_not_take_back(before.status, before.withdrawal_level, erased=erased):
        raise Refused(why_not, **where)
    status = status_before_withdrawal(
        before.status,
        consented=participant.consented_on is not None,
        randomised=participant.randomised_on is not None,
    )
    goes_on = before.treatment_stopped_on is not None and not _stopped_alone(session, study, participant)
    nothing = dict.fromkeys(("withdrawn_on", "withdrawal_level", "withdrawal_reason", "left_on"))
    treatment = dict.fromkeys(("treatment_stopped_on", "treatment_stopped_reason")) if goes_on else {}
    _change(session, participant, status=status.value, **nothing, **treatment)
    change = Change(
        "participant.withdrawal_taken_back",
        participant.code,
        "withdrawal",
        old={
            "status": before.status,
            "level": before.withdrawal_level,
            "on": before.withdrawn_on,
            **({"treatment_stopped_on": before.treatment_stopped_on} if goes_on else {}),
        },
        new={"status": status, "level": None, "on": None, **({"treatment_stopped_on": None} if goes_on else {})},
    )
    record(session, study.code, [change], by=by, now=now, why=why.strip())
    return participant


def _stopped_alone(session: Session, study: StudyInUse, participant: Participant) -> bool:
    """Whether those who treat stopped the treatment, as the log has it; otherwise it was stopped with a withdrawal.

    Days and reasons do not tell: who withdraws further keeps the day of the first, and of the same day may be anything.
    """
    asked = {"log": study.code, "code": participant.code}
    return session.execute(_TREATMENT, asked).scalar() == "treatment.stopped"


def stop_treatment(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    on: date,
    reason: str,
    permission: Permission,
    by: Actor,
    now: datetime,
) -> Participant:
    """Record that a participant gets no more treatment and stays in follow-up; for the rooms above, in their action.

    ICH E9(R1) A.3.1: to stop treatment is not to leave the study.
    """
    where = {"action": "treatment.stop", "subject": f"{participant.code}/treatment"}
    require(by, permission, site_id=participant.site_id, **where)
    problems = reason_problems("reason", reason, "Say why treatment was stopped.")
    earliest = participant.randomised_on or participant.screened_on
    problems += day_problems("on", on, earliest=earliest, today=today_at_site(session, participant, now))
    if problems:
        raise Invalid(problems)
    assert participant.id is not None
    before = held(session, participant.id)
    if why_not := why_not_stop_treatment(before.status, before.treatment_stopped_on):
        raise Refused(why_not, **where)
    _change(session, participant, treatment_stopped_on=on, treatment_stopped_reason=reason.strip())
    change = Change("treatment.stopped", participant.code, "treatment", new={"on": on})
    record(session, study.code, [change], by=by, now=now, why=reason.strip())
    return participant


def resume_treatment(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    why: str,
    permission: Permission,
    by: Actor,
    now: datetime,
) -> Participant:
    """Record that treatment goes on, because it was recorded as stopped by mistake; for the rooms above."""
    where = {"action": "treatment.resume", "subject": f"{participant.code}/treatment"}
    require(by, permission, site_id=participant.site_id, **where)
    if problems := reason_problems("why", why, "Say why treatment goes on."):
        raise Invalid(problems)
    assert participant.id is not None
    before = held(session, participant.id)
    level = withdrawal_level(study.definition, before.withdrawal_level or "")
    if why_not := why_not_resume_treatment(before.status, before.treatment_stopped_on, level):
        raise Refused(why_not, **where)
    _change(session, participant, treatment_stopped_on=None, treatment_stopped_reason=None)
    old = {"on": before.treatment_stopped_on}
    change = Change("treatment.resumed", participant.code, "treatment", old=old, new={"on": None})
    record(session, study.code, [change], by=by, now=now, why=why.strip())
    return participant


def fail_screening(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    reason: str,
    why: str = "",
    by: Actor,
    now: datetime,
) -> Participant:
    """Record that somebody who passed the pre-screen does not take part after all: nobody who is randomised.

    `reason` is one of the study's reasons for not taking part (or words, where it has none), as for whoever is not
    eligible at once; `why` says more of it in the log. Whoever calls this also calls `schedule.actions.stop_visits`.
    """
    where = {"action": FAIL_SCREENING, "subject": f"{participant.code}/screening"}
    require(by, Permission.PARTICIPANT_WITHDRAW, site_id=participant.site_id, **where)
    problems = reason_for_failure_problems(study.definition, reason.strip())
    if len(why.strip()) > LONGEST_REASON:
        problems.append(FieldProblem("why", "max_length", f"Shorten this to {LONGEST_REASON} characters."))
    if problems:
        raise Invalid(problems)
    assert participant.id is not None
    before = held(session, participant.id)
    is_allocated = study.definition.is_allocated
    if why_not := why_not_transition(before.status, Status.SCREEN_FAILED, is_allocated=is_allocated):
        raise Refused(why_not, **where)
    session.execute(_FAILED, {"of_participant": participant.id, "reason": reason.strip()})
    _change(session, participant, status=Status.SCREEN_FAILED.value)
    change = Change(
        "participant.screen_failed",
        participant.code,
        "screening",
        old={"status": before.status, "failure_reason": None},
        new={"status": Status.SCREEN_FAILED, "failure_reason": reason.strip()},
    )
    record(session, study.code, [change], by=by, now=now, why=why.strip() or None)
    return participant


def mark(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    new: Status,
    *,
    on: date,
    permission: Permission,
    old: Status | None = None,
    by: Actor,
    now: datetime,
    why: str | None = None,
    details: Mapping[str, Any] | None = None,
    happened_at: datetime | None = None,
) -> Participant:
    """Move a participant to their next status: for the rooms above, inside their own action.

    `on` is kept as the date of consent or of randomisation; `details` join the audit entry `participant.<status>`.
    `old` is their status, for a caller who holds their row already.
    `happened_at` is when somebody was randomised on paper: what happened is recorded, in whatever order, and whoever
    has left the study since stays so.
    """
    where = {"action": f"participant.{new}", "subject": f"{participant.code}/status"}
    require(by, permission, site_id=participant.site_id, **where)
    assert participant.id is not None
    old = old or held(session, participant.id).status
    if happened_at is None:
        why_not = why_not_transition(old, new, is_allocated=study.definition.is_allocated)
        after = new
    else:
        why_not, after = why_not_randomised_on_paper(old), status_after_paper(old)
    if why_not is not None:
        raise Refused(why_not, **where)
    dates: dict[str, Any] = {}
    if new is Status.CONSENTED:
        dates = {"consented_on": on}
    elif new is Status.RANDOMISED:
        dates = {"randomised_on": on, "randomised_at": happened_at or now, "randomised_by": by.username}
    elif new is Status.DIED and participant.left_on is None:
        dates = {"left_on": on}
    _change(session, participant, status=after.value, **dates)
    change = Change(
        f"participant.{new}",
        participant.code,
        "status",
        old={"status": old},
        new={"status": after, "on": on, **(details or {})},
    )
    record(session, study.code, [change], by=by, now=now, why=why)
    return participant


def put_back(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    to: Status,
    *,
    permission: Permission,
    by: Actor,
    now: datetime,
    why: str,
) -> Participant:
    """Have a participant stand again where they stood before they were lost, through, or dead by mistake.

    For the rooms above, inside their own action. No date changes: they consented and were randomised when they were.
    """
    where = {"action": "participant.put_back", "subject": f"{participant.code}/status"}
    require(by, permission, site_id=participant.site_id, **where)
    assert participant.id is not None
    old = held(session, participant.id).status
    if why_not := why_not_back(old, to):
        raise Refused(why_not, **where)
    left = participant.left_on if to is Status.WITHDRAWN else None
    _change(session, participant, status=to.value, left_on=left)
    change = Change("participant.put_back", participant.code, "status", old={"status": old}, new={"status": to})
    record(session, study.code, [change], by=by, now=now, why=why)
    return participant


def back_to_screened(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    permission: Permission,
    by: Actor,
    now: datetime,
    why: str,
) -> Participant:
    """Have a participant stand as screened again, because the consent that moved them on was taken back.

    For the room of consent, inside its own action, which has seen that nothing was recorded since.
    """
    where = {"action": "participant.back_to_screened", "subject": f"{participant.code}/status"}
    require(by, permission, site_id=participant.site_id, **where)
    assert participant.id is not None
    old, on = held(session, participant.id).status, participant.consented_on
    if old is not Status.CONSENTED:
        raise Refused("They do not stand as having consented. Nothing is left to take back.", **where)
    _change(session, participant, status=Status.SCREENED.value, consented_on=None)
    change = Change(
        "participant.back_to_screened",
        participant.code,
        "status",
        old={"status": old, "on": on},
        new={"status": Status.SCREENED, "on": participant.screened_on},
    )
    record(session, study.code, [change], by=by, now=now, why=why.strip())
    return participant


def reason_problems(field: str, reason: str, message: str) -> list[FieldProblem]:
    """Whether a reason was given and can be kept."""
    if not reason.strip() or "\x00" in reason:
        return [FieldProblem(field, "required", message)]
    if len(reason) > LONGEST_REASON:
        return [FieldProblem(field, "max_length", f"Shorten the reason to {LONGEST_REASON} characters.")]
    return []


def day_problems(field: str, day: date, *, earliest: date, today: date) -> list[FieldProblem]:
    """Whether a day lies between the first possible one and today at the site."""
    if day > today:
        return [FieldProblem(field, "future", f"This day has not come yet: choose {day_in_words(today)} or earlier.")]
    if day < earliest:
        return [FieldProblem(field, "too_early", f"This day is too early: choose {day_in_words(earliest)} or later.")]
    return []


def reason_for_failure_problems(definition: Study, failure_reason: str | None) -> list[FieldProblem]:
    """What keeps this from being why somebody does not take part: a reason of the study, or words where it has none."""
    if failure_reason is None:
        return []
    if definition.screen_failure_reasons:
        if failure_reason in {choice.code for choice in definition.screen_failure_reasons}:
            return []
        return [FieldProblem("failure_reason", "choice", "Choose one of the reasons for not taking part.")]
    return reason_problems("failure_reason", failure_reason, "Say why the person does not take part.")


def _new_participant(
    session: Session, study: StudyInUse, site_id: int, status: Status, today: date, *, by: Actor, now: datetime
) -> Participant:
    """Take the next number: the study's row is held until the transaction ends, so none is given twice or lost."""
    number = session.execute(_NUMBER, {"of_study": study.id}).scalar_one()
    participant = Participant(
        study_id=study.id,
        site_id=site_id,
        code=code_of(study.definition, number),
        status=status.value,
        screened_on=today,
        created_at=now,
        created_by=by.username,
    )
    values = participant.model_dump(exclude={"id"})
    participant.id = session.execute(_ADD, values).scalar_one()
    return participant


def _change(session: Session, participant: Participant, **values: Any) -> None:
    """Change the row (`held` holds it) and the object in hand."""
    session.execute(_CHANGE, {"of_participant": participant.id, **values})
    for name, value in values.items():
        setattr(participant, name, value)


def _opened(session: Session, participant: Participant, where: dict[str, str]) -> tuple[bytes, Revealed]:
    assert participant.id is not None
    opened = open_identity(session, participant.id)
    if opened is None:
        raise Refused(ERASED, **where)
    return opened


def _sealed(key: bytes, participant: Participant, name: str, value: str | None) -> str:
    assert participant.id is not None
    return sealed_for_log(key, participant.id, name, value)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
