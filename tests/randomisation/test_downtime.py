"""Slots reserved for downtime: nobody online gets them, paper opens them one at a time, and each is settled once."""

import base64
import json
import math
import runpy
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.audit.newest import Newest
from app.audit.verify import verify
from app.foundation.backup import backup, restore
from app.foundation.crypto.envelopes import CannotOpen
from app.foundation.crypto.packs import ALPHABET, Pack, as_read, new_code, new_passphrase
from app.foundation.database import Database, table_of
from app.foundation.errors import Invalid, NotAllowed, NotFound, Problem, Refused
from app.mail.models import OutboxMail
from app.participants.models import Participant
from app.participants.status import Status
from app.people.access import Actor
from app.people.models import Site
from app.people.permissions import Role
from app.randomisation import reads
from app.randomisation.actions import close, open_plan, randomise
from app.randomisation.downtime.actions import MadePack, close_pack, enter, make_pack, void_slip
from app.randomisation.downtime.reads import pack_of, packs, slips
from app.randomisation.downtime.rules import Settled, bound_to, slip_name, slip_of, stratum_words, why_not_next
from app.randomisation.downtime.status import SlotState
from app.randomisation.models import Allocation, Stratum
from app.randomisation.opening import PACK, RESERVED, SLOT, open_envelope
from app.schedule.models import ParticipantVisit
from app.studies.in_use import StudyInUse
from tests.randomisation.small import ARMS, BY_PAIN, definition
from tests.randomisation.test_commitment import SCRIPT, _run, _write, every_flip_is_found
from tests.randomisation.test_concurrency import at_once
from tests.randomisation.world import NOW, actor, participant, sealed, study_of

ALLOCATION, STRATUM, MAIL = table_of(Allocation), table_of(Stratum), table_of(OutboxMail)
VISIT, SITE = table_of(ParticipantVisit), table_of(Site)
LATER = NOW + timedelta(hours=5)
BACK = NOW + timedelta(days=2)


class AtSydney:
    """A study with a sealed list, the people at Sydney, and the statistician."""

    def __init__(self, session: Session, *, study: StudyInUse | None = None, slots: int = 20) -> None:
        self.session = session
        self.study = study or study_of(session)
        self.sequence = sealed(session, self.study, slots=slots)
        self.statistician = actor(session, self.study, Role.STATISTICIAN, name="sara")
        self.coordinator = actor(session, self.study, Role.COORDINATOR, "SYD")
        self.clinician = actor(session, self.study, Role.CLINICIAN, "SYD")
        self.people = 0

    def person(self, site: str = "SYD", nrs: int = 5) -> Participant:
        self.people += 1
        return participant(self.session, self.study, self.people, site, nrs)

    def pack(self, slots: int = 3, site: str = "SYD", why: str = "Power cuts are announced") -> MadePack:
        return make_pack(self.session, self.study, site=site, slots=slots, why=why, by=self.statistician, now=NOW)

    def online(self, person: Participant | None = None) -> int:
        person = person or self.person()
        randomise(self.session, self.study, person, by=self.coordinator, now=NOW)
        return self.position(person)

    def enter(self, slip: str, person: Participant | None = None, **told: Any) -> Participant:
        person = person or self.person()
        said: dict[str, Any] = {"at": LATER, "used_by": "Nurse Nora", "by": self.coordinator, "now": BACK, **told}
        enter(self.session, self.study, person, slip=slip, **said)
        return person

    def void(self, number: int, why: str = "Coffee on it", by: Actor | None = None) -> None:
        void_slip(self.session, self.study, 1, number, why=why, by=by or self.statistician, now=BACK)

    def close(self, why: str = "The server is back; slips destroyed") -> int:
        return close_pack(self.session, self.study, 1, why=why, by=self.statistician, now=BACK)

    def position(self, person: Participant) -> int:
        query = select(SLOT.c.position).join(ALLOCATION, ALLOCATION.c.slot_id == SLOT.c.id)
        found = self.session.execute(query.where(ALLOCATION.c.participant_id == person.id)).scalar_one()
        return int(found)

    def arm(self, person: Participant) -> str:
        return open_envelope(self.session, self.study, person, by=self.clinician, why="To treat", now=BACK)

    def states(self) -> list[str]:
        return [each.state for each in slips(self.session, self.study, 1, by=self.statistician)]

    def logged(self, action: str) -> list[Any]:
        query = select(ENTRY).where(ENTRY.c.log == self.study.code, ENTRY.c.action == action)
        return list(self.session.execute(query.order_by(ENTRY.c.position)).all())


