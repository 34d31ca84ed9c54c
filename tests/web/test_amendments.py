"""Versions on pages: what differs, what it would mean and for whom, a day that is set, and how far a site is."""

from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from bs4 import BeautifulSoup
from sqlalchemy import select, update

from app.amendments.actions import carry_on, plan
from app.amendments.rules import SETTLES
from app.capture.reads import ENTRY, entry_of
from app.foundation import clock
from app.foundation.database import Database
from app.mail.actions import About, queue
from app.schedule.reads import VISIT, visits_of
from app.studies.actions import load_study
from app.studies.definition import Study
from tests.amendments.world import ADMINISTRATOR, amended, enrolled, first, loaded
from tests.factories import MINI, NOW, TODAY, mini_study, person
from tests.web.browser import counted_statements, form_in, signed_in_client
from tests.web.test_queries import words
from tests.web.world import World

VERSIONS = "/mini/study/versions"
EFFECT = f"{VERSIONS}/2/effect"


@pytest.fixture
def world(shared_database: Database) -> World:
    world = World(shared_database, **first())
    world.filled()
    with shared_database.writing() as session:
        load_study(session, amended(), by=ADMINISTRATOR, now=clock.now())
    return world


@pytest.mark.requirement("CON-10")
def test_a_site_goes_over_on_its_day(world: World):
    administrator = world.browser("administrator", site_code=None)
    page = administrator.soup(VERSIONS)
    assert "waits" in words(page), "there are participants"
    assert "north, south" in words(page)
    since = page.select_one(f'a[href="{VERSIONS}/2/since/1"]')
    assert since is not None
    said = words(administrator.soup(str(since["href"])))
    assert "Week 18: was due on day 126 from randomisation, is now due on day 119" in said
    assert "pain_worst (Worst pain): added; scale, required" in said
    assert "Session 1: removed" in said

    with counted_statements(world.database) as statements:
        page = administrator.soup(EFFECT)
    assert 2 <= len(statements) <= 12, statements
    said = words(page)
    assert "Pain: one entry is no longer complete." in said
    assert "One participant owes a newer consent." in said
    assert "M-001" not in said, "an administrator reads how many, and nothing of anybody"

    fields = form_in(page, f"{VERSIONS}/2/plan")
    blank = administrator.send(f"{VERSIONS}/2/plan", {**fields, "sites": "north"})
    assert (blank.status_code, "Say which approval this follows" in blank.text) == (422, True)
    past = administrator.send(
        f"{VERSIONS}/2/plan", {**fields, "sites": "north", "from_on": "2020-01-01", "why": "Ethics, 1 March"}
    )
    assert (past.status_code, "or a later day" in past.text, "Ethics, 1 March" in past.text) == (422, True, True)
    nobody = administrator.send(f"{VERSIONS}/2/plan", {**fields, "sites": [], "why": "Ethics, 1 March"})
    assert (nobody.status_code, "Choose the sites" in nobody.text) == (422, True)

    later = (world.today("south") + timedelta(days=30)).isoformat()
    asked = {**fields, "sites": "south", "from_on": later, "why": "Ethics of the south"}
    assert administrator.send(f"{VERSIONS}/2/plan", asked).headers["location"] == f"{VERSIONS}?done=amendment_planned"
    asked = {**fields, "sites": "north", "from_on": "", "why": "Ethics of the north"}
    assert administrator.send(f"{VERSIONS}/2/plan", asked).status_code == 303
    twice = administrator.send(f"{VERSIONS}/2/plan", {**asked, "sites": "south"})
    assert (twice.status_code, "planned for South clinic already" in twice.text) == (409, True)

    page = administrator.soup(VERSIONS)
    assert "Visits follow" in words(page)
    forms = {str(form["action"]).rsplit("/", 1)[-1]: str(form["action"]) for form in page.select("main form")}
    cancel, go = forms["cancel"], forms["carry-on"]
    refused = administrator.send(cancel, form_in(page, cancel))
    assert (refused.status_code, "Say why it is cancelled" in refused.text) == (422, True)
    assert administrator.send(cancel, {**form_in(page, cancel), "why": "Not yet"}).status_code == 303
    too_soon = administrator.send(go, form_in(page, go))
    assert (too_soon.status_code, "in force since a moment" in too_soon.text) == (409, True)
    with time_machine.travel(clock.now() + timedelta(minutes=1)):
        assert administrator.send(go, form_in(administrator.soup(VERSIONS), go)).status_code == 303
    page = administrator.soup(VERSIONS)
    assert "Carried out" in words(page)
    assert "Cancelled" in words(page)
    number = go.split("/")[-2]
    assert administrator.get(go).headers["location"] == f"{VERSIONS}#going-{number}"


