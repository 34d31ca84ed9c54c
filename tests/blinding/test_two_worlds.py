"""Promise 2: does anything that blinded people get depend on who is in which arm?

The same trial is played twice, in databases that differ in the arms of the uploaded list only. Every answer to every
blinded person, every row, the order of rows, the mails, the log output and the bytes of the database file must then be
the same. Nothing is made alike before it is compared: tests/blinding/trial.py takes chance out of both worlds instead.

Below are leaks, each put in on purpose: the comparison must find every one of them.
"""

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import select, text
from sqlmodel import Session

from app.audit.actions import Change, record
from app.casebook import book, course
from app.dependencies import Here
from app.exports import reads as exports
from app.exports.delivery import EXTENSIONS, STANDARD_EXTENSIONS
from app.exports.records import recorded
from app.foundation import idempotency
from app.foundation.crypto import envelopes
from app.mail.actions import queue
from app.participants import reads as participants
from app.people.permissions import Role
from app.randomisation import actions as randomisation
from app.randomisation.downtime import actions as downtime
from app.randomisation.opening import open_unblinded
from app.randomisation.reads import ALLOCATION
from app.randomisation.unblinding import actions as unblinding
from app.web import places
from tests.blinding import trial
from tests.blinding.conftest import NewWorld
from tests.blinding.trial import BLINDED, SINCE, SWAPPED, WORDS, WORLD, Left, arm_of, differences, left_by
from tests.concealment.search import Searching
from tests.web.pdf import text_of

SEARCHING = Searching(WORDS)


@pytest.mark.requirement(
    "CONC-1", "SPI-24c", "E6-6", "CONC-7", "CONC-8", "CONC-11", "CONC-15", "CONC-16", "E6-1", "EMA-8", "CON-F8"
)
def test_two_worlds_that_differ_in_the_arms_only_cannot_be_told_apart(new_world: NewWorld, tmp_path: Path):
    database = new_world()
    # A page is the same on both databases: on one everybody asks for everything, on the other those who see most.
    roles = BLINDED if database.is_sqlite else (Role.COORDINATOR, Role.INVESTIGATOR, Role.DATA_MANAGER)
    one = left_by(database, WORLD, tmp_path / "data", roles=roles)
    other = left_by(new_world(), SWAPPED, tmp_path / "data", roles=roles)
    assert differences(one, other) == []
    _really_asked(one, roles)
    # Told apart or not, no answer names an arm, or what is delivered in one, in any form.
    assert SEARCHING.places({key: body for key, (_, _, body) in one.heard.items()}) == []
    printed = {key: body for key, (status, _, body) in one.heard.items() if status == 200 and ".pdf" in key}
    assert SEARCHING.places({key: "".join(text_of(body)).encode() for key, body in printed.items()}) == []
    # Nor the room in which sessions are: who learns it may learn what is given there.
    assert not [key for key, (_, _, body) in one.heard.items() if b"Aubergine room" in body]


