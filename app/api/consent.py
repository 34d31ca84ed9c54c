"""Did they agree, over REST? Documents, consents and their scans and copies, signatures, and what is taken back."""

import hashlib
import json
from dataclasses import replace
from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from fastapi.responses import Response
from pydantic import BeforeValidator, ConfigDict, Field

from app.api.addressed import address_of, participant_of
from app.api.filters import AtSite, at
from app.api.operations import operations
from app.api.shapes import Body, Code, Cursor, Limit, Number, PageOf, Password, Reply, Text
from app.consent import actions, reads, rules
from app.consent.models import Consent
from app.dependencies import (
    LARGEST_UPLOAD,
    ApiChange,
    ApiLoggedPage,
    ApiPage,
    Here,
    kept_file,
    read_body,
    require_password,
)
from app.foundation import clock, paging
from app.foundation.errors import Invalid, NotFound
from app.participants.models import Participant
from app.participants.status import Status
from app.people.access import require, why_not
from app.people.permissions import Permission
from app.people.reads import sites_of
from app.schedule import actions as schedule
from app.signed_copy import signed_copy

router = operations("consent")

A_FILE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}, "example": "(the bytes of the file)"}


class DocumentReply(Reply):
    """One version of the consent document in one language; `sha256` is over the file's bytes."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "version": "1",
                "language": "en",
                "title": "Participant information and consent",
                "valid_from": "2026-01-01",
                "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "text": "## What the study is about\n",
            }
        },
    )

    version: str
    language: str
    title: str
    valid_from: date
    sha256: str
    text: str


class ConsentBody(Body):
    """A participant's consent. `signature` is the name as they typed it, or the reference of the paper."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "version": "1",
                "signed_on": "2026-03-04",
                "signature": "Kiri Walker",
                "password": "correct horse battery staple",
            }
        },
    )

    version: Code
    language: Code = "en"
    method: Literal["on_screen", "paper"] = "on_screen"
    signed_on: date
    signature: Annotated[Text, Field(min_length=1)]
    paper_sha256: Text | None = Field(
        default=None, description="Of the scan of a paper, as `POST .../consent-scans` replies it."
    )
    strokes: list[Annotated[list[int], Field(max_length=2000)]] = Field(
        default=[],
        max_length=200,
        description="What was drawn beside the name, as the signature of a consent gives it; none: the name alone.",
    )
    copy_asked: bool = Field(default=False, description="They ask for their copy by mail once it is complete.")
    options: dict[Code, bool] = {}
    answers: dict[Code, Code] = Field(default={}, description="To the study's questions about the document.")
    countersign: bool = Field(default=True, description="Sign for the study at once; needs `password`.")
    password: Password = None


class CountersignBody(Body):
    """The signature for the study."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"password": "correct horse battery staple"}}
    )

    password: Password = None


class RefusalBody(Body):
    """What is wrong with a consent that was recorded."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"why": "Another day stands on the paper", "password": "correct horse battery staple"}
        },
    )

    why: Annotated[Text, Field(min_length=1)]
    password: Password = None


class TakingBackBody(Body):
    """Optional consents that a participant takes back from a day on; what is not given already is left as it is."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "options": ["data_sharing"],
                "on": "2026-06-01",
                "told_by": "participant",
                "how": "by_phone",
                "note": "Told at the reminder call",
            }
        },
    )

    options: Annotated[list[Code], Field(min_length=1, max_length=100)]
    on: date
    told_by: Literal["participant", "representative", "other"]
    how: Literal["in_person", "by_phone", "in_writing"]
    note: Text | None = None


class MistakeBody(Body):
    """How it came about that it was recorded by mistake."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"why": "Recorded for another participant"}}
    )

    why: Annotated[Text, Field(min_length=1)]


TAKEN_BACK: dict[str, Any] = {
    "id": 3,
    "taken_back_on": "2026-06-01",
    "told_by": "participant",
    "how": "by_phone",
    "note": "Told at the reminder call",
    "recorded_at": "2026-06-01T09:26:53.589793Z",
    "recorded_by": "noor",
    "struck_at": "2026-06-02T09:26:53.589793Z",
    "struck_by": "noor",
    "struck_why": "Recorded for another participant",
}


