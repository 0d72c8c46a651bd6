import time
from collections.abc import Callable
from pathlib import Path

from capture.db import Store, open_store
from capture.keys import KeyLimits, create
from capture.settings import Settings
from gateway.refresh import SnapshotKeeper
from tests.factories.rollouts import add_rollout, add_student, tick
from tests.factories.routing import NOW, Time, settings_of
from tests.factories.store import new_store, store_at
from tests.fakes import postgres


def keeper_of(store: Store, settings: Settings, **environ: str) -> SnapshotKeeper:
    return SnapshotKeeper(store, settings, Time(), environ)


def test_before_the_first_look_the_file_is_what_is_known(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    keeper = keeper_of(store, settings_of(tmp_path))
    assert set(keeper.current.tasks) == {"triage", "extract"}
    assert (keeper.current.from_store, keeper.degraded) == (False, True)
    keeper.stop()
    store.close()


def test_what_changes_in_the_store_is_seen(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    keeper = keeper_of(store, settings_of(tmp_path))
    keeper.refresh()
    add_student(store, "http://127.0.0.1:9600/v1")
    add_rollout(store)
    tick(store, NOW)
    keeper.refresh()
    assert [rollout.share for rollout in keeper.current.rollouts["triage"]] == [0.25]
    store.close()


def test_the_last_good_snapshot_stays_while_the_store_is_away(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    add_student(store, "http://127.0.0.1:9600/v1")
    add_rollout(store)
    keeper = keeper_of(store, settings_of(tmp_path))
    keeper.refresh()
    good = keeper.current
    store.close()
    database = tmp_path / "test.db"
    database.rename(tmp_path / "away.db")
    database.mkdir()
    keeper.refresh()
    assert keeper.current.rollouts is good.rollouts
    assert keeper.degraded
    database.rmdir()
    (tmp_path / "away.db").rename(database)
    keeper.refresh()
    assert not keeper.degraded
    assert keeper.current.rollouts is not good.rollouts
    store.close()


def test_a_store_that_lets_us_wait_is_noticed(tmp_path: Path) -> None:
    store, clock = new_store(tmp_path), Time()
    keeper = SnapshotKeeper(store, settings_of(tmp_path), clock, {})
    keeper.refresh()
    assert not keeper.degraded
    clock.now += 10.1
    assert keeper.degraded
    store.close()


def test_a_store_without_tables_is_away(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'empty.db'}")
    keeper = keeper_of(store, settings_of(tmp_path))
    keeper.refresh()
    assert keeper.degraded
    assert "triage" in keeper.current.tasks
    store.close()


def test_secrets_are_read_again_each_time(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    file = tmp_path / "key"
    file.write_text("first\n")
    config = f"""
[upstreams.a]
base_url = "http://127.0.0.1:1/v1"
auth = "key"
api_key_file = "{file}"
"""
    keeper = keeper_of(store, settings_of(tmp_path, config))
    assert keeper.current.secrets == {"a": "first"}
    file.write_text("second")
    keeper.refresh()
    assert keeper.current.secrets == {"a": "second"}
    file.unlink()
    keeper.refresh()
    assert keeper.current.secrets == {"a": "second"}
    store.close()


def test_a_key_is_revoked_by_a_file_even_while_the_store_is_away(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    settings = settings_of(tmp_path, STILLHOUSE_GATEWAY__KEYS="required")
    _, first = create(store, settings.data, "first", [], None, Time())
    _, second = create(store, settings.data, "second", [], None, Time())
    keeper = keeper_of(store, settings)
    keeper.refresh()
    assert set(keeper.current.keys.values()) == {first, second}
    (settings.data / "secrets" / "revoked").write_text(f"{first.id}\n")
    keeper.refresh()
    assert set(keeper.current.keys.values()) == {second}
    store.close()
    (tmp_path / "test.db").rename(tmp_path / "away.db")
    (tmp_path / "test.db").mkdir()
    (settings.data / "secrets" / "revoked").write_text(f"{first.id}\n{second.prefix}\n")
    keeper.refresh()
    assert keeper.degraded
    assert keeper.current.keys == {}
    store.close()


def test_the_thread_looks_by_itself_and_ends(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    keeper = keeper_of(store, settings_of(tmp_path))
    keeper.start()
    assert keeper.current.from_store
    keeper.stop()
    store.close()


def test_keys_are_known_to_a_gateway_that_starts_while_the_store_is_away(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    settings = settings_of(tmp_path, STILLHOUSE_GATEWAY__KEYS="required")
    never_seen = keeper_of(store, settings)
    assert (never_seen.current.keys, never_seen.current.knows_keys) == ({}, False)
    limits = KeyLimits(requests_per_minute=3)
    token, key = create(store, settings.data, "app", ["triage"], NOW + 5, Time(), limits)
    never_seen.refresh()
    assert never_seen.current.knows_keys
    again = keeper_of(store, settings)
    assert (list(again.current.keys.values()), again.current.knows_keys) == ([key], False)
    kept = settings.data / "secrets" / "known_keys.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert token not in kept.read_text()
    (settings.data / "secrets" / "revoked").write_text(key.id)
    assert keeper_of(store, settings).current.keys == {}
    kept.write_text("{")
    assert keeper_of(store, settings).current.keys == {}
    store.close()


def test_an_upstreams_key_file_that_is_being_rewritten_keeps_the_last_key(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    file = tmp_path / "key"
    file.write_text("first\n")
    config = f'[upstreams.a]\nbase_url = "http://127.0.0.1:1/v1"\nauth = "key"\napi_key_file = "{file}"\n'
    keeper = keeper_of(store, settings_of(tmp_path, config))
    file.write_text("")
    keeper.refresh()
    assert keeper.current.secrets == {"a": "first"}
    store.close()


def test_keys_end_and_change_while_the_store_lets_us_wait(tmp_path: Path) -> None:
    """It takes connections and answers nothing: what looks at it hangs, and errs never."""
    secret = tmp_path / "key"
    secret.write_text("first")
    more = f'[upstreams.a]\nbase_url = "http://127.0.0.1:1/v1"\nauth = "key"\napi_key_file = "{secret}"\n'
    with postgres.server(tmp_path) as server:
        url = postgres.new_database(server.url)
        settings = settings_of(tmp_path, more, STILLHOUSE_GATEWAY__KEYS="required", STILLHOUSE_DATABASE_URL=url)
        store = store_at(url)
        _, key = create(store, settings.data, "app", [], None, Time())
        keeper = SnapshotKeeper(store, settings, time.time, {})
        keeper.start()
        assert list(keeper.current.keys.values()) == [key]
        with server.stalled():
            eventually("the look at the store hangs", lambda: _waits(keeper))
            (settings.data / "secrets" / "revoked").write_text(key.id)
            secret.write_text("second")
            eventually("the key has ended", lambda: not keeper.current.keys)
            eventually("the upstream's key has changed", lambda: keeper.current.secrets == {"a": "second"})
        keeper.stop()
        store.close()


def _waits(keeper: SnapshotKeeper) -> bool:
    """No look has ended for longer than one takes and the pause before it."""
    return time.time() - keeper.current.read_at > 2


def eventually(what: str, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
