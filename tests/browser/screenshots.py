"""`python -m tests.browser.screenshots`: pictures of every page into docs/console: light, dark, narrow, empty."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser

from tests.browser.console_process import ADDRESSES, ROOT, Console, browser, console, settle

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
        with console(Path(full), filled=True) as found:
            pages = {name: at for name, at in {**ADDRESSES, **found.deep()}.items() if not names or name in names}
            for name, address in pages.items():
                shoot(window, found, address, FOLDER / f"{name}-light.png", LIGHT, WIDE)
                shoot(window, found, address, FOLDER / f"{name}-dark.png", DARK, WIDE)
                shoot(window, found, address, FOLDER / f"{name}-phone.png", LIGHT, PHONE)
        with console(Path(empty), filled=False) as found:
            for name, address in ADDRESSES.items():
                if not names or name in names:
                    shoot(window, found, address, FOLDER / f"{name}-empty.png", LIGHT, WIDE)


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
