"""Two stages as pages and REST show them: the statistician draws both, whoever enrols does both and learns neither."""

from typing import Any

import pytest
from bs4 import BeautifulSoup

from app.foundation.database import Database
from app.people.permissions import Role
from tests.api.client import api_client
from tests.web.browser import PASSWORD, Browser, counted_statements
from tests.web.test_sequence import kept, said
from tests.web.world import World

ROOT = "/mini/sequence"
STAGED = {
    "method": "minimisation",
    "strata": [{"code": "site", "label": "Site"}],
    "first_stage": {
        "code": "entry",
        "label": "Entry",
        "method": "permuted_blocks",
        "groups": [
            {"code": group, "label": label, "arms": [{"arm": "active"}, {"arm": "sham"}]}
            for group, label in (("quirinal", "Quirinal trial"), ("viminal", "Viminal trial"))
        ],
    },
}
HIDDEN = ("quirinal", "viminal", "zephyrine", "placebex")


def sealed(browser: Browser, path: str, fields: dict[str, Any]) -> None:
    reply = browser.post(path, {**fields, "step": "draw"}, page=path)
    assert reply.status_code == 303, said(reply)
    place = reply.headers["location"].partition("?")[0]
    assert browser.post(f"{place}/seal", {"password": PASSWORD}, page=place).status_code == 303


@pytest.mark.requirement("RND-1", "CONC-1", "CONC-4")
def test_two_steps_from_the_draw_to_the_allocation(database: Database):
    world = World(database, allocation=STAGED)
    statistician = world.browser("statistician", site_code=None)
    assert statistician.soup(ROOT).select_one(f"a[href='{ROOT}/draw?stage=entry']") is not None
    assert statistician.get(f"{ROOT}/draw?stage=nonsense").status_code == 404
    form = f"{ROOT}/draw?stage=entry"
    assert "What it gives are groups" in statistician.soup(form).get_text()
    wrong = statistician.post(f"{ROOT}/draw", {"block_sizes": "3", "slots_per_stratum": "8", "step": "draw"}, page=form)
    assert wrong.status_code == 422
    assert "What it gives are groups" in said(wrong), "the form stays that of the first stage"
    reply = statistician.post(
        f"{ROOT}/draw", {"block_sizes": "2, 4", "slots_per_stratum": "8", "step": "draw"}, page=form
    )
    place = reply.headers["location"].partition("?")[0]
    assert "Quirinal trial" in statistician.soup(place).get_text(), "counts by group, for the statistician"
    assert statistician.post(f"{place}/seal", {"password": PASSWORD}, page=place).status_code == 303
    assert statistician.soup(f"{ROOT}/downtime").find(string="No sequence is in use. Seal one first.")
    sealed(statistician, f"{ROOT}/draw", {"measure": "range", "probability": "4/5", "weights": ""})
    assert "Sequences 1, 2 are sealed and in use, one for each stage." in statistician.soup(ROOT).get_text()
    assert [each.stage for each in kept(world)] == [None, "entry"]

    world.screened()
    coordinator = world.coordinator()
    person = "/mini/participants/M-001"
    page = coordinator.soup(person)
    assert "Entry: randomise, first step" in page.get_text()
    current = page.select("[aria-current=step]")
    assert [step.get_text(" ", strip=True) for step in current] == ["2 Entry"]
    page = coordinator.soup(f"{person}/randomise")
    assert "The first of two steps" in page.get_text()
    assert page.select_one("input[name=stage][value=entry]") is not None
    early = coordinator.send(f"{person}/randomise", {**coordinator.form(f"{person}/randomise"), "stage": ""})
    assert early.status_code == 409, "not the last step, whatever is sent"
    wrong = coordinator.post(f"{person}/randomise", {"password": "nope"})
    assert wrong.status_code == 422
    with counted_statements(database) as statements:
        done = coordinator.post(f"{person}/randomise", {"password": PASSWORD})
    assert done.headers["location"] == f"{person}?done=staged"
    assert len(statements) < 60
    page = coordinator.soup(f"{person}?done=staged")
    assert "The first step is done." in page.get_text()
    assert "Record consent" in page.get_text()
    again = coordinator.send(f"{person}/randomise", {**coordinator.form(f"{person}/consent"), "stage": "entry"})
    assert again.status_code == 409
    assert "is done once" in said(again)

    world.filled()  # somebody else, who has no first step behind them
    assert "The first of two steps" in coordinator.soup("/mini/participants/M-002/randomise").get_text()
    assert coordinator.post("/mini/participants/M-002/randomise", {"password": PASSWORD}).status_code == 303
    last = coordinator.soup("/mini/participants/M-002/randomise").get_text(" ", strip=True)
    assert "Everything is in place." in last
    done = coordinator.post("/mini/participants/M-002/randomise", {"password": PASSWORD})
    assert done.headers["location"] == "/mini/participants/M-002/randomised"
    for role in (Role.COORDINATOR, Role.ASSESSOR, Role.INVESTIGATOR, Role.DATA_MANAGER, Role.MONITOR):
        other = world.browser(role, site_code=None if role in (Role.DATA_MANAGER, Role.MONITOR) else "north")
        for path in (person, f"{person}/randomise", "/mini/participants/M-002", "/mini/study", "/mini/audit"):
            text = other.get(path).text.lower()
            assert not [word for word in HIDDEN if word in text], (role, path)
    proofs = statistician.get(f"{ROOT}/2/proofs.ndjson").text
    assert '"group":"' in proofs
    assert '"participant":"M-001"' in statistician.get(f"{ROOT}/1/proofs.ndjson").text


