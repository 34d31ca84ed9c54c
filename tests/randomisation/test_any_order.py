"""Whatever people do, in whatever order and by whatever clock: one slot each, in order, and a log that says so."""

import re
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, select
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT
from app.audit.verify import verify
from app.capture.actions import save_entry
from app.capture.reads import entry_of
from app.foundation.errors import Problem
from app.participants.actions import withdraw
from app.participants.identity import PARTICIPANT
from app.participants.models import Participant
from app.people.permissions import Role
from app.randomisation.actions import randomise
from app.randomisation.reads import SLOT, allocation_of
from app.schedule.actions import open_visits
from tests.conftest import KEYS
from tests.durability.world import check_slots
from tests.randomisation.world import CONSENTED, NOW, actor, participant, sealed, study_of

DEEP = settings.get_current_profile_name() == "deep"
SITES = ("SYD", "PER")
CODE = re.compile(r"P-\d+")
people = st.integers(0, 50)
sites = st.sampled_from(SITES)


class AnyOrder(RuleBasedStateMachine):
    """A trial of two sites with few slots each, and what must be true of it, told beside it."""

    def __init__(self, engine: Engine, met: Counter[str]) -> None:
        super().__init__()
        self.met = met
        self.connection = engine.connect()
        self.outer = self.connection.begin()
        self.session = Session(self.connection, join_transaction_mode="create_savepoint", info={"keys": KEYS})
        self.now: datetime = NOW
        self.codes: list[str] = []
        self.at: dict[str, str] = {}
        self.numbers: dict[str, int] = {}
        self.left: set[str] = set()
        self.saved: dict[str, int] = defaultdict(int)

    @initialize(size=st.sampled_from([2, 4]))
    def a_list_is_sealed(self, size: int) -> None:
        self.study = study_of(self.session)
        sealed(self.session, self.study, slots=size, sizes=(size,))
        self.slots = size
        self.by = {
            place: actor(self.session, self.study, Role.COORDINATOR, place, name=f"coordinator_{place}")
            for place in SITES
        }
        for place in SITES * 2:
            self.somebody_comes(place, 5)

    def one(self, number: int) -> Participant:
        code = self.codes[number % len(self.codes)]
        found = self.session.execute(select(Participant).where(PARTICIPANT.c.code == code)).scalar_one()
        assert isinstance(found, Participant)
        return found

    def tried(self, name: str, what: Any) -> Any:
        """What was answered, or None when it was refused; then nothing of it stays."""
        point = self.session.begin_nested()
        try:
            answer = what()
        except Problem as problem:
            point.rollback()
            self.session.expire_all()
            self.met[f"{name}, refused: {re.sub(CODE, 'somebody', problem.reason)[:25]}"] += 1
            return None
        point.commit()
        self.met[name] += 1
        return answer

    @rule(place=sites, nrs=st.integers(0, 10))
    def somebody_comes(self, place: str, nrs: int) -> None:
        made = participant(self.session, self.study, len(self.codes) + 1, place, nrs)
        self.codes.append(made.code)
        self.at[made.code] = place
        by = self.by[place]
        open_visits(self.session, self.study, made, anchor="consent", on=CONSENTED, by=by, now=self.now)

    @precondition(lambda self: self.codes)
    @rule(number=people, elsewhere=st.sampled_from([False] * 5 + [True]))
    def is_randomised(self, number: int, elsewhere: bool) -> None:
        person = self.one(number)
        place, code = self.at[person.code], person.code
        theirs = [each for each in self.numbers if self.at[each] == place]
        by = self.by[SITES[SITES.index(place) - 1] if elsewhere else place]
        made = self.tried("randomise", lambda: randomise(self.session, self.study, person, by=by, now=self.now))
        if elsewhere or code in self.left or (len(theirs) == self.slots and code not in self.numbers):
            assert made is None, "the person, or the list, cannot"
        elif code not in self.numbers:
            assert made is not None
            assert made.number == len(self.numbers) + 1
            self.numbers[code] = made.number
        elif made is not None:
            assert made.number == self.numbers[code], "whoever asks again has what they had"

    @precondition(lambda self: set(self.codes) - set(self.numbers) - self.left)
    @rule()
    def whoever_waits_is_randomised(self) -> None:
        waiting = [code for code in self.codes if code not in self.numbers and code not in self.left]
        self.is_randomised(self.codes.index(waiting[0]), False)

    @precondition(lambda self: len(self.codes) > 2 * len(self.left))  # or hardly anybody would be randomised
    @rule(number=people)
    def withdraws(self, number: int) -> None:
        person = self.one(number)
        code, by = person.code, self.by[self.at[person.code]]
        done = self.tried(
            "withdraw",
            lambda: withdraw(
                self.session,
                self.study,
                person,
                level="visits",
                reason="Moved away",
                on=CONSENTED,
                by=by,
                now=self.now,
            ),
        )
        assert (done is None) == (code in self.left), "once, and for good"
        self.left.add(code)

    @precondition(lambda self: self.left)
    @rule(number=people, again=st.booleans())
    def whoever_left_comes_back(self, number: int, again: bool) -> None:
        gone = self.codes.index(sorted(self.left)[number % len(self.left)])
        if again:
            self.withdraws(gone)
        else:
            self.is_randomised(gone, False)

    @precondition(lambda self: self.codes)
    @rule(number=people, nrs=st.integers(0, 10), stale=st.booleans())
    def a_form_is_saved(self, number: int, nrs: int, stale: bool) -> None:
        person = self.one(number)
        assert person.id is not None
        before = entry_of(self.session, person.id, "baseline", "pain")
        assert before is not None
        saved = self.tried(
            "save",
            lambda: save_entry(
                self.session,
                self.study,
                person,
                visit="baseline",
                instrument="pain",
                values={"nrs": nrs},
                reasons={},
                base_version=before.version - stale,
                why="Read again",
                by=self.by[self.at[person.code]],
                now=self.now,
            ),
        )
        after = entry_of(self.session, person.id, "baseline", "pain")
        assert after is not None
        if saved is None:
            assert after == before
        else:
            self.saved[person.code] += after.version - before.version
            assert after.values == {"nrs": nrs}

    @rule(seconds=st.sampled_from([-55, -1, 0, 1, 3600, 90_000]))
    def the_clock_jumps(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def everybody_has_one_slot_in_order_for_good(self) -> None:
        if not hasattr(self, "slots"):
            return
        assert check_slots(self.session, self.study.id) == self.numbers
        for code, number in self.numbers.items():
            row = self.session.execute(select(PARTICIPANT.c.id).where(PARTICIPANT.c.code == code)).scalar_one()
            made = allocation_of(self.session, row)
            assert made is not None
            assert made.number == number

    def teardown(self) -> None:
        """At the end the log tells the same, and is whole."""
        try:
            if hasattr(self, "slots"):
                lines = self.session.execute(
                    select(AUDIT.c.action, AUDIT.c.participant).order_by(AUDIT.c.position)
                ).all()
                told = [line.participant for line in lines if line.action == "participant.randomised"]
                assert told == sorted(self.numbers, key=self.numbers.__getitem__)
                assert sum(line.action == "participant.withdrawn" for line in lines) == len(self.left)
                assert sum(line.action in ("entry.saved", "entry.corrected") for line in lines) == sum(
                    self.saved.values()
                )
                assert verify(self.session, "small").intact
                assert len(self.session.execute(select(SLOT.c.id)).all()) == 2 * self.slots
        finally:
            self.session.close()
            self.outer.rollback()
            self.connection.close()


@pytest.mark.requirement("REL-21", "REL-1", "REL-2", "REL-9", "E9-3", "CONC-9")
def test_any_order_leaves_one_slot_each_in_order(kind: str, shared: Any) -> None:
    engine, met = shared(kind).engine, Counter[str]()
    machine: Any = lambda: AnyOrder(engine, met)  # noqa: E731
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=300 if DEEP else 10 if kind == "sqlite" else 3,
            stateful_step_count=40 if DEEP else 20,
            derandomize=not DEEP,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
    # So that it was worth its time: everything was done, and most of what can be refused was.
    assert met["randomise"], met
    if kind == "sqlite":
        assert min(met["randomise"], met["withdraw"], met["save"]) > 2, met
        assert len(met) > 6, met
