"""How is something sealed so that it opens without this installation: one thing at a time, and by two people only?

A passphrase opens nothing by itself, and neither does a code: the key of each thing follows from both.

    pack key   scrypt(passphrase, salt of the pack, N = 32768, r = 8, p = 1), 32 bytes (RFC 7914)
    its key    HMAC-SHA256(pack key, "equipoise.downtime.1|" and the code)

and what is sealed is AES-256-GCM as in `envelopes`. Passphrases and codes are made here, 100 and 80 random bits, in 32
letters and digits that are not taken for one another when read from paper (Crockford's base 32).
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from app.foundation.crypto.envelopes import open_sealed, seal

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
GROUP = 4
PASSPHRASE_GROUPS = 5
CODE_GROUPS = 4
SALT = 16
MEMORY = 64 * 1024 * 1024
PREFIX = b"equipoise.downtime.1|"
COST = {"n": 32768, "r": 8, "p": 1}
"""What a passphrase costs to try, for scrypt; the file that opens a pack says the same."""

_READ_AS = str.maketrans("OIL", "011")


def new_passphrase() -> str:
    """100 random bits in five groups of four, as `7QK2-...`."""
    return readable(PASSPHRASE_GROUPS)


def new_code() -> str:
    """80 random bits in four groups of four: what opens one thing, once."""
    return readable(CODE_GROUPS)


def readable(groups: int) -> str:
    """So many groups of four random letters and digits: 20 random bits each, to be read from paper."""
    made = ["".join(secrets.choice(ALPHABET) for _ in range(GROUP)) for _ in range(groups)]
    return "-".join(made)


def as_read(typed: str) -> str:
    """A code or passphrase as it was typed from paper: no case, no gaps, O for 0, I and L for 1."""
    return "".join(each for each in typed.upper().translate(_READ_AS) if each in ALPHABET)


@dataclass(frozen=True)
class Pack:
    """The key of one pack, from its passphrase and its salt (16 bytes)."""

    key: bytes

    @classmethod
    def opened(cls, passphrase: str, salt: bytes) -> "Pack":
        """Takes a tenth of a second and 32 MiB, so that nobody tries many passphrases."""
        typed = as_read(passphrase).encode()
        return cls(hashlib.scrypt(typed, salt=salt, **COST, maxmem=MEMORY, dklen=32))

    def seal(self, code: str, plaintext: bytes, *, bound_to: tuple[str | int, ...], size: int) -> bytes:
        """What opens with this pack's passphrase and this code alone; all of one size have one length."""
        return seal(self._key_of(code), plaintext, bound_to=bound_to, size=size)

    def open(self, code: str, envelope: bytes, *, bound_to: tuple[str | int, ...]) -> bytes:
        """What was sealed; CannotOpen unless passphrase, code and place are its own."""
        return open_sealed(self._key_of(code), envelope, bound_to=bound_to)

    def _key_of(self, code: str) -> bytes:
        return hmac.digest(self.key, PREFIX + as_read(code).encode(), "sha256")


def new_salt() -> bytes:
    """A fresh salt for one pack."""
    return secrets.token_bytes(SALT)
