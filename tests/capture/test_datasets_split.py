"""Splits under any grouping: nothing of the holdout leaks into training, and the parts a split is made by."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture import datasets, reviews
from capture.datasets import Filters
from capture.datasets.balance import Pick, capped
from capture.datasets.conversation import UnusableError, chat_request, target_of
from capture.datasets.duplicates import NearIndex, bands, shingles, signatures
from capture.db import Store
from capture.errors import RefusedError
from capture.prompts import variable_text
from capture.settings import DatasetSettings
from tests.factories.datasets import LATER, UPSTREAMS, task_of
from tests.factories.store import add_exchange, new_store

WORDS = [
    "invoice", "login", "refund", "broken", "screen", "address", "parcel", "never", "arrived", "password", "today",
    "yesterday", "twice", "charged", "please", "help", "account", "locked", "printer", "cable",
]  # fmt: skip

texts = st.lists(st.sampled_from(WORDS), min_size=4, max_size=14).map(" ".join)
grouped = st.fixed_dictionaries(
    {
        "text": texts,
        "variant": st.sampled_from(["", " now", "!", "  "]),
        "conversation": st.none() | st.sampled_from(["c1", "c2", "c3"]),
        "holdout": st.booleans(),
        "arm": st.sampled_from(["teacher", "fallback", "student"]),
        "user": st.sampled_from(["u1", "u2"]),
        "corrected": st.booleans(),
    }
)


@contextmanager
def a_store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        store = new_store(Path(folder))
        yield store
        store.close()


def add(store: Store, given: dict[str, Any]) -> str:
    more = {"conversation": given["conversation"]} if given["conversation"] else {}
    text = given["text"] + given["variant"]
    identity = add_exchange(store, text=text, holdout=given["holdout"], arm=given["arm"], user=given["user"], **more)
    if given["corrected"]:
        reviews.review(store, identity, "correct", "better", "ann", lambda: 1.0)
    return identity


def build(store: Store, **filters: Any) -> str | None:
    dataset_id = datasets.queue_build(store, "triage", Filters(**filters), lambda: LATER)
    task = task_of(dataset=DatasetSettings(minimum_rows=1))
    try:
        datasets.build(store, dataset_id, {"triage": task}, UPSTREAMS, lambda: LATER)
    except RefusedError:
        return None
    return dataset_id


@settings(max_examples=40, deadline=None)
@given(exchanges=st.lists(grouped, min_size=2, max_size=16), later=st.lists(grouped, max_size=6))
def test_no_leak_under_any_grouping(exchanges: list[dict[str, Any]], later: list[dict[str, Any]]) -> None:
    """Flags are drawn apart from conversations and texts, as if the rule that gave them had changed in between."""
    with a_store() as store:
        for given_one in exchanges:
            add(store, given_one)
        built = [build(store)]
        for given_one in later:
            add(store, given_one)
        built += [build(store), build(store, per_user=3)]
        held: list[Any] = []
        for dataset_id in filter(None, built):
            held += datasets.rows(store, dataset_id, "holdout")
            train = list(datasets.rows(store, dataset_id, "train"))
            assert_apart(train, held)
            assert len({variable_text(row.request) for row in train}) == len(train)


def assert_apart(train: list[Any], held: list[Any]) -> None:
    assert not {row.exchange_id for row in train} & {row.exchange_id for row in held}
    assert not {row.conversation for row in train} & {row.conversation for row in held}
    for row in train:
        mine = set(shingles(variable_text(row.request)))
        for other in held:
            theirs = set(shingles(variable_text(other.request)))
            assert len(mine & theirs) / len(mine | theirs) < 1


@settings(max_examples=25, deadline=None)
@given(exchanges=st.lists(grouped, min_size=1, max_size=12), order=st.randoms(use_true_random=False))
def test_the_holdout_knows_no_filter(exchanges: list[dict[str, Any]], order: Any) -> None:
    filters = order.choice(
        [{"since": LATER / 2 + 1}, {"arms": ("fallback",)}, {"per_user": 1}, {"reviews": "approved"}]
    )
    with a_store() as store:
        for given_one in exchanges:
            add(store, given_one)
        add_exchange(store, text="one that passes them all", arm="fallback", started_at=LATER / 2 + 2)
        plain, filtered = build(store), build(store, **filters)
        if plain and filtered:
            sides = [[row.exchange_id for row in datasets.rows(store, one, "holdout")] for one in (plain, filtered)]
            assert sides[0] == sides[1]


def test_bands_find_pairs_at_the_threshold() -> None:
    for threshold in (0.3, 0.5, 0.7, 0.85, 0.95, 1.0):
        count = bands(threshold)
        assert 128 % count == 0
        assert 1 - (1 - threshold ** (128 / count)) ** count >= 0.99 or count == 128


def near(one: str, other: str, threshold: float = 0.85) -> bool:
    index = NearIndex(threshold)
    first, second = signatures([one, other])
    index.add(first)
    return index.has_near(second)


def test_near_duplicates() -> None:
    text = " ".join(f"word{number}" for number in range(60))
    assert near(text, text.upper())
    assert near(text, text + " more")
    assert not near(text, " ".join(f"word{number}" for number in range(30, 90)))
    assert not near(text, "short")
    assert near("", "")
    assert not near("", "a word")
    assert not near("yes", "no")


def test_near_duplicates_where_no_spaces_part_words() -> None:
    text = (
        "お客様の請求書に記載された住所が間違っているため新しい請求書を事務所までお送りいただけますようお願いいたします"
    )
    assert near(text, text + "今日", 0.8)
    assert not near(
        text,
        "パスワードを忘れてしまいログインできなくなりました再設定の方法を教えていただけますか本当に困っています",
        0.8,
    )


def test_many_texts_of_one_template_stay_apart_and_fast() -> None:
    index = NearIndex(0.85)
    shared = " ".join(f"word{number}" for number in range(60))
    made = signatures([f"{shared} {' '.join(f'own{number}x{n}' for n in range(25))}" for number in range(1000)])
    found = 0
    for signature in made:
        found += index.has_near(signature)
        index.add(signature)
    assert found < 20


def pick(number: int, label: str | None = "a", user: str | None = None) -> Pick:
    return Pick(f"{number:03d}", label, None, user, None, f"c{number}")


def test_caps_keep_rows_without_an_owner() -> None:
    kept, drops = capped([pick(1), pick(2), pick(3, user="u"), pick(4, user="u")], Filters(per_user=1))
    assert len(kept) == 3
    assert drops == {"user_cap": 1}


def test_a_template_has_no_more_rows_than_its_cap() -> None:
    picks = [replace(pick(number), fingerprint=f"fp{number % 2}") for number in range(8)]
    kept, drops = capped([*picks, pick(9)], Filters(per_prompt_version=1))
    assert [one.fingerprint for one in kept if one.fingerprint] in (["fp0", "fp1"], ["fp1", "fp0"])
    assert pick(9) in kept
    assert drops == {"prompt_version_cap": 6}


@given(labels=st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=40), ratio=st.floats(1, 4))
def test_balance_bounds_the_ratio(labels: list[str | None], ratio: float) -> None:
    picks = [pick(number, label) for number, label in enumerate(labels)]
    kept, drops = capped(picks, Filters(balance=ratio))
    counts = [sum(one.label == label for one in kept) for label in {one.label for one in kept}]
    assert max(counts) <= max(1, min(counts) * ratio)
    assert len(kept) + drops.total() == len(picks)
    assert [one.id for one in kept] == sorted(one.id for one in kept)
    assert capped(picks[::-1], Filters(balance=ratio))[0] == kept


def test_a_responses_request_in_chats_shape() -> None:
    schema = {"type": "json_schema", "name": "ticket", "schema": {"type": "object"}, "strict": True}
    tool = {"type": "function", "name": "find", "parameters": {}, "strict": True}
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "find it"}]},
        {"type": "function_call", "call_id": "c1", "name": "find", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "found"},
    ]
    given_one = {"model": "m", "store": False, "instructions": "Be brief.", "input": items, "text": {"format": schema}}
    made = chat_request(given_one | {"tools": [tool], "temperature": 0.5, "include": ["x"]})
    assert [turn["role"] for turn in made["messages"]] == ["system", "user", "assistant", "tool"]
    assert made["response_format"]["json_schema"]["name"] == "ticket"
    assert made["tools"] == [{"type": "function", "function": {"name": "find", "parameters": {}, "strict": True}}]
    assert made.keys() == {"messages", "response_format", "tools", "temperature"}
    assert chat_request({"input": "hello"})["messages"] == [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("given_one", "reason"),
    [
        ({"input": "x", "conversation": "conv_1"}, "stateful"),
        ({"input": [{"type": "item_reference", "id": "i"}]}, "stateful"),
        ({"input": [{"type": "image_generation_call"}]}, "not_text"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "hosted_tool"),
        ({"input": []}, "no_messages"),
        ({"input": 3}, "no_messages"),
        ({"messages": []}, "no_messages"),
        ({"messages": ["x"]}, "no_messages"),
        ({}, "no_messages"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "not_text"),
        ({"messages": [{"role": "assistant", "content": None, "audio": {"id": "a"}}]}, "not_text"),
    ],
)
def test_requests_that_make_no_row(given_one: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnusableError, match=reason):
        chat_request(given_one)


def test_targets() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{broken"}}
    assert target_of({"role": "assistant", "content": None, "tool_calls": [call]})["tool_calls"] == [call]
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert target_of({"role": "assistant", "content": parts, "annotations": []}) == {
        "role": "assistant",
        "content": "ab",
    }
    for message, reason in (
        ({}, "empty"),
        ({"content": " \n"}, "empty"),
        ({"content": "x", "refusal": "no"}, "refusal"),
    ):
        with pytest.raises(UnusableError, match=reason):
            target_of(message)
