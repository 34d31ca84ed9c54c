"""Which status may follow which? The order of a trial, enforced (21 CFR 11.10(f))."""

from app.participants.status import Status
from app.studies.definition import Study, WithdrawalLevel

S = Status
TRANSITIONS: dict[Status, frozenset[Status]] = {
    S.SCREENED: frozenset({S.CONSENTED, S.SCREEN_FAILED, S.WITHDRAWN, S.DIED}),
    S.SCREEN_FAILED: frozenset(),
    S.CONSENTED: frozenset({S.RANDOMISED, S.SCREEN_FAILED, S.WITHDRAWN, S.LOST, S.DIED}),
    S.RANDOMISED: frozenset({S.COMPLETED, S.WITHDRAWN, S.LOST, S.DIED}),
    S.COMPLETED: frozenset({S.DIED}),
    S.WITHDRAWN: frozenset({S.DIED}),
    S.LOST: frozenset({S.COMPLETED, S.WITHDRAWN, S.DIED}),
    S.DIED: frozenset(),
}
# Of them nothing more is collected; who was lost may be found.
ENDED = frozenset({S.SCREEN_FAILED, S.COMPLETED, S.WITHDRAWN, S.DIED})

_ENDED = {
    S.SCREEN_FAILED: "This participant did not pass screening. If their situation changed, screen them again: "
    "they get a new code.",
    S.COMPLETED: "This participant has completed the study. Nothing is left to do.",
    S.WITHDRAWN: "This participant has withdrawn. What was collected before is kept; nothing new is added.",
    S.DIED: "This participant has died. What was collected before is kept; nothing is due any more.",
}
_FIRST = {
    S.CONSENTED: "They have to be screened and eligible first.",
    S.RANDOMISED: "Record their consent first.",
    S.COMPLETED: "Randomise them first.",
    S.SCREEN_FAILED: "They are past screening: record a withdrawal instead.",
    S.SCREENED: "Screen the person again if needed: they get a new code.",
    S.WITHDRAWN: "",
    S.LOST: "They have to take part first.",
    S.DIED: "",
}
_NOW = {
    S.SCREENED: "This participant is screened and has not consented.",
    S.CONSENTED: "This participant has consented already.",
    S.RANDOMISED: "This participant is randomised already.",
    S.LOST: "This participant is lost to follow-up.",
}


def why_not_transition(old: Status, new: Status, *, is_allocated: bool = True) -> str | None:
    """Why a participant cannot go from one status to the next, or None. A study without arms completes from consent."""
    if not is_allocated and (old, new) == (S.CONSENTED, S.SCREEN_FAILED):
        return "They take part from consent on in this study. Record a withdrawal instead."
    if new in TRANSITIONS[old] and (is_allocated or new is not S.RANDOMISED):
        return None
    if not is_allocated and (old, new) == (S.CONSENTED, S.COMPLETED):
        return None
    if not is_allocated and new is S.RANDOMISED:
        return "This study allocates no arms. Go on with the visits."
    if old in _ENDED:
        return _ENDED[old]
    if old is S.LOST:
        return f"{_NOW[old]} Once somebody reaches them, record that they were found."
    return _NOW[old] if old is new else f"{_NOW[old]} {_FIRST[new]}"


def why_not_after_death(participant: str, status: Status, fatal_event: int | None) -> str | None:
    """Why nobody is randomised and nothing is booked any more: who died, or of whom a fatal event stands; or None."""
    if status is S.DIED:
        return f"{participant} has died. Nothing is planned for them any more."
    if fatal_event is not None:
        return (
            f"Adverse event {fatal_event} of {participant} was fatal. Record the death on the participant's page; "
            "or, if that is wrong, correct the event."
        )
    return None


def why_not_back(old: Status, to: Status) -> str | None:
    """Why a participant cannot stand again where they stood before they were lost, completed or dead; or None."""
    if old not in (S.LOST, S.DIED, S.COMPLETED):
        return "This participant is neither lost, nor recorded as dead, nor through. Nothing is left to do."
    before = TRANSITIONS[to] | ({S.COMPLETED} if to is S.CONSENTED else set())  # without arms one completes from there
    return None if old in before else "Nobody is lost, dies or completes the study from there. Check the record."


def why_not_randomised_on_paper(old: Status) -> str | None:
    """Why a randomisation that happened on paper cannot be entered, or None: nobody is randomised twice."""
    if old in (S.RANDOMISED, S.COMPLETED):
        return _NOW[S.RANDOMISED]
    return None


def status_after_paper(old: Status) -> Status:
    """Randomised it is, also in error (it is analysed, never erased); whoever has left the study since stays so."""
    return old if old in (S.WITHDRAWN, S.LOST, S.DIED) else S.RANDOMISED


def status_after_withdrawal(status: Status, level: WithdrawalLevel) -> Status:
    """Stopping treatment is not leaving the study: visits go on (ICH E9(R1) A.3.1). Before randomisation both are."""
    return status if status is S.RANDOMISED and not level.stops_visits else S.WITHDRAWN


def why_not_withdraw(status: Status, current_level: str | None, level: WithdrawalLevel) -> str | None:
    """Why this withdrawal cannot be recorded, or None."""
    if current_level == level.code:
        return "This withdrawal is recorded already. Nothing is left to do."
    after = status_after_withdrawal(status, level)
    return None if after is status and status is S.RANDOMISED else why_not_transition(status, after)


def why_not_erase(status: Status, *, erased: bool) -> str | None:
    """Why the personal data cannot be erased, or None. Those who take part must be reachable (safety)."""
    if erased:
        return "The personal data of this participant are erased already. Nothing is left to do."
    if status in ENDED:
        return None
    return "This participant takes part, so the site must be able to reach them. Record their withdrawal first."


def why_not_contact(level: WithdrawalLevel | None) -> str | None:
    """Why no reminder, mail or call may go to somebody who withdrew this far (None: not at all), or None."""
    if level is not None and (level.stops_contact or level.erases_identity):
        return f"They withdrew: {level.label}. Nobody contacts them any more."
    return None


def withdrawal_level(study: Study, code: str) -> WithdrawalLevel | None:
    """The level with this code."""
    return next((level for level in study.withdrawal_levels if level.code == code), None)
