"""Drafts on pages: made, mended at their lines, looked at, loaded; and as ZIP and over REST, byte for byte."""

import io
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from sqlalchemy import select

from app.audit.actions import ENTRY
from app.foundation.database import Database
from app.studies.drafts.folder import checked, files_of, smallest
from app.studies.drafts.models import StudyDraft
from app.studies.drafts.rules import (
    NotAFolder,
    as_typed,
    origin_in_words,
    unzipped,
    why_not_files,
    why_not_path,
    zipped,
)
from app.studies.loading import library, read_folder
from app.studies.rules import canonical
from tests.api.client import api_client
from tests.factories import person
from tests.web.browser import PASSWORD, Browser, counted_statements, form_in
from tests.web.test_queries import words
from tests.web.world import World

DRAFTS = "/mini/study/drafts"


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


def _made(administrator: Browser, **typed: str) -> str:
    reply = administrator.post(DRAFTS, {"name": "After the pilot", "start": "smallest", **typed})
    assert reply.status_code == 303, reply.text
    return str(reply.headers["location"]).partition("?")[0]


@pytest.mark.requirement("CON-10")
def test_a_draft_is_mended_looked_at_and_loaded(world: World):
    world.consented()
    administrator = world.browser("administrator", site_code=None)
    assert administrator.soup("/mini/study").select_one(f'a[href="{DRAFTS}"]')
    blank = administrator.post(DRAFTS, {"name": "", "start": "smallest"})
    assert (blank.status_code, "Give the draft a name" in blank.text) == (422, True)
    draft = _made(administrator, start="version:1")
    with counted_statements(world.database) as statements:
        page = administrator.soup(draft)
    assert 2 <= len(statements) <= 12, statements
    assert "study.yaml" in words(page)

    study = f"{draft}/files/study.yaml"
    fields = administrator.form(study)
    text = str(fields["text"][0])
    broken = text.replace("target: 40", "target: none", 1)
    assert broken != text
    sent = {**fields, "text": broken.replace("\n", "\r\n")}
    assert administrator.send(study, sent).status_code == 303
    page = administrator.soup(draft)
    assert "`target` must be a whole number" in words(page)
    line = text[: text.index("target:")].count("\n") + 1
    assert page.select_one(f'a[href="{study}#line-{line}"]')
    there = administrator.soup(study)
    assert there.select_one(f"#line-{line}")
    assert administrator.get(f"{draft}/plan").status_code == 409
    refused = administrator.send(f"{draft}/load", {**_csrf(page), "password": PASSWORD})
    assert (refused.status_code, "has 1 error" in refused.text or "One error" in refused.text) == (409, True)

    late = administrator.send(study, {**sent, "text": text + "# mine\n"})
    assert (late.status_code, "Nothing was overwritten" in late.text, "# mine" in late.text) == (409, True, True)
    version_2 = text.replace("version: '1'", "version: '2'", 1).replace("MINI", "MINI TWO", 1)
    assert administrator.post(study, {"text": version_2}).status_code == 303
    assert "Week 18" in words(administrator.soup(f"{draft}/plan"))
    assert "Nothing is saved" in words(administrator.soup(f"{draft}/preview/pain"))
    page = administrator.soup(draft)
    edited, looked_at = (
        [link.get_text() for link in page.select(f"a[href*='/{way}']")] for way in ("edit/form.", "preview/")
    )
    assert sorted(edited) == sorted(looked_at), "one name for a form, to edit and to look at"
    consent = next(str(each["href"]) for each in administrator.soup(draft).select("a[href*='/consent/']"))
    assert "You may stop at any time" in words(administrator.soup(consent))

    wrong = administrator.post(f"{draft}/load", {"password": "not this one"})
    assert (wrong.status_code, "not right" in wrong.text) == (422, True)
    loaded = administrator.post(f"{draft}/load", {"password": PASSWORD})
    assert loaded.headers["location"] == "/mini/study/versions/2/effect?done=study_draft_loaded", loaded.text
    assert "loaded as version 2" in words(administrator.soup(draft))
    again = administrator.send(study, {**fields, "text": text})
    assert (again.status_code, "stays as it was then" in again.text) == (409, True)
    copy = _made(administrator, start="version:2", name="Next")
    assert administrator.form(f"{copy}/files/study.yaml")["text"] == [version_2], "the very text it was loaded from"
    log = world.log()
    assert [each for each in log if each.startswith("draft.")][-1] == "draft.changed"
    assert "draft.loaded" in log
    assert "study.loaded" in log
    with world.database.reading() as session:
        changed = session.execute(
            select(ENTRY.c.old, ENTRY.c.new)
            .where(ENTRY.c.action == "draft.changed", ENTRY.c.item == "study.yaml")
            .order_by(ENTRY.c.position)
        ).all()
    assert changed[1].old == changed[0].new, "old and new hash of each change"
    assert "sha256" in changed[1].new