def _really_asked(left: Left, roles: Sequence[str]) -> None:
    """The comparison is worth something only if the pages were there to be compared."""
    fine = {key.split()[3].partition("?")[0] for key, (status, *_) in left.heard.items() if status == 200}
    for wanted in (
        "/mini/today",
        "/mini/participants",
        "/mini/participants/M-001",
        "/mini/participants/M-001/randomised",
        "/mini/participants/M-001/visits/tx01",
        "/mini/participants/M-001/visits/week18/entries/pain/record",
        "/mini/participants/M-001/casebook.pdf",
        "/mini/participants/M-002/casebook.pdf",
        "/api/v1/studies/mini/participants/M-001/casebook.pdf",
        "/mini/participants/M-001/appointments/1",
        "/mini/participants/M-001/appointments/new",
        "/api/v1/studies/mini/participants/M-002/appointments",
        "/api/v1/studies/mini/appointments",
        "/mini/calendar",
        "/mini/import",
        "/mini/import/1",
        "/mini/webhooks/1",
        "/api/v1/studies/mini/webhooks/2/deliveries",
        "/api/v1/studies/mini/import-mappings",
        "/api/v1/studies/mini/visits-due",
        "/mini/messages",
        "/api/v1/studies/mini/messages",
        "/mini/audit",
        "/mini/audit.csv",
        "/mini/audit/review",
        "/mini/audit/reviews",
        "/mini/audit/reviews/1",
        "/api/v1/studies/mini/log-review",
        "/mini/exports/entries.csv",
        *(f"/mini/exports/participants.{extension}" for extension in EXTENSIONS),
        *(f"/mini/exports/all.{extension}" for extension in STANDARD_EXTENSIONS),
        "/mini/exports/dummy/participants.csv",
        "/mini/exports/dummy/participants.sav",
        "/mini/exports/all.zip",
        "/mini/exports/history",
        "/mini/exports/history/1/file",
        "/mini/exports/history/2/manifest.json",
        "/api/v1/studies/mini/exports/all.zip",
        "/api/v1/studies/mini/export-runs/2/file",
        "/mini/exports/dummy/codebook.json",
        "/api/v1/studies/mini/exports-dummy/entries_by_visit.ndjson",
        "/mini/study",
        "/mini/participants/M-001/unblind",
        "/mini/study/unblinding",
        "/mini/study/unblinding.csv",
        "/mini/study/unblinding/1",
        "/mini/study/unblinding/learnt",
        "/mini/safety",
        "/mini/safety/events/1",
        "/mini/safety/events/1/follow-up",
        "/mini/safety/deviations",
        "/mini/safety/deviations/1",
        "/mini/safety/screening",
        "/mini/reports",
        "/api/v1/studies/mini/reports",
        "/mini/participants/M-001/contacts",
        "/mini/participants/M-002/care",
        "/mini/participants/M-001/adverse-events/new",
        "/mini/exports/adverse_events.csv",
        "/api/v1/studies/mini/adverse-events/1",
        "/api/v1/studies/mini/unblindings",
        "/api/v1/studies/mini/unblindings/openings",
        "/api/v1/studies/mini/audit",
        "/api/v1/studies/mini/participants/M-002/gates",
        "/api/v1/studies/mini/exports/participants.json",
        "/api/",
    ):
        assert wanted in fine, wanted
    whole = {key.split()[3] for key, (status, *_) in left.heard.items() if status == 200}
    assert {f"/api/v1/studies/mini/exports/all.{extension}" for extension in SINCE["extension"]} <= whole
    called = {
        key.partition("content=")[2].partition("&")[0] for key, (status, *_) in left.heard.items() if status == 200
    }
    assert called >= {"record", "report", "log", "metadata", "user", "project_xml", "pdf"}
    assert {key.split()[0] for key in left.heard} >= set(roles)
    assert not [key for key, (status, *_) in left.heard.items() if status >= 500]
    assert left.rows["outbox_mail"]
    assert len(left.rows["option_taken_back"]) == 2
    assert len(left.rows["consent"]) == 6, "one is refused, and one given again for what was taken back"
    assert len(left.rows["treatment_session"]) == 2
    assert len(left.rows["unblinding"]) == 5
    assert len(left.rows["adverse_event"]) == 2
    assert len(left.rows["adverse_event_report"]) == 3
    assert left.rows["webhook_delivery"]
    assert left.rows["import_file"]
    assert {key.split()[3] for key in left.heard if key.startswith("program ")} == {
        "https://example.org/coordinator",
        "https://example.org/data_manager",
    }
    assert left.rows["deviation"]
    assert left.rows["log_review"]
    assert left.rows["contact"]
    assert left.rows["concomitant_care"]
    assert not [
        key for key, (status, *_) in left.heard.items() if key.endswith(("/arms", "/arms.csv")) and status < 400
    ]
    assert any("mini" in line for line in left.lines)


# Leaks, put in on purpose


def _arms(session: Session) -> list[str]:
    ids = session.execute(select(ALLOCATION.c.participant_id).order_by(ALLOCATION.c.number)).scalars().all()
    return [arm_of(session, each) for each in ids]


def list_sorted_by_arm(stack: ExitStack) -> None:
    """Participants stand in the order of their arms."""
    real = participants.participants_page

    def leaking(session: Session, *positional: Any, **named: Any) -> Any:
        page = real(session, *positional, **named)
        return replace(page, rows=sorted(page.rows, key=lambda row: arm_of(session, row.id)))

    stack.enter_context(mock.patch.object(participants, "participants_page", leaking))


