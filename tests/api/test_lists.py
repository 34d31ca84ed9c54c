"""Every list over REST, of a trial in which everything happened: its pages, and the address of each of its rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product
from typing import Any

import hypothesis
import pytest
import time_machine
from hypothesis import strategies as st

from app.api import router
from app.api.operations import OF_STUDY, Operation
from app.api.redcap.users import SEEING_EVERYBODY
from app.foundation import clock, paging
from app.foundation.database import Database
from app.people.permissions import Role
from app.people.reads import MEETING_EVERYBODY
from tests.api.client import leads_to
from tests.blinding.trial import API, BEGUN, PASSWORD, WORLD, Trial, play, set_up
from tests.house.resources import LISTS, ONE_OF
from tests.house.routes import expected_roles

pytestmark = pytest.mark.both_databases

KNOWN: dict[str, tuple[Any, ...]] = {
    "code": ("M-001", "M-002", "M-005"),
    "visit": ("tx01", "week18"),
    "instrument": ("pain", "disability"),
    "number": (1, 2, 3),
    "later": ("2",),
    "dictionary": ("complaints",),
}
ASKED = {
    "/appointments": "&begins_at=2026-03-01T00:00:00Z&days=92",
    "/visits-due": "&days=366",
    "/versions/{later}/differences": "&since=1",
    "/coded-texts": "&queue=coded",
    "/dictionaries/{dictionary}/terms": "&q=o",
}
# Of these nothing came about in this trial; their own tests have rows.
EMPTY = {
    "/casebooks-due",
    "/unblindings/{number}/arms",
    "/double-entries",
    "/agreement/double-entry",
    "/reconsents",
}
# What a part of an address is called in a row.
SAID = {
    "number": ("number", "id", "allocation"),
    "position": ("position",),
    "code": ("code", "participant"),
    "visit": ("code",),
    "instrument": ("code",),
    "site": ("code",),
    "role": ("role",),
    "consent_id": ("id",),
    "link_id": ("id",),
    "slip": ("number",),
    "delivery": ("number",),
    "username": ("username",),
    "version": ("version",),
    "language": ("language",),
    "name": ("name",),
}


WITHIN = {"/adverse-events": "event"}  # where one of them says what its list says, beside more


@dataclass
class Played:
    """A trial after its play; `made` is everything that was made over REST: who made it, and where it is."""

    trial: Trial
    made: list[tuple[str, str]] = field(default_factory=list)
    ended: datetime = BEGUN
    fullest: dict[str, tuple[str, str]] = field(default_factory=dict)
    """A list -> who is answered most of it, and at which of its addresses."""

    def get(self, who: str, path: str, **headers: str) -> Any:
        """A request below the study, as this person."""
        given = {"authorization": f"Bearer {self.trial.people[who].token}", **headers}
        return self.trial.client.request("GET", path if path.startswith("/api/") else API + path, headers=given)

    def rows(self, who: str, path: str, more: str = "", limit: int = 500) -> list[Any] | None:
        """A list page by page; None for whom it is not."""
        found, cursor = [], ""
        while True:
            reply = self.get(who, f"{path}?limit={limit}{more}{cursor}")
            if reply.status_code in (403, 404):
                return None
            assert reply.status_code == 200, reply.text
            page = reply.json()
            assert set(page) == {"items", "next"}, path
            assert len(page["items"]) <= limit
            found += page["items"]
            if page["next"] is None:
                assert "next" not in reply.links
                return found
            assert page["items"], path
            assert reply.links["next"]["url"].startswith(API + path)
            cursor = f"&cursor={page['next']}"


@pytest.fixture(scope="module")
def all_played(
    copied: Callable[..., Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Played]]:
    """The trial played on a database of each kind, once: nothing here changes what was entered."""
    made: dict[str, Played] = {}
    with time_machine.travel(BEGUN, tick=False) as time:

        def of(kind: str) -> Played:
            if kind not in made:
                time.move_to(BEGUN)
                database = copied(kind, tmp_path_factory.mktemp("lists"), "lists")
                made[kind] = _played(database, tmp_path_factory.mktemp("data"), time)
            time.move_to(made[kind].ended)
            return made[kind]

        yield of
    for played in made.values():
        played.trial.database.dispose()


def _played(database: Database, folder: Any, time: time_machine.Traveller) -> Played:
    trial = set_up(database, folder)
    played = Played(trial)
    send = trial._send

    def noting(who: str, method: str, path: str, **more: Any) -> Any:
        reply = send(who, method, path, **more)
        if path.startswith("/api/v1") and reply.status_code == 201:
            played.made.append((who, reply.headers["location"]))
        return reply

    trial._send = noting  # type: ignore[method-assign]
    play(trial, WORLD, time)
    for name in ("One", "Two", "Three"):
        trial.did(trial.api("administrator", "POST", f"{API}/drafts", {"name": name}))
    trial.did(trial.api("coordinator", "POST", f"{API}/calendar-feeds", {"whose": "mine"}))
    for kind in ("lost", "found"):
        said = {"kind": kind, "on": "2026-07-07", "words": "By telephone", "password": PASSWORD}
        trial.did(trial.api("coordinator", "POST", f"{API}/participants/M-001/ends", said))
    trial._send = send  # type: ignore[method-assign]
    played.ended = clock.now()
    return played


@pytest.fixture
def played(all_played: Callable[[str], Played], kind: str) -> Played:
    return all_played(kind)


def addresses(path: str) -> list[str]:
    """A list with known values in the parts of its address."""
    names = [part.partition("}")[0] for part in path.split("{")[1:]]
    return [
        path.format_map(dict(zip(names, chosen, strict=True))) for chosen in product(*(KNOWN[each] for each in names))
    ]


def who_may(trial: Trial, path: str) -> list[str]:
    """Those whom the table of permissions lets read a list; tests/house has asked everybody else in vain."""
    (door,) = (door for door in trial.doors if (door.method, door.path) == ("GET", OF_STUDY + path))
    roles = expected_roles(door.name)
    return [who for who in trial.people if Role(who.removesuffix("_south")) in roles]


def fullest(played: Played, path: str) -> tuple[str, str, list[Any]]:
    """Who is answered most of a list, at which of its addresses, and with what."""
    if path not in played.fullest:
        best: tuple[str, str, int] = ("", "", 0)
        for who, address in product(who_may(played.trial, path), addresses(path)):
            rows = played.rows(who, address, ASKED.get(path, "")) or []
            if len(rows) > best[2]:
                best = (who, address, len(rows))
        played.fullest[path] = best[:2]
    who, address = played.fullest[path]
    # Read again: that the others were refused is in the log by now, which is a list as well.
    return who, address, (played.rows(who, address, ASKED.get(path, "")) or []) if who else []


def own_address(path: str, address: str, row: dict[str, Any]) -> str:
    """Where a row of a list stands by itself."""
    parts = [part.strip("{}") for part in ONE_OF[path].removeprefix(path).strip("/").split("/")]
    said = [next(str(row[name]) for name in SAID[part] if name in row) for part in parts]
    return "/".join([address, *said])


def test_every_list_is_gone_through_whatever_the_size_of_its_pages(played: Played):
    empty = set()
    for path in LISTS:
        who, address, whole = fullest(played, path)
        if not whole:
            empty.add(path)
            continue
        count = len(whole)
        sizes = range(1, count + 2) if count <= 6 else (1, 3, count - 1, count) if count <= 30 else (7, count - 1)
        for size in sizes:
            assert played.rows(who, address, ASKED.get(path, ""), limit=min(size, 500)) == whole, (path, size)
    assert sorted(empty) == sorted(EMPTY)


def test_each_row_of_each_list_is_found_at_its_own_address_and_nowhere_else_is_more(played: Played):
    asked = 0
    for path in ONE_OF:
        who, address, whole = fullest(played, path)
        if not whole:
            continue  # said above of which
        for row in whole[:4]:
            where = own_address(path, address, row)
            reply = played.get(who, where)
            assert reply.status_code == 200, (path, where, reply.text)
            whole_of_it = reply.json()
            one = whole_of_it.get(WITHIN.get(path, ""), whole_of_it)
            same = set(row) & set(one)
            assert len(same) > 1, (path, row, one)
            if path not in ("/treatment/participants", "/drafts"):  # what is said of one is of another kind there
                assert {name: one[name] for name in same} == {name: row[name] for name in same}, path
            if path == "/allocations":
                continue  # each reading is in the log, and may be answered in full
            again = played.get(who, where, **{"if-none-match": reply.headers["etag"]})
            assert again.status_code == 304, path
            name = min(whole_of_it)
            assert set(played.get(who, f"{where}?fields={name}").json()) == {name}
            asked += 1
        for other in played.trial.people:
            theirs = played.rows(other, address, ASKED.get(path, ""))
            for row in [each for each in whole if not _is_among(path, each, theirs or [])][:4]:
                where = own_address(path, address, row)
                assert played.get(other, where).status_code in (403, 404), (path, other, where)
    assert asked > 60


def _is_among(path: str, row: dict[str, Any], rows: list[Any]) -> bool:
    return own_address(path, "", row) in {own_address(path, "", each) for each in rows}


def test_what_is_made_is_where_its_location_says(played: Played):
    assert len({where.removeprefix(API).split("/")[1] for _, where in played.made}) > 7
    for who, where in played.made:
        assert leads_to(played.trial.client._client.app, where), where
        reply = played.get(who, where)
        assert reply.status_code == 200, (who, where, reply.text)


def test_who_is_who_is_told_to_those_who_meet_everybody_and_of_their_sites(played: Played):
    assert MEETING_EVERYBODY == SEEING_EVERYBODY, "REDCap's clients are told no more, and no less"
    # Whoever administers the installation has no role in the study.
    everybody = {f"{role}_north" for role in Role if role is not Role.ADMINISTRATOR}
    everybody |= {"coordinator_south", "clinician_south"}
    for who, seen in (
        ("data_manager", everybody),
        ("statistician", everybody),
        ("investigator", everybody - {"coordinator_south", "clinician_south"}),  # who reads the log of one site
        ("coordinator", {"coordinator_north"}),
        ("clinician_south", {"clinician_south"}),
    ):
        rows = played.rows(who, "/people")
        assert rows is not None
        assert {row["username"] for row in rows} == seen, who
    (row,) = played.rows("data_manager", "/people", "&role=clinician&site=south") or []
    assert (row["username"], [each["site"] for each in row["roles"]]) == ("clinician_south", ["south"])
    assert played.get("coordinator", "/people/monitor_north").status_code == 404
    assert played.get("data_manager", "/people?role=king").status_code == 422
    assert [row["code"] for row in played.rows("assessor", "/sites") or []] == ["north", "south"]
    assert played.get("assessor", "/sites/west").status_code == 404


rows = st.lists(st.tuples(st.text("abc", max_size=2), st.integers(0, 9)), unique=True, max_size=30)


@hypothesis.given(rows=rows, size=st.integers(1, 31), falling=st.booleans(), data=st.data())
def test_pages_of_a_short_list_hold_each_row_once_and_in_order(
    rows: list[tuple[str, int]], size: int, falling: bool, data: Any
):
    def page(cursor: str | None, among: list[tuple[str, int]]) -> paging.Page[tuple[str, int]]:
        return paging.page_of_all(among, size, lambda row: row, str, int, cursor=cursor, falling=falling)

    found: list[tuple[str, int]] = []
    went = set()
    cursor, among = None, list(rows)
    while True:
        each = page(cursor, among)
        assert len(each.rows) <= size
        found += each.rows
        if each.previous and cursor:
            before = page(each.previous, among)
            assert list(before.rows) == [row for row in found[: len(found) - len(each.rows)] if row in among][-size:]
        if each.next is None:
            break
        cursor = each.next
        if among and data.draw(st.booleans()):  # one goes while somebody reads
            gone = data.draw(st.sampled_from(among))
            among.remove(gone)
            went.add(gone)
    assert found == sorted(found, reverse=falling)
    assert len(set(found)) == len(found)
    assert set(rows) - went <= set(found)


def test_every_list_that_is_there_is_gone_through():
    listed = {route.path.removeprefix(OF_STUDY) for route in router.routes if isinstance(route, Operation)}
    assert set(LISTS) <= listed
