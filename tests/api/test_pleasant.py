"""What every answer has in common: fields, expand, links, ETags, and how often one may ask."""

from typing import Any

import pytest

from app.api.pleasant import Limits
from app.people.permissions import TABLE, Role
from app.studies.in_use import study_in_use
from tests.api.client import api_client
from tests.capture.records import consented
from tests.capture.test_repeats import changes
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


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("path", "name"), [("/people", "username"), ("/roles", "role"), ("/versions", "version"), ("/visits-due", "visit")]
)
def test_fields_are_chosen_of_rows_that_are_called_by_no_code_or_number(client, path, name):
    rows = client.rows(path, params={"fields": name})
    assert {frozenset(row) for row in rows} <= {frozenset({name})}
    assert rows == [{name: row[name]} for row in client.rows(path)]
    if rows:
        assert client.refused(422, "GET", path, params={"expand": "visits"})["errors"][0]["field"] == "expand"


def test_what_belongs_to_a_row_is_asked_for_with_it(client):
    one = client.done("GET", f"{PAGE}/M-001", params={"expand": "visits,entries"})
    assert one["visits"] == client.done("GET", f"{PAGE}/M-001/visits")
    assert one["entries"] == {"items": [], "next": None}
    page = client.done("GET", PAGE, params={"expand": "visits", "fields": "code"})
    assert [set(row) for row in page["items"]] == [{"code", "visits"}] * 3
    for name in ("nonsense", "../M-002", "personal-data/x", "M-004"):
        assert client.refused(422, "GET", f"{PAGE}/M-001", params={"expand": name})["errors"][0]["field"] == "expand"


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "page", ["/participants?status=died", "/queries?", "/participants/M-001/contacts?", "/participants/M-001/entries?"]
)
def test_a_misspelt_name_is_told_of_a_list_in_which_nothing_is_yet(client, page):
    assert client.refused(422, "GET", f"{page}&fields=colour")["errors"][0]["field"] == "fields"
    assert client.refused(422, "GET", f"{page}&expand=colours")["errors"][0]["field"] == "expand"
    assert client.get(page).status_code == 200


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_what_is_there_is_taken_of_a_list_in_which_nothing_is_yet(client):
    empty: dict[str, Any] = {"items": [], "next": None}
    assert client.done("GET", "/participants?status=died&fields=code,visits&expand=visits") == empty


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


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_each_answer_says_how_often_one_may_still_ask(shared_database):
    with shared_database.writing() as session:
        coordinator = person(session, mini_study(session), Role.COORDINATOR, site_code="north")
    client = api_client(shared_database, coordinator, api_requests_a_minute=2)
    replies = [client.get(PAGE), client.get(f"{PAGE}?limit=0"), client.get(PAGE)]
    assert [reply.headers["ratelimit-limit"] for reply in replies] == ["2"] * 3
    assert [reply.headers["ratelimit-remaining"] for reply in replies] == ["1", "0", "0"]
    assert [int(reply.headers["ratelimit-reset"]) for reply in replies] == [30, 60, 60]
    free = api_client(shared_database, coordinator, api_requests_a_minute=0)
    assert not [name for name in free.get(PAGE).headers if name.startswith("ratelimit")]


