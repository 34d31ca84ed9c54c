"""What may I see of people? Who is signed in, who holds which right (and held it then), sites, sessions, tokens."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from json import loads
from typing import Any

from sqlalchemy import (
    Integer,
    LargeBinary,
    String,
    and_,
    bindparam,
    cast,
    column,
    exists,
    func,
    or_,
    select,
    table,
    true,
)
from sqlalchemy.sql import Select
from sqlmodel import Session

from app.foundation import paging
from app.foundation.crypto.secrets import token_hash
from app.foundation.database import Instant, joined_texts, table_of
from app.people.access import Actor, Grant, sites_for, token_grants
from app.people.models import (
    AccessReview,
    ApiToken,
    Invitation,
    Membership,
    Passkey,
    PasskeyChallenge,
    Person,
    RecoveryCode,
    SignInAttempt,
    SignInSession,
    Site,
)
from app.people.permissions import Apart, Permission, Role, conflicts
from app.people.rules import (
    ACCOUNT_LOOKS_BACK,
    ADDRESS_LOOKS_BACK,
    SEEN_EVERY,
    Failures,
    normal_username,
    why_ended,
    why_throttled,
)

PERSON = table_of(Person)
MEMBERSHIP = table_of(Membership)
SITE = table_of(Site)
SESSION = table_of(SignInSession)
ATTEMPT = table_of(SignInAttempt)
INVITATION = table_of(Invitation)
TOKEN = table_of(ApiToken)
ACCESS_REVIEW = table_of(AccessReview)
PASSKEY = table_of(Passkey)
CHALLENGE = table_of(PasskeyChallenge)
RECOVERY = table_of(RecoveryCode)
HAS_CODES = PERSON.c.totp_secret.is_not(None).label("has_codes")
HAS_PASSKEY = exists().where(PASSKEY.c.person_id == PERSON.c.id).correlate(PERSON).label("has_passkey")
HAS_SECOND_FACTOR = or_(HAS_CODES.element, HAS_PASSKEY.element).label("has_second_factor")
# The room of studies stands above this one; only its names are known here.
STUDY = table("study", column("id"), column("code"), column("version_id"))
STUDY_VERSION = table("study_version", column("id"), column("sha256", String))
_AT_SITE = STUDY_VERSION.alias("at_site")
VERSIONS_AT_SITES = (
    select(joined_texts(cast(SITE.c.id, String) + " " + cast(SITE.c.version_id, String) + " " + _AT_SITE.c.sha256, ","))
    .select_from(SITE.join(_AT_SITE, _AT_SITE.c.id == SITE.c.version_id))
    .where(SITE.c.study_id == STUDY.c.id, SITE.c.version_id.is_not(None))
    .correlate(STUDY)
    .scalar_subquery()
)
"""Sites that work under another version than the study: "site version sha256", commas between; NULL for none."""

TOKEN_PREFIX = "eqp_"  # noqa: S105 says what the text is, so that a leaked one is recognised
# Tokens for REDCap's clients, which accept no other form: of one study, and what they call a super token.
SUPER = 64
HEXADECIMAL = re.compile(r"[0-9A-F]{32}(?:[0-9A-F]{32})?").fullmatch


# Statements of every request, built once: putting a SELECT together takes longer than running it

_OF_STUDY = (
    STUDY.c.id.label("asked_study_id"),
    STUDY.c.code.label("asked_code"),
    STUDY.c.version_id.label("asked_version_id"),
    STUDY_VERSION.c.sha256.label("asked_sha256"),
    VERSIONS_AT_SITES.label("asked_at_sites"),
)
_SIGNED_IN = (
    select(
        SESSION.c.token_hash,
        SESSION.c.csrf_token,
        SESSION.c.second_factor,
        SESSION.c.created_at,
        SESSION.c.seen_at,
        SESSION.c.expires_at,
        SESSION.c.ended_at,
        PERSON.c.id,
        PERSON.c.username,
        PERSON.c.name,
        PERSON.c.email,
        PERSON.c.organisation,
        PERSON.c.language,
        HAS_CODES,
        HAS_PASSKEY,
        MEMBERSHIP.c.study_id,
        MEMBERSHIP.c.site_id,
        MEMBERSHIP.c.role,
        *_OF_STUDY,
    )
    .select_from(
        SESSION.join(PERSON, PERSON.c.id == SESSION.c.person_id)
        .outerjoin(MEMBERSHIP, and_(MEMBERSHIP.c.person_id == SESSION.c.person_id, MEMBERSHIP.c.revoked_at.is_(None)))
        .outerjoin(STUDY, STUDY.c.code == bindparam("study_code", type_=String))
        .outerjoin(STUDY_VERSION, STUDY_VERSION.c.id == STUDY.c.version_id)
    )
    .where(
        SESSION.c.token_hash == bindparam("token_hash", type_=LargeBinary),
        SESSION.c.ended_at.is_(None),
        PERSON.c.is_active,
    )
    .order_by(MEMBERSHIP.c.id)
)

_TOKEN = (
    select(
        *_OF_STUDY,
        TOKEN.c.id.label("token_id"),
        TOKEN.c.scopes,
        TOKEN.c.sites,
        TOKEN.c.last_used_at,
        TOKEN.c.draft_id,
        HAS_SECOND_FACTOR,
        PERSON.c.id,
        PERSON.c.username,
        PERSON.c.name,
        PERSON.c.organisation,
        MEMBERSHIP.c.study_id,
        MEMBERSHIP.c.site_id,
        MEMBERSHIP.c.role,
    )
    .select_from(
        TOKEN.join(PERSON, PERSON.c.id == TOKEN.c.person_id)
        .outerjoin(
            MEMBERSHIP,
            and_(
                MEMBERSHIP.c.person_id == TOKEN.c.person_id,
                MEMBERSHIP.c.revoked_at.is_(None),
                or_(MEMBERSHIP.c.study_id == TOKEN.c.study_id, MEMBERSHIP.c.study_id.is_(None)),
            ),
        )
        .join(STUDY, STUDY.c.id == TOKEN.c.study_id)
        .outerjoin(STUDY_VERSION, STUDY_VERSION.c.id == STUDY.c.version_id)
    )
    .where(
        TOKEN.c.token_hash == bindparam("token_hash", type_=LargeBinary),
        TOKEN.c.revoked_at.is_(None),
        TOKEN.c.expires_at > bindparam("now", type_=Instant),
        PERSON.c.is_active,
    )
    .order_by(MEMBERSHIP.c.id)
)

# What a site works under is read with the study.
_SITES = (
    select(*(one for one in SITE.c if one.name != "version_id"))
    .where(SITE.c.study_id == bindparam("study_id", type_=Integer))
    .order_by(SITE.c.code)
)


# Who acts


@dataclass(frozen=True)
class AskedStudy:
    """A study found on the way and its version that holds now; the room of studies makes sense of it."""

    id: int
    code: str
    version_id: int
    sha256: str
    versions_at_sites: str | None = None


def _asked(row: Any) -> AskedStudy | None:
    if row.asked_study_id is None or row.asked_sha256 is None:
        return None
    return AskedStudy(row.asked_study_id, row.asked_code, row.asked_version_id, row.asked_sha256, row.asked_at_sites)


class _HasSecondFactors:
    """What follows from which second factors somebody has."""

    has_codes: bool
    has_passkey: bool

    @property
    def has_second_factor(self) -> bool:
        """Whether they have a second factor, of whichever kind."""
        return self.has_codes or self.has_passkey


@dataclass(frozen=True)
class SignedIn(_HasSecondFactors):
    """Who this browser is, and everything they hold; `grants` by study, None for the whole installation.

    `second_factor` is whether this session began with a second factor that the person still has; `has_codes` and
    `has_passkey` say which they have at all. `study_id` is the study whose code was asked for, None when there is none,
    and `study` says more of it once a version is loaded.
    """

    token_hash: bytes
    person_id: int
    username: str
    name: str
    email: str
    organisation: str
    csrf_token: str
    second_factor: bool
    has_codes: bool
    has_passkey: bool
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    study_id: int | None = None
    study: AskedStudy | None = None
    language: str | None = None
    grants: Mapping[int | None, tuple[Grant, ...]] = field(default_factory=dict)

    @property
    def second_factors(self) -> tuple[str, ...]:
        """What a form that asks for their second factor offers: "code", "passkey", both or nothing."""
        return ("code",) * self.has_codes + ("passkey",) * self.has_passkey

    @property
    def is_administrator(self) -> bool:
        """Whether they administer the whole installation."""
        return any(grant.role is Role.ADMINISTRATOR for grant in self.grants.get(None, ()))

    def due_for_touch(self, now: datetime) -> bool:
        """Whether `actions.touch` would write: a door that only reads opens a writing session no more often."""
        return now - self.seen_at >= SEEN_EVERY


def signed_in(
    session: Session,
    token: str,
    *,
    now: datetime,
    idle: timedelta,
    absolute: timedelta,
    study_code: str | None = None,
) -> SignedIn | None:
    """Whose session this cookie is, with every right that holds at this moment, in one statement; None when over."""
    rows = session.execute(_SIGNED_IN, {"token_hash": token_hash(token), "study_code": study_code}).all()
    if not rows or why_ended(rows[0], now, idle, absolute) is not None:
        return None
    first = rows[0]
    return SignedIn(
        token_hash=first.token_hash,
        person_id=first.id,
        username=first.username,
        name=first.name,
        email=first.email,
        organisation=first.organisation,
        csrf_token=first.csrf_token,
        second_factor=first.second_factor and bool(first.has_codes or first.has_passkey),
        has_codes=bool(first.has_codes),
        has_passkey=bool(first.has_passkey),
        created_at=first.created_at,
        seen_at=first.seen_at,
        expires_at=min(first.expires_at, first.created_at + absolute),
        study_id=first.asked_study_id,
        study=_asked(first),
        language=first.language,
        grants=_by_study(rows),
    )


def owner_of_session(session: Session, token: str) -> int | None:
    """Whose session this cookie was, also when it is over; None when it never was one."""
    return session.execute(select(SESSION.c.person_id).where(SESSION.c.token_hash == token_hash(token))).scalar()


def owner_of_cookie(session: Session, token: str) -> Any | None:
    """Username and stored hash of whoever is signed in with this cookie: to weigh a password before a change."""
    query = (
        select(PERSON.c.username, PERSON.c.password_hash)
        .select_from(SESSION.join(PERSON, PERSON.c.id == SESSION.c.person_id))
        .where(SESSION.c.token_hash == token_hash(token), SESSION.c.ended_at.is_(None), PERSON.c.is_active)
    )
    return session.execute(query).first()


def owner_of_token(session: Session, token: str, *, now: datetime) -> Any | None:
    """Username and stored hash of whoever this API token acts as, as `owner_of_cookie`."""
    query = (
        select(PERSON.c.username, PERSON.c.password_hash)
        .select_from(TOKEN.join(PERSON, PERSON.c.id == TOKEN.c.person_id))
        .where(
            TOKEN.c.token_hash == token_hash(token),
            TOKEN.c.revoked_at.is_(None),
            TOKEN.c.expires_at > now,
            PERSON.c.is_active,
        )
    )
    return session.execute(query).first()


def owner_of_form(session: Session, made_from: Callable[[str], bool], *, since: datetime) -> int | None:
    """Whose session a form was made in, when its cookie is gone: the one whose secret its token was made from."""
    secrets = select(SESSION.c.person_id, SESSION.c.csrf_token).where(SESSION.c.created_at >= since)
    return next((row.person_id for row in session.execute(secrets) if made_from(row.csrf_token)), None)


def actor_for(signed_in: SignedIn, study_id: int | None, request_id: str, *, via: str = "web") -> Actor:
    """The person as they act in one study, or (None) on the installation, where only administrators hold a right."""
    everywhere = tuple(grant for grant in signed_in.grants.get(None, ()) if grant.role is Role.ADMINISTRATOR)
    here = signed_in.grants.get(study_id, ()) if study_id is not None else ()
    return Actor(
        person_id=signed_in.person_id,
        username=signed_in.username,
        name=signed_in.name,
        organisation=signed_in.organisation,
        grants=tuple(dict.fromkeys((*here, *everywhere))),
        study_id=study_id,
        request_id=request_id,
        via=via,
    )


@dataclass(frozen=True)
class TokenOwner:
    """Whom a token acts as, in the one study it was made for."""

    actor: Actor
    study: AskedStudy | None
    """None while no version of it is loaded."""
    has_second_factor: bool
    draft_id: int | None = None
    """The draft that it acts in, and nowhere else in that study."""


def token_owner(session: Session, token: str, *, now: datetime, request_id: str) -> TokenOwner | None:
    """Whose API token this is and what it may do now, in one statement; None when it is not valid."""
    if not token.startswith(TOKEN_PREFIX) and not HEXADECIMAL(token):
        return None
    rows = session.execute(_TOKEN, {"token_hash": token_hash(token), "now": now}).all()
    if not rows:
        return None
    first = rows[0]
    at_sites = frozenset(map(int, first.sites.split())) if first.sites else None
    actor = Actor(
        person_id=first.id,
        username=first.username,
        name=first.name,
        organisation=first.organisation,
        grants=token_grants([grant for grants in _by_study(rows).values() for grant in grants], at_sites),
        study_id=first.asked_study_id,
        request_id=request_id,
        via="api",
        scopes=frozenset(first.scopes.split()),
        token_sites=at_sites,
        token_id=first.token_id,
        token_last_used_at=first.last_used_at,
    )
    return TokenOwner(actor, _asked(first), bool(first.has_second_factor), first.draft_id)


def _by_study(rows: Sequence[Any]) -> dict[int | None, tuple[Grant, ...]]:
    grants: dict[int | None, tuple[Grant, ...]] = {}
    for row in rows:
        if row.role is not None:  # the empty side of the outer join: somebody without any role
            grants[row.study_id] = (*grants.get(row.study_id, ()), Grant(Role(row.role), row.site_id))
    return grants


def acting(
    session: Session,
    person_id: int,
    study_id: int,
    *,
    request_id: str,
    via: str,
    at_sites: frozenset[int] | None = None,
) -> Actor:
    """A person as they may act in a study at this moment, without being there: for what they asked to be done later.

    Without any right when their account was closed, or their roles were taken away, since. `at_sites` are those that
    they asked for it at, as a token of some sites does.
    """
    rows = session.execute(
        select(PERSON.c.username, PERSON.c.name, PERSON.c.organisation, MEMBERSHIP.c.study_id, MEMBERSHIP.c.site_id)
        .add_columns(MEMBERSHIP.c.role)
        .select_from(
            PERSON.outerjoin(
                MEMBERSHIP,
                and_(
                    MEMBERSHIP.c.person_id == PERSON.c.id,
                    MEMBERSHIP.c.revoked_at.is_(None),
                    MEMBERSHIP.c.study_id == study_id,
                    PERSON.c.is_active,
                ),
            )
        )
        .where(PERSON.c.id == person_id)
    ).all()
    first = rows[0]
    return Actor(
        person_id=person_id,
        username=first.username,
        name=first.name,
        organisation=first.organisation,
        grants=token_grants(_by_study(rows).get(study_id, ()), at_sites),
        study_id=study_id,
        request_id=request_id,
        via=via,
    )


# Persons


@dataclass(frozen=True)
class PersonRow(_HasSecondFactors):
    """A person as lists and pages show them; never a secret."""

    id: int
    username: str
    name: str
    email: str
    organisation: str
    is_active: bool
    has_password: bool
    has_codes: bool
    has_passkey: bool
    created_at: datetime
    language: str | None = None


def _persons() -> Select[Any]:
    return select(
        PERSON.c.id,
        PERSON.c.username,
        PERSON.c.name,
        PERSON.c.email,
        PERSON.c.organisation,
        PERSON.c.is_active,
        PERSON.c.password_hash.is_not(None).label("has_password"),
        HAS_CODES,
        HAS_PASSKEY,
        PERSON.c.created_at,
        PERSON.c.language,
    )


def _person(row: Any) -> PersonRow:
    values = dict(row._mapping)
    values["has_password"] = bool(values["has_password"])
    for name in ("has_codes", "has_passkey"):
        values[name] = bool(values[name])
    return PersonRow(**values)


def person_by_id(session: Session, person_id: int) -> PersonRow | None:
    """The person with this number."""
    row = session.execute(_persons().where(PERSON.c.id == person_id)).first()
    return _person(row) if row else None


def person_by_username(session: Session, username: str) -> PersonRow | None:
    """The person with this username, however it is typed."""
    row = session.execute(_persons().where(PERSON.c.username == normal_username(username))).first()
    return _person(row) if row else None


def emails_of(session: Session, usernames: Collection[str]) -> dict[str, str]:
    """The address of each of these people, by username."""
    query = select(PERSON.c.username, PERSON.c.email).where(PERSON.c.username.in_(sorted(usernames)))
    return {row.username: row.email for row in session.execute(query)}


def has_been_in(session: Session, person_id: int) -> bool:
    """Whether somebody ever chose a password or proved who they are, also when the password was taken away since.

    Whoever gets the next link acts under that name: until then it is nobody's, and from then on it is this person's.
    """
    accounts = select(PERSON.c.username).where(PERSON.c.id == person_id).scalar_subquery()
    query = select(
        or_(
            exists().where(PERSON.c.id == person_id, PERSON.c.password_hash.is_not(None)),
            exists().where(INVITATION.c.person_id == person_id, INVITATION.c.used_at.is_not(None)),
            exists().where(SESSION.c.person_id == person_id),
            exists().where(ATTEMPT.c.succeeded, ATTEMPT.c.username.in_([accounts, accounts + "/again"])),
        )
    )
    return bool(session.execute(query).scalar())


def people_page(
    session: Session, *, study_id: int | None = None, cursor: str | None = None, limit: int | None = None
) -> paging.Page[PersonRow]:
    """Persons by username, a page at a time; of one study: those who hold a role in it."""
    size = paging.page_size(limit)
    query = _persons()
    if study_id is not None:
        query = query.where(
            exists().where(
                MEMBERSHIP.c.person_id == PERSON.c.id,
                MEMBERSHIP.c.study_id == study_id,
                MEMBERSHIP.c.revoked_at.is_(None),
            )
        )
    backwards = False
    if cursor:
        (username,), backwards = paging.decode(cursor, 1, str)
        query = query.where(PERSON.c.username < username if backwards else PERSON.c.username > username)
    order = PERSON.c.username.desc() if backwards else PERSON.c.username.asc()
    found = [_person(row) for row in session.execute(query.order_by(order).limit(size + 1))]
    return paging.page_of(found, size, lambda row: (row.username,), cursor=cursor, backwards=backwards)


# Rights


@dataclass(frozen=True)
class Right:
    """One role of one person: where, from when, given by whom, and until when."""

    id: int
    person_id: int
    username: str
    name: str
    organisation: str
    role: Role
    study_id: int | None
    study_code: str | None
    site_id: int | None
    site_code: str | None
    granted_at: datetime
    granted_by: str
    revoked_at: datetime | None
    revoked_by: str | None


def _rights() -> Select[Any]:
    return (
        select(
            MEMBERSHIP.c.id,
            MEMBERSHIP.c.person_id,
            PERSON.c.username,
            PERSON.c.name,
            PERSON.c.organisation,
            MEMBERSHIP.c.role,
            MEMBERSHIP.c.study_id,
            STUDY.c.code.label("study_code"),
            MEMBERSHIP.c.site_id,
            SITE.c.code.label("site_code"),
            MEMBERSHIP.c.granted_at,
            MEMBERSHIP.c.granted_by,
            MEMBERSHIP.c.revoked_at,
            MEMBERSHIP.c.revoked_by,
        )
        .select_from(
            MEMBERSHIP.join(PERSON, PERSON.c.id == MEMBERSHIP.c.person_id)
            .outerjoin(SITE, SITE.c.id == MEMBERSHIP.c.site_id)
            .outerjoin(STUDY, STUDY.c.id == MEMBERSHIP.c.study_id)
        )
        .order_by(PERSON.c.username, MEMBERSHIP.c.id)
    )


def _right(row: Any) -> Right:
    return Right(**{name: getattr(row, name) for name in Right.__dataclass_fields__} | {"role": Role(row.role)})


def memberships_of(session: Session, person_id: int, *, ended: bool = False) -> list[Right]:
    """The roles of one person in every study; with `ended`, also those that were taken back."""
    query = _rights().where(MEMBERSHIP.c.person_id == person_id)
    if not ended:
        query = query.where(MEMBERSHIP.c.revoked_at.is_(None))
    return [_right(row) for row in session.execute(query)]


def members_of(session: Session, study_id: int) -> list[Right]:
    """Who holds which role in a study now."""
    query = _rights().where(MEMBERSHIP.c.study_id == study_id, MEMBERSHIP.c.revoked_at.is_(None))
    return [_right(row) for row in session.execute(query)]


MEETING_EVERYBODY = (Permission.EXPORT_RUN, Permission.AUDIT_READ)
"""Who takes the data or reads the log meets everybody's name there; others see themselves in lists of people."""


