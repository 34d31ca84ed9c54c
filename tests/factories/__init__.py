"""A small trial for tests: two arms, two sites, three visits, a handful of items; and people who act in it."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlmodel import Session, SQLModel
from sqlmodel import select as of_model

from app.foundation.database import table_of
from app.people.access import Actor, Grant
from app.people.models import Membership, Person, Site
from app.people.permissions import WHOLE_STUDY, Role
from app.studies.definition import Study
from app.studies.in_use import StudyInUse
from app.studies.models import StudyRecord, StudyVersion
from app.studies.rules import canonical, fingerprint

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
TODAY = date(2026, 3, 2)

MINI: dict[str, object] = {
    "code": "mini",
    "version": "1",
    "title": "A small trial for tests",
    "short_title": "MINI",
    "target": 40,
    "participant_prefix": "M-",
    "participant_digits": 3,
    "sites": [
        {"code": "north", "name": "North clinic", "timezone": "Australia/Sydney"},
        {"code": "south", "name": "South clinic", "timezone": "Europe/Zurich"},
    ],
    "arms": [
        {"code": "active", "label": "Zephyrine training", "ratio": 1},
        {"code": "sham", "label": "Placebex device", "ratio": 1},
    ],
    "allocation": {"method": "permuted_blocks", "strata": [{"code": "site", "label": "Site", "by": "site"}]},
    "eligibility": {
        "instrument": "prescreen",
        "criteria": [
            {"code": "adult", "label": "Aged 18 to 70", "kind": "inclusion", "rule": "[age] >= 18 and [age] <= 70"},
            {"code": "pain", "label": "Pain at least 3", "kind": "inclusion", "rule": "[pain_screen] >= 3"},
            {"code": "surgery", "label": "Recent surgery", "kind": "exclusion", "rule": "[surgery] = true"},
        ],
    },
    "visits": [
        {
            "code": "baseline",
            "label": "Baseline",
            "kind": "baseline",
            "anchor": "consent",
            "day": 0,
            "window": {"before": 0, "after": 14},
            "instruments": ["pain"],
        },
        {
            "code": "tx01",
            "label": "Session 1",
            "kind": "treatment",
            "day": 7,
            "window": {"before": 6, "after": 6},
        },
        {
            "code": "week18",
            "label": "Week 18",
            "kind": "assessment",
            "day": 126,
            "window": {"before": 7, "after": 14},
            "instruments": ["pain", "disability"],
        },
    ],
    "outcomes": [
        {"label": "Pain at week 18", "instrument": "pain", "item": "pain_nrs", "visit": "week18", "kind": "primary"}
    ],
    "missing_codes": [{"code": "UNK", "label": "Unknown"}, {"code": "ND", "label": "Not done"}],
    "withdrawal_levels": [
        {"code": "treatment", "label": "Stops treatment"},
        {"code": "visits", "label": "Stops visits", "stops_visits": True},
    ],
    "screen_failure_reasons": [
        {"code": "not_eligible", "label": "Does not meet the criteria"},
        {"code": "declined", "label": "Declined"},
    ],
    "treatment": [
        {
            "arm": "active",
            "modules": [
                {
                    "code": "education",
                    "label": "Education",
                    "items": [
                        {"code": "education_minutes", "label": "Minutes", "type": "integer", "min": 0, "max": 90}
                    ],
                }
            ],
        },
        {
            "arm": "sham",
            "modules": [
                {
                    "code": "laser",
                    "label": "Sham laser",
                    "items": [{"code": "laser_minutes", "label": "Minutes", "type": "integer", "min": 0, "max": 90}],
                }
            ],
        },
    ],
    "consent_documents": [
        {
            "version": "1",
            "language": "en",
            "title": "Taking part in MINI",
            "valid_from": "2025-01-01",
            "text": "# Taking part\n\nYou may stop at any time.\n",
            "sha256": "3b1f9bb0b9ac4fd9aa8f6cbbd93f0e4cf0f3f5a4a4c0f4b1fb7d1c8cf1f2a3b4",
        }
    ],
    "instruments": [
        {
            "code": "prescreen",
            "label": "Pre-screen",
            "source": "test",
            "respondent": "coordinator",
            "sections": [
                {
                    "items": [
                        {"code": "age", "label": "Age", "type": "integer", "unit": "years", "min": 0, "max": 120},
                        {"code": "pain_screen", "label": "Pain, past week", "type": "scale", "min": 0, "max": 10},
                        {"code": "surgery", "label": "Surgery in the last year", "type": "yes_no"},
                    ]
                }
            ],
        },
        {
            "code": "pain",
            "label": "Pain",
            "source": "test",
            "sections": [
                {
                    "items": [
                        {"code": "pain_nrs", "label": "Pain, past week", "type": "scale", "min": 0, "max": 10},
                        {
                            "code": "pain_days",
                            "label": "Days with pain",
                            "type": "integer",
                            "min": 0,
                            "max": 7,
                            "expected_min": 1,
                            "checks": [
                                {
                                    "rule": "not ([pain_nrs] = 0 and [pain_days] > 0)",
                                    "message": "No pain, but days with pain: check both.",
                                    "kind": "soft",
                                }
                            ],
                        },
                        {
                            "code": "pain_where",
                            "label": "Where it hurts",
                            "type": "choices",
                            "required": False,
                            "choices": [{"code": "back", "label": "Back"}, {"code": "leg", "label": "Leg"}],
                            "shown_if": "[pain_nrs] > 0",
                        },
                        {"code": "pain_note", "label": "Note", "type": "text", "required": False},
                    ]
                }
            ],
        },
        {
            "code": "disability",
            "label": "Disability",
            "source": "test",
            "sections": [
                {
                    "items": [
                        {
                            "code": "dis_items",
                            "label": "Statements that apply today",
                            "type": "choices",
                            "required": False,
                            "choices": [{"code": str(n), "label": f"Statement {n}"} for n in range(1, 25)],
                        },
                        {
                            "code": "dis_weight",
                            "label": "Weight",
                            "type": "number",
                            "unit": "kg",
                            "decimals": 1,
                            "min": 30,
                            "max": 250,
                        },
                        {"code": "dis_on", "label": "Date answered", "type": "date", "required": False},
                        {
                            "code": "dis_score",
                            "label": "Score",
                            "type": "calculated",
                            "calculation": "selected_count([dis_items])",
                        },
                    ]
                }
            ],
        },
    ],
}


# For a study that asks, at its last visit, which arm somebody believes to have had; and whose day has come.
BELIEF: dict[str, object] = {
    "code": "belief",
    "label": "What was received",
    "source": "test",
    "sections": [
        {
            "items": [
                {
                    "code": "guess",
                    "label": "Which one",
                    "type": "choice",
                    "choices": [
                        {"code": "tested", "label": "The one under test"},
                        {"code": "other", "label": "The one for comparison"},
                        {"code": "unsure", "label": "Does not know"},
                    ],
                },
                {
                    "code": "guess_sure",
                    "label": "How sure",
                    "type": "choice",
                    "required": False,
                    "choices": [{"code": "very", "label": "Very"}, {"code": "rather", "label": "Rather"}],
                },
            ]
        }
    ],
}


def asking_for_a_guess(*arms: str, planned_from: str = "2026-01-01") -> dict[str, object]:
    """What to change in the small trial so that it asks for a guess at week 18; `arms` are its two arms."""
    visits, instruments = MINI["visits"], MINI["instruments"]
    assert isinstance(visits, list)
    assert isinstance(instruments, list)
    return {
        "visits": [*visits[:-1], {**visits[-1], "instruments": ["pain", "disability", "belief"]}],
        "instruments": [*instruments, BELIEF],
        "unblinding": {"planned_from": planned_from},
        "blinding_assessment": [
            {
                "code": "own",
                "label": "Own guess at week 18",
                "visit": "week18",
                "item": "guess",
                "answers": [{"choice": "tested", "arms": [arms[0]]}, {"choice": "other", "arms": [arms[1]]}],
                "do_not_know": ["unsure"],
                "confidence": {"item": "guess_sure", "certain": ["very"]},
            }
        ],
    }


@dataclass(frozen=True)
class _Loaded:
    """A definition, and what a version keeps of it."""

    definition: Study
    sha256: str
    text: str


_LOADED: dict[str, _Loaded] = {}


def _loaded(changes: dict[str, object]) -> _Loaded:
    """Definitions are never changed, so that thousands of tests may share the few there are."""
    key = repr(changes)
    if key not in _LOADED:
        study = Study.model_validate({**MINI, **changes})
        _LOADED[key] = _Loaded(study, fingerprint(study), canonical(study))
    return _LOADED[key]


def definition(**changes: object) -> Study:
    """The definition of the small trial, with some of its top-level parts replaced."""
    return _loaded(changes).definition


def mini_study(session: Session, **changes: object) -> StudyInUse:
    """The small trial, loaded, with its sites open."""
    loaded = _loaded(changes)
    study = loaded.definition
    study_id = _added(session, StudyRecord(code=study.code, title=study.title))
    version_id = _version(session, study_id, loaded)
    for place in study.sites:
        _added(session, Site(study_id=study_id, code=place.code, name=place.name, timezone=place.timezone))
    session.execute(IN_USE, {"of": study_id, "now": version_id})
    return StudyInUse(study_id, study.code, version_id, study)


def mini_study_again(session: Session, study_id: int, **changes: object) -> int:
    """Another version of the small trial, which the study works under from now on; its id."""
    version_id = _version(session, study_id, _loaded(changes))
    session.execute(IN_USE, {"of": study_id, "now": version_id})
    return version_id


def _version(session: Session, study_id: int, loaded: _Loaded) -> int:
    version = StudyVersion(
        study_id=study_id,
        version=loaded.definition.version,
        sha256=loaded.sha256,
        definition=loaded.text,
        loaded_at=NOW,
        loaded_by="test",
    )
    return _added(session, version)


STUDY, PERSON, SITE = table_of(StudyRecord), table_of(Person), table_of(Site)
IN_USE = update(STUDY).where(STUDY.c.id == bindparam("of")).values(version_id=bindparam("now"))
KNOWN = select(PERSON.c.id, PERSON.c.name, PERSON.c.organisation).where(PERSON.c.username == bindparam("name"))
SITE_ID = select(SITE.c.id).where(SITE.c.study_id == bindparam("study"), SITE.c.code == bindparam("code"))
ADDING: dict[type[SQLModel], Any] = {
    kind: insert(table_of(kind)).returning(table_of(kind).c.id)
    for kind in (StudyRecord, StudyVersion, Site, Person, Membership)
}


def _added(session: Session, row: SQLModel) -> int:
    """The id of a row that was written without the bookkeeping of one that is looked at again."""
    return int(session.execute(ADDING[type(row)], row.model_dump(exclude={"id"})).scalar_one())


def site(session: Session, study: StudyInUse, code: str = "north") -> Site:
    """A site of the study."""
    return session.exec(of_model(Site).where(Site.study_id == study.id, Site.code == code)).one()


def person(
    session: Session,
    study: StudyInUse | None,
    *roles: str,
    site_code: str | None = "north",
    username: str | None = None,
) -> Actor:
    """Somebody with these roles in the study: at one site, or at all of them where the role allows it."""
    name = username or f"{'_'.join(roles)}_{site_code or 'all'}"
    known = session.execute(KNOWN, {"name": name}).first()
    if known is None:
        row = Person(
            username=name, name=name.title(), email=f"{name}@example.org", organisation="Test unit", created_at=NOW
        )
        _added(session, row)
        known = session.execute(KNOWN, {"name": name}).one()
    grants = []
    for role in map(Role, roles):
        whole = role in WHOLE_STUDY or site_code is None or study is None
        site_id = (
            None
            if whole or study is None
            else int(session.execute(SITE_ID, {"study": study.id, "code": site_code}).scalar_one())
        )
        _added(
            session,
            Membership(
                person_id=known.id,
                study_id=None if role is Role.ADMINISTRATOR or study is None else study.id,
                site_id=site_id,
                role=role,
                granted_at=NOW,
                granted_by="test",
            ),
        )
        grants.append(Grant(role, site_id))
    return Actor(
        person_id=known.id,
        username=name,
        name=known.name,
        organisation=known.organisation,
        grants=tuple(grants),
        study_id=study.id if study else None,
        request_id="test",
    )


__all__ = ["MINI", "NOW", "TODAY", "asking_for_a_guess", "definition", "mini_study", "person", "site"]
