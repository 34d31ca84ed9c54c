"""What may I see of amendments? Versions and where they are in force, what going over to one would mean, how far it is.

What going over would mean is worked out on a reading session; nothing here writes.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, String, and_, cast, exists, func, literal, not_, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Session

from app.amendments.models import SiteVersion
from app.amendments.rules import Becomes, Changed, Verified, judged_anew, verified_anew
from app.amendments.status import State
from app.capture.double.reads import has_withheld, is_withheld
from app.capture.locks.reads import covered
from app.capture.reads import CASEBOOK, ENTRY, SCREENING_ROW, Filled, answers_from, entry_columns, entry_state
from app.capture.rules import EntryState, judge_stored
from app.capture.verification.reads import moved_by
from app.consent.reads import CONSENT, holds
from app.consent.rules import valid_document
from app.foundation import clock, paging
from app.foundation.database import among, table_of
from app.foundation.errors import NotFound
from app.participants.identity import PARTICIPANT
from app.participants.status import Status
from app.people.access import Actor, require
from app.people.permissions import Permission
from app.people.reads import SITE, SiteRow
from app.schedule.models import Appointment
from app.schedule.reads import VISIT
from app.schedule.replanning.reads import Whose, visits_of_many
from app.schedule.replanning.rules import Anchors, Replanned, replanned, visits_concerned
from app.schedule.status import AppointmentStatus
from app.studies.definition import Study
from app.studies.in_use import StudyInUse
from app.studies.models import StudyVersion
from app.studies.reads import definition
from app.studies.rules import AtRisk, Difference, Risk, differences
from app.studies.rules.amending import forms_judged_anew

SITE_VERSION = table_of(SiteVersion)
VERSION = table_of(StudyVersion)
APPOINTMENT = table_of(Appointment)
LOOKED_AT = 200  # participants at a time


# Versions, and where they are in force


@dataclass(frozen=True)
class VersionRow:
    """One loaded version. `is_newer`: than the one in force in the study."""

    id: int
    version: str
    sha256: str
    loaded_at: datetime
    loaded_by: str
    is_newer: bool


@dataclass(frozen=True)
class Going:
    """One site going over to a version, as far as it is. `participants` are those at the site now."""

    number: int
    site_id: int
    site: str
    from_version: str
    version: str
    version_id: int
    from_on: date
    why: str
    state: State
    planned_at: datetime
    planned_by: str
    begun_at: datetime | None
    moved_to: int
    looked_at: int
    changed: int
    visits: int
    kept: int
    ended_at: datetime | None
    participants: int


@dataclass(frozen=True)
class AtSite:
    """Under which version a site works now."""

    site: SiteRow
    version_id: int
    version: str
    study: StudyInUse


def loaded_versions(session: Session, study: StudyInUse, *, by: Actor) -> list[VersionRow]:
    """Every loaded version, the newest first."""
    require(by, Permission.STUDY_READ)
    columns = (VERSION.c.id, VERSION.c.version, VERSION.c.sha256, VERSION.c.loaded_at, VERSION.c.loaded_by)
    rows = session.execute(select(*columns).where(VERSION.c.study_id == study.id).order_by(VERSION.c.id.desc()))
    return [VersionRow(**row._asdict(), is_newer=row.id > study.version_id) for row in rows]


def as_version(session: Session, study: StudyInUse, row: VersionRow) -> StudyInUse:
    """The study as this version says."""
    return _as(session, study, row)


def version_named(session: Session, study: StudyInUse, name: str, *, by: Actor) -> StudyInUse:
    """The study as one of its versions says; NotFound when none is called so."""
    row = next((one for one in loaded_versions(session, study, by=by) if one.version == name), None)
    if row is None:
        raise NotFound
    return as_version(session, study, row)


def study_as_made(session: Session, study: StudyInUse, code: str, visit: str, instrument: str | None) -> StudyInUse:
    """The study as it was when a visit, or an entry at it, was made that it does not know any more; else as it is.

    So what an amendment took out is read, and corrected, as what it was. A new entry is never made that way. For
    doors, whoever asks; asks nothing of what the study knows.
    """
    planned = study.definition.visit(visit)
    if planned is not None and (instrument is None or instrument in planned.instruments):
        return study
    if instrument is not None:
        made = session.execute(
            select(VERSION.c.id, VERSION.c.sha256)
            .join(ENTRY, ENTRY.c.study_version_id == VERSION.c.id)
            .join(PARTICIPANT, PARTICIPANT.c.id == ENTRY.c.participant_id)
            .where(
                PARTICIPANT.c.study_id == study.id,
                PARTICIPANT.c.code == code,
                ENTRY.c.visit == visit,
                ENTRY.c.instrument == instrument,
            )
        ).first()
        return study if made is None else _as(session, study, made)
    earlier = select(VERSION.c.id, VERSION.c.sha256).where(
        VERSION.c.study_id == study.id, VERSION.c.id < study.version_id
    )
    for row in session.execute(earlier.order_by(VERSION.c.id.desc())).all():
        before = _as(session, study, row)
        if before.definition.visit(visit) is not None:
            return before
    return study


def _as(session: Session, study: StudyInUse, row: Any) -> StudyInUse:
    return StudyInUse(study.id, study.code, row.id, definition(session, row.id, row.sha256))


def at_sites(study: StudyInUse, sites: Sequence[SiteRow]) -> list[AtSite]:
    """Under which version each of these sites works now."""
    found = []
    for site in sites:
        there = study.at(site.id)
        found.append(AtSite(site, there.version_id, there.definition.version, there))
    return found


_FROM = VERSION.alias("from_version")
_TO = VERSION.alias("to_version")
_GOING = (
    select(
        SITE_VERSION.c.id.label("number"),
        SITE_VERSION.c.site_id,
        SITE.c.code.label("site"),
        _FROM.c.version.label("from_version"),
        _TO.c.version.label("version"),
        *(
            SITE_VERSION.c[name]
            for name in (
                "version_id",
                "from_on",
                "why",
                "state",
                "planned_at",
                "planned_by",
                "begun_at",
                "moved_to",
                "looked_at",
                "changed",
                "visits",
                "kept",
                "ended_at",
            )
        ),
        select(func.count())
        .where(PARTICIPANT.c.site_id == SITE_VERSION.c.site_id, PARTICIPANT.c.study_id == SITE_VERSION.c.study_id)
        .correlate(SITE_VERSION)
        .scalar_subquery()
        .label("participants"),
    )
    .join(SITE, SITE.c.id == SITE_VERSION.c.site_id)
    .join(_FROM, _FROM.c.id == SITE_VERSION.c.from_version_id)
    .join(_TO, _TO.c.id == SITE_VERSION.c.version_id)
)


def going_over(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    site: str | None = None,
    state: State | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[Going]:
    """One page of the sites that went, go or will go over to a version; the newest first."""
    require(by, Permission.STUDY_READ)
    query = _GOING.where(SITE_VERSION.c.study_id == study.id)
    wanted = (SITE.c.code, site), (SITE_VERSION.c.state, state)
    query = query.where(*(column == value for column, value in wanted if value is not None))
    page = paging.page_by_number(session, query, SITE_VERSION.c.id, cursor=cursor, limit=limit, named="number")
    return page.made(lambda row: _going(row._mapping))


def going(session: Session, study: StudyInUse, number: int) -> Going:
    """One of them by its number; NotFound when there is none."""
    query = _GOING.where(SITE_VERSION.c.study_id == study.id, SITE_VERSION.c.id == number)
    row = session.execute(query).mappings().first()
    if row is None:
        raise NotFound
    return _going(row)


def _going(row: Any) -> Going:
    return Going(**{**row, "state": State(row["state"])})


# What stands against it


def standing_risks(session: Session, study: StudyInUse, found: Sequence[Difference]) -> list[Difference]:
    """Those of these differences for which data stand, in one statement; whoever asks learns that, and no datum."""
    risky = [(each, each.at_risk) for each in found if each.at_risk is not None]
    if not risky:
        return []
    kind = session.get_bind().dialect.name
    asked = [_stands(study, risk, kind).label(f"risk_{index}") for index, (_, risk) in enumerate(risky)]
    row = session.execute(select(*asked)).one()
    return [each for (each, _), stands in zip(risky, row, strict=True) if stands]


def _stands(study: StudyInUse, at: AtRisk, kind: str) -> ColumnElement[bool]:
    """Whether data stand at this place, among entries or answers at screening."""
    entries: list[ColumnElement[bool]] = [ENTRY.c.study_id == study.id]
    if at.instrument:
        entries.append(ENTRY.c.instrument == at.instrument)
    if at.visit:
        entries.append(ENTRY.c.visit == at.visit)
    screened: list[ColumnElement[bool]] = [PARTICIPANT.c.study_id == study.id]
    if at.item:
        entries.append(_says(ENTRY.c["values"], at, kind))
        screened.append(_says(SCREENING_ROW.c.answers, at, kind))
    elif at.risk is Risk.MISSING:
        code = json.dumps({"missing": at.codes[0]}, separators=(",", ":"))
        entries.append(ENTRY.c["values"].contains(code, autoescape=True))
        screened.append(SCREENING_ROW.c.answers.contains(code, autoescape=True))
    among_entries = exists().where(and_(*entries))
    if at.instrument != study.definition.eligibility.instrument and at.risk is not Risk.MISSING:
        return among_entries
    among_screened = (
        select(SCREENING_ROW.c.id)
        .join(PARTICIPANT, PARTICIPANT.c.id == SCREENING_ROW.c.participant_id)
        .where(and_(*screened))
        .exists()
    )
    return or_(among_entries, among_screened)


def _says(document: ColumnElement[Any], at: AtRisk, kind: str) -> ColumnElement[bool]:
    """Whether a document of values has an answer to this item; with codes, one of these."""
    if kind == "postgresql":
        value: ColumnElement[Any] = cast(cast(document, JSONB)[at.item], String)
    else:
        value = cast(func.json_extract(document, literal(f'$."{at.item}"')), String)
    if not at.codes:
        return value.is_not(None)
    # A list is text such as ["a","b"] on both; a single choice is text with quotes on one and without on the other.
    return or_(*(or_(value == code, value.contains(f'"{code}"', autoescape=True)) for code in at.codes))


# What it would mean


@dataclass(frozen=True)
class Effect:
    """What going over would mean for one participant. `outside` are booked visits that would lie outside the window;
    `verified` is how many entries stand elsewhere by what is compared with its source.
    """

    participant: str
    site: str
    visits: tuple[Replanned, ...] = ()
    kept: tuple[str, ...] = ()
    entries: tuple[Changed, ...] = ()
    outside: tuple[str, ...] = ()
    owes: str | None = None
    casebook_signed: bool = False
    verified: Mapping[Verified, int] = field(default_factory=dict)

    @property
    def is_nothing(self) -> bool:
        return not (self.visits or self.kept or self.entries or self.owes or self.verified)

    @property
    def breaks_casebook(self) -> bool:
        """Whether the signature of their casebook would be superseded once their entries are saved again."""
        return self.casebook_signed and any(each.becomes != (Becomes.NOT_ASKED,) for each in self.entries)


@dataclass
class Totals:
    """What many effects come to. `visits` by what becomes of them and code, `entries` by what they become and form."""

    participants: int = 0
    concerned: int = 0
    visits: Counter[tuple[str, str]] = field(default_factory=Counter)
    kept: int = 0
    entries: Counter[tuple[str, str]] = field(default_factory=Counter)
    signatures: int = 0
    casebooks: int = 0
    owing: int = 0
    outside: int = 0
    verified: Counter[Verified] = field(default_factory=Counter)

    def add(self, effect: Effect) -> None:
        """Count one more."""
        self.participants += 1
        self.concerned += not effect.is_nothing
        self.visits.update((each.step.value, each.code) for each in effect.visits)
        self.kept += len(effect.kept)
        self.entries.update((what.value, each.instrument) for each in effect.entries for what in each.becomes)
        self.signatures += sum(each.breaks_signature for each in effect.entries)
        self.casebooks += effect.breaks_casebook
        self.owing += effect.owes is not None
        self.outside += len(effect.outside)
        self.verified.update(effect.verified)


def totals(
    session: Session,
    study: StudyInUse,
    wanted: StudyInUse,
    site: SiteRow,
    *,
    by: Actor,
    on: date | None = None,
    now: datetime,
) -> Totals:
    """What going over to a version would mean at one site, over everybody there; in numbers alone, for whoever reads
    the study.
    """
    require(by, Permission.STUDY_READ)
    found = Totals()
    for effect in all_effects(session, study, wanted, site, on=on, now=now):
        found.add(effect)
    return found


def effects(
    session: Session,
    study: StudyInUse,
    wanted: StudyInUse,
    site: SiteRow,
    *,
    on: date | None = None,
    cursor: str | None = None,
    limit: int = LOOKED_AT,
    by: Actor | None = None,
    now: datetime,
) -> paging.Page[Effect]:
    """What going over to a version at one site would mean for one page of its participants, by code; writes nothing.

    `on` is the day from which it holds, today at the site when not given. The caller asks who may read what of it; of
    entries that are withheld from `by` nothing is said.
    """
    query = _PEOPLE.where(PARTICIPANT.c.study_id == study.id, PARTICIPANT.c.site_id == site.id)
    backwards = False
    if cursor:
        (code,), backwards = paging.decode(cursor, 1, str)
        query = query.where(PARTICIPANT.c.code < code if backwards else PARTICIPANT.c.code > code)
    order = PARTICIPANT.c.code.desc() if backwards else PARTICIPANT.c.code
    found = session.execute(query.order_by(order).limit(limit + 1)).all()
    page = paging.page_of(found, limit, lambda row: (row.code,), cursor=cursor, backwards=backwards)
    on = on or clock.today(site.timezone, now)
    return page.with_rows(_effects(session, study.at(site.id), wanted, site, page.rows, on=on, by=by, now=now))


def all_effects(
    session: Session, study: StudyInUse, wanted: StudyInUse, site: SiteRow, *, on: date | None = None, now: datetime
) -> Iterator[Effect]:
    """`effects` for everybody at a site, some at a time."""
    for page in paging.every_page(lambda cursor: effects(session, study, wanted, site, on=on, cursor=cursor, now=now)):
        yield from page.rows


_PEOPLE = select(
    PARTICIPANT.c.id,
    PARTICIPANT.c.code,
    PARTICIPANT.c.site_id,
    PARTICIPANT.c.status,
    PARTICIPANT.c.treatment_stopped_on,
    PARTICIPANT.c.screened_on,
    PARTICIPANT.c.consented_on,
    PARTICIPANT.c.randomised_on,
    exists()
    .where(CASEBOOK.c.participant_id == PARTICIPANT.c.id, CASEBOOK.c.superseded_at.is_(None))
    .label("casebook_signed"),
)


def whose(row: Any) -> Whose:
    """A row of `_PEOPLE` as far as the days of visits go."""
    anchors = Anchors(row.screened_on, row.consented_on, row.randomised_on)
    treated = row.treatment_stopped_on is None
    return Whose(row.id, row.code, row.site_id, Status(row.status), treated, anchors)


def people_after(session: Session, study: StudyInUse, site_id: int, last: int, *, limit: int) -> list[Whose]:
    """The next participants of a site in the order of their ids."""
    query = (
        _PEOPLE.where(PARTICIPANT.c.study_id == study.id, PARTICIPANT.c.site_id == site_id, PARTICIPANT.c.id > last)
        .order_by(PARTICIPANT.c.id)
        .limit(limit)
    )
    return [whose(row) for row in session.execute(query)]


def _effects(
    session: Session,
    old: StudyInUse,
    new: StudyInUse,
    site: SiteRow,
    rows: Sequence[Any],
    *,
    on: date,
    by: Actor | None,
    now: datetime,
) -> list[Effect]:
    people = [whose(row) for row in rows]
    ids = [each.id for each in people]
    if not ids:
        return []
    moved = _moved(session, old, new, people, on)
    is_locked = covered(session, old)
    booked = _booked(session, ids, site) if any(moved.values()) else {}
    entries = _entries_changed(session, old, new, ids, site, by, now)
    owing = _owing(session, old.definition, new.definition, ids, site, on)
    verified = _verified(session, old, new, ids)
    signed = {row.id for row in rows if row.casebook_signed}
    found = []
    for each in people:
        visits = tuple(one for one in moved[each.id] if not is_locked(each.id, one.code))
        outside = tuple(
            one.code
            for one in visits
            if one.new is not None
            and (day := booked.get((each.id, one.code))) is not None
            and not one.new.opens_on <= day <= one.new.closes_on
        )
        found.append(
            Effect(
                participant=each.code,
                site=site.code,
                visits=visits,
                kept=tuple(one.code for one in moved[each.id] if is_locked(each.id, one.code)),
                entries=tuple(entries.get(each.id, ())),
                outside=outside,
                owes=owing.get(each.id),
                casebook_signed=each.id in signed,
                verified=verified.get(each.id, {}),
            )
        )
    return found


def _among(session: Session, table: Any) -> ColumnElement[bool]:
    return among(table.c.participant_id, session.get_bind().dialect.name)


def _moved(
    session: Session, old: StudyInUse, new: StudyInUse, people: Sequence[Whose], on: date
) -> dict[int, list[Replanned]]:
    if not visits_concerned(old.definition, new.definition):
        return {each.id: [] for each in people}
    rows = visits_of_many(session, [each.id for each in people])
    return {
        each.id: replanned(
            rows[each.id],
            old.definition,
            new.definition,
            each.anchors,
            status=each.status,
            treated=each.treated,
            on=on,
        )
        for each in people
    }


def _booked(session: Session, ids: Sequence[int], site: SiteRow) -> dict[tuple[int, str], date]:
    """(participant, visit) -> the day for which it is booked, by the site's clock."""
    query = (
        select(APPOINTMENT.c.participant_id, VISIT.c.code, APPOINTMENT.c.starts_at)
        .join(VISIT, VISIT.c.id == APPOINTMENT.c.visit_id)
        .where(APPOINTMENT.c.status == AppointmentStatus.BOOKED, _among(session, APPOINTMENT))
    )
    zone = ZoneInfo(site.timezone)
    return {(row[0], row[1]): row[2].astimezone(zone).date() for row in session.execute(query, {"ids": ids})}


