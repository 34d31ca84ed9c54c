"""The statistician's pages: draw, compare, seal, set aside, read; and that nobody else finds them."""

import csv
import io
import json
from typing import Any

import pytest
from bs4 import BeautifulSoup
from sqlalchemy import select

from app.audit.actions import ENTRY
from app.foundation import clock
from app.foundation.database import Database
from app.people.permissions import Role
from app.randomisation import reads
from app.randomisation.predictability import permuted_blocks
from app.randomisation.reads import SequenceCounts
from app.studies.actions import load_study
from tests.factories import MINI
from tests.web.browser import PASSWORD, Browser, words_of
from tests.web.test_randomisation import sealed
from tests.web.world import World

ROOT = "/mini/sequence"
OTHERS = [role for role in Role if role is not Role.STATISTICIAN]


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


@pytest.fixture
def browser(world: World) -> Browser:
    return world.browser("statistician", site_code=None)


def said(reply: Any) -> str:
    return words_of(reply.text)


def kept(world: World) -> tuple[SequenceCounts, ...]:
    by = world.person("statistician", site_code=None)
    with world.database.reading() as session:
        return reads.sequences(session, world.study, by=by)


def drawn(browser: Browser, *, sizes: str = "2, 4", slots: str = "8") -> str:
    reply = browser.post(f"{ROOT}/draw", {"block_sizes": sizes, "slots_per_stratum": slots, "step": "draw"})
    assert reply.status_code == 303, said(reply)
    return str(reply.headers["location"]).partition("?")[0]


def test_the_first_page_says_what_to_do_next(browser: Browser):
    page = browser.soup(ROOT)
    assert "nobody can be randomised yet" in page.get_text()
    assert page.select_one(f"a[href='{ROOT}/draw']") is not None


def test_block_sizes_are_compared_before_anything_is_drawn(world: World, browser: Browser):
    before = browser.soup(f"{ROOT}/draw").get_text(" ", strip=True)
    assert "How well could somebody guess?" in before
    reply = browser.post(f"{ROOT}/draw", {"block_sizes": "4 6, 8", "slots_per_stratum": "40", "step": "compare"})
    assert reply.status_code == 200
    page = BeautifulSoup(reply.text, "html.parser")
    exact = permuted_blocks((1, 1), (4, 6, 8), 24)
    row = next(each for each in page.select("#guessing tr") if "chosen" in each.get_text())
    cells = [cell.get_text(strip=True) for cell in row.find_all("td")]
    assert cells == [f"{float(100 * exact.certain):.1f}", f"{float(100 * exact.correct):.1f}", "4"]
    assert len(page.select("#guessing svg.plot")) == 2
    typed = page.select_one("input[name=block_sizes]")
    assert typed is not None
    assert typed["value"] == "4 6, 8"
    assert kept(world) == ()


def test_htmx_gets_the_comparison_alone(browser: Browser):
    fields = {**browser.form(f"{ROOT}/draw"), "block_sizes": "6", "step": "compare"}
    reply = browser.send(f"{ROOT}/draw", fields, headers={"HX-Request": "true", "HX-Target": "section#guessing"})
    assert reply.text.lstrip().startswith("<h2>How well could somebody guess?")
    again = browser.send(f"{ROOT}/draw", fields)  # looking again is no change
    assert again.status_code == 200


@pytest.mark.parametrize(
    ("sizes", "slots", "words"),
    [
        ("", "8", "Write block sizes as whole numbers with commas between them, such as 4, 6."),
        ("four", "8", "Write block sizes as whole numbers"),
        ("3", "8", "Every block size must be a multiple of 2"),
        ("0", "8", "Every block size must be a multiple of 2"),
        ("-4", "8", "Write block sizes as whole numbers"),
        ("4", "", "Write the number of slots in digits"),
        ("4", "0", "1 or more"),
        ("4", "9999999", "Ask for fewer"),
        (" ".join(str(size) for size in range(2, 44, 2)), "8", "at most 20 block sizes"),
    ],
)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_plan_that_cannot_be_drawn_says_why_and_keeps_what_was_typed(
    world: World, browser: Browser, sizes: str, slots: str, words: str
):
    reply = browser.post(f"{ROOT}/draw", {"block_sizes": sizes, "slots_per_stratum": slots, "step": "draw"})
    assert reply.status_code == 422
    page = BeautifulSoup(reply.text, "html.parser")
    summary = page.select_one("[data-error-summary]")
    assert summary is not None
    assert words in summary.get_text()
    for link in summary.select("a"):
        assert page.find(id=str(link["href"]).removeprefix("#")) is not None
    typed = page.select_one("input[name=block_sizes]")
    assert typed is not None
    assert typed["value"] == sizes
    assert kept(world) == ()


