"""A real console over a filled or an empty store, and a browser that looks at it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection, socket

from playwright.sync_api import Browser, Page, sync_playwright

from capture.db import open_store
from capture.migrations import upgrade
from capture.settings import load
from console.login import secrets_file
from console.serve import command as console_command
from tests.factories.full_store import World, fill, write_config

ROOT = Path(__file__).parents[2]
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
START_S = 60
SETTLE_MS = 60_000

ADDRESSES = {
    "home": "/",
    "traffic": "/traffic",
    "tasks": "/tasks",
    "datasets": "/datasets",
    "students": "/students",
    "rollouts": "/rollouts",
    "operations": "/operations",
}


@dataclass(frozen=True)
class Console:
    """Where a console answers; `world` None: its store is empty."""

    url: str
    world: World | None

    def deep(self) -> dict[str, str]:
        """Addresses of everything that can be opened, by name."""
        if self.world is None:
            return {}
        world = self.world
        return {
            "exchange": f"/traffic?exchange={world.exchange}",
            "hostile": f"/traffic?exchange={world.hostile}",
            "dataset": f"/datasets?dataset={world.dataset}",
            "fine-tune": f"/students?fine_tune={world.fine_tune}",
            "fine-tune-running": f"/students?fine_tune={world.running_fine_tune}",
            "student": f"/students?student={world.student}",
            "evaluation": f"/students?evaluation={world.evaluation}",
            "rollout": f"/rollouts?rollout={world.rollout}",
            "rolled-back": f"/rollouts?rollout={world.rolled_back}",
        }


def made_store(folder: Path, *, filled: bool) -> World | None:
    """A store in `folder` as processes would find it, and its configuration beside it."""
    store = open_store(f"sqlite:///{folder / 'stillhouse.db'}")
    upgrade(store)
    write_config(folder)
    try:
        return fill(store, folder) if filled else None
    finally:
        store.close()


@contextmanager
def console(
    folder: Path, *, filled: bool, config: Callable[[int], str] | None = None, **variables: str
) -> Iterator[Console]:
    """A console over a fresh store in `folder`, on a free port of this machine.

    `config`: more settings, given the port; `variables`: more environment.
    """
    world = made_store(folder, filled=filled)
    file = folder / "stillhouse.toml"
    port = _free_port()
    text = file.read_text(encoding="utf-8") if filled else ""
    file.write_text(text + (config(port) if config else ""), encoding="utf-8")
    environ = {**os.environ, "STILLHOUSE_CONSOLE__PORT": str(port), "STILLHOUSE_DATA": str(folder), **variables}
    environ |= {"STILLHOUSE_CONFIG": str(file), "PYTHONPATH": _path()}
    settings = load(file, environ)
    line = console_command(settings, secrets_file(settings, environ))
    log = (folder / "console.log").open("wb")
    process = subprocess.Popen([sys.executable, *line[1:]], env=environ, cwd=folder, stdout=log, stderr=log)
    try:
        started(process, port, folder / "console.log")
        yield Console(f"http://127.0.0.1:{port}", world)
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def _path() -> str:
    return os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)


def _free_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Waits until a process listens."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"the console did not start: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        try:
            yield found
        finally:
            found.close()


def settle(page: Page) -> None:
    """Waits until Streamlit has run the page to its end and drawn it."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=SETTLE_MS)
    page.wait_for_selector("h1, [data-testid='stAlert']", timeout=SETTLE_MS)
    page.wait_for_function("!document.querySelector('[data-testid=\"stSkeleton\"]')", timeout=SETTLE_MS)
    page.evaluate("document.fonts.ready")


@contextmanager
def run_anew(page: Page) -> Iterator[None]:
    """Around what makes Streamlit run the page: over when that run is drawn, not the one that was there before."""
    page.evaluate(
        "() => { const app = document.querySelector('[data-testid=\"stApp\"]'); window.ranAnew = false;"
        " new MutationObserver(() => { window.ranAnew ||= app.dataset.testScriptState === 'running' })"
        ".observe(app, {attributes: true, attributeFilter: ['data-test-script-state']}) }"
    )
    yield
    page.wait_for_function("window.ranAnew !== false", timeout=SETTLE_MS)
    settle(page)
