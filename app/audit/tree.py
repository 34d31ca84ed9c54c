"""Is this log the one we saw before, and is this entry in it? A Merkle tree over bytes (RFC 6962, RFC 9162).

    leaf hash  = SHA-256(0x00 ‖ data)                 RFC 9162 section 2.1.1
    node hash  = SHA-256(0x01 ‖ left ‖ right)         RFC 9162 section 2.1.1
    empty root = SHA-256("")                          RFC 9162 section 2.1.1
    a tree of n > 1 leaves splits at the largest power of two smaller than n

The two prefixes keep leaves and nodes apart: nobody can pass off two hashes as an entry. Everything here is pure.
Hashes are always 32 bytes, and any other length is a `ValueError`.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

_ENCODING = 1
_HEADER_BYTES = 9


class ProofError(ValueError):
    """A proof that does not prove what it claims; the message says where it fails."""


def leaf_hash(data: bytes) -> bytes:
    """The 32-byte hash of one entry, SHA-256(0x00 ‖ data); RFC 9162 section 2.1.1."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The 32-byte hash of two 32-byte subtree hashes, SHA-256(0x01 ‖ left ‖ right); RFC 9162 section 2.1.1."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: all that is needed to append an entry, without reading an older one.

    It keeps the roots of the perfect subtrees that the tree falls apart into, largest (leftmost) first: one for every 1
    in the binary notation of `size`. Memory and the cost of `append` and `root` are O(log size).
    """

    __slots__ = ("_edge", "_size")

    def __init__(self) -> None:
        self._size = 0
        self._edge: list[bytes] = []

    @property
    def size(self) -> int:
        """How many entries the tree holds; also the index the next entry will get."""
        return self._size

    def append(self, leaf_hash: bytes) -> int:
        """Add one leaf hash on the right and return its index, counted from 0. `ValueError` unless it is 32 bytes."""
        carried = _checked(leaf_hash)
        index = self._size
        # Adding one to `size` carries over every trailing 1; each carry is a pair of equal subtrees that becomes one.
        ones = index
        while ones & 1:
            carried = node_hash(self._edge.pop(), carried)
            ones >>= 1
        self._edge.append(carried)
        self._size = index + 1
        return index

    def root(self) -> bytes:
        """The 32-byte root of everything appended so far (RFC 9162 section 2.1.1); `EMPTY_ROOT` when there is none."""
        if not self._edge:
            return EMPTY_ROOT
        root = self._edge[-1]
        for left in reversed(self._edge[:-1]):
            root = node_hash(left, root)
        return root

    def to_bytes(self) -> bytes:
        """The frontier as bytes, in a fixed encoding that may be stored and compared.

        One byte 0x01 (the version of this encoding), `size` as 8 bytes big-endian, then the 32-byte subtree roots,
        largest subtree first. The length is 9 + 32 × (number of ones in the binary notation of `size`).
        """
        return bytes([_ENCODING]) + self._size.to_bytes(8, "big") + b"".join(self._edge)

    @classmethod
    def from_bytes(cls, encoded: bytes) -> "Frontier":
        """The frontier that `to_bytes` wrote. `ValueError` for another version or a length that does not fit."""
        if len(encoded) < _HEADER_BYTES or encoded[0] != _ENCODING:
            raise ValueError("This is not a frontier in encoding 1.")
        size = int.from_bytes(encoded[1:_HEADER_BYTES], "big")
        if len(encoded) != _HEADER_BYTES + HASH_BYTES * size.bit_count():
            raise ValueError(f"A frontier of {size} entries holds {size.bit_count()} hashes; this one does not.")
        frontier = cls()
        frontier._size = size
        frontier._edge = [encoded[at : at + HASH_BYTES] for at in range(_HEADER_BYTES, len(encoded), HASH_BYTES)]
        return frontier

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frontier) and self.to_bytes() == other.to_bytes()

    # It grows, so it must not be a dictionary key.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Frontier(size={self._size}, root={self.root().hex()})"


class FullTree:
    """A whole tree in memory, for many proofs from one reading: O(n) hashes kept, O(log n) for each proof."""

    __slots__ = ("_levels",)

    def __init__(self, leaf_hashes: Iterable[bytes]) -> None:
        """Hash every level once. `ValueError` unless every leaf hash has 32 bytes."""
        self._levels = [[_checked(each) for each in leaf_hashes]]
        while len(below := self._levels[-1]) > 1:
            above = [node_hash(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)]
            # An odd one out is a subtree of its own and goes up as it is.
            self._levels.append([*above, *below[len(above) * 2 :]])

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return len(self._levels[0])

    def root(self) -> bytes:
        """As `root_of` says it."""
        return self._levels[-1][0] if self.size else EMPTY_ROOT

    def inclusion_proof(self, index: int) -> tuple[bytes, ...]:
        """As `inclusion_proof` says it, for the leaf at `index`, counted from 0; `ValueError` outside the tree."""
        if not 0 <= index < self.size:
            raise ValueError(f"There is no entry {index} in a tree of {self.size}.")
        proof = []
        for level in self._levels[:-1]:
            if index ^ 1 < len(level):
                proof.append(level[index ^ 1])
            index >>= 1
        return tuple(proof)


def root_of(leaf_hashes: Iterable[bytes]) -> bytes:
    """The root over leaf hashes in order, read once and in O(log n) memory; `EMPTY_ROOT` for none (RFC 9162 2.1.1)."""
    frontier = Frontier()
    for each in leaf_hashes:
        frontier.append(each)
    return frontier.root()


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The sibling hashes, nearest first, that lead from leaf `index` to the root (RFC 9162 section 2.1.3.1).

    `index` counts from 0; outside the tree is a `ValueError`. Reads every leaf hash once; O(log n) memory.
    """
    size = len(leaf_hashes)
    if not 0 <= index < size:
        raise ValueError(f"There is no entry {index} in a tree of {size}.")
    first, last = 0, size
    downwards: list[bytes] = []
    while last - first > 1:
        middle = first + _split(last - first)
        if index < middle:
            downwards.append(_root_between(leaf_hashes, middle, last))
            last = middle
        else:
            downwards.append(_root_between(leaf_hashes, first, middle))
            first = middle
    return tuple(reversed(downwards))


