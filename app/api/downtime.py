"""Over REST: the statistician's packs for downtime, and entering somebody who was randomised on paper."""

import base64
from datetime import datetime

from fastapi.responses import Response
from pydantic import ConfigDict, Field

from app.api.addressed import address_of, participant_of
from app.api.operations import operations
from app.api.randomisation import (
    PARTICIPANTS,
    RandomisedReply,
    SequenceChange,
    SequencePage,
)
from app.api.shapes import KEPT, Body, Code, Cursor, Instant, Limit, Number, PageOf, Reply, Text
from app.dependencies import ApiChange, Here, api_reauthenticate, newest_entry, remembering
from app.foundation import paging
from app.foundation.errors import NotFound
from app.paper import papers
from app.people.access import may, require
from app.people.permissions import Permission
from app.randomisation.downtime import actions, reads

ONCE = "The pack was handed over once, in the first answer. If that is lost, close this pack and make another."

router = operations("randomisation")
packs_router = operations("sequence", hidden_without=Permission.SEQUENCE_DRAW)


class PackReply(Reply):
    """One pack, and how many of its slips are open, used and void."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "number": 1,
                "site_code": "neura",
                "version": 1,
                "salt": "9f2c6b1a",
                "made_at": "2026-03-14T09:26:53.589793+00:00",
                "made_by": "statistician",
                "closed_at": "2026-03-16T09:26:53.589793+00:00",
                "closed_by": "statistician",
                "reserved": 0,
                "used": 1,
                "void": 3,
            }
        },
    )

    number: int
    site_code: str
    version: int
    salt: str
    made_at: datetime
    made_by: str
    closed_at: datetime | None
    closed_by: str | None
    reserved: int
    used: int
    void: int


class SlipReply(Reply):
    """One slip and what became of its slot: reserved, used or void."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "number": 3,
                "name": "1-03",
                "stratum": "all",
                "state": "used",
                "participant": "R-0042",
                "used_at": "2026-03-15T09:20:00+00:00",
                "used_by": "Nora Nurse",
                "settled_at": "2026-03-16T09:26:53.589793+00:00",
                "settled_by": "coordinator",
                "reason": "The tray fell into water",
            }
        },
    )

    number: int
    name: str
    stratum: str
    state: str
    participant: str | None
    used_at: datetime | None
    used_by: str | None
    settled_at: datetime | None
    settled_by: str | None
    reason: str | None


class PackBody(Body):
    """Reserve slots of every stratum of a site: a signature, which needs the statistician's own password."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "site": "neura",
                "slots": 4,
                "why": "Power cuts are announced",
                "password": "correct horse battery",
            }
        },
    )

    site: Code
    slots: int = Field(ge=0, le=9999, description="In each stratum of the site.")
    why: Text
    password: str = Field(max_length=1024, pattern=KEPT)


class PrintedSlipReply(Reply):
    """One slip: its code opens one arm, with the passphrase and the file."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={"example": {"name": "1-03", "stratum": "Neura", "code": "7QK2-M4XD-0RVA-9TZC"}},
    )

    name: str
    stratum: str
    code: str


class PaperReply(Reply):
    """One file to print or hand over."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"name": "resolve-downtime-1-slips.pdf", "media_type": "application/pdf", "base64": "JVBERi0="}
        }
    )

    name: str
    media_type: str
    base64: str


class MadeReply(Reply):
    """A pack, handed over once. File, letter and passphrase are for those who treat, slips for those who enrol."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "number": 1,
                "passphrase": "7QK2-M4XD-0RVA-9TZC-H3WE",
                "slips": [{"name": "1-03", "stratum": "Neura", "code": "7QK2-M4XD-0RVA-9TZC"}],
                "files": [
                    {"name": "resolve-downtime-1-slips.pdf", "media_type": "application/pdf", "base64": "JVBERi0="}
                ],
                "note": ONCE,
            }
        }
    )

    number: int
    passphrase: str | None
    slips: list[PrintedSlipReply]
    files: list[PaperReply]
    note: str | None


class VoidBody(Body):
    """Why nobody was randomised with a slip."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"why": "The tray fell into water"}})

    why: Text


class ClosePackBody(Body):
    """Closing a pack voids what is left of it: a signature, which needs the statistician's own password."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"why": "The server is back; slips destroyed", "password": "correct horse battery"}
        },
    )

    why: Text
    password: str = Field(max_length=1024, pattern=KEPT)


