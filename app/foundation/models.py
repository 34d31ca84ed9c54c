"""Which tables are there? Every room's models, found by their files, so that none is missed.

Migrations compare them with the schema, and a backup that walked only the rooms somebody happened to import would
leave tables out.
"""

from importlib import import_module
from pathlib import Path

import app


def import_models() -> None:
    """Import the models of every room."""
    for file in sorted(Path(app.__path__[0]).glob("*/models.py")):
        if file.parent.name != "foundation":
            import_module(f"app.{file.parent.name}.models")
    import_module("app.foundation.idempotency")
