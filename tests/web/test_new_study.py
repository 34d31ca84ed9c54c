"""The first study of an installation, in the browser: begun, looked at, loaded with who gets in, and by nobody else."""

import io
import re
import zipfile
from typing import Any

import pytest
from bs4 import BeautifulSoup
from sqlalchemy import func, select

from app.audit.actions import ENTRY
from app.audit.models import SYSTEM_LOG
from app.dependencies import NEW_STUDY
from app.foundation.database import Database, table_of
from app.main import create_app
from app.people.permissions import Permission, Role
from app.settings import Settings
from app.studies.drafts.folder import smallest
from app.studies.drafts.models import StudyDraft
from app.studies.loading import library
from app.studies.models import StudyRecord, StudyVersion
from tests.factories import person
from tests.house.routes import VALUES, WHO, doors
from tests.studies.test_importing_redcap import field, table
from tests.web.browser import PASSWORD, Browser, counted_statements, signed_in_client
from tests.web.test_queries import words
from tests.web.world import World

URL = f"/{NEW_STUDY}/study/drafts"


@pytest.fixture
def administrator(shared_database: Database) -> Browser:
    return _browser(shared_database, "administrator", username="ada")


def _browser(database: Database, *roles: str, username: str) -> Browser:
    with database.writing() as session:
        actor = person(session, None, *roles, site_code=None, username=username)
    return signed_in_client(database, actor)


def _count(database: Database, model: type[Any]) -> int:
    with database.reading() as session:
        return int(session.execute(select(func.count()).select_from(table_of(model))).scalar_one())


def _logged(database: Database, log: str) -> list[str]:
    with database.reading() as session:
        of_log = select(ENTRY.c.action).where(ENTRY.c.log == log).order_by(ENTRY.c.position)
        return list(session.execute(of_log).scalars())


def _begun(administrator: Browser, *, file: tuple[str, bytes] | None = None, **typed: str) -> str:
    sent = {**administrator.form(URL), **typed}
    files = {"file": file} if file else None
    reply = administrator.send(URL, sent, files=files)
    if reply.status_code == 200:  # the report of what was converted leads to it
        link = BeautifulSoup(reply.text, "html.parser").select_one(f'a[href^="{URL}/"]')
        assert link is not None, reply.text
        return str(link["href"])
    assert reply.status_code == 303, reply.text
    return str(reply.headers["location"]).partition("?")[0]


def _text(administrator: Browser, draft: str, path: str = "study.yaml") -> str:
    return str(administrator.form(f"{draft}/files/{path}")["text"][0])


