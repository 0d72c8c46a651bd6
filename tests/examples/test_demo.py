"""The demo before its first step: what it refuses, what it leaves alone, and a teacher that is no stand-in."""

import io
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import uvicorn
from fastapi import Request, Response

from capture import settings as configuration
from capture.db import open_store
from capture.migrations import upgrade
from console import verbs
from console.access import Actor, Desk, Role
from examples.demo.__main__ import main
from examples.demo.folder import CONFIG, DONE, FIRST_LINE, SPOILT, check_folder, goes_on, make_room
from examples.demo.machine import Machine
from examples.demo.screen import Screen
from examples.demo.story import Story
from examples.demo.world import Ports, Teacher
from students.rollouts import list_verdicts, load_rollout
from tests.acceptance import small_world
from tests.acceptance.small_world import MODEL, SMALL
from tests.factories.full_store import fill
from tests.fakes.processes import family, free_port, wait_until


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """What a demo left that came to its end."""
    data = tmp_path / "data"
    (data / "models" / "tiny").mkdir(parents=True)
    (data / "logs").mkdir()
    for name in (DONE, "stillhouse.db"):
        (data / name).touch()
    (data / CONFIG).write_text(f"{FIRST_LINE}\n")
    return data


def options(data: Path) -> list[str]:
    ports = {name: free_port() for name in vars(Ports())}
    return ["--data", str(data), *(word for name, port in ports.items() for word in (f"--{name}-port", str(port)))]


