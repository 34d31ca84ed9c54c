"""Does what an amendment would mean tell whoever makes the second entry anything of the first?"""

from copy import deepcopy
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import Session

from app.amendments.actions import STUDY
from app.amendments.reads import effects, version_named
from app.people.access import Actor
from app.studies.definition import Study
from tests.amendments.world import definition, loaded, site_row
from tests.capture.test_double import World
from tests.capture.twice import twice
from tests.factories import NOW


@pytest.mark.requirement("E6-9", "AX11-6")
def test_what_an_amendment_makes_of_a_first_entry_is_not_said_to_who_enters_it_again(session: Session):
    world = World(session)
    # Of any answer above 4 the next version says that a check does not hold.
    whole: dict[str, Any] = deepcopy(definition(**twice()).model_dump(mode="json", exclude_unset=True))
    pain = next(form for form in whole["instruments"] if form["code"] == "pain")
    item = next(item for item in pain["sections"][0]["items"] if item["code"] == "pain_nrs")
    item["checks"] = [{"rule": "[pain_nrs] <= 4", "message": "Too much.", "kind": "hard"}]
    # There is a participant, so that the next version waits.
    session.execute(update(STUDY).where(STUDY.c.id == world.study.id).values(last_participant=1))
    study = loaded(session, world.study, Study.model_validate({**whole, "version": "2"}))
    world.save()

    def seen(by: Actor) -> list[Any]:
        new = version_named(session, study, "2", by=by)
        (effect,) = effects(session, study, new, site_row(session, study), by=by, now=NOW).rows
        return [(each.instrument, each.items) for each in effect.entries]

    assert seen(world.second) == []
    assert seen(world.first) == seen(world.manager) == [("pain", ("pain_nrs",))]
