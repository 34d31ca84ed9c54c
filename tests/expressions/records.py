"""A record for expressions to read: values by field name, or by whole reference such as [event][field][2]."""

from collections.abc import Mapping
from datetime import date, datetime

from app.expressions import Value, from_stored


class Record:
    def __init__(
        self,
        values: Mapping[str, object] | None = None,
        today: str = "2026-03-02",
        now: str = "2026-03-02T14:30:00",
    ) -> None:
        self.values = {key: from_stored(value) for key, value in (values or {}).items()}
        self.today = date.fromisoformat(today)
        self.now = datetime.fromisoformat(now)

    def value(self, event: str | None, field: str, instance: str | None = None) -> Value:
        if event is None and instance is None:
            return self.values.get(field)
        before = f"[{event}]" if event else ""
        after = f"[{instance}]" if instance else ""
        return self.values.get(f"{before}[{field}]{after}")
