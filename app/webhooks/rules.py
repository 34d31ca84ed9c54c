"""What is a webhook told? Which lines of the log are events for whom, where each is read, and how one is signed. Pure.

Only what every role may know is an event, and nothing that somebody unblinded did: sessions and envelopes are neither
told nor counted. An id says nothing of a line's place in the log, so that no gap gives away what stands between two.
"""

import hashlib
import hmac
import ipaddress
import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from app.people.permissions import UNBLINDED, Permission
from app.studies.definition import Study, VisitKind

EVENTS: dict[str, tuple[Permission, str]] = {
    "participant.screened": (Permission.PARTICIPANT_READ, "Somebody was screened."),
    "screening.corrected": (Permission.ENTRY_READ, "The answers of a pre-screen were corrected."),
    "participant.randomised": (Permission.PARTICIPANT_READ, "Somebody was randomised."),
    "participant.withdrawn": (Permission.PARTICIPANT_READ, "Somebody withdrew, or this was taken back."),
    "participant.changed": (
        Permission.PARTICIPANT_READ,
        "Somebody became a screen failure, was lost or found again, completed, died, or was randomised in error.",
    ),
    "consent.changed": (
        Permission.PARTICIPANT_READ,
        "A consent was recorded, countersigned, refused or withdrawn; or a part of it.",
    ),
    "visit.changed": (Permission.PARTICIPANT_READ, "A visit was held, missed, corrected or planned again."),
    "entry.changed": (Permission.ENTRY_READ, "A form was saved or corrected."),
    "entry.signed": (Permission.ENTRY_READ, "A form was signed."),
    "query.changed": (Permission.ENTRY_READ, "A query was raised, answered, raised again, or closed."),
    "adverse_event.changed": (
        Permission.SAFETY_READ,
        "An adverse event was reported, followed up, corrected, judged, reviewed, or voided.",
    ),
}
PING = "ping"

_OF_ACTION = {
    "participant.screened": "participant.screened",
    "screening.corrected": "screening.corrected",
    "screening.judged_again": "screening.corrected",
    "participant.randomised": "participant.randomised",
    "participant.withdrawn": "participant.withdrawn",
    "participant.withdrawal_taken_back": "participant.withdrawn",
    "participant.screen_failed": "participant.changed",
    "participant.back_to_screened": "participant.changed",
    "participant.end_recorded": "participant.changed",
    "participant.randomised_in_error": "participant.changed",
    "consent.recorded": "consent.changed",
    "consent.countersigned": "consent.changed",
    "consent.withdrawn": "consent.changed",
    "consent.refused": "consent.changed",
    "consent.option_taken_back": "consent.changed",
    "consent.option_restored": "consent.changed",
    "visit.held": "visit.changed",
    "visit.missed": "visit.changed",
    "visit.corrected": "visit.changed",
    "visit.marked_in_error": "visit.changed",
    "visit.restored": "visit.changed",
    "visit.reopened": "visit.changed",
    "entry.saved": "entry.changed",
    "entry.corrected": "entry.changed",
    "entry.completed": "entry.changed",
    "entry.reopened": "entry.changed",
    "entry.signed": "entry.signed",
    "query.raised": "query.changed",
    "query.answered": "query.changed",
    "query.requeried": "query.changed",
    "query.corrected": "query.changed",
    "query.closed": "query.changed",
    "adverse_event.reported": "adverse_event.changed",
    "adverse_event.followed_up": "adverse_event.changed",
    "adverse_event.corrected": "adverse_event.changed",
    "adverse_event.judged": "adverse_event.changed",
    "adverse_event.reviewed": "adverse_event.changed",
    "adverse_event.voided": "adverse_event.changed",
}
ACTIONS = tuple(_OF_ACTION)

WAITS = (1, 5, 15, 60, 240)  # minutes between attempts; after the last one, every four hours
MOST_ATTEMPTS = 10
BOTH_SIGN = timedelta(hours=24)
"""How long the secret before signs beside a new one, so that a program can change to it in its own time."""


