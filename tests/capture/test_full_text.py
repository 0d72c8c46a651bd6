"""Full text: the same exchanges found on SQLite and PostgreSQL, in step with what is written and erased."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select

from capture import full_text, lineage, stored_completions
from capture.db import Store, metadata, open_store
from capture.migrations import downgrade, upgrade
from capture.tables import exchanges
from capture.traffic import TrafficFilter, count_exchanges, list_exchanges
from tests.factories.exchanges import chat_request, completion, new_exchange
from tests.factories.spooled import Rig, put
from tests.factories.store import add_exchange, exchange_row, new_store
from tests.fakes.postgres import new_database, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        store = new_store(tmp_path)
    else:
        store = open_store(new_database(request.getfixturevalue("server")))
        metadata.create_all(store.engine)
    yield store
    store.close()


def found(store: Store, text: str, **wanted: object) -> list[str]:
    wanted_ones = TrafficFilter(text=text, **wanted)  # type: ignore[arg-type]
    ids = [row.id for row in list_exchanges(store, wanted_ones, limit=1000)]
    assert count_exchanges(store, wanted_ones) == len(ids)
    return ids


def test_words_are_found_in_any_order_and_case_and_the_last_as_a_beginning(store: Store) -> None:
    parcel = add_exchange(store, preview="Das Paket: GRÖSSE 40, order-no. A12_b7 kam nicht")
    other = add_exchange(store, preview="the invoice of May; naïve façade")
    chinese = add_exchange(store, preview="订单还没有到")
    for text, expected in (
        ("größe paket", [parcel]),
        ("kam 40", [parcel]),
        ("pake", [parcel]),
        ("pak kam", []),  # only the last may be a beginning
        ("ka", []),  # too short for one
        ("a12_b7", [parcel]),
        ("NAÏVE", [other]),
        ("naive", []),
        ("façade invoice", [other]),
        ("没有", [chinese]),
        ("invoice paket", []),
        ("\"'*():-", []),
        ("paket OR", []),
        ("nicht)", [parcel]),
    ):
        assert found(store, text) == expected, text
    with pytest.raises(ValueError, match="text is empty"):
        found(store, "  ")


def test_pages_and_other_filters(store: Store) -> None:
    ids = [
        add_exchange(store, preview="same words", arm=("teacher", "student")[n % 2], task="ab"[n % 2]) for n in range(7)
    ]
    lost = add_exchange(store, preview="same words", status=500, task=None, label=None)
    assert found(store, "same", arm="student") == ids[1::2][::-1]
    assert found(store, "same", task="a", failed=False) == ids[::2][::-1]
    assert found(store, "same", task="") == found(store, "words", failed=True) == [lost]
    assert found(store, "same", session="nobody") == found(store, "same", label="nothing") == []
    seen: list[str] = []
    before = None
    while page := list_exchanges(store, TrafficFilter(text="words"), before, 3):
        seen += [row.id for row in page]
        before = page[-1].id
    assert seen == [lost, *ids[::-1]]


CONDITIONS: list[dict[str, object]] = [
    {"task": ""},
    {"task": "b"},
    {"arm": "student"},
    {"key_id": "k1"},
    {"session": "s1"},
    {"user": "u1"},
    {"fingerprint": "fp2"},
    {"rollout": "r1"},
    {"student": "st1"},
    {"label": "bug"},
    {"label": ""},
    {"model": "asked"},
    {"model": "served"},
    {"model": "neither"},
    {"failed": True},
    {"failed": False},
    {"metadata": {"tier": "gold"}},
    {"metadata": {"tier": "gold", "app": "x"}},
    {"metadata": {"tier": "none"}},
    {"model": "asked", "metadata": {"tier": "gold"}, "failed": False},
]


def test_beside_a_word_every_condition_finds_what_it_finds_alone(store: Store) -> None:
    """Whatever narrows the search inside the index, narrows it to the same exchanges."""
    known = {"key_id": "k1", "session": "s1", "user": "u1", "rollout": "r1", "student": "st1"}
    for more in (
        {"task": None, "label": None},
        {"task": "b", "arm": "student", **known},
        {"fingerprint": "fp2", "label": "bug", "metadata": {"tier": "gold"}},
        {"model": "asked", "served_model": "served", "metadata": {"tier": "gold", "app": "x"}},
        {"model": "asked", "status": 500},
        {"stored": True, "model": "asked", "metadata": {"tier": "gold", "app": "x"}},
    ):
        add_exchange(store, preview="same words", **more)
    for wanted in CONDITIONS:
        alone = [row.id for row in list_exchanges(store, TrafficFilter(**wanted))]  # type: ignore[arg-type]
        assert found(store, "same", **wanted) == alone, wanted


@pytest.mark.parametrize("many", [3, full_text.MOST_NAMED + 1])
def test_beginnings_of_any_length_are_found_however_many_words_begin_so(store: Store, many: int) -> None:
    ids = [add_exchange(store, preview=f"invoice{number:03d} paid") for number in range(many)]
    whole = add_exchange(store, preview="invoice paid")
    add_exchange(store, preview="invoic invoid paid")
    for beginning in ("invoice", "INVOICE"):
        assert set(found(store, f"paid {beginning}")) == {*ids, whole}
    assert set(found(store, "paid invoice0")) == set(ids)
    assert found(store, "paid invoice001") == [ids[1]]
    assert found(store, "paid invoicex") == []
    assert len(found(store, "inv")) == len(found(store, "invo")) == many + 2


def test_a_stored_completion_is_found_by_the_metadata_that_it_has_now(store: Store) -> None:
    kept = add_exchange(store, preview="same words", stored=True, metadata={"tier": "gold"})
    stored_completions.set_metadata(store, kept, {"tier": "basic"})
    assert found(store, "same", metadata={"tier": "gold"}) == []
    assert found(store, "same", metadata={"tier": "basic"}) == [kept]


def test_times_bound_the_search(store: Store) -> None:
    old, new = (add_exchange(store, id=f"{at:012x}" + "7" + "0" * 19, preview="hello") for at in (1_000_000, 2_000_000))
    assert found(store, "hello", since=1500.0) == [new]
    assert found(store, "hello", until=1500.0) == [old]


def test_entries_of_the_same_instant_are_kept_apart_and_erased_by_themselves(store: Store) -> None:
    ids = [f"{2**40:012x}7ab{number:017x}" for number in range(5)]
    for identity in ids:
        add_exchange(store, id=identity, preview="hello")
    lineage.erase(store, ids[1:3], None, "ann", lambda: 1.0)
    assert found(store, "hello") == [ids[4], ids[3], ids[0]]
    again = add_exchange(store, id=f"{2**40:012x}7ab{9:017x}", preview="hello")
    assert set(found(store, "hello")) == {ids[0], ids[3], ids[4], again}
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(full_text._words)) == 4


def test_what_is_shipped_is_found_by_its_redacted_text_alone(store: Store, tmp_path: Path) -> None:
    rig = Rig(tmp_path, store=store)
    asked = chat_request("Write to jane.doe@corp.io about " + "the very long story " * 50 + "of the unicorn")
    kept, plain = new_exchange(asked, completion("They were galloping")), new_exchange(response=completion("fine"))
    put(rig.spool(), kept, plain)
    rig.ship_all()
    assert found(store, "unicorn") == found(store, "galloping story") == [kept.id]  # beyond the 200 of the preview
    assert found(store, "jane") == found(store, "corp") == []
    lineage.erase(store, [kept.id], None, "ann", lambda: 1.0)
    assert found(store, "unicorn") == []
    for spool in rig.spools:
        spool.close()


def test_the_index_comes_and_goes_with_the_tables(store: Store) -> None:
    metadata.drop_all(store.engine)
    upgrade(store)
    upgrade(store)
    known = add_exchange(store, preview="hello")
    assert found(store, "hello") == [known]
    downgrade(store, "base")
    upgrade(store)
    assert found(store, "hello") == []


def broken(store: Store) -> None:
    with store.write() as connection:
        connection.execute(insert(exchanges), exchange_row()["exchange"] | {"id": "a" * 32})
        full_text.add(connection, [full_text.Entry("a" * 32, full_text.words_of("hello"), exchange_row()["exchange"])])
        raise ZeroDivisionError


def test_a_write_that_is_rolled_back_leaves_the_index_as_it_was(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        broken(store)
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(full_text._words)) == 0


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=200))
def test_every_word_of_a_text_is_a_word_alone(text: str) -> None:
    words = full_text.words_of(text)
    assert all(full_text.words_of(word) == {word} or len(word) == full_text.LONGEST_WORD for word in words)
    assert all("_" not in word and " " not in word for word in words)


@pytest.fixture(scope="module")
def one_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = new_store(tmp_path_factory.mktemp("odd"))
    yield store
    store.close()


@given(text=st.text(max_size=60))
@example(text="0\x000")
@settings(max_examples=100, deadline=None)
def test_no_text_breaks_a_search(one_store: Store, text: str) -> None:
    known = add_exchange(one_store, preview=text.encode("utf-8", "replace").decode().replace("\0", " "))
    if not text.strip():
        with pytest.raises(ValueError, match="text is empty"):
            TrafficFilter(text=text)
        return
    ids = [row.id for row in list_exchanges(one_store, TrafficFilter(text=text), limit=1)]
    assert ids == ([known] if full_text.words_of(text) else [])
