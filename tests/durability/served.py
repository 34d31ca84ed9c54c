"""One server process on a socket that it is given, for tests; without a lock, where a test wants to see it missed.

    python -m tests.durability.served FILE_DESCRIPTOR [MUTANT ...]

The mutants live here and nowhere in the application: a switch that takes a lock out must not exist.
"""

import socket
import sys
from collections.abc import Callable
from typing import Any

import uvicorn
from sqlalchemy import Engine, event
from sqlalchemy.dialects import postgresql


def without_the_row_lock() -> None:
    """Whoever takes a slot reads its stratum without holding it (PostgreSQL)."""
    from app.randomisation import reads

    def unlocked(statement: Any) -> Any:
        free = statement._generate()
        free._for_update_arg = None
        assert "FOR UPDATE" in str(statement.compile(dialect=postgresql.dialect()))
        assert "FOR UPDATE" not in str(free.compile(dialect=postgresql.dialect()))
        return free

    reads._HELD = {first: unlocked(statement) for first, statement in reads._HELD.items()}


def without_immediate() -> None:
    """A transaction that will write begins as one that reads: nobody holds the lock while they decide (SQLite)."""

    @event.listens_for(Engine, "before_cursor_execute", retval=True)
    def _deferred(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, _m: Any) -> tuple[str, Any]:
        return statement.replace("BEGIN IMMEDIATE", "BEGIN"), parameters


MUTANTS: dict[str, Callable[[], None]] = {
    "without_the_row_lock": without_the_row_lock,
    "without_immediate": without_immediate,
}


def main(descriptor: str, *mutants: str) -> None:
    """Serve until killed."""
    for name in mutants:
        MUTANTS[name]()
    config = uvicorn.Config(
        "app.installation:application", factory=True, access_log=False, log_level="warning", server_header=False
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(descriptor))])


if __name__ == "__main__":
    main(*sys.argv[1:])
