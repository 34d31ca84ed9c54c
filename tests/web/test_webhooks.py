"""The pages of webhooks: made with a secret that is shown once, paused, tested, ended; each person sees their own."""

import pytest
from sqlalchemy import update

from app.foundation import clock
from app.foundation.database import Database
from app.people.permissions import Role
from app.webhooks.reads import DELIVERY
from tests.web.world import World

PAGE = "/mini/webhooks"


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_webhook_is_made_paused_tested_and_ended(shared_database: Database):
    world = World(shared_database)
    browser = world.coordinator()
    refused = browser.post(PAGE, {"url": "http://10.0.0.1/", "events": ["entry.changed"]})
    assert refused.status_code == 422
    assert "Only https" in refused.text
    made = browser.post(PAGE, {"url": "https://example.org/told", "events": ["entry.changed"], "site": "north"})
    assert made.status_code == 200
    assert "whsec_" in made.text
    assert "whsec_" not in browser.get(PAGE).text
    link = browser.soup(PAGE).select_one("tbody th a")
    assert link is not None
    where = str(link["href"])
    replaced = browser.post(where, {"do": "secret"})
    assert "whsec_" in replaced.text
    assert "whsec_" not in browser.get(where).text
    browser.post(where, {"do": "test"})
    with world.database.writing() as session:
        session.execute(update(DELIVERY).values(ended_at=clock.now(), ended_as="failed"))
    again = browser.soup(where).select_one("button[name=again]")
    assert again is not None
    assert browser.post(where, {"again": str(again["value"])}).status_code == 303
    assert browser.soup(where).select_one("button[name=again]") is None
    for do, words in (("test", "ping"), ("pause", "paused"), ("resume", "active"), ("end", "ended")):
        assert browser.post(where, {"do": do}).status_code == 303
        assert words in browser.get(where).text
    assert world.browser(Role.DATA_MANAGER, site_code=None).get(where).status_code == 404
