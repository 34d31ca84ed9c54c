"""Participants: the list, one participant, screening, personal data, withdrawal; and what must not happen there."""

from datetime import timedelta

import pytest
from bs4 import BeautifulSoup
from sqlmodel import Session, update

from app.foundation.database import Database
from app.people.reads import SESSION
from app.schedule.reads import VISIT
from tests.web.browser import PASSWORD, anonymous_client, counted_statements, form_in, words_of
from tests.web.world import ELIGIBLE, NAMED, World

LIST = "/mini/participants"
NEW = "/mini/participants/new"
WHO = {"personal.given_name": "Ada", "personal.family_name": "Lovelace", "personal.date_of_birth": "1980-12-10"}
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


def said(reply) -> str:
    return words_of(reply.text)


# Screening


def test_somebody_eligible_is_screened_and_gets_a_code(world):
    reply = world.coordinator().post(NEW, {**ELIGIBLE, **WHO})
    assert (reply.status_code, reply.headers["location"]) == (303, f"{LIST}/M-001?done=screened")
    assert world.codes() == ["M-001"]
    assert world.found("M-001").status == "screened"


def test_every_criterion_has_its_verdict_before_a_screen_failure_is_kept(world):
    browser = world.coordinator()
    reply = browser.post(NEW, {**ELIGIBLE, **WHO, "age": "17", "surgery": "yes"})
    words = said(reply)
    assert reply.status_code == 200
    assert "This person is not eligible" in words
    assert "Not fulfilled. Age: 17 years." in words
    assert "Applies. Surgery in the last year: yes." in words
    assert world.codes() == []
    kept = {**form_in(BeautifulSoup(reply.text, "html.parser"), NEW), "screening.step": "keep"}
    assert kept["personal.given_name"] == ["Ada"]
    lacking = browser.send(NEW, kept)
    assert lacking.status_code == 422
    assert "Choose why this person does not take part." in said(lacking)
    again = {**form_in(BeautifulSoup(lacking.text, "html.parser"), NEW), "screening.step": "keep"}
    done = browser.send(NEW, {**again, "screening.failure_reason": "not_eligible"})
    assert done.headers["location"] == f"{LIST}/M-001?done=screen_failed"
    shown = said(browser.get(f"{LIST}/M-001"))
    assert "Screen failure: Does not meet the criteria" in shown
    assert "Record consent" not in shown


def test_the_answers_can_be_corrected_instead_of_kept(world):
    browser = world.coordinator()
    reply = browser.post(NEW, {**ELIGIBLE, "age": "17"})
    kept = form_in(BeautifulSoup(reply.text, "html.parser"), NEW)
    back = browser.send(NEW, {**kept, "screening.step": "correct"})
    fields = form_in(BeautifulSoup(back.text, "html.parser"), NEW)
    assert (back.status_code, fields["age"], fields["surgery"]) == (200, ["17"], ["no"])
    assert browser.send(NEW, {**fields, "age": "18"}).headers["location"].endswith("done=screened")


def test_somebody_who_declines_is_kept_without_every_answer(world):
    browser = world.coordinator()
    reply = browser.post(NEW, {"age": "44", "screening.failure_reason": "declined"})
    assert "This person does not take part" in said(reply)
    kept = {**form_in(BeautifulSoup(reply.text, "html.parser"), NEW), "screening.step": "keep"}
    assert browser.send(NEW, {**kept, "screening.failure_reason": "declined"}).status_code == 303
    assert world.found("M-001").status == "screen_failed"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"age": "forty"}, "write a whole number in digits"),
        ({"age": "-3"}, "Age: at least 0 years. Correct it."),
        ({"age": "121"}, "Age: at most 120 years. Correct it."),
        ({"age": ""}, "Age: answer this, or choose why they do not take part."),
        ({"age": ["44", "45"]}, "there are several answers"),
        ({"pain_screen": "11"}, "at most 10"),
        ({"surgery": "perhaps"}, "choose yes or no"),
        ({"surgery": HOSTILE}, "choose yes or no"),
        ({"personal.date_of_birth": "1980-13-40"}, "there is no such day"),
        ({"personal.email": "nowhere"}, "type an address such as name@example.org"),
        ({"personal.phone": "call me"}, "type digits"),
        ({"personal.given_name": "x" * 81}, "shorten it to 80 characters"),
        ({"screening.failure_reason": "whatever"}, "Choose one of the reasons"),
        ({"screening.site": "south"}, "Choose the site where this person is seen."),
    ],
)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_cannot_be_kept_is_said_at_its_field_and_nothing_typed_is_lost(world, typed, words):
    reply = world.coordinator().post(NEW, {**ELIGIBLE, **WHO, **typed})
    assert reply.status_code == 422
    page = BeautifulSoup(reply.text, "html.parser")
    assert words in page.select("[data-error-summary]")[0].get_text()
    for link in page.select("[data-error-summary] a"):
        assert page.find(id=str(link["href"]).removeprefix("#")) is not None, link
    fields = form_in(page, NEW)
    for name in WHO:
        if name not in typed:
            assert fields[name] == [WHO[name]]
    assert "In favour:" in reply.text or "Not known yet:" in reply.text
    assert world.codes() == []


