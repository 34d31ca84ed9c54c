"""What two people entered and coded, and rows of groups: as whole and as narrow in exports as everything else."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.actions import save_entry
from app.capture.coding.actions import code_text
from app.capture.coding.reads import Queue, queue
from app.capture.double.actions import enter_second
from app.exports import reads
from app.exports.choice import Choice
from app.exports.shaping import days_back
from app.people.access import Actor
from app.studies.in_use import StudyInUse
from tests.capture.records import consented
from tests.capture.twice import twice
from tests.conftest import KEYS
from tests.exports.test_changes import Copy
from tests.factories import NOW, TODAY, mini_study, person

DATED = [
    {"code": "fell_on", "label": "When", "type": "date_time"},
    {"code": "since", "label": "Since", "type": "date", "precision": "year"},
    {"code": "seen_on", "label": "Seen on", "type": "date"},
]
ROWS = {"label": "Falls", "code": "falls", "repeats": True, "max_rows": 3, "items": DATED}
SAID = {"fell_on": "2026-03-05T14:30", "since": "2026-03-04", "seen_on": "2026-03-06"}
PEOPLE = {"M-001": "north", "M-002": "south"}


class World:
    def __init__(self, session: Session) -> None:
        changes = twice()
        pain = next(form for form in changes["instruments"] if form["code"] == "pain")
        dated = [{**item, "code": f"one_{item['code']}", "required": False} for item in DATED]
        pain["sections"] = [*pain["sections"], {"items": dated}, ROWS]
        levels = [{"code": "use", "label": "Takes back the use", "stops_visits": True, "stops_use": True}]
        self.session = session
        self.study: StudyInUse = mini_study(session, **changes, withdrawal_levels=levels)
        self.manager = person(session, self.study, "data_manager", username="manager")
        self.people = {code: consented(session, self.study, code, site_code=place) for code, place in PEOPLE.items()}
        values: dict[str, Any] = {"pain_nrs": 5, "pain_days": 3, "pain_where": ["back"], "pain_note": "Sore"}
        values |= {f"one_{name}": value for name, value in SAID.items()}
        values |= {f"falls[1].{name}": value for name, value in SAID.items()}
        for code, place in PEOPLE.items():
            who = self.people[code]
            first = person(session, self.study, "assessor", site_code=place, username=f"first_{place}")
            second = person(session, self.study, "coordinator", site_code=place, username=f"second_{place}")
            where: dict[str, Any] = {"visit": "week18", "instrument": "pain", "values": values, "reasons": {}}
            save_entry(session, self.study, who, **where, base_version=0, by=first, now=NOW)
            enter_second(session, self.study, who, **{**where, "values": {**values, "pain_nrs": 6}}, by=second, now=NOW)
        for text in queue(session, self.study, Queue.TO_CODE, by=self.manager).rows:
            for by in (self.manager, person(session, self.study, "data_manager", username="other")):
                code_text(session, self.study, text.number, code="LBP", by=by, now=NOW)

    def rows(self, name: str, **choice: Any) -> list[dict[str, Any]]:
        table = reads.open_export(self.session, self.study, name, by=self.manager, choice=Choice(**choice))
        return [dict(zip([column.name for column in table.columns], row, strict=True)) for row in table.rows]


@pytest.fixture
def world(session: Session) -> World:
    return World(session)


TABLES = ("double_entry", "coding", "agreement", "entries", "instrument_pain", "instrument_pain__falls")


@pytest.mark.requirement("GDPR-4")
def test_what_somebody_took_the_use_of_back_stands_in_no_table(world: World):
    def whole() -> dict[str, set[Any]]:
        return {name: {row.get("participant", row.get("compared")) for row in world.rows(name)} for name in TABLES}

    assert whole() == {name: {1, 2} if name == "agreement" else set(PEOPLE) for name in TABLES}
    withdrawn = {"withdrawn_on": TODAY, "withdrawal_level": "use"}
    who = world.people["M-002"].id
    world.session.execute(update(reads.PARTICIPANT).where(reads.PARTICIPANT.c.id == who).values(withdrawn))
    held = {"status": "held", "held_on": TODAY + timedelta(days=1)}
    world.session.execute(update(reads.VISIT).where(reads.VISIT.c.participant_id == who).values(held))
    assert whole() == {name: {1} if name == "agreement" else {"M-001"} for name in TABLES}


def test_sites_visits_and_instruments_narrow_what_two_people_did(world: World):
    for name in TABLES:
        assert {row["site"] for row in world.rows(name, sites=("south",))} == {"south"}, name
    for name in ("double_entry", "coding"):
        assert world.rows(name, visits=("week18",), instruments=("pain",))
        assert not world.rows(name, visits=("baseline",)), name
        assert not world.rows(name, instruments=("disability",)), name
    assert not world.rows("agreement", instruments=("disability",))


@pytest.mark.requirement("GDPR-1")
def test_dates_are_shifted_wherever_an_answer_stands(world: World):
    text = repr({name: world.rows(name, dates="shifted") for name in TABLES})
    assert "2026-03-0" not in text
    days = timedelta(days=days_back(KEYS, "mini", "M-001"))
    on = (NOW.replace(year=2026, month=3, day=5) - days).date().isoformat()
    (row, _) = world.rows("instrument_pain", dates="shifted")
    assert row["one_fell_on"] == f"{on}T14:30"
    (row, _) = world.rows("instrument_pain__falls", dates="shifted")
    assert row["fell_on"] == f"{on}T14:30"
    long = {
        row["item"]: row["value"] for row in world.rows("entries", dates="shifted") if row["participant"] == "M-001"
    }
    assert long["falls[1].fell_on"] == long["one_fell_on"] == f"{on}T14:30"
    assert long["pain_note"] == "Sore"
    both = {row["item"]: (row["first"], row["second"]) for row in world.rows("double_entry", dates="shifted")[:20]}
    assert both["pain_nrs"] == (5, 6)


def test_a_copy_follows_rows_of_groups_and_what_two_people_did(world: World):
    copy = Copy(world.session, world.study, world.manager)
    assert not any(copy.follow().values())
    table = reads.ENTRY
    said = '{"pain_nrs": 9, "falls[]": [{"seen_on": "2026-04-01"}, {"seen_on": "2026-04-02"}]}'
    changed = update(table).where(table.c.participant_id == world.people["M-002"].id)
    world.session.execute(changed.values(values=said, version=5))
    by: Actor = world.manager
    what = Change("entry.corrected", "M-002", "entry/week18/pain", new=1)
    record(world.session, world.study.code, [what], by=by, now=NOW)
    came = copy.follow()
    copy.is_whole()
    assert [row[:2] for row in came["instrument_pain__falls"]] == [("changed", "M-002")] * 2
    whole = reads.open_export(world.session, world.study, "agreement", by=world.manager, since=copy.change)
    assert list(whole.rows)
