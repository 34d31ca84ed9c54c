"""Audit: who did what and why, to those who may know; what verifying finds; the log as a file."""

import ast
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from babel.messages.pofile import read_po
from bs4 import BeautifulSoup

from app.audit import checkpoints, replacing, signing
from app.audit.actions import ENTRY, Change, record
from app.capture.actions import COMPUTED_AGAIN
from app.foundation import clock, paging
from app.foundation.database import Database
from app.foundation.languages import TRANSLATIONS
from app.participants.actions import withdraw
from app.people.permissions import Permission
from app.settings import Settings
from app.web.acts import DONE, KINDS, REFUSED
from app.web.audit import told
from tests.api.client import api_client
from tests.audit.test_log import without_triggers
from tests.conftest import ROOT
from tests.factories import definition, person
from tests.web.browser import counted_statements
from tests.web.world import World

AUDIT = "/mini/audit"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database)


def words(browser, path: str = AUDIT) -> str:
    return str(browser.soup(path).get_text(" ", strip=True))


def rows(reply) -> list[dict[str, str]]:
    assert reply.status_code == 200
    return list(csv.DictReader(io.StringIO(reply.text.removeprefix("\ufeff"))))


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("participant.randomise_refused", "Refused: randomise participant"),
        ("entry.save_refused", "Refused: save entry"),
        ("visit_note.sign_off_refused", "Refused: sign off visit note"),
        ("request_refused", "Refused: request"),
        ("participant.randomised", "Participant randomised"),
        ("spaceship.launched", "Spaceship launched"),
    ],
)
def test_what_was_refused_is_told_as_a_refusal(action, words):
    entry = dict.fromkeys(("username", "role", "participant", "subject", "item", "why", "old", "new", "request_id"), "")
    lines = told([{**entry, "old": None, "new": None, "at": clock.now(), "action": action}], definition(), "UTC", "en")
    assert [line["action"] for line in lines] == [words]


@pytest.mark.parametrize(
    ("language", "acts"),
    [
        ("de", ("M-001 · Eintrag gespeichert · Baseline, Pain", "Version 1", "coordinator_north, Studienkoordination")),
        ("es", ("M-001 · Entrada guardada · Baseline, Pain", "versión 1", "coordinator_north, coordinador")),
    ],
)
def test_what_was_done_is_told_in_the_language_of_the_reader(world, language, acts):
    world.filled()
    browser = world.browser("data_manager")
    browser.client.headers["Accept-Language"] = language
    said = words(browser)
    for act in acts:
        assert act in said
    assert "Entry saved" not in said


def test_why_is_told_in_the_language_of_the_reader_only_where_the_program_says_it(world):
    world.filled()
    names = ("username", "role", "subject", "item", "request_id", "participant")
    entry: dict[str, Any] = dict.fromkeys(names, "")
    entry |= {"old": None, "new": None, "at": clock.now()}
    lines = [
        {**entry, "action": action, "why": why, "request_id": str(number)}
        for number, (action, why) in enumerate(
            (
                ("entry.corrected", COMPUTED_AGAIN),
                ("entry.corrected", "Computed again."),
                ("entry.save_refused", "This study does not randomise. Go on with the visits."),
                ("participant.withdrawn", "This study does not randomise. Go on with the visits."),
                ("envelope.opened", "Proofs of allocations"),
            )
        )
    ]
    assert [each["is_own"] for each in told(lines, definition(), "UTC", "en")] == [True, False, True, False, True]
    with world.database.writing() as session:
        for why in (COMPUTED_AGAIN, "Computed again"):
            change = Change("entry.corrected", "M-001", "entry/baseline/pain", why=why)
            record(session, world.study.code, [change], by=world.coordinators["north"], now=clock.now())
    browser = world.browser("data_manager")
    browser.client.headers["Accept-Language"] = "de"
    whys = [row.select("td")[-1].get_text(strip=True) for row in browser.soup(AUDIT).select("tbody tr")][:2]
    assert whys == ["Computed again", "Aus den Antworten neu berechnet."]


