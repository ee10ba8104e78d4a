"""The Russian pages of the site: which there are, their menu, their anchors, and the links between the languages."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from markdown_text import github_ids, heading_ids, headings, set_heading_ids

ROOT = Path(__file__).resolve().parent.parent
DOCS, RUSSIAN = ROOT / "docs", ROOT / "docs" / "ru"
START = {ROOT / "README.md": ROOT / "README.ru.md", DOCS: ROOT / "README.ru.md", DOCS / "tasks": RUSSIAN / "tasks"}
SECTIONS = {
    "Start": "Начало",
    "Tasks": "Задачи",
    "Guides": "Руководства",
    "Results": "Результаты",
    "Reliability": "Надёжность",
    "Reference": "Справочник",
}


def is_russian(path: Path) -> bool:
    """Whether a file or folder of the repository is part of the Russian site."""
    return path == ROOT / "README.ru.md" or path.is_relative_to(RUSSIAN)


def russian_version(path: Path) -> Path | None:
    """The Russian version of an English file or folder, if there is one."""
    if path in START:
        return START[path]
    if path.suffix != ".md" or is_russian(path) or not path.is_relative_to(DOCS):
        return None
    translated = RUSSIAN / path.relative_to(DOCS)
    return translated if translated.exists() else None


def english_version(path: Path) -> Path:
    """The English version of a Russian file or folder."""
    return ROOT / "README.md" if path == ROOT / "README.ru.md" else DOCS / path.relative_to(RUSSIAN)


def with_english_ids(text: str, english: str) -> str:
    """A Russian page whose headings have the ids of the English page, so that anchors are the same in both."""
    ids = heading_ids(english)
    return set_heading_ids(text, ids) if len(headings(text)) == len(ids) else text


def russian_anchor(anchor: str, path: Path) -> str:
    """The site's id of a heading of a Russian page that is given as on GitHub, or as in English.

    Nothing while the page has other headings than the English one. Raises SystemExit if there is no such heading.
    """
    text, ids = path.read_text(), heading_ids(english_version(path).read_text())
    if len(headings(text)) != len(ids):
        return ""
    known = dict(zip(github_ids(text), ids, strict=True)) | {name: name for name in ids}
    if anchor not in known:
        raise SystemExit(f"{path.relative_to(ROOT)} has no heading #{anchor}, to which a page links")
    return known[anchor]


def russian_nav(nav: Any, english_pages: Path) -> Any:
    """The menu in Russian; what is not translated leads to the English page.

    Args:
        nav: The menu in English, or a part of it.
        english_pages: Folder of Markdown of the English site, for the titles.
    """
    if isinstance(nav, list):
        return [russian_nav(entry, english_pages) for entry in nav]
    if isinstance(nav, dict):
        return {SECTIONS[title]: russian_nav(entry, english_pages) for title, entry in nav.items()}
    if nav in ("index.md", "tasks/index.md") or (RUSSIAN / nav).exists():
        return nav
    title = headings((english_pages / nav).read_text())[0]
    return {f"{title} (англ.)": english_link(nav)}


def english_link(page: str) -> str:
    """A link from the Russian menu to an English page, as seen from the Russian start page."""
    return f"../{page.removesuffix('.md')}.html"


def link_languages(site: Path) -> None:
    """Let the language switch of every page lead to the same page in the other language, or to its start page."""
    for page in site.rglob("*.html"):
        name = page.relative_to(site)
        name = name.relative_to("ru") if name.parts[0] == "ru" else name
        text = page.read_text()
        for language, folder in (("en", site), ("ru", site / "ru")):
            target = folder / name
            if not target.exists() or name.name == "404.html":
                target = folder / "index.html"
                text = re.sub(rf'<link rel="alternate" href="[^"]*" hreflang="{language}">', "", text)
            href = os.path.relpath(target, page.parent).replace(os.sep, "/")
            text = re.sub(rf'href="[^"]*" hreflang="{language}"', f'href="{href}" hreflang="{language}"', text)
        page.write_text(text)