class TakenBackReply(Reply):
    """That an optional consent was taken back; with `struck_at` it was recorded by mistake, and counts nowhere."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": TAKEN_BACK})

    id: int
    taken_back_on: date
    told_by: str
    how: str
    note: str | None
    recorded_at: datetime
    recorded_by: str
    struck_at: datetime | None
    struck_by: str | None
    struck_why: str | None


class OptionReply(Reply):
    """How an optional consent stands: given or not, since which day, by the signature under which version.

    `taken_back` is whether it was taken back since that signature; `history` is everything recorded of that.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "code": "data_sharing",
                "label": "Sharing of my data with other researchers",
                "agreed": False,
                "since": "2026-06-01",
                "version": "1",
                "taken_back": True,
                "history": [TAKEN_BACK],
            }
        },
    )

    code: str
    label: str
    agreed: bool
    since: date
    version: str
    taken_back: bool
    history: list[TakenBackReply]


A_SCAN: dict[str, Any] = {
    "paper_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "media_type": "application/pdf",
    "size": 81234,
}


class ScanReply(Reply):
    """The scan of a paper that is kept, sealed; a consent names it by `paper_sha256`."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": A_SCAN})

    paper_sha256: str
    media_type: str
    size: int


# Kept as JSON text.
_read = BeforeValidator(lambda kept: json.loads(kept) if isinstance(kept, str) else kept)
Options = Annotated[dict[str, bool], _read]
Answers = Annotated[dict[str, str], _read]


class ConsentReply(Reply):
    """A consent; complete once it is countersigned. With `refused_at` it was recorded wrongly, and counts nowhere.

    `paper_sha256` is of the scan of one that was signed on paper; `scan_verified_at` when a second person held the scan
    against the paper.
    """

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "id": 42,
                "document_version": "1",
                "language": "en",
                "document_sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "method": "on_screen",
                "options": {"future_contact": True, "data_sharing": False},
                "answers": {"may_stop": "any_time"},
                "signed_on": "2026-03-04",
                "paper_sha256": A_SCAN["paper_sha256"],
                "recorded_at": "2026-03-04T09:26:53.589793Z",
                "recorded_by": "carla",
                "scan_verified_at": "2026-03-05T10:02:11.000000Z",
                "scan_verified_by": "noor",
                "countersigned_at": "2026-03-04T09:26:53.589793Z",
                "countersigned_name": "Noor Haddad",
                "withdrawn_on": "2026-09-01",
                "refused_at": "2026-09-02T09:26:53.589793Z",
                "refused_by": "noor",
                "refused_why": "Another day stands on the paper",
            }
        },
    )

    id: int
    document_version: str
    language: str
    document_sha256: str
    method: str
    options: Options
    answers: Answers
    signed_on: date
    paper_sha256: str | None
    recorded_at: datetime
    recorded_by: str
    scan_verified_at: datetime | None
    scan_verified_by: str | None
    countersigned_at: datetime | None
    countersigned_name: str | None
    withdrawn_on: date | None
    refused_at: datetime | None
    refused_by: str | None
    refused_why: str | None


Waiting = Annotated[
    bool, Query(description="Those who signed it already, and whose consent waits for its countersignature.")
]


class OwedReply(Reply):
    """Somebody who takes part and has no complete consent to the document that is valid now at their site, in their
    language. `waits` is the consent that lacks only its countersignature.
    """

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "participant": "R-0042",
                "site": "SYD",
                "language": "en",
                "signed_version": "1",
                "signed_on": "2026-03-04",
                "version": "2",
                "since": "2026-06-01",
                "waits": 31,
            }
        },
    )

    participant: str
    site: str
    language: str
    signed_version: str
    signed_on: date
    version: str
    since: date
    waits: int | None


class SignatureReply(Reply):
    """The name (or the place of the paper) under a consent; null once it was erased on request.

    `strokes` are what was drawn beside it, as x, y, x, y, ... on a sheet of 600 by 200; none where nothing was.
    `is_intact` says whether consent and document are byte for byte what was signed.
    """

    model_config = ConfigDict(
        json_schema_extra={"example": {"consent": 42, "signature": "Kiri Walker", "strokes": [], "is_intact": True}}
    )

    consent: int
    signature: str | None
    strokes: list[list[int]]
    is_intact: bool


class CopyReply(Reply):
    """The participant's copy of a consent by mail. `state`: none, waiting, sent, failed (given up), dropped (no longer
    to be sent). `handed_out_at`: they were given it on paper.

    `asked` says that they asked for it when they signed; `message` is the latest one, of which `/messages` tells.
    `why_not` is why none can be sent now, null where one can.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "consent": 42,
                "state": "sent",
                "asked": True,
                "message": 12,
                "queued_at": "2026-03-04T09:26:53.589793Z",
                "sent_at": "2026-03-04T09:27:20.589793Z",
                "last_error": "451 Try again later",
                "handed_out_at": "2026-03-04T11:02:10.589793Z",
                "handed_out_by": "coordinator",
                "why_not": rules.NO_ADDRESS,
            }
        },
    )

    consent: int
    state: Literal["none", "waiting", "sent", "failed", "dropped"]
    asked: bool
    message: int | None
    queued_at: datetime | None
    sent_at: datetime | None
    last_error: str | None
    handed_out_at: datetime | None
    handed_out_by: str | None
    why_not: str | None


