"""Every address: has it a name and a page, does it refuse strangers, and does it obey the table of permissions?"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Connection, insert, select
from sqlmodel import Session
from starlette.routing import Match
from starlette.testclient import TestClient

from app.consent.models import Consent
from app.dependencies import masked
from app.foundation import clock
from app.foundation.crypto.secrets import new_token, token_hash
from app.foundation.database import Database, table_of
from app.main import create_app
from app.people.models import ApiToken, Membership, SignInSession
from app.people.permissions import Permission, Role
from app.people.reads import TOKEN_PREFIX
from app.people.rules import NOT_FOR_TOKENS
from app.rendering import TEMPLATES
from app.settings import Settings
from app.signposts import Signposts
from tests.capture.records import consented
from tests.conftest import KEYS, OneConnection
from tests.factories import mini_study, person
from tests.house.routes import ANYONE, BODIES, IN_STUDY, SIGNED_IN, VALUES, WHO, Door, doors, expected_roles
from tests.schedule.rows import booked
from tests.web.browser import PASSWORD, OneHop, signed_in_client

ROOT = TEMPLATES.parent


def _application(database: Database, **settings: Any) -> FastAPI:
    return create_app(Settings(data=Path("/nonexistent"), **settings), database)


EVERY = doors(_application(Database("sqlite:////nonexistent/equipoise.db", KEYS)))
ALL = [door for door in EVERY if door.name in WHO]  # one test below says which are not; the others go on without
REDCAP = ("redcap.door", "redcap.elsewise", "redcap.slash", "redcap.survey", "redcap.unended")
WEB = [door for door in ALL if not door.is_api and door.name not in ("openapi", "static", "healthz", *REDCAP)]
API = [door for door in ALL if door.is_api]
# Those that anybody may send: a sign-in has no session yet, a theme or a language is a cookie of one's own.
OPEN = [door for door in ALL if WHO.get(door.name) == ANYONE]

# They answer what was typed, and so carry nothing along and ask for no token.
KEEPS_NOTHING = {
    "entries.look",
    "double.look",
    "drafts.look",
    "drafts.look_at_fields",
    "drafts.look_at_consent",
    "account.choose_scopes",
}

# Pages without a template of their own name, and what they answer instead.
NO_PAGE = {
    "sign_in.check": "leads on, or the sign-in page again",
    "sign_in.check_passkey": "leads on, or the sign-in page again",
    "today.start": "leads to the first page of one's roles",
    "today.site": "sets a cookie",
    "participants.screen_form": "participants/screen.html",
    "participants.identity_form": "participants/identity.html",
    "screening.correct_form": "screening/correct.html",
    "casebook.own_copy": "a file",
    "study.usdm": "a file",
    "participants.not_taking_part_form": "participants/not_taking_part.html",
    "participants.find_form": "participants/find.html",
    "participants.withdraw_form": "participants/withdraw.html",
    "participants.take_back_form": "participants/take_back.html",
    "participants.erase_form": "participants/erase.html",
    "conduct.act_on_chosen_form": "conduct/chosen.html",
    "conduct.act_on_chosen": "leads to the list, or the same page again",
    "conduct.sign_chosen_form": "conduct/chosen.html",
    "conduct.sign_chosen": "leads to the list, or the same page again",
    "treatment.stop_form": "treatment/stop.html",
    "treatment.resume_form": "leads to the page of the stop",
    "treatment.resume": "leads on, or the page of the stop again",
    "consent.record_form": "consent/record.html",
    "consent.countersign_form": "consent/countersign.html",
    "consent.refuse_form": "consent/refuse.html",
    "links.open_link": "links/questions.html",
    "links.send": "leads on, or the same page again",
    "visits.held_form": "leads to the visit",
    "visits.missed_form": "leads to the visit",
    "visits.corrected_form": "leads to the visit",
    "visits.reopened_form": "leads to the visit",
    "visits.in_error_form": "leads to the visit",
    "appointments.book_form": "appointments/book.html",
    "appointments.moved_form": "leads to the appointment",
    "appointments.cancelled_form": "leads to the appointment",
    "appointments.no_show_form": "leads to the appointment",
    "appointments.held_form": "leads to the appointment",
    "calendar.feed": "a file",
    "reminders.resent_form": "leads to the list",
    "reminders.choice_form": "reminders/choice.html",
    "entries.draft": "leads to the form",
    "entries.file": "a file",
    "entries.sign_form": "entries/sign.html",
    "kept.key": "two halves of a key, as JSON",
    "signing.visit_form": "signing/visit.html",
    "signing.casebook_form": "signing/casebook.html",
    "entries.verify_form": "leads to the record",
    "entries.in_error_form": "leads to the record",
    "casebook.file": "a file",
    "casebook.sign_form": "leads to the casebook",
    "locks.lift_form": "leads to the locks",
    "locks.ask_form": "leads to the locks",
    "locks.approve_form": "leads to the locks",
    "locks.decline_form": "leads to the locks",
    "double.second_form": "entries/form.html",
    "double.draft": "leads to the second entry",
    "double.reconcile_form": "leads to the pair",
    "coding.code_form": "leads to the text",
    "coding.reconcile_form": "leads to the text",
    "queries.file": "a file",
    "verification.file": "a file",
    "queries.show": "leads to the answer",
    "queries.answer_form": "leads to the answer",
    "queries.requery_form": "leads to the answer",
    "queries.close_form": "leads to the answer",
    "randomisation.randomise_form": "randomisation/randomise.html",
    "escrow.key_form": "escrow/key.html",
    "escrow.file": "a file",
    "downtime.void_form": "leads to the pack",
    "downtime.close_form": "leads to the pack",
    "downtime.enter_form": "downtime/enter.html",
    "in_error.record_form": "in_error/record.html",
    "safety.report_form": "safety/report.html",
    "safety.follow_up_form": "safety/follow_up.html",
    "safety.void_form": "leads to the event",
    "safety.judge_form": "leads to the event",
    "safety.review_form": "leads to the event",
    "safety.clock_form": "leads to the event",
    "conduct.report_deviation_form": "conduct/report_deviation.html",
    "conduct.look_form": "leads to the list",
    "conduct.act_form": "leads to the deviation",
    "conduct.sign_form": "leads to the deviation",
    "conduct.take_back_form": "leads to the deviation",
    "conduct.lost_form": "conduct/end.html",
    "conduct.completion_form": "conduct/end.html",
    "conduct.death_form": "conduct/end.html",
    "unblinding.emergency_form": "unblinding/emergency.html",
    "unblinding.report_file": "a file",
    "unblinding.accidental_form": "unblinding/accidental.html",
    "unblinding.request_form": "unblinding/request.html",
    "unblinding.impact_form": "leads to the case",
    "unblinding.approve_form": "leads to the case",
    "unblinding.refuse_form": "leads to the case",
    "unblinding.arms_file": "a file",
    "sequence.draw_form": "sequence/draw.html",
    "sequence.upload_form": "sequence/upload.html",
    "sequence.script_python": "a file",
    "sequence.script_r": "a file",
    "sequence.seal_form": "leads to the review",
    "sequence.set_aside_form": "leads to the review",
    "sequence.allocations_file": "a file",
    "blinding.report_pdf": "a file",
    "by_arm.flow_file": "a file",
    "by_arm.flow_pdf": "a file",
    "commitment.certificate_file": "a file",
    "commitment.certificate_pdf": "a file",
    "consent.signed_pdf": "a file",
    "consent.scan": "a file",
    "commitment.proofs_file": "a file",
    "commitment.close_form": "leads to the certificate",
    "commitment.plan_file": "a file",
    "treatment.session_form": "treatment/session.html",
    "treatment.missed_form": "leads to the session",
    "exports.file": "a file",
    "exports.dummy_file": "a file",
    "exports.bundle_file": "a file",
    "exports.made_file": "a file",
    "exports.manifest_file": "a file",
    "audit.file": "a file",
    "concealment.statement_file": "a file",
    "oversight.period_pdf": "a file",
    "concealment.statement_pdf": "a file",
    "drafts.folder_file": "a file",
    "drafts.open_file": "leads to the file",
    "drafts.add_instrument_form": "drafts/add_instrument.html",
    "drafts.remove_instrument_form": "drafts/remove_instrument.html",
    "drafts.words_form": "drafts/words.html",
    "drafts.add_consent_form": "drafts/add_consent.html",
    "drafts.load_form": "drafts/load.html",
    "drafts.remove_form": "drafts/remove.html",
    "amendments.plan_form": "leads to what it would mean",
    "amendments.cancel_form": "leads to the versions",
    "amendments.carry_on_form": "leads to the versions",
}


def test_every_route_is_written_down_and_nothing_else_is():
    names = {door.name for door in EVERY}
    assert names - set(WHO) == set(), "say in tests/house/routes.py who may use these"
    assert set(WHO) - names == set(), "these are gone: take them out of tests/house/routes.py"


def test_no_two_routes_share_name_or_address():
    assert len({door.name for door in EVERY}) == len(EVERY)
    assert len({(door.path, door.method) for door in EVERY}) == len(EVERY)


@pytest.mark.parametrize("door", WEB, ids=lambda door: door.name)
def test_a_page_is_named_after_its_family(door: Door):
    family, _, page = door.name.partition(".")
    assert re.fullmatch(r"[a-z_]+", family)
    assert re.fullmatch(r"[a-z_]+", page)
    assert (ROOT / "app" / "web" / f"{family}.py").exists()


@pytest.mark.parametrize("door", API, ids=lambda door: door.name)
def test_a_json_door_is_under_the_version_and_a_study(door: Door):
    assert door.path.startswith("/api/v1/studies/{study}") or door.name == "api.studies"


@pytest.mark.parametrize("door", [door for door in WEB if door.method == "GET"], ids=lambda door: door.name)
def test_a_page_has_the_template_of_its_name(door: Door):
    template = TEMPLATES / f"{door.name.replace('.', '/')}.html"
    if door.name in NO_PAGE:
        said = NO_PAGE[door.name]
        assert not template.exists()
        assert not said.endswith(".html") or (TEMPLATES / said).exists()
    else:
        assert template.exists(), template


def test_exceptions_to_the_rule_are_still_there():
    assert set(NO_PAGE) <= {door.name for door in ALL}


# A study with somebody in every role, and somebody who has none in it


@dataclass
class Asker:
    """One person with a browser session and a token that allows whatever its owner may do."""

    person_id: int
    cookie: str
    csrf: str
    token: str


@dataclass
class House:
    """The application on one connection: whatever a request changes is undone after it."""

    client: OneHop
    connection: Connection
    askers: dict[str, Asker]
    values: dict[str, Any]

    def some(self, refused: list[Door]) -> list[Door]:
        """Of doors that nobody gets through: on SQLite every one, on PostgreSQL one of each kind.

        What refuses there reads the same few rows whatever the door is; who gets through a door asks it on both.
        """
        if self.connection.dialect.name == "sqlite":
            return refused
        return list({(str(WHO[door.name]), door.is_api, door.is_unsafe): door for door in refused}.values())

    def ask(self, door: Door, asker: Asker | None, *, csrf: bool = True, headers: dict[str, str] | None = None) -> Any:
        """One request, and afterwards everything is as before."""
        more: dict[str, Any] = {"headers": {"accept-encoding": "identity", **(headers or {})}}
        # No Secure cookie in plain HTTP, so it is sent by hand.
        if asker is not None and door.is_api:
            more["headers"]["authorization"] = f"Bearer {asker.token}"
        elif asker is not None:
            more["headers"]["cookie"] = f"equipoise={asker.cookie}"
        if door.is_unsafe and door.is_api:
            more["json"] = BODIES.get(door.name, {})
        elif door.is_unsafe:
            more["data"] = {"csrf_token": masked(asker.csrf)} if asker and csrf else {"a": "b"}
        # Whole transactions: in one, what each request undid would stay in PostgreSQL's way until the end.
        within = self.connection.begin_nested() if self.connection.in_transaction() else self.connection.begin()
        try:
            return self.client.request(door.method, door.address(**self.values), **more)
        finally:
            within.rollback()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def house(
    request: pytest.FixtureRequest, copied: Callable[..., Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    # Of its own: it stays open while other tests of this file want the one that is shared, and writers take turns.
    own = copied(request.param, tmp_path_factory.mktemp("house"), "house")
    with own.engine.connect() as connection:
        database = OneConnection(connection)
        with connection.begin(), database.writing() as session:
            study = mini_study(session)
            booked(session, study, consented(session, study, VALUES["code"]))
            actors = {role.value: person(session, study, role) for role in Role}
            actors["nobody"] = person(session, mini_study(session, code="other"), "data_manager", username="nobody")
            askers, now = {}, clock.now()
            for name, actor in actors.items():
                made = Asker(actor.person_id, new_token(), new_token(), TOKEN_PREFIX + new_token())
                askers[name] = made
                session.execute(
                    insert(table_of(SignInSession)).values(
                        token_hash=token_hash(made.cookie),
                        person_id=made.person_id,
                        csrf_token=made.csrf,
                        created_at=now,
                        seen_at=now,
                        expires_at=now + timedelta(hours=1),
                        second_factor=False,
                        address="",
                        browser="",
                    )
                )
                session.execute(
                    insert(table_of(ApiToken)).values(
                        token_hash=token_hash(made.token),
                        person_id=made.person_id,
                        study_id=study.id,
                        name="all",
                        scopes=_scopes(),
                        created_at=now,
                        expires_at=now + timedelta(hours=1),
                    )
                )
            values = {**VALUES, **_numbers(session, actors["nobody"].person_id)}
        client = OneHop(_application(database, secure_cookies=False))
        yield House(client, connection, askers, values)
    own.dispose()


def _scopes() -> str:
    return " ".join(permission for permission in Permission if permission not in NOT_FOR_TOKENS)


def _numbers(session: Session, person_id: int) -> dict[str, Any]:
    """The numbers that rows of this very database have."""
    membership, consent = table_of(Membership), table_of(Consent)
    right = session.execute(select(membership.c.id).where(membership.c.person_id == person_id)).scalar_one()
    return {
        "person_id": person_id,
        "membership_id": right,
        "consent_id": session.execute(select(consent.c.id).limit(1)).scalar_one(),
        "token_id": 0,
    }


# Without a session, without a token


@pytest.mark.requirement("SEC-19")
def test_nobody_gets_in_without_a_session_or_a_token(house: House):
    wrong = []
    for door in [*OPEN, *house.some([door for door in ALL if door not in OPEN])]:
        reply = house.ask(door, None)
        if WHO[door.name] == ANYONE:
            fine = reply.status_code < 500
        elif door.is_api:
            fine = reply.status_code == 401 and reply.headers["www-authenticate"] == "Bearer"
        elif door.is_unsafe and door.name not in KEEPS_NOTHING:
            fine = reply.status_code == 401
        else:
            fine = reply.status_code == 303 and reply.headers["location"].startswith("/sign-in")
        if not fine:
            wrong.append((door.name, reply.status_code))
    assert wrong == []


@pytest.mark.requirement("SEC-19", "SEC-22")
def test_a_made_up_session_or_token_is_none(house: House):
    made_up = Asker(0, new_token(), new_token(), TOKEN_PREFIX + new_token())
    closed = house.some([door for door in ALL if door not in OPEN])
    replies = [(door.name, house.ask(door, made_up).status_code) for door in closed]
    assert [each for each in replies if each[1] not in (303, 401)] == []


# Unsafe requests


@pytest.mark.requirement("SEC-16")
def test_every_form_needs_its_csrf_token(house: House):
    wrong = []
    forms = [door for door in WEB if door.is_unsafe and door not in OPEN and door.name not in KEEPS_NOTHING]
    for door in house.some(forms):
        for role in expected_roles(door.name):
            reply = house.ask(door, house.askers[role], csrf=False)
            # What only the statistician or a clinician finds is not found by others even so; these are they.
            if reply.status_code != 403 or "out of date" not in reply.text:
                wrong.append((door.name, role, reply.status_code))
    assert wrong == []


@pytest.mark.requirement("SEC-16")
def test_somebody_elses_csrf_token_is_none(house: House):
    mine, theirs = house.askers["coordinator"], house.askers["assessor"]
    mixed = Asker(mine.person_id, mine.cookie, theirs.csrf, "")
    door = next(each for each in WEB if each.name == "participants.screen")
    assert house.ask(door, mixed).status_code == 403


@pytest.mark.requirement("SEC-16", "SEC-17")
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.test"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": "http://trial.test"},
    ],
    ids=str,
)
def test_no_other_site_sends_an_unsafe_request(house: House, headers: dict[str, str]):
    role = house.askers["coordinator"]
    unsafe = house.some([door for door in ALL if door.is_unsafe])
    replies = [(door.name, house.ask(door, role, headers=headers)) for door in unsafe]
    assert [(name, reply.status_code) for name, reply in replies if reply.status_code != 403] == []
    assert all("access-control-allow-origin" not in reply.headers for _, reply in replies)


@pytest.mark.requirement("SEC-18")
@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND"])
def test_methods_that_no_page_has_are_refused(house: House, method: str):
    for path in ("/", "/sign-in", "/mini/participants", "/api/v1/studies/mini"):
        assert house.client.request(method, path).status_code == 405


# The table


@pytest.mark.requirement("SEC-19", "SEC-20", "P11-d")
@pytest.mark.parametrize("asker", [*(role.value for role in Role), "nobody"])
def test_every_route_obeys_the_table_of_permissions(house: House, asker: str):
    wrong = []
    closed = [door for door in ALL if door not in OPEN]
    refused = house.some([door for door in closed if not _may(asker, door)])
    for door in [*(door for door in closed if _may(asker, door)), *refused]:
        reply = house.ask(door, house.askers[asker])
        if _may(asker, door):
            # They get through to the page, or to what the state of the trial or their form says.
            fine = reply.status_code < 500 and reply.status_code not in (401, 403)
            fine = fine and (reply.status_code != 404 or door.name in FOUND_NOTHING)
        else:
            fine = reply.status_code in ((401, 403, 404) if door.is_api else (403, 404))
        if not fine:
            wrong.append(f"{door.name} {reply.status_code} {'may' if _may(asker, door) else 'may not'}")
    assert not wrong, "\n".join(wrong)


# Addresses of things that are not there (a session, token, sequence or invitation of somebody else).
FOUND_NOTHING = {
    "exports.made",
    "exports.made_file",
    "exports.manifest_file",
    "api.export_run",
    "api.export_run_file",
    "api.export_manifest",
    "api.act_on_deviations",
    "api.sign_deviations",
    "drafts.draft",
    "drafts.folder_file",
    "drafts.open_file",
    "drafts.file",
    "drafts.save_file",
    "drafts.edit",
    "drafts.change",
    "drafts.undo",
    "drafts.add_instrument_form",
    "drafts.add_instrument",
    "drafts.remove_instrument_form",
    "drafts.remove_instrument",
    "drafts.words_form",
    "drafts.words",
    "drafts.add_consent_form",
    "drafts.add_consent",
    "drafts.load_form",
    "drafts.load",
    "drafts.remove_form",
    "drafts.remove",
    "drafts.preview",
    "drafts.look",
    "drafts.look_at_fields",
    "drafts.look_at_consent",
    "drafts.plan",
    "drafts.consent",
    "api.draft",
    "api.draft_folder",
    "api.save_draft_file",
    "api.load_draft",
    "api.remove_draft",
    "amendments.carry_on",
    "api.amendment",
    "api.person",  # seen by who meets everybody
    "api.allocation",
    "api.downtime_pack",
    "api.downtime_slip",
    "api.export_definition",
    "api.import_mapping",
    "api.webhook",
    "api.end_webhook",
    "api.webhook_delivery",
    "api.message",
    "api.lock",
    "api.link",
    "api.one_randomised_in_error",
    "api.contact",
    "api.one_care",
    "api.end",
    "api.audit_entry",
    "imports.file",
    "webhooks.show",
    "webhooks.change",
    "api.change_webhook",
    "api.edit_webhook",
    "api.replace_secret",
    "api.tell_again",
    "api.consent_scan",
    "api.feed",
    "api.revoke_feed",
    "api.test_webhook",
    "api.webhook_deliveries",
    "imports.carry_out",
    "api.cancel_amendment",
    "api.carry_on_amendment",
    "double.second_form",
    "double.second",
    "double.look",
    "double.keep_draft",
    "double.drop_draft",
    "double.draft",
    "double.pair",
    "double.reconcile_form",
    "double.reconcile",
    "api.double_entry",
    "api.reconcile",
    "coding.text",
    "coding.code_form",
    "coding.reconcile_form",
    "coding.code",
    "coding.reconcile",
    "api.coded_text",
    "api.code_text",
    "api.reconcile_text",
    "api.terms",
    "entries.verify",
    "visits.add_form",  # the small study has no visits outside its plan
    "visits.add",
    "api.verify_entry",
    "locks.lift",
    "locks.ask",
    "locks.approve",
    "locks.decline",
    "api.lift_freezing",
    "api.ask_to_unlock",
    "api.decide_unlock",
    "oversight.past",
    "oversight.past_access",
    "api.one_log_review",
    "queries.show",
    "queries.answer_form",
    "queries.requery_form",
    "queries.close_form",
    "queries.answer",
    "queries.requery",
    "queries.close",
    "api.query",
    "api.answer_query",
    "api.requery",
    "api.close_query",
    "consent.scan",
    "consent.restore_option",
    "api.restore_option",
    "entries.file",
    "api.entry_file",
    "api.keep_file",
    "links.end",
    "api.end_link",
    "account.end_session",
    "account.choose_scopes",
    "account.create_token",
    "account.revoke_token",
    "calendar.revoke_feed",
    "reminders.resend",
    "api.resend_message",
    "safety.event",
    "safety.follow_up_form",
    "safety.follow_up",
    "safety.void",
    "safety.judge",
    "safety.review",
    "safety.stop_clock",
    "conduct.deviation",
    "conduct.act",
    "conduct.sign",
    "conduct.take_back",
    "unblinding.show",
    "unblinding.impact",
    "unblinding.approve",
    "unblinding.refuse",
    "unblinding.arms",
    "unblinding.arms_file",
    "api.adverse_event",
    "api.follow_up_adverse_event",
    "api.void_adverse_event",
    "api.judge_adverse_event",
    "api.review_adverse_event",
    "api.stop_clock",
    "api.deviation",
    "api.act_on_deviation",
    "api.sign_deviation",
    "api.take_deviation_back",
    "api.unblinding",
    "api.assess_unblinding",
    "api.decide_unblinding",
    "api.unblinded_arms",
    "escrow.file",
    "api.escrow_key",
    "api.escrow",
    "downtime.pack",
    "downtime.void",
    "downtime.close",
    "api.downtime_slips",
    "api.void_downtime_slip",
    "api.close_downtime_pack",
    "sequence.review",
    "sequence.script_python",
    "sequence.script_r",
    "sequence.seal",
    "sequence.set_aside",
    "commitment.certificate",
    "commitment.certificate_file",
    "commitment.certificate_pdf",
    "commitment.proofs_file",
    "commitment.close",
    "commitment.plan_file",
    "api.entry",
    "api.sequence",
    "api.review_sequence",
    "api.set_aside",
    "api.seal",
    "api.certificate",
    "api.proofs",
    "api.close_sequence",
    "api.plan",
    "api.script_python",
    "api.script_r",
}


def _may(asker: str, door: Door) -> bool:
    who = WHO[door.name]
    if who == SIGNED_IN:
        return True
    if asker == "nobody":  # a data manager of another study
        return not door.in_study and Role.DATA_MANAGER in expected_roles(door.name)
    return who == IN_STUDY or Role(asker) in expected_roles(door.name)


@pytest.mark.requirement("SEC-22")
def test_a_token_does_no_more_than_its_scopes(house: House):
    """The data manager's roles allow it; a token without the scope does not."""
    narrow = TOKEN_PREFIX + new_token()
    with house.connection.begin() as inside:
        now = clock.now()
        house.connection.execute(
            insert(table_of(ApiToken)).values(
                token_hash=token_hash(narrow),
                person_id=house.askers["data_manager"].person_id,
                study_id=house.connection.exec_driver_sql("SELECT id FROM study WHERE code = 'mini'").scalar_one(),
                name="narrow",
                scopes="study.read",
                created_at=now,
                expires_at=now + timedelta(hours=1),
            )
        )
        narrowed = Asker(0, "", "", narrow)
        allowed = {door.name for door in API if house.ask(door, narrowed).status_code < 400}
        theirs = {
            name for name, who in WHO.items() if name.startswith("api.") and who in (Permission.STUDY_READ, IN_STUDY)
        }
        assert theirs - FOUND_NOTHING <= allowed <= theirs
        inside.rollback()


