"""Who guards the root key? A master key that is somewhere else wraps it: one small interface, three ways.

The root key is made once and never changes, since every envelope, tag and signature follows from it. It stands in the
key file as it is, or wrapped by a master key: one in the environment, or one that a key management service keeps and
never hands out. Changing the master key (`equipoise key rotate`) wraps the root key anew: no envelope is opened or
sealed again, and a copy of the old key file opens nothing for whoever has the new master key only.
"""

import base64
import shlex
import subprocess
from dataclasses import dataclass, field
from typing import Protocol

from app.foundation.crypto.envelopes import CannotOpen, open_sealed, seal

SIZE = 32
BOUND_TO = ("root key", 1)
PATIENCE = 30  # seconds for a key management service to answer


class MasterFailed(Exception):
    """The master key could not wrap or unwrap; the message says what to do."""


class MasterKey(Protocol):
    """Wraps the root key, and unwraps it again; whoever has only the wrapped form has nothing."""

    def wrap(self, root: bytes) -> bytes:
        """The 32-byte root key, wrapped. MasterFailed when that cannot be done now."""

    def unwrap(self, wrapped: bytes) -> bytes:
        """The root key. MasterFailed when this is another master key's, or the service does not answer."""


@dataclass(frozen=True)
class KeyInEnvironment:
    """A 32-byte master key handed over by whoever starts the process; AES-256-GCM wraps the root key under it."""

    key: bytes = field(repr=False)

    @classmethod
    def from_text(cls, text: str) -> "KeyInEnvironment":
        """The master key from 44 characters of base64, as `openssl rand -base64 32` prints them."""
        try:
            key = base64.b64decode(text.strip(), validate=True)
        except ValueError:
            key = b""
        if len(key) != SIZE:
            raise MasterFailed("The master key must be 32 bytes in base64, such as `openssl rand -base64 32` prints.")
        return cls(key)

    def wrap(self, root: bytes) -> bytes:
        return seal(self.key, root, bound_to=BOUND_TO, size=SIZE)

    def unwrap(self, wrapped: bytes) -> bytes:
        try:
            return open_sealed(self.key, wrapped, bound_to=BOUND_TO)
        except CannotOpen:
            raise MasterFailed("This master key does not open the key file. Set the one it was wrapped with.") from None


@dataclass(frozen=True)
class KeyManagementService:
    """A program that asks a key management service: `PROGRAM wrap`, `PROGRAM unwrap`, from base64 to base64."""

    program: str

    def wrap(self, root: bytes) -> bytes:
        return self._ask("wrap", root)

    def unwrap(self, wrapped: bytes) -> bytes:
        root = self._ask("unwrap", wrapped)
        if len(root) != SIZE:
            raise MasterFailed("The key management service answered with something that is no root key.")
        return root

    def _ask(self, what: str, data: bytes) -> bytes:
        try:
            asked = subprocess.run(  # noqa: S603 the program is the operator's own setting
                [*shlex.split(self.program), what],
                input=base64.b64encode(data),
                capture_output=True,
                timeout=PATIENCE,
                check=True,
            )
            return base64.b64decode(asked.stdout.strip(), validate=True)
        except (OSError, ValueError, subprocess.SubprocessError) as problem:
            # Never what the program printed: it may be the key.
            raise MasterFailed(
                f"The key management service could not {what} the root key ({type(problem).__name__}). Run "
                f"`{self.program} {what}` by hand and see."
            ) from None


def master_from(key: str | None, program: str | None) -> MasterKey | None:
    """The master key of the settings; None when the key file holds the root key as it is."""
    if key and program:
        raise MasterFailed("There is a master key and a key management service. Set only one of them.")
    if program:
        return KeyManagementService(program)
    return KeyInEnvironment.from_text(key) if key else None
