"""What may I do for downtime? Reserve slots in a pack, enter who was randomised with one, void the rest, close it."""

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Integer, bindparam, case, exists, func, insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record
from app.audit.newest import Newest, is_behind
from app.foundation.clock import today
from app.foundation.crypto.packs import COST, Pack, new_code, new_passphrase, new_salt
from app.foundation.errors import FieldProblem, Invalid, NotFound, Refused
from app.participants.actions import mark
from app.participants.models import Participant
from app.participants.status import Status
from app.people.access import Actor, may, require
from app.people.permissions import Permission
from app.randomisation.actions import ALLOCATION, clinicians_at, lock_sequences, tell_clinicians
from app.randomisation.downtime.reads import STUDY, open_packs, open_slot, order_of
from app.randomisation.downtime.rules import (
    FORMAT,
    NO_SUCH_SLIP,
    bound_to,
    not_met,
    pack_problems,
    paper_problems,
    slip_name,
    slip_of,
    stratum_words,
    told_problems,
    why_not_next,
)
from app.randomisation.downtime.status import SlotState
from app.randomisation.methods import DECIDING
from app.randomisation.models import SequenceStatus
from app.randomisation.opening import PACK, RESERVED, SEQUENCE, SLOT, STRATUM, open_reserved
from app.randomisation.reads import SITE, Allocated, allocation_of, require_statistician, standing, stratum_of
from app.randomisation.rules import BEHIND, gates
from app.randomisation.sealing import ARM_SIZE
from app.schedule.actions import open_visits
from app.studies.in_use import StudyInUse

RESERVE = "downtime_pack.make"
ENTER = "participant.randomise_on_paper"

_LOCK = select(STRATUM.c.id).where(STRATUM.c.id == bindparam("stratum_id", type_=Integer)).with_for_update()
_NUMBER = (
    update(STUDY)
    .where(STUDY.c.id == bindparam("of_study", type_=Integer))
    .values(last_allocation=STUDY.c.last_allocation + 1)
    .returning(STUDY.c.last_allocation)
)
_POSITION = (
    update(STRATUM)
    .where(STRATUM.c.id == bindparam("of_stratum", type_=Integer), STRATUM.c.used < STRATUM.c.slots)
    .values(used=STRATUM.c.used + 1)
    .returning(STRATUM.c.used)
)


@dataclass(frozen=True)
class PrintedSlip:
    """One slip as it is printed: its name, whom it is for, and the code that opens its arm once."""

    name: str
    stratum: str
    code: str


@dataclass(frozen=True)
class MadePack:
    """A pack as it is handed over, once: nothing of this is kept but its salt. `content` opens with both others.

    The passphrase and the file of `content` are for those who treat, the slips for those who enrol. `mark` is by which
    one tells that file and letter belong together.
    """

    number: int
    site_name: str
    made_at: datetime
    passphrase: str
    content: dict[str, Any]
    slips: tuple[PrintedSlip, ...]

    @property
    def mark(self) -> str:
        return str(self.content["passphrase"]["salt"])[:16]


DECIDED_ONE_BY_ONE = (
    "The arms of this sequence are decided one by one, so none can be reserved. Agree how the site reaches the "
    "statistician by telephone."
)


