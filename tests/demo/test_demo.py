"""The demo cohort is RESOLVE as published: the unblinded export gives the published counts and week-18 means."""

import json
import re
import statistics
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlmodel import Session

from app.audit.verify import logs, verify
from app.capture.coding.reads import Queue, counts
from app.capture.models import Entry
from app.demo import DEMO_FILES, MARKER, STUDY, TEAM, build, link_for_today, make_room, work_in_background
from app.foundation.database import Database, table_of
from app.participants.links.reads import link_of
from app.participants.models import Participant
from app.people.access import Actor, Grant
from app.people.permissions import Role
from app.people.reads import person_by_username
from app.randomisation.reads import allocations
from app.rendering import TEMPLATES
from app.settings import Settings
from app.studies.in_use import StudyInUse, study_in_use
from app.tour import ASKED, CARE, VERSION
from app.treatment.flow.actions import open_flow
from app.treatment.flow.rules import Seen
from tests.conftest import KEYS

AS_OF = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
ENTRY, PARTICIPANT = table_of(Entry), table_of(Participant)

# trials.md A8: n and mean at week 18. The standard error is computed from the cohort itself.
PUBLISHED = {
    ("pain", "pain_intensity", "retraining"): (128, 3.1),
    ("pain", "pain_intensity", "sham"): (133, 4.0),
    ("rmdq", "rmdq_score", "retraining"): (127, 3.6),
    ("rmdq", "rmdq_score", "sham"): (130, 6.4),
}
BASELINE = {
    ("pain", "pain_intensity", "retraining"): 5.6,
    ("pain", "pain_intensity", "sham"): 5.8,
    ("rmdq", "rmdq_score", "retraining"): 9.6,
    ("rmdq", "rmdq_score", "sham"): 10.0,
}


@pytest.mark.requirement("CON-F4", "CON-F5")
@pytest.mark.timeout(600)
def test_the_cohort_gives_the_published_figures(copied: Callable[..., Database], tmp_path: Path) -> None:
    database = copied("sqlite", tmp_path, "demo")
    shares = list(build(database, as_of=AS_OF))
    assert shares == sorted(shares)
    with database.writing() as session:
        study = study_in_use(session, STUDY)
        person = person_by_username(session, "statistician")
        assert person is not None
        by = Actor(person.id, person.username, person.name, "", (Grant(Role.STATISTICIAN),), study.id)
        arms = {row.participant: row.arm for row in allocations(session, study, by=by, why="Published", now=AS_OF)}
        found = defaultdict(list)
        query = select(PARTICIPANT.c.code, ENTRY.c.visit, ENTRY.c.instrument, ENTRY.c["values"]).join(
            PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id
        )
        for code, visit, instrument, stored in session.execute(query):
            for item in ("pain_intensity", "rmdq_score"):
                value = json.loads(stored).get(item)
                if code in arms and isinstance(value, int):
                    found[visit, instrument, item, arms[code]].append(value)
        assert Counter(arms.values()) == {"retraining": 138, "sham": 138}
        for (instrument, item, arm), (n, mean) in PUBLISHED.items():
            values = found["week18", instrument, item, arm]
            assert len(values) == n
            _within_two_standard_errors(values, mean)
        for (instrument, item, arm), mean in BASELINE.items():
            values = found["baseline", instrument, item, arm]
            assert len(values) == 138
            _within_two_standard_errors(values, mean)
        _flows_as_published(session, study, by)
        actions = _actions(session)
        assert actions >= {
            "visit.missed",
            "participant.withdrawn",
            "entry.corrected",
            "entry.signed",
            "query.raised",
            "query.answered",
            "query.closed",
            "session.recorded",
            "participant.screened",
            # what goes beyond the sources of RESOLVE (app.tour)
            "amendment.planned",
            "coding.coded",
            "coding.reconciled",
            "entry.entered_twice",
            "entry.reconciled",
            "link.opened",
            "link.done",
            "visit.added",
        }
        _shows_what_waits(session, study)
        for log in logs(session):
            assert verify(session, log).intact
    secret = link_for_today(database, AS_OF)
    assert secret is not None
    with database.reading() as session:
        opened = link_of(session, secret, now=AS_OF)
        assert opened is not None
        assert opened.link.about == ASKED[0]
    database.dispose()


