"""Rows of a file become entries by the same acts as on the pages; what is refused leaves nothing behind."""

import hashlib
import json
import re
import tracemalloc
import weakref
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete, event, func, select

from app.api.imports import _read
from app.audit.models import AuditEntry
from app.capture.models import Entry
from app.foundation.database import table_of
from app.foundation.errors import FieldProblem, Invalid, NotAllowed
from app.importing import carry_out
from app.imports import actions, reads, rules
from app.imports.rules import FileMapping, Rows, Source, To, guessed, read_csv, read_mapping, read_text, text_of
from app.participants.models import Participant
from app.people.permissions import Role
from app.randomisation import actions as randomising
from app.randomisation.models import Allocation
from app.randomisation.reads import allocation_of, stage_of
from app.randomisation.rules import baseline_entries
from app.studies.definition import Instrument, Study
from tests.capture.records import consented
from tests.factories import NOW, mini_study, person
from tests.randomisation import world
from tests.randomisation.test_first_stage import Trial as TwoStages

ENTRY, LOG, PARTICIPANT = table_of(Entry), table_of(AuditEntry), table_of(Participant)
WEEK = {"visit": "week18"}


@pytest.fixture
def trial(session):
    study = mini_study(session)
    coordinator = person(session, study, Role.COORDINATOR, site_code="north")
    people = [consented(session, study, f"M-00{number}") for number in (1, 2, 3)]
    session.flush()
    return session, study, coordinator, people


def run(trial: Any, rows: Any, mapping: FileMapping | None = None, *, by: Any = None, **options: Any) -> Any:
    session, study, coordinator, _ = trial
    if mapping is None:
        mapping = guessed(study.definition, list(rows[0]))
    asked = {"dry_run": False, "all_or_nothing": False, "by": by or coordinator, "now": NOW, **options}
    return carry_out(session, study, rows, mapping, origin=actions.origin("C:\\data\\pain.csv", b"x"), **asked)


def entries(session: Any) -> int:
    return int(session.execute(select(func.count()).select_from(ENTRY)).scalar_one())


def named(report: Any) -> list[tuple[Any, ...]]:
    return [
        (one["row"], one["instrument"], one["outcome"], [e["field"] for e in one["errors"]])
        for one in report.outcomes()
    ]


def full(code: str, pain: Any, **more: Any) -> dict[str, Any]:
    return {"participant": code, **WEEK, "pain_nrs": pain, "pain_days": 3, **more}


@pytest.mark.requirement("FDA-14", "FDA-18", "AX11-5", "ALC-++")
def test_rows_are_saved_once_and_the_log_names_the_file(trial):
    session, study, coordinator, _ = trial
    rows = [full("M-001", 4), full("M-002", "7.0"), full("M-003", 11), full("M-404", 1)]
    report = run(trial, rows, partial(study, rows))
    assert [(row, outcome) for row, _, outcome, _ in named(report)] == [
        (1, "created"),
        (2, "created"),
        (3, "refused"),
        (4, "refused"),
    ]
    assert named(report)[2][3] == ["pain_nrs"]
    assert named(report)[3][3] == ["participant"]
    assert entries(session) == 2
    lines = session.execute(select(LOG).where(LOG.c.action == "entry.saved")).all()
    assert lines
    assert {line.why for line in lines} == {"Imported from pain.csv."}
    assert {line.username for line in lines} == {coordinator.username}
    again = run(trial, rows[:2], partial(study, rows))
    assert again.counts["unchanged"] == 2
    assert again.counts["created"] + again.counts["changed"] + again.counts["refused"] == 0
    assert entries(session) == 2


def partial(study: Any, rows: Any, **more: Any) -> FileMapping:
    return guessed(study.definition, list(rows[0])).model_copy(update={"accept_partial": True, **more})