def test_those_who_read_participants_read_who_it_means_something_for(world: World):
    page = world.browser("data_manager", site_code=None).soup(EFFECT)
    row = next(each for each in page.select("#people tr") if "M-001" in each.get_text())
    said = " ".join(row.get_text(" ").split())
    assert "Baseline, Pain: no longer complete pain_worst" in said
    assert "owes consent 2" in said
    assert page.select_one("#plan") is None, "who sees it all does not set the day"
    treats = world.browser("clinician").soup(EFFECT)
    assert "M-001" in words(treats)
    assert "pain_worst" not in words(treats), "what was entered is not theirs to read"
    assert world.browser("monitor", site_code=None).get(f"{VERSIONS}/9/effect").status_code == 404
    assert world.browser("assessor").get(f"{VERSIONS}/2/since/9").status_code == 404


def test_participants_follow_the_version_of_their_site(world: World):
    world.consented("south")
    administrator = world.browser("administrator", site_code=None)
    fields = form_in(administrator.soup(EFFECT), f"{VERSIONS}/2/plan")
    asked = {**fields, "sites": "south", "from_on": "", "why": "Ethics of the south"}
    assert administrator.send(f"{VERSIONS}/2/plan", asked).status_code == 303
    forms = {
        site: world.browser("assessor", site_code=site).soup(f"/mini/participants/{code}/visits/baseline/entries/pain")
        for site, code in (("north", "M-001"), ("south", "M-002"))
    }
    assert "Worst pain" in words(forms["south"])
    assert "Worst pain" not in words(forms["north"]), "the north works under the first version"
    page = "/mini/participants/M-001"
    assessor = world.browser("assessor", username="another")
    with counted_statements(world.database) as statements:
        assessor.soup(page)
    assert 2 <= len(statements) <= 12, (len(statements), statements)
    with world.database.reading() as session:
        participant = world.found("M-001")
        assert participant.id is not None
        assert {each.code for each in visits_of(session, participant.id)} == {"baseline"}
        assert session.execute(select(ENTRY.c.study_version_id)).scalar_one() == world.study.version_id


def test_a_form_says_that_it_was_another_one_when_it_was_saved(world: World):
    form, assessor = "/mini/participants/M-001/visits/baseline/entries/pain", world.browser("assessor")
    assert "saved under version" not in words(assessor.soup(form))
    administrator = world.browser("administrator", site_code=None)
    asked = {**form_in(administrator.soup(EFFECT), f"{VERSIONS}/2/plan"), "from_on": "", "why": "Ethics of the north"}
    assert administrator.send(f"{VERSIONS}/2/plan", {**asked, "sites": "north"}).status_code == 303
    with counted_statements(world.database) as statements:
        page = assessor.soup(form)
    assert 2 <= len(statements) <= 12, statements
    assert "saved under version 1 of the study, and judged by 2 once it is saved again" in words(page)


def test_a_list_over_sites_calls_a_visit_as_the_site_does(shared_database: Database):
    world = World(shared_database, **first())
    world.consented()
    world.consented("south")
    whole = amended().model_dump(mode="json")
    whole["visits"][0]["label"] = "The first day"
    administrator = world.browser("administrator", site_code=None)
    with shared_database.writing() as session:
        load_study(session, Study.model_validate(whole), by=ADMINISTRATOR, now=clock.now())
    fields = form_in(administrator.soup(EFFECT), f"{VERSIONS}/2/plan")
    asked = {**fields, "sites": "south", "from_on": "", "why": "Ethics of the south"}
    assert administrator.send(f"{VERSIONS}/2/plan", asked).status_code == 303
    manager = world.browser("data_manager", site_code=None)
    for page in ("/mini/today", "/mini/participants"):
        said = [row.get_text(" ") for row in manager.soup(page).select("tbody tr")]
        one, other = ("".join(row for row in said if code in row) for code in ("M-001", "M-002"))
        assert ("Baseline" in one, "The first day" in one) == (True, False), page
        assert "The first day" in other, page


def test_what_waits_for_a_signature_and_what_was_sent_is_called_as_the_site_does(shared_database: Database):
    """Two sites under two versions, which call a visit, a form and a reminder otherwise."""
    rules = [{"code": "soon", "when": "before_appointment", "days": 2}]
    world = World(shared_database, **first(schedule={"reminders": rules}))
    filled = [world.filled(), world.filled("south")]
    whole = amended().model_dump(mode="json")
    whole["visits"][0]["label"] = "The first day"
    whole["instruments"][1] |= {"label": "Agony", "short": None}
    whole["schedule"] = {"reminders": [{**rules[0], "when": "overdue"}]}
    with shared_database.writing() as session:
        load_study(session, Study.model_validate(whole), by=ADMINISTRATOR, now=clock.now())
        visits = {row.participant_id: row.id for row in session.execute(select(VISIT.c.participant_id, VISIT.c.id))}
        for number, one in enumerate(filled):
            assert one.id is not None
            about = About(world.study.id, one.site_id, one.id, rule="soon", kind="baseline", visit_id=visits[one.id])
            queue(session, key=str(number), to_address="a@example.org", subject="s", body="b", now=NOW, about=about)
    administrator = world.browser("administrator", site_code=None)
    fields = form_in(administrator.soup(EFFECT), f"{VERSIONS}/2/plan")
    asked = {**fields, "sites": "south", "from_on": "", "why": "Ethics of the south"}
    assert administrator.send(f"{VERSIONS}/2/plan", asked).status_code == 303
    with shared_database.writing() as session:
        session.execute(update(ENTRY).values(status="complete"))
        both_sites = [
            person(session, world.study, "assessor", site_code=code, username="both") for code in ("north", "south")
        ]
    both = signed_in_client(shared_database, both_sites[0])

    def lines(page: str, where: str = "tbody tr") -> list[str]:
        return [" ".join(row.get_text(" ").split()) for row in both.soup(page).select(where)]

    for page, old, new in (
        ("/mini/today", ("Baseline", "Pain"), ("The first day", "Agony")),
        ("/mini/messages", ("Baseline", "Before the appointment"), ("The first day", "Overdue")),
    ):
        said = lines(page, "#signatures tbody tr" if page.endswith("today") else "tbody tr")
        north, south = (next(row for row in said if code in row) for code in ("M-001", "M-002"))
        assert [word in north for word in (*old, *new)] == [True, True, False, False], (page, north)
        assert [word in south for word in (*old, *new)] == [False, False, True, True], (page, south)


