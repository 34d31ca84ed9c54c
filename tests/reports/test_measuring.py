"""What is read out of the entries is what one gets by reading them one by one; of few values nothing is kept."""

import json
import random
import statistics
import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlmodel import Session

from app.audit.actions import Change, record
from app.capture.double.models import EntryPair
from app.capture.models import Entry
from app.foundation.database import Database
from app.participants.models import Participant
from app.reports import reads
from app.reports.kept import KEPT_FOR, MEASURED_FOR, SHOWN_FOR, Kept, KeptCounts
from app.reports.measuring import forms_of, measure
from app.reports.quality import LARGE, LEAST_AT_VISIT, Measured
from app.reports.rules import LARGE as MANY
from app.reports.rules import Counted, Entries, Place
from app.studies.in_use import StudyInUse
from tests.capture.records import consented, plan_visit
from tests.factories import NOW, TODAY, definition, mini_study, person

VISITS = ("baseline", "week18")
RATINGS = [f"rating{number}" for number in range(4)]
MOOD = {
    "code": "mood",
    "label": "Mood",
    "source": "test",
    "repeats": True,
    "sections": [
        {
            "items": [
                *({"code": code, "label": code, "type": "scale", "min": 0, "max": 2} for code in RATINGS),
                {"code": "weight", "label": "Weight", "type": "number", "min": 30, "max": 250, "decimals": 1},
                {"code": "calm", "label": "Calm", "type": "yes_no"},
                {"code": "total", "label": "Total", "type": "calculated", "calculation": "[rating0] + [rating1]"},
            ]
        }
    ],
}
LEVELS = [{"code": "use", "label": "Stops use", "stops_use": True}, {"code": "visits", "label": "Stops visits"}]
pytestmark = pytest.mark.requirement("SPI-29")


def a_study(session: Session, **changes: object) -> StudyInUse:
    """With a form that two people enter, and one of whose use somebody can withdraw."""
    forms = [
        {**form, "double_entry": form["code"] == "pain"} for form in definition().model_dump(mode="json")["instruments"]
    ]
    forms.append(MOOD)
    return mini_study(session, **{"instruments": forms, "withdrawal_levels": LEVELS, **changes})


def filled(session: Session, study: StudyInUse, chance: random.Random, people: int) -> list[dict[str, Any]]:
    """Entries of all kinds, and for each what counts of it, kept beside the database."""
    by = person(session, study, "coordinator", site_code=None, username="typist")
    kept: list[dict[str, Any]] = []
    changes: list[Change] = []
    for number in range(people):
        site_code = chance.choice(["north", "south"])
        of = consented(session, study, f"M-{number:03}", site_code=site_code, consent=False)
        if chance.random() < 0.2:
            of.status, of.withdrawn_on = "withdrawn", TODAY + timedelta(days=3)
            of.withdrawal_level = chance.choice(["use", "visits"])
            session.add(of)
        for visit in VISITS:
            code = f"extra_{visit}"
            held = TODAY + timedelta(days=chance.choice([0, 3, 9]))
            planned = plan_visit(session, study, of, code, status="held")
            planned.held_on = held
            session.add(planned)
            for repeat in range(1, chance.randrange(3) + 1):
                kept.append(_entry(session, study, of, site_code, code, held, repeat, chance))
                if chance.random() < 0.3:
                    subject, item = f"entry/{code}/mood", chance.choice(["rating0", "weight", "total"])
                    line = Change("entry.corrected", of.code, subject, item=item, old=1, new=2, why="So")
                    changes += [line] * chance.choice([1, 2])
                    kept[-1]["changed"] = None if item == "total" else (of.code, subject, item)
    record(session, study.code, changes, by=by, now=NOW)
    session.flush()
    return kept


def _entry(
    session: Session,
    study: StudyInUse,
    of: Participant,
    site_code: str,
    visit: str,
    held: Any,
    repeat: int,
    chance: Any,
) -> dict[str, Any]:
    values: dict[str, Any] = {code: chance.choice([0, 0, 1, 2, {"missing": "NK"}]) for code in RATINGS}
    values |= {"weight": chance.choice([70, 70.5, 81.3]), "calm": True, "total": 3}
    for code in chance.sample(list(values), chance.choice([0, 0, 0, 1, 3])):
        del values[code]
    late = chance.randrange(12)
    wrong, awaited = chance.random() < 0.1, chance.random() < 0.1
    made = Entry(
        study_id=study.id,
        participant_id=of.id or 0,
        site_id=of.site_id,
        visit=visit,
        instrument="mood",
        study_version_id=study.version_id,
        status="complete",
        values=json.dumps(values, sort_keys=True),
        repeat=repeat,
        in_error_at=NOW if wrong else None,
        in_error_by="test" if wrong else None,
        created_at=NOW + timedelta(days=(held - TODAY).days + late),
        created_by="test",
        saved_at=NOW,
        saved_by="test",
    )
    if late > 7 and chance.random() < 0.5:  # typed in time, where there was no connection
        made.typed_at, late = made.created_at - timedelta(days=late), 0
    session.add(made)
    session.flush()
    if awaited:
        pair = EntryPair(study_id=study.id, entry_id=made.id or 0, state="awaits_second", first_by="a", first_at=NOW)
        session.add(pair)
    gone = of.withdrawal_level == "use" and held >= TODAY + timedelta(days=3)
    counts = not (wrong or awaited or gone)
    place = {"site": site_code, "visit": visit, "repeat": repeat, "late": late > 7, "counts": counts}
    return {**place, "values": values, "changed": None}


