"""How is a slot sealed, so that neither its row, its length nor its place says which arm is in it?

Every slot has a key of its own and is bound to its study, list, version, stratum and position: an envelope moved to
another place does not open (CONC-3). What is inside is padded first, so all envelopes have one length (CONC-2).
"""

import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from app.foundation.crypto.envelopes import open_sealed, seal
from app.foundation.crypto.keys import Keyring
from app.randomisation.drbg import SEED_BYTES

ARM_SIZE = 64
SECRETS_SIZE = 4096
SECRETS_PURPOSE = "sequence secrets"


@dataclass(frozen=True)
class Place:
    """Where a slot is: one list of one study, one stratum, one position in it (from 1)."""

    study_id: int
    sequence_id: int
    version: int
    stratum: str
    position: int

    @property
    def purpose(self) -> str:
        """What this slot's own key is for."""
        return f"slot|{self.study_id}|{self.sequence_id}|{self.stratum}|{self.position}"

    @property
    def bound_to(self) -> tuple[str | int, ...]:
        """What the envelope is tied to."""
        return ("slot", self.study_id, self.sequence_id, self.version, self.stratum, self.position)


def seal_arm(keys: Keyring, place: Place, arm: str) -> bytes:
    """The envelope of one slot; `ValueError` when the arm's code is longer than 64 bytes."""
    return seal(keys.derive(place.purpose), arm.encode(), bound_to=place.bound_to, size=ARM_SIZE)


def unseal_arm(keys: Keyring, place: Place, envelope: bytes) -> str:
    """The arm in an envelope, for `opening` alone; `CannotOpen` when it is not intact or not in its place."""
    return open_sealed(keys.derive(place.purpose), envelope, bound_to=place.bound_to).decode()


def seal_secrets(keys: Keyring, study_id: int, version: int, content: dict[str, Any]) -> bytes:
    """What a list was drawn from (options, seed) and its counts, in one envelope of one size."""
    plaintext = json.dumps(content, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()
    return seal(keys.derive(SECRETS_PURPOSE), plaintext, bound_to=("sequence", study_id, version), size=SECRETS_SIZE)


def unseal_secrets(keys: Keyring, study_id: int, version: int, envelope: bytes) -> dict[str, Any]:
    """What a list was drawn from; `CannotOpen` when it is not intact or belongs to another list."""
    plaintext = open_sealed(keys.derive(SECRETS_PURPOSE), envelope, bound_to=("sequence", study_id, version))
    content = json.loads(plaintext)
    assert isinstance(content, dict)
    return content


def new_seed() -> bytes:
    """A fresh seed from the operating system: the only randomness a list has (RND-9)."""
    return secrets.token_bytes(SEED_BYTES)


def new_salt_key() -> bytes:
    """A fresh key for the salts of one list (app.randomisation.commitment)."""
    return secrets.token_bytes(32)


def digest(envelopes: Iterable[bytes]) -> str:
    """SHA-256 over the envelopes, strata in the order of their codes and positions ascending, as hex.

    It commits to the list without saying anything of it: envelopes carry a random nonce each.
    """
    hashed = hashlib.sha256()
    for envelope in envelopes:
        hashed.update(envelope)
    return hashed.hexdigest()
