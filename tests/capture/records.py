"""Participants to enter data for: consented and with visits, as rows, so that these tests need no other room."""

from datetime import date, timedelta

from sqlmodel import Session

from app.consent.models import Consent
from app.participants.models import Participant, Screening, Status
from app.schedule.models import ParticipantVisit, VisitStatus
from app.studies.definition import Instrument
from app.studies.in_use import StudyInUse
from tests.factories import NOW, TODAY, site


def consented(
    session: Session,
    study: StudyInUse,
    code: str = "M-001",
    *,
    site_code: str = "north",
    status: str = Status.RANDOMISED,
    consent: bool = True,
    screening: str = '{"age":44,"pain_screen":6,"surgery":false}',
    failure_reason: str | None = None,
) -> Participant:
    """A participant with a complete consent and every visit of the study in the schedule."""
    place = site(session, study, site_code)
    assert place.id is not None
    participant = Participant(
        study_id=study.id,
        site_id=place.id,
        code=code,
        status=status,
        screened_on=TODAY,
        consented_on=TODAY,
        created_at=NOW,
        created_by="test",
    )
    session.add(participant)
    session.flush()
    assert participant.id is not None
    session.add(
        Screening(
            participant_id=participant.id,
            study_version_id=study.version_id,
            answers=screening,
            verdicts="[]",
            eligible=failure_reason is None,
            failure_reason=failure_reason,
            screened_at=NOW,
            screened_by="test",
        )
    )
    if consent:
        session.add(
            Consent(
                participant_id=participant.id,
                study_version_id=study.version_id,
                document_version="1",
                language="en",
                document_sha256="0" * 64,
                method="paper",
                signed_on=TODAY,
                participant_signature=b"sealed",
                options="{}",
                binding="0" * 64,
                recorded_at=NOW,
                recorded_by="test",
                countersigned_at=NOW,
                countersigned_by="test",
                countersigned_name="Test",
                countersigned_meaning="approval",
            )
        )
    for order, visit in enumerate(study.definition.visits):
        plan_visit(session, study, participant, visit.code, order=order, day=visit.day)
    return participant


def plan_visit(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    code: str,
    *,
    order: int = 0,
    day: int = 0,
    status: str = VisitStatus.PLANNED,
    on: date = TODAY,
) -> ParticipantVisit:
    """One visit in a participant's schedule."""
    assert participant.id is not None
    target = on + timedelta(days=day)
    planned = study.definition.visit(code)
    visit = ParticipantVisit(
        study_id=study.id,
        participant_id=participant.id,
        code=code,
        kind=planned.kind if planned else "assessment",
        order=order,
        target_on=target,
        opens_on=target,
        closes_on=target,
        status=status,
        created_at=NOW,
    )
    session.add(visit)
    session.flush()
    return visit


def instrument(*items: dict[str, object], code: str = "form") -> Instrument:
    """An instrument of these items; a label is made when none is given."""
    made = [{"label": str(item["code"]).title(), **item} for item in items]
    return Instrument.model_validate(
        {"code": code, "label": code.title(), "source": "test", "sections": [{"items": made}]}
    )