@dataclass(frozen=True)
class Member:
    """Somebody who holds a role in a study now, and each of their roles there."""

    username: str
    name: str
    organisation: str
    rights: tuple[Right, ...]


def members_seen(session: Session, study_id: int, *, by: Actor) -> list[Member]:
    """Those who hold a role in a study and whom this person may see in a list, by username.

    Who reads the log or takes data at some sites sees who works there, or for the whole study; others see themselves.
    """
    sites = [sites_for(by, permission) for permission in MEETING_EVERYBODY]
    everywhere, at = None in sites, frozenset().union(*(each for each in sites if each is not None))
    held: dict[str, list[Right]] = {}
    for right in members_of(session, study_id):
        held.setdefault(right.username, []).append(right)
    return [
        Member(username, rights[0].name, rights[0].organisation, tuple(rights))
        for username, rights in held.items()
        if everywhere
        or username == by.username
        or (at and any(right.site_id is None or right.site_id in at for right in rights))
    ]


@dataclass(frozen=True)
class Access:
    """Who somebody is in a study, and how they get in: their roles, their last sign-in, their tokens that still work.

    `conflicts` are duties that should not be with one person.
    """

    person_id: int
    username: str
    name: str
    organisation: str
    is_active: bool
    has_second_factor: bool
    last_sign_in: datetime | None
    rights: tuple[Right, ...]
    tokens: tuple["TokenRow", ...] = ()
    conflicts: tuple[Apart, ...] = ()


