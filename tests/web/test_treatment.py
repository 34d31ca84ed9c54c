"""The clinicians' pages: whom they treat, what was delivered, corrections; and that nobody else finds them."""

import csv
import io
from collections.abc import Iterator
from copy import copy
from datetime import time, timedelta
from typing import Any, ClassVar, Self

import pytest
from bs4 import BeautifulSoup
from sqlalchemy import select

from app.audit.actions import ENTRY
from app.foundation import clock
from app.foundation.database import Database
from app.participants.reads import participant_by_code
from app.people.permissions import Role
from app.randomisation.actions import randomise
from app.randomisation.opening import open_envelope
from app.schedule.appointments.actions import Wish, book
from app.schedule.appointments.reads import appointments_of
from app.schedule.reads import visit_of, visits_of
from app.treatment.reads import SESSION, history_of
from tests.web.browser import PASSWORD, Browser, form_in, signed_in_client, words_of
from tests.web.test_randomisation import sealed
from tests.web.world import World

ROOT = "/mini/treatment"
MODULE = {"active": "education", "sham": "laser"}
LABEL = {"active": "Zephyrine training", "sham": "Placebex device"}
EARLY = "Earlier than planned: on holiday afterwards"  # tx01 opens the day after randomisation


class Treated:
    """The small trial with two randomised participants in the north and one in the south, and their clinicians."""

    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, database: Database) -> None:
        self.world = World(database, **self.options)
        sealed(self.world, slots=8)
        self.clinician = self.world.person("clinician")
        self.south = self.world.person("clinician", site_code="south")
        self.arms: dict[str, str] = {}
        for site in ("north", "north", "south"):
            participant = self.world.filled(site)
            by = self.clinician if site == "north" else self.south
            with database.writing() as session:
                now = clock.now()
                randomise(session, self.world.study, participant, by=self.world.coordinators[site], now=now)
                arm = open_envelope(session, self.world.study, participant, by=by, why="Test", now=now)
            self.arms[participant.code] = arm
        self.browser = signed_in_client(database, self.clinician)

    def on(self, database: Database) -> Self:
        """The same on what was written, with a browser of its own."""
        again = copy(self)
        again.world = self.world.on(database)
        again.browser = signed_in_client(database, self.clinician)
        return again

    def form(self, code: str = "M-001") -> str:
        return f"{ROOT}/{code}/sessions/tx01"

    def filled(self, code: str = "M-001", minutes: str = "30") -> dict[str, str]:
        """A session's form with something in it."""
        module = MODULE[self.arms[code]]
        return {
            "held_on": self.world.today().isoformat(),
            "reason": EARLY,
            module: "yes",
            f"{module}.{module}_minutes": minutes,
        }

    def record(self, code: str = "M-001", **changes: Any) -> Any:
        return self.browser.post(self.form(code), {**self.filled(code), **changes})

    def saved(self) -> list[int]:
        with self.world.database.reading() as session:
            return list(session.execute(select(SESSION.c.version).order_by(SESSION.c.participant_id)).scalars())


@pytest.fixture
def treated(begun: Any, kind: str) -> Iterator[Treated]:
    with begun(kind, Treated) as treated:
        yield treated


def said(reply: Any) -> str:
    return words_of(reply.text)


def rows(page: BeautifulSoup) -> list[list[str]]:
    return [[cell.get_text(" ", strip=True) for cell in row.find_all(["th", "td"])] for row in page.select("tbody tr")]


@pytest.mark.requirement("P11-d")
def test_a_clinician_sees_the_arm_of_their_own_participants_only(treated: Treated):
    page = treated.browser.soup(ROOT)
    assert page.select_one(".arm-rule") is not None
    assert [(row[0], row[2]) for row in rows(page)] == [
        (code, LABEL[treated.arms[code]]) for code in ("M-001", "M-002")
    ]
    assert "0 of 1" in rows(page)[0][4]
    assert "M-003" not in page.get_text()
    assert treated.browser.get(f"{ROOT}/M-003").status_code == 404
    assert treated.browser.get(treated.form("M-003")).status_code == 404
    south = signed_in_client(treated.world.database, treated.south)
    assert [row[0] for row in rows(south.soup(ROOT))] == ["M-003"]


