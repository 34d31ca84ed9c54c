"""Door: from the gates to the allocation. What the blinded see of it is a number, and that it was made."""

from collections.abc import Mapping
from typing import Any

from fastapi.responses import RedirectResponse, Response

from app.consent.reads import consents_of
from app.consent.rules import is_waiting
from app.dependencies import (
    ChangeInStudy,
    ChangeInTurn,
    Here,
    PageInStudy,
    newest_entry,
    remembering,
    require_password,
)
from app.foundation.errors import Conflict, Invalid, NotFound, Refused
from app.participants.corrections.rules import Allotted
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.participants.status import Status
from app.people.access import may, require, why_not
from app.people.permissions import Permission
from app.randomisation import actions, reads
from app.randomisation.reads import (
    AtTheGates,
    allocation_of,
    first_stage_gates_of,
    first_stage_of,
    gates_of,
    stage_of,
    standing,
)
from app.randomisation.rules import Gate, baseline_entries, why_not_ready
from app.schedule.reads import visits_of
from app.studies.definition import FirstStage
from app.web.pages import pages
from app.web.places import places_of, show_at
from app.web.shell import errors_of, status_of

router = pages()

RANDOMISE = "participant.randomise"


@router.get("/{study}/participants/{code}/randomise", name="randomisation.randomise_form")
def randomise_form(here: PageInStudy, code: str) -> Response:
    """What is still missing, or what will happen."""
    participant = _participant(here, code)
    assert participant.id is not None
    if allocation_of(here.session, participant.id) is not None:
        return RedirectResponse(_url(here, participant) + "/randomised", status_code=303)
    if stage_that_waits(here, participant) is not None:
        return _first_stage_page(here, participant)
    return _randomise_page(here, participant)


@router.post("/{study}/participants/{code}/randomise", name="randomisation.randomise")
def randomise(here: ChangeInTurn, code: str) -> Response:
    """Randomise, once and for all. The same form sent again leads to the same allocation.

    A form of the first stage says so, so that none of it is ever taken for the next step.
    """
    participant = _participant(here, code)
    if here.value("stage"):
        return _randomise_first(here, participant)
    where = {"subject": participant.code, "action": RANDOMISE}
    require(here.actor, Permission.PARTICIPANT_RANDOMISE, site_id=participant.site_id, **where)
    try:
        newest = newest_entry(here)
        passed = gates_of(here.session, here.the_study, participant, by=here.actor, now=here.now, newest=newest)
        if reason := why_not_ready(passed):
            raise Refused(reason, **where)
        require_password(here, here.form.get("password", [""])[-1])
        actions.randomise(here.session, here.the_study, participant, newest=newest, by=here.actor, now=here.now)
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        return _randomise_page(here, participant, problem=problem)
    return remembering(here, here.redirect(_url(here, participant) + "/randomised"))


def _randomise_first(here: ChangeInStudy, participant: Participant) -> Response:
    study, where = here.the_study, {"subject": participant.code, "action": actions.FIRST}
    require(here.actor, Permission.PARTICIPANT_RANDOMISE, site_id=participant.site_id, **where)
    if study.definition.allocation.first_stage is None:
        raise NotFound
    try:
        newest = newest_entry(here)
        passed = first_stage_gates_of(here.session, study, participant, by=here.actor, now=here.now, newest=newest)
        if reason := why_not_ready(passed):
            raise Refused(reason, **where)
        require_password(here, here.form.get("password", [""])[-1])
        actions.randomise_first(here.session, study, participant, newest=newest, by=here.actor, now=here.now)
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        return _first_stage_page(here, participant, problem=problem)
    return remembering(here, here.redirect(_url(here, participant), done="staged"))


@router.get("/{study}/participants/{code}/randomised", name="randomisation.randomised")
def randomised(here: PageInStudy, code: str) -> Response:
    """That it was done, and its number: all that anybody learns here."""
    participant = _participant(here, code)
    number = allocation_number(here, participant)
    if not number:
        return RedirectResponse(_url(here, participant) + "/randomise", status_code=303)
    return show_at(
        here,
        places_of(here),
        "randomisation/randomised.html",
        participant=participant,
        url=_url(here, participant),
        number=number,
    )


def allocation_number(here: Here, participant: Participant) -> str:
    """The number under which somebody was randomised, as pages write it, or '': all that the blinded may know of it."""
    assert participant.id is not None
    made = allocation_of(here.session, participant.id) if participant.randomised_on is not None else None
    return f"{made.number:04d}" if made else ""


def stage_that_waits(here: Here, participant: Participant) -> FirstStage | None:
    """The first stage, as long as this participant has it before them; None in a study without one."""
    assert participant.id is not None
    stage = here.the_study.definition.allocation.first_stage
    if stage is None or participant.randomised_on is not None or stage_of(here.session, participant.id) is not None:
        return None
    return stage


def why_not_left_out(here: Here, participant: Participant) -> str | None:
    """Why somebody is no screen failure who was given a group; nothing is asked in a study of one stage."""
    has_stages = here.the_study.definition.allocation.first_stage is not None
    return reads.why_not_left_out(here.session, participant) if has_stages else None


