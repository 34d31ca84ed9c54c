"""A whole trial played through the doors, in a world where nothing is left to chance but who got which arm.

Time stands still between steps, randomness comes from a counter, and what is sealed is sealed ideally: the bytes say
how long the secret is and nothing else, which is what AES-256-GCM and HMAC-SHA256 promise. So two plays that differ
only in the arms must leave *the same bytes everywhere*, and a comparison needs no exceptions: tests/concealment asks of
the real cipher what is idealised here.
"""

import hashlib
import logging
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import time_machine
from bs4 import BeautifulSoup
from cryptography.exceptions import InvalidTag
from sqlalchemy import insert, select, text, update
from sqlmodel import Session

from app.api.redcap.door import DOORS as CALLS
from app.dependencies import masked
from app.exports.delivery import EXTENSIONS, STANDARD_EXTENSIONS
from app.foundation import clock
from app.foundation.crypto.keys import Keyring
from app.foundation.crypto.secrets import hash_password, new_token, token_hash
from app.foundation.database import Database, keys_of, table_of
from app.jobs import make_exports, queue_due_reminders, send_due_mail, tell_webhooks
from app.main import create_app
from app.participants.models import Participant
from app.people.models import ApiToken, Person, SignInSession
from app.people.permissions import Permission, Role
from app.people.reads import TOKEN_PREFIX
from app.people.rules import NOT_FOR_TOKENS
from app.randomisation import commitment
from app.randomisation.commitment import SALT_BYTES
from app.randomisation.models import Allocation, AllocationSequence, Slot, Stratum
from app.randomisation.sealing import Place, unseal_arm
from app.settings import Settings
from app.studies.definition import Window
from app.studies.in_use import StudyInUse
from app.studies.models import StudyVersion
from app.studies.rules import canonical, fingerprint
from app.web.reports import FILES as REPORTS
from app.webhooks.actions import Claimed
from app.webhooks.rules import EVENTS, signature
from tests.factories import asking_for_a_guess, mini_study, person
from tests.house.routes import ANYONE, VALUES, WHO, Door, doors, expected_roles
from tests.web.browser import OneHop

BEGUN = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
PASSWORD = "correct horse battery staple"
BLINDED = (
    Role.COORDINATOR,
    Role.ASSESSOR,
    Role.INVESTIGATOR,
    Role.DATA_MANAGER,
    Role.MONITOR,
    Role.ADMINISTRATOR,
)

PARTICIPANT = "participant"
"""Whoever has no sign-in, and the address of a link or a calendar."""

# Codes and labels of arms and of what is delivered in them: words that stand nowhere else, so that a search finds leaks
# only. They differ in length, and so do the forms of a session.
ACTIVE, SHAM = "quillwort", "brume_placebo"
ARMS: dict[str, Any] = {
    "arms": [
        {"code": ACTIVE, "label": "Zephyrine training", "ratio": 1},
        {"code": SHAM, "label": "Halcyonite device", "ratio": 1},
    ],
    "treatment": [
        {
            "arm": ACTIVE,
            "modules": [
                {
                    "code": "jonquillesson",
                    "label": "Jonquil lesson",
                    "items": [{"code": "jonquilminutes", "label": "Jonquil minutes", "type": "integer", "max": 90}],
                },
                {"code": "ochrehomework", "label": "Ochreous homework"},
            ],
        },
        {
            "arm": SHAM,
            "modules": [
                {
                    "code": "vesperlaser",
                    "label": "Vespertine laser",
                    "items": [{"code": "vesperminutes", "label": "Vespertine minutes", "type": "integer", "max": 90}],
                }
            ],
        },
    ],
    "consent": {"optional": [{"code": "contact", "label": "May be asked about later studies"}]},
    "withdrawal_levels": [
        {"code": "treatment", "label": "Stops treatment", "stops_treatment": True},
        {"code": "visits", "label": "Stops visits", "stops_treatment": True, "stops_visits": True},
    ],
    "allocation": {"method": "list", "strata": [{"code": "site", "label": "Site", "by": "site"}]},
    "schedule": {
        "reminders": [
            {"code": "booked", "when": "booked"},
            {"code": "before", "when": "before_appointment", "days": 1, "at": "09:00"},
            {"code": "team", "when": "before_appointment", "days": 1, "at": "09:00", "to": "staff"},
            {"code": "late", "when": "overdue", "days": 1, "to": "staff"},
        ]
    },
    "dictionaries": [
        {
            "code": "complaints",
            "label": "Complaints",
            "version": "1",
            "terms": [{"code": "RASH", "label": "Rash"}, {"code": "COLD", "label": "Common cold"}],
        }
    ],
    "safety": {
        "coding": {"dictionary": "complaints"},
        "clocks": [
            {
                "code": "sponsor",
                "label": "Report to the sponsor",
                "hours": 24,
                "steps": [
                    {"after_hours": 0, "tell": ["investigator", "clinician"]},
                    {"after_hours": 24, "tell": ["data_manager"]},
                ],
            }
        ],
    },
    # The day on which the statistician, after everything else, holds guesses against the arms.
    **asking_for_a_guess(ACTIVE, SHAM, planned_from="2026-07-08"),
}
# Their own guess is asked of participants by a link.
ARMS["instruments"] = [
    {**each, "respondent": "participant"} if each["code"] == "belief" else each for each in ARMS["instruments"]
]
# The same trial, decided at each allocation: nobody, not even a test, knows an arm beforehand.
MINIMISED: dict[str, Any] = {
    "allocation": {
        "method": "minimisation",
        "strata": [
            {"code": "site", "label": "Site", "by": "site"},
            {
                "code": "severity",
                "label": "Severity",
                "by": "expression",
                "expression": "if([baseline][pain_nrs] >= 6, 'high', 'low')",
                "levels": [{"code": "low", "label": "Low"}, {"code": "high", "label": "High"}],
            },
        ],
    }
}
WORDS = (
    ACTIVE,
    SHAM,
    "Zephyrine",
    "Halcyonite",
    "jonquillesson",
    "Jonquil",
    "jonquilminutes",
    "ochrehomework",
    "Ochreous",
    "vesperlaser",
    "Vespertine",
    "vesperminutes",
    "aubergine-note",
)
# Three are randomised here, and one on paper, so that the counts of the two arms differ in every world.
WORLD = {"north": (ACTIVE, SHAM, ACTIVE, SHAM), "south": (SHAM, ACTIVE)}
SWAPPED = {site: tuple(SHAM if arm == ACTIVE else ACTIVE for arm in arms) for site, arms in WORLD.items()}
Arms = dict[str, tuple[str, ...]]


