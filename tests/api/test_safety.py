"""Safety over REST: events from report to review, deviations, lines and ends; each the same as on the pages."""

from datetime import timedelta
from typing import Any

import pytest

from app.foundation import clock
from app.foundation.database import Database
from tests.api.client import PASSWORD, ApiClient, api_client
from tests.safety.world import SAFETY
from tests.web.world import World

PERSON = "/participants/M-001"
EVENTS = f"{PERSON}/adverse-events"


class Place:
    """The small trial with one participant who consented today, and programs of its people."""

    def __init__(self, database: Database) -> None:
        self.world = World(database, safety=SAFETY)
        self.world.consented()
        self.coordinator = api_client(database, self.world.coordinators["north"])

    def program(self, role: str) -> ApiClient:
        return api_client(self.world.database, self.world.person(role), http=self.coordinator.http)

    def event(self, **changes: Any) -> dict[str, Any]:
        said = {"term": "A fall", "onset": f"{self.world.today():%Y-%m}", "severity": "mild", **changes}
        return {"details": said, "aware_at": (clock.now() - timedelta(hours=1)).isoformat()}


@pytest.fixture
def place(shared_database: Database) -> Place:
    return Place(shared_database)


@pytest.mark.requirement("E6-6", "P11-e1", "REL-4")
def test_an_event_from_report_to_review(place: Place):
    coordinator, investigator, manager = place.coordinator, place.program("investigator"), place.program("data_manager")
    body = place.event(criteria=["hospitalisation"])
    made = coordinator.done("POST", EVENTS, body, headers={"Idempotency-Key": "one"})
    assert coordinator.done("POST", EVENTS, body, headers={"Idempotency-Key": "one"}) == made
    assert coordinator.done("POST", EVENTS, body) == made
    number = made["event"]["number"]
    path = f"/adverse-events/{number}"
    assert [each["state"] for each in made["clocks"]] == ["running"]
    follow_up = {**body, "kind": "follow_up", "details": {**body["details"], "outcome": "recovered"}, "version": 1}
    assert coordinator.done("POST", f"{path}/reports", follow_up)["event"]["version"] == 2
    late = {**follow_up, "details": {**body["details"], "severity": "severe"}}
    assert coordinator.refused(409, "POST", f"{path}/reports", late)["current_version"] == 2
    correction = {**late, "kind": "correction", "version": 2}
    assert [each["field"] for each in coordinator.refused(422, "POST", f"{path}/reports", correction)["errors"]] == [
        "why"
    ]
    judgement = {"relatedness": "possible", "expected": True, "words": "It was known.", "version": 2}
    investigator.refused(422, "POST", f"{path}/judgements", judgement)
    judged = investigator.done("POST", f"{path}/judgements", {**judgement, "password": PASSWORD})
    assert (judged["event"]["state"], judged["judgements"][0]["knew_arm"]) == ("judged", False)
    review = {"agree": True, "judgement": judged["judgements"][0]["number"], "password": PASSWORD}
    investigator.refused(409, "POST", f"{path}/reviews", review)
    assert manager.done("POST", f"{path}/reviews", review)["event"]["state"] == "reviewed"
    sent = {"clock": "sponsor", "sent_at": clock.now().isoformat(), "reference": "SAE-7"}
    assert coordinator.done("POST", f"{path}/clocks", sent)["clocks"][0]["state"] == "reported"
    assert [each["number"] for each in manager.done("GET", "/adverse-events?serious=true")["items"]] == [number]
    assert manager.done("GET", "/adverse-events?waiting=judgement")["items"] == []
    void = coordinator.done("POST", f"{path}/void", {"why": "Another's", "version": 2})
    assert void["event"]["state"] == "void"


@pytest.mark.requirement("CONC-7", "CONC-11", "P11-g")
def test_a_clinician_confirms_words_and_sees_no_judgement(place: Place):
    clinician, investigator = place.program("clinician"), place.program("investigator")
    theirs = place.event(criteria=["disability"], narrative="Burnt by the laser")
    problem = clinician.refused(422, "POST", EVENTS, theirs)
    assert [(each["field"], each["rule"]) for each in problem["errors"]] == [("narrative", "arm")]
    made = clinician.done("POST", EVENTS, {**theirs, "confirmed": ["laser"]})
    number = made["event"]["number"]
    judgement = {"relatedness": "definite", "expected": False, "words": "So", "version": 1, "password": PASSWORD}
    investigator.done("POST", f"/adverse-events/{number}/judgements", judgement)
    seen = clinician.done("GET", f"/adverse-events/{number}")
    assert (seen["event"]["state"], seen["event"]["relatedness"], seen["judgements"], seen["clocks"]) == (
        "reported",
        None,
        [],
        [],
    )
    other = place.coordinator.done("POST", EVENTS, place.event(term="A cold"))["event"]["number"]
    clinician.refused(404, "GET", f"/adverse-events/{other}")
    assert [each["number"] for each in clinician.done("GET", "/adverse-events")["items"]] == [number]
    clinician.refused(403, "POST", f"/adverse-events/{number}/judgements", judgement)
    clinician.refused(403, "GET", "/deviations")