def access_in(session: Session, study_id: int, *, now: datetime) -> list[Access]:
    """Everybody who holds a role in a study, or administers the installation, by username; in two statements.

    Roles that were held once count where duties are kept apart, and are not listed.
    """
    last = select(func.max(SESSION.c.created_at)).where(SESSION.c.person_id == PERSON.c.id).scalar_subquery()
    query = (
        _rights()
        .add_columns(PERSON.c.is_active, HAS_SECOND_FACTOR, last.label("last_sign_in"))
        .where(or_(MEMBERSHIP.c.study_id == study_id, MEMBERSHIP.c.study_id.is_(None)))
    )
    rows: dict[int, list[Any]] = {}
    for row in session.execute(query):
        rows.setdefault(row.person_id, []).append(row)
    columns = [TOKEN.c[name] for name in TokenRow.__dataclass_fields__]
    tokens: dict[int, list[TokenRow]] = {}
    working = select(*columns).where(
        TOKEN.c.study_id == study_id, TOKEN.c.revoked_at.is_(None), TOKEN.c.expires_at > now
    )
    for row in session.execute(working.order_by(TOKEN.c.id)):
        tokens.setdefault(row.person_id, []).append(_token(row))
    found = []
    for person_id, theirs in rows.items():
        held = [row for row in theirs if row.revoked_at is None]
        if not held:
            continue
        once = frozenset(Role(row.role) for row in theirs if row.revoked_at is not None)
        first = held[0]
        found.append(
            Access(
                person_id=person_id,
                username=first.username,
                name=first.name,
                organisation=first.organisation,
                is_active=first.is_active,
                has_second_factor=bool(first.has_second_factor),
                last_sign_in=first.last_sign_in,
                rights=tuple(map(_right, held)),
                tokens=tuple(tokens.get(person_id, ())),
                conflicts=conflicts(frozenset(Role(row.role) for row in held), once),
            )
        )
    return found


