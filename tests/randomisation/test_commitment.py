"""Promise 1 and 3, proven from outside: every allocation is the committed next one, and one flipped bit is found."""

import ast
import contextlib
import copy
import hashlib
import io
import json
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.audit.tree import FullTree, inclusion_proof, leaf_hash, root_of
from app.foundation.database import keys_of
from app.foundation.errors import NotFound, Refused
from app.people.permissions import Role
from app.randomisation import commitment, reads
from app.randomisation.actions import close, draw, open_plan, randomise, seal
from app.randomisation.methods import DECIDING, METHODS
from app.randomisation.models import SequenceStatus
from app.randomisation.reads import SLOT
from app.randomisation.sealing import unseal_secrets
from tests.conftest import KEYS, ROOT
from tests.randomisation.small import ARMS, definition
from tests.randomisation.world import NOW, actor, participant, study_of

SCRIPT = ROOT / "scripts" / "verify_allocation.py"
LISTING = "stratum,position,arm\n" + "".join(
    f"{site},{place},{ARMS[place % 2]['code']}\n" for site in ("SYD", "PER") for place in range(1, 7)
)


@given(st.lists(st.binary(max_size=3), max_size=40))
def test_a_whole_tree_gives_the_roots_and_paths_of_rfc_6962(entries: list[bytes]):
    leaves = [leaf_hash(entry) for entry in entries]
    tree = FullTree(leaves)
    assert tree.root() == root_of(leaves)
    assert tree.size == len(leaves)
    for index in range(len(leaves)):
        assert tree.inclusion_proof(index) == inclusion_proof(leaves, index)


def test_a_path_outside_the_tree_is_an_error():
    with pytest.raises(ValueError, match="no entry 1"):
        FullTree([leaf_hash(b"a")]).inclusion_proof(1)


PARTS = st.text(max_size=4)


@pytest.mark.requirement("LOG-13", "CONC-3")
@given(PARTS, st.integers(1, 99), PARTS, st.integers(1, 999), PARTS)
def test_no_two_slots_have_one_text(study: str, version: int, stratum: str, position: int, arm: str):
    salt = bytes(32)
    leaf = commitment.slot_leaf(study, version, stratum, position, arm, salt)
    moved = [
        commitment.slot_leaf(study + "x", version, stratum, position, arm, salt),
        commitment.slot_leaf(study, version + 1, stratum, position, arm, salt),
        commitment.slot_leaf(study, version, stratum + "x", position, arm, salt),
        commitment.slot_leaf(study, version, stratum, position + 1, arm, salt),
        commitment.slot_leaf(study, version, stratum, position, arm + "x", salt),
        commitment.slot_leaf(study, version, stratum, position, arm, b"\x01" * 32),
        commitment.slot_leaf(study, version, stratum + arm, position, "", salt) if arm else b"",
    ]
    assert leaf not in moved


DRAWN: dict[str, Any] = {
    "permuted_blocks": {"block_sizes": [4, 6]},
    "list": None,
    "simple": None,
    "big_stick": {"tolerance": 2},
    "biased_coin": {"probability": "4/6"},
    "truncated_binomial": None,
    "wei_urn": {"alpha": 0, "beta": 1},
    "maximal_procedure": {"tolerance": 3},
    "cluster": None,
}
WITHOUT_OPTIONS = ("simple", "truncated_binomial", "cluster")


class Walk:
    """A sealed list of two strata, with some people randomised from it."""

    def __init__(self, session: Session, method: str = "permuted_blocks", options: Any = None) -> None:
        self.session = session
        plan = {"method": method, "strata": [{"code": "site", "label": "Site"}]}
        self.study = study_of(session, definition(allocation=plan))
        self.statistician = actor(session, self.study, Role.STATISTICIAN)
        told: dict[str, Any] = {"options": options or {"block_sizes": [4, 6]}, "slots_per_stratum": 9}
        if method == "list":
            told = {"listing": LISTING}
        elif method in WITHOUT_OPTIONS:
            told["options"] = {}
        drawn = draw(session, self.study, method=method, by=self.statistician, now=NOW, **told)
        assert drawn.id is not None
        self.sequence = seal(session, self.study, drawn.id, by=self.statistician, now=NOW)
        self.id = drawn.id
        for number, site in enumerate(("SYD", "PER", "SYD", "SYD", "PER"), start=1):
            self.randomise(number, site)

    def randomise(self, number: int, site: str) -> None:
        coordinator = actor(self.session, self.study, Role.COORDINATOR, site, name=f"c{number}")
        randomise(
            self.session, self.study, participant(self.session, self.study, number, site), by=coordinator, now=NOW
        )

    def proofs(self) -> list[dict[str, Any]]:
        return list(
            reads.proofs(self.session, self.study, self.id, by=self.statistician, why="Audit of the list", now=NOW)
        )

    def certificate(self) -> dict[str, Any]:
        return reads.certificate(self.session, self.study, self.id, by=self.statistician)

    def closed_plan(self) -> dict[str, Any]:
        close(self.session, self.study, self.id, why="The target is reached", by=self.statistician, now=NOW)
        return open_plan(self.session, self.study, self.id, by=self.statistician, now=NOW)


