"""Amendments: loaded versions, what differs between two, what going over to one would mean, and sites on their way."""

from typing import Any

from fastapi.responses import RedirectResponse, Response

from app.amendments import actions, reads
from app.amendments.reads import Effect, Going, Totals, VersionRow
from app.amendments.rules import Becomes, why_not_cancel
from app.amendments.status import State
from app.amendments.words import OF_ENTRIES, OF_VERIFIED, counted, effect_in_words
from app.dependencies import ChangeInStudy, Here, PageInStudy
from app.foundation.errors import Invalid, NotFound, Refused
from app.people.access import may, require
from app.people.permissions import Permission
from app.people.reads import SiteRow
from app.studies.definition import Study
from app.studies.in_use import StudyInUse
from app.studies.rules import Concern, Topic
from app.studies.rules.amending import forbidden
from app.studies.rules.changes import told
from app.web.pages import pages
from app.web.places import Places, places_of, show_at, typed_day
from app.web.shell import errors_of, status_of
from app.web.tables import address, typed_text

router = pages()

VERSIONS = "/{study}/study/versions"
GOING = "/{study}/study/amendments/{number}"

TOPICS = {
    Topic.STUDY: "Study",
    Topic.ARMS: "Arms and allocation",
    Topic.SITES: "Sites",
    Topic.ELIGIBILITY: "Who may take part",
    Topic.CONSENT: "Consent",
    Topic.VISITS: "Visits and windows",
    Topic.FORMS: "Forms and items",
    Topic.OUTCOMES: "Outcomes",
    Topic.WITHDRAWAL: "Withdrawal",
    Topic.SCHEDULE: "Appointments and reminders",
    Topic.SAFETY: "Safety",
    Topic.BLINDING: "Unblinding",
    Topic.TREATMENT: "Treatment",
}
CONCERNS = {
    Concern.TEXT: "Text only",
    Concern.CAPTURE: "Data capture",
    Concern.SCHEDULE: "Schedule",
    Concern.CONDUCT: "Conduct",
    Concern.FIXED: "May not change while it runs",
}
TONES = {
    Concern.TEXT: "neutral",
    Concern.CAPTURE: "query",
    Concern.SCHEDULE: "accent",
    Concern.CONDUCT: "partial",
    Concern.FIXED: "late",
}
STATES = {
    State.PLANNED: ("planned", "Planned"),
    State.MOVING: ("due", "Visits follow"),
    State.DONE: ("done", "Carried out"),
    State.CANCELLED: ("none", "Cancelled"),
}


@router.get(VERSIONS, name="amendments.versions")
def versions(here: PageInStudy) -> Response:
    """Every loaded version, where it is in force, and how far sites are on their way."""
    require(here.actor, Permission.STUDY_READ)
    return _versions_page(here)


@router.get(VERSIONS + "/{later}/since/{earlier}", name="amendments.differences")
def differences(here: PageInStudy, later: str, earlier: str) -> Response:
    """What differs between two versions, in words of the trial."""
    require(here.actor, Permission.STUDY_READ)
    loaded = reads.loaded_versions(here.session, here.the_study, by=here.actor)
    old, new = _named(here, loaded, earlier), _named(here, loaded, later)
    found = reads.differences_of(old, new, by=here.actor)
    topics = [
        (
            TOPICS[topic],
            [(each, CONCERNS[each.concern], TONES[each.concern]) for each in found if each.topic is topic],
        )
        for topic in Topic
    ]
    return show_at(
        here,
        places_of(here),
        "amendments/differences.html",
        root=f"/{here.the_study.code}",
        url=_url(here),
        old=earlier,
        new=later,
        topics=[(label, lines) for label, lines in topics if lines],
        count=len(found),
        others=[one.version for one in loaded if one.version not in (earlier, later)],
    )


@router.get(VERSIONS + "/{later}/effect", name="amendments.effect")
def effect(here: PageInStudy, later: str) -> Response:
    """What going over to a version would mean for those who are in the study now; writes nothing."""
    require(here.actor, Permission.STUDY_READ)
    return _effect_page(here, later)