@pytest.mark.requirement("FDA-17", "EMA-9")
def test_each_arm_that_is_shown_is_in_the_log(treated: Treated):
    before = treated.world.log().count("envelope.opened")
    treated.browser.soup(ROOT)
    assert treated.world.log().count("envelope.opened") == before + 2
    treated.browser.soup(f"{ROOT}/M-001")
    assert treated.world.log().count("envelope.opened") == before + 3


def test_the_list_is_paged_and_a_file(treated: Treated, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.foundation.paging.PAGE", 1)
    page = treated.browser.soup(ROOT)
    onward = page.select_one("a[rel=next]")
    assert onward is not None
    assert [row[0] for row in rows(treated.browser.soup(str(onward["href"])))] == ["M-002"]
    file = treated.browser.get(f"{ROOT}?format=csv")
    found = list(csv.DictReader(io.StringIO(file.text.removeprefix("\ufeff"))))
    assert [(row["participant"], row["arm"]) for row in found] == list(treated.arms.items())[:2]


def test_the_next_session_is_booked_from_there(treated: Treated):
    page = treated.browser.soup(f"{ROOT}/M-001")
    link = page.select_one("a[href*='/appointments/new?visit=']")
    assert link is not None
    assert link.get_text(strip=True) == "Book an appointment"
    chosen = treated.browser.soup(str(link["href"])).select_one("select[name=visit] option[selected]")
    assert chosen is not None
    assert str(link["href"]).endswith(f"?visit={chosen['value']}")


def test_the_list_shows_the_next_session_and_can_leave_out_those_without_one(treated: Treated):
    treated.record("M-001")
    page = treated.browser.soup(ROOT)
    assert [row[0] for row in rows(page)] == ["M-002", "M-001"]
    assert [row[1].startswith("None planned") for row in rows(page)] == [False, True]
    choice = page.find("a", string="With a session to come")
    assert choice is not None
    only = treated.browser.soup(str(choice["href"]))
    assert [row[0] for row in rows(only)] == ["M-002"]
    file = only.find("a", download=True)
    assert file is not None
    found = csv.DictReader(io.StringIO(treated.browser.get(str(file["href"])).text.removeprefix("\ufeff")))
    assert [row["participant"] for row in found] == ["M-002"]
    treated.record("M-002")
    assert "Nobody has a session to come" in treated.browser.soup(str(choice["href"])).get_text()


def test_a_session_asks_for_the_content_of_the_arm_and_of_no_other(treated: Treated):
    for code in ("M-001", "M-002"):
        page = treated.browser.soup(treated.form(code))
        own = treated.arms[code]
        assert page.select_one(f"input[name={MODULE[own]}]") is not None
        assert all(page.select_one(f"input[name={MODULE[arm]}]") is None for arm in MODULE if arm != own)
        assert LABEL[own] in page.get_text()


def test_what_was_delivered_is_recorded(treated: Treated):
    reply = treated.record()
    assert reply.headers["location"] == f"{ROOT}/M-001?done=session_recorded"
    page = treated.browser.soup(f"{ROOT}/M-001")
    assert "1 of 1 sessions held" in page.get_text()
    assert rows(page)[0][1].startswith("Done")
    assert rows(page)[0][-1] == "30"
    assert treated.saved() == [1]
    participant = treated.world.found("M-001")
    assert participant.id is not None
    with treated.world.database.reading() as session:
        assert visit_of(session, participant.id, "tx01").held_on == treated.world.today()


def test_a_double_click_records_once(treated: Treated):
    fields = {**treated.browser.form(treated.form()), **treated.filled()}
    replies = [treated.browser.send(treated.form(), fields) for _ in range(2)]
    assert {reply.headers["location"] for reply in replies} == {f"{ROOT}/M-001?done=session_recorded"}
    assert treated.saved() == [1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"held_on": ""}, "Say on which day the session was held."),
        ({"held_on": "2026-02-31"}, "Say on which day the session was held."),
        ({"MODULE": None}, "was delivered."),
        ({"MODULE": "no"}, "was not delivered, but something is filled in."),
        ({"MODULE": "no", "MINUTES": ""}, "Tick what was delivered. If the session did not take place"),
        ({"MINUTES": "91"}, "above the highest possible value, 90"),
        ({"MINUTES": "half"}, "write a whole number in digits"),
        ({"MINUTES": ""}, "fill in “Minutes”"),
        ({"reason": ""}, "window"),
    ],
)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_cannot_be_kept_is_said_and_nothing_typed_is_lost(treated: Treated, changes: dict[str, Any], words: str):
    module = MODULE[treated.arms["M-001"]]
    named = {"MODULE": module, "MINUTES": f"{module}.{module}_minutes"}
    given = {named.get(name, name): value for name, value in changes.items()}
    reply = treated.record(**given)
    assert reply.status_code == 422
    page = BeautifulSoup(reply.text, "html.parser")
    summary = page.select_one("[data-error-summary]")
    assert summary is not None
    assert words in summary.get_text(" ", strip=True)
    for link in summary.select("a"):
        assert page.find(id=str(link["href"]).removeprefix("#")) is not None, link
    fields = form_in(page, treated.form())
    for name, value in {**treated.filled(), **given}.items():
        if value and name != "held_on":
            assert fields[name] == [value]
    assert treated.saved() == []


