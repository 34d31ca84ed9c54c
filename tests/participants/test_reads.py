"""Lists show the participants of one's own sites, page by page, each exactly once."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlmodel import Session

from app.foundation.errors import Invalid, NotFound
from app.foundation.paging import encode
from app.participants.actions import screen
from app.participants.identity import PARTICIPANT
from app.participants.reads import (
    Hold,
    ParticipantFilter,
    Sort,
    count_by_status,
    held,
    hold,
    participant_by_code,
    participants_page,
    visible_codes,
)
from app.participants.rules import PersonalData
from app.participants.status import Status
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse
from tests.factories import NOW, mini_study, person, site
from tests.participants.acts import ELIGIBLE, screened


@pytest.fixture
def study(session: Session) -> StudyInUse:
    """Eleven participants, at two sites, of two statuses, on several days."""
    study = mini_study(session)
    by = {code: person(session, study, "coordinator", site_code=code) for code in ("north", "south")}
    for number in range(11):
        code = "south" if number % 3 == 0 else "north"
        screen(
            session,
            study,
            site=site(session, study, code),
            answers={**ELIGIBLE, "age": 12 if number % 4 == 0 else 44},
            failure_reason=None,
            personal=PersonalData(),
            by=by[code],
            now=NOW + timedelta(days=number // 2),
        )
    return study


def _all(session: Session, study: StudyInUse, backwards: bool = False, **asked: Any) -> list[str]:
    codes: list[str] = []
    page = participants_page(session, study, limit=3, **asked)
    assert page.previous is None
    while True:
        codes += [row.code for row in page.rows]
        if page.next is None:
            break
        page = participants_page(session, study, limit=3, cursor=page.next, **asked)
    if backwards:
        back = [row.code for row in page.rows]
        while page.previous is not None:
            page = participants_page(session, study, limit=3, cursor=page.previous, **asked)
            back = [row.code for row in page.rows] + back
        assert back == codes
    return codes


@pytest.mark.parametrize("sort", Sort)
@pytest.mark.parametrize("descending", [False, True])
def test_pages_hold_everybody_once_in_order_there_and_back(
    session: Session, study: StudyInUse, sort: Sort, descending: bool
) -> None:
    by = person(session, study, "data_manager")
    # Of every third of them nothing is asked, as far as the person may know.
    number = PARTICIPANT.c.id % 3
    questions = select(PARTICIPANT.c.id.label("participant_id"), number.label("number")).where(number > 0)
    asked: dict[str, Any] = {"by": by, "sort": sort, "descending": descending, "questions": questions}
    codes = _all(session, study, backwards=True, **asked)
    whole = participants_page(session, study, by=by, limit=100).rows
    some = [row.code for row in whole if row.id % 3]
    assert sorted(_all(session, study, backwards=True, wanted=ParticipantFilter(asked=True), **asked)) == some
    expected = sorted(
        whole,
        key=lambda row: (
            str({"site": row.site_code, "queries": row.id % 3}.get(sort) or getattr(row, sort, "")),
            row.code,
        ),
        reverse=descending,
    )
    assert codes == [row.code for row in expected]
    assert len(codes) == 11


def test_a_page_is_one_statement(session: Session, study: StudyInUse) -> None:
    by = person(session, study, "data_manager")
    statements = []
    engine = session.get_bind()

    def count(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", count)
    participants_page(session, study, by=by, wanted=ParticipantFilter(site="north", search="M-"))
    event.remove(engine, "before_cursor_execute", count)
    assert len(statements) == 1


def test_whom_a_transaction_holds_is_held_once_until_it_ends(session: Session, study: StudyInUse) -> None:
    by = person(session, study, "data_manager")
    code: dict[str, Any] = {"study": study, "code": "M-001", "by": by}
    number = participant_by_code(session, **code).id
    assert number is not None
    statements: list[str] = []

    def said(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    def asks(how: Hold) -> int:
        statements.clear()
        hold(session, number, how)
        return sum(each.startswith("SELECT") for each in statements)

    event.listen(engine := session.get_bind(), "before_cursor_execute", said)
    assert [asks("shared"), asks("shared"), asks("alone"), asks("shared"), asks("alone")] == [1, 0, 1, 0, 0]
    within = session.begin_nested()
    assert asks("alone") == 1, "what is held within a savepoint goes with it"
    within.rollback()
    assert asks("alone") == 1, "what was held within a savepoint is not held after it"
    session.commit()
    assert asks("shared") == 1
    session.commit()
    participant_by_code(session, **code, hold="alone")
    assert [asks("shared"), asks("alone")] == [0, 0]
    session.commit()
    held(session, number)
    assert [asks("shared"), asks("alone")] == [0, 0]
    event.remove(engine, "before_cursor_execute", said)


@pytest.mark.parametrize(
    ("wanted", "codes"),
    [
        (ParticipantFilter(site="south"), ["M-001", "M-004", "M-007", "M-010"]),
        (ParticipantFilter(status=Status.SCREEN_FAILED), ["M-001", "M-005", "M-009"]),
        (ParticipantFilter(search="m-01"), ["M-010", "M-011"]),
        (ParticipantFilter(search="7"), ["M-007"]),
        (ParticipantFilter(search="01"), ["M-001", "M-010", "M-011"]),
        (ParticipantFilter(search="%"), []),
        (ParticipantFilter(search="\x00"), []),
        (ParticipantFilter(site="nowhere"), []),
    ],
)
def test_the_list_is_filtered(session: Session, study: StudyInUse, wanted: ParticipantFilter, codes: list[str]) -> None:
    by = person(session, study, "monitor")
    assert [row.code for row in participants_page(session, study, by=by, wanted=wanted).rows] == codes


def test_nobody_sees_the_participants_of_another_site(session: Session, study: StudyInUse) -> None:
    north = person(session, study, "coordinator")
    assert _all(session, study, by=north) == ["M-002", "M-003", "M-005", "M-006", "M-008", "M-009", "M-011"]
    assert sum(count_by_status(session, study, by=north).values()) == 7
    assert participant_by_code(session, study, "M-002", by=north).code == "M-002"
    problems = []
    for code in ("M-001", "M-999", "nonsense", "M-\x00"):
        with pytest.raises(NotFound) as caught:
            participant_by_code(session, study, code, by=north)
        problems.append(caught.value.reason)
    assert len(set(problems)) == 1
    with pytest.raises(NotFound):
        participant_by_code(session, study, "M-002", by=person(session, study, "statistician"))
    with pytest.raises(NotFound):
        participant_by_code(session, study, "M-002", by=north, permission=Permission.ARM_READ)


def test_the_log_shows_the_participants_one_may_read_about(session: Session, study: StudyInUse) -> None:
    assert visible_codes(study, person(session, study, "monitor")) is None
    there = visible_codes(study, person(session, study, "investigator", site_code="south"))
    assert there is not None
    assert sorted(session.execute(there).scalars()) == ["M-001", "M-004", "M-007", "M-010"]
    nobody = visible_codes(study, person(session, study, "coordinator"))
    assert nobody is not None
    assert not session.execute(nobody).all()


def test_every_status_is_counted(session: Session, study: StudyInUse) -> None:
    by = person(session, study, "data_manager")
    counts = count_by_status(session, study, by=by)
    assert counts == {**dict.fromkeys(Status, 0), Status.SCREENED: 8, Status.SCREEN_FAILED: 3}
    assert count_by_status(session, study, by=by, of=[Status.SCREEN_FAILED]) == {Status.SCREEN_FAILED: 3}


@pytest.mark.parametrize(
    "cursor",
    ["x", encode("code", "M-001"), encode("status", "a", "b"), encode("code", 1, "b"), encode("code", "\x00", "b")],
)
def test_a_cursor_of_another_list_is_refused(session: Session, cursor: str) -> None:
    study = mini_study(session)
    screened(session, study)
    with pytest.raises(Invalid):
        participants_page(session, study, by=person(session, study, "monitor"), cursor=cursor)
