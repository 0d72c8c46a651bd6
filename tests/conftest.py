"""What the tests of several rooms share: a PostgreSQL for the session, empty stores of either kind, a clock."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from capture.db import Store
from tests.factories.clock import Clock
from tests.factories.store import store_at
from tests.fakes import postgres

LONGEST = ("tests/acceptance/test_whole_loop.py", "tests/browser/", "tests/faults/")
"""What takes minutes: begun first, in this order, so that at the end no core waits for another's last file."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--no-loadscope-reorder` (pyproject.toml), xdist gives files to its workers in this order."""
    items.sort(key=lambda item: [not item.nodeid.startswith(where) for where in LONGEST])


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of its administrative database."""
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
    store = store_at(database_url)
    yield store
    store.close()


@pytest.fixture
def postgres_store(postgres_url: str) -> Iterator[Store]:
    """A store on PostgreSQL with every table."""
    store = store_at(postgres.new_database(postgres_url))
    yield store
    store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()
