"""Every page there is: nothing serious found by axe, nothing to scroll sideways. A new page joins by being registered.

The trial is the one that tests/blinding plays, so that most pages have something on them, with a few acts more. Pages
that tests/journeys/test_walk.py looks at in both widths are not looked at again; of the others one half is wide and
light, the other half narrow and dark.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from playwright.sync_api import Browser, Page

from app.dependencies import NEW_STUDY, masked
from app.foundation import clock
from app.foundation.database import Database
from app.participants.links.actions import give_link
from app.participants.links.rules import Purpose
from app.participants.reads import participant_by_code
from app.people.access import Actor, Grant
from app.people.actions import invite, record_access_review
from app.people.actions.reviewing import CONFIRMED
from app.people.actions.rights import memberships_held
from app.people.permissions import Role
from tests.blinding import trial as blinding
from tests.blinding.trial import ARMS, KNOWN, PASSWORD, WORLD, Trial
from tests.conftest import KEYS
from tests.house.routes import ANYONE, WHO, Door, expected_roles
from tests.house.test_routes import NO_PAGE, WEB
from tests.journeys.conftest import serving, sideways_here, too_wide, violations_here
from tests.journeys.test_walk import PAGES

pytestmark = pytest.mark.browser

NOBODY = "nobody"  # who is signed in nowhere
# In this order somebody is asked to look at a page: the first who may.
LOOKERS = (
    *("coordinator", "assessor", "investigator", "data_manager", "monitor", "statistician", "clinician"),
    "administrator",
)
# What has no page here, and why.
ELSEWHERE: dict[str, str] = {}
SCREENS = (({"width": 1280, "height": 844}, "light"), ({"width": 390, "height": 844}, "dark"))
# One of these is there for every page.
SOME = {"number": (1, 2, 3), "visit": ("baseline", "week18", "tx01"), "path": ("consent/1.en.md", "study.yaml")}
OF = {
    "double.second_form": {"visit": "unscheduled_2", "instrument": "paper"},
    "downtime.enter_form": {"code": "M-004"},  # nobody randomised them
    "participants.take_back_form": {"code": "M-002"},  # who withdrew from visits
    "participants.erase_form": {"code": "M-002"},
    "treatment.stop_form": {"code": "M-001"},  # treatment was stopped, and can go on
}
# Pages that look otherwise for somebody who left, or goes on.
AGAIN = (
    ("drafts.edit", {"part": "form.pain"}),  # an instrument, with its questions
    ("participants.withdraw_form", {"code": "M-002"}),  # a withdrawal goes further
    ("participants.show", {"code": "M-002"}),
    ("treatment.stop_form", {"code": "M-002"}),
    # The pages of fields have what is theirs alone: tables, rows within rows, text beside suggestions.
    *(("drafts.edit", {"part": part}) for part in ("arms", "schedule", "treatment", "safety")),
)
# What has nothing on it without a question.
ASKED = {
    "drafts.words_form": "?language=de",
    "conduct.act_on_chosen_form": "?number=1&number=2",
    "conduct.sign_chosen_form": "?number=1&number=2",
}
# From this day on an unblinding that was planned can be approved: one day after everybody was refused it.
PLANNED_FROM = (blinding.BEGUN + timedelta(days=128)).date().isoformat()
# Pages that look otherwise for a study that is not here yet.
TO_BE = ("drafts.drafts", "drafts.draft", "drafts.load_form")
TWICE = {
    "code": "paper",
    "label": "What stands on paper",
    "source": "test",
    "double_entry": True,
    "sections": [{"items": [{"code": "paper_pain", "label": "Pain", "type": "scale", "min": 0, "max": 10}]}],
}
ROWS = b"who,pain_nrs,pain_days\nM-003,4,2\n"


def _pages() -> list[Door]:
    """Every page that has words of its own, but for those that are looked at elsewhere."""
    pages = [each for each in WEB if each.method == "GET" and NO_PAGE.get(each.name, ".html").endswith(".html")]
    looked_at = [f"/mini/{path.format(code='M-001').partition('?')[0]}" for paths in PAGES.values() for path in paths]
    elsewhere = {_door_of(path, pages) for path in looked_at}
    return [each for each in pages if each not in elsewhere]


def _door_of(path: str, pages: list[Door]) -> Door | None:
    """The page at an address: of several that fit, the one that names most of it."""
    fit = [each for each in pages if re.fullmatch(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(each.path)), path)]
    return min(fit, key=lambda each: each.path.count("{"), default=None)


def _play(database: Database, folder: Path) -> tuple[Trial, dict[str, str]]:
    """The trial, and the secrets of an invitation and a link."""
    with time_machine.travel(blinding.BEGUN, tick=False) as time:
        forms: Any = ARMS["instruments"]
        changes = {
            "instruments": [*forms, TWICE],
            "unscheduled": {"instruments": ["paper"]},
            "unblinding": {**ARMS.get("unblinding", {}), "planned_from": PLANNED_FROM},
        }
        trial = blinding.set_up(database, folder, changes)
        blinding.play(trial, WORLD, time)
        return trial, _more(trial)


def _more(trial: Trial) -> dict[str, str]:
    did, web, api = trial.did, trial.web, trial.api
    at, came = f"{blinding.API}/participants/M-001", {"held_on": "2026-07-07", "reason": "Pain came back"}
    did(api("coordinator", "POST", f"{at}/visits", came))
    entry = f"{at}/visits/unscheduled_1/entries/paper"
    did(api("coordinator", "PUT", entry, {"values": {"paper_pain": 4}}))
    did(api("assessor", "PUT", f"{entry}/second", {"values": {"paper_pain": 5}}))
    did(api("coordinator", "POST", f"{at}/visits", came))
    second = entry.replace("unscheduled_1", "unscheduled_2")
    did(api("assessor", "PUT", second, {"values": {"paper_pain": 4}}))
    webhook = {"url": "https://example.org/told", "events": "entry.changed"}
    did(web("coordinator", "POST", "/mini/webhooks", webhook))
    did(web("administrator", "POST", "/mini/study/drafts", {"start": "version:2", "name": "The next one"}))
    did(web("administrator", "POST", f"/{NEW_STUDY}/study/drafts", {"code": "next", "title": "Another one"}))
    stopped = {"on": "2026-07-06", "why": "The pain came back after each session"}
    did(web("clinician", "POST", "/mini/treatment/M-001/stopped", stopped), 303)
    did(web("statistician", "POST", f"{blinding.UNBLINDING}/2/approve", {"password": PASSWORD}), 303)
    cookie = {"cookie": f"equipoise={trial.people['coordinator'].cookie}"}
    csrf = {"csrf_token": masked(trial.people["coordinator"].csrf)}
    kept = trial.client.request(
        "POST",
        "/mini/import",
        data=csrf,
        files={"file": ("diary.csv", ROWS, "text/csv")},
        headers=cookie,
        follow_redirects=False,
    )
    did(kept, 303)
    with trial.database.writing() as session:
        by = Actor(trial.people["coordinator"].person_id, "coordinator", "Nora", "", (Grant(Role.COORDINATOR),))
        found = participant_by_code(session, trial.study, "M-005", by=by)
        asked: Any = {"purpose": Purpose.QUESTIONS, "about": "week18", "language": "en", "by": by, "now": clock.now()}
        operator = Actor(0, "operator", "Operator", "", (Grant(Role.ADMINISTRATOR),), via="cli")
        roles = {each.id: CONFIRMED for each in memberships_held(session, trial.study.id)}
        reviewed: Any = {"log": trial.study.code, "decisions": roles, "word": "The delegation log", "now": clock.now()}
        record_access_review(session, trial.study.id, **reviewed, by=operator)
        invited = invite(session, trial.people["monitor"].person_id, by=operator, now=clock.now())
        return {"links.open_link": give_link(session, trial.study, found, **asked), "sign_in.welcome": invited}


def test_no_page_has_a_serious_violation_or_scrolls_sideways(templates: Any, tmp_path: Path, browser: Browser) -> None:
    path = tmp_path / "pages.db"
    path.write_bytes(Path(templates("sqlite").url.database).read_bytes())
    database = Database(f"sqlite:///{path}", KEYS)
    trial, tokens = _play(database, tmp_path / "data")
    begins = blinding.BEGUN + timedelta(days=128, hours=1)
    wrong, windows = [], dict[Any, Page]()
    with time_machine.travel(begins, tick=True), serving(database, tmp_path / "data") as address:
        trial.sign_in()
        pages = [(each, OF.get(each.name, {})) for each in _pages() if each.name not in ELSEWHERE]
        pages += [(next(each for each in WEB if each.name == name), more) for name, more in AGAIN]
        pages += [(each, {"study": NEW_STUDY}) for each, _ in pages if each.name in TO_BE]
        for number, (door, more) in enumerate(pages):
            for who, where in _addresses(door, tokens, more):
                page = _window(browser, address, trial, who, number % 2, windows)
                reply = page.goto(where)
                if reply is not None and reply.status == 200 and reply.request.redirected_from is None:
                    break
            else:
                wrong.append(
                    f"{door.name}: nobody gets a page here. Let something be there, or say in ELSEWHERE why not"
                )
                continue
            wrong += violations_here(page)
            wrong += [f"{where} at {page.viewport_size}: {each}" for each in sideways_here(page) if each]
            if wide := too_wide(page):
                wrong.append(f"{where} is {wide} px too wide at {page.viewport_size}")
        for page in windows.values():
            page.context.close()
    database.dispose()
    assert wrong == []


def _addresses(door: Door, tokens: dict[str, str], more: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Who may get a page at this door, and at which of its addresses; the likeliest first."""
    values = {**KNOWN, **SOME, "token": tokens.get(door.name, ""), **more}
    for who in (NOBODY,) if WHO[door.name] == ANYONE else LOOKERS:
        if who == NOBODY or Role(who) in (expected_roles(door.name) or Role):
            yield from ((who, where + ASKED.get(door.name, "")) for where in door.addresses(**values))


def _window(browser: Browser, address: str, trial: Trial, who: str, screen: int, windows: dict[Any, Page]) -> Page:
    if (who, screen) not in windows:
        size, scheme = SCREENS[screen]
        context = browser.new_context(base_url=address, viewport=size, color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
        if who != NOBODY:
            context.add_cookies([{"name": "equipoise", "value": trial.people[who].cookie, "url": address}])
        windows[who, screen] = context.new_page()
    return windows[who, screen]
