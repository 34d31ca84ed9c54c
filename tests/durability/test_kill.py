"""Promise 3 and 4 under kill -9: what was acknowledged stays, once; what was not is there whole or not at all."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.foundation import idempotency
from app.foundation.database import Database
from tests.durability.client import Client, Reply
from tests.durability.serving import Server
from tests.durability.world import ANSWERS, SITES, History, World, build, check, check_slots
from tests.web.browser import anonymous_client

SEED = 20260314
FILLED, READY, SAVES, SCREENINGS = 24, 60, 16, 40  # 384 saves, 60 randomised by two clients each, 40 screened
WRITERS = 4
KILLS = 4
GIVE_UP_AFTER = 240  # seconds
API = "/api/v1/studies/mini/participants"


@dataclass
class Storm:
    """Clients that write through a server which is killed under them; each repeats a lost request with its key."""

    world: World
    port: int
    history: History = field(default_factory=History)
    failures: list[str] = field(default_factory=list)
    stop_at: float = field(default_factory=lambda: time.monotonic() + GIVE_UP_AFTER)
    lost: set[str] = field(default_factory=set)

    def send(self, client: Client, key: str, send: Callable[[], Reply]) -> Reply:
        """The definite answer to a request: a lost reply is asked for again under the same key (REL-4)."""
        while time.monotonic() < self.stop_at:
            try:
                reply = send()
            except OSError:
                self.lost.add(key)
                time.sleep(0.05)
                continue
            if "idempotent-replay" in reply.headers:
                self.history.replayed.append(key)
            return reply
        raise TimeoutError(key)

    def save(self, codes: tuple[str, ...], seed: int) -> None:
        """Save and correct the week 18 form of these participants, over and over."""
        chance = random.Random(seed)
        client = Client(self.port, token=self.world.tokens["assessor"])
        for round_ in range(SAVES):
            for code in codes:
                note = f"{code} {round_} {chance.random()}"
                values = {"pain_nrs": chance.randint(1, 10), "pain_days": chance.randint(1, 7), "pain_note": note}
                key = f"save {code} {round_}"
                body = {"values": values, "base_version": round_, "why": "Said otherwise"}
                path = f"{API}/{code}/visits/week18/entries/pain"
                reply = self.send(client, key, partial(client.put_json, path, body, Idempotency_Key=key))
                assert reply.status == 200, f"{key}: {reply.status} {reply.body!r}"
                assert reply.json()["version"] == round_ + 1, f"{key}: {reply.body!r}"
                self.history.saved[code].append(values)

    def randomise(self, who: str, seed: int) -> None:
        """Randomise everybody, in an order of one's own: the other coordinator is often first."""
        codes = list(self.world.ready)
        random.Random(seed).shuffle(codes)
        client = Client(self.port, token=self.world.tokens[who])
        for code in codes:
            key = f"randomise {code}"
            path = f"{API}/{code}/randomise"
            reply = self.send(client, key, partial(client.post_json, path, {}, Idempotency_Key=key))
            if reply.status == 201:
                assert code not in self.history.allocated, f"{code} was given to both"
                self.history.allocated[code] = reply.json()["allocation"]
            else:
                assert reply.status == 409, f"{key}: {reply.status} {reply.body!r}"
                assert "already randomised" in reply.json()["detail"], reply.body

    def screen(self) -> None:
        """Screen people: a request that is carried out twice makes two participants."""
        client = Client(self.port, token=self.world.tokens["screener"])
        for number in range(SCREENINGS):
            key = f"screen {number}"
            body = {"site": SITES[number % 2], "answers": ANSWERS}
            reply = self.send(client, key, partial(client.post_json, API, body, Idempotency_Key=key))
            assert reply.status == 201, f"{key}: {reply.status} {reply.body!r}"
            self.history.screened.append(reply.json()["code"])

    def watch(self, database: Database, over: threading.Event) -> None:
        """Every snapshot in between holds too: once somebody is seen allocated they stay so (REL-2, REL-6)."""
        seen: dict[str, int] = {}
        while not over.wait(0.2):
            with database.reading() as session:
                now = check_slots(session, self.world.study.id)
            assert seen.items() <= now.items(), "an allocation that was seen is gone, or has another number"
            seen = now

    def threads(self, database: Database, over: threading.Event) -> list[threading.Thread]:
        share = [self.world.filled[number::WRITERS] for number in range(WRITERS)]
        work: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
            *((self.save, (codes, SEED + place)) for place, codes in enumerate(share)),
            (self.randomise, ("first", SEED)),
            (self.randomise, ("second", SEED + 1)),
            (self.screen, ()),
        ]
        writers = [threading.Thread(target=self._run, args=each, daemon=True) for each in work]
        watcher = threading.Thread(target=self._run, args=(self.watch, (database, over)), daemon=True)
        return [*writers, watcher]

    def _run(self, act: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        try:
            act(*arguments)
        except BaseException as error:
            self.failures.append(f"{type(error).__name__}: {error}")


@pytest.mark.requirement("REL-1", "REL-2", "REL-3", "REL-4", "REL-5", "REL-6", "LOG-4")
def test_what_was_acknowledged_survives_kill_nine_once(kept: Database, tmp_path: Path):
    chance = random.Random(SEED)
    world = build(kept, filled=FILLED, ready=READY)
    server = Server(kept.url, tmp_path)
    storm = Storm(world, server.port)
    over = threading.Event()
    total = FILLED * SAVES + READY + SCREENINGS
    threads = storm.threads(kept, over)
    try:
        server.start()
        for thread in threads:
            thread.start()
        for kill in range(1, KILLS + 1):
            enough = total * kill // (KILLS + 2)
            while storm.history.acknowledged < enough and not storm.failures and time.monotonic() < storm.stop_at:
                time.sleep(0.002)
            time.sleep(chance.random() * 0.03)
            server.kill()
            server.start()
        for thread in threads[:-1]:
            thread.join(max(0.0, storm.stop_at - time.monotonic()))
    finally:
        over.set()
        server.stop()
    threads[-1].join(10)
    assert not storm.failures, storm.failures
    assert storm.history.acknowledged == total
    assert storm.lost, "no request was under way when the server was killed: the test tried nothing"
    check(kept, world, storm.history)


@pytest.mark.both_databases
@pytest.mark.requirement("REL-4", "REL-22")
@pytest.mark.parametrize("keys_are_kept", [True, False])
def test_without_the_key_a_lost_reply_screens_somebody_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch, keys_are_kept: bool
):
    """The mutant: with the keys switched off, the checker must find the double; with them there is none."""
    world = build(database, filled=1, ready=2)
    if not keys_are_kept:
        monkeypatch.setattr(idempotency, "earlier_answer", lambda *_, **__: None)
    client = anonymous_client(database)
    headers = {"Authorization": f"Bearer {world.tokens['screener']}", "Idempotency-Key": "screen 1"}
    history = History()
    client.post(API, json={"site": "north", "answers": ANSWERS}, headers=headers)  # this reply is lost
    again = client.post(API, json={"site": "north", "answers": ANSWERS}, headers=headers)
    assert again.status_code == 201
    history.screened.append(again.json()["code"])
    if keys_are_kept:
        assert again.headers["Idempotent-Replay"] == "true"
        check(database, world, history)
    else:
        with pytest.raises(AssertionError, match="screened twice"):
            check(database, world, history)