@pytest.fixture
def site(session: Session) -> AtSydney:
    return AtSydney(session)


def opened(made: MadePack, name: str, *, passphrase: str | None = None, code: str | None = None) -> str:
    """What the file says for one slip, as somebody at the site would learn it."""
    slip = next(each for each in made.slips if each.name == name)
    content = made.content
    pack = Pack.opened(passphrase or made.passphrase, bytes.fromhex(content["passphrase"]["salt"]))
    for stratum in content["strata"]:
        for slot in stratum["slots"]:
            if slip_name(made.number, slot["number"]) == name:
                place = bound_to(content["study"], made.number, stratum["code"], slot["number"])
                return pack.open(code or slip.code, base64.b64decode(slot["sealed"]), bound_to=place).decode()
    raise AssertionError(name)


# Making a pack


@pytest.mark.requirement("E9-3", "REL-1")
def test_reserved_slots_are_taken_out_of_the_list_and_nothing_online_gives_them(site: AtSydney):
    assert site.online() == 1
    site.pack(3)
    assert [site.online(), site.online()] == [5, 6]
    used = {
        row.code: row.used
        for row in site.session.execute(select(STRATUM).where(STRATUM.c.sequence_id == site.sequence.id))
    }
    assert used == {"SYD": 6, "PER": 0}, "only the strata of the site"


@pytest.mark.requirement("CONC-3")
def test_a_slip_opens_its_own_arm_with_both_the_passphrase_and_its_code_and_no_other_way(site: AtSydney):
    made = site.pack(3)
    arms = [opened(made, slip.name) for slip in made.slips]
    assert set(arms) <= {str(arm["code"]) for arm in ARMS}
    people = [site.enter(f"1-0{number}") for number in (1, 2, 3)]
    assert [site.arm(person) for person in people] == arms, "the arm on paper is the arm that was committed to"
    for wrong in ({"passphrase": new_passphrase()}, {"code": made.slips[1].code}, {"code": new_code()}):
        with pytest.raises(CannotOpen):
            opened(made, "1-01", **wrong)


def test_codes_are_read_as_people_write_them(site: AtSydney):
    made = site.pack(1)
    sloppy = made.slips[0].code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert opened(made, "1-01", code=sloppy, passphrase=made.passphrase.lower()) in {str(arm["code"]) for arm in ARMS}


@given(st.text())
def test_what_is_read_from_paper_is_in_the_alphabet(typed: str):
    assert set(as_read(typed)) <= set(ALPHABET)
    assert as_read(as_read(typed)) == as_read(typed)


@pytest.mark.requirement("SEC-37")
def test_a_passphrase_has_100_bits_and_a_code_80():
    assert len(ALPHABET) == len(set(ALPHABET)) == 32
    for made, bits in ((new_passphrase(), 100), (new_code(), 80)):
        assert len(as_read(made)) * math.log2(len(ALPHABET)) == bits
    assert len({new_code() for _ in range(200)}) == 200


@pytest.mark.requirement("CONC-2")
def test_the_file_and_the_slips_say_nothing_of_the_arms_by_themselves(site: AtSydney):
    made = site.pack(6)
    sizes = Counter(len(slot["sealed"]) for each in made.content["strata"] for slot in each["slots"])
    assert list(sizes.values()) == [6]
    told = json.dumps({**made.content, "arms": None}) + repr(made.slips)
    assert not [arm for arm in ARMS if str(arm["code"]) in told or str(arm["label"]) in told]


