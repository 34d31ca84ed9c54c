"""Randomising a participant: who, when, what is stored, and what is not when it is refused."""

from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, event, func, insert, select, update
from sqlmodel import Session

from app.audit.models import AuditEntry
from app.audit.verify import verify
from app.capture.models import Entry
from app.consent.models import Consent
from app.foundation.database import Database, table_of
from app.foundation.errors import NotAllowed, NotFound, Refused
from app.mail.models import OutboxMail
from app.participants.models import Participant, Screening
from app.people.models import Site
from app.people.permissions import Role
from app.randomisation.actions import draw, randomise
from app.randomisation.models import Allocation, Stratum
from app.randomisation.opening import open_envelope, open_envelopes
from app.randomisation.reads import allocation_of, allocations, gates_of
from app.randomisation.rules import NOT_OPEN, why_not_ready
from app.schedule.models import ParticipantVisit
from tests.randomisation.small import BY_PAIN, definition
from tests.randomisation.world import NOW, actor, participant, sealed, study_of

ALLOCATION, STRATUM, AUDIT, MAIL = (table_of(model) for model in (Allocation, Stratum, AuditEntry, OutboxMail))
PARTICIPANT, VISIT = table_of(Participant), table_of(ParticipantVisit)


def used(session: Session) -> int:
    return int(session.execute(select(func.coalesce(func.sum(STRATUM.c.used), 0))).scalar_one())


@pytest.mark.requirement("P11-f", "E9-3")
def test_a_ready_participant_gets_the_next_allocation(session: Session):
    study = study_of(session)
    sealed(session, study)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    for number in (1, 2, 3):
        person = participant(session, study, number)
        assert why_not_ready(gates_of(session, study, person, by=coordinator, now=NOW)) is None
        made = randomise(session, study, person, by=coordinator, now=NOW)
        assert (made.number, made.allocated_at, made.allocated_by) == (number, NOW, coordinator.username)
        assert person.id is not None
        assert allocation_of(session, person.id) == made
        row = session.execute(select(PARTICIPANT).where(PARTICIPANT.c.id == person.id)).one()
        assert (row.status, row.randomised_at, row.randomised_on) == ("randomised", NOW, date(2026, 3, 14))
    assert used(session) == 3


@pytest.mark.requirement("RND-14", "E9-3", "REL-9")
@pytest.mark.parametrize(("earlier", "expected"), [(20, 0), (60, 0), (61, 61)])
def test_an_allocation_is_not_dated_before_the_one_in_front(session: Session, earlier: int, expected: int):
    """Whoever waited for the lock asked earlier, and is given their slot later; a clock that is wrong still shows."""
    study = study_of(session)
    sealed(session, study)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    randomise(session, study, participant(session, study, 1), by=coordinator, now=NOW)
    waited = participant(session, study, 2)
    made = randomise(session, study, waited, by=coordinator, now=NOW - timedelta(seconds=earlier))
    assert made.allocated_at == NOW - timedelta(seconds=expected)
    assert waited.id is not None
    assert allocation_of(session, waited.id) == made
    row = session.execute(select(PARTICIPANT.c.randomised_at).where(PARTICIPANT.c.id == waited.id)).one()
    assert row.randomised_at == made.allocated_at
    logged = select(AUDIT.c.at).where(AUDIT.c.participant == waited.code, AUDIT.c.action == "participant.randomised")
    assert session.execute(logged).scalar_one() == made.allocated_at


def test_visits_open_counted_from_the_date_at_the_site(session: Session):
    study = study_of(session)
    sealed(session, study)
    person = participant(session, study, 1)
    late = NOW.replace(hour=22)  # already the next day in Sydney
    randomise(session, study, person, by=actor(session, study, Role.COORDINATOR, "SYD"), now=late)
    rows = session.execute(select(VISIT).where(VISIT.c.participant_id == person.id).order_by(VISIT.c.target_on)).all()
    assert [(row.code, row.target_on) for row in rows] == [
        ("session1", date(2026, 3, 22)),
        ("session2", date(2026, 3, 29)),
    ]


