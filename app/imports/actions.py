"""What may I do with a file of others' data? Save its rows, each as a person would, and keep mappings and files.

Nothing is written past a rule: people are screened, consented and randomised, visits recorded and forms saved by the
same actions as on the pages. A row that is refused leaves nothing behind, and says which field and which rule.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.audit.newest import Newest
from app.capture import actions as capture
from app.capture.double.reads import refuse_withheld
from app.capture.reads import entry_of
from app.consent.actions import record_consent
from app.foundation.crypto.envelopes import seal
from app.foundation.database import keys_of, table_of
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotAllowed, NotFound, Problem, Refused
from app.imports.reads import FILE, FILE_PURPOSE, MAPPING, WHOSE, tag_of, whose
from app.imports.rules import (
    MOST_TOGETHER,
    Cells,
    FileMapping,
    Filled,
    FormFilled,
    NewParticipants,
    Source,
    day_in_order,
    day_of,
    forms_filled,
    found,
    read_text,
    repeat_of,
)
from app.imports.rules import rows_of as rows_in
from app.participants.actions import screen
from app.participants.finding import EverybodyThere, Found
from app.participants.models import Participant
from app.participants.reads import participant_by_code
from app.participants.rules import PersonalData
from app.participants.rules.personal import LABELS
from app.participants.status import Status
from app.people.access import Actor, require
from app.people.models import Site
from app.people.permissions import Permission
from app.randomisation import actions as randomisation
from app.randomisation.reads import first_stage_gates_of, gates_of, stage_of
from app.randomisation.rules import why_not_ready
from app.schedule.actions import open_visits
from app.schedule.reads import visit_of
from app.schedule.rules import in_window
from app.schedule.status import VisitStatus
from app.studies.in_use import StudyInUse

PARTICIPANT = table_of(Participant)
SITE = table_of(Site)
ACTION = "data.import"
SUBJECT = "/import"
YES = ("true", "yes", "1")  # what a column says of somebody who is another person
FILES_KEPT = timedelta(days=7)
PIECE = 1_000_000  # characters of a text that are put into bytes at once
LARGEST = 25_000_000  # bytes of a file that waits on the page
MOST_CHANGES = 200  # items that one row's report lists

CREATED, CHANGED, UNCHANGED, REFUSED, LEFT = "created", "changed", "unchanged", "refused", "left"
OUTCOMES = (CREATED, CHANGED, UNCHANGED, LEFT, REFUSED)


@dataclass
class Outcome:
    """What came of one form of one row, or (without an `instrument`) of the person and visit it is about.

    `left`: it would have been saved, and was not, because another form of its row is refused; or it is of a visit that
    there is once somebody is randomised, which is never only tried. `candidates`: who at the site looks like the person
    that a refused row would screen.
    """

    row: int
    participant: str
    visit: str
    instrument: str
    outcome: str
    changes: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    candidates: list["Candidate"] = field(default_factory=list)


@dataclass(frozen=True)
class Candidate:
    """Somebody at the site who looks like the person of a row, and in which fields; whoever names them writes it down.

    Who comes with the same file has the number of their row in `like_row`, and no code: it may be taken back.
    """

    code: str | None
    status: str | None
    screened_on: date | None
    shared: tuple[str, ...]
    like_row: int | None = None


class LooksLikeSomebody(Invalid):
    """Somebody at the site looks like the person a row would screen."""

    def __init__(self, problem: FieldProblem, candidates: list[Candidate]) -> None:
        super().__init__([problem])
        self.candidates = candidates


@dataclass(frozen=True)
class Origin:
    """Which file this is, and what it is told to the log as."""

    name: str
    sha256: str

    @property
    def words(self) -> str:
        return f"Imported from {self.name}."


def origin(name: str, data: bytes | str | Iterable[Cells]) -> Origin:
    """A file by its name, without its folder, and its fingerprint; of a text that of its UTF-8, of rows their JSON."""
    digest = hashlib.sha256()
    for piece in _pieces(data):
        digest.update(piece.encode("utf-8", "replace") if isinstance(piece, str) else piece)
    plain = "".join(letter for letter in name.replace("\\", "/").rsplit("/", 1)[-1] if letter.isprintable())
    return Origin(plain.strip()[:120] or "a file", digest.hexdigest())


def _pieces(data: bytes | str | Iterable[Cells]) -> Iterator[bytes | str]:
    """A large file in pieces, so that it is not there a second time."""
    if isinstance(data, bytes | str):
        for at in range(0, len(data), PIECE):
            yield data[at : at + PIECE]
        return
    between = "["
    for row in data:
        yield between + json.dumps(row, default=str)
        between = ", "
    yield "]" if between == ", " else "[]"


def import_rows(
    session: Session,
    study: StudyInUse,
    rows: Iterable[Cells],
    mapping: FileMapping,
    *,
    origin: Origin,
    signs: bool = False,
    randomises: bool = True,
    newest: Newest | None = None,
    by: Actor,
    now: datetime,
) -> Iterator[list[Outcome]]:
    """Save row by row, each in a savepoint of its own; gives what came of each, so that a door may commit between.

    `signs`: the person typed their password again, and countersigns the consents in the file with it. Without
    `randomises`, as whatever is taken back must be, nobody is: the gates are looked at, as on the page.
    """
    require(by, Permission.DATA_IMPORT, action=ACTION, subject=SUBJECT)
    if mapping.new is not None and mapping.source is None:
        mapping = mapping.model_copy(update={"source": "file"})
    run = _Run(session, study, mapping, origin, signs, randomises, newest, by, now)
    for row, lines in rows_in(mapping, rows):
        yield run.row(row, lines)


def begin_whole(session: Session, study: StudyInUse) -> None:
    """What is about many people and is kept or taken back as a whole is one transaction: whoever saves or randomises in
    the study waits for it, and nobody for somebody who waits for them."""
    randomisation.hold_everybody(session, study)


@dataclass
class _Run:
    session: Session
    study: StudyInUse
    mapping: FileMapping
    origin: Origin
    signs: bool
    randomises: bool
    newest: Newest | None
    by: Actor
    now: datetime
    waiting: set[str] = field(default_factory=set)
    """Who would be randomised, and is not."""
    there: dict[int, EverybodyThere] = field(default_factory=dict)
    """Of each site at which somebody is screened: everybody who is there."""
    come: PersonalData | None = None
    """Who somebody is whom this row screens, as far as the file says it."""
    came: dict[str, int] = field(default_factory=dict)
    """Who came with this file, by code, and in which row."""

    def row(self, row: Filled, lines: list[Cells]) -> list[Outcome]:
        savepoint = self.session.begin_nested()
        outcomes: list[Outcome] = []
        self.come = None
        try:
            if len(lines) > MOST_TOGETHER:
                message = f"More than {MOST_TOGETHER:,} rows are of this person at this visit. Send them in parts."
                raise Invalid([FieldProblem("participant", "length", message)])
            who, person = self._participant(row)
            if person:
                outcomes.append(Outcome(row.number, who.code, "", "", CREATED, changes=person))
            study = self.study.at(who.site_id)
            if who.code in self.waiting and not self._is_scheduled(who, row.visit):
                savepoint.commit()
                return [*outcomes, Outcome(row.number, who.code, row.visit[:80], "", LEFT)]
            filled = forms_filled(study.definition, self.mapping, row, lines)
            if study.definition.visit(row.visit) is None and (filled or row.visit):
                message = f"There is no visit “{row.visit[:80]}” in this study. Check the column, or recode it."
                raise Invalid([FieldProblem("visit", "unknown", message)])
            held = self._visit(study, who, row)
            if held:
                outcomes.append(Outcome(row.number, who.code, row.visit, "", CHANGED, changes=held))
            for form in filled:
                outcomes.append(self._form(study, who, row, form))
            if self.mapping.randomise_after == row.visit and not any(each.errors for each in outcomes):
                done = self._randomise(study, who)
                if done:
                    outcomes.append(Outcome(row.number, who.code, "", "", CHANGED, changes=done))
        except (Invalid, Refused, Conflict, NotAllowed, NotFound) as problem:
            outcomes.append(
                Outcome(row.number, row.participant[:80], row.visit[:80], "", REFUSED, errors=said(problem))
            )
            if isinstance(problem, LooksLikeSomebody):
                outcomes[-1].candidates = problem.candidates
        if any(each.outcome == REFUSED for each in outcomes):
            savepoint.rollback()
            return [_left(each) for each in outcomes]
        savepoint.commit()
        if self.come is not None:
            self.came[who.code] = row.number
            self.there[who.site_id].add(Found(who.code, "", Status(who.status), who.screened_on, self.come))
        return outcomes or [Outcome(row.number, who.code, row.visit, "", UNCHANGED)]

    def _participant(self, row: Filled) -> tuple[Participant, list[dict[str, Any]]]:
        if not row.participant:
            message = f"The column “{self.mapping.participant[:80]}” is blank or is not there. Say who this row is of."
            raise Invalid([FieldProblem("participant", "required", message)])
        source = self.mapping.source
        if source is None:
            return self._by_code(row.participant), []
        number = whose(self.session, self.study, source, row.participant)
        if number is not None:
            code = self.session.execute(select(PARTICIPANT.c.code).where(PARTICIPANT.c.id == number)).scalar_one()
            return self._by_code(code), []
        if self.mapping.new is None:
            return self._by_code(row.participant), []
        return self._new(row, source, self.mapping.new)

    def _by_code(self, code: str) -> Participant:
        try:
            return participant_by_code(self.session, self.study, code, by=self.by)
        except NotFound:
            message = f"There is no participant “{code[:40]}” that you may see. Check the code."
            raise Invalid([FieldProblem("participant", "unknown", message)]) from None

    def _new(self, row: Filled, source: str, new: NewParticipants) -> tuple[Participant, list[dict[str, Any]]]:
        session, study, by, now, blank = self.session, self.study, self.by, self.now, self.mapping.blank
        code = found(new.site, row.cells, blank)
        site = session.execute(select(SITE).where(SITE.c.study_id == study.id, SITE.c.code == str(code))).first()
        if site is None:
            raise Invalid([FieldProblem("site", "choices", "There is no such site in this study. Check the column.")])
        answers = {item: self._answer(item, each, row) for item, each in new.answers.items()}
        said_of_them = {part: found(each, row.cells, blank) for part, each in new.personal.items()}
        if isinstance(born := said_of_them.get("date_of_birth"), str):
            said_of_them["date_of_birth"] = day_in_order(born, self.mapping.days)
        personal = PersonalData(**{part: str(value) for part, value in said_of_them.items() if value is not None})
        self._refuse_like(site.id, personal, new, row)
        made, eligibility = screen(
            session,
            study,
            site=Site(**site._mapping),
            answers={item: value for item, value in answers.items() if value is not None},
            failure_reason=None,
            personal=personal,
            by=by,
            now=now,
        )
        assert made.id is not None
        session.execute(
            insert(WHOSE).values(
                study_id=study.id, participant_id=made.id, tag=tag_of(session, study, source, row.participant)
            )
        )
        told: list[dict[str, Any]] = [{"item": "status", "old": None, "new": str(made.status)}]
        if not eligibility.eligible:
            failed = ", ".join(verdict.label for verdict in eligibility.verdicts if verdict.met is False)
            message = f"Not eligible ({failed}). Screen this person on the page, and take the row out."
            raise Invalid([FieldProblem("participant", "eligibility", message)])
        open_visits(session, study, made, anchor="screening", on=made.screened_on, by=by, now=now)
        if new.consent is not None:
            told.append({"item": "consent", "old": None, "new": self._consent(made, row, new)})
        return self._by_code(made.code), told

    def _refuse_like(self, site_id: int, personal: PersonalData, new: NewParticipants, row: Filled) -> None:
        """Refused where somebody at the site looks like this person, unless the file says that they are another.

        What is refused is rolled back; that somebody was shown stands all the same, because whoever hands over the
        report writes it down with it (`app.importing`).
        """
        if not new.personal:
            return
        if site_id not in self.there:
            self.there[site_id] = EverybodyThere(self.session, self.study, site_id=site_id, by=self.by)
        self.come = personal
        another = found(new.another, row.cells, self.mapping.blank) if new.another else None
        if str(another).casefold() in YES:
            return
        if like := self.there[site_id].like(personal):
            candidates = [self._candidate(each) for each in like]
            raise LooksLikeSomebody(FieldProblem("participant", "another", _looks_like(candidates)), candidates)

    def _candidate(self, found: Found) -> Candidate:
        if found.code in self.came:
            return Candidate(None, None, None, found.shared, self.came[found.code])
        return Candidate(found.code, found.status.value, found.screened_on, found.shared)

    def _answer(self, item: str, source: Source, row: Filled) -> object:
        """An answer to the pre-screen: of a text cell, the number or yes and no that its item asks for."""
        form = self.study.definition.instrument(self.study.definition.eligibility.instrument)
        value = found(source, row.cells, self.mapping.blank)
        if form is None or not isinstance(value, str):
            return value
        read = read_text(form, item, value, self.mapping)
        if read.problems:
            raise Invalid(read.problems)
        return read.values.get(item)

    def _consent(self, made: Participant, row: Filled, new: NewParticipants) -> str:
        asked, cells = new.consent, row.cells
        assert asked is not None
        if not self.signs:
            message = "Consents in a file are countersigned by who imports it. Type your password again."
            raise Invalid([FieldProblem("password", "required", message)])
        require(self.by, Permission.CONSENT_COUNTERSIGN, site_id=made.site_id, subject=f"{made.code}/consent")
        signed_on = day_of("signed_on", found(asked.signed_on, cells), self.mapping.days)
        if signed_on is None:
            raise Invalid([FieldProblem("signed_on", "required", "There is no day of the consent. Fill it in.")])
        paper = found(asked.paper_sha256, cells) if asked.paper_sha256 else None
        consent = record_consent(
            self.session,
            self.study,
            made,
            version=asked.version,
            language=asked.language,
            method=asked.method,
            signed_on=signed_on,
            signature=str(found(asked.signature, cells) or ""),
            paper_sha256=str(paper) if paper else None,
            options=asked.options,
            by=self.by,
            now=self.now,
            countersign=True,
        )
        open_visits(self.session, self.study, made, anchor="consent", on=consent.signed_on, by=self.by, now=self.now)
        return asked.version

    def _is_scheduled(self, who: Participant, visit: str) -> bool:
        assert who.id is not None
        try:
            visit_of(self.session, who.id, visit)
        except NotFound:
            return self.study.at(who.site_id).definition.visit(visit) is None
        return True

    def _visit(self, study: StudyInUse, who: Participant, row: Filled) -> list[dict[str, Any]]:
        day = (
            day_of("held_on", found(self.mapping.held_on, row.cells, self.mapping.blank), self.mapping.days)
            if self.mapping.held_on
            else None
        )
        if day is None:
            return []
        assert who.id is not None
        try:
            visit = visit_of(self.session, who.id, row.visit)
        except NotFound:
            message = (
                "This visit has no dates yet: the step it is counted from is not recorded. Record that step first."
            )
            raise Invalid([FieldProblem("visit", "not_scheduled", message)]) from None
        if visit.held_on == day:
            return []
        if visit.status == VisitStatus.HELD:
            message = f"This visit is recorded for {visit.held_on}. Correct its day on the visit's page."
            raise Invalid([FieldProblem("held_on", "held", message)])
        capture.record_visit(
            self.session,
            study,
            who,
            row.visit,
            held_on=day,
            version=visit.version,
            reason=None if in_window(visit, day) else self.mapping.late,
            by=self.by,
            now=self.now,
        )
        return [{"item": "held_on", "old": None, "new": day.isoformat()}]

    def _form(self, study: StudyInUse, who: Participant, row: Filled, form: FormFilled) -> Outcome:
        """Save one form: what the row says on top of what is stored, so that a blank cell takes nothing away."""
        made = Outcome(row.number, who.code, row.visit, form.instrument, UNCHANGED)
        if not form.instrument:
            return replace(made, outcome=REFUSED, errors=said(Invalid(form.problems)))
        assert who.id is not None
        definition = study.definition
        try:
            refuse_withheld(self.session, definition, who, row.visit, form.instrument, by=self.by, action="entry.read")
            asked = definition.instrument(form.instrument)
            assert asked is not None
            repeat = repeat_of(asked, row)
            entry = entry_of(self.session, who.id, row.visit, form.instrument, repeat)
            before = entry.values if entry else {}
            kept = {item.code: before[item.code] for item in asked.items if item.code in before}
            calculated = {item.code for item in asked.items if item.type == "calculated"}
            new = {code: value for code, value in form.values.items() if code not in form.blank or code not in kept}
            saved = capture.save_entry(
                self.session,
                study,
                who,
                visit=row.visit,
                instrument=form.instrument,
                values={**{code: value for code, value in kept.items() if code not in calculated}, **new},
                reasons={**(entry.reasons if entry else {}), **form.reasons},
                base_version=entry.version if entry else 0,
                repeat=repeat,
                why=f"{self.origin.words} {self.mapping.why}" if self.mapping.why else None,
                by=self.by,
                now=self.now,
                accept_partial=self.mapping.accept_partial,
                problems=form.problems,
                permission=Permission.DATA_IMPORT,
                source=self.origin.words,
            )
        except (Invalid, Refused, Conflict, NotAllowed, NotFound) as problem:
            return replace(made, outcome=REFUSED, errors=said(problem))
        after = saved.judgement.values
        changes = [
            {"item": item, "old": before.get(item), "new": after.get(item)} for item in saved.changed[:MOST_CHANGES]
        ]
        if entry is None:
            return replace(made, outcome=CREATED, changes=changes)
        return replace(made, outcome=CHANGED if changes else UNCHANGED, changes=changes)

    def _randomise(self, study: StudyInUse, who: Participant) -> list[dict[str, Any]]:
        """Whoever is not randomised yet is, by the same gates as on the page; nothing of it is told but that it was."""
        assert who.id is not None
        who = self._by_code(who.code)
        if who.randomised_on is not None:
            return []
        assert who.id is not None
        asked: dict[str, Any] = {"newest": self.newest, "by": self.by, "now": self.now}
        staged = not study.definition.allocation.first_stage or stage_of(self.session, who.id) is not None
        if self.randomises or not study.definition.is_allocated:
            # Both stages are judged before a slot of either is taken: what is taken back was tried (decision 0020).
            step = randomisation.randomise if staged else randomisation.randomise_both
            step(self.session, study, who, **asked)
        else:
            self._refuse_unready(study, who, staged=staged, asked=asked)
            self.waiting.add(who.code)
        return [{"item": "status", "old": str(who.status), "new": "randomised"}]

    def _refuse_unready(self, study: StudyInUse, who: Participant, *, staged: bool, asked: dict[str, Any]) -> None:
        """Nothing is taken of a list: how many could be until it is used up would tell how long it is (CONC-4)."""
        about = {"subject": who.code, "action": "participant.randomise"}
        require(self.by, Permission.PARTICIPANT_RANDOMISE, site_id=who.site_id, **about)
        passed = gates_of(self.session, study, who, **asked)
        if not staged:
            first = first_stage_gates_of(self.session, study, who, **asked)
            passed = (*first, *(gate for gate in passed if gate.code != "stage"))
        if (reason := why_not_ready(passed)) is not None:
            raise Refused(reason, **about)


def _looks_like(candidates: list[Candidate]) -> str:
    fields = ", ".join(LABELS[name] for name in LABELS if any(name in each.shared for each in candidates))
    codes = ", ".join(each.code for each in candidates if each.code is not None)
    if not codes:
        return (
            f"Looks like somebody in an earlier row of this file: the same in {fields}. Take one of them out; where "
            "it is somebody else, say so with “another” in the mapping."
        )
    return (
        f"Looks like somebody at this site: {codes}, the same in {fields}. Open them first; where it is somebody else, "
        "say so with “another” in the mapping."
    )


def said(problem: Problem) -> list[dict[str, str]]:
    """What is wrong, a line for each field; what is not about a field names the state that forbids it."""
    if isinstance(problem, Invalid):
        return [{"field": each.field, "rule": each.rule, "message": each.message} for each in problem.problems]
    rules = {NotAllowed: "not_allowed", NotFound: "not_found", Conflict: "conflict"}
    return [{"field": "", "rule": rules.get(type(problem), "refused"), "message": problem.reason}]


def _left(outcome: Outcome) -> Outcome:
    return outcome if outcome.outcome == REFUSED else replace(outcome, outcome=LEFT)


def write_down(
    session: Session,
    study: StudyInUse,
    origin: Origin,
    counts: Mapping[str, int],
    *,
    by: Actor,
    now: datetime,
) -> None:
    """Say in the log which file was imported and what came of it; each form's own lines name it too."""
    what = {"file": origin.name, "sha256": origin.sha256, **counts}
    record(session, study.code, [Change("data.imported", subject="import", new=what)], by=by, now=now)


