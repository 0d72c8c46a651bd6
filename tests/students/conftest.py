"""What the tests of this room share: a client, the worker's key, a store with a dataset to examine on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from capture.db import Store
from students.clients import Client
from tests.factories.examined import put_dataset
from tests.factories.store import new_store


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
