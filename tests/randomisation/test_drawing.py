"""Drawing and sealing a list: what is kept, who may, and what nobody can find in it."""

import time
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from app.audit.models import AuditEntry
from app.foundation.crypto.envelopes import CannotOpen
from app.foundation.database import keys_of, table_of
from app.foundation.errors import Invalid, NotFound, Refused
from app.people.permissions import Role
from app.randomisation.actions import discard_draw, draw, randomise, seal
from app.randomisation.drbg import SEED_BYTES
from app.randomisation.methods import DRAWN
from app.randomisation.models import Slot, Stratum
from app.randomisation.reads import allocations, balance, sequences
from app.randomisation.sealing import Place, unseal_arm, unseal_secrets
from app.randomisation.sequence import draw as draw_again
from tests.randomisation.small import definition
from tests.randomisation.world import NOW, actor, participant, sealed, study_of

SLOT, STRATUM, AUDIT = table_of(Slot), table_of(Stratum), table_of(AuditEntry)
OTHERS = [role for role in Role if role is not Role.STATISTICIAN]


def drawn_in(session, study, by, **changes):
    options: dict[str, Any] = {"method": "permuted_blocks", "block_sizes": (2, 4), "slots_per_stratum": 10} | changes
    return draw(session, study, **options, by=by, now=NOW)


def test_a_drawn_list_has_a_stratum_per_site_and_every_block_whole(session: Session):
    study = study_of(session)
    made = drawn_in(session, study, actor(session, study, Role.STATISTICIAN))
    strata = session.execute(select(STRATUM).order_by(STRATUM.c.code)).all()
    assert [row.code for row in strata] == ["PER", "SYD"]
    assert all(row.slots >= 10 and row.used == 0 for row in strata)
    assert (made.version, made.status, made.slots) == (1, "drawn", sum(row.slots for row in strata))
    assert session.execute(select(func.count()).select_from(SLOT)).scalar() == made.slots


@pytest.mark.requirement("CONC-2", "CONC-3")
def test_every_envelope_has_one_length_and_none_is_like_another(session: Session):
    study = study_of(session)
    sealed(session, study)
    envelopes = [bytes(row.envelope) for row in session.execute(select(SLOT.c.envelope))]
    assert {len(envelope) for envelope in envelopes} == {12 + 4 + 64 + 16}
    assert len(set(envelopes)) == len(envelopes)
    assert len({envelope[:12] for envelope in envelopes}) == len(envelopes)


@pytest.mark.requirement("CONC-3")
def test_an_envelope_opens_in_its_own_place_only(session: Session):
    study = study_of(session)
    made = sealed(session, study)
    assert made.id is not None
    keys = keys_of(session)
    first, second = session.execute(
        select(SLOT.c.envelope, SLOT.c.position, STRATUM.c.code)
        .join(STRATUM, STRATUM.c.id == SLOT.c.stratum_id)
        .where(STRATUM.c.code == "SYD")
        .order_by(SLOT.c.position)
        .limit(2)
    ).all()
    own = Place(study.id, made.id, 1, "SYD", 1)
    assert unseal_arm(keys, own, bytes(first.envelope)) in {"graded_sensorimotor", "sham"}
    for place in (
        Place(study.id + 1, made.id, 1, "SYD", 1),
        Place(study.id, made.id + 1, 1, "SYD", 1),
        Place(study.id, made.id, 2, "SYD", 1),
        Place(study.id, made.id, 1, "PER", 1),
        Place(study.id, made.id, 1, "SYD", 2),
    ):
        with pytest.raises(CannotOpen):
            unseal_arm(keys, place, bytes(first.envelope))
    with pytest.raises(CannotOpen):
        unseal_arm(keys, own, bytes(second.envelope))


@pytest.mark.requirement("RND-10", "RND-14", "EMA-17")
def test_the_sealed_seed_draws_the_same_list_again(session: Session):
    study = study_of(session)
    made = sealed(session, study)
    assert made.id is not None
    kept = unseal_secrets(keys_of(session), study.id, 1, made.secrets)
    seed = bytes.fromhex(kept["seed"])
    assert len(seed) == SEED_BYTES
    again = draw_again(
        kept["method"],
        [(code, share) for code, share in kept["arms"]],
        ["SYD", "PER"],
        kept["slots_per_stratum"],
        {"block_sizes": kept["block_sizes"]},
        seed,
        study=kept["study"],
        list_version=kept["version"],
    )
    for row in session.execute(
        select(SLOT.c.envelope, SLOT.c.position, STRATUM.c.code).join(STRATUM, STRATUM.c.id == SLOT.c.stratum_id)
    ):
        place = Place(study.id, made.id, 1, row.code, row.position)
        assert unseal_arm(keys_of(session), place, bytes(row.envelope)) == again.slots[row.code][row.position - 1]


