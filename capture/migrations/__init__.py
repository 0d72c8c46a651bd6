"""Alembic's revisions for the tables of every room, and the one call that applies them."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from capture.db import Store

FOLDER = Path(__file__).parent
LOCK = 7_263_549_128  # any number of our own: PostgreSQL's advisory lock for upgrades


def upgrade(store: Store, revision: str = "head") -> None:
    """Brings the tables to `revision`, once, however many processes start together; all or nothing.

    Raises StoreAwayError when the database cannot be reached.
    """
    _run(store, command.upgrade, revision)


def downgrade(store: Store, revision: str) -> None:
    """Takes the tables back to `revision` ("base": none). What the newer tables held is lost."""
    _run(store, command.downgrade, revision)


def _run(store: Store, action: object, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    with store.write() as connection:  # on SQLite this already excludes every other writer
        if not store.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        config.attributes["connection"] = connection
        action(config, revision)  # type: ignore[operator]