def test_a_correction_needs_a_reason_and_every_version_stays(treated: Treated):
    treated.record()
    module = MODULE[treated.arms["M-001"]]
    minutes = f"{module}.{module}_minutes"
    assert treated.browser.form(treated.form())[minutes] == ["30"]
    without = treated.record(**{minutes: "25"})
    assert without.status_code == 422
    assert "Say why this session is corrected." in said(without)
    assert treated.record(**{minutes: "25", "why": "It ran for 25 minutes"}).status_code == 303
    page = treated.browser.soup(f"{treated.form()}/history")
    assert [(row[0], row[4]) for row in rows(page)] == [("2", "It ran for 25 minutes"), ("1", "")]
    assert "25" in rows(page)[0][3]
    participant = treated.world.found("M-001")
    with treated.world.database.writing() as session:
        kept = history_of(session, treated.world.study, participant, "tx01", by=treated.clinician, now=clock.now())
    assert [one.version for one in kept] == [1, 2]


@pytest.mark.requirement("REL-1")
def test_who_saves_second_sees_both_and_loses_nothing(treated: Treated):
    mine = {**treated.browser.form(treated.form()), **treated.filled(minutes="20")}
    assert treated.record().status_code == 303
    reply = treated.browser.send(treated.form(), mine)
    assert reply.status_code == 409
    page = BeautifulSoup(reply.text, "html.parser")
    words = page.get_text(" ", strip=True)
    assert "Nothing was overwritten." in words
    assert words.count("Saved now:") == 1  # the day is the same in both
    assert "Saved now: 30" in words
    fields = form_in(page, treated.form())
    module = MODULE[treated.arms["M-001"]]
    assert fields[f"{module}.{module}_minutes"] == ["20"]
    assert (fields["version"], fields["why"]) == (["1"], [""])
    again = treated.browser.send(treated.form(), {**fields, "why": "Mine is right"})
    assert again.status_code == 303
    assert treated.saved() == [2]


def test_a_summary_names_the_part_of_the_session_and_follows_the_page(treated: Treated):
    module = MODULE[treated.arms["M-001"]]
    reply = treated.record("M-001", held_on="", **{f"{module}.{module}_minutes": "many"})
    page = BeautifulSoup(reply.text, "html.parser")
    lines = [line.get_text() for line in page.select("[data-error-summary] li")]
    headings = [heading.get_text() for heading in page.select(".form-section h2")]
    assert any(line.startswith(f"{heading}, ") for line in lines for heading in headings), lines
    ids = [str(link["href"])[1:] for link in page.select("[data-error-summary] a")]
    places = [str(each["id"]) for each in page.select("#main [id]")]
    assert ids == sorted(ids, key=places.index)
    assert page.find("form", {"data-touched": "1"}) is not None, "leaving the page asks first"


