"""Accessibility by axe: what a bare Streamlit brings is frozen in axe_baseline.json; nothing of ours may be added.

`python -m tests.browser.test_axe` writes the baseline anew, after Streamlit was updated: from tests/browser/
bare_streamlit.py, which has the same elements and nothing of the console's.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, Page

from tests.browser.console_process import ADDRESSES, CHROMIUM, browser, console, settle, started
from tests.fakes.processes import free_port

pytestmark = [pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium"), pytest.mark.timeout(900)]

BASELINE = Path(__file__).with_name("axe_baseline.json")
BARE = Path(__file__).with_name("bare_streamlit.py")
SCHEMES = ("light", "dark")
DRAWN_MS = 800
STALE_NOWHERE = "!document.querySelector('[data-stale=\"true\"]')"
FORMS = ("build-dataset", "misses", "fine-tune", "evaluation", "register", "make-task", "start-rollout", "traffic-more")


def findings(page: Page) -> set[str]:
    """ "rule: part of the page" of every violation; parts are told by Streamlit's own test ids."""
    found = Axe().run(page).response["violations"]
    return {f"{one['id']}: {_part(page, node['target'][0])}" for one in found for node in one["nodes"]}


def _part(page: Page, target: object) -> str:
    selector = target if isinstance(target, str) else str(target)
    script = (
        "(e) => { const near = e.closest('[data-testid]:not([data-testid=stMarkdownContainer])');"
        " return near ? near.dataset.testid : e.tagName }"
    )
    try:
        return str(page.locator(selector).first.evaluate(script, timeout=2000))
    except Error:  # a part that refreshes by itself was drawn anew meanwhile
        return "gone"


def seen(addresses: Iterable[str]) -> set[str]:
    """On every page, light and dark, its forms unfolded."""
    every: set[str] = set()
    pages = list(addresses)
    with browser() as window:
        for scheme in SCHEMES:
            page = window.new_context(color_scheme=scheme).new_page()  # type: ignore[arg-type]
            for address in pages:
                page.goto(address)
                settle(page)
                _unfold(page)
                every |= _lasting(page)
    return every - {one for one in every if one.endswith(": gone")}


def _lasting(page: Page) -> set[str]:
    """What two looks find while nothing is being drawn anew: what is, is pale meanwhile."""
    first = _calm(page)
    return first & _calm(page) if first else first


def _calm(page: Page) -> set[str]:
    page.wait_for_function(STALE_NOWHERE)
    page.wait_for_timeout(DRAWN_MS)
    return findings(page)


def _unfold(page: Page) -> None:
    for key in FORMS:
        box = page.locator(f".st-key-{key} summary")
        if box.count() and not page.locator(f".st-key-{key} details[open]").count():
            box.first.click()
            settle(page)


@contextmanager
def bare(folder: Path) -> Iterator[str]:
    """Where a bare Streamlit answers."""
    port = free_port()
    options = ("--server.headless=true", "--server.address=127.0.0.1", "--browser.gatherUsageStats=false")
    line = [sys.executable, "-m", "streamlit", "run", str(BARE), f"--server.port={port}", *options]
    with (folder / "bare.log").open("wb") as log:
        process = subprocess.Popen(line, cwd=folder, stdout=log, stderr=log)
        try:
            started(process, port, folder / "bare.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def streamlits_own(folder: Path) -> set[str]:
    with bare(folder) as url:
        return seen([url, f"{url}/two"])


def test_the_baseline_is_streamlits_own(tmp_path: Path) -> None:
    assert set(json.loads(BASELINE.read_text(encoding="utf-8"))) <= streamlits_own(tmp_path)


def test_nothing_of_ours(tmp_path: Path) -> None:
    with console(tmp_path, filled=True) as found:
        new = seen(found.url + at for at in {**ADDRESSES, **found.deep()}.values())
    assert new - set(json.loads(BASELINE.read_text(encoding="utf-8"))) == set()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        BASELINE.write_text(json.dumps(sorted(streamlits_own(Path(made))), indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(BASELINE.read_text(encoding="utf-8"))