@dataclass(frozen=True)
class AccessReviewRow:
    """One review of access: when, by whom, what they based it on, and every role with what became of it."""

    id: int
    lines: tuple[Mapping[str, Any], ...]
    word: str
    reviewed_at: datetime
    reviewed_by: str


def access_reviews(session: Session, study_id: int, *, number: int | None = None) -> list[AccessReviewRow]:
    """The reviews of access of a study, the newest first, or one of them; there are few, as people write them."""
    query = select(ACCESS_REVIEW).where(ACCESS_REVIEW.c.study_id == study_id).order_by(ACCESS_REVIEW.c.id.desc())
    if number is not None:
        query = query.where(ACCESS_REVIEW.c.id == number)
    return [
        AccessReviewRow(row.id, tuple(loads(row.lines)), row.word, row.reviewed_at, row.reviewed_by)
        for row in session.execute(query)
    ]


def rights_at(session: Session, moment: datetime, *, study_id: int | None = None) -> list[Right]:
    """Who held which right at a past moment (FDA electronic systems guidance 2024, question 11).

    Exact, because roles are ended and never erased, and deactivating a person ends theirs. In one study it also lists
    the administrators of the installation, who hold their right there too.
    """
    query = _rights().where(
        MEMBERSHIP.c.granted_at <= moment,
        or_(MEMBERSHIP.c.revoked_at.is_(None), MEMBERSHIP.c.revoked_at > moment),
    )
    if study_id is not None:
        query = query.where(or_(MEMBERSHIP.c.study_id == study_id, MEMBERSHIP.c.study_id.is_(None)))
    return [_right(row) for row in session.execute(query)]


