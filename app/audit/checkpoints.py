"""What did the log look like then? Signed notes kept outside the database (C2SP tlog-checkpoint, Ed25519).

    origin, newline, number of entries, newline, base64 of the root, newline, newline,
    "— " + name + " " + base64(key id (4 bytes) + signature)

The key id is the first four bytes of SHA-256(name, newline, 0x01, public key); by it a note says which of the log's
keys signed. Which key was to sign a log of that size, `signing` and `verify` know.
"""

import base64
import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlmodel import Session

from app.audit import signing
from app.audit.actions import HEAD
from app.audit.signing import key_id, origin
from app.foundation.crypto.keys import GENERATIONS, Keyring
from app.foundation.database import keys_of


class BadCheckpoint(ValueError):
    """A checkpoint that is not ours, or not intact."""


@dataclass(frozen=True)
class Checkpoint:
    """Size and root of one log at one moment, and the generation of the key that signs, or signed, them."""

    log: str
    size: int
    root: bytes
    generation: int = 0


def signed_note(keys: Keyring, point: Checkpoint) -> str:
    """The checkpoint as a signed note."""
    name = origin(keys, point.log)
    text = f"{name}\n{point.size}\n{base64.b64encode(point.root).decode()}\n"
    signed = key_id(name, keys.public_key(point.generation)) + keys.sign(text.encode(), point.generation)
    signature = base64.b64encode(signed).decode()
    return f"{text}\n— {name} {signature}\n"


def read_note(keys: Keyring, note: str) -> Checkpoint:
    """The checkpoint in a signed note; BadCheckpoint unless a key of this installation signed exactly these bytes."""
    try:
        text, signature_line = note.split("\n\n", 1)
        text += "\n"
        name, size, root = text.splitlines()
        dash, signer, encoded = signature_line.strip().split(" ")
        signature = base64.b64decode(encoded, validate=True)
        log = name.removeprefix(f"equipoise/{keys.fingerprint}/")
        if dash != "—" or signer != name or log == name or not size.isdecimal():
            raise ValueError
        claimed = log, int(size), base64.b64decode(root, validate=True)
    except ValueError:
        raise BadCheckpoint("This is not a checkpoint of this installation.") from None
    for generation in range(GENERATIONS):
        is_named = signature[:4] == key_id(name, keys.public_key(generation))
        if is_named and keys.verify(signature[4:], text.encode(), generation):
            return Checkpoint(*claimed, generation)
    raise BadCheckpoint("The signature of a checkpoint is not ours: the file was changed.")


def current(session: Session, log: str) -> Checkpoint | None:
    """Where a log stands now, and with which key that is signed: both as of one moment."""
    query = select(HEAD.c.size, HEAD.c.root, signing.NEWEST.label("newest")).where(HEAD.c.log == log)
    row = session.execute(query).first()
    return None if row is None else Checkpoint(log, row.size, row.root, signing.announced(row.newest) or 0)


def keep(folder: Path, session: Session, log: str) -> Checkpoint | None:
    """Write the present checkpoint into a folder outside the database; an older one is never overwritten."""
    point = current(session, log)
    if point is None or point.size == 0:
        return point
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{log}-{point.size:012d}.checkpoint"
    if not path.exists():
        waiting = path.with_suffix(f".{os.getpid()}.writing")
        with waiting.open("w", encoding="utf-8") as file:
            file.write(signed_note(keys_of(session), point))
            file.flush()
            os.fsync(file.fileno())
        os.replace(waiting, path)
    return point


def kept(folder: Path, keys: Keyring) -> tuple[list[Checkpoint], list[str]]:
    """Every checkpoint in the folder, and what is wrong with those that cannot be read."""
    points, faults = [], []
    for path in sorted(folder.glob("*.checkpoint")) if folder.is_dir() else []:
        try:
            points.append(read_note(keys, path.read_text(encoding="utf-8")))
        except (BadCheckpoint, OSError, UnicodeError) as error:
            faults.append(f"{path.name}: {error}")
    return points, faults
