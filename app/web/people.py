"""Who signs in here, and with which roles? The administrator's pages: persons, roles, sites' teams."""

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from importlib.metadata import version
from platform import python_version
from typing import Annotated

from fastapi import Path
from fastapi.responses import Response

from app.audit.clocks import read_clocks
from app.audit.models import SYSTEM_LOG
from app.audit.software import installed
from app.dependencies import ChangeAnywhere, Here, PageAnywhere, database_of, require_password
from app.foundation import clock
from app.foundation.errors import FieldProblem, Invalid, NotFound, Refused
from app.foundation.languages import translations
from app.people import actions, reads
from app.people.access import require
from app.people.permissions import Permission, Role
from app.studies.models import StudyRecord
from app.studies.reads import all_studies
from app.web.pages import pages
from app.web.shell import show

router = pages()

Number = Annotated[int, Path(ge=1, lt=2**31)]


def _require(here: Here) -> None:
    require(here.actor, Permission.PEOPLE_MANAGE)


def _person(here: Here, person_id: int) -> reads.PersonRow:
    found = reads.person_by_id(here.session, person_id)
    if found is None:
        raise NotFound
    return found


@router.get("/people", name="people.people")
def people(here: PageAnywhere, cursor: str | None = None) -> Response:
    """Everybody, by username."""
    _require(here)
    return _list(here, cursor=cursor)


@router.get("/people/installation", name="people.installation")
def installation(here: PageAnywhere) -> Response:
    """How the installation itself is: its versions and its clocks, for whoever looks after it."""
    _require(here)
    clocks = read_clocks(here.session, clock.now)
    return show(
        here,
        "people/installation.html",
        clocks=clocks,
        problems=clocks.problems(timedelta(seconds=here.settings.clock_seconds)),
        allowed=here.settings.clock_seconds,
        apart=None if clocks.apart is None else clocks.apart.total_seconds(),
        software=software(),
        installed=installed(here.session),
        database="PostgreSQL" if database_of(here.request).engine.dialect.name == "postgresql" else "SQLite",
    )


@cache
def software() -> tuple[tuple[str, str], ...]:
    """The versions in use; a process keeps to what it began with."""
    names = ("equipoise", "fastapi", "sqlalchemy", "cryptography")
    return (("python", python_version()), *((name, version(name)) for name in names))


def _list(
    here: Here, *, cursor: str | None = None, status_code: int = 200, problems: dict[str, str] | None = None
) -> Response:
    found = reads.people_page(here.session, cursor=cursor)
    typed = {name: here.value(name) for name in ("username", "name", "email", "organisation")}
    return show(here, "people/people.html", status_code=status_code, page_=found, problems=problems or {}, typed=typed)


