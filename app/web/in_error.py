"""Randomised in error: the form that records it, or corrects what was recorded. The allocation stays as it is."""

from typing import Any

from fastapi.responses import Response

from app.dependencies import ChangeInStudy, Here, PageInStudy
from app.foundation.errors import Conflict, Invalid, NotFound, Refused
from app.participants.in_error import actions
from app.participants.in_error.reads import InError, records_of
from app.participants.in_error.rules import levels_of, reasons_to_choose, why_not_record
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.access import require
from app.people.permissions import Permission
from app.people.reads import sites_of
from app.web.pages import pages
from app.web.places import places_of, show_at, typed_day
from app.web.shell import errors_of, status_of

router = pages()

FACTOR = "should_have_been."  # stands before a factor's code in the form


@router.get("/{study}/participants/{code}/in-error", name="in_error.record_form")
def record_form(here: PageInStudy, code: str) -> Response:
    """What recording it does and does not do, and what is asked for it."""
    return _page(here, _participant(here, code))


@router.post("/{study}/participants/{code}/in-error", name="in_error.record")
def record(here: ChangeInStudy, code: str) -> Response:
    """Record that somebody was randomised in error, or correct what was recorded."""
    participant = _participant(here, code)
    corrects = here.value("corrects")
    try:
        actions.record_in_error(
            here.session,
            here.the_study,
            participant,
            reason=here.value("reason"),
            why=here.value("why"),
            found_on=typed_day(here.value("found_on"), "found_on"),
            should_have_been={
                name.removeprefix(FACTOR): here.value(name) for name in here.form if name.startswith(FACTOR)
            },
            corrects=int(corrects) if corrects.isdecimal() and len(corrects) < 10 else None,
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        return _page(here, participant, problem=problem)
    return here.redirect(_url(here, participant), done="in_error_recorded")


def _participant(here: Here, code: str) -> Participant:
    """The participant of the address, for those who may record it at their site; nobody in a study without arms."""
    if not here.the_study.definition.is_allocated:
        raise NotFound
    participant = participant_by_code(here.session, here.the_study, code, by=here.actor)
    where = {"subject": f"{participant.code}/randomised_in_error", "action": actions.RECORD}
    require(here.actor, Permission.PARTICIPANT_RECORD_ERROR, site_id=participant.site_id, **where)
    return participant


def _url(here: Here, participant: Participant) -> str:
    return f"/{here.the_study.code}/participants/{participant.code}"


def _page(here: Here, participant: Participant, *, problem: Invalid | Refused | Conflict | None = None) -> Response:
    assert participant.id is not None
    places = places_of(here)
    records = records_of(here.session, participant.id)
    last = records[-1] if records else None
    sites = [site.code for site in sites_of(here.session, here.the_study.id)]
    strata = here.the_study.definition.allocation.strata
    return show_at(
        here,
        places,
        "in_error/record.html",
        status_code=status_of(problem),
        participant=participant,
        url=_url(here, participant),
        why_not=why_not_record(participant.code, participant.randomised_on),
        refused=problem.reason if isinstance(problem, Refused | Conflict) else None,
        errors=errors_of(problem),
        reasons=[reason.value for reason in reasons_to_choose(last.reason if last else None)],
        factors=[
            (f"{FACTOR}{factor.code}", factor.label, _levels(factor, levels_of(factor, sites))) for factor in strata
        ],
        records=rows_of(here, records),
        last=last,
        values=_values(here, last),
        today=places.today(here, participant.site_id),
        timezone=places.timezone(participant.site_id),
    )


def _levels(factor: Any, codes: tuple[str, ...]) -> list[tuple[str, str]]:
    labels = {level.code: level.label for level in factor.levels}
    return [(code, labels.get(code, code)) for code in codes]


def _values(here: Here, last: InError | None) -> dict[str, str]:
    """What was typed; at first, what stands until now, so that a correction changes only what was wrong."""
    if here.form:
        return {name: here.value(name) for name in here.form}
    if last is None:
        return {}
    should = {f"{FACTOR}{code}": level for code, level in last.should_have_been.items()}
    return {"reason": last.reason.value, "why": last.why, "found_on": last.found_on.isoformat(), **should}


def rows_of(here: Here, records: tuple[InError, ...]) -> list[dict[str, Any]]:
    """Each record as pages list it, the newest first, with the levels of the stratum in words."""
    factors = {factor.code: factor for factor in here.the_study.definition.allocation.strata}
    return [
        {
            "record": record,
            "should_have_been": [
                (factors[code].label, dict(_levels(factors[code], (level,)))[level])
                if code in factors
                else (code, level)
                for code, level in record.should_have_been.items()
            ],
        }
        for record in reversed(records)
    ]
