"""Which study is this token for, and what does its protocol say, over REST?"""

from typing import Any

from pydantic import ConfigDict

from app.api.operations import operations
from app.api.pleasant import STUDIES
from app.api.shapes import Reply
from app.dependencies import ApiAnyStudy, ApiPage
from app.exports.reads import planned
from app.people import reads as people
from app.people.access import require
from app.people.permissions import Permission

router = operations("study")
anywhere = operations("study", of=STUDIES)


class StudyLine(Reply):
    """A study that the token may be used for, and its address. `studyOID`, `name`, `label` and `standards` are what
    CDISC's Dataset-JSON API calls the same things; files of this study have that `studyOID`."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "code": "resolve",
                "version": "1",
                "title": "Sensorimotor retraining for chronic low back pain",
                "href": "/api/v1/studies/resolve",
                "studyOID": "ST.resolve",
                "name": "resolve",
                "label": "Sensorimotor retraining for chronic low back pain",
                "standards": ["sdtmig"],
            }
        }
    )

    code: str
    version: str
    title: str
    href: str
    studyOID: str  # noqa: N815 CDISC's name
    name: str
    label: str
    standards: list[str]


@anywhere.get("", name="api.studies")
def studies(here: ApiAnyStudy) -> list[StudyLine]:
    """The studies that this token may be used for: one, or none once its owner holds no role there any more.

    A token is for one study, and says nothing of others.
    """
    if not here.actor.grants:
        return []
    definition = here.the_study.definition
    return [
        StudyLine(
            code=definition.code,
            version=definition.version,
            title=definition.title,
            href=f"{STUDIES}/{definition.code}",
            studyOID=f"ST.{definition.code}",
            name=definition.code,
            label=definition.title,
            standards=["sdtmig"],
        )
    ]


class SiteReply(Reply):
    """A place where participants are seen."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {"code": "neura", "name": "NeuRA", "timezone": "Australia/Sydney", "is_open": True}
        },
    )

    code: str
    name: str
    timezone: str
    is_open: bool


class StudyReply(Reply):
    """A study and the version of its definition in force."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "code": "resolve",
                "version": "1",
                "title": "Sensorimotor retraining for chronic low back pain",
                "target": 276,
                "sites": [{"code": "neura", "name": "NeuRA", "timezone": "Australia/Sydney", "is_open": True}],
                "visits": [{"code": "week18", "label": "Week 18", "day": 126, "instruments": ["pain"]}],
                "missing_codes": [{"code": "REF", "label": "Declined to answer"}],
            }
        }
    )

    code: str
    version: str
    title: str
    target: int
    sites: list[SiteReply]
    visits: list[dict[str, Any]]
    missing_codes: list[dict[str, Any]]


@router.get("", name="api.study")
def study(here: ApiPage) -> StudyReply:
    """The study: sites, visit plan, missing-data codes."""
    require(here.actor, Permission.STUDY_READ)
    definition = here.the_study.definition
    return StudyReply(
        code=definition.code,
        version=definition.version,
        title=definition.title,
        target=definition.target,
        sites=[SiteReply.model_validate(row) for row in people.sites_of(here.session, here.the_study.id)],
        visits=[visit.model_dump(mode="json", exclude={"source"}) for visit in definition.visits],
        missing_codes=[code.model_dump(mode="json") for code in definition.missing_codes],
    )


INSTRUMENTS = {"example": [{"code": "pain", "label": "Pain", "sections": [{"items": [{"code": "pain_intensity"}]}]}]}


@router.get(
    "/instruments",
    name="api.instruments",
    responses={200: {"description": "The instruments.", "content": {"application/json": INSTRUMENTS}}},
)
def instruments(here: ApiPage) -> list[dict[str, Any]]:
    """Every instrument: items, ranges, choices, checks, scoring and sources."""
    require(here.actor, Permission.STUDY_READ)
    return [instrument.model_dump(mode="json") for instrument in here.the_study.definition.instruments]


PLANNED = {"example": {"study": {"name": "resolve", "versions": []}, "usdmVersion": "4.0.0", "systemName": "Equipoise"}}


@router.get(
    "/usdm",
    name="api.usdm",
    responses={200: {"description": "A study of USDM 4.0.", "content": {"application/json": PLANNED}}},
)
def usdm(here: ApiPage) -> dict[str, Any]:
    """What the study plans, as CDISC USDM 4.0: arms, criteria, and visits with windows as its main timeline.

    Arms are numbers for whoever is blinded.
    """
    return planned(here.the_study, by=here.actor)
