"""What can be done from the command line? `equipoise ...`, for those who run an installation."""

import getpass
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlmodel import Session

from app import installation
from app.amendments import actions as amendments
from app.amendments import reads as amended
from app.amendments.words import effect_in_words
from app.audit import checkpoints, newest, replacing, signing, software, verify
from app.audit.actions import Change, record
from app.audit.models import SYSTEM_LOG
from app.capture.coding import actions as coding
from app.foundation import backup as archive
from app.foundation import clock
from app.foundation.crypto.keys import KeyMissing, rewrap_key_file
from app.foundation.crypto.masters import MasterFailed, master_from
from app.foundation.database import Database, UnsafeDatabase
from app.foundation.errors import NotFound, Problem
from app.people import actions as people
from app.people import reads as persons
from app.people.access import Actor, Grant
from app.people.permissions import Permission, Role
from app.people.rules import NOT_FOR_TOKENS, why_not_scopes
from app.people.scopes import PRESETS, grouped
from app.randomisation import actions as randomisation
from app.randomisation import commitment
from app.randomisation import reads as sequences
from app.randomisation.downtime import actions as downtime
from app.randomisation.downtime import reads as downtime_reads
from app.randomisation.escrow.actions import store_key, take_escrow
from app.settings import Settings
from app.studies import actions as studies
from app.studies.definition import Study
from app.studies.in_use import StudyInUse, study_in_use
from app.studies.loading import read_folder, read_terms, read_wording
from app.studies.rules import differences
from app.studies.rules.amending import forbidden

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Runs randomised clinical trials."
)
study_app = typer.Typer(no_args_is_help=True, help="Check, load and compare study folders; amend a study that runs.")
user_app = typer.Typer(no_args_is_help=True, help="People who sign in.")
token_app = typer.Typer(no_args_is_help=True, help="Keys for programs.")
sequence_app = typer.Typer(no_args_is_help=True, help="Draw and seal the allocation sequence (statistician).")
key_app = typer.Typer(no_args_is_help=True, help="The root key, the master key that wraps it, and the key that signs.")
audit_app = typer.Typer(no_args_is_help=True, help="The audit log.")
data_app = typer.Typer(no_args_is_help=True, help="Data that others collected.")
export_app = typer.Typer(no_args_is_help=True, help="Files that were exported.")
app.add_typer(study_app, name="study")
app.add_typer(user_app, name="user")
app.add_typer(token_app, name="token")
app.add_typer(sequence_app, name="sequence")
app.add_typer(key_app, name="key")
app.add_typer(audit_app, name="audit")
app.add_typer(data_app, name="data")
app.add_typer(export_app, name="export")

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


def fail(words: str) -> NoReturn:
    """Say what is wrong and what to do, and end with 1."""
    err.print(words, style="red", markup=False)
    raise typer.Exit(1)


def open_database(settings: Settings, *, create: bool = False) -> Database:
    """The database of the settings, or a sentence that says what is missing."""
    try:
        return installation.open_database(settings, create=create)
    except (KeyMissing, MasterFailed) as problem:
        fail(str(problem))


def operator() -> Actor:
    """Whoever has a shell on the machine: may set up, not see clinical data."""
    name = f"operator:{getpass.getuser()}"
    return Actor(
        person_id=0,
        username=name,
        name=name,
        organisation="",
        grants=(Grant(Role.ADMINISTRATOR),),
        request_id=f"cli-{os.getpid()}",
        via="cli",
    )


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="TCP port.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Serve the application. Put a TLS proxy in front of it, or bind it to loopback only."""
    import uvicorn

    settings = Settings()
    database = open_database(settings)
    try:
        database.refuse_unsafe_settings()
    except UnsafeDatabase as problem:
        fail(str(problem))
    finally:
        database.dispose()
    out.print(f"Equipoise listens at http://{host}:{port}. Stop with Ctrl+C.")
    uvicorn.run(
        "app.installation:application",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        loop="app.listening:ShortestQueue",
        access_log=False,
        server_header=False,
        date_header=True,
        log_level="warning",
        proxy_headers=settings.trusted_proxies is not None,
        forwarded_allow_ips=settings.trusted_proxies,
        log_config=installation.log_config(),
    )


@app.command()
def migrate() -> None:
    """Make or update the database's tables. Makes a key file where nothing is there yet.

    The system's log keeps which version was installed, from the first person on: before, a backup can be restored here.
    """
    settings = Settings()
    database = open_database(settings, create=True)
    installation.migrate(database)
    with database.writing() as session:
        if software.begun(session):
            software.record_installed(session, by=operator(), now=clock.now())
    out.print("The database is up to date.")