OPTIONS: dict[str, dict[str, Any]] = {
    "permuted_blocks": {"block_sizes": [2, 4]},
    "simple": {},
    "big_stick": {"tolerance": 3},
    "maximal_procedure": {"tolerance": 3},
    "wei_urn": {"alpha": 0, "beta": 1},
    "truncated_binomial": {},
    "biased_coin": {"probability": "2/3"},
}


@pytest.mark.requirement("RND-10", "RND-14", "CONC-4")
@pytest.mark.parametrize("method", DRAWN)
def test_what_is_sealed_with_a_list_of_any_method_draws_it_again(session: Session, method: str):
    study = study_of(session, definition(allocation={"method": method, "strata": [{"code": "site", "label": "Site"}]}))
    statistician = actor(session, study, Role.STATISTICIAN)
    made = draw(session, study, method=method, options=OPTIONS[method], slots_per_stratum=11, by=statistician, now=NOW)
    assert made.id is not None
    kept = unseal_secrets(keys_of(session), study.id, 1, made.secrets)
    again = draw_again(
        kept["method"],
        [(code, share) for code, share in kept["arms"]],
        ["PER", "SYD"],
        kept["slots_per_stratum"],
        kept["options"],
        bytes.fromhex(kept["seed"]),
        study=kept["study"],
        list_version=kept["version"],
    )
    rows = session.execute(
        select(SLOT.c.envelope, SLOT.c.position, STRATUM.c.code).join(STRATUM, STRATUM.c.id == SLOT.c.stratum_id)
    ).all()
    assert len(rows) == made.slots == sum(map(len, again.slots.values()))
    for row in rows:
        place = Place(study.id, made.id, 1, row.code, row.position)
        assert unseal_arm(keys_of(session), place, bytes(row.envelope)) == again.slots[row.code][row.position - 1]
    counts = balance(session, study, made.id, by=statistician)
    assert counts.correct is not None
    logged = " ".join(str(row.new) for row in session.execute(select(AUDIT.c.new)))
    assert not [name for name in OPTIONS[method] if name in logged]


@pytest.mark.requirement("RND-9", "CONC-4")
def test_the_log_keeps_the_digest_and_neither_seed_nor_length_nor_block_sizes(session: Session):
    study = study_of(session)
    made = sealed(session, study)
    kept = unseal_secrets(keys_of(session), study.id, 1, made.secrets)
    wanted = select(AUDIT.c.action, AUDIT.c.new).where(AUDIT.c.log == study.code).order_by(AUDIT.c.position)
    entries = session.execute(wanted).all()
    assert [entry.action for entry in entries] == ["sequence.drawn", "sequence.sealed"]
    everything = " ".join(entry.new for entry in entries)
    assert made.digest in everything
    assert kept["seed"] not in everything
    assert "slots" not in everything
    assert "block" not in everything


@pytest.mark.requirement("CONC-3")
def test_two_draws_with_the_same_options_have_nothing_in_common(session: Session):
    study = study_of(session)
    statistician = actor(session, study, Role.STATISTICIAN)
    one, other = drawn_in(session, study, statistician), drawn_in(session, study, statistician)
    assert (one.version, other.version) == (1, 2)
    assert one.digest != other.digest
    assert len(one.secrets) == len(other.secrets)
    keys = keys_of(session)
    assert (
        unseal_secrets(keys, study.id, 1, one.secrets)["seed"]
        != unseal_secrets(keys, study.id, 2, other.secrets)["seed"]
    )


def test_an_uploaded_list_is_kept_as_it_is(session: Session):
    study = study_of(session, definition(allocation={"method": "list"}))
    listing = "stratum,position,arm\n" + "\n".join(
        f"all,{position},{arm}" for position, arm in enumerate(["sham", "sham", "graded_sensorimotor"], start=1)
    )
    statistician = actor(session, study, Role.STATISTICIAN)
    made = draw(session, study, method="list", listing=listing, by=statistician, now=NOW)
    assert made.id is not None
    assert made.slots == 3
    counts = balance(session, study, made.id, by=statistician)
    assert counts.slots_per_arm == {"graded_sensorimotor": 1, "sham": 2}
    assert counts.correct is None