@dataclass(frozen=True)
class SiteRow:
    """A site of a study."""

    id: int
    study_id: int
    code: str
    name: str
    timezone: str
    is_open: bool


def people_to_tell(
    session: Session, study_id: int, roles: Sequence[Role], *, site_id: int | None, but: Actor
) -> list[Any]:
    """Who is told of what happened at a site: id, username, email, language, site's name; never who did it."""
    name = select(SITE.c.name).where(SITE.c.id == site_id).scalar_subquery()
    return list(
        session.execute(
            select(PERSON.c.id, PERSON.c.username, PERSON.c.email, PERSON.c.language, name.label("site"))
            .join(MEMBERSHIP, MEMBERSHIP.c.person_id == PERSON.c.id)
            .where(
                MEMBERSHIP.c.study_id == study_id,
                MEMBERSHIP.c.role.in_(roles),
                MEMBERSHIP.c.revoked_at.is_(None),
                or_(MEMBERSHIP.c.site_id.is_(None), MEMBERSHIP.c.site_id == site_id),
                PERSON.c.is_active,
                PERSON.c.email != "",
                PERSON.c.id != but.person_id,
            )
            .distinct()
            .order_by(PERSON.c.id)
        )
    )


def sites_of(session: Session, study_id: int) -> list[SiteRow]:
    """The sites of a study by code."""
    return [SiteRow(**row._mapping) for row in session.execute(_SITES, {"study_id": study_id})]