@data_app.command("import")
def data_import(
    study: str,
    file: Annotated[Path, typer.Argument(help="A CSV file, in UTF-8 or UTF-16.")],
    by: Annotated[str, typer.Option(help="Username of who imports; their password is asked for.")],
    mapping: Annotated[
        str | None,
        typer.Option(help="The name of a mapping that is kept, or a JSON file. None: by the columns' names."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Try all of it, and take it back.")] = False,
    rows: Annotated[bool, typer.Option("--row-by-row", help="Each row stands by itself.")] = False,
    why: Annotated[str | None, typer.Option(help="Why saved answers change.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write what came of each row here, a line of JSON each.")] = None,
) -> None:
    """Import a file's rows by the same acts as on the pages. Ends with 1 when a row was refused."""
    from app import importing
    from app.imports import actions as imports
    from app.imports import reads as kept
    from app.imports.rules import guessed, read_csv, read_mapping, require_who, text_of

    settings = Settings()
    database = open_database(settings)
    data = file.read_bytes()
    with reported(), database.writing() as session:
        in_use = study_in_use(session, study)
        actor = act_as(session, by, in_use)
        header, lines = read_csv(text_of(data))
        if mapping is None:
            meaning = guessed(in_use.definition, header, lines)
        elif Path(mapping).is_file():
            meaning = read_mapping(json.loads(Path(mapping).read_text(encoding="utf-8")))
        else:
            meaning = kept.mapping_named(session, in_use, mapping, by=actor)
        require_who(meaning, header)
        done = importing.carry_out(
            session,
            in_use,
            lines,
            meaning.model_copy(update={"why": why}) if why else meaning,
            origin=imports.origin(file.name, data),
            dry_run=dry_run,
            all_or_nothing=not rows,
            signs=True,
            newest=newest.newest_in(settings.checkpoints, database.keys, in_use.code),
            by=actor,
            now=clock.now(),
        )
    if done.imported and meaning.randomise_after:
        with database.reading() as session:
            newest.remember(settings.checkpoints, session, in_use.code)
    for each in done.refusals:
        where = " ".join(filter(None, (each.participant, each.visit, each.instrument)))
        for error in each.errors:
            out.print(f"row {each.row}: {where}: {error['field']} {error['message']}", markup=False)
    if report is not None:
        report.write_text("".join(f"{line}\n" for line in done.lines()), encoding="utf-8")
    said = ", ".join(f"{number} {name}" for name, number in done.counts.items())
    out.print(f"{'Imported' if done.imported else 'Nothing was imported'}: {said}.", markup=False)
    if done.is_refused:
        raise typer.Exit(1)


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="TCP port.")] = 8000,
    data: Annotated[Path, typer.Option(help="Folder of the demo's database and key.")] = Path("var/demo"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw the demo's data away first.")] = False,
    participants: Annotated[int, typer.Option(min=0, max=276, help="How many are randomised.")] = 276,
) -> None:
    """Start RESOLVE with a simulated cohort on embedded SQLite, and print one sign-in per role."""
    from app.demo import serve_demo

    serve_demo(port=port, data=data, fresh=fresh, participants=participants, console=out)


@study_app.command("check")
def study_check(folder: Path) -> None:
    """Report every error of a study folder, with file and line."""
    study, findings = read_folder(folder)
    for finding in findings:
        out.print(
            f"{finding.file}:{finding.line}:{finding.column}: {finding.severity}: {finding.message}", markup=False
        )
    errors = sum(finding.severity == "error" for finding in findings)
    if errors or study is None:
        fail(f"{errors} error{'s' if errors != 1 else ''}. Nothing can be loaded until they are mended.")
    out.print(
        f"{study.short_title} version {study.version}: no errors. "
        f"{len(study.visits)} visits, {len(study.instruments)} instruments.",
        markup=False,
    )


@study_app.command("load")
def study_load(folder: Path) -> None:
    """Load a study folder as a new, immutable version."""
    study, findings = read_folder(folder)
    if study is None or any(finding.severity == "error" for finding in findings):
        fail(f"The folder has errors. See them with: equipoise study check {folder}")
    database = open_database(Settings())
    with reported(), database.writing() as session:
        version = studies.load_study(session, study, by=operator(), now=clock.now())
        out.print(f"Loaded {study.code} version {version.version} ({version.sha256[:16]}).", markup=False)
        if study_in_use(session, study.code).version_id < (version.id or 0):
            out.print(
                f"There are participants, so it waits. See what it means: equipoise study effect {study.code} "
                f"{version.version}",
                markup=False,
            )


@study_app.command("diff")
def study_diff(
    old: Annotated[str, typer.Argument(help="A study folder, or CODE:VERSION of what is loaded.")],
    new: Annotated[str, typer.Argument(help="Likewise.")],
) -> None:
    """Say in words of the trial what differs between two versions, and what may not change while it runs."""
    with reported():
        found = differences(_definition_of(old), _definition_of(new))
    if not found:
        out.print("Both say the same.")
        return
    topic = None
    for each in found:
        if each.topic != topic:
            topic = each.topic
            out.print(f"\n{topic.capitalize()}", style="bold")
        out.print(f"  {each.text} [{each.concern}]", markup=False)
        if each.why_not:
            out.print(f"    {each.why_not}", style="red", markup=False)
    out.print("\nOne difference." if len(found) == 1 else f"\n{len(found)} differences.")


def _definition_of(said: str) -> Study:
    """What a folder says, or a loaded version."""
    if Path(said).is_dir():
        study, findings = read_folder(Path(said))
        if study is None or any(finding.is_error for finding in findings):
            fail(f"{said} has errors. See them with: equipoise study check {said}")
        return study
    code, _, version = said.partition(":")
    with open_database(Settings()).reading() as session:
        in_use = study_in_use(session, code)
        return (
            amended.version_named(session, in_use, version, by=operator()).definition if version else in_use.definition
        )


@study_app.command("versions")
def study_versions(study: str) -> None:
    """List what is loaded, and how far each site is on its way to a version."""
    with reported(), open_database(Settings()).reading() as session:
        in_use = study_in_use(session, study)
        versions = amended.loaded_versions(session, in_use, by=operator())
        sites = amended.at_sites(in_use, persons.sites_of(session, in_use.id))
        under_way = amended.going_over(session, in_use, by=operator()).rows
    shown = Table("version", "loaded", "by", "in force at")
    for each in versions:
        there = ", ".join(one.site.code for one in sites if one.version_id == each.id)
        shown.add_row(each.version, f"{each.loaded_at:%Y-%m-%d}", each.loaded_by, there)
    out.print(shown)
    if under_way:
        going = Table("no.", "site", "from", "to", "from the day", "state", "participants", "visits", "under a lock")
        for one in under_way:
            people = f"{one.looked_at} of {one.participants}"
            going.add_row(
                str(one.number),
                one.site,
                one.from_version,
                one.version,
                one.from_on.isoformat(),
                one.state,
                people,
                str(one.visits),
                str(one.kept),
            )
        out.print(going)


