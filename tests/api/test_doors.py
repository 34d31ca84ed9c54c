"""What a page does a program does: personal data, signatures, visits, sessions, sequences, the log verified."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from sqlalchemy import select, update

from app.audit import checkpoints, replacing, signing
from app.audit.actions import ENTRY
from app.foundation import clock
from app.foundation.crypto.keys import Keyring
from app.foundation.database import Database, table_of
from app.foundation.idempotency import IdempotentRequest
from app.people.permissions import Role
from app.randomisation import reads as randomisation
from tests.api.client import PASSWORD, ApiClient, api_client
from tests.api.test_treatment import session_of
from tests.audit.test_log import without_triggers
from tests.factories import person
from tests.web.test_treatment import EARLY, Treated
from tests.web.world import NAMED, STORED, World

IDEMPOTENT = table_of(IdempotentRequest)

PERSONAL = "/participants/M-001/personal-data"
VISIT = "/participants/M-001/visits/baseline"
SESSION = "/treatment/participants/M-001/sessions/tx01"

pytestmark = pytest.mark.both_databases


@pytest.fixture
def world(shared_database: Database) -> World:
    made = World(shared_database)
    made.consented()
    return made


@pytest.fixture
def coordinator(world: World) -> ApiClient:
    return api_client(world.database, world.coordinators["north"])


def program(world: World, role: str) -> ApiClient:
    return api_client(world.database, world.person(role, site_code=None if role == "statistician" else "north"))


def last(world: World) -> Any:
    """The newest entry of the log."""
    with world.database.reading() as session:
        return session.execute(select(ENTRY).order_by(ENTRY.c.position.desc())).first()


# Who somebody is


@pytest.mark.requirement("GDPR-5")
def test_who_somebody_is_is_shown_and_written_down_each_time(world: World, coordinator: ApiClient):
    before = world.log().count("identity.shown")
    for times in (1, 2):
        shown = coordinator.done("GET", PERSONAL)
        assert shown == {"participant": "M-001", "personal": NAMED.items(), "version": 1}
        assert world.log().count("identity.shown") == before + times
    assert (last(world).username, last(world).via) == (coordinator.actor.username, "api")


def test_personal_data_change_with_a_reason_on_top_of_what_was_read(world: World, coordinator: ApiClient):
    body = {"personal": {**NAMED.items(), "family_name": "King"}, "version": 1, "why": "Married."}
    without = coordinator.refused(422, "PUT", PERSONAL, {**body, "why": " "})
    assert [each["field"] for each in without["errors"]] == ["why"]
    wrong = coordinator.refused(422, "PUT", PERSONAL, {**body, "personal": {"email": "nowhere"}})
    assert [each["field"] for each in wrong["errors"]] == ["email"]
    assert coordinator.done("PUT", PERSONAL, body) == {"participant": "M-001", "version": 2}
    entry = last(world)
    assert (entry.action, entry.item, entry.why) == ("identity.changed", "family_name", "Married.")
    assert "King" not in entry.new
    assert "Lovelace" not in entry.old
    assert coordinator.refused(409, "PUT", PERSONAL, {**body, "personal": {}})["current_version"] == 2
    assert coordinator.refused(409, "PUT", PERSONAL, {**body, "version": 2**31 - 2})["current_version"] == 2
    assert coordinator.done("GET", PERSONAL)["personal"]["family_name"] == "King"


def test_whoever_calls_is_found_by_name_and_written_down_as_shown(world: World, coordinator: ApiClient):
    world.screened("south")
    before = world.log().count("identity.shown")
    key = {"Idempotency-Key": "who-calls"}
    for times in (1, 2):  # no answer is kept: the same request looks again, and is written down again
        found = coordinator.done("POST", "/participants/find", {"text": "LOVE ada"}, headers=key)
        (one,) = found["items"]
        assert (one["code"], one["site"], one["family_name"], found["more"]) == ("M-001", "north", "Lovelace", False)
        assert world.log().count("identity.shown") == before + times
    entry = last(world)
    assert (entry.username, entry.via, entry.participant) == (coordinator.actor.username, "api", "M-001")
    assert coordinator.done("POST", "/participants/find", {"text": NAMED.date_of_birth})["items"] == [one]
    assert coordinator.done("POST", "/participants/find", {"text": "Curie"}) == {"items": [], "more": False}
    wrong = coordinator.refused(422, "POST", "/participants/find", {"text": "L"})
    assert [(each["field"], each["rule"]) for each in wrong["errors"]] == [("text", "text")]
    with world.database.reading() as session:
        kept = session.execute(select(IDEMPOTENT.c.body)).scalars().all()
    assert not any("Lovelace" in (body or "") for body in kept)
    program(world, "monitor").refused(403, "POST", "/participants/find", {"text": "Lovelace"})
    assert last(world).action == "identity.find_refused"


@pytest.mark.requirement("CON-F2")
def test_nobody_is_screened_twice_unawares(world: World, coordinator: ApiClient):
    ada = {"site": "north", "answers": STORED, "personal": {"given_name": "ADA", "family_name": "Lovelace"}}
    codes, key = world.codes(), {"Idempotency-Key": "screening-1"}
    invalid = {**ada, "answers": {**STORED, "age": "old"}}
    assert coordinator.refused(422, "POST", "/participants", invalid)["errors"][0]["field"] == "age"
    assert world.log()[-1] != "identity.shown", "nobody is shown for what is not valid"
    for times in (1, 2):
        asked = coordinator.refused(409, "POST", "/participants", ada, headers=key)
        (like,) = asked["candidates"]
        assert (like["code"], like["shared"]) == ("M-001", ["given_name", "family_name"])
        assert world.log()[-times:] == ["identity.shown"] * times
    assert world.codes() == codes
    # Somebody else: the same request, saying so; and it is safe to repeat.
    screened = coordinator.done("POST", "/participants", {**ada, "another": True}, headers=key)
    assert coordinator.done("POST", "/participants", {**ada, "another": True}, headers=key) == screened
    assert world.codes() == [*codes, screened["code"]]
    # Of another site nothing is told, and nothing to somebody without the right to know who people are.
    south = api_client(world.database, world.coordinators["south"])
    assert south.done("POST", "/participants", {**ada, "site": "south"})["eligible"]


@pytest.mark.parametrize("role", ["assessor", "clinician", "data_manager", "monitor"])
def test_who_may_not_know_who_somebody_is_is_refused_on_record(world: World, role: str):
    client = program(world, role)
    client.refused(403, "GET", PERSONAL)
    assert (last(world).action, last(world).username) == ("identity.show_refused", client.actor.username)
    client.refused(403, "PUT", PERSONAL, {"personal": {}, "version": 1, "why": "To know."})
    assert last(world).action == "identity.change_refused"
    (consent,) = client.rows("/participants/M-001/consents")
    client.refused(403, "GET", f"/participants/M-001/consents/{consent['id']}/signature")
    assert last(world).action == "identity.show_refused"


def test_an_investigator_reads_and_does_not_change(world: World):
    client = program(world, "investigator")
    assert client.done("GET", PERSONAL)["version"] == 1
    client.refused(403, "PUT", PERSONAL, {"personal": {}, "version": 1, "why": "To try."})


def test_the_name_under_a_consent_is_shown_and_written_down(world: World, coordinator: ApiClient):
    (consent,) = coordinator.rows("/participants/M-001/consents")
    assert set(consent["options"]) == {choice.code for choice in world.study.definition.consent.optional}
    path = f"/participants/M-001/consents/{consent['id']}/signature"
    shown = coordinator.done("GET", path)
    assert (shown["consent"], shown["signature"]) == (consent["id"], "Ada Lovelace")
    assert (last(world).action, last(world).subject) == ("identity.shown", "consent/1")
    coordinator.refused(404, "GET", "/participants/M-001/consents/999999/signature")
    world.consented()
    coordinator.refused(404, "GET", f"/participants/M-002/consents/{consent['id']}/signature")


@pytest.mark.requirement("EMA-15")
def test_a_consent_is_refused_over_rest_and_recorded_again(world: World, coordinator: ApiClient):
    (consent,) = coordinator.rows("/participants/M-001/consents")
    path = f"/participants/M-001/consents/{consent['id']}/refusal"
    body = {"why": "Another person signed", "password": PASSWORD}
    program(world, "assessor").refused(403, "POST", path, body)
    assert (last(world).action, last(world).subject) == ("consent.refuse_refused", "consent")
    for wrong in ({}, {"why": "x"}, {**body, "why": ""}, {**body, "password": "wrong"}):
        coordinator.refused(422, "POST", path, wrong)
    coordinator.refused(404, "POST", "/participants/M-001/consents/999999/refusal", body)
    assert coordinator.rows("/participants/M-001/visits") != []
    refused = coordinator.done("POST", path, body)
    assert (refused["refused_why"], refused["countersigned_at"]) == (body["why"], consent["countersigned_at"])
    assert refused["refused_at"] is not None
    assert coordinator.done("GET", "/participants/M-001")["status"] == "screened"
    assert coordinator.rows("/participants/M-001/visits") == []
    assert "refused already" in coordinator.refused(409, "POST", path, body)["detail"]
    signed = {key: consent[key] for key in ("language", "signed_on", "options")}
    again = {**signed, "version": consent["document_version"], "signature": "Ada Lovelace", "password": PASSWORD}
    coordinator.done("POST", "/participants/M-001/consents", again)
    found = coordinator.rows("/participants/M-001/consents")
    assert [each["refused_at"] is None for each in found] == [False, True]
    assert coordinator.done("GET", "/participants/M-001")["status"] == "consented"
    assert len(coordinator.rows("/participants/M-001/visits")) == 1


@pytest.mark.requirement("GDPR-7")
def test_an_optional_consent_is_taken_back_over_rest_as_often_as_it_is_sent(shared_database: Database):
    world = World(shared_database, consent={"optional": [{"code": "later", "label": "Later studies"}]})
    world.screened()
    client, today = api_client(world.database, world.coordinators["north"]), world.today().isoformat()
    path, body = "/participants/M-001/optional-consents", {"options": ["later"], "on": today}
    told = {**body, "told_by": "participant", "how": "by_phone", "note": "At the call"}
    assert client.rows(path) == []
    assert "Nothing is left to take back" in client.refused(409, "POST", path, told)["detail"]
    signed = {"version": "1", "signed_on": today, "signature": "Ada", "password": PASSWORD}
    client.done("POST", "/participants/M-001/consents", {**signed, "options": {"later": True}})
    (option,) = client.rows(path)
    assert option == {
        "code": "later",
        "label": "Later studies",
        "agreed": True,
        "since": today,
        "version": "1",
        "taken_back": False,
        "history": [],
    }
    for wrong in (body, {**told, "how": "by_smoke"}, {**told, "options": []}, {**told, "options": ["other"]}):
        client.refused(422, "POST", path, wrong)
    program(world, "assessor").refused(403, "POST", path, told)
    assert last(world).action == "consent.take_back_options_refused"
    for _ in range(2):
        (option,) = client.done("POST", path, told)
        assert (option["agreed"], option["taken_back"], len(option["history"])) == (False, True, 1)
    assert world.log().count("consent.option_taken_back") == 1
    (row,) = option["history"]
    assert (row["taken_back_on"], row["told_by"], row["how"], row["note"]) == (
        today,
        "participant",
        "by_phone",
        "At the call",
    )
    mistake = f"{path}/{row['id']}/mistake"
    client.refused(404, "POST", f"{path}/999999/mistake", {"why": "x"})
    (option,) = client.done("POST", mistake, {"why": "It was another's"})
    assert (option["agreed"], option["history"][0]["struck_why"]) == (True, "It was another's")
    client.refused(409, "POST", mistake, {"why": "x"})
    # Given later: signed once more, which is refused when nothing more is given.
    client.done("POST", path, told)
    problem = client.refused(409, "POST", "/participants/M-001/consents", {**signed, "options": {"later": False}})
    assert "complete already" in problem["detail"]
    client.done("POST", "/participants/M-001/consents", {**signed, "options": {"later": True}})
    assert client.rows(path)[0]["agreed"] is True


def test_a_withdrawal_takes_the_consent_with_it_when_it_says_so(world: World, coordinator: ApiClient):
    body = {"level": "visits", "on": world.today().isoformat(), "reason": "No more.", "withdraw_consent": True}
    assert coordinator.done("POST", "/participants/M-001/withdrawal", body)["status"] == "withdrawn"
    (consent,) = coordinator.rows("/participants/M-001/consents")
    assert consent["withdrawn_on"] == body["on"]
    assert "consent.withdrawn" in world.log()


def test_who_does_not_take_part_after_all_is_a_screen_failure(world: World, coordinator: ApiClient):
    path = "/participants/M-001/screen-failure"
    problem = coordinator.refused(422, "POST", path, {"reason": "bored"})
    assert [each["field"] for each in problem["errors"]] == ["failure_reason"]
    assert coordinator.done("POST", path, {"reason": "declined", "why": "A new job."})["status"] == "screen_failed"
    assert {each["status"] for each in coordinator.rows("/participants/M-001/visits")} == {"stopped"}
    coordinator.refused(409, "POST", path, {"reason": "declined"})


def test_whoever_was_given_a_group_is_no_screen_failure(world: World, coordinator: ApiClient, monkeypatch):
    monkeypatch.setattr(randomisation, "stage_of", lambda _, number: randomisation.Staged(number, clock.now(), "x"))
    problem = coordinator.refused(409, "POST", "/participants/M-001/screen-failure", {"reason": "declined"})
    assert "Record a withdrawal instead" in problem["detail"]
    browser = world.coordinator()
    page = "/mini/participants/M-001/not-taking-part"
    sent = {**browser.form(page, page), "reason": "declined"}
    reply = browser.send(page, sent)
    assert reply.status_code == 409
    assert "Record a withdrawal instead" in reply.text
    assert coordinator.done("GET", "/participants/M-001")["status"] == "consented"


@pytest.mark.requirement("GDPR-3", "SEC-35")
def test_a_withdrawal_that_destroys_who_somebody_is_asks_for_the_password(shared_database: Database):
    stops = {"code": "visits", "label": "Stops visits", "stops_visits": True}
    erase = {"code": "erase", "label": "Erase who I am", "stops_visits": True, "erases_identity": True}
    world = World(shared_database, withdrawal_levels=[stops, erase])
    world.consented()
    coordinator = api_client(world.database, world.coordinators["north"])
    body = {"level": "erase", "on": world.today().isoformat(), "reason": "Asked for it."}
    for wrong in ({}, {"password": "not it"}):
        coordinator.refused(422, "POST", "/participants/M-001/withdrawal", {**body, **wrong})
    assert coordinator.done("GET", PERSONAL)["personal"] == NAMED.items()
    coordinator.done("POST", "/participants/M-001/withdrawal", {**body, "password": PASSWORD})
    coordinator.refused(409, "GET", PERSONAL)


# Visits


def test_the_day_of_a_visit_is_corrected_and_the_visit_reopened(world: World, coordinator: ApiClient):
    today = world.today()
    coordinator.refused(409, "POST", f"{VISIT}/correction", {"held_on": str(today), "version": 1, "why": "Misread."})
    with time_machine.travel(clock.now() + timedelta(days=2)):
        coordinator.done("PUT", VISIT, {"status": "held", "held_on": str(today), "version": 1})
        body = {"held_on": str(today + timedelta(days=1)), "version": 2, "why": "Read from the diary."}
        assert (
            coordinator.refused(422, "POST", f"{VISIT}/correction", {**body, "why": ""})["errors"][0]["field"] == "why"
        )
        future = {**body, "held_on": str(today + timedelta(days=9))}
        assert coordinator.refused(422, "POST", f"{VISIT}/correction", future)["errors"][0]["field"] == "held_on"
        corrected = coordinator.done("POST", f"{VISIT}/correction", body)
        assert (corrected["held_on"], corrected["version"]) == (body["held_on"], 3)
        assert (last(world).action, last(world).why) == ("visit.corrected", body["why"])
        assert coordinator.refused(409, "POST", f"{VISIT}/correction", body)["current_version"] == 3
        assert (
            coordinator.refused(409, "POST", f"{VISIT}/reopening", {"version": 2, "why": "No."})["current_version"] == 3
        )
        opened = coordinator.done("POST", f"{VISIT}/reopening", {"version": 3, "why": "Another participant."})
        assert (opened["status"], opened["held_on"], opened["version"]) == ("planned", None, 4)
        assert (last(world).action, last(world).why) == ("visit.reopened", "Another participant.")
        coordinator.refused(409, "POST", f"{VISIT}/reopening", {"version": 4, "why": "Again."})
        assert last(world).action == "visit.reopen_refused"


@pytest.mark.parametrize("role", ["clinician", "investigator", "data_manager", "monitor"])
def test_visits_are_changed_by_those_who_record_them(world: World, role: str):
    client, day = program(world, role), str(world.today())
    client.refused(403, "POST", f"{VISIT}/correction", {"held_on": day, "version": 1, "why": "Misread."})
    assert last(world).action == "visit.correct_refused"
    client.refused(403, "POST", f"{VISIT}/reopening", {"version": 1, "why": "Misread."})
    assert last(world).action == "visit.reopen_refused"


# Sessions


@pytest.fixture
def treated(begun: Any, kind: str) -> Iterator[Treated]:
    with begun(kind, Treated) as treated:
        yield treated


def test_a_session_is_missed_opened_again_held_and_then_stays(treated: Treated):
    clinician = api_client(treated.world.database, treated.clinician)

    def now() -> Any:
        return clinician.done("GET", "/treatment/participants/M-001")["sessions"][0]

    assert (now()["status"], now()["visit_version"]) == ("planned", 1)
    clinician.refused(409, "POST", f"{SESSION}/reopening", {"version": 1, "why": "Nothing to open."})
    without = clinician.refused(422, "POST", f"{SESSION}/missed", {"version": 1, "why": ""})
    assert [each["field"] for each in without["errors"]] == ["why"]
    missed = clinician.done("POST", f"{SESSION}/missed", {"version": 1, "why": "Ill."})
    assert missed == {"session": "tx01", "status": "missed", "visit_version": 2}
    assert (last(treated.world).action, last(treated.world).why) == ("visit.missed", "Ill.")
    assert clinician.refused(409, "POST", f"{SESSION}/reopening", {"version": 1, "why": "No."})["current_version"] == 2
    opened = clinician.done("POST", f"{SESSION}/reopening", {"version": 2, "why": "They came after all."})
    assert opened == {"session": "tx01", "status": "planned", "visit_version": 3}
    assert last(treated.world).action == "visit.reopened"
    body = session_of(treated)
    clinician.done("PUT", SESSION, body)
    again = session_of(treated, minutes=20, version=1, why="It was 20")
    clinician.done("PUT", SESSION, again)
    versions = clinician.rows(f"{SESSION}/history")
    assert [(each["version"], each["delivered"], each["why"]) for each in versions] == [
        (1, body["delivered"], None),
        (2, again["delivered"], "It was 20"),
    ]
    for door, action in (("missed", "visit.miss_refused"), ("reopening", "visit.reopen_refused")):
        clinician.refused(409, "POST", f"{SESSION}/{door}", {"version": 4, "why": "By mistake."})
        assert last(treated.world).action == action
    assert (now()["status"], now()["version"], now()["visit_version"]) == ("held", 2, 4)


def test_only_a_session_of_the_plan_is_missed(treated: Treated):
    clinician = api_client(treated.world.database, treated.clinician)
    for visit in ("week18", "nonsense"):
        for door in ("missed", "reopening"):
            path = f"/treatment/participants/M-001/sessions/{visit}/{door}"
            clinician.refused(404, "POST", path, {"version": 1, "why": "Ill."})
    clinician.refused(404, "POST", "/treatment/participants/M-003/sessions/tx01/missed", {"version": 1, "why": "Ill."})


@pytest.mark.requirement("E6-1", "P11-d", "SEC-19")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.CLINICIAN])
@pytest.mark.parametrize("kind", ["sqlite"])
def test_the_doors_of_those_who_treat_and_draw_are_nothing_to_others(treated: Treated, role: Role):
    client = api_client(treated.world.database, treated.world.person(role), api_requests_a_minute=0)
    before = len(treated.world.log())
    asked: list[tuple[str, str, Any]] = [
        ("POST", f"{SESSION}/missed", {"version": 1, "why": EARLY}),
        ("POST", f"{SESSION}/reopening", {"version": 1, "why": EARLY}),
        ("GET", f"{SESSION}/history", None),
        ("POST", f"{SESSION}/missed", {"nonsense": 1}),
    ]
    if role is not Role.STATISTICIAN:
        asked += [("GET", "/sequences/1/review", None), ("POST", "/sequences/1/set-aside", {"why": "To see."})]
    for method, path, body in asked:
        more = {"json": body} if body is not None else {}
        nonsense, reply = (client.request(method, where, **more) for where in ("/nonsense", path))
        assert (reply.status_code, reply.content) == (404, nonsense.content), (method, path)
        assert dict(reply.headers) == dict(nonsense.headers), (method, path)
    assert len(treated.world.log()) == before


# Sequences


def test_a_sequence_is_reviewed_in_counts_and_set_aside(world: World):
    statistician = program(world, "statistician")
    body = {"method": "permuted_blocks", "block_sizes": [4], "slots_per_stratum": 24}
    statistician.done("POST", "/sequences", body)
    found = statistician.done("GET", "/sequences/1/review")
    assert (found["slots"], found["slots_per_arm"]) == (48, {"active": 24, "sham": 24})
    assert found["slots_per_stratum"] == {"north": 24, "south": 24}
    assert found["guessed"] == pytest.approx(17 / 24)  # blocks of four, Blackwell and Hodges 1957
    assert found["known"] == pytest.approx(1 / 3)
    assert found["by_chance"] == 0.5
    assert statistician.refused(422, "POST", "/sequences/1/set-aside", {"why": " "})["errors"][0]["field"] == "why"
    aside = statistician.done("POST", "/sequences/1/set-aside", {"why": "Drawn with the wrong blocks."})
    assert aside["status"] == "retired"
    assert (last(world).action, last(world).why) == ("sequence.discarded", "Drawn with the wrong blocks.")
    statistician.refused(409, "POST", "/sequences/1/set-aside", {"why": "Again."})
    assert last(world).action == "sequence.discard_refused"
    statistician.refused(409, "POST", "/sequences/1/seal", {"password": PASSWORD})
    for path in ("/sequences/2/review", "/sequences/0/review"):
        statistician.refused(404, "GET", path)


def test_of_a_list_made_elsewhere_it_is_not_said_how_well_it_is_guessed(world: World):
    statistician = program(world, "statistician")
    text = "stratum,position,arm\nnorth,1,sham\nnorth,2,active\nsouth,1,active\n"
    statistician.done("POST", "/sequences", {"method": "list", "csv": text})
    found = statistician.done("GET", "/sequences/1/review")
    assert (found["guessed"], found["known"], found["slots_per_arm"]) == (None, None, {"active": 2, "sham": 1})
    statistician.done("POST", "/sequences/1/seal", {"password": PASSWORD})
    statistician.refused(409, "POST", "/sequences/1/set-aside", {"why": "In use."})
    assert statistician.done("GET", "/sequences/1")["status"] == "sealed"


# The log


@pytest.mark.parametrize("role", ["data_manager", "monitor", "statistician", "administrator"])
def test_the_log_is_verified_by_those_who_may(world: World, role: str):
    found = program(world, role).done("POST", "/audit/verification")
    assert (found["log"], found["intact"], found["faults"]) == ("mini", True, [])
    assert found["size"] == len(world.log())
    assert len(bytes.fromhex(found["root"])) == 32
    assert (found["checkpoints"], found["newest_checkpoint"]) == (0, 0)


@pytest.mark.requirement("LOG-11")
def test_verifying_says_which_key_signs_and_which_did_before(world: World, tmp_path: Any):
    keys, manager = world.database.keys, program(world, "data_manager")
    first = {"vkey": signing.vkey(keys, "mini", 0), "generation": 0, "first": 0, "at": None}
    assert manager.done("POST", "/audit/verification")["keys"] == [first]
    at = clock.now()
    with world.database.writing() as session:
        by = person(session, None, "administrator", username="admin")
        replacing.replace_key(session, tmp_path / "checkpoints", by=by, why="A copy was seen", now=at)
    found = manager.done("POST", "/audit/verification")
    new = {"vkey": signing.vkey(keys, "mini", 1), "generation": 1, "first": found["size"]}
    assert found["keys"] == [{**new, "at": found["keys"][0]["at"]}, first]
    assert datetime.fromisoformat(found["keys"][0]["at"]) == at
    assert found["intact"]


@pytest.mark.parametrize("role", ["coordinator", "assessor", "clinician", "investigator"])
def test_others_do_not_verify_and_that_they_tried_is_written_down(world: World, role: str):
    program(world, role).refused(403, "POST", "/audit/verification")
    assert last(world).action == "audit.verify_refused"


def test_an_entry_that_was_altered_is_named(world: World):
    manager, key = program(world, "data_manager"), {"Idempotency-Key": "verify"}
    assert manager.done("POST", "/audit/verification", headers=key)["intact"]
    with world.database.writing() as session:
        without_triggers(session)
        session.execute(update(ENTRY).where(ENTRY.c.log == "mini", ENTRY.c.position == 1).values(why="Another reason"))
    found = manager.done("POST", "/audit/verification", headers=key)  # not the first answer again
    assert not found["intact"]
    assert any(fault.startswith("Entry 1 (") for fault in found["faults"])


def test_the_log_is_held_against_the_checkpoints_kept_outside_the_database(world: World, tmp_path: Any):
    keys: Keyring = world.database.keys
    actor = world.person("data_manager")
    manager = api_client(world.database, actor, data=tmp_path)
    folder = manager.http.app.state.settings.checkpoints  # type: ignore[attr-defined]
    folder.mkdir(parents=True, exist_ok=True)
    size = manager.done("POST", "/audit/verification")["size"]
    point = checkpoints.Checkpoint("mini", size + 5, bytes(32))
    (folder / "mini.checkpoint").write_text(checkpoints.signed_note(keys, point))
    found = manager.done("POST", "/audit/verification")
    assert (found["checkpoints"], found["newest_checkpoint"], found["intact"]) == (1, size + 5, False)
    assert any("cut short" in fault for fault in found["faults"])