def test_a_reason_outside_the_window_is_not_called_optional(treated: Treated):
    page = treated.browser.soup(treated.form())
    assert page.select_one("#field-reason .optional") is None, "today is before the window"
    assert page.select_one("#reason[data-outside=held_on]") is not None
    refused = BeautifulSoup(treated.record("M-001", reason="").text, "html.parser")
    assert refused.select_one("#field-reason .error") is not None
    assert refused.select_one("#field-reason .optional") is None


def test_a_session_that_did_not_take_place_and_one_that_did_after_all(treated: Treated):
    path = f"{treated.form()}/missed"
    assert treated.browser.post(path, {"why": ""}, page=treated.form()).status_code == 422
    reply = treated.browser.post(path, {"why": "Ill"}, page=treated.form())
    assert reply.headers["location"] == f"{ROOT}/M-001?done=visit_missed"
    page = treated.browser.soup(treated.form())
    assert "This session did not take place: Ill" in page.get_text()
    assert page.select_one("input[name=held_on]") is None
    late = treated.browser.send(
        treated.form(), {**form_in(page, path), **treated.filled(), "version": "0", "arm": treated.arms["M-001"]}
    )
    assert late.status_code == 409
    assert treated.browser.post(path, {"why": "Came later"}, page=treated.form()).status_code == 303
    assert treated.record().status_code == 303


def test_a_participant_who_is_not_randomised_has_no_arm_yet(treated: Treated):
    treated.world.filled()
    reply = treated.browser.get(f"{ROOT}/M-004")
    assert reply.status_code == 409
    assert "Randomise the participant first" in said(reply)


@pytest.mark.parametrize(
    "path", ["/M-999", "/M-001/sessions/week18", "/M-001/sessions/tx99", "/M-001/sessions/x/missed"]
)
def test_what_is_not_there_is_not_found(treated: Treated, path: str):
    assert treated.browser.get(ROOT + path).status_code == 404


GETS = ["", "/M-001", "/M-001/sessions/tx01", "/M-001/sessions/tx01/history", "/M-001/sessions/tx01/missed", "/x"]
POSTS = ["/M-001/sessions/tx01", "/M-001/sessions/tx01/missed"]


@pytest.mark.requirement("E6-1", "P11-d", "SEC-19")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.CLINICIAN])
@pytest.mark.parametrize("kind", ["sqlite"])
def test_for_everybody_else_it_was_never_there(treated: Treated, role: Role):
    other: Browser = treated.world.browser(role)
    start = other.client.get("/mini/study")
    token = BeautifulSoup(start.text, "html.parser").select_one("meta[name=csrf-token]")
    assert token is not None
    before = len(treated.world.log())
    nonsense = other.get("/mini/nonsense")
    for path in GETS:
        reply = other.get(ROOT + path)
        assert (reply.status_code, reply.content) == (404, nonsense.content), path
        assert dict(reply.headers) == dict(nonsense.headers), path
    fields = {**treated.filled(), "csrf_token": token["content"], "version": "0", "arm": "sham"}
    for path in POSTS:
        for sent in (fields, fields, {}):
            reply = other.send(ROOT + path, sent)
            assert (reply.status_code, reply.content) == (404, nonsense.content), path
    assert len(treated.world.log()) == before
    assert treated.saved() == []


@pytest.mark.requirement("E6-1", "CONC-7")
def test_the_log_of_a_session_says_nothing_of_the_arm(treated: Treated):
    for code in ("M-001", "M-002"):
        assert treated.record(code).status_code == 303
    with treated.world.database.reading() as session:
        entries = session.execute(select(ENTRY).where(ENTRY.c.action == "session.recorded")).all()
    assert len({len(str(entry.new)) for entry in entries}) == 1
    everything = " ".join(str(value) for entry in entries for value in entry)
    assert not any(word in everything for word in (*LABEL.values(), *MODULE.values(), '"sham"', "active"))