def test_an_answer_that_cannot_be_kept_is_not_called_unanswered(world):
    reply = world.coordinator().post(NEW, {**ELIGIBLE, "age": "4000", "personal.date_of_birth": "soon"})
    assert reply.status_code == 422
    assert "Age: not answered yet" not in said(reply)
    assert "the answer needs a change first" in said(reply)
    links = BeautifulSoup(reply.text, "html.parser").select("[data-error-summary] a")
    assert [str(link["href"]) for link in links] == ["#age", "#personal.date_of_birth"], "as on the page"


def test_hostile_text_is_shown_as_text(world):
    browser = world.coordinator()
    reply = browser.post(NEW, {**ELIGIBLE, "age": HOSTILE, "personal.given_name": HOSTILE})
    assert reply.status_code == 422
    assert HOSTILE not in reply.text
    assert form_in(BeautifulSoup(reply.text, "html.parser"), NEW)["personal.given_name"] == [HOSTILE]
    assert browser.post(NEW, {**ELIGIBLE, "personal.given_name": HOSTILE}).status_code == 303
    page = f"{LIST}/M-001"
    shown = browser.send(f"{page}/personal-data", browser.form(page, f"{page}/personal-data"))
    assert HOSTILE not in shown.text
    assert "&lt;script&gt;" in shown.text


def test_a_double_click_screens_one_person(world):
    browser = world.coordinator()
    fields = {**browser.form(NEW), **ELIGIBLE, **WHO}
    first, second = browser.send(NEW, fields), browser.send(NEW, fields)
    assert first.headers["location"] == second.headers["location"] == f"{LIST}/M-001?done=screened"
    assert world.codes() == ["M-001"]


def test_the_site_is_asked_for_when_there_are_several(world):
    browser = world.browser("investigator", site_code=None)
    assert browser.post(NEW, ELIGIBLE).status_code == 422
    assert browser.post(NEW, {**ELIGIBLE, "screening.site": "south"}).status_code == 303
    assert said(browser.get(f"{LIST}/M-001")).count("south South clinic") >= 1


def test_an_expired_session_keeps_what_was_typed(world):
    browser = world.coordinator()
    fields = {**browser.form(NEW), **ELIGIBLE, **WHO}
    with world.database.writing() as session:
        session.execute(update(SESSION).values(ended_at=SESSION.c.created_at))
    reply = browser.send(NEW, fields)
    assert reply.status_code == 401
    assert "Lovelace" not in reply.text, "what was typed is carried sealed"
    carried = {**form_in(BeautifulSoup(reply.text, "html.parser"), "/sign-in")}
    signing_in = {**carried, "username": [browser.actor.username], "password": [PASSWORD]}
    resumed = browser.send("/sign-in", signing_in)
    assert "Lovelace" in resumed.text
    assert world.codes() == []
    again = form_in(BeautifulSoup(resumed.text, "html.parser"), NEW)
    assert browser.send(NEW, again).status_code == 303
    assert len(world.codes()) == 1


@pytest.mark.requirement("P11-e1")
@pytest.mark.parametrize("cookie", ["ended", "gone"])
def test_what_somebody_typed_is_not_sent_under_the_name_of_another(world, cookie):
    browser, other = world.coordinator(), world.browser("investigator", site_code=None)
    fields = {**browser.form(NEW), **ELIGIBLE, **WHO}
    if cookie == "gone":
        browser.client.cookies.clear()
    else:
        with world.database.writing() as session:
            session.execute(update(SESSION).values(ended_at=SESSION.c.created_at))
    carried = form_in(BeautifulSoup(browser.send(NEW, fields).text, "html.parser"), "/sign-in")
    signing_in = {**carried, "username": [other.actor.username], "password": [PASSWORD]}
    resumed = browser.send("/sign-in", signing_in)
    assert resumed.status_code == 303
    assert "Lovelace" not in resumed.text


