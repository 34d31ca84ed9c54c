"""Is a copy that follows the changes the same as everything taken anew, also when something is not there any more?"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import Session

from app.audit.actions import Change, record
from app.exports import changes, reads
from app.exports.choice import Choice
from app.exports.tables import Row, Table
from app.foundation.errors import Invalid
from app.participants import actions as participants
from app.participants.models import Participant
from app.people.access import Actor, Grant
from app.people.permissions import Role
from app.safety.models import ConcomitantCare, Contact
from app.studies.in_use import StudyInUse
from tests.exports.test_tables import PAIN
from tests.exports.world import entry, names, participant, visit
from tests.factories import MINI, NOW, TODAY, mini_study, person, site


@pytest.fixture
def study(session: Session) -> StudyInUse:
    levels = [{"code": "use", "label": "Takes back the use", "stops_visits": True, "stops_use": True}]
    made = mini_study(session, withdrawal_levels=levels)
    for number in range(1, 6):
        row = participant(session, made, number, site_code="north" if number % 2 else "south")
        for code, order in (("baseline", 0), ("week18", 2)):
            visit(session, made, row, code, order, status="held", held_on=TODAY + timedelta(days=order))
            entry(session, made, row, code, "pain", {**PAIN, "pain_nrs": number})
    return made


@pytest.fixture
def manager(session: Session, study: StudyInUse) -> Actor:
    return person(session, study, "data_manager")


class Copy:
    """What a script keeps of each table, brought up to date by what changed alone."""

    def __init__(self, session: Session, study: StudyInUse, by: Actor, choice: Choice = Choice()) -> None:
        self.session, self.study, self.by, self.choice = session, study, by, choice
        self.tables = {name: self._all(name) for name in names(session, study, by)}
        self.change = changes.head_of(session, study).size

    def opened(self, name: str, since: int | None = None) -> Table:
        return reads.open_export(self.session, self.study, name, by=self.by, choice=self.choice, since=since)

    def _all(self, name: str) -> list[Row]:
        return list(self.opened(name).rows)

    def follow(self) -> dict[str, list[Row]]:
        """Take what changed in every table; gives the rows that came."""
        head = changes.head_of(self.session, self.study).size
        came: dict[str, list[Row]] = {}
        for name, kept in self.tables.items():
            if name in changes.WHOLE:  # given whole each time
                self.tables[name] = list(self.opened(name, self.change).rows)
                continue
            opened = self.opened(name, self.change)
            places = [[one.name for one in opened.columns].index(column) - 1 for column in changes.key_of(name)]
            came[name] = rows = list(opened.rows)
            named = {_key(row[1:], places) for row in rows}
            self.tables[name] = [row for row in kept if _key(row, places) not in named]
            self.tables[name] += [row[1:] for row in rows if row[0] == "changed"]
        self.change = head
        return came

    def is_whole(self) -> None:
        for name, kept in self.tables.items():
            assert sorted(kept, key=repr) == sorted(self._all(name), key=repr), name


def _key(row: Sequence[Any], places: Sequence[int]) -> tuple[Any, ...]:
    return tuple(row[place] for place in places)


def logged(session: Session, study: StudyInUse, by: Actor, action: str, code: str, subject: str) -> None:
    record(session, study.code, [Change(action, code, subject, new=1)], by=by, now=NOW)


def test_a_copy_follows_entries_visits_and_newcomers(session: Session, study: StudyInUse, manager: Actor):
    copy = Copy(session, study, manager)
    assert all(rows == [] for rows in copy.follow().values())
    row = participant(session, study, 6)
    entry(session, study, row, "baseline", "pain", PAIN)
    logged(session, study, manager, "participant.screened", "M-006", "participant")
    second = participant(session, study, 7)
    logged(session, study, manager, "identity.shown", "M-001", "identity")
    logged(session, study, manager, "participant.screened", "M-007", "participant")
    came = copy.follow()
    copy.is_whole()
    assert {row[1] for row in came["participants"]} == {"M-006", second.code}
    assert {row[1] for row in came["entries"]} == {"M-006"}


def test_of_an_entry_that_was_saved_its_rows_come_alone_and_lost_answers_go(
    session: Session, study: StudyInUse, manager: Actor
):
    copy = Copy(session, study, manager)
    from sqlalchemy import update

    table = reads.ENTRY
    session.execute(
        update(table)
        .where(table.c.participant_id == participant_id(session, "M-002"), table.c.visit == "week18")
        .values(values='{"pain_nrs": 9}', version=2)
    )
    logged(session, study, manager, "entry.corrected", "M-002", "entry/week18/pain")
    came = copy.follow()
    copy.is_whole()
    assert [(row[1], row[3], row[5], row[6]) for row in came["entries"]] == [("M-002", "week18", "pain_nrs", 9)]
    assert [(row[1], row[3]) for row in came["instrument_pain"]] == [("M-002", "week18")]


def participant_id(session: Session, code: str) -> int:
    found = session.execute(reads.PARTICIPANT.select().where(reads.PARTICIPANT.c.code == code)).one()
    return int(found.id)


@pytest.mark.requirement("GDPR-4")
def test_what_somebody_took_the_use_of_back_is_said_to_be_removed(session: Session, study: StudyInUse, manager: Actor):
    copy = Copy(session, study, manager)
    who = session.get(participants.Participant, participant_id(session, "M-003"))  # type: ignore[attr-defined]
    assert who is not None
    participants.withdraw(
        session,
        study,
        who,
        level="use",
        on=TODAY + timedelta(days=1),
        reason="Does not want it used",
        by=person(session, study, "coordinator", username="another"),
        now=NOW + timedelta(days=3),
    )
    came = copy.follow()
    copy.is_whole()
    assert ("removed", "M-003", None, "week18") in {row[:4] for row in came["entries"]}
    assert [row[:4] for row in came["instrument_pain"] if row[0] == "removed"] == [("removed", "M-003", None, "week18")]
    assert {row[0] for row in came["participants"]} == {"changed"}


@pytest.mark.requirement("GDPR-4", "GDPR-7")
def test_lines_that_were_exported_before_are_said_to_be_removed(session: Session, study: StudyInUse, manager: Actor):
    by = person(session, study, "coordinator", username="another")
    for code in ("M-001", "M-003"):
        whose: dict[str, Any] = {"study_id": study.id, "participant_id": participant_id(session, code)}
        for day in (0, 5):
            at = NOW + timedelta(days=day)
            written: dict[str, Any] = {"recorded_at": at, "recorded_by": by.username}
            session.add(Contact(**whose, at=at, how="call", result="reached", note=str(day), **written))
            session.add(ConcomitantCare(**whose, treatment=str(day), began="2026", ended="", indication="?", **written))
    session.flush()
    copy = Copy(session, study, manager)
    for code, day in (("M-001", -1), ("M-003", 3)):
        who = session.get(participants.Participant, participant_id(session, code))  # type: ignore[attr-defined]
        assert who is not None
        who.screened_on = TODAY - timedelta(days=9)
        taken: dict[str, Any] = {"level": "use", "reason": "Mine", "on": TODAY + timedelta(days=day)}
        participants.withdraw(session, study, who, **taken, by=by, now=NOW + timedelta(days=9))
    came = copy.follow()
    copy.is_whole()
    places = {"contacts": 7, "concomitant_care": 4}
    for table, place in places.items():
        assert {(row[0], row[1], row[place] if row[0] == "changed" else None) for row in came[table]} == {
            ("removed", "M-001", None),
            ("changed", "M-003", "0"),
        }, table


def test_sites_and_choices_narrow_what_changed_too(session: Session, study: StudyInUse, manager: Actor):
    north = site(session, study, "north").id
    local = Actor(0, "l", "L", "", (Grant(Role.DATA_MANAGER, north),), study_id=study.id)
    copies = [
        Copy(session, study, local),
        Copy(session, study, manager, Choice(visits=("week18",), sites=("south",))),
    ]
    for code in ("M-001", "M-002"):
        for moment in ("baseline", "week18"):
            logged(session, study, manager, "entry.saved", code, f"entry/{moment}/pain")
    first, second = (copy.follow() for copy in copies)
    for copy in copies:
        copy.is_whole()
    assert {row[1] for row in first["entries"]} == {"M-001"}
    assert {(row[1], row[3]) for row in second["entries"]} == {("M-002", "week18")}


def test_many_changes_are_told_as_a_few_are(
    session: Session, study: StudyInUse, manager: Actor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(changes, "MOST", 1)
    copy = Copy(session, study, manager)
    for code in ("M-001", "M-002", "M-004"):
        logged(session, study, manager, "entry.saved", code, "entry/week18/pain")
    came = copy.follow()
    copy.is_whole()
    assert {row[1] for row in came["instrument_pain"]} == {"M-001", "M-002", "M-004"}


def test_a_number_that_was_never_reached_is_refused(session: Session, study: StudyInUse, manager: Actor):
    for since in (-1, 1):
        with pytest.raises(Invalid, match="no such change"):
            reads.open_export(session, study, "entries", by=manager, since=since)
    assert list(reads.open_export(session, study, "entries", by=manager, since=0).rows) == []


def _form(code: str, group: str) -> dict[str, Any]:
    items = [{"code": f"{code}_asked", "label": "Asked", "type": "text", "required": False}]
    rows = [{"code": f"{code}_row", "label": "In a row", "type": "text", "required": False}]
    sections = [{"items": items}, {"code": group, "label": "Rows", "repeats": True, "items": rows}]
    return {"code": code, "label": code.title(), "source": "test", "sections": sections}


def test_forms_whose_codes_hold_two_underscores_have_tables_and_changes_of_their_own(session: Session):
    forms = {code: _form(code, group) for code, group in (("fall", "home"), ("fall__home", "rows"))}
    visits = [*MINI["visits"]]  # type: ignore[misc]
    visits[-1] = {**visits[-1], "instruments": [*visits[-1]["instruments"], *forms]}
    study = mini_study(session, instruments=[*MINI["instruments"], *forms.values()], visits=visits)  # type: ignore[misc]
    manager = person(session, study, "data_manager")
    rows = [participant(session, study, number) for number in (1, 2)]

    def said(row: Participant, code: str) -> dict[str, Any]:
        group = forms[code]["sections"][1]["code"]
        return {f"{code}_asked": row.code, f"{group}[]": [{f"{code}_row": row.code}]}

    entered = {
        (row.code, code): entry(session, study, row, "week18", code, said(row, code)) for row in rows for code in forms
    }
    copy = Copy(session, study, manager)
    tables = [name for name in copy.tables if name.startswith("instrument_fall")]
    assert tables == [
        "instrument_fall",
        "instrument_fall__home_2",
        "instrument_fall__home",
        "instrument_fall__home__rows",
    ]
    for name, item in zip(tables, ("fall_asked", "fall_row", "fall__home_asked", "fall__home_row"), strict=True):
        names_of = [column.name for column in copy.opened(name).columns]
        assert [row[names_of.index(item)] for row in copy.tables[name]] == ["M-001", "M-002"], name
    changed, gone = entered["M-001", "fall__home"], entered["M-002", "fall__home"]
    changed.values = changed.values.replace("M-001", "else")
    gone.in_error_at, gone.in_error_by, gone.in_error_why = NOW, "x", "Of somebody else"
    session.flush()
    for code in ("M-001", "M-002"):
        record(session, study.code, [Change("entry.saved", code, "entry/week18/fall__home")], by=manager, now=NOW)
    came = copy.follow()
    copy.is_whole()
    for name in tables:
        states = [(row[0], row[1]) for row in came[name]]
        assert states == ([("changed", "M-001"), ("removed", "M-002")] if name in tables[2:] else []), name
