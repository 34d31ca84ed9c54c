"""A pre-screen once it is kept: what was answered and every value it had, and the form that corrects it."""

from collections.abc import Mapping
from typing import Any

from fastapi.responses import Response

from app.capture.locks.reads import covering
from app.capture.locks.rules import why_closed
from app.capture.typed import WHY, Typed, missing_code, parse_typed, typed_form
from app.dependencies import ChangeInStudy, Here, PageInStudy
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.participants.corrections.actions import CORRECT, Asked, judged_correction
from app.participants.corrections.reads import CORRECTED, history, screening_of
from app.participants.corrections.rules import Correction, answer_changes, chosen_reason
from app.participants.models import Participant
from app.participants.reads import ScreeningResult, participant_by_code
from app.participants.status import Status
from app.people.access import may, require, why_not
from app.people.permissions import Permission
from app.safety.screening import correct_screening
from app.studies.definition import Instrument, Item, ItemType, Study
from app.studies.reads import as_read, definition
from app.web.items import item_views
from app.web.pages import pages
from app.web.places import places_of, show_at
from app.web.randomisation import allotted
from app.web.shell import status_of
from app.wording import said

router = pages()

SCREENING = "/{study}/participants/{code}/screening"
# The form's own fields. No item code has a dot.
VERSION, REASON, FAILURE, FOLLOWS, STEP = (
    f"screening.{name}" for name in ("version", "why", "failure_reason", "follows", "step")
)
OURS = ("csrf_token", STEP, FOLLOWS)


@router.get(SCREENING, name="screening.show")
def show(here: PageInStudy, code: str) -> Response:
    """What was answered at screening as it stands, what it says of each criterion, and every value it had."""
    participant, kept = _kept(here, code, Permission.ENTRY_READ)
    places, (own, form) = places_of(here), _form_of(here, kept)
    lines = history(here.session, here.the_study, participant.code)
    corrected = {line.item for line in lines if line.action == CORRECTED}
    known = {item.code: item for item in form.items}
    told = [(line, known.get(line.item)) for line in reversed(lines) if line.item]
    return show_at(
        here,
        places,
        "screening/show.html",
        participant=participant,
        url=_url(here, participant),
        screening=kept,
        version=own.version,
        sections=[
            {
                "label": section.label or form.label,
                "rows": [
                    _row(here, own, item, kept.answers, changed=item.code in corrected)
                    for item in section.items
                    if item.type is not ItemType.CALCULATED
                ],
            }
            for section in form.sections
        ],
        lines=[
            {
                "line": line,
                "label": item.label if item else line.item,
                "was": said(item, line.old, own.missing_codes, here.language) if item else line.old,
                "now": said(item, line.new, own.missing_codes, here.language) if item else line.new,
            }
            for line, item in told
        ],
        moved=_moved(here, participant, kept.moved_levels),
        why_not_correct=why_not(here.actor, Permission.PARTICIPANT_SCREEN, site_id=participant.site_id)
        or _why_closed(here, participant),
        may_correct=may(here.actor, Permission.PARTICIPANT_SCREEN, site_id=participant.site_id),
        timezone=places.timezone(participant.site_id),
    )


@router.get(SCREENING + "/correction", name="screening.correct_form")
def correct_form(here: PageInStudy, code: str) -> Response:
    """The form that corrects the answers of a pre-screen, with what stands in it."""
    participant, kept = _kept(here, code, Permission.PARTICIPANT_SCREEN)
    return _form_page(here, participant, kept)


@router.post(SCREENING + "/correction", name="screening.correct")
def correct(here: ChangeInStudy, code: str) -> Response:
    """Correct the answers; where more follows than another answer, only once that was shown."""
    participant, kept = _kept(here, code, Permission.PARTICIPANT_SCREEN)
    _, form = _form_of(here, kept)
    typed = parse_typed(form, {name: list(texts) for name, texts in here.form.items()}, language=here.language)
    if here.value(STEP) == "back":
        here.release_key()
        here.shows()
        return _form_page(here, participant, kept, typed=typed)
    asked = Asked(
        typed.values,
        here.value(FAILURE) if FAILURE in here.form else None,
        here.number(VERSION),
        here.value(REASON),
    )
    unread = [each for each in typed.problems if not each.field.endswith(WHY)]
    lot, by, now = (lambda answers: allotted(here, participant, answers)), here.actor, here.now
    try:
        if unread:
            raise Invalid(unread)
        _, made = judged_correction(here.session, here.the_study, participant, asked, lot=lot, by=by)
        if made is not None and made.follows and made.follows != here.value(FOLLOWS):
            here.release_key()
            here.shows()
            return _follows_page(here, participant, kept, made)
        correct_screening(here.session, here.the_study, participant, asked, lot=lot, by=by, now=now)
    except (Invalid, Refused, Conflict) as problem:
        here.refuse(problem)
        participant, kept = _kept(here, code, Permission.PARTICIPANT_SCREEN)
        return _form_page(here, participant, kept, typed=typed, problem=problem)
    return here.redirect(_url(here, participant), done="screening_corrected")


