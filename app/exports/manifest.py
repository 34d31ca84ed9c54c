"""Is this file the one that was exported, and of what? A signed manifest per export, to check a copy years later."""

import hashlib
import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from app.exports.history import Made
from app.foundation.crypto.keys import Keyring

FORMAT = "equipoise-export-manifest-1"
BLOCK = 1024 * 1024


def manifest(made: Made, study: str, keys: Keyring) -> dict[str, Any]:
    """Who took what when, of which study and software, from which change of the log, and what the file was.

    `signature` is Ed25519 by the installation's key over the rest, as JSON with sorted keys and no spaces.
    """
    said: dict[str, Any] = {
        "format": FORMAT,
        "study": study,
        "study_version": made.study_version,
        "software": f"equipoise {made.software}",
        "export": made.number,
        "requested_by": made.requested_by,
        "requested_at": made.requested_at.isoformat(),
        "finished_at": made.finished_at.isoformat() if made.finished_at else None,
        "via": made.via,
        "definition": made.definition,
        "asked": made.choice.model_dump(mode="json"),
        "since": made.since,
        "change": made.change,
        "tree_head": made.tree_head,
        "file": made.file_name,
        "bytes": made.bytes,
        "rows": made.rows,
        "sha256": made.sha256,
        "tables": list(made.files),
    }
    said["signed_by"] = b64encode(keys.public_key()).decode()
    return {**said, "signature": b64encode(keys.sign(_signed(said))).decode()}


def _signed(said: dict[str, Any]) -> bytes:
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def faults(path: Path, text: str, keys: Keyring | None = None) -> list[str]:
    """What is wrong with a file or its manifest; nothing when the file is the one that was exported.

    With `keys`, the manifest must be signed by this installation, too.
    """
    try:
        said = json.loads(text)
        if not isinstance(said, dict) or said.get("format") != FORMAT:
            raise ValueError
    except ValueError:
        return ["This is not a manifest of an export."]
    found = []
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if path.stat().st_size != said.get("bytes"):
        found.append(f"The file has {path.stat().st_size:,} bytes, the export had {said.get('bytes')}.")
    if digest.hexdigest() != said.get("sha256"):
        found.append("The file is not the one that was exported: its SHA-256 differs.")
    if keys is not None:
        try:
            signature = b64decode(str(said.pop("signature", "")), validate=True)
        except ValueError:
            signature = b""
        if not keys.verify(signature, _signed(said)):
            found.append("The manifest is not signed by this installation, or was changed since.")
    return found
