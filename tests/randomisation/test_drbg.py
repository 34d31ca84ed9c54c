"""Are the numbers the standard's, and are the draws fair?"""

import ast
import json
from collections import Counter
from collections.abc import Callable
from itertools import product
from math import factorial, prod
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.randomisation.drbg import MOST_BYTES_PER_REQUEST, MOST_REQUESTS, SEED_BYTES, HmacDrbg, Stream
from tests.conformance import REPOSITORY, conformance_folder

SEED = bytes(range(SEED_BYTES))
SEALED_ROOM = REPOSITORY / "app" / "randomisation"
PURE = ["drbg.py", "sequence.py", "predictability.py", "methods/*.py"]


class RejectedError(Exception):
    """The draw asked for a second helping."""


def giving(helpings: list[bytes]) -> Callable[[int], bytes]:
    """A source that hands out these bytes and then stops."""
    waiting = list(reversed(helpings))

    def source(length: int) -> bytes:
        if not waiting:
            raise RejectedError
        helping = waiting.pop()
        assert len(helping) == length
        return helping

    return source


class Scripted(Stream):
    """A stream whose draws are given, to walk through every outcome."""

    def __init__(self, draws: tuple[int, ...]) -> None:
        super().__init__(giving([]))
        self.waiting = list(reversed(draws))

    def below(self, n: int) -> int:
        drawn = self.waiting.pop()
        assert 0 <= drawn < n
        return drawn


@pytest.mark.requirement("RND-8")
def test_all_240_published_vectors_come_out() -> None:
    path = conformance_folder() / "drbg" / "hmac_drbg_sha256_no_reseed.json"
    vectors = json.loads(path.read_text(encoding="utf-8"))["vectors"]
    assert len(vectors) == 240
    for vector in vectors:
        generator = HmacDrbg(
            bytes.fromhex(vector["entropy"]),
            nonce=bytes.fromhex(vector["nonce"]),
            personalisation=bytes.fromhex(vector["personalization"]),
        )
        expected = bytes.fromhex(vector["returned"])
        first, second = (bytes.fromhex(additional) for additional in vector["additional"])
        generator.generate(len(expected), first)
        assert generator.generate(len(expected), second) == expected


@pytest.mark.requirement("RND-8", "RND-10")
def test_the_generator_is_frozen() -> None:
    generator = HmacDrbg(SEED, personalisation=b"RESOLVE")
    assert (
        generator.generate(40).hex()
        == "e15082ec3d269d2b52200e33f1d148d8a454412c367bba2a37c17391351aabb54467f01c1a904b11"
    )
    assert generator.generate(7, b"more").hex() == "1c3b3730b0d914"


@pytest.mark.requirement("RND-10", "RND-11")
def test_the_draws_are_frozen() -> None:
    stream = Stream.from_seed(SEED, personalisation=b"RESOLVE")
    assert [stream.below(n) for n in (2, 3, 6, 7, 100, 257, 70_000, 2**64 + 1)] == [
        1,
        2,
        4,
        6,
        49,
        216,
        55104,
        14848262081902648095,
    ]
    assert stream.shuffle("ABCDEFGHIJ") == tuple("HFGDABCJIE")
    assert [stream.choose((4, 6, 8)) for _ in range(12)] == [8, 8, 4, 4, 4, 8, 4, 8, 4, 8, 4, 6]


@pytest.mark.requirement("RND-9")
@pytest.mark.parametrize(("entropy", "nonce"), [(b"", b""), (bytes(31), bytes(17)), (bytes(32), bytes(15))])
def test_too_little_entropy_is_refused(entropy: bytes, nonce: bytes) -> None:
    with pytest.raises(ValueError, match="entropy"):
        HmacDrbg(entropy, nonce=nonce)


@pytest.mark.requirement("RND-9")
@pytest.mark.parametrize("length", [0, 32, 47, 49])
def test_a_seed_has_one_length(length: int) -> None:
    with pytest.raises(ValueError, match="48 bytes"):
        Stream.from_seed(bytes(length), personalisation=b"")


@pytest.mark.requirement("RND-9")
def test_a_printed_generator_does_not_show_its_state() -> None:
    generator = HmacDrbg(SEED)
    for shown in (repr(generator), repr(Stream(generator.generate))):
        assert "\\x" not in shown
        assert SEED.hex() not in shown


@pytest.mark.requirement("RND-8")
def test_the_limits_of_the_standard_hold() -> None:
    generator = HmacDrbg(SEED)
    assert len(generator.generate(MOST_BYTES_PER_REQUEST)) == 65_536
    assert generator.generate(0) == b""
    for length in (-1, MOST_BYTES_PER_REQUEST + 1):
        with pytest.raises(ValueError, match="bytes"):
            generator.generate(length)
    generator._requests = MOST_REQUESTS
    with pytest.raises(RuntimeError, match="requests"):
        generator.generate(1)


