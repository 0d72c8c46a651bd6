"""Upgrades: every revision goes up and down on both databases and ends where the tables are; old spools are read."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import delete, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

import students.tables  # noqa: F401
from capture import full_text
from capture.db import Store, metadata, open_store
from capture.exchange import decode
from capture.migrations import FOLDER, downgrade, upgrade
from capture.tables import audit
from capture.traffic import TrafficFilter, list_exchanges, load_exchange
from tests.factories.exchanges import new_exchange
from tests.factories.spooled import Rig
from tests.factories.store import add_exchange

OLD_SEGMENT = Path(__file__).parent / "segments" / "0000000001-1f3a9c07.v1"
REVISIONS = [one.revision for one in reversed(list(ScriptDirectory(str(FOLDER)).walk_revisions()))]


@pytest.fixture
def bare(database_url: str) -> Any:
    """A store without any table."""
    store = open_store(database_url)
    yield store
    store.close()


def names(store: Store) -> set[str]:
    kept = {"alembic_version", full_text.NAME}
    return {name for name in inspect(store.engine).get_table_names() if not name.startswith(tuple(kept))}


def differences(store: Store) -> Sequence[Any]:
    """What Alembic would still change; the full-text index is no table of SQLAlchemy's."""
    with store.read() as connection:
        found: list[Any] = compare_metadata(MigrationContext.configure(connection), metadata)
    return [one for one in found if full_text.NAME not in str(one)]


def test_every_revision_goes_up_and_down_and_up_again(bare: Store) -> None:
    for revision, below in zip(REVISIONS, ["base", *REVISIONS], strict=False):
        before = names(bare)
        upgrade(bare, revision)
        after = names(bare)
        downgrade(bare, below)
        assert names(bare) == before
        upgrade(bare, revision)
        assert names(bare) == after
    assert names(bare) == {table.name for table in metadata.sorted_tables}
    assert differences(bare) == []


def test_what_is_stored_outlives_an_upgrade_that_finds_nothing_to_do(bare: Store) -> None:
    upgrade(bare)
    kept = add_exchange(bare, text="where is my parcel")
    upgrade(bare)
    assert load_exchange(bare, kept).request["messages"][-1]["content"] == "where is my parcel"
    assert [row.id for row in list_exchanges(bare, TrafficFilter(text="parcel"))] == [kept]
    downgrade(bare, "base")
    assert names(bare) == set()


def test_the_audit_is_only_added_to(bare: Store) -> None:
    upgrade(bare)
    line = {"id": "a", "at": 1.0, "who": "someone", "action": "keys.create", "subject": "key_1", "detail": {}}
    changes = [update(audit).values(who="somebody else"), delete(audit)]
    with bare.write() as connection:
        connection.execute(insert(audit).values(line))
    for change in changes if bare.is_sqlite else [*changes, text("TRUNCATE audit")]:
        with pytest.raises(DBAPIError, match="only added to"), bare.write() as connection:
            connection.execute(change)
    with bare.read() as connection:
        assert [dict(row._mapping) for row in connection.execute(select(audit))] == [line]


def test_segments_of_the_first_form_stay_readable(tmp_path: Path) -> None:
    """A spool that an older version left behind: one record with every field, one with those alone that all have."""
    rig = Rig(tmp_path)
    folder = rig.settings.spool_folder / "0198c0de"
    folder.mkdir(parents=True)
    shutil.copy(OLD_SEGMENT, folder)
    rig.ship_all()
    full, least = (load_exchange(rig.store, one) for one in rig.ids())
    assert (full.row.task, full.row.arm, full.row.assignment, full.row.student) == (
        "triage",
        "fallback",
        "student",
        "st_1",
    )
    assert (full.row.fingerprint, full.row.stored, full.row.first_ms) == ("0123456789abcdef", True, 12.5)
    assert full.answer.text == '{"category": "parcel"}'
    assert (least.row.task, least.row.arm, least.row.status, least.request) == (None, "teacher", 500, {})
    assert not folder.exists()
    rig.close()


def test_fields_that_a_later_version_adds_are_passed_over() -> None:
    known = msgspec.to_builtins(new_exchange(), builtin_types=(bytes,))
    assert decode(msgspec.msgpack.encode({**known, "of_tomorrow": {"deep": [1]}})) == decode(
        msgspec.msgpack.encode(known)
    )
