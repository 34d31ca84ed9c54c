"""Any study and any history: nothing but refusals stands in anybody's way, and what must always hold, holds.

`--hypothesis-profile=deep` looks much further, differently each time; the ordinary run is the same every time.
"""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session

from app.studies.actions import load_study
from app.studies.definition import ItemType, Study
from app.studies.in_use import StudyInUse
from app.studies.rules import canonical, fingerprint
from tests.conftest import KEYS
from tests.factories import NOW, person
from tests.properties.histories import History
from tests.properties.studies import KINDS, studies

DEEP = settings.get_current_profile_name() == "deep"
patient = settings(
    max_examples=600 if DEEP else 40,
    derandomize=not DEEP,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

ACTS = (
    *("save",) * 5,
    *("correct",) * 4,
    "second",
    "code",
    *("answer_query",) * 2,
    *("sign",) * 2,
    "consent",
    "screen",
    *("correct_screening",) * 2,
    "settle",
    "verify",
    "ask",
    "close",
    "unlock",
    "unlock",
    "settle_text",
    "sign_casebook",
    "miss",
    "withdraw",
)
# Somebody who takes part, and a form with something in it: without them most acts had nothing to act upon.
BEGUN = (("screen", (1, 0, 0)), ("consent", (0, 1, 0)), ("save", (0, 3, 1)), ("save", (0, 4, 2)))
numbers = st.tuples(*[st.integers(1, 200)] * 3)
Act = tuple[str, tuple[int, int, int]]
alone = st.tuples(st.sampled_from(ACTS), numbers).map(lambda act: [act])


def _differing(numbers: tuple[int, int, int]) -> list[Act]:
    """Two who differ, and a third: left to chance, that would hardly ever come about."""
    one, two, three = numbers
    if one % 2:
        return [("second", (one, 2, two)), ("settle", (0, two, three % 2))]
    return [("code", (one | 1, 0, 0)), ("code", (one | 1, 1, 1)), ("settle_text", (0, 0, 2))]


histories = st.lists(st.one_of(alone, alone, alone, numbers.map(_differing)), min_size=20, max_size=32).map(
    lambda parts: [act for part in parts for act in part]
)


@settings(patient, max_examples=500 if DEEP else 40)
@given(studies())
def test_any_study_is_kept_as_it_is(study: Study):
    again = Study.model_validate_json(canonical(study))
    assert again == study
    assert fingerprint(again) == fingerprint(study)


@pytest.mark.requirement("E6-9", "P11-f", "REL-21")
def test_any_history_of_any_study(kind: str, shared: Any):
    engine = shared(kind).engine
    done: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    types: set[ItemType] = set()

    @settings(patient, max_examples=patient.max_examples if kind == "sqlite" or DEEP else 6)
    @given(studies(), histories)
    def play(study: Study, acts: list[tuple[str, tuple[int, int, int]]]) -> None:
        types.update(item.type for form in study.instruments for item in form.items)
        with engine.connect() as connection:
            outer = connection.begin()
            with Session(connection, join_transaction_mode="create_savepoint", info={"keys": KEYS}) as session:
                history = History(session, _loaded(session, study))
                for act in BEGUN:
                    history.act(*act)
                for place, act in enumerate(acts):
                    history.act(*act)
                    if place % 6 == 5:
                        history.check()
                history.check()
                done.update(history.done)
                refused.update(history.refused)
            outer.rollback()

    play()
    if kind == "sqlite":  # so that the histories are worth their time: nearly all acts are done, many refused
        assert types == {ItemType(each) for each in KINDS}
        assert len(done) > 12, (done, refused)
        assert len(refused) > 8, (done, refused)


def _loaded(session: Session, study: Study) -> StudyInUse:
    operator = person(session, None, "administrator", site_code=None, username="operator")
    version = load_study(session, study, by=operator, now=NOW)
    assert version.id is not None
    return StudyInUse(version.study_id, study.code, version.id, study)