@study_app.command("effect")
def study_effect(
    study: str,
    version: str,
    site: Annotated[list[str] | None, typer.Option(help="A site's code; repeat for more. None: all of them.")] = None,
) -> None:
    """Count what going over to a version would mean for everybody who is in the study. Writes nothing."""
    with reported(), open_database(Settings()).reading() as session:
        in_use = study_in_use(session, study)
        wanted = amended.version_named(session, in_use, version, by=operator())
        places = [each for each in persons.sites_of(session, in_use.id) if not site or each.code in site]
        if not places:
            fail(f"{study} has no such site.")
        for each in places:
            old = in_use.at(each.id)
            found = amended.differences_of(old, wanted, by=operator())
            standing = amended.standing_risks(session, in_use, found)
            totals = amended.totals(session, in_use, wanted, each, by=operator(), now=clock.now())
            out.print(f"{each.code}: version {old.definition.version} to {version}", style="bold", markup=False)
            for line in effect_in_words(totals, old.definition, wanted.definition):
                out.print(f"  {line}", markup=False)
            for one in standing:
                out.print(f"  Answers stand: {one.text}", markup=False)
            for one in forbidden(found):
                out.print(f"  May not be: {one.text} {one.why_not}", style="red", markup=False)


@study_app.command("amend")
def study_amend(
    study: str,
    version: str,
    why: Annotated[str, typer.Option(help="Which approval this follows, such as the ethics committee's and its date.")],
    site: Annotated[list[str] | None, typer.Option(help="A site's code; repeat for more. None: all of them.")] = None,
    from_on: Annotated[str | None, typer.Option("--from", help="A day such as 2026-03-02. None: today.")] = None,
) -> None:
    """Set the day from which sites work under a version. Planned visits follow, carried out by `equipoise jobs`."""
    try:
        day = date.fromisoformat(from_on) if from_on else None
    except ValueError:
        fail(f"{from_on} is no day. Write it as 2026-03-02.")
    with reported(), open_database(Settings()).writing() as session:
        in_use = study_in_use(session, study)
        codes = site or [each.code for each in persons.sites_of(session, in_use.id)]
        numbers = amendments.plan(
            session, in_use, version=version, sites=codes, from_on=day, why=why, by=operator(), now=clock.now()
        )
    out.print(f"Planned for {', '.join(codes)}: {', '.join(map(str, numbers))}. `equipoise jobs` carries it out.")


@study_app.command("cancel")
def study_cancel(
    study: str,
    number: Annotated[int, typer.Argument(help="Its number in: equipoise study versions STUDY")],
    why: Annotated[str, typer.Option(help="Why it is cancelled.")],
) -> None:
    """Take back that a site goes over to a version, as long as its day has not come."""
    with reported(), open_database(Settings()).writing() as session:
        amendments.cancel(session, study_in_use(session, study), number, why=why, by=operator(), now=clock.now())
    out.print("Cancelled.")


@study_app.command("dictionary")
def study_dictionary(study_code: str, dictionary: str, file: Path) -> None:
    """Load this installation's own copy of a coding dictionary: a CSV file with the columns code, label and parent.

    For dictionaries under licence, which no study folder holds. It stands in place of the study's own terms.
    """
    with reported():
        terms, findings = read_terms(file.read_text(encoding="utf-8-sig"), file.name)
    for finding in findings[:20]:
        out.print(f"{finding.file}:{finding.line}: {finding.message}", markup=False)
    if findings:
        fail("Nothing was loaded. Mend these lines first.")
    database = open_database(Settings())
    with reported(), database.writing() as session:
        study = study_in_use(session, study_code)
        number = coding.load_terms(session, study, dictionary, terms, by=operator(), now=clock.now())
        out.print(f"Loaded {number} terms of {dictionary}.", markup=False)


@study_app.command("wording")
def study_wording(study: str, folder: Path) -> None:
    """Lay the wordings that you have a licence for over a study: a folder of CODE.LANGUAGE.yaml."""
    database = open_database(Settings())
    with reported(), database.writing() as session:
        here = study_in_use(session, study)
        found, findings = read_wording(folder, here.definition)
        for finding in findings:
            place = f"{finding.file}:{finding.line}:{finding.column}"
            out.print(f"{place}: {finding.severity}: {finding.message}", markup=False)
        if any(finding.is_error for finding in findings):
            fail("Nothing was loaded. Mend the files first.")
        count = studies.load_wording(session, here, found, by=operator(), now=clock.now())
        out.print(f"{len(found)} wordings are in use, {count} of them changed.", markup=False)


