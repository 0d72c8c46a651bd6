"""What this room's tests share: stores of either kind, a client, the worker's key, a dataset to examine on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import students.tables  # noqa: F401
from capture.db import Store, metadata, open_store
from students.clients import Client
from tests.factories.clock import Clock
from tests.factories.examined import put_dataset
from tests.factories.store import new_store
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


@pytest.fixture
def client() -> Iterator[Client]:
    """One that does not pause between two attempts."""
    client = Client(pause=lambda _: None)
    yield client
    client.close()


@pytest.fixture
def worker_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's own credential at upstreams, as the tests' settings name it."""
    monkeypatch.setenv("WORKER_KEY", "sk-worker")


@pytest.fixture
def examined_store(tmp_path: Path) -> Iterator[Store]:
    """With dataset `ds_1`."""
    store = new_store(tmp_path)
    put_dataset(store, "ds_1", 1)
    yield store
    store.close()