def test_a_bucket_fills_again_and_each_token_has_its_own():
    limits = Limits(60)

    def wait(token: bytes, now: float) -> int:
        counted = limits.count(token, now)
        assert counted is not None
        return counted.wait

    assert [wait(b"a", 0.0) for _ in range(61)] == [0] * 60 + [2]
    assert wait(b"b", 0.0) == 0
    assert wait(b"a", 1.0) == 0
    assert wait(b"a", 1.5) == 1
    assert wait(b"a", 0.5) > 0  # a clock that went back gives nothing away
    assert Limits(0).count(b"a", 0.0) is None


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "path",
    [PAGE, f"{PAGE}?limit=1&fields=code", f"{PAGE}/M-001?expand=visits", f"{PAGE}/M-999", "", "/usdm", "/nothing"],
)
def test_head_is_answered_as_get_without_its_body(client, path):
    whole, head = (client.request(each, path, headers={"Accept-Encoding": "identity"}) for each in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (whole.status_code, b"")
    same = ("content-type", "etag", "link", "content-length")
    assert {name: head.headers.get(name) for name in same} == {name: whole.headers.get(name) for name in same}
    if "etag" in head.headers:
        assert client.request("HEAD", path, headers={"If-None-Match": head.headers["etag"]}).status_code == 304
    assert client.http.head(f"{client.root}{path}").status_code == (404 if path == "/nothing" else 401)


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_what_is_written_down_when_it_is_read_is_not_asked_for_without_being_read(client):
    where = f"{PAGE}/M-001/personal-data"
    head = client.request("HEAD", where)
    assert (head.status_code, head.headers["allow"]) == (405, "GET, OPTIONS, PUT")
    assert client.get(where).status_code != 405
    for asked in (client.request("OPTIONS", where), client.request("PATCH", where)):
        assert asked.headers["allow"] == "GET, OPTIONS, PUT"
    # One that takes no other method, and asks for who may read it by a dependency of its own.
    nested = client.request("OPTIONS", "/allocations")
    assert (nested.status_code, nested.headers["allow"]) == (204, "GET, OPTIONS")


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (PAGE, "GET, HEAD, OPTIONS, POST"),
        ("/sites", "GET, HEAD, OPTIONS"),
        (f"{PAGE}/M-001/visits/baseline", "GET, HEAD, OPTIONS, PUT"),
        (f"{PAGE}/M-001/withdrawal", "OPTIONS, POST"),
        (f"{PAGE}/find", "OPTIONS, POST"),  # and so with every word where else a code or a number stands
        ("/unblindings/requests", "OPTIONS, POST"),
        ("/deviations/actions", "OPTIONS, POST"),
        ("/webhooks/1", "DELETE, GET, HEAD, OPTIONS, PUT"),
    ],
)
def test_an_address_says_all_that_may_be_done_there(client, path, allowed):
    options = client.request("OPTIONS", path)
    assert (options.status_code, options.headers["allow"], options.content) == (204, allowed, b"")
    for method in {"GET", "PATCH"} - {*allowed.split(", ")}:
        refused = client.request(method, path)
        assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
        assert f"Send one of these: {allowed}." in refused.json()["detail"]
    assert client.request("OPTIONS", "/nothing").status_code == 404


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_where_nothing_is_one_is_told_what_to_do_next_and_not_why(client):
    words = {client.refused(404, "GET", path)["detail"] for path in ("/nothing", f"{PAGE}/M-999", "/sequences")}
    assert len(words) == 1
    assert "openapi.json" in words.pop()
    assert "ends with a slash" in client.refused(404, "GET", f"{PAGE}/")["detail"]


@pytest.mark.requirement("SEC-23")
@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("query", "field", "rule"),
    [
        ("limit=1&limit=2", "limit", "once"),
        ("site=north&limit=1&site=south", "site", "once"),
        ("find=%ff", "find", "encoding"),
        ("find=M&find=%ff", "find", "once"),
        ("status=%c3%28", "status", "encoding"),
    ],
)
def test_no_parameter_is_passed_over_or_guessed(client, query, field, rule):
    (error,) = client.refused(422, "GET", f"{PAGE}?{query}")["errors"]
    assert (error["field"], error["rule"]) == (field, rule)
    (row,) = client.done("GET", f"{PAGE}?fields=code&fields=site&limit=1")["items"]
    assert row == {"code": "M-001", "site": "north"}


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("said", ["0.5", "-1", "1700000000", "+5", "2026-03-02T09:30:00", "yesterday"])
def test_an_instant_is_written_out_and_never_a_count_of_seconds(client, said):
    for path, name in (
        ("/entries", "since"),
        ("/appointments", "begins_at"),
        ("/participants/M-001/contacts", "until"),
    ):
        (error,) = client.refused(422, "GET", path, params={name: said})["errors"]
        assert error["field"] == name
        assert "2026-03-15T09:30:00Z" in error["message"]
    seconds = float(said) if said.lstrip("+-").replace(".", "").isdigit() else said
    for each in (said, seconds):
        contact = {"at": each, "how": "call", "result": "reached"}
        (error,) = client.refused(422, "POST", "/participants/M-001/contacts", contact)["errors"]
        assert error["field"] == "at"


