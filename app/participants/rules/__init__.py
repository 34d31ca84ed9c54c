"""What is true of a participant? Whether answers can be kept, who is eligible, and which status may follow which."""

from app.participants.rules.answers import Answers, answer_problems, as_stored
from app.participants.rules.eligibility import Eligibility, Verdict, judge_eligibility, why_not_known
from app.participants.rules.personal import PersonalData, initials, personal_problems
from app.participants.rules.status import (
    TRANSITIONS,
    status_after_paper,
    why_not_after_death,
    why_not_back,
    why_not_erase,
    why_not_randomised_on_paper,
    why_not_transition,
    why_not_withdraw,
)

__all__ = [
    "TRANSITIONS",
    "Answers",
    "Eligibility",
    "PersonalData",
    "Verdict",
    "answer_problems",
    "as_stored",
    "initials",
    "judge_eligibility",
    "personal_problems",
    "status_after_paper",
    "why_not_after_death",
    "why_not_back",
    "why_not_erase",
    "why_not_known",
    "why_not_randomised_on_paper",
    "why_not_transition",
    "why_not_withdraw",
]
