"""The administrator's pages: nobody gets in as somebody else through them, and a lost phone can be mended."""

import re

import pyotp
import pytest
from bs4 import BeautifulSoup
from sqlalchemy import select, text, update

from app.audit import software
from app.audit.actions import ENTRY
from app.foundation import clock
from app.foundation.crypto.secrets import hash_password
from app.foundation.database import Database
from app.mail.actions import MAIL, text_of
from app.mail.models import OutboxMail
from app.people import actions, reads
from app.people.actions import persons, proving
from app.people.reads import MEMBERSHIP, PERSON, SESSION, TOKEN
from tests.api.client import ApiClient
from tests.conftest import KEYS
from tests.web.browser import PASSWORD, Browser, anonymous_client, form_in, signed_in_client
from tests.web.world import World

NEW = "walnut ladder seventeen"


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


@pytest.fixture
def administrator(world: World) -> Browser:
    from tests.factories import person

    with world.database.writing() as session:
        actor = person(session, None, "administrator", username="ada")
    return signed_in_client(world.database, actor)


def _rows(world: World, *columns):
    with world.database.reading() as session:
        return session.execute(select(*columns)).all()


def _logged(world: World, action: str):
    with world.database.reading() as session:
        return session.execute(select(ENTRY.c.item, ENTRY.c.why).where(ENTRY.c.action == action)).all()


def _mails(world) -> list[OutboxMail]:
    return [OutboxMail(**row._mapping) for row in _rows(world, MAIL)]


def _link_in(body: str) -> str:
    return body.split("/welcome/")[1].split()[0]


def _send(browser: Browser, person_id: int, path: str, **fields):
    sent = {**browser.form(f"/people/{person_id}", f"/people/{person_id}/{path}"), **fields}
    return browser.send(f"/people/{person_id}/{path}", sent)


@pytest.mark.requirement("P11-200a3", "SEC-30")
@pytest.mark.parametrize("taken_away", [False, True])
def test_the_link_of_somebody_who_was_in_goes_to_them_and_is_never_shown(world, administrator, taken_away):
    actor = world.person("statistician", site_code=None)
    signed_in_client(world.database, actor)
    if taken_away:  # by resetting or activating, so that they look as if they had never been in
        with world.database.writing() as session:
            session.execute(update(PERSON).where(PERSON.c.id == actor.person_id).values(password_hash=None))
    reply = _send(administrator, actor.person_id, "invite")
    assert reply.status_code == 303
    assert "/welcome/" not in reply.text + administrator.get(reply.headers["location"]).text
    (mail,) = _mails(world)
    link = _link_in(text_of(KEYS, mail))
    assert link not in str(vars(mail))  # nobody signs in with what the database holds
    with world.database.writing() as session:
        invited = reads.invited_person(session, link, now=clock.now())
        assert invited == reads.person_by_id(session, actor.person_id)
        assert invited is not None
        assert mail.to_address == invited.email
    assert [row.item for row in _logged(world, "invitation.created")] == ["mailed"]


@pytest.mark.requirement("P11-200a3")
def test_the_first_link_is_shown_once(world, administrator):
    actor = world.person("coordinator")
    reply = _send(administrator, actor.person_id, "invite")
    assert reply.status_code == 200
    assert "/welcome/" in reply.text
    assert _rows(world, MAIL.c.id) == []
    assert [row.item for row in _logged(world, "invitation.created")] == ["shown"]


@pytest.mark.requirement("SEC-19", "P11-g")
@pytest.mark.parametrize(
    "place", ["mini/no-such-site", "mini/", "mini/north/x", "nothing", "nothing/north", "/north", ""]
)
def test_a_place_that_is_not_there_is_no_role_at_all(world, administrator, place):
    actor = world.person("coordinator")
    before = len(_rows(world, MEMBERSHIP.c.id))
    reply = _send(administrator, actor.person_id, "roles", role="monitor", place=place)
    assert reply.status_code == 409
    assert len(_rows(world, MEMBERSHIP.c.id)) == before


def test_a_role_is_given_for_a_whole_study_or_one_site(world, administrator):
    actor = world.person("monitor", site_code=None)
    assert _send(administrator, actor.person_id, "roles", role="data_manager", place="mini").status_code == 303
    both = {"role": "assessor", "place": "mini/north"}
    assert _send(administrator, actor.person_id, "roles", **both).status_code == 409
    assert _send(administrator, actor.person_id, "roles", **both, why_both="Nobody else is there.").status_code == 303


def _enrolled(world: World, actor) -> str:
    by, now = actor, clock.now()
    with world.database.writing() as session:
        enrolment = actions.enrol_second_factor_start(session, by=by, now=now)
        code = pyotp.TOTP(enrolment.secret).at(now)
        assert actions.enrol_second_factor_confirm(session, enrolment.pending, code, by=by, now=now) is None
    return enrolment.secret