def test_treatment_is_stopped_and_goes_on_again_on_a_page_of_its_own(treated: Treated):
    page = f"{ROOT}/M-001/stopped"
    assert page in {each["href"] for each in treated.browser.soup(f"{ROOT}/M-001").select("a[href]")}
    today = treated.world.today().isoformat()
    lacking = treated.browser.post(page, {"on": today, "why": " "})
    assert lacking.status_code == 422
    assert "Say why treatment was stopped." in lacking.text
    done = treated.browser.post(page, {"on": today, "why": "No time for more"})
    assert done.headers["location"] == f"{ROOT}/M-001?done=treatment_stopped"
    said = "No time for more"
    for address in (f"{ROOT}/M-001", treated.form(), page):
        shown = treated.browser.soup(address).get_text(" ", strip=True)
        assert "Treatment was stopped on" in shown, address
        assert said in shown, address
    only = treated.browser.soup(f"{ROOT}?show=to_come").get_text(" ", strip=True)
    assert "M-001" not in only
    assert "M-002" in only
    everybody = treated.world.coordinator().soup("/mini/participants/M-001").get_text(" ", strip=True)
    assert "Treatment was stopped on" in everybody
    assert not [label for label in LABEL.values() if label in everybody]
    found = treated.world.found("M-001")
    assert found.status == "randomised"
    assert found.id is not None
    with treated.world.database.reading() as session:
        stands = {(each.kind == "treatment", each.status == "stopped") for each in visits_of(session, found.id)}
    assert stands == {(True, True), (False, False)}, "the sessions stop, and no visit does"
    resumed = treated.browser.send(
        f"{ROOT}/M-001/resumed", {**form_in(treated.browser.soup(page), f"{ROOT}/M-001/resumed"), "why": "Wrong one"}
    )
    assert resumed.headers["location"] == f"{ROOT}/M-001?done=treatment_resumed"
    assert "M-001" in treated.browser.soup(f"{ROOT}?show=to_come").get_text(" ", strip=True)


class Stopping(Treated):
    """The same in a study with a level that stops treatment alone."""

    options: ClassVar[dict[str, Any]] = {
        "withdrawal_levels": [
            {"code": "treatment", "label": "Stops treatment", "stops_treatment": True},
            {"code": "visits", "label": "Stops visits", "stops_visits": True},
        ]
    }


@pytest.mark.requirement("E9R1-1")
def test_a_coordinator_who_records_that_somebody_stops_treatment_stops_the_sessions(shared_database: Database):
    treated = Stopping(shared_database)
    coordinator = treated.world.coordinator()
    today = treated.world.today()
    with treated.world.database.writing() as session:
        someone = participant_by_code(session, treated.world.study, "M-001", by=treated.clinician)
        wish = Wish(today + timedelta(days=3), time(10), 60)
        by, now = treated.clinician, clock.now()
        book(session, treated.world.study, someone, wish, visit="tx01", by=by, now=now)
    page = "/mini/participants/M-001/withdraw"
    assert "Treatment sessions that are still due stop. Visits go on." in coordinator.soup(page).get_text(
        " ", strip=True
    )
    typed = {"level": "treatment", "on": today.isoformat(), "why": "Too tired", "password": PASSWORD}
    assert coordinator.post(page, typed).status_code == 303
    found = treated.world.found("M-001")
    assert (found.status, found.treatment_stopped_on, found.left_on) == ("randomised", today, None)
    with treated.world.database.reading() as session:
        assert found.id is not None
        visits = visits_of(session, found.id)
        assert {each.status for each in visits if each.kind == "treatment"} == {"stopped"}
        assert "stopped" not in {each.status for each in visits if each.kind != "treatment"}
        booked = appointments_of(session, found.id, by=treated.clinician)
        assert [(each.status, each.reason) for each in booked] == [("cancelled", "Too tired")]
    refused = treated.browser.soup(f"{ROOT}/M-001/stopped").get_text(" ", strip=True)
    assert "their coordinator takes that back" in refused
    taken = "/mini/participants/M-001/withdrawal-taken-back"
    assert coordinator.post(taken, {"why": "Wrong one", "password": PASSWORD}).status_code == 303
    again = treated.world.found("M-001")
    assert (again.treatment_stopped_on, again.withdrawal_level) == (None, None)
    assert "M-001" in treated.browser.soup(f"{ROOT}?show=to_come").get_text(" ", strip=True)
