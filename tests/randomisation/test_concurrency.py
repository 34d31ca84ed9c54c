"""Many people randomise at once, on real databases with real commits: one slot each, in order, none skipped."""

import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Queue
from typing import Any

import pytest
from sqlalchemy import select, text

from app.audit.verify import verify
from app.foundation.database import Database, table_of
from app.foundation.errors import Conflict, Refused
from app.importing import carry_out
from app.imports.actions import Origin
from app.imports.rules import FileMapping, Rows, Source
from app.participants.models import Participant
from app.people.permissions import Role
from app.randomisation.actions import draw, randomise, seal
from app.randomisation.models import Allocation, AllocationSequence, Slot, Stratum
from app.randomisation.rules import baseline_entries
from app.treatment.reads import my_participants
from tests.randomisation.world import NOW, actor, participant, sealed, study_of

ALLOCATION, SLOT, STRATUM = table_of(Allocation), table_of(Slot), table_of(Stratum)
SEQUENCE = table_of(AllocationSequence)
THREADS, PEOPLE = 8, 48


def at_once(*work: Callable[[], None]) -> None:
    """Run all of it at the same moment; whatever fails in a thread fails the test."""
    failed: list[BaseException] = []
    start = threading.Barrier(len(work))

    def run(one: Callable[[], None]) -> None:
        start.wait()
        try:
            one()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def check_history(session: Any, study_id: int) -> int:
    """One participant, one slot; slots a gap-free prefix in the order of numbers; numbers consecutive."""
    rows = session.execute(
        select(
            ALLOCATION.c.number, ALLOCATION.c.participant_id, ALLOCATION.c.slot_id, SLOT.c.position, SLOT.c.stratum_id
        )
        .join(SLOT, SLOT.c.id == ALLOCATION.c.slot_id)
        .where(ALLOCATION.c.study_id == study_id)
        .order_by(ALLOCATION.c.number)
    ).all()
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert len({row.participant_id for row in rows}) == len({row.slot_id for row in rows}) == len(rows)
    positions = defaultdict(list)
    for row in rows:
        positions[row.stratum_id].append(row.position)
    for stratum in session.execute(select(STRATUM.c.id, STRATUM.c.used)):
        assert positions[stratum.id] == list(range(1, stratum.used + 1))
    return len(rows)


@pytest.mark.requirement("REL-1", "REL-2", "REL-13", "E9-3")
def test_every_slot_is_used_once_and_in_order(database: Database):
    with database.writing() as session:
        study = study_of(session)
        sealed(session, study, slots=PEOPLE)
        by = {site: actor(session, study, Role.COORDINATOR, site) for site in ("SYD", "PER")}
        clinician = actor(session, study, Role.CLINICIAN, "SYD")
        statistician = actor(session, study, Role.STATISTICIAN, name="sara")
        waiting: Queue[tuple[str, Participant]] = Queue()
        for number in range(1, PEOPLE + 1):
            site = "SYD" if number % 3 else "PER"
            waiting.put((site, participant(session, study, number, site)))
    numbers: list[int] = []

    def work() -> None:
        while True:
            try:
                site, person = waiting.get_nowait()
            except Empty:
                return
            with database.writing() as session:
                made = randomise(session, study, person, by=by[site], now=NOW)
            numbers.append(made.number)

    def look() -> None:
        # In between, everything that is committed is a gap-free prefix, whoever else reads, draws or opens.
        for _ in range(5):
            with database.reading() as session:
                check_history(session, study.id)
            with database.writing() as session:
                my_participants(session, study, by=clinician, now=NOW)
            with database.writing() as session:
                draw(
                    session,
                    study,
                    method="permuted_blocks",
                    block_sizes=[4],
                    slots_per_stratum=4,
                    by=statistician,
                    now=NOW,
                )

    at_once(*[work] * THREADS, look)
    with database.reading() as session:
        assert check_history(session, study.id) == PEOPLE
        assert not verify(session, study.code).faults
    assert sorted(numbers) == list(range(1, PEOPLE + 1))


