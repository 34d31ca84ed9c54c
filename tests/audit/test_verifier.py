"""The stand-alone verifier: imports nothing of ours, and finds one flipped byte anywhere."""

import ast
import base64
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.audit import checkpoints, replacing, signing
from app.audit.checkpoints import Checkpoint
from app.audit.verify import export_lines
from app.foundation.crypto.keys import Keyring
from app.foundation.database import Database
from tests.audit.test_log import _write
from tests.conformance import conformance_folder
from tests.conftest import KEYS, ROOT
from tests.factories import NOW, person

SCRIPT = ROOT / "scripts" / "verify_audit.py"


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def exported(database: Database, tmp_path: Path) -> Path:
    log = tmp_path / "mini.log"
    with database.writing() as session:
        _write(session, 5)
        point = checkpoints.current(session, "mini")
        assert point is not None
        (tmp_path / "older.checkpoint").write_text(checkpoints.signed_note(database.keys, point), encoding="utf-8")
        _write(session, 4)
        log.write_bytes(b"".join(export_lines(session, "mini")))
        point = checkpoints.current(session, "mini")
        assert point is not None
        (tmp_path / "mini.log.checkpoint").write_text(checkpoints.signed_note(database.keys, point), encoding="utf-8")
    return log


@pytest.mark.requirement("LOG-9")
def test_an_exported_log_is_intact(exported: Path) -> None:
    found = _run(exported, exported.with_name("older.checkpoint"))
    assert found.returncode == 0, found.stdout + found.stderr
    assert "9 entries" in found.stdout


@pytest.mark.requirement("LOG-5", "LOG-6")
def test_every_change_of_the_export_is_found(exported: Path) -> None:
    original = exported.read_bytes()
    lines = original.splitlines(keepends=True)
    changed = {
        "a byte": original.replace(b'"2"', b'"3"', 1),
        "the first entry gone": b"".join(lines[1:]),
        "the last entry gone": b"".join(lines[:-1]),
        "one in the middle gone": b"".join(lines[:4] + lines[5:]),
        "two swapped": b"".join([lines[1], lines[0], *lines[2:]]),
        "one twice": b"".join([*lines, lines[-1]]),
    }
    for what, data in changed.items():
        exported.write_bytes(data)
        assert _run(exported, exported.with_name("older.checkpoint")).returncode == 1, what


@pytest.mark.requirement("LOG-9")
def test_the_verifier_imports_the_standard_library_only() -> None:
    tree = ast.parse(SCRIPT.read_text())
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert all(name.split(".")[0] in sys.stdlib_module_names for name in names)


@pytest.fixture
def replaced(database: Database, tmp_path: Path) -> Path:
    """A log of 13 entries whose key was replaced after 5, and again after 10, with a checkpoint of each time."""
    log, folder = tmp_path / "mini.log", tmp_path / "checkpoints"
    with database.writing() as session:
        by = person(session, None, "administrator", username="admin")
        for entries in (5, 4, 2):
            _write(session, entries)
            if entries != 2:
                replacing.replace_key(session, folder, by=by, why="A new year", now=NOW)
                checkpoints.keep(folder, session, "mini")
        checkpoints.keep(folder, session, "mini")
        log.write_bytes(b"".join(export_lines(session, "mini")))
    return log


def _kept(log: Path) -> list[Path]:
    return sorted((log.parent / "checkpoints").glob("mini-*.checkpoint"))


def _forged(log: Path, size: int, generation: int, keys: Keyring = KEYS) -> Path:
    """The true root of so many entries, signed with a key whose turn it is not."""
    tree = verifier().Tree()
    for line in log.read_bytes().splitlines()[:size]:
        tree.append(line)
    path = log.with_name("forged.checkpoint")
    note = checkpoints.signed_note(KEYS, Checkpoint("mini", size, tree.root(), generation))
    if keys is not KEYS:
        text, name = note.split("\n— ")[0], signing.origin(KEYS, "mini")
        signature = signing.key_id(name, KEYS.public_key(generation)) + keys.sign(text.encode(), generation)
        note = f"{text}\n— {name} {base64.b64encode(signature).decode()}\n"
    path.write_text(note, encoding="utf-8")
    return path