@pytest.mark.requirement("P11-e1")
def test_every_envelope_that_is_opened_for_a_pack_and_its_making_is_an_entry(site: AtSydney):
    made = site.pack(2)
    assert [(row.subject, row.participant, row.why) for row in site.logged("envelope.opened")] == [
        ("downtime/1-01", "", "Power cuts are announced"),
        ("downtime/1-02", "", "Power cuts are announced"),
    ]
    (entry,) = site.logged("downtime_pack.made")
    assert (entry.subject, json.loads(entry.new)["site"]) == ("downtime/1", "SYD")
    secret = [made.passphrase, as_read(made.passphrase), *(slip.code for slip in made.slips)]
    everything = repr(site.session.execute(select(ENTRY)).all()) + repr(site.session.execute(select(PACK)).all())
    assert not [each for each in secret if each in everything]
    assert not verify(site.session, site.study.code).faults


def test_slips_are_numbered_through_the_strata_of_the_site_in_words(session: Session):
    study = study_of(
        session,
        definition(allocation={"method": "permuted_blocks", "strata": [{"code": "site", "label": "Site"}, BY_PAIN]}),
    )
    site = AtSydney(session, study=study)
    made = site.pack(2)
    assert [(slip.name, slip.stratum) for slip in made.slips] == [
        ("1-01", "Sydney, Severity: High"),
        ("1-02", "Sydney, Severity: High"),
        ("1-03", "Sydney, Severity: Low"),
        ("1-04", "Sydney, Severity: Low"),
    ]
    assert made.content["title"] == "SMALL"


def test_a_study_without_strata_has_one():
    study = definition(allocation={"method": "permuted_blocks"})
    assert stratum_words(study, "SYD", "Sydney") == {"all": "Sydney"}


@pytest.mark.parametrize(
    ("told", "field", "words"),
    [
        ({"slots": 0}, "slots", "Reserve 1 to 50"),
        ({"slots": 51}, "slots", "Reserve 1 to 50"),
        ({"slots": 30}, "slots", "slots left. Reserve fewer"),
        ({"site": "MEL"}, "site", "Choose one of the sites"),
        ({"why": " "}, "why", "Say why"),
    ],
)
def test_what_cannot_be_reserved_is_said_at_its_field(site: AtSydney, told: Any, field: str, words: str):
    before = site.session.execute(select(STRATUM.c.used)).all()
    with pytest.raises(Invalid, match=words) as problem:
        site.pack(**told)
    assert [each.field for each in problem.value.problems] == [field]
    assert site.session.execute(select(STRATUM.c.used)).all() == before


def test_a_site_has_one_open_pack_and_others_may_have_theirs(site: AtSydney):
    site.pack(1)
    with pytest.raises(Refused, match="Sydney has pack 1, which is not closed"):
        site.pack(1)
    assert site.pack(1, "PER").number == 2
    site.close()
    assert site.pack(1).number == 3


def test_nothing_is_reserved_without_a_sealed_list(session: Session):
    study = study_of(session)
    statistician = actor(session, study, Role.STATISTICIAN)
    with pytest.raises(Refused, match="Seal one first"):
        make_pack(session, study, site="SYD", slots=1, why="Power", by=statistician, now=NOW)


@pytest.mark.requirement("E9-2", "CONC-4")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.STATISTICIAN])
def test_for_everybody_else_there_are_no_packs(site: AtSydney, role: Role):
    site.pack(1)
    other = actor(site.session, site.study, role, "SYD", name="other")
    for ask in (
        lambda: make_pack(site.session, site.study, site="PER", slots=1, why="Power", by=other, now=NOW),
        lambda: packs(site.session, site.study, by=other),
        lambda: pack_of(site.session, site.study, 1, by=other),
        lambda: slips(site.session, site.study, 1, by=other),
        lambda: site.void(1, by=other),
        lambda: close_pack(site.session, site.study, 1, why="Over", by=other, now=NOW),
    ):
        with pytest.raises(NotFound):
            ask()


# Entering what happened


