"""The whole story in a browser, against a real gateway, worker, student server and store: from a first request to a
student in traffic, and back to the teacher when it turns bad. The model is the tiny one; nothing is simulated."""

import asyncio
import itertools
import json
import re
import threading
import tomllib
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from playwright.sync_api import Browser, Page, expect

from capture import settings as configuration
from capture.db import Store, open_store
from capture.traffic import TrafficFilter, count_exchanges, ids_of
from examples.demo.machine import Machine
from examples.demo.spoil import kill_server, spoil
from examples.demo.world import Ports
from examples.ticket_app import TicketApp
from students import bases, registry
from tests.acceptance.small_world import SMALL
from tests.browser.console_process import CHROMIUM, browser, run_anew, settle
from tests.fakes.processes import free_port, wait_until

pytestmark = [pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium"), pytest.mark.timeout(600)]

TASK = "triage"
FIRST, COLLECTED = 40, 320
EPOCHS, BASE_ROWS = 6, 8
SOON_MS, LATER_MS = 60_000, 240_000


@dataclass
class Install:
    """A fresh install without a task, the app that asks through it, and a reader's browser over it."""

    machine: Machine
    settings: configuration.Settings
    task: str
    page: Page
    sent: int = 0

    def send(self, count: int) -> None:
        """Asks `count` new tickets, and waits until the worker has stored them."""
        app, tickets = self.app(), SMALL.stream(SMALL.seed, count, self.sent)
        sending = _thread(app.send(tickets, at_once=SMALL.at_once))
        sending.join()
        self.sent += count
        assert [reply.error for reply in app.replies if reply.error] == []
        store = open_store(self.settings.store_url)
        wait_until(lambda: count_exchanges(store, TrafficFilter()) == self.sent, within_s=60)
        store.close()

    @contextmanager
    def traffic(self) -> Iterator[TicketApp]:
        """Tickets that nobody has seen yet, for as long as the block lasts."""
        app, stop = self.app(), threading.Event()
        fresh = itertools.takewhile(lambda _: not stop.is_set(), SMALL.stream(SMALL.seed, 100_000, self.sent))
        thread = _thread(app.send(fresh, at_once=SMALL.at_once, per_s=SMALL.per_s))
        try:
            yield app
        finally:
            stop.set()
            thread.join(60)
            self.sent += len(app.replies)
        assert [reply.error for reply in app.replies if reply.error] == []

    def task_is_taken_up(self) -> bool:
        """The gateway has it: from then on it is a model's name as well."""
        with OpenAI(base_url=f"{self.machine.gateway}/v1", api_key=self.machine.key) as client:
            return TASK in {model.id for model in client.models.list()}

    def app(self) -> TicketApp:
        machine = self.machine
        key, format_ = machine.key, SMALL.response_format
        return TicketApp(machine.gateway, machine.teacher.model, key, SMALL.messages, format_)

    def visit(self, address: str) -> None:
        self.page.goto(f"http://127.0.0.1:{self.machine.ports.console}{address}")
        settle(self.page)

    def unfold(self, key: str) -> None:
        self.page.locator(f".st-key-{key} summary").click()
        settle(self.page)

    def press(self, key: str, said: str) -> None:
        """Ends when the console has said that it is done: who leaves before that may have pressed in vain."""
        button = self.page.locator(f".st-key-{key} button").first
        expect(button).to_be_enabled(timeout=SOON_MS)
        button.click()
        self.page.get_by_test_id("stToast").get_by_text(said).first.wait_for()

    def follow(self, link: str) -> None:
        with run_anew(self.page):
            self.page.get_by_role("link", name=link).first.click()

    def wait_for(self, text: str, within_ms: float = SOON_MS, exact: bool = True) -> None:
        self.page.get_by_test_id("stMain").get_by_text(text, exact=exact).first.wait_for(timeout=within_ms)


def _thread(work: Coroutine[Any, Any, None]) -> threading.Thread:
    """Runs it in a thread of its own: Playwright has a loop in this one."""
    thread = threading.Thread(target=asyncio.run, args=(work,), name="traffic")
    thread.start()
    return thread


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def install(window: Browser, tmp_path: Path) -> Iterator[Install]:
    machine = Machine(SMALL, Ports(*(free_port() for _ in range(5))), tmp_path / "data")
    machine.prepare()
    whole = machine.config.read_text(encoding="utf-8")
    task = tomllib.loads(whole)["tasks"][TASK]
    task["training"]["epochs"], task["evaluation"]["base_rows"] = EPOCHS, BASE_ROWS
    head, _, rest = whole.partition(f"[tasks.{TASK}]")
    machine.config.write_text(head + rest[rest.index("[prices.") :], encoding="utf-8")
    settings = configuration.load(machine.config, machine.environ, data=machine.data)
    page = window.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(SOON_MS)
    with machine.running():
        try:
            yield Install(machine, settings, json.dumps(task), page)
        finally:
            page.screenshot(path=tmp_path / "last.png", full_page=True)


def test_from_a_first_request_to_full_traffic_and_back(install: Install) -> None:
    connect(install)
    name_the_task(install)
    review(install)
    build(install)
    train(install)
    evaluate(install)
    rollout = start_the_rollout(install)
    with install.traffic() as app:
        promote(install)
        watch_it_answer(install)
    assert "student" in {reply.arm for reply in app.replies}
    turn_bad(install, rollout)


def connect(install: Install) -> None:
    """An empty install names the address; an app that uses it is seen at once."""
    install.visit("/")
    expect(install.page.get_by_test_id("stCode").first).to_contain_text(f'base_url="{install.machine.gateway}/v1"')
    install.send(FIRST)
    install.visit("/traffic")
    install.wait_for(f"{FIRST} match", exact=False)


def name_the_task(install: Install) -> None:
    """The prompt of what came in is proposed as a task; the rule's count is told before it is saved."""
    install.visit("/tasks")
    install.follow("Make it a task")
    install.page.get_by_label("Name", exact=True).fill(TASK)
    box = install.page.get_by_label("Settings (JSON, as under [tasks.NAME])")
    box.fill(install.task)
    box.press("Control+Enter")
    install.wait_for(f"{FIRST} of the newest {FIRST}", exact=False)
    install.page.get_by_role("button", name="Save").click()
    install.wait_for("made in the console")
    wait_until(install.task_is_taken_up, within_s=60)
    install.send(COLLECTED)


def review(install: Install) -> None:
    """By keyboard: one is accepted, the next is there by itself."""
    install.visit("/")
    install.wait_for("Nothing reviewed yet", exact=False)
    install.follow("To traffic")
    install.wait_for(f"{COLLECTED} match", exact=False)
    install.visit("/traffic?exchange=" + _newest(install))
    before = install.page.url
    install.page.keyboard.press("a")
    install.page.wait_for_function("before => location.href !== before", arg=before)
    settle(install.page)


def build(install: Install) -> None:
    install.visit(f"/datasets?task={TASK}")
    install.unfold("build-dataset")
    install.wait_for("exchanges pass", exact=False)
    install.press("build", "The build is queued")
    install.wait_for("ready", LATER_MS)
    install.follow("Open")
    install.wait_for("What was left out")


def train(install: Install) -> None:
    install.follow("Train a student on it")
    install.wait_for("It runs on this machine", exact=False)
    install.press("train", "The fine-tune is queued")
    install.visit("/students")
    install.follow("Open")
    install.wait_for("succeeded", LATER_MS)
    install.page.get_by_text("Training loss").first.wait_for()


def evaluate(install: Install) -> None:
    install.visit("/students")
    install.unfold("evaluation")
    install.press("evaluate", "The evaluation is queued")
    install.visit("/students")
    install.wait_for("category: teacher", LATER_MS, exact=False)
    install.page.get_by_role("link", name="Open").last.click()
    install.wait_for("Worst answers")


def start_the_rollout(install: Install) -> str:
    install.follow("Start its rollout")
    install.press("yes-start", "The rollout has started")
    install.visit("/rollouts")
    install.follow("Open")
    install.wait_for("shadow", exact=False)
    steer(install, "pause", "until somebody has looked")
    return install.page.url.rpartition("=")[2]


def promote(install: Install) -> None:
    """Out of shadow by a person's will, as soon as the student is known to carry it; from there to full by proof."""
    install.page.get_by_text(re.compile(r"student can carry \d+")).first.wait_for()
    steer(install, "promote", "seen enough in shadow")
    install.wait_for("at full", LATER_MS)


def steer(install: Install, verb: str, reason: str) -> None:
    install.page.locator(f".st-key-act-{verb} button").first.click()
    box = install.page.locator(f".st-key-reason-{verb} input")
    box.fill(reason)
    box.press("Enter")
    install.press(f"yes-{verb}", f"{verb}: done")
    install.wait_for(reason, exact=False)


def watch_it_answer(install: Install) -> None:
    """The live tail, narrowed to the student's answers, fills by itself."""
    install.visit(f"/traffic?task={TASK}&arm=student")
    install.page.get_by_text("Live", exact=True).click()
    install.wait_for("match · select a row", LATER_MS, exact=False)


def turn_bad(install: Install, rollout: str) -> None:
    """What it had learnt is taken out of the student; the controller sees it and takes the traffic back."""
    store = open_store(install.settings.store_url)
    _spoil(install, store)
    store.close()
    install.visit(f"/rollouts?rollout={rollout}")
    with install.traffic():
        install.wait_for("rolled back", LATER_MS)
    install.wait_for("It ended", exact=False)


def _spoil(install: Install, store: Store) -> None:
    (student,) = (one for one in registry.list_students(store, TASK) if one.kind == "local")
    base = bases.pull(student.base, install.settings.models_folder)
    spoil(install.settings.data / str(student.folder), base, SMALL.spoilt_strength)
    kill_server(store, student.id)


def _newest(install: Install) -> str:
    store = open_store(install.settings.store_url)
    try:
        return ids_of(store, TrafficFilter(task=TASK), limit=1)[0]
    finally:
        store.close()