def test_what_an_amendment_took_out_is_met_as_what_it_was(shared_database: Database):
    """A visit, a form and an answer that the version in force does not know stay readable, and can be corrected."""
    with shared_database.writing() as session:
        study = mini_study(session, **first())
        one = enrolled(session, study)
        mini: Any = deepcopy(MINI)
        prescreen, pain, disability = mini["instruments"]
        baseline, _, week18 = mini["visits"]
        del pain["sections"][0]["items"][1]
        visits = [{**baseline, "instruments": ["disability"]}, week18]
        now_in_use = loaded(session, study, amended(instruments=[prescreen, pain, disability], visits=visits))
        asked: dict[str, Any] = {"version": "2", "sites": ["north"], "from_on": None, "why": "Ethics"}
        (number,) = plan(session, now_in_use, by=ADMINISTRATOR, now=NOW, **asked)
        carry_on(session, now_in_use, number, by=ADMINISTRATOR, now=NOW + SETTLES)
        people = [person(session, study, role, site_code="north") for role in ("coordinator", "investigator")]
        people.append(person(session, study, "data_manager", site_code=None))
    page = f"/mini/participants/{one.code}"
    form = f"{page}/visits/baseline/entries/pain"
    pages = ("", "/visits/tx01", "/visits/week18", "/visits/baseline", "/casebook")
    for actor in people:
        browser = signed_in_client(shared_database, actor)
        for path in (*(page + each for each in pages), form, "/mini/participants", "/mini/calendar", "/mini/study"):
            assert browser.get(path).status_code == 200, (actor.username, path)
        assert browser.get(f"{page}/visits/nowhere").status_code == 404
    export = signed_in_client(shared_database, people[2]).get("/mini/exports/entries.csv")
    assert "pain_days" in export.text, "what was answered is exported, whatever is asked now"
    coordinator = signed_in_client(shared_database, people[0])
    fields = form_in(coordinator.soup(f"{form}?edit=yes"), form)
    corrected = coordinator.send(
        form, {**fields, "pain_days": "4", "form-why": "Misread", "visit-held-on": TODAY.isoformat()}
    )
    assert corrected.status_code == 303
    with shared_database.reading() as session:
        entry = entry_of(session, one.id or 0, "baseline", "pain")
        assert entry is not None
        assert (entry.values["pain_days"], entry.study_version_id) == (4, study.version_id)
    again = coordinator.get(form.replace("baseline", "tx01"))
    assert again.status_code == 404, "nothing new is entered under a version that is over"


@pytest.mark.parametrize(
    ("language", "said"),
    [
        (
            "de",
            "Pain, pain_nrs: war vom Typ scale, ist jetzt vom Typ integer. Solche Antworten gibt es schon",
        ),
        ("es", "Pain, pain_nrs: era del tipo scale, ahora es del tipo integer. Ya se dieron"),
    ],
)
def test_why_a_version_cannot_come_into_force_is_said_in_the_language_of_the_reader(
    world: World, language: str, said: str
):
    whole = deepcopy(amended().model_dump(mode="json"))
    whole["instruments"][1]["sections"][0]["items"][0]["type"] = "integer"
    with world.database.writing() as session:
        load_study(session, Study.model_validate({**whole, "version": "3"}), by=ADMINISTRATOR, now=clock.now())
    administrator = world.browser("administrator", site_code=None)
    administrator.client.headers["Accept-Language"] = language
    path = f"{VERSIONS}/3/plan"
    fields = form_in(administrator.soup(f"{VERSIONS}/3/effect"), path)
    refused = administrator.send(path, {**fields, "sites": "north", "why": "Ethics, 1 March"})
    assert refused.status_code == 409
    (shown,) = BeautifulSoup(refused.text, "html.parser").select(".flash-problem")
    flash = words(shown)
    assert said in flash
    assert not [each for each in ("Such", "Keep", "were") if f" {each} " in flash]