def test_without_a_token_of_the_page_nothing_is_kept(world):
    assert world.coordinator().send(NEW, ELIGIBLE).status_code == 403
    assert world.codes() == []


@pytest.mark.parametrize("role", ["assessor", "clinician", "data_manager", "monitor", "statistician"])
def test_others_do_not_screen(world, role):
    browser = world.browser(role)
    assert browser.get(NEW).status_code == 403
    coordinator = world.coordinator()
    fields = {**coordinator.form(NEW), **ELIGIBLE}
    assert browser.send(NEW, fields).status_code == 403
    assert world.codes() == []


# The list


def test_the_list_shows_who_is_at_my_sites(world):
    north, south = world.screened("north"), world.screened("south")
    mine = said(world.coordinator("north").get(LIST))
    assert north.code in mine
    assert south.code not in mine
    assert "AL" in mine
    everywhere = said(world.browser("data_manager").get(LIST))
    assert north.code in everywhere
    assert south.code in everywhere
    assert "Initials" not in everywhere


def test_the_list_is_sorted_filtered_and_its_state_is_in_the_address(world):
    for code in ("north", "south", "north"):
        world.screened(code)
    browser = world.browser("data_manager")

    def codes(query: str) -> list[str]:
        page = browser.soup(f"{LIST}{query}")
        return [cell.get_text() for cell in page.select("tbody th")]

    assert codes("") == ["M-001", "M-002", "M-003"]
    assert codes("?sort=-code") == ["M-003", "M-002", "M-001"]
    assert codes("?sort=site") == ["M-001", "M-003", "M-002"]
    assert codes("?site=south") == ["M-002"]
    assert codes("?status=randomised") == []
    assert codes("?status=nonsense&sort=nonsense&site=nonsense") == ["M-001", "M-002", "M-003"]
    assert codes("?find=M-00") == ["M-001", "M-002", "M-003"]
    assert browser.get(f"{LIST}?find=%00").status_code == 422
    assert codes(f"?find={HOSTILE}") == []
    assert HOSTILE not in browser.get(f"{LIST}?find={HOSTILE}").text
    assert browser.get(f"{LIST}?after=nonsense").status_code == 422


def test_the_chosen_site_stays_chosen(world):
    world.screened("north")
    world.screened("south")
    browser = world.browser("data_manager")
    chosen = browser.post("/mini/site", {"site": "south", "back": LIST}, page=LIST)
    assert chosen.headers["location"] == LIST
    assert [cell.get_text() for cell in browser.soup(LIST).select("tbody th")] == ["M-002"]
    assert len(browser.soup(f"{LIST}?site=all").select("tbody th")) == 2
    browser.post("/mini/site", {"site": "", "back": "https://elsewhere.example"}, page=LIST)
    assert len(browser.soup(LIST).select("tbody th")) == 2


def test_a_whole_code_or_its_number_leads_straight_to_the_participant(world):
    world.screened("north")
    world.screened("south")
    browser = world.coordinator("north")
    for typed in ("M-001", "m-001", "1", "001", " M-001 "):
        assert browser.get(LIST, params={"find": typed}).headers["location"] == f"{LIST}/M-001"
    elsewhere = browser.get(LIST, params={"find": "M-002"})
    assert elsewhere.status_code == 200
    assert "Nobody fits these filters" in elsewhere.text


def test_the_list_as_a_file_has_every_row_of_the_filter_and_no_initials(world):
    world.consented("north")
    world.screened("south")
    browser = world.browser("data_manager")
    reply = browser.get(f"{LIST}?format=csv")
    lines = reply.text.lstrip("\ufeff").splitlines()
    assert reply.headers["content-type"].startswith("text/csv")
    assert lines[0].startswith("participant,site,status,screened_on,next_visit")
    assert lines[1].startswith(f"M-001,north,consented,{world.today()},baseline,")
    assert [line[:5] for line in lines[1:]] == ["M-001", "M-002"]
    assert "AL" not in reply.text
    assert len(browser.get(f"{LIST}?format=csv&site=south").text.splitlines()) == 2


