"""What may leave the house? Every table of a study, read in order and in batches, from the person's sites only."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, reduce
from importlib.metadata import version
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Select, String, and_, cast, literal_column, select
from sqlalchemy import Table as SqlTable
from sqlmodel import Session

from app.audit.actions import ENTRY as AUDIT_ENTRY
from app.capture.coding.reads import agreement_page as coding_agreement
from app.capture.coding.reads import codes_in, codes_of_events, every_text
from app.capture.double.reads import Agreement, every_answer
from app.capture.double.reads import agreement_page as entry_agreement
from app.capture.groups import ROWS, cells_of
from app.capture.in_use import in_use, is_told_no_more, levels_that_stop_use, use_not_taken_back
from app.capture.models import Entry
from app.capture.queries.reads import QUERY, every_query
from app.consent.models import Consent
from app.consent.reads import taken_back_in, taken_back_text
from app.consent.rules import is_active, options_now
from app.exports import changes, tables
from app.exports.batches import Batched, Long, Raw, Wide, stored
from app.exports.changes import Changed
from app.exports.choice import EVERYTHING, Choice
from app.exports.dummy import dummy_arms
from app.exports.formats.usdm import protocol
from app.exports.shaping import DATES_OF_ITEMS, WORDS_OF_ITEMS, dates_of, shaped, words_of
from app.exports.tables import ARM, ArmOf, Arms, Cell, Column, Plan, Row, Table
from app.foundation import clock
from app.foundation.database import KINDS, among, as_text, batches, in_order, keys_of, streamed, table_of, written_out
from app.foundation.errors import FieldProblem, Invalid, NotFound
from app.foundation.paging import LARGEST_PAGE, Page, every_page
from app.participants.models import Participant, Screening
from app.participants.reads import IN_ERROR, NEWEST_IN_ERROR, at_their_sites
from app.people.access import Actor, may, require
from app.people.models import Site
from app.people.permissions import Permission
from app.safety.deviations.reads import DEVIATION
from app.safety.events.reads import EVENT, REPORT, details_in
from app.safety.events.rules import Criterion
from app.safety.logs.reads import CARE, CONTACT
from app.schedule.models import ParticipantVisit
from app.studies.in_use import StudyInUse
from app.studies.models import StudyVersion
from app.studies.reads import definition

ENTRY = table_of(Entry)
CONSENT = table_of(Consent)
PARTICIPANT = table_of(Participant)
SCREENING = table_of(Screening)
SITE = table_of(Site)
VERSION = table_of(StudyVersion)
VISIT = table_of(ParticipantVisit)
REPEAT = cast(ENTRY.c.repeat, String)
AMONG = {kind: among(PARTICIPANT.c.id, kind) for kind in KINDS}
# Tables with a row for each thing at a visit, which are narrowed row by row.
LISTED = ("visits", "queries", "double_entry", "coding", "agreement")

BATCH = 1000
HISTORY = 25
RUN = "export.run"
DELIVERED = "export.delivered"
INSTRUMENT = "instrument_"
Codes = dict[int, dict[str, tuple[str, str]]]
# The tables with a row per participant or entry, which have room for an arm.
WITH_ARM = ("participants", "entries_by_visit", "entries_by_participant")


def catalogue(
    session: Session, study: StudyInUse, *, by: Actor, dummy: bool = False, choice: Choice = EVERYTHING
) -> list[Table]:
    """Every table the person may take, without reading any row; with `dummy`, those that have dummy arms."""
    return source_of(session, study, by=by, dummy=dummy, choice=choice).catalogue(dummy=dummy)


def open_export(
    session: Session,
    study: StudyInUse,
    name: str,
    *,
    by: Actor,
    arms: Arms | None = None,
    dummy: bool = False,
    choice: Choice = EVERYTHING,
    since: int | None = None,
) -> Table:
    """One table; its rows are read as they are asked for, so the session must stay open until the last one.

    `arms` (participant id -> arm) adds a column `arm` to the tables with one row per participant, visit or entry. Only
    the doors of the sealed room have it to give; this room cannot look it up. `dummy` adds a column of the same name
    with dummy arms (app.exports.dummy), which say nothing of the real ones; a table without room for an arm is then
    NotFound, but for the codebook, which describes the others. `choice` says which instruments, visits and sites are
    wanted and how they look; `since` leaves what did not change from that change number on (app.exports.changes).
    """
    source = source_of(session, study, by=by, arms=arms, dummy=dummy, choice=choice, since=since)
    if name not in source.names or (dummy and not has_arm(name)):
        raise NotFound

    def again() -> Table:
        return open_export(session, study, name, by=by, arms=arms, dummy=dummy, choice=choice, since=since)

    return replace(source.shaped(name), reopened=again)


def tables_of(session: Session, study: StudyInUse, choice: Choice, *, by: Actor) -> list[str]:
    """The names of the tables that a choice asks for, in the order of the catalogue; Invalid when one is none."""
    source = source_of(session, study, by=by, dummy=choice.dummy, choice=choice)
    known = [name for name in source.names if not choice.dummy or has_arm(name)]
    if unknown := [name for name in choice.tables if name not in known]:
        words = "There is no table {} to be taken so. Choose among: {}."
        raise Invalid([FieldProblem("tables", "unknown", words.format(name, ", ".join(known))) for name in unknown])
    if not choice.is_bundle:
        return list(choice.tables)
    # Whoever takes several tables is told what stands in them.
    return [name for name in known if not choice.tables or name in choice.tables or name == "codebook"]


def has_arm(name: str) -> bool:
    """Whether this table has room for an arm, or describes those that have."""
    return name in (*WITH_ARM, "codebook") or name.startswith(INSTRUMENT)


def source_of(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    arms: Arms | None = None,
    dummy: bool = False,
    choice: Choice = EVERYTHING,
    since: int | None = None,
) -> "Source":
    """Where the rows come from: of this study, of the sites where the person may export, as the choice has it."""
    require(by, Permission.EXPORT_RUN, action=RUN, subject="/export")
    changed = None if since is None else changes.changed_since(session, study, since, choice, by=by)
    if not dummy:
        return Source(session, study, by, tables.arm_of(arms), None if arms is None else ARM, choice, changed)
    if not study.definition.is_allocated or arms is not None:
        raise NotFound
    groups = tables.dummy_arm_column(len(study.definition.arms))
    return Source(session, study, by, _DummyArms(session, study), groups, choice, changed)


@dataclass(frozen=True)
class _DummyArms:
    """The dummy arm by participant id, read when the first row asks for it.

    Dealt over the whole study, whoever asks: a participant has the same one in every table and for every reader.
    """

    session: Session
    study: StudyInUse

    def __call__(self, participant_id: int) -> str | None:
        return self.dealt.get(participant_id)

    @cached_property
    def dealt(self) -> dict[int, str]:
        randomised = (
            select(PARTICIPANT.c.id, PARTICIPANT.c.site_id)
            .where(PARTICIPANT.c.study_id == self.study.id, PARTICIPANT.c.randomised_on.is_not(None))
            .order_by(PARTICIPANT.c.code)
        )
        ratio = [arm.ratio for arm in self.study.definition.arms]
        people = self.session.execute(randomised).all()
        if not self.study.definition.is_clustered:
            return dummy_arms(self.study.code, ratio, [row.id for row in people])
        of_study = select(SITE.c.id).where(SITE.c.study_id == self.study.id).order_by(SITE.c.code)
        of_site = dummy_arms(self.study.code, ratio, self.session.execute(of_study).scalars().all())
        return {row.id: of_site[row.site_id] for row in people}


@dataclass(frozen=True)
class Source:
    """Where the rows of one export come from."""

    session: Session
    study: StudyInUse
    by: Actor
    arm_of: ArmOf | None
    arm: Column | None
    choice: Choice = EVERYTHING
    changed: Changed | None = None

    @cached_property
    def versions(self) -> dict[int, str]:
        """Id of each version of the study -> what it is called, newest first."""
        rows = self.session.execute(
            select(VERSION.c.id, VERSION.c.version)
            .where(VERSION.c.study_id == self.study.id)
            .order_by(VERSION.c.id.desc())
        )
        return {row.id: row.version for row in rows}

    @cached_property
    def plan(self) -> Plan:
        """What is asked for of all that was ever asked; Invalid when a code of the choice is none of the study's."""
        whole, choice = self.whole_plan, self.choice
        if not choice.narrows:
            return whole
        known = {
            "instruments": set(whole.entered()),
            "visits": {visit.code for visit in whole.visits},
            "sites": set(self._sites),
        }
        if problems := [
            FieldProblem(
                field, "unknown", f"There is no {field[:-1]} {code} in this study. Choose one of those it has."
            )
            for field, codes in known.items()
            for code in getattr(choice, field)
            if code not in codes
        ]:
            raise Invalid(problems)
        return tables.narrowed(whole, instruments=choice.instruments, visits=choice.visits)

    @cached_property
    def _sites(self) -> Sequence[str]:
        return self.session.execute(select(SITE.c.code).where(SITE.c.study_id == self.study.id)).scalars().all()

    @cached_property
    def whole_plan(self) -> Plan:
        # What was loaded and is in force nowhere yet has asked nobody anything.
        older = [definition(self.session, version) for version in self.versions if version < self.study.version_id]
        return tables.plan_of([self.study.definition, *older])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the tables, in the order in which people look for them."""
        return (
            "participants",
            "visits",
            "entries",
            "entries_by_visit",
            "entries_by_participant",
            *self._forms,
            "queries",
            *self._twice(),
            "consents",
            "screening",
            "adverse_events",
            "deviations",
            "contacts",
            "concomitant_care",
            *(("audit",) if self._may_read_log else ()),
            "codebook",
        )

    @cached_property
    def _forms(self) -> dict[str, tuple[str, str | None]]:
        """The names of the tables of one form: its code, and the group whose rows stand there, None for its entries.

        A code may hold two underscores, so the name alone does not say which; one that was taken gets a number.
        """
        entered = self.plan.entered()
        taken = {f"{INSTRUMENT}{code}" for code in entered}
        found: dict[str, tuple[str, str | None]] = {}
        for code in entered:
            found[f"{INSTRUMENT}{code}"] = code, None
            for group in self.plan.groups[code]:
                name, count = f"{INSTRUMENT}{code}__{group}", 1
                while name in taken:
                    count += 1
                    name = f"{INSTRUMENT}{code}__{group}_{count}"
                taken.add(name)
                found[name] = code, group
        return found

    @property
    def _may_read_log(self) -> bool:
        """For whoever reads the log anyway, and not where its values would say what is kept back otherwise."""
        return may(self.by, Permission.AUDIT_READ) and (self.choice.dates, self.choice.ids) == ("kept", "kept")

    def catalogue(self, *, dummy: bool = False) -> list[Table]:
        """Every table, without reading any row; with `dummy`, those that have room for an arm."""
        return [self.table(name) for name in self.names if not dummy or has_arm(name)]

    def _twice(self) -> tuple[str, ...]:
        """What two people did, where any version of the study asks for it."""
        double, coding = self.plan.has_double_entry, self.plan.has_coding
        names = (("double_entry", double), ("coding", coding), ("agreement", double or coding))
        return tuple(name for name, there in names if there)

    def shaped(self, name: str) -> Table:
        """A table as it is asked for: of which instruments, visits and sites, since when, and how it looks."""
        table, choice = self.narrowed(self.table(name)), self.choice
        if self.changed is not None and name not in changes.WHOLE:
            table = changes.only_changed(table, self.changed, self._there_were(self.changed))
        if (choice.values, choice.dates, choice.ids) == ("codes", "kept", "kept"):
            return table
        return shaped(
            table,
            choice,
            keys=keys_of(self.session),
            study=self.study.code,
            dates=self._dates,
            words=self._words,
        )

    @cached_property
    def _dates(self) -> DATES_OF_ITEMS:
        return dates_of(self.plan)

    @cached_property
    def _words(self) -> WORDS_OF_ITEMS:
        return words_of(self.plan)

    def _there_were(self, changed: Changed) -> Iterator[tuple[str, str, str]]:
        for participant, visit, instrument in changes.entries_of(self.session, ENTRY, changed):
            if not self.choice.leaves_out("visits", visit) and not self.choice.leaves_out("instruments", instrument):
                yield participant, visit, instrument

    def narrowed(self, table: Table) -> Table:
        """The rows of the wanted visits and instruments, in tables whose query does not leave the others out."""
        if not self.choice.narrows or table.name not in LISTED:
            return table
        kinds = {"site": "sites", "visit": "visits", "instrument": "instruments"}
        places = [(place, kinds[column.name]) for place, column in enumerate(table.columns) if column.name in kinds]
        rows = (
            row
            for row in table.rows
            if not any(self.choice.leaves_out(kind, row[place]) for place, kind in places)  # type: ignore[arg-type]
        )
        return replace(table, rows=rows)

    def table(self, name: str) -> Table:
        plan, arm = self.plan, self.arm
        if name in self._forms:
            code, group = self._forms[name]
            label = plan.instruments[code].label
            if group is None:
                row, columns = "One row per entry of this instrument.", tables.instrument_columns(plan, code, arm=arm)
                return Table(name, label, row, columns, self._instrument(code), instrument=code)
            row, columns = "One row per row of this group.", tables.group_columns(plan, code, group, arm=arm)
            label = f"{label}: {plan.groups[code][group][0]}"
            return Table(name, label, row, columns, self._group(code, group), instrument=code)
        match name:
            case "participants":
                columns = tables.participant_columns(plan, arm=arm)
                return Table(name, "Participants", "One row per participant.", columns, self._participants())
            case "visits":
                row = "One row per visit that has dates."
                return Table(name, "Visits", row, tables.visit_columns(plan), self._visits())
            case "entries":
                row = "One row per answer, of every instrument. Items without an answer have no row."
                return Table(name, "Entries, long", row, tables.long_columns(plan), self._long())
            case "entries_by_visit":
                row = "One row per participant and visit at which something was entered."
                columns = tables.by_visit_columns(plan, arm=arm)
                return Table(name, "Entries, wide by visit", row, columns, self._by_visit())
            case "entries_by_participant":
                row = "One row per participant, also of those without any entry."
                columns = tables.by_participant_columns(plan, arm=arm)
                return Table(name, "Entries, wide by participant", row, columns, self._by_participant())
            case "queries":
                row = "One row per query, also of the closed ones: what was asked, answered, and when."
                return Table(name, "Queries", row, tables.query_columns(plan), self._queries())
            case "double_entry":
                row = "One row per answer that two people entered: what each did, and what was settled."
                return Table(name, "Double entry", row, tables.double_columns(plan), self._double())
            case "coding":
                row = "One row per text that is coded, also as it read before it was changed."
                return Table(name, "Coding", row, tables.coding_columns(plan), self._coding())
            case "agreement":
                row = "One row per item, for all sites together and for each of them: how far two people agree."
                return Table(name, "Agreement", row, tables.agreement_columns(plan), self._agreement())
            case "consents":
                row = "One row per consent: which document, and when. No names, no signatures."
                return Table(name, "Consents", row, tables.consent_columns(plan), self._consents())
            case "screening":
                row = "One row per pre-screen, also of those who did not pass."
                return Table(name, "Screening", row, tables.screening_columns(plan), self._screening())
            case "adverse_events":
                row = "One row per adverse event, as its newest report and judgement say. Never an arm."
                return Table(name, "Adverse events", row, tables.event_columns(plan), self._events())
            case "deviations":
                row = "One row per deviation from the protocol."
                return Table(name, "Deviations", row, tables.deviation_columns(plan), self._deviations())
            case "contacts":
                row = "One row per attempt to be in touch."
                return Table(name, "Contacts", row, tables.contact_columns(), self._contacts())
            case "concomitant_care":
                row = "One row per line of care beside the trial."
                return Table(name, "Concomitant care", row, tables.care_columns(), self._care())
            case "audit":
                row = "One row per entry of the log that is about a participant: who did what, when and why."
                return Table(name, "Audit log", row, tables.audit_columns(), self._audit())
            case _:
                row = "One row per column of every other table: what it is, its unit, range and choices."
                return Table(name, "Codebook", row, tables.CODEBOOK, self._codebook())

    # Rows

    def _scan(self, query: Select[Any]) -> Iterator[Any]:
        return streamed(self.session, query, batch=BATCH)

    def _everybody(self, query: Select[Any]) -> Select[Any]:
        """Only participants of this study at the person's sites, and at those of the choice."""
        query = query.where(PARTICIPANT.c.study_id == self.study.id, at_their_sites(self.by, Permission.EXPORT_RUN))
        return query.where(SITE.c.code.in_(self.choice.sites)) if self.choice.sites else query

    def _mine(self, query: Select[Any]) -> Select[Any]:
        """Only participants of this study at the person's sites, by code; of them, whom the choice is about."""
        query = self._everybody(query).order_by(PARTICIPANT.c.code)
        if self.changed is not None and len(self.changed.people) <= changes.MOST:
            kind = self.session.get_bind().dialect.name
            query = query.where(AMONG[kind]).params(ids=self.changed.ids)
        return query

    def _arm(self, participant_id: int) -> tuple[Cell, ...]:
        return () if self.arm_of is None else (self.arm_of(participant_id),)

    def _participants(self) -> Iterator[Row]:
        query = (
            select(*PARTICIPANT.c, SITE.c.code.label("site"), IN_ERROR.c.reason, IN_ERROR.c.should_have_been)
            .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
            .join(IN_ERROR, IN_ERROR.c.id == NEWEST_IN_ERROR, isouter=True)
        )
        for row in self._scan(self._mine(query)):
            yield (
                row.code,
                row.site,
                *self._arm(row.id),
                row.status,
                row.screened_on,
                row.consented_on,
                row.randomised_on,
                row.withdrawn_on,
                row.withdrawal_level,
                row.withdrawal_reason,
                row.treatment_stopped_on,
                row.treatment_stopped_reason,
                row.reason,
                tables.levels_cell(row.should_have_been),
            )

    def _visits(self) -> Iterator[Row]:
        query = (
            select(PARTICIPANT.c.code.label("participant"), SITE.c.code.label("site"), *VISIT.c)
            .select_from(PARTICIPANT)
            .join(VISIT, VISIT.c.participant_id == PARTICIPANT.c.id)
            .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        )
        for row in self._scan(self._mine(query).order_by(VISIT.c.order, VISIT.c.id)):
            yield (
                row.participant,
                row.site,
                row.code,
                row.kind,
                row.target_on,
                row.opens_on,
                row.closes_on,
                row.status,
                row.held_on,
                row.in_error_why or row.reason,
            )

    def _queries(self) -> Iterator[Row]:
        # What is asked about an answer repeats it, and so goes where the answer goes.
        only = use_not_taken_back(self.study, QUERY.c.visit)
        for query in every_query(self.session, self.study, by=self.by, permission=Permission.EXPORT_RUN, only=only):
            yield (
                query.participant,
                query.site,
                query.number,
                query.visit,
                query.instrument,
                *self._repeat(query.repeat),
                query.item,
                query.origin.value,
                query.rule,
                query.state.value,
                query.text,
                query.answer,
                query.raised_at,
                query.changed_at,
                query.closed_at,
                query.closing.value if query.closing else None,
            )

    def _double(self) -> Iterator[Row]:
        found = every_answer(
            self.session, self.study, by=self.by, permission=Permission.EXPORT_RUN, only=in_use(self.study)
        )
        for line, each in found:
            yield (
                line.participant,
                line.site,
                line.visit,
                line.instrument,
                each.item,
                line.state.value,
                *(cell for value in (each.first, each.second) for cell in tables.answer_cells(value)),
                each.agrees,
                each.chosen,
                *tables.answer_cells(each.settled),
                each.why,
                line.first_at,
                line.second_at,
            )

    def _coding(self) -> Iterator[Row]:
        found = every_text(
            self.session, self.study, by=self.by, permission=Permission.EXPORT_RUN, only=in_use(self.study)
        )
        for each in found:
            chosen = [choice.code for choice in each.choices]
            yield (
                each.participant,
                each.site,
                each.visit or None,
                each.instrument or None,
                each.item,
                *((each.event,) if self.plan.codes_events else ()),
                each.text,
                each.dictionary,
                each.dictionary_version,
                each.state.value,
                *(chosen[place] if place < len(chosen) else None for place in (0, 1)),
                each.code,
                each.label,
                each.why,
                each.created_at,
                each.reconciled_at,
                each.outdated_at,
            )

    def _agreement(self) -> Iterator[Row]:
        for kind, page_of in (("double_entry", entry_agreement), ("coding", coding_agreement)):
            for by_site in (False, True):
                yield from self._agreed(kind, page_of, by_site=by_site)

    def _agreed(self, kind: str, page_of: Callable[..., Page[Agreement]], *, by_site: bool) -> Iterator[Row]:
        asked: dict[str, Any] = {"by": self.by, "permission": Permission.EXPORT_RUN, "only": in_use(self.study)}
        for page in every_page(
            lambda cursor: page_of(
                self.session, self.study, **asked, by_site=by_site, cursor=cursor, limit=LARGEST_PAGE
            )
        ):
            for each in page.rows:
                yield tables.agreement_row(kind, each)

    def _consents(self) -> Iterator[Row]:
        query = (
            select(
                PARTICIPANT.c.code.label("participant"),
                SITE.c.code.label("site"),
                CONSENT.c.document_version,
                CONSENT.c.language,
                CONSENT.c.document_sha256,
                CONSENT.c.method,
                CONSENT.c.signed_on,
                CONSENT.c.recorded_at,
                CONSENT.c.countersigned_at,
                CONSENT.c.withdrawn_on,
                CONSENT.c.refused_at,
                CONSENT.c.refused_why,
                CONSENT.c.study_version_id,
                CONSENT.c.options,
                taken_back_text(self.session.get_bind().dialect.name).label("taken_back"),
            )
            .select_from(PARTICIPANT)
            .join(CONSENT, CONSENT.c.participant_id == PARTICIPANT.c.id)
            .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        )
        scanned = self._scan(self._mine(query).order_by(CONSENT.c.id))
        for _, rows in groupby(scanned, key=lambda row: row.participant):
            theirs: list[Any] = list(rows)
            now = options_now(theirs, taken_back_in(theirs[0].taken_back))
            for row in theirs:
                options = json.loads(row.options)
                stand = [now.get(code) if is_active(row) else None for code, _ in self.plan.consents]
                yield (
                    *row[:12],
                    self.versions.get(row.study_version_id),
                    *(options.get(code) for code, _ in self.plan.consents),
                    *(cell for one in stand for cell in ((one.agreed, one.since) if one else (None, None))),
                )

    def _screening(self) -> Iterator[Row]:
        query = (
            select(PARTICIPANT.c.code.label("participant"), SITE.c.code.label("site"), *SCREENING.c)
            .select_from(PARTICIPANT)
            .join(SCREENING, SCREENING.c.participant_id == PARTICIPANT.c.id)
            .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        )
        forms = [tables.form_of(self.plan, code) for code in self.plan.screening if code in self.plan.instruments]
        for row in self._scan(self._mine(query).order_by(SCREENING.c.id)):
            answers = json.loads(row.answers)
            met = {said["code"]: said["met"] for said in json.loads(row.verdicts)}
            yield (
                row.participant,
                row.site,
                row.screened_at,
                row.corrected_at,
                self.versions.get(row.study_version_id),
                row.eligible,
                row.failure_reason,
                *(met.get(code) for code, _ in self.plan.criteria),
                *(cell for form in forms for cell in form.cells(answers)),
            )

    def _of_safety(self, table: SqlTable, *more: ColumnElement[Any]) -> Select[Any]:
        """The rows of one table of safety beside their participants, by code and number."""
        query = (
            select(PARTICIPANT.c.code.label("participant"), SITE.c.code.label("site"), *table.c, *more)
            .select_from(PARTICIPANT)
            .join(table, table.c.participant_id == PARTICIPANT.c.id)
            .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        )
        return self._mine(query).order_by(table.c.id)

    def _events(self) -> Iterator[Row]:
        codes = codes_of_events(self.session, self.study) if self.plan.codes_events else {}
        newest = (REPORT.c.event_id == EVENT.c.id) & (REPORT.c.version == EVENT.c.version)
        for row in self._scan(self._of_safety(EVENT, REPORT.c.details).join(REPORT, newest)):
            said = details_in(row.details)
            yield (
                row.participant,
                row.site,
                row.id,
                row.state,
                row.term,
                *(codes.get(row.id, (None, None)) if self.plan.codes_events else ()),
                row.code,
                row.onset,
                said.ended or None,
                row.severity,
                said.serious,
                *(int(each in said.criteria) for each in Criterion),
                said.action,
                row.outcome,
                said.narrative or None,
                row.relatedness,
                row.expected,
                row.version,
                row.reported_at,
                row.serious_since,
            )

    def _deviations(self) -> Iterator[Row]:
        names = ("category", "grade", "occurred_on", "what", "action", "state", "rule", "reported_at", "signed_at")
        return self._lines(DEVIATION, *names)

    def _contacts(self) -> Iterator[Row]:
        return self._lines(CONTACT, "at", "how", "result", "note", collected="at")

    def _care(self) -> Iterator[Row]:
        return self._lines(CARE, "treatment", "began", "ended", "indication", collected="recorded_at")

    def _audit(self) -> Iterator[Row]:
        levels = levels_that_stop_use(self.study)
        names = [column.name for column in tables.audit_columns()]
        about = [AUDIT_ENTRY.c[name] for name in names[2:]]  # behind the participant and the site
        left = (PARTICIPANT.c.withdrawal_level, PARTICIPANT.c.withdrawn_on)
        query = (
            select(*left, PARTICIPANT.c.code.label("participant"), SITE.c.code.label("site"), *about)
            .select_from(PARTICIPANT)
            .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
            .join(AUDIT_ENTRY, AUDIT_ENTRY.c.participant == PARTICIPANT.c.code)
            .where(AUDIT_ENTRY.c.log == self.study.code)
            .order_by(AUDIT_ENTRY.c.position)
        )
        if self.changed is not None:
            query = query.where(AUDIT_ENTRY.c.position >= self.changed.since)
        for row in self._scan(self._everybody(query)):
            level, day, *cells = row
            is_withheld = is_told_no_more(row.at, day if level in levels else None)
            found = dict(zip(names, cells, strict=True))
            for side in ("old", "new"):
                found[side] = None if is_withheld else tables.audit_cell(row.action, found[side])
            yield tuple(None if each == "" else each for each in found.values())

    def _lines(self, table: SqlTable, *names: str, collected: str | None = None) -> Iterator[Row]:
        """Columns as they are kept; a text that was left out is an empty cell.

        `collected` names the instant at which a line was: what was from the day on from which nothing that is collected
        may be used, by the date at the site, is left out. A line of before stays, as it was corrected since.
        """
        levels = levels_that_stop_use(self.study) if collected else []
        left = (PARTICIPANT.c.withdrawal_level, PARTICIPANT.c.withdrawn_on, SITE.c.timezone)
        for row in self._scan(self._of_safety(table, *left)):
            if (
                collected
                and row.withdrawal_level in levels
                and row.withdrawn_on is not None
                and clock.today(row.timezone, getattr(row, collected)) >= row.withdrawn_on
            ):
                continue
            kept = (getattr(row, name) for name in names)
            yield (row.participant, row.site, row.id, *(None if each == "" else each for each in kept))

    def _entries(
        self, *, instrument: str | None = None, everyone: bool = False, more: Sequence[str] = ()
    ) -> Iterator[tuple[Any, list[Any]]]:
        """Each participant with their entries in the order of the plan; one participant at a time in memory."""
        query = (
            select(
                PARTICIPANT.c.id,
                PARTICIPANT.c.code,
                PARTICIPANT.c.status.label("standing"),
                SITE.c.code.label("site"),
                ENTRY.c.id.label("entry_id"),
                *(
                    ENTRY.c[name]
                    for name in ("visit", "instrument", "repeat", "status", "version", "values", "reasons", "saved_at")
                ),
                ENTRY.c.signed_at,
                ENTRY.c.study_version_id,
                *(ENTRY.c[name] for name in more),
            )
            .select_from(PARTICIPANT)
            .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
            .join(
                ENTRY,
                and_(ENTRY.c.participant_id == PARTICIPANT.c.id, *self._wanted(instrument)),
                isouter=everyone,
            )
        )
        places = {visit.code: place for place, visit in enumerate(self.plan.visits)}
        order = {code: place for place, code in enumerate(self.plan.instruments)}

        known: dict[tuple[str, str], tuple[int, str, int, str]] = {}

        def in_plan(row: Any) -> tuple[int, str, int, str, int]:
            visit, form = key = (row.visit, row.instrument)
            if (rank := known.get(key)) is None:
                rank = known[key] = (places.get(visit, len(places)), visit, order.get(form, len(order)), form)
            return (*rank, row.repeat)

        scan = self._scan(self._mine(query).order_by(ENTRY.c.visit, ENTRY.c.instrument, ENTRY.c.repeat))
        try:
            for _, group in groupby(scan, key=lambda row: row.id):
                rows = list(group)
                if rows[0].visit is None:  # somebody without any entry
                    yield rows[0], []
                else:
                    yield rows[0], sorted(rows, key=in_plan) if len(rows) > 1 else rows
        finally:
            scan.close()  # type: ignore[attr-defined]

    def _wanted(self, instrument: str | None) -> list[ColumnElement[bool]]:
        """Entries that are in use, of the forms and visits that are asked for."""
        wanted = list(in_use(self.study))
        if instrument is not None:
            wanted.append(ENTRY.c.instrument == instrument)
        elif self.choice.instruments:
            wanted.append(ENTRY.c.instrument.in_(self.choice.instruments))
        if self.choice.visits:
            wanted.append(ENTRY.c.visit.in_(self.choice.visits))
        return wanted

    def _batches(
        self,
        instrument: str | None,
        before: Sequence[ColumnElement[Any]],
        documents: Sequence[str],
        *,
        together: bool = False,
    ) -> Callable[[int], Iterator[Sequence[Raw]]]:
        """The same entries in the same order as the driver gives them, so many at a time.

        Of each: participant, site, `before`, status, how often it was saved, when it was saved and signed, the number
        of the version of the study, and these stored documents. `together`: all before that number as one text, with
        commas between, which the database makes beside us, and the driver hands over as one.
        """
        kind = self.session.get_bind().dialect.name
        head: list[ColumnElement[Any]] = [
            PARTICIPANT.c.code,
            SITE.c.code,
            *before,
            ENTRY.c.status,
            cast(ENTRY.c.version, String),
            as_text(ENTRY.c.saved_at, kind),
            as_text(ENTRY.c.signed_at, kind),
        ]
        if together:
            between = literal_column("','", String)
            head = [reduce(lambda one, other: one.concat(between).concat(other), head)]
        query: Select[Any] = (
            select(
                *head,
                ENTRY.c.study_version_id,
                *(ENTRY.c[name] for name in documents),
            )
            .select_from(PARTICIPANT)
            .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
            .join(ENTRY, and_(ENTRY.c.participant_id == PARTICIPANT.c.id, *self._wanted(instrument)))
        )
        query = self._mine(query).order_by(
            *in_order(ENTRY.c.visit, [visit.code for visit in self.plan.visits], kind),
            *(in_order(ENTRY.c.instrument, list(self.plan.instruments), kind) if instrument is None else ()),
            ENTRY.c.repeat,
        )
        return lambda size: batches(self.session, query, size=size)

    def people(self) -> Iterator[tuple[Any, list[Any]]]:
        """Everybody with their entries in the order of the plan, and who saved and signed them."""
        return self._entries(everyone=True, more=("saved_by", "signed_by", "signed_meaning"))

    def _repeat(self, repeat: int) -> Row:
        """The number of a repeat, in tables of a study that has any."""
        return (repeat,) if self.plan.repeating else ()

    def touched(self, person: Any, entries: Sequence[Any]) -> Sequence[Any]:
        """The entries of somebody that may have changed, of tables whose rows are told apart by entry."""
        if self.changed is None:
            return entries
        if person.code not in self.changed.people:  # of very many, everybody is read
            return []
        return [row for row in entries if self.changed.has(person.code, row.visit, row.instrument)]

    def _about(self, row: Any) -> Row:
        return (row.status, row.version, row.saved_at, row.signed_at, self.versions.get(row.study_version_id))

    def _long(self) -> Iterator[Row]:
        repeats = (REPEAT,) if self.plan.repeating else ()
        quick = Long(self.plan, 4 + len(repeats), self.versions)
        before = (ENTRY.c.visit, ENTRY.c.instrument, *repeats)
        return Batched(self._long_rows(), self._batches(None, before, ("values", "reasons")), quick.lines)

    def _long_rows(self) -> Iterator[Row]:
        order = {code: tables.item_order(self.plan, code) for code in self.plan.instruments}
        for person, entries in self._entries():
            for row in self.touched(person, entries):
                yield from tables.long_rows(
                    (person.code, person.site, row.visit, row.instrument, *self._repeat(row.repeat)),
                    cells_of(stored(row.values)),
                    stored(row.reasons),
                    self._about(row),
                    order.get(row.instrument, {}),
                )

    def _instrument(self, code: str) -> Iterator[Row]:
        form, rows = tables.form_of(self.plan, code), self._instrument_rows(code)
        if not form.fields or form.is_special or self.arm_of is not None:
            return rows
        before = (ENTRY.c.visit, *((REPEAT,) if code in self.plan.repeating else ()))
        ahead = 2 + len(before)
        wholes = (*([ahead - 1] if code in self.plan.repeating else []), ahead + 1)
        quick = Wide(form, ahead + len(tables.ENTRY), self.versions, wholes=wholes)
        read = self._batches(code, before, ("values",), together=True)
        return Batched(rows, read, quick.lines, quick.columns, quick.written, form.fields)

    def _instrument_rows(self, code: str) -> Iterator[Row]:
        form = tables.form_of(self.plan, code)
        for person, entries in self._entries(instrument=code):
            head = (person.code, person.site, *self._arm(person.id))
            codes = self._codes(entries)
            for row in self.touched(person, entries):
                repeat = (row.repeat,) if code in self.plan.repeating else ()
                values = self._coded(stored(row.values), row.entry_id, codes)
                yield (*head, row.visit, *repeat, *self._about(row), *form.cells(values))

    def _group(self, code: str, group: str) -> Iterator[Row]:
        form, repeats = tables.group_form(self.plan, code, group), code in self.plan.repeating
        for person, entries in self._entries(instrument=code):
            head = (person.code, person.site, *self._arm(person.id))
            for row in entries:
                for number, cells in enumerate(stored(row.values).get(f"{group}{ROWS}", ()), 1):
                    if cells:
                        repeat = (row.repeat,) if repeats else ()
                        yield (*head, row.visit, *repeat, number, *self._about(row), *form.cells(cells))

    def _by_visit(self) -> Iterator[Row]:
        forms = [tables.form_of(self.plan, code) for code in self.plan.once()]
        for person, entries in self._entries():
            head = (person.code, person.site, *self._arm(person.id))
            entries = [row for row in entries if row.instrument not in self.plan.repeating]
            codes = self._codes(entries)
            for visit, group in groupby(entries, key=lambda row: str(row.visit)):
                filled = self._values(group, codes)
                yield (
                    *head,
                    visit,
                    *(cell for form in forms for cell in form.cells(filled.get((visit, form.instrument), {}))),
                )

    def _by_participant(self) -> Iterator[Row]:
        forms = [
            ((visit.code, code), tables.form_of(self.plan, code))
            for visit in self.plan.visits
            for code in self.plan.forms[visit.code]
            if code in self.plan.instruments and code not in self.plan.repeating
        ]
        for person, entries in self._entries(everyone=True):
            head = (person.code, person.site, *self._arm(person.id), person.standing)
            filled = self._values(entries, self._codes(entries))
            yield (*head, *(cell for key, form in forms for cell in form.cells(filled.get(key, {}))))

    def _codes(self, entries: Sequence[Any]) -> Codes:
        """What the texts of one participant's entries are coded as; no statement where nothing is coded."""
        if not self.plan.has_coding or not entries:
            return {}
        return codes_in(self.session, [row.entry_id for row in entries])

    def _coded(self, values: dict[str, object], entry_id: int, codes: Codes) -> Mapping[str, object]:
        """Stored values, and beside each coded text its code and term, under the names `tables.Field` looks for."""
        for item, (code, label) in codes.get(entry_id, {}).items():
            values[item + tables.CODE], values[item + tables.TERM] = code, label
        return values

    def _values(self, entries: Iterable[Any], codes: Codes) -> dict[tuple[str, str], Mapping[str, object]]:
        """(visit, instrument) -> stored values."""
        return {(row.visit, row.instrument): self._coded(stored(row.values), row.entry_id, codes) for row in entries}

    def _codebook(self) -> Iterator[Row]:
        for name in self.names:
            if name != "codebook":
                yield from tables.codebook_rows(name, self.table(name).columns)


