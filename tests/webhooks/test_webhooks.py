"""A webhook is told of what its owner may see, once, signed; and of nothing that depends on an arm."""

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from posixpath import normpath
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from app.audit.actions import ENTRY, Change, last_recorded, record
from app.capture.actions import save_entry
from app.foundation import clock
from app.foundation.database import table_of
from app.foundation.errors import Invalid, NotFound
from app.foundation.paging import encode
from app.jobs import tell_webhooks
from app.people.access import granted_at
from app.people.models import Membership
from app.people.permissions import Role
from app.people.reads import sites_of
from app.settings import Settings
from app.webhooks import actions, reads, sending
from app.webhooks.rules import EVENTS, address_of, event_of, why_not_reach, why_not_url
from tests.capture.records import consented
from tests.factories import NOW, mini_study, person


class Listener(HTTPServer):
    status = 204

    def __init__(self) -> None:
        self.heard: list[tuple[Any, bytes]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Listener)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((self.headers, body))
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def trial(shared_database):
    with shared_database.writing() as session:
        study = mini_study(session)
        coordinator = person(session, study, Role.COORDINATOR, site_code="north")
        manager = person(session, study, Role.DATA_MANAGER, site_code=None)
        clinician = person(session, study, Role.CLINICIAN, site_code="north")
        people = consented(session, study), consented(session, study, "M-002", site_code="south")
    return shared_database, study, coordinator, manager, clinician, people


def make(trial, listener, by, **options):
    database, study = trial[:2]
    asked = {"events": list(EVENTS), "allowed": (listener.address,), "by": by, "now": NOW, **options}
    with database.writing() as session:
        return actions.make_webhook(session, study, url=f"{listener.address}/hook?a=1", **asked)


def save(trial, participant, pain):
    database, study, coordinator, *_ = trial
    by = coordinator
    with database.writing() as session:
        if participant.code == "M-002":
            by = person(session, study, Role.COORDINATOR, site_code="south")
        save_entry(
            session,
            study,
            participant,
            visit="week18",
            instrument="pain",
            values={"pain_nrs": pain},
            reasons={},
            base_version=0,
            by=by,
            now=NOW,
            accept_partial=True,
        )


def told(trial, listener):
    settings = Settings(webhook_addresses=listener.address)
    return tell_webhooks(trial[0], settings), [json.loads(body) for _, body in listener.heard]


@pytest.mark.requirement("SEC-41")
def test_a_change_is_told_once_and_signed_and_without_its_value(trial, listener):
    _, secret = make(trial, listener, trial[2])
    save(trial, trial[5][0], 7)
    count, heard = told(trial, listener)
    assert count == 1
    assert told(trial, listener)[0] == 0
    (event,) = heard
    assert set(event) == {"id", "event", "at", "study", "site", "participant", "address"}
    assert (event["event"], event["participant"], event["site"]) == ("entry.changed", "M-001", "north")
    assert event["address"] == "/api/v1/studies/mini/participants/M-001/visits/week18/entries/pain"
    headers, body = listener.heard[0]
    timestamp, made = (part.partition("=")[2] for part in headers["Equipoise-Signature"].split(","))
    assert made == hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["Equipoise-Event-Id"] == event["id"]
    with trial[0].writing() as session:
        stored = session.execute(select(reads.HOOK)).one()
        assert secret.encode() not in bytes(stored.sealed)
        # Read again from where it began, by a worker that was slow: nothing is queued a second time.
        session.execute(update(reads.HOOK).values(position=0))
    assert actions.queue_events(trial[0], now=NOW) == 0


def test_a_corrected_pre_screen_is_told_once_with_where_it_is_read(trial, listener):
    make(trial, listener, trial[2])
    with trial[0].writing() as session:
        changes = [
            Change("screening.corrected", "M-001", "screening", item="age", old=40, new=41),
            Change("screening.corrected", "M-001", "screening", item="pain_screen", old=4, new=5),
            Change("screening.judged_again", "M-001", "screening", old={"version": 1}, new={"version": 2}),
        ]
        record(session, "mini", changes, by=trial[2], now=NOW, why="Misread")
    count, heard = told(trial, listener)
    assert count == 1
    assert (heard[0]["event"], heard[0]["participant"]) == ("screening.corrected", "M-001")
    assert heard[0]["address"] == "/api/v1/studies/mini/participants/M-001/screening"
    assert "41" not in listener.heard[0][1].decode().replace(heard[0]["id"], "")


