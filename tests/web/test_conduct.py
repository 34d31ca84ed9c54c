"""The pages of conduct: deviations, contacts, care, losses and deaths, and the screening log."""

from datetime import timedelta
from typing import Any

import pytest
from bs4 import BeautifulSoup
from sqlalchemy import insert, select, update

from app.audit.actions import ENTRY
from app.foundation import clock
from app.foundation.database import Database, table_of
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.rendering import day
from app.schedule.reads import VISIT
from tests.safety.world import SAFETY
from tests.schedule.rows import booked
from tests.web.browser import PASSWORD
from tests.web.test_safety import said
from tests.web.test_visits import part
from tests.web.world import World

PERSON = "/mini/participants/M-001"
DEVIATIONS = "/mini/safety/deviations"


@pytest.fixture
def world(shared_database: Database) -> World:
    made = World(shared_database, safety=SAFETY)
    made.consented()
    return made


@pytest.mark.requirement("E6-6", "P11-e1", "P11-50a")
def test_a_deviation_from_report_to_signature(world: World):
    coordinator, investigator = world.coordinator(), world.browser("investigator")
    new = f"{PERSON}/deviations/new"
    told: dict[str, Any] = {
        "category": "consent",
        "grade": "",
        "occurred_on": world.today().isoformat(),
        "what": "The copy was not handed over",
    }
    wrong = coordinator.post(new, {**told, "what": "", "occurred_on": "soon"})
    assert wrong.status_code == 422
    wrong = coordinator.post(new, {**told, "category": "zzz", "grade": "minor"})
    assert "The copy was not handed over" in wrong.text
    reply = coordinator.post(new, told)
    assert reply.status_code == 303, said(reply)
    url = str(reply.headers["location"]).partition("?")[0]
    assert "Major" in said(coordinator.get(url))  # as its kind says
    assert "Do that first" in said(investigator.get(url))
    act = {"grade": "major", "action": "Handed over the day after"}
    assert coordinator.post(f"{url}/action", {**act, "action": ""}, page=url).status_code == 422
    assert coordinator.post(f"{url}/action", act, page=url).status_code == 303
    assert "One deviation to be signed" in said(investigator.get("/mini/today"))
    assert "The copy was not" in said(investigator.get(f"{DEVIATIONS}?open=sign"))
    stale = coordinator.form(url, f"{url}/action")
    assert investigator.post(f"{url}/sign", {"password": "wrong"}, page=url).status_code == 422
    assert investigator.post(f"{url}/sign", {"password": PASSWORD}, page=url).status_code == 303
    assert "to be signed" not in said(investigator.get("/mini/today"))
    late = coordinator.send(f"{url}/action", {**stale, "action": "Nothing"})
    assert late.status_code == 409
    assert "Nothing" in late.text
    assert "Signed" in said(coordinator.get(url))
    assert "The copy was not handed over" in said(coordinator.get(f"{DEVIATIONS}?grade=major&category=consent"))
    assert "No deviation fits" in said(coordinator.get(f"{DEVIATIONS}?open=yes"))
    lines = coordinator.get(f"{DEVIATIONS}?format=csv").text.splitlines()
    assert len(lines) == 2