@pytest.mark.requirement("P11-300c", "SEC-30")
def test_a_lost_phone_is_mended(world, administrator):
    actor = world.person("assessor")
    _enrolled(world, actor)
    browser = signed_in_client(world.database, actor)
    for fields, status in (
        ({"why": "", "password": PASSWORD}, 422),
        ({"why": "Phone lost", "password": "wrong"}, 422),
    ):
        refused = _send(administrator, actor.person_id, "second-factor/reset", **fields)
        assert refused.status_code == status
        assert fields["why"] in refused.text
    assert browser.get("/account").status_code == 200
    fields = {"why": "Phone lost; seen in person", "password": PASSWORD}
    assert _send(administrator, actor.person_id, "second-factor/reset", **fields).status_code == 303
    assert browser.get("/account").status_code == 303  # signed out
    assert [row.why for row in _logged(world, "second_factor.removed")] == ["Phone lost; seen in person"]
    path = "/welcome/" + next(_link_in(text_of(KEYS, mail)) for mail in _mails(world) if "/welcome/" in mail.body)
    client = anonymous_client(world.database)
    assert client.get(path).status_code == 200
    chosen = {"new_password": NEW, "new_password_again": NEW}
    kept = client.post(path, data=chosen, follow_redirects=False)
    assert kept.status_code == 303
    assert "Your password is kept. Sign in with it." in client.get(kept.headers["location"]).text
    assert "Your password is kept" not in client.get("/sign-in").text
    sent = {"username": actor.username, "password": NEW}
    assert client.post("/sign-in", data=sent, follow_redirects=False).status_code == 303


def test_a_role_that_is_refused_stays_chosen(world, administrator):
    person_id = world.person("assessor").person_id
    refused = _send(administrator, person_id, "roles", role="monitor", place="")
    assert refused.status_code == 409
    chosen = BeautifulSoup(refused.text, "html.parser").select_one("select[name=role] option[selected]")
    assert chosen is not None
    assert chosen["value"] == "monitor"


@pytest.mark.requirement("SEC-34", "P11-300c")
def test_somebody_is_signed_out_everywhere_and_comes_back(world, administrator):
    actor = world.person("assessor")
    browser = signed_in_client(world.database, actor)
    wrong = _send(administrator, actor.person_id, "sessions/end", why="Laptop stolen", password="wrong")
    assert (wrong.status_code, browser.get("/account").status_code) == (422, 200)
    ended = _send(administrator, actor.person_id, "sessions/end", why="Laptop stolen", password=PASSWORD)
    assert (ended.status_code, browser.get("/account").status_code) == (303, 303)
    assert [row.why for row in _logged(world, "session.ended")] == ["Laptop stolen"]
    assert _send(administrator, actor.person_id, "deactivate", why="Left").status_code == 303
    back = _send(administrator, actor.person_id, "activate", why="Came back", password=PASSWORD)
    assert back.status_code == 303
    assert [row.why for row in _logged(world, "person.activated")] == ["Came back"]
    assert _send(administrator, actor.person_id, "invite").status_code == 303  # by mail: they were in before


@pytest.mark.requirement("SEC-34")
def test_one_ends_every_other_session_of_ones_own(world):
    actor = world.person("assessor")
    here, there = (signed_in_client(world.database, actor) for _ in range(2))
    sent = here.form("/account", "/account/sessions/end")
    assert here.send("/account/sessions/end", {**sent, "password": "wrong"}).status_code == 422
    assert there.get("/account").status_code == 200
    assert here.send("/account/sessions/end", {**sent, "password": PASSWORD}).status_code == 303
    assert (here.get("/account").status_code, there.get("/account").status_code) == (200, 303)
    assert len(_rows(world, SESSION.c.token_hash)) == 2


@pytest.mark.parametrize("words", ["en This session", "de Diese Sitzung", "es Esta sesión"])
def test_the_session_one_reads_in_is_called_so(world, words):
    language, _, called = words.partition(" ")
    actor = world.person("assessor")
    here, _ = (signed_in_client(world.database, actor) for _ in range(2))
    here.client.headers["Accept-Language"] = language
    badges = [each.get_text() for each in here.soup("/account").select("tbody th .badge")]
    assert badges == [called]