def test_the_clinicians_of_the_site_are_told_that_there_is_somebody_and_no_more(session: Session):
    study = study_of(session)
    sealed(session, study)
    for site in ("SYD", "PER"):
        actor(session, study, Role.CLINICIAN, site)
    person = participant(session, study, 1)
    randomise(session, study, person, by=actor(session, study, Role.COORDINATOR, "SYD"), now=NOW)
    mail = session.execute(select(MAIL)).all()
    assert [row.to_address for row in mail] == ["clinician_SYD@example.org"]
    assert "P-0001" in mail[0].body
    for word in ("sham", "graded", "arm", "slot"):
        assert word not in (mail[0].subject + mail[0].body).lower()


@pytest.mark.requirement("CONC-4", "LOG-13")
def test_the_log_says_number_and_stratum_and_neither_arm_nor_position(session: Session):
    study = study_of(session)
    sealed(session, study)
    person = participant(session, study, 1)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    randomise(session, study, person, by=coordinator, now=NOW)
    entry = session.execute(select(AUDIT).where(AUDIT.c.action == "participant.randomised")).one()
    assert entry.participant == "P-0001"
    assert '"allocation":1' in entry.new
    assert '"stratum":"SYD"' in entry.new
    assert not {"arm", "slot", "position", "sham"} & set(entry.new.replace('"', " ").split())
    assert not verify(session, study.code).faults


def lacks(session: Session, study: Any, what: str) -> Participant:
    """A participant who lacks one thing."""
    person = participant(session, study, 1)
    match what:
        case "eligibility":
            session.execute(
                insert(table_of(Screening)).values(
                    participant_id=person.id,
                    study_version_id=study.version_id,
                    answers="{}",
                    verdicts="[]",
                    eligible=False,
                    screened_at=NOW,
                    screened_by="carla",
                )
            )
        case "consent":
            session.execute(delete(table_of(Consent)))
        case "countersignature":
            session.execute(
                update(table_of(Consent)).values(
                    countersigned_at=None, countersigned_by=None, countersigned_name=None, countersigned_meaning=None
                )
            )
        case "baseline":
            session.execute(update(table_of(Entry)).values(status="partial"))
        case "site":
            session.execute(update(table_of(Site)).values(is_open=False))
    return person


@pytest.mark.requirement("P11-f", "E9-3")
@pytest.mark.parametrize("what", ["eligibility", "consent", "countersignature", "baseline", "site"])
def test_whoever_lacks_something_is_refused_and_no_slot_is_used(session: Session, what: str):
    study = study_of(session)
    sealed(session, study)
    person = lacks(session, study, what)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    reason = why_not_ready(gates_of(session, study, person, by=coordinator, now=NOW))
    with pytest.raises(Refused) as caught:
        randomise(session, study, person, by=coordinator, now=NOW)
    assert caught.value.reason == reason
    assert (caught.value.action, caught.value.subject) == ("participant.randomise", "P-0001")
    assert used(session) == 0
    assert session.execute(select(func.count()).select_from(ALLOCATION)).scalar() == 0


@pytest.mark.requirement("CONC-9", "REL-4")
def test_a_second_randomisation_is_refused_and_a_retry_gets_the_first_answer(session: Session):
    study = study_of(session)
    sealed(session, study)
    person = participant(session, study, 1)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    first = randomise(session, study, person, by=coordinator, now=NOW)
    with pytest.raises(Refused, match="already randomised"):
        randomise(session, study, person, by=coordinator, now=NOW)
    again = randomise(session, study, person, again=True, by=coordinator, now=NOW + timedelta(minutes=1))
    assert again == first
    assert used(session) == 1


@pytest.mark.requirement("CONC-15", "RND-7")
def test_no_list_an_unsealed_list_and_an_exhausted_stratum_say_the_same(session: Session):
    study = study_of(session)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    person = participant(session, study, 1)
    reasons = []

    def refused(one: Participant) -> None:
        with pytest.raises(Refused) as caught:
            randomise(session, study, one, by=coordinator, now=NOW)
        reasons.append((caught.value.reason, why_not_ready(gates_of(session, study, one, by=coordinator, now=NOW))))

    refused(person)
    statistician = actor(session, study, Role.STATISTICIAN)
    draw(session, study, method="permuted_blocks", block_sizes=[2], slots_per_stratum=2, by=statistician, now=NOW)
    refused(person)
    sealed(session, study, slots=2, sizes=(2,))
    randomise(session, study, person, by=coordinator, now=NOW)
    randomise(session, study, participant(session, study, 2), by=coordinator, now=NOW)
    refused(participant(session, study, 3))
    assert set(reasons) == {(NOT_OPEN, NOT_OPEN)}
    assert used(session) == 2


