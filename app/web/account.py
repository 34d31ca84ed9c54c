"""What may I see and change of my own access? Password, second factor, sessions, tokens."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from fastapi.responses import JSONResponse, Response

from app.dependencies import (
    ChangeAnywhere,
    Here,
    PageAnywhere,
    SecondFactorNeeded,
    TypedForm,
    cookie_name,
    one,
    passkey_if_shown,
    passkey_place,
    require_password,
    shown_passkey,
)
from app.foundation.errors import Invalid, NotFound, Refused
from app.foundation.languages import translations
from app.people import actions, reads
from app.people.access import Actor
from app.people.permissions import NOT_AT_A_SITE, TABLE, Permission, Role
from app.people.rules import FEW_RECOVERY_CODES, NOT_FOR_TOKENS, browser_in
from app.people.scopes import PRESETS, grouped, named
from app.studies.in_use import study_in_use
from app.studies.reads import all_studies
from app.web.pages import pages
from app.web.shell import errors_of, show
from app.web.sign_in import keep_language

router = pages()


def _cookie(here: Here) -> str:
    return here.request.cookies.get(cookie_name(here.settings), "")


def _sitting(here: Here) -> tuple[timedelta, timedelta]:
    return timedelta(minutes=here.settings.idle_minutes), timedelta(hours=here.settings.session_hours)


def _account(here: Here, *, status_code: int = 200, **more: object) -> Response:
    idle, absolute = _sitting(here)
    assert here.signed_in is not None
    sessions = reads.sessions_of(here.session, here.actor.person_id, now=here.now, idle=idle, absolute=absolute)
    mine = [
        study
        for study in all_studies(here.session)
        if study.version_id is not None and (here.signed_in.is_administrator or here.signed_in.grants.get(study.id))
    ]
    sites = {study.id: _sites(here, study.id) for study in mine}
    tokens = reads.tokens_of(here.session, here.actor.person_id)
    passkeys = reads.passkeys_of(here.session, here.actor.person_id)
    values: dict[str, object] = {
        "sessions": sessions,
        "browsers": {each.id: _browser(here, each.browser) for each in sessions},
        "this_session": here.signed_in.token_hash.hex(),
        "tokens": tokens,
        "study_options": [(study.code, study.code) for study in mine],
        "study_codes": {study.id: study.code for study in mine},
        "token_places": {token.id: _places(here, token, sites.get(token.study_id, [])) for token in tokens},
        "site_options": [
            (f"{study.code}/{site.code}", site.name if len(mine) == 1 else f"{study.code}: {site.name}")
            for study in mine
            if len(sites[study.id]) > 1
            for site in sites[study.id]
        ],
        "may_have_tokens": bool((scopes := _scopes(here, [study.id for study in mine])) and mine),
        "scope_groups": grouped(scopes),
        "presets": [(each.code, each.words) for each in PRESETS if each.chosen(scopes)],
        "preset": "",
        "token_scopes": {token.id: _said(token, _scopes(here, [token.study_id])) for token in tokens},
        "has_codes": here.signed_in.has_codes,
        "passkeys": passkeys,
        "passkey_options": [(str(each.id), each.name) for each in passkeys],
        "passkeys_work": passkey_place(here.request) is not None,
        "passkey_to_make": None,
        "recovery_codes": reads.recovery_codes_of(here.session, here.actor.person_id),
        "few_recovery_codes": FEW_RECOVERY_CODES,
        "new_recovery_codes": (),
        "language_chosen": here.signed_in.language or "",
        "needed": here.request.query_params.get("needed", ""),
        "now": here.now,
        "problems": {},
        "enrolment": None,
        "new_token": None,
        "typed": {},
    }
    return show(here, "account/show.html", status_code=status_code, **{**values, **more})


def _browser(here: Here, said: str) -> str:
    """A browser as its owner knows it; one that is not known here as it calls itself."""
    gettext, known = translations(here.language).gettext, browser_in(said)
    if known is not None:
        return gettext("{browser} on {system}").format(browser=known[0], system=known[1])
    return said or gettext("Unknown browser")


def _sites(here: Here, study_id: int | None) -> list[reads.SiteRow]:
    """The sites at which this person works in a study, to which a token may be limited."""
    assert here.signed_in is not None
    grants = here.signed_in.grants.get(study_id, ()) if study_id is not None else ()
    wanted = {grant.site_id for grant in grants if grant.role not in NOT_AT_A_SITE}
    if study_id is None or not wanted:
        return []
    return [site for site in reads.sites_of(here.session, study_id) if None in wanted or site.id in wanted]


def _places(here: Here, token: reads.TokenRow, sites: list[reads.SiteRow]) -> list[str]:
    """Where a token acts: at its own sites, else at its owner's. Nothing stands for all of them."""
    assert here.signed_in is not None
    if token.sites:
        return [site.name for site in sites if site.id in token.sites]
    everywhere = any(grant.site_id is None for grant in here.signed_in.grants.get(token.study_id, ()))
    return [] if everywhere else [site.name for site in sites]


