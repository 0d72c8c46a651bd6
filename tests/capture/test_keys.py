import stat
from dataclasses import asdict
from pathlib import Path

import pytest

from capture.errors import DiskError, NotFoundError
from capture.keys import KeyLimits, create, digest_of, list_keys, live_keys, load_pepper, revoke
from tests.factories.store import NOON, new_store


def clock() -> float:
    return NOON


def test_a_key_is_shown_once_and_kept_as_a_digest(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    limits = KeyLimits(requests_per_minute=60)
    token, key = create(store, tmp_path, "app", ["triage"], NOON + 5, clock, limits)
    assert token.startswith(key.prefix)
    assert len(token) > 40
    with store.read() as connection:
        assert live_keys(connection) == {digest_of(token, load_pepper(tmp_path)): key}
    assert list_keys(store) == [key]
    assert (key.tasks, key.limits, key.created_at) == (("triage",), limits, NOON)
    assert token not in str(asdict(key))
    assert token.encode() not in (tmp_path / "test.db").read_bytes()
    store.close()


def test_usable_until_it_expires_or_is_revoked(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _, key = create(store, tmp_path, "app", [], NOON + 5, clock)
    _, lasting = create(store, tmp_path, "other", [], None, clock)
    assert [key.usable(now) for now in (NOON, NOON + 4.9, NOON + 5)] == [True, True, False]
    assert lasting.usable(NOON + 1e9)
    assert not revoke(store, lasting.id, clock).usable(NOON)
    store.close()


def test_revoking_is_by_id_prefix_or_name_and_once_is_enough(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for name in ("a", "b", "c", "twice", "twice"):
        create(store, tmp_path, name, [], None, clock)
    by_name = {key.name: key for key in list_keys(store)}
    first = revoke(store, by_name["a"].id, clock)
    assert revoke(store, "a", lambda: NOON + 9) == first
    revoke(store, by_name["b"].prefix, clock)
    for wrong in ("nobody", "twice", ""):
        with pytest.raises(NotFoundError):
            revoke(store, wrong, clock)
    with store.read() as connection:
        assert {key.name for key in live_keys(connection).values()} == {"c", "twice"}
    store.close()


def test_the_pepper_is_made_once_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    pepper = load_pepper(tmp_path)
    assert load_pepper(tmp_path) == pepper
    assert len(pepper) == 32
    file = tmp_path / "secrets" / "pepper"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [entry.name for entry in file.parent.iterdir()] == ["pepper"]
    assert load_pepper(tmp_path / "elsewhere") != pepper


def test_a_data_folder_that_is_none_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="must be writable"):
        load_pepper(tmp_path / "file")