def test_a_correction_needs_a_reason_and_a_blank_cell_takes_nothing_away(trial):
    session, study, _, _ = trial
    rows = [full("M-001", 4)]
    run(trial, rows, partial(study, rows))
    changed = [full("M-001", 5, pain_days="")]
    refused = run(trial, changed, partial(study, rows))
    assert named(refused)[0][2:] == ("refused", ["why"])
    done = run(trial, changed, partial(study, rows, why="Read again."))
    (outcome,) = done.outcomes()
    assert outcome["outcome"] == "changed"
    assert {"item": "pain_nrs", "old": 4, "new": 5} in outcome["changes"]
    assert "pain_days" not in {each["item"] for each in outcome["changes"]}
    why = session.execute(select(LOG.c.why).where(LOG.c.action == "entry.corrected", LOG.c.item == "pain_nrs")).scalar()
    assert why == "Imported from pain.csv. Read again."


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_trial_and_a_refused_whole_leave_nothing(trial, dry_run):
    session, study, _, _ = trial
    session.commit()
    rows = [full("M-001", 4), full("M-002", 99)]
    before = session.execute(select(func.count()).select_from(LOG)).scalar_one()
    report = run(trial, rows, partial(study, rows), dry_run=dry_run, all_or_nothing=True)
    assert not report.imported
    assert [each[2] for each in named(report)] == ["created", "refused"]
    assert entries(session) == 0
    assert session.execute(select(func.count()).select_from(LOG)).scalar_one() == before


def test_a_row_stands_or_falls_as_one(trial):
    session, study, _, _ = trial
    rows = [full("M-001", 4, limits="no such thing")]
    form = study.definition.instrument("disability")
    item = next(each for each in form.items if each.type != "calculated")
    mapping = partial(study, rows).model_copy(
        update={"columns": (To(column="pain_nrs", item="pain_nrs"), To(column="limits", item=item.code))}
    )
    report = run(trial, rows, mapping)
    assert Counter(outcome for _, _, outcome, _ in named(report)) == {"left": 1, "refused": 1}
    assert entries(session) == 0


def test_long_rows_and_recoded_visits_and_codes_for_nothing(trial):
    session, _study, _, _ = trial
    rows = [
        {"who": "M-001", "time": "2", "item": "pain_nrs", "value": "4"},
        {"who": "M-001", "time": "2", "item": "pain_days", "value": "", "missing_code": "UNK"},
        {"who": "M-002", "time": "2", "item": "nonsense", "value": "4"},
        {"who": "M-003", "time": "9", "item": "pain_nrs", "value": "4"},
    ]
    mapping = FileMapping(
        layout="long", participant="who", visit=Source(column="time", values={"2": "week18"}), accept_partial=True
    )
    report = run(trial, rows, mapping)
    assert [(row, outcome, fields) for row, _, outcome, fields in named(report)] == [
        (1, "created", []),
        (3, "refused", ["nonsense"]),
        (4, "refused", ["visit"]),
    ]
    values = session.execute(select(ENTRY.c["values"])).scalar_one()
    assert '"pain_days":{"missing":"UNK"}' in values


@pytest.mark.parametrize("dry_run", [True, False])
def test_nobody_is_screened_a_second_time_by_a_file_unless_it_says_who_is_another(session, dry_run):
    study = mini_study(session)
    trial = (session, study, person(session, study, Role.COORDINATOR, site_code="north"), ())
    personal = {name: {"column": name} for name in ("given_name", "family_name", "date_of_birth", "phone")}
    answers = {"age": {"value": 44}, "pain_screen": {"value": 6}, "surgery": {"value": False}}
    new = {"site": {"value": "north"}, "answers": answers, "personal": personal, "another": {"column": "another"}}
    mapping = FileMapping.model_validate({"participant": "id", "source": "list", "visit": {"value": ""}, "new": new})

    def row(number: int, given: str, born: str = "", phone: str = "", another: str = "") -> dict[str, str]:
        said = {"given_name": given, "family_name": "Lovelace", "date_of_birth": born, "phone": phone}
        return {"id": f"p{number}", "another": another, **said}

    known = row(1, "Ada", "1980-12-10", "+61 2 9999 0000")
    assert run(trial, [known], mapping).counts["created"] == 1
    rows = [
        known,
        row(2, "ADA", "1980-12-10"),  # as somebody who was here before the file
        row(3, "Ada", "1981-12-10"),  # born another day
        row(4, "Ida", phone="02 9999 0000"),  # the same number
        row(5, "Ida", phone="02 9999 0000", another="yes"),
        row(6, "Ida"),  # as somebody of the file itself
        {**row(7, "Eve"), "family_name": ""},
        {**row(8, "Eve"), "family_name": ""},  # half a name says nothing
    ]
    report = run(trial, rows, mapping, dry_run=dry_run)
    refused = [outcome for outcome in report.outcomes() if outcome["errors"]]
    assert [(each["row"], each["errors"][0]["rule"]) for each in refused] == [
        (2, "another"),
        (4, "another"),
        (6, "another"),
    ]
    assert "M-001, the same in Given name, Family name, Date of birth. Open them" in refused[0]["errors"][0]["message"]
    assert "an earlier row of this file: the same in Given name, Family name" in refused[2]["errors"][0]["message"]
    day = NOW.date().isoformat()
    somebody = {"code": "M-001", "status": "screened", "screened_on": day, "like_row": None}
    of_the_file = {**dict.fromkeys(somebody), "like_row": 5, "shared": ["given_name", "family_name"]}
    assert [each["candidates"] for each in refused] == [
        [{**somebody, "shared": ["given_name", "family_name", "date_of_birth"]}],
        [{**somebody, "shared": ["phone"]}],
        [of_the_file],
    ]
    if dry_run:
        session.rollback()  # who was shown stands, whatever is taken back
    shown = session.execute(select(LOG.c.participant, LOG.c.username).where(LOG.c.action == "identity.shown")).all()
    assert [tuple(row) for row in shown] == [("M-001", trial[2].username)]
    assert report.counts["created"] == 4