def _on_page(stack: ExitStack, path: str, leak: Callable[[Any, list[str]], None]) -> None:
    real = vars(places)["page"]  # another leak may stand there already

    def leaking(request: Any, template: str, **named: Any) -> Any:
        response = real(request, template, **named)
        if request.url.path == path:
            leak(response, _arms(named["here_"].session))
        return response

    stack.enter_context(mock.patch.object(places, "page", leaking))


def arm_in_a_header(stack: ExitStack) -> None:
    """An ETag is made from what is in the database, arms included."""
    _on_page(
        stack,
        "/mini/today",
        lambda response, arms: response.headers.update(
            {"etag": hashlib.sha256("".join(arms).encode()).hexdigest()[:8]}
        ),
    )


def count_by_arm_on_a_page(stack: ExitStack) -> None:
    """A page says how many are in the first arm."""

    def leak(response: Any, arms: list[str]) -> None:
        response.body += f"<!-- {arms.count('quillwort')} -->".encode()
        response.headers["content-length"] = str(len(response.body))

    _on_page(stack, "/mini/participants", leak)


def space_for_an_arm(stack: ExitStack) -> None:
    """Not a word is said, but a page is one byte longer when the latest participant is in one of the arms."""

    def leak(response: Any, arms: list[str]) -> None:
        response.body += b" " if arms and arms[-1] == "quillwort" else b""
        response.headers["content-length"] = str(len(response.body))

    _on_page(stack, "/mini/today", leak)


def envelopes_as_long_as_their_arm(stack: ExitStack) -> None:
    """Slots are sealed without padding."""
    real = envelopes.seal
    stack.enter_context(
        mock.patch(
            "app.randomisation.sealing.seal",
            lambda key, plaintext, *, bound_to, size: real(key, plaintext, bound_to=bound_to, size=len(plaintext)),
        )
    )


def sessions_as_long_as_what_was_delivered(stack: ExitStack) -> None:
    """Treatment sessions are sealed without padding."""
    real = envelopes.seal
    stack.enter_context(
        mock.patch(
            "app.treatment.sealing.seal",
            lambda key, plaintext, *, bound_to, size: real(key, plaintext, bound_to=bound_to, size=len(plaintext)),
        )
    )


def leaves_without_a_salt(stack: ExitStack) -> None:
    """Whoever reads the database can try the arms on every leaf, and the root in the log differs."""

    def leaking(*place: Any) -> bytes:
        return hashlib.sha256(repr(place[:5]).encode()).digest()

    # The play puts an ideal leaf in the place of ours, as it does with the cipher: the leak must be in that.
    stack.enter_context(mock.patch.object(trial, "ideal_leaf", return_value=leaking))


def arm_in_the_subject_of_a_mail(stack: ExitStack) -> None:
    """The mail to the clinicians names the arm, and blinded people may see the outbox."""
    real = queue

    def leaking(session: Session, *, subject: str, **named: Any) -> None:
        real(session, subject=f"{subject} ({_arms(session)[-1]})", **named)

    stack.enter_context(mock.patch.object(randomisation, "queue", leaking))


def arm_in_a_casebook(stack: ExitStack) -> None:
    """Not a word is said, but a heading of the printed casebook is longer in one of the arms."""
    real = course.leaving_part

    def leaking(session: Session, study: Any, participant: Any, *positional: Any, **named: Any) -> Any:
        part = real(session, study, participant, *positional, **named)
        return replace(part, title=part.title + "." * len(arm_of(session, participant.id)))

    stack.enter_context(mock.patch.object(book, "leaving_part", leaking))


def arm_in_an_export(stack: ExitStack) -> None:
    """The blinded export has the column of the unblinded one."""
    real = exports.open_export

    def leaking(session: Session, study: Any, table: str, **named: Any) -> Any:
        ids = session.execute(select(ALLOCATION.c.participant_id)).scalars().all()
        if table == "participants" and not named["dummy"]:
            named["arms"] = {each: arm_of(session, each) for each in ids}
        return real(session, study, table, **named)

    stack.enter_context(mock.patch.object(exports, "open_export", leaking))


