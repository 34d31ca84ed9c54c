"""JSON doors: what a program sees, under /api/v1. One file per family, the same names as the HTML doors.

`redcap/` is another one, at /api/, for programs that know studies as REDCap projects.
"""

from fastapi import APIRouter, FastAPI

from app.api import (
    account,
    amendments,
    appointments,
    audit,
    blinding,
    by_arm,
    casebook,
    coding,
    commitment,
    concealment,
    conduct,
    consent,
    datasets,
    double,
    downtime,
    drafts,
    entries,
    escrow,
    exports,
    importing,
    imports,
    in_error,
    links,
    locks,
    messages,
    oversight,
    participants,
    people,
    queries,
    questionnaires,
    randomisation,
    reports,
    safety,
    screening,
    signing,
    study,
    treatment,
    unblinding,
    verification,
    visits,
    webhooks,
)
from app.api.operations import apart
from app.api.redcap import door as redcap

families = (
    account,
    study,
    people,
    drafts,
    importing,
    amendments,
    participants,
    screening,
    consent,
    visits,
    appointments,
    messages,
    entries,
    signing,
    double,
    coding,
    queries,
    verification,
    questionnaires,
    casebook,
    locks,
    randomisation,
    reports,
    in_error,
    links,
    safety,
    conduct,
    commitment,
    concealment,
    blinding,
    by_arm,
    downtime,
    escrow,
    unblinding,
    treatment,
    exports,
    datasets,
    imports,
    webhooks,
    audit,
    oversight,
)

router = APIRouter()
router.routes.extend([*study.anywhere.routes, *entries.everywhere.routes])
for family in families:
    router.routes.extend(family.router.routes)
apart(router.routes)


def add_to(application: FastAPI) -> None:
    """All of it, each at its address (`operations`)."""
    application.router.routes.extend([*redcap.router.routes, *router.routes])
