"""What may no source file do? Make SQL of values, programs of what is read, or instants without their time zone."""

import ast
import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import cache

import pytest
from sqlalchemy import DateTime, select
from sqlmodel import Session, SQLModel

from app.audit.actions import ENTRY, Change, record
from app.foundation.database import Instant
from app.foundation.models import import_models
from app.settings import Settings
from tests.conftest import ROOT
from tests.factories import NOW, person

APP = ROOT / "app"


@cache
def sources() -> dict[str, str]:
    """Every module of the application, by its path below app/."""
    return {path.relative_to(APP).as_posix(): path.read_text() for path in sorted(APP.rglob("*.py"))}


def trees(words: str) -> dict[str, ast.Module]:
    """Those in which such words stand at all: reading every module as Python would take seconds."""
    return {name: ast.parse(text) for name, text in sources().items() if re.search(words, text)}


# SQL (SEC-1)

WORDS = r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|PRAGMA|SHOW|ALTER|CREATE|DROP|COPY|SET|GRANT|TRUNCATE|VACUUM|CALL)\b"
SQL = re.compile(WORDS)
# Statements that are put together all the same, of names of our own tables, columns and settings; values never.
OF_OUR_OWN_NAMES = {
    ("audit/actions.py", "INSERT INTO "),
    ("audit/actions.py", "WITH moved AS (UPDATE "),
    ("foundation/backup.py", "SELECT setval(pg_get_serial_sequence('\""),
    ("foundation/database.py", 'COPY "'),
    ("foundation/database.py", "PRAGMA "),
    ("foundation/database.py", "SHOW "),
    ("schedule/actions.py", 'INSERT INTO visit (study_id, participant_id, code, kind, "order", target_on, opens_on, '),
}


def put_together(tree: ast.AST) -> Iterator[str]:
    """The beginning of each statement in SQL that is made of parts as the program runs."""
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr(values=[ast.Constant(value=str(text)), _, *_]):
                pass
            case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Add() | ast.Mod()):
                pass
            case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format" | "format_map")):
                pass
            case _:
                continue
        if SQL.match(text):
            yield text


@pytest.mark.requirement("SEC-1")
def test_no_statement_is_put_together_from_values() -> None:
    found = {(name, text) for name, tree in trees(rf"[\"']{WORDS}").items() for text in put_together(tree)}
    strange = {
        (name, text)
        for name, text in found
        if not any(name == file and text.startswith(beginning) for file, beginning in OF_OUR_OWN_NAMES)
    }
    assert not strange, "Write it with bound parameters, or with the expressions of SQLAlchemy."
    assert len(found) == len(OF_OUR_OWN_NAMES), "An exception that is not needed any more is taken off the list."


@pytest.mark.requirement("SEC-1")
@pytest.mark.parametrize(
    "line",
    [
        "f\"SELECT * FROM person WHERE name = '{name}'\"",
        '"DELETE FROM entry WHERE id = " + number',
        '"UPDATE site SET name = %s" % name',
        '"INSERT INTO site VALUES ({})".format(name)',
        'f"""\n  SELECT {columns}"""',
    ],
)
def test_a_statement_put_together_is_seen(line: str) -> None:
    assert list(put_together(ast.parse(line)))


# Programs made of input (SEC-5)

FORBIDDEN = {"eval", "exec", "compile", "__import__", "from_string", "unsafe_load", "full_load", "load_all", "Template"}
MODULES = {"pickle", "marshal", "shelve", "dill", "code", "codeop"}
# Rows that this very call wrote a moment ago, into a file without a name (see there).
UNPICKLED = {"exports/shaping.py"}


