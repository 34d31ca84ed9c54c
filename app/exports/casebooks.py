"""What is read for a file of a whole study: its casebooks in batches, from the person's sites only."""

import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import islice
from typing import Any

from sqlalchemy import and_, func, or_, select, union
from sqlmodel import Session

from app.audit.actions import ENTRY as LOG
from app.capture.groups import cells_of
from app.capture.rules import form_name
from app.exports import reads, tables
from app.exports.batches import stored
from app.exports.changes import Changed, require_known, state_of
from app.exports.choice import Choice
from app.exports.formats.standards import Standard
from app.exports.reads import ENTRY, PARTICIPANT, SCREENING, SITE, VERSION
from app.exports.tables import Plan, Row, Table
from app.exports.whole import COMMON, SIGNED, Casebook, Dropped, Filled, Place, Somebody, Touched, Whole
from app.foundation.errors import FieldProblem, Invalid
from app.participants.reads import at_their_sites
from app.people.access import Actor, require, sites_for
from app.people.permissions import Permission
from app.studies.in_use import StudyInUse

NUMBERED = (Standard.DATASET_JSON, Standard.DATASET_NDJSON)
"""The standards that number the records of a participant: with one that comes or goes all behind it change."""
NAMING = (Standard.ODM, Standard.ODM_2)
"""The standards that list who did anything, and what signatures mean: to find that, all of the log is gone through."""
BATCH = 50
"""So many participants are held at once."""
CHANGES = ("entry.saved", "entry.corrected")
SIGNING = "entry.signed"
Notes = dict[str, set[str]]


def why_not_whole(choice: Choice) -> list[FieldProblem]:
    """What cannot be asked of a file of the whole study."""
    asked = {
        "tables": bool(choice.tables),
        "values": choice.values != "codes",
        "dates": choice.dates != "kept",
        "ids": choice.ids != "kept",
        "arms": choice.dummy,
    }
    message = (
        "This format holds the whole study, as it stands, with its codes. Leave this out, or take tables as CSV, "
        "Parquet or another format of tables."
    )
    return [FieldProblem(field, "whole", message) for field, holds in asked.items() if holds]


def require_possible(
    session: Session, study: StudyInUse, choice: Choice, *, since: int | None = None, by: Actor
) -> None:
    """Invalid for what cannot be had, or is not there; NotAllowed for who may not have it."""
    if not choice.is_whole:
        reads.tables_of(session, study, choice, by=by)
        if since is not None:
            require_known(session, study, since)
    else:
        _asked(session, study, choice, since, by)


def _asked(
    session: Session, study: StudyInUse, choice: Choice, since: int | None, by: Actor
) -> tuple["reads.Source", Plan]:
    """Where the rows come from, and what is asked for of all that was ever asked."""
    require(by, Permission.EXPORT_RUN, action=reads.RUN, subject="/export")
    if problems := why_not_whole(choice):
        raise Invalid(problems)
    source = reads.source_of(session, study, by=by, choice=choice, since=since)
    return source, source.plan


def open_whole(session: Session, study: StudyInUse, choice: Choice, *, since: int | None = None, by: Actor) -> Whole:
    """The study as one file has it; casebooks are read as they are asked for. Invalid when more is asked than it has.

    `choice` narrows it to instruments, visits and sites; `since` to what changed from that change number on.
    """
    source, plan = _asked(session, study, choice, since, by)
    if isinstance(choice.format, Standard) and choice.format.is_definition:
        return _definition(session, study, source, by)
    columns = {name: source.table(name).columns for name in COMMON}
    state = state_of(session, study)
    loaded = session.execute(select(VERSION.c.loaded_at).where(VERSION.c.id == study.version_id)).scalar_one()
    people, meanings = _people(session, study, by) if choice.format in NAMING else ((), ())
    return Whole(
        study=study.definition,
        plan=plan,
        change=state.size,
        leaf=state.leaf,
        changed_at=state.at or loaded,
        loaded_at=loaded,
        software=version("equipoise"),
        sites=_sites(session, study, choice, by),
        people=people,
        meanings=meanings,
        columns=columns,
        labels={name: source.table(name).label for name in COMMON},
        casebooks=lambda: _casebooks(session, study, source, since),
        since=since,
    )


def _definition(session: Session, study: StudyInUse, source: "reads.Source", by: Actor) -> Whole:
    """The version in use without anybody: one version is one file, however far the log is and since whenever."""
    choice, plan = source.choice, tables.plan_of((study.definition,))
    loaded = session.execute(select(VERSION.c.loaded_at).where(VERSION.c.id == study.version_id)).scalar_one()
    return Whole(
        study=study.definition,
        plan=tables.narrowed(plan, instruments=choice.instruments, visits=choice.visits),
        change=0,
        leaf="",
        changed_at=loaded,
        loaded_at=loaded,
        software=version("equipoise"),
        sites=_sites(session, study, choice, by),
        people=(),
        meanings=(),
        columns={},
        labels={},
        casebooks=lambda: iter(()),
    )


