"""A participant's casebook: every entry at a glance, the investigator's signature of the whole, and the file."""

from typing import Any

from fastapi.responses import RedirectResponse, Response

from app.capture.casebook import actions, reads
from app.capture.casebook.rules import MEANINGS, casebook_digest, holds, manifest_of, why_not_sign
from app.capture.double.reads import states_of, without_withheld
from app.capture.locks.reads import locks_of
from app.capture.locks.rules import Kind, covering_visit, is_locked, strongest, what_of, why_closed
from app.capture.reads import entries_of, entries_with_values
from app.capture.rules import entry_mark
from app.casebook import casebook_of
from app.dependencies import ChangeInStudy, Here, LoggedPageInStudy, PageInStudy, database_of, require_signature
from app.foundation.errors import Conflict, Invalid, Refused
from app.own_copy import Place, book_of_copy, own_copy_of
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.people.access import may, require, why_not
from app.people.permissions import Permission
from app.web.pages import pages
from app.web.places import places_of, show_at
from app.web.shell import errors_of, status_of, told_all
from app.web.tables import kept_as
from app.wording import title_of

router = pages()

CASEBOOK = "/{study}/participants/{code}/casebook"


@router.get(CASEBOOK, name="casebook.casebook")
def casebook(here: PageInStudy, code: str) -> Response:
    """Every entry with how far it is, who signed the whole, and what a signature would stand for."""
    return _page(here, _participant(here, code))


@router.get(CASEBOOK + "/sign", name="casebook.sign_form")
def sign_form(here: PageInStudy, code: str) -> Response:
    """Where somebody lands who goes on without sending the form again: the casebook."""
    return RedirectResponse(f"{_url(here, _participant(here, code).code)}#sign", status_code=303)