def save_mapping(
    session: Session, study: StudyInUse, name: str, mapping: FileMapping, *, by: Actor, now: datetime
) -> int:
    """Keep a mapping under a name; a newer one takes the place of the one before. Gives its version."""
    require(by, Permission.DATA_IMPORT, action="import.save_mapping", subject=SUBJECT)
    name = name.strip()
    if not 0 < len(name) <= 80 or not name.isprintable():
        raise Invalid([FieldProblem("name", "required", "Give the mapping a name of at most 80 characters.")])
    text = mapping.model_dump_json(exclude_defaults=True)
    wanted = MAPPING.c.study_id == study.id, MAPPING.c.name == name
    before = session.execute(select(MAPPING).where(*wanted).with_for_update()).first()
    if before is not None and before.mapping == text:
        return int(before.version)
    version = int(before.version) + 1 if before is not None else 1
    values = {"mapping": text, "saved_at": now, "saved_by": by.username, "version": version}
    if before is None:
        session.execute(insert(MAPPING).values(study_id=study.id, name=name, **values))
    else:
        session.execute(update(MAPPING).where(*wanted).values(**values))
    told = {"name": name, "version": version}
    record(session, study.code, [Change("import_mapping.saved", subject="import", new=told)], by=by, now=now)
    return version


def keep_file(
    session: Session, study: StudyInUse, name: str, data: bytes, mapping: FileMapping, *, by: Actor, now: datetime
) -> int:
    """Keep a file, sealed, until it is imported or a week has gone; gives its number."""
    require(by, Permission.DATA_IMPORT, action=ACTION, subject=SUBJECT)
    if len(data) > LARGEST:
        raise Invalid([FieldProblem("file", "size", "This file is too large for the page. Import it in parts.")])
    of = origin(name, data)
    session.execute(delete(FILE).where(FILE.c.uploaded_at < now - FILES_KEPT, FILE.c.imported_at.is_(None)))
    key = keys_of(session).derive(FILE_PURPOSE)
    return int(
        session.execute(
            insert(FILE)
            .values(
                study_id=study.id,
                person_id=by.person_id,
                name=of.name,
                sha256=of.sha256,
                sealed=seal(key, data, bound_to=("import", of.sha256), size=len(data)),
                mapping=mapping.model_dump_json(exclude_defaults=True),
                uploaded_at=now,
            )
            .returning(FILE.c.id)
        ).scalar_one()
    )


def map_file(session: Session, study: StudyInUse, number: int, mapping: FileMapping, *, by: Actor) -> None:
    """Say what the columns of a file of one's own mean."""
    require(by, Permission.DATA_IMPORT, action=ACTION, subject=SUBJECT)
    session.execute(
        update(FILE)
        .where(FILE.c.study_id == study.id, FILE.c.person_id == by.person_id, FILE.c.id == number)
        .values(mapping=mapping.model_dump_json(exclude_defaults=True))
    )


def close_file(
    session: Session, study: StudyInUse, number: int, counts: Mapping[str, int], *, by: Actor, now: datetime
) -> None:
    """A file is imported: what came of it stays, and the file itself goes."""
    session.execute(
        update(FILE)
        .where(FILE.c.study_id == study.id, FILE.c.person_id == by.person_id, FILE.c.id == number)
        .values(sealed=None, counts=json.dumps(dict(counts)), imported_at=now)
    )
