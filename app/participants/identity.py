"""How is it kept who somebody is? Sealed under a key of their own; without the key it cannot be read by anyone.

The participant's key is random, wrapped under a key derived from the installation's root key, and bound to study and
participant. Destroying the wrapped key erases the person in every place sealed under it: identity, signatures, log
(GDPR Art. 17; the log stays verifiable). A backup made before still holds the wrapped key until it is deleted.
"""

import base64
import json
import secrets
from dataclasses import dataclass, field

from sqlalchemy import insert, select
from sqlmodel import Session

from app.foundation.crypto import envelopes
from app.foundation.database import keys_of, table_of
from app.foundation.errors import Refused
from app.participants.models import Identity, Participant
from app.participants.rules import PersonalData

PARTICIPANT = table_of(Participant)
IDENTITY = table_of(Identity)

KEY_PURPOSE = "participant key"
SIZE = 1024
"""Bytes of plaintext in every sealed identity, so that its length says nothing of the name."""
FIELD_SIZE = 512
"""Bytes of plaintext of one sealed field in the log."""

ERASED = "The personal data of this participant were erased on request. Nobody can show or change them."


@dataclass(frozen=True)
class Revealed:
    """Personal data in the clear, and the version to send back when they are changed."""

    personal: PersonalData = field(repr=False)
    version: int


def new_identity(session: Session, study_id: int, participant_id: int, personal: PersonalData) -> bytes:
    """Keep personal data under a new key, and give the key."""
    key = secrets.token_bytes(32)
    wrapped = envelopes.seal(
        keys_of(session).derive(KEY_PURPOSE), key, bound_to=(KEY_PURPOSE, study_id, participant_id), size=32
    )
    session.execute(
        insert(IDENTITY).values(
            participant_id=participant_id,
            wrapped_key=wrapped,
            sealed=seal_personal(key, study_id, participant_id, personal),
            version=1,
        )
    )
    return key


def unwrap(session: Session, study_id: int, participant_id: int, wrapped: bytes) -> bytes:
    """The participant's key; CannotOpen when the wrapped key was changed or belongs to somebody else."""
    return envelopes.open_sealed(
        keys_of(session).derive(KEY_PURPOSE), wrapped, bound_to=(KEY_PURPOSE, study_id, participant_id)
    )


def participant_key(session: Session, participant_id: int) -> bytes | None:
    """The key of one participant, 32 bytes; None once it was erased."""
    row = session.execute(
        select(PARTICIPANT.c.study_id, IDENTITY.c.wrapped_key)
        .join(IDENTITY, IDENTITY.c.participant_id == PARTICIPANT.c.id)
        .where(PARTICIPANT.c.id == participant_id)
    ).first()
    if row is None or row.wrapped_key is None:
        return None
    return unwrap(session, row.study_id, participant_id, row.wrapped_key)


def open_identity(session: Session, participant_id: int) -> tuple[bytes, Revealed] | None:
    """The key and the personal data of one participant; None once they were erased. Actions log who was shown them."""
    row = session.execute(
        select(PARTICIPANT.c.study_id, IDENTITY.c.wrapped_key, IDENTITY.c.sealed, IDENTITY.c.version)
        .join(IDENTITY, IDENTITY.c.participant_id == PARTICIPANT.c.id)
        .where(PARTICIPANT.c.id == participant_id)
    ).first()
    if row is None or row.wrapped_key is None:
        return None
    key = unwrap(session, row.study_id, participant_id, row.wrapped_key)
    return key, Revealed(open_personal(key, row.study_id, participant_id, row.sealed), row.version)


def mail_address(session: Session, participant_id: int) -> str | None:
    """The mail address that is on file, or None; for whoever asks whether there is one, and shows it to nobody."""
    opened = open_identity(session, participant_id)
    return opened[1].personal.email if opened is not None else None


def seal_for(session: Session, participant_id: int, data: bytes, purpose: str, size: int) -> bytes:
    """Seal something of a participant, bound to its purpose; Refused once their key was erased."""
    key = participant_key(session, participant_id)
    if key is None:
        raise Refused(ERASED)
    return envelopes.seal(key, data, bound_to=(purpose, participant_id), size=size)


def open_for(session: Session, participant_id: int, sealed: bytes, purpose: str) -> bytes | None:
    """What `seal_for` sealed; None once the key was erased, CannotOpen when it is not intact or not theirs."""
    key = participant_key(session, participant_id)
    return None if key is None else envelopes.open_sealed(key, sealed, bound_to=(purpose, participant_id))


def seal_personal(key: bytes, study_id: int, participant_id: int, personal: PersonalData) -> bytes:
    """Personal data as stored: always the same length."""
    return envelopes.seal(key, _bytes(personal), bound_to=("identity", study_id, participant_id), size=SIZE)


def open_personal(key: bytes, study_id: int, participant_id: int, sealed: bytes) -> PersonalData:
    """Personal data from what is stored."""
    opened = envelopes.open_sealed(key, sealed, bound_to=("identity", study_id, participant_id))
    return PersonalData(**json.loads(opened))


def sealed_for_log(key: bytes, participant_id: int, name: str, value: str | None) -> str:
    """One field as the log keeps it: base64, sealed under the participant's key, always the same length (GDPR-5)."""
    sealed = envelopes.seal(
        key, json.dumps(value, ensure_ascii=False).encode(), bound_to=("log", name, participant_id), size=FIELD_SIZE
    )
    return base64.b64encode(sealed).decode()


def from_log(key: bytes, participant_id: int, name: str, text: str) -> str | None:
    """The field that `sealed_for_log` sealed."""
    opened = envelopes.open_sealed(key, base64.b64decode(text), bound_to=("log", name, participant_id))
    value: str | None = json.loads(opened)
    return value


def _bytes(personal: PersonalData) -> bytes:
    return json.dumps(personal.items(), ensure_ascii=False, separators=(",", ":")).encode()