@pytest.mark.requirement("E6-6", "P11-50a", "REL-4")
def test_several_are_chosen_in_the_list_acted_on_and_signed_with_one_password(world: World):
    coordinator, investigator = world.coordinator(), world.browser("investigator")
    for what in ("At home", "By telephone", "Too early"):
        told = {"category": "other", "occurred_on": world.today().isoformat(), "what": what}
        assert coordinator.post(f"{PERSON}/deviations/new", told).status_code == 303

    def shown(browser: Any, page: str) -> list[str]:
        return [str(each["value"]) for each in browser.soup(page).select("input[type=checkbox]")]

    three, two, one = shown(coordinator, DEVIATIONS)
    assert not coordinator.soup(DEVIATIONS).select("input[checked]")
    assert len(coordinator.soup(f"{DEVIATIONS}?chosen=all").select("input[type=checkbox][checked]")) == 3
    acting = f"{DEVIATIONS}/chosen/action"
    assert "None of" in said(investigator.get(f"{DEVIATIONS}/chosen/sign?number={one}&number={two}"))
    assert "nothing is written down yet" in said(investigator.get(f"{DEVIATIONS}/chosen/sign?number={one}")).casefold()
    page = f"{acting}?number={one}&number={two}&number={three}&number=2000000000&number=x"
    assert shown(coordinator, page) == [f"{one}:1", f"{two}:1", f"{three}:1"]
    form = {
        **coordinator.form(page, acting),
        "number": [one, two, three],
        "chosen": [f"{one}:1", f"{two}:1"],
        "grade": "as_graded",
    }
    wrong = coordinator.send(acting, {**form, "action": " "})
    assert wrong.status_code == 422
    left = BeautifulSoup(wrong.text, "html.parser").select("input[type=checkbox]")
    assert [(each["value"], each.has_attr("checked")) for each in left] == [
        (f"{one}:1", True),
        (f"{two}:1", True),
        (f"{three}:1", False),
    ]
    its = f"{DEVIATIONS}/{two}"
    assert coordinator.post(f"{its}/action", {"grade": "minor", "action": "Told"}, page=its).status_code == 303
    form = coordinator.form(page, acting) | {
        "number": [one, two, three],
        "chosen": [f"{one}:1", f"{two}:1"],
        "grade": "as_graded",
    }
    late = coordinator.send(acting, {**form, "action": "None needed"})
    assert late.status_code == 422
    assert "Somebody changed it" in said(late)
    assert "None needed" in late.text
    again = BeautifulSoup(late.text, "html.parser").select("input[type=checkbox]")
    assert [(each["value"], each.has_attr("checked")) for each in again] == [
        (f"{one}:1", True),
        (f"{two}:2", False),
        (f"{three}:1", False),
    ]
    assert "Open" in said(coordinator.get(f"{DEVIATIONS}/{one}"))
    fine = {
        **coordinator.form(page, acting),
        "number": [one, three],
        "chosen": [f"{one}:1", f"{three}:1"],
        "grade": "as_graded",
    }
    assert coordinator.send(acting, {**fine, "action": "None needed"}).status_code == 303
    signing = f"{DEVIATIONS}/chosen/sign"
    page = f"{signing}?number={one}&number={two}&number={three}"
    signed = {
        **investigator.form(page, signing),
        "number": [one, two, three],
        "chosen": [f"{one}:2", f"{two}:2", f"{three}:2"],
    }
    wrong = investigator.send(signing, {**signed, "password": "wrong"})
    assert wrong.status_code == 422
    assert "to be signed" in said(investigator.get("/mini/today"))
    signed = {**investigator.form(page, signing), **{name: signed[name] for name in ("number", "chosen")}}
    done = investigator.send(signing, {**signed, "password": PASSWORD})
    assert done.status_code == 303, said(done)
    assert "to be signed" not in said(investigator.get("/mini/today"))
    assert shown(investigator, DEVIATIONS) == []
    assert "This deviation is signed" in said(coordinator.get(f"{acting}?number={one}"))


def test_the_system_looks_when_it_is_asked_and_what_is_no_deviation_is_taken_back(world: World):
    coordinator = world.coordinator()
    visit = f"{PERSON}/visits/baseline"
    assert coordinator.post(f"{visit}/missed", {"reason": "Ill", "why": "Ill"}, page=visit).status_code == 303
    assert coordinator.post(f"{DEVIATIONS}/look", {}, page=DEVIATIONS).status_code == 303
    assert coordinator.post(f"{DEVIATIONS}/look", {}, page=DEVIATIONS).status_code == 303
    rows = coordinator.soup(DEVIATIONS).select("tbody tr")
    assert len(rows) == 1
    assert "found by the system" in rows[0].get_text(" ")
    # What the system says is said in the language of whoever reads, wherever it stands.
    coordinator.client.headers["Accept-Language"] = "de"
    manager = world.browser("data_manager")
    manager.client.headers["Accept-Language"] = "de"
    number = part(coordinator.soup(DEVIATIONS), "tbody th").get_text()
    for browser, path in (
        (coordinator, DEVIATIONS),
        (coordinator, f"{DEVIATIONS}/{number}"),
        (coordinator, PERSON),
        (manager, "/mini/audit?kind=deviation.found"),
    ):
        page = said(browser.get(path))
        assert "wurde versäumt; sie war vom" in page, path
        assert "was missed" not in page, path
    del coordinator.client.headers["Accept-Language"]
    told = {"category": "other", "occurred_on": world.today().isoformat(), "what": "Mixed up"}
    url = str(coordinator.post(f"{PERSON}/deviations/new", told).headers["location"]).partition("?")[0]
    assert coordinator.post(f"{url}/mistake", {"why": " "}, page=url).status_code == 422
    assert coordinator.post(f"{url}/mistake", {"why": "Another study"}, page=url).status_code == 303
    assert "Does not stand" in said(coordinator.get(url))
    clinician = world.browser("clinician")
    reply = clinician.post(f"{PERSON}/deviations/new", {**told, "what": "Came late"})
    assert str(reply.headers["location"]).startswith(f"{PERSON}?")


