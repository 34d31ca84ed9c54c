"""What do we keep of people? Persons, grants, sites, invitations, passkeys, sessions, sign-in attempts and tokens."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    text,
)
from sqlmodel import Field, SQLModel

from app.foundation.database import Instant


class Site(SQLModel, table=True):
    """A place where participants are seen; its time zone decides what today is there.

    `version_id` is the version of the study it works under while that is not the one of the study.
    """

    __tablename__ = "site"
    __table_args__ = (
        UniqueConstraint("study_id", "code"),
        Index(
            "ix_site_other_version",
            "study_id",
            sqlite_where=text("version_id IS NOT NULL"),
            postgresql_where=text("version_id IS NOT NULL"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    code: str
    name: str
    timezone: str
    is_open: bool = True
    version_id: int | None = None


class Person(SQLModel, table=True):
    """Somebody who signs in. Never deleted, and a username is never given again (21 CFR 11.100(a))."""

    __tablename__ = "person"

    id: int | None = Field(default=None, primary_key=True)
    username: str = Field(unique=True)
    name: str
    email: str
    organisation: str
    password_hash: str | None = None
    totp_secret: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    totp_last_step: int | None = None
    is_active: bool = True
    created_at: datetime = Field(sa_type=Instant)
    language: str | None = None
    """The language of their pages and mails; none: as their browser wishes, and mails in English."""


class Membership(SQLModel, table=True):
    """One role of one person in one study (none: the whole installation), at one site or all. Ended, never erased."""

    __tablename__ = "membership"
    __table_args__ = (
        Index("ix_membership_person_id", "person_id"),
        CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name="revoked_pair"),
    )

    id: int | None = Field(default=None, primary_key=True)
    person_id: int = Field(foreign_key="person.id")
    study_id: int | None = Field(default=None, foreign_key="study.id")
    site_id: int | None = Field(default=None, foreign_key="site.id")
    role: str
    granted_at: datetime = Field(sa_type=Instant)
    granted_by: str
    revoked_at: datetime | None = Field(default=None, sa_type=Instant)
    revoked_by: str | None = None


class Invitation(SQLModel, table=True):
    """A link with which a person, and nobody else, chooses a password: once, until a date (21 CFR 11.200(a)(3))."""

    __tablename__ = "invitation"
    __table_args__ = (Index("ix_invitation_person_id", "person_id"),)

    token_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    person_id: int = Field(sa_column=Column(Integer, ForeignKey("person.id"), nullable=False))
    created_at: datetime = Field(sa_type=Instant)
    expires_at: datetime = Field(sa_type=Instant)
    used_at: datetime | None = Field(default=None, sa_type=Instant)


class Passkey(SQLModel, table=True):
    """The public half of a passkey of a person's (WebAuthn), and how often their device says it was used.

    `credential_id` is the device's name for it, nobody else's; `count` stays 0 where a device does not count.
    """

    __tablename__ = "passkey"
    __table_args__ = (Index("ix_passkey_person_id", "person_id"),)

    id: int | None = Field(default=None, primary_key=True)
    person_id: int = Field(foreign_key="person.id")
    credential_id: bytes = Field(sa_column=Column(LargeBinary, unique=True, nullable=False))
    public_key: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    count: int = Field(sa_type=BigInteger)
    name: str
    created_at: datetime = Field(sa_type=Instant)
    last_used_at: datetime | None = Field(default=None, sa_type=Instant)


class RecoveryCode(SQLModel, table=True):
    """A code that stands in for a person's second factor, once; kept only as a hash."""

    __tablename__ = "recovery_code"
    __table_args__ = (UniqueConstraint("person_id", "code_hash"),)

    id: int | None = Field(default=None, primary_key=True)
    person_id: int = Field(foreign_key="person.id")
    code_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    made_at: datetime = Field(sa_type=Instant)
    used_at: datetime | None = Field(default=None, sa_type=Instant)


class PasskeyChallenge(SQLModel, table=True):
    """What one passkey was asked to sign: for one person, one purpose and one session or sign-in, once, until then.

    `name` is what a passkey that is being added will be called.
    """

    __tablename__ = "passkey_challenge"
    __table_args__ = (Index("ix_passkey_challenge_expires_at", "expires_at"),)

    challenge: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    person_id: int = Field(sa_column=Column(Integer, ForeignKey("person.id"), nullable=False))
    purpose: str
    bound_to: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    name: str
    expires_at: datetime = Field(sa_type=Instant)
    used_at: datetime | None = Field(default=None, sa_type=Instant)


class SignInSession(SQLModel, table=True):
    """One browser that is signed in; the cookie's token is kept only as a hash."""

    __tablename__ = "sign_in_session"
    __table_args__ = (Index("ix_sign_in_session_person_id", "person_id"),)

    token_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    person_id: int = Field(sa_column=Column(Integer, ForeignKey("person.id"), nullable=False))
    csrf_token: str
    second_factor: bool = False
    created_at: datetime = Field(sa_type=Instant)
    seen_at: datetime = Field(sa_type=Instant)
    expires_at: datetime = Field(sa_type=Instant)
    ended_at: datetime | None = Field(default=None, sa_type=Instant)
    address: str = ""
    browser: str = ""


class SignInAttempt(SQLModel, table=True):
    """One attempt to prove who one is, right or wrong: what the throttle counts.

    `username` is the username of a person we know; otherwise a fingerprint of what was typed, because people type
    passwords into the wrong field.
    """

    __tablename__ = "sign_in_attempt"
    __table_args__ = (
        Index("ix_sign_in_attempt_username", "username", "at"),
        Index("ix_sign_in_attempt_address", "address", "at"),
    )

    id: int | None = Field(default=None, primary_key=True)
    username: str
    address: str
    at: datetime = Field(sa_type=Instant)
    succeeded: bool


class AccessReview(SQLModel, table=True):
    """One review of who may do what in a study. Never updated, never deleted: triggers on both databases refuse it.

    `lines` holds, as JSON, every role that was held then, and whether it was confirmed or ended.
    """

    __tablename__ = "access_review"
    __table_args__ = (Index("ix_access_review_study_id", "study_id", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id")
    lines: str = Field(sa_type=Text)
    word: str = Field(sa_type=Text)
    reviewed_at: datetime = Field(sa_type=Instant)
    reviewed_by: str


class ApiToken(SQLModel, table=True):
    """A key for a program that acts as a person in one study, for some permissions, until a date.

    `sites` are those it is limited to (ids with spaces; empty: all at which its owner works).
    """

    __tablename__ = "api_token"

    id: int | None = Field(default=None, primary_key=True)
    token_hash: bytes = Field(sa_column=Column(LargeBinary, unique=True, nullable=False))
    person_id: int = Field(foreign_key="person.id")
    study_id: int = Field(foreign_key="study.id")
    name: str
    scopes: str
    sites: str = Field(default="", sa_column_kwargs={"server_default": ""})
    created_at: datetime = Field(sa_type=Instant)
    expires_at: datetime = Field(sa_type=Instant)
    last_used_at: datetime | None = Field(default=None, sa_type=Instant)
    revoked_at: datetime | None = Field(default=None, sa_type=Instant)
    draft_id: int | None = None
    """The draft of a study that a super token made; this token acts in it, and then in the study made of it."""
    parent_id: int | None = None
    """The super token that it was made with, and ends with."""