def _said(token: reads.TokenRow, held: list[str]) -> dict[str, Any]:
    """What a token may do, in words: all of them, and what they are called together, if anything."""
    groups = grouped(token.scopes)
    return {"called": named(token.scopes, held), "groups": groups, "count": sum(len(each) for _, each in groups)}


def _scopes(here: Here, studies: Iterable[int | None]) -> list[str]:
    """The permissions that this person could give to a token in any of these studies."""
    assert here.signed_in is not None
    roles: set[Role] = set()
    for study_id in studies:
        if study_id is not None:
            roles |= {grant.role for grant in here.signed_in.grants.get(study_id, ())}
    if here.signed_in.is_administrator:
        roles.add(Role.ADMINISTRATOR)
    held = [permission for permission, holders in TABLE.items() if roles & holders]
    if Permission.TOKEN_CREATE not in held:
        return []
    return [permission.value for permission in held if permission not in NOT_FOR_TOKENS]


def _not_done(here: Here, what: str, why: str, **more: object) -> Response:
    """The page again with what stood against it; the same form can be sent again."""
    here.release_key()
    return _account(here, status_code=422, problems={what: why}, **more)


@router.get("/account", name="account.show")
def account(here: PageAnywhere) -> Response:
    """Password, second factor, sessions and tokens of the person who is signed in."""
    return _account(here)


@router.post("/account/language", name="account.language")
def language(here: ChangeAnywhere) -> Response:
    """Choose the language of one's pages and mails."""
    chosen = here.value("language") or None
    try:
        actions.choose_language(here.session, chosen, by=here.actor, now=here.now)
    except Invalid as problem:
        here.refuse(problem)
        return _account(here, status_code=422, problems=errors_of(problem))
    response = here.redirect("/account", done="language")
    keep_language(here.request, response, chosen or "")
    return response


@router.post("/account/password", name="account.password")
def password(here: ChangeAnywhere) -> Response:
    """Change the password, knowing the present one; every other session ends."""
    new = here.form.get("new_password", [""])[-1]
    if new != here.form.get("new_password_again", [""])[-1]:
        return _not_done(here, "new_password", "The two passwords are not the same.")
    problem = actions.set_password(
        here.session,
        current=here.form.get("password", [""])[-1],
        new=new,
        code=here.value("code") or None,
        token=_cookie(here),
        by=here.actor,
        now=here.now,
        weighed=here.weighed,
        chosen=here.chosen,
    )
    if problem is not None:
        return _not_done(here, "new_password", problem)
    return here.redirect("/account", done="password")


@router.post("/account/second-factor", name="account.start_second_factor")
def start_second_factor(here: ChangeAnywhere) -> Response:
    """Show the secret for the authenticator app, once the password was typed again."""
    try:
        require_password(here, here.form.get("password", [""])[-1])
    except Invalid as problem:
        return _account(here, status_code=422, problems={"second_factor": problem.reason})
    here.release_key()
    enrolment = actions.enrol_second_factor_start(here.session, by=here.actor, now=here.now)
    return _account(here, enrolment=enrolment, qr=qr_code(enrolment.address))


