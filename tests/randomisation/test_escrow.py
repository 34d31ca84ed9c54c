"""The seed in escrow: what only the statistician's private key opens, and what is refused as a key."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.audit.verify import verify
from app.foundation.crypto.cms import BadKey, _oid, read_public_key, sealed_for
from app.foundation.errors import Invalid, NotFound
from app.people.permissions import Role
from app.randomisation import commitment, reads
from app.randomisation.actions import close, draw, open_plan, seal
from app.randomisation.escrow.actions import store_key, take_escrow
from app.randomisation.escrow.reads import ESCROW, KEY, escrows, key_in_use
from tests.randomisation.test_commitment import _run, _write
from tests.randomisation.world import NOW, actor, study_of

PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=3072)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=3072)
OPENSSL = shutil.which("openssl")


def pem_of(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def private_pem(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


class Vault:
    """A study whose statistician has stored a key, or not yet."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.study = study_of(session)
        self.statistician = actor(session, self.study, Role.STATISTICIAN)

    def store(self, pem: str) -> str:
        return store_key(self.session, self.study, pem=pem, by=self.statistician, now=NOW).fingerprint

    def sealed(self) -> int:
        told: dict[str, Any] = {"method": "permuted_blocks", "block_sizes": (4,), "slots_per_stratum": 8}
        drawn = draw(self.session, self.study, by=self.statistician, now=NOW, **told)
        assert drawn.id is not None
        seal(self.session, self.study, drawn.id, by=self.statistician, now=NOW)
        return drawn.id

    def taken(self, sequence_id: int) -> str:
        return take_escrow(self.session, self.study, sequence_id, by=self.statistician, now=NOW)

    def certificate(self, sequence_id: int) -> dict[str, Any]:
        return reads.certificate(self.session, self.study, sequence_id, by=self.statistician)

    def logged(self, action: str) -> list[Any]:
        return list(self.session.execute(select(ENTRY).where(ENTRY.c.action == action)).all())


@pytest.fixture
def vault(session: Session) -> Vault:
    return Vault(session)


def opened(folder: Path, escrow: str, key: Any = PRIVATE) -> subprocess.CompletedProcess[bytes]:
    """What the documented command makes of it, on a plain machine."""
    if OPENSSL is None:
        pytest.skip("There is no openssl here.")
    (folder / "escrow.pem").write_text(escrow)
    (folder / "private.pem").write_bytes(private_pem(key))
    command = ["cms", "-decrypt", "-inform", "PEM", "-in", "escrow.pem", "-inkey", "private.pem", "-out", "plan.json"]
    return subprocess.run([OPENSSL, *command], capture_output=True, cwd=folder, check=False, timeout=60)


@pytest.mark.requirement("RND-9", "RND-14")
def test_openssl_opens_the_plan_and_the_verifier_holds_it_against_the_certificate(vault: Vault, tmp_path: Path):
    fingerprint = vault.store(pem_of(PRIVATE))
    sequence_id = vault.sealed()
    certificate = vault.certificate(sequence_id)
    assert certificate["escrowed_to"] == fingerprint
    found = opened(tmp_path, vault.taken(sequence_id))
    assert found.returncode == 0, found.stderr
    plan = json.loads((tmp_path / "plan.json").read_bytes())
    assert commitment.plan_commitment(plan) == certificate["plan_commitment"]
    close(vault.session, vault.study, sequence_id, why="Over", by=vault.statistician, now=NOW)
    assert plan == open_plan(vault.session, vault.study, sequence_id, by=vault.statistician, now=NOW)
    _write(tmp_path, certificate, [], plan)
    checked = _run(tmp_path, "certificate", "proofs", "plan")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.requirement("SEC-37")
