"""What may I do about somebody who was randomised in error? Record it, or correct what was recorded by adding."""

import json
from collections.abc import Mapping
from datetime import date, datetime

from sqlalchemy import insert
from sqlmodel import Session

from app.audit.actions import Change, record
from app.foundation.errors import Conflict, Invalid, NotFound, Refused
from app.mail.actions import queue
from app.participants.in_error.reads import InError, records_of
from app.participants.in_error.rules import LABELS, OVERTAKEN, Reason, record_problems, why_not_record
from app.participants.models import Participant
from app.participants.reads import IN_ERROR, hold, today_at_site
from app.people.access import Actor, require
from app.people.permissions import Permission, Role
from app.people.reads import people_to_tell, sites_of
from app.studies.in_use import StudyInUse

RECORD = "participant.record_in_error"
# Who judges what it means: for the participant, and for the analysis (ICH E9 5.2).
TOLD = (Role.INVESTIGATOR, Role.STATISTICIAN)


def record_in_error(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    reason: str,
    why: str,
    found_on: date,
    should_have_been: Mapping[str, str] | None = None,
    corrects: int | None = None,
    by: Actor,
    now: datetime,
) -> int:
    """Record that a participant was randomised in error; the number of the record.

    The allocation stays exactly as it is, and so does everything that was entered. `corrects` is the number of the
    record that stood when the person began; another one since is a Conflict. The same words again are the same record.
    """
    where = {"action": RECORD, "subject": f"{participant.code}/randomised_in_error"}
    if participant.study_id != study.id or participant.id is None or not study.definition.is_allocated:
        raise NotFound
    require(by, Permission.PARTICIPANT_RECORD_ERROR, site_id=participant.site_id, **where)
    if reason_not := why_not_record(participant.code, participant.randomised_on):
        raise Refused(reason_not, **where)
    assert participant.randomised_on is not None
    hold(session, participant.id, "alone")
    records = records_of(session, participant.id)
    last = records[-1] if records else None
    should = {code: level for code, level in (should_have_been or {}).items() if level}
    said = (reason, why.strip(), found_on, should)
    if last is not None and said == (last.reason, last.why, last.found_on, last.should_have_been):
        return last.number
    problems = record_problems(
        study.definition,
        reason=reason,
        why=why,
        found_on=found_on,
        should_have_been=should,
        standing=last.reason if last else None,
        sites=[site.code for site in sites_of(session, study.id)],
        randomised_on=participant.randomised_on,
        today=today_at_site(session, participant, now),
    )
    if problems:
        raise Invalid(problems)
    if corrects != (last.number if last else None):
        raise Conflict(OVERTAKEN, current_version=last.number if last else 0, **where)
    people = people_to_tell(session, study.id, TOLD, site_id=participant.site_id, but=by)
    told = [each.username for each in people]
    number = int(
        session.execute(
            insert(IN_ERROR)
            .values(
                study_id=study.id,
                participant_id=participant.id,
                corrects=corrects,
                reason=reason,
                why=why.strip(),
                found_on=found_on,
                should_have_been=json.dumps(should, ensure_ascii=False, separators=(",", ":")) if should else None,
                told=" ".join(told),
                recorded_at=now,
                recorded_by=by.username,
            )
            .returning(IN_ERROR.c.id)
        ).scalar_one()
    )
    change = Change(
        "participant.randomised_in_error",
        participant.code,
        f"randomised_in_error/{number}",
        old=_for_log(last) if last else None,
        new={"reason": reason, "found_on": found_on, "should_have_been": should, "corrects": corrects, "told": told},
    )
    record(session, study.code, [change], by=by, now=now, why=why.strip())
    label = LABELS[Reason(reason)]
    for each in people:
        queue(
            session,
            key=f"randomised_in_error|{number}|{each.id}",
            to_address=each.email,
            subject=f"{study.definition.short_title}: randomised in error",
            body=f"{by.name} recorded about {participant.code} at {each.site}: {label}.\n"
            "The allocation stays as it is, and the participant stays in every list and export, marked.\n"
            "\nWhat happened stands on the participant's page in Equipoise, and in the export of participants.\n",
            now=now,
            language=each.language,
        )
    return number


def _for_log(last: InError) -> dict[str, object]:
    return {"reason": last.reason, "found_on": last.found_on, "should_have_been": dict(last.should_have_been)}
