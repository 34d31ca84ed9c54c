"""The participant's copy of what they signed, by mail: a real mail server gets it, once, and nothing of it waits."""

import email
import email.header
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from bs4 import BeautifulSoup
from sqlalchemy import select, update

from app import jobs
from app.consent.actions import COPY_RULE
from app.consent.models import Consent
from app.consent.reads import CONSENT, consents_of
from app.consent.rules import LARGEST_COPY, NO_ADDRESS
from app.foundation.database import Database
from app.mail.actions import MAIL
from app.participants.actions import change_identity, erase_identity
from app.participants.files import FILE
from app.participants.identity import PARTICIPANT
from app.participants.models import Participant
from app.participants.rules import PersonalData
from app.settings import Settings
from tests.api.client import api_client
from tests.mail.test_mail import Inbox, inbox  # noqa: F401 a fixture
from tests.web.browser import PASSWORD, Browser, counted_statements, words_of
from tests.web.pdf import packed, text_of
from tests.web.test_links import given, stranger, typed
from tests.web.world import World

WHO = "/mini/participants/M-001"
ADA = PersonalData("Ada", "Lovelace", "1980-12-10", None, "ada@example.org")
AT = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
DOCUMENTS = [
    {
        "version": "1",
        "language": language,
        "title": title,
        "valid_from": "2026-01-01",
        "text": text,
        "sha256": sha * 64,
    }
    for language, title, text, sha in (
        ("en", "Taking part", "You may stop at any time.\n", "1"),
        ("de", "Teilnahme", "Sie können jederzeit aufhören.\n", "2"),
        ("es", "Participación", "Puede dejarlo en cualquier momento.\n", "3"),
    )
]
LEVELS = [
    {"code": "treatment", "label": "Stop treatment", "stops_treatment": True},
    {"code": "visits", "label": "Stop visits", "stops_treatment": True, "stops_visits": True},
    {"code": "contact", "label": "No contact", "stops_treatment": True, "stops_visits": True, "stops_contact": True},
]


@pytest.fixture
def at() -> Iterator[Any]:
    with time_machine.travel(AT, tick=False) as traveller:
        yield traveller


@pytest.fixture
def world(shared_database: Database, at: Any) -> World:
    return World(shared_database, consent_documents=DOCUMENTS, withdrawal_levels=LEVELS)


def consent_of(world: World, participant: Participant) -> Consent:
    with world.database.reading() as session:
        return consents_of(session, participant.id or 0)[-1]


def outbox(world: World) -> list[Any]:
    with world.database.reading() as session:
        return list(session.execute(select(MAIL).where(MAIL.c.rule == COPY_RULE).order_by(MAIL.c.id)))


def mails(box: Inbox) -> list[Any]:
    return [email.message_from_bytes(envelope.content) for envelope in box.mails]


def said(mail: Any) -> str:
    (text,) = [part for part in mail.walk() if part.get_content_type() == "text/plain"]
    return str(text.get_payload(decode=True).decode())


def files(mail: Any) -> dict[str, bytes]:
    return {name: part.get_payload(decode=True) for part in mail.walk() if (name := part.get_filename())}


def asked(world: World, consent: Consent, browser: Browser | None = None) -> Any:
    page = f"{WHO}/consents/{consent.id}"
    return (browser or world.coordinator()).post(f"{page}/copy", {}, page=page)


def shown(world: World, consent: Consent) -> str:
    return words_of(world.coordinator().get(f"{WHO}/consents/{consent.id}").text)


def dump(world: World) -> bytes:
    """Everything that the outbox holds, as it stands in the database."""
    return b"".join(
        bytes(value) if isinstance(value, bytes) else str(value).encode() for row in outbox(world) for value in row
    )


