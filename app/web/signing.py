"""How is a whole visit signed? Its complete forms on one page, each to be read, with one meaning and one password."""

from typing import Any

from fastapi.responses import Response

from app.capture.rules import MEANINGS, form_name
from app.capture.signing import AsShown, Signable, sign_visit, what_to_sign
from app.dependencies import ChangeInStudy, Here, PageInStudy, require_password
from app.foundation.errors import Conflict, FieldProblem, Invalid, Refused
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.access import require
from app.people.permissions import Permission
from app.schedule.reads import visit_of
from app.studies.definition import Visit
from app.web.pages import pages
from app.web.shell import errors_of, show, status_of
from app.web.visits import VISIT, planned_visit, visit_url
from app.wording import title_of

router = pages()

DIGITS = 12  # of a digest, where people compare it with the eye


@router.get(VISIT + "/sign", name="signing.visit_form")
def visit_form(here: PageInStudy, code: str, visit: str) -> Response:
    """What of this visit would be signed, and what keeps the rest from it."""
    return _page(here, *_asked(here, code, visit))


@router.post(VISIT + "/sign", name="signing.visit")
def sign(here: ChangeInStudy, code: str, visit: str) -> Response:
    """Sign every form that the page showed, or none of them, after proving again who signs (21 CFR 11.50, 11.200)."""
    participant, planned = _asked(here, code, visit)
    try:
        if here.value("meaning") not in MEANINGS:
            raise Invalid([FieldProblem("meaning", "choices", "Say what your signature means.")])
        require_password(here, here.form.get("password", [""])[-1])
        sign_visit(
            here.session,
            here.the_study,
            participant,
            visit=planned.code,
            shown=[_as_shown(text) for text in here.form.get("entry", ())],
            meaning=here.value("meaning"),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return _page(here, participant, planned, problem)
    return here.redirect(visit_url(here, code, visit), done="visit_signed")


def _asked(here: Here, code: str, visit: str) -> tuple[Participant, Visit]:
    planned = planned_visit(here, visit)
    participant = participant_by_code(
        here.session, here.the_study, code, by=here.actor, permission=Permission.ENTRY_READ
    )
    subject = f"{participant.code}/visit/{planned.code}"
    require(here.actor, Permission.ENTRY_SIGN, site_id=participant.site_id, action="visit.sign", subject=subject)
    return participant, planned


def _page(
    here: Here, participant: Participant, planned: Visit, problem: Invalid | Conflict | Refused | None = None
) -> Response:
    assert participant.id is not None
    visit = visit_of(here.session, participant.id, planned.code)
    ready, waiting = what_to_sign(here.session, here.the_study, participant, planned.code, by=here.actor, now=here.now)
    errors = errors_of(problem)
    url = visit_url(here, participant.code, planned.code)
    return show(
        here,
        "signing/visit.html",
        status_code=status_of(problem),
        participant=participant,
        planned=planned,
        visit=visit,
        url=url,
        rows=[_row(each, url) for each in ready],
        waiting=[
            {
                "label": title_of(each.form, each.repeat),
                "url": f"{url}/entries/{form_name(each.form.code, each.repeat)}",
                "reason": each.reason,
            }
            for each in waiting
        ],
        meanings=MEANINGS,
        meaning=here.value("meaning"),
        errors=errors,
        refusal=errors.get("entries") or (None if problem is None or errors else problem.reason),
    )


def _row(each: Signable, url: str) -> dict[str, Any]:
    name = each.entry.name
    answered = sum(1 for value in each.entry.values.values() if value not in (None, []))
    return {
        "label": title_of(each.form, each.entry.repeat),
        "url": f"{url}/entries/{name}/record",
        "version": each.entry.version,
        "saved_at": each.entry.saved_at,
        "saved_by": each.entry.saved_by,
        "answered": answered,
        "digest": each.digest,
        "short": each.digest[:DIGITS],
        "sent": f"{name}:{each.entry.version}:{each.digest}",
    }


def _as_shown(text: str) -> AsShown:
    """One line of the page, as its form sends it back; what is no such line fits no entry."""
    name, version, digest = (["", "", *text.rsplit(":", 2)])[-3:]
    return AsShown(name, int(version) if version.isdecimal() and len(version) < 10 else -1, digest)