@pytest.mark.parametrize("language", ["de", "es"])
def test_every_kind_the_log_can_be_narrowed_to_is_in_the_language_of_the_reader(world, language):
    browser = world.browser("data_manager")
    browser.client.headers["Accept-Language"] = language
    options = {each["value"]: each.get_text(strip=True) for each in browser.soup(AUDIT).select("#filter-kind option")}
    said = _read_catalogue(language)
    assert {f"{kind}." for kind in KINDS} == set(options) - {""}
    for kind, english in KINDS.items():
        assert options[f"{kind}."] == said[english]
    assert options["entry."] != KINDS["entry"]
    shown = list(options.values())[1:]
    assert shown == sorted(shown, key=str.casefold)


def _read_catalogue(language: str) -> dict[str, str]:
    with (TRANSLATIONS / language / "LC_MESSAGES" / "sentences.po").open("rb") as text:
        return {str(each.id): str(each.string) for each in read_po(text, locale=language)}


def test_each_action_of_the_log_has_words_and_stands_below_a_kind():
    """Whatever is written down in the code, or refused, is told in words; only of these there are translations."""
    done, refused = actions_in_the_code()
    assert len(done) > 100
    assert len(refused) > 90
    assert sorted(done - set(DONE)) == []
    assert sorted((refused | {each.value for each in Permission}) - set(REFUSED)) == []
    assert set(KINDS) <= {each.partition(".")[0] for each in DONE}


def actions_in_the_code() -> tuple[set[str], set[str]]:
    """The names of actions that stand as a text where something is written down, and where something may be refused."""
    done, refused = set(), set()
    for path in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Change" and node.args:
                done |= _names(node.args[0])
            elif isinstance(node, ast.keyword) and node.arg == "action":
                refused |= _names(node.value)
            elif isinstance(node, ast.Dict):
                keyed = zip(node.keys, node.values, strict=True)
                refused |= {
                    name
                    for key, value in keyed
                    if isinstance(key, ast.Constant) and key.value == "action"
                    for name in _names(value)
                }
    told_elsewhere = {each for each in refused if each in DONE}  # a step of a status, and examples of REST
    return done, {each.removesuffix("_refused") for each in refused - told_elsewhere}


def _names(node: ast.AST) -> set[str]:
    texts = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    return {each for each in texts if re.fullmatch(r"[a-z_]+\.[a-z_]+", each)}


@pytest.mark.requirement("EMA-3")
def test_the_log_is_told_in_words(world):
    world.filled()
    said = words(world.browser("data_manager"))
    assert "M-001 · Entry saved · Baseline, Pain" in said
    assert "Pain, past week 5" in said
    assert "M-001 · Screening answered" in said
    assert "Age 44 years" in said
    assert "Criteria all 3 in favour" in said
    assert "coordinator_north, coordinator" in said
    assert "Lovelace" not in said
    assert "Given name sealed" in said


def test_why_is_shown_beside_what(world):
    participant = world.consented()
    with world.database.writing() as session:
        withdraw(
            session,
            world.study,
            participant,
            level="visits",
            reason=f"Moved {HOSTILE}",
            on=world.today(),
            by=world.coordinators["north"],
            now=clock.now(),
        )
    reply = world.browser("monitor").get(AUDIT)
    assert HOSTILE not in reply.text
    assert "Moved &lt;script&gt;" in reply.text
    said = BeautifulSoup(reply.text, "html.parser").get_text(" ", strip=True)
    assert "Stops visits" in said


def test_the_filters_narrow_and_stay_in_the_address(world):
    world.consented("north")
    world.screened("south")
    browser = world.browser("data_manager")

    def found(query: str) -> set[str]:
        return {row["participant"] for row in rows(browser.get(f"{AUDIT}.csv{query}"))}

    today = world.today()
    assert found("") == {"M-001", "M-002"}
    assert found("?participant=m-002") == {"M-002"}
    assert found("?who=coordinator_south") == {"M-002"}
    assert found("?kind=consent.") == {"M-001"}
    assert found(f"?since={today.replace(year=today.year + 1, day=1)}") == set()
    assert found("?until=2020-01-01") == set()
    assert found(f"?since={today.replace(year=today.year - 1, day=1)}") == {"M-001", "M-002"}
    assert browser.get(f"{AUDIT}?who=%00").status_code == 422
    page = browser.soup(f"{AUDIT}?kind=consent.&participant=M-001")
    assert page.select_one("option[selected]")["value"] == "consent."
    assert page.find("a", href=f"{AUDIT}.csv?participant=M-001&kind=consent.") is not None
    assert "Nothing in the log fits these filters" in words(browser, f"{AUDIT}?participant=M-999")


