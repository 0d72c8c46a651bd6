from pathlib import Path
from typing import Any

from capture.assemble import answer_from
from capture.db import Store
from capture.stored_completions import SCANNED_AT_ONCE, Filters, delete, find, load, set_metadata
from tests.factories.store import add_exchange, new_store


def keep(store: Store, number: int, **overrides: Any) -> str:
    completion = {"id": f"chatcmpl-{number}", "object": "chat.completion", "model": "gpt-4.1-2025", "choices": []}
    known = {"id": f"{number:032x}", "completion_id": f"chatcmpl-{number}", "stored": True}
    return add_exchange(store, answer=answer_from(completion), **known | overrides)


def ids(store: Store, **filters: Any) -> list[str]:
    return [found.completion_id for found in find(store, Filters(**filters))]


def test_only_what_was_asked_to_be_stored_is_found(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    keep(store, 1)
    keep(store, 2, stored=False)
    keep(store, 3, route="responses")
    keep(store, 4, completion_id=None)
    assert ids(store) == ["chatcmpl-1"]
    found = load(store, "chatcmpl-1", None)
    assert found is not None
    assert (found.completion["model"], found.request["model"]) == ("gpt-4.1-2025", "gpt-4.1")
    assert load(store, "chatcmpl-2", None) is None
    store.close()


def test_pages_go_both_ways_and_show_that_there_is_more(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for number in range(1, 6):
        keep(store, number)
    assert ids(store, limit=2) == ["chatcmpl-1", "chatcmpl-2", "chatcmpl-3"]
    assert ids(store, limit=2, after="chatcmpl-3") == ["chatcmpl-4", "chatcmpl-5"]
    assert ids(store, limit=2, newest_first=True) == ["chatcmpl-5", "chatcmpl-4", "chatcmpl-3"]
    assert ids(store, limit=9, after="chatcmpl-3", newest_first=True) == ["chatcmpl-2", "chatcmpl-1"]
    assert ids(store, after="chatcmpl-99") == []
    store.close()


def test_filters_by_model_and_metadata_reach_beyond_one_scan(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for number in range(1, SCANNED_AT_ONCE + 20):
        keep(store, number, metadata={"rare": "yes"} if number > SCANNED_AT_ONCE + 15 else {"a": "b"})
    last = [f"chatcmpl-{number}" for number in range(SCANNED_AT_ONCE + 16, SCANNED_AT_ONCE + 20)]
    assert ids(store, tags={"rare": "yes"}) == last
    keep(store, 900, model="other", metadata={"rare": "yes", "a": "b"})
    assert ids(store, model="other", tags={"rare": "yes", "a": "b"}) == ["chatcmpl-900"]
    store.close()


def test_each_key_sees_its_own(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    keep(store, 1, key_id="key_a")
    keep(store, 2, key_id="key_b")
    assert ids(store, key_id="key_a") == ["chatcmpl-1"]
    assert ids(store, key_id="key_b", after="chatcmpl-1") == []
    assert load(store, "chatcmpl-1", "key_b") is None
    store.close()


def test_metadata_is_replaced_and_a_deleted_one_is_gone(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    exchange = keep(store, 1, metadata={"a": "b"})
    set_metadata(store, exchange, {"c": "d"})
    found = load(store, "chatcmpl-1", None)
    assert found is not None
    assert found.metadata == {"c": "d"}
    delete(store, exchange)
    assert load(store, "chatcmpl-1", None) is None
    store.close()