def _csrf(page: BeautifulSoup) -> dict[str, str]:
    field = page.select_one("input[name=csrf_token]")
    assert field is not None
    return {"csrf_token": str(field["value"])}


def test_a_form_is_previewed_with_its_skip_logic_and_nothing_is_kept(world: World):
    administrator = world.browser("administrator", site_code=None)
    draft = _made(administrator, start="version:1")
    before = world.log()
    page = words(administrator.soup(f"{draft}/preview/pain?pain_nrs=0&pain_days=5"))
    assert "No pain, but days with pain" in page
    looked = administrator.send(f"{draft}/preview/pain/look", {"pain_nrs": "99"})
    assert looked.status_code == 200
    assert "pain_nrs" in looked.json()["errors"]
    assert world.log() == before


def test_a_form_that_no_visit_asks_is_previewed_too(world: World):
    administrator = world.browser("administrator", site_code=None)
    draft = _made(administrator, start="version:1")
    (screening,) = administrator.soup(draft).select(f"a[href='{draft}/preview/prescreen']")
    assert screening.get_text(strip=True) in words(administrator.soup(str(screening["href"])))
    assert administrator.send(f"{screening['href']}/look", {"age": "40"}).status_code == 200


def test_expressions_are_judged_as_they_are_typed_in_the_words_of_a_save(world: World):
    administrator = world.browser("administrator", site_code=None)
    draft = _made(administrator, start="version:1")
    edit, before = f"{draft}/edit/form.pain", world.log()
    page, fields = administrator.soup(edit), administrator.form(edit)
    assert page.select_one(f'form[data-look="{edit}/look"]')
    at = "v.sections.0.items.1"
    told = page.select_one(f'[data-item="{at}.shown_if"] [data-error]')
    assert told is not None
    assert told.has_attr("hidden")

    def judged(**typed: str) -> dict[str, str]:
        named = {f"{at}.{name}": text for name, text in typed.items()}
        reply = administrator.send(f"{edit}/look", {**fields, **named})
        assert reply.status_code == 200, reply.text
        return {name.removeprefix(f"{at}."): words for name, words in reply.json()["errors"].items()}

    assert judged() == {}
    assert judged(shown_if="[pain_nrs] > 3") == {}
    assert "cannot be read" in judged(shown_if="[pain_nrs] >")["shown_if"]
    unknown = judged(shown_if="[nope] = 1", checks="soft | [pain_nrs] > 3 | Read it again")
    assert set(unknown) == {"shown_if"}
    assert "nope" in unknown["shown_if"]
    of_a_check = judged(checks="hard | [pain_nrs] > 3 | Read it again\nhard | [neither] = 1 | Mend it")
    assert "neither" in of_a_check["checks"]
    assert "one check a line" in judged(checks="whatever")["checks"]
    assert world.log() == before

    assert administrator.send(edit, {**fields, f"{at}.shown_if": "[nope] = 1"}).status_code == 303
    saved = administrator.soup(edit).select_one(f'[data-item="{at}.shown_if"] [data-error]')
    assert saved is not None
    assert unknown["shown_if"] in saved.get_text()
    assert not saved.has_attr("hidden")


def test_a_consent_document_is_seen_beside_its_text_as_it_is_typed(world: World):
    administrator = world.browser("administrator", site_code=None)
    draft = _made(administrator)
    (path,) = {str(a["href"]) for a in administrator.soup(draft).select('a[href*="/files/consent/"]')}
    seen = administrator.soup(path.partition("#")[0]).select_one("#seen article")
    assert seen is not None
    before, look = world.log(), path.partition("#")[0].replace("/files/", "/consent/")
    text = "---\nversion: '1'\nlanguage: en\ntitle: Taking part\n---\n# What *we* ask\n\n<script>x</script>\n"
    whole = administrator.send(look, {"text": text})
    typed = BeautifulSoup(whole.text, "html.parser")
    assert "What we ask" in words(typed)
    assert typed.select_one("#seen em")
    assert not typed.select_one("#seen script")
    kept = typed.select_one("textarea")
    assert kept is not None
    assert kept.get_text().lstrip("\n") == text.removesuffix("\n") + "\n"
    block = administrator.send(look, {"text": text}, headers={"HX-Request": "true", "HX-Target": "div#seen"})
    assert block.text.startswith("<article")
    assert world.log() == before
    assert (
        administrator.send(look.replace("/consent/consent/", "/consent/instruments/"), {"text": ""}).status_code == 404
    )


