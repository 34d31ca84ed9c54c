"""Breaking the blind: shown once and to one person, written down for good; planned by two, and accidents assessed."""

import csv
import io
import re
from collections.abc import Iterator
from copy import copy
from datetime import date, timedelta
from typing import Any, Self

import pyotp
import pytest
import time_machine
from bs4 import BeautifulSoup
from sqlalchemy import select, text, update

from app.audit.actions import ENTRY
from app.foundation import clock
from app.foundation.database import Database, table_of
from app.mail.models import OutboxMail
from app.people.access import Actor
from app.people.actions.proving import sealed_secret
from app.people.models import Person
from app.people.permissions import Role
from app.people.reads import SITE
from app.randomisation.actions import randomise
from app.randomisation.models import Unblinding
from app.schedule.models import ParticipantVisit
from tests.blinding.trial import arm_of
from tests.web.browser import PASSWORD, Browser, counted_statements, signed_in_client, words_of
from tests.web.test_randomisation import sealed
from tests.web.world import World

LABELS = {"active": "Zephyrine training", "sham": "Placebex device"}
FORM = "/mini/participants/M-001/unblind"
REPORT = "/mini/study/unblinding"
LEARNT = f"{REPORT}/learnt"
SAID = {
    "reason": "overdose",
    "why": "Took twenty tablets; the ward asks what is in them",
    "asked_by": "Dr Ito, emergency department",
}
ROW = table_of(Unblinding)
VISIT = table_of(ParticipantVisit)


class Blind:
    """The small trial with two randomised participants in the north and one in the south."""

    def __init__(self, database: Database, *, sizes: tuple[int, ...] = (2,), **changes: object) -> None:
        self.world = World(database, **changes)
        self.database = database
        sealed(self.world, slots=8, sizes=sizes)
        self.arms: dict[str, str] = {}
        for site in ("north", "north", "south"):
            participant = self.world.filled(site)
            with database.writing() as session:
                by = self.world.coordinators[site]
                randomise(session, self.world.study, participant, by=by, now=clock.now())
                assert participant.id is not None
                self.arms[participant.code] = arm_of(session, participant.id)
        self.doctor = self.world.person("investigator")
        self.manager = self.world.person("data_manager")
        self.statistician = self.world.person("statistician", site_code=None)
        self.browser = signed_in_client(database, self.doctor)

    def on(self, database: Database) -> Self:
        """The same on what was written, with a browser of its own."""
        again = copy(self)
        again.world, again.database = self.world.on(database), database
        again.browser = signed_in_client(database, self.doctor)
        return again

    def label(self, code: str = "M-001") -> str:
        return LABELS[self.arms[code]]

    def broken(self, participant: str = "M-001", **changes: Any) -> Any:
        form = f"/mini/participants/{participant}/unblind"
        return self.browser.post(form, {**SAID, "password": PASSWORD, **changes})

    def as_(self, actor: Actor) -> Browser:
        return signed_in_client(self.database, actor)

    def rows(self) -> list[Any]:
        with self.database.reading() as session:
            return list(session.execute(select(ROW).order_by(ROW.c.id)).all())

    def log(self, *actions: str) -> list[Any]:
        with self.database.reading() as session:
            wanted = select(ENTRY).where(ENTRY.c.log == "mini", ENTRY.c.action.in_(actions)).order_by(ENTRY.c.position)
            return list(session.execute(wanted).all())

    def mails(self) -> list[Any]:
        mail = table_of(OutboxMail)
        with self.database.reading() as session:
            about = select(mail).where(mail.c.key.startswith("unblinding|")).order_by(mail.c.id)
            return list(session.execute(about).all())

    def close(self) -> None:
        """Recruitment is over and every visit has an outcome."""
        with self.database.writing() as session:
            session.execute(update(SITE).values(is_open=False))
            session.execute(update(VISIT).where(VISIT.c.status == "planned").values(status="missed"))


@pytest.fixture
def blind(begun: Any, kind: str) -> Iterator[Blind]:
    with begun(kind, Blind) as blind:
        yield blind


def said(reply: Any) -> str:
    return " ".join(words_of(reply.text).split())