def test_another_key_or_one_flipped_bit_opens_nothing(vault: Vault, tmp_path: Path):
    vault.store(pem_of(PRIVATE))
    escrow = vault.taken(vault.sealed())
    assert opened(tmp_path, escrow, OTHER).returncode != 0
    lines = escrow.splitlines()
    for at in (len(lines) // 2, len(lines) - 2):  # in what is encrypted, and in its tag
        bent = list(lines)
        middle = len(bent[at]) // 2
        bent[at] = bent[at][:middle] + ("A" if bent[at][middle] != "A" else "B") + bent[at][middle + 1 :]
        assert opened(tmp_path, "\n".join([*bent, ""])).returncode != 0, at


@pytest.mark.requirement("P11-e1", "RND-9")
def test_making_and_taking_are_entries_and_nothing_else_of_it_is_written_down(vault: Vault, tmp_path: Path):
    fingerprint = vault.store(pem_of(PRIVATE))
    sequence_id = vault.sealed()
    for _ in range(2):
        vault.taken(sequence_id)
    for action, count in (("escrow_key.stored", 1), ("seed.escrowed", 1), ("escrow.taken", 2)):
        entries = vault.logged(action)
        assert len(entries) == count
        assert all(json.loads(entry.new)["sha256"] == fingerprint for entry in entries)
    assert opened(tmp_path, vault.taken(sequence_id)).returncode == 0
    plan = json.loads((tmp_path / "plan.json").read_bytes())
    for table in (KEY, ESCROW, ENTRY):
        rows = repr(vault.session.execute(select(table)).all())
        assert plan["seed"] not in rows
        assert plan["salt_key"] not in rows
    assert not verify(vault.session, vault.study.code).faults


def test_a_study_without_a_key_seals_as_ever(vault: Vault):
    sequence_id = vault.sealed()
    assert vault.certificate(sequence_id)["escrowed_to"] is None
    assert escrows(vault.session, vault.study, by=vault.statistician) == ()
    vault.store(pem_of(PRIVATE))
    with pytest.raises(NotFound, match="not escrowed"):
        vault.taken(sequence_id)
    assert not vault.logged("seed.escrowed")


@pytest.mark.requirement("SEC-38")
def test_a_newer_key_is_for_newer_lists(vault: Vault, tmp_path: Path):
    first = vault.store(pem_of(PRIVATE))
    old = vault.sealed()
    second = vault.store(pem_of(OTHER))
    new = vault.sealed()
    found = escrows(vault.session, vault.study, by=vault.statistician)
    assert [each.fingerprint for each in found] == [second, first]
    assert opened(tmp_path, vault.taken(old), PRIVATE).returncode == 0
    assert opened(tmp_path, vault.taken(new), OTHER).returncode == 0
    with pytest.raises(Invalid, match="in use already"):
        vault.store(pem_of(OTHER))


def test_a_certificate_from_before_there_was_escrow_still_verifies(vault: Vault, tmp_path: Path):
    old = vault.certificate(vault.sealed())
    del old["escrowed_to"]
    _write(tmp_path, old, [])
    assert _run(tmp_path, "certificate", "proofs").returncode == 0


WEAK = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ENCRYPTED = PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")).decode()
TRADITIONAL = PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


@pytest.mark.requirement("SEC-37")
@pytest.mark.parametrize(
    ("pem", "words"),
    [
        ("", "not a public key"),
        ("hello", "not a public key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a public key"),
        ("-----BEGIN PUBLIC KEY-----\né\n-----END PUBLIC KEY-----\n", "not a public key"),
        ("-----BEGIN PUBLIC KEY-----\n" + "A" * 20_000, "not a public key"),
        ("ssh-rsa AAAAB3NzaC1yc2E me@here", "not a public key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "openssl x509 -pubkey"),
        (private_pem(PRIVATE).decode(), "This is a private key"),
        (pem_of(PRIVATE) + private_pem(PRIVATE).decode(), "This is a private key"),
        (ENCRYPTED, "This is a private key"),
        (TRADITIONAL, "This is a private key"),
        (pem_of(WEAK), "2048 bits, which is too weak"),
        (pem_of(ec.generate_private_key(ec.SECP384R1())), "another kind"),
    ],
)
def test_what_is_no_key_is_refused_in_words(vault: Vault, pem: str, words: str):
    with pytest.raises(Invalid, match=words) as problem:
        vault.store(pem)
    assert [each.field for each in problem.value.problems] == ["pem"]
    assert key_in_use(vault.session, vault.study, by=vault.statistician) is None


@given(st.text(max_size=200))
def test_no_text_breaks_the_reading_of_a_key(typed: str):
    with pytest.raises(BadKey):
        read_public_key(typed)


@settings(max_examples=12, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.sampled_from([bytes(127), bytes(128), bytes(65_536)])))
def test_whatever_its_length_openssl_gives_it_back(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    folder = tmp_path_factory.mktemp("cms")
    found = opened(folder, sealed_for(pem_of(PRIVATE), content))
    assert found.returncode == 0, found.stderr
    assert (folder / "plan.json").read_bytes() == content


def test_identifiers_are_encoded_as_x_690_says():
    """1.2.840.113549.1.7.1 and 2.16.840.1.101.3.4.1.46, as they stand in RFC 5652 and RFC 5084."""
    assert _oid("1.2.840.113549.1.7.1").hex() == "06092a864886f70d010701"
    assert _oid("2.16.840.1.101.3.4.1.46").hex() == "060960864801650304012e"


@pytest.mark.requirement("E9-2", "CONC-4")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.STATISTICIAN])
def test_for_everybody_else_there_is_no_escrow(vault: Vault, role: Role):
    vault.store(pem_of(PRIVATE))
    sequence_id = vault.sealed()
    other = actor(vault.session, vault.study, role, "SYD", name="other")
    for ask in (
        lambda: store_key(vault.session, vault.study, pem=pem_of(OTHER), by=other, now=NOW),
        lambda: key_in_use(vault.session, vault.study, by=other),
        lambda: escrows(vault.session, vault.study, by=other),
        lambda: take_escrow(vault.session, vault.study, sequence_id, by=other, now=NOW),
    ):
        with pytest.raises(NotFound):
            ask()


@pytest.mark.parametrize("table", ["escrow_key", "seed_escrow"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET id = 99", "DELETE FROM {}"])
def test_the_database_keeps_keys_and_escrows_as_they_are(vault: Vault, table: str, statement: str):
    vault.store(pem_of(PRIVATE))
    vault.sealed()
    with pytest.raises(DBAPIError, match="never changed or removed"), vault.session.begin_nested():
        vault.session.execute(text(statement.format(table)))