def test_the_other_stratum_is_not_used_when_one_is_exhausted(session: Session):
    study = study_of(session)
    sealed(session, study, slots=2, sizes=(2,))
    at_both = [actor(session, study, Role.COORDINATOR, site) for site in ("SYD", "PER")]
    for number in (1, 2):
        randomise(session, study, participant(session, study, number), by=at_both[0], now=NOW)
    with pytest.raises(Refused):
        randomise(session, study, participant(session, study, 3), by=at_both[0], now=NOW)
    assert randomise(session, study, participant(session, study, 4, "PER"), by=at_both[1], now=NOW).number == 3


def test_a_stratum_from_the_baseline_entry_is_used(session: Session):
    stratified = definition(allocation={"method": "permuted_blocks", "strata": [BY_PAIN]})
    study = study_of(session, stratified)
    sealed(session, study)
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    randomise(session, study, participant(session, study, 1, nrs=9), by=coordinator, now=NOW)
    randomise(session, study, participant(session, study, 2, nrs=8), by=coordinator, now=NOW)
    randomise(session, study, participant(session, study, 3, nrs=4), by=coordinator, now=NOW)
    counts = {row.code: row.used for row in session.execute(select(STRATUM))}
    assert counts == {"high": 2, "low": 1}
    with pytest.raises(Refused, match="not one of the values"):
        randomise(session, study, participant(session, study, 4, nrs=1), by=coordinator, now=NOW)


@pytest.mark.parametrize(
    ("role", "site"),
    [(role, "SYD") for role in Role if role not in (Role.COORDINATOR, Role.INVESTIGATOR)]
    + [(Role.COORDINATOR, "PER"), (Role.INVESTIGATOR, "PER")],
)
@pytest.mark.requirement("P11-d", "RND-13")
def test_only_a_coordinator_or_investigator_of_the_site_randomises(session: Session, role: Role, site: str):
    study = study_of(session)
    sealed(session, study)
    with pytest.raises(NotAllowed) as caught:
        randomise(session, study, participant(session, study, 1), by=actor(session, study, role, site), now=NOW)
    assert caught.value.subject == "P-0001"
    assert used(session) == 0


def test_a_participant_of_another_study_is_not_found(session: Session):
    study, other = study_of(session), study_of(session, definition(code="other"))
    person = participant(session, other, 1)
    with pytest.raises(NotFound):
        randomise(session, study, person, by=actor(session, study, Role.COORDINATOR, "SYD"), now=NOW)


def test_a_study_that_only_observes_has_no_gates_and_does_not_randomise(session: Session):
    study = study_of(session, definition(allocation={"method": "observed"}))
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    person = participant(session, study, 1)
    assert gates_of(session, study, person, by=coordinator, now=NOW) == ()
    with pytest.raises(Refused, match="does not randomise"):
        randomise(session, study, person, by=coordinator, now=NOW)


@pytest.mark.requirement("REL-5")
def test_nothing_is_stored_when_the_audit_entry_cannot_be(database: Database, monkeypatch: pytest.MonkeyPatch):
    with database.writing() as session:
        study = study_of(session)
        sealed(session, study)
        person = participant(session, study, 1)
        coordinator = actor(session, study, Role.COORDINATOR, "SYD")
        actor(session, study, Role.CLINICIAN, "SYD")

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("The disk is full.")

    monkeypatch.setattr("app.schedule.actions.record", broken)  # the last entry, after everything else is written
    with pytest.raises(RuntimeError), database.writing() as session:
        randomise(session, study, person, by=coordinator, now=NOW)
    with database.reading() as session:
        assert used(session) == 0
        for table in (ALLOCATION, VISIT, MAIL):
            assert session.execute(select(func.count()).select_from(table)).scalar() == 0
        assert session.execute(select(PARTICIPANT.c.status)).scalar_one() == "consented"
        assert "participant.randomised" not in session.execute(select(AUDIT.c.action)).scalars().all()