@pytest.mark.requirement("RND-1")
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"block_sizes": (3,)}, "block_sizes"),
        ({"block_sizes": ()}, "block_sizes"),
        ({"block_sizes": tuple(range(2, 60, 2))}, "block_sizes"),
        ({"slots_per_stratum": None}, "slots_per_stratum"),
        ({"slots_per_stratum": 0}, "slots_per_stratum"),
        ({"slots_per_stratum": 2_000_000}, "slots_per_stratum"),
        ({"method": "list", "listing": "position,arm\n1,sham"}, "listing"),
        ({"method": "list", "listing": None}, "listing"),
        ({"method": "coin"}, "method"),
    ],
)
def test_a_plan_that_cannot_be_drawn_says_which_field(session: Session, changes: dict, field: str):
    study = study_of(session)
    with pytest.raises(Invalid) as caught:
        drawn_in(session, study, actor(session, study, Role.STATISTICIAN), **changes)
    assert {problem.field for problem in caught.value.problems} == {field}
    assert session.execute(select(func.count()).select_from(STRATUM)).scalar() == 0


@pytest.mark.parametrize(
    ("method", "options", "field"),
    [
        ("big_stick", {}, "tolerance"),
        ("big_stick", {"tolerance": 0}, "tolerance"),
        ("big_stick", {"tolerance": 3, "alpha": 1}, "alpha"),
        ("wei_urn", {"alpha": 0, "beta": 0}, "beta"),
        ("biased_coin", {"probability": "1/2"}, "probability"),
        ("simple", {"block_sizes": [4]}, "block_sizes"),
        ("permuted_blocks", {"block_sizes": [4]}, "method"),  # not what the protocol says
    ],
)
def test_options_that_cannot_be_drawn_with_say_which_field(
    session: Session, method: str, options: dict[str, Any], field: str
):
    planned = "simple" if field == "method" else method
    study = study_of(session, definition(allocation={"method": planned}))
    by = actor(session, study, Role.STATISTICIAN)
    with pytest.raises(Invalid) as caught:
        draw(session, study, method=method, options=options, slots_per_stratum=8, by=by, now=NOW)
    assert {problem.field for problem in caught.value.problems} == {field}


def test_arms_that_a_method_is_not_defined_for_are_no_fault_of_its_options(session: Session):
    arms = [{"code": "a", "label": "A", "ratio": 2}, {"code": "b", "label": "B"}]
    study = study_of(session, definition(arms=arms, allocation={"method": "big_stick"}, treatment=[]))
    by = actor(session, study, Role.STATISTICIAN)
    with pytest.raises(Invalid) as caught:
        draw(session, study, method="big_stick", options={"tolerance": 3}, slots_per_stratum=8, by=by, now=NOW)
    assert [problem.field for problem in caught.value.problems] == ["method"]


@pytest.mark.requirement("RND-13")
@pytest.mark.parametrize("role", OTHERS)
def test_for_everybody_else_lists_do_not_exist(session: Session, role: Role):
    study = study_of(session)
    made = sealed(session, study).id
    assert made is not None
    other = actor(session, study, role, "SYD")
    attempts = [
        lambda: sequences(session, study, by=other),
        lambda: balance(session, study, made, by=other),
        lambda: balance(session, study, 999_999, by=other),
        lambda: allocations(session, study, by=other, why="", now=NOW),
        lambda: drawn_in(session, study, other),
        lambda: seal(session, study, made, by=other, now=NOW),
        lambda: discard_draw(session, study, made, why="x", by=other, now=NOW),
    ]
    reasons = set()
    for attempt in attempts:
        with pytest.raises(NotFound) as caught:
            attempt()
        reasons.add(caught.value.reason)
    assert len(reasons) == 1


def test_the_statistician_of_another_study_is_nobody_here(session: Session):
    study = study_of(session)
    sealed(session, study)
    elsewhere = study_of(session, definition(code="other"))
    with pytest.raises(NotFound):
        sequences(session, study, by=actor(session, elsewhere, Role.STATISTICIAN))


def test_balance_is_reviewed_without_opening_an_envelope(session: Session):
    study = study_of(session)
    made = sealed(session, study, slots=12, sizes=(4,))
    assert made.id is not None
    counts = balance(session, study, made.id, by=actor(session, study, Role.STATISTICIAN, name="sara"))
    assert counts.slots_per_arm == {"graded_sensorimotor": 12, "sham": 12}
    assert counts.slots_per_stratum == {"PER": 12, "SYD": 12}
    assert float(counts.correct or 0) == pytest.approx(17 / 24)
    assert float(counts.certain or 0) == pytest.approx(1 / 3)
    assert "envelope.opened" not in {row.action for row in session.execute(select(AUDIT.c.action))}