@pytest.mark.requirement("E9-3", "P11-f")
def test_a_slip_makes_the_next_allocation_on_the_day_on_which_it_was_used(site: AtSydney):
    site.pack(2)
    site.online()
    person = site.enter("1-01")
    row = site.session.execute(select(ALLOCATION).where(ALLOCATION.c.participant_id == person.id)).one()
    assert (row.number, row.allocated_at, row.allocated_by) == (2, LATER, site.coordinator.username)
    assert site.position(person) == 1
    assert (person.status, person.randomised_at, str(person.randomised_on)) == ("randomised", LATER, "2026-03-15")
    visits = site.session.execute(select(VISIT.c.target_on).where(VISIT.c.participant_id == person.id)).scalars()
    assert sorted(map(str, visits)) == ["2026-03-22", "2026-03-29"], "counted from that day at the site"
    entry = site.logged("participant.randomised")[-1]
    assert json.loads(entry.new) == {
        "allocation": 2,
        "at": LATER.isoformat(),
        "by": "Nurse Nora",
        "on": "2026-03-15",
        "slip": "1-01",
        "status": "randomised",
        "stratum": "SYD",
    }
    mail = site.session.execute(select(MAIL).where(MAIL.c.key.contains("|2|"))).one()
    assert person.code in mail.body
    assert site.states() == ["used", "reserved"]


def test_what_was_not_in_place_is_recorded_with_the_reason_and_not_refused(site: AtSydney):
    site.pack(2)
    person = site.person()
    site.session.execute(SITE.update().where(SITE.c.code == "SYD").values(is_open=False))
    site.session.execute(
        update(table_of(Participant)).where(table_of(Participant).c.id == person.id).values(status="screen_failed")
    )
    with pytest.raises(Invalid, match=r"is not eligible.*Enter what was done on paper first") as problem:
        site.enter("1-01", person)
    assert [each.field for each in problem.value.problems] == ["deviation"]
    site.enter("1-01", person, deviation="The age was misread on paper")
    entry = site.logged("participant.randomised")[-1]
    assert entry.why == "The age was misread on paper"
    assert set(json.loads(entry.new)["not_met"]) == {"eligible", "site_open"}
    assert person.status == Status.RANDOMISED


def test_a_slip_of_another_stratum_is_a_deviation(session: Session):
    plan = {"method": "permuted_blocks", "strata": [{"code": "site", "label": "Site"}, BY_PAIN]}
    site = AtSydney(session, study=study_of(session, definition(allocation=plan)))
    site.pack(1)
    person = site.person(nrs=5)  # low, and slip 1-01 is of the high
    with pytest.raises(Invalid, match="of another stratum"):
        site.enter("1-01", person)
    site.enter("1-01", person, deviation="Taken from the wrong sheet")
    said = json.loads(site.logged("participant.randomised")[-1].new)
    assert (said["stratum"], set(said["not_met"])) == ("SYD/high", {"stratum"})


def test_somebody_who_has_withdrawn_since_stays_withdrawn_and_is_counted(site: AtSydney):
    site.pack(1)
    person = site.person()
    table = table_of(Participant)
    site.session.execute(
        update(table).where(table.c.id == person.id).values(status="withdrawn", withdrawn_on=BACK.date())
    )
    site.enter("1-01", person, deviation="Withdrew the day after")
    row = site.session.execute(select(table).where(table.c.id == person.id)).one()
    assert (row.status, row.randomised_at) == ("withdrawn", LATER)
    assert reads.allocation_of(site.session, row.id)
    assert not site.session.execute(select(VISIT).where(VISIT.c.participant_id == row.id)).all()


@pytest.mark.requirement("CONC-11")
def test_no_reason_of_a_pack_or_a_slip_names_an_arm(site: AtSydney):
    site.pack(3)
    told: dict[str, Any] = {"by": site.statistician, "now": NOW, "why": "Their sham devices are broken"}
    for act in (
        lambda: site.void(1, why=told["why"]),
        lambda: close_pack(site.session, site.study, 1, **told),
        lambda: make_pack(site.session, site.study, site="SYD", slots=1, **told),
    ):
        with pytest.raises(Invalid, match="it names an arm"):
            act()