def sites_worked_at(session: Session, study_id: int, *, by: Actor) -> tuple[SiteRow, ...]:
    """The sites of a study at which this person holds a role, by code; every one for who holds theirs for all."""
    wanted = {grant.site_id for grant in by.grants}
    return tuple(row for row in sites_of(session, study_id) if None in wanted or row.id in wanted)


# Sessions and tokens


@dataclass(frozen=True)
class SessionRow:
    """A browser that is signed in, as its owner sees it. `id` ends it and cannot be used to sign in."""

    id: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    second_factor: bool
    address: str
    browser: str


def sessions_of(
    session: Session, person_id: int, *, now: datetime, idle: timedelta, absolute: timedelta
) -> list[SessionRow]:
    """The running sessions of a person, the last used first."""
    query = select(*SESSION.c).where(
        SESSION.c.person_id == person_id, SESSION.c.ended_at.is_(None), SESSION.c.expires_at > now
    )
    return [
        SessionRow(
            id=row.token_hash.hex(),
            created_at=row.created_at,
            seen_at=row.seen_at,
            expires_at=min(row.expires_at, row.created_at + absolute),
            second_factor=row.second_factor,
            address=row.address,
            browser=row.browser,
        )
        for row in session.execute(query.order_by(SESSION.c.seen_at.desc()))
        if why_ended(row, now, idle, absolute) is None
    ]


