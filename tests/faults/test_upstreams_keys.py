"""Keys when the store is away: never a wrong 401, never a wrong 200; and an upstream's key rotated without a pause."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from capture.db import open_store
from capture.keys import create
from capture.migrations import upgrade
from capture.settings import Settings
from tests.factories.routing import Time, settings_of
from tests.fakes.client import Answer, RawClient
from tests.fakes.gateway import GatewayServer
from tests.fakes.upstream import ScriptedUpstream, answering, response

BODY = b'{"model":"gpt-4.1","messages":[]}'


@contextmanager
def served(folder: Path) -> Iterator[tuple[Settings, ScriptedUpstream]]:
    key_file = folder / "upstream-key"
    key_file.write_text("sk-first")
    with ScriptedUpstream(answering(response(b"{}"))) as upstream:
        config = f"""
[gateway]
keys = "required"
[upstreams.up]
base_url = "http://127.0.0.1:{upstream.port}/v1"
auth = "key"
api_key_file = "{key_file}"
"""
        yield settings_of(folder, config), upstream


def ask(server: GatewayServer, token: str) -> Answer:
    with RawClient(server.port) as client:
        return client.chat(BODY, b"authorization: Bearer %b\r\n" % token.encode())


def made_key(settings: Settings, name: str) -> str:
    store = open_store(settings.store_url)
    upgrade(store)
    token, _ = create(store, settings.data, name, [], None, Time())
    store.close()
    return token


def hide_store(settings: Settings) -> Path:
    """Something else stands where the database was."""
    file = settings.data / "stillhouse.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    hidden = file.rename(file.with_suffix(".away"))
    file.mkdir()
    return hidden


def test_a_restart_while_the_store_is_away_lets_known_keys_in_and_never_says_401(tmp_path: Path) -> None:
    with served(tmp_path) as (settings, upstream):
        known = made_key(settings, "known")
        with GatewayServer(settings) as server:
            assert ask(server, known).status == 200
            assert ask(server, "sh-" + "x" * 43).status == 401
        late = made_key(settings, "late")  # while no gateway ran
        hidden = hide_store(settings)
        with GatewayServer(settings) as server:
            assert ask(server, known).status == 200
            unknown = ask(server, late)
            assert (unknown.status, unknown.header(b"retry-after")) == (503, b"2")
            assert b'"code":"store_away"' in unknown.body
            assert late.encode() not in unknown.body
            (settings.data / "stillhouse.db").rmdir()
            hidden.rename(settings.data / "stillhouse.db")
            server.app.state.snapshots.refresh()
            assert ask(server, late).status == 200
            assert ask(server, "sh-" + "x" * 43).status == 401
    assert {request.header(b"authorization") for request in upstream.requests} == {b"Bearer sk-first"}


def test_the_upstreams_key_is_rotated_without_a_restart(tmp_path: Path) -> None:
    with served(tmp_path) as (settings, upstream):
        token = made_key(settings, "app")
        with GatewayServer(settings) as server:
            assert ask(server, token).status == 200
            (tmp_path / "upstream-key").write_text("sk-second\n")
            server.app.state.snapshots.refresh()
            assert ask(server, token).status == 200
    sent = [request.header(b"authorization") for request in upstream.requests]
    assert sent == [b"Bearer sk-first", b"Bearer sk-second"]
