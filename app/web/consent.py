"""Consent: the document and the signatures under it, the countersignature, and the signed consent to print."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi.responses import RedirectResponse, Response
from markupsafe import Markup
from sqlmodel import Session

from app.consent import actions, reads, rules
from app.consent.models import Consent
from app.dependencies import (
    ChangeInStudy,
    Here,
    LoggedPageInStudy,
    PageInStudy,
    SentFiles,
    database_of,
    require_password,
)
from app.foundation.drawing import drawing_svg
from app.foundation.errors import Invalid, NotFound, Refused
from app.foundation.paging import LARGEST_PAGE, Page, every_page
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.participants.rules.files import SCANS, kind_of
from app.participants.status import Status
from app.people.access import may, require, why_not
from app.people.permissions import Permission
from app.schedule.actions import follow_refusal, open_visits
from app.signed_copy import signed_copy
from app.studies.definition import ConsentDocument
from app.studies.texts import consent_in
from app.web.pages import pages
from app.web.places import Places, places_of, show_at, typed_day
from app.web.shell import errors_of, status_of
from app.web.tables import address, csv_file, kept_as

router = pages()


# Recording


@router.get("/{study}/participants/{code}/consent", name="consent.record_form")
def record_form(here: PageInStudy, code: str) -> Response:
    """The document to read together, and the signatures under it."""
    participant = _participant(here, code, Permission.CONSENT_RECORD)
    asked = here.request.query_params
    return _record_page(
        here,
        participant,
        version=asked.get("version", ""),
        language=asked.get("language", ""),
        method=asked.get("method", ""),
        again=asked.get("again") == "yes",
    )


@router.post("/{study}/participants/{code}/consent", name="consent.record")
def record(here: ChangeInStudy, code: str, sent: SentFiles) -> Response:
    """Keep what the participant signed; signed for the study as well when this person may and wants to."""
    participant = _participant(here, code, Permission.CONSENT_RECORD)
    version, language, method = (here.value(name) for name in ("version", "language", "method"))
    scan = sent["scan"].data if "scan" in sent else None
    typed = here.value("paper_sha256").lower().replace(" ", "") or None
    paper = hashlib.sha256(scan).hexdigest() if scan else typed
    if switch := here.value("switch"):
        here.release_key()  # showing the form another way changes nothing of a consent
        _keep(here, participant, scan)
        here.shows()
        return _switched_page(here, participant, switch, version=version, language=language, method=method, paper=paper)
    paper = paper if method == "paper" else None
    optional = here.the_study.definition.consent.optional
    options = {
        choice.code: said == "yes" for choice in optional if (said := here.value(f"options.{choice.code}")) != ""
    }
    answers = _answers(here) if method != "paper" else {}
    now_too = here.value("countersign") == "now"
    try:
        signed_on = typed_day(here.value("signed_on"), "signed_on")
        _refuse_problems(here, participant, version, language, method, signed_on, paper, options, answers)
        if now_too:  # a record alone is no signature
            require_password(here, here.form.get("password", [""])[-1])
        if scan and method == "paper":
            actions.keep_scan(here.session, here.the_study, participant, scan, by=here.actor, now=here.now)
        actions.record_consent(
            here.session,
            here.the_study,
            participant,
            version=version,
            language=language,
            method=method,
            signed_on=signed_on,
            signature=here.value("signature"),
            paper_sha256=paper,
            options=options,
            answers=answers,
            strokes=here.value("strokes") if method != "paper" else "",
            by=here.actor,
            now=here.now,
            countersign=now_too,
        )
        if now_too:
            open_visits(
                here.session,
                here.the_study,
                participant,
                anchor="consent",
                on=signed_on,
                by=here.actor,
                now=here.now,
            )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        participant = _participant(here, code, Permission.CONSENT_RECORD)
        if method == "paper":
            _keep(here, participant, scan)
        return _record_page(
            here,
            participant,
            version=version,
            language=language,
            method=method,
            paper=paper,
            problem=problem,
        )
    return here.redirect(_url(here, participant), done="countersigned" if now_too else "consented")


def _keep(here: Here, participant: Participant, scan: bytes | None) -> None:
    """A scan that came with a form which is shown again need not be sent again."""
    if scan and kind_of(scan) in SCANS:
        actions.keep_scan(here.session, here.the_study, participant, scan, by=here.actor, now=here.now)


def _answers(here: Here) -> dict[str, str]:
    """What was answered to the study's questions about the document; what was left out is not there."""
    said = {each.code: here.value(f"questions.{each.code}") for each in here.the_study.definition.consent.questions}
    return {code: answer for code, answer in said.items() if answer}