def qr_code(address: str) -> str:
    """The address as a picture that a telephone reads, as an SVG in a data address."""
    import segno  # heavy, and only this page needs it

    return segno.make(address, error="m").svg_data_uri(scale=4, border=2)


@router.post("/account/second-factor/confirm", name="account.confirm_second_factor")
def confirm_second_factor(here: ChangeAnywhere) -> Response:
    """Switch the second factor on, after one right code."""
    problem = actions.enrol_second_factor_confirm(
        here.session, here.value("pending"), here.value("code"), token=_cookie(here), by=here.actor, now=here.now
    )
    if problem is not None:
        return _not_done(here, "second_factor", problem)
    return here.redirect("/account", done="second_factor")


@router.post("/account/second-factor/remove", name="account.remove_second_factor")
def remove_second_factor(here: ChangeAnywhere) -> Response:
    """Switch it off, with password and a code, or a passkey."""
    problem = actions.remove_second_factor(
        here.session,
        password=here.form.get("password", [""])[-1],
        code=_code(here),
        token=_cookie(here),
        by=here.actor,
        now=here.now,
        weighed=here.weighed,
        passkey=passkey_if_shown(here),
    )
    if problem is not None:
        return _not_done(here, "second_factor", problem)
    return here.redirect("/account", done="second_factor_off")


@router.post("/account/recovery-codes", name="account.make_recovery_codes")
def make_recovery_codes(here: ChangeAnywhere) -> Response:
    """Make ten recovery codes and show them, this once; those made before open nothing any more."""
    try:
        require_password(here, here.form.get("password", [""])[-1], _code(here) or None, code_needed=True)
        made = actions.make_recovery_codes(here.session, by=here.actor, now=here.now)
    except (Invalid, Refused) as problem:
        here.refuse(problem)
        return _account(here, status_code=422, problems={"recovery_codes": problem.reason})
    here.release_key()
    return _account(here, new_recovery_codes=made)


def _code(here: Here) -> str:
    """The code that a form brings: of the app, or a recovery code."""
    return here.value("code") or here.value("recovery_code")


@router.post("/account/passkeys", name="account.begin_passkey")
def begin_passkey(here: ChangeAnywhere) -> Response:
    """Ask the browser for a new passkey, once it has a name and the password was typed again."""
    assert here.signed_in is not None
    try:
        require_password(here, here.form.get("password", [""])[-1])
        made = actions.begin_passkey(
            here.session,
            here.value("passkey_name"),
            place=passkey_place(here.request),
            bound_to=here.signed_in.token_hash,
            by=here.actor,
            now=here.now,
        )
    except Invalid as problem:
        return _not_done(here, "passkey_add", problem.reason, typed={"passkey_name": here.value("passkey_name")})
    here.release_key()
    return _account(here, passkey_to_make=made)


@router.post("/account/passkeys/add", name="account.add_passkey")
def add_passkey(here: ChangeAnywhere) -> Response:
    """Keep the passkey that was made."""
    problem = actions.add_passkey(here.session, shown_passkey(here), by=here.actor, now=here.now)
    if problem is not None:
        return _not_done(here, "passkey_add", problem)
    return here.redirect("/account", done="passkey_added")


@router.post("/account/passkeys/remove", name="account.remove_passkey")
def remove_passkey(here: ChangeAnywhere) -> Response:
    """Remove a passkey, with the password."""
    assert here.signed_in is not None
    problem = actions.remove_passkey(
        here.session,
        here.number("which"),
        password=here.form.get("password", [""])[-1],
        bound_to=here.signed_in.token_hash,
        by=here.actor,
        now=here.now,
        weighed=here.weighed,
    )
    if problem is not None:
        return _not_done(here, "passkey_remove", problem, typed={"which": here.value("which")})
    return here.redirect("/account", done="passkey_removed")


@router.post("/account/passkeys/ask", name="account.ask_for_passkey")
def ask_for_passkey(here: ChangeAnywhere) -> Response:
    """What the browser uses a passkey with, for a form of this session that asks for the second factor."""
    assert here.signed_in is not None
    options = actions.ask_for_passkey(
        here.session,
        place=passkey_place(here.request),
        bound_to=here.signed_in.token_hash,
        by=here.actor,
        now=here.now,
    )
    here.release_key()
    return JSONResponse(options)


