"""One participant from screening to export over REST; at every step what is refused, why, and that it is on record."""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from starlette.testclient import TestClient

from app.people.access import Actor
from app.people.permissions import Role
from app.randomisation.rules import NOT_OPEN
from tests.api.client import PASSWORD, ApiClient, api_client, application_on
from tests.factories import mini_study, person

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ELIGIBLE = {"age": 44, "pain_screen": 6, "surgery": False}
CONSENT = {"version": "1", "signed_on": "2026-03-02", "signature": "Anna Muster", "password": PASSWORD}
PAIN = {"pain_nrs": 6, "pain_days": 5, "pain_where": ["back", "leg"]}
LIST = "stratum,position,arm\nnorth,1,sham\nnorth,2,active\nsouth,1,active\n"

pytestmark = pytest.mark.both_databases


@dataclass
class Site:
    """The programs of everybody in the small trial, on one application and one clock."""

    clients: dict[str, ApiClient]
    clock: Any

    def __getattr__(self, name: str) -> ApiClient:
        return self.clients[name]

    def refusals(self, participant: str = "") -> list[tuple[str, str, str]]:
        """Who was refused what, and why, as the log has it; the newest first."""
        query = {"participant": participant} if participant else {}
        page = self.clients["data_manager"].done("GET", "/audit", params={"limit": 500, **query})
        return [
            (entry["username"], entry["action"], entry["why"])
            for entry in page["items"]
            if entry["action"].endswith("_refused")
        ]

    def used(self) -> dict[str, int]:
        """Slots used by stratum, in the newest list, as the statistician sees it."""
        strata = self.clients["statistician"].rows("/sequences")[0]["strata"]
        return {stratum["code"]: stratum["used"] for stratum in strata}

    def screened(self, **answers: Any) -> str:
        body = {"site": "north", "answers": {**ELIGIBLE, **answers}}
        return str(self.clients["coordinator"].done("POST", "/participants", body)["code"])

    def consented(self) -> str:
        code = self.screened()
        self.clients["coordinator"].done("POST", f"/participants/{code}/consents", CONSENT)
        return code

    def ready(self) -> str:
        """Somebody who lacks nothing but an arm."""
        code = self.consented()
        where = f"/participants/{code}/visits/baseline/entries/pain"
        self.clients["assessor"].done("PUT", where, {"values": PAIN})
        return code

    def seal(self, listing: str = LIST) -> None:
        statistician = self.clients["statistician"]
        version = statistician.done("POST", "/sequences", {"method": "list", "csv": listing})["version"]
        statistician.done("POST", f"/sequences/{version}/seal", {"password": PASSWORD})


@pytest.fixture
def site(shared_database: Any) -> Iterator[Site]:
    with time_machine.travel(NOW) as clock:
        with shared_database.writing() as session:
            study = mini_study(session)
            people: dict[str, Actor] = {
                str(role): person(session, study, role)
                for role in Role
                if role not in (Role.ADMINISTRATOR, Role.STATISTICIAN)
            }
            people["statistician"] = person(session, study, Role.STATISTICIAN, site_code=None)
            people["administrator"] = person(session, study, Role.ADMINISTRATOR, site_code=None)
            people["south"] = person(session, study, Role.COORDINATOR, site_code="south")
        http = TestClient(application_on(shared_database), base_url="http://trial.test")
        clients = {name: api_client(shared_database, actor, http=http) for name, actor in people.items()}
        yield Site(clients, clock)


