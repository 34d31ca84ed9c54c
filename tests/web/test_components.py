"""Does every component render, work without scripts of its own, and pass an accessibility check in light and dark?

`python tests/web/test_components.py FOLDER` leaves screenshots of the gallery there.
"""

import gzip
import re
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup
from playwright.sync_api import Browser, Page, Route, sync_playwright
from starlette.requests import Request

from app.foundation.errors import FieldProblem
from app.people.permissions import TABLE, Role
from app.people.scopes import SAID
from app.rendering import (
    STATIC,
    TEMPLATES,
    NavItem,
    Viewer,
    headings,
    known_day,
    labelled,
    page,
    static_url,
    templates,
    timeline_layout,
)
from app.studies.definition import Instrument, Item, MissingCode
from app.web.items import ItemView, item_views
from tests.journeys.conftest import QUIET, chromium, sideways_here

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
TODAY = date(2026, 11, 21)
NOW = datetime(2026, 11, 21, 13, 2, tzinfo=UTC)

VIEWER = Viewer(
    person_name="Anna Peeters",
    role_names=("coordinator", "assessor"),
    study_code="RESOLVE",
    study_title="Graded sensorimotor retraining for chronic back pain",
    blinded=True,
    nav=(
        NavItem("Today", "/resolve", "list-checks"),
        NavItem("Participants", "/resolve/participants", "users", current=True),
        NavItem("Calendar", "/resolve/calendar", "calendar"),
        NavItem("Queries", "/resolve/queries", "message-circle-question-mark"),
        NavItem("Safety", "/resolve/safety", "shield-alert"),
        NavItem("Reports", "/resolve/reports", "chart-column"),
        NavItem("Exports", "/resolve/exports", "download"),
        NavItem("Study", "/resolve/study", "book-open"),
        NavItem("Audit", "/resolve/audit", "scroll-text"),
    ),
    sites=(("01", "Gent"), ("02", "Leuven")),
    site_code="01",
    csrf_token="token-of-this-session",
    timezone="Europe/Brussels",
    search_url="/resolve/participants",
    account_url="/account",
)


def _visit(
    label: str, week: int, status: str, held: int | None = None, before: int = 3, after: int = 7
) -> dict[str, Any]:
    start = date(2026, 4, 6)
    target = start + timedelta(weeks=week)
    return {
        "label": label,
        "target": target,
        "opens": target - timedelta(days=before) if week else None,
        "closes": target + timedelta(days=after) if week else None,
        "held_on": start + timedelta(days=held) if held is not None else None,
        "status": status,
        "url": f"/resolve/participants/R-0042/{label.lower().replace(' ', '-')}",
    }


VISITS = [
    _visit("Consent", 0, "done", 0),
    _visit("Baseline", 1, "done", 8),
    _visit("Week 6", 7, "done", 50),
    _visit("Week 12", 13, "late", 104),
    _visit("Week 18", 19, "missed", before=14, after=14),
    _visit("Week 26", 33, "due", before=7, after=14),
    _visit("Week 52", 53, "planned", before=21, after=21),
]

MISSING = {"codes": [("-97", "Not done"), ("-98", "Not applicable"), ("-99", "Declined to answer")]}

