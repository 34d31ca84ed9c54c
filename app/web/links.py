"""Links for participants: given by the site, opened by the participant, who signs consent or answers by it."""

import hmac
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlmodel import Session

from app.capture import actions as capture
from app.capture.questionnaires import rules as questionnaires
from app.capture.questionnaires.actions import give as give_link
from app.capture.questionnaires.reads import window_of
from app.capture.reads import entries_of
from app.capture.screens import asked, following, preceding, waiting
from app.capture.status import EntryStatus
from app.capture.typed import MISSING, WHY, Typed, named, parse_typed
from app.consent import actions as consents
from app.consent import reads as consent_reads
from app.consent import rules as consent_rules
from app.consent.models import Consent
from app.dependencies import (
    LARGEST_UPLOAD,
    ChangeInStudy,
    Form,
    Here,
    PageInStudy,
    Reading,
    Sent,
    SentFiles,
    TypedForm,
    Writing,
    database_of,
)
from app.foundation import clock
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.foundation.languages import translations
from app.foundation.words import day_in_words
from app.mail.actions import SECRET
from app.participants.identity import mail_address
from app.participants.links import actions, reads, rules
from app.participants.links.reads import Opened, born, known_link, link_of
from app.participants.links.rules import Purpose
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.participants.rules.personal import masked
from app.participants.status import Status
from app.people.access import may, require
from app.people.permissions import Permission
from app.rendering import language_word, page
from app.schedule.reads import visits_of
from app.schedule.reminders import rules as reminders
from app.schedule.reminders.reads import choice_of
from app.schedule.rules import in_window
from app.schedule.status import VisitStatus
from app.signed_copy import signed_copy
from app.studies.definition import Instrument
from app.studies.reads import as_read
from app.studies.rules.items import SEALED
from app.studies.texts import consent_in
from app.web.account import qr_code
from app.web.consent import html_of
from app.web.entries import (
    BASE,
    SAVE_AS,
    Spot,
    asked_here,
    attached,
    attached_again,
    form_sections,
    judged_look,
    lists,
    number,
    progress_of,
)
from app.web.items import FILE, NAME, REMOVE, STROKES, with_other_rows
from app.web.pages import pages
from app.web.places import Places, places_of, show_at
from app.web.shell import errors_of, status_of
from app.web.sign_in import plain_viewer
from app.web.tables import kept_as

router = pages()

GONE = "This link was used, or is too old. Ask your study site for a new one."
CLOSED = "These questions cannot be answered at present."
PROOF = "link proof"
AGAIN = "again"  # in what is sent by a link that is done: the copy is asked for, and nothing is sent a second time
NOT_BORN_SO = "This is not the date of birth that your study site has. Check day, month and year."
BIRTHDAY = date(1980, 2, 29)  # how one is written is shown by it
# Of one question a screen: which one, and where to. No item code has a hyphen.
ITEM, GO, AT, END = "asked-item", "go-to", "at", "end"
ENDINGS = (MISSING, WHY, FILE, REMOVE, STROKES, NAME)
"""What stands behind an item's code in the fields of its question."""
ASKED = (VisitStatus.PLANNED, VisitStatus.HELD)
STATES = {"open": "partial", "done": "complete", "expired": "late", "ended": "none", "locked": "query"}


# For the site: which links were given, a new one, taking one back


@router.get("/{study}/participants/{code}/links", name="links.links")
def links(here: PageInStudy, code: str) -> Response:
    """The links this participant was given, and a new one."""
    return _links_page(here, _participant(here, code))