@study_app.command("import")
def study_import(
    file: Annotated[Path, typer.Argument(help="REDCap (CSV, XML), CDISC ODM (XML) or USDM (JSON), XLSForm (XLSX).")],
    to: Annotated[Path, typer.Option(help="A new folder for the study.")],
    code: Annotated[str | None, typer.Option(help="The study's code; otherwise made of its title.")] = None,
) -> None:
    """Convert a study from elsewhere into a study folder, and say what was not taken over as it was."""
    from app.studies import importing
    from app.studies.importing.report import HEADINGS, in_order

    try:
        with file.open("rb") as data:
            converted = importing.convert(data, name=file.name, on=clock.today("UTC", clock.now()), code=code)
        importing.write_folder(converted, to)
    except (importing.Failed, OSError) as problem:
        fail(str(problem))
    for kind, notes in in_order(converted.notes):
        out.print(f"{HEADINGS[kind]} ({len(notes)})", style="bold", markup=False)
        for note in notes:
            out.print(f"  {note.where}: {note.what} {note.instead} {note.to_do}", markup=False)
    study = converted.study
    out.print(
        f"{study.title}: {len(study.visits)} visits, {len(study.instruments)} instruments. The report is in "
        f"{to}/README-import.md.\nDecide what is marked: equipoise study check {to}",
        markup=False,
    )


