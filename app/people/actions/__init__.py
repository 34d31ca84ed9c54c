"""What may I do about people? Persons and passwords, sign-in, second factor, roles and sites, tokens."""

from app.people.actions.persons import (
    accept_invitation,
    activate,
    add_person,
    choose_language,
    deactivate,
    invite,
    mail_invitation,
    set_password,
)
from app.people.actions.proving import HASHES_AT_ONCE, Weighed, weigh, weighed_again
from app.people.actions.rights import add_site, grant, revoke
from app.people.actions.second_factor import (
    Enrolment,
    enrol_second_factor_confirm,
    enrol_second_factor_start,
    remove_second_factor,
    reset_second_factor,
)
from app.people.actions.sessions import (
    BeforeSignIn,
    SignInResult,
    before_sign_in,
    end_other_sessions,
    end_session,
    end_sessions_of,
    reauthenticate,
    renew_session,
    sign_in,
    sign_out,
    touch,
)
from app.people.actions.tokens import create_token, revoke_token, touch_token

__all__ = [
    "HASHES_AT_ONCE",
    "BeforeSignIn",
    "Enrolment",
    "SignInResult",
    "Weighed",
    "accept_invitation",
    "activate",
    "add_person",
    "add_site",
    "before_sign_in",
    "choose_language",
    "create_token",
    "deactivate",
    "end_other_sessions",
    "end_session",
    "end_sessions_of",
    "enrol_second_factor_confirm",
    "enrol_second_factor_start",
    "grant",
    "invite",
    "mail_invitation",
    "reauthenticate",
    "remove_second_factor",
    "renew_session",
    "reset_second_factor",
    "revoke",
    "revoke_token",
    "set_password",
    "sign_in",
    "sign_out",
    "touch",
    "touch_token",
    "weigh",
    "weighed_again",
]
