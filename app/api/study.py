"""Which study is this token for, and what does its protocol say, over REST?"""

from typing import Any

from pydantic import ConfigDict

from app.api.operations import operations
from app.api.pleasant import STUDIES
from app.api.shapes import Cursor, Limit, PageOf, Reply
from app.dependencies import ApiAnyStudy, ApiPage
from app.exports.reads import planned
from app.foundation import paging
from app.foundation.errors import NotFound
from app.people import reads as people
from app.people.access import require
from app.people.permissions import TABLE, UNBLINDED, Permission, Role
from app.people.scopes import SAID
from app.studies.definition import Instrument

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
def studies(here: ApiAnyStudy, cursor: Cursor = None, limit: Limit = 50) -> PageOf[StudyLine]:
    """The studies that this token may be used for: one, or none once its owner holds no role there any more.

    A token is for one study, and says nothing of others.
    """
    definition = here.the_study.definition
    line = StudyLine(
        code=definition.code,
        version=definition.version,
        title=definition.title,
        href=f"{STUDIES}/{definition.code}",
        studyOID=f"ST.{definition.code}",
        name=definition.code,
        label=definition.title,
        standards=["sdtmig"],
    )
    found = [line] if here.actor.grants else []
    page = paging.page_of_all(found, limit, lambda each: (each.code,), str, cursor=cursor)
    return PageOf(items=page.rows, next=page.next)


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


@router.get("/sites", name="api.sites")
def sites(here: ApiPage, cursor: Cursor = None, limit: Limit = 50) -> PageOf[SiteReply]:
    """Every site of the study, by code."""
    require(here.actor, Permission.STUDY_READ)
    found = people.sites_of(here.session, here.the_study.id)
    page = paging.page_of_all(found, limit, lambda row: (row.code,), str, cursor=cursor)
    return PageOf(items=[SiteReply.model_validate(row) for row in page.rows], next=page.next)


@router.get("/sites/{site}", name="api.site")
def site(here: ApiPage, site: str) -> SiteReply:
    """One site."""
    require(here.actor, Permission.STUDY_READ)
    for row in people.sites_of(here.session, here.the_study.id):
        if row.code == site:
            return SiteReply.model_validate(row)
    raise NotFound


class PermissionReply(Reply):
    """One thing that may be done, by its name in tokens and in the log, and in words."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "participant.screen", "words": SAID[Permission.PARTICIPANT_SCREEN]}}
    )

    name: str
    words: str


class RoleReply(Reply):
    """A role, whether whoever has it must never learn an arm, and what it may do: the table that every act asks."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "role": "coordinator",
                "blinded": True,
                "permissions": [{"name": "participant.screen", "words": SAID[Permission.PARTICIPANT_SCREEN]}],
            }
        }
    )

    role: str
    blinded: bool
    permissions: list[PermissionReply]


def _roles() -> list[RoleReply]:
    return [
        RoleReply(
            role=role,
            blinded=role not in UNBLINDED,
            permissions=[
                PermissionReply(name=permission, words=SAID[permission])
                for permission, holders in TABLE.items()
                if role in holders
            ],
        )
        for role in Role
    ]


@router.get("/roles", name="api.roles")
def roles(here: ApiPage, cursor: Cursor = None, limit: Limit = 50) -> PageOf[RoleReply]:
    """Every role there is, and what it may do."""
    require(here.actor, Permission.STUDY_READ)
    page = paging.page_in_place(_roles(), limit, cursor=cursor)
    return PageOf(items=page.rows, next=page.next)


@router.get("/roles/{role}", name="api.role")
def role(here: ApiPage, role: str) -> RoleReply:
    """One role, and what it may do."""
    require(here.actor, Permission.STUDY_READ)
    for each in _roles():
        if each.role == role:
            return each
    raise NotFound


class InstrumentReply(Reply):
    """A case report form as the study defines it. `sections` have its items: types, ranges, choices, checks, scores."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "code": "pain",
                "label": "Pain",
                "short": "Pain",
                "respondent": "participant",
                "source": "Numeric rating scale, 0 to 10.",
                "licence": "Free to use.",
                "recall": "The past week",
                "scoring": "0 to 10; higher is more pain.",
                "signable": True,
                "double_entry": False,
                "repeats": True,
                "max_repeats": 3,
                "repeat_label": "Episode",
                "presentation": "page",
                "sections": [{"items": [{"code": "pain_intensity"}]}],
                "texts": [],
            }
        }
    )

    code: str
    label: str
    short: str | None
    respondent: str
    source: str
    licence: str | None
    recall: str | None
    scoring: str | None
    signable: bool
    double_entry: bool
    repeats: bool
    max_repeats: int | None
    repeat_label: str | None
    presentation: str
    sections: list[dict[str, Any]]
    texts: list[dict[str, Any]]


@router.get("/instruments", name="api.instruments")
def instruments(here: ApiPage, cursor: Cursor = None, limit: Limit = 50) -> PageOf[InstrumentReply]:
    """Every instrument: items, ranges, choices, checks, scoring and sources; in the order of the study."""
    require(here.actor, Permission.STUDY_READ)
    page = paging.page_in_place(here.the_study.definition.instruments, limit, cursor=cursor)
    return PageOf(items=[_instrument(each) for each in page.rows], next=page.next)


@router.get("/instruments/{instrument}", name="api.instrument")
def instrument(here: ApiPage, instrument: str) -> InstrumentReply:
    """One instrument with its items."""
    require(here.actor, Permission.STUDY_READ)
    found = here.the_study.definition.instrument(instrument)
    if found is None:
        raise NotFound
    return _instrument(found)


def _instrument(defined: Instrument) -> InstrumentReply:
    return InstrumentReply.model_validate(defined.model_dump(mode="json"))


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
