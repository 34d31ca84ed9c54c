"""How is something sealed for one person outside, so that a plain machine with `openssl` opens it?

Cryptographic Message Syntax: AuthEnvelopedData (RFC 5083) with AES-256-GCM (RFC 5084), whose key is encrypted to an RSA
public key with OAEP, SHA-256 and MGF1 with SHA-256 (RFC 4056 section 3; RFC 3560). One command opens it:

    openssl cms -decrypt -inform PEM -in FILE -inkey PRIVATE.pem -out CONTENT
"""

import base64
import hashlib
import secrets
import textwrap
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

LEAST_BITS = 3072  # as strong as AES-128 (NIST SP 800-57 Part 1 Rev. 5, table 2)
MOST_BITS = 16384
LONGEST = 16_384  # characters of a key as text; more is no key
NONCE, TAG = 12, 16

AUTH_ENVELOPED_DATA = "1.2.840.113549.1.9.16.1.23"
DATA = "1.2.840.113549.1.7.1"
AES_256_GCM = "2.16.840.1.101.3.4.1.46"
RSAES_OAEP = "1.2.840.113549.1.1.7"
MGF1 = "1.2.840.113549.1.1.8"
SHA_256 = "2.16.840.1.101.3.4.2.1"


class BadKey(Exception):
    """What was handed over is no public key that things are sealed for; the message says what to do."""


@dataclass(frozen=True)
class PublicKey:
    """An RSA public key as text, its size in bits, and its SHA-256 fingerprint (of the SubjectPublicKeyInfo) as hex."""

    pem: str
    bits: int
    fingerprint: str


def read_public_key(text: str) -> PublicKey:
    """The public key in a PEM text; BadKey unless it is an RSA public key of 3072 bits or more, and nothing else."""
    text = text.strip()
    if "PRIVATE KEY" in text:
        raise BadKey(
            "This is a private key. It was not kept, but it has been sent over a network: make a new pair, and hand "
            "over the public key only."
        )
    if "BEGIN CERTIFICATE" in text:
        raise BadKey(
            "This is a certificate. Take the public key out of it with `openssl x509 -pubkey -noout`, and hand over "
            "that."
        )
    try:
        if len(text) > LONGEST or not text.startswith("-----BEGIN PUBLIC KEY-----"):
            raise ValueError
        key = load_pem_public_key(text.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey(
            "This is not a public key as PEM text. It begins with -----BEGIN PUBLIC KEY-----, as "
            "`openssl pkey -pubout` writes it."
        ) from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise BadKey(f"This is a public key of another kind. Make an RSA key of {LEAST_BITS} bits or more.")
    if key.key_size < LEAST_BITS:
        raise BadKey(f"This key has {key.key_size} bits, which is too weak. Make one of {LEAST_BITS} bits or more.")
    if key.key_size > MOST_BITS:
        raise BadKey(f"This key has {key.key_size} bits. Make one of {LEAST_BITS} to {MOST_BITS} bits.")
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return PublicKey(pem, key.key_size, hashlib.sha256(der).hexdigest())


def sealed_for(pem: str, content: bytes) -> str:
    """The content as a PEM text that only the private key of this public key opens."""
    public = load_pem_public_key(pem.encode())
    assert isinstance(public, rsa.RSAPublicKey)
    key, nonce = secrets.token_bytes(32), secrets.token_bytes(NONCE)
    whole = AESGCM(key).encrypt(nonce, content, None)
    encrypted, tag = whole[:-TAG], whole[-TAG:]
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    sha256 = _sequence(_oid(SHA_256), _tagged(0x05, b""))
    recipient = _sequence(
        _integer(2),
        _tagged(0x80, bytes.fromhex(read_public_key(pem).fingerprint)),  # subjectKeyIdentifier [0]
        _sequence(
            _oid(RSAES_OAEP),
            _sequence(_tagged(0xA0, sha256), _tagged(0xA1, _sequence(_oid(MGF1), sha256))),
        ),
        _tagged(0x04, public.encrypt(key, oaep)),
    )
    enveloped = _sequence(
        _integer(0),
        _tagged(0x31, recipient),
        _sequence(
            _oid(DATA),
            _sequence(_oid(AES_256_GCM), _sequence(_tagged(0x04, nonce), _integer(TAG))),
            _tagged(0x80, encrypted),
        ),
        _tagged(0x04, tag),
    )
    der = _sequence(_oid(AUTH_ENVELOPED_DATA), _tagged(0xA0, enveloped))
    lines = textwrap.wrap(base64.b64encode(der).decode(), 64)
    return "\n".join(["-----BEGIN CMS-----", *lines, "-----END CMS-----", ""])


# Distinguished Encoding Rules (X.690), as much as the above needs.


def _tagged(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def _sequence(*parts: bytes) -> bytes:
    return _tagged(0x30, b"".join(parts))


def _integer(value: int) -> bytes:
    return _tagged(0x02, value.to_bytes(1, "big"))


def _oid(dotted: str) -> bytes:
    first, second, *others = map(int, dotted.split("."))
    made = bytes([40 * first + second])
    for number in others:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.insert(0, 0x80 | number & 0x7F)
        made += bytes(groups)
    return _tagged(0x06, made)