GALLERY = """
{% extends "_layout/base.html" %}
{% set shows_arm = arm %}
{% block title %}R-0042{% endblock %}
{% block styles %}<link rel="stylesheet" href="{{ static_url("timeline.css") }}">{% endblock %}
{% block crumbs %}{{ ui.crumbs([("Participants", "/resolve/participants"), ("Site 01 Gent", "/resolve/participants?site=01")]) }}{% endblock %}
{% block subtitle %}<p>{{ ui.status_mark("done", label="Randomised 20 Apr 2026") }} · next visit week 26, {{ ui.window_bar(*window) }}</p>{% endblock %}
{% block actions %}{{ ui.button("Print casebook", icon="printer", attrs={"data-prints": ""}, type="button") }}{{ ui.button("Start week 26", kind="primary", icon="calendar-check", href="/visit") }}{% endblock %}
{% block main %}
<div class="stack-wide">
{{ ui.flash("done", "Week 12 is signed. Two entries still wait for a signature.") }}
{{ ui.flash("note", "There is a new version of the consent document.") }}
{{ ui.flash("warning", "The window of week 26 closes in two days.") }}
{{ ui.flash("problem", "The mail to the participant came back.") }}
{{ ui.timeline(visits, today, "One visit missed, one late; week 26 is due") }}
<section class="section"><h2>Entries</h2>
{{ ui.matrix("Entries by visit and form", [{"label": "Baseline", "note": "14 Apr 2026", "url": "/v"}, {"label": "Week 6", "note": "26 May 2026"}, {"label": "Week 12", "note": "19 Jul 2026"}, {"label": "Week 26"}], rows) }}</section>
<section class="section" id="visit-list">{% block visit_list %}<h2>Participants</h2>
{% call ui.filters("/resolve/participants", "/resolve/participants", 2) %}
{{ ui.select("status", "Status", [("screened", "Screened"), ("randomised", "Randomised")], "randomised", blank="Any", required=true, id="filter-status") }}
{{ ui.text("initials", "Initials", "AB", width="w-8", id="filter-initials") }}{% endcall %}
{% call(row) ui.table("Participants", columns, people, note="3 of 40") %}
<th scope="row"><a href="/p">{{ row.code }}</a></th><td>{{ row.initials }}</td><td>{{ ui.status_mark(row.status) }}</td><td>{{ ui.window_bar(*row.window) }}</td><td>{{ ui.progress(row.filled, 12) }}</td><td class="end">{{ row.queries }}</td>
{% endcall %}
{{ ui.pager("/before", "/after", "Participants 21 to 23", "/csv") }}
{% endblock %}</section>
{{ ui.table("Open queries", [{"key": "a", "label": "Query"}], [], empty={"title": "No open queries", "next": "Raise one from any answer of an entry.", "icon": "message-circle-question-mark", "action": {"label": "Open an entry", "url": "/entry"}}) }}
<div class="columns">
<section class="section"><h2>Facts</h2>{{ ui.definition_list([("Participant", "R-0042"), ("Site", "01 Gent"), ("Consented", "2026-04-06"|string), ("Last seen", now|ago(later)), ("Score", 12.345|decimal(1)), ("Withdrawn", None), ("Recorded", now|moment("Europe/Brussels")), ("Recruitment", ui.sparkline([1, 3, 2, 5, 8, 6, 9], "9 in the last week"))]) }}</section>
<section class="section"><h2>Marks</h2>{{ ui.legend(["empty", "planned", "due", "partial", "complete", "done", "verified", "signed", "locked", "query", "late", "missed", "none"]) }}
<p class="row">{{ ui.badge("Draft") }}{{ ui.badge("Version 3", "accent", "file-text") }}{{ ui.badge("Signed", "done") }}{{ ui.badge("Sent", "partial") }}{{ ui.badge("Query", "query") }}{{ ui.badge("Serious", "late") }}</p>
<p class="row">{{ ui.blinding(true) }}{{ ui.blinding(false) }}</p></section>
</div>
<section class="section"><h2>Randomise R-0042</h2>
{{ ui.stepper([{"label": "Screening", "state": "done", "url": "/s", "note": "2 Apr 2026"}, {"label": "Consent", "state": "done", "url": "/c"}, {"label": "Baseline", "state": "current", "note": "3 of 4 entries"}, {"label": "Randomise", "state": "todo"}]) }}
{{ ui.gate_checklist([{"label": "Eligible on every criterion", "reason": None}, {"label": "Consent to version 3, signed by both", "reason": None}, {"label": "Baseline complete", "reason": "Pain intensity is still empty.", "url": "/e", "action": "Fill it in"}]) }}
<p class="form-end">{{ ui.button("Randomise R-0042", kind="primary", icon="shuffle", reason="The baseline is not complete: pain intensity is still empty.") }}</p></section>
<section class="section"><h2>Baseline</h2>
<form class="form" method="post" action="/entry" data-autosave="/entry/draft" novalidate>{{ ui.csrf(viewer.csrf_token) }}
{{ ui.error_summary([("height", "Height is between 100 and 230 cm"), ("smokes", "Say whether the participant smokes")]) }}
{{ ui.text("name", "Occupation", "Nurse", hint="As the participant says it", required=false) }}
{{ ui.number("height", "Height", "17", unit="cm", error="Height is between 100 and 230 cm", missing=missing) }}
{{ ui.date("onset", "Onset of pain", "2026-03-14", latest="2026-11-21") }}
{{ ui.yes_no("smokes", "Does the participant smoke?", error="Say whether the participant smokes", missing=missing) }}
{{ ui.choice("work", "Work", [("full", "Full time"), ("part", "Part time"), ("none", "None", "Also when on sick leave for more than a year")], "part") }}
{{ ui.choices("drugs", "Medicines now", [("nsaid", "NSAID"), ("opioid", "Opioid"), ("other", "Other")], ["nsaid"], inline=true, required=false) }}
{{ ui.scale("pain", "Pain intensity over the last week, on average", 4, "No pain", "Worst pain imaginable", hint="Key 0 to 9 answers; 1 then 0 is ten") }}
{{ ui.textarea("notes", "Notes", "", required=false) }}
{{ ui.matrix_head(["Never", "Often"]) }}{% for question, view in questions %}{{ ui.item(question, view) }}{% endfor %}
{{ ui.tick("agrees", "The participant was seen in person", hint="Not by telephone") }}
<div class="form-end">{{ ui.button("Complete baseline", kind="primary", icon="check") }}{{ ui.button("Keep as draft", name="draft", value="1") }}{{ ui.save_state("14:02") }}</div></form></section>
<section class="section"><h2>Withdraw</h2>
{{ ui.confirm("Withdraw R-0042 from follow-up", ["No further visits are scheduled; the two that are planned are cancelled.", "What was collected so far stays and is analysed.", "This cannot be undone."], "/withdraw", "Withdraw R-0042", viewer.csrf_token, "/back", errors={"password": "That is not your password"}) }}
<p><a class="button" href="/unblind" data-opens="unblind">Break the blind</a></p>
{% call ui.dialog("unblind", "Break the blind") %}{{ ui.confirm("Break the blind of R-0042", ["You will see the arm."], "/unblind", "Break the blind", viewer.csrf_token, "/back", ask_password=false, ask_why=false) }}{% endcall %}</section>
<section class="section"><h2>Audit</h2>{{ ui.audit_rows(audit, "Europe/Brussels") }}</section>
<div class="columns">{{ ui.bar_chart("Leuven answers queries slowest", [("Gent", 4), ("Leuven", 11.5), ("Antwerpen", 6)], "Median days", "Site", " d", target=7, places=1) }}
{{ ui.line_chart("Recruitment is three behind the plan", ["Jan", "Feb", "Mar", "Apr", "May", "Jun"], [{"label": "planned", "values": [5, 10, 15, 20, 25, 30], "reference": true}, {"label": "randomised", "values": [2, 6, 11, 17, None, None]}], "Month", "Participants") }}</div>
</div>
{% endblock %}
"""  # noqa: E501


