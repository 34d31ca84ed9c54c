"""How is everything taken along? One archive of every row, from one snapshot, for either database.

A zip file with a JSON line per row and table, and a manifest: when, schema, rows and SHA-256 of each table. The root
key is *not* in it: whoever finds a backup opens no envelope. `restore` refuses an archive that is not whole, or whose
manifest was not made with the key: somebody who changes a backup cannot give themselves a role.
"""

import base64
import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import LargeBinary, Table, func, insert, inspect, select, text
from sqlmodel import Session, SQLModel

from app.foundation.crypto.keys import Keyring
from app.foundation.crypto.secrets import same
from app.foundation.database import Database, Instant, streamed
from app.foundation.models import import_models

FORMAT = "equipoise-backup-2"
PURPOSE = "backup manifest"
BATCH = 1000


class BadBackup(Exception):
    """The archive is not whole, or not for this schema; nothing was restored."""


@dataclass(frozen=True)
class Manifest:
    """What a backup holds."""

    made_at: str
    schema: str
    key_fingerprint: str
    rows: dict[str, int]
    sha256: dict[str, str]

    def tag(self, keys: Keyring) -> str:
        """What only the installation's key can make of this manifest, as hex."""
        return keys.tag(PURPOSE, json.dumps(vars(self), sort_keys=True).encode()).hex()


def schema_revision(session: Session) -> str:
    """The newest migration this database has had."""
    return str(session.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


def backup(database: Database, path: Path, *, now: datetime) -> Manifest:
    """Write every row of one snapshot to a new file, and return its manifest. FileExistsError when it is there."""
    tables = _tables(database)
    rows: dict[str, int] = {}
    digests: dict[str, str] = {}
    part = path.with_name(path.name + ".part")
    if path.exists():
        raise FileExistsError(f"{path} is there already. Name another file.")
    with database.reading() as session, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for table in tables:
            digest = hashlib.sha256()
            count = 0
            with archive.open(f"{table.name}.jsonl", "w", force_zip64=True) as file:
                for line in _lines(session, table):
                    file.write(line)
                    digest.update(line)
                    count += 1
            rows[table.name], digests[table.name] = count, digest.hexdigest()
        manifest = Manifest(now.isoformat(), schema_revision(session), database.keys.fingerprint, rows, digests)
        said = {"format": FORMAT, **vars(manifest), "tag": manifest.tag(database.keys)}
        archive.writestr("manifest.json", json.dumps(said, indent=1))
    part.replace(path)
    return manifest


def read_manifest(path: Path, keys: Keyring) -> Manifest:
    """The manifest of an archive, after checking it against the key and every table against it."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read("manifest.json"))
            if found.pop("format") != FORMAT:
                raise BadBackup("This archive has a format that this version does not know.")
            tag = found.pop("tag")
            manifest = Manifest(**found)
            if manifest.key_fingerprint != keys.fingerprint:
                raise BadBackup(
                    "This backup belongs to another key file. Put the key file of that installation in place first."
                )
            if not same(manifest.tag(keys), str(tag)) or set(manifest.rows) != set(manifest.sha256):
                raise BadBackup("The manifest of this backup was changed. Use another backup.")
            for name, expected in manifest.sha256.items():
                digest = hashlib.sha256()
                with archive.open(f"{name}.jsonl") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
                if digest.hexdigest() != expected:
                    raise BadBackup(f"The table {name} in this backup was changed. Use another backup.")
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise BadBackup(f"{path} is not a whole Equipoise backup ({type(error).__name__}).") from None
    return manifest


def restore(database: Database, path: Path) -> Manifest:
    """Fill an empty, migrated database from an archive, all or nothing."""
    manifest = read_manifest(path, database.keys)
    if {table.name for table in _tables(database)} != set(manifest.rows):
        raise BadBackup("This backup does not hold every table. Use another backup.")
    with database.writing() as session, zipfile.ZipFile(path) as archive:
        if schema_revision(session) != manifest.schema:
            raise BadBackup(
                f"This backup has schema {manifest.schema}. Restore it with the version that made it, then migrate."
            )
        for table in SQLModel.metadata.sorted_tables:
            if session.execute(select(func.count()).select_from(table)).scalar_one():
                raise BadBackup("This database is not empty. Restore into a new one, so that nothing is overwritten.")
        for table in SQLModel.metadata.sorted_tables:
            with archive.open(f"{table.name}.jsonl") as file:
                batch: list[dict[str, Any]] = []
                for line in file:
                    batch.append(_row(table, json.loads(line)))
                    if len(batch) == BATCH:
                        session.execute(insert(table), batch)
                        batch = []
                if batch:
                    session.execute(insert(table), batch)
            count = session.execute(select(func.count()).select_from(table)).scalar_one()
            if count != manifest.rows[table.name]:
                raise BadBackup(f"The table {table.name} in this backup has {count} rows, not those of its manifest.")
        if not database.is_sqlite:
            _restart_counters(session)
    return manifest


def _tables(database: Database) -> list[Table]:
    """Every table, in an order in which rows can be put back; BadBackup when the database has one we do not know."""
    import_models()
    known = SQLModel.metadata.sorted_tables
    unknown = set(inspect(database.engine).get_table_names()) - {table.name for table in known} - {"alembic_version"}
    if unknown:
        raise BadBackup(f"The database has tables that this version does not know: {', '.join(sorted(unknown))}.")
    return known


def _lines(session: Session, table: Table) -> Iterator[bytes]:
    query = select(table).order_by(*table.primary_key.columns)
    for row in streamed(session, query, batch=BATCH):
        kept = {name: _plain(value) for name, value in row._mapping.items()}
        yield json.dumps(kept, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, date):  # datetime is one too
        return value.isoformat()
    return value


def _row(table: Table, kept: dict[str, Any]) -> dict[str, Any]:
    row = {}
    for column in table.columns:
        value = kept[column.name]
        if value is not None:
            if isinstance(column.type, LargeBinary):
                value = base64.b64decode(value)
            elif isinstance(column.type, Instant):
                value = datetime.fromisoformat(value)
            elif column.type.python_type is date:
                value = date.fromisoformat(value)
        row[column.name] = value
    return row


def _restart_counters(session: Session) -> None:
    """PostgreSQL counts ids apart from the rows: go on after the highest one."""
    for table in SQLModel.metadata.sorted_tables:
        if "id" in table.columns:
            session.execute(
                text(
                    f"SELECT setval(pg_get_serial_sequence('\"{table.name}\"', 'id'), "  # noqa: S608 our own names
                    f'COALESCE((SELECT MAX(id) FROM "{table.name}"), 1))'
                )
            )