def allotted(here: Here, participant: Participant, answers: Mapping[str, Any]) -> Allotted:
    """Whether a participant has a place, and of which stratum they would be by these answers of their pre-screen."""
    return reads.allotted_of(here.session, here.the_study.at(participant.site_id), participant, answers)


def refuse_staged(here: Here, participant: Participant, *, action: str) -> None:
    """The same as a refusal, while the participant is held."""
    reads.refuse_staged(here.session, participant, action=action)


def _participant(here: Here, code: str) -> Participant:
    """The participant of the address; there is nobody to randomise in a study that only observes."""
    if not here.the_study.definition.is_allocated:
        raise NotFound
    return participant_by_code(here.session, here.the_study, code, by=here.actor)


def _url(here: Here, participant: Participant) -> str:
    return f"/{here.the_study.code}/participants/{participant.code}"


def _randomise_page(
    here: Here, participant: Participant, *, problem: Invalid | Refused | Conflict | None = None
) -> Response:
    study = here.the_study
    newest = newest_entry(here)
    passed = gates_of(here.session, study, participant, by=here.actor, now=here.now, newest=newest)
    stood = standing(here.session, study, participant, now=here.now)
    reason = why_not_ready(passed)
    changed = isinstance(problem, Conflict) or (isinstance(problem, Refused) and problem.reason != reason)
    return show_at(
        here,
        places_of(here),
        "randomisation/randomise.html",
        status_code=status_of(problem),
        participant=participant,
        url=_url(here, participant),
        gates=[_shown(here, participant, gate, stood) for gate in passed],
        closed=sum(not gate.open for gate in passed),
        why_not_ready=reason,
        why_not_allowed=why_not(here.actor, Permission.PARTICIPANT_RANDOMISE, site_id=participant.site_id),
        refused=problem.reason if problem and changed else None,
        errors=errors_of(problem),
        blinded=study.definition.blinded,
    )


def _first_stage_page(
    here: Here, participant: Participant, *, problem: Invalid | Refused | Conflict | None = None
) -> Response:
    study, newest = here.the_study, newest_entry(here)
    stage = study.definition.allocation.first_stage
    assert stage is not None
    passed = first_stage_gates_of(here.session, study, participant, by=here.actor, now=here.now, newest=newest)
    stood = standing(here.session, first_stage_of(study), participant, now=here.now, first=True)
    reason = why_not_ready(passed)
    changed = isinstance(problem, Conflict) or (isinstance(problem, Refused) and problem.reason != reason)
    return show_at(
        here,
        places_of(here),
        "randomisation/first_stage.html",
        status_code=status_of(problem),
        participant=participant,
        url=_url(here, participant),
        stage=stage,
        gates=[_shown(here, participant, gate, stood) for gate in passed],
        closed=sum(not gate.open for gate in passed),
        why_not_ready=reason,
        why_not_allowed=why_not(here.actor, Permission.PARTICIPANT_RANDOMISE, site_id=participant.site_id),
        refused=problem.reason if problem and changed else None,
        errors=errors_of(problem),
    )


def _shown(here: Here, participant: Participant, gate: Gate, stood: AtTheGates) -> dict[str, Any]:
    """A gate as the page lists it: open, or the reason and where it is mended."""
    url, action = _mended_at(here, participant, gate, stood) if not gate.open else ("", "")
    return {"label": gate.label, "reason": gate.reason, "url": url, "action": action}


def _mended_at(here: Here, participant: Participant, gate: Gate, stood: AtTheGates) -> tuple[str, str]:
    """Where somebody who may open a closed gate does so, and the words of the link; nothing when it is not theirs."""
    url, site_id = _url(here, participant), participant.site_id
    match gate.code:
        case "eligible":
            return url, "See the pre-screen"
        case "consented" if stood.facts.status == Status.WITHDRAWN:
            return "", ""
        case "consented" if may(here.actor, Permission.CONSENT_RECORD, site_id=site_id):
            assert participant.id is not None
            consents = consents_of(here.session, participant.id)
            waits = next((one for one in consents if is_waiting(one)), None)
            if waits is not None:
                return f"{url}/consents/{waits.id}/countersign", "Countersign consent"
            return f"{url}/consent", "Record consent"
        case "baseline" if may(here.actor, Permission.ENTRY_READ, site_id=site_id):
            wanted = baseline_entries(here.the_study.definition)
            lacking = [pair for pair in wanted if pair not in stood.facts.complete] or list(wanted)
            assert participant.id is not None
            # Before consent no visit has a date, and so no page: the gate of consent leads on from there.
            dated = {visit.code for visit in visits_of(here.session, participant.id)}
            return next(
                ((f"{url}/visits/{visit}", "Open the visit") for visit, _ in lacking if visit in dated), ("", "")
            )
        case "stage":
            return f"{url}/randomise", "Do this step"
        case "not_randomised":
            return f"{url}/randomised", "See the allocation"
    return "", ""
