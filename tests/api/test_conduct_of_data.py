"""Queries, verification, locks and casebooks over REST: what a program may do, and what stops it."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from starlette.testclient import TestClient

from app.foundation.database import Database
from app.studies.in_use import study_in_use
from tests.api.client import PASSWORD, ApiClient, api_client, application_on
from tests.capture.records import consented
from tests.factories import NOW, TODAY, mini_study, person
from tests.web.browser import counted_statements

ROLES = ("assessor", "coordinator", "monitor", "data_manager", "investigator", "clinician")
ENTRY = "/participants/M-001/visits/week18/entries/pain"
CASEBOOK = "/participants/M-001/casebook"
PAIN = {"pain_nrs": 5, "pain_days": 3}


@pytest.fixture
def clients(shared_database: Database) -> Any:
    with time_machine.travel(NOW, tick=True):
        with shared_database.writing() as session:
            study = mini_study(session)
            consented(session, study)
            people = {role: person(session, study, role) for role in ROLES}
            people["second"] = person(session, study, "data_manager", username="second")
        http = TestClient(application_on(shared_database), base_url="http://trial.test")
        made: dict[str, ApiClient] = {
            name: api_client(shared_database, actor, http=http) for name, actor in people.items()
        }
        made["assessor"].done("PUT", ENTRY, {"values": PAIN})
        yield made


def test_an_entry_records_its_visit_where_it_says_the_day(clients):
    assessor, visit = clients["assessor"], "/participants/M-001/visits/week18"
    planned = assessor.done("GET", visit)
    assert (planned["status"], planned["held_on"]) == ("planned", None)
    body = {"values": {**PAIN, "pain_days": 4}, "base_version": 1, "why": "Read again."}
    early = {**body, "held_on": TODAY.isoformat()}
    refused = assessor.refused(422, "PUT", ENTRY, early)
    assert [each["field"] for each in refused["errors"]] == ["held_reason"]
    assert assessor.done("GET", ENTRY)["version"] == 1, "both are kept, or neither"
    assert assessor.done("GET", visit) == planned
    for _ in range(2):
        assert assessor.done("PUT", ENTRY, {**early, "held_reason": "Away later."})["version"] == 2
    held = assessor.done("GET", visit)
    assert (held["status"], held["held_on"], held["reason"]) == ("held", early["held_on"], "Away later.")
    other = {**body, "base_version": 2, "held_on": (TODAY - timedelta(days=1)).isoformat()}
    assert [each["field"] for each in assessor.refused(422, "PUT", ENTRY, other)["errors"]] == ["held_on"]
    nowhere = ENTRY.replace("week18", "week99")
    assert "no visit" in assessor.refused(409, "PUT", nowhere, early)["detail"]


@pytest.mark.requirement("E6-9", "E6-20")
def test_a_query_over_rest(clients):
    asked = clients["monitor"].post(f"{ENTRY}/queries", {"item": "pain_nrs", "text": "Is it 5?"})
    assert asked.status_code == 201
    number = asked.json()["number"]
    assert asked.headers["location"].endswith(f"/queries/{number}")
    site, manager = clients["assessor"], clients["data_manager"]
    named = {"item": "pain_nrs", "text": "Is it the Placebex device?"}
    problem = clients["monitor"].refused(422, "POST", f"{ENTRY}/queries", named)
    assert [each["rule"] for each in problem["errors"]] == ["arm"]
    site.refused(403, "POST", f"{ENTRY}/queries", {"item": "pain_nrs", "text": "Is it 5?"})
    assert site.done("POST", f"/queries/{number}/answer", {"text": "It is.", "version": 1})["state"] == "answered"
    stale = manager.refused(409, "POST", f"/queries/{number}/closing", {"version": 1})
    assert stale["current_version"] == 2
    manager.done("POST", f"/queries/{number}/requery", {"text": "Who says so?", "version": 2})
    closed = manager.done("POST", f"/queries/{number}/closing", {"version": 3})
    assert [each["step"] for each in closed["thread"]] == ["raise", "answer", "requery", "close"]
    assert site.done("GET", "/queries", params={"state": "standing"})["items"] == []
    assert [each["number"] for each in site.done("GET", "/queries")["items"]] == [number]
    clients["clinician"].refused(403, "GET", "/queries")
    exported = manager.get("/exports/queries.json").json()
    assert [(row["query"], row["state"], row["closing"]) for row in exported] == [(number, "closed", "closed")]


def test_the_list_of_participants_counts_their_queries_as_the_list_of_queries_does(clients, shared_database):
    """In as many statements for two people as for one, and only for whoever reads entries."""
    coordinator, monitor, clinician = clients["coordinator"], clients["monitor"], clients["clinician"]

    def listed(client: ApiClient, **params: str) -> dict[str, Any]:
        items = client.done("GET", "/participants", params=params)["items"]
        return {row["code"]: row["queries"] for row in items}

    assert listed(monitor) == {"M-001": 0}
    with counted_statements(shared_database) as of_one:
        listed(monitor)
    with shared_database.writing() as session:
        consented(session, study_in_use(session, "mini"), "M-002")
    numbers = [monitor.done("POST", f"{ENTRY}/queries", {"item": item, "text": "Is it?"})["number"] for item in PAIN]
    closed = monitor.done("POST", f"{ENTRY}/queries", {"item": "pain_nrs", "text": "Again?"})["number"]
    clients["assessor"].done("POST", f"/queries/{numbers[0]}/answer", {"text": "It is.", "version": 1})
    clients["data_manager"].done("POST", f"/queries/{closed}/closing", {"version": 1})

    with counted_statements(shared_database) as of_two:
        assert listed(monitor) == {"M-001": 2, "M-002": 0}
    assert len(of_two) <= len(of_one) <= 4
    standing = monitor.done("GET", "/queries", params={"state": "standing"})["items"]
    assert [row["participant"] for row in standing] == ["M-001", "M-001"]
    assert list(listed(coordinator, sort="queries")) == ["M-002", "M-001"]
    assert list(listed(coordinator, sort="-queries", site="north")) == ["M-001", "M-002"]
    assert listed(coordinator, queries="standing") == {"M-001": 2}
    first = coordinator.done("GET", "/participants", params={"sort": "-queries", "limit": "1"})
    then = coordinator.done("GET", "/participants", params={"sort": "-queries", "cursor": first["next"]})
    assert [row["code"] for page in (first, then) for row in page["items"]] == ["M-001", "M-002"]
    assert coordinator.done("GET", "/participants/M-001")["queries"] == 2

    assert listed(clinician) == {"M-001": None, "M-002": None}
    assert clinician.done("GET", "/participants/M-001")["queries"] is None
    for params in ({"sort": "queries"}, {"sort": "-queries"}, {"queries": "standing"}):
        clinician.refused(403, "GET", "/participants", params=params)
    coordinator.refused(422, "GET", "/participants", params={"queries": "closed"})


@pytest.mark.requirement("E6-9")
def test_what_is_to_be_verified_is_listed_and_counted_over_rest(clients):
    monitor, site = clients["monitor"], clients["assessor"]

    def listed(**params):
        found = monitor.done("GET", "/verification", params=params)["items"]
        return [(each["participant"], each["visit"], each["instrument"], each["state"]) for each in found]

    def counted(**params):
        found = monitor.done("GET", "/verification/counts", params=params)
        assert sum(each["total"] for each in found["sites"]) == found["in_all"]["total"]
        return {name: found["in_all"][name] for name in ("to_verify", "verified", "changed", "percent")}

    place = ("M-001", "week18", "pain")
    assert listed() == listed(state="to_verify") == [(*place, "unverified")]
    assert counted() == {"to_verify": 1, "verified": 0, "changed": 0, "percent": 0}
    noted = {"values": {**PAIN, "pain_note": "worse"}, "base_version": 1, "why": "Left out"}
    site.done("PUT", ENTRY, noted)
    monitor.done("PUT", f"{ENTRY}/verification", {"version": 2})
    assert (listed(state="to_verify"), listed(state="verified")) == ([], [(*place, "verified")])
    assert counted(visit="week18", instrument="pain") == {"to_verify": 0, "verified": 1, "changed": 0, "percent": 100}
    assert counted(visit="baseline")["percent"] is None
    site.done("PUT", ENTRY, {"values": PAIN, "base_version": 2, "why": "Of somebody else"})
    (row,) = monitor.done("GET", "/verification", params={"state": "changed", "participant": "M-001"})["items"]
    assert (row["answers"], row["verified"], row["changed"], row["has_query"]) == (2, 2, 1, False)
    assert counted() == {"to_verify": 1, "verified": 0, "changed": 1, "percent": 0}
    assert monitor.done("PUT", f"{ENTRY}/verification", {"version": 3})["whole"], "also that the answer is gone"
    assert listed(state="to_verify") == []
    monitor.refused(422, "GET", "/verification", params={"state": "signed"})
    clients["clinician"].refused(403, "GET", "/verification")
    clients["clinician"].refused(403, "GET", "/verification/counts")


@pytest.mark.requirement("SEC-10", "E6-12", "P11-f")
def test_what_is_locked_is_opened_by_two_over_rest(clients):
    manager, site = clients["data_manager"], clients["assessor"]
    verified = clients["monitor"].done("PUT", f"{ENTRY}/verification", {"version": 1})
    assert (verified["whole"], set(verified["items"])) == (True, set(PAIN))
    body = {"kind": "locked", "participants": ["M-001"], "why": "Clean"}
    assert "waits for a signature" in manager.refused(409, "POST", "/locks", body)["detail"]
    assert manager.done("POST", "/locks", {**body, "despite": True}) == {"closed": 1}
    change = {"values": {**PAIN, "pain_nrs": 6}, "base_version": 1, "why": "Misheard"}
    assert "is locked" in site.refused(409, "PUT", ENTRY, change)["detail"]
    visit = site.rows("/participants/M-001/visits")[2]
    missed = {"status": "missed", "reason": "Ill", "version": visit["version"]}
    assert "is locked" in site.refused(409, "PUT", "/participants/M-001/visits/week18", missed)["detail"]
    session = "/treatment/participants/M-001/sessions/tx01/missed"
    assert "is locked" in clients["clinician"].refused(409, "POST", session, {"version": 1, "why": "Ill"})["detail"]
    (lock,) = site.done("GET", "/locks")["items"]
    where = f"/locks/{lock['number']}"
    manager.done("POST", f"{where}/unlock-request", {"why": "A page was found"})
    approval = {"approve": True, "password": PASSWORD}
    assert "second person" in manager.refused(409, "POST", f"{where}/unlock-decision", approval)["detail"]
    clients["second"].refused(422, "POST", f"{where}/unlock-decision", {"approve": True, "password": "no"})
    clients["second"].done("POST", f"{where}/unlock-decision", approval)
    assert site.done("PUT", ENTRY, change)["version"] == 2
    assert site.done("GET", "/locks")["items"] == []


@pytest.mark.requirement("P11-50a", "P11-70", "FDA-19", "P11-b")
def test_a_casebook_over_rest(clients):
    doctor = clients["investigator"]
    shown = doctor.done("GET", CASEBOOK)
    assert [(line["visit"], line["instrument"], line["version"]) for line in shown["entries"]] == [
        ("week18", "pain", 1)
    ]
    body = {"meaning": "review", "digest": shown["digests"]["review"], "password": PASSWORD}
    doctor.refused(422, "POST", f"{CASEBOOK}/signature", {**body, "password": "no"})
    doctor.refused(409, "POST", f"{CASEBOOK}/signature", {**body, "digest": shown["digests"]["approval"]})
    signed = doctor.done("POST", f"{CASEBOOK}/signature", body)
    assert (signed["signed"], signed["signed_meaning"], signed["signed_digest"]) == (True, "review", body["digest"])
    change = {"values": {**PAIN, "pain_nrs": 6}, "base_version": 1, "why": "Misheard"}
    clients["assessor"].done("PUT", ENTRY, change)
    assert doctor.done("GET", CASEBOOK)["signed"] is False
    file = clients["monitor"].get(f"{CASEBOOK}.pdf")
    assert (file.headers["content-type"], file.content[:5]) == ("application/pdf", b"%PDF-")
    clients["clinician"].refused(403, "GET", CASEBOOK)