@pytest.mark.parametrize("typed", ["yesterday", "2026-13-01", HOSTILE, "9999-12-31"])
def test_a_date_that_is_none_is_said_at_its_field(world, typed):
    browser = world.browser("data_manager")
    reply = browser.get(AUDIT, params={"until": typed})
    assert reply.status_code == 422
    assert "Write the date as year-month-day, such as 2026-03-14." in reply.text
    assert HOSTILE not in reply.text


@pytest.mark.requirement("P11-e3", "EMA-5")
def test_the_log_is_paged_both_ways_and_the_file_has_all_of_it(world):
    with world.database.writing() as session:
        changes = [Change("note.written", "", f"note/{number}") for number in range(620)]
        record(session, "mini", changes, by=world.coordinators["north"], now=clock.now())
    browser = world.browser("data_manager")
    first = browser.soup(AUDIT)
    assert "Note written · 619" in first.get_text(" ", strip=True)
    second = browser.soup(str(first.select_one("a[rel=next]")["href"]))
    assert "Note written · 569" in second.get_text(" ", strip=True)
    back = browser.soup(str(second.select_one("a[rel=prev]")["href"]))
    assert "Note written · 619" in back.get_text(" ", strip=True)
    assert [row["position"] for row in rows(browser.get(f"{AUDIT}.csv"))] == [str(n) for n in range(619, -1, -1)]
    for cursor in ("nonsense", paging.encode("x"), paging.encode(2**70), paging.encode(-(2**70), backwards=True)):
        assert browser.get(f"{AUDIT}?after={cursor}").status_code in (200, 422), cursor


def test_a_file_for_spreadsheets_runs_no_formula(world):
    change = Change("note.written", "", "", new="x", why="=HYPERLINK(1)")
    with world.database.writing() as session:
        record(session, "mini", [change], by=world.coordinators["north"], now=clock.now())
    found = rows(world.browser("data_manager").get(f"{AUDIT}.csv"))
    assert found[0]["why"] == "'=HYPERLINK(1)"
    assert json.loads(found[0]["new"]) == "x"


def test_what_is_sealed_stays_out_of_page_and_file(world):
    world.screened()
    found = rows(world.browser("data_manager").get(f"{AUDIT}.csv?kind=identity."))
    assert {row["new"] for row in found} == {"sealed"}


def test_an_investigator_reads_the_log_of_their_site_only(world):
    world.screened("north")
    world.screened("south")
    browser = world.browser("investigator", site_code="north")
    said = words(browser)
    assert "M-001" in said
    assert "M-002" not in said
    assert {row["participant"] for row in rows(browser.get(f"{AUDIT}.csv"))} == {"M-001"}
    assert rows(browser.get(f"{AUDIT}.csv?participant=M-002")) == []


@pytest.mark.parametrize("role", ["coordinator", "assessor", "clinician"])
def test_others_read_no_log(world, role):
    browser = world.browser(role)
    assert browser.get(AUDIT).status_code == 403
    assert browser.get(f"{AUDIT}.csv").status_code == 403
    token = browser.soup("/mini/study").select_one("meta[name=csrf-token]")["content"]
    assert browser.send(f"{AUDIT}/verify", {"csrf_token": token}).status_code == 403


@pytest.mark.parametrize("role", ["statistician", "administrator"])
def test_who_only_verifies_reads_nothing(world, role):
    world.screened()
    browser = world.browser(role)
    said = words(browser)
    assert "Your role verifies the log and does not read it." in said
    assert "M-001" not in said
    assert browser.get(f"{AUDIT}.csv").status_code == 403
    assert "none is changed, missing or added" in browser.post(f"{AUDIT}/verify", {}, page=AUDIT).text


def test_who_may_not_verify_is_told_why(world):
    page = world.browser("investigator").soup(AUDIT)
    assert page.select_one("button[aria-disabled]").get_text(strip=True) == "Verify the log"