@dataclass(frozen=True)
class Run:
    """One export that somebody ran, as the log has it; rows and hash once the file was sent to its end."""

    at: datetime
    username: str
    table: str
    format: str
    study_version: str
    rows: int | None
    sha256: str | None
    via: str


def planned(study: StudyInUse, *, by: Actor) -> dict[str, Any]:
    """What the study plans, as USDM 4.0; for whoever is blinded arms are numbers."""
    require(by, Permission.STUDY_READ)
    return protocol(study.definition, software=version("equipoise"), named=not by.blinded)


def runs(session: Session, study: StudyInUse, *, by: Actor, limit: int = HISTORY) -> Sequence[Run]:
    """The latest exports of the study, newest first."""
    require(by, Permission.EXPORT_RUN, action=RUN, subject="/export")
    query = (
        select(*(AUDIT_ENTRY.c[name] for name in ("at", "username", "action", "new", "via", "request_id")))
        .where(AUDIT_ENTRY.c.log == study.code, AUDIT_ENTRY.c.action.in_(map(written_out, (RUN, DELIVERED))))
        .order_by(AUDIT_ENTRY.c.position.desc())
        .limit(2 * limit)
    )
    sent: dict[tuple[str, str, str], dict[str, Any]] = {}
    found: list[Run] = []
    for row in session.execute(query):
        said = json.loads(row.new)
        key = (row.request_id, said["table"], said["format"])
        if row.action == DELIVERED:
            sent[key] = said
            continue
        end = sent.get(key, said)
        found.append(
            Run(
                at=row.at,
                username=row.username,
                table=said["table"],
                format=said["format"],
                study_version=said["study_version"],
                rows=end.get("rows"),
                sha256=end.get("sha256"),
                via=row.via,
            )
        )
    return found[:limit]


def has_more_entries_than(session: Session, study: StudyInUse, number: int) -> bool:
    """Whether a study has so many entries that writing all of it takes a while; not how many it has."""
    query = select(ENTRY.c.id).where(ENTRY.c.study_id == study.id).offset(number).limit(1)
    return session.execute(query).first() is not None
