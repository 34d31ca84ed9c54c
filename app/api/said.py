"""What does a body in JSON say? Read strictly: what others would understand otherwise is refused (RFC 8259)."""

from typing import Any

from starlette.requests import Request

from app.foundation.json_parts import strictly, text_of


class Said(Request):
    """A request whose JSON has each member of an object once, and no number that JSON has not."""

    async def json(self) -> Any:
        """What the body says; JSONDecodeError, with the place, where it is no such JSON."""
        if not hasattr(self, "_json"):
            self._json = strictly(text_of(await self.body()))
        return self._json
