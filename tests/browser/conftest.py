"""One running demo and one browser for all tests in here. Needs the extra `[browser]` and Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from demo_server import PATIENCE, Demo, running
from playwright.sync_api import Browser, Page, expect, sync_playwright

# Nothing that a browser asks of its maker on its own may be taken for the page's doing.
QUIET = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
expect.set_options(timeout=1000 * PATIENCE)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running(tmp_path_factory.mktemp("demo")) as started:
        yield started


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert path, "no chromium: install Debian's, or name one in CHROMIUM"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    """The page, opened, on a desk."""
    with browser.new_context(viewport={"width": 1100, "height": 900}) as context:
        context.set_default_timeout(1000 * PATIENCE)
        opened = context.new_page()
        opened.goto(demo.url)
        opened.wait_for_selector(".dk-pad canvas")
        yield opened
