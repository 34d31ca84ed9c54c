"""Which worker takes the next connection? Those that share a socket, and so the work."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

LEFT_TO_OTHERS = 0.0005  # seconds, for each connection that a worker has
MOST_LEFT = 8  # connections that count: no worker ever waits for longer than 4 ms
TRY_AGAIN = 1.0  # seconds
FULL = "accept failed"

Protocols = Callable[[], asyncio.Protocol]


class ShortestQueue(asyncio.SelectorEventLoop):
    """An event loop that leaves new connections to workers with fewer, where several share a socket.

    Otherwise the worker that happens to wake first takes all that wait, and keeps them: one would do nearly all the
    work while another has next to nothing to do.
    """

    async def create_server(self, *args: Any, **options: Any) -> Any:
        """As asyncio's; `sock` is one that workers were handed."""
        if (shared := options.get("sock")) is None:
            return await super().create_server(*args, **options)
        return SharedListener(self, args[0], shared, options["backlog"])


class SharedListener:
    """Takes one connection at a time, and the later the more it has: another that has fewer comes first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, made: Protocols, shared: socket.socket, waiting: int) -> None:
        self._loop, self._made, self._shared = loop, made, shared
        self._taken: list[asyncio.BaseTransport] = []
        self._becoming: set[asyncio.Task[None]] = set()
        self._is_closed = False
        shared.setblocking(False)
        shared.listen(waiting)
        self._listen()

    def close(self) -> None:
        """Take no more."""
        self._is_closed = True
        self._loop.remove_reader(self._shared)

    async def wait_closed(self) -> None:
        """Nothing to wait for; asyncio's server has it."""

    def _listen(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._shared, self._knocked)

    def _knocked(self) -> None:
        self._loop.remove_reader(self._shared)
        self._taken = [each for each in self._taken if not each.is_closing()]
        had = len(self._taken) + len(self._becoming)
        self._loop.call_later(min(had, MOST_LEFT) * LEFT_TO_OTHERS, self._take)

    def _take(self) -> None:
        if self._is_closed:
            return
        try:
            connection, _ = self._shared.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # another took it, or it went away
            self._listen()
        except OSError as problem:  # no more files may be open
            self._loop.call_exception_handler({"message": FULL, "exception": problem})
            self._loop.call_later(TRY_AGAIN, self._listen)
        else:
            task = self._loop.create_task(self._become(connection))
            self._becoming.add(task)
            task.add_done_callback(self._becoming.discard)
            self._listen()

    async def _become(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            # The second part of an answer would wait for a receipt of the first, 40 ms: asyncio sees to that only
            # where a socket was opened by itself.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport, _ = await self._loop.connect_accepted_socket(self._made, connection)
        self._taken.append(transport)
