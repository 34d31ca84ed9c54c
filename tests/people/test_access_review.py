"""Who may do what is gone through: duties that should be apart are shown, and every role is confirmed or ended."""

from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DatabaseError
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.foundation.errors import Conflict, Invalid, NotAllowed, Refused
from app.people import actions, reads
from app.people.access import Actor
from app.people.permissions import APART, Role, conflicts, why_documented, why_not_together
from app.people.reads import MEMBERSHIP, PERSON, SESSION, TOKEN
from app.studies.in_use import StudyInUse
from tests.factories import NOW, mini_study, person, site

R = Role


@pytest.fixture
def study(session: Session) -> StudyInUse:
    return mini_study(session)


@pytest.fixture
def administrator(session: Session) -> Actor:
    return person(session, None, R.ADMINISTRATOR)


@pytest.mark.requirement("SPI-23", "CON-19")
def test_what_is_never_given_together_stands_in_the_table_of_duties():
    for pair in combinations(Role, 2):
        refused = any(each.refused for each in conflicts(frozenset(pair)))
        assert refused is (why_not_together(frozenset(pair)) is not None), pair
    assert all(each.these and each.those and not each.these & each.those for each in APART)


@pytest.mark.requirement("SPI-23")
@pytest.mark.parametrize(
    ("held", "once", "apart"),
    [
        ({R.STATISTICIAN, R.COORDINATOR}, set(), ["Whoever draws the list must not enrol."]),
        ({R.CLINICIAN, R.ASSESSOR}, set(), ["Whoever knows arms must not assess outcomes."]),
        ({R.ASSESSOR}, {R.CLINICIAN}, ["Whoever knows arms must not assess outcomes."]),
        ({R.ASSESSOR}, {R.INVESTIGATOR}, []),
        ({R.INVESTIGATOR, R.ASSESSOR}, set(), ["Whoever may break the blind assesses outcomes."]),
        ({R.MONITOR, R.COORDINATOR}, set(), ["Whoever verifies the data enters or signs them."]),
        ({R.COORDINATOR, R.ASSESSOR}, set(), []),
        ({R.STATISTICIAN}, {R.STATISTICIAN, R.COORDINATOR}, []),
    ],
)
def test_duties_that_one_person_should_not_hold_are_found(held: set[Role], once: set[Role], apart: list[str]):
    assert [each.why for each in conflicts(frozenset(held), frozenset(once))] == apart


@pytest.mark.requirement("SPI-23", "GDPR-9")
def test_a_role_that_should_be_apart_needs_a_reason_which_the_log_keeps(
    session: Session, study: StudyInUse, administrator: Actor
):
    assert why_documented(frozenset({R.ASSESSOR}), R.INVESTIGATOR) is not None
    assert why_documented(frozenset({R.ASSESSOR}), R.COORDINATOR) is None
    # The reason for one pair of duties is none for the next pair, of which the table says the same.
    verifies = frozenset({R.MONITOR, R.COORDINATOR})
    assert why_documented(verifies, R.INVESTIGATOR) == "Whoever verifies the data enters or signs them."
    assert why_documented(frozenset({R.DATA_MANAGER, R.COORDINATOR}), R.ASSESSOR) is not None
    assert why_documented(verifies, R.COORDINATOR) is None  # at another site
    both = person(session, study, R.ASSESSOR)
    place = site(session, study, "north").id
    asked: dict[str, Any] = {
        "person_id": both.person_id,
        "study_id": study.id,
        "site_id": place,
        "log": study.code,
        "now": NOW,
    }
    with pytest.raises(actions.ReasonNeeded, match="say why this person holds both"):
        actions.grant(session, role=R.INVESTIGATOR, by=administrator, **asked)
    with pytest.raises(actions.ReasonNeeded, match="in one line"):
        actions.grant(session, role=R.INVESTIGATOR, why="x" * 501, by=administrator, **asked)
    with pytest.raises(Refused, match="blinded and unblinded"):
        actions.grant(session, role=R.CLINICIAN, why="There is nobody else.", by=administrator, **asked)
    actions.grant(session, role=R.INVESTIGATOR, why="Nobody else is there.", by=administrator, **asked)
    given = session.execute(select(ENTRY.c.why).where(ENTRY.c.action == "role.granted")).scalars().all()
    assert given[-1] == "Nobody else is there."