@pytest.mark.requirement("E9-3")
def test_slips_are_entered_in_their_order(site: AtSydney):
    site.pack(3)
    with pytest.raises(Refused, match="an earlier one is not yet entered"):
        site.enter("1-02")
    with pytest.raises(Refused, match="an earlier one is not yet entered"):
        site.void(2)
    site.enter("1-01")
    site.void(2)
    site.enter("1-03")
    assert site.states() == ["used", "void", "used"]
    for slip, words in (("1-01", "entered already"), ("1-02", "never used")):
        with pytest.raises(Refused, match=words):
            site.enter(slip)
    with pytest.raises(Refused, match="entered already"):
        site.void(3)


STATES = st.lists(st.sampled_from(list(SlotState)), min_size=1, max_size=12)


@given(STATES, st.integers(1, 14))
def test_a_slip_may_be_settled_exactly_when_all_in_front_of_it_are(states: list[SlotState], number: int):
    order = [Settled(at, state) for at, state in enumerate(states, start=1)]
    first = next((slot.number for slot in order if slot.state == SlotState.RESERVED), None)
    assert (why_not_next(order, number, "1-01") is None) == (number == first)


@pytest.mark.parametrize(
    ("told", "field", "words"),
    [
        ({"slip": "9-01"}, "slip", "no open slip"),
        ({"slip": "1-09"}, "slip", "no open slip"),
        ({"slip": "the first"}, "slip", "no open slip"),
        ({"slip": "1-1" + "0" * 40}, "slip", "no open slip"),
        ({"at": BACK + timedelta(hours=1)}, "at", "has not come yet"),
        ({"at": NOW - timedelta(minutes=2)}, "at", "before the slips were printed"),
        ({"used_by": " "}, "used_by", "Say who"),
        ({"used_by": "x" * 121}, "used_by", "Shorten"),
        ({"deviation": "x" * 2001}, "deviation", "Shorten"),
    ],
)
def test_what_cannot_be_so_is_said_at_its_field(site: AtSydney, told: dict[str, Any], field: str, words: str):
    site.pack(1)
    with pytest.raises(Invalid, match=words) as problem:
        site.enter(**{"slip": "1-01", **told})
    assert [each.field for each in problem.value.problems] == [field]
    assert site.states() == ["reserved"]


def test_a_slip_is_not_used_before_the_one_in_front_of_it(site: AtSydney):
    site.pack(2)
    site.enter("1-01")
    with pytest.raises(Invalid, match="before the slip in front of it"):
        site.enter("1-02", at=LATER - timedelta(minutes=1))


def test_slips_are_written_in_several_ways():
    assert [slip_of(text) for text in ("1-07", " 12 – 3 ", "1/7", "7", "1-2-3", "", "²-1")] == [
        (1, 7),
        (12, 3),
        (1, 7),
        None,
        None,
        None,
        None,
    ]


@pytest.mark.requirement("REL-1")
def test_nobody_is_randomised_twice_on_paper_and_here(site: AtSydney):
    site.pack(2)
    person = site.enter("1-01")
    for again in (
        lambda: site.enter("1-02", person),
        lambda: randomise(site.session, site.study, person, by=site.coordinator, now=BACK),
    ):
        with pytest.raises(Refused, match=r"randomised already|already randomised"):
            again()
    assert site.states() == ["used", "reserved"]


@pytest.mark.requirement("REL-17")
def test_no_slip_is_entered_in_a_database_that_was_put_back_from_a_backup(site: AtSydney):
    site.pack(1)
    with pytest.raises(Refused, match="put back from a backup"):
        site.enter("1-01", newest=Newest(site.study.code, 9999, "00" * 32))
    assert site.states() == ["reserved"]


@pytest.mark.requirement("RND-12")
def test_a_list_with_reserved_slots_is_not_replaced(site: AtSydney):
    site.pack(1)
    with pytest.raises(Refused, match="slots of it are reserved"):
        sealed(site.session, site.study, slots=8)


@pytest.mark.requirement("SEC-20")
def test_slips_are_entered_at_their_site_by_those_who_randomise(site: AtSydney):
    site.pack(1)
    with pytest.raises(Invalid, match="no open slip"):
        site.enter("1-01", site.person("PER"), by=actor(site.session, site.study, Role.COORDINATOR, "PER"))
    for role in (Role.CLINICIAN, Role.ASSESSOR, Role.STATISTICIAN, Role.DATA_MANAGER):
        with pytest.raises(NotAllowed):
            site.enter("1-01", by=actor(site.session, site.study, role, "SYD", name=f"other_{role}"))
    site.enter("1-01", by=actor(site.session, site.study, Role.INVESTIGATOR, "SYD"))