def test_more_sizes_than_can_be_computed_are_said_to_be(browser: Browser):
    reply = browser.post(f"{ROOT}/draw", {"block_sizes": "2 4 6 8 10 12 14", "step": "compare"})
    assert reply.status_code == 200
    assert "With more than six block sizes" in said(reply)


def test_draw_review_seal(world: World, browser: Browser):
    place = drawn(browser)
    page = browser.soup(place)
    words = page.get_text(" ", strip=True)
    assert "Drawn, not sealed" in words
    assert [each.get_text() for each in page.select("tbody th")] == ["north", "south"]
    assert "Next arm certain" in words
    assert "2, 4" not in words  # counts only
    wrong = browser.post(f"{place}/seal", {"password": "nope"}, page=place)
    assert wrong.status_code == 422
    assert kept(world)[0].status == "drawn"
    reply = browser.post(f"{place}/seal", {"password": PASSWORD}, page=place)
    assert reply.headers["location"] == f"{place}?done=sealed"
    assert kept(world)[0].status == "sealed"
    assert "Sealed, in use" in browser.soup(place).get_text()
    assert not browser.soup(place).select("form.confirm")
    assert "Sequence 1 is sealed and in use." in browser.soup(ROOT).get_text()


@pytest.mark.requirement("RND-14", "CONC-4")
def test_the_scripts_that_draw_it_again_are_taken_and_written_down(world: World, browser: Browser):
    place = drawn(browser)
    page = browser.soup(place)
    for name, beginning in (("script.py", "#!/usr/bin/env python3"), ("script.R", "# Draws a permuted-block")):
        assert page.select_one(f"a[href='{place}/{name}']") is not None
        reply = browser.get(f"{place}/{name}")
        assert reply.status_code == 200
        assert reply.text.startswith(beginning)
        assert reply.headers["content-disposition"] == f'attachment; filename="mini-sequence-1.{name[7:]}"'
    with world.database.reading() as session:
        taken = session.execute(select(ENTRY.c.new).where(ENTRY.c.action == "sequence.script_taken")).all()
    assert len(taken) == 2
    assert "4" not in " ".join(str(entry.new) for entry in taken)


def test_an_uploaded_list_has_no_script(browser: Browser):
    browser.post(f"{ROOT}/upload", {"listing": LISTING})
    assert "Draw it again" not in said(browser.get(f"{ROOT}/1"))
    refused = browser.get(f"{ROOT}/1/script.py")
    assert refused.status_code == 409
    assert "permuted blocks only" in said(refused)


def test_a_drawn_sequence_is_set_aside_with_a_reason(world: World, browser: Browser):
    place = drawn(browser)
    without = browser.post(f"{place}/set-aside", {"why": " "}, page=place)
    assert without.status_code == 422
    assert "Say why this list is discarded." in said(without)
    reply = browser.post(f"{place}/set-aside", {"why": "Too long"}, page=place)
    assert reply.headers["location"] == f"{ROOT}?done=discarded"
    assert kept(world)[0].status == "retired"
    late = browser.send(f"{place}/seal", {**browser.form(f"{ROOT}/draw"), "password": PASSWORD})
    assert late.status_code == 409
    assert "Draw a new list." in said(late)


def test_a_sealed_sequence_that_was_used_stays(world: World, browser: Browser):
    first = drawn(browser)
    browser.post(f"{first}/seal", {"password": PASSWORD}, page=first)
    world.filled()
    done = world.coordinator().post("/mini/participants/M-001/randomise", {"password": PASSWORD})
    assert done.status_code == 303
    assert "Participants were randomised from sequence 1" in browser.soup(f"{ROOT}/draw").get_text()
    second = drawn(browser)
    reply = browser.post(f"{second}/seal", {"password": PASSWORD}, page=second)
    assert reply.status_code == 409
    assert "so it stays in use" in said(reply)
    assert [each.status for each in kept(world)] == ["drawn", "sealed"]