# In an emergency


@pytest.mark.requirement("E6-4", "E6-6", "SPI-24c", "WHO-1", "E9-5")
def test_the_investigator_breaks_the_blind_of_one_participant_and_sees_the_arm(blind: Blind):
    reply = blind.broken()
    assert reply.status_code == 200, said(reply)
    page = BeautifulSoup(reply.text, "html.parser")
    shown = page.select_one(".the-arm strong")
    assert shown is not None
    assert shown.get_text() == blind.label()
    assert reply.headers["cache-control"] == "no-store"
    (row,) = blind.rows()
    assert (row.kind, row.reason, row.recorded_by) == ("emergency", "overdose", blind.doctor.username)
    assert (row.why, row.asked_by) == (SAID["why"], SAID["asked_by"])
    opened, unblinded = blind.log("envelope.opened", "allocation.unblinded")
    assert (opened.action, opened.participant) == ("envelope.opened", "M-001")
    assert (unblinded.action, unblinded.participant) == ("allocation.unblinded", "M-001")
    assert unblinded.why == SAID["why"]
    assert all(word in unblinded.new for word in ("emergency", "overdose", "Dr Ito"))
    assert not re.search("active|sham|Zephyrine|Placebex", str([*opened, *unblinded]))


@pytest.mark.requirement("E6-6")
def test_the_page_with_the_arm_is_marked_with_who_when_and_whom(blind: Blind):
    page = BeautifulSoup(blind.broken().text, "html.parser")
    assert page.select_one(".arm-rule") is not None
    marks = [each.get_text() for each in page.select("svg.watermark text")]
    assert marks
    for mark in marks:
        assert blind.doctor.name in mark
        assert "M-001" in mark
        assert str(blind.world.today().year) in mark
    assert page.select_one("[data-once] .the-arm") is not None
    assert page.select_one("[data-once] svg.watermark") is not None
    assert page.title is not None
    assert blind.label() not in page.title.get_text()


@pytest.mark.requirement("E6-6", "SPI-24c")
def test_the_same_form_again_shows_no_arm_and_opens_nothing(blind: Blind):
    fields = {**blind.browser.form(FORM), **SAID, "password": PASSWORD}
    first = blind.browser.send(FORM, fields)
    again = blind.browser.send(FORM, fields)
    assert first.status_code == 200
    number = blind.rows()[0].id
    assert (again.status_code, again.headers["location"]) == (303, f"{REPORT}/{number}")
    assert len(blind.rows()) == len(blind.log("envelope.opened")) == 1
    for path in (FORM, f"{REPORT}/{number}", REPORT, "/mini/participants/M-001", "/mini/audit"):
        page = blind.browser.get(path)
        assert page.status_code == 200
        assert not re.search("Zephyrine|Placebex", page.text), path
    assert "is not shown again" in said(blind.browser.get(f"{REPORT}/{number}"))
    assert "the arm was shown then, once." in said(blind.browser.get(FORM))


@pytest.mark.requirement("E6-4", "SPI-24c")
def test_another_unblinding_needs_another_reason(blind: Blind):
    assert blind.broken().status_code == 200
    same = blind.broken(why=f"  {SAID['why'].upper()} ")
    assert same.status_code == 422
    assert "in these very words" in said(same)
    assert blind.label() not in same.text
    assert len(blind.rows()) == len(blind.log("envelope.opened")) == 1
    other = blind.broken(why="Transferred to another hospital, which asks again")
    assert other.status_code == 200
    assert blind.label() in other.text
    assert [row.why for row in blind.rows()][1].startswith("Transferred")
    assert len(blind.log("allocation.unblinded")) == 2


@pytest.mark.requirement("E6-3")
def test_who_has_seen_the_arm_cannot_write_it_down(blind: Blind):
    guessed = blind.broken(why="The family thinks it is the active one")  # nobody knows yet: an everyday word
    assert guessed.status_code == 200
    told = blind.broken(why=f"As {blind.label().lower()} is not known there")
    assert told.status_code == 422
    assert "names an arm" in said(told)
    assert len(blind.rows()) == 1