def event_of(study: Study, action: str, subject: str, role: str) -> str | None:
    """The event that a line of the log is, or None: for sessions of treatment, and for whatever the unblinded did."""
    if action not in _OF_ACTION or {part.strip() for part in role.split(",")} & {str(each) for each in UNBLINDED}:
        return None
    kind, _, rest = subject.partition("/")
    if kind in ("visit", "entry", "query"):
        visit = study.visit(rest.partition("/")[0])
        if visit is not None and visit.kind is VisitKind.TREATMENT:
            return None
    return _OF_ACTION[action]


def address_of(study: str, participant: str, subject: str, event: str) -> str:
    """Where what changed is read over REST."""
    whole = f"/api/v1/studies/{study}/participants/{participant}"
    kind, _, rest = subject.partition("/")
    if event == "screening.corrected":
        return f"{whole}/screening"
    if kind == "consent":
        return f"{whole}/consents"
    if kind == "visit":
        return f"{whole}/visits/{rest}"
    if kind in ("entry", "query"):
        visit, _, form = rest.partition("/")
        instrument, _, number = form.partition("/")  # of a form that repeats, from the second time on
        return f"{whole}/visits/{visit}/entries/{instrument}{f'?repeat={number}' if number else ''}"
    if kind == "adverse_event":
        return f"/api/v1/studies/{study}/adverse-events/{rest}"
    return whole


def payload(event_id: str, event: str, at: datetime, said: Mapping[str, str | None]) -> str:
    """What is sent: the same text at every attempt."""
    return json.dumps({"id": event_id, "event": event, "at": at.isoformat(), **said}, ensure_ascii=False)


def signature(secrets: Iterable[str], timestamp: int, body: str) -> str:
    """`t=SECONDS,v1=HEX`: HMAC-SHA-256 of "SECONDS.BODY" under the webhook's secret; a `v1` for each that holds."""
    signed = f"{timestamp}.{body}".encode()
    made = (hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets)
    return ",".join([f"t={timestamp}", *(f"v1={each}" for each in made)])


def why_not_url(url: str, allowed: tuple[str, ...]) -> str | None:
    """Why an address cannot be told, before its name is looked up; None when it may be."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "This is no address. Write it as https://host/path."
    if len(url) > 500 or not url.isprintable() or any(letter.isspace() for letter in url) or not url.isascii():
        return "This address is too long, or has characters that none has. Write it as https://host/path."
    if not parts.hostname or parts.username is not None or parts.fragment:
        return "Write the address as https://host/path, without a name, a password or a fragment."
    if ":" not in parts.hostname and not _is_a_name(parts.hostname):
        return "No host has this name: each part between two dots has 1 to 63 characters. Write https://host/path."
    if is_allowed(url, allowed):
        return None
    if parts.scheme != "https":
        return "Only https is told. Put TLS in front of the program, or have this address allowed in the settings."
    if port not in (None, 443):
        return "Only port 443 is told. Use it, or have this address allowed in the settings."
    return None


def _is_a_name(host: str) -> bool:
    """Whether a name can be looked up at all (RFC 1035, 2.3.4)."""
    return len(host) <= 253 and all(1 <= len(part) <= 63 for part in host.removesuffix(".").split("."))


def is_allowed(url: str, allowed: tuple[str, ...]) -> bool:
    """Whether the settings name this very scheme, host and port (such as http://127.0.0.1:9000)."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" in allowed


def why_not_reach(address: str) -> str | None:
    """Why a resolved address is not reached: only those of the public network are (no SSRF into ours)."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        meant = found.ipv4_mapped or _translated(found)
        if meant is None and (found not in _UNICAST or any(found in each for each in _NOT_HOSTS)):
            return PRIVATE
    else:
        meant = None
    where = meant or found
    return None if where.is_global and not where.is_multicast else PRIVATE


PRIVATE = "Its name leads into a private network."
_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that IANA gives to hosts. What lies beyond carries addresses of IPv4 (::/96, ::ffff:0:0:0/96) or is of a site."""
_NOT_HOSTS = (ipaddress.IPv6Network("2002::/16"), ipaddress.IPv6Network("3fff::/20"))
"""6to4, which carries an address of IPv4 and is given up (RFC 7526); documentation (RFC 9637)."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The address of IPv4 that a translator makes of this one (RFC 6052), which may well be one of ours."""
    return ipaddress.IPv4Address(address.packed[-4:]) if address in _NAT64 else None
