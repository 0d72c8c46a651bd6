"""schemathesis over our own OpenAPI document, against a gateway on a real socket: no answer of ours is a 5xx."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation

from capture.db import open_store
from capture.migrations import upgrade
from tests.factories.routing import settings_of
from tests.fakes.gateway import GatewayServer
from tests.fakes.upstream import ScriptedUpstream, answering, response

EXAMPLES = 8  # of each operation


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    folder: Path = tmp_path_factory.mktemp("schema")
    with ScriptedUpstream(answering(response(b'{"object":"list","data":[]}'))) as upstream:
        config = f'[upstreams.a]\nbase_url = "http://127.0.0.1:{upstream.port}/v1"\n'
        known = settings_of(folder, config)
        known.data.mkdir(parents=True, exist_ok=True)
        store = open_store(known.store_url)
        upgrade(store)
        store.close()
        with GatewayServer(known) as server:
            yield server


def test_no_operation_of_ours_fails_on_our_side(gateway: GatewayServer) -> None:
    schema = schemathesis.openapi.from_dict(gateway.app.openapi())
    schema.config.update(base_url=f"http://127.0.0.1:{gateway.port}")
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert {"/feedback", "/healthz", "/v1/chat/completions/{completion_id}"} <= {one.path for one in operations}
    failed = [f"{one.method} {one.path}: {status}" for one in operations for status in _failures(one)]
    assert failed == []


def _failures(operation: APIOperation) -> set[int]:
    """The statuses of 500 and above that this operation's examples were answered with."""
    found: set[int] = set()

    @given(st.data())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(data: st.DataObject) -> None:
        reply = data.draw(operation.as_strategy()).call()
        if reply.status_code >= 500:
            found.add(reply.status_code)

    ask()
    return found