@pytest.mark.requirement("SEC-23")
@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            '{"values": {"pain_nrs": 4, "pain_nrs": 5}}',
            "“pain_nrs” stands twice in one object): character 27",
        ),
        ('{"values": {"pain_nrs": 4}, "values": {}}', "“values” stands twice in one object): character 28"),
        ('{"values": {"pain_nrs": NaN}}', "NaN is no number of JSON): character 24"),
        ('{"values": {"pain_nrs": -Infinity}}', "-Infinity is no number of JSON): character 24"),
    ],
)
def test_a_body_that_others_would_understand_otherwise_is_refused(client, body, words):
    where, json = f"{PAGE}/M-001/visits/week18/entries/pain", {"Content-Type": "application/json"}
    (error,) = client.refused(422, "PUT", where, content=body, headers=json)["errors"]
    assert (error["field"], error["rule"]) == ("body", "json_invalid")
    assert words in error["message"].replace(". Mend it at", ":")
    client.refused(404, "GET", where)


def test_what_is_to_be_new_takes_nothing_place(client):
    where = "/import-mappings/diaries"
    first, other = ({"participant": name} for name in ("id", "code"))
    assert client.put(where, first, headers={"If-None-Match": "*"}).status_code == 200
    assert client.put(where, other, headers={"If-None-Match": "*"}).status_code == 412
    read = client.get(where)
    assert read.json()["mapping"] == first
    assert client.put(where, other, headers={"If-None-Match": read.headers["etag"]}).status_code == 412
    assert client.get(where, headers={"If-Match": '"other"'}).status_code == 412
    assert client.get(where, headers={"If-Match": read.headers["etag"]}).status_code == 200


def test_a_change_that_is_sent_again_is_not_held_against_what_it_has_made(client):
    where = f"{PAGE}/M-001/visits/week18/entries/pain"
    client.done("PUT", where, {"values": {"pain_nrs": 4}, "accept_partial": True})
    change = {"values": {"pain_nrs": 5}, "base_version": 1, "why": "Read again.", "accept_partial": True}
    once = {"If-Match": client.get(where).headers["etag"], "Idempotency-Key": "once"}
    first, again = (client.put(where, change, headers=once) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert (again.json(), again.headers["idempotent-replay"]) == (first.json(), "true")
    other = client.put(where, {**change, "base_version": 2}, headers={**once, "Idempotency-Key": "other"})
    assert other.status_code == 412
    assert client.get(where).json()["version"] == 2


@pytest.mark.requirement("SEC-23")
def test_a_parameter_that_an_address_does_not_know_is_refused_with_those_it_knows(client):
    problem = client.refused(422, "GET", PAGE, params={"stauts": "randomised", "fields": "code"})
    (error,) = problem["errors"]
    assert (error["field"], error["rule"]) == ("stauts", "unknown")
    known = error["message"].partition("Known are: ")[2].removesuffix(".").split(", ")
    assert {"status", "site", "find", "cursor", "limit", "fields", "expand"} <= set(known)
    assert client.refused(422, "POST", f"{PAGE}/M-001/randomise", {}, params={"dry_run": "yes"})["errors"]
    nobody = client.http.get(f"{client.root}{PAGE}", params={"stauts": "x"})
    assert nobody.status_code == 401, "a stranger learns of the token first"


def test_a_change_of_a_repeat_is_held_against_what_was_read_of_that_repeat(shared_database):
    with shared_database.writing() as session:
        study = mini_study(session, **changes())
        coordinator = person(session, study, Role.COORDINATOR, site_code="north")
        consented(session, study)
    client = api_client(shared_database, coordinator)
    where, second = f"{PAGE}/M-001/visits/week18/entries/fall", {"params": {"repeat": 2}}
    for number, options in enumerate(({}, second)):
        client.done("PUT", where, {"values": {"fall_height": 10 + number}, "accept_partial": True}, **options)
    tag = client.get(where, **second).headers["etag"]
    assert tag != client.get(where).headers["etag"]
    change = {"values": {"fall_height": 40}, "base_version": 1, "why": "Read again.", "accept_partial": True}
    assert client.put(where, change, headers={"If-Match": tag}).status_code == 412
    assert client.put(where, change, headers={"If-Match": tag}, **second).status_code == 200


LOOKED_FOR: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # the list, what for, and what of each row says that it is so
    ("/participants", {"site": "south"}, {"site": "south"}),
    ("/participants", {"status": "randomised", "sort": "-code"}, {"status": "randomised"}),
    ("/visits-due", {"site": "north", "days": 366}, {"site": "north"}),
    ("/visits-due", {"kind": "assessment", "days": 366}, {"kind": "assessment"}),
    ("/queries", {"visit": "week18", "site": "north"}, {"visit": "week18", "site": "north"}),
    ("/queries", {"since": "2026-03-02T09:00:00Z", "sort": "-raised"}, {"state": "open"}),
    ("/adverse-events", {"state": "reported", "site": "south"}, {"site": "south", "state": "reported"}),
    ("/adverse-events", {"find": "FALL", "sort": "onset"}, {"term": "A fall"}),
    ("/deviations", {"site": "south", "grade": "minor"}, {"site": "south", "grade": "minor"}),
    ("/screening-log", {"site": "south"}, {"site": "south"}),
    ("/audit", {"site": "south", "action": "entry."}, {"participant": "M-002"}),
    ("/audit", {"item": "pain_nrs", "subject": "entry/week18/pain"}, {"item": "pain_nrs"}),
    ("/locks", {"participant": "M-002", "kind": "frozen"}, {"participant": "M-002"}),
    ("/export-runs", {"state": "waiting", "person": "dora"}, {"requested_by": "dora", "state": "waiting"}),
    ("/entries", {"site": "south", "visit": "week18"}, {"site": "south", "visit": "week18", "participant": "M-002"}),
    ("/entries", {"participant": "M-001", "instrument": "pain"}, {"participant": "M-001", "site": "north"}),
    ("/entries", {"status": "partial", "since": "2026-03-02T09:00:00Z"}, {"status": "partial", "in_error": False}),
    ("/participants/M-001/entries", {"visit": "baseline", "instrument": "pain"}, {"visit": "baseline"}),
    ("/participants/M-001/visits", {"status": "planned"}, {"status": "planned"}),
    ("/participants/M-001/visits", {"kind": "assessment"}, {"kind": "assessment"}),
    ("/participants/M-002/entries", {"status": "partial"}, {"status": "partial"}),
    ("/people", {"role": "coordinator", "site": "south"}, {"username": "coordinator_south"}),
    ("/consent-documents", {"language": "en"}, {"language": "en"}),
]


