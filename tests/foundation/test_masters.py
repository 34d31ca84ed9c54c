"""The master key: the root key is wrapped by it, changing it opens nothing, and whoever lacks it has nothing."""

import base64
import stat
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import select

from app.audit.actions import ENTRY
from app.foundation.crypto.envelopes import open_sealed, seal
from app.foundation.crypto.keys import KeyMissing, create_key_file, read_key_file, rewrap_key_file
from app.foundation.crypto.masters import KeyInEnvironment, KeyManagementService, MasterFailed, MasterKey, master_from
from app.installation import open_database
from app.settings import Settings
from tests.conftest import run

ONE, OTHER = KeyInEnvironment(bytes(range(32))), KeyInEnvironment(bytes(range(32, 64)))
PLACE = ("slot", 1, 2)

SERVICE = """
import base64, sys
what, data = sys.argv[1], base64.b64decode(sys.stdin.read())
print(base64.b64encode(bytes(byte ^ 0x5A for byte in data)).decode())
"""


@pytest.fixture
def service(tmp_path: Path) -> KeyManagementService:
    program = tmp_path / "service.py"
    program.write_text(SERVICE)
    return KeyManagementService(f"{sys.executable} {program}")


def _text(master: KeyInEnvironment) -> str:
    return base64.b64encode(master.key).decode()


@pytest.mark.requirement("CONC-12", "RND-9")
def test_a_wrapped_key_file_holds_no_root_key_and_opens_with_its_master_only(tmp_path: Path):
    path = tmp_path / "key"
    keys = create_key_file(path, ONE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert base64.b64encode(keys._root).decode().rstrip("=") not in path.read_text()
    assert read_key_file(path, ONE).fingerprint == keys.fingerprint
    with pytest.raises(MasterFailed, match="does not open"):
        read_key_file(path, OTHER)
    with pytest.raises(KeyMissing, match="is wrapped by a master key"):
        read_key_file(path)


@pytest.mark.requirement("CONC-12", "SEC-38")
def test_rotation_wraps_anew_and_opens_nothing(tmp_path: Path, service: KeyManagementService):
    path = tmp_path / "key"
    keys = create_key_file(path)
    envelope = seal(keys.derive("slot|1"), b"sham", bound_to=PLACE, size=64)
    ways: list[MasterKey | None] = [None, ONE, OTHER, service, None]
    for before, after in pairwise(ways):
        old = path.read_bytes()
        assert rewrap_key_file(path, before, after).fingerprint == keys.fingerprint
        assert path.read_bytes() != old
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [each.name for each in tmp_path.iterdir() if each.name.startswith("key")] == ["key"]
        now = read_key_file(path, after)
        assert open_sealed(now.derive("slot|1"), envelope, bound_to=PLACE) == b"sham"


def test_a_master_that_does_not_give_back_what_it_wrapped_changes_nothing(
    tmp_path: Path, service: KeyManagementService
):
    path = tmp_path / "key"
    create_key_file(path, ONE)
    before = path.read_bytes()
    (tmp_path / "service.py").write_text(SERVICE.replace("byte ^ 0x5A", "byte ^ (0x5A if what == 'wrap' else 0)"))
    with pytest.raises(MasterFailed, match="Nothing was changed"):
        rewrap_key_file(path, ONE, service)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import sys; sys.exit(3)", "could not unwrap the root key \\(CalledProcessError\\)"),
        ("print('no base64!')", "could not unwrap"),
        ("print('AAAA')", "something that is no root key"),
    ],
)
def test_a_service_that_fails_is_said_to_and_nothing_it_printed_is(
    tmp_path: Path, service: KeyManagementService, source: str, words: str
):
    path = tmp_path / "key"
    create_key_file(path, service)
    (tmp_path / "service.py").write_text(source)
    with pytest.raises(MasterFailed, match=words) as failed:
        read_key_file(path, service)
    assert "AAAA" not in str(failed.value)


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(MasterFailed, match="nowhere-at-all"):
        KeyManagementService("/nowhere-at-all").wrap(bytes(32))


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(bytes(16)).decode(), "=" * 44])
def test_a_master_key_that_is_none_is_refused(text: str):
    with pytest.raises(MasterFailed, match="32 bytes in base64"):
        KeyInEnvironment.from_text(text)


def test_only_one_master_is_set():
    with pytest.raises(MasterFailed, match="only one"):
        master_from(_text(ONE), "program")
    assert master_from(None, None) is None


@pytest.mark.requirement("CONC-12", "E6-15")
def test_the_command_rotates_and_writes_it_down(tmp_path: Path):
    environment = {"EQUIPOISE_DATA": str(tmp_path), "PATH": "/usr/bin:/bin"}
    assert run("migrate", env=environment).returncode == 0
    new = {**environment, "EQUIPOISE_NEW_MASTER_KEY": _text(ONE)}
    assert run("key", "rotate", "--to", "program", "--why", "x", env=new).returncode == 1
    done = run("key", "rotate", "--to", "environment", "--why", "A new year", env=new)
    assert done.returncode == 0, done.stderr
    assert _text(ONE) not in done.stdout + done.stderr
    without = run("audit", "verify", env=environment)
    assert without.returncode == 1
    assert "Set EQUIPOISE_MASTER_KEY" in without.stderr
    assert run("audit", "verify", env={**environment, "EQUIPOISE_MASTER_KEY": _text(ONE)}).returncode == 0
    settings = Settings(data=tmp_path, master_key=_text(ONE))
    with open_database(settings).reading() as session:
        (entry,) = session.execute(select(ENTRY).where(ENTRY.c.action == "key.wrapped")).all()
    assert entry.why == "A new year"