@router.post("/{study}/participants/{code}/links", name="links.give")
def give(here: ChangeInStudy, code: str) -> Response:
    """A new link, shown once: as an address to send, and as a picture for the participant's telephone."""
    participant = _participant(here, code)
    purpose, _, about = here.value("what").partition(":")
    mailed = here.value("how") == "mail"
    try:
        if purpose not in set(Purpose):
            raise Invalid([FieldProblem("what", "required", "Choose what the participant is to do by the link.")])
        about, _, language = about.partition(":")
        days = number(here.value("days", str(rules.DAYS)))
        token = give_link(
            here.session,
            here.the_study,
            participant,
            purpose=Purpose(purpose),
            about=about,
            language=language or here.the_study.definition.language,
            days=days,
            before_window=bool(here.value("before_window")) and purpose == Purpose.QUESTIONS,
            by=here.actor,
            now=here.now,
        )
        waits = reads.known_link(here.session, token)
        opens_on = _waits_until(here, waits) if waits is not None else None
        if mailed:
            _mail(
                here,
                places_of(here),
                participant,
                token,
                language or here.the_study.definition.language,
                days,
                opens_on,
            )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _links_page(here, _participant(here, code), problem=problem)
    url = f"/{here.the_study.code}/participants/{participant.code}/links"
    if mailed:
        return here.redirect(url, done="link_mailed")
    here.repeated_leads_to(url)
    here.shows()
    return _links_page(here, participant, address=f"{here.settings.address}/link/{token}", opens_on=opens_on)


@router.post("/{study}/participants/{code}/links/{link_id}/end", name="links.end")
def end(here: ChangeInStudy, code: str, link_id: int) -> Response:
    """Take a link back: it opens nothing any more."""
    participant = _participant(here, code)
    actions.end_link(here.session, here.the_study, participant, link_id, by=here.actor, now=here.now)
    return here.redirect(f"/{here.the_study.code}/participants/{participant.code}/links", done="link_ended")


def _mail(
    here: Here, places: Places, participant: Participant, token: str, language: str, days: int, opens_on: date | None
) -> None:
    """A mail that says what the link is for and until when, and names nobody and nothing of the treatment."""
    of = translations(language)
    study = here.the_study.definition.short_title
    words = of.gettext(
        "Your study site asks you to open this link:\n\n%(address)s\n\nIt is for you alone, so do not send it on. "
        "If you have a question, call your study site."
    )
    until = of.ngettext("It works for one day.", "It works for %(num)s days.", days) % {"num": days}
    if opens_on is not None:
        # The days count from then on.
        opens = of.gettext("You can answer from %(day)s on.") % {"day": reminders.day_words(opens_on, language)}
        until = f"{opens} {until}"
    body = f"{words % {'address': f'{here.settings.address}/link/{SECRET}'}} {until}"
    place = next(each for each in places.sites if each.id == participant.site_id)
    zone = choice_of(here.session, participant.id or 0).timezone or place.timezone
    actions.mail_link(
        here.session,
        here.the_study,
        participant,
        token,
        subject=of.gettext("%(study)s: a link for you") % {"study": study},
        body=reminders.with_way_out(body, language, place.name),
        not_before=reminders.after_quiet(here.now, here.the_study.definition.schedule, zone),
        by=here.actor,
        now=here.now,
    )


def _participant(here: Here, code: str) -> Participant:
    participant = participant_by_code(here.session, here.the_study, code, by=here.actor)
    subject = f"{participant.code}/link"
    require(here.actor, Permission.PARTICIPANT_LINK, site_id=participant.site_id, subject=subject)
    return participant