@pytest.mark.both_databases
@pytest.mark.requirement("P11-300b", "GDPR-9", "SPI-23")
def test_every_role_is_confirmed_or_ended_and_the_review_stays(
    session: Session, study: StudyInUse, administrator: Actor
):
    manager = person(session, study, R.DATA_MANAGER)
    both = person(session, study, R.INVESTIGATOR, R.ASSESSOR)
    gone = person(session, study, R.MONITOR)
    session.execute(update(MEMBERSHIP).where(MEMBERSHIP.c.person_id == gone.person_id).values(
        revoked_at=NOW, revoked_by="test"))  # fmt: skip
    session.execute(update(PERSON).where(PERSON.c.id == manager.person_id).values(totp_secret=b"sealed"))
    for days in (3, 1):
        began = NOW - timedelta(days=days)
        session.execute(
            insert(SESSION).values(
                token_hash=bytes([days] * 32), person_id=manager.person_id, csrf_token="x", second_factor=True,
                created_at=began, seen_at=began, expires_at=NOW, address="", browser="")
        )  # fmt: skip
    for name, until in (("nightly", NOW + timedelta(days=1)), ("old", NOW - timedelta(days=1))):
        session.execute(
            insert(TOKEN).values(
                token_hash=name.encode(), person_id=manager.person_id, study_id=study.id, name=name,
                scopes="study.read", created_at=NOW, expires_at=until, last_used_at=NOW)
        )  # fmt: skip
    found = {each.username: each for each in reads.access_in(session, study.id, now=NOW)}
    assert set(found) == {manager.username, both.username, administrator.username}
    theirs = found[manager.username]
    assert theirs.last_sign_in == NOW - timedelta(days=1)
    assert theirs.has_second_factor
    assert [each.name for each in theirs.tokens] == ["nightly"]
    assert [each.why for each in found[both.username].conflicts] == ["Whoever may break the blind assesses outcomes."]

    roles = {right.role: right.id for each in found.values() for right in each.rights if right.study_id}
    decisions = dict.fromkeys(roles.values(), "confirmed")
    told: dict[str, Any] = {
        "log": study.code,
        "word": "The delegation log of 1 March.",
        "by": administrator,
        "now": NOW,
    }

    def review(**changes: Any) -> int:
        return actions.record_access_review(session, study.id, **{**told, "decisions": decisions, **changes})

    with pytest.raises(Invalid):
        review(word=" ")
    with pytest.raises(Invalid):
        review(decisions=decisions | {roles[R.ASSESSOR]: ""})
    with pytest.raises(Conflict):
        review(decisions={**decisions, 10_000: "confirmed"})
    for other in (manager, both):
        with pytest.raises(NotAllowed):
            review(by=other)
    own = person(session, study, R.COORDINATOR, username=administrator.username)
    held = session.execute(select(MEMBERSHIP.c.id).where(MEMBERSHIP.c.role == R.COORDINATOR)).scalar_one()
    with pytest.raises(Invalid, match="Ask another administrator"):
        review(decisions={**decisions, held: "ended"})
    session.execute(text("DELETE FROM membership WHERE id = :id"), {"id": held})
    assert own.username == administrator.username

    number = review(decisions=decisions | {roles[R.ASSESSOR]: "ended"})
    (kept,) = reads.access_reviews(session, study.id)
    assert (kept.id, kept.word, kept.reviewed_by) == (number, told["word"], administrator.username)
    assert {line["role"]: line["decision"] for line in kept.lines} == {
        "data_manager": "confirmed",
        "investigator": "confirmed",
        "assessor": "ended",
    }
    after = {each.username: each for each in reads.access_in(session, study.id, now=NOW)}
    assert [right.role for right in after[both.username].rights] == [R.INVESTIGATOR]
    assert after[both.username].conflicts == ()
    logged = session.execute(
        select(ENTRY.c.action).where(ENTRY.c.log == study.code).order_by(ENTRY.c.position)
    ).scalars()
    assert list(logged)[-2:] == ["role.revoked", "access.reviewed"]
    with pytest.raises(Conflict):
        review()  # of roles that are no more
    for statement in ("UPDATE access_review SET word = ''", "DELETE FROM access_review"):
        with pytest.raises(DatabaseError, match="never changed or removed"), session.begin_nested():
            session.execute(text(statement))
