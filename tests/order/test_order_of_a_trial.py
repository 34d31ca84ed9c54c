"""Promise 5: no consent, no data; not eligible, no allocation. Every action is tried at every time, over both doors.

A model of one participant says what must happen; what is refused must leave nothing behind but its refusal.
"""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import time_machine
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Dialect, func, select
from sqlmodel import Session, SQLModel

from app.audit.actions import ENTRY as LOG
from app.capture.reads import ENTRY
from app.consent.models import Consent
from app.foundation.database import table_of
from app.participants.models import Participant, Screening
from app.randomisation.models import Allocation, Stratum
from app.schedule.models import ParticipantVisit
from app.treatment.models import TreatmentSession
from tests.blinding.conftest import fresh_database
from tests.blinding.trial import ACTIVE, API, BEGUN, PASSWORD, Trial, listing_of, set_up
from tests.factories import MINI

PARTICIPANT, SCREENING, CONSENT = table_of(Participant), table_of(Screening), table_of(Consent)
VISIT, ALLOCATION, STRATUM = table_of(ParticipantVisit), table_of(Allocation), table_of(Stratum)
TREATED = table_of(TreatmentSession)

PLAIN = {"consent": {}, "withdrawal_levels": MINI["withdrawal_levels"]}
"""Nothing is asked beside the consent, and a withdrawal stops what the walk knows of."""
TODAY = BEGUN.date().isoformat()
ELIGIBLE = {"age": 44, "pain_screen": 6, "surgery": False}
COMPLETE = {"pain_nrs": 6, "pain_days": 3}
PARTIAL = {"pain_nrs": 5}
FIRST_WINDOW = ("baseline", "tx01", "week18")

# What a refused attempt may touch: the log itself, and what signing in and repeating requests keeps.
OF_THE_REQUEST = {
    "audit_entry",
    "audit_head",
    "sign_in_attempt",
    "sign_in_session",
    "api_token",
    "idempotent_request",
}
REACHED: Counter[str] = Counter()


@cache
def _asking(dialect: Dialect) -> str:
    """What to ask for every row of every table that is not about the request itself: its table, and all it holds.

    In one statement: the tables are many, most have few rows, and everything that is refused is asked for twice.
    """
    tables = {table.name: table for table in SQLModel.metadata.sorted_tables}
    # Slots never change (tests/randomisation).
    wanted = sorted(tables.keys() - OF_THE_REQUEST - {"slot"})
    whole = dict.fromkeys(wanted, "t::text")
    if dialect.name == "sqlite":
        whole = {name: " || ',' || ".join(f'quote("{each.name}")' for each in tables[name].columns) for name in wanted}
    return " UNION ALL ".join(f"SELECT '{name}', {whole[name]} FROM \"{name}\" t" for name in wanted)


def state_of(session: Session) -> list[tuple[str, str]]:
    """Every row that is not about the request itself, as the database writes it: they are compared, and not read."""
    connection = session.connection()
    return sorted((table, row) for table, row in connection.exec_driver_sql(_asking(connection.dialect)))


