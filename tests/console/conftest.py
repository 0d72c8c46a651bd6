"""An empty and a filled store, each with the console's entry run over it by Streamlit's own test harness."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from capture.db import Store, open_store
from tests.browser.console_process import made_store
from tests.factories.full_store import World

APP = Path(__file__).parents[2] / "console" / "app.py"
LONG_S = 60

Open = Callable[..., AppTest]

FORMS = ("build-dataset", "misses", "fine-tune", "evaluation", "register", "make-task", "change-task")
"""Boxes whose content is read and drawn only while they are open."""


@pytest.fixture(autouse=True)
def no_other_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer's shell names, a database above all, is not what tests may work on."""
    for name in os.environ:
        if name.startswith("STILLHOUSE_") or name in ("DATABASE_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"):
            monkeypatch.delenv(name)


@pytest.fixture
def at_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[World, Store]]:
    """The filled store, and the environment of a console over it."""
    world = made_store(tmp_path, filled=True)
    assert world is not None
    _point_at(tmp_path, monkeypatch)
    store = open_store(f"sqlite:///{tmp_path / 'stillhouse.db'}")
    yield world, store
    store.close()
    _forget()


@pytest.fixture
def at_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty store without a task, and the environment of a console over it."""
    made_store(tmp_path, filled=False)
    (tmp_path / "stillhouse.toml").write_text("", encoding="utf-8")
    _point_at(tmp_path, monkeypatch)
    store = open_store(f"sqlite:///{tmp_path / 'stillhouse.db'}")
    yield store
    store.close()
    _forget()


def _point_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLHOUSE_CONFIG", str(folder / "stillhouse.toml"))
    monkeypatch.setenv("STILLHOUSE_DATA", str(folder))


def _forget() -> None:
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def look() -> Open:
    """Opens a page by its name and the parts of its address, its forms unfolded unless told otherwise."""

    def opened(name: str, unfolded: bool = True, **query: str) -> AppTest:
        at = AppTest.from_file(str(APP), default_timeout=LONG_S).run()
        if name != "home":
            at.switch_page(f"views/{name}.py")
        for key, value in query.items():
            at.query_params[key] = value
        for form in FORMS if unfolded else ():
            at.session_state[form] = True
        return at.run()

    return opened