def test_a_long_list_is_paged_both_ways(world):
    for _ in range(52):
        world.screened()
    browser = world.coordinator()
    page = browser.soup(LIST)
    assert len(page.select("tbody th")) == 50
    older = str(page.select_one("a[rel=next]")["href"])
    second = browser.soup(older)
    assert [cell.get_text() for cell in second.select("tbody th")] == ["M-051", "M-052"]
    back = browser.soup(str(second.select_one("a[rel=prev]")["href"]))
    assert back.select("tbody th")[0].get_text() == "M-001"
    assert len(browser.get(f"{LIST}?format=csv").text.splitlines()) == 53


def test_an_empty_list_says_what_to_do_next(world):
    words = said(world.coordinator().get(LIST))
    assert "Nobody has been screened yet" in words
    assert "Screen somebody" in words
    assert "Screen somebody" not in said(world.browser("monitor").get(LIST))


def test_the_statistician_has_no_list(world):
    world.screened()
    browser = world.browser("statistician")
    assert browser.get(LIST).status_code == 403
    assert browser.get(f"{LIST}/M-001").status_code == 404


# One participant


def test_the_next_step_is_the_primary_button(world):
    participant = world.screened()
    browser = world.coordinator()
    page = f"{LIST}/{participant.code}"

    def primary() -> str:
        found = browser.soup(page).select_one(".page-actions .button-primary")
        return f"{found.get_text(strip=True)} {found.get('href', '')}"

    assert primary() == f"Record consent {page}/consent"
    with world.database.writing() as session:
        world._consent(session, participant, world.coordinators["north"], countersigned=True)
    assert primary() == f"Fill in Pain {page}/visits/baseline/entries/pain"
    shown = said(browser.get(page))
    assert "Still to complete at baseline: Pain." in shown
    assert "0 of 1 entries" in shown
    world.filled(code=participant.code)
    assert primary() == f"Randomise M-001 {page}/randomise"


def test_a_pending_consent_is_countersigned_next(world):
    participant = world.consented(countersigned=False)
    browser = world.coordinator()
    button = browser.soup(f"{LIST}/{participant.code}").select_one(".page-actions .button-primary")
    assert "Countersign consent" in button.get_text()
    assert browser.get(str(button["href"])).status_code == 200


def test_a_button_that_cannot_be_pressed_says_why(world):
    world.consented()
    shown = world.browser("data_manager").soup(f"{LIST}/M-001")
    assert shown.select_one(".page-actions button[aria-disabled]") is not None
    assert "This needs the role assessor or coordinator" in shown.get_text(" ", strip=True)


def test_the_matrix_marks_every_entry_and_leads_to_it(world):
    world.filled()
    page = world.coordinator().soup(f"{LIST}/M-001")
    cells = page.select(".matrix tbody tr:first-child td")
    assert cells[0].select_one("a")["href"] == f"{LIST}/M-001/visits/baseline/entries/pain"
    assert "Complete" in cells[0].get_text()
    assert "Planned" in cells[1].get_text()
    assert page.select_one(".matrix thead a")["href"] == f"{LIST}/M-001/visits/baseline"


def test_those_who_treat_see_no_entries(world):
    world.filled()
    page = world.browser("clinician").soup(f"{LIST}/M-001")
    assert page.select_one(".matrix") is None
    words = page.get_text(" ", strip=True)
    assert "Recent changes" not in words
    assert "Show personal data" not in words
    assert "Eligible on every criterion" not in words


def test_recent_changes_are_for_the_coordinator_and_readers_of_the_log(world):
    world.filled()
    for role in ("coordinator", "investigator", "data_manager", "monitor"):
        assert "Recent changes" in world.browser(role).get(f"{LIST}/M-001").text
    assert "Recent changes" not in world.browser("assessor").get(f"{LIST}/M-001").text


@pytest.mark.parametrize("code", ["M-999", "m-001", "M-002", "<script>"])
def test_who_is_not_mine_to_know_is_not_found(world, code):
    world.screened("north")
    world.screened("south")
    assert world.coordinator("north").get(f"{LIST}/{code}").status_code == 404


def test_somebody_without_a_role_here_finds_no_study(world):
    from tests.factories import person

    world.screened()
    with world.database.writing() as session:
        stranger = person(session, None, username="stranger")
    from tests.web.browser import signed_in_client

    browser = signed_in_client(world.database, stranger)
    for path in (LIST, f"{LIST}/M-001", "/mini", "/mini/today", "/mini/audit", "/mini/study"):
        assert browser.get(path).status_code == 404, path
    assert anonymous_client(world.database).get(LIST, follow_redirects=False).status_code == 303


