"""What may I do in the sealed room? Draw a list, seal it, and randomise a participant from it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Integer, LargeBinary, bindparam, exists, func, insert, select, update
from sqlmodel import Session

from app.audit.actions import Change, record, recorded_together
from app.audit.newest import Newest
from app.audit.tree import root_of
from app.foundation.clock import today
from app.foundation.database import Instant, keys_of, store_many, table_of
from app.foundation.errors import Conflict, FieldProblem, Invalid, NotFound, Refused
from app.foundation.turns import short_turns
from app.mail.actions import queue
from app.participants.actions import mark
from app.participants.models import Participant
from app.participants.status import Status
from app.people.access import Actor, require
from app.people.models import Membership, Person, Site
from app.people.permissions import Permission, Role
from app.randomisation import commitment, dynamic, emitted
from app.randomisation import sequence as drawing
from app.randomisation.certificate import certificate_of
from app.randomisation.downtime.reads import open_packs
from app.randomisation.escrow.actions import escrow
from app.randomisation.escrow.reads import key_in_use
from app.randomisation.methods import DECIDING, METHODS, listed, permuted_blocks
from app.randomisation.models import (
    Allocation,
    AllocationSequence,
    SequenceStatus,
    Slot,
    StageAllocation,
    Stratum,
)
from app.randomisation.opening import arms_to_go_on_with, group_to_decide_in
from app.randomisation.reads import (
    Allocated,
    AtTheGates,
    Staged,
    allocation_of,
    first_stage_of,
    opened_plan_of,
    plan_options,
    plan_to_escrow,
    require_statistician,
    secrets_of,
    sites_drawn,
    stage_of,
    stand_in_line,
    standing,
    stored_slots,
    stratum_of,
)
from app.randomisation.rules import (
    NOT_OPEN,
    ONLY_STRATUM,
    SEPARATOR,
    all_strata,
    batch_by_default,
    first_stage_gates,
    gates,
    is_of_plan,
    needs_answers,
    why_not_ready,
)
from app.randomisation.sealing import (
    Place,
    digest,
    new_salt_key,
    new_seed,
    seal_arm,
    seal_secrets,
)
from app.randomisation.unblinding.rules import text_problems
from app.schedule.actions import open_visits
from app.studies.in_use import StudyInUse
from app.studies.models import StudyRecord

STUDY = table_of(StudyRecord)
PARTICIPANT = table_of(Participant)
SITE = table_of(Site)
PERSON = table_of(Person)
MEMBERSHIP = table_of(Membership)
SEQUENCE = table_of(AllocationSequence)
STRATUM = table_of(Stratum)
SLOT = table_of(Slot)
ALLOCATION = table_of(Allocation)
STAGED = table_of(StageAllocation)

RANDOMISE = "participant.randomise"
FIRST = "participant.randomise_first"
CHANGED = "Something changed a moment ago. Nothing was stored. Press Randomise again."
MOST_WAITED = timedelta(minutes=1)
MOST_SLOTS = 1_000_000
MOST_BLOCK_SIZES = 20
BATCH = 10_000
SLOT_COLUMNS = ("stratum_id", "position", "envelope", "leaf")

# What every randomisation runs, built once: putting a statement together takes longer than running it.
_SITE_ID, _STUDY_ID = bindparam("site_id", type_=Integer), bindparam("study_id", type_=Integer)
_NUMBER = (
    update(STUDY)
    .where(STUDY.c.id == bindparam("of_study", type_=Integer))
    .values(last_allocation=STUDY.c.last_allocation + 1)
    .returning(STUDY.c.last_allocation)
)
# The list may have been replaced while its stratum was waited for: its status is looked at once more.
_POSITION = (
    update(STRATUM)
    .where(
        STRATUM.c.id == bindparam("of_stratum", type_=Integer),
        exists().where(SEQUENCE.c.id == STRATUM.c.sequence_id, SEQUENCE.c.status == SequenceStatus.SEALED),
    )
    .values(used=STRATUM.c.used + 1)
    .returning(STRATUM.c.used)
)
_DECIDE = insert(SLOT)
_KEEP_STATE = (
    update(STRATUM)
    .where(STRATUM.c.id == bindparam("of_stratum", type_=Integer))
    .values(state=bindparam("new_state", type_=LargeBinary))
)
# Whoever waited for a slot asked before the one in front of them was given theirs, or on a machine whose clock is a
# little behind: the time of an allocation is not before that of the one in front. A clock that is wrong by more shows.
_IN_FRONT = (
    select(ALLOCATION.c.allocated_at)
    .where(
        ALLOCATION.c.study_id == bindparam("of_study", type_=Integer),
        ALLOCATION.c.number == bindparam("number_in_front", type_=Integer),
        ALLOCATION.c.allocated_at > bindparam("now", type_=Instant),
        ALLOCATION.c.allocated_at <= bindparam("latest", type_=Instant),
    )
    .scalar_subquery()
)
_ALLOCATE = (
    insert(ALLOCATION)
    .values(
        slot_id=select(SLOT.c.id)
        .where(
            SLOT.c.stratum_id == bindparam("of_stratum", type_=Integer),
            SLOT.c.position == bindparam("at_position", type_=Integer),
        )
        .scalar_subquery(),
        allocated_at=func.coalesce(_IN_FRONT, bindparam("now", type_=Instant), type_=Instant),
    )
    .returning(ALLOCATION.c.allocated_at)
)
_CLINICIANS = (
    select(PERSON.c.id, PERSON.c.email, PERSON.c.language)
    .join(MEMBERSHIP, MEMBERSHIP.c.person_id == PERSON.c.id)
    .where(
        MEMBERSHIP.c.study_id == _STUDY_ID,
        MEMBERSHIP.c.role == Role.CLINICIAN,
        MEMBERSHIP.c.revoked_at.is_(None),
        MEMBERSHIP.c.site_id.is_(None) | (MEMBERSHIP.c.site_id == _SITE_ID),
        PERSON.c.is_active,
        PERSON.c.email != "",
    )
    .distinct()
    .order_by(PERSON.c.id)
)


@short_turns()
def draw(
    session: Session,
    study: StudyInUse,
    *,
    method: str,
    block_sizes: Sequence[int] | None = None,
    options: Mapping[str, object] | None = None,
    slots_per_stratum: int | None = None,
    listing: str | None = None,
    sites: Sequence[str] | None = None,
    first_stage: bool = False,
    further: bool = False,
    by: Actor,
    now: datetime,
) -> AllocationSequence:
    """Draw a new list for every stratum, or take an uploaded one, and seal each slot; nobody sees the order.

    `options` are what the method must be told (its file says which); `block_sizes` is that of permuted blocks. `sites`
    are those of a batch, by code, where sites are randomised and not people; all that have no arm yet when it is left
    out. `first_stage` draws the groups that come before the arms. `further` draws slots that stand behind those in use:
    a stratum goes on with them when its own are used up (RND-7), and sites that joined since begin with them; where
    sites are randomised each keeps its arm. `sites` are then those that get some. Not in use until it is sealed with
    `seal`. Invalid says which field to change.
    """
    require_statistician(study, by, Permission.SEQUENCE_DRAW)
    stage = study.definition.allocation.first_stage
    study = first_stage_of(study) if first_stage else study
    # A finished list may be handed in for any plan (a trial drawn elsewhere); a draw follows the study's own method.
    planned = {listed.NAME, study.definition.allocation.method} & set(METHODS)
    if not study.definition.is_allocated or method not in planned:
        raise Invalid(
            [FieldProblem("method", "method", "This study cannot be randomised this way. Choose a method of its plan.")]
        )
    _lock_study(session, study)
    deciding = method in DECIDING
    goes_on = further and study.definition.is_clustered
    if further:
        _refuse_nothing_in_front(session, study, method, stage.code if stage and first_stage else None)
    # A method that decides at each allocation weighs all factors together: it has one list for everybody.
    strata = (ONLY_STRATUM,) if deciding else _strata_to_draw(session, study, sites, further=further, by=by)
    factors = tuple(factor.code for factor in study.definition.allocation.strata) if deciding else ()
    arms = tuple((arm.code, arm.ratio) for arm in study.definition.arms)
    groups: dict[str, list[tuple[str, int]]] = {}
    if stage and not first_stage:
        if not deciding:
            words = (
                "After a first stage the arm is decided within a group, when it is given. Draw the study's own method."
            )
            raise Invalid([FieldProblem("method", "method", words)])
        groups = {group.code: [(each.arm, each.ratio) for each in group.arms] for group in stage.groups}
    none_ahead = method == listed.NAME or deciding
    if deciding and slots_per_stratum is not None:
        words = "Nothing is drawn ahead: minimisation decides at each allocation. Leave the number of slots out."
        raise Invalid([FieldProblem("slots_per_stratum", "unexpected", words)])
    wanted = slots_per_stratum if slots_per_stratum is not None else (1 if none_ahead else 0)
    chosen: dict[str, object] = dict(options or {})
    if method == listed.NAME:
        chosen["csv"] = listing
    elif block_sizes is not None or method == permuted_blocks.NAME:
        sizes = chosen.get("block_sizes", ()) if block_sizes is None else block_sizes
        chosen["block_sizes"] = list(sizes) if isinstance(sizes, Sequence) else sizes
    for option in METHODS[method].options:
        if option.default is not None:
            chosen.setdefault(option.name, option.default)
    for among in [tuple(each) for each in groups.values()] or [arms]:
        _refuse_bad_plan(method, among, strata, wanted, chosen, factors)
    version = 1 + (
        session.execute(select(func.max(SEQUENCE.c.version)).where(SEQUENCE.c.study_id == study.id)).scalar() or 0
    )
    seed = new_seed()
    if goes_on:
        had = arms_to_go_on_with(session, study, strata)
        slots = {site: (had[site],) * wanted for site in strata}
        drawn = drawing.Sequence_(study.code, version, method, tuple(sorted(code for code, _ in arms)), slots)
    else:
        drawn = drawing.draw(
            method, arms, strata, wanted, chosen, seed, study=study.code, list_version=version, factors=factors
        )
    is_drawn = method != listed.NAME and not goes_on  # from the seed; otherwise nothing follows from it
    counts = drawing.balance_summary(drawn)
    if study.definition.is_clustered and (mixed := [site for site, slots in drawn.slots.items() if len({*slots}) > 1]):
        words = f"Everybody of a site is in one arm, but {mixed[0]} has several in this list. Give each site one."
        raise Invalid([FieldProblem("listing", "arms", words)])
    if counts.slots > MOST_SLOTS:
        raise Invalid([FieldProblem("listing", "length", f"A list has at most {MOST_SLOTS:,} slots. Shorten it.")])
    keys = keys_of(session)
    salt_key = new_salt_key()
    # Everything that draws the same list again after the trial (RND-14), and the counts to review before sealing.
    content: dict[str, Any] = {
        "seed": seed.hex() if is_drawn else None,
        "salt_key": salt_key.hex(),
        "study": study.code,
        "version": version,
        "method": method,
        "arms": arms,
        "slots_per_stratum": wanted,
        "block_sizes": chosen.get("block_sizes"),
        "options": {name: value for name, value in chosen.items() if name != "csv"},
        "factors": factors,
        "slots_per_arm": dict(counts.slots_per_arm),
        **({"groups": groups} if groups else {}),
        **({"further": True} if further else {}),
    }
    made = AllocationSequence(
        study_id=study.id,
        version=version,
        method=method,
        stage=stage.code if stage and first_stage else None,
        status=SequenceStatus.DRAWN,
        secrets=seal_secrets(keys, study.id, version, content),
        key_fingerprint=keys.fingerprint,
        slots=counts.slots,
        digest="",
        drawn_at=now,
        drawn_by=by.username,
    )
    session.add(made)
    session.flush()
    assert made.id is not None
    if deciding:
        session.execute(insert(STRATUM), [{"sequence_id": made.id, "code": ONLY_STRATUM, "slots": MOST_SLOTS}])
    stored = list(_store_slots(session, study, made.id, version, drawn.slots, salt_key))
    made.digest = digest(envelope for envelope, _ in stored)
    made.root = None if deciding else root_of(leaf for _, leaf in stored).hex()
    made.plan_commitment = commitment.plan_commitment(
        commitment.opened_plan(
            study=study.code,
            version=version,
            method=method,
            arms=arms,
            strata=counts.slots_per_stratum,
            slots_per_stratum=wanted,
            options=plan_options(content),
            seed=seed if is_drawn else None,
            salt_key=salt_key,
            factors=factors,
            groups=groups,
            further=further,
        )
    )
    session.flush()
    # Not the number of slots: a list is filled to the end of its last block, so its length speaks of block sizes, and
    # blinded roles read the log (CONC-4).
    said: dict[str, object] = {"strata": len(strata), "digest": made.digest, "root": made.root}
    if made.stage:
        said["stage"] = made.stage
    if study.definition.is_clustered:
        said["sites"] = list(strata)  # which sites were drawn together is for everybody to know; their arms are not
    if further:
        said["further"] = True
    record(session, study.code, [Change("sequence.drawn", subject=_subject(version), new=said)], by=by, now=now)
    return made


def _refuse_nothing_in_front(session: Session, study: StudyInUse, method: str, stage: str | None) -> None:
    """Invalid unless further slots have a list in use to stand behind, from which somebody was randomised."""
    in_front = _sealed(session, study, stage)
    used = select(func.sum(STRATUM.c.used)).where(STRATUM.c.sequence_id.in_([each.id for each in in_front]))
    if method in DECIDING or any(each.method in DECIDING for each in in_front):
        field, words = "further", "Where each arm is decided when it is given, slots never run out. Leave this out."
    elif not in_front:
        field, words = "further", "No sequence is in use. Draw one that stands behind no other."
    elif not session.execute(used).scalar():
        field, words = "further", "Nobody has a slot of the sequence in use. Draw another that takes its place."
    elif study.definition.is_clustered and method == listed.NAME:
        field, words = "method", "The arms of these sites stand, and further slots are of the same. Draw them here."
    else:
        return
    raise Invalid([FieldProblem(field, "further", words)])


def _strata_to_draw(
    session: Session, study: StudyInUse, sites: Sequence[str] | None, *, further: bool, by: Actor
) -> tuple[str, ...]:
    """The strata of a list that is drawn now: all of the study, or the sites of a batch; Invalid says what is wrong."""
    if not study.definition.is_clustered:
        codes = _site_codes(session, study)
        by_site = any(factor.by == "site" for factor in study.definition.allocation.strata)
        if sites is not None and not (further and by_site):
            words = "The people of this study are randomised, and not its sites. Leave the sites out."
            raise Invalid([FieldProblem("sites", "unexpected", words)])
        chosen = tuple(sorted({*codes} if sites is None else {*sites}))
        if unknown := [code for code in chosen if code not in codes]:
            raise Invalid([FieldProblem("sites", "choice", _no_such_site(unknown[0], sorted(codes)))])
        return all_strata(study.definition, chosen)
    if further:
        return _sites_that_go_on(session, study, sites, by=by)
    known = {site.code: site for site in sites_drawn(session, study, by=by)}
    chosen = batch_by_default([*known.values()]) if sites is None else tuple(sorted(sites))
    problem = None
    if unknown := [code for code in chosen if code not in known]:
        problem = _no_such_site(unknown[0], known)
    elif had := [code for code in chosen if known[code].is_final]:
        problem = f"{had[0]} has its arm already, by sequence {known[had[0]].version}. Leave it out."
    elif not chosen:
        problem = "Every site has its arm already. Load a version of the study with the sites that join, then draw."
        if sites is not None:
            problem = "Choose the sites that are drawn together, one or more."
    elif len(set(chosen)) < len(chosen):
        problem = "A site is named twice. Name each site of the batch once."
    if problem:
        raise Invalid([FieldProblem("sites", "choice", problem)])
    return chosen


def _no_such_site(code: str, known: Iterable[str]) -> str:
    return f"There is no site “{code}” in this study. Choose among {', '.join(known)}."


def _sites_that_go_on(
    session: Session, study: StudyInUse, sites: Sequence[str] | None, *, by: Actor
) -> tuple[str, ...]:
    """The sites that get further slots of the arm they have; Invalid where one has none, or its list is closed."""
    standing_arms = [site.code for site in sites_drawn(session, study, by=by) if site.is_final]
    chosen = tuple(sorted({*sites} if sites is not None else standing_arms))
    problem = None
    if without := [code for code in chosen if code not in standing_arms]:
        problem = f"{without[0]} has no arm to go on with. Draw it with the sites of a batch."
    elif closed := _closed(session, study, chosen):
        problem = f"Sequence {closed.version} of {closed.code} is closed: nobody is randomised there. Leave it out."
    elif not chosen:
        problem = "Choose the sites that get further slots, one or more."
    if problem:
        raise Invalid([FieldProblem("sites", "choice", problem)])
    return chosen


def discard_draw(
    session: Session, study: StudyInUse, sequence_id: int, *, why: str, by: Actor, now: datetime
) -> AllocationSequence:
    """Set a list aside that was drawn and never sealed; it is kept, and nobody is randomised from it."""
    require_statistician(study, by, Permission.SEQUENCE_DRAW)
    if problems := text_problems(study.definition, "why", why, "Say why this list is discarded."):
        raise Invalid(problems)
    lock_sequences(session, study)
    found = _sequence(session, study, sequence_id)
    if found.status != SequenceStatus.DRAWN:
        raise Refused(
            "Only a list that is drawn and not sealed can be discarded. Keep this one.",
            action="sequence.discard",
            subject=f"/{_subject(found.version)}",
        )
    found.status = SequenceStatus.RETIRED
    session.flush()
    record(
        session, study.code, [Change("sequence.discarded", subject=_subject(found.version))], by=by, now=now, why=why
    )
    return found


def seal(session: Session, study: StudyInUse, sequence_id: int, *, by: Actor, now: datetime) -> AllocationSequence:
    """Put a drawn list in use. It replaces another only when nobody was ever randomised from that one (RND-12).

    Where sites are randomised, a list of other sites stays in use beside it: no batch draws a site that has its arm.
    Further slots take no other's place.
    """
    require_statistician(study, by, Permission.SEQUENCE_SEAL)
    lock_sequences(session, study)
    found = _sequence(session, study, sequence_id)
    subject = _subject(found.version)
    if found.status != SequenceStatus.DRAWN:
        raise Refused(
            "Only a list that is drawn and not yet sealed can be sealed. Draw a new list.",
            action="sequence.seal",
            subject=f"/{subject}",
        )
    if not _is_as_drawn(session, found):
        raise Refused(
            "This list is not as it was drawn, or the key file is another. Discard it and draw a new list.",
            action="sequence.seal",
            subject=f"/{subject}",
        )
    further = _is_further(session, study, found)
    replaced = [] if further else _replaced(session, study, found)
    if further and study.definition.is_clustered:
        _refuse_closed(session, study, found)
    changes = [_retired(session, earlier, subject) for earlier in replaced]
    found.status = SequenceStatus.SEALED
    found.sealed_at = now
    found.sealed_by = by.username
    strata = {} if found.method in DECIDING else _slots_per_stratum(session, found)
    key = key_in_use(session, study, by=by)
    certificate = certificate_of(
        found,
        first_stage_of(study) if found.stage else study,
        strata,
        signed_by=by.name,
        escrowed_to=key.fingerprint if key else None,
        further=further,
    )
    found.certificate = commitment.canonical(certificate).decode()
    session.flush()
    # Before the first participant, and for everybody who reads the log: what every allocation will be held against.
    committed = {
        "digest": found.digest,
        "root": found.root,
        "plan": found.plan_commitment,
        "certificate": commitment.fingerprint(certificate),
    }
    changes.append(Change("sequence.sealed", subject=subject, new=committed))
    if key is not None:
        plan = plan_to_escrow(session, study, sequence_id, by=by)
        changes.append(escrow(session, sequence_id, found.version, plan, key, now=now))
    record(session, study.code, changes, by=by, now=now)
    return found


def close(
    session: Session, study: StudyInUse, sequence_id: int, *, why: str, by: Actor, now: datetime
) -> AllocationSequence:
    """End randomisation from a sealed list, for good; from then on its plan may be opened and everything checked."""
    require_statistician(study, by, Permission.SEQUENCE_SEAL)
    if problems := text_problems(study.definition, "why", why, "Say why nobody is randomised from this list any more."):
        raise Invalid(problems)
    lock_sequences(session, study)
    found = _sequence(session, study, sequence_id)
    subject = _subject(found.version)
    if found.status != SequenceStatus.SEALED:
        raise Refused(
            "Only a sealed list that is in use can be closed. Leave this one as it is.",
            action="sequence.close",
            subject=f"/{subject}",
        )
    if numbers := open_packs(session, sequence_id=found.id):
        raise Refused(
            f"Pack {numbers[0]} for downtime is not closed, and somebody may have been randomised with its slips. "
            "Enter or void them, close the pack, and then the list.",
            action="sequence.close",
            subject=f"/{subject}",
        )
    # Somebody may be taking a slot at this very moment; they read the status again once the lock is theirs.
    session.execute(
        select(STRATUM.c.id).where(STRATUM.c.sequence_id == found.id).order_by(STRATUM.c.id).with_for_update()
    ).all()
    found.status = SequenceStatus.CLOSED
    closed = Change("sequence.closed", subject=subject)
    if found.method in DECIDING:
        # Every allocation's leaf stands in the log already; the root says that these are all, in this order.
        found.root = root_of(slot.leaf for slot in stored_slots(session, found.id)).hex()
        closed = replace(closed, new={"root": found.root})
    session.flush()
    record(session, study.code, [closed], by=by, now=now, why=why)
    return found


def open_plan(session: Session, study: StudyInUse, sequence_id: int, *, by: Actor, now: datetime) -> dict[str, object]:
    """The plan, seed and salt key of a closed list, to check every slot of it with (RND-14); each time is an entry."""
    require_statistician(study, by, Permission.ALLOCATIONS_EXPORT)
    found = _sequence(session, study, sequence_id)
    if found.status != SequenceStatus.CLOSED:
        raise Refused(
            "The plan of a list tells every slot that is left. Close the list first, when nobody is to be randomised "
            "from it any more.",
            action="plan.open",
            subject=f"/{_subject(found.version)}",
        )
    plan = opened_plan_of(session, study, sequence_id, by=by)
    record(session, study.code, [Change("plan.opened", subject=_subject(found.version))], by=by, now=now)
    return plan


def take_script(
    session: Session, study: StudyInUse, sequence_id: int, *, language: Literal["python", "r"], by: Actor, now: datetime
) -> str:
    """The program that draws a permuted-block list again from its seed, which it does not hold; it is written down.

    `NotFound` for all but the statistician. Refused for a list that was not drawn in blocks.
    """
    require_statistician(study, by, Permission.SEQUENCE_DRAW)
    found = _sequence(session, study, sequence_id)
    if found.method != permuted_blocks.NAME:
        raise Refused(
            "There is a script for permuted blocks only, and this list was made in another way. Keep its seed: the "
            "recipe stands in the documentation of its method.",
            action="sequence.take_script",
            subject=f"/{_subject(found.version)}",
        )
    kept = secrets_of(session, study, found)
    strata = session.execute(select(STRATUM.c.code).where(STRATUM.c.sequence_id == found.id)).scalars()
    plan = emitted.BlockPlan(
        study=kept["study"],
        version=kept["version"],
        arms=tuple((code, share) for code, share in kept["arms"]),
        strata=tuple(strata),
        slots_per_stratum=kept["slots_per_stratum"],
        block_sizes=tuple(kept["block_sizes"]),
    )
    record(session, study.code, [Change("sequence.script_taken", subject=_subject(found.version))], by=by, now=now)
    return emitted.python_script(plan) if language == "python" else emitted.r_script(plan)


def randomise(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    again: bool = False,
    newest: Newest | None = None,
    by: Actor,
    now: datetime,
) -> Allocated:
    """Give the participant the next slot of their stratum, once and for all; nobody learns the arm here.

    Refused, with no slot used, unless every gate is open. `again` is a retry of a request whose answer got lost: it is
    answered with the allocation that stands. `newest` is what is remembered of the log outside the database: a database
    that is behind it was put back from a backup, and could give a used slot to somebody else (REL-17).
    """
    study = study.at(participant.site_id)
    _require_theirs(study, participant, by=by, action=RANDOMISE)
    if not study.definition.is_allocated:
        words = "This study does not randomise. Go on with the visits."
        raise Refused(words, action=RANDOMISE, subject=participant.code)
    # The participant first, and the stratum last: that is what others wait for.
    told = clinicians_at(session, study, participant)
    stood = standing(session, study, participant, now=now, lock=True, hold=True, newest=newest)
    if again and (stands := allocation_of(session, participant.id or 0)) is not None:
        return stands
    secrets = _refuse_unready(session, study, participant, stood, now=now)
    return _randomised(session, study, participant, stood, secrets, told, by=by, now=now)


def _require_theirs(study: StudyInUse, participant: Participant, *, by: Actor, action: str) -> None:
    if participant.study_id != study.id or participant.id is None:
        raise NotFound
    about = {"subject": participant.code, "action": action}
    require(by, Permission.PARTICIPANT_RANDOMISE, site_id=participant.site_id, **about)


def _refuse_unready(
    session: Session, study: StudyInUse, participant: Participant, stood: AtTheGates, *, now: datetime
) -> dict[str, Any]:
    """Refused unless every gate is open and the list in use is of the plan; gives what the list was drawn from."""
    secrets = secrets_of(session, study, stood.held)
    reason = why_not_ready(gates(study.definition, stood.facts))
    if reason is None and (stood.held is None or not is_of_plan(study.definition, stood.held.method, secrets)):
        reason = NOT_OPEN
    if reason is not None:
        raise Refused(reason, action=RANDOMISE, subject=participant.code)
    _refuse_moved(session, study, participant, stood, action=RANDOMISE, now=now)
    return secrets


def _randomised(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    stood: AtTheGates,
    secrets: Mapping[str, Any],
    told: Sequence[Any],
    *,
    by: Actor,
    now: datetime,
) -> Allocated:
    """The slot is taken: nothing is judged any more. `told` are those who hear of it, and `stood` holds the stratum."""
    assert participant.id is not None
    code, stratum = participant.code, stood.held
    details: dict[str, object] = {"stratum": stood.stratum}
    if stratum.method in DECIDING:
        details["leaf"] = _decide(session, study, participant.id, stratum, secrets, stood.stratum or "")
    made = _take_next_slot(session, study, participant.id, stratum, subject=code, by=by, now=now)
    now = made.allocated_at
    day = today(stood.timezone, now)
    with recorded_together(session):
        mark(
            session,
            study,
            participant,
            Status.RANDOMISED,
            on=day,
            permission=Permission.PARTICIPANT_RANDOMISE,
            old=Status(stood.facts.status),
            by=by,
            now=now,
            details={"allocation": made.number, **details},
        )
        open_visits(session, study, participant, anchor="randomisation", on=day, by=by, now=now)
    tell_clinicians(session, told, study, participant, stood.site_name, made.number, now=now)
    return made


def _decide(
    session: Session, study: StudyInUse, participant_id: int, stratum: Any, secrets: Mapping[str, Any], levels: str
) -> str:
    """Decide the arm of whoever is next and seal it in a slot of its own, to be taken at once; its leaf as hex.

    `stratum` is locked. All of it happens for every arm alike, and nothing is opened but what was counted, and the
    group of the first stage within which the arm is decided.
    """
    keys = keys_of(session)
    plans = {code: dynamic.plan_of(secrets, stratum.code, code) for code in secrets.get("groups", {})}
    group = group_to_decide_in(session, study, participant_id) if plans else None
    if plans and group not in plans:
        raise Refused(NOT_OPEN, action=RANDOMISE)  # the list is of another version of the study than the group
    plan = plans[group] if group is not None else dynamic.plan_of(secrets, stratum.code)
    before = Place(study.id, stratum.sequence_id, stratum.version, stratum.code, stratum.used)
    place = replace(before, position=stratum.used + 1)
    counts = dynamic.open_state(keys, before, stratum.state)
    of_factors = levels.split(SEPARATOR)
    seed, salt_key = bytes.fromhex(secrets["seed"]), bytes.fromhex(secrets["salt_key"])
    theirs = counts if group is None else dynamic.within(counts, group)
    arm, more = dynamic.decided(stratum.method, plan, theirs, of_factors, seed, study=study.code, place=place)
    salt = commitment.salt_of(salt_key, place.stratum, place.position)
    decided_from = [*of_factors, *([] if group is None else [group])]
    leaf = commitment.draw_leaf(study.code, place.version, place.stratum, place.position, decided_from, arm, salt)
    session.execute(
        _DECIDE,
        {
            "stratum_id": stratum.id,
            "position": place.position,
            "envelope": seal_arm(keys, place, arm),
            "leaf": leaf,
            "levels": levels,
        },
    )
    state = dynamic.seal_state(keys, place, more if group is None else dynamic.joined(counts, group, more, plans))
    session.execute(_KEEP_STATE, {"of_stratum": stratum.id, "new_state": state})
    return leaf.hex()


def randomise_first(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    again: bool = False,
    newest: Newest | None = None,
    by: Actor,
    now: datetime,
) -> Staged:
    """The first stage: give the participant the next slot of its list, and so a group that nobody learns here.

    Once and for all, and before the arm; otherwise as `randomise`.
    """
    study = study.at(participant.site_id)
    _require_theirs(study, participant, by=by, action=FIRST)
    view = _view_of_first(study, participant)
    stood = standing(session, view, participant, now=now, lock=True, hold=True, newest=newest, first=True)
    if again and (stands := stage_of(session, participant.id or 0)) is not None:
        return stands
    _refuse_unready_first(session, study, view, participant, stood, now=now)
    return _staged(session, study, participant, stood, by=by, now=now)


def randomise_both(
    session: Session,
    study: StudyInUse,
    participant: Participant,
    *,
    newest: Newest | None = None,
    by: Actor,
    now: datetime,
) -> Allocated:
    """Both stages at once, for somebody who has neither: whatever refuses one is found before a slot of any is taken.

    A first stage that is done and then taken back with the second would be a slot that was tried (decision 0020). What
    was judged is held until the transaction ends: the participant, then the stratum of the first stage, then the other.
    """
    study = study.at(participant.site_id)
    _require_theirs(study, participant, by=by, action=FIRST)
    view = _view_of_first(study, participant)
    told = clinicians_at(session, study, participant)
    asked: dict[str, Any] = {"now": now, "lock": True, "hold": True, "newest": newest}
    first = standing(session, view, participant, first=True, **asked)
    stood = standing(session, study, participant, **asked)
    _refuse_unready_first(session, study, view, participant, first, now=now)
    stood = replace(stood, facts=replace(stood.facts, staged=True))  # which it is by then
    secrets = _refuse_unready(session, study, participant, stood, now=now)
    _staged(session, study, participant, first, by=by, now=now)
    return _randomised(session, study, participant, stood, secrets, told, by=by, now=now)


def hold_everybody(session: Session, study: StudyInUse) -> None:
    """For a transaction in which many are randomised or saved, one after another: whoever else does so has ended, and
    waits until this ends.

    Everybody takes a participant, then a stratum, the study and the log, and keeps them. Whoever had the log and asked
    for the next participant or stratum would wait for somebody who waits for the log.
    """
    session.execute(
        select(PARTICIPANT.c.id)
        .where(PARTICIPANT.c.study_id == study.id)
        .order_by(PARTICIPANT.c.id)
        .with_for_update(key_share=True)
    ).all()
    stand_in_line(session, study.id)
    session.execute(
        select(STRATUM.c.id)
        .join(SEQUENCE, SEQUENCE.c.id == STRATUM.c.sequence_id)
        .where(SEQUENCE.c.study_id == study.id, SEQUENCE.c.status == SequenceStatus.SEALED)
        .order_by(STRATUM.c.id)
        .with_for_update(of=STRATUM)
    ).all()
    _lock_study(session, study)


def _view_of_first(study: StudyInUse, participant: Participant) -> StudyInUse:
    if study.definition.allocation.first_stage is None:
        words = "This study has one stage. Randomise the participant."
        raise Refused(words, action=FIRST, subject=participant.code)
    return first_stage_of(study)


def _refuse_unready_first(
    session: Session,
    study: StudyInUse,
    view: StudyInUse,
    participant: Participant,
    stood: AtTheGates,
    *,
    now: datetime,
) -> None:
    """As `_refuse_unready`, of the first stage, of which `view` is the study."""
    reason = why_not_ready(first_stage_gates(study.definition, stood.facts))
    if reason is None and not is_of_plan(view.definition, None, secrets_of(session, study, stood.held)):
        reason = NOT_OPEN
    if reason is not None or stood.held is None:
        raise Refused(reason or NOT_OPEN, action=FIRST, subject=participant.code)
    _refuse_moved(session, view, participant, stood, action=FIRST, now=now)


def _staged(
    session: Session, study: StudyInUse, participant: Participant, stood: AtTheGates, *, by: Actor, now: datetime
) -> Staged:
    """The slot of the first stage is taken: nothing is judged any more."""
    code, stage, stratum = participant.code, study.definition.allocation.first_stage, stood.held
    assert stage is not None
    assert participant.id is not None
    _lock_study(session, study)
    front = session.execute(
        select(func.max(STAGED.c.number).label("number"), func.max(STAGED.c.allocated_at).label("at")).where(
            STAGED.c.study_id == study.id, STAGED.c.stage == stage.code
        )
    ).one()
    position = _next_position(session, stratum.id, action=FIRST, subject=code)
    at = front.at if front.at and now < front.at <= now + MOST_WAITED else now
    session.execute(
        insert(STAGED).values(
            study_id=study.id,
            stage=stage.code,
            number=(front.number or 0) + 1,
            participant_id=participant.id,
            slot_id=select(SLOT.c.id)
            .where(SLOT.c.stratum_id == stratum.id, SLOT.c.position == position)
            .scalar_subquery(),
            stratum_id=stratum.id,
            allocated_at=at,
            allocated_by=by.username,
        )
    )
    new = {"stage": stage.code, "allocation": (front.number or 0) + 1, "stratum": stood.stratum}
    record(session, study.code, [Change("participant.staged", code, "stage", new=new)], by=by, now=at)
    return Staged(participant.id, at, by.username)


def _next_position(session: Session, stratum_id: int, *, action: str, subject: str) -> int:
    position: int | None = session.execute(_POSITION, {"of_stratum": stratum_id}).scalar()
    if position is None:
        raise Conflict(CHANGED, action=action, subject=subject)
    return position


def _refuse_moved(
    session: Session, study: StudyInUse, participant: Participant, stood: AtTheGates, *, action: str, now: datetime
) -> None:
    """While the stratum was waited for, an entry may have been saved that puts the participant into another."""
    if needs_answers(study.definition):
        found = stratum_of(session, study, participant, site_code=stood.site_code, timezone=stood.timezone, now=now)
        if found.code != stood.stratum:
            raise Conflict(CHANGED, action=action, subject=participant.code)


def _take_next_slot(
    session: Session, study: StudyInUse, participant_id: int, stratum: Any, *, subject: str, by: Actor, now: datetime
) -> Allocated:
    # The rows of study, stratum and allocation come before the log's head, in the order every transaction takes them.
    number = session.execute(_NUMBER, {"of_study": study.id}).scalar_one()
    position = _next_position(session, stratum.id, action=RANDOMISE, subject=subject)
    allocated_at = session.execute(
        _ALLOCATE,
        {
            "study_id": study.id,
            "of_study": study.id,
            "number": number,
            "participant_id": participant_id,
            "of_stratum": stratum.id,
            "at_position": position,
            "stratum_id": stratum.id,
            "number_in_front": number - 1,
            "now": now,
            "latest": now + MOST_WAITED,
            "allocated_by": by.username,
        },
    ).scalar_one()
    return Allocated(participant_id, number, allocated_at, by.username)


def clinicians_at(session: Session, study: StudyInUse, participant: Participant) -> Sequence[Any]:
    """Who is told of a new participant at their site."""
    return session.execute(_CLINICIANS, {"study_id": study.id, "site_id": participant.site_id}).all()


def tell_clinicians(
    session: Session,
    clinicians: Sequence[Any],
    study: StudyInUse,
    participant: Participant,
    site_name: str,
    number: int,
    *,
    now: datetime,
) -> None:
    """A mail to each of these that there is somebody new to treat; never the arm."""
    for clinician in clinicians:
        queue(
            session,
            key=f"participant.randomised|{study.id}|{number}|{clinician.id}",
            to_address=clinician.email,
            subject=f"{study.definition.short_title}: new participant",
            body=(
                f"There is a new participant at {site_name}: {participant.code}.\n\n"
                "Sign in to Equipoise to plan the treatment sessions.\n"
            ),
            now=now,
            language=clinician.language,
        )


def _refuse_bad_plan(
    method: str,
    arms: Sequence[tuple[str, int]],
    strata: Sequence[str],
    length: int,
    options: Mapping[str, object],
    factors: Sequence[str],
) -> None:
    if method != listed.NAME:
        if length < 1:
            raise Invalid(
                [FieldProblem("slots_per_stratum", "required", "Say how many slots each stratum gets, 1 or more.")]
            )
        sizes = options.get("block_sizes", [])
        most = 1
        if isinstance(sizes, list):
            if len(sizes) > MOST_BLOCK_SIZES:
                raise Invalid([FieldProblem("block_sizes", "length", f"Name at most {MOST_BLOCK_SIZES} block sizes.")])
            most = max((size for size in sizes if isinstance(size, int)), default=1)
        if len(strata) * (length + most) > MOST_SLOTS:
            raise Invalid(
                [
                    FieldProblem(
                        "slots_per_stratum",
                        "length",
                        f"A list has at most {MOST_SLOTS:,} slots over all strata. Ask for fewer.",
                    )
                ]
            )
    wrong = wrong_with_plan(method, arms, strata, length, options, factors)
    if wrong:
        raise Invalid(wrong)


def wrong_with_plan(
    method: str,
    arms: Sequence[tuple[str, int]],
    strata: Sequence[str],
    length: int,
    options: Mapping[str, object],
    factors: Sequence[str] = (),
) -> list[FieldProblem]:
    """Everything that stops a draw with these options, each at its field; empty when it can be drawn."""
    found = drawing.problems(method, arms, strata, length, options, factors)
    return [FieldProblem(_field_of(method, arms, options, problem), "sequence", problem) for problem in found]


def _field_of(method: str, arms: Sequence[tuple[str, int]], options: Mapping[str, object], problem: str) -> str:
    """The field that a sentence about a plan is to stand at: the option it names, or the one that the method has."""
    if method == listed.NAME:
        return "listing"
    if problem == METHODS[method].why_not_arms(arms):
        return "method"
    own = [option.name for option in METHODS[method].options]
    named = (name for name in (*own, *options) if f"`{name}`" in problem or f"“{name}”" in problem)
    return next(named, "block_sizes" if own == ["block_sizes"] else "slots_per_stratum")


def _store_slots(
    session: Session,
    study: StudyInUse,
    sequence_id: int,
    version: int,
    slots: Mapping[str, Sequence[str]],
    salt_key: bytes,
) -> Iterator[tuple[bytes, bytes]]:
    """Seal, commit to and store every slot, strata by code and positions ascending; yields (envelope, leaf) in that
    order.

    Rows are written in the order of positions only, never by arm, so that no row's number tells anything (CONC-5).
    """
    keys = keys_of(session)
    ordered = sorted(slots)
    if not ordered:
        return
    session.execute(
        insert(STRATUM),
        [{"sequence_id": sequence_id, "code": code, "slots": len(slots[code]), "used": 0} for code in ordered],
    )
    ids = {
        row.code: row.id
        for row in session.execute(select(STRATUM.c.id, STRATUM.c.code).where(STRATUM.c.sequence_id == sequence_id))
    }
    rows: list[tuple[int, int, bytes, bytes]] = []
    for code in ordered:
        for position, arm in enumerate(slots[code], start=1):
            envelope = seal_arm(keys, Place(study.id, sequence_id, version, code, position), arm)
            salt = commitment.salt_of(salt_key, code, position)
            leaf = commitment.slot_leaf(study.code, version, code, position, arm, salt)
            rows.append((ids[code], position, envelope, leaf))
            if len(rows) == BATCH:
                store_many(session, SLOT, SLOT_COLUMNS, rows)
                rows = []
            yield envelope, leaf
    if rows:
        store_many(session, SLOT, SLOT_COLUMNS, rows)


def _is_as_drawn(session: Session, found: AllocationSequence) -> bool:
    """Whether every envelope and every leaf is the one that was drawn; nothing is opened to see it."""
    kept = list(stored_slots(session, found.id))
    if found.method in DECIDING:
        return not kept and found.key_fingerprint == keys_of(session).fingerprint
    return (
        found.key_fingerprint == keys_of(session).fingerprint
        and found.digest == digest(slot.envelope for slot in kept)
        and found.root == root_of(slot.leaf for slot in kept if slot.leaf).hex()
    )


def _slots_per_stratum(session: Session, found: AllocationSequence) -> dict[str, int]:
    rows = session.execute(select(STRATUM.c.code, STRATUM.c.slots).where(STRATUM.c.sequence_id == found.id))
    return {row.code: row.slots for row in rows}


def _sealed(session: Session, study: StudyInUse, stage: str | None) -> Sequence[AllocationSequence]:
    of_stage = SEQUENCE.c.stage == stage if stage else SEQUENCE.c.stage.is_(None)
    return session.scalars(
        select(AllocationSequence).where(
            SEQUENCE.c.study_id == study.id, SEQUENCE.c.status == SequenceStatus.SEALED, of_stage
        )
    ).all()


def _replaced(session: Session, study: StudyInUse, found: AllocationSequence) -> list[AllocationSequence]:
    """The lists in use whose place this one takes: every one, but for those of other sites where sites are drawn."""
    earlier = _sealed(session, study, found.stage)
    if not study.definition.is_clustered or found.method in DECIDING:
        return list(earlier)
    sites, mine = set(_site_codes(session, study)), set(_slots_per_stratum(session, found))
    _refuse_closed(session, study, found)
    theirs = {each.id: set(_slots_per_stratum(session, each)) for each in earlier}
    return [each for each in earlier if each.method in DECIDING or theirs[each.id] & mine or theirs[each.id] - sites]


def _is_further(session: Session, study: StudyInUse, found: AllocationSequence) -> bool:
    return bool(secrets_of(session, study, found).get("further"))


def _refuse_closed(session: Session, study: StudyInUse, found: AllocationSequence) -> None:
    if closed := _closed(session, study, _slots_per_stratum(session, found)):
        raise Refused(
            f"{closed.code} has its arm already, by sequence {closed.version}, which is closed. Set this list aside, "
            "and draw the other sites.",
            action="sequence.seal",
            subject=f"/{_subject(found.version)}",
        )


def _closed(session: Session, study: StudyInUse, sites: Iterable[str]) -> Any:
    """Where sites are randomised: the first with a closed list, whose plan may be opened, so its arm may be known."""
    return session.execute(
        select(STRATUM.c.code, SEQUENCE.c.version)
        .join(SEQUENCE, SEQUENCE.c.id == STRATUM.c.sequence_id)
        .where(
            SEQUENCE.c.study_id == study.id, SEQUENCE.c.status == SequenceStatus.CLOSED, STRATUM.c.code.in_([*sites])
        )
        .order_by(STRATUM.c.code)
    ).first()


def _retired(session: Session, earlier: AllocationSequence, successor: str) -> Change:
    # Its strata are locked first: somebody may be randomised from them at this very moment, and reads the status
    # again once the lock is theirs.
    used = session.execute(
        select(STRATUM.c.used).where(STRATUM.c.sequence_id == earlier.id).order_by(STRATUM.c.id).with_for_update()
    ).scalars()
    if any(used):
        raise Refused(
            "Participants were already randomised from the sealed list, or slots of it are reserved for downtime, so "
            "it stays in use. Keep that list; to go on when it is used up, draw further slots that stand behind it.",
            action="sequence.seal",
            subject=f"/{successor}",
        )
    earlier.status = SequenceStatus.RETIRED
    return Change("sequence.retired", subject=_subject(earlier.version), new={"replaced_by": successor})


def _sequence(session: Session, study: StudyInUse, sequence_id: int) -> AllocationSequence:
    found = session.scalars(
        select(AllocationSequence)
        .where(SEQUENCE.c.id == sequence_id, SEQUENCE.c.study_id == study.id)
        .execution_options(populate_existing=True)
    ).first()
    if found is None:
        raise NotFound
    return found


def _lock_study(session: Session, study: StudyInUse) -> None:
    # Lists are drawn one after the other, so that their versions count up.
    session.execute(select(STUDY.c.id).where(STUDY.c.id == study.id).with_for_update(key_share=True)).one()


def lock_sequences(session: Session, study: StudyInUse) -> None:
    """Hold every list of the study, but not for those who are randomised: they refer to it and change a stratum."""
    # Lists are sealed one after the other, so that one is in use. Not the study's row: randomising takes that after a
    # stratum, and sealing takes strata after this.
    session.execute(
        select(SEQUENCE.c.id)
        .where(SEQUENCE.c.study_id == study.id)
        .order_by(SEQUENCE.c.id)
        .with_for_update(key_share=True)
    ).all()


def _site_codes(session: Session, study: StudyInUse) -> list[str]:
    return list(session.execute(select(SITE.c.code).where(SITE.c.study_id == study.id)).scalars())


def _subject(version: int) -> str:
    return f"sequence/{version}"