SIGN_IN = """
{% extends "_layout/plain.html" %}
{% block title %}Sign in{% endblock %}
{% block main %}<form class="stacked" method="post" action="/sign-in" novalidate>{{ ui.csrf(viewer.csrf_token) }}
{{ ui.text("name", "Mail address", "anna@example.org", type="email", autocomplete="username") }}
{{ ui.text("password", "Password", type="password", autocomplete="current-password", error="Type your password") }}
<div class="form-end">{{ ui.button("Sign in", kind="primary", icon="log-in") }}</div></form>{% endblock %}
"""


def _entry(status: str) -> dict[str, str]:
    return {"status": status, "url": f"/entry/{status}"}


def gallery(theme: str = "light", arm: bool = False) -> str:
    window = (date(2026, 11, 16), date(2026, 11, 23), date(2026, 11, 30), TODAY)
    late = (date(2026, 10, 16), date(2026, 10, 23), date(2026, 11, 12), TODAY)
    soon = (date(2026, 11, 10), date(2026, 11, 17), date(2026, 11, 22), TODAY)
    columns = [
        {"label": "Participant", "sort": "?sort=-code", "sorted": "ascending"},
        {"label": "Initials"},
        {"label": "Status", "sort": "?sort=status"},
        {"label": "Next visit", "sort": "?sort=next"},
        {"label": "Entries"},
        {"label": "Queries", "align": "end", "sort": "?sort=queries"},
    ]
    people = [
        {"code": "R-0042", "initials": "AB", "status": "due", "window": window, "filled": 7, "queries": 2},
        {"code": "R-0043", "initials": "MVD", "status": "late", "window": late, "filled": 3, "queries": 0},
        {"code": "R-0044", "initials": "JT", "status": "done", "window": soon, "filled": 12, "queries": 11},
    ]
    rows = [
        {"label": "Demographics", "entries": [_entry("locked"), None, None, None]},
        {
            "label": "Pain intensity",
            "entries": [_entry("signed"), _entry("verified"), _entry("query"), _entry("empty")],
        },
        {"label": "Disability", "entries": [_entry("signed"), _entry("complete"), _entry("partial"), _entry("empty")]},
        {"label": "Adverse events", "entries": [None, _entry("missed"), _entry("late"), _entry("planned")]},
    ]
    audit = [
        {
            "at": NOW,
            "who": "Anna Peeters",
            "action": "Corrected an entry",
            "changes": [("Height", "17", "171"), ("Weight", None, "70")],
            "why": "Typing error",
            "url": "/audit/3",
        },
        {"at": NOW - timedelta(days=2), "who": "Jan Smet", "action": "Signed an entry", "changes": [], "why": ""},
    ]
    html = (
        templates()
        .from_string(GALLERY)
        .render(
            viewer=VIEWER if theme == "" else Viewer(**{**VIEWER.__dict__, "theme": theme, "blinded": not arm}),
            here="/resolve/participants/R-0042",
            arm=arm,
            visits=VISITS,
            today=TODAY,
            now=NOW,
            later=NOW + timedelta(days=3),
            window=window,
            columns=columns,
            people=people,
            rows=rows,
            audit=audit,
            missing=MISSING,
            questions=_questions(),
        )
    )
    return str(html)


