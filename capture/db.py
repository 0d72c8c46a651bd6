"""The store: one SQLAlchemy engine over SQLite or PostgreSQL, with short read and write transactions.

SQLite comes from `pysqlite3`, which bundles a current SQLite: versions before 3.51.3 can corrupt a WAL file that
several connections share (https://www.sqlite.org/wal.html#walresetbug). Write transactions begin IMMEDIATE there,
since a deferred one that turns into a writer fails at once when another writer is at work.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2
from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from capture.errors import DiskError, StoreAwayError

metadata = MetaData()

BUSY_TIMEOUT_S = 10


class Store:
    """Transactions over one engine. Thread-safe; give each process its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads. Raises StoreAwayError when the database cannot be reached."""
        with _reachable(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end of the block, or rolls back when it raises."""
        with (
            _reachable(),
            self.engine.connect().execution_options(stillhouse_write=True) as connection,
            connection.begin(),
        ):
            yield connection

    def close(self) -> None:
        self.engine.dispose()


class Within(Store):
    """A store as seen from inside one of its own write transactions: what is done through it is part of that one.

    What raises inside is taken back up to where it began; the transaction goes on if its owner catches the error, and
    if there is one still: a full disk ends SQLite's whole transaction.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.engine)
        self._connection = connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        yield self._connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        savepoint = self._connection.begin_nested()
        try:
            yield self._connection
        except BaseException:
            with suppress(OperationalError):  # no such savepoint any more; the first error is the one to tell
                savepoint.rollback()
            raise
        savepoint.commit()


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if "no such" in str(error.orig):  # SQLite's word for a fault of ours: a table or column that is not there
            raise
        raise StoreAwayError(f"the store does not answer: {error.orig}") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise StoreAwayError(f"the store went away: {error.orig}") from error
        raise
    except PoolTimeoutError as error:
        raise StoreAwayError("all connections to the store are in use") from error


def open_store(url: str) -> Store:
    """A store at `sqlite:///FILE` or `postgresql://…`; the SQLite file's folder is made when missing, the file 0600.

    Raises DiskError where that cannot be done; nothing is asked of PostgreSQL yet.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return Store(_sqlite(url, parsed.database))
    url_of_driver = parsed.set(drivername="postgresql+psycopg")
    timeout = {"connect_timeout": BUSY_TIMEOUT_S}
    return Store(create_engine(url_of_driver, pool_pre_ping=True, hide_parameters=True, connect_args=timeout))


def _sqlite(url: str, database: str | None) -> Engine:
    if database:
        _make(Path(database))
    timeout = {"timeout": BUSY_TIMEOUT_S}
    # Errors are logged; values, which may be captured text, never are.
    engine = create_engine(url, module=pysqlite3.dbapi2, hide_parameters=True, connect_args=timeout)
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _make(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
    except OSError as error:
        raise DiskError(f"{file}: {error.strerror}; the data folder needs room and must be writable") from error


def _on_connect(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, below
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_S * 1000}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("stillhouse_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    keys: Sequence[str],
    *,
    add: Sequence[str] = (),
    keep: Sequence[str] = (),
) -> None:
    """Inserts `rows`; where one with the same `keys` exists, its other columns are set to the new values.

    Columns in `add` are increased by the new value instead, those in `keep` stay as they are. All rows have the same
    columns.
    """
    if not rows:
        return
    insert = postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
    changes = {
        name: table.c[name] + insert.excluded[name] if name in add else insert.excluded[name]
        for name in rows[0]
        if name not in keys and name not in keep
    }
    if changes:
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=changes), list(rows))
    else:
        connection.execute(insert.on_conflict_do_nothing(index_elements=keys), list(rows))


def insert_once(connection: Connection, table: Table, row: Mapping[str, Any], keys: Sequence[str]) -> bool:
    """Inserts `row`; False, and nothing done, when one with the same `keys` exists."""
    insert = postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
    statement = insert.values(dict(row)).on_conflict_do_nothing(index_elements=keys).returning(table.c[keys[0]])
    return connection.execute(statement).first() is not None  # a row count is not told for inserts by every driver