def consistency_proof(leaf_hashes: Sequence[bytes], size1: int) -> tuple[bytes, ...]:
    """The hashes that show the tree of all `leaf_hashes` to extend its first `size1` (RFC 9162 section 2.1.4.1).

    Empty when `size1` is the whole tree. `ValueError` unless 1 <= size1 <= len(leaf_hashes): everything extends the
    empty tree, so such a proof would say nothing.
    """
    size2 = len(leaf_hashes)
    if not 1 <= size1 <= size2:
        raise ValueError(f"A tree of {size2} cannot be shown to extend a tree of {size1}.")
    first, last = 0, size2
    downwards: list[bytes] = []
    while size1 != last:
        middle = first + _split(last - first)
        if size1 <= middle:
            downwards.append(_root_between(leaf_hashes, middle, last))
            last = middle
        else:
            downwards.append(_root_between(leaf_hashes, first, middle))
            first = middle
    # At the left edge the subtree is the old tree itself, whose root the verifier already holds.
    if first != 0:
        downwards.append(_root_between(leaf_hashes, first, last))
    return tuple(reversed(downwards))


def verify_inclusion(leaf_hash: bytes, *, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Return when `leaf_hash` is entry `index` of the tree of `size` entries with `root`; else raise `ProofError`.

    The algorithm of RFC 9162 section 2.1.3.2. Nothing is assumed about where the arguments come from.
    """
    if not 0 <= index < size:
        raise ProofError(f"There is no entry {index} in a tree of {size}.")
    _require_hashes(leaf_hash, root, *proof)
    fn, sn = index, size - 1
    reached = leaf_hash
    for sibling in proof:
        if sn == 0:
            raise ProofError("The proof is too long for a tree of this size.")
        if fn & 1 or fn == sn:
            reached = node_hash(sibling, reached)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            reached = node_hash(reached, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise ProofError("The proof is too short for a tree of this size.")
    if reached != root:
        raise ProofError("The proof leads to another root.")


def verify_consistency(*, size1: int, size2: int, root1: bytes, root2: bytes, proof: Sequence[bytes]) -> None:
    """Return when the tree (`size2`, `root2`) extends the tree (`size1`, `root1`); else raise `ProofError`.

    The algorithm of RFC 9162 section 2.1.4.2. `size1` = 0 is refused even when the sizes are equal: a check against
    nothing must not look like a check. Equal sizes need equal roots and an empty proof.
    """
    if not 1 <= size1 <= size2:
        raise ProofError(f"A tree of {size2} cannot be shown to extend a tree of {size1}.")
    if size1 == size2:
        # Nothing is hashed here: two roots are compared, whatever they are (a published probe has 12-byte ones).
        if proof:
            raise ProofError("Trees of one size need no proof; this one has hashes.")
        if root1 != root2:
            raise ProofError("Two trees of one size have different roots.")
        return
    _require_hashes(root1, root2, *proof)
    # The root of a perfect old tree is not sent, because the verifier has it.
    path = (root1, *proof) if size1 & (size1 - 1) == 0 else tuple(proof)
    if not path:
        raise ProofError("The proof is too short for trees of these sizes.")
    fn, sn = size1 - 1, size2 - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    reached1 = reached2 = path[0]
    for sibling in path[1:]:
        if sn == 0:
            raise ProofError("The proof is too long for trees of these sizes.")
        if fn & 1 or fn == sn:
            reached1 = node_hash(sibling, reached1)
            reached2 = node_hash(sibling, reached2)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            reached2 = node_hash(reached2, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise ProofError("The proof is too short for trees of these sizes.")
    if reached1 != root1:
        raise ProofError("The proof leads to another root of the old tree.")
    if reached2 != root2:
        raise ProofError("The proof leads to another root of the new tree.")


def _split(size: int) -> int:
    # The largest power of two smaller than `size`, for size > 1.
    return 1 << (size - 1).bit_length() - 1


def _root_between(leaf_hashes: Sequence[bytes], first: int, last: int) -> bytes:
    return root_of(leaf_hashes[at] for at in range(first, last))


def _checked(value: bytes) -> bytes:
    if len(value) != HASH_BYTES:
        raise ValueError(f"A hash has {HASH_BYTES} bytes, not {len(value)}.")
    return value


def _require_hashes(*values: bytes) -> None:
    if any(len(value) != HASH_BYTES for value in values):
        raise ProofError(f"Every hash has {HASH_BYTES} bytes; one here has not.")
