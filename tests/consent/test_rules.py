"""A consent binds every byte of what was signed, and holds only between signature and withdrawal."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.consent.rules import (
    binding_digest,
    consent_problems,
    gives_more,
    is_intact,
    options_now,
    taking_back_problems,
    valid_document,
    why_no_consent,
    why_not_countersign,
    why_not_countersigner,
    why_not_refuse,
    why_not_sign,
    words_digest,
)
from app.participants.status import Status
from app.studies.definition import Choice, ConsentDocument, ConsentQuestion, ConsentRules
from tests.consent.acts import DOCUMENTS, QUESTION

DOCS = tuple(ConsentDocument.model_validate(one) for one in DOCUMENTS)
ENGLISH = DOCS[2]
SIGNED = date(2026, 3, 2)
AT = datetime(2026, 3, 2, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Stored:
    document_version: str = "2"
    language: str = "en"
    document_sha256: str = ENGLISH.sha256
    method: str = "on_screen"
    signed_on: date = SIGNED
    participant_signature: bytes = b"sealed"
    paper_sha256: str | None = None
    options: str = '{"contact":true}'
    answers: str = "{}"
    binding: str = binding_digest(
        ENGLISH,
        method="on_screen",
        options={"contact": True},
        signature=b"sealed",
        paper_sha256=None,
        signed_on=SIGNED,
        participant_code="M-001",
    )
    recorded_at: datetime = AT
    countersigned_at: datetime | None = AT
    withdrawn_on: date | None = None
    refused_at: datetime | None = None


@pytest.mark.requirement("EMA-15")
def test_an_untouched_consent_is_intact() -> None:
    assert is_intact(Stored(), ENGLISH, participant_code="M-001")


@pytest.mark.requirement("EMA-15")
@pytest.mark.parametrize(
    "changes",
    [
        {"document_version": "1"},
        {"language": "de"},
        {"document_sha256": "f" * 64},
        {"method": "paper"},
        {"signed_on": date(2026, 3, 1)},
        {"participant_signature": b"Sealed"},
        {"paper_sha256": "a" * 64},
        {"options": '{"contact":false}'},
        {"options": "{}"},
        {"options": "[1]"},
        {"options": "not json"},
        {"binding": "0" * 64},
    ],
)
def test_one_changed_field_of_a_consent_is_noticed(changes: dict[str, Any]) -> None:
    assert not is_intact(replace(Stored(), **changes), ENGLISH, participant_code="M-001")


@pytest.mark.requirement("EMA-15")
def test_a_consent_of_somebody_else_or_to_nothing_is_not_intact() -> None:
    assert not is_intact(Stored(), ENGLISH, participant_code="M-002")
    assert not is_intact(Stored(), None, participant_code="M-001")


@pytest.mark.requirement("EMA-15")
@given(st.integers(0, len(ENGLISH.text) - 1), st.characters(categories=["L", "N"]))
def test_one_changed_character_of_the_document_is_noticed(at: int, character: str) -> None:
    text = ENGLISH.text[:at] + character + ENGLISH.text[at + 1 :]
    changed = ENGLISH.model_copy(update={"text": text})
    assert is_intact(Stored(), changed, participant_code="M-001") is (text == ENGLISH.text)


@pytest.mark.parametrize(
    ("language", "on", "version"),
    [
        ("en", date(2024, 12, 31), None),
        ("en", date(2025, 1, 1), "1"),
        ("en", date(2026, 2, 28), "1"),
        ("en", date(2026, 3, 1), "2"),
        ("de", date(2026, 3, 1), "1"),
        ("fr", date(2026, 3, 1), None),
    ],
)
def test_the_latest_document_that_is_valid_holds(language: str, on: date, version: str | None) -> None:
    found = valid_document(DOCS, language, on)
    assert (found.version if found else None) == version


OPEN = Stored(countersigned_at=None)
GONE = Stored(withdrawn_on=date(2026, 3, 10))
WRONG = Stored(countersigned_at=None, refused_at=AT)
TAKEN_BACK = Stored(refused_at=AT)


@pytest.mark.requirement("GDPR-7")
@pytest.mark.parametrize(
    ("consents", "on", "reason"),
    [
        ([], None, "no consent yet"),
        ([OPEN], None, "not countersigned"),
        ([Stored()], None, None),
        ([GONE], None, "withdrawn on 10 Mar 2026"),
        ([GONE], date(2026, 3, 9), None),
        ([GONE], date(2026, 3, 10), "withdrawn"),
        ([Stored()], SIGNED, None),
        ([Stored()], date(2026, 3, 1), "given on 2 Mar 2026"),
        ([Stored(), OPEN], None, None),
        ([GONE, OPEN], None, "not countersigned"),
        ([GONE, Stored()], None, None),
        ([WRONG], None, "of 2 Mar 2026 was refused"),
        ([TAKEN_BACK], None, "Record it again"),
        ([TAKEN_BACK], SIGNED, "Record it again"),
        ([WRONG, OPEN], None, "not countersigned"),
        ([WRONG, GONE], None, "withdrawn"),
        ([WRONG, Stored()], None, None),
    ],
)
def test_consent_holds_from_signature_to_withdrawal(
    consents: list[Stored], on: date | None, reason: str | None
) -> None:
    found = why_no_consent(consents, on=on)
    assert found is None if reason is None else reason in str(found)


@pytest.mark.parametrize(
    ("status", "consents", "reason"),
    [
        (Status.SCREENED, [], None),
        (Status.SCREENED, [OPEN], "Countersign it"),
        (Status.CONSENTED, [Stored()], "complete already"),
        (Status.RANDOMISED, [Stored(document_version="1")], None),
        (Status.SCREENED, [GONE], None),
        (Status.SCREENED, [OPEN], "refuse it"),
        (Status.SCREENED, [WRONG], None),
        (Status.CONSENTED, [TAKEN_BACK], None),
        (Status.SCREENED, [WRONG, OPEN], "Countersign it"),
        (Status.SCREEN_FAILED, [], "did not pass"),
        (Status.WITHDRAWN, [], "withdrawn"),
        (Status.LOST, [], "were found"),
        (Status.DIED, [], "has died"),
        (Status.COMPLETED, [], "completed"),
    ],
)
def test_who_may_sign_which_version(status: Status, consents: list[Stored], reason: str | None) -> None:
    found = why_not_sign(status, consents, "2")
    assert found is None if reason is None else reason in str(found)


def test_who_may_countersign() -> None:
    assert why_not_countersign(OPEN) is None
    assert "already" in str(why_not_countersign(Stored()))
    assert "withdrawn" in str(why_not_countersign(GONE))
    assert "refused" in str(why_not_countersign(WRONG))
    assert why_not_countersigner(["investigator"], ("coordinator", "investigator")) is None
    assert "investigator" in str(why_not_countersigner(["coordinator"], ("investigator",)))


FIRST = Stored(document_version="1", signed_on=date(2026, 2, 1), recorded_at=AT.replace(month=2))


@pytest.mark.parametrize(
    ("consent", "others", "status", "is_used", "reason"),
    [
        (OPEN, [], Status.SCREENED, False, None),
        (OPEN, [], Status.WITHDRAWN, True, None),  # until it is countersigned, nothing was recorded under it
        (OPEN, [FIRST], Status.RANDOMISED, True, None),
        (Stored(), [], Status.CONSENTED, False, None),
        (Stored(), [], Status.CONSENTED, True, "it stays"),
        (Stored(), [], Status.RANDOMISED, False, "it stays"),
        (Stored(), [], Status.COMPLETED, False, "it stays"),
        (Stored(), [FIRST], Status.RANDOMISED, True, None),  # everything was recorded under the earlier one as well
        (Stored(), [replace(FIRST, refused_at=AT)], Status.RANDOMISED, True, "it stays"),
        (Stored(), [replace(FIRST, countersigned_at=None)], Status.RANDOMISED, True, "it stays"),
        (FIRST, [Stored()], Status.CONSENTED, False, "later consent"),
        (GONE, [], Status.CONSENTED, False, "withdrawn on"),
        (WRONG, [], Status.SCREENED, False, "already"),
    ],
)
def test_which_consent_can_be_refused(
    consent: Stored, others: list[Stored], status: Status, is_used: bool, reason: str | None
) -> None:
    found = why_not_refuse(consent, [consent, *others], status, is_used=is_used)
    assert found is None if reason is None else reason in str(found)


@dataclass(frozen=True)
class Back:
    id: int | None = 1
    code: str = "contact"
    taken_back_on: date = date(2026, 3, 5)
    recorded_at: datetime = datetime(2026, 3, 6, 12, tzinfo=UTC)
    struck_at: datetime | None = None


AGAIN = Stored(signed_on=date(2026, 3, 8), recorded_at=AT.replace(day=8))


@pytest.mark.requirement("GDPR-7")
@pytest.mark.parametrize(
    ("consents", "taken_back", "agreed", "since"),
    [
        ([Stored()], [], True, SIGNED),
        ([Stored(options='{"contact":false}')], [Back()], False, SIGNED),
        ([Stored()], [Back()], False, date(2026, 3, 5)),
        ([Stored()], [Back(struck_at=AT)], True, SIGNED),
        ([Stored()], [Back(code="data_sharing")], True, SIGNED),
        ([Stored(), AGAIN], [Back()], True, date(2026, 3, 8)),
        ([Stored(), replace(AGAIN, countersigned_at=None)], [Back()], False, date(2026, 3, 5)),
        ([Stored(), replace(AGAIN, refused_at=AT)], [Back()], False, date(2026, 3, 5)),
        # Signed on paper before they took it back, and recorded after it: what they said last holds.
        ([Stored(), replace(AGAIN, signed_on=date(2026, 3, 4))], [Back()], False, date(2026, 3, 5)),
        # Of one day: what was recorded later.
        ([Stored(), replace(AGAIN, signed_on=date(2026, 3, 5))], [Back()], True, date(2026, 3, 5)),
        ([Stored()], [Back(taken_back_on=SIGNED)], False, SIGNED),
        ([Stored()], [Back(), Back(id=2, taken_back_on=date(2026, 3, 7))], False, date(2026, 3, 5)),
    ],
)
def test_an_optional_consent_stands_as_it_was_said_last(
    consents: list[Stored], taken_back: list[Back], agreed: bool, since: date
) -> None:
    option = options_now(consents, taken_back)["contact"]
    assert (option.agreed, option.since) == (agreed, since)
    assert (option.taken_back is not None) is (not agreed and '"contact":true' in consents[0].options)
    gone = [replace(one, withdrawn_on=date(2026, 3, 9)) for one in consents]
    assert options_now(gone, taken_back) == {}


def test_whoever_gives_more_signs_the_same_version_again() -> None:
    now = options_now([Stored()], [Back()])
    assert gives_more({"contact": True}, now)
    assert gives_more({"contact": False, "data_sharing": True}, now)
    assert not gives_more({"contact": False}, now)
    assert not gives_more({"contact": True}, options_now([Stored()], []))
    assert why_not_sign(Status.RANDOMISED, [Stored()], "2", gives_more=True) is None
    assert "Countersign it" in str(why_not_sign(Status.RANDOMISED, [Stored(), OPEN], "2", gives_more=True))
    assert "completed" in str(why_not_sign(Status.COMPLETED, [Stored()], "2", gives_more=True))


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({}, []),
        ({"codes": []}, ["options required"]),
        ({"codes": ["contact", "other"]}, ["options choice"]),
        ({"on": date(2026, 3, 11)}, ["on future"]),
        ({"on": date(2026, 3, 1)}, ["on too_early"]),
        ({"told_by": "nobody"}, ["told_by choice"]),
        ({"how": "by_smoke"}, ["how choice"]),
    ],
)
def test_what_is_taken_back_says_which_when_who_and_how(changes: dict[str, Any], problems: list[str]) -> None:
    asked: dict[str, Any] = {"codes": ["contact"], "on": date(2026, 3, 5), "told_by": "other", "how": "in_person"}
    now, today = options_now([Stored()], []), date(2026, 3, 10)
    asked |= changes
    found = taking_back_problems(asked.pop("codes"), now, **asked, today=today)
    assert [f"{each.field} {each.rule}" for each in found] == problems


TYPED: dict[str, Any] = {
    "version": "2",
    "language": "en",
    "method": "on_screen",
    "signed_on": SIGNED,
    "signature": "Anna Muster",
    "paper_sha256": None,
    "options": {"contact": False},
    "today": date(2026, 3, 3),
}


@pytest.mark.requirement("SPI-32a")
@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({}, []),
        ({"method": "paper", "paper_sha256": "a" * 64}, []),
        ({"method": "paper"}, [("paper_sha256", "sha256")]),
        ({"method": "paper", "paper_sha256": "A" * 64}, [("paper_sha256", "sha256")]),
        ({"paper_sha256": "a" * 64}, [("paper_sha256", "unexpected")]),
        ({"method": "by telephone"}, [("method", "choice")]),
        ({"signature": " "}, [("signature", "required")]),
        ({"signature": "x" * 161}, [("signature", "max_length")]),
        ({"signed_on": date(2026, 3, 4)}, [("signed_on", "future")]),
        ({"signed_on": date(2026, 2, 28)}, [("signed_on", "too_early")]),
        ({"version": "1"}, [("version", "replaced")]),
        ({"version": "1", "signed_on": date(2026, 2, 28)}, []),
        ({"version": "1", "language": "de"}, []),
        ({"version": "2", "language": "de"}, [("version", "choice")]),
        ({"options": {}}, [("options.contact", "required")]),
        ({"options": {"contact": "yes"}}, [("options.contact", "required")]),
        ({"options": {"contact": True, "x": True}}, [("options.x", "unknown")]),
    ],
)
def test_a_consent_says_who_how_which_version_and_language(
    changes: dict[str, Any], problems: list[tuple[str, str]]
) -> None:
    found = consent_problems(DOCS, [Choice(code="contact", label="Later contact")], **{**TYPED, **changes})
    assert [(problem.field, problem.rule) for problem in found] == problems


@pytest.mark.requirement("SPI-32a")
@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"answers": {"may_stop": "any_time"}}, []),
        ({"answers": {}}, [("questions.may_stop", "required")]),
        ({"answers": {"may_stop": "tomorrow"}}, [("questions.may_stop", "required")]),
        ({"answers": {"may_stop": "never"}}, [("questions.may_stop", "wrong")]),
        ({"answers": {"may_stop": "any_time", "x": "y"}}, [("questions.x", "unknown")]),
        ({"answers": {}, "method": "paper", "paper_sha256": "a" * 64}, []),
        (
            {"answers": {"may_stop": "any_time"}, "method": "paper", "paper_sha256": "a" * 64},
            [("questions.may_stop", "unknown")],
        ),
    ],
)
def test_whoever_signs_on_screen_has_understood_the_document(
    changes: dict[str, Any], problems: list[tuple[str, str]]
) -> None:
    asked = [ConsentQuestion.model_validate(QUESTION)]
    found = consent_problems(DOCS, [], **{**TYPED, "options": {}, "questions": asked, **changes})
    assert [(problem.field, problem.rule) for problem in found] == problems


def test_a_wrong_answer_is_told_where_to_read_again() -> None:
    asked = [ConsentQuestion.model_validate(QUESTION)]
    (found,) = consent_problems(
        DOCS, [], **{**TYPED, "options": {}, "questions": asked, "answers": {"may_stop": "never"}}
    )
    assert "Read “Taking part” once more." in found.message


@pytest.mark.requirement("EMA-15")
def test_the_answers_are_bound_and_a_consent_from_before_there_were_any_still_fits() -> None:
    said: dict[str, Any] = {
        "method": "on_screen",
        "options": {"contact": True},
        "signature": b"sealed",
        "paper_sha256": None,
        "signed_on": SIGNED,
        "participant_code": "M-001",
    }
    answered = binding_digest(ENGLISH, **said, answers={"may_stop": "any_time"})
    assert answered != Stored().binding == binding_digest(ENGLISH, **said, answers={})
    kept = Stored(answers='{"may_stop":"any_time"}', binding=answered)
    assert is_intact(kept, ENGLISH, participant_code="M-001")
    assert not is_intact(replace(kept, answers='{"may_stop":"never"}'), ENGLISH, participant_code="M-001")
    assert not is_intact(replace(kept, answers="{}"), ENGLISH, participant_code="M-001")


NORTHERN = ENGLISH.model_copy(update={"version": "2-north", "sites": ("north",), "valid_from": date(2026, 2, 1)})


@pytest.mark.parametrize(
    ("site", "on", "version"),
    [
        ("north", date(2026, 1, 31), "1"),
        ("north", date(2026, 2, 1), "2-north"),
        ("north", date(2026, 3, 1), "2-north"),  # one for all is newer by then: the site's own goes before it
        ("south", date(2026, 2, 1), "1"),
        ("south", date(2026, 3, 1), "2"),
    ],
)
def test_a_site_signs_its_own_document_where_it_has_one(site: str, on: date, version: str) -> None:
    found = valid_document((*DOCS, NORTHERN), "en", on, site)
    assert found is not None
    assert found.version == version


@pytest.mark.parametrize(
    ("site", "version", "problems"),
    [
        ("north", "2-north", []),
        ("north", "2", [("version", "replaced")]),
        ("south", "2", []),
        ("south", "2-north", [("version", "choice")]),
    ],
)
def test_nobody_signs_the_document_of_another_site(site: str, version: str, problems: list[tuple[str, str]]) -> None:
    found = consent_problems((*DOCS, NORTHERN), [], **{**TYPED, "options": {}, "version": version, "site": site})
    assert [(problem.field, problem.rule) for problem in found] == problems


def test_the_words_that_were_shown_are_bound_and_a_consent_from_before_still_fits() -> None:
    asked = ConsentRules.model_validate({"optional": [{"code": "contact", "label": "Späterer Kontakt"}]})
    other = ConsentRules.model_validate({"optional": [{"code": "contact", "label": "Later contact"}]})
    said: dict[str, Any] = {
        "method": "on_screen",
        "options": {"contact": True},
        "signature": b"sealed",
        "paper_sha256": None,
        "signed_on": SIGNED,
        "participant_code": "M-001",
    }
    kept = Stored(binding=binding_digest(ENGLISH, **said, words=words_digest(asked)))
    assert is_intact(kept, ENGLISH, participant_code="M-001", asked=asked)
    assert not is_intact(kept, ENGLISH, participant_code="M-001", asked=other)
    assert is_intact(Stored(), ENGLISH, participant_code="M-001", asked=asked)
