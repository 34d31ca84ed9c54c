"""Backup and restore: every row comes back, on either database, and a changed archive is refused."""

import hashlib
import json
import os
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlmodel import SQLModel

from app.audit.actions import Change, record
from app.audit.verify import verify
from app.foundation.backup import BadBackup, backup, read_manifest, restore
from app.foundation.crypto.keys import read_key_file
from app.foundation.database import Database
from tests.conftest import KEYS, ROOT, run
from tests.factories import NOW, mini_study, person


def _fill(database: Database) -> None:
    with database.writing() as session:
        study = mini_study(session)
        by = person(session, study, "coordinator")
        record(session, study.code, [Change("thing.changed", item="ümlaut", new="=1+1")], by=by, now=NOW)


def _another(copied: Callable[..., Database], folder: Path) -> Database:
    """A second installation's database, without anything in it."""
    (folder / "other").mkdir()
    return copied("sqlite", folder / "other", "other")


def _counts(database: Database) -> dict[str, int]:
    with database.reading() as session:
        return {
            table.name: session.execute(select(func.count()).select_from(table)).scalar_one()
            for table in SQLModel.metadata.sorted_tables
        }


@pytest.mark.requirement("AX11-7", "REL-16", "FDA-6", "AX11-17", "ALC-+")
def test_everything_comes_back_on_another_database(
    database: Database, copied: Callable[..., Database], tmp_path: Path
) -> None:
    _fill(database)
    manifest = backup(database, tmp_path / "b.zip", now=NOW)
    other = _another(copied, tmp_path)
    restore(other, tmp_path / "b.zip")
    assert _counts(other) == _counts(database) == manifest.rows
    with other.writing() as session:
        assert verify(session, "mini").intact
        assert mini_study(session, code="second").id > 1
    backup(other, tmp_path / "again.zip", now=NOW)
    other.dispose()


def test_a_restored_postgres_goes_on_counting(
    database: Database, copied: Callable[..., Database], tmp_path: Path
) -> None:
    source = _another(copied, tmp_path)
    _fill(source)
    backup(source, tmp_path / "b.zip", now=NOW)
    source.dispose()
    restore(database, tmp_path / "b.zip")
    with database.writing() as session:
        assert mini_study(session, code="second").id > 1


@pytest.mark.requirement("AX11-5")
def test_a_changed_archive_and_a_filled_database_are_refused(database: Database, tmp_path: Path) -> None:
    _fill(database)
    backup(database, tmp_path / "b.zip", now=NOW)
    with pytest.raises(BadBackup, match="not empty"):
        restore(database, tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip") as source, zipfile.ZipFile(tmp_path / "c.zip", "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, data.replace(b"North", b"Wrong") if name == "site.jsonl" else data)
    with pytest.raises(BadBackup, match="site"):
        read_manifest(tmp_path / "c.zip", KEYS)
    with pytest.raises(FileExistsError):
        backup(database, tmp_path / "b.zip", now=NOW)


def _forged(archive: Path, forged: Path, table: str, line: bytes, *, tag: bool = True) -> None:
    """The archive with one more row in a table, and a manifest that agrees with it."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(forged, "w") as target:
        data = {name: source.read(name) for name in source.namelist()}
        data[f"{table}.jsonl"] += line
        manifest = json.loads(data["manifest.json"])
        manifest["sha256"][table] = hashlib.sha256(data[f"{table}.jsonl"]).hexdigest()
        manifest["rows"][table] += 1
        if not tag:
            del manifest["tag"]
        data["manifest.json"] = json.dumps(manifest).encode()
        for name, content in data.items():
            target.writestr(name, content)


@pytest.mark.requirement("E6-15", "CONC-12")
def test_a_backup_that_somebody_gave_themselves_a_role_in_is_refused(
    database: Database, copied: Callable[..., Database], tmp_path: Path
) -> None:
    _fill(database)
    backup(database, tmp_path / "b.zip", now=NOW)
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        line = archive.read("membership.jsonl").splitlines()[0]
    role = json.dumps({**json.loads(line), "id": 999, "role": "administrator"}).encode() + b"\n"
    other = _another(copied, tmp_path)
    for tag in (True, False):
        _forged(tmp_path / "b.zip", tmp_path / "forged.zip", "membership", role, tag=tag)
        with pytest.raises(BadBackup):
            restore(other, tmp_path / "forged.zip")
    assert set(_counts(other).values()) == {0}
    other.dispose()


@pytest.mark.requirement("CONC-11")
def test_a_backup_holds_no_root_key(database: Database, tmp_path: Path) -> None:
    _fill(database)
    backup(database, tmp_path / "b.zip", now=NOW)
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        everything = b"".join(archive.read(name) for name in archive.namelist())
    assert KEYS._root not in everything
    assert KEYS._root.hex().encode() not in everything


@pytest.mark.requirement("AX11-7", "REL-16")
def test_the_command_backs_up_every_table_though_it_was_just_started(tmp_path: Path) -> None:
    """A process of its own: whether every room's tables are known must not depend on what was imported before."""
    data = tmp_path / "var"
    environment = {**os.environ, "EQUIPOISE_DATA": str(data)}
    assert run("migrate", env=environment, cwd=ROOT).returncode == 0
    assert run("backup", str(tmp_path / "b.zip"), env=environment, cwd=ROOT).returncode == 0
    with sqlite3.connect(data / "equipoise.db") as opened:
        names = {row[0] for row in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    opened.close()
    kept = set(read_manifest(tmp_path / "b.zip", read_key_file(data / "equipoise.key")).rows)
    assert kept == {name for name in names if not name.startswith("sqlite_")} - {"alembic_version"}