def programs(tree: ast.AST) -> Iterator[str]:
    """What would run, or bring to life, something that is only known as the program runs."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN:
                yield name
            case ast.Call(func=ast.Attribute(value=ast.Name(id="yaml"), attr="load"), keywords=given):
                if not any(each.arg == "Loader" and "Safe" in ast.unparse(each.value) for each in given):
                    yield "yaml.load"
            case ast.Call(func=ast.Attribute(attr=name), keywords=given):
                if name in FORBIDDEN - {"compile", "exec"}:  # of a pattern, and of a session
                    yield name
                if any(each.arg == "shell" and getattr(each.value, "value", None) is not False for each in given):
                    yield "shell"
            case ast.Import(names=names):
                yield from (each.name for each in names if each.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in MODULES:
                yield module


@pytest.mark.requirement("SEC-5")
def test_nothing_that_is_read_becomes_a_program_or_a_template() -> None:
    modules = "|".join(MODULES)
    calls = rf"(?<![.\w])({'|'.join(FORBIDDEN)})\(|\.({'|'.join(FORBIDDEN - {'compile', 'exec'})})\("
    words = rf"{calls}|yaml\.load\(|shell=|import ({modules})\b|from ({modules})\b"
    found = {name: list(programs(tree)) for name, tree in trees(words).items()}
    assert {name for name, each in found.items() if each} == UNPICKLED
    assert found["exports/shaping.py"] == ["pickle"]


@pytest.mark.requirement("SEC-5")
@pytest.mark.parametrize(
    "line",
    [
        "environment.from_string(text)",
        "jinja2.Template(text)",
        "import pickle",
        "from marshal import loads",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_a_program_made_of_input_is_seen(line: str) -> None:
    assert list(programs(ast.parse(line)))


# Instants (FDA-16)


@pytest.mark.requirement("FDA-16")
def test_no_instant_is_without_its_time_zone() -> None:
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "DTZ" in lint["select"], "ruff refuses naive dates and times (flake8-datetimez)"
    left_out = [*lint["ignore"], *(each for file in lint["per-file-ignores"].values() for each in file)]
    assert not [each for each in left_out if each.startswith("DTZ")]
    # DTZ007 is of days and times of day, which have no zone.
    excused = {name for name, text in sources().items() if re.search(r"noqa:.*DTZ(?!007)", text)}
    assert excused == {"expressions/values.py", "exports/formats/workbook.py"}, (
        "clock times that somebody typed, and 1980"
    )
    import_models()
    naive = [
        f"{table.name}.{column.name}"
        for table in SQLModel.metadata.sorted_tables
        for column in table.columns
        if isinstance(getattr(column.type, "impl", column.type), DateTime) and not isinstance(column.type, Instant)
    ]
    assert not naive, "Keep instants as app.foundation.database.Instant."


@pytest.mark.requirement("FDA-16")
def test_an_instant_is_kept_in_utc_wherever_it_was_said(session: Session) -> None:
    by = person(session, None, "administrator", username="admin")
    said = NOW.astimezone(timezone(timedelta(hours=10, minutes=30)))
    record(session, "mini", [Change("thing.changed")], by=by, now=said)
    kept = session.execute(select(ENTRY.c.at).where(ENTRY.c.log == "mini")).scalar_one()
    assert (kept, kept.tzinfo) == (NOW, UTC)
    with pytest.raises(Exception, match="needs a time zone"):
        record(session, "other", [Change("thing.changed")], by=by, now=datetime(2026, 3, 2, 9, 30))  # noqa: DTZ001


# The log cannot be turned off, and no line of the server's own log holds what somebody typed (FDA-13, SEC-46)


@pytest.mark.requirement("EMA-4", "FDA-13", "E6-10")
def test_no_setting_reaches_the_log() -> None:
    """What is not read cannot be set: neither settings nor the environment are looked at where entries are written."""
    writing = {name: text for name, text in sources().items() if name.startswith("audit/")}
    assert not [name for name, text in writing.items() if re.search(r"app\.(settings|dependencies)|environ", text)]
    assert not [name for name in Settings.model_fields if re.search(r"audit|log|trail", name)]
    record_itself = next(
        node
        for node in ast.parse(writing["audit/actions.py"]).body
        if isinstance(node, ast.FunctionDef) and node.name == "record"
    )
    ends = [node for node in ast.walk(record_itself) if isinstance(node, ast.Return)]
    assert len(ends) == 2, "an entry is left out where nothing changed, and waits where several are written together"


PLAIN = re.compile(
    r"(request\.state\.request_id|type\((error|problem)\)\.__name__|(mail\.id|made\.number)|settings\.key_path|code"
    r"|request_id|where|call|wrong_clock|told\((error|problem)\))"
)


@pytest.mark.requirement("SEC-46")
def test_no_line_of_the_servers_log_holds_what_somebody_typed() -> None:
    """Numbers, ids and kinds of errors alone: nothing that is sent begins a line, or stands in one.

    Nor an error with its own words, which `exception` adds by itself: `told` says where it happened.
    """
    said = []
    for name, tree in trees(r"\b(log|lines)\.(debug|info|warn|error|exception|critical)").items():
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log" | "lines"), attr=level), args=[format_, *given]
                ) if level in ("debug", "info", "warning", "error", "exception", "critical"):
                    assert isinstance(format_, ast.Constant), f"{name}:{node.lineno}: a line is a text with places"
                    assert level != "exception", f"{name}:{node.lineno}: its own words stand below the line"
                    said += [(name, ast.unparse(each)) for each in given]
    assert said
    assert not [each for each in said if not PLAIN.fullmatch(each[1])]


# What is installed (SEC-44)


@pytest.mark.requirement("SEC-44")
@pytest.mark.parametrize("lock", ["run.lock", "test.lock", "installer.lock"])
def test_everything_installed_is_one_version_with_its_hashes(lock: str) -> None:
    text = re.sub(r"#.*", "", (ROOT / "requirements" / lock).read_text()).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    assert lines
    for line in lines:
        assert re.match(r"[\w.\[\]-]+==[\w.!+]+ ", line), line
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), line
    assert not re.search(r"://|--(extra-)?index|--find-links", text), "where it comes from is the installation's own"
    if lock == "run.lock":
        wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        names = {re.split(r"[\[><=;]", each)[0].lower() for each in wanted}
        assert names <= {line.split("==")[0].split("[")[0].lower() for line in lines}
    commands = (ROOT / "scripts" / "environment").read_text()
    fetched = re.findall(r"pip (?:install|sync) .*", commands)
    assert fetched
    assert all("--require-hashes" in each or "--no-deps" in each for each in fetched), "all but our own folder"


# Patterns


def test_no_group_of_a_pattern_gives_nothing_back() -> None:
    """Python 3.11.2 lets such a group match what it should not, where something within it is tried in two ways."""
    wanted = re.compile(r"(?<!\\)\)[*+?]\+|\(\?>")
    assert wanted.search("(?:a|b)*+c")
    assert not wanted.search("[ab]*+(?:c|d)+")
    found = {
        f"{name}: {each.value}"
        for name, tree in trees(r"\)[*+?]\+|\(\?>").items()
        for each in ast.walk(tree)
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and wanted.search(each.value)
    }
    assert not found