# Personal data


def test_personal_data_are_shown_on_request_and_written_down(world):
    world.screened()
    browser = world.coordinator()
    page = f"{LIST}/M-001"
    assert "Lovelace" not in browser.get(page).text
    fields = browser.form(page, f"{page}/personal-data")
    for _ in range(2):  # looking again is possible, and written down again
        assert "Lovelace" in browser.send(f"{page}/personal-data", fields).text
    assert world.log().count("identity.shown") == 2
    block = browser.send(
        f"{page}/personal-data", fields, headers={"HX-Request": "true", "HX-Target": "section#personal"}
    )
    assert "<html" not in block.text
    assert "Lovelace" in block.text


@pytest.mark.requirement("EMA-12", "GDPR-1")
@pytest.mark.parametrize("role", ["assessor", "clinician", "data_manager", "monitor"])
def test_others_learn_nobodys_name(world, role):
    world.screened()
    browser = world.browser(role)
    page = f"{LIST}/M-001"
    assert "Lovelace" not in browser.get(page).text
    token = browser.soup(page).select_one("meta[name=csrf-token]")["content"]
    refused = browser.send(f"{page}/personal-data", {"csrf_token": token})
    assert refused.status_code == 403
    assert "Lovelace" not in refused.text
    assert browser.get(f"{page}/identity").status_code == 403
    assert "identity.shown" not in world.log()


def test_personal_data_are_changed_with_a_reason(world):
    world.screened()
    browser = world.coordinator()
    page = f"{LIST}/M-001/identity"
    fields = browser.form(page)
    assert fields["family_name"] == ["Lovelace"]
    lacking = browser.send(page, {**fields, "family_name": "King"})
    assert lacking.status_code == 422
    assert "Say why the details change." in lacking.text
    again = form_in(BeautifulSoup(lacking.text, "html.parser"), page)
    assert again["family_name"] == ["King"]
    done = browser.send(page, {**again, "why": "Married"})
    assert done.headers["location"] == f"{LIST}/M-001?done=identity_changed"
    assert browser.form(page)["family_name"] == ["King"]


def test_a_change_upon_a_stale_page_shows_both_and_loses_nothing(world):
    world.screened()
    one, other = world.coordinator(), world.coordinator()
    page = f"{LIST}/M-001/identity"
    stale = other.form(page)
    assert one.post(page, {"phone": "111", "why": "New number"}).status_code == 303
    reply = other.send(page, {**stale, "phone": "222", "why": "Another number"})
    assert reply.status_code == 409
    assert "Kept now: 111" in reply.text
    fields = form_in(BeautifulSoup(reply.text, "html.parser"), page)
    assert (fields["phone"], fields["why"], fields["version"]) == (["222"], ["Another number"], ["2"])
    assert other.send(page, fields).status_code == 303
    assert one.form(page)["phone"] == ["222"]


@pytest.mark.parametrize("version", ["", "x", "-1", "9" * 30])
def test_a_version_that_was_tampered_with_changes_nothing(world, version):
    world.screened()
    browser = world.coordinator()
    reply = browser.post(f"{LIST}/M-001/identity", {"phone": "1234", "why": "x", "version": version})
    assert reply.status_code == 409


# Withdrawal


def withdrawal(world: World, **changes: str) -> dict[str, str]:
    return {"level": "visits", "on": str(world.today()), "why": "Moved away", "password": PASSWORD, **changes}


def test_a_withdrawal_stops_what_is_still_due(world):
    world.consented()
    browser = world.coordinator()
    page = f"{LIST}/M-001/withdraw"
    offered = [str(each["value"]) for each in browser.soup(page).select("input[name=level]")]
    assert offered == ["visits"], "before randomisation there is no treatment to stop and visits to go on with"
    reply = browser.post(page, withdrawal(world))
    assert reply.headers["location"] == f"{LIST}/M-001?done=withdrawn"
    assert world.found("M-001").status == "withdrawn"
    with world.database.reading() as session:
        assert {row["status"] for row in session.execute(VISIT.select()).mappings()} == {"stopped"}
    shown = said(browser.get(f"{LIST}/M-001"))
    assert "Stops visits. Reason: Moved away" in shown
    assert "Nothing new is added" not in browser.get(page).text or "This participant has withdrawn" in shown


