#!/usr/bin/env python3
"""Checks an exported audit log without trusting, or importing, Equipoise. Standard library only.

    equipoise audit export resolve resolve.log       writes resolve.log and resolve.log.checkpoint
    python3 scripts/verify_audit.py resolve.log [OLDER.checkpoint ...]

Each line of the log is one entry in canonical form. This program hashes every line into an RFC 6962 Merkle tree and
compares size and root with the checkpoints: the one beside the log, and any older ones that you kept yourself. A log
that was altered, shortened, re-ordered or written anew cannot have the root of a checkpoint from before. (The Ed25519
signature of a checkpoint, which says who made it, needs more than the standard library; whoever kept the checkpoint
themselves does not depend on it.)
"""

import base64
import hashlib
import json
import sys
from pathlib import Path

FORMAT = "equipoise-audit-1"
LOG, POSITION = 1, 2


def read_checkpoint(path: Path) -> tuple[str, int, bytes]:
    """Origin, number of entries and root of a checkpoint file (C2SP tlog-checkpoint)."""
    origin, size, root = path.read_text(encoding="utf-8").splitlines()[:3]
    return origin, int(size), base64.b64decode(root, validate=True)


class Tree:
    """The right edge of a growing RFC 6962 tree."""

    def __init__(self) -> None:
        self.size = 0
        self.edge: list[bytes] = []

    def append(self, data: bytes) -> None:
        """Add one entry."""
        node = hashlib.sha256(b"\x00" + data).digest()
        ones = self.size
        while ones & 1:
            node = hashlib.sha256(b"\x01" + self.edge.pop() + node).digest()
            ones >>= 1
        self.edge.append(node)
        self.size += 1

    def root(self) -> bytes:
        """The hash that stands for everything so far."""
        if not self.edge:
            return hashlib.sha256(b"").digest()
        node = self.edge[-1]
        for left in reversed(self.edge[:-1]):
            node = hashlib.sha256(b"\x01" + left + node).digest()
        return node


def verify(log: Path, checkpoints: list[Path]) -> list[str]:
    """Everything that is wrong, in words; nothing when the log is whole."""
    faults: list[str] = []
    expected: dict[int, list[tuple[Path, bytes]]] = {}
    names = set()
    for path in checkpoints:
        try:
            origin, size, root = read_checkpoint(path)
        except (OSError, ValueError):
            faults.append(f"{path} is not a checkpoint.")
            continue
        names.add(origin.rsplit("/", 1)[-1])
        expected.setdefault(size, []).append((path, root))
    tree = Tree()
    with log.open("rb") as lines:
        for number, line in enumerate(lines):
            data = line.removesuffix(b"\n")
            try:
                entry = json.loads(data)
                good = entry[0] == FORMAT and entry[POSITION] == number and (not names or entry[LOG] in names)
            except (ValueError, IndexError, KeyError, TypeError):
                good = False
            if not good:
                faults.append(f"Line {number + 1} is not entry {number} of this log.")
            tree.append(data)
            for path, root in expected.pop(tree.size, []):
                if root != tree.root():
                    faults.append(f"The first {tree.size} entries are not those of {path}.")
    for size, kept in expected.items():
        faults += [f"{path} has {size} entries, but the log ends after {tree.size}." for path, _ in kept]
    if not faults:
        print(f"{tree.size} entries, root {tree.root().hex()}, {len(checkpoints)} checkpoint(s): intact.")
    return faults


def main(arguments: list[str]) -> int:
    """Exit code 0 when everything holds."""
    if not arguments:
        print(__doc__)
        return 2
    log = Path(arguments[0])
    beside = log.with_name(log.name + ".checkpoint")
    checkpoints = [*([beside] if beside.exists() else []), *map(Path, arguments[1:])]
    if not checkpoints:
        print("Name at least one checkpoint: without it nothing can be compared.")
        return 2
    faults = verify(log, checkpoints)
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