@pytest.mark.requirement("SEC-22")
def test_one_makes_a_token_for_a_client_of_the_redcap_compatible_api(world):
    here = signed_in_client(world.database, world.person("data_manager", site_code=None))
    page = here.soup("/account")
    assert [link["href"] for link in page.select(".nav a, nav a") if link["href"] == "/"], "the way back to the study"
    assert [head.get_text() for head in page.select("#tokens h2")] == ["Tokens for programs"]
    sent = here.form("/account", "/account/tokens")
    shown = []
    for more in ({}, {"redcap": "yes"}):
        made = here.send("/account/tokens", {**sent, "name": "R", "scope": "study.read", "password": PASSWORD, **more})
        shown.append(re.findall(r'<p class="code"><code>([^<]+)</code>', made.text))
    assert [len(token) for (token,) in shown] == [47, 32]
    reply = here.client.post("/api/", data={"token": shown[1][0], "content": "version"})
    assert reply.text == "16.0.8"


@pytest.mark.requirement("SEC-22")
def test_the_scopes_of_a_token_are_chosen_and_listed_in_words(world):
    here = signed_in_client(world.database, world.person("data_manager", site_code=None))
    page = here.soup("/account")
    labels = {label: label.select_one("input[name=scope]") for label in page.select("label")}
    boxes = {str(box["value"]): label.get_text(" ", strip=True) for label, box in labels.items() if box}
    assert boxes["export.run"] == "Run exports export.run"
    assert all(code in said and said != code for code, said in boxes.items())
    assert [each["value"] for each in page.select("button[name=preset]")] == ["read", "export", "import", "all"]
    choose = "/account/tokens/scopes"
    sent = {**here.form("/account", "/account/tokens"), "name": "Nightly", "password": PASSWORD, "site": "mini/south"}
    replies = {}
    for preset in ("export", "all"):
        whole = here.send(choose, {**sent, "preset": preset})
        assert (whole.status_code, PASSWORD in whole.text) == (200, False)
        replies[preset] = BeautifulSoup(whole.text, "html.parser")
    chosen = form_in(replies["export"], "/account/tokens")
    assert sorted(chosen["scope"]) == ["export.run", "study.read"]
    assert (chosen["name"], chosen["site"]) == (["Nightly"], ["mini/south"]), "what was typed stays"
    assert sorted(form_in(replies["all"], "/account/tokens")["scope"]) == sorted(boxes)
    block = here.send(choose, {**sent, "preset": "read"}, headers={"HX-Request": "true", "HX-Target": "div#scopes"})
    assert block.text.lstrip().startswith('<p class="hint"')
    assert "participant.read" in [
        each["value"] for each in BeautifulSoup(block.text, "html.parser").select("input[checked]")
    ]
    assert here.send(choose, {**sent, "preset": "none"}).status_code == 404
    assert _rows(world, TOKEN.c.id) == [], "nothing is kept"

    for name, scopes in (("Nightly", chosen["scope"]), ("All", sorted(boxes)), ("Some", sorted(boxes)[:5])):
        made = here.send("/account/tokens", {**sent, "site": [], "name": name, "scope": scopes})
        assert "Your new token" in made.text, name
    rows = {
        row.select("th")[0].get_text(strip=True): row.select("td")[2].get_text(" ", strip=True)
        for row in here.soup("/account").select("#tokens tbody tr")
    }
    assert rows["Nightly"] == "Run exports, Read what the study says"
    assert rows["All"].startswith("Everything I may")
    assert rows["Some"].startswith("5 permissions")
    assert "export.run" not in " ".join(rows.values())
    german = here.get("/account", headers={"Accept-Language": "de"}).text
    assert "Exporte ausführen, Lesen, was die Studie sagt" in german
    assert "Nur lesen" in german


@pytest.mark.requirement("SEC-22", "SEC-32")
def test_a_token_is_limited_to_a_site_in_both_apis(world):
    north, south = (world.screened(code).code for code in ("north", "south"))
    actor = world.person("data_manager", site_code=None)
    here = signed_in_client(world.database, actor)
    scopes = ["participant.read", "export.run", "audit.read"]
    said = {"name": "R", "password": PASSWORD, "redcap": "yes", "scope": scopes}
    sent = {**here.form("/account", "/account/tokens"), **said}
    wrong = here.send("/account/tokens", {**sent, "site": "other/north"})
    assert (wrong.status_code, "Choose among the sites" in wrong.text) == (422, True)
    made = here.send("/account/tokens", {**sent, "site": "mini/south"})
    (text,) = re.findall(r'<p class="code"><code>([^<]+)</code>', made.text)
    (row,) = here.soup("/account").select("#tokens tbody tr")
    assert [cell.get_text() for cell in row.find_all(["th", "td"])][:3] == ["R", "mini", "South clinic"]
    client = ApiClient(here.client, actor, "mini", text)
    itself = client.done("GET", "/token")
    assert (itself["name"], itself["sites"], itself["owner"]) == ("R", ["south"], actor.username)
    assert [each["code"] for each in client.done("GET", "/participants")["items"]] == [south]
    client.refused(404, "GET", f"/participants/{north}")
    taken = client.get("/exports/participants.csv").text + client.get("/audit", params={"limit": 500}).text
    taken += here.client.post("/api/", data={"token": text, "content": "record", "format": "json"}).text
    assert (taken.count(south) > 3, north in taken) == (True, False)


