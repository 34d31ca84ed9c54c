"""Where do tests keep what nobody needs afterwards? In memory, where a machine has plenty: no disk is waited for then.

A process that is killed loses nothing of it, as on a disk; only what outlives a power cut needs one, and no test can
cut the power. PostgreSQL with its durability switched on is kept on the disk all the same (`tests.postgres`).
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path("/dev/shm")
RUN: Path | None = None  # the folder of this run, as soon as there is one
NEEDED = 6 * 2**30  # bytes; a whole run leaves about a tenth of it


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder of one's own until the block ends: in memory where a whole run fits in and leaves as much, else not."""
    roomy = _is_roomy()
    if roomy:
        _sweep()
    made = Path(tempfile.mkdtemp(prefix=f"eqp-{os.getpid()}-", dir=FOLDER if roomy else None))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def data() -> Path:
    """A folder for the data of one application; it goes with the run."""
    return Path(tempfile.mkdtemp(prefix="equipoise-", dir=RUN))


def _is_roomy() -> bool:
    if not FOLDER.is_dir() or not os.access(FOLDER, os.W_OK):
        return False
    return min(shutil.disk_usage(FOLDER).free, _available(), _allowed()) > NEEDED


def _available() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)


def _allowed() -> int:
    """What this group of processes may take: a container may be given less than its machine has."""
    limit = Path("/sys/fs/cgroup/memory.max")
    said = limit.read_text(encoding="ascii").strip() if limit.exists() else "max"
    return NEEDED * 2 if said == "max" else int(said)


def _sweep() -> None:
    """Take away what runs left behind that were killed."""
    for left in FOLDER.glob("eqp-*-*"):
        if not Path("/proc", left.name.split("-")[1]).exists():
            shutil.rmtree(left, ignore_errors=True)
