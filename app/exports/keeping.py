"""Where is a file that was made for later? In the data folder, sealed piece by piece, for a few days."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from app.foundation.crypto import envelopes
from app.foundation.crypto.keys import Keyring

PIECE = 1024 * 1024
SEALED = envelopes.NONCE + envelopes.LENGTH + PIECE + 16
"""Bytes of a sealed piece: each is as long as every other, so that any of them is found at once."""


class Kept:
    """The sealed file of one export, as one attempt made it."""

    def __init__(self, folder: Path, keys: Keyring, run: int, attempt: int) -> None:
        self.path = folder / f"export-{run}-{attempt}.sealed"
        self._key = keys.derive(f"export file|{run}|{attempt}")
        self._place = ("export", run, attempt)

    def write(self, pieces: Iterable[bytes]) -> int:
        """Write the file whole, or leave none; gives its bytes."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        waiting, size, number = bytearray(), 0, 0
        try:
            with part.open("wb") as file:
                part.chmod(0o600)
                for piece in pieces:
                    waiting += piece
                    size += len(piece)
                    while len(waiting) >= PIECE:
                        file.write(self._sealed(bytes(waiting[:PIECE]), number))
                        del waiting[:PIECE]
                        number += 1
                if waiting:
                    file.write(self._sealed(bytes(waiting), number))
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)
        return size

    def _sealed(self, piece: bytes, number: int) -> bytes:
        return envelopes.seal(self._key, piece, bound_to=(*self._place, number), size=PIECE)

    @property
    def is_there(self) -> bool:
        """Whether the file can be read here."""
        return self.path.exists()

    def read(self, first: int, last: int) -> Iterator[bytes]:
        """The bytes from the first to the last, both included; CannotOpen when somebody changed the file."""
        with self.path.open("rb") as file:
            for number in range(first // PIECE, last // PIECE + 1):
                file.seek(number * SEALED)
                piece = envelopes.open_sealed(self._key, file.read(SEALED), bound_to=(*self._place, number))
                begins = number * PIECE
                yield piece[max(first - begins, 0) : last + 1 - begins]

    def remove(self) -> None:
        """Take the file away."""
        self.path.unlink(missing_ok=True)