@dataclass(frozen=True)
class PasskeyRow:
    """A passkey as its owner sees it."""

    id: int
    name: str
    created_at: datetime
    last_used_at: datetime | None


def passkeys_of(session: Session, person_id: int) -> list[PasskeyRow]:
    """The passkeys of a person, the oldest first."""
    columns = [PASSKEY.c[name] for name in PasskeyRow.__dataclass_fields__]
    query = select(*columns).where(PASSKEY.c.person_id == person_id).order_by(PASSKEY.c.id)
    return [PasskeyRow(**row._mapping) for row in session.execute(query)]


@dataclass(frozen=True)
class RecoveryCodes:
    """How many of a person's recovery codes are left, of how many, and when these were made."""

    left: int
    made: int
    made_at: datetime


def recovery_codes_of(session: Session, person_id: int) -> RecoveryCodes | None:
    """The recovery codes of a person; None when none were ever made, or they were taken away."""
    numbers = (func.count() - func.count(RECOVERY.c.used_at), func.count(), func.min(RECOVERY.c.made_at))
    left, made, made_at = session.execute(select(*numbers).where(RECOVERY.c.person_id == person_id)).one()
    return RecoveryCodes(int(left), int(made), made_at) if made else None


@dataclass(frozen=True)
class TokenRow:
    """An API token as its owner sees it; its text is shown once and never kept. Without `sites`: all of its owner's."""

    id: int
    person_id: int
    study_id: int
    name: str
    scopes: tuple[str, ...]
    sites: tuple[int, ...]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