class reported:  # noqa: N801 reads as a word: with reported():
    """Turns a refusal into a sentence and an exit code."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if isinstance(problem, Problem):
            fail(problem.reason)
        if isinstance(problem, archive.BadBackup | OSError):
            fail(str(problem))
        if isinstance(problem, UnicodeDecodeError):
            fail("That file is not text in UTF-8. Save it as CSV in UTF-8 and try again.")


@user_app.command("add")
def user_add(
    username: str,
    name: Annotated[str, typer.Option(help="Printed name, as it stands under signatures.")],
    email: Annotated[str, typer.Option()],
    organisation: Annotated[str, typer.Option(help="Stands beside the name in the audit log.")],
    role: Annotated[list[str] | None, typer.Option(help="ROLE@STUDY or ROLE@STUDY/SITE; administrator alone.")] = None,
    why: Annotated[str | None, typer.Option(help="Why one person holds roles that are usually kept apart.")] = None,
) -> None:
    """Add a person and print the link with which they choose their own password."""
    settings = Settings()
    database = open_database(settings)
    now = clock.now()
    with reported(), database.writing() as session:
        by = operator()
        software.record_installed(session, by=by, now=now)
        person = people.add_person(
            session, username=username, name=name, email=email, organisation=organisation, password=None, by=by, now=now
        )
        for each in role or []:
            _grant(session, person.id, each, by, why)
        token = people.invite(session, person.id, by=by, now=now)
    out.print(f"{settings.address}/welcome/{token}", markup=False)


def _grant(session: object, person_id: int, wanted: str, by: Actor, why: str | None) -> None:
    from sqlmodel import Session

    assert isinstance(session, Session)
    role, _, place = wanted.partition("@")
    study_code, _, site_code = place.partition("/")
    if role not in set(Role):
        fail(f"There is no role {role}. Roles: {', '.join(Role)}.")
    study = study_in_use(session, study_code) if study_code else None
    site_id = None
    if study is not None and site_code:
        found = [row.id for row in persons.sites_of(session, study.id) if row.code == site_code]
        if not found:
            fail(f"{study_code} has no site {site_code}.")
        site_id = found[0]
    people.grant(
        session,
        person_id=person_id,
        study_id=study.id if study else None,
        site_id=site_id,
        role=Role(role),
        log=study.code if study else SYSTEM_LOG,
        why=why,
        by=by,
        now=clock.now(),
    )


@token_app.command("create")
def token_create(
    username: str,
    study: str,
    name: Annotated[str, typer.Option(help="What the token is for.")],
    scope: Annotated[list[str] | None, typer.Option(help="A permission, e.g. export.run; repeat for more.")] = None,
    site: Annotated[list[str] | None, typer.Option(help="A site's code; repeat for more. None: all of theirs.")] = None,
    days: Annotated[int, typer.Option(min=1, max=366)] = 90,
    redcap: Annotated[bool, typer.Option(help="In the form that clients of the REDCap-compatible API want.")] = False,
    super_: Annotated[bool, typer.Option("--super", help="A super token, which makes drafts of studies.")] = False,
) -> None:
    """Create a token for a person in a study, and print it once. Asks for that person's password.

    Without a scope that there is, it says which there are before it asks for anything.
    """
    if not super_ and (reason := why_not_scopes(scope or (), set(Permission))):
        fail(f"{reason} Repeat --scope for each of these that it needs:\n{scopes_in_words()}")
    database = open_database(Settings())
    now = clock.now()
    with reported(), database.writing() as session:
        in_use = study_in_use(session, study)
        actor = act_as(session, username, in_use)
        common: dict[str, Any] = {
            "person_id": actor.person_id,
            "study_id": in_use.id,
            "log": in_use.code,
            "name": name,
            "expires_at": now + timedelta(days=days),
            "by": actor,
            "now": now,
        }
        if super_:
            _, token = people.create_super_token(session, **common)
        else:
            chosen: dict[str, Any] = {"scopes": frozenset(scope or ()), "sites": site or (), "hexadecimal": redcap}
            _, token = people.create_token(session, **common, **chosen)
    out.print(token, markup=False)


def scopes_in_words() -> str:
    """Every scope that a token can have, a line each below what it is for; then what is chosen together, and how."""
    lines = []
    for label, members in grouped(set(Permission) - NOT_FOR_TOKENS):
        lines += ["", f"{label}:", *(f"  {code:<28} {words}" for code, words in members)]
    together = [(each.words, each.scopes) for each in PRESETS if each.scopes]
    lines += ["", "Chosen together on the account page:"]
    lines += [f"  {words}: {' '.join(f'--scope {each.value}' for each in scopes)}" for words, scopes in together]
    return "\n".join(lines)


def act_as(session: Session, username: str, study: StudyInUse) -> Actor:
    """A person with a password, and a second factor where the study asks for one, who acts through this terminal."""
    password = os.environ.get("EQUIPOISE_PASSWORD") or typer.prompt(f"Password of {username}", hide_input=True)
    person = persons.person_by_username(session, username)
    if person is None or not person.is_active:
        fail("There is nobody with this username who can sign in.")
    if study.definition.second_factor == "required" and not person.has_second_factor:
        fail(f"The study {study.code} asks for a second factor. Set one up on your account page, then try again.")
    request_id = f"cli-{os.getpid()}"
    code = os.environ.get("EQUIPOISE_CODE")
    reason = people.reauthenticate(
        session, person.id, password, code, code_needed=True, now=clock.now(), request_id=request_id
    )
    if reason is not None:
        session.commit()
        fail(reason)
    rights = persons.memberships_of(session, person.id)
    return Actor(
        person_id=person.id,
        username=person.username,
        name=person.name,
        organisation=person.organisation,
        grants=tuple(Grant(right.role, right.site_id) for right in rights if right.study_id in (None, study.id)),
        study_id=study.id,
        request_id=request_id,
        via="cli",
    )


@sequence_app.command("draw")
def sequence_draw(
    study: str,
    by: Annotated[str, typer.Option(help="Username of the statistician.")],
    method: Annotated[str | None, typer.Option(help="The study's own, or list; the study's own if left out.")] = None,
    block_size: Annotated[list[int] | None, typer.Option(help="Block size; repeat for random sizes.")] = None,
    tolerance: Annotated[int | None, typer.Option(help="Largest imbalance (big_stick, maximal_procedure).")] = None,
    alpha: Annotated[int | None, typer.Option(help="Balls of each arm at first (wei_urn).")] = None,
    beta: Annotated[int | None, typer.Option(help="Balls of the other arms added each time (wei_urn).")] = None,
    probability: Annotated[
        str | None, typer.Option(help="Of the arm behind, such as 2/3 (biased_coin), or preferred (minimisation).")
    ] = None,
    measure: Annotated[
        str | None, typer.Option(help="How unlike groups are: range, variance or marginal_total (minimisation).")
    ] = None,
    weight: Annotated[list[int] | None, typer.Option(help="Of one factor; repeat in order (minimisation).")] = None,
    size_weight: Annotated[int | None, typer.Option(help="Of the groups' sizes (minimisation).")] = None,
    most_apart: Annotated[
        int | None, typer.Option(help="Limit on the groups' sizes, 0 for none (minimisation).")
    ] = None,
    catch_up: Annotated[
        str | None, typer.Option(help="Probability at that limit, such as 9/10 (minimisation).")
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Slots per stratum (blocks are completed).")] = None,
    listing: Annotated[Path | None, typer.Option(help="CSV with stratum, position, arm (method list).")] = None,
    site: Annotated[
        list[str] | None,
        typer.Option(
            help="A site of the batch (cluster), or that gets further slots; repeat. All of them if left out."
        ),
    ] = None,
    first_stage: Annotated[bool, typer.Option("--first-stage", help="Draw the groups of the first stage.")] = False,
    further: Annotated[
        bool, typer.Option("--further", help="Slots that stand behind those of the sequence in use.")
    ] = False,
) -> None:
    """Draw a sequence. Nothing of it is shown but counts; review it on the Sequence page, then seal it."""
    database = open_database(Settings())
    with reported(), database.writing() as session:
        in_use = study_in_use(session, study)
        actor = act_as(session, by, in_use)
        chosen = {
            "tolerance": tolerance,
            "alpha": alpha,
            "beta": beta,
            "probability": probability,
            "measure": measure,
            "weights": weight or None,
            "size_weight": size_weight,
            "most_apart": most_apart,
            "catch_up": catch_up,
        }
        first = in_use.definition.allocation.first_stage
        usual = first.method if first and first_stage else in_use.definition.allocation.method
        drawn = randomisation.draw(
            session,
            in_use,
            method=method or usual,
            block_sizes=block_size or None,
            options={name: value for name, value in chosen.items() if value is not None},
            slots_per_stratum=slots,
            listing=listing.read_text(encoding="utf-8") if listing else None,
            sites=site or None,
            first_stage=first_stage,
            further=further,
            by=actor,
            now=clock.now(),
        )
        out.print(f"Sequence {drawn.version}: {drawn.slots} slots, digest {drawn.digest[:16]}.", markup=False)


Version = Annotated[int, typer.Argument(help="The number that draw printed.")]
Statistician = Annotated[str, typer.Option("--by", help="Username of the statistician.")]
Written = Annotated[Path, typer.Argument(help="The file to write.")]


@contextmanager
def one_sequence(study: str, version: int, by: str) -> Iterator[tuple[Session, StudyInUse, int, Actor]]:
    """A writing session, the study, the sequence with this number, and the statistician who is asked to prove it."""
    with reported(), open_database(Settings()).writing() as session:
        in_use = study_in_use(session, study)
        actor = act_as(session, by, in_use)
        try:
            sequence = sequences.sequence_of_version(session, in_use, version, by=actor)
        except NotFound:
            fail(f"{study} has no sequence {version}. Check the number, or draw one: equipoise sequence draw {study}")
        yield session, in_use, sequence.id, actor


@sequence_app.command("seal")
def sequence_seal(study: str, version: Version, by: Statistician) -> None:
    """Seal a drawn sequence: randomisation opens with it."""
    with one_sequence(study, version, by) as (session, in_use, sequence_id, actor):
        randomisation.seal(session, in_use, sequence_id, by=actor, now=clock.now())
    out.print("Sealed. Keep its certificate: equipoise sequence certificate.")


@sequence_app.command("close")
def sequence_close(
    study: str, version: Version, by: Statistician, why: Annotated[str, typer.Option(help="Why it is over.")]
) -> None:
    """End randomisation from a sealed sequence, for good."""
    with one_sequence(study, version, by) as (session, in_use, sequence_id, actor):
        randomisation.close(session, in_use, sequence_id, why=why, by=actor, now=clock.now())
    out.print("Closed.")


@sequence_app.command("certificate")
def sequence_certificate(study: str, version: Version, file: Written, by: Statistician) -> None:
    """Write the sealing certificate, for scripts/verify_allocation.py and the trial's file."""
    with one_sequence(study, version, by) as (session, in_use, sequence_id, actor):
        certificate = sequences.certificate(session, in_use, sequence_id, by=actor)
    file.write_bytes(commitment.canonical(certificate))