def test_consent_can_be_withdrawn_with_it(world):
    world.consented()
    browser = world.coordinator()
    assert browser.post(f"{LIST}/M-001/withdraw", withdrawal(world, consent="yes")).status_code == 303
    assert {"participant.withdrawn", "visit.stopped", "consent.withdrawn"} <= set(world.log())


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"level": ""}, "Choose how far the participant withdraws."),
        ({"level": "<script>"}, "Choose how far the participant withdraws."),
        ({"why": " "}, "Write the reason, or that none was given."),
        ({"why": "x" * 1001}, "Shorten the reason to 1000 characters."),
        ({"on": "yesterday"}, "Write the date as year-month-day, such as 2026-03-14."),
        ({"on": "2020-01-01"}, "This day is too early"),
        ({"on": "2099-01-01"}, "This day has not come yet"),
        ({"password": "wrong"}, "password"),
        ({"password": ""}, "password"),
    ],
)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_withdrawal_that_cannot_be_kept_is_shown_again(world, typed, words):
    world.consented()
    browser = world.coordinator()
    page = f"{LIST}/M-001/withdraw"
    reply = browser.post(page, withdrawal(world, **typed))
    assert reply.status_code == 422
    assert words in said(reply)
    summary = BeautifulSoup(reply.text, "html.parser").select_one("[data-error-summary]")
    assert summary is not None, "a telephone shows the top of the page"
    assert words in summary.get_text(" ", strip=True)
    assert PASSWORD not in reply.text
    fields = form_in(BeautifulSoup(reply.text, "html.parser"), page)
    if "why" not in typed:
        assert fields["why"] == ["Moved away"]
    if "level" not in typed:
        assert fields["level"] == ["visits"]
    assert world.found("M-001").status == "consented"
    assert "visit.stopped" not in world.log()


def test_a_second_withdrawal_is_refused_with_the_reason(world):
    world.consented()
    browser = world.coordinator()
    page = f"{LIST}/M-001/withdraw"
    fields = {**browser.form(page), **withdrawal(world)}
    assert browser.send(page, fields).status_code == 303
    assert browser.send(page, fields).status_code == 303  # the same click again
    refused = browser.send(page, {**fields, "idempotency_key": "again"})
    assert refused.status_code in (303, 409)
    assert "recorded already" in said(browser.get(page))
    assert world.log().count("participant.withdrawn") == 1


def test_a_withdrawal_by_mistake_is_taken_back_and_its_visits_are_due_again(world):
    world.consented()
    browser = world.coordinator()
    page = f"{LIST}/M-001/withdrawal-taken-back"
    assert "No withdrawal is recorded" in said(browser.get(page))
    assert browser.post(f"{LIST}/M-001/withdraw", withdrawal(world)).status_code == 303
    assert page in {each["href"] for each in browser.soup(f"{LIST}/M-001").select("a[href]")}
    assert browser.post(page, {"why": " ", "password": PASSWORD}).status_code == 422
    assert world.found("M-001").status == "withdrawn"
    done = browser.post(page, {"why": "Recorded for the wrong one", "password": PASSWORD})
    assert done.headers["location"] == f"{LIST}/M-001?done=withdrawal_taken_back"
    found = world.found("M-001")
    assert (found.status, found.withdrawal_level, found.left_on) == ("consented", None, None)
    with world.database.reading() as session:
        assert {row["status"] for row in session.execute(VISIT.select()).mappings()} == {"planned"}
    assert "participant.withdrawal_taken_back" in world.log()


def test_who_left_is_erased_by_a_door_of_its_own_and_the_page_says_so(world):
    world.consented()
    browser = world.coordinator()
    page = f"{LIST}/M-001/erase"
    assert "takes part, so the site must be able to reach them" in said(browser.get(page))
    assert browser.post(f"{LIST}/M-001/withdraw", withdrawal(world)).status_code == 303
    assert page in {each["href"] for each in browser.soup(f"{LIST}/M-001").select("a[href]")}
    assert "This cannot be undone." in said(browser.get(page))
    for wrong in ({"why": "", "password": PASSWORD}, {"why": "Asked for it", "password": "wrong"}):
        assert browser.post(page, wrong).status_code == 422
    assert "identity.erased" not in world.log()
    done = browser.post(page, {"why": "Asked for it in writing", "password": PASSWORD})
    assert done.headers["location"] == f"{LIST}/M-001?done=erased"
    assert "identity.erased" in world.log()
    shown = browser.soup(f"{LIST}/M-001")
    assert "The personal data were erased, for good." in shown.get_text(" ", strip=True)
    assert shown.select_one(f"form[action='{LIST}/M-001/personal-data']") is None
    assert "erased already" in said(browser.get(page))
    assert "cannot be undone" in said(browser.get(f"{LIST}/M-001/withdrawal-taken-back"))


