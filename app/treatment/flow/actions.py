"""What may I do with the flow by arm? Open it as the statistician: every envelope it opens is in the log."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlmodel import Session

from app.audit.actions import Change, record
from app.people.access import Actor
from app.randomisation.opening import open_envelopes, open_groups
from app.studies.in_use import StudyInUse
from app.treatment.flow import reads, rules
from app.treatment.flow.rules import ArmFlow, GroupFlow

WHY = "Closed report: flow by arm"


@dataclass(frozen=True)
class FlowByArm:
    """The flow of participants by arm as it stands. `groups` are those of a first stage.

    `is_locked` says that nothing of it can change any more; None where nobody is allocated.
    """

    arms: tuple[ArmFlow, ...]
    groups: tuple[GroupFlow, ...]
    is_locked: bool | None


def open_flow(session: Session, study: StudyInUse, *, by: Actor, now: datetime) -> FlowByArm:
    """The flow by arm and the analysis sets; each envelope that is opened for it is an audit entry.

    For the statistician alone, who has the list of arms: `NotFound` for everybody else. The session must be a writing
    one that is committed before anything of it is shown. No figure of it goes into the log, which blinded people read.
    """
    people = reads.people(session, study, by=by, now=now)
    definition = study.definition
    given: dict[int, str] = {}
    reported = [Change("flow.reported", subject="flow")]
    if staged := reads.in_first_stage(session, study):
        given = open_groups(session, study, staged, by=by, why=WHY, now=now)
    if definition.is_allocated and people:
        arms = open_envelopes(session, study, people, by=by, why=WHY, also=reported, now=now)
        people = {number: replace(person, arm=arms[number]) for number, person in people.items()}
    else:
        record(session, study.code, reported, by=by, now=now, why=WHY)
    return FlowByArm(
        arms=rules.flow(definition, list(people.values())),
        groups=rules.groups(definition, given, people),
        is_locked=reads.is_locked(session, study) if definition.is_allocated else None,
    )