def make_pack(
    session: Session,
    study: StudyInUse,
    *,
    site: str,
    slots: int,
    why: str,
    newest: Newest | None = None,
    by: Actor,
    now: datetime,
) -> MadePack:
    """Reserve the next `slots` positions of every stratum of a site, and seal their arms anew for its people.

    They are out of the list from now on: whoever is randomised here takes the position after them. Nobody sees an arm:
    each is opened and sealed again in one go, under the passphrase and a code of its own. `newest` is what is
    remembered of the log outside the database: one that is behind it was put back from a backup, and would hand out
    slots that somebody else has (REL-17).
    """
    require_statistician(study, by, Permission.SEQUENCE_SEAL)
    if not may(by, Permission.ALLOCATIONS_EXPORT):
        raise NotFound
    problems = told_problems(study.definition, "why", why, "Say why slots are reserved for this site.")
    place = session.execute(
        select(SITE.c.id, SITE.c.code, SITE.c.name).where(SITE.c.study_id == study.id, SITE.c.code == site)
    ).first()
    if place is None:
        problems = [FieldProblem("site", "choice", "Choose one of the sites of this study."), *problems]
    if problems or place is None:
        raise Invalid(problems)
    lock_sequences(session, study)
    words = stratum_words(study.definition, place.code, place.name)
    # Of several lists in use, each of other sites, the one that has this site.
    has_it = exists().where(STRATUM.c.sequence_id == SEQUENCE.c.id, STRATUM.c.code.in_(words))
    sequence = session.execute(
        select(SEQUENCE.c.id, SEQUENCE.c.method)
        .where(SEQUENCE.c.study_id == study.id, SEQUENCE.c.status == SequenceStatus.SEALED, SEQUENCE.c.stage.is_(None))
        .order_by(case((has_it, 0), else_=1), SEQUENCE.c.id)
        .limit(1)
    ).first()
    if sequence is None:
        raise Refused("No sequence is in use. Seal one first.", action=RESERVE, subject=f"/{site}")
    if sequence.method in DECIDING:
        raise Refused(DECIDED_ONE_BY_ONE, action=RESERVE, subject=f"/{site}")
    if numbers := open_packs(session, site_id=place.id):
        raise Refused(
            f"{place.name} has pack {numbers[0]}, which is not closed. Enter or void its slips and close it first.",
            action=RESERVE,
            subject=f"/{site}",
        )
    if newest is not None and is_behind(session, newest):
        raise Refused(BEHIND, action=RESERVE, subject=f"/{site}")
    # Somebody may be taking a slot at this very moment. Rows are locked in the order of their numbers.
    strata = session.execute(
        select(STRATUM.c.id, STRATUM.c.code, STRATUM.c.slots, STRATUM.c.used, STRATUM.c.sequence_id)
        .join(SEQUENCE, SEQUENCE.c.id == STRATUM.c.sequence_id)
        .where(
            SEQUENCE.c.study_id == study.id,
            SEQUENCE.c.status == SequenceStatus.SEALED,
            SEQUENCE.c.stage.is_(None),
            STRATUM.c.code.in_(words),
        )
        .order_by(STRATUM.c.id)
        .with_for_update(of=STRATUM)
    ).all()
    turn: dict[str, Any] = {}  # of a stratum: the first list that is not used up
    for row in strata:
        if row.code not in turn or turn[row.code].used == turn[row.code].slots:
            turn[row.code] = row
    left = dict.fromkeys(words, 0) | {code: row.slots - row.used for code, row in turn.items()}
    if problems := pack_problems(slots, len(words), left, words):
        raise Invalid(problems)
    sequence_id = max((row.sequence_id for row in turn.values()), default=sequence.id)
    reserved = _take_out(session, {code: row.id for code, row in turn.items()}, slots)
    return _sealed_anew(session, study, sequence_id, place, words, reserved, why=why, by=by, now=now)


def _take_out(session: Session, strata: dict[str, int], slots: int) -> list[dict[str, Any]]:
    """The next slots of each stratum, taken out of the list, in the order of the slips."""
    reserved: list[dict[str, Any]] = []
    for code, stratum_id in sorted(strata.items()):
        # One at a time, as the list's own guard asks: it lets nobody skip a slot.
        positions = [session.execute(_POSITION, {"of_stratum": stratum_id}).scalar_one() for _ in range(slots)]
        rows = session.execute(
            select(SLOT.c.id)
            .where(SLOT.c.stratum_id == stratum_id, SLOT.c.position.in_(positions))
            .order_by(SLOT.c.position)
        ).scalars()
        reserved += [{"stratum_id": stratum_id, "slot_id": slot_id, "stratum": code} for slot_id in rows]
    for number, each in enumerate(reserved, start=1):
        each["number"] = number
    return reserved


