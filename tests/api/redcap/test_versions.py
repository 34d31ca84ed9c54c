"""Who calls about a participant gets the study as it holds at their site, also while another works under the next."""

import json
from typing import Any

import pytest
from sqlalchemy import insert, update

from app.foundation.database import table_of
from app.people.models import Site
from app.studies.models import StudyRecord, StudyVersion
from app.studies.rules import canonical, fingerprint
from tests.api.redcap.test_records import EVENT
from tests.api.redcap.world import World, changes
from tests.factories import NOW, definition


def amended(world: World, **more: Any) -> None:
    """The south works under another version; the north stays with the first."""
    study = definition(**{**changes(), "version": "2", **more})
    site, record, version = (table_of(model) for model in (Site, StudyRecord, StudyVersion))
    with world.database.writing() as session:
        values = {"study_id": world.study.id, "version": "2", "sha256": fingerprint(study)}
        values |= {"definition": canonical(study), "loaded_at": NOW, "loaded_by": "test"}
        number = session.execute(insert(version).values(values).returning(version.c.id)).scalar_one()
        session.execute(update(record).where(record.c.id == world.study.id).values(version_id=number))
        north = update(site).where(site.c.study_id == world.study.id, site.c.code == "north")
        session.execute(north.values(version_id=world.study.version_id))


@pytest.mark.requirement("E6-17")
def test_nobody_is_randomised_by_the_gates_of_another_site(world: World):
    visits: Any = [dict(each) for each in changes()["visits"]]
    visits[0]["instruments"] = [code for code in visits[0]["instruments"] if code != "pain"]
    call = {"action": "randomize", "record": "M-002", "randomization_id": "1"}
    before = world["coordinator"].refused("record", **call)
    assert "Pain" in before
    amended(world, visits=visits)
    assert world["coordinator"].refused("record", **call) == before


def test_an_import_asks_what_the_site_asks(world: World):
    instruments = json.loads(json.dumps(changes()["instruments"]))
    pain = next(form for form in instruments if form["code"] == "pain")
    pain["sections"][0]["items"].append({"code": "pain_new", "label": "New", "type": "integer", "required": False})
    amended(world, instruments=instruments)
    row = {"participant_id": "M-002", EVENT: "baseline_arm_1", "pain_nrs": "4"}
    said = {**row, "pain_new": "3"}
    reply = world["both"].imports([said], returnFormat="json")
    assert reply.status_code == 400, reply.text
    assert "pain_new" in reply.text
    assert world["both"].imports([row]).status_code == 200