# Closing


def test_closing_voids_what_is_left_for_good(site: AtSydney):
    site.pack(3)
    site.enter("1-01")
    assert site.close() == 2
    assert site.states() == ["used", "void", "void"]
    assert [row.subject for row in site.logged("downtime_slot.voided")] == ["downtime/1-02", "downtime/1-03"]
    assert {row.why for row in site.logged("downtime_pack.closed")} == {"The server is back; slips destroyed"}
    for late in (site.close, lambda: site.enter("1-02"), lambda: site.void(2)):
        with pytest.raises(Problem):
            late()
    assert site.online() == 4, "a void slot is never used again"


def test_a_list_is_not_closed_while_a_pack_is_open(site: AtSydney):
    site.pack(1)
    with pytest.raises(Refused, match="Pack 1 for downtime is not closed"):
        close(site.session, site.study, site.sequence.id or 0, why="Full", by=site.statistician, now=BACK)
    site.close()
    close(site.session, site.study, site.sequence.id or 0, why="Full", by=site.statistician, now=BACK)


def test_voiding_and_closing_say_why(site: AtSydney):
    site.pack(1)
    for act in (lambda: site.void(1, why=" "), lambda: site.close(why="")):
        with pytest.raises(Invalid, match="Say why"):
            act()
    with pytest.raises(NotFound):
        site.void(7)
    with pytest.raises(NotFound):
        close_pack(site.session, site.study, 7, why="Over", by=site.statistician, now=BACK)


# What the database itself refuses


def _refuses(session: Session, statement: Any, words: str) -> None:
    with pytest.raises(DBAPIError, match=words), session.begin_nested():
        session.execute(statement)


@pytest.mark.requirement("SEC-9", "E9-3")
def test_no_slot_is_both_allocated_and_void_or_reserved_whoever_writes(site: AtSydney):
    site.online()
    site.pack(3)
    site.enter("1-01")
    site.void(2)
    rows = site.session.execute(select(RESERVED).order_by(RESERVED.c.number)).all()
    other = site.person()

    def allocation(slot_id: int) -> Any:
        return insert(ALLOCATION).values(
            study_id=site.study.id,
            number=99,
            participant_id=other.id,
            slot_id=slot_id,
            stratum_id=rows[0].stratum_id,
            allocated_at=NOW,
            allocated_by="mallory",
        )

    for row in rows[1:]:  # void, and still reserved
        _refuses(site.session, allocation(row.slot_id), "reserved or void is not allocated")
    settled = {"settled_at": NOW, "settled_by": "mallory", "reason": "So"}
    none = {"participant_id": None, "used_at": None, "used_by": None}
    used_now_void = RESERVED.update().where(RESERVED.c.id == rows[0].id).values(state="void", **settled, **none)
    _refuses(site.session, used_now_void, r"settled once|neither reserved nor void")
    void_now_reserved = RESERVED.update().where(RESERVED.c.id == rows[1].id)
    _refuses(site.session, void_now_reserved.values(state="reserved", settled_at=None, settled_by=None), "settled once")
    online = site.session.execute(select(ALLOCATION.c.slot_id).order_by(ALLOCATION.c.number)).scalars().first()
    for state in ("void", "reserved"):
        new = {"pack_id": rows[0].pack_id, "stratum_id": rows[0].stratum_id, "slot_id": online, "number": 50}
        values = {**new, "state": state, **(settled if state == "void" else {})}
        _refuses(site.session, insert(RESERVED).values(**values), "neither reserved nor void")
    for statement, words in (
        (RESERVED.delete(), "never given back"),
        (PACK.delete(), "never removed"),
        (RESERVED.update().where(RESERVED.c.id == rows[2].id).values(number=77), "settled once"),
        (PACK.update().values(made_by="mallory"), "never changed"),
    ):
        _refuses(site.session, statement, words)