@pytest.mark.requirement("E6-6", "E6-25")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reason": ""}, "Choose the reason"),
        ({"reason": "curiosity"}, "Choose the reason"),
        ({"why": "  "}, "Say what happened"),
        ({"why": "x" * 2001}, "longer than 2000"),
        ({"why": "a\x00b"}, "cannot be kept"),
        ({"asked_by": ""}, "Say who asked"),
        ({"password": "not this one"}, "The password or the code is not right"),
        ({"password": ""}, "Type your password."),
    ],
)
def test_nothing_is_opened_without_reason_and_password(blind: Blind, changes: dict[str, str], words: str):
    reply = blind.broken(**changes)
    assert reply.status_code == 422
    assert words in said(reply)
    assert blind.label() not in reply.text
    assert blind.rows() == []
    assert blind.log("envelope.opened", "allocation.unblinded") == []
    typed = BeautifulSoup(reply.text, "html.parser").select_one("textarea[name=why]")
    assert typed is not None
    assert typed.get_text().strip("\n") == changes.get("why", SAID["why"]).strip()


@pytest.mark.requirement("E6-6")
def test_whoever_has_a_second_factor_shows_it(blind: Blind):
    secret = pyotp.random_base32()
    with blind.database.writing() as session:
        person = table_of(Person)
        kept = sealed_secret(session, blind.doctor.person_id, secret)
        session.execute(update(person).where(person.c.id == blind.doctor.person_id).values(totp_secret=kept))
    lacking = blind.broken(code="")
    assert lacking.status_code == 422
    error = BeautifulSoup(lacking.text, "html.parser").select_one("#field-code .error")
    assert error is not None
    assert "six digits" in error.get_text()
    assert blind.broken(code="000000").status_code == 422
    assert blind.rows() == []
    done = blind.broken(code=pyotp.TOTP(secret).now())
    assert done.status_code == 200, said(done)


@pytest.mark.requirement("SPI-24c", "WHO-1", "E6-6")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.INVESTIGATOR])
def test_nobody_else_breaks_the_blind(blind: Blind, role: Role):
    browser = signed_in_client(blind.database, blind.world.person(role, site_code="north"))
    token = BeautifulSoup(browser.get("/mini/study").text, "html.parser").select_one("meta[name=csrf-token]")
    assert token is not None
    reply = browser.send(FORM, {**SAID, "password": PASSWORD, "csrf_token": token["content"]})
    assert reply.status_code in (403, 404)
    assert browser.get(FORM).status_code in (403, 404)
    assert blind.rows() == []


@pytest.mark.requirement("SPI-24c", "WHO-1")
def test_an_investigator_of_another_site_finds_no_such_participant(blind: Blind):
    south = blind.world.browser("investigator", site_code="south")
    assert south.get(FORM).status_code == 404
    assert south.get("/mini/participants/M-003/unblind").status_code == 200


def test_who_is_not_randomised_has_no_arm(blind: Blind):
    blind.world.filled()
    page = blind.browser.soup("/mini/participants/M-004/unblind")
    assert "so there is no arm" in page.get_text()
    assert not page.select("input[name=password]")
    reply = blind.browser.send(
        "/mini/participants/M-004/unblind", {**blind.browser.form(FORM), **SAID, "password": PASSWORD}
    )
    assert reply.status_code == 409
    assert blind.log("allocation.unblind_refused")[0].participant == "M-004"


@pytest.mark.requirement("E6-6", "SPI-24c")
def test_managers_and_statistician_are_told_that_it_happened_and_not_what(blind: Blind):
    for role in ("assessor", "monitor", "clinician"):
        blind.world.person(role)
    blind.broken()
    mails = blind.mails()
    assert {mail.to_address for mail in mails} == {
        f"{blind.manager.username}@example.org",
        f"{blind.statistician.username}@example.org",
    }
    for mail in mails:
        assert "M-001" in mail.body
        assert "North clinic" in mail.body
        assert not re.search("active|sham|Zephyrine|Placebex|overdose|tablets", mail.subject + mail.body)
    assert set(blind.rows()[0].told.split()) == {blind.manager.username, blind.statistician.username}


