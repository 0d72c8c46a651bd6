"""Imports: what was exported comes back whole; other files are checked line by line; the seal holds."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture import datasets, lineage, reviews
from capture.datasets import Filters
from capture.db import Store
from capture.errors import DiskError, RefusedError
from capture.settings import DatasetSettings, Settings
from tests.factories.datasets import LATER, UPSTREAMS, task_of
from tests.factories.store import add_exchange, answer_with, new_store

SETTINGS = Settings(upstreams=UPSTREAMS)
FORMS = ("jsonl", "parquet", "huggingface")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = new_store(tmp_path)
    yield store
    store.close()


def build(store: Store) -> datasets.Card:
    dataset_id = datasets.queue_build(store, "triage", Filters(near_duplicate=1.0), lambda: LATER)
    return datasets.build(store, dataset_id, {"triage": task_of()}, UPSTREAMS, lambda: LATER)


def take(store: Store, form: str, path: Path, task: str = "triage", **more: Any) -> datasets.Card:
    return datasets.import_rows(store, task, form, path, task_of(**more), lambda: LATER)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
said = st.fixed_dictionaries({"text": texts, "answer": texts.filter(str.strip), "holdout": st.booleans()})


@settings(max_examples=15, deadline=None)
@given(exchanges=st.lists(said, min_size=1, max_size=6), form=st.sampled_from(FORMS))
def test_nothing_is_lost_on_the_way_out_and_in(exchanges: list[dict[str, Any]], form: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = new_store(folder)
        add_exchange(store)
        for one in exchanges:
            add_exchange(store, **one)
        card = build(store)
        count = datasets.export(store, card.id, form, folder / "out", SETTINGS)
        back = take(store, form, folder / "out", task="another")
        assert sum(back.rows.values()) == count
        assert back.hash == card.hash
        assert list(datasets.rows(store, back.id)) == list(datasets.rows(store, card.id))
        store.close()


@settings(max_examples=15, deadline=None)
@given(exchanges=st.lists(said, min_size=1, max_size=6), better=texts.filter(str.strip))
def test_openai_s_lines_keep_what_they_can_say(exchanges: list[dict[str, Any]], better: str) -> None:
    """They have no split, id or truth; what was asked, what is to be learnt and what it replaced come back."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = new_store(folder)
        mended = add_exchange(store)
        reviews.review(store, mended, "correct", better, "ann", lambda: 1.0)
        for one in exchanges:
            add_exchange(store, **one)
        card = build(store)
        trained = list(datasets.rows(store, card.id, "train"))
        corrected = [row for row in trained if row.original is not None]
        for form, expected in (("openai-sft", trained), ("openai-dpo", corrected)):
            datasets.export(store, card.id, form, folder / form, SETTINGS)
            dataset = DatasetSettings(minimum_rows=1, holdout=0.0001, near_duplicate=1.0)
            back = take(store, form, folder / form, task=form, dataset=dataset)
            found = list(datasets.rows(store, back.id))
            assert [said_by(row, form) for row in found] == [said_by(row, form) for row in expected]
        store.close()


def said_by(row: datasets.Row, form: str) -> tuple[Any, ...]:
    asked = row.request["messages"], row.request.get("tools")
    return (*asked, row.target, *((row.original, row.source) if form == "openai-dpo" else ()))


def test_preference_lines(store: Store, tmp_path: Path) -> None:
    question = {"messages": [{"role": "user", "content": "hello"}]}
    said = {"preferred_output": [{"role": "assistant", "content": "yes"}]}
    other = {"non_preferred_output": [{"role": "assistant", "content": "no"}]}
    bad: list[Any] = [{"input": question, **said}, {"input": question, **other, "preferred_output": []}, {}, [], "x"]
    empty = {"input": question, **said, "non_preferred_output": [{"role": "assistant", "content": ""}]}
    user = {"input": question, **other, "preferred_output": question["messages"]}
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, [{"input": question, **said, **other}, *bad, empty, user])))
    card = take(store, "openai-dpo", path, dataset=DatasetSettings(minimum_rows=1, holdout=0.0001))
    (row,) = datasets.rows(store, card.id)
    assert (row.text, row.original, row.source) == ("yes", {"role": "assistant", "content": "no"}, "correction")
    assert card.drops == {"bad_line": 5, "empty": 1, "no_answer": 1}
    assert datasets.export(store, card.id, "openai-dpo", tmp_path / "again.jsonl", SETTINGS) == 1


