"""Locks, source verification and the casebook on pages: what stands in the way, two people, a signature, a file."""

import pytest
from sqlalchemy import func, select

from app.capture.models import DataLock
from app.foundation.database import Database, table_of
from app.people.models import Person
from tests.web.browser import PASSWORD, counted_statements, form_in
from tests.web.pdf import packed, text_of
from tests.web.test_entries import FORM, PAIN, VISIT, World, at_the_visit
from tests.web.test_queries import words

__all__ = ["at_the_visit"]

LOCKS = "/mini/study/locks"
CASEBOOK = "/mini/participants/M-001/casebook"
LOCK = table_of(DataLock)


@pytest.fixture
def world(shared_database: Database) -> World:
    world = World(shared_database)
    assert world.browser("assessor").post(FORM, PAIN).status_code == 303
    return world


def newest(world: World) -> str:
    with world.database.reading() as session:
        return f"{LOCKS}/{session.execute(select(func.max(LOCK.c.id))).scalar_one()}"


@pytest.mark.requirement("SEC-10", "E6-12")
def test_many_are_locked_at_once_and_opened_by_two(world: World):
    manager = world.browser("data_manager")
    with counted_statements(world.database) as said:
        page = manager.soup(LOCKS)
    assert len(said) <= 12
    assert "One entry waits for a signature" in words(page)
    fields = form_in(page, LOCKS)
    refused = manager.send(LOCKS, {**fields, "participant": "M-001", "kind": "locked", "why": "Clean"})
    assert (refused.status_code, "M-001: One entry waits" in refused.text) == (409, True)
    assert "Clean" in refused.text, "what was typed is still there"
    blank = manager.send(LOCKS, {**fields, "kind": "locked", "why": "Clean"})
    assert (blank.status_code, "Choose between one" in blank.text) == (422, True)
    given = {**fields, "participant": "M-001", "kind": "locked", "why": "Clean", "despite": "yes"}
    assert manager.send(LOCKS, given).headers["location"] == f"{LOCKS}?done=data_closed"

    assessor = world.browser("assessor", username="another")
    for page_of in ("/mini/participants/M-001", VISIT, FORM, CASEBOOK):
        soup = assessor.soup(page_of)
        assert "locked" in words(soup).casefold(), page_of
    assert not assessor.soup(FORM).select("#entry"), "there is nothing to type into"
    doctor = world.browser("investigator")
    lock = newest(world)
    asking = form_in(doctor.soup(LOCKS), f"{lock}/unlock")
    assert doctor.send(f"{lock}/unlock", asking).status_code == 422
    assert doctor.send(f"{lock}/unlock", {**asking, "why": "A page was found"}).status_code == 303
    assert "second person" in words(doctor.soup(LOCKS))
    one = "One request to unlock that waits for a second person"
    assert one in " ".join(words(manager.soup("/mini/today")).split())
    assert one not in " ".join(words(doctor.soup("/mini/today")).split()), "who asked approves nothing"
    deciding = form_in(manager.soup(LOCKS), f"{lock}/approve")
    wrong = manager.send(f"{lock}/approve", {**deciding, "password": "not this one"})
    assert wrong.status_code == 422
    approved = manager.send(f"{lock}/approve", {**deciding, "password": PASSWORD})
    assert approved.headers["location"] == f"{LOCKS}?done=data_unlocked"
    assert assessor.soup(FORM).select("#entry")


def test_a_freezing_is_lifted_and_an_unlocking_declined(world: World):
    manager, doctor = world.browser("data_manager"), world.browser("investigator")
    fields = form_in(manager.soup(f"{LOCKS}?visit=week18"), LOCKS)
    assert fields["visit"] == ["week18"]
    manager.send(LOCKS, {**fields, "participant": "M-001", "kind": "frozen", "why": "Clean"})
    lock = newest(world)
    lifting = form_in(manager.soup(LOCKS), f"{lock}/lift")
    assert manager.send(f"{lock}/lift", {**lifting, "why": "A page was found"}).status_code == 303
    given = {"participant": "M-001", "kind": "locked", "why": "Clean", "despite": "yes"}
    manager.send(LOCKS, {**form_in(manager.soup(LOCKS), LOCKS), **given})
    lock = newest(world)
    asking = form_in(doctor.soup(LOCKS), f"{lock}/unlock")
    doctor.send(f"{lock}/unlock", {**asking, "why": "A page was found"})
    declining = form_in(manager.soup(LOCKS), f"{lock}/decline")
    declined = manager.send(f"{lock}/decline", {**declining, "why": "Which page?"})
    assert declined.headers["location"] == f"{LOCKS}?done=unlock_declined"
    assert manager.get(f"{lock}/approve").headers["location"].startswith(LOCKS)


@pytest.mark.requirement("E6-9")
def test_a_monitor_verifies_answers_and_a_change_shows(world: World):
    monitor = world.browser("monitor")
    fields = form_in(monitor.soup(f"{FORM}/record"), f"{FORM}/verified")
    some = monitor.send(f"{FORM}/verified", {**fields, "item": ["pain_nrs"]})
    assert some.headers["location"] == f"{FORM}/record?done=verified"
    assert len(monitor.soup(f"{FORM}/record").select('input[name="item"][checked]')) == 1
    fields = form_in(monitor.soup(f"{FORM}/record"), f"{FORM}/verified")
    monitor.send(f"{FORM}/verified", {**fields, "which": "everything"})
    assessor = world.browser("assessor", username="another")
    assert "Verified" in words(assessor.soup("/mini/participants/M-001"))
    assert not assessor.soup(f"{FORM}/record").select("#verification")
    assessor.post(FORM, {"pain_nrs": "6", "form-why": "Misheard"})
    assert "Changed since it was verified" in words(monitor.soup(f"{FORM}/record"))
    stale = monitor.send(f"{FORM}/verified", {**fields, "item": ["pain_nrs"]})
    assert (stale.status_code, "was changed after you opened it" in stale.text) == (409, True)