@pytest.mark.requirement("E6-6")
def test_an_emergency_takes_a_page_and_a_form_and_few_statements(blind: Blind):
    fields = {**blind.browser.form(FORM), **SAID, "password": PASSWORD}
    with counted_statements(blind.database) as form:
        assert blind.browser.get(FORM).status_code == 200
    with counted_statements(blind.database) as answer:
        assert blind.browser.send(FORM, fields).status_code == 200
    assert len(form) <= 5, form  # session, study, participant, sites, emergencies before
    # As many, the form's key (2), who it is, weighed before anything is locked (5), whom to tell (1), the row, the
    # envelope, the log (3), two mails.
    assert len(answer) <= 20, answer


@pytest.mark.requirement("E6-6")
def test_the_participants_page_leads_there_and_only_who_may(blind: Blind):
    page = "/mini/participants/M-001"
    assert blind.browser.soup(page).select_one(f'a[href="{FORM}"]') is not None
    coordinator = blind.world.coordinator().soup(page)
    assert coordinator.select_one(f'a[href="{FORM}"]') is None
    assert coordinator.select_one(f'a[href="{LEARNT}?participant=M-001"]') is not None
    blind.world.filled()
    assert "unblind" not in blind.browser.get("/mini/participants/M-004").text


@pytest.mark.requirement("E6-5", "E6-24")
def test_the_procedure_and_the_reasons_are_those_of_the_study(shared_database: Database):
    procedure = "Only the principal investigator, day and night: call 555-0100 when in doubt."
    reasons = [{"code": "bleeding", "label": "Major bleeding"}]
    blind = Blind(shared_database, unblinding={"procedure": procedure, "reasons": reasons})
    page = blind.browser.soup(FORM)
    assert procedure in page.get_text()
    assert [each["value"] for each in page.select("input[name=reason]")] == ["bleeding"]
    assert blind.broken(reason="overdose").status_code == 422
    assert blind.broken(reason="bleeding").status_code == 200


@pytest.mark.requirement("E6-4", "E6-25")
@pytest.mark.parametrize("sentence", ["UPDATE unblinding SET why = 'nothing'", "DELETE FROM unblinding"])
def test_what_is_written_of_an_emergency_stands(blind: Blind, sentence: str):
    blind.broken()
    with blind.database.writing() as session, pytest.raises(Exception, match="is never"), session.begin_nested():
        session.execute(text(sentence))
    assert [row.why for row in blind.rows()] == [SAID["why"]]


# Who knew what when


@pytest.mark.requirement("E6-4", "E9-5", "CON-20")
def test_the_report_says_who_knew_what_when_and_no_arm(blind: Blind):
    blind.broken()
    for actor in (blind.manager, blind.statistician, blind.doctor, blind.world.person("monitor")):
        browser = blind.as_(actor)
        page = browser.soup(REPORT)
        row = page.select_one("tbody tr")
        assert row is not None
        words = " ".join(row.get_text(" ").split())
        known = ("Emergency", "M-001", blind.doctor.username, "Dr Ito", "Overdose", SAID["why"], "statistician_all")
        assert [each for each in known if each not in words] == []
        reply = browser.get(f"{REPORT}.csv")
        (line,) = csv.DictReader(io.StringIO(reply.text.removeprefix("\ufeff")))
        assert (line["kind"], line["participant"], line["by"]) == ("emergency", "M-001", blind.doctor.username)
        assert line["why"] == SAID["why"]
        assert not re.search("Zephyrine|Placebex|sham", reply.text + page.get_text())


@pytest.mark.requirement("E6-4")
def test_an_investigator_reads_of_their_own_site_only(blind: Blind):
    blind.broken()
    south = blind.world.browser("investigator", site_code="south")
    assert "No unblinding is recorded" in said(south.get(REPORT))
    assert south.get(f"{REPORT}/{blind.rows()[0].id}").status_code == 404
    assert "M-001" not in south.get(f"{REPORT}.csv").text


