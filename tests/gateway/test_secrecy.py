"""Marked secrets in every place where a request can carry one; no log line, metric or error of ours repeats any."""

import json
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.fakes.processes import family, free_port, wait_until
from tests.fakes.upstream import ScriptedUpstream, answering, response

MARK = "marked-secret"


@pytest.mark.parametrize("keys", ["off", "required"])
def test_nothing_that_a_request_carries_comes_out_elsewhere(tmp_path: Path, keys: str) -> None:
    port, metrics = free_port(), free_port()
    with ScriptedUpstream(answering(response(json.dumps({"id": "c", "choices": []}).encode()))) as upstream:
        config = tmp_path / "stillhouse.toml"
        config.write_text(
            f'[gateway]\nkeys = "{keys}"\nport = {port}\nmetrics_port = {metrics}\n'
            f'[upstreams.a]\nbase_url = "http://127.0.0.1:{upstream.port}/v1"\n'
            '[tasks.t]\nmatch = { model = "m" }\nteacher = { upstream = "a", model = "m" }\n'
        )
        line = [sys.executable, "-m", "gateway", "--config", str(config), "--data", str(tmp_path / "data")]
        log = tmp_path / "log"
        with log.open("wb") as out, subprocess.Popen(line, stderr=out, stdout=out) as gateway:
            try:
                wait_until(lambda: b"listening" in log.read_bytes() or gateway.poll() is not None)
                said = _ask_everything(port)
                wait_until(lambda: b"stillhouse_in_flight" in _get(metrics, "/metrics").content)
                said.append(_get(metrics, "/metrics").content)
            finally:
                for one in family(gateway.pid):
                    one.terminate()
        said.append(log.read_bytes())
    assert not [text for text in said if MARK.encode() in text]


def _get(port: int, path: str) -> httpx2.Response:
    return httpx2.get(f"http://127.0.0.1:{port}{path}")


def _ask_everything(port: int) -> list[bytes]:
    """Errors and answers, with a mark in headers, bodies, models, sessions, ids and queries."""
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": MARK}],
        "metadata": {"session": MARK},
        "user": MARK,
    }
    headers = {
        "authorization": f"Bearer sk-{MARK}",
        "x-stillhouse-session": MARK,
        "x-stillhouse-key": f"sh-{MARK}",
        "cookie": MARK,
    }
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as http:
        replies = [
            http.post("/v1/chat/completions", json=body),
            http.post("/v1/chat/completions", content=json.dumps(body)[:-3]),
            http.post("/v1/chat/completions", json=body, headers={"content-encoding": "gzip"}),
            http.post("/v1/responses", json={"model": "m", "input": MARK}),
            http.post("/feedback", json={"id": "x", "kind": "score", "value": MARK}),
            http.post("/feedback", content=f'{{"{MARK}"'),
            http.get(f"/v1/files?q={MARK}"),
            http.get("/v1/models"),
        ]
    return [reply.content for reply in replies]
