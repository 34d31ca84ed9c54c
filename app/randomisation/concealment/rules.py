"""What does the statement of concealment say? Pure: acts and rights go in, a document that can be checked comes out.

CONSORT 2025, items 17a (who generated the sequence, and how), 18 (the mechanism of concealment) and 19 (whether anybody
who enrolled or assigned had access to the sequence). Each fact names the positions of the log it was computed from.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

FORMAT = "equipoise-concealment-1"
MOST_TOLD = 200
"""So many envelopes that were opened too early are named; one is enough for the statement not to hold."""

ACCESS = (
    "sequence.drawn",
    "sequence.sealed",
    "sequence.discarded",
    "sequence.script_taken",
    "plan.opened",
    "escrow.taken",
    "downtime_pack.made",
)
"""What somebody does with a list: whoever drew or handed it in made it, and some of these hold its plan."""
ENROLLING = (
    "participant.screened",
    "consent.recorded",
    "consent.countersigned",
    "participant.staged",
    "participant.randomised",
)
MECHANISM = (
    "Each slot is sealed in an envelope of one size, bound to its place, under a key that is not in the database. "
    "Slots are taken in order by the server, once somebody is eligible and has consented; no page, export or log shows "
    "one before it is taken. Every opening of an envelope is an entry of the log."
)


@dataclass(frozen=True)
class Act:
    """So often one person did one thing, and where that stands in the log."""

    who: str
    action: str
    number: int
    first: int
    last: int
    first_at: datetime
    last_at: datetime
    subject: str = ""


@dataclass(frozen=True)
class Right:
    """A role of one person in the study that gives access to the list, or enrols; `until` None: still."""

    who: str
    role: str
    since: datetime
    until: datetime | None


@dataclass(frozen=True)
class Opening:
    """An envelope of a participant that was opened before they were allocated, as far as they ever were."""

    participant: str
    who: str
    position: int
    at: datetime
    allocated: int | None


@dataclass(frozen=True)
class Listed:
    """One list, with what its certificate says of its making; `in_log`: where the log holds its very hash."""

    version: int
    status: str
    drawn_by: str
    drawn_at: datetime
    sealed_by: str | None
    sealed_at: datetime | None
    certificate: Mapping[str, Any] | None
    fingerprint: str | None
    in_log: int | None


def together(earlier: Iterable[Act], later: Iterable[Act]) -> list[Act]:
    """What everybody did in two stretches of a log, the later one behind the earlier, in the order of their firsts."""
    found = {(each.who, each.action): each for each in earlier}
    for each in later:
        before = found.get((each.who, each.action))
        found[each.who, each.action] = (
            each
            if before is None
            else replace(
                before,
                number=before.number + each.number,
                last=each.last,
                first_at=min(before.first_at, each.first_at),
                last_at=max(before.last_at, each.last_at),
                subject="",
            )
        )
    return sorted(found.values(), key=lambda each: each.first)


OF_A_CERTIFICATE = ("method", "generator", "recipe", "software", "root", "plan_commitment", "escrowed_to", "signed_by")
"""What is told of a certificate: nothing of how many slots there are, which is not for people who enrol."""


def overlaps(acts: Iterable[Act], rights: Iterable[Right], drawing: frozenset[str]) -> list[dict[str, Any]]:
    """Everybody who had to do with a list and enrolled: by what they did, or by the roles they ever held.

    `access_first` says that the list was touched before the last enrolment, so that it could have mattered; of rights,
    `at_once` that both were held at one moment. `drawing` are the roles that give access to lists.
    """
    by_person: dict[str, list[Act]] = {}
    for act in acts:
        by_person.setdefault(act.who, []).append(act)
    found: list[dict[str, Any]] = []
    for who, theirs in sorted(by_person.items()):
        access = [each for each in theirs if each.action in ACCESS]
        enrolled = [each for each in theirs if each.action in ENROLLING]
        if access and enrolled:
            said = {
                "access": [_act(each) for each in access],
                "enrolling": [_act(each) for each in enrolled],
                "access_first": min(each.first for each in access) < max(each.last for each in enrolled),
            }
            found.append({"who": who, "by": "acts", **said})
    held: dict[str, list[Right]] = {}
    for right in rights:
        held.setdefault(right.who, []).append(right)
    for who, roles in sorted(held.items()):
        drew = [each for each in roles if each.role in drawing]
        enrols = [each for each in roles if each.role not in drawing]
        if drew and enrols:
            at_once = any(_meet(one, other) for one in drew for other in enrols)
            found.append({"who": who, "by": "rights", "roles": [_right(each) for each in roles], "at_once": at_once})
    return found


def _meet(one: Right, other: Right) -> bool:
    return (one.until is None or other.since < one.until) and (other.until is None or one.since < other.until)


def statement(
    *,
    study: Mapping[str, str],
    log: Mapping[str, Any],
    lists: Sequence[Listed],
    acts: Sequence[Act],
    rights: Sequence[Right],
    drawing: frozenset[str],
    openings: Sequence[Opening],
    key: str,
    now: datetime,
) -> dict[str, Any]:
    """The statement as JSON values; instants in UTC, hashes as hex. `holds` is whether nothing speaks against it."""
    both = overlaps(acts, rights, drawing)
    unknown = [each.version for each in lists if each.fingerprint is not None and each.in_log is None]
    opened = {each.who: each for each in acts if each.action == "envelope.opened"}
    enrolled = {each.who for each in acts if each.action in ENROLLING}
    return {
        "format": FORMAT,
        **study,
        "computed_at": now.isoformat(),
        "log": dict(log),
        "holds": not both and not openings and not unknown,
        "mechanism": MECHANISM,
        "sealing_key": key,
        "lists": [_list(each) for each in lists],
        "access": [_act(each) for each in acts if each.action in ACCESS],
        "enrolling": [_act(each) for each in acts if each.action in ENROLLING],
        "rights": [_right(each) for each in rights],
        "overlaps": both,
        "opened_before_allocation": [{**asdict(each), "at": each.at.isoformat()} for each in openings],
        # Arms of people who have theirs: no access to what comes next, and said all the same.
        "opened_after_allocation_by_people_who_enrol": [_act(opened[who]) for who in sorted(enrolled & opened.keys())],
        "certificates_not_in_log": unknown,
    }


def _act(act: Act) -> dict[str, Any]:
    said = asdict(act) | {"first_at": act.first_at.isoformat(), "last_at": act.last_at.isoformat()}
    return {name: value for name, value in said.items() if value != ""}


def _right(right: Right) -> dict[str, Any]:
    until = right.until.isoformat() if right.until else None
    return {"who": right.who, "role": right.role, "since": right.since.isoformat(), "until": until}


def _list(found: Listed) -> dict[str, Any]:
    told = {name: found.certificate.get(name) for name in OF_A_CERTIFICATE} if found.certificate else {}
    return {
        "version": found.version,
        "status": found.status,
        "drawn_by": found.drawn_by,
        "drawn_at": found.drawn_at.isoformat(),
        "sealed_by": found.sealed_by,
        "sealed_at": found.sealed_at.isoformat() if found.sealed_at else None,
        **told,
        "certificate": found.fingerprint,
        "certificate_in_log": found.in_log,
    }
