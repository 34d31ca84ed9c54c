"""Which key signs, since when, and which did before? The log itself says so, and nothing else does.

Signing keys follow from the root key in generations, the first of which is 0. A key is replaced by an entry in every
log, `log_key.replaced`, which names the old and the new one: what the log was before that entry the old key signs, what
it is from then on the new one. A log that begins later begins with the key that the system's log announced last.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlmodel import Session

from app.audit.actions import ENTRY, Change
from app.audit.models import SYSTEM_LOG
from app.audit.rules import value_text
from app.foundation.crypto.keys import GENERATIONS, Keyring
from app.foundation.database import keys_of, written_out

REPLACED = "log_key.replaced"
ED25519 = b"\x01"

NEWEST = (
    select(ENTRY.c.new)
    .where(ENTRY.c.log == SYSTEM_LOG, ENTRY.c.action == written_out(REPLACED))
    .order_by(ENTRY.c.position.desc())
    .limit(1)
    .scalar_subquery()
)
"""What the system's log announced last, for whoever asks for something else at the same time; `announced` reads it."""


@dataclass(frozen=True)
class SigningKey:
    """A key of one log: `vkey` is its public half as the C2SP signed-note format writes it.

    It signs the log from `first` entries on, since `at`; None when the log began with it.
    """

    generation: int
    vkey: str
    first: int
    at: datetime | None


def origin(keys: Keyring, log: str) -> str:
    """The name of a log in the wider world: installation and log."""
    return f"equipoise/{keys.fingerprint}/{log}"


def key_id(name: str, public_key: bytes) -> bytes:
    """The four bytes that tell which key signed (C2SP signed-note)."""
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + public_key).digest()[:4]


def vkey(keys: Keyring, log: str, generation: int) -> str:
    """The public key of a log as others are given it: name, key id and key (C2SP signed-note)."""
    name, public = origin(keys, log), keys.public_key(generation)
    return f"{name}+{key_id(name, public).hex()}+{base64.b64encode(ED25519 + public).decode()}"


def announcement(keys: Keyring, log: str, old: int, new: int) -> Change:
    """The entry by which a log says that another key signs it."""
    said = [{"generation": generation, "key": vkey(keys, log, generation)} for generation in (old, new)]
    return Change(REPLACED, old=said[0], new=said[1])


def announced(text: str | None) -> int | None:
    """The generation in `old` or `new` of an announcement; None for what does not name one."""
    try:
        found = json.loads(text or "")["generation"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if type(found) is int and 0 <= found < GENERATIONS else None


def follows(keys: Keyring, log: str, old: str | None, new: str | None, present: int) -> int | None:
    """The generation that an announcement brings after the present one; None when it is not what we would have said."""
    after = announced(new)
    if after is None or after <= present:
        return None
    said = announcement(keys, log, present, after)
    return after if (old, new) == (value_text(said.old), value_text(said.new)) else None


def present(session: Session) -> int:
    """The generation of the key that signs now."""
    return announced(session.execute(select(NEWEST)).scalar()) or 0


def log_keys(session: Session, log: str) -> Sequence[SigningKey]:
    """Every key of a log, the first one first."""
    keys = keys_of(session)
    query = select(ENTRY.c.log, ENTRY.c.position, ENTRY.c.at, ENTRY.c.old, ENTRY.c.new).where(
        ENTRY.c.log.in_({log, SYSTEM_LOG}), ENTRY.c.action == written_out(REPLACED)
    )
    rows = session.execute(query.order_by(ENTRY.c.position)).all()
    own = [row for row in rows if row.log == log]
    found = [_key(keys, log, _begins_with(own, rows), None)]
    for row in own:
        after = announced(row.new)
        if after is not None:
            found.append(_key(keys, log, after, row))
    return found


def _begins_with(own: Sequence[Any], rows: Sequence[Any]) -> int:
    """The generation that signed a log at first: what it replaced first, or what the system's log has come to."""
    said = own[0].old if own else rows[-1].new if rows else None
    return announced(said) or 0


def _key(keys: Keyring, log: str, generation: int, row: Any) -> SigningKey:
    first, at = (row.position + 1, row.at) if row is not None else (0, None)
    return SigningKey(generation, vkey(keys, log, generation), first, at)