@pytest.mark.requirement("RND-12")
def test_an_unused_list_is_replaced_by_a_newly_sealed_one(session: Session):
    study = study_of(session)
    sealed(session, study)
    second = sealed(session, study, slots=30)
    states = {row.version: row.status for row in sequences(session, study, by=actor(session, study, Role.STATISTICIAN))}
    assert states == {1: "retired", 2: "sealed"}
    assert second.version == 2


@pytest.mark.requirement("RND-12")
def test_a_list_that_was_used_is_never_replaced(session: Session):
    study = study_of(session)
    sealed(session, study)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    randomise(session, study, participant(session, study, 1), by=coordinator, now=NOW)
    with pytest.raises(Refused, match="already randomised from the sealed list"):
        sealed(session, study, slots=30)


def test_a_list_is_sealed_once_and_a_sealed_list_is_not_discarded(session: Session):
    study = study_of(session)
    made = sealed(session, study)
    assert made.id is not None
    statistician = actor(session, study, Role.STATISTICIAN)
    with pytest.raises(Refused):
        seal(session, study, made.id, by=statistician, now=NOW)
    with pytest.raises(Refused):
        discard_draw(session, study, made.id, why="Not needed", by=statistician, now=NOW)


def test_a_drawn_list_is_discarded_with_a_reason_and_cannot_be_sealed(session: Session):
    study = study_of(session)
    statistician = actor(session, study, Role.STATISTICIAN)
    made = drawn_in(session, study, statistician)
    assert made.id is not None
    with pytest.raises(Invalid):
        discard_draw(session, study, made.id, why=" ", by=statistician, now=NOW)
    assert discard_draw(session, study, made.id, why="Wrong length", by=statistician, now=NOW).status == "retired"
    with pytest.raises(Refused):
        seal(session, study, made.id, by=statistician, now=NOW + timedelta(hours=1))


def test_a_list_that_is_not_as_it_was_drawn_is_not_sealed(session: Session):
    study = study_of(session)
    statistician = actor(session, study, Role.STATISTICIAN)
    made = drawn_in(session, study, statistician)
    assert made.id is not None
    made.digest = "0" * 64
    session.flush()
    with pytest.raises(Refused, match="not as it was drawn"):
        seal(session, study, made.id, by=statistician, now=NOW)


@pytest.mark.requirement("REL-14", "CON-21b")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE slot SET position = position + 1000",
        "UPDATE slot SET envelope = (SELECT envelope FROM slot LIMIT 1)",
        "DELETE FROM slot",
        "DELETE FROM stratum",
        "UPDATE stratum SET used = used + 2",
        "UPDATE stratum SET used = used - 1 WHERE used > 0",
        "UPDATE allocation SET number = number + 1",
        "UPDATE allocation SET slot_id = slot_id + 1",
        "DELETE FROM allocation",
        "INSERT OR REPLACE INTO allocation SELECT * FROM allocation",  # on PostgreSQL no statement at all
        "INSERT OR REPLACE INTO slot SELECT * FROM slot",
        "INSERT OR REPLACE INTO audit_entry SELECT * FROM audit_entry",
    ],
)
def test_the_database_itself_refuses_to_undo(session: Session, statement: str):
    study = study_of(session)
    sealed(session, study)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    randomise(session, study, participant(session, study, 1), by=coordinator, now=NOW)
    with pytest.raises(DBAPIError), session.begin_nested():
        session.execute(text(statement))


@pytest.mark.requirement("REL-2")
def test_a_hundred_thousand_slots_are_drawn_in_seconds(session: Session, capsys: pytest.CaptureFixture[str]):
    study = study_of(session, definition(allocation={"method": "permuted_blocks"}))
    statistician = actor(session, study, Role.STATISTICIAN)
    start = time.perf_counter()
    made = drawn_in(session, study, statistician, slots_per_stratum=100_000, block_sizes=(4, 6, 8))
    drawn = time.perf_counter() - start
    assert made.id is not None
    seal(session, study, made.id, by=statistician, now=NOW)
    with capsys.disabled():
        print(f"\n{made.slots} slots drawn in {drawn:.1f} s, sealed in {time.perf_counter() - start - drawn:.1f} s")
