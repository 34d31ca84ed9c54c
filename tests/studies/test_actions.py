"""A study is loaded by an administrator, version by version, and a loaded version never changes."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlmodel import Session, col, select

from app.audit.models import AuditEntry
from app.foundation.errors import NotAllowed, NotFound, Refused
from app.people.access import Actor, Grant
from app.people.models import Site
from app.people.permissions import Permission, Role, holders
from app.studies.actions import load_study
from app.studies.definition import Study
from app.studies.loading import library, read_folder
from app.studies.models import StudyRecord, StudyVersion
from app.studies.reads import all_studies, current, definition, study_by_code, versions
from app.studies.rules import fingerprint
from tests.studies.folders import broken, write

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
S = "study.yaml"


def actor(*roles: Role) -> Actor:
    return Actor(1, "ada", "Ada", "Institute", grants=tuple(Grant(role) for role in roles), request_id="r1")


ADMINISTRATOR = actor(Role.ADMINISTRATOR)


@pytest.fixture
def small(tmp_path):
    def small(*edits: tuple[str, str, str]) -> Study:
        study, findings = read_folder(write(tmp_path, broken(*edits)))
        assert study is not None, findings
        return study

    return small


def entries(session: Session, log: str) -> list[AuditEntry]:
    return list(
        session.exec(select(AuditEntry).where(col(AuditEntry.log) == log).order_by(col(AuditEntry.position))).all()
    )


@pytest.mark.requirement("AX11-10")
def test_loading_a_study_keeps_its_version_its_sites_and_its_audit_entries(session, small):
    study = small()
    version = load_study(session, study, by=ADMINISTRATOR, now=NOW)
    record = study_by_code(session, "small")
    assert record is not None
    assert record.version_id == version.id
    assert (version.version, version.sha256, version.loaded_by) == ("1", fingerprint(study), "ada")
    sites = session.exec(select(Site).where(col(Site.study_id) == record.id).order_by(col(Site.code))).all()
    assert [(site.code, site.timezone) for site in sites] == [("north", "Europe/Zurich"), ("south", "UTC")]
    assert [(entry.action, entry.subject) for entry in entries(session, "small")] == [
        ("study.loaded", "version/1"),
        ("site.added", "site/north"),
        ("site.added", "site/south"),
    ]


def test_loading_the_same_again_changes_nothing(session, small):
    first = load_study(session, small(), by=ADMINISTRATOR, now=NOW)
    again = load_study(session, small(), by=ADMINISTRATOR, now=NOW)
    assert again.id == first.id
    assert len(entries(session, "small")) == 3


def test_the_same_version_with_other_content_is_refused(session, small):
    load_study(session, small(), by=ADMINISTRATOR, now=NOW)
    with pytest.raises(Refused, match=r"was loaded with other content.*give the new content a new version"):
        load_study(session, small((S, "title: A small study", "title: Another")), by=ADMINISTRATOR, now=NOW)
    assert len(entries(session, "small")) == 3


def test_an_amendment_is_a_new_version_and_adds_only_new_sites(session, small):
    first = load_study(session, small(), by=ADMINISTRATOR, now=NOW)
    amended = small(
        (S, 'version: "1"', 'version: "2"'),
        (S, "title: A small study", "title: A small study, amended"),
        (S, "  - {code: south,", "  - {code: east, name: East}\n  - {code: south,"),
    )
    second = load_study(session, amended, by=ADMINISTRATOR, now=NOW)
    record = study_by_code(session, "small")
    assert record is not None
    assert record.id is not None
    assert record.title == "A small study, amended"
    assert [version.id for version in versions(session, record.id)] == [first.id, second.id]
    assert current(session, record)[0] == second.id
    assert current(session, record)[1].title == "A small study, amended"
    assert first.id is not None
    assert definition(session, first.id).title == "A small study"
    last = entries(session, "small")[3:]
    assert [(entry.action, entry.subject) for entry in last] == [
        ("study.loaded", "version/2"),
        ("site.added", "site/east"),
    ]
    assert last[0].new is not None
    assert "A small study, amended" in last[0].new


def test_loading_an_earlier_version_again_does_not_go_back(session, small):
    load_study(session, small(), by=ADMINISTRATOR, now=NOW)
    second = load_study(session, small((S, 'version: "1"', 'version: "2"')), by=ADMINISTRATOR, now=NOW)
    load_study(session, small(), by=ADMINISTRATOR, now=NOW)
    record = study_by_code(session, "small")
    assert record is not None
    assert record.version_id == second.id


@pytest.mark.parametrize("role", [role for role in Role if role not in holders(Permission.STUDY_LOAD)])
def test_nobody_else_may_load_a_study(session, small, role):
    with pytest.raises(NotAllowed):
        load_study(session, small(), by=actor(role), now=NOW)
    assert study_by_code(session, "small") is None


def test_a_study_with_contradictions_is_refused_even_when_nobody_read_its_folder(session, small):
    study = small()
    broken_study = study.model_copy(update={"outcomes": (study.outcomes[0].model_copy(update={"item": "nope"}),)})
    with pytest.raises(Refused, match="form has no item “nope”"):
        load_study(session, broken_study, by=ADMINISTRATOR, now=NOW)


def test_nothing_is_stored_when_the_audit_entry_cannot_be(database, small, monkeypatch):
    def fail(*arguments, **keywords):
        raise RuntimeError("no audit")

    monkeypatch.setattr("app.studies.actions.record", fail)
    with pytest.raises(RuntimeError), database.writing() as session:
        load_study(session, small(), by=ADMINISTRATOR, now=NOW)
    with database.reading() as session:
        assert all_studies(session) == []
        assert session.exec(select(Site)).all() == []


@pytest.mark.requirement("AX11-10")
def test_a_loaded_version_cannot_be_changed_or_removed(database, small):
    with database.writing() as session:
        version = load_study(session, small(), by=ADMINISTRATOR, now=NOW)
    for statement in ("UPDATE study_version SET definition = '{}'", "DELETE FROM study_version"):
        with pytest.raises(Exception, match=r"(?i)study|never|immutable|changed"), database.writing() as session:
            session.execute(text(statement))
    with database.reading() as session:
        assert version.id is not None
        assert definition(session, version.id).code == "small"


def test_a_definition_is_parsed_once_and_cannot_be_changed(database, small):
    with database.writing() as session:
        version = load_study(session, small(), by=ADMINISTRATOR, now=NOW)
    assert version.id is not None
    with database.reading() as one:
        first = definition(one, version.id)
    with database.reading() as two:
        assert definition(two, version.id) is first
    with pytest.raises(ValueError, match="frozen"):
        setattr(first, "title", "Other")  # noqa: B010


def test_a_definition_that_was_rolled_back_is_not_remembered(database, small):
    with database.writing() as session:
        version = load_study(session, small(), by=ADMINISTRATOR, now=NOW)
        assert version.id is not None
        assert definition(session, version.id).title == "A small study"
        session.rollback()
    with database.writing() as session:
        other = load_study(session, small((S, "A small study", "Another one")), by=ADMINISTRATOR, now=NOW)
    with database.reading() as session:
        assert other.id is not None
        assert definition(session, other.id).title == "Another one"


def test_a_definition_changed_behind_our_back_is_not_used(session, small):
    study = small((S, "A small study", "Never read before"))
    record = StudyRecord(code="small", title="Small")
    session.add(record)
    session.flush()
    assert record.id is not None
    forged = StudyVersion(
        study_id=record.id, version="1", sha256=fingerprint(study), definition="{}", loaded_at=NOW, loaded_by="x"
    )
    session.add(forged)
    session.flush()
    assert forged.id is not None
    with pytest.raises(Refused, match="fingerprint"):
        definition(session, forged.id)


def test_what_is_not_there_is_not_found(session):
    assert study_by_code(session, "none") is None
    with pytest.raises(NotFound):
        definition(session, 999_999)
    with pytest.raises(NotFound):
        current(session, StudyRecord(code="x", title="X"))


def test_the_whole_library_loads(session):
    for folder in library():
        study, _ = read_folder(folder)
        assert study is not None
        load_study(session, study, by=ADMINISTRATOR, now=NOW)
    assert [record.code for record in all_studies(session)] == ["etmi", "prt", "resolve"]
    resolve = study_by_code(session, "resolve")
    assert resolve is not None
    assert current(session, resolve)[1].target == 276
