"""One running demo and one browser for all tests in here. Needs the extra `[browser]` and Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from demo_server import PATIENCE, Demo, running
from playwright.sync_api import Browser, Page, expect, sync_playwright

# The browser makes no requests of its own, which a test would take for the page's.
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
expect.set_options(timeout=1000 * PATIENCE)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running(tmp_path_factory.mktemp("demo")) as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert path, "no chromium: install Debian's, or set CHROMIUM to its path"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    """The page, open in a window of desktop width."""
    with browser.new_context(viewport={"width": 1100, "height": 900}) as context:
        context.set_default_timeout(1000 * PATIENCE)
        tab = context.new_page()
        tab.goto(demo.url)
        tab.wait_for_selector(".dk-pad canvas")
        yield tab
