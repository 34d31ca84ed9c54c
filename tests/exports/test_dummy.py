"""Can an analysis be written before the blind is broken, and does the dummy file say what it is and nothing else?"""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.exports import reads
from app.exports.dummy import dummy_arms, dummy_codes
from app.foundation.database import Database
from app.foundation.errors import NotAllowed, NotFound
from app.people.access import Actor
from app.studies.in_use import StudyInUse
from tests.exports.world import as_bytes, as_csv, entry, participant
from tests.factories import mini_study, person
from tests.web.browser import anonymous_client, signed_in_client

RATIOS = st.lists(st.integers(1, 5), min_size=2, max_size=4)


@given(ratio=RATIOS, people=st.integers(0, 60))
def test_dummy_arms_are_as_many_each_as_the_ratio_asks_for(ratio: list[int], people: int):
    dealt = dummy_arms("mini", ratio, range(people))
    counts = Counter(dealt.values())
    whole = people // sum(ratio)
    assert sorted(dealt) == list(range(people))
    for code, share in zip(dummy_codes(len(ratio)), ratio, strict=True):
        assert whole * share <= counts[code] <= (whole + 1) * share


@given(ratio=RATIOS, people=st.integers(0, 40))
def test_the_same_study_and_participants_get_the_same_dummy_arms(ratio: list[int], people: int):
    ids = [7 * number for number in range(people)]
    assert dummy_arms("mini", ratio, ids) == dummy_arms("mini", ratio, ids)


def test_dummy_arms_are_what_they_always_were():
    """A file that was taken last year can be made again: the recipe stands in the module's first lines."""
    dealt = dummy_arms("resolve", [1, 1], range(12))
    assert "".join(code[-1] for code in dealt.values()) == "112221222111"


def test_studies_do_not_share_dummy_arms_and_any_order_may_come_up():
    orders = {tuple(dummy_arms(f"study{number}", [1, 1], range(4)).values()) for number in range(200)}
    assert len(orders) == 6  # every way to deal two and two


# The files


@pytest.fixture
def study(database: Database) -> StudyInUse:
    with database.writing() as session:
        made = mini_study(session, arms=[{"code": "active", "label": "A", "ratio": 2}, {"code": "sham", "label": "B"}])
        not_yet: dict[str, Any] = {
            "status": "consented",
            "randomised_on": None,
            "randomised_at": None,
            "randomised_by": None,
        }
        for number in range(1, 8):
            row = participant(
                session,
                made,
                number,
                site_code="north" if number % 2 else "south",
                **(not_yet if number == 7 else {}),
            )
            entry(session, made, row, "week18", "pain", {"pain_nrs": number})
    return made


@pytest.fixture
def manager(database: Database, study: StudyInUse) -> Actor:
    with database.writing() as session:
        return person(session, study, "data_manager")


@pytest.mark.requirement("CONC-16")
def test_the_dummy_file_has_the_shape_of_the_unblinded_one(database: Database, study: StudyInUse, manager: Actor):
    with database.reading() as session:
        for table in ("participants", "entries_by_visit", "entries_by_participant", "instrument_pain"):
            real = as_csv(session, study, table, manager, arms={})
            dummy = as_csv(session, study, table, manager, dummy=True)
            assert [list(row) for row in dummy] == [list(row) for row in real]
            assert [{**row, "arm": ""} for row in dummy] == real
            assert as_bytes(session, study, table, manager, dummy=True) == as_bytes(
                session, study, table, manager, dummy=True
            )
        found = {row["participant"]: row["arm"] for row in as_csv(session, study, "participants", manager, dummy=True)}
        assert Counter(found.values()) == {"dummy_1": 4, "dummy_2": 2, "": 1}
        assert found["M-007"] == ""  # not randomised, so nothing stands there in the real file, either
        visits = as_csv(session, study, "entries_by_visit", manager, dummy=True)
        assert {row["participant"]: row["arm"] for row in visits} == found