@router.get("/consent-documents", name="api.consent_documents")
def consent_documents(
    here: ApiPage,
    language: Annotated[str | None, Query(max_length=35, description="Only in this language.", examples=["en"])] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[DocumentReply]:
    """Every version of the consent document, in each of its languages."""
    require(here.actor, Permission.STUDY_READ)
    documents = [each for each in here.the_study.definition.consent_documents if language in (None, each.language)]
    page = paging.page_in_place(documents, limit, cursor=cursor)
    return PageOf(items=[DocumentReply.model_validate(each) for each in page.rows], next=page.next)


@router.get("/consent-documents/{version}/{language}", name="api.consent_document")
def consent_document(here: ApiPage, version: str, language: str) -> DocumentReply:
    """One version of the consent document in one language."""
    require(here.actor, Permission.STUDY_READ)
    for each in here.the_study.definition.consent_documents:
        if (each.version, each.language) == (version, language):
            return DocumentReply.model_validate(each)
    raise NotFound


@router.get("/reconsents", name="api.reconsents")
def reconsents(
    here: ApiPage, waiting: Waiting = False, site: AtSite = None, cursor: Cursor = None, limit: Limit = 50
) -> PageOf[OwedReply]:
    """Who owes a newer consent, by code, at the sites this person works at; or who signed it, and waits."""
    require(here.actor, Permission.PARTICIPANT_READ)
    zones = {each.id: each.timezone for each in sites_of(here.session, here.the_study.id)}
    page = reads.reconsents_owed(
        here.session,
        here.the_study,
        lambda site_id: clock.today(zones[site_id], here.now),
        by=at(here, site),
        waiting=waiting,
        cursor=cursor,
        limit=limit,
    )
    items = [OwedReply.model_validate({**vars(row), "site": row.site_code}) for row in page.rows]
    return PageOf(items=items, next=page.next)


@router.get("/participants/{code}/consents", name="api.consents")
def consents(here: ApiPage, code: str, cursor: Cursor = None, limit: Limit = 50) -> PageOf[ConsentReply]:
    """The consents of a participant, the oldest first; withdrawn ones too."""
    found = participant_of(here, code)
    page = paging.page_of_all(_consents(here, found), limit, lambda each: (each.id or 0,), int, cursor=cursor)
    return PageOf(items=[ConsentReply.model_validate(each) for each in page.rows], next=page.next)


@router.get("/participants/{code}/consents/{consent_id}", name="api.consent")
def consent(here: ApiPage, code: str, consent_id: Number) -> ConsentReply:
    """One consent; never the name under it."""
    return ConsentReply.model_validate(_consent(here, participant_of(here, code), consent_id))


def _consent(here: Here, participant: Participant, consent_id: int) -> Consent:
    for each in _consents(here, participant):
        if each.id == consent_id:
            return each
    raise NotFound


def _consents(here: Here, participant: Participant) -> list[Consent]:
    assert participant.id is not None
    return reads.consents_of(here.session, participant.id)


def _of_the_body(field: str) -> str:
    """The body calls `answers` what a page asks as questions."""
    return f"answers.{field.removeprefix('questions.')}" if field.startswith("questions.") else field


@router.post("/participants/{code}/consents", name="api.record_consent", status_code=201, response_model=ConsentReply)
def record_consent(here: ApiChange, code: str, asked: ConsentBody) -> Response:
    """Record a consent; with `countersign`, sign it for the study in the same step."""
    found = _participant(here, code, Permission.CONSENT_RECORD)
    if asked.countersign:
        require(here.actor, Permission.CONSENT_COUNTERSIGN, site_id=found.site_id, subject=f"{found.code}/consent")
        require_password(here, asked.password or "")
    try:
        consent = actions.record_consent(
            here.session,
            here.the_study,
            found,
            version=asked.version,
            language=asked.language,
            method=asked.method,
            signed_on=asked.signed_on,
            signature=asked.signature,
            paper_sha256=asked.paper_sha256,
            options=asked.options,
            answers=asked.answers,
            strokes=json.dumps(asked.strokes) if asked.strokes else "",
            copy_asked=asked.copy_asked,
            by=here.actor,
            now=here.now,
            countersign=asked.countersign,
        )
    except Invalid as problem:
        raise Invalid([replace(each, field=_of_the_body(each.field)) for each in problem.problems]) from None
    _open_visits(here, found, consent)
    where = address_of(here, "participants", found.code, "consents", consent.id or 0)
    return here.answer(ConsentReply.model_validate(consent).model_dump(mode="json"), status=201, location=where)


@router.post(
    "/participants/{code}/consent-scans",
    name="api.keep_scan",
    response_model=ScanReply,
    max_body_size=LARGEST_UPLOAD,
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": A_FILE}}},
)
def keep_scan(here: ApiChange, code: str, data: Annotated[bytes, Depends(read_body)]) -> Response:
    """Keep the scan of a paper that was signed, sealed: a PDF, a JPEG or a PNG. Sent again, it is kept once.

    It is no consent until one is recorded with the `paper_sha256` that this replies.
    """
    found = _participant(here, code, Permission.CONSENT_RECORD, "consent.keep_scan")
    sha256 = actions.keep_scan(here.session, here.the_study, found, data, by=here.actor, now=here.now)
    assert found.id is not None
    kept = reads.scan_kept(here.session, found.id, sha256)
    return here.answer({"paper_sha256": kept.sha256, "media_type": kept.media_type, "size": kept.size})


@router.get(
    "/participants/{code}/consents/{consent_id}/scan",
    name="api.consent_scan",
    response_class=Response,
    responses={
        200: {"description": "The scan as it was sent.", "content": {"application/octet-stream": A_FILE}},
    },
)
def consent_scan(here: ApiLoggedPage, code: str, consent_id: Number) -> Response:
    """The scan of a signed paper; its SHA-256 is the ETag. That it was shown, and to whom, is in the log."""
    found = participant_of(here, code)
    data, media_type = actions.reveal_scan(here.session, here.the_study, found, consent_id, by=here.actor, now=here.now)
    name = f"{found.code}-consent-{consent_id}.{media_type.rpartition('/')[2]}"
    return kept_file(data, media_type, name, hashlib.sha256(data).hexdigest())


@router.post(
    "/participants/{code}/consents/{consent_id}/scan-verification",
    name="api.verify_scan",
    response_model=ConsentReply,
)
def verify_scan(here: ApiChange, code: str, consent_id: Number) -> Response:
    """Say that the scan is the paper that was signed: by another person than who recorded it, who looked at both."""
    found = _participant(here, code, Permission.CONSENT_COUNTERSIGN, "consent.verify_scan")
    actions.verify_scan(here.session, here.the_study, found, consent_id, by=here.actor, now=here.now)
    verified = _consent(here, found, consent_id)
    return here.answer(ConsentReply.model_validate(verified).model_dump(mode="json"))


@router.get(
    "/participants/{code}/consents/{consent_id}/signed.pdf",
    name="api.signed_consent",
    response_class=Response,
    responses={
        200: {
            "description": "The document with the signatures under it.",
            "content": {"application/pdf": {**A_FILE, "example": "(the bytes of a PDF)"}},
        },
    },
)
def signed_consent(here: ApiLoggedPage, code: str, consent_id: Number) -> Response:
    """What the participant signed, with its signatures, for them to keep. That it was shown is in the log."""
    found = participant_of(here, code)
    signature, strokes = actions.reveal_signed(
        here.session, here.the_study, found, consent_id, by=here.actor, now=here.now
    )
    one = _consent(here, found, consent_id)
    zones = {each.id: each.timezone for each in sites_of(here.session, here.the_study.id)}
    body = signed_copy(
        here.session,
        here.the_study,
        found,
        one,
        signature=signature,
        strokes=strokes,
        timezone=zones[found.site_id],
    )
    headers = {"Content-Disposition": f'attachment; filename="{found.code}-consent-{one.document_version}.pdf"'}
    return Response(body, media_type="application/pdf", headers={**headers, "Cache-Control": "no-store"})


@router.post(
    "/participants/{code}/consents/{consent_id}/countersignature",
    name="api.countersign",
    response_model=ConsentReply,
)
def countersign(here: ApiChange, code: str, consent_id: Number, asked: CountersignBody) -> Response:
    """Sign a recorded consent for the study, which makes it complete."""
    found = _participant(here, code, Permission.CONSENT_COUNTERSIGN)
    require_password(here, asked.password or "")
    consent = actions.countersign(here.session, here.the_study, found, consent_id, by=here.actor, now=here.now)
    _open_visits(here, found, consent)
    return here.answer(ConsentReply.model_validate(consent).model_dump(mode="json"))


@router.post(
    "/participants/{code}/consents/{consent_id}/refusal", name="api.refuse_consent", response_model=ConsentReply
)
def refuse_consent(here: ApiChange, code: str, consent_id: Number, asked: RefusalBody) -> Response:
    """Refuse a consent that was recorded wrongly, or take it back: it is kept and counts nowhere. Record it again."""
    found = _participant(here, code, Permission.CONSENT_COUNTERSIGN, "consent.refuse")
    require_password(here, asked.password or "")
    consent = actions.refuse_consent(
        here.session, here.the_study, found, consent_id, why=asked.why, by=here.actor, now=here.now
    )
    schedule.follow_refusal(here.session, here.the_study, found, why=asked.why, by=here.actor, now=here.now)
    return here.answer(ConsentReply.model_validate(consent).model_dump(mode="json"))


@router.get("/participants/{code}/consents/{consent_id}/copy", name="api.consent_copy")
def consent_copy(here: ApiPage, code: str, consent_id: Number) -> CopyReply:
    """Whether the participant's copy of a consent went to them by mail; never to which address."""
    return _copy(here, participant_of(here, code), consent_id)


@router.post("/participants/{code}/consents/{consent_id}/copy", name="api.mail_consent_copy", response_model=CopyReply)
def mail_consent_copy(here: ApiChange, code: str, consent_id: Number) -> Response:
    """Send the participant their copy of a complete consent by mail. While one waits to be sent it stays that one."""
    found = _participant(here, code, Permission.IDENTITY_READ, "consent.mail_copy")
    actions.mail_copy(here.session, here.the_study, found, consent_id, by=here.actor, now=here.now)
    return here.answer(_copy(here, found, consent_id).model_dump(mode="json"))


@router.post(
    "/participants/{code}/consents/{consent_id}/copy/handed-out",
    name="api.hand_out_consent_copy",
    response_model=CopyReply,
)
def hand_out_consent_copy(here: ApiChange, code: str, consent_id: Number) -> Response:
    """Record that the participant was given their copy of a complete consent on paper; the same again is no change."""
    found = _participant(here, code, Permission.IDENTITY_READ, "consent.hand_out_copy")
    actions.hand_out_copy(here.session, here.the_study, found, consent_id, by=here.actor, now=here.now)
    return here.answer(_copy(here, found, consent_id).model_dump(mode="json"))


def _copy(here: Here, participant: Participant, consent_id: int) -> CopyReply:
    consent = _consent(here, participant, consent_id)
    sent = reads.copy_of(here.session, consent_id)
    may_not = why_not(here.actor, Permission.IDENTITY_READ, site_id=participant.site_id)
    return CopyReply(
        consent=consent_id,
        state=sent.state if sent else "none",
        asked=consent.copy_asked,
        message=sent.number if sent else None,
        queued_at=sent.queued_at if sent else None,
        sent_at=sent.sent_at if sent else None,
        last_error=sent.last_error if sent else None,
        handed_out_at=consent.copy_given_at,
        handed_out_by=consent.copy_given_by,
        why_not=may_not
        or reads.why_not_mail_copy(
            here.session,
            here.the_study,
            consent,
            status=Status(participant.status),
            level=participant.withdrawal_level,
        ),
    )


@router.get("/participants/{code}/optional-consents", name="api.optional_consents")
def optional_consents(here: ApiPage, code: str, cursor: Cursor = None, limit: Limit = 50) -> PageOf[OptionReply]:
    """How each optional consent of a participant stands, and what was taken back."""
    page = paging.page_in_place(_options(here, participant_of(here, code)), limit, cursor=cursor)
    return PageOf(items=list(page.rows), next=page.next)


@router.post("/participants/{code}/optional-consents", name="api.take_back_options", response_model=list[OptionReply])
def take_back_options(here: ApiChange, code: str, asked: TakingBackBody) -> Response:
    """Take back optional consents; the participant stays in the study. Giving one takes a signature: a consent."""
    found = _participant(here, code, Permission.CONSENT_RECORD, "consent.take_back_options")
    actions.take_back_options(
        here.session,
        here.the_study,
        found,
        asked.options,
        on=asked.on,
        told_by=asked.told_by,
        how=asked.how,
        note=asked.note or "",
        by=here.actor,
        now=here.now,
    )
    return here.answer([each.model_dump(mode="json") for each in _options(here, found)])


@router.post(
    "/participants/{code}/optional-consents/{taken_back_id}/mistake",
    name="api.restore_option",
    response_model=list[OptionReply],
)
def restore_option(here: ApiChange, code: str, taken_back_id: Number, asked: MistakeBody) -> Response:
    """Say that an optional consent was recorded as taken back by mistake: what was signed stands again."""
    found = _participant(here, code, Permission.CONSENT_RECORD, "consent.restore_option")
    actions.restore_option(
        here.session, here.the_study, found, taken_back_id, why=asked.why, by=here.actor, now=here.now
    )
    return here.answer([each.model_dump(mode="json") for each in _options(here, found)])


def _options(here: Here, participant: Participant) -> list[OptionReply]:
    assert participant.id is not None
    taken_back = reads.taken_back_of(here.session, participant.id)
    now = rules.options_now(reads.consents_of(here.session, participant.id), taken_back)
    labels = {choice.code: choice.label for choice in here.the_study.definition.consent.optional}
    return [
        OptionReply(
            code=code,
            label=labels.get(code, code),
            agreed=each.agreed,
            since=each.since,
            version=each.version,
            taken_back=each.taken_back is not None,
            history=[TakenBackReply.model_validate(one) for one in taken_back if one.code == code],
        )
        for code, each in now.items()
    ]


@router.get("/participants/{code}/consents/{consent_id}/signature", name="api.consent_signature")
def consent_signature(here: ApiLoggedPage, code: str, consent_id: Number) -> SignatureReply:
    """The participant's name under a consent. That it was shown, and to whom, is in the log."""
    found = participant_of(here, code)
    signature, strokes = actions.reveal_signed(
        here.session, here.the_study, found, consent_id, by=here.actor, now=here.now
    )
    assert found.id is not None
    consent = next(each for each in reads.consents_of(here.session, found.id) if each.id == consent_id)
    return SignatureReply(
        consent=consent_id,
        signature=signature,
        strokes=json.loads(strokes) if strokes else [],
        is_intact=reads.is_intact(here.session, here.the_study, consent, found),
    )


def _participant(here: Here, code: str, permission: Permission, action: str = "") -> Participant:
    """Who may not do it is told so before a password is asked for it."""
    found = participant_of(here, code)
    require(here.actor, permission, site_id=found.site_id, action=action or permission, subject=f"{found.code}/consent")
    return found


def _open_visits(here: Here, participant: Participant, consent: Consent) -> None:
    """Once consent is complete, the visits that are counted from it are due."""
    if consent.countersigned_at is None:
        return
    schedule.open_visits(
        here.session,
        here.the_study,
        participant,
        anchor="consent",
        on=consent.signed_on,
        by=here.actor,
        now=here.now,
    )