def test_openai_lines(store: Store, tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    add_exchange(
        store, text="a question", answer=answer_with({"role": "assistant", "content": None, "tool_calls": [call]})
    )
    add_exchange(store, text="quite another thing", answer='{"category": "login"}')
    datasets.export(store, build(store).id, "openai-sft", tmp_path / "sft.jsonl", SETTINGS)
    dataset = DatasetSettings(minimum_rows=1, holdout=0.0001)
    card = take(store, "openai-sft", tmp_path / "sft.jsonl", task="another", dataset=dataset)
    first, second = datasets.rows(store, card.id, "train")
    assert first.target["tool_calls"] == [call]
    assert (second.label, second.text) == ("login", '{"category": "login"}')
    assert card.upstreams == {"(imported)": 2}
    assert datasets.export(store, card.id, "jsonl", tmp_path / "again.jsonl", SETTINGS) == 2


def test_lines_that_are_no_rows_are_counted(store: Store, tmp_path: Path) -> None:
    good = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]}
    bad: list[Any] = [
        {"messages": [{"role": "user", "content": "hello"}, {"role": "user", "content": "?"}]},
        {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": ""}]},
        {"messages": []},
        {"messages": "x"},
        [],
        3,
    ]
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join(["{broken", *map(json.dumps, [good, good, *bad])]) + "\n\n")
    dataset = DatasetSettings(minimum_rows=1, holdout=0.0001)
    card = take(store, "openai-sft", path, dataset=dataset)
    assert card.rows == {"train": 1, "holdout": 0}
    assert card.drops == {"bad_line": 3, "duplicate": 1, "empty": 1, "no_answer": 1, "no_messages": 2}


def test_a_row_of_the_holdout_does_not_come_back_as_training(store: Store, tmp_path: Path) -> None:
    add_exchange(store, text="free of everything")
    held = add_exchange(store, text="a text that is held out", holdout=True)
    card = build(store)
    datasets.export(store, card.id, "jsonl", tmp_path / "rows.jsonl", SETTINGS)
    swapped = (tmp_path / "rows.jsonl").read_text().replace('"split":"holdout"', '"split":"train"')
    (tmp_path / "swapped.jsonl").write_text(swapped)
    back = take(store, "jsonl", tmp_path / "swapped.jsonl")
    assert held not in [row.exchange_id for row in datasets.rows(store, back.id)]
    assert back.drops == {"holdout_conversation": 1}
    disguised = swapped.replace(held, "f" * 32).replace('"conversation":"', '"conversation":"x')
    (tmp_path / "disguised.jsonl").write_text(disguised)
    assert take(store, "jsonl", tmp_path / "disguised.jsonl").drops == {"near_holdout": 1}


def test_a_file_of_ours_that_was_tampered_with(store: Store, tmp_path: Path) -> None:
    add_exchange(store)
    datasets.export(store, build(store).id, "jsonl", tmp_path / "rows.jsonl", SETTINGS)
    line = (tmp_path / "rows.jsonl").read_text()
    other = line.replace('"exchange_id":"', '"exchange_id":"x')
    broken = [
        other.replace('"split":"train"', '"split":"test"'),
        other.replace('"messages"', '"turns"'),
        "[]\n",
        "{}\n",
    ]
    (tmp_path / "broken.jsonl").write_text(line + "".join(broken))
    card = take(store, "jsonl", tmp_path / "broken.jsonl", task="another")
    assert card.rows == {"train": 1, "holdout": 0}
    assert card.drops == {"bad_line": 3, "no_messages": 1}


def test_what_is_refused_leaves_nothing(store: Store, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    (tmp_path / "no.parquet").write_text("this is no Parquet file")
    with pytest.raises(RefusedError, match="no import form"):
        take(store, "csv", empty)
    with pytest.raises(RefusedError, match="only 0 training rows"):
        take(store, "jsonl", empty)
    with pytest.raises(DiskError, match="cannot be read"):
        take(store, "jsonl", tmp_path / "nowhere.jsonl")
    with pytest.raises(DiskError, match="cannot be read"):
        take(store, "parquet", tmp_path / "no.parquet")
    assert datasets.list_datasets(store) == []


def test_an_erased_row_does_not_come_back(store: Store, tmp_path: Path) -> None:
    erased, kept = add_exchange(store), add_exchange(store)
    datasets.export(store, build(store).id, "jsonl", tmp_path / "rows.jsonl", SETTINGS)
    lineage.erase(store, [erased], None, "ann", lambda: 1.0)
    card = take(store, "jsonl", tmp_path / "rows.jsonl", task="another")
    assert [row.exchange_id for row in datasets.rows(store, card.id)] == [kept]
    assert card.drops == {"erased": 1}
