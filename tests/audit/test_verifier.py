"""The stand-alone verifier: imports nothing of ours, and finds one flipped byte anywhere."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from app.audit import checkpoints
from app.audit.verify import export_lines
from app.foundation.database import Database
from tests.audit.test_log import _write
from tests.conftest import ROOT

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
