"""What time is it? The only reader of the clock; instants are aware and in UTC."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo


def now() -> datetime:
    """The present instant, aware, UTC, in whole microseconds."""
    return datetime.now(UTC)


def today(timezone: str, at: datetime | None = None) -> date:
    """The calendar date at a site: `timezone` is an IANA name such as Australia/Sydney."""
    return (at or now()).astimezone(ZoneInfo(timezone)).date()