def test_only_sites_and_people_of_its_owner_are_told(trial, listener):
    make(trial, listener, trial[2])
    make(trial, listener, trial[3], site="south")
    save(trial, trial[5][0], 7)
    save(trial, trial[5][1], 7)
    _, heard = told(trial, listener)
    assert sorted(each["participant"] for each in heard) == ["M-001", "M-002"]
    with trial[0].writing() as session:
        member = table_of(Membership)
        session.execute(delete(member).where(member.c.person_id == trial[2].person_id))
        record(session, "mini", [Change("visit.held", "M-001", "visit/week18")], by=trial[3], now=NOW)
    assert told(trial, listener)[0] == 0


@pytest.mark.requirement("CONC-9")
@pytest.mark.parametrize(
    ("action", "subject", "unblinded"),
    [
        ("visit.held", "visit/tx01", False),
        ("visit.held", "visit/week18", True),
        ("session.recorded", "visit/week18", True),
        ("envelope.opened", "allocation", True),
        ("participant.staged", "stage", False),
    ],
)
def test_nothing_that_depends_on_an_arm_is_told_or_counted(trial, listener, action, subject, unblinded):
    make(trial, listener, trial[3])
    by = trial[4] if unblinded else trial[2]
    with trial[0].writing() as session:
        record(session, "mini", [Change(action, "M-001", subject, new={"x": 1})], by=by, now=NOW)
    assert told(trial, listener) == (0, [])


def test_what_is_not_taken_is_tried_again_later_and_redirects_are_not_followed(trial, listener):
    number, _ = make(trial, listener, trial[2])
    with trial[0].writing() as session:
        actions.ping(session, trial[1], number, by=trial[2], now=NOW)
    listener.status = 302
    assert told(trial, listener)[0] == 0
    assert len(listener.heard) == 1
    with trial[0].reading() as session:
        (row,) = reads.deliveries(session, trial[1], number, by=trial[2]).rows
    assert (row.attempts, row.status, row.ended_as) == (1, 302, None)
    with trial[0].reading() as session:
        further = reads.deliveries(session, trial[1], number, by=trial[2], cursor=encode(row.number))
        assert further.rows == []
        for broken in ("W1tb", encode("M-001"), encode(True), encode(2**31), encode(-1), encode(1, 2)):
            with pytest.raises(Invalid):
                reads.deliveries(session, trial[1], number, by=trial[2], cursor=broken)
    assert "not followed" in (row.last_error or "")
    listener.status = 200
    assert told(trial, listener)[0] == 0  # its time has not come
    with trial[0].writing() as session:
        session.execute(update(reads.DELIVERY).values(not_before=clock.now()))
        actions.set_state(session, trial[1], number, "paused", by=trial[2], now=NOW)
    assert told(trial, listener)[0] == 0
    with trial[0].writing() as session:
        actions.set_state(session, trial[1], number, "active", by=trial[2], now=NOW)
    count, heard = told(trial, listener)
    assert count == 1
    assert heard[0] == heard[1]  # the same event under the same id


@pytest.mark.requirement("SEC-42")
@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "https://example.org:8443/",
        "https://me:secret@example.org/",
        "ftp://example.org/",
        "https:///x",
        "https://a..b/",
        f"https://{'a' * 64}.org/",
        f"https://{'a.' * 130}org/",
        "https://example.org/ x",
        "nonsense",
    ],
)
def test_addresses_that_are_not_told(url):
    assert why_not_url(url, ())


@pytest.mark.requirement("SEC-42")
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "::1",
        "fe80::1%eth0",
        "::ffff:10.0.0.1",
        "0.0.0.0",
        "100.64.0.1",
        # Addresses of IPv4 in ones of IPv6: translated, compatible, 6to4; and of a site.
        "64:ff9b::169.254.169.254",
        "64:ff9b::10.0.0.1",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "2002:7f00:1::",
        "fec0::1",
        "ff0e::1",
    ],
)
def test_a_name_that_leads_into_our_network_is_not_reached(address, monkeypatch):
    assert why_not_reach(address)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (address, 443))])
    event = actions.Claimed(1, "https://example.org/", ("s",), "e", "ping", "{}", 1)
    status, error = sending.send(event, allowed=())
    assert status is None
    assert "private" in (error or "")