def ports() -> Ports:
    return Ports(*(free_port() for _ in range(5)))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_taken_port_is_said_before_anything_is_deleted(ended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = names(ended)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main([*options(ended), "--gateway-port", port], SMALL) == 1
    assert f"127.0.0.1:{port} is taken" in capsys.readouterr().out
    assert names(ended) == before


@pytest.mark.parametrize(
    ("url", "key", "said"),
    [
        ("http://127.0.0.1:9/v1", "", "set the environment variable REAL_KEY to the teacher's key"),
        ("api.example.com/v1", "k", "the teacher's URL 'api.example.com/v1' must look like https://host/v1"),
    ],
)
def test_a_teacher_without_key_or_address_is_said_before_anything_is_deleted(
    url: str, key: str, said: str, ended: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(ended)
    monkeypatch.setenv("REAL_KEY", key)
    assert main([*options(ended), "--teacher-url", url, "--teacher-key-env", "REAL_KEY"], SMALL) == 2
    assert said in capsys.readouterr().out
    assert names(ended) == before


def test_an_unfinished_demo_does_not_go_on_with_another_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Machine(SMALL, ports(), tmp_path).prepare()
    monkeypatch.setenv("REAL_KEY", "k")
    real = ["--teacher-url", "http://127.0.0.1:9/v1", "--teacher-model", "large", "--teacher-key-env", "REAL_KEY"]
    assert main([*options(tmp_path), *real], SMALL) == 2
    assert f"an unfinished demo whose teacher is {MODEL}" in capsys.readouterr().out
    assert names(tmp_path) == {"stillhouse.toml"}


@pytest.mark.parametrize("mark", [DONE, SPOILT])
def test_an_ended_or_spoilt_demo_begins_anew_with_its_models(mark: str, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "students").mkdir()
    (tmp_path / "stillhouse.db").touch()
    (tmp_path / CONFIG).touch()
    assert goes_on(tmp_path)
    (tmp_path / mark).touch()
    assert not goes_on(tmp_path)
    make_room(tmp_path)
    assert names(tmp_path) == {"models"}
    assert goes_on(tmp_path)


def test_a_clearing_that_breaks_off_can_be_done_again(ended: Path) -> None:
    """What cannot be deleted is in the way; the folder is still known as an ended demo's."""
    (ended / "link").symlink_to(ended / "models")
    with pytest.raises(OSError, match="symbolic link"):
        make_room(ended)
    assert names(ended) >= {DONE, CONFIG}
    check_folder(ended)
    (ended / "link").unlink()
    make_room(ended)
    assert names(ended) == {"models"}


@pytest.mark.parametrize(
    "files",
    [
        {"done/thesis.txt": "years of it"},
        {"done": "", "thesis.txt": "years of it"},
        {"stillhouse.toml": "[tasks.mine]\n"},
        {"stillhouse.toml": "[tasks.triage\n"},
        {"stillhouse.toml": "[tasks.triage.teacher]\nmodel = 'small-teacher'\n", "spoilt": ""},
    ],
)
def test_a_folder_with_somebodys_work_is_refused_and_left_alone(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert main(options(tmp_path), SMALL) == 2
    (line,) = capsys.readouterr().out.strip().splitlines()
    assert f"{tmp_path} is neither empty nor a demo's: name another folder" in line
    left = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == files


def test_a_folder_that_is_missing_empty_or_has_models_alone_is_taken(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path):
        check_folder(folder)
    (tmp_path / "models").mkdir()
    check_folder(tmp_path)
    Machine(SMALL, ports(), tmp_path).prepare()
    check_folder(tmp_path)


@pytest.mark.parametrize("rest", ["[tasks.mine]", "[tasks.triage", "tasks = 1"])
def test_settings_that_somebody_changed_are_said(rest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / CONFIG).write_text(f"{FIRST_LINE}\n{rest}\n")
    (tmp_path / DONE).mkdir()  # no mark: those are files
    assert main(options(tmp_path), SMALL) == 2
    (line,) = capsys.readouterr().out.strip().splitlines()
    assert f"{tmp_path / CONFIG} is not as the demo wrote it: delete {tmp_path}" in line
    assert names(tmp_path) == {CONFIG, DONE}


def test_the_demo_keeps_to_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever database, settings and telemetry the shell names."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://app@127.0.0.1/app")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setenv("STILLHOUSE_GATEWAY__PORT", "1")
    machine = Machine(SMALL, ports(), tmp_path)
    machine.prepare()
    settings = configuration.load(machine.config, machine.environ, data=tmp_path)
    assert settings.store_url == f"sqlite:///{tmp_path}/stillhouse.db"
    assert (settings.gateway.port, settings.gateway.otlp_endpoint) == (machine.ports.gateway, "")


def test_a_rollout_that_somebody_paused_goes_on(tmp_path: Path) -> None:
    """In the console, say: the demo then ended, and the next start resumes it."""
    store = open_store(f"sqlite:///{tmp_path}/stillhouse.db")
    upgrade(store)
    made = fill(store, tmp_path)
    desk = Desk(store, configuration.load(tmp_path / CONFIG, {}, data=tmp_path), Actor("tester", Role.OPERATOR))
    verbs.steer(desk, "pause", made.rollout, "what does this do?")
    screen = Screen(io.StringIO())
    story = Story(SMALL, Machine(SMALL, ports(), tmp_path), desk, screen)
    story.begin_rollout()
    assert (story.rollout_id, load_rollout(store, made.rollout).state) == (made.rollout, "running")
    assert "the rollout was paused: it is resumed" in screen.out.getvalue()
    story.begin_rollout()
    assert [verdict.kind for verdict in list_verdicts(store, made.rollout)][-2:] == ["pause", "resume"]
    store.close()


def test_stopped_it_takes_everything_along(tmp_path: Path) -> None:
    line = (sys.executable, "-m", "examples.demo", *options(tmp_path / "data"))
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as demo:
        wait_until(lambda: any("up" in child.cmdline() for child in family(demo.pid)))
        wait_until(lambda: len(family(demo.pid)) >= 6)
        started = family(demo.pid)[:-1]
        demo.send_signal(signal.SIGTERM)
        out, _ = demo.communicate(timeout=90)
    assert demo.returncode == 1
    assert "Stopped. Start it again and it goes on from here" in out
    assert not psutil.wait_procs(started, timeout=5)[1]


@contextmanager
def real_teacher(keys: set[str | None]) -> Iterator[str]:
    """A server with a key of its own, which is not the demo's to start; yields its base URL."""
    app = small_world.create_app()

    @app.middleware("http")
    async def remember(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        keys.add(request.headers.get("authorization"))
        return await go_on(request)

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    server.should_exit = True
    thread.join()


def test_a_real_teacher_is_asked_with_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the shell names a proxy, which does not lead to this machine's own processes."""
    monkeypatch.setenv("REAL_KEY", "real-key")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    keys: set[str | None] = set()
    with real_teacher(keys) as url:
        world = replace(SMALL, collected=12, teacher=lambda _: Teacher(MODEL, url, key_env="REAL_KEY"))
        machine = Machine(world, ports(), tmp_path)
        machine.check()
        machine.prepare()
        settings = configuration.load(machine.config, machine.environ, data=tmp_path)
        assert MODEL not in settings.prices
        with machine.running():
            store = open_store(settings.store_url)
            upgrade(store)
            story = Story(world, machine, Desk(store, settings, Actor("tester", Role.OPERATOR)), Screen(io.StringIO()))
            story.collect()
            store.close()
    assert keys == {"Bearer real-key"}
    assert [reply.error for reply in story.replies] == [None] * 12
    assert {reply.arm for reply in story.replies} == {"teacher"}
