"""Which number comes next? HMAC_DRBG with SHA-256 (NIST SP 800-90A Rev. 1, section 10.1.2), and fair draws from it.

The generator is deterministic: the same seed gives the same numbers on any machine, so that after the trial anybody can
draw a published list again. Only the seed is secret and only the seed is random; it comes from the operating system,
elsewhere, once. There is no reseeding, because a reseeded list could not be drawn again.

How numbers become draws is part of the definition of a list and must never change:

- `below(n)`: b is the number of bits of n - 1. Ask the generator for ceil(b / 8) bytes, read them as a big-endian
  number, keep its lowest b bits, and ask again while the result is n or more. n = 1 asks for nothing.
- `shuffle`: Fisher-Yates from the end: for i = n - 1 down to 1, j = below(i + 1), exchange items i and j.
- `choose`: the item at below(number of items).

Each request is one Generate call of its own, with no additional input; bytes left over are not kept.
"""

import hmac
from collections.abc import Callable, Sequence
from typing import TypeVar

SEED_BYTES = 48
"""256 bits of entropy and 128 bits of nonce, the least SP 800-90A asks for at security strength 256 (section 8.6.7)."""

MOST_BYTES_PER_REQUEST = 1 << 16
MOST_REQUESTS = 1 << 48

Item = TypeVar("Item")


class HmacDrbg:
    """HMAC_DRBG with SHA-256, security strength 256 bits, without reseeding or prediction resistance."""

    __slots__ = ("_key", "_requests", "_value")

    def __init__(self, entropy: bytes, *, nonce: bytes = b"", personalisation: bytes = b"") -> None:
        """Instantiate (SP 800-90A section 10.1.2.3) from `entropy` ‖ `nonce` ‖ `personalisation`.

        `ValueError` unless entropy has at least 32 bytes, and entropy and nonce together at least 48 (section 8.6.7).
        """
        if len(entropy) < 32 or len(entropy) + len(nonce) < SEED_BYTES:
            raise ValueError(
                f"The generator needs at least 32 bytes of entropy, and {SEED_BYTES} bytes together with its nonce."
            )
        self._key = bytes(32)
        self._value = b"\x01" * 32
        self._requests = 0
        self._update(entropy + nonce + personalisation)

    def generate(self, length: int, additional: bytes = b"") -> bytes:
        """The next `length` bytes (SP 800-90A section 10.1.2.5), after mixing in `additional` input if there is any.

        `ValueError` unless 0 <= length <= 65 536 (2^19 bits, table 2); `RuntimeError` after 2^48 requests.
        """
        if not 0 <= length <= MOST_BYTES_PER_REQUEST:
            raise ValueError(f"One request gives 0 to {MOST_BYTES_PER_REQUEST} bytes, not {length}.")
        if self._requests >= MOST_REQUESTS:
            raise RuntimeError("The generator has served all the requests that one seed allows.")
        if additional:
            self._update(additional)
        produced = bytearray()
        while len(produced) < length:
            self._value = hmac.digest(self._key, self._value, "sha256")
            produced += self._value
        self._update(additional)
        self._requests += 1
        return bytes(produced[:length])

    def _update(self, provided: bytes) -> None:
        # HMAC_DRBG_Update, SP 800-90A section 10.1.2.2.
        self._key = hmac.digest(self._key, self._value + b"\x00" + provided, "sha256")
        self._value = hmac.digest(self._key, self._value, "sha256")
        if provided:
            self._key = hmac.digest(self._key, self._value + b"\x01" + provided, "sha256")
            self._value = hmac.digest(self._key, self._value, "sha256")


class Stream:
    """Fair draws from a source of bytes. `source(k)` must return k fresh bytes, every value equally likely."""

    __slots__ = ("_source",)

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source = source

    @classmethod
    def from_seed(cls, seed: bytes, *, personalisation: bytes) -> "Stream":
        """The stream of an HMAC_DRBG. `ValueError` unless `seed` has `SEED_BYTES` bytes.

        The length is fixed because seed and personalisation are hashed as one string: with a free length, two pairs
        could share a stream.
        """
        if len(seed) != SEED_BYTES:
            raise ValueError(f"A seed has {SEED_BYTES} bytes.")
        return cls(HmacDrbg(seed, personalisation=personalisation).generate)

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1, all exactly equally likely, by rejection. `ValueError` for n < 1."""
        if n < 1:
            raise ValueError(f"There is no number from 0 to {n - 1}.")
        bits = (n - 1).bit_length()
        if bits == 0:
            return 0
        while True:
            drawn = int.from_bytes(self._source((bits + 7) // 8), "big") & ((1 << bits) - 1)
            # Rejecting instead of taking a remainder: a remainder would favour the small numbers.
            if drawn < n:
                return drawn

    def shuffle(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """The items in a random order, all n! orders equally likely: Fisher-Yates from the end (Knuth, algorithm P)."""
        order = list(items)
        for i in range(len(order) - 1, 0, -1):
            j = self.below(i + 1)
            order[i], order[j] = order[j], order[i]
        return tuple(order)

    def choose(self, items: Sequence[Item]) -> Item:
        """One of the items, all equally likely. `ValueError` when there is none."""
        return items[self.below(len(items))]
