"""Over REST, for the statistician: what was committed to, proofs, closing a list and opening its plan."""

from typing import Any

import orjson
from fastapi.responses import Response, StreamingResponse
from pydantic import ConfigDict, Field

from app.api.operations import operations
from app.api.randomisation import ArmsPage, SequenceChange, SequencePage, SequenceReply
from app.api.shapes import KEPT, Body, Text
from app.dependencies import Here, api_reauthenticate
from app.foundation.errors import NotFound
from app.people.access import may
from app.people.permissions import Permission
from app.randomisation import actions, commitment, reads

A_CERTIFICATE = {
    "format": "equipoise-sealing-certificate-1",
    "study": "resolve",
    "list_version": 1,
    "method": "permuted_blocks",
    "slots": 280,
    "strata": {"all": 280},
    "root": "9f2c6b1a",
    "plan_commitment": "17c0aa42",
}
A_PROOF = {
    "number": 1,
    "participant": "R-0003",
    "allocated_at": "2026-03-14T09:26:53.589793+00:00",
    "stratum": "all",
    "position": 1,
    "arm": "sham",
    "salt": "b0c1",
    "path": ["55aa", "e3b0"],
}
A_PLAN = {
    "format": "equipoise-opened-plan-1",
    "study": "resolve",
    "version": 1,
    "method": "permuted_blocks",
    "options": {"block_sizes": [4, 6]},
    "seed": "00ff",
    "salt_key": "1b2c",
}


class Lines(StreamingResponse):
    """One JSON object a line."""

    media_type = "application/x-ndjson"


def _shows(kind: str, example: Any) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {kind: {"example": example}}}}


router = operations("sequence", hidden_without=Permission.SEQUENCE_DRAW)


class CloseBody(Body):
    """Closing a list is a signature: it needs the statistician's own password beside the token."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"password": "correct horse battery", "why": "The target is reached"}},
    )

    password: str = Field(max_length=1024, pattern=KEPT)
    why: Text


@router.get(
    "/sequences/{version}/certificate",
    name="api.certificate",
    responses=_shows("application/json", A_CERTIFICATE),
)
def certificate(here: SequencePage, version: int) -> Response:
    """The sealing certificate, in the form whose SHA-256 is in the log."""
    said = reads.certificate(here.session, here.the_study, _id(here, version), by=here.actor)
    return Response(commitment.canonical(said), media_type="application/json")


@router.get(
    "/sequences/{version}/proofs",
    name="api.proofs",
    response_class=Lines,
    responses=_shows("application/x-ndjson", orjson.dumps(A_PROOF).decode()),
)
def proofs(here: ArmsPage, version: int) -> Lines:
    """Arm, salt and path of every allocation, one JSON object a line. Unblinded: each opening is in the log.

    An allocation from a downtime pack has its number as `pack`. At the end stands a line with `stratum`, `position` and
    `pack` for every slot of a pack that is `voided`, with the reason, or still `reserved`. The last line has the
    SHA-256 of the `proofs` above it, without their last line end, and of the `certificate`.
    """
    found = _id(here, version)
    return Lines(
        reads.proofs_file(here.session, here.the_study, found, by=here.actor, why=commitment.WHY, now=here.now)
    )


@router.post("/sequences/{version}/close", name="api.close_sequence", response_model=SequenceReply)
def close(here: SequenceChange, version: int, asked: CloseBody) -> Response:
    """End randomisation from a sealed list, for good."""
    found = _id(here, version)
    if not may(here.actor, Permission.SEQUENCE_SEAL):
        raise NotFound
    api_reauthenticate(here, asked.password, None)
    actions.close(here.session, here.the_study, found, why=asked.why, by=here.actor, now=here.now)
    closed = reads.sequence_of_version(here.session, here.the_study, version, by=here.actor)
    return here.answer(SequenceReply.model_validate(closed).model_dump(mode="json"))


@router.get("/sequences/{version}/plan", name="api.plan", responses=_shows("application/json", A_PLAN))
def plan(here: ArmsPage, version: int) -> dict[str, Any]:
    """Plan, seed and salt key of a closed list, from which anybody draws it again."""
    return actions.open_plan(here.session, here.the_study, _id(here, version), by=here.actor, now=here.now)


def _id(here: Here, version: int) -> int:
    return reads.sequence_of_version(here.session, here.the_study, version, by=here.actor).id