@pytest.mark.requirement("P11-e2", "REL-4")
@pytest.mark.parametrize(
    ("page", "told", "wrong", "changed", "stands"),
    [
        (
            f"{PERSON}/contacts",
            {"how": "call", "result": "no_answer", "note": "Rang twice"},
            {"how": "call", "result": "", "note": "Rang thrice"},
            {"result": "reached"},
            "Reached",
        ),
        (
            f"{PERSON}/care",
            {"treatment": "Ibuprofen 400 mg", "began": "2025", "ended": "", "indication": "Headache"},
            {"treatment": "Paracetamol", "began": "then", "indication": "Headache"},
            {"ended": "2025-11"},
            "Nov 2025",
        ),
    ],
)
def test_lines_are_added_and_corrected(
    world: World, page: str, told: dict[str, Any], wrong: dict[str, Any], changed: dict[str, Any], stands: str
):
    coordinator = world.coordinator()
    refused = coordinator.post(page, wrong)
    assert refused.status_code == 422
    assert next(iter(value for value in wrong.values() if value and len(value) > 6)) in refused.text
    summary = BeautifulSoup(refused.text, "html.parser")
    links = [str(each["href"]) for each in summary.select(".error-summary a")]
    assert links
    assert all(summary.select_one(each) is not None for each in links)
    assert coordinator.post(page, told).status_code == 303
    row = coordinator.soup(page).select_one("tbody tr")
    assert row is not None
    correct = str(row.select("a")[-1]["href"])
    form = coordinator.form(correct, page)
    assert coordinator.send(page, {**form, **changed}).status_code == 422  # without a reason
    fine = coordinator.send(page, {**form, **changed, "why": "Misheard"})
    assert fine.status_code == 303, said(fine)
    assert stands in said(coordinator.get(page))
    late = coordinator.send(
        page, {**form, **{name: "Else" for name in ("note", "indication") if name in told}, "why": "So"}
    )
    assert late.status_code == 409
    assert "Else" in late.text
    monitor = world.browser("monitor")
    assert stands in said(monitor.get(page))
    assert monitor.soup(page).select_one("main form[method=post]") is None


def test_who_has_not_consented_can_be_called_and_nothing_else_is_kept(world: World):
    someone = world.screened()
    coordinator, page = world.coordinator(), f"/mini/participants/{someone.code}"
    assert "Care beside the trial" not in said(coordinator.get(page))
    assert coordinator.soup(page).select_one(f"a[href='{page}/contacts']") is not None
    shown = coordinator.get(f"{page}/contacts")
    assert "Consent is not complete" in said(shown)
    told = {"how": "call", "result": "no_answer", "note": "Rang twice"}
    assert coordinator.post(f"{page}/contacts", {**told, "note": "x" * 201}).status_code == 422
    assert coordinator.post(f"{page}/contacts", told).status_code == 303
    seen = said(coordinator.get(f"{page}/contacts"))
    assert "One attempt in vain" in seen
    assert "Record them as lost" not in seen
    with world.database.writing() as session:
        failed = {"status": "screen_failed"}
        session.execute(
            update(table_of(Participant)).where(table_of(Participant).c.code == someone.code).values(failed)
        )
    assert "did not pass screening" in said(coordinator.get(f"{page}/contacts"))
    assert coordinator.soup(f"{page}/contacts").select_one("main form") is None
    assert coordinator.soup(page).select_one(f"a[href='{page}/contacts']") is not None