@pytest.mark.requirement("SEC-9")
def test_a_slot_is_not_used_without_its_allocation(database: Database):
    with database.writing() as session:
        site = AtSydney(session)
        site.pack(1)
        person = site.person()
    used = {"state": "used", "participant_id": person.id, "used_at": NOW, "used_by": "m"}
    without = RESERVED.update().values(**used, settled_at=NOW, settled_by="m")

    def write() -> None:
        with database.writing() as session:
            session.execute(without)

    with pytest.raises(DBAPIError):  # at the commit
        write()
    with database.reading() as session:
        assert session.execute(select(RESERVED.c.state)).scalars().all() == ["reserved"]


# At once


@pytest.mark.requirement("REL-1", "REL-2", "REL-13", "E9-3")
def test_packs_online_and_paper_at_the_same_moment_give_every_slot_once(database: Database):
    """Some are randomised here while one makes packs, enters slips and closes them: no slot twice, none skipped."""
    with database.writing() as session:
        site = AtSydney(session, slots=60)
        online = [[site.person() for _ in range(6)] for _ in range(4)]
        paper = [site.person() for _ in range(6)]

    def here(people: Sequence[Participant]) -> Any:
        def work() -> None:
            for person in people:
                with database.writing() as session:
                    randomise(session, site.study, person, by=site.coordinator, now=NOW)

        return work

    def away() -> None:
        for number, pair in enumerate(zip(paper[::2], paper[1::2], strict=True), start=1):
            with database.writing() as session:
                make_pack(session, site.study, site="SYD", slots=3, why="Power", by=site.statistician, now=NOW)
            for slip, person in enumerate(pair, start=1):
                with database.writing() as session:
                    enter(
                        session,
                        site.study,
                        person,
                        slip=f"{number}-{slip}",
                        at=LATER,
                        used_by="Nora",
                        by=site.coordinator,
                        now=BACK,
                    )
            with database.writing() as session:
                assert close_pack(session, site.study, number, why="Back", by=site.statistician, now=BACK) == 1

    at_once(*map(here, online), away)
    with database.reading() as session:
        assert not verify(session, site.study.code).faults
        rows = session.execute(select(ALLOCATION.c.number, SLOT.c.position).join(SLOT)).all()
        void = session.execute(
            select(SLOT.c.position).join(RESERVED, RESERVED.c.slot_id == SLOT.c.id).where(RESERVED.c.state == "void")
        ).scalars()
        taken = [*(row.position for row in rows), *void]
        used = session.execute(select(STRATUM.c.used).where(STRATUM.c.code == "SYD")).scalar_one()
    assert sorted(row.number for row in rows) == list(range(1, 31))
    assert sorted(taken) == list(range(1, 34)) == list(range(1, used + 1))


@pytest.mark.requirement("REL-1")
def test_one_slip_entered_twice_at_the_same_moment_is_one_allocation(database: Database):
    with database.writing() as session:
        site = AtSydney(session)
        site.pack(1)
        people = [site.person() for _ in range(4)]
    outcomes: list[str] = []

    def press(person: Participant) -> Any:
        def work() -> None:
            try:
                with database.writing() as session:
                    site.session = session
                    enter(
                        session, site.study, person, slip="1-01", at=LATER, used_by="N", by=site.coordinator, now=BACK
                    )
            except Refused as refused:
                outcomes.append(refused.reason)
            else:
                outcomes.append("made")

        return work

    at_once(*map(press, people))
    assert outcomes.count("made") == 1
    assert sum("entered already" in each for each in outcomes) == 3


# Proofs, and copies


