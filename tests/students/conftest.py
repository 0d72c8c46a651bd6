"""Stores for this room's tests: SQLite, and PostgreSQL where a test asks for both."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import students.tables  # noqa: F401
from capture.db import Store, metadata, open_store
from tests.factories.clock import Clock
from tests.fakes import postgres


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres.running(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'stillhouse.db'}"
    return postgres.new_database(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store of either kind with every table."""
    store = open_store(database_url)
    metadata.create_all(store.engine)
    yield store
    store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()