def _sealed_anew(
    session: Session,
    study: StudyInUse,
    sequence_id: int,
    place: Any,
    words: dict[str, str],
    reserved: list[dict[str, Any]],
    *,
    why: str,
    by: Actor,
    now: datetime,
) -> MadePack:
    number = 1 + (session.execute(select(func.max(PACK.c.number)).where(PACK.c.study_id == study.id)).scalar() or 0)
    passphrase, salt = new_passphrase(), new_salt()
    pack = Pack.opened(passphrase, salt)
    pack_id: int = session.execute(
        insert(PACK)
        .values(
            study_id=study.id,
            sequence_id=sequence_id,
            site_id=place.id,
            number=number,
            salt=salt.hex(),
            made_at=now,
            made_by=by.username,
        )
        .returning(PACK.c.id)
    ).scalar_one()
    session.execute(
        insert(RESERVED),
        [
            {
                "pack_id": pack_id,
                "state": SlotState.RESERVED.value,
                **{name: each[name] for name in ("stratum_id", "slot_id", "number")},
            }
            for each in reserved
        ],
    )
    names = {each["number"]: slip_name(number, each["number"]) for each in reserved}
    arms = open_reserved(session, study, pack_id, names, by=by, why=why, now=now)
    slips: list[PrintedSlip] = []
    sealed: dict[str, list[dict[str, object]]] = {code: [] for code in words}
    for each in reserved:
        code, stratum = new_code(), each["stratum"]
        envelope = pack.seal(
            code,
            arms[each["slot_id"]].encode(),
            bound_to=bound_to(study.code, number, stratum, each["number"]),
            size=ARM_SIZE,
        )
        slips.append(PrintedSlip(names[each["number"]], words[stratum], code))
        sealed[stratum].append({"number": each["number"], "sealed": base64.b64encode(envelope).decode()})
    record(
        session,
        study.code,
        [
            Change(
                "downtime_pack.made",
                subject=f"downtime/{number}",
                new={"site": place.code, "salt": salt.hex()},
            )
        ],
        by=by,
        now=now,
        why=why.strip(),
    )
    content: dict[str, Any] = {
        "format": FORMAT,
        "study": study.code,
        "title": study.definition.short_title,
        "pack": number,
        "site": place.name,
        "made_at": now.isoformat(),
        "passphrase": {**COST, "salt": salt.hex()},
        "arms": {arm.code: arm.label for arm in sorted(study.definition.arms, key=lambda arm: arm.code)},
        "strata": [
            {"code": code, "words": words[code], "slots": slots} for code, slots in sorted(sealed.items()) if slots
        ],
    }
    return MadePack(number, place.name, now, passphrase, content, tuple(slips))


def enter(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    slip: str,
    at: datetime,
    used_by: str,
    deviation: str = "",
    newest: Newest | None = None,
    by: Actor,
    now: datetime,
) -> Allocated:
    """Enter that a participant was randomised on paper with this slip, by whom and when; nobody learns the arm here.

    It has happened, so it is never refused for what was not in place: that is recorded with the allocation, and
    `deviation` says why (ICH E6(R3) 3.12). Invalid as long as it does not, so that what is only not entered yet is
    entered first. `newest` is what is remembered of the log outside the database (REL-17).
    """
    where = {"action": ENTER, "subject": participant.code}
    if participant.study_id != study.id or participant.id is None or not study.definition.is_allocated:
        raise NotFound
    require(by, Permission.PARTICIPANT_RANDOMISE, site_id=participant.site_id, **where)
    named = slip_of(slip)
    slot = open_slot(session, study, *named, site_id=participant.site_id) if named else None
    if named is None or slot is None:
        raise Invalid([FieldProblem("slip", "unknown", NO_SUCH_SLIP)])
    # The participant first, as whoever randomises takes them.
    stood = standing(session, study, participant, now=now, lock=True, newest=newest)
    session.execute(_LOCK, {"stratum_id": slot.stratum_id}).all()
    order = order_of(session, slot.pack_id, slot.stratum_id)
    if reason := why_not_next(order, named[1], slip_name(*named)):
        raise Refused(reason, **where)
    if stood.facts.behind:
        raise Refused(BEHIND, **where)
    if stood.facts.allocated:
        raise Refused(
            f"{participant.code} is randomised already, and nobody is randomised twice. Check the participant on the "
            "slip; if a second slip was taken for them, ask the trial statistician to void it.",
            **where,
        )
    day = today(stood.timezone, at)
    before = max((each.used_at for each in order if each.used_at and each.number < named[1]), default=None)
    problems = paper_problems(
        at=at,
        used_by=used_by,
        day=day,
        screened_on=participant.screened_on,
        # People write minutes, not seconds.
        made_at=slot.made_at.replace(second=0, microsecond=0),
        before=before,
        now=now + timedelta(minutes=1),
    )
    found = stratum_of(session, study, participant, site_code=stood.site_code, timezone=stood.timezone, now=now)
    lacking = not_met(gates(study.definition, stood.facts), found.code, slot.stratum)
    if lacking and not deviation.strip():
        words = " ".join(lacking.values())
        message = f"{words} Enter what was done on paper first. If it was not done, say why."
        problems.append(FieldProblem("deviation", "required", message))
    elif deviation.strip():
        problems += told_problems(study.definition, "deviation", deviation, "")
    if problems:
        raise Invalid(problems)
    made = _allocate(session, study, participant.id, slot, at=at, used_by=used_by.strip(), by=by, now=now)
    details = {
        "allocation": made.number,
        "stratum": slot.stratum,
        "slip": slip_name(*named),
        "at": at.isoformat(),
        "by": used_by.strip(),
        **({"not_met": lacking} if lacking else {}),
    }
    mark(
        session,
        study,
        participant,
        Status.RANDOMISED,
        on=day,
        permission=Permission.PARTICIPANT_RANDOMISE,
        by=by,
        now=now,
        why=deviation.strip() or None,
        details=details,
        happened_at=at,
    )
    if participant.status == Status.RANDOMISED:
        open_visits(session, study, participant, anchor="randomisation", on=day, by=by, now=now)
    told = clinicians_at(session, study, participant)
    tell_clinicians(session, told, study, participant, stood.site_name, made.number, now=now)
    return made