def test_the_report_is_paged_and_filtered(blind: Blind, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.foundation.paging.PAGE", 2)
    for number in range(3):
        assert blind.broken(why=f"Event {number}").status_code == 200
    first = blind.browser.soup(REPORT)
    assert [row.select("td")[3].get_text() for row in first.select("tbody tr") if "Event" in row.get_text()] == [
        "Overdose Event 2",
        "Overdose Event 1",
    ]
    onward = first.select_one("a[rel=next]")
    assert onward is not None
    second = blind.browser.soup(str(onward["href"]))
    assert "Event 0" in second.get_text()
    assert "Envelopes opened" not in second.get_text()
    back = second.select_one("a[rel=prev]")
    assert back is not None
    assert "Event 2" in blind.browser.soup(str(back["href"])).get_text()
    assert "Event" not in blind.browser.soup(f"{REPORT}?kind=planned").get_text()
    assert "Event 1" in blind.browser.soup(f"{REPORT}?kind=nonsense").get_text()
    assert blind.browser.get(f"{REPORT}?after=nonsense").status_code == 422


@pytest.mark.requirement("E6-4", "E6-6")
def test_openings_of_unblinded_roles_are_counts(blind: Blind):
    clinician = blind.world.browser("clinician")
    clinician.soup("/mini/treatment")
    clinician.soup("/mini/treatment/M-001")
    blind.broken()
    rows = [
        [cell.get_text(" ", strip=True) for cell in row.select("th, td")]
        for row in blind.as_(blind.manager).soup(REPORT).select("section:last-of-type tbody tr")
    ]
    assert [(row[0], row[1]) for row in rows] == [("clinician_north", "Clinician")]
    assert int(rows[0][2]) == len([entry for entry in blind.log("envelope.opened") if entry.role == "clinician"]) > 2
    south = blind.world.browser("investigator", site_code="south").soup(REPORT)
    assert "clinician_north" not in south.get_text()


@pytest.mark.requirement("CONC-14")
def test_unusually_many_emergencies_at_a_site_are_said_and_mailed(blind: Blind):
    manager = blind.as_(blind.manager)
    for number in range(2):
        blind.broken(why=f"Event {number}")
    assert "are unusual" not in said(manager.get(REPORT))
    blind.broken("M-002", why="Event 2")
    assert "north: 3 emergencies within 30 days" in said(manager.get(REPORT))
    assert "north: 3 emergencies" not in said(blind.world.browser("investigator", site_code="south").get(REPORT))
    bodies = [mail.body for mail in blind.mails() if mail.to_address.startswith("data_manager")]
    assert ["unusual" in body for body in bodies] == [False, False, True]
    with time_machine.travel(clock.now() + timedelta(days=31)):
        assert "are unusual" not in said(blind.as_(blind.manager).get(REPORT))


# By accident


def learnt(blind: Blind, browser: Browser, **changes: Any) -> Any:
    values = {
        "participant": "m-001",
        "learnt_by": "The assessor of week 18",
        "on": blind.world.today().isoformat(),
        "how": "The participant spoke of a session in the corridor",
        **changes,
    }
    return browser.post(LEARNT, values)


@pytest.mark.requirement("E6-3", "E6-4")
@pytest.mark.parametrize("role", list(Role))
def test_anybody_in_the_study_records_that_somebody_learnt_an_arm(blind: Blind, role: Role):
    actor = blind.world.person(role, site_code=None if role is Role.STATISTICIAN else "north")
    reply = learnt(blind, blind.as_(actor))
    assert reply.status_code == 303, said(reply)
    assert blind.as_(actor).get(reply.headers["location"]).status_code == 200
    (row,) = blind.rows()
    assert (row.kind, row.recorded_by, row.learnt_by) == ("accidental", actor.username, "The assessor of week 18")
    (entry,) = blind.log("unblinding.recorded")
    assert (entry.participant, entry.subject) == ("M-001", f"unblinding/{row.id}")
    assert blind.log("envelope.opened") == []


@pytest.mark.requirement("E6-3")
@pytest.mark.parametrize("role", ["assessor", "clinician"])
@pytest.mark.parametrize("field", ["how", "learnt_by"])
@pytest.mark.parametrize("words", ["They had the SHAM one", "zephyrine  training, they said", "placebex-device"])
@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_text_that_names_an_arm_is_refused(blind: Blind, role: str, field: str, words: str):
    reply = learnt(blind, blind.world.browser(role), **{field: words})
    assert reply.status_code == 422
    assert "names an arm" in said(reply)
    assert blind.rows() == []
    assert words in reply.text  # what was typed is still there, to be changed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"participant": "M-777"}, "no participant with this code"),
        ({"participant": "M-003"}, "no participant with this code"),  # of another site
        ({"learnt_by": ""}, "Say who learnt it"),
        ({"how": ""}, "Say how it happened"),
        ({"on": "yesterday"}, "Write the date as year-month-day"),
        ({"on": "2999-01-01"}, "has not come yet"),
        ({"on": "2001-01-01"}, "no arm to learn before"),
    ],
)
def test_an_account_that_cannot_be_is_refused(blind: Blind, changes: dict[str, str], words: str):
    reply = learnt(blind, blind.world.coordinator(), **changes)
    assert reply.status_code == 422
    assert words in said(reply)
    assert blind.rows() == []


