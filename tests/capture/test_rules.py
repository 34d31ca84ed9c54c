"""What is true of an entry, in tables."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.capture.checks import Judgement
from app.capture.rules import (
    EntryState,
    ItemChange,
    Stopped,
    canonical,
    changes,
    digest_of,
    signature_digest,
    signature_holds,
    why_not_enter,
    why_not_sign,
)
from tests.capture.records import instrument
from tests.capture.test_checks import likely
from tests.factories import NOW, definition

STUDY = definition()
FORM = instrument({"code": "a", "type": "integer", "label": "Days with pain?"}, code="pain")
DONE = Judgement({"a": 1}, {}, frozenset(), (), (), ())
OPEN = Judgement({}, {}, frozenset(), (), ("a",), ())


def entry(**changed: Any) -> EntryState:
    made: dict[str, Any] = {
        "id": 1,
        "study_id": 1,
        "participant_id": 1,
        "participant": "M-001",
        "visit": "week18",
        "instrument": "pain",
        "study_version_id": 1,
        "status": "complete",
        "version": 1,
        "values": {"a": 1},
        "reasons": {},
        "created_at": NOW,
        "created_by": "x",
        "saved_at": NOW,
        "saved_by": "x",
    }
    return EntryState(**{**made, **changed})


def signed(**changed: Any) -> EntryState:
    whole = entry(signed_at=NOW, signed_by="x", signed_name="Xenia", signed_meaning="authorship", **changed)
    return EntryState(**{**whole.__dict__, "signed_digest": digest_of(entry(**changed))})


@pytest.mark.parametrize(
    ("visit", "form", "state", "reason"),
    [
        ("week18", "pain", {}, None),
        ("baseline", "pain", {}, None),
        ("week18", "pain", {"screen_failed": True}, "did not pass screening"),
        ("week18", "pain", {"is_scheduled": False}, "no visit “Week 18”"),
        ("week19", "pain", {}, "no visit “week19”"),
        ("baseline", "disability", {}, "“Disability” is not planned at Baseline"),
        ("week18", "unheard", {}, "“unheard” is not planned"),
        ("week18", "pain", {"stopped": Stopped.LEFT}, "withdrew from visits"),
        ("week18", "pain", {"stopped": Stopped.DIED}, "the participant died"),
        ("week18", "pain", {"stopped": Stopped.TREATMENT}, "treatment was stopped"),
        ("week18", "pain", {"stopped": Stopped.PLAN}, "the plan of visits changed"),
        ("week18", "pain", {"is_missed": True}, "recorded as missed"),
    ],
)
def test_where_something_may_be_entered(visit, form, state, reason):
    standing = {"screen_failed": False, "is_scheduled": True, **state}
    answer = why_not_enter(STUDY, visit, form, **standing)
    assert (answer is None) if reason is None else (answer is not None and reason in answer and answer.endswith("."))


@pytest.mark.parametrize(
    ("one", "form", "judgement", "reason"),
    [
        (entry(), FORM, DONE, None),
        (None, FORM, None, "nothing to sign"),
        (entry(), None, DONE, "nothing to sign"),
        (entry(status="partial"), FORM, DONE, "not complete"),
        (entry(), FORM, OPEN, "not complete: Days with pain. Complete it"),
        (entry(), FORM.model_copy(update={"signable": False}), DONE, "is not signed in this study"),
        (signed(), FORM, DONE, "Xenia has signed this version already"),
        (EntryState(**{**signed().__dict__, "version": 2}), FORM, DONE, None),
    ],
)
def test_what_may_be_signed(one, form, judgement, reason):
    answer = why_not_sign(one, form, judgement)
    assert (answer is None) if reason is None else (answer is not None and reason in answer)


@pytest.mark.requirement("P11-70")
def test_a_digest_is_over_the_record_and_can_be_computed_by_anyone():
    text = '["equipoise-entry-1","M-001","week18","pain",3,{"a":1.5,"é":"ü"},{"a":"why"}]'
    digest = signature_digest("M-001", "week18", "pain", 3, {"é": "ü", "a": 1.5}, {"a": "why"})
    assert digest == hashlib.sha256(text.encode()).hexdigest()


def test_a_signature_holds_only_while_it_is_there():
    assert signature_holds(signed())
    assert not signature_holds(entry())
    assert not signature_holds(EntryState(**{**signed().__dict__, "signed_digest": None}))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {}, []),
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": 1}, {"a": True}, [ItemChange("a", 1, True)]),
        ({"a": False}, {"a": 0}, [ItemChange("a", False, 0)]),
        ({"a": "1"}, {"a": 1}, [ItemChange("a", "1", 1)]),
        ({}, {"a": 0}, [ItemChange("a", None, 0)]),
        ({"a": 0}, {}, [ItemChange("a", 0, None)]),
        ({"a": ["x"]}, {"a": ["x", "y"]}, [ItemChange("a", ["x"], ["x", "y"])]),
        ({"a": {"missing": "UNK"}}, {"a": {"missing": "ND"}}, [ItemChange("a", {"missing": "UNK"}, {"missing": "ND"})]),
        (
            {"z": 1, "a": 1},
            {"b": 2, "a": 3},
            [ItemChange("b", None, 2), ItemChange("a", 1, 3), ItemChange("z", 1, None)],
        ),
    ],
)
def test_changes_per_item(old, new, expected):
    found = changes(old, new)
    assert [(one.item, repr(one.old), repr(one.new)) for one in found] == [
        (one.item, repr(one.old), repr(one.new)) for one in expected
    ]
    assert [one.is_correction for one in found] == [one.old is not None for one in expected]


documents = st.dictionaries(st.sampled_from("abcde"), likely.filter(lambda value: value is not None))


@given(documents, documents)
def test_the_changes_lead_from_the_old_values_to_the_new(old, new):
    led = dict(old)
    for change in changes(old, new):
        assert change.old == led.pop(change.item, None)
        if change.new is not None:
            led[change.item] = change.new
    assert changes(led, new) == []
    assert (canonical(old) == canonical(new)) == (not changes(old, new))
