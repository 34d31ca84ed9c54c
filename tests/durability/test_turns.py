"""Workers that share a socket share the work: none takes more than one new connection at a turn."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from app.installation import OneAtATime

CLIENTS = 20


def test_one_connection_is_taken_at_each_turn_and_none_is_turned_away():
    taken: list[asyncio.BaseTransport] = []
    at_each_turn: list[int] = []
    at_once: list[int] = []

    class Taken(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            taken.append(transport)

    async def turns(listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Taken, sock=listening, backlog=100)
        # All of them wait by now: the queue is as long as was asked for.
        clients = [socket.create_connection(listening.getsockname(), timeout=5) for _ in range(CLIENTS)]
        while len(taken) < CLIENTS:
            at_each_turn.append(len(taken))
            await asyncio.sleep(0)
        for client in clients:
            client.close()
        for transport in taken:
            asked = transport.get_extra_info("socket")
            at_once.append(asked.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()
        server.close()
        await server.wait_closed()

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        loop = OneAtATime()
        with ThreadPoolExecutor(1) as thread:  # a browser of another test may have a loop of its own in this one
            thread.submit(loop.run_until_complete, asyncio.wait_for(turns(listening), 20)).result()
        loop.close()
    assert at_once == [1] * CLIENTS, "no answer waits for a receipt of its first part"
    assert max(after - before for before, after in pairwise(at_each_turn)) == 1
