"""Somebody who asks over REST: one keep-alive connection, and a process of its own that randomises and loses replies.

    python -m tests.durability.client < job

The job is JSON: port, seed, token by study, and the requests in their order, each a study, a participant and a key.
Every answer is said at once, a JSON line each. Imports nothing of Equipoise, so that eight of them start quickly.
"""

import http.client
import json
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GIVE_UP_AFTER = 120  # seconds
LOSES = 0.3  # of all replies, half of them before they are read


@dataclass(frozen=True)
class Reply:
    """What came back, whole; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One keep-alive connection. A lost connection is an OSError, and the next request opens a new one."""

    def __init__(self, port: int, *, token: str = "", timeout: float = 30) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str, **headers: str) -> Reply:
        return self.send("GET", path, None, **headers)

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Header names are given with underscores: `Idempotency_Key`."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            self._connection.request(method, path, body, {**self._headers, **given})
            answer = self._connection.getresponse()
            return Reply(answer.status, {name.lower(): each for name, each in answer.headers.items()}, answer.read())
        except (OSError, http.client.HTTPException) as lost:
            self._connection.close()
            raise ConnectionError(f"{method} {path}: {type(lost).__name__}") from lost

    def put_json(self, path: str, body: Any, **headers: str) -> Reply:
        return self.send("PUT", path, json.dumps(body).encode(), Content_Type="application/json", **headers)

    def post_json(self, path: str, body: Any, **headers: str) -> Reply:
        return self.send("POST", path, json.dumps(body).encode(), Content_Type="application/json", **headers)

    def close(self) -> None:
        self._connection.close()

    def send_and_go(self, path: str, body: Any, **headers: str) -> None:
        """Send a POST, and close the connection without waiting for the answer: it is lost on its way."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            self._connection.request(
                "POST", path, json.dumps(body), {"Content-Type": "application/json", **self._headers, **given}
            )
        except (OSError, http.client.HTTPException) as lost:
            raise ConnectionError(f"POST {path}: {type(lost).__name__}") from lost
        finally:
            self._connection.close()


def randomise_all(job: dict[str, Any]) -> None:
    """Ask for every allocation of the job until its answer is heard; what is lost is asked again under its key."""
    chance = random.Random(job["seed"])
    clients = {study: Client(job["port"], token=token) for study, token in job["tokens"].items()}
    give_up = time.monotonic() + GIVE_UP_AFTER
    for study, code, key in job["requests"]:
        client, path = clients[study], f"/api/v1/studies/{study}/participants/{code}/randomise"
        said = {"study": study, "code": code, "key": key, "who": job["who"]}
        while True:
            if time.monotonic() > give_up:
                raise TimeoutError(key)
            luck = chance.random()
            try:
                if luck < LOSES / 2:
                    client.send_and_go(path, {}, Idempotency_Key=key)
                    _say(said, status=0)
                    continue
                reply = client.post_json(path, {}, Idempotency_Key=key)
            except OSError:  # the server was killed; the socket is still there, and waits for the next one
                _say(said, status=0)
                continue
            answer = reply.json() if reply.headers.get("content-type", "").endswith("json") else {}
            heard = luck >= LOSES
            _say(
                said,
                status=reply.status,
                number=answer.get("allocation"),
                detail=answer.get("detail", ""),
                replayed="idempotent-replay" in reply.headers,
                heard=heard,
            )
            if heard:
                break


def _say(said: dict[str, Any], **more: Any) -> None:
    print(json.dumps({**said, **more}), flush=True)


if __name__ == "__main__":
    randomise_all(json.loads(sys.stdin.readline()))