@pytest.mark.requirement("P11-f", "E9R1-1")
def test_somebody_is_lost_found_and_dies_by_mistake(world: World):
    coordinator = world.coordinator()
    on = world.today().isoformat()

    def end(path: str, words: str, password: str = PASSWORD) -> Any:
        return coordinator.post(f"{PERSON}/{path}", {"on": on, "words": words, "password": password})

    assert end("lost", "Five calls", "wrong").status_code == 422
    assert "Five calls" in end("lost", "Five calls", "wrong").text
    assert end("lost", "Five calls").status_code == 303
    assert "Lost to follow-up" in said(coordinator.get(PERSON))
    assert f"Lost to follow-up since {day(world.today())}: Five calls" in said(coordinator.get(PERSON))
    assert "Lost to follow-up" in said(coordinator.get("/mini/participants?status=lost"))
    assert "M-001 lost to follow-up" in said(coordinator.get("/mini/today"))
    assert "found again" in said(coordinator.get(f"{PERSON}/lost"))
    assert end("lost", "Met in the street").status_code == 303
    assert "Consented" in said(coordinator.get(PERSON))
    assert end("death", "A letter").status_code == 303
    page = said(coordinator.get(PERSON))
    assert f"Died on {day(world.today())}: A letter" in page
    assert "No visit is due any more" in page or "visits" not in page
    form = coordinator.get(f"{PERSON}/death")
    assert "Report the death as an adverse event" in said(form)
    event = BeautifulSoup(coordinator.get(f"{PERSON}/adverse-events/new?outcome=fatal").text, "html.parser")
    assert event.select_one("input[name=criteria][value=death][checked]") is not None
    assert end("death", "Their brother of the same name").status_code == 303
    assert "Consented" in said(coordinator.get(PERSON))
    history = said(coordinator.get(f"{PERSON}/death"))
    assert "Recorded as dead by mistake" in history
    assert "Five calls" in history


@pytest.mark.requirement("P11-f", "E9R1-1")
def test_who_has_nothing_left_to_do_completes_the_study(world: World):
    coordinator = world.coordinator()
    form, on = {"on": world.today().isoformat(), "password": PASSWORD}, f"{PERSON}/completion"
    refused = said(coordinator.get(on))
    assert "Record their consent first" not in refused
    assert "Randomise them first" in refused
    with world.database.writing() as session:
        before = world.today() - timedelta(days=90)
        session.execute(update(table_of(Participant)).values(status="randomised", consented_on=before))
        session.execute(update(VISIT).values(status="missed", reason="Away"))
    page = coordinator.soup(PERSON)
    assert page.select_one(f"a[href='{on}']") is not None
    assert coordinator.post(on, {**form, "words": ""}).status_code == 303
    done = said(coordinator.get(PERSON))
    assert f"Completed the study on {day(world.today())}" in done
    stands = coordinator.soup(PERSON).select_one("p.row")
    assert stands is not None
    assert " ".join(stands.get_text(" ").split()).startswith(f"Completed {day(world.today())}")
    assert "Something is left to do" in done
    assert coordinator.post(on, {**form, "words": ""}).status_code == 422
    assert coordinator.post(on, {**form, "words": "Week 52 was held after all"}).status_code == 303
    assert "Randomised" in said(coordinator.get(PERSON))


@pytest.mark.requirement("P11-f", "E9R1-1")
def test_a_loss_names_what_is_booked_and_cancels_it_where_that_is_wanted(world: World):
    coordinator, one = world.coordinator(), f"{PERSON}/appointments/1"
    with world.database.writing() as session:
        person = participant_by_code(session, world.study, "M-001", by=world.coordinators["north"])
        ahead, begun = clock.now() + timedelta(days=3), clock.now() - timedelta(hours=2)
        booked(session, world.study, person, starts_at=ahead, ends_at=ahead + timedelta(hours=1))
        outside: dict[str, Any] = {
            "number": 2,
            "visit_id": None,
            "kind": "unscheduled",
            "purpose": "A call",
            "uid": "two@equipoise",
        }
        booked(session, world.study, person, starts_at=begun, ends_at=begun + timedelta(hours=1), **outside)
    end = {"on": world.today().isoformat(), "words": "Five calls", "password": PASSWORD}
    for path in ("lost", "death", "withdraw"):
        page = coordinator.soup(f"{PERSON}/{path}")
        assert page.select_one(f"main a[href='{one}']") is not None, path
        assert page.select_one(f"main a[href='{PERSON}/appointments/2']") is None, "what is over is no more to cancel"
    # A mistake in the form keeps what was ticked.
    wrong = BeautifulSoup(
        coordinator.post(f"{PERSON}/lost", {**end, "words": "", "cancel_booked": []}).text, "html.parser"
    )
    box = wrong.select_one("input[name=cancel_booked]")
    assert box is not None
    assert not box.has_attr("checked")
    # Booked all the same: the result says so, and so does the appointment.
    kept = coordinator.post(f"{PERSON}/lost", {**end, "cancel_booked": []})
    assert "what is booked stays booked" in said(coordinator.get(str(kept.headers["location"])))
    assert "recorded as lost to follow-up" in said(coordinator.get(one))
    assert "Cancel the appointment" in said(coordinator.get(one))
    coordinator.post(f"{PERSON}/lost", {**end, "words": "Met in the street"})
    gone = coordinator.post(f"{PERSON}/lost", {**end, "words": "Gone again"})
    assert "are cancelled" in said(coordinator.get(str(gone.headers["location"])))
    assert "Reason The participant is lost to follow-up." in said(coordinator.get(one))
    assert "Cancelled" in said(coordinator.get(one))
    assert "Cancelled" not in said(coordinator.get(f"{PERSON}/appointments/2"))
    with world.database.reading() as session:
        (line,) = session.execute(select(ENTRY).where(ENTRY.c.action == "appointment.cancelled")).all()
    assert (line.participant, line.why) == ("M-001", "The participant is lost to follow-up.")


