"""What may I see of appointments? Those of one participant, those in a span of time, and what is at the same time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import Integer, Select, bindparam, literal, or_, select, tuple_
from sqlmodel import Session

from app.foundation import paging
from app.foundation.database import Instant, at_most, table_of, written_out
from app.foundation.errors import NotFound
from app.participants.identity import PARTICIPANT
from app.participants.reads import SITE, at_their_sites, narrowed_to
from app.people.access import Actor, sites_for
from app.people.permissions import Permission, holders
from app.people.reads import MEMBERSHIP, PERSON
from app.schedule.appointments import rules
from app.schedule.appointments.rules import Taken
from app.schedule.models import Appointment
from app.schedule.reads import VISIT
from app.schedule.status import AppointmentStatus, VisitStatus
from app.studies.definition import VisitKind
from app.studies.in_use import StudyInUse

APPOINTMENT = table_of(Appointment)

MOST = 500
"""Appointments of one page of a calendar; a site has a few dozen in a week."""


@dataclass(frozen=True)
class AppointmentRow:
    """One appointment as this person may see it.

    Of a treatment session blinded people see only that it is, and when it begins: `hidden`, and then no end, person,
    room or reason.
    """

    id: int
    number: int
    participant_id: int
    participant: str
    site_id: int
    site: str
    site_name: str
    timezone: str
    visit_id: int | None
    visit: str | None
    kind: str
    purpose: str | None
    starts_at: datetime
    ends_at: datetime | None
    person_id: int | None
    person: str | None
    username: str | None
    room: str | None
    status: AppointmentStatus
    reason: str | None
    uid: str
    sequence: int
    version: int
    changed_at: datetime
    hidden: bool = False

    @property
    def when(self) -> str:
        """`10:00–11:30` by the clock of the site."""
        return rules.time_words(self.starts_at, self.ends_at, self.timezone)

    @property
    def starts(self) -> datetime:
        """When it begins, by the clock of the site."""
        return rules.local(self.starts_at, self.timezone)

    @property
    def minutes(self) -> int:
        """How long it lasts; 0 when that is hidden."""
        return 0 if self.ends_at is None else round((self.ends_at - self.starts_at) / rules.ONE_MINUTE)


def label_in(study: StudyInUse, row: AppointmentRow) -> str:
    """What an appointment is for, in the protocol of its site; of an unscheduled visit, what was written down."""
    if row.visit is None:
        return row.purpose or "Unscheduled visit"
    planned = study.at(row.site_id).definition.visit(row.visit)
    return planned.label if planned else row.visit


# Built once: putting a SELECT together takes longer than running it.
ROWS = (
    select(
        APPOINTMENT.c.id,
        APPOINTMENT.c.number,
        APPOINTMENT.c.participant_id,
        PARTICIPANT.c.code.label("participant"),
        APPOINTMENT.c.site_id,
        SITE.c.code.label("site"),
        SITE.c.name.label("site_name"),
        SITE.c.timezone,
        APPOINTMENT.c.visit_id,
        VISIT.c.code.label("visit"),
        APPOINTMENT.c.kind,
        APPOINTMENT.c.purpose,
        APPOINTMENT.c.starts_at,
        APPOINTMENT.c.ends_at,
        APPOINTMENT.c.person_id,
        PERSON.c.name.label("person"),
        PERSON.c.username,
        APPOINTMENT.c.room,
        APPOINTMENT.c.status,
        APPOINTMENT.c.reason,
        APPOINTMENT.c.uid,
        APPOINTMENT.c.sequence,
        APPOINTMENT.c.version,
        APPOINTMENT.c.changed_at,
    )
    .join(PARTICIPANT, PARTICIPANT.c.id == APPOINTMENT.c.participant_id)
    .join(SITE, SITE.c.id == APPOINTMENT.c.site_id)
    .outerjoin(VISIT, VISIT.c.id == APPOINTMENT.c.visit_id)
    .outerjoin(PERSON, PERSON.c.id == APPOINTMENT.c.person_id)
)
_OF_PARTICIPANT = ROWS.where(APPOINTMENT.c.participant_id == bindparam("of_participant", type_=Integer)).order_by(
    APPOINTMENT.c.starts_at, APPOINTMENT.c.id
)
_BETWEEN = ROWS.where(
    APPOINTMENT.c.study_id == bindparam("of_study", type_=Integer),
    APPOINTMENT.c.starts_at >= bindparam("begins", type_=Instant),
    APPOINTMENT.c.starts_at < bindparam("ends", type_=Instant),
)
_TAKEN = ROWS.where(
    APPOINTMENT.c.study_id == bindparam("of_study", type_=Integer),
    APPOINTMENT.c.status == AppointmentStatus.BOOKED,
    # Nothing lasts longer: a bound that lets the index begin the search late.
    APPOINTMENT.c.starts_at > bindparam("earliest", type_=Instant),
    APPOINTMENT.c.starts_at < bindparam("ends", type_=Instant),
    APPOINTMENT.c.ends_at > bindparam("begins", type_=Instant),
    APPOINTMENT.c.id != bindparam("but", type_=Integer),
)

BOOKED = ROWS.where(APPOINTMENT.c.status == AppointmentStatus.BOOKED).order_by(APPOINTMENT.c.id)
"""What is to come, for actions: in full, whoever asks."""


def kept(found: Any) -> AppointmentRow:
    """An appointment with everything that is kept of it: for actions, never for a page."""
    return AppointmentRow(**{**found, "status": AppointmentStatus(found["status"])})


def _row(found: Any, *, blinded: bool) -> AppointmentRow:
    row = kept(found)
    if not rules.hides_details(row.kind, blinded=blinded):
        return row
    unknown: dict[str, None] = dict.fromkeys(("ends_at", "person_id", "person", "username", "room", "reason"))
    return replace(row, **unknown, hidden=True)  # type: ignore[arg-type]


def appointments_of(session: Session, participant_id: int, *, by: Actor) -> list[AppointmentRow]:
    """The appointments of one participant, earliest first.

    A caller holds the participant already, and so was allowed to see them (`participants.reads.participant_by_code`).
    """
    rows = session.execute(_OF_PARTICIPANT, {"of_participant": participant_id}).mappings()
    return [_row(row, blinded=by.blinded) for row in rows]


def appointment_of(session: Session, participant_id: int, number: int, *, by: Actor) -> AppointmentRow:
    """One appointment of one participant; NotFound when they have none with this number."""
    found = next((row for row in appointments_of(session, participant_id, by=by) if row.number == number), None)
    if found is None:
        raise NotFound
    return found


def appointments_between(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    begins: datetime,
    ends: datetime,
    person_id: int | None = None,
    statuses: Iterable[AppointmentStatus] = AppointmentStatus,
    limit: int = MOST,
) -> list[AppointmentRow]:
    """The appointments at the person's sites that begin in a span of time (its end not included), earliest first.

    With `person_id` those with that person only; a blinded reader is not told with whom sessions are.
    """
    query, wanted = _between(by, person_id, statuses)
    wanted |= {"of_study": study.id, "begins": begins, "ends": ends}
    rows = session.execute(_earliest(query, limit), wanted).mappings()
    return [_row(row, blinded=by.blinded) for row in rows]


def appointments_page(
    session: Session,
    study: StudyInUse,
    *,
    by: Actor,
    begins: datetime,
    ends: datetime,
    participant: str | None = None,
    person_id: int | None = None,
    statuses: Iterable[AppointmentStatus] = AppointmentStatus,
    cursor: str | None = None,
    limit: int | None = None,
) -> paging.Page[AppointmentRow]:
    """One page of `appointments_between`; with `participant` of the one with this code alone."""
    size = paging.page_size(limit)
    (query, wanted), backwards = _between(by, person_id, statuses), False
    if participant is not None:
        query = query.where(PARTICIPANT.c.code == participant)
    if cursor:
        (at, number), backwards = paging.decode(cursor, 2, str, int)
        place = tuple_(literal(paging.instant_in(at), Instant), literal(number))
        here = tuple_(APPOINTMENT.c.starts_at, APPOINTMENT.c.id)
        query = query.where(here < place if backwards else here > place)
    order = [each.desc() if backwards else each.asc() for each in (APPOINTMENT.c.starts_at, APPOINTMENT.c.id)]
    wanted |= {"of_study": study.id, "begins": begins, "ends": ends}
    found = session.execute(query.order_by(*order).limit(size + 1), wanted).mappings().all()
    rows = [_row(row, blinded=by.blinded) for row in found]
    return paging.page_of(rows, size, place_of, cursor=cursor, backwards=backwards)


def place_of(row: AppointmentRow) -> tuple[str, int]:
    """Where an appointment stands in a list, earliest first."""
    return row.starts_at.isoformat(timespec="microseconds"), row.id


def _between(
    by: Actor, person_id: int | None, statuses: Iterable[AppointmentStatus]
) -> tuple[Select[Any], dict[str, object]]:
    """The query that is built once for all who ask the same, and what it is asked with."""
    of_whom = None if person_id is None else by.blinded
    query = _between_of(sites_for(by, Permission.PARTICIPANT_READ), of_whom, tuple(statuses))
    return query, {} if person_id is None else {"of_person": person_id}


@lru_cache(maxsize=256)
def _between_of(
    sites: frozenset[int] | None, without_sessions: bool | None, statuses: tuple[AppointmentStatus, ...]
) -> Select[Any]:
    """`without_sessions`: of one person, with or without the sessions of treatment; None: of everybody."""
    query = narrowed_to(_BETWEEN, sites).where(APPOINTMENT.c.status.in_([str(status) for status in statuses]))
    if without_sessions is not None:
        query = query.where(APPOINTMENT.c.person_id == bindparam("of_person", type_=Integer))
    return query.where(APPOINTMENT.c.kind != VisitKind.TREATMENT) if without_sessions else query


@lru_cache(maxsize=256)
def _earliest(query: Select[Any], limit: int) -> Select[Any]:
    return query.order_by(APPOINTMENT.c.starts_at, APPOINTMENT.c.id).limit(limit)


def taken_at(
    session: Session,
    study: StudyInUse,
    *,
    site_id: int,
    participant_id: int,
    starts_at: datetime,
    ends_at: datetime,
    person_id: int | None,
    room: str | None,
    but: int | None = None,
    by: Actor,
) -> list[Taken]:
    """The booked appointments at the same time of the same participant, person (at any site) or room, as far as known.

    Of sessions a blinded person learns here what the calendar shows them anyway: that the participant has one.
    """
    values = {
        "of_study": study.id,
        "earliest": starts_at - rules.LONGEST * rules.ONE_MINUTE,
        "begins": starts_at,
        "ends": ends_at,
        "but": but or 0,
    }
    found = session.execute(_TAKEN, values).mappings()
    taken = []
    for row in found:
        hidden = rules.hides_details(row["kind"], blinded=by.blinded)
        here = row["site_id"] == site_id
        with_them = person_id is not None and row["person_id"] == person_id
        if row["participant_id"] == participant_id or (
            not hidden and (with_them or (here and rules.same_room(room, row["room"])))
        ):
            person, where = (None, None) if hidden else (row["person"], row["room"] if here else None)
            ends = None if hidden else row["ends_at"]
            whom = row["participant"] if here else "somebody at another site"
            taken.append(Taken(row["number"], whom, person, where, row["starts_at"], ends))
    return taken


@dataclass(frozen=True)
class Unbooked:
    """A planned visit for which nothing is booked, and whose it is."""

    participant: str
    site_id: int
    site: str
    code: str
    kind: str
    target_on: date
    opens_on: date
    closes_on: date


def unbooked_between(
    session: Session, study: StudyInUse, *, by: Actor, first: date, last: date, kinds: Sequence[str], limit: int
) -> list[Unbooked]:
    """The planned visits whose window is open on some day from `first` to `last` and which nobody has booked.

    Those first whose window closes first; one more than `limit`, when there are more. They are found in the order in
    which windows close, so that in a trial of any size the search ends where the page does.
    """
    windows = [each.window.before + each.window.after for version in study.definitions for each in version.visits]
    booked = (
        select(APPOINTMENT.c.id)
        .where(APPOINTMENT.c.visit_id == VISIT.c.id, APPOINTMENT.c.status == written_out(AppointmentStatus.BOOKED))
        .correlate(VISIT)
        .exists()
    )
    rows = session.execute(
        select(
            PARTICIPANT.c.code.label("participant"),
            PARTICIPANT.c.site_id,
            SITE.c.code.label("site"),
            VISIT.c.code,
            VISIT.c.kind,
            VISIT.c.target_on,
            VISIT.c.opens_on,
            VISIT.c.closes_on,
        )
        .join(PARTICIPANT, PARTICIPANT.c.id == VISIT.c.participant_id)
        .join(SITE, SITE.c.id == PARTICIPANT.c.site_id)
        .where(
            VISIT.c.study_id == study.id,
            VISIT.c.status == written_out(VisitStatus.PLANNED),
            # What is open on the last day closes within the widest window: a bound on both sides of the index.
            VISIT.c.closes_on.between(first, last + timedelta(days=max(windows, default=0))),
            VISIT.c.opens_on <= last,
            VISIT.c.kind.in_(kinds),
            at_their_sites(by),
            ~booked,
        )
        .order_by(VISIT.c.closes_on, VISIT.c.id)
        .limit(at_most(limit + 1))
    ).all()
    found = sorted(rows, key=lambda row: (row.closes_on, row.participant))
    return [Unbooked(**row._mapping) for row in found]


@dataclass(frozen=True)
class Colleague:
    """Somebody with whom an appointment can be."""

    id: int
    username: str
    name: str
    email: str


def colleagues(session: Session, study: StudyInUse, site_id: int, *, kind: str) -> list[Colleague]:
    """With whom an appointment of this kind can be at a site: those who record it, and for visits investigators too."""
    treats = kind == VisitKind.TREATMENT
    roles = holders(Permission.TREATMENT_RECORD) if treats else _VISITED
    rows = session.execute(
        select(PERSON.c.id, PERSON.c.username, PERSON.c.name, PERSON.c.email)
        .join(MEMBERSHIP, MEMBERSHIP.c.person_id == PERSON.c.id)
        .where(
            MEMBERSHIP.c.study_id == study.id,
            MEMBERSHIP.c.role.in_(sorted(roles)),
            MEMBERSHIP.c.revoked_at.is_(None),
            or_(MEMBERSHIP.c.site_id.is_(None), MEMBERSHIP.c.site_id == site_id),
            PERSON.c.is_active,
        )
        .distinct()
        .order_by(PERSON.c.name, PERSON.c.id)
    )
    return [Colleague(**row._mapping) for row in rows]


_VISITED = holders(Permission.VISIT_RECORD) | holders(Permission.ENTRY_SIGN)


def rooms(session: Session, study: StudyInUse, site_id: int, *, by: Actor) -> Sequence[str]:
    """The rooms that were written down at a site lately, to choose from; of sessions only for those who treat."""
    query = (
        select(APPOINTMENT.c.room)
        .where(APPOINTMENT.c.study_id == study.id, APPOINTMENT.c.site_id == site_id, APPOINTMENT.c.room.is_not(None))
        .order_by(APPOINTMENT.c.starts_at.desc())
        .limit(200)
    )
    if by.blinded:
        query = query.where(APPOINTMENT.c.kind != VisitKind.TREATMENT)
    return sorted(set(session.execute(query).scalars()))
