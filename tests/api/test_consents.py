"""Consent over REST, all of it: a paper's scan is kept, shown and verified, and the copy is made, as on the pages."""

import hashlib
from collections.abc import Iterator

import pytest

from app.people.permissions import Role
from tests.api.client import PASSWORD, ApiClient
from tests.api.test_contract import screened, world_on
from tests.factories import person
from tests.web.pdf import packed, text_of
from tests.web.test_consent import SCAN

WHO = "/participants/M-001"
PAPER = {"version": "1", "method": "paper", "signed_on": "2026-03-02", "signature": "Folder 3", "password": PASSWORD}

pytestmark = pytest.mark.both_databases


@pytest.fixture
def clients(shared_database) -> Iterator[dict[str, ApiClient]]:
    with world_on(shared_database) as world:
        with shared_database.writing() as session:
            world.people["investigator"] = person(session, world.study, Role.INVESTIGATOR)
        made = {role: world.client(role) for role in world.people}
        assert screened(made["coordinator"]) == "M-001"
        yield made


def test_a_consent_on_paper_goes_all_its_way_over_rest(clients):
    coordinator, investigator = clients["coordinator"], clients["investigator"]
    kept = [coordinator.done("POST", f"{WHO}/consent-scans", content=SCAN) for _ in range(2)]
    assert kept[0] == kept[1]
    assert kept[0]["paper_sha256"] == hashlib.sha256(SCAN).hexdigest()
    assert (kept[0]["media_type"], kept[0]["size"]) == ("application/pdf", len(SCAN))
    made = coordinator.done("POST", f"{WHO}/consents", {**PAPER, "paper_sha256": kept[0]["paper_sha256"]})
    assert (made["paper_sha256"], made["scan_verified_at"]) == (kept[0]["paper_sha256"], None)
    where = f"{WHO}/consents/{made['id']}"

    shown = coordinator.get(f"{where}/scan")
    assert (shown.content, shown.headers["content-type"]) == (SCAN, "application/pdf")
    assert shown.headers["etag"] == f'"{made["paper_sha256"]}"'
    assert coordinator.request("HEAD", f"{where}/scan").status_code == 405
    clients["monitor"].refused(403, "GET", f"{where}/scan")
    assert "somebody else" in coordinator.refused(409, "POST", f"{where}/scan-verification")["detail"]
    verified = investigator.done("POST", f"{where}/scan-verification", headers={"Idempotency-Key": "one"})
    assert (verified["scan_verified_by"], verified["recorded_by"]) == ("investigator_north", "coordinator_north")
    assert investigator.done("POST", f"{where}/scan-verification", headers={"Idempotency-Key": "one"}) == verified
    assert coordinator.done("GET", where) == verified

    pdf = coordinator.get(f"{where}/signed.pdf")
    assert pdf.headers["content-disposition"] == 'attachment; filename="M-001-consent-1.pdf"'
    assert packed("Folder 3") in "".join(text_of(pdf.content))
    clients["data_manager"].refused(403, "GET", f"{where}/signed.pdf")
    shown_of = [row["new"] for row in clients["data_manager"].rows("/audit", params={"action": "identity.shown"})]
    assert len(shown_of) == 2


@pytest.mark.parametrize("scan", [b"", b"MZ\x90 a program", b"<html>"])
def test_what_is_no_scan_is_not_kept(clients, scan):
    (error,) = clients["coordinator"].refused(422, "POST", f"{WHO}/consent-scans", content=scan)["errors"]
    assert (error["field"], error["rule"]) == ("paper_sha256", "media_type")
    clients["assessor"].refused(403, "POST", f"{WHO}/consent-scans", content=SCAN)


def test_what_was_drawn_is_signed_with_the_name(clients):
    coordinator = clients["coordinator"]
    screen = {
        **PAPER,
        "method": "on_screen",
        "signature": "Kiri Walker",
        "strokes": [[10, 10, 60, 90], [20, 20, 30, 30]],
    }
    made = coordinator.done("POST", f"{WHO}/consents", {**screen, "copy_asked": True})
    signed = coordinator.done("GET", f"{WHO}/consents/{made['id']}/signature")
    assert (signed["strokes"], signed["is_intact"]) == (screen["strokes"], True)
    assert coordinator.done("GET", f"{WHO}/consents/{made['id']}/copy")["asked"]
    wrong = coordinator.refused(422, "POST", f"{WHO}/consents", {**screen, "strokes": [[1, 2, 3]]})
    assert [each["field"] for each in wrong["errors"]] == ["strokes"]
