"""The store: transactions, upserts, and an honest error when it is away."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, Connection, MetaData, String, Table, create_engine, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import QueuePool

from capture import db
from capture.db import Store, Within, insert_once, open_store, upsert
from capture.errors import DiskError, StoreAwayError

_metadata = MetaData()
_table = Table(
    "things",
    _metadata,
    Column("a", String, primary_key=True),
    Column("b", String, primary_key=True),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = open_store(f"sqlite:///{tmp_path / 'folder' / 'test.db'}")
    _metadata.create_all(store.engine)
    yield store
    store.close()


def rows(store: Store) -> list[tuple[Any, ...]]:
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(select(_table).order_by(_table.c.a))]


def thing(a: str, at: int, count: int = 1) -> dict[str, Any]:
    return {"a": a, "b": "x", "first": at, "last": at, "count": count}


def test_upserts_insert_set_add_and_keep(store: Store) -> None:
    with store.write() as connection:
        upsert(connection, _table, [], ["a", "b"])
        upsert(connection, _table, [thing("one", 1), thing("two", 1)], ["a", "b"], add=["count"], keep=["first"])
        upsert(connection, _table, [thing("one", 5, 3)], ["a", "b"], add=["count"], keep=["first"])
    assert rows(store) == [("one", "x", 1, 5, 4), ("two", "x", 1, 1, 1)]
    with store.write() as connection:
        upsert(connection, _table, [thing("two", 9)], ["a", "b"], keep=["first", "last", "count"])
        upsert(connection, _table, [thing("one", 9)], ["a", "b"])
    assert rows(store) == [("one", "x", 9, 9, 1), ("two", "x", 1, 1, 1)]


def test_a_store_within_a_transaction_is_part_of_it(store: Store) -> None:
    """It reads what was written; what fails is undone to where it began; the end is the whole transaction's."""
    one = ("one", "x", 1, 1, 1)
    with store.write() as connection:
        within = Within(connection)
        with within.write() as inner:
            inner.execute(insert(_table).values(thing("one", 1)))
        with pytest.raises(IntegrityError), within.write() as inner:
            inner.execute(insert(_table), [thing("two", 1), thing("one", 1)])
        assert (rows(within), rows(store)) == ([one], [])
    assert rows(store) == [one]
    with store.engine.connect() as connection, connection.begin() as outer:
        with Within(connection).write() as inner:
            inner.execute(insert(_table).values(thing("three", 1)))
        outer.rollback()
    assert rows(store) == [one]


def test_a_full_disk_within_a_transaction_is_told_as_it_is(store: Store) -> None:
    """SQLite ends the whole transaction then, savepoints and all."""
    with store.read() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar()

    def fill(connection: Connection) -> None:
        connection.execute(text(f"PRAGMA max_page_count = {pages + 2}"))
        with Within(connection).write() as inner:
            inner.execute(insert(_table), [thing(f"{number} {'x' * 500}", number) for number in range(1000)])

    with pytest.raises(StoreAwayError, match="full"), store.write() as connection:
        fill(connection)
    assert rows(store) == []


def test_a_data_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match=r"test\.db: (Not a directory|File exists); the data folder needs room"):
        open_store(f"sqlite:///{tmp_path / 'file' / 'test.db'}")


def test_insert_once_says_whether_it_did(store: Store) -> None:
    with store.write() as connection:
        assert insert_once(connection, _table, thing("one", 1), ["a", "b"])
        assert not insert_once(connection, _table, thing("one", 2), ["a", "b"])
    assert rows(store) == [("one", "x", 1, 1, 1)]


def test_a_write_that_raises_leaves_nothing(store: Store) -> None:
    def interrupted() -> None:
        with store.write() as connection:
            connection.execute(insert(_table), thing("one", 1))
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert rows(store) == []


def test_the_file_is_private_current_and_in_wal_mode(store: Store, tmp_path: Path) -> None:
    assert (tmp_path / "folder" / "test.db").stat().st_mode & 0o777 == 0o600
    with store.read() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        version = connection.execute(text("SELECT sqlite_version()")).scalar_one()
    assert tuple(map(int, version.split("."))) >= (3, 51, 3)


def test_a_locked_store_is_away_and_comes_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "BUSY_TIMEOUT_S", 0)
    other = open_store(str(store.engine.url))
    with store.write() as connection:
        connection.execute(insert(_table), thing("one", 1))
        with pytest.raises(StoreAwayError, match="the store does not answer"), other.write():
            pass
        with other.read() as reading:  # readers are not blocked by a writer
            assert reading.execute(select(_table)).all() == []
    with other.write() as connection:
        connection.execute(insert(_table), thing("two", 1))
    assert len(rows(store)) == 2
    other.close()


def test_a_store_that_is_not_there_is_away(tmp_path: Path) -> None:
    away = open_store("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(StoreAwayError), away.read():
        pass
    away.close()


def test_a_store_whose_connections_are_all_in_use_is_away(tmp_path: Path) -> None:
    pool: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": 0.01}
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}", **pool)
    store = Store(engine)
    with store.read(), pytest.raises(StoreAwayError, match="in use"), store.read():
        pass
    store.close()