def _allocate(
    session: Session,
    study: StudyInUse,
    participant_id: int,
    slot: Any,
    *,
    at: datetime,
    used_by: str,
    by: Actor,
    now: datetime,
) -> Allocated:
    # Study, slot and allocation before the log's head, in the order every transaction takes them.
    number = session.execute(_NUMBER, {"of_study": study.id}).scalar_one()
    _settle(
        session, slot.id, SlotState.USED, by=by, now=now, participant_id=participant_id, used_at=at, used_by=used_by
    )
    session.execute(
        insert(ALLOCATION).values(
            study_id=study.id,
            number=number,
            participant_id=participant_id,
            slot_id=slot.slot_id,
            stratum_id=slot.stratum_id,
            allocated_at=at,
            allocated_by=by.username,
        )
    )
    made = allocation_of(session, participant_id)
    assert made is not None
    return made


def void_slip(
    session: Session, study: StudyInUse, pack: int, number: int, *, why: str, by: Actor, now: datetime
) -> None:
    """A slip was spoilt, lost or taken in error: its slot is never used by anybody, and the reason stands."""
    require_statistician(study, by, Permission.SEQUENCE_SEAL)
    slot = open_slot(session, study, pack, number)
    if slot is None:
        raise NotFound
    if problems := told_problems(study.definition, "why", why, "Say why nobody was randomised with this slip."):
        raise Invalid(problems)
    session.execute(_LOCK, {"stratum_id": slot.stratum_id}).all()
    name = slip_name(pack, number)
    if reason := why_not_next(order_of(session, slot.pack_id, slot.stratum_id), number, name):
        raise Refused(reason, action="downtime_slot.void", subject=f"/downtime/{name}")
    _settle(session, slot.id, SlotState.VOID, by=by, now=now, reason=why.strip())
    record(session, study.code, [_voided(name)], by=by, now=now, why=why.strip())


def close_pack(session: Session, study: StudyInUse, number: int, *, why: str, by: Actor, now: datetime) -> int:
    """End a pack: every slip that is not entered is void, for good, for this one reason. Gives how many those were."""
    require_statistician(study, by, Permission.SEQUENCE_SEAL)
    pack_id = session.execute(select(PACK.c.id).where(PACK.c.study_id == study.id, PACK.c.number == number)).scalar()
    if pack_id is None:
        raise NotFound
    message = "Say why the pack is closed, and what became of the slips left."
    if problems := told_problems(study.definition, "why", why, message):
        raise Invalid(problems)
    lock_sequences(session, study)
    session.execute(
        select(STRATUM.c.id)
        .where(STRATUM.c.id.in_(select(RESERVED.c.stratum_id).where(RESERVED.c.pack_id == pack_id)))
        .order_by(STRATUM.c.id)
        .with_for_update()
    ).all()
    closed = session.execute(
        update(PACK)
        .where(PACK.c.id == pack_id, PACK.c.closed_at.is_(None))
        .values(closed_at=now, closed_by=by.username)
        .returning(PACK.c.id)
    ).scalar()
    if closed is None:
        raise Refused(
            f"Pack {number} is closed already. Nothing is left to do for it.",
            action="downtime_pack.close",
            subject=f"/downtime/{number}",
        )
    left = session.execute(
        select(RESERVED.c.id, RESERVED.c.number)
        .where(RESERVED.c.pack_id == pack_id, RESERVED.c.state == SlotState.RESERVED)
        .order_by(RESERVED.c.number)
    ).all()
    for row in left:
        _settle(session, row.id, SlotState.VOID, by=by, now=now, reason=why.strip())
    changes = [_voided(slip_name(number, row.number)) for row in left]
    closing = Change("downtime_pack.closed", subject=f"downtime/{number}")
    record(session, study.code, [*changes, closing], by=by, now=now, why=why.strip())
    return len(left)


def _settle(session: Session, slot_id: int, state: SlotState, *, by: Actor, now: datetime, **values: Any) -> None:
    session.execute(
        update(RESERVED)
        .where(RESERVED.c.id == slot_id, RESERVED.c.state == SlotState.RESERVED)
        .values(state=state.value, settled_at=now, settled_by=by.username, **values)
    )


def _voided(name: str) -> Change:
    return Change("downtime_slot.voided", subject=f"downtime/{name}")