def test_nobody_not_yet_randomised_has_an_arm_to_learn(blind: Blind):
    blind.world.filled()
    assert learnt(blind, blind.world.coordinator(), participant="M-004").status_code == 409


@pytest.mark.requirement("E6-4")
def test_what_was_learnt_waits_until_its_impact_is_assessed_once(blind: Blind):
    learnt(blind, blind.world.coordinator())
    case = f"{REPORT}/{blind.rows()[0].id}"
    manager = blind.as_(blind.manager)
    assert "Impact not assessed" in said(manager.get(f"{REPORT}?waiting=yes"))
    assert [mail.to_address for mail in blind.mails()] == [
        f"{blind.doctor.username}@example.org",
        f"{blind.manager.username}@example.org",
    ]
    monitor = blind.world.browser("monitor")
    assert monitor.soup(case).select_one("textarea") is None
    action = f"{case}/impact"
    assert manager.post(action, {"impact": " "}, page=case).status_code == 422
    assert manager.post(action, {"impact": "It was the sham"}, page=case).status_code == 422
    fields = {**manager.form(case, action), "impact": "Week 18 is assessed by somebody else."}
    assert manager.send(action, fields).status_code == 303
    assert "No unblinding fits these filters" in said(manager.get(f"{REPORT}?waiting=yes"))
    page = said(manager.get(case))
    assert "Week 18 is assessed by somebody else." in page
    later = blind.browser.send(action, {**blind.browser.form(FORM), "impact": "Another view"})
    assert later.status_code == 409
    (entry,) = blind.log("unblinding.assessed")
    assert (entry.participant, entry.username) == ("M-001", blind.manager.username)


def test_an_emergency_is_not_assessed_as_an_accident(blind: Blind):
    blind.broken()
    action = f"{REPORT}/{blind.rows()[0].id}/impact"
    assert blind.browser.send(action, {**blind.browser.form(FORM), "impact": "None"}).status_code == 409


# Planned


def asked_for(blind: Blind, by: Actor, **changes: Any) -> int:
    values = {"scope": "study", "participant": "", "why": "The primary analysis", **changes}
    reply = blind.as_(by).post(f"{REPORT}/request", values)
    assert reply.status_code == 303, said(reply)
    return int(reply.headers["location"].split("?")[0].rsplit("/", 1)[1])


def decided(blind: Blind, by: Actor, number: int, decision: str = "approve", **changes: Any) -> Any:
    browser = blind.as_(by)
    case = f"{REPORT}/{number}"
    token = browser.soup(case).select_one("meta[name=csrf-token]")
    assert token is not None
    fields = {"csrf_token": token["content"], "password": PASSWORD, "why": "Not before the end", **changes}
    return browser.send(f"{case}/{decision}", fields)