def test_the_whole_walk_from_screening_to_export(site):
    site.seal()
    screened = site.coordinator.post(
        "/participants", {"site": "north", "answers": ELIGIBLE, "personal": {"given_name": "Anna"}}
    )
    assert screened.status_code == 201
    said = screened.json()
    code = said["code"]
    assert (said["status"], said["eligible"]) == ("screened", True)
    assert {verdict["code"]: verdict["met"] for verdict in said["verdicts"]} == {
        "adult": True,
        "pain": True,
        "surgery": True,
    }
    assert screened.headers["location"].endswith(f"/participants/{code}")
    where = f"/participants/{code}"
    assert "Anna" not in site.coordinator.get(where).text  # who somebody is has a door of its own

    consent = site.coordinator.done("POST", f"{where}/consents", {**CONSENT, "countersign": False})
    assert consent["countersigned_at"] is None
    assert site.coordinator.rows(f"{where}/visits") == []
    signature = f"{where}/consents/{consent['id']}/countersignature"
    consent = site.investigator.done("POST", signature, {"password": PASSWORD})
    assert consent["countersigned_name"] == site.investigator.actor.name

    (visit,) = site.assessor.rows(f"{where}/visits")
    assert (visit["code"], visit["target_on"], visit["status"]) == ("baseline", "2026-03-02", "planned")
    site.assessor.done("PUT", f"{where}/visits/baseline", {"status": "held", "held_on": "2026-03-02", "version": 1})

    gates = site.coordinator.done("GET", f"{where}/gates")
    assert not gates["ready"]
    assert [gate["code"] for gate in gates["gates"] if not gate["open"]] == ["baseline"]
    assert gates["reason"] == "Complete Pain (Baseline) first."
    saved = site.assessor.done("PUT", f"{where}/visits/baseline/entries/pain", {"values": PAIN})
    assert (saved["status"], saved["version"], saved["values"]) == ("complete", 1, PAIN)
    assert site.coordinator.done("GET", f"{where}/gates")["ready"]

    key = {"Idempotency-Key": f"randomise-{code}"}
    randomised = site.coordinator.done("POST", f"{where}/randomise", headers=key)
    assert set(randomised) == {"allocation", "randomised_at"}
    assert randomised["allocation"] == 1
    assert site.coordinator.done("POST", f"{where}/randomise", headers=key) == randomised
    assert site.used() == {"north": 1, "south": 0}
    assert site.coordinator.done("GET", where)["status"] == "randomised"
    assert [one["code"] for one in site.coordinator.rows(f"{where}/visits")] == ["baseline", "tx01", "week18"]

    site.clock.move_to(NOW + timedelta(days=126))
    site.assessor.done("PUT", f"{where}/visits/week18", {"status": "held", "held_on": "2026-07-06", "version": 1})
    disability = f"{where}/visits/week18/entries/disability"
    saved = site.assessor.done("PUT", disability, {"values": {"dis_items": ["3", "7", "11"], "dis_weight": 71.5}})
    assert saved["values"]["dis_score"] == 3
    pain = f"{where}/visits/week18/entries/pain"
    unusual = {"values": {"pain_nrs": 0, "pain_days": 3}}
    problem = site.assessor.refused(422, "PUT", pain, unusual)
    assert [(each["field"], each["message"][:8]) for each in problem["errors"]] == [("pain_days__why", "No pain,")]
    saved = site.assessor.done("PUT", pain, {**unusual, "reasons": {"pain_days": "Pain ended yesterday."}})
    assert (saved["status"], [finding["kind"] for finding in saved["findings"]]) == ("complete", ["soft"])

    corrected = {"values": {"dis_items": ["3", "7"], "dis_weight": 71.5}, "base_version": 1}
    assert [each["field"] for each in site.assessor.refused(422, "PUT", disability, corrected)["errors"]] == ["why"]
    saved = site.assessor.done("PUT", disability, {**corrected, "why": "Statement 11 was ticked by mistake."})
    assert (saved["version"], saved["values"]["dis_score"]) == (2, 2)
    assert set(saved["changed"]) == {"dis_items", "dis_score"}
    history = site.assessor.rows(f"{disability}/history", params={"item": "dis_items"})
    assert (history[-1]["old"], history[-1]["new"], history[-1]["why"]) == (
        ["3", "7", "11"],
        ["3", "7"],
        "Statement 11 was ticked by mistake.",
    )

    wrong = {"version": 2, "password": "not my password at all"}
    problem = site.assessor.refused(422, "POST", f"{disability}/signature", wrong)
    assert [each["field"] for each in problem["errors"]] == ["password"]
    signed = site.assessor.done("POST", f"{disability}/signature", {"version": 2, "password": PASSWORD})
    assert (signed["signed_name"], signed["signed_meaning"]) == (site.assessor.actor.name, "authorship")
    again = {
        **corrected,
        "base_version": 2,
        "values": {"dis_items": ["3"], "dis_weight": 71.5},
        "why": "Only one applies.",
    }
    assert site.assessor.done("PUT", disability, again)["version"] == 3
    assert site.assessor.done("GET", disability)["signed_at"] is None

    rows = list(csv.DictReader(io.StringIO(site.data_manager.get("/exports/entries_by_visit.csv").text, newline="")))
    assert [(row["participant"], row["visit"]) for row in rows] == [(code, "baseline"), (code, "week18")]
    assert rows[0]["pain__pain_nrs"] == "6"
    assert (rows[0]["pain__pain_where__back"], rows[0]["pain__pain_where__leg"]) == ("1", "1")
    assert (rows[1]["pain__pain_nrs"], rows[1]["disability__dis_weight"]) == ("0", "71.5")
    assert rows[1]["disability__dis_score"] == "1"
    allocations = site.statistician.done("GET", "/allocations")["items"]
    assert [(row["participant"], row["arm"]) for row in allocations] == [(code, "sham")]
    log = site.data_manager.done("GET", "/audit", params={"limit": 500})["items"]
    assert {entry["via"] for entry in log} == {"api"}
    assert {
        "participant.screened",
        "consent.countersigned",
        "participant.randomised",
        "entry.signed",
        "export.run",
    } <= {entry["action"] for entry in log}


