"""What does a trial look like that is under way? RESOLVE, played by a simulated cohort through a person's own actions.

Published figures that the cohort reproduces (JAMA 2022;328(5):430-439 and its re-analysis): 276 randomised, 138 and
138; pain at week 18 known of 128 and 133, disability at weeks 18, 26 and 52 of 127/130, 126/127 and 122/124; mean pain
5.6 -> 3.1 and 5.8 -> 4.0; disability beta-binomial (size 24) with probability and theta 0.40/4.9 -> 0.16/3.0 and
0.42/6.3 -> 0.26/2.7. Spreads of pain, its values after week 18, screening numbers and every other answer are not
published: they are ours, chosen to be plausible, and so are all names. What Equipoise does beyond what is public of
RESOLVE is shown by a few acts of `app.tour`, beside the chance that makes the cohort.

The list is one of permuted blocks of 4, 6 and 8 from the first seed number whose list is balanced after 276 slots; it
is handed in as a statistician's list, so that the same demo comes out every time.
"""

import csv
import gc
import io
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha512
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy import select
from sqlmodel import Session

from app import tour
from app.audit.models import SYSTEM_LOG
from app.capture import actions as capture
from app.capture.queries import reads as queries
from app.capture.queries.actions import answer_query, close_query, raise_query
from app.capture.reads import ENTRY, PARTICIPANT
from app.consent import actions as consent
from app.foundation import clock
from app.foundation.database import Database
from app.participants import actions as participants
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.participants.rules import PersonalData
from app.people import actions as people
from app.people import reads as persons
from app.people.access import Actor, Grant
from app.people.models import Site
from app.people.permissions import Permission, Role
from app.randomisation import actions as randomisation
from app.randomisation import opening
from app.randomisation.sequence import draw
from app.safety.deviations import actions as deviations
from app.safety.events import actions as events
from app.safety.events.clocks import THE_CLOCK
from app.safety.events.rules import Details
from app.safety.logs import actions as lines
from app.schedule import actions as schedule
from app.schedule.appointments.actions import Wish, book
from app.schedule.appointments.reads import unbooked_between
from app.schedule.reads import visit_of
from app.studies import actions as studies
from app.studies.definition import Instrument, Item, ItemType, Study, VisitKind
from app.studies.in_use import StudyInUse, study_in_use
from app.studies.loading import library, read_folder
from app.treatment import actions as treatment

if TYPE_CHECKING:
    from app.settings import Settings

PASSWORD = "a walk through resolve"  # noqa: S105 the demo prints it
QUESTIONS = (
    "The diary of that week says otherwise. Which is right?",
    "Was this asked at the visit, or by telephone?",
    "This is much less than at the visit before. Is it confirmed in the source?",
    "The signature on the paper form is missing. Who rated this?",
)
STUDY = "resolve"
RANDOMISED = 276
SCREEN_FAILURES = 64
CHANGED_THEIR_MIND = 14
RECRUITMENT = timedelta(days=1323)  # 10 December 2015 to 25 July 2019
SLOTS = 320
BETWEEN_ROUNDS = 5.0  # seconds between two looks at what waits

TEAM: tuple[tuple[str, str, Role, bool], ...] = (
    ("coordinator", "Carla Ortiz", Role.COORDINATOR, True),
    ("assessor", "Amir Haddad", Role.ASSESSOR, True),
    ("clinician", "Tess Nguyen", Role.CLINICIAN, True),
    ("investigator", "Ines Laurent", Role.INVESTIGATOR, True),
    ("manager", "Dana Kowalski", Role.DATA_MANAGER, False),
    ("coder", "Noor Vermeer", Role.DATA_MANAGER, False),
    ("monitor", "Milo Brandt", Role.MONITOR, False),
    ("statistician", "Sam Okafor", Role.STATISTICIAN, False),
)
GIVEN = """
    Alice Ben Chloe Daniel Elena Felix Grace Henry Isla Jack Kiri Liam Maya Noah Olive Pavel Quinn Rosa Sunil Tara
    Umar Vera Will Xenia Yusuf Zoe
"""
FAMILY = """
    Adams Baker Chen Dawson Evans Fraser Gupta Hughes Ibrahim Jones Kelly Lam Murphy Nolan Owens Patel Quigley Rossi
    Singh Taylor Unsworth Vella Walker Xu Young Zammit
"""

# Per arm and visit: how many of 138 have no pain score, and how many have no disability score.
NO_PAIN = {"retraining": {"week18": 10, "week26": 11, "week52": 15}, "sham": {"week18": 5, "week26": 10, "week52": 13}}
NO_RMDQ = {"retraining": {"week18": 11, "week26": 12, "week52": 16}, "sham": {"week18": 8, "week26": 11, "week52": 14}}
WITHDRAWN = {"retraining": 6, "sham": 3}
PAIN = {
    "retraining": {"baseline": 5.6, "week12": 3.5, "week18": 3.1, "week26": 3.2, "week52": 3.3},
    "sham": {"baseline": 5.8, "week12": 4.3, "week18": 4.0, "week26": 3.9, "week52": 3.7},
}
RMDQ = {
    "retraining": {
        "baseline": (0.40, 4.9),
        "week12": (0.20, 3.0),
        "week18": (0.16, 3.0),
        "week26": (0.165, 3.0),
        "week52": (0.17, 2.8),
    },
    "sham": {
        "baseline": (0.42, 6.3),
        "week12": (0.28, 2.8),
        "week18": (0.26, 2.7),
        "week26": (0.265, 2.7),
        "week52": (0.255, 2.7),
    },
}
LAST = 1_000_000_000  # numbers of events beyond those that chance takes part in


