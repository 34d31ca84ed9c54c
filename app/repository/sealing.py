"""How are shared files sealed? Under a key of the installation, bound to their place; lengths say little."""

import json

from sqlmodel import Session

from app.foundation.crypto import envelopes
from app.foundation.database import keys_of

PURPOSE = "repository"
ABOUT_SIZE = 1024
"""Bytes of plaintext of every sealed name, whatever its length."""
STEPS = 65_536
"""A file is filled up to a multiple of so many bytes."""


def seal_about(session: Session, kind: str, study_id: int, number: int, about: dict[str, str]) -> bytes:
    """The name of a folder or a file, and what kind of file it is: always the same length."""
    text = json.dumps(about, ensure_ascii=False).encode()
    return envelopes.seal(
        keys_of(session).derive(PURPOSE), text, bound_to=(PURPOSE, kind, study_id, number), size=ABOUT_SIZE
    )


def open_about(session: Session, kind: str, study_id: int, number: int, sealed: bytes) -> dict[str, str]:
    """What `seal_about` sealed; CannotOpen when it is not intact or stands elsewhere."""
    opened = envelopes.open_sealed(keys_of(session).derive(PURPOSE), sealed, bound_to=(PURPOSE, kind, study_id, number))
    about: dict[str, str] = json.loads(opened)
    return about


def seal_file(session: Session, study_id: int, number: int, data: bytes) -> bytes:
    """The content of a file."""
    size = -(-len(data) // STEPS) * STEPS
    return envelopes.seal(
        keys_of(session).derive(PURPOSE), data, bound_to=(PURPOSE, "content", study_id, number), size=size
    )


def open_file(session: Session, study_id: int, number: int, sealed: bytes) -> bytes:
    """What `seal_file` sealed."""
    return envelopes.open_sealed(
        keys_of(session).derive(PURPOSE), sealed, bound_to=(PURPOSE, "content", study_id, number)
    )
