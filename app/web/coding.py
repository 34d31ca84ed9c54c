"""How are texts coded? The queues, one text with its dictionary, settling, and how far two coders agree."""

from typing import Any

from fastapi.responses import RedirectResponse, Response

from app.capture.coding import actions, reads
from app.capture.coding.reads import Queue, Text
from app.capture.coding.rules import State, why_not_code, why_not_reconcile
from app.dependencies import ChangeInStudy, Here, PageInStudy
from app.foundation.errors import Conflict, Invalid, NotFound, Refused
from app.people.access import may, require, why_not
from app.people.permissions import Permission
from app.web.double import agreement_row
from app.web.entries import number as whole_number
from app.web.pages import pages
from app.web.places import places_of, show_at
from app.web.shell import errors_of, status_of
from app.web.tables import address, typed_text

router = pages()

GOES_ON = {"text_coded": Queue.TO_CODE, "text_settled": Queue.TO_RECONCILE}
"""In which queue somebody goes on who has just done this."""


@router.get("/{study}/coding", name="coding.texts")
def texts(here: PageInStudy) -> Response:
    """The texts of a queue: those I can code, unless I look for others."""
    require(here.actor, Permission.TEXT_CODE)
    query = {name: typed_text(here.request.query_params.get(name), 400) or None for name in ("queue", "after")}
    path, places = f"/{here.the_study.code}/coding", places_of(here)
    which = Queue(query["queue"]) if query["queue"] in set(Queue) else Queue.TO_CODE
    page = reads.queue(here.session, here.the_study, which, by=here.actor, cursor=query["after"])
    return show_at(
        here,
        places,
        "coding/texts.html",
        which=which,
        queues=[
            (each, address(path, {"queue": each.value}), count)
            for each, count in reads.counts(here.session, here.the_study, by=here.actor).items()
        ],
        rows=[{"text": each, "where": _where(here, each), "url": f"{path}/{each.number}"} for each in page.rows],
        newer=address(path, query, after=page.previous) if page.previous else None,
        older=address(path, query, after=page.next) if page.next else None,
        agreement_url=f"{path}/agreement" if may(here.actor, Permission.AGREEMENT_READ) else None,
        timezone=places.timezone(),
    )


@router.get("/{study}/coding/agreement", name="coding.agreement")
def agreement(here: PageInStudy) -> Response:
    """How far two coders agree, by form and item, and by site."""
    require(here.actor, Permission.AGREEMENT_READ)
    query = {name: typed_text(here.request.query_params.get(name), 400) or None for name in ("by", "after")}
    path = f"/{here.the_study.code}/coding/agreement"
    page = reads.agreement_page(
        here.session, here.the_study, by=here.actor, by_site=query["by"] == "site", cursor=query["after"]
    )
    return show_at(
        here,
        places_of(here),
        "coding/agreement.html",
        url=path,
        query=query,
        rows=[agreement_row(here, each) for each in page.rows],
        newer=address(path, query, after=page.previous) if page.previous else None,
        older=address(path, query, after=page.next) if page.next else None,
        queue_url=f"/{here.the_study.code}/coding" if may(here.actor, Permission.TEXT_CODE) else None,
    )


@router.get("/{study}/coding/{number}", name="coding.text")
def text(here: PageInStudy, number: int) -> Response:
    """One text, the terms that fit what is looked for, and what this person may know of its coding."""
    return _text_page(here, _known(here, number))


@router.get("/{study}/coding/{number}/code", name="coding.code_form")
@router.get("/{study}/coding/{number}/reconcile", name="coding.reconcile_form")
def to_the_text(here: PageInStudy, number: int) -> Response:
    """Where somebody lands who goes on without sending the form again: the text."""
    _known(here, number)
    return RedirectResponse(f"/{here.the_study.code}/coding/{number}", status_code=303)