@pytest.mark.requirement("P11-e1", "P11-f")
def test_deviations_lines_and_ends(place: Place):
    coordinator, investigator = place.coordinator, place.program("investigator")
    on = place.world.today().isoformat()
    body = {"category": "procedure", "grade": "minor", "occurred_on": on, "what": "At home"}
    made = coordinator.done("POST", f"{PERSON}/deviations", body)
    path = f"/deviations/{made['number']}"
    assert place.program("clinician").done("POST", f"{PERSON}/deviations", {**body, "what": "Late"})["state"] == "open"
    investigator.refused(409, "POST", f"{path}/signature", {"version": 1, "password": PASSWORD})
    acted = coordinator.done("POST", f"{path}/action", {"grade": "minor", "action": "Told staff", "version": 1})
    investigator.refused(422, "POST", f"{path}/signature", {"version": 2, "password": "wrong"})
    signed = investigator.done("POST", f"{path}/signature", {"version": acted["version"], "password": PASSWORD})
    assert (signed["state"], signed["signed_by"]) == ("signed", investigator.actor.username)
    assert coordinator.done("GET", path) == signed
    assert len(coordinator.done("GET", "/deviations?unsigned=true")["items"]) == 1
    assert coordinator.done("POST", "/deviations") == {"found": 0}
    second = coordinator.done("POST", f"{PERSON}/deviations", {**body, "what": "Twice"})["number"]
    mistaken = coordinator.done("POST", f"/deviations/{second}/mistake", {"why": "Another study", "version": 1})
    assert mistaken["state"] == "gone"
    third = coordinator.done("POST", f"{PERSON}/deviations", {**body, "what": "Thrice"})["number"]
    several: dict[str, Any] = {"deviations": [{"number": third, "version": 1}], "action": "Told staff"}
    both = [*several["deviations"], {"number": second, "version": 2}]
    problem = coordinator.refused(422, "POST", "/deviations/actions", {**several, "deviations": both})
    assert [(each["field"], each["rule"]) for each in problem["errors"]] == [(f"deviations.{second}", "state")]
    (acted,) = coordinator.done("POST", "/deviations/actions", several)
    assert (acted["state"], acted["version"]) == ("acted", 2)
    signing = {"deviations": [{"number": third, "version": 2}], "password": "wrong"}
    investigator.refused(422, "POST", "/deviations/signatures", signing)
    coordinator.refused(403, "POST", "/deviations/signatures", signing)
    (signed,) = investigator.done("POST", "/deviations/signatures", {**signing, "password": PASSWORD})
    assert (signed["state"], signed["version"]) == ("signed", 3)
    assert coordinator.done("GET", "/deviations?visit=week18")["items"] == []

    call = {"at": clock.now().isoformat(), "how": "call", "result": "no_answer"}
    (line,) = coordinator.done("POST", f"{PERSON}/contacts", call)
    change = {**call, "result": "reached", "line": line["number"], "version": 1, "why": "Misheard"}
    (changed,) = coordinator.done("POST", f"{PERSON}/contacts", change)
    assert (changed["result"], changed["version"]) == ("reached", 2)
    assert investigator.rows(f"{PERSON}/contacts") == [changed]
    care = {"treatment": "Ibuprofen", "began": "2025", "indication": "Headache"}
    assert coordinator.done("POST", f"{PERSON}/care", care) == investigator.rows(f"{PERSON}/care")

    lost = {"kind": "lost", "on": on, "words": "Five calls", "password": PASSWORD}
    coordinator.refused(422, "POST", f"{PERSON}/ends", {**lost, "password": None})
    coordinator.refused(409, "POST", f"{PERSON}/ends", {**lost, "kind": "found"})
    coordinator.done("POST", f"{PERSON}/ends", lost)
    assert coordinator.done("GET", PERSON)["status"] == "lost"
    coordinator.done("POST", f"{PERSON}/ends", {**lost, "kind": "found", "words": "Met in the street"})
    assert [each["kind"] for each in investigator.rows(f"{PERSON}/ends")] == ["lost", "found"]
    assert coordinator.refused(422, "GET", "/screening-log?month=2026-13")["errors"][0]["field"] == "month"
    (screened,) = coordinator.done("GET", f"/screening-log?month={place.world.today():%Y-%m}")["items"]
    assert (screened["participant"], screened["eligible"], screened["status"]) == ("M-001", True, "consented")