@pytest.mark.requirement("EMA-15", "CONC-11", "GDPR-5")
def test_the_copy_reaches_the_participant_once_and_nothing_of_it_waits_in_the_outbox(
    world: World,
    at: Any,
    inbox: tuple[Inbox, Settings],  # noqa: F811
) -> None:
    box, settings = inbox
    consent = consent_of(world, world.consented())
    assert "It was not sent by mail" in shown(world, consent)
    page, browser = f"{WHO}/consents/{consent.id}", world.coordinator()
    forms = [browser.form(page, f"{page}/copy") for _ in range(2)]  # opened twice, and sent twice each
    for form in (*forms, *forms):
        reply = browser.send(f"{page}/copy", form)
        assert (reply.status_code, reply.headers["location"]) == (303, f"{page}?done=copy_mailed")
    (row,) = outbox(world)
    assert (row.to_address, row.to_participant, row.sealed, row.consent_id) == ("", True, None, consent.id)
    for word in (b"ada@", b"Lovelace", b"Mini", b"M-001", b"%PDF", b"pain"):
        assert word.lower() not in dump(world).lower(), word
    assert "Waits to be sent" in shown(world, consent)
    box.refusals = 1
    assert jobs.send_due_mail(world.database, settings) == 0
    assert "451" in shown(world, consent)
    at.shift(timedelta(hours=1))
    assert jobs.send_due_mail(world.database, settings) == 1
    assert jobs.send_due_mail(world.database, settings) == 0
    (mail,) = mails(box)
    assert not [name for name in ("mini", "consent") if name in str(mail["Message-ID"])]
    assert (mail["To"], mail["Subject"]) == ("ada@example.org", "Your copy of what you signed")
    assert "what you signed on 2 Mar 2026" in said(mail)
    assert "call North clinic." in said(mail)
    ((name, pdf),) = files(mail).items()
    assert name == "copy.pdf"
    read = "".join(text_of(pdf))
    for words in ("You may stop at any time.", "Ada Lovelace", "Countersigned by", "byte for byte what was signed"):
        assert packed(words) in read
    assert "<time" not in read
    assert world.coordinator().get(f"{WHO}/consents/{consent.id}.pdf").content == pdf
    text = shown(world, consent)
    assert "Sent by mail 2 Mar 2026 13:00" in text
    assert "Send the copy by mail again" in text
    assert world.log().count("consent.copy_mailed") == 1
    assert "Copy of the consent" in words_of(world.coordinator().get("/mini/messages").text)
    assert "Copy of the consent mailed" in words_of(
        world.browser("investigator").get("/mini/audit?participant=M-001").text
    )
    at.shift(timedelta(hours=1))
    assert asked(world, consent).status_code == 303, "they lost it, and get another one"
    assert jobs.send_due_mail(world.database, settings) == 1
    assert len({row.key for row in outbox(world)}) == len(mails(box)) == 2


@pytest.mark.parametrize(
    ("language", "subject", "words", "in_the_copy"),
    [
        ("de", "Ihre Kopie dessen, was Sie unterschrieben haben", "am 2. März 2026", "Sie können jederzeit aufhören."),
        ("es", "Su copia de lo que firmó", "2 mar 2026", "Puede dejarlo en cualquier momento."),
    ],
)
def test_who_signs_by_link_asks_for_the_copy_and_gets_it_once_it_is_countersigned(
    world: World,
    inbox: tuple[Inbox, Settings],  # noqa: F811
    language: str,
    subject: str,
    words: str,
    in_the_copy: str,
) -> None:
    box, settings = inbox
    participant = world.screened(personal=ADA)
    path, phone = given(world, f"consent:1:{language}"), stranger(world)
    page = phone.send(path, {"born": "1980-12-10"})
    assert "a…@e….org" in page.text
    assert not [word for word in ("ada@", "example.org") if word in page.text]
    fields = {**typed(BeautifulSoup(page.text, "html.parser")), "signature": "Ada Lovelace", "copy": "yes"}
    wrong = phone.send(path, {**fields, "signature": ""})
    assert BeautifulSoup(wrong.text, "html.parser").select_one("input[name=copy][checked]") is not None
    done = phone.send(path, fields)
    assert done.status_code == 200
    assert ("per E-Mail" if language == "de" else "por correo") in words_of(done.text)
    consent = consent_of(world, participant)
    assert (consent.copy_asked, outbox(world)) == (True, [])
    assert "It goes once the consent is countersigned" in shown(world, consent)
    countersign = f"{WHO}/consents/{consent.id}/countersign"
    assert world.coordinator().post(countersign, {"password": PASSWORD}).status_code == 303
    assert jobs.send_due_mail(world.database, settings) == 1
    (mail,) = mails(box)
    subjects = email.header.make_header(email.header.decode_header(mail["Subject"]))
    assert str(subjects) == subject
    assert words in said(mail)
    assert packed(in_the_copy) in "".join(text_of(files(mail)["copy.pdf"]))
    assert world.log().count("consent.copy_mailed") == 1