def _links_page(
    here: Here,
    participant: Participant,
    *,
    problem: Invalid | Refused | None = None,
    address: str | None = None,
    opens_on: date | None = None,
) -> Response:
    assert participant.id is not None
    places, definition = places_of(here), here.the_study.definition
    today, site = places.today(here, participant.site_id), places.code(participant.site_id)
    choices: list[tuple[str, ...]] = []
    to_sign: list[tuple[str, ...]] = []
    signed, status = consent_reads.consents_of(here.session, participant.id), Status(participant.status)
    lacks = consent_rules.lacks_option(definition.consent.optional, consent_reads.options_now(here.session, signed))
    for language in sorted({one.language for one in definition.consent_documents}):
        document = consent_reads.valid_document(here.the_study, language, today, site)
        if document is None:
            continue
        first = consent_rules.why_not_sign(status, signed, document.version) is None
        if first or (lacks and consent_rules.why_not_sign(status, signed, document.version, gives_more=True) is None):
            tongue = language_word(language)
            said = f"{document.title}, version {document.version}, {tongue}"
            again = () if first else ("once more, for an optional consent that they do not give",)
            to_sign.append((f"consent:{document.version}:{language}", said, *again))
    # Who signs says first when they were born: without that on file nobody could.
    born_missing = bool(to_sign) and born(here.session, participant.id) is None
    choices += to_sign if not born_missing else []
    dated = {one.code: one for one in visits_of(here.session, participant.id) if one.status in ASKED}
    early = False
    marks = entries_of(here.session, participant.id)
    for visit in definition.visits:
        forms = rules.asked_of_participants(definition, visit.code)
        entered = [marks.get((visit.code, form.code)) for form in forms]
        if visit.code in dated and not all(mark and mark.status == EntryStatus.COMPLETE for mark in entered):
            count = "one form" if len(forms) == 1 else f"{len(forms)} forms"
            window = dated[visit.code]
            span = f"{day_in_words(window.opens_on)} to {day_in_words(window.closes_on)}"
            waits = questionnaires.waits_until(window, today, before_window=False)
            count = f"{count}; window {span}, not open yet" if waits else f"{count}; window {span}"
            early = early or waits is not None
            choices.append((f"questions:{visit.code}", visit.label, count))
            for language in sorted({text.language for form in forms for text in form.texts}):
                words = f"{visit.label}, {language_word(language)}"
                choices.append((f"questions:{visit.code}:{language}", words, count))
    labels = {visit.code: visit.label for visit in definition.visits}
    rows = [
        {
            "link": link,
            "state": (state := rules.state_of(link, here.now)),
            "mark": STATES[state],
            "label": labels.get(link.about, link.about) if link.purpose == Purpose.QUESTIONS else link.about,
        }
        for link in reads.links_of(here.session, participant.id)
    ]
    return show_at(
        here,
        places,
        "links/links.html",
        status_code=status_of(problem),
        participant=participant,
        url=f"/{here.the_study.code}/participants/{participant.code}",
        rows=rows,
        choices=choices,
        born_missing=born_missing,
        may_add=may(here.actor, Permission.IDENTITY_CHANGE, site_id=participant.site_id),
        values={
            "what": here.value("what"),
            "days": here.value("days") or str(rules.DAYS),
            "how": here.value("how") or "show",
            "before_window": here.value("before_window"),
        },
        errors=errors_of(problem),
        refused=problem.reason if isinstance(problem, Refused) else None,
        address=address,
        opens_on=opens_on,
        early=early,
        qr=qr_code(address) if address else None,
        most_days=rules.MOST_DAYS,
        timezone=places.timezone(participant.site_id),
    )


# For the participant: no sign-in, no name, one purpose


@router.get("/link/{token}", name="links.open_link")
def open_link(request: Request, token: str, session: Writing) -> Response:
    """What the participant is asked: the questions, or who they are before they read and sign."""
    opened = known_link(session, token)
    if opened is None or not rules.is_open(opened.link, clock.now()):
        return _over_page(request, session, opened)
    here = _as_participant(request, session, opened, {})
    actions.open_link(session, opened, by=here.actor, now=here.now)
    if opened.link.purpose == Purpose.CONSENT:
        return _born_page(here, opened, token)
    if (opens_on := _waits_until(here, opened)) is not None:
        return _early_page(here, opened, opens_on)
    return _questions_page(here, opened, token)


@router.post("/link/{token}", name="links.send", max_body_size=LARGEST_UPLOAD)
def send(request: Request, token: str, session: Writing, form: TypedForm, sent: SentFiles) -> Response:
    """Keep what the participant typed; what stands against it is said at the question."""
    opened = known_link(session, token)
    if opened is not None and AGAIN in form and rules.shows_copy(opened.link, clock.now()):
        return _copy_again(_as_participant(request, session, opened, form), opened, token)
    if opened is None or not rules.is_open(opened.link, clock.now()):
        return _over_page(request, session, opened, sent=True)
    here = _as_participant(request, session, opened, form)
    if opened.link.purpose == Purpose.CONSENT:
        return _sign(here, opened, token)
    if (opens_on := _waits_until(here, opened)) is not None:
        return _early_page(here, opened, opens_on, sent=True)
    if here.value(GO) == "finish":
        return _finish(here, opened, token)
    return _answer(here, opened, token, sent)


