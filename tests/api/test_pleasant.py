"""What every answer has in common: fields, expand, links, ETags, and how often one may ask."""

import pytest

from app.api.pleasant import Limits
from app.people.permissions import Role
from tests.api.client import api_client
from tests.capture.records import consented
from tests.factories import mini_study, person

PAGE = "/participants"


@pytest.fixture
def client(shared_database):
    with shared_database.writing() as session:
        study = mini_study(session)
        coordinator = person(session, study, Role.COORDINATOR, site_code="north")
        for code in ("M-001", "M-002", "M-003"):
            consented(session, study, code)
        consented(session, study, "M-004", site_code="south")
    return api_client(shared_database, coordinator)


def test_only_the_fields_that_are_asked_for(client):
    page = client.done("GET", PAGE, params={"fields": "code,status"})
    assert [set(row) for row in page["items"]] == [{"code", "status"}] * 3
    assert set(client.done("GET", f"{PAGE}/M-001", params={"fields": "site"})) == {"site"}
    problem = client.refused(422, "GET", PAGE, params={"fields": "code,colour"})
    assert problem["errors"][0]["field"] == "fields"


def test_what_belongs_to_a_row_is_asked_for_with_it(client):
    one = client.done("GET", f"{PAGE}/M-001", params={"expand": "visits,entries"})
    assert one["visits"] == client.done("GET", f"{PAGE}/M-001/visits")
    assert one["entries"] == []
    page = client.done("GET", PAGE, params={"expand": "visits", "fields": "code"})
    assert [set(row) for row in page["items"]] == [{"code", "visits"}] * 3
    for name in ("nonsense", "../M-002", "personal-data/x", "M-004"):
        assert client.refused(422, "GET", f"{PAGE}/M-001", params={"expand": name})["errors"][0]["field"] == "expand"


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_links_lead_through_every_page(client):
    codes, path = [], f"{PAGE}?limit=1"
    while path:
        reply = client.get(path)
        codes += [row["code"] for row in reply.json()["items"]]
        path = reply.links.get("next", {}).get("url", "").removeprefix(client.root)
        assert reply.links["first"]["url"] == f"{client.root}{PAGE}?limit=1"
    assert codes == ["M-001", "M-002", "M-003"]


def test_what_one_has_is_not_sent_again_and_what_changed_is_not_overwritten(client):
    where = f"{PAGE}/M-001/visits/week18/entries/pain"
    body = {"values": {"pain_nrs": 4}, "accept_partial": True}
    assert client.put(where, body, headers={"If-Match": "*"}).status_code == 412  # nothing is there yet
    client.done("PUT", where, body)
    tag = client.get(where).headers["etag"]
    again = client.get(where, headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    later = {**body, "values": {"pain_nrs": 5}, "base_version": 1, "why": "Read again."}
    assert client.put(where, later, headers={"If-Match": '"other"'}).status_code == 412
    assert client.put(where, later, headers={"If-Match": tag}).status_code == 200
    assert client.get(where, headers={"If-None-Match": tag}).status_code == 200
    assert client.put(where, later, headers={"If-Match": tag}).status_code == 412


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_token_that_asks_too_often_is_told_when_to_go_on(shared_database):
    with shared_database.writing() as session:
        coordinator = person(session, mini_study(session), Role.COORDINATOR, site_code="north")
    client = api_client(shared_database, coordinator, api_requests_a_minute=2)
    assert [client.get(PAGE).status_code for _ in range(3)] == [200, 200, 429]
    reply = client.get(PAGE)
    assert 0 < int(reply.headers["retry-after"]) <= 60
    assert reply.headers["content-type"] == "application/problem+json"


def test_a_bucket_fills_again_and_each_token_has_its_own():
    limits = Limits(60)
    assert [limits.wait(b"a", 0.0) for _ in range(61)] == [0] * 60 + [2]
    assert limits.wait(b"b", 0.0) == 0
    assert limits.wait(b"a", 1.0) == 0
    assert limits.wait(b"a", 1.5) == 1
    assert limits.wait(b"a", 0.5) > 0  # a clock that went back gives nothing away
    assert Limits(0).wait(b"a", 0.0) == 0