def test_no_copy_is_offered_by_link_where_no_address_is_known(world: World) -> None:
    participant = world.screened(personal=PersonalData("Ada", "Lovelace", "1980-12-10"))
    path, phone = given(world, "consent:1:en"), stranger(world)
    page = phone.send(path, {"born": "10 Dec 1980"})
    soup = BeautifulSoup(page.text, "html.parser")
    assert soup.select_one("input[name=copy]") is None
    assert phone.send(path, {**typed(soup), "signature": "Ada Lovelace", "copy": "yes"}).status_code == 200
    consent = consent_of(world, participant)
    countersign = f"{WHO}/consents/{consent.id}/countersign"
    assert world.coordinator().post(countersign, {"password": PASSWORD}).status_code == 303, "nothing stands in its way"
    assert [(row.ended_as, row.last_error) for row in outbox(world)] == [("failed", NO_ADDRESS)]
    assert world.log().count("consent.copy_mailed") == 0
    browser = world.coordinator()
    page = browser.soup(f"{WHO}/consents/{consent.id}")
    part = page.select_one("#copy")
    assert part is not None
    assert "Could not be sent" in part.get_text()
    assert "No mail address" in part.get_text()
    assert [link["href"] for link in part.select("a")] == [f"{WHO}/identity"]
    assert [words_of(str(each)) for each in part.select("button")] == ["It was handed out on paper"]
    refused = browser.send(
        f"{WHO}/consents/{consent.id}/copy", {"csrf_token": str(page.select("meta[name=csrf-token]")[0]["content"])}
    )
    assert (refused.status_code, NO_ADDRESS in words_of(refused.text)) == (409, True)


def test_where_the_study_has_nobody_who_countersigns_the_copy_goes_at_once(shared_database: Database, at: Any) -> None:
    world = World(shared_database, consent={"countersigned_by": []}, consent_documents=DOCUMENTS)
    world.screened(personal=ADA)
    path, phone = given(world, "consent:1:en"), stranger(world)
    fields = typed(BeautifulSoup(phone.send(path, {"born": "10 Dec 1980"}).text, "html.parser"))
    assert phone.send(path, {**fields, "signature": "Ada Lovelace", "copy": "yes"}).status_code == 200
    assert len(outbox(world)) == 1


@pytest.mark.requirement("GDPR-5")
def test_who_wants_no_contact_gets_none_and_who_left_visits_alone_may(world: World) -> None:
    participant = world.consented()
    consent = consent_of(world, participant)

    def withdrawn(level: str) -> None:
        with world.database.writing() as session:
            values = {"status": "withdrawn", "withdrawal_level": level, "withdrawn_on": participant.screened_on}
            session.execute(update(PARTICIPANT).values(**values))

    withdrawn("visits")
    assert asked(world, consent).status_code == 303
    withdrawn("contact")
    assert jobs.send_due_mail(world.database, Settings()) == 0
    assert [(row.ended_as, row.sent_at) for row in outbox(world)] == [("dropped", None)]
    page = shown(world, consent)
    assert "Was not sent" in page
    assert "Nobody contacts them any more" in page
    reply = api_client(world.database, world.coordinators["north"]).refused(
        409, "POST", f"/participants/M-001/consents/{consent.id}/copy"
    )
    assert "Nobody contacts them any more" in reply["detail"]
    assert world.log().count("consent.mail_copy_refused") == 1


@pytest.mark.requirement("GDPR-5")
def test_nothing_is_sent_of_who_was_erased_meanwhile(world: World) -> None:
    participant = world.consented()
    consent = consent_of(world, participant)
    assert asked(world, consent).status_code == 303
    with world.database.writing() as session:
        session.execute(update(PARTICIPANT).values(status="withdrawn", withdrawal_level="visits"))
        erase_identity(
            session, world.study, world.found("M-001"), why="Asked for it", by=world.coordinators["north"], now=AT
        )
    way = Kept()
    jobs.send_due_mail(world.database, Settings(), channels={"mail": way})
    assert way.got == []
    assert [row.ended_as for row in outbox(world)] == ["dropped"]
    assert "erased" in shown(world, consent)