def verifier() -> Any:
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("verify_audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.requirement("LOG-11", "LOG-9")
def test_checkpoints_of_every_key_are_verified_along_what_the_log_announces(replaced: Path) -> None:
    keys = [signing.vkey(KEYS, "mini", generation) for generation in range(3)]
    assert [path.name for path in _kept(replaced)] == [f"mini-{n:012}.checkpoint" for n in (5, 6, 10, 11, 13)]
    for given in ([], *([key] for key in keys), keys):
        found = _run(replaced, *_kept(replaced), *given)
        assert found.returncode == 0, found.stdout + found.stderr
        assert "13 entries" in found.stdout
        assert "5 checkpoint(s), signed with 3 key(s): intact." in found.stdout
        assert ("Compare one of the keys" in found.stdout) == (not given)
        assert (keys[0] in found.stdout) == (not given)


@pytest.mark.requirement("LOG-11", "LOG-7")
def test_a_log_whose_key_was_never_replaced_is_held_against_the_key_that_was_given(exported: Path) -> None:
    older = exported.with_name("older.checkpoint")
    without = _run(exported, older)
    assert (without.returncode, "signatures not checked" in without.stdout) == (0, True)
    given = _run(exported, older, signing.vkey(KEYS, "mini", 0))
    assert (given.returncode, "signed with 1 key(s)" in given.stdout) == (0, True)
    other = _run(exported, older, signing.vkey(KEYS, "mini", 1))
    assert other.returncode == 1
    assert f"{older} is not signed with a key of this log, or was changed." in other.stdout


@pytest.mark.requirement("LOG-11")
@pytest.mark.parametrize(
    ("size", "generation", "said"),
    [
        (6, 0, "was replaced after 5 entries"),
        (13, 0, "was replaced after 5 entries"),
        (13, 1, "was replaced after 10 entries"),
        (5, 1, "was announced only later"),
        (3, 2, "was announced only later"),
        (13, 3, "is not signed with a key of this log"),
    ],
)
def test_the_verifier_names_a_key_whose_turn_it_was_not(replaced: Path, size: int, generation: int, said: str) -> None:
    found = _run(replaced, *_kept(replaced), _forged(replaced, size, generation))
    assert found.returncode == 1
    (line,) = found.stdout.splitlines()
    assert (line.startswith(str(replaced.with_name("forged.checkpoint"))), said in line) == (True, True), line


@pytest.mark.requirement("LOG-11", "LOG-7")
def test_a_signature_that_somebody_else_made_under_our_key_id_is_none(replaced: Path) -> None:
    found = _run(replaced, _forged(replaced, 4, 0, keys=Keyring(bytes(32))))
    assert (found.returncode, "or was changed" in found.stdout) == (1, True)


ON_THE_ANNOUNCEMENTS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "one that was taken out": lambda lines: [*lines[:5], *lines[6:]],
    "another key": lambda lines: [
        *lines[:5],
        lines[5].replace(b'"{\\"generation\\":1', b'"{\\"generation\\":9'),
        *lines[6:],
    ],
    "cut before the last": lambda lines: lines[:10],
    "what cannot be read": lambda lines: [*lines[:5], lines[5].replace(b"\\", b""), *lines[6:]],
    "no list": lambda lines: [*lines[:5], b"{}", *lines[6:]],
}


@pytest.mark.requirement("LOG-11", "LOG-5")
@pytest.mark.parametrize("what", ON_THE_ANNOUNCEMENTS)
def test_no_announcement_can_be_changed(replaced: Path, what: str) -> None:
    lines = replaced.read_bytes().splitlines()
    replaced.write_bytes(b"\n".join(ON_THE_ANNOUNCEMENTS[what](lines)) + b"\n")
    found = _run(replaced, *_kept(replaced))
    assert (found.returncode, found.stderr) == (1, ""), found.stdout + found.stderr


