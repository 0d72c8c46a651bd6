"""`python -m gateway` as a process: exit codes, several workers, the drain, and what a kill leaves behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from capture.db import open_store
from capture.keys import KeyLimits, create
from capture.migrations import upgrade
from tests.fakes.client import RawClient
from tests.fakes.processes import TIMEOUT_S, family, free_port, wait_until
from tests.fakes.upstream import LAST_CHUNK, STREAM_HEAD, Conversation, ScriptedUpstream, answering, chunk, response

ANSWER = response(b'{"id":"c","choices":[]}')


def command(folder: Path, upstream: int, port: int, *options: str) -> list[str]:
    config = folder / "stillhouse.toml"
    config.write_text(f'[gateway]\ndrain_s = 10\n[upstreams.a]\nbase_url = "http://127.0.0.1:{upstream}/v1"\n')
    known = ["--config", str(config), "--data", str(folder / "data"), "--port", str(port), "--metrics-port", "0"]
    return [sys.executable, "-m", "gateway", *known, *options]


@contextmanager
def started(line: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A gateway that answers; killed at the end, with all it started."""
    with subprocess.Popen(line, stderr=subprocess.PIPE) as process:
        try:
            wait_until(lambda: answers(port) or process.poll() is not None)
            yield process
        finally:
            for one in family(process.pid):
                one.kill()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def run(line: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("nonsense", "not valid TOML"),
        ("[gateway]\nprot = 1\n", "gateway.prot"),
        ("", "add [upstreams.NAME]"),
        ('[upstreams.a]\nbase_url = "http://h/v1"\nauth = "key"\napi_key_env = "NO_SUCH_KEY"\n', "NO_SUCH_KEY"),
        ('[gateway]\nhost = "0.0.0.0"\n[upstreams.a]\nbase_url = "http://h/v1"\n', "is public"),
    ],
)
def test_a_wrong_configuration_is_one_line_and_2(tmp_path: Path, config: str, says: str) -> None:
    file = tmp_path / "stillhouse.toml"
    file.write_text(config)
    ended = run([sys.executable, "-m", "gateway", "--config", str(file), "--data", str(tmp_path / "data")])
    assert ended.returncode == 2
    assert says in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_a_busy_port_is_one_line_and_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = run(command(tmp_path, 1, taken.getsockname()[1]))
    assert ended.returncode == 1
    assert "gateway.port" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_lets_a_stream_end(tmp_path: Path, workers: str) -> None:
    go_on = threading.Event()

    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(STREAM_HEAD + chunk(b"data: {}\n\n"))
        assert go_on.wait(TIMEOUT_S)
        talk.send(chunk(b"data: [DONE]\n\n") + LAST_CHUNK)

    port = free_port()
    with (
        ScriptedUpstream(script) as upstream,
        started(command(tmp_path, upstream.port, port, "--workers", workers), port) as gateway,
        RawClient(port, TIMEOUT_S) as client,
    ):
        client.post(b"/v1/chat/completions", b'{"model":"m","stream":true}')
        client.read_until(b"data: {}\n\n")
        gateway.send_signal(signal.SIGTERM)
        wait_until(lambda: not answers(port))
        go_on.set()
        assert client.answer().body == b"data: {}\n\ndata: [DONE]\n\n"
        assert gateway.wait(TIMEOUT_S) == 0
    assert not list((tmp_path / "data" / "run").iterdir())


def test_a_worker_that_dies_is_started_again_and_no_spool_folder_is_shared(tmp_path: Path) -> None:
    port = free_port()
    with (
        ScriptedUpstream(answering(ANSWER)) as upstream,
        started(command(tmp_path, upstream.port, port, "--workers", "2"), port) as gateway,
    ):
        spool = tmp_path / "data" / "spool"
        wait_until(lambda: spool.exists() and len(list(spool.glob("[!.]*"))) == 2)
        victim = psutil.Process(gateway.pid).children()[0]
        victim.kill()
        wait_until(lambda: len(list(spool.glob("[!.]*"))) == 3)
        wait_until(lambda: answers(port))
        assert len(psutil.Process(gateway.pid).children()) == 2
        with RawClient(port) as client:
            assert client.chat().status == 200


def test_four_processes_hold_a_keys_limit_together(tmp_path: Path) -> None:
    port, limit = free_port(), 60
    with ScriptedUpstream(answering(ANSWER)) as upstream:
        line = command(tmp_path, upstream.port, port, "--workers", "4")
        config = tmp_path / "stillhouse.toml"
        config.write_text(config.read_text().replace("[gateway]", '[gateway]\nkeys = "required"'))
        store = open_store(f"sqlite:///{tmp_path / 'data' / 'stillhouse.db'}")
        upgrade(store)
        limits = KeyLimits(requests_per_minute=limit)
        token, _ = create(store, tmp_path / "data", "app", [], None, time.time, limits)
        store.close()
        with started(line, port), ThreadPoolExecutor(8) as pool:
            spool = tmp_path / "data" / "spool"
            wait_until(lambda: len(list(spool.glob("[!.]*"))) == 4)
            statuses = Counter(pool.map(lambda _: status_of(port, token), range(4 * limit)))
    assert set(statuses) == {200, 429}
    assert limit <= statuses[200] <= 1.1 * limit


def status_of(port: int, token: str) -> int:
    """Of one request on a connection of its own, so that any of the processes may take it."""
    with RawClient(port) as client:
        return client.chat(extra=b"x-stillhouse-key: %b\r\n" % token.encode()).status


def test_workers_do_not_outlive_their_supervisor(tmp_path: Path) -> None:
    port = free_port()
    with (
        ScriptedUpstream(answering(ANSWER)) as upstream,
        started(command(tmp_path, upstream.port, port, "--workers", "2"), port) as gateway,
    ):
        workers = psutil.Process(gateway.pid).children()
        assert len(workers) == 2
        os.kill(gateway.pid, signal.SIGKILL)
        gone, alive = psutil.wait_procs(workers, timeout=TIMEOUT_S)
        for one in alive:
            one.kill()
        assert (len(gone), alive) == (2, [])