@pytest.mark.requirement("P11-50a", "P11-70", "FDA-19", "P11-200a1")
def test_the_investigator_signs_the_casebook_until_something_changes(world: World):
    doctor = world.browser("investigator")
    with counted_statements(world.database) as said:
        page = doctor.soup(CASEBOOK)
    assert len(said) <= 12
    fields = form_in(page, f"{CASEBOOK}/sign")
    assert doctor.send(f"{CASEBOOK}/sign", {**fields, "password": PASSWORD}).status_code == 422
    given = {**fields, "meaning": "approval"}
    assert doctor.send(f"{CASEBOOK}/sign", {**given, "password": "not this one"}).status_code == 422
    signed = doctor.send(f"{CASEBOOK}/sign", {**given, "password": PASSWORD})
    assert signed.headers["location"] == f"{CASEBOOK}?done=casebook_signed"
    assert doctor.actor.name in words(doctor.soup(CASEBOOK))
    assessor = world.browser("assessor", username="another")
    assessor.post(FORM, {"pain_nrs": "6", "form-why": "Misheard"})
    after = words(doctor.soup(CASEBOOK))
    assert "was superseded by a change" in after
    assert "Misheard" in after
    stale = doctor.send(f"{CASEBOOK}/sign", {**given, "meaning": "review", "password": PASSWORD})
    assert (stale.status_code, "The casebook changed" in stale.text) == (409, True)


@pytest.mark.requirement("AX11-8", "P11-b", "FDA-2", "ALC-L")
def test_the_casebook_as_pdf_says_everything_marks_what_changed_and_has_the_log_behind(world: World):
    assessor = world.browser("assessor", username="another")
    form = assessor.form(FORM, FORM)
    changes = {"pain_nrs": "6", "pain_days__missing": "UNK", "pain_days": "", "form-why": "Misheard in the corridor"}
    assert assessor.send(FORM, {**form, **changes}).status_code == 303
    monitor = world.browser("monitor")
    monitor.post(f"{FORM}/queries/pain_nrs", {"text": "The diary says 3. Which is right?"})
    reply = monitor.get(f"{CASEBOOK}.pdf")
    assert reply.headers["content-type"] == "application/pdf"
    pages = text_of(reply.content)
    everything = "".join(pages)
    for said in (
        "Casebook M-001",
        "Week 18: Pain",
        "Pain, past week 6 changed",
        "Days with pain [Unknown] changed",
        "Where it hurts Back",
        "Note At night",
        "Query, open: The diary says 3. Which is right?",
        "This casebook is not signed as it stands.",
        "Appendix",
        "Corrected",
        "Misheard in the corridor",
        "Query raised",
        f"1 / {len(pages)}",
        f"{len(pages)} / {len(pages)}",
    ):
        assert packed(said) in everything, (said, everything)
    assert packed("Note At night changed") not in everything
    for arm in ("Zephyrine", "Placebex"):
        assert arm not in everything
    assert world.browser("clinician").get(f"{CASEBOOK}.pdf").status_code in (403, 404)


def test_a_casebook_without_entries_is_a_casebook(world: World):
    coordinator = world.browser("coordinator", site_code="south")
    pages = text_of(coordinator.get("/mini/participants/M-002/casebook.pdf").content)
    assert packed("Nothing is entered yet.") in pages[0]
    assert coordinator.get(f"{CASEBOOK}.pdf").status_code == 404


@pytest.mark.requirement("P11-50b", "P11-50a", "AX11-14")
def test_name_time_and_meaning_of_a_signature_stand_wherever_the_record_is_read(world: World):
    assessor, doctor = world.browser("assessor", username="another"), world.browser("investigator")
    assert assessor.post(f"{FORM}/sign", {"meaning": "review", "password": PASSWORD}).status_code == 303
    casebook = f"{CASEBOOK}/sign"
    signed = doctor.send(
        casebook, {**form_in(doctor.soup(CASEBOOK), casebook), "meaning": "approval", "password": PASSWORD}
    )
    assert signed.status_code == 303
    with world.database.reading() as session:
        person = table_of(Person)
        names = {row.username: row.name for row in session.execute(select(person.c.username, person.c.name))}
    of_entry = (names["another"], "6 Jul 2026", "I reviewed these data")
    of_casebook = (names[doctor.actor.username], "6 Jul 2026", "They are complete")
    everything = "".join(text_of(doctor.get(f"{CASEBOOK}.pdf").content))
    for said in (*of_entry, *of_casebook):
        assert packed(said) in everything, said
    for page, wanted in ((f"{FORM}/record", of_entry), (CASEBOOK, of_casebook)):
        for said in wanted:
            assert said in words(doctor.soup(page)), (page, said)
    log = doctor.get("/mini/audit.csv").text
    for name in (names["another"], names[doctor.actor.username]):
        assert name in log
