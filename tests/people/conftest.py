"""People to test with: an installation's administrator, and somebody with a password."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlmodel import Session

from app.audit.actions import ENTRY
from app.people import actions, reads
from app.people.access import Actor, Grant
from app.people.permissions import Role
from app.people.reads import PersonRow
from tests.factories import NOW

PASSWORD = "kettle violet nineteen"
IDLE = timedelta(minutes=15)
ABSOLUTE = timedelta(hours=12)

# The command line acts for the installation: that is how the first administrator comes to be.
CLI = Actor(0, "cli", "Command line", "", grants=(Grant(Role.ADMINISTRATOR),), via="cli", request_id="test")


def add(session: Session, username: str = "anna", *, password: str | None = PASSWORD) -> PersonRow:
    return actions.add_person(
        session,
        username=username,
        name="Anna Berg",
        email=f"{username}@example.org",
        organisation="Test unit",
        password=password,
        by=CLI,
        now=NOW,
    )


def as_actor(person: PersonRow) -> Actor:
    return Actor(person.id, person.username, person.name, person.organisation, request_id="test")


def browser(*, now=NOW, address="192.0.2.1", **more):
    return actions.Browser(now=now, absolute=ABSOLUTE, address=address, **more)


def sign_in(session, username="anna", password=PASSWORD, code=None, *, weighed=None, **more):
    asked = {"username": username, "password": password, "code": code, "weighed": weighed}
    return actions.sign_in(session, **asked, browser=browser(**more))


def signed_in(session, token, now=NOW, **more):
    return reads.signed_in(session, token, now=now, idle=IDLE, absolute=ABSOLUTE, **more)


def row_of(session, username="anna"):
    return reads.person_by_username(session, username)


def logged(session: Session, log: str = "system") -> list[str]:
    """The actions in a log, in order."""
    return list(session.execute(select(ENTRY.c.action).where(ENTRY.c.log == log).order_by(ENTRY.c.position)).scalars())


def everything_logged(session: Session) -> str:
    return "\n".join(str(tuple(row)) for row in session.execute(select(*ENTRY.c)))


@pytest.fixture
def anna(session: Session) -> PersonRow:
    return add(session)
