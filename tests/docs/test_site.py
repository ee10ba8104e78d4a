"""What `make docs` builds from, without Zensical: every page is in the menu, and every link leads to a page."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from conftest import ROOT


@pytest.fixture
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


def test_every_page_is_in_the_menu() -> None:
    names = listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    pages = {str(path.relative_to(ROOT / "docs")).replace("README", "index") for path in ROOT.glob("docs/**/*.md")}
    others = {"index.md", "tasks/index.md", "SECURITY.md", "docstrings.md", "notebooks/decathlon.md"}
    assert len(names) == len(set(names))
    assert set(names) == pages | others


def test_every_link_leads_to_a_page(build_site: ModuleType, tmp_path: Path) -> None:
    pages = build_site.Pages(tmp_path / "pages")
    pages.write_all([ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])
    written = list((tmp_path / "pages").rglob("*.md"))
    assert len(written) > 60
    for page in written:
        if "source" in page.relative_to(tmp_path).parts and "~~~ " in page.read_text():
            continue  # a file's text
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in target and not target.endswith("ru/index.html"):
                assert (page.parent / target).exists(), f"{page}: {target}"
    source = (tmp_path / "pages/source/src/decathlon/models/cnn.py.md").read_text()
    assert (ROOT / "src/decathlon/models/cnn.py").read_text().strip() in source
    assert "exclude: true" in source, "search finds pages, not code"
    assert (tmp_path / "pages/tasks/index.md").read_text().count("bar 9") >= 3


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