@pytest.fixture
def walk(session: Session) -> Walk:
    return Walk(session)


def _logged(session: Session, action: str) -> list[Any]:
    return list(session.execute(select(ENTRY).where(ENTRY.c.action == action).order_by(ENTRY.c.position)).all())


@pytest.mark.requirement("RND-12", "RND-14")
def test_the_log_says_the_root_before_anybody_is_randomised(walk: Walk):
    (entry,) = _logged(walk.session, "sequence.sealed")
    said = json.loads(entry.new)
    assert said["root"] == walk.sequence.root == walk.certificate()["root"]
    assert said["certificate"] == hashlib.sha256((walk.sequence.certificate or "").encode()).hexdigest()
    first = _logged(walk.session, "participant.randomised")[0]
    assert entry.position < first.position


def test_a_leaf_cannot_be_tried_with_what_the_database_holds(walk: Walk):
    """CONC-3: without its salt, no stored hash is that of a known slot and a guessed arm."""
    stored = {slot.leaf for slot in reads.stored_slots(walk.session, walk.id)}
    held = [bytes(32), *stored, bytes.fromhex(walk.sequence.root or ""), bytes.fromhex(walk.sequence.digest)]
    for slot in reads.stored_slots(walk.session, walk.id):
        for arm in ARMS:
            for salt in held:
                leaf = commitment.slot_leaf("small", 1, slot.stratum, slot.position, str(arm["code"]), salt)
                assert leaf not in stored
    secrets = unseal_secrets(keys_of(walk.session), walk.study.id, 1, walk.sequence.secrets)
    assert len(stored) == walk.sequence.slots
    assert secrets["salt_key"] not in (walk.sequence.certificate or "")


def test_nothing_of_the_order_or_the_seed_is_on_the_certificate(walk: Walk):
    said = walk.certificate()
    assert said["ratio"] == [1, 1]
    assert not [arm for arm in ARMS if str(arm["code"]) in json.dumps(said)]
    assert {"block_sizes", "options", "seed", "salt_key"}.isdisjoint(said)
    assert said["software"]["cryptography"]


@pytest.mark.requirement("E9-2", "CONC-4")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.STATISTICIAN])
def test_for_everybody_else_there_is_no_certificate_no_proof_and_no_plan(walk: Walk, role: Role):
    other = actor(walk.session, walk.study, role, "SYD", name="other")
    for ask in (
        lambda: reads.certificate(walk.session, walk.study, walk.id, by=other),
        lambda: reads.proofs(walk.session, walk.study, walk.id, by=other, why="Curious", now=NOW),
        lambda: close(walk.session, walk.study, walk.id, why="Enough", by=other, now=NOW),
        lambda: open_plan(walk.session, walk.study, walk.id, by=other, now=NOW),
    ):
        with pytest.raises(NotFound):
            ask()


def test_a_proof_opens_the_envelopes_of_those_who_are_randomised_and_no_other(walk: Walk):
    assert [proof["participant"] for proof in walk.proofs()] == ["P-0001", "P-0002", "P-0003", "P-0004", "P-0005"]
    assert [entry.participant for entry in _logged(walk.session, "envelope.opened")] == [
        f"P-000{number}" for number in range(1, 6)
    ]


def test_a_plan_opens_only_once_its_list_is_closed_and_that_is_for_good(walk: Walk):
    with pytest.raises(Refused, match="Close the list first"):
        open_plan(walk.session, walk.study, walk.id, by=walk.statistician, now=NOW)
    plan = walk.closed_plan()
    assert plan["options"] == {"block_sizes": [4, 6]}
    assert commitment.plan_commitment(plan) == walk.certificate()["plan_commitment"]
    assert walk.sequence.status == SequenceStatus.CLOSED
    assert len(_logged(walk.session, "sequence.closed")) == len(_logged(walk.session, "plan.opened")) == 1
    with pytest.raises(Refused, match="Randomisation is not open"):
        walk.randomise(9, "SYD")
    with pytest.raises(Refused, match="in use can be closed"):
        close(walk.session, walk.study, walk.id, why="Again", by=walk.statistician, now=NOW)