def test_verifying_says_what_was_checked_and_against_which_checkpoint(world, tmp_path: Path):
    world.screened()
    browser = world.browser("monitor", data=tmp_path)
    before = browser.post(f"{AUDIT}/verify", {}, page=AUDIT)
    assert "No checkpoint is kept outside the database yet" in before.text
    with world.database.reading() as session:
        point = checkpoints.keep(tmp_path / "checkpoints", session, "mini")
    assert point is not None
    world.screened()
    fields = browser.form(AUDIT, f"{AUDIT}/verify")
    for _ in range(2):  # as often as one likes
        after = browser.send(f"{AUDIT}/verify", fields)
        assert after.status_code == 200
        assert f"One checkpoint kept outside the database, with {point.size} entries" in after.text
        assert "none is changed, missing or added" in after.text


def test_verifying_names_what_does_not_fit(world, tmp_path: Path):
    world.screened()
    with world.database.reading() as session:
        path = tmp_path / "checkpoints"
        checkpoints.keep(path, session, "mini")
    kept = next(path.glob("*.checkpoint"))
    kept.write_text(kept.read_text().replace("mini\n", "mini\n9", 1))
    reply = world.browser("data_manager", data=tmp_path).post(f"{AUDIT}/verify", {}, page=AUDIT)
    assert "The log is not what was written: one fault was found." in reply.text
    assert kept.name in reply.text


def test_what_one_person_did_in_one_go_is_one_line():
    entry = {
        "request_id": "r",
        "at": clock.now(),
        "username": "anna",
        "role": "assessor",
        "action": "entry.saved",
        "participant": "M-001",
        "subject": "entry/week18/pain",
        "why": None,
        "old": None,
    }
    several = [
        {**entry, "item": "pain_where", "new": '["back","leg"]'},
        {**entry, "item": "pain_days", "new": '{"missing":"UNK"}', "old": "3"},
    ]
    lines = told(several, definition(), "UTC", "en", place="/mini")
    assert len(lines) == 1
    assert lines[0]["action"] == "M-001 · Entry saved · Week 18, Pain"
    assert lines[0]["changes"] == [("Days with pain", "3", "Unknown"), ("Where it hurts", None, "Back, Leg")]
    assert lines[0]["url"] == "/mini/participants/M-001"


def test_what_was_only_looked_at_of_many_in_one_go_is_one_line():
    entry = {"request_id": "r", "at": clock.now(), "username": "cli", "role": "clinician", "action": "envelope.opened"}
    rest = {"subject": "", "item": "", "old": None, "new": None, "why": None}
    codes = [f"M-{number:03}" for number in range(9, 0, -1)]
    rows: list[dict[str, Any]] = [{**entry, **rest, "participant": code} for code in codes]
    (line,) = told(rows, definition(), "UTC", "en", place="/mini")
    assert line["action"] == "M-001, M-002, M-003, M-004, M-005, M-006 and 3 more · Envelope opened"
    assert (line["url"], line["changes"]) == ("", [])
    apart = [rows[0], {**rows[1], "why": "Emergency"}, {**rows[2], "request_id": "s"}]
    assert [each["action"] for each in told(apart, definition(), "UTC", "en")] == [
        f"{code} · Envelope opened" for code in ("M-009", "M-008", "M-007")
    ]
    changed = [{**row, "new": '"x"', "item": "pain_days"} for row in rows[:2]]
    assert len(told(changed, definition(), "UTC", "en")) == 2


def test_moments_among_the_values_are_told_by_the_clock_of_the_site():
    """Otherwise an appointment of nine in the morning would stand in the log as if it had been in the night before."""
    entry = dict.fromkeys(("username", "role", "participant", "item", "why", "request_id"), "")
    moved = {"at": "2026-01-14T22:00:00Z", "until": "2026-07-14T22:00:00.000000+00:00", "on": "2026-01-14"}
    rest = {"at": clock.now(), "action": "appointment.moved", "subject": "appointment/3", "old": None}

    def changes(timezone: str, said: object = moved) -> dict[str, str | None]:
        (line,) = told([{**entry, **rest, "new": json.dumps(said)}], definition(), timezone, "en")
        return {name: new for name, _, new in line["changes"]}

    there = {"When": "15 Jan 2026 09:00 AEDT", "Until": "15 Jul 2026 08:00 AEST", "Day": "14 Jan 2026"}
    assert changes("Australia/Sydney") == there
    assert changes("UTC") == {"When": "14 Jan 2026 22:00 UTC", "Until": "14 Jul 2026 22:00 UTC", "Day": "14 Jan 2026"}
    assert changes("Europe/Zurich", "2026-01-14T22:00:00Z") == {"": "14 Jan 2026 23:00 CET"}