@router.post("/link/{token}/look", name="links.look")
def look(request: Request, token: str, session: Reading, form: TypedForm) -> Response:
    """What is hidden, and what does not hold, of answers that are not saved yet. Nothing is kept."""
    opened = _opened(session, token)
    here = _as_participant(request, session, opened, form)
    looked_at = _form(opened, here.value("form"))
    if opened.link.purpose != Purpose.QUESTIONS or looked_at is None or _waits_until(here, opened) is not None:
        raise NotFound(GONE)
    spot = _spot(here, opened, looked_at)
    if _by_screen(spot):  # one question is on the screen, and judged with the answers that are saved
        form = {**without(spot.instrument, spot.stored_form(), here.value(ITEM)), **form}
    return JSONResponse(judged_look(spot, form))


def _opened(session: Session, token: str) -> Opened:
    opened = link_of(session, token, now=clock.now())
    if opened is None:
        raise NotFound(GONE)
    return opened


def _as_participant(request: Request, session: Session, opened: Opened, form: Form) -> Here:
    """The request of somebody who has a link and no session."""
    actor = opened.actor(request.state.request_id)
    request.state.actor, request.state.study = actor, opened.study
    return Here(request, session, actor, clock.now(), opened.study, form=form, reads=opened.link.language)


def _show(here: Here, opened: Opened, template: str, *, status: int = 200, **values: Any) -> Response:
    viewer = replace(plain_viewer(here.request), language=opened.link.language, home_url="#page")
    title = opened.study.definition.short_title
    given = {"study_title": title, "opened": opened, **values}
    return page(here.request, template, viewer=viewer, status_code=status, names=here.names, **given)


# Consent


def _born_page(here: Here, opened: Opened, token: str, *, error: str | None = None, status: int = 200) -> Response:
    asked = {"token": token, "error": error, "typed": here.value("born"), "example": BIRTHDAY}
    return _show(here, opened, "links/born.html", status=status, **asked)


