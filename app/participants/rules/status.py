"""Which status may follow which? The order of a trial, enforced (21 CFR 11.10(f))."""

from datetime import date

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


def why_not_withdraw(status: Status, current: WithdrawalLevel | None, level: WithdrawalLevel) -> str | None:
    """Why this withdrawal cannot be recorded, or None. `current` is how far they withdrew until now.

    Somebody who has withdrawn, or completed the study, may go further, never less far: stop visits, then contact, then
    use, then have who they are erased.
    """
    if current is not None and current.code == level.code:
        return "This withdrawal is recorded already. Nothing is left to do."
    if current is not None and not _goes_further(current, level):
        return f"They withdrew as far as this already: {current.label}. Choose a level that goes further."
    if status is S.WITHDRAWN:
        return None
    if status is S.COMPLETED:
        if level.effects & _AFTER_COMPLETION:
            return None
        return (
            "This participant has completed the study, so no visit is left to stop. Choose a level that also ends "
            "contact, ends the use of what is collected, or erases who they are."
        )
    after = status_after_withdrawal(status, level)
    return None if after is status and status is S.RANDOMISED else why_not_transition(status, after)


_AFTER_COMPLETION = frozenset({"stops_contact", "stops_use", "erases_identity"})


def _goes_further(current: WithdrawalLevel, level: WithdrawalLevel) -> bool:
    """Whether a level stops more than the one that holds, and takes back nothing that it stops."""
    lasting = current.effects & _AFTER_COMPLETION  # sessions and visits that were stopped stay so
    return lasting <= level.effects and not level.effects <= current.effects


def why_not_take_back(status: Status, level: str | None, *, erased: bool) -> str | None:
    """Why a withdrawal that was recorded by mistake cannot be taken back, or None."""
    if level is None:
        return "No withdrawal is recorded of this participant. Nothing is left to do."
    if erased:
        return "The personal data of this participant were erased, which cannot be undone. The withdrawal stands."
    if status is S.DIED:
        return "This participant is recorded as dead. Correct the record of the death first."
    return None


def status_before_withdrawal(status: Status, *, consented: bool, randomised: bool) -> Status:
    """Where somebody stands whose withdrawal is taken back: as far as they had come; only `withdrawn` changes."""
    if status is not S.WITHDRAWN:
        return status
    return S.RANDOMISED if randomised else S.CONSENTED if consented else S.SCREENED


def why_not_stop_treatment(status: Status, stopped_on: date | None) -> str | None:
    """Why it cannot be recorded that treatment was stopped, or None. Who stops treatment stays in follow-up."""
    if stopped_on is not None:
        return "Treatment was stopped already. If the day or the reason is wrong, say first that it goes on."
    if status in (S.RANDOMISED, S.LOST):
        return None
    return _ENDED.get(status) or "This participant is not randomised, so there is no treatment to stop."


def why_not_resume_treatment(status: Status, stopped_on: date | None, level: WithdrawalLevel | None) -> str | None:
    """Why it cannot be recorded that treatment goes on after all, or None."""
    if stopped_on is None:
        return "Treatment is not recorded as stopped. Nothing is left to do."
    if level is not None and "stops_treatment" in level.effects:
        return f"The participant withdrew: {level.label}. If that is a mistake, their coordinator takes that back."
    return None if status in (S.RANDOMISED, S.LOST) else _ENDED.get(status)


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