@dataclass(frozen=True)
class Happened:
    """An adverse event of the demo: how long after randomisation, who reports it, and how it is judged (or not yet)."""

    term: str
    severity: str
    criteria: tuple[str, ...]
    outcome: str
    days: int
    reported_by: str
    related: str


# How many adverse events there were, and which, is not public: these are ours.
EVENTS = (
    Happened("More back pain for two days", "mild", (), "recovered", 16, "clinician", "probable"),
    Happened("Headache", "mild", (), "recovered", 23, "clinician", "possible"),
    Happened("Redness of the skin at the back", "mild", (), "recovered", 30, "clinician", "possible"),
    Happened("Influenza", "moderate", (), "recovered", 51, "coordinator", "unrelated"),
    Happened("Broken wrist, fell off", "severe", ("hospitalisation",), "recovered", 66, "coordinator", "unrelated"),
    Happened("Flare of pain with leg pain", "moderate", (), "recovering", 40, "assessor", "possible"),
    Happened("Appendicitis", "severe", ("hospitalisation",), "recovered", 120, "investigator", "unrelated"),
    Happened("Dizziness", "mild", (), "unknown", 12, "coordinator", ""),
)
ASSESSMENTS = ("week12", "week18", "week26", "week52")


@dataclass
class Somebody:
    """One simulated person on their way through the trial."""

    serial: int
    randomised_on: date | None = None
    code: str = ""
    arm: str = ""
    rank: int = 0  # their place among those of their arm, in a shuffled order: who is lost first
    severity: float = 0.5
    leaves_before: str | None = None
    visits: dict[str, date] = field(default_factory=dict)


