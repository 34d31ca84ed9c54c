"""Judge what a second person enters of a form that is entered twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlmodel import Session

from app.capture.actions.drafts import drop_draft
from app.capture.actions.place import About, held_form, pair_of, refuse_if
from app.capture.actions.weighing import checked, read_reasons
from app.capture.checks import Judgement, judge
from app.capture.double import held as double
from app.capture.double import rules as twice
from app.capture.rules import EntryState
from app.foundation.errors import FieldProblem
from app.participants.models import Participant
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.studies.definition import Instrument
from app.studies.in_use import StudyInUse


@dataclass(frozen=True)
class SecondEntry:
    """What a second person entered of a form, judged by itself, beside the first entry and where the two stand."""

    entry: EntryState
    pair: double.Pair
    form: Instrument
    judgement: Judgement


def judge_second(
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
) -> SecondEntry:
    """Judge a second entry as the first was, and hold both; whatever is refused or invalid says nothing of the first.

    A second entry that the same person made already is handed over as it is, so that a retry can be told.
    """
    about = About(study, participant, visit, instrument)
    action = "entry.enter_second"
    require(by, Permission.ENTRY_SAVE, site_id=participant.site_id, action=action, subject=about.refusal_subject)
    form, held = held_form(session, about, by=by, action=action, now=now)
    stands = pair_of(session, about, held.entry)
    if stands is None or stands.second_by != by.username:
        reason = twice.why_not_second(stands.state if stands else None, stands.first_by if stands else "", by=by)
        refuse_if(about, reason, action=action)
    assert stands is not None
    assert held.entry is not None
    local = now.astimezone(ZoneInfo(held.place.timezone))
    reasons, unread = read_reasons(form, reasons)
    judgement = judge(
        study.definition, form, visit, values, reasons, answers=held.answers, today=local.date(), now=local
    )
    checked(form, judgement, [], [*problems, *unread], accept_partial=accept_partial, why=None)
    if held.place.draft_at is not None:
        drop_draft(session, about.participant_id, visit=visit, instrument=instrument, by=by)
    return SecondEntry(held.entry, stands, form, judgement)
