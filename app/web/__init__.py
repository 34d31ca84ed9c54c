"""HTML doors: what a person sees. One file per page family, one function per page, one template per function."""

from fastapi import APIRouter

from app.web import (
    account,
    audit,
    commitment,
    consent,
    design,
    downtime,
    entries,
    escrow,
    exports,
    participants,
    people,
    randomisation,
    sequence,
    sign_in,
    study,
    today,
    treatment,
    unblinding,
    visits,
)

router = APIRouter(include_in_schema=False)
for door in (
    sign_in,
    account,
    people,
    today,
    participants,
    consent,
    visits,
    entries,
    randomisation,
    unblinding,
    treatment,
    design,
    downtime,
    escrow,
    sequence,
    commitment,
    exports,
    study,
    audit,
):
    router.include_router(door.router)
