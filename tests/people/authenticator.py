"""A device that makes and uses passkeys, in software: it does whatever a test wants, also what no honest one does."""

import base64
import hashlib
import json
import secrets
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from fido2 import cbor
from fido2.cose import ES256

ORIGIN = "https://trial.example.org"
PRESENT, VERIFIED, MADE = 0x01, 0x04, 0x40


def text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Authenticator:
    """One passkey on one device; `count` is what its counter says the next time, None for a device that counts none."""

    def __init__(self, *, origin: str = ORIGIN, credential_id: bytes | None = None, count: int | None = 1) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.id = credential_id or secrets.token_bytes(32)
        self.origin, self.count = origin, count

    def make(self, options: dict[str, Any], *, algorithm: int | None = None, **false: Any) -> str:
        """The answer to options_to_create."""
        public = dict(ES256.from_cryptography_key(self.key.public_key()))
        if algorithm is not None:
            public[3] = algorithm
        more = bytes(16) + len(self.id).to_bytes(2, "big") + self.id + cbor.encode(public)
        signed = self._data(options["rp"]["id"], MADE, false) + more
        said = self._said("webauthn.create", options, false)
        made = {"fmt": "none", "attStmt": {}, "authData": signed}
        return self._answer({"clientDataJSON": text_of(said), "attestationObject": text_of(cbor.encode(made))})

    def use(self, options: dict[str, Any], **false: Any) -> str:
        """The answer to options_to_use; `false` says what it lies about: origin, host, verified, signature ..."""
        signed = self._data(options["rpId"], 0, false)
        said = self._said("webauthn.get", options, false)
        signature = self.key.sign(signed + hashlib.sha256(said).digest(), ec.ECDSA(SHA256()))
        if false.get("signature"):
            signature = false["signature"](signature)
        answer = {"authenticatorData": signed, "clientDataJSON": said, "signature": signature}
        return self._answer({name: text_of(value) for name, value in answer.items()})

    def _data(self, host: str, flags: int, false: dict[str, Any]) -> bytes:
        flags |= PRESENT | (VERIFIED if false.get("verified", True) else 0)
        count, self.count = self.count or 0, None if self.count is None else self.count + 1
        host = false.get("host", host)
        return hashlib.sha256(host.encode()).digest() + bytes([flags]) + count.to_bytes(4, "big")

    def _said(self, kind: str, options: dict[str, Any], false: dict[str, Any]) -> bytes:
        said = {
            "type": false.get("type", kind),
            "challenge": false.get("challenge", options["challenge"]),
            "origin": false.get("origin", self.origin),
            "crossOrigin": false.get("framed", False),
        }
        return json.dumps(said).encode()

    def _answer(self, response: dict[str, str]) -> str:
        mine = text_of(self.id)
        return json.dumps(
            {"id": mine, "rawId": mine, "type": "public-key", "response": response, "clientExtensionResults": {}}
        )
