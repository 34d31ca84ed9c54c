"""Where does an installation keep its things? Opens the database and key of the settings; updates the schema."""

import gc
import logging
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from app.foundation.crypto.keys import KeyMissing, create_key_file, read_key_file
from app.foundation.crypto.masters import MasterKey, master_from
from app.foundation.database import Database
from app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
log = logging.getLogger("equipoise")


def master_of(settings: Settings) -> MasterKey | None:
    """The master key that wraps the root key, or None."""
    key = settings.master_key.get_secret_value() if settings.master_key else None
    return master_from(key, settings.master_program)


def open_database(settings: Settings, *, create: bool = False) -> Database:
    """The database with its key. With `create`, a new key is made where neither key nor database is there yet.

    KeyMissing when the key file is lost: a new key would open nothing that is sealed. MasterFailed when its master key
    does not open it.
    """
    try:
        keys = read_key_file(settings.key_path, master_of(settings))
    except KeyMissing:
        embedded = settings.data / "equipoise.db"
        if not create or settings.key_path.exists() or (settings.database is None and embedded.exists()):
            raise
        keys = create_key_file(settings.key_path, master_of(settings))
        log.warning("A new key was made: %s. Keep a copy of it apart from the backups.", settings.key_path)
    settings.data.mkdir(parents=True, exist_ok=True)
    return Database(settings.database_url, keys)


def migrate(database: Database) -> None:
    """Bring the schema up to date, in one transaction."""
    from alembic import command  # serving goes without it, and starts sooner
    from alembic.config import Config

    with database.engine.begin() as connection:
        config = Config(ROOT / "alembic.ini")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


DESCRIBED_AFTER = 5.0
"""Seconds from the start of a server until it has the document of its JSON doors made, before anybody asks for it. To
make it takes some of a processor, which the first pages want for themselves."""


class OnlyTheKind(logging.Filter):
    """Takes tracebacks out of the server's own log: their text could hold what somebody typed (SEC-47)."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Every line stays; outside Python's development mode it stays without its traceback."""
        if record.exc_info and not sys.flags.dev_mode:
            record.exc_info, record.exc_text = None, None
        return True


def log_config() -> dict[str, Any]:
    """The logging of the web server: as it comes, but without tracebacks."""
    from uvicorn.config import LOGGING_CONFIG

    config = deepcopy(LOGGING_CONFIG)
    config["filters"] = {"only_the_kind": {"()": OnlyTheKind}}
    for handler in config["handlers"].values():
        handler["filters"] = ["only_the_kind"]
    return config


MADE_MEANWHILE = 10_000
"""So many objects are made before Python looks for waste again: a few megabytes."""


def application() -> FastAPI:
    """The application of the environment's settings, for uvicorn."""
    # Nearly all that is made while starting stays: looking through it for waste, then and ever after, is in vain.
    gc.disable()
    from app.main import create_app  # heavy, and only serving needs it

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = Settings()
    made = create_app(settings, open_database(settings), described_after=DESCRIBED_AFTER)
    gc.freeze()
    # A page makes 700 objects, and Python would look through them for waste at each: 0.4 ms of 12, now 0.15.
    gc.set_threshold(MADE_MEANWHILE)
    gc.enable()
    return made
