"""The closed report on the blind, over REST: for the statistician once the trial is over, and for no other token."""

import pytest

from app.foundation.database import Database
from app.people.permissions import Role
from app.randomisation.blinding.rules import bang_by_certainty, james
from tests.api.client import api_client
from tests.factories import asking_for_a_guess
from tests.web.test_blinding import ANSWERS, counts, guessed
from tests.web.world import World

ADDRESS = "/blinding-assessment"


@pytest.mark.requirement("E6-1", "E6-12")
def test_the_report_has_every_count_and_index(shared_database: Database):
    world = World(shared_database, **asking_for_a_guess("active", "sham"))
    by_arm = guessed(world, ANSWERS)
    client = api_client(world.database, world.person("statistician", site_code=None))
    found = client.done("GET", ADDRESS)
    assert found["study"] == "mini"
    (guess,) = found["guesses"]
    assert (guess["code"], guess["visit"], guess["item"], guess["by"]) == ("own", "week18", "guess", "participant")
    assert (guess["randomised"], guess["answered"]) == (6, 5)
    active, sham = counts(by_arm, "active"), counts(by_arm, "sham")
    overall = james([active[:2], sham[:2]], [active[2], sham[2]], [0, 1])
    assert overall is not None
    assert guess["james"]["n"] == 5
    assert guess["james"]["value"] == pytest.approx(overall.value)
    first = guess["arms"][0]
    assert (first["arm"], first["answers"]) == ("active", {"tested": active[0], "other": active[1]})
    assert (first["do_not_know"], first["right"], first["wrong"]) == (active[2], active[0], active[1])
    assert first["randomised"] == len(by_arm["active"])
    certain = [(values["guess"], values.get("guess_sure")) for values in by_arm["active"]]
    expected = bang_by_certainty(
        certain.count(("tested", "very")),
        certain.count(("tested", "rather")),
        certain.count(("other", "rather")),
        certain.count(("other", "very")),
        active[2],
    )
    assert (first["bang_by_certainty"] is None) == (expected is None)
    if expected is not None:
        assert first["bang_by_certainty"]["value"] == pytest.approx(expected.value)
        assert first["bang_by_certainty"]["n"] == expected.n
    assert world.log()[-7:] == ["envelope.opened"] * 6 + ["blinding.reported"]


@pytest.mark.requirement("E6-1")
def test_it_is_refused_while_the_trial_goes_on(shared_database: Database):
    world = World(shared_database, **{**asking_for_a_guess("active", "sham"), "unblinding": {}})
    guessed(world, ANSWERS[:1])
    client = api_client(world.database, world.person("statistician", site_code=None))
    problem = client.refused(409, "GET", ADDRESS)
    assert "Recruitment is still open" in problem["detail"]


@pytest.mark.requirement("E6-1", "SEC-22")
@pytest.mark.parametrize("role", [role for role in Role if role not in (Role.STATISTICIAN, Role.ADMINISTRATOR)])
def test_other_tokens_are_answered_like_nonsense(shared_database: Database, role: Role):
    world = World(shared_database, **asking_for_a_guess("active", "sham"))
    client = api_client(world.database, world.person(role))
    problem, nonsense = client.refused(404, "GET", ADDRESS), client.refused(404, "GET", "/nonsense")
    assert {**problem, "instance": ""} == {**nonsense, "instance": ""}
