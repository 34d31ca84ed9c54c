"""Double entry and coding over REST: the second person gets nothing of the first entry, whatever they ask for."""

from typing import Any

import pytest
import time_machine
from starlette.testclient import TestClient

from app.foundation.database import Database
from tests.api.client import ApiClient, api_client, application_on
from tests.capture.records import consented
from tests.capture.twice import twice
from tests.factories import NOW, mini_study, person

ENTRY = "/participants/M-001/visits/week18/entries/pain"
PAIN = {"pain_nrs": 5, "pain_days": 3, "pain_note": "Zygotic back"}


@pytest.fixture
def clients(shared_database: Database) -> Any:
    with time_machine.travel(NOW, tick=True):
        with shared_database.writing() as session:
            study = mini_study(session, **twice())
            consented(session, study)
            people = {role: person(session, study, role) for role in ("assessor", "coordinator", "monitor")}
            people |= {f"coder{n}": person(session, study, "data_manager", username=f"coder{n}") for n in (1, 2, 3)}
        http = TestClient(application_on(shared_database), base_url="http://trial.test")
        made: dict[str, ApiClient] = {
            name: api_client(shared_database, actor, http=http) for name, actor in people.items()
        }
        made["assessor"].done("PUT", ENTRY, {"values": PAIN})
        yield made


@pytest.mark.requirement("E6-9")
def test_a_form_is_entered_twice_and_settled(clients):
    second, manager = clients["coordinator"], clients["coder1"]
    for path in (ENTRY, f"{ENTRY}/history"):
        problem = second.refused(409, "GET", path)
        assert "entered twice" in problem["detail"]
    casebook = second.done("GET", "/participants/M-001/casebook")
    assert casebook["entries"] == []
    assert clients["monitor"].done("GET", "/participants/M-001/casebook")["entries"] != []
    pdf = second.get("/participants/M-001/casebook.pdf")
    assert pdf.status_code == 200
    assert "Zygotic" not in str(second.done("GET", "/queries"))
    assert (
        "You made the first" in clients["assessor"].refused(409, "PUT", f"{ENTRY}/second", {"values": PAIN})["detail"]
    )
    wrong = second.refused(422, "PUT", f"{ENTRY}/second", {"values": {"pain_nrs": "five"}})
    assert "Zygotic" not in str(wrong)
    entered = second.done("PUT", f"{ENTRY}/second", {"values": {**PAIN, "pain_nrs": 6}})
    assert (entered["state"], entered["compared"], entered["differing"]) == ("to_reconcile", 3, 1)
    (line,) = manager.done("GET", "/double-entries", params={"state": "to_reconcile"})["items"]
    path = f"/double-entries/{line['number']}"
    pair = manager.done("GET", path)
    assert {each["item"]: (each["first"], each["second"]) for each in pair["answers"]}["pain_nrs"] == (5, 6)
    decided = {"pain_nrs": {"chosen": "other", "value": 7, "why": "The paper says 7"}}
    body = {"decisions": decided, "version": pair["version"]}
    second.refused(409, "POST", f"{path}/reconciliation", body)
    clients["monitor"].refused(403, "POST", f"{path}/reconciliation", body)
    manager.refused(422, "POST", f"{path}/reconciliation", {**body, "decisions": {}})
    manager.refused(409, "POST", f"{path}/reconciliation", {**body, "version": 1})
    assert manager.done("POST", f"{path}/reconciliation", body)["state"] == "reconciled"
    assert second.done("GET", ENTRY)["values"]["pain_nrs"] == 7
    lines = manager.done("GET", "/agreement/double-entry", params={"by_site": True})["items"]
    assert {each["item"]: each["percent"] for each in lines}["pain_nrs"] == 0
    second.refused(403, "GET", "/agreement/double-entry")


def test_texts_are_coded_over_rest(clients):
    one, two, three = (clients[f"coder{n}"] for n in (1, 2, 3))
    assert [each["code"] for each in one.rows("/dictionaries/complaints/terms", params={"q": "back"})] == [
        "BACK",
        "LBP",
    ]
    one.refused(404, "GET", "/dictionaries/none/terms")
    (text,) = one.done("GET", "/coded-texts")["items"]
    path = f"/coded-texts/{text['number']}"
    assert one.done("POST", f"{path}/choice", {"code": "LBP"})["choices"][0]["code"] == "LBP"
    assert two.done("GET", path)["choices"] == []
    two.refused(422, "POST", f"{path}/choice", {"code": "NONE"})
    assert two.done("POST", f"{path}/choice", {"code": "SCI"})["state"] == "to_reconcile"
    body = {"code": "LBP", "why": "No leg pain", "version": 3}
    two.refused(409, "POST", f"{path}/reconciliation", body)
    assert three.done("POST", f"{path}/reconciliation", body)["code"] == "LBP"
    (line,) = one.done("GET", "/agreement/coding")["items"]
    assert (line["compared"], line["agreeing"], line["kappa"]) == (1, 0, None)
    clients["coordinator"].refused(403, "GET", "/coded-texts")