@pytest.mark.requirement("REL-1", "CONC-9", "SEC-45")
def test_one_participant_pressed_at_the_same_moment_gets_one_slot(database: Database):
    with database.writing() as session:
        study = study_of(session)
        sealed(session, study)
        coordinator = actor(session, study, Role.COORDINATOR, "SYD")
        person_id = participant(session, study, 1).id
    outcomes: list[str] = []

    def press() -> None:
        try:
            with database.writing() as session:
                person = session.get(Participant, person_id)
                assert person is not None
                randomise(session, study, person, by=coordinator, now=NOW)
        except Refused as refused:
            outcomes.append(refused.reason)
        else:
            outcomes.append("randomised")

    at_once(*[press] * THREADS)
    assert outcomes.count("randomised") == 1
    assert sum("already randomised" in outcome for outcome in outcomes) == THREADS - 1
    with database.reading() as session:
        assert check_history(session, study.id) == 1


@pytest.mark.requirement("REL-1", "RND-7")
def test_the_last_slot_goes_to_one_of_those_who_want_it(database: Database):
    with database.writing() as session:
        study = study_of(session)
        sealed(session, study, slots=4, sizes=(4,))
        coordinator = actor(session, study, Role.COORDINATOR, "SYD")
        people = [participant(session, study, number) for number in range(1, THREADS + 1)]
    done: list[bool] = []

    def press(person: Participant) -> Callable[[], None]:
        def one() -> None:
            try:
                with database.writing() as session:
                    randomise(session, study, person, by=coordinator, now=NOW)
            except Refused:
                done.append(False)
            else:
                done.append(True)

        return one

    at_once(*[press(person) for person in people])
    assert (done.count(True), done.count(False)) == (4, THREADS - 4)
    with database.reading() as session:
        assert check_history(session, study.id) == 4


@pytest.mark.requirement("RND-12", "REL-1")
def test_nobody_gets_a_slot_of_a_list_that_is_being_replaced(database: Database):
    with database.writing() as session:
        study = study_of(session)
        sealed(session, study)
        coordinator = actor(session, study, Role.COORDINATOR, "SYD")
        statistician = actor(session, study, Role.STATISTICIAN, name="sara")
        people = [participant(session, study, number) for number in range(1, 5)]
        second = draw(
            session,
            study,
            method="permuted_blocks",
            block_sizes=[4],
            slots_per_stratum=8,
            by=statistician,
            now=NOW,
        ).id
        assert second is not None

    def replace_list() -> None:
        with suppress(Refused), database.writing() as session:
            seal(session, study, second, by=statistician, now=NOW)

    def press(person: Participant) -> Callable[[], None]:
        def one() -> None:
            with suppress(Conflict), database.writing() as session:
                randomise(session, study, person, by=coordinator, now=NOW)

        return one

    at_once(replace_list, *[press(person) for person in people])
    with database.reading() as session:
        check_history(session, study.id)
        used = session.execute(
            select(STRATUM.c.sequence_id, SEQUENCE.c.status)
            .join(ALLOCATION, ALLOCATION.c.stratum_id == STRATUM.c.id)
            .join(SEQUENCE, SEQUENCE.c.id == STRATUM.c.sequence_id)
            .distinct()
        ).all()
        assert {row.status for row in used} <= {"sealed"}
        assert len(used) <= 1