@pytest.fixture
def two_sites(shared_database):
    """A data manager of both sites, and at each somebody with one of everything."""
    with shared_database.writing() as session:
        study = mini_study(session)
        manager = api_client(shared_database, person(session, study, Role.DATA_MANAGER, username="dora"))
    http = manager.http
    for code, place in (("M-001", "north"), ("M-002", "south")):
        with shared_database.writing() as session:
            status = "randomised" if place == "north" else "consented"
            consented(session, study, code, site_code=place, status=status)
            at_site = person(session, study, Role.COORDINATOR, site_code=place)
        site = api_client(shared_database, at_site, http=http)
        for visit, instrument, values in (("week18", "pain", {"pain_nrs": 4}), ("baseline", "pain", {"pain_nrs": 5})):
            where = f"{PAGE}/{code}/visits/{visit}/entries/{instrument}"
            site.done("PUT", where, {"values": values, "accept_partial": True})
            manager.done("POST", f"{where}/queries", {"item": "pain_nrs", "text": "Which is right?"})
        fall = {"term": "A fall" if place == "north" else "A cold", "onset": "2026-03-02", "severity": "mild"}
        site.done("POST", f"{PAGE}/{code}/adverse-events", {"details": fall, "aware_at": "2026-03-02T09:00:00+00:00"})
        grade = {"grade": "major" if place == "north" else "minor"}
        other = {"category": "other", "occurred_on": "2026-03-02", "what": "At home", **grade}
        site.done("POST", f"{PAGE}/{code}/deviations", other)
        manager.done("POST", "/locks", {"kind": "frozen", "participants": [code], "why": "Clean", "despite": True})
    assert manager.post("/export-runs", {"asked": {"tables": ["participants"]}}).status_code == 202
    return manager


