"""What may I do about the answers of a pre-screen? Correct them; what was judged from them is judged again."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, bindparam, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.participants.actions import reason_for_failure_problems
from app.participants.corrections.reads import CORRECTED, JUDGED, screening_of
from app.participants.corrections.rules import (
    NOTHING_DIFFERS,
    OVERTAKEN,
    WAS_ELIGIBLE,
    Allotted,
    Correction,
    answer_changes,
    chosen_reason,
    has_taken_part,
    status_after,
    unknown_problems,
    why_not_pass,
    why_problems,
)
from app.participants.identity import PARTICIPANT
from app.participants.models import Participant
from app.participants.reads import SCREENING, ScreeningResult, held
from app.participants.rules import Answers, answer_problems, as_stored, judge_eligibility
from app.participants.status import Status
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.definition import Study
from app.studies.in_use import StudyInUse
from app.studies.reads import definition

CORRECT = "screening.correct"

Lot = Callable[[Mapping[str, Any]], Allotted]
"""What the sealed room says of a participant, given their answers as corrected; asked while they are held."""

# Built once: putting a statement together takes longer than running it.
_KEEP = (
    update(SCREENING)
    .where(
        SCREENING.c.id == bindparam("of_screening", type_=Integer),
        SCREENING.c.version == bindparam("of_version", type_=Integer),
    )
    .values(version=SCREENING.c.version + 1)
    .returning(SCREENING.c.version)
)
_MOVE = update(PARTICIPANT).where(PARTICIPANT.c.id == bindparam("of_participant", type_=Integer))


@dataclass(frozen=True)
class Asked:
    """What somebody wants the pre-screen to say, upon which version of it, and why.

    `failure_reason`: why a screen failure does not take part, beside what the answers say; None as it stands, empty
    where no other reason holds any more.
    """

    answers: Mapping[str, Any]
    failure_reason: str | None
    base_version: int
    why: str


def judged_correction(
    session: Session, study: StudyInUse, participant: Participant, asked: Asked, *, lot: Lot, by: Actor
) -> tuple[ScreeningResult, Correction | None]:
    """The pre-screen as it stands, held until the transaction ends, and what this correction would change.

    None instead of a correction where it is what stands: the same was sent before. Everything is judged by the version
    of the study that the person was screened under, as of the day on which they were.
    """
    where = {"action": CORRECT, "subject": f"{participant.code}/screening"}
    if participant.study_id != study.id or participant.id is None:
        raise NotFound
    require(by, Permission.PARTICIPANT_SCREEN, site_id=participant.site_id, **where)
    status = held(session, participant.id).status
    screening, erased = screening_of(session, participant.id)
    if screening is None:
        raise NotFound
    own = definition(session, screening.study_version_id)
    instrument = own.instrument(own.eligibility.instrument)
    items = instrument.items if instrument else ()
    today = participant.screened_on
    stored = as_stored(asked.answers)
    is_failure = status is Status.SCREEN_FAILED
    problems = answer_problems(items, stored, own.missing_codes, today=today)
    problems += _reason_problems(own, screening, asked.failure_reason, is_failure=is_failure)
    problems += why_problems(study.definition, asked.why)
    if problems:
        raise Invalid(problems)
    stored = Answers(items, stored, today=today).kept()
    eligibility = judge_eligibility(own, stored, today=today)
    chosen = chosen_reason(own, screening.failure_reason, asked.failure_reason) if is_failure else None
    if chosen is None and (unknown := unknown_problems(own, eligibility, is_failure=is_failure)):
        raise Invalid(unknown)
    failure_reason = chosen or ",".join(eligibility.failed) or None
    changes = answer_changes(screening.answers, stored)
    if not changes and (not is_failure or failure_reason == screening.failure_reason):
        if asked.base_version < screening.version:
            return screening, None
        raise Refused(NOTHING_DIFFERS, **where)
    if asked.base_version != screening.version:
        raise Conflict(OVERTAKEN, current_version=screening.version, **where)
    allotted = lot(stored)
    after = status_after(
        status,
        eligible=eligibility.eligible,
        stays_out=failure_reason is not None,
        has_place=allotted.has_place,
        is_allocated=study.definition.is_allocated,
    )
    why_not = why_not_pass(consented_on=participant.consented_on, erased=erased)
    if is_failure and after is not status and why_not is not None:
        raise Refused(why_not, **where)
    return screening, Correction(
        answers=stored,
        changes=changes,
        eligibility=eligibility,
        failure_reason=failure_reason if is_failure or after is Status.SCREEN_FAILED else screening.failure_reason,
        status_before=status,
        status=after,
        is_deviation=not eligibility.eligible
        and has_taken_part(
            study.definition,
            after,
            consented_on=participant.consented_on,
            randomised_on=participant.randomised_on,
        ),
        moved=allotted.moved,
    )


def correct(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    asked: Asked,
    *,
    lot: Lot,
    by: Actor,
    now: datetime,
) -> Correction | None:
    """Correct the answers of a pre-screen; None where they stand so already. The log has every value they had.

    For `safety.screening`, which sees to what follows in other rooms. An allocation is never touched.
    """
    screening, made = judged_correction(session, study, participant, asked, lot=lot, by=by)
    if made is None:
        return None
    moved = {factor: list(levels) for factor, levels in sorted(made.moved.items())}
    values = {
        "answers": _json(made.answers),
        "verdicts": _json([asdict(verdict) for verdict in made.eligibility.verdicts]),
        "eligible": made.eligibility.eligible,
        "failure_reason": made.failure_reason,
        "corrected_at": now,
        "corrected_by": by.username,
        "moved_levels": _json(moved) if moved else None,
    }
    kept = session.execute(
        _KEEP, {"of_screening": screening.number, "of_version": screening.version, **values}
    ).scalar()
    if kept is None:  # the participant is held, so nobody can have been quicker
        raise Conflict(OVERTAKEN, current_version=screening.version, action=CORRECT, subject=participant.code)
    if made.status is not made.status_before:
        session.execute(_MOVE, {"of_participant": participant.id, "status": made.status.value})
        participant.status = made.status.value
    code, subject = participant.code, "screening"
    log = [Change(CORRECTED, code, subject, item=each.code, old=each.old, new=each.new) for each in made.changes]
    old = _said(screening.version, screening.eligible, screening.failure_reason, made.status_before)
    new = _said(kept, made.eligibility.eligible, made.failure_reason, made.status)
    old["verdicts"] = {verdict.code: verdict.met for verdict in screening.verdicts}
    new["verdicts"] = {verdict.code: verdict.met for verdict in made.eligibility.verdicts}
    if moved or screening.moved_levels:
        old["moved_levels"], new["moved_levels"] = screening.moved_levels, moved
    log.append(Change(JUDGED, code, subject, old=old, new=new))
    if made.status is not made.status_before:
        failed = made.status is Status.SCREEN_FAILED
        before: dict[str, Any] = {"status": made.status_before}
        after: dict[str, Any] = {"status": made.status}
        if failed:
            before["failure_reason"], after["failure_reason"] = screening.failure_reason, made.failure_reason
        log.append(
            Change(
                "participant.screen_failed" if failed else "participant.put_back",
                code,
                subject if failed else "status",
                old=before,
                new=after,
            )
        )
    record(session, study.code, log, by=by, now=now, why=asked.why.strip())
    return made


def _reason_problems(
    own: Study, screening: ScreeningResult, said: str | None, *, is_failure: bool
) -> list[FieldProblem]:
    given = (said or "").strip()
    if not is_failure:
        words = (
            "They are no screen failure. Leave this out; on their page it can be recorded that they do not take part."
        )
        return [FieldProblem("failure_reason", "unknown", words)] if given else []
    if not given:
        return (
            [FieldProblem("failure_reason", "required", WAS_ELIGIBLE)]
            if said is not None and screening.eligible
            else []
        )
    return [] if given == screening.failure_reason else reason_for_failure_problems(own, given)


def _said(version: int, eligible: bool, failure_reason: str | None, status: Status) -> dict[str, Any]:
    return {"version": version, "eligible": eligible, "failure_reason": failure_reason, "status": status}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
