"""How is much signed at once? A visit, or a whole casebook, each form to be read, with one meaning and one password."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from fastapi.responses import Response

from app.capture.casebook.reads import milestone_reached
from app.capture.rules import MEANINGS, form_name
from app.capture.signing import (
    AsShown,
    Signable,
    ToSign,
    casebook_to_sign,
    sign_casebook_entries,
    sign_visit,
    what_to_sign,
)
from app.capture.typed import missing_code
from app.dependencies import ChangeInStudy, Here, PageInStudy, require_signature
from app.foundation.errors import Conflict, Invalid, Refused
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.access import may, require
from app.people.permissions import Permission
from app.schedule.reads import visit_of, visits_of
from app.studies.definition import Item, ItemType, Study, Visit
from app.web.pages import pages
from app.web.shell import errors_of, show, status_of, told_all
from app.web.visits import VISIT, planned_visit, visit_url
from app.wording import said, title_of

router = pages()

CASEBOOK = "/{study}/participants/{code}/sign"
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
        sign_visit(
            here.session,
            here.the_study,
            participant,
            visit=planned.code,
            meaning=require_signature(here, MEANINGS),
            shown=[_as_shown(text) for text in here.form.get("entry", ())],
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return _page(here, participant, planned, problem)
    return here.redirect(visit_url(here, code, visit), done="visit_signed")


@router.get(CASEBOOK, name="signing.casebook_form")
def casebook_form(here: PageInStudy, code: str) -> Response:
    """What of a participant's whole casebook would be signed, every answer to be read, and what is left out."""
    participant = participant_by_code(
        here.session, here.the_study, code, by=here.actor, permission=Permission.ENTRY_READ
    )
    return _casebook_page(here, participant)


@router.post(CASEBOOK, name="signing.casebook")
def sign_casebook(here: ChangeInStudy, code: str) -> Response:
    """Sign every form of the visits that were chosen, as they were shown, or none of them (21 CFR 11.50, 11.200)."""
    participant = participant_by_code(
        here.session, here.the_study, code, by=here.actor, permission=Permission.ENTRY_READ
    )
    subject = f"{participant.code}/casebook"
    require(here.actor, Permission.ENTRY_SIGN, site_id=participant.site_id, action="entries.sign", subject=subject)
    chosen = here.form.get("visit", [])
    shown = [_of_visit(text) for text in here.form.get("entry", ())]
    try:
        sign_casebook_entries(
            here.session,
            here.the_study,
            participant,
            meaning=require_signature(here, MEANINGS),
            shown=[each for each in shown if each.visit in chosen],
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return _casebook_page(here, participant, problem)
    return here.redirect(f"/{here.the_study.code}/participants/{participant.code}/sign", done="casebook_entries_signed")


def _casebook_page(
    here: Here, participant: Participant, problem: Invalid | Conflict | Refused | None = None
) -> Response:
    assert participant.id is not None
    definition, root = here.the_study.definition, f"/{here.the_study.code}/participants/{participant.code}"
    found = casebook_to_sign(here.session, here.the_study, participant, by=here.actor, now=here.now)
    held = {each.code: each.held_on for each in visits_of(here.session, participant.id)}
    wanted = here.form.get("visit") if problem is not None else here.request.query_params.getlist("visit")
    visits = list(_visits(here, definition, found, root))
    milestone = None
    if may(here.actor, Permission.CASEBOOK_SIGN, site_id=participant.site_id):
        milestone = milestone_reached(here.session, here.the_study, participant)
    return show(
        here,
        "signing/casebook.html",
        status_code=status_of(problem),
        participant=participant,
        url=root,
        visits=[
            {**each, "held_on": held.get(each["code"]), "chosen": not wanted or each["code"] in wanted}
            for each in visits
        ],
        forms=len(found.ready),
        more=found.more,
        milestone=milestone,
        **_what_both_show(here, found, root, problem),
    )


def _visits(here: Here, definition: Study, found: ToSign, root: str) -> Iterable[dict[str, Any]]:
    """What is signed, by visit, with every answer in the words of the study."""
    for code, some in groupby(found.ready, key=lambda each: each.entry.visit):
        url = f"{root}/visits/{code}"
        rows = []
        for each in some:
            changed = found.values_changed.get((code, each.entry.name), frozenset())
            answers = [
                _answer(here, definition, item, each.entry.values, changed)
                for item in each.form.asked(each.entry.values)
                if each.entry.values.get(item.code) not in (None, [])
            ]
            row = _row(each, url)
            rows.append(
                {
                    **row,
                    "sent": f"{code}/{row['sent']}",
                    "answers": answers,
                    "changed": sum(answer["changed"] for answer in answers),
                    "reasons": [
                        (item.label if (item := each.form.item(asked)) else asked, why)
                        for asked, why in each.entry.reasons.items()
                    ],
                }
            )
        yield {"code": code, "label": _visit_label(definition, code), "url": url, "forms": rows}


def _answer(
    here: Here, definition: Study, item: Item, values: Mapping[str, object], changed: frozenset[str]
) -> dict[str, Any]:
    value = values[item.code]
    words = said(item, value, definition.missing_codes, here.language)
    lacks = missing_code(value) is not None
    return {
        "label": item.label,
        "said": words if lacks or not item.unit or isinstance(value, dict) else f"{words} {item.unit}",
        "lacks": lacks,
        "changed": item.code in changed and item.type is not ItemType.CALCULATED,
    }


def _visit_label(definition: Study, code: str) -> str:
    planned = definition.visit(code)
    return planned.label if planned is not None else code


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
    found = what_to_sign(here.session, here.the_study, participant, planned.code, by=here.actor, now=here.now)
    url = visit_url(here, participant.code, planned.code)
    return show(
        here,
        "signing/visit.html",
        status_code=status_of(problem),
        participant=participant,
        planned=planned,
        visit=visit,
        url=url,
        rows=[_row(each, url) for each in found.ready],
        **_what_both_show(here, found, f"/{here.the_study.code}/participants/{participant.code}", problem),
    )


def _what_both_show(
    here: Here, found: ToSign, root: str, problem: Invalid | Conflict | Refused | None
) -> dict[str, Any]:
    """What is left out with its reason, what a signature can mean, and what keeps this one from being made."""
    errors = errors_of(problem)
    return {
        "left_out": [
            {
                "visit": _visit_label(here.the_study.definition, each.visit),
                "label": title_of(each.form, each.repeat) if each.form else form_name(each.instrument, each.repeat),
                "url": f"{root}/visits/{each.visit}/entries/{form_name(each.instrument, each.repeat)}",
                "reason": each.reason,
            }
            for each in found.left_out
        ],
        "meanings": told_all(here, MEANINGS),
        "meaning": here.value("meaning"),
        "errors": errors,
        "refusal": errors.get("entries") or (None if problem is None or errors else problem.reason),
    }


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
    """One line of a page, as its form sends it back; what is no such line fits no entry."""
    name, version, digest = (["", "", *text.rsplit(":", 2)])[-3:]
    return AsShown(name, int(version) if version.isdecimal() and len(version) < 10 else -1, digest)


def _of_visit(text: str) -> AsShown:
    """The same of a casebook, where the visit stands in front."""
    visit, _, line = text.partition("/")
    return replace(_as_shown(line), visit=visit)
