"""Keys, envelopes and passwords."""

import hashlib
import itertools
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from app.foundation.crypto import secrets as passwords
from app.foundation.crypto.envelopes import CannotOpen, open_sealed, seal
from app.foundation.crypto.keys import KeyMissing, Keyring, create_key_file, read_key_file
from app.foundation.crypto.packs import Pack
from app.foundation.crypto.secrets import hash_password, password_matches, totp_step
from tests.conformance import conformance_folder

KEY = bytes(32)


@pytest.mark.requirement("CONC-2")
@given(st.binary(max_size=64))
def test_every_envelope_has_one_size_and_opens(plaintext: bytes) -> None:
    envelope = seal(KEY, plaintext, bound_to=("s", 1), size=64)
    assert len(envelope) == 12 + 4 + 64 + 16
    assert open_sealed(KEY, envelope, bound_to=("s", 1)) == plaintext


@pytest.mark.requirement("CONC-3")
def test_the_same_thing_is_never_sealed_the_same_way() -> None:
    assert len({seal(KEY, b"active", bound_to=("s", 1), size=64) for _ in range(200)}) == 200


@pytest.mark.requirement("CONC-3")
@given(st.integers(0, 95), st.integers(0, 7))
def test_one_flipped_bit_or_another_place_does_not_open(byte: int, bit: int) -> None:
    envelope = seal(KEY, b"active", bound_to=("s", 1), size=64)
    flipped = bytearray(envelope)
    flipped[byte] ^= 1 << bit
    with pytest.raises(CannotOpen):
        open_sealed(KEY, bytes(flipped), bound_to=("s", 1))
    with pytest.raises(CannotOpen):
        open_sealed(KEY, envelope, bound_to=("s", 2))
    with pytest.raises(CannotOpen):
        open_sealed(bytes([1]) * 32, envelope, bound_to=("s", 1))


def test_too_long_a_thing_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        seal(KEY, bytes(65), bound_to=("s",), size=64)


def test_a_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "k"
    made = create_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key_file(path).fingerprint == made.fingerprint
    with pytest.raises(FileExistsError):
        create_key_file(path)
    path.write_text("nonsense")
    with pytest.raises(KeyMissing):
        read_key_file(path)
    with pytest.raises(KeyMissing, match="cannot be read"):
        read_key_file(tmp_path / "none")


def test_keys_of_different_purposes_are_different() -> None:
    keys = Keyring(KEY)
    assert keys.derive("a") != keys.derive("b")
    assert keys.tag("a", b"x") != keys.tag("b", b"x")
    assert keys.verify(keys.sign(b"m", 0), b"m", 0)
    assert not keys.verify(keys.sign(b"m", 0), b"n", 0)


@pytest.mark.requirement("LOG-11", "SEC-38")
def test_each_generation_signs_with_a_key_of_its_own_and_the_first_with_the_one_there_always_was() -> None:
    keys = Keyring(KEY)
    first = Ed25519PrivateKey.from_private_bytes(keys.derive("audit checkpoint signing"))
    assert keys.sign(b"m", 0) == first.sign(b"m")
    assert len({keys.public_key(generation) for generation in range(20)}) == 20
    for signed, asked in itertools.product(range(4), range(4)):
        assert keys.verify(keys.sign(b"m", signed), b"m", asked) == (signed == asked)


@pytest.mark.requirement("SEC-26")
def test_passwords_are_argon2id_with_the_recommended_cost(real_hashes: None) -> None:
    hashed = hash_password("a long enough password")
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert password_matches(hashed, "a long enough password")
    assert not password_matches(hashed, "a long enough passwore")
    assert not password_matches(None, "a password that nobody has")
    assert password_matches(hash_password("ünverändert"), "ünverändert")
    assert not password_matches(hashed, "half of a character: \ud800")
    # Whoever does not exist is looked for as long as whoever does.
    assert passwords._nobody.split("$")[:4] == hashed.split("$")[:4]


@pytest.mark.requirement("SEC-28")
def test_codes_follow_rfc_6238_and_are_used_once() -> None:
    import base64

    vectors = json.loads((conformance_folder() / "small_vectors.json").read_text())["rfc6238_totp_sha1_8digits"]
    secret = base64.b32encode(vectors["secret_ascii"].encode()).decode()
    for at, code in vectors["vectors"]:
        step = totp_step(secret, code[-6:], at, None)
        assert step == at // 30
        assert totp_step(secret, code[-6:], at, step) is None
        assert totp_step(secret, code[-6:], at + 90, None) is None


def test_an_envelope_of_another_form_is_refused_and_not_read_as_nonsense() -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = bytes(12)
    older = (6).to_bytes(2, "big") + b"active" + bytes(58)
    envelope = nonce + AESGCM(KEY).encrypt(nonce, older, b'["s",1]')
    with pytest.raises(CannotOpen):
        open_sealed(KEY, envelope, bound_to=("s", 1))


def test_a_passphrase_for_downtime_costs_what_the_file_says(real_hashes: None) -> None:
    """The key is scrypt's with N = 32768, r = 8, p = 1, and what is read from paper gives the same one."""
    key = hashlib.scrypt(b"70K2", salt=bytes(16), n=2**15, r=8, p=1, maxmem=2**26, dklen=32)
    assert Pack.opened("7OK2", bytes(16)).key == key
    assert Pack.opened("7ok-2", bytes(16)).key == key
