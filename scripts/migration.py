"""Writes the next Alembic revision from what the tables say now: `python scripts/migration.py "add a column"`.

`--squash` replaces every revision by one; for use before the first release only.
"""

import pathlib
import sys
import tempfile

from alembic import command
from alembic.config import Config

import students.tables  # noqa: F401
from capture.db import open_store
from capture.migrations import FOLDER, upgrade


def main(message: str, squash: bool) -> None:
    if squash:
        for path in (FOLDER / "versions").glob("*.py"):
            path.unlink()
    revision = f"{len(list((FOLDER / 'versions').glob('[0-9]*.py'))) + 1:04d}"
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{pathlib.Path(folder) / 'empty.db'}")
        upgrade(store)
        config = Config()
        config.set_main_option("script_location", str(FOLDER))
        with store.write() as connection:
            config.attributes["connection"] = connection
            command.revision(config, message=message, autogenerate=True, rev_id=revision)
        store.close()


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--squash"]
    main(" ".join(words) or "The first tables", "--squash" in sys.argv)