@router.post("/account/sessions/{session_id}/end", name="account.end_session")
def end_session(here: ChangeAnywhere, session_id: str) -> Response:
    """End one of one's own sessions."""
    actions.end_session(here.session, session_id, by=here.actor, now=here.now)
    return here.redirect("/account", done="session_ended")


@router.post("/account/sessions/end", name="account.end_other_sessions")
def end_other_sessions(here: ChangeAnywhere) -> Response:
    """End every session of one's own but this one, once the password was typed again."""
    try:
        require_password(here, here.form.get("password", [""])[-1])
    except Invalid as problem:
        return _account(here, status_code=422, problems={"sessions": problem.reason})
    actions.end_other_sessions(here.session, token=_cookie(here), by=here.actor, now=here.now)
    return here.redirect("/account", done="other_sessions_ended")


@router.post("/account/tokens/scopes", name="account.choose_scopes")
def choose_scopes(here: PageAnywhere, form: TypedForm) -> Response:
    """The form of a new token as it was typed, with several scopes ticked at once. Nothing is kept."""
    study = next((each for each in all_studies(here.session) if each.code == one(form, "study")), None)
    preset = next((each for each in PRESETS if each.code == one(form, "preset")), None)
    if study is None or preset is None:
        raise NotFound
    typed: dict[str, object] = {
        **{name: one(form, name) for name in ("study", "name", "days", "redcap")},
        "site": list(form.get("site", [])),
        "scope": preset.chosen(_scopes(here, [study.id])),
    }
    return _account(here, typed=typed, preset=preset.words)


@router.post("/account/tokens", name="account.create_token")
def create_token(here: ChangeAnywhere) -> Response:
    """Create a token for a program and show it, this once."""
    assert here.signed_in is not None
    study = next((each for each in all_studies(here.session) if each.code == here.value("study")), None)
    if study is None or not (here.signed_in.is_administrator or here.signed_in.grants.get(study.id)):
        raise NotFound
    assert study.id is not None
    in_use = study_in_use(here.session, study.code)
    if in_use.definition.second_factor == "required" and not here.signed_in.second_factor:
        raise SecondFactorNeeded
    by: Actor = reads.actor_for(here.signed_in, study.id, here.actor.request_id)
    days = here.value("days", "90")
    typed = {
        "study": study.code,
        "name": here.value("name"),
        "days": days,
        "scope": list(here.form.get("scope", [])),
        "site": list(here.form.get("site", [])),
        "redcap": here.value("redcap"),
    }
    try:
        require_password(here, here.form.get("password", [""])[-1])
        _, token = actions.create_token(
            here.session,
            person_id=here.actor.person_id,
            study_id=study.id,
            log=study.code,
            name=here.value("name"),
            scopes=here.form.get("scope", []),
            # One of another study stays as it is, and is no site of this one.
            sites=[site.removeprefix(f"{study.code}/") for site in here.form.get("site", [])],
            expires_at=here.now + timedelta(days=int(days) if days.isdecimal() and len(days) < 5 else 0),
            second_factor_needed=in_use.definition.second_factor == "required",
            hexadecimal=bool(here.value("redcap")),
            by=by,
            now=here.now,
        )
    except Invalid as problem:
        here.refuse(problem)
        found = {each.field: each.message for each in problem.problems}
        return _account(here, status_code=422, problems=found, typed=typed)
    here.release_key()
    return _account(here, new_token=token)


@router.post("/account/tokens/{token_id}/revoke", name="account.revoke_token")
def revoke_token(here: ChangeAnywhere, token_id: int) -> Response:
    """Make a token useless, now."""
    mine = next((each for each in reads.tokens_of(here.session, here.actor.person_id) if each.id == token_id), None)
    if mine is None:
        raise NotFound
    code = next((each.code for each in all_studies(here.session) if each.id == mine.study_id), "system")
    actions.revoke_token(here.session, token_id, log=code, by=here.actor, now=here.now)
    return here.redirect("/account", done="token_revoked")
