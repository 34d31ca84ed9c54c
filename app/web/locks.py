"""Locks: what is frozen and locked, what stands in the way, many at once; and unlocking by two people."""

from collections.abc import Callable
from typing import Any

from fastapi.responses import RedirectResponse, Response

from app.capture.locks import actions, reads
from app.capture.locks.obstacles import standings_page
from app.capture.locks.rules import Kind, Lock, what_of, why_not_ask, why_not_decide, why_not_lock
from app.dependencies import ChangeInStudy, Here, PageInStudy, require_password
from app.foundation.errors import Invalid, NotFound, Refused
from app.people.access import may, require, sites_for
from app.people.permissions import Permission
from app.web.pages import pages
from app.web.places import places_of, show_at
from app.web.shell import errors_of, status_of
from app.web.tables import address, typed_text

router = pages()

LOCKS = "/{study}/study/locks"
QUERY = ("visit", "site", "after")


@router.get(LOCKS, name="locks.locks")
def locks(here: PageInStudy) -> Response:
    """What is frozen or locked, who asks to unlock it; and to whoever may lock, the participants to choose among."""
    require(here.actor, Permission.ENTRY_READ)
    return _page(here)


@router.post(LOCKS, name="locks.close")
def close(here: ChangeInStudy) -> Response:
    """Freeze or lock what was chosen."""
    require(here.actor, Permission.DATA_LOCK, action="data.lock", subject="/lock")
    everybody = here.value("whom") == "everybody"
    try:
        actions.close_data(
            here.session,
            here.the_study,
            kind=Kind.LOCKED if here.value("kind") == Kind.LOCKED else Kind.FROZEN,
            participants=None if everybody else list(here.form.get("participant", ())),
            visit=here.value("visit") or None,
            why=here.value("why"),
            despite=bool(here.value("despite")),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _page(here, problem=problem)
    return here.redirect(_url(here), done="data_closed")


@router.post(LOCKS + "/{number}/lift", name="locks.lift")
def lift(here: ChangeInStudy, number: int) -> Response:
    """Let data be entered again where they were frozen."""

    def act() -> None:
        actions.lift_freezing(here.session, here.the_study, number, why=here.value("why"), by=here.actor, now=here.now)

    return _change(here, number, act, done="data_lifted", needed=Permission.DATA_LOCK)


@router.post(LOCKS + "/{number}/unlock", name="locks.ask")
def ask(here: ChangeInStudy, number: int) -> Response:
    """Ask to unlock, and say why."""

    def act() -> None:
        actions.ask_to_unlock(here.session, here.the_study, number, why=here.value("why"), by=here.actor, now=here.now)

    return _change(here, number, act, done="unlock_asked", needed=Permission.DATA_UNLOCK)


@router.post(LOCKS + "/{number}/approve", name="locks.approve")
def approve(here: ChangeInStudy, number: int) -> Response:
    """Unlock what another person asked to unlock, after proving again who does."""

    def act() -> None:
        require_password(here, here.form.get("password", [""])[-1])
        actions.approve_unlock(here.session, here.the_study, number, by=here.actor, now=here.now)

    return _change(here, number, act, done="data_unlocked", needed=Permission.DATA_UNLOCK)


@router.post(LOCKS + "/{number}/decline", name="locks.decline")
def decline(here: ChangeInStudy, number: int) -> Response:
    """Leave it locked, and say why."""

    def act() -> None:
        actions.decline_unlock(here.session, here.the_study, number, why=here.value("why"), by=here.actor, now=here.now)

    return _change(here, number, act, done="unlock_declined", needed=Permission.DATA_UNLOCK)


@router.get(LOCKS + "/{number}/lift", name="locks.lift_form")
@router.get(LOCKS + "/{number}/unlock", name="locks.ask_form")
@router.get(LOCKS + "/{number}/approve", name="locks.approve_form")
@router.get(LOCKS + "/{number}/decline", name="locks.decline_form")
def to_the_locks(here: PageInStudy, number: int) -> Response:
    """Where somebody lands who goes on without sending a form again: the page of all of them."""
    return RedirectResponse(f"{_url(here)}#lock-{number}", status_code=303)


def _url(here: Here) -> str:
    return f"/{here.the_study.code}/study/locks"


def _change(here: Here, number: int, act: Callable[[], None], *, done: str, needed: Permission) -> Response:
    require(here.actor, needed, action="data.unlock", subject="/lock")
    if not 0 <= number < 2**31:
        raise NotFound
    try:
        act()
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _page(here, problem=problem, number=number)
    return here.redirect(_url(here), done=done)


def _page(here: Here, *, problem: Invalid | Refused | None = None, number: int | None = None) -> Response:
    places, definition = places_of(here), here.the_study.definition
    asked = here.request.query_params if here.request.method == "GET" else {}
    query = {name: typed_text(asked.get(name), 400) or None for name in QUERY}
    if here.request.method == "POST" and number is None:
        query["visit"] = here.value("visit") or None
    if definition.visit(query["visit"] or "") is None:
        query["visit"] = None
    may_lock = may(here.actor, Permission.DATA_LOCK)
    standing = reads.locks_page(here.session, here.the_study, by=here.actor, cursor=asked.get("locks_after") or None)
    choice = None
    if may_lock:
        site = query["site"] or (places.chosen.code if places.chosen else None)
        choice = standings_page(
            here.session,
            here.the_study,
            by=here.actor,
            visit=query["visit"],
            site=None if site == "all" else site,
            cursor=query["after"],
        )
    url = _url(here)
    return show_at(
        here,
        places,
        "locks/locks.html",
        status_code=status_of(problem),
        url=url,
        root=f"/{here.the_study.code}",
        query=query,
        sites=[(each.code, f"{each.code} {each.name}") for each in places.sites],
        site=query["site"] or (places.chosen.code if places.chosen else "all"),
        visits=[(visit.code, visit.label) for visit in definition.visits if visit.instruments],
        locks=[_line(here, lock) for lock in standing.rows],
        locks_newer=address(url, {}, locks_after=standing.previous) if standing.previous else None,
        locks_older=address(url, {}, locks_after=standing.next) if standing.next else None,
        choice=[(each, why_not_lock(each, despite=False)) for each in choice.rows] if choice else None,
        newer=address(url, query, after=choice.previous) if choice and choice.previous else None,
        older=address(url, query, after=choice.next) if choice and choice.next else None,
        chosen=set(here.form.get("participant", ())),
        whom=here.value("whom"),
        why=here.value("why"),
        despite=bool(here.value("despite")),
        refusal=problem.reason if isinstance(problem, Refused) else None,
        errors=errors_of(problem) if number is None else {},
        errors_of=number,
        their_errors=errors_of(problem) if number is not None else {},
        timezone=places.timezone(),
        signatory=here.actor.name,
    )


def _line(here: Here, lock: Lock) -> dict[str, Any]:
    what = what_of(here.the_study.definition, lock.participant, lock.visit)
    # What concerns every site is opened by those who work at all of them.
    everywhere = lock.participant is not None or sites_for(here.actor, Permission.DATA_UNLOCK) is None
    unlocks = may(here.actor, Permission.DATA_UNLOCK) and everywhere
    return {
        "lock": lock,
        "what": what[0].upper() + what[1:],
        "locked": lock.kind is Kind.LOCKED,
        "may_lift": lock.kind is Kind.FROZEN and may(here.actor, Permission.DATA_LOCK),
        "may_ask": unlocks and why_not_ask(lock) is None,
        "may_decide": unlocks and lock.is_asked,
        "why_not_decide": why_not_decide(lock, by=here.actor.username) if lock.is_asked else None,
    }