def test_a_walk_with_mistakes_put_right_on_the_way(site):
    """From screening to export over REST alone: a name, a visit's day and a visit recorded in error are corrected."""
    site.seal()
    personal = {"given_name": "Annabella", "family_name": "Muster"}
    code = site.coordinator.done("POST", "/participants", {"site": "north", "answers": ELIGIBLE, "personal": personal})[
        "code"
    ]
    where = f"/participants/{code}"
    consent = site.coordinator.done("POST", f"{where}/consents", CONSENT)

    shown = site.coordinator.done("GET", f"{where}/personal-data")
    assert (shown["personal"]["family_name"], shown["version"]) == ("Muster", 1)
    changed = {"personal": {**personal, "family_name": "Musterova"}, "version": 1, "why": "Misspelt at screening."}
    assert site.coordinator.done("PUT", f"{where}/personal-data", changed)["version"] == 2
    assert site.coordinator.done("GET", f"{where}/personal-data")["personal"]["family_name"] == "Musterova"
    signature = site.coordinator.done("GET", f"{where}/consents/{consent['id']}/signature")
    assert (signature["signature"], signature["is_intact"]) == ("Anna Muster", True)  # what was signed stays signed

    site.assessor.done("PUT", f"{where}/visits/baseline", {"status": "held", "held_on": "2026-03-02", "version": 1})
    site.assessor.done("PUT", f"{where}/visits/baseline/entries/pain", {"values": PAIN})
    site.coordinator.done("POST", f"{where}/randomise")

    site.clock.move_to(NOW + timedelta(days=7))
    session = f"/treatment{where}/sessions/tx01"
    site.clinician.done("POST", f"{session}/missed", {"version": 1, "why": "The wrong line of the diary."})
    site.clinician.done("POST", f"{session}/reopening", {"version": 2, "why": "They came."})
    delivered = {"laser": {"laser_minutes": 20}}
    site.clinician.done("PUT", session, {"held_on": "2026-03-09", "delivered": delivered, "version": 0})

    site.clock.move_to(NOW + timedelta(days=126))
    week18 = f"{where}/visits/week18"
    missed = site.assessor.done("PUT", week18, {"status": "missed", "reason": "Did not come.", "version": 1})
    reopened = site.assessor.done(
        "POST", f"{week18}/reopening", {"version": missed["version"], "why": "They came late in the day."}
    )
    assert (reopened["status"], reopened["held_on"]) == ("planned", None)
    held = {"status": "held", "held_on": "2026-07-06", "version": reopened["version"]}
    held = site.assessor.done("PUT", week18, held)
    correction = {"held_on": "2026-07-05", "version": held["version"], "why": "It was the day before."}
    assert site.assessor.done("POST", f"{week18}/correction", correction)["held_on"] == "2026-07-05"
    for form, values in (("pain", {"pain_nrs": 2, "pain_days": 3}), ("disability", {"dis_weight": 70})):
        assert site.assessor.done("PUT", f"{week18}/entries/{form}", {"values": values})["status"] == "complete"

    rows = list(csv.DictReader(io.StringIO(site.data_manager.get("/exports/visits.csv").text, newline="")))
    assert [(row["participant"], row["visit"], row["held_on"]) for row in rows] == [
        (code, "baseline", "2026-03-02"),
        (code, "tx01", "2026-03-09"),
        (code, "week18", "2026-07-05"),
    ]
    log = site.data_manager.done("GET", "/audit", params={"limit": 500, "participant": code})["items"]
    why = {entry["action"]: entry["why"] for entry in log}
    assert {entry["via"] for entry in log} == {"api"}
    assert (why["identity.changed"], why["visit.corrected"]) == (changed["why"], correction["why"])
    assert [entry["why"] for entry in log if entry["action"] == "visit.reopened"] == [
        "They came late in the day.",
        "They came.",
    ]
    assert [entry["action"] for entry in log].count("identity.shown") == 3
    assert not any(name in str(log) for name in ("Muster", "Annabella"))
    found = site.data_manager.done("POST", "/audit/verification")
    assert (found["intact"], found["faults"]) == (True, [])


