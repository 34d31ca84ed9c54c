"""The command line, as somebody types it who runs an installation."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from app.audit import software
from app.audit.actions import ENTRY
from app.cli import app
from app.foundation.clock import now
from app.installation import open_database
from app.people.actions import accept_invitation
from app.settings import Settings
from tests.conftest import ROOT, run
from tests.randomisation.test_escrow import PRIVATE, pem_of, private_pem

LIBRARY = ROOT / "app" / "studies" / "library"
PASSWORD = "seven quiet herons wading"
UNIT = ("--organisation", "Test unit")


class Installation:
    """A new installation in a folder, used through its command line only."""

    def __init__(self, folder: Path) -> None:
        self.environment = {"EQUIPOISE_DATA": str(folder), "EQUIPOISE_PASSWORD": PASSWORD, "NO_COLOR": "1"}
        self.folder = folder

    def __call__(self, *arguments: object, code: int = 0) -> str:
        done = CliRunner().invoke(app, list(map(str, arguments)), env=self.environment, catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done.output


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a new installation, to be copied."""
    folder = tmp_path_factory.mktemp("installed") / "var"
    Installation(folder)("migrate")
    return folder


@pytest.fixture
def equipoise(installed: Path, tmp_path: Path) -> Installation:
    shutil.copytree(installed, tmp_path / "var")
    return Installation(tmp_path / "var")


def _statistician(equipoise: Installation, username: str = "sam", role: str = "statistician@resolve") -> None:
    link = equipoise(
        "user",
        "add",
        username,
        "--name",
        "Sam Okafor",
        "--email",
        f"{username}@example.org",
        *UNIT,
        "--role",
        role,
    )
    token = link.strip().rsplit("/", 1)[-1]
    settings = Settings(data=equipoise.folder)
    with open_database(settings).writing() as session:
        assert accept_invitation(session, token, PASSWORD, now=now()) is None


