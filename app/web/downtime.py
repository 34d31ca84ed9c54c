"""Door: slots reserved for when the server is away. Packs are the statistician's; whoever enrols enters one slip."""

import base64
from datetime import datetime
from zoneinfo import ZoneInfo

from fastapi.responses import RedirectResponse, Response

from app.dependencies import ChangeInStudy, Here, PageInStudy, newest_entry, remembering, require_password
from app.foundation.errors import FieldProblem, Invalid, NotFound, Refused
from app.paper import papers
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.access import may, require
from app.people.permissions import Permission
from app.people.reads import sites_of
from app.randomisation.downtime import actions, reads
from app.randomisation.downtime.rules import MOST_SLOTS, NOT_GATES_OF_PAPER, stratum_words
from app.randomisation.downtime.status import SlotState
from app.randomisation.reads import allocation_of, gates_of, sequences
from app.web.pages import pages
from app.web.places import places_of, show_at, typed_day
from app.web.sequence import typed_number
from app.web.shell import errors_of, show, status_of

router = pages()
packs_router = pages(hidden_without=Permission.SEQUENCE_DRAW)


# Packs, for the statistician


@packs_router.get("/{study}/sequence/downtime", name="downtime.packs")
def packs(here: PageInStudy) -> Response:
    """Every pack of the study, and what it takes to make another."""
    _require(here)
    return _packs_page(here, {"site": "", "slots": "4", "why": ""})