def test_who_is_named_by_a_refused_file_is_in_the_log_and_nobody_else_is_named(session):
    """All or nothing, everything is taken back but that somebody was shown; who may not know is told of nobody."""
    study = mini_study(session)
    coordinator = person(session, study, Role.COORDINATOR, site_code="north")
    new = {
        "site": {"value": "north"},
        "answers": {"age": {"value": 44}, "pain_screen": {"value": 6}, "surgery": {"value": False}},
        "personal": {"given_name": {"column": "given"}, "family_name": {"column": "family"}},
    }
    mapping = FileMapping.model_validate({"participant": "id", "source": "list", "visit": {"value": ""}, "new": new})
    known = {"id": "p1", "given": "Ada", "family": "Lovelace"}
    assert run((session, study, coordinator, ()), [known], mapping).counts["created"] == 1
    rows = [{**known, "id": "p2"}, {"id": "p3", "given": "Eve", "family": "Adams"}, {**known, "id": "p4"}]

    def shown() -> list[str]:
        session.rollback()
        return list(session.execute(select(LOG.c.participant).where(LOG.c.action == "identity.shown")).scalars())

    report = run((session, study, coordinator, ()), rows, mapping, all_or_nothing=True)
    assert not report.imported
    assert [len(each.candidates) for each in report.refusals] == [1, 1]
    assert shown() == ["M-001"], "once for all rows"
    assert session.execute(select(func.count()).select_from(PARTICIPANT)).scalar_one() == 1
    south = person(session, study, Role.COORDINATOR, site_code="south")
    manager = person(session, study, Role.DATA_MANAGER)
    session.commit()
    for who in (south, manager):
        report = run((session, study, who, ()), rows, mapping, all_or_nothing=True)
        assert report.refusals[0].errors[0]["rule"] == "not_allowed"
        assert not any(each.candidates for each in report.refusals)
    assert shown() == ["M-001"]


def test_who_may_not_import_is_not_told_anything(trial):
    session, study, _, _ = trial
    assessor = person(session, study, Role.ASSESSOR, site_code="north")
    with pytest.raises(NotAllowed):
        run(trial, [full("M-001", 4)], by=assessor)
    south = person(session, study, Role.COORDINATOR, site_code="south")
    report = run(trial, [full("M-001", 4)], by=south)
    assert named(report) == [(1, "", "refused", ["participant"])]


def test_a_mapping_is_kept_under_its_name(trial):
    session, study, coordinator, _ = trial
    mapping = FileMapping(participant="id", blank=("NaN",))
    later = mapping.model_copy(update={"missing": "UNK"})
    for version, each in ((1, mapping), (2, later), (2, later)):
        assert actions.save_mapping(session, study, "diaries", each, by=coordinator, now=NOW) == version
    assert reads.mapping_named(session, study, "diaries", by=coordinator).missing == "UNK"