def test_what_changed_is_told_in_the_language_of_the_reader() -> None:
    entry = dict.fromkeys(("username", "role", "participant", "item", "why", "request_id"), "")
    found = {
        "category": "missed_visit",
        "grade": "minor",
        "held_on": "2026-01-14",
        "in_time": False,
        "note": "As typed.",
    }
    rest = {"at": clock.now(), "action": "deviation.reported", "subject": "deviation/3", "old": None}
    (line,) = told([{**entry, **rest, "new": json.dumps(found)}], definition(), "UTC", "de")
    assert [(name, new) for name, _, new in line["changes"]] == [
        ("Art", "Versäumte Visite"),
        ("Grad", "Leicht"),
        ("Durchgeführt am", "14. Jan. 2026"),
        ("Rechtzeitig", "nein"),
        ("Hinweis", "As typed."),
    ]
    meant = {
        "meaning": "I explained the study, answered the questions, and the participant agreed of their own free will."
    }
    rest |= {"action": "consent.countersigned", "subject": "consent/1"}
    (line,) = told([{**entry, **rest, "new": json.dumps(meant)}], definition(), "UTC", "de")
    ((name, _, new),) = line["changes"]
    assert name == "Bedeutung"
    assert str(new).startswith("Ich habe")


@pytest.mark.parametrize(
    ("about", "new", "said"),
    [
        (
            ("link.given", "link/baseline"),
            {"purpose": "questions", "about": "baseline"},
            [("Wofür es ist", "Fragen einer Visite"), ("Betrifft", "Baseline")],
        ),
        (
            ("entry.entered_twice", "double/baseline/pain"),
            {"compared": 2, "differing": 1, "state": "to_reconcile"},
            [("Verglichen", "2"), ("Abweichend", "1"), ("Zustand", "Abzustimmen")],
        ),
        (
            ("appointment.booked", "appointment/1"),
            {"status": "booked", "visit": "week18"},
            [("Status", "Gebucht"), ("Visite", "Week 18")],
        ),
        (("deviation.found", "deviation/1"), {"rule": "missed"}, [("Regel", "Versäumte Visite")]),
    ],
)
def test_names_and_codes_of_ours_are_told_in_the_language_of_the_reader(
    about: tuple[str, str], new: dict[str, object], said: list[tuple[str, str]]
):
    entry: dict[str, Any] = dict.fromkeys(("username", "role", "participant", "item", "why", "request_id"), "")
    entry |= {"at": clock.now(), "action": about[0], "subject": about[1], "old": None, "new": json.dumps(new)}
    (line,) = told([entry], definition(), "UTC", "de")
    assert [(name, after) for name, _, after in line["changes"]] == said


@pytest.mark.parametrize(
    "value",
    [
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
        "2026-02-31",
        "2026-13-01T25:61:61+99:99",
        "x_y",
        "",
        "0" * 64,
        1.5,
        True,
        None,
        [],
        {},
        {"a": {"b": [1]}},
    ],
)
def test_any_value_in_the_log_can_be_told(value):
    entry = {
        "request_id": "r",
        "at": clock.now(),
        "username": "anna",
        "role": "",
        "action": "thing.done",
        "participant": "",
        "subject": "thing",
        "item": "",
        "why": None,
        "old": None,
        "new": json.dumps(value),
    }
    for timezone in ("UTC", "Australia/Sydney", "America/New_York"):
        twice = [entry, {**entry, "new": json.dumps({"key": value}), "request_id": "s"}]
        assert told(twice, definition(), timezone, "en")


def test_no_page_asks_the_database_more_than_twelve_times(database: Database):
    world = World(database)
    world.filled()
    browser = world.browser("data_manager")
    for path in (AUDIT, f"{AUDIT}.csv"):
        with counted_statements(database) as statements:
            assert browser.get(path).status_code == 200
        assert 2 <= len(statements) <= 12, (path, statements)