class OneParticipant(RuleBasedStateMachine):
    """One participant, to whom anything is done at any time; the fields are what the model believes of them."""

    trial: ClassVar[Trial]

    def __init__(self) -> None:
        super().__init__()
        self.code = ""
        self.failed = False
        self.consent = "none"  # none, pending, complete
        self.visits: dict[str, str] = {}
        self.entries: dict[str, tuple[int, bool, bool]] = {}  # visit -> version, complete, signed
        self.randomised = False
        self.withdrawn = False
        self.level: str | None = None
        self.treated = 0
        self.count = 0

    # What is asked of the server, and what is believed to come of it

    def attempt(self, what: str, allowed: bool, reply_of: Any, *, refusals: tuple[int, ...] = (409,)) -> Any:
        """Try it. What is refused changes nothing, and stands in the log as refused once."""
        if not allowed:
            with self.trial.database.reading() as session:
                before = state_of(session)
                logged = session.execute(select(func.max(LOG.c.position)).where(LOG.c.log == "mini")).scalar_one()
        reply = reply_of()
        said = f"{what} of {self.code} ({vars(self)}): {reply.status_code} {reply.text[:400]}"
        REACHED[f"{what} {'done' if allowed else 'refused'}"] += 1
        if allowed:
            assert reply.status_code in (200, 201, 303), said
            return reply
        assert reply.status_code in refusals, said
        with self.trial.database.reading() as session:
            after = state_of(session)
            new = session.execute(
                select(LOG.c.action, LOG.c.participant).where(LOG.c.log == "mini", LOG.c.position > logged)
            ).all()
        assert after == before, said
        # An address without anything behind it (404) is no attempt at anything, and is not written down.
        assert [row.action.endswith("_refused") for row in new] == [True] * (reply.status_code != 404), (said, new)
        assert all(row.participant == self.code for row in new), (said, new)
        return reply

    def state(self) -> list[tuple[str, str]]:
        with self.trial.database.reading() as session:
            return state_of(session)

    def api(self, method: str, path: str, body: dict[str, Any] | None = None, *, who: str = "coordinator") -> Any:
        return self.trial.api(who, method, f"{API}/participants{path}", body)

    def web(self, path: str, data: dict[str, Any]) -> Any:
        return self.trial.web("coordinator", "POST", f"/mini/participants/{self.code}{path}", data)

    def plan(self, *visits: str) -> None:
        for visit in visits:
            self.visits.setdefault(visit, "planned")

    # Everything that can be done

    @initialize(eligible=st.sampled_from([True, True, True, False]))
    def screen(self, eligible: bool) -> None:
        answers = ELIGIBLE if eligible else {**ELIGIBLE, "surgery": True}
        body: dict[str, Any] = {"site": "north", "answers": answers}
        if not eligible:
            body["failure_reason"] = "not_eligible"
        reply = self.trial.did(self.api("POST", "", body)).json()
        self.code, self.failed = reply["code"], not eligible
        assert reply["eligible"] is eligible

    @rule(countersign=st.booleans(), door=st.sampled_from(["api", "web"]))
    def record_consent(self, countersign: bool, door: str) -> None:
        allowed = not self.failed and not self.withdrawn and self.consent == "none"
        body: dict[str, Any] = {"version": "1", "signed_on": TODAY, "signature": "Anna Muster", "password": PASSWORD}
        if door == "api":
            self.attempt(
                "consent",
                allowed,
                lambda: self.api("POST", f"/{self.code}/consents", {**body, "countersign": countersign}),
            )
        else:
            typed = {**body, "language": "en", "method": "on_screen", "countersign": "now" if countersign else ""}
            self.attempt("consent", allowed, lambda: self.web("/consent", typed))
        if allowed:
            self.consent = "complete" if countersign else "pending"
            if countersign:
                self.plan("baseline")

    @rule()
    def countersign(self) -> None:
        allowed = self.consent == "pending" and not self.withdrawn
        with self.trial.database.reading() as session:
            mine = select(CONSENT.c.id).join(PARTICIPANT).where(PARTICIPANT.c.code == self.code)
            number = session.execute(mine).scalar()
        path = f"/{self.code}/consents/{number or 10**6}/countersignature"
        self.attempt(
            "countersignature",
            allowed,
            lambda: self.api("POST", path, {"password": PASSWORD}),
            refusals=(409,) if number else (404,),
        )
        if allowed:
            self.consent = "complete"
            self.plan("baseline")

    @rule(visit=st.sampled_from(FIRST_WINDOW))
    def hold_visit(self, visit: str) -> None:
        found = self.trial.did(self.api("GET", f"/{self.code}/visits")).json()["items"]
        version = next((each["version"] for each in found if each["code"] == visit), 1)
        assert {each["code"]: each["status"] for each in found} == self.visits
        allowed = visit != "tx01" and self.visits.get(visit) == "planned"
        body = {"status": "held", "held_on": TODAY, "reason": "The only day that suited", "version": version}
        # A withdrawal of today leaves today's visit to be recorded; it was held before they left.
        late = visit != "tx01" and self.visits.get(visit) == "stopped"
        refusals = (404,) if visit not in self.visits else (403,) if visit == "tx01" else (409,)
        self.attempt(
            "visit", allowed or late, lambda: self.api("PUT", f"/{self.code}/visits/{visit}", body), refusals=refusals
        )
        if allowed or late:
            self.visits[visit] = "held"

    @rule(visit=st.sampled_from(("baseline", "week18")), complete=st.booleans(), door=st.sampled_from(["api", "web"]))
    def save_entry(self, visit: str, complete: bool, door: str) -> None:
        allowed = self.consent == "complete" and not self.failed and self.visits.get(visit) in ("planned", "held")
        version, _, _ = self.entries.get(visit, (0, False, False))
        self.count += 1
        values: dict[str, Any] = {**(COMPLETE if complete else PARTIAL), "pain_note": f"No. {self.count}"}
        path = f"/visits/{visit}/entries/pain"
        if door == "api":
            body = {"values": values, "base_version": version, "why": "Misread", "accept_partial": True}
            self.attempt("entry", allowed, lambda: self.api("PUT", f"/{self.code}{path}", body))
        else:
            typed = {**values, "base-version": str(version), "form-why": "Misread", "save-as": "partial"}
            refusals = (409,) if visit in self.visits else (404, 409)
            self.attempt("entry", allowed, lambda: self.web(path, typed), refusals=refusals)
        if allowed:
            self.entries[visit] = (version + 1, complete, False)

    @rule(visit=st.sampled_from(("baseline", "week18")))
    def sign_entry(self, visit: str) -> None:
        version, complete, signed = self.entries.get(visit, (0, False, False))
        allowed = complete and not signed
        body = {"version": version, "meaning": "authorship", "password": PASSWORD}
        path = f"/{self.code}/visits/{visit}/entries/pain/signature"
        if signed:  # what one has signed, one may sign again: nothing changes
            before = self.state()
            self.trial.did(self.api("POST", path, body, who="assessor"))
            assert self.state() == before
            return
        self.attempt("signature", allowed, lambda: self.api("POST", path, body, who="assessor"), refusals=(404, 409))
        if allowed:
            self.entries[visit] = (version, True, True)

    @rule(door=st.sampled_from(["api", "web"]))
    def randomise(self, door: str) -> None:
        allowed = (
            not self.failed
            and self.consent == "complete"
            and self.entries.get("baseline", (0, False, False))[1]
            and not self.randomised
            and not self.withdrawn
        )
        if door == "api":
            self.attempt("randomisation", allowed, lambda: self.api("POST", f"/{self.code}/randomise"))
        else:
            self.attempt("randomisation", allowed, lambda: self.web("/randomise", {"password": PASSWORD}))
        if allowed:
            self.randomised = True
            self.plan("tx01", "week18")

    @rule()
    def treat(self) -> None:
        # Whoever withdrew today gets nothing any more from that day on.
        allowed = self.randomised and self.treated == 0 and self.visits.get("tx01") == "planned" and self.level is None
        if self.visits.get("tx01") == "stopped" or self.treated:
            return  # a session of today before they left, and corrections: tests/treatment
        delivered = {"jonquillesson": {"jonquilminutes": 20}, "ochrehomework": False}
        body = {"held_on": TODAY, "delivered": delivered, "version": 0, "reason": "The only day that suited"}
        path = f"{API}/treatment/participants/{self.code}/sessions/tx01"
        self.attempt("treatment", allowed, lambda: self.trial.api("clinician", "PUT", path, body), refusals=(404, 409))
        if allowed:
            self.treated, self.visits["tx01"] = 1, "held"

    @rule(
        level=st.sampled_from(["treatment", "visits"]),
        door=st.sampled_from(["api", "web"]),
        stay=st.sampled_from([True] * 5 + [False]),
    )
    def withdraw(self, level: str, door: str, stay: bool) -> None:
        goes_further = self.level is None or (self.level, level) == ("treatment", "visits")
        allowed = not self.failed and goes_further
        if allowed and stay:
            return  # mostly, or nobody would get far
        if door == "api":
            body = {"level": level, "on": TODAY, "reason": "Moved away"}
            self.attempt("withdrawal", allowed, lambda: self.api("POST", f"/{self.code}/withdrawal", body))
        else:
            typed = {"level": level, "on": TODAY, "why": "Moved away", "password": PASSWORD}
            self.attempt("withdrawal", allowed, lambda: self.web("/withdraw", typed))
        if allowed:
            self.level = level
            self.withdrawn = level == "visits" or not self.randomised
            if self.withdrawn:
                self.visits = {code: "stopped" if was == "planned" else was for code, was in self.visits.items()}

    @rule()
    def go_on(self) -> None:
        """The next step of the walk, so that many get to its end."""
        if self.consent == "none":
            self.record_consent(countersign=True, door="api")
        elif self.consent == "pending":
            self.countersign()
        elif not self.entries.get("baseline", (0, False, False))[1]:
            self.save_entry(visit="baseline", complete=True, door="api")
        elif not self.randomised:
            self.randomise(door="web")
        else:
            self.save_entry(visit="week18", complete=True, door="web")

    # What must be true at every moment, read from the rows and not from the model

    @invariant()
    def no_consent_no_data_and_not_eligible_no_allocation(self) -> None:
        if not self.code:
            return
        with self.trial.database.reading() as session:
            mine = session.execute(select(PARTICIPANT).where(PARTICIPANT.c.code == self.code)).one()
            eligible = session.execute(
                select(SCREENING.c.eligible).where(SCREENING.c.participant_id == mine.id)
            ).scalar_one()
            consents = session.execute(
                select(CONSENT.c.countersigned_at).where(
                    CONSENT.c.participant_id == mine.id, CONSENT.c.countersigned_at.is_not(None)
                )
            ).all()
            entries = session.execute(select(ENTRY).where(ENTRY.c.participant_id == mine.id)).all()
            allocations = session.execute(select(ALLOCATION).where(ALLOCATION.c.participant_id == mine.id)).all()
            treated = session.execute(select(TREATED).where(TREATED.c.participant_id == mine.id)).all()
            visits = session.execute(select(VISIT).where(VISIT.c.participant_id == mine.id)).all()
            used = session.execute(select(func.sum(STRATUM.c.used))).scalar_one()
            taken = session.execute(select(func.count()).select_from(ALLOCATION)).scalar_one()
            actions = list(
                session.execute(
                    select(LOG.c.action).where(LOG.c.participant == self.code).order_by(LOG.c.position)
                ).scalars()
            )
        assert not entries or (consents and eligible)
        assert len(allocations) <= 1
        if allocations:
            assert eligible
            assert consents
            first = next(row for row in entries if row.visit == "baseline")
            assert first.created_at <= allocations[0].allocated_at
        assert not treated or allocations
        assert bool(allocations) == any(row.code == "week18" for row in visits)
        assert used == taken
        walk = ["participant.screened", "consent.recorded", "consent.countersigned", "participant.randomised"]
        begun = [actions.index(each) for each in walk if each in actions]
        assert begun == sorted(begun)
        if entries and "consent.countersigned" in actions:
            saved = next(index for index, each in enumerate(actions) if each in ("entry.saved", "entry.created"))
            assert actions.index("consent.countersigned") < saved
        assert (mine.status == "screen_failed") == self.failed
        assert (mine.status == "withdrawn") == self.withdrawn