@pytest.mark.requirement("RND-7", "RND-12")
def test_further_slots_stand_behind_a_sequence_that_was_used(world: World, browser: Browser):
    first = drawn(browser)
    browser.post(f"{first}/seal", {"password": PASSWORD}, page=first)
    early = {"block_sizes": "2", "slots_per_stratum": "4", "step": "draw", "further": "yes"}
    assert "Nobody has a slot of the sequence in use" in said(browser.post(f"{ROOT}/draw", early))
    world.filled()
    world.coordinator().post("/mini/participants/M-001/randomise", {"password": PASSWORD})
    for page in (f"{ROOT}/draw", f"{ROOT}/upload"):
        assert browser.soup(page).select_one(f"a[href='{page}?further=yes']") is not None
    page = f"{ROOT}/draw?further=yes"
    assert "These slots stand behind those in use" in browser.soup(page).get_text()
    compared = browser.post(
        f"{ROOT}/draw", {"block_sizes": "2", "slots_per_stratum": "4", "step": "compare"}, page=page
    )
    assert "These slots stand behind those in use" in said(compared), "it stays so whatever is compared"
    reply = browser.post(f"{ROOT}/draw", {"block_sizes": "2", "slots_per_stratum": "4", "step": "draw"}, page=page)
    place = reply.headers["location"].partition("?")[0]
    review = browser.soup(place).get_text(" ", strip=True)
    assert "It stands behind what is in use" in review
    assert "It takes the place of" not in review
    assert "as soon as it is sealed" not in review, "nobody is, before what is in use is used up"
    sealed_now = browser.post(f"{place}/seal", {"password": PASSWORD}, page=place)
    assert sealed_now.status_code == 303
    assert "It stands behind what is in use" in browser.soup(sealed_now.headers["location"]).get_text()
    assert [each.status for each in kept(world)] == ["sealed", "sealed"]
    assert "goes on with the next once it has used up the one before" in browser.soup(ROOT).get_text()
    certificate = browser.soup(f"{place}/certificate").get_text(" ", strip=True)
    assert "sealed before any of them was used" in certificate
    assert "Where several sequences are in use" in certificate
    assert browser.get(f"{place}/certificate.json").json()["further"] is True
    assert browser.get(f"{place}/certificate.pdf").status_code == 200
    path = f"{ROOT}/upload?further=yes"
    taken = browser.post(f"{ROOT}/upload", {"listing": LISTING}, page=path)
    assert taken.status_code == 303
    third = taken.headers["location"].partition("?")[0]
    assert browser.post(f"{third}/seal", {"password": PASSWORD}, page=third).status_code == 303
    assert [each.status for each in kept(world)] == ["sealed"] * 3


LISTING = "stratum,position,arm\n" + "".join(
    f"{site},{place},{'active' if place % 2 else 'sham'}\n" for site in ("north", "south") for place in (1, 2, 3)
)


@pytest.mark.parametrize("way", ["pasted", "file"])
def test_a_finished_list_is_taken(world: World, browser: Browser, way: str):
    path = f"{ROOT}/upload"
    files = {"file": ("list.csv", b"\xef\xbb\xbf" + LISTING.encode() if way == "file" else b"", "text/csv")}
    if way == "pasted":
        files = {"file": ("", b"", "application/octet-stream")}
    fields = {**browser.form(path), "listing": LISTING if way == "pasted" else ""}
    reply = browser.send(path, fields, files=files)
    assert reply.status_code == 303, said(reply)
    found = kept(world)[0]
    assert (found.method, found.slots, found.used) == ("list", 6, 0)
    assert "is not known here" in browser.soup(f"{ROOT}/1").get_text()


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        ("", "Choose a file, or paste the list."),
        ("stratum,position,arm\nnorth,1,nobody\n", "Line 2: the arm is not one of the study's"),
        ("stratum,position,arm\nnorth,2,sham\n", "position 1 is missing before position 2"),
        ("a,b\n", "the first line must name the columns stratum,position,arm."),
    ],
)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_wrong_list_is_not_taken_and_stays_on_the_page(world: World, browser: Browser, listing: str, words: str):
    reply = browser.post(f"{ROOT}/upload", {"listing": listing})
    assert reply.status_code == 422
    assert words in said(reply)
    typed = BeautifulSoup(reply.text, "html.parser").select_one("textarea")
    assert typed is not None
    assert typed.get_text().strip() == listing.strip()
    assert kept(world) == ()