class Kept:
    """Takes every message, and keeps it."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def deliver(self, message: Any) -> None:
        self.got.append(message)


def test_the_scan_of_what_was_signed_on_paper_goes_with_it_unless_it_is_too_large(world: World) -> None:
    participant = world.screened()
    browser = world.coordinator()
    scan = b"%PDF-1.7 the signed paper"
    fields = browser.form(f"{WHO}/consent?method=paper", f"{WHO}/consent")
    filled = {"signature": "Folder 3", "signed_on": str(world.today()), "password": PASSWORD, "countersign": "now"}
    kept = browser.send(f"{WHO}/consent", {**fields, **filled}, files={"scan": ("signed.pdf", scan)})
    assert kept.status_code == 303
    consent, way = consent_of(world, participant), Kept()
    assert asked(world, consent).status_code == 303
    assert jobs.send_due_mail(world.database, Settings(), channels={"mail": way}) == 1
    (message,) = way.got
    assert [each.name for each in message.attachments] == ["copy.pdf", "signed-paper.pdf"]
    assert message.attachments[1].data == scan
    with world.database.writing() as session:
        session.execute(update(FILE).values(size=LARGEST_COPY + 1))
    page = shown(world, consent)
    assert "too large to go by mail" in page
    program = api_client(world.database, world.coordinators["north"])
    program.refused(409, "POST", f"/participants/M-001/consents/{consent.id}/copy")


def test_a_copy_that_was_given_up_is_asked_for_again_and_goes_once(world: World) -> None:
    consent = consent_of(world, world.consented())
    assert asked(world, consent).status_code == 303
    with world.database.writing() as session:
        values = {"ended_at": AT, "ended_as": "failed", "last_error": "550 No such mailbox"}
        session.execute(update(MAIL).values(**values))
    page = shown(world, consent)
    assert "Could not be sent" in page
    assert "550 No such mailbox" in page
    assert asked(world, consent).status_code == 303
    assert [row.ended_as for row in outbox(world)] == ["dropped", None]
    way = Kept()
    assert jobs.send_due_mail(world.database, Settings(), channels={"mail": way}) == 1


def test_a_consent_that_was_refused_meanwhile_is_not_sent(world: World) -> None:
    consent = consent_of(world, world.consented())
    assert asked(world, consent).status_code == 303
    with world.database.writing() as session:
        session.execute(update(CONSENT).values(refused_at=AT, refused_by="x", refused_why="Wrong person"))
    way = Kept()
    jobs.send_due_mail(world.database, Settings(), channels={"mail": way})
    assert (way.got, outbox(world)[0].ended_as) == ([], "dropped")


def test_only_who_may_know_who_they_are_sends_it(world: World) -> None:
    consent = consent_of(world, world.consented())
    page = f"{WHO}/consents/{consent.id}"
    manager = world.browser("data_manager")
    button = manager.soup(page).select_one("#copy button")
    assert button is not None
    assert button.has_attr("disabled") or button.get("aria-disabled") == "true"
    assert asked(world, consent, manager).status_code == 403
    program = api_client(world.database, world.person("data_manager"))
    program.refused(403, "POST", f"/participants/M-001/consents/{consent.id}/copy")
    state = program.done("GET", f"/participants/M-001/consents/{consent.id}/copy")
    assert (state["state"], "needs the role" in state["why_not"]) == ("none", True)


def test_over_rest_it_is_asked_for_and_told_how_it_went(world: World) -> None:
    participant = world.consented(countersigned=False)
    consent = consent_of(world, participant)
    program = api_client(world.database, world.coordinators["north"])
    path = f"/participants/M-001/consents/{consent.id}/copy"
    assert "not countersigned" in program.refused(409, "POST", path)["detail"]
    countersigned = {"password": PASSWORD}
    program.done("POST", f"/participants/M-001/consents/{consent.id}/countersignature", countersigned)
    first = program.done("POST", path)
    assert (first["state"], first["why_not"], first["asked"]) == ("waiting", None, False)
    assert program.done("POST", path) == first
    assert program.done("GET", path) == first
    assert program.done("GET", f"/messages/{first['message']}")["rule"] == COPY_RULE
    assert jobs.send_due_mail(world.database, Settings(), channels={"mail": Kept()}) == 1
    assert program.done("GET", path)["state"] == "sent"
    program.refused(404, "GET", "/participants/M-001/consents/9999/copy")


def test_the_page_of_a_consent_asks_the_database_little(world: World) -> None:
    consent = consent_of(world, world.consented())
    browser = world.coordinator()
    with counted_statements(world.database) as asked_for:
        browser.get(f"{WHO}/consents/{consent.id}")
    assert len(asked_for) <= 12


def waiting(browser: Any) -> list[str]:
    """The copies that could not be sent, as Today has them."""
    rows = browser.soup("/mini/today").select("#unsettled tbody tr")
    return [" ".join(each.get_text(" ").split()) for each in rows if "copy could not be sent" in each.get_text()]


def test_a_copy_that_could_not_go_waits_on_today_until_it_is_sent_or_handed_out(world: World) -> None:
    consent = consent_of(world, world.consented())
    page = f"{WHO}/consents/{consent.id}"
    browser = world.coordinator()
    assert waiting(browser) == []
    assert asked(world, consent).status_code == 303
    assert waiting(browser) == [], "it is on its way"
    with world.database.writing() as session:
        failed = {"ended_at": AT, "ended_as": "failed", "last_error": "550 No such mailbox"}
        session.execute(update(MAIL).values(**failed))
    with counted_statements(world.database) as statements:
        (line,) = waiting(browser)
    assert len(statements) <= 12, statements
    assert line.startswith("M-001")
    assert "550 No such mailbox" in line
    assert waiting(world.coordinator("south")) == []
    link = browser.soup("/mini/today").select_one("#unsettled a[href$='#copy']")
    assert link is not None
    assert link["href"] == f"{page}#copy"
    assert asked(world, consent).status_code == 303
    assert waiting(browser) == [], "sent again"
    with world.database.writing() as session:
        session.execute(update(MAIL).where(MAIL.c.ended_as.is_(None)).values(**failed))
    assert len(waiting(browser)) == 1
    form = browser.form(page, f"{page}/copy/handed-out")
    for _ in range(2):
        given = browser.send(f"{page}/copy/handed-out", form)
        assert (given.status_code, given.headers["location"]) == (303, f"{page}?done=copy_handed_out")
    assert waiting(browser) == []
    assert {row.ended_as for row in outbox(world)} == {"dropped"}
    assert world.log().count("consent.copy_handed_out") == 1
    assert "Handed out on paper" in shown(world, consent)
    assert "It was handed out on paper" not in shown(world, consent)
    program = api_client(world.database, world.coordinators["north"])
    state = program.done("POST", f"/participants/M-001/consents/{consent.id}/copy/handed-out")
    assert (state["handed_out_by"], world.log().count("consent.copy_handed_out")) == ("coordinator_north", 1)


def test_an_address_that_is_gone_when_the_copy_leaves_shows_on_today(world: World) -> None:
    participant = world.consented()
    consent = consent_of(world, participant)
    assert asked(world, consent).status_code == 303
    with world.database.writing() as session:
        away = replace(ADA, email=None)
        how: Any = {"personal": away, "version": 1, "why": "Moved", "by": world.coordinators["north"], "now": AT}
        assert change_identity(session, world.study, participant, **how) == 2
    assert jobs.send_due_mail(world.database, Settings()) == 0
    assert [(row.ended_as, row.last_error) for row in outbox(world)] == [("failed", NO_ADDRESS)]
    assert len(waiting(world.coordinator())) == 1


def test_nobody_hands_out_a_copy_that_lacks_a_signature(world: World) -> None:
    world.screened(personal=ADA)
    path, phone = given(world, "consent:1:en"), stranger(world)
    fields = typed(BeautifulSoup(phone.send(path, {"born": "10 Dec 1980"}).text, "html.parser"))
    assert phone.send(path, {**fields, "signature": "Ada Lovelace", "copy": "yes"}).status_code == 200
    with world.database.reading() as session:
        number = session.execute(select(CONSENT.c.id)).scalar_one()
    page = f"{WHO}/consents/{number}"
    assert world.coordinator().soup(page).select(f"form[action='{page}/copy/handed-out']") == []
    program = api_client(world.database, world.coordinators["north"])
    program.refused(409, "POST", f"/participants/M-001/consents/{number}/copy/handed-out")
    other = api_client(world.database, world.person("data_manager"))
    other.refused(403, "POST", f"/participants/M-001/consents/{number}/copy/handed-out")