@pytest.mark.requirement("CONC-12")
def test_only_who_treats_at_the_site_or_the_statistician_opens_an_envelope(session: Session):
    study = study_of(session)
    sealed(session, study)
    person = participant(session, study, 1)
    randomise(session, study, person, by=actor(session, study, Role.COORDINATOR, "SYD"), now=NOW)
    opened = set()
    for role, site in ((Role.CLINICIAN, "SYD"), (Role.STATISTICIAN, None)):
        by = actor(session, study, role, site, name=f"opens_{role}")
        opened.add(open_envelope(session, study, person, by=by, why="Treatment", now=now_of(role)))
    assert len(opened) == 1
    entries = session.execute(select(AUDIT).where(AUDIT.c.action == "envelope.opened")).all()
    assert [(entry.participant, entry.username, entry.why) for entry in entries] == [
        ("P-0001", "opens_clinician", "Treatment"),
        ("P-0001", "opens_statistician", "Treatment"),
    ]
    assert {(entry.old, entry.new, entry.subject, entry.item) for entry in entries} == {(None, None, "", "")}
    blinded = [(role, "SYD") for role in Role if role not in (Role.CLINICIAN, Role.STATISTICIAN)]
    for role, site in [*blinded, (Role.CLINICIAN, "PER")]:
        by = actor(session, study, role, site, name=f"refused_{role}")
        with pytest.raises(NotAllowed):
            open_envelope(session, study, person, by=by, why="Curiosity", now=NOW)
        if site == "SYD":
            with pytest.raises(NotAllowed):
                open_envelopes(session, study, [person.id or 0], by=by, why="Curiosity", now=NOW)
        else:
            assert open_envelopes(session, study, [person.id or 0], by=by, why="Curiosity", now=NOW) == {}


def now_of(role: Role) -> Any:
    return NOW if role is Role.CLINICIAN else NOW + timedelta(minutes=1)


def test_there_is_nothing_to_open_before_randomisation(session: Session):
    study = study_of(session)
    sealed(session, study)
    with pytest.raises(Refused, match="not randomised yet"):
        open_envelope(
            session,
            study,
            participant(session, study, 1),
            by=actor(session, study, Role.CLINICIAN, "SYD"),
            why="Treatment",
            now=NOW,
        )
    assert "envelope.opened" not in session.execute(select(AUDIT.c.action)).scalars().all()


def test_no_envelope_is_opened_where_it_cannot_be_written_down(database: Database):
    with database.writing() as session:
        study = study_of(session)
        sealed(session, study)
        person = participant(session, study, 1)
        randomise(session, study, person, by=actor(session, study, Role.COORDINATOR, "SYD"), now=NOW)
        clinician = actor(session, study, Role.CLINICIAN, "SYD")
    with database.reading() as session, pytest.raises(RuntimeError, match="writing session"):
        open_envelope(session, study, person, by=clinician, why="Treatment", now=NOW)


@pytest.mark.requirement("FDA-17", "EMA-9", "CON-F3")
def test_the_unblinded_list_has_every_participant_and_an_entry_for_each(session: Session):
    study = study_of(session)
    sealed(session, study, slots=8, sizes=(4,))
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    for number in range(1, 9):
        randomise(session, study, participant(session, study, number), by=coordinator, now=NOW)
    statistician = actor(session, study, Role.STATISTICIAN, name="sara")
    rows = list(allocations(session, study, by=statistician, why="Closed report", now=NOW))
    assert [(row.number, row.participant, row.stratum) for row in rows] == [
        (number, f"P-{number:04}", "SYD") for number in range(1, 9)
    ]
    arms = [row.arm for row in rows]
    assert arms.count("sham") == arms.count("graded_sensorimotor") == 4
    opened = session.execute(select(AUDIT).where(AUDIT.c.action == "envelope.opened")).all()
    assert sorted(each.participant for each in opened) == [row.participant for row in rows]
    assert {(each.username, each.role, each.at) for each in opened} == {("sara", "statistician", NOW)}


def test_randomising_takes_few_statements(session: Session):
    study = study_of(session)
    sealed(session, study)
    actor(session, study, Role.CLINICIAN, "SYD")
    coordinator = actor(session, study, Role.COORDINATOR, "SYD")
    person = participant(session, study, 1)
    statements: list[str] = []
    engine = session.connection().engine

    def counted(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", counted)
    randomise(session, study, person, by=coordinator, now=NOW)
    event.remove(engine, "before_cursor_execute", counted)
    assert len(statements) <= 25, "\n".join(statements)
