"""Exports: every form, whole or not at all, never against an upstream's terms."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars
import pytest

from capture import datasets, reviews
from capture.datasets import Filters, Row
from capture.db import Store
from capture.errors import DiskError, NotFoundError, RefusedError
from capture.settings import Settings
from tests.factories.datasets import LATER, UPSTREAMS, task_of
from tests.factories.store import add_exchange, new_store, request_of

SETTINGS = Settings(upstreams=UPSTREAMS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = new_store(tmp_path)
    yield store
    store.close()


def build(store: Store) -> str:
    dataset_id = datasets.queue_build(store, "triage", Filters(), lambda: LATER)
    datasets.build(store, dataset_id, {"triage": task_of()}, UPSTREAMS, lambda: LATER)
    return dataset_id


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_supervised_lines_are_what_openai_takes(store: Store, tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "find", "parameters": {}}}
    add_exchange(store, text="größer — ünïcode\u2028line", answer="ja")
    add_exchange(store, request={**request_of("with tools"), "tools": [tool]}, answer="no")
    add_exchange(store, holdout=True)
    path = tmp_path / "train.jsonl"
    assert datasets.export(store, build(store), "openai-sft", path, SETTINGS) == 2
    first, second = (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:2])
    assert [turn["role"] for turn in first["messages"]] == ["system", "user", "assistant"]
    assert first["messages"][1]["content"] == "größer — ünïcode\u2028line"
    assert first.keys() == {"messages"}
    assert second["tools"] == [tool]
    assert path.stat().st_mode & 0o777 == 0o600


def test_preference_pairs_come_from_corrections(store: Store, tmp_path: Path) -> None:
    add_exchange(store)
    mended = add_exchange(store, answer="bad")
    reviews.review(store, mended, "correct", "good", "ann", lambda: 1.0)
    path = tmp_path / "pairs.jsonl"
    assert datasets.export(store, build(store), "openai-dpo", path, SETTINGS) == 1
    (line,) = lines(path)
    assert line["preferred_output"] == [{"role": "assistant", "content": "good"}]
    assert line["non_preferred_output"] == [{"role": "assistant", "content": "bad"}]
    assert [turn["role"] for turn in line["input"]["messages"]] == ["system", "user"]


def test_no_corrections_no_pairs(store: Store, tmp_path: Path) -> None:
    add_exchange(store)
    with pytest.raises(RefusedError, match="no corrections"):
        datasets.export(store, build(store), "openai-dpo", tmp_path / "pairs.jsonl", SETTINGS)
    assert [path.name for path in tmp_path.iterdir() if "pairs" in path.name] == []


def test_parquet_and_the_folder_hold_every_row(store: Store, tmp_path: Path) -> None:
    for number in range(7):
        add_exchange(store, holdout=number > 4)
    dataset_id = build(store)
    kept = [*datasets.rows(store, dataset_id, "train"), *datasets.rows(store, dataset_id, "holdout")]
    assert datasets.export(store, dataset_id, "parquet", tmp_path / "all.parquet", SETTINGS) == 7
    frame = polars.read_parquet(tmp_path / "all.parquet")
    assert frame["exchange_id"].to_list() == [row.exchange_id for row in kept]
    assert json.loads(frame["messages"][0]) == kept[0].request["messages"]
    assert datasets.export(store, dataset_id, "huggingface", tmp_path / "folder", SETTINGS) == 7
    train = polars.read_parquet(tmp_path / "folder" / "data" / "train-00000-of-00001.parquet")
    held = polars.read_parquet(tmp_path / "folder" / "data" / "test-00000-of-00001.parquet")
    assert (train.height, held.height) == (5, 2)
    assert held["split"].to_list() == ["holdout", "holdout"]
    assert "path: data/test-*.parquet" in (tmp_path / "folder" / "README.md").read_text()


def test_jsonl_holds_the_rows_as_they_are_kept(store: Store, tmp_path: Path) -> None:
    add_exchange(store)
    add_exchange(store, holdout=True)
    dataset_id = build(store)
    assert datasets.export(store, dataset_id, "jsonl", tmp_path / "rows.jsonl", SETTINGS) == 2
    found = lines(tmp_path / "rows.jsonl")
    assert [line.pop("split") for line in found] == ["train", "holdout"]
    assert [msgspec.convert(line, Row) for line in found] == list(datasets.rows(store, dataset_id))


def test_what_is_refused(store: Store, tmp_path: Path) -> None:
    add_exchange(store)
    dataset_id = build(store)
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(RefusedError, match="no export form 'csv'"):
        datasets.export(store, dataset_id, "csv", tmp_path / "x", SETTINGS)
    with pytest.raises(RefusedError, match="exists"):
        datasets.export(store, dataset_id, "jsonl", taken, SETTINGS)
    with pytest.raises(RefusedError, match="terms do not allow"):
        datasets.export(store, dataset_id, "jsonl", tmp_path / "x", Settings())
    queued = datasets.queue_build(store, "triage", Filters(), lambda: LATER)
    with pytest.raises(RefusedError, match="queued"):
        datasets.export(store, queued, "jsonl", tmp_path / "x", SETTINGS)
    with pytest.raises(NotFoundError):
        datasets.export(store, "ds_none", "jsonl", tmp_path / "x", SETTINGS)
    with pytest.raises(DiskError, match="could not be written"):
        datasets.export(store, dataset_id, "jsonl", tmp_path / "none" / "x", SETTINGS)
    assert taken.read_text() == "mine"
    assert not (tmp_path / "x").exists()


def test_a_diff_says_what_changed(store: Store) -> None:
    gone, changed, moved, stays = (add_exchange(store, label=label) for label in ("a", "b", "a", "a"))
    first = build(store)
    reviews.review(store, gone, "reject", None, "ann", lambda: 1.0)
    reviews.review(store, changed, "correct", '{"category": "c"}', "ann", lambda: 1.0)
    came = add_exchange(store, label="a")
    found = datasets.diff(store, first, build(store))
    assert (found.removed.exchanges, found.changed.exchanges, found.added.exchanges) == ([gone], [changed], [came])
    assert (found.same, found.moved.rows) == (2, 0)
    assert found.labels == {"b": (1, 0), "c": (0, 1)}
    assert (found.old, found.new) == ("triage@1", "triage@2")
    assert moved < stays
