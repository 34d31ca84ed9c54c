"""Kinds of questions: files and signatures kept sealed, dates known in part, lines to mark, tables of choices."""

import json
from typing import Any, cast

import pytest
from bs4 import BeautifulSoup
from sqlalchemy import select, update

from app.audit.actions import ENTRY as LOG
from app.capture.reads import entry_of
from app.dependencies import LARGEST_UPLOAD
from app.exports.tables import form_of, plan_of
from app.foundation import clock
from app.foundation.database import Database
from app.participants.files import FILE
from app.participants.identity import IDENTITY
from app.studies.definition import Item
from app.web.items import item_views
from tests.api.client import api_client
from tests.factories import MINI
from tests.web.browser import Browser
from tests.web.pdf import text_of
from tests.web.world import World

SAME = [{"code": "never", "label": "Never"}, {"code": "often", "label": "Often"}]
VARIED = {
    "code": "disability",
    "label": "Kinds of questions",
    "source": "test",
    "sections": [
        {
            "items": [
                {"code": "vas", "label": "Pain now", "type": "slider", "low_label": "None", "high_label": "Worst"},
                {"code": "began", "label": "When it began", "type": "date", "precision": "year"},
                {"code": "seen_at", "label": "Seen at", "type": "date_time"},
                {"code": "report", "label": "Report", "type": "file", "max_mb": 1},
                {"code": "signed", "label": "Signature of the carer", "type": "signature", "required": False},
            ]
        },
        {
            "label": "How often",
            "layout": "matrix",
            "items": [
                {"code": "bend", "label": "It hurts to bend", "type": "choice", "choices": SAME},
                {"code": "walk", "label": "It hurts to walk", "type": "choice", "choices": SAME},
            ],
        },
    ],
}
KINDS = [VARIED if form["code"] == "disability" else form for form in cast("list[dict[str, Any]]", MINI["instruments"])]
VISITS = [
    {**visit, "instruments": ["disability"]} if visit["code"] == "baseline" else visit
    for visit in cast("list[dict[str, Any]]", MINI["visits"])
]
PAGE = "/mini/participants/M-001/visits/baseline/entries/disability"
REST = "/participants/M-001/visits/baseline/entries/disability"
PDF, OTHER = b"%PDF-1.7 the report of the clinic", b"%PDF-1.7 the right report"
DRAWN = [[10, 10, 60, 90, 120, 20], [130, 40, 180, 44]]
CLOCK = Item.model_validate({"code": "at", "label": "At", "type": "time"})
SEEN = Item.model_validate({"code": "seen", "label": "Seen", "type": "date_time"})
ANSWERS = {"vas": "0", "began": "2019-05", "seen_at": "2026-03-02T09:05", "bend": "often", "walk": "never"}


@pytest.fixture
def world(shared_database: Database) -> World:
    return World(shared_database, instruments=KINDS, visits=VISITS)


def sent(browser: Browser, values: dict[str, Any], files: dict[str, Any] | None = None) -> Any:
    fields = {**browser.form(PAGE), **values}
    held = {"visit-held-on": str(clock.today("Australia/Sydney"))} if "visit-held-on" in fields else {}
    body = {**fields, **held}
    return browser.send(PAGE, {name: value for name, value in body.items() if value is not None}, files=files or {})


def stored(world: World, participant_id: int) -> dict[str, Any]:
    with world.database.reading() as session:
        entry = entry_of(session, participant_id, "baseline", "disability")
    return dict(entry.values) if entry else {}


