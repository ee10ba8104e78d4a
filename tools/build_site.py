"""Build the site: docs, both READMEs, and the files of the repository that they link to, as static pages.

    python tools/build_site.py [FOLDER]        # default: site

Zensical reads one folder of Markdown. This makes it, in a temporary folder: docs/ as it is, README.md as the start
page, and a page for every other file or folder that a page links to, with its text; links are rewritten to match.
docs/ru/ and README.ru.md are a second site in ru/, with the same paths, so that its language, menu and search are
Russian; what is not translated leads to the English page. Nothing is loaded from other hosts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import docstrings
import translations
import yaml
from markdown_text import headings, outside_code

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
LANGUAGES = {".py": "python", ".json": "json", ".toml": "toml", ".yml": "yaml", ".md": "markdown", ".sh": "sh"}
FOREIGN_WORKER = '<script src="https://unpkg.com/iframe-worker/shim" type="text/javascript"></script>'
WORKER = Path(__file__).with_name("site_worker.js")
PICTURES = ("boxes", "overlays", "reconstructions", "attention", "embeddings", "mistakes", "curves")  # the best first


def page_of(path: Path) -> Path:
    """The page, relative to its language's folder of Markdown, of a file or folder of the repository."""
    if translations.is_russian(path):
        path = translations.english_version(path)
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
    """The Markdown of the site in one language, and what is still to be written because a page links to it."""

    def __init__(self, folder: Path, russian: bool = False) -> None:
        self.folder = folder
        self.russian = russian
        self.todo: list[Path] = []
        self.done: set[Path] = set()

    def link(self, path: Path, page: Path, anchor: str = "") -> str:
        """The link from a page to the page of a file or folder, which will be written if it is in this language."""
        target = page_of(path)
        if translations.is_russian(path) == self.russian:
            self.todo.append(path)
        else:  # the other language is another site, in ru/ or around it
            target = Path(
                ".." if self.russian else "ru", target.with_suffix(".html") if target.suffix == ".md" else target
            )
        if anchor and translations.is_russian(path):
            anchor = translations.russian_anchor(anchor, path)
        return os.path.relpath(target, page.parent).replace(os.sep, "/") + "#" * bool(anchor) + anchor

    def relink(self, text: str, source: Path, page: Path) -> str:
        """A Markdown text of the repository with its links pointing to pages, if possible of the same language."""

        def replace(match: re.Match[str]) -> str:
            target, _, anchor = match[2].partition("#")
            if "://" in target or target.startswith("mailto:") or not (target or self.russian):
                return match[0]
            path = (source.parent / target).resolve() if target else source
            if not path.exists() and translations.is_russian(path):
                path, anchor = translations.english_version(path), ""  # not translated yet
            if not path.is_relative_to(ROOT) or not path.exists():
                raise SystemExit(f"{source.relative_to(ROOT)} links to {target}, which does not exist")
            if self.russian and (version := translations.russian_version(path)) not in (None, source):
                path = version
            return f"{match[1]}{self.link(path, page, anchor)}{match[3]}"

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
                target.write_text(self.markdown(path, page))
            elif path == ROOT / "docs":
                self.todo.append(ROOT / "README.md")
                self.done.discard(page)
            else:
                target.write_text(self.render(path, page))

    def markdown(self, path: Path, page: Path) -> str:
        """The page of a Markdown file. Markdown within <details> is rendered, too."""
        text = self.relink(path.read_text(), path, page)
        if self.russian:
            text = translations.with_english_ids(text, translations.english_version(path).read_text())
        return outside_code(text, lambda part: part.replace("<details>", '<details markdown="1">'))

    def render(self, path: Path, page: Path) -> str:
        """The page of a file that is no Markdown, or of a folder."""
        if path in (ROOT / "docs" / "tasks", translations.RUSSIAN / "tasks"):
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
        heading = "Задачи" if self.russian else "Tasks"
        cards = [f"---\nhide: [toc]\n---\n\n# {heading}\n\n" + '<div class="grid cards" markdown>\n']
        for path in task_pages():
            picture = next(
                file for name in PICTURES if (file := path.parent / f"pictures/{path.stem}-{name}.png").exists()
            )
            lesson = (translations.russian_version(path) if self.russian else None) or path
            title = headings(lesson.read_text())[0]
            cards.append(
                f"-   [![{path.stem}]({self.link(picture, page)})]({self.link(lesson, page)})\n\n"
                f"    **[{path.stem}]({self.link(lesson, page)})**{title.removeprefix(path.stem)}\n\n"
                f"    {describe_results(path.stem, self.russian)}\n"
            )
        return "\n".join([*cards, "</div>\n"])


def task_pages() -> list[Path]:
    """The tasks' pages, in the order of the menu."""
    (tasks,) = [entry["Tasks"] for entry in config()["nav"] if "Tasks" in entry]
    return [ROOT / "docs" / name for name in tasks if name != "tasks/index.md"]


def describe_results(task: str, russian: bool = False) -> str:
    """The mean over the seeds of the first results of a task."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((ROOT / "results" / task).glob("*.json")):
        summary = json.loads(path.read_text())
        key = [summary["data"], summary.get("recipe") or "fast", summary["overrides"]]
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(summary)
    runs = max(groups.values(), key=len)
    value = sum(run["value"] for run in runs) / len(runs)
    none, word = ("порога нет", "порог") if russian else ("no bar", "bar")
    bar = none if runs[0]["bar"] is None else f"{word} {100 * runs[0]['bar']:g} %"
    return f"{runs[0]['metric']} {100 * value:.2f} %, {bar} ({runs[0]['data']}, n = {len(runs)})"


def notebook(path: Path) -> str:
    """A notebook's text and code as Markdown."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(parts) + "\n"


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
    docs = (path for path in sorted((ROOT / "docs").rglob("*.md")) if not translations.is_russian(path))
    pages.write_all([ROOT / "README.md", *docs])
    (work / "pages" / "docstrings.md").write_text(docstrings.render())
    shutil.copytree(build(work, config()), out)


def build_russian(work: Path, out: Path) -> None:
    """The site in ru/; `work` is beside that of the English site."""
    pages = Pages(work / "pages", russian=True)
    pages.write_all(
        [ROOT / "README.ru.md", translations.RUSSIAN / "tasks", *sorted(translations.RUSSIAN.rglob("*.md"))]
    )
    settings = config()
    settings["site_description"] = (
        "Десять классических задач глубокого обучения на PyTorch: один файл и одна команда на задачу."
    )
    settings["theme"]["language"] = "ru"
    for mode, name in zip(settings["theme"]["palette"], ("Тёмная тема", "Светлая тема"), strict=True):
        mode["toggle"]["name"] = name
    settings["nav"] = translations.russian_nav(settings["nav"], work.parent / "en" / "pages")
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
    if out.exists() and not (out / "index.html").is_file() and any(out.iterdir()):
        raise SystemExit(f"{out} is no site: name another folder, for this one would be replaced")
    with tempfile.TemporaryDirectory() as work:
        new = Path(work, "new")
        for name, make, part in (("en", build_english, new), ("ru", build_russian, new / "ru")):
            Path(work, name).mkdir()
            make(Path(work, name), part)
        replace_worker(new)
        translations.link_languages(new)
        if out.exists():
            shutil.rmtree(out)
        shutil.move(new, out)
    print(f"Open {out.resolve() / 'index.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "site"))
