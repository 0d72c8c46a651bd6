"""Every page, empty and full, opens without an exception; what is wrong is one line; captured text does not act."""

from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from capture.db import Store
from tests.factories.full_store import HOSTILE, World

PAGES = ("home", "traffic", "tasks", "datasets", "students", "rollouts", "operations")
DEEP = {
    "exchange": ("traffic", "exchange"),
    "dataset": ("datasets", "dataset"),
    "fine_tune": ("students", "fine_tune"),
    "running_fine_tune": ("students", "fine_tune"),
    "student": ("students", "student"),
    "evaluation": ("students", "evaluation"),
    "rollout": ("rollouts", "rollout"),
    "rolled_back": ("rollouts", "rollout"),
}


def said(at: AppTest) -> str:
    """All that a page says in Markdown, text, captions, code and tables."""
    parts = [element.value for kind in (at.markdown, at.text, at.caption, at.code, at.title) for element in kind]
    tables = [frame.value.to_string() for frame in at.dataframe]
    return "\n".join([*map(str, parts), *tables])


def clean(at: AppTest) -> None:
    assert [element.message for element in at.exception] == []
    assert [element.value for element in at.error] == []


@pytest.mark.parametrize("page", PAGES)
def test_empty(page: str, at_empty: Store, look) -> None:
    at = look(page)
    clean(at)
    assert len(at.title) == 1


def test_every_page_and_everything_that_opens_on_a_filled_store(at_full: tuple[World, Store], look) -> None:
    world, _ = at_full
    for page in PAGES:
        clean(look(page))
    for name, (page, key) in DEEP.items():
        at = look(page, **{key: getattr(world, name)})
        clean(at)
        assert at.title


def test_an_empty_install_says_how_to_connect(at_empty: Store, look) -> None:
    text = said(look("home"))
    assert 'base_url="http://127.0.0.1:8080/v1"' in text
    assert "[tasks.triage]" in text


def test_home_shows_share_quality_and_what_waits(at_full: tuple[World, Store], look) -> None:
    at = look("home")
    labels = {metric.label: metric.value for metric in at.metric}
    assert {"Stored", "Spend, last day", "Student share", "Against teacher", "Saved, last day"} <= set(labels)
    assert "triage" in {heading.value for heading in at.header}
    assert "270 pairs" not in said(at)
    assert "category" in said(at)


@pytest.mark.parametrize(
    ("page", "key"),
    [
        ("traffic", "exchange"),
        ("datasets", "dataset"),
        ("students", "student"),
        ("students", "fine_tune"),
        ("students", "evaluation"),
        ("rollouts", "rollout"),
    ],
)
def test_what_is_not_there_is_one_line(page: str, key: str, at_empty: Store, look) -> None:
    at = look(page, **{key: "![x](http://127.0.0.1:9/y)"})
    assert not at.exception
    assert len(at.error) == 1
    assert "![x](http" not in at.error[0].value
    assert "no" in at.error[0].value


def test_captured_markup_is_shown_as_text(at_full: tuple[World, Store], look) -> None:
    world, _ = at_full
    at = look("traffic", exchange=world.hostile)
    clean(at)
    assert [element.value for element in at.text].count(HOSTILE) == 2
    spoken = [element.value for kind in (at.markdown, at.caption, at.button, at.error) for element in kind]
    labels = [str(getattr(element, "label", "")) for element in (*at.button, *at.expander)]
    for text in (*map(str, spoken), *labels):
        assert "![" not in text
        assert "<script" not in text.replace("\\<", "")
        assert "http://127.0.0.1:9" not in text
    assert not at.get("imgs")


def test_a_store_that_is_away_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look) -> None:
    st.cache_resource.clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STILLHOUSE_CONFIG", raising=False)
    monkeypatch.setenv("STILLHOUSE_DATA", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/nothing")
    at = look("home")
    assert not at.exception
    assert len(at.error) == 1
    assert "store" in at.error[0].value


def test_a_broken_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look) -> None:
    file = tmp_path / "stillhouse.toml"
    file.write_text("[gateway]\nprot = 1\n", encoding="utf-8")
    monkeypatch.setenv("STILLHOUSE_CONFIG", str(file))
    monkeypatch.setenv("STILLHOUSE_DATA", str(tmp_path))
    at = look("home")
    assert not at.exception
    assert len(at.error) == 1
    assert "prot" in at.error[0].value