def test_a_file_that_is_no_text_is_refused(browser: Browser):
    path = f"{ROOT}/upload"
    reply = browser.send(path, browser.form(path), files={"file": ("list.xlsx", b"PK\xff\xfe", "application/zip")})
    assert reply.status_code == 422
    assert "not text in UTF-8" in said(reply)


MINIMISED = {"method": "minimisation", "strata": [{"code": "site", "label": "Site"}]}


def test_a_plan_of_minimisation_takes_a_finished_list_as_well(database: Database):
    browser = World(database, allocation=MINIMISED).browser("statistician", site_code=None)
    assert browser.post(f"{ROOT}/upload", {"listing": LISTING}).status_code == 303


@pytest.mark.requirement("RND-12", "CONC-4")
def test_minimisation_is_sealed_decided_and_closed(database: Database):
    world = World(database, allocation=MINIMISED)
    browser = world.browser("statistician", site_code=None)
    form = browser.soup(f"{ROOT}/draw")
    assert "Nothing is drawn ahead" in form.get_text()
    assert form.find(id="slots_per_stratum") is None
    typed = {"measure": "range", "probability": "4/5", "weights": "", "step": "draw"}
    wrong = browser.post(f"{ROOT}/draw", {**typed, "weights": "1, two"})
    assert wrong.status_code == 422
    assert "one whole number for each factor" in said(wrong)
    reply = browser.post(f"{ROOT}/draw", typed)
    assert reply.status_code == 303
    place = reply.headers["location"].partition("?")[0]
    assert "nothing to count before" in browser.soup(place).get_text()
    assert browser.post(f"{place}/seal", {"password": PASSWORD}, page=place).status_code == 303
    for number in (1, 2, 3):
        world.filled()
        done = world.coordinator().post(f"/mini/participants/M-00{number}/randomise", {"password": PASSWORD})
        assert done.status_code == 303
    assert "3 decided" in browser.soup(ROOT).get_text()
    arms = browser.soup(f"{ROOT}/allocations").get_text(" ", strip=True)
    assert "M-003 north" in arms
    certificate = browser.soup(f"{place}/certificate").get_text(" ", strip=True)
    assert "each arm is decided when it is given" in certificate
    assert browser.get(f"{place}/certificate.pdf").content.startswith(b"%PDF")
    *proofs, _ = [json.loads(line) for line in browser.get(f"{place}/proofs.ndjson").text.splitlines()]
    assert [(proof["position"], proof["levels"]) for proof in proofs] == [
        (1, ["north"]),
        (2, ["north"]),
        (3, ["north"]),
    ]


CLUSTERED = {"method": "cluster", "strata": [{"code": "site", "label": "Site"}]}


def joined(world: World) -> None:
    """An amendment brings another site."""
    definition = world.study.definition
    sites = (*definition.sites, definition.sites[0].model_copy(update={"code": "west", "name": "West clinic"}))
    amended = definition.model_copy(update={"version": "2", "sites": sites})
    by = world.person("administrator", site_code=None)
    with world.database.writing() as session:
        load_study(session, amended, by=by, now=clock.now())


@pytest.mark.requirement("RND-12")
def test_a_sequence_that_was_sealed_for_another_plan_is_named(database: Database):
    consent = {**MINI["consent_documents"][0], "sha256": "0" * 64}  # type: ignore[index]
    world = World(database, consent_documents=[consent])
    browser = world.browser("statistician", site_code=None)
    place = drawn(browser)
    browser.post(f"{place}/seal", {"password": PASSWORD}, page=place)
    words = "Sequence 1 was drawn for other arms"
    assert words not in browser.soup(ROOT).get_text()
    definition = world.study.definition
    arms = (definition.arms[0].model_copy(update={"ratio": 2}), *definition.arms[1:])
    amended = definition.model_copy(update={"version": "2", "arms": arms})
    by = world.person("administrator", site_code=None)
    with world.database.writing() as session:
        load_study(session, amended, by=by, now=clock.now())
    assert words in browser.soup(ROOT).get_text()