# Headers and cookies


@pytest.mark.requirement("SEC-12", "SEC-13", "SEC-14", "SEC-15", "SEC-42")
@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("kind", ["sqlite"])
def test_every_reply_has_the_security_headers(shared_database: Database, secure: bool):
    client = TestClient(_application(shared_database, secure_cookies=secure), base_url="https://trial.test")
    for door in ALL:
        reply = client.request(door.method, door.address(**VALUES), follow_redirects=False)
        headers = reply.headers
        policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["object-src"] == policy["base-uri"] == "'none'", door.name
        assert policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] in ("same-origin", "no-referrer")
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers
        assert ("strict-transport-security" in headers) is secure
        if secure:
            assert headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"
        if door.name != "static":
            assert headers["cache-control"] == "no-store", door.name
        for line in headers.get_list("set-cookie"):
            assert "httponly" in line.lower(), (door.name, line)
            assert "samesite" in line.lower(), (door.name, line)


@pytest.mark.requirement("SEC-12", "SEC-32")
@pytest.mark.parametrize("kind", ["sqlite"])
def test_the_session_cookie_is_bound_to_this_host_over_tls(database: Database):
    with database.writing() as session:
        actor = person(session, mini_study(session), "coordinator")
    signed_in_client(database, actor)  # gives them their password
    for secure, name in ((True, "__Host-equipoise"), (False, "equipoise")):
        client = TestClient(_application(database, secure_cookies=secure), base_url="https://trial.test")
        reply = client.post("/sign-in", data={"username": actor.username, "password": PASSWORD}, follow_redirects=False)
        assert reply.status_code == 303
        (cookie,) = reply.headers.get_list("set-cookie")
        parts = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert cookie.startswith(f"{name}=")
        assert {"httponly", "path=/", "samesite=lax"} <= parts
        assert ("secure" in parts) is secure
        assert not any(part.startswith("domain") for part in parts)