def _questions() -> list[tuple[Item, ItemView]]:
    """Every kind of question: one with an error, one whose value is unexpected, one that was changed by a colleague."""
    asked: list[dict[str, Any]] = [
        {"code": "sleep", "type": "scale", "min": 0, "max": 3, "low_label": "Never", "high_label": "Always"},
        {"code": "worst", "type": "scale", "min": 0, "max": 10, "low_label": "No pain", "high_label": "Worst pain"},
        {"code": "walks", "type": "yes_no", "hint": "Without a stick."},
        {"code": "side", "type": "choice", "choices": [{"code": "l", "label": "Left"}]},
        {"code": "aids", "type": "choices", "choices": [{"code": "s", "label": "Stick"}], "shown_if": "[walks]"},
        {"code": "weight", "type": "number", "unit": "kg", "expected_max": 150},
        {"code": "steps", "type": "integer", "min": 0},
        {"code": "seen", "type": "date"},
        {"code": "at", "type": "time"},
        {"code": "words", "type": "text", "required": False},
        {"code": "story", "type": "text", "multiline": True, "required": False},
        {"code": "score", "type": "calculated", "calculation": "[sleep] + [worst]"},
    ]
    form = Instrument.model_validate(
        {
            "code": "form",
            "label": "Form",
            "source": "test",
            "sections": [{"items": [{"label": each["code"].capitalize(), **each} for each in asked]}],
        }
    )
    views = item_views(
        form.items,
        {"weight": ["151"], "weight__why": ["Weighed twice"], "steps": ["-1"], "seen__missing": ["ND"]},
        problems=[FieldProblem("steps", "min", "Steps: -1 is below the lowest possible value, 0. Check it.")],
        missing_codes=[MissingCode(code="ND", label="Not done")],
        history=lambda code: f"/history/{code}",
        saved={"walks": "Yes"},
    )
    return [(item, views[item.code]) for item in form.items]


