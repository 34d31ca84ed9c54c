"""A study, its people and participants who lack nothing but an arm, as rows in the database."""

import json
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import insert, select
from sqlmodel import Session

from app.capture.models import Entry
from app.consent.models import Consent
from app.foundation.database import table_of
from app.participants.models import Participant, Screening
from app.people.access import Actor, Grant
from app.people.models import Membership, Person, Site
from app.people.permissions import WHOLE_STUDY, Role
from app.randomisation.actions import draw, seal
from app.randomisation.models import AllocationSequence
from app.randomisation.rules import baseline_entries
from app.studies.definition import Study
from app.studies.in_use import StudyInUse
from app.studies.models import StudyRecord, StudyVersion
from tests.randomisation.small import definition

NOW = datetime(2026, 3, 14, 9, 26, 53, 589793, tzinfo=UTC)
CONSENTED = date(2026, 3, 12)


def study_of(session: Session, study: Study | None = None) -> StudyInUse:
    """A loaded study with its sites."""
    study = study or definition()
    record = StudyRecord(code=study.code, title=study.title)
    session.add(record)
    session.flush()
    assert record.id is not None
    version = StudyVersion(
        study_id=record.id,
        version=study.version,
        sha256="0" * 64,
        definition="{}",  # the protocol names its arms; left out, so that a search of the database finds leaks only
        loaded_at=NOW,
        loaded_by="xenia",
    )
    session.add(version)
    session.flush()
    assert version.id is not None
    record.version_id = version.id
    for site in study.sites:
        session.add(Site(study_id=record.id, code=site.code, name=site.name, timezone=site.timezone))
    session.flush()
    return StudyInUse(record.id, study.code, version.id, study)


def site_id(session: Session, study: StudyInUse, code: str) -> int:
    site = table_of(Site)
    return int(session.execute(select(site.c.id).where(site.c.study_id == study.id, site.c.code == code)).scalar_one())


def actor(session: Session, study: StudyInUse, role: Role, site: str | None = None, name: str = "") -> Actor:
    """Somebody with one role, at one site, or at all of them for roles that are."""
    here = None if role in WHOLE_STUDY or site is None else site_id(session, study, site)
    username = name or f"{role}_{site or 'all'}"
    person = Person(
        username=username, name=username, email=f"{username}@example.org", organisation="Ours", created_at=NOW
    )
    session.add(person)
    session.flush()
    assert person.id is not None
    session.add(
        Membership(person_id=person.id, study_id=study.id, site_id=here, role=role, granted_at=NOW, granted_by="xenia")
    )
    session.flush()
    return Actor(person.id, username, username, "Ours", (Grant(role, here),), study.id)


def participant(session: Session, study: StudyInUse, number: int, site: str = "SYD", nrs: int = 5) -> Participant:
    """Somebody who is eligible, has consented and has every baseline entry complete."""
    made = Participant(
        study_id=study.id,
        site_id=site_id(session, study, site),
        code=f"P-{number:04}",
        status="consented",
        screened_on=CONSENTED,
        consented_on=CONSENTED,
        created_at=NOW,
        created_by="carla",
    )
    session.add(made)
    session.flush()
    assert made.id is not None
    session.execute(
        insert(table_of(Screening)).values(
            participant_id=made.id,
            study_version_id=study.version_id,
            answers='{"age":44}',
            verdicts="[]",
            eligible=True,
            screened_at=NOW,
            screened_by="carla",
        )
    )
    session.execute(
        insert(table_of(Consent)).values(
            participant_id=made.id,
            study_version_id=study.version_id,
            document_version="1",
            language="en",
            document_sha256="0" * 64,
            method="on_screen",
            signed_on=CONSENTED,
            participant_signature=b"sealed",
            options="{}",
            binding="0" * 64,
            recorded_at=NOW - timedelta(days=1),
            recorded_by="carla",
            countersigned_at=NOW - timedelta(days=1),
            countersigned_by="carla",
            countersigned_name="Carla",
            countersigned_meaning="I explained the study.",
        )
    )
    for visit, instrument in baseline_entries(study.definition):
        session.execute(
            insert(table_of(Entry)).values(
                study_id=study.id,
                participant_id=made.id,
                visit=visit,
                instrument=instrument,
                study_version_id=study.version_id,
                status="complete",
                version=1,
                values=json.dumps({"nrs": nrs}),
                reasons="{}",
                created_at=NOW,
                created_by="asim",
                saved_at=NOW,
                saved_by="asim",
            )
        )
    return made


def sealed(
    session: Session, study: StudyInUse, *, slots: int = 20, sizes: tuple[int, ...] = (4, 6)
) -> AllocationSequence:
    """A drawn and sealed list."""
    statistician = actor(session, study, Role.STATISTICIAN, name=f"sofia_{study.code}_{slots}")
    drawn = draw(
        session,
        study,
        method="permuted_blocks",
        block_sizes=sizes,
        slots_per_stratum=slots,
        by=statistician,
        now=NOW,
    )
    assert drawn.id is not None
    return seal(session, study, drawn.id, by=statistician, now=NOW)