def by_hand(kept: list[dict[str, Any]], site: str) -> tuple[Any, ...]:
    """Typing, last digits and levels of a site, one entry after another."""
    here = [each for each in kept if each["counts"] and each["site"] == site]
    typed = [{code: each["values"].get(code) for code in (*RATINGS, "weight", "calm")} for each in here]
    said = [[one for one in each.values() if one is not None and not isinstance(one, dict)] for each in typed]
    forms: dict[str, Counter[str]] = {visit: Counter() for visit in VISITS}
    for each, answers, whole in zip(here, said, typed, strict=True):
        if each["repeat"] == 1 and len(answers) >= 5 and len(set(answers)) > 1:
            forms[each["visit"].removeprefix("extra_")][json.dumps(whole)] += 1
    alike = sum(number for counts in forms.values() for number in counts.values() if number > 1)
    changed = {each["changed"] for each in kept if each["site"] == site and each["changed"]}
    typing = (
        len(here),
        sum(each["late"] for each in here),
        sum(map(len, said)),
        len(changed),
        sum(sum(counts.values()) for counts in forms.values()),
        alike,
    )
    weights = [each["weight"] for each in typed if each["weight"] is not None]
    levels = {}
    for visit in VISITS:
        for code in (*RATINGS, "weight"):
            values = [
                float(one[code])
                for each, one in zip(here, typed, strict=True)
                if each["visit"] == f"extra_{visit}" and isinstance(one[code], int | float)
            ]
            if len(values) >= LEAST_AT_VISIT:
                mean = statistics.fmean(values)
                levels[f"extra_{visit}", code] = (len(values), mean, sum((each - mean) ** 2 for each in values))
    return typing, Counter(f"{weight:.1f}"[-1] for weight in weights), levels