def test_a_draft_that_is_deleted_is_marked_and_not_found(world: World):
    administrator = world.browser("administrator", site_code=None)
    draft = _made(administrator)
    opened = administrator.get(f"{draft}/open?path=instruments/new.yaml").headers["location"]
    assert administrator.post(opened, {"text": "code: new\n"}).status_code == 303
    assert administrator.post(opened, {"act": "remove"}).status_code == 303
    assert not administrator.soup(draft).select('a[href$="instruments/new.yaml"]')
    assert administrator.post(opened, {"text": "code: newer\n", "version": "0"}).status_code == 303
    assert "cannot be called" in administrator.get(f"{draft}/open?path=../x").text
    assert administrator.post(f"{draft}/remove", {}).status_code == 303
    assert administrator.get(draft).status_code == 404
    assert administrator.get(f"{draft}/folder.zip").status_code == 404
    with world.database.reading() as session:
        kept = session.execute(select(StudyDraft)).scalars().all()
    assert [each.removed_by is not None for each in kept] == [True]


def test_a_folder_comes_back_byte_for_byte(world: World):
    administrator = world.browser("administrator", site_code=None)
    folder = {
        path.relative_to(library()[0]).as_posix(): path.read_bytes()
        for path in library()[0].rglob("*")
        if path.is_file()
    }
    folder["README.md"] = "\ufeffMine\r\n\r\n".encode()
    sent = {"folder": ("folder.zip", _zip({f"trial/{name}": data for name, data in folder.items()}))}
    fields = administrator.form(DRAFTS)
    reply = administrator.send(DRAFTS, {**fields, "name": "Mine", "start": "folder"}, files=sent)
    assert reply.status_code == 303, reply.text
    draft = str(reply.headers["location"]).partition("?")[0]
    with zipfile.ZipFile(io.BytesIO(administrator.get(f"{draft}/folder.zip").content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == folder
    bomb = {"folder": ("bomb.zip", _zip({"study.yaml": b" " * 30_000_000}))}
    refused = administrator.send(DRAFTS, {**fields, "name": "Bomb", "start": "folder"}, files=bomb)
    assert (refused.status_code, "unpacks to more" in refused.text) == (422, True)


def test_a_draft_with_another_code_becomes_a_study_of_its_own_and_says_so(world: World):
    administrator = world.browser("administrator", site_code=None)
    own = _made(administrator, start="version:1")
    assert "study of its own" not in words(administrator.soup(f"{own}/load"))
    fields = administrator.form(DRAFTS)
    files = {name: text.encode() for name, text in smallest("apart", "Apart").items()}
    sent = {"folder": ("folder.zip", _zip(files))}
    reply = administrator.send(DRAFTS, {**fields, "name": "Apart", "start": "folder"}, files=sent)
    draft = str(reply.headers["location"]).partition("?")[0]
    assert "apart is new here" in words(administrator.soup(f"{draft}/load"))
    loaded = administrator.post(f"{draft}/load", {"password": PASSWORD})
    assert loaded.headers["location"] == "/apart/study?done=study_draft_loaded"
    there = administrator.get(str(loaded.headers["location"]))
    assert (there.status_code, "Loaded as a version" in there.text) == (200, True)


def test_programs_send_fetch_and_load_drafts(world: World):
    with world.database.writing() as session:
        actor = person(session, world.study, "administrator", site_code=None)
    client = api_client(world.database, actor)
    files = {**smallest("mini", "Another mini"), "study.yaml": smallest("mini", "x")["study.yaml"]}
    number = client.post("/drafts", {"name": "By program", "files": files}).json()["number"]
    found = client.get(f"/drafts/{number}").json()
    assert {each["path"]: each["text"] for each in found["files"]} == files
    assert found["findings"] == []
    text = files["study.yaml"].replace("version: '1'", "version: '7'")
    saved = client.put(f"/drafts/{number}/files", {"path": "study.yaml", "text": text, "version": 1})
    assert saved.json() == {"version": 2}
    late = client.put(f"/drafts/{number}/files", {"path": "study.yaml", "text": "code: x", "version": 1})
    assert late.status_code in (409, 412)
    packed = client.get(f"/drafts/{number}/folder.zip").content
    again = client.request("POST", "/draft-folders?name=Again", content=packed)
    assert again.status_code == 201, again.text
    assert client.get(f"/drafts/{again.json()['number']}/folder.zip").content == packed
    big = _zip({f"consent/v{number}.en.md": b"x" * 900_000 for number in range(3)}, zipfile.ZIP_STORED)
    assert client.request("POST", "/draft-folders?name=Large", content=big).status_code == 201
    refused = client.request("POST", "/draft-folders?name=No", content=b"PK")
    assert (refused.status_code, "not a ZIP" in refused.text) == (422, True)
    assert client.post(f"/drafts/{number}/load", {"password": "not this one"}).status_code == 422
    loaded = client.post(f"/drafts/{number}/load", {"password": PASSWORD})
    assert loaded.json()["version"] == "7", loaded.text
    assert "7" in [each["version"] for each in client.rows("/versions")]
    assert client.request("DELETE", f"/drafts/{number}").status_code == 409, "a loaded draft stays"
    listed = client.rows("/drafts")
    assert [each["version"] for each in listed] == [None, None, "7"]


@pytest.mark.requirement("CON-10")
def test_parts_are_edited_as_fields_and_the_text_keeps_its_comments(world: World):
    administrator = world.browser("administrator", site_code=None)
    draft = _made(administrator)
    study = f"{draft}/files/study.yaml"
    text = str(administrator.form(study)["text"][0])
    assert administrator.post(study, {"text": f"# Ours\n{text}"}).status_code == 303

    edit = f"{draft}/edit/visits"
    assert administrator.post(edit, {"v.visits.0.window.after": "21", "act": "add:visits"}).status_code == 303
    fields = administrator.form(edit)
    assert fields["v.visits.0.window.after"] == ["21"]
    assert fields["v.visits.1.code"] == ["visit1"]
    asked = {"v.visits.1.label": "Week 6", "v.visits.1.day": "42", "v.visits.1.instruments": ["outcome"]}
    assert administrator.post(edit, asked).status_code == 303
    assert "Week 6" in words(administrator.soup(f"{draft}/plan"))
    assert administrator.post(edit, {"v.visits.1.day": "soon", "act": "up:visits.1"}).status_code == 303
    page = administrator.soup(edit)
    field = page.find(id="v.visits.0.day")
    assert field is not None
    assert field.get("aria-invalid") == "true", "what is wrong stands at its field"
    assert administrator.post(edit, {"act": "remove:visits.0"}).status_code == 303
    kept = str(administrator.form(study)["text"][0])
    assert kept == f"# Ours\n{text}".replace("after: 14", "after: 21")

    form = f"{draft}/edit/form.outcome"
    item = "v.sections.0.items.0."
    typed = {f"{item}checks": "soft | [pain_nrs] < 10 | Ask again", f"{item}required": "false"}
    assert administrator.post(form, {**typed, "act": "add:sections.0.items"}).status_code == 303
    new = "v.sections.0.items.1."
    bad = administrator.post(form, {f"{new}choices": "no code"})
    assert (bad.status_code, "one choice a line" in bad.text, "no code" in bad.text) == (422, True, True)
    answered = {f"{new}code": "sleep", f"{new}type": "choice", f"{new}choices": "a = Well\nb = Badly"}
    assert administrator.post(form, {**answered, f"{new}shown_if": "[pain_nrs] > 3"}).status_code == 303
    shown = administrator.soup(f"{draft}/preview/outcome?pain_nrs=10")
    assert "Badly" in words(shown)
    assert "Ask again" in words(shown)
    assert administrator.soup(f"{draft}/preview/outcome?pain_nrs=0").select_one('[data-item="sleep"][data-hidden]')
    assert not shown.select_one('[data-item="sleep"][data-hidden]')
    assert administrator.get(f"{draft}/edit/form.none").status_code == 404

    language = str(administrator.get(f"{draft}/open?path=study.de.yaml").headers["location"])
    begun = administrator.form(language)["text"]
    assert administrator.post(language, {"text": str(begun[0])}).status_code == 303
    german = f"{draft}/edit/words.de"
    assert administrator.post(german, {"act": "add:missing_codes"}).status_code == 303
    assert administrator.form(german)["v.missing_codes.0.code"] == ["code1"]
    arms = f"{draft}/edit/arms"
    added = administrator.post(arms, {"v.arms.0.ratio": "2", "act": "add:allocation.strata"})
    assert added.status_code == 303
    assert administrator.form(arms)["v.allocation.strata.0.code"] == ["stratum1"]
    criteria = f"{draft}/edit/eligibility"
    assert administrator.post(criteria, {"v.eligibility.criteria.0.rule": "[agee] >= 18"}).status_code == 303
    assert "agee" in words(administrator.soup(criteria)), "an expression is checked"


def test_of_two_people_at_one_file_nobody_writes_over_the_other(world: World):
    ada, bert = (world.browser("administrator", site_code=None) for _ in range(2))
    draft = _made(ada)
    general, arms, visits = (f"{draft}/edit/{part}" for part in ("general", "arms", "visits"))
    opened = {page: bert.form(page) for page in (general, arms, visits)}
    assert ada.post(general, {"v.target": "50"}).status_code == 303
    assert ada.post(visits, {"v.visits.0.day": "3"}).status_code == 303

    # Another page, and another field of the same page: both hold.
    assert bert.send(arms, {**opened[arms], "v.arms.0.label": "Training"}).status_code == 303
    assert bert.send(general, {**opened[general], "v.short_title": "Brief"}).status_code == 303
    fields = ada.form(general)
    assert (fields["v.target"], fields["v.short_title"]) == (["50"], ["Brief"])
    assert ada.form(arms)["v.arms.0.label"] == ["Training"]

    # The same field: what the other wrote stands at it, and saving again is a decision.
    late = bert.send(general, {**opened[general], "v.target": "70", "v.short_title": "Mine"})
    assert late.status_code == 409
    page = BeautifulSoup(late.text, "html.parser")
    error = page.find(id="v.target-error")
    assert error is not None
    assert "wrote “50” here meanwhile" in error.get_text()
    assert ada.form(general)["v.target"] == ["50"]
    again = form_in(page, general)
    assert (again["v.target"], again["v.short_title"]) == (["70"], ["Mine"])
    assert bert.send(general, again).status_code == 303
    assert ada.form(general)["v.target"] == ["70"]

    # Other rows: nothing is put into a row that it was not typed for, and what was typed is shown.
    assert ada.post(visits, {"act": "add:visits"}).status_code == 303
    assert ada.post(visits, {"act": "up:visits.1"}).status_code == 303
    late = bert.send(visits, {**opened[visits], "v.visits.0.label": "The first visit"})
    assert late.status_code == 409
    assert "The first visit" in late.text
    fields = form_in(BeautifulSoup(late.text, "html.parser"), visits)
    assert "The first visit" not in [text for texts in fields.values() for text in texts]
    assert fields == ada.form(visits) | {"csrf_token": fields["csrf_token"], **_request(fields)}


def _request(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a page has of its own each time it is shown."""
    return {name: fields[name] for name in fields if not name.startswith("v.")}


def test_the_last_change_is_taken_back_on_the_page(world: World):
    administrator = world.browser("administrator", site_code=None)
    draft = _made(administrator)
    assert "Take it back" not in words(administrator.soup(draft))
    text = administrator.form(f"{draft}/files/instruments/outcome.yaml")["text"]
    form = f"{draft}/edit/form.outcome"
    assert administrator.post(form, {"act": "remove:sections.0"}).status_code == 303
    assert administrator.form(f"{draft}/files/instruments/outcome.yaml")["text"] != text
    page = administrator.soup(draft)
    assert "instruments/outcome.yaml" in words(page)
    asked = form_in(page, f"{draft}/undo")
    done = administrator.send(f"{draft}/undo", asked)
    assert (done.status_code, "study_draft_undone" in done.headers["location"]) == (303, True)
    assert administrator.form(f"{draft}/files/instruments/outcome.yaml")["text"] == text
    again = administrator.send(f"{draft}/undo", {**asked, **_fresh(administrator.soup(draft), f"{draft}/undo")})
    assert again.status_code == 409
    assert "Nothing was taken back" in again.text
    assert administrator.form(f"{draft}/files/instruments/outcome.yaml")["text"] == text


def _fresh(page: BeautifulSoup, address: str) -> dict[str, Any]:
    """All of a form but which change is meant, as one has it who opened the page before."""
    return {name: value for name, value in form_in(page, address).items() if name != "state"}


def test_a_file_is_written_anew_only_when_somebody_says_so(world: World):
    administrator = world.browser("administrator", site_code=None)
    draft = _made(administrator)
    study = f"{draft}/files/study.yaml"
    text = str(administrator.form(study)["text"][0])
    linked = "# Ours\n" + text.replace("label: Arm A", "label: &name Arm A", 1).replace(
        "label: Arm B", "label: *name", 1
    )
    assert administrator.post(study, {"text": linked}).status_code == 303
    arms = f"{draft}/edit/arms"
    page = administrator.post(arms, {"v.arms.0.label": "Training"})
    assert (page.status_code, "would be written anew" in page.text) == (409, True)
    assert administrator.form(study)["text"] == [linked]
    fields = form_in(BeautifulSoup(page.text, "html.parser"), arms)
    assert administrator.send(arms, fields).status_code == 303
    written = str(administrator.form(study)["text"][0])
    assert "# Ours" not in written
    assert "Training" in written


# Folders, without any database


def _zip(files: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", how) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


def _link() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("study.yaml")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    return packed.getvalue()


@pytest.mark.requirement("SEC-23", "SEC-48")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lambda: b"not a zip", "not a ZIP"),
        (lambda: _zip({}), "empty"),
        (lambda: _zip({"../study.yaml": b"x"}), "lead out"),
        (lambda: _zip({"/study.yaml": b"x"}), "lead out"),
        (lambda: _zip({"a\\..\\study.yaml": b"x"}), "lead out"),
        (lambda: _zip({"study.yaml": b"\xff\xfe"}), "UTF-8"),
        (lambda: _zip({"study.yaml": b"a\x00b"}), "NUL"),
        (lambda: _zip({"study.yaml": b" " * 1_000_001}), "larger|unpacks"),
        (lambda: _zip({f"instruments/i{n}.yaml": b" " * 990_000 for n in range(22)}), "unpacks"),
        (lambda: _zip({f"i{n}.yaml": b"" for n in range(1000)}), "at most 900"),
        (lambda: _zip({"A.yaml": b"", "a.yaml": b"", "study.yaml": b""}), "capital"),
        (_link, "is a link"),
        (lambda: _zip({"study.yaml": b"a", "study.yaml/b.yaml": b"b"}), "a file and a folder"),
        (lambda: _zip({"study.yaml": b"a"}, zipfile.ZIP_LZMA), "packed in a way"),
        (lambda: b"\0" * 10_000_001, "larger than 10 MB"),
    ],
)
def test_what_is_no_folder_is_refused_with_the_reason(data: Callable[[], bytes], said: str):
    with pytest.raises(NotAFolder, match=said):
        unzipped(data())


def test_a_zip_leaves_out_what_is_hidden_and_the_folder_around_it():
    found = unzipped(_zip({"t/.git/config": b"x", "__MACOSX/t/._s": b"x", "t/study.yaml": b"code: a\r\n"}))
    assert found == {"study.yaml": "code: a\r\n"}
    assert unzipped(zipped(found)) == found
    assert zipped(found) == zipped(dict(found))


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "", ".hidden", "a/./b", "a\\b", "x\x00", "a/b/c/d/e", "é.yaml"])
def test_a_path_stays_inside(path: str):
    assert why_not_path(path) is not None
    assert why_not_files({path: ""}) is not None


def test_a_browser_does_not_change_line_ends():
    assert as_typed("a\r\nb\r\n", "x\n") == "a\nb\n"
    assert as_typed("a\r\nb\r\n", "x\r\n") == "a\r\nb\r\n"


@pytest.mark.parametrize("folder", library(), ids=lambda path: path.name)
def test_a_version_written_as_files_reads_as_the_same(folder: Path):
    study, _ = read_folder(folder)
    assert study is not None
    again, _ = checked(files_of(study))
    assert again is not None
    assert canonical(again) == canonical(study)


def test_the_smallest_study_has_nothing_to_mend():
    study, findings = checked(smallest("abc", "A study"))
    assert study is not None
    assert findings == ()


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ("smallest", "The smallest study"),
        ("version 1.1", "Copied from version 1.1"),
        ("library resolve", "The study resolve of the library"),
        ("upload", "A folder that was uploaded"),
        ("super token", "super token"),
        ("version", "version"),
    ],
)
def test_what_a_draft_was_made_from_is_said_in_words(origin, words):
    assert origin_in_words(origin) == words