def _switched_page(
    here: Here, participant: Participant, switch: str, *, version: str, language: str, method: str, paper: str | None
) -> Response:
    """The same form signed another way, or under another document, with what was answered: `method:paper`."""
    name, _, value = switch.partition(":")
    values = {each: texts[-1] for each, texts in here.form.items() if texts}
    if name == "method":
        # A name signs on screen, a place on paper: each waits in the form while the other is asked for.
        signatures = {f"signature.{method}": values.get("signature", "")}
        values = {**values, **signatures, "signature": values.get(f"signature.{value}", "")}
    asked = {"version": version, "language": language, "method": method, name: value}
    if name == "language":
        asked["version"] = ""
    version, language, method = (asked[each] for each in ("version", "language", "method"))
    return _record_page(
        here, participant, version=version, language=language, method=method, paper=paper, values=values
    )


def _refuse_problems(
    here: Here,
    participant: Participant,
    version: str,
    language: str,
    method: str,
    signed_on: Any,
    paper: str | None,
    options: dict[str, bool],
    answers: dict[str, str],
) -> None:
    """Say what is wrong with the form before a password is asked for it, so that none is typed in vain."""
    definition, places = here.the_study.definition, places_of(here)
    asked = consent_in(here.the_study.own.definition, language)
    problems = rules.consent_problems(
        definition.consent_documents,
        asked.optional,
        version=version,
        language=language,
        method=method,
        signed_on=signed_on,
        signature=here.value("signature"),
        paper_sha256=paper,
        options=options,
        today=places.today(here, participant.site_id),
        site=places.code(participant.site_id),
        questions=asked.questions,
        answers=answers,
        strokes=here.value("strokes") if method != "paper" else "",
    )
    if problems:
        raise Invalid(problems)


def _record_page(
    here: Here,
    participant: Participant,
    *,
    version: str,
    language: str,
    method: str,
    paper: str | None = None,
    values: Mapping[str, str] | None = None,
    problem: Invalid | Refused | None = None,
    again: bool = False,
) -> Response:
    again = again or here.value("again") == "yes"
    assert participant.id is not None
    places, definition = places_of(here), here.the_study.definition
    today, site = places.today(here, participant.site_id), places.code(participant.site_id)
    consents = reads.consents_of(here.session, participant.id)
    url = _url(here, participant)
    pending = next((one for one in consents if rules.is_waiting(one)), None)
    if pending is not None and here.request.method == "GET":
        return RedirectResponse(f"{url}/consents/{pending.id}/countersign", status_code=303)
    language = language or definition.language
    document = rules.document_with(definition.consent_documents, version, language) if version else None
    for each in (language, definition.language):
        document = document or reads.valid_document(here.the_study, each, today, site)
    used = [one for one in definition.consent_documents if one.valid_from <= today and rules.is_used_at(one, site)]
    languages = sorted({one.language for one in used})
    refused = problem.reason if isinstance(problem, Refused) else None
    if document is not None and refused is None:
        refused = rules.why_not_sign(Status(participant.status), consents, document.version, gives_more=again)
    asked = consent_in(here.the_study.own.definition, document.language if document is not None else language)
    order = [f"questions.{question.code}" for question in asked.questions]
    order += [f"options.{choice.code}" for choice in asked.optional]
    order += ["signed_on", "signature", "paper_sha256", "password"]
    problems = sorted(
        problem.problems if isinstance(problem, Invalid) else [],
        key=lambda each: order.index(each.field) if each.field in order else -1,
    )
    said = {each.field: each.message for each in problems}
    return show_at(
        here,
        places,
        "consent/record.html",
        status_code=status_of(problem),
        participant=participant,
        url=url,
        document=document,
        text=html_of(document),
        versions=[one for one in used if one.language == language],
        languages=languages,
        language_asked=language,
        again=again,
        method="paper" if method == "paper" else "on_screen",
        questions=asked.questions if method != "paper" else (),
        optional=asked.optional,
        values={name: texts[-1] for name, texts in here.form.items() if texts} if values is None else values,
        paper=paper or here.value("paper_sha256"),
        today=today,
        refused=refused,
        why_not_countersign=_why_not_countersign(here, participant),
        meaning=rules.MEANING,
        errors=said,
        problems=[(each.field if each.field != "paper_sha256" or paper else "scan", each.message) for each in problems],
    )


