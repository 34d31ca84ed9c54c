"""Who did what, over REST? The log, paged, newest first."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import Response
from pydantic import ConfigDict

from app.api.filters import AtSite, OfPerson, Since, Until, Whose, at
from app.api.operations import operations
from app.api.shapes import Cursor, Limit, Number, PageOf, Reply
from app.audit import checkpoints, reads
from app.audit.signing import log_keys
from app.audit.verify import verify
from app.dependencies import ApiChange, ApiPage, database_of
from app.foundation.errors import NotFound
from app.participants.reads import visible_codes
from app.people.access import require
from app.people.permissions import Permission

router = operations("audit", "/audit")


class AuditReply(Reply):
    """One entry of the log. `old` and `new` are JSON text."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "position": 417,
                "at": "2026-07-16T10:02:11.000000Z",
                "username": "assessor",
                "role": "assessor",
                "organisation": "NeuRA",
                "via": "web",
                "action": "entry.corrected",
                "participant": "R-0042",
                "subject": "entry/week18/pain",
                "item": "pain_intensity",
                "old": "3",
                "new": "4",
                "why": "Read from the paper again.",
                "request_id": "9f2c6b1ad0e4f7a3",
            }
        },
    )

    position: int
    at: datetime
    username: str
    role: str
    organisation: str
    via: str
    action: str
    participant: str
    subject: str
    item: str
    old: str | None
    new: str | None
    why: str | None
    request_id: str


A_KEY: dict[str, Any] = {
    "vkey": "equipoise/7d0b3c1f9a5e2846/resolve+2f1c77ab+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    "generation": 1,
    "first": 2212,
    "at": "2026-05-04T08:30:00.000000Z",
}


class SigningKeyReply(Reply):
    """A public key of the log, as C2SP signed-note writes one: name, key id and key.

    It signs the log from so many entries on (`first`), since `at`; null when the log began with it.
    """

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": A_KEY})

    vkey: str
    generation: int
    first: int
    at: datetime | None


class VerificationReply(Reply):
    """What was verified: entries, the root of their tree (hex), and the checkpoints kept outside the database.

    No faults: every entry is what was written, and the log continues every checkpoint. `newest_checkpoint` is the size
    that the newest one vouches for. `keys` are the public keys that sign the checkpoints, the present one first.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "log": "resolve",
                "intact": True,
                "size": 4711,
                "root": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "checkpoints": 3,
                "newest_checkpoint": 4700,
                "keys": [A_KEY],
                "faults": [],
            }
        }
    )

    log: str
    intact: bool
    size: int
    root: str
    checkpoints: int
    newest_checkpoint: int
    keys: list[SigningKeyReply]
    faults: list[str]


@router.get("", name="api.audit")
def audit(
    here: ApiPage,
    cursor: Cursor = None,
    limit: Limit = 50,
    site: AtSite = None,
    participant: Whose = None,
    username: OfPerson = None,
    action: Annotated[
        str | None, Query(max_length=80, description="The beginning of an action's name.", examples=["entry."])
    ] = None,
    subject: Annotated[
        str | None, Query(max_length=200, description="Only of this thing.", examples=["entry/week18/pain"])
    ] = None,
    item: Annotated[str | None, Query(max_length=80, description="Only of this item.", examples=["pain_nrs"])] = None,
    since: Since = None,
    until: Until = None,
) -> PageOf[AuditReply]:
    """The log of this study, of the participants this person may know, the newest first."""
    require(here.actor, Permission.AUDIT_READ)
    wanted = reads.AuditFilter(
        participant=participant,
        username=username,
        action=action,
        subject=subject,
        item=item,
        since=since,
        until=until,
    )
    page: Any = reads.entries(
        here.session,
        here.the_study.code,
        wanted,
        participants=visible_codes(here.the_study, at(here, site)),
        cursor=cursor,
        limit=limit,
    )
    return PageOf(items=[AuditReply.model_validate(dict(row)) for row in page.rows], next=page.next)


@router.get("/{position}", name="api.audit_entry")
def audit_entry(here: ApiPage, position: Number) -> AuditReply:
    """One entry of the log by its place in it."""
    require(here.actor, Permission.AUDIT_READ)
    visible = visible_codes(here.the_study, here.actor)
    found = reads.entry_at(here.session, here.the_study.code, position, participants=visible)
    if found is None:
        raise NotFound
    return AuditReply.model_validate(dict(found))


@router.post("/verification", name="api.verify_log", response_model=VerificationReply)
def verify_log(here: ApiChange) -> Response:
    """Check every entry of this study's log against its hashes, its tree and the checkpoints kept elsewhere.

    It changes nothing, and is checked anew each time, also under the same Idempotency-Key.
    """
    require(here.actor, Permission.AUDIT_VERIFY, action="audit.verify")
    here.release_key()
    here.session.commit()  # nobody waits for a lock of ours while a long log is read
    log, database = here.the_study.code, database_of(here.request)
    points, faults = checkpoints.kept(here.settings.checkpoints, database.keys)
    with database.reading() as session:
        found = verify(session, log, points)
        keys = [SigningKeyReply.model_validate(key) for key in reversed(log_keys(session, log))]
    found.faults.extend(faults)
    body = VerificationReply(
        log=log,
        intact=found.intact,
        size=found.size,
        root=found.root.hex(),
        checkpoints=found.checkpoints,
        newest_checkpoint=max((point.size for point in points if point.log == log), default=0),
        keys=keys,
        faults=found.faults,
    )
    return here.answer(body.model_dump(mode="json"))