@pytest.mark.requirement("SEC-19", "P11-d")
def test_an_administrator_makes_a_token_that_writes_studies_and_reads_no_data(world, administrator):
    code = world.screened().code
    sent = {**administrator.form("/account", "/account/tokens"), "name": "CI", "password": PASSWORD, "study": "mini"}
    assert administrator.send("/account/tokens", {**sent, "scope": "participant.read"}).status_code == 422
    made = administrator.send("/account/tokens", {**sent, "scope": ["study.load", "study.read", "audit.verify"]})
    (text,) = re.findall(r'<p class="code"><code>([^<]+)</code>', made.text)
    client = ApiClient(administrator.client, world.coordinators["north"], "mini", text)
    number = client.done("POST", "/drafts", {"name": "By a program", "files": {"study.yaml": "code: mini\n"}})["number"]
    assert client.done("GET", f"/drafts/{number}")["files"][0]["path"] == "study.yaml"
    assert client.done("POST", "/audit/verification")["intact"]
    for path in ("/participants", f"/participants/{code}", "/audit", "/exports/participants.csv", "/queries"):
        assert client.get(path).status_code in (403, 404), path


@pytest.mark.requirement("SEC-22", "SEC-27")
def test_a_study_that_asks_for_a_second_factor_binds_tokens_too(database):
    from tests.api.client import api_client

    world = World(database, second_factor="required")
    actor = world.person("data_manager", site_code=None)
    client = api_client(database, actor)
    refused = client.refused(403, "GET", "/participants")
    assert "second factor" in refused["detail"]
    _enrolled(world, actor)
    client.done("GET", "/participants")


def test_nobody_waits_while_a_new_password_is_hashed(world, administrator, monkeypatch):
    """It takes as long as a hundred statements: not while the change holds what others want to write."""
    written = []

    def slowly(password: str) -> str:
        with world.database.writing() as session:
            if world.database.is_sqlite:
                session.execute(text("PRAGMA busy_timeout = 50"))
            session.execute(update(PERSON).values(language="de"))
        written.append(password)
        return hash_password(password)

    monkeypatch.setattr(proving, "hash_password", slowly)
    monkeypatch.setattr(persons, "hash_password", slowly)
    actor = world.person("assessor")
    browser = signed_in_client(world.database, actor)
    fields = {"password": PASSWORD, "new_password": NEW, "new_password_again": NEW}
    assert browser.post("/account/password", fields, page="/account").status_code == 303
    assert _send(administrator, actor.person_id, "invite").status_code == 303
    path = "/welcome/" + next(_link_in(text_of(KEYS, mail)) for mail in _mails(world) if "/welcome/" in mail.body)
    client = anonymous_client(world.database)
    other = f"{NEW} too"
    sent = client.post(path, data={"new_password": other, "new_password_again": other}, follow_redirects=False)
    assert (sent.status_code, written) == (303, [NEW, other])
    client.post("/welcome/nonsense", data={"new_password": NEW, "new_password_again": NEW})
    assert written == [NEW, other], "who was not invited has nothing hashed"
    signed_in = {"username": actor.username, "password": other}
    assert client.post("/sign-in", data=signed_in, follow_redirects=False).status_code == 303


@pytest.mark.requirement("P11-k")
def test_the_page_of_the_installation_lists_the_versions_that_were_installed(world, administrator, monkeypatch):
    assert "Nothing is written down yet" in administrator.get("/people/installation").text
    for number in ("0.9.1", "0.9.2"):
        monkeypatch.setattr(software, "version", lambda _, number=number: number)
        with world.database.writing() as session:
            software.record_installed(session, by=administrator.actor, now=clock.now())
    page = administrator.get("/people/installation").text
    assert 0 < page.index("0.9.2") < page.index("0.9.1")


def test_roles_and_places_are_named_in_the_language_of_the_reader(world: World, administrator: Browser):
    administrator.client.headers.update({"Accept-Language": "de"})
    link = administrator.soup("/people").select("a[href^='/people/']")[-1]
    page = administrator.soup(str(link["href"]))
    assert "Datenmanagement" in {each.get_text() for each in page.select("select[name=role] option")}
    assert "mini: alle Prüfzentren" in {each.get_text() for each in page.select("select[name=place] option")}
