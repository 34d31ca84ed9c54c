"""Does the Merkle tree accept exactly what RFC 6962 and RFC 9162 accept?"""

import base64
import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit.tree import (
    EMPTY_ROOT,
    Frontier,
    ProofError,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from tests.conformance import conformance_folder

sizes = st.integers(min_value=1, max_value=200)


def hashes(size: int) -> list[bytes]:
    return [leaf_hash(b"entry %d" % number) for number in range(size)]


def recursive_root(leaves: Sequence[bytes]) -> bytes:
    """The definition in RFC 9162 section 2.1.1, word for word and slow."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + recursive_root(leaves[:k]) + recursive_root(leaves[k:])).digest()


def published(name: str) -> Any:
    return json.loads((conformance_folder() / "merkle-testdata" / name).read_text(encoding="utf-8"))


def accepts(check: Callable[[], None]) -> bool:
    try:
        check()
    except ProofError:
        return False
    return True


def decoded(values: Sequence[str] | None) -> list[bytes]:
    return [base64.b64decode(value) for value in values or []]


def flipped(value: bytes, bit: int) -> bytes:
    changed = bytearray(value)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.requirement("LOG-2")
def test_every_published_inclusion_probe_is_judged_as_published() -> None:
    probes = published("inclusion.json")["probes"]
    assert len(probes) == 98
    wrong = []
    for probe in probes:

        def check(probe: Any = probe) -> None:
            verify_inclusion(
                base64.b64decode(probe["leafHash"]),
                index=probe["leafIdx"],
                size=probe["treeSize"],
                proof=decoded(probe["proof"]),
                root=base64.b64decode(probe["root"]),
            )

        if accepts(check) == probe["wantErr"]:
            wrong.append(probe["file"])
    assert wrong == []


@pytest.mark.requirement("LOG-2")
def test_every_published_consistency_probe_is_judged_as_published() -> None:
    probes = published("consistency.json")["probes"]
    assert len(probes) == 98
    wrong = []
    for probe in probes:

        def check(probe: Any = probe) -> None:
            verify_consistency(
                size1=probe["size1"],
                size2=probe["size2"],
                root1=base64.b64decode(probe["root1"]),
                root2=base64.b64decode(probe["root2"]),
                proof=decoded(probe["proof"]),
            )

        if accepts(check) == probe["wantErr"]:
            wrong.append(probe["file"])
    assert wrong == []


@pytest.mark.requirement("LOG-3")
def test_the_eight_classic_leaves_give_the_reference_roots() -> None:
    reference = published("rfc6962_reference_roots.json")
    leaves = [leaf_hash(bytes.fromhex(leaf)) for leaf in reference["leaves_hex"]]
    assert len(leaves) == 8
    for size, root in enumerate(reference["roots_hex_by_size"]):
        assert root_of(leaves[:size]).hex() == root


@pytest.mark.requirement("LOG-1", "LOG-3")
def test_leaf_and_node_hashes_are_the_published_ones() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert leaf_hash(b"L123456").hex() == "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    assert node_hash(b"N123", b"N456").hex() == "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"


@pytest.mark.requirement("LOG-1")
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_two_hashes_cannot_pass_for_an_entry(left: bytes, right: bytes) -> None:
    assert leaf_hash(left + right) != node_hash(left, right)


@pytest.mark.requirement("LOG-3")
@pytest.mark.parametrize("size", range(70))
def test_the_frontier_has_the_root_of_the_definition(size: int) -> None:
    assert root_of(hashes(size)) == recursive_root(hashes(size))


@pytest.mark.requirement("LOG-3")
@given(st.lists(st.binary(max_size=40), max_size=150))
def test_the_frontier_has_the_root_of_the_definition_for_any_entries(entries: list[bytes]) -> None:
    frontier = Frontier()
    leaves = [leaf_hash(entry) for entry in entries]
    for index, leaf in enumerate(leaves):
        assert frontier.append(leaf) == index
    assert frontier.size == len(entries)
    assert frontier.root() == recursive_root(leaves)


@pytest.mark.requirement("LOG-4")
@given(st.integers(min_value=0, max_value=150), st.integers(min_value=0, max_value=50))
def test_a_stored_frontier_goes_on_where_it_stopped(before: int, after: int) -> None:
    leaves = hashes(before + after)
    frontier = Frontier()
    for leaf in leaves[:before]:
        frontier.append(leaf)
    stored = frontier.to_bytes()
    assert len(stored) == 9 + 32 * before.bit_count()
    resumed = Frontier.from_bytes(stored)
    assert resumed == frontier
    for leaf in leaves[before:]:
        resumed.append(leaf)
    assert resumed.root() == recursive_root(leaves)


@pytest.mark.requirement("LOG-1")
def test_the_encoding_of_a_frontier_is_frozen() -> None:
    frontier = Frontier()
    assert frontier.to_bytes().hex() == "01" + "00" * 8
    for leaf in hashes(3):
        frontier.append(leaf)
    pair, third = recursive_root(hashes(2)), hashes(3)[2]
    assert frontier.to_bytes() == bytes.fromhex("010000000000000003") + pair + third
    assert sha256(frontier.to_bytes()).hexdigest() == "94e53dc5e37da8a02539381ced3ad026e7a0e620892faa722f4b0140bf8a6e38"


@pytest.mark.parametrize(
    "encoded",
    [b"", b"\x01", b"\x02" + bytes(8), b"\x01" + bytes(9), b"\x01" + bytes(7) + b"\x01", b"\x01" + bytes(7) + b"\x03x"],
)
def test_a_damaged_frontier_is_refused(encoded: bytes) -> None:
    with pytest.raises(ValueError, match="frontier"):
        Frontier.from_bytes(encoded)


def test_a_frontier_takes_only_hashes() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Frontier().append(b"short")


def test_a_million_entries_need_no_more_than_twenty_hashes() -> None:
    frontier = Frontier.from_bytes(b"\x01" + (2**20 - 1).to_bytes(8, "big") + bytes(32 * 20))
    assert frontier.append(leaf_hash(b"")) == 2**20 - 1
    assert len(frontier.to_bytes()) == 9 + 32


@pytest.mark.requirement("LOG-2")
@pytest.mark.parametrize("size", range(1, 34))
def test_every_proof_of_every_small_tree_verifies_and_only_at_its_own_place(size: int) -> None:
    leaves = hashes(size)
    root = recursive_root(leaves)
    for index in range(size):
        proof = inclusion_proof(leaves, index)
        for claimed in range(size):

            def check(claimed: int = claimed, index: int = index, proof: Sequence[bytes] = proof) -> None:
                verify_inclusion(leaves[index], index=claimed, size=size, proof=proof, root=root)

            assert accepts(check) == (claimed == index)
    for size1 in range(1, size + 1):
        verify_consistency(
            size1=size1,
            size2=size,
            root1=recursive_root(leaves[:size1]),
            root2=root,
            proof=consistency_proof(leaves, size1),
        )


@pytest.mark.requirement("LOG-2")
@given(st.data(), sizes)
def test_one_flipped_bit_never_proves_inclusion(data: st.DataObject, size: int) -> None:
    leaves = hashes(size)
    index = data.draw(st.integers(0, size - 1))
    parts = [leaves[index], root_of(leaves), *inclusion_proof(leaves, index)]
    verify_inclusion(parts[0], index=index, size=size, proof=parts[2:], root=parts[1])
    at, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    parts[at] = flipped(parts[at], bit)
    with pytest.raises(ProofError):
        verify_inclusion(parts[0], index=index, size=size, proof=parts[2:], root=parts[1])


@pytest.mark.requirement("LOG-2")
@given(st.data(), sizes)
def test_one_flipped_bit_never_proves_consistency(data: st.DataObject, size2: int) -> None:
    leaves = hashes(size2)
    size1 = data.draw(st.integers(1, size2))
    parts = [root_of(leaves[:size1]), root_of(leaves), *consistency_proof(leaves, size1)]
    verify_consistency(size1=size1, size2=size2, root1=parts[0], root2=parts[1], proof=parts[2:])
    at, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    parts[at] = flipped(parts[at], bit)
    with pytest.raises(ProofError):
        verify_consistency(size1=size1, size2=size2, root1=parts[0], root2=parts[1], proof=parts[2:])


@pytest.mark.requirement("LOG-5")
@given(st.data(), st.integers(min_value=2, max_value=80))
def test_a_rewritten_history_has_no_consistency_proof(data: st.DataObject, size2: int) -> None:
    leaves = hashes(size2)
    size1 = data.draw(st.integers(1, size2))
    checkpoint = root_of(leaves[:size1])
    rewritten = list(leaves)
    rewritten[data.draw(st.integers(0, size1 - 1))] = leaf_hash(b"rewritten")
    with pytest.raises(ProofError):
        verify_consistency(
            size1=size1,
            size2=size2,
            root1=checkpoint,
            root2=root_of(rewritten),
            proof=consistency_proof(rewritten, size1),
        )


@pytest.mark.requirement("LOG-2")
def test_a_check_against_the_empty_tree_is_an_error() -> None:
    with pytest.raises(ProofError):
        verify_consistency(size1=0, size2=0, root1=EMPTY_ROOT, root2=EMPTY_ROOT, proof=[])
    with pytest.raises(ValueError, match="cannot be shown"):
        consistency_proof(hashes(3), 0)
    with pytest.raises(ValueError, match="cannot be shown"):
        consistency_proof(hashes(3), 4)


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_proof_for_an_entry_outside_the_tree(index: int) -> None:
    with pytest.raises(ValueError, match="no entry"):
        inclusion_proof(hashes(3), index)


def test_missing_conformance_data_skips_here_and_fails_on_ci(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EQUIPOISE_CONFORMANCE", str(tmp_path / "nowhere"))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="nowhere"):
        conformance_folder()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="nowhere"):
        conformance_folder()
    monkeypatch.setenv("EQUIPOISE_CONFORMANCE", str(tmp_path))
    assert conformance_folder() == tmp_path