def test_a_leaf_that_was_changed_before_sealing_is_found(session: Session):
    study = study_of(session)
    statistician = actor(session, study, Role.STATISTICIAN)
    drawn = draw(
        session, study, method="permuted_blocks", block_sizes=(4,), slots_per_stratum=4, by=statistician, now=NOW
    )
    assert drawn.id is not None
    _without_triggers(session)
    first = session.execute(select(SLOT.c.id).order_by(SLOT.c.id.desc()).limit(1)).scalar_one()
    session.execute(SLOT.update().where(SLOT.c.id == first).values(leaf=bytes(32)))
    with pytest.raises(Refused, match="not as it was drawn"):
        seal(session, study, drawn.id, by=statistician, now=NOW)


def test_a_list_drawn_before_there_were_commitments_is_refused_in_words(session: Session):
    study = study_of(session)
    statistician = actor(session, study, Role.STATISTICIAN)
    drawn = draw(
        session, study, method="permuted_blocks", block_sizes=(4,), slots_per_stratum=4, by=statistician, now=NOW
    )
    assert drawn.id is not None
    _without_triggers(session)
    session.execute(SLOT.update().values(leaf=None))
    drawn.root = drawn.plan_commitment = None
    session.flush()
    with pytest.raises(Refused, match="Discard it and draw a new list"):
        seal(session, study, drawn.id, by=statistician, now=NOW)


def _without_triggers(session: Session) -> None:
    """As somebody with the whole database in their hands could."""
    if session.get_bind().dialect.name == "sqlite":
        names = session.execute(
            text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'slot'")
        ).scalars()
        for name in list(names):
            session.execute(text(f'DROP TRIGGER "{name}"'))
    else:
        session.execute(text("ALTER TABLE slot DISABLE TRIGGER USER"))


# The program that does not import us