def _entries_changed(
    session: Session,
    old_study: StudyInUse,
    new_study: StudyInUse,
    ids: Sequence[int],
    site: SiteRow,
    by: Actor | None,
    now: datetime,
) -> dict[int, list[Changed]]:
    """What becomes of the entries of these participants; they are read only when a form or a visit differs."""
    old, new = old_study.definition, new_study.definition
    forms = forms_judged_anew(old, new)
    asked = {(visit.code, code) for visit in new.visits for code in visit.instruments if new.instrument(code)}
    gone = {(visit.code, code) for visit in old.visits for code in visit.instruments} - asked
    if not forms and not gone:
        return {}
    query = entry_columns().where(_among(session, ENTRY)).order_by(ENTRY.c.id)
    if by is not None and has_withheld(old_study):
        place = (ENTRY.c.participant_id, ENTRY.c.visit, ENTRY.c.instrument, literal(site.id))
        query = query.where(not_(is_withheld(old_study, by, *place)))
    theirs: dict[int, list[EntryState]] = {}
    for row in session.execute(query, {"ids": ids}).mappings():
        theirs.setdefault(row["participant_id"], []).append(entry_state(dict(row)))
    latest = (
        select(SCREENING_ROW.c.participant_id, SCREENING_ROW.c.answers)
        .where(_among(session, SCREENING_ROW))
        .order_by(SCREENING_ROW.c.id)
    )
    screening = {row[0]: json.loads(row[1]) for row in session.execute(latest, {"ids": ids})}
    local = now.astimezone(ZoneInfo(site.timezone))
    found: dict[int, list[Changed]] = {}
    for participant_id, entries in theirs.items():
        counted = [each for each in entries if not each.is_in_error]
        filled = [Filled(each.visit, each.instrument, each.repeat, each.values) for each in counted]
        answers = answers_from(screening.get(participant_id, {}), filled)
        for entry in counted:
            spot = (entry.visit, entry.instrument)
            changed: Changed | None = None
            if spot in gone:
                changed = Changed(*spot, becomes=(Becomes.NOT_ASKED,), is_signed=entry.is_signed)
            elif entry.instrument in forms and spot in asked:
                changed = _judged(old, new, entry, answers, local)
            if changed is not None:
                found.setdefault(participant_id, []).append(changed)
    return found