@pytest.mark.requirement("CON-10", "SEC-19")
def test_the_first_study_is_begun_looked_at_and_loaded_with_who_gets_in(
    shared_database: Database, administrator: Browser
):
    database = shared_database
    with counted_statements(database) as statements:
        page = administrator.soup("/")
    assert 2 <= len(statements) <= 12, statements
    assert "There is no study here yet" in words(page)
    assert [link["href"] for link in page.select(".step a")] == [URL, "/people"]

    fields = administrator.form(URL)
    wrong = administrator.send(URL, {**fields, "code": "Back pain", "title": ""})
    told = BeautifulSoup(wrong.text, "html.parser")
    assert wrong.status_code == 422
    assert [link["href"] for link in told.select("[data-error-summary] a")] == ["#code", "#title"]
    assert [each["value"] for each in told.select("#code")] == ["Back pain"], "what was typed stays"
    sent = {**fields, "code": "back", "title": "Back pain, a first trial"}
    first, again = administrator.send(URL, sent), administrator.send(URL, sent)
    assert [each.status_code for each in (first, again)] == [303, 303]
    assert first.headers["location"] == again.headers["location"]
    assert _count(database, StudyDraft) == 1, "a double click begins one"
    draft = str(first.headers["location"]).partition("?")[0]
    assert administrator.soup("/").select_one(f'.step-current a[href="{draft}"]')

    for page_url in (URL, draft, f"{draft}/load", f"{draft}/edit/general"):
        with counted_statements(database) as statements:
            page = administrator.soup(page_url)
        assert 1 <= len(statements) <= 12, (page_url, statements)
    general = f"{draft}/edit/general"
    assert administrator.post(general, {"v.short_title": "BACK", "v.target": "none"}).status_code == 303
    assert "`target` must be a whole number" in words(administrator.soup(draft))
    refused = administrator.send(f"{draft}/load", {**_csrf(administrator.soup(draft)), "password": PASSWORD})
    assert (refused.status_code, _count(database, StudyRecord)) == (409, 0)
    assert administrator.post(general, {"v.target": "60"}).status_code == 303
    assert "Baseline" in words(administrator.soup(f"{draft}/plan"))
    assert "Nothing is saved" in words(administrator.soup(f"{draft}/preview/outcome?pain_nrs=4"))
    assert administrator.send(f"{draft}/preview/outcome/look", {"pain_nrs": "99"}).json()["errors"]
    consent = administrator.soup(f"{draft}/consent/consent/v1.en.md")
    assert "your ethics committee approved" in words(consent)
    assert administrator.get(f"{draft}/folder.zip").content[:2] == b"PK"

    load = f"{draft}/load"
    cora = _browser(database, username="cora")
    assert "Cora (cora)" in words(administrator.soup(load))
    rows = {"person": ["cora", "", "ada"], "role": ["coordinator", "", ""], "at": ["site1", "", ""]}
    lacking = administrator.post(load, {**rows, "password": PASSWORD})
    page = BeautifulSoup(lacking.text, "html.parser")
    assert (lacking.status_code, _count(database, StudyRecord)) == (422, 0)
    (at_its_row,) = page.select("[id='role.1-error']")
    assert "Choose a role, or leave the row empty." in at_its_row.get_text()
    assert [each["value"] for each in page.select("select[name=person] option[selected]")] == ["cora", "ada"]
    more = administrator.post(load, {**rows, "act": "more"})
    assert len(BeautifulSoup(more.text, "html.parser").select("select[name=person]")) == 6
    both = {**rows, "role": ["coordinator", "", "statistician"]}
    unfit = administrator.post(load, {**both, "password": PASSWORD})
    assert (unfit.status_code, "Ada: " in unfit.text, _count(database, StudyRecord)) == (409, True, 0)
    elsewhere = administrator.post(load, {**rows, "at": ["nowhere", "", ""], "password": PASSWORD})
    assert (elsewhere.status_code, "one of the sites of this draft" in elsewhere.text) == (422, True)

    everywhere = administrator.post(load, {**rows, "role": ["statistician", "", ""], "password": PASSWORD})
    assert (everywhere.status_code, "Choose all sites" in everywhere.text) == (422, True)
    page = administrator.soup(load)
    assert "gives a coordinator, assessor, clinician or investigator the role at each site" in words(page)
    groups = {str(each["label"]): len(each.select("option")) for each in page.select("[id='role.0'] optgroup")}
    assert list(groups.values()) == [4, 2, 1], "every role but the administrator's, under where it is held"

    good = {**administrator.form(load), "person": "cora", "role": "coordinator", "at": "site1", "password": PASSWORD}
    made, twice = administrator.send(load, good), administrator.send(load, good)
    assert made.headers["location"] == twice.headers["location"] == "/back/study?done=study_begun", made.text
    assert (_count(database, StudyRecord), _count(database, StudyVersion)) == (1, 1)
    assert "The study is here now" in words(administrator.soup(str(made.headers["location"])))
    assert cora.get("/").headers["location"] == "/back"
    assert cora.get("/back/participants").status_code == 200
    assert [each for each in _logged(database, "back") if "_refused" not in each] == [
        "study.loaded",
        "site.added",
        "role.granted",
    ]
    system = _logged(database, SYSTEM_LOG)
    assert [each for each in system if each.startswith("draft.")][:2] == ["draft.made", "draft.changed"]
    assert system.count("draft.made") == system.count("draft.loaded") == 1
    assert {"role.grant_refused", "draft.load_refused"} <= set(system)

    after = words(administrator.soup(draft))
    assert "a draft of the study back" in after
    assert administrator.soup(URL).select_one('td a[href="/back/study"]')
    late = administrator.send(load, {**_csrf(administrator.soup(draft)), "password": PASSWORD})
    assert (late.status_code, "stays as it was then" in late.text) == (409, True)
    assert administrator.get(f"/back/study/drafts/{draft.rpartition('/')[2]}").status_code == 404
    taken = administrator.post(URL, {"code": "back", "title": "Another"})
    assert (taken.status_code, "There is a study back here already" in taken.text) == (422, True)
    following = administrator.post("/back/study/drafts", {"name": "Next", "start": "version:1"})
    its = str(following.headers["location"]).partition("?")[0]
    assert administrator.form(f"{its}/files/study.yaml")["text"] == [_text(administrator, draft)], "the very text"


