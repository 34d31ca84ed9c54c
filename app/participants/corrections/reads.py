"""What may I see of corrections? The pre-screen as it stands, and every value its answers had."""

from sqlalchemy import Integer, bindparam, select
from sqlmodel import Session

from app.audit.reads import HistoryLine, history_of
from app.participants.identity import IDENTITY
from app.participants.reads import SCREENING, ScreeningResult, screening_of_row
from app.studies.in_use import StudyInUse

ANSWERED, CORRECTED, JUDGED = "screening.answered", "screening.corrected", "screening.judged_again"

_STANDING = (
    select(SCREENING, IDENTITY.c.wrapped_key)
    .join(IDENTITY, IDENTITY.c.participant_id == SCREENING.c.participant_id, isouter=True)
    .where(SCREENING.c.participant_id == bindparam("participant_id", type_=Integer))
    .order_by(SCREENING.c.id.desc())
    .limit(1)
)


def screening_of(session: Session, participant_id: int) -> tuple[ScreeningResult | None, bool]:
    """The pre-screen of a participant whom the caller may know, and whether their personal data were erased."""
    row = session.execute(_STANDING, {"participant_id": participant_id}).first()
    return (None, False) if row is None else (screening_of_row(row), row.wrapped_key is None)


def history(session: Session, study: StudyInUse, participant_code: str) -> list[HistoryLine]:
    """Every value that the answers of a pre-screen had, and how they were judged again; the oldest first (EMA-5)."""
    return history_of(session, study.code, participant_code, "screening", actions=(ANSWERED, CORRECTED, JUDGED))