def test_a_file_is_one_persons_and_goes_once_it_is_imported(trial):
    session, study, coordinator, _ = trial
    number = actions.keep_file(session, study, "a.csv", b"participant\nM-001\n", FileMapping(), by=coordinator, now=NOW)
    stored = session.execute(select(reads.FILE.c.sealed)).scalar_one()
    assert b"M-001" not in bytes(stored)
    assert reads.file_of(session, study, number, by=coordinator)[1] == "participant\nM-001\n"
    actions.close_file(session, study, number, {"rows": 1}, by=coordinator, now=NOW)
    assert session.execute(select(reads.FILE.c.sealed)).scalar_one() is None


@pytest.mark.parametrize(
    "text",
    ["", "a,a\n1,2\n", "a,b\n1\n", 'a,b\n"1,2\n', "a\n1\x00\n", "a\né\ud800\n"],
    ids=ascii,
)
def test_what_is_no_csv_is_refused_with_its_line(text):
    with pytest.raises(Invalid):
        list(read_csv(text)[1])


def test_a_mapping_that_is_none_names_its_parts():
    with pytest.raises(Invalid) as refused:
        read_mapping({"columns": [{"column": "a"}], "colour": "red"})
    assert {each.field for each in refused.value.problems} == {"mapping.columns.0.item", "mapping.colour"}


@pytest.mark.parametrize("said", ["north\x00", "north\ud800", float("inf"), float("nan")], ids=ascii)
def test_a_mapping_says_nothing_that_cannot_be_kept(said):
    for source in ({"value": said}, {"column": "site", "values": {"1": said}}):
        with pytest.raises(Invalid):
            read_mapping({"visit": source})
    assert read_mapping({"visit": {"value": "é\n"}}).visit.value == "é\n"


def test_a_file_of_too_many_columns_is_refused_before_they_are_held_against_each_other():
    """Held each against every other, those of a file of ten megabytes would keep a processor for days."""
    with pytest.raises(Invalid, match="6,000 columns"):
        read_csv(",".join(f"a{number}" for number in range(6_000)) + "\n")


def test_however_many_rows_are_of_one_visit_few_are_held(trial, monkeypatch):
    """In a long file all rows of a participant at a visit are one form or a few: a million are none."""
    monkeypatch.setattr(rules, "MOST_TOGETHER", 3)
    monkeypatch.setattr(actions, "MOST_TOGETHER", 3)
    there: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    def read() -> Any:
        nonlocal most
        for who, answers in (("M-001", 2), ("M-002", 40), ("M-003", 2)):
            for number in range(answers):
                row = Seen(participant=who, item=("pain_nrs", "pain_days")[number % 2], value=3, **WEEK)
                there.add(row)
                most = max(most, len([*there]))
                yield row
                del row

    report = run(trial, Rows(read), FileMapping(layout="long", accept_partial=True))
    assert [each[2:] for each in named(report)] == [
        ("created", []),
        ("refused", ["participant"]),
        ("created", []),
    ]
    assert most <= 7, "of forty rows of one visit no more than three and the next are held"