@router.post(VERSIONS + "/{later}/plan", name="amendments.plan")
def plan(here: ChangeInStudy, later: str) -> Response:
    """Set the day from which sites work under a version."""
    require(here.actor, Permission.STUDY_AMEND, action="amendment.plan", subject="/version")
    try:
        day = here.value("from_on")
        actions.plan(
            here.session,
            here.the_study,
            version=later,
            sites=list(here.form.get("sites", ())),
            from_on=typed_day(day, "from_on") if day else None,
            why=here.value("why"),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _effect_page(here, later, problem=problem)
    return here.redirect(_url(here), done="amendment_planned")


@router.post(GOING + "/cancel", name="amendments.cancel")
def cancel(here: ChangeInStudy, number: int) -> Response:
    """Take back that a site goes over to a version."""
    require(here.actor, Permission.STUDY_AMEND, action="amendment.cancel", subject="/amendment")
    try:
        actions.cancel(
            here.session, here.the_study, _number(number), why=here.value("why"), by=here.actor, now=here.now
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _versions_page(here, problem=problem, number=number)
    return here.redirect(_url(here), done="amendment_cancelled")


@router.post(GOING + "/carry-on", name="amendments.carry_on")
def carry_on(here: ChangeInStudy, number: int) -> Response:
    """Let the next participants' visits follow at once."""
    require(here.actor, Permission.STUDY_AMEND, action="amendment.carry_on", subject="/amendment")
    try:
        actions.carry_on_now(here.session, here.the_study, _number(number), by=here.actor, now=here.now)
    except Refused as problem:
        here.refuse(problem)
        return _versions_page(here, problem=problem, number=number)
    return here.redirect(_url(here), done="amendment_carried_on")


@router.get(VERSIONS + "/{later}/plan", name="amendments.plan_form")
def to_the_effect(here: PageInStudy, later: str) -> Response:
    """Where somebody lands who goes on without sending a form again: what it would mean."""
    return RedirectResponse(f"{_url(here)}/{later}/effect", status_code=303)


@router.get(GOING + "/cancel", name="amendments.cancel_form")
@router.get(GOING + "/carry-on", name="amendments.carry_on_form")
def to_the_versions(here: PageInStudy, number: int) -> Response:
    """Likewise: the page of all versions."""
    return RedirectResponse(f"{_url(here)}#going-{number}", status_code=303)


def _url(here: Here) -> str:
    return f"/{here.the_study.code}/study/versions"


def _number(number: int) -> int:
    if not 0 <= number < 2**31:
        raise NotFound
    return number


def _named(here: Here, loaded: list[VersionRow], version: str) -> StudyInUse:
    row = next((one for one in loaded if one.version == version), None)
    if row is None:
        raise NotFound
    return reads.as_version(here.session, here.the_study, row)


def _versions_page(here: Here, *, problem: Invalid | Refused | None = None, number: int | None = None) -> Response:
    places, study = places_of(here), here.the_study.own
    asked = here.request.query_params if here.request.method == "GET" else {}
    loaded = reads.loaded_versions(here.session, study, by=here.actor)
    sites = reads.at_sites(study, places.sites)
    names = [one.version for one in loaded]
    lines = [
        {
            "version": one,
            "sites": [there.site.code for there in sites if there.version_id == one.id],
            "before": names[place + 1] if place + 1 < len(names) else None,
            # A version that is behind every site has nobody left who could go over to it.
            "is_ahead": any(there.version_id < one.id for there in sites),
        }
        for place, one in enumerate(loaded)
    ]
    page = reads.going_over(here.session, study, by=here.actor, cursor=asked.get("after") or None)
    return show_at(
        here,
        places,
        "amendments/versions.html",
        status_code=status_of(problem),
        root=f"/{study.code}",
        url=_url(here),
        lines=lines,
        several_sites=len(sites) > 1,
        going=[_going(one) for one in page.rows],
        newer=address(_url(here), {}, after=page.previous) if page.previous else None,
        older=address(_url(here), {}, after=page.next) if page.next else None,
        may_amend=may(here.actor, Permission.STUDY_AMEND),
        refusal=problem.reason if isinstance(problem, Refused) else None,
        errors=errors_of(problem),
        errors_of=number,
        why=here.value("why"),
        timezone=places.timezone(),
    )


def _going(one: Going) -> dict[str, Any]:
    status, words = STATES[one.state]
    return {
        "one": one,
        "status": status,
        "words": words,
        "address": f"/study/amendments/{one.number}",
        "may_cancel": why_not_cancel(one.state) is None,
        "is_moving": one.state is State.MOVING,
    }


# What it would mean


def _effect_page(here: Here, later: str, *, problem: Invalid | Refused | None = None) -> Response:
    places, study = places_of(here), here.the_study.own
    loaded = reads.loaded_versions(here.session, study, by=here.actor)
    new = _named(here, loaded, later)
    ahead = [one for one in reads.at_sites(study, places.sites) if one.version_id < new.version_id]
    is_asked = here.request.method == "GET"
    named = typed_text(here.request.query_params.get("site") if is_asked else here.value("site"))
    place = next((one for one in ahead if one.site.code == named), None) or next(
        (one for one in ahead if one.site == places.chosen), ahead[0] if ahead else None
    )
    shown: dict[str, Any] = {"site": None}
    if place is not None:
        cursor = here.request.query_params.get("after") if is_asked else None
        shown = _effect_at(here, places, place.site, place.study, new, cursor=cursor or None)
    why_not = None if ahead else "Every site works under this version, or a later one. There is nobody to go over."
    return show_at(
        here,
        places,
        "amendments/effect.html",
        status_code=status_of(problem),
        root=f"/{study.code}",
        url=f"{_url(here)}/{later}/effect",
        plan_url=f"{_url(here)}/{later}/plan",
        versions_url=_url(here),
        version=later,
        sites=[(one.site.code, f"{one.site.code} {one.site.name}") for one in ahead],
        why_not=why_not,
        may_amend=may(here.actor, Permission.STUDY_AMEND),
        chosen=list(here.form.get("sites", ())) or ([place.site.code] if place else []),
        typed={name: here.value(name) for name in ("from_on", "why")},
        refusal=told(problem.said, here.tell) if isinstance(problem, Refused) else None,
        errors=errors_of(problem),
        **shown,
    )


def _effect_at(
    here: Here, places: Places, site: SiteRow, old: StudyInUse, new: StudyInUse, *, cursor: str | None
) -> dict[str, Any]:
    found = reads.differences_of(old, new, by=here.actor)
    standing = reads.standing_risks(here.session, here.the_study.own, found)
    page = reads.effects(here.session, here.the_study.own, new, site, cursor=cursor, by=here.actor, now=here.now)
    totals = Totals()
    for each in page.rows:
        totals.add(each)
    url = f"{_url(here)}/{new.definition.version}/effect"
    words = here.in_words(old.definition), here.in_words(new.definition)
    # Who reads no participants reads how many, and nothing of anybody.
    reads_people = may(here.actor, Permission.PARTICIPANT_READ, site_id=site.id)
    reads_entries = may(here.actor, Permission.ENTRY_READ, site_id=site.id)
    return {
        "site": site,
        "old": old.definition.version,
        "differences": len(found),
        "forbidden": forbidden(found),
        "standing": standing,
        "totals": effect_in_words(totals, *words, here.tell),
        "is_part": bool(page.next or page.previous),
        "people": [_line(each, *words, entries=reads_entries) for each in page.rows if not each.is_nothing]
        if reads_people
        else None,
        "newer": address(url, {"site": site.code}, after=page.previous) if page.previous else None,
        "older": address(url, {"site": site.code}, after=page.next) if page.next else None,
        "today": places.today(here, site.id),
    }


def _line(each: Effect, old: Study, new: Study, *, entries: bool) -> dict[str, Any]:
    def visit(code: str) -> str:
        planned = new.visit(code) or old.visit(code)
        return planned.label if planned else code

    return {
        "code": each.participant,
        "visits": [(visit(one.code), one, one.code in each.outside) for one in each.visits],
        "kept": [visit(code) for code in each.kept],
        "owes": each.owes,
        "breaks_casebook": each.breaks_casebook,
        "verified": [counted(OF_VERIFIED[what], number) for what, number in each.verified.items()] if entries else [],
        "entries": [
            (
                f"{visit(one.visit)}, {_form(old, new, one.instrument)}",
                [SHORT[what] for what in one.becomes],
                ", ".join(one.items),
                one.breaks_signature,
            )
            for one in each.entries
        ]
        if entries
        else [],
    }


def _form(old: Study, new: Study, code: str) -> str:
    form = new.instrument(code) or old.instrument(code)
    return form.label if form else code


SHORT = {
    Becomes.INCOMPLETE: "no longer complete",
    Becomes.COMPLETE: "complete",
    Becomes.CHECK: "a check does not hold",
    Becomes.SCORE: "another score",
    Becomes.HIDDEN: "an answer no longer asked",
    Becomes.NOT_ASKED: "no longer asked there",
}
assert set(SHORT) == set(OF_ENTRIES), "every one has its words"