def _kept(here: Here, code: str, permission: Permission) -> tuple[Participant, ScreeningResult]:
    """The participant and their pre-screen, for who holds the permission where they are seen."""
    participant = participant_by_code(here.session, here.the_study, code, by=here.actor)
    where = {"action": CORRECT, "subject": f"{participant.code}/screening"}
    require(here.actor, permission, site_id=participant.site_id, **where)
    assert participant.id is not None
    kept, _ = screening_of(here.session, participant.id)
    if kept is None:
        raise NotFound
    return participant, kept


def _form_of(here: Here, kept: ScreeningResult) -> tuple[Study, Instrument]:
    """The version of the study that somebody was screened under, and its questions as they are read."""
    own = definition(here.session, kept.study_version_id)
    worded = here.in_words(own)
    form = worded.instrument(own.eligibility.instrument)
    if form is None:
        raise NotFound
    language = own.language if here.in_study_words else here.language
    return worded, as_read(here.session, here.the_study.id, form, language, own=own.language)


def _url(here: Here, participant: Participant) -> str:
    return f"/{here.the_study.code}/participants/{participant.code}"


def _why_closed(here: Here, participant: Participant) -> str | None:
    """Why nothing of this participant changes, or None."""
    assert participant.id is not None
    return why_closed(here.the_study.definition, covering(here.session, here.the_study, participant.id, ""))


def _row(here: Here, own: Study, item: Item, answers: Mapping[str, Any], *, changed: bool) -> dict[str, Any]:
    value = answers.get(item.code)
    return {
        "label": item.label,
        "value": said(item, value, own.missing_codes, here.language),
        "is_missing": missing_code(value) is not None,
        "unit": item.unit,
        "changed": changed,
    }


def _moved(
    here: Here, participant: Participant, moved: Mapping[str, tuple[str, str | None]]
) -> list[tuple[str, str, str]]:
    """The factors of the stratum of which the answers say another level: what it is called, as randomised, and now."""
    here_now = here.the_study.at(participant.site_id).definition
    stage = here_now.allocation.first_stage
    factors = {each.code: each for each in (*(stage.strata if stage else ()), *here_now.allocation.strata)}
    told = []
    for code, levels in moved.items():
        factor = factors.get(code)
        labels = {level.code: level.label for level in factor.levels} if factor else {}
        was, now = (labels.get(level or "", level or "–") for level in levels)
        told.append((factor.label if factor else code, was, now))
    return told


def _form_page(
    here: Here,
    participant: Participant,
    kept: ScreeningResult,
    *,
    typed: Typed | None = None,
    problem: Invalid | Refused | Conflict | None = None,
) -> Response:
    own, form = _form_of(here, kept)
    known = {item.code for item in form.items}
    problems = [
        FieldProblem(each.field if each.field in known else f"screening.{each.field}", each.rule, each.message)
        for each in (problem.problems if isinstance(problem, Invalid) else ())
    ]
    filled: Mapping[str, Any] = here.form if typed else typed_form(form, kept.answers, language=here.language)
    # What stands is said beside whatever was typed otherwise, so that both are seen.
    differs = {each.code for each in answer_changes(kept.answers, typed.values)} if typed else set()
    unread = {each.field for each in typed.problems} if typed else set()
    views = item_views(
        form.items,
        filled,
        problems=problems,
        missing_codes=own.missing_codes,
        saved={
            item.code: said(item, kept.answers.get(item.code), own.missing_codes, here.language)
            for item in form.items
            if item.code in differs | unread
        },
        language=here.language,
    )
    return show_at(
        here,
        places_of(here),
        "screening/correct.html",
        status_code=status_of(problem),
        participant=participant,
        url=_url(here, participant),
        screening=kept,
        sections=[
            {
                "label": section.label or form.label,
                "pairs": [(item, views[item.code]) for item in section.items if item.type is not ItemType.CALCULATED],
            }
            for section in form.sections
        ],
        version=kept.version,
        refused=problem.reason if isinstance(problem, Refused) else None,
        conflict=problem.reason if isinstance(problem, Conflict) else None,
        problems=[(f"item-{each.field}" if each.field in known else each.field, each.message) for each in problems],
        errors={each.field: each.message for each in problems},
        why=here.value(REASON),
        is_failure=participant.status == Status.SCREEN_FAILED,
        reasons=[(choice.code, choice.label) for choice in own.screen_failure_reasons],
        failure_reason=here.value(FAILURE)
        if FAILURE in here.form
        else chosen_reason(own, kept.failure_reason, None) or "",
        why_not=_why_closed(here, participant),
    )


def _follows_page(here: Here, participant: Participant, kept: ScreeningResult, made: Correction) -> Response:
    """What follows from a correction beside other answers, before anything is kept."""
    own, form = _form_of(here, kept)
    known = {item.code: item for item in form.items}
    return show_at(
        here,
        places_of(here),
        "screening/follows.html",
        participant=participant,
        url=_url(here, participant),
        follows=made.follows,
        status=made.status.value if made.status is not made.status_before else "",
        is_deviation=made.is_deviation,
        eligibility=made.eligibility,
        moved=_moved(here, participant, made.moved),
        changes=[
            {
                "label": known[each.code].label,
                "was": said(known[each.code], each.old, own.missing_codes, here.language),
                "now": said(known[each.code], each.new, own.missing_codes, here.language),
            }
            for each in made.changes
            if each.code in known
        ],
        kept=[(name, value) for name, values in here.form.items() if name not in OURS for value in values],
    )