def test_every_address_is_found_by_its_parts_as_if_each_were_tried():
    """`app.signposts` leads where the list of addresses leads, whatever is asked and in whichever way."""
    application = _application(Database("sqlite:////nonexistent/equipoise.db", KEYS))
    signposts, *routes = application.router.routes
    assert isinstance(signposts, Signposts)

    def asked(path: str, method: str) -> dict[str, str]:
        return {"type": "http", "path": path, "method": method, "root_path": ""}

    def fitting(path: str) -> list[Any]:
        # Whether an address fits is one question, and in which way it is asked another: the first has the same answer.
        return [route for route in routes if route.matches(asked(path, "GET"))[0] is not Match.NONE]

    def led_to(fits: list[Any], path: str, method: str) -> Any:
        partly = None
        for route in fits:
            match, found = route.matches(asked(path, method))
            if match is Match.FULL:
                return match, route, found.get("path_params")
            if match is Match.PARTIAL and partly is None:
                partly = match, route, found.get("path_params")
        return partly or (Match.NONE, None, None)

    def shown(path: str, method: str) -> Any:
        match, found = signposts.matches(asked(path, method))
        return match, found.get("led to"), found.get("path_params")

    paths = {path for door in EVERY for path in door.addresses(**{"file": "equipoise.css", **VALUES})}
    paths |= {
        path.replace("/mini", f"/{name}", 1) for path in list(paths)[::7] for name in ("static", "api", "account")
    }
    paths |= {"/", "", "//", "/mini/", "/static", "/static/", "/nothing/at/all", "/mini/studio/drafts/1/files/"}
    paths |= {
        f"{path}{more}"
        for path in sorted(paths)[::5]
        for more in ("/", "/more", ".csv", "//", "/files/a/b.yaml", "\n", "/\n", "\n\n")
    }
    assert len(paths) > 400
    for path in sorted(paths):
        fits = fitting(path)
        for method in ("GET", "POST", "PUT", "HEAD"):
            assert shown(path, method) == led_to(fits, path, method), f"{method} {path}"
    assert {shown(path, "GET")[0] for path in paths} == {Match.FULL, Match.PARTIAL, Match.NONE}
