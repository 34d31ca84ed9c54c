"""Over REST, for the statistician: the public key that seeds are escrowed to, and the escrow of a list."""

from datetime import datetime

from fastapi.responses import PlainTextResponse, Response
from pydantic import ConfigDict, Field

from app.api.operations import operations
from app.api.randomisation import ScriptPage, SequenceChange, SequencePage
from app.api.shapes import KEPT, Body, Reply
from app.dependencies import Here, api_reauthenticate
from app.foundation.crypto.cms import LONGEST
from app.foundation.errors import NotFound
from app.people.access import may
from app.people.permissions import Permission
from app.randomisation.escrow import actions, reads
from app.randomisation.reads import sequence_of_version

router = operations("sequence", hidden_without=Permission.SEQUENCE_DRAW)

A_KEY = "-----BEGIN PUBLIC KEY-----\nMIIB...\n-----END PUBLIC KEY-----\n"
AN_ESCROW = "-----BEGIN CMS-----\nMIIF...\n-----END CMS-----\n"


class KeyReply(Reply):
    """The public key in use: its size in bits, and the SHA-256 of it as DER, which certificates name."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "pem": A_KEY,
                "bits": 4096,
                "fingerprint": "08427ba2d6ae2824",
                "stored_at": "2026-03-01T08:00:00+00:00",
                "stored_by": "statistician",
            }
        },
    )

    pem: str
    bits: int
    fingerprint: str
    stored_at: datetime
    stored_by: str


class KeyBody(Body):
    """An RSA public key of 3072 bits or more as PEM; a signature, which needs the statistician's own password."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"pem": A_KEY, "password": "correct horse battery"}}
    )

    pem: str = Field(max_length=LONGEST, pattern=KEPT)
    password: str = Field(max_length=1024, pattern=KEPT)


@router.get("/escrow-key", name="api.escrow_key")
def escrow_key(here: SequencePage) -> KeyReply:
    """The key that lists are escrowed to when they are sealed."""
    _require_arms(here)
    found = reads.key_in_use(here.session, here.the_study, by=here.actor)
    if found is None:
        raise NotFound("There is no key yet. Store one before a list is sealed.")
    return KeyReply.model_validate(found)


@router.put("/escrow-key", name="api.store_escrow_key", response_model=KeyReply)
def store_escrow_key(here: SequenceChange, asked: KeyBody) -> Response:
    """Keep a public key, for every list that is sealed from now on."""
    _require_arms(here)
    if not may(here.actor, Permission.SEQUENCE_SEAL):
        raise NotFound
    api_reauthenticate(here, asked.password, None)
    stored = actions.store_key(here.session, here.the_study, pem=asked.pem, by=here.actor, now=here.now)
    return here.answer(KeyReply.model_validate(stored).model_dump(mode="json"))


@router.get(
    "/sequences/{version}/escrow",
    name="api.escrow",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"example": AN_ESCROW}}}},
)
def escrow(here: ScriptPage, version: int) -> PlainTextResponse:
    """A list's plan and seed, encrypted to the key (CMS). Taking it is in the log.

    `openssl cms -decrypt -inform PEM -in escrow.pem -inkey private.pem -out plan.json` opens it.
    """
    _require_arms(here)
    found = sequence_of_version(here.session, here.the_study, version, by=here.actor)
    text = actions.take_escrow(here.session, here.the_study, found.id, by=here.actor, now=here.now)
    return PlainTextResponse(text, headers={"Cache-Control": "no-store"})


def _require_arms(here: Here) -> None:
    if not here.the_study.definition.is_allocated:
        raise NotFound