# Who owes a newer one


@router.get("/{study}/reconsent", name="consent.owed")
def owed(here: PageInStudy) -> Response:
    """Who takes part and has not signed the document that is valid now; or signed it, and waits for the study."""
    require(here.actor, Permission.PARTICIPANT_READ)
    places, asked = places_of(here), here.request.query_params
    path, waiting = f"/{here.the_study.code}/reconsent", asked.get("waiting") == "yes"
    narrowed = {"waiting": "yes"} if waiting else {}
    if asked.get("format") == "csv":
        heading = ("participant", "site", "language", "signed_version", "signed_on", "owed_version", "valid_from")
        return csv_file(
            f"{here.the_study.code}-reconsent-{here.now:%Y-%m-%d}", heading, _owed_rows(here, places, waiting)
        )
    found = _owed(here, here.session, places, waiting=waiting, cursor=asked.get("after") or None)
    return show_at(
        here,
        places,
        "consent/owed.html",
        rows=found.rows,
        waiting=waiting,
        waiting_url=address(path, {} if waiting else {"waiting": "yes"}),
        may_countersign=may(here.actor, Permission.CONSENT_COUNTERSIGN),
        root=f"/{here.the_study.code}/participants",
        blocked=here.the_study.definition.consent.blocked_until_reconsent,
        may_record=may(here.actor, Permission.CONSENT_RECORD),
        newer=address(path, narrowed, after=found.previous) if found.previous else None,
        older=address(path, narrowed, after=found.next) if found.next else None,
        csv_url=address(path, narrowed, format="csv") if found.rows else None,
    )


def _owed(
    here: Here, session: Session, places: Places, *, waiting: bool, cursor: str | None, limit: int | None = None
) -> Page[reads.Owed]:
    return reads.reconsents_owed(
        session,
        here.the_study,
        lambda site_id: places.today(here, site_id),
        by=here.actor,
        waiting=waiting,
        site=places.chosen.code if places.chosen else None,
        cursor=cursor,
        limit=limit,
    )


def _owed_rows(here: Here, places: Places, waiting: bool) -> Iterator[Sequence[object]]:
    """Every row of the list, page by page, from a session of its own: a file is sent after the page's has ended."""
    with database_of(here.request).reading() as session:
        for found in every_page(
            lambda cursor: _owed(here, session, places, waiting=waiting, cursor=cursor, limit=LARGEST_PAGE)
        ):
            for row in found.rows:
                signed = (row.language, row.signed_version, row.signed_on)
                yield (row.participant, row.site_code, *signed, row.version, row.since)


# Countersigning


@router.get("/{study}/participants/{code}/consents/{consent_id}/countersign", name="consent.countersign_form")
def countersign_form(here: PageInStudy, code: str, consent_id: int) -> Response:
    """What was signed, and the signature for the study that is still missing."""
    participant = _participant(here, code, Permission.CONSENT_COUNTERSIGN)
    return _countersign_page(here, participant, consent_id)


