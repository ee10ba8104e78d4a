"""Build the site: docs, both READMEs, and the files of the repository that they link to, as static pages.

    python tools/build_site.py [FOLDER]        # default: site

Zensical reads one folder of Markdown. This makes it, in a temporary folder: docs/ as it is, README.md as the start
page, and a page for every other file or folder that a page links to, with its text; links are rewritten to match.
README.ru.md is a second, small site in ru/, so that its language, menu and search are Russian. Nothing is loaded from
other hosts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docstrings
import yaml

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
FENCED = re.compile(r"(^(`{3,}|~{3,}).*?^\2$)", re.DOTALL | re.MULTILINE)
LANGUAGES = {".py": "python", ".json": "json", ".toml": "toml", ".yml": "yaml", ".md": "markdown", ".sh": "sh"}
RUSSIAN_NAV = (
    *(("Начало", "index.md"), ("Задачи", "../tasks/index.html"), ("Обучение", "../training.html")),
    *(("Свои данные", "../own-data.html"), ("Своя сеть", "../own-network.html"), ("Справочник", "../reference.html")),
)
FOREIGN_WORKER = '<script src="https://unpkg.com/iframe-worker/shim" type="text/javascript"></script>'
WORKER = Path(__file__).with_name("site_worker.js")
PICTURES = ("boxes", "overlays", "reconstructions", "attention", "embeddings", "mistakes", "curves")  # the best first


def page_of(path: Path) -> Path:
    """The page, relative to the site's folder of Markdown, of a file or folder of the repository."""
    relative = path.relative_to(ROOT)
    if relative in (Path("README.md"), Path("docs")):
        return Path("index.md")
    if relative.parts[0] == "docs":
        relative = Path(*relative.parts[1:])
    elif relative.suffix not in (".md", ".ipynb"):
        relative = Path("source") / relative
    if path.is_dir() or relative.name == "README.md":
        return (relative if path.is_dir() else relative.parent) / "index.md"
    if relative.suffix in (".md", ".png"):
        return relative
    return relative.with_suffix(".md") if relative.suffix == ".ipynb" else relative.with_name(relative.name + ".md")


class Pages:
    """The Markdown of the site, and what is still to be written because a page links to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.todo: list[Path] = []
        self.done: set[Path] = set()

    def link(self, path: Path, page: Path) -> str:
        """The link from a page to the page of a file or folder, which will be written."""
        self.todo.append(path)
        return os.path.relpath(page_of(path), page.parent).replace(os.sep, "/")

    def relink(self, text: str, source: Path, page: Path) -> str:
        """A Markdown text of the repository with its links pointing to pages."""

        def replace(match: re.Match[str]) -> str:
            target, _, anchor = match[2].partition("#")
            if not target or "://" in target or target.startswith("mailto:"):
                return match[0]
            path = (source.parent / target).resolve()
            if path == ROOT / "README.ru.md":
                return f"{match[1]}{os.path.relpath('ru/index.html', page.parent)}{match[3]}"
            if not path.is_relative_to(ROOT) or not path.exists():
                raise SystemExit(f"{source.relative_to(ROOT)} links to {target}, which does not exist")
            return f"{match[1]}{self.link(path, page)}{'#' * bool(anchor)}{anchor}{match[3]}"

        return outside_code(text, lambda part: LINK.sub(replace, part))

    def write_all(self, start: list[Path]) -> None:
        """Write the pages of these files, and of all that they link to."""
        self.todo += start
        while self.todo:
            path = self.todo.pop()
            page = page_of(path)
            if page in self.done:
                continue
            self.done.add(page)
            target = self.folder / page
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".png":
                shutil.copyfile(path, target)
            elif path.suffix == ".md":
                target.write_text(self.relink(path.read_text(), path, page))
            elif path == ROOT / "docs":
                self.todo.append(ROOT / "README.md")
                self.done.discard(page)
            else:
                target.write_text(self.render(path, page))

    def render(self, path: Path, page: Path) -> str:
        """The page of a file that is no Markdown, or of a folder."""
        if path == ROOT / "docs" / "tasks":
            return self.render_tasks(page)
        if path.suffix == ".ipynb":
            return self.relink(notebook(path), path, page)
        hidden = "---\nsearch:\n  exclude: true\n---\n\n"
        title = f"{hidden}# {path.relative_to(ROOT)}\n\n"
        if path.is_dir():
            children = sorted(child for child in path.iterdir() if not child.name.startswith((".", "__")))
            return title + "".join(f"- [{child.name}]({self.link(child, page)})\n" for child in children)
        language = LANGUAGES.get(path.suffix, "text")
        fence = "~" * max(3, *(len(run) + 1 for run in re.findall(r"~+", path.read_text())), 3)
        return f'{title}{fence} {{ .{language} linenums="1" }}\n{path.read_text().rstrip()}\n{fence}\n'

    def render_tasks(self, page: Path) -> str:
        """A card per task: its most telling plot, its title, and its committed results."""
        cards = ["---\nhide: [toc]\n---\n\n# Tasks\n\n" + '<div class="grid cards" markdown>\n']
        for path in task_pages():
            picture = next(
                file for name in PICTURES if (file := path.parent / f"pictures/{path.stem}-{name}.png").exists()
            )
            title = path.read_text().splitlines()[0].removeprefix("# ")
            cards.append(
                f"-   [![{path.stem}]({self.link(picture, page)})]({self.link(path, page)})\n\n"
                f"    **[{path.stem}]({self.link(path, page)})**{title.removeprefix(path.stem)}\n\n"
                f"    {describe_results(path.stem)}\n"
            )
        return "\n".join([*cards, "</div>\n"])


def task_pages() -> list[Path]:
    """The tasks' pages, in the order of the menu."""
    (tasks,) = [entry["Tasks"] for entry in config()["nav"] if "Tasks" in entry]
    return [ROOT / "docs" / name for name in tasks if name != "tasks/index.md"]