@pytest.mark.requirement("RND-1", "RND-12", "RND-15")
def test_sites_are_drawn_in_batches(database: Database):
    consent = {**MINI["consent_documents"][0], "sha256": "0" * 64}  # type: ignore[index]
    world = World(database, allocation=CLUSTERED, consent_documents=[consent])
    browser = world.browser("statistician", site_code=None)
    page = browser.soup(f"{ROOT}/draw")
    words = page.get_text(" ", strip=True)
    assert "everybody of a site in one arm" in words
    # Forty people at two sites: all but the first of each are certain, and the first of the second site, too.
    assert "the next arm is certain in 97.5% of allocations, whatever is drawn" in words
    ticked = [box["value"] for box in page.select("input[name=sites][checked]")]
    assert ticked == ["north", "south"]
    fields = {"slots_per_stratum": "30", "step": "draw"}
    nobody = browser.post(f"{ROOT}/draw", {**fields, "sites": []})
    assert nobody.status_code == 422
    assert "Choose the sites that are drawn together" in said(nobody)
    one = browser.post(f"{ROOT}/draw", {**fields, "step": "compare", "sites": ["north"]})
    assert "the next arm is certain in 95.0%" in said(one), "a site drawn alone is a coin"
    first = browser.post(f"{ROOT}/draw", {**fields, "sites": ticked}).headers["location"].partition("?")[0]
    review = browser.soup(first).get_text(" ", strip=True)
    assert "Zephyrine training one site" in review
    assert "Placebex device one site" in review
    assert "Other sites keep theirs" in review
    assert "slots" not in review.split("Balance and predictability")[1].split("Slots by stratum")[0]
    assert browser.post(f"{first}/seal", {"password": PASSWORD}, page=first).status_code == 303
    world.filled()
    done = world.coordinator().post("/mini/participants/M-001/randomise", {"password": PASSWORD})
    assert done.status_code == 303

    full = browser.soup(f"{ROOT}/draw")
    assert "Every site has its arm." in full.get_text()
    assert full.select_one("form[action$='/draw']") is None
    assert "Every site has its arm." in browser.soup(f"{ROOT}/upload").get_text()
    joined(world)
    page = browser.soup(f"{ROOT}/draw")
    assert [box["value"] for box in page.select("input[name=sites]")] == ["west"]
    assert "North clinic (sequence 1)" in page.get_text(" ", strip=True).replace("( ", "(")
    refused = browser.post(f"{ROOT}/draw", {**fields, "sites": ["north", "west"]})
    assert "north has its arm already, by sequence 1" in said(refused)
    listing = {"listing": "position,arm\n1,sham\n2,active\n", "sites": ["west"]}
    mixed = browser.post(f"{ROOT}/upload", listing)
    assert "Everybody of a site is in one arm" in said(mixed)
    second = browser.post(f"{ROOT}/draw", {**fields, "sites": ["west"]}).headers["location"].partition("?")[0]
    review = browser.soup(second).get_text(" ", strip=True)
    assert "Left over by the ratio one site, its arm by chance" in review
    assert "It takes the place of" not in review
    assert browser.post(f"{second}/seal", {"password": PASSWORD}, page=second).status_code == 303
    assert [(each.version, each.status) for each in kept(world)] == [(2, "sealed"), (1, "sealed")]
    assert "Sequences 1, 2 are sealed and in use" in browser.soup(ROOT).get_text()
    certificate = browser.soup(f"{second}/certificate").get_text(" ", strip=True)
    assert "before the first participant of its sites was randomised" in certificate
    assert "Its sites are not drawn again" in certificate
    assert browser.get(f"{second}/certificate.json").json()["strata"] == {"west": 30}

    page = browser.soup(f"{ROOT}/draw")
    assert page.select_one(f"a[href='{ROOT}/draw?further=yes']") is not None
    page = browser.soup(f"{ROOT}/draw?further=yes")
    assert "in the arm it has" in page.get_text(" ", strip=True)
    assert [box["value"] for box in page.select("input[name=sites][checked]")] == ["north", "south"]
    assert page.select_one("#guessing") is None, "what is given is known to whoever knows the site's arm"
    more = {**fields, "slots_per_stratum": "5", "further": "yes"}
    assert "west has no arm to go on with" in said(browser.post(f"{ROOT}/draw", {**more, "sites": ["west"]}))
    third = browser.post(f"{ROOT}/draw", {**more, "sites": ["north"]}).headers["location"].partition("?")[0]
    review = browser.soup(third).get_text(" ", strip=True)
    assert "one site" not in review
    assert "It stands behind what is in use" in review
    assert browser.post(f"{third}/seal", {"password": PASSWORD}, page=third).status_code == 303
    assert [(each.version, each.status) for each in kept(world)] == [(3, "sealed"), (2, "sealed"), (1, "sealed")]
    assert browser.get(f"{second}/certificate.pdf").content.startswith(b"%PDF")


