"""Over REST, for the statistician: what was committed to, proofs, closing a list and opening its plan."""

from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse
from pydantic import ConfigDict, Field

from app.api.randomisation import ArmsPage, SequenceChange, SequencePage, SequenceReply, hidden_without
from app.api.shapes import Body
from app.dependencies import Here, api_reauthenticate
from app.foundation.errors import NotFound
from app.people.access import may
from app.people.permissions import Permission
from app.randomisation import actions, commitment, reads

router = APIRouter(tags=["sequence"], route_class=hidden_without(Permission.SEQUENCE_DRAW))


class CloseBody(Body):
    """Closing a list is a signature: it needs the statistician's own password beside the token."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"password": "correct horse battery", "why": "The target is reached"}},
    )

    password: str = Field(max_length=1024)
    why: str = Field(max_length=2000)


@router.get("/sequences/{version}/certificate", name="api.certificate")
def certificate(here: SequencePage, version: int) -> Response:
    """The sealing certificate, in the form whose SHA-256 is in the log."""
    said = reads.certificate(here.session, here.the_study, _id(here, version), by=here.actor)
    return Response(commitment.canonical(said), media_type="application/json")


@router.get("/sequences/{version}/proofs", name="api.proofs")
def proofs(here: ArmsPage, version: int) -> Response:
    """Arm, salt and path of every allocation, one JSON object a line. Unblinded: each opening is in the log."""
    found = _id(here, version)
    why = "Proofs of allocations"
    lines = list(reads.proofs(here.session, here.the_study, found, by=here.actor, why=why, now=here.now))
    return StreamingResponse((orjson.dumps(line) + b"\n" for line in lines), media_type="application/x-ndjson")


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


@router.get("/sequences/{version}/plan", name="api.plan")
def plan(here: ArmsPage, version: int) -> dict[str, Any]:
    """Plan, seed and salt key of a closed list, from which anybody draws it again."""
    return actions.open_plan(here.session, here.the_study, _id(here, version), by=here.actor, now=here.now)


def _id(here: Here, version: int) -> int:
    return reads.sequence_of_version(here.session, here.the_study, version, by=here.actor).id