def _judged(old: Study, new: Study, entry: EntryState, answers: Any, local: datetime) -> Changed | None:
    judgements = []
    for study in (old, new):
        form = study.instrument(entry.instrument)
        assert form is not None
        judgements.append(judge_stored(study, form, entry, answers=answers, now=local))
    assert form is not None
    return judged_anew(entry.visit, form, entry.values, *judgements, is_signed=entry.is_signed)


def _verified(session: Session, old: StudyInUse, new: StudyInUse, ids: Sequence[int]) -> dict[int, Counter[Verified]]:
    """Of how many entries of these participants something else is compared with its source."""
    found: dict[int, Counter[Verified]] = {}
    for each in moved_by(session, new, old.definition, ids):
        if becomes := verified_anew(each.before, each.state):
            found.setdefault(each.participant_id, Counter())[becomes] += 1
    return found


def _owing(session: Session, old: Study, new: Study, ids: Sequence[int], site: SiteRow, on: date) -> dict[int, str]:
    """Participant -> the version of the document they would owe and do not owe now."""
    if old.consent_documents == new.consent_documents:
        return {}
    query = (
        select(CONSENT.c.participant_id, CONSENT.c.language, CONSENT.c.document_version)
        .join(PARTICIPANT, PARTICIPANT.c.id == CONSENT.c.participant_id)
        .where(
            _among(session, CONSENT),
            PARTICIPANT.c.status.in_((Status.CONSENTED, Status.RANDOMISED)),
            holds(CONSENT),
        )
        .order_by(CONSENT.c.id)
    )
    signed: dict[int, list[tuple[str, str]]] = {}
    for participant_id, language, version in session.execute(query, {"ids": ids}):
        signed.setdefault(participant_id, []).append((language, version))
    found = {}
    for participant_id, those in signed.items():
        language, versions = those[-1][0], {version for _, version in those}
        before = valid_document(old.consent_documents, language, on, site.code)
        after = valid_document(new.consent_documents, language, on, site.code)
        owes_already = before is not None and after is not None and before.version == after.version
        if after is not None and after.version not in versions and not owes_already:
            found[participant_id] = after.version
    return found


def differences_of(old: StudyInUse, new: StudyInUse, *, by: Actor) -> list[Difference]:
    """What differs, as this person may read it: blinded people do not read what an arm is made of."""
    require(by, Permission.STUDY_READ)
    found = differences(old.definition, new.definition)
    if not by.blinded:
        return list(found)
    return list(dict.fromkeys(each.for_blinded() for each in found))