@router.post("/{study}/coding/{number}/code", name="coding.code")
def code(here: ChangeInStudy, number: int) -> Response:
    """Code a text, alone."""
    found = _known(here, number)
    try:
        actions.code_text(here.session, here.the_study, number, code=here.value("code"), by=here.actor, now=here.now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _text_page(here, found, problem)
    return here.redirect(f"/{here.the_study.code}/coding/{number}", done="text_coded")


@router.post("/{study}/coding/{number}/reconcile", name="coding.reconcile")
def reconcile(here: ChangeInStudy, number: int) -> Response:
    """Settle what a text is coded as, with the reason."""
    found = _known(here, number, Permission.TEXT_RECONCILE)
    try:
        actions.reconcile_text(
            here.session,
            here.the_study,
            number,
            code=here.value("code"),
            why=here.value("why"),
            version=max(whole_number(here.value("version")), 0),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return _text_page(here, found, problem)
    return here.redirect(f"/{here.the_study.code}/coding/{number}", done="text_settled")


def _known(here: Here, number: int, permission: Permission = Permission.TEXT_CODE) -> Text:
    require(here.actor, permission)
    if not 0 <= number < 2**31:
        raise NotFound
    return reads.text_of(here.session, here.the_study, number, by=here.actor)


def _where(here: Here, text: Text) -> str:
    definition = here.the_study.at(text.site_id).definition
    form, visit = definition.instrument(text.instrument), definition.visit(text.visit)
    item = form.item(text.item) if form else None
    return f"{item.label if item else text.item}, {visit.label if visit else text.visit}"


def _text_page(here: Here, text: Text, problem: Invalid | Conflict | Refused | None = None) -> Response:
    definition, places = here.the_study.at(text.site_id).definition, places_of(here)
    form = definition.instrument(text.instrument)
    item = form.item(text.item) if form else None
    coding = item.coding if item else definition.safety.coding
    not_code = why_not(here.actor, Permission.TEXT_CODE, site_id=text.site_id) or why_not_code(
        text.state, text.coded_by, here.actor.username
    )
    not_settle = why_not(here.actor, Permission.TEXT_RECONCILE, site_id=text.site_id) or why_not_reconcile(
        text.state, text.coded_by, here.actor.username
    )
    searches = not_code is None or not_settle is None
    asked = here.request.query_params.get("q") if problem is None else here.value("q")
    looked_for = typed_text(asked, 200) or (typed_text(text.text, 200) if searches and asked is None else "")
    found = reads.terms_found(here.session, here.the_study, text.dictionary, looked_for) if searches else []
    # The text itself is seldom a term: where nobody has looked for anything yet, what holds some of its words is shown.
    near = not_code is None and asked is None and not found
    if near:
        found = reads.terms_near(here.session, here.the_study, text.dictionary, looked_for)
    # What the same text was coded as elsewhere would lead a coder: it comes after their own choice, unless the study
    # says otherwise.
    when = coding.suggestions if coding else "after"
    suggests = when == "before" or (when == "after" and here.actor.username in text.coded_by) or not_settle is None
    dictionary = definition.dictionary(text.dictionary)
    codes = [(term.code, f"{term.label} ({term.code})") for term in found]
    if not_settle is None:
        known = {each for each, _ in codes}
        chosen = dict.fromkeys((each.code, f"{each.label} ({each.code})") for each in text.choices)
        codes = [each for each in chosen if each[0] not in known] + codes
    values: dict[str, Any] = {name: here.value(name) if problem else "" for name in ("code", "why")}
    done = here.request.query_params.get("done", "")
    goes_on = (
        reads.next_of(here.session, here.the_study, GOES_ON[done], text.number, by=here.actor)
        if done in GOES_ON
        else None
    )
    return show_at(
        here,
        places,
        "coding/text.html",
        next_url=f"/{here.the_study.code}/coding/{goes_on[0]}" if goes_on else None,
        next_of=done,
        left=goes_on[1] if goes_on else 0,
        status_code=status_of(problem),
        text=text,
        where=_where(here, text),
        event_url=f"/{here.the_study.code}/safety/events/{text.event}" if text.event else None,
        dictionary=f"{dictionary.label} {text.dictionary_version}" if dictionary else text.dictionary,
        url=f"/{here.the_study.code}/coding/{text.number}",
        queue_url=f"/{here.the_study.code}/coding",
        q=looked_for,
        codes=codes,
        near=near and found,
        may_code=not_code is None,
        may_settle=not_settle is None,
        reason=None if searches else (not_settle if text.state is State.TO_RECONCILE else not_code),
        suggestions=reads.suggestions(here.session, here.the_study, text) if suggests and when != "never" else (),
        values=values,
        errors=errors_of(problem),
        refusal=problem.reason if problem is not None and not isinstance(problem, Invalid) else None,
        timezone=places.timezone(text.site_id),
    )
