"""Do the scripts that are handed out draw our lists again, without any of our code?"""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlmodel import Session

from app.audit.models import AuditEntry
from app.foundation.database import keys_of, table_of
from app.foundation.errors import NotFound, Refused
from app.people.permissions import Role
from app.randomisation.actions import draw, take_script
from app.randomisation.drbg import SEED_BYTES
from app.randomisation.emitted import BlockPlan, python_script, r_script
from app.randomisation.models import Slot, Stratum
from app.randomisation.sealing import Place, unseal_arm, unseal_secrets
from app.randomisation.sequence import draw as draw_again
from tests.randomisation.small import definition
from tests.randomisation.world import NOW, actor, study_of

SEED = bytes(range(7, 7 + SEED_BYTES))
AUDIT, SLOT, STRATUM = table_of(AuditEntry), table_of(Slot), table_of(Stratum)
EQUAL = (("sham", 1), ("active", 1))
PLANS = [
    BlockPlan("resolve", 1, EQUAL, ("all",), 22, (4,)),
    BlockPlan("resolve", 3, EQUAL, ("bern/low", "bern/high"), 9, (6, 4, 8)),
    BlockPlan("prt", 12, (("prt", 2), ("usual", 1), ("placebo", 1)), ("A-1.x",), 11, (8, 4)),
    # So many sizes that a draw among them takes two bytes; with this seed and version the size is a small one.
    BlockPlan("large", 239, EQUAL, ("all",), 1, tuple(range(2, 602, 2))),
    BlockPlan("single", 1, (("b", 1), ("a", 1)), ("all",), 1, (2,)),
]


def expected(plan: BlockPlan, seed: bytes = SEED) -> str:
    drawn = draw_again(
        "permuted_blocks",
        plan.arms,
        plan.strata,
        plan.slots_per_stratum,
        {"block_sizes": list(plan.block_sizes)},
        seed,
        study=plan.study,
        list_version=plan.version,
    )
    lines = [
        f"{stratum},{position},{arm}"
        for stratum in sorted(drawn.slots)
        for position, arm in enumerate(drawn.slots[stratum], start=1)
    ]
    return "\n".join(["stratum,position,arm", *lines, ""])


def run(command: list[str], script: str, folder: Path, typed: str) -> subprocess.CompletedProcess[str]:
    """Run a script in an empty folder, where it can find nothing of ours."""
    file = folder / "script"
    file.write_text(script, encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run(
        [*command, str(file)], input=typed, capture_output=True, text=True, cwd=folder, env=environment, timeout=240
    )


PYTHON = [sys.executable, "-I", "-S"]


def rscript() -> list[str]:
    found = shutil.which("Rscript")
    if found is None:
        pytest.skip("There is no Rscript here; on Debian it is in r-base-core.")
    return [found, "--vanilla"]


@pytest.mark.requirement("RND-10", "RND-14")
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.study}-{plan.version}")
def test_the_script_in_python_draws_our_list(plan: BlockPlan, tmp_path: Path) -> None:
    done = run(PYTHON, python_script(plan), tmp_path, SEED.hex() + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == expected(plan)
    other = run(PYTHON, python_script(plan), tmp_path, SEED[::-1].hex().upper())
    assert other.stdout == expected(plan, SEED[::-1])


@pytest.mark.requirement("RND-10", "RND-14")
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.study}-{plan.version}")
def test_the_script_in_r_draws_our_list(plan: BlockPlan, tmp_path: Path) -> None:
    done = run(rscript(), r_script(plan), tmp_path, SEED.hex() + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == expected(plan)


@pytest.mark.parametrize("typed", ["", "00" * (SEED_BYTES - 1), "zz" * SEED_BYTES, "00" * (SEED_BYTES + 1)])
def test_a_seed_that_was_typed_wrongly_draws_nothing_and_is_said_to_be(typed: str, tmp_path: Path) -> None:
    done = run(PYTHON, python_script(PLANS[0]), tmp_path, typed)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "The seed has 96 hexadecimal digits." in done.stderr


def test_a_seed_that_was_typed_wrongly_is_refused_in_r(tmp_path: Path) -> None:
    done = run(rscript(), r_script(PLANS[0]), tmp_path, "00" * (SEED_BYTES - 1) + "zz\n")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "The seed has 96 hexadecimal digits." in done.stderr


def test_the_script_in_python_imports_the_standard_library_and_nothing_of_ours() -> None:
    tree = ast.parse(python_script(PLANS[0]))
    named = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert named == ["hmac", "sys"]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_the_script_in_r_loads_no_package() -> None:
    assert not [word for word in ("library(", "require(", "::", "source(") if word in r_script(PLANS[0])]


def test_a_printed_plan_shows_no_block_sizes() -> None:
    assert "300" not in repr(PLANS[3])


@pytest.mark.requirement("RND-9", "RND-14", "CONC-4")
def test_the_script_of_a_stored_list_draws_what_is_in_its_envelopes(session: Session, tmp_path: Path) -> None:
    study = study_of(session)
    by = actor(session, study, Role.STATISTICIAN)
    made = draw(session, study, method="permuted_blocks", block_sizes=(2, 4), slots_per_stratum=9, by=by, now=NOW)
    assert made.id is not None
    script = take_script(session, study, made.id, language="python", by=by, now=NOW)
    seed = unseal_secrets(keys_of(session), study.id, 1, made.secrets)["seed"]
    assert seed not in script
    assert seed not in take_script(session, study, made.id, language="r", by=by, now=NOW)
    lines = run(PYTHON, script, tmp_path, seed).stdout.splitlines()[1:]
    rows = session.execute(
        select(SLOT.c.envelope, SLOT.c.position, STRATUM.c.code).join(STRATUM, STRATUM.c.id == SLOT.c.stratum_id)
    ).all()
    keys = keys_of(session)
    kept = {
        f"{row.code},{row.position},"
        + unseal_arm(keys, Place(study.id, made.id, 1, row.code, row.position), bytes(row.envelope))
        for row in rows
    }
    assert set(lines) == kept
    assert len(lines) == made.slots
    actions = [
        row.action
        for row in session.execute(select(AUDIT.c.action).where(AUDIT.c.log == study.code).order_by(AUDIT.c.position))
    ]
    assert actions == ["sequence.drawn", "sequence.script_taken", "sequence.script_taken"]


@pytest.mark.requirement("RND-13")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.STATISTICIAN])
def test_for_everybody_else_there_is_no_script(session: Session, role: Role) -> None:
    study = study_of(session)
    by = actor(session, study, Role.STATISTICIAN)
    made = draw(session, study, method="permuted_blocks", block_sizes=(2, 4), slots_per_stratum=9, by=by, now=NOW)
    assert made.id is not None
    with pytest.raises(NotFound):
        take_script(session, study, made.id, language="r", by=actor(session, study, role, "SYD"), now=NOW)


def test_a_list_of_another_method_has_no_script(session: Session) -> None:
    study = study_of(session, definition(allocation={"method": "simple"}))
    by = actor(session, study, Role.STATISTICIAN)
    made = draw(session, study, method="simple", slots_per_stratum=9, by=by, now=NOW)
    assert made.id is not None
    with pytest.raises(Refused, match="permuted blocks only"):
        take_script(session, study, made.id, language="python", by=by, now=NOW)
