"""Statement of concealment over REST: for the statistician, and after the end for who reviews the log."""

from typing import Any

from fastapi.responses import Response

from app.api.operations import operations
from app.dependencies import ApiPage, kept_here
from app.randomisation import commitment
from app.randomisation.concealment.reads import KeptActs, concealment
from app.randomisation.concealment.rules import FORMAT

router = operations("sequence")

A_STATEMENT: dict[str, Any] = {
    "format": FORMAT,
    "study": "resolve",
    "computed_at": "2026-07-16T10:02:11+00:00",
    "log": {"name": "resolve", "size": 4711, "root": "9f86d081"},
    "holds": True,
    "lists": [{"version": 1, "status": "closed", "drawn_by": "fisher", "certificate_in_log": 12}],
    "access": [{"who": "fisher", "action": "sequence.drawn", "number": 1, "first": 11, "last": 11}],
    "enrolling": [{"who": "ada", "action": "participant.randomised", "number": 41, "first": 60, "last": 4502}],
    "overlaps": [],
    "opened_before_allocation": [],
}


@router.get(
    "/concealment",
    name="api.concealment",
    responses={200: {"content": {"application/json": {"example": A_STATEMENT}}}},
)
def statement(here: ApiPage) -> Response:
    """Whether anybody who enrolled had to do with the sequence, with the positions of the log behind every fact."""
    kept = kept_here(here.request, KeptActs)
    said = concealment(here.session, here.the_study, by=here.actor, now=here.now, kept=kept)
    return Response(commitment.canonical(said), media_type="application/json")