@pytest.fixture(params=["sqlite", "postgres"])
def trial(request: pytest.FixtureRequest, templates: Any, tmp_path: Path, worker: str) -> Iterator[Trial]:
    """A study with a sealed list that is long enough; time stands still."""
    database = fresh_database(request.param, templates, request.config, worker, tmp_path, "order")
    with time_machine.travel(BEGUN, tick=False):
        made = set_up(database, tmp_path, PLAIN)
        made.sign_in()
        listing = listing_of({"north": (ACTIVE,) * 400, "south": (ACTIVE,)})
        made.did(made.web("statistician", "POST", "/mini/sequence/upload", {"listing": listing}))
        made.did(made.web("statistician", "POST", "/mini/sequence/1/seal", {"password": PASSWORD}))
        yield made
    database.dispose()


@pytest.mark.requirement("P11-f", "E9-3", "GDPR-7", "EMA-15", "SEC-7", "SEC-8")
@pytest.mark.timeout(600)
def test_the_server_keeps_the_order_of_a_trial(trial: Trial):
    class Machine(OneParticipant):
        pass

    Machine.trial = trial
    REACHED.clear()
    _walk(Machine())
    run_state_machine_as_test(
        Machine,
        settings=settings(
            # What is in which order is the same on both databases: on one of them it is looked for longer.
            max_examples=25 if trial.database.is_sqlite else 6,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    # Everything was done, and everything was refused, whatever chance brought.
    for what in ("consent", "countersignature", "visit", "entry", "signature", "randomisation", "withdrawal"):
        assert REACHED[f"{what} done"], (what, REACHED)
        assert REACHED[f"{what} refused"], (what, REACHED)
    assert REACHED["treatment done"]
    assert REACHED["treatment refused"]


def _walk(one: OneParticipant) -> None:
    """The walk of one participant, each step tried too early, in time, and once more."""
    one.screen(True)
    early = (
        lambda: one.countersign(),
        lambda: one.hold_visit("baseline"),
        lambda: one.save_entry("baseline", True, "api"),
        lambda: one.sign_entry("baseline"),
        lambda: one.randomise("api"),
        lambda: one.treat(),
    )
    for too_early in early:
        too_early()
    for door in ("web", "api"):
        one.record_consent(False, door)
    for _ in range(2):
        one.countersign()
    for _ in range(2):
        one.hold_visit("baseline")
    one.save_entry("baseline", True, "api")
    for _ in range(2):
        one.sign_entry("baseline")
    for door in ("web", "api"):
        one.randomise(door)
    one.treat()
    for _ in range(2):
        one.withdraw("visits", "web", False)
    one.save_entry("week18", True, "web")
    one.no_consent_no_data_and_not_eligible_no_allocation()
