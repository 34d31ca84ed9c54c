"""What do we tell people by mail? `queue` puts a mail in the outbox, in the transaction of what it tells of."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from app.foundation.crypto.envelopes import open_sealed, seal
from app.foundation.crypto.keys import Keyring
from app.foundation.database import keys_of, table_of
from app.foundation.languages import SOURCE, sentence
from app.mail.models import OutboxMail

MAIL = table_of(OutboxMail)
SECRET = "{secret}"  # noqa: S105 where it stands, not what it is
PURPOSE = "mail secret"
SIZE = 512


@dataclass(frozen=True)
class About:
    """What a message of a study is about, so that it can be looked up when it is sent whether it still holds.

    `to_participant`: it goes to the participant, whose address is looked up then and stands in no row. `sequence` is
    that of the appointment when this was written; `consent_id` says whose copy goes with it, made then.
    """

    study_id: int
    site_id: int
    participant_id: int
    rule: str
    kind: str
    to_participant: bool = False
    visit_id: int | None = None
    appointment_id: int | None = None
    sequence: int | None = None
    consent_id: int | None = None
    link_id: int | None = None
    expires_at: datetime | None = None


def text_of(keys: Keyring, mail: OutboxMail) -> str:
    """The body as it is sent."""
    if mail.sealed is None:
        return mail.body
    opened = open_sealed(keys.derive(PURPOSE), bytes(mail.sealed), bound_to=("mail", mail.key))
    return mail.body.replace(SECRET, opened.decode())


def queue(
    session: Session,
    *,
    key: str,
    to_address: str,
    subject: str,
    body: str,
    now: datetime,
    secret: str | None = None,
    channel: str = "mail",
    calendar: str | None = None,
    about: About | None = None,
    language: str | None = None,
    not_before: datetime | None = None,
) -> bool:
    """Put one mail in the outbox; the same key twice is one mail. No arm and no name may stand in it.

    `language` is that of its reader; subject and body are sentences of ours, and said in it.
    `secret` takes the place of SECRET in the body when it is sent: whoever reads the database must not sign in with it.
    It leaves at `not_before`, or at once. Gives whether it is new.
    """
    subject, body = sentence(subject, language or SOURCE), sentence(body, language or SOURCE)
    sealed = None
    if secret is not None:
        sealed = seal(keys_of(session).derive(PURPOSE), secret.encode(), bound_to=("mail", key), size=SIZE)
    dialect_insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    more: dict[str, Any] = asdict(about) if about else {}
    added = session.execute(
        dialect_insert(MAIL)
        .values(
            key=key,
            to_address=to_address,
            subject=subject,
            body=body,
            sealed=sealed,
            queued_at=now,
            not_before=not_before or now,
            attempts=0,
            channel=channel,
            calendar=calendar,
            **more,
        )
        .on_conflict_do_nothing()
        .returning(MAIL.c.id)
    )
    return added.first() is not None