@pytest.mark.requirement("P11-f", "E9R1-1")
def test_what_is_due_before_a_completion_is_named_with_a_link(world: World):
    coordinator = world.coordinator()
    with world.database.writing() as session:
        session.execute(update(table_of(Participant)).values(status="randomised"))
    page = coordinator.soup(f"{PERSON}/completion")
    assert "One visit is still due." in page.get_text()
    links = [(each.get_text(), each["href"]) for each in page.select("main section a[href*=participants]")]
    assert links == [("Baseline", f"{PERSON}/visits/baseline")]
    with world.database.writing() as session:
        (row,) = session.execute(select(VISIT)).mappings().all()
        kept = {name: value for name, value in row.items() if name != "id"}
        more = [{**kept, "code": f"unscheduled_{each}", "order": 9 + each} for each in range(1, 11)]
        session.execute(insert(VISIT).values(more))
    page = coordinator.soup(f"{PERSON}/completion")
    assert "11 visits are still due." in page.get_text()
    links = [(each.get_text(), each["href"]) for each in page.select("main section a[href*=participants]")]
    assert (len(links), links[-1]) == (9, ("and 3 more", PERSON))


@pytest.mark.requirement("P11-f", "E9R1-1")
def test_who_wants_no_contact_is_said_where_contacts_are_written_down(shared_database: Database):
    levels = [{"code": "all", "label": "No contact of any kind", "stops_visits": True, "stops_contact": True}]
    world = World(shared_database, safety=SAFETY, withdrawal_levels=levels)
    world.consented()
    coordinator, told = world.coordinator(), "They withdrew: No contact of any kind. Nobody contacts them any more."
    assert told not in said(coordinator.get(f"{PERSON}/contacts"))
    typed = {"level": "all", "on": world.today().isoformat(), "why": "Wants no calls", "password": PASSWORD}
    assert coordinator.post(f"{PERSON}/withdraw", typed).status_code == 303
    assert told in said(coordinator.get(f"{PERSON}/contacts"))


@pytest.mark.requirement("EMA-12")
def test_the_screening_log_has_codes_and_reasons_and_no_names(world: World):
    coordinator = world.coordinator()
    page = "/mini/safety/screening"
    shown = coordinator.get(page)
    assert "M-001" in shown.text
    for name in ("Lovelace", "Ada ", "AL"):
        assert name not in said(shown)
    month = f"{world.today():%Y-%m}"
    assert "M-001" in said(coordinator.get(f"{page}?month={month}&outcome=passed"))
    assert "Nobody fits" in said(coordinator.get(f"{page}?outcome=failed"))
    wrong = coordinator.get(f"{page}?month=soon")
    assert wrong.status_code == 422
    assert "Write the month as year-month, such as 2026-03." in said(wrong)
    lines = coordinator.get(f"{page}?format=csv").text.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("M-001,north,")
    by_month = coordinator.soup(f"{page}?by=month")
    cells = [each.get_text(" ", strip=True) for each in by_month.select("table tbody tr > *")]
    assert cells == [month, "north", "1", "0"]
    assert [each["href"] for each in by_month.select(f'main a[href="{page}?site=all"], main a[href="{page}"]')]


def test_what_is_needed_only_sometimes_says_when_and_is_not_called_optional(world: World):
    coordinator = world.coordinator()
    page = coordinator.soup(f"{PERSON}/adverse-events/new")
    label = part(page, "#field-criteria .label").get_text(" ", strip=True)
    assert label == "Why it is serious needed when it is serious"
    assert "optional" in part(page, "#field-narrative label").get_text()
    assert page.select("#field-criteria [aria-required]") == []
    told = {"category": "other", "occurred_on": world.today().isoformat(), "what": "Mixed up"}
    url = str(coordinator.post(f"{PERSON}/deviations/new", told).headers["location"]).partition("?")[0]
    page = coordinator.soup(url)
    assert part(page, "#field-why label").get_text(" ", strip=True) == "Why the grade changes needed when it changes"
    assert not part(page, "#field-why input").has_attr("aria-required")