def test_every_list_gives_what_was_looked_for_and_nothing_else(two_sites):
    for path, wanted, said in LOOKED_FOR:
        found = two_sites.rows(path, params=wanted)
        assert found, (path, wanted)
        assert {(name, row[name]) for row in found for name in said} == set(said.items()), (path, wanted)
    everything = [path for path, wanted, _ in LOOKED_FOR if len(two_sites.rows(path)) > 1]
    assert len(everything) > 12, "they are lists of more than what was looked for"
    for path in sorted({path for path, wanted, _ in LOOKED_FOR if "site" in wanted}):
        words = two_sites.refused(422, "GET", path, params={"site": "west"})["errors"][0]["message"]
        assert "Choose among: north, south" in words
    later = {"since": "2199-01-01T00:00:00Z"}
    assert two_sites.done("GET", "/entries", params=later)["items"] == []
    for path in (
        "/entries",
        "/queries",
        "/adverse-events",
        "/deviations",
        "/audit",
        "/export-runs",
        "/unblindings",
        "/messages",
    ):
        assert two_sites.done("GET", path, params=later)["items"] == []
        assert two_sites.refused(422, "GET", path, params={"since": "0001-01-01T00:00:00+23:00"})
    raised = [row["raised_at"] for row in two_sites.done("GET", "/queries", params={"sort": "-raised"})["items"]]
    assert raised == sorted(raised, reverse=True)
    assert raised != sorted(raised)
    page = two_sites.done("GET", "/queries", params={"sort": "-raised", "limit": 2})
    rest = two_sites.done("GET", "/queries", params={"sort": "-raised", "limit": 2, "cursor": page["next"]})
    assert [row["raised_at"] for row in page["items"] + rest["items"]] == raised


def test_every_entry_is_where_its_line_says_and_is_seen_at_ones_sites_alone(two_sites, shared_database):
    rows = two_sites.rows("/entries", params={"limit": 1})
    assert [(row["participant"], row["visit"]) for row in rows] == [
        ("M-002", "baseline"),
        ("M-002", "week18"),
        ("M-001", "baseline"),
        ("M-001", "week18"),
    ]
    for row in rows:
        where = f"{PAGE}/{row['participant']}/visits/{row['visit']}/entries/{row['instrument']}"
        one = two_sites.done("GET", where, params={"repeat": row["repeat"]})
        same = set(one) & set(row)
        assert {name: one[name] for name in same} == {name: row[name] for name in same}
    with shared_database.writing() as session:
        other = person(session, study_in_use(session, "mini"), Role.ASSESSOR, site_code="south", username="sue")
    theirs = api_client(shared_database, other, http=two_sites.http)
    assert {row["participant"] for row in theirs.rows("/entries")} == {"M-002"}
    nothing = api_client(shared_database, other, ["study.read"], http=two_sites.http)
    nothing.refused(403, "GET", "/entries")


def test_roles_are_told_as_the_table_has_them(client):
    roles = {row["role"]: row for row in client.rows("/roles", params={"limit": 3})}
    assert set(roles) == set(Role)
    assert {role for role, row in roles.items() if not row["blinded"]} == {"clinician", "statistician"}
    may = {role: {each["name"] for each in row["permissions"]} for role, row in roles.items()}
    assert may == {role: {name for name, holders in TABLE.items() if role in holders} for role in Role}
    assert client.done("GET", "/roles/monitor") == roles["monitor"]
    client.refused(404, "GET", "/roles/king")


def test_a_calendar_feed_is_made_read_and_revoked(client):
    once = {"Idempotency-Key": "once"}
    made, again = (client.post("/calendar-feeds", {"whose": "sites"}, headers=once) for _ in range(2))
    where = made.headers["location"].removeprefix(client.root)
    assert again.headers["location"].endswith(where)
    assert again.json()["address"] is None, "it is shown once"
    address = made.json()["address"].partition("/feeds/")[2]
    assert client.http.get(f"/feeds/{address}").status_code == 200
    (row,) = client.rows("/calendar-feeds")
    assert row["last_read_at"] is not None
    assert client.done("GET", where) == row
    assert client.refused(422, "POST", "/calendar-feeds", {"whose": "everybody"})["errors"][0]["field"] == "whose"
    client.done("DELETE", where)
    assert client.http.get(f"/feeds/{address}").status_code == 404
    assert client.rows("/calendar-feeds") == []
    client.refused(404, "DELETE", where)


def test_the_report_of_a_period_is_told_in_numbers(two_sites):
    told = two_sites.done("GET", "/period-report")
    assert {each["name"]: each["number"] for each in told["failed"]} == {"exports": 0, "messages": 0, "webhooks": 0}
    assert "role.granted" in {each["name"] for each in told["counts"]}
    long_ago = {"since": "2020-01-01T00:00:00Z", "until": "2020-02-01T00:00:00Z"}
    assert {each["number"] for each in two_sites.done("GET", "/period-report", params=long_ago)["counts"]} == {0}
    turned = {"since": long_ago["until"], "until": long_ago["since"]}
    assert two_sites.refused(422, "GET", "/period-report", params=turned)["errors"][0]["field"] == "until"


