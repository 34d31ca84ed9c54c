"""How is a form entered twice? Blind to the first; and the queue, one pair, settled, how far both agree."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fastapi.responses import JSONResponse, RedirectResponse, Response

from app.capture.actions import drop_draft as drop_draft_of
from app.capture.coding.following import TERM_OF_EVENT
from app.capture.double import actions, reads
from app.capture.double.actions import Decision
from app.capture.double.reads import Agreement, Answer, Line
from app.capture.double.rules import Chosen, State, why_not_reconcile, why_not_second
from app.capture.rules import EntryState
from app.capture.typed import parse_typed
from app.dependencies import ChangeInStudy, Here, PageInStudy, SameAgainInStudy, TypedForm
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.foundation.languages import translations
from app.people.access import may, require, why_not
from app.people.permissions import Permission
from app.rendering import decimal
from app.web.entries import (
    SAVE_AS,
    Spot,
    asked_here,
    form_page,
    judged_look,
    keep_draft_at,
    lists,
    number,
    spot_of,
    unseen_draft,
)
from app.web.items import item_views
from app.web.pages import pages
from app.web.places import places_of, show_at
from app.web.shell import status_of
from app.web.tables import address, typed_text
from app.web.visits import visit_url
from app.wording import said

router = pages()

SECOND = "/{study}/participants/{code}/visits/{visit}/entries/{instrument}/second"
CHOOSE, WHY = "choose-", "why-"


# The second entry


@dataclass(frozen=True)
class SecondSpot(Spot):
    """The same form as if nothing had been entered in it: nothing on its pages comes from the first entry."""

    @property
    def url(self) -> str:
        return f"{self.visit_url}/entries/{self.instrument.code}/second"

    @property
    def is_second(self) -> bool:
        return True

    @property
    def entry(self) -> EntryState | None:
        return None

    @cached_property
    def why_not_enter(self) -> str | None:
        pair = self.pair
        return self.closed_to() or why_not_second(
            pair.state if pair else None, pair.first_by if pair else "", by=self.here.actor
        )


def _second(here: Here, code: str, visit: str, instrument: str) -> SecondSpot:
    """NotFound where the form is not entered twice; otherwise the place of the second entry."""
    spot = spot_of(here, code, visit, instrument)
    if not here.the_study.definition.is_entered_twice(visit, instrument) or not spot.place.is_scheduled:
        raise NotFound
    action, subject = "entry.enter_second", f"{spot.participant.code}/entry/{visit}/{instrument}"
    require(here.actor, Permission.ENTRY_SAVE, site_id=spot.participant.site_id, action=action, subject=subject)
    return SecondSpot(here, spot.participant, spot.planned, spot.instrument)


@router.get(SECOND, name="double.second_form")
def second_form(here: PageInStudy, code: str, visit: str, instrument: str) -> Response:
    """The empty form, to enter the paper a second time; or why this person does not."""
    spot = _second(here, code, visit, instrument)
    if spot.pair is None:
        return RedirectResponse(spot.url.removesuffix("/second"), status_code=303)
    if spot.why_not_enter is not None:
        raise Refused(spot.why_not_enter)
    return form_page(spot)


@router.post(SECOND, name="double.second")
def second(here: ChangeInStudy, code: str, visit: str, instrument: str) -> Response:
    """Enter the form the second time; what stands against it is said at the questions, never from the first entry."""
    spot = _second(here, code, visit, instrument)
    typed = parse_typed(spot.instrument, lists(here.form), language=spot.reader)
    if (other := unseen_draft(spot)) is not None:
        here.release_key()
        here.shows()
        return form_page(spot, typed=lists(here.form), elsewhere=other)
    try:
        entered = actions.enter_second(
            here.session,
            here.the_study,
            spot.participant,
            visit=visit,
            instrument=instrument,
            values=typed.values,
            reasons=typed.reasons,
            by=here.actor,
            now=here.now,
            accept_partial=here.value(SAVE_AS) == "partial",
            problems=asked_here(spot, typed),
        )
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return form_page(spot, typed=lists(here.form), problem=problem)
    same = entered.state is State.AGREED
    return here.redirect(spot.visit_url, done="entered_twice" if same else "entered_twice_differs")


@router.post(SECOND + "/look", name="double.look")
def look(here: PageInStudy, form: TypedForm, code: str, visit: str, instrument: str) -> Response:
    """What is hidden, and what does not hold, in answers of a second entry that are not saved yet."""
    return JSONResponse(judged_look(_second(here, code, visit, instrument), form))


@router.put(SECOND + "/draft", name="double.keep_draft")
def keep_draft(here: SameAgainInStudy, code: str, visit: str, instrument: str) -> Response:
    """Keep what is typed so far of a second entry, for this person alone."""
    return keep_draft_at(_second(here, code, visit, instrument))


@router.post(SECOND + "/draft", name="double.drop_draft")
def drop_draft(here: ChangeInStudy, code: str, visit: str, instrument: str) -> Response:
    """Throw the draft of a second entry away."""
    spot = _second(here, code, visit, instrument)
    drop_draft_of(here.session, spot.participant_id, visit=visit, instrument=instrument, by=here.actor)
    return here.redirect(spot.url, done="draft_dropped")


@router.get(SECOND + "/draft", name="double.draft")
def draft(here: PageInStudy, code: str, visit: str, instrument: str) -> Response:
    """The form shows the draft; there is no other page of it."""
    return RedirectResponse(_second(here, code, visit, instrument).url, status_code=303)


# The queue, and how far both agree


@router.get("/{study}/double", name="double.forms")
def forms(here: PageInStudy) -> Response:
    """The forms that are entered twice, at my sites: those that wait for their second entry, or are to be settled."""
    require(here.actor, Permission.ENTRY_READ)
    query = {name: typed_text(here.request.query_params.get(name), 400) or None for name in ("state", "site", "after")}
    places, path = places_of(here), f"/{here.the_study.code}/double"
    if query["site"] is None and places.chosen is not None:
        query["site"] = places.chosen.code
    state = State(query["state"]) if query["state"] in set(State) else None
    page = reads.queue(
        here.session,
        here.the_study,
        by=here.actor,
        state=state,
        site=query["site"] if query["site"] != "all" else None,
        cursor=query["after"],
    )
    return show_at(
        here,
        places,
        "double/forms.html",
        url=path,
        state=state,
        states=list(State),
        counts=reads.counts(here.session, here.the_study, by=here.actor),
        active=sum(1 for name in ("state", "site") if query[name]),
        sites=[(each.code, f"{each.code} {each.name}") for each in places.sites],
        site=query["site"] or "all",
        rows=[_line(here, each) for each in page.rows],
        newer=address(path, query, after=page.previous) if page.previous else None,
        older=address(path, query, after=page.next) if page.next else None,
        may_agree=may(here.actor, Permission.AGREEMENT_READ),
        timezone=places.timezone(),
    )


@router.get("/{study}/double/agreement", name="double.agreement")
def agreement(here: PageInStudy) -> Response:
    """How far first and second entries agree: percent and kappa, by form and item, and by site."""
    require(here.actor, Permission.AGREEMENT_READ)
    query = {name: typed_text(here.request.query_params.get(name), 400) or None for name in ("by", "form", "after")}
    path = f"/{here.the_study.code}/double/agreement"
    page = reads.agreement_page(
        here.session,
        here.the_study,
        by=here.actor,
        by_site=query["by"] == "site",
        instrument=query["form"],
        cursor=query["after"],
    )
    definition = here.the_study.definition
    twice = [
        (form.code, form.label)
        for form in definition.instruments
        if any(definition.is_entered_twice(visit.code, form.code) for visit in definition.visits)
    ]
    return show_at(
        here,
        places_of(here),
        "double/agreement.html",
        url=path,
        query=query,
        forms=twice,
        rows=[agreement_row(here, each) for each in page.rows],
        newer=address(path, query, after=page.previous) if page.previous else None,
        older=address(path, query, after=page.next) if page.next else None,
        queue_url=f"/{here.the_study.code}/double",
    )


def agreement_row(here: Here, each: Agreement) -> dict[str, Any]:
    """One line of agreement in words: which form and item, and the figures as they are printed."""
    form = here.the_study.definition.instrument(each.instrument)
    item = form.item(each.item) if form else None
    figures: list[str | None] = [None, None]
    gettext = translations(here.language).gettext
    for place, found in enumerate((each.kappa, each.weighted)):
        if found is not None:
            ends = {name: decimal(getattr(found, name), 2, here.language) for name in ("value", "low", "high")}
            figures[place] = gettext("{value} ({low} to {high})").format(**ends)
    return {
        "form": (form.short or form.label) if form else each.instrument or None,
        "item": item.label if item else None if each.item == TERM_OF_EVENT else each.item,
        "site": each.site,
        "compared": each.compared,
        "agreeing": each.agreeing,
        "percent": decimal(each.percent, 1, here.language),
        "kappa": figures[0],
        "weighted": figures[1],
    }


def _line(here: Here, line: Line) -> dict[str, Any]:
    definition = here.the_study.at(line.site_id).definition
    visit, form = definition.visit(line.visit), definition.instrument(line.instrument)
    root = f"{visit_url(here, line.participant, line.visit)}/entries/{line.instrument}"
    waits = line.state is State.AWAITS_SECOND
    mine = (
        waits
        and may(here.actor, Permission.ENTRY_SAVE, site_id=line.site_id)
        and why_not_second(line.state, line.first_by, by=here.actor) is None
    )
    settles = why_not_reconcile(definition, line.state, line.second_by, by=here.actor) is None and may(
        here.actor, Permission.ENTRY_RECONCILE, site_id=line.site_id
    )
    return {
        "line": line,
        "visit": visit.label if visit else line.visit,
        "form": form.label if form else line.instrument,
        "url": f"{root}/second"
        if mine
        else f"{root}/record"
        if waits
        else f"/{here.the_study.code}/double/{line.number}",
        "mine": mine,
        "settles": settles,
    }


# One pair


@router.get("/{study}/double/{number}", name="double.pair")
def pair(here: PageInStudy, number: int) -> Response:
    """What both entered where they differ, and what was settled; the form to settle it for who may."""
    return _pair_page(here, _known(here, number))


@router.get("/{study}/double/{number}/reconcile", name="double.reconcile_form")
def reconcile_form(here: PageInStudy, number: int) -> Response:
    """Where somebody lands who goes on without sending the form again: the pair."""
    _known(here, number)
    return RedirectResponse(f"/{here.the_study.code}/double/{number}", status_code=303)


@router.post("/{study}/double/{number}/reconcile", name="double.reconcile")
def reconcile(here: ChangeInStudy, number: int) -> Response:
    """Settle every difference, each with its reason."""
    line = _known(here, number)
    subject = f"{line.participant}/double/{line.visit}/{line.instrument}"
    require(here.actor, Permission.ENTRY_RECONCILE, site_id=line.site_id, action="entry.reconcile", subject=subject)
    form = here.the_study.at(line.site_id).definition.instrument(line.instrument)
    if form is None:
        raise NotFound
    typed = parse_typed(form, lists(here.form), language=here.language)
    decisions, wrong = {}, []
    for each in reads.answers_in(here.session, here.the_study, line, by=here.actor):
        chosen = here.value(CHOOSE + each.item)
        if each.agrees or chosen not in set(Chosen):
            continue
        decisions[each.item] = Decision(Chosen(chosen), here.value(WHY + each.item), typed.values.get(each.item))
        if chosen == Chosen.OTHER:
            wrong += [problem for problem in typed.problems if problem.field == each.item]
    try:
        actions.reconcile(
            here.session,
            here.the_study,
            number,
            decisions=decisions,
            version=_number(here.value("version")),
            by=here.actor,
            now=here.now,
            problems=wrong,
        )
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return _pair_page(here, line, problem)
    return here.redirect(f"/{here.the_study.code}/double/{number}", done="differences_settled")


def _known(here: Here, number: int) -> Line:
    require(here.actor, Permission.ENTRY_READ)
    if not 0 <= number < 2**31:
        raise NotFound
    return reads.line_of(here.session, here.the_study, number, by=here.actor)


def _number(text: str) -> int:
    return max(number(text), 0)


def _pair_page(here: Here, line: Line, problem: Invalid | Conflict | Refused | None = None) -> Response:
    definition, places = here.the_study.at(line.site_id).definition, places_of(here)
    form, visit = definition.instrument(line.instrument), definition.visit(line.visit)
    if form is None or visit is None:
        raise NotFound
    answers = reads.answers_in(here.session, here.the_study, line, by=here.actor)
    problems = list(problem.problems) if isinstance(problem, Invalid) else []
    reason = why_not(here.actor, Permission.ENTRY_RECONCILE, site_id=line.site_id) or why_not_reconcile(
        definition, line.state, line.second_by, by=here.actor
    )
    views = item_views(
        form.items,
        lists(here.form) if problem else {},
        problems=problems,
        missing_codes=definition.missing_codes,
        language=here.language,
    )

    def row(each: Answer) -> dict[str, Any]:
        item = form.item(each.item)

        def words(value: object) -> str:
            if item is None or value is None:
                return "" if value is None else str(value)
            return said(item, value, definition.missing_codes, here.language)

        return {
            "answer": each,
            "item": item,
            "view": views.get(each.item),
            "label": item.label if item else each.item,
            "first": words(each.first),
            "second": words(each.second),
            "settled": words(each.settled),
            "chosen": here.value(CHOOSE + each.item) if problem else "",
            "why": here.value(WHY + each.item) if problem else "",
            "why_error": next((one.message for one in problems if one.field == f"{each.item}__settled"), None),
        }

    differing = [row(each) for each in answers if not each.agrees and form.item(each.item) is not None]
    known = {each["answer"].item for each in differing}
    return show_at(
        here,
        places,
        "double/pair.html",
        status_code=status_of(problem),
        line=line,
        form=form,
        visit=visit,
        record_url=f"{visit_url(here, line.participant, line.visit)}/entries/{line.instrument}/record",
        url=f"/{here.the_study.code}/double/{line.number}",
        queue_url=f"/{here.the_study.code}/double",
        differing=differing,
        agreeing=sum(each.agrees for each in answers),
        version=reads.version_of(here.session, line.number),
        reason=reason,
        refusal=problem.reason if problem is not None and not isinstance(problem, Invalid) else None,
        problems=[(_anchor(each, known), each.message) for each in problems],
        timezone=places.timezone(line.site_id),
    )


def _anchor(problem: FieldProblem, known: set[str]) -> str | None:
    field = problem.field
    if field.removesuffix("__settled") in known and field.endswith("__settled"):
        return WHY + field.removesuffix("__settled")
    return f"settle-{field}" if field in known else None
