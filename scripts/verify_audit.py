#!/usr/bin/env python3
"""Checks an exported audit log without trusting, or importing, Equipoise. Standard library only.

    equipoise audit export resolve resolve.log       writes resolve.log and resolve.log.checkpoint
    equipoise audit keys resolve                     says the public keys: NAME+ID+KEY
    python3 scripts/verify_audit.py resolve.log [OLDER.checkpoint ...] [NAME+ID+KEY]

Each line of the log is one entry in canonical form. This program hashes every line into an RFC 6962 Merkle tree and
compares size and root with the checkpoints: the one beside the log, and any older ones that you kept yourself. A log
that was altered, shortened, re-ordered or written anew cannot have the root of a checkpoint from before.

Checkpoints are signed (Ed25519, C2SP signed-note). Where the key was replaced the log says so, with the old and the new
one, and each checkpoint must be signed with the key that the log had come to by then. Name one key that you were given
elsewhere, the first or any later one: it says whose keys these are. (A log whose key was never replaced names none: its
signatures are checked only with a key that you give. Whoever kept the checkpoints themselves does not depend on that.)
"""

import base64
import hashlib
import json
import sys
from pathlib import Path

FORMAT = "equipoise-audit-1"
LOG, POSITION, ACTION, OLD, NEW = 1, 2, 8, 12, 13
REPLACED = "log_key.replaced"

# Ed25519 (RFC 8032, section 6): the curve -x² + y² = 1 + dx²y² over the integers modulo P, and its base point.
P, Q = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int, int, int]


def add(a: Point, b: Point) -> Point:
    """The sum of two points in extended coordinates."""
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = f - e, h - g, h + g, f + e
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number: int, point: Point) -> Point:
    """A point so many times."""
    total = (0, 1, 1, 0)
    while number:
        if number & 1:
            total = add(total, point)
        point, number = add(point, point), number >> 1
    return total


def point_of(data: bytes) -> Point:
    """The point that 32 bytes stand for; ValueError when there is none."""
    sign, y = data[31] >> 7, int.from_bytes(data, "little") & (1 << 255) - 1
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (x * x - square) % P or (x == 0 and sign):
        raise ValueError("no point of the curve")
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE = point_of((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def is_signed(message: bytes, signature: bytes, key: bytes) -> bool:
    """Whether 64 bytes are the Ed25519 signature of a message by the private half of a 32-byte public key."""
    try:
        public, point = point_of(key), point_of(signature[:32])
    except (ValueError, IndexError):
        return False
    number = int.from_bytes(signature[32:], "little")
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % Q
    left, right = times(number, BASE), add(point, times(challenge, public))
    same = not (left[0] * right[2] - right[0] * left[2]) % P and not (left[1] * right[2] - right[1] * left[2]) % P
    return len(signature) == 64 and len(key) == 32 and number < Q and same


class Checkpoint:
    """A signed note (C2SP tlog-checkpoint): which log, how many entries, their root, and who signed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text, signed = path.read_text(encoding="utf-8").split("\n\n")
        self.message = (text + "\n").encode()
        self.origin, size, root = text.split("\n")
        self.size, self.root = int(size), base64.b64decode(root, validate=True)
        dash, signer, encoded = signed.strip().split(" ")
        self.signature = base64.b64decode(encoded, validate=True)
        if dash != "—" or signer != self.origin:
            raise ValueError("signed with another name")

    def is_signed_with(self, vkey: str) -> bool:
        """Whether this public key, NAME+ID+KEY, is the one that signed."""
        try:
            name, key_id, encoded = vkey.split("+", 2)
            key, named = base64.b64decode(encoded, validate=True), bytes.fromhex(key_id)
        except (ValueError, AttributeError):
            return False
        made = hashlib.sha256(name.encode() + b"\n" + key).digest()[:4]
        ours = name == self.origin and self.signature[:4] == named == made and key[:1] == b"\x01"
        return ours and is_signed(self.message, self.signature[4:], key[1:])


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


def signed_wrongly(point: Checkpoint, keys: list[tuple[int, str]]) -> str | None:
    """What is wrong with a checkpoint's signature; `keys` are those of the log, each with the size it signed first."""
    signs = [vkey for first, vkey in keys if first <= point.size][-1]
    if point.is_signed_with(signs):
        return None
    for number, (_, vkey) in enumerate(keys):
        if point.is_signed_with(vkey):
            if number + 1 < len(keys) and keys[number + 1][0] <= point.size:
                return f"{point.path} is signed with a key that was replaced after {keys[number + 1][0] - 1} entries."
            return f"{point.path} is signed with a key that was announced only later."
    return f"{point.path} is not signed with a key of this log, or was changed."


def verify(log: Path, checkpoints: list[Path], given: list[str]) -> list[str]:
    """Everything that is wrong, in words; nothing when the log is whole."""
    faults: list[str] = []
    points: list[Checkpoint] = []
    for path in checkpoints:
        try:
            points.append(Checkpoint(path))
        except (OSError, ValueError):
            faults.append(f"{path} is not a checkpoint.")
    names = {point.origin.rsplit("/", 1)[-1] for point in points}
    expected: dict[int, list[Checkpoint]] = {}
    for point in points:
        expected.setdefault(point.size, []).append(point)
    keys: list[tuple[int, str]] = []
    tree = Tree()
    with log.open("rb") as lines:
        for number, line in enumerate(lines):
            data = line.removesuffix(b"\n")
            try:
                entry = json.loads(data)
                good = entry[0] == FORMAT and entry[POSITION] == number and (not names or entry[LOG] in names)
                if entry[ACTION] == REPLACED:
                    old, new = json.loads(entry[OLD])["key"], json.loads(entry[NEW])["key"]
                    keys = keys or [(0, old)]
                    good = good and keys[-1][1] == old
                    keys.append((number + 1, new))
            except (ValueError, IndexError, KeyError, TypeError, RecursionError):
                good = False
            if not good:
                faults.append(f"Line {number + 1} is not entry {number} of this log.")
            tree.append(data)
            for point in expected.pop(tree.size, []):
                if point.root != tree.root():
                    faults.append(f"The first {tree.size} entries are not those of {point.path}.")
    for size, kept in expected.items():
        faults += [f"{point.path} has {size} entries, but the log ends after {tree.size}." for point in kept]
    keys = keys or [(0, vkey) for vkey in given[:1]]
    faults += [f"The log never had the key {vkey}." for vkey in given if vkey not in [each for _, each in keys]]
    faults += filter(None, (signed_wrongly(point, keys) for point in points if keys))
    if not faults:
        signed = f"signed with {len(keys)} key(s)" if keys else "signatures not checked, since no key was given"
        print(f"{tree.size} entries, root {tree.root().hex()}, {len(points)} checkpoint(s), {signed}: intact.")
        if keys and not given:
            print("Compare one of the keys with what you were given elsewhere:", *[vkey for _, vkey in keys], sep="\n")
    return faults


def main(arguments: list[str]) -> int:
    """Exit code 0 when everything holds."""
    given = [each for each in arguments if each.count("+") >= 2 and not Path(each).exists()]
    files = [each for each in arguments if each not in given]
    if not files:
        print(__doc__)
        return 2
    log = Path(files[0])
    beside = log.with_name(log.name + ".checkpoint")
    checkpoints = [*([beside] if beside.exists() else []), *map(Path, files[1:])]
    if not checkpoints:
        print("Name at least one checkpoint: without it nothing can be compared.")
        return 2
    faults = verify(log, checkpoints, given)
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