@sequence_app.command("proofs")
def sequence_proofs(study: str, version: Version, file: Written, by: Statistician) -> None:
    """Write arm, salt and path of every allocation. UNBLINDED: each envelope opened for it is in the log."""
    with one_sequence(study, version, by) as (session, in_use, sequence_id, actor):
        lines = sequences.proofs_file(session, in_use, sequence_id, by=actor, why=commitment.WHY, now=clock.now())
    # Written only now: what is not in the log is not handed over.
    file.write_bytes(b"".join(lines))
    given = sum(b'"number":' in line for line in lines)
    out.print(f"{given} allocations.", markup=False)


@sequence_app.command("plan")
def sequence_plan(study: str, version: Version, file: Written, by: Statistician) -> None:
    """Write plan, seed and salt key of a closed sequence: with them anybody draws it again."""
    with one_sequence(study, version, by) as (session, in_use, sequence_id, actor):
        plan = randomisation.open_plan(session, in_use, sequence_id, by=actor, now=clock.now())
    file.write_bytes(commitment.canonical(plan))


@sequence_app.command("escrow-key")
def sequence_escrow_key(
    study: str, file: Annotated[Path, typer.Argument(help="A public key as PEM.")], by: Statistician
) -> None:
    """Store the statistician's public key: lists are escrowed to it when they are sealed."""
    pem = file.read_text(encoding="utf-8", errors="replace")
    with reported(), open_database(Settings()).writing() as session:
        in_use = study_in_use(session, study)
        actor = act_as(session, by, in_use)
        stored = store_key(session, in_use, pem=pem, by=actor, now=clock.now())
    out.print(f"Stored: RSA, {stored.bits} bits, SHA-256 {stored.fingerprint}.", markup=False)


@sequence_app.command("escrow")
def sequence_escrow(study: str, version: Version, file: Written, by: Statistician) -> None:
    """Write the escrow of a sealed sequence. Whoever opens it with the private key can predict every slot."""
    with one_sequence(study, version, by) as (session, in_use, sequence_id, actor):
        text = take_escrow(session, in_use, sequence_id, by=actor, now=clock.now())
    file.write_text(text, encoding="ascii")
    out.print(f"openssl cms -decrypt -inform PEM -in {file} -inkey private.pem -out plan.json", markup=False)


@sequence_app.command("pack")
def sequence_pack(
    study: str,
    site: str,
    slots: Annotated[int, typer.Argument(help="Slots to reserve in each stratum of the site.")],
    folder: Annotated[Path, typer.Argument(help="A folder for the three files of the pack.")],
    by: Statistician,
    why: Annotated[str, typer.Option(help="Why the site needs it.")],
) -> None:
    """Reserve slots for a site's downtime. UNBLINDED: letter and file go to those who treat, slips to who enrols."""
    from app.paper import papers

    if not folder.is_dir() or any(folder.iterdir()):
        fail(f"{folder} is not an empty folder. Make one, so that nothing is mixed up or overwritten.")
    settings = Settings()
    database = open_database(settings)
    with reported(), database.writing() as session:
        in_use = study_in_use(session, study)
        actor = act_as(session, by, in_use)
        now = clock.now()
        remembered = newest.newest_in(settings.checkpoints, database.keys, in_use.code)
        made = downtime.make_pack(
            session, in_use, site=site, slots=slots, why=why, newest=remembered, by=actor, now=now
        )
        files = papers(
            made.content,
            [(slip.name, slip.stratum, slip.code) for slip in made.slips],
            made.passphrase,
            mark=made.mark,
            at=now,
            language=in_use.definition.language,
        )
    # Written only now: what is not in the log is not handed over.
    for each in files:
        (folder / each.name).write_bytes(each.body)
    with database.reading() as session:
        newest.remember(settings.checkpoints, session, in_use.code)
    out.print(f"Pack {made.number}: {len(made.slips)} slips in {folder}.", markup=False)
    out.print("The passphrase is in the letter. Hand letter and file to those who treat, slips to those who enrol.")


@sequence_app.command("reconcile")
def sequence_reconcile(
    study: str,
    pack: Annotated[int, typer.Argument(help="The number of the pack.")],
    by: Statistician,
    void: Annotated[int | None, typer.Option(help="Number of a slip that was spoilt or lost.")] = None,
    close: Annotated[bool, typer.Option("--close", help="Void what is left, and end the pack.")] = False,
    why: Annotated[str, typer.Option(help="Why it is void or closed.")] = "",
) -> None:
    """Void a slip of a pack or close it, and show what became of each. Used ones are entered on the pages."""
    if void is not None and close:
        fail("Void one slip, or close the pack; not both at once.")
    with reported(), open_database(Settings()).writing() as session:
        in_use = study_in_use(session, study)
        actor = act_as(session, by, in_use)
        if void is not None:
            downtime.void_slip(session, in_use, pack, void, why=why, by=actor, now=clock.now())
        elif close:
            downtime.close_pack(session, in_use, pack, why=why, by=actor, now=clock.now())
        found = downtime_reads.slips(session, in_use, pack, by=actor)
    shown = Table("slip", "stratum", "state", "participant", "reason")
    for slip in found:
        shown.add_row(slip.name, slip.stratum, slip.state, slip.participant or "", slip.reason or "")
    out.print(shown)


