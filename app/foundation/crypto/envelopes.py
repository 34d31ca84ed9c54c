"""How is something sealed so that neither its content, its length nor its place can be changed or guessed?

AES-256-GCM with a random 96-bit nonce; the plaintext is padded to a fixed length first, because GCM keeps lengths and
"A" would be told from "Placebo" (standards.md CONC-2). `bound_to` is authenticated with it, so that an envelope moved
to another place does not open (CONC-3).
"""

import json
import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE = 12
LENGTH = 4  # bytes that say how long the plaintext is


class CannotOpen(Exception):
    """The envelope is not intact, not in its place, or sealed under another key."""


_as_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode  # made once: a page opens a hundred


def _place(bound_to: Sequence[str | int]) -> bytes:
    return _as_json(list(bound_to)).encode()


def seal(key: bytes, plaintext: bytes, *, bound_to: Sequence[str | int], size: int) -> bytes:
    """Nonce + ciphertext + tag: always 12 + 4 + size + 16 bytes. ValueError when the plaintext is longer than size."""
    if len(plaintext) > size:
        raise ValueError(f"At most {size} bytes fit in this envelope.")
    padded = len(plaintext).to_bytes(LENGTH, "big") + plaintext + bytes(size - len(plaintext))
    nonce = secrets.token_bytes(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, padded, _place(bound_to))


def open_sealed(key: bytes, envelope: bytes, *, bound_to: Sequence[str | int]) -> bytes:
    """The plaintext; CannotOpen when one bit of it or of its place is different."""
    try:
        padded = AESGCM(key).decrypt(envelope[:NONCE], envelope[NONCE:], _place(bound_to))
    except (InvalidTag, ValueError):
        raise CannotOpen("A sealed record is not intact. Stop, keep the database as it is, and verify it.") from None
    end = LENGTH + int.from_bytes(padded[:LENGTH], "big")
    if end > len(padded) or padded[end:] != bytes(len(padded) - end):
        raise CannotOpen("A sealed record has a form that this version does not know. Nothing was read from it.")
    return padded[LENGTH:end]
