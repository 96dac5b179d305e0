"""Debian's Chromium, driven by Playwright; where there is none the tests skip and say so."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

expect.set_options(timeout=30_000)  # a busy machine is no failure

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--process-per-site",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the tests of one file; Playwright's loop runs only meanwhile."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("Chromium is absent: Debian's package is called chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe() -> Callable[[Page], list[str]]:
    """What axe-core finds in a page; it is no part of this repository."""
    place = os.environ.get("HOWDEEP_AXE")
    if place is None:
        pytest.skip("HOWDEEP_AXE does not name axe.min.js: CONTRIBUTING.md says how")
    script = Path(place).read_text()

    def found(page: Page) -> list[str]:
        page.evaluate(script)
        told = page.evaluate("axe.run(document, { rules: { 'target-size': { enabled: true } } })")
        return [f"{one['id']}: {node['html'][:200]}" for one in told["violations"] for node in one["nodes"]]

    return found
