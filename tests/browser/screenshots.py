"""`python -m tests.browser.screenshots`: pictures into docs/console: pages light, dark, narrow, empty, and forms."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.browser.alive import answering, beating
from tests.browser.console_process import ADDRESSES, ROOT, Console, browser, console, settle
from tests.browser.test_login import behind
from tests.fakes.oidc_provider import provider

FOLDER = ROOT / "docs" / "console"
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
COLOURS = 128
LIGHT, DARK = "light", "dark"
DRAWN_MS = 1500
"""Charts and tables are drawn on canvases, of whose end the page says nothing."""


def main(names: Sequence[str]) -> None:
    """Only pages in `names`, if there are any."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with browser() as window, tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as full:
        with up(Path(full)) as found:
            pages = {name: at for name, at in {**ADDRESSES, **found.deep()}.items() if not names or name in names}
            for name, address in pages.items():
                shoot(window, found, address, FOLDER / f"{name}-light.png", LIGHT, WIDE)
                shoot(window, found, address, FOLDER / f"{name}-dark.png", DARK, WIDE)
                shoot(window, found, address, FOLDER / f"{name}-phone.png", LIGHT, PHONE)
            for name, (address, key, prepare) in parts(found).items():
                if not names or name in names:
                    shoot_part(window, found.url + address, FOLDER / f"{name}.png", key, prepare)
        with console(Path(empty), filled=False) as found:
            for name, address in ADDRESSES.items():
                if not names or name in names:
                    shoot(window, found, address, FOLDER / f"{name}-empty.png", LIGHT, WIDE)
        if not names or "door" in names:
            with tempfile.TemporaryDirectory() as closed, provider() as someone:
                config, variables = behind(someone)
                with console(Path(closed), filled=False, config=config, **variables) as found:
                    shoot(window, found, "/", FOLDER / "door.png", LIGHT, WIDE)


@contextmanager
def up(folder: Path) -> Iterator[Console]:
    """A console over a filled store whose processes are all there."""
    with answering() as port:
        ports = {"STILLHOUSE_GATEWAY__PORT": str(port), "STILLHOUSE_GATEWAY__METRICS_PORT": str(port)}
        with console(folder, filled=True, **ports) as found, beating(folder):
            yield found


def parts(found: Console) -> dict[str, tuple[str, str, Callable[[Page], None]]]:
    """Forms and parts that are folded, or made on demand: address, the part's key, and what unfolds it."""
    assert found.world is not None
    rule = {"match": {"metadata": {"app": "chat"}}, "teacher": {"upstream": "stand-in", "model": "gpt-4.1-mini"}}
    task = urlencode({"rule": json.dumps(rule, indent=2), "name": "translate"})
    return {
        "start-rollout": (f"/rollouts?student={found.world.student}", "start-rollout", lambda _: None),
        "build-dataset": ("/datasets?task=triage", "build-dataset", _build),
        "make-task": (f"/tasks?{task}", "make-task", lambda _: None),
        "ledger": (f"/rollouts?rollout={found.world.rollout}", "account", _add_up),
    }


def _build(page: Page) -> None:
    page.locator(".st-key-build-dataset summary").click()
    page.get_by_text("exchanges pass").wait_for()


def _add_up(page: Page) -> None:
    page.get_by_text("Add it up").click()
    page.get_by_text("Would have cost").wait_for()


def shoot_part(window: Browser, url: str, file: Path, key: str, prepare: Callable[[Page], None]) -> None:
    context = window.new_context(viewport={"width": WIDE["width"], "height": 2400}, timezone_id="Europe/Berlin")
    page = context.new_page()
    page.goto(url)
    settle(page)
    prepare(page)
    settle(page)
    page.wait_for_timeout(DRAWN_MS)
    page.locator(f".st-key-{key}").screenshot(path=file)
    context.close()
    _shrink(file)


def shoot(window: Browser, found: Console, address: str, file: Path, scheme: str, size: dict[str, int]) -> None:
    """One picture of the whole page, however long."""
    context = window.new_context(
        viewport=size,  # type: ignore[arg-type]
        color_scheme=scheme,  # type: ignore[arg-type]
        timezone_id="Europe/Berlin",
    )
    page = context.new_page()
    page.goto(found.url + address)
    settle(page)
    page.wait_for_timeout(DRAWN_MS)
    height = page.evaluate("document.querySelector('[data-testid=\"stMain\"]').scrollHeight")
    page.set_viewport_size({"width": size["width"], "height": max(size["height"], min(int(height) + 20, 6000))})
    page.wait_for_timeout(DRAWN_MS)
    page.wait_for_function("!document.querySelector('[data-stale=\"true\"]')")
    page.screenshot(path=file)
    context.close()
    _shrink(file)


def _shrink(file: Path) -> None:
    """Flat surfaces need no more than COLOURS: a third of the size in the repository."""
    with Image.open(file) as picture:
        flat = picture.convert("RGB").quantize(COLOURS)
    flat.save(file, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