@key_app.command("rotate")
def key_rotate(
    to: Annotated[str, typer.Option(help="environment, program, or file (the root key as it is).")],
    why: Annotated[str, typer.Option(help="Why the master key changes.")],
) -> None:
    """Wrap the root key by another master key: that of EQUIPOISE_NEW_MASTER_KEY, or EQUIPOISE_NEW_MASTER_PROGRAM."""
    settings = Settings()
    new_key = settings.new_master_key.get_secret_value() if settings.new_master_key else None
    asked = {"environment": (new_key, None), "program": (None, settings.new_master_program), "file": (None, None)}
    if to not in asked or (to != "file" and not any(asked[to])):
        fail("Say --to environment, program or file, and set EQUIPOISE_NEW_MASTER_KEY or EQUIPOISE_NEW_MASTER_PROGRAM.")
    database = open_database(settings)
    try:
        rewrap_key_file(settings.key_path, installation.master_of(settings), master_from(*asked[to]))
    except MasterFailed as problem:
        fail(str(problem))
    with reported(), database.writing() as session:
        change = Change("key.wrapped", new={"by": to, "key": database.keys.fingerprint})
        record(session, SYSTEM_LOG, [change], by=operator(), now=clock.now(), why=why)
    out.print(
        "The root key is wrapped anew; nothing was opened. Set the new master key in the place of the old one now."
    )


@key_app.command("replace-signing")
def key_replace_signing(
    why: Annotated[str, typer.Option(help="Why: every log keeps it.")],
) -> None:
    """Replace the key that signs checkpoints and manifests, and announce the new one in every log.

    What earlier keys signed stays verifiable. An interrupted replacement is completed by the same command.
    """
    settings = Settings()
    database = open_database(settings)
    folder = settings.checkpoints
    with database.reading() as session:
        interrupted = replacing.unfinished(session, folder)
        for log in interrupted:
            checkpoints.keep(folder, session, log)
    if interrupted:
        out.print(
            "The key was replaced before, and whoever did it was interrupted. The first checkpoints of the present key "
            "are kept now, and nothing was replaced again. To replace it once more, repeat the command."
        )
        return
    with reported(), database.writing() as session:
        logs = replacing.replace_key(session, folder, by=operator(), why=why, now=clock.now())
    with reported(), database.reading() as session:
        for log in logs:
            checkpoints.keep(folder, session, log)
            out.print(signing.log_keys(session, log)[-1].vkey, markup=False)
    out.print(
        "These keys sign from now on; nothing needs a restart. Copy the folder of checkpoints to where you keep it, "
        "and give the keys to whoever verifies the logs."
    )


@audit_app.command("keys")
def audit_keys(log: Annotated[str, typer.Argument(help="A study's code, or system.")]) -> None:
    """List the public keys that signed a log's checkpoints, the present one last."""
    with open_database(Settings()).reading() as session:
        if log not in verify.logs(session):
            fail(f"There is no log {log}. There are: {', '.join(verify.logs(session)) or 'none yet'}.")
        for key in signing.log_keys(session, log):
            since = f"from entry {key.first} on, since {key.at:%Y-%m-%d %H:%M} UTC" if key.at else "from the beginning"
            out.print(f"{key.vkey}  {since}", markup=False)


@audit_app.command("verify")
def audit_verify(
    log: Annotated[str | None, typer.Argument(help="One study's code, or all logs.")] = None,
) -> None:
    """Check every entry, the tree, and the checkpoints kept outside the database; then keep a new checkpoint."""
    settings = Settings()
    database = open_database(settings)
    points, faults = checkpoints.kept(settings.checkpoints, database.keys)
    results = Table("log", "entries", "checkpoints", "root", "result")
    with database.reading() as session:
        there = sorted({*verify.logs(session), *(point.log for point in points)})
        if log is not None and log not in there:
            fail(f"There is no log {log}. There are: {', '.join(there) or 'none yet'}.")
        names = [log] if log else there
        for name in track(names, description="Verifying", console=err, transient=True):
            result = verify.verify(session, name, points)
            faults += [f"{name}: {fault}" for fault in result.faults]
            results.add_row(
                name,
                f"{result.size:,}",
                str(result.checkpoints),
                result.root.hex()[:16],
                "intact" if result.intact else "NOT INTACT",
            )
        if not faults:
            for name in names:
                checkpoints.keep(settings.checkpoints, session, name)
    out.print(results)
    if faults:
        fail("\n".join(faults))
    if not points:
        out.print("No checkpoint was kept before: that nothing is missing from the end is proven from now on.")


@audit_app.command("export")
def audit_export(log: str, file: Path) -> None:
    """Write a log as canonical lines, for scripts/verify_audit.py and anyone who wants to check it themselves."""
    database = open_database(Settings())
    with database.reading() as session, file.open("wb") as lines:
        for line in verify.export_lines(session, log):
            lines.write(line)
        point = checkpoints.current(session, log)
    if point is not None:
        note = file.with_name(file.name + ".checkpoint")
        note.write_text(checkpoints.signed_note(database.keys, point), encoding="utf-8")
        out.print(f"{point.size} entries; checkpoint in {note}", markup=False)


