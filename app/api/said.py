"""What does a body in JSON say? Read strictly: what others would understand otherwise is refused (RFC 8259)."""

import json
import re
from typing import Any

from starlette.requests import Request


class Said(Request):
    """A request whose JSON has each member of an object once, and no number that JSON has not."""

    async def json(self) -> Any:
        """What the body says; JSONDecodeError, with the place, where it is no such JSON."""
        if not hasattr(self, "_json"):
            self._json = strictly(await self.body())
        return self._json


class _Loose(Exception):
    """Something that a lenient reader would pass over: what to say of it, and how it is written."""


def strictly(body: bytes) -> Any:
    """What a body says, as `Said.json` reads it."""
    try:
        return json.loads(body, object_pairs_hook=_once, parse_constant=_no_constant)
    except _Loose as found:
        words, written = found.args
        text = body.decode("utf-8", "replace")
        places = [each.start() for each in re.finditer(written, text)]
        raise json.JSONDecodeError(words, text, places[-1] if places else 0) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    said = dict(pairs)
    if len(said) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        written = re.escape(json.dumps(twice, ensure_ascii=False)) + r"\s*:"
        raise _Loose(f"“{twice[:80]}” stands twice in one object", written)
    return said


def _no_constant(name: str) -> Any:
    raise _Loose(f"{name} is no number of JSON", re.escape(name))