def test_a_large_file_is_not_there_a_second_time_while_its_rows_go_by():
    text = "participant,visit,note\r\n" + f'"M-001",week18,"two\nlines {"x" * 300}"\r\n' * 12_000
    tracemalloc.start()
    header, rows = read_csv(text)
    assert header == ["participant", "visit", "note"]
    seen = sum(1 for cells in rows if str(cells["note"]).startswith("two\nlines x"))
    made = actions.origin("large.csv", text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == 12_000
    assert made.sha256 == hashlib.sha256(text.encode()).hexdigest() == actions.origin("x", text.encode()).sha256
    assert peak < len(text) * 0.6, "a copy of it would take as much again"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_any_program_writes_them(end: str):
    text = end.join(["a,b", "1,2", f'3,"4{end}5"', ""])
    assert [list(cells.values()) for cells in read_csv(text)[1]] == [["1", "2"], ["3", f"4{end}5"]]


@pytest.mark.requirement("CONC-4", "RND-1", "E9-3")
def test_nobody_learns_how_many_slots_are_left_by_trying_how_many_can_be_had(session):
    """Whoever could take slots and have them back would count them: with people who are made up, and no trace of it."""
    study = world.study_of(session)
    world.sealed(session, study, slots=4, sizes=(4,))
    coordinator = world.actor(session, study, Role.COORDINATOR, "SYD")
    people = [world.participant(session, study, number) for number in range(1, 7)]
    baseline = baseline_entries(study.definition)[0][0]
    rows = [{"who": each.code, "at": baseline} for each in people]
    later = [{"who": people[0].code, "at": study.definition.visits[-1].code}]
    mapping = FileMapping(participant="who", visit=Source(column="at"), randomise_after=baseline)
    session.commit()

    def imported(rows: Any, **how: Any) -> Any:
        return run((session, study, coordinator, people), rows, mapping, **how)

    def randomised() -> int:
        allocated = table_of(Allocation)
        return int(session.execute(select(func.count()).select_from(allocated)).scalar_one())

    for how in ({"all_or_nothing": True}, {"all_or_nothing": False}):
        tried = imported([*rows, *later], dry_run=True, **how)
        assert [each[2] for each in named(tried)] == ["changed"] * 6 + ["left"]
    refused = imported([*rows, {"who": "P-9999", "at": baseline}], all_or_nothing=True)
    assert [each[2] for each in named(refused)] == ["changed"] * 6 + ["refused"]
    assert (refused.imported, randomised()) == (False, 0)
    # What is really asked for is given, and what was given is not taken back.
    kept = imported(rows, all_or_nothing=True)
    assert [each[2] for each in named(kept)] == ["changed"] * 4 + ["refused"] * 2
    assert (kept.imported, randomised()) == (True, 4)
    # That nothing is left now is what the page says as well.
    assert [each[2] for each in named(imported(rows, dry_run=True))] == ["unchanged"] * 4 + ["refused"] * 2


@pytest.mark.requirement("CONC-4", "RND-1", "E9-3")
@pytest.mark.parametrize("refused_by", ["a list of before", "an entry that is missing"])
def test_whoever_is_refused_the_second_stage_takes_no_slot_of_the_first(session, refused_by):
    """A first stage that is taken and given back with its row would be a slot that was tried (decision 0020)."""
    trial = TwoStages(session)
    people = [trial.comes(), trial.comes()]
    refused = people[0]
    if refused_by == "a list of before":  # as is_of_plan finds it, and no gate
        arms = [*trial.study.definition.arms[:-1], trial.study.definition.arms[-1].model_copy(update={"ratio": 3})]
        trial.study = replace(trial.study, definition=trial.study.definition.model_copy(update={"arms": tuple(arms)}))
    else:
        session.execute(delete(ENTRY).where(ENTRY.c.participant_id == refused.id))
    baseline = baseline_entries(trial.study.definition)[0][0]
    mapping = FileMapping(participant="who", visit=Source(column="at"), randomise_after=baseline)
    said: list[str] = []
    listening = session.get_bind().engine

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    def imported(*rows: Any) -> Any:
        return run((session, trial.study, trial.coordinator, people), rows, mapping)

    event.listen(listening, "before_cursor_execute", note)
    try:
        report = imported({"who": refused.code, "at": baseline})
    finally:
        event.remove(listening, "before_cursor_execute", note)
    assert [each[2] for each in named(report)] == ["refused"]
    assert not [each for each in said if each.startswith("INSERT INTO stage_allocation") or "SET used=" in each]
    assert refused.id is not None
    assert stage_of(session, refused.id) is None
    if refused_by == "an entry that is missing":
        done = imported({"who": people[1].code, "at": baseline})
        assert [each[2] for each in named(done)] == ["changed"]
        other = people[1].id or 0
        assert stage_of(session, other) is not None
        assert allocation_of(session, other) is not None


class Seen(dict[str, Any]):
    """A row that can be seen to be gone."""

    __hash__ = object.__hash__  # type: ignore[assignment]


@pytest.mark.requirement("CONC-4", "RND-1")
@pytest.mark.parametrize("all_or_nothing", [True, False])
def test_a_file_is_read_to_its_end_before_anybody_is_randomised_and_no_row_is_kept(session, all_or_nothing):
    study = world.study_of(session)
    world.sealed(session, study, slots=8, sizes=(4,))
    coordinator = world.actor(session, study, Role.COORDINATOR, "SYD")
    people = [world.participant(session, study, number) for number in range(1, 7)]
    baseline = baseline_entries(study.definition)[0][0]
    mapping = FileMapping(participant="who", visit=Source(column="at"), randomise_after=baseline)
    session.commit()
    there: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    def read(*, ends: bool) -> Any:
        nonlocal most
        for each in people:
            row = Seen(who=each.code, at=baseline)
            there.add(row)
            most = max(most, len([*there]))
            yield row
            del row
        if not ends:
            raise Invalid([FieldProblem("file", "csv", "Line 8 is not CSV.")])

    def imported(**how: Any) -> Any:
        rows = Rows(lambda: read(**how))
        return run((session, study, coordinator, people), rows, mapping, all_or_nothing=all_or_nothing)

    taken: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(randomising, "randomise", lambda *_, **__: taken.append("slot"))
        with pytest.raises(Invalid, match="not CSV"):
            imported(ends=False)
    session.rollback()
    assert not taken
    assert imported(ends=True).counts["changed"] == 6
    assert most <= 3, "of a row that was reported nothing is kept"


def test_rows_in_json_are_read_one_by_one_and_known_by_the_same_fingerprint():
    rows = [{"participant": "M-001", "visit": "week18", "note": "é" * 40, "pain_nrs": 4}] * 8_000
    said = {"file": "large.json", "rows": rows, "mapping": {"participant": "participant"}, "dry_run": True}
    data = json.dumps(said, ensure_ascii=False).encode()
    known = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    del rows, said
    tracemalloc.start()
    asked, read = _read(data)
    assert read is not None
    made = actions.origin(asked.file, read)
    seen = [row["pain_nrs"] for row in read].count(4)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (seen, asked.dry_run, asked.mapping) == (8_000, True, FileMapping())
    assert made.sha256 == known
    assert peak < len(data) * 2.5, "its text while it is decoded, and no row of it"
    assert actions.origin("none", []).sha256 == hashlib.sha256(b"[]").hexdigest()


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (b'{"rows": [{}, 3, {}, []]}', ["rows.1", "rows.3"]),
        (b'{"rows": [{"a": 1}, {"a": 2}', ["28"]),
        (b'{"rows": [{"a": 1}] "x"}', ["20"]),
        (b"[1]", ["body"]),
        (b'{"rows": "\xff"}', ["body"]),
        (b'{"rows": [{"a": "\\ud83d\\ude00 \xc3\xa9"}, {"a": "\\ud800"}, {"a\\u0000": 1}]}', ["rows.1", "rows.2"]),
        (b'{"rows": [{"a": [{"b": "\\udfff"}]}, {"a": [{"b": ["x", 1, null]}]}]}', ["rows.0"]),
        (b'{"rows": %s1%s}' % (b"[" * 99_000, b"]" * 99_000), ["body"]),
    ],
)
def test_what_is_no_row_or_no_json_is_named_where_it_stands(data, fields):
    with pytest.raises(Invalid) as refused:
        _read(data)
    assert [each.field for each in refused.value.problems] == fields


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nparticipant;visit\nM-001;week18\n",
        "participant,visit,,\nM-001,week18,,\n",
        "\n,,\nparticipant,visit\nM-001,week18,\n , \n,\n\n",
        'participant;"visit"\nM-001;week18\n',
    ],
)
def test_what_spreadsheets_add_around_a_table_is_passed_over(text: str):
    header, rows = read_csv(text)
    assert header == ["participant", "visit"]
    assert [dict(cells) for cells in rows if cells] == [{"participant": "M-001", "visit": "week18"}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("participant,visit,\nM-001,week18,\nM-002,week18,7\n", "Line 3 is not CSV (3 cells under 2 columns)"),
        ("sep=;\nparticipant;visit\nM-001\n", "Line 3 is not CSV (1 cells under 2 columns)"),
        ("participant,,,visit\n", "2 columns have no name"),
        ('"a";"b, c, d";"a"\n', "The columns a stand there twice"),
    ],
)
def test_what_stands_under_no_name_is_refused_with_its_line(text: str, said: str):
    with pytest.raises(Invalid, match=re.escape(said)):
        list(read_csv(text)[1])


