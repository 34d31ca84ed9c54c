"""HTML doors: what a person sees. One file per page family, one function per page, one template per function."""

from fastapi import APIRouter
from fastapi.routing import APIRoute

from app.web import (
    account,
    amendments,
    appointments,
    audit,
    blinding,
    calendar,
    casebook,
    coding,
    commitment,
    conduct,
    consent,
    design,
    double,
    downtime,
    entries,
    escrow,
    exports,
    imports,
    in_error,
    links,
    locks,
    participants,
    people,
    queries,
    randomisation,
    reminders,
    safety,
    sequence,
    sign_in,
    study,
    today,
    treatment,
    unblinding,
    visits,
    webhooks,
)

router = APIRouter()
for door in (
    sign_in,
    links,
    account,
    people,
    today,
    participants,
    consent,
    visits,
    appointments,
    calendar,
    reminders,
    entries,
    double,
    coding,
    queries,
    casebook,
    locks,
    randomisation,
    in_error,
    safety,
    conduct,
    unblinding,
    treatment,
    design,
    blinding,
    downtime,
    escrow,
    sequence,
    commitment,
    exports,
    imports,
    webhooks,
    study,
    amendments,
    audit,
):
    # One flat table: a router included in another is searched once more at every level, for every request.
    router.routes.extend(door.router.routes)

for page in router.routes:
    if isinstance(page, APIRoute):
        page.include_in_schema = False