def _sites(session: Session, study: StudyInUse, choice: Choice, by: Actor) -> tuple[Place, ...]:
    theirs = sites_for(by, Permission.EXPORT_RUN)
    query = select(SITE.c.id, SITE.c.code, SITE.c.name).where(SITE.c.study_id == study.id).order_by(SITE.c.code)
    return tuple(
        Place(row.code, row.name)
        for row in session.execute(query)
        if (theirs is None or row.id in theirs) and not choice.leaves_out("sites", row.code)
    )


def _people(session: Session, study: StudyInUse, by: Actor) -> tuple[tuple[Somebody, ...], tuple[str, ...]]:
    """Who saved, corrected or signed anything of the participants at these sites, and what signatures mean."""
    mine = (PARTICIPANT.c.study_id == study.id, at_their_sites(by, Permission.EXPORT_RUN))
    entries = select(ENTRY.c.saved_by).join(PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id).where(*mine)
    screened = (
        select(func.coalesce(SCREENING.c.corrected_by, SCREENING.c.screened_by))
        .join(PARTICIPANT, PARTICIPANT.c.id == SCREENING.c.participant_id)
        .where(*mine)
    )
    changed = (
        select(LOG.c.username)
        .join(PARTICIPANT, PARTICIPANT.c.code == LOG.c.participant)
        .where(LOG.c.log == study.code, LOG.c.action.in_(CHANGES), *mine)
    )
    signed = (
        select(ENTRY.c.signed_by, ENTRY.c.signed_name, ENTRY.c.signed_meaning)
        .join(PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id)
        .where(ENTRY.c.signed_at.is_not(None), *mine)
        .distinct()
    )
    found: dict[str, str | None] = dict.fromkeys(session.execute(union(entries, screened, changed)).scalars())
    meanings = set()
    for row in session.execute(signed):
        found[row.signed_by] = max(filter(None, (found.get(row.signed_by), row.signed_name)), default=None)
        meanings.add(row.signed_meaning or "")
    people = tuple(Somebody(name, found[name]) for name in sorted(found))
    return people, tuple(sorted(meanings))


def _casebooks(session: Session, study: StudyInUse, source: "reads.Source", since: int | None) -> Iterator[Casebook]:
    beside = {name: _Beside(source.narrowed(source.table(name))) for name in COMMON}
    changed, standard = source.changed, source.choice.format
    people = source.people()
    while batch := list(islice(people, BATCH)):
        codes = [person.code for person, _ in batch]
        changes = _changes(session, study, codes)
        screenings = _screenings(session, source, [person.id for person, _ in batch])
        before = {} if since is None else _before(session, study, codes, since)
        noted = _noted(session, study, codes, since) if since is not None and standard is Standard.FHIR else {}
        for person, entries in batch:
            mine, rows = changes.get(person.code, {}), {name: each.of(person.code) for name, each in beside.items()}
            if changed is not None and person.code not in changed.people:  # of very many, everybody is read
                continue
            yield Casebook(
                participant=person.code,
                site=person.site,
                entries=tuple(
                    _filled(source, row, mine)
                    for row in (entries if standard in NUMBERED else source.touched(person, entries))
                ),
                screenings=tuple(screenings.get(person.id, ())),
                rows=rows,
                dropped=_dropped(source, changed, person.code, before.get(person.code), noted.get(person.code, {}))
                if changed is not None
                else None,
            )


def _before(session: Session, study: StudyInUse, participants: Sequence[str], since: int) -> dict[str, set[str]]:
    """Participant -> what the log was about before a change number, for those of whom it held anything."""
    query = (
        select(LOG.c.participant, LOG.c.subject)
        .where(
            LOG.c.log == study.code,
            LOG.c.participant.in_(participants),
            LOG.c.position < since,
            LOG.c.action.not_like("%\\_refused", escape="\\"),
        )
        .distinct()
    )
    found: dict[str, set[str]] = {}
    for row in session.execute(query):
        found.setdefault(row.participant, set()).add(row.subject)
    return found