def _run(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(SCRIPT), *(str(folder / name) for name in names)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _write(folder: Path, certificate: Any, proofs: list[Any], plan: Any = None) -> None:
    """As whoever bends them would: the last line of the proofs fits to what is above it."""
    lines = [commitment.canonical(proof) for proof in proofs]
    last = {"proofs": hashlib.sha256(b"\n".join(lines)).hexdigest(), "certificate": commitment.fingerprint(certificate)}
    (folder / "certificate").write_bytes(commitment.canonical(certificate))
    (folder / "proofs").write_bytes(b"".join(line + b"\n" for line in (*lines, commitment.canonical(last))))
    if plan is not None:
        (folder / "plan").write_bytes(commitment.canonical(plan))


@pytest.mark.requirement("RND-14", "RND-10")
@pytest.mark.parametrize(("method", "options"), DRAWN.items())
def test_the_verifier_finds_every_allocation_to_be_the_committed_next_one(
    session: Session, tmp_path: Path, method: str, options: Any
):
    walk = Walk(session, method, options)
    _write(tmp_path, walk.certificate(), walk.proofs())
    early = _run(tmp_path, "certificate", "proofs")
    assert early.returncode == 0, early.stdout + early.stderr
    assert "5 allocations, each the committed next one" in early.stdout
    _write(tmp_path, walk.certificate(), walk.proofs(), walk.closed_plan())
    late = _run(tmp_path, "certificate", "proofs", "plan")
    assert late.returncode == 0, late.stdout + late.stderr
    assert ("is not drawn again here" in late.stdout) == (method == "list")


def test_the_verifier_knows_every_method_there_is():
    assert set(DRAWN) == set(METHODS) - set(DECIDING)  # those have a program of their own


@pytest.mark.requirement("CONC-9", "E9-3")
def test_the_verifier_finds_whatever_was_bent(walk: Walk, tmp_path: Path):
    certificate, proofs, plan = walk.certificate(), walk.proofs(), walk.closed_plan()
    other = {"graded_sensorimotor": "sham", "sham": "graded_sensorimotor"}
    checked = 0

    def attacks() -> Iterator[tuple[str, Any, list[Any], Any]]:
        for index in range(len(proofs)):
            for what, value in (
                ("arm", other[proofs[index]["arm"]]),
                ("position", proofs[index]["position"] + 1),
                ("stratum", "PER" if proofs[index]["stratum"] == "SYD" else "SYD"),
                ("participant", proofs[index - 1]["participant"]),
                ("number", proofs[index]["number"] + 7),
                ("allocated_at", "2020-01-01T00:00:00+00:00" if index else "2031-01-01T00:00:00+00:00"),
            ):
                bent = copy.deepcopy(proofs)
                bent[index][what] = value
                yield f"{what} of {index}", certificate, bent, plan
        for first, second in ((0, 1), (2, 3)):
            swapped = list(proofs)
            swapped[first], swapped[second] = swapped[second], swapped[first]
            yield f"{first} and {second} swapped", certificate, swapped, plan
        yield "one left out", certificate, [proofs[0], *proofs[2:]], plan
        yield "the first left out", certificate, proofs[1:], plan
        yield "one twice", certificate, [*proofs, proofs[-1]], plan
        for key, value in (("seed", "00" * 48), ("options", {"block_sizes": [4]}), ("salt_key", "11" * 32)):
            yield f"plan {key}", certificate, proofs, {**plan, key: value}
        forged = {**plan, "seed": "00" * 48}
        blessed = {**certificate, "plan_commitment": commitment.plan_commitment(forged)}
        yield "a plan and a certificate that agree on another seed", blessed, proofs, forged

    for what, said, told, opened in attacks():
        _write(tmp_path, said, told, opened)
        found = _run(tmp_path, "certificate", "proofs", "plan")
        assert found.returncode == 1, f"{what}: {found.stdout}{found.stderr}"
        checked += 1
    assert checked > 30


def every_flip_is_found(verify: Callable[[list[str]], int], names: Sequence[str | Path], *more: str) -> None:
    """One bit in every few bytes of each of these files, whatever stands there: none of them is fine any more."""
    files, checked = [Path(name) for name in names], 0
    arguments = [*map(str, files), *more]
    with contextlib.redirect_stdout(io.StringIO()):
        assert verify(arguments) == 0
        for path in files:
            whole = path.read_bytes()
            for at in range(0, len(whole) * 8, 29):  # of no period with a byte: every bit of a byte has its turn
                bent = bytearray(whole)
                bent[at // 8] ^= 1 << at % 8
                path.write_bytes(bytes(bent))
                assert verify(arguments) in (1, 2), (path.name, at, whole[max(0, at // 8 - 30) : at // 8 + 1])
                checked += 1
            path.write_bytes(whole)
            path.write_bytes(whole[: len(whole) // 2])
            assert verify(arguments) in (1, 2), path.name
            path.write_bytes(whole)
    assert checked > 500


@pytest.mark.parametrize("method", ["permuted_blocks", "maximal_procedure", "list"])
def test_the_verifier_finds_one_flipped_bit_anywhere(session: Session, tmp_path: Path, method: str):
    """Whoever, when and by whom as well, of which no slot says anything: the last line of the proofs is of all."""
    walk = Walk(session, method, DRAWN[method])
    _write(tmp_path, walk.certificate(), walk.proofs(), walk.closed_plan())
    names = [tmp_path / name for name in ("certificate", "proofs", "plan")]
    every_flip_is_found(runpy.run_path(str(SCRIPT))["main"], names)


def test_proofs_that_end_too_early_or_are_of_another_certificate_are_found(walk: Walk, tmp_path: Path):
    """Somebody left out at the end leaves no gap; who sealed a list is in no slot: the last line is of them, too."""
    said: dict[str, Any] = {"by": walk.statistician, "why": "Audit", "now": NOW}
    lines = reads.proofs_file(walk.session, walk.study, walk.id, **said)
    (tmp_path / "certificate").write_bytes(commitment.canonical(walk.certificate()))
    for kept, code in ((lines, 0), (lines[:-2] + lines[-1:], 1), (lines[:-1], 1)):
        (tmp_path / "proofs").write_bytes(b"".join(kept))
        assert _run(tmp_path, "certificate", "proofs").returncode == code, len(kept)
    (tmp_path / "proofs").write_bytes(b"".join(lines))
    (tmp_path / "certificate").write_bytes(commitment.canonical({**walk.certificate(), "sealed_by": "somebody else"}))
    assert "as their last line should say" in _run(tmp_path, "certificate", "proofs").stdout
    sealed = json.loads(_logged(walk.session, "sequence.sealed")[0].new)
    assert json.loads(lines[-1])["certificate"] == sealed["certificate"]  # and the log says the same


@pytest.mark.requirement("RND-14")
def test_the_verifier_is_short_and_imports_the_standard_library_only():
    source = SCRIPT.read_text()
    assert len(source.splitlines()) < 300
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert all(name.split(".")[0] in sys.stdlib_module_names for name in names)


@pytest.mark.requirement("CON-17a", "RND-10")
def test_the_certificate_says_who_generated_the_sequence_how_and_when(walk: Walk):
    said = walk.certificate()
    assert (said["method"], said["ratio"], said["protocol_version"]) == ("permuted_blocks", [1, 1], "1")
    assert said["generator"] == "HMAC_DRBG with SHA-256, NIST SP 800-90A Rev. 1"
    assert set(said["software"]) == {"python", "equipoise", "cryptography", "sqlalchemy", "fastapi"}
    assert said["software"]["cryptography"] == version("cryptography")
    assert {said["drawn_by"], said["sealed_by"]} == {walk.statistician.username}
    assert {said["drawn_at"], said["sealed_at"]} == {NOW.isoformat()}
    assert (said["root"], said["envelopes"]) == (walk.sequence.root, walk.sequence.digest)
    assert sum(said["strata"].values()) == said["slots"]
    assert said["key"] == KEYS.fingerprint
    (sealed,) = _logged(walk.session, "sequence.sealed")
    assert (sealed.username, sealed.role) == (walk.statistician.username, "statistician")