def test_rows_have_the_numbers_of_the_spreadsheet_whatever_is_blank_between(trial):
    _, study, _, _ = trial
    header, rows = read_csv("\nparticipant,visit,pain_nrs\nM-001,week18,4\n,,\n\nM-002,week18,5\nM-404,week18,5\n,,\n")
    report = run(trial, rows, guessed(study.definition, header).model_copy(update={"accept_partial": True}))
    assert [each[:3:2] for each in named(report)] == [(2, "created"), (5, "created"), (6, "refused")]
    assert report.counts["rows"] == 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_file_is_read_by_the_mark_of_its_encoding_and_known_by_its_own_bytes(trial, encoding: str):
    session, study, coordinator, _ = trial
    data = "participant,note\nM-001,Größe\n".encode(encoding)
    assert text_of(data) == "participant,note\nM-001,Größe\n"
    number = actions.keep_file(session, study, "a.csv", data, FileMapping(), by=coordinator, now=NOW)
    kept, text = reads.file_of(session, study, number, by=coordinator)
    assert (kept.sha256, text) == (hashlib.sha256(data).hexdigest(), "participant,note\nM-001,Größe\n")


def test_no_answer_is_made_of_letters_that_cannot_be_read():
    with pytest.raises(Invalid, match="not in UTF-8"):
        text_of("participant,note\nM-001,Größe\n".encode("latin-1"))