def test_the_command_runs_as_a_program_of_its_own(tmp_path: Path) -> None:
    done = run("study", "check", str(LIBRARY / "etmi"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no errors" in done.stdout


def test_a_good_study_folder_is_said_to_be_good(equipoise: Installation) -> None:
    assert "no errors" in equipoise("study", "check", LIBRARY / "resolve")


def test_every_error_of_a_folder_is_reported_with_file_and_line(equipoise: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(LIBRARY / "resolve", folder)
    study = folder / "study.yaml"
    study.write_text(study.read_text().replace("target: 276", "target: many").replace("blinded: true", "blindd: true"))
    pain = folder / "instruments" / "pain.yaml"
    pain.write_text(pain.read_text().replace("max: 10", "max: ten"))
    said = equipoise("study", "check", folder, code=1)
    assert len(re.findall(r"^\S*study\.yaml:\d+:\d+: error: ", said, re.M)) >= 2
    assert re.search(r"^\S*pain\.yaml:\d+:\d+: error: ", said, re.M)
    assert "Nothing can be loaded" in said
    assert "has errors" in equipoise("study", "load", folder, code=1)


def test_an_installation_from_nothing_to_a_verified_restored_backup(equipoise: Installation, tmp_path: Path) -> None:
    assert "resolve version 1.1" in equipoise("study", "load", LIBRARY / "resolve")
    licensed = tmp_path / "wording" / "pain.en.yaml"
    licensed.parent.mkdir()
    licensed.write_text("items: [{code: pain_intensity, label: As the authors word it}]\n")
    assert "1 wordings are in use, 1 of them changed" in equipoise("study", "wording", "resolve", licensed.parent)
    licensed.write_text("items: [{code: pain_intensty, label: As the authors word it}]\n")
    assert "pain.en.yaml:1:16: error" in equipoise("study", "wording", "resolve", licensed.parent, code=1)
    _statistician(equipoise)
    assert "resolve has no sequence 1." in equipoise("sequence", "seal", "resolve", 1, "--by", "sam", code=1)
    drawn = equipoise(
        "sequence", "draw", "resolve", "--by", "sam", "--block-size", 4, "--block-size", 6, "--slots", 276
    )
    version = re.search(r"Sequence (\d+)", drawn)
    assert version
    assert "Sealed" in equipoise("sequence", "seal", "resolve", version[1], "--by", "sam")
    token = equipoise("token", "create", "sam", "resolve", "--name", "script", "--scope", "export.run", "--days", 30)
    assert token.startswith("eqp_")
    digits = equipoise("token", "create", "sam", "resolve", "--name", "R", "--scope", "export.run", "--redcap")
    assert re.fullmatch("[0-9A-F]{32}", digits.strip())
    limited = ("token", "create", "sam", "resolve", "--name", "R", "--scope", "export.run", "--site", "neura")
    assert "Choose among the sites" in equipoise(*limited, code=1)  # who draws works at no site
    _statistician(equipoise, "ada", "administrator")
    builds = equipoise("token", "create", "ada", "resolve", "--name", "Builder", "--super")
    assert re.fullmatch("[0-9A-F]{64}", builds.strip())
    assert "role administrator" in equipoise("token", "create", "sam", "resolve", "--name", "B", "--super", code=1)
    assert "intact" in equipoise("audit", "verify")
    assert list((equipoise.folder / "checkpoints").glob("resolve-*.checkpoint"))
    archive = tmp_path / "b.zip"
    assert "rows" in equipoise("backup", archive)
    equipoise("audit", "export", "resolve", tmp_path / "resolve.log")
    other = Installation(tmp_path / "other")
    other.folder.mkdir()
    shutil.copy(equipoise.folder / "equipoise.key", other.folder)
    assert "Nobody is randomised until" in other("restore", archive)
    assert "Say which backup" in other("audit", "reconcile", "resolve", "--why", " ", code=1)
    assert "Reconciled" in other("audit", "reconcile", "resolve", "--why", "The nightly backup; nobody came since")
    assert "nothing to reconcile" in other("audit", "reconcile", "resolve", "--why", "Again", code=1)
    assert "intact" in other("audit", "verify")
    first = json.loads((tmp_path / "resolve.log").read_text().splitlines()[0])
    assert first[0] == "equipoise-audit-1"


@pytest.mark.requirement("RND-9", "CONC-3")
def test_a_seed_is_escrowed_and_a_pack_made_and_closed_on_the_command_line(
    equipoise: Installation, tmp_path: Path
) -> None:
    equipoise("study", "load", LIBRARY / "resolve")
    _statistician(equipoise)
    by = ("--by", "sam")
    (tmp_path / "private.pem").write_bytes(private_pem(PRIVATE))
    (tmp_path / "public.pem").write_text(pem_of(PRIVATE))
    assert "private key" in equipoise("sequence", "escrow-key", "resolve", tmp_path / "private.pem", *by, code=1)
    assert "RSA, 3072 bits" in equipoise("sequence", "escrow-key", "resolve", tmp_path / "public.pem", *by)
    equipoise("sequence", "draw", "resolve", *by, "--block-size", 4, "--slots", 20)
    equipoise("sequence", "seal", "resolve", 1, *by)
    assert "openssl cms -decrypt" in equipoise("sequence", "escrow", "resolve", 1, tmp_path / "e.pem", *by)
    assert (tmp_path / "e.pem").read_text().startswith("-----BEGIN CMS-----")
    folder = tmp_path / "pack"
    pack = ("sequence", "pack", "resolve", "neura", 2, folder, *by, "--why", "Power cuts")
    assert "not an empty folder" in equipoise(*pack, code=1)
    folder.mkdir()
    said = equipoise(*pack)
    assert "Pack 1: 2 slips" in said
    assert sorted(path.name for path in folder.iterdir()) == [
        "resolve-downtime-1-letter.pdf",
        "resolve-downtime-1-slips.pdf",
        "resolve-downtime-1.html",
    ]
    reconcile = ("sequence", "reconcile", "resolve", 1, *by)
    assert equipoise(*reconcile).count("reserved") == 2
    assert "earlier one is not yet entered" in equipoise(*reconcile, "--void", 2, "--why", "Lost", code=1)
    assert "Say why" in equipoise(*reconcile, "--void", 1, code=1)
    assert equipoise(*reconcile, "--void", 1, "--why", "Lost").count("void") == 1
    assert "not both" in equipoise(*reconcile, "--void", 2, "--close", "--why", "Lost", code=1)
    assert equipoise(*reconcile, "--close", "--why", "Never needed").count("void") == 2


def test_the_options_of_the_studys_own_method_are_given_on_the_command_line(
    equipoise: Installation, tmp_path: Path
) -> None:
    folder = tmp_path / "resolve"
    shutil.copytree(LIBRARY / "resolve", folder)
    study = folder / "study.yaml"
    study.write_text(study.read_text().replace("method: permuted_blocks", "method: big_stick"))
    equipoise("study", "load", folder)
    _statistician(equipoise)
    asked = ("sequence", "draw", "resolve", "--by", "sam", "--slots", 33)
    assert "`tolerance` is a whole number" in equipoise(*asked, code=1)
    assert "33 slots" in equipoise(*asked, "--tolerance", 3)
    assert "Choose a method of its plan" in equipoise(*asked, "--method", "simple", code=1)


def test_a_batch_of_sites_is_named_on_the_command_line(equipoise: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "resolve"
    shutil.copytree(LIBRARY / "resolve", folder)
    study = folder / "study.yaml"
    text = study.read_text().replace("method: permuted_blocks", "method: cluster")
    study.write_text(text.replace("method: cluster", "method: cluster\n  strata: [{code: site, label: Site}]"))
    equipoise("study", "load", folder)
    _statistician(equipoise)
    asked = ("sequence", "draw", "resolve", "--by", "sam", "--slots", 300)
    assert "no site “nowhere”" in equipoise(*asked, "--site", "nowhere", code=1)
    assert "Sequence 1: 300 slots" in equipoise(*asked, "--site", "neura")
    assert "No sequence is in use" in equipoise(*asked, "--further", code=1)


def test_which_scopes_there_are_is_said_before_a_password_is_asked_for(equipoise: Installation) -> None:
    equipoise.environment.pop("EQUIPOISE_PASSWORD", None)
    asked = ("token", "create", "sam", "resolve", "--name", "script")
    for scopes, why in (((), "Choose at least one scope."), (("--scope", "export"), "There is no scope export.")):
        said = equipoise(*asked, *scopes, code=1)
        assert why in said
        assert "Password" not in said
        assert re.search(r"^  export\.run +\S", said, re.M)
        assert "Export: --scope export.run --scope study.read" in said
        assert "token.create" not in said, "no token is ever given it"


@pytest.mark.requirement("SEC-7")
def test_a_study_that_asks_for_a_second_factor_asks_for_it_here_too(equipoise: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "resolve"
    shutil.copytree(LIBRARY / "resolve", folder)
    study = folder / "study.yaml"
    study.write_text(study.read_text() + "\nsecond_factor: required\n")
    equipoise("study", "load", folder)
    _statistician(equipoise)
    asked = ("sequence", "draw", "resolve", "--by", "sam", "--block-size", 4, "--slots", 8)
    assert "asks for a second factor" in equipoise(*asked, code=1)
    assert "asks for a second factor" in equipoise(
        "token", "create", "sam", "resolve", "--name", "s", "--scope", "export.run", code=1
    )


def test_wrong_passwords_and_wrong_roles_draw_nothing(equipoise: Installation) -> None:
    equipoise("study", "load", LIBRARY / "resolve")
    _statistician(equipoise)
    equipoise.environment["EQUIPOISE_PASSWORD"] = "another password altogether"
    said = equipoise("sequence", "draw", "resolve", "--by", "sam", "--block-size", 4, "--slots", 8, code=1)
    assert "not right" in said
    assert "There is no role" in equipoise(
        "user",
        "add",
        "xavier",
        "--name",
        "Xavier",
        "--email",
        "x@example.org",
        *UNIT,
        "--role",
        "captain@resolve",
        code=1,
    )


@pytest.mark.requirement("LOG-6")
def test_a_database_that_was_rolled_back_is_found_out(equipoise: Installation, tmp_path: Path) -> None:
    equipoise("study", "load", LIBRARY / "etmi")
    shutil.copytree(equipoise.folder, tmp_path / "old")
    equipoise("study", "load", LIBRARY / "prt")
    equipoise("user", "add", "xavier", "--name", "Xavier", "--email", "x@example.org", *UNIT)
    equipoise("audit", "verify")
    for name in equipoise.folder.glob("equipoise.db*"):
        name.unlink()
    for name in (tmp_path / "old").glob("equipoise.db*"):
        shutil.copy(name, equipoise.folder)
    assert "cut short" in equipoise("audit", "verify", code=1)


@pytest.mark.requirement("LOG-11", "SEC-38")
def test_the_key_of_the_logs_is_replaced_and_an_interrupted_replacement_completed(
    equipoise: Installation, tmp_path: Path
) -> None:
    equipoise("study", "load", LIBRARY / "resolve")
    equipoise("audit", "verify")
    (first,) = equipoise("audit", "keys", "resolve").splitlines()
    assert first.endswith("  from the beginning")
    assert "There is no log nowhere" in equipoise("audit", "keys", "nowhere", code=1)
    replace = ("key", "replace-signing", "--why")
    assert "Say why the key is replaced" in equipoise(*replace, " ", code=1)
    folder = equipoise.folder / "checkpoints"
    before = set(folder.iterdir())
    said = equipoise(*replace, "Somebody had a copy")
    *old, new = equipoise("audit", "keys", "resolve").splitlines()
    assert old == [first]
    assert (new.split("  ")[0] in said, "from entry" in new, new.endswith(" UTC")) == (True, True, True)
    made = set(folder.iterdir()) - before
    assert len([path for path in made if path.name.startswith("resolve-")]) == 1  # the last of the old one was there
    assert "intact" in equipoise("audit", "verify")
    # As it is when the process ends just after the commit.
    for path in made:
        path.unlink()
    assert "intact" in equipoise("audit", "verify", "system")
    assert "was interrupted" in equipoise(*replace, "Somebody had a copy")
    assert {path.name for path in made} <= {path.name for path in folder.iterdir()}
    assert equipoise("audit", "keys", "resolve").splitlines() == [first, new]
    equipoise(*replace, "Another reason")
    assert len(equipoise("audit", "keys", "system").splitlines()) == 3
    assert "intact" in equipoise("audit", "verify")
    # Whoever trusts nobody, with a key and a checkpoint from before.
    equipoise("audit", "export", "resolve", tmp_path / "resolve.log")
    old_ones = sorted(before, key=lambda path: path.name)
    given = [tmp_path / "resolve.log", *(path for path in old_ones if path.name.startswith("resolve-"))]
    program = [
        sys.executable,
        "-I",
        "-S",
        str(ROOT / "scripts" / "verify_audit.py"),
        *map(str, given),
        first.split("  ")[0],
    ]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, "signed with 3 key(s): intact." in done.stdout) == (0, True), done.stdout + done.stderr


def test_a_lost_key_is_said_and_never_replaced(equipoise: Installation) -> None:
    (equipoise.folder / "equipoise.key").unlink()
    assert "Put the key file back" in equipoise("migrate", code=1)
    assert not (equipoise.folder / "equipoise.key").exists()


@pytest.mark.requirement("P11-k")
def test_the_log_says_from_when_on_which_version_was_installed(equipoise: Installation, monkeypatch) -> None:
    def written() -> list[tuple[str, str | None, str]]:
        settings = Settings(data=equipoise.folder)
        database = open_database(settings)
        query = select(ENTRY.c.log, ENTRY.c.old, ENTRY.c.new).where(ENTRY.c.action == "software.installed")
        with database.reading() as session:
            found = [tuple(row) for row in session.execute(query.order_by(ENTRY.c.position))]
        database.dispose()
        return found

    first = f'"{version("equipoise")}"'
    equipoise("migrate")
    assert written() == []  # a backup can still be restored here
    for name in ("ada", "bert"):
        _statistician(equipoise, name, "administrator")
        equipoise("migrate")
    assert written() == [("system", None, first)]
    monkeypatch.setattr(software, "version", lambda _: "9.9.9")
    equipoise("migrate")
    equipoise("migrate")
    assert written() == [("system", None, first), ("system", first, '"9.9.9"')]
    assert "intact" in equipoise("audit", "verify")
