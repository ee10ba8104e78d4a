"""The built site, in both languages: every link and image exists, and in a real browser, on files, too, every page
fits and loads, search and language switch work, and the folded answers open.
"""

from __future__ import annotations

import functools
import re
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
RUSSIAN = ROOT / "docs" / "ru"
FOLDED = [
    str(path.relative_to(ROOT / "docs").with_suffix(""))
    for path in sorted((ROOT / "docs").rglob("*.md"))
    if "<details" in path.read_text()
]


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


@pytest.mark.parametrize(("start", "words"), [("index", "receptive field"), ("ru/index", "рецептивное поле")])
def test_search_finds(start: str, words: str, window: Page, address: str) -> None:
    lesson = f"{start.removesuffix('index')}tasks/mnist-cnn"
    window.goto(f"{address}/{start}.html")
    window.locator(".md-search__button, label[for=__search].md-header__button").locator("visible=true").last.click()
    query = window.get_by_role("combobox")
    expect(query).to_be_focused()  # on a busy machine the focus comes after the click, and keys before it are lost
    window.keyboard.type(words)
    expect(query).to_have_value(words)
    found = window.locator("a", has_text="mnist-cnn: ").filter(has_text=re.compile(words, re.IGNORECASE))
    found.locator("visible=true").last.click()
    expect(window.locator("h1")).to_contain_text("mnist-cnn")
    assert urlsplit(window.url).path.endswith(f"/{lesson}.html")


def switch_language(window: Page, name: str) -> None:
    window.locator(".md-select").hover()
    window.locator(".md-select__link", has_text=name).click()


def test_the_language_switch_keeps_the_page(window: Page, address: str) -> None:
    translated = [str(path.relative_to(RUSSIAN).with_suffix(".html")) for path in RUSSIAN.rglob("*.md")]
    for page in ["index.html", "tasks/index.html", *translated]:
        window.goto(f"{address}/{page}")
        switch_language(window, "Русский")
        expect(window.locator("html")).to_have_attribute("lang", "ru")
        assert window.url.partition("#")[0] == f"{address}/ru/{page}"
        switch_language(window, "English")
        expect(window.locator("html")).to_have_attribute("lang", "en")
        assert window.url.partition("#")[0] == f"{address}/{page}"
    window.goto(f"{address}/reference.html")
    switch_language(window, "Русский")
    expect(window.locator("h2").first).to_contain_text("Быстрый старт")


@pytest.mark.parametrize("address", ["file"], indirect=True)
def test_every_page_fits_and_its_images_load(window: Page, address: str, site: Path) -> None:
    pages = [path.relative_to(site) for path in sorted(site.rglob("*.html"))]
    pages = [path for path in pages if path.parts[0] != "source" and path.name != "404.html"]
    assert len(pages) > 40
    wide, broken = list[str](), list[str]()
    for page in pages:
        window.goto(f"{address}/{page.as_posix()}", wait_until="load")
        if not window.evaluate("document.documentElement.scrollWidth <= innerWidth"):
            wide.append(str(page))
        broken += window.evaluate(
            "[...document.images].filter((image) => !image.naturalWidth).map((image) => image.src)"
        )
    assert (wide, broken) == ([], [])


def test_the_russian_menu_is_russian(window: Page, address: str) -> None:
    window.goto(f"{address}/ru/training.html")
    menu = window.locator(".md-nav--primary")
    for title in ("Начало", "Задачи", "Руководства", "Результаты", "Надёжность", "Справочник", "Своя сеть"):
        expect(menu.get_by_text(title, exact=True).first).to_be_attached()
    assert (
        menu.get_by_text("Python API (англ.)").first.evaluate("link => link.closest('a').href") == f"{address}/api.html"
    )


@pytest.mark.parametrize("name", FOLDED)
@pytest.mark.parametrize("address", ["file"], indirect=True)
def test_folded_text_opens_and_is_rendered(name: str, window: Page, address: str) -> None:
    window.goto(f"{address}/{name}.html")
    folded = window.locator("article details")
    assert folded.count() == (ROOT / "docs" / f"{name}.md").read_text().count("<details")
    for number in range(folded.count()):
        block = folded.nth(number)
        content = block.locator(":scope > :not(summary)").first
        expect(content).to_be_hidden()
        block.locator("summary").click()
        expect(content).to_be_visible()
        plain = (
            "block => { block.querySelectorAll('pre, code').forEach(code => code.remove()); return block.textContent }"
        )
        text = block.evaluate(plain)
        assert not re.search(r"\*\*|`|\]\(|^\s*[|#]|^\s*- ", text, re.MULTILINE), text


def test_a_source_file_is_a_page(window: Page, address: str) -> None:
    window.goto(f"{address}/tasks/mnist-cnn.html")
    window.get_by_role("link", name="the network", exact=True).click()
    expect(window.locator("h1")).to_contain_text("src/decathlon/models/cnn.py")
    expect(window.locator("pre code")).to_contain_text("nn.MaxPool2d(2)")