@audit_app.command("reconcile")
def audit_reconcile(
    study: str,
    why: Annotated[str, typer.Option(help="Which backup it was, and what became of everything done after it.")],
) -> None:
    """Open randomisation again after a restore. Before anybody new comes all who were randomised since, anew."""
    if not why.strip():
        fail("Say which backup it was, and what became of everything that was done after it.")
    settings = Settings()
    database = open_database(settings)
    with reported(), database.writing() as session:
        in_use = study_in_use(session, study)
        remembered = newest.newest_in(settings.checkpoints, database.keys, in_use.code)
        if remembered is None or not newest.is_behind(session, remembered):
            fail("This database has everything that is remembered of it. There is nothing to reconcile.")
        change = Change("log.reconciled", new={"entries_remembered": remembered.size})
        record(session, in_use.code, [change], by=operator(), now=clock.now(), why=why)
    newest.forget(settings.checkpoints, in_use.code)
    with database.reading() as session:
        newest.remember(settings.checkpoints, session, in_use.code)
    out.print(
        "Reconciled. Randomisation is open again. Before anybody new: randomise anew all who were randomised after the "
        "backup, in the order of their allocation numbers. They get the slots they had."
    )


@export_app.command("verify")
def export_verify(
    file: Path,
    manifest: Annotated[Path, typer.Argument(help="The manifest of the export, as it was downloaded.")],
    anywhere: Annotated[
        bool, typer.Option("--anywhere", help="Only that the two belong together: without key and database.")
    ] = False,
) -> None:
    """Check that a file is the one that was exported: its bytes, the signature, and the tree head in the log."""
    from app.exports.manifest import faults, signed_by, why_signed_too_late

    for path in (file, manifest):
        if not path.is_file():
            fail(f"There is no file {path}.")
    text = manifest.read_text(encoding="utf-8")
    if anywhere:
        if found := faults(file, text):
            fail("\n".join(found))
        out.print("The file is the one that the manifest describes. Who signed the manifest was not checked.")
        return
    database = open_database(Settings())
    found = faults(file, text, database.keys)
    if found:
        fail("\n".join(found))
    said = json.loads(text)
    generation = signed_by(said, database.keys)
    with database.reading() as session:
        keys = signing.log_keys(session, said["study"])
        too_late = why_signed_too_late(said, keys, generation)
        if too_late is not None:
            fail(too_late)
        if verify.root_at(session, said["study"], said["change"]) != said["tree_head"]:
            fail("The log of this installation never had the tree head of the manifest.")
    out.print("The file is the one that was exported here, and the log had the tree head of its manifest.")
    if generation != keys[-1].generation:
        out.print(f"Its manifest is signed with a key that was replaced later: {said['signed_by']}.", markup=False)


@app.command()
def backup(file: Path) -> None:
    """Write every row of one snapshot into a new archive. The key file is not in it: keep that apart."""
    settings = Settings()
    database = open_database(settings)
    with reported():
        manifest = archive.backup(database, file, now=clock.now())
    with database.reading() as session:
        for name in verify.logs(session):
            checkpoints.keep(settings.checkpoints, session, name)
    out.print(f"{sum(manifest.rows.values()):,} rows in {file}.", markup=False)


@app.command()
def restore(file: Path) -> None:
    """Fill a new, empty database from an archive, and verify the log."""
    settings = Settings()
    database = open_database(settings)
    installation.migrate(database)
    with reported():
        manifest = archive.restore(database, file)
    points, faults = checkpoints.kept(settings.checkpoints, database.keys)
    with database.reading() as session:
        for name in sorted({*verify.logs(session), *(point.log for point in points)}):
            faults += verify.verify(session, name, points).faults
            # Whoever was randomised after the backup is not in it: a slot of theirs must not go to somebody else.
            newest.require_reconciliation(settings.checkpoints, database.keys, name)
    if faults:
        words = "Restored, but the log ends before a checkpoint that was kept: this backup is older than what was done."
        fail("\n".join([*faults, words, "Do not randomise on it. Restore the newest backup, or reconcile first."]))
    out.print(f"{sum(manifest.rows.values()):,} rows restored; the log is intact.", markup=False)
    out.print("Nobody is randomised until you say what happened after the backup: equipoise audit reconcile STUDY.")


@app.command()
def jobs(
    every: Annotated[int, typer.Option(min=5, help="Seconds between rounds.")] = 30,
    once: Annotated[bool, typer.Option("--once", help="One round, then stop.")] = False,
) -> None:
    """Carry amendments out, queue due reminders, send what waits, make exports; round after round, in any number."""
    import threading

    from app.jobs import carry_out_amendments, make_exports, queue_due_reminders, send_due_mail, tell_webhooks

    settings = Settings()
    database = open_database(settings)
    waiting = threading.Event()
    while True:
        met = carry_out_amendments(database)
        if met:
            out.print(f"{met} participants looked at for an amendment.")
        queued = queue_due_reminders(database, settings)
        if queued:
            out.print(f"{queued} reminders queued.")
        sent = send_due_mail(database, settings)
        if sent:
            out.print(f"{sent} sent.")
        told = tell_webhooks(database, settings)
        if told:
            out.print(f"{told} events told.")
        made = make_exports(database, settings)
        if made:
            out.print(f"{made} exports made.")
        if once:
            return
        try:
            waiting.wait(every)
        except KeyboardInterrupt:
            sys.exit(0)


def main() -> None:
    """The `equipoise` command. What it writes is for its own user only."""
    os.umask(0o077)
    app()


if __name__ == "__main__":
    main()
