"""Accessibility by axe: what Streamlit itself brings is frozen in axe_baseline.json; nothing of ours may be added.

`python -m tests.browser.test_axe` writes the baseline anew, after Streamlit was updated.
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, Page

from tests.browser.console_process import ADDRESSES, CHROMIUM, Console, browser, console, settle

pytestmark = [pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium"), pytest.mark.timeout(900)]

BASELINE = Path(__file__).with_name("axe_baseline.json")
SCHEMES = ("light", "dark")
DRAWN_MS = 800


def findings(page: Page) -> set[str]:
    """ "rule: part of the page" of every violation; parts are told by Streamlit's own test ids."""
    found = Axe().run(page).response["violations"]
    return {f"{one['id']}: {_part(page, node['target'][0])}" for one in found for node in one["nodes"]}


def _part(page: Page, target: object) -> str:
    selector = target if isinstance(target, str) else str(target)
    script = "(e) => { const near = e.closest('[data-testid]'); return near ? near.dataset.testid : e.tagName }"
    try:
        return str(page.locator(selector).first.evaluate(script, timeout=2000))
    except Error:  # a part that refreshes by itself was drawn anew meanwhile
        return "gone"


def seen(found: Console) -> set[str]:
    every: set[str] = set()
    with browser() as window:
        for scheme in SCHEMES:
            page = window.new_context(color_scheme=scheme).new_page()  # type: ignore[arg-type]
            for address in {**ADDRESSES, **found.deep()}.values():
                page.goto(found.url + address)
                settle(page)
                page.wait_for_timeout(DRAWN_MS)
                every |= findings(page)
    return every - {one for one in every if one.endswith(": gone")}


def test_nothing_of_ours(tmp_path: Path) -> None:
    with console(tmp_path, filled=True) as found:
        new = seen(found) - set(json.loads(BASELINE.read_text(encoding="utf-8")))
    assert new == set()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, console(Path(folder), filled=True) as over:
        BASELINE.write_text(json.dumps(sorted(seen(over)), indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(BASELINE.read_text(encoding="utf-8"))