def test_nothing_is_booked_for_who_left_and_the_page_says_what_to_do_instead(world):
    world.consented()
    browser = world.coordinator()
    reply = browser.post(f"{LIST}/M-001/withdraw", withdrawal(world))
    assert reply.status_code == 303
    assert f"{LIST}/M-001/appointments/new" not in {
        each["href"] for each in browser.soup(f"{LIST}/M-001").select("a[href]")
    }
    booking = said(browser.get(f"{LIST}/M-001/appointments/new"))
    assert "This participant withdrew on" in booking
    assert "Write down a contact instead" in booking


@pytest.mark.parametrize(("role", "site_code", "status"), [("assessor", "north", 403), ("coordinator", "south", 404)])
def test_others_do_not_withdraw(world, role, site_code, status):
    world.consented("north")
    browser = world.browser(role, site_code=site_code)
    assert browser.get(f"{LIST}/M-001/withdraw").status_code == status
    token = browser.soup(LIST).select_one("meta[name=csrf-token]")["content"]
    reply = browser.send(f"{LIST}/M-001/withdraw", {**withdrawal(world), "csrf_token": token})
    assert reply.status_code == status
    assert world.found("M-001").status == "consented"


def test_who_declines_after_the_pre_screen_is_a_screen_failure_with_its_reason(world):
    world.consented()
    browser = world.coordinator()
    page = f"{LIST}/M-001/not-taking-part"
    assert page in {each["href"] for each in browser.soup(f"{LIST}/M-001").select("a[href]")}
    lacking = browser.post(page, {"why": "Found a job"})
    assert lacking.status_code == 422
    assert "Choose one of the reasons for not taking part." in said(lacking)
    assert "Found a job" in said(lacking)
    fields = {**browser.form(page), "reason": "declined", "why": "Found a job"}
    for _ in range(2):  # the same click again
        assert browser.send(page, fields).headers["location"] == f"{LIST}/M-001?done=screen_failed"
    assert world.found("M-001").status == "screen_failed"
    assert world.log().count("participant.screen_failed") == 1
    with world.database.reading() as session:
        assert {row["status"] for row in session.execute(VISIT.select()).mappings()} == {"stopped"}
    shown = browser.soup(f"{LIST}/M-001")
    assert "Declined" in shown.get_text(" ", strip=True)
    assert page not in {each["href"] for each in shown.select("a[href]")}
    assert "did not pass screening" in said(browser.get(page))
    refused = browser.send(page, {**fields, "idempotency_key": "again"})
    assert refused.status_code in (303, 409)


FIND = f"{LIST}/find"


def test_whoever_calls_is_found_by_name(world):
    world.screened()
    world.screened("south")
    browser = world.coordinator()
    assert FIND in {each["href"] for each in browser.soup(LIST).select("a[href]")}
    asked = browser.soup(f"{LIST}?find=lovelace")  # typed into the search of the header: no code begins so
    assert form_in(asked, FIND)["text"] == ["lovelace"]
    assert "identity.shown" not in world.log()
    for _ in range(2):  # looking again is no change
        reply = browser.post(FIND, {"text": "lovelace"})
        shown = BeautifulSoup(reply.text, "html.parser")
        assert [each["href"] for each in shown.select("#found th a")] == [f"{LIST}/M-001"]
    assert world.log().count("identity.shown") == 2
    assert "Nobody at your sites fits" in said(browser.post(FIND, {"text": "Curie"}))
    lacking = browser.post(FIND, {"text": HOSTILE[:1]})
    assert lacking.status_code == 422
    assert "Type two letters of a name or more." in said(lacking)
    monitor = world.browser("monitor", site_code=None)
    assert monitor.get(FIND).status_code == 403
    assert FIND not in {each["href"] for each in monitor.soup(LIST).select("a[href]")}
    assert "Nobody fits these filters" in said(monitor.get(f"{LIST}?find=lovelace"))


