"""Is this file the one that was exported, and of what? A signed manifest per export, to check a copy years later."""

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.audit.signing import SigningKey
from app.exports.history import Made
from app.foundation.crypto.keys import GENERATIONS, Keyring

FORMAT = "equipoise-export-manifest-1"
BLOCK = 1024 * 1024


def manifest(made: Made, study: str, keys: Keyring, generation: int) -> dict[str, Any]:
    """Who took what when, of which study and software, from which change of the log, and what the file was.

    `signature` is Ed25519 over the rest, as JSON with sorted keys and no spaces, by the installation's key of this
    generation (`app.audit.signing.present`); `signed_by` is its public half.
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
    said["signed_by"] = b64encode(keys.public_key(generation)).decode()
    return {**said, "signature": b64encode(keys.sign(_signed(said), generation)).decode()}


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
        generation = signed_by(said, keys)
        if generation is None or not keys.verify(signature, _signed(said), generation):
            found.append("The manifest is not signed by this installation, or was changed since.")
    return found


def signed_by(said: dict[str, Any], keys: Keyring) -> int | None:
    """The generation of the key that a manifest names; None when it is none of this installation."""
    try:
        named = b64decode(str(said.get("signed_by")), validate=True)
    except ValueError:
        return None
    return next((number for number in range(GENERATIONS) if keys.public_key(number) == named), None)


def why_signed_too_late(said: dict[str, Any], signed: Sequence[SigningKey], generation: int | None) -> str | None:
    """Why this key proves nothing of this manifest, by the keys of the study's log; None when it does.

    A manifest is signed when it is asked for, so with any key that signed since the export was made.
    """
    place = next((place for place, key in enumerate(signed) if key.generation == generation), None)
    if place is None:
        return "The manifest is signed with a key that the log of this installation never announced."
    if place + 1 < len(signed) and said["change"] >= signed[place + 1].first:
        return (
            "The manifest is signed with a key that was replaced before the export was made: it proves nothing, and "
            "somebody else may have that key."
        )
    return None