EVERYTHING = Instrument.model_validate(
    {
        "code": "all",
        "label": "All",
        "source": "This test.",
        "sections": [
            {
                "items": [
                    {"code": "day", "label": "Day", "type": "date"},
                    {"code": "moment", "label": "Moment", "type": "date_time"},
                    {"code": "hour", "label": "Hour", "type": "time"},
                    {"code": "weight", "label": "Weight", "type": "number"},
                    {"code": "often", "label": "How often", "type": "integer"},
                    {"code": "words", "label": "Words", "type": "text"},
                ]
            }
        ],
    }
)


@pytest.mark.parametrize(
    ("item", "text", "ways", "kept"),
    [
        ("day", "14.03.2026", {"days": "dmy"}, "2026-03-14"),
        ("day", "4/3/2026", {"days": "dmy"}, "2026-03-04"),
        ("day", "3/14/2026", {"days": "mdy"}, "2026-03-14"),
        ("day", "2026-03-14", {"days": "mdy"}, "2026-03-14"),
        ("day", "2026-03-14 00:00:00", {}, "2026-03-14"),
        ("day", "14-03-2026 00:00", {"days": "dmy"}, "2026-03-14"),
        ("moment", "14.03.2026 9:30", {"days": "dmy"}, None),
        ("moment", "14.03.2026 09:30", {"days": "dmy"}, "2026-03-14T09:30"),
        ("hour", "8:05:00", {}, "08:05"),
        ("weight", "71,5", {"decimal": ","}, 71.5),
        ("weight", "-3", {"decimal": ","}, -3),
        ("often", "3,0", {"decimal": ","}, 3),
        ("words", "1,5 on 14.03.2026", {"decimal": ",", "days": "dmy"}, "1,5 on 14.03.2026"),
        # What could mean two things means none.
        ("weight", "1.000", {"decimal": ","}, None),
        ("weight", "71,5", {}, None),
        ("day", "14.03.2026", {}, None),
        ("day", "14.03.2026", {"days": "mdy"}, None),
        ("day", "14.03.26", {"days": "dmy"}, None),
        ("day", "2026-03-14 08:00:00", {}, None),
        ("hour", "08:00:30", {}, None),
    ],
)
def test_numbers_and_days_are_read_as_the_file_writes_them(item: str, text: str, ways: Any, kept: Any):
    mapping = FileMapping.model_validate(ways)
    values, problems = {}, []
    try:
        typed = read_text(EVERYTHING, item, text, mapping)
        values, problems = typed.values, typed.problems
    except Invalid as refused:
        problems = refused.problems
    assert (values.get(item), [each.field for each in problems]) == (kept, [item] if kept is None else [])


@pytest.mark.parametrize(
    ("cells", "ways"),
    [
        (["71,5;14.03.2026"], (",", "dmy")),
        (["71;3/14/2026", "72,25;3/4/2026"], (",", "mdy")),
        (["71,5;3/4/2026", "71.5;3/4/2026"], (".", "ymd")),
        (["71.5;2026-03-14"], (".", "ymd")),
        (["71,5;13/4/2026", "71,5;4/13/2026"], (",", "ymd")),
    ],
)
def test_how_a_file_writes_is_found_where_its_cells_leave_no_doubt(cells: list[str], ways: tuple[str, str]):
    made: Any = Study.model_construct
    study = made(instruments=(EVERYTHING,))
    header, rows = read_csv("\n".join(["weight;day", *cells]))
    found = guessed(study, header, rows)
    assert (found.decimal, found.days) == ways
