"""How are passwords, tokens and second factors kept? Hashed so that a copy of the database signs nobody in."""

import base64
import hashlib
import hmac
import secrets

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.foundation.crypto.packs import GROUP, as_read, readable

# OWASP minimum for argon2id (19 MiB, two passes, one lane): 25 to 50 ms here (performance.md section 3).
_hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
# Of a password that was forgotten at once; made with the same cost as everybody's, so that both take the same time.
_nobody = "$argon2id$v=19$m=19456,t=2,p=1$27iFQiAYr4AtaV/kx8tjtQ$4ib0qb6WGrwo8Uz5O8QeYuDO7bopccpz8mmSrK9JjXY"


def hash_password(password: str) -> str:
    """The argon2id hash of a password, PHC format."""
    return _hasher.hash(password)


def password_matches(password_hash: str | None, password: str) -> bool:
    """Whether it is this person's password; takes as long when there is no such person."""
    try:
        # JSON may say half of a character, which is in no encoding: then it is nobody's password, and no failure.
        matches = _hasher.verify(password_hash or _nobody, password.encode("utf-8", "surrogatepass"))
    except (VerificationError, InvalidHashError):
        return False
    return matches and password_hash is not None


def needs_rehash(password_hash: str) -> bool:
    """Whether the hash was made with weaker parameters than today's."""
    return _hasher.check_needs_rehash(password_hash)


def new_token() -> str:
    """256 random bits as 43 URL-safe characters."""
    return secrets.token_urlsafe(32)


def new_seed() -> bytes:
    """256 random bits, of which a secret is made with a key."""
    return secrets.token_bytes(32)


def token_from(tag: bytes) -> str:
    """32 bytes as 43 URL-safe characters, like a new token."""
    return base64.urlsafe_b64encode(tag).rstrip(b"=").decode()


def new_hexadecimal_token() -> str:
    """128 random bits as 32 upper-case hexadecimal digits: the one form that REDCap's clients accept."""
    return secrets.token_hex(16).upper()


def new_super_token() -> str:
    """256 random bits as 64 upper-case hexadecimal digits: what those clients call a super token."""
    return secrets.token_hex(32).upper()


RECOVERY_GROUPS = 6
LONGEST_TYPED = 64  # of a code, with gaps


def new_recovery_code() -> str:
    """120 random bits in six groups of four, to be kept on paper: as many as need no slow hash (OWASP ASVS 6.5.2)."""
    return readable(RECOVERY_GROUPS)


def recovery_code_as_read(typed: str | None) -> str | None:
    """A recovery code without case, gaps, and letters that look like digits; None when it is no code at all."""
    code = as_read((typed or "")[:LONGEST_TYPED])
    return code if len(code) == RECOVERY_GROUPS * GROUP else None


def recovery_code_hash(person_id: int, code: str) -> bytes:
    """What is stored of a recovery code as it is read: a hash that is of use to this person only."""
    return token_hash(f"recovery code {person_id} {code}")


def token_hash(token: str) -> bytes:
    """What is stored of a token: SHA-256. Tokens are random, so no slow hash is needed."""
    return hashlib.sha256(token.encode()).digest()


def same(left: str | bytes, right: str | bytes) -> bool:
    """Equality in constant time."""
    as_bytes = [value.encode() if isinstance(value, str) else value for value in (left, right)]
    return hmac.compare_digest(*as_bytes)


def new_totp_secret() -> str:
    """A base32 secret for an authenticator app (RFC 6238)."""
    return pyotp.random_base32()


def totp_address(secret: str, username: str) -> str:
    """The otpauth:// address an authenticator app reads from a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=username, issuer_name="Equipoise")


def totp_step(secret: str, code: str, at: int, last_step: int | None) -> int | None:
    """The 30-second step this code is valid for, or None. One step of drift either way; a used step never again."""
    totp = pyotp.TOTP(secret)
    for step in (at // 30, at // 30 - 1, at // 30 + 1):
        if last_step is not None and step <= last_step:
            continue
        if hmac.compare_digest(totp.generate_otp(step), code.strip().replace(" ", "")):
            return step
    return None
