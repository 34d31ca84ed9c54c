"""What one server process of a test does; without a lock, where a test wants to see it missed.

The mutants live here and nowhere in the application: a switch that takes a lock out must not exist.
"""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy import Engine, event
from sqlalchemy.dialects import postgresql


def without_the_line() -> None:
    """Nobody stands in line for a stratum: its row's lock is alone in keeping one after the other (PostgreSQL)."""
    from app.randomisation import reads

    reads.stand_in_line = lambda session, study_id: None


def without_turns() -> None:
    """Changes of a study take no turns within a process: as many meet as there are threads."""
    from contextlib import asynccontextmanager

    from app.foundation.turns import OneByOne

    @asynccontextmanager
    async def at_once(_self: OneByOne, _name: str) -> Any:
        yield

    OneByOne.turn = at_once  # type: ignore[assignment,method-assign]


def without_the_row_lock() -> None:
    """Whoever takes a slot reads its stratum without holding it, in no line and in no turn (PostgreSQL)."""
    from app.randomisation import reads

    without_the_line()
    without_turns()

    def unlocked(statement: Any) -> Any:
        free = statement._generate()
        free._for_update_arg = None
        assert "FOR UPDATE" in str(statement.compile(dialect=postgresql.dialect()))
        assert "FOR UPDATE" not in str(free.compile(dialect=postgresql.dialect()))
        return free

    reads._HELD = {first: unlocked(statement) for first, statement in reads._HELD.items()}


def without_immediate() -> None:
    """A transaction that will write begins as one that reads: nobody holds the lock while they decide (SQLite)."""
    without_turns()

    @event.listens_for(Engine, "before_cursor_execute", retval=True)
    def _deferred(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, _m: Any) -> tuple[str, Any]:
        return statement.replace("BEGIN IMMEDIATE", "BEGIN"), parameters


MUTANTS: dict[str, Callable[[], None]] = {
    "without_the_line": without_the_line,
    "without_the_row_lock": without_the_row_lock,
    "without_immediate": without_immediate,
}


def serve(environment: Mapping[str, str], log: str, listening: socket.socket | int, mutants: Sequence[str]) -> None:
    """Serve until killed, at a socket or a port, with what is said added to a file."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(Path(__file__).parent.parent.parent)
    said = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    for name in mutants:
        MUTANTS[name]()
    address: dict[str, Any] = {"host": "127.0.0.1", "port": listening} if isinstance(listening, int) else {}
    config = uvicorn.Config(
        "app.installation:application",
        factory=True,
        loop="app.listening:ShortestQueue",
        access_log=False,
        log_level="warning",
        server_header=False,
        **address,
    )
    uvicorn.Server(config).run(sockets=None if isinstance(listening, int) else [listening])
