"""The escrow's page and doors: stored with a password, taken with an entry, and unknown to everybody else."""

from typing import Any

import pytest
from bs4 import BeautifulSoup
from sqlalchemy import select

from app.audit.actions import ENTRY
from app.foundation.database import Database
from app.people.permissions import Role
from tests.api.client import api_client
from tests.randomisation.test_escrow import PRIVATE, WEAK, pem_of, private_pem
from tests.web.browser import PASSWORD
from tests.web.test_randomisation import sealed
from tests.web.world import World

PAGE = "/mini/sequence/escrow"
FILE = "/mini/sequence/1/escrow.pem"


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


def logged(world: World, action: str) -> list[Any]:
    with world.database.reading() as session:
        return list(session.execute(select(ENTRY).where(ENTRY.c.action == action)).all())


def test_a_key_is_stored_and_the_next_list_is_escrowed_to_it(world: World):
    browser = world.browser("statistician", site_code=None)
    assert "There is no key yet" in browser.soup(PAGE).get_text()
    reply = browser.post(PAGE, {"pem": pem_of(PRIVATE), "password": PASSWORD})
    assert reply.status_code == 303
    page = browser.soup(reply.headers["location"]).get_text(" ", strip=True)
    assert "Stored. Every list that is sealed from now on" in page
    assert "can predict every slot" in page
    sealed(world, slots=8)
    certificate = browser.soup("/mini/sequence/1/certificate")
    assert certificate.select_one(f"a[href='{FILE}']") is not None
    assert "Seed escrowed to the key" in certificate.get_text()
    taken = browser.get(FILE)
    assert taken.text.startswith("-----BEGIN CMS-----")
    assert taken.headers["cache-control"] == "no-store"
    assert len(logged(world, "escrow.taken")) == 1
    assert browser.soup(PAGE).select_one(f"a[href='{FILE}']") is not None


def test_what_is_no_key_stands_at_its_field_and_a_private_key_does_not_come_back(world: World):
    browser = world.browser("statistician", site_code=None)
    for pem, words, kept in (
        (pem_of(WEAK), "too weak", True),
        (private_pem(PRIVATE).decode(), "This is a private key", False),
        ("hello", "not a public key", True),
    ):
        reply = browser.post(PAGE, {"pem": pem, "password": PASSWORD})
        assert reply.status_code == 422
        page = BeautifulSoup(reply.text, "html.parser")
        error, field = page.select_one("#pem-error"), page.select_one("textarea[name=pem]")
        assert error is not None
        assert words in error.get_text()
        assert field is not None
        assert bool(field.get_text().strip()) is kept
    assert browser.post(PAGE, {"pem": pem_of(PRIVATE), "password": "wrong"}).status_code == 422
    assert not logged(world, "escrow_key.stored")


@pytest.mark.requirement("E9-2", "CONC-4", "SEC-19")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.STATISTICIAN])
def test_for_everybody_else_escrow_is_as_nonsense(world: World, role: Role):
    world.browser("statistician", site_code=None).post(PAGE, {"pem": pem_of(PRIVATE), "password": PASSWORD})
    sealed(world, slots=8)
    other = world.browser(role.value, site_code=None if role is Role.ADMINISTRATOR else "north")
    nonsense = other.get("/mini/sequence-of-nonsense").text
    for path in (PAGE, FILE, "/mini/sequence/7/escrow.pem"):
        reply = other.get(path)
        assert reply.status_code == 404
        assert BeautifulSoup(reply.text, "html.parser").get_text() == BeautifulSoup(nonsense, "html.parser").get_text()
    assert other.send(PAGE, {"pem": "x"}).status_code == 404


def test_the_same_over_rest(world: World):
    statistician = api_client(world.database, world.person("statistician", site_code=None))
    assert statistician.get("/escrow-key").status_code == 404
    body = {"pem": pem_of(PRIVATE), "password": PASSWORD}
    assert statistician.put("/escrow-key", {**body, "password": "wrong"}).status_code == 422
    assert statistician.put("/escrow-key", {**body, "pem": "x"}).json()["errors"][0]["field"] == "pem"
    stored = statistician.put("/escrow-key", body)
    assert (stored.status_code, stored.json()["bits"]) == (200, 3072)
    assert statistician.get("/escrow-key").json() == stored.json()
    sealed(world, slots=8)
    assert statistician.get("/sequences/1/escrow").text.startswith("-----BEGIN CMS-----")
    assert statistician.get("/sequences/1/certificate").json()["escrowed_to"] == stored.json()["fingerprint"]
    assert api_client(world.database, world.person("investigator")).get("/escrow-key").status_code == 404