def test_public_addresses_are_reached():
    assert why_not_reach("93.184.215.14") is None
    assert why_not_reach("2606:2800:21f:cb07:6820:80da:af6b:8b2c") is None
    assert why_not_reach("64:ff9b::93.184.215.14") is None


@pytest.mark.requirement("SEC-42")
def test_one_address_that_cannot_be_told_holds_up_no_other(trial, listener, monkeypatch):
    """A name that cannot even be looked up once ended the round: nobody was told anything any more."""
    made, _ = make(trial, listener, trial[2])
    broken, _ = make(trial, listener, trial[3])
    with trial[0].writing() as session:
        actions.ping(session, trial[1], broken, by=trial[3], now=NOW)
        actions.ping(session, trial[1], made, by=trial[2], now=NOW)
        kept = session.execute(select(reads.DELIVERY).where(reads.DELIVERY.c.webhook_id == made)).one()
    post = sending._post

    def posted(event, *rest):
        return post(event if event.event_id == kept.event_id else replace(event, url="https://a..b/"), *rest)

    monkeypatch.setattr(sending, "why_not_url", lambda *_: None)  # one that was made before such were refused
    monkeypatch.setattr(sending, "_post", posted)
    count, heard = told(trial, listener)
    assert (count, [each["id"] for each in heard]) == (1, [kept.event_id])
    with trial[0].reading() as session:
        (row,) = reads.deliveries(session, trial[1], broken, by=trial[3]).rows
    assert (row.attempts, row.ended_as) == (1, None)
    assert row.last_error