@pytest.mark.requirement("LOG-11")
def test_a_history_written_anew_with_keys_of_ones_own_lacks_the_one_that_was_given(
    replaced: Path, database: Database
) -> None:
    """Whoever makes up a log and signs it themselves announces what they like; the key one was given is not in it."""
    other = Keyring(bytes(32))
    entry = json.loads(replaced.read_bytes().splitlines()[5])
    entry[1:3] = "mini", 0
    for place, generation in ((12, 0), (13, 1)):
        entry[place] = json.dumps({"generation": generation, "key": signing.vkey(other, "mini", generation)})
    line = json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode()
    tree = verifier().Tree()
    tree.append(line)
    replaced.write_bytes(line + b"\n")
    own = replaced.with_name("own.checkpoint")
    own.write_text(checkpoints.signed_note(other, Checkpoint("mini", 1, tree.root(), 1)), encoding="utf-8")
    assert _run(replaced, own).returncode == 0
    mine = signing.vkey(KEYS, "mini", 1)
    found = _run(replaced, own, mine)
    assert (found.returncode, found.stdout.strip()) == (1, f"The log never had the key {mine}.")


@pytest.mark.requirement("LOG-11")
@pytest.mark.parametrize(("named", "whole"), [(1, True), (0, False), (5, False)])
def test_an_announcement_names_the_key_before_it(replaced: Path, named: int, whole: bool) -> None:
    """Also in a log that is made up with our own keys, of which only that is wrong."""
    entry = json.loads(replaced.read_bytes().splitlines()[5])
    tree, lines = verifier().Tree(), []
    for position, (old, new) in enumerate(((0, 1), (named, 2))):
        entry[1:3] = "mini", position
        for place, generation in ((12, old), (13, new)):
            entry[place] = json.dumps({"generation": generation, "key": signing.vkey(KEYS, "mini", generation)})
        lines.append(json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode())
        tree.append(lines[-1])
    replaced.write_bytes(b"\n".join(lines) + b"\n")
    own = replaced.with_name("own.checkpoint")
    own.write_text(checkpoints.signed_note(KEYS, Checkpoint("mini", 2, tree.root(), 2)), encoding="utf-8")
    replaced.with_name(replaced.name + ".checkpoint").unlink(missing_ok=True)
    found = _run(replaced, own)
    assert found.returncode == (0 if whole else 1), found.stdout + found.stderr
    assert ("Line 2 is not entry 1" in found.stdout) == (not whole)


@pytest.mark.requirement("LOG-7", "LOG-9")
def test_the_published_signed_note_is_verified_as_published(tmp_path: Path) -> None:
    """C2SP signed-note: the example of the specification, with its key."""
    given = json.loads((conformance_folder() / "small_vectors.json").read_text())["c2sp_signed_note_ed25519"]
    name, key_id, key = given["vkey"].split("+")
    signature = base64.b64decode(given["signature_line"].split(" ")[2])
    data = base64.b64decode(key)
    assert signing.key_id(name, data[1:]).hex() == key_id == signature[:4].hex()
    is_signed = verifier().is_signed
    assert is_signed(given["text"].encode(), signature[4:], data[1:])
    assert not is_signed(given["text"].encode() + b"\n", signature[4:], data[1:])


@pytest.mark.requirement("LOG-7", "LOG-9")
def test_signatures_are_judged_as_by_a_library_that_others_made() -> None:
    """RFC 8032: what was signed is, and no bit of signature, key or message can be another one."""
    is_signed, chance = verifier().is_signed, Random(8032)
    for length in (0, 1, 64, 200):
        private = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
        public, message = private.public_key().public_bytes_raw(), chance.randbytes(length)
        signature = private.sign(message)
        assert is_signed(message, signature, public)
        for _ in range(12):
            place, bit = chance.randrange(64), 1 << chance.randrange(8)
            other = bytes(byte ^ bit if at == place else byte for at, byte in enumerate(signature))
            assert not is_signed(message, other, public)
            assert not is_signed(message, signature, bytes([public[0] ^ bit]) + public[1:])
        assert not is_signed(message + b"x", signature, public)
        # The same number beyond the order of the group would be a second signature of the same thing.
        late = (int.from_bytes(signature[32:], "little") + verifier().Q).to_bytes(32, "little")
        assert not is_signed(message, signature[:32] + late, public)
    for signature, public in ((b"", bytes(32)), (bytes(64), b""), (b"\xff" * 64, b"\xff" * 32), (bytes(63), bytes(32))):
        assert not is_signed(b"", signature, public)