@pytest.mark.requirement("E6-4", "WHO-1")
@pytest.mark.parametrize("asker", ["manager", "statistician"])
def test_two_people_open_the_arms_of_the_study_to_whoever_asked(blind: Blind, asker: str):
    mine = getattr(blind, asker)
    theirs = blind.statistician if asker == "manager" else blind.manager
    number = asked_for(blind, mine)
    blind.close()
    arms = f"{REPORT}/{number}/arms"
    assert blind.as_(mine).get(arms).status_code == 404
    assert decided(blind, theirs, number).status_code == 303
    page = blind.as_(mine).soup(arms)
    assert page.select_one(".arm-rule") is not None
    shown = {row.select("td")[0].get_text(): row.select("td")[1].get_text() for row in page.select("tbody tr")}
    assert shown == {code: LABELS[arm] for code, arm in blind.arms.items()}
    lines = csv.DictReader(io.StringIO(blind.as_(mine).get(f"{arms}.csv").text.removeprefix("\ufeff")))
    assert {line["participant"]: line["arm"] for line in lines} == blind.arms
    opened = blind.log("envelope.opened")
    assert len(opened) == 6
    assert {entry.why for entry in opened} == {f"Planned unblinding {number}"}
    for other in (theirs, blind.doctor, blind.world.person("monitor")):
        for address in (arms, f"{arms}.csv"):
            assert blind.as_(other).get(address).status_code == 404
    actions = [entry.action for entry in blind.log("unblinding.requested", "unblinding.approved")]
    assert actions == ["unblinding.requested", "unblinding.approved"]


@pytest.mark.requirement("WHO-1", "SPI-24c")
def test_a_request_about_one_participant_opens_one_envelope(blind: Blind):
    number = asked_for(blind, blind.manager, scope="participant", participant="M-002")
    blind.close()
    assert decided(blind, blind.statistician, number).status_code == 303
    page = blind.as_(blind.manager).soup(f"{REPORT}/{number}/arms")
    assert [row.select("td")[0].get_text() for row in page.select("tbody tr")] == ["M-002"]
    assert [entry.participant for entry in blind.log("envelope.opened")] == ["M-002"]


@pytest.mark.requirement("E6-4")
def test_nobody_decides_on_their_own_request(blind: Blind):
    number = asked_for(blind, blind.manager)
    blind.close()
    for decision in ("approve", "refuse"):
        reply = decided(blind, blind.manager, number, decision)
        assert reply.status_code == 409
        assert "A second person decides" in said(reply)
    assert blind.rows()[0].approved is None
    with blind.database.writing() as session, pytest.raises(Exception, match="two_people"), session.begin_nested():
        session.execute(update(ROW).values(approved=True, decided_at=clock.now(), decided_by=blind.manager.username))


@pytest.mark.requirement("E6-4")
def test_approval_needs_the_password_and_the_end_of_the_study(blind: Blind):
    number = asked_for(blind, blind.manager)
    early = decided(blind, blind.statistician, number)
    assert early.status_code == 409
    assert "Recruitment is still open" in said(early)
    with blind.database.writing() as session:
        session.execute(update(SITE).values(is_open=False))
    assert "are still planned" in said(decided(blind, blind.statistician, number))
    blind.close()
    wrong = decided(blind, blind.statistician, number, password="not this one")
    assert wrong.status_code == 422
    assert blind.rows()[0].approved is None
    assert decided(blind, blind.statistician, number).status_code == 303
    assert decided(blind, blind.statistician, number).status_code == 409
    assert len(blind.log("unblinding.approve_refused")) == 3


def test_a_study_may_say_the_day(shared_database: Database):
    tomorrow = date.today() + timedelta(days=2)  # noqa: DTZ011 any day that has not come, anywhere
    blind = Blind(shared_database, unblinding={"planned_from": tomorrow.isoformat()})
    number = asked_for(blind, blind.manager)
    early = decided(blind, blind.statistician, number)
    assert tomorrow.isoformat() in said(early)
    with time_machine.travel(clock.now() + timedelta(days=3)):
        assert decided(blind, blind.statistician, number).status_code == 303


