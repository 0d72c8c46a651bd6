"""A browser over a real console: every page is drawn, nothing of ours fails in it, and nothing captured acts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request

from capture.db import open_store
from capture.reviews import latest
from tests.browser.console_process import ADDRESSES, CHROMIUM, Console, browser, console, settle
from tests.factories.store import add_exchange

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium"),
    pytest.mark.timeout(600),
]


PROBE = "/_stcore/"
"""Streamlit looks for its own server under every part of an address; those that are not it answer 404."""


class Watched:
    """A page with what it logged, and what it asked of other hosts than the console's."""

    def __init__(self, window: Browser, found: Console, **context: object) -> None:
        self.page: Page = window.new_context(**context).new_page()  # type: ignore[arg-type]
        self.console = found
        self.failures: list[str] = []
        self.strangers: list[str] = []
        self.page.on("console", self._logged)
        self.page.on("pageerror", lambda error: self.failures.append(str(error)))
        self.page.on("request", self._asked)

    def _logged(self, message: ConsoleMessage) -> None:
        address = str(message.location.get("url", ""))
        if message.type == "error" and PROBE not in address:
            self.failures.append(f"{message.text} {address}")

    def _asked(self, request: Request) -> None:
        inside = (self.console.url, self.console.url.replace("http", "ws"), "data:", "blob:")
        if not request.url.startswith(inside):
            self.strangers.append(request.url)

    def visit(self, address: str) -> Page:
        self.page.goto(self.console.url + address)
        settle(self.page)
        return self.page

    def sound(self) -> None:
        assert self.page.locator("[data-testid='stException']").count() == 0
        assert self.failures == []
        assert self.strangers == []


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("full")


@pytest.fixture(scope="module")
def full(folder: Path) -> Iterator[Console]:
    with console(folder, filled=True) as found:
        yield found


def test_every_page_of_a_filled_console(window: Browser, full: Console) -> None:
    watched = Watched(window, full)
    for address in {**ADDRESSES, **full.deep()}.values():
        page = watched.visit(address)
        assert page.locator("h1").count() == 1, address
        assert page.locator("[data-testid='stAlertContentError']").count() == 0, address
        watched.sound()


def test_no_page_is_wider_than_a_phone(window: Browser, full: Console) -> None:
    watched = Watched(window, full, viewport={"width": 390, "height": 844})
    for address in {**ADDRESSES, **full.deep()}.values():
        page = watched.visit(address)
        excess = page.evaluate(
            "() => { const main = document.querySelector('[data-testid=\"stMain\"]');"
            " return main.scrollWidth - main.clientWidth }"
        )
        assert excess <= 0, address


def test_captured_markup_does_not_act(window: Browser, full: Console) -> None:
    watched = Watched(window, full)
    page = watched.visit(full.deep()["hostile"])
    assert page.get_by_text('<script>alert("captured")</script>').count() >= 2
    main = page.locator("[data-testid='stMain']")
    assert main.locator("a[href*='127.0.0.1:9']").count() == 0
    assert main.locator("img[src*='127.0.0.1:9']").count() == 0
    watched.sound()


def test_review_by_keyboard(window: Browser, full: Console, folder: Path) -> None:
    assert full.world is not None
    exchange = full.world.exchange
    page = Watched(window, full).visit(full.deep()["exchange"])
    page.keyboard.press("e")
    box = page.get_by_role("dialog").get_by_label("Answer")
    box.fill('{"category": "refund"}')
    page.get_by_role("dialog").get_by_role("button", name="Save the correction").click()
    page.wait_for_function(f"!location.search.includes('{exchange}')")
    settle(page)
    following = page.url.rpartition("=")[2]
    page.keyboard.press("a")
    page.wait_for_function(f"!location.search.includes('{following}')")
    store = open_store(f"sqlite:///{folder / 'stillhouse.db'}")
    with store.read() as connection:
        found = latest(connection, [exchange, following])
    store.close()
    assert (found[exchange].verdict, found[exchange].output) == ("correct", '{"category": "refund"}')
    assert found[following].verdict == "accept"


def test_next_and_reject_by_keyboard(window: Browser, full: Console, folder: Path) -> None:
    page = Watched(window, full).visit(full.deep()["exchange"])
    seen = []
    for key in ("n", "x"):
        seen.append(page.url.rpartition("=")[2])
        page.keyboard.press(key)
        page.wait_for_function(f"!location.search.includes('{seen[-1]}')")
        settle(page)
    store = open_store(f"sqlite:///{folder / 'stillhouse.db'}")
    with store.read() as connection:
        found = latest(connection, seen)
    store.close()
    assert found[seen[1]].verdict == "reject"
    assert seen[0] not in found or found[seen[0]].verdict != "reject"


def test_new_exchanges_appear_by_themselves(window: Browser, full: Console, folder: Path) -> None:
    """Live, without a reload: what the page remembers of itself is still there."""
    page = Watched(window, full).visit("/traffic?label=tail")
    page.get_by_text("Nothing matches").wait_for()
    page.get_by_text("Live", exact=True).click()
    settle(page)
    page.evaluate("window.stillTheSame = true")
    store = open_store(f"sqlite:///{folder / 'stillhouse.db'}")
    for number in (1, 2):
        add_exchange(store, label="tail", text=f"seen live, number {number}")
        page.get_by_text(f"{number} match · select a row").wait_for(timeout=15_000)
        page.locator("[role='gridcell']", has_text=f"seen live, number {number}").first.wait_for(state="attached")
    store.close()
    assert page.evaluate("window.stillTheSame")


def test_links_on_a_page_open_what_they_name(window: Browser, full: Console) -> None:
    page = Watched(window, full).visit("/rollouts")
    page.get_by_role("link", name="Open").first.click()
    page.wait_for_function("location.search.startsWith('?rollout=')")
    page.get_by_role("heading", name="Evidence").wait_for()
    page.get_by_role("link", name="All rollouts").click()
    page.wait_for_function("location.search === ''")
    page.get_by_text("Start a rollout").wait_for()


def test_an_empty_console_says_how_to_connect(window: Browser, tmp_path: Path) -> None:
    with console(tmp_path, filled=False) as found:
        watched = Watched(window, found)
        page = watched.visit("/")
        assert page.get_by_text("Connect an app").count() == 1
        for address in ADDRESSES.values():
            watched.visit(address)
            watched.sound()