def arm_in_a_record(stack: ExitStack) -> None:
    """A record of the REDCap-compatible API holds the arm as if it had been answered."""
    real = recorded

    def leaking(session: Session, *positional: Any, **named: Any) -> Any:
        for found in real(session, *positional, **named):
            arm = {"age": len(arm_of(session, found.id))}
            yield replace(found, screening={**(found.screening or {}), **arm})

    stack.enter_context(mock.patch("app.api.redcap.records.recorded", leaking))


def real_arms_dealt_as_dummy_ones(stack: ExitStack) -> None:
    """Dummy arms are the real ones, shuffled and under other names: their counts are those of the trial."""

    def leaking(self: Any) -> dict[int, str]:
        ids = self.session.execute(select(ALLOCATION.c.participant_id)).scalars().all()
        found = sorted(arm_of(self.session, each) for each in ids)
        return dict(zip(ids, (f"dummy_{len(arm)}" for arm in found), strict=True))

    stack.enter_context(mock.patch.object(exports._DummyArms, "dealt", property(leaking)))


def arm_in_a_log_line(stack: ExitStack) -> None:
    """Randomising writes a line about it."""
    real = randomisation.randomise

    def leaking(session: Session, *positional: Any, **named: Any) -> Any:
        made = real(session, *positional, **named)
        logging.getLogger("equipoise").info("allocated %s", arm_of(session, made.participant_id))
        return made

    stack.enter_context(mock.patch.object(randomisation, "randomise", leaking))


def requests_kept_as_plain_hashes(stack: ExitStack) -> None:
    """What was sent can be found by trying: a list of arms, what was delivered in a session."""
    stack.enter_context(
        mock.patch.object(idempotency, "fingerprint", lambda _, request: hashlib.sha256(request).digest())
    )


def rows_written_by_arm(stack: ExitStack) -> None:
    """An allocation in one arm writes one more row to the log."""
    real = randomisation.randomise

    def leaking(session: Session, study: Any, participant: Any, **named: Any) -> Any:
        made = real(session, study, participant, **named)
        if arm_of(session, made.participant_id) == "quillwort":
            record(
                session,
                study.code,
                [Change("allocation.checked", participant=participant.code)],
                by=named["by"],
                now=named["now"],
            )
        return made

    stack.enter_context(mock.patch.object(randomisation, "randomise", leaking))


def rows_written_by_arm_on_paper(stack: ExitStack) -> None:
    """A slip of one arm that is entered afterwards writes one more row to the log."""
    real = downtime.enter

    def leaking(session: Session, study: Any, participant: Any, **named: Any) -> Any:
        made = real(session, study, participant, **named)
        if arm_of(session, made.participant_id) == "quillwort":
            change = Change("allocation.checked", participant=participant.code)
            record(session, study.code, [change], by=named["by"], now=named["now"])
        return made

    stack.enter_context(mock.patch.object(downtime, "enter", leaking))


def order_of_rows(stack: ExitStack) -> None:
    """Nothing but where a row lies in its table depends on the arm."""
    real = randomisation.randomise

    def leaking(session: Session, study: Any, participant: Any, **named: Any) -> Any:
        made = real(session, study, participant, **named)
        if arm_of(session, made.participant_id) == "quillwort":
            session.execute(text("UPDATE outbox_mail SET id = id + 100 WHERE id = (SELECT max(id) FROM outbox_mail)"))
        return made

    stack.enter_context(mock.patch.object(randomisation, "randomise", leaking))


def answer_shown_once_kept_for_retries(stack: ExitStack) -> None:
    """The answer with the arm is kept, so that a lost reply can be given again."""

    def leaking(here: Here, body: Any, *, repeated: Any, **more: Any) -> Any:
        return here.answer(body, **more)

    stack.enter_context(mock.patch.object(Here, "answer_once", leaking))


def form_shown_once_shown_again(stack: ExitStack) -> None:
    """A form that breaks the blind is answered anew whenever it is sent."""
    stack.enter_context(mock.patch.object(Here, "repeated_leads_to", lambda here, url: here.release_key()))
    stack.enter_context(mock.patch("app.randomisation.unblinding.rules._plain", side_effect=lambda _: object()))