# What is refused


def test_somebody_who_is_not_eligible_is_kept_and_goes_no_further(site):
    site.seal()
    said = site.coordinator.done("POST", "/participants", {"site": "north", "answers": {**ELIGIBLE, "age": 80}})
    assert (said["status"], said["eligible"]) == ("screen_failed", False)
    assert [verdict["code"] for verdict in said["verdicts"] if not verdict["met"]] == ["adult"]
    where = f"/participants/{said['code']}"
    assert "did not pass screening" in site.coordinator.refused(409, "POST", f"{where}/consents", CONSENT)["detail"]
    entry = f"{where}/visits/baseline/entries/pain"
    assert "did not pass screening" in site.assessor.refused(409, "PUT", entry, {"values": PAIN})["detail"]
    assert "not eligible" in site.coordinator.refused(409, "POST", f"{where}/randomise")["detail"]
    assert [action for _, action, _ in site.refusals(said["code"])] == [
        "participant.randomise_refused",
        "entry.save_refused",
        "consent.record_refused",
    ]
    assert site.used() == {"north": 0, "south": 0}


def test_an_unanswered_criterion_is_asked_for(site):
    answers = {name: value for name, value in ELIGIBLE.items() if name != "surgery"}
    problem = site.coordinator.refused(422, "POST", "/participants", {"site": "north", "answers": answers})
    assert [each["field"] for each in problem["errors"]] == ["surgery"]


def test_without_a_complete_consent_nothing_is_collected(site):
    site.seal()
    code = site.screened()
    where = f"/participants/{code}"
    entry = f"{where}/visits/baseline/entries/pain"
    site.coordinator.refused(409, "PUT", entry, {"values": PAIN})
    assert "consent" in site.coordinator.refused(409, "POST", f"{where}/randomise")["detail"]
    problem = site.coordinator.refused(422, "POST", f"{where}/consents", {**CONSENT, "password": "wrong"})
    assert [each["field"] for each in problem["errors"]] == ["password"]
    problem = site.coordinator.refused(422, "POST", f"{where}/consents", {**CONSENT, "answers": {"stop": "no"}})
    assert [each["field"] for each in problem["errors"]] == ["answers.stop"], "as the body calls it"
    assert site.coordinator.rows(f"{where}/consents") == []
    site.coordinator.done("POST", f"{where}/consents", {**CONSENT, "countersign": False})
    site.coordinator.refused(409, "PUT", entry, {"values": PAIN})
    assert "not countersigned" in site.coordinator.refused(409, "POST", f"{where}/randomise")["detail"]
    assert site.used() == {"north": 0, "south": 0}
    assert len(site.refusals(code)) == 4