def test_the_codebook_says_that_the_arms_are_dummies(database: Database, study: StudyInUse, manager: Actor):
    with database.reading() as session:
        rows = as_csv(session, study, "codebook", manager, dummy=True)
        described = [row for row in rows if row["column"] == "arm"]
        assert {row["table"] for row in described} == {
            "participants",
            "entries_by_visit",
            "entries_by_participant",
            "instrument_pain",
            "instrument_disability",
        }
        assert all(row["label"].startswith("DUMMY") for row in described)
        assert {row["choices"] for row in described} == {"dummy_1=Dummy group 1 | dummy_2=Dummy group 2"}
        assert "arm" not in {row["column"] for row in as_csv(session, study, "codebook", manager)}


@pytest.mark.requirement("CONC-16")
def test_a_participant_has_one_dummy_arm_whoever_looks(database: Database, study: StudyInUse, manager: Actor):
    with database.writing() as session:
        south = person(session, study, "data_manager", site_code=None, username="everywhere")
        site_id = reads.PARTICIPANT.c.site_id
        there = session.execute(select(site_id).where(reads.PARTICIPANT.c.code == "M-002")).scalar_one()
    some = replace(south, grants=tuple(replace(grant, site_id=there) for grant in south.grants))
    with database.reading() as session:
        whole = {row["participant"]: row["arm"] for row in as_csv(session, study, "participants", manager, dummy=True)}
        part = {row["participant"]: row["arm"] for row in as_csv(session, study, "participants", some, dummy=True)}
    assert set(part) == {"M-002", "M-004", "M-006"}
    assert part.items() <= whole.items()


@pytest.mark.parametrize("table", ["visits", "entries", "consents", "screening", "no_such", "codebook_"])
def test_a_table_without_room_for_an_arm_is_not_there(session: Session, table: str):
    study = mini_study(session)
    manager = person(session, study, "data_manager")
    with pytest.raises(NotFound):
        reads.open_export(session, study, table, by=manager, dummy=True)
    with pytest.raises(NotAllowed):
        reads.open_export(session, study, "participants", by=person(session, study, "assessor"), dummy=True)


def test_a_study_that_allocates_nobody_has_no_dummy_arms(session: Session):
    study = mini_study(session, allocation={"method": "observed"})
    manager = person(session, study, "data_manager")
    with pytest.raises(NotFound):
        reads.open_export(session, study, "participants", by=manager, dummy=True)


# Through the doors


@pytest.mark.requirement("CONC-16")
def test_the_download_is_marked_and_written_down(database: Database, study: StudyInUse, manager: Actor):
    browser = signed_in_client(database, manager)
    page = browser.soup("/mini/exports?table=visits&arms=dummy")
    assert "say nothing of the arm anybody is in" in page.get_text()
    assert "/api/v1/studies/mini/exports-dummy/participants.csv" in page.get_text()
    link = page.select_one("a[download]")
    assert link is not None
    assert link["href"] == "/mini/exports/dummy/participants.csv"
    assert str(link["download"]).startswith("mini_participants_with_dummy_arms_")
    first = browser.get("/mini/exports/dummy/participants.csv")
    assert first.status_code == 200
    assert first.headers["x-equipoise-arms"] == "dummy"
    assert str(link["download"]) in first.headers["content-disposition"]
    assert browser.get("/mini/exports/dummy/participants.csv").content == first.content
    assert browser.get("/mini/exports/dummy/visits.csv").status_code == 404
    assert "x-equipoise-arms" not in browser.get("/mini/exports/participants.csv").headers
    with database.reading() as session:
        query = select(ENTRY.c.action, ENTRY.c.new).where(ENTRY.c.action.like("export.%")).order_by(ENTRY.c.position)
        said = [(row.action, json.loads(row.new)["table"]) for row in session.execute(query)]
        opened = session.execute(select(ENTRY.c.position).where(ENTRY.c.action == "envelope.opened")).all()
    twice = [("export.run", "participants_with_dummy_arms"), ("export.delivered", "participants_with_dummy_arms")]
    assert said[:4] == twice * 2
    assert opened == []


def test_only_those_who_run_exports_are_offered_dummy_arms(database: Database, study: StudyInUse):
    with database.writing() as session:
        assessor = person(session, study, "assessor")
    assert signed_in_client(database, assessor).get("/mini/exports/dummy/participants.csv").status_code == 403
    reply = anonymous_client(database).get("/mini/exports/dummy/participants.csv", follow_redirects=False)
    assert reply.status_code == 303