@pytest.mark.requirement("RND-11")
@pytest.mark.parametrize("n", range(2, 257))
def test_every_number_below_n_has_the_same_number_of_bytes(n: int) -> None:
    seen: Counter[int] = Counter()
    for byte in range(256):
        try:
            seen[Stream(giving([bytes([byte])])).below(n)] += 1
        except RejectedError:
            continue
    assert sorted(seen) == list(range(n))
    assert len(set(seen.values())) == 1
    # Never more than half is thrown away.
    assert sum(seen.values()) > 128


@pytest.mark.requirement("RND-11")
@pytest.mark.parametrize("n", [257, 300, 513, 1000, 4097, 65_535, 65_536])
def test_every_number_below_n_has_the_same_number_of_byte_pairs(n: int) -> None:
    seen: Counter[int] = Counter()
    for pair in range(1 << 16):
        try:
            seen[Stream(giving([pair.to_bytes(2, "big")])).below(n)] += 1
        except RejectedError:
            continue
    assert len(seen) == n
    assert len(set(seen.values())) == 1


@pytest.mark.requirement("RND-11")
def test_a_rejected_number_is_drawn_anew_and_not_wrapped_round() -> None:
    # 6 and 7 are not below 6; a remainder would have made them 0 and 1.
    assert Stream(giving([b"\x06", b"\xff", b"\x05"])).below(6) == 5


def test_one_number_needs_no_bytes_and_no_number_is_an_error() -> None:
    stream = Stream(giving([]))
    assert stream.below(1) == 0
    assert stream.choose(["only"]) == "only"
    assert stream.shuffle([]) == ()
    assert stream.shuffle(["only"]) == ("only",)
    for n in (0, -1):
        with pytest.raises(ValueError, match="no number"):
            stream.below(n)
    with pytest.raises(ValueError, match="no number"):
        stream.choose([])


@pytest.mark.requirement("RND-11")
@pytest.mark.parametrize("size", range(2, 7))
def test_the_draws_of_a_shuffle_and_the_orders_are_one_to_one(size: int) -> None:
    bounds = range(size, 1, -1)
    assert prod(bounds) == factorial(size)
    orders = {Scripted(draws).shuffle(range(size)) for draws in product(*(range(bound) for bound in bounds))}
    assert len(orders) == factorial(size)


@pytest.mark.requirement("RND-11")
def test_the_shuffle_goes_from_the_end() -> None:
    # i = 3: exchange with 0; i = 2: exchange with 0; i = 1: stay.
    assert Scripted((0, 0, 1)).shuffle("ABCD") == ("C", "B", "D", "A")


@given(st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES), st.integers(min_value=1, max_value=2**130))
def test_a_draw_is_always_in_its_range(seed: bytes, n: int) -> None:
    assert 0 <= Stream.from_seed(seed, personalisation=b"").below(n) < n


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def weak_sources(source: str) -> set[str]:
    tree = ast.parse(source)
    weak = {name for name in imported(tree) if name.split(".")[0] == "random" or name.startswith("numpy")}
    weak |= {
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"__import__", "import_module", "importlib.import_module"}
    }
    return weak


@pytest.mark.requirement("RND-8")
def test_nothing_in_the_sealed_room_imports_a_weak_generator() -> None:
    files = sorted(SEALED_ROOM.rglob("*.py"))
    assert SEALED_ROOM / "drbg.py" in files
    # Simulated trials are not lists: the import rules keep every list, and the drawing of one, from knowing of them.
    files.remove(SEALED_ROOM / "simulation.py")
    assert {str(file): weak for file in files if (weak := weak_sources(file.read_text(encoding="utf-8")))} == {}


@pytest.mark.requirement("RND-8")
@pytest.mark.parametrize(
    "line",
    [
        "import random",
        "from random import shuffle",
        "import numpy.random as r",
        "from numpy import random",
        "import numpy as np",
        "__import__('random')",
    ],
)
def test_the_lint_for_weak_generators_finds_them(line: str) -> None:
    assert weak_sources(line)


@pytest.mark.requirement("RND-10")
def test_the_pure_files_import_nothing_that_differs_between_machines() -> None:
    allowed = {"ast", "collections", "csv", "dataclasses", "fractions", "functools", "hmac", "io", "itertools", "math"}
    allowed |= {"re", "types", "typing", "app"}
    files: list[Path] = [file for pattern in PURE for file in SEALED_ROOM.glob(pattern)]
    for file in files:
        names = imported(ast.parse(file.read_text(encoding="utf-8")))
        assert {name.split(".")[0] for name in names} <= allowed, file
        assert all(name.startswith("app.randomisation") for name in names if name.startswith("app")), file