@pytest.mark.requirement("RND-12", "REL-1")
def test_a_list_replaced_while_somebody_waits_for_it_gives_no_slot(database: Database):
    if database.is_sqlite:
        pytest.skip("On SQLite nobody can wait in the middle: the whole transaction is the lock.")
    with database.writing() as session:
        study = study_of(session)
        first = sealed(session, study).id
        coordinator = actor(session, study, Role.COORDINATOR, "SYD")
        statistician = actor(session, study, Role.STATISTICIAN, name="sara")
        person = participant(session, study, 1)
        drawn = draw(
            session, study, method="permuted_blocks", block_sizes=[4], slots_per_stratum=8, by=statistician, now=NOW
        ).id
        assert drawn is not None
    outcomes: list[str] = []

    def press() -> None:
        try:
            with database.writing() as session:
                randomise(session, study, person, by=coordinator, now=NOW)
        except Conflict as conflict:
            outcomes.append(conflict.reason)

    pressing = threading.Thread(target=press)
    with database.writing() as session:
        seal(session, study, drawn, by=statistician, now=NOW)  # holds the strata of the first list
        pressing.start()
        pressing.join(1)
        assert pressing.is_alive()
    pressing.join()
    assert outcomes == ["Something changed a moment ago. Nothing was stored. Press Randomise again."]
    with database.reading() as session:
        assert check_history(session, study.id) == 0
        assert session.execute(select(STRATUM.c.used).where(STRATUM.c.sequence_id == first)).scalars().all() == [0, 0]


@pytest.mark.requirement("REL-13")
def test_whoever_comes_first_is_randomised_first(database: Database):
    if database.is_sqlite:
        pytest.skip("On SQLite nobody can wait in the middle: whoever begins to write stands in line.")
    with database.writing() as session:
        study = study_of(session)
        sealed(session, study, slots=8)
        by = {site: actor(session, study, Role.COORDINATOR, site) for site in ("SYD", "PER")}
        in_front, *others = [participant(session, study, n, "PER" if n % 2 else "SYD") for n in range(1, 8)]
        site_of = {each.id: "PER" if number % 2 else "SYD" for number, each in enumerate((in_front, *others), 1)}
    order: list[int] = []

    def press(person: Participant) -> None:
        with database.writing() as session:
            order.append(randomise(session, study, person, by=by[site_of[person.id]], now=NOW).participant_id)

    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    threads = [threading.Thread(target=press, args=(person,)) for person in others]
    with database.writing() as session:
        randomise(session, study, in_front, by=by["PER"], now=NOW)
        for number, thread in enumerate(threads, 1):
            thread.start()
            with database.reading() as looking:
                stand = any(looking.execute(waiting).scalar_one() == number for _ in range(3000))
            assert stand, "nobody stands in line"
    for thread in threads:
        thread.join(60)
    assert order == [person.id for person in others]


@pytest.mark.requirement("REL-13", "RND-1")
@pytest.mark.parametrize("all_or_nothing", [True, False])
def test_a_file_that_randomises_and_a_person_who_does_never_wait_for_each_other(
    database: Database, *, all_or_nothing: bool
):
    """Each holds a stratum the other needs: a database ends one of them, and slots would have been tried."""
    with database.writing() as session:
        study = study_of(session)
        sealed(session, study, slots=8)
        by = actor(session, study, Role.COORDINATOR)
        people = [participant(session, study, number, site) for number, site in enumerate(("SYD", "PER", "PER"), 1)]
    baseline = baseline_entries(study.definition)[0][0]
    mapping = FileMapping(participant="who", visit=Source(column="at"), randomise_after=baseline)
    passes: list[int] = []

    def another() -> None:
        with database.writing() as session:
            randomise(session, study, people[2], by=by, now=NOW)

    other = threading.Thread(target=another)

    def read() -> Any:
        passes.append(0)
        for each in people[:2]:
            if each is people[1] and len(passes) == 2:  # the first is randomised by now
                other.start()
                other.join(0.3)
            yield {"who": each.code, "at": baseline}

    with database.writing() as session:
        asked: dict[str, Any] = {"origin": Origin("a.csv", "0"), "dry_run": False, "all_or_nothing": all_or_nothing}
        report = carry_out(session, study, Rows(read), mapping, **asked, by=by, now=NOW)
    other.join(60)
    assert (report.imported, report.counts["changed"], report.counts["refused"]) == (True, 2, 0)
    with database.reading() as session:
        assert check_history(session, study.id) == 3