def test_the_lines_of_an_entry_are_of_the_time_that_was_asked_for(client):
    where = f"{PAGE}/M-001/visits/week18/entries/pain"
    client.done("PUT", where, {"values": {"pain_nrs": 4}, "accept_partial": True})
    assert client.rows(f"{where}/history", params={"since": "2026-01-01T00:00:00Z"})
    assert client.rows(f"{where}/history", params={"until": "2026-01-01T00:00:00Z"}) == []


def test_a_webhook_is_read_and_ended_under_its_own_address(client):
    hook = {"url": "https://example.org/", "events": ["entry.changed"]}
    made = [client.post("/webhooks", hook, headers={"Idempotency-Key": "one"}) for _ in range(2)]
    (where,) = {reply.headers["location"].removeprefix(client.root) for reply in made}
    read = client.get(where)
    assert (read.json()["state"], "secret" in read.json()) == ("active", False)
    assert [row["number"] for row in client.rows("/webhooks", params={"state": "active"})] == [read.json()["number"]]
    client.done("PUT", f"{where}/state", {"state": "paused"})
    assert client.request("DELETE", where, headers={"If-Match": read.headers["etag"]}).status_code == 412
    assert [client.done("DELETE", where)["state"] for _ in range(2)] == ["ended"] * 2
    assert client.rows("/webhooks", params={"state": "active"}) == []
    client.refused(404, "GET", "/webhooks/2147483647")


def test_a_webhook_is_changed_under_its_address_and_its_secret_replaced(client):
    hook = {"url": "https://example.org/", "events": ["entry.changed"]}
    made = client.done("POST", "/webhooks", hook)
    where = f"/webhooks/{made['number']}"
    other = {"url": "https://example.org/other", "events": ["query.changed", "entry.changed"], "site": "north"}
    tag = client.get(where).headers["etag"]
    changed = client.done("PUT", where, other, headers={"If-Match": tag})
    assert changed == client.done("GET", where)
    assert (changed["url"], changed["site"], set(changed["events"])) == (other["url"], "north", set(other["events"]))
    assert client.put(where, hook, headers={"If-Match": tag}).status_code == 412
    wrong = client.refused(422, "PUT", where, {**hook, "url": "http://example.org/", "events": ["nonsense"]})
    assert {each["field"] for each in wrong["errors"]} == {"url", "events"}
    once = {"Idempotency-Key": "once"}
    first, again = (client.done("POST", f"{where}/secret", headers=once)["secret"] for _ in range(2))
    assert first.startswith("whsec_")
    assert first != made["secret"]
    assert again is None, "a secret is shown once"
    assert client.post(f"{where}/test").status_code == 202
    (told,) = client.rows(f"{where}/deliveries")
    repeated = client.post(f"{where}/deliveries/{told['number']}/redelivery")
    assert (repeated.status_code, repeated.json()) == (202, told), "it waits to be told anyway"
    client.refused(404, "POST", f"{where}/deliveries/2147483647/redelivery")
    client.done("DELETE", where)
    for method, path in (("PUT", ""), ("POST", "/secret"), ("POST", f"/deliveries/{told['number']}/redelivery")):
        body = hook if method == "PUT" else None
        assert "has ended" in client.refused(409, method, f"{where}{path}", body)["detail"]


def test_whoever_works_at_one_site_looks_at_no_other(client):
    words = client.refused(422, "GET", PAGE, params={"site": "south"})["errors"][0]["message"]
    assert "Choose among: north." in words


def test_what_changed_is_not_deleted_either(shared_database):
    with shared_database.writing() as session:
        administrator = person(session, mini_study(session), Role.ADMINISTRATOR, site_code=None)
    client = api_client(shared_database, administrator)
    draft = f"/drafts/{client.done('POST', '/drafts', {'name': 'Pilot'})['number']}"
    tag = client.get(draft).headers["ETag"]
    file = {"path": "instruments/mine.yaml", "text": "code: mine\n", "version": 0}
    client.done("PUT", f"{draft}/files", file)
    assert client.request("DELETE", draft, headers={"If-Match": tag}).status_code == 412
    tag = client.get(draft).headers["ETag"]
    assert client.request("DELETE", draft, headers={"If-Match": tag}).status_code == 200
