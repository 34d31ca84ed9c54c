"""Which version of which protocol is in use? What doors and rooms pass around when they work in a study."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import select
from sqlmodel import Session

from app.foundation.database import table_of
from app.foundation.errors import NotFound
from app.people.reads import STUDY, VERSIONS_AT_SITES
from app.studies.definition import Study
from app.studies.models import StudyVersion
from app.studies.reads import definition
from app.studies.texts import study_in

VERSION = table_of(StudyVersion)


@dataclass(frozen=True)
class StudyInUse:
    """A study and the version of its definition that holds now. `code` is also the name of its audit log.

    Of the versions in force at its sites it is the newest. `others` are the sites that work under another one.

    Pages have it in the words of whoever reads (`read_in`). What is written down, sent to nobody in particular, or
    leaves as data is said in the words of the study, which are `own`.
    """

    id: int
    code: str
    version_id: int
    definition: Study
    others: Mapping[int, "StudyInUse"] = field(default_factory=dict, compare=False, repr=False)
    worded_from: "StudyInUse | None" = field(default=None, compare=False, repr=False)

    @property
    def own(self) -> "StudyInUse":
        """The study in its own words."""
        return self.worded_from or self

    def read_in(self, language: str) -> "StudyInUse":
        """The study for who reads this language, at every site; itself where it has no words in it."""
        own = self.own
        said = study_in(own.definition, language)
        elsewhere = own.others.values()
        if said is own.definition and all(study_in(each.definition, language) is each.definition for each in elsewhere):
            return own
        others = {at: each.read_in(language) for at, each in own.others.items()}
        return StudyInUse(own.id, own.code, own.version_id, said, others, own)

    @property
    def definitions(self) -> tuple[Study, ...]:
        """What is in force at any site: this one first, and each of the others once for every site that has it."""
        return (self.definition, *(each.definition for each in self.others.values()))

    def at(self, site_id: int) -> "StudyInUse":
        """The study as it holds at a site, and so for the participants of that site."""
        return self.others.get(site_id, self)


class Found(Protocol):
    """A study and its version as another statement found them, such as `people.reads.AskedStudy`."""

    @property
    def id(self) -> int: ...
    @property
    def code(self) -> str: ...
    @property
    def version_id(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def versions_at_sites(self) -> str | None: ...


def in_use(session: Session, found: Found) -> StudyInUse:
    """The study with its definition, which is read once per process."""
    others = {}
    for each in (found.versions_at_sites or "").split(",") if found.versions_at_sites else ():
        site_id, version_id, sha256 = each.split(" ")
        there = definition(session, int(version_id), sha256)
        others[int(site_id)] = StudyInUse(found.id, found.code, int(version_id), there)
    here = definition(session, found.version_id, found.sha256)
    return StudyInUse(found.id, found.code, found.version_id, here, others)


def study_in_use(session: Session, code: str) -> StudyInUse:
    """The study with this code; NotFound when there is none or nothing is loaded for it."""
    row = session.execute(
        select(
            STUDY.c.id,
            STUDY.c.code,
            STUDY.c.version_id,
            VERSION.c.sha256,
            VERSIONS_AT_SITES.label("versions_at_sites"),
        )
        .join(VERSION, VERSION.c.id == STUDY.c.version_id)
        .where(STUDY.c.code == code)
    ).first()
    if row is None:
        raise NotFound
    found: Any = row
    return in_use(session, found)
