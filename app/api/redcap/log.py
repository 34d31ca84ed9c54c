"""Who did what? The audit log in the five columns of these clients, newest first."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any

from fastapi.responses import Response

from app.api.redcap.answers import Listing, Row, pieces, streamed
from app.api.redcap.asked import Asked
from app.api.redcap.dictionary import number_text
from app.api.redcap.errors import NO_LOGGING
from app.api.redcap.records import instant_of
from app.audit.reads import AuditFilter, newest_first
from app.capture.in_use import is_told_no_more, use_taken_back_on
from app.dependencies import database_of
from app.exports.actions import record_export
from app.foundation.errors import NotAllowed
from app.participants.reads import codes_at, visible_codes
from app.people.access import may, why_not
from app.people.permissions import Permission

COLUMNS = ("timestamp", "username", "action", "details", "record")
TABLE = "redcap_log"
KINDS = (
    "export",
    "manage",
    "user",
    "record",
    "record_add",
    "record_edit",
    "record_delete",
    "lock_record",
    "page_view",
)
DESIGN = "Manage/Design "
"""With the space behind it: clients compare the text as it is."""

CREATED, UPDATED, EXPORTED = "Create record{by} {record}", "Update record{by} {record}", "Data Export{by} "
BY_PROGRAM = " (API)"
"""What {by} is when a program did it."""
# What a line is called, by the beginning of the action.
WORDS: tuple[tuple[str, str, str], ...] = (
    ("participant.screened", "record_add", CREATED),
    ("screening.answered", "record_add", CREATED),
    ("participant.randomised", "record", "Randomize Record {record}"),  # what changed is no answer
    ("data.", "lock_record", "Lock/Unlock Record {record}"),
    ("entry.signed", "lock_record", "Lock/Unlock Record {record}"),
    ("export.", "export", EXPORTED),
    ("token.", "user", "Update user "),
    ("role.", "user", "Update user "),
    ("person.", "user", "Update user "),
    ("study.", "manage", DESIGN),
    ("site.", "manage", DESIGN),
    ("sequence.", "manage", DESIGN),
)
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
VALUES = ("entry.saved", "entry.corrected", "screening.answered", "screening.corrected")


@dataclass(frozen=True)
class Line:
    """What one request did to one thing."""

    kind: str
    row: Row


def log(asked: Asked) -> Response:
    """The log of those whom this person may know. That it was taken is written down."""
    here, call = asked.here, asked.call
    if not may(here.actor, Permission.AUDIT_READ):
        reason = why_not(here.actor, Permission.AUDIT_READ)
        raise NotAllowed(f"{NO_LOGGING}. {reason}", action="audit.read", subject="/redcap")
    kind = call.choice("logtype", "", *KINDS)
    begin, end = instant_of(call, "beginTime"), instant_of(call, "endTime")
    # The database leaves out what is outside: a nightly call for the last day would else read the whole log.
    wanted = AuditFilter(
        participant=asked.record or None,
        username=call.text("user") or None,
        since=None if begin is None else _minute_behind(_bounded(begin)),
        until=None if end is None else _bounded(end),
    )
    visible = visible_codes(here.the_study, here.actor)
    sites = _codes_of_group(asked)
    shape = asked.shape
    record_export(
        here.session,
        here.the_study,
        table=TABLE,
        format=shape,
        permission=Permission.AUDIT_READ,
        by=here.actor,
        now=here.now,
    )
    database = database_of(here.request)

    def body() -> Iterator[bytes]:
        with database.reading() as session:
            found = newest_first(session, here.the_study.code, wanted, participants=visible)
            inside = (entry for entry in found if sites is None or entry.participant in sites)
            lines = _lines(inside, use_taken_back_on(session, here.the_study))
            rows = (line.row for line in lines if _is(line.kind, kind))
            yield from pieces(Listing(COLUMNS, rows), shape, call.delimiter)

    return streamed(body(), shape)


def _minute_behind(begin: datetime) -> datetime:
    """The first instant of which the minute, which is all that a line says, is later."""
    return begin.replace(second=0, microsecond=0) + timedelta(minutes=1)


def _bounded(at: datetime) -> datetime:
    """An instant that both databases can be asked about; no entry is before the first or behind the last."""
    return min(max(at, EARLIEST), LATEST)


def _codes_of_group(asked: Asked) -> set[str] | None:
    """The participants of the group that was asked for, by its number or unique name."""
    said = asked.call.text("dag")
    if not said:
        return None
    group = next((each for each in asked.groups if said in (str(each.id), each.name)), None)
    if group is None:
        return set()
    here = asked.here
    return codes_at(here.session, here.the_study, group.id, by=here.actor, permission=Permission.AUDIT_READ)


def _is(kind: str, wanted: str) -> bool:
    if not wanted:
        return True
    if wanted == "record":
        return kind.startswith("record")
    return kind == wanted


def _lines(entries: Iterable[Any], taken_back: Mapping[str, date]) -> Iterator[Line]:
    """Entries of one request about one participant are one line: what it said of each item, with commas between.

    Of whoever took back the use of their data it says from that day on what was done, and no value.
    """
    for _, group in groupby(entries, key=_together):
        together = list(group)[::-1]
        of = together[0]
        yield _line(together, with_values=not is_told_no_more(of.at, taken_back.get(of.participant)))


def _together(entry: Any) -> tuple[Any, ...]:
    return entry.request_id, entry.at, entry.participant, _kind(entry)[1]


def _kind(entry: Any) -> tuple[str, str]:
    otherwise = ("", "record_edit", UPDATED) if entry.participant else ("", "manage", DESIGN)
    _, kind, words = next((each for each in WORDS if entry.action.startswith(each[0])), otherwise)
    return kind, words.format(by=BY_PROGRAM if entry.via == "api" else "", record=entry.participant)


def _line(entries: Sequence[Any], *, with_values: bool) -> Line:
    first = entries[0]
    kind, words = _kind(first)
    said = [f"{entry.item} = '{_value(entry.new)}'" for entry in entries if with_values and entry.action in VALUES]
    if not said:
        said = list(dict.fromkeys(f"{entry.action} {entry.subject}".strip() for entry in entries))
    details = ", ".join(said)
    if first.action == "export.run" and first.subject == f"export/{TABLE}":
        kind, words, details = "manage", DESIGN, "Export Logging (API)"
    elif first.action == "study.loaded":
        details = f"Create project ({details})"
    row = (f"{first.at.astimezone(UTC):%Y-%m-%d %H:%M}", first.username, words, details, first.participant)
    return Line(kind, row)


def _value(text: str | None) -> str:
    """A value of the log as a text."""
    value = json.loads(text) if text is not None else ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int | float):
        return number_text(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
