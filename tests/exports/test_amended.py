"""Is what was answered to another question, before the study was amended, still told truly, and still de-identified?"""

import json
from datetime import date, timedelta
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from lxml import etree
from sqlmodel import Session

from app.exports import casebooks, reads
from app.exports.choice import Choice
from app.exports.formats import Format, encoded
from app.exports.formats.standards import Standard, whole_file
from app.exports.shaping import days_back
from app.people.access import Actor
from app.studies.in_use import StudyInUse
from app.studies.models import StudyVersion
from app.studies.rules import canonical, fingerprint
from tests.conformance import conformance_folder
from tests.conftest import KEYS
from tests.exports.world import as_csv, as_json, entry, participant
from tests.factories import MINI, NOW, definition, mini_study, person

CHOICES = [{"code": "1", "label": "One"}, {"code": "2", "label": "Two"}]
WAS: dict[str, tuple[dict[str, Any], Any]] = {
    "text": ({}, "said so"),
    "date": ({}, "2026-03-02"),
    "date_time": ({}, "2026-03-02T09:30"),
    "number": ({"decimals": 1}, 2.5),
    "choice": ({"choices": CHOICES}, "2"),
    "choices": ({"choices": CHOICES}, ["1", "2"]),
    "yes_no": ({}, True),
    "time": ({}, "09:30"),
}
"""A type of item -> what it takes besides, and an answer of that time. Of each, one becomes each other type."""
PAIRS = [(was, now) for was in WAS for now in WAS if was != now]


def _named(was: str, now: str) -> str:
    return f"{was}_now_{now}"


def _form(which: int) -> dict[str, Any]:
    items = [
        {"code": _named(*pair), "label": "Item", "type": pair[which], "required": False, **WAS[pair[which]][0]}
        for pair in PAIRS
    ]
    return {"code": "odd", "label": "Odd", "source": "test", "sections": [{"items": items}]}


@pytest.fixture
def study(session: Session) -> StudyInUse:
    """A trial of which every item of a form became of another type after two people had answered."""
    visits: Any = json.loads(json.dumps(MINI["visits"]))
    visits[-1]["instruments"].append("odd")
    old, new = ({"visits": visits, "instruments": [*MINI["instruments"], _form(which)]} for which in (0, 1))  # type: ignore[misc]
    first = mini_study(session, **old)
    for number in (1, 2):
        entry(
            session,
            first,
            participant(session, first, number),
            "week18",
            "odd",
            {_named(*pair): WAS[pair[0]][1] for pair in PAIRS},
        )
    after = definition(version="2", **new)
    said: dict[str, Any] = {
        "sha256": fingerprint(after),
        "definition": canonical(after),
        "loaded_at": NOW,
        "loaded_by": "test",
    }
    version = StudyVersion(study_id=first.id, version="2", **said)
    session.add(version)
    session.flush()
    assert version.id is not None
    session.info["study versions of this transaction"] = {first.version_id, version.id}
    return StudyInUse(first.id, first.code, version.id, after)


@pytest.fixture
def manager(session: Session, study: StudyInUse) -> Actor:
    return person(session, study, "data_manager")


@pytest.mark.requirement("GDPR-1")
def test_days_of_an_earlier_version_are_shifted_whatever_the_item_is_now(
    session: Session, study: StudyInUse, manager: Actor
):
    shifted = Choice(dates="shifted")
    for table in ("entries", "instrument_odd", "entries_by_visit", "entries_by_participant"):
        for row in as_csv(session, study, table, manager, choice=shifted):
            assert not [said for said in row.values() if said.startswith("2026-03-02") and "Z" not in said], table
    day = (date(2026, 3, 2) - timedelta(days=days_back(KEYS, "mini", "M-001"))).isoformat()
    row = as_csv(session, study, "instrument_odd", manager, choice=shifted)[0]
    assert (row["date_now_text"], row["date_time_now_text"]) == (day, f"{day}T09:30")
    assert (row["text_now_choice"], row["number_now_text"]) == ("said so", "2.5")


def test_what_was_no_choice_is_not_told_as_one_that_nobody_ticked(session: Session, study: StudyInUse, manager: Actor):
    row = as_json(session, study, "instrument_odd", manager)[0]
    told = {was: [row[f"{_named(was, 'choices')}__{code}"] for code in ("1", "2")] for was in WAS if was != "choices"}
    assert told.pop("choice") == [0, 1]
    assert all(cells == [None, None] for cells in told.values()), told
    values = {one["item"]: one["value"] for one in as_json(session, study, "entries", manager)}
    assert {_named(*pair) for pair in PAIRS} == set(values)


def test_every_format_takes_what_became_another_type(session: Session, study: StudyInUse, manager: Actor):
    rows = as_json(session, study, "instrument_odd", manager)
    for format_ in Format:
        opened = reads.open_export(session, study, "instrument_odd", by=manager)
        assert b"".join(encoded(opened, format_)), format_
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("standard", "schema"),
    [(Standard.ODM, "odm-1.3.2/ODM1-3-2.xsd"), (Standard.ODM_2, "odm-2.0/ODM.xsd"), (Standard.FHIR, None)],
)
def test_every_standard_is_valid_with_what_became_another_type(
    session: Session, study: StudyInUse, manager: Actor, standard: Standard, schema: str | None
):
    made = b"".join(whole_file(casebooks.open_whole(session, study, Choice(format=standard), by=manager), standard))
    if schema is None:
        Bundle.model_validate_json(made)
    else:
        etree.XMLSchema(etree.parse(conformance_folder() / schema)).assertValid(etree.fromstring(made))