@router.post("/people", name="people.add")
def add(here: ChangeAnywhere) -> Response:
    """Add a person; they choose their own password by the link on their page."""
    _require(here)
    try:
        person = actions.add_person(
            here.session,
            username=here.value("username"),
            name=here.value("name"),
            email=here.value("email"),
            organisation=here.value("organisation"),
            password=None,
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        problems = (
            {each.field: each.message for each in problem.problems}
            if isinstance(problem, Invalid)
            else {"username": problem.reason}
        )
        return _list(here, status_code=422, problems=problems)
    return here.redirect(f"/people/{person.id}")


def _show(here: Here, person: reads.PersonRow, *, status_code: int = 200, **more: object) -> Response:
    studies = [study for study in all_studies(here.session) if study.id is not None]
    places, gettext = [("", "")], translations(here.language).gettext
    for study in studies:
        places.append((study.code, f"{study.code}: {gettext('all sites')}"))
        places += [
            (f"{study.code}/{site.code}", f"{study.code}: {site.name}")
            for site in reads.sites_of(here.session, study.id or 0)
        ]
    values: dict[str, object] = {
        "person": person,
        "rights": reads.memberships_of(here.session, person.id, ended=True),
        "roles": [(role.value, here.tell(role.replace("_", " ").capitalize())) for role in Role],
        "places": places[1:],
        "chosen_role": here.value("role"),
        "chosen_place": here.value("place"),
        "invitation": None,
        "by_mail": reads.has_been_in(here.session, person.id),
        "mail_waits": here.settings.smtp_host is None,
        "myself": person.id == here.actor.person_id,
        "why_both": here.value("why_both"),
        "why_both_needed": False,
        "act": "",
        "why": "",
        "problem": None,
    }
    return show(here, "people/person.html", status_code=status_code, **{**values, **more})


@router.get("/people/{person_id}", name="people.person")
def person(here: PageAnywhere, person_id: Number) -> Response:
    """One person: roles now and before, and how they get in."""
    _require(here)
    return _show(here, _person(here, person_id))


@router.post("/people/{person_id}/invite", name="people.invite")
def invite(here: ChangeAnywhere, person_id: Number) -> Response:
    """Make a link with which this person chooses a password: the first is shown once, a later one is only mailed."""
    _require(here)
    found = _person(here, person_id)
    if reads.has_been_in(here.session, person_id):
        welcome = f"{here.settings.address}/welcome/"
        actions.mail_invitation(here.session, person_id, welcome=welcome, by=here.actor, now=here.now)
        return here.redirect(f"/people/{person_id}", done="invitation_mailed")
    token = actions.invite(here.session, person_id, by=here.actor, now=here.now)
    here.release_key()
    return _show(here, found, invitation=f"{here.settings.address}/welcome/{token}")


@router.post("/people/{person_id}/roles", name="people.grant")
def grant(here: ChangeAnywhere, person_id: Number) -> Response:
    """Give a role."""
    _require(here)
    found = _person(here, person_id)
    role = here.value("role")
    try:
        study, site_id = _place(here) if role != Role.ADMINISTRATOR else (None, None)
        if role not in set(Role):
            raise Refused("Choose a role.")
        actions.grant(
            here.session,
            person_id=person_id,
            role=Role(role),
            study_id=study.id if study else None,
            site_id=site_id,
            log=study.code if study else SYSTEM_LOG,
            why=here.value("why_both"),
            by=here.actor,
            now=here.now,
        )
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        needed = isinstance(problem, actions.ReasonNeeded)
        return _show(here, found, status_code=409, problem=problem.reason, why_both_needed=needed)
    return here.redirect(f"/people/{person_id}", done="role_granted")


def _place(here: Here) -> tuple[StudyRecord | None, int | None]:
    study_code, at_site, site_code = here.value("place").partition("/")
    study = next((each for each in all_studies(here.session) if each.code == study_code), None)
    if study is None or study.id is None:
        return None, None
    sites = {site.code: site.id for site in reads.sites_of(here.session, study.id)}
    if at_site and site_code not in sites:  # which must not become the whole study
        raise Refused("This site is not in this study. Choose one from the list.", action="role.grant")
    return study, sites.get(site_code)


@router.post("/people/{person_id}/roles/{membership_id}/revoke", name="people.revoke")
def revoke(here: ChangeAnywhere, person_id: Number, membership_id: Number) -> Response:
    """Take a role back; it is gone from the next page they open."""
    _require(here)
    right = next((each for each in reads.memberships_of(here.session, person_id) if each.id == membership_id), None)
    if right is None:
        raise NotFound
    actions.revoke(here.session, membership_id, log=right.study_code or SYSTEM_LOG, by=here.actor, now=here.now)
    return here.redirect(f"/people/{person_id}", done="role_revoked")


@router.post("/people/{person_id}/deactivate", name="people.deactivate")
def deactivate(here: ChangeAnywhere, person_id: Number) -> Response:
    """Nobody signs in as this person any more; everything they did stays under their name."""
    _require(here)
    found = _person(here, person_id)
    try:
        actions.deactivate(here.session, person_id, by=here.actor, now=here.now, why=here.value("why") or None)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _show(here, found, status_code=409, problem=problem.reason)
    return here.redirect(f"/people/{person_id}", done="deactivated")


def _with_password(here: Here, person_id: int, act: str, do: Callable[[str], object], done: str) -> Response:
    """An act on somebody's way in: it needs a reason, which is written down, and the administrator's own password."""
    _require(here)
    found, why = _person(here, person_id), here.value("why")
    try:
        if not why:
            raise Invalid([FieldProblem("why", "required", "Say why, and how you made sure who asked.")])
        require_password(here, here.form.get("password", [""])[-1])
        do(why)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        status = 422 if isinstance(problem, Invalid) else 409
        return _show(here, found, status_code=status, problem=problem.reason, act=act, why=why)
    return here.redirect(f"/people/{person_id}", done=done)


@router.post("/people/{person_id}/second-factor/reset", name="people.reset_second_factor")
def reset_second_factor(here: ChangeAnywhere, person_id: Number) -> Response:
    """A phone is lost: take the second factor, the password and every session away; a link by mail follows."""

    def reset(why: str) -> None:
        actions.reset_second_factor(here.session, person_id, why=why, by=here.actor, now=here.now)
        welcome = f"{here.settings.address}/welcome/"
        actions.mail_invitation(here.session, person_id, welcome=welcome, by=here.actor, now=here.now)

    return _with_password(here, person_id, "reset", reset, "second_factor_reset")


@router.post("/people/{person_id}/sessions/end", name="people.end_sessions")
def end_sessions(here: ChangeAnywhere, person_id: Number) -> Response:
    """Sign this person out everywhere."""
    return _with_password(
        here,
        person_id,
        "sessions",
        lambda why: actions.end_sessions_of(here.session, person_id, why=why, by=here.actor, now=here.now),
        "sessions_ended",
    )


@router.post("/people/{person_id}/activate", name="people.activate")
def activate(here: ChangeAnywhere, person_id: Number) -> Response:
    """Let somebody in again who was deactivated: with a new password, and without any role."""
    return _with_password(
        here,
        person_id,
        "activate",
        lambda why: actions.activate(here.session, person_id, why=why, by=here.actor, now=here.now),
        "activated",
    )
