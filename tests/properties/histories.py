"""Any history: what people do in a trial, one act after the other, through the actions they really use.

An act is a name and numbers that choose among what there is. Whatever is refused leaves nothing behind; anything but a
refusal of the house is a defect.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.audit.verify import verify
from app.capture.actions import miss_visit, save_entry, sign_entry
from app.capture.casebook.actions import sign_casebook
from app.capture.casebook.reads import corrected_screening, standing_signature
from app.capture.casebook.rules import casebook_digest, holds, manifest_of
from app.capture.checks import judge
from app.capture.coding import actions as coding
from app.capture.coding.following import TEXT
from app.capture.coding.reads import CHOICE
from app.capture.coding.rules import WAITING
from app.capture.coding.rules import State as TextState
from app.capture.double import actions as second
from app.capture.double.held import PAIR
from app.capture.double.reads import ANSWER
from app.capture.double.rules import PENDING, Chosen, is_held_back
from app.capture.double.rules import State as PairState
from app.capture.locks.actions import approve_unlock, ask_to_unlock, close_data, lift_freezing
from app.capture.locks.reads import LOCK
from app.capture.locks.rules import Kind
from app.capture.models import QueryMessage
from app.capture.queries import actions as queries
from app.capture.queries.reads import QUERY
from app.capture.queries.rules import TRANSITIONS as QUERY_STEPS
from app.capture.queries.rules import Step as QueryStep
from app.capture.reads import ENTRY, answers_of, entries_with_values
from app.capture.rules import EntryState, signature_holds
from app.capture.verification.actions import verify_items
from app.consent.actions import record_consent
from app.foundation.database import table_of
from app.foundation.errors import Problem
from app.participants.actions import screen, withdraw
from app.participants.corrections.actions import Asked
from app.participants.corrections.reads import ANSWERED, CORRECTED, screening_of
from app.participants.corrections.rules import Allotted
from app.participants.identity import PARTICIPANT
from app.participants.models import Participant
from app.participants.rules import PersonalData
from app.participants.rules.status import TRANSITIONS as STATUSES
from app.participants.status import Status
from app.safety.screening import correct_screening
from app.schedule.actions import open_visits, stop_visits
from app.schedule.reads import visits_of
from app.studies.in_use import StudyInUse
from tests.factories import NOW, TODAY, person, site
from tests.properties.studies import answer

MESSAGE = table_of(QueryMessage)
Numbers = tuple[int, int, int]
SAVERS = "0160163"  # all of them but the last enter forms


class History:
    """One trial from its first day on. `done` counts the acts that were carried out, `refused` those that were not."""

    def __init__(self, session: Session, study: StudyInUse) -> None:
        self.session, self.study = session, study
        self.now = NOW
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.stood: dict[int, str] = {}
        self.versions: dict[int, int] = {}
        self.people = [
            person(session, study, *roles, username=name)
            for name, roles in (
                ("coordinator", ("coordinator",)),
                ("assessor", ("assessor",)),
                ("investigator", ("investigator",)),
                ("manager", ("data_manager",)),
                ("other", ("data_manager",)),
                ("monitor", ("monitor",)),
                ("outsider", ("coordinator", "assessor")),
            )
        ]
        self.acts: dict[str, Callable[[Numbers], Any]] = {
            "screen": self.screen,
            "correct_screening": self.correct_screening,
            "consent": self.consent,
            "save": self.save,
            "correct": self.correct,
            "second": self.second,
            "settle": self.settle,
            "sign": self.sign,
            "verify": self.verify,
            "ask": self.ask,
            "answer_query": self.answer_query,
            "close": self.close,
            "unlock": self.unlock,
            "code": self.code,
            "settle_text": self.settle_text,
            "sign_casebook": self.sign_casebook,
            "miss": self.miss,
            "withdraw": self.withdraw,
        }

    def by(self, number: int, whom: str = "0123456") -> Any:
        """Who acts; `whom` lists people by their place, mostly such as may, or everything would be refused."""
        return self.people[int(whom[number % len(whom)])]

    def act(self, name: str, numbers: Numbers) -> None:
        """One act; what is refused is taken back whole, as a request would be."""
        self.now += timedelta(minutes=7)
        before = self._logged()
        point = self.session.begin_nested()
        try:
            went = self.acts[name](numbers)
        except Problem as problem:
            point.rollback()
            self.session.expire_all()
            self.refused[name] += 1
            said, went = problem.reason, None
        else:
            said = "It was done."
            point.commit()
        assert said.strip(), "a refusal says why"
        if went is not None:
            self.done[name] += 1
        elif said != "It was done.":
            assert self._logged() == before, "nothing of what was refused stays"

    def _logged(self) -> int:
        query = select(func.count()).select_from(AUDIT_ENTRY).where(AUDIT_ENTRY.c.log == self.study.code)
        return int(self.session.execute(query).scalar_one())

    # Choosing among what there is

    def one(self, number: int) -> Participant | None:
        ids = list(self.session.execute(select(PARTICIPANT.c.id).order_by(PARTICIPANT.c.id)).scalars())
        return self.session.get(Participant, ids[number % len(ids)]) if ids else None

    def row(self, table: Any, number: int, *where: Any) -> Any:
        rows = self.session.execute(select(table).where(*where).order_by(table.c.id)).mappings().all()
        return rows[number % len(rows)] if rows else None

    def spots(self) -> list[tuple[str, str]]:
        return [(visit.code, code) for visit in self.study.definition.visits for code in visit.instruments]

    def values(self, instrument: str, number: int, before: Mapping[str, object] = {}) -> dict[str, object]:
        form = self.study.definition.instrument(instrument)
        assert form is not None
        missing = bool(self.study.definition.missing_codes)
        drawn = {
            item.code: answer(item, number * 7 + place * 3, missing)
            for place, item in enumerate(form.items)
            if item.type != "calculated"
        }
        if before:  # a correction changes a part
            drawn = {
                code: value if place % 2 == number % 2 else before.get(code)
                for place, (code, value) in enumerate(drawn.items())
            }
        return {code: value for code, value in drawn.items() if value is not None}

    # Acts: None when there was nothing to act upon

    def screen(self, numbers: Numbers) -> Any:
        pain = (6, 1)[numbers[0] % 4 == 0]
        return screen(
            self.session,
            self.study,
            site=site(self.session, self.study),
            answers={"age": 44, "pain_screen": pain, "surgery": False},
            failure_reason=None if pain > 2 else "not_eligible",
            personal=PersonalData("Ada", "Lovelace", "1980-12-10", "", ""),
            by=self.people[0],
            now=self.now,
        )

    def correct_screening(self, numbers: Numbers) -> Any:
        participant = self.one(numbers[0])
        if participant is None:
            return None
        screening, _ = screening_of(self.session, participant.id or 0)
        assert screening is not None
        answers = {**screening.answers, "age": 40 + numbers[1] % 8, "pain_screen": (6, 5, 1)[numbers[2] % 3]}
        was = Status(participant.status)
        asked = Asked(answers, "" if numbers[1] % 2 else None, screening.version - (numbers[1] % 9 == 8), "Misread")
        made = correct_screening(
            self.session,
            self.study,
            participant,
            asked,
            lot=lambda _: Allotted(has_place=False, moved={}),
            by=self.by(numbers[2], "0006"),
            now=self.now,
        )
        if made is not None:
            assert (made.status_before, made.status) == (was, Status(participant.status))
            assert not self._closed(participant.id or 0, ""), "nothing is corrected where the data are closed"
            # The one way back from a screen failure, and the one way to it of somebody who consented.
            self.stood[participant.id or 0] = participant.status
        return made

    def consent(self, numbers: Numbers) -> Any:
        participant = self.one(numbers[0])
        if participant is None:
            return None
        made = record_consent(
            self.session,
            self.study,
            participant,
            version="1",
            language="en",
            method="on_screen",
            signed_on=TODAY,
            signature="Ada Lovelace",
            paper_sha256=None,
            options={},
            by=self.people[0],
            now=self.now,
            countersign=numbers[1] % 5 != 0,
        )
        for anchor in ("screening", "consent"):
            open_visits(self.session, self.study, participant, anchor=anchor, on=TODAY, by=self.people[0], now=self.now)
        return made

    def save(self, numbers: Numbers) -> Any:
        participant = self.one(numbers[0])
        if participant is None:
            return None
        visit, instrument = self.spots()[numbers[1] % len(self.spots())]
        assert participant.id is not None
        entry = self._entry(participant.id, visit, instrument)
        return self._save(participant, visit, instrument, self.values(instrument, numbers[2]), entry, numbers)

    def correct(self, numbers: Numbers) -> Any:
        row = self.row(ENTRY, numbers[0])
        if row is None:
            return None
        participant = self.session.get(Participant, row["participant_id"])
        assert participant is not None
        entry = self._entry(row["participant_id"], row["visit"], row["instrument"])
        assert entry is not None
        values = self.values(entry.instrument, numbers[2], entry.values)
        return self._save(participant, entry.visit, entry.instrument, values, entry, numbers)

    def _save(
        self,
        participant: Participant,
        visit: str,
        instrument: str,
        values: dict[str, object],
        entry: EntryState | None,
        numbers: Numbers,
    ) -> Any:
        form = self.study.definition.instrument(instrument)
        assert form is not None
        stale = numbers[1] % 9 == 8
        saved = save_entry(
            self.session,
            self.study,
            participant,
            visit=visit,
            instrument=instrument,
            values=values,
            reasons={item.code: "It is so" for item in form.items} if numbers[1] % 2 else {},
            base_version=(entry.version if entry else 0) + stale,
            why="Read again" if numbers[1] % 4 else None,
            by=self.by(numbers[0] + numbers[2], SAVERS),
            now=self.now,
            accept_partial=numbers[2] % 3 > 0,
        )
        after = self._entry(participant.id or 0, visit, instrument)
        version = entry.version if entry else 0
        if after is None:
            assert saved.version == 0
            return None
        assert after.version == saved.version
        assert after.version in (version, version + 1)
        assert (after.version > version) or after.values == (entry.values if entry else {})
        assert not self._closed(participant.id or 0, visit), "nothing is saved where the data are closed"
        return saved

    def second(self, numbers: Numbers) -> Any:
        row = self.row(PAIR, numbers[0])
        if row is None:
            return None
        entry = self.session.execute(select(ENTRY).where(ENTRY.c.id == row["entry_id"])).mappings().one()
        participant = self.session.get(Participant, entry["participant_id"])
        assert participant is not None
        values = json.loads(entry["values"]) if numbers[1] % 2 else self.values(entry["instrument"], numbers[2])
        form = self.study.definition.instrument(entry["instrument"])
        assert form is not None
        return second.enter_second(
            self.session,
            self.study,
            participant,
            visit=entry["visit"],
            instrument=entry["instrument"],
            values={code: value for code, value in values.items() if form.item(code)},
            reasons={item.code: "It is so" for item in form.items},
            by=self.by(numbers[2], SAVERS),
            now=self.now,
            accept_partial=True,
        )

    def settle(self, numbers: Numbers) -> Any:
        row = self.row(PAIR, numbers[0], PAIR.c.state == PairState.TO_RECONCILE)
        if row is None:
            return None
        answers = self.session.execute(select(ANSWER).where(ANSWER.c.pair_id == row["id"])).mappings().all()
        ways = (Chosen.FIRST, Chosen.SECOND)
        decisions = {
            each["item"]: second.Decision(ways[(numbers[1] + place) % 2], "The paper says so")
            for place, each in enumerate(answers)
            if not each["agrees"]
        }
        return second.reconcile(
            self.session,
            self.study,
            row["id"],
            decisions=decisions,
            version=row["version"],
            by=self.by(numbers[2], "3401"),
            now=self.now,
        )

    def sign(self, numbers: Numbers) -> Any:
        row = self.row(ENTRY, numbers[0])
        if row is None:
            return None
        participant = self.session.get(Participant, row["participant_id"])
        assert participant is not None
        return sign_entry(
            self.session,
            self.study,
            participant,
            visit=row["visit"],
            instrument=row["instrument"],
            version=row["version"] - (numbers[1] % 9 == 8),
            meaning="authorship",
            by=self.by(numbers[2], "12613"),
            now=self.now,
        )

    def verify(self, numbers: Numbers) -> Any:
        row = self.row(ENTRY, numbers[0])
        if row is None:
            return None
        participant = self.session.get(Participant, row["participant_id"])
        assert participant is not None
        items = [code for place, code in enumerate(json.loads(row["values"])) if numbers[1] >> place & 1]
        return verify_items(
            self.session,
            self.study,
            participant,
            visit=row["visit"],
            instrument=row["instrument"],
            items=items,
            version=row["version"],
            by=self.people[5],
            now=self.now,
        )

    def ask(self, numbers: Numbers) -> Any:
        row = self.row(ENTRY, numbers[0])
        if row is None:
            return None
        participant = self.session.get(Participant, row["participant_id"])
        form = self.study.definition.instrument(row["instrument"])
        assert participant is not None
        assert form is not None
        return queries.raise_query(
            self.session,
            self.study,
            participant,
            visit=row["visit"],
            instrument=row["instrument"],
            item=form.items[numbers[1] % len(form.items)].code,
            text="Which is right?",
            by=self.by(numbers[2], "3450"),
            now=self.now,
        )

    def answer_query(self, numbers: Numbers) -> Any:
        row = self.row(QUERY, numbers[0])
        if row is None:
            return None
        step = (queries.answer_query, queries.requery, queries.close_query)[numbers[1] % 3]
        return step(
            self.session,
            self.study,
            row["id"],
            text=f"So it is {numbers[2]}",
            version=row["version"],
            by=self.by(numbers[2], ("0125", "3450", "3450")[numbers[1] % 3]),
            now=self.now,
        )

    def close(self, numbers: Numbers) -> Any:
        participant = self.one(numbers[0])
        if participant is None or numbers[1] % 4 > 1:
            return None
        visits = [None, *(visit.code for visit in self.study.definition.visits)]
        return close_data(
            self.session,
            self.study,
            kind=(Kind.FROZEN, Kind.LOCKED)[numbers[1] % 2],
            participants=[participant.code],
            visit=visits[numbers[2] % len(visits)],
            why="Clean",
            despite=True,
            by=self.people[3],
            now=self.now,
        )

    def unlock(self, numbers: Numbers) -> Any:
        row = self.row(LOCK, numbers[0], LOCK.c.lifted_at.is_(None))
        if row is None:
            return None
        if row["kind"] == Kind.FROZEN:
            lift_freezing(self.session, self.study, row["id"], why="Wrong", by=self.people[3], now=self.now)
        elif row["asked_at"] is None:
            ask_to_unlock(self.session, self.study, row["id"], why="Wrong", by=self.by(numbers[2], "234"), now=self.now)
        else:
            approve_unlock(self.session, self.study, row["id"], by=self.by(numbers[2], "234"), now=self.now)
        return True

    def code(self, numbers: Numbers) -> Any:
        where = (TEXT.c.state.in_(sorted(WAITING)),) if numbers[0] % 5 else ()
        row = self.row(TEXT, numbers[0], *where)
        if row is None:
            return None
        return coding.code_text(
            self.session,
            self.study,
            row["id"],
            code=f"T{numbers[1] % 4}",
            by=self.by(numbers[2], "2342340"),
            now=self.now,
        )

    def settle_text(self, numbers: Numbers) -> Any:
        row = self.row(TEXT, numbers[0], TEXT.c.state == TextState.TO_RECONCILE)
        if row is None:
            return None
        return coding.reconcile_text(
            self.session,
            self.study,
            row["id"],
            code="T1",
            why="As the guide says",
            version=row["version"],
            by=self.by(numbers[2], "2341"),
            now=self.now,
        )

    def sign_casebook(self, numbers: Numbers) -> Any:
        participant = self.one(numbers[0])
        if participant is None:
            return None
        assert participant.id is not None
        manifest = manifest_of(
            entries_with_values(self.session, participant.id), corrected_screening(self.session, participant.id)
        )
        return sign_casebook(
            self.session,
            self.study,
            participant,
            meaning="approval",
            digest=casebook_digest(participant.code, manifest, "approval"),
            by=self.by(numbers[2], "22210"),
            now=self.now,
        )

    def miss(self, numbers: Numbers) -> Any:
        participant = self.one(numbers[0])
        if participant is None:
            return None
        assert participant.id is not None
        dated = visits_of(self.session, participant.id)
        if not dated:
            return None
        visit = dated[numbers[1] % len(dated)]
        return miss_visit(
            self.session,
            self.study,
            participant,
            visit.code,
            version=visit.version,
            why="Ill",
            by=self.by(numbers[2], "015"),
            now=self.now,
        )

    def withdraw(self, numbers: Numbers) -> Any:
        participant = self.one(numbers[0])
        if participant is None or numbers[1] % 3:
            return None
        level = self.study.definition.withdrawal_levels[numbers[2] % 2]
        made = withdraw(
            self.session,
            self.study,
            participant,
            level=level.code,
            reason="Moved away",
            on=TODAY,
            by=self.people[0],
            now=self.now,
        )
        if level.stops_visits:
            stop_visits(self.session, self.study, participant, why="Moved away", by=self.people[0], now=self.now)
        return made

    # What must hold, whatever was done

    def _entry(self, participant_id: int, visit: str, instrument: str) -> EntryState | None:
        found = entries_with_values(self.session, participant_id)
        return next((each for each in found if (each.visit, each.instrument) == (visit, instrument)), None)

    def _closed(self, participant_id: int, visit: str) -> bool:
        query = select(LOCK.c.id).where(
            LOCK.c.lifted_at.is_(None),
            LOCK.c.participant_key.in_([0, participant_id]),
            LOCK.c.visit_key.in_(["", visit]),
        )
        return self.session.execute(query).first() is not None

    def check(self) -> None:
        """Every invariant, on what is stored and on what the log says of it."""
        self._participants()
        pairs = {row["entry_id"]: row for row in self._rows(PAIR)}
        for row in self._rows(PARTICIPANT):
            entries = entries_with_values(self.session, row["id"])
            for entry in entries:
                self._entry_holds(entry, pairs.get(entry.id))
            corrected = corrected_screening(self.session, row["id"])
            signed = standing_signature(self.session, row["id"])
            assert signed is None or holds(signed, row["code"], manifest_of(entries, corrected)), "a change ends it"
            self._screening_holds(row)
        self._queries_hold()
        self._texts_hold()
        for pair in pairs.values():
            answers = [each for each in self._rows(ANSWER) if each["pair_id"] == pair["id"]]
            differing = [each for each in answers if not each["agrees"]]
            state = PairState(pair["state"])
            assert pair["differing"] == len(differing)
            assert (state is PairState.AWAITS_SECOND) == (pair["second_by"] is None)
            assert (state is PairState.AGREED) <= (not differing)
            assert (state in (PairState.TO_RECONCILE, PairState.RECONCILED)) <= bool(differing)
            assert all((each["chosen"] is not None) == (state is PairState.RECONCILED) for each in differing)
        if self._logged():
            assert verify(self.session, self.study.code).intact

    def _rows(self, table: Any) -> list[Any]:
        return list(self.session.execute(select(table).order_by(table.c.id)).mappings())

    def _participants(self) -> None:
        for row in self._rows(PARTICIPANT):
            before, after = self.stood.get(row["id"]), row["status"]
            if before is not None and before != after:
                assert Status(after) in STATUSES[Status(before)], f"{before} to {after}"
            self.stood[row["id"]] = after

    def _entry_holds(self, entry: EntryState, pair: Any) -> None:
        form = self.study.definition.instrument(entry.instrument)
        assert form is not None
        assert entry.version >= self.versions.get(entry.id, 1), "no version comes back"
        self.versions[entry.id] = entry.version
        assert self._replayed(entry) == entry.values, "the log tells every value there is"
        others = answers_of(self.session, self.study, entry.participant_id)
        judged = judge(
            self.study.definition, form, entry.visit, entry.values, entry.reasons, answers=others, today=TODAY, now=NOW
        )
        assert not judged.hidden & set(entry.values), "what is not asked is not kept"
        assert judged.values == entry.values, "scores follow from the answers"
        state = PairState(pair["state"]) if pair else None
        held_back = is_held_back(self.study.definition, state)
        looks_elsewhere = any("[v0]" in check.rule for item in form.items for check in item.checks)
        if held_back:
            assert not entry.is_complete
        elif not looks_elsewhere:
            assert entry.is_complete == judged.complete
        if entry.is_signed:
            assert signature_holds(entry)
            assert entry.is_complete
            assert form.signable
            assert state not in PENDING or "signature" not in self.study.definition.double_entry.before
        assert set(entry.reasons) <= {item.code for item in form.items}

    def _screening_holds(self, participant: Any) -> None:
        """The answers as the log alone tells them, each correction upon exactly what was there, with its reason."""
        screening, _ = screening_of(self.session, participant["id"])
        assert screening is not None
        query = (
            select(AUDIT_ENTRY)
            .where(
                AUDIT_ENTRY.c.log == self.study.code,
                AUDIT_ENTRY.c.participant == participant["code"],
                AUDIT_ENTRY.c.action.in_((ANSWERED, CORRECTED)),
            )
            .order_by(AUDIT_ENTRY.c.position)
        )
        values: dict[str, object] = {}
        for row in self.session.execute(query).mappings():
            assert row["action"] == ANSWERED or (row["why"] and values.get(row["item"]) == json.loads(row["old"]))
            values[row["item"]] = json.loads(row["new"])
        assert values == screening.answers

    def _replayed(self, entry: EntryState) -> dict[str, object]:
        """The values as the log alone tells them, each correction upon exactly what was there."""
        query = (
            select(AUDIT_ENTRY)
            .where(
                AUDIT_ENTRY.c.log == self.study.code,
                AUDIT_ENTRY.c.participant == entry.participant,
                AUDIT_ENTRY.c.subject == f"entry/{entry.visit}/{entry.instrument}",
                AUDIT_ENTRY.c.action.in_(("entry.saved", "entry.corrected")),
            )
            .order_by(AUDIT_ENTRY.c.position)
        )
        values: dict[str, object] = {}
        for row in self.session.execute(query).mappings():
            old = json.loads(row["old"]) if row["old"] else None
            new = json.loads(row["new"]) if row["new"] else None
            assert values.get(row["item"]) == old, "what it was is what it was"
            assert (row["action"] == "entry.saved") or row["why"], "no correction without a reason"
            if new is None:
                values.pop(row["item"], None)
            else:
                values[row["item"]] = new
        return values

    def _queries_hold(self) -> None:
        said: dict[int, list[str]] = {}
        for row in self._rows(MESSAGE):
            said.setdefault(row["query_id"], []).append(row["step"])
        for row in self._rows(QUERY):
            state = None
            for step in said[row["id"]]:
                state = QUERY_STEPS[state][QueryStep(step)]
            assert state == row["state"], "a query took only steps that are listed"
            assert row["version"] == len(said[row["id"]])

    def _texts_hold(self) -> None:
        chosen: dict[int, list[str]] = {}
        for row in self._rows(CHOICE):
            chosen.setdefault(row["text_id"], []).append(row["code"])
        standing: dict[tuple[int, str], str] = {}
        for row in self._rows(TEXT):
            codes = chosen.get(row["id"], [])
            state = TextState(row["state"])
            assert len(codes) <= row["coders"]
            match state:
                case TextState.TO_CODE:
                    assert not codes
                case TextState.HALF_CODED:
                    assert (len(codes), row["coders"]) == (1, 2)
                case TextState.TO_RECONCILE:
                    assert len(set(codes)) == 2
                case TextState.CODED:
                    assert len(codes) == row["coders"]
                    assert row["reconciled_by"] or set(codes) == {row["code"]}
            if state is not TextState.OUTDATED:
                standing[row["entry_id"], row["item"]] = row["text"]
        wanted = {}
        for row in self._rows(ENTRY):
            form = self.study.definition.instrument(row["instrument"])
            assert form is not None
            for code, value in json.loads(row["values"]).items():
                item = form.item(code)
                if item is not None and item.coding is not None and isinstance(value, str):
                    wanted[row["id"], code] = value
        assert standing == wanted, "every text is to be coded as it reads now, and nothing else"