def tokens_of(session: Session, person_id: int, *, study_id: int | None = None) -> list[TokenRow]:
    """The tokens of a person (in one study), the newest first, ended ones too."""
    columns = [TOKEN.c[name] for name in TokenRow.__dataclass_fields__]
    query = select(*columns).where(TOKEN.c.person_id == person_id).order_by(TOKEN.c.id.desc())
    if study_id is not None:
        query = query.where(TOKEN.c.study_id == study_id)
    return [_token(row) for row in session.execute(query)]


def _token(row: Any) -> TokenRow:
    lists = {"scopes": tuple(row.scopes.split()), "sites": tuple(map(int, row.sites.split()))}
    return TokenRow(**{**row._mapping, **lists})


def token_numbered(session: Session, token_id: int) -> TokenRow:
    """The token of this number, which is in somebody's hands."""
    columns = [TOKEN.c[name] for name in TokenRow.__dataclass_fields__]
    return _token(session.execute(select(*columns).where(TOKEN.c.id == token_id)).one())


# Invitations and attempts


def invited_person(session: Session, token: str, *, now: datetime) -> PersonRow | None:
    """Who may choose a password with this link; None when it was used, is too old or never was one."""
    query = (
        _persons()
        .join(INVITATION, INVITATION.c.person_id == PERSON.c.id)
        .where(
            INVITATION.c.token_hash == token_hash(token),
            INVITATION.c.used_at.is_(None),
            INVITATION.c.expires_at > now,
            PERSON.c.is_active,
        )
    )
    row = session.execute(query).first()
    return _person(row) if row else None


def throttle_state(session: Session, *, account: str, address: str, now: datetime) -> str | None:
    """Why the next attempt for this account or from this address must wait, or None; in one statement.

    An account starts afresh when its owner gets in. An address does not start afresh for somebody who gets in with an
    account of their own: only the failures of that account stop counting.
    """
    last_success = (
        select(func.coalesce(func.max(ATTEMPT.c.id), 0))
        .where(ATTEMPT.c.username == account, ATTEMPT.c.succeeded, ATTEMPT.c.at > now - ACCOUNT_LOOKS_BACK)
        .scalar_subquery()
    )
    of_account = (
        select(func.count().label("count"), func.max(ATTEMPT.c.at).label("last_at"))
        .where(
            ATTEMPT.c.username == account,
            ~ATTEMPT.c.succeeded,
            ATTEMPT.c.at > now - ACCOUNT_LOOKS_BACK,
            ATTEMPT.c.id > last_success,
        )
        .subquery()
    )
    later = ATTEMPT.alias("later")
    of_address = (
        select(func.count().label("count"), func.max(ATTEMPT.c.at).label("last_at"))
        .where(
            ATTEMPT.c.address == address,
            ATTEMPT.c.address != "",
            ~ATTEMPT.c.succeeded,
            ATTEMPT.c.at > now - ADDRESS_LOOKS_BACK,
            ~exists().where(
                later.c.address == address,
                later.c.username == ATTEMPT.c.username,
                later.c.succeeded,
                later.c.at > now - ADDRESS_LOOKS_BACK,
                later.c.id > ATTEMPT.c.id,
            ),
        )
        .subquery()
    )
    row = session.execute(
        select(of_account.c.count, of_account.c.last_at, of_address.c.count, of_address.c.last_at).select_from(
            of_account.join(of_address, true())
        )
    ).one()
    return why_throttled(Failures(row[0], row[1]), Failures(row[2], row[3]), now=now)