def _noted(session: Session, study: StudyInUse, participants: Sequence[str], since: int) -> dict[str, Notes]:
    """Participant -> subject -> what was changed for a reason before a change number, and whether it was signed."""
    query = (
        select(LOG.c.participant, LOG.c.subject, LOG.c.action, LOG.c.item)
        .where(
            LOG.c.log == study.code,
            LOG.c.participant.in_(participants),
            LOG.c.position < since,
            or_(LOG.c.action == SIGNING, and_(LOG.c.action.in_(CHANGES), LOG.c.why.is_not(None))),
        )
        .distinct()
    )
    found: dict[str, Notes] = {}
    for row in session.execute(query):
        noted = SIGNED if row.action == SIGNING else row.item
        found.setdefault(row.participant, {}).setdefault(row.subject, set()).add(noted)
    return found


def _dropped(
    source: "reads.Source", changed: Changed, participant: str, before: set[str] | None, noted: Notes
) -> Dropped | None:
    """What is out of date of somebody in an earlier file; None when there was nothing of them yet."""
    if before is None:
        return None
    touched, repeating = changed.people[participant][1], source.whole_plan.repeating
    forms: dict[tuple[str, str, int | None], frozenset[str]] = {}
    for subject in before:
        if subject.count("/") < 2:
            continue
        kind, visit, instrument, *repeat = subject.split("/")
        wanted = not source.choice.leaves_out("visits", visit) and not source.choice.leaves_out(
            "instruments", instrument
        )
        if kind == "entry" and wanted and (touched is None or (visit, instrument) in touched):
            number = int(repeat[0]) if repeat else 1 if instrument in repeating else None
            forms[visit, instrument, number] = frozenset(noted.get(subject, ()))
    return Dropped(touched is None, dict(sorted(forms.items(), key=lambda form: (*form[0][:2], form[0][2] or 0))))


class _Beside:
    """The rows of a table that belong to one participant after another; both come in the order of their codes."""

    def __init__(self, table: Table) -> None:
        self._rows = iter(table.rows)
        self._whose = next(place for place, column in enumerate(table.columns) if column.name == "participant")
        self._next: Row | None = next(self._rows, None)

    def of(self, participant: str) -> tuple[Row, ...]:
        found = []
        while self._next is not None and self._next[self._whose] == participant:
            found.append(self._next)
            self._next = next(self._rows, None)
        return tuple(found)


Changes = dict[tuple[str, str], Touched]


def _changes(session: Session, study: StudyInUse, participants: Sequence[str]) -> dict[str, Changes]:
    """Participant -> (subject in the log, item) -> who changed that answer last."""
    query = (
        select(LOG.c.participant, LOG.c.subject, LOG.c.item, LOG.c.username, LOG.c.at, LOG.c.why)
        .where(LOG.c.log == study.code, LOG.c.participant.in_(participants), LOG.c.action.in_(CHANGES))
        .order_by(LOG.c.position)
    )
    found: dict[str, Changes] = {}
    for row in session.execute(query):
        touched = Touched(row.username, row.at, row.why)
        found.setdefault(row.participant, {})[(row.subject, row.item)] = touched
    return found


def _screenings(session: Session, source: "reads.Source", ids: Sequence[int]) -> dict[int, list[Filled]]:
    """Pre-screens by participant id, in the form of entries."""
    plan = source.whole_plan
    asked = {code: {item.code for item in plan.items.get(code, ())} for code in plan.screening}
    query = select(SCREENING).where(SCREENING.c.participant_id.in_(ids)).order_by(SCREENING.c.id)
    found: dict[int, list[Filled]] = {}
    for row in session.execute(query):
        values, earlier = json.loads(row.answers), found.setdefault(row.participant_id, [])
        earlier.append(
            Filled(
                visit="",
                instrument=next((code for code in asked if asked[code].issuperset(values)), plan.screening[0]),
                repeat=len(earlier) + 1,
                status="complete",
                version=row.version,
                study_version=source.versions.get(row.study_version_id, ""),
                saved_at=row.corrected_at or row.screened_at,
                saved_by=row.corrected_by or row.screened_by,
                values=values,
            )
        )
    return found


def _filled(source: "reads.Source", row: Any, changes: Changes) -> Filled:
    subject = f"entry/{row.visit}/{form_name(row.instrument, row.repeat)}"
    values = cells_of(stored(row.values))
    return Filled(
        visit=row.visit,
        instrument=row.instrument,
        repeat=row.repeat,
        status=row.status,
        version=row.version,
        study_version=source.versions.get(row.study_version_id, ""),
        saved_at=row.saved_at,
        saved_by=row.saved_by,
        signed_at=row.signed_at,
        signed_by=row.signed_by,
        signed_meaning=row.signed_meaning,
        values=values,
        reasons=stored(row.reasons),
        touched={item: found for item in values if (found := changes.get((subject, item))) is not None},
    )