@pytest.mark.requirement("EMA-4", "FDA-13")
def test_whatever_the_settings_say_the_log_is_written(world):
    """The switches that there are: a new one is tried here as well."""
    switches = {name for name, field in Settings.model_fields.items() if field.annotation is bool}
    assert switches == {"secure_cookies", "demo"}, "secure_cookies decides about a cookie, and is off in tests"
    world.consented()
    before = len(world.log())
    browser = world.coordinator(demo=True, largest_body=100_000, api_requests_a_minute=0, idle_minutes=60)
    form = "/mini/participants/M-001/visits/baseline/entries/pain"
    assert browser.post(form, {"pain_nrs": "5", "pain_days": "3"}).status_code == 303
    assert world.log()[before:].count("entry.saved") == 2


@pytest.mark.requirement("LOG-11")
@pytest.mark.parametrize("role", ["monitor", "statistician", "administrator"])
def test_the_page_says_which_key_signs_since_when_and_which_did_before(world, tmp_path: Path, role: str):
    world.screened()
    browser = world.browser(role, data=tmp_path)
    keys = world.database.keys

    def shown() -> list[list[str]]:
        table = browser.soup(AUDIT).find("caption", string="Public keys of this log").find_parent("table")
        return [[cell.get_text("", strip=True) for cell in row.select("th, td")] for row in table.select("tbody tr")]

    assert shown() == [[signing.vkey(keys, "mini", 0), "the beginning of the log", "0"]]
    with world.database.writing() as session:
        by = person(session, None, "administrator", username="admin")
        replacing.replace_key(session, tmp_path / "checkpoints", by=by, why="A copy was seen", now=clock.now())
        size = signing.log_keys(session, "mini")[-1].first
    new, old = shown()
    assert (new[0], new[2]) == (signing.vkey(keys, "mini", 1), str(size))
    assert clock.today("Australia/Sydney").strftime("%Y") in new[1]
    assert old == [signing.vkey(keys, "mini", 0), "the beginning of the logreplaced", "0"]
    assert "none is changed, missing or added" in browser.post(f"{AUDIT}/verify", {}, page=AUDIT).text


@pytest.mark.requirement("LOG-11")
def test_a_checkpoint_by_a_replaced_key_is_told_in_the_readers_language(world, tmp_path: Path):
    world.screened()
    folder = tmp_path / "checkpoints"
    with world.database.writing() as session:
        by = person(session, None, "administrator", username="admin")
        replacing.replace_key(session, folder, by=by, why="A copy was seen", now=clock.now())
        point = checkpoints.current(session, "mini")
    assert point is not None
    forged = checkpoints.Checkpoint("mini", point.size, point.root, 0)
    (folder / "mini-1.checkpoint").write_text(checkpoints.signed_note(world.database.keys, forged), encoding="utf-8")
    browser = world.browser("monitor", data=tmp_path)
    reply = browser.send(f"{AUDIT}/verify", browser.form(AUDIT, f"{AUDIT}/verify"), headers={"accept-language": "de"})
    assert f"der ersetzt wurde, als das Protokoll {point.size - 1} hatte: Er beweist nichts" in reply.text


@pytest.mark.requirement("LOG-11")
@pytest.mark.parametrize(
    "junk", ["{", '"x"', "[]", '{"generation": "1"}', '{"generation": -1}', '{"generation": 1e9}', None]
)
def test_an_announcement_that_was_made_unreadable_takes_no_page_away(world, tmp_path: Path, junk: str | None):
    world.screened()
    with world.database.writing() as session:
        by = person(session, None, "administrator", username="admin")
        replacing.replace_key(session, tmp_path / "checkpoints", by=by, why="A copy was seen", now=clock.now())
        without_triggers(session)
        announced = (ENTRY.c.log.in_(["mini", "system"])) & (ENTRY.c.action == signing.REPLACED)
        session.execute(ENTRY.update().where(announced).values(old=junk, new=junk))
    browser = world.browser("statistician", data=tmp_path)
    reply = browser.post(f"{AUDIT}/verify", {}, page=AUDIT)
    assert (reply.status_code, "was altered: it does not match its hash" in reply.text) == (200, True)
    manager = api_client(world.database, world.person("data_manager"), data=tmp_path)
    assert not manager.done("POST", "/audit/verification")["intact"]
