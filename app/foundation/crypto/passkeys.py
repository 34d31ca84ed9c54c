"""What is the answer of a passkey worth? The only place that asks the library for WebAuthn (W3C, level 3).

A passkey is a pair of keys whose secret half its owner's device keeps, and uses only after it has seen its owner (a
finger, a face, a PIN) and only for one address. The library is imported when somebody uses one, not before: that takes
as long as the start of the server must not.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from fido2.server import Fido2Server
    from fido2.webauthn import CollectedClientData

LONGEST_ANSWER = 20_000
LONGEST_ID = 1023  # bytes, by the standard
# EdDSA, ECDSA with P-256, RSA with SHA-256: what every device can do one of. What is weaker is not taken.
ALGORITHMS = (-8, -7, -257)


class NotRight(Exception):
    """The answer is not that of a passkey that was asked for."""


@dataclass(frozen=True)
class Place:
    """Where passkeys are good: the name of the host (`rp.id`), and the origin of the pages that may ask for one."""

    host: str
    origin: str


def place_of(address: str) -> Place | None:
    """The place of an installation; None where browsers use no passkeys: without TLS, or with a number for a name."""
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").encode("idna").decode()
        port = parts.port
    except ValueError:
        return None
    local = host == "localhost" or host.endswith(".localhost")
    if not host or parts.scheme not in (("https", "http") if local else ("https",)) or _is_number(host):
        return None
    usual = port in (None, {"https": 443, "http": 80}[parts.scheme])
    return Place(host, f"{parts.scheme}://{host}" if usual else f"{parts.scheme}://{host}:{port}")


def _is_number(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def options_to_create(
    place: Place, challenge: bytes, *, user: bytes, username: str, name: str, others: Sequence[bytes]
) -> dict[str, Any]:
    """What a browser is asked to make a passkey with, as PublicKeyCredentialCreationOptionsJSON.

    `others` are the ids of those this person has: a device makes no second one beside them.
    """
    return {
        "rp": {"id": place.host, "name": "Equipoise"},
        "user": {"id": _text(user), "name": username, "displayName": name},
        "challenge": _text(challenge),
        "pubKeyCredParams": [{"type": "public-key", "alg": each} for each in ALGORITHMS],
        "excludeCredentials": [{"type": "public-key", "id": _text(each)} for each in others],
        "authenticatorSelection": {"residentKey": "preferred", "userVerification": "required"},
        "attestation": "none",
    }


def options_to_use(place: Place, challenge: bytes, *, ids: Sequence[bytes]) -> dict[str, Any]:
    """What a browser is asked to use one of these passkeys with, as PublicKeyCredentialRequestOptionsJSON."""
    return {
        "challenge": _text(challenge),
        "rpId": place.host,
        "allowCredentials": [{"type": "public-key", "id": _text(each)} for each in ids],
        "userVerification": "required",
    }


def challenge_in(answer: str) -> bytes | None:
    """The challenge that an answer says it is to; None when it is no answer. Nothing of it is believed yet."""
    try:
        if len(answer) > LONGEST_ANSWER:
            return None
        said = json.loads(_bytes(json.loads(answer)["response"]["clientDataJSON"]))
        return _bytes(said["challenge"])
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        return None


@dataclass(frozen=True)
class Made:
    """A passkey that was made: its id, its public half (with its kind, as the library keeps them), and its counter."""

    id: bytes
    public: bytes
    count: int


def made(place: Place, challenge: bytes, answer: str) -> Made:
    """The passkey that a device made for this challenge, at this place, having seen its owner; else NotRight.

    Who built the device is not asked (no attestation).
    """
    from fido2.webauthn import RegistrationResponse

    try:
        response = RegistrationResponse.from_dict(json.loads(answer[:LONGEST_ANSWER]))
        _require_own_page(response.response.client_data)
        found = _server(place).register_complete(_asked(challenge), response)
        kept = found.credential_data
        if kept is None or kept.public_key.get(3) not in ALGORITHMS or not 0 < len(kept.credential_id) <= LONGEST_ID:
            raise NotRight
        if not hmac.compare_digest(response.raw_id, kept.credential_id):
            raise NotRight
        return Made(kept.credential_id, bytes(kept), found.counter)
    except Exception as error:  # whatever a stranger's bytes do to a parser: they are no passkey
        raise NotRight from error


def used(place: Place, challenge: bytes, answer: str, publics: Mapping[bytes, bytes]) -> tuple[bytes, int]:
    """Which passkey of `publics` (id -> public half) signed this challenge, and its counter now; else NotRight."""
    from fido2.webauthn import AttestedCredentialData, AuthenticationResponse

    try:
        response = AuthenticationResponse.from_dict(json.loads(answer[:LONGEST_ANSWER]))
        _require_own_page(response.response.client_data)
        theirs = [AttestedCredentialData(public) for public in publics.values()]
        found = _server(place).authenticate_complete(_asked(challenge), theirs, response)
        return found.credential_id, response.response.authenticator_data.counter
    except Exception as error:
        raise NotRight from error


def _require_own_page(said: "CollectedClientData") -> None:
    """A page of ours within somebody else's is not ours."""
    if said.cross_origin:
        raise NotRight


def _server(place: Place) -> "Fido2Server":
    from fido2.server import Fido2Server
    from fido2.webauthn import AttestationConveyancePreference, PublicKeyCredentialRpEntity

    return Fido2Server(
        PublicKeyCredentialRpEntity(name="Equipoise", id=place.host),
        attestation=AttestationConveyancePreference.NONE,
        verify_origin=lambda origin: origin == place.origin,
    )


def _asked(challenge: bytes) -> dict[str, Any]:
    from fido2.webauthn import UserVerificationRequirement

    return {"challenge": _text(challenge), "user_verification": UserVerificationRequirement.REQUIRED}


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