def _request(path: str = "/", **headers: str) -> Request:
    raw = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": raw})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = _open(playwright)
        yield opened
        opened.close()


def _open(playwright: Any) -> Browser:
    browser: Browser = playwright.chromium.launch(executable_path=chromium(), args=QUIET)
    return browser


def _show(browser: Browser, html: str, *, width: int = 1280, drafts: list[str] | None = None, **options: Any) -> Page:
    """A page of our own HTML and static files under the policy of the house, without a server."""
    shown = browser.new_context(viewport={"width": width, "height": 900}, **options).new_page()
    said: list[str] = []
    shown.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.__dict__["said"] = said
    types = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

    def answer(route: Route) -> None:
        address = route.request.url.split("?")[0].removeprefix("http://trial.test")
        if address.startswith("/static/"):
            name = address.removeprefix("/static/")
            route.fulfill(body=(STATIC / name).read_bytes(), content_type=types[name.rsplit(".", 1)[1]])
        elif route.request.method != "GET":
            if drafts is None:
                route.abort()
            else:
                drafts.append(f"{route.request.headers.get('x-csrf-token')} {route.request.post_data}")
                route.fulfill(status=204)
        else:
            route.fulfill(body=html, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": CSP})

    shown.route("**/*", answer)
    shown.goto("http://trial.test/")
    return shown


def test_every_macro_stands_in_a_file_of_its_own_name():
    for file in (TEMPLATES / "_components").glob("*.html"):
        assert f"{{% macro {file.stem}(" in file.read_text(encoding="utf-8"), file.name


def test_every_component_is_in_the_gallery_or_in_the_shell():
    shell = (TEMPLATES / "_layout" / "base.html").read_text(encoding="utf-8")
    parts = {file.stem: file.read_text(encoding="utf-8") for file in (TEMPLATES / "_components").glob("*.html")}
    everything = GALLERY + shell + "".join(parts.values())
    assert [name for name in parts if f"ui.{name}(" not in everything] == []


def test_no_markup_carries_a_style_a_script_or_a_handler():
    for file in TEMPLATES.rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:|hx-on|<script(?![^>]*\ssrc=)", text), file


def test_htmx_gets_the_one_block_it_asked_for():
    whole = page(_request(), "_layout/base.html", viewer=VIEWER)
    asked = page(_request(HX_Request="true", HX_Target="div#main"), "_layout/base.html", viewer=VIEWER)
    boosted = page(
        _request(HX_Request="true", HX_Target="div#main", HX_Boosted="true"), "_layout/base.html", viewer=VIEWER
    )
    unknown = page(_request(HX_Request="true", HX_Target="div#nowhere"), "_layout/base.html", viewer=VIEWER)
    assert bytes(whole.body).startswith(b"<!doctype html>")
    assert bytes(asked.body) == b""
    assert boosted.body == whole.body == unknown.body
    assert whole.headers["Cache-Control"] == "no-store"
    assert whole.headers["Vary"] == "HX-Request"


def test_the_amber_rule_is_drawn_only_where_an_arm_is_shown():
    assert 'class="arm-rule"' in gallery(arm=True)
    assert 'class="arm-rule"' not in gallery(arm=False)


@pytest.mark.requirement("SEC-2")
def test_what_a_person_typed_is_escaped():
    written = templates().from_string("{{ ui.text('a', label, label) }}{{ ui.button(label, reason=label) }}")
    assert "<b>" not in written.render(label="<b>bold</b>")


@pytest.mark.parametrize(
    ("label", "shown"),
    [("<b>5</b>", "&lt;b&gt;5&lt;/b&gt;"), (Markup("<b>5</b>"), "<b>5</b>"), (True, "True"), (1, "1"), (1.0, "1.0")],
)
def test_what_a_component_gave_before_is_given_for_the_very_same_arguments_alone(label, shown):
    for _ in range(2):
        ui: Any = templates("en").globals["ui"]
        assert f">{shown}</span>" in ui.status_mark("done", label=label)


def test_a_sentence_is_translated_with_what_is_put_into_it_escaped():
    gettext: Any = templates("en").globals["_"]
    assert gettext("%(num)s days late", num="<3") == "&lt;3 days late"
    assert gettext("100%% of all") == "100% of all"
    assert gettext("100%% of all") is gettext("100%% of all")


def test_a_moment_is_shown_in_the_zone_of_the_site_with_its_offset():
    shown = templates().from_string("{{ at|moment('Europe/Brussels') }}").render(at=NOW)
    assert shown == (
        '<time datetime="2026-11-21T13:02:00+00:00" title="14:02:00 Europe/Brussels, UTC+01:00">'
        "21 Nov 2026 14:02</time>"
    )


@pytest.mark.parametrize(
    ("text", "shown", "german"),
    [
        ("2026-03-14", "14 Mar 2026", "14. März 2026"),
        ("2026-03", "Mar 2026", "März 2026"),
        ("2026", "2026", "2026"),
        ("in spring", "in spring", "in spring"),
    ],
)
def test_a_day_is_shown_as_far_as_it_is_known(text, shown, german):
    assert (known_day(text), known_day(text, "de")) == (shown, german)


def test_every_page_with_a_file_to_choose_has_the_button_of_the_house():
    asking = [
        page for page in TEMPLATES.glob("*/*.html") if 'type="file"' in page.read_text() and page.parent.name[0] != "_"
    ]
    assert len(asking) > 4
    assert [page for page in asking if not re.search(r"items\.(css|html)", page.read_text())] == []
    assert "::file-selector-button" in (STATIC / "items.css").read_text()


def test_no_two_labels_of_a_timeline_share_a_place():
    placed = timeline_layout([_visit(f"Session {number}", number, "planned") for number in range(12)], TODAY).visits
    assert len({(each.above, each.lane, round(each.at / 6)) for each in placed}) == len(placed)


def test_a_filter_with_long_words_is_no_wider_than_a_telephone():
    """A choice is as wide as the longest of its words, which other languages have longer ones of."""
    rules = (STATIC / "equipoise.css").read_text()
    (field,) = re.findall(r"^\.filters \.field\.field \{([^}]*)\}", rules, re.M)
    assert "max-width: 100%" in field


def test_a_long_word_in_the_calendar_is_parted_where_its_language_parts_it():
    (what,) = re.findall(r"^\.slot-what \{([^}]*)\}", (STATIC / "calendar.css").read_text(), re.M)
    assert "hyphens: auto" in what


def test_a_first_visit_to_a_form_page_stays_under_forty_kilobytes():
    names = ("equipoise.css", "equipoise.js", "vendor/htmx.min.js", "favicon.svg")
    static = sum(len(gzip.compress((STATIC / name).read_bytes())) for name in names)
    assert static + len(gzip.compress(gallery().encode())) <= 40_000


def test_an_edited_static_file_gets_a_new_address():
    assert re.fullmatch(r"/static/equipoise\.css\?v=[0-9a-f]{16}", static_url("equipoise.css"))


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_gallery_has_no_serious_accessibility_problem(browser: Browser, theme: str, width: int):
    shown = _show(browser, gallery(theme, arm=theme == "dark"), width=width, bypass_csp=True)
    assert _problems(shown) == []
    wide = sideways_here(shown)
    assert not any(wide), wide
    assert bool(wide) == (width == 390), "the matrix is wider than a telephone"


@pytest.mark.browser
def test_a_page_without_the_shell_has_no_serious_accessibility_problem(browser: Browser):
    html = templates().from_string(SIGN_IN).render(viewer=Viewer(csrf_token="t"), here="/sign-in")
    assert _problems(_show(browser, html, width=390, bypass_csp=True)) == []


def _problems(shown: Page) -> list[str]:
    """What axe-core finds that would stand in somebody's way."""
    shown.add_script_tag(path=str(Path(__file__).parents[1] / "vendor" / "axe.min.js"))
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = shown.evaluate("tags => axe.run({runOnly: tags, resultTypes: ['violations']})", tags)
    return [
        f"{each['impact']} {each['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for each in found["violations"]
        if each["impact"] in {"serious", "critical", "moderate"}
        for node in each["nodes"]
    ]


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_keeps_to_its_policy_and_never_scrolls_sideways(browser: Browser, width: int):
    shown = _show(browser, gallery(), width=width)
    assert shown.__dict__["said"] == []
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.browser
def test_a_long_label_leaves_half_of_a_telephone_to_what_it_says(browser: Browser):
    facts = (
        '{% extends "_layout/base.html" %}{% block title %}T{% endblock %}{% block main %}'
        '{{ ui.definition_list([("Commitment to the plan and its seed", "0f" * 32), ("List", "1")]) }}{% endblock %}'
    )
    shown = _show(browser, templates().from_string(facts).render(viewer=VIEWER, here="/"), width=390)
    wide = shown.evaluate("[...document.querySelectorAll('.facts dd')].map(each => each.offsetWidth)")
    assert min(wide) >= 150
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("language", ["en", "de", "es"])
def test_what_a_role_may_do_stands_on_few_lines(browser: Browser, width: int, language: str):
    page = templates(language).get_template("study/roles.html")
    roles = [(role, role.replace("_", " ").capitalize(), role is Role.STATISTICIAN) for role in Role]
    rows = [(str(permission), SAID[permission], holders) for permission, holders in TABLE.items()]
    shown = _show(browser, page.render(viewer=VIEWER, here="/", root="", roles=roles, rows=rows), width=width)
    table = shown.locator(".table-frame").first
    assert table.evaluate("each => each.scrollWidth <= each.clientWidth")
    tallest = "(each, what) => Math.max(...[...each.querySelectorAll(what)].map(cell => cell.offsetHeight))"
    assert table.evaluate(tallest, "tbody th") < 60, "two lines of a sentence"
    assert table.evaluate(tallest, "tbody td:not(:empty)") < 40, "one line for the name of a role, or a tick"
    assert table.evaluate(tallest, "tbody tr") < 150


@pytest.mark.browser
def test_slash_finds_a_participant_and_digits_answer_a_scale(browser: Browser):
    shown = _show(browser, gallery(), drafts=[])
    shown.keyboard.press("/")
    assert shown.evaluate("document.activeElement.name") == "find"
    shown.focus("input[name=pain]:checked")
    shown.keyboard.press("7")
    assert shown.input_value("input[name=pain]:checked") == "7"
    shown.wait_for_timeout(800)
    shown.keyboard.press("1")
    shown.keyboard.press("0")
    assert shown.input_value("input[name=pain]:checked") == "10"


@pytest.mark.browser
def test_a_draft_is_kept_as_it_is_typed(browser: Browser):
    drafts: list[str] = []
    shown = _show(browser, gallery(), drafts=drafts)
    shown.fill("#notes", "better & better")
    shown.wait_for_selector("[data-save-state][data-is=saving], [data-save-state][data-is=changed]")
    shown.wait_for_selector("[data-save-state][data-is=saved]")
    assert drafts[0].startswith("token-of-this-session ")
    assert "notes=better+%26+better" in drafts[0]


@pytest.mark.browser
def test_a_lost_connection_is_said_and_the_answers_stay(browser: Browser):
    shown = _show(browser, gallery())
    shown.fill("#notes", "kept")
    shown.wait_for_selector("[data-save-state][data-is=offline]")
    assert shown.inner_text("[data-save-state]").startswith("Not saved: no connection")
    assert shown.input_value("#notes") == "kept"


@pytest.mark.browser
def test_two_clicks_on_a_button_are_one_act(browser: Browser):
    sent: list[str] = []
    shown = _show(browser, gallery(), drafts=sent)
    button = shown.locator('form[action="/withdraw"] button')
    button.click()
    shown.wait_for_selector('form[action="/withdraw"] button:disabled')
    button.click(force=True)
    shown.evaluate("document.querySelector('form[action=\"/withdraw\"]').requestSubmit()")
    shown.wait_for_timeout(300)
    assert len(sent) == 1


@pytest.mark.browser
def test_htmx_sends_our_token_and_shows_a_refusal_once_per_click(browser: Browser):
    form = (
        '{% extends "_layout/base.html" %}{% block title %}T{% endblock %}{% block main %}'
        '<form method="post" action="/save" hx-post="/save" hx-target="#main">'
        '{{ ui.button("Save") }}</form>{% endblock %}'
    )
    shown = _show(browser, templates().from_string(form).render(viewer=VIEWER, here="/"))
    asked: list[dict[str, str]] = []

    def refuse(route: Route) -> None:
        asked.append(route.request.headers)
        shown.wait_for_timeout(200)
        route.fulfill(status=422, body="<p id='why'>Say why.</p>", content_type="text/html")

    shown.route("**/save", refuse)
    shown.evaluate(
        "() => { const form = document.querySelector('form[hx-post]'); form.requestSubmit(); form.requestSubmit(); }"
    )
    shown.wait_for_selector("#main > #why")
    assert [(each["x-csrf-token"], each["hx-request"], each["hx-target"]) for each in asked] == [
        ("token-of-this-session", "true", "div#main")
    ]
    assert [line for line in shown.__dict__["said"] if "422" not in line] == []


@pytest.mark.browser
def test_a_link_opens_its_dialog_and_goes_back_out_of_it(browser: Browser):
    shown = _show(browser, gallery(), drafts=[])
    shown.click("[data-opens=unblind]")
    assert shown.is_visible("#unblind button")
    shown.click("#unblind [data-closes]")
    assert not shown.is_visible("#unblind button")
    assert shown.url == "http://trial.test/"


@pytest.mark.browser
def test_the_menu_of_a_telephone_opens_without_scripts(browser: Browser):
    shown = _show(browser, gallery(), width=390, java_script_enabled=False)
    shown.click(".rail-menu summary")
    assert shown.is_visible(".rail-menu a[aria-current=page]")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with sync_playwright() as one:
        for wide in (1280, 390):
            for look in ("light", "dark"):
                picture = _show(_open(one), gallery(look, arm=look == "dark"), width=wide)
                picture.set_viewport_size(
                    {"width": wide, "height": picture.evaluate("document.documentElement.scrollHeight")}
                )
                picture.screenshot(path=str(folder / f"gallery-{wide}-{look}.png"), full_page=True)


def test_the_rows_of_a_table_stand_as_lists_on_a_telephone(browser: Browser):
    shown = _show(browser, gallery(), width=390)
    for frame in shown.locator(".table-frame:has(.stacks)").all():
        assert frame.evaluate("each => each.scrollWidth <= each.clientWidth"), frame.inner_text()
    cell = shown.locator(".stacks tbody td:nth-child(2)").first
    assert cell.get_attribute("role") == "cell"
    heading = shown.locator(".stacks thead th:nth-child(2)").first.text_content()
    assert cell.evaluate("each => getComputedStyle(each, '::before').content") == f'"{(heading or "").strip()}"'


def test_a_name_of_a_column_cannot_leave_its_attribute():
    cells = labelled(Markup("<th>a</th><td>b</td><td>c</td>"), headings([{"label": "A"}, {"label": 'x" onclick="y'}]))
    assert cells == Markup(
        '<th role="rowheader" data-label="A">a</th>'
        '<td role="cell" data-label="x&#34; onclick=&#34;y">b</td><td role="cell" data-label="">c</td>'
    )