def test_what_is_measured_is_what_reading_one_by_one_gives(session: Session, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.reports.measuring.BATCH", 7)
    study = a_study(session)
    kept = filled(session, study, random.Random(31), 45)
    other = a_study(session, code="other")
    filled(session, other, random.Random(1), 12)
    found = measure(session, study, now=NOW)
    codes = {each.id: each.code for each in reads.count(session, study, now=NOW).sites}
    assert found.entries == sum(each["counts"] for each in kept)
    for site, code in codes.items():
        typing, ends, levels = by_hand(kept, code)
        assert all(typing), "every measure has something in it, or nothing is proved"
        (line,) = (each for each in found.typing if each.site_id == site)
        assert tuple(line[1:]) == typing
        digits = {str(each.digit): each.number for each in found.digits if each.site_id == site}
        assert digits == ends
        assert {each.item for each in found.digits} == {"weight"}
        told = {(each.visit, each.item): each[4:] for each in found.levels if each.site_id == site}
        assert told.keys() == levels.keys()
        for key, numbers in levels.items():
            assert told[key] == pytest.approx(numbers)


def test_of_few_values_at_a_visit_not_even_their_mean_is_kept(session: Session):
    study = a_study(session)
    chance = random.Random(3)
    filled(session, study, chance, 4)
    found = measure(session, study, now=NOW)
    assert found.entries
    assert not found.levels


def test_where_whole_sites_are_in_one_arm_nothing_is_said_of_their_levels(session: Session):
    study = a_study(session)
    filled(session, study, random.Random(31), 30)
    assert measure(session, study, now=NOW).levels
    allocation = study.definition.allocation.model_copy(update={"method": "cluster"})
    clustered = study.definition.model_copy(update={"allocation": allocation})
    found = measure(session, replace(study, definition=clustered), now=NOW)
    assert found.digits
    assert not found.levels


def test_nothing_that_treats_or_is_sealed_is_among_the_items(session: Session):
    forms = forms_of(mini_study(session))
    assert {code for form in forms.values() for code, _, _ in form.numeric} == {
        *("age", "pain_screen", "pain_nrs", "pain_days", "dis_weight")
    }
    assert "dis_score" not in forms["disability"].typed


# What is kept, and shown at once


def counted(at: Any = NOW, number: int = MANY) -> Counted:
    return Counted(at, (Place(1, "north", TODAY),), entries=(Entries(1, "baseline", "pain", "complete", number),))


STUDY = StudyInUse(1, "mini", 1, definition())


class Slow:
    """Counts when it is told to, once for each time that it was begun."""

    def __init__(self, database: Database, found: Counted) -> None:
        self.kept: Kept[Counted] = Kept(database)
        self.found, self.begun, self.may_end = found, 0, threading.Event()
        self.kept.waited_for(STUDY, lambda: found, now=found.at)

    def __call__(self, _: Session) -> Counted:
        self.begun += 1
        assert self.may_end.wait(20)
        return self.found

    def asked(self, later: timedelta, **options: Any) -> Counted | None:
        return self.kept.at_once(STUDY, self, now=NOW + later, **options)

    def ends(self) -> None:
        self.may_end.set()
        for thread in threading.enumerate():
            if thread.name == "reports-mini":
                thread.join(20)


def test_an_older_count_of_a_large_trial_is_shown_while_one_counts_behind(shared_database: Database):
    slow = Slow(shared_database, counted())
    old, slow.found = slow.found, counted(NOW + KEPT_FOR)
    assert [slow.asked(KEPT_FOR) for _ in range(3)] == [old, old, old]
    slow.ends()
    assert slow.begun == 1
    assert slow.asked(KEPT_FOR) is slow.found
    assert slow.begun == 1


@pytest.mark.parametrize(
    ("number", "later", "options"),
    [
        (MANY - 1, KEPT_FOR, {}),  # of a small trial nobody is shown old numbers
        (MANY, SHOWN_FOR, {}),
        (MANY, KEPT_FOR, {"again": True}),
        (MANY, KEPT_FOR, {"stands": lambda at: False}),  # somebody withdrew since
    ],
)
def test_whoever_is_not_shown_the_older_one_waits(
    shared_database: Database, number: int, later: timedelta, options: dict[str, Any]
):
    slow = Slow(shared_database, counted(number=number))
    assert slow.asked(later, **options) is None
    assert slow.begun == 0
    new = counted(NOW + later, number)
    assert slow.kept.waited_for(STUDY, lambda: new, now=NOW + later, **options) is new


def test_one_that_fails_behind_is_tried_again_and_the_old_one_stays(
    shared_database: Database, caplog: pytest.LogCaptureFixture
):
    slow = Slow(shared_database, counted())
    old = slow.found

    def broken(_: Session) -> Counted:
        raise RuntimeError("with what somebody typed")

    assert slow.kept.at_once(STUDY, broken, now=NOW + KEPT_FOR) is old
    slow.ends()
    assert "RuntimeError" in caplog.text
    assert "typed" not in caplog.text
    assert slow.asked(KEPT_FOR) is old
    slow.ends()
    assert slow.begun == 1


def test_what_the_data_look_like_is_nothing_to_wait_for_in_a_large_trial(shared_database: Database):
    kept, may_end = KeptCounts(shared_database).measures, threading.Event()
    made = Measured(NOW, entries=LARGE)

    def slowly(_: Session) -> Measured:
        assert may_end.wait(20)
        return made

    def asked(later: timedelta, **options: Any) -> Measured | None:
        return kept.at_once(STUDY, slowly, now=NOW + later, waits=False, **options)

    assert asked(timedelta(0)) is None
    assert asked(timedelta(0)) is None
    may_end.set()
    for thread in threading.enumerate():
        if thread.name == "reports-mini":
            thread.join(20)
    assert asked(KEPT_FOR) is made
    assert asked(MEASURED_FOR - timedelta(seconds=1)) is made
    assert asked(KEPT_FOR - timedelta(seconds=1), again=True) is made
    assert asked(KEPT_FOR, stands=lambda at: False) is None


def test_another_program_measures_the_same_without_the_installation_s_key(database: Database):
    with database.writing() as session:
        study = a_study(session)
        filled(session, study, random.Random(7), 8)
    kept, count = KeptCounts(database).measures, partial(measure, study=study, now=NOW)

    def asked() -> Measured | None:
        return kept.at_once(study, count, now=NOW, waits=False, elsewhere=True)

    assert asked() is None
    for thread in threading.enumerate():
        if thread.name == "reports-mini":
            thread.join(60)
    found = asked()
    assert found is not None
    assert found.entries
    with database.reading() as session:
        assert found == measure(session, study, now=NOW)


@pytest.mark.requirement("GDPR-3")
@pytest.mark.parametrize("action", reads.WITHDRAWING)
def test_no_older_count_is_shown_once_somebody_withdrew(session: Session, action: str):
    study = mini_study(session)
    by = person(session, study, "coordinator")

    def stands() -> bool:
        return reads._stands(session, study, NOW)

    record(session, study.code, [Change(action, "M-001")], by=by, now=NOW - KEPT_FOR)
    record(session, study.code, [Change("entry.saved", "M-001", item="pain")], by=by, now=NOW)
    assert stands()
    record(session, study.code, [Change(action, "M-001")], by=by, now=NOW)
    assert not stands()