@router.post(CASEBOOK + "/sign", name="casebook.sign")
def sign(here: ChangeInStudy, code: str) -> Response:
    """Sign the casebook as it was shown, after proving again who signs (21 CFR 11.50, 11.200)."""
    participant = _participant(here, code)
    subject = f"{participant.code}/casebook"
    require(here.actor, Permission.CASEBOOK_SIGN, site_id=participant.site_id, action="casebook.sign", subject=subject)
    try:
        meaning = require_signature(here, MEANINGS)
        actions.sign_casebook(
            here.session,
            here.the_study,
            participant,
            meaning=meaning,
            digest=here.value(f"digest-{meaning}"),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        return _page(here, participant, problem)
    return here.redirect(_url(here, participant.code), done="casebook_signed")


@router.get(CASEBOOK + ".pdf", name="casebook.file")
def file(here: PageInStudy, code: str) -> Response:
    """The casebook as PDF, with what changed marked and the log behind."""
    participant = _participant(here, code)
    places = places_of(here)
    site = places.site(participant.site_id)
    body = casebook_of(
        here.session,
        here.the_study.own,
        participant,
        site=f"{site.code} {site.name}" if site else "",
        timezone=places.timezone(participant.site_id),
        by=here.actor,
        now=here.now,
    )
    name = f"{here.the_study.code}-{participant.code}-casebook-{here.now:%Y-%m-%d}.pdf"
    return Response(body, media_type="application/pdf", headers=kept_as(name))


@router.get("/{study}/participants/{code}/own-copy.zip", name="casebook.own_copy")
def own_copy(here: LoggedPageInStudy, code: str) -> Response:
    """What is kept of a participant, for themselves; that it was made is in the log (GDPR Art. 15, 20)."""
    participant = _participant(here, code)
    places = places_of(here)
    site = places.site(participant.site_id)
    place = Place(f"{site.code} {site.name}" if site else "", places.timezone(participant.site_id))
    about: dict[str, Any] = {"place": place, "by": here.actor, "now": here.now}
    with here.nobody_waits():
        book = book_of_copy(database_of(here.request), here.the_study.own, participant.code, **about)
    body = own_copy_of(here.session, here.the_study.own, participant, book=book, **about)
    name = f"{here.the_study.code}-{participant.code}-own-copy-{here.now:%Y-%m-%d}.zip"
    return Response(body, media_type="application/zip", headers=kept_as(name))


def _url(here: Here, code: str) -> str:
    return f"/{here.the_study.code}/participants/{code}/casebook"


def _participant(here: Here, code: str) -> Participant:
    return participant_by_code(here.session, here.the_study, code, by=here.actor, permission=Permission.ENTRY_READ)


def _page(here: Here, participant: Participant, problem: Invalid | Conflict | Refused | None = None) -> Response:
    assert participant.id is not None
    definition, places = here.the_study.definition, places_of(here)
    entries = entries_with_values(here.session, participant.id)
    pairs = states_of(here.session, definition, participant.id)
    marks = entries_of(here.session, participant.id)
    locks = locks_of(here.session, here.the_study, participant.id)
    signatures = reads.signatures_of(here.session, participant.id)
    standing = next((each for each in signatures if each.superseded_at is None), None)
    readable = without_withheld(here.session, definition, participant, entries, by=here.actor)
    manifest = manifest_of(readable, reads.corrected_screening(here.session, participant.id))
    whole = strongest([lock for lock in locks if lock.visit is None])
    lines = []
    for entry in entries:
        mark = next(each for each in marks[entry.visit, entry.instrument].repeats if each.repeat == entry.repeat)
        visit, form = definition.visit(entry.visit), definition.instrument(entry.instrument)
        lock = covering_visit(locks, entry.visit)
        lines.append(
            {
                "visit": visit.label if visit else entry.visit,
                "form": title_of(form, entry.repeat) if form else entry.name,
                "in_error": entry.in_error_why if entry.is_in_error else None,
                "url": f"/{here.the_study.code}/participants/{participant.code}/visits/{entry.visit}/entries/"
                f"{entry.name}/record",
                "version": entry.version,
                "saved_at": entry.saved_at,
                "saved_by": entry.saved_by,
                "mark": "none"
                if entry.is_in_error
                else entry_mark(
                    entry.status,
                    has_query=mark.has_query,
                    is_signed=mark.is_signed,
                    is_verified=mark.is_verified,
                    is_locked=is_locked(locks, entry.visit),
                    pair=pairs.get((entry.visit, entry.instrument), (None, ""))[0],
                ),
                "signed": entry.signed_name,
                "verified": mark.is_verified,
                "closed": {Kind.FROZEN: "frozen", Kind.LOCKED: "locked"}[lock.kind] if lock else "",
            }
        )
    reason = (
        why_not(here.actor, Permission.CASEBOOK_SIGN, site_id=participant.site_id)
        or why_closed(definition, whole, only_locked=True)
        or why_not_sign(
            manifest,
            standing,
            participant.code,
            partial=sum(not entry.is_complete for entry in entries if not entry.is_in_error),
            queries=sum(mark.has_query for mark in marks.values()),
        )
    )
    return show_at(
        here,
        places,
        "casebook/casebook.html",
        status_code=status_of(problem),
        participant=participant,
        url=_url(here, participant.code),
        may_copy=may(here.actor, Permission.IDENTITY_READ, site_id=participant.site_id),
        participant_url=f"/{here.the_study.code}/participants/{participant.code}",
        lines=lines,
        locks=[(what_of(definition, lock.participant, lock.visit), lock) for lock in locks],
        standing=standing,
        stands=standing is not None and holds(standing, participant.code, manifest),
        earlier=[each for each in reversed(signatures) if each.superseded_at is not None],
        meanings=told_all(here, MEANINGS),
        digests={meaning: casebook_digest(participant.code, manifest, meaning) for meaning in MEANINGS},
        meaning=here.value("meaning"),
        reason=reason,
        refusal=problem.reason if problem is not None and not isinstance(problem, Invalid) else None,
        errors=errors_of(problem),
        timezone=places.timezone(participant.site_id),
        signatory=here.actor.name,
    )