@packs_router.post("/{study}/sequence/downtime", name="downtime.make")
def make(here: ChangeInStudy) -> Response:
    """Reserve slots and hand the pack over, in this one answer. The same form again leads to what became of it."""
    _require(here, Permission.SEQUENCE_SEAL, Permission.ALLOCATIONS_EXPORT)
    typed = {name: here.value(name) for name in ("site", "slots", "why")}
    try:
        require_password(here, here.form.get("password", [""])[-1])
        slots = typed_number("slots", typed["slots"])
        made = actions.make_pack(
            here.session,
            here.the_study,
            site=typed["site"],
            slots=slots,
            why=typed["why"],
            newest=newest_entry(here),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _packs_page(here, typed, problem=problem)
    here.repeated_leads_to(f"{_url(here)}/{made.number}")
    files = papers(
        made.content,
        [(slip.name, slip.stratum, slip.code) for slip in made.slips],
        made.passphrase,
        mark=made.mark,
        at=here.now,
        language=here.the_study.definition.language,
    )
    shown = [
        (paper.name, f"data:{paper.media_type};base64,{base64.b64encode(paper.body).decode()}", len(paper.body))
        for paper in files
    ]
    page = show(
        here,
        "downtime/made.html",
        url=_url(here),
        number=made.number,
        site=made.site_name,
        slips=len(made.slips),
        passphrase=made.passphrase,
        opener=shown[0],
        letter=shown[1],
        printed=shown[2],
    )
    page.headers["Cache-Control"] = "no-store"
    return remembering(here, page)


@packs_router.get("/{study}/sequence/downtime/{number}", name="downtime.pack")
def pack(here: PageInStudy, number: int) -> Response:
    """One pack: each slip, and what became of it."""
    _require(here)
    return _pack_page(here, number)


@packs_router.get("/{study}/sequence/downtime/{number}/void", name="downtime.void_form")
@packs_router.get("/{study}/sequence/downtime/{number}/close", name="downtime.close_form")
def back_to_the_pack(here: PageInStudy, number: int) -> Response:
    """Where somebody lands who goes on without sending a form again: the pack."""
    _require(here)
    return RedirectResponse(f"{_url(here)}/{number}", status_code=303)


@packs_router.post("/{study}/sequence/downtime/{number}/void", name="downtime.void")
def void(here: ChangeInStudy, number: int) -> Response:
    """Nobody was randomised with this slip, and nobody ever is."""
    _require(here, Permission.SEQUENCE_SEAL)
    _refuse_beyond(number)
    try:
        slip = typed_number("slip", here.value("slip"))
        actions.void_slip(
            here.session, here.the_study, number, slip, why=here.value("why"), by=here.actor, now=here.now
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _pack_page(here, number, problem=problem)
    return here.redirect(f"{_url(here)}/{number}", done="slip_voided")


@packs_router.post("/{study}/sequence/downtime/{number}/close", name="downtime.close")
def close(here: ChangeInStudy, number: int) -> Response:
    """End a pack; what is left of it is void."""
    _require(here, Permission.SEQUENCE_SEAL)
    _refuse_beyond(number)
    try:
        require_password(here, here.form.get("password", [""])[-1])
        actions.close_pack(here.session, here.the_study, number, why=here.value("why"), by=here.actor, now=here.now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _pack_page(here, number, problem=problem)
    return here.redirect(f"{_url(here)}/{number}", done="pack_closed")


def _require(here: Here, *permissions: Permission) -> None:
    """NotFound for all but the statistician, and in a study that allocates nobody."""
    if not here.the_study.definition.is_allocated:
        raise NotFound
    if not all(may(here.actor, each) for each in permissions or (Permission.SEQUENCE_DRAW,)):
        raise NotFound


def _refuse_beyond(number: int) -> None:
    if not 0 <= number < 2**31:  # no column holds more
        raise NotFound


def _url(here: Here) -> str:
    return f"/{here.the_study.code}/sequence/downtime"


def _packs_page(here: Here, typed: dict[str, str], *, problem: Invalid | Refused | None = None) -> Response:
    found = reads.packs(here.session, here.the_study, by=here.actor)
    known = sequences(here.session, here.the_study, by=here.actor)
    sealed = any(each.status == "sealed" and not each.stage for each in known)
    sites = [(site.code, site.name) for site in sites_of(here.session, here.the_study.id)]
    if len(sites) == 1:  # nothing to choose
        typed = {**typed, "site": sites[0][0]}
    return show(
        here,
        "downtime/packs.html",
        status_code=status_of(problem),
        sequence_url=f"/{here.the_study.code}/sequence",
        url=_url(here),
        packs=found,
        sites=sites,
        typed=typed,
        most=MOST_SLOTS,
        why_not=None if sealed else "No sequence is in use. Seal one first.",
        refused=problem.reason if isinstance(problem, Refused) else None,
        errors=errors_of(problem),
    )


def _pack_page(here: Here, number: int, *, problem: Invalid | Refused | None = None) -> Response:
    _refuse_beyond(number)
    found = reads.pack_of(here.session, here.the_study, number, by=here.actor)
    slips = reads.slips(here.session, here.the_study, number, by=here.actor)
    first = {slip.stratum: slip for slip in reversed(slips) if slip.state == SlotState.RESERVED}
    words = stratum_words(here.the_study.definition, found.site_code, found.site_name)
    return show(
        here,
        "downtime/pack.html",
        status_code=status_of(problem),
        sequence_url=f"/{here.the_study.code}/sequence",
        url=_url(here),
        pack=found,
        slips=slips,
        words=words,
        voidable=[
            (str(slip.number), f"{slip.name} · {words.get(slip.stratum, slip.stratum)}")
            for slip in sorted(first.values(), key=lambda slip: slip.number)
        ],
        values={"slip": here.value("slip"), "why": here.value("why")},
        voiding=here.request.url.path.endswith("/void"),
        refused=problem.reason if isinstance(problem, Refused) else None,
        errors=errors_of(problem),
    )


# One slip, for whoever enrolled


@router.get("/{study}/participants/{code}/randomise/downtime", name="downtime.enter_form")
def enter_form(here: PageInStudy, code: str) -> Response:
    """What was written on the slip. There is this page whether or not there are slips: it says nothing of any list."""
    participant = _participant(here, code)
    assert participant.id is not None
    if allocation_of(here.session, participant.id) is not None:
        return RedirectResponse(_home(here, participant) + "/randomised", status_code=303)
    return _enter_page(here, participant)


@router.post("/{study}/participants/{code}/randomise/downtime", name="downtime.enter")
def enter(here: ChangeInStudy, code: str) -> Response:
    """Enter that the participant was randomised on paper: it has happened, and is never undone."""
    participant = _participant(here, code)
    try:
        at = _typed_moment(here, participant)
        require_password(here, here.form.get("password", [""])[-1])
        actions.enter(
            here.session,
            here.the_study,
            participant,
            slip=here.value("slip"),
            at=at,
            used_by=here.value("used_by"),
            deviation=here.value("deviation"),
            newest=newest_entry(here),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _enter_page(here, participant, problem=problem)
    return remembering(here, here.redirect(_home(here, participant) + "/randomised", done="slip_entered"))


def _participant(here: Here, code: str) -> Participant:
    """The participant of the address, for those who randomise at their site; nobody where arms are only observed."""
    if not here.the_study.definition.is_allocated:
        raise NotFound
    found = participant_by_code(here.session, here.the_study, code, by=here.actor)
    where = {"subject": found.code, "action": actions.ENTER}
    require(here.actor, Permission.PARTICIPANT_RANDOMISE, site_id=found.site_id, **where)
    return found


def _typed_moment(here: Here, participant: Participant) -> datetime:
    """Day and time as they stand on the slip, at the participant's site."""
    zone = ZoneInfo(places_of(here).timezone(participant.site_id))
    day = typed_day(here.value("on"), "on")
    try:
        clock = datetime.strptime(here.value("time")[:5], "%H:%M").time()  # noqa: DTZ007 a time of day has no zone
    except ValueError:
        words = "Type the time as HH:MM, as it was at the site."
        raise Invalid([FieldProblem("time", "time", words)]) from None
    return datetime.combine(day, clock, tzinfo=zone)


def _home(here: Here, participant: Participant) -> str:
    return f"/{here.the_study.code}/participants/{participant.code}"


def _enter_page(here: Here, participant: Participant, *, problem: Invalid | Refused | None = None) -> Response:
    places = places_of(here)
    passed = gates_of(here.session, here.the_study, participant, by=here.actor, now=here.now)
    errors = errors_of(problem)
    if "at" in errors:
        errors["on"] = errors.pop("at")
    return show_at(
        here,
        places,
        "downtime/enter.html",
        status_code=status_of(problem),
        participant=participant,
        url=_home(here, participant),
        gates=[
            {"label": gate.label, "reason": gate.reason, "url": "", "action": ""}
            for gate in passed
            if not gate.open and gate.code not in NOT_GATES_OF_PAPER
        ],
        values={name: here.value(name) for name in ("slip", "on", "time", "used_by", "deviation")},
        refused=problem.reason if isinstance(problem, Refused) else None,
        errors=errors,
        today=places.today(here, participant.site_id),
        timezone=places.timezone(participant.site_id),
    )


router.routes.extend(packs_router.routes)