def _sign(here: Here, opened: Opened, token: str) -> Response:
    """First who they are; then the document, and their name under it."""
    if not _proven(here, opened):
        error = _not_born_so(here, opened)
        if error is None:
            return _consent_page(here, opened, token)
        now = known_link(here.session, token)
        if now is None or not rules.is_open(now.link, here.now):
            return _over_page(here.request, here.session, now)
        return _born_page(here, opened, token, error=error, status=422)
    definition = opened.study.definition
    options = {
        choice.code: said == "yes"
        for choice in definition.consent.optional
        if (said := here.value(f"options.{choice.code}")) != ""
    }
    answers = {one.code: said for one in definition.consent.questions if (said := here.value(f"questions.{one.code}"))}
    try:
        consents.record_consent(
            here.session,
            opened.study,
            opened.participant,
            version=opened.link.about,
            language=opened.link.language,
            method="by_link",
            signed_on=clock.today(opened.timezone, here.now),
            signature=here.value("signature"),
            paper_sha256=None,
            options=options,
            answers=answers,
            strokes=here.value("strokes"),
            copy_asked=here.value("copy") == "yes",
            by=here.actor,
            now=here.now,
            countersign=False,
        )
        actions.finish_link(here.session, opened, by=here.actor, now=here.now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _consent_page(here, opened, token, problem=problem)
    return _done_page(here.request, opened, copy_asked=here.value("copy") == "yes")


def _not_born_so(here: Here, opened: Opened) -> str | None:
    """What stands against the date of birth that was typed, which counts as a try; None where it is the right one."""
    try:
        known = actions.is_born_on(here.session, opened, here.value("born"), by=here.actor, now=here.now)
    except Invalid as problem:
        return problem.problems[0].message
    return None if known else NOT_BORN_SO


def _by_all(opened: Opened, consent: Consent) -> bool:
    """Whether everybody has signed it who signs a consent of this study."""
    return consent_rules.is_signed_by_all(consent, opened.study.definition.consent.countersigned_by)


def _signed(session: Session, opened: Opened) -> Consent | None:
    """What was signed by this link and stands: refused, it is called about, and nobody gets a copy of it."""
    found = consent_reads.consents_of(session, opened.link.participant_id)
    return next(
        (
            one
            for one in reversed(found)
            if one.method == "by_link" and one.document_version == opened.link.about and one.refused_at is None
        ),
        None,
    )


def _copy_again(here: Here, opened: Opened, token: str) -> Response:
    """The signed document once more, for who knows when the participant was born; the log says that it was shown."""
    consent = _signed(here.session, opened)
    if consent is None or not _by_all(opened, consent):
        return _over_page(here.request, here.session, opened)
    error = _not_born_so(here, opened)
    if error is not None:
        return _over_page(here.request, here.session, known_link(here.session, token), error=error)
    signature, strokes = consents.show_own_copy(
        here.session, opened.study, opened.participant, consent, by=here.actor, now=here.now
    )
    made = signed_copy(
        here.session,
        opened.study,
        opened.participant,
        consent,
        signature=signature,
        strokes=strokes,
        timezone=opened.timezone,
    )
    return Response(made, media_type="application/pdf", headers=kept_as("copy.pdf"))


def _proof(here: Here, opened: Opened) -> str:
    """Shows that whoever sends the form has said who they are; good for this link alone."""
    return database_of(here.request).keys.tag(PROOF, opened.link.token_hash).hex()


def _proven(here: Here, opened: Opened) -> bool:
    return hmac.compare_digest(here.value("proof").encode(), _proof(here, opened).encode())


def _consent_page(here: Here, opened: Opened, token: str, *, problem: Invalid | Refused | None = None) -> Response:
    definition = opened.study.definition
    document = consent_rules.document_with(definition.consent_documents, opened.link.about, opened.link.language)
    beside = consent_in(definition, opened.link.language)
    problems = problem.problems if isinstance(problem, Invalid) else []
    address = mail_address(here.session, opened.link.participant_id)
    return _show(
        here,
        opened,
        "links/consent.html",
        address=masked(address) if address else None,
        status=status_of(problem),
        token=token,
        proof=_proof(here, opened),
        document=document,
        text=html_of(document),
        questions=beside.questions,
        optional=beside.optional,
        values={name: texts[-1] for name, texts in here.form.items() if texts},
        errors={each.field: each.message for each in problems},
        problems=[(each.field, each.message) for each in problems],
        refused=problem.reason if isinstance(problem, Refused) else None,
    )


# Questions


def _waits_until(here: Here, opened: Opened) -> date | None:
    """The first day on which the questions of a link can be answered, while that is still to come."""
    if opened.link.purpose != Purpose.QUESTIONS:
        return None
    window = window_of(here.session, opened.link.participant_id, opened.link.about)
    if window is None:
        return None
    today = clock.today(window.timezone, here.now)
    return questionnaires.waits_until(window, today, before_window=opened.link.before_window)


def _early_page(here: Here, opened: Opened, opens_on: date, *, sent: bool = False) -> Response:
    """From when the questions can be answered; the same link is for then."""
    words = reminders.day_words(opens_on, opened.link.language)
    return _show(here, opened, "links/early.html", status=409 if sent else 200, opens=words)


def _form(opened: Opened, code: str) -> Instrument | None:
    forms = rules.asked_of_participants(opened.study.definition, opened.link.about)
    return next((form for form in forms if form.code == code), None)


def _spot(here: Here, opened: Opened, form: Instrument) -> Spot:
    planned = here.read_study.definition.visit(opened.link.about)
    if planned is None:
        raise NotFound(GONE)
    own = opened.study.definition.language
    worded = as_read(here.session, opened.study.id, form, opened.link.language, own=own)
    return Spot(here, opened.participant, planned, worded, language=opened.link.language)


def _spots(here: Here, opened: Opened) -> list[Spot]:
    """Every form that is asked by this link, in order."""
    forms = rules.asked_of_participants(opened.study.definition, opened.link.about)
    return [_spot(here, opened, form) for form in forms]


def _is_left(spot: Spot) -> bool:
    return spot.entry is None or not (spot.entry.is_complete or spot.entry.is_in_error)


def _questions_page(
    here: Here,
    opened: Opened,
    token: str,
    *,
    spot: Spot | None = None,
    item: str | None = None,
    problem: Any = None,
    typed: dict[str, list[str]] | None = None,
) -> Response:
    """The form that is asked now, on a page or one question of it; the end, once none is left."""
    spots = _spots(here, opened)
    if spot is None:
        wanted, _, code = here.request.query_params.get(AT, "").partition(".")
        spot = next((each for each in spots if each.instrument.code == wanted and _by_screen(each)), None)
        item = code if spot is not None else None
        left = [each for each in spots if _is_left(each)]
        if spot is None and wanted != END:
            spot = left[0] if left else None
        if spot is None:
            if any(_by_screen(each) for each in spots):
                return _end_page(here, opened, token, spots)
            return _done_page(here.request, opened)
    shown_again = typed
    typed = spot.stored_form() if shown_again is None else shown_again
    if problem is not None:
        typed = {**({} if item is None else without(spot.instrument, typed, item)), **lists(here.form)}
    read = parse_typed(spot.instrument, typed, language=spot.reader)
    judgement = spot.judge(read.values, read.reasons, typed)
    problems = list(problem.problems) if isinstance(problem, Invalid) else []
    sections = form_sections(spot, typed, problems=problems, judgement=judgement)
    done, total = progress_of(sections)
    position = next(n for n, each in enumerate(spots) if each.instrument.code == spot.instrument.code)
    shown: dict[str, Any] = {
        "token": token,
        "spot": spot,
        "sections": sections,
        "done": done,
        "asked": total,
        "part": position + 1,
        "parts": len(spots),
        "version": spot.entry.version if spot.entry else 0,
        # Why nothing can be entered is said to staff in words of staff: a participant could not act on them.
        "refused": CLOSED
        if spot.why_not_enter
        else problem.reason
        if problem is not None and not isinstance(problem, Invalid)
        else None,
        "has_sealed": any(each.type in SEALED for each in spot.instrument.items),
    }
    status = status_of(problem)
    if not _by_screen(spot):
        listed = [(f"item-{each.field.removesuffix('__why')}", each.message) for each in problems]
        return _show(here, opened, "links/questions.html", status=status, problems=listed, **shown)
    codes = asked(spot.instrument, judgement)
    code = item if item in codes else next(iter(waiting(spot.instrument, judgement)), codes[0])
    section, question, view = next(
        (section["label"], each, view)
        for section in sections
        for each, view in section["items"]  # type: ignore[attr-defined]
        if each.code == code
    )
    before = preceding(spot.instrument, judgement, code)
    earlier = position > 0 and _by_screen(spots[position - 1])
    return _show(
        here,
        opened,
        "links/screen.html",
        status=status,
        section=section,
        item=question,
        view=view,
        number=codes.index(code) + 1,
        total=len(codes),
        may_go_back=before is not None or earlier,
        is_left=code in waiting(spot.instrument, judgement),
        # What stands against another question is said there; here it leads to it.
        problems=[
            (f"item-{code}" if each.field.removesuffix(WHY) == code else None, each.message) for each in problems
        ],
        **shown,
    )


def _by_screen(spot: Spot) -> bool:
    return spot.instrument.presentation == "screen"


def _end_page(here: Here, opened: Opened, token: str, spots: list[Spot], problem: Refused | None = None) -> Response:
    """After the last question: what was left out, and the one press that ends it."""
    rows = []
    for spot in spots:
        if not _is_left(spot):
            continue
        values, reasons = (spot.entry.values, spot.entry.reasons) if spot.entry else ({}, {})
        here_asked = {code: value for code, value in values.items() if spot.instrument.item(code)}
        for code in waiting(spot.instrument, spot.judge(here_asked, reasons)):
            item = spot.instrument.item(code)
            assert item is not None
            at = f"?{AT}={spot.instrument.code}.{code}" if _by_screen(spot) else ""
            rows.append((item.label, f"/link/{token}{at}"))
    last = spots[-1]
    return _show(
        here,
        opened,
        "links/end.html",
        status=status_of(problem),
        token=token,
        rows=rows,
        refused=problem.reason if problem is not None else None,
        back=f"/link/{token}?{AT}={last.instrument.code}.{last.instrument.items[-1].code}"
        if _by_screen(last)
        else None,
    )


def _finish(here: Here, opened: Opened, token: str) -> Response:
    """The participant says that they are done: nothing may be left that must be answered."""
    spots = _spots(here, opened)
    if any(_is_left(spot) for spot in spots):
        problem = Refused("Some questions are not answered yet. Answer them, or say why there is no answer.")
        return _end_page(here, opened, token, spots, problem)
    actions.finish_link(here.session, opened, by=here.actor, now=here.now)
    return _done_page(here.request, opened)


def _answer(here: Here, opened: Opened, token: str, sent: Mapping[str, Sent]) -> Response:
    form = _form(opened, here.value("form"))
    if form is None:
        raise NotFound(GONE)
    spot = _spot(here, opened, form)
    item = here.value(ITEM) if _by_screen(spot) else None
    goes = here.value(GO, "next")
    if item is not None and form.item(item) is None:
        raise NotFound(GONE)
    if (changed := with_other_rows(form, here.form, here.value(SAVE_AS))) is not None:
        here.release_key()  # nothing is saved: the same form goes on
        return _questions_page(here, opened, token, spot=spot, typed=changed)
    try:
        posted, unkept = attached(spot, sent)
        if item is not None:
            posted = {**without(form, spot.stored_form(), item), **_fields_of(form, item, posted)}
        # In the words that are read, as everything said of it.
        typed = parse_typed(spot.instrument, posted, language=spot.reader)
        _hold(here, opened, spot)
        problems = [*unkept, *asked_here(spot, typed)]
        if item is not None and goes == "next" and not problems:
            problems = _unanswered(spot, typed, item)
        saved = None
        if item is None or problems or typed.values or spot.entry is not None:
            saved = _save(here, opened, spot, typed, problems, partial=item is not None or _is_later(here))
    except (Invalid, Conflict, Refused) as problem:
        here.refuse(problem)
        _keep_again(here, spot, sent)
        return _questions_page(here, opened, token, spot=replace(spot), item=item, problem=problem)
    if _is_later(here) or goes == "later":
        return _show(here, opened, "links/later.html", token=token)
    if item is not None:
        return RedirectResponse(_screen_beside(here, opened, token, spot, typed, item, goes), status_code=303)
    if saved is not None and saved.status is not EntryStatus.COMPLETE:
        return _show(here, opened, "links/later.html", token=token)
    spots = _spots(here, opened)
    if not any(_is_left(each) for each in spots) and not any(_by_screen(each) for each in spots):
        actions.finish_link(here.session, opened, by=here.actor, now=here.now)
        return _done_page(here.request, opened)
    return RedirectResponse(f"/link/{token}", status_code=303)


def _is_later(here: Here) -> bool:
    return here.value(SAVE_AS) == "partial"


def _keep_again(here: Here, spot: Spot, sent: Mapping[str, Sent]) -> None:
    """What was sent with a form that is shown again is kept, and stands in it."""
    here.form = attached_again(spot, sent)


def _save(
    here: Here, opened: Opened, spot: Spot, typed: Typed, problems: list[FieldProblem], *, partial: bool
) -> capture.SavedEntry:
    entry = spot.entry
    base = number(here.value(BASE))
    if _by_screen(spot) and entry is not None and entry.saved_by == here.actor.username:
        base = entry.version  # one question is put into what they saved themselves, in whichever window
    return capture.save_entry(
        here.session,
        opened.study,
        opened.participant,
        visit=opened.link.about,
        instrument=spot.instrument.code,
        values=typed.values,
        reasons=typed.reasons,
        base_version=base,
        why=rules.CHANGED_BY_LINK,
        by=here.actor,
        now=here.now,
        accept_partial=partial,
        problems=problems,
        worded=spot.instrument,
    )


def _unanswered(spot: Spot, typed: Typed, item: str) -> list[FieldProblem]:
    """What keeps this one question from being done with: no answer where one is needed, or an unexplained one."""
    judgement = spot.judge(typed.values, typed.reasons)
    asked_item = spot.instrument.item(item)
    assert asked_item is not None
    if item in judgement.missing_required:
        words = f"{named(asked_item)}: answer this, say why there is no answer, or leave it for later."
        return [FieldProblem(item, "required", words)]
    soft = [finding for finding in judgement.soft if finding.item == item]
    return [FieldProblem(item + WHY, one.rule, one.advice) for one in soft] if item in judgement.unexplained else []


def _fields_of(instrument: Instrument, item: str, form: Form) -> dict[str, list[str]]:
    # A field that is called as another question is that question's.
    others = {each.code for each in instrument.items} - {item}
    mine = {item, *(item + ending for ending in ENDINGS)} - others
    return {name: list(texts) for name, texts in form.items() if name in mine}


def without(instrument: Instrument, form: Mapping[str, list[str]], item: str) -> dict[str, list[str]]:
    """The fields of a form but those of one question."""
    mine = _fields_of(instrument, item, form)
    return {name: texts for name, texts in form.items() if name not in mine}


def _screen_beside(here: Here, opened: Opened, token: str, spot: Spot, typed: Typed, item: str, goes: str) -> str:
    """Where the participant goes from this question: to the one beside it, in this form or the one beside it."""
    judgement = spot.judge(typed.values, typed.reasons)
    step = preceding if goes == "back" else following
    code = step(spot.instrument, judgement, item)
    if code is not None:
        return f"/link/{token}?{AT}={spot.instrument.code}.{code}"
    spots = _spots(here, opened)
    position = next(n for n, each in enumerate(spots) if each.instrument.code == spot.instrument.code)
    beside = position + (-1 if goes == "back" else 1)
    if not 0 <= beside < len(spots):
        return f"/link/{token}?{AT}={END if beside > 0 else ''}"
    other = spots[beside]
    if not _by_screen(other):
        return f"/link/{token}"
    place = -1 if goes == "back" else 0
    return f"/link/{token}?{AT}={other.instrument.code}.{other.instrument.items[place].code}"


def _hold(here: Here, opened: Opened, spot: Spot) -> None:
    """With the first answers the visit is held, on the participant's day."""
    if spot.visit.status != VisitStatus.PLANNED:
        return
    today = clock.today(opened.timezone, here.now)
    capture.record_visit(
        here.session,
        opened.study,
        opened.participant,
        spot.planned.code,
        held_on=today,
        version=spot.visit.version,
        reason=None if in_window(spot.visit, today) else "The participant answered by link on this day.",
        by=here.actor,
        now=here.now,
    )


def _done_page(request: Request, opened: Opened, *, copy_asked: bool = False) -> Response:
    """Thanks, in the language of the link, for whoever has just done what it was for."""
    consent = opened.link.purpose == Purpose.CONSENT
    return _done(request, opened, on=None, consent=consent, copy_asked=copy_asked)


def _done(request: Request, opened: Opened, *, status: int = 200, **values: Any) -> Response:
    viewer = replace(plain_viewer(request), language=opened.link.language, home_url="#page")
    return page(request, "links/done.html", viewer=viewer, status_code=status, site=opened.site_name, **values)


def _done_before(request: Request, session: Session, opened: Opened, done_at: datetime, error: str | None) -> Response:
    """What was signed or answered, and when, for whoever opens the link once more, or sends the same: the reply may
    have been lost. Nothing that only the participant may read: what they signed they get once they said who they are.
    """
    consent, planned = None, opened.study.definition.visit(opened.link.about)
    if opened.link.purpose == Purpose.CONSENT:
        consent = _signed(session, opened)
    complete = consent is not None and _by_all(opened, consent)
    return _done(
        request,
        opened,
        status=422 if error else 200,
        consent=opened.link.purpose == Purpose.CONSENT,
        on=done_at.astimezone(ZoneInfo(opened.timezone)).date(),
        study_title=opened.study.definition.short_title,
        visit=planned.label if planned else None,
        counts=consent is not None,
        complete=complete,
        copy=complete and rules.shows_copy(opened.link, clock.now()),
        example=BIRTHDAY,
        error=error,
    )


def _over_page(
    request: Request, session: Session, opened: Opened | None, *, sent: bool = False, error: str | None = None
) -> Response:
    """Why a link opens nothing, and what a participant can do, in its language; no way to where staff sign in."""
    if opened is not None and opened.link.done_at is not None:
        return _done_before(request, session, opened, opened.link.done_at, error)
    viewer = replace(plain_viewer(request), home_url="#page")
    values: dict[str, Any] = {"sent": sent, "locked": False}
    if opened is not None:
        viewer = replace(viewer, language=opened.link.language)
        locked = rules.state_of(opened.link, clock.now()) == "locked"
        values |= {"locked": locked, "tries": rules.MOST_TRIES, "site": opened.site_name}
    return page(request, "links/over.html", viewer=viewer, status_code=404, **values)