def test_a_visit_that_randomisation_opens_takes_no_entry_before(site):
    code = site.ready()
    where = f"/participants/{code}/visits/week18"
    assert "no visit" in site.assessor.refused(409, "PUT", f"{where}/entries/pain", {"values": PAIN})["detail"]
    site.assessor.refused(404, "PUT", where, {"status": "held", "held_on": "2026-03-02", "version": 1})


def test_nobody_is_randomised_before_the_list_is_sealed_or_after_it_is_used_up(site):
    first, second, third = site.ready(), site.ready(), site.ready()

    def refused(code: str) -> None:
        gates = site.coordinator.done("GET", f"/participants/{code}/gates")
        assert (gates["ready"], gates["reason"]) == (False, NOT_OPEN)
        assert site.coordinator.refused(409, "POST", f"/participants/{code}/randomise")["detail"] == NOT_OPEN
        assert site.coordinator.done("GET", f"/participants/{code}")["status"] == "consented"
        username = site.coordinator.actor.username
        assert site.refusals(code)[0] == (username, "participant.randomise_refused", NOT_OPEN)

    refused(first)  # no list at all
    site.statistician.done("POST", "/sequences", {"method": "list", "csv": LIST})
    refused(first)  # drawn, not sealed
    wrong = site.statistician.refused(422, "POST", "/sequences/1/seal", {"password": "a wrong one"})
    assert [each["field"] for each in wrong["errors"]] == ["password"]
    refused(first)
    site.statistician.done("POST", "/sequences/1/seal", {"password": PASSWORD})
    for number, code in enumerate((first, second), start=1):
        assert site.coordinator.done("POST", f"/participants/{code}/randomise")["allocation"] == number
    assert site.used() == {"north": 2, "south": 0}
    refused(third)  # the stratum is used up, and the slot of the other site is not touched
    assert site.used() == {"north": 2, "south": 0}
    arms = {row["participant"]: row["arm"] for row in site.statistician.done("GET", "/allocations")["items"]}
    assert arms == {first: "sham", second: "active"}


def test_nobody_is_randomised_twice(site):
    site.seal()
    code = site.ready()
    where = f"/participants/{code}/randomise"
    site.coordinator.done("POST", where, headers={"Idempotency-Key": "one"})
    for headers in ({}, {"Idempotency-Key": "two"}):
        assert "already randomised" in site.coordinator.refused(409, "POST", where, headers=headers)["detail"]
    assert site.used() == {"north": 1, "south": 0}
    assert [action for _, action, _ in site.refusals(code)] == ["participant.randomise_refused"] * 2


def test_the_withdrawn_are_not_randomised_and_their_visits_stop(site):
    site.seal()
    code = site.ready()
    where = f"/participants/{code}"
    said = site.coordinator.done(
        "POST", f"{where}/withdrawal", {"level": "visits", "on": "2026-03-02", "reason": "Moved away."}
    )
    assert (said["status"], said["withdrawal_level"]) == ("withdrawn", "visits")
    assert "withdrawn" in site.coordinator.refused(409, "POST", f"{where}/randomise")["detail"]
    assert {visit["status"] for visit in site.coordinator.rows(f"{where}/visits")} == {"stopped"}
    assert site.used() == {"north": 0, "south": 0}