def test_a_study_that_only_observes_has_nothing_to_draw(database: Database):
    browser = World(database, allocation={"method": "observed"}).browser("statistician", site_code=None)
    assert "allocates nobody" in browser.soup(ROOT).get_text()
    assert browser.get(f"{ROOT}/draw").status_code == 404


def randomised(world: World, count: int) -> None:
    sealed(world, slots=2 * count)
    browser = world.coordinator()
    for number in range(1, count + 1):
        world.filled()
        done = browser.post(f"/mini/participants/M-{number:03}/randomise", {"password": PASSWORD})
        assert done.status_code == 303


def opened(world: World) -> int:
    with world.database.reading() as session:
        found = session.execute(select(ENTRY.c.participant).where(ENTRY.c.action == "envelope.opened")).all()
        return len(found)


def test_the_list_of_arms_is_paged_and_each_opening_is_in_the_log(
    world: World, browser: Browser, monkeypatch: pytest.MonkeyPatch
):
    randomised(world, 4)
    monkeypatch.setattr("app.foundation.paging.PAGE", 3)
    page = browser.soup(f"{ROOT}/allocations")
    assert page.select_one(".arm-rule") is not None
    assert [each.get_text() for each in page.select("tbody th")] == ["0001", "0002", "0003"]
    assert opened(world) == 3
    onward = page.select_one("a[rel=next]")
    assert onward is not None
    second = browser.soup(str(onward["href"]))
    assert [each.get_text() for each in second.select("tbody th")] == ["0004"]
    back = second.select_one("a[rel=prev]")
    assert back is not None
    assert [each.get_text() for each in browser.soup(str(back["href"])).select("tbody th")] == ["0001", "0002", "0003"]
    assert opened(world) == 7


def test_the_arms_as_a_file(world: World, browser: Browser):
    randomised(world, 2)
    reply = browser.get(f"{ROOT}/allocations.csv")
    rows = list(csv.DictReader(io.StringIO(reply.text.removeprefix("\ufeff"))))
    assert [row["participant"] for row in rows] == ["M-001", "M-002"]
    assert {row["arm"] for row in rows} == {"active", "sham"}  # blocks of two
    assert opened(world) == 2


@pytest.mark.parametrize("query", ["nonsense", "WzAsIngiXQ", "WzAsMV0x"])
def test_a_cursor_that_was_tampered_with_is_no_error_of_ours(browser: Browser, query: str):
    assert browser.get(f"{ROOT}/allocations?after={query}").status_code in (404, 422)


GETS = ["", "/draw", "/upload", "/allocations", "/allocations.csv", "/1", "/1/seal", "/1/set-aside", "/99", "/x"]
GETS += ["/design", "/1/script.py", "/1/script.R"]
POSTS = ["/design", "/draw", "/upload", "/1/seal", "/1/set-aside"]


@pytest.mark.requirement("CONC-4", "E9-1", "SEC-19", "SPI-21b")
@pytest.mark.parametrize("role", OTHERS)
@pytest.mark.parametrize("kind", ["sqlite"])
def test_for_everybody_else_it_was_never_there(world: World, browser: Browser, role: Role):
    drawn(browser)
    other = world.browser(role)
    start = other.client.get("/mini/study")
    token = BeautifulSoup(start.text, "html.parser").select_one("meta[name=csrf-token]")
    assert token is not None
    before = len(world.log())

    def headers(reply: Any) -> dict[str, str]:
        return dict(reply.headers)

    nonsense = other.get("/mini/nonsense")
    assert nonsense.status_code == 404
    for path in GETS:
        reply = other.get(ROOT + path)
        assert (reply.status_code, reply.content, headers(reply)) == (404, nonsense.content, headers(nonsense)), path
    fields = {"csrf_token": token["content"], "password": PASSWORD, "step": "draw", "block_sizes": "4"}
    posted = other.send("/mini/nonsense", fields)
    for path in POSTS:
        for sent in (fields, fields, {}, {"csrf_token": "wrong"}):
            reply = other.send(ROOT + path, sent)
            assert (reply.status_code, reply.content, headers(reply)) == (404, posted.content, headers(posted)), path
    assert len(world.log()) == before
    assert len(kept(world)) == 1
