"""What `make docs` builds from, without Zensical: every page is in the menu, and every link leads to a page.

And the Russian guides say the same as the English ones.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from conftest import ROOT


@pytest.fixture(scope="module")
def build_site() -> Iterator[ModuleType]:
    """tools/build_site.py."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import build_site

        yield build_site
    finally:
        sys.path.remove(str(ROOT / "tools"))


def listed(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    values = nav.values() if isinstance(nav, dict) else nav
    return [name for value in values for name in listed(value)]  # type: ignore[union-attr]


DOCS, RUSSIAN = ROOT / "docs", ROOT / "docs" / "ru"
ENGLISH = [path for path in sorted(DOCS.rglob("*.md")) if not path.is_relative_to(RUSSIAN)]
TRANSLATED = sorted(RUSSIAN.rglob("*.md"))
GUIDES = sorted(RUSSIAN.glob("*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_every_page_is_in_the_menu() -> None:
    names = listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    pages = {str(path.relative_to(DOCS)).replace("README", "index") for path in ENGLISH}
    others = {"index.md", "tasks/index.md", "SECURITY.md", "docstrings.md", "notebooks/decathlon.md"}
    assert len(names) == len(set(names))
    assert set(names) == pages | others


def test_the_russian_menu_has_the_same_pages(build_site: ModuleType, tmp_path: Path) -> None:
    nav = build_site.config()["nav"]
    english = listed(nav)
    for name in english:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# Title of {name}\n")
    russian = build_site.translations.russian_nav(nav, tmp_path)
    names = listed(russian)
    assert [name.removeprefix("../").replace(".html", ".md") for name in names] == english
    translated = {name for name in names if not name.startswith("../")}
    assert translated == {str(path.relative_to(RUSSIAN)) for path in TRANSLATED} | {"index.md", "tasks/index.md"}
    assert {"Title of api.md (англ.)": "../api.html"} in russian[2]["Руководства"]


@pytest.fixture(scope="module")
def written(build_site: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Markdown of both sites: in English, and in ru/ in Russian."""
    folder = tmp_path_factory.mktemp("pages")
    english = build_site.Pages(folder)
    english.write_all([ROOT / "README.md", *ENGLISH])
    russian = build_site.Pages(folder / "ru", russian=True)
    russian.write_all([ROOT / "README.ru.md", RUSSIAN / "tasks", *TRANSLATED])
    return folder


def test_every_link_leads_to_a_page(written: Path) -> None:
    pages = list(written.rglob("*.md"))
    assert len(pages) > 60
    for page in pages:
        if "source" in page.relative_to(written).parts and "~~~ " in page.read_text():
            continue  # a file's text
        for target in re.findall(r"\]\(([^)#\s]+)", BLOCK.sub("", page.read_text())):
            if "://" not in target:
                path = (page.parent / target).resolve()
                changes = path.is_relative_to(written / "ru") != page.is_relative_to(written / "ru")
                assert path.suffix == (".html" if changes else ".md") or path.suffix == ".png", f"{page}: {target}"
                assert path.with_suffix(path.suffix.replace("html", "md")).exists(), f"{page}: {target}"
    source = (written / "source/src/decathlon/models/cnn.py.md").read_text()
    assert (ROOT / "src/decathlon/models/cnn.py").read_text().strip() in source
    assert "exclude: true" in source, "search finds pages, not code"
    assert (written / "tasks/index.md").read_text().count("bar 9") >= 3
    assert (written / "ru/tasks/index.md").read_text().count("порог 9") >= 3


def test_every_anchor_is_a_heading(build_site: ModuleType, written: Path) -> None:
    """Zensical checks the anchors within a language, and none from one to the other."""
    ids: dict[Path, set[str]] = {}
    for page in written.rglob("*.md"):
        text, given = page.read_text(), r"\{ #([\w-]+) \}$"
        ids[page] = {*build_site.translations.heading_ids(text), *re.findall(given, text, re.MULTILINE)}
    for page in ids:
        for target, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", BLOCK.sub("", page.read_text())):
            path = (page.parent / target).resolve().with_suffix(".md") if target else page
            assert anchor in ids[path], f"{page.relative_to(written)}: {target}#{anchor}"


def test_anchors_are_the_same_in_both_languages(build_site: ModuleType, written: Path) -> None:
    ids = build_site.translations.heading_ids((ROOT / "docs/own-data.md").read_text())
    assert "images-with-a-class-cifar10-cnn-cifar10-skip" in ids
    text = (written / "ru/own-data.md").read_text()
    assert re.findall(r"^#+ .* \{ #(.+) \}$", text, re.MULTILINE) == ids
    assert "#your-own-boxes)" in text
    for anchor in ("splits", "выборки"):
        assert build_site.translations.russian_anchor(anchor, RUSSIAN / "own-data.md") == "splits"
    with pytest.raises(SystemExit, match=r"own-data\.md has no heading #no-such"):
        build_site.translations.russian_anchor("no-such", RUSSIAN / "own-data.md")
    assert build_site.translations.heading_ids("# Same\n\n## Same\n\n```\n# code\n```\n") == ["same", "same_1"]


def test_links_of_a_russian_page(build_site: ModuleType, tmp_path: Path) -> None:
    pages = build_site.Pages(tmp_path, russian=True)
    source = RUSSIAN / "own-network.md"
    for target, link in {
        "../own-data.md#splits": "own-data.md#splits",  # there is a Russian page
        "own-data.md#выборки": "own-data.md#splits",
        "#проверка": "own-network.md#grade",
        "../own-network.md": "../own-network.html",  # the same page in English
        "../api.md#guide": "../api.html#guide",  # not translated
        "export.md": "../export.html",
        "../../README.ru.md": "index.md",
        "../../README.md": "index.md",
        "../tasks": "tasks/index.md",
        "../pictures/demo-digits.png": "../pictures/demo-digits.png",
    }.items():
        assert pages.relink(f"[a]({target})", source, Path("own-network.md")) == f"[a]({link})", target


def test_the_language_switch_keeps_the_page(build_site: ModuleType, tmp_path: Path) -> None:
    switch = (
        '<link rel="alternate" href="x" hreflang="en"><link rel="alternate" href="x" hreflang="ru">'
        '<a href="x" hreflang="en"></a><a href="x" hreflang="ru"></a>'
    )
    for name in ("index", "api", "tasks/a", "ru/index", "ru/tasks/a"):
        page = tmp_path / f"{name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(switch)
    build_site.translations.link_languages(tmp_path)
    text = (tmp_path / "tasks/a.html").read_text()
    assert text.count('href="a.html" hreflang="en"') == text.count('href="../ru/tasks/a.html" hreflang="ru"') == 2
    assert (tmp_path / "ru/tasks/a.html").read_text().count('href="../../tasks/a.html" hreflang="en"') == 2
    text = (tmp_path / "api.html").read_text()
    assert text.count('href="ru/index.html" hreflang="ru"') == 1, "the Russian start, which is no version of the page"


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_the_russian_guides_say_the_same(page: Path) -> None:
    """As many headings, paragraphs and items, the same code and links, the same numbers in tables."""
    english, russian = (DOCS / page.name).read_text(), page.read_text()
    for mark in (r"^# ", r"^## ", r"^### ", r"^- ", r"\n\n"):
        counts = [len(re.findall(mark, text, re.MULTILINE)) for text in (english, russian)]
        assert counts[0] == counts[1], (mark, counts)
    assert code(english) == code(russian)
    assert table_numbers(english) == table_numbers(russian)
    assert link_targets(DOCS, english) == link_targets(RUSSIAN, russian)


def code(text: str) -> list[str]:
    """Every block of code, without the remarks behind commands and in parentheses in drawings of folders."""
    plain = [(r" +#.*$" if kind == "sh" else r" *\(.*?\) *", text) for kind, text in BLOCK.findall(text)]
    return [re.sub(remark, "", text, flags=re.MULTILINE) for remark, text in plain]


def table_numbers(text: str) -> list[tuple[list[str], list[str]]]:
    """The numbers and the code of each row of every table."""
    rows = re.findall(r"^\|.*\|$", BLOCK.sub("", text), re.MULTILINE)
    return [(re.findall(r"\d[\d.,×]*", row), re.findall(r"`[^`]+`", row)) for row in rows]


def link_targets(folder: Path, text: str) -> list[Path]:
    """Where each link leads; to a Russian page as if to the English one."""
    targets = [(folder / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)", BLOCK.sub("", text))]
    return [DOCS / path.relative_to(RUSSIAN) if path.is_relative_to(RUSSIAN) else path for path in targets]


def test_a_broken_link_is_named(build_site: ModuleType, tmp_path: Path) -> None:
    pages = build_site.Pages(tmp_path)
    for target in ("docs/no-such.md", "../outside.md"):
        with pytest.raises(SystemExit, match="does not exist"):
            pages.relink(f"a [link]({target})", ROOT / "README.md", Path("index.md"))
    code = "```md\n[link](docs/no-such.md)\n```"
    assert pages.relink(code, ROOT / "README.md", Path("index.md")) == code


def test_a_page_that_loads_from_another_host_is_refused(build_site: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "a" / "index.html"
    page.parent.mkdir()
    page.write_text(f'{build_site.FOREIGN_WORKER}<a href="https://example.com">a link may</a>')
    build_site.replace_worker(tmp_path)
    assert '<script src="../assets/site_worker.js"></script>' in page.read_text()
    for foreign in ('<script src="//x.org/a.js">', '<link href="https://x.org/a.css">', "<img src=http://x.org/a.png>"):
        page.write_text(foreign)
        with pytest.raises(SystemExit, match="another host"):
            build_site.replace_worker(tmp_path)


def test_docstrings_of_the_public_api_are_there(build_site: ModuleType) -> None:
    from decathlon import api

    text = build_site.docstrings.render()
    for name in api.__all__:
        assert f"\n### {name}\n" in text
    assert "#### Model.predict\n" in text
    assert "- `data_dir`: Folder of the official data" in text
    assert "Args:" not in text


def test_the_receptive_field_is_worked_out_right() -> None:
    """The sizes on the page of mnist-cnn are those of its network."""
    from torch import nn

    from decathlon.models.cnn import CNN

    network = CNN()
    sizes, size, stride = [], 1, 1
    for layer in (network.conv1, network.pool, network.conv2, network.pool, network.conv3):
        kernel, step = (
            (layer.kernel_size, layer.stride)
            if isinstance(layer, nn.MaxPool2d)
            else (layer.kernel_size[0], layer.stride[0])
        )
        size += (int(kernel) - 1) * stride
        stride *= int(step)
        sizes.append(size)
    assert (sizes, stride) == ([5, 6, 10, 12, 20], 4)
    text = " ".join((ROOT / "docs/tasks/mnist-cnn.md").read_text().split())
    for number in ("5 pixels", "= 6 after", "= 10,", "= 12,", "= 20 after", "20 + 2·4 = 28"):
        assert number in text
