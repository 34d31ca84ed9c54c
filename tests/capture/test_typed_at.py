"""An entry that was typed without a connection keeps both times: when it was typed, and when it was received."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from app.capture.actions import save_entry
from app.capture.reads import entry_of, history
from tests.capture.records import consented
from tests.factories import NOW, mini_study, person

PAIN = {"pain_nrs": 5, "pain_days": 3}


@pytest.mark.requirement("ALC-C")
@pytest.mark.parametrize(
    ("before", "kept"),
    [(timedelta(hours=3), timedelta(hours=3)), (timedelta(0), timedelta(0)), (-timedelta(hours=1), timedelta(0))],
    ids=["hours before", "at once", "by a clock that is ahead"],
)
def test_both_times_are_kept_and_a_later_save_has_its_own(session, before, kept):
    study = mini_study(session)
    participant = consented(session, study)
    assert participant.id is not None
    by = person(session, study, "assessor")
    about: dict[str, Any] = {"visit": "week18", "instrument": "pain", "reasons": {}, "by": by}
    for _ in range(2):  # sent again, because its reply was lost: nothing is entered twice
        saved = save_entry(
            session, study, participant, values=PAIN, base_version=0, typed_at=NOW - before, now=NOW, **about
        )
        assert saved.version == 1
    entry = entry_of(session, participant.id, "week18", "pain")
    assert entry is not None
    assert (entry.typed_at, entry.saved_at) == (NOW - kept, NOW)
    lines = [
        line for line in history(session, study, "M-001", "week18", "pain") if line.action == "entry.typed_offline"
    ]
    assert [line.new for line in lines] == [
        {"typed_at": (NOW - kept).isoformat(), "received_at": NOW.isoformat()},
    ]
    later = NOW + timedelta(days=1)
    save_entry(
        session,
        study,
        participant,
        values={**PAIN, "pain_days": 4},
        base_version=1,
        why="Counted again",
        now=later,
        **about,
    )
    entry = entry_of(session, participant.id, "week18", "pain")
    assert entry is not None
    assert (entry.typed_at, entry.saved_at) == (None, later)


@pytest.mark.parametrize(
    "said",
    [
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),  # which is before any day there is in UTC
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1970, 1, 1, 0, 3, tzinfo=UTC),
    ],
    ids=["before every day", "the first day", "since it was switched on"],
)
@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_device_whose_clock_was_never_set_says_nothing_of_when(session, said):
    study = mini_study(session)
    participant = consented(session, study)
    assert participant.id is not None
    by = person(session, study, "assessor")
    about: dict[str, Any] = {"visit": "week18", "instrument": "pain", "reasons": {}, "by": by}
    save_entry(session, study, participant, values=PAIN, base_version=0, typed_at=said, now=NOW, **about)
    entry = entry_of(session, participant.id, "week18", "pain")
    assert entry is not None
    assert (entry.typed_at, entry.saved_at) == (None, NOW)
    assert "entry.typed_offline" not in {line.action for line in history(session, study, "M-001", "week18", "pain")}