@pytest.mark.requirement("SEC-42")
def test_whoever_answers_byte_by_byte_is_cut_off(monkeypatch):
    monkeypatch.setattr(sending, "LONGEST", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        event = actions.Claimed(1, f"{address}/hook", ("s",), "e", "ping", "{}", 1)
        status, error = sending.send(event, allowed=(address,))
    assert status is None
    assert "longer than" in (error or "")


def signers(header, body, *secrets):
    """Which of these secrets an event is signed with, in their order."""
    (_, timestamp), *made = (part.split("=", 1) for part in header.split(","))
    assert {name for name, _ in made} == {"v1"}
    signed = f"{timestamp}.".encode() + body
    values = [value for _, value in made]
    return [each for each in secrets if hmac.new(each.encode(), signed, "sha256").hexdigest() in values]


def test_a_secret_is_replaced_and_the_one_before_signs_beside_it_for_a_day(trial, listener):
    database, study, coordinator, *_ = trial
    number, first = make(trial, listener, coordinator)

    def heard(now):
        with database.writing() as session:
            actions.ping(session, study, number, by=coordinator, now=now)
        event = actions.claim(database, now=now)
        assert event is not None
        assert sending.send(event, allowed=(listener.address,)) == (204, None)
        actions.mark(database, event, status=204, error=None, now=now)
        headers, body = listener.heard[-1]
        return headers["Equipoise-Signature"], body

    assert signers(*heard(NOW), first) == [first]
    with database.writing() as session:
        second = actions.replace_secret(session, study, number, by=coordinator, now=NOW)
    assert second != first
    assert signers(*heard(NOW + timedelta(hours=23)), first, second) == [first, second]
    with database.writing() as session:  # another address is told under the same secrets
        moved: dict[str, Any] = {
            "url": f"{listener.address}/other",
            "events": ["entry.signed"],
            "allowed": (listener.address,),
        }
        actions.change_webhook(session, study, number, **moved, by=coordinator, now=NOW)
    assert signers(*heard(NOW + timedelta(hours=23, minutes=1)), first, second) == [first, second]
    assert signers(*heard(NOW + timedelta(hours=24)), first, second) == [second]
    with database.reading() as session:
        hook = reads.webhook_of(session, study, number, by=coordinator)
    assert (hook.url, hook.events) == (f"{listener.address}/other", ("entry.signed",))


def test_an_event_that_failed_is_told_again_under_its_id(trial, listener):
    database, study, coordinator, manager, _, _ = trial
    number, _ = make(trial, listener, coordinator)
    with database.writing() as session:
        event_id = actions.ping(session, study, number, by=coordinator, now=NOW)
        session.execute(update(reads.DELIVERY).values(ended_at=NOW, ended_as="failed", attempts=10))
        (row,) = reads.deliveries(session, study, number, by=coordinator).rows
        for by, problem in ((manager, NotFound), (coordinator, None)):
            again = {"by": by, "now": NOW}
            if problem is None:
                for _ in range(2):
                    actions.tell_again(session, study, number, row.number, **again)
            else:
                with pytest.raises(problem):
                    actions.tell_again(session, study, number, row.number, **again)
    tell_webhooks(database, Settings(webhook_addresses=listener.address))
    assert [headers["Equipoise-Event-Id"] for headers, _ in listener.heard] == [event_id]
    with database.reading() as session:
        assert reads.delivery_of(session, study, number, row.number, by=coordinator).ended_as == "delivered"
        logged = session.execute(select(ENTRY.c.action).where(ENTRY.c.action == "webhook.told_again")).all()
    assert len(logged) == 1


@pytest.mark.parametrize(
    ("action", "subject", "event", "address"),
    [
        (
            "entry.saved",
            "entry/week18/fall/2",
            "entry.changed",
            "/visits/week18/entries/fall?repeat=2",
        ),
        ("entry.saved", "entry/week18/fall", "entry.changed", "/visits/week18/entries/fall"),
        ("query.raised", "query/week18/pain", "query.changed", "/visits/week18/entries/pain"),
        ("visit.held", "visit/week18", "visit.changed", "/visits/week18"),
        ("adverse_event.judged", "adverse_event/7", "adverse_event.changed", "/../../adverse-events/7"),
        ("participant.end_recorded", "end/3", "participant.changed", ""),
        ("query.raised", "query/tx01/session", None, ""),
    ],
)
@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_what_is_told_leads_to_where_it_is_read(trial, action, subject, event, address):
    study = trial[1].definition
    assert event_of(study, action, subject, "coordinator") == event
    assert event_of(study, action, subject, "clinician") is None
    if event:
        whole = "/api/v1/studies/mini/participants/M-001"
        assert address_of("mini", "M-001", subject, event) == normpath(f"{whole}{address}")


def test_what_one_may_not_read_is_not_asked_for(trial, listener):
    with pytest.raises(Invalid) as refused:
        make(trial, listener, trial[2], events=["envelope.opened"], site="south")
    assert {each.field for each in refused.value.problems} == {"events", "site"}


@pytest.mark.requirement("SEC-22")
def test_a_token_of_one_site_has_that_site_alone_told(trial, listener):
    database, study, _, manager = trial[:4]
    number, _ = make(trial, listener, manager)
    with database.reading() as session:
        places = {each.code: each.id for each in sites_of(session, study.id)}
    south, both = (
        replace(manager, grants=granted_at(manager.grants, sites), token_sites=frozenset(sites))
        for sites in ([places["south"]], sorted(places.values()))
    )
    with pytest.raises(Invalid, match="Name one of them"):
        make(trial, listener, both)
    with pytest.raises(Invalid):
        make(trial, listener, south, site="north")
    mine, _ = make(trial, listener, south)
    with database.writing() as session:
        assert [(each.number, each.site) for each in reads.webhooks_of(session, study, by=south)] == [(mine, "south")]
        hook, before = reads.webhook_of(session, study, mine, by=south), last_recorded(session, study.code)
        same: dict[str, Any] = {"url": hook.url, "events": hook.events, "allowed": (listener.address,)}
        actions.change_webhook(session, study, mine, **same, by=south, now=NOW)
        assert last_recorded(session, study.code) == before, "the same again is no change, and not written down"
        made = select(ENTRY.c.new).where(ENTRY.c.action == "webhook.made", ENTRY.c.subject == f"webhook/{mine}")
        assert json.loads(session.execute(made).scalar_one())["site"] == "south"
        with pytest.raises(NotFound):
            actions.set_state(session, study, number, "paused", by=south, now=NOW)
        actions.set_state(session, study, number, "ended", by=manager, now=NOW)
    save(trial, trial[5][0], 7)
    save(trial, trial[5][1], 7)
    _, heard = told(trial, listener)
    assert [each["participant"] for each in heard] == ["M-002"]