class Cohort:
    """Plays the trial event by event in the order of time, up to `as_of`."""

    def __init__(self, database: Database, *, as_of: datetime, participants: int = RANDOMISED, seed: int = 276) -> None:
        self.database = database
        self.as_of = as_of
        self.randomised = participants
        self.chance = random.Random(seed)  # noqa: S311 a simulation, not an allocation
        # Of everybody week 18 is over, as published. Of a smaller cohort the last one is due for it.
        self.last = as_of.date() - timedelta(days=141 if participants >= RANDOMISED else 121)
        self.first = self.last - RECRUITMENT
        self.begun = datetime.combine(self.first - timedelta(days=60), time(0), UTC)
        self.events: list[tuple[datetime, int, Callable[[Session, datetime], None]]] = []
        self.serial = 0
        self.team: dict[str, Actor] = {}
        self.ranks: dict[str, list[int]] = {}
        self.treated = 0
        self.aside = 0  # of what is done beside the chance that makes everything else, which must not notice

    # Setting up

    def set_up(self) -> None:
        """Load the study, add the team, hand in the list and seal it."""
        study, findings = read_folder(next(folder for folder in library() if folder.name == STUDY))
        if study is None:
            raise RuntimeError(f"The demo study has errors: {findings[0].message}")
        admin = Actor(0, "operator:demo", "Demo", "Demo trial unit", (Grant(Role.ADMINISTRATOR),), via="cli")
        with self.database.writing() as session:
            studies.load_study(session, tour.widened(study), by=admin, now=self.begun)
            in_use = study_in_use(session, STUDY)
            site = persons.sites_of(session, in_use.id)[0]
            for username, name, role, at_site in TEAM:
                site_id = site.id if at_site else None
                self._person(session, username, name, role, in_use.id, site_id, admin)
            self._person(session, "administrator", "Ada Byrne", Role.ADMINISTRATOR, None, None, admin)
            self._seal_list(session, in_use)
        self.site_id = site.id
        self.study = in_use
        self.zone = ZoneInfo(site.timezone)

    def _person(
        self,
        session: Session,
        username: str,
        name: str,
        role: Role,
        study_id: int | None,
        site_id: int | None,
        admin: Actor,
    ) -> None:
        row = people.add_person(
            session,
            username=username,
            name=name,
            email=f"{username}@example.org",
            organisation="Demo trial unit",
            password=PASSWORD,
            by=admin,
            now=self.begun,
        )
        log = STUDY if study_id is not None else SYSTEM_LOG
        people.grant(
            session, person_id=row.id, role=role, study_id=study_id, site_id=site_id, log=log, by=admin, now=self.begun
        )
        self.team[username] = Actor(
            row.id, row.username, row.name, row.organisation, (Grant(role, site_id),), study_id, "demo"
        )

    def _seal_list(self, session: Session, study: StudyInUse) -> None:
        by = self.team["statistician"]
        drawn = randomisation.draw(
            session, study, method="list", listing=_listing(study.definition), by=by, now=self.begun
        )
        assert drawn.id is not None
        randomisation.seal(session, study, drawn.id, by=by, now=self.begun)

    # The trial

    def plan(self) -> None:
        """Everybody who will be screened, and when."""
        chance = self.chance
        span = (self.last - self.first).days
        days = sorted(chance.randint(0, span) for _ in range(max(0, self.randomised - 2)))
        for on in [self.first + timedelta(days=day) for day in [0, *days, span][: self.randomised]]:
            person = Somebody(self._next(), randomised_on=on, severity=min(1, max(0, chance.gauss(0.5, 0.18))))
            self._at(on - timedelta(days=chance.randint(8, 26)), self._screen(person, eligible=True))
        share = self.randomised / RANDOMISED
        for _ in range(round(SCREEN_FAILURES * share)):
            self._at(self.first + timedelta(days=chance.randint(0, span)), self._screen(Somebody(self._next()), False))
        for _ in range(round(CHANGED_THEIR_MIND * share)):
            on = self.first + timedelta(days=chance.randint(0, span))
            self._at(on, self._screen(Somebody(self._next()), True))
        self._plan_newcomers()
        self._plan_visit_of_the_monitor()
        self._beside(self.as_of - timedelta(days=5), self._plan_amendment())

    def _plan_newcomers(self) -> None:
        """Some who are still on their way in: one ready to be randomised, others with something to do."""
        today = self.as_of.astimezone(self.zone).date()
        for ago, stage in ((9, "baseline"), (7, "part"), (6, "consent"), (4, "consent"), (2, "screen"), (1, "screen")):
            self._at(today - timedelta(days=ago), self._screen(Somebody(self._next()), True, newcomer=stage))

    def _plan_visit_of_the_monitor(self) -> None:
        """Four answers that the monitor asks about; the site answers some, and one query is closed.

        Nothing here draws by chance, so that the cohort stays what it is.
        """
        asked: list[queries.Query] = []

        def ask(session: Session, now: datetime) -> None:
            by, wanted = self.team["monitor"], "pain_intensity"
            newest = (
                select(PARTICIPANT.c.code, ENTRY.c.visit)
                .join(PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id)
                .where(ENTRY.c.instrument == "pain", ENTRY.c.saved_at < now, ENTRY.c.visit != "baseline")
                .order_by(ENTRY.c.saved_at.desc(), ENTRY.c.id.desc())
                .limit(len(QUESTIONS))
            )
            for (code, visit), words in zip(session.execute(newest).all(), QUESTIONS, strict=False):
                found = participant_by_code(session, self.study, code, by=by)
                where = {"visit": visit, "instrument": "pain", "item": wanted}
                asked.append(raise_query(session, self.study, found, **where, text=words, by=by, now=now))

        def answer(session: Session, now: datetime) -> None:
            by = self.team["coordinator"]
            for each in asked[:2]:
                words = "The source agrees with what is entered; a copy is in the site file."
                answer_query(session, self.study, each.number, text=words, version=1, by=by, now=now)

        def close(session: Session, now: datetime) -> None:
            for each in asked[:1]:
                close_query(session, self.study, each.number, version=2, by=self.team["monitor"], now=now)

        for number, (ago, act) in enumerate(((24, ask), (15, answer), (8, close))):
            heappush(self.events, (self.as_of - timedelta(days=ago), 10**9 + number, act))

    def play(self) -> Iterator[float]:
        """Carry out every event up to `as_of`; yields the share of time that has passed."""
        total = (self.as_of - self.begun).total_seconds()
        while self.events and self.events[0][0] <= self.as_of:
            with self.database.writing() as session:
                for _ in range(150):
                    if not self.events or self.events[0][0] > self.as_of:
                        break
                    at, _, act = heappop(self.events)
                    act(session, at)
                session.expunge_all()
            yield (at - self.begun).total_seconds() / total
        self.book()
        self.ask_by_link()
        yield 1.0

    def book(self) -> None:
        """Appointments of these days, most of what is due; chance of its own, so that the cohort stays as it is."""
        chance, today = random.Random(self.as_of.toordinal()), self.as_of.astimezone(self.zone).date()  # noqa: S311
        with self.database.writing() as session:
            for username, kinds, rooms, minutes in (
                ("coordinator", (VisitKind.ASSESSMENT,), ("Room 1", "Room 2"), (60, 90)),
                ("clinician", (VisitKind.TREATMENT,), ("Gym",), (60,)),
            ):
                by, who = self.team[username], "clinician" if username == "clinician" else "assessor"
                last = today + timedelta(days=30)
                found = unbooked_between(session, self.study, by=by, first=today, last=last, kinds=kinds, limit=60)
                for each in found:
                    day = min(max(each.target_on, today), each.closes_on)
                    day += timedelta(days={5: 2, 6: 1}.get(day.weekday(), 0))
                    if day > last or chance.random() < 0.3:
                        continue
                    person = self._found(session, Somebody(0, code=each.participant))
                    at = time(chance.randint(9, 15), chance.choice((0, 30)))
                    wish = Wish(day, at, chance.choice(minutes), who, chance.choice(rooms))
                    book(session, self.study, person, wish, visit=each.code, by=by, now=self.as_of)

    def find_deviations(self) -> None:
        """Every deviation that the system can see by the end."""
        with self.database.writing() as session:
            deviations.look(session, self.study, by=THE_CLOCK, now=self.as_of)

    def _plan_event(self, person: Somebody, now: datetime) -> None:
        """Of every 31st participant an adverse event is reported, and judged a day later."""
        self.treated += 1
        place, rest = divmod(self.treated, 31)
        if rest == 1 and place < len(EVENTS):
            event = EVENTS[place]
            began = now.astimezone(self.zone).date() + timedelta(days=event.days)
            aware = datetime.combine(began + timedelta(days=1), time(10), self.zone).astimezone(UTC)
            # Beside the chance that makes everything else, which must not notice.
            heappush(self.events, (aware + timedelta(hours=1), LAST + self.treated, self._event(person, event, began)))
        elif rest == 9:
            self._beside(now + timedelta(days=45), self._care(person, times=1 + place % len(tour.SEEN)))

    def _event(self, person: Somebody, event: "Happened", began: date) -> Callable[[Session, datetime], None]:
        def act(session: Session, now: datetime) -> None:
            found = self._found(session, person)
            action = "interrupted" if event.criteria else "none"
            details = Details(
                event.term, began.isoformat(), event.severity, event.criteria, action=action, outcome=event.outcome
            )
            aware, by = now - timedelta(hours=1), self.team[event.reported_by]
            number = events.report(session, self.study, found, details, aware_at=aware, by=by, now=now)
            nurse, note = self.team["coordinator"], "Told us of it"
            lines.record_contact(
                session, self.study, found, at=aware, how="call", result="they_called", note=note, by=nurse, now=now
            )
            self._plan_coding(number, event.term, now)
            if event.related:
                judging = (now + timedelta(days=1), LAST + RANDOMISED + number, self._judge(number, event.related))
                heappush(self.events, judging)

        return act

    def _judge(self, number: int, related: str) -> Callable[[Session, datetime], None]:
        def act(session: Session, now: datetime) -> None:
            events.judge(
                session,
                self.study,
                number,
                relatedness=related,
                expected=False,
                words="By its onset and course.",
                base_version=1,
                prove=lambda: None,
                by=self.team["investigator"],
                now=now,
            )

        return act

    # Beside what is public of RESOLVE

    def _beside(self, at: datetime, act: Callable[[Session, datetime], None]) -> None:
        self.aside += 1
        heappush(self.events, (at, 2 * LAST + self.aside, act))

    def _plan_amendment(self) -> Callable[[Session, datetime], None]:
        def act(session: Session, now: datetime) -> None:
            on = self.as_of.astimezone(self.zone).date() + timedelta(days=9)
            tour.plan_amendment(session, self.study, on=on, by=self.team["administrator"], now=now)
            tour.begin_pilot(session, by=self.team["administrator"], now=now)

        return act

    def _plan_coding(self, number: int, term: str, now: datetime) -> None:
        """Two people code the term of an event, each alone; a third settles what they differ in."""
        first, second = tour.CHOICES[term]
        steps = ((1, "investigator", first, tour.code_event), (2, "manager", second, tour.code_event))
        for days, who, code, step in (*steps, (9, "coder", first, tour.settle_event)):

            def act(session: Session, at: datetime, who: str = who, code: str = code, step: Any = step) -> None:
                step(session, self.study, number, code, by=self.team[who], now=at)

            self._beside(now + timedelta(days=days), act)

    def _care(self, person: Somebody, *, times: int) -> Callable[[Session, datetime], None]:
        def act(session: Session, now: datetime) -> None:
            found = self._found(session, person)
            if found.status == "randomised":
                on = now.astimezone(self.zone).date()
                tour.record_care(session, self.study, found, times=times, on=on, by=self.team["coordinator"], now=now)

        return act

    def _again(self, person: Somebody, values: dict[str, object]) -> Callable[[Session, datetime], None]:
        """The second entry, by somebody who has not seen the first; what differs is settled a week later."""

        def act(session: Session, now: datetime) -> None:
            found, by, differs = self._found(session, person), self.team["coordinator"], person.serial % 16 == 1
            number = tour.enter_again(session, self.study, found, values, differs=differs, by=by, now=now)
            if number is not None:

                def settle(session: Session, at: datetime) -> None:
                    tour.settle(session, self.study, number, by=self.team["manager"], now=at)

                self._beside(now + timedelta(days=7), settle)

        return act

    def ask_by_link(self) -> None:
        """Two who were given a link to the questions of a visit: one is in the middle of them, one is done."""
        today = self.as_of.astimezone(self.zone).date()
        with self.database.writing() as session:
            due = tour.due_by_link(session, self.study, today, 3)[1:]
            for place, (code, visit) in enumerate(each for each in due if each[1] == tour.ASKED[0]):
                found = self._found(session, Somebody(0, code=code))
                planned = self.study.definition.visit(visit)
                assert planned is not None
                by, now = self.team["coordinator"], self.as_of
                token = tour.give(session, self.study, found, visit, by=by, now=now)
                asked = planned.instruments if place else planned.instruments[:1]
                answers = {form: self._values(self._form(form), Somebody(0, code=code), visit) for form in asked}
                tour.answer_by_link(session, token, answers, _Always("It was so"), today=today, now=now)

    def _form(self, code: str) -> Instrument:
        found = self.study.definition.instrument(code)
        assert found is not None
        return found

    def _next(self) -> int:
        self.serial += 1
        return self.serial

    def _at(self, on: date, act: Callable[[Session, datetime], None], *, after: datetime | None = None) -> None:
        """At some minute of that working day in Sydney, and later than `after`."""
        minute = self.chance.randint(9 * 60, 16 * 60)
        at = datetime.combine(on, time(minute // 60, minute % 60, self.chance.randint(0, 59)), self.zone)
        if after is not None and at <= after:
            at = after + timedelta(minutes=self.chance.randint(4, 40))
        heappush(self.events, (at.astimezone(UTC), self._next(), act))

    def _screen(
        self, person: Somebody, eligible: bool, newcomer: str | None = None
    ) -> Callable[[Session, datetime], None]:
        def act(session: Session, now: datetime) -> None:
            site = session.get_one(Site, self.site_id)
            answers = self._screening_answers(eligible)
            found, _ = participants.screen(
                session,
                self.study,
                site=site,
                answers=answers,
                failure_reason=None if eligible else "not_eligible",
                personal=self._personal(now, int(str(answers["age"]))),
                by=self.team["coordinator"],
                now=now,
            )
            person.code = found.code
            if not eligible:
                return
            today = now.astimezone(self.zone).date()
            by = self.team["coordinator"]
            schedule.open_visits(session, self.study, found, anchor="screening", on=today, by=by, now=now)
            if newcomer and newcomer != "screen":
                self._at(today + timedelta(days=1), self._consent(person, newcomer), after=now)
            elif person.randomised_on is not None:
                latest = person.randomised_on - timedelta(days=7)
                on = min(today + timedelta(days=self.chance.randint(0, 9)), latest)
                self._at(max(on, today), self._consent(person, None), after=now)

        return act

    def _consent(self, person: Somebody, newcomer: str | None) -> Callable[[Session, datetime], None]:
        def act(session: Session, now: datetime) -> None:
            found = self._found(session, person)
            today = now.astimezone(self.zone).date()
            document = max(
                (each for each in self.study.definition.consent_documents if each.valid_from <= today),
                key=lambda each: each.valid_from,
            )
            by = self.team["coordinator"]
            consent.record_consent(
                session,
                self.study,
                found,
                version=document.version,
                language=document.language,
                method="on_screen",
                signed_on=today,
                signature=f"{self.chance.choice(GIVEN.split())} {self.chance.choice(FAMILY.split())}",
                paper_sha256=None,
                options={each.code: self.chance.random() < 0.85 for each in self.study.definition.consent.optional},
                by=by,
                now=now,
                countersign=True,
            )
            schedule.open_visits(session, self.study, found, anchor="consent", on=today, by=by, now=now)
            if newcomer == "consent":
                return
            on = today + timedelta(days=self.chance.randint(0, 3))
            self._at(on, self._baseline(person, partly=newcomer == "part"), after=now)

        return act

    def _baseline(self, person: Somebody, *, partly: bool) -> Callable[[Session, datetime], None]:
        def act(session: Session, now: datetime) -> None:
            found = self._found(session, person)
            # Nobody knows the arm yet; the published baseline means differ by chance, and so do these.
            self._enter(session, found, person, "baseline", now, only=("demographics", "pain") if partly else None)
            if person.randomised_on is not None:
                self._at(person.randomised_on, self._randomise(person), after=now)

        return act

    def _randomise(self, person: Somebody) -> Callable[[Session, datetime], None]:
        def act(session: Session, now: datetime) -> None:
            found = self._found(session, person)
            randomisation.randomise(session, self.study, found, by=self.team["coordinator"], now=now)
            person.arm = opening.open_envelope(
                session, self.study, found, by=self.team["clinician"], why="First appointment", now=now
            )
            if person.arm not in self.ranks:
                self.ranks[person.arm] = self.chance.sample(range(RANDOMISED), RANDOMISED)
                planned = self.study.definition.arm(person.arm)
                if planned is not None and planned.planned:
                    self.ranks[person.arm] = self.chance.sample(range(planned.planned), planned.planned)
            person.rank = self.ranks[person.arm].pop()
            self._plan_follow_up(person, now)
            self._plan_event(person, now)

        return act

    def _plan_follow_up(self, person: Somebody, now: datetime) -> None:
        randomised_on = now.astimezone(self.zone).date()
        definition = self.study.definition
        withdraws = person.rank < WITHDRAWN[person.arm]
        stops = randomised_on + timedelta(days=self.chance.randint(40, 100)) if withdraws else None
        for visit in definition.visits:
            if visit.anchor != "randomisation":
                continue
            target = randomised_on + timedelta(days=visit.day)
            if visit.kind == "treatment":
                attends = self.chance.random() < 0.9
                on = target + timedelta(days=self.chance.choice((-1, 0, 0, 0, 1, 2)))
                if stops is None or on < stops:
                    self._at(on, self._session(person, visit.code) if attends else self._miss(person, visit.code))
                continue
            off = round(self.chance.gauss(1, 4))
            if self.chance.random() < 0.05:
                off = self.chance.choice((-1, 1)) * (visit.window.after + self.chance.randint(1, 9))
            off = max(off, -visit.day)
            if stops is not None and target + timedelta(days=off) >= stops - timedelta(days=20):
                continue
            missed = person.rank < NO_PAIN[person.arm].get(visit.code, 3)
            on = target + timedelta(days=off)
            if missed:
                closes = target + timedelta(days=visit.window.after + 3)
                self._at(closes, self._miss(person, visit.code))
            else:
                self._at(on, self._assess(person, visit.code), after=now)
        if stops is not None:
            self._at(stops, self._withdraw(person), after=now)

    def _session(self, person: Somebody, visit: str) -> Callable[[Session, datetime], None]:
        def act(session: Session, now: datetime) -> None:
            found = self._found(session, person)
            treatment.record_session(
                session,
                self.study,
                found,
                visit=visit,
                held_on=now.astimezone(self.zone).date(),
                delivered=self._delivered(person.arm),
                base_version=0,
                why=None,
                by=self.team["clinician"],
                now=now,
            )

        return act

    def _delivered(self, arm: str) -> dict[str, dict[str, object] | bool]:
        modules = next(each.modules for each in self.study.definition.treatment if each.arm == arm)
        delivered: dict[str, dict[str, object] | bool] = {}
        for module in modules:
            values: dict[str, object] = {}
            for item in module.items:
                if item.type is ItemType.YES_NO:
                    values[item.code] = True
                elif item.type is ItemType.INTEGER:
                    values[item.code] = self.chance.choice((10, 15, 20, 25))
                elif item.code == "device":
                    values[item.code] = "Device A"
            delivered[module.code] = values
        return delivered

    def _assess(self, person: Somebody, visit: str) -> Callable[[Session, datetime], None]:
        def act(session: Session, now: datetime) -> None:
            found = self._found(session, person)
            without = ("rmdq",) if person.rank < NO_RMDQ[person.arm].get(visit, 0) else ()
            self._enter(session, found, person, visit, now, without=without)

        return act

    def _miss(self, person: Somebody, visit: str) -> Callable[[Session, datetime], None]:
        def act(session: Session, now: datetime) -> None:
            found = self._found(session, person)
            assert found.id is not None
            why = self.chance.choice(("Did not answer three calls", "Abroad", "Unwell", "No time"))
            planned = visit_of(session, found.id, visit)
            if planned.status == "planned":
                treats = planned.kind == "treatment"
                schedule.miss_visit(
                    session,
                    self.study,
                    found,
                    visit,
                    version=planned.version,
                    why=why,
                    by=self.team["clinician" if treats else "coordinator"],
                    now=now,
                    permission=Permission.TREATMENT_RECORD if treats else Permission.VISIT_RECORD,
                )

        return act

    def _withdraw(self, person: Somebody) -> Callable[[Session, datetime], None]:
        def act(session: Session, now: datetime) -> None:
            found = self._found(session, person)
            by = self.team["coordinator"]
            why = self.chance.choice(("Moved away", "Too much time", "Started another treatment"))
            on = now.astimezone(self.zone).date()
            participants.withdraw(session, self.study, found, level="stop_visits", reason=why, on=on, by=by, now=now)
            schedule.stop_visits(session, self.study, found, why=why, by=by, now=now)

        return act

    # Answers

    def _enter(
        self,
        session: Session,
        found: Participant,
        person: Somebody,
        visit_code: str,
        now: datetime,
        *,
        only: tuple[str, ...] | None = None,
        without: tuple[str, ...] = (),
    ) -> None:
        visit = self.study.definition.visit(visit_code)
        assert visit is not None
        assert found.id is not None
        by = self.team["coordinator" if visit_code == "baseline" else "assessor"]
        row = visit_of(session, found.id, visit_code)
        on = now.astimezone(self.zone).date()
        out_of_window = not row.opens_on <= on <= row.closes_on
        schedule.record_visit(
            session,
            self.study,
            found,
            visit_code,
            held_on=on,
            version=row.version,
            reason="Earlier appointments were full" if out_of_window else None,
            by=by,
            now=now,
        )
        for code in visit.instruments:
            if code in without or (only is not None and code not in only):
                continue
            instrument = self.study.definition.instrument(code)
            assert instrument is not None
            values = self._values(instrument, person, visit_code)
            saved = capture.save_entry(
                session,
                self.study,
                found,
                visit=visit_code,
                instrument=code,
                values=values,
                reasons=_Always("Confirmed with the participant"),
                base_version=0,
                why=None,
                by=by,
                now=now,
                accept_partial=True,
            )
            if (visit_code, code) == tour.TWICE:
                self._beside(now + timedelta(days=1 + person.serial % 3), self._again(person, values))
            if code == "pain" and self.chance.random() < 0.04:
                self._at(on + timedelta(days=self.chance.randint(1, 6)), self._correct(person, visit_code, values))
            elif code in ("pain", "rmdq") and visit_code == "week18" and saved.status == "complete":
                self._at(
                    on + timedelta(days=self.chance.randint(1, 9)), self._sign(person, visit_code, code, saved.version)
                )

    def _correct(self, person: Somebody, visit: str, values: dict[str, object]) -> Callable[[Session, datetime], None]:
        def act(session: Session, now: datetime) -> None:
            wrong = values.get("pain_bothersomeness")
            corrected = {**values, "pain_bothersomeness": 0 if wrong is None else (int(str(wrong)) + 1) % 10}
            capture.save_entry(
                session,
                self.study,
                self._found(session, person),
                visit=visit,
                instrument="pain",
                values=corrected,
                reasons=_Always("Confirmed with the participant"),
                base_version=1,
                why="Transcription error: the paper form says otherwise",
                by=self.team["assessor"],
                now=now,
                accept_partial=True,
            )

        return act

    def _sign(self, person: Somebody, visit: str, instrument: str, version: int) -> Callable[[Session, datetime], None]:
        def act(session: Session, now: datetime) -> None:
            capture.sign_entry(
                session,
                self.study,
                self._found(session, person),
                visit=visit,
                instrument=instrument,
                version=version,
                meaning="authorship",
                by=self.team["assessor"],
                now=now,
            )

        return act

    def _values(self, instrument: Instrument, person: Somebody, visit: str) -> dict[str, object]:
        arm = person.arm or self.chance.choice(("retraining", "sham"))
        better = 0.0 if visit == "baseline" else 0.2 if arm == "retraining" else 0.12
        if instrument.code == "rmdq":
            return self._rmdq(arm, visit)
        values: dict[str, object] = {}
        for item in instrument.items:
            if item.code == "pain_intensity":
                values[item.code] = self._rating(PAIN[arm].get(visit, 4.0), spread=1.9)
                continue
            if item.type is ItemType.CALCULATED:
                continue
            if item.required and instrument.code != "pain" and self.chance.random() < 0.003:
                values[item.code] = {"missing": self.chance.choice(("REF", "UNK"))}
            else:
                answer = self._answer(item, max(0.02, person.severity - better))
                if answer is not None:
                    values[item.code] = answer
        return values

    def _rating(self, mean: float, *, spread: float) -> int:
        """A whole rating 0-10 with this mean: a beta distribution scaled to the range, rounded without bias."""
        share = mean / 10
        size = share * (1 - share) / (spread / 10) ** 2 - 1
        exact = 10 * self.chance.betavariate(share * size, (1 - share) * size)
        whole = int(exact)
        return min(10, whole + (self.chance.random() < exact - whole))

    def _rmdq(self, arm: str, visit: str) -> dict[str, object]:
        probability, theta = RMDQ[arm][visit]
        share = self.chance.betavariate(probability * theta, (1 - probability) * theta)
        ticked = sorted(number for number in range(1, 25) if self.chance.random() < share)
        if not ticked:
            return {"rmdq_any": False}
        return {"rmdq_any": True, "rmdq_ticked": [str(number) for number in ticked]}

    def _answer(self, item: Item, severity: float) -> object:
        chance = self.chance
        if not item.required and chance.random() < 0.3:
            return None
        if item.type is ItemType.YES_NO:
            return chance.random() < severity
        if item.type is ItemType.CHOICE:
            return chance.choice(item.choices).code
        if item.type is ItemType.CHOICES:
            return [choice.code for choice in item.choices if chance.random() < severity]
        if item.type in (ItemType.SCALE, ItemType.INTEGER, ItemType.NUMBER):
            low = int(item.min if item.min is not None else item.expected_min or 0)
            high = int(item.max if item.max is not None else item.expected_max or 9)
            share = min(1.0, max(0.0, chance.gauss(severity, 0.16)))
            return round(low + share * (min(high, low + 60) - low))
        return None

    def _screening_answers(self, eligible: bool) -> dict[str, object]:
        chance = self.chance
        answers: dict[str, object] = {
            "age": min(70, max(18, round(chance.gauss(46, 14.3)))),
            "english": True,
            "main_complaint": True,
            "pain_weeks": chance.randint(14, 900),
            "pain_past_week": min(10, max(3, self._rating(5.7, spread=1.7))),
            "serious_condition": False,
            "previous_surgery": False,
        }
        if not eligible:
            wrong, value = chance.choice(
                (
                    ("age", 74),
                    ("pain_past_week", 2),
                    ("pain_weeks", 6),
                    ("english", False),
                    ("serious_condition", True),
                    ("previous_surgery", True),
                    ("main_complaint", False),
                )
            )
            answers[wrong] = value
        return answers

    def _personal(self, now: datetime, age: int) -> PersonalData:
        given, family = self.chance.choice(GIVEN.split()), self.chance.choice(FAMILY.split())
        born = date(now.year - age - 1, self.chance.randint(1, 12), self.chance.randint(1, 28))
        number = f"02 5550 {self.chance.randint(0, 9999):04d}"
        return PersonalData(given, family, born.isoformat(), number, f"{given}.{family}@example.org".lower())

    def _found(self, session: Session, person: Somebody) -> Participant:
        from app.participants.reads import participant_by_code

        return participant_by_code(session, self.study, person.code, by=self.team["coordinator"])


class _Always(dict[str, str]):
    """The same reason for whatever check asks."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    def get(self, key: str, default: object = None) -> str:
        return self.reason


def _listing(study: Study) -> str:
    """A list that is balanced after 276 slots, as CSV text."""
    arms = [(arm.code, arm.ratio) for arm in study.arms]
    for number in range(1000):
        seed = sha512(f"resolve demo {number}".encode()).digest()[:48]
        drawn = draw(
            "permuted_blocks", arms, ["all"], SLOTS, {"block_sizes": [4, 6, 8]}, seed, study=STUDY, list_version=1
        )
        slots = drawn.slots["all"]
        if all(slots[:RANDOMISED].count(code) * len(arms) == RANDOMISED for code, _ in arms):
            text = io.StringIO()
            writer = csv.writer(text)
            writer.writerow(["position", "arm"])
            writer.writerows(enumerate(slots, 1))
            return text.getvalue()
    raise RuntimeError("No balanced list was found.")


def build(database: Database, *, as_of: datetime, participants: int = RANDOMISED) -> Iterator[float]:
    """Fill an empty, migrated database with the demo trial; yields how far it is, 0 to 1."""
    cohort = Cohort(database, as_of=as_of, participants=participants)
    cohort.set_up()
    cohort.plan()
    # A hundred thousand rows are made and let go again; looking for cycles among them is a tenth of the time.
    gc.disable()
    try:
        yield from cohort.play()
        cohort.find_deviations()
    finally:
        gc.enable()


MARKER = "equipoise-demo"
DEMO_FILES = ("ready", "equipoise.db", "equipoise.db-wal", "equipoise.db-shm", "equipoise.key")


def make_room(data: Path, *, fresh: bool) -> bool:
    """Whether a demo may live in this folder; takes away what an earlier one left, when it was not finished or `fresh`.

    Only a folder that a demo has marked as its own is ever cleared: one of a real installation holds the same names.
    """
    if data.exists() and (not data.is_dir() or (any(data.iterdir()) and not (data / MARKER).is_file())):
        return False
    if fresh or not (data / "ready").exists():
        for name in DEMO_FILES:
            (data / name).unlink(missing_ok=True)
        for checkpoint in (data / "checkpoints").glob("*.checkpoint"):
            checkpoint.unlink()
    data.mkdir(parents=True, exist_ok=True)
    (data / MARKER).touch()
    return True


def work_in_background(database: Database, settings: "Settings", stop: threading.Event) -> None:
    """Make the exports that wait, as `equipoise jobs` does for an installation: a demo is one process."""
    from app.exports.running import make_waiting

    while not stop.is_set():
        make_waiting(database, settings.exports, clock.now)
        stop.wait(BETWEEN_ROUNDS)


def link_for_today(database: Database, now: datetime) -> str | None:
    """The secret of a new link to the questions of somebody who can answer them today; None once nobody can."""
    with database.writing() as session:
        study, person = study_in_use(session, STUDY), persons.person_by_username(session, "coordinator")
        assert person is not None
        site = persons.sites_of(session, study.id)[0]
        by = Actor(person.id, person.username, person.name, "", (Grant(Role.COORDINATOR, site.id),), study.id, "demo")
        for code, visit in tour.due_by_link(session, study, clock.today(site.timezone, now), 1):
            found = participant_by_code(session, study, code, by=by)
            return tour.give(session, study, found, visit, by=by, now=now)
    return None


def serve_demo(*, port: int, data: Path, fresh: bool, participants: int, console: Console) -> None:
    """Build the demo once, then serve it on loopback."""
    from app.installation import application, log_config, migrate, open_database
    from app.settings import Settings

    if not make_room(data, fresh=fresh):
        console.print(f"{data} holds other files than a demo's. Name another folder.", style="red", markup=False)
        sys.exit(1)
    address = f"http://127.0.0.1:{port}"
    os.environ.update(
        EQUIPOISE_DATA=str(data),
        EQUIPOISE_SECURE_COOKIES="false",
        EQUIPOISE_DEMO="true",
        EQUIPOISE_ADDRESS=address,
    )
    for name in ("EQUIPOISE_DATABASE", "EQUIPOISE_KEY_FILE"):
        os.environ.pop(name, None)
    settings = Settings()
    ready = data / "ready"
    database = open_database(settings, create=True)
    migrate(database)  # also what an earlier version played
    if not ready.exists():
        columns = (
            TextColumn("Playing RESOLVE until today"),
            BarColumn(),
            TimeRemainingColumn(),
        )
        if not console.is_terminal:  # there the bar draws nothing, and minutes of silence look like a fault
            console.print("Playing RESOLVE until today (once; this takes a minute or two) ...", markup=False)
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=1.0)
            for share in build(database, as_of=clock.now(), participants=participants):
                progress.update(task, completed=share)
        ready.touch()
    database.dispose()
    console.print(f"\n  Equipoise, RESOLVE demo: {address}\n", markup=False)
    for username, name, role, _ in (*TEAM, ("administrator", "Ada Byrne", Role.ADMINISTRATOR, False)):
        console.print(f"    {username:14} {role.replace('_', ' '):14} {name}", markup=False)
    serving = open_database(settings)
    if (asked := link_for_today(serving, clock.now())) is not None:
        console.print(f"\n  A participant's questions, for a telephone: {address}/link/{asked}", markup=False)
    console.print(f"\n  The password of everybody: {PASSWORD}\n  Stop with Ctrl+C. Data: {data}\n", markup=False)

    import uvicorn

    begun = threading.Thread(target=work_in_background, args=(serving, settings, threading.Event()), daemon=True)
    begun.start()
    uvicorn.run(
        application,
        factory=True,
        host="127.0.0.1",
        port=port,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        log_config=log_config(),
    )
