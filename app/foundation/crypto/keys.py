"""Where does the key come from? One 32-byte root key in a file outside the database; every other key is derived.

The purposes are kept apart with HKDF-SHA256 (RFC 5869): a key for one thing opens nothing else.
"""

import base64
import hashlib
import hmac
import os
import secrets
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HEADER = "equipoise-key-1 "


class KeyMissing(Exception):
    """The key file is not there, or is not a key file."""


class Keyring:
    """The root key and what is derived from it. Nothing here is ever written to the database or a log."""

    def __init__(self, root: bytes) -> None:
        if len(root) != 32:
            raise KeyMissing("A root key has 32 bytes.")
        self._root = root
        self.derive = lru_cache(maxsize=4096)(self._derive)

    def _derive(self, purpose: str) -> bytes:
        """A 32-byte key for one purpose, e.g. 'slot|7|12|3'."""
        return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"equipoise|" + purpose.encode()).derive(
            self._root
        )

    def tag(self, purpose: str, data: bytes) -> bytes:
        """HMAC-SHA256 of data under the purpose's key, 32 bytes: somebody with the database alone cannot make one."""
        return hmac.new(self.derive(purpose), data, hashlib.sha256).digest()

    @property
    def fingerprint(self) -> str:
        """Which key this is, without saying anything about it: 16 hex digits."""
        return self.tag("fingerprint", b"").hex()[:16]

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature under the log's signing key, 64 bytes."""
        return self._signer().sign(message)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether this keyring made the signature."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._signer().public_key().verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def public_key(self) -> bytes:
        """The 32-byte Ed25519 public key that checks `sign`."""
        return self._signer().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def _signer(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.derive("audit checkpoint signing"))


def create_key_file(path: Path) -> Keyring:
    """Write a new root key, readable by its owner only, and never over an existing one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    root = secrets.token_bytes(32)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(HEADER + base64.b64encode(root).decode() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return Keyring(root)


def read_key_file(path: Path) -> Keyring:
    """The keyring of a key file; KeyMissing says what to do when it cannot be read."""
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise KeyMissing(
            f"The key file {path} cannot be read ({error.strerror}). "
            "Put the key file back from where you keep it; without it sealed data cannot be opened."
        ) from None
    if not text.startswith(HEADER):
        raise KeyMissing(f"{path} is not an Equipoise key file.")
    return Keyring(base64.b64decode(text.removeprefix(HEADER)))