@pytest.mark.requirement("RND-1", "CONC-4")
def test_two_steps_over_rest(database: Database):
    world = World(database, allocation=STAGED)
    statistician = api_client(database, world.person("statistician", site_code=None))
    first = {"method": "permuted_blocks", "block_sizes": [2], "slots_per_stratum": 8, "first_stage": True}
    assert statistician.done("POST", "/sequences", first)["stage"] == "entry"
    assert set(statistician.done("GET", "/sequences/1/review")["slots_per_arm"]) == {"quirinal", "viminal"}
    statistician.done("POST", "/sequences/1/seal", {"password": PASSWORD})
    world.filled()
    coordinator = api_client(database, world.coordinators["north"])
    person = "/participants/M-001"
    before = coordinator.done("GET", f"{person}/gates")
    assert "“Entry” comes before it" in before["reason"]
    made = coordinator.done("POST", f"{person}/randomise-first")
    assert set(made) == {"randomised_at"}
    gates = {gate["code"]: gate["open"] for gate in coordinator.done("GET", f"{person}/gates")["gates"]}
    assert gates["stage"]
    assert "is done once" in coordinator.refused(409, "POST", f"{person}/randomise-first")["detail"]
    assert world.log().count("participant.staged") == 1


def test_a_study_of_one_stage_knows_no_first(shared_database: Database):
    world = World(shared_database)
    world.filled()
    api_client(shared_database, world.coordinators["north"]).refused(409, "POST", "/participants/M-001/randomise-first")
    coordinator = world.coordinator()
    path, token = "/mini/participants/M-001/randomise", coordinator.form("/mini/participants/M-001/withdraw")
    assert coordinator.send(path, {**token, "stage": "entry"}).status_code == 404


@pytest.mark.requirement("RND-3")
def test_both_stages_are_simulated_together(database: Database):
    world = World(database, allocation=STAGED)
    statistician = world.browser("statistician", site_code=None)
    design = f"{ROOT}/design"
    first = statistician.soup(design)
    assert first.select_one("#first_block_sizes[value='4, 6, 8']") is not None
    assert first.find("h2", string="Both stages together") is not None
    asked = {
        "method": "minimisation",
        "measure": "range",
        "probability": "4/5",
        "first_block_sizes": "4",
        "people": "24",
        "strata": "2",
        "beside": ["simple"],
    }
    reply = statistician.post(design, asked)
    assert reply.status_code == 200
    stages = BeautifulSoup(reply.text, "html.parser").find("caption", string="Stages")
    assert stages is not None
    assert stages.parent is not None
    rows = {
        row.select("th")[0].get_text(strip=True): [cell.get_text(strip=True) for cell in row.select("td")]
        for row in stages.parent.select("tbody tr")
    }
    assert list(rows) == [
        "Entry: Permuted blocks (4)",
        "Arms within “Quirinal trial”",
        "Arms within “Viminal trial”",
        "Arms of the whole trial",
    ]
    assert rows["Entry: Permuted blocks (4)"] == ["0.00 (0.0)", "33.3", "70.8"], "six whole blocks: exact"
    assert rows["Arms within “Viminal trial”"][1:] == ["–", "–"]
    wrong = statistician.post(design, {**asked, "first_block_sizes": "3"})
    assert wrong.status_code == 422
    assert "multiple of 2" in said(wrong)
    alone = statistician.post(design, {**asked, "method": "simple", "first_block_sizes": "3"})
    assert alone.status_code == 200, "what is not simulated cannot be wrong"
    assert "Both stages together" not in said(alone)
    assert kept(world) == ()
