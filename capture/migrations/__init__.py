"""Alembic's revisions for the tables of every room, and the one call that applies them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from capture import full_text
from capture.db import Store

FOLDER = Path(__file__).parent
LOCK = 7_263_549_128  # any number of our own: PostgreSQL's advisory lock for upgrades


def upgrade(store: Store, revision: str = "head") -> None:
    """Brings the tables to `revision`, once, however many processes start together; all or nothing.

    Raises StoreAwayError when the database cannot be reached.
    """
    with _locked(store) as connection:
        command.upgrade(_config(connection), revision)
        full_text.create(connection)


def downgrade(store: Store, revision: str) -> None:
    """Takes the tables back to `revision` ("base": none). What the newer tables held is lost."""
    with _locked(store) as connection:
        if revision == "base":
            full_text.drop(connection)
        command.downgrade(_config(connection), revision)


def is_current(store: Store) -> bool:
    """Whether the tables are those of this version; changes nothing. Raises StoreAwayError."""
    with store.read() as connection:
        scripts = ScriptDirectory.from_config(_config(connection))
        return MigrationContext.configure(connection).get_current_revision() == scripts.get_current_head()


@contextmanager
def _locked(store: Store) -> Iterator[Connection]:
    with store.write() as connection:  # on SQLite this already excludes every other writer
        if not store.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        yield connection


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    return config
