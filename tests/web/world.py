"""The small trial as pages see it: people at two sites, and participants who came as far as a test needs."""

from copy import copy
from datetime import date
from typing import Any, Self

from sqlalchemy import select
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.capture.actions import save_entry
from app.consent.actions import record_consent
from app.foundation import clock
from app.foundation.database import Database
from app.participants.actions import screen
from app.participants.identity import PARTICIPANT
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.participants.rules import PersonalData
from app.people.access import Actor
from app.schedule.actions import open_visits
from app.studies.in_use import StudyInUse
from tests.factories import mini_study, person, site
from tests.web.browser import Browser, signed_in_client

ELIGIBLE = {"age": "44", "pain_screen": "6", "surgery": "no"}
STORED = {"age": 44, "pain_screen": 6, "surgery": False}
NAMED = PersonalData("Ada", "Lovelace", "1980-12-10", "+61 2 9999 0000", "ada@example.org")


class World:
    """The small trial in one database."""

    def __init__(self, database: Database, **changes: object) -> None:
        self.database = database
        with database.writing() as session:
            self.study: StudyInUse = mini_study(session, **changes)
        places = [place.code for place in self.study.definition.sites]
        self.coordinators = {code: self.person("coordinator", site_code=code) for code in places}

    def on(self, database: Database) -> Self:
        """The same in another session with what was written: for what the tests of a file begin with (`begun`)."""
        again = copy(self)
        again.database = database
        return again

    def person(self, *roles: str, site_code: str | None = "north") -> Actor:
        with self.database.writing() as session:
            return person(session, self.study, *roles, site_code=site_code)

    def browser(self, *roles: str, site_code: str | None = "north", **settings: Any) -> Browser:
        return signed_in_client(self.database, self.person(*roles, site_code=site_code), **settings)

    def coordinator(self, site_code: str = "north", **settings: Any) -> Browser:
        return signed_in_client(self.database, self.coordinators[site_code], **settings)

    def today(self, site_code: str = "north") -> date:
        """The date at a site."""
        place = next(each for each in self.study.definition.sites if each.code == site_code)
        return clock.today(place.timezone)

    def screened(self, site_code: str = "north", personal: PersonalData = NAMED) -> Participant:
        """An eligible participant, screened today."""
        with self.database.writing() as session:
            participant, eligibility = screen(
                session,
                self.study,
                site=site(session, self.study, site_code),
                answers=STORED,
                failure_reason=None,
                personal=personal,
                by=self.coordinators[site_code],
                now=clock.now(),
            )
            assert eligibility.eligible
            return participant

    def consented(self, site_code: str = "north", *, countersigned: bool = True) -> Participant:
        """A participant who consented today."""
        participant = self.screened(site_code)
        with self.database.writing() as session:
            self._consent(session, participant, self.coordinators[site_code], countersigned=countersigned)
        return participant

    def _consent(self, session: Session, participant: Participant, by: Actor, *, countersigned: bool) -> None:
        now = clock.now()
        on = participant.screened_on
        record_consent(
            session,
            self.study,
            participant,
            version="1",
            language="en",
            method="on_screen",
            signed_on=on,
            signature="Ada Lovelace",
            paper_sha256=None,
            options={choice.code: True for choice in self.study.definition.consent.optional},
            by=by,
            now=now,
            countersign=countersigned,
        )
        if countersigned:
            open_visits(session, self.study, participant, anchor="consent", on=on, by=by, now=now)

    def filled(self, site_code: str = "north", code: str = "") -> Participant:
        """A participant whose baseline is complete."""
        participant = self.found(code) if code else self.consented(site_code)
        with self.database.writing() as session:
            save_entry(
                session,
                self.study,
                participant,
                visit="baseline",
                instrument="pain",
                values={"pain_nrs": 5, "pain_days": 3},
                reasons={},
                base_version=0,
                by=self.coordinators[site_code],
                now=clock.now(),
            )
        return participant

    def found(self, code: str, site_code: str = "north") -> Participant:
        """The participant as stored now."""
        with self.database.reading() as session:
            return participant_by_code(session, self.study, code, by=self.coordinators[site_code])

    def codes(self) -> list[str]:
        """Everybody who is kept."""
        with self.database.reading() as session:
            return list(session.execute(select(PARTICIPANT.c.code).order_by(PARTICIPANT.c.code)).scalars())

    def log(self) -> list[str]:
        """What was done, in order."""
        with self.database.reading() as session:
            wanted = select(ENTRY.c.action).where(ENTRY.c.log == self.study.code).order_by(ENTRY.c.position)
            return list(session.execute(wanted).scalars())