@router.post("/{study}/participants/{code}/consents/{consent_id}/countersign", name="consent.countersign")
def countersign(here: ChangeInStudy, code: str, consent_id: int) -> Response:
    """Sign for the study; the consent is complete, and the visits counted from it get their dates."""
    participant = _participant(here, code, Permission.CONSENT_COUNTERSIGN)
    try:
        require_password(here, here.form.get("password", [""])[-1])
        consent = actions.countersign(
            here.session, here.the_study, participant, consent_id, by=here.actor, now=here.now
        )
        open_visits(
            here.session,
            here.the_study,
            participant,
            anchor="consent",
            on=consent.signed_on,
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        participant = _participant(here, code, Permission.CONSENT_COUNTERSIGN)
        return _countersign_page(here, participant, consent_id, problem=problem)
    return here.redirect(_url(here, participant), done="countersigned")


def _countersign_page(
    here: Here, participant: Participant, consent_id: int, *, problem: Invalid | Refused | None = None
) -> Response:
    consents, consent = _consents(here, participant, consent_id)
    document = reads.document_of(here.session, here.the_study, consent)
    refused = problem.reason if isinstance(problem, Refused) else rules.why_not_countersign(consent)
    if refused is None and not reads.is_intact(here.session, here.the_study, consent, participant):
        refused = "This consent is not what the participant signed. Do not sign it; tell the data manager."
    problems = problem.problems if isinstance(problem, Invalid) else []
    places = places_of(here)
    return show_at(
        here,
        places,
        "consent/countersign.html",
        status_code=status_of(problem),
        participant=participant,
        url=_url(here, participant),
        consent=consent,
        facts=reads.said_with(here.session, here.the_study, consent),
        document=document,
        text=html_of(document),
        refused=refused or _why_not_countersign(here, participant),
        meaning=rules.MEANING,
        errors={each.field: each.message for each in problems},
        timezone=places.timezone(participant.site_id),
        others=len(consents) - 1,
    )


# Refusing


@router.get("/{study}/participants/{code}/consents/{consent_id}/refuse", name="consent.refuse_form")
def refuse_form(here: PageInStudy, code: str, consent_id: int) -> Response:
    """What was recorded, and what it means to refuse it."""
    participant = _participant(here, code, Permission.CONSENT_COUNTERSIGN, "consent.refuse")
    return _refuse_page(here, participant, consent_id)


@router.post("/{study}/participants/{code}/consents/{consent_id}/refuse", name="consent.refuse")
def refuse(here: ChangeInStudy, code: str, consent_id: int) -> Response:
    """Refuse a consent that was recorded wrongly; it is kept, and counts nowhere."""
    participant = _participant(here, code, Permission.CONSENT_COUNTERSIGN, "consent.refuse")
    why = here.value("why")
    try:
        require_password(here, here.form.get("password", [""])[-1])
        asked: dict[str, Any] = {"why": why, "by": here.actor, "now": here.now}
        actions.refuse_consent(here.session, here.the_study, participant, consent_id, **asked)
        follow_refusal(here.session, here.the_study, participant, **asked)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        participant = _participant(here, code, Permission.CONSENT_COUNTERSIGN, "consent.refuse")
        return _refuse_page(here, participant, consent_id, problem=problem)
    return here.redirect(_url(here, participant), done="consent_refused")


def _refuse_page(
    here: Here, participant: Participant, consent_id: int, *, problem: Invalid | Refused | None = None
) -> Response:
    consents, consent = _consents(here, participant, consent_id)
    document = reads.document_of(here.session, here.the_study, consent)
    refused = problem.reason if isinstance(problem, Refused) else _why_not_refuse(here, participant, consents, consent)
    places = places_of(here)
    return show_at(
        here,
        places,
        "consent/refuse.html",
        status_code=status_of(problem),
        participant=participant,
        url=_url(here, participant),
        consent=consent,
        facts=reads.said_with(here.session, here.the_study, consent),
        document=document,
        refused=refused,
        earlier=any(rules.is_active(one) for one in consents if one is not consent),
        values={"why": here.value("why")},
        errors=errors_of(problem),
        timezone=places.timezone(participant.site_id),
    )


def _why_not_refuse(here: Here, participant: Participant, consents: Sequence[Consent], consent: Consent) -> str | None:
    """Why this person cannot refuse, or take back, this consent now; or None."""
    signed = consent.countersigned_at is not None
    allowed = _why_not_countersign(here, participant) if signed else _why_not_at_all(here, participant)
    is_used = (
        signed
        and participant.status == Status.CONSENTED
        and reads.was_used(here.session, here.the_study, participant, consent)
    )
    return allowed or rules.why_not_refuse(consent, consents, Status(participant.status), is_used=is_used)


def _why_not_at_all(here: Here, participant: Participant) -> str | None:
    return why_not(here.actor, Permission.CONSENT_COUNTERSIGN, site_id=participant.site_id)


# Optional consents


@router.get("/{study}/participants/{code}/optional-consents", name="consent.options")
def options(here: PageInStudy, code: str) -> Response:
    """How each optional consent stands, what was taken back, and taking one back."""
    return _options_page(here, participant_by_code(here.session, here.the_study, code, by=here.actor))


@router.post("/{study}/participants/{code}/optional-consents", name="consent.take_back_options")
def take_back_options(here: ChangeInStudy, code: str) -> Response:
    """Record that optional consents are taken back; the participant stays in the study."""
    participant = _participant(here, code, Permission.CONSENT_RECORD, "consent.take_back_options")
    try:
        actions.take_back_options(
            here.session,
            here.the_study,
            participant,
            here.form.get("options", []),
            on=typed_day(here.value("on"), "on"),
            told_by=here.value("told_by"),
            how=here.value("how"),
            note=here.value("note"),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        participant = _participant(here, code, Permission.CONSENT_RECORD, "consent.take_back_options")
        return _options_page(here, participant, problem=problem)
    return here.redirect(f"{_url(here, participant)}/optional-consents", done="option_taken_back")


@router.post("/{study}/participants/{code}/optional-consents/{taken_back_id}/mistake", name="consent.restore_option")
def restore_option(here: ChangeInStudy, code: str, taken_back_id: int) -> Response:
    """Say that an optional consent was recorded as taken back by mistake."""
    participant = _participant(here, code, Permission.CONSENT_RECORD, "consent.restore_option")
    asked: dict[str, Any] = {"why": here.value("why"), "by": here.actor, "now": here.now}
    try:
        actions.restore_option(here.session, here.the_study, participant, taken_back_id, **asked)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        participant = _participant(here, code, Permission.CONSENT_RECORD, "consent.restore_option")
        return _options_page(here, participant, problem=problem, struck=taken_back_id)
    return here.redirect(f"{_url(here, participant)}/optional-consents", done="option_restored")


def _options_page(
    here: Here,
    participant: Participant,
    *,
    problem: Invalid | Refused | None = None,
    struck: int | None = None,
) -> Response:
    assert participant.id is not None
    places, definition = places_of(here), here.the_study.definition
    today, site = places.today(here, participant.site_id), places.code(participant.site_id)
    asked = here.request.query_params.get("mistake", "")
    struck = int(asked) if struck is None and asked.isdecimal() and len(asked) < 10 else struck
    consents = reads.consents_of(here.session, participant.id)
    taken_back = reads.taken_back_of(here.session, participant.id)
    now = rules.options_now(consents, taken_back)
    labels = {choice.code: choice.label for choice in definition.consent.optional}
    errors = errors_of(problem)
    records = may(here.actor, Permission.CONSENT_RECORD, site_id=participant.site_id)
    active = [one for one in consents if rules.is_active(one)]
    language = active[-1].language if active else definition.language
    document = reads.valid_document(here.the_study, language, today, site)
    why_not_again = (
        "There is no consent document that holds today. Ask your administrator."
        if document is None
        else rules.why_not_sign(Status(participant.status), consents, document.version, gives_more=True)
    )
    lacking = rules.lacks_option(definition.consent.optional, now)
    return show_at(
        here,
        places,
        "consent/options.html",
        status_code=status_of(problem),
        participant=participant,
        url=_url(here, participant),
        options=[(labels.get(code, code), option) for code, option in now.items()],
        given=[(code, labels.get(code, code)) for code, option in now.items() if option.agreed],
        taken_back=[(labels.get(each.code, each.code), each) for each in reversed(taken_back)],
        tellers=list(rules.TELLERS.items()),
        ways=list(rules.WAYS.items()),
        records=records,
        nothing=rules.NO_OPTIONS,
        may_give=records and lacking and bool(active),
        document=document,
        links_url=f"{_url(here, participant)}/links" if _may_give_link(here, participant) else None,
        again_url=f"{_url(here, participant)}/consent?language={language}&again=yes",
        why_not_again=why_not_again,
        values={name: here.value(name) for name in ("on", "told_by", "how", "note", "why")},
        chosen=here.form.get("options", []),
        today=today,
        earliest=min((option.since for option in now.values() if option.agreed), default=None),
        errors={} if struck is not None else errors,
        struck=next((each for each in taken_back if each.id == struck and each.struck_at is None), None),
        struck_errors=errors if struck is not None else {},
        refused=problem.reason if isinstance(problem, Refused) else None,
        timezone=places.timezone(participant.site_id),
    )


# The signed consent


@router.get("/{study}/participants/{code}/consents/{consent_id}.pdf", name="consent.signed_pdf")
def signed_pdf(here: LoggedPageInStudy, code: str, consent_id: int) -> Response:
    """The document and the signatures under it, for the participant to keep; that the name was shown is in the log."""
    participant = participant_by_code(here.session, here.the_study, code, by=here.actor)
    signature, strokes = actions.reveal_signed(
        here.session, here.the_study, participant, consent_id, by=here.actor, now=here.now
    )
    _, consent = _consents(here, participant, consent_id)
    body = signed_copy(
        here.session,
        here.the_study,
        participant,
        consent,
        signature=signature,
        strokes=strokes,
        timezone=places_of(here).timezone(participant.site_id),
    )
    name = f"{participant.code}-consent-{consent.document_version}.pdf"
    return Response(body, media_type="application/pdf", headers=kept_as(name))


@router.get("/{study}/participants/{code}/consents/{consent_id}", name="consent.show")
def show(here: PageInStudy, code: str, consent_id: int) -> Response:
    """A consent as it was signed, to look at and to print."""
    return _consent_page(here, participant_by_code(here.session, here.the_study, code, by=here.actor), consent_id)


@router.post("/{study}/participants/{code}/consents/{consent_id}/copy", name="consent.mail_copy")
def mail_copy(here: ChangeInStudy, code: str, consent_id: int) -> Response:
    """Send the participant their copy by mail, to the address that is among their personal data."""
    participant = _participant(here, code, Permission.IDENTITY_READ, "consent.mail_copy")
    actions.mail_copy(here.session, here.the_study, participant, consent_id, by=here.actor, now=here.now)
    return here.redirect(f"{_url(here, participant)}/consents/{consent_id}", done="copy_mailed")


@router.post("/{study}/participants/{code}/consents/{consent_id}/signature", name="consent.show_signature")
def show_signature(here: ChangeInStudy, code: str, consent_id: int) -> Response:
    """The same with the participant's name under it; that it was shown is in the log."""
    participant = participant_by_code(here.session, here.the_study, code, by=here.actor)
    signature, strokes = actions.reveal_signed(
        here.session, here.the_study, participant, consent_id, by=here.actor, now=here.now
    )
    here.release_key()  # looking again is no change, and is written down again
    here.shows()
    return _consent_page(here, participant, consent_id, signature=signature or "Erased on request.", strokes=strokes)


@router.get("/{study}/participants/{code}/consents/{consent_id}/scan", name="consent.scan")
def scan(here: LoggedPageInStudy, code: str, consent_id: int) -> Response:
    """The scan of the signed paper; that it was shown is in the log."""
    participant = participant_by_code(here.session, here.the_study, code, by=here.actor)
    data, media_type = actions.reveal_scan(
        here.session, here.the_study, participant, consent_id, by=here.actor, now=here.now
    )
    name = f"{participant.code}-consent-{consent_id}.{media_type.rpartition('/')[2]}"
    return Response(data, media_type=media_type, headers=kept_as(name))


@router.post("/{study}/participants/{code}/consents/{consent_id}/copy/handed-out", name="consent.hand_out_copy")
def hand_out_copy(here: ChangeInStudy, code: str, consent_id: int) -> Response:
    """Record that the participant was given their copy on paper."""
    participant = _participant(here, code, Permission.IDENTITY_READ, "consent.hand_out_copy")
    actions.hand_out_copy(here.session, here.the_study, participant, consent_id, by=here.actor, now=here.now)
    return here.redirect(f"{_url(here, participant)}/consents/{consent_id}", done="copy_handed_out")


@router.post("/{study}/participants/{code}/consents/{consent_id}/scan", name="consent.verify_scan")
def verify_scan(here: ChangeInStudy, code: str, consent_id: int) -> Response:
    """Say that the scan is the signed paper: a second person who looked at both."""
    participant = _participant(here, code, Permission.CONSENT_COUNTERSIGN)
    actions.verify_scan(here.session, here.the_study, participant, consent_id, by=here.actor, now=here.now)
    return here.redirect(f"{_url(here, participant)}/consents/{consent_id}", done="scan_verified")


def _consent_page(
    here: Here,
    participant: Participant,
    consent_id: int,
    *,
    signature: str | None = None,
    strokes: str | None = None,
) -> Response:
    consents, consent = _consents(here, participant, consent_id)
    document = reads.document_of(here.session, here.the_study, consent)
    places = places_of(here)
    may_identity = may(here.actor, Permission.IDENTITY_READ, site_id=participant.site_id)
    why_not_mail = why_not(here.actor, Permission.IDENTITY_READ, site_id=participant.site_id) or (
        reads.why_not_mail_copy(
            here.session,
            here.the_study,
            consent,
            status=Status(participant.status),
            level=participant.withdrawal_level,
        )
    )
    return show_at(
        here,
        places,
        "consent/show.html",
        copy=reads.copy_of(here.session, consent_id),
        why_not_mail=why_not_mail,
        no_address=why_not_mail == rules.NO_ADDRESS,
        why_not_hand_out=why_not(here.actor, Permission.IDENTITY_READ, site_id=participant.site_id)
        or rules.why_not_hand_out_copy(consent, countersigners=here.the_study.definition.consent.countersigned_by),
        may_add=may(here.actor, Permission.IDENTITY_CHANGE, site_id=participant.site_id),
        changed=_changed(here, consents, consent),
        why_not_refuse=_why_not_refuse(here, participant, consents, consent),
        participant=participant,
        url=_url(here, participant),
        consent=consent,
        facts=reads.said_with(here.session, here.the_study, consent),
        document=document,
        text=html_of(document),
        intact=reads.is_intact(here.session, here.the_study, consent, participant),
        signature=signature,
        # The drawing is made of numbers alone, that were read as such before they were kept.
        drawn=Markup(drawing_svg(strokes, "Signature")) if strokes else None,  # noqa: S704
        has_scan=(kept := reads.has_scan(here.session, consent.participant_id, consent.paper_sha256)),
        why_not_verify=rules.why_not_verify_scan(
            consent,
            kept=kept,
            recorded_by=consent.recorded_by,
            verified_by=consent.scan_verified_by,
            who=here.actor.username,
        )
        or _why_not_countersign(here, participant),
        may_identity=may_identity,
        timezone=places.timezone(participant.site_id),
    )


def _may_give_link(here: Here, participant: Participant) -> bool:
    return may(here.actor, Permission.PARTICIPANT_LINK, site_id=participant.site_id)


def _changed(here: Here, consents: Sequence[Consent], consent: Consent) -> list[tuple[str, rules.Option]]:
    """Which optional consents stand otherwise today than they were signed here: label, and how it stands."""
    if not rules.is_active(consent):
        return []
    signed = rules.options_signed(consent)
    asked = reads.asked_with(here.session, here.the_study, consent)
    labels = {choice.code: choice.label for choice in asked.optional}
    now = reads.options_now(here.session, consents)
    return [(labels.get(code, code), now[code]) for code, agreed in signed.items() if now[code].agreed != agreed]


def _participant(here: Here, code: str, permission: Permission, action: str = "") -> Participant:
    participant = participant_by_code(here.session, here.the_study, code, by=here.actor)
    require(
        here.actor,
        permission,
        site_id=participant.site_id,
        action=action or permission,
        subject=f"{participant.code}/consent",
    )
    return participant


def _consents(here: Here, participant: Participant, consent_id: int) -> tuple[Sequence[Consent], Consent]:
    assert participant.id is not None
    consents = reads.consents_of(here.session, participant.id)
    found = next((consent for consent in consents if consent.id == consent_id), None)
    if found is None:
        raise NotFound
    return consents, found


def _url(here: Here, participant: Participant) -> str:
    return f"/{here.the_study.code}/participants/{participant.code}"


def html_of(document: ConsentDocument | None) -> Markup:
    """The document as markup: it is made from Markdown that lets no HTML through."""
    return Markup(reads.document_html(document)) if document else Markup("")  # noqa: S704


def _why_not_countersign(here: Here, participant: Participant) -> str | None:
    """Why this person cannot sign for the study, or None."""
    roles = [grant.role for grant in here.actor.grants if grant.site_id in (None, participant.site_id)]
    return why_not(here.actor, Permission.CONSENT_COUNTERSIGN, site_id=participant.site_id) or (
        rules.why_not_countersigner(roles, here.the_study.definition.consent.countersigned_by)
    )
