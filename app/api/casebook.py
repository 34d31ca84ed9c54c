"""What is the casebook of a participant, over REST? Its entries and signature, signing it, and the file."""

from datetime import datetime
from typing import Any, Literal

from fastapi.responses import Response
from pydantic import ConfigDict, Field

from app.api.addressed import participant_of
from app.api.filters import AtSite, at
from app.api.operations import operations
from app.api.shapes import KEPT, Body, Cursor, Limit, PageOf, Password, Reply
from app.capture.casebook import actions, reads
from app.capture.casebook.rules import MEANINGS, casebook_digest, holds, manifest_of
from app.capture.double.reads import without_withheld
from app.capture.reads import entries_with_values
from app.capture.rules import named_form
from app.casebook import casebook_of
from app.dependencies import ApiChange, ApiLoggedPage, ApiPage, Here, database_of, require_password
from app.own_copy import Place, book_of_copy, own_copy_of
from app.participants.models import Participant
from app.people.access import require
from app.people.permissions import Permission
from app.people.reads import sites_of

router = operations("casebook")
CASEBOOK = "/participants/{code}/casebook"

DIGEST = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class LineReply(Reply):
    """One entry of the manifest: its version, and the SHA-256 of its bytes."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"visit": "week18", "instrument": "pain", "version": 2, "sha256": DIGEST, "repeat": 1}
        }
    )

    visit: str
    instrument: str
    version: int
    sha256: str
    repeat: int


class CasebookReply(Reply):
    """The casebook as it stands: what a signature of it would stand for, and who has signed exactly this."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "participant": "R-0042",
                "entries": [{"visit": "week18", "instrument": "pain", "version": 2, "sha256": DIGEST, "repeat": 1}],
                "digests": {"approval": DIGEST, "review": DIGEST},
                "signed": True,
                "signed_at": "2026-09-01T09:00:00.000000Z",
                "signed_name": "Ines Laurent",
                "signed_meaning": "approval",
                "signed_digest": DIGEST,
            }
        }
    )

    participant: str
    entries: list[LineReply]
    digests: dict[str, str] = Field(description="By meaning: send the one you sign for.")
    signed: bool
    signed_at: datetime | None
    signed_name: str | None
    signed_meaning: str | None
    signed_digest: str | None


class CasebookSignatureBody(Body):
    """A signature of the whole casebook; `digest` is that of the casebook you read, for the meaning you sign with."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"meaning": "approval", "digest": DIGEST, "password": "correct horse battery staple"}
        },
    )

    meaning: Literal["approval", "review"] = "approval"
    digest: str = Field(max_length=64, pattern=KEPT)
    password: Password = None


class CasebookDueReply(Reply):
    """A casebook that an investigator is asked to sign: the milestone of the study that was reached, a visit."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={"example": {"participant": "R-0042", "site": "neura", "visit": "week18"}},
    )

    participant: str
    site: str
    visit: str


@router.get("/casebooks-due", name="api.casebooks_due")
def casebooks_due(
    here: ApiPage, site: AtSite = None, cursor: Cursor = None, limit: Limit = 50
) -> PageOf[CasebookDueReply]:
    """Whose casebook is to be signed because a milestone was reached, by code; of studies that name milestones."""
    require(here.actor, Permission.CASEBOOK_SIGN)
    page = reads.casebooks_due(here.session, here.the_study, by=at(here, site), cursor=cursor, limit=limit)
    return PageOf(items=[CasebookDueReply.model_validate(row) for row in page.rows], next=page.next)


@router.get(CASEBOOK, name="api.casebook")
def casebook(here: ApiPage, code: str) -> CasebookReply:
    """What the casebook is made of, and whether it is signed as it stands."""
    return _reply(here, _readable(here, code))


@router.post(CASEBOOK + "/signature", name="api.sign_casebook", response_model=CasebookReply)
def sign_casebook(here: ApiChange, code: str, asked: CasebookSignatureBody) -> Response:
    """Sign the casebook; needs the person's own password beside the token (21 CFR 11.200)."""
    found = participant_of(here, code)
    require(here.actor, Permission.CASEBOOK_SIGN, site_id=found.site_id, action="casebook.sign", subject=found.code)
    require_password(here, asked.password or "")
    actions.sign_casebook(
        here.session,
        here.the_study,
        found,
        meaning=asked.meaning,
        digest=asked.digest,
        by=here.actor,
        now=here.now,
    )
    return here.answer(_reply(here, found).model_dump(mode="json"))


@router.get(
    CASEBOOK + ".pdf",
    name="api.casebook_file",
    response_class=Response,
    responses={
        200: {
            "content": {"application/pdf": {"schema": {"type": "string", "format": "binary"}, "example": "%PDF-1.7"}},
            "description": "The casebook as PDF/A.",
        }
    },
)
def casebook_file(here: ApiPage, code: str) -> Response:
    """The casebook as PDF, with what changed marked and the log behind."""
    found = _readable(here, code)
    site = next(each for each in sites_of(here.session, here.the_study.id) if each.id == found.site_id)
    body = casebook_of(
        here.session,
        here.the_study,
        found,
        site=f"{site.code} {site.name}",
        timezone=site.timezone,
        by=here.actor,
        now=here.now,
    )
    return Response(body, media_type="application/pdf", headers={"Cache-Control": "no-store"})


@router.get(
    "/participants/{code}/own-copy.zip",
    name="api.own_copy",
    response_class=Response,
    responses={
        200: {
            "content": {
                "application/zip": {"schema": {"type": "string", "format": "binary"}, "example": "(the bytes of a ZIP)"}
            },
            "description": "A ZIP of casebook.pdf and data.json.",
        }
    },
)
def own_copy(here: ApiLoggedPage, code: str) -> Response:
    """A participant's own copy of their data, with who they are; no arm. That it was made is in the log."""
    found = _readable(here, code)
    site = next(each for each in sites_of(here.session, here.the_study.id) if each.id == found.site_id)
    place = Place(f"{site.code} {site.name}", site.timezone)
    about: dict[str, Any] = {"place": place, "by": here.actor, "now": here.now}
    with here.nobody_waits():
        book = book_of_copy(database_of(here.request), here.the_study, found.code, **about)
    body = own_copy_of(here.session, here.the_study, found, book=book, **about)
    return Response(body, media_type="application/zip", headers={"Cache-Control": "no-store"})


def _readable(here: Here, code: str) -> Participant:
    found = participant_of(here, code)
    require(here.actor, Permission.ENTRY_READ, site_id=found.site_id)
    return found


def _reply(here: Here, participant: Participant) -> CasebookReply:
    assert participant.id is not None
    entries = entries_with_values(here.session, participant.id)
    readable = without_withheld(here.session, here.the_study.definition, participant, entries, by=here.actor)
    manifest = manifest_of(readable, reads.corrected_screening(here.session, participant.id))
    standing = reads.standing_signature(here.session, participant.id)
    signed = standing if standing is not None and holds(standing, participant.code, manifest) else None
    return CasebookReply(
        participant=participant.code,
        entries=[
            LineReply(visit=visit, instrument=code, repeat=repeat, version=version, sha256=digest)
            for visit, name, version, digest in manifest
            for code, repeat in [named_form(name)]
        ],
        digests={meaning: casebook_digest(participant.code, manifest, meaning) for meaning in MEANINGS},
        signed=signed is not None,
        signed_at=signed.signed_at if signed else None,
        signed_name=signed.signed_name if signed else None,
        signed_meaning=signed.meaning if signed else None,
        signed_digest=signed.digest if signed else None,
    )
