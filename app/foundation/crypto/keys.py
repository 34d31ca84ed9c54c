"""Where does the key come from? One 32-byte root key in a file outside the database; every other key is derived.

The file holds the root key as it is, or wrapped by a master key that is elsewhere (`masters`).

The purposes are kept apart with HKDF-SHA256 (RFC 5869): a key for one thing opens nothing else.
"""

import base64
import hmac
import os
import secrets
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.foundation.crypto.masters import MasterFailed, MasterKey

HEADER = "equipoise-key-1 "
WRAPPED = "equipoise-key-2 "
GENERATIONS = 1000
"""So many signing keys follow from one root key: whoever meets a signature tries them, and must come to an end."""


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
        return hmac.digest(self.derive(purpose), data, "sha256")

    @property
    def fingerprint(self) -> str:
        """Which key this is, without saying anything about it: 16 hex digits."""
        return self.tag("fingerprint", b"").hex()[:16]

    def sign(self, message: bytes, generation: int) -> bytes:
        """Ed25519 signature by the signing key of a generation, 64 bytes; `app.audit.signing` says which signs now."""
        return self._signer(generation).sign(message)

    def verify(self, signature: bytes, message: bytes, generation: int) -> bool:
        """Whether the signing key of this generation made the signature."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._signer(generation).public_key().verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def public_key(self, generation: int) -> bytes:
        """The 32-byte Ed25519 public key that checks what `sign` made with this generation."""
        return self._signer(generation).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def _signer(self, generation: int) -> Ed25519PrivateKey:
        purpose = "audit checkpoint signing"
        return Ed25519PrivateKey.from_private_bytes(self.derive(f"{purpose}|{generation}" if generation else purpose))


def create_key_file(path: Path, master: MasterKey | None = None) -> Keyring:
    """Write a new root key, readable by its owner only, and never over an existing one; wrapped when there is a master.

    FileExistsError when the file is there, MasterFailed when the master key cannot wrap.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    root = secrets.token_bytes(32)
    line = _line(root, master)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    return Keyring(root)


def read_key_file(path: Path, master: MasterKey | None = None) -> Keyring:
    """The keyring of a key file; KeyMissing or MasterFailed say what to do when it cannot be read."""
    return Keyring(_root_in(path, master))


def rewrap_key_file(path: Path, master: MasterKey | None, new: MasterKey | None) -> Keyring:
    """Write the same root key anew, wrapped by another master key, or as it is; no envelope changes."""
    root = _root_in(path, master)
    line = _line(root, new)
    if new is not None and new.unwrap(base64.b64decode(line.split()[-1])) != root:
        raise MasterFailed("The new master key does not give back what it wrapped. Nothing was changed.")
    waiting = path.with_name(path.name + ".writing")
    handle = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    os.replace(waiting, path)
    return Keyring(root)


def _line(root: bytes, master: MasterKey | None) -> str:
    header, kept = (HEADER, root) if master is None else (WRAPPED, master.wrap(root))
    return header + base64.b64encode(kept).decode() + "\n"


def _root_in(path: Path, master: MasterKey | None) -> bytes:
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not text"
        raise KeyMissing(
            f"The key file {path} cannot be read ({said}). "
            "Put the key file back from where you keep it; without it sealed data cannot be opened."
        ) from None
    header = next((each for each in (HEADER, WRAPPED) if text.startswith(each)), None)
    if header is None:
        raise KeyMissing(f"{path} is not an Equipoise key file.")
    if (header == WRAPPED) is (master is None):
        raise KeyMissing(
            f"The key in {path} is wrapped by a master key. Set EQUIPOISE_MASTER_KEY or EQUIPOISE_MASTER_PROGRAM."
            if master is None
            else f"The key in {path} is not wrapped, but a master key is set. Run `equipoise key rotate`, or unset it."
        )
    try:
        kept = base64.b64decode(text.removeprefix(header), validate=True)
    except ValueError:
        raise KeyMissing(f"{path} is damaged. Put the key file back from where you keep it.") from None
    return kept if master is None else master.unwrap(kept)
