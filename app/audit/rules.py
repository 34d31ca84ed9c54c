"""What exactly does an audit entry say? Its canonical bytes, which the tree hashes and anyone can rebuild.

Format 1: the UTF-8 JSON array (no white space, no escaping of non-ASCII) of
["equipoise-audit-1", log, position, at, username, role, organisation, via, action, participant, subject, item, old,
new, why, request_id]; `at` is ISO 8601 in UTC with microseconds and "Z"; absent values are null.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson

FORMAT = "equipoise-audit-1"
FIELDS = (
    "log",
    "position",
    "at",
    "username",
    "role",
    "organisation",
    "via",
    "action",
    "participant",
    "subject",
    "item",
    "old",
    "new",
    "why",
    "request_id",
)

# Made once: each entry that is written goes through it.
_as_value = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, sort_keys=True, default=str).encode


@lru_cache(maxsize=64)  # all that one change writes down has the same date
def instant_text(at: datetime) -> str:
    """2026-03-14T09:26:53.589793Z."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


LEVELLED = timedelta(minutes=1)
"""Whoever waited for the log asked earlier than they wrote, and two servers do not agree to the second."""


def dated(now: datetime, newest: datetime | None) -> datetime:
    """When an entry is dated: like the newest in the log, if by its own clock it were up to a minute earlier (LOG-14).

    A clock that was set back further is taken at its word: it may be the right one now, and to date everything like the
    last wrong entry would be wrong for as long. That is told to people (`audit.clocks`), and nothing is refused.
    """
    return newest if newest is not None and timedelta(0) < newest - now <= LEVELLED else now


def leaf_bytes(entry: Mapping[str, Any]) -> bytes:
    """The canonical bytes of one entry; the leaf hash is taken over them.

    Texts and whole numbers have one way to be written there, so a quick writer of JSON serves (a test compares it with
    Python's own, by which anyone can rebuild them).
    """
    values = [instant_text(value) if isinstance(value := entry[field], datetime) else value for field in FIELDS]
    return orjson.dumps([FORMAT, *values])


def value_text(value: object) -> str | None:
    """An old or new value as the log keeps it: JSON text, or None for 'there was none'."""
    if value is None:
        return None
    return str(value) if type(value) is int else _as_value(value)  # most are: a questionnaire's answers


SEALED = "sealed"
"""What is shown in place of a value that the log holds only sealed."""


def is_sealed(action: str, text: str | None) -> bool:
    """Whether a value stands in the log only sealed: who somebody is, and what was delivered to them."""
    return text is not None and action.partition(".")[0] in ("identity", "session")
