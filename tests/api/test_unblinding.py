"""Unblinding over REST: the arm once, in the first answer; requests, accidents and the report without one."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from app.foundation.database import Database, table_of
from app.foundation.idempotency import IdempotentRequest
from app.people.access import Actor
from tests.api.client import PASSWORD, ApiClient, api_client
from tests.web.test_unblinding import SAID, Blind

UNBLIND = "/participants/M-001/unblinding"
BODY = {**SAID, "password": PASSWORD}
KEY = {"Idempotency-Key": "emergency-1"}
LEARNT = {"participant": "M-001", "learnt_by": "The assessor", "how": "A letter lay open"}


@pytest.fixture
def blind(begun: Any, kind: str) -> Iterator[Blind]:
    with begun(kind, Blind) as blind:
        yield blind


def program(blind: Blind, actor: Actor, scopes: list[str] | None = None) -> ApiClient:
    return api_client(blind.database, actor, scopes)


@pytest.mark.requirement("E6-6", "SPI-24c", "WHO-1")
def test_the_first_answer_has_the_arm_and_no_later_one(blind: Blind):
    doctor = program(blind, blind.doctor)
    first, again = (doctor.post(UNBLIND, BODY, headers=KEY) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.headers["cache-control"] == again.headers["cache-control"] == "no-store"
    assert first.json()["arm"] == blind.arms["M-001"]
    assert first.json()["arm_label"] == blind.label()
    assert again.headers["idempotent-replay"] == "true"
    assert again.json() == {
        "unblinding": first.json()["unblinding"],
        "participant": "M-001",
        "arm": None,
        "arm_label": None,
        "note": again.json()["note"],
    }
    assert "shown once" in again.json()["note"]
    assert len(blind.log("envelope.opened")) == len(blind.rows()) == 1
    with blind.database.reading() as session:
        kept = [str(row) for row in session.execute(select(table_of(IdempotentRequest)))]
    assert kept
    assert not [row for row in kept if blind.arms["M-001"] in row or blind.label() in row]


@pytest.mark.requirement("E6-6")
def test_the_same_request_several_times_at_once_shows_it_to_one(database: Database):
    blind = Blind(database)
    doctor = program(blind, blind.doctor)
    with ThreadPoolExecutor(4) as threads:
        replies = list(threads.map(lambda _: doctor.post(UNBLIND, BODY, headers=KEY), range(4)))
    assert {reply.status_code for reply in replies} == {200}
    assert sorted(reply.json()["arm"] is None for reply in replies) == [False, True, True, True]
    assert len(blind.log("envelope.opened")) == len(blind.rows()) == 1


@pytest.mark.requirement("E6-6", "SEC-22")
def test_a_token_alone_breaks_no_blind(blind: Blind):
    doctor = program(blind, blind.doctor)
    problem = doctor.refused(422, "POST", UNBLIND, {**BODY, "password": "not this one"})
    assert [each["field"] for each in problem["errors"]] == ["password"]
    doctor.refused(422, "POST", UNBLIND, {**BODY, "reason": "curiosity"})
    program(blind, blind.doctor, ["participant.read"]).refused(403, "POST", UNBLIND, BODY)
    program(blind, blind.manager).refused(403, "POST", UNBLIND, BODY)
    program(blind, blind.doctor).refused(404, "POST", "/participants/M-003/unblinding", BODY)
    assert blind.rows() == []
    assert blind.log("envelope.opened") == []


@pytest.mark.requirement("E6-4")
def test_the_report_is_answered_page_by_page_without_an_arm(blind: Blind):
    doctor = program(blind, blind.doctor)
    for number in range(3):
        doctor.done("POST", UNBLIND, {**BODY, "why": f"Event {number}"})
    manager = program(blind, blind.manager)
    first = manager.done("GET", "/unblindings?limit=2")
    rest = manager.done("GET", f"/unblindings?limit=2&cursor={first['next']}")
    assert [row["why"] for row in [*first["items"], *rest["items"]]] == ["Event 2", "Event 1", "Event 0"]
    assert rest["next"] is None
    assert not {"arm", "arm_label"} & set(first["items"][0])
    words = json.dumps([first, rest, manager.rows("/unblindings/openings")])
    assert not [arm for arm in ("active", "sham", "Zephyrine", "Placebex") if arm in words]
    assert manager.done("GET", f"/unblindings/{first['items'][0]['number']}") == first["items"][0]
    assert manager.done("GET", "/unblindings?kind=planned")["items"] == []
    manager.refused(422, "GET", "/unblindings?cursor=nonsense")
    south = api_client(blind.database, blind.world.person("investigator", site_code="south"))
    assert south.done("GET", "/unblindings")["items"] == []
    south.refused(404, "GET", f"/unblindings/{first['items'][0]['number']}")
    program(blind, blind.world.person("assessor")).refused(403, "GET", "/unblindings")


@pytest.mark.requirement("E6-3", "E6-4")
def test_an_accident_is_recorded_and_assessed(blind: Blind):
    on = {"on": blind.world.today().isoformat()}
    assessor = program(blind, blind.world.person("assessor"))
    assessor.refused(422, "POST", "/unblindings/accidental", {**LEARNT, **on, "how": "It was Placebex device"})
    assessor.refused(422, "POST", "/unblindings/accidental", {**LEARNT, **on, "participant": "M-003"})
    made = assessor.done("POST", "/unblindings/accidental", {**LEARNT, **on})
    manager = program(blind, blind.manager)
    assert [row["state"] for row in manager.done("GET", "/unblindings?waiting=true")["items"]] == ["open"]
    address = f"/unblindings/{made['number']}/impact"
    assessor.refused(403, "POST", address, {"impact": "None"})
    assert manager.done("POST", address, {"impact": "Week 26 is assessed by somebody else."})["state"] == "assessed"
    manager.refused(409, "POST", address, {"impact": "None"})
    assert manager.done("GET", "/unblindings?waiting=true")["items"] == []


@pytest.mark.requirement("E6-4", "WHO-1")
@pytest.mark.parametrize("participant", [None, "M-002"])
def test_two_people_open_what_was_asked_for(blind: Blind, participant: Any):
    manager, statistician = program(blind, blind.manager), program(blind, blind.statistician)
    number = manager.done("POST", "/unblindings/requests", {"participant": participant, "why": "The analysis"})[
        "number"
    ]
    decision, arms = f"/unblindings/{number}/decision", f"/unblindings/{number}/arms"
    yes = {"approve": True, "password": PASSWORD}
    statistician.refused(409, "POST", decision, yes)  # the study goes on
    blind.close()
    manager.refused(409, "POST", decision, yes)
    statistician.refused(422, "POST", decision, {**yes, "password": ""})
    manager.refused(404, "GET", arms)
    assert statistician.done("POST", decision, yes)["state"] == "approved"
    shown = {row["participant"]: row["arm"] for row in manager.done("GET", arms)["items"]}
    assert shown == {code: arm for code, arm in blind.arms.items() if participant in (None, code)}
    statistician.refused(404, "GET", arms)
    program(blind, blind.doctor).refused(404, "GET", arms)
    assert len(blind.log("envelope.opened")) == len(shown)


@pytest.mark.requirement("E6-4")
def test_a_request_is_refused_with_the_reason(blind: Blind):
    manager, statistician = program(blind, blind.manager), program(blind, blind.statistician)
    number = manager.done("POST", "/unblindings/requests", {"why": "The analysis"})["number"]
    decision = f"/unblindings/{number}/decision"
    statistician.refused(422, "POST", decision, {"approve": False})
    done = statistician.done("POST", decision, {"approve": False, "why": "Not before the last visit"})
    assert (done["state"], done["decision"]) == ("refused", "Not before the last visit")
    manager.refused(404, "GET", f"/unblindings/{number}/arms")


def test_what_an_approved_request_opened_is_read_page_by_page(blind: Blind):
    manager, statistician = program(blind, blind.manager), program(blind, blind.statistician)
    number = manager.done("POST", "/unblindings/requests", {"why": "The analysis"})["number"]
    blind.close()
    statistician.done("POST", f"/unblindings/{number}/decision", {"approve": True, "password": PASSWORD})
    first = manager.done("GET", f"/unblindings/{number}/arms?limit=2")
    rest = manager.done("GET", f"/unblindings/{number}/arms?limit=2&cursor={first['next']}")
    assert [row["participant"] for row in [*first["items"], *rest["items"]]] == ["M-001", "M-002", "M-003"]
    assert rest["next"] is None
    assert len(blind.log("envelope.opened")) == 3
