"""JSON doors: what a program sees, under /api/v1. One file per family, the same names as the HTML doors."""

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from app.api import (
    audit,
    commitment,
    consent,
    downtime,
    entries,
    escrow,
    exports,
    participants,
    randomisation,
    study,
    treatment,
    unblinding,
    visits,
)
from app.api.shapes import PROBLEMS, example_of

# Only says in the OpenAPI document how to sign in; app.dependencies reads and judges the token.
token = HTTPBearer(auto_error=False, scheme_name="token", description="A token of your account, for one study.")

families = (
    study,
    participants,
    consent,
    visits,
    entries,
    randomisation,
    commitment,
    downtime,
    escrow,
    unblinding,
    treatment,
    exports,
    audit,
)

router = APIRouter(responses=PROBLEMS, dependencies=[Depends(token)])
for family in families:
    router.include_router(family.router, prefix="/api/v1/studies/{study}")

# The first sentence of a function is its summary in the OpenAPI document; else that would be the route's name.
for part in (
    *(family.router for family in families),
    randomisation.sequences,
    randomisation.arms,
    downtime.packs_router,
):
    for route in part.routes:
        if isinstance(route, APIRoute) and route.summary is None:
            route.summary = route.description.split("\n")[0].split(". ")[0].rstrip(".")
        # A good answer shows what it looks like where it stands, not only where its parts are described.
        if isinstance(route, APIRoute) and (example := example_of(route.response_model)) is not None:
            good = {"content": {"application/json": {"example": example}}}
            route.responses = {**route.responses, route.status_code or 200: good}