@pytest.mark.parametrize("kind", ["sqlite"])
def test_who_gets_in_at_all_sites_has_a_role_of_sites_at_each(shared_database: Database, administrator: Browser):
    cora = _browser(shared_database, username="cora")
    draft = _begun(administrator, code="wide", title="Wide", start="smallest")
    assert administrator.post(f"{draft}/edit/general", {"act": "add:sites"}).status_code == 303
    row = {"person": "cora", "role": "coordinator", "at": "", "password": PASSWORD}
    made = administrator.send(f"{draft}/load", {**administrator.form(f"{draft}/load"), **row})
    assert made.status_code == 303, made.text
    granted = [each for each in _logged(shared_database, "wide") if each == "role.granted"]
    assert len(granted) == 2
    assert cora.get("/wide/participants").status_code == 200


def _csrf(page: BeautifulSoup) -> dict[str, str]:
    found = page.select_one("input[name=csrf_token]")
    assert found is not None
    return {"csrf_token": str(found["value"])}


def _zip(files: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


DICTIONARY = table(field("a", label="Pain"), field("b", label="Sleep"))
FOLDER = _zip({f"mine/{path}": text for path, text in smallest("mine", "Mine").items()})


@pytest.mark.parametrize(
    ("typed", "file", "wanted"),
    [
        ({"start": "library:resolve"}, None, ("resolve", "The RESOLVE Trial: Retraining the brain")),
        ({"start": "library:prt", "code": "prt2", "title": "Ours: again"}, None, ("prt2", "Ours: again")),
        ({"start": "folder"}, ("f.zip", FOLDER), ("mine", "Mine")),
        ({"start": "folder", "code": "theirs"}, ("f.zip", FOLDER), ("theirs", "Mine")),
        ({"start": "import", "code": "sleep", "title": "Sleep"}, ("d.csv", DICTIONARY), ("sleep", "Sleep")),
    ],
    ids=lambda each: each.get("start", "") if isinstance(each, dict) else "",
)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_study_begins_with_what_there_is(
    administrator: Browser, typed: dict[str, str], file: tuple[str, bytes] | None, wanted: tuple[str, str]
):
    draft = _begun(administrator, file=file, **typed)
    text = _text(administrator, draft)
    assert f"code: {wanted[0]}\n" in text
    assert re.search(rf"^title: \"?{re.escape(wanted[1])}", text, re.M), text[:400]
    if typed["start"].startswith("library:"):
        name = typed["start"].partition(":")[2]
        kept = next(each for each in library() if each.name == name) / "study.yaml"
        said = {line.partition(":")[0] for line in set(kept.read_text().splitlines()) ^ set(text.splitlines())}
        assert said <= {"code", "title", "short_title"}, "everything else of the text stays"
    page = words(administrator.soup(draft))
    assert "keep the draft from being loaded" not in page, page
    assert "keeps the draft from being loaded" not in page, page


@pytest.mark.parametrize(
    ("typed", "file", "at", "said"),
    [
        ({"start": "smallest", "title": "X"}, None, "code", "Write a code of small letters"),
        ({"start": "smallest", "code": "people", "title": "X"}, None, "code", "the application uses that name"),
        ({"start": "smallest", "code": "ok", "title": "x" * 401}, None, "title", "at most 400 characters"),
        ({"start": "library:none"}, None, "start", "Choose one of the studies of the list"),
        ({"start": "folder"}, None, "file", "Choose the ZIP of the folder"),
        ({"start": "folder"}, ("f.zip", b"no"), "file", "not a ZIP"),
        ({"start": "folder", "code": "ok"}, ("f.zip", _zip({"notes.txt": "x"})), "code", "has no study.yaml"),
        ({"start": "import"}, None, "file", "Choose a file"),
        ({"start": "import"}, ("d.csv", b"a,b\n1,2"), "file", "no REDCap data dictionary"),
    ],
    ids=lambda each: str(each)[:20] if isinstance(each, str) else "",
)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_cannot_begin_a_study_is_said_at_its_field_and_nothing_is_lost(
    shared_database: Database,
    administrator: Browser,
    typed: dict[str, str],
    file: tuple[str, bytes] | None,
    at: str,
    said: str,
):
    sent = {**administrator.form(URL), **typed}
    reply = administrator.send(URL, sent, files={"file": file} if file else None)
    page = BeautifulSoup(reply.text, "html.parser")
    assert reply.status_code == 422
    (told,) = [each.get_text() for each in page.select(f"[id='{at}-error']")]
    assert said in told
    assert _count(shared_database, StudyDraft) == 0
    for name in {"code", "title"} & set(typed):
        assert [each["value"] for each in page.select(f"#{name}")] == [typed[name]]
    if not typed["start"].endswith("none"):
        assert [each["value"] for each in page.select("input[name=start][checked]")] == [typed["start"]]


def test_a_code_that_is_here_already_keeps_a_new_study_from_being_loaded(shared_database: Database):
    World(shared_database)
    administrator = _browser(shared_database, "administrator", username="ada")
    assert administrator.soup("/").select_one(f'a[href="{URL}"]'), "a further study begins in the same way"
    draft = _begun(administrator, start="folder", file=("f.zip", _zip(smallest("mini", "Another"))))
    refused = administrator.post(f"{draft}/load", {"password": PASSWORD})
    assert (refused.status_code, "There is a study mini here already" in refused.text) == (409, True)
    assert administrator.post(f"{draft}/edit/general", {"v.code": "mini2"}).status_code == 303
    loaded = administrator.post(f"{draft}/load", {"password": PASSWORD})
    assert loaded.headers["location"] == "/mini2/study?done=study_begun", loaded.text
    # The drafts of a study, and those of none, are not found at each other's address.
    number = draft.rpartition("/")[2]
    assert administrator.get(f"/mini/study/drafts/{number}").status_code == 404
    made = administrator.post("/mini/study/drafts", {"name": "Its own", "start": "smallest"})
    its = str(made.headers["location"]).partition("?")[0].rpartition("/")[2]
    assert administrator.get(f"{URL}/{its}").status_code == 404
    assert _logged(shared_database, "mini2")[0] == "study.loaded"


@pytest.mark.requirement("SEC-19")
@pytest.mark.parametrize("kind", ["sqlite"])
def test_only_who_administers_the_installation_finds_drafts_of_studies_to_be(shared_database: Database):
    world = World(shared_database)
    administrator = _browser(shared_database, "administrator", username="ada")
    draft = _begun(administrator, code="next", title="The next one", start="smallest")
    application = create_app(Settings(secure_cookies=False), shared_database)
    every = [each for each in doors(application) if each.name.startswith("drafts.")]
    assert {WHO[each.name] for each in every} == {Permission.STUDY_LOAD}
    values = {**VALUES, "study": NEW_STUDY, "number": draft.rpartition("/")[2], "instrument": "outcome"}
    for role in [each for each in Role if each is not Role.ADMINISTRATOR]:
        browser = world.browser(role.value, site_code="north" if role is not Role.STATISTICIAN else None)
        assert NEW_STUDY not in browser.get("/account").text
        sent = _csrf(browser.soup("/account"))
        for door in every:
            asked = browser.client.request(
                door.method, door.address(**values), data=sent if door.is_unsafe else None, follow_redirects=False
            )
            assert asked.status_code == 403, (role, door.name, asked.status_code)
    for door in every:
        if door.method == "GET":
            reply = administrator.get(door.address(**{**values, "path": "consent/v1.en.md"}))
            assert reply.status_code in (200, 303, 422), (door.name, reply.status_code)


def test_a_draft_of_a_study_to_be_is_deleted_and_marked(shared_database: Database, administrator: Browser):
    draft = _begun(administrator, code="gone", title="Gone", start="smallest")
    opened = administrator.get(f"{draft}/open?path=instruments/new.yaml").headers["location"]
    assert administrator.post(opened, {"text": "code: new\n"}).status_code == 303
    late = administrator.send(opened, {**administrator.form(opened), "version": "0", "text": "mine"})
    assert (late.status_code, "Nothing was overwritten" in late.text, "mine" in late.text) == (409, True, True)
    assert administrator.post(opened, {"act": "remove"}).status_code == 303
    assert administrator.post(f"{draft}/remove", {}).headers["location"].startswith(URL)
    assert administrator.get(draft).status_code == 404
    assert _logged(shared_database, SYSTEM_LOG)[-2:] == ["draft.file_removed", "draft.removed"]


@pytest.mark.parametrize("kind", ["sqlite"])
def test_the_pages_are_in_the_language_of_the_reader(administrator: Browser):
    german = {"Accept-Language": "de"}
    assert "Hier gibt es noch keine Studie" in administrator.get("/", headers=german).text
    assert "Eine Studie beginnen" in administrator.get(URL, headers=german).text
    wrong = administrator.send(URL, administrator.form(URL), headers=german)
    assert "Schreiben Sie einen Code aus Kleinbuchstaben" in wrong.text