def describe_results(task: str) -> str:
    """The mean over the seeds of the first results of a task."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((ROOT / "results" / task).glob("*.json")):
        summary = json.loads(path.read_text())
        groups.setdefault(json.dumps([summary["data"], summary["overrides"]], sort_keys=True), []).append(summary)
    runs = max(groups.values(), key=len)
    value = sum(run["value"] for run in runs) / len(runs)
    bar = "no bar" if runs[0]["bar"] is None else f"bar {100 * runs[0]['bar']:g} %"
    return f"{runs[0]['metric']} {100 * value:.2f} %, {bar} ({runs[0]['data']}, n = {len(runs)})"


def notebook(path: Path) -> str:
    """A notebook's text and code as Markdown."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """The text with everything outside fenced code changed."""
    parts, end = [], 0
    for match in FENCED.finditer(text):
        parts += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, change(text[end:])])


def config() -> dict[str, Any]:
    """mkdocs.yml."""
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def build(work: Path, settings: dict[str, Any]) -> Path:
    """Let Zensical build the Markdown in `work`/pages."""
    (work / "mkdocs.yml").write_text(yaml.safe_dump(settings | {"docs_dir": "pages", "site_dir": "site"}))
    subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=work, check=True)
    return work / "site"


def build_english(work: Path, out: Path) -> None:
    """The site, but for ru/."""
    pages = Pages(work / "pages")
    pages.write_all([ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])
    (work / "pages" / "docstrings.md").write_text(docstrings.render())
    shutil.copytree(build(work, config()), out)


def build_russian(work: Path, out: Path) -> None:
    """The Russian start page; its links lead to the English pages."""
    pages, page = Pages(work), Path("ru/index.md")
    (work / "pages").mkdir()
    text = pages.relink((ROOT / "README.ru.md").read_text(), ROOT / "README.ru.md", page)
    text = outside_code(text, lambda part: re.sub(r"(\]\((?!\w+:)[^)\s#]+)\.md(#[^)]*)?\)", r"\1.html\2)", part))
    (work / "pages" / "index.md").write_text(text)
    settings = config()
    settings["theme"]["language"] = "ru"
    for mode, name in zip(settings["theme"]["palette"], ("Тёмная тема", "Светлая тема"), strict=True):
        mode["toggle"]["name"] = name
    settings["extra"]["alternate"] = [
        entry | {"link": "../index.html" if entry["lang"] == "en" else "index.html"}
        for entry in settings["extra"]["alternate"]
    ]
    settings["nav"] = [{title: target} for title, target in RUSSIAN_NAV]
    shutil.copytree(build(work, settings), out)


def replace_worker(site: Path) -> None:
    """Let every page load our worker instead of another host's. Raises SystemExit if a page still loads from one."""
    (site / "assets").mkdir(exist_ok=True)
    shutil.copyfile(WORKER, site / "assets" / WORKER.name)
    for page in site.rglob("*.html"):
        own = os.path.relpath(site / "assets" / WORKER.name, page.parent).replace(os.sep, "/")
        text = page.read_text().replace(FOREIGN_WORKER, f'<script src="{own}"></script>')
        if foreign := re.search(
            r"""<(?:script|img|iframe)[^>]*src="?(?:https?:)?//[^ >]+|<link[^>]*href="?https?:[^ >]+""", text
        ):
            raise SystemExit(f"{page.relative_to(site)} would load from another host: {foreign[0]}")
        page.write_text(text)


def main(out: Path) -> None:
    """Build both, and put them in the place of an older site only when all is done."""
    with tempfile.TemporaryDirectory() as work:
        new = Path(work, "new")
        for name, make, part in (("en", build_english, new), ("ru", build_russian, new / "ru")):
            Path(work, name).mkdir()
            make(Path(work, name), part)
        replace_worker(new)
        if out.exists():
            shutil.rmtree(out)
        shutil.move(new, out)
    print(f"Open {out.resolve() / 'index.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "site"))
