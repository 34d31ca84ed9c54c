"""Runs the migrations on the database that `equipoise migrate`, a test or alembic itself names."""

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

from app.foundation.crypto.keys import Keyring
from app.foundation.database import Database, Instant
from app.foundation.models import import_models
from app.settings import Settings

import_models()


def run() -> None:
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    database = Database(Settings().database_url, Keyring(bytes(32)))
    with database.engine.begin() as own:
        _migrate(own)


def _render(kind: str, item: object, autogen: AutogenContext) -> str | Literal[False]:
    """Column types as plain words, so that an old migration does not change with the code."""
    if kind == "type" and isinstance(item, AutoString):
        return "sa.String()"
    if kind == "type" and isinstance(item, Instant):
        autogen.imports.add("from app.foundation.database import Instant")
        return "Instant()"
    return False


def _migrate(connection: object) -> None:
    context.configure(
        connection=connection,  # type: ignore[arg-type]
        target_metadata=SQLModel.metadata,
        compare_type=True,
        render_as_batch=True,
        render_item=_render,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