class EnterBody(Body):
    """What stands on a slip; `deviation` says why something was not done that the protocol asks for first."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "slip": "1-03",
                "at": "2026-03-15T09:20:00+00:00",
                "used_by": "Nora Nurse",
                "deviation": "The baseline was filled in the day after",
                "password": "correct horse battery",
            }
        },
    )

    slip: Code
    at: Instant
    used_by: Text
    deviation: Text = ""
    password: str = Field(max_length=1024, pattern=KEPT)


@packs_router.get("/downtime-packs", name="api.downtime_packs")
def packs(here: SequencePage, cursor: Cursor = None, limit: Limit = 50) -> PageOf[PackReply]:
    """Every pack of the study, newest first."""
    _require_arms(here)
    found = reads.packs(here.session, here.the_study, by=here.actor)
    page = paging.page_of_all(found, limit, lambda each: (each.number,), int, cursor=cursor, falling=True)
    return PageOf(items=[PackReply.model_validate(each) for each in page.rows], next=page.next)


@packs_router.post("/downtime-packs", name="api.make_downtime_pack", response_model=MadeReply)
def make(here: SequenceChange, asked: PackBody) -> Response:
    """Reserve slots for a site and hand its pack over, once: the same request again gets no secret."""
    _require_arms(here, Permission.SEQUENCE_SEAL, Permission.ALLOCATIONS_EXPORT)
    api_reauthenticate(here, asked.password, None)
    made = actions.make_pack(
        here.session,
        here.the_study,
        site=asked.site,
        slots=asked.slots,
        why=asked.why,
        newest=newest_entry(here),
        by=here.actor,
        now=here.now,
    )
    files = papers(
        made.content,
        [(slip.name, slip.stratum, slip.code) for slip in made.slips],
        made.passphrase,
        mark=made.mark,
        at=here.now,
        language=here.the_study.definition.language,
    )
    shown = MadeReply(
        number=made.number,
        passphrase=made.passphrase,
        slips=[PrintedSlipReply.model_validate(slip) for slip in made.slips],
        files=[
            PaperReply(name=each.name, media_type=each.media_type, base64=base64.b64encode(each.body).decode())
            for each in files
        ],
        note=None,
    )
    without = MadeReply(number=made.number, passphrase=None, slips=[], files=[], note=ONCE)
    place = address_of(here, "downtime-packs", made.number)
    answer = here.answer_once(shown.model_dump(mode="json"), repeated=without.model_dump(mode="json"), location=place)
    answer.headers["Cache-Control"] = "no-store"
    return remembering(here, answer)


@packs_router.get("/downtime-packs/{number}", name="api.downtime_pack")
def pack(here: SequencePage, number: Number) -> PackReply:
    """One pack, and how many of its slips are reserved, used and void."""
    _require_arms(here)
    return PackReply.model_validate(reads.pack_of(here.session, here.the_study, number, by=here.actor))


@packs_router.get("/downtime-packs/{number}/slips", name="api.downtime_slips")
def slips(here: SequencePage, number: Number, cursor: Cursor = None, limit: Limit = 50) -> PageOf[SlipReply]:
    """Every slip of one pack, and what became of it."""
    _require_arms(here)
    page = paging.page_of_all(_slips(here, number), limit, lambda each: (each.number,), int, cursor=cursor)
    return PageOf(items=page.rows, next=page.next)


@packs_router.get("/downtime-packs/{number}/slips/{slip}", name="api.downtime_slip")
def slip(here: SequencePage, number: Number, slip: Number) -> SlipReply:
    """One slip of a pack, and what became of it."""
    _require_arms(here)
    for each in _slips(here, number):
        if each.number == slip:
            return each
    raise NotFound


def _slips(here: Here, number: int) -> list[SlipReply]:
    return [SlipReply.model_validate(each) for each in reads.slips(here.session, here.the_study, number, by=here.actor)]


@packs_router.post(
    "/downtime-packs/{number}/slips/{slip}/void", name="api.void_downtime_slip", response_model=list[SlipReply]
)
def void(here: SequenceChange, number: Number, slip: Number, asked: VoidBody) -> Response:
    """Nobody was randomised with this slip, and nobody ever is."""
    _require_arms(here, Permission.SEQUENCE_SEAL)
    actions.void_slip(here.session, here.the_study, number, slip, why=asked.why, by=here.actor, now=here.now)
    return here.answer([each.model_dump(mode="json") for each in _slips(here, number)])


@packs_router.post("/downtime-packs/{number}/close", name="api.close_downtime_pack", response_model=PackReply)
def close(here: SequenceChange, number: Number, asked: ClosePackBody) -> Response:
    """End a pack; what is left of it is void."""
    _require_arms(here, Permission.SEQUENCE_SEAL)
    api_reauthenticate(here, asked.password, None)
    actions.close_pack(here.session, here.the_study, number, why=asked.why, by=here.actor, now=here.now)
    closed = reads.pack_of(here.session, here.the_study, number, by=here.actor)
    return here.answer(PackReply.model_validate(closed).model_dump(mode="json"))


@router.post(
    PARTICIPANTS + "/randomise-on-paper", name="api.enter_slip", status_code=201, response_model=RandomisedReply
)
def enter(here: ApiChange, code: str, asked: EnterBody) -> Response:
    """Enter that a participant was randomised on paper, once and for all. Never the arm."""
    found = participant_of(here, code)
    if not here.the_study.definition.is_allocated:
        raise NotFound("This study does not randomise. Go on with the visits.")
    where = {"subject": found.code, "action": actions.ENTER}
    require(here.actor, Permission.PARTICIPANT_RANDOMISE, site_id=found.site_id, **where)
    api_reauthenticate(here, asked.password, None)
    made = actions.enter(
        here.session,
        here.the_study,
        found,
        slip=asked.slip,
        at=asked.at,
        used_by=asked.used_by,
        deviation=asked.deviation,
        newest=newest_entry(here),
        by=here.actor,
        now=here.now,
    )
    body = RandomisedReply(allocation=made.number, randomised_at=made.allocated_at).model_dump(mode="json")
    place = here.request.url.path.removesuffix("/randomise-on-paper")
    return remembering(here, here.answer(body, status=201, location=place))


def _require_arms(here: Here, *permissions: Permission) -> None:
    if not here.the_study.definition.is_allocated or not all(may(here.actor, each) for each in permissions):
        raise NotFound


router.routes.extend(packs_router.routes)