@pytest.mark.requirement("CON-F2")
def test_nobody_is_screened_twice_unawares(world):
    world.screened()
    browser = world.coordinator()
    again = {**ELIGIBLE, "personal.given_name": "ADA", "personal.family_name": "Lovelace"}
    asked = browser.post(NEW, again)
    assert "Is this person here already?" in said(asked)
    shown = BeautifulSoup(asked.text, "html.parser")
    assert [each["href"] for each in shown.select("th a")] == [f"{LIST}/M-001"]
    assert "Given name, Family name" in shown.get_text(" ", strip=True)
    assert world.codes() == ["M-001"]
    assert world.log()[-1] == "identity.shown"
    fields = {**form_in(shown, NEW), "screening.step": "another"}
    corrected = browser.send(NEW, {**fields, "screening.step": "correct"})
    assert form_in(BeautifulSoup(corrected.text, "html.parser"), NEW)["personal.given_name"] == ["ADA"]
    assert browser.send(NEW, fields).headers["location"] == f"{LIST}/M-002?done=screened"
    fails = browser.post(NEW, {**again, "age": "12", "personal.given_name": "Ida"})  # nobody is called so
    assert "This person is not eligible" in said(fails)


# Small enough


def test_no_page_asks_the_database_more_than_twelve_times(database: Database):
    world = World(database)
    for _ in range(3):
        world.filled()
    browser = world.browser("coordinator", "investigator")
    page = f"{LIST}/M-001"
    for path in (LIST, f"{LIST}?find=M-0", f"{LIST}?format=csv", page, f"{page}/withdraw", f"{page}/identity", NEW):
        with counted_statements(database) as statements:
            assert browser.get(path).status_code == 200
        assert 2 <= len(statements) <= 12, (path, statements)


def late(session: Session) -> None:
    """Move every planned visit into the past."""
    rows = session.execute(VISIT.select()).mappings().all()
    for row in rows:
        moved = {name: row[name] - timedelta(days=60) for name in ("target_on", "opens_on", "closes_on")}
        session.execute(update(VISIT).where(VISIT.c.id == row["id"]).values(**moved))


def test_a_late_visit_is_said_in_the_title_of_the_timeline(world):
    world.consented()
    with world.database.writing() as session:
        late(session)
    words = said(world.coordinator().get(f"{LIST}/M-001"))
    assert "Baseline is late" in words
    assert "46 days late" in said(world.coordinator().get(LIST))


def test_somebody_unnamed_has_no_initials(world):
    from app.participants.rules import PersonalData

    world.screened(personal=PersonalData())
    world.screened(personal=NAMED)
    page = world.coordinator().soup(LIST)
    assert [row.select("td")[0].get_text() for row in page.select("tbody tr")] == ["", "AL"]


@pytest.mark.requirement("EMA-12", "P11-b")
def test_whoever_inspects_reads_everything_but_who_somebody_is_and_changes_nothing(world):
    world.filled()
    failed = world.coordinator()
    kept = form_in(BeautifulSoup(failed.post(NEW, {**ELIGIBLE, **WHO, "age": "17"}).text, "html.parser"), NEW)
    answer = {**kept, "screening.step": "keep", "screening.failure_reason": "not_eligible"}
    assert failed.send(NEW, answer).status_code == 303
    monitor = world.browser("monitor")
    entry = f"{LIST}/M-001/visits/baseline/entries/pain"
    pages = {
        page: said(monitor.get(page))
        for page in (LIST, f"{LIST}/M-001", f"{LIST}/M-002", f"{entry}/record", f"{entry}/history/pain_nrs")
    } | {page: monitor.get(page).text for page in ("/mini/audit", "/mini/audit.csv")}
    assert "M-002" in pages[LIST]
    assert "Screen failure: Does not meet the criteria" in pages[f"{LIST}/M-002"]
    assert "M-002" in pages["/mini/audit.csv"]
    assert "Entered" in pages[f"{entry}/history/pain_nrs"]
    assert not [page for page, text in pages.items() if "Lovelace" in text or "1980-12-10" in text]
    before = world.log()
    token = monitor.soup(LIST).select_one("meta[name=csrf-token]")["content"]
    refused = monitor.send(entry, {"csrf_token": token, "pain_nrs": "1", "form-why": "x"})
    assert refused.status_code in (403, 404)
    assert [each for each in world.log()[len(before) :] if not each.endswith("_refused")] == []