@pytest.mark.requirement("E6-4")
def test_a_refusal_says_why_and_opens_nothing(blind: Blind):
    number = asked_for(blind, blind.statistician)
    blind.close()
    assert decided(blind, blind.manager, number, "refuse", why=" ").status_code == 422
    assert decided(blind, blind.manager, number, "refuse").status_code == 303
    page = said(blind.as_(blind.statistician).get(f"{REPORT}/{number}"))
    assert "Not before the end" in page
    assert decided(blind, blind.manager, number).status_code == 409
    assert blind.as_(blind.statistician).get(f"{REPORT}/{number}/arms").status_code == 404
    assert blind.mails()[-1].to_address == "statistician_all@example.org"


@pytest.mark.requirement("E6-4")
def test_requests_and_what_they_open_come_to_an_end(blind: Blind):
    number, other = asked_for(blind, blind.manager), asked_for(blind, blind.manager, why="A sub-study")
    blind.close()
    assert decided(blind, blind.statistician, number).status_code == 303
    arms = f"{REPORT}/{number}/arms"
    assert blind.as_(blind.manager).get(arms).status_code == 200
    with time_machine.travel(clock.now() + timedelta(days=15)):
        assert blind.as_(blind.manager).get(arms).status_code == 404
        late = decided(blind, blind.statistician, other)
        assert late.status_code == 409
        assert "Nobody decided on this request in time" in said(late)
        assert "Expired" in said(blind.as_(blind.manager).get(REPORT))
        assert "Expired" not in said(blind.as_(blind.manager).get(f"{REPORT}?waiting=yes"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scope": ""}, "Choose how much"),
        ({"scope": "participant", "participant": "M-777"}, "no participant with this code"),
        ({"why": ""}, "Say what the arms are needed for"),
        ({"why": "To see who had sham"}, "names an arm"),
    ],
)
def test_a_request_that_cannot_be_is_refused(blind: Blind, changes: dict[str, str], words: str):
    values = {"scope": "study", "participant": "", "why": "The primary analysis", **changes}
    reply = blind.as_(blind.manager).post(f"{REPORT}/request", values)
    assert reply.status_code == 422
    assert words in said(reply)
    assert blind.rows() == []


def test_a_study_that_only_observes_has_no_blind_to_break(database: Database):
    world = World(database, allocation={"method": "observed"})
    world.screened()
    manager, doctor = world.browser("data_manager"), world.browser("investigator")
    for path in (REPORT, f"{REPORT}.csv", LEARNT, f"{REPORT}/request", f"{REPORT}/1", f"{REPORT}/1/arms"):
        assert manager.get(path).status_code == 404, path
    assert doctor.get(FORM).status_code == 404
    assert "unblinding" not in manager.get("/mini/study").text


# What it says of the next ones


@pytest.mark.requirement("CONC-14", "CONC-4", "E9-1")
def test_the_statistician_alone_sees_how_far_it_helps_to_guess(shared_database: Database):
    """Blocks of four: with both used slots of the stratum known, the next arm is certain in one case of three."""
    blind = Blind(shared_database, sizes=(4,))
    browser = blind.as_(blind.statistician)
    assert "helps to guess" not in said(browser.get(REPORT))
    blind.broken("M-001")
    blind.broken("M-002")
    opened = len(blind.log("envelope.opened"))
    shown = said(browser.get(REPORT))
    assert "2 of 2" in shown
    assert "0.0 % → 33.3 %" in shown
    assert "50.0 % → 66.7 %" in shown
    assert "0.00 → 0.67" in shown
    assert len(blind.log("envelope.opened")) == opened
    for reader in (blind.doctor, blind.manager, blind.world.person("monitor", site_code=None)):
        page = said(blind.as_(reader).get(REPORT))
        assert "Overdose" in page
        assert "helps to guess" not in page
        assert "33.3" not in page


@pytest.mark.requirement("CONC-14")
def test_what_is_not_computed_is_said(blind: Blind, monkeypatch: pytest.MonkeyPatch):
    blind.broken()
    monkeypatch.setattr("app.randomisation.unblinding.reads.knowing", lambda *_: None)
    shown = said(blind.as_(blind.statistician).get(REPORT))
    assert "1 of 2 not computed" in shown
    assert "→" not in shown