class Chance:
    """Randomness that is the same in every play: SHA-256 over a counter."""

    def __init__(self) -> None:
        self.asked = 0

    def token_bytes(self, nbytes: int | None = None) -> bytes:
        self.asked += 1
        wanted = 32 if nbytes is None else nbytes
        blocks = (hashlib.sha256(f"{self.asked}/{block}".encode()).digest() for block in range(wanted // 32 + 1))
        return b"".join(blocks)[:wanted]

    def token_hex(self, nbytes: int | None = None) -> str:
        return self.token_bytes(nbytes).hex()

    def token_urlsafe(self, nbytes: int | None = None) -> str:
        import base64

        return base64.urlsafe_b64encode(self.token_bytes(nbytes)).rstrip(b"=").decode()


def ideal_cipher(chance: Chance) -> type:
    """An AEAD whose ciphertext is fresh randomness as long as the plaintext and 16 bytes: only its length says more."""
    kept: dict[bytes, tuple[bytes, bytes, bytes]] = {}

    class Ideal:
        def __init__(self, key: bytes) -> None:
            self.key = key

        def encrypt(self, nonce: bytes, data: bytes, place: bytes) -> bytes:
            sealed = chance.token_bytes(len(data) + 16)
            kept[nonce + sealed] = (self.key, place, data)
            return sealed

        def decrypt(self, nonce: bytes, sealed: bytes, place: bytes) -> bytes:
            found = kept.get(nonce + sealed)
            if found is None or found[:2] != (self.key, place):
                raise InvalidTag
            return found[2]

    return Ideal


def ideal_tag(chance: Chance) -> Callable[[Keyring, str, bytes], bytes]:
    """A keyed fingerprint as somebody without the key sees it: fresh randomness for everything that is new."""
    given: dict[tuple[str, bytes], bytes] = {}

    def tag(_: Keyring, purpose: str, data: bytes) -> bytes:
        if (purpose, data) not in given:
            given[purpose, data] = chance.token_bytes(32)
        return given[purpose, data]

    return tag


def ideal_leaf(chance: Chance) -> Callable[..., bytes]:
    """A salted leaf as somebody without its salt sees it: fresh randomness for every slot, whatever arm is in it."""

    def leaf(study: str, version: int, stratum: str, position: int, arm: str, salt: bytes) -> bytes:
        assert len(salt) == SALT_BYTES
        return chance.token_bytes(32)

    return leaf


@contextmanager
def without_chance() -> Iterator[time_machine.Traveller]:
    """Time stands still, randomness is counted, sealing is ideal."""
    chance = Chance()
    with ExitStack() as stack:
        for name in ("token_bytes", "token_hex", "token_urlsafe"):
            stack.enter_context(mock.patch.object(secrets, name, getattr(chance, name)))
        stack.enter_context(mock.patch("app.foundation.crypto.envelopes.AESGCM", ideal_cipher(chance)))
        stack.enter_context(mock.patch.object(Keyring, "tag", ideal_tag(chance)))
        stack.enter_context(mock.patch.object(commitment, "slot_leaf", ideal_leaf(chance)))
        yield stack.enter_context(time_machine.travel(BEGUN, tick=False))


@cache
def _hashed() -> str:
    return hash_password(PASSWORD)


@dataclass
class Someone:
    """A person of the trial with a session and a token."""

    person_id: int
    cookie: str = ""
    csrf: str = ""
    token: str = ""


Heard = tuple[int, list[tuple[bytes, bytes]], bytes]


@dataclass
class Trial:
    """One play: who acts, and everything that blinded people were answered."""

    database: Database
    client: OneHop
    doors: list[Door]
    settings: Settings
    study: StudyInUse
    people: dict[str, Someone] = field(default_factory=dict)
    heard: dict[str, Heard] = field(default_factory=dict)
    listening: bool = True

    def _send(self, who: str, method: str, path: str, *, called: str = "", **more: Any) -> Any:
        reply = self.client.request(method, path, **more)
        # As a server does, and among the lines that are compared: they are there to be compared, then.
        logging.getLogger("access").info("%s %s %s", method, path, reply.status_code)
        if who.split("_south")[0] in (*BLINDED, PARTICIPANT) and self.listening:
            # As it left: status, headers in their order, the body as it was sent (compressed where it was).
            key = f"{who} {len(self.heard)} {method} {called or path}"
            self.heard[key] = (reply.status_code, list(reply.headers.raw), reply.content)
        return reply

    def web(self, who: str, method: str, path: str, data: dict[str, Any] | None = None, **more: Any) -> Any:
        """A page, or a form with its CSRF token."""
        someone = self.people[who]
        form = {"csrf_token": masked(someone.csrf), **(data or {})} if method != "GET" else None
        return self._send(who, method, path, data=form, headers={"cookie": f"equipoise={someone.cookie}"}, **more)

    def api(self, who: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """A request over REST, below the study."""
        headers = {"authorization": f"Bearer {self.people[who].token}"}
        if method != "GET":
            headers["idempotency-key"] = f"{method} {path} {len(self.heard)}"
        return self._send(who, method, path, json=body, headers=headers)

    def redcap(self, who: str, *, files: Any = None, **form: str) -> Any:
        """A call of a client of the REDCap-compatible API."""
        called = "/api/?" + "&".join(f"{name}={value}" for name, value in form.items())
        data = {"token": self.people[who].token, **form}
        return self._send(who, "POST", "/api/", called=called, data=data, files=files)

    def phone(self, method: str, path: str, data: dict[str, Any] | None = None) -> Any:
        """A participant, or a calendar, at an address that nobody else knows."""
        return self._send(PARTICIPANT, method, path, data=data)

    def tell(self) -> int:
        """Tell the webhooks what happened meanwhile; the first is not taken, and comes again with the next round."""
        told = 0

        def heard(event: Claimed, **_: Any) -> tuple[int, str | None]:
            nonlocal told
            told += 1
            signed = [(b"equipoise-signature", signature(event.secrets, 0, event.payload).encode())]
            self.heard[f"program {len(self.heard)} POST {event.url}"] = (204, signed, event.payload.encode())
            return (503, "Answered 503.") if told == 1 else (204, None)

        with mock.patch("app.webhooks.sending.send", heard):
            return tell_webhooks(self.database, self.settings)

    @contextmanager
    def shown_once(self) -> Iterator[None]:
        """The one exception: what an investigator is answered who breaks the blind in an emergency is the arm.

        That answer, and no other, is not among what is compared. The same request again is, and so is every page
        after it, of this investigator too.
        """
        self.listening = False
        yield
        self.listening = True

    def did(self, reply: Any, *statuses: int) -> Any:
        """The reply, which must have one of these statuses."""
        assert reply.status_code in (statuses or (200, 201, 303)), _said(reply)
        return reply

    def sign_in(self) -> None:
        """New sessions for everybody: time has moved on."""
        now = clock.now()
        with self.database.writing() as session:
            for someone in self.people.values():
                someone.cookie, someone.csrf = new_token(), new_token()
                session.execute(
                    insert(table_of(SignInSession)).values(
                        token_hash=token_hash(someone.cookie),
                        person_id=someone.person_id,
                        csrf_token=someone.csrf,
                        second_factor=False,
                        created_at=now,
                        seen_at=now,
                        expires_at=now + timedelta(hours=12),
                        address="",
                        browser="",
                    )
                )


def _said(reply: Any) -> str:
    """What went wrong, without the page around it."""
    words = " ".join(BeautifulSoup(reply.text, "html.parser").get_text(" ").split())
    return f"{reply.request.method} {reply.request.url}: {reply.status_code} {words[:3000]}"


def set_up(database: Database, data: Path, changes: dict[str, Any] | None = None) -> Trial:
    """The study, with some of its parts changed, its people with passwords and tokens, and the application."""
    with database.writing() as session:
        study = mini_study(session, **{**ARMS, **(changes or {})})
        people = {role.value: Someone(person(session, study, role).person_id) for role in Role}
        for role in (Role.COORDINATOR, Role.CLINICIAN):
            people[f"{role}_south"] = Someone(person(session, study, role, site_code="south").person_id)
        session.execute(update(table_of(Person)).values(password_hash=_hashed()))
        for someone in people.values():
            someone.token = TOKEN_PREFIX + new_token()
            session.execute(
                insert(table_of(ApiToken)).values(
                    token_hash=token_hash(someone.token),
                    person_id=someone.person_id,
                    study_id=study.id,
                    name="program",
                    scopes=" ".join(each for each in Permission if each not in NOT_FOR_TOKENS),
                    created_at=clock.now(),
                    expires_at=clock.now() + timedelta(days=365),
                )
            )
    # How soon one may ask again depends on how long the requests before took, and so on nothing of the trial.
    settings = Settings(secure_cookies=False, data=data, api_requests_a_minute=0)
    application = create_app(settings, database)
    return Trial(database, OneHop(application), doors(application), settings, study, people)


API = "/api/v1/studies/mini"
RANDOMISED = ("M-001", "M-002", "M-005")


def play(trial: Trial, arms: Arms | None, time: time_machine.Traveller) -> None:
    """From the list to the last visit. Whoever treats sees the arm and records what belongs to it.

    `arms` is the list that is uploaded; without it, the study's own method decides.
    """
    did, web, api = trial.did, trial.web, trial.api
    trial.sign_in()
    listed = arms is not None
    if arms is None:
        _seal_a_rule(trial)
    else:
        _seal(trial, arms)
    for who in ("coordinator", "data_manager"):
        hook = {"url": f"https://example.org/{who}", "events": list(EVENTS)}
        did(api(who, "POST", f"{API}/webhooks", hook))
    _walk_in(trial)
    # Randomised through either door; and one who is not ready.
    did(web("coordinator", "POST", "/mini/participants/M-001/randomise", {"password": PASSWORD}))
    did(api("coordinator", "POST", f"{API}/participants/M-002/randomise"))
    did(api("coordinator_south", "POST", f"{API}/participants/M-005/randomise"))
    did(web("coordinator", "POST", "/mini/participants/M-003/randomise", {"password": PASSWORD}), 409)
    did(api("coordinator", "POST", f"{API}/participants/M-001/randomise"), 409)
    arms = arms or _decided(trial)
    time.move_to(BEGUN + timedelta(days=8))
    trial.sign_in()
    _treat(trial, arms)
    _share(trial, arms)
    _report(trial)
    time.move_to(BEGUN + timedelta(days=9))
    assert queue_due_reminders(trial.database) == 2
    send_due_mail(trial.database, trial.settings)
    time.move_to(BEGUN + timedelta(days=127))
    trial.sign_in()
    _follow_up(trial)
    _unblind(trial, arms)
    _review(trial)
    time.move_to(BEGUN + timedelta(days=128))
    trial.sign_in()
    if listed:  # arms that are decided one by one cannot be reserved
        _on_paper(trial)
    did(web("data_manager", "POST", "/mini/audit/verify"))
    for path in ("/mini/sequence/allocations", "/mini/sequence/allocations.csv", "/mini/sequence/1"):
        did(web("statistician", "GET", path))
    did(api("statistician", "GET", f"{API}/allocations"))
    for path in ("blinding", "blinding.pdf", "flow", "flow.csv", "flow.pdf"):
        did(web("statistician", "GET", f"/mini/sequence/{path}"))
    did(api("statistician", "GET", f"{API}/blinding-assessment"))
    did(api("statistician", "GET", f"{API}/flow-by-arm"))
    for path in ("certificate", "certificate.json", "proofs.ndjson"):
        did(web("statistician", "GET", f"/mini/sequence/2/{path}"))
    closing = {"why": "The target is reached", "password": PASSWORD}
    did(web("statistician", "POST", "/mini/sequence/2/close", closing))
    did(web("statistician", "GET", "/mini/sequence/2/plan.json"))
    did(api("statistician", "GET", f"{API}/exports-unblinded/participants.csv"))
    did(api("statistician", "GET", f"{API}/treatment/exposure.json"))
    for asked in ({"tables": ["participants", "entries"]}, {"tables": ["participants"], "arms": "dummy"}):
        did(api("data_manager", "POST", f"{API}/export-runs", {"asked": {**asked, "format": "parquet"}}), 202)
    did(api("data_manager", "POST", f"{API}/export-definitions", {"name": "Everything", "asked": {}}))
    assert trial.tell() > 30
    time.shift(timedelta(minutes=2))
    assert trial.tell() == 0, "what was not taken is tried again, and not taken again"
    assert make_exports(trial.database, trial.settings) == 2
    send_due_mail(trial.database, trial.settings)
    _amend(trial, time)


def _amend(trial: Trial, time: time_machine.Traveller) -> None:
    """A new version waits; one site goes over to it, sessions and all, and the other is to follow."""
    definition = trial.study.definition
    visits = [visit.model_copy(update={"window": Window(before=9, after=20)}) for visit in definition.visits]
    amended = definition.model_copy(update={"version": "2", "visits": tuple(visits)})
    row = {"study_id": trial.study.id, "version": "2", "sha256": fingerprint(amended), "definition": canonical(amended)}
    with trial.database.writing() as session:
        loaded = insert(table_of(StudyVersion)).values(**row, loaded_at=clock.now(), loaded_by="operator")
        session.execute(loaded)
    did, web = trial.did, trial.web
    plan, why = "/mini/study/versions/2/plan", "Ethics, 7 July 2026"
    did(web("administrator", "POST", plan, {"sites": "north", "why": why}), 303)
    did(web("administrator", "POST", plan, {"sites": "south", "from_on": "2027-01-01", "why": why}), 303)
    time.shift(timedelta(minutes=1))
    did(web("administrator", "POST", "/mini/study/amendments/1/carry-on"), 303)


def listing_of(arms: Arms) -> str:
    """The arms as a statistician hands them in."""
    rows = [f"{site},{place},{arm}" for site in arms for place, arm in enumerate(arms[site], start=1)]
    return "\n".join(["stratum,position,arm", *rows, ""])


def _seal(trial: Trial, arms: Arms) -> None:
    """Two lists: one is drawn over REST and set aside, the other is pasted into the page and sealed."""
    listing = listing_of(arms)
    trial.did(trial.api("statistician", "POST", f"{API}/sequences", {"method": "list", "csv": listing}))
    trial.did(trial.web("statistician", "POST", "/mini/sequence/1/set-aside", {"why": "A rehearsal"}))
    trial.did(trial.web("statistician", "POST", "/mini/sequence/upload", {"listing": listing}))
    trial.did(trial.web("statistician", "POST", "/mini/sequence/2/seal", {"password": PASSWORD}))


def _on_paper(trial: Trial) -> None:
    """The server is away from the north: of two slots that are reserved one becomes void, and one is used.

    That leaves three in one arm and one in the other, so that the counts still differ in every world.
    """
    did, web, api = trial.did, trial.web, trial.api
    pack = {"site": "north", "slots": "2", "why": "Power cuts", "password": PASSWORD}
    did(web("statistician", "POST", "/mini/sequence/downtime", pack))
    slip = {"slip": "1-02", "at": clock.now().isoformat(), "used_by": "Nora", "password": PASSWORD}
    paper = f"{API}/participants/M-003/randomise-on-paper"
    did(api("coordinator", "POST", paper, slip), 409)
    did(web("statistician", "POST", "/mini/sequence/downtime/1/void", {"slip": "1", "why": "Wet"}))
    did(api("coordinator", "POST", paper, slip), 422)
    did(api("coordinator", "POST", paper, {**slip, "deviation": "No form was left"}))
    did(web("statistician", "POST", "/mini/sequence/downtime/1/close", {"why": "It is back", "password": PASSWORD}))


def _seal_a_rule(trial: Trial) -> None:
    """The same of a method that decides at each allocation: there is no list, only a seed."""
    plan = {"method": "minimisation", "measure": "range", "probability": "4/5"}
    trial.did(trial.api("statistician", "POST", f"{API}/sequences", plan))
    trial.did(trial.web("statistician", "POST", "/mini/sequence/1/set-aside", {"why": "A rehearsal"}))
    trial.did(trial.web("statistician", "POST", "/mini/sequence/draw", {"measure": "variance", "probability": "4/5"}))
    trial.did(trial.web("statistician", "POST", "/mini/sequence/2/seal", {"password": PASSWORD}))


def _decided(trial: Trial) -> Arms:
    """Who got which arm, as in an uploaded list, so that the play can go on."""
    participant = table_of(Participant)
    with trial.database.reading() as session:
        ids = dict(session.execute(select(participant.c.code, participant.c.id)).all())
        first, second, south = (arm_of(session, ids[code]) for code in RANDOMISED)
    return {"north": (first, second), "south": (south,)}


def _walk_in(trial: Trial) -> None:
    did, api = trial.did, trial.api
    sound = {"age": 44, "pain_screen": 6, "surgery": False}
    people = {"given_name": "Anna", "family_name": "Muster"}
    for who, site, count in (
        ("coordinator", "north", 3),
        ("coordinator", "north", 1),
        ("coordinator_south", "south", 1),
    ):
        for _ in range(count):
            body = {"site": site, "answers": sound, "personal": people, "another": True}
            did(api(who, "POST", f"{API}/participants", body))
    failed = {**sound, "age": 80}
    body = {"site": "north", "answers": failed, "failure_reason": "not_eligible"}
    did(api("coordinator", "POST", f"{API}/participants", body))
    for code in ("M-001", "M-002", "M-003", "M-005"):
        who = "coordinator_south" if code == "M-005" else "coordinator"
        signed: dict[str, Any] = {"version": "1", "signed_on": "2026-03-02", "signature": "Anna Muster"}
        signed |= {"options": {"contact": True}, "password": PASSWORD}
        consents = f"{API}/participants/{code}/consents"
        if code == "M-003":  # the first one was another person's: it is refused, and recorded again
            wrong = did(api(who, "POST", consents, {**signed, "countersign": False})).json()["id"]
            refusal = {"why": "Another person signed", "password": PASSWORD}
            did(api(who, "POST", f"{consents}/{wrong}/refusal", refusal))
        did(api(who, "POST", consents, signed))
        if code != "M-003":
            visits = did(api(who, "GET", f"{API}/participants/{code}/visits")).json()["items"]
            held = {"status": "held", "held_on": "2026-03-02", "version": visits[0]["version"]}
            did(api(who, "PUT", f"{API}/participants/{code}/visits/baseline", held))
            pain = {"values": {"pain_nrs": 6, "pain_days": 5}}
            did(api(who, "PUT", f"{API}/participants/{code}/visits/baseline/entries/pain", pain))


def _book(trial: Trial) -> None:
    """Sessions by the clinician, through either door, and a visit by the coordinator; moved, cancelled and kept."""
    did, web, api = trial.did, trial.web, trial.api
    session = {"visit": "tx01", "day": "2026-03-11", "time": "10:00", "minutes": 45, "person": "clinician_north"}
    did(api("clinician", "POST", f"{API}/participants/M-001/appointments", {**session, "room": "Aubergine room"}))
    form = {**session, "minutes": "20", "warned": "M-001 is elsewhere"}
    did(web("clinician", "POST", "/mini/participants/M-002/appointments/new", form), 200)  # what clashes is said first
    did(web("clinician", "POST", "/mini/participants/M-002/appointments/new", {**form, "time": "12:00"}))
    visit = {"visit": "week18", "day": "2026-07-07", "time": "10:00", "person": "assessor_north", "room": "Room 1"}
    for code in ("M-001", "M-002"):
        did(api("coordinator", "POST", f"{API}/participants/{code}/appointments", visit))
    questions = {"purpose": "Questions", "day": "2026-03-11", "time": "10:00", "room": "Room 1"}
    did(api("coordinator", "POST", f"{API}/participants/M-001/appointments", questions))
    later = {**questions, "day": "2026-03-12", "person": "assessor_north"}
    did(api("coordinator", "POST", f"{API}/participants/M-002/appointments", later))
    cancelled = {"version": "1", "why": "Answered by telephone"}
    did(web("coordinator", "POST", "/mini/participants/M-001/appointments/3/cancelled", cancelled))


def _treat(trial: Trial, arms: Arms) -> None:
    did, web, api = trial.did, trial.web, trial.api
    _book(trial)
    did(web("clinician", "GET", "/mini/treatment"))
    did(web("clinician", "GET", "/mini/treatment?format=csv"))
    did(web("clinician", "GET", "/mini/treatment/M-001"))
    address = "/mini/treatment/M-001/sessions/tx01"
    did(web("clinician", "GET", address))
    fields = {
        ACTIVE: {"jonquillesson": "yes", "jonquillesson.jonquilminutes": "25", "ochrehomework": "no"},
        SHAM: {"vesperlaser": "yes", "vesperlaser.vesperminutes": "5"},
    }
    did(web("clinician", "POST", address, {"held_on": "2026-03-10", "version": "0"}), 422)  # nothing is ticked
    arm = arms["north"][0]
    form: dict[str, Any] = {**fields[arm], "arm": arm, "held_on": "2026-03-10"}
    did(web("clinician", "POST", address, {**form, "version": "0"}))
    corrected = {name: "30" if value.isdecimal() else value for name, value in form.items()}
    why = f"It was longer: aubergine-note {arm}"
    did(web("clinician", "POST", address, {**corrected, "version": "1", "why": why}))
    did(web("clinician", "GET", f"{address}/history"))
    delivered = {
        ACTIVE: {"jonquillesson": {"jonquilminutes": 20}, "ochrehomework": True},
        SHAM: {"vesperlaser": {"vesperminutes": 20}},
    }
    body = {"held_on": "2026-03-10", "delivered": delivered[arms["north"][1]], "version": 0}
    did(api("clinician", "PUT", f"{API}/treatment/participants/M-002/sessions/tx01", body))
    did(api("clinician", "GET", f"{API}/treatment/participants"))
    late = {"version": 0, "held_on": "2026-03-10", "delivered": delivered[arms["south"][0]], "reason": "Jonquil lesson"}
    did(api("clinician_south", "PUT", f"{API}/treatment/participants/M-005/sessions/tx01", late), 422)
    not_held = f"{API}/treatment/participants/M-005/sessions/tx01/missed"
    for why in ("The Vespertine laser broke", f"No {ACTIVE} today"):  # blinded people read it
        did(api("clinician_south", "POST", not_held, {"version": 1, "why": why}), 422)
    did(web("clinician_south", "POST", "/mini/treatment/M-005/sessions/tx01/missed", {"version": "1", "why": "Abroad"}))


def _share(trial: Trial, arms: Arms) -> None:
    """Who treats shares what names an arm, beside what everybody sees; and a blinded person a file of their own."""
    did, call = trial.did, trial.redcap
    arm = arms["north"][0]
    made = {"content": "fileRepository", "action": "createFolder", "format": "json"}
    kept = {"content": "fileRepository", "action": "import"}
    did(call("data_manager", **made, name="Manuals"))
    did(call("data_manager", **kept, files={"file": ("rooms.txt", b"Room 1 is closed.")}, folder_id="1"))
    did(call("clinician", **made, name=f"Given {arm} to M-001"))
    did(call("clinician", **kept, files={"file": (f"{arm}.txt", f"M-001 got {arm * 9}".encode())}, folder_id="1"))
    did(call("clinician", content="fileRepository", action="export", doc_id="2"))


def _report(trial: Trial) -> None:
    """Events of who knows arms and who does not, a judgement and its review; what else is written down of a visit."""
    did, web, api = trial.did, trial.web, trial.api
    details = {"term": "Rash on the back", "onset": "2026-03", "severity": "mild", "criteria": ["other_important"]}
    event: dict[str, Any] = {"details": details, "aware_at": "2026-03-10T08:00:00+00:00"}
    reports = f"{API}/participants/M-001/adverse-events"
    said = {**details, "narrative": "Where the Vespertine laser stood, after the Jonquil lesson"}
    did(api("clinician", "POST", reports, {**event, "details": said}), 422)
    did(api("clinician", "POST", reports, event))
    form = {"term": "A cold", "onset": "2026-03-08", "severity": "mild", "serious": "no", "action": "none"}
    moment = {"outcome": "recovered", "aware_on": "2026-03-09", "aware_time": "09:00"}
    did(web("coordinator", "POST", "/mini/participants/M-002/adverse-events/new", {**form, **moment}))
    follow_up = {"kind": "follow_up", "version": 1, **event, "details": {**details, "outcome": "recovered"}}
    did(api("clinician", "POST", f"{API}/adverse-events/1/reports", follow_up))
    judgement = {"relatedness": "possible", "expected": "no", "words": "It came soon after.", "version": "2"}
    did(web("investigator", "POST", "/mini/safety/events/1/judgement", {**judgement, "password": PASSWORD}))
    review = {"agree": True, "judgement": 1, "password": PASSWORD}
    did(api("data_manager", "POST", f"{API}/adverse-events/1/reviews", review))
    sent = {"clock": "sponsor", "sent_on": "2026-03-10", "sent_time": "19:30", "reference": "By mail"}
    did(web("coordinator", "POST", "/mini/safety/events/1/clock", sent))
    for who in ("investigator", "data_manager"):  # the clinician's event; the other is half coded at the end
        did(api(who, "POST", f"{API}/coded-texts/1/choice", {"code": "RASH"}))
    did(web("investigator", "POST", "/mini/coding/2/code", {"code": "COLD"}))
    deviation = {"category": "procedure", "occurred_on": "2026-03-10", "what": "The form was filled in at home"}
    did(web("clinician", "POST", "/mini/participants/M-001/deviations/new", deviation))
    did(web("data_manager", "POST", "/mini/safety/deviations/look"))
    did(
        web(
            "coordinator", "POST", "/mini/safety/deviations/1/action", {"grade": "minor", "action": "x", "version": "1"}
        )
    )
    contact = {"contact_on": "2026-03-09", "contact_time": "10:00", "how": "call", "result": "reached", "note": ""}
    did(web("coordinator", "POST", "/mini/participants/M-001/contacts", contact))
    care = {"treatment": "Ibuprofen", "began": "2026", "ended": "", "indication": "Headache"}
    did(web("assessor", "POST", "/mini/participants/M-002/care", care))
    for path in ("", "/events/1", "?format=csv"):
        did(web("clinician", "GET", f"/mini/safety{path}"))


def _follow_up(trial: Trial) -> None:
    did, web, api = trial.did, trial.web, trial.api
    visits = did(api("assessor", "GET", f"{API}/participants/M-001/visits")).json()["items"]
    week18 = next(visit for visit in visits if visit["code"] == "week18")
    held = {"status": "held", "held_on": week18["target_on"], "version": week18["version"]}
    did(api("assessor", "PUT", f"{API}/participants/M-001/visits/week18", held))
    entries = "/participants/M-001/visits/week18/entries"
    did(api("assessor", "PUT", f"{API}{entries}/pain", {"values": {"pain_nrs": 3, "pain_days": 2}}))
    changed = {"values": {"pain_nrs": 2, "pain_days": 2}, "base_version": 1, "why": "Misread"}
    did(api("assessor", "PUT", f"{API}{entries}/pain", changed))
    signature = {"version": 2, "meaning": "authorship", "password": PASSWORD}
    did(api("assessor", "POST", f"{API}{entries}/pain/signature", signature))
    disability = {"dis_items": ["1", "5"], "dis_weight": "71.5", "base-version": "0", "save-as": "partial"}
    did(web("assessor", "POST", f"/mini{entries}/disability", disability))
    guess = {"values": {"guess": "tested", "guess_sure": "very"}}
    did(api("assessor", "PUT", f"{API}{entries}/belief", guess))
    draft = {"pain_nrs": "4", "base-version": "0"}
    did(web("assessor", "PUT", "/mini/participants/M-002/visits/week18/entries/pain/draft", draft), 204)
    _by_link(trial)
    _bring_in(trial)
    _ask(trial, entries)
    _stop(trial)
    withdrawal = {"level": "visits", "on": date(2026, 7, 7).isoformat(), "reason": "Moved away"}
    did(api("coordinator", "POST", f"{API}/participants/M-002/withdrawal", withdrawal))
    found = {"reason": "ineligible", "found_on": "2026-07-06", "why": "Too old by a day", "corrects": ""}
    did(web("coordinator", "POST", "/mini/participants/M-002/in-error", found), 303)
    corrected = {"reason": "no_error", "found_on": "2026-07-06", "why": "The date was misread", "corrects": 1}
    did(api("investigator", "POST", f"{API}/participants/M-002/randomised-in-error", corrected))
    for path in ("personal-data", "consents/1/signature"):
        did(web("coordinator", "POST", f"/mini/participants/M-001/{path}"))


def _stop(trial: Trial) -> None:
    """Less than leaving the study: treatment alone is stopped, by a withdrawal and by who treats; an optional consent
    is taken back, and given again by a signature; and a copy of it goes by mail.
    """
    did, api, web = trial.did, trial.api, trial.web
    stopped = {"level": "treatment", "on": "2026-07-06", "reason": "No time"}
    did(api("coordinator_south", "POST", f"{API}/participants/M-005/withdrawal", stopped))
    did(web("coordinator_south", "POST", "/mini/participants/M-005/withdraw", {**stopped, "password": PASSWORD}), 422)
    told = {"on": "2026-07-06", "reason": f"The {ACTIVE} is no good"}
    treating = f"{API}/treatment/participants/M-001"
    did(api("clinician", "POST", f"{treating}/stopped", told), 422)  # blinded people read it
    did(api("clinician", "POST", f"{treating}/stopped", {**told, "reason": "Pain"}))
    did(api("clinician", "POST", f"{treating}/resumed", {"why": "Of another patient"}))
    back = {"options": ["contact"], "on": "2026-07-06", "told_by": "participant", "how": "by_phone"}
    optional = f"{API}/participants/M-001/optional-consents"
    did(api("coordinator", "POST", optional, back))
    did(api("coordinator", "POST", f"{API}/participants/M-002/optional-consents", back))
    did(api("coordinator", "POST", f"{API}/participants/M-002/optional-consents/2/mistake", {"why": "Of another one"}))
    again = {"version": "1", "signed_on": "2026-07-07", "signature": "Anna Muster", "options": {"contact": True}}
    given = did(api("coordinator", "POST", f"{API}/participants/M-001/consents", {**again, "password": PASSWORD}))
    copy = f"{API}/participants/M-001/consents/{given.json()['id']}/copy"
    did(api("coordinator", "POST", copy), 409)  # no address is known
    personal = {"given_name": "Anna", "family_name": "Muster", "email": "anna@example.org"}
    known = {"personal": personal, "version": 1, "why": "They told us"}
    did(api("coordinator", "PUT", f"{API}/participants/M-001/personal-data", known))
    did(api("coordinator", "POST", copy))


def _by_link(trial: Trial) -> None:
    """A participant reads, errs, and answers a part on a telephone; a calendar is read where nobody signs in."""
    did, phone = trial.did, trial.phone
    asked = {"purpose": "questions", "about": "week18"}
    given = did(trial.api("coordinator_south", "POST", f"{API}/participants/M-005/links", asked)).json()
    link = "/link/" + given["address"].rpartition("/")[2]
    form = {
        str(field["name"]): str(field.get("value", ""))
        for field in BeautifulSoup(did(phone("GET", link)).text, "html.parser").select("input[type=hidden]")
    }
    did(phone("POST", link, {**form, "guess": "brume"}), 422)
    did(phone("POST", f"{link}/look", {**form, "guess": "other"}))
    did(phone("POST", link, {**form, "guess": "other", "save-as": "partial"}))
    did(phone("GET", link))
    for who, whose in (("coordinator", "sites"), ("assessor", "mine")):
        made = did(trial.web(who, "POST", "/mini/calendar/feeds", {"whose": whose})).text
        did(phone("GET", re.search(r"/feeds/[^\"<\s]+\.ics", made)[0]))  # type: ignore[index]


def _bring_in(trial: Trial) -> None:
    """A file that others made: tried and imported over REST, and on the page, where one of its rows is refused."""
    did, api, web = trial.did, trial.api, trial.web
    rows = [{"participant": code, "visit": "week18", "dis_weight": 70.5} for code in ("M-002", "M-005")]
    for dry_run in (True, False):
        asked = {"file": "diary.csv", "rows": rows, "dry_run": dry_run}
        did(api("data_manager", "POST", f"{API}/entries/import", asked))
    did(api("data_manager", "PUT", f"{API}/import-mappings/diaries", {"participant": "participant"}))
    columns = {"participant": "participant", "visit_column": "visit", "column.2": "disability.dis_weight"}
    text = b"participant,visit,dis_weight\nM-002,week18,71.5\nM-904,week18,66\n"
    did(web("data_manager", "POST", "/mini/import", files={"file": ("diary.csv", text, "text/csv")}))
    did(web("data_manager", "POST", "/mini/import/1", {"do": "try", **columns}))


def _ask(trial: Trial, entries: str) -> None:
    """A monitor asks, the site answers, the data manager asks again and closes; and a check asks."""
    did, api, web = trial.did, trial.api, trial.web
    asked = {"item": "pain_nrs", "text": "The diary says 3. Which is right?"}
    did(api("monitor", "POST", f"{API}{entries}/pain/queries", asked))
    did(api("monitor", "POST", f"{API}{entries}/pain/queries", {**asked, "text": f"Because of {SHAM}?"}), 422)
    did(web("coordinator", "POST", "/mini/queries/1/answer", {"text": "The diary is wrong.", "version": "1"}), 303)
    did(api("data_manager", "POST", f"{API}/queries/1/requery", {"text": "Who says so?", "version": 2}))
    partial = {"values": {"pain_nrs": 4, "pain_days": 0}, "accept_partial": True}
    did(api("coordinator", "PUT", f"{API}/participants/M-005/visits/baseline/entries/pain", partial), 404)
    did(api("assessor", "PUT", f"{API}/participants/M-002/visits/week18/entries/pain", partial))
    did(api("monitor", "PUT", f"{API}{entries}/pain/verification", {"version": 2}))
    # One visit of everybody is frozen, one participant locked; and somebody asks to unlock them.
    did(web("data_manager", "POST", "/mini/study/locks", {"whom": "everybody", "visit": "week18", "why": "Clean"}))
    locked = {"kind": "locked", "participants": ["M-005"], "why": "Clean", "despite": True}
    did(api("data_manager", "POST", f"{API}/locks", locked))
    partial = {"values": {"pain_nrs": 4, "pain_days": 3}, "base_version": 1, "why": "Misread"}
    did(api("coordinator_south", "PUT", f"{API}/participants/M-005/visits/baseline/entries/pain", partial), 409)
    did(api("clinician_south", "POST", f"{API}/treatment/participants/M-005/sessions/tx01/missed", {
        "version": 1, "why": "Abroad"}), 409)  # fmt: skip
    did(api("data_manager", "POST", f"{API}/locks/2/unlock-request", {"why": "A page was found"}))
    shown = did(api("investigator", "GET", f"{API}/participants/M-001/casebook")).json()
    signature = {"meaning": "review", "digest": shown["digests"]["review"], "password": PASSWORD}
    did(api("investigator", "POST", f"{API}/participants/M-001/casebook/signature", signature), 409)  # a query stands


UNBLINDING = "/mini/study/unblinding"
REASON = {"reason": "overdose", "why": "Took too much, and the ward asks of what", "asked_by": "Emergency department"}


def _unblind(trial: Trial, arms: Arms) -> None:
    """Somebody learnt an arm; requests that nobody, or another, decides on; two emergencies, by page and over REST."""
    did, web, api = trial.did, trial.web, trial.api
    account = {"participant": "M-001", "learnt_by": "The assessor", "on": "2026-07-07"}
    did(web("assessor", "POST", f"{UNBLINDING}/learnt", {**account, "how": "A letter lay open"}))
    did(api("clinician", "POST", f"{API}/unblindings/accidental", {**account, "how": f"I said {SHAM}"}), 422)
    did(web("data_manager", "POST", f"{UNBLINDING}/1/impact", {"impact": "Week 26 is assessed by somebody else."}))
    did(web("data_manager", "POST", f"{UNBLINDING}/request", {"scope": "study", "why": "The primary analysis"}))
    did(api("statistician", "POST", f"{API}/unblindings/requests", {"participant": "M-002", "why": "A safety report"}))
    did(web("statistician", "POST", f"{UNBLINDING}/2/approve", {"password": PASSWORD}), 409)  # the study goes on
    did(web("data_manager", "POST", f"{UNBLINDING}/3/refuse", {"why": "Not before the last visit"}))
    label = {arm["code"]: arm["label"] for arm in ARMS["arms"]}
    form = {**REASON, "password": PASSWORD, "csrf_token": masked(trial.people["investigator"].csrf)}
    page, rest = "/mini/participants/M-001/unblind", f"{API}/participants/M-002/unblinding"
    did(web("investigator", "POST", page, {**form, "password": "not this one"}), 422)
    with trial.shown_once():
        shown = did(web("investigator", "POST", page, form))
        told = did(api("investigator", "POST", rest, {**REASON, "password": PASSWORD}))
    assert label[arms["north"][0]] in shown.text
    assert told.json()["arm"] == arms["north"][1]
    # Both once more: nothing was heard in between, so the second has the key of the first. What they are answered is
    # compared, and not asserted here: a mutant answers otherwise.
    did(api("investigator", "POST", rest, {**REASON, "password": PASSWORD}))
    did(web("investigator", "POST", page, form), 200, 303)


def _review(trial: Trial) -> None:
    """A data manager says a word on everything in the log that is worth a look."""
    did, api = trial.did, trial.api
    found = did(api("data_manager", "GET", f"{API}/log-review")).json()
    words = {each["kind"]: "Asked, and explained." for each in found["findings"]}
    assert "refused" in words
    review = {"since": found["since"], "upto": found["upto"], "words": words, "follows": "Nothing."}
    did(api("data_manager", "POST", f"{API}/log-reviews", review))


# Everything that blinded people can ask for

PLAIN = ("participants", "visits", "entries", "entries_by_visit", "screening", "codebook", "allocations")
KNOWN: dict[str, Any] = {
    **VALUES,
    "code": ("M-001", "M-002"),
    "visit": ("tx01", "week18"),
    "table": (*PLAIN, "adverse_events", "deviations", "contacts", "concomitant_care", "audit", "queries"),
    "extension": ("csv", "json", "ndjson"),
    "version": (1, 2),
    "number": (1, 2, 3, 4),
    "later": "2",
}
# Tables of safety have no room for an arm, so that no dummy stands in one: one of them is enough to hear so.
DUMMY = {"table": (*PLAIN, "adverse_events")}
# Text formats of every table on every door; the formats that are built of one table with a row per person. All tables
# in such a format, and as they look with every option, come as one file (exports.bundle_file).
BUILT = {"table": "participants", "extension": tuple(one for one in EXTENSIONS if one not in KNOWN["extension"])}
STANDARD = {"table": "all", "extension": STANDARD_EXTENSIONS}
# What changed since the beginning of the play, and since its middle: these addresses bring their own question.
SINCE = {
    "table": "all",
    "extension": tuple(f"{one}?since={change}" for one in STANDARD_EXTENSIONS for change in (0, 60)),
}
FEWER: dict[str, tuple[dict[str, Any], ...]] = {
    "exports.dummy_file": (DUMMY, {**BUILT, "extension": ("sav", "parquet")}),
    "api.dummy_export": (DUMMY,),
    "exports.file": ({}, BUILT, STANDARD),
    "api.export": ({}, SINCE),
}
QUERIES: dict[str, Sequence[str]] = {
    "participants.participants": ("", "?format=csv", "?sort=-status", "?find=M-00", "?status=randomised&site=all"),
    "audit.audit": ("", "?participant=M-001", "?kind=allocation.", "?kind=session."),
    "api.audit": ("", "?limit=500", "?participant=M-001"),
    "coding.texts": ("", "?queue=coded"),
    "safety.events": ("", "?serious=yes&sort=onset", "?format=csv"),
    "api.adverse_events": ("", "?serious=true"),
    "conduct.deviations": ("", "?open=yes", "?format=csv", "?chosen=all"),
    "conduct.act_on_chosen_form": ("?number=1&number=2",),
    "conduct.sign_chosen_form": ("?number=1&number=2",),
    "conduct.screening_log": ("", "?by=month", "?format=csv"),
    "reports.reports": ("", "?again=yes", *(f"?format=csv&part={part}" for part in REPORTS)),
    "api.reports": ("", "?site=north&again=true"),
    "locks.locks": ("", "?visit=week18&site=all"),
    "amendments.effect": ("", "?site=south"),
    "api.effect": ("", "?site=south"),
    "queries.queries": ("", "?state=closed", "?sort=-changed"),
    "unblinding.report": ("", "?kind=emergency", "?waiting=yes"),
    "api.unblindings": ("", "?limit=2"),
    "exports.exports": (
        "",
        "?table=visits",
        "?table=entries_by_participant&format=json",
        "?arms=dummy",
        "?table=entries&since=60",
    ),
    "exports.file": ("", "?spreadsheet=true"),
    "exports.bundle_file": ("", "?format=parquet"),
    "api.export_bundle": ("?format=json&since=0&dates=shifted&ids=mapped&values=labels",),
    "participants.screen_form": ("",),
    "appointments.book_form": ("", "?visit=week18"),
    "calendar.calendar": tuple(f"?on=2026-03-11&view={view}" for view in ("day", "week", "month", "agenda")),
    "reminders.reminders": ("", "?state=waiting"),
    "api.calendar": ("?begins_at=2026-03-01T00:00:00Z&days=90",),
}


# The same, of the REDCap-compatible door: every call, and records in every format.
OF_SOMEBODY = {"record": "M-001", "instrument": "pain", "event": "week_18_arm_1", "format": "json"}
REDCAP: list[dict[str, str]] = [
    *({"content": content, "action": action, **OF_SOMEBODY} for content, action in CALLS if action == "export"),
    *(
        {"content": "record", "format": shape, "type": way}
        for shape in ("csv", "xml", "odm")
        for way in ("flat", "eav")
    ),
    {"content": "record", "format": "csv", "rawOrLabel": "label", "rawOrLabelHeaders": "label"},
    {"content": "record", "format": "json", "exportDataAccessGroups": "true", "exportSurveyFields": "true"},
    {"content": "record", "format": "json", "filterLogic": "[pain_nrs] < 4 and [event-name] = 'week_18_arm_1'"},
    {"content": "report", "format": "csv", "report_id": "1"},
    {"content": "record", "action": "randomize", "record": "M-001", "randomization_id": "1", "returnAlt": "true"},
    {"content": "record", "action": "delete", "records[0]": "M-001", "returnFormat": "json"},
    *(
        {"content": "fileRepository", "format": "json", **more}
        for more in (
            {"action": "list"},
            {"action": "list", "folder_id": "1"},
            {"action": "list", "folder_id": "2"},
            {"action": "createFolder", "name": "Seen"},
            {"action": "export", "doc_id": "1"},
            {"action": "export", "doc_id": "2"},
            {"action": "delete", "doc_id": "2"},
        )
    ),
    {"content": "project", "format": "json", "data": '{"project_title":"Another"}'},
    {"content": "nonsense"},
    {"content": "record", "format": "csv"},
]


def sweep(trial: Trial, roles: Sequence[str] = BLINDED, names: Sequence[str] | None = None) -> None:
    """Every GET of the application, as every blinded person, on pages and over REST."""
    for role in roles:
        for door in trial.doors:
            if door.method != "GET" or door.name == "static" or (names is not None and door.name not in names):
                continue
            ask = trial.api if door.is_api else trial.web
            if WHO.get(door.name) == ANYONE and role != roles[0]:
                continue
            # A mutant is found in the first of them.
            sets = FEWER.get(door.name, ({},))[: None if names is None else 1]
            found = dict.fromkeys(address for values in sets for address in door.addresses(**{**KNOWN, **values}))
            asked = [address + query for address in found for query in QUERIES.get(door.name, ("",))]
            # Whoever may not is refused before anything is read: once at each door is enough to hear so.
            for address in asked if role in expected_roles(door.name) else asked[:1]:
                ask(role, "GET", address)
        for call in REDCAP if names is None else REDCAP[-1:]:
            trial.redcap(role, **call)


# What is compared


@dataclass
class Left:
    """All that a play leaves to somebody who must not know an arm, or who holds the database without the key."""

    heard: dict[str, Heard]
    rows: dict[str, list[tuple[Any, ...]]]
    file: bytes
    lines: list[str]
    written: bytes = b""
    """The database file and its write-ahead log as they lie on the disk while the server runs (SQLite)."""


def rows_of(session: Session) -> dict[str, list[tuple[Any, ...]]]:
    """Every column of every row of every table that the database itself knows of, with the place of each row.

    Not on PostgreSQL: where a row lies there depends on when its housekeeping comes by, which no play can hold still.
    """
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    names = (
        "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        if on_sqlite
        else "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
    )
    query = 'SELECT rowid, t.* FROM "{}" t ORDER BY rowid' if on_sqlite else 'SELECT t.* FROM "{}" t ORDER BY t::text'
    return {
        name: [
            tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)
            for row in session.execute(text(query.format(name)))
        ]
        for name in session.execute(text(names)).scalars().all()
    }


class Gatherer(logging.Handler):
    """Keeps every line that is logged."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name} {record.levelname} {record.getMessage()}")


def left_by(
    database: Database,
    arms: Arms | None,
    folder: Path,
    *,
    changes: dict[str, Any] | None = None,
    roles: Sequence[str] = BLINDED,
    names: Sequence[str] | None = None,
    real: bool = False,
    played: Callable[[Trial], None] | None = None,
) -> Left:
    """Play the trial in this database, ask everything, and gather what is left; `real` keeps chance and the cipher.

    `changes` are those of the study, and `arms` is None when its own method decides. `played` is another play.
    """
    # Each play is an installation of its own, in a folder of one name: the paths in both are the same.
    shutil.rmtree(folder, ignore_errors=True)
    gatherer = Gatherer()
    logger = logging.getLogger()
    before = logger.level
    logger.addHandler(gatherer)
    logger.setLevel(logging.INFO)
    try:
        with time_machine.travel(BEGUN, tick=False) if real else without_chance() as time:
            trial = set_up(database, folder, changes)
            if played is not None:
                played(trial)
            else:
                play(trial, arms, time)
                sweep(trial, roles, names)
            with database.reading() as session:
                rows = rows_of(session)
    finally:
        logger.removeHandler(gatherer)
        logger.setLevel(before)
    file = written = b""
    if database.is_sqlite:
        path = Path(str(database.url.database))
        written = b"".join(each.read_bytes() for each in sorted(path.parent.glob(path.name + "*")))
        with database.engine.connect() as connection:
            connection.rollback()
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.dispose()
        file = path.read_bytes()
    return Left(trial.heard, rows, file, gatherer.lines, written)


def differences(one: Left, other: Left) -> list[str]:
    """Where two plays can be told apart; nothing is left out and nothing is made alike first."""
    found = []
    for key in [*one.heard, *(key for key in other.heard if key not in one.heard)]:
        if one.heard.get(key) != other.heard.get(key):
            found.append(f"answer: {key}")
    for table in one.rows.keys() | other.rows.keys():
        mine, theirs = one.rows.get(table, []), other.rows.get(table, [])
        if len(mine) != len(theirs):
            found.append(f"rows: {table} has {len(mine)} and {len(theirs)}")
        found += [
            f"row: {table} {index}" for index, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1]
        ]
    if one.lines != other.lines:
        found.append("log output")
    if one.file != other.file:
        found.append("bytes of the database file")
    return found


def arm_of(session: Session, participant_id: int) -> str:
    """The arm behind everybody's back: for the mutants that leak it."""
    slot, stratum = table_of(Slot), table_of(Stratum)
    sequence, allocation = table_of(AllocationSequence), table_of(Allocation)
    row = session.execute(
        select(slot.c.envelope, slot.c.position, stratum.c.code, sequence.c.id, sequence.c.version, sequence.c.study_id)
        .join(allocation, allocation.c.slot_id == slot.c.id)
        .join(stratum, stratum.c.id == slot.c.stratum_id)
        .join(sequence, sequence.c.id == stratum.c.sequence_id)
        .where(allocation.c.participant_id == participant_id)
    ).first()
    if row is None:
        return ""
    place = Place(row.study_id, row.id, row.version, row.code, row.position)
    return unseal_arm(keys_of(session), place, bytes(row.envelope))