@pytest.mark.requirement("RND-14", "CONC-9")
def test_the_verifier_counts_reserved_used_and_void_slots_and_finds_any_other_gap(site: AtSydney, tmp_path: Path):
    site.online()
    site.pack(3)
    site.online()

    def told() -> tuple[Any, list[dict[str, Any]]]:
        found = reads.proofs(site.session, site.study, site.sequence.id or 0, by=site.statistician, why="A", now=BACK)
        return reads.certificate(site.session, site.study, site.sequence.id or 0, by=site.statistician), list(found)

    certificate, proofs = told()
    _write(tmp_path, certificate, proofs)
    during = _run(tmp_path, "certificate", "proofs")
    assert during.returncode == 0, during.stdout + during.stderr
    assert "Downtime pack 1: 0 used, 0 void, 3 still reserved" in during.stdout
    site.enter("1-01")
    site.void(2)
    site.online()
    site.close()
    certificate, proofs = told()
    voided = [proof for proof in proofs if "voided" in proof]
    assert voided == [
        {"stratum": "SYD", "position": 3, "pack": 1, "voided": "Coffee on it"},
        {"stratum": "SYD", "position": 4, "pack": 1, "voided": "The server is back; slips destroyed"},
    ]
    close(site.session, site.study, site.sequence.id or 0, why="Full", by=site.statistician, now=BACK)
    plan = open_plan(site.session, site.study, site.sequence.id or 0, by=site.statistician, now=BACK)
    _write(tmp_path, certificate, proofs, plan)
    after = _run(tmp_path, "certificate", "proofs", "plan")
    assert after.returncode == 0, after.stdout + after.stderr
    assert "4 allocations, each the committed next one" in after.stdout
    assert "Downtime pack 1: 1 used, 2 void, 0 still reserved" in after.stdout
    files = [tmp_path / name for name in ("certificate", "proofs", "plan")]
    every_flip_is_found(runpy.run_path(str(SCRIPT))["main"], files)

    paper = next(at for at, proof in enumerate(proofs) if "arm" in proof and "pack" in proof)
    lines = list(enumerate(proofs))
    bent = {
        "a void slot left out": [proof for proof in proofs if proof is not voided[0]],
        "all void slots left out": [proof for proof in proofs if "voided" not in proof],
        "void without a reason": [{**proof, "voided": ""} if "voided" in proof else proof for proof in proofs],
        "void without a pack": [
            {key: value for key, value in proof.items() if key != "pack" or "arm" in proof} for proof in proofs
        ],
        "a used slot called void": [
            *proofs,
            {"stratum": "SYD", "position": proofs[0]["position"], "pack": 1, "voided": "So"},
        ],
        "a slot of paper said to be given here": [
            {key: value for key, value in proof.items() if at != paper or key != "pack"} for at, proof in lines
        ],
        "a void slot that is not on the list": [*proofs, {"stratum": "SYD", "position": 99, "pack": 1, "voided": "So"}],
        "a far slot called void": [*proofs, {"stratum": "SYD", "position": 9, "pack": 1, "voided": "So"}],
    }
    given = [at for at, proof in lines if "arm" in proof and "pack" not in proof]
    swapped = list(proofs)
    for at, other in zip(given[-2:], reversed(given[-2:]), strict=True):
        told_of = {name: proofs[at][name] for name in ("number", "allocated_at")}
        swapped[at] = {**proofs[other], **told_of}
    bent["two that were given here, in the other order"] = swapped
    bent["a void slot said to be of another pack"] = [
        {**proof, "pack": 2} if proof is voided[0] else proof for proof in proofs
    ]
    for what, changed in bent.items():
        _write(tmp_path, certificate, changed, plan)
        found = _run(tmp_path, "certificate", "proofs", "plan")
        assert found.returncode == 1, f"{what}: {found.stdout}{found.stderr}"


@pytest.mark.requirement("REL-3")
def test_packs_are_in_a_backup_and_come_back_with_their_guards(database: Database, templates: Any, tmp_path: Path):
    with database.writing() as session:
        site = AtSydney(session)
        site.pack(3)
        site.enter("1-01")
        site.void(2)
    backup(database, tmp_path / "b.zip", now=BACK)
    fresh = tmp_path / "fresh.db"
    fresh.write_bytes(Path(str(templates("sqlite").url.database)).read_bytes())
    other = Database(f"sqlite:///{fresh}", database.keys)
    restore(other, tmp_path / "b.zip")
    with other.writing() as session:
        found = slips(session, site.study, 1, by=site.statistician)
        assert [each.state for each in found] == ["used", "void", "reserved"]
        assert not verify(session, site.study.code).faults
        assert close_pack(session, site.study, 1, why="Back", by=site.statistician, now=BACK) == 1
    other.dispose()
