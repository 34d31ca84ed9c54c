"""How does an event leave? One POST to an address that was looked up and judged first, and to no other.

The name is resolved once, every address it has is judged, and the connection goes to the very one that was judged: a
name that leads elsewhere a moment later (DNS rebinding) gains nothing. A redirect is not followed, it is a failure.
"""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from app.webhooks.actions import Claimed
from app.webhooks.rules import is_allowed, signature, why_not_reach, why_not_url

TIMEOUT = 10.0  # seconds to connect, and for each part of the answer
LONGEST = 30.0  # seconds for all of it: a byte now and then would else hold up everybody's mail and events
TOO_SLOW = f"It took longer than {LONGEST:.0f} seconds to answer. Answer first, and work with the event then."


def send(event: Claimed, *, allowed: tuple[str, ...], at: float | None = None) -> tuple[int | None, str | None]:
    """Tell one event: the status that came back, and what is wrong with it, None when it was taken (2xx)."""
    try:
        status = _post(event, allowed, int(time.time() if at is None else at))
    except NotReached as problem:
        return None, str(problem)
    except (OSError, http.client.HTTPException, ValueError) as problem:  # ValueError: a name that cannot be looked up
        return None, f"It was not reached: {type(problem).__name__}."
    if 200 <= status < 300:
        return status, None
    words = "Redirects are not followed; give the address it leads to." if 300 <= status < 400 else "It was not taken."
    return status, f"Answered {status}. {words}"


class NotReached(Exception):
    """An address that is not told; the words say why."""


def _post(event: Claimed, allowed: tuple[str, ...], timestamp: int) -> int:
    if reason := why_not_url(event.url, allowed):
        raise NotReached(reason)
    parts = urlsplit(event.url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(each[4][0]) for each in found]
    if not is_allowed(event.url, allowed):
        for each in addresses:
            if reason := why_not_reach(each):
                raise NotReached(reason)
    connected = socket.create_connection((addresses[0], port), timeout=TIMEOUT)
    sock: socket.socket = connected
    if parts.scheme == "https":
        context = ssl.create_default_context()
        sock = context.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)
    with sock, _in_time(sock):
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        connection.sock = sock
        path = parts.path or "/"
        headers = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            "User-Agent": "Equipoise",
            "Equipoise-Event": event.event,
            "Equipoise-Event-Id": event.event_id,
            "Equipoise-Signature": signature(event.secrets, timestamp, event.payload),
        }
        try:
            target = f"{path}?{parts.query}" if parts.query else path
            connection.request("POST", target, event.payload.encode(), headers)
            return connection.getresponse().status
        finally:
            connection.close()


@contextmanager
def _in_time(sock: socket.socket) -> Iterator[None]:
    """Cuts a connection off that takes too long as a whole; NotReached then."""
    over = threading.Event()

    def cut() -> None:
        over.set()
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not TLS's own, which is another thread's just now

    timer = threading.Timer(LONGEST, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if over.is_set():
            raise NotReached(TOO_SLOW) from None
        raise
    finally:
        timer.cancel()
