"""Is the log still what was written? Every entry is checked, not only the ends, and what is wrong is named.

Three independent checks:
1. each entry's canonical bytes hash to its leaf hash, and its tag is ours: HMAC under a key that is not in the
   database, so that an entry altered together with its hash is still named;
2. positions run 0..n-1 without a gap, and the tree over the leaf hashes has the root that the head row states;
3. the tree continues every checkpoint that was kept outside the database (RFC 9162 consistency): a log cut short or
   rewritten as a whole is found out. Each must be signed with the key that the log had come to by then (`signing`):
   whoever has a key that was replaced can prove nothing of what came later.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlmodel import Session

from app.audit import signing
from app.audit.actions import ENTRY, HEAD, TAG_PURPOSE
from app.audit.checkpoints import Checkpoint
from app.audit.models import SYSTEM_LOG
from app.audit.rules import FIELDS, leaf_bytes
from app.audit.tree import Frontier, leaf_hash
from app.foundation.crypto.secrets import same
from app.foundation.database import keys_of, streamed

MOST_NAMED = 100
BATCH = 2000


@dataclass
class Verification:
    """What was verified of one log, and every fault found (the first MOST_NAMED by name)."""

    log: str
    size: int = 0
    root: bytes = b""
    checkpoints: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        return not self.faults


def logs(session: Session) -> list[str]:
    """Every log there is, also one whose head was removed."""
    names = set(session.execute(select(HEAD.c.log)).scalars())
    names.update(session.execute(select(ENTRY.c.log).distinct()).scalars())
    return sorted(names)


def verify(session: Session, log: str, checkpoints: Iterable[Checkpoint] = ()) -> Verification:
    """Check a whole log in one ordered scan and O(log n) memory."""
    keys = keys_of(session)
    result = Verification(log)
    frontier = Frontier()
    expected: dict[int, list[Checkpoint]] = {}
    for point in checkpoints:
        if point.log == log:
            expected.setdefault(point.size, []).append(point)
            result.checkpoints += 1
    signs = _Signs(signing.log_keys(session, log)[0].generation)
    _compare(frontier, expected, signs, result)
    columns = [ENTRY.c[name] for name in (*FIELDS, "leaf_hash", "tag")]
    query = select(*columns).where(ENTRY.c.log == log).order_by(ENTRY.c.position)
    for found in streamed(session, query, batch=BATCH):
        row = found._mapping
        position = row["position"]
        while frontier.size < position:
            _fault(result, f"Entry {frontier.size} is missing.")
            frontier.append(bytes(32))
        if leaf_hash(leaf_bytes(dict(row))) != row["leaf_hash"]:
            _fault(result, f"Entry {position} ({row['action']}) was altered: it does not match its hash.")
        elif not same(keys.tag(TAG_PURPOSE, row["leaf_hash"]), row["tag"]):
            _fault(result, f"Entry {position} ({row['action']}) was not written by this installation.")
        elif row["action"] == signing.REPLACED:
            after = signing.follows(keys, log, row["old"], row["new"], signs.generation)
            if after is None:
                _fault(result, f"Entry {position} announces a signing key that does not follow the one before.")
            else:
                signs.replaced[signs.generation], signs.generation = position, after
        if position == frontier.size:
            frontier.append(row["leaf_hash"])
            _compare(frontier, expected, signs, result)
    result.size, result.root = frontier.size, frontier.root()
    head = session.execute(select(HEAD.c.size, HEAD.c.root).where(HEAD.c.log == log)).first()
    if head is None:
        _fault(result, "The head of the log is missing.")
    elif head.size > result.size:
        _fault(result, f"Entries {result.size} to {head.size - 1} are missing from the end.")
    elif head.size < result.size:
        _fault(result, f"Entries {head.size} to {result.size - 1} were added behind the head.")
    elif head.root != result.root:
        _fault(result, "The root of the tree is not the one in the head: entries were changed or re-ordered.")
    for size, points in sorted(expected.items()):
        for point in points:
            if point.generation in signs.replaced:
                _fault(result, signs.why_not(point))
            else:
                _fault(
                    result, f"A checkpoint has {size} entries, but the log has only {result.size}: it was cut short."
                )
    if log != SYSTEM_LOG and signs.generation != signing.present(session):
        _fault(result, "The system's log announces a signing key that this log does not announce: it was cut short.")
    return result


@dataclass
class _Signs:
    """Which generation signs at one place of a log, and of how many entries each one before it signed last."""

    generation: int
    replaced: dict[int, int] = field(default_factory=dict)

    def why_not(self, point: Checkpoint) -> str:
        last = self.replaced.get(point.generation)
        if last is None:
            return (
                f"A checkpoint with {point.size} entries is signed with a key that the log had not announced by then."
            )
        return (
            f"A checkpoint with {point.size} entries is signed with a key that was replaced when the log had {last}: "
            "it proves nothing, and somebody else may have that key."
        )


def _compare(frontier: Frontier, expected: dict[int, list[Checkpoint]], signs: _Signs, result: Verification) -> None:
    for point in expected.pop(frontier.size, ()):
        if point.generation != signs.generation:
            _fault(result, signs.why_not(point))
        elif point.root != frontier.root():
            _fault(result, f"The first {point.size} entries are not those of the checkpoint kept outside the database.")


def _fault(result: Verification, text: str) -> None:
    if len(result.faults) < MOST_NAMED:
        result.faults.append(text)


def root_at(session: Session, log: str, size: int) -> str | None:
    """The root of a log's tree when it had so many entries, in hexadecimal; None when it never had."""
    if size == 0:
        return ""
    frontier = Frontier()
    query = select(ENTRY.c.leaf_hash).where(ENTRY.c.log == log, ENTRY.c.position < size).order_by(ENTRY.c.position)
    for row in streamed(session, query, batch=BATCH):
        frontier.append(row.leaf_hash)
    return frontier.root().hex() if frontier.size == size else None


def export_lines(session: Session, log: str) -> Iterator[bytes]:
    """The canonical bytes of every entry in order: what scripts/verify_audit.py reads, one entry a line."""
    columns = [ENTRY.c[name] for name in FIELDS]
    query = select(*columns).where(ENTRY.c.log == log).order_by(ENTRY.c.position)
    for found in streamed(session, query, batch=BATCH):
        yield leaf_bytes(dict(found._mapping)) + b"\n"
