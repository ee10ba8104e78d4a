"""The built site: every link and image exists, and in a real browser search and language switch work, on files, too."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from demo_server import PATIENCE, ROOT
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.skipif(find_spec("zensical") is None, reason="Zensical needs Python 3.11")
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    subprocess.run([sys.executable, ROOT / "tools/build_site.py", folder], check=True)
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(params=["file", "http"])
def address(request: pytest.FixtureRequest, site: Path) -> Iterator[str]:
    """The site as files, and served."""
    if request.param == "file":
        yield site.as_uri()
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(params=list(WIDTHS))
def window(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Page]:
    """A window in which nothing is asked of another host."""
    width, height = WIDTHS[request.param]
    with browser.new_context(viewport={"width": width, "height": height}) as context:
        context.set_default_timeout(1000 * PATIENCE)
        page = context.new_page()
        foreign: list[str] = []
        page.on("request", lambda asked: None if asked.url.startswith(address) else foreign.append(asked.url))
        yield page
        assert not [url for url in foreign if not url.startswith(("data:", "blob:"))]


class Links(HTMLParser):
    """The links, images and ids of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.targets.append(value)
            elif name == "id" and value:
                self.ids.add(value)


def read_links(path: Path) -> Links:
    links = Links()
    links.feed(path.read_text())
    return links


def test_every_link_and_image_exists(site: Path) -> None:
    pages = {path.resolve(): read_links(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 100
    wrong = []
    for path, links in pages.items():
        for link in links.targets:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in pages[target].ids):
                wrong.append(f"{path.relative_to(site.resolve())}: {link}")
    assert not wrong, "\n".join(wrong[:20])


def test_search_finds(window: Page, address: str) -> None:
    window.goto(f"{address}/index.html")
    window.locator(".md-search__button, label[for=__search].md-header__button").locator("visible=true").last.click()
    window.keyboard.type("receptive field")
    found = window.locator("a", has_text="mnist-cnn: convolution")
    expect(found.locator("visible=true").last).to_contain_text("receptive field")
    found.locator("visible=true").last.click()
    expect(window.locator("h1")).to_contain_text("mnist-cnn")
    assert urlsplit(window.url).path.endswith("tasks/mnist-cnn.html")


def test_the_language_can_be_switched(window: Page, address: str) -> None:
    window.goto(f"{address}/index.html")
    for name, language, heading in (("Русский", "ru", "Быстрый старт"), ("English", "en", "Quick start")):
        window.locator(".md-select").hover()
        window.locator(".md-select__link", has_text=name).click()
        expect(window.locator("html")).to_have_attribute("lang", language)
        expect(window.locator("h2").first).to_contain_text(heading)


@pytest.mark.parametrize("name", ["index", "ru/index", "tasks/index", "tasks/pets-unet", "docstrings", "scoreboard"])
def test_pages_fit_and_images_load(name: str, window: Page, address: str) -> None:
    window.goto(f"{address}/{name}.html")
    assert window.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not window.evaluate("[...document.images].filter((image) => !image.naturalWidth).map((image) => image.src)")


def test_a_source_file_is_a_page(window: Page, address: str) -> None:
    window.goto(f"{address}/tasks/mnist-cnn.html")
    window.get_by_role("link", name="the network", exact=True).click()
    expect(window.locator("h1")).to_contain_text("src/decathlon/models/cnn.py")
    expect(window.locator("pre code")).to_contain_text("nn.MaxPool2d(2)")
