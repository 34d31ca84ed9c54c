"""Does a database of an earlier schema come through every migration as it was, and through one that is interrupted?

Each file of data/ holds the rows of a small trial as that version wrote them: its first line says with which schema.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, Table, event, insert, inspect, select, text
from sqlmodel import Session

from app.audit.verify import verify
from app.capture.reads import answers_of, entry_of, history
from app.capture.rules import signature_holds
from app.consent.reads import consents_of, is_intact
from app.foundation.database import Database
from app.installation import migrate
from app.participants.identity import open_identity
from app.participants.models import Participant
from app.randomisation.reads import allocations
from app.studies.in_use import StudyInUse
from app.studies.reads import definition, study_by_code
from tests.conftest import KEYS, ROOT, _address, _new_postgres
from tests.factories import NOW, person

FILES = sorted((Path(__file__).parent / "data").glob("*.jsonl"))
Content = dict[str, list[tuple[Any, ...]]]


def _value(kept: Any, is_sqlite: bool) -> Any:
    match kept:
        case {"bytes": said}:
            return base64.b64decode(said)
        case {"instant": said}:
            at = datetime.fromisoformat(said)
            return at.astimezone(UTC).replace(tzinfo=None) if is_sqlite else at
        case {"date": said}:
            return date.fromisoformat(said)
        case _:
            return kept


@dataclass
class Earlier:
    """A database as an earlier version left it, with the tables that version had."""

    database: Database
    said: dict[str, Any]
    tables: MetaData

    def content(self, connection: Connection) -> Content:
        """Every row, in the columns that there were."""
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
            for table in self.tables.sorted_tables
            if table.name != "alembic_version"
        }

    def everything(self) -> tuple[list[str], str, Content]:
        """The names of all tables, the revision, and the rows."""
        with self.database.engine.connect() as connection:
            names = sorted(inspect(connection).get_table_names())
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
            return names, str(revision), self.content(connection)


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def earlier(request: pytest.FixtureRequest, kind: str, tmp_path: Path, worker: str) -> Iterator[Earlier]:
    if kind == "sqlite":
        database = Database(f"sqlite:///{tmp_path / 'equipoise.db'}", KEYS)
    else:
        database = Database(_new_postgres(_address(request.config), f"earlier_{worker}"), KEYS)
    first, *rows = (json.loads(line) for line in request.param.read_text().splitlines())
    tables = MetaData()
    with database.engine.begin() as connection:
        config = Config(ROOT / "alembic.ini")
        config.attributes["connection"] = connection
        command.upgrade(config, first["revision"])
        tables.reflect(connection)
        for name, row in rows:
            values = {column: _value(kept, database.is_sqlite) for column, kept in row.items()}
            connection.execute(insert(tables.tables[name]).values(values))
        if not database.is_sqlite:
            for table in tables.sorted_tables:
                if "id" in table.c:
                    counter = f"pg_get_serial_sequence('\"{table.name}\"', 'id')"
                    connection.execute(text(f'SELECT setval({counter}, (SELECT max(id) + 1 FROM "{table.name}"))'))
    yield Earlier(database, first, tables)
    database.dispose()


def in_use(session: Session) -> StudyInUse:
    record = study_by_code(session, "mini")
    assert record is not None
    assert record.version_id is not None
    return StudyInUse(record.id or 0, record.code, record.version_id, definition(session, record.version_id))


def reads_as_it_was(earlier: Earlier) -> None:
    """What that version wrote is opened, shown and verified by this one."""
    with earlier.database.writing() as session:
        assert verify(session, "mini").intact
        study = in_use(session)
        people = {each.code: each for each in session.execute(select(Participant)).scalars()}
        first, other = people["M-001"], people["M-002"]
        assert {code: each.status for code, each in people.items()} == {
            "M-001": "randomised",
            "M-002": "randomised",
            "M-003": "withdrawn",
            "M-004": "screen_failed",
        }
        answers = answers_of(session, study, first.id or 0)
        assert answers["baseline", "pain_nrs"] == 6
        assert answers["baseline", "pain_days"] == {"missing": "ND"}
        assert answers["baseline", "pain_note"] == "ümlaut, =1+1"
        entry = entry_of(session, first.id or 0, "baseline", "pain")
        assert entry is not None
        assert signature_holds(entry)
        lines = history(session, study, first.code, "baseline", "pain", "pain_nrs")
        assert sorted((line.old, line.new, line.why) for line in lines if line.old is not None) == [(5, 6, "Misread")]
        for each in (first, other):
            (consent,) = consents_of(session, each.id or 0)
            assert is_intact(session, study, consent, each)
            opened = open_identity(session, each.id or 0)
            assert opened is not None
            assert "Lovelace" in repr(vars(opened[1].personal))
        statistician = person(session, study, "statistician", site_code=None, username="later")
        arms = {row.participant: row.arm for row in allocations(session, study, by=statistician, why="x", now=NOW)}
        assert arms == earlier.said["arms"]


@pytest.mark.requirement("REL-19", "FDA-5", "EMA-13", "P11-c", "AX11-4", "E6-14")
def test_everything_that_was_comes_through_the_migrations_interrupted_or_not(earlier: Earlier) -> None:
    before = earlier.everything()
    assert before[1] == earlier.said["revision"]
    statements = 0

    def cut_off(connection: Any, _cursor: Any, _statement: str, parameters: Any, _c: Any, _m: Any) -> Any:
        nonlocal statements
        statements += 1
        if statements == after:
            connection.connection.driver_connection.close()  # as when the process is killed: nobody says ROLLBACK

    event.listen(earlier.database.engine, "before_cursor_execute", cut_off)
    for after in (40, 120):
        statements = 0
        with pytest.raises(Exception, match=r"clos"):
            migrate(earlier.database)
        assert statements >= after
        earlier.database.dispose()
        after = 0
        assert earlier.everything() == before
    migrate(earlier.database)
    names, revision, content = earlier.everything()
    assert revision != before[1]
    assert set(names) > set(before[0])
    assert content == before[2]
    reads_as_it_was(earlier)


def test_only_of_a_changed_file_of_a_draft_it_is_not_known_what_it_said(earlier: Earlier) -> None:
    files: dict[str, dict[str, Any]] = {
        "added": {"version": 1, "before": None},
        "changed": {"version": 3, "before": "other"},
        "nobody knows": {"version": 2, "before": None},
        "taken out": {"version": 2, "before": None, "removed_at": NOW, "removed_by": "ada"},
    }
    with earlier.database.engine.begin() as connection:
        config = Config(ROOT / "alembic.ini")
        config.attributes["connection"] = connection
        command.upgrade(config, "copies_and_errors")
        tables = MetaData()
        tables.reflect(connection, only=["study_draft", "study_draft_file"])
        said: dict[str, Any] = {"id": 7, "name": "Old", "origin": "smallest", "made_at": NOW, "made_by": "ada"}
        connection.execute(insert(tables.tables["study_draft"]).values(said))
        for path, kept in files.items():
            common = {"draft_id": 7, "path": path, "text": "now", "changed_at": NOW, "changed_by": "ada"}
            connection.execute(insert(tables.tables["study_draft_file"]).values({**common, **kept}))
    migrate(earlier.database)
    with earlier.database.engine.connect() as connection:
        rows = connection.execute(text("SELECT path, before, text FROM study_draft_file")).all()
    assert {row[0]: row[1] for row in rows} == {
        "added": None,
        "changed": "other",
        "nobody knows": "now",
        "taken out": None,
    }
    assert {row[2] for row in rows} == {"now"}


def test_where_an_entry_stands_in_verification_is_told_by_what_was_verified_of_it(earlier: Earlier) -> None:
    standing = {
        "nothing": ("{}", None, "unverified"),
        "some": ('{"pain_nrs":{"by":"m"}}', None, "unverified"),
        "changed": ('{"changed":{"by":"m"},"pain_nrs":{"by":"m","changed":2}}', None, "changed"),
        "whole": ('{"changed":{"by":"m"}}', NOW, "verified"),  # an item may be called so
        "changed once": ('{"changed":{"by":"m"}}', None, "unverified"),
    }
    with earlier.database.engine.begin() as connection:
        config = Config(ROOT / "alembic.ini")
        config.attributes["connection"] = connection
        command.upgrade(config, "draft_pages")
        entry = Table("entry", MetaData(), autoload_with=connection)
        (one,) = connection.execute(select(entry).limit(1)).mappings().all()
        kept = {column: said for column, said in one.items() if column != "id"}
        for name, (verified, at, _) in standing.items():
            connection.execute(insert(entry).values({**kept, "visit": name, "verified": verified, "verified_at": at}))
        connection.execute(insert(entry).values({**kept, "visit": "empty", "values": "{}", "verified": "{}"}))
    migrate(earlier.database)
    with earlier.database.engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT e.visit, e.verification, e.site_id = p.site_id FROM entry e "
                "JOIN participant p ON p.id = e.participant_id"
            )
        ).all()
    found = {row[0]: row[1] for row in rows}
    assert all(row[2] for row in rows), "each at the site of its participant"
    assert {name: found[name] for name in standing} == {name: said for name, (_, _, said) in standing.items()}
    assert found["empty"] is None