def arm_in_the_log_of_an_unblinding(stack: ExitStack) -> None:
    """What is written down of an emergency says what was seen."""
    real = open_unblinded

    def leaking(session: Session, *positional: Any, **named: Any) -> Any:
        found = real(session, *positional, **{**named, "also": ()})
        shown = [replace(each, new={**each.new, "seen": list(found.values())}) for each in named["also"]]
        record(session, positional[0].code, shown, by=named["by"], now=named["now"])
        return found

    stack.enter_context(mock.patch.object(unblinding, "open_unblinded", leaking))


# Each leak, and where it must be found. Those of one group are put in together, and each is found in a place where
# none of the others of its group leaves a difference: played alone, one by one, they left these and no more.
LEAKS: dict[str, dict[Callable[[ExitStack], None], str]] = {
    "rows, envelopes, records, log lines": {
        rows_written_by_arm: "rows: audit_entry ",
        envelopes_as_long_as_their_arm: "row: slot ",
        arm_in_a_record: r"answer: data_manager .* POST /api/\?content=record",
        arm_in_a_log_line: "log output",
    },
    "rows from paper, leaves, sessions, mails, what is shown once": {
        rows_written_by_arm_on_paper: "rows: audit_entry ",
        leaves_without_a_salt: "row: slot ",
        sessions_as_long_as_what_was_delivered: "row: treatment_session ",
        arm_in_the_subject_of_a_mail: "row: outbox_mail ",
        form_shown_once_shown_again: "answer: investigator .* POST /mini/participants/M-001/unblind",
    },
    "lists, exports, headers, plain hashes": {
        list_sorted_by_arm: r"answer: .* GET /mini/participants\?sort=-status",
        arm_in_a_casebook: "answer: data_manager .* GET /mini/participants/M-001/casebook.pdf",
        arm_in_an_export: "answer: data_manager .* GET /mini/exports/participants.csv",
        real_arms_dealt_as_dummy_ones: "answer: data_manager .* GET /mini/exports/dummy/",
        arm_in_a_header: "answer: .* GET /mini/today",
        requests_kept_as_plain_hashes: "row: idempotent_request ",
    },
    "counts, lengths, order of rows, answers kept, the log of an unblinding": {
        count_by_arm_on_a_page: "answer: .* GET /mini/participants$",
        space_for_an_arm: "answer: .* GET /mini/today",
        order_of_rows: "row: outbox_mail ",
        answer_shown_once_kept_for_retries: "row: idempotent_request ",
        arm_in_the_log_of_an_unblinding: "row: audit_entry ",
    },
}
IN_ROWS = "rows from paper, leaves, sessions, mails, what is shown once"
# What the leaks touch, so that a few more trials are played quickly.
SOME = ("today.today", "participants.participants", "casebook.file", "exports.file", "exports.dummy_file")


@pytest.fixture
def leaking() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


# All of them on SQLite; on PostgreSQL those that are found in rows, which it keeps and gives back by means of its own.
@pytest.mark.parametrize(
    ("kind", "group"), [*(("sqlite", group) for group in LEAKS), ("postgres", IN_ROWS)], indirect=["kind"]
)
def test_every_leak_is_found(group: str, leaking: ExitStack, new_world: NewWorld, tmp_path: Path):
    for leak in LEAKS[group]:
        leak(leaking)
    left = [
        left_by(new_world(), arms, tmp_path / "data", roles=("coordinator", "data_manager"), names=SOME)
        for arms in (WORLD, SWAPPED)
    ]
    found = differences(*left)
    for leak, place in LEAKS[group].items():
        assert any(re.match(place, each) for each in found), (leak.__name__, found[:20])


@pytest.mark.parametrize("kind", ["sqlite"])
def test_without_a_leak_the_short_comparison_finds_nothing(new_world: NewWorld, tmp_path: Path):
    """The mutants above are caught for what they leak, and not because any two plays differ."""
    left = [
        left_by(new_world(), arms, tmp_path / "data", roles=("coordinator", "data_manager"), names=SOME)
        for arms in (WORLD, SWAPPED, {site: (arms[0],) * len(arms) for site, arms in WORLD.items()})
    ]
    assert differences(left[0], left[1]) == []
    assert differences(left[0], left[2]) == []
    said = b"".join(body for _, _, body in left[0].heard.values())
    assert not [word for word in WORDS if word.encode() in said]
