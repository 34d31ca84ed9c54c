"""Workers that share a socket share the work: whoever has fewer connections takes the next."""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any
from unittest import mock

from app.listening import LEFT_TO_OTHERS, MOST_LEFT, SharedListener, ShortestQueue

CLIENTS = 20


class Worker:
    """One of those who listen; its connections, as they came."""

    def __init__(self) -> None:
        self.taken: list[Any] = []

    def protocol(self) -> asyncio.Protocol:
        taken = self.taken

        class Taken(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                taken.append(transport)

        return Taken()

    async def has(self, number: int) -> None:
        while len(self.taken) < number:
            await asyncio.sleep(0)


def listening(what: Callable[[socket.socket], Awaitable[None]]) -> None:
    """Do this in a loop of ours, with a socket that is bound."""
    with socket.socket() as shared:
        shared.bind(("127.0.0.1", 0))
        loop = ShortestQueue()
        with ThreadPoolExecutor(1) as thread:  # a browser of another test may have a loop of its own in this one
            thread.submit(loop.run_until_complete, asyncio.wait_for(what(shared), 20)).result()
        loop.close()


def clients_of(shared: socket.socket, number: int = CLIENTS) -> list[socket.socket]:
    """So many who are connected, as far as they can tell."""
    return [socket.create_connection(shared.getsockname(), timeout=5) for _ in range(number)]


async def gone(server: Any, workers: list[Worker], clients: list[socket.socket]) -> None:
    for client in clients:
        client.close()
    for worker in workers:
        for transport in worker.taken:
            transport.close()
    server.close()
    await server.wait_closed()


def test_one_connection_is_taken_at_each_turn_and_none_is_turned_away():
    at_each_turn: list[int] = []
    at_once: list[int] = []
    left_to_others: list[float] = []

    async def turns(shared: socket.socket) -> None:
        loop, worker = asyncio.get_running_loop(), Worker()
        server = await loop.create_server(worker.protocol, sock=shared, backlog=100)
        clients = clients_of(shared)  # all of them wait by now: the queue is as long as was asked for
        with mock.patch.object(loop, "call_later", wraps=loop.call_later) as left:
            while len(worker.taken) < CLIENTS:
                at_each_turn.append(len(worker.taken))
                await asyncio.sleep(0)
        left_to_others.extend(call.args[0] for call in left.call_args_list)
        for transport in worker.taken:
            asked = transport.get_extra_info("socket")
            at_once.append(asked.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await gone(server, [worker], clients)

    listening(turns)
    assert at_once == [1] * CLIENTS, "no answer waits for a receipt of its first part"
    assert max(after - before for before, after in pairwise(at_each_turn)) == 1
    assert left_to_others[:CLIENTS] == [min(had, MOST_LEFT) * LEFT_TO_OTHERS for had in range(CLIENTS)]


def test_whoever_has_fewer_takes_the_next():
    async def shares(shared: socket.socket) -> None:
        loop, one, other = asyncio.get_running_loop(), Worker(), Worker()
        first = SharedListener(loop, one.protocol, shared, 100)
        clients = clients_of(shared, 4)
        await one.has(4)
        with shared.dup() as same:
            second = SharedListener(loop, other.protocol, same, 100)
            clients += clients_of(shared, 1)
            while len(one.taken) + len(other.taken) < len(clients):
                await asyncio.sleep(0)
            assert len(other.taken) == 1
            clients += clients_of(shared, 2 * CLIENTS)
            while len(one.taken) + len(other.taken) < len(clients):
                await asyncio.sleep(0)
            shares = len(one.taken), len(other.taken)
            assert min(shares) > len(clients) / 3, shares
            second.close()
        await gone(first, [one, other], clients)

    listening(shares)


def test_a_worker_that_may_open_nothing_more_says_so_and_takes_connections_later():
    async def is_full(shared: socket.socket) -> None:
        loop, worker, said = asyncio.get_running_loop(), Worker(), []
        loop.set_exception_handler(lambda _, what: said.append(what["exception"].errno))
        with mock.patch("app.listening.TRY_AGAIN", 0.001):
            server = SharedListener(loop, worker.protocol, shared, 100)
            full = mock.patch.object(socket.socket, "accept", side_effect=OSError(errno.EMFILE, "Too many open files"))
            with full:
                clients = clients_of(shared, 2)
                while not said:
                    await asyncio.sleep(0)
            await worker.has(2)
        assert set(said) == {errno.EMFILE}
        await gone(server, [worker], clients)

    listening(is_full)


def test_a_worker_that_closes_takes_nobody_any_more():
    async def closes(shared: socket.socket) -> None:
        loop, worker, other = asyncio.get_running_loop(), Worker(), Worker()
        server = SharedListener(loop, worker.protocol, shared, 100)
        clients = clients_of(shared, 1)
        await worker.has(1)
        clients += clients_of(shared, 1)
        await asyncio.sleep(0)  # it has heard of that one, and leaves it to others for a moment
        server.close()
        with shared.dup() as same:
            second = SharedListener(loop, other.protocol, same, 100)
            await other.has(1)
            assert len(worker.taken) == 1
            second.close()
        await gone(server, [worker, other], clients)

    listening(closes)
