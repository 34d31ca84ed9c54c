"""Webhooks: have a program told of changes, pause, test and end it, replace its secret, and see what it was told."""

from fastapi.responses import Response

from app.dependencies import ChangeInStudy, Here, PageInStudy
from app.foundation.errors import Invalid, Refused
from app.people.access import may
from app.web.pages import pages
from app.web.places import places_of, show_at
from app.web.shell import errors_of, status_of
from app.webhooks import actions, reads
from app.webhooks.rules import EVENTS

router = pages()

STATES = {"pause": "paused", "resume": "active", "end": "ended"}


@router.get("/{study}/webhooks", name="webhooks.webhooks")
def webhooks(here: PageInStudy) -> Response:
    """One's own webhooks, and the form for another."""
    return _page(here)


def _page(here: Here, problem: Invalid | Refused | None = None, made: tuple[int, str] | None = None) -> Response:
    places = places_of(here)
    return show_at(
        here,
        places,
        "webhooks/webhooks.html",
        status_code=status_of(problem),
        path=f"/{here.the_study.code}/webhooks",
        hooks=reads.webhooks_of(here.session, here.the_study, by=here.actor),
        events=[(name, words) for name, (needed, words) in EVENTS.items() if may(here.actor, needed)],
        site_options=[(site.code, site.name) for site in places.sites],
        chosen=list(here.form.get("events", [])),
        typed={name: here.value(name) for name in here.form} if problem else {},
        errors=errors_of(problem),
        refused=problem.reason if isinstance(problem, Refused) else None,
        made=made,
        timezone=places.timezone(),
    )


@router.post("/{study}/webhooks", name="webhooks.make")
def make(here: ChangeInStudy) -> Response:
    """Make a webhook and show its secret, this once."""
    try:
        made = actions.make_webhook(
            here.session,
            here.the_study,
            url=here.value("url"),
            events=here.form.get("events", []),
            site=here.value("site") or None,
            allowed=here.settings.webhooks_allowed,
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _page(here, problem)
    here.repeated_leads_to(f"/{here.the_study.code}/webhooks/{made[0]}")
    return _page(here, made=made)


@router.get("/{study}/webhooks/{number}", name="webhooks.show")
def show_webhook(here: PageInStudy, number: int, after: str = "") -> Response:
    """One webhook and what it was told."""
    return _one(here, number, after)


def _one(
    here: Here, number: int, after: str = "", problem: Refused | None = None, secret: str | None = None
) -> Response:
    places = places_of(here)
    return show_at(
        here,
        places,
        "webhooks/show.html",
        status_code=status_of(problem),
        path=f"/{here.the_study.code}/webhooks",
        hook=reads.webhook_of(here.session, here.the_study, number, by=here.actor),
        page=reads.deliveries(here.session, here.the_study, number, by=here.actor, cursor=after or None),
        refused=problem.reason if problem else None,
        secret=secret,
        timezone=places.timezone(),
    )


@router.post("/{study}/webhooks/{number}", name="webhooks.change")
def change(here: ChangeInStudy, number: int) -> Response:
    """Pause, resume, end or test a webhook, replace its secret, or tell an event once more."""
    try:
        state, again = STATES.get(here.value("do")), here.number("again")
        if again:
            actions.tell_again(here.session, here.the_study, number, again, by=here.actor, now=here.now)
        elif here.value("do") == "secret":
            secret = actions.replace_secret(here.session, here.the_study, number, by=here.actor, now=here.now)
            here.repeated_leads_to(f"/{here.the_study.code}/webhooks/{number}")
            return _one(here, number, secret=secret)
        elif state:
            actions.set_state(here.session, here.the_study, number, state, by=here.actor, now=here.now)
        else:
            actions.ping(here.session, here.the_study, number, by=here.actor, now=here.now)
    except Refused as problem:
        here.refuse(problem)
        return _one(here, number, problem=problem)
    return here.redirect(f"/{here.the_study.code}/webhooks/{number}", done="saved")