@pytest.mark.requirement("EMA-5", "GDPR-3")
def test_a_file_comes_with_the_form_and_nothing_of_it_is_lost(world: World):
    participant = world.consented()
    assert participant.id is not None
    browser = world.browser("assessor")
    page = browser.soup(PAGE)
    assert page.select_one("form#entry")["enctype"] == "multipart/form-data"  # type: ignore[index]
    assert page.select_one(".matrix-head") is not None
    assert page.select_one("[name=vas]")["value"] == ""  # type: ignore[index]

    wrong = sent(
        browser, {**ANSWERS, "began": "Spring 2019"}, {"report__file": ("a.exe", b"MZ\x00\x00", "application/pdf")}
    )
    assert wrong.status_code == 422
    assert "by its content this file is no PDF" in wrong.text
    huge = sent(browser, ANSWERS, {"report__file": ("a.pdf", PDF + bytes(LARGEST_UPLOAD), "application/pdf")})
    assert (huge.status_code, "choose a smaller file" in huge.text) == (413, True)
    assert f'href="{PAGE}"' in huge.text, "the way back to what was typed"
    big = sent(browser, ANSWERS, {"report__file": ("a.pdf", PDF + bytes(2_500_000), "application/pdf")})
    assert (big.status_code, "larger than 1 MB" in big.text) == (422, True)

    # The rest of the form has an error: what was sent is kept, and need not be sent again.
    strokes = json.dumps(DRAWN)
    reply = sent(
        browser,
        {**ANSWERS, "began": "Spring 2019", "signed__strokes": strokes},
        {"report__file": ("C:\\x\\a.pdf", PDF)},
    )
    assert reply.status_code == 422
    soup = BeautifulSoup(reply.text, "html.parser")
    kept = {name: str(soup.select_one(f"[name={name}]")["value"]) for name in ("report", "signed")}  # type: ignore[index]
    assert json.loads(kept["report"])["name"] == "a.pdf"
    assert "Spring 2019" in reply.text
    assert sent(browser, {**ANSWERS, **kept}).status_code == 303
    values = stored(world, participant.id)
    assert (values["vas"], values["began"], values["seen_at"]) == (0, "2019-05", "2026-03-02T09:05")
    assert values["report"] | {"file": ""} == {
        "file": "",
        "name": "a.pdf",
        "size": len(PDF),
        "media_type": "application/pdf",
    }
    assert values["signed"]["how"] == "drawn"

    got = browser.get(f"{PAGE}/files/report")
    assert (got.content, got.headers["content-type"]) == (PDF, "application/pdf")
    assert got.headers["content-disposition"].startswith("attachment")
    # A signature says who somebody is: an assessor may not look at it, who knows the person may.
    assert browser.get(f"{PAGE}/files/signed").status_code == 403
    shown = world.coordinator().get(f"{PAGE}/files/signed")
    assert "M10 10L60 90L120 20" in shown.text
    with world.database.reading() as session:
        rows = session.execute(select(FILE.c.purpose, FILE.c.sealed)).all()
        told = session.execute(select(LOG.c.action).where(LOG.c.action.like("entry.%kept"))).scalars().all()
    assert sorted(told) == ["entry.file_kept", "entry.signature_kept"]
    assert all(PDF not in row.sealed and b"[10,10" not in row.sealed for row in rows)

    # Replaced only with a reason; the old one stays, and can be shown.
    first = values["report"]["file"]
    change = {"report__file": ("b.pdf", OTHER, "application/pdf")}
    assert sent(browser, {}, change).status_code == 422
    assert sent(browser, {"form-why": "The wrong one was sent."}, change).status_code == 303
    assert browser.get(f"{PAGE}/files/report").content == OTHER
    assert browser.get(f"{PAGE}/files/report?sha256={first}").content == PDF
    assert browser.get(f"{PAGE}/files/report?sha256={'0' * 64}").status_code == 404
    for path in (PAGE, f"{PAGE}/record", f"{PAGE}/history/report", f"{PAGE}/history/signed"):
        assert browser.get(path).status_code == 200
    assert "b.pdf" in browser.get(f"{PAGE}/record").text
    assert f"files/report?sha256={first}" in browser.get(f"{PAGE}/history/report").text
    assert f"{PAGE}/files/signed" not in browser.get(f"{PAGE}/record").text
    assert any(
        "b.pdf" in text for text in text_of(world.coordinator().get("/mini/participants/M-001/casebook.pdf").content)
    )

    with world.database.writing() as session:
        session.execute(update(IDENTITY).values(wrapped_key=None))
    assert browser.get(f"{PAGE}/files/report").status_code == 404


@pytest.mark.requirement("SEC-23")
def test_a_file_by_rest_is_safe_to_send_again_and_is_told_by_its_hash(world: World):
    participant = world.consented()
    assert participant.id is not None
    program = api_client(world.database, world.person("assessor"))

    def put(data: bytes, name: str = "report.pdf") -> Any:
        return program.request("PUT", f"{REST}/files/report?name={name}", content=data)

    assert put(b"GIF89a").status_code == 422
    assert put(b"").status_code == 422
    large = put(PDF + bytes(2_500_000))  # larger than any other request may be
    assert (large.status_code, "larger than 1 MB" in large.text) == (422, True)
    assert put(PDF + bytes(LARGEST_UPLOAD)).status_code == 413
    in_parts = program.request("PUT", f"{REST}/files/report", content=iter([PDF, bytes(LARGEST_UPLOAD)]))
    assert in_parts.status_code == 413  # cut off while it comes in
    elsewhere = program.request("PUT", REST, content=iter([b"{", bytes(2_500_000)]))
    assert elsewhere.status_code == 413
    one, again = put(PDF), put(PDF)
    assert (one.status_code, again.json()) == (200, one.json())
    with world.database.reading() as session:
        assert len(session.execute(select(FILE.c.id)).all()) == 1
    values = {"vas": 50, "began": "2019", "seen_at": "2026-03-02T09:05", "bend": "often", "walk": "never"}
    strange = {**one.json(), "file": "0" * 64}
    assert program.put(REST, {"values": {**values, "report": strange}}).status_code == 422
    assert program.put(REST, {"values": {**values, "report": one.json()}}).status_code == 200
    got = program.get(f"{REST}/files/report")
    assert (got.content, got.headers["etag"]) == (PDF, one.headers["etag"])
    assert program.get(f"{REST}/files/report", headers={"If-None-Match": got.headers["etag"]}).status_code == 304
    assert program.get(f"{REST}/files/vas").status_code == 404
    assert program.request("PUT", f"{REST}/files/vas", content=PDF).status_code == 404
    plan = plan_of([world.study.definition])
    columns = [column.name for column in form_of(plan, "disability").columns()]
    cells = dict(zip(columns, form_of(plan, "disability").cells(stored(world, participant.id)), strict=True))
    assert (cells["report"], cells["report__size"]) == ("report.pdf", len(PDF))
    assert cells["report__sha256"] == one.json()["file"]
    assert (cells["began"], cells["signed"], cells["signed__sha256"]) == ("2019", None, None)


@pytest.mark.parametrize(
    ("item", "typed", "control"),
    [
        (CLOCK, "09:05", "time"),
        (CLOCK, "1²:00", "text"),
        (CLOCK, "24:00", "text"),
        (CLOCK, "٠٩:٠٥", "text"),
        (SEEN, "2026-03-02T09:05", "datetime-local"),
        (SEEN, "2026-03-02T²²:00", "text"),
    ],
)
def test_a_time_that_is_none_is_shown_as_it_was_typed(item: Item, typed: str, control: str):
    view = item_views([item], {item.code: [typed]})[item.code]
    assert (view.control, view.text) == (control, typed)