def test_a_participant_of_another_site_is_nobody(site):
    site.seal()
    code = site.ready()
    where = f"/participants/{code}"
    requests: list[tuple[str, str, Any]] = [
        ("GET", where, None),
        ("GET", f"{where}/consents", None),
        ("GET", f"{where}/visits", None),
        ("GET", f"{where}/entries", None),
        ("GET", f"{where}/gates", None),
        ("GET", f"{where}/visits/baseline/entries/pain", None),
        ("GET", f"{where}/visits/baseline/entries/pain/history", None),
        ("POST", f"{where}/consents", CONSENT),
        ("PUT", f"{where}/visits/baseline", {"status": "held", "held_on": "2026-03-02", "version": 1}),
        ("PUT", f"{where}/visits/baseline/entries/pain", {"values": PAIN}),
        ("POST", f"{where}/visits/baseline/entries/pain/signature", {"version": 1, "password": PASSWORD}),
        ("POST", f"{where}/randomise", None),
        ("POST", f"{where}/withdrawal", {"level": "visits", "on": "2026-03-02", "reason": "Not mine."}),
    ]
    for method, path, body in requests:
        site.south.refused(404, method, path, body)
    north = {"site": "north", "answers": ELIGIBLE}
    assert "at this site" in site.south.refused(403, "POST", "/participants", north)["detail"]
    assert site.used() == {"north": 0, "south": 0}
    assert site.coordinator.done("GET", where)["status"] == "consented"


STEPS: dict[str, tuple[str, Callable[[str], str], Any, set[str]]] = {
    "screen": (
        "POST",
        lambda code: "/participants",
        {"site": "north", "answers": ELIGIBLE},
        {"coordinator", "investigator"},
    ),
    "consent": ("POST", lambda code: f"/participants/{code}/consents", CONSENT, {"coordinator", "investigator"}),
    "visit": (
        "PUT",
        lambda code: f"/participants/{code}/visits/baseline",
        {"status": "held", "held_on": "2026-03-02", "version": 1},
        {"coordinator", "assessor"},
    ),
    "entry": (
        "PUT",
        lambda code: f"/participants/{code}/visits/baseline/entries/pain",
        {"values": PAIN, "base_version": 1},
        {"coordinator", "assessor"},
    ),
    "sign": (
        "POST",
        lambda code: f"/participants/{code}/visits/baseline/entries/pain/signature",
        {"version": 1, "password": PASSWORD},
        {"assessor", "investigator"},
    ),
    "randomise": ("POST", lambda code: f"/participants/{code}/randomise", None, {"coordinator", "investigator"}),
    "withdraw": (
        "POST",
        lambda code: f"/participants/{code}/withdrawal",
        {"level": "visits", "on": "2026-03-02", "reason": "Moved away."},
        {"coordinator", "investigator"},
    ),
    "export": ("GET", lambda code: "/exports/participants.csv", None, {"data_manager", "statistician"}),
    "audit": ("GET", lambda code: "/audit", None, {"investigator", "data_manager", "monitor"}),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_step_is_refused_to_every_role_that_does_not_take_it(site, step):
    site.seal()
    code = site.ready()
    method, path, body, allowed = STEPS[step]
    for role in map(str, Role):
        if role in allowed:
            continue
        before = len(site.refusals())
        reply = site.clients[role].request(method, path(code), **({"json": body} if body else {}))
        # Who may not know a participant at all is told that there is none.
        hidden = role in ("statistician", "administrator") and code in path(code)
        assert reply.status_code == (404 if hidden else 403), (role, reply.text)
        if not hidden:
            username, _, why = site.refusals()[0]
            assert (username, why) == (site.clients[role].actor.username, reply.json()["detail"]), role
            assert len(site.refusals()) == before + 1
    assert site.used() == {"north": 0, "south": 0}
    assert site.coordinator.done("GET", f"/participants/{code}")["status"] == "consented"


def test_what_is_the_statisticians_or_the_clinicians_is_there_for_nobody_else(site):
    site.seal()
    code = site.ready()
    site.coordinator.done("POST", f"/participants/{code}/randomise")
    hidden = {
        "/sequences": "statistician",
        "/sequences/1": "statistician",
        "/allocations": "statistician",
        "/exports-unblinded/participants.csv": "statistician",
        "/treatment/exposure.json": "statistician",
        "/treatment/participants": "clinician",
        f"/treatment/participants/{code}": "clinician",
    }
    for path, owner in hidden.items():
        for role in map(str, Role):
            reply = site.clients[role].get(path)
            assert reply.status_code == (200 if role == owner else 404), (path, role, reply.text)
            if role != owner:
                assert reply.json() == site.clients[role].get("/no-such-address").json()