def test_the_page_to_sign_in_names_everybody_of_the_demo() -> None:
    (listed,) = re.findall(r"definition_list\((.*)\)", (TEMPLATES / "sign_in" / "sign_in.html").read_text())
    named = re.findall(r'\("([a-z]+)", _\("', listed)
    assert sorted(named) == sorted([username for username, *_ in TEAM] + ["administrator"])


def test_a_folder_that_no_demo_has_marked_is_never_cleared(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for name in DEMO_FILES:  # a real installation has the same names
        (theirs / name).write_text("precious")
    for fresh in (False, True):
        assert not make_room(theirs, fresh=fresh)
    assert {path.name: path.read_text() for path in theirs.iterdir()} == dict.fromkeys(DEMO_FILES, "precious")


def test_a_demo_clears_its_own_and_nothing_else(tmp_path: Path) -> None:
    ours = tmp_path / "deep" / "ours"
    assert make_room(ours, fresh=False)
    for name in (*DEMO_FILES, "notes.txt"):
        (ours / name).write_text("x")
    assert make_room(ours, fresh=False)
    assert (ours / "equipoise.db").exists()  # it was finished: the second start keeps it
    assert make_room(ours, fresh=True)
    assert {path.name for path in ours.iterdir()} == {MARKER, "notes.txt"}
    (ours / "equipoise.db").write_text("half")
    assert make_room(ours, fresh=False)  # it was interrupted while it was building
    assert not (ours / "equipoise.db").exists()


def _shows_what_waits(session: Session, study: StudyInUse) -> None:
    """Of what two people do, and of what repeats, there is some of everything, and some of it waits for the visitor."""
    manager = Actor(0, "somebody", "Somebody", "", (Grant(Role.DATA_MANAGER),), study.id)
    assert (study.definition.version, study.others) == (VERSION, {}), "the next version waits"
    assert counts(session, study, by=manager)[Queue.CODED] >= 5
    repeats = session.execute(select(ENTRY.c.repeat).where(ENTRY.c.instrument == CARE["code"])).scalars().all()
    assert max(repeats) > 1


def _flows_as_published(session: Session, study: StudyInUse, by: Actor) -> None:
    """By arm: 138 allocated to each; of whom a value is there, as trials.md A8 has it."""
    found = {arm.arm: arm for arm in open_flow(session, study, by=by, now=AS_OF).arms}
    assert {code: arm.allocated for code, arm in found.items()} == {"retraining": 138, "sham": 138}
    for arm in found.values():
        assert arm.received + arm.not_received + arm.pending == arm.allocated
        assert arm.not_known == 0
        assert {each.analysed + each.excluded for each in arm.analyses} == {138}
    week18 = {code: arm.visits[[each.visit for each in arm.visits].index("week18")] for code, arm in found.items()}
    assert {code: visit.numbers[Seen.FOLLOWED] for code, visit in week18.items()} == {"retraining": 128, "sham": 133}
    analysed = {
        (each.outcome.item, each.outcome.visit): (each.analysed, sham.analysed)
        for each, sham in zip(found["retraining"].analyses, found["sham"].analyses, strict=True)
    }
    assert analysed["pain_intensity", "week18"] == (128, 133)
    assert analysed["rmdq_score", "week18"] == (127, 130)
    for visit, published in {"week26": (126, 127), "week52": (122, 124)}.items():  # some have these before them
        assert all(number <= most for number, most in zip(analysed["rmdq_score", visit], published, strict=True))


def _within_two_standard_errors(values: list[int], mean: float) -> None:
    error = statistics.stdev(values) / len(values) ** 0.5
    assert abs(statistics.mean(values) - mean) <= 2 * error, (statistics.mean(values), mean, error)


def _actions(session) -> set[str]:
    from app.audit.actions import ENTRY as AUDIT

    return set(session.execute(select(AUDIT.c.action).distinct()).scalars())


def test_a_demo_makes_what_waits_in_the_background(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stop, asked = threading.Event(), list[Path]()

    def made(_database: Database, folder: Path, _now: object) -> None:
        asked.append(folder)
        stop.set()

    monkeypatch.setattr("app.exports.running.make_waiting", made)
    settings = Settings()
    work_in_background(Database(f"sqlite:///{tmp_path / 'equipoise.db'}", KEYS), settings, stop)
    assert asked == [settings.exports]
