"""JSON doors: what a program sees, under /api/v1. One file per family, the same names as the HTML doors.

`redcap/` is another one, at /api/, for programs that know studies as REDCap projects.
"""

from inspect import signature

from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.routing import Match
from starlette.types import Scope

from app.api import (
    account,
    amendments,
    appointments,
    audit,
    blinding,
    casebook,
    coding,
    commitment,
    conduct,
    consent,
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
    participants,
    queries,
    randomisation,
    reports,
    safety,
    signing,
    study,
    treatment,
    unblinding,
    visits,
    webhooks,
)
from app.api.filters import known, names_of
from app.api.pleasant import selection
from app.api.redcap import door as redcap
from app.api.shapes import PROBLEMS, example_of

# Only says in the OpenAPI document how to sign in; app.dependencies reads and judges the token.
token = HTTPBearer(auto_error=False, scheme_name="token", description="A token of your account, for one study.")

families = (
    account,
    study,
    drafts,
    importing,
    amendments,
    participants,
    consent,
    visits,
    appointments,
    messages,
    entries,
    signing,
    double,
    coding,
    queries,
    casebook,
    locks,
    randomisation,
    reports,
    in_error,
    links,
    safety,
    conduct,
    commitment,
    blinding,
    downtime,
    escrow,
    unblinding,
    treatment,
    exports,
    imports,
    webhooks,
    audit,
)

ROOT = "/api/v1/studies/{study}"


class Below(APIRouter):
    """A router that is not asked about addresses that do not begin with its own: a page need not pass every door."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """What starlette asks of each router, in the order they were added."""
        if not scope["path"].startswith(ROOT.partition("{")[0]):
            return Match.NONE, {}
        return super().matches(scope)


router = Below()
for family in families:
    # One flat table: a router included in another is searched once more at every level, for every request.
    router.routes.extend(family.router.routes)

# The first sentence of a function is its summary in the OpenAPI document; else that would be the route's name.
for route in router.routes:
    if isinstance(route, APIRoute) and route.summary is None:
        route.summary = route.description.split("\n")[0].split(". ")[0].rstrip(".")
    if isinstance(route, APIRoute):
        names = [name for name in names_of(route.dependant) if name not in ("study", *route.param_convertors)]
        if route.methods == {"GET"} and route.response_model is not None:
            route.dependencies = [*route.dependencies, Depends(selection)]
            names += signature(selection).parameters
        route.dependencies = [*route.dependencies, Depends(known(names))]
    # A good answer shows what it looks like where it stands, not only where its parts are described.
    if isinstance(route, APIRoute) and (example := example_of(route.response_model)) is not None:
        good = {"content": {"application/json": {"example": example}}}
        route.responses = {**route.responses, route.status_code or 200: good}


def add_to(application: FastAPI) -> None:
    """All of it below its address; every operation may answer with a problem, and takes a token."""
    application.router.routes.extend(redcap.router.routes)
    application.include_router(router, prefix=ROOT, responses=PROBLEMS, dependencies=[Depends(token)])
